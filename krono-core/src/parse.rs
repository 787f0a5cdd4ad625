//! Bytes become a value: every check of a length or a field of a header lives here.
//!
//! Headers are checked in the order in which they lie in the frame, each check with its
//! [`DropReason`]. What passes can be looked at and rewritten without further checks. Whether the
//! addresses make sense is the router's question, not asked here.

use std::hint::cold_path;
use std::net::Ipv4Addr;

use crate::checksum::Sum;
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
pub(crate) const IP_UDP: u8 = 17;

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
#[inline(always)]
pub fn parse_into(
    bytes: &[u8],
    wire_len: u32,
    meta: &mut PacketMeta,
    layout: &mut Layout,
) -> Result<(), DropReason> {
    let mut parsed = Parsed { meta, layout };
    let Some((ip, payload)) = Ip::recognise(bytes) else {
        cold_path();
        return parse_any(bytes, wire_len, parsed);
    };
    ip.put(&mut parsed);
    check_sum(Sum::default().add_bytes(ip.header), DropReason::IpChecksumBad)?;
    parse_payload(ip.protocol, payload, parsed)
}

/// Any frame. All checks are here and in what it calls.
#[inline(never)]
fn parse_any(bytes: &[u8], wire_len: u32, parsed: Parsed<'_>) -> Result<(), DropReason> {
    let (header, mut packet) = Layer::new(bytes, wire_len).split(DropReason::FrameTooShort)?;
    if is_group_source(header) {
        return refuse(DropReason::MacSourceBad);
    }
    let mut link = Link { header, vlan: Layout::UNTAGGED, len: LINK_LEN };
    let mut ether_type = ether_type(header);
    if ether_type == ETHERTYPE_VLAN {
        let (tag, behind) = packet.split::<4>(DropReason::FrameTooShort)?;
        link = Link { vlan: u16_at(tag, 0) & 0x0fff, len: LINK_LEN + 4, ..link };
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

/// The length of an Ethernet header without a tag, bytes.
const LINK_LEN: u16 = 14;

/// What is known from the link header.
#[derive(Clone, Copy)]
struct Link<'a> {
    header: &'a [u8; LINK_LEN as usize],
    vlan: u16,
    /// Where the next header lies, bytes from the frame's start.
    len: u16,
}

impl Link<'_> {
    #[inline(always)]
    fn to(self) -> Mac {
        Mac(bytes_at(self.header, 0))
    }
}

#[inline(always)]
fn is_group_source(header: &[u8; LINK_LEN as usize]) -> bool {
    header[6] & 1 != 0
}

#[inline(always)]
fn ether_type(header: &[u8; LINK_LEN as usize]) -> u16 {
    u16_at(header, 12)
}

/// RFC 826, and RFC 1812, 3.3.2: a group address is no sender's.
#[cold]
fn parse_arp(packet: Layer<'_>, link: Link<'_>, parsed: Parsed<'_>) -> Result<(), DropReason> {
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
        link_to: link.to(),
        ..PacketMeta::default()
    };
    let end = link.len + arp.len() as u16;
    *parsed.layout = Layout { l3: link.len, l4: end, end, vlan: link.vlan, ..Layout::default() };
    Ok(())
}

/// RFC 1812, 5.2.2, except that the version and the length go first, as the checksum needs them.
#[inline(always)]
fn parse_ipv4(packet: Layer<'_>, link: Link<'_>, mut parsed: Parsed<'_>) -> Result<(), DropReason> {
    let header = packet.header(DropReason::FrameTooShort)?;
    let header_len = ip_header_len(packet, header)?;
    let total_len = usize::from(ip_len(header));
    if total_len < header_len || total_len > packet.len {
        return refuse(DropReason::IpTotalLenBad);
    }
    if is_fragment(header) {
        return refuse(DropReason::Fragment);
    }
    let l4 = link.len + header_len as u16;
    let payload = packet.truncated(total_len).behind(header_len);
    let end = l4 + payload.bytes.len() as u16;
    let ip = Ip { link, header, len: ip_len(header), protocol: header[9], l4, end };
    ip.put(&mut parsed);
    parse_payload(ip.protocol, payload, parsed)
}

/// What is known from the link header and the IP header.
#[derive(Clone, Copy)]
struct Ip<'a> {
    link: Link<'a>,
    header: &'a [u8; IP_HEADER_MIN],
    len: u16,
    protocol: u8,
    /// Where the transport header lies, bytes from the frame's start.
    l4: u16,
    /// Where the packet ends, or its first segment does.
    end: u16,
}

