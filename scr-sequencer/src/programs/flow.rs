//! How records name flows.

use std::net::Ipv4Addr;

use krono_core::hash::HashKey;
use krono_core::packet::{Endpoint, Kind, PacketMeta, Protocol, TcpFlags};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::table::Hashed;

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
    /// From the key of a table.
    pub(super) fn from_key(Key { addresses, rest }: Key) -> Flow {
        let protocol = match (rest >> 32) as u8 {
            Marks::TCP => Protocol::Tcp,
            Marks::ICMP => Protocol::Icmp,
            _ => Protocol::Udp,
        };
        let end = |address: u64, port: u64| {
            Endpoint::new(Ipv4Addr::from_bits(address as u32), port as u16)
        };
        let source = end(addresses, rest);
        Flow { protocol, source, destination: end(addresses >> 32, rest >> 16) }
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
        let [src, dst] = [meta.src, meta.dst];
        let addresses = u64::from(src.addr.to_bits()) | u64::from(dst.addr.to_bits()) << 32;
        let ports = u32::from(src.port) | u32::from(dst.port) << 16;
        // In the pieces in which `key` reads it, since it may do so at once.
        let mut bytes = [0; size_of::<FourTuple>()];
        bytes[..8].copy_from_slice(&addresses.to_le_bytes());
        bytes[8..].copy_from_slice(&ports.to_le_bytes());
        zerocopy::transmute!(bytes)
    }

    /// The key of a flow in a table. It lies there as it comes in a record, so that two loads make it.
    #[inline(always)]
    pub(super) fn key(&self, marks: Marks) -> Key {
        let (addresses, ports) = self.as_bytes().split_at(8);
        let addresses = u64::from_le_bytes(addresses.try_into().expect("8 bytes"));
        let ports = u32::from_le_bytes(ports.try_into().expect("4 bytes"));
        Key { addresses, rest: u64::from(ports) | u64::from(marks.protocol()) << 32 }
    }
}

/// A flow as a table knows it; of no flow all is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct Key {
    /// The source's address, and above it the destination's.
    addresses: u64,
    /// The source's port, the destination's, and the transport, which is never 0.
    rest: u64,
}

impl Key {
    #[inline(always)]
    pub(super) fn hash(self, key: &HashKey) -> Hashed {
        Hashed::new(key, self.addresses, self.rest)
    }

    /// By this flows are put in order: transport, source, destination.
    pub(super) fn order(self) -> impl Ord {
        let Key { addresses, rest } = self;
        let [source, destination] = [addresses as u32, (addresses >> 32) as u32];
        ((rest >> 32), source, rest as u16, destination, (rest >> 16) as u16)
    }

    /// Whether two are equal, without a branch between.
    #[inline(always)]
    pub(super) fn is(self, other: Key) -> bool {
        (self.addresses ^ other.addresses) | (self.rest ^ other.rest) == 0
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
