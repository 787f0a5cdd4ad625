//! How long frames are.

use krono_core::packet::Protocol;

use super::frame::{self, FRAME_MAX};
use crate::load::Sizes;
use crate::spread::SizeDraw;

/// How finely weights are kept: in so many parts.
const PARTS: usize = 1024;

/// Lengths of frames, bytes without checksum and VLAN tag.
///
/// A length follows from what is drawn by, unlike that of a [`SizeDraw`]: a flow of TCP always
/// draws by the same, and so has segments of one length.
#[derive(Clone)]
pub(super) struct Lengths {
    sizes: Sizes,
    /// The lengths of a mix, as often as they weigh.
    drawn: Box<[u16; PARTS]>,
    by_flow: SizeDraw,
    least: [u16; Protocol::COUNT],
}

impl PartialEq for Lengths {
    fn eq(&self, other: &Lengths) -> bool {
        self.sizes == other.sizes
    }
}

impl Lengths {
    pub(super) fn new(sizes: &Sizes) -> Lengths {
        let mut drawn = Box::new([0; PARTS]);
        match sizes {
            Sizes::Fixed(len) => drawn.fill(*len),
            Sizes::Mix(list) => mix(list, &mut drawn),
            Sizes::Agh2015 => {}
        }
        let least = Protocol::ALL.map(|protocol| frame::shortest(protocol) as u16);
        Lengths { sizes: sizes.clone(), drawn, by_flow: SizeDraw::new(sizes, 0), least }
    }

    /// The length that `random` stands for, in a flow of so many packets.
    #[inline]
    pub(super) fn draw(&mut self, protocol: Protocol, random: u64, flow_packets: u32) -> usize {
        let len = match self.sizes {
            Sizes::Agh2015 => self.by_flow.next(flow_packets),
            Sizes::Fixed(_) | Sizes::Mix(_) => self.drawn[random as usize % PARTS],
        };
        without_checksum(len).max(self.least[protocol as usize]).into()
    }
}

fn without_checksum(len: u16) -> u16 {
    len.saturating_sub(4).min(FRAME_MAX as u16)
}

fn mix(list: &[(u16, u32)], drawn: &mut [u16; PARTS]) {
    let total: u64 = list.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let mut below = 0;
    let mut from = 0;
    for (len, weight) in list {
        below += u64::from(*weight);
        let to = (below * PARTS as u64 / total.max(1)) as usize;
        drawn[from..to].fill(*len);
        from = to;
    }
    // What rounding has left.
    let last = from.checked_sub(1).map_or(0, |last| drawn[last]);
    drawn[from..].fill(last);
}
