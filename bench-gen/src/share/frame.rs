//! Frames as bytes: written from values, and read back into them.

use std::net::Ipv4Addr;

use krono_core::checksum::{self, Sum, VALID};
use krono_core::packet::{Mac, Protocol, Side, TcpFlags};

use super::identity::Pair;
use super::stamp::{STAMP_LEN, Stamp};

mod usual;

pub(super) use usual::{Mould, Usual};

/// How frames of a side begin: what the engine knows of the link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkHeader {
    /// The next hop's address, that of the device under test.
    pub destination: Mac,
    /// Our own.
    pub source: Mac,
    /// The VLAN of an 802.1Q tag.
    pub vlan: Option<u16>,
}

/// The longest frame, bytes, without its checksum.
pub const FRAME_MAX: usize = 9_600;

/// The shortest frame, bytes, without its checksum.
const FRAME_MIN: usize = 60;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const IP_LEN: usize = 20;
const IP_ICMP: u8 = 1;
const IP_TCP: u8 = 6;
const IP_UDP: u8 = 17;
const UDP_LEN: usize = 8;
const ICMP_LEN: usize = 8;
/// With a timestamp option (RFC 7323) and two bytes of padding before it.
const TCP_LEN: usize = 32;
const TCP_OPTION: u32 = 0x0101_080a;
const TCP_WINDOW: u16 = 0xffff;
pub(super) const ECHO_REPLY: u8 = 0;
pub(super) const ECHO: u8 = 8;

/// What a frame's transport header says, ports aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp(Segment),
    /// An ICMP echo request or reply, and its sequence number.
    Echo(u8, u16),
}

/// A TCP header, ports and window aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub seq: u32,
    pub ack: u32,
    pub flags: TcpFlags,
    /// The timestamp option, TSval and TSecr.
    pub option: (u32, u32),
}

impl Transport {
    #[inline]
    pub(super) fn protocol(self) -> Protocol {
        match self {
            Transport::Udp => Protocol::Udp,
            Transport::Tcp(_) => Protocol::Tcp,
            Transport::Echo(..) => Protocol::Icmp,
        }
    }

    #[inline]
    fn header_len(self) -> usize {
        header_len(self.protocol())
    }
}

/// Where a packet goes and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heading {
    /// The side that it is sent out of, or came in by.
    pub side: Side,
    /// For echo the identifier is a request's source port and a reply's destination port.
    pub pair: Pair,
    pub transport: Transport,
}

/// A frame that is one of ours by its form.
#[derive(Debug)]
pub(super) struct Heard {
    pub heading: Heading,
    l4: u16,
    payload: u16,
    end: u16,
}

/// What a frame is that is none of ours by its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Odd {
    Arp,
    Ipv6,
    /// Another EtherType.
    EtherType,
    /// It was sent to another station.
    Mac,
    /// Cut off, or its lengths do not fit together.
    Malformed,
    /// The IP header's checksum is wrong.
    IpChecksum,
    Fragment,
    /// Another IP protocol, or IP options.
    Ip,
    /// An ICMP error; the addresses are those of the packet that it quotes.
    IcmpError(Option<(Ipv4Addr, Ipv4Addr)>),
    /// Another ICMP message.
    Icmp,
    /// A TCP reset.
    Reset,
    /// A TCP segment without our option.
    Tcp,
}

/// Whether a packet is as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Right,
    /// The transport checksum is right, and the payload is another than ours.
    Changed,
    /// The transport checksum is wrong.
    BadChecksum,
}

/// The shortest frame of a stamped packet of this protocol, bytes, without checksum and VLAN tag.
pub(super) fn shortest(protocol: Protocol) -> usize {
    FRAME_MIN.max(14 + IP_LEN + header_len(protocol) + STAMP_LEN)
}

/// The payload of a frame of `len` bytes, without checksum and VLAN tag.
#[inline]
pub(super) fn payload_len(protocol: Protocol, len: usize) -> usize {
    len - 14 - IP_LEN - header_len(protocol)
}

#[inline]
fn header_len(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Udp => UDP_LEN,
        Protocol::Tcp => TCP_LEN,
        Protocol::Icmp => ICMP_LEN,
    }
}

