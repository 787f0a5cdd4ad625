//! Captures of real traffic through kronod, in capture time and without root.
//!
//! `KRONO_CAPTURES` names a directory of pcap files; without it the tests say so and pass. All
//! files are put together, with subscribers of their own for each, so that a few runs of kronod
//! see every packet.
#![forbid(unsafe_code)]

mod in_process;

use std::collections::{BTreeMap, HashMap};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use krono_tests::capture::file::{self, Writer};
use krono_tests::capture::ipv4::{End, Endpoint};
use krono_tests::capture::plan::{Plan, Planned, Side};
use krono_tests::capture::replay::{self, Matched, PublicEndpoints};
use krono_tests::daemon::{Kronod, ShardStats};

use in_process::Fate;

/// The shard's own MACs, and its neighbours', on either side.
const SHARD: [[u8; 6]; 2] = [*b"\x02krono", *b"\x02KRONO"];
const NEIGHBOUR: [[u8; 6]; 2] = [*b"\x02inner", *b"\x02outer"];

/// The largest IP packet, bytes: some captures hold what the hardware was yet to cut.
const MTU: u16 = 9000;

/// A public endpoint that no mapping has, since its port is below those that are given out.
const NOWHERE: Endpoint = (std::net::Ipv4Addr::new(198, 51, 100, 0), 1);

/// Of the packets that must come out, so many do.
const SHARE_MIN: f64 = 0.9;

/// After so many runs the public endpoints are known, or will never be.
const ROUNDS_MAX: usize = 8;

const PATIENCE: Duration = Duration::from_secs(300);

fn captures() -> Result<Option<Vec<PathBuf>>> {
    let Some(directory) = env::var_os("KRONO_CAPTURES") else {
        println!("skipped: KRONO_CAPTURES names no directory of captures");
        return Ok(None);
    };
    let files = file::find(Path::new(&directory))?;
    ensure!(!files.is_empty(), "no pcap files in {}", Path::new(&directory).display());
    Ok(Some(files))
}

/// The subscribers' networks of a plan.
const PLANNED: &[&str] = &["100.64.0.0/10"];

/// Networks that hold most senders of captures as they are.
const EVERYBODY: &[&str] = &["0.0.0.0/1", "128.0.0.0/2", "192.168.0.0/16"];

