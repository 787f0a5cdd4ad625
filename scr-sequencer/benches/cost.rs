//! What a program costs a replica: c1, its own packet from the parsed headers to the verdict, and
//! c2, a record that is replayed, of which the verdict goes nowhere.
//!
//! `cargo bench -p scr-sequencer --bench cost` prints both, for each program on a trace of one flow,
//! on one whose flows follow Zipf's law (exponent 1), and on one in which all are equally frequent.
//! Figures are medians of five repeats, those of the programs and traces in turn. `-- --quick` only
//! shows that it runs. Cycles are those of the time stamp counter, at the rate that
//! `KRONO_TSC_MHZ` gives or else /proc/cpuinfo.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::time::Instant;

use krono_core::carve;
use krono_core::packet::{Endpoint, Kind, PacketMeta, Protocol, Side, TcpFlags, TcpMeta};
use krono_core::time::Moment;
use krono_nat::config::{Config, Filtering, Firewall, Policy, Timeouts};
use krono_nat::{Nat, Replica};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::Zipf;
use scr_sequencer::Replicable;
use scr_sequencer::programs::{bucket, conntrack, ddos, heavy, knock};
use zerocopy::IntoBytes;

/// Frames in a burst, and cores: so many records are probed before the first is stepped on.
const BURST: usize = 32;
const CORES: usize = 7;
const REPEATS: usize = 5;
const TRACES: [&str; 3] = ["one flow", "zipf", "uniform"];

/// A packet and its time.
type Packet = (PacketMeta, Side, Moment);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let is_quick = arguments.iter().any(|argument| argument == "--quick");
    let is_wanted = |name: &str| {
        let names: Vec<_> = arguments.iter().skip(1).filter(|it| !it.starts_with('-')).collect();
        names.is_empty() || names.iter().any(|it| name == it.as_str())
    };
    let packets = if is_quick { 1 << 12 } else { 1 << 18 };
    let mut benches: Vec<Box<dyn Bench>> = Vec::new();
    for trace in TRACES {
        let of = |flows| packets_of(trace, flows, packets);
        benches.push(bench(trace, ddos(), &of(16_384), &[]));
        benches.push(bench(trace, knock(), &of(16_384), &knocks(16_384)));
        benches.push(bench(trace, bucket(), &of(65_536), &[]));
        benches.push(bench(trace, heavy(), &of(65_536), &handshakes(65_536)));
        benches.push(bench(trace, conntrack(), &of(65_536), &handshakes(65_536)));
        let each: Vec<_> = (0..65_536).map(|flow| datagram(flow, 0)).collect();
        let of = |flows| flows_of(trace, flows, packets).enumerate();
        let datagrams: Vec<_> = of(65_536).map(|(at, flow)| datagram(flow, at)).collect();
        benches.push(bench(trace, nat(), &datagrams, &each));
    }
    benches.retain(|bench| is_wanted(bench.name().0));
    for _ in 0..if is_quick { 1 } else { REPEATS } {
        benches.iter_mut().for_each(|bench| bench.repeat());
    }
    let mhz = tsc_mhz();
    println!("records of {CORES} cores' bursts of {BURST} at once; {mhz:.0} MHz");
    println!(
        "{:10} {:9} {:>18} {:>18}",
        "program", "trace", "c1 cycles      ns", "c2 cycles      ns"
    );
    benches.sort_by_key(|bench| bench.name().0);
    for bench in benches {
        let ((name, trace), [c1, c2]) = (bench.name(), bench.medians_ns());
        let cycles = |ns: f64| ns * mhz / 1_000.0;
        let figures = [c1, c2].map(|ns| format!("{:10.1} {ns:7.2}", cycles(ns)));
        println!("{name:10} {trace:9} {} {}", figures[0], figures[1]);
    }
}

/// One program on one trace.
trait Bench {
    fn name(&self) -> (&'static str, &'static str);
    fn repeat(&mut self);
    fn medians_ns(&self) -> [f64; 2];
}

struct On<P: Replicable> {
    trace: &'static str,
    program: P,
    packets: Vec<Packet>,
    records: Vec<P::Record>,
    /// Nanoseconds for a packet and for a record.
    taken: [Vec<f64>; 2],
}

