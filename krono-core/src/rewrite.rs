//! A decision becomes bytes again: the translation, the hop, and the link header.
//!
//! Checksums are updated by what changed (RFC 1624) and never computed anew, so a packet that was
//! damaged on its way stays so, and its receiver notices.

use std::hint::cold_path;

use crate::checksum::{self, Delta, Sum};
use crate::frame::Frame;
use crate::packet::{Endpoint, Kind, Layout, Mac, PacketMeta, Protocol};
use crate::parse::{ETHERTYPE_VLAN, ICMP_HEADER_LEN, icmp_kind, u16_at};
use crate::program::Translation;

/// Forwards an IP packet by one hop: decrements its time to live and translates its source to
/// `source.outside()`, its destination to `destination.inside()`, or both (a hairpin).
///
/// In an ICMP error the quoted packet, which went the other way, is translated as well: its
/// destination as the error's source, its source as the error's destination (RFC 5508, REQ-4 and
/// REQ-5). DSCP, identification, options and payload stay as they are; so does a UDP checksum of
/// 0. An ARP packet is left alone.
///
/// # Panics
/// If `layout` and `meta` are not what parsing this frame gave.
#[inline]
pub fn apply(
    frame: &mut Frame<'_>,
    layout: &Layout,
    meta: &PacketMeta,
    source: Option<&Translation>,
    destination: Option<&Translation>,
) {
    let packet = &mut frame.bytes_mut()[layout.l3.into()..layout.end.into()];
    translate(packet, layout, meta, source, destination);
}

/// [`apply`] and [`write_link`] in one: the frame is ready to leave. False, and nothing done, if
/// there is no headroom for the link header.
///
/// # Panics
/// If `layout` and `meta` are not what parsing this frame gave.
#[must_use]
#[inline(always)]
pub fn forward(
    frame: &mut Frame<'_>,
    layout: &Layout,
    meta: &PacketMeta,
    source: Option<&Translation>,
    destination: Option<&Translation>,
    link: &LinkHeader,
) -> bool {
    let link_len = link.byte_len();
    if layout.l3 != link_len {
        cold_path();
        if !resize_link(frame, layout.l3, link_len) {
            return false;
        }
    }
    let end = link_len + (layout.end - layout.l3);
    let (header, packet) = frame.bytes_mut()[..end.into()].split_at_mut(link_len.into());
    put_link(header, link);
    translate(packet, layout, meta, source, destination);
    true
}

/// [`forward`] for a UDP or TCP packet whose layout is plain and stays so, of which one end is
/// translated; `addresses` are the first 12 bytes of its Ethernet header. False, and nothing done,
/// if the frame is shorter than Ethernet, IP and TCP headers are.
#[must_use]
#[inline(always)]
pub(crate) fn pass(
    bytes: &mut [u8],
    kind: Kind,
    source: Option<&Translation>,
    destination: Option<&Translation>,
    addresses: &[u8; 12],
) -> bool {
    const HEADERS_LEN: usize = 14 + 20 + 20;
    let Some(headers) = bytes.first_chunk_mut::<HEADERS_LEN>() else { return false };
    let (link, packet) = headers.split_at_mut(14);
    link[..12].copy_from_slice(addresses);
    translate_flow(packet, 20, kind, &Ends::of(source, destination));
    true
}

/// Forwards an IP packet by one hop; see [`apply`].
#[inline(always)]
fn translate(
    packet: &mut [u8],
    layout: &Layout,
    meta: &PacketMeta,
    source: Option<&Translation>,
    destination: Option<&Translation>,
) {
    let has_ports = matches!(meta.kind, Kind::Udp | Kind::Tcp);
    let header_len = usize::from(layout.l4 - layout.l3);
    // Two calls, so that what is not to be rewritten costs no questions.
    match (source, destination) {
        (Some(source), None) if has_ports => {
            translate_flow(packet, header_len, meta.kind, &Ends::of(Some(source), None));
        }
        (None, Some(destination)) if has_ports => {
            translate_flow(packet, header_len, meta.kind, &Ends::of(None, Some(destination)));
        }
        _ => {
            cold_path();
            translate_unusual(packet, layout, meta, source, destination);
        }
    }
}

#[inline(always)]
fn translate_flow(packet: &mut [u8], header_len: usize, kind: Kind, ends: &Ends) {
    let (ip, transport) = packet.split_at_mut(header_len);
    rewrite_transport(transport, kind, ends);
    rewrite_header(ip, ends, ends.addr_delta);
}

