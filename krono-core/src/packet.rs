//! The packet as a value: what parsing finds in a frame and everything behind it decides on.

use std::fmt;
use std::net::Ipv4Addr;
use std::ops::{Deref, DerefMut};

use crate::parse::bytes_at;

/// An address and a port; for ICMP queries the port is the query's identifier.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// The IPv4 address.
    pub addr: Ipv4Addr,
    /// The transport port in host order; 0 where there is none.
    pub port: u16,
}

impl Endpoint {
    /// An endpoint of these two.
    pub const fn new(addr: Ipv4Addr, port: u16) -> Self {
        Endpoint { addr, port }
    }
}

impl Default for Endpoint {
    fn default() -> Self {
        Endpoint::new(Ipv4Addr::UNSPECIFIED, 0)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.addr, self.port)
    }
}

/// A transport that krono translates. The value is the index in arrays by protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Protocol {
    /// UDP, IP protocol 17.
    #[default]
    Udp = 0,
    /// TCP, IP protocol 6.
    Tcp = 1,
    /// ICMP queries, IP protocol 1; the port is the identifier.
    Icmp = 2,
}

impl Protocol {
    /// How many there are.
    pub const COUNT: usize = 3;

    /// All of them, in index order.
    pub const ALL: [Protocol; Self::COUNT] = [Protocol::Udp, Protocol::Tcp, Protocol::Icmp];

    /// The name in configuration and on screen.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Udp => "udp",
            Protocol::Tcp => "tcp",
            Protocol::Icmp => "icmp",
        }
    }

    /// The protocol with this index, as stored in a record.
    pub const fn from_index(index: u8) -> Option<Self> {
        match index {
            0 => Some(Protocol::Udp),
            1 => Some(Protocol::Tcp),
            2 => Some(Protocol::Icmp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Protocol {
    type Err = &'static str;

    /// From its name; the error says which there are.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        let named = Protocol::ALL.into_iter().find(|protocol| protocol.name() == text);
        named.ok_or("expected udp, tcp or icmp")
    }
}

/// What a packet is to a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A UDP datagram.
    #[default]
    Udp,
    /// A TCP segment.
    Tcp,
    /// An ICMP echo or timestamp request: `src.port` is its identifier, `dst.port` is 0.
    IcmpRequest,
    /// An ICMP echo or timestamp reply: `dst.port` is its identifier, `src.port` is 0.
    IcmpReply,
    /// An ICMP error: destination unreachable, time exceeded or parameter problem.
    IcmpError,
    /// An ARP request: `from` is the sender's protocol address, `to` the target's.
    ArpRequest,
    /// An ARP reply: likewise.
    ArpReply,
}

/// What a program may know of a packet; every length is checked before one of these exists.
///
/// The flow's own part can be reached directly: `meta.src` is `meta.flow.src`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketMeta {
    /// The flow that the packet belongs to.
    pub flow: FlowMeta,
    /// The source address in the IP (or ARP) header.
    pub from: Ipv4Addr,
    /// The destination address in the IP (or ARP) header.
    pub to: Ipv4Addr,
    /// Total length of the IP packet, bytes.
    pub ip_len: u16,
    /// Time to live as received.
    pub ttl: u8,
    /// The don't-fragment bit.
    pub dont_fragment: bool,
    /// ICMP type, 0 for other transports.
    pub icmp_type: u8,
    /// The Ethernet address that the frame was sent to.
    pub link_to: Mac,
}

impl Default for PacketMeta {
    fn default() -> Self {
        PacketMeta {
            flow: FlowMeta::default(),
            from: Ipv4Addr::UNSPECIFIED,
            to: Ipv4Addr::UNSPECIFIED,
            ip_len: 0,
            ttl: 0,
            dont_fragment: false,
            icmp_type: 0,
            link_to: Mac::default(),
        }
    }
}

impl Deref for PacketMeta {
    type Target = FlowMeta;

    #[inline]
    fn deref(&self) -> &FlowMeta {
        &self.flow
    }
}

impl DerefMut for PacketMeta {
    #[inline]
    fn deref_mut(&mut self) -> &mut FlowMeta {
        &mut self.flow
    }
}

