//! What a shard says itself, and what it will not touch.

use krono_core::drop::DropReason;
use krono_core::packet::Mac;
use krono_core::packet::Side::{Inside, Outside};

use crate::bed::{Bed, router_mac, shard_mac};
use crate::packet::Segment::Syn;
use crate::packet::{
    Frame, Packet, arp_reply, arp_request, echo_reply, echo_request, error_of_shard, icmp, other,
    tcp, udp,
};
use crate::{HOST, PUBLIC, SERVER};

const STATION: Mac = Mac([2, 0, 0, 0, 0, 0x99]);

/// RFC 1812, 4.3.2.3 to 4.3.2.5 and 5.3.1: from the side's own address, to the station that the
/// packet came from.
#[test]
fn ttl_exceeded_is_told_to_either_side() {
    let bed = &mut Bed::new();
    for ttl in [0, 1] {
        let late = udp(HOST, SERVER).ttl(ttl);
        let answer = error_of_shard("10.0.0.1", "100.64.0.5", 11, 0).quoting_all(&late);
        bed.rejects(
            Inside,
            late.frame().from(STATION),
            DropReason::TtlExceeded,
            answer.frame().to(STATION),
        );
        let late = tcp(SERVER, PUBLIC, Syn).ttl(ttl);
        let answer = error_of_shard("192.0.2.1", "203.0.113.9", 11, 0).quoting_all(&late);
        bed.rejects(
            Outside,
            late.frame().from(STATION),
            DropReason::TtlExceeded,
            answer.frame().to(STATION),
        );
    }
    bed.forwards(Inside, udp(HOST, SERVER).ttl(2), udp(PUBLIC, SERVER).ttl(1));
}

/// RFC 1812, 4.3.2.3: as much as fits 576 bytes.
#[test]
fn an_error_quotes_at_most_548_bytes() {
    let bed = &mut Bed::new();
    for len in [547, 548, 549, 1500] {
        let late = udp(HOST, SERVER).ip_len(len).ttl(1);
        let quote = &late.ip_bytes()[..len.min(548)];
        let answer = error_of_shard("10.0.0.1", "100.64.0.5", 11, 0).payload(quote);
        bed.rejects(Inside, late, DropReason::TtlExceeded, answer);
    }
}

/// RFC 1191; the MTU is that of the way out.
#[test]
fn rfc4787_req13_too_long_a_packet_with_df_is_told_the_mtu() {
    let bed = &mut Bed::with(|settings| {
        settings.router.outside.mtu = 1400;
        settings.router.inside.mtu = 1300;
    });
    let datagram = |len| udp(HOST, SERVER).ip_len(len).dont_fragment();
    let sent = udp(PUBLIC, SERVER).ip_len(1400).dont_fragment();
    bed.forwards(Inside, datagram(1400), sent.ttl(63));
    let error = error_of_shard("10.0.0.1", "100.64.0.5", 3, 4).word([0, 0, 0x05, 0x78]);
    let answer = error.payload(&datagram(1401).ip_bytes()[..548]);
    bed.rejects(Inside, datagram(1401), DropReason::FragmentationNeeded, answer);

    let datagram = |len| udp(SERVER, PUBLIC).ip_len(len).dont_fragment();
    let received = udp(SERVER, HOST).ip_len(1300).dont_fragment();
    bed.forwards(Outside, datagram(1300), received.ttl(63));
    let error = error_of_shard("192.0.2.1", "203.0.113.9", 3, 4).word([0, 0, 0x05, 0x14]);
    let answer = error.payload(&datagram(1301).ip_bytes()[..548]);
    bed.rejects(Outside, datagram(1301), DropReason::FragmentationNeeded, answer);
    // REQ-13 a wants it fragmented, which is not implemented.
    bed.drops(Inside, udp(HOST, SERVER).ip_len(1401), DropReason::TooBig);
}

#[test]
fn unreachable_ways_are_told() {
    let bed = &mut Bed::with(|settings| settings.router.outside.routes.clear());
    let lost = udp(HOST, SERVER);
    let answer = error_of_shard("10.0.0.1", "100.64.0.5", 3, 0).quoting_all(&lost);
    bed.rejects(Inside, lost, DropReason::NoRoute, answer);
}

/// RFC 1122, 3.2.2.6: everything but the addresses, the type and the TTL is kept.
#[test]
fn the_shard_answers_pings() {
    let bed = &mut Bed::new();
    let from_station = |ping: Packet| ping.frame().from(STATION);
    let to_station = |pong: Packet| pong.frame().to(STATION);
    let sides = [(Inside, "100.64.0.5"), (Outside, "203.0.113.9")];
    for (side, host) in sides {
        // Either of its addresses from either side, at the last hop too.
        for own in ["10.0.0.1", "192.0.2.1"] {
            let ping = echo_request(host, 9, own).ttl(1).dscp_ecn(46, 1);
            let pong = echo_reply(own, host, 9).ttl(64).dscp_ecn(46, 1);
            bed.answers(side, from_station(ping), to_station(pong));
        }
    }
    let timestamps = [0; 12];
    let query = icmp("100.64.0.5", "10.0.0.1", 13, 0).payload(&timestamps);
    bed.drops(Inside, query, DropReason::LocalUnsupported);
    // A public address is no host.
    let ping = echo_request("203.0.113.9", 9, "198.51.100.1");
    bed.drops(Outside, ping, DropReason::IcmpQueryUnsolicited);
}

