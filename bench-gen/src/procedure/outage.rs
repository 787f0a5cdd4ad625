//! A steady load on live flows while something happens: for how long each flow was silent, which
//! were lost for good, and what the time around the event looked like.

use super::command::{Running, run_command};
use super::course::{Course, Halt};
use super::options::Outage;
use super::trial::open_flows;
use super::{draft, plots};
use crate::bench::{Counts, Seen, Stage, Way, Ways, Wrong};
use crate::load::{End, Rate};
use crate::report::model::{Mark, Table};
use crate::report::{count, full, percent, short};

/// Flows are silent from here on, milliseconds; less is ordinary delay.
const SILENT_MS: u64 = 10;

pub(super) fn run(course: &mut Course, options: &Outage) -> Result<(), Halt> {
    let mut last = None;
    let end = course.repeat("", |course| {
        if options.may_forget {
            course.forgive(Wrong::MOVED);
        }
        let first = last.is_none();
        if first {
            open_flows(course, options.open_rate)?;
        } else {
            restore(course, options)?;
        }
        let (mut seen, at) = under_load(course, options)?;
        let moved = if options.may_forget { seen.forgive_moved() } else { 0 };
        // Also what was wrong, or ended early, is told.
        tell(course, options, &seen, moved);
        last = Some((seen.clone(), at));
        course.judged(seen).map(drop)
    });
    if let Some((seen, at)) = last {
        show(course, options, &seen, at);
    }
    end
}

/// Puts back what the event broke, and opens the flows anew.
fn restore(course: &mut Course, options: &Outage) -> Result<(), Halt> {
    if let Some(command) = &options.restore {
        let finished = run_command(command).map_err(Halt::Failed)?;
        if let Some(complaint) = finished.complaint {
            return Err(Halt::Failed(complaint));
        }
        course.wait(options.settle)?;
    }
    course.stage(&Stage::Forget)?;
    open_flows(course, options.open_rate)
}

/// The load, with the event in it; when that was, in seconds.
fn under_load(course: &mut Course, options: &Outage) -> Result<(Seen, Option<f64>), Halt> {
    if matches!(course.profile.rate, Rate::Max) {
        course.draft.note(
            "The profile's rate is max: the load is not steady, and loss from overload looks like \
             an outage.",
        );
    }
    let stage = Stage::Traffic {
        rate: course.profile.rate,
        end: End::After(options.duration),
        sizes: None,
        ways: Ways::Both,
    };
    let mut event: Option<(f64, Result<Running, String>)> = None;
    let seen = course.watched(&stage, &mut |so_far| {
        if event.is_none() && so_far.elapsed >= options.at {
            event = Some((so_far.elapsed.as_secs_f64(), Running::start(&options.run)));
        }
    });
    let at = event.as_ref().map(|event| event.0);
    match event {
        Some((_, Ok(running))) => {
            if let Some(complaint) = running.complaint(&options.run) {
                course.draft.note(complaint);
            }
        }
        Some((_, Err(complaint))) => return Err(Halt::Failed(complaint)),
        None => course.draft.complain("the load ended before the event"),
    }
    Ok((seen?, at))
}

