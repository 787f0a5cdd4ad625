//! Traces: frames of 64 bytes in memory, and the replay that receives them.

use etherparse::PacketBuilder;
use krono_core::packet::Mac;
use krono_core::packet::{PacketMeta, Side, TcpFlags};
use krono_core::parse::parse;
use krono_core::router::{Route, Router, RouterConfig, SideConfig};
use krono_io::{Burst, Pool};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::Zipf;

pub(crate) const FRAME_BYTES: usize = 64;

const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 2];
const NEIGHBOUR: [u8; 6] = [2, 0, 0, 0, 0, 0xfd];

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([u8; FRAME_BYTES]);

/// Packets of clients outside, to servers inside, that are received again and again.
pub(crate) struct Trace {
    pub(crate) name: &'static str,
    frames: Vec<Line>,
    pub(crate) metas: Vec<PacketMeta>,
}

impl Trace {
    /// Segments of so many open connections: all of one, or by Zipf's law with exponent 1.
    pub(crate) fn new(name: &'static str, flows: u32, packets: usize) -> Trace {
        let mut rng = StdRng::seed_from_u64(7);
        let zipf = Zipf::new(f64::from(flows), 1.0).expect("a distribution");
        let mut flow = || match name {
            "one flow" => 77,
            _ => rng.sample(zipf) as u32 - 1,
        };
        let frames: Vec<Line> =
            (0..packets).map(|_| frame(flow(), true, 8080, TcpFlags::ACK)).collect();
        let metas = frames.iter().map(meta).collect();
        Trace { name, frames, metas }
    }
}

/// Receives a trace: takes buffers from a pool and puts frames into them.
pub(crate) struct Replay<'a> {
    trace: &'a Trace,
    pool: &'a Pool,
    /// Buffers for the next frames: a driver has its ring full of them, for the NIC to write into.
    ready: Burst,
    pub(crate) position: usize,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(trace: &'a Trace, pool: &'a Pool) -> Self {
        Replay { trace, pool, ready: Burst::new(), position: 0 }
    }

    /// Puts the next frames, or every `stride`th, into an empty burst: `count` of them, which is
    /// always the same, or none if buffers are out.
    #[inline]
    pub(crate) fn poll(&mut self, burst: &mut Burst, count: usize, stride: usize) -> usize {
        if self.ready.is_empty() && !self.refill(count) {
            return 0;
        }
        std::mem::swap(burst, &mut self.ready);
        let frames = &self.trace.frames;
        for mbuf in burst.iter_mut() {
            let mut frame = mbuf.frame();
            assert!(frame.set_len(FRAME_BYTES as u16), "a buffer is longer");
            frame.bytes_mut().copy_from_slice(&frames[self.position].0);
            self.position += stride;
            if self.position >= frames.len() {
                self.position -= frames.len();
            }
        }
        self.refill(count);
        count
    }

    #[inline]
    fn refill(&mut self, count: usize) -> bool {
        let is_filled = self.pool.alloc_many(&mut self.ready, count);
        self.ready.prefetch_to_write(0);
        is_filled
    }
}

/// The beginnings of all connections.
pub(crate) fn handshakes(flows: u32) -> Vec<(PacketMeta, Side)> {
    let of = |flow| {
        let syn_ack = TcpFlags::SYN.with(TcpFlags::ACK);
        let segment = |(from_client, flags)| {
            let side = if from_client { Side::Outside } else { Side::Inside };
            (meta(&frame(flow, from_client, 8080, flags)), side)
        };
        [(true, TcpFlags::SYN), (false, syn_ack), (true, TcpFlags::ACK)].map(segment)
    };
    (0..flows).flat_map(of).collect()
}

/// The right knocks of all sources.
pub(crate) fn knocks(flows: u32) -> Vec<(PacketMeta, Side)> {
    let of = |flow| {
        [100, 101, 102].map(|port| (meta(&frame(flow, true, port, TcpFlags::SYN)), Side::Outside))
    };
    (0..flows).flat_map(of).collect()
}

fn meta(Line(frame): &Line) -> PacketMeta {
    parse(frame, FRAME_BYTES as u32).expect("a good frame").0
}

/// A segment of a flow, from its client or to it.
fn frame(flow: u32, from_client: bool, dport: u16, flags: TcpFlags) -> Line {
    let client = ((0x2000_0000 + flow * 7).to_be_bytes(), 1024 + (flow % 60_000) as u16);
    let server = ([203, 0, 113, 1 + (flow % 250) as u8], dport);
    let (src, dst) = if from_client { (client, server) } else { (server, client) };
    let [seq, ack] = if from_client { [101, 501] } else { [501, 101] };
    let is_syn = flags.has(TcpFlags::SYN);
    let packet = PacketBuilder::ethernet2(NEIGHBOUR, ROUTER).ipv4(src.0, dst.0, 64);
    let mut packet = packet.tcp(src.1, dst.1, seq - u32::from(is_syn), 65_535);
    if is_syn {
        packet = packet.syn();
    }
    if flags.has(TcpFlags::ACK) {
        packet = packet.ack(ack);
    }
    let mut bytes = Vec::new();
    packet.write(&mut bytes, &[0; FRAME_BYTES - 54]).expect("memory");
    Line(bytes.try_into().expect("a frame of 64 bytes"))
}

/// A router through which the packets of traces pass to the servers.
pub(crate) fn router() -> Router {
    let side = |mac, address: &str, prefix: &str, via: &str| SideConfig {
        mac: Mac(mac),
        address: address.parse().expect("a network"),
        vlan: None,
        mtu: 1500,
        routes: vec![Route {
            prefix: prefix.parse().expect("a prefix"),
            via: via.parse().expect("an address"),
        }],
        neighbours: vec![(via.parse().expect("an address"), Mac(NEIGHBOUR))],
        bfd: Vec::new(),
    };
    Router::new(&RouterConfig {
        inside: side([2, 0, 0, 0, 0, 1], "10.0.0.1/24", "203.0.113.0/24", "10.0.0.254"),
        outside: side(ROUTER, "192.0.2.1/24", "0.0.0.0/0", "192.0.2.254"),
        pool: Vec::new(),
    })
}
