//! Throughput: the fastest rate at which no more than the allowed loss occurs (RFC 2544, 26.1),
//! by binary search. For stateful translators the flows are opened before (RFC 8219, RFC 9693).

use super::course::{Course, Halt};
use super::options::ThroughputOptions;
use super::plots;
use super::search::{Bracket, search};
use super::trial::{Setting, Trial, named, open_flows, profile_rate, size_name, sizes};
use crate::bench::Seen;
use crate::report::model::{Axis, Figure, Plot, Series, Shape, Table, Tone};
use crate::report::{full, percent, short};

/// Trials below this share of the first rate are not made.
const FLOOR: f64 = 0.001;
/// Loss at the result is told to be the generator's bound in these words.
const BOUND: &str = "could not be driven to loss: the device can do at least that much, and the \
                     generator, the links or --max-rate are the limit";

/// What a search found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Throughput {
    /// The rate of the fastest trial that passed, packets/s without answers; 0 if none did.
    pub(super) rate: f64,
    /// What came out of the device then, both ways together, packets/s.
    pub(super) forwarded: f64,
    /// As much on the wire, bits/s.
    pub(super) wire_bits: f64,
    /// Nothing failed.
    pub(super) bound: bool,
}

/// The trials of a search, in order, each with the bracket that it was tried in.
pub(super) type Trials = Vec<(Bracket, Trial)>;

/// A search: what was found, and how.
struct Search {
    found: Throughput,
    trials: Trials,
}

pub(super) fn run(course: &mut Course, options: &ThroughputOptions) -> Result<(), Halt> {
    course.part("opening the flows");
    open_flows(course, options.open_rate)?;
    let mut all = Vec::new();
    let mut end = Ok(());
    for size in sizes(options) {
        let name = size_name(size);
        end = course.repeat(&name, |course| {
            let mut trials = Vec::new();
            let end = find(course, options, size, &mut trials);
            match &end {
                Ok(found) => tell(course, &name, found, &trials),
                Err(_) => unfinished(course, &name, &trials),
            }
            let found = end.as_ref().copied().unwrap_or_else(|_| best(&trials, true));
            if !trials.is_empty() {
                all.push((size, Search { found, trials }));
            }
            end.map(drop)
        });
        if end.is_err() {
            break;
        }
    }
    show(course, &all);
    end
}

/// Searches the throughput with the flows that are open. The trials are there also if it ends early.
pub(super) fn find(
    course: &mut Course,
    options: &ThroughputOptions,
    size: Option<u16>,
    trials: &mut Trials,
) -> Result<Throughput, Halt> {
    let setting = Setting::of(options, size);
    let mut limit = options.max_rate.unwrap_or_else(|| profile_rate(course, size));
    if limit.is_infinite() {
        let trial = setting.attempt(course, limit)?;
        limit = trial.reached;
        let passed = trial.passed();
        trials.push((Bracket::below(limit, options.resolution, limit * FLOOR), trial));
        if passed || limit <= 0.0 {
            return Ok(best(trials, true));
        }
    }
    let bracket = Bracket::below(limit, options.resolution, limit * FLOOR);
    let found = search(bracket, |rate, bracket| {
        let tried = trials.iter().map(|(_, trial)| (trial.reached, trial.passed()));
        course.searching("packets/s", *bracket, tried);
        let trial = setting.attempt(course, rate)?;
        let outcome = trial.outcome;
        trials.push((*bracket, trial));
        Ok(outcome)
    })?;
    course.found();
    Ok(best(trials, found.bound))
}

fn best(trials: &Trials, bound: bool) -> Throughput {
    let passed = trials.iter().map(|(_, trial)| trial).filter(|trial| trial.passed());
    let best = passed.max_by(|a, b| a.reached.total_cmp(&b.reached));
    let (rate, forwarded, wire_bits) =
        best.map_or((0.0, 0.0, 0.0), |trial| (trial.reached, trial.forwarded, trial.wire_bits));
    Throughput { rate, forwarded, wire_bits, bound: bound && rate > 0.0 }
}

