//! What the path costs a packet, in instructions: its stages alone, and whole bursts of 64.
//!
//! `scripts/instructions.sh` runs this under callgrind and compares with `instructions.txt`. All
//! that a measured function needs is made before, and what is left over is handed back, so that
//! nothing but the path is counted. Each works on 16 bursts, every packet of a flow of its own.

#![allow(missing_docs, reason = "of the macros' making")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;

use common::*;
use etherparse::PacketBuilder;
use gungraun::{library_benchmark, library_benchmark_group, main};
use krono_core::frame::{BURST_MAX, MemFrame};
use krono_core::packet::{Endpoint, Layout, Mac, PacketMeta, Side, TcpFlags, TcpMeta};
use krono_core::parse as parser;
use krono_core::program::{Program, Translation, Verdict};
use krono_core::rewrite::{self, LinkHeader};
use krono_core::shard::{Action, Outcomes};
use krono_core::time::Ticks;
use krono_nat::config::Config;
use krono_nat::{Counts, Nat, Probe, Record};

/// The script divides by these packets; it finds the number here.
const PACKETS: usize = 1024;
const SUBSCRIBERS: usize = 64;
const FRAME_LEN: usize = 60;
const TTL: u8 = 64;
const NOW: Ticks = Ticks(1000);
/// When sessions have ended that were opened then.
const AFTER: Ticks = Ticks(1_000_000);

type Burst<T> = [T; BURST_MAX];

fn bursts<T>(all: impl IntoIterator<Item = T>) -> Vec<Burst<T>> {
    let mut all = all.into_iter();
    let mut burst = || std::array::from_fn(|_| all.next().expect("a packet"));
    (0..PACKETS / BURST_MAX).map(|_| burst()).collect()
}

fn parsed(frame: &MemFrame) -> (PacketMeta, Layout) {
    parser::parse(frame.bytes(), FRAME_LEN as u32).expect("it is in order")
}

/// A packet without its link header.
#[derive(Clone, Copy)]
struct Packet {
    src: Endpoint,
    dst: Endpoint,
    tcp: Option<TcpMeta>,
}

impl Packet {
    fn frame(&self, side: Side) -> MemFrame {
        let to = if side == Side::Inside { INSIDE_MAC } else { OUTSIDE_MAC };
        let (src, dst) = (self.src, self.dst);
        let ip = PacketBuilder::ethernet2(GATEWAY_MAC, to);
        let ip = ip.ipv4(src.addr.octets(), dst.addr.octets(), TTL);
        let mut bytes = Vec::new();
        let written = if let Some(tcp) = self.tcp {
            let header = ip.tcp(src.port, dst.port, tcp.seq, tcp.window);
            let header = if tcp.flags.has(TcpFlags::SYN) { header.syn() } else { header };
            let header = if tcp.flags.has(TcpFlags::ACK) { header.ack(tcp.ack) } else { header };
            header.write(&mut bytes, &[0x5a; FRAME_LEN - 54])
        } else {
            ip.udp(src.port, dst.port).write(&mut bytes, &[0x5a; FRAME_LEN - 42])
        };
        written.expect("a vector takes all");
        MemFrame::new(&bytes)
    }

    fn meta(&self, side: Side) -> (PacketMeta, Layout) {
        parsed(&self.frame(side))
    }

    /// The answer to it.
    fn answer(&self, tcp: Option<TcpMeta>) -> Packet {
        Packet { src: self.dst, dst: self.src, tcp }
    }
}

/// From each flow's subscriber.
fn packets(tcp: Option<TcpMeta>) -> Vec<Packet> {
    let packet = |flow: usize| {
        let (subscriber, port) = (flow % SUBSCRIBERS, 5000 + flow / SUBSCRIBERS);
        let src = ep(&format!("100.64.0.{subscriber}:{port}"));
        Packet { src, dst: ep(&format!("203.0.113.{}:443", flow % 251)), tcp }
    };
    (0..PACKETS).map(packet).collect()
}

/// A shard, and the bursts that come next.
struct Bed {
    worked: Worked,
    outcomes: Outcomes,
    side: Side,
    frames: Vec<Burst<MemFrame>>,
    records: Vec<Burst<Record>>,
}

impl Bed {
    fn new() -> Box<Bed> {
        Bed::with_room(4 * PACKETS)
    }

    fn with_room(sessions: usize) -> Box<Bed> {
        let config = Config { sessions, subscribers: SUBSCRIBERS, ..config() };
        Box::new(Bed {
            worked: shard(&config, NOW),
            outcomes: Outcomes::new(),
            side: Side::Inside,
            frames: Vec::new(),
            records: Vec::new(),
        })
    }

