//! Latency and delay variation at shares of the throughput, by direction (RFC 2544, 26.2;
//! RFC 8219, 7.2 and 7.3). Every packet is measured, not one in a stream.

use hdrhistogram::Histogram;

use super::course::{Course, Halt};
use super::draft::WAYS;
use super::options::LatencyOptions;
use super::trial::{Setting, named, open_flows, size_name, sizes};
use super::{plots, throughput};
use crate::bench::Seen;
use crate::report::model::Table;
use crate::report::{full, percent, plural, short};

/// What was seen at a load.
struct Load {
    /// `64 bytes at 50 %`.
    name: String,
    /// Packets/s without answers.
    rate: f64,
    /// Of all repeats.
    seen: Seen,
}

pub(super) fn run(course: &mut Course, options: &LatencyOptions) -> Result<(), Halt> {
    course.part("opening the flows");
    open_flows(course, options.search.open_rate)?;
    let mut loads = Vec::new();
    let mut end = Ok(());
    for size in sizes(&options.search) {
        end = of_size(course, options, size, &mut loads);
        if end.is_err() {
            break;
        }
    }
    show(course, &loads);
    end
}

fn of_size(
    course: &mut Course,
    options: &LatencyOptions,
    size: Option<u16>,
    loads: &mut Vec<Load>,
) -> Result<(), Halt> {
    let name = size_name(size);
    let throughput = match options.throughput {
        Some(rate) => rate,
        None => {
            course.part(named("searching the throughput", &name));
            let mut trials = Vec::new();
            let found = throughput::find(course, &options.search, size, &mut trials)?;
            throughput::tell(course, &name, &found, &trials);
            found.rate
        }
    };
    if throughput <= 0.0 {
        return Ok(());
    }
    let setting = Setting::of(&options.search, size);
    for share in &options.loads {
        let load = format!("at {}", percent(*share));
        let load = if name.is_empty() { load } else { format!("{name} {load}") };
        course.repeat(&load, |course| {
            let trial = setting.attempt(course, throughput * share)?;
            if !trial.passed() {
                let loss = percent(trial.loss);
                course.draft.note(format!("{loss} was lost {load} while latency was measured."));
            }
            figures(course, &load, &trial.seen);
            match loads.last_mut().filter(|last| last.name == load) {
                Some(last) => add(&mut last.seen, &trial.seen),
                None => {
                    let (name, rate, seen) = (load.clone(), trial.reached, trial.seen);
                    loads.push(Load { name, rate, seen });
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Adds the histograms of a further repeat.
fn add(sum: &mut Seen, seen: &Seen) {
    for way in 0..2 {
        // These grow as needed; one that does not take a value keeps what it has.
        let _ = sum.latency_ns[way].add(&seen.latency_ns[way]);
        let _ = sum.variation_ns[way].add(&seen.variation_ns[way]);
    }
}

/// The figures of one stage's latency.
pub(super) fn figures(course: &mut Course, load: &str, seen: &Seen) {
    let load = if load.is_empty() { String::new() } else { format!(" {load}") };
    for (way, index) in WAYS {
        let latency = &seen.latency_ns[index as usize];
        if latency.is_empty() {
            continue;
        }
        let draft = &mut course.draft;
        draft.figure(&format!("median latency {way}{load}"), "µs", us(latency, 0.5));
        draft.figure(&format!("99.9 % latency {way}{load}"), "µs", us(latency, 0.999));
    }
}

fn show(course: &mut Course, loads: &[Load]) {
    if loads.is_empty() {
        return;
    }
    let named: Vec<(&str, &Seen)> =
        loads.iter().map(|load| (load.name.as_str(), &load.seen)).collect();
    course.draft.plots.extend(plots::latency("", &named));
    let rows =
        loads.iter().flat_map(|load| rows(&load.name, Some(load.rate), &load.seen)).collect();
    course.draft.tables.push(table(rows));
    course.draft.note(
        "Delay variation (PDV) is the 99.9th percentile less the least latency (RFC 8219, 7.3.1); \
         IPDV is the difference between successive packets of a flow (RFC 5481).",
    );
}

/// Percentiles as a table.
pub(super) fn table(rows: Vec<Vec<String>>) -> Table {
    let columns = [
        "load",
        "direction",
        "packets/s",
        "packets",
        "least",
        "median",
        "90 %",
        "99 %",
        "99.9 %",
        "99.99 %",
        "most",
        "PDV",
        "IPDV 99.9 %",
    ];
    Table {
        title: "One-way latency, µs".to_owned(),
        columns: columns.map(str::to_owned).to_vec(),
        rows,
    }
}

/// A row for each direction that packets arrived in.
pub(super) fn rows(name: &str, rate: Option<f64>, seen: &Seen) -> Vec<Vec<String>> {
    let measured = WAYS.into_iter().filter(|(_, way)| !seen.latency_ns[*way as usize].is_empty());
    let row = |(way, index): (&str, crate::bench::Way)| {
        let latency = &seen.latency_ns[index as usize];
        let least = latency.min() as f64 / 1000.0;
        let mut row = vec![
            name.to_owned(),
            way.to_owned(),
            rate.map_or("–".to_owned(), full),
            full(latency.len() as f64),
            short(least),
        ];
        row.extend([0.5, 0.9, 0.99, 0.999, 0.9999, 1.0].map(|share| short(us(latency, share))));
        row.push(short(us(latency, 0.999) - least));
        row.push(short(us(&seen.variation_ns[index as usize], 0.999)));
        row
    };
    measured.map(row).collect()
}

/// A quantile in microseconds.
fn us(histogram: &Histogram<u64>, share: f64) -> f64 {
    histogram.value_at_quantile(share) as f64 / 1000.0
}

/// Notes how much a quantile is worth.
pub(super) fn note_packets(course: &mut Course, seen: &Seen) {
    let packets = seen.latency_ns.iter().map(Histogram::len).min().unwrap_or(0);
    if packets > 0 && packets < 10_000 {
        course.draft.note(format!(
            "Latency is that of {}: percentiles above 99.9 % rest on few of them.",
            plural(packets, "packet")
        ));
    }
}
