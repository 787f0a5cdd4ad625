//! kronod itself with shards whose state is on several cores, on captures: what leaves it is what leaves
//! one core, whether it numbers the packets or they come sequenced; and cores come and go under load.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etherparse::PacketBuilder;
use krono_tests::capture::file::{self, Writer};
use krono_tests::daemon::{Kronod, ShardStats, program};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const INSIDE: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 0xfe]];
const OUTSIDE: [[u8; 6]; 2] = [[2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 1, 0xfe]];
const PATIENCE: Duration = Duration::from_secs(60);

/// Fewer than there are buffers: whoever reads a capture is faster than lcores that share CPUs.
const PACKETS: u32 = 8_000;

/// Packets from a few sources outside, some of whom send most, a packet every 2 µs.
fn write_capture(path: &Path, packets: u32, random: &mut impl Rng) -> Result<()> {
    let mut capture = Writer::create(path)?;
    for number in 0..packets {
        let source = match random.random_range(0..4) {
            0 => [198, 19, 0, 7],
            _ => [198, 18, random.random_range(0..2), random.random()],
        };
        let ip = PacketBuilder::ethernet2(OUTSIDE[1], OUTSIDE[0]);
        let ip = ip.ipv4(source, [100, 64, 0, random.random()], 64);
        let (sport, dport) =
            (random.random_range(1024..1030), [22, 100, 101, 102][random.random_range(0..4)]);
        let payload = [&[0; 16][..], &number.to_be_bytes()].concat();
        let mut frame = Vec::new();
        if number % 3 == 0 {
            let tcp = ip.tcp(sport, dport, number, 1000);
            let tcp = if random.random_ratio(1, 3) { tcp.syn() } else { tcp.ack(number) };
            tcp.write(&mut frame, &payload)?;
        } else {
            ip.udp(sport, dport).write(&mut frame, &payload)?;
        }
        capture.write(1_600_000_000_000_000 + 2 * u64::from(number), &frame)?;
    }
    capture.finish()
}

