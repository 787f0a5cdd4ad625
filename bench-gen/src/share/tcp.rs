//! TCP, both ends of it: which segment answers which.
//!
//! Every segment has a timestamp option (RFC 7323), which is opaque to what lies between the ends;
//! ours holds the flow's number and a keyed digest, so that segments without payload can be told
//! apart as well as stamped ones. Sequence numbers follow from what was sent: each data segment of
//! a flow has the same length. Lost data is not sent again (it is what is measured), so it is
//! acknowledged with the next that arrives.

use krono_core::hash::HashKey;
use krono_core::packet::TcpFlags;

use super::flow::Flow;
use super::frame::Segment;
use super::identity::Ends;
use crate::bench::Way;

/// A subscriber asks for a connection.
pub(super) const SYN: TcpFlags = TcpFlags::SYN;
/// The server grants it.
pub(super) const SYN_ACK: TcpFlags = TcpFlags::SYN.with(TcpFlags::ACK);
/// An acknowledgement without data.
pub(super) const ACK: TcpFlags = TcpFlags::ACK;
/// Data.
pub(super) const DATA: TcpFlags = TcpFlags::ACK.with(TcpFlags::PSH);
/// An end has no more data.
pub(super) const FIN: TcpFlags = TcpFlags::FIN.with(TcpFlags::ACK);

/// How many bits of the option's first word are the flow's number; the others are the share's.
pub(super) const FLOW_BITS: u32 = 26;

/// So many data segments without data in return are acknowledged at once.
pub(super) const ACK_EVERY: u32 = 8;

/// Which flow a segment says it is of.
#[derive(Clone, Copy)]
pub(super) struct Name {
    pub share: u8,
    pub flow: u32,
    pub generation: u16,
}

impl Name {
    /// The number of a share and a flow in an option.
    pub(super) fn read(option: (u32, u32)) -> (u8, u32) {
        ((option.0 >> FLOW_BITS) as u8, option.0 & ((1 << FLOW_BITS) - 1))
    }

    /// The option of a segment with these flags.
    pub(super) fn option(
        self,
        way: Way,
        flags: TcpFlags,
        key: &HashKey,
        ends: &Ends,
    ) -> (u32, u32) {
        let a = u64::from(self.flow) << 32 | u64::from(self.generation);
        let b = u64::from(self.share) << 16 | (way as u64) << 8 | u64::from(flags.0);
        let (addresses, ports) = ends.words();
        // The other way round than a stamp, so that no digest is good for both.
        let digest = key.hash(key.hash(b, a) ^ ports, addresses) >> 32;
        (u32::from(self.share) << FLOW_BITS | self.flow, digest as u32)
    }

    /// The initial sequence number of an end.
    pub(super) fn initial(self, way: Way, key: &HashKey) -> u32 {
        let name = u64::from(self.flow) << 16 | u64::from(self.generation);
        key.hash(name, 2 + way as u64) as u32
    }
}

/// Where an end's data is after so many segments.
pub(super) fn position(initial: u32, segments: u32, payload_len: u32) -> u32 {
    initial.wrapping_add(1).wrapping_add(segments.wrapping_mul(payload_len))
}

/// The segment that the end which sends in direction `way` sends now.
pub(super) fn segment(
    flow: &Flow,
    name: Name,
    way: Way,
    flags: TcpFlags,
    payload_len: u32,
    key: &HashKey,
    ends: &Ends,
) -> Segment {
    let other = if way == Way::Up { Way::Down } else { Way::Up };
    let (own, peer) = (name.initial(way, key), name.initial(other, key));
    let sent = position(own, flow.sent[way as usize], payload_len);
    // A FIN takes a number of its own; the server's follows the subscriber's, which it has heard.
    let heard = position(peer, flow.heard(other), payload_len);
    let (seq, ack) = match flags {
        SYN => (own, 0),
        SYN_ACK => (own, peer.wrapping_add(1)),
        FIN if way == Way::Down => (sent, heard.wrapping_add(1)),
        _ => (sent, heard),
    };
    Segment { seq, ack, flags, option: name.option(way, flags, key, ends) }
}
