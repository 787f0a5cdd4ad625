//! Plots of what a stage saw.

use hdrhistogram::Histogram;

use super::draft::WAYS;
use crate::bench::{Seen, Snapshot, Way};
use crate::report::model::{Axis, Mark, Plot, Series, Shape, Tone};

/// A series is drawn with at most so many points: about one for each pixel.
const POINTS: usize = 600;
/// Bars of a latency histogram for each tenfold.
const BARS: f64 = 20.0;

/// Latency as a histogram and as the share of packets that took longer, both on logarithmic axes.
pub(super) fn latency(when: &str, seen: &[(&str, &Seen)]) -> Vec<Plot> {
    let when = if when.is_empty() { String::new() } else { format!(" {when}") };
    let named = |draw: fn(&Histogram<u64>) -> Vec<(f64, f64)>, shape: Shape| {
        let mut all = Vec::new();
        for (name, seen) in seen {
            for (way, index) in WAYS {
                let histogram = &seen.latency_ns[index as usize];
                let apart = if name.is_empty() { "" } else { " " };
                if !histogram.is_empty() {
                    all.push(Series::new(&format!("{way}{apart}{name}"), shape, draw(histogram)));
                }
            }
        }
        all
    };
    let density = named(density, if seen.len() > 1 { Shape::Line } else { Shape::Bars });
    if density.is_empty() {
        return Vec::new();
    }
    let x = || Axis::log("one-way latency, µs");
    vec![
        Plot {
            title: format!("Latency histogram{when}"),
            x: x(),
            y: Axis::linear("packets, % of a direction"),
            series: density,
            marks: Vec::new(),
            wide: false,
        },
        Plot {
            title: format!("Latency: share of packets that took longer{when}"),
            x: x(),
            y: Axis::log("packets that took longer, %"),
            series: named(longer, Shape::Line),
            marks: Vec::new(),
            wide: false,
        },
    ]
}

/// Bars of equal ratio: (microseconds at the middle, percent).
fn density(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    log_bins(histogram, BARS)
        .into_iter()
        .map(|(middle, count)| (middle / 1000.0, count as f64 * 100.0 / histogram.len() as f64))
        .collect()
}

/// Counts by bins of equal ratio, each with its middle; bins between that are empty are there.
fn log_bins(histogram: &Histogram<u64>, per_decade: f64) -> Vec<(f64, u64)> {
    let bin = |value: u64| ((value.max(1) as f64).log10() * per_decade + 1e-9).floor() as i64;
    let mut bins: Vec<(i64, u64)> = Vec::new();
    for step in histogram.iter_recorded() {
        let (here, count) = (bin(step.value_iterated_to()), step.count_since_last_iteration());
        let next = bins.last().map_or(here, |last| last.0 + 1);
        bins.extend((next..=here).map(|bin| (bin, 0)));
        if let Some(last) = bins.last_mut() {
            last.1 += count;
        }
    }
    let middle = |bin: i64| 10f64.powf((bin as f64 + 0.5) / per_decade);
    bins.into_iter().map(|(bin, count)| (middle(bin), count)).collect()
}

/// (microseconds, percent of packets that took longer).
fn longer(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let total = histogram.len() as f64;
    let mut rest = histogram.len();
    let mut points = Vec::new();
    for step in histogram.iter_recorded() {
        rest -= step.count_since_last_iteration();
        points.push((step.value_iterated_to() as f64 / 1000.0, rest as f64 * 100.0 / total));
    }
    // The last is at zero, which has no place on a logarithmic axis.
    points.retain(|point| point.1 > 0.0);
    thinned(points)
}

/// Flows by how many packets they had, both axes logarithmic.
pub(super) fn flow_sizes(seen: &Seen) -> Option<Plot> {
    let flows = &seen.flow_packets;
    if flows.is_empty() {
        return None;
    }
    let points: Vec<(f64, f64)> = log_bins(flows, 8.0)
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(middle, count)| (middle, count as f64))
        .collect();
    // Flows that are all alike need no plot.
    (points.len() > 3).then(|| Plot {
        title: "Flows by size".to_owned(),
        x: Axis::log("packets of a flow"),
        y: Axis::log("flows, in bins of an eighth of a decade"),
        series: vec![Series::new("flows", Shape::Dots, points)],
        marks: Vec::new(),
        wide: false,
    })
}

/// Something of each tenth of a second over time: (seconds at its beginning, value), the last one
/// held to its end.
fn over_time(seen: &Seen, value: impl Fn(&Snapshot) -> f64) -> Vec<(f64, f64)> {
    let tenths = (0u32..).map(|tenth| f64::from(tenth) / 10.0);
    let points = tenths.zip(&seen.series).map(|(time, tenth)| (time, value(tenth))).collect();
    let mut points = averaged(points);
    if let Some(last) = points.last() {
        points.push((seen.series.len() as f64 / 10.0, last.1));
    }
    points
}

/// What arrived, packets a tenth of a second, by direction.
pub(super) fn timeline(title: &str, seen: &Seen, marks: Vec<Mark>) -> Plot {
    let of = |(name, way): (&str, Way)| {
        let points = over_time(seen, |tenth| tenth.counts[way as usize].received as f64);
        Series::new(name, Shape::Steps, points)
    };
    let flown = |series: &Series| series.points.iter().any(|point| point.1 > 0.0);
    Plot {
        title: title.to_owned(),
        x: Axis::linear("time, s"),
        y: Axis::linear("arrived, packets in 100 ms"),
        series: WAYS.into_iter().map(of).filter(flown).collect(),
        marks,
        wide: true,
    }
}

