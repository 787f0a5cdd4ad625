//! Plots as inline SVG. Colours are classes, so that the page decides them for light, dark and print.

use std::fmt::Write;

use maud::{Markup, html};

use super::model::{Axis, Figure, Plot, Series, Shape, Tone};
use super::number;
use super::scale::Scale;

const NARROW: f64 = 640.0;
const WIDE: f64 = 1314.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 44.0;
/// How many colours the page has.
const COLOURS: usize = 7;
/// Up to so many places have a hover title; more would be narrower than a pixel.
const PLACES: usize = 640;

/// The drawing area of a plot and what lies where in it.
struct Area {
    width: f64,
    x: Scale,
    y: Scale,
}

impl Area {
    fn of(plot: &Plot) -> Area {
        let points = || plot.series.iter().flat_map(|series| &series.points);
        let marks = plot.marks.iter().map(|mark| mark.x);
        let bars = plot.series.iter().any(|series| series.shape == Shape::Bars);
        let floor = if bars && !plot.y.log { Some(0.0) } else { None };
        let across = points().map(|point| point.0).chain(marks);
        Area {
            width: if plot.wide { WIDE } else { NARROW },
            // Wide ones are over time.
            x: match plot.wide {
                true => Scale::fitting(across, plot.x.log),
                false => Scale::over(across, plot.x.log),
            },
            y: Scale::over(points().map(|point| point.1).chain(floor), plot.y.log),
        }
    }

    fn x(&self, value: f64) -> Option<f64> {
        self.x.place(value).map(|place| LEFT + place * (self.width - LEFT - RIGHT))
    }

    fn y(&self, value: f64) -> Option<f64> {
        self.y.place(value).map(|place| HEIGHT - BOTTOM - place * (HEIGHT - TOP - BOTTOM))
    }

    fn at(&self, point: &(f64, f64)) -> Option<(f64, f64)> {
        Some((self.x(point.0)?, self.y(point.1)?))
    }
}

/// A plot.
pub(super) fn plot(plot: &Plot) -> Markup {
    let area = Area::of(plot);
    html! {
        svg class="plot" role="img" aria-label=(plot.title) viewBox={ "0 0 " (area.width) " " (HEIGHT) }
            xmlns="http://www.w3.org/2000/svg" {
            title { (plot.title) }
            (x_axis(&area, &plot.x))
            (y_axis(&area, &plot.y))
            @for (index, series) in plot.series.iter().enumerate() {
                g class=(class(index, series)) { (shape(&area, series)) }
            }
            (marks(&area, plot))
            (hover(&area, plot))
            (dots_on_top(&area, plot))
        }
    }
}

/// The names of a plot's series, where there is something to tell apart.
pub(super) fn legend(plot: &Plot) -> Markup {
    html! {
        @if plot.series.len() > 1 {
            ul class="legend" {
                @for (index, series) in plot.series.iter().enumerate() {
                    li class=(class(index, series)) {
                        span class={ "key " (kind(series.shape)) } {} (series.name)
                    }
                }
            }
        }
    }
}

fn class(index: usize, series: &Series) -> String {
    match series.tone {
        Tone::Plain => format!("s{}", index % COLOURS + 1),
        Tone::Good => "good".to_owned(),
        Tone::Bad => "bad".to_owned(),
    }
}

fn kind(shape: Shape) -> &'static str {
    match shape {
        Shape::Line | Shape::Steps => "line",
        Shape::Dots => "dot",
        Shape::Bars => "bar",
    }
}

fn x_axis(area: &Area, axis: &Axis) -> Markup {
    let bottom = HEIGHT - BOTTOM;
    html! {
        @for tick in area.x.ticks() {
            @if let Some(x) = area.x(tick.value) {
                line class="tick" x1=(px(x)) x2=(px(x)) y1=(px(bottom)) y2=(px(bottom + 4.0)) {}
                text class="label" x=(px(x)) y=(px(bottom + 17.0)) text-anchor="middle" {
                    (tick.label)
                }
            }
        }
        line class="axis" x1=(LEFT) x2=(area.width - RIGHT) y1=(bottom) y2=(bottom) {}
        text class="name" x=(area.width - RIGHT) y=(HEIGHT - 6.0) text-anchor="end" { (axis.label) }
    }
}

