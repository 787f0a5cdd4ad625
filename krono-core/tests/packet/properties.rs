//! What holds of every packet.

use krono_core::checksum::Sum;
use krono_core::frame::MemFrame;
use krono_core::packet::{Endpoint, Kind, Layout, Mac, PacketMeta, Protocol, TcpFlags, TcpMeta};
use krono_core::parse::parse;
use krono_core::program::Translation;
use krono_core::rewrite::apply;
use proptest::prelude::*;

use crate::build::*;

/// Parses the frame and applies the translations to it.
fn applied(
    bytes: &[u8],
    source: Option<&Translation>,
    destination: Option<&Translation>,
) -> Vec<u8> {
    let (meta, layout) = parse(bytes, bytes.len() as u32).expect("a packet that krono forwards");
    let mut frame = MemFrame::new(bytes);
    apply(&mut frame.as_frame(), &layout, &meta, source, destination);
    frame.bytes().to_vec()
}

/// What `apply` is to make of it: the same packet built anew.
fn rebuilt(framed: &Framed, source: Option<Endpoint>, destination: Option<Endpoint>) -> Vec<u8> {
    let mut packet = framed.packet.translated(source, destination);
    packet.ttl -= 1;
    Framed { packet, ..framed.clone() }.bytes()
}

/// The checksum of an ICMP query reads 0xffff for 0: both are right, and `apply` writes the one
/// that is right for all zeros too.
fn with_one_zero(framed: &Framed, mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(at) = framed.packet.query_checksum_at(framed.l3())
        && bytes.get(at..at + 2) == Some(&[0, 0])
    {
        bytes[at..at + 2].fill(0xff);
    }
    bytes
}

/// A packet, and what its ends are to become. In some the transport checksum is steered to a
/// corner of one's complement, before the translation or after it.
fn any_case_of(
    framed: impl Strategy<Value = Framed>,
) -> impl Strategy<Value = (Framed, Option<Endpoint>, Option<Endpoint>)> {
    let steered = proptest::option::of((any::<bool>(), any_word()));
    let ends = (proptest::option::of(any_endpoint()), proptest::option::of(any_endpoint()));
    (framed, ends, steered).prop_map(|(mut framed, (source, destination), steered)| {
        match steered {
            None => {}
            Some((false, wanted)) => framed.packet.steer(wanted),
            Some((true, wanted)) => {
                let mut translated = framed.packet.translated(source, destination);
                translated.steer(wanted);
                framed.packet.free_word().copy_from_slice(translated.free_word());
            }
        }
        (framed, source, destination)
    })
}

/// The translations that give the packet's flow these ends.
fn translations(
    bytes: &[u8],
    source: Option<Endpoint>,
    destination: Option<Endpoint>,
) -> (Option<Translation>, Option<Translation>) {
    let (meta, _) = parsed(bytes);
    (
        source.map(|outside| Translation::new(meta.src, outside)),
        destination.map(|inside| Translation::new(inside, meta.dst)),
    )
}

fn parsed(bytes: &[u8]) -> (PacketMeta, Layout) {
    parse(bytes, bytes.len() as u32).expect("a packet that krono forwards")
}

/// The bytes with one's and another's places exchanged.
fn exchange(bytes: &mut [u8], one: usize, other: usize, len: usize) {
    for i in 0..len {
        bytes.swap(one + i, other + i);
    }
}

/// The packet as its receiver would answer it: the ends exchanged, in the quote too. That changes
/// no checksum.
fn answered(bytes: &[u8]) -> Vec<u8> {
    let (meta, layout) = parsed(bytes);
    let mut bytes = bytes.to_vec();
    exchange(&mut bytes, usize::from(layout.l3) + 12, usize::from(layout.l3) + 16, 4);
    let mut l4 = usize::from(layout.l4);
    if meta.kind == Kind::IcmpError {
        let quoted = usize::from(layout.quoted_l3);
        exchange(&mut bytes, quoted + 12, quoted + 16, 4);
        l4 = layout.quoted_l4.into();
    }
    exchange(&mut bytes, l4, l4 + 2, 2);
    bytes
}