/// The part of a plot from `from` to `to`, under another title.
pub(super) fn cut(mut plot: Plot, title: &str, from: f64, to: f64) -> Plot {
    plot.title = title.to_owned();
    for series in &mut plot.series {
        series.points.retain(|point| (from..=to).contains(&point.0));
    }
    plot
}

/// Due, not arrived by then: packets lost, not sent or late, by direction; `None` where there are none.
pub(super) fn missing(seen: &Seen, marks: Vec<Mark>) -> Option<Plot> {
    let of = |(name, way): (&str, Way)| {
        let points = over_time(seen, |tenth| {
            let counts = &tenth.counts[way as usize];
            (counts.sent + counts.unsent).saturating_sub(counts.received) as f64
        });
        Series::new(name, Shape::Steps, points)
    };
    let any = seen.total.counts.iter().any(|counts| counts.lost + counts.unsent > 0);
    any.then(|| Plot {
        title: "Missing: due and not arrived".to_owned(),
        x: Axis::linear("time, s"),
        y: Axis::linear("missing, packets in 100 ms"),
        series: WAYS.into_iter().map(of).collect(),
        marks,
        wide: true,
    })
}

/// Sessions opened, and those that did not open, per second; `None` where there are none.
pub(super) fn connections(title: &str, seen: &Seen) -> Option<Plot> {
    let opened = over_time(seen, |tenth| tenth.opened as f64 * 10.0);
    let failed = over_time(seen, |tenth| tenth.not_opened as f64 * 10.0);
    let any = seen.series.iter().any(|tenth| tenth.opened + tenth.not_opened > 0);
    let mut series = vec![Series::new("opened", Shape::Steps, opened)];
    if failed.iter().any(|point| point.1 > 0.0) {
        series.push(Series::new("did not open", Shape::Steps, failed).toned(Tone::Bad));
    }
    any.then(|| Plot {
        title: title.to_owned(),
        x: Axis::linear("time, s"),
        y: Axis::linear("sessions/s"),
        series,
        marks: Vec::new(),
        wide: false,
    })
}

/// How many flows were silent for how long: percent of flows that were silent for longer.
pub(super) fn outages(seen: &Seen) -> Option<Plot> {
    let outage = &seen.outage_ms;
    if outage.is_empty() || outage.max() == 0 {
        return None;
    }
    let total = outage.len() as f64;
    let mut rest = outage.len();
    let mut points = vec![(0.0, 100.0)];
    for step in outage.iter_recorded() {
        rest -= step.count_since_last_iteration();
        points.push((step.value_iterated_to() as f64, rest as f64 * 100.0 / total));
    }
    Some(Plot {
        title: "Outage by flow".to_owned(),
        x: Axis::linear("silent for, ms"),
        y: Axis::linear("flows silent for longer, %"),
        series: vec![Series::new("flows", Shape::Steps, thinned(points))],
        marks: Vec::new(),
        wide: false,
    })
}

/// At most [`POINTS`], each the mean of those in its place.
fn averaged(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let together = points.len().div_ceil(POINTS).max(1);
    let mean = |group: &[(f64, f64)]| {
        let sum: f64 = group.iter().map(|point| point.1).sum();
        (group[0].0, sum / group.len() as f64)
    };
    points.chunks(together).map(mean).collect()
}

/// At most [`POINTS`], the last among them.
fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let apart = points.len().div_ceil(POINTS).max(1);
    let last = points.len().saturating_sub(1);
    let kept = points.into_iter().enumerate();
    kept.filter(|(index, _)| index % apart == 0 || *index == last).map(|(_, point)| point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_hold_every_packet_once() {
        let mut histogram = Histogram::new(3).unwrap();
        for value in [1000u64, 1000, 1500, 90_000, 100_000] {
            histogram.record(value).unwrap();
        }
        let bins = log_bins(&histogram, 10.0);
        assert_eq!(bins.iter().map(|bin| bin.1).sum::<u64>(), 5);
        assert!(bins.windows(2).all(|pair| (pair[1].0 / pair[0].0 - 1.2589).abs() < 1e-3));
        let shares: f64 = density(&histogram).iter().map(|point| point.1).sum();
        assert!((shares - 100.0).abs() < 1e-9);
    }

    #[test]
    fn the_share_that_took_longer_falls_to_the_last() {
        let mut histogram = Histogram::new(3).unwrap();
        for value in 1..=1000u64 {
            histogram.record(value * 1000).unwrap();
        }
        let points = longer(&histogram);
        assert!(points.windows(2).all(|pair| pair[1].1 <= pair[0].1));
        assert!((points.last().unwrap().1 - 0.1).abs() < 0.11, "{:?}", points.last());
        assert!(points.len() <= POINTS + 1);
    }

    #[test]
    fn long_series_are_averaged_and_keep_their_sum() {
        let points: Vec<(f64, f64)> = (0..6000).map(|i| (f64::from(i), 2.0)).collect();
        let averaged = averaged(points);
        assert!(averaged.len() <= POINTS && averaged.iter().all(|point| point.1 == 2.0));
    }
}
