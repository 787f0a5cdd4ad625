//! Time from the processor's time-stamp counter.

use std::num::NonZeroU64;

use krono_core::time::Moment;

use crate::eal::Eal;

/// A clock that reads the time-stamp counter (about 33 cycles in a virtual machine: read it once
/// per burst). It starts at 0, never runs backwards, and wraps after 584 years.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: u64,
    /// Nanoseconds per cycle, 32.32 fixed point.
    ns_per_cycle: u64,
}

impl Clock {
    /// A clock that starts now, of the frequency that the EAL knows or has measured.
    pub fn new(_: &Eal) -> Self {
        // SAFETY: the EAL is up, so the frequency is known.
        let hz = unsafe { dpdk_sys::rte_get_tsc_hz() };
        Clock::with_frequency(NonZeroU64::new(hz).expect("a running EAL knows the TSC frequency"))
    }

    /// A clock that starts now and takes the counter to run at `hz`; needs no EAL.
    pub fn with_frequency(hz: NonZeroU64) -> Self {
        let ns_per_cycle = (1_000_000_000u128 << 32) / u128::from(hz.get());
        Clock { start: cycles(), ns_per_cycle: ns_per_cycle as u64 }
    }

    /// Nanoseconds since the start.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.ns_at(cycles())
    }

    /// Nanoseconds from the start to when the counter stood at `cycles`.
    #[inline]
    pub fn ns_at(&self, cycles: u64) -> u64 {
        self.to_ns(cycles.saturating_sub(self.start))
    }

    /// The time since the start.
    #[inline]
    pub fn now(&self) -> Moment {
        Moment(self.now_ns())
    }

    /// How fast the counter runs.
    pub fn cycles_per_second(&self) -> f64 {
        1e9 * (1u64 << 32) as f64 / self.ns_per_cycle as f64
    }

    /// The counter itself, for the cost of work, cycles.
    #[inline]
    pub fn cycles(&self) -> u64 {
        cycles()
    }

    fn to_ns(self, cycles: u64) -> u64 {
        ((u128::from(cycles) * u128::from(self.ns_per_cycle)) >> 32) as u64
    }
}

/// The time-stamp counter, cycles.
#[inline]
pub(crate) fn cycles() -> u64 {
    // SAFETY: reads a counter.
    unsafe { dpdk_sys::shim_rdtsc() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_become_nanoseconds_for_centuries() {
        let clock = Clock::with_frequency(NonZeroU64::new(2_700_000_000).unwrap());
        let century_s = 100 * 365 * 86_400;
        let error = clock.to_ns(2_700_000_000 * century_s).abs_diff(century_s * 1_000_000_000);
        assert!(error <= century_s, "{error} ns off after a century: more than 1 ns a second");
        assert_eq!(clock.to_ns(27), 9);
        assert_eq!((clock.ns_at(clock.start + 27), clock.ns_at(clock.start - 27)), (9, 0));
    }
}
