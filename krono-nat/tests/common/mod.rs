//! A bed to test the translator on: packets as values in, verdicts as endpoints out.
#![allow(dead_code, unreachable_pub, reason = "every test file uses its own part")]

use std::net::Ipv4Addr;

use krono_core::carve;
use krono_core::drop::DropReason;
use krono_core::packet::{
    Endpoint, FlowMeta, Kind, Mac, PacketMeta, Protocol, Side, TcpFlags, TcpMeta,
};
use krono_core::ports::Part;
use krono_core::program::{IcmpError, Program, Slot, Verdict};
use krono_core::router::{Route, Router, RouterConfig, SideConfig};
use krono_core::shard::{Scratch, Shard};
use krono_core::time::{TICKS_PER_SECOND, Ticks};
use krono_nat::config::{Config, Filtering, Firewall, Policy, Timeouts};
use krono_nat::{Event, Nat};
use zerocopy::IntoBytes;

pub fn ep(text: &str) -> Endpoint {
    let (addr, port) = text.split_once(':').expect("ADDR:PORT");
    Endpoint::new(addr.parse().expect("an address"), port.parse().expect("a port"))
}

pub fn policy() -> Policy {
    Policy {
        filtering: Filtering::AddressAndPortDependent,
        hairpinning: true,
        timeouts: Timeouts::default(),
        exclude: vec!["192.168.100.0/24".parse().unwrap()],
        statics: vec![],
        firewall: Firewall::default(),
    }
}

pub fn config() -> Config {
    Config {
        sessions: 1000,
        subscribers: 100,
        pool: vec!["198.51.100.0/30".parse().unwrap()],
        inside: vec!["100.64.0.0/16".parse().unwrap()],
        ports: 1024..=65535,
        ports_per_subscriber: 200,
        seed: [7; 32],
        policy: policy(),
    }
}

pub fn filtering(filtering: Filtering) -> Config {
    Config { policy: Policy { filtering, ..policy() }, ..config() }
}

pub struct Bed {
    pub nat: Nat<'static>,
    pub now: Ticks,
    pub events: Vec<Event>,
    /// Packets so far.
    packets: u32,
}

/// What became of a packet: its source and destination behind the translator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    pub to: Side,
    pub src: Endpoint,
    pub dst: Endpoint,
}

impl Bed {
    pub fn new(config: &Config) -> Bed {
        Bed::starting_at(config, Ticks(u32::MAX - 100))
    }

    pub fn starting_at(config: &Config, now: Ticks) -> Bed {
        let memory = Box::leak(carve::heap(Nat::memory_bytes(config)).into_boxed_slice());
        let nat = Nat::new(config, memory.as_mut_bytes(), now).expect("static mappings fit");
        Bed { nat, now, events: Vec::new(), packets: 0 }
    }

    /// One that gives out a part of the ports.
    pub fn of_part(config: &Config, part: Part) -> Bed {
        let memory = Box::leak(carve::heap(Nat::memory_bytes(config)).into_boxed_slice());
        let now = Ticks(1000);
        let nat = Nat::with_part(config, part, memory.as_mut_bytes(), now).expect("nothing static");
        Bed { nat, now, events: Vec::new(), packets: 0 }
    }

    /// Lets time pass as a worker does: a tick at every tick.
    pub fn wait_ticks(&mut self, ticks: u32) {
        for _ in 0..ticks {
            self.now = Ticks(self.now.0.wrapping_add(1));
            self.nat.tick(self.now, &mut self.events);
        }
        self.nat.assert_consistent();
    }

    pub fn wait(&mut self, seconds: u32) {
        self.wait_ticks(seconds * TICKS_PER_SECOND);
    }

    pub fn verdict(&mut self, side: Side, meta: &PacketMeta) -> Verdict {
        let record = Nat::record(meta, side, self.now.into());
        let mut probe = self.nat.probe(&record);
        (0..).take_while(|look| self.nat.touch(&record, &mut probe, *look)).count();
        // A shard asks `pass` first. Every other packet goes without, which must not matter.
        self.packets += 1;
        let slot = match self.packets % 2 {
            0 => None,
            _ => self.nat.pass(side, &record, &probe),
        };
        if let Some(slot) = slot {
            let (source, destination) = slot.inside_end(side);
            return Verdict::Forward { to: side.opposite(), source, destination };
        }
        self.nat.step(&record, &probe, &mut self.events)
    }

    pub fn pass(&mut self, side: Side, meta: &PacketMeta) -> Result<Passed, Verdict> {
        match self.verdict(side, meta) {
            Verdict::Forward { to, source, destination } => {
                let at = |slot: Slot| slot.is_some().then(|| *self.nat.translation(slot));
                Ok(Passed {
                    to,
                    src: at(source).map_or(meta.src, |source| source.outside()),
                    dst: at(destination).map_or(meta.dst, |destination| destination.inside()),
                })
            }
            other => Err(other),
        }
    }

    /// A UDP datagram from inside; its public source.
    pub fn out(&mut self, src: &str, dst: &str) -> Result<Endpoint, Verdict> {
        self.pass(Side::Inside, &udp(ep(src), ep(dst))).map(|passed| passed.src)
    }

    /// A UDP datagram from outside; the subscriber it reaches.
    pub fn back(&mut self, src: &str, dst: Endpoint) -> Result<Endpoint, Verdict> {
        self.pass(Side::Outside, &udp(ep(src), dst)).map(|passed| passed.dst)
    }