/// Runs kronod over `inside.pcap` and `outside.pcap` in a directory until both are used up, with
/// these networks of subscribers; what it sends is in `to-inside.pcap` and `to-outside.pcap` then.
fn replay(dir: &Path, subscribers: &[&str]) -> Result<ShardStats> {
    let socket = dir.join("kronod.sock");
    let mac = |mac: [u8; 6]| mac.map(|octet| format!("{octet:02x}")).join(":");
    let route = |prefix: &&str| format!("{{ prefix: {prefix}, via: 192.0.1.254 }}");
    let routes = subscribers.iter().map(route).collect::<Vec<_>>().join(", ");
    let text = format!(
        "eal: {{ memory: 256M, hugepages: off, lcores: \"0@0\", idle: yield }}
ports:
  - {{ name: access, device: \"net_pcap0,rx_pcap={dir}/inside.pcap,tx_pcap={dir}/to-inside.pcap\", mtu: {MTU} }}
  - {{ name: core, device: \"net_pcap1,rx_pcap={dir}/outside.pcap,tx_pcap={dir}/to-outside.pcap\", mtu: {MTU} }}
shards:
  - id: 0
    lcore: 0
    inside:
      port: access
      mac: \"{}\"
      address: 192.0.1.1/24
      routes: [ {routes} ]
      neighbours: [ {{ address: 192.0.1.254, mac: \"{}\" }} ]
    outside:
      port: core
      mac: \"{}\"
      address: 192.0.2.1/24
      routes: [ {{ prefix: 0.0.0.0/0, via: 192.0.2.254 }} ]
      neighbours: [ {{ address: 192.0.2.254, mac: \"{}\" }} ]
    nat: {{ pool: [ 198.51.100.0/26 ] }}
nat: {{ sessions: 256K, ports_per_subscriber: 32768 }}
clock: capture
control: {{ socket: \"{}\" }}
metrics: {{ listen: \"127.0.0.1:0\" }}\n",
        mac(SHARD[0]),
        mac(NEIGHBOUR[0]),
        mac(SHARD[1]),
        mac(NEIGHBOUR[1]),
        socket.display(),
        dir = dir.display(),
    );
    let options = ["--seed", "1", "--exit-when-idle", "2s"];
    let kronod = Kronod::replaying(dir, &text, socket, &options)?;
    let (code, stats) = kronod.last_words(PATIENCE)?;
    let log = || std::fs::read_to_string(dir.join("kronod.log")).unwrap_or_default();
    ensure!(code == 0, "exit code {code}:\n{}", log());
    ensure!(stats.len() == 1, "figures of {} shards:\n{}", stats.len(), log());
    ensure!(stats[0].is_balanced(), "packets are missing or counted twice: {:?}", stats[0]);
    Ok(stats[0].clone())
}

#[test]
fn every_packet_of_every_capture_is_accounted_for() -> Result<()> {
    let Some(files) = captures()? else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    // As they are, then as if each had been sent to the shard: the former shows that nothing of
    // others is touched, the latter takes what is in the frames as far as it gets.
    for addressed in [false, true] {
        let [mut inside, mut outside] = [
            Writer::create(&dir.path().join("inside.pcap"))?,
            Writer::create(&dir.path().join("outside.pcap"))?,
        ];
        let mut frames = 0;
        let mut now_us = 1_000_000_000_000_000;
        for path in &files {
            for mut frame in file::read(path)? {
                now_us += 1;
                for (writer, shard) in [(&mut inside, SHARD[0]), (&mut outside, SHARD[1])] {
                    if let Some(to) = frame.bytes.get_mut(..6).filter(|_| addressed) {
                        to.copy_from_slice(&shard);
                    }
                    writer.write(now_us, &frame.bytes)?;
                    frames += 1;
                }
            }
        }
        inside.finish()?;
        outside.finish()?;
        let stats = replay(dir.path(), EVERYBODY)?;
        println!("{} captures, {frames} frames on both sides, addressed: {addressed}", files.len());
        print_drops(&stats);
        ensure!(stats.received == frames, "{} of {frames} frames received", stats.received);
    }
    Ok(())
}

/// The captures as one plan.
fn plan(files: &[PathBuf]) -> Result<Plan> {
    let mut plan = Plan::default();
    for path in files {
        plan.add(&file::read(path)?);
    }
    Ok(plan)
}

#[test]
fn every_packet_that_does_not_come_out_has_a_named_reason() -> Result<()> {
    let Some(files) = captures()? else { return Ok(()) };
    let plan = plan(&files)?;
    let fates = in_process::rehearse(&plan.packets)?;
    let mut reasons: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let (mut due, mut out) = (0, 0);
    for (planned, fate) in plan.packets.iter().zip(&fates) {
        let excuse = planned.excuse.map_or("must come out", |excuse| excuse.name());
        due += usize::from(planned.excuse.is_none());
        match fate {
            Fate::Sent => out += usize::from(planned.excuse.is_none()),
            Fate::Dropped(reason) => *reasons.entry((excuse, reason.name())).or_default() += 1,
        }
    }
    println!("{due} packets must come out, {out} did; the others, and those that need not:");
    for ((excuse, reason), count) in reasons {
        println!("{count:>8}   {excuse}: {reason}");
    }
    let share = out as f64 / due as f64;
    ensure!(share >= SHARE_MIN, "only {:.2} % came out", share * 100.0);
    Ok(())
}

#[test]
fn flows_of_every_capture_pass_the_nat() -> Result<()> {
    let Some(files) = captures()? else { return Ok(()) };
    let plan = plan(&files)?;
    let dir = tempfile::tempdir()?;
    let (outcome, rounds) = replay_until_stable(&plan.packets, dir.path())?;
    println!("the public endpoints were known after {rounds} runs");
    let share = print_summary(&plan, &outcome, &files);

    ensure!(outcome.stats.received == plan.packets.len() as u64, "{:?}", outcome.stats);
    let [to_outside, to_inside] = &outcome.matched;
    let came_out = (to_outside.outputs.len() + to_inside.outputs.len()) as u64;
    let originated = (to_outside.originated + to_inside.originated) as u64;
    ensure!(came_out == outcome.stats.sent, "{came_out} came out, {:?}", outcome.stats);
    ensure!(originated == outcome.stats.originated, "{originated}, {:?}", outcome.stats);
    verify_inside(&plan.packets, to_inside)?;
    for (side, matched) in [(Side::Inside, to_outside), (Side::Outside, to_inside)] {
        verify_checksums(&plan.packets, side, matched, dir.path())?;
    }
    ensure!(share >= SHARE_MIN, "only {:.1} % came out", share * 100.0);
    Ok(())
}

struct Outcome {
    stats: ShardStats,
    /// What entered on the inside and left on the outside, and the other way.
    matched: [Matched; 2],
}

/// Replays a plan, sending from outside to the public endpoints that the run before has shown,
/// until a run shows the same ones as that before it.
fn replay_until_stable(plan: &[Planned], dir: &Path) -> Result<(Outcome, usize)> {
    let mut public: PublicEndpoints = vec![None; plan.len()];
    let mut round = 0;
    loop {
        round += 1;
        write_plan(plan, &public, dir)?;
        let stats = replay(dir, PLANNED)?;
        let to_outside = file::read(&dir.join("to-outside.pcap"))?;
        let to_outside = replay::match_outputs(plan, Side::Inside, &to_outside);
        let found = replay::public_endpoints(plan, &to_outside);
        if found == public || round == ROUNDS_MAX {
            let to_inside = file::read(&dir.join("to-inside.pcap"))?;
            let to_inside = replay::match_outputs(plan, Side::Outside, &to_inside);
            return Ok((Outcome { stats, matched: [to_outside, to_inside] }, round));
        }
        public = found;
    }
}

fn write_plan(plan: &[Planned], public: &PublicEndpoints, dir: &Path) -> Result<()> {
    let mut inside = Writer::create(&dir.join("inside.pcap"))?;
    let mut outside = Writer::create(&dir.join("outside.pcap"))?;
    for (planned, public) in plan.iter().zip(public) {
        let packet = replay::entering(planned, *public, NOWHERE);
        let (writer, side) = match planned.side {
            Side::Inside => (&mut inside, 0),
            Side::Outside => (&mut outside, 1),
        };
        writer.write(planned.time_us, &packet.frame(SHARD[side], NEIGHBOUR[side]))?;
    }
    inside.finish()?;
    outside.finish()
}

/// What reached the inside has come to the subscriber that it was meant for.
fn verify_inside(plan: &[Planned], to_inside: &Matched) -> Result<()> {
    for (number, (_, packet)) in &to_inside.outputs {
        let meant = &plan[*number].packet;
        ensure!(
            packet.endpoint(End::Destination) == meant.endpoint(End::Destination)
                && packet.quote().map(|quote| quote.source) == meant.quote().map(|q| q.source),
            "packet {number} of the plan came out wrong:\n{meant:02x?}\n{packet:02x?}"
        );
    }
    Ok(())
}

/// No checksum is wrong in the output that was not so in the input.
fn verify_checksums(plan: &[Planned], side: Side, matched: &Matched, dir: &Path) -> Result<()> {
    let (input, output) = match side {
        Side::Inside => ("inside.pcap", "to-outside.pcap"),
        Side::Outside => ("outside.pcap", "to-inside.pcap"),
    };
    let bad_inputs = bad_checksums(&dir.join(input))?;
    let bad_outputs = bad_checksums(&dir.join(output))?;
    let numbers = plan.iter().enumerate().filter(|(_, planned)| planned.side == side);
    let input_frames: HashMap<usize, usize> =
        numbers.enumerate().map(|(frame, (number, _))| (number, frame)).collect();
    let from: HashMap<usize, usize> =
        matched.outputs.iter().map(|(number, (frame, _))| (*frame, input_frames[number])).collect();
    for (frame, bad) in &bad_outputs {
        let is_new = match from.get(frame) {
            Some(input) => bad.exceeds(bad_inputs.get(input)),
            None => bad.is_of_an_error_itself(),
        };
        ensure!(!is_new, "frame {} of {output}: {bad:?}", frame + 1);
    }
    println!(
        "{output}: {} frames with bad checksums, {} in {input}; none is new",
        bad_outputs.len(),
        bad_inputs.len()
    );
    Ok(())
}

/// What tshark says of the checksums of a frame: for IP, TCP, UDP and ICMP, whether each of that
/// kind is bad, those of quoted packets behind the frame's own.
#[derive(Debug)]
struct Checksums([Vec<bool>; 4]);

impl Checksums {
    /// Whether more of a kind are bad than in another frame.
    fn exceeds(&self, other: Option<&Checksums>) -> bool {
        let bad = |kind: &Vec<bool>| kind.iter().filter(|bad| **bad).count();
        let allowed = |kind: usize| other.map_or(0, |other| bad(&other.0[kind]));
        self.0.iter().enumerate().any(|(kind, these)| bad(these) > allowed(kind))
    }

    /// Whether the NAT's own ICMP error is wrong, rather than the packet that it quotes.
    fn is_of_an_error_itself(&self) -> bool {
        let [ip, .., icmp] = &self.0;
        [ip, icmp].iter().any(|kind| kind.first() == Some(&true))
    }
}

/// The frames of a file (from 0) in which tshark finds bad checksums.
fn bad_checksums(path: &Path) -> Result<HashMap<usize, Checksums>> {
    const BAD: &str = "0";
    let mut tshark = Command::new("tshark");
    tshark.args(["-n", "-T", "fields", "-e", "frame.number"]);
    for protocol in ["ip", "tcp", "udp"] {
        tshark.args(["-o", &format!("{protocol}.check_checksum:TRUE")]);
    }
    for protocol in ["ip", "tcp", "udp", "icmp"] {
        tshark.args(["-e", &format!("{protocol}.checksum.status")]);
    }
    let output = tshark.arg("-r").arg(path).output().context("tshark")?;
    ensure!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
    let mut bad = HashMap::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let mut columns = line.split('\t');
        let frame: usize = columns.next().unwrap_or_default().parse()?;
        let kinds: Vec<Vec<bool>> =
            columns.map(|column| column.split(',').map(|status| status == BAD).collect()).collect();
        let checksums = Checksums(kinds.try_into().ok().context("tshark printed other fields")?);
        if checksums.0.iter().flatten().any(|bad| *bad) {
            bad.insert(frame - 1, checksums);
        }
    }
    Ok(bad)
}

/// Prints what became of the captures; the share of the packets that must come out which did.
fn print_summary(plan: &Plan, outcome: &Outcome, files: &[PathBuf]) -> f64 {
    println!("{:>8} captures", plan.captures);
    println!("{:>8} frames", plan.frames);
    let mut unfit: Vec<_> = plan.unfit.iter().collect();
    unfit.sort();
    for (reason, count) in unfit {
        println!("{count:>8}   not replayed: {}", reason.name());
    }
    println!("{:>8} packets of {} flows replayed", plan.packets.len(), plan.flows);
    let mut excused: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    let mut due = vec![[0; 2]; plan.captures];
    for (number, planned) in plan.packets.iter().enumerate() {
        let out = outcome.matched.iter().any(|matched| matched.outputs.contains_key(&number));
        let counts = match planned.excuse {
            Some(excuse) => excused.entry(excuse.name()).or_default(),
            None => &mut due[planned.capture],
        };
        counts[0] += 1;
        counts[1] += usize::from(out);
    }
    for (excuse, [count, out]) in excused {
        println!("{count:>8}   need not come out ({excuse}), {out} did");
    }
    let [count, out] = due.iter().fold([0, 0], |[a, b], [count, out]| [a + count, b + out]);
    let share = out as f64 / count.max(1) as f64;
    println!("{count:>8}   must come out, {out} did: {:.2} %", share * 100.0);
    let mut worst: Vec<_> = due.iter().zip(files).collect();
    worst.sort_by_key(|([count, out], _)| count - out);
    for ([count, out], path) in worst.iter().rev().take(12).filter(|([count, out], _)| out < count)
    {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        println!("{:>8}     missing of {count} in {name}", count - out);
    }
    print_drops(&outcome.stats);
    share
}

fn print_drops(stats: &ShardStats) {
    println!(
        "kronod: received {}, sent {}, consumed {}, held {}, originated {}; dropped {}:",
        stats.received,
        stats.sent,
        stats.consumed,
        stats.held,
        stats.originated,
        stats.drops_total()
    );
    for (reason, count) in stats.drops.iter().filter(|(_, count)| *count > 0) {
        println!("{count:>8}   {reason}");
    }
}
