//! Time as programs see it: the moment that a packet came, and coarse ticks that wrap.

use std::time::Duration;

/// Ticks in a second: one tick is 100 ms.
pub const TICKS_PER_SECOND: u32 = 10;

/// A moment on a shard's clock, in ticks of 100 ms since an arbitrary start, modulo 2^32.
///
/// Two moments compare correctly while they are less than 2^31 ticks (6.8 years) apart, whatever
/// the clock has wrapped over. A `Ticks` has no `Ord` on purpose: ask [`Ticks::reached`].
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
#[repr(transparent)]
pub struct Ticks(pub u32);

impl Ticks {
    /// The tick that holds the moment `ns` nanoseconds after the clock's start.
    pub const fn from_ns(ns: u64) -> Self {
        Ticks((ns / (1_000_000_000 / TICKS_PER_SECOND as u64)) as u32)
    }

    /// Whether `self`, as "now", is at or after `deadline`.
    #[inline]
    pub const fn reached(self, deadline: Ticks) -> bool {
        self.0.wrapping_sub(deadline.0) < 1 << 31
    }

    /// The first tick at which `span` has certainly passed since this one.
    ///
    /// A moment lies somewhere inside its tick, so one tick more than `span` is waited: a timer
    /// is never early, and at most one tick late.
    #[inline]
    pub const fn after(self, span: Span) -> Ticks {
        Ticks(self.0.wrapping_add(span.0).wrapping_add(1))
    }

    /// Ticks since `earlier`, which must not lie ahead of `self`.
    #[inline]
    pub const fn since(self, earlier: Ticks) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// Ticks from `self` to `deadline`, 0 if it has passed.
    #[inline]
    pub const fn until(self, deadline: Ticks) -> Span {
        if self.reached(deadline) { Span(0) } else { Span(deadline.0.wrapping_sub(self.0)) }
    }
}

/// When a packet came: nanoseconds since the clock's start, for 584 years.
///
/// Most programs need no more than its [`Moment::ticks`]; who meters rates needs all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// The tick that holds this moment.
    #[inline]
    pub const fn ticks(self) -> Ticks {
        Ticks::from_ns(self.0)
    }
}

impl From<Ticks> for Moment {
    /// The first moment of a tick, of the times that it comes in 13 years the first.
    fn from(ticks: Ticks) -> Moment {
        Moment(u64::from(ticks.0) * (1_000_000_000 / u64::from(TICKS_PER_SECOND)))
    }
}

/// A length of time in ticks of 100 ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub u32);

impl Span {
    /// The longest span that timers take: a quarter of the clock's range, 3.4 years.
    pub const MAX: Span = Span(1 << 30);

    /// `seconds` as a span.
    pub const fn from_secs(seconds: u32) -> Self {
        Span(seconds * TICKS_PER_SECOND)
    }

    /// This span in whole milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0 as u64 * (1000 / TICKS_PER_SECOND as u64)
    }
}

impl TryFrom<Duration> for Span {
    type Error = Duration;

    /// `duration` rounded up to a whole tick; the duration itself if it exceeds [`Span::MAX`].
    fn try_from(duration: Duration) -> Result<Self, Duration> {
        let ticks = duration.as_millis().div_ceil(u128::from(1000 / TICKS_PER_SECOND));
        match u32::try_from(ticks) {
            Ok(ticks) if ticks <= Span::MAX.0 => Ok(Span(ticks)),
            _ => Err(duration),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_never_early_and_holds_over_the_wrap() {
        for start in [0, 1, u32::MAX - 5, u32::MAX, 1 << 31] {
            let set = Ticks(start);
            let deadline = set.after(Span(3));
            for later in 0..=3 {
                assert!(!Ticks(start.wrapping_add(later)).reached(deadline));
            }
            assert!(Ticks(start.wrapping_add(4)).reached(deadline));
            assert!(Ticks(start.wrapping_add(1 << 30)).reached(deadline));
            assert_eq!(set.until(deadline), Span(4));
            assert_eq!(deadline.until(set), Span(0));
        }
    }

    #[test]
    fn durations_round_up_to_ticks() {
        assert_eq!(Span::try_from(Duration::from_millis(1)), Ok(Span(1)));
        assert_eq!(Span::try_from(Duration::from_secs(120)), Ok(Span(1200)));
        assert!(Span::try_from(Duration::from_secs(u64::MAX)).is_err());
        assert_eq!(Ticks::from_ns(199_999_999), Ticks(1));
        for ticks in [0, 1, u32::MAX].map(Ticks) {
            assert_eq!(Moment::from(ticks).ticks(), ticks);
        }
    }
}
