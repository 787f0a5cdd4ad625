//! Golden packets: bytes in, a translation, bytes out. They were written down from an
//! independent computation and are not made by the code under test or by the builder.

use krono_core::frame::{Frame, MemFrame};
use krono_core::packet::{Endpoint, Mac};
use krono_core::parse::parse;
use krono_core::program::Translation;
use krono_core::rewrite::{LinkHeader, apply, write_link};

use crate::build::{Framed, Packet};

const SUBSCRIBER: [u8; 4] = [10, 0, 0, 7];
const NEIGHBOUR: [u8; 4] = [10, 0, 0, 8];
const PUBLIC: [u8; 4] = [198, 51, 100, 1];

fn translation(inside: ([u8; 4], u16), outside: ([u8; 4], u16)) -> Option<Translation> {
    let end = |(addr, port): ([u8; 4], u16)| Endpoint::new(addr.into(), port);
    Some(Translation::new(end(inside), end(outside)))
}

struct Golden {
    name: &'static str,
    source: Option<Translation>,
    destination: Option<Translation>,
    before: &'static str,
    after: &'static str,
}

/// The subscriber is 10.0.0.7:40000 (query 77, or 0), its mapping 198.51.100.1:50001 (query
/// 4660), the remote end 192.0.2.80.
fn table() -> Vec<Golden> {
    let flow = translation((SUBSCRIBER, 40000), (PUBLIC, 50001));
    vec![
        Golden {
            name: "UDP out, DSCP EF",
            source: flow,
            destination: None,
            before: "45b8001f12340000 40119b8b 0a000007 c0000250 9c400035000bbf9c 646e73",
            after: "45b8001f12340000 3f117c5d c6336401 c0000250 c3510035000b785d 646e73",
        },
        Golden {
            name: "UDP in, without a checksum",
            source: None,
            destination: flow,
            before: "4500001f12340000 40117c15 c0000250 c6336401 0035c351000b0000 646e73",
            after: "4500001f12340000 3f119d43 c0000250 0a000007 00359c40000b0000 646e73",
        },
        Golden {
            name: "UDP out, a sum that comes out as 0",
            source: flow,
            destination: None,
            before: "4500001e12340000 40119c44 0a000007 c0000250 9c400035000a473f 4fce",
            after: "4500001e12340000 3f117d16 c6336401 c0000250 c3510035000affff 4fce",
        },
        Golden {
            name: "UDP in, back from a sum of 0",
            source: None,
            destination: flow,
            before: "4500001e12340000 40117c16 c0000250 c6336401 0035c351000affff 4fce",
            after: "4500001e12340000 3f119d44 c0000250 0a000007 00359c40000a473f 4fce",
        },
        Golden {
            name: "TCP out, a sum that comes out as 0",
            source: flow,
            destination: None,
            before: "4500002a12340000 40069c43 0a000007 c0000250 \
                     9c4001bb 01020304 00000000 5010faf0 473f0000 ff49",
            after: "4500002a12340000 3f067d15 c6336401 c0000250 \
                    c35101bb 01020304 00000000 5010faf0 00000000 ff49",
        },
        Golden {
            name: "TCP in, with a router alert option",
            source: None,
            destination: flow,
            before: "4600002c12340000 4006e70e c0000250 c6336401 94040000 \
                     01bbc351 01020304 00000000 5012faf0 ff490000",
            after: "4600002c12340000 3f06083d c0000250 0a000007 94040000 \
                    01bb9c40 01020304 00000000 5012faf0 46890000",
        },
        Golden {
            name: "UDP excluded from translation",
            source: None,
            destination: None,
            before: "45b8001f12340000 40119b8b 0a000007 c0000250 9c400035000bbf9c 646e73",
            after: "45b8001f12340000 3f119c8b 0a000007 c0000250 9c400035000bbf9c 646e73",
        },
        Golden {
            name: "UDP between two subscribers",
            source: flow,
            destination: translation((NEIGHBOUR, 6000), (PUBLIC, 50002)),
            before: "4500001e12340000 40113460 0a000007 c6336401 9c40c352000a03a2 6869",
            after: "4500001e12340000 3f11355f c6336401 0a000008 c3511770000a8872 6869",
        },
        Golden {
            name: "echo request out",
            source: translation((SUBSCRIBER, 77), (PUBLIC, 4660)),
            destination: None,
            before: "4500001f12340000 40019c53 0a000007 c0000250 0800334f004d0001 616263",
            after: "4500001f12340000 3f017d25 c6336401 c0000250 0800216812340001 616263",
        },
        Golden {
            name: "echo reply in that becomes all zeros",
            source: None,
            destination: translation((SUBSCRIBER, 0), (PUBLIC, 4660)),
            before: "4500001c12340000 40017c28 c0000250 c6336401 0000edcb12340000",
            after: "4500001c12340000 3f019d56 c0000250 0a000007 0000ffff00000000",
        },
        Golden {
            name: "time exceeded in, quoting UDP out",
            source: None,
            destination: flow,
            before: "4500003812340000 40010253 cb007109 c6336401 0b00b91000000000 \
                     4500001f12340000 0111bb15 c6336401 c0000250 c3510035000b785d",
            after: "4500003812340000 3f012381 cb007109 0a000007 0b0098e200000000 \
                    4500001f12340000 0111db43 0a000007 c0000250 9c400035000bbf9c",
        },
        Golden {
            name: "host unreachable out, by a router inside, quoting TCP in",
            source: flow,
            destination: None,
            before: "4500004612340000 40019c32 0a000001 c0000250 0301a4e200000000 \
                     4500002d12340000 40069c40 c0000250 0a000007 \
                     01bb9c40 01020304 00000000 5018faf0 02ac0000 6865",
            after: "4500004612340000 3f017cfe c6336401 c0000250 0301c51000000000 \
                    4500002d12340000 40067c12 c0000250 c6336401 \
                    01bbc351 01020304 00000000 5018faf0 bb6c0000 6865",
        },
    ]
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        hex.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

#[test]
fn golden_packets() {
    for Golden { name, source, destination, before, after } in table() {
        // Untagged and tagged, with padding that is not the packet's.
        for link in ["020000000001 020000000002 0800", "020000000001 020000000002 8100a064 0800"] {
            let frame = |packet: &str| bytes_of(&[link, packet, "a5a5a5"].concat());
            let mut memory = MemFrame::new(&frame(before));
            let (meta, layout) = parse(memory.bytes(), memory.bytes().len() as u32).unwrap();
            apply(&mut memory.as_frame(), &layout, &meta, source.as_ref(), destination.as_ref());
            assert_eq!(memory.bytes(), frame(after), "{name}");
        }
    }
}

#[test]
fn a_packet_without_a_hop_left_gains_none() {
    let mut packet = Packet::udp((SUBSCRIBER, 1), (PUBLIC, 2), b"");
    packet.ttl = 0;
    let bytes = Framed::new(packet).bytes();
    let (meta, layout) = parse(&bytes, bytes.len() as u32).unwrap();
    let mut memory = MemFrame::new(&bytes);
    apply(&mut memory.as_frame(), &layout, &meta, None, None);
    assert_eq!(memory.bytes(), bytes);
}

#[test]
fn an_untranslated_packet_keeps_even_the_other_zero() {
    let mut packet = Packet::tcp((SUBSCRIBER, 40000), (PUBLIC, 443), 0x10);
    packet.steer(0);
    let mut bytes = Framed::new(packet).bytes();
    assert_eq!(bytes[50..52], [0, 0]);
    bytes[50..52].fill(0xff);
    let (meta, layout) = parse(&bytes, bytes.len() as u32).unwrap();
    let mut memory = MemFrame::new(&bytes);
    apply(&mut memory.as_frame(), &layout, &meta, None, None);
    assert_eq!(memory.bytes()[34..], bytes[34..]);
}

#[test]
fn an_arp_packet_is_left_alone() {
    let bytes = bytes_of(
        "ffffffffffff 020000000002 0806 0001080006040001 \
         020000000002 0a000007 000000000000 0a000001",
    );
    let (meta, layout) = parse(&bytes, bytes.len() as u32).unwrap();
    let mut memory = MemFrame::new(&bytes);
    let any = translation((SUBSCRIBER, 1), (PUBLIC, 2));
    apply(&mut memory.as_frame(), &layout, &meta, any.as_ref(), any.as_ref());
    assert_eq!(memory.bytes(), bytes);
}

const UNTAGGED: LinkHeader =
    LinkHeader { to: Mac([2, 1, 1, 1, 1, 1]), from: Mac([2, 2, 2, 2, 2, 2]), vlan: None };
const TAGGED: LinkHeader = LinkHeader { vlan: Some(0xf123), ..UNTAGGED };

#[test]
fn a_link_header_grows_and_shrinks_in_front_of_the_packet() {
    let untagged = "020000000001 020000000002 0800 45";
    let tagged = "020000000001 020000000002 8100e064 0800 45";
    for (before, l3, header, after) in [
        (untagged, 14, UNTAGGED, "020101010101 020202020202 0800 45"),
        (untagged, 14, TAGGED, "020101010101 020202020202 81000123 0800 45"),
        (tagged, 18, UNTAGGED, "020101010101 020202020202 0800 45"),
        (tagged, 18, TAGGED, "020101010101 020202020202 81000123 0800 45"),
    ] {
        let mut memory = MemFrame::new(&bytes_of(before)).with_further_segments(100);
        assert!(write_link(&mut memory.as_frame(), l3, &header));
        assert_eq!(memory.bytes(), bytes_of(after));
        let wire_len = *memory.as_frame().wire_len;
        assert_eq!(wire_len, memory.bytes().len() as u32 + 100);
    }
}

#[test]
fn a_link_header_that_finds_no_headroom_changes_nothing() {
    let mut room = bytes_of("000000 020000000001 020000000002 0800 45");
    let before = room.clone();
    let (mut start, mut len, mut wire_len) = (3, 15, 15);
    let mut frame =
        Frame { room: &mut room, start: &mut start, len: &mut len, wire_len: &mut wire_len };
    assert!(!write_link(&mut frame, 14, &TAGGED));
    assert_eq!((start, len, wire_len, room), (3, 15, 15, before));
}