/// Writes and reads frames.
pub(super) struct Frames {
    links: [Link; 2],
    /// What follows the stamp in every payload.
    filler: Box<[u8]>,
    /// The folded sum of the first n bytes of it.
    filler_sums: Box<[u16]>,
}

#[derive(Clone, Copy)]
struct Link {
    bytes: [u8; 18],
    len: usize,
    own: Mac,
    /// `own` as the upper bytes of a number, first byte lowest.
    own_word: u64,
    /// `bytes` without tag, and the two bytes that follow in a packet without options.
    words: [u64; 2],
}

impl Link {
    fn new(header: &LinkHeader) -> Link {
        let mut bytes = [0; 18];
        bytes[..6].copy_from_slice(&header.destination.0);
        bytes[6..12].copy_from_slice(&header.source.0);
        let mut len = 14;
        if let Some(vlan) = header.vlan {
            bytes[12..14].copy_from_slice(&ETHERTYPE_VLAN.to_be_bytes());
            bytes[14..16].copy_from_slice(&vlan.to_be_bytes());
            len = 18;
        }
        bytes[len - 2..len].copy_from_slice(&ETHERTYPE_IPV4.to_be_bytes());
        let own_word =
            header.source.0.iter().rfold(0, |word, byte| word << 8 | u64::from(*byte)) << 16;
        let mut begin = [0; 16];
        begin[..14].copy_from_slice(&bytes[..14]);
        begin[14] = 0x45;
        let (words, _) = begin.as_chunks::<8>();
        let words = [u64::from_ne_bytes(words[0]), u64::from_ne_bytes(words[1])];
        Link { bytes, len, own: header.source, own_word, words }
    }
}

impl Frames {
    pub(super) fn new(links: &[LinkHeader; 2], seed: u64) -> Frames {
        let mut state = seed;
        let filler: Box<[u8]> = (0..FRAME_MAX).map(|_| super::mix(&mut state) as u8).collect();
        let sum = |n| Sum::default().add_bytes(&filler[..n]).fold();
        // Summing each prefix anew takes 20 ms once.
        let filler_sums = (0..=FRAME_MAX).map(sum).collect();
        Frames { links: links.each_ref().map(Link::new), filler, filler_sums }
    }

    pub(super) fn set_link(&mut self, side: Side, header: &LinkHeader) {
        self.links[side as usize] = Link::new(header);
    }

    /// Writes a stamped frame with `payload_len` bytes of payload. `fill` writes what follows the
    /// stamp as well, which an answer in the place of a packet of ours has already.
    ///
    /// # Panics
    /// If the buffer is shorter, or the payload shorter than a stamp.
    #[inline(always)]
    pub(super) fn stamped(
        &self,
        heading: &Heading,
        buffer: &mut [u8],
        payload_len: usize,
        fill: bool,
        stamp: Stamp,
        digest: u32,
    ) -> usize {
        if heading.transport == Transport::Udp && self.is_untagged(heading.side) {
            let put = |payload_len: usize, buffer: &mut [u8]| {
                let mould = self.mould(heading.side, payload_len);
                mould.put(heading.pair, &mut buffer[..mould.len()], fill, stamp, digest);
                mould.len()
            };
            // The shortest frame has code of its own, in which its lengths are constants.
            return if payload_len == STAMP_LEN {
                put(STAMP_LEN, buffer)
            } else {
                put(payload_len, buffer)
            };
        }
        let headers_len = IP_LEN + heading.transport.header_len();
        let len = self.links[heading.side as usize].len + headers_len + payload_len;
        let packet = self.put_link(heading.side, &mut buffer[..len]);
        let (headers, body) = packet.split_at_mut(headers_len);
        let (at, rest) = body.split_first_chunk_mut().expect("the shortest frame has a stamp");
        stamp.put(digest, at);
        let add = |sum: Sum, word| sum.add_u64(u64::from_be(word));
        let mut sum = stamp.words(digest).into_iter().fold(Sum::default(), add);
        if !rest.is_empty() {
            if fill {
                rest.copy_from_slice(&self.filler[..rest.len()]);
            }
            sum = sum.add_u16(self.filler_sums[rest.len()]);
        }
        put_headers(heading, headers, STAMP_LEN + rest.len(), sum);
        len
    }

