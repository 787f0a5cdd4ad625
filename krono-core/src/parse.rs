//! Bytes become a value: every check of a length or a field of a header lives here.
//!
//! Headers are checked in the order in which they lie in the frame, each check with its
//! [`DropReason`]. What passes can be looked at and rewritten without further checks. Whether the
//! addresses make sense is the router's question, not asked here.

use std::hint::cold_path;
use std::net::Ipv4Addr;

use crate::checksum::{self, Sum};
use crate::drop::DropReason;
use crate::packet::{
    Endpoint, FlowMeta, Kind, Layout, Mac, PacketMeta, Protocol, TcpFlags, TcpMeta,
};

pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(crate) const ETHERTYPE_ARP: u16 = 0x0806;
pub(crate) const ETHERTYPE_VLAN: u16 = 0x8100;
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;

/// How an ARP packet begins: Ethernet (1), IPv4, and the lengths of their addresses.
pub(crate) const ARP_ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
pub(crate) const ARP_REQUEST: u16 = 1;
pub(crate) const ARP_REPLY: u16 = 2;

const IP_ICMP: u8 = 1;
const IP_TCP: u8 = 6;
const IP_UDP: u8 = 17;

const IP_HEADER_MIN: usize = 20;
/// The first byte of an IP header without options.
const IP_VERSION_AND_LEN_PLAIN: u8 = 0x45;

/// Parses an Ethernet II frame (at most one 802.1Q tag) that carries ARP, or IPv4 with UDP, TCP,
/// an ICMP query or an ICMP error.
///
/// `bytes` is the frame's first segment, of which at most 65,535 bytes are looked at, and
/// `wire_len` the length of the whole frame. All headers, and an ICMP error as a whole, must lie
/// in the first segment. Bytes behind the IP packet are Ethernet padding and ignored.
///
/// # Errors
/// The reason to drop the frame: the first check that failed, in header order.
pub fn parse(bytes: &[u8], wire_len: u32) -> Result<(PacketMeta, Layout), DropReason> {
    let (mut meta, mut layout) = (PacketMeta::default(), Layout::default());
    parse_into(bytes, wire_len, &mut meta, &mut layout)?;
    Ok((meta, layout))
}

/// [`parse`] that writes what it finds to where it is wanted: into `meta` and `layout`, which are
/// complete if the frame is a good one, and anything if it is not.
///
/// Values that are moved right after they were put together from small parts cost the store
/// buffer's latency each time, which was a third of a packet's cycles.
#[inline]
pub fn parse_into(
    bytes: &[u8],
    wire_len: u32,
    meta: &mut PacketMeta,
    layout: &mut Layout,
) -> Result<(), DropReason> {
    let (header, packet) = Layer::new(bytes, wire_len).split::<14>(DropReason::FrameTooShort)?;
    if header[6] & 1 != 0 {
        return refuse(DropReason::MacSourceBad);
    }
    let parsed = Parsed { meta, layout };
    let link = Link { to: Mac(bytes_at(header, 0)), vlan: Layout::UNTAGGED, len: 14 };
    match u16_at(header, 12) {
        // Called here and below, so that offsets are constants in what most packets meet.
        ETHERTYPE_IPV4 => parse_ipv4(packet, link, parsed),
        ether_type => parse_unusual(ether_type, packet.bytes, packet.len, link, parsed),
    }
}

/// Anything but IPv4 without a VLAN tag.
#[inline(never)]
fn parse_unusual(
    ether_type: u16,
    bytes: &[u8],
    len: usize,
    mut link: Link,
    parsed: Parsed<'_>,
) -> Result<(), DropReason> {
    let (mut ether_type, mut packet) = (ether_type, Layer { bytes, len });
    if ether_type == ETHERTYPE_VLAN {
        let (tag, behind) = packet.split::<4>(DropReason::FrameTooShort)?;
        link = Link { vlan: u16_at(tag, 0) & 0x0fff, len: 18, ..link };
        (ether_type, packet) = (u16_at(tag, 2), behind);
    }
    match ether_type {
        ETHERTYPE_IPV4 => parse_ipv4(packet, link, parsed),
        ETHERTYPE_ARP => parse_arp(packet, link, parsed),
        ETHERTYPE_IPV6 => refuse(DropReason::Ipv6Unsupported),
        _ => refuse(DropReason::EtherTypeUnsupported),
    }
}

