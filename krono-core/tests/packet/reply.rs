//! What a shard says itself, read back by etherparse and by `parse`.

use std::net::Ipv4Addr;

use etherparse::checksum::Sum16BitWords;
use etherparse::{Icmpv4Slice, Icmpv4Type, NetSlice, SlicedPacket, TransportSlice};
use krono_core::frame::{Frame, HEADROOM, MemFrame};
use krono_core::packet::{Endpoint, Kind, Layout, Mac, PacketMeta};
use krono_core::parse::parse;
use krono_core::program::IcmpError;
use krono_core::reply::{arp_reply, arp_request, arp_sender, echo_reply, icmp_error, may_answer};
use krono_core::rewrite::{LinkHeader, write_link};

use crate::build::*;

const SUBSCRIBER: [u8; 4] = [10, 0, 0, 7];
const REMOTE: [u8; 4] = [192, 0, 2, 80];
const SHARD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

const BACK: LinkHeader = LinkHeader { to: Mac(PEER_MAC), from: Mac(SHARD_MAC), vlan: None };
const BACK_TAGGED: LinkHeader = LinkHeader { vlan: Some(100), ..BACK };

fn udp(payload: &[u8]) -> Framed {
    Framed::new(Packet::udp((SUBSCRIBER, 40000), (REMOTE, 53), payload))
}

fn parsed(bytes: &[u8]) -> (PacketMeta, Layout) {
    parse(bytes, bytes.len() as u32).unwrap()
}

/// The error about the frame, sent back through `link`.
fn error_about(memory: &mut MemFrame, error: IcmpError, link: &LinkHeader) -> Vec<u8> {
    let wire_len = *memory.as_frame().wire_len;
    let (_, layout) = parse(memory.bytes(), wire_len).unwrap();
    let mut frame = memory.as_frame();
    let l3 = icmp_error(&mut frame, &layout, error, SHARD).expect("headroom");
    assert!(write_link(&mut frame, l3, link));
    assert!(!frame.is_segmented());
    memory.bytes().to_vec()
}

/// The ICMP message of a frame; all checksums are right or this panics.
fn icmp_of(bytes: &[u8]) -> (NetSlice<'_>, Icmpv4Slice<'_>) {
    let sliced = SlicedPacket::from_ethernet(bytes).unwrap();
    let net = sliced.net.unwrap();
    let header = net.ipv4_ref().unwrap().header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    let Some(TransportSlice::Icmpv4(icmp)) = sliced.transport else { panic!("not ICMP") };
    assert!(is_sum_valid(icmp.slice()));
    (net, icmp)
}

fn is_sum_valid(message: &[u8]) -> bool {
    Sum16BitWords::new().add_slice(message).ones_complement() == 0
}

#[test]
fn an_error_quotes_its_packet_and_goes_back_to_the_sender() {
    for (vlan, link) in [(None, BACK), (None, BACK_TAGGED), (Some(7), BACK), (Some(7), BACK_TAGGED)]
    {
        let framed = Framed { vlan, padding: 9, ..udp(b"query") };
        let mut memory = MemFrame::new(&framed.bytes());
        let bytes = error_about(&mut memory, IcmpError::HOST_UNREACHABLE, &link);

        let (net, icmp) = icmp_of(&bytes);
        let header = net.ipv4_ref().unwrap().header();
        assert_eq!((header.source_addr(), header.destination_addr()), (SHARD, SUBSCRIBER.into()));
        assert_eq!((header.ttl(), header.slice()[1], header.dont_fragment()), (64, 0xc0, true));
        assert_eq!(icmp.slice()[..2], [3, 1]);
        // The packet as it came, without the frame's padding.
        assert_eq!(icmp.slice()[8..], framed.packet.bytes());

        let (meta, layout) = parsed(&bytes);
        assert_eq!(meta.link_to, Mac(PEER_MAC));
        assert_eq!(layout.vlan, link.vlan.unwrap_or(Layout::UNTAGGED));
        assert_eq!(usize::from(layout.end), bytes.len());
        assert_eq!(meta.kind, Kind::IcmpError);
        assert_eq!(meta.src, Endpoint::new(REMOTE.into(), 53));
        assert_eq!(meta.dst, Endpoint::new(SUBSCRIBER.into(), 40000));
    }
}

