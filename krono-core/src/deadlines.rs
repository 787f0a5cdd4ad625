//! When to look at which record again: one word per record, swept in a circle.

use crate::replicable::Digest;
use crate::time::Ticks;

/// The deadlines of an array of records.
///
/// A deadline is a hint: the earliest moment at which its record may have expired. The packet path
/// that prolongs a session writes only to the session; when the deadline comes, the caller sees
/// that the session lives on and sets its next one. Only a change that *shortens* a life must be
/// told at once.
///
/// Deadlines lie apart from the records, 16 to a cache line, so that a sweep over all of them
/// reads 4 bytes a record, in order and with SIMD. It is paced by the clock: [`advance`] at every
/// housekeeping, and every deadline is compared at least every 3 ticks of 100 ms, whatever the
/// number of records, of calls in a tick, or the length of the timers (up to
/// [`Span::MAX`](crate::time::Span::MAX)). No deadline is ever early. With the tick that
/// [`Ticks::after`] adds and the one that the deadline 0 loses (see below) it is at most half a
/// second late, provided that the caller takes all that are due.
///
/// All-zero memory is the valid initial state: 0 means that a record has no deadline, and a
/// deadline at tick 0 of a wrapping clock is kept as tick 1.
///
/// [`advance`]: Deadlines::advance
pub struct Deadlines<'m> {
    at: &'m mut [u32],
    /// No record from here on has ever had a deadline.
    high_water: usize,
    /// The record to compare next.
    cursor: usize,
    /// Those of the records compared last that were due and were not given out yet: a bit for
    /// each, counted from `stride`.
    due: u64,
    stride: usize,
    /// How many records are to be compared before the next [`Deadlines::advance`].
    debt: usize,
    now: Ticks,
    /// How much of this tick's quota has become debt.
    scheduled: usize,
    /// Calls of [`Deadlines::advance`] in this tick so far, and in the one before.
    calls: usize,
    calls_before: usize,
}

/// In so many ticks the sweep comes round. A tick's work may fall anywhere in the tick, so two
/// visits of one record are at most one tick more apart.
const CIRCLE_TICKS: usize = 2;

/// So many deadlines are compared at once: four cache lines, enough for SIMD to pay, and a bit of a
/// word for each.
const STRIDE: usize = 64;

const NONE: u32 = 0;

impl<'m> Deadlines<'m> {
    /// Deadlines for as many records as there are words, all of them 0. Touches none.
    pub fn new(at: &'m mut [u32]) -> Self {
        Deadlines {
            at,
            high_water: 0,
            cursor: 0,
            due: 0,
            stride: 0,
            debt: 0,
            now: Ticks::default(),
            scheduled: 0,
            calls: 0,
            calls_before: 1,
        }
    }

    /// Becomes what `other` is, for an array of the same size.
    ///
    /// # Panics
    /// If it is of another.
    pub fn copy_from(&mut self, other: &Deadlines<'_>) {
        self.at.copy_from_slice(other.at);
        (self.high_water, self.cursor) = (other.high_water, other.cursor);
        (self.due, self.stride, self.debt) = (other.due, other.stride, other.debt);
        (self.now, self.scheduled) = (other.now, other.scheduled);
        (self.calls, self.calls_before) = (other.calls, other.calls_before);
    }

    /// Adds all deadlines, and when the sweep will look at each.
    pub fn add_to(&self, digest: &mut Digest) {
        digest.add_all(&self.at[..self.high_water]);
        digest.add(self.due);
        let places = [self.cursor, self.stride, self.debt, self.scheduled, self.calls];
        places.into_iter().chain([self.calls_before]).for_each(|place| digest.add(place as u64));
        digest.add(self.now.0.into());
    }

    /// Has the record at `index` looked at when `deadline` is reached, which must lie no more
    /// than 2^31 - 1 ticks ahead.
    ///
    /// # Panics
    /// If there is no such record.
    #[inline]
    pub fn set(&mut self, index: u32, deadline: Ticks) {
        self.at[index as usize] = if deadline.0 == NONE { 1 } else { deadline.0 };
        self.high_water = self.high_water.max(index as usize + 1);
    }

    /// Forgets the deadline of the record at `index`.
    ///
    /// # Panics
    /// If there is no such record.
    #[inline]
    pub fn clear(&mut self, index: u32) {
        self.at[index as usize] = NONE;
    }

    /// Lets time pass: makes as many records due for comparison by [`Deadlines::next_due`] as the
    /// clock demands. A tick's work is spread over as many calls as the tick before had; a call
    /// after a long pause demands one whole circle and no more.
    pub fn advance(&mut self, now: Ticks) {
        let quota = self.high_water.div_ceil(CIRCLE_TICKS);
        let elapsed = now.since(self.now) as usize;
        if elapsed > 0 {
            let late = quota.saturating_sub(self.scheduled);
            self.debt = self.debt.saturating_add(late.saturating_add(quota * (elapsed - 1)));
            self.calls_before = if elapsed == 1 { self.calls.max(1) } else { 1 };
            (self.scheduled, self.calls, self.now) = (0, 0, now);
        }
        let share = quota.div_ceil(self.calls_before).min(quota.saturating_sub(self.scheduled));
        self.scheduled += share;
        self.calls += 1;
        self.debt = self.debt.saturating_add(share).min(self.high_water);
    }

    /// A record whose deadline is reached, and which has none from now on; `None` if there is no
    /// other among those to be compared now. A caller may stop before that; the rest is added
    /// to the work of its next [`Deadlines::advance`].
    pub fn next_due(&mut self) -> Option<u32> {
        loop {
            while self.due != 0 {
                let index = self.stride + self.due.trailing_zeros() as usize;
                self.due &= self.due - 1;
                // It may have got another deadline since it was compared.
                if is_due(self.at[index], self.now) {
                    self.at[index] = NONE;
                    return Some(index as u32);
                }
            }
            if self.debt == 0 {
                return None;
            }
            self.compare();
        }
    }

