//! What all lcores tell of a stage becomes what was seen.

use std::collections::BTreeMap;
use std::time::Duration;

use super::lcore::Outcome;
use super::part::wanted_pps;
use crate::bench::{Cost, Pace, Seen, Snapshot, Stage, Way, Ways};
use crate::load::Rate;
use crate::share::{ShareSeen, Tally};

/// A capture that was sent so much later than its times was sent too slowly, nanoseconds; less is
/// what lcores that share a CPU may be away for.
const LATE_NS: u64 = 200_000_000;

/// What the watching thread adds.
pub(super) struct Watched {
    pub series: Vec<Snapshot>,
    pub port_trouble: BTreeMap<String, u64>,
    pub partial: bool,
}

/// Puts it together.
///
/// # Panics
/// If there are no lcores.
pub(super) fn seen(stage: &Stage, outcomes: Vec<Outcome>, watched: Watched) -> Seen {
    let pace = pace(stage, &outcomes);
    let cost = cost(&outcomes);
    let elapsed_ns = outcomes.iter().map(|outcome| outcome.elapsed_ns).max().unwrap_or(0);
    let missed: u64 = outcomes.iter().map(|outcome| outcome.missed).sum();
    let mut port_trouble = watched.port_trouble;
    for (name, count) in [
        ("lcores.handover_full", outcomes.iter().map(|outcome| outcome.handover_full).sum()),
        ("lcores.no_buffers", outcomes.iter().map(|outcome| outcome.no_buffers).sum()),
    ] {
        add_trouble(&mut port_trouble, name, count);
    }
    let mut seen: ShareSeen = outcomes
        .into_iter()
        .map(|outcome| outcome.seen)
        .reduce(|mut sum, seen| {
            sum.add(&seen);
            sum
        })
        .expect("a bench has an lcore");
    for (name, count) in seen.tally.others.by_name() {
        add_trouble(&mut port_trouble, &format!("frames.{name}"), count);
    }
    seen.tally.counts[way_of(stage) as usize].unsent += missed;
    Seen {
        total: snapshot(&seen.tally, Duration::from_nanos(elapsed_ns)),
        series: watched.series,
        latency_ns: seen.latency_ns.each_ref().map(|steps| steps.histogram()),
        variation_ns: seen.variation_ns.each_ref().map(|steps| steps.histogram()),
        outage_ms: seen.outage_ms.histogram(),
        sessions_lost: seen.sessions_lost,
        flow_packets: seen.flow_packets.histogram(),
        pace,
        cost,
        examples: seen.examples,
        port_trouble,
        partial: watched.partial,
    }
}

fn add_trouble(trouble: &mut BTreeMap<String, u64>, name: &str, count: u64) {
    if count > 0 {
        trouble.insert(name.to_owned(), count);
    }
}

/// The way of the packets that are paced.
fn way_of(stage: &Stage) -> Way {
    match stage {
        Stage::Traffic { ways: Ways::Down, .. } => Way::Down,
        _ => Way::Up,
    }
}

fn pace(stage: &Stage, outcomes: &[Outcome]) -> Pace {
    let way = way_of(stage) as usize;
    // What a port did not take was made, but not sent.
    let frames = |outcome: &Outcome| {
        outcome.rhythm.frames.saturating_sub(outcome.seen.tally.counts[way].unsent) as f64
    };
    let bursts: u64 = outcomes.iter().map(|outcome| outcome.rhythm.bursts).sum();
    let per_s = |outcome: &Outcome| frames(outcome) * 1e9 / outcome.elapsed_ns.max(1) as f64;
    let burstiness = |outcome: &Outcome| outcome.rhythm.burstiness(outcome.elapsed_ns);
    let reached_pps = outcomes.iter().map(per_s).sum();
    Pace {
        wanted_pps: wanted(stage, outcomes, reached_pps),
        reached_pps,
        burstiness: outcomes.iter().map(burstiness).fold(1.0, f64::max),
        mean_burst: outcomes.iter().map(frames).sum::<f64>() / bursts.max(1) as f64,
    }
}

fn cost(outcomes: &[Outcome]) -> Cost {
    let meters = outcomes.iter().map(|outcome| outcome.meter);
    let sum = meters.reduce(|mut sum, meter| {
        sum.add(&meter);
        sum
    });
    sum.map_or(Cost::default(), |sum| sum.cost())
}

/// How many packets a second should have been sent; `None`: as many as possible.
fn wanted(stage: &Stage, outcomes: &[Outcome], reached_pps: f64) -> Option<f64> {
    let per_s = |count: u64, ns: u64| count as f64 * 1e9 / ns.max(1) as f64;
    // By the times of a capture, which only one lcore sends.
    if let [Outcome { due_ns: Some(due_ns), elapsed_ns, rhythm, .. }] = outcomes {
        let late = elapsed_ns.saturating_sub(*due_ns) > LATE_NS;
        return late.then(|| per_s(rhythm.frames, *due_ns));
    }
    // Of a rate in bits it is known only afterwards how many packets they were.
    let missed = || outcomes.iter().map(|outcome| per_s(outcome.missed, outcome.elapsed_ns));
    match stage {
        Stage::Traffic { rate: Rate::Bits(_), .. } => Some(reached_pps + missed().sum::<f64>()),
        _ => wanted_pps(stage),
    }
}

fn snapshot(tally: &Tally, elapsed: Duration) -> Snapshot {
    Snapshot {
        elapsed,
        counts: tally.counts,
        wrong: tally.wrong,
        opened: tally.opened,
        not_opened: tally.not_opened,
        closed: tally.closed,
        open: tally.open,
        latency_ns: [None; 2],
        silent: tally.silent,
    }
}
