//! Complete IPv4 packets in captured frames: where their parts are, and how to re-address them.
//!
//! This is written against the RFCs and shares nothing with the path that it is to prove.

use std::net::Ipv4Addr;

/// IP protocol number of ICMP.
pub const ICMP: u8 = 1;
/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;

/// Bytes of an Ethernet header without a tag.
pub const ETHERNET: usize = 14;

const TCP_FIN: u8 = 1;
const TCP_SYN: u8 = 2;
const TCP_RST: u8 = 4;
const TCP_ACK: u8 = 16;

/// An address and a port (or ICMP identifier).
pub type Endpoint = (Ipv4Addr, u16);

/// Why a captured frame cannot be replayed as a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unfit {
    /// Not IPv4 below Ethernet and at most two VLAN tags.
    NotIpv4,
    /// A fragment, the first included.
    Fragment,
    /// Neither TCP, UDP nor ICMP.
    OtherProtocol,
    /// The capture does not hold the whole packet.
    Cut,
    /// A length or version in a header is impossible.
    Malformed,
}

impl Unfit {
    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Unfit::NotIpv4 => "not IPv4",
            Unfit::Fragment => "fragment",
            Unfit::OtherProtocol => "other IP protocol",
            Unfit::Cut => "not captured whole",
            Unfit::Malformed => "impossible header",
        }
    }
}

/// A packet without a link header; every length in it has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    bytes: Vec<u8>,
    /// Where the transport header begins.
    l4: usize,
}

/// The packet that an ICMP error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    l3: usize,
    l4: usize,
    /// IP protocol of the quoted packet.
    pub protocol: u8,
    /// Its source; the identifier and 0 for an ICMP reply.
    pub source: Endpoint,
    /// Its destination; the identifier and 0 for an ICMP query.
    pub destination: Endpoint,
    /// Whether its IP header checksum is right.
    pub checksum_is_right: bool,
}

/// What an ICMP message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpKind {
    /// Echo or timestamp request.
    Request,
    /// Echo or timestamp reply.
    Reply,
    /// Destination unreachable, time exceeded or parameter problem.
    Error,
    /// Anything else.
    Other,
}

/// One end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The sender.
    Source,
    /// The receiver.
    Destination,
}

impl End {
    const fn address_at(self) -> usize {
        match self {
            End::Source => 12,
            End::Destination => 16,
        }
    }

    const fn port_at(self) -> usize {
        match self {
            End::Source => 0,
            End::Destination => 2,
        }
    }

    const fn opposite(self) -> End {
        match self {
            End::Source => End::Destination,
            End::Destination => End::Source,
        }
    }
}

impl Packet {
    /// The packet in a frame, VLAN tags and Ethernet padding removed.
    ///
    /// # Errors
    /// Why there is none that could be replayed.
    pub fn in_frame(frame: &[u8]) -> Result<Self, Unfit> {
        let mut at = 12;
        let mut tags = 0;
        loop {
            let ether_type = frame.get(at..at + 2).ok_or(Unfit::NotIpv4)?;
            match (ether_type, tags) {
                ([0x08, 0x00], _) => break,
                ([0x81, 0x00] | [0x88, 0xa8] | [0x91, 0x00], 0 | 1) => {
                    (at, tags) = (at + 4, tags + 1)
                }
                _ => return Err(Unfit::NotIpv4),
            }
        }
        Packet::new(&frame[at + 2..])
    }

    fn new(bytes: &[u8]) -> Result<Self, Unfit> {
        let l4 = header_len(bytes)?;
        let total_len = usize::from(word(bytes, 2));
        if total_len < l4 {
            return Err(Unfit::Malformed);
        }
        if word(bytes, 6) & 0x3fff != 0 {
            return Err(Unfit::Fragment);
        }
        if !matches!(bytes[9], ICMP | TCP | UDP) {
            return Err(Unfit::OtherProtocol);
        }
        let bytes = bytes.get(..total_len).ok_or(Unfit::Cut)?.to_vec();
        let packet = Packet { bytes, l4 };
        if packet.transport_fits() { Ok(packet) } else { Err(Unfit::Malformed) }
    }

    fn transport_fits(&self) -> bool {
        let transport = self.transport();
        let len = transport.len();
        match self.protocol() {
            TCP => len >= 20 && (20..=len).contains(&(usize::from(transport[12] >> 4) * 4)),
            UDP => len >= 8 && (8..=len).contains(&usize::from(word(transport, 4))),
            _ => len >= 8,
        }
    }

