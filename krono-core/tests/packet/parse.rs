//! Every check of `parse` by a frame that fails it and no earlier one.

use std::collections::BTreeSet;

use etherparse::checksum::Sum16BitWords;
use krono_core::drop::DropReason::{self, *};
use krono_core::packet::{Endpoint, FlowMeta, Kind, Layout, Mac, PacketMeta, TcpMeta};
use krono_core::parse::parse;

use crate::build::*;

const A: ([u8; 4], u16) = ([10, 0, 0, 7], 40000);
const B: ([u8; 4], u16) = ([192, 0, 2, 80], 53);

/// Offsets in the untagged frames below.
const IP: usize = 14;
const L4: usize = IP + 20;
const QUOTED_IP: usize = L4 + 8;
const QUOTED_L4: usize = QUOTED_IP + 20;

fn udp() -> Vec<u8> {
    Framed::new(Packet::udp(A, B, b"query")).bytes()
}

fn tcp(flags: u8) -> Vec<u8> {
    Framed::new(Packet::tcp(A, B, flags)).bytes()
}

fn syn_with(options: &[u8]) -> Vec<u8> {
    let mut packet = Packet::tcp(A, B, 0x02);
    if let Body::Tcp { options: place, .. } = &mut packet.body {
        *place = options.to_vec();
    }
    Framed::new(packet).bytes()
}

fn with_ip_options(options: &[u8]) -> Vec<u8> {
    let packet = Packet { options: options.to_vec(), ..Packet::udp(A, B, b"query") };
    Framed::new(packet).bytes()
}

fn echo(icmp_type: u8) -> Vec<u8> {
    Framed::new(Packet::echo(icmp_type, A.0, B.0, 77)).bytes()
}

fn error_about(quoted: Packet) -> Vec<u8> {
    Framed::new(Packet::error(B.0, A.0, quoted)).bytes()
}

fn error() -> Vec<u8> {
    error_about(Packet::udp(A, B, b"query"))
}

fn arp(operation: u8) -> Vec<u8> {
    let mut bytes = [[0xff; 6], PEER_MAC].concat();
    bytes.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, operation]);
    bytes.extend(PEER_MAC);
    bytes.extend(A.0);
    bytes.extend([0; 6]);
    bytes.extend(B.0);
    bytes
}

fn reason(bytes: &[u8]) -> Result<Kind, DropReason> {
    parse(bytes, bytes.len() as u32).map(|(meta, _)| meta.kind)
}

/// `bytes` with others at `at`, and with the checksums of the header at `IP`, of the quoted one
/// and of the ICMP error made right again.
fn with(mut bytes: Vec<u8>, at: usize, new: &[u8]) -> Vec<u8> {
    bytes[at..at + new.len()].copy_from_slice(new);
    let end = bytes.len();
    if bytes[IP + 9] == 1 && bytes[L4] == 3 {
        let quoted_header_len = usize::from(bytes[QUOTED_IP] & 15) * 4;
        sum_anew(&mut bytes[QUOTED_IP..end.min(QUOTED_IP + quoted_header_len.max(20))], 10);
        sum_anew(&mut bytes[L4..], 2);
    }
    let header_len = usize::from(bytes[IP] & 15) * 4;
    sum_anew(&mut bytes[IP..end.min(IP + header_len.max(20))], 10);
    bytes
}

