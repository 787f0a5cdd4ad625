//! bench-gen's command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::procedure::Procedure;
use crate::procedure::options::{
    Capacity, Establishment, LatencyOptions, LoadedThroughput, LossCurve, Outage, RunOptions,
    SelfCheck, TearDown, ThroughputOptions,
};

const AFTER_HELP: &str = "\
EXAMPLES:
    bench-gen run --profile configs/bench/imix.yaml --html run.html
        Send what the profile says, check every packet that comes back, and write a page with
        figures and plots.

    bench-gen throughput --profile p.yaml --sizes 64,512,1518 --trial 60s --repeats 5
        The fastest rate without loss by frame size, as RFC 2544 asks.

    bench-gen latency --profile p.yaml --throughput 1.2M
        Latency both ways at 10, 50 and 90 % of a throughput that is known.

    bench-gen rfc9693 capacity --profile p.yaml --clear-command 'ip netns exec dut conntrack -F'
        How many sessions fit; the command makes the device forget between trials.

    bench-gen outage --profile p.yaml --at 5s --run 'kill -9 $(cat /run/kronod.pid)' --html o.html
        For how long each flow was silent when something was killed, and which were lost.

    bench-gen throughput --simulate --html look.html
        No device, no packet, no root: how a report looks.

EXIT STATUS:
    0    passed: every packet that arrived was right, and all criteria were met
    1    failed: a wrong delivery, a criterion that was not met, a rate that was not reached;
         or ended before it was done (the report is marked partial); or could not start
    2    mistakes in the profile or on the command line; every one is a line on stderr:
         FILE:LINE: field.path: what is wrong; expected …

A summary goes to stdout, the live view and the log to stderr. Ctrl-C ends with a report of what had
been measured; a second one ends at once. docs/bench-gen.md says how each procedure measures.";

/// Generates traffic through a middlebox, checks every packet that comes back, and measures.
#[derive(Clone, Debug, Parser)]
#[command(name = "bench-gen", version, after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Send what the profile says and check what comes back
    Run(With<RunOptions>),
    /// The fastest rate without loss, by binary search (RFC 2544, RFC 8219)
    Throughput(With<ThroughputOptions>),
    /// Loss at falling rates (RFC 2544)
    LossCurve(With<LossCurve>),
    /// Latency and delay variation at shares of the throughput (RFC 2544, RFC 8219)
    Latency(With<LatencyOptions>),
    /// What stateful translation costs (RFC 9693)
    #[command(subcommand)]
    Rfc9693(Rfc9693),
    /// What flows suffer while something is killed or restarted
    Outage(With<Outage>),
    /// What bench-gen itself can do on this machine, without a device
    SelfCheck(With<SelfCheck>),
    /// Show a report again that was written with --json
    Report(ReportArgs),
}

/// Procedures of RFC 9693.
#[derive(Clone, Debug, Subcommand)]
pub enum Rfc9693 {
    /// The maximum connection establishment rate
    Rate(With<Establishment>),
    /// The capacity of the connection tracking table
    Capacity(With<Capacity>),
    /// Throughput while so many sessions are live
    Throughput(With<LoadedThroughput>),
    /// The connection tear-down rate
    Teardown(With<TearDown>),
}

/// A procedure's own options, and those that all have.
#[derive(Args, Clone, Debug)]
pub struct With<T: Args> {
    /// The procedure's own.
    #[command(flatten)]
    pub own: T,
    /// Those that all have.
    #[command(flatten)]
    pub common: Common,
}

/// Options of every measurement.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// The profile, YAML: what is sent, through which ports
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "simulate",
        help_heading = "General"
    )]
    pub profile: Option<PathBuf>,

    /// Write the report as JSON; - for stdout instead of the summary
    #[arg(long, value_name = "FILE", help_heading = "General")]
    pub json: Option<PathBuf>,

    /// Write the report as one HTML file that opens without a network
    #[arg(long, value_name = "FILE", help_heading = "General")]
    pub html: Option<PathBuf>,

    /// Only validate the profile and the options, without root or devices
    #[arg(long, help_heading = "General")]
    pub check: bool,

    /// Repeat every measurement so often, instead of as often as the profile says
    #[arg(
        long, value_name = "N", help_heading = "General",
        value_parser = clap::value_parser!(u32).range(1..=1000)
    )]
    pub repeats: Option<u32>,

    /// A line a second on stderr instead of the live view
    #[arg(long, help_heading = "General")]
    pub quiet: bool,

    /// What to log: off, error, warn, info, debug or trace; RUST_LOG if it is not given, else info
    #[arg(long, value_name = "L", help_heading = "General")]
    pub log_level: Option<log::LevelFilter>,

    /// Measure a simulated device, without ports: for a look at procedures and reports
    #[arg(long, help_heading = "General")]
    pub simulate: bool,
}

