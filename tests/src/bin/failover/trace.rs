//! When each packet of a flow was sent and when it arrived, and what follows from that.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Packets of a direction: a quarter of an hour of a hundred a second.
const PACKETS_MAX: usize = 90_000;

const US_PER_DAY: i64 = 86_400_000_000;

/// Microseconds since the start, beside the time of day, which other programs write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    day_us: i64,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { start: Instant::now(), day_us: wall.as_micros() as i64 % US_PER_DAY }
    }

    pub(crate) fn us(&self) -> u32 {
        self.start.elapsed().as_micros() as u32
    }

    /// The moment, in microseconds, of which a line in a log tells by its date and time, such as
    /// `2026-01-31 23:59:59.123456` or `[2026-01-31T23:59:59.123456]`, both UTC.
    pub(crate) fn moment(&self, line: &str) -> Option<i64> {
        let time = line.trim_start_matches('[').get(11..26)?;
        let mut parts = time.split([':', '.']).map(str::parse::<i64>);
        let mut part = || parts.next()?.ok();
        let (hours, minutes, seconds, us) = (part()?, part()?, part()?, part()?);
        let of_day = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + us;
        // A run may pass midnight and is shorter than half a day.
        Some((of_day - self.day_us + US_PER_DAY * 3 / 2) % US_PER_DAY - US_PER_DAY / 2)
    }
}

/// One direction of a flow, or its way out and back. Moments are microseconds, 0 is never.
#[derive(Debug)]
pub(crate) struct Trace {
    sent: Box<[AtomicU32]>,
    arrived: Box<[AtomicU32]>,
}

impl Trace {
    pub(crate) fn new() -> Trace {
        let never = || (0..PACKETS_MAX).map(|_| AtomicU32::new(0)).collect();
        Trace { sent: never(), arrived: never() }
    }

    pub(crate) fn sent(&self, number: u32, now: u32) {
        if let Some(sent) = self.sent.get(number as usize) {
            sent.store(now, Relaxed);
        }
    }

    /// Only the first of copies counts.
    pub(crate) fn arrived(&self, number: u32, now: u32) {
        if let Some(arrived) = self.arrived.get(number as usize)
            && arrived.load(Relaxed) == 0
        {
            arrived.store(now, Relaxed);
        }
    }

    /// The packets sent from `from` to `to`: when, and when they arrived; 0 is for those that are
    /// lost, or as good as lost.
    pub(crate) fn between(&self, from: u32, to: u32) -> Vec<(u32, u32)> {
        let pairs = self.sent.iter().zip(&self.arrived);
        pairs
            .map(|(sent, arrived)| (sent.load(Relaxed), arrived.load(Relaxed)))
            .filter(|&(sent, _)| sent != 0 && (from..to).contains(&sent))
            .map(|(sent, at)| (sent, if at.saturating_sub(sent) < USELESS { at } else { 0 }))
            .collect()
    }
}

/// A packet that arrives so long after it was sent, µs, is of no use any more. Frozen nodes and
/// links that are down keep some.
const USELESS: u32 = 1_000_000;

/// What became of some packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) sent: u32,
    pub(crate) lost: u32,
    /// The longest time without an arrival.
    pub(crate) outage_us: u32,
}

/// The fate of packets sent between two moments. A flow of which nothing arrives any more is out
/// until the second.
pub(crate) fn fate(packets: &[(u32, u32)], from: u32, to: u32) -> Fate {
    let mut arrivals: Vec<u32> =
        packets.iter().map(|&(_, arrived)| arrived).filter(|&arrived| arrived != 0).collect();
    arrivals.sort_unstable();
    let lost = packets.len() - arrivals.len();
    let (mut outage_us, mut last) = (0, from);
    for arrival in arrivals.into_iter().chain([to]) {
        outage_us = outage_us.max(arrival.min(to).saturating_sub(last));
        last = last.max(arrival);
    }
    Fate { sent: packets.len() as u32, lost: lost as u32, outage_us }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_the_longest_time_without_an_arrival_up_to_the_end() {
        let of = |packets: &[(u32, u32)]| {
            let Fate { sent, lost, outage_us } = fate(packets, 100, 200);
            (sent, lost, outage_us)
        };
        assert_eq!(of(&[(100, 101), (130, 131), (160, 161), (190, 191)]), (4, 0, 30));
        assert_eq!(of(&[(100, 101), (130, 0), (160, 161), (190, 191)]), (4, 1, 60));
        assert_eq!(of(&[(100, 101), (130, 131), (160, 0), (190, 0)]), (4, 2, 69));
        assert_eq!(of(&[(100, 0), (130, 0)]), (2, 2, 100));
        // One that was kept back for long lets the flow stand still, though nothing is lost.
        assert_eq!(of(&[(100, 101), (130, 171), (160, 172), (190, 191)]), (4, 0, 70));
        // What comes after the end does not make an outage longer than till then.
        assert_eq!(of(&[(100, 101), (130, 131), (160, 161), (190, 260)]), (4, 0, 39));
        // Overtaking is no harm.
        assert_eq!(of(&[(100, 140), (130, 131), (160, 161), (190, 191)]), (4, 0, 31));
    }

    #[test]
    fn a_trace_keeps_the_first_of_copies_and_is_cut_by_when_packets_were_sent() {
        let trace = Trace::new();
        for (number, (sent, arrived)) in [(10, 12), (20, 0), (30, 31)].into_iter().enumerate() {
            trace.sent(number as u32, sent);
            if arrived != 0 {
                trace.arrived(number as u32, arrived);
                trace.arrived(number as u32, arrived + 50);
            }
        }
        assert_eq!(trace.between(10, 30), [(10, 12), (20, 0)]);
        assert_eq!(trace.between(11, 99), [(20, 0), (30, 31)]);
        trace.sent(u32::MAX, 1);
        // As good as lost.
        trace.sent(3, 40);
        trace.arrived(3, 40 + USELESS);
        trace.sent(4, 41);
        trace.arrived(4, 40 + USELESS);
        assert_eq!(trace.between(40, 99), [(40, 0), (41, 40 + USELESS)]);
    }

    #[test]
    fn times_of_day_in_logs_become_moments_also_past_midnight() {
        let start = Instant::now();
        let noon = Clock { start, day_us: 12 * 3_600_000_000 };
        assert_eq!(noon.moment("2026-11-27 12:00:01.000002 <TRACE> bfd1"), Some(1_000_002));
        assert_eq!(noon.moment("[2026-11-27T11:59:59.500000] Deleted"), Some(-500_000));
        let late = Clock { start, day_us: US_PER_DAY - 1_000_000 };
        assert_eq!(late.moment("2026-11-28 00:00:01.000000 "), Some(2_000_000));
        assert_eq!(late.moment("bird: Started"), None);
    }
}