/// A configuration in `dir` whose shard has these devices and this `scr`.
fn config(dir: &Path, lcore: &str, devices: [&str; 2], scr: &str, clock: &str) -> String {
    let [inside, outside] = devices;
    let mac = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
    format!(
        "eal: {{ memory: 128M, hugepages: off, idle: yield }}
ports: [ {{ name: access, device: \"{inside}\" }}, {{ name: core, device: \"{outside}\" }} ]
shards:
  - id: 0
{lcore}    inside:
      port: access
      mac: \"{}\"
      address: 10.0.0.1/24
      routes: [ {{ prefix: 100.64.0.0/10, via: 10.0.0.254 }} ]
      neighbours: [ {{ address: 10.0.0.254, mac: \"{}\" }} ]
    outside:
      port: core
      mac: \"{}\"
      address: 192.0.2.1/24
      routes: [ {{ prefix: 0.0.0.0/0, via: 192.0.2.254 }} ]
      neighbours: [ {{ address: 192.0.2.254, mac: \"{}\" }} ]
    scr: {scr}
clock: {clock}
control: {{ socket: \"{}\" }}
metrics: {{ listen: \"127.0.0.1:0\" }}
",
        mac(INSIDE[0]),
        mac(INSIDE[1]),
        mac(OUTSIDE[0]),
        mac(OUTSIDE[1]),
        dir.join("kronod.sock").display(),
    )
}

/// `name,key=dir/file-0.pcap,key=…`, one for each core.
fn files(dir: &Path, key: &str, name: &str, cores: usize) -> String {
    let file = |core| format!(",{key}={}", dir.join(format!("{name}-{core}.pcap")).display());
    (0..cores).map(file).collect()
}

/// Runs kronod until its captures are used up: what left it for the inside, in no order.
fn run(dir: &Path, text: &str, cores: usize) -> Result<Vec<Vec<u8>>> {
    let options = ["--seed", "1", "--exit-when-idle", "1s"];
    let kronod = Kronod::replaying(dir, text, dir.join("kronod.sock"), &options)?;
    let (code, parts) = kronod.last_words(PATIENCE)?;
    ensure!(code == 0, "exit code {code}");
    let mut total = 0;
    for ShardStats { received, sent, consumed, held, drops, .. } in parts {
        total += received;
        let dropped: u64 = drops.iter().map(|(_, count)| count).sum();
        ensure!(received == sent + consumed + held + dropped, "{drops:?}");
        let lost = drops.iter().find(|(reason, _)| reason.starts_with("scr_"));
        ensure!(lost.is_none(), "{lost:?}");
    }
    // By the sequencer, if it is ours, and by the cores.
    ensure!(total % u64::from(PACKETS) == 0 && total > 0, "{total} packets received");
    let mut frames = Vec::new();
    for core in 0..cores {
        let file = file::read(&dir.join(format!("to-inside-{core}.pcap")))?;
        frames.extend(file.into_iter().map(|frame| frame.bytes));
    }
    frames.sort_unstable();
    Ok(frames)
}

fn empty_capture(path: &Path) -> Result<()> {
    Writer::create(path)?.finish()
}

/// What leaves kronod with so many cores, of its own numbering.
fn spray(dir: &Path, settings: &str, cores: usize) -> Result<Vec<Vec<u8>>> {
    let inside = format!(
        "net_pcap0,rx_pcap={}{}",
        dir.join("inside.pcap").display(),
        files(dir, "tx_pcap", "to-inside", cores)
    );
    let outside = format!(
        "net_pcap1,rx_pcap={}{}",
        dir.join("outside.pcap").display(),
        files(dir, "tx_pcap", "to-outside", cores)
    );
    let workers: Vec<_> = (1..=cores).map(|lcore| lcore.to_string()).collect();
    let scr = format!(
        "{{ {settings}, workers: [ {} ], sequencer: {{ ring: 8K }} }}",
        workers.join(", ")
    );
    run(dir, &config(dir, "    lcore: 0\n", [&inside, &outside], &scr, "capture"), cores)
}

/// What leaves kronod if `scr-pcap` numbers the packets.
fn sequenced(
    dir: &Path,
    settings: &str,
    name: &str,
    order: &str,
    moments: bool,
) -> Result<Vec<Vec<u8>>> {
    const CORES: usize = 3;
    let mut tool = Command::new(program("scr-pcap")?);
    let (input, output) = (dir.join("outside.pcap"), dir.join("sequenced.pcap"));
    let moment = if moments { "--moment" } else { "--no-moment" };
    tool.args(["sequence", "--program", name, "--cores", "3", "--variant", order, moment]);
    let status = tool.arg("--per-core").arg(&input).arg(&output).output()?;
    ensure!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    let inside = format!(
        "net_pcap0,rx_pcap={}{}",
        dir.join("inside.pcap").display(),
        files(dir, "tx_pcap", "to-inside", CORES)
    );
    let (rx, tx) =
        (files(dir, "rx_pcap", "sequenced", CORES), files(dir, "tx_pcap", "to-outside", CORES));
    let scr = format!(
        "{{ {settings}, workers: [ 0, 1, 2 ], in_band: {{ order: {order}, moments: {moments} }} }}"
    );
    let outside = format!("net_pcap1{rx}{tx}");
    run(dir, &config(dir, "", [&inside, &outside], &scr, "tsc"), CORES)
}

fn as_on_one_core(
    name: &str,
    settings: &str,
    in_band: Option<(&str, bool)>,
    passes: std::ops::Range<usize>,
) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let dir = dir.path();
    let mut random = ChaCha8Rng::seed_from_u64(7);
    write_capture(&dir.join("outside.pcap"), PACKETS, &mut random)?;
    empty_capture(&dir.join("inside.pcap"))?;
    let one = spray(dir, settings, 1)?;
    ensure!(passes.contains(&one.len()), "{} packets pass", one.len());
    for cores in [2, 5] {
        let many = spray(dir, settings, cores)?;
        ensure!(many == one, "{cores} cores: {} packets pass, not {}", many.len(), one.len());
    }
    if let Some((order, moments)) = in_band {
        let many = sequenced(dir, settings, name, order, moments)?;
        ensure!(many == one, "in-band: {} packets pass, not {}", many.len(), one.len());
    }
    Ok(())
}

#[test]
fn a_mitigator_on_many_cores_passes_what_one_core_does() -> Result<()> {
    let settings = "program: ddos, ddos: { sources: 1K, one_in: 10, window: 1K }";
    as_on_one_core("ddos", settings, Some(("shift", false)), 3_000..7_500)
}

#[test]
fn a_door_on_many_cores_opens_as_on_one() -> Result<()> {
    let settings = "program: knock, knock: { sequence: [ 100, 102 ], protected: [ 22 ] }";
    as_on_one_core("knock", settings, Some(("ring", false)), 5_000..7_990)
}

#[test]
fn a_policer_on_many_cores_passes_what_one_core_does() -> Result<()> {
    let settings = "program: bucket, bucket: { flows: 64K, rate: 100, burst: 1 }";
    as_on_one_core("bucket", settings, Some(("ring", true)), 2_000..7_990)
}

#[test]
fn a_tracker_on_many_cores_passes_what_one_core_does() -> Result<()> {
    let settings = "program: conntrack, conntrack: { connections: 64K }";
    as_on_one_core("conntrack", settings, Some(("shift", true)), 5_000..7_990)
}

#[test]
fn cores_come_and_go_under_load() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let dir = dir.path();
    write_capture(&dir.join("outside.pcap"), 2_000, &mut ChaCha8Rng::seed_from_u64(8))?;
    let outside = format!(
        "net_pcap0,rx_pcap={},infinite_rx=1{}",
        dir.join("outside.pcap").display(),
        ",tx_pcap=/dev/null".repeat(3)
    );
    let scr = "{ program: heavy, heavy: { threshold: 10K }, workers: [ 1, 2, 3 ], active: 1 }";
    let text = config(dir, "    lcore: 0\n", ["net_null0,no-rx=1", &outside], scr, "tsc");
    let mut kronod = Kronod::replaying(dir, &text, dir.join("kronod.sock"), &[])?;
    kronod.wait_until_ready()?;
    for (change, active) in [
        ("--join 2", [true, false, true]),
        ("--join 1", [true, true, true]),
        ("--leave 0", [false, true, true]),
        ("--leave 2", [false, true, false]),
        ("--join 0", [true, true, false]),
    ] {
        kronod.ask(&format!("group {change}"))?;
        wait_for_cores(&kronod, active).with_context(|| change.to_owned())?;
    }
    let group = kronod.ask("group")?;
    let heaviest = group["rows"][0]["heavy"]["bytes"].as_u64();
    ensure!(heaviest >= Some(10_000), "{group}");
    let refused = kronod.ask("group --join 7").expect_err("there is no core 7").to_string();
    ensure!(refused.contains("no such core"), "{refused}");
    for part in kronod.stats()? {
        let late = part.drops.iter().find(|(reason, _)| reason == "scr_late");
        ensure!(late.is_none(), "{late:?}");
    }
    ensure!(kronod.stop()? == 0);
    Ok(())
}

/// Waits until these cores, and no others, get packets and do something about them.
fn wait_for_cores(kronod: &Kronod, active: [bool; 3]) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut before: Option<Vec<ShardStats>> = None;
    loop {
        let group = kronod.ask("group")?;
        let now: Vec<_> = (0..3).map(|core| group["cores"][core]["active"] == true).collect();
        let stats = kronod.stats()?;
        // The sequencer is the first part.
        let works = |before: &Vec<ShardStats>| {
            (0..3).all(|core| !active[core] || stats[1 + core].sent > before[1 + core].sent)
        };
        if now == active && before.as_ref().is_some_and(works) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{group}\n{}", kronod.log());
        before = Some(stats);
        sleep(Duration::from_millis(50));
    }
}