fn y_axis(area: &Area, axis: &Axis) -> Markup {
    html! {
        @for tick in area.y.ticks() {
            @if let Some(y) = area.y(tick.value) {
                line class="grid" x1=(LEFT) x2=(area.width - RIGHT) y1=(px(y)) y2=(px(y)) {}
                text class="label" x=(LEFT - 8.0) y=(px(y + 4.0)) text-anchor="end" {
                    (tick.label)
                }
            }
        }
        text class="name" x="2" y="12" text-anchor="start" { (axis.label) }
    }
}

fn shape(area: &Area, series: &Series) -> Markup {
    html! {
        @match series.shape {
            Shape::Line => path class="line" d=(path(area, &series.points, false)) {},
            Shape::Steps => path class="line" d=(path(area, &series.points, true)) {},
            Shape::Bars => path class="bars" d=(bars(area, &series.points)) {},
            Shape::Dots => {},
        }
    }
}

/// Where a value cannot be shown, as zero on a logarithmic axis, the line has a gap.
fn path(area: &Area, points: &[(f64, f64)], steps: bool) -> String {
    let mut path = String::new();
    let mut before: Option<(f64, f64)> = None;
    for point in points {
        let here = area.at(point);
        if let Some((x, y)) = here {
            let _ = match before {
                None => write!(path, "M{} {}", px(x), px(y)),
                Some(_) if steps => write!(path, "H{}V{}", px(x), px(y)),
                Some(_) => write!(path, "L{} {}", px(x), px(y)),
            };
        }
        before = here;
    }
    path
}

/// Bars as wide as the smallest distance between two.
fn bars(area: &Area, points: &[(f64, f64)]) -> String {
    let mut places: Vec<f64> = points.iter().filter_map(|point| area.x(point.0)).collect();
    places.sort_by(f64::total_cmp);
    let apart = places.windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| *gap > 0.01);
    let width = (apart.fold(40.0, f64::min) - 1.0).max(1.0);
    let floor = area.y(area.y.floor()).unwrap_or(HEIGHT - BOTTOM);
    let mut path = String::new();
    for (x, y) in points.iter().filter_map(|point| area.at(point)) {
        let left = (x - width / 2.0).max(LEFT);
        let right = (x + width / 2.0).min(area.width - RIGHT);
        let (left, right) = (px(left), px(right));
        let _ = write!(path, "M{left} {}V{}H{right}V{}Z", px(floor), px(y), px(floor));
    }
    path
}

fn marks(area: &Area, plot: &Plot) -> Markup {
    html! {
        @for mark in &plot.marks {
            @if let Some(x) = area.x(mark.x) {
                line class="mark" x1=(px(x)) x2=(px(x)) y1=(TOP - 6.0) y2=(HEIGHT - BOTTOM) {}
                text class="marked" x=(px(x)) y=(TOP - 10.0)
                    text-anchor=(if x > area.width * 0.7 { "end" } else { "start" }) { (mark.label) }
            }
        }
    }
}

/// Strips over the drawing whose titles tell what lies there, for all but dots.
fn hover(area: &Area, plot: &Plot) -> Markup {
    let drawn = || plot.series.iter().filter(|series| series.shape != Shape::Dots);
    let points = drawn().flat_map(|series| &series.points);
    let mut values: Vec<f64> = points.map(|point| point.0).filter(|x| x.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    if values.len() > PLACES {
        return html! {};
    }
    let places: Vec<(f64, f64)> =
        values.into_iter().filter_map(|value| Some((value, area.x(value)?))).collect();
    html! {
        g class="hover" {
            @for (index, (value, x)) in places.iter().enumerate() {
                @let left = index.checked_sub(1).map_or(*x - 8.0, |left| (places[left].1 + x) / 2.0);
                @let right = places.get(index + 1).map_or(*x + 8.0, |right| (right.1 + x) / 2.0);
                rect x=(px(left)) y=(TOP) width=(px(right - left)) height=(HEIGHT - TOP - BOTTOM) {
                    title { (told(plot, *value, drawn())) }
                }
            }
        }
    }
}

/// What lies at one place of the axis at the bottom.
fn told<'a>(plot: &Plot, value: f64, series: impl Iterator<Item = &'a Series>) -> String {
    let mut text = format!("{}: {}", plot.x.label, number::short(value));
    for series in series {
        for point in series.points.iter().filter(|point| point.0 == value) {
            let name = if series.name.is_empty() { &plot.y.label } else { &series.name };
            let _ = write!(text, "\n{name}: {}", number::short(point.1));
        }
    }
    text
}

