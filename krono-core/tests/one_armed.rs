//! A program that sends packets back through the side they came from: what a neighbour there says
//! in the middle of a burst holds for the packets behind.

use std::net::Ipv4Addr;

use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, PacketBuilder};
use krono_core::frame::MemFrame;
use krono_core::packet::{Endpoint, Mac, PacketMeta, Side};
use krono_core::program::{Events, Program, Slot, Translation, Verdict};
use krono_core::router::{Route, Router, RouterConfig, SideConfig};
use krono_core::shard::{Action, Outcomes, Scratch, Shard};
use krono_core::time::{Moment, Ticks};

const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
const GATEWAY: [u8; 4] = [10, 0, 0, 254];

struct Reflector(Translation);

impl Program for Reflector {
    type Record = ();
    type Probe = ();
    type Event = ();

    fn record(_: &PacketMeta, _: Side, _: Moment) {}
    fn probe(&self, _: &()) {}
    fn step(&mut self, _: &(), _: &(), _: &mut impl Events<()>) -> Verdict {
        Verdict::Forward { to: Side::Inside, source: Slot::NONE, destination: Slot(0) }
    }
    fn translation(&self, _: Slot) -> &Translation {
        &self.0
    }
    fn tick(&mut self, _: Ticks, _: &mut impl Events<()>) -> bool {
        false
    }
}

fn shard() -> Shard<Reflector> {
    let side = |address: &str, mac: [u8; 6]| SideConfig {
        mac: Mac(mac),
        address: address.parse().unwrap(),
        vlan: None,
        mtu: 1500,
        routes: vec![Route { prefix: "100.64.0.0/10".parse().unwrap(), via: GATEWAY.into() }],
        neighbours: Vec::new(),
        bfd: Vec::new(),
    };
    let outside = SideConfig { routes: Vec::new(), ..side("192.0.2.1/24", [2, 0, 0, 0, 0, 2]) };
    let inside = side("10.0.0.1/24", OWN);
    let router = Router::new(&RouterConfig { inside, outside, pool: Vec::new() });
    let host = Endpoint::new(Ipv4Addr::new(100, 64, 0, 9), 7);
    let public = Endpoint::new(Ipv4Addr::new(198, 51, 100, 1), 4000);
    Shard::new(router, Reflector(Translation::new(host, public)))
}

fn datagram() -> MemFrame {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 3], OWN)
        .ipv4([100, 64, 0, 5], [198, 51, 100, 1], 64)
        .udp(1000, 4000)
        .write(&mut bytes, &[0; 20])
        .unwrap();
    MemFrame::new(&bytes)
}

fn gateway_is_at(mac: [u8; 6]) -> MemFrame {
    let (hardware, reply) = (ArpHardwareId::ETHERNET, ArpOperation::REPLY);
    let arp =
        ArpPacket::new(hardware, EtherType::IPV4, reply, &mac, &GATEWAY, &OWN, &[10, 0, 0, 1]);
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(mac, OWN).arp(arp.unwrap()).write(&mut bytes).unwrap();
    MemFrame::new(&bytes)
}

#[test]
fn a_neighbour_that_moves_within_a_burst_is_followed_at_once() {
    let (first, second) = ([2, 0, 0, 0, 0, 0xaa], [2, 0, 0, 0, 0, 0xbb]);
    let mut frames =
        vec![gateway_is_at(first), datagram(), datagram(), gateway_is_at(second), datagram()];
    let (mut scratch, mut outcomes) = (Scratch::default(), Outcomes::new());
    let now = Moment::from(Ticks(5));
    shard().process(Side::Inside, frames.as_mut_slice(), now, &mut (), &mut scratch, &mut outcomes);
    let sent = Action::Send(Side::Inside);
    let actions: Vec<Action> = outcomes.iter().map(|outcome| outcome.action).collect();
    assert_eq!(actions, [Action::Consume, sent, sent, Action::Consume, sent]);
    let to = |index: usize| <[u8; 6]>::try_from(&frames[index].bytes()[..6]).unwrap();
    assert_eq!([1, 2, 4].map(to), [first, first, second]);
}
