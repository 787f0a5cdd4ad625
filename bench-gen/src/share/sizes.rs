//! How long frames are, as they lie in a buffer.

use krono_core::packet::Protocol;

use super::frame::{self, FRAME_MAX};
use crate::load::Sizes;
use crate::spread::SizeDraw;

/// Lengths of frames, bytes without checksum and VLAN tag, with room for a stamp.
#[derive(Clone, PartialEq)]
pub(super) struct Lengths {
    draw: SizeDraw,
    least: [u16; Protocol::COUNT],
}

impl Lengths {
    pub(super) fn new(sizes: &Sizes) -> Lengths {
        let least = Protocol::ALL.map(|protocol| frame::shortest(protocol) as u16);
        Lengths { draw: SizeDraw::new(sizes), least }
    }

    /// The length that `random` stands for, in a flow of so many packets.
    #[inline]
    pub(super) fn draw(
        &self,
        protocol: Protocol,
        random: impl FnOnce() -> u64,
        flow_packets: u32,
    ) -> usize {
        let len = self.draw.draw(random, flow_packets).saturating_sub(4);
        len.min(FRAME_MAX as u16).max(self.least[protocol as usize]).into()
    }
}