/// The end of a frame's way, which is none of the path's business: its code may lie far off.
#[inline(always)]
fn refuse<T>(reason: DropReason) -> Result<T, DropReason> {
    cold_path();
    Err(reason)
}

/// Where to write what was found.
struct Parsed<'a> {
    meta: &'a mut PacketMeta,
    layout: &'a mut Layout,
}

/// The VLAN that a frame is in, [`Layout::UNTAGGED`] if it has no tag, or one that is a priority
/// only (VLAN 0); for who must sort frames before they are parsed.
#[inline]
pub fn vlan_of(bytes: &[u8]) -> u16 {
    match bytes.first_chunk::<16>() {
        Some(link) if u16_at(link, 12) == ETHERTYPE_VLAN => match u16_at(link, 14) & 0x0fff {
            0 => Layout::UNTAGGED,
            vlan => vlan,
        },
        _ => Layout::UNTAGGED,
    }
}

/// What is known from the link header.
#[derive(Clone, Copy)]
struct Link {
    to: Mac,
    vlan: u16,
    len: u16,
}

/// RFC 826, and RFC 1812, 3.3.2: a group address is no sender's.
#[cold]
fn parse_arp(packet: Layer<'_>, link: Link, parsed: Parsed<'_>) -> Result<(), DropReason> {
    let arp: &[u8; 28] = packet.header(DropReason::FrameTooShort)?;
    let kind = match (bytes_at(arp, 0), u16_at(arp, 6)) {
        (ARP_ETHERNET_IPV4, ARP_REQUEST) => Kind::ArpRequest,
        (ARP_ETHERNET_IPV4, ARP_REPLY) => Kind::ArpReply,
        _ => return refuse(DropReason::ArpMalformed),
    };
    let sender = Mac(bytes_at(arp, 8));
    if sender.is_group() || sender == Mac::default() {
        return refuse(DropReason::ArpMalformed);
    }
    *parsed.meta = PacketMeta {
        flow: FlowMeta { kind, ..FlowMeta::default() },
        from: addr_at(arp, 14),
        to: addr_at(arp, 24),
        link_to: link.to,
        ..PacketMeta::default()
    };
    let end = link.len + arp.len() as u16;
    *parsed.layout = Layout { l3: link.len, l4: end, end, vlan: link.vlan, ..Layout::default() };
    Ok(())
}

#[inline(always)]
fn parse_ipv4(packet: Layer<'_>, link: Link, parsed: Parsed<'_>) -> Result<(), DropReason> {
    let (header, payload) = packet.split(DropReason::FrameTooShort)?;
    if header[0] != IP_VERSION_AND_LEN_PLAIN {
        return parse_ipv4_with_options(packet.bytes, packet.len, header, link, parsed);
    }
    check_sum(Sum::default().add_bytes(header), DropReason::IpChecksumBad)?;
    parse_ipv4_payload(packet.len, header, payload, link, parsed)
}

#[cold]
fn parse_ipv4_with_options(
    bytes: &[u8],
    len: usize,
    header: &[u8; IP_HEADER_MIN],
    link: Link,
    parsed: Parsed<'_>,
) -> Result<(), DropReason> {
    let packet = Layer { bytes, len };
    let header_len = ip_header_len(packet, header)?;
    parse_ipv4_payload(packet.len, header, packet.behind(header_len), link, parsed)
}

