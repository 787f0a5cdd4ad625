//! The few bytes of a packet that a translator's state depends on.

use std::hint::cold_path;
use std::ops::Deref;

use krono_core::packet::{Endpoint, FlowMeta, Kind, PacketMeta, Side};
use krono_core::time::Ticks;

/// A packet as the translator steps on it: 40 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// When it arrived.
    pub now: Ticks,
    /// The flow, and what the packet's transport says.
    pub flow: FlowMeta,
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
        let to_quoted_sender = meta.kind != Kind::IcmpError || {
            cold_path();
            meta.to == meta.dst.addr
        };
        Record { now, flow: meta.flow, side, to_quoted_sender }
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

impl Deref for Record {
    type Target = FlowMeta;

    #[inline]
    fn deref(&self) -> &FlowMeta {
        &self.flow
    }
}