/// RFC 1122, 4.1.3.1: nobody listens.
#[test]
fn udp_to_the_shard_itself_finds_no_port() {
    let bed = &mut Bed::new();
    let probe = udp(HOST, "10.0.0.1:33434");
    let answer = error_of_shard("10.0.0.1", "100.64.0.5", 3, 3).quoting_all(&probe);
    bed.rejects(Inside, probe, DropReason::LocalUnsupported, answer);
    let probe = udp(SERVER, "192.0.2.1:33434").ttl(1);
    let answer = error_of_shard("192.0.2.1", "203.0.113.9", 3, 3).quoting_all(&probe);
    bed.rejects(Outside, probe, DropReason::LocalUnsupported, answer);
    let segment = tcp(SERVER, "192.0.2.1:179", Syn);
    bed.drops(Outside, segment, DropReason::LocalUnsupported);
}

#[test]
fn arp_is_answered_for_own_addresses() {
    let bed = &mut Bed::new();
    for (side, own, station) in
        [(Inside, "10.0.0.1", "10.0.0.9"), (Outside, "192.0.2.1", "192.0.2.9")]
    {
        let answer = arp_reply((shard_mac(side), own), (STATION, station));
        bed.answers(side, arp_request((STATION, station), own), answer.clone());
        // One who refreshes asks by unicast.
        bed.answers(side, arp_request((STATION, station), own).to(shard_mac(side)), answer);
        // RFC 5227, 1.1: one who probes has no address yet.
        let answer = arp_reply((shard_mac(side), own), (STATION, "0.0.0.0"));
        bed.answers(side, arp_request((STATION, "0.0.0.0"), own), answer);
    }
    let other = arp_request((STATION, "10.0.0.9"), "10.0.0.8");
    bed.drops(Inside, other, DropReason::ArpNotOurs);
    let impostor = arp_request((STATION, "10.0.0.1"), "10.0.0.1");
    bed.drops(Inside, impostor, DropReason::ArpConflict);
}

#[test]
fn arp_is_answered_for_a_pool_on_the_link_but_not_for_a_routed_one() {
    let station = (STATION, "192.0.2.9");
    let bed = &mut Bed::new();
    bed.drops(Outside, arp_request(station, "198.51.100.1"), DropReason::ArpNotOurs);

    let bed = &mut Bed::with(|settings| {
        let pool = vec!["192.0.2.64/28".parse().expect("a network")];
        settings.nat.pool.clone_from(&pool);
        settings.nat.policy.statics.clear();
        settings.router.pool = pool;
    });
    for pooled in ["192.0.2.64", "192.0.2.70", "192.0.2.79"] {
        let answer = arp_reply((shard_mac(Outside), pooled), station);
        bed.answers(Outside, arp_request(station, pooled), answer);
    }
    bed.drops(Outside, arp_request(station, "192.0.2.80"), DropReason::ArpNotOurs);
    let inside = arp_request((STATION, "10.0.0.9"), "192.0.2.64");
    bed.drops(Inside, inside, DropReason::ArpNotOurs);
}

#[test]
fn arp_answers_are_tagged_as_the_side_is() {
    let bed = &mut Bed::with(|settings| settings.router.inside.vlan = Some(10));
    let answer = arp_reply((shard_mac(Inside), "10.0.0.1"), (STATION, "10.0.0.9"));
    let request = arp_request((STATION, "10.0.0.9"), "10.0.0.1");
    bed.answers(Inside, request.clone().tag(6, 10), answer.tag(0, 10));
    bed.drops(Inside, request, DropReason::VlanUnknown);
}

/// RFC 1122, 2.3.2.2: the packet that made the shard ask is not lost.
#[test]
fn a_frame_waits_until_its_next_hop_is_known() {
    let bed = &mut Bed::with(|settings| settings.router.outside.neighbours.clear());
    let gateway = (router_mac(Outside), "192.0.2.254");
    let shard = (shard_mac(Outside), "192.0.2.1");
    bed.holds(Inside, udp(HOST, SERVER));
    bed.asks(arp_request(shard, gateway.1));
    bed.releases(Outside, arp_reply(gateway, shard), udp(PUBLIC, SERVER).ttl(63));
    bed.forwards(Inside, udp(HOST, SERVER), udp(PUBLIC, SERVER).ttl(63));
    // Half a minute later it is asked whether it is still there, and used meanwhile.
    bed.wait(31);
    bed.forwards(Inside, udp(HOST, SERVER), udp(PUBLIC, SERVER).ttl(63));
    bed.asks(arp_request(shard, gateway.1).to(gateway.0));
}

