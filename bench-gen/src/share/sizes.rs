//! How long frames are.

use krono_core::packet::Protocol;

use super::frame::{self, FRAME_MAX};
use crate::load::Sizes;

/// How finely weights are kept: in so many parts.
const PARTS: usize = 1024;

/// Lengths of frames, drawn in a cycle or two: bytes without checksum and VLAN tag.
#[derive(Clone, PartialEq)]
pub(super) struct Lengths {
    drawn: Box<[u16; PARTS]>,
    least: [u16; Protocol::COUNT],
}

impl Lengths {
    pub(super) fn new(sizes: &Sizes) -> Lengths {
        let mut drawn = Box::new([0; PARTS]);
        match sizes {
            Sizes::Fixed(len) => drawn.fill(without_checksum(*len)),
            Sizes::Mix(list) => mix(list, &mut drawn),
            Sizes::Agh2015 => drawn.fill(without_checksum(512)),
        }
        let least = Protocol::ALL.map(|protocol| frame::shortest(protocol) as u16);
        Lengths { drawn, least }
    }

    /// The length that `random` stands for.
    #[inline]
    pub(super) fn draw(&self, protocol: Protocol, random: u64) -> usize {
        self.drawn[random as usize % PARTS].max(self.least[protocol as usize]).into()
    }
}

fn without_checksum(len: u16) -> u16 {
    len.saturating_sub(4).min(FRAME_MAX as u16 - 4)
}

fn mix(list: &[(u16, u32)], drawn: &mut [u16; PARTS]) {
    let total: u64 = list.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let mut below = 0;
    let mut from = 0;
    for (len, weight) in list {
        below += u64::from(*weight);
        let to = (below * PARTS as u64 / total.max(1)) as usize;
        drawn[from..to].fill(without_checksum(*len));
        from = to;
    }
}
