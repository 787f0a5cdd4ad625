//! What all lcores tell of a stage becomes what was seen.

use std::collections::BTreeMap;
use std::time::Duration;

use super::lcore::Outcome;
use super::part::wanted_pps;
use crate::bench::{Cost, Pace, Seen, Snapshot, Stage, Way, Ways};
use crate::share::{ShareSeen, Tally};

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
    let frames = |outcome: &Outcome| outcome.rhythm.frames as f64;
    let bursts: u64 = outcomes.iter().map(|outcome| outcome.rhythm.bursts).sum();
    let per_s = |outcome: &Outcome| frames(outcome) * 1e9 / outcome.elapsed_ns.max(1) as f64;
    let burstiness = |outcome: &Outcome| outcome.rhythm.burstiness(outcome.elapsed_ns);
    Pace {
        wanted_pps: wanted_pps(stage),
        reached_pps: outcomes.iter().map(per_s).sum(),
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
