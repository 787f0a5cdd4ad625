//! What bench-gen can do on this machine without a device: its ceiling, what a packet costs it, the
//! latency that it adds, and how well it keeps a rate.

use super::course::{Course, Halt};
use super::options::SelfCheck;
use super::trial::{REACHED, Setting, Trial, open_flows};
use super::{latency, plots};
use crate::bench::{Cost, Ways};
use crate::report::model::{Axis, Plot, Series, Shape, Table};
use crate::report::{full, percent, short};

/// The load at which the floor of the latency is measured, packets/s.
const FLOOR: f64 = 1000.0;

pub(super) fn run(course: &mut Course, options: &SelfCheck) -> Result<(), Halt> {
    course.part("opening the flows");
    open_flows(course, options.open_rate.unwrap_or(options.over.open_rate()))?;
    let setting = Setting { size: None, time: options.trial, ways: Ways::Both, loss: 0.0 };
    let mut kept = Vec::new();
    let mut floor = None;
    let end = course.repeat("", |course| {
        floor = Some(floor_of(course, &setting)?);
        let ceiling = ceiling_of(course, &setting)?;
        cost_of(course, &setting)?;
        for rate in options.rates.iter().filter(|rate| **rate <= ceiling) {
            kept.push(setting.attempt(course, *rate)?);
        }
        Ok(())
    });
    judge(course, &kept);
    if let Some(trial) = floor {
        course.draft.plots.extend(plots::latency("at 1,000 packets/s", &[("", &trial.seen)]));
        let rows = latency::rows("floor", Some(trial.reached), &trial.seen);
        course.draft.tables.push(latency::table(rows));
    }
    end
}

fn floor_of(course: &mut Course, setting: &Setting) -> Result<Trial, Halt> {
    let trial = setting.attempt(course, FLOOR)?;
    latency::figures(course, "at 1,000 packets/s", &trial.seen);
    if trial.loss > 0.0 {
        let loss = percent(trial.loss);
        course.draft.complain(format!("{loss} was lost at 1,000 packets/s without a device"));
    }
    Ok(trial)
}

/// As fast as possible: what arrives then is the ceiling.
fn ceiling_of(course: &mut Course, setting: &Setting) -> Result<f64, Halt> {
    let trial = setting.attempt(course, f64::INFINITY)?;
    let draft = &mut course.draft;
    draft.figure("ceiling, sent", "packets/s", trial.reached);
    draft.figure("ceiling, arrived both ways", "packets/s", trial.forwarded);
    draft.figure("loss at the ceiling", "%", trial.loss * 100.0);
    if trial.loss > 0.0 {
        draft.complain(format!("{} was lost as fast as possible", percent(trial.loss)));
    }
    Ok(trial.reached)
}

/// What packets cost, without answers: each is made once and taken once.
fn cost_of(course: &mut Course, setting: &Setting) -> Result<(), Halt> {
    let setting = Setting { ways: Ways::Up, ..setting.clone() };
    let trial = setting.attempt(course, f64::INFINITY)?;
    let cost = trial.seen.cost;
    // A simulated packet costs nothing.
    if cost != Cost::default() {
        let draft = &mut course.draft;
        draft.figure("cost of a packet, sent", "cycles", cost.sent);
        draft.figure("cost of a packet, received and checked", "cycles", cost.received);
        draft.figure("cost of a packet, all told", "cycles", cost.all);
    }
    Ok(())
}

fn judge(course: &mut Course, kept: &[Trial]) {
    for trial in kept {
        let off = trial.reached / trial.wanted - 1.0;
        let rate = full(trial.wanted);
        course.draft.figure(&format!("rate error at {rate} packets/s"), "%", off * 100.0);
        if off.abs() > 1.0 - REACHED {
            let off = percent(off);
            course.draft.complain(format!("the rate is off by {off} at {rate} packets/s"));
        }
        if trial.loss > 0.0 {
            let loss = percent(trial.loss);
            course.draft.complain(format!("{loss} was lost at {rate} packets/s without a device"));
        }
    }
    if kept.is_empty() {
        return;
    }
    let columns = [
        "wanted packets/s",
        "reached",
        "error",
        "burstiness, × the mean",
        "packets in one go",
        "loss",
    ];
    let row = |trial: &Trial| {
        vec![
            full(trial.wanted),
            full(trial.reached),
            percent(trial.reached / trial.wanted - 1.0),
            short(trial.seen.pace.burstiness),
            short(trial.seen.pace.mean_burst),
            percent(trial.loss),
        ]
    };
    course.draft.tables.push(Table {
        title: "How well rates are kept".to_owned(),
        columns: columns.map(str::to_owned).to_vec(),
        rows: kept.iter().map(row).collect(),
    });
    let points = kept.iter().map(|trial| (trial.wanted, trial.seen.pace.burstiness)).collect();
    course.draft.plots.push(Plot {
        title: "Burstiness by rate".to_owned(),
        x: Axis::log("rate, packets/s"),
        y: Axis::linear("most packets in 1 ms, × the mean"),
        series: vec![Series::new("repeats", Shape::Dots, points)],
        marks: Vec::new(),
        wide: false,
    });
}