/// The figures of a search.
pub(super) fn tell(course: &mut Course, name: &str, found: &Throughput, trials: &Trials) {
    let draft = &mut course.draft;
    draft.figure(&named("throughput", name), "packets/s", found.forwarded);
    draft.figure(&named("offered rate", name), "packets/s", found.rate);
    draft.figure(&named("throughput on the wire", name), "bits/s", found.wire_bits);
    draft.note(
        "Throughput is what came out of the device, both ways together; the offered rate is what \
         was sent for it without answers.",
    );
    if found.rate == 0.0 {
        let loss = trials.last().map_or(1.0, |(_, trial)| trial.loss);
        draft.complain(format!(
            "{} at every rate that was tried, {} at the slowest",
            named("more loss than allowed", name),
            percent(loss),
        ));
    } else if found.bound {
        draft.note(format!("{} {BOUND}.", named("Throughput", name)));
    }
}

/// What is known of a search that ended early.
fn unfinished(course: &mut Course, name: &str, trials: &Trials) {
    if let Some((bracket, _)) = trials.last() {
        course.draft.note(format!(
            "{}: the offered rate that passes is between {} and {} packets/s; the search was not \
             done.",
            named("Throughput", name),
            full(bracket.low),
            full(bracket.high),
        ));
    }
}

fn show(course: &mut Course, all: &[(Option<u16>, Search)]) {
    if all.is_empty() {
        return;
    }
    let trials = || all.iter().flat_map(|(_, search)| search.trials.iter().map(|(_, trial)| trial));
    course.draft.plots.push(tried(trials()));
    let sizes = sizes_of(all);
    for size in &sizes {
        let last = all.iter().rev().find(|(of, _)| of == size).map(|(_, search)| &search.trials);
        course.draft.plots.extend(last.map(|trials| closing(&size_name(*size), trials)));
    }
    if sizes.len() > 1 {
        course.draft.plots.push(by_size(all));
    }
    course.draft.tables.push(results(all, &sizes));
    course.draft.tables.push(trial_table(all));
    latency_at_best(course, all, &sizes);
}

/// Latency at the fastest rate that passed, of a few sizes.
fn latency_at_best(course: &mut Course, all: &[(Option<u16>, Search)], sizes: &[Option<u16>]) {
    if sizes.len() > 3 {
        return;
    }
    let best = |size: &Option<u16>| {
        let of = all.iter().filter(|(of, _)| of == size).flat_map(|(_, search)| &search.trials);
        let passed = of.map(|(_, trial)| trial).filter(|trial| trial.passed());
        let best = passed.max_by(|a, b| a.reached.total_cmp(&b.reached))?;
        Some((size_name(*size), &best.seen))
    };
    let named: Vec<(String, &Seen)> = sizes.iter().filter_map(best).collect();
    let named: Vec<(&str, &Seen)> =
        named.iter().map(|(name, seen)| (name.as_str(), *seen)).collect();
    course.draft.plots.extend(plots::latency("at the fastest rate that passed", &named));
}

/// Rates that were tried against their loss.
pub(super) fn tried<'a>(trials: impl Iterator<Item = &'a Trial>) -> Plot {
    let point = |trial: &Trial| (trial.reached, trial.loss * 100.0);
    let (passed, failed): (Vec<_>, Vec<_>) = trials.partition(|trial| trial.passed());
    Plot {
        title: "Throughput search: rates tried and their loss".to_owned(),
        x: Axis::linear("offered rate, packets/s"),
        y: Axis::linear("loss, %"),
        series: vec![
            Series::new("failed", Shape::Dots, failed.into_iter().map(point).collect())
                .toned(Tone::Bad),
            Series::new("passed", Shape::Dots, passed.into_iter().map(point).collect())
                .toned(Tone::Good),
        ],
        marks: Vec::new(),
        wide: false,
    }
}