/// RFC 1122, 2.3.2.2 and RFC 1812, 4.3.3.1.
#[test]
fn a_next_hop_that_does_not_answer_is_unreachable() {
    let bed = &mut Bed::with(|settings| settings.router.outside.neighbours.clear());
    bed.holds(Inside, udp(HOST, SERVER));
    for _ in 0..3 {
        bed.asks(arp_request((shard_mac(Outside), "192.0.2.1"), "192.0.2.254"));
        bed.wait(2);
    }
    bed.gives_up();
    let lost = udp(HOST, SERVER);
    let answer = error_of_shard("10.0.0.1", "100.64.0.5", 3, 1).quoting_all(&lost);
    bed.rejects(Inside, lost, DropReason::NeighbourUnreachable, answer);
}

#[test]
fn what_is_not_implemented_has_a_name() {
    let bed = &mut Bed::new();
    let first = udp(HOST, SERVER).fragment(0, true);
    bed.drops(Inside, first, DropReason::Fragment);
    let last = udp(HOST, SERVER).fragment(185, false);
    bed.drops(Inside, last.clone(), DropReason::Fragment);
    // RFC 1812, 4.3.2.7: nor is a fragment answered.
    bed.drops(Inside, last.ttl(1), DropReason::Fragment);
    for protocol in [2, 41, 47, 50, 89, 132] {
        let packet = other("100.64.0.5", "203.0.113.9", protocol);
        bed.drops(Inside, packet, DropReason::ProtocolUnsupported);
    }
    let ipv6 = [&[0x60, 0, 0, 0, 0, 0, 59, 64][..], &[0xfd; 32]].concat();
    bed.drops(Inside, Frame::new(0x86dd, ipv6), DropReason::Ipv6Unsupported);
    let lldp = Frame::new(0x88cc, vec![2, 7, 4, 2, 0, 0, 0, 0, 9, 0, 0]);
    bed.drops(Inside, lldp, DropReason::EtherTypeUnsupported);
    let second_tag = [&[0, 20, 8, 0][..], &udp(HOST, SERVER).ip_bytes()].concat();
    let two_tags = Frame::new(0x8100, second_tag).tag(0, 0);
    bed.drops(Inside, two_tags, DropReason::EtherTypeUnsupported);
    for kind in [4, 5, 9, 10, 15, 17] {
        let message = icmp("100.64.0.5", "203.0.113.9", kind, 0);
        bed.drops(Inside, message, DropReason::IcmpTypeUnsupported);
    }
}

/// RFC 2827, RFC 1812, 5.3.7 and 5.3.8: none of these is forwarded or answered.
#[test]
fn who_lies_about_its_address_gets_no_answer() {
    use DropReason::{
        Land, MartianDestination, MartianSource, MulticastUnsupported, SpoofedSource,
    };
    let bed = &mut Bed::new();
    for (side, from, to, reason) in [
        (Inside, "203.0.113.5:5000", SERVER, SpoofedSource),
        (Inside, "198.51.100.1:5000", SERVER, SpoofedSource),
        (Inside, "10.0.0.1:5000", SERVER, MartianSource),
        (Inside, "127.0.0.1:5000", SERVER, MartianSource),
        (Inside, "255.255.255.255:5000", SERVER, MartianSource),
        (Inside, HOST, "100.64.0.5:53", Land),
        (Inside, HOST, "127.0.0.1:53", MartianDestination),
        (Inside, HOST, "240.0.0.1:53", MartianDestination),
        (Inside, HOST, "224.0.0.251:5353", MulticastUnsupported),
        (Inside, HOST, "255.255.255.255:67", MulticastUnsupported),
        (Outside, SERVER, SERVER, Land),
        (Outside, "198.51.100.1:53", "203.0.113.9:53", MartianSource),
        (Outside, "0.0.0.0:53", PUBLIC, MartianSource),
    ] {
        bed.drops(side, udp(from, to).ttl(1), reason);
    }
}

/// RFC 1812, 4.3.2.7 and 5.3.4.
#[test]
fn what_was_sent_to_many_is_not_answered() {
    let bed = &mut Bed::new();
    let late = udp(HOST, SERVER).ttl(1).frame();
    let multicast = Mac([1, 0, 0x5e, 0, 0, 1]);
    for group in [Mac::BROADCAST, multicast] {
        bed.drops(Inside, late.clone().to(group), DropReason::MulticastUnsupported);
        let ping = echo_request("100.64.0.5", 9, "10.0.0.1").frame();
        bed.drops(Inside, ping.to(group), DropReason::MulticastUnsupported);
    }
    bed.drops(Inside, late.to(STATION), DropReason::MacNotOurs);
}
