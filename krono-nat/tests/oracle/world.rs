//! A small world, in which everything collides: few hosts, ports and remote endpoints, and tables
//! that are always about to be full.

use krono_core::packet::{Endpoint, Kind, PacketMeta, Protocol, Side, TcpFlags, TcpMeta};
use krono_core::time::Span;
use krono_nat::config::{Config, Filtering, Firewall, Policy, Rule, StaticMapping, Timeouts};

use crate::common::{self, Random, addr, ep};
use crate::model::Oracle;

const HOSTS: [&str; 4] = ["100.64.0.1", "100.64.0.2", "100.64.0.3", "100.64.0.4"];
const REMOTES: [&str; 4] = ["203.0.113.1", "203.0.113.2", "192.168.100.1", "192.168.100.2"];
const INSIDE_PORTS: [u16; 5] = [0, 500, 1024, 1025, 5000];
const REMOTE_PORTS: [u16; 3] = [50, 80, 5000];

const ACK: TcpFlags = TcpFlags::ACK;

pub fn config(random: &mut Random) -> Config {
    let (first, last) = random.pick(&[(1016, 1035), (4000, 4007), (1020, 1025)]);
    let pools = ["198.51.100.0/32", "198.51.100.0/31"];
    Config {
        sessions: 4 + random.below(30) as usize,
        subscribers: 2 + random.below(4) as usize,
        pool: vec![random.pick(&pools).parse().unwrap()],
        inside: vec!["100.64.0.0/16".parse().unwrap()],
        // Both classes of ports, one of them, or only a few.
        ports: first..=last,
        ports_per_subscriber: 2 + random.below(8) as u16,
        seed: [random.below(256) as u8; 32],
        policy: policy(random),
    }
}

pub fn policy(random: &mut Random) -> Policy {
    let exclude = match random.below(4) {
        0 => vec![],
        1 => vec!["192.168.100.0/24".parse().unwrap()],
        _ => vec!["192.168.100.1/32".parse().unwrap()],
    };
    Policy {
        filtering: random.pick(&[
            Filtering::EndpointIndependent,
            Filtering::AddressDependent,
            Filtering::AddressAndPortDependent,
        ]),
        hairpinning: !random.one_in(4),
        timeouts: timeouts(random),
        exclude,
        statics: statics(random),
        firewall: firewall(random),
    }
}

fn timeouts(random: &mut Random) -> Timeouts {
    if random.one_in(4) {
        return Timeouts::default();
    }
    let mut span = |most| Span(random.below(most) as u32);
    Timeouts {
        udp: span(60),
        icmp: span(30),
        tcp_established: span(400),
        tcp_opening: span(60),
        tcp_closing: span(60),
        port_hold: span(80),
    }
}

/// Any of a few, each endpoint at most once.
fn statics(random: &mut Random) -> Vec<StaticMapping> {
    let mut mappings: Vec<StaticMapping> = Vec::new();
    for _ in 0..random.below(3) {
        let wanted = StaticMapping {
            protocol: random.pick(&[Protocol::Udp, Protocol::Tcp]),
            inside: ep(&format!("{}:{}", random.pick(&HOSTS), random.pick(&[500, 5000]))),
            outside: ep(&format!("198.51.100.0:{}", random.pick(&[53, 1022, 1025, 4001]))),
        };
        let is_free = |mapping: &StaticMapping| {
            mapping.protocol != wanted.protocol
                || mapping.inside != wanted.inside && mapping.outside != wanted.outside
        };
        if mappings.iter().all(is_free) {
            mappings.push(wanted);
        }
    }
    mappings
}

fn firewall(random: &mut Random) -> Firewall {
    let mut rules = Vec::new();
    for _ in 0..random.below(3) {
        let networks = ["0.0.0.0/0", "203.0.113.0/24", "203.0.113.1/32", "100.64.0.1/32"];
        let ports = [0..=65535, 80..=80, 500..=5000];
        rules.push(Rule {
            allow: random.one_in(2),
            opened_from: random.pick(&Side::BOTH),
            protocol: random.pick(&[None, None, Some(Protocol::Tcp), Some(Protocol::Icmp)]),
            from: random.pick(&networks).parse().unwrap(),
            to: random.pick(&networks).parse().unwrap(),
            source_port: ports[random.below(3) as usize].clone(),
            port: ports[random.below(3) as usize].clone(),
        });
    }
    Firewall { drop_inbound: random.one_in(3), rules }
}

/// A packet that may come next: of a session that there is, or was to be, or of none.
pub fn packet(random: &mut Random, oracle: &Oracle) -> (Side, PacketMeta) {
    let side = random.pick(&Side::BOTH);
    let (protocol, src, dst) = flow(random, oracle, side);
    if random.one_in(8) {
        return (side, error(random, protocol, src, dst));
    }
    let meta = match protocol {
        Protocol::Udp => common::udp(src, dst),
        Protocol::Tcp => common::tcp_packet(src, dst, segment(random, oracle, side, src, dst)),
        Protocol::Icmp => query(random, side, src, dst),
    };
    (side, meta)
}

