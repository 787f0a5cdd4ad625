//! Procedures: what is measured, in which order, and what a report says of it. They know a device
//! only as a [`Bench`], so that all of them are tested on a [simulated](crate::simulated) one.

mod command;
mod course;
mod draft;
mod latency;
mod loss;
mod mistakes;
mod nat;
pub mod options;
mod outage;
mod plain;
mod plots;
mod search;
mod selfcheck;
mod setup;
#[cfg(test)]
mod tests;
mod throughput;
mod trial;

use std::time::Instant;

use crate::bench::{Bench, Watch, Wrong};
use crate::load::Profile;
use crate::report::model::Report;

pub use command::{Finished, run_command};
pub use search::Bracket;

use course::{Course, Halt};
use options::{
    Capacity, Establishment, LatencyOptions, LoadedThroughput, LossCurve, Outage, RunOptions,
    SelfCheck, TearDown, ThroughputOptions,
};

/// What can be measured.
#[derive(Clone, Debug)]
pub enum Procedure {
    /// The profile as it is.
    Run(RunOptions),
    /// RFC 2544, 26.1.
    Throughput(ThroughputOptions),
    /// RFC 2544, 26.3.
    LossCurve(LossCurve),
    /// RFC 2544, 26.2, and the delay variation of RFC 8219.
    Latency(LatencyOptions),
    /// RFC 9693: the maximum connection establishment rate.
    Establishment(Establishment),
    /// RFC 9693: the capacity of the connection tracking table.
    Capacity(Capacity),
    /// RFC 9693: throughput with so many sessions.
    LoadedThroughput(LoadedThroughput),
    /// RFC 9693: the connection tear-down rate.
    TearDown(TearDown),
    /// What flows suffer from an event.
    Outage(Outage),
    /// What bench-gen can do without a device.
    SelfCheck(SelfCheck),
}

/// Who follows a procedure.
pub trait Audience: Watch {
    /// The procedure goes on to something else.
    fn turn(&mut self, doing: &Doing);

    /// Whether the procedure is to end.
    fn ended(&self) -> bool;
}

/// Nobody follows.
impl Audience for () {
    fn turn(&mut self, _: &Doing) {}

    fn ended(&self) -> bool {
        false
    }
}

/// What a procedure is doing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Doing {
    /// Which part of the whole, like `64 bytes, repeat 2 of 5`.
    pub part: String,
    /// The stage, like `traffic at 1.2 M packets/s`.
    pub stage: String,
    /// How long the stage takes, seconds, where that is known.
    pub takes_s: Option<f64>,
    /// The search that the stage is a step of.
    pub search: Option<Searching>,
    /// What is not wrong here.
    pub forgiven: &'static [Wrong],
}

/// How far a search is.
#[derive(Clone, Debug, PartialEq)]
pub struct Searching {
    /// The unit of what is looked for.
    pub unit: &'static str,
    /// Between which values the result lies.
    pub bracket: Bracket,
    /// What was tried, and whether it passed.
    pub tried: Vec<(f64, bool)>,
}

impl Procedure {
    /// The command's name.
    pub fn name(&self) -> &'static str {
        match self {
            Procedure::Run(_) => "run",
            Procedure::Throughput(_) => "throughput",
            Procedure::LossCurve(_) => "loss-curve",
            Procedure::Latency(_) => "latency",
            Procedure::Establishment(_) => "rfc9693 rate",
            Procedure::Capacity(_) => "rfc9693 capacity",
            Procedure::LoadedThroughput(_) => "rfc9693 throughput",
            Procedure::TearDown(_) => "rfc9693 teardown",
            Procedure::Outage(_) => "outage",
            Procedure::SelfCheck(_) => "self-check",
        }
    }

    /// What is asked for and cannot be measured with the profile.
    pub fn mistakes(&self, profile: &Profile) -> Vec<String> {
        mistakes::of(self, profile)
    }

    /// Measures. Whatever happens there is a report; it tells also why it ended early.
    pub fn carry_out(
        &self,
        profile: &Profile,
        bench: &mut dyn Bench,
        audience: &mut dyn Audience,
    ) -> Report {
        let started = jiff::Timestamp::now().strftime("%FT%TZ").to_string();
        let begin = Instant::now();
        let mut course = Course::new(profile, bench, audience);
        let end = self.measure(&mut course);
        let mut draft = course.into_draft();
        if let Err(halt) = end {
            draft.halted(halt);
        }
        draft.into_report(self, profile, started, begin.elapsed())
    }

    fn measure(&self, course: &mut Course) -> Result<(), Halt> {
        match self {
            Procedure::Run(options) => plain::run(course, options),
            Procedure::Throughput(options) => throughput::run(course, options),
            Procedure::LossCurve(options) => loss::run(course, options),
            Procedure::Latency(options) => latency::run(course, options),
            Procedure::Establishment(options) => nat::establishment(course, options),
            Procedure::Capacity(options) => nat::capacity(course, options),
            Procedure::LoadedThroughput(options) => nat::throughput(course, options),
            Procedure::TearDown(options) => nat::tear_down(course, options),
            Procedure::Outage(options) => outage::run(course, options),
            Procedure::SelfCheck(options) => selfcheck::run(course, options),
        }
    }
}
