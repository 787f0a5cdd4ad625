//! Procedures on the simulated device, whose truth is known.

use std::time::Duration;

use clap::{Args, Command, FromArgMatches};

use super::options::RunOptions;
use super::{Audience, Doing, Procedure};
use crate::bench::{Snapshot, Watch};
use crate::load::{Popularity, Profile, Rate};
use crate::report::model::{Figure, Report, Verdict};
use crate::simulated::{Device, Simulated, profile};

/// Options as the command line would give them.
fn options<T: Args + FromArgMatches>(words: &str) -> T {
    let words = std::iter::once("test").chain(words.split_whitespace());
    let matches = T::augment_args(Command::new("test")).get_matches_from(words);
    T::from_arg_matches(&matches).unwrap()
}

fn measure(procedure: &Procedure, device: Device, profile: &Profile) -> Report {
    procedure.carry_out(profile, &mut Simulated::new(device, profile), &mut ())
}

fn figure<'a>(report: &'a Report, name: &str) -> &'a Figure {
    let names: Vec<&str> = report.figures.iter().map(|figure| figure.name.as_str()).collect();
    let found = report.figures.iter().find(|figure| figure.name == name);
    found.unwrap_or_else(|| panic!("no {name} in {names:?}; {:?}", report.complaints))
}

fn about(figure: &Figure, value: f64, share: f64) {
    assert!((figure.median / value - 1.0).abs() < share, "{figure:?} is not about {value}");
    assert!(figure.min <= figure.median && figure.median <= figure.max);
}

/// Ends a procedure after so many looks, and remembers what it was told.
#[derive(Default)]
struct Listener {
    looks: u32,
    end_after: Option<u32>,
    heard: Vec<Doing>,
}

impl Watch for Listener {
    fn look(&mut self, _: &Snapshot) -> bool {
        self.looks += 1;
        !self.ended()
    }
}

impl Audience for Listener {
    fn turn(&mut self, doing: &Doing) {
        self.heard.push(doing.clone());
    }

    fn ended(&self) -> bool {
        self.end_after.is_some_and(|end| self.looks >= end)
    }
}

#[test]
fn throughput_is_the_capacity_without_loss() {
    let procedure = Procedure::Throughput(options("--resolution 0.5"));
    let report = measure(&procedure, Device::default(), &Profile { rate: Rate::Max, ..profile() });
    assert_eq!(report.verdict(), Verdict::Passed, "{:?}", report.complaints);
    let throughput = figure(&report, "throughput");
    about(throughput, 2.4e6, 0.03);
    assert!(throughput.max <= 2.4e6 * 1.011 && throughput.repeats.len() == 3);
    about(figure(&report, "offered rate"), 1.2e6, 0.03);
    assert!(report.plots.iter().any(|plot| plot.title.contains("bracket")));
}

#[test]
fn sizes_are_searched_one_by_one() {
    let procedure = Procedure::Throughput(options("--sizes 64,1518 --max-rate 2M"));
    let report = measure(&procedure, Device::default(), &profile());
    let small = figure(&report, "throughput, 64 bytes").median;
    assert!(figure(&report, "throughput, 1518 bytes").median < small);
    let table = report.tables.iter().find(|table| table.title == "Throughput").unwrap();
    assert_eq!(table.rows.len(), 2);
}

#[test]
fn the_loss_criterion_decides() {
    let device = || Device { loss: 0.001, ..Device::default() };
    let strict = Procedure::Throughput(options("--max-rate 2M"));
    let report = measure(&strict, device(), &profile());
    assert_eq!(report.verdict(), Verdict::Failed);
    assert!(report.complaints[0].contains("at every rate"), "{:?}", report.complaints);
    let lenient = Procedure::Throughput(options("--max-rate 2M --loss 0.5"));
    let report = measure(&lenient, device(), &profile());
    assert_eq!(report.verdict(), Verdict::Passed, "{:?}", report.complaints);
}

#[test]
fn a_generator_that_is_too_slow_is_told_to_be_the_limit() {
    let procedure = Procedure::Throughput(options("--max-rate 2M"));
    let device = Device { generator_pps: 300e3, ..Device::default() };
    let report = measure(&procedure, device.clone(), &profile());
    assert_eq!(report.verdict(), Verdict::Passed);
    assert!(report.notes.iter().any(|note| note.contains("at least that much")), "{report:?}");
    about(figure(&report, "offered rate"), 300e3, 0.01);

    let report = measure(&Procedure::Run(RunOptions::default()), device, &profile());
    assert_eq!(report.verdict(), Verdict::Failed);
    let complaint = &report.complaints[0];
    assert!(complaint.contains("300,000 packets/s of 500,000"), "{complaint}");
}