    /// The packet from its IP header on.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A frame that carries the packet.
    pub fn frame(&self, to: [u8; 6], from: [u8; 6]) -> Vec<u8> {
        [&to[..], &from[..], &[0x08, 0x00], &self.bytes[..]].concat()
    }

    fn transport(&self) -> &[u8] {
        &self.bytes[self.l4..]
    }

    /// IP protocol number.
    pub fn protocol(&self) -> u8 {
        self.bytes[9]
    }

    /// Time to live.
    pub fn ttl(&self) -> u8 {
        self.bytes[8]
    }

    /// Makes the packet what it is one hop on.
    pub fn decrement_ttl(&mut self) {
        self.bytes[8] = self.bytes[8].saturating_sub(1);
        self.correct_header_checksum();
    }

    /// An address of the IP header.
    pub fn address(&self, end: End) -> Ipv4Addr {
        address(&self.bytes, end.address_at())
    }

    /// Address and port; for ICMP the identifier, which a request has as its source's and a
    /// reply as its destination's port.
    pub fn endpoint(&self, end: End) -> Endpoint {
        let port = match self.protocol() {
            ICMP => icmp_port(self.transport(), end),
            _ => word(self.transport(), end.port_at()),
        };
        (self.address(end), port)
    }

    /// What an ICMP message is, by its type; meaningless for other protocols.
    pub fn icmp_kind(&self) -> IcmpKind {
        icmp_kind(self.transport()[0])
    }

