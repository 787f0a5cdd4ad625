//! A report as a value: what JSON says, what the page draws.

use serde::{Deserialize, Serialize};

/// One command's report. The JSON form is this, field by field.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The layout of this report; 1 today.
    pub version: u32,
    /// The command, like `rfc9693 capacity`.
    pub command: String,
    /// When it began, RFC 3339.
    pub started: String,
    /// How long it took, seconds.
    pub took_s: f64,
    /// What it ran on and with: name and value, in order.
    pub setup: Vec<(String, String)>,
    /// It was ended before it was done.
    pub partial: bool,
    /// Everything that arrived was right and all criteria were met.
    pub passed: bool,
    /// What was wrong, or fell short; in words.
    pub complaints: Vec<String>,
    /// What a reader must know to read the figures, in words.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The main results.
    pub figures: Vec<Figure>,
    /// Tables.
    pub tables: Vec<Table>,
    /// Plots.
    pub plots: Vec<Plot>,
}

/// A result with its spread.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    /// What it is, like `throughput`.
    pub name: String,
    /// Its unit, like `packets/s`.
    pub unit: String,
    /// The median of the repeats.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
    /// All repeats.
    pub repeats: Vec<f64>,
}

/// A table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Table {
    /// Its title.
    pub title: String,
    /// Names of its columns.
    pub columns: Vec<String>,
    /// Cells, as they are shown.
    pub rows: Vec<Vec<String>>,
}

/// A plot: lines over one axis.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plot {
    /// Its title.
    pub title: String,
    /// What lies along the bottom.
    pub x: Axis,
    /// What lies along the side.
    pub y: Axis,
    /// What is drawn.
    pub series: Vec<Series>,
    /// Moments that are marked on the axis at the bottom.
    #[serde(default)]
    pub marks: Vec<Mark>,
    /// Whether it takes the width of two.
    #[serde(default)]
    pub wide: bool,
}

/// A value of the axis at the bottom where something happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mark {
    /// Where.
    pub x: f64,
    /// What.
    pub label: String,
}

/// An axis.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Axis {
    /// Its label, with the unit.
    pub label: String,
    /// Whether it is logarithmic.
    pub log: bool,
}

/// What is drawn in a plot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// How it is drawn.
    pub shape: Shape,
    /// What its colour says.
    #[serde(default)]
    pub tone: Tone,
    /// (x, y).
    pub points: Vec<(f64, f64)>,
}

/// How points are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// Joined by a line.
    Line,
    /// As steps: a value holds until the next.
    Steps,
    /// As dots.
    Dots,
    /// As bars.
    Bars,
}

/// What a colour says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tone {
    /// Nothing but which series it is.
    #[default]
    Plain,
    /// That this passed.
    Good,
    /// That this did not.
    Bad,
}

/// How a measurement came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything was right and all criteria were met.
    Passed,
    /// Something was not.
    Failed,
    /// Nothing was wrong, but it ended before it was done.
    Partial,
}

impl Verdict {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::Failed => "failed",
            Verdict::Partial => "partial",
        }
    }
}

impl Report {
    /// How it came out. What was found wrong counts also if the rest was not measured.
    pub fn verdict(&self) -> Verdict {
        match (self.partial, self.passed) {
            (false, true) => Verdict::Passed,
            (true, _) if self.complaints.is_empty() => Verdict::Partial,
            _ => Verdict::Failed,
        }
    }
}

impl Figure {
    /// The median, least and most of `repeats`; `None` if there are none.
    pub fn of(name: &str, unit: &str, repeats: Vec<f64>) -> Option<Figure> {
        let mut sorted = repeats.clone();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            1 => sorted[middle],
            _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
        };
        Some(Figure { name: name.into(), unit: unit.into(), median, min, max, repeats })
    }
}

impl Table {
    /// Without columns that say nothing in any row.
    pub fn without_blanks(mut self) -> Table {
        let says = |column: usize| {
            let mut cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.any(|cell| !cell.is_empty() && cell != "–")
        };
        let keep: Vec<bool> = (0..self.columns.len()).map(says).collect();
        for row in self.rows.iter_mut().chain([&mut self.columns]) {
            let mut keep = keep.iter();
            row.retain(|_| keep.next() == Some(&true));
        }
        self
    }
}

impl Plot {
    /// A plot without marks.
    pub fn new(title: impl Into<String>, x: Axis, y: Axis, series: Vec<Series>) -> Plot {
        Plot { title: title.into(), x, y, series, marks: Vec::new(), wide: false }
    }

    /// The same over the width of two, with marks.
    pub fn wide(self, marks: Vec<Mark>) -> Plot {
        Plot { marks, wide: true, ..self }
    }
}

impl Axis {
    /// An axis with equal steps.
    pub fn linear(label: &str) -> Axis {
        Axis { label: label.to_owned(), log: false }
    }

    /// An axis with equal ratios.
    pub fn log(label: &str) -> Axis {
        Axis { label: label.to_owned(), log: true }
    }
}

impl Series {
    /// A series whose colour says only which it is.
    pub fn new(name: &str, shape: Shape, points: Vec<(f64, f64)>) -> Series {
        Series { name: name.to_owned(), shape, tone: Tone::Plain, points }
    }

    /// The same in another tone.
    pub fn toned(self, tone: Tone) -> Series {
        Series { tone, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_the_median_between_least_and_most() {
        let figure = Figure::of("throughput", "packets/s", vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!((figure.median, figure.min, figure.max), (2.0, 1.0, 3.0));
        assert_eq!(figure.repeats, [3.0, 1.0, 2.0], "in the order in which they were measured");
        let even = Figure::of("x", "", vec![4.0, 1.0, 2.0, 3.0]).unwrap();
        assert_eq!(even.median, 2.5);
        assert!(Figure::of("x", "", Vec::new()).is_none());
    }
}