    fn with_next(mut self: Box<Bed>, side: Side, packets: &[Packet]) -> Box<Bed> {
        self.side = side;
        self.frames = bursts(packets.iter().map(|packet| packet.frame(side)));
        let record = |packet: &Packet| Nat::record(&packet.meta(side).0, side, NOW.into());
        self.records = bursts(packets.iter().map(record));
        self
    }

    fn process(&mut self) {
        let (shard, scratch) = &mut self.worked;
        for burst in &mut self.frames {
            let frames = black_box(burst.as_mut_slice());
            shard.process(self.side, frames, NOW.into(), &mut (), scratch, &mut self.outcomes);
            black_box(&self.outcomes);
        }
    }

    /// Lets all sessions end, as housekeeping does.
    fn end(&mut self) {
        let nat = &mut self.worked.0.program;
        while nat.tick(black_box(AFTER), &mut ()) {}
    }

    fn decide(&mut self) {
        let nat = &mut self.worked.0.program;
        let mut probes: Burst<Probe> = std::array::from_fn(|_| Probe::default());
        for records in &self.records {
            let records = black_box(records);
            for (record, probe) in records.iter().zip(&mut probes) {
                *probe = nat.probe(record);
            }
            for (record, probe) in records.iter().zip(&mut probes) {
                (0..).take_while(|look| nat.touch(record, probe, *look)).count();
            }
            for (record, probe) in records.iter().zip(&probes) {
                if black_box(nat.pass(self.side, record, probe)).is_none() {
                    black_box(nat.step(record, probe, &mut ()));
                }
            }
        }
    }

    /// Sends packets through; they as they leave.
    fn pass(self: Box<Bed>, side: Side, packets: &[Packet]) -> (Box<Bed>, Vec<Packet>) {
        let mut bed = self.with_next(side, packets);
        bed.process();
        assert_forwarded(&bed);
        let left = bed.frames.iter().flatten().map(|frame| {
            let (meta, _) = parsed(frame);
            Packet { src: meta.src, dst: meta.dst, tcp: None }
        });
        let left = left.collect();
        (bed, left)
    }
}

fn assert_forwarded(bed: &Bed) {
    let mut ttls = bed.frames.iter().flatten().map(|frame| parsed(frame).0.ttl);
    assert!(ttls.all(|ttl| ttl == TTL - 1), "not all frames were forwarded");
}

fn assert_passed(bed: Box<Bed>) {
    assert_forwarded(&bed);
}

fn assert_dropped(bed: Box<Bed>) {
    let fates: Vec<Action> = bed.outcomes.iter().map(|outcome| outcome.action).collect();
    assert!(fates.iter().all(|fate| matches!(fate, Action::Drop(_))), "{fates:?}");
}

fn assert_ended(bed: Box<Bed>) {
    assert_eq!(bed.worked.0.program.counts(), Counts::default());
}

fn assert_decided(mut bed: Box<Bed>) {
    let nat = &mut bed.worked.0.program;
    for record in bed.records.iter().flatten() {
        let verdict = nat.step(record, &Probe::default(), &mut ());
        assert!(matches!(verdict, Verdict::Forward { .. }), "{record:?}: {verdict:?}");
    }
}

fn udp_new() -> Box<Bed> {
    Bed::new().with_next(Side::Inside, &packets(None))
}

fn udp_out() -> Box<Bed> {
    let (bed, _) = Bed::new().pass(Side::Inside, &packets(None));
    bed.with_next(Side::Inside, &packets(None))
}

fn udp_in() -> Box<Bed> {
    let (bed, left) = Bed::new().pass(Side::Inside, &packets(None));
    let answers: Vec<Packet> = left.iter().map(|packet| packet.answer(None)).collect();
    bed.with_next(Side::Outside, &answers)
}

/// A flood into a full table, of which nobody is told any more in this tick.
fn tcp_full() -> Box<Bed> {
    let (bed, _) = Bed::with_room(PACKETS).pass(Side::Inside, &packets(None));
    let mut bed = bed.with_next(Side::Inside, &packets(Some(syn(100))));
    bed.process();
    bed.with_next(Side::Inside, &packets(Some(syn(100))))
}

/// A flood from the Internet to public ports that nobody has.
fn udp_unknown() -> Box<Bed> {
    let packet = |flow: usize| {
        let src = ep(&format!("203.0.113.{}:443", flow % 251));
        Packet { src, dst: ep(&format!("198.51.100.1:{}", 2000 + flow)), tcp: None }
    };
    Bed::new().with_next(Side::Outside, &(0..PACKETS).map(packet).collect::<Vec<_>>())
}

fn tcp_new() -> Box<Bed> {
    Bed::new().with_next(Side::Inside, &packets(Some(syn(100))))
}

