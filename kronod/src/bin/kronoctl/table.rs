//! Text in columns, and figures that people can read.

/// How a column is aligned.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows of text in aligned columns.
pub(crate) struct Table {
    columns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns and their heads.
    pub(crate) fn new(columns: &[(&str, Align)]) -> Table {
        let heads = columns.iter().map(|(head, _)| (*head).to_owned()).collect();
        Table { columns: columns.iter().map(|(_, align)| *align).collect(), rows: vec![heads] }
    }

    /// Adds a row, a cell for each column.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table as lines, each after `indent`.
    pub(crate) fn render(&self, indent: &str) -> String {
        let width = |column: usize| {
            self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&self.columns).zip(&widths);
            let line: Vec<String> = cells
                .map(|((cell, align), width)| {
                    // Not by a format's width, which ends at 65,535.
                    let gap = " ".repeat(width - cell.chars().count());
                    match align {
                        Align::Left => format!("{cell}{gap}"),
                        Align::Right => format!("{gap}{cell}"),
                    }
                })
                .collect();
            text += format!("{indent}{}", line.join("  ")).trim_end();
            text.push('\n');
        }
        text
    }
}

/// `1234567` as `1,234,567`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three figures and a unit by powers of 1000, as `12.3 M`.
pub(crate) fn short(value: f64) -> String {
    const UNITS: [&str; 6] = ["", " k", " M", " G", " T", " P"];
    let (mut value, mut unit) = (value, 0);
    // Rounding must not make 1000 of 999.95.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = if unit == 0 || value >= 99.95 { 0 } else { 1 };
    format!("{value:.decimals$}{}", UNITS[unit])
}

/// Bytes in binary units, as configured: `512 MiB`.
pub(crate) fn memory(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = UNITS.iter().find(|(size, _)| bytes >= *size);
    unit.map_or(format!("{bytes} B"), |(size, name)| {
        let value = bytes as f64 / *size as f64;
        let decimals = if value < 9.95 && !bytes.is_multiple_of(*size) { 1 } else { 0 };
        format!("{value:.decimals$} {name}")
    })
}

/// A length of time by its two greatest units: `2d 3h`, `1h 5m`, `2m 3s`, `7s`.
pub(crate) fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_grouped_and_rounded() {
        let counts = [0, 999, 1000, 12_345, 1_234_567, u64::MAX].map(count);
        assert_eq!(
            counts,
            ["0", "999", "1,000", "12,345", "1,234,567", "18,446,744,073,709,551,615"]
        );
        let shorts = [0.0, 7.0, 999.0, 999.6, 1234.0, 99_960.0, 999_950.0, 2.5e9, 1e18].map(short);
        assert_eq!(
            shorts,
            ["0", "7", "999", "1.0 k", "1.2 k", "100 k", "1.0 M", "2.5 G", "1000 P"]
        );
        let sizes = [5, 1 << 10, 3 << 19, 512 << 20, 12 << 30].map(memory);
        assert_eq!(sizes, ["5 B", "1 KiB", "1.5 MiB", "512 MiB", "12 GiB"]);
        let spans = [7, 123, 3900, 183_600].map(span);
        assert_eq!(spans, ["7s", "2m 3s", "1h 5m", "2d 3h"]);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&[("name", Align::Left), ("n", Align::Right)]);
        table.row(["a".to_owned(), "1,000".to_owned()]);
        table.row(["longer".to_owned(), String::new()]);
        assert_eq!(table.render("  "), "  name        n\n  a       1,000\n  longer\n");
    }
    #[test]
    fn a_cell_may_have_any_width() {
        let mut table = Table::new(&[("name", Align::Left), ("n", Align::Right)]);
        table.row(["x".repeat(70_000), "1".to_owned()]);
        let widths: Vec<usize> = table.render("").lines().map(str::len).collect();
        assert_eq!(widths, [70_003, 70_003]);
    }
}
