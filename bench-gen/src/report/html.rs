//! A report as one HTML file that needs nothing else: no network, no script, no font.

use maud::{Markup, PreEscaped, html};

use super::model::{Figure, Plot, Report, Table, Verdict};
use super::{number, svg};

const STYLE: &str = include_str!("style.css");

/// Void elements are written so that the file is XML as well.
const HEAD: &str = "<meta charset=\"utf-8\"/>\
    <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\
    <meta name=\"color-scheme\" content=\"light dark\"/>";

/// The page.
pub fn page(report: &Report) -> String {
    let body = html! {
        html lang="en" {
            head {
                (PreEscaped(HEAD))
                title { "bench-gen " (report.command) ": " (report.verdict().word()) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    (heading(report))
                    (complaints(report))
                    (notes(report))
                    (setup(report))
                    (figures(&report.figures))
                    (plots(&report.plots))
                    @for shown in &report.tables { (table(shown)) }
                    (footer(report))
                }
            }
        }
    };
    format!("<!DOCTYPE html>\n{}\n", body.into_string())
}

fn heading(report: &Report) -> Markup {
    let (class, sign) = match report.verdict() {
        Verdict::Passed => ("passed", "✓"),
        Verdict::Failed => ("failed", "✗"),
        Verdict::Partial => ("partial", "◐"),
    };
    html! {
        header {
            p class="tool" { "bench-gen" }
            div class="title" {
                h1 { (report.command) }
                span class={ "verdict " (class) } {
                    span aria-hidden="true" { (sign) } " " (report.verdict().word())
                }
                @if report.partial && report.verdict() != Verdict::Partial {
                    span class="verdict partial" { "partial" }
                }
            }
            p class="when" { (report.started) " · took " (super::text::took(report.took_s)) }
        }
    }
}

fn complaints(report: &Report) -> Markup {
    html! {
        @if !report.complaints.is_empty() {
            section class="complaints" {
                h2 { "What is wrong" }
                ul { @for complaint in &report.complaints { li { (complaint) } } }
            }
        }
    }
}

fn notes(report: &Report) -> Markup {
    html! {
        @if !report.notes.is_empty() {
            section class="notes" {
                h2 { "To be known" }
                ul { @for note in &report.notes { li { (note) } } }
            }
        }
    }
}

fn setup(report: &Report) -> Markup {
    html! {
        @if !report.setup.is_empty() {
            section {
                h2 { "Setup" }
                dl class="setup" {
                    @for (name, value) in &report.setup {
                        div { dt { (name) } dd { (value) } }
                    }
                }
            }
        }
    }
}

fn figures(figures: &[Figure]) -> Markup {
    html! {
        @if !figures.is_empty() {
            section {
                h2 { "Figures" }
                div class="figures" { @for shown in figures { (figure(shown)) } }
            }
        }
    }
}

fn figure(figure: &Figure) -> Markup {
    html! {
        div class="figure" {
            p class="what" { (figure.name) }
            p class="value" {
                (number::short(figure.median)) " " span class="unit" { (figure.unit) }
            }
            @if figure.repeats.len() > 1 {
                (svg::strip(figure))
                p class="spread" {
                    "median of " (figure.repeats.len()) "; "
                    @if figure.min == figure.max {
                        "all alike"
                    } @else {
                        (number::short(figure.min)) " – " (number::short(figure.max))
                    }
                }
            } @else {
                p class="spread" { "measured once" }
            }
        }
    }
}

fn plots(plots: &[Plot]) -> Markup {
    html! {
        @if !plots.is_empty() {
            section class="plots" {
                @for plot in plots {
                    figure class=(if plot.wide { "wide" } else { "narrow" }) {
                        figcaption { h3 { (plot.title) } (svg::legend(plot)) }
                        (svg::plot(plot))
                    }
                }
            }
        }
    }
}

fn table(table: &Table) -> Markup {
    let numeric = |column: usize| {
        let cells = table.rows.iter().filter_map(|row| row.get(column));
        let is_number =
            |cell: &String| cell.starts_with(|c: char| c.is_ascii_digit() || "-–≥<".contains(c));
        !table.rows.is_empty() && cells.clone().all(is_number)
    };
    let classes: Vec<&str> = (0..table.columns.len())
        // The first column names the row.
        .map(|column| if column > 0 && numeric(column) { "number" } else { "words" })
        .collect();
    html! {
        section class="table" {
            h3 { (table.title) }
            div class="scroll" {
                table {
                    thead { tr {
                        @for (name, class) in table.columns.iter().zip(&classes) {
                            th class=(class) { (name) }
                        }
                    } }
                    tbody { @for row in &table.rows {
                        tr { @for (cell, class) in row.iter().zip(&classes) {
                            td class=(class) { (cell) }
                        } }
                    } }
                }
            }
        }
    }
}

fn footer(report: &Report) -> Markup {
    html! {
        footer {
            "Every figure is the median of its repeats, with the least and the most. "
            "Point at a plot to read its values. Layout " (report.version) "."
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::report::model::{Axis, Mark, Series, Shape};

    /// A report in which everything has a hostile name.
    pub(crate) fn hostile() -> Report {
        let evil = "</title></style></svg><script>alert(\"1\")</script>&amp;'\u{1f4a9}";
        let text = || evil.to_owned();
        Report {
            version: 1,
            command: text(),
            started: text(),
            took_s: 61.5,
            setup: vec![(text(), text())],
            partial: true,
            passed: false,
            complaints: vec![text()],
            notes: vec![text()],
            figures: Figure::of(evil, evil, vec![1.0, 2.0]).into_iter().collect(),
            tables: vec![Table { title: text(), columns: vec![text()], rows: vec![vec![text()]] }],
            plots: vec![Plot {
                title: text(),
                x: Axis::linear(evil),
                y: Axis::log(evil),
                series: vec![
                    Series::new(evil, Shape::Line, vec![(0.0, 1.0), (1.0, f64::NAN)]),
                    Series::new(evil, Shape::Dots, vec![(0.5, 2.0)]),
                    Series::new(evil, Shape::Bars, vec![(0.5, 2.0)]),
                ],
                marks: vec![Mark { x: 0.5, label: text() }],
                wide: true,
            }],
        }
    }

    #[test]
    fn hostile_names_are_text_and_the_page_is_well_formed() {
        let page = page(&hostile());
        let xml = page.strip_prefix("<!DOCTYPE html>\n").unwrap();
        let document = roxmltree::Document::parse(xml).expect("well-formed");
        let names = |name: &str| document.descendants().filter(|n| n.has_tag_name(name)).count();
        assert_eq!(names("script"), 0);
        let texts = |name: &str| {
            let node = document.descendants().find(|node| node.has_tag_name(name)).unwrap();
            node.text().unwrap().to_owned()
        };
        assert_eq!(texts("h1"), hostile().command, "shown as it is");
        assert_eq!(texts("td"), hostile().command);
    }

    #[test]
    fn nothing_is_fetched() {
        let page = page(&hostile());
        for word in ["src=", "href=", "url(", "@import", "<script", "<link"] {
            assert!(!page.contains(word), "{word}");
        }
        let outside = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!outside.contains("http:") && !outside.contains("https:"));
    }

    #[test]
    fn verdict_and_complaints_come_before_the_figures() {
        let page = page(&hostile());
        let place = |word: &str| page.find(word).unwrap_or_else(|| panic!("no {word}"));
        let order = ["verdict failed", "What is wrong", ">Setup<", ">Figures<", "class=\"plot\""];
        assert!(order.map(place).is_sorted());
    }
}