impl<'a> Ip<'a> {
    /// Recognises a frame without a tag, IP options and further segments, in which [`parse_any`]
    /// would find nothing wrong before the payload, but perhaps for the header's checksum.
    #[inline(always)]
    fn recognise(frame: &'a [u8]) -> Option<(Self, Layer<'a>)> {
        const L4: u16 = LINK_LEN + IP_HEADER_MIN as u16;
        let headers: &[u8; L4 as usize] = frame.first_chunk()?;
        let (link, header) = headers.split_first_chunk()?;
        let header = header.first_chunk()?;
        let is_usual = !is_group_source(link)
            && ether_type(link) == ETHERTYPE_IPV4
            && header[0] == IP_VERSION_AND_LEN_PLAIN
            && !is_fragment(header);
        if !is_usual {
            return None;
        }
        let len = ip_len(header);
        let end = LINK_LEN.checked_add(len)?;
        let bytes = frame.get(L4.into()..end.into())?;
        let link = Link { header: link, vlan: Layout::UNTAGGED, len: LINK_LEN };
        let ip = Ip { link, header, len, protocol: header[9], l4: L4, end };
        Some((ip, Layer { bytes, len: bytes.len() }))
    }

    /// Puts down what is known.
    #[inline(always)]
    fn put(&self, Parsed { meta, layout }: &mut Parsed<'_>) {
        const DONT_FRAGMENT: u8 = 0x40;
        let Ip { link, header, l4, end, .. } = *self;
        let (from, to) = (addr_at(header, 12), addr_at(header, 16));
        (meta.from, meta.to) = (from, to);
        (meta.flow.src.addr, meta.flow.dst.addr) = (from, to);
        meta.ip_len = self.len;
        meta.ttl = header[8];
        meta.dont_fragment = header[6] & DONT_FRAGMENT != 0;
        meta.icmp_type = 0;
        meta.link_to = link.to();
        **layout = Layout { l3: link.len, l4, end, quoted_l3: 0, quoted_l4: 0, vlan: link.vlan };
    }
}

/// What an IP header of this protocol is followed by.
#[inline(always)]
fn parse_payload(protocol: u8, payload: Layer<'_>, parsed: Parsed<'_>) -> Result<(), DropReason> {
    match protocol {
        IP_UDP => parse_udp(payload, &mut parsed.meta.flow),
        IP_TCP => parse_tcp(payload, &mut parsed.meta.flow),
        protocol => parse_rare(protocol, payload.bytes, payload.len, parsed),
    }
}

/// The total length of an IP packet, by its header, bytes.
#[inline(always)]
fn ip_len(header: &[u8; IP_HEADER_MIN]) -> u16 {
    u16_at(header, 2)
}

/// Whether more fragments follow, or this is not the first one.
#[inline(always)]
fn is_fragment(header: &[u8; IP_HEADER_MIN]) -> bool {
    const MORE_FRAGMENTS_AND_OFFSET: u16 = 0x3fff;
    u16_at(header, 6) & MORE_FRAGMENTS_AND_OFFSET != 0
}

/// The length of an IP header, which is right in itself.
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
    if sum.is_valid() { Ok(()) } else { refuse(otherwise) }
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
fn parse_udp(datagram: Layer<'_>, flow: &mut FlowMeta) -> Result<(), DropReason> {
    let header: &[u8; 8] = datagram.header(DropReason::UdpLenBad)?;
    parse_ports(header, flow)?;
    let len = usize::from(u16_at(header, 4));
    if len < header.len() || len > datagram.len {
        return refuse(DropReason::UdpLenBad);
    }
    flow.tcp = TcpMeta::default();
    (flow.kind, flow.protocol) = (Kind::Udp, Protocol::Udp);
    Ok(())
}

/// The payload of a UDP datagram for this shard, which was parsed with this `layout`; its checksum
/// is looked at, as a receiver must (RFC 1122, 4.1.3.4).
///
/// # Errors
/// `sum_bad`, or that it does not all lie in the first segment.
pub(crate) fn datagram<'f>(
    frame: &'f [u8],
    layout: &Layout,
    sum_bad: DropReason,
) -> Result<&'f [u8], DropReason> {
    let addresses = usize::from(layout.l3) + 12;
    let bytes = &frame[layout.l4.into()..layout.end.into()];
    let len = u16_at(bytes, 4);
    let bytes = bytes.get(..len.into()).ok_or(DropReason::HeadersSegmented)?;
    if u16_at(bytes, 6) != 0 {
        let pseudo_header = Sum::default()
            .add_bytes(&frame[addresses..addresses + 8])
            .add_u16(IP_UDP.into())
            .add_u16(len);
        check_sum(pseudo_header.add_bytes(bytes), sum_bad)?;
    }
    Ok(&bytes[8..])
}

