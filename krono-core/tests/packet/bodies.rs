//! What must hold for any bytes at all. The fuzz targets run these bodies, and so do stable tests
//! over mutated packets and over the inputs that once failed.
//!
//! An input is [`PARAMETERS_LEN`] bytes of parameters and then a frame. The sums here are written
//! out once more on purpose: the code under test is not its own judge.

use std::net::Ipv4Addr;

use krono_core::drop::DropReason;
use krono_core::frame::MemFrame;
use krono_core::packet::{Endpoint, Kind, Layout, Mac, PacketMeta, Protocol, Side};
use krono_core::program::{IcmpError, Translation};
use krono_core::reply;
use krono_core::rewrite::{self, LinkHeader};
use krono_core::router::bfd::{Control, SessionConfig, State};
use krono_core::router::{Router, RouterConfig, SideConfig};
use krono_core::time::Moment;

pub(crate) const PARAMETERS_LEN: usize = 19;

/// The first parameter's bits.
pub(crate) const SOURCE: u8 = 1;
pub(crate) const DESTINATION: u8 = 2;
pub(crate) const TAG: u8 = 4;
pub(crate) const MEND: u8 = 8;

const SHARD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const SHARD_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

struct Input {
    frame: Vec<u8>,
    wire_len: u32,
    source: Option<Endpoint>,
    destination: Option<Endpoint>,
    vlan: Option<u16>,
    error: IcmpError,
}

impl Input {
    fn read(data: &[u8]) -> Option<Input> {
        let (parameters, frame) = data.split_first_chunk::<PARAMETERS_LEN>()?;
        let mut frame = frame[..frame.len().min(60_000)].to_vec();
        let &[flags, f0, f1, ref rest @ ..] = parameters;
        if flags & MEND != 0 {
            mend(&mut frame);
        }
        let end = |at: usize| {
            let port = word(rest, at + 4).unwrap_or(0).max(1);
            Endpoint::new([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]].into(), port)
        };
        let mtu = word(rest, 14)?;
        Some(Input {
            wire_len: frame.len() as u32 + u32::from(u16::from_be_bytes([f0, f1])),
            frame,
            source: (flags & SOURCE != 0).then(|| end(0)),
            destination: (flags & DESTINATION != 0).then(|| end(6)),
            vlan: (flags & TAG != 0).then_some(mtu & 0xfff),
            error: IcmpError { kind: [3, 11, 12][usize::from(rest[12]) % 3], code: rest[13], mtu },
        })
    }

    fn parse(&self) -> Result<(PacketMeta, Layout), DropReason> {
        krono_core::parse::parse(&self.frame, self.wire_len)
    }

    fn memory(&self) -> MemFrame {
        MemFrame::new(&self.frame).with_further_segments(self.wire_len - self.frame.len() as u32)
    }
}

/// Parsing ends, what it finds lies in order within the frame, and a shorter first segment lets
/// it find the same or say that headers are missing.
pub(crate) fn parse(data: &[u8]) {
    let Some(input) = Input::read(data) else { return };
    parse_tagged(&input);
    let Ok((meta, layout)) = input.parse() else { return };
    let Layout { l3, l4, end, quoted_l3, quoted_l4, vlan } = layout;
    assert_eq!(l3, if vlan == Layout::UNTAGGED { 14 } else { 18 });
    assert!(l3 < l4 && l4 <= end && usize::from(end) <= input.frame.len(), "{layout:?}");
    if meta.kind == Kind::IcmpError {
        assert!(quoted_l3 == l4 + 8 && quoted_l4 >= quoted_l3 + 20 && quoted_l4 + 8 <= end);
    } else {
        assert_eq!((quoted_l3, quoted_l4), (0, 0));
    }
    for len in 0..input.frame.len() {
        match krono_core::parse::parse(&input.frame[..len], input.wire_len) {
            Ok(found) => {
                assert_eq!(found, (meta, Layout { end: end.min(len as u16), ..layout }));
            }
            Err(reason) => assert_eq!(reason, DropReason::HeadersSegmented, "of {len} bytes"),
        }
    }
}

/// A frame that is not recognised as a usual one, for its tag, is found to be the same packet, or
/// wrong for the same reason.
fn parse_tagged(input: &Input) {
    const PRIORITY_TAG: [u8; 4] = [0x81, 0, 0xe0, 0];
    let Some((addresses, rest)) = input.frame.split_at_checked(12) else { return };
    if rest.len() < 2 || rest.starts_with(&PRIORITY_TAG[..2]) {
        return;
    }
    let tagged = [addresses, &PRIORITY_TAG, rest].concat();
    let moved = |offset: u16| if offset == 0 { 0 } else { offset + 4 };
    let expected = input.parse().map(|(meta, Layout { l3, l4, end, quoted_l3, quoted_l4, .. })| {
        let (quoted_l3, quoted_l4) = (moved(quoted_l3), moved(quoted_l4));
        (meta, Layout { l3: l3 + 4, l4: l4 + 4, end: end + 4, quoted_l3, quoted_l4, vlan: 0 })
    });
    assert_eq!(krono_core::parse::parse(&tagged, input.wire_len + 4), expected);
}