    /// Writes a TCP segment without payload.
    #[inline]
    pub(super) fn bare(&self, heading: &Heading, buffer: &mut [u8]) -> usize {
        let len = self.links[heading.side as usize].len + IP_LEN + TCP_LEN;
        let packet = self.put_link(heading.side, &mut buffer[..len]);
        put_headers(heading, packet, 0, Sum::default());
        len
    }

    #[inline]
    fn put_link<'f>(&self, side: Side, frame: &'f mut [u8]) -> &'f mut [u8] {
        let link = &self.links[side as usize];
        // Twice a fixed length is faster than a length that is looked up.
        if link.len == 14 {
            frame[..14].copy_from_slice(&link.bytes[..14]);
            &mut frame[14..]
        } else {
            frame[..18].copy_from_slice(&link.bytes);
            &mut frame[18..]
        }
    }

    /// Reads the headers of a frame that came in by `side` into `heard`. (Field by field where they
    /// stay: a copy of what was just put together would wait for the store buffer.)
    ///
    /// # Errors
    /// If it is none of ours.
    #[inline]
    pub(super) fn read(&self, side: Side, frame: &[u8], heard: &mut Heard) -> Result<(), Odd> {
        heard.heading.side = side;
        let link: &[u8; 14] = frame.first_chunk().ok_or(Odd::Malformed)?;
        let own = self.links[side as usize].own.0;
        if link[..6] != own {
            return odd(not_for_us(link));
        }
        match u16_at(link, 12) {
            ETHERTYPE_IPV4 => read_ipv4(frame, 14, heard),
            ETHERTYPE_VLAN => match frame.get(16..18).map(|at| u16_at(at, 0)) {
                Some(ETHERTYPE_IPV4) => read_ipv4(frame, 18, heard),
                Some(other) => odd(ether_type(other)),
                None => odd(Odd::Malformed),
            },
            other => odd(ether_type(other)),
        }
    }

    /// Checks the transport checksum, and the payload behind the stamp if it carries one.
    #[inline(always)]
    pub(super) fn check(&self, frame: &[u8], heard: &Heard) -> Body {
        let (l4, end) = (usize::from(heard.l4), usize::from(heard.end));
        let protocol = heard.heading.transport.protocol();
        let datagram = &frame[l4..end];
        let addresses = heard.heading.pair.addresses;
        let pseudo = |ip| add_pseudo_header(Sum::default(), addresses, ip, datagram.len());
        let sum = match protocol {
            Protocol::Udp if u16_at(datagram, 6) == 0 => return Body::BadChecksum,
            Protocol::Udp => pseudo(IP_UDP),
            Protocol::Tcp => pseudo(IP_TCP),
            Protocol::Icmp => Sum::default(),
        };
        let (sum, changed) = match header_len(protocol) {
            8 => self.sum_body::<{ 8 + STAMP_LEN }>(datagram, sum),
            _ => self.sum_body::<{ TCP_LEN + STAMP_LEN }>(datagram, sum),
        };
        match (sum.is_valid(), changed) {
            (true, false) => Body::Right,
            (true, true) => Body::Changed,
            (false, _) => Body::BadChecksum,
        }
    }

    /// Adds a datagram with `HEAD` bytes of header and stamp, and tells whether what follows is
    /// other than it should be. What is as it should be has a sum that is known.
    #[inline(always)]
    fn sum_body<const HEAD: usize>(&self, datagram: &[u8], sum: Sum) -> (Sum, bool) {
        let Some((head, rest)) = datagram.split_first_chunk::<HEAD>() else {
            return (sum.add_bytes(datagram), false);
        };
        let sum = sum.add_bytes(head);
        if rest.is_empty() {
            return (sum, false);
        }
        if self.filler.get(..rest.len()) == Some(rest) {
            return (sum.add_u16(self.filler_sums[rest.len()]), false);
        }
        (sum.add_bytes(rest), true)
    }
}