fn bench<P: Replicable + 'static>(
    trace: &'static str,
    mut program: P,
    packets: &[Packet],
    before: &[Packet],
) -> Box<dyn Bench> {
    for (meta, side, now) in before {
        program.step(&P::record(meta, *side, *now), &P::Probe::default(), &mut ());
    }
    let record = |(meta, side, now): &Packet| P::record(meta, *side, *now);
    let records: Vec<_> = packets.iter().map(record).collect();
    replay(&mut program, &records);
    Box::new(On { trace, program, packets: packets.to_vec(), records, taken: Default::default() })
}

impl<P: Replicable> Bench for On<P> {
    fn name(&self) -> (&'static str, &'static str) {
        (P::NAME, self.trace)
    }

    fn repeat(&mut self) {
        let each = |start: Instant, count: usize| start.elapsed().as_nanos() as f64 / count as f64;
        let start = Instant::now();
        decide(&mut self.program, &self.packets);
        self.taken[0].push(each(start, self.packets.len()));
        let start = Instant::now();
        replay(&mut self.program, &self.records);
        self.taken[1].push(each(start, self.records.len()));
        black_box(&self.program);
    }

    fn medians_ns(&self) -> [f64; 2] {
        self.taken.clone().map(|mut taken| {
            taken.sort_by(f64::total_cmp);
            taken[taken.len() / 2]
        })
    }
}

/// All packets in bursts, from headers to verdict.
#[inline(never)]
fn decide<P: Replicable>(program: &mut P, packets: &[Packet]) {
    let mut waiting = [(P::Record::default(), P::Probe::default()); BURST];
    for burst in packets.chunks(BURST) {
        for ((record, probe), (meta, side, now)) in waiting.iter_mut().zip(burst) {
            *record = P::record(meta, *side, *now);
            *probe = program.probe(record);
        }
        touch_all(program, &mut waiting[..burst.len()]);
        for (record, probe) in &waiting[..burst.len()] {
            black_box(program.step(record, probe, &mut ()));
        }
    }
}

/// All records in bursts, for the state alone.
#[inline(never)]
fn replay<P: Replicable>(program: &mut P, records: &[P::Record]) {
    let mut waiting = [(P::Record::default(), P::Probe::default()); BURST * CORES];
    for burst in records.chunks(BURST * CORES) {
        for ((waiting, probe), record) in waiting.iter_mut().zip(burst) {
            (*waiting, *probe) = (*record, program.probe(record));
        }
        touch_all(program, &mut waiting[..burst.len()]);
        for (record, probe) in &waiting[..burst.len()] {
            program.follow(record, probe);
        }
    }
}

#[inline(always)]
fn touch_all<P: Replicable>(program: &P, waiting: &mut [(P::Record, P::Probe)]) {
    for look in 0.. {
        let mut goes_on = false;
        for (record, probe) in &mut *waiting {
            goes_on |= program.touch(record, probe, look);
        }
        if !goes_on {
            return;
        }
    }
}

fn ddos() -> ddos::Ddos {
    let deny = vec!["198.51.100.0/24".parse().expect("a prefix")];
    let config = ddos::Config { sources: 16_384, deny, ..Default::default() };
    ddos::Ddos::new(&config).expect("good settings")
}

fn knock() -> knock::Knock {
    let protected = vec![22..=22, 8080..=8080];
    let config = knock::Config { sources: 16_384, protected, ..Default::default() };
    knock::Knock::new(&config).expect("good settings")
}

fn bucket() -> bucket::Policer {
    bucket::Policer::new(&Default::default()).expect("good settings")
}

fn heavy() -> heavy::Heavy {
    heavy::Heavy::new(&Default::default()).expect("good settings")
}

fn conntrack() -> conntrack::Conntrack {
    conntrack::Conntrack::new(&Default::default()).expect("good settings")
}