/// What was forwarded parses as the translated packet, its checksums are as good as before, and
/// nothing else changed.
pub(crate) fn apply(data: &[u8]) {
    let Some(input) = Input::read(data) else { return };
    let Ok((meta, layout)) = input.parse() else { return };
    let source = input.source.map(|outside| Translation::new(meta.src, outside));
    let destination = input.destination.map(|inside| Translation::new(inside, meta.dst));
    let mut memory = input.memory();
    rewrite::apply(&mut memory.as_frame(), &layout, &meta, source.as_ref(), destination.as_ref());
    let (before, after) = (&input.frame, memory.bytes());
    let again = krono_core::parse::parse(after, input.wire_len);
    assert_eq!(again, Ok((expected(&input, meta, layout), layout)));
    for (at, (old, new)) in before.iter().zip(after).enumerate() {
        let may = may_change(before, &meta, &layout, at);
        assert!(old == new || may, "byte {at} of {meta:?}, {layout:?}");
    }
    if matches!(meta.kind, Kind::ArpRequest | Kind::ArpReply) {
        return;
    }
    assert_eq!(transport_residue(before, &meta, &layout), transport_residue(after, &meta, &layout));
    assert_eq!(quoted_residue(before, &meta, &layout), quoted_residue(after, &meta, &layout));
    let message = usize::from(layout.l4)..usize::from(layout.end);
    let is_query = matches!(meta.kind, Kind::IcmpRequest | Kind::IcmpReply);
    if is_query && sum(&before[message.clone()]) == 0xffff {
        assert_eq!(sum(&after[message]), 0xffff);
    }
}

/// Errors, echo replies and ARP replies parse as what they are, and go back where the packet came
/// from.
pub(crate) fn reply(data: &[u8]) {
    let Some(input) = Input::read(data) else { return };
    let Ok((meta, layout)) = input.parse() else { return };
    let link = LinkHeader { to: Mac([2, 0, 0, 0, 0, 2]), from: SHARD_MAC, vlan: input.vlan };
    let sent = |build: &dyn Fn(&mut MemFrame) -> Option<u16>| {
        let mut memory = input.memory();
        let l3 = build(&mut memory).expect("headroom");
        assert!(rewrite::write_link(&mut memory.as_frame(), l3, &link));
        let wire_len = *memory.as_frame().wire_len;
        let outcome = krono_core::parse::parse(memory.bytes(), wire_len);
        if let Ok((meta, layout)) = outcome {
            assert_eq!((meta.link_to, layout.vlan), (link.to, vlan_of(&link)));
        }
        (memory.bytes().to_vec(), outcome)
    };
    match meta.kind {
        Kind::ArpRequest => {
            let (bytes, outcome) =
                sent(&|m| reply::arp_reply(&mut m.as_frame(), &layout, SHARD_MAC));
            let (answer, answer_layout) = outcome.unwrap();
            assert_eq!((answer.kind, answer.from, answer.to), (Kind::ArpReply, meta.to, meta.from));
            let sender = reply::arp_sender(&MemFrame::new(&bytes).as_frame(), &answer_layout);
            assert_eq!(sender, SHARD_MAC);
            return;
        }
        Kind::ArpReply => return,
        Kind::IcmpRequest if meta.icmp_type == 8 => {
            let (bytes, outcome) = sent(&|m| reply::echo_reply(&mut m.as_frame(), &layout));
            let (answer, answer_layout) = outcome.unwrap();
            assert_eq!((answer.kind, answer.icmp_type, answer.ttl), (Kind::IcmpReply, 0, 64));
            assert_eq!((answer.src, answer.dst), (meta.dst, meta.src));
            let request = &input.frame[layout.l4.into()..layout.end.into()];
            let answer = &bytes[answer_layout.l4.into()..answer_layout.end.into()];
            assert_eq!(sum(request) % 0xffff, sum(answer) % 0xffff);
            if sum(request) == 0xffff {
                assert_eq!(sum(answer), 0xffff);
            }
        }
        _ => {}
    }
    let (bytes, outcome) =
        sent(&|m| reply::icmp_error(&mut m.as_frame(), &layout, input.error, SHARD));
    if meta.kind == Kind::IcmpError {
        assert!(!reply::may_answer(&meta));
        assert_eq!(outcome, Err(DropReason::QuotedProtocolUnsupported));
        return;
    }
    let (error, error_layout) = outcome.unwrap();
    assert_eq!((error.kind, error.icmp_type), (Kind::IcmpError, input.error.kind));
    assert_eq!((error.from, error.to, error.ttl), (SHARD, meta.from, 64));
    assert_eq!((error.src, error.dst), (meta.dst, meta.src));
    assert!(error.ip_len <= 576 && bytes.len() == usize::from(error_layout.end));
    let quote = &bytes[error_layout.quoted_l3.into()..];
    let packet = &input.frame[layout.l3.into()..layout.end.into()];
    assert_eq!(quote, &packet[..packet.len().min(548)]);
}