#[test]
fn an_error_says_what_and_why() {
    let kind = |error| {
        let bytes = error_about(&mut MemFrame::new(&udp(b"query").bytes()), error, &BACK);
        icmp_of(&bytes).1.slice()[..8].to_vec()
    };
    let head = |bytes: &[u8]| (bytes[0], bytes[1], bytes[4..8].to_vec());
    assert_eq!(head(&kind(IcmpError::TTL_EXCEEDED)), (11, 0, vec![0; 4]));
    assert_eq!(head(&kind(IcmpError::NET_UNREACHABLE)), (3, 0, vec![0; 4]));
    assert_eq!(head(&kind(IcmpError::PROHIBITED)), (3, 13, vec![0; 4]));
    assert_eq!(head(&kind(IcmpError::fragmentation_needed(1400))), (3, 4, vec![0, 0, 5, 120]));
}

#[test]
fn an_error_is_at_most_576_bytes_long() {
    // The quote of the whole packet ends where 576 bytes do, before, and behind.
    for (payload_len, ip_len) in [(519, 575), (520, 576), (521, 576), (1472, 576)] {
        let framed = udp(&vec![7; payload_len]);
        let bytes =
            error_about(&mut MemFrame::new(&framed.bytes()), IcmpError::TTL_EXCEEDED, &BACK);
        assert_eq!(bytes.len(), 14 + ip_len);
        let (_, icmp) = icmp_of(&bytes);
        assert_eq!(icmp.slice()[8..], framed.packet.bytes()[..ip_len - 28]);
        assert_eq!(parsed(&bytes).0.kind, Kind::IcmpError);
    }
}

#[test]
fn an_error_quotes_only_the_first_segment() {
    let bytes = udp(&[7; 1000]).bytes();
    let mut memory = MemFrame::new(&bytes[..100]).with_further_segments(bytes.len() as u32 - 100);
    let error = error_about(&mut memory, IcmpError::TTL_EXCEEDED, &BACK);
    assert_eq!(icmp_of(&error).1.slice()[8..], bytes[14..100]);
}

#[test]
fn an_error_without_headroom_is_not_built() {
    let mut room = udp(b"query").bytes();
    let before = room.clone();
    let (_, layout) = parsed(&room);
    let (mut start, mut len, mut wire_len) = (0, room.len() as u16, room.len() as u32);
    let mut frame =
        Frame { room: &mut room, start: &mut start, len: &mut len, wire_len: &mut wire_len };
    assert_eq!(icmp_error(&mut frame, &layout, IcmpError::TTL_EXCEEDED, SHARD), None);
    assert_eq!(frame.bytes(), before);
}

#[test]
fn nobody_is_answered_who_must_not_be() {
    // RFC 1812, 4.3.2.7.
    let meta = parsed(&udp(b"query").bytes()).0;
    assert!(may_answer(&meta));
    for kind in [Kind::Tcp, Kind::IcmpRequest, Kind::IcmpReply] {
        let mut meta = meta;
        meta.kind = kind;
        assert!(may_answer(&meta));
    }
    for kind in [Kind::IcmpError, Kind::ArpRequest, Kind::ArpReply] {
        let mut meta = meta;
        meta.kind = kind;
        assert!(!may_answer(&meta), "{kind:?}");
    }
    for link_to in [Mac::BROADCAST, Mac([1, 0, 0x5e, 0, 0, 1])] {
        assert!(!may_answer(&PacketMeta { link_to, ..meta }), "{link_to}");
    }
    for to in [Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 1), Ipv4Addr::new(239, 255, 255, 255)]
    {
        assert!(!may_answer(&PacketMeta { to, ..meta }), "to {to}");
    }
    for from in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.9", "240.0.0.1", "255.255.255.255"] {
        let from = from.parse().unwrap();
        assert!(!may_answer(&PacketMeta { from, ..meta }), "from {from}");
    }
}

/// The frame answered by `echo_reply`.
fn echoed(bytes: &[u8]) -> Vec<u8> {
    let mut memory = MemFrame::new(bytes);
    let (_, layout) = parsed(bytes);
    let l3 = echo_reply(&mut memory.as_frame(), &layout).unwrap();
    assert!(write_link(&mut memory.as_frame(), l3, &BACK));
    memory.bytes().to_vec()
}

