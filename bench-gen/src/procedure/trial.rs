//! One trial: traffic at a rate for a while, and whether it passed.

use std::time::Duration;

use super::course::{Course, Halt};
use super::draft::WAYS;
use super::options::ThroughputOptions;
use super::search::Outcome;
use crate::bench::{Seen, Stage, Way, Ways};
use crate::load::{End, Rate, Sizes};
use crate::report::plural;

/// A rate counts as reached from this share on: the accuracy that is promised.
pub(super) const REACHED: f64 = 0.99;

/// A trial that was made.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    /// What was asked for, packets/s without answers; infinite for as fast as possible.
    pub(super) wanted: f64,
    /// What was sent of it, packets/s.
    pub(super) reached: f64,
    /// What came out at the other side, both ways together, packets/s.
    pub(super) forwarded: f64,
    /// As much on the wire, bits/s, preamble and gap included.
    pub(super) wire_bits: f64,
    /// Loss as a share of what was sent.
    pub(super) loss: f64,
    /// How it came out.
    pub(super) outcome: Outcome,
    pub(super) seen: Seen,
}

/// How a trial is made.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) size: Option<u16>,
    pub(super) time: Duration,
    pub(super) ways: Ways,
    pub(super) loss: f64,
}

impl Setting {
    pub(super) fn of(options: &ThroughputOptions, size: Option<u16>) -> Setting {
        let ThroughputOptions { trial: time, ways, loss, .. } = options.clone();
        Setting { size, time, ways: ways.into(), loss }
    }

    /// Makes a trial at so many packets a second.
    pub(super) fn attempt(&self, course: &mut Course, wanted: f64) -> Result<Trial, Halt> {
        let rate = if wanted.is_finite() { Rate::Packets(wanted) } else { Rate::Max };
        let seen = course.stage(&Stage::Traffic {
            rate,
            end: End::After(self.time),
            sizes: self.size.map(Sizes::Fixed),
            ways: self.ways,
        })?;
        Ok(self.judge(wanted, seen))
    }

    fn judge(&self, wanted: f64, seen: Seen) -> Trial {
        let seconds = self.time.as_secs_f64();
        let [up, down] = seen.total.counts;
        let reached = match self.ways {
            Ways::Down => down.sent as f64 / seconds,
            Ways::Up | Ways::Both if seen.pace.reached_pps > 0.0 => seen.pace.reached_pps,
            Ways::Up | Ways::Both => up.sent as f64 / seconds,
        };
        let packets = (up.received + down.received) as f64;
        let bytes = (up.received_bytes + down.received_bytes) as f64;
        let loss = seen.loss();
        let outcome = match () {
            () if packets == 0.0 || loss > self.loss => Outcome::Failed,
            () if !wanted.is_finite() || reached < wanted * REACHED => Outcome::Short(reached),
            () => Outcome::Passed,
        };
        Trial {
            wanted,
            reached,
            forwarded: packets / seconds,
            wire_bits: (bytes + packets * 20.0) * 8.0 / seconds,
            loss,
            outcome,
            seen,
        }
    }
}

impl Trial {
    pub(super) fn passed(&self) -> bool {
        self.outcome != Outcome::Failed
    }

    /// The loss of one direction, percent.
    pub(super) fn loss_percent(&self, way: Way) -> f64 {
        let counts = &self.seen.total.counts[way as usize];
        100.0 * counts.lost as f64 / counts.sent.max(1) as f64
    }
}

/// Opens the profile's flows, so that their opening is no part of what is measured.
pub(super) fn open_flows(course: &mut Course, per_second: f64) -> Result<(), Halt> {
    let load = &course.profile.load;
    if load.replay.is_some() {
        return Ok(());
    }
    let sessions = load.flows;
    let seen = course.stage(&Stage::Open { sessions, per_second })?;
    course.draft.opened(&seen, u64::from(sessions));
    if seen.total.open == 0 {
        return Err(none_opened(sessions));
    }
    Ok(())
}

/// Nothing can be measured.
pub(super) fn none_opened(sessions: u32) -> Halt {
    Halt::Failed(format!(
        "none of {} opened: is the device there, and does it translate?",
        plural(u64::from(sessions), "session")
    ))
}

/// The rate of the profile in packets a second for a frame size; infinite if it is as fast as
/// possible.
pub(super) fn profile_rate(course: &Course, size: Option<u16>) -> f64 {
    let mean = size.map_or_else(|| course.profile.load.sizes.mean(), f64::from);
    match course.profile.rate {
        Rate::Packets(rate) => rate,
        Rate::Bits(rate) => rate / ((mean + 20.0) * 8.0),
        Rate::Max => f64::INFINITY,
    }
}

/// Sizes to measure one after the other; `None` is the profile's.
pub(super) fn sizes(options: &ThroughputOptions) -> Vec<Option<u16>> {
    match options.sizes.as_slice() {
        [] => vec![None],
        sizes => sizes.iter().map(|size| Some(*size)).collect(),
    }
}

/// `64 bytes`, or `` for the profile's sizes.
pub(super) fn size_name(size: Option<u16>) -> String {
    size.map_or(String::new(), |size| format!("{size} bytes"))
}

/// `throughput`, or `throughput, 64 bytes`.
pub(super) fn named(name: &str, detail: &str) -> String {
    if detail.is_empty() { name.to_owned() } else { format!("{name}, {detail}") }
}

/// Notes what a trial lost by direction, for tables.
pub(super) fn losses(trial: &Trial) -> String {
    let parts = WAYS.map(|(name, way)| {
        format!("{name} {}", crate::report::percent(trial.loss_percent(way) / 100.0))
    });
    parts.join(", ")
}