/// [`translate`] for hairpins, for what passes untranslated, for ICMP, and for ARP, which is left
/// alone.
#[inline(never)]
fn translate_unusual(
    packet: &mut [u8],
    layout: &Layout,
    meta: &PacketMeta,
    source: Option<&Translation>,
    destination: Option<&Translation>,
) {
    let ends = Ends::of(source, destination);
    let (ip, message) = packet.split_at_mut(usize::from(layout.l4 - layout.l3));
    let mut addr_delta = ends.addr_delta;
    match meta.kind {
        Kind::ArpRequest | Kind::ArpReply => return,
        _ if source.is_none() && destination.is_none() => {}
        Kind::IcmpError => {
            let quoted_header_len = usize::from(layout.quoted_l4 - layout.quoted_l3);
            rewrite_icmp_error(message, meta.protocol, quoted_header_len, &ends);
            addr_delta = ends.addr_delta_in(ip);
        }
        kind => rewrite_transport(message, kind, &ends),
    }
    rewrite_header(ip, &ends, addr_delta);
}

/// The ends of a packet as they will be (`None` for one that stays as it is), and what sums over
/// addresses, or over addresses and ports, gain by that.
struct Ends {
    source: Option<Endpoint>,
    destination: Option<Endpoint>,
    addr_delta: Delta,
    flow_delta: Delta,
}

impl Ends {
    #[inline(always)]
    fn of(source: Option<&Translation>, destination: Option<&Translation>) -> Ends {
        let there = |t: &Translation| (t.addr_delta(), t.flow_delta());
        let back = |t: &Translation| (t.addr_delta().inverse(), t.flow_delta().inverse());
        let (addr_delta, flow_delta) = match (source.map(there), destination.map(back)) {
            (None, None) => (Delta::NONE, Delta::NONE),
            (Some(deltas), None) | (None, Some(deltas)) => deltas,
            (Some(there), Some(back)) => (there.0.and(back.0), there.1.and(back.1)),
        };
        let source = source.map(Translation::outside);
        let destination = destination.map(Translation::inside);
        Ends { source, destination, addr_delta, flow_delta }
    }

    /// What the sum gains in a header whose addresses need not be the flow's: an ICMP error comes
    /// from any router on the way.
    fn addr_delta_in(&self, ip: &[u8]) -> Delta {
        let delta = |end: Option<Endpoint>, old: &[u8]| match end {
            None => Delta::NONE,
            Some(end) => Delta::between(
                Sum::default().add_bytes(old),
                Sum::default().add_u32(end.addr.to_bits()),
            ),
        };
        delta(self.source, &ip[12..16]).and(delta(self.destination, &ip[16..20]))
    }
}

/// What the sum of an IP header gains when the time to live, the first byte of its word, is
/// decremented.
const HOP: Delta = Delta::between(Sum::ZERO.add_u16(0x0100), Sum::ZERO);

/// Decrements the time to live of an IP header and rewrites its addresses.
#[inline(always)]
fn rewrite_header(ip: &mut [u8], ends: &Ends, delta: Delta) {
    let ip: &mut [u8; 20] = ip.first_chunk_mut().expect("an IP header was parsed");
    // A packet with no hop left is not forwarded; should one come here, it stays at 0.
    let delta = if ip[8] == 0 { delta } else { delta.and(HOP) };
    ip[8] = ip[8].saturating_sub(1);
    rewrite_addresses(ip, ends, delta);
}

/// Rewrites the addresses of an IP header, and its checksum, whose sum gains `delta`.
#[inline(always)]
fn rewrite_addresses(ip: &mut [u8; 20], ends: &Ends, delta: Delta) {
    update_checksum(&mut ip[10..12], delta);
    if let Some(end) = ends.source {
        ip[12..16].copy_from_slice(&end.addr.octets());
    }
    if let Some(end) = ends.destination {
        ip[16..20].copy_from_slice(&end.addr.octets());
    }
}

/// Updates the checksum that stands in these two bytes.
#[inline(always)]
fn update_checksum(at: &mut [u8], delta: Delta) {
    let at: &mut [u8; 2] = at.try_into().expect("two bytes");
    *at = delta.update(*at);
}

/// Rewrites the ports or the identifier of a transport header, of which there are 8 bytes at
/// least, and its checksum if it has one: UDP may do without (RFC 768), and a quoted TCP header
/// may end before it.
#[inline(always)]
fn rewrite_transport(transport: &mut [u8], kind: Kind, ends: &Ends) {
    let (header, rest) = transport.split_first_chunk_mut::<8>().expect("ports were parsed");
    if kind == Kind::Udp {
        rewrite_ports(header, ends);
        let [.., high, low] = header;
        if [*high, *low] != [0, 0] {
            [*high, *low] = checksum::nonzero(ends.flow_delta.update([*high, *low]));
        }
    } else if kind == Kind::Tcp {
        rewrite_ports(header, ends);
        if let Some(rest) = rest.first_chunk_mut::<{ TCP_CHECKSUM_END - 8 }>() {
            update_checksum(&mut rest[8..], ends.flow_delta);
        }
    } else {
        // The identifier belongs to the end that asks; the other end has only an address.
        let asks = if kind == Kind::IcmpRequest { ends.source } else { ends.destination };
        rewrite_identifier(header, asks);
    }
}