fn gained(word: u16, damage: u16) -> u16 {
    Sum::default().add_u16(word).add_u16(damage).fold()
}

fn with_checksum(mut packet: Packet) -> Packet {
    if let Body::Udp { checksum, .. } = &mut packet.body {
        *checksum = true;
    }
    packet
}

fn with_ttl(framed: &Framed, ttl: u8) -> Framed {
    Framed { packet: Packet { ttl, ..framed.packet.clone() }, ..framed.clone() }
}

/// `PROPTEST_CASES` or 4000, whichever is more.
pub(crate) fn many_cases() -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    ProptestConfig { cases: config.cases.max(4000), ..config }
}

proptest! {
    #![proptest_config(many_cases())]

    #[test]
    fn parsing_finds_what_was_built(framed in any_framed(), further in 0..3000u32) {
        let bytes = framed.bytes();
        let (meta, layout) = parsed(&bytes);
        let packet = &framed.packet;
        prop_assert_eq!(usize::from(layout.l3), framed.l3());
        prop_assert_eq!(usize::from(layout.l4), framed.l4());
        prop_assert_eq!(usize::from(layout.end), bytes.len() - framed.padding);
        prop_assert_eq!(layout.vlan, framed.vlan.unwrap_or(Layout::UNTAGGED));
        prop_assert_eq!(usize::from(meta.ip_len), packet.bytes().len());
        prop_assert_eq!((meta.from, meta.to), (packet.source, packet.destination));
        prop_assert_eq!((meta.ttl, meta.dont_fragment), (packet.ttl, packet.dont_fragment));
        prop_assert_eq!(meta.link_to, Mac(SHARD_MAC));
        let (kind, protocol, src, dst) = flow_of(packet);
        prop_assert_eq!((meta.kind, meta.protocol, meta.src, meta.dst), (kind, protocol, src, dst));
        prop_assert_eq!(meta.tcp, tcp_of(packet));
        if let Body::Error { quoted, icmp_type, .. } = &packet.body {
            prop_assert_eq!(usize::from(layout.quoted_l3), framed.l4() + 8);
            let quoted_len = layout.quoted_l4 - layout.quoted_l3;
            prop_assert_eq!(usize::from(quoted_len), quoted.header_len());
            prop_assert_eq!(meta.icmp_type, *icmp_type);
        }
        // Bytes in further segments are padding.
        prop_assert_eq!(parse(&bytes, bytes.len() as u32 + further), Ok((meta, layout)));
    }

    #[test]
    fn applying_is_building_anew((framed, source, destination) in any_case_of(any_framed())) {
        let bytes = framed.bytes();
        let (outward, inward) = translations(&bytes, source, destination);
        let out = applied(&bytes, outward.as_ref(), inward.as_ref());
        let expected = rebuilt(&framed, source, destination);
        prop_assert_eq!(with_one_zero(&framed, out), with_one_zero(&framed, expected));
    }

    #[test]
    fn out_and_in_again_costs_two_hops_and_nothing_else(
        (framed, source, _) in any_case_of(any_framed_of(prop_oneof![
            any_data(),
            any_error(any_data()),
        ])),
        outside in any_endpoint(),
    ) {
        let framed = with_ttl(&framed, framed.packet.ttl.max(3));
        let bytes = framed.bytes();
        let outside = source.unwrap_or(outside);
        let there = Translation::new(parsed(&bytes).0.src, outside);
        let went = applied(&bytes, Some(&there), None);
        let came = answered(&applied(&answered(&went), None, Some(&there)));
        let mut expected = with_ttl(&framed, framed.packet.ttl - 2);
        // An error that a router on the way sent leaves as its flow's end (RFC 5508, REQ-5 c).
        if let Body::Error { quoted, .. } = &framed.packet.body {
            expected.packet.source = quoted.destination;
        }
        prop_assert_eq!(came, expected.bytes());
    }

    #[test]
    fn a_hairpin_is_both_translations_and_one_hop((framed, source, destination) in any_case_of(any_framed())) {
        let framed = with_ttl(&framed, framed.packet.ttl.max(2));
        let bytes = framed.bytes();
        let (outward, inward) = translations(&bytes, source, destination);
        let at_once = applied(&bytes, outward.as_ref(), inward.as_ref());
        let nearer = with_ttl(&framed, framed.packet.ttl - 1);
        let first = applied(&bytes, outward.as_ref(), None);
        let both = applied(&first, None, inward.as_ref());
        let farther = applied(&nearer.bytes(), outward.as_ref(), inward.as_ref());
        prop_assert_eq!(&both, &farther);
        prop_assert_eq!(usize::from(at_once[framed.l3() + 8]), usize::from(both[framed.l3() + 8]) + 1);
    }

    #[test]
    fn damage_is_neither_repaired_nor_made(
        (framed, source, destination) in any_case_of(any_framed_of(prop_oneof![
            any_data().prop_map(with_checksum),
            any_query(),
        ])),
        damage in 1..0xffffu16,
    ) {
        let mut bytes = framed.bytes();
        let (outward, inward) = translations(&bytes, source, destination);
        let whole = applied(&bytes, outward.as_ref(), inward.as_ref());
        let at = framed.l4() + framed.packet.checksum_offset();
        let checksum = |bytes: &[u8]| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        // Never 0, which in UDP is no damage but no checksum.
        let damaged = gained(checksum(&bytes), damage);
        bytes[at..at + 2].copy_from_slice(&damaged.to_be_bytes());
        let out = applied(&bytes, outward.as_ref(), inward.as_ref());
        // It is off by as much as before.
        let off = gained(checksum(&whole), damage) % 0xffff;
        prop_assert_eq!(checksum(&out) % 0xffff, off);
        prop_assert_eq!(&out[..at], &whole[..at]);
        prop_assert_eq!(&out[at + 2..], &whole[at + 2..]);
    }
}