    /// Whether this is a TCP segment that opens a connection.
    pub fn is_tcp_opening(&self) -> bool {
        let flags = self.tcp_flags();
        flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN) == TCP_SYN
    }

    /// Whether the flags of a TCP segment never occur in a connection.
    pub fn has_impossible_flags(&self) -> bool {
        let flags = self.tcp_flags();
        let control = flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN);
        control == 0 || (flags & TCP_SYN != 0 && flags & (TCP_FIN | TCP_RST) != 0)
    }

    fn tcp_flags(&self) -> u8 {
        self.transport()[13]
    }

    /// Whether the packet has an IP option that steers it (loose or strict source route).
    pub fn is_source_routed(&self) -> bool {
        let mut options = &self.bytes[20..self.l4];
        while let [kind, rest @ ..] = options {
            match kind {
                0 => return false,
                131 | 137 => return true,
                1 => options = rest,
                _ => {
                    let len = usize::from(rest.first().copied().unwrap_or(0));
                    options = options.get(len.max(2)..).unwrap_or_default();
                }
            }
        }
        false
    }

    /// Whether the checksum of an ICMP message is right.
    pub fn icmp_checksum_is_right(&self) -> bool {
        sum(self.transport()) == 0xffff
    }

    /// The packet that an ICMP error quotes, if as much of it is there as an error must quote.
    pub fn quote(&self) -> Option<Quote> {
        let l3 = self.l4 + 8;
        let quoted = self.bytes.get(l3..)?;
        let header_len = header_len(quoted).ok()?;
        let transport = quoted.get(header_len..).filter(|transport| transport.len() >= 8)?;
        if word(quoted, 6) & 0x3fff != 0 {
            return None;
        }
        let port = |end: End| match quoted[9] {
            ICMP => icmp_port(transport, end),
            _ => word(transport, end.port_at()),
        };
        Some(Quote {
            l3,
            l4: l3 + header_len,
            protocol: quoted[9],
            source: (address(quoted, 12), port(End::Source)),
            destination: (address(quoted, 16), port(End::Destination)),
            checksum_is_right: sum(&quoted[..header_len]) == 0xffff,
        })
    }

    /// Makes the IP header checksum right.
    pub fn correct_header_checksum(&mut self) {
        self.bytes[10..12].fill(0);
        let checksum = !sum(&self.bytes[..self.l4]);
        self.bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
    }

    /// Replaces an address of the IP header, and lets both checksums follow: one that was right
    /// stays right, one that was wrong stays as wrong.
    pub fn set_address(&mut self, end: End, new: Ipv4Addr) {
        let checksums = match self.protocol() {
            ICMP => vec![10],
            _ => vec![10, self.transport_checksum_at()],
        };
        self.replace(end.address_at(), &new.octets(), &checksums);
    }

    /// Replaces address and port of one end; for ICMP the port is the identifier.
    pub fn set_endpoint(&mut self, end: End, new: Endpoint) {
        self.set_address(end, new.0);
        let at = if self.protocol() == ICMP { 4 } else { end.port_at() };
        let checksum_at = self.transport_checksum_at();
        self.replace(self.l4 + at, &new.1.to_be_bytes(), &[checksum_at]);
    }

    /// Replaces an address in the packet quoted by an ICMP error. The quoted checksums follow,
    /// where they are there, and so does the error's own.
    pub fn set_quoted_address(&mut self, quote: Quote, end: End, new: Ipv4Addr) {
        let mut checksums = vec![quote.l3 + 10];
        checksums.extend(self.quoted_checksum_at(quote).filter(|_| quote.protocol != ICMP));
        self.replace_quoted(quote.l3 + end.address_at(), &new.octets(), &checksums);
    }

    /// Replaces address and port in the packet quoted by an ICMP error; for a quoted ICMP message
    /// the port is the identifier.
    pub fn set_quoted_endpoint(&mut self, quote: Quote, end: End, new: Endpoint) {
        self.set_quoted_address(quote, end, new.0);
        let at = if quote.protocol == ICMP { 4 } else { end.port_at() };
        let checksums: Vec<usize> = self.quoted_checksum_at(quote).into_iter().collect();
        self.replace_quoted(quote.l4 + at, &new.1.to_be_bytes(), &checksums);
    }

    /// Where the checksum of a quoted transport header is, if the quote reaches so far.
    fn quoted_checksum_at(&self, quote: Quote) -> Option<usize> {
        let at = quote.l4 + transport_checksum_offset(quote.protocol);
        (at + 2 <= self.bytes.len()).then_some(at)
    }

    fn replace_quoted(&mut self, at: usize, new: &[u8], checksums: &[usize]) {
        let before = sum(&self.bytes[self.l4 + 8..]);
        self.replace(at, new, checksums);
        let after = sum(&self.bytes[self.l4 + 8..]);
        self.update_checksum(self.l4 + 2, before, after);
    }

    fn transport_checksum_at(&self) -> usize {
        self.l4 + transport_checksum_offset(self.protocol())
    }

    /// Writes `new` at an even offset, and updates these checksums for it.
    fn replace(&mut self, at: usize, new: &[u8], checksums: &[usize]) {
        let place = at..at + new.len();
        let before = sum(&self.bytes[place.clone()]);
        self.bytes[place].copy_from_slice(new);
        for checksum in checksums {
            self.update_checksum(*checksum, before, sum(new));
        }
    }

    /// RFC 1624, eqn. 3; a UDP checksum that is absent (0) stays so, and none becomes so.
    fn update_checksum(&mut self, at: usize, before: u16, after: u16) {
        let old = word(&self.bytes, at);
        let is_udp = self.is_udp_checksum(at);
        if old == 0 && is_udp {
            return;
        }
        let new = !fold(u32::from(!old) + u32::from(!before) + u32::from(after));
        let new = if new == 0 && is_udp { 0xffff } else { new };
        self.bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
    }

    fn is_udp_checksum(&self, at: usize) -> bool {
        let quoted = || self.quote().is_some_and(|q| q.protocol == UDP && at == q.l4 + 6);
        match self.protocol() {
            UDP => at == self.l4 + 6,
            ICMP => self.icmp_kind() == IcmpKind::Error && quoted(),
            _ => false,
        }
    }

    /// What a NAT that translates the end `local` leaves as it is: the packet with the rest of
    /// it blanked. Two packets of which one may be the other's translation have it in common.
    pub fn unchanged_by_translation(&self, local: End) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let mut blank = |at: usize, len: usize| {
            let end = (at + len).min(bytes.len());
            bytes[at.min(end)..end].fill(0);
        };
        blank(10, 2);
        blank(local.address_at(), 4);
        blank(self.transport_checksum_at(), 2);
        let is_error = self.protocol() == ICMP && self.icmp_kind() == IcmpKind::Error;
        match self.protocol() {
            ICMP if is_error => {}
            ICMP => blank(self.l4 + 4, 2),
            _ => blank(self.l4 + local.port_at(), 2),
        }
        if let Some(quote) = self.quote().filter(|_| is_error) {
            // The receiver of an error is the sender of what it quotes.
            let quoted = local.opposite();
            blank(quote.l3 + 10, 2);
            blank(quote.l3 + quoted.address_at(), 4);
            let port_at = if quote.protocol == ICMP { 4 } else { quoted.port_at() };
            blank(quote.l4 + port_at, 2);
            blank(quote.l4 + transport_checksum_offset(quote.protocol), 2);
        }
        bytes
    }
}

fn header_len(bytes: &[u8]) -> Result<usize, Unfit> {
    let first = bytes.first().ok_or(Unfit::Cut)?;
    let len = usize::from(first & 0xf) * 4;
    if first >> 4 != 4 || len < 20 {
        return Err(Unfit::Malformed);
    }
    if bytes.len() < len { Err(Unfit::Cut) } else { Ok(len) }
}

