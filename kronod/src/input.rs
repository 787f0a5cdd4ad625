//! Where a worker's frames and its time come from: the queues of both sides and the time-stamp
//! counter, or captures merged by their timestamps.

use std::collections::VecDeque;

use krono_core::frame::BURST_MAX;
use krono_core::packet::{Layout, Side};
use krono_core::parse;
use krono_core::time::Moment;
use krono_io::{Burst, Clock, Mbuf, RxQueue};

/// The receiving half of a shard.
pub(crate) struct Input {
    clock: Clock,
    source: Source,
}

enum Source {
    /// Queues of each side, polled in turn.
    Ports { queues: Box<[(Side, RxQueue)]>, next: usize },
    /// One queue for both sides, which are VLANs: what came for the outside waits its turn.
    Trunk { queue: RxQueue, outside_vlan: u16, outside: Box<Burst> },
    /// Captures of both sides, in the order of their timestamps.
    Captures { captures: [Capture; 2], clock: CaptureClock },
}

impl Input {
    /// Both sides on queues of their own, of which each side has at least one.
    pub(crate) fn ports(
        clock: Clock,
        inside: impl IntoIterator<Item = RxQueue>,
        outside: impl IntoIterator<Item = RxQueue>,
    ) -> Self {
        let inside = inside.into_iter().map(|queue| (Side::Inside, queue));
        let outside = outside.into_iter().map(|queue| (Side::Outside, queue));
        let source = Source::Ports { queues: inside.chain(outside).collect(), next: 0 };
        Input { clock, source }
    }

    /// Both sides on one queue; frames with this VLAN tag are from outside.
    pub(crate) fn trunk(clock: Clock, queue: RxQueue, outside_vlan: Option<u16>) -> Self {
        let outside_vlan = outside_vlan.unwrap_or(Layout::UNTAGGED);
        Input { clock, source: Source::Trunk { queue, outside_vlan, outside: Box::default() } }
    }

    /// Both sides on queues whose frames have timestamps, which are the time.
    pub(crate) fn captures(clock: Clock, inside: RxQueue, outside: RxQueue) -> Self {
        let captures = [inside, outside].map(Capture::new);
        Input { clock, source: Source::Captures { captures, clock: CaptureClock::default() } }
    }

    /// Receives a burst from one side into an empty `burst`; says from which, if any came.
    #[inline]
    pub(crate) fn receive(&mut self, burst: &mut Burst) -> Option<Side> {
        match &mut self.source {
            Source::Ports { queues, next } => {
                for _ in 0..queues.len() {
                    let at = *next;
                    *next = if at + 1 == queues.len() { 0 } else { at + 1 };
                    let (side, queue) = &mut queues[at];
                    if queue.poll(burst) > 0 {
                        return Some(*side);
                    }
                }
                None
            }
            Source::Trunk { queue, outside_vlan, outside } => {
                receive_from_trunk(queue, *outside_vlan, outside, burst)
            }
            Source::Captures { captures, clock } => receive_oldest(captures, clock, burst),
        }
    }

    /// The time of what was received last.
    #[inline]
    pub(crate) fn now(&self) -> Moment {
        match &self.source {
            Source::Captures { clock, .. } => Moment(clock.now_ns),
            _ => self.clock.now(),
        }
    }

    /// Whether packets and their time wait for the worker, as only those of captures do.
    pub(crate) fn waits(&self) -> bool {
        matches!(self.source, Source::Captures { .. })
    }

    /// The time-stamp counter, for the cost of work.
    #[inline]
    pub(crate) fn cycles(&self) -> u64 {
        self.clock.cycles()
    }

    /// Takes out the frames that were received from a queue but not given to the worker.
    pub(crate) fn take_unworked(&mut self, mut each: impl FnMut(Side, Mbuf)) {
        match &mut self.source {
            Source::Ports { .. } => {}
            Source::Trunk { outside, .. } => {
                outside.drain().for_each(|mbuf| each(Side::Outside, mbuf));
            }
            Source::Captures { captures, .. } => {
                for (side, capture) in Side::BOTH.into_iter().zip(captures) {
                    capture.waiting.drain(..).for_each(|mbuf| each(side, mbuf));
                }
            }
        }
    }
}

