//! Binary search for the most that passes.

/// Between what passed and what did not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bracket {
    /// The most that passed; 0 if nothing did.
    pub low: f64,
    /// The least that did not pass, or the limit before it was tried.
    pub high: f64,
    /// The search ends when `high` is at most so much above `low`, as a share of `high`.
    pub resolution: f64,
    /// Below this nothing is tried.
    pub floor: f64,
}

/// How a trial came out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// The criteria were met.
    Passed,
    /// They were not.
    Failed,
    /// They were met, but no more than this could be offered: the result is a lower bound.
    Short(f64),
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// The most that passed; 0 if nothing did.
    pub most: f64,
    /// Nothing failed: more may be possible.
    pub bound: bool,
}

impl Bracket {
    /// Below `limit`, with a resolution as a share.
    pub fn below(limit: f64, resolution: f64, floor: f64) -> Bracket {
        Bracket { low: 0.0, high: limit, resolution, floor }
    }

    /// What to try next; `None` at the end.
    pub fn next(&self) -> Option<f64> {
        if self.high - self.low <= self.resolution * self.high {
            return None;
        }
        let middle = (self.low + self.high) / 2.0;
        (middle >= self.floor).then_some(middle)
    }

    /// How many trials remain, at most.
    pub fn remaining(&self) -> u32 {
        // Where all fail the bracket ends at the floor, where all pass at the resolution.
        let narrowest = (self.resolution * self.high).max(self.floor.min(self.high) / 2.0);
        if narrowest <= 0.0 || self.next().is_none() {
            return 0;
        }
        ((self.high - self.low) / narrowest).log2().ceil().max(0.0) as u32
    }

    fn learn(&mut self, value: f64, outcome: Outcome) {
        match outcome {
            Outcome::Passed => self.low = value,
            Outcome::Failed => self.high = value,
            Outcome::Short(reached) => {
                self.low = self.low.max(reached);
                self.high = self.low;
            }
        }
    }
}

/// Searches, beginning at the limit itself.
pub fn search<E>(
    mut bracket: Bracket,
    mut attempt: impl FnMut(f64, &Bracket) -> Result<Outcome, E>,
) -> Result<Found, E> {
    match attempt(bracket.high, &bracket)? {
        Outcome::Passed => return Ok(Found { most: bracket.high, bound: true }),
        Outcome::Short(reached) => return Ok(Found { most: reached, bound: true }),
        Outcome::Failed => {}
    }
    between(&mut bracket, &mut attempt)
}

/// Goes on where `low` passed and `high` did not.
pub fn between<E>(
    bracket: &mut Bracket,
    attempt: &mut impl FnMut(f64, &Bracket) -> Result<Outcome, E>,
) -> Result<Found, E> {
    let mut bound = false;
    while let Some(value) = bracket.next() {
        let outcome = attempt(value, bracket)?;
        bound = matches!(outcome, Outcome::Short(_));
        bracket.learn(value, outcome);
    }
    Ok(Found { most: bracket.low, bound })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(limit: f64, truth: f64) -> (Found, u32, u32) {
        let mut tries = 0;
        let bracket = Bracket::below(limit, 0.01, limit / 1000.0);
        let promised = bracket.remaining();
        let found = search(bracket, |value, bracket| {
            tries += 1;
            assert!(bracket.low <= value && value <= bracket.high);
            let outcome = if value <= truth { Outcome::Passed } else { Outcome::Failed };
            Ok::<_, ()>(outcome)
        });
        (found.unwrap(), tries, promised)
    }

    #[test]
    fn it_closes_to_the_resolution_from_below() {
        for truth in [700.0, 123.4, 999.0, 12.0] {
            let (found, tries, promised) = find(1000.0, truth);
            assert!(!found.bound);
            assert!(found.most <= truth && found.most >= truth * 0.98, "{truth}: {found:?}");
            assert!(tries <= promised + 1, "{truth}: {tries} of {promised}");
        }
    }

    #[test]
    fn all_passing_is_a_bound_and_all_failing_is_zero() {
        assert_eq!(find(1000.0, 1e9).0, Found { most: 1000.0, bound: true });
        let (found, tries, _) = find(1000.0, 0.0);
        assert_eq!(found, Found { most: 0.0, bound: false });
        assert!(tries < 14, "{tries}");
    }

    #[test]
    fn a_generator_that_cannot_reach_a_rate_gives_a_bound() {
        let found = search(Bracket::below(1000.0, 0.01, 1.0), |value, _| {
            let outcome = match value {
                900.0.. => Outcome::Failed,
                300.0.. => Outcome::Short(310.0),
                _ => Outcome::Passed,
            };
            Ok::<_, ()>(outcome)
        });
        assert_eq!(found.unwrap(), Found { most: 310.0, bound: true });
    }

    #[test]
    fn what_remains_falls_with_every_trial() {
        let mut last = u32::MAX;
        search(Bracket::below(1e6, 0.01, 1e3), |value, bracket| {
            assert!(bracket.remaining() < last || last == u32::MAX || bracket.low == 0.0);
            last = bracket.remaining();
            Ok::<_, ()>(if value <= 3e5 { Outcome::Passed } else { Outcome::Failed })
        })
        .unwrap();
        assert!(last <= 1, "{last} remain at the end");
    }
}
