//! Probes are hints: a burst of 64 does exactly what 64 bursts of 1 do, with the same new flow
//! twice in a burst, with expiry, displacement and reuse of ports and records within it.

mod common;

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use common::*;
use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, PacketBuilder};
use krono_core::frame::MemFrame;
use krono_core::packet::{Endpoint, Side};
use krono_core::router::{Route, RouterConfig};
use krono_core::shard::{Outcome, Outcomes};
use krono_core::time::{Span, Ticks};
use krono_nat::config::{Config, Filtering, Policy};
use krono_nat::{Change, Event};

/// A small, crowded translator: 40 records, 24 ports, no rest for freed ports.
fn crowded(filtering: Filtering) -> Config {
    let mut settings = Config {
        sessions: 40,
        subscribers: 6,
        pool: vec!["198.51.100.0/32".parse().unwrap()],
        ports: 4000..=4023,
        ports_per_subscriber: 12,
        policy: Policy { filtering, ..policy() },
        ..config()
    };
    settings.policy.timeouts.port_hold = Span(0);
    settings.policy.timeouts.udp = Span(30);
    settings.policy.timeouts.icmp = Span(10);
    settings.policy.timeouts.tcp_opening = Span(20);
    settings
}

/// Gateways that tell their addresses by ARP, two of them outside, where less fits the link.
fn router(config: &Config) -> RouterConfig {
    let mut router = common::router(config);
    let (prefix, via) = ("203.0.113.2/31".parse().unwrap(), Ipv4Addr::new(192, 0, 2, 253));
    router.outside.routes.push(Route { prefix, via });
    router.outside.mtu = 1000;
    router.inside.neighbours.clear();
    router.outside.neighbours.clear();
    router
}

/// One of the gateways says that one of two addresses is its own.
fn arp_reply(random: &mut Random, side: Side) -> Vec<u8> {
    let (to, shard, gateway) = match side {
        Side::Inside => (INSIDE_MAC, [10, 0, 0, 1], [10, 0, 0, 254]),
        Side::Outside => (OUTSIDE_MAC, [192, 0, 2, 1], [192, 0, 2, 253 + random.below(2) as u8]),
    };
    let mac = [2, 0, 0, 0, 0xfe, random.below(2) as u8];
    let arp = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        ArpOperation::REPLY,
        &mac,
        &gateway,
        &to,
        &shard,
    );
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(mac, to).arp(arp.unwrap()).write(&mut bytes).unwrap();
    bytes
}

fn frame(random: &mut Random, side: Side, src: Endpoint, dst: Endpoint) -> Vec<u8> {
    if random.one_in(20) {
        return arp_reply(random, side);
    }
    let to = if side == Side::Inside { INSIDE_MAC } else { OUTSIDE_MAC };
    let ttl = if random.below(40) == 0 { 1 } else { 64 };
    let ip =
        PacketBuilder::ethernet2(GATEWAY_MAC, to).ipv4(src.addr.octets(), dst.addr.octets(), ttl);
    let payload = vec![0x5a; if random.one_in(10) { 990 } else { random.below(30) as usize }];
    let mut bytes = Vec::new();
    match random.below(8) {
        0 => ip.icmpv4_echo_request(src.port, 1).write(&mut bytes, &payload).unwrap(),
        1 => ip.icmpv4_echo_reply(dst.port, 1).write(&mut bytes, &payload).unwrap(),
        2 | 3 => {
            let tcp = ip.tcp(src.port, dst.port, random.below(1 << 32) as u32, 1000);
            let tcp = match random.below(5) {
                0 | 1 => tcp.syn(),
                2 => tcp.syn().ack(random.below(1 << 32) as u32),
                3 => tcp.fin().ack(5),
                _ => tcp.rst(),
            };
            tcp.write(&mut bytes, &payload).unwrap();
        }
        _ => ip.udp(src.port, dst.port).write(&mut bytes, &payload).unwrap(),
    }
    if random.below(50) == 0 {
        let at = random.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << random.below(8);
    }
    bytes
}

