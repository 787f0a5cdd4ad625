//! A limit on what a shard says of its own accord.

use crate::time::Ticks;

/// A token bucket: as many actions per tick as it is filled with tokens, and a burst on top.
///
/// Idle time longer than the burst takes to refill counts no further, so the clock's wrap (after
/// 13.6 years) at worst lets one burst pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenBucket {
    tokens: u32,
    filled: Ticks,
    per_tick: u32,
    burst: u32,
}

impl TokenBucket {
    /// A full bucket that gains `per_tick` tokens every 100 ms and holds `burst` at most.
    pub(super) const fn new(per_tick: u32, burst: u32) -> Self {
        TokenBucket { tokens: burst, filled: Ticks(0), per_tick, burst }
    }

    /// Takes a token; false if there is none.
    pub(super) fn take(&mut self, now: Ticks) -> bool {
        let gained = now.since(self.filled).saturating_mul(self.per_tick);
        self.tokens = self.tokens.saturating_add(gained).min(self.burst);
        self.filled = now;
        let some = self.tokens > 0;
        self.tokens -= u32::from(some);
        some
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_over_the_wrap_too() {
        for start in [0, 7, 1 << 31, u32::MAX - 1, u32::MAX] {
            let mut bucket = TokenBucket::new(10, 50);
            let mut passed = |tick: u32| {
                let now = Ticks(u32::wrapping_add(start, tick));
                (0..1000).filter(|_| bucket.take(now)).count()
            };
            assert_eq!(passed(0), 50, "the burst, from {start}");
            assert_eq!((1..=20).map(&mut passed).collect::<Vec<_>>(), [10; 20], "from {start}");
            assert_eq!(passed(23), 30, "three ticks' worth, from {start}");
            assert_eq!(passed(1 << 30), 50, "never more than the burst, from {start}");
        }
    }
}
