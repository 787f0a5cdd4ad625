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
pub(super) enum Outcome {
    /// The criteria were met.
    Passed,
    /// They were not.
    Failed,
    /// They were met, but no more than this could be offered.
    Short(f64),
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Found {
    /// The most that passed; 0 if nothing did.
    pub(super) most: f64,
    /// Nothing failed: more may be possible.
    pub(super) bound: bool,
}

impl Bracket {
    /// Below `limit`, with a resolution as a share.
    pub(super) fn below(limit: f64, resolution: f64, floor: f64) -> Bracket {
        Bracket { low: 0.0, high: limit, resolution, floor }
    }

    /// What to try next; `None` at the end.
    pub(super) fn next(&self) -> Option<f64> {
        if self.high - self.low <= self.resolution * self.high {
            return None;
        }
        let middle = (self.low + self.high) / 2.0;
        (middle >= self.floor).then_some(middle)
    }

    /// About how many trials remain: as many as if the result were in the middle.
    pub fn remaining(&self) -> u32 {
        let Some(middle) = self.next() else { return 0 };
        let halvings = |narrowest: f64| {
            let times = (self.high - self.low) / narrowest.max(f64::MIN_POSITIVE);
            times.log2().ceil().max(1.0) as u32
        };
        halvings(self.resolution * middle).min(halvings(self.floor).max(1))
    }

    fn learn(&mut self, value: f64, outcome: Outcome) {
        match outcome {
            Outcome::Passed => self.low = value,
            Outcome::Failed => self.high = value,
            // Something may have held the generator up: it is tried again below.
            Outcome::Short(reached) => (self.low, self.high) = (self.low.max(reached), value),
        }
    }
}

/// Searches, beginning at the limit itself.
pub(super) fn search<E>(
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
pub(super) fn between<E>(
    bracket: &mut Bracket,
    attempt: &mut impl FnMut(f64, &Bracket) -> Result<Outcome, E>,
) -> Result<Found, E> {
    let mut bound = false;
    while let Some(value) = bracket.next() {
        let outcome = attempt(value, bracket)?;
        bound = match outcome {
            Outcome::Passed => bound,
            Outcome::Failed => false,
            Outcome::Short(_) => true,
        };
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
            // A result far below the limit takes more.
            let more = (500.0f64 / truth).log2().max(0.0).ceil() as u32;
            assert!(tries <= promised + more + 1, "{truth}: {tries} of {promised}");
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
                310.0.. => Outcome::Short(310.0),
                _ => Outcome::Passed,
            };
            Ok::<_, ()>(outcome)
        });
        assert_eq!(found.unwrap(), Found { most: 310.0, bound: true });
    }

    #[test]
    fn a_generator_that_was_held_up_once_does_not_end_the_search() {
        let mut tries = 0;
        let found = search(Bracket::below(1000.0, 0.01, 1.0), |value, _| {
            tries += 1;
            let outcome = match value {
                700.0.. => Outcome::Failed,
                _ if tries == 2 => Outcome::Short(10.0),
                _ => Outcome::Passed,
            };
            Ok::<_, ()>(outcome)
        });
        let Found { most, bound } = found.unwrap();
        assert!(most > 490.0 && bound, "{most}: up to what was tried then, 500");
    }

    #[test]
    fn what_remains_falls_to_the_last_trial() {
        let mut remaining = Vec::new();
        search(Bracket::below(1e6, 0.01, 1e3), |value, bracket| {
            remaining.push(bracket.remaining());
            Ok::<_, ()>(if value <= 3e5 { Outcome::Passed } else { Outcome::Failed })
        })
        .unwrap();
        assert!(remaining.is_sorted_by(|a, b| a >= b), "{remaining:?}");
        assert_eq!(remaining.last(), Some(&1), "{remaining:?}");
    }
}