/// Connections that were opened, and how their first segments left.
fn tcp_established() -> (Box<Bed>, Vec<Packet>) {
    let (bed, left) = Bed::new().pass(Side::Inside, &packets(Some(syn(100))));
    let answers = left.iter().map(|packet| packet.answer(Some(syn_ack(500, 101))));
    let (bed, _) = bed.pass(Side::Outside, &answers.collect::<Vec<_>>());
    let (bed, _) = bed.pass(Side::Inside, &packets(Some(ack(101, 501))));
    (bed, left)
}

fn tcp_out() -> Box<Bed> {
    tcp_established().0.with_next(Side::Inside, &packets(Some(ack(107, 501))))
}

fn tcp_in() -> Box<Bed> {
    let (bed, left) = tcp_established();
    let answers = left.iter().map(|packet| packet.answer(Some(ack(501, 113))));
    bed.with_next(Side::Outside, &answers.collect::<Vec<_>>())
}

/// Frames to be parsed, and where to.
struct Unparsed {
    frames: Vec<Burst<MemFrame>>,
    parsed: Box<Burst<(PacketMeta, Layout)>>,
}

impl Unparsed {
    fn new(packets: &[Packet]) -> Unparsed {
        let frames = bursts(packets.iter().map(|packet| packet.frame(Side::Inside)));
        Unparsed { frames, parsed: Box::new([Default::default(); BURST_MAX]) }
    }

    fn parse(&mut self) {
        for frames in &self.frames {
            let frames = black_box(frames);
            for (frame, (meta, layout)) in frames.iter().zip(self.parsed.iter_mut()) {
                let _ =
                    black_box(parser::parse_into(frame.bytes(), FRAME_LEN as u32, meta, layout));
            }
        }
    }
}

/// A frame, and what is to be written to it.
struct Decided {
    frame: MemFrame,
    meta: PacketMeta,
    layout: Layout,
    source: Translation,
}

/// Decided packets, and their next hop.
struct Unwritten {
    bursts: Vec<Burst<Decided>>,
    link: LinkHeader,
}

impl Unwritten {
    fn new(packets: &[Packet]) -> Unwritten {
        let decided = |packet: &Packet| {
            let (meta, layout) = packet.meta(Side::Inside);
            let source = Translation::new(meta.src, ep("198.51.100.1:40000"));
            Decided { frame: packet.frame(Side::Inside), meta, layout, source }
        };
        let link = LinkHeader { to: Mac(GATEWAY_MAC), from: Mac(OUTSIDE_MAC), vlan: None };
        Unwritten { bursts: bursts(packets.iter().map(decided)), link }
    }

    fn write(&mut self) {
        for burst in &mut self.bursts {
            for Decided { frame, meta, layout, source } in black_box(burst) {
                let mut frame = frame.as_frame();
                rewrite::apply(&mut frame, layout, meta, Some(source), None);
                black_box(rewrite::write_link(&mut frame, layout.l3, &self.link));
            }
        }
    }
}

#[library_benchmark]
#[bench::udp(Unparsed::new(&packets(None)))]
#[bench::tcp(Unparsed::new(&packets(Some(ack(107, 501)))))]
fn parse(mut frames: Unparsed) -> Unparsed {
    frames.parse();
    frames
}

#[library_benchmark(teardown = assert_decided)]
#[bench::udp_out(udp_out())]
#[bench::udp_in(udp_in())]
#[bench::tcp_out(tcp_out())]
#[bench::tcp_in(tcp_in())]
fn decide(mut bed: Box<Bed>) -> Box<Bed> {
    bed.decide();
    bed
}

#[library_benchmark]
#[bench::udp(Unwritten::new(&packets(None)))]
#[bench::tcp(Unwritten::new(&packets(Some(ack(107, 501)))))]
fn write(mut packets: Unwritten) -> Unwritten {
    packets.write();
    packets
}

#[library_benchmark(teardown = assert_passed)]
#[bench::udp_out(udp_out())]
#[bench::udp_in(udp_in())]
#[bench::udp_new(udp_new())]
#[bench::tcp_out(tcp_out())]
#[bench::tcp_in(tcp_in())]
#[bench::tcp_new(tcp_new())]
fn burst(mut bed: Box<Bed>) -> Box<Bed> {
    bed.process();
    bed
}

#[library_benchmark(teardown = assert_dropped)]
#[bench::tcp_full(tcp_full())]
#[bench::udp_unknown(udp_unknown())]
fn flood(mut bed: Box<Bed>) -> Box<Bed> {
    bed.process();
    bed
}

#[library_benchmark(teardown = assert_ended)]
#[bench::udp(udp_out())]
#[bench::tcp(tcp_out())]
fn end(mut bed: Box<Bed>) -> Box<Bed> {
    bed.end();
    bed
}

library_benchmark_group!(name = path, benchmarks = [parse, decide, write, burst, flood, end]);
main!(library_benchmark_groups = path);
