//! When packets are due: in small bursts, evenly, by the clock.

use crate::load::Rate;

/// The most frames that are sent in one go.
pub(super) const BURST_FRAMES: u32 = 32;

/// Bursts are this far apart where that makes them smaller, nanoseconds.
const GAP_NS: f64 = 20_000.0;

/// How far behind its rate an lcore may fall and catch up again. What was due before is missed: not
/// sent, and counted. It catches up with bursts of [`BURST_FRAMES`] at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Patience {
    /// Nanoseconds.
    pub behind_ns: f64,
    /// Whoever catches up is at most so many times as fast as the rate.
    pub catch_up: f64,
}

impl Patience {
    /// Of an lcore with a CPU of its own.
    pub(super) const ALONE: Patience = Patience { behind_ns: 50e6, catch_up: 2.0 };
    /// Of one that shares its CPU with others, and is away for milliseconds at a time.
    pub(super) const SHARED: Patience = Patience { behind_ns: 200e6, catch_up: 10.0 };
}

/// Preamble and gap between frames, and the checksum that the device adds, bytes.
const WIRE_BYTES: usize = 20 + 4;

/// The bits on the wire of the smallest frame.
const FRAME_BITS_MIN: f64 = 84.0 * 8.0;

/// The pace of one lcore. Time is nanoseconds; what is paced are frames or bits on the wire.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    /// Frames or bits per nanosecond; `None`: as fast as possible.
    per_ns: Option<f64>,
    in_bits: bool,
    /// How much goes in one burst, and at most.
    burst: f64,
    burst_max: f64,
    patience: Patience,
    start_ns: u64,
    /// Nothing is due from here on.
    end_ns: u64,
    /// No burst before.
    next_ns: u64,
    sent: f64,
    missed: f64,
    rhythm: Rhythm,
}

impl Pace {
    /// A pace that begins at `start_ns` and ends after `ns`, if ever.
    pub(super) fn new(rate: Rate, patience: Patience, start_ns: u64, ns: Option<u64>) -> Pace {
        let end_ns = ns.map_or(u64::MAX, |ns| start_ns.saturating_add(ns));
        let (per_s, in_bits) = match rate {
            Rate::Packets(rate) => (rate, false),
            Rate::Bits(rate) => (rate, true),
            Rate::Max => (f64::INFINITY, false),
        };
        let per_ns = per_s.is_finite().then_some(per_s / 1e9);
        let one = if in_bits { FRAME_BITS_MIN } else { 1.0 };
        let burst_max = one * f64::from(BURST_FRAMES);
        let in_gap = |per_ns: f64| (per_ns * GAP_NS).floor().clamp(one, burst_max);
        let burst = per_ns.map_or(burst_max, in_gap);
        let rhythm = Rhythm::default();
        Pace {
            per_ns,
            in_bits,
            burst,
            burst_max,
            patience,
            start_ns,
            end_ns,
            next_ns: 0,
            sent: 0.0,
            missed: 0.0,
            rhythm,
        }
    }

    /// Whether the time is over and what was due is sent, or can no more be caught up with.
    #[inline]
    pub(super) fn is_over(&self, now_ns: u64) -> bool {
        now_ns >= self.end_ns
            && self.per_ns.is_none_or(|per_ns| {
                let late = (now_ns - self.end_ns) as f64 > self.patience.behind_ns;
                late || self.credit(now_ns, per_ns) < self.least(now_ns)
            })
    }

    /// From the beginning to now, or to the end if that was before, nanoseconds.
    pub(super) fn elapsed_ns(&self, now_ns: u64) -> u64 {
        now_ns.min(self.end_ns).saturating_sub(self.start_ns)
    }

    /// How much may be sent now, in frames or bits; 0 before the next burst is due.
    #[inline]
    pub(super) fn allowance(&mut self, now_ns: u64) -> f64 {
        let Some(per_ns) = self.per_ns else { return self.burst };
        if now_ns < self.next_ns {
            return 0.0;
        }
        let mut credit = self.credit(now_ns, per_ns);
        if credit < self.least(now_ns) {
            return 0.0;
        }
        let Patience { behind_ns, catch_up } = self.patience;
        let most = (per_ns * behind_ns).max(self.burst);
        if credit > most {
            self.missed += credit - most;
            credit = most;
        }
        let is_behind = credit >= 2.0 * self.burst;
        let burst = credit.min(if is_behind { self.burst_max } else { self.burst });
        self.next_ns = now_ns + (burst / per_ns / catch_up) as u64;
        burst
    }