impl Heard {
    /// Nothing yet.
    pub(super) const NOTHING: Heard = Heard {
        heading: Heading {
            side: Side::Inside,
            pair: Pair { addresses: 0, ports: 0 },
            transport: Transport::Udp,
        },
        l4: 0,
        payload: 0,
        end: 0,
    };

    /// The bytes of the stamp, if the payload has so many.
    #[inline]
    pub(super) fn stamp<'f>(&self, frame: &'f [u8]) -> Option<&'f [u8; STAMP_LEN]> {
        frame[usize::from(self.payload)..usize::from(self.end)].first_chunk()
    }

    /// How long the payload is, bytes.
    pub(super) fn payload_len(&self) -> u16 {
        self.end - self.payload
    }
}

/// Writes the IP header and the transport header before a payload of `payload_len` bytes that sums
/// to `sum`.
#[inline(always)]
fn put_headers(heading: &Heading, headers: &mut [u8], payload_len: usize, sum: Sum) {
    let (ip, l4) = headers.split_first_chunk_mut::<IP_LEN>().expect("room for an IP header");
    let Heading { pair: Pair { addresses, ports }, transport, .. } = *heading;
    let datagram_len = l4.len() + payload_len;
    let protocol = match transport {
        Transport::Udp => {
            let header = u64::from(ports) << 32 | (datagram_len as u64) << 16;
            let sum = add_pseudo_header(sum.add_u64(header), addresses, IP_UDP, datagram_len);
            let checksum = checksum::nonzero(sum.checksum().to_be_bytes());
            let checksum = u16::from_be_bytes(checksum);
            l4.copy_from_slice(&(header | u64::from(checksum)).to_be_bytes());
            IP_UDP
        }
        Transport::Tcp(segment) => {
            let offset_flags = 0x8000_0000 | u32::from(segment.flags.0) << 16;
            let control = offset_flags | u32::from(TCP_WINDOW);
            let (value, echo) = segment.option;
            let mut words = [ports, segment.seq, segment.ack, control, 0, TCP_OPTION, value, echo];
            let sum = words.iter().fold(sum, |sum, word| sum.add_u32(*word));
            let sum = add_pseudo_header(sum, addresses, IP_TCP, datagram_len);
            words[4] = u32::from(sum.checksum()) << 16;
            put_words(l4, &words);
            IP_TCP
        }
        Transport::Echo(kind, sequence) => {
            let identifier = if kind == ECHO { ports & 0xffff_0000 } else { ports << 16 };
            let query = identifier | u32::from(sequence);
            let first = u32::from(kind) << 24;
            let checksum = sum.add_u32(first).add_u32(query).checksum();
            put_words(l4, &[first | u32::from(checksum), query]);
            IP_ICMP
        }
    };
    put_ip(ip, protocol, IP_LEN + datagram_len, addresses);
}

/// RFC 791, 3.1: not to be fragmented, so that the identification may be 0 (RFC 6864, 4.1).
#[inline]
fn put_ip(ip: &mut [u8; IP_LEN], protocol: u8, total_len: usize, addresses: u64) {
    const DONT_FRAGMENT: u64 = 0x4000;
    const TTL: u32 = 64;
    let first = 0x4500 << 48 | (total_len as u64) << 32 | DONT_FRAGMENT;
    let middle = TTL << 24 | u32::from(protocol) << 16;
    let sum = Sum::default().add_u64(first).add_u32(middle).add_u64(addresses);
    ip[..8].copy_from_slice(&first.to_be_bytes());
    ip[8..12].copy_from_slice(&(middle | u32::from(sum.checksum())).to_be_bytes());
    ip[12..].copy_from_slice(&addresses.to_be_bytes());
}

#[inline]
fn put_words(at: &mut [u8], words: &[u32]) {
    for (at, word) in at.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *at = word.to_be_bytes();
    }
}

#[inline]
fn add_pseudo_header(sum: Sum, addresses: u64, protocol: u8, len: usize) -> Sum {
    let last = u32::from(protocol) << 16 | len as u32;
    sum.add_u64(addresses).add_u32(last)
}