/// What to show of a report.
#[derive(Args, Clone, Debug)]
pub struct ReportArgs {
    /// A report that was written with --json
    #[arg(value_name = "FILE.json")]
    pub file: PathBuf,

    /// Write it as one HTML file; the summary is printed in any case
    #[arg(long, value_name = "OUT")]
    pub html: Option<PathBuf>,
}

impl Command {
    /// The measurement that is asked for; `None`: a report is to be shown.
    pub fn procedure(&self) -> Option<(Procedure, &Common)> {
        Some(match self {
            Command::Run(with) => (Procedure::Run(with.own.clone()), &with.common),
            Command::Throughput(with) => (Procedure::Throughput(with.own.clone()), &with.common),
            Command::LossCurve(with) => (Procedure::LossCurve(with.own.clone()), &with.common),
            Command::Latency(with) => (Procedure::Latency(with.own.clone()), &with.common),
            Command::Rfc9693(rfc9693) => rfc9693.procedure(),
            Command::Outage(with) => (Procedure::Outage(with.own.clone()), &with.common),
            Command::SelfCheck(with) => (Procedure::SelfCheck(with.own.clone()), &with.common),
            Command::Report(_) => return None,
        })
    }
}

impl Rfc9693 {
    fn procedure(&self) -> (Procedure, &Common) {
        match self {
            Rfc9693::Rate(with) => (Procedure::Establishment(with.own.clone()), &with.common),
            Rfc9693::Capacity(with) => (Procedure::Capacity(with.own.clone()), &with.common),
            Rfc9693::Throughput(with) => {
                (Procedure::LoadedThroughput(with.own.clone()), &with.common)
            }
            Rfc9693::Teardown(with) => (Procedure::TearDown(with.own.clone()), &with.common),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(words: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("bench-gen").chain(words.split_whitespace()))
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_procedure_has_its_command() {
        for (words, name) in [
            ("run --max-loss 0.1", "run"),
            ("throughput --sizes 64,1518", "throughput"),
            ("loss-curve --step 5", "loss-curve"),
            ("latency --loads 10,99", "latency"),
            ("rfc9693 rate", "rfc9693 rate"),
            ("rfc9693 capacity", "rfc9693 capacity"),
            ("rfc9693 throughput --sessions 1k,1M", "rfc9693 throughput"),
            ("rfc9693 teardown", "rfc9693 teardown"),
            ("outage --run true", "outage"),
            ("self-check", "self-check"),
        ] {
            let cli =
                parse(&format!("{words} --profile p.yaml --json - --html h --repeats 5 --quiet"))
                    .unwrap_or_else(|error| panic!("{words}: {error}"));
            let (procedure, common) = cli.command.procedure().unwrap();
            assert_eq!(procedure.name(), name);
            assert_eq!((common.repeats, common.quiet), (Some(5), true));
        }
    }

    #[test]
    fn usage_errors_are_exit_2() {
        for words in [
            "",
            "run",
            "run --profile p --repeats 0",
            "throughput --profile p --sizes 63",
            "throughput --profile p --trial 5",
            "outage --profile p",
            "rfc9693 --profile p",
            "report",
        ] {
            assert_eq!(parse(words).unwrap_err().exit_code(), 2, "{words}");
        }
        assert!(parse("run --simulate").is_ok(), "needs no profile");
        assert!(parse("report a.json").unwrap().command.procedure().is_none());
    }

    #[test]
    fn the_help_tells_examples_and_exit_statuses() {
        let help = Cli::command().render_long_help().to_string();
        for words in ["EXAMPLES:", "EXIT STATUS:", "rfc9693", "self-check", "--simulate"] {
            assert!(help.contains(words), "{words}");
        }
    }
}
