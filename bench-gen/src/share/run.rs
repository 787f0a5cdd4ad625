//! Usual packets by the burst: what is the same for all of them is looked up, decided and counted
//! once.
//!
//! Whatever is not usual ends a run, and takes the way that single packets take; tests hold the two
//! ways against each other.

use krono_core::frame::{BURST_MAX, Frame, Frames as Burst};
use krono_core::packet::{Protocol, Side};

use super::Share;
use super::frame::Mould;
use super::receive::{Received, way_into};
use super::send::awaits;
use super::stages::Work;
use super::stamp::{STAMP_LEN, Stamp};
use crate::bench::{Way, Ways};

impl Share {
    /// How long the frames of a run are, bytes; `None` if they differ.
    #[inline]
    pub fn run_len(&self) -> Option<usize> {
        self.lengths.fixed(Protocol::Udp).map(Mould::len_with)
    }

    /// Writes the next frames to send into the first buffers, at most so many, as long as they are
    /// usual ones: UDP without tag, of open flows, of [`Share::run_len`]. All go out of
    /// [`Side::Inside`]. Returns how many; [`Share::next`] tells what comes next.
    #[inline]
    pub fn next_run<B>(&mut self, now_ns: u64, buffers: &mut B, most: usize) -> usize
    where
        B: Burst + ?Sized,
    {
        self.set_clock(now_ns);
        match self.lengths.fixed(Protocol::Udp) {
            _ if !self.may_run() => 0,
            // The shortest frame has code of its own, in which its lengths are constants.
            Some(STAMP_LEN) => self.next_alike(buffers, most, STAMP_LEN),
            Some(payload_len) => self.next_alike(buffers, most, payload_len),
            None => 0,
        }
    }

    /// Takes frames from the one at `first` on, as long as each is a usual one that
    /// [`Share::take_usual`] would take. Returns the index of the first that is not, which is to take
    /// the full way, or how many frames there are. Those with a bit in `answers` are answers now.
    #[inline(always)]
    pub fn take_run<B>(
        &mut self,
        side: Side,
        frames: &mut B,
        first: usize,
        now_ns: u64,
        answers: &mut u64,
    ) -> usize
    where
        B: Burst + ?Sized,
    {
        self.set_clock(now_ns);
        let (mut index, mut received) = (first, Received::<BURST_MAX>::none());
        while index < frames.len().min(BURST_MAX) {
            let frame = frames.frame(index).into_bytes();
            let Some(is_answer) = self.usual(side, frame, &mut received) else { break };
            if is_answer {
                *answers |= 1 << index;
            }
            index += 1;
        }
        self.record(way_into(side), &received);
        index
    }

    /// Whether nothing but packets of subscribers is due now.
    #[inline]
    fn may_run(&self) -> bool {
        let plan = &self.plan;
        matches!(plan.work, Work::Traffic)
            && plan.ways != Ways::Down
            && plan.owed.is_empty()
            && self.clock.now_ns < plan.churn_at_ns
            && self.frames.is_untagged(Side::Inside)
    }

    #[inline(always)]
    fn next_alike<B>(&mut self, buffers: &mut B, most: usize, payload_len: usize) -> usize
    where
        B: Burst + ?Sized,
    {
        let Share {
            flows, frames, key, plan, clock, seen, picks, identities, number: share, ..
        } = self;
        let mould = frames.mould(Side::Inside, payload_len);
        let is_awaited = plan.waits_from == Way::Up;
        let most = most.min(buffers.len());
        let mut count = 0;
        while count < most {
            let before = count;
            let mut upcoming = picks.upcoming(flows, identities);
            while count < most
                && let Some((number, generation, pair)) = upcoming.next_udp(flows)
                && let Some(flow) = flows.get_mut(number as usize)
                && flow.goes_on_in(generation)
                && let Some(frame) = room(buffers.frame(count), &mould)
            {
                let sequence = flow.number(Way::Up);
                if is_awaited {
                    awaits(flow, clock, &mut seen.tally);
                }
                let stamp = Stamp::new(*share, number, generation, Way::Up, sequence, clock.now_ns);
                let len = payload_len as u16;
                let digest = stamp.digest(Way::Up, generation, len, Protocol::Udp, pair, key);
                mould.put(pair, frame, true, stamp, digest);
                count += 1;
            }
            if picks.advance(count - before) {
                // One that is left is not usual.
                break;
            }
        }
        let counts = &mut seen.tally.counts[Way::Up as usize];
        counts.sent += count as u64;
        counts.sent_bytes += (count * (mould.len() + 4)) as u64;
        count
    }
}

/// The bytes of a frame as long as the mould's, if the buffer has room for it.
#[inline(always)]
fn room<'b>(mut frame: Frame<'b>, mould: &Mould) -> Option<&'b mut [u8]> {
    let fits = frame.set_len(mould.len() as u16);
    fits.then(|| frame.into_bytes())
}