/// The ends of a packet that comes from `side`.
fn flow(random: &mut Random, oracle: &Oracle, side: Side) -> (Protocol, Endpoint, Endpoint) {
    if !oracle.sessions.is_empty() && !random.one_in(3) {
        let nth = random.below(oracle.sessions.len() as u64) as usize;
        let ((inside, remote), session) = oracle.sessions.iter().nth(nth).unwrap();
        let public = oracle.mappings.get(inside).filter(|_| session.translated);
        let here = public.map_or(inside.1, |mapping| mapping.public);
        return match side {
            Side::Inside => (inside.0, inside.1, *remote),
            Side::Outside => (inside.0, *remote, here),
        };
    }
    let protocol = random.pick(&Protocol::ALL);
    let inside = endpoint(random, &HOSTS, &INSIDE_PORTS);
    let mut remote = endpoint(random, &REMOTES, &REMOTE_PORTS);
    if protocol == Protocol::Icmp {
        remote.port = 0;
    }
    match side {
        Side::Inside => match random.below(8) {
            0 | 1 => (protocol, inside, public(random, oracle, protocol)),
            2 if random.one_in(3) => (protocol, inside, endpoint(random, &HOSTS, &INSIDE_PORTS)),
            _ => (protocol, inside, remote),
        },
        Side::Outside => match random.below(4) {
            0 => (protocol, remote, inside),
            1 if random.one_in(4) => (protocol, remote, ep("203.0.113.9:9")),
            _ => (protocol, remote, public(random, oracle, protocol)),
        },
    }
}

fn endpoint(random: &mut Random, hosts: &[&str], ports: &[u16]) -> Endpoint {
    Endpoint::new(addr(random.pick(hosts)), random.pick(ports))
}

/// Mostly a public endpoint that somebody has.
fn public(random: &mut Random, oracle: &Oracle, protocol: Protocol) -> Endpoint {
    let owned: Vec<Endpoint> = oracle
        .mappings
        .iter()
        .filter(|((of, _), _)| *of == protocol)
        .map(|(_, mapping)| mapping.public)
        .collect();
    if owned.is_empty() || random.one_in(5) {
        return ep(&format!("198.51.100.0:{}", random.pick(&[53, 1022, 1025, 4001, 9999])));
    }
    random.pick(&owned)
}

fn query(random: &mut Random, side: Side, src: Endpoint, dst: Endpoint) -> PacketMeta {
    // Only who asks has an identifier; a session's packets mostly go the right way. A query that
    // seems to be for an identifier must find nobody either, whatever the mapping of 0 is.
    let asks = (side == Side::Inside) != random.one_in(6);
    let (src, dst) = match asks {
        true if side == Side::Outside && random.one_in(2) => (src, dst),
        true => (src, Endpoint::new(dst.addr, 0)),
        false => (Endpoint::new(src.addr, 0), dst),
    };
    let kind = if asks { Kind::IcmpRequest } else { Kind::IcmpReply };
    let mut query = common::udp(src, dst);
    (query.kind, query.protocol) = (kind, Protocol::Icmp);
    query
}

/// An error about a packet that went from `dst` to `src`, from anybody, mostly to its sender.
fn error(random: &mut Random, protocol: Protocol, src: Endpoint, dst: Endpoint) -> PacketMeta {
    let mut error = common::error(random.pick(&REMOTES), protocol, dst, src);
    if random.one_in(10) {
        error.to = src.addr;
    }
    error
}

/// A segment that fits the connection, nearly fits it, or is made up.
fn segment(
    random: &mut Random,
    oracle: &Oracle,
    side: Side,
    src: Endpoint,
    dst: Endpoint,
) -> TcpMeta {
    let between = match side {
        Side::Inside => Some(((Protocol::Tcp, src), dst)),
        Side::Outside => oracle.owner(Protocol::Tcp, dst).map(|inside| (inside, src)),
    };
    let tcp = between.and_then(|key| oracle.sessions.get(&key)).and_then(|s| s.tcp.as_ref());
    let (sent, expects) = tcp.map_or((0, 0), |tcp| (tcp.sent, tcp.expects().unwrap_or(0)));
    let (seq, ack) = match side {
        Side::Inside => (sent, expects),
        Side::Outside => (expects, sent),
    };
    let near = |random: &mut Random, number: u32| match random.below(8) {
        0 => random.below(1 << 32) as u32,
        1 => number.wrapping_add(random.pick(&[1, 999, 1000, 1001, 65_535, 1 << 30, 1 << 31])),
        2 => number.wrapping_sub(random.pick(&[1, 1000, 1 << 30, (1 << 30) + 1, 1 << 31])),
        _ => number,
    };
    let fin = TcpFlags::FIN;
    let flags = match random.below(12) {
        0..=2 => TcpFlags::SYN,
        3 | 4 => TcpFlags::SYN.with(ACK),
        5 | 6 => fin.with(ACK),
        7 => TcpFlags::RST,
        8 => TcpFlags::RST.with(ACK),
        9 => random.pick(&[fin, TcpFlags::PSH, fin.with(TcpFlags::PSH).with(ACK)]),
        _ => ACK,
    };
    TcpMeta {
        seq: near(random, seq),
        ack: near(random, ack),
        window: random.pick(&[0, 1, 1000, 1000, 65_535]),
        payload_len: random.pick(&[0, 0, 0, 1, 1000]),
        flags,
        window_scale: random.pick(&[TcpMeta::NO_SCALE, 0, 7, 14, 15]),
    }
}