/// What lies behind the IP header in a packet of which there are `len` bytes, padding included.
#[inline(always)]
fn parse_ipv4_payload(
    len: usize,
    header: &[u8; IP_HEADER_MIN],
    payload: Layer<'_>,
    link: Link,
    parsed: Parsed<'_>,
) -> Result<(), DropReason> {
    const DONT_FRAGMENT: u16 = 0x4000;
    const MORE_FRAGMENTS_AND_OFFSET: u16 = 0x3fff;
    let header_len = len - payload.len;
    let ip_len = u16_at(header, 2);
    let total_len = usize::from(ip_len);
    if total_len < header_len || total_len > len {
        return refuse(DropReason::IpTotalLenBad);
    }
    let fragment = u16_at(header, 6);
    if fragment & MORE_FRAGMENTS_AND_OFFSET != 0 {
        return refuse(DropReason::Fragment);
    }
    let payload = payload.truncated(total_len - header_len);
    let (from, to) = (addr_at(header, 12), addr_at(header, 16));
    let ip = Ip {
        link,
        from,
        to,
        len: ip_len,
        ttl: header[8],
        dont_fragment: fragment & DONT_FRAGMENT != 0,
        l4: link.len + header_len as u16,
        end: link.len + (header_len + payload.bytes.len()) as u16,
    };
    match header[9] {
        IP_UDP => ip.put(parse_udp(payload, from, to)?, parsed),
        IP_TCP => ip.put(parse_tcp(payload, from, to)?, parsed),
        IP_ICMP => ip.put(parse_icmp(payload.bytes, payload.len, from, to)?, parsed),
        _ => return refuse(DropReason::ProtocolUnsupported),
    }
    Ok(())
}

/// What is known from the link header and the IP header.
struct Ip {
    link: Link,
    from: Ipv4Addr,
    to: Ipv4Addr,
    len: u16,
    ttl: u8,
    dont_fragment: bool,
    l4: u16,
    end: u16,
}

impl Ip {
    /// Puts down all that is known. Inlined for each transport, so that the values go straight to
    /// where they belong.
    #[inline(always)]
    fn put(&self, found: Found, parsed: Parsed<'_>) {
        let Ip { link, from, to, l4, end, .. } = *self;
        *parsed.meta = PacketMeta {
            flow: found.flow,
            from,
            to,
            ip_len: self.len,
            ttl: self.ttl,
            dont_fragment: self.dont_fragment,
            icmp_type: found.icmp_type,
            link_to: link.to,
        };
        let (quoted_l3, quoted_l4) = match found.quoted_header_len {
            0 => (0, 0),
            len => (l4 + ICMP_HEADER_LEN, l4 + ICMP_HEADER_LEN + len),
        };
        *parsed.layout = Layout { l3: link.len, l4, end, quoted_l3, quoted_l4, vlan: link.vlan };
    }
}

/// What is known from the transport header.
#[derive(Clone, Copy)]
struct Found {
    flow: FlowMeta,
    icmp_type: u8,
    /// The length of the IP header that an ICMP error quotes, 0 in other packets.
    quoted_header_len: u16,
}

impl From<FlowMeta> for Found {
    #[inline(always)]
    fn from(flow: FlowMeta) -> Found {
        Found { flow, icmp_type: 0, quoted_header_len: 0 }
    }
}

/// The length of an IP header, which is right in itself: RFC 1812, 5.2.2, except that the version
/// and the length go first, as the checksum needs them.
fn ip_header_len(packet: Layer<'_>, header: &[u8; IP_HEADER_MIN]) -> Result<usize, DropReason> {
    if header[0] >> 4 != 4 {
        return refuse(DropReason::IpVersionBad);
    }
    let header_len = usize::from(header[0] & 0x0f) * 4;
    if header_len < IP_HEADER_MIN || header_len > packet.len {
        return refuse(DropReason::IpHeaderLenBad);
    }
    let options = packet.behind(IP_HEADER_MIN).prefix(header_len - IP_HEADER_MIN)?;
    check_ip_options(options, Sum::default().add_bytes(header))?;
    Ok(header_len)
}

#[inline]
fn check_sum(sum: Sum, otherwise: DropReason) -> Result<(), DropReason> {
    if sum.fold() == checksum::VALID { Ok(()) } else { refuse(otherwise) }
}

