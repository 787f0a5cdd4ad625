//! Zipf's law over any number of ranks, exactly, in constant time and a few kilobytes.
//!
//! Ranks are put in bins, each at most a sixteenth wider than its first rank is high. A draw
//! chooses a bin by its width times the probability of its first rank, a rank within it, and
//! takes it with the quotient of the two ranks' probabilities: that is rejection with a staircase
//! over the curve. Nearly all draws lie below the staircase's lower side and are taken without
//! looking at the curve, so that there is no power to be computed.
//!
//! Rejection-inversion (Hörmann and Derflinger, *ACM TOMACS* 6(3), 1996) needs no bins at all, but
//! a power or two for each draw.

use rand::Rng;
use rand::rngs::SmallRng;

use super::alias::Alias;
use super::{below, unit};

/// Draws ranks from 0, the most likely, on.
#[derive(Clone, Debug)]
pub(super) struct Zipf {
    bins: Box<[Bin]>,
    alias: Alias,
    exponent: f64,
}

/// Neighbouring ranks, counted from 0.
#[derive(Clone, Copy, Debug)]
struct Bin {
    first: u32,
    count: u32,
    /// The probability of the last rank over that of the first.
    least: f64,
}

impl Zipf {
    /// Over `ranks` ranks, at least 1: that of rank k, from 1, is as likely as k^-`exponent`.
    pub(super) fn new(ranks: u32, exponent: f64) -> Zipf {
        const STEPS: u32 = 16;
        let mut bins = Vec::new();
        let mut first = 0;
        while first < ranks {
            let count = ((first + 1) / STEPS).clamp(1, ranks - first);
            bins.push(Bin { first, count, least: ratio(first, first + count - 1, exponent) });
            first += count;
        }
        let weights: Vec<f64> = bins
            .iter()
            .map(|bin| f64::from(bin.count) * f64::from(bin.first + 1).powf(-exponent))
            .collect();
        Zipf { alias: Alias::new(&weights), bins: bins.into_boxed_slice(), exponent }
    }

    /// A rank, counted from 0.
    pub(super) fn draw(&self, random: &mut SmallRng) -> u32 {
        loop {
            let bin = self.bins[self.alias.draw(random.next_u64())];
            if bin.count == 1 {
                return bin.first;
            }
            let rank = bin.first + below(random, bin.count);
            let height = unit(random);
            if height < bin.least || height < ratio(bin.first, rank, self.exponent) {
                return rank;
            }
        }
    }
}

/// How likely rank `rank` is for one time that rank `first` comes; both from 0.
fn ratio(first: u32, rank: u32, exponent: f64) -> f64 {
    (f64::from(first + 1) / f64::from(rank + 1)).powf(exponent)
}

#[cfg(test)]
mod tests {
    use super::super::random;
    use super::*;

    /// Counts of the first ranks, and of all above in powers of two, against their probabilities.
    #[track_caller]
    fn check(ranks: u32, exponent: f64) {
        const DRAWS: u32 = 2_000_000;
        let zipf = Zipf::new(ranks, exponent);
        let mut random = random(42, exponent.to_bits());
        let class = |rank: u32| match rank {
            0..32 => rank as usize,
            _ => 32 + (rank.ilog2() as usize - 5),
        };
        let (mut counts, mut weights) = ([0u32; 64], [0f64; 64]);
        for _ in 0..DRAWS {
            let rank = zipf.draw(&mut random);
            assert!(rank < ranks);
            counts[class(rank)] += 1;
        }
        for rank in 0..ranks {
            weights[class(rank)] += f64::from(rank + 1).powf(-exponent);
        }
        let sum: f64 = weights.iter().sum();
        for (class, (count, weight)) in counts.into_iter().zip(weights).enumerate() {
            let expected = weight / sum * f64::from(DRAWS);
            // Five standard deviations: of some hundred classes none lies outside by chance.
            let room = 5.0 * expected.sqrt().max(1.0);
            assert!(
                (f64::from(count) - expected).abs() <= room,
                "s={exponent} over {ranks}, class {class}: {count}, not {expected:.1}"
            );
        }
    }

    #[test]
    fn ranks_are_as_likely_as_the_law_says() {
        for exponent in [0.2, 0.8, 1.0, 1.2, 2.5] {
            check(100_000, exponent);
        }
        check(1 << 20, 1.0);
    }

    #[test]
    fn few_ranks_are_ranks_too() {
        check(1, 1.0);
        check(2, 1.0);
        check(33, 0.5);
    }

    #[test]
    fn sixteen_million_ranks_take_a_few_kilobytes() {
        let zipf = Zipf::new(1 << 24, 1.0);
        assert!(zipf.bins.len() < 512, "{}", zipf.bins.len());
        let mut random = random(1, 1);
        assert!((0..100_000).any(|_| zipf.draw(&mut random) > 1 << 23));
    }
}