#[test]
fn the_loss_curve_ends_after_two_rates_without_loss() {
    let procedure = Procedure::LossCurve(options("--max-rate 2M"));
    let report = measure(&procedure, Device::default(), &profile());
    let table = report.tables.iter().find(|table| table.title == "Loss by rate").unwrap();
    let losses: Vec<&str> = table.rows.iter().map(|row| row[3].as_str()).collect();
    // 1.2 M, at 60 %, is the capacity: by the noise a repeat loses a little there or nothing.
    assert!(losses[0].starts_with("39.") || losses[0].starts_with("40."), "{losses:?}");
    assert!(losses.ends_with(&["0 %", "0 %"]), "{losses:?}");
    assert!((6..=7).contains(&losses.len()), "{losses:?}");
    assert_eq!(report.plots[0].title, "Loss curve");
}

#[test]
fn latency_rises_with_load() {
    let procedure = Procedure::Latency(options("--throughput 1.2M"));
    let report = measure(&procedure, Device::default(), &profile());
    let median = |load: &str| figure(&report, &format!("median latency up at {load}")).median;
    assert!(median("10 %") < median("50 %") && median("50 %") < median("90 %"));
    assert!(median("10 %") > 7.0 && median("10 %") < 12.0, "µs: {}", median("10 %"));
    let table = report.tables.iter().find(|table| table.title.contains("latency")).unwrap();
    assert_eq!(table.rows.len(), 6, "three loads, both ways");
    let number = |cell: &str| cell.parse::<f64>().unwrap();
    for row in &table.rows {
        let (least, p999, pdv) = (number(&row[4]), number(&row[8]), number(&row[11]));
        assert!((p999 - least - pdv).abs() < pdv * 1e-3, "{row:?}");
    }
}

#[test]
fn the_establishment_rate_is_found() {
    let procedure = Procedure::Establishment(options("--sessions 100k --clear-command true"));
    let report = measure(&procedure, Device::default(), &profile());
    assert_eq!(report.verdict(), Verdict::Passed, "{:?}", report.complaints);
    about(figure(&report, "maximum connection establishment rate"), 180e3, 0.03);
}

#[test]
fn the_capacity_is_found_and_what_is_not_cleared_is_told() {
    let device = Device { table: 54_321, ..Device::default() };
    let mut profile = profile();
    profile.load.flows = 1_000_000;
    let procedure = Procedure::Capacity(options("--open-rate 50k"));
    let report = measure(&procedure, device.clone(), &profile);
    about(figure(&report, "connection tracking table capacity"), 54_321.0, 0.02);
    assert!(figure(&report, "connection tracking table capacity").max <= 54_321.0);
    assert!(report.notes.iter().any(|note| note.contains("--clear-command")), "{:?}", report.notes);

    profile.load.flows = 20_000;
    let report = measure(&procedure, device, &profile);
    assert_eq!(figure(&report, "connection tracking table capacity").median, 20_000.0);
    assert!(report.notes.iter().any(|note| note.contains("at least")), "{:?}", report.notes);
}

#[test]
fn throughput_by_sessions_and_tear_down() {
    let procedure = Procedure::LoadedThroughput(options(
        "--sessions 1k,10k --max-rate 2M --clear-command true",
    ));
    let report = measure(&procedure, Device::default(), &profile());
    about(figure(&report, "throughput, with 1,000 sessions"), 2.4e6, 0.04);
    about(figure(&report, "throughput, with 10,000 sessions"), 2.4e6, 0.04);

    let mut profile = profile();
    profile.load.flows = 50_000;
    let procedure = Procedure::TearDown(options("--sessions 50k"));
    assert!(procedure.mistakes(&profile)[0].contains("no TCP"));
    profile.load.protocols = [0, 1, 0];
    let report = measure(&procedure, Device::default(), &profile);
    about(figure(&report, "connection tear-down rate"), 250e3, 0.02);
    let procedure = Procedure::TearDown(options("--sessions 50k --clear-command true"));
    let report = measure(&procedure, Device::default(), &profile);
    assert!(figure(&report, "connection tear-down rate").median > 0.0);
}