/// A translator with room for all flows, each of a subscriber of its own.
fn nat() -> Replica<'static> {
    let config = Config {
        sessions: 80_000,
        subscribers: 80_000,
        pool: vec!["198.51.100.0/30".parse().expect("a prefix")],
        inside: vec!["10.0.0.0/8".parse().expect("a prefix")],
        ports: 1024..=65_535,
        ports_per_subscriber: 2048,
        seed: [7; 32],
        policy: Policy {
            filtering: Filtering::AddressAndPortDependent,
            hairpinning: true,
            timeouts: Timeouts::default(),
            exclude: vec![],
            statics: vec![],
            firewall: Firewall::default(),
        },
    };
    let memory = Box::leak(carve::heap(Nat::memory_bytes(&config)).into_boxed_slice());
    let now = Moment(1_000_000_000).ticks();
    Replica(Nat::new(&config, memory.as_mut_bytes(), now).expect("no static mappings"))
}

/// A segment of a flow, from its client or to it; 100 ns after the one before.
fn segment(flow: u32, from_client: bool, dport: u16, flags: TcpFlags, number: usize) -> Packet {
    let client = Endpoint::new((0x0a00_0000 + flow * 7).into(), 1024 + (flow % 60_000) as u16);
    let server = Endpoint::new((0xcb00_7100 + flow % 256).into(), dport);
    let (src, dst) = if from_client { (client, server) } else { (server, client) };
    let mut meta = PacketMeta { ip_len: 64, from: src.addr, to: dst.addr, ..Default::default() };
    (meta.src, meta.dst, meta.kind, meta.protocol) = (src, dst, Kind::Tcp, Protocol::Tcp);
    let [seq, ack] = if from_client { [101, 501] } else { [501, 101] };
    let seq = if flags.has(TcpFlags::SYN) { seq - 1 } else { seq };
    meta.tcp = TcpMeta { seq, ack, flags, ..meta.tcp };
    let side = if from_client { Side::Outside } else { Side::Inside };
    (meta, side, Moment(1_000_000_000 + number as u64 * 100))
}

/// A subscriber's datagram.
fn datagram(flow: u32, number: usize) -> Packet {
    let (mut meta, _, now) = segment(flow, true, 8080, TcpFlags::ACK, number);
    (meta.kind, meta.protocol, meta.tcp) = (Kind::Udp, Protocol::Udp, TcpMeta::default());
    (meta, Side::Inside, now)
}

/// Segments of connections that are open. All come from clients, as sources count.
fn packets_of(trace: &'static str, flows: u32, packets: usize) -> Vec<Packet> {
    let of = |(number, flow)| segment(flow, true, 8080, TcpFlags::ACK, number);
    flows_of(trace, flows, packets).enumerate().map(of).collect()
}

/// Whose turn it is, packet by packet.
fn flows_of(trace: &'static str, flows: u32, packets: usize) -> impl Iterator<Item = u32> {
    let mut rng = StdRng::seed_from_u64(7);
    let zipf = Zipf::new(f64::from(flows), 1.0).expect("a distribution");
    let mut flow = move || match trace {
        "one flow" => 77,
        "zipf" => rng.sample(zipf) as u32 - 1,
        _ => rng.random_range(0..flows),
    };
    (0..packets).map(move |_| flow())
}

/// The beginnings of all connections.
fn handshakes(flows: u32) -> Vec<Packet> {
    let of = |flow| {
        let syn_ack = TcpFlags::SYN.with(TcpFlags::ACK);
        [(true, TcpFlags::SYN), (false, syn_ack), (true, TcpFlags::ACK)]
            .map(|(from_client, flags)| segment(flow, from_client, 8080, flags, 0))
    };
    (0..flows).flat_map(of).collect()
}

/// The right knocks of every other source.
fn knocks(flows: u32) -> Vec<Packet> {
    let of = |flow| [100, 101, 102].map(|port| segment(flow, true, port, TcpFlags::SYN, 0));
    (0..flows).step_by(2).flat_map(of).collect()
}

fn tsc_mhz() -> f64 {
    let given = std::env::var("KRONO_TSC_MHZ").ok().and_then(|mhz| mhz.parse().ok());
    given
        .or_else(|| {
            let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").ok()?;
            let line = cpuinfo.lines().find(|line| line.starts_with("cpu MHz"))?;
            line.rsplit(' ').next()?.parse().ok()
        })
        .expect(
            "KRONO_TSC_MHZ says how fast the time stamp counter is, where /proc/cpuinfo does not",
        )
}