    /// What must be due for a burst: behind the end nothing more will be, so what is left goes.
    #[inline]
    fn least(&self, now_ns: u64) -> f64 {
        let is_end = now_ns >= self.end_ns;
        if is_end { self.burst_max / f64::from(BURST_FRAMES) } else { self.burst }
    }

    #[inline]
    fn credit(&self, now_ns: u64, per_ns: f64) -> f64 {
        self.elapsed_ns(now_ns) as f64 * per_ns - self.sent - self.missed
    }

    /// What a frame of `len` bytes, without its checksum, takes of an allowance.
    #[inline]
    pub(super) fn cost(&self, len: usize) -> f64 {
        if self.in_bits { ((len.max(60) + WIRE_BYTES) * 8) as f64 } else { 1.0 }
    }

    /// So many frames, which took so much of an allowance, were sent in one go.
    #[inline]
    pub(super) fn spend(&mut self, frames: u32, cost: f64, now_ns: u64) {
        self.sent += cost;
        self.rhythm.add(frames, now_ns);
    }

    /// There was nothing to send: what is due by now lapses, and is not missed.
    pub(super) fn lapse(&mut self, now_ns: u64) {
        if let Some(per_ns) = self.per_ns {
            self.sent += (self.credit(now_ns, per_ns) - self.burst).max(0.0);
        }
    }

    /// How many frames should have been sent by now and were not, a burst aside.
    pub(super) fn missed(&self, now_ns: u64) -> u64 {
        let Some(per_ns) = self.per_ns else { return 0 };
        let frames = self.rhythm.frames as f64;
        let of_one = if self.in_bits && frames > 0.0 { self.sent / frames } else { 1.0 };
        let behind = self.credit(now_ns, per_ns) - self.burst;
        ((self.missed + behind.max(0.0)) / of_one) as u64
    }

    /// Whether packets are due at a rate, and not as fast as possible.
    pub(super) fn is_paced(&self) -> bool {
        self.per_ns.is_some()
    }

    /// How many frames were sent.
    #[inline]
    pub(super) fn frames(&self) -> u64 {
        self.rhythm.frames
    }

    /// How even the stream was.
    pub(super) fn rhythm(&self) -> Rhythm {
        let mut rhythm = self.rhythm;
        rhythm.end_ms();
        rhythm
    }
}

/// Frames by the millisecond.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rhythm {
    /// All frames.
    pub frames: u64,
    /// How many times some were sent.
    pub bursts: u64,
    /// The most within a millisecond.
    pub most: u64,
    ms: u64,
    in_ms: u64,
}

impl Rhythm {
    #[inline]
    fn add(&mut self, frames: u32, now_ns: u64) {
        let ms = now_ns / 1_000_000;
        if ms != self.ms {
            self.end_ms();
            self.ms = ms;
        }
        self.in_ms += u64::from(frames);
        self.frames += u64::from(frames);
        self.bursts += 1;
    }

    fn end_ms(&mut self) {
        self.most = self.most.max(std::mem::take(&mut self.in_ms));
    }

