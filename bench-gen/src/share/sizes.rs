//! How long frames are, as they lie in a buffer.

use krono_core::packet::Protocol;

use super::frame::{self, FRAME_MAX};
use crate::load::Sizes;
use crate::spread::SizeDraw;

/// Lengths of payloads, bytes, such that frames are as long as wanted and have room for a stamp.
#[derive(Clone, PartialEq)]
pub(super) struct Lengths {
    draw: SizeDraw,
    /// By protocol, if all are alike.
    fixed: Option<[u16; Protocol::COUNT]>,
}

impl Lengths {
    pub(super) fn new(sizes: &Sizes) -> Lengths {
        let all_alike = |bytes| Protocol::ALL.map(|protocol| payload(protocol, bytes));
        let fixed = if let Sizes::Fixed(bytes) = *sizes { Some(all_alike(bytes)) } else { None };
        Lengths { draw: SizeDraw::new(sizes), fixed }
    }

    /// That of all packets of a protocol, if there is but one.
    #[inline]
    pub(super) fn fixed(&self, protocol: Protocol) -> Option<usize> {
        self.fixed.map(|fixed| fixed[protocol as usize].into())
    }

    /// The length that `random` stands for, in a flow of so many packets.
    #[inline]
    pub(super) fn draw(
        &self,
        protocol: Protocol,
        random: impl FnOnce() -> u64,
        flow_packets: impl FnOnce() -> u32,
    ) -> usize {
        let len = match &self.fixed {
            Some(fixed) => fixed[protocol as usize],
            None => payload(protocol, self.draw.draw(random, flow_packets())),
        };
        len.into()
    }
}

/// The payload of a frame of so many bytes with its checksum.
fn payload(protocol: Protocol, bytes: u16) -> u16 {
    let len = usize::from(bytes).saturating_sub(4).min(FRAME_MAX).max(frame::shortest(protocol));
    frame::payload_len(protocol, len) as u16
}