#[test]
fn an_outage_is_measured_by_flow() {
    let outage = Some((Duration::from_secs(5), Duration::from_millis(300)));
    let device = Device { outage, lost: 0.02, ..Device::default() };
    let profile = Profile { repeats: 2, ..profile() };
    let words = "--run true --at 5s --duration 10s --restore true --settle 1ms";
    let report = measure(&Procedure::Outage(options(words)), device.clone(), &profile);
    assert_eq!(report.verdict(), Verdict::Passed, "{:?}", report.complaints);
    about(figure(&report, "median outage of a flow"), 340.0, 0.2);
    about(figure(&report, "flows lost for good"), 200.0, 0.3);
    let timeline = report.plots.iter().find(|plot| plot.title == "Outage timeline").unwrap();
    let at = timeline.marks[0].x;
    assert!((at - 5.0).abs() < 0.15, "{at}");
    let silent = timeline.series[0].points.iter().filter(|point| point.1 == 0.0).count();
    assert_eq!(silent, 3, "tenths of a second");

    let strict = format!("{words} --max-outage 100ms --max-lost 5");
    let report = measure(&Procedure::Outage(options(&strict)), device, &profile);
    assert!(report.complaints[0].contains("silent for"), "{:?}", report.complaints);
    assert!(report.complaints[1].contains("lost for good"), "{:?}", report.complaints);
}

#[test]
fn a_wrong_delivery_ends_and_fails_a_run_and_is_named() {
    let device = Device { wrong: 3, ..Device::default() };
    let report = measure(&Procedure::Run(RunOptions::default()), device, &profile());
    assert_eq!(report.verdict(), Verdict::Failed);
    assert!(report.complaints[0].starts_with("wrong_subscriber: 3 packets"), "{report:?}");
    assert!(report.complaints[1].starts_with("for example: 10.0.3.17:40211"), "{report:?}");
    assert_eq!(figure(&report, "loss").repeats.len(), 1, "no further repeat");
    assert!(!report.plots.is_empty(), "what was seen is shown");
}

#[test]
fn ended_early_is_partial_and_shows_what_was_measured() {
    let profile = profile();
    let mut listener = Listener { end_after: Some(130), ..Listener::default() };
    let mut bench = Simulated::new(Device::default(), &profile);
    let report =
        Procedure::Run(RunOptions::default()).carry_out(&profile, &mut bench, &mut listener);
    assert_eq!(report.verdict(), Verdict::Partial);
    assert!(report.partial && !report.passed);
    assert_eq!(figure(&report, "loss").repeats.len(), 2, "the second ended at 3 s of 10");

    let mut listener = Listener { end_after: Some(450), ..Listener::default() };
    let search = Procedure::Throughput(options("--max-rate 2M"));
    let report = search.carry_out(&profile, &mut bench, &mut listener);
    assert_eq!(report.verdict(), Verdict::Partial);
    let trials = report.tables.iter().find(|table| table.title == "Trials").unwrap();
    assert!(trials.rows.len() >= 2, "{trials:?}");
    assert!(report.notes.iter().any(|note| note.contains("between")), "{:?}", report.notes);

    let mut listener = Listener { end_after: Some(80), ..Listener::default() };
    let outage = Procedure::Outage(options("--run true --at 5s --duration 10s"));
    let report = outage.carry_out(&profile, &mut bench, &mut listener);
    assert_eq!(report.verdict(), Verdict::Partial, "{:?}", report.complaints);
    assert!(figure(&report, "packets lost").median >= 0.0);
    assert_eq!(report.plots[0].title, "Outage timeline");
}

#[test]
fn loss_is_told_and_fails_if_it_is_more_than_allowed() {
    let device = Device { loss: 0.01, ..Device::default() };
    let run = |words| measure(&Procedure::Run(options(words)), device.clone(), &profile());
    let report = run("");
    assert_eq!(report.verdict(), Verdict::Passed, "{:?}", report.complaints);
    assert!(report.notes.iter().any(|note| note.starts_with("Lost: ")), "{:?}", report.notes);
    let report = run("--max-loss 0.1");
    assert_eq!(report.verdict(), Verdict::Failed);
    assert!(report.complaints[0].ends_with("more than 0.1 %"), "{:?}", report.complaints);
    assert_eq!(run("--max-loss 5").verdict(), Verdict::Passed);
}

