//! Frames on their way out: a batch for each side, sent at the end of a burst.

use arrayvec::ArrayVec;
use krono_core::counters::{Counter, Counters};
use krono_core::drop::DropReason;
use krono_core::frame::BURST_MAX;
use krono_core::packet::Side;
use krono_io::{Burst, Mbuf, TxQueue};

/// Whose frame it is, for the accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It was received and goes on.
    Received,
    /// The shard made it.
    Own,
}

/// The sending half of a shard.
pub(crate) struct Output {
    /// One for each side, or one for both if they are VLANs of one port.
    queues: ArrayVec<TxQueue, 2>,
    batches: [Batch; 2],
}

#[derive(Default)]
struct Batch {
    frames: Burst,
    /// A bit for each frame: whether the shard made it.
    own: u64,
}

impl Output {
    /// Both sides through queues of their own, or through the inside one.
    pub(crate) fn new(inside: TxQueue, outside: Option<TxQueue>) -> Self {
        let queues = [inside].into_iter().chain(outside).collect();
        Output { queues, batches: Default::default() }
    }

    /// Takes a frame to be sent with the next flush.
    #[inline]
    pub(crate) fn push(&mut self, side: Side, mbuf: Mbuf, origin: Origin, counters: &Counters) {
        if self.batches[side as usize].frames.is_full() {
            self.flush_side(side, counters);
        }
        let batch = &mut self.batches[side as usize];
        batch.own |= u64::from(origin == Origin::Own) << batch.frames.len();
        let pushed = batch.frames.push(mbuf);
        debug_assert!(pushed.is_ok(), "a flushed batch has room");
    }

    /// Sends what waits.
    #[inline]
    pub(crate) fn flush(&mut self, counters: &Counters) {
        for side in Side::BOTH {
            if !self.batches[side as usize].frames.is_empty() {
                self.flush_side(side, counters);
            }
        }
    }

    /// Sends a whole burst that was received, behind what waits for the same side.
    #[inline]
    pub(crate) fn send(&mut self, side: Side, burst: &mut Burst, counters: &Counters) {
        if !self.batches[side as usize].frames.is_empty() {
            self.flush_side(side, counters);
        }
        transmit(queue(&mut self.queues, side), side, burst, 0, counters);
    }

    fn flush_side(&mut self, side: Side, counters: &Counters) {
        let Batch { frames, own } = &mut self.batches[side as usize];
        transmit(queue(&mut self.queues, side), side, frames, std::mem::take(own), counters);
    }
}

fn queue(queues: &mut [TxQueue], side: Side) -> &mut TxQueue {
    let last = queues.len() - 1;
    &mut queues[(side as usize).min(last)]
}

/// Sends a side's frames, of which the shard made those with a bit in `own`. What the queue does
/// not take is freed and counted, never kept: a full queue must not make the shard wait.
fn transmit(queue: &mut TxQueue, side: Side, frames: &mut Burst, own: u64, counters: &Counters) {
    let (count, bytes) = (frames.len(), wire_bytes(frames));
    let went = queue.send(frames);
    let unsent_bytes = wire_bytes(frames);
    frames.clear();

    let own_count = u64::from(own.count_ones());
    // The queue takes the first frames of a batch, so the first bits are those of its frames.
    let sent_bits = if went == BURST_MAX { own } else { own & ((1 << went) - 1) };
    let own_sent = u64::from(sent_bits.count_ones());
    let own_lost = own_count - own_sent;
    counters.transmitted(side, went, bytes - unsent_bytes);
    counters.add(Counter::Sent, went as u64 - own_sent);
    counters.add(Counter::Originated, own_sent);
    if went < count {
        counters.add(Counter::OriginatedLost, own_lost);
        counters.dropped_many(DropReason::TxFull, (count - went) as u64 - own_lost);
    }
}

/// The length of all frames of a burst, bytes.
#[inline]
pub(crate) fn wire_bytes(burst: &Burst) -> u64 {
    burst.iter().map(|mbuf| u64::from(mbuf.wire_len())).sum()
}