fn burst(random: &mut Random, side: Side, public: &VecDeque<Endpoint>) -> Vec<MemFrame> {
    let remotes: Vec<_> = (1..=4).map(|n| ep(&format!("203.0.113.{n}:{}", 50 + n % 2))).collect();
    let count = 1 + random.below(64);
    let mut frames: Vec<MemFrame> = Vec::new();
    for _ in 0..count {
        if random.below(4) == 0
            && let Some(last) = frames.last()
        {
            frames.push(last.clone());
            continue;
        }
        let known = |random: &mut Random| match public.len() {
            0 => ep("198.51.100.0:4001"),
            known => public[random.below(known as u64) as usize],
        };
        let (src, dst) = match side {
            Side::Inside => {
                let host = random.below(8);
                let src = ep(&format!("100.64.0.{host}:{}", 1024 + random.below(5)));
                (src, if random.below(5) == 0 { known(random) } else { random.pick(&remotes) })
            }
            Side::Outside => (random.pick(&remotes), known(random)),
        };
        frames.push(MemFrame::new(&frame(random, side, src, dst)));
    }
    frames
}

fn run_at_once(
    (shard, scratch): &mut Worked,
    side: Side,
    frames: &mut [MemFrame],
    now: Ticks,
    events: &mut Vec<Event>,
) -> Vec<Outcome> {
    let mut outcomes = Outcomes::new();
    shard.process(side, frames, now.into(), events, scratch, &mut outcomes);
    outcomes.iter().collect()
}

#[test]
fn a_burst_of_64_equals_64_bursts_of_1() {
    let seed = std::env::var("KRONO_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut ended_in_burst = 0;
    let mut forwarded = 0;
    for seed in seed..seed + 60 {
        println!("KRONO_SEED={seed}");
        let modes = [
            Filtering::EndpointIndependent,
            Filtering::AddressDependent,
            Filtering::AddressAndPortDependent,
        ];
        let config = crowded(modes[seed as usize % 3]);
        let mut now = Ticks(u32::MAX - 200);
        let made = || shard_behind(&router(&config), &config, now);
        let (mut whole, mut single) = (made(), made());
        let (mut whole_events, mut single_events) = (Vec::new(), Vec::new());
        let mut random = Random(seed);
        let mut public = VecDeque::new();
        for _ in 0..200 {
            let side = random.pick(&Side::BOTH);
            let mut frames = burst(&mut random, side, &public);
            let mut copies = frames.clone();
            let before = whole_events.len();
            let outcomes = run_at_once(&mut whole, side, &mut frames, now, &mut whole_events);
            let expected: Vec<Outcome> = copies
                .iter_mut()
                .flat_map(|copy| {
                    let one = std::slice::from_mut(copy);
                    run_at_once(&mut single, side, one, now, &mut single_events)
                })
                .collect();
            assert_eq!(outcomes, expected);
            for (frame, copy) in frames.iter().zip(&copies) {
                assert_eq!(frame.bytes(), copy.bytes());
            }
            assert_eq!(whole_events, single_events);
            assert_eq!(whole.0.program.counts(), single.0.program.counts());
            whole.0.program.assert_consistent();
            let is_sent = |o: &&Outcome| matches!(o.action, krono_core::shard::Action::Send(_));
            forwarded += outcomes.iter().filter(is_sent).count();
            for event in &whole_events[before..] {
                match event.change {
                    Change::MappingCreated => public.push_back(event.outside),
                    Change::SessionDeleted => ended_in_burst += 1,
                    _ => {}
                }
            }
            while public.len() > 30 {
                public.pop_front();
            }
            now = Ticks(now.0.wrapping_add(random.below(8) as u32));
        }
    }
    assert!(ended_in_burst > 1000, "too few sessions ended within bursts: {ended_in_burst}");
    assert!(forwarded > 10_000, "too few frames came through: {forwarded}");
}
