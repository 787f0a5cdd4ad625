//! Stateful translation (RFC 9693): how fast connections are established, how many fit, what they
//! cost, and how fast they go. Ports are pseudo-random (RFC 4814): the profile's.

use std::time::Instant;

use super::command::run_command;
use super::course::{Course, Halt};
use super::options::{Capacity, Clearing, Establishment, LoadedThroughput, TearDown};
use super::search::{Bracket, Found, Outcome, between, search};
use super::trial::{REACHED, none_opened};
use super::{plots, throughput};
use crate::bench::{Seen, Stage};
use crate::report::model::{Axis, Plot, Series, Shape, Table, Tone};
use crate::report::{count, full, percent, plural};
use krono_core::packet::Protocol;

/// The opening of sessions, and the look whether each is there.
#[derive(Clone, Debug)]
struct Opening {
    sessions: u32,
    /// Sessions/s that were asked for.
    wanted: f64,
    /// Sessions/s that were reached.
    reached: f64,
    opened: u64,
    /// Sessions that carried a packet each way when they were validated.
    validated: u64,
    outcome: Outcome,
    seen: Seen,
}

/// Whether a trial passes in which a first packet was lost and sent again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    Fails,
    Passes,
}

/// Clears the device, opens sessions at a rate and validates each by a packet each way.
fn open(
    course: &mut Course,
    clearing: &Clearing,
    sessions: u32,
    per_second: f64,
    loss: Loss,
) -> Result<Opening, Halt> {
    clear(course, clearing)?;
    let seen = course.stage(&Stage::Open { sessions, per_second })?;
    let opened = seen.total.opened;
    if opened == 0 {
        return Err(none_opened(sessions));
    }
    let all = opened == u64::from(sessions)
        && seen.total.not_opened == 0
        && (loss == Loss::Passes || seen.loss() == 0.0);
    let reached = opened as f64 / opening_seconds(&seen);
    // A trial that failed by what was opened needs no validation.
    let validated = if all { validate(course, clearing, opened)? } else { 0 };
    let outcome = match () {
        () if !all || validated < opened => Outcome::Failed,
        () if reached < per_second * REACHED * 0.96 => Outcome::Short(reached),
        () => Outcome::Passed,
    };
    Ok(Opening { sessions, wanted: per_second, reached, opened, validated, outcome, seen })
}

/// The time until the last session was open; a tenth of a second is the grain.
fn opening_seconds(seen: &Seen) -> f64 {
    let tenths = seen.series.iter().rposition(|tenth| tenth.opened > 0).map_or(0, |last| last + 1);
    let elapsed = seen.total.elapsed.as_secs_f64();
    let seconds = if tenths >= 10 { tenths as f64 / 10.0 } else { elapsed };
    seconds.min(elapsed).max(1e-3)
}

/// How many of the sessions are there: one packet each way over each.
fn validate(course: &mut Course, clearing: &Clearing, opened: u64) -> Result<u64, Halt> {
    let seen = course.stage(&Stage::Probe { per_second: clearing.probe_rate })?;
    let [up, down] = seen.total.counts;
    Ok(up.received.min(down.received).min(opened))
}

/// Makes bench-gen and the device forget.
fn clear(course: &mut Course, clearing: &Clearing) -> Result<(), Halt> {
    course.stage(&Stage::Forget)?;
    match &clearing.clear_command {
        Some(command) => told(run_command(command))?,
        None if clearing.clear_wait.is_none() => course.draft.note(
            "The device was not told to forget between trials (--clear-command, --clear-wait): its \
             table may hold sessions of earlier trials.",
        ),
        None => {}
    }
    clearing.clear_wait.map_or(Ok(()), |time| course.wait(time))
}

fn told(finished: Result<super::Finished, String>) -> Result<(), Halt> {
    match finished {
        Ok(finished) => finished.complaint.map_or(Ok(()), |complaint| Err(Halt::Failed(complaint))),
        Err(complaint) => Err(Halt::Failed(complaint)),
    }
}