/// RFC 791, 3.1. Source routes are refused (RFC 7126, 4.3.5 and 4.4.5); other options are carried.
/// `sum` is that of the header before them.
#[cold]
fn check_ip_options(options: &[u8], sum: Sum) -> Result<(), DropReason> {
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    const STRICT_SOURCE_ROUTE: u8 = 137;
    check_sum(sum.add_bytes(options), DropReason::IpChecksumBad)?;
    for option in Options(options) {
        let (kind, _) = option.ok_or(DropReason::IpOptionsBad)?;
        if matches!(kind, LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE) {
            return Err(DropReason::SourceRouted);
        }
    }
    Ok(())
}

/// RFC 768. The length may leave bytes of the packet unused, but not ask for more.
#[inline(always)]
fn parse_udp(datagram: Layer<'_>, from: Ipv4Addr, to: Ipv4Addr) -> Result<Found, DropReason> {
    let header: &[u8; 8] = datagram.header(DropReason::UdpLenBad)?;
    let (src, dst) = port_endpoints(header, from, to)?;
    let len = usize::from(u16_at(header, 4));
    if len < header.len() || len > datagram.len {
        return refuse(DropReason::UdpLenBad);
    }
    let (tcp, kind, protocol) = (TcpMeta::default(), Kind::Udp, Protocol::Udp);
    Ok(FlowMeta { tcp, src, dst, kind, protocol }.into())
}

/// RFC 9293, 3.1. Options are read in a SYN only, the one place for a window scale.
#[inline(always)]
fn parse_tcp(segment: Layer<'_>, from: Ipv4Addr, to: Ipv4Addr) -> Result<Found, DropReason> {
    const HEADER_MIN: usize = 20;
    let header: &[u8; HEADER_MIN] = segment.header(DropReason::TcpHeaderBad)?;
    let (src, dst) = port_endpoints(header, from, to)?;
    let header_len = usize::from(header[12] >> 4) * 4;
    if header_len < HEADER_MIN || header_len > segment.len {
        return refuse(DropReason::TcpHeaderBad);
    }
    let options = segment.behind(HEADER_MIN).prefix(header_len - HEADER_MIN)?;
    let flags = TcpFlags(header[13]);
    let syn = flags.has(TcpFlags::SYN);
    if flags.0 == 0 || syn && flags.has(TcpFlags::FIN.with(TcpFlags::RST)) {
        return refuse(DropReason::TcpFlagsBad);
    }
    let tcp = TcpMeta {
        seq: u32::from_be_bytes(bytes_at(header, 4)),
        ack: u32::from_be_bytes(bytes_at(header, 8)),
        window: u16_at(header, 14),
        payload_len: (segment.len - header_len) as u16,
        flags,
        window_scale: if syn { window_scale(options)? } else { TcpMeta::NO_SCALE },
    };
    let (kind, protocol) = (Kind::Tcp, Protocol::Tcp);
    Ok(FlowMeta { tcp, src, dst, kind, protocol }.into())
}

/// The shift count of a window scale option; one above 14 counts as 14 (RFC 7323, 2.3).
#[inline(never)]
fn window_scale(options: &[u8]) -> Result<u8, DropReason> {
    const WINDOW_SCALE: u8 = 3;
    let mut scale = TcpMeta::NO_SCALE;
    for option in Options(options) {
        match option.ok_or(DropReason::TcpHeaderBad)? {
            (WINDOW_SCALE, &[shift]) => scale = shift.min(14),
            (WINDOW_SCALE, _) => return Err(DropReason::TcpHeaderBad),
            _ => {}
        }
    }
    Ok(scale)
}

#[inline]
fn port_endpoints(
    header: &[u8],
    from: Ipv4Addr,
    to: Ipv4Addr,
) -> Result<(Endpoint, Endpoint), DropReason> {
    let (sport, dport) = (u16_at(header, 0), u16_at(header, 2));
    if sport == 0 || dport == 0 {
        return refuse(DropReason::PortZero);
    }
    Ok((Endpoint::new(from, sport), Endpoint::new(to, dport)))
}

