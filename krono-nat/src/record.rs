//! The few bytes of a packet that a translator's state depends on.

use krono_core::packet::{Endpoint, Kind, PacketMeta, Protocol, Side, TcpMeta};
use krono_core::time::Ticks;

/// A packet as the translator steps on it: 40 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// When it arrived.
    pub now: Ticks,
    /// TCP control bits, numbers and window.
    pub tcp: TcpMeta,
    /// The flow's end on the side the packet comes from.
    pub src: Endpoint,
    /// The flow's other end.
    pub dst: Endpoint,
    /// What the packet is.
    pub kind: Kind,
    /// The flow's transport.
    pub protocol: Protocol,
    /// Where the packet arrived.
    pub side: Side,
    /// Whether an ICMP error goes to the sender of the packet that it quotes, as it must; true
    /// for all other packets.
    pub to_quoted_sender: bool,
}

const _: () = assert!(size_of::<Record>() <= 40);

impl Record {
    /// The record of a packet.
    #[inline]
    pub fn new(meta: &PacketMeta, side: Side, now: Ticks) -> Self {
        Record {
            now,
            tcp: meta.tcp,
            src: meta.src,
            dst: meta.dst,
            kind: meta.kind,
            protocol: meta.protocol,
            side,
            to_quoted_sender: meta.kind != Kind::IcmpError || meta.to == meta.dst.addr,
        }
    }

    /// The flow's end on the inside, provided that the packet is not hairpinned.
    #[inline]
    pub fn inside(&self) -> Endpoint {
        match self.side {
            Side::Inside => self.src,
            Side::Outside => self.dst,
        }
    }
}
