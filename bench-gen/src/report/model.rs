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