/// RFC 9293, 3.1. Options are read in a SYN only, the one place for a window scale.
#[inline(always)]
fn parse_tcp(segment: Layer<'_>, flow: &mut FlowMeta) -> Result<(), DropReason> {
    const HEADER_MIN: usize = 20;
    let header: &[u8; HEADER_MIN] = segment.header(DropReason::TcpHeaderBad)?;
    parse_ports(header, flow)?;
    let header_len = usize::from(header[12] >> 4) * 4;
    if header_len < HEADER_MIN || header_len > segment.len {
        return refuse(DropReason::TcpHeaderBad);
    }
    let (_, options) = segment.prefix(header_len)?.split_at(HEADER_MIN);
    let flags = TcpFlags(header[13]);
    if flags.0 == 0 {
        return refuse(DropReason::TcpFlagsBad);
    }
    flow.tcp.seq = u32::from_be_bytes(bytes_at(header, 4));
    flow.tcp.ack = u32::from_be_bytes(bytes_at(header, 8));
    flow.tcp.window = u16_at(header, 14);
    flow.tcp.payload_len = (segment.len - header_len) as u16;
    flow.tcp.flags = flags;
    flow.tcp.window_scale = TcpMeta::NO_SCALE;
    (flow.kind, flow.protocol) = (Kind::Tcp, Protocol::Tcp);
    if flags.has(TcpFlags::SYN) { parse_syn(options, &mut flow.tcp) } else { Ok(()) }
}

/// What is asked of a SYN alone. The shift count of a window scale option above 14 counts as 14
/// (RFC 7323, 2.3).
#[inline(never)]
fn parse_syn(options: &[u8], tcp: &mut TcpMeta) -> Result<(), DropReason> {
    const WINDOW_SCALE: u8 = 3;
    if tcp.flags.has(TcpFlags::FIN.with(TcpFlags::RST)) {
        return Err(DropReason::TcpFlagsBad);
    }
    for option in Options(options) {
        match option.ok_or(DropReason::TcpHeaderBad)? {
            (WINDOW_SCALE, &[shift]) => tcp.window_scale = shift.min(14),
            (WINDOW_SCALE, _) => return Err(DropReason::TcpHeaderBad),
            _ => {}
        }
    }
    Ok(())
}

#[inline(always)]
fn parse_ports(header: &[u8], flow: &mut FlowMeta) -> Result<(), DropReason> {
    let ports = u32::from_be_bytes(bytes_at(header, 0));
    (flow.src.port, flow.dst.port) = ((ports >> 16) as u16, ports as u16);
    if flow.src.port == 0 || flow.dst.port == 0 {
        return refuse(DropReason::PortZero);
    }
    Ok(())
}

/// Any payload but UDP and TCP.
#[cold]
fn parse_rare(
    protocol: u8,
    bytes: &[u8],
    len: usize,
    parsed: Parsed<'_>,
) -> Result<(), DropReason> {
    let Parsed { meta, layout } = parsed;
    match protocol {
        IP_ICMP => parse_icmp(Layer { bytes, len }, meta, layout),
        _ => Err(DropReason::ProtocolUnsupported),
    }
}

/// RFC 792. Types that are neither queries nor errors about a flow, redirect (5) and source
/// quench (4) among them, are refused (RFC 5508, REQ-10 and REQ-11).
fn parse_icmp(
    message: Layer<'_>,
    meta: &mut PacketMeta,
    layout: &mut Layout,
) -> Result<(), DropReason> {
    let header: &[u8; 8] = message.header(DropReason::IcmpHeaderBad)?;
    meta.icmp_type = header[0];
    let kind = icmp_kind(header[0]).ok_or(DropReason::IcmpTypeUnsupported)?;
    if kind == Kind::IcmpError {
        return parse_icmp_error(message, meta, layout);
    }
    if matches!(header[0], ICMP_TIMESTAMP | ICMP_TIMESTAMP_REPLY) {
        message.header::<20>(DropReason::IcmpHeaderBad)?;
    }
    let (src, dst) = query_endpoints(kind, header, meta.from, meta.to);
    let (tcp, protocol) = (TcpMeta::default(), Protocol::Icmp);
    meta.flow = FlowMeta { tcp, src, dst, kind, protocol };
    Ok(())
}

pub(crate) const ICMP_HEADER_LEN: u16 = 8;

/// Bytes of a UDP header.
pub(crate) const UDP_HEADER_LEN: u16 = 8;
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
fn parse_icmp_error(
    message: Layer<'_>,
    meta: &mut PacketMeta,
    layout: &mut Layout,
) -> Result<(), DropReason> {
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
    meta.flow = FlowMeta { tcp, src: quoted_dst, dst: quoted_src, kind, protocol };
    layout.quoted_l3 = layout.l4 + ICMP_HEADER_LEN;
    layout.quoted_l4 = layout.quoted_l3 + header_len as u16;
    Ok(())
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
