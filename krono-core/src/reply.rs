//! What a shard says itself: answers to ICMP echo and ARP, ICMP errors, ARP requests, BFD.
//!
//! Each is built in the frame that it answers. What is returned is where its IP or ARP header
//! now begins; [`crate::rewrite::write_link`] then writes the link header before that, behind
//! which only the EtherType is already in place.

use std::net::Ipv4Addr;

use crate::checksum::{self, Delta, Sum};
use crate::frame::Frame;
use crate::packet::{Endpoint, Kind, Layout, Mac, PacketMeta};
use crate::parse::{ARP_ETHERNET_IPV4, ARP_REPLY, ARP_REQUEST, ICMP_HEADER_LEN, UDP_HEADER_LEN};
use crate::parse::{ETHERTYPE_ARP, ETHERTYPE_IPV4, IP_UDP, addr_at, bytes_at};
use crate::program::IcmpError;
use crate::rewrite::put_u16;
use crate::router::bfd;

/// Time to live of what a shard says itself (RFC 1700: the recommended default).
const TTL: u8 = 64;

/// The longest ICMP error, bytes of the whole IP packet (RFC 1812, 4.3.2.3).
const ICMP_ERROR_MAX: u16 = 576;

const ECHO_REPLY: u8 = 0;

const IP_HEADER_LEN: u16 = 20;

/// Whether an ICMP error may be sent about this packet at all (RFC 1812, 4.3.2.7): not about an
/// ICMP error or ARP, not about a packet sent to a group of any layer, and not to a source that
/// is no single host. (Fragments never come so far.)
pub fn may_answer(meta: &PacketMeta) -> bool {
    let about_packet = !matches!(meta.kind, Kind::IcmpError | Kind::ArpRequest | Kind::ArpReply);
    let to_one = !meta.link_to.is_group() && !is_group(meta.to);
    let [first, ..] = meta.from.octets();
    let from_one = first != 0 && !meta.from.is_loopback() && !is_group(meta.from);
    about_packet && to_one && from_one
}

/// Multicast, reserved (class E) or limited broadcast: 224.0.0.0/3.
fn is_group(addr: Ipv4Addr) -> bool {
    addr.octets()[0] >= 224
}