/// Frames that are none of ours are seldom.
#[cold]
fn odd(what: Odd) -> Result<(), Odd> {
    Err(what)
}

/// ARP and IPv6 come to groups of stations as well.
fn not_for_us(link: &[u8; 14]) -> Odd {
    match u16_at(link, 12) {
        ETHERTYPE_ARP | ETHERTYPE_IPV6 if link[0] & 1 != 0 => ether_type(u16_at(link, 12)),
        _ => Odd::Mac,
    }
}

fn ether_type(ether_type: u16) -> Odd {
    match ether_type {
        ETHERTYPE_ARP => Odd::Arp,
        ETHERTYPE_IPV6 => Odd::Ipv6,
        _ => Odd::EtherType,
    }
}

#[inline(always)]
fn read_ipv4(frame: &[u8], l3: usize, heard: &mut Heard) -> Result<(), Odd> {
    const FRAGMENTED: u16 = 0x3fff;
    let Some((ip, _)) = frame[l3..].split_first_chunk::<IP_LEN>() else {
        return odd(Odd::Malformed);
    };
    if ip[0] != 0x45 {
        return odd(unusual_ip(&frame[l3..], ip));
    }
    if !Sum::default().add_bytes(ip).is_valid() {
        return odd(Odd::IpChecksum);
    }
    let end = l3 + usize::from(u16_at(ip, 2));
    let l4 = l3 + IP_LEN;
    if end > frame.len() || end < l4 || end > usize::from(u16::MAX) {
        return odd(Odd::Malformed);
    }
    if u16_at(ip, 6) & FRAGMENTED != 0 {
        return odd(Odd::Fragment);
    }
    let datagram = &frame[l4..end];
    heard.heading.pair.addresses = u64::from(u32_at(ip, 12)) << 32 | u64::from(u32_at(ip, 16));
    let header_len = match ip[9] {
        IP_UDP => read_udp(datagram, &mut heard.heading)?,
        IP_TCP => read_tcp(datagram, &mut heard.heading)?,
        IP_ICMP => read_icmp(datagram, &mut heard.heading)?,
        _ => return odd(Odd::Ip),
    };
    (heard.l4, heard.payload, heard.end) = (l4 as u16, (l4 + header_len) as u16, end as u16);
    Ok(())
}

/// Not version 4 with a header of 20 bytes.
#[cold]
fn unusual_ip(packet: &[u8], ip: &[u8; IP_LEN]) -> Odd {
    let len = usize::from(ip[0] & 0x0f) * 4;
    let header = packet.get(..len.max(IP_LEN)).unwrap_or(ip);
    match (ip[0] >> 4, Sum::default().add_bytes(header).fold()) {
        (4, VALID) if len > IP_LEN && len <= packet.len() => Odd::Ip,
        (4, VALID) => Odd::Malformed,
        _ => Odd::IpChecksum,
    }
}

/// Reads ports and the rest of a transport header; how long it is.
#[inline]
fn read_udp(datagram: &[u8], heading: &mut Heading) -> Result<usize, Odd> {
    let header: &[u8; UDP_LEN] = datagram.first_chunk().ok_or(Odd::Malformed)?;
    if usize::from(u16_at(header, 4)) != datagram.len() {
        return Err(Odd::Malformed);
    }
    heading.transport = Transport::Udp;
    heading.pair.ports = u32_at(header, 0);
    Ok(UDP_LEN)
}

#[inline]
fn read_tcp(segment: &[u8], heading: &mut Heading) -> Result<usize, Odd> {
    let header: &[u8; 20] = segment.first_chunk().ok_or(Odd::Malformed)?;
    let flags = TcpFlags(header[13]);
    if flags.has(TcpFlags::RST) {
        return Err(Odd::Reset);
    }
    let whole = segment.first_chunk::<TCP_LEN>();
    let whole = whole.filter(|whole| whole[12] == 0x80 && u32_at(*whole, 20) == TCP_OPTION);
    let Some(whole) = whole else { return Err(Odd::Tcp) };
    let option = (u32_at(whole, 24), u32_at(whole, 28));
    let segment = Segment { seq: u32_at(header, 4), ack: u32_at(header, 8), flags, option };
    heading.transport = Transport::Tcp(segment);
    heading.pair.ports = u32_at(header, 0);
    Ok(TCP_LEN)
}

