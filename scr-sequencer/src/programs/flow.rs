//! How records name flows.

use std::net::Ipv4Addr;

use krono_core::packet::{Endpoint, Kind, PacketMeta, Protocol, TcpFlags};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// One direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Its transport.
    pub protocol: Protocol,
    /// Who sends.
    pub source: Endpoint,
    /// To whom.
    pub destination: Endpoint,
}

impl Flow {
    /// From the two words of a table's key.
    pub(super) fn from_words(source: u64, destination: u64) -> Flow {
        let protocol = match (source >> 48) as u8 {
            Marks::TCP => Protocol::Tcp,
            Marks::ICMP => Protocol::Icmp,
            _ => Protocol::Udp,
        };
        let (source, destination) = (endpoint(source), endpoint(destination));
        Flow { protocol, source, destination }
    }
}

/// The endpoint in the lower 48 bits of a key's word.
pub(super) fn endpoint(word: u64) -> Endpoint {
    Endpoint::new(Ipv4Addr::from_bits((word >> 16) as u32), word as u16)
}

/// An endpoint as the lower 48 bits of a key's word.
#[inline(always)]
pub(super) fn word(addr: U32, port: U16) -> u64 {
    u64::from(addr.get()) << 16 | u64::from(port.get())
}

/// Addresses and ports as a record carries them, little-endian: 12 bytes.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct FourTuple {
    /// Source address.
    pub src: U32,
    /// Destination address.
    pub dst: U32,
    /// Source port; of an ICMP request the identifier.
    pub sport: U16,
    /// Destination port; of an ICMP reply the identifier.
    pub dport: U16,
}

impl FourTuple {
    /// That of a packet.
    #[inline]
    pub fn new(meta: &PacketMeta) -> FourTuple {
        FourTuple {
            src: meta.src.addr.to_bits().into(),
            dst: meta.dst.addr.to_bits().into(),
            sport: meta.src.port.into(),
            dport: meta.dst.port.into(),
        }
    }

    /// The two words of a table's key: the transport and the source, and the destination.
    #[inline(always)]
    pub(super) fn words(&self, marks: Marks) -> (u64, u64) {
        let source = word(self.src, self.sport) | u64::from(marks.protocol()) << 48;
        (source, word(self.dst, self.dport))
    }
}

/// The two bytes of a record that say SYN and FIN, and what else has to be known of a packet.
///
/// In the first byte bit 0 is SYN, and bits 1 and 2 are the transport: 0 nothing that a program
/// follows, 1 TCP, 2 UDP, 3 ICMP queries. In the second, bit 0 is FIN or RST, and bit 1 ACK. All
/// other bits mean nothing.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct Marks {
    /// SYN and transport.
    pub syn: u8,
    /// FIN.
    pub fin: u8,
}

impl Marks {
    pub(super) const TCP: u8 = 1;
    pub(super) const UDP: u8 = 2;
    pub(super) const ICMP: u8 = 3;

    /// Those of a packet: none for an ICMP error, which is no packet of the flow that it is about.
    #[inline]
    pub fn new(meta: &PacketMeta) -> Marks {
        let protocol = match meta.kind {
            Kind::Tcp => Self::TCP,
            Kind::Udp => Self::UDP,
            Kind::IcmpRequest | Kind::IcmpReply => Self::ICMP,
            Kind::IcmpError | Kind::ArpRequest | Kind::ArpReply => return Marks::default(),
        };
        let flags = if protocol == Self::TCP { meta.tcp.flags } else { TcpFlags::default() };
        let ends = flags.has(TcpFlags::FIN.with(TcpFlags::RST));
        Marks {
            syn: u8::from(flags.has(TcpFlags::SYN)) | protocol << 1,
            fin: u8::from(ends) | u8::from(flags.has(TcpFlags::ACK)) << 1,
        }
    }

    /// The transport, 0 if a record is to be left alone.
    #[inline(always)]
    pub(super) const fn protocol(self) -> u8 {
        self.syn >> 1 & 3
    }

    /// Whether this begins a TCP flow, or the answering direction of one.
    #[inline(always)]
    pub(super) const fn begins(self) -> bool {
        self.syn & 7 == Self::TCP << 1 | 1
    }

    /// Whether this ends a TCP flow.
    #[inline(always)]
    pub(super) const fn ends(self) -> bool {
        (self.protocol() == Self::TCP) & (self.fin & 1 != 0)
    }

    /// Whether this begins a TCP connection: SYN without ACK.
    #[inline(always)]
    pub(super) const fn connects(self) -> bool {
        self.begins() & (self.fin & 2 == 0)
    }
}