const fn transport_checksum_offset(protocol: u8) -> usize {
    match protocol {
        TCP => 16,
        UDP => 6,
        _ => 2,
    }
}

const fn icmp_kind(icmp_type: u8) -> IcmpKind {
    match icmp_type {
        8 | 13 => IcmpKind::Request,
        0 | 14 => IcmpKind::Reply,
        3 | 11 | 12 => IcmpKind::Error,
        _ => IcmpKind::Other,
    }
}

fn icmp_port(message: &[u8], end: End) -> u16 {
    match (icmp_kind(message[0]), end) {
        (IcmpKind::Request, End::Source) | (IcmpKind::Reply, End::Destination) => word(message, 4),
        _ => 0,
    }
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn address(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3])
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// One's complement sum of 16-bit words.
fn sum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    fold(bytes.chunks(2).map(word).sum())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use etherparse::{Icmpv4Type, PacketBuilder, TcpHeader, icmpv4::DestUnreachableHeader};
    use proptest::prelude::*;

    /// A frame with a UDP datagram and right checksums.
    pub(crate) fn udp(source: Endpoint, destination: Endpoint, payload: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv4(source.0.octets(), destination.0.octets(), 64)
            .udp(source.1, destination.1);
        written(|out| builder.write(out, payload).unwrap())
    }

    /// A frame with a TCP segment whose flags `set` sets.
    pub(crate) fn tcp(
        source: Endpoint,
        destination: Endpoint,
        set: impl FnOnce(&mut TcpHeader),
    ) -> Vec<u8> {
        let mut header = TcpHeader::new(source.1, destination.1, 1000, 1000);
        set(&mut header);
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv4(source.0.octets(), destination.0.octets(), 64)
            .tcp_header(header);
        written(|out| builder.write(out, b"payload").unwrap())
    }

    /// A frame with an ICMP message.
    pub(crate) fn icmp(
        source: Ipv4Addr,
        destination: Ipv4Addr,
        kind: Icmpv4Type,
        payload: &[u8],
    ) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv4(source.octets(), destination.octets(), 64)
            .icmpv4(kind);
        written(|out| builder.write(out, payload).unwrap())
    }

    /// A frame with "host unreachable" about the packet in `frame`.
    pub(crate) fn unreachable(source: Ipv4Addr, destination: Ipv4Addr, frame: &[u8]) -> Vec<u8> {
        let kind = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Host);
        icmp(source, destination, kind, &frame[ETHERNET..])
    }

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut bytes);
        bytes
    }

    /// What is wrong in a packet by the judgement of checksums written from their definitions.
    fn wrong_checksums(packet: &Packet) -> Vec<&'static str> {
        let bytes = packet.bytes();
        let mut wrong = Vec::new();
        if sum(&bytes[..packet.l4]) != 0xffff {
            wrong.push("ip");
        }
        let transport = packet.transport();
        let len = (transport.len() as u32).to_be_bytes();
        let pseudo = [&bytes[12..20], &[0, bytes[9]], &len[2..], transport].concat();
        match packet.protocol() {
            ICMP if sum(transport) != 0xffff => wrong.push("icmp"),
            TCP if sum(&pseudo) != 0xffff => wrong.push("tcp"),
            UDP if word(transport, 6) != 0 && sum(&pseudo) != 0xffff => wrong.push("udp"),
            _ => {}
        }
        wrong
    }

    const A: Endpoint = (Ipv4Addr::new(10, 0, 0, 1), 1234);
    const B: Endpoint = (Ipv4Addr::new(203, 0, 113, 9), 53);

    fn endpoint() -> impl Strategy<Value = Endpoint> {
        (any::<[u8; 4]>(), any::<u16>()).prop_map(|(address, port)| (address.into(), port))
    }

    proptest! {
        #[test]
        fn right_checksums_stay_right(
            source in endpoint(),
            destination in endpoint(),
            new in endpoint(),
            payload in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let echo = Icmpv4Type::EchoRequest(etherparse::IcmpEchoHeader { id: 1, seq: 2 });
            let quoted = udp(source, destination, &payload);
            for frame in [
                udp(source, destination, &payload),
                tcp(source, destination, |header| header.syn = true),
                icmp(source.0, destination.0, echo, &payload),
            ] {
                let mut packet = Packet::in_frame(&frame).unwrap();
                packet.set_endpoint(End::Source, new);
                prop_assert_eq!(wrong_checksums(&packet), Vec::<&str>::new());
                prop_assert_eq!(packet.endpoint(End::Source), new);
            }
            let mut error =
                Packet::in_frame(&unreachable(destination.0, source.0, &quoted)).unwrap();
            error.set_quoted_endpoint(error.quote().unwrap(), End::Source, new);
            prop_assert_eq!(wrong_checksums(&error), Vec::<&str>::new());
            let quote = error.quote().unwrap();
            prop_assert!(quote.checksum_is_right);
            prop_assert_eq!((quote.source, quote.destination), (new, destination));
            let inner = Packet::new(&error.bytes()[quote.l3..]).unwrap();
            prop_assert_eq!(wrong_checksums(&inner), Vec::<&str>::new());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let frame = [&[0; 12][..], &[8, 0], &bytes].concat();
            if let Ok(mut packet) = Packet::in_frame(&frame) {
                let _ = packet.is_source_routed();
                let _ = packet.unchanged_by_translation(End::Source);
                packet.set_endpoint(End::Destination, A);
                if let Some(quote) = packet.quote() {
                    packet.set_quoted_endpoint(quote, End::Source, A);
                }
            }
        }
    }

    #[test]
    fn what_was_wrong_stays_wrong_and_what_was_absent_stays_absent() {
        let mut frame = udp(A, B, b"x");
        frame[ETHERNET + 26] ^= 0x55;
        let mut packet = Packet::in_frame(&frame).unwrap();
        packet.set_endpoint(End::Source, B);
        assert_eq!(wrong_checksums(&packet), ["udp"]);
        frame[ETHERNET + 26..][..2].fill(0);
        let mut packet = Packet::in_frame(&frame).unwrap();
        packet.set_endpoint(End::Source, B);
        assert_eq!(packet.transport()[6..8], [0, 0]);
        assert_eq!(wrong_checksums(&packet), Vec::<&str>::new());
    }

    #[test]
    fn frames_that_cannot_be_replayed_are_told_apart() {
        let good = udp(A, B, b"payload");
        let unfit = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut frame = good.clone();
            change(&mut frame);
            Packet::in_frame(&frame).unwrap_err()
        };
        assert_eq!(unfit(&|frame| frame[12] = 0x86), Unfit::NotIpv4);
        assert_eq!(unfit(&|frame| frame.truncate(13)), Unfit::NotIpv4);
        assert_eq!(unfit(&|frame| frame.truncate(40)), Unfit::Cut);
        assert_eq!(unfit(&|frame| frame[ETHERNET] = 0x65), Unfit::Malformed);
        assert_eq!(unfit(&|frame| frame[ETHERNET + 6] = 0x20), Unfit::Fragment);
        assert_eq!(unfit(&|frame| frame[ETHERNET + 9] = 47), Unfit::OtherProtocol);
        assert_eq!(unfit(&|frame| frame[ETHERNET + 25] = 200), Unfit::Malformed);
    }

    #[test]
    fn tags_and_padding_are_left_behind() {
        let plain = udp(A, B, b"x");
        let tags = [0x88, 0xa8, 0, 1, 0x81, 0, 0, 2];
        let tagged = [&plain[..12], &tags, &plain[12..], &[0; 20]].concat();
        let packet = Packet::in_frame(&tagged).unwrap();
        assert_eq!(packet, Packet::in_frame(&plain).unwrap());
        assert_eq!(packet.frame([1; 6], [2; 6])[12..], plain[12..]);
    }

    #[test]
    fn a_translation_is_recognised_and_other_packets_are_not() {
        let inner = udp(B, A, b"question");
        for frame in [udp(A, B, b"x"), tcp(A, B, |_| ()), unreachable(A.0, B.0, &inner)] {
            let packet = Packet::in_frame(&frame).unwrap();
            let mut translated = packet.clone();
            match packet.quote().filter(|_| packet.protocol() == ICMP) {
                Some(quote) => {
                    translated.set_address(End::Source, Ipv4Addr::new(198, 51, 100, 7));
                    let public = (Ipv4Addr::new(198, 51, 100, 7), 40_000);
                    translated.set_quoted_endpoint(quote, End::Destination, public);
                }
                None => {
                    translated.set_endpoint(End::Source, (Ipv4Addr::new(198, 51, 100, 7), 40_000));
                }
            }
            let common = packet.unchanged_by_translation(End::Source);
            assert_ne!(packet, translated);
            assert_eq!(common, translated.unchanged_by_translation(End::Source));
            translated.set_address(End::Destination, A.0);
            assert_ne!(common, translated.unchanged_by_translation(End::Source));
        }
    }
}