/// Makes of a packet an ICMP error about it, from the address `from` to the packet's source,
/// quoting as much of the packet as lies in the first segment and fits 576 bytes.
///
/// TOS is 0xC0, internetwork control (RFC 1812, 4.3.2.5). The error is atomic (DF set), so its
/// identification may be 0 (RFC 6864, 4.1). `None`, and nothing done, if there is no headroom.
///
/// # Panics
/// If `layout` is not what parsing this frame gave.
#[must_use]
pub fn icmp_error(
    frame: &mut Frame<'_>,
    layout: &Layout,
    error: IcmpError,
    from: Ipv4Addr,
) -> Option<u16> {
    const HEADERS_LEN: u16 = IP_HEADER_LEN + ICMP_HEADER_LEN;
    let l3 = layout.l3;
    let to: [u8; 4] = bytes_at(frame.bytes(), usize::from(l3) + 12);
    // In front of the packet it grows by as much as is written before it: the error begins where
    // the packet began.
    let len = HEADERS_LEN + (layout.end - l3).min(ICMP_ERROR_MAX - HEADERS_LEN);
    if !frame.grow_front(HEADERS_LEN) {
        return None;
    }
    let fits = frame.set_len(l3 + len);
    assert!(fits, "less than the frame had");
    let bytes = frame.bytes_mut();
    put_u16(bytes, usize::from(l3) - 2, ETHERTYPE_IPV4);
    let (ip, icmp) = bytes[l3.into()..].split_at_mut(IP_HEADER_LEN.into());
    ip.copy_from_slice(&[0x45, 0xc0, 0, 0, 0, 0, 0x40, 0, TTL, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    put_u16(ip, 2, len);
    ip[12..16].copy_from_slice(&from.octets());
    ip[16..20].copy_from_slice(&to);
    put_u16(ip, 10, Sum::default().add_bytes(ip).checksum());

    icmp[..8].copy_from_slice(&[error.kind, error.code, 0, 0, 0, 0, 0, 0]);
    put_u16(icmp, 6, error.mtu);
    put_u16(icmp, 2, Sum::default().add_bytes(icmp).checksum());
    Some(l3)
}

/// Makes of an ICMP echo request its reply (RFC 1122, 3.2.2.6): addresses exchanged, the data,
/// the TOS and the options as they are. Its checksum is updated, not computed, so a damaged
/// request gets a damaged reply.
///
/// # Panics
/// If `layout` is not what parsing this frame gave.
#[must_use]
pub fn echo_reply(frame: &mut Frame<'_>, layout: &Layout) -> Option<u16> {
    let (ip, icmp) =
        frame.bytes_mut()[layout.l3.into()..].split_at_mut(usize::from(layout.l4 - layout.l3));
    let (source, destination) = ip[12..20].split_at_mut(4);
    source.swap_with_slice(destination);
    let [.., ttl, _, high, low] = ip.first_chunk_mut::<12>().expect("an IP header was parsed");
    [*high, *low] = delta_of_first_byte(*ttl, TTL).update([*high, *low]);
    *ttl = TTL;
    let [kind, _, high, low] = icmp.first_chunk_mut().expect("an ICMP header was parsed");
    // The reply may be all zeros.
    let updated = delta_of_first_byte(*kind, ECHO_REPLY).update([*high, *low]);
    [*high, *low] = checksum::nonzero(updated);
    *kind = ECHO_REPLY;
    Some(layout.l3)
}

/// What a sum gains when the first byte of a word is replaced.
fn delta_of_first_byte(old: u8, new: u8) -> Delta {
    let word = |byte: u8| Sum::default().add_u16(u16::from(byte) << 8);
    Delta::between(word(old), word(new))
}

/// Makes of an ARP request its reply: the asked address is at `mac` (RFC 826).
///
/// # Panics
/// If `layout` is not what parsing this frame gave.
#[must_use]
pub fn arp_reply(frame: &mut Frame<'_>, layout: &Layout, mac: Mac) -> Option<u16> {
    let arp = &mut frame.bytes_mut()[layout.l3.into()..layout.end.into()];
    let asked = addr_at(arp, 24);
    arp.copy_within(8..18, 18);
    write_arp_sender(arp, ARP_REPLY, (mac, asked));
    Some(layout.l3)
}

/// Makes of an empty frame an ARP request by `sender` for `target`'s MAC address, of the 60 bytes
/// that Ethernet asks for at least. `None`, and nothing done, if the buffer has no room for that.
#[must_use]
pub fn arp_request(
    frame: &mut Frame<'_>,
    sender: (Mac, Ipv4Addr),
    target: Ipv4Addr,
) -> Option<u16> {
    const L3: u16 = 14;
    const FRAME_LEN_MIN: u16 = 60;
    if !frame.set_len(FRAME_LEN_MIN) {
        return None;
    }
    let bytes = frame.bytes_mut();
    bytes.fill(0);
    put_u16(bytes, usize::from(L3) - 2, ETHERTYPE_ARP);
    let arp = &mut bytes[L3.into()..];
    arp[..6].copy_from_slice(&ARP_ETHERNET_IPV4);
    write_arp_sender(arp, ARP_REQUEST, sender);
    arp[24..28].copy_from_slice(&target.octets());
    Some(L3)
}

/// Makes of an empty frame a datagram with a BFD Control packet (RFC 5881, 4 and 5). `None`, and
/// nothing done, if the buffer has no room for its 66 bytes.
#[must_use]
pub fn bfd_control(
    frame: &mut Frame<'_>,
    from: Endpoint,
    to: Ipv4Addr,
    control: &bfd::Control,
) -> Option<u16> {
    datagram(frame, from, Endpoint::new(to, bfd::PORT), bfd::TTL, &control.to_bytes())
}

/// Makes of an empty frame a UDP datagram, not to be fragmented. `None`, and nothing done, if the
/// buffer has no room for its 42 bytes and the payload.
///
/// Like other packets of routers for routers it is of internetwork control (RFC 1812, 5.3.13.1).
#[must_use]
pub fn datagram(
    frame: &mut Frame<'_>,
    from: Endpoint,
    to: Endpoint,
    ttl: u8,
    payload: &[u8],
) -> Option<u16> {
    const L3: u16 = 14;
    let udp_len = u16::try_from(payload.len()).ok()?.checked_add(UDP_HEADER_LEN)?;
    let ip_len = udp_len.checked_add(IP_HEADER_LEN)?;
    if !frame.set_len(L3.checked_add(ip_len)?) {
        return None;
    }
    let bytes = frame.bytes_mut();
    put_u16(bytes, usize::from(L3) - 2, ETHERTYPE_IPV4);
    let (ip, udp) = bytes[L3.into()..].split_at_mut(IP_HEADER_LEN.into());
    ip.fill(0);
    // Version and length of the header, class of service; not to be fragmented.
    (ip[0], ip[1], ip[6]) = (0x45, 0xc0, 0x40);
    (ip[8], ip[9]) = (ttl, IP_UDP);
    put_u16(ip, 2, ip_len);
    ip[12..16].copy_from_slice(&from.addr.octets());
    ip[16..20].copy_from_slice(&to.addr.octets());
    put_u16(ip, 10, Sum::default().add_bytes(ip).checksum());

    let (header, body) = udp.split_at_mut(UDP_HEADER_LEN.into());
    body.copy_from_slice(payload);
    header.fill(0);
    put_u16(header, 0, from.port);
    put_u16(header, 2, to.port);
    put_u16(header, 4, udp_len);
    let pseudo_header =
        Sum::default().add_bytes(&ip[12..20]).add_u16(IP_UDP.into()).add_u16(udp_len);
    // 0 would say that there is none (RFC 768).
    let sum = pseudo_header.add_bytes(udp).checksum();
    udp[6..8].copy_from_slice(&checksum::nonzero(sum.to_be_bytes()));
    Some(L3)
}

/// The MAC address that the sender of an ARP packet gives as its own.
///
/// # Panics
/// If `layout` is not what parsing this frame gave.
pub fn arp_sender(frame: &Frame<'_>, layout: &Layout) -> Mac {
    Mac(bytes_at(frame.bytes(), usize::from(layout.l3) + 8))
}

fn write_arp_sender(arp: &mut [u8], operation: u16, (mac, addr): (Mac, Ipv4Addr)) {
    put_u16(arp, 6, operation);
    arp[8..14].copy_from_slice(&mac.0);
    arp[14..18].copy_from_slice(&addr.octets());
}
