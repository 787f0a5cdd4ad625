//! A report in the making.

use std::collections::BTreeMap;
use std::time::Duration;

use super::course::Halt;
use super::{Procedure, setup};
use crate::bench::{Seen, Way, Wrong};
use crate::load::Profile;
use crate::report::model::{Figure, Plot, Report, Table};
use crate::report::{count, percent, plural};

/// What has been found so far.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// Name, unit and repeats of the figures, in the order of their first mention.
    figures: Vec<(String, String, Vec<f64>)>,
    pub(super) tables: Vec<Table>,
    pub(super) plots: Vec<Plot>,
    complaints: Vec<String>,
    notes: Vec<String>,
    /// By port and counter.
    trouble: BTreeMap<String, u64>,
    wrong: [u64; Wrong::COUNT],
    examples: Vec<String>,
    partial: bool,
}

/// So many wrong packets are shown.
const EXAMPLES: usize = 10;

impl Draft {
    /// Adds a repeat of a figure. What is no number is left out.
    pub(super) fn figure(&mut self, name: &str, unit: &str, value: f64) {
        if !value.is_finite() {
            return;
        }
        match self.figures.iter_mut().find(|figure| figure.0 == name) {
            Some(figure) => figure.2.push(value),
            None => self.figures.push((name.to_owned(), unit.to_owned(), vec![value])),
        }
    }

    /// Something that makes the procedure fail; said once.
    pub(super) fn complain(&mut self, complaint: impl Into<String>) {
        say_once(&mut self.complaints, complaint.into());
    }

    /// Something to be known; said once.
    pub(super) fn note(&mut self, note: impl Into<String>) {
        say_once(&mut self.notes, note.into());
    }

    /// Keeps what a stage saw that was wrong.
    pub(super) fn noticed(&mut self, seen: &Seen) {
        for (sum, count) in self.wrong.iter_mut().zip(seen.total.wrong) {
            *sum += count;
        }
        let room = EXAMPLES.saturating_sub(self.examples.len());
        self.examples.extend(seen.examples.iter().take(room).cloned());
        for (name, count) in &seen.port_trouble {
            *self.trouble.entry(name.clone()).or_default() += count;
        }
    }

    /// Complains if not all sessions were opened that should have been.
    pub(super) fn opened(&mut self, seen: &Seen, wanted: u64) {
        if seen.total.not_opened > 0 || seen.total.opened < wanted {
            self.complain(format!(
                "{} of {} did not open",
                count(wanted.saturating_sub(seen.total.opened)),
                plural(wanted, "session"),
            ));
        }
    }

    /// It ended before it was done.
    pub(super) fn halted(&mut self, halt: Halt) {
        match halt {
            Halt::Ended(_) => {
                self.partial = true;
                self.note("It was ended before it was done: what had been measured is shown.");
            }
            Halt::Wrong(_) => {
                self.note("It ended with the stage that saw the first wrong delivery.");
            }
            Halt::Failed(why) => {
                self.partial = true;
                self.complain(why);
            }
        }
    }

    /// The report.
    pub(super) fn into_report(
        mut self,
        procedure: &Procedure,
        profile: &Profile,
        started: String,
        took: Duration,
    ) -> Report {
        let mut complaints = self.wrong_in_words();
        complaints.append(&mut self.complaints);
        if !self.trouble.is_empty() {
            self.tables.push(Table {
                title: "Trouble that the ports counted".to_owned(),
                columns: vec!["counter".to_owned(), "count".to_owned()],
                rows: self.trouble.iter().map(|(name, n)| vec![name.clone(), count(*n)]).collect(),
            });
        }
        let figures = self.figures.into_iter();
        Report {
            version: 1,
            command: procedure.name().to_owned(),
            started,
            took_s: took.as_secs_f64(),
            setup: setup::lines(procedure, profile),
            partial: self.partial,
            passed: complaints.is_empty() && !self.partial,
            complaints,
            notes: self.notes,
            figures: figures
                .filter_map(|(name, unit, all)| Figure::of(&name, &unit, all))
                .collect(),
            tables: self.tables,
            plots: self.plots.into_iter().map(finite).collect(),
        }
    }

    fn wrong_in_words(&self) -> Vec<String> {
        let kinds = Wrong::ALL.iter().zip(self.wrong).filter(|(_, count)| *count > 0);
        let mut words: Vec<String> = kinds
            .map(|(kind, n)| format!("{}: {} {}", kind.name(), plural(n, "packet"), meaning(*kind)))
            .collect();
        words.extend(self.examples.iter().map(|example| format!("for example: {example}")));
        words
    }
}

fn say_once(said: &mut Vec<String>, sentence: String) {
    if !said.contains(&sentence) {
        said.push(sentence);
    }
}

/// Without points that JSON has no word for.
fn finite(mut plot: Plot) -> Plot {
    for series in &mut plot.series {
        series.points.retain(|(x, y)| x.is_finite() && y.is_finite());
    }
    plot
}

/// What is wrong with packets of a kind.
fn meaning(kind: Wrong) -> &'static str {
    match kind {
        Wrong::Subscriber => "came to an address or port that is not the subscriber's",
        Wrong::Server => "came to a server that they were not sent to",
        Wrong::SecondEndpoint => {
            "of flows that had another public endpoint before (RFC 4787, REQ-1)"
        }
        Wrong::SharedEndpoint => "of different subscribers with one public endpoint at a time",
        Wrong::Side => "came out at the side that they were sent from",
        Wrong::Corrupted => "had a payload that is not what was sent",
        Wrong::Checksum => "had a wrong checksum",
    }
}

/// What was seen of both directions, one row for each.
pub(super) fn counts_table(title: &str, seen: &Seen) -> Table {
    let columns = [
        "direction",
        "sent",
        "received",
        "lost",
        "loss",
        "duplicated",
        "reordered",
        "corrupted",
        "bad checksums",
        "not sent",
    ];
    let row = |(name, way): (&str, Way)| {
        let counts = &seen.total.counts[way as usize];
        let loss = counts.lost as f64 / (counts.sent.max(1)) as f64;
        vec![
            name.to_owned(),
            count(counts.sent),
            count(counts.received),
            count(counts.lost),
            percent(loss),
            count(counts.duplicated),
            count(counts.reordered),
            count(counts.corrupted),
            count(counts.bad_checksums),
            count(counts.unsent),
        ]
    };
    Table {
        title: title.to_owned(),
        columns: columns.map(str::to_owned).to_vec(),
        rows: WAYS.into_iter().map(row).collect(),
    }
}

/// The directions with their names in reports.
pub(super) const WAYS: [(&str, Way); 2] = [("up", Way::Up), ("down", Way::Down)];
