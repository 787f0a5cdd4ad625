//! A report as lines for a terminal.

use std::fmt::Write;

use super::model::{Report, Table};
use super::number;

/// Verdict and complaints, figures, tables; the setup and plots are in the other forms.
pub fn summary(report: &Report) -> String {
    let mut text = String::new();
    let verdict = report.verdict().word().to_uppercase();
    let partial = if report.partial && verdict != "PARTIAL" { ", partial" } else { "" };
    let took = took(report.took_s);
    let _ = writeln!(text, "bench-gen {}: {verdict}{partial} ({took})", report.command);
    for complaint in &report.complaints {
        let _ = writeln!(text, "  ! {complaint}");
    }
    for note in &report.notes {
        let _ = writeln!(text, "  · {note}");
    }
    figures(&mut text, report);
    for table in &report.tables {
        let _ = writeln!(text, "\n{}", table.title);
        write_table(&mut text, table);
    }
    text
}

fn figures(text: &mut String, report: &Report) {
    let wide = |of: fn(&super::model::Figure) -> usize| report.figures.iter().map(of).max();
    let names = wide(|figure| figure.name.chars().count()).unwrap_or(0);
    let values = wide(|figure| number::short(figure.median).chars().count()).unwrap_or(0);
    if !report.figures.is_empty() {
        text.push('\n');
    }
    for figure in &report.figures {
        let value = number::short(figure.median);
        let _ = write!(text, "  {:names$}  {value:>values$} {}", figure.name, figure.unit);
        if figure.repeats.len() > 1 {
            let (min, max) = (number::short(figure.min), number::short(figure.max));
            let _ = write!(text, "  ({min} – {max}, {} repeats)", figure.repeats.len());
        }
        text.push('\n');
    }
}

fn write_table(text: &mut String, table: &Table) {
    let rows = || std::iter::once(&table.columns).chain(&table.rows);
    let width = |column: usize| {
        let cells = rows().filter_map(move |row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..table.columns.len()).map(width).collect();
    for row in rows() {
        let mut line = String::from(" ");
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // The first column names the row.
            let _ = match index {
                0 => write!(line, " {cell:<width$}"),
                _ => write!(line, "  {cell:>width$}"),
            };
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

/// A time in words: `0.5 s`, `1 min 2 s`, `2 h 5 min`.
pub fn took(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..10 => format!("{} s", number::trimmed(format!("{seconds:.1}"))),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::Figure;

    #[test]
    fn the_summary_is_aligned() {
        let figure = |name, values: &[f64]| Figure::of(name, "packets/s", values.to_vec());
        let report = Report {
            version: 1,
            command: "throughput".to_owned(),
            started: String::new(),
            took_s: 62.0,
            setup: Vec::new(),
            partial: false,
            passed: true,
            complaints: Vec::new(),
            notes: vec!["known".to_owned()],
            figures: [figure("throughput", &[2e6, 1e6, 3e6]), figure("of it up", &[7.0])]
                .into_iter()
                .flatten()
                .collect(),
            tables: vec![Table {
                title: "Trials".to_owned(),
                columns: vec!["frame".to_owned(), "loss".to_owned()],
                rows: vec![vec!["64".to_owned(), "0.01 %".to_owned()]],
            }],
            plots: Vec::new(),
        };
        let expected = "bench-gen throughput: PASSED (1 min 2 s)
  · known

  throughput  2 M packets/s  (1 M – 3 M, 3 repeats)
  of it up      7 packets/s

Trials
  frame    loss
  64     0.01 %
";
        assert_eq!(summary(&report), expected);
    }

    #[test]
    fn times_are_read_at_a_glance() {
        for (seconds, text) in [
            (0.04, "0 s"),
            (9.26, "9.3 s"),
            (59.4, "59 s"),
            (59.6, "1 min 0 s"),
            (7505.0, "2 h 5 min"),
        ] {
            assert_eq!(took(seconds), text);
        }
    }
}