fn sum_anew(bytes: &mut [u8], at: usize) {
    bytes[at..at + 2].fill(0);
    let checksum = Sum16BitWords::new().add_slice(bytes).ones_complement().to_be();
    bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// The first `len` bytes, as a whole frame.
fn cut(bytes: Vec<u8>, len: usize) -> Vec<u8> {
    bytes[..len].to_vec()
}

/// The IP packet cut to `ip_len` bytes, its total length said so.
fn ip_cut(bytes: Vec<u8>, ip_len: u8) -> Vec<u8> {
    with(cut(bytes, IP + usize::from(ip_len)), IP + 2, &[0, ip_len])
}

fn table() -> Vec<(&'static str, Vec<u8>, DropReason)> {
    let quoted_error = error_about(Packet::error(A.0, B.0, Packet::udp(B, A, b"")));
    vec![
        ("no bytes", vec![], FrameTooShort),
        ("an Ethernet header cut short", cut(udp(), 13), FrameTooShort),
        ("a VLAN tag cut short", cut(with_vlan(udp()), 17), FrameTooShort),
        ("from a group MAC", at(udp(), 6, &[0x03]), MacSourceBad),
        ("an 802.3 length", at(udp(), 12, &[0x05, 0xdc]), EtherTypeUnsupported),
        ("an unknown EtherType", at(udp(), 12, &[0x88, 0xcc]), EtherTypeUnsupported),
        ("an 802.1ad tag", at(with_vlan(udp()), 12, &[0x88, 0xa8]), EtherTypeUnsupported),
        ("two 802.1Q tags", with_vlan(with_vlan(udp())), EtherTypeUnsupported),
        ("IPv6", at(udp(), 12, &[0x86, 0xdd]), Ipv6Unsupported),
        ("ARP cut short", cut(arp(1), 41), FrameTooShort),
        ("ARP for other hardware", at(arp(1), 14, &[0, 6]), ArpMalformed),
        ("ARP for another protocol", at(arp(1), 16, &[0x86, 0xdd]), ArpMalformed),
        ("ARP with a long hardware address", at(arp(1), 18, &[8]), ArpMalformed),
        ("ARP with a long protocol address", at(arp(1), 19, &[16]), ArpMalformed),
        ("ARP with operation 3", arp(3), ArpMalformed),
        ("ARP from a group", at(arp(1), 22, &[3]), ArpMalformed),
        ("ARP from nobody", at(arp(1), 22, &[0; 6]), ArpMalformed),
        ("an IP header cut short", cut(udp(), IP + 19), FrameTooShort),
        ("IP version 5", with(udp(), IP, &[0x55]), IpVersionBad),
        ("an IP header of 16 bytes", with(udp(), IP, &[0x44]), IpHeaderLenBad),
        ("an IP header beyond the frame", with(udp(), IP, &[0x4f]), IpHeaderLenBad),
        ("a bad IP checksum", at(udp(), IP + 10, &[0, 0]), IpChecksumBad),
        ("a total length below the header", with(udp(), IP + 2, &[0, 19]), IpTotalLenBad),
        ("a total length beyond the frame", with(udp(), IP + 2, &[0, 34]), IpTotalLenBad),
        ("an option of length 1", with_ip_options(&[7, 1, 0, 0]), IpOptionsBad),
        ("an option beyond the header", with_ip_options(&[1, 7, 4, 0]), IpOptionsBad),
        ("an option without a length", with_ip_options(&[1, 1, 1, 7]), IpOptionsBad),
        ("a loose source route", with_ip_options(&[131, 3, 4, 0]), SourceRouted),
        ("a strict source route", with_ip_options(&[1, 137, 3, 4]), SourceRouted),
        ("a bad checksum over options", at(with_ip_options(&[1; 4]), L4, &[2]), IpChecksumBad),
        ("a first fragment", with(udp(), IP + 6, &[0x20, 0]), Fragment),
        ("a last fragment", with(udp(), IP + 6, &[0x00, 1]), Fragment),
        ("IP protocol 132", with(udp(), IP + 9, &[132]), ProtocolUnsupported),
        ("a UDP header cut short", ip_cut(udp(), 27), UdpLenBad),
        ("a UDP length of 7", at(udp(), L4 + 4, &[0, 7]), UdpLenBad),
        ("a UDP length beyond the packet", at(udp(), L4 + 4, &[0, 14]), UdpLenBad),
        ("UDP from port 0", at(udp(), L4, &[0, 0]), PortZero),
        ("UDP to port 0", at(udp(), L4 + 2, &[0, 0]), PortZero),
        ("TCP to port 0", at(tcp(2), L4 + 2, &[0, 0]), PortZero),
        ("a TCP header cut short", ip_cut(tcp(2), 39), TcpHeaderBad),
        ("a TCP data offset of 16 bytes", at(tcp(2), L4 + 12, &[0x40]), TcpHeaderBad),
        ("a TCP data offset beyond the packet", at(tcp(2), L4 + 12, &[0x60]), TcpHeaderBad),
        ("TCP without flags", tcp(0), TcpFlagsBad),
        ("SYN and FIN", tcp(0x03), TcpFlagsBad),
        ("SYN and RST", tcp(0x06), TcpFlagsBad),
        ("a SYN's option of length 0", syn_with(&[8, 0, 0, 0]), TcpHeaderBad),
        ("a SYN's option beyond the header", syn_with(&[2, 5, 0, 0]), TcpHeaderBad),
        ("a window scale of two bytes", syn_with(&[3, 4, 1, 1]), TcpHeaderBad),
        ("an ICMP header cut short", ip_cut(echo(8), 27), IcmpHeaderBad),
        ("a short timestamp", echo(13), IcmpHeaderBad),
        ("ICMP redirect", echo(5), IcmpTypeUnsupported),
        ("ICMP source quench", echo(4), IcmpTypeUnsupported),
        ("ICMP address mask request", echo(17), IcmpTypeUnsupported),
        ("a bad ICMP checksum", at(error(), L4 + 2, &[0, 0]), IcmpChecksumBad),
        ("a quote cut within its header", quote_cut(error(), 19), QuotedHeaderBad),
        ("a quote cut within its transport", quote_cut(error(), 27), QuotedHeaderBad),
        ("a quoted IP version 6", with(error(), QUOTED_IP, &[0x65]), QuotedHeaderBad),
        ("a quoted header of 16 bytes", with(error(), QUOTED_IP, &[0x44]), QuotedHeaderBad),
        ("a quoted header beyond the quote", with(error(), QUOTED_IP, &[0x48]), QuotedHeaderBad),
        (
            "a quote of 27 bytes by its own word",
            with(error(), QUOTED_IP + 3, &[27]),
            QuotedHeaderBad,
        ),
        ("a quoted later fragment", with(error(), QUOTED_IP + 7, &[1]), QuotedHeaderBad),
        ("a bad quoted checksum", quoted_checksum_bad(), QuotedHeaderBad),
        ("a quoted bad option", error_about_options(&[7, 1, 0, 0]), QuotedHeaderBad),
        (
            "a quoted IP protocol 132",
            with(error(), QUOTED_IP + 9, &[132]),
            QuotedProtocolUnsupported,
        ),
        ("a quoted error", quoted_error, QuotedProtocolUnsupported),
        ("a quoted redirect", error_about(Packet::echo(5, A.0, B.0, 1)), QuotedProtocolUnsupported),
    ]
}

/// `bytes` with others at `at` and nothing else.
fn at(mut bytes: Vec<u8>, at: usize, new: &[u8]) -> Vec<u8> {
    bytes[at..at + new.len()].copy_from_slice(new);
    bytes
}

fn with_vlan(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.splice(12..12, [0x81, 0x00, 0xe0, 0x64]);
    bytes
}

/// The error with `len` bytes of quote.
fn quote_cut(bytes: Vec<u8>, len: u8) -> Vec<u8> {
    ip_cut(bytes, 28 + len)
}

fn quoted_checksum_bad() -> Vec<u8> {
    let mut bytes = at(error(), QUOTED_IP + 10, &[0, 0]);
    sum_anew(&mut bytes[L4..], 2);
    bytes
}

fn error_about_options(options: &[u8]) -> Vec<u8> {
    error_about(Packet { options: options.to_vec(), ..Packet::udp(A, B, b"query") })
}

#[test]
fn each_bad_frame_has_its_reason() {
    for (name, bytes, expected) in table() {
        assert_eq!(reason(&bytes), Err(expected), "{name}");
    }
}

#[test]
fn each_reason_of_parsing_has_its_frame() {
    let shown: BTreeSet<_> = table().into_iter().map(|(_, _, reason)| reason).collect();
    let parsing = DropReason::ALL.iter().copied().filter(|reason| {
        // Told in tests of their own, by the router, or by what decodes histories.
        let elsewhere =
            [HeadersSegmented, MacNotOurs, VlanUnknown, ScrHeaderBad, ArpNotOurs, ArpConflict];
        *reason < MartianSource && !elsewhere.contains(reason)
    });
    assert_eq!(shown, parsing.collect());
}

#[test]
fn what_is_odd_but_harmless_passes() {
    for (name, bytes, kind) in [
        ("a UDP length below the packet's", at(udp(), L4 + 4, &[0, 8]), Kind::Udp),
        ("a UDP checksum that is wrong", at(udp(), L4 + 6, &[1, 1]), Kind::Udp),
        ("options that end early", with_ip_options(&[1, 0, 7, 1]), Kind::Udp),
        ("record route", with_ip_options(&[7, 7, 4, 0, 0, 0, 0, 0]), Kind::Udp),
        ("don't fragment", with(udp(), IP + 6, &[0x40, 0]), Kind::Udp),
        ("every TCP flag but SYN", tcp(0xfd), Kind::Tcp),
        ("a bare FIN", tcp(0x01), Kind::Tcp),
        ("bad options outside a SYN", at(syn_with(&[8, 0, 0, 0]), L4 + 13, &[0x10]), Kind::Tcp),
        ("an empty echo reply", ip_cut(echo(0), 28), Kind::IcmpReply),
        ("an error about a first fragment", with(error(), QUOTED_IP + 6, &[0x20]), Kind::IcmpError),
        ("an error about options", error_about_options(&[148, 4, 0, 0]), Kind::IcmpError),
        (
            "a quoted length beyond the quote",
            with(error(), QUOTED_IP + 2, &[5, 220]),
            Kind::IcmpError,
        ),
        ("a quoted bad UDP checksum", with(error(), QUOTED_L4 + 6, &[1, 1]), Kind::IcmpError),
        ("ARP reply", arp(2), Kind::ArpReply),
        ("ARP padding", [arp(1), vec![0; 18]].concat(), Kind::ArpRequest),
    ] {
        assert_eq!(reason(&bytes), Ok(kind), "{name}");
    }
}

#[test]
fn headers_must_lie_in_the_first_segment() {
    // How many bytes of each frame have to: an error's checksum is over all of it.
    for (name, bytes, needed) in [
        ("UDP", udp(), L4 + 8),
        ("TCP", tcp(0x10), L4 + 20),
        ("TCP with options", syn_with(&[2, 4, 5, 0xb4]), L4 + 24),
        ("IP options", with_ip_options(&[1; 8]), L4 + 8 + 8),
        ("an echo request", echo(8), L4 + 8),
        ("an error", error(), error().len()),
        ("ARP", arp(1), arp(1).len()),
    ] {
        let whole = parse(&bytes, bytes.len() as u32).unwrap();
        for len in 0..bytes.len() {
            let outcome = parse(&bytes[..len], bytes.len() as u32);
            if len < needed {
                assert_eq!(outcome, Err(HeadersSegmented), "{name}, {len} bytes");
            } else {
                let (meta, layout) = whole;
                let layout = Layout { end: len as u16, ..layout };
                assert_eq!(outcome, Ok((meta, layout)), "{name}, {len} bytes");
            }
        }
    }
}

#[test]
fn the_longest_packet_has_a_layout() {
    let mut bytes = at(udp(), IP + 2, &[0xff, 0xff]);
    sum_anew(&mut bytes[IP..L4], 10);
    bytes.resize(IP + 65_535, 0);
    let (meta, layout) = parse(&bytes, bytes.len() as u32).unwrap();
    assert_eq!((meta.ip_len, layout.end), (65_535, 65_535));
    assert_eq!(parse(&bytes[..100], bytes.len() as u32).unwrap().1.end, 100);
    assert_eq!(reason(&bytes[..bytes.len() - 1]), Err(IpTotalLenBad));
}

#[test]
fn a_tag_is_told_from_none() {
    let layout = |bytes: Vec<u8>| parse(&bytes, bytes.len() as u32).unwrap().1;
    assert_eq!(layout(udp()).vlan, Layout::UNTAGGED);
    // Of the tag 0xe064 the upper four bits are priority.
    let tagged = layout(with_vlan(udp()));
    assert_eq!((tagged.vlan, tagged.l3, tagged.l4), (0x064, 18, 38));
    assert_eq!(layout(at(with_vlan(udp()), 14, &[0xe0, 0])).vlan, 0);
}

#[test]
fn an_arp_packet_is_its_addresses() {
    let bytes = arp(1);
    let (meta, layout) = parse(&bytes, 60).unwrap();
    let expected = PacketMeta {
        flow: FlowMeta { kind: Kind::ArpRequest, ..FlowMeta::default() },
        from: A.0.into(),
        to: B.0.into(),
        link_to: Mac::BROADCAST,
        ..PacketMeta::default()
    };
    assert_eq!(meta, expected);
    assert_eq!((layout.l3, layout.end), (14, 42));
}

#[test]
fn the_window_scale_is_read_from_a_syn_and_bounded() {
    let scale = |bytes: Vec<u8>| parse(&bytes, bytes.len() as u32).unwrap().0.tcp.window_scale;
    assert_eq!(scale(syn_with(&[1, 3, 3, 7])), 7);
    // RFC 7323, 2.3.
    assert_eq!(scale(syn_with(&[2, 4, 5, 0xb4, 1, 3, 3, 15])), 14);
    assert_eq!(scale(syn_with(&[1, 3, 3, 0])), 0);
    assert_eq!(scale(syn_with(&[0, 3, 3, 7])), TcpMeta::NO_SCALE);
    assert_eq!(scale(at(syn_with(&[1, 3, 3, 7]), L4 + 13, &[0x10])), TcpMeta::NO_SCALE);
}

#[test]
fn an_error_is_about_its_flow_seen_from_the_other_end() {
    let ends = |quoted: Packet| {
        let bytes = Framed::new(Packet::error([203, 0, 113, 9], A.0, quoted)).bytes();
        let (meta, _) = parse(&bytes, bytes.len() as u32).unwrap();
        assert_eq!((meta.from, meta.to), ([203, 0, 113, 9].into(), A.0.into()));
        (meta.src, meta.dst)
    };
    let end = |addr: [u8; 4], port| Endpoint::new(addr.into(), port);
    assert_eq!(ends(Packet::udp(A, B, b"")), (end(B.0, 53), end(A.0, 40000)));
    assert_eq!(ends(Packet::tcp(A, B, 2)), (end(B.0, 53), end(A.0, 40000)));
    // The identifier belongs to the end that asks.
    assert_eq!(ends(Packet::echo(8, A.0, B.0, 9)), (end(B.0, 0), end(A.0, 9)));
    assert_eq!(ends(Packet::echo(0, A.0, B.0, 9)), (end(B.0, 9), end(A.0, 0)));
}