/// RFC 792. Types that are neither queries nor errors about a flow, redirect (5) and source
/// quench (4) among them, are refused (RFC 5508, REQ-10 and REQ-11).
#[inline(never)]
fn parse_icmp(bytes: &[u8], len: usize, from: Ipv4Addr, to: Ipv4Addr) -> Result<Found, DropReason> {
    let message = Layer { bytes, len };
    let header: &[u8; 8] = message.header(DropReason::IcmpHeaderBad)?;
    let icmp_type = header[0];
    let kind = icmp_kind(icmp_type).ok_or(DropReason::IcmpTypeUnsupported)?;
    if kind == Kind::IcmpError {
        return parse_icmp_error(message, icmp_type);
    }
    if matches!(icmp_type, ICMP_TIMESTAMP | ICMP_TIMESTAMP_REPLY) {
        message.header::<20>(DropReason::IcmpHeaderBad)?;
    }
    let (src, dst) = query_endpoints(kind, header, from, to);
    let (tcp, protocol) = (TcpMeta::default(), Protocol::Icmp);
    let flow = FlowMeta { tcp, src, dst, kind, protocol };
    Ok(Found { flow, icmp_type, quoted_header_len: 0 })
}

pub(crate) const ICMP_HEADER_LEN: u16 = 8;
pub(crate) const ICMP_ECHO: u8 = 8;
const ICMP_TIMESTAMP: u8 = 13;
const ICMP_TIMESTAMP_REPLY: u8 = 14;

/// What an ICMP message of this type is to a shard, if anything.
#[inline]
pub(crate) fn icmp_kind(icmp_type: u8) -> Option<Kind> {
    match icmp_type {
        ICMP_ECHO | ICMP_TIMESTAMP => Some(Kind::IcmpRequest),
        0 | ICMP_TIMESTAMP_REPLY => Some(Kind::IcmpReply),
        3 | 11 | 12 => Some(Kind::IcmpError),
        _ => None,
    }
}

/// A query's identifier belongs to the end that asks.
fn query_endpoints(
    kind: Kind,
    header: &[u8; 8],
    from: Ipv4Addr,
    to: Ipv4Addr,
) -> (Endpoint, Endpoint) {
    let identifier = u16_at(header, 4);
    let (sport, dport) = if kind == Kind::IcmpRequest { (identifier, 0) } else { (0, identifier) };
    (Endpoint::new(from, sport), Endpoint::new(to, dport))
}

/// RFC 5508, REQ-3. The quoted packet is the flow's, seen from its other end; it may be cut
/// short behind 8 bytes of transport header (RFC 792), and extensions may follow (RFC 4884).
/// Its transport checksum is not looked at (REQ-3 c).
#[cold]
fn parse_icmp_error(message: Layer<'_>, icmp_type: u8) -> Result<Found, DropReason> {
    const FRAGMENT_OFFSET: u16 = 0x1fff;
    let bytes = message.prefix(message.len)?;
    check_sum(Sum::default().add_bytes(bytes), DropReason::IcmpChecksumBad)?;
    let quote = message.behind(usize::from(ICMP_HEADER_LEN));
    let header = quote.header(DropReason::QuotedHeaderBad)?;
    let header_len = ip_header_len(quote, header).map_err(|_| DropReason::QuotedHeaderBad)?;
    if u16_at(header, 6) & FRAGMENT_OFFSET != 0 {
        return Err(DropReason::QuotedHeaderBad);
    }
    let transport: &[u8; 8] = quote
        .truncated(usize::from(u16_at(header, 2)))
        .behind(header_len)
        .header(DropReason::QuotedHeaderBad)?;
    let (from, to) = (addr_at(header, 12), addr_at(header, 16));
    let ports =
        (Endpoint::new(from, u16_at(transport, 0)), Endpoint::new(to, u16_at(transport, 2)));
    let (protocol, (quoted_src, quoted_dst)) = match (header[9], icmp_kind(transport[0])) {
        (IP_UDP, _) => (Protocol::Udp, ports),
        (IP_TCP, _) => (Protocol::Tcp, ports),
        (IP_ICMP, Some(kind @ (Kind::IcmpRequest | Kind::IcmpReply))) => {
            (Protocol::Icmp, query_endpoints(kind, transport, from, to))
        }
        _ => return Err(DropReason::QuotedProtocolUnsupported),
    };
    let (tcp, kind) = (TcpMeta::default(), Kind::IcmpError);
    let flow = FlowMeta { tcp, src: quoted_dst, dst: quoted_src, kind, protocol };
    Ok(Found { flow, icmp_type, quoted_header_len: header_len as u16 })
}

