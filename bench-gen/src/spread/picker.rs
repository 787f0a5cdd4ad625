//! Which flow the next packet belongs to.

use rand::rngs::SmallRng;

use super::random;
use super::zipf::Zipf;
use crate::load::Popularity;

/// Chooses flows, numbered from 0.
#[derive(Clone, Debug)]
pub struct Picker(Way);

#[derive(Clone, Debug)]
enum Way {
    InTurn { next: u32, flows: u32 },
    Zipf { random: SmallRng, zipf: Zipf, scatter: Scatter },
}

impl Picker {
    /// Over `flows` flows, of which there is at least one.
    ///
    /// Flows of [`Popularity::Agh2015`] come in turn: how popular one is lies in its length, after
    /// which another takes its place ([`Lengths`](super::Lengths)).
    ///
    /// # Panics
    /// If there are no flows.
    pub fn new(popularity: Popularity, flows: u32, seed: u64) -> Picker {
        assert!(flows > 0, "there is no flow to choose");
        Picker(match popularity {
            Popularity::Zipf(exponent) if exponent > 0.0 => Way::Zipf {
                random: random(seed, 1),
                zipf: Zipf::new(flows, exponent),
                scatter: Scatter::new(flows, seed),
            },
            _ => Way::InTurn { next: 0, flows },
        })
    }

    /// The next ones.
    #[inline]
    pub fn pick(&mut self, picked: &mut [u32]) {
        match &mut self.0 {
            Way::InTurn { next, flows } => {
                for flow in picked {
                    *flow = *next;
                    *next = if *next + 1 == *flows { 0 } else { *next + 1 };
                }
            }
            Way::Zipf { random, zipf, scatter } => {
                picked.fill_with(|| scatter.place(zipf.draw(random)));
            }
        }
    }
}

/// A permutation, so that popular flows are not neighbours in memory, nor of one subscriber:
/// `(rank * step + start) mod flows`, where step and flows have no common divisor.
#[derive(Clone, Debug)]
struct Scatter {
    step: u32,
    start: u32,
    flows: u32,
    /// 2^64 / flows, rounded down: division by multiplication (Barrett).
    reciprocal: u64,
}

impl Scatter {
    fn new(flows: u32, seed: u64) -> Scatter {
        // Steps near the golden section leave no two successive ranks near each other.
        let golden = (f64::from(flows) * 0.618_033_988_749_895) as u32;
        let step = (golden.max(1)..=flows).find(|step| gcd(*step, flows) == 1).unwrap_or(1);
        let start = super::below(&mut random(seed, 2), flows);
        Scatter { step, start, flows, reciprocal: u64::MAX / u64::from(flows) }
    }

    fn place(&self, rank: u32) -> u32 {
        let at = u64::from(rank) * u64::from(self.step) + u64::from(self.start);
        let times = ((u128::from(at) * u128::from(self.reciprocal)) >> 64) as u64;
        let rest = at - times * u64::from(self.flows);
        let flows = u64::from(self.flows);
        (if rest >= flows { rest - flows } else { rest }) as u32
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_flows_come_in_turn() {
        let mut picker = Picker::new(Popularity::Uniform, 3, 1);
        let mut drawn = [0; 7];
        picker.pick(&mut drawn[..2]);
        picker.pick(&mut drawn[2..]);
        assert_eq!(drawn, [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn ranks_are_scattered_over_all_flows() {
        for flows in [1, 2, 3, 7, 10, 64, 1000, 65_536, 99_991] {
            let scatter = Scatter::new(flows, 5);
            let mut places: Vec<u32> = (0..flows).map(|rank| scatter.place(rank)).collect();
            places.sort_unstable();
            assert!(places.into_iter().eq(0..flows), "{flows}");
        }
    }

    #[test]
    fn places_are_remainders_up_to_the_most_flows() {
        for flows in [u32::MAX, u32::MAX - 4, 1 << 31, (1 << 24) + 1] {
            let scatter = Scatter::new(flows, 5);
            for rank in [0, 1, 2, flows / 3, flows - 2, flows - 1] {
                let at = u64::from(rank) * u64::from(scatter.step) + u64::from(scatter.start);
                assert_eq!(u64::from(scatter.place(rank)), at % u64::from(flows));
            }
        }
    }

    #[test]
    fn popular_flows_are_not_neighbours() {
        let scatter = Scatter::new(1 << 20, 9);
        let mut places: Vec<u32> = (0..100).map(|rank| scatter.place(rank)).collect();
        places.sort_unstable();
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] > 1000), "{places:?}");
    }

    #[test]
    fn the_most_popular_flow_has_its_share_and_a_seed_repeats() {
        let draw = |seed| {
            let mut picker = Picker::new(Popularity::Zipf(1.0), 1000, seed);
            let mut drawn = vec![0; 100_000];
            picker.pick(&mut drawn);
            drawn
        };
        let drawn = draw(7);
        let mut counts = vec![0u32; 1000];
        drawn.iter().for_each(|flow| counts[*flow as usize] += 1);
        // One over the thousandth harmonic number, 7.485.
        let most = f64::from(counts.into_iter().max().unwrap()) / 100_000.0;
        assert!((most - 0.1336).abs() < 0.005, "{most}");
        assert_eq!(drawn, draw(7));
        assert_ne!(drawn, draw(8));
    }
}