fn tell(course: &mut Course, options: &Outage, seen: &Seen, moved: u64) {
    let outage = &seen.outage_ms;
    let flows = outage.len();
    let silent = outage.iter_recorded().filter(|step| step.value_iterated_to() > SILENT_MS);
    let silent: u64 = silent.map(|step| step.count_since_last_iteration()).sum();
    let sum = |count: fn(&Counts) -> u64| -> u64 { seen.total.counts.iter().map(count).sum() };
    let draft = &mut course.draft;
    draft.figure("median outage of a flow", "ms", outage.value_at_quantile(0.5) as f64);
    draft.figure("99 % outage of a flow", "ms", outage.value_at_quantile(0.99) as f64);
    draft.figure("longest outage of a flow", "ms", outage.max() as f64);
    draft.figure(
        &format!("flows silent for over {SILENT_MS} ms"),
        "% of all",
        silent as f64 * 100.0 / flows.max(1) as f64,
    );
    draft.figure("flows lost for good", "flows", seen.sessions_lost as f64);
    if options.may_forget {
        draft.figure("flows with another public endpoint", "flows", moved as f64);
    }
    draft.figure("packets lost", "packets", sum(|counts| counts.lost) as f64);
    let unsent = sum(|counts| counts.unsent);
    draft.figure("packets not sent", "packets", unsent as f64);
    if unsent > 0 {
        draft.note(
            "Packets that were due while a port took none were not sent; their flows were silent \
             as well.",
        );
    }
    let spacing = spacing_ms(seen, flows);
    draft.note(format!(
        "A flow has a packet every {} ms on average: silences are known to that, and shorter ones \
         may not be seen.",
        short(spacing)
    ));
    if !seen.partial && never_came_back(seen) {
        draft.complain("the device did not come back: nothing arrived in the last second");
    }
    if let Some(max) = options.max_outage
        && u128::from(outage.max()) > max.as_millis()
    {
        draft.complain(format!(
            "a flow was silent for {} ms, longer than {} ms",
            count(outage.max()),
            max.as_millis()
        ));
    }
    if let Some(max) = options.max_lost
        && seen.sessions_lost > u64::from(max)
    {
        draft.complain(format!(
            "{} flows were lost for good, more than {max}",
            count(seen.sessions_lost)
        ));
    }
}

/// Whether nothing arrived in the last second of the load.
fn never_came_back(seen: &Seen) -> bool {
    // The last step is the time for stragglers.
    let last = seen.series.iter().rev().skip(1).take(10);
    last.flat_map(|tenth| tenth.counts).all(|counts| counts.received == 0)
}

/// The mean time between two packets of a flow's subscriber, milliseconds.
fn spacing_ms(seen: &Seen, flows: u64) -> f64 {
    // Each packet of a subscriber is to be answered.
    let up = &seen.total.counts[Way::Up as usize];
    let due = up.sent + up.unsent;
    flows as f64 * super::plain::seconds(seen) * 1000.0 / due.max(1) as f64
}

fn show(course: &mut Course, options: &Outage, seen: &Seen, at: Option<f64>) {
    let marks = || -> Vec<Mark> {
        at.map(|x| Mark { x, label: short_command(&options.run) }).into_iter().collect()
    };
    let draft = &mut course.draft;
    let timeline = plots::timeline("Outage timeline", seen, marks());
    let close = at.map(|at| {
        let (title, typical) = ("Around the event", seen.outage_ms.value_at_quantile(0.5));
        let after = (typical as f64 / 1000.0 * 3.0).clamp(1.0, 10.0);
        plots::cut(timeline.clone(), title, at - 1.0, at + after)
    });
    draft.plots.push(timeline);
    draft.plots.extend(close);
    draft.plots.extend(plots::missing(seen, marks()));
    draft.plots.extend(plots::outages(seen));
    draft.plots.extend(plots::latency("", &[("", seen)]));
    draft.tables.push(by_length(seen));
    draft.tables.push(draft::counts_table("Packets of the last repeat", seen));
}

/// Flows by how long they were silent.
fn by_length(seen: &Seen) -> Table {
    let outage = &seen.outage_ms;
    let limits = [0, 10, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, u64::MAX];
    let mut from = 0;
    let mut rows = Vec::new();
    for to in limits {
        let here = |value: u64| (value > from || from == 0 && value == 0) && value <= to;
        let steps = outage.iter_recorded().filter(|step| {
            let value = step.value_iterated_to();
            if to == 0 { value == 0 } else { value > 0 && here(value) }
        });
        let flows: u64 = steps.map(|step| step.count_since_last_iteration()).sum();
        let name = match (from, to) {
            (_, 0) => "not seen".to_owned(),
            (_, u64::MAX) => format!("over {} ms", full(from as f64)),
            _ => format!("{} – {} ms", full(from as f64), full(to as f64)),
        };
        if flows > 0 {
            rows.push(vec![name, count(flows), percent(flows as f64 / outage.len() as f64)]);
        }
        from = to;
    }
    Table {
        title: "Flows by how long they were silent, last repeat".to_owned(),
        columns: ["silent for", "flows", "of all"].map(str::to_owned).to_vec(),
        rows,
    }
}

fn short_command(command: &str) -> String {
    match command.char_indices().nth(28) {
        Some((end, _)) => format!("{}…", &command[..end]),
        None => command.to_owned(),
    }
}