/// Kind, protocol, source and destination of the flow as a program is to see them.
fn flow_of(packet: &Packet) -> (Kind, Protocol, Endpoint, Endpoint) {
    let ends = |sport, dport| {
        (Endpoint::new(packet.source, sport), Endpoint::new(packet.destination, dport))
    };
    let (kind, protocol, (src, dst)) = match &packet.body {
        Body::Udp { ports, .. } => (Kind::Udp, Protocol::Udp, ends(ports.0, ports.1)),
        Body::Tcp { ports, .. } => (Kind::Tcp, Protocol::Tcp, ends(ports.0, ports.1)),
        Body::Query { icmp_type, identifier, .. } if is_request(*icmp_type) => {
            (Kind::IcmpRequest, Protocol::Icmp, ends(*identifier, 0))
        }
        Body::Query { identifier, .. } => (Kind::IcmpReply, Protocol::Icmp, ends(0, *identifier)),
        Body::Error { quoted, .. } => {
            let (_, protocol, src, dst) = flow_of(quoted);
            (Kind::IcmpError, protocol, (dst, src))
        }
    };
    (kind, protocol, src, dst)
}

fn tcp_of(packet: &Packet) -> TcpMeta {
    let Body::Tcp { flags, options, payload, .. } = &packet.body else {
        return TcpMeta::default();
    };
    let flags = TcpFlags(*flags);
    let mut window_scale = TcpMeta::NO_SCALE;
    let mut rest = &options[..];
    while let [kind, ..] = *rest {
        let len = if kind == 1 { 1 } else { usize::from(rest[1]) };
        if kind == 3 && flags.has(TcpFlags::SYN) {
            window_scale = rest[2].min(14);
        }
        rest = &rest[len..];
    }
    TcpMeta {
        seq: 0x0102_0304,
        ack: 0x0506_0708,
        window: 0xfffe,
        payload_len: payload.len() as u16,
        flags,
        window_scale,
    }
}
