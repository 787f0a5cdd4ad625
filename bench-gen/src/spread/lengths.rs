//! How many packets a flow has.

use rand::Rng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, StandardNormal};

use super::agh::{LENGTHS, Part};
use super::alias::Alias;
use super::{random, unit};

/// Flow lengths as they were measured (AGH 2015): half of all flows have one packet, and half of
/// all packets are in one flow of some four thousand.
#[derive(Clone, Debug)]
pub struct Lengths {
    random: SmallRng,
    /// By flows.
    parts: Alias,
    /// By the packets in them.
    packets: Alias,
}

impl Lengths {
    /// A sequence of its own for each seed.
    pub fn new(seed: u64) -> Lengths {
        let by_packets = LENGTHS.map(|(weight, part)| weight * mean(part));
        Lengths {
            random: random(seed, 3),
            parts: Alias::new(&LENGTHS.map(|(weight, _)| weight)),
            packets: Alias::new(&by_packets),
        }
    }

    /// How many packets a flow has that begins now, at least 1.
    pub fn of_new(&mut self) -> u32 {
        let part = LENGTHS[self.parts.draw(self.random.next_u64())].1;
        let length = match part {
            Part::Uniform(width) => width * unit(&mut self.random),
            Part::LogNormal { sigma, median } => median * (sigma * self.normal()).exp(),
        };
        whole(length)
    }

    /// How many packets a flow has of which one packet is met at random, and how many are left
    /// with this one: both at least 1.
    ///
    /// Flows that are live when a measurement begins are of this kind. The long ones are many
    /// among them; with new flows instead the first seconds would see half of them end at once,
    /// and it would take hours until flows come and go as often as in the long run.
    pub fn of_met(&mut self) -> (u32, u32) {
        let part = LENGTHS[self.packets.draw(self.random.next_u64())].1;
        let length = match part {
            // How often a length is met grows with it.
            Part::Uniform(width) => loop {
                let length = whole(width * unit(&mut self.random));
                if unit(&mut self.random) * width < f64::from(length) {
                    break length;
                }
            },
            // A log-normal whose values count by their size has its median there.
            Part::LogNormal { sigma, median } => {
                whole(median * (sigma * self.normal() + sigma * sigma).exp())
            }
        };
        (length, 1 + (f64::from(length) * unit(&mut self.random)) as u32)
    }

    fn normal(&mut self) -> f64 {
        StandardNormal.sample(&mut self.random)
    }
}

/// A whole number of packets of what the mixture says (the authors' recipe: rounded down, and one).
fn whole(length: f64) -> u32 {
    1u32.saturating_add(length as u32)
}

/// How many packets a flow of this part has on average.
fn mean(part: Part) -> f64 {
    match part {
        Part::Uniform(width) => (width + 1.0) / 2.0,
        Part::LogNormal { sigma, median } => median * (sigma * sigma / 2.0).exp() + 0.5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The measured shares of flows, and of packets, in flows up to a length
    /// (`all-length-histogram.csv`).
    const MEASURED: [(u32, f64, f64); 9] = [
        (1, 0.4783, 0.0061),
        (2, 0.6534, 0.0105),
        (8, 0.8413, 0.0220),
        (32, 0.9434, 0.0426),
        (128, 0.9774, 0.0696),
        (1024, 0.9946, 0.144),
        (8192, 0.99876, 0.285),
        (65_536, 0.999805, 0.586),
        (262_144, 0.999981, 0.839),
    ];

    #[test]
    fn flows_are_as_long_as_measured() {
        const DRAWS: usize = 1_000_000;
        let mut lengths = Lengths::new(1);
        let mut drawn: Vec<u32> = (0..DRAWS).map(|_| lengths.of_new()).collect();
        drawn.sort_unstable();
        for (length, flows, _) in MEASURED {
            let share = drawn.partition_point(|drawn| *drawn <= length) as f64 / DRAWS as f64;
            // The fit's own error: up to 0.9 % of flows in the body, less in the tail.
            let room = if length < 128 { 0.009 } else { 0.0006 };
            assert!((share - flows).abs() < room, "up to {length}: {share}, not {flows}");
        }
    }

    #[test]
    fn draws_follow_the_mixture() {
        // Its distribution function, computed elsewhere.
        let mixture = [
            (1, 0.478_329),
            (2, 0.652_274),
            (8, 0.833_019),
            (32, 0.942_278),
            (128, 0.977_303),
            (1024, 0.994_774),
            (8192, 0.998_711),
            (65_536, 0.999_838_5),
        ];
        const DRAWS: usize = 1_000_000;
        let mut lengths = Lengths::new(5);
        let mut drawn: Vec<u32> = (0..DRAWS).map(|_| lengths.of_new()).collect();
        drawn.sort_unstable();
        for (length, flows) in mixture {
            let share = drawn.partition_point(|drawn| *drawn <= length) as f64 / DRAWS as f64;
            // Five standard deviations.
            let room = 5.0 * (flows * (1.0 - flows) / DRAWS as f64).sqrt();
            assert!((share - flows).abs() < room, "up to {length}: {share}, not {flows}");
        }
    }

    #[test]
    fn flows_that_are_met_are_long() {
        const DRAWS: usize = 500_000;
        let mut lengths = Lengths::new(2);
        let mut drawn = Vec::with_capacity(DRAWS);
        for _ in 0..DRAWS {
            let (length, left) = lengths.of_met();
            assert!((1..=length).contains(&left));
            drawn.push(length);
        }
        drawn.sort_unstable();
        for (length, _, packets) in MEASURED {
            let share = drawn.partition_point(|drawn| *drawn <= length) as f64 / DRAWS as f64;
            // The fit was made for flows; of packets it misses up to 3 %.
            assert!((share - packets).abs() < 0.03, "up to {length}: {share}, not {packets}");
        }
    }

    #[test]
    fn meeting_a_flow_counts_it_by_its_packets() {
        // What is met, weighted by one over its length, is what is new.
        let mut lengths = Lengths::new(3);
        let (mut ones, mut all) = (0.0, 0.0);
        for _ in 0..4_000_000 {
            let (length, _) = lengths.of_met();
            let weight = 1.0 / f64::from(length);
            all += weight;
            ones += if length == 1 { weight } else { 0.0 };
        }
        let share = ones / all;
        assert!((share - 0.4756).abs() < 0.01, "{share}");
    }
}