/// The bracket closing, trial by trial.
fn closing(size: &str, trials: &Trials) -> Plot {
    let numbered = || (1u32..).map(f64::from).zip(trials);
    let dots = |passed: bool| {
        let chosen = numbered().filter(move |(_, (_, trial))| trial.passed() == passed);
        chosen.map(|(number, (_, trial))| (number, trial.reached)).collect()
    };
    let lower = numbered().map(|(number, (bracket, _))| (number, bracket.low)).collect();
    let upper = numbered().map(|(number, (bracket, _))| (number, bracket.high)).collect();
    Plot {
        title: named("The bracket closing", size),
        x: Axis::linear("trial"),
        y: Axis::linear("offered rate, packets/s"),
        series: vec![
            Series::new("upper end", Shape::Steps, upper),
            Series::new("lower end", Shape::Steps, lower),
            Series::new("failed", Shape::Dots, dots(false)).toned(Tone::Bad),
            Series::new("passed", Shape::Dots, dots(true)).toned(Tone::Good),
        ],
        marks: Vec::new(),
        wide: false,
    }
}

fn sizes_of(all: &[(Option<u16>, Search)]) -> Vec<Option<u16>> {
    let mut sizes: Vec<Option<u16>> = all.iter().map(|(size, _)| *size).collect();
    sizes.dedup();
    sizes
}

/// A figure of all searches with one size.
fn of_size(
    all: &[(Option<u16>, Search)],
    size: Option<u16>,
    value: fn(&Throughput) -> f64,
) -> Option<Figure> {
    let of = all.iter().filter(|(of, _)| *of == size);
    Figure::of("", "", of.map(|(_, search)| value(&search.found)).collect())
}

fn by_size(all: &[(Option<u16>, Search)]) -> Plot {
    let dots =
        all.iter().filter_map(|(size, search)| Some((f64::from((*size)?), search.found.forwarded)));
    let medians = sizes_of(all).into_iter().filter_map(|size| {
        Some((f64::from(size?), of_size(all, size, |found| found.forwarded)?.median))
    });
    Plot {
        title: "Throughput by frame size".to_owned(),
        x: Axis::linear("frame size, bytes"),
        y: Axis::linear("throughput, packets/s"),
        series: vec![
            Series::new("median", Shape::Line, medians.collect()),
            Series::new("repeats", Shape::Dots, dots.collect()),
        ],
        marks: Vec::new(),
        wide: false,
    }
}

fn results(all: &[(Option<u16>, Search)], sizes: &[Option<u16>]) -> Table {
    let columns = ["frame size", "packets/s", "least", "most", "bits/s on the wire", "limited by"];
    let row = |size: &Option<u16>| {
        let packets = of_size(all, *size, |found| found.forwarded)?;
        let bits = of_size(all, *size, |found| found.wire_bits)?;
        let bound = all.iter().any(|(of, search)| of == size && search.found.bound);
        Some(vec![
            size.map_or("profile".to_owned(), |size| size.to_string()),
            full(packets.median),
            full(packets.min),
            full(packets.max),
            short(bits.median),
            if bound { "generator or --max-rate" } else { "loss" }.to_owned(),
        ])
    };
    Table {
        title: "Throughput".to_owned(),
        columns: columns.map(str::to_owned).to_vec(),
        rows: sizes.iter().filter_map(row).collect(),
    }
}

fn trial_table(all: &[(Option<u16>, Search)]) -> Table {
    let columns = ["trial", "frame size", "wanted packets/s", "reached", "loss", "came out"];
    let trials = all
        .iter()
        .flat_map(|(size, search)| search.trials.iter().map(move |(_, trial)| (*size, trial)));
    let row = |(index, (size, trial)): (usize, (Option<u16>, &Trial))| {
        vec![
            (index + 1).to_string(),
            size.map_or("profile".to_owned(), |size| size.to_string()),
            if trial.wanted.is_finite() { full(trial.wanted) } else { "max".to_owned() },
            full(trial.reached),
            percent(trial.loss),
            came_out(trial).to_owned(),
        ]
    };
    Table {
        title: "Trials".to_owned(),
        columns: columns.map(str::to_owned).to_vec(),
        rows: trials.enumerate().map(row).collect(),
    }
}

fn came_out(trial: &Trial) -> &'static str {
    match trial.outcome {
        super::search::Outcome::Passed => "passed",
        super::search::Outcome::Failed => "failed",
        super::search::Outcome::Short(_) => "passed, as fast as possible",
    }
}