/// The maximum connection establishment rate: the fastest at which all sessions open without loss
/// and each is there afterwards.
pub(super) fn establishment(course: &mut Course, options: &Establishment) -> Result<(), Halt> {
    let sessions = options.sessions.unwrap_or(course.profile.load.flows);
    let mut all = Vec::new();
    let end = course.repeat("", |course| {
        let limit = Bracket::below(options.max_rate, options.resolution, options.max_rate / 1e4);
        let found = rate(course, &options.clearing, sessions, limit, &mut all)?;
        course.draft.figure("maximum connection establishment rate", "sessions/s", found.most);
        bound(course, found, "establishment rate", "--max-rate or bench-gen itself");
        Ok(())
    });
    course.draft.note(format!(
        "A trial opens {} and passes if all open without loss and each then carries a packet each \
         way.",
        plural(u64::from(sessions), "session")
    ));
    if !all.is_empty() {
        course.draft.plots.push(rate_plot(&all));
        let best = all.iter().filter(|opening| opening.outcome != Outcome::Failed);
        let best = best.max_by(|a, b| a.reached.total_cmp(&b.reached));
        let shown =
            best.and_then(|best| plots::connections("Sessions opened, best trial", &best.seen));
        course.draft.plots.extend(shown);
        course.draft.tables.push(trials(&all));
    }
    end
}

fn rate(
    course: &mut Course,
    clearing: &Clearing,
    sessions: u32,
    bracket: Bracket,
    all: &mut Vec<Opening>,
) -> Result<Found, Halt> {
    let first = all.len();
    let found = search(bracket, |rate, bracket| {
        let tried = all[first..].iter();
        let tried = tried.map(|opening| (opening.wanted, opening.outcome != Outcome::Failed));
        course.searching("sessions/s", *bracket, tried);
        let opening = open(course, clearing, sessions, rate, Loss::Fails)?;
        let outcome = opening.outcome;
        all.push(opening);
        Ok(outcome)
    })?;
    course.found();
    Ok(found)
}

fn bound(course: &mut Course, found: Found, what: &str, limit: &str) {
    if found.most == 0.0 {
        course.draft.complain(format!("no trial passed: the {what} is not known"));
    } else if found.bound {
        course.draft.note(format!(
            "The {what} is at least that much: no trial failed, {limit} is the limit."
        ));
    }
}

/// The capacity of the connection tracking table: numbers of sessions are doubled until a trial
/// fails, then a binary search finds the most.
pub(super) fn capacity(course: &mut Course, options: &Capacity) -> Result<(), Halt> {
    let mut all = Vec::new();
    let end = course.repeat("", |course| {
        let per_second = match options.open_rate {
            Some(rate) => rate,
            None => safe_rate(course, options)?,
        };
        let found = grow(course, options, per_second, &mut all)?;
        course.draft.figure("connection tracking table capacity", "sessions", found.most.floor());
        bound(course, found, "capacity", "the profile's flows are");
        Ok(())
    });
    if !all.is_empty() {
        course.draft.plots.push(capacity_plot(&all));
        course.draft.tables.push(trials(&all));
    }
    end
}

/// Half of what the device can establish.
fn safe_rate(course: &mut Course, options: &Capacity) -> Result<f64, Halt> {
    let mut all = Vec::new();
    let found =
        rate(course, &options.clearing, options.start, Bracket::below(1e6, 0.1, 100.0), &mut all)?;
    course.draft.figure("sessions opened at", "sessions/s", found.most / 2.0);
    if found.most == 0.0 {
        let sessions = plural(u64::from(options.start), "session");
        return Err(Halt::Failed(format!("{sessions} do not open at any rate")));
    }
    Ok(found.most / 2.0)
}

