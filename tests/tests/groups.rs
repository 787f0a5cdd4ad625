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

/// The side where packets arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Inside,
    Outside,
}

/// Packets from a few sources, some of whom send most, a packet every 2 µs.
fn write_capture(path: &Path, from: From, packets: u32, random: &mut impl Rng) -> Result<()> {
    let mut capture = Writer::create(path)?;
    for number in 0..packets {
        let sender = match random.random_range(0..4) {
            0 => [198, 19, 0, 7],
            _ => [198, 18, random.random_range(0..2), random.random()],
        };
        let other = [100, 64, 0, random.random_range(1..255)];
        let ip = match from {
            From::Outside => {
                PacketBuilder::ethernet2(OUTSIDE[1], OUTSIDE[0]).ipv4(sender, other, 64)
            }
            From::Inside => PacketBuilder::ethernet2(INSIDE[1], INSIDE[0]).ipv4(other, sender, 64),
        };
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
    {scr}
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

/// What a run of kronod came to.
struct Ran {
    /// What left it, in no order.
    sent: Vec<Vec<u8>>,
    /// What was dropped because of what was in front of it.
    header_bad: u64,
}

/// Runs kronod until its captures are used up, `out` being where packets leave.
fn run(dir: &Path, text: &str, out: &str, cores: usize) -> Result<Ran> {
    let options = ["--seed", "1", "--exit-when-idle", "1s"];
    let kronod = Kronod::replaying(dir, text, dir.join("kronod.sock"), &options)?;
    let (code, parts) = kronod.last_words(PATIENCE)?;
    ensure!(code == 0, "exit code {code}");
    let (mut total, mut header_bad) = (0, 0);
    for ShardStats { received, sent, consumed, held, drops, .. } in parts {
        total += received;
        let dropped: u64 = drops.iter().map(|(_, count)| count).sum();
        ensure!(received == sent + consumed + held + dropped, "{drops:?}");
        for (reason, count) in drops.iter().filter(|(reason, _)| reason.starts_with("scr_")) {
            ensure!(reason == "scr_header_bad", "{reason}: {count}");
            header_bad += count;
        }
    }
    // By the sequencer, if it is ours, and by the cores.
    ensure!(total % u64::from(PACKETS) == 0 && total > 0, "{total} packets received");
    let mut sent = Vec::new();
    for core in 0..cores {
        let file = file::read(&dir.join(format!("{out}-{core}.pcap")))?;
        sent.extend(file.into_iter().map(|frame| frame.bytes));
    }
    sent.sort_unstable();
    Ok(Ran { sent, header_bad })
}

fn empty_capture(path: &Path) -> Result<()> {
    Writer::create(path)?.finish()
}

/// What leaves kronod with so many cores, of its own numbering.
fn spray(dir: &Path, from: From, settings: &str, cores: usize) -> Result<Vec<Vec<u8>>> {
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
        "scr: {{ {settings}, workers: [ {} ], sequencer: {{ ring: 8K }} }}{}",
        workers.join(", "),
        if from == From::Inside {
            "\n    nat: { pool: [ 198.51.100.0/28 ], sessions: 64K }"
        } else {
            ""
        },
    );
    let text = config(dir, "    lcore: 0\n", [&inside, &outside], &scr, "capture");
    let out = if from == From::Inside { "to-outside" } else { "to-inside" };
    Ok(run(dir, &text, out, cores)?.sent)
}

/// What leaves kronod if `scr-pcap` numbers the packets.
fn sequenced(
    dir: &Path,
    settings: &str,
    name: &str,
    order: &str,
    moments: bool,
    spoil: impl FnOnce(&Path) -> Result<()>,
) -> Result<Ran> {
    const CORES: usize = 3;
    let mut tool = Command::new(program("scr-pcap")?);
    let (input, output) = (dir.join("outside.pcap"), dir.join("sequenced.pcap"));
    let moment = if moments { "--moment" } else { "--no-moment" };
    tool.args(["sequence", "--program", name, "--cores", "3", "--variant", order, moment]);
    let status = tool.arg("--per-core").arg(&input).arg(&output).output()?;
    ensure!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    spoil(&dir.join("sequenced-1.pcap"))?;
    let inside = format!(
        "net_pcap0,rx_pcap={}{}",
        dir.join("inside.pcap").display(),
        files(dir, "tx_pcap", "to-inside", CORES)
    );
    let (rx, tx) =
        (files(dir, "rx_pcap", "sequenced", CORES), files(dir, "tx_pcap", "to-outside", CORES));
    // Logs hold all: cores that share CPUs run as far apart as the scheduler has them.
    let scr = format!(
        "scr: {{ {settings}, workers: [ 0, 1, 2 ], \
         in_band: {{ order: {order}, moments: {moments}, log: 16K }} }}"
    );
    let outside = format!("net_pcap1{rx}{tx}");
    run(dir, &config(dir, "", [&inside, &outside], &scr, "tsc"), "to-inside", CORES)
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
    write_capture(&dir.join("outside.pcap"), From::Outside, PACKETS, &mut random)?;
    empty_capture(&dir.join("inside.pcap"))?;
    let one = spray(dir, From::Outside, settings, 1)?;
    ensure!(passes.contains(&one.len()), "{} packets pass", one.len());
    for cores in [2, 5] {
        let many = spray(dir, From::Outside, settings, cores)?;
        ensure!(many == one, "{cores} cores: {} packets pass, not {}", many.len(), one.len());
    }
    if let Some((order, moments)) = in_band {
        let many = sequenced(dir, settings, name, order, moments, |_| Ok(()))?.sent;
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
fn a_translator_on_many_cores_gives_out_the_same_ports() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let dir = dir.path();
    let mut random = ChaCha8Rng::seed_from_u64(9);
    write_capture(&dir.join("inside.pcap"), From::Inside, PACKETS, &mut random)?;
    empty_capture(&dir.join("outside.pcap"))?;
    let one = spray(dir, From::Inside, "program: nat", 1)?;
    ensure!((5_000..7_500).contains(&one.len()), "{} packets pass", one.len());
    for cores in [2, 5] {
        let many = spray(dir, From::Inside, "program: nat", cores)?;
        ensure!(many == one, "{cores} cores: {} packets pass, not {}", many.len(), one.len());
    }
    Ok(())
}

#[test]
fn what_is_broken_in_front_is_dropped_and_its_record_known_from_others() -> Result<()> {
    const EACH: usize = 7;
    let dir = tempfile::tempdir()?;
    let dir = dir.path();
    write_capture(
        &dir.join("outside.pcap"),
        From::Outside,
        PACKETS,
        &mut ChaCha8Rng::seed_from_u64(7),
    )?;
    empty_capture(&dir.join("inside.pcap"))?;
    let settings = "program: ddos, ddos: { sources: 1K, one_in: 10, window: 1K }";
    let one = spray(dir, From::Outside, settings, 1)?;
    let mut cut = 0;
    let spoil = |path: &Path| {
        let frames = file::read(path)?;
        let mut spoiled = Writer::create(path)?;
        for (index, mut frame) in frames.into_iter().enumerate() {
            if index % EACH == EACH - 1 {
                frame.bytes.truncate(20);
                cut += 1;
            }
            spoiled.write(frame.time_us, &frame.bytes)?;
        }
        spoiled.finish()
    };
    let Ran { sent, header_bad } = sequenced(dir, settings, "ddos", "shift", false, spoil)?;
    ensure!(header_bad == cut && cut > 100, "{header_bad} dropped, {cut} were cut");
    let foreign = sent.iter().filter(|frame| one.binary_search(frame).is_err()).count();
    ensure!(foreign == 0, "{foreign} packets pass that one core drops");
    let missing = one.len() - sent.len();
    ensure!(missing as u64 <= cut && missing > 0, "{missing} packets of {cut} are missing");
    Ok(())
}

#[test]
fn cores_come_and_go_under_load() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let dir = dir.path();
    let mut random = ChaCha8Rng::seed_from_u64(8);
    write_capture(&dir.join("outside.pcap"), From::Outside, 2_000, &mut random)?;
    let outside = format!(
        "net_pcap0,rx_pcap={},infinite_rx=1{}",
        dir.join("outside.pcap").display(),
        ",tx_pcap=/dev/null".repeat(3)
    );
    let scr = "scr: { program: heavy, heavy: { threshold: 10K }, workers: [ 1, 2, 3 ], active: 1 }";
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
        change_cores(&kronod, change)?;
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

/// Changes who gets packets, once the change before is through.
fn change_cores(kronod: &Kronod, change: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = kronod.ask(&format!("group {change}")) {
        // Where lcores share CPUs the others may be left out for a moment.
        let passes = ["try again", "without a core"];
        ensure!(passes.iter().any(|text| error.to_string().contains(text)), "{error}");
        ensure!(Instant::now() < deadline, "{error}\n{}", kronod.log());
        sleep(Duration::from_millis(50));
    }
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