#[test]
fn an_echo_reply_is_the_request_turned_round() {
    let mut packet = Packet::echo(8, SUBSCRIBER, SHARD.octets(), 77);
    packet.ttl = 3;
    packet.tos = 0xb8;
    packet.options = vec![148, 4, 0, 0];
    let request = Framed::new(packet.clone());
    let bytes = echoed(&request.bytes());

    packet.source = SHARD;
    packet.destination = SUBSCRIBER.into();
    packet.ttl = 64;
    if let Body::Query { icmp_type, .. } = &mut packet.body {
        *icmp_type = 0;
    }
    assert_eq!(bytes[14..], packet.bytes());
    let (_, icmp) = icmp_of(&bytes);
    assert!(matches!(icmp.icmp_type(), Icmpv4Type::EchoReply(header) if header.id == 77));
}

#[test]
fn an_echo_reply_of_zeros_has_a_checksum_that_verifies() {
    let body = Body::Query { icmp_type: 8, identifier: 0, rest: vec![0; 10] };
    let bytes = echoed(&Framed::new(Packet::new(SUBSCRIBER, SHARD.octets(), body)).bytes());
    assert_eq!(bytes[34..38], [0, 0, 0xff, 0xff]);
    icmp_of(&bytes);
}

#[test]
fn a_damaged_echo_request_gets_a_damaged_reply() {
    let mut bytes = Framed::new(Packet::echo(8, SUBSCRIBER, SHARD.octets(), 77)).bytes();
    *bytes.last_mut().unwrap() ^= 0x40;
    let reply = echoed(&bytes);
    let sliced = SlicedPacket::from_ethernet(&reply).unwrap();
    let Some(TransportSlice::Icmpv4(icmp)) = sliced.transport else { panic!("not ICMP") };
    assert!(!is_sum_valid(icmp.slice()));
}

#[test]
fn arp_is_asked_and_answered() {
    let asker = Mac(PEER_MAC);
    let mut memory = MemFrame::new(&[]);
    // Whatever was in the buffer does not leave with the request.
    memory.as_frame().room.fill(0x5a);
    let l3 = arp_request(&mut memory.as_frame(), (asker, SUBSCRIBER.into()), SHARD).unwrap();
    let to_all = LinkHeader { to: Mac::BROADCAST, from: asker, vlan: None };
    assert!(write_link(&mut memory.as_frame(), l3, &to_all));
    let request = [
        &[0xff; 6][..],
        &PEER_MAC,
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
        &PEER_MAC,
        &SUBSCRIBER,
        &[0; 6],
        &SHARD.octets(),
        &[0; 18],
    ];
    assert_eq!(memory.bytes(), request.concat());
    assert_eq!(memory.bytes().len(), 60);

    let (meta, layout) = parsed(memory.bytes());
    assert_eq!((meta.kind, meta.from, meta.to), (Kind::ArpRequest, SUBSCRIBER.into(), SHARD));
    assert_eq!(arp_sender(&memory.as_frame(), &layout), asker);

    let l3 = arp_reply(&mut memory.as_frame(), &layout, Mac(SHARD_MAC)).unwrap();
    assert!(write_link(&mut memory.as_frame(), l3, &BACK_TAGGED));
    let reply = [
        &PEER_MAC[..],
        &SHARD_MAC,
        &[0x81, 0, 0, 100, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2],
        &SHARD_MAC,
        &SHARD.octets(),
        &PEER_MAC,
        &SUBSCRIBER,
        &[0; 18],
    ];
    assert_eq!(memory.bytes(), reply.concat());
    let (meta, layout) = parsed(memory.bytes());
    assert_eq!((meta.kind, meta.from, meta.to), (Kind::ArpReply, SHARD, SUBSCRIBER.into()));
    assert_eq!(arp_sender(&memory.as_frame(), &layout), Mac(SHARD_MAC));
}

#[test]
fn an_arp_request_needs_a_buffer_for_it() {
    let mut room = [0; HEADROOM as usize + 59];
    let (mut start, mut len, mut wire_len) = (HEADROOM, 0, 0);
    let mut frame =
        Frame { room: &mut room, start: &mut start, len: &mut len, wire_len: &mut wire_len };
    assert_eq!(arp_request(&mut frame, (Mac(SHARD_MAC), SHARD), REMOTE.into()), None);
    assert_eq!(len, 0);
}