fn vlan_of(link: &LinkHeader) -> u16 {
    link.vlan.unwrap_or(Layout::UNTAGGED)
}

/// Whether the packet's, or the quoted packet's, (source, destination) has a port or identifier.
fn ports(frame: &[u8], meta: &PacketMeta, l4: usize) -> (bool, bool) {
    match (meta.protocol, frame[l4]) {
        (Protocol::Udp | Protocol::Tcp, _) => (true, true),
        (Protocol::Icmp, 8 | 13) => (true, false),
        (Protocol::Icmp, _) => (false, true),
    }
}

/// What the packet is to parse as once it is forwarded.
fn expected(input: &Input, meta: PacketMeta, layout: Layout) -> PacketMeta {
    let mut expected = meta;
    let (src_port, dst_port) = match meta.kind {
        Kind::ArpRequest | Kind::ArpReply => return meta,
        Kind::IcmpError => {
            let (quoted_src, quoted_dst) = ports(&input.frame, &meta, layout.quoted_l4.into());
            (quoted_dst, quoted_src)
        }
        _ => ports(&input.frame, &meta, layout.l4.into()),
    };
    expected.ttl = meta.ttl.saturating_sub(1);
    if let Some(source) = input.source {
        expected.from = source.addr;
        expected.src = Endpoint::new(source.addr, if src_port { source.port } else { 0 });
    }
    if let Some(destination) = input.destination {
        expected.to = destination.addr;
        expected.dst = Endpoint::new(destination.addr, if dst_port { destination.port } else { 0 });
    }
    expected
}

/// Whether forwarding may change the byte at `at`: TTL, checksums, addresses, ports.
fn may_change(frame: &[u8], meta: &PacketMeta, layout: &Layout, at: usize) -> bool {
    let offset = |header: u16| at.wrapping_sub(usize::from(header));
    let in_transport = |l4: u16| match meta.protocol {
        Protocol::Udp => matches!(offset(l4), 0..4 | 6..8),
        Protocol::Tcp => matches!(offset(l4), 0..4 | 16..18),
        Protocol::Icmp => matches!(offset(l4), 2..6),
    };
    if matches!(offset(layout.l3), 8 | 10..20) {
        return true;
    }
    if meta.kind != Kind::IcmpError {
        return in_transport(layout.l4);
    }
    matches!(offset(layout.l4), 2..4)
        || matches!(offset(layout.quoted_l3), 10..20)
        || in_transport(layout.quoted_l4) && at < quote_end(frame, layout)
}

/// Where the quoted packet ends: with the error, or before, by its own total length.
fn quote_end(frame: &[u8], layout: &Layout) -> usize {
    let l3 = usize::from(layout.quoted_l3);
    let total_len = word(frame, l3 + 2).expect("parsed before");
    usize::from(layout.end).min(l3 + usize::from(total_len))
}

/// How far the sum that the transport checksum makes right is off, modulo 65,535. Over a packet
/// that is not all there it means nothing, but is still the same before and after.
fn transport_residue(frame: &[u8], meta: &PacketMeta, layout: &Layout) -> Option<u32> {
    let (l3, l4, end) = (layout.l3.into(), layout.l4.into(), usize::from(layout.end));
    match meta.kind {
        Kind::Udp if word(frame, l4 + 6) == Some(0) => None,
        Kind::Udp | Kind::Tcp => Some(addresses_and(frame, l3, &frame[l4..end])),
        _ => Some(u32::from(sum(&frame[l4..end])) % 0xffff),
    }
}