    pub fn tcp_out(&mut self, src: &str, dst: &str, tcp: TcpMeta) -> Result<Endpoint, Verdict> {
        self.pass(Side::Inside, &tcp_packet(ep(src), ep(dst), tcp)).map(|passed| passed.src)
    }

    pub fn tcp_back(
        &mut self,
        src: &str,
        dst: Endpoint,
        tcp: TcpMeta,
    ) -> Result<Endpoint, Verdict> {
        self.pass(Side::Outside, &tcp_packet(ep(src), dst, tcp)).map(|passed| passed.dst)
    }

    /// Opens a connection from inside, up to the third segment of the handshake.
    pub fn connect(&mut self, src: &str, dst: &str) -> Endpoint {
        let public = self.tcp_out(src, dst, syn(100)).expect("SYN passes");
        self.tcp_back(dst, public, syn_ack(500, 101)).expect("SYN-ACK passes");
        self.tcp_out(src, dst, ack(101, 501)).expect("ACK passes");
        public
    }
}

pub fn udp(src: Endpoint, dst: Endpoint) -> PacketMeta {
    packet(Kind::Udp, Protocol::Udp, src, dst)
}

pub fn tcp_packet(src: Endpoint, dst: Endpoint, tcp: TcpMeta) -> PacketMeta {
    let mut meta = packet(Kind::Tcp, Protocol::Tcp, src, dst);
    meta.tcp = tcp;
    meta
}

pub fn ping(src: &str, identifier: u16, dst: &str) -> PacketMeta {
    let (src, dst) = (addr(src), addr(dst));
    packet(Kind::IcmpRequest, Protocol::Icmp, Endpoint::new(src, identifier), Endpoint::new(dst, 0))
}

pub fn pong(src: &str, dst: Endpoint) -> PacketMeta {
    packet(Kind::IcmpReply, Protocol::Icmp, Endpoint::new(addr(src), 0), dst)
}

/// An ICMP error from `from` about a packet that went from `src` to `dst`.
pub fn error(from: &str, protocol: Protocol, src: Endpoint, dst: Endpoint) -> PacketMeta {
    PacketMeta { from: addr(from), to: src.addr, ..packet(Kind::IcmpError, protocol, dst, src) }
}

fn packet(kind: Kind, protocol: Protocol, src: Endpoint, dst: Endpoint) -> PacketMeta {
    let flow = FlowMeta { kind, protocol, src, dst, ..FlowMeta::default() };
    PacketMeta { flow, from: src.addr, to: dst.addr, ..PacketMeta::default() }
}

pub fn addr(text: &str) -> Ipv4Addr {
    text.parse().expect("an address")
}

pub fn syn(seq: u32) -> TcpMeta {
    segment(TcpFlags::SYN, seq, 0)
}

pub fn syn_ack(seq: u32, ack: u32) -> TcpMeta {
    segment(TcpFlags::SYN.with(TcpFlags::ACK), seq, ack)
}

pub fn ack(seq: u32, ack: u32) -> TcpMeta {
    segment(TcpFlags::ACK, seq, ack)
}

pub fn fin(seq: u32, ack: u32) -> TcpMeta {
    segment(TcpFlags::FIN.with(TcpFlags::ACK), seq, ack)
}

pub fn rst(seq: u32) -> TcpMeta {
    segment(TcpFlags::RST, seq, 0)
}

fn segment(flags: TcpFlags, seq: u32, ack: u32) -> TcpMeta {
    TcpMeta { flags, seq, ack, window: 1000, payload_len: 0, window_scale: TcpMeta::NO_SCALE }
}

pub fn dropped(reason: DropReason) -> Verdict {
    Verdict::Drop(reason)
}

pub fn unreachable(reason: DropReason) -> Verdict {
    Verdict::Reject(reason, IcmpError::HOST_UNREACHABLE)
}

pub const INSIDE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const OUTSIDE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];

fn side(mac: [u8; 6], address: &str, route: &str, via: &str) -> SideConfig {
    SideConfig {
        mac: Mac(mac),
        address: address.parse().unwrap(),
        vlan: None,
        mtu: 1500,
        routes: vec![Route { prefix: route.parse().unwrap(), via: via.parse().unwrap() }],
        neighbours: vec![(via.parse().unwrap(), Mac(GATEWAY_MAC))],
        bfd: Vec::new(),
    }
}

/// A shard with what its bursts leave behind.
pub type Worked = (Shard<Nat<'static>>, Box<Scratch<Nat<'static>>>);

pub fn router(config: &Config) -> RouterConfig {
    RouterConfig {
        inside: side(INSIDE_MAC, "10.0.0.1/24", "100.64.0.0/16", "10.0.0.254"),
        outside: side(OUTSIDE_MAC, "192.0.2.1/24", "0.0.0.0/0", "192.0.2.254"),
        pool: config.pool.clone(),
    }
}

pub fn shard(config: &Config, now: Ticks) -> Worked {
    shard_behind(&router(config), config, now)
}

pub fn shard_behind(router: &RouterConfig, config: &Config, now: Ticks) -> Worked {
    let router = Router::new(router);
    let memory = Box::leak(carve::heap(Nat::memory_bytes(config)).into_boxed_slice());
    let nat = Nat::new(config, memory.as_mut_bytes(), now).expect("no static mappings");
    (Shard::new(router, nat), Box::default())
}

/// A small generator of numbers (SplitMix64), so that a printed seed repeats a run.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// True once in `of` times.
    pub fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }
}
