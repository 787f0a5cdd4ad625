//! The frame-loss curve (RFC 2544, 26.3): loss at falling rates, until two in a row have none.

use super::course::{Course, Halt};
use super::options::LossCurve;
use super::trial::{Setting, Trial, losses, named, open_flows, profile_rate, size_name, sizes};
use crate::report::model::{Axis, Figure, Plot, Series, Shape, Table};
use crate::report::{full, percent};

/// A trial with its size and its rate as a share of the first.
type Point = (Option<u16>, f64, Trial);

pub(super) fn run(course: &mut Course, options: &LossCurve) -> Result<(), Halt> {
    course.part("opening the flows");
    open_flows(course, options.throughput.open_rate)?;
    let mut points = Vec::new();
    let mut end = Ok(());
    for size in sizes(&options.throughput) {
        end = course.repeat(&size_name(size), |course| curve(course, options, size, &mut points));
        if end.is_err() {
            break;
        }
    }
    show(course, &points);
    end
}

fn curve(
    course: &mut Course,
    options: &LossCurve,
    size: Option<u16>,
    points: &mut Vec<Point>,
) -> Result<(), Halt> {
    let setting = Setting::of(&options.throughput, size);
    let mut limit = options.throughput.max_rate.unwrap_or_else(|| profile_rate(course, size));
    let step = options.step.max(0.001);
    let mut without_loss = 0;
    let mut share = 1.0;
    while share > step / 2.0 && without_loss < 2 {
        let trial = setting.attempt(course, limit * share)?;
        without_loss = if trial.loss > 0.0 { 0 } else { without_loss + 1 };
        if share == 1.0 {
            // Of one that was as fast as possible it is known only now how fast that is.
            limit = limit.min(trial.reached);
            let name = named("loss at the first rate", &size_name(size));
            course.draft.figure(&name, "%", trial.loss * 100.0);
        }
        if let super::search::Outcome::Short(reached) = trial.outcome
            && trial.wanted.is_finite()
        {
            course.draft.note(format!(
                "Not more than {} packets/s could be offered where {} were wanted.",
                full(reached),
                full(trial.wanted)
            ));
        }
        points.push((size, share, trial));
        share -= step;
    }
    Ok(())
}

fn show(course: &mut Course, points: &[Point]) {
    if points.is_empty() {
        return;
    }
    let mut sizes: Vec<Option<u16>> = points.iter().map(|(size, ..)| *size).collect();
    sizes.dedup();
    let mut plot = Plot {
        title: "Loss curve".to_owned(),
        x: Axis::linear("offered rate, packets/s"),
        y: Axis::linear("loss, %"),
        series: Vec::new(),
        marks: Vec::new(),
        wide: false,
    };
    let mut rows = Vec::new();
    for size in sizes {
        let of: Vec<&Point> = points.iter().filter(|(of, ..)| *of == size).collect();
        let name = size.map_or("loss".to_owned(), |size| format!("{size} bytes"));
        plot.series.push(Series::new(&name, Shape::Line, medians(&of, &mut rows)));
        let dots = of.iter().map(|(.., trial)| (trial.reached, trial.loss * 100.0)).collect();
        plot.series.push(Series::new(&format!("{name}, repeats"), Shape::Dots, dots));
    }
    course.draft.plots.push(plot);
    let columns =
        ["frame size", "rate", "offered packets/s", "loss", "least", "most", "of the last"];
    course.draft.tables.push(Table {
        title: "Loss by rate".to_owned(),
        columns: columns.map(str::to_owned).to_vec(),
        rows,
    });
}

/// The median loss of each rate, as points and as rows.
fn medians(points: &[&Point], rows: &mut Vec<Vec<String>>) -> Vec<(f64, f64)> {
    let mut shares: Vec<f64> = points.iter().map(|(_, share, _)| *share).collect();
    shares.sort_by(|a, b| b.total_cmp(a));
    shares.dedup();
    let mut line = Vec::new();
    for share in shares {
        let of: Vec<&&Point> = points.iter().filter(|point| point.1 == share).collect();
        let figure = |value: fn(&Trial) -> f64| {
            Figure::of("", "", of.iter().map(|(.., trial)| value(trial)).collect())
        };
        let (Some(loss), Some(rate), Some((size, _, last))) =
            (figure(|trial| trial.loss), figure(|trial| trial.reached), of.last())
        else {
            continue;
        };
        line.push((rate.median, loss.median * 100.0));
        rows.push(vec![
            size.map_or("profile".to_owned(), |size| size.to_string()),
            percent(share),
            full(rate.median),
            percent(loss.median),
            percent(loss.min),
            percent(loss.max),
            losses(last),
        ]);
    }
    line
}
