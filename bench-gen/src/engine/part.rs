//! An lcore's part of a stage.

use crate::bench::Stage;
use crate::load::{End, Rate};

/// What one lcore has to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    /// For its share: sessions are its own.
    pub stage: Stage,
    /// Its own rate.
    pub rate: Rate,
    /// When it stops to send.
    pub limit: Limit,
}

/// When an lcore stops to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// After so many nanoseconds.
    Time(u64),
    /// After so many packets.
    Packets(u64),
    /// After so many sessions were opened.
    Sessions(u64),
    /// When its share has nothing more to do.
    Done,
}

impl Part {
    /// That of the lcore with this number, of so many.
    pub(super) fn new(stage: &Stage, number: usize, of: usize) -> Part {
        let (rate, limit) = match stage {
            Stage::Traffic { rate, end, .. } => (*rate, limit(*end, number as u64, of as u64)),
            Stage::Open { per_second, .. }
            | Stage::Probe { per_second }
            | Stage::Close { per_second } => (Rate::Packets(*per_second), Limit::Done),
            Stage::Forget => (Rate::Max, Limit::Done),
        };
        let rate = match rate {
            Rate::Packets(rate) => Rate::Packets(rate / of as f64),
            Rate::Bits(rate) => Rate::Bits(rate / of as f64),
            Rate::Max => Rate::Max,
        };
        let mut stage = stage.clone();
        if let Stage::Open { sessions, .. } = &mut stage {
            *sessions = part((*sessions).into(), number as u64, of as u64) as u32;
        }
        Part { stage, rate, limit }
    }
}

fn limit(end: End, number: u64, of: u64) -> Limit {
    match end {
        End::After(time) => Limit::Time(time.as_nanos().try_into().unwrap_or(u64::MAX)),
        End::Packets(count) => Limit::Packets(part(count, number, of)),
        End::Sessions(count) => Limit::Sessions(part(count, number, of)),
    }
}

/// The parts differ by one at most, and add up.
fn part(whole: u64, number: u64, of: u64) -> u64 {
    whole / of + u64::from(whole % of > number)
}

/// Packets a second that a stage asks for; `None` if it asks for as many as possible, or for bits.
pub(super) fn wanted_pps(stage: &Stage) -> Option<f64> {
    let rate = match stage {
        Stage::Traffic { rate, .. } => *rate,
        Stage::Open { per_second, .. }
        | Stage::Probe { per_second }
        | Stage::Close { per_second } => Rate::Packets(*per_second),
        Stage::Forget => Rate::Max,
    };
    match rate {
        Rate::Packets(rate) => rate.is_finite().then_some(rate),
        Rate::Bits(_) | Rate::Max => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Ways;

    #[test]
    fn parts_add_up() {
        let open = Stage::Open { sessions: 11, per_second: 30.0 };
        let parts: Vec<Part> = (0..3).map(|number| Part::new(&open, number, 3)).collect();
        let sessions = |part: &Part| match part.stage {
            Stage::Open { sessions, .. } => sessions,
            _ => panic!("another stage"),
        };
        assert_eq!(parts.iter().map(sessions).collect::<Vec<_>>(), [4, 4, 3]);
        assert!(parts.iter().all(|part| part.rate == Rate::Packets(10.0)));
        assert!(parts.iter().all(|part| part.limit == Limit::Done));

        let (rate, end) = (Rate::Bits(1e9), End::Packets(7));
        let stage = Stage::Traffic { rate, end, sizes: None, ways: Ways::Both };
        let part = Part::new(&stage, 1, 2);
        assert_eq!((part.rate, part.limit), (Rate::Bits(5e8), Limit::Packets(3)));
        assert_eq!(wanted_pps(&stage), None);
        assert_eq!(wanted_pps(&open), Some(30.0));
    }
}