    /// The most frames within a millisecond over the mean in a stream of so many nanoseconds. (A
    /// stream with less than one frame a millisecond has bursts of one.)
    pub(super) fn burstiness(&self, elapsed_ns: u64) -> f64 {
        let mean = self.frames as f64 * 1e6 / elapsed_ns.max(1) as f64;
        if self.frames == 0 { 1.0 } else { self.most as f64 / mean.max(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends by this pace for `ns`, looked at each `step_ns`, but never between the two times of
    /// `asleep`; returns what went in each burst: when, how many.
    fn run(
        pace: &mut Pace,
        ns: u64,
        step_ns: u64,
        len: usize,
        asleep: [u64; 2],
    ) -> Vec<(u64, u32)> {
        let mut bursts = Vec::new();
        let mut now_ns = 0;
        while now_ns < ns {
            now_ns += step_ns;
            if (asleep[0]..asleep[1]).contains(&now_ns) {
                now_ns = asleep[1];
            }
            let (mut left, mut frames, mut spent) = (pace.allowance(now_ns), 0, 0.0);
            while left > 0.0 && frames < BURST_FRAMES {
                let cost = pace.cost(len);
                (left, frames, spent) = (left - cost, frames + 1, spent + cost);
            }
            if frames > 0 {
                pace.spend(frames, spent, now_ns);
                bursts.push((now_ns, frames));
            }
        }
        bursts
    }

    #[test]
    fn rates_are_met_evenly_in_small_bursts() {
        for (rate, burst) in [(10e3, 1), (100e3, 2), (1e6, 20), (5e6, 32)] {
            let mut pace = Pace::new(Rate::Packets(rate), Patience::ALONE, 0, None);
            let bursts = run(&mut pace, 100_000_000, 500, 60, [0, 0]);
            let sent: u32 = bursts.iter().map(|(_, frames)| frames).sum();
            assert!((f64::from(sent) - rate / 10.0).abs() <= burst.into(), "{rate}: {sent}");
            assert!(bursts.iter().all(|(_, frames)| *frames == burst), "{rate}");
            let rhythm = pace.rhythm();
            assert!(rhythm.burstiness(100_000_000) < 1.11, "{rate}: {rhythm:?}");
            assert_eq!(pace.missed(100_000_000), 0);
        }
    }

    #[test]
    fn bits_are_counted_as_on_the_wire() {
        // 10 Gbit/s of frames of 1518 bytes are 812,743 a second (RFC 2544's tables).
        let mut pace = Pace::new(Rate::Bits(10e9), Patience::ALONE, 0, None);
        let bursts = run(&mut pace, 100_000_000, 500, 1514, [0, 0]);
        let sent: u32 = bursts.iter().map(|(_, frames)| frames).sum();
        assert!(sent.abs_diff(81_274) < 40, "{sent}");
    }

    #[test]
    fn who_is_behind_catches_up_without_large_bursts_or_misses_and_says_so() {
        // Asleep for 10 ms: all is made up for, at twice the rate.
        let mut pace = Pace::new(Rate::Packets(1e6), Patience::ALONE, 0, None);
        let bursts = run(&mut pace, 50_000_000, 500, 60, [20_000_000, 30_000_000]);
        let sent: u32 = bursts.iter().map(|(_, frames)| frames).sum();
        assert!(sent.abs_diff(50_000) <= 20, "{sent}");
        assert!(bursts.iter().all(|(_, frames)| *frames <= 32));
        assert!(pace.rhythm().most <= 2_032, "{:?}", pace.rhythm());
        assert_eq!(pace.missed(50_000_000), 0);
        // For 100 ms: half of it is missed.
        let mut pace = Pace::new(Rate::Packets(1e6), Patience::ALONE, 0, None);
        let bursts = run(&mut pace, 300_000_000, 500, 60, [20_000_000, 120_000_000]);
        let sent: u32 = bursts.iter().map(|(_, frames)| frames).sum();
        assert!(sent.abs_diff(250_000) <= 40, "{sent}");
        assert!(pace.missed(300_000_000).abs_diff(50_000) <= 40);
    }

    #[test]
    fn what_lapses_is_not_missed() {
        let mut pace = Pace::new(Rate::Packets(1e6), Patience::ALONE, 0, None);
        pace.lapse(40_000_000);
        let first = pace.allowance(40_000_000);
        assert_eq!(first, 20.0);
        pace.spend(20, first, 40_000_000);
        assert_eq!(pace.missed(40_000_000), 0);
    }

    #[test]
    fn as_fast_as_possible_is_always_a_burst() {
        let mut pace = Pace::new(Rate::Max, Patience::ALONE, 0, Some(1_000));
        assert_eq!(pace.allowance(0), f64::from(BURST_FRAMES));
        pace.spend(BURST_FRAMES, 32.0, 0);
        assert_eq!((pace.allowance(0), pace.missed(1_000)), (32.0, 0));
        assert_eq!((pace.is_over(999), pace.is_over(1_000)), (false, true));
    }

    #[test]
    fn a_stream_ends_when_what_was_due_is_sent() {
        let mut pace = Pace::new(Rate::Packets(1e6), Patience::ALONE, 0, Some(10_000_000));
        let bursts = run(&mut pace, 8_000_000, 500, 60, [5_000_000, 10_500_000]);
        assert!(!pace.is_over(10_500_000));
        let late = run(&mut pace, 20_000_000, 500, 60, [1, 10_501_000]);
        assert!(pace.is_over(20_000_000));
        let sent: u32 = bursts.iter().chain(&late).map(|(_, frames)| frames).sum();
        assert_eq!((sent, pace.missed(20_000_000)), (10_000, 0));
        assert_eq!(pace.elapsed_ns(20_000_000), 10_000_000);
    }
}