/// Dots come last, so that their own titles are found.
fn dots_on_top(area: &Area, plot: &Plot) -> Markup {
    let dots = plot.series.iter().enumerate().filter(|(_, series)| series.shape == Shape::Dots);
    html! {
        @for (index, series) in dots {
            g class=(class(index, series)) {
                @for point in &series.points {
                    @if let Some((x, y)) = area.at(point) {
                        circle class="dot" cx=(px(x)) cy=(px(y)) r="4" {
                            title {
                                (told(plot, point.0, std::iter::once(&Series {
                                    points: vec![*point], ..series.clone()
                                })))
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The repeats of a figure as dots between the least and the most, the median as a line.
pub(super) fn strip(figure: &Figure) -> Markup {
    const WIDTH: f64 = 220.0;
    let span = figure.max - figure.min;
    let place = |value: f64| {
        let share = if span > 0.0 { (value - figure.min) / span } else { 0.5 };
        px(8.0 + share * (WIDTH - 16.0))
    };
    html! {
        svg class="strip" role="img" aria-label="repeats" viewBox={ "0 0 " (WIDTH) " 22" }
            xmlns="http://www.w3.org/2000/svg" {
            line class="range" x1=(place(figure.min)) x2=(place(figure.max)) y1="11" y2="11" {}
            line class="median" x1=(place(figure.median)) x2=(place(figure.median)) y1="2" y2="20" {}
            @for (index, value) in figure.repeats.iter().enumerate() {
                circle class="dot" cx=(place(*value)) cy="11" r="4" {
                    title { "repeat " (index + 1) ": " (number::short(*value)) " " (figure.unit) }
                }
            }
        }
    }
}

/// A place in pixels, to a tenth.
fn px(value: f64) -> String {
    number::trimmed(format!("{value:.1}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::Mark;

    fn simple() -> Plot {
        Plot {
            title: "Loss".to_owned(),
            x: Axis::linear("offered, packets/s"),
            y: Axis::log("loss, %"),
            series: vec![
                Series::new(
                    "up",
                    Shape::Line,
                    vec![(0.0, 1.0), (10.0, 0.0), (20.0, 10.0), (40.0, 100.0)],
                ),
                Series::new("tried", Shape::Dots, vec![(20.0, 10.0)]).toned(Tone::Bad),
            ],
            marks: vec![Mark { x: 30.0, label: "kill <b>".to_owned() }],
            wide: false,
        }
    }

    #[test]
    fn the_drawing_is_as_it_was() {
        let drawn = plot(&simple()).into_string().replace("><", ">\n<") + "\n";
        let golden = include_str!("golden/plot.svg");
        if std::env::var_os("RENEW").is_some() {
            std::fs::write("src/report/golden/plot.svg", &drawn).unwrap();
        }
        assert_eq!(drawn, golden, "RENEW=1 writes it again; look at it first");
    }

    #[test]
    fn a_zero_on_a_logarithmic_axis_is_a_gap() {
        let plot = simple();
        let line = path(&Area::of(&plot), &plot.series[0].points, false);
        assert_eq!(line.matches('M').count(), 2, "{line}");
        assert_eq!(line.matches('L').count(), 1, "{line}");
    }

    #[test]
    fn bars_stand_on_the_axis_and_do_not_overlap() {
        let mut plot = simple();
        plot.y.log = false;
        let points = vec![(10.0, 1.0), (20.0, 3.0), (40.0, 2.0)];
        plot.series = vec![Series::new("n", Shape::Bars, points)];
        plot.marks.clear();
        let area = Area::of(&plot);
        let bars = bars(&area, &plot.series[0].points);
        let bottom = px(HEIGHT - BOTTOM);
        assert_eq!(bars.matches(&format!(" {bottom}V")).count(), 3, "{bars}");
        assert_eq!(area.y.floor(), 0.0);
    }

    #[test]
    fn an_empty_plot_is_still_a_plot() {
        let mut plot = simple();
        plot.series.clear();
        plot.marks.clear();
        let drawn = super::plot(&plot).into_string();
        assert!(drawn.contains("class=\"axis\""), "{drawn}");
    }
}