/// The same of a packet quoted by an error, if its checksum lies in the quote.
fn quoted_residue(frame: &[u8], meta: &PacketMeta, layout: &Layout) -> Option<u32> {
    if meta.kind != Kind::IcmpError {
        return None;
    }
    let (l3, l4) = (usize::from(layout.quoted_l3), usize::from(layout.quoted_l4));
    let end = quote_end(frame, layout);
    match meta.protocol {
        Protocol::Udp if word(frame, l4 + 6) == Some(0) => None,
        Protocol::Tcp if l4 + 18 > end => None,
        Protocol::Udp | Protocol::Tcp => Some(addresses_and(frame, l3, &frame[l4..end])),
        Protocol::Icmp => Some(u32::from(sum(&frame[l4..end])) % 0xffff),
    }
}

fn addresses_and(frame: &[u8], l3: usize, transport: &[u8]) -> u32 {
    (u32::from(sum(&frame[l3 + 12..l3 + 20])) + u32::from(sum(transport))) % 0xffff
}

/// RFC 1071's sum, a word at a time.
fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Makes the checksums that `parse` looks at right, as far as they can be found, so that what
/// lies behind them is reached.
fn mend(frame: &mut [u8]) {
    let l3 = if word(frame, 12) == Some(0x8100) { 18 } else { 14 };
    let Some(packet) = frame.get_mut(l3..) else { return };
    let Some(header_len) = mend_ip(packet) else { return };
    let total_len = usize::from(word(packet, 2).unwrap_or(0)).min(packet.len());
    let is_icmp = packet[9] == 1;
    let Some(message) = packet.get_mut(header_len..total_len) else { return };
    if is_icmp && message.len() >= 8 && matches!(message[0], 3 | 11 | 12) {
        mend_ip(&mut message[8..]);
        mend_sum(message, 2);
    }
}

fn mend_ip(packet: &mut [u8]) -> Option<usize> {
    let header_len = usize::from(packet.first()? & 15) * 4;
    mend_sum(packet.get_mut(..header_len).filter(|header| header.len() >= 20)?, 10);
    Some(header_len)
}

fn mend_sum(bytes: &mut [u8], at: usize) {
    bytes[at..at + 2].fill(0);
    let checksum = !sum(bytes);
    bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// The payload of a datagram is refused for a reason of its own, or is a BFD Control packet that
/// can be written again; and a router with a session does something definite about it.
pub(crate) fn bfd(payload: &[u8]) {
    watched(payload);
    let control = match Control::parse(payload) {
        Ok(control) => control,
        Err(reason) => return assert!(reason.name().starts_with("bfd_"), "{reason}"),
    };
    let len = usize::from(payload[3]);
    assert!(payload[0] >> 5 == 1 && payload[1] & 1 == 0 && payload[2] > 0, "{control:?}");
    assert!(len <= payload.len() && len >= if control.authenticated { 26 } else { 24 });
    let written = control.to_bytes();
    let mut expected = payload[..24].to_vec();
    // Without its authentication section.
    (expected[1], expected[3]) = (expected[1] & !4, 24);
    assert_eq!(written[..], expected);
    assert_eq!(Control::parse(&written), Ok(Control { authenticated: false, ..control }));
}

/// Has a router hear a packet in each state of its session, for as long as it may then be silent.
fn watched(payload: &[u8]) {
    let neighbour = Ipv4Addr::new(10, 0, 0, 254);
    let watched = SessionConfig {
        neighbour,
        transmit_us: 10_000,
        receive_us: 10_000,
        multiplier: 3,
        seed: 9,
    };
    let side = |address: &str| SideConfig {
        mac: SHARD_MAC,
        address: address.parse().expect("an interface"),
        vlan: None,
        mtu: 1500,
        routes: vec![],
        neighbours: vec![(neighbour, Mac([2, 0, 0, 0, 0, 2]))],
        bfd: vec![watched],
    };
    let (inside, outside) = (side("10.0.0.1/24"), side("192.0.2.1/24"));
    let mut router = Router::new(&RouterConfig { inside, outside, pool: vec![] });
    let meta = PacketMeta { from: neighbour, to: SHARD, ttl: 255, ..PacketMeta::default() };
    let mut now = Moment(0);
    for state in [State::AdminDown, State::Down, State::Init, State::Up] {
        let own = Control { state, multiplier: 1, my_discriminator: 7, ..Control::default() };
        let own = Control { your_discriminator: 9, desired_tx_us: 10_000, ..own };
        for said in [&own.to_bytes()[..], payload] {
            let heard = router.on_bfd(Side::Inside, &meta, said, now);
            assert!(heard.err().is_none_or(|reason| reason.name().starts_with("bfd_")));
            let sent = std::iter::from_fn(|| router.duty(now)).count();
            assert!(sent <= 2, "{sent} packets at once, of two sessions");
            now.0 += 20_000_000;
        }
    }
}
