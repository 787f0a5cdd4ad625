//! Packets in transit, translated and not.

use krono_core::drop::DropReason;
use krono_core::frame::MemFrame;
use krono_core::packet::Side::{Inside, Outside};
use krono_core::shard::Action;

use crate::bed::{Bed, assert_frame, router_mac, shard_mac};
use crate::packet::Segment::{Ack, Data, Syn, SynAck};
use crate::packet::{Frame, Packet, echo_reply, echo_request, error_of_shard, tcp, udp};
use crate::{HOST, PUBLIC, SERVER};

#[test]
fn rfc4787_req1_udp_goes_out_and_its_answer_comes_back() {
    let bed = &mut Bed::new();
    bed.forwards(Inside, udp(HOST, SERVER), udp(PUBLIC, SERVER).ttl(63));
    bed.forwards(Outside, udp(SERVER, PUBLIC), udp(SERVER, HOST).ttl(63));
    // To another server from the same port.
    let other = "203.0.113.10:123";
    bed.forwards(Inside, udp(HOST, other), udp(PUBLIC, other).ttl(63));
}

#[test]
fn rfc5382_req1_a_tcp_connection_opens_and_carries_data() {
    let bed = &mut Bed::new();
    bed.forwards(Inside, tcp(HOST, SERVER, Syn), tcp(PUBLIC, SERVER, Syn).ttl(63));
    bed.forwards(Outside, tcp(SERVER, PUBLIC, SynAck), tcp(SERVER, HOST, SynAck).ttl(63));
    bed.forwards(Inside, tcp(HOST, SERVER, Ack), tcp(PUBLIC, SERVER, Ack).ttl(63));
    bed.forwards(Inside, tcp(HOST, SERVER, Data), tcp(PUBLIC, SERVER, Data).ttl(63));
}

#[test]
fn rfc5508_req1_a_ping_goes_out_and_its_answer_comes_back() {
    let bed = &mut Bed::new();
    let ping = echo_request("100.64.0.5", 77, "203.0.113.9");
    let id = bed.public_identifier(ping.clone());
    bed.forwards(Inside, ping, echo_request("198.51.100.1", id, "203.0.113.9").ttl(63));
    let pong = echo_reply("203.0.113.9", "198.51.100.1", id);
    bed.forwards(Outside, pong, echo_reply("203.0.113.9", "100.64.0.5", 77).ttl(63));
}

#[test]
fn a_udp_checksum_of_zero_stays_zero() {
    let bed = &mut Bed::new();
    let sent = udp(PUBLIC, SERVER).no_checksum();
    bed.forwards(Inside, udp(HOST, SERVER).no_checksum(), sent.ttl(63));
    let received = udp(SERVER, HOST).no_checksum();
    bed.forwards(Outside, udp(SERVER, PUBLIC).no_checksum(), received.ttl(63));
}

/// RFC 768: a sum that comes out as 0 is sent as all ones.
#[test]
fn a_udp_checksum_that_comes_out_as_zero_is_all_ones() {
    let bed = &mut Bed::new();
    let checksum = |payload: [u8; 2]| {
        let bytes = udp(PUBLIC, SERVER).payload(&payload).ip_bytes();
        [bytes[26], bytes[27]]
    };
    let payload = (0..=u16::MAX).map(u16::to_be_bytes).find(|word| checksum(*word) == [0xff; 2]);
    let payload = payload.expect("one word makes it so");
    let sent = udp(PUBLIC, SERVER).payload(&payload);
    bed.forwards(Inside, udp(HOST, SERVER).payload(&payload), sent.ttl(63));
}

#[test]
fn dscp_ecn_identification_and_df_are_kept() {
    let bed = &mut Bed::new();
    for (dscp, ecn) in [(46, 1), (8, 2), (63, 3), (0, 0)] {
        let marked = |from, to| udp(from, to).dscp_ecn(dscp, ecn).identification(0xbeef);
        bed.forwards(Inside, marked(HOST, SERVER), marked(PUBLIC, SERVER).ttl(63));
        let marked = |from, to| marked(from, to).dont_fragment();
        bed.forwards(Outside, marked(SERVER, PUBLIC), marked(SERVER, HOST).ttl(63));
    }
}