fn grow(
    course: &mut Course,
    options: &Capacity,
    per_second: f64,
    all: &mut Vec<Opening>,
) -> Result<Found, Halt> {
    let limit = course.profile.load.flows;
    let first = all.len();
    let mut attempt = |sessions: f64, bracket: &Bracket| {
        let tried = all[first..].iter();
        let tried =
            tried.map(|opening| (f64::from(opening.sessions), opening.outcome != Outcome::Failed));
        course.searching("sessions", *bracket, tried);
        // Only the number counts here, not whether the rate was reached without loss.
        let sessions = sessions as u32;
        let opening = open(course, &options.clearing, sessions, per_second, Loss::Passes)?;
        let failed = opening.outcome == Outcome::Failed;
        all.push(opening);
        Ok(if failed { Outcome::Failed } else { Outcome::Passed })
    };
    let mut bracket = Bracket::below(f64::from(limit), options.resolution, 1.0);
    let mut sessions = options.start.min(limit);
    while attempt(f64::from(sessions), &bracket)? == Outcome::Passed {
        bracket.low = f64::from(sessions);
        if sessions == limit {
            return Ok(Found { most: bracket.low, bound: true });
        }
        sessions = sessions.saturating_mul(2).min(limit);
    }
    bracket.high = f64::from(sessions);
    between(&mut bracket, &mut attempt)
}

/// Throughput while so many sessions are live.
pub(super) fn throughput(course: &mut Course, options: &LoadedThroughput) -> Result<(), Halt> {
    let numbers = match options.sessions.as_slice() {
        [] => powers_of_ten(course.profile.load.flows),
        numbers => numbers.to_vec(),
    };
    let mut points = Vec::new();
    let mut end = Ok(());
    for sessions in numbers {
        let name = plural(u64::from(sessions), "session");
        end = course.repeat(&name, |course| {
            clear(course, &options.clearing)?;
            let per_second = options.search.open_rate;
            let seen = course.stage(&Stage::Open { sessions, per_second })?;
            course.draft.opened(&seen, u64::from(sessions));
            let (size, mut trials) = (options.search.sizes.first().copied(), Vec::new());
            let found = throughput::find(course, &options.search, size, &mut trials)?;
            throughput::tell(course, &format!("with {name}"), &found, &trials);
            points.push((f64::from(sessions), found.forwarded));
            Ok(())
        });
        if end.is_err() {
            break;
        }
    }
    if !points.is_empty() {
        course.draft.plots.push(Plot {
            title: "Throughput by sessions".to_owned(),
            x: Axis::log("live sessions"),
            y: Axis::linear("throughput, packets/s"),
            series: vec![Series::new("repeats", Shape::Dots, points)],
            marks: Vec::new(),
            wide: false,
        });
    }
    end
}

/// 1,000, 10,000 … and the limit itself.
fn powers_of_ten(limit: u32) -> Vec<u32> {
    let powers = (3..10).map(|power| 10u32.pow(power)).take_while(|sessions| *sessions < limit);
    powers.chain([limit]).collect()
}

/// The connection tear-down rate: sessions that go in a second when all are told to.
pub(super) fn tear_down(course: &mut Course, options: &TearDown) -> Result<(), Halt> {
    let sessions = options.sessions.unwrap_or(course.profile.load.flows);
    let mut last = None;
    let end = course.repeat("", |course| {
        let per_second = options.open_rate;
        let seen = course.stage(&Stage::Open { sessions, per_second })?;
        course.draft.opened(&seen, u64::from(sessions));
        let opened = seen.total.opened;
        let torn = match &options.clear_command {
            Some(command) => opened as f64 / commanded(command)?,
            None => closed(course, options, opened, &mut last)?,
        };
        course.draft.figure("connection tear-down rate", "sessions/s", torn);
        course.stage(&Stage::Forget)?;
        Ok(())
    });
    if let Some(seen) = last {
        course.draft.plots.push(plots::timeline("Packets while sessions close", &seen, Vec::new()));
    }
    end
}

