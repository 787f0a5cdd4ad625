//! Where an lcore's time goes.

use crate::bench::Cost;

/// Counts the cycles of a stage's loop: of turns in which packets were taken, of those in which
/// packets were made, and all until everything was sent, idle turns among them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meter {
    start: u64,
    /// When the turn under way began.
    begun: u64,
    taking: Work,
    making: Work,
    all: u64,
}

/// Packets, and the cycles that they took.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    cycles: u64,
    packets: u64,
}

impl Work {
    fn add(&mut self, cycles: u64, packets: u64) {
        self.cycles += cycles;
        self.packets += packets;
    }
}

impl Meter {
    /// The counter stands at `start`, and the loop begins.
    pub(super) fn new(start: u64) -> Meter {
        let (taking, making) = (Work::default(), Work::default());
        Meter { start, begun: start, taking, making, all: 0 }
    }

    /// A turn of the loop is over at `end`: so many packets were taken until `between`, then so
    /// many were made, then all was sent. What is sent when none were made are answers.
    #[inline]
    pub(super) fn turn(&mut self, taken: usize, between: u64, made: usize, end: u64) {
        if taken > 0 {
            let until = if made > 0 { between } else { end };
            self.taking.add(until - self.begun, taken as u64);
        }
        if made > 0 {
            self.making.add(end - between, made as u64);
        }
        self.begun = end;
    }

    /// Others had the CPU until now.
    #[inline]
    pub(super) fn away(&mut self, end: u64) {
        self.begun = end;
    }

    /// Everything is sent.
    pub(super) fn stop(&mut self) {
        self.all = self.begun - self.start;
    }

    /// Adds another lcore's.
    pub(super) fn add(&mut self, other: &Meter) {
        self.taking.add(other.taking.cycles, other.taking.packets);
        self.making.add(other.making.cycles, other.making.packets);
        self.all += other.all;
    }

    /// What was metered, by the packet.
    pub(super) fn cost(&self) -> Cost {
        let each = |cycles: u64, packets: u64| cycles as f64 / packets.max(1) as f64;
        Cost {
            sent: each(self.making.cycles, self.making.packets),
            received: each(self.taking.cycles, self.taking.packets),
            all: each(self.all, self.making.packets),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_go_to_whom_they_were_spent_on() {
        let mut meter = Meter::new(1_000);
        meter.turn(0, 1_010, 10, 1_510); // 500 for 10 made
        meter.turn(20, 2_110, 10, 2_410); // 600 for 20 taken, 300 for 10 made
        meter.turn(0, 2_420, 0, 2_430); // nobody's
        meter.away(9_000);
        meter.turn(20, 9_500, 0, 9_600); // 600 for 20 taken, with their answers
        meter.stop();
        meter.turn(10, 9_900, 0, 9_900); // behind the end
        let cost = meter.cost();
        assert_eq!((cost.sent, cost.received, cost.all), (40.0, 30.0, 430.0));
        let mut both = meter;
        both.add(&meter);
        assert_eq!(both.cost(), cost);
        assert_eq!(Meter::new(7).cost(), Cost::default());
    }
}