    /// Compares the next records, as many as are compared at once.
    fn compare(&mut self) {
        let count = STRIDE.min(self.debt).min(self.high_water - self.cursor);
        let compared = &self.at[self.cursor..][..count];
        if any_due(compared, self.now) {
            (self.due, self.stride) = (all_due(compared, self.now), self.cursor);
        }
        self.debt -= count;
        self.cursor += count;
        if self.cursor == self.high_water {
            self.cursor = 0;
        }
    }
}

#[inline]
fn is_due(at: u32, now: Ticks) -> bool {
    (at != NONE) & now.reached(Ticks(at))
}

/// Whether any of these is due; written without a way out, so that it becomes SIMD.
#[inline]
fn any_due(compared: &[u32], now: Ticks) -> bool {
    compared.iter().fold(false, |any, &at| any | is_due(at, now))
}

/// A bit for each of these that is due.
fn all_due(compared: &[u32], now: Ticks) -> u64 {
    let due = |mask, (index, &at)| mask | u64::from(is_due(at, now)) << index;
    compared.iter().enumerate().fold(0, due)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(deadlines: &mut Deadlines<'_>, now: Ticks) -> Vec<u32> {
        deadlines.advance(now);
        std::iter::from_fn(|| deadlines.next_due()).collect()
    }

    /// Every deadline of a spread, at every pace of calls, over the wrap: never early, in time.
    #[test]
    fn deadlines_come_neither_early_nor_more_than_three_ticks_late() {
        // Calls in a tick, tick for tick; in the last, fewer and fewer.
        let paces: [&[u32]; 4] = [&[1], &[7], &[100], &[1000, 100, 10, 1]];
        for start in [1000, u32::MAX - 20, (1 << 31) - 20] {
            for pace in paces {
                let mut memory = vec![0; 1000];
                let mut deadlines = Deadlines::new(&mut memory);
                let at = |index: u32| Ticks(start.wrapping_add(1 + index % 37));
                (0..1000).for_each(|index| deadlines.set(index, at(index)));
                let mut fired = vec![0; 1000];
                for (tick, &calls) in (0..45).zip(pace.iter().cycle()) {
                    let now = Ticks(start.wrapping_add(tick));
                    for index in (0..calls).flat_map(|_| taken(&mut deadlines, now)) {
                        assert!(now.reached(at(index)), "early");
                        let asked = if at(index).0 == 0 { Ticks(1) } else { at(index) };
                        assert!(now.since(asked) <= 3, "late: {now:?} for {asked:?}");
                        fired[index as usize] += 1;
                    }
                }
                assert_eq!(fired, [1; 1000], "each once");
            }
        }
    }

    #[test]
    fn the_longest_span_is_not_early_and_a_cleared_deadline_never_comes() {
        let mut memory = [0; 3];
        let mut deadlines = Deadlines::new(&mut memory);
        let deadline = Ticks(5).after(crate::time::Span::MAX);
        deadlines.set(1, deadline);
        deadlines.set(2, Ticks(6));
        deadlines.clear(2);
        for now in (0..=1 << 30).step_by(1 << 20).map(|later| Ticks(5 + later)) {
            assert_eq!(taken(&mut deadlines, now), []);
        }
        let now = Ticks(deadline.0 + 1);
        assert_eq!(taken(&mut deadlines, now), [1]);
        assert_eq!(taken(&mut deadlines, Ticks(now.0 + 1)), []);
    }

    #[test]
    fn a_tick_is_spread_over_its_calls_and_a_pause_costs_one_circle() {
        let mut memory = vec![0; 64_000];
        let mut deadlines = Deadlines::new(&mut memory);
        deadlines.set(63_999, Ticks(9_999));
        let mut most = 0;
        for step in 0..1000 {
            deadlines.advance(Ticks(1 + step / 100));
            if step >= 200 {
                most = most.max(deadlines.debt);
            }
            assert_eq!(deadlines.next_due(), None);
            assert_eq!(deadlines.debt, 0);
        }
        assert_eq!(most, 320);
        deadlines.advance(Ticks(5_000));
        assert_eq!(deadlines.debt, 64_000);
    }

    #[test]
    fn a_deadline_that_changes_after_it_was_compared_is_not_given_out() {
        let mut memory = [0; 8];
        let mut deadlines = Deadlines::new(&mut memory);
        (0..8).for_each(|index| deadlines.set(index, Ticks(5)));
        deadlines.advance(Ticks(6));
        assert_eq!(deadlines.next_due(), Some(0));
        deadlines.set(3, Ticks(100));
        deadlines.clear(4);
        let others: Vec<_> = std::iter::from_fn(|| deadlines.next_due()).collect();
        assert_eq!(others, [1, 2, 5, 6, 7]);
        assert_eq!(taken(&mut deadlines, Ticks(101)), [3]);
    }

    #[test]
    fn what_a_caller_leaves_over_comes_with_its_next_calls() {
        let mut memory = vec![0; 5_000];
        let mut deadlines = Deadlines::new(&mut memory);
        (0..5_000).for_each(|index| deadlines.set(index, Ticks(10)));
        let mut fired = 0;
        for calls in 0..60 {
            deadlines.advance(Ticks(10 + calls / 20));
            fired += std::iter::from_fn(|| deadlines.next_due()).take(100).count();
        }
        assert_eq!(fired, 5_000);
    }
}
