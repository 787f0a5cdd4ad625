//! Packets that come sequenced, from a NIC or a switch: the history stands in front of the frame.

use std::collections::VecDeque;

use krono_core::drop::DropReason;
use krono_core::frame::BURST_MAX;
use krono_core::packet::Side;
use krono_io::{Burst, Mbuf, RxQueue};
use scr_sequencer::Replicable;
use scr_sequencer::history::Carried;
use scr_sequencer::wire::Codec;

/// A core's queue of sequenced packets.
pub(crate) struct InBand<P: Replicable> {
    queue: RxQueue,
    /// The side that they arrive at.
    pub(crate) side: Side,
    codec: Codec<P::Record>,
    /// The number of the next packet, if none is lost.
    expected: u64,
    /// Packets whose turn has not come yet, oldest first.
    waiting: VecDeque<Mbuf>,
}

impl<P: Replicable> InBand<P> {
    /// The packets of `core` of a group.
    pub(crate) fn new(queue: RxQueue, side: Side, codec: Codec<P::Record>, core: usize) -> Self {
        let (expected, waiting) = (codec.first(core), VecDeque::with_capacity(BURST_MAX));
        InBand { queue, side, codec, expected, waiting }
    }

    /// Looks for packets if none wait. Returns how many have come, and their bytes.
    #[inline]
    pub(crate) fn poll(&mut self) -> (usize, u64) {
        if !self.waiting.is_empty() {
            return (0, 0);
        }
        let mut burst = Burst::new();
        let count = self.queue.poll(&mut burst);
        let bytes = crate::output::wire_bytes(&burst);
        self.waiting.extend(burst.drain());
        (count, bytes)
    }

    /// What the next packet carries, if one waits.
    #[inline]
    pub(crate) fn next(&self) -> Option<Result<Carried<'_, P::Record>, DropReason>> {
        let mbuf = self.waiting.front()?;
        Some(self.codec.decode(mbuf.bytes(), self.expected))
    }

    /// Takes the next packet out, whose number is `sequence` if it has one, without what was in front.
    #[inline]
    pub(crate) fn take(&mut self, sequence: Option<u64>) -> Mbuf {
        let mut mbuf = self.waiting.pop_front().expect("it was looked at");
        if let Some(sequence) = sequence {
            self.expected = self.codec.following(sequence);
            mbuf.frame().shrink_front(self.codec.header_len() as u16);
        }
        mbuf
    }

    /// All that wait, at the end.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Mbuf> + '_ {
        self.waiting.drain(..)
    }
}