#[test]
fn ip_options_are_carried() {
    let router_alert = [0x94, 4, 0, 0];
    let timestamps = [68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let bed = &mut Bed::new();
    for options in [&router_alert[..], &timestamps, &[1, 1, 1, 0]] {
        let udp = |from, to| udp(from, to).options(options);
        bed.forwards(Inside, udp(HOST, SERVER), udp(PUBLIC, SERVER).ttl(63));
        bed.forwards(Outside, udp(SERVER, PUBLIC), udp(SERVER, HOST).ttl(63));
    }
    let loose_source_route = [131, 7, 4, 203, 0, 113, 1, 0];
    let routed = udp(HOST, SERVER).options(&loose_source_route);
    bed.drops(Inside, routed, DropReason::SourceRouted);
}

/// What was damaged on its way arrives damaged, so that its receiver notices.
#[test]
fn a_damaged_payload_is_not_made_good() {
    let bed = &mut Bed::new();
    let last = udp(HOST, SERVER).ip_bytes().len() - 1;
    let sent = udp(PUBLIC, SERVER).ttl(63).frame().damage(last);
    bed.forwards(Inside, udp(HOST, SERVER).frame().damage(last), sent);
}

#[test]
fn bytes_behind_the_packet_are_carried_and_count_for_nothing() {
    let bed = &mut Bed::new();
    let padding = [0xa5; 7];
    let received = udp(HOST, SERVER).frame().padding(&padding);
    bed.forwards(Inside, received, udp(PUBLIC, SERVER).ttl(63).frame().padding(&padding));
    let error = error_of_shard("10.0.0.1", "100.64.0.5", 11, 0);
    let late = udp(HOST, SERVER).ttl(1);
    let answer = error.quoting_all(&late);
    bed.rejects(Inside, late.frame().padding(&padding), DropReason::TtlExceeded, answer);
}

/// IEEE 802.1Q: each side has its own tag or none; the priority is the link's, not the packet's.
#[test]
fn vlan_tags_are_pushed_popped_and_rewritten() {
    for (inside, outside) in
        [(None, None), (None, Some(20)), (Some(10), None), (Some(10), Some(20))]
    {
        let bed = &mut Bed::with(|settings| {
            settings.router.inside.vlan = inside;
            settings.router.outside.vlan = outside;
        });
        let tag = |packet: Packet, priority, vlan: Option<u16>| match vlan {
            Some(vlan) => packet.frame().tag(priority, vlan),
            None => packet.frame(),
        };
        let received = tag(udp(HOST, SERVER), 5, inside);
        bed.forwards(Inside, received, tag(udp(PUBLIC, SERVER).ttl(63), 0, outside));
        let received = tag(udp(SERVER, PUBLIC), 3, outside);
        bed.forwards(Outside, received, tag(udp(SERVER, HOST).ttl(63), 0, inside));
        let late = udp(HOST, SERVER).ttl(1);
        let answer = error_of_shard("10.0.0.1", "100.64.0.5", 11, 0).quoting_all(&late);
        let answer = tag(answer, 0, inside);
        bed.rejects(Inside, tag(late, 5, inside), DropReason::TtlExceeded, answer);
        bed.drops(Inside, udp(HOST, SERVER).frame().tag(0, 30), DropReason::VlanUnknown);
    }
}

/// VLAN 0 is no VLAN, only a priority.
#[test]
fn a_priority_tag_is_as_good_as_none() {
    let bed = &mut Bed::new();
    let received = udp(HOST, SERVER).frame().tag(5, 0);
    bed.forwards(Inside, received, udp(PUBLIC, SERVER).ttl(63));
}

#[test]
fn rfc4787_req9_a_subscriber_reaches_another_by_its_public_endpoint() {
    let bed = &mut Bed::new();
    let (peer, peer_public) = ("100.64.0.20:53", "198.51.100.1:5300");
    bed.hairpins(udp(HOST, peer_public), udp(PUBLIC, peer).ttl(63));
    bed.hairpins(udp(peer, PUBLIC), udp(peer_public, HOST).ttl(63));
    let late = udp(HOST, peer_public).ttl(1);
    let answer = error_of_shard("10.0.0.1", "100.64.0.5", 11, 0).quoting_all(&late);
    bed.rejects(Inside, late, DropReason::TtlExceeded, answer);
}

#[test]
fn rfc5382_req8_a_connection_between_subscribers() {
    let bed = &mut Bed::new();
    let (peer, peer_public) = ("100.64.0.20:80", "198.51.100.1:8080");
    bed.hairpins(tcp(HOST, peer_public, Syn), tcp(PUBLIC, peer, Syn).ttl(63));
    bed.hairpins(tcp(peer, PUBLIC, SynAck), tcp(peer_public, HOST, SynAck).ttl(63));
    bed.hairpins(tcp(HOST, peer_public, Data), tcp(PUBLIC, peer, Data).ttl(63));
}

#[test]
fn a_static_mapping_serves_whoever_comes() {
    let bed = &mut Bed::new();
    let (server, public, client) = ("100.64.0.20:80", "198.51.100.1:8080", "203.0.113.77:1025");
    bed.forwards(Outside, tcp(client, public, Syn), tcp(client, server, Syn).ttl(63));
    bed.forwards(Inside, tcp(server, client, SynAck), tcp(public, client, SynAck).ttl(63));
    bed.forwards(Outside, tcp(client, public, Data), tcp(client, server, Data).ttl(63));
}

#[test]
fn rfc6888_req6_an_excluded_destination_sees_the_subscriber_itself() {
    let bed = &mut Bed::new();
    let cache = "192.168.100.7:53";
    bed.forwards(Inside, udp(HOST, cache), udp(HOST, cache).ttl(63));
    bed.forwards(Outside, udp(cache, HOST), udp(cache, HOST).ttl(63));
    bed.forwards(Inside, tcp(HOST, cache, Syn), tcp(HOST, cache, Syn).ttl(63));
    // The other way as well: there is no mapping that could be filtered.
    let other = "192.168.100.8:99";
    bed.forwards(Outside, udp(other, HOST), udp(other, HOST).ttl(63));
    // Nobody else gets in this way.
    bed.drops(Outside, udp(SERVER, HOST), DropReason::NotOurs);
}

#[test]
fn rfc4787_req8_a_stranger_does_not_get_in() {
    let bed = &mut Bed::new();
    bed.drops(Outside, udp(SERVER, PUBLIC), DropReason::NoMapping);
    bed.forwards(Inside, udp(HOST, SERVER), udp(PUBLIC, SERVER).ttl(63));
    bed.drops(Outside, udp("203.0.113.9:54", PUBLIC), DropReason::Filtered);
    bed.drops(Outside, udp("203.0.113.8:53", PUBLIC), DropReason::Filtered);
}

/// REQ-4 a, and not even a reset.
#[test]
fn rfc5382_req4_an_unsolicited_syn_is_not_answered() {
    let bed = &mut Bed::new();
    bed.drops(Outside, tcp(SERVER, PUBLIC, Syn), DropReason::NoMapping);
    bed.forwards(Inside, tcp(HOST, SERVER, Syn), tcp(PUBLIC, SERVER, Syn).ttl(63));
    let stranger = "203.0.113.8:53";
    bed.drops(Outside, tcp(stranger, PUBLIC, Syn), DropReason::Filtered);
    // The other end of the connection opens it as well (REQ-2a).
    bed.forwards(Outside, tcp(SERVER, PUBLIC, Syn), tcp(SERVER, HOST, Syn).ttl(63));
}

#[test]
fn rfc6888_req11_who_gets_no_port_is_told_once_a_second() {
    let bed = &mut Bed::new();
    bed.forwards(Inside, udp(HOST, SERVER), udp(PUBLIC, SERVER).ttl(63));
    let refused = udp("100.64.0.5:5001", SERVER);
    let answer = error_of_shard("10.0.0.1", "100.64.0.5", 3, 1).quoting_all(&refused);
    bed.rejects(Inside, refused.clone(), DropReason::PortsExhausted, answer.clone());
    bed.drops(Inside, refused.clone(), DropReason::PortsExhausted);
    bed.wait(1);
    bed.rejects(Inside, refused, DropReason::PortsExhausted, answer);
    // REQ-11 d: who has a mapping keeps it.
    bed.forwards(Outside, udp(SERVER, PUBLIC), udp(SERVER, HOST).ttl(63));
}

#[test]
fn rfc6888_req4_a_subscriber_at_its_limit_is_told() {
    let bed = &mut Bed::with(|settings| settings.nat.ports_per_subscriber = 0);
    let refused = udp(HOST, SERVER);
    let answer = error_of_shard("10.0.0.1", "100.64.0.5", 3, 1).quoting_all(&refused);
    bed.rejects(Inside, refused, DropReason::SubscriberPorts, answer);
}

/// A long frame lies in several buffers; only the first is rewritten.
#[test]
fn a_frame_in_several_segments_is_forwarded_and_told_about() {
    const FIRST_SEGMENT: usize = 256;
    let process = |bed: &mut Bed, frame: &Frame| {
        let bytes = frame.bytes(router_mac(Inside), shard_mac(Inside));
        let (first, further) = bytes.split_at(FIRST_SEGMENT);
        let memory = MemFrame::new(first).with_further_segments(further.len() as u32);
        let (outcome, memory) = bed.process(Inside, memory);
        (outcome.action, memory, further.to_vec())
    };
    let bed = &mut Bed::new();
    let (action, mut memory, further) = process(bed, &udp(HOST, SERVER).ip_len(1400).frame());
    assert_eq!(action, Action::Send(Outside));
    assert_eq!(*memory.as_frame().wire_len as usize, FIRST_SEGMENT + further.len());
    let sent = [memory.bytes(), &further].concat();
    assert_frame(&sent, Outside, &udp(PUBLIC, SERVER).ip_len(1400).ttl(63).frame());

    // An answer is one segment, and quotes what lies in the first.
    let late = udp(HOST, SERVER).ip_len(1400).ttl(1);
    let (action, mut memory, _) = process(bed, &late.frame());
    assert_eq!(action, Action::Answer(Inside, Some(DropReason::TtlExceeded)));
    assert!(!memory.as_frame().is_segmented());
    let quote = &late.ip_bytes()[..FIRST_SEGMENT - 14];
    let answer = error_of_shard("10.0.0.1", "100.64.0.5", 11, 0).payload(quote);
    assert_frame(memory.bytes(), Inside, &answer.frame());
}