/// How long the device takes to forget, seconds.
fn commanded(command: &str) -> Result<f64, Halt> {
    let begin = Instant::now();
    told(run_command(command))?;
    Ok(begin.elapsed().as_secs_f64())
}

/// TCP sessions a second that were closed by FINs.
fn closed(
    course: &mut Course,
    options: &TearDown,
    opened: u64,
    last: &mut Option<Seen>,
) -> Result<f64, Halt> {
    let shares = course.profile.load.protocols;
    if shares.iter().sum::<u32>() > shares[Protocol::Tcp as usize] {
        course.draft.note("Only TCP sessions are torn down by packets; others just fall silent.");
    }
    let per_second = options.close_rate.unwrap_or(f64::INFINITY);
    let seen = course.stage(&Stage::Close { per_second })?;
    let elapsed = seen.total.elapsed.as_secs_f64();
    let rate = seen.total.closed as f64 / elapsed.max(1e-3);
    if per_second.is_infinite() && elapsed >= 1.0 {
        course.draft.note(
            "A FIN that is lost is sent again after 1 s: if closing took little longer than that, \
             some were, and --close-rate shows what goes without loss.",
        );
    }
    if seen.total.closed < opened && shares.iter().sum::<u32>() == shares[Protocol::Tcp as usize] {
        let open = count(opened - seen.total.closed);
        course.draft.complain(format!("{open} of {} did not close", plural(opened, "session")));
    }
    *last = Some(seen);
    Ok(rate)
}

fn rate_plot(all: &[Opening]) -> Plot {
    let dots = |passed: bool| {
        let chosen =
            all.iter().filter(move |opening| (opening.outcome != Outcome::Failed) == passed);
        chosen.map(|opening| (opening.wanted, opening.seen.loss() * 100.0)).collect()
    };
    Plot {
        title: "Connection rate: rates tried and their loss".to_owned(),
        x: Axis::linear("rate, sessions/s"),
        y: Axis::linear("packets lost, %"),
        series: vec![
            Series::new("failed", Shape::Dots, dots(false)).toned(Tone::Bad),
            Series::new("passed", Shape::Dots, dots(true)).toned(Tone::Good),
        ],
        marks: Vec::new(),
        wide: false,
    }
}

fn capacity_plot(all: &[Opening]) -> Plot {
    let dots = |passed: bool| {
        let chosen =
            all.iter().filter(move |opening| (opening.outcome != Outcome::Failed) == passed);
        chosen.map(|opening| (f64::from(opening.sessions), opening.opened as f64)).collect()
    };
    Plot {
        title: "Table capacity: sessions tried and opened".to_owned(),
        x: Axis::log("sessions tried"),
        y: Axis::log("sessions opened"),
        series: vec![
            Series::new("failed", Shape::Dots, dots(false)).toned(Tone::Bad),
            Series::new("passed", Shape::Dots, dots(true)).toned(Tone::Good),
        ],
        marks: Vec::new(),
        wide: false,
    }
}

fn trials(all: &[Opening]) -> Table {
    let columns = [
        "trial",
        "sessions",
        "wanted sessions/s",
        "reached",
        "opened",
        "loss",
        "validated",
        "came out",
    ];
    let row = |(index, opening): (usize, &Opening)| {
        let skipped = opening.outcome == Outcome::Failed && opening.validated == 0;
        vec![
            (index + 1).to_string(),
            count(u64::from(opening.sessions)),
            full(opening.wanted),
            full(opening.reached),
            count(opening.opened),
            percent(opening.seen.loss()),
            if skipped { "–".to_owned() } else { count(opening.validated) },
            match opening.outcome {
                Outcome::Passed => "passed",
                Outcome::Failed => "failed",
                Outcome::Short(_) => "passed, as fast as possible",
            }
            .to_owned(),
        ]
    };
    Table {
        title: "Trials".to_owned(),
        columns: columns.map(str::to_owned).to_vec(),
        rows: all.iter().enumerate().map(row).collect(),
    }
}
