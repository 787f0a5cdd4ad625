//! How long the next frame is.

use super::agh::{FRAME_LONG, FRAME_SHORT};
use super::alias::Alias;
use crate::load::Sizes;

/// Chooses frame lengths, bytes with the checksum.
///
/// A length follows from the random number that it is drawn by: who draws by the same again gets
/// the same.
#[derive(Clone, Debug, PartialEq)]
pub struct SizeDraw(Way);

#[derive(Clone, Debug, PartialEq)]
enum Way {
    Fixed(u16),
    Mix { alias: Alias, bytes: Box<[u16]> },
    Agh2015,
}

impl SizeDraw {
    /// For these sizes.
    ///
    /// # Panics
    /// If a mix has no weight.
    pub fn new(sizes: &Sizes) -> SizeDraw {
        SizeDraw(match sizes {
            Sizes::Fixed(bytes) => Way::Fixed(*bytes),
            Sizes::Mix(mix) => {
                let weights: Vec<f64> = mix.iter().map(|(_, weight)| f64::from(*weight)).collect();
                let bytes = mix.iter().map(|(bytes, _)| *bytes).collect();
                Way::Mix { alias: Alias::new(&weights), bytes }
            }
            Sizes::Agh2015 => Way::Agh2015,
        })
    }

    /// The length that `random` stands for (only [`Sizes::Mix`] asks for it), in a flow of
    /// `flow_packets` packets (only [`Sizes::Agh2015`] asks for that).
    #[inline]
    pub fn draw(&self, random: impl FnOnce() -> u64, flow_packets: u32) -> u16 {
        match &self.0 {
            Way::Fixed(bytes) => *bytes,
            Way::Mix { alias, bytes } => bytes[alias.draw(random())],
            Way::Agh2015 => mean_frame(flow_packets),
        }
    }
}

impl Sizes {
    /// The longest frame that there can be, bytes.
    pub fn max(&self) -> u16 {
        match self {
            Sizes::Fixed(bytes) => *bytes,
            Sizes::Mix(mix) => mix.iter().map(|(bytes, _)| *bytes).max().unwrap_or(0),
            Sizes::Agh2015 => FRAME_LONG.into_iter().max().unwrap_or(0),
        }
    }

    /// The mean frame, bytes: of AGH 2015 that of all packets of the long run.
    pub fn mean(&self) -> f64 {
        match self {
            Sizes::Fixed(bytes) => f64::from(*bytes),
            Sizes::Mix(mix) => {
                let weighed = |(bytes, weight): &(u16, u32)| f64::from(*bytes) * f64::from(*weight);
                let weights: f64 = mix.iter().map(|(_, weight)| f64::from(*weight)).sum();
                mix.iter().map(weighed).sum::<f64>() / weights
            }
            Sizes::Agh2015 => 871.0,
        }
    }
}

/// The mean frame of flows of so many packets, bytes.
fn mean_frame(packets: u32) -> u16 {
    let packets = packets.max(1);
    match FRAME_SHORT.get(packets as usize - 1) {
        Some(bytes) => *bytes,
        None => FRAME_LONG[(packets.ilog2() as usize - 3).min(FRAME_LONG.len() - 1)],
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::super::{Lengths, random};
    use super::*;

    #[test]
    fn a_mix_is_drawn_by_its_weights() {
        let sizes = Sizes::Mix(vec![(64, 7), (594, 4), (1518, 1)]);
        let (draw, mut random) = (SizeDraw::new(&sizes), random(11, 4));
        let draws = 1_200_000u32;
        let (mut counts, mut sum) = ([0u32; 3], 0u64);
        for _ in 0..draws {
            let bytes = draw.draw(|| random.next_u64(), 1);
            sum += u64::from(bytes);
            counts[[64, 594, 1518].iter().position(|known| *known == bytes).unwrap()] += 1;
        }
        let expected = [700_000.0, 400_000.0, 100_000.0];
        let chi_squared: f64 = counts
            .into_iter()
            .zip(expected)
            .map(|(count, expected)| (f64::from(count) - expected).powi(2) / expected)
            .sum();
        // Two degrees of freedom: 13.8 is exceeded once in a thousand.
        assert!(chi_squared < 13.8, "{chi_squared}: {counts:?}");
        let mean = sum as f64 / f64::from(draws);
        assert!((mean - sizes.mean()).abs() < 1.5, "{mean}, not {}", sizes.mean());
    }

    #[test]
    fn fixed_frames_are_fixed() {
        let draw = SizeDraw::new(&Sizes::Fixed(64));
        assert!((0..10).all(|length| draw.draw(|| u64::from(length) << 60, length) == 64));
    }

    #[test]
    fn frames_of_long_flows_are_long() {
        let expected = [
            (0, 150),
            (1, 150),
            (2, 133),
            (7, 262),
            (8, 298),
            (15, 298),
            (16, 362),
            (1 << 20, 1097),
            (u32::MAX, 1097),
        ];
        for (packets, bytes) in expected {
            assert_eq!(mean_frame(packets), bytes, "{packets}");
        }
        assert_eq!(Sizes::Agh2015.max(), 1097);
    }

    #[test]
    fn the_mean_frame_of_all_packets_is_the_measured_one() {
        let mut lengths = Lengths::new(4);
        let draw = SizeDraw::new(&Sizes::Agh2015);
        let draws = 200_000;
        let sum: u64 = (0..draws).map(|_| u64::from(draw.draw(|| 0, lengths.of_met().0))).sum();
        let mean = sum as f64 / f64::from(draws);
        assert!((mean - Sizes::Agh2015.mean()).abs() < 20.0, "{mean}");
    }
}
