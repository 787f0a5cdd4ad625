//! What the router decides, case by case.

use super::*;
use crate::packet::FlowMeta;
use crate::program::IcmpError;

pub(super) fn addr(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

pub(super) fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

pub(super) fn side(address: &str, own: u8, routes: &[(&str, &str)]) -> SideConfig {
    let route =
        |(prefix, via): &(&str, &str)| Route { prefix: prefix.parse().unwrap(), via: addr(via) };
    SideConfig {
        mac: mac(own),
        address: address.parse().unwrap(),
        vlan: None,
        mtu: 1500,
        routes: routes.iter().map(route).collect(),
        neighbours: Vec::new(),
        bfd: Vec::new(),
    }
}

/// The example of the documentation, with one pool on the outside link and one behind it.
fn config() -> RouterConfig {
    RouterConfig {
        inside: side("10.0.0.1/24", 0x11, &[("100.64.0.0/10", "10.0.0.254")]),
        outside: side("192.0.2.1/24", 0x22, &[("0.0.0.0/0", "192.0.2.254")]),
        pool: vec!["198.51.100.0/28".parse().unwrap(), "192.0.2.64/30".parse().unwrap()],
    }
}

const NOW: Ticks = Ticks(u32::MAX - 3);

/// A UDP packet to a side's own MAC address.
fn packet(own: u8, from: &str, to: &str) -> PacketMeta {
    PacketMeta { from: addr(from), to: addr(to), ttl: 64, link_to: mac(own), ..Default::default() }
}

fn untagged() -> Layout {
    Layout { vlan: Layout::UNTAGGED, ..Layout::default() }
}

fn admit_in(from: &str, to: &str) -> Result<Admitted, Refusal> {
    Router::new(&config()).admit(Side::Inside, &packet(0x11, from, to), &untagged())
}

fn admit_out(from: &str, to: &str) -> Result<Admitted, Refusal> {
    Router::new(&config()).admit(Side::Outside, &packet(0x22, from, to), &untagged())
}

#[test]
fn addresses_decide_what_a_packet_is() {
    use Admitted::{Local, Transit};
    use DropReason::{
        Land, MartianDestination, MartianSource, MulticastUnsupported, SpoofedSource,
    };
    let inside = [
        ("10.0.0.5", "203.0.113.1", Ok(Transit)),
        ("100.64.3.4", "203.0.113.1", Ok(Transit)),
        ("10.0.0.5", "198.51.100.3", Ok(Transit)),
        // RFC 4787, REQ-7: what lies outside may be numbered like anything else.
        ("10.0.0.5", "100.64.0.1", Ok(Transit)),
        ("10.0.0.5", "10.0.0.1", Ok(Local)),
        ("10.0.0.5", "192.0.2.1", Ok(Local)),
        // RFC 1122, 3.2.1.3 and RFC 1812, 5.3.7
        ("0.0.0.0", "203.0.113.1", Err(MartianSource)),
        ("0.1.2.3", "203.0.113.1", Err(MartianSource)),
        ("127.0.0.1", "203.0.113.1", Err(MartianSource)),
        ("224.0.0.1", "203.0.113.1", Err(MartianSource)),
        ("240.0.0.1", "203.0.113.1", Err(MartianSource)),
        ("255.255.255.255", "203.0.113.1", Err(MartianSource)),
        ("10.0.0.255", "203.0.113.1", Err(MartianSource)),
        ("10.0.0.0", "203.0.113.1", Err(MartianSource)),
        ("10.0.0.1", "203.0.113.1", Err(MartianSource)),
        ("127.0.0.1", "10.0.0.1", Err(MartianSource)),
        // RFC 2827
        ("203.0.113.9", "203.0.113.1", Err(SpoofedSource)),
        ("203.0.113.9", "10.0.0.1", Err(SpoofedSource)),
        ("198.51.100.3", "203.0.113.1", Err(SpoofedSource)),
        ("10.0.0.5", "10.0.0.5", Err(Land)),
        ("10.0.0.5", "224.0.0.251", Err(MulticastUnsupported)),
        ("10.0.0.5", "255.255.255.255", Err(MulticastUnsupported)),
        ("10.0.0.5", "10.0.0.255", Err(MulticastUnsupported)),
        ("10.0.0.5", "10.0.0.0", Err(MulticastUnsupported)),
        // RFC 2644
        ("10.0.0.5", "192.0.2.255", Err(MulticastUnsupported)),
        ("10.0.0.5", "0.0.0.0", Err(MartianDestination)),
        ("10.0.0.5", "127.0.0.1", Err(MartianDestination)),
        ("10.0.0.5", "169.254.169.254", Err(MartianDestination)),
        ("10.0.0.5", "240.0.0.1", Err(MartianDestination)),
    ];
    for (from, to, expected) in inside {
        let expected = expected.map_err(Refusal::from);
        assert_eq!(admit_in(from, to), expected, "inside, {from} to {to}");
    }
    let outside = [
        ("203.0.113.1", "198.51.100.3", Ok(Transit)),
        // Not an inside address as far as the outside knows.
        ("10.0.0.1", "198.51.100.3", Ok(Transit)),
        ("10.0.0.255", "198.51.100.3", Ok(Transit)),
        ("203.0.113.1", "192.0.2.1", Ok(Local)),
        ("192.0.2.1", "198.51.100.3", Err(MartianSource)),
        ("198.51.100.4", "198.51.100.3", Err(MartianSource)),
        ("192.0.2.65", "198.51.100.3", Err(MartianSource)),
        ("192.0.2.255", "198.51.100.3", Err(MartianSource)),
        // RFC 3927, 2.7
        ("169.254.0.5", "198.51.100.3", Err(MartianSource)),
        ("203.0.113.1", "203.0.113.1", Err(Land)),
        ("203.0.113.1", "10.0.0.255", Err(MulticastUnsupported)),
    ];
    for (from, to, expected) in outside {
        let expected = expected.map_err(Refusal::from);
        assert_eq!(admit_out(from, to), expected, "outside, {from} to {to}");
    }
}

#[test]
fn an_inside_default_route_admits_every_source_that_is_no_martian() {
    let mut config = config();
    config.inside.routes[0].prefix = "0.0.0.0/0".parse().unwrap();
    let router = Router::new(&config);
    let admit = |from| router.admit(Side::Inside, &packet(0x11, from, "203.0.113.1"), &untagged());
    assert_eq!(admit("203.0.113.9"), Ok(Admitted::Transit));
    assert_eq!(admit("127.0.0.1"), Err(DropReason::MartianSource.into()));
}

#[test]
fn links_of_two_addresses_have_no_broadcast() {
    let mut config = config();
    config.outside.address = "192.0.2.1/31".parse().unwrap();
    let router = Router::new(&config);
    let meta = packet(0x22, "192.0.2.0", "198.51.100.3");
    assert_eq!(router.admit(Side::Outside, &meta, &untagged()), Ok(Admitted::Transit));
}

#[test]
fn time_to_live_ends_here_but_not_for_the_router_itself() {
    let router = Router::new(&config());
    let admit = |ttl, to| {
        let meta = PacketMeta { ttl, ..packet(0x11, "10.0.0.5", to) };
        router.admit(Side::Inside, &meta, &untagged())
    };
    let ended = Refusal { reason: DropReason::TtlExceeded, error: Some(IcmpError::TTL_EXCEEDED) };
    for ttl in [0, 1] {
        assert_eq!(admit(ttl, "203.0.113.1"), Err(ended));
        assert_eq!(admit(ttl, "10.0.0.1"), Ok(Admitted::Local), "RFC 1812, 5.3.1");
    }
    assert_eq!(admit(2, "203.0.113.1"), Ok(Admitted::Transit));
}

#[test]
fn frames_are_for_this_mac_and_vlan() {
    use DropReason::{MacNotOurs, MulticastUnsupported, VlanUnknown};
    let ipv4_multicast = Mac([1, 0, 0x5e, 0, 0, 1]);
    let (ip, arp) = (Kind::Udp, Kind::ArpRequest);
    let cases = [
        (None, Layout::UNTAGGED, mac(0x11), ip, Ok(Admitted::Transit)),
        (None, 0, mac(0x11), ip, Ok(Admitted::Transit)),
        (None, 7, mac(0x11), ip, Err(VlanUnknown)),
        (Some(7), 7, mac(0x11), ip, Ok(Admitted::Transit)),
        (Some(7), 8, mac(0x11), ip, Err(VlanUnknown)),
        (Some(7), 0, mac(0x11), ip, Err(VlanUnknown)),
        (Some(7), Layout::UNTAGGED, mac(0x11), arp, Err(VlanUnknown)),
        (None, Layout::UNTAGGED, mac(0x22), ip, Err(MacNotOurs)),
        (None, Layout::UNTAGGED, mac(0x22), arp, Err(MacNotOurs)),
        (None, Layout::UNTAGGED, ipv4_multicast, arp, Err(MacNotOurs)),
        (None, Layout::UNTAGGED, ipv4_multicast, ip, Err(MulticastUnsupported)),
        (None, Layout::UNTAGGED, Mac::BROADCAST, ip, Err(MulticastUnsupported)),
        (None, Layout::UNTAGGED, Mac::BROADCAST, arp, Ok(Admitted::Arp)),
        (None, Layout::UNTAGGED, mac(0x11), Kind::ArpReply, Ok(Admitted::Arp)),
    ];
    for case @ (own, vlan, link_to, kind, expected) in cases {
        let mut config = config();
        config.inside.vlan = own;
        let router = Router::new(&config);
        let flow = FlowMeta { kind, ..FlowMeta::default() };
        let meta = PacketMeta { link_to, flow, ..packet(0, "10.0.0.5", "203.0.113.1") };
        let layout = Layout { vlan, ..Layout::default() };
        let admitted = router.admit(Side::Inside, &meta, &layout);
        assert_eq!(admitted, expected.map_err(Refusal::from), "{case:?}");
    }
}

fn arp(router: &mut Router, kind: Kind, from: &str, to: &str, sender: Mac) -> ArpFate {
    let flow = FlowMeta { kind, ..FlowMeta::default() };
    let meta = PacketMeta { flow, ..packet(0x22, from, to) };
    router.on_arp(Side::Outside, &meta, sender, NOW).fate
}

/// Where a packet through the outside to `to` goes now.
fn known(router: &mut Router, to: &str) -> Option<Mac> {
    match router.route(Side::Outside, addr(to), NOW) {
        Ok(Hop::Ready(id)) => Some(router.link(id).to),
        _ => None,
    }
}

#[test]
fn arp_is_answered_for_what_is_ours_on_that_link_and_only_askers_become_known() {
    use ArpFate::{Answer, Consume, Drop};
    use DropReason::{ArpConflict, ArpMalformed, ArpNotOurs};
    use Kind::{ArpReply, ArpRequest};
    const HOST: Mac = Mac([2, 0, 0, 0, 0, 0x77]);
    let cases = [
        (ArpRequest, "192.0.2.7", "192.0.2.1", HOST, Answer, Some(HOST)),
        // An on-link pool is answered for, one that is routed here is not.
        (ArpRequest, "192.0.2.7", "192.0.2.66", HOST, Answer, Some(HOST)),
        (ArpRequest, "192.0.2.7", "198.51.100.3", HOST, Drop(ArpNotOurs), None),
        // The other side's address is nobody's here.
        (ArpRequest, "192.0.2.7", "10.0.0.1", HOST, Drop(ArpNotOurs), None),
        (ArpRequest, "192.0.2.7", "192.0.2.9", HOST, Drop(ArpNotOurs), None),
        // Gratuitous, and answers nobody asked for
        (ArpRequest, "192.0.2.7", "192.0.2.7", HOST, Consume, None),
        (ArpReply, "192.0.2.7", "192.0.2.7", HOST, Consume, None),
        (ArpReply, "192.0.2.7", "192.0.2.1", HOST, Consume, None),
        (ArpReply, "192.0.2.7", "192.0.2.9", HOST, Drop(ArpNotOurs), None),
        // RFC 1812, 3.3.2
        (ArpRequest, "192.0.2.7", "192.0.2.1", Mac::BROADCAST, Drop(ArpMalformed), None),
        // Somebody else says that he is we, or we hear ourselves.
        (ArpRequest, "192.0.2.1", "192.0.2.1", HOST, Drop(ArpConflict), None),
        (ArpReply, "192.0.2.1", "192.0.2.7", HOST, Drop(ArpConflict), None),
        (ArpRequest, "192.0.2.66", "192.0.2.7", HOST, Drop(ArpConflict), None),
        (ArpRequest, "192.0.2.7", "192.0.2.1", Mac([2, 0, 0, 0, 0, 0x22]), Drop(ArpConflict), None),
        // A probe (RFC 5227, 2.1.1) for our address is told that it is taken.
        (ArpRequest, "0.0.0.0", "192.0.2.1", HOST, Answer, None),
    ];
    for case @ (kind, from, to, sender, fate, learned) in cases {
        let mut router = Router::new(&config());
        assert_eq!(arp(&mut router, kind, from, to, sender), fate, "{case:?}");
        assert_eq!(known(&mut router, "192.0.2.7"), learned, "{case:?}");
    }
}

#[test]
fn a_pool_is_answered_for_on_the_outside_only() {
    let mut config = config();
    config.pool.push("10.0.0.64/30".parse().unwrap());
    let router = Router::new(&config);
    assert!(!router.answers_for(Side::Inside, addr("10.0.0.65")));
    assert!(router.answers_for(Side::Outside, addr("192.0.2.65")));
}

#[test]
fn a_station_of_another_network_is_answered_but_not_known() {
    let mut router = Router::new(&config());
    let answer = arp(&mut router, Kind::ArpRequest, "192.168.9.9", "192.0.2.1", mac(9));
    assert_eq!(answer, ArpFate::Answer);
    assert_eq!(router.neighbours.find(Side::Outside, addr("192.168.9.9")), None);
}

#[test]
fn whatever_a_known_neighbour_says_updates_it_unless_it_is_static() {
    let mut config = config();
    config.outside.neighbours.push((addr("192.0.2.8"), mac(8)));
    let others = [
        (Kind::ArpRequest, "192.0.2.7"),
        (Kind::ArpReply, "192.0.2.7"),
        (Kind::ArpReply, "192.0.2.9"),
        (Kind::ArpRequest, "192.0.2.9"),
        (Kind::ArpRequest, "192.0.2.1"),
    ];
    for (kind, to) in others {
        let mut router = Router::new(&config);
        arp(&mut router, Kind::ArpRequest, "192.0.2.7", "192.0.2.1", mac(7));
        arp(&mut router, kind, "192.0.2.7", to, mac(0x70));
        arp(&mut router, kind, "192.0.2.7", to, Mac::BROADCAST);
        arp(&mut router, kind, "192.0.2.8", to, mac(0x80));
        assert_eq!(known(&mut router, "192.0.2.7"), Some(mac(0x70)), "{kind:?} {to}");
        assert_eq!(known(&mut router, "192.0.2.8"), Some(mac(8)), "{kind:?} {to}");
    }
}

#[test]
fn routes_lead_to_gateways_and_the_connected_network_to_the_destination() {
    let mut config = config();
    // No route takes the connected network away.
    config
        .outside
        .routes
        .push(Route { prefix: "192.0.2.0/24".parse().unwrap(), via: addr("192.0.2.254") });
    let mut router = Router::new(&config);
    let wait = |hop| match hop {
        Ok(Hop::Wait(id)) => id,
        other => panic!("{other:?}"),
    };
    let gateway = wait(router.route(Side::Outside, addr("203.0.113.1"), NOW));
    assert_eq!(wait(router.route(Side::Outside, addr("203.0.113.2"), NOW)), gateway);
    assert_eq!(wait(router.route(Side::Outside, addr("192.0.2.254"), NOW)), gateway);
    assert_ne!(wait(router.route(Side::Outside, addr("192.0.2.7"), NOW)), gateway);
    assert_ne!(wait(router.route(Side::Inside, addr("100.64.0.1"), NOW)), gateway);

    assert_eq!(router.learn(Side::Inside, addr("192.0.2.254"), mac(9), NOW), None);
    assert_eq!(router.learn(Side::Outside, addr("192.0.2.254"), mac(9), NOW), Some(gateway));
    let link = LinkHeader { to: mac(9), from: mac(0x22), vlan: None };
    assert_eq!(*router.link(gateway), link);
    assert_eq!(router.route(Side::Outside, addr("203.0.113.3"), NOW), Ok(Hop::Ready(gateway)));
    assert_eq!(router.learn(Side::Outside, addr("192.0.2.254"), mac(9), NOW), None);
}

#[test]
fn what_cannot_be_reached_is_refused() {
    let mut router = Router::new(&config());
    let net = Some(IcmpError::NET_UNREACHABLE);
    let refused = [
        (Side::Inside, "203.0.113.1", Refusal { reason: DropReason::NoRoute, error: net }),
        // An out-of-range destination of a translation is as little a neighbour as we are.
        (Side::Inside, "10.0.0.255", DropReason::MulticastUnsupported.into()),
        (Side::Inside, "10.0.0.1", UNREACHABLE),
        (Side::Outside, "192.0.2.66", UNREACHABLE),
    ];
    for (side, to, refusal) in refused {
        assert_eq!(router.route(side, addr(to), NOW), Err(refusal), "{side} {to}");
    }
}

#[test]
fn icmp_errors_are_limited_per_side() {
    let mut router = Router::new(&config());
    let mut allowed =
        |side, now| (0..1000).filter(|_| router.error_allowed(side, now)).count() as u32;
    assert_eq!(allowed(Side::Inside, NOW), ICMP_ERRORS_BURST);
    assert_eq!(allowed(Side::Outside, NOW), ICMP_ERRORS_BURST);
    assert_eq!(allowed(Side::Inside, Ticks(NOW.0 + 1)), ICMP_ERRORS_PER_TICK);
}

/// The quick look at addresses must not let pass what the full one refuses or delivers.
#[test]
fn no_ordinary_address_would_need_a_closer_look() {
    let of_interest = [
        0,
        1,
        0x00ff_ffff,
        0x0100_0000,
        0x7eff_ffff,
        0x7f00_0000,
        0x7fff_ffff,
        0x8000_0000,
        0xa9fd_ffff,
        0xa9fe_0000,
        0xa9fe_ffff,
        0xa9ff_0000,
        0xdfff_ffff,
        // Around subscribers' networks and the pool.
        0x643f_ffff,
        0x6440_0000,
        0x6442_0001,
        0x647f_ffff,
        0x6480_0000,
        0x6501_7fff,
        0x6501_8000,
        0x6502_0000,
        0xc633_63ff,
        0xc633_6400,
        0xc633_640f,
        0xc633_6410,
        0xc634_0000,
        0xe000_0000,
        u32::MAX,
    ];
    let links = [
        ("10.0.0.1/24", "192.0.2.1/24"),
        ("10.7.255.1/13", "100.64.0.1/31"),
        ("172.16.0.0/30", "172.16.0.6/30"),
        ("10.255.255.255/8", "0.0.0.5/0"),
    ];
    let mut ordinary = [0; 2];
    for (inside, outside) in links {
        let mut config = config();
        (config.inside.address, config.outside.address) =
            (inside.parse().unwrap(), outside.parse().unwrap());
        let half_a_block =
            Route { prefix: "101.1.128.0/17".parse().unwrap(), via: addr("10.0.0.9") };
        config.inside.neighbours.push((half_a_block.via, mac(9)));
        config.inside.routes.push(half_a_block);
        let router = Router::new(&config);
        let near = [inside, outside].map(|net| net.parse::<Ipv4Net>().unwrap());
        let near = near.iter().flat_map(|net| [net.addr(), net.network(), net.broadcast()]);
        let near =
            near.flat_map(|addr| [-1, 0, 1].map(|by| addr.to_bits().wrapping_add_signed(by)));
        let addrs: Vec<Ipv4Addr> = of_interest.into_iter().chain(near).map(Into::into).collect();
        for (from, to) in addrs.iter().flat_map(|from| addrs.iter().map(move |to| (*from, *to))) {
            for side in Side::BOTH.into_iter().filter(|side| router.is_ordinary(*side, from, to)) {
                ordinary[side as usize] += 1;
                let full = router.check_addresses(side, from, to);
                assert_eq!(full, Ok(false), "{side}, {from} to {to}");
            }
        }
    }
    assert!(ordinary.iter().all(|pairs| *pairs > 100), "{ordinary:?} pairs");
}