const TCP_CHECKSUM_END: usize = 18;

#[inline(always)]
fn rewrite_ports(header: &mut [u8; 8], ends: &Ends) {
    if let Some(end) = ends.source {
        put_u16(header, 0, end.port);
    }
    if let Some(end) = ends.destination {
        put_u16(header, 2, end.port);
    }
}

/// The ICMP checksum covers no addresses, so it takes in the identifier alone.
#[inline]
fn rewrite_identifier(icmp: &mut [u8; 8], end: Option<Endpoint>) {
    let Some(end) = end else { return };
    let (old, new) = (Sum::default().add_bytes(&icmp[4..6]), Sum::default().add_u16(end.port));
    let [_, _, high, low, ..] = icmp;
    // An echo reply may be all zeros.
    [*high, *low] = checksum::nonzero(Delta::between(old, new).update([*high, *low]));
    put_u16(icmp, 4, end.port);
}

/// Rewrites the packet that an ICMP error quotes, `protocol` behind an IP header of so many
/// bytes, and the error's checksum.
#[cold]
fn rewrite_icmp_error(error: &mut [u8], protocol: Protocol, quoted_header_len: usize, ends: &Ends) {
    // The quoted packet went the other way.
    let ends = Ends { source: ends.destination, destination: ends.source, ..*ends };
    let (icmp, quote) = error.split_at_mut(ICMP_HEADER_LEN.into());
    let quoted_len = quote.len().min(u16_at(quote, 2).into());
    let kind = match protocol {
        Protocol::Udp => Kind::Udp,
        Protocol::Tcp => Kind::Tcp,
        Protocol::Icmp => icmp_kind(quote[quoted_header_len]).expect("parsed before"),
    };
    // Nothing is changed beyond these bytes, so the sums over them give the error's delta. What
    // follows the quoted packet (RFC 4884 extensions) is none of its transport header.
    let headers_len = quoted_len.min(quoted_header_len + TCP_CHECKSUM_END);
    let headers = &mut quote[..headers_len];
    let before = Sum::default().add_bytes(headers);
    let ip = headers.first_chunk_mut().expect("an IP header was parsed");
    rewrite_addresses(ip, &ends, ends.addr_delta);
    rewrite_transport(&mut headers[quoted_header_len..], kind, &ends);
    let after = Sum::default().add_bytes(headers);
    update_checksum(&mut icmp[2..4], Delta::between(before, after));
}

#[inline]
pub(crate) fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// The Ethernet header of a frame that leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkHeader {
    /// The next hop.
    pub to: Mac,
    /// The shard's own address on this side.
    pub from: Mac,
    /// The VLAN of an 802.1Q tag, which is sent with priority 0; `None` for no tag.
    pub vlan: Option<u16>,
}

impl LinkHeader {
    /// How many bytes it has: 14, or 18 with a tag.
    #[inline]
    pub const fn byte_len(&self) -> u16 {
        if self.vlan.is_some() { 18 } else { 14 }
    }
}

/// Replaces everything before the IP or ARP header at `l3` by this header (14 bytes, or 18 with a
/// tag), but for the EtherType, which stands before `l3` and stays there. False, and nothing
/// done, if there is no headroom to grow into.
///
/// # Panics
/// If `l3` is less than 14 or beyond the frame.
#[must_use]
#[inline]
pub fn write_link(frame: &mut Frame<'_>, l3: u16, header: &LinkHeader) -> bool {
    if !resize_link(frame, l3, header.byte_len()) {
        return false;
    }
    put_link(frame.bytes_mut(), header);
    true
}

/// Makes everything before the IP header `len` bytes long instead of `l3`.
#[inline]
fn resize_link(frame: &mut Frame<'_>, l3: u16, len: u16) -> bool {
    if l3 >= len {
        frame.shrink_front(l3 - len);
        return true;
    }
    frame.grow_front(len - l3)
}

/// Writes all of a link header but for the EtherType.
#[inline(always)]
fn put_link(bytes: &mut [u8], header: &LinkHeader) {
    bytes[0..6].copy_from_slice(&header.to.0);
    bytes[6..12].copy_from_slice(&header.from.0);
    if let Some(vlan) = header.vlan {
        put_u16(bytes, 12, ETHERTYPE_VLAN);
        put_u16(bytes, 14, vlan & 0x0fff);
    }
}