#[test]
fn a_device_that_may_forget_its_sessions_has_moved_them() {
    let words = "--run true --at 5s --duration 10s";
    let device = Device { moved: 25, ..Device::default() };
    let report = measure(&Procedure::Outage(options(words)), device.clone(), &profile());
    assert_eq!(report.verdict(), Verdict::Failed);
    assert!(report.complaints[0].starts_with("second_endpoint: 25 packets"), "{report:?}");
    assert_eq!(figure(&report, "packets lost").repeats.len(), 1, "what was seen is told");

    let words = format!("{words} --may-forget");
    let report = measure(&Procedure::Outage(options(&words)), device, &profile());
    assert_eq!(report.verdict(), Verdict::Passed, "{:?}", report.complaints);
    assert_eq!(figure(&report, "flows with another public endpoint").median, 25.0);
}

#[test]
fn a_search_says_what_remains() {
    let profile = Profile { repeats: 1, ..profile() };
    let mut listener = Listener::default();
    let mut bench = Simulated::new(Device::default(), &profile);
    let search = Procedure::Throughput(options("--max-rate 2M"));
    search.carry_out(&profile, &mut bench, &mut listener);
    let searches: Vec<_> =
        listener.heard.iter().filter_map(|doing| doing.search.as_ref()).collect();
    let remaining: Vec<u32> = searches.iter().map(|search| search.bracket.remaining()).collect();
    assert!(remaining.len() > 4, "{remaining:?}");
    assert!(*remaining.last().unwrap() <= 1, "{remaining:?}");
    assert_eq!(searches.last().unwrap().tried.len(), remaining.len() - 1);
}

#[test]
fn the_self_check_finds_ceiling_floor_and_accuracy() {
    // Back to back, as many sessions open as are sent.
    let device = Device {
        capacity_pps: 1e9,
        generator_pps: 3e6,
        establish_per_s: f64::INFINITY,
        ..Device::default()
    };
    let report = measure(&Procedure::SelfCheck(options("")), device, &profile());
    assert_eq!(report.verdict(), Verdict::Passed, "{:?}", report.complaints);
    about(figure(&report, "ceiling, sent"), 3e6, 0.01);
    assert_eq!(figure(&report, "rate error at 1,000,000 packets/s").repeats, [0.0; 3]);
    let lossy = Device { loss: 0.01, ..Device::default() };
    let report = measure(&Procedure::SelfCheck(options("")), lossy, &profile());
    assert_eq!(report.verdict(), Verdict::Failed);
}

#[test]
fn every_report_survives_json() {
    let profile = Profile { repeats: 1, ..profile() };
    for procedure in
        [Procedure::Run(RunOptions::default()), Procedure::Throughput(options("--max-rate 2M"))]
    {
        let report = measure(&procedure, Device::default(), &profile);
        let json = serde_json::to_string(&report).unwrap();
        let read: Report = serde_json::from_str(&json).unwrap();
        assert_eq!(read.figures.len(), report.figures.len());
        assert_eq!(read.setup, report.setup);
        let points = |report: &Report| -> Vec<usize> {
            let series = report.plots.iter().flat_map(|plot| &plot.series);
            series.map(|series| series.points.len()).collect()
        };
        assert!(points(&read) == points(&report));
    }
}

#[test]
fn flows_by_size_are_shown_for_heavy_tails() {
    let mut profile = Profile { repeats: 1, ..profile() };
    profile.load.popularity = Popularity::Zipf(1.1);
    let report = measure(&Procedure::Run(RunOptions::default()), Device::default(), &profile);
    let plot = report.plots.iter().find(|plot| plot.title == "Flows by size").unwrap();
    assert!(plot.x.log && plot.y.log && plot.series[0].points.len() > 5);
}

#[test]
fn what_cannot_be_measured_is_a_mistake_before_it_begins() {
    let profile = profile();
    let mistakes = |procedure: Procedure| procedure.mistakes(&profile).len();
    assert_eq!(mistakes(Procedure::Throughput(options("--sizes 64,1518"))), 0);
    assert_eq!(mistakes(Procedure::Throughput(options("--sizes 64,1519,9000"))), 2);
    assert_eq!(mistakes(Procedure::Establishment(options("--sessions 20k"))), 1);
    assert_eq!(mistakes(Procedure::Outage(options("--run true --at 9s --duration 9s"))), 1);
    assert_eq!(
        mistakes(Procedure::LoadedThroughput(options("--sessions 20k,30k --sizes 64,65"))),
        3
    );
}
