//! Draws from a list of weights in constant time (Walker 1977, Vose 1991).

/// A table of as many columns as there are weights: each is shared by its own index and one other.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Alias {
    columns: Box<[Column]>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Column {
    /// Below this share of the column, in 2^-32, it is its own index.
    own: u64,
    /// Otherwise this one.
    other: u32,
}

impl Alias {
    /// For these weights, which are not negative and not all zero.
    pub(super) fn new(weights: &[f64]) -> Alias {
        let mean = weights.iter().sum::<f64>() / weights.len() as f64;
        assert!(mean > 0.0 && mean.is_finite(), "weights without a sum");
        let mut shares: Vec<f64> = weights.iter().map(|weight| weight / mean).collect();
        let (mut poor, mut rich): (Vec<usize>, Vec<usize>) =
            (0..shares.len()).partition(|index| shares[*index] < 1.0);
        let own = |index| Column { own: 1 << 32, other: index as u32 };
        let mut columns: Box<[Column]> = (0..shares.len()).map(own).collect();
        while let (Some(giver), Some(taker)) = (rich.last().copied(), poor.pop()) {
            columns[taker] =
                Column { own: (shares[taker] * (1u64 << 32) as f64) as u64, other: giver as u32 };
            shares[giver] -= 1.0 - shares[taker];
            if shares[giver] < 1.0 {
                poor.extend(rich.pop());
            }
        }
        Alias { columns }
    }

    /// The index that a random number stands for: each as likely as its weight.
    #[inline]
    pub(super) fn draw(&self, random: u64) -> usize {
        // The high half chooses the column, what that leaves over cannot be told from random.
        let wide = u128::from(random) * self.columns.len() as u128;
        let index = (wide >> 64) as usize;
        let column = self.columns[index];
        let within = (wide as u64) >> 32;
        if within < column.own { index } else { column.other as usize }
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::super::random;
    use super::*;

    #[test]
    fn each_index_is_as_likely_as_its_weight() {
        let weights = [0.0, 7.0, 4.0, 1.0, 0.001, 20.0, 0.0];
        let alias = Alias::new(&weights);
        let (mut random, draws) = (random(1, 2), 1_000_000);
        let mut counts = [0u32; 7];
        (0..draws).for_each(|_| counts[alias.draw(random.next_u64())] += 1);
        let sum: f64 = weights.iter().sum();
        let mut chi_squared = 0.0;
        for (count, weight) in counts.into_iter().zip(weights) {
            let expected = weight / sum * f64::from(draws);
            if weight == 0.0 {
                assert_eq!(count, 0);
            } else {
                chi_squared += (f64::from(count) - expected).powi(2) / expected;
            }
        }
        // Four degrees of freedom: 18.5 is exceeded once in a thousand.
        assert!(chi_squared < 18.5, "{chi_squared}: {counts:?}");
    }

    #[test]
    fn one_weight_is_drawn_always() {
        let alias = Alias::new(&[0.25]);
        let mut random = random(3, 4);
        assert!((0..1000).all(|_| alias.draw(random.next_u64()) == 0));
    }
}
