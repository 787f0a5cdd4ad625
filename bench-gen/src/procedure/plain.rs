//! The profile as it is, as often as it says.

use super::course::{Course, Halt};
use super::draft::{WAYS, counts_table};
use super::options::RunOptions;
use super::trial::REACHED;
use super::{latency, plots};
use crate::bench::{Seen, Stage, Ways};
use crate::load::Popularity;
use crate::report::{count, full, percent, plural};

pub(super) fn run(course: &mut Course, options: &RunOptions) -> Result<(), Halt> {
    let mut last = None;
    let end = course.repeat("", |course| {
        let (rate, end) = (course.profile.rate, course.profile.end);
        let stage = Stage::Traffic { rate, end, sizes: None, ways: Ways::Both };
        match course.stage(&stage) {
            Ok(seen) => {
                tell(course, options, &seen);
                last = Some(seen);
                Ok(())
            }
            Err(halt) => {
                // What was seen until then is all there is of this repeat.
                if let Halt::Ended(Some(seen)) | Halt::Wrong(seen) = &halt {
                    tell(course, options, seen);
                    last = Some((**seen).clone());
                }
                Err(halt)
            }
        }
    });
    if let Some(seen) = last {
        show(course, &seen);
    }
    end
}

fn tell(course: &mut Course, options: &RunOptions, seen: &Seen) {
    let seconds = seconds(seen);
    let [up, down] = seen.total.counts;
    let rate = |count: u64| count as f64 / seconds;
    let draft = &mut course.draft;
    draft.figure("sent by subscribers", "packets/s", seen.pace.reached_pps);
    draft.figure("arrived up", "packets/s", rate(up.received));
    draft.figure("arrived down", "packets/s", rate(down.received));
    draft.figure("loss", "%", seen.loss() * 100.0);
    draft.figure("wrong deliveries", "packets", seen.total.wrong.iter().sum::<u64>() as f64);
    if seen.total.opened > 0 {
        draft.figure("sessions opened", "sessions/s", rate(seen.total.opened));
    }
    draft.figure("burstiness", "× the mean", seen.pace.burstiness);
    latency::figures(course, "", seen);
    let draft = &mut course.draft;
    if seen.total.not_opened > 0 {
        draft.complain(format!("{} did not open", plural(seen.total.not_opened, "session")));
    }
    for (name, counts) in [("up", up), ("down", down)] {
        if counts.sent > 0 && counts.received == 0 {
            draft.complain(format!("nothing arrived {name}"));
        }
    }
    loss(course, options, seen);
    pace(course, seen);
}

/// How much was lost, and as far as that is known where.
fn loss(course: &mut Course, options: &RunOptions, seen: &Seen) {
    let lost: u64 = seen.total.counts.iter().map(|counts| counts.lost).sum();
    if lost == 0 {
        return;
    }
    let (draft, share) = (&mut course.draft, percent(seen.loss()));
    let by_way =
        WAYS.map(|(name, way)| format!("{} {name}", count(seen.total.counts[way as usize].lost)));
    let on_arrival = seen.port_trouble.iter().filter(|(name, _)| is_on_arrival(name));
    let on_arrival: u64 = on_arrival.map(|(_, count)| count).sum();
    draft.note(format!(
        "Lost: {} ({share}), {}. bench-gen's own ports dropped {} when they arrived; the rest was \
         lost by the device or on the links.",
        plural(lost, "packet"),
        by_way.join(" and "),
        count(on_arrival),
    ));
    if let Some(max) = options.max_loss
        && seen.loss() > max
    {
        draft.complain(format!("{share} was lost, more than {}", percent(max)));
    }
}

/// Whether a counter of trouble is of packets that came back and were not taken.
fn is_on_arrival(name: &str) -> bool {
    ["rx_missed", "rx_no_buffer", "handover_full"].iter().any(|end| name.ends_with(end))
}

/// A rate that was not reached is said, never sent more slowly in silence.
fn pace(course: &mut Course, seen: &Seen) {
    let reached = seen.pace.reached_pps;
    let unsent: u64 = seen.total.counts.iter().map(|counts| counts.unsent).sum();
    let Some(wanted) = seen.pace.wanted_pps else { return };
    if reached < wanted * REACHED {
        course.draft.complain(format!(
            "the rate was not reached: {} packets/s of {} ({}); {} were not sent",
            full(reached),
            full(wanted),
            percent(reached / wanted),
            plural(unsent, "packet"),
        ));
    }
}

/// For how long packets were sent.
pub(super) fn seconds(seen: &Seen) -> f64 {
    seen.total.elapsed.as_secs_f64().max(1e-3)
}

fn show(course: &mut Course, seen: &Seen) {
    latency::note_packets(course, seen);
    let popularity = course.profile.load.popularity;
    let draft = &mut course.draft;
    if popularity == Popularity::Agh2015 {
        draft.note(
            "Flows that were there from the beginning were met in the midst of their lives: \
             \"Flows by size\" counts the packets that they would have had before.",
        );
    }
    draft.plots.push(plots::timeline("Packets over time", seen, Vec::new()));
    draft.plots.extend(plots::missing(seen, Vec::new()));
    draft.plots.extend(plots::latency("", &[("", seen)]));
    draft.plots.extend(plots::flow_sizes(seen));
    draft.plots.extend(plots::connections("Sessions opened", seen));
    draft.tables.push(counts_table("Packets of the last repeat", seen));
    let rows = latency::rows("", None, seen);
    if !rows.is_empty() {
        draft.tables.push(latency::table(rows).without_blanks());
    }
}