/// A protocol layer's bytes: those in the first segment, and how many there are in all.
#[derive(Clone, Copy)]
struct Layer<'a> {
    /// At most `len` bytes, and at most 65,535, so that offsets into them fit 16 bits.
    bytes: &'a [u8],
    len: usize,
}

impl<'a> Layer<'a> {
    #[inline]
    fn new(bytes: &'a [u8], wire_len: u32) -> Self {
        let bytes = &bytes[..bytes.len().min(usize::from(u16::MAX))];
        Layer { bytes, len: bytes.len().max(wire_len as usize) }
    }

    /// The first `N` bytes; `short` if the layer has fewer.
    #[inline]
    fn header<const N: usize>(self, short: DropReason) -> Result<&'a [u8; N], DropReason> {
        match self.bytes.first_chunk() {
            Some(header) => Ok(header),
            None if self.len < N => refuse(short),
            None => refuse(DropReason::HeadersSegmented),
        }
    }

    /// The first `N` bytes and what follows them; `short` if the layer has fewer.
    #[inline]
    fn split<const N: usize>(self, short: DropReason) -> Result<(&'a [u8; N], Self), DropReason> {
        match self.bytes.split_first_chunk() {
            Some((header, bytes)) => Ok((header, Layer { bytes, len: self.len - N })),
            None if self.len < N => refuse(short),
            None => refuse(DropReason::HeadersSegmented),
        }
    }

    /// The first `len` bytes of a layer that has so many.
    #[inline]
    fn prefix(self, len: usize) -> Result<&'a [u8], DropReason> {
        self.bytes.get(..len).ok_or(DropReason::HeadersSegmented)
    }

    /// What follows `header_len` bytes of header.
    #[inline]
    fn behind(self, header_len: usize) -> Self {
        Layer {
            bytes: self.bytes.get(header_len..).unwrap_or_default(),
            len: self.len.saturating_sub(header_len),
        }
    }

    /// The layer without what lies beyond its first `len` bytes.
    #[inline]
    fn truncated(self, len: usize) -> Self {
        Layer { bytes: &self.bytes[..self.bytes.len().min(len)], len: self.len.min(len) }
    }
}

/// Walks IP or TCP options, which are laid out alike: (type, data) of each that has a length, and
/// `None` for one that does not fit, which is the last.
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = Option<(u8, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        const END: u8 = 0;
        const NO_OPERATION: u8 = 1;
        loop {
            match *self.0 {
                [] | [END, ..] => return None,
                [NO_OPERATION, ref rest @ ..] => self.0 = rest,
                [kind, len, ..] if (2..=self.0.len()).contains(&usize::from(len)) => {
                    let (option, rest) = self.0.split_at(usize::from(len));
                    self.0 = rest;
                    return Some(Some((kind, &option[2..])));
                }
                _ => {
                    self.0 = &[];
                    return Some(None);
                }
            }
        }
    }
}

#[inline]
pub(crate) fn bytes_at<const N: usize>(header: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[at..at + N]);
    bytes
}

#[inline]
pub(crate) fn u16_at(header: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(bytes_at(header, at))
}

#[inline]
pub(crate) fn addr_at(header: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::from(bytes_at::<4>(header, at))
}