#[inline]
fn read_icmp(message: &[u8], heading: &mut Heading) -> Result<usize, Odd> {
    let header: &[u8; ICMP_LEN] = message.first_chunk().ok_or(Odd::Malformed)?;
    let (identifier, sequence) = (u32::from(u16_at(header, 4)), u16_at(header, 6));
    heading.pair.ports = match (header[0], header[1]) {
        (ECHO, 0) => identifier << 16,
        (ECHO_REPLY, 0) => identifier,
        (3 | 4 | 5 | 11 | 12, _) => return Err(Odd::IcmpError(quoted(&message[ICMP_LEN..]))),
        _ => return Err(Odd::Icmp),
    };
    heading.transport = Transport::Echo(header[0], sequence);
    Ok(ICMP_LEN)
}

/// The addresses of the packet that an ICMP error quotes (RFC 792).
#[cold]
fn quoted(quote: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let ip: &[u8; IP_LEN] = quote.first_chunk()?;
    (ip[0] >> 4 == 4).then(|| (u32_at(ip, 12).into(), u32_at(ip, 16).into()))
}

#[inline]
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Of an IPv4 packet whose transport header is not as it should be: where it goes, and whether its
/// transport checksum is right.
#[cold]
pub(super) fn addressee(frame: &[u8]) -> Option<(Ipv4Addr, bool)> {
    let link = frame.first_chunk::<14>()?;
    let l3 = if u16_at(link, 12) == ETHERTYPE_VLAN { 18 } else { 14 };
    let (ip, rest) = frame.get(l3..)?.split_first_chunk::<IP_LEN>()?;
    let addresses = u64::from(u32_at(ip, 12)) << 32 | u64::from(u32_at(ip, 16));
    let datagram = usize::from(u16_at(ip, 2)).checked_sub(IP_LEN).and_then(|len| rest.get(..len));
    let sum = datagram.map(|datagram| match ip[9] {
        IP_ICMP => Sum::default().add_bytes(datagram),
        protocol => add_pseudo_header(Sum::default(), addresses, protocol, datagram.len())
            .add_bytes(datagram),
    });
    Some(((addresses as u32).into(), sum.is_some_and(|sum| sum.fold() == VALID)))
}

/// Whether a frame of ours is a TCP segment without payload, which has no stamp.
pub(super) fn is_bare(frame: &[u8]) -> bool {
    let l3 = if frame.get(12..14) == Some(&ETHERTYPE_VLAN.to_be_bytes()) { 18 } else { 14 };
    let (Some(length), Some(IP_TCP)) = (frame.get(l3 + 2..l3 + 4), frame.get(l3 + 9).copied())
    else {
        return false;
    };
    let header = frame.get(l3 + IP_LEN + 12).map_or(0, |offset| usize::from(offset >> 4) * 4);
    usize::from(u16::from_be_bytes([length[0], length[1]])) <= IP_LEN + header
}

/// The flow that a frame may be of, without any check.
#[inline]
pub(super) fn flow_hint(frame: &[u8]) -> Option<u32> {
    let head: &[u8; FRAME_MIN] = frame.first_chunk()?;
    if head[12] == 8 && head[23] == IP_UDP {
        let at = 14 + IP_LEN + UDP_LEN;
        return Some(u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
    }
    other_flow_hint(frame)
}

#[inline(never)]
fn other_flow_hint(frame: &[u8]) -> Option<u32> {
    let l3 = if frame.get(12..14)? == ETHERTYPE_VLAN.to_be_bytes() { 18 } else { 14 };
    let at = l3 + IP_LEN;
    match *frame.get(l3 + 9)? {
        IP_TCP => {
            Some(u32_at(frame.get(at + 24..at + 28)?, 0) & ((1 << super::tcp::FLOW_BITS) - 1))
        }
        _ => Some(u32_at(frame.get(at + 8..at + 12)?, 0).swap_bytes()),
    }
}