/// The flow of a packet and what its transport says: 32 bytes that are copied as one.
///
/// `src` and `dst` are the flow as this packet's *sender* uses it. In an ICMP error they are the
/// quoted packet's endpoints swapped (`src` is the quoted destination), so that a flow is looked
/// up alike for its packets and for errors about it; the error's own addresses are
/// [`PacketMeta::from`] and [`PacketMeta::to`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FlowMeta {
    /// TCP only.
    pub tcp: TcpMeta,
    /// The flow's end on the side that this packet comes from.
    pub src: Endpoint,
    /// The flow's other end.
    pub dst: Endpoint,
    /// What the packet is.
    pub kind: Kind,
    /// The flow's transport; for an ICMP error that of the quoted packet.
    pub protocol: Protocol,
}

const _: () = assert!(size_of::<FlowMeta>() == 32);

/// What the state machine of a TCP tracker looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpMeta {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number; meaningless without [`TcpFlags::ACK`].
    pub ack: u32,
    /// Window as on the wire, not scaled.
    pub window: u16,
    /// Payload length, bytes.
    pub payload_len: u16,
    /// Control bits.
    pub flags: TcpFlags,
    /// Window scale option of a SYN (RFC 7323), [`TcpMeta::NO_SCALE`] if there is none.
    pub window_scale: u8,
}

impl TcpMeta {
    /// A segment without a window scale option.
    pub const NO_SCALE: u8 = u8::MAX;
}

/// TCP control bits as in the header's 14th byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: TcpFlags = TcpFlags(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: TcpFlags = TcpFlags(0x02);
    /// Reset the connection.
    pub const RST: TcpFlags = TcpFlags(0x04);
    /// Push.
    pub const PSH: TcpFlags = TcpFlags(0x08);
    /// The acknowledgement field counts.
    pub const ACK: TcpFlags = TcpFlags(0x10);

    /// Whether any bit of `other` is set.
    #[inline]
    pub const fn has(self, other: TcpFlags) -> bool {
        self.0 & other.0 != 0
    }

    /// The bits of both.
    pub const fn with(self, other: TcpFlags) -> TcpFlags {
        TcpFlags(self.0 | other.0)
    }
}

/// Where things are in the frame, byte offsets from its start; only `apply` and `reply` use it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The IP (or ARP) header: 14, or 18 behind a VLAN tag.
    pub l3: u16,
    /// The transport header.
    pub l4: u16,
    /// One past the last byte of the IP packet, or of the first segment if that ends before;
    /// Ethernet padding lies beyond.
    pub end: u16,
    /// The IP header quoted by an ICMP error; 0 in other packets.
    pub quoted_l3: u16,
    /// The quoted transport header; 0 in other packets.
    pub quoted_l4: u16,
    /// The VLAN of an 802.1Q tag, [`Layout::UNTAGGED`] without one.
    pub vlan: u16,
}

impl Layout {
    /// No VLAN tag. (0 is a tag that carries only a priority.)
    pub const UNTAGGED: u16 = u16::MAX;

    /// Whether the transport header lies where it does without a tag and without IP options.
    #[inline]
    pub(crate) const fn is_plain(&self) -> bool {
        (self.l3 == 14) & (self.l4 == 34)
    }
}

/// A side of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Side {
    /// Where the subscribers are.
    #[default]
    Inside = 0,
    /// Where the Internet is.
    Outside = 1,
}

impl Side {
    /// Both, in index order.
    pub const BOTH: [Side; 2] = [Side::Inside, Side::Outside];

    /// The name in configuration and on screen.
    pub const fn name(self) -> &'static str {
        match self {
            Side::Inside => "inside",
            Side::Outside => "outside",
        }
    }

    /// The other side.
    pub const fn opposite(self) -> Side {
        match self {
            Side::Inside => Side::Outside,
            Side::Outside => Side::Inside,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// All ones: every station.
    pub const BROADCAST: Mac = Mac([0xff; 6]);

    /// Whether two addresses are the same. (What `==` of arrays of 6 bytes becomes is longer.)
    #[inline(always)]
    pub(crate) fn is(&self, other: &Mac) -> bool {
        self.high() == other.high() && self.low() == other.low()
    }

    #[inline(always)]
    fn high(&self) -> u32 {
        u32::from_ne_bytes(bytes_at(&self.0, 0))
    }

    #[inline(always)]
    fn low(&self) -> u16 {
        u16::from_ne_bytes(bytes_at(&self.0, 4))
    }

    /// Whether this is a group address (multicast or broadcast).
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Mac {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split(':');
        let mut octets = [0; 6];
        for octet in &mut octets {
            let part = parts.next().filter(|p| matches!(p.len(), 1 | 2)).ok_or(())?;
            // Without this, `+f` would be an octet.
            if !part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| ())?;
        }
        if parts.next().is_some() { Err(()) } else { Ok(Mac(octets)) }
    }
}