fn receive_from_trunk(
    queue: &mut RxQueue,
    outside_vlan: u16,
    outside: &mut Burst,
    burst: &mut Burst,
) -> Option<Side> {
    if !outside.is_empty() {
        std::mem::swap(outside, burst);
        return Some(Side::Outside);
    }
    let mut mixed = Burst::new();
    queue.poll(&mut mixed);
    for mbuf in mixed.drain() {
        let from_outside = parse::vlan_of(mbuf.bytes()) == outside_vlan;
        let pushed = if from_outside { outside.push(mbuf) } else { burst.push(mbuf) };
        debug_assert!(pushed.is_ok(), "a part of a burst fits a burst");
    }
    if burst.is_empty() && !outside.is_empty() {
        std::mem::swap(outside, burst);
        return Some(Side::Outside);
    }
    (!burst.is_empty()).then_some(Side::Inside)
}

/// The packet with the older timestamp goes first, alone: its timestamp is the time of its burst.
fn receive_oldest(
    captures: &mut [Capture; 2],
    clock: &mut CaptureClock,
    burst: &mut Burst,
) -> Option<Side> {
    for capture in captures.iter_mut() {
        capture.refill();
    }
    let [inside, outside] = captures.each_ref().map(Capture::next_ns);
    let side = match (inside, outside) {
        (None, None) => return None,
        (Some(inside), Some(outside)) if outside < inside => Side::Outside,
        (Some(_), _) => Side::Inside,
        (None, Some(_)) => Side::Outside,
    };
    let mbuf = captures[side as usize].waiting.pop_front()?;
    clock.advance_to(mbuf.timestamp_ns().unwrap_or(0));
    let pushed = burst.push(mbuf);
    debug_assert!(pushed.is_ok(), "an empty burst has room");
    Some(side)
}

/// A queue of timestamped packets that one can look ahead in.
struct Capture {
    queue: RxQueue,
    waiting: VecDeque<Mbuf>,
}

impl Capture {
    fn new(queue: RxQueue) -> Self {
        Capture { queue, waiting: VecDeque::with_capacity(BURST_MAX) }
    }

    fn refill(&mut self) {
        if self.waiting.is_empty() {
            let mut burst = Burst::new();
            self.queue.poll(&mut burst);
            self.waiting.extend(burst.drain());
        }
    }

    fn next_ns(&self) -> Option<u64> {
        self.waiting.front().map(|mbuf| mbuf.timestamp_ns().unwrap_or(0))
    }
}

/// A gap of more than a day between two packets of a capture, as where captures were joined, is
/// taken for a day: long enough to end every session, short enough for the clock's range.
const GAP_MAX_NS: u64 = 86_400 * 1_000_000_000;

/// The time that captures tell. It never goes back, whatever their timestamps do.
#[derive(Debug, Default)]
struct CaptureClock {
    newest_ns: Option<u64>,
    now_ns: u64,
}

impl CaptureClock {
    fn advance_to(&mut self, timestamp_ns: u64) {
        let newest_ns = *self.newest_ns.get_or_insert(timestamp_ns);
        if let Some(gap) = timestamp_ns.checked_sub(newest_ns) {
            self.now_ns += gap.min(GAP_MAX_NS);
            self.newest_ns = Some(timestamp_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_captures_never_goes_back_nor_leaps() {
        let mut clock = CaptureClock::default();
        let at = |clock: &mut CaptureClock, timestamp| {
            clock.advance_to(timestamp);
            clock.now_ns
        };
        let start = 1_600_000_000_000_000_000;
        assert_eq!(at(&mut clock, start), 0);
        assert_eq!(at(&mut clock, start + 5), 5);
        assert_eq!(at(&mut clock, start - 900), 5);
        assert_eq!(at(&mut clock, start + 7), 7);
        assert_eq!(at(&mut clock, 2 * start), 7 + GAP_MAX_NS);
    }
}
