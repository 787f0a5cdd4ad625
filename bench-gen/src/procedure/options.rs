//! What can be asked of procedures, as the command line says it.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::bench::Ways;
use crate::engine::Cable;

/// The profile as it is.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct RunOptions {
    /// Fail if more is lost, in percent of the packets sent; if not given, loss is only told
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub max_loss: Option<f64>,
}

/// How a throughput is searched.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct ThroughputOptions {
    /// Frame sizes, each searched by itself, such as 64,128,256,512,1024,1280,1518 (RFC 2544, 9.1);
    /// the profile's sizes if not given
    #[arg(long, value_name = "BYTES,…", value_delimiter = ',', value_parser = frame)]
    pub sizes: Vec<u16>,

    /// The rate to begin with, packets/s without answers; the profile's rate if not given, or what
    /// bench-gen reaches if that is max
    #[arg(long, value_name = "PPS", value_parser = number)]
    pub max_rate: Option<f64>,

    /// End when the bracket is that narrow, in percent of its upper end
    #[arg(long, value_name = "PERCENT", default_value = "1", value_parser = percent)]
    pub resolution: f64,

    /// Loss that still passes, in percent of the packets sent
    #[arg(long, value_name = "PERCENT", default_value = "0", value_parser = percent)]
    pub loss: f64,

    /// Length of a trial; RFC 2544, 24 asks for at least 60s
    #[arg(long, value_name = "DUR", default_value = "10s", value_parser = duration)]
    pub trial: Duration,

    /// From which side packets come
    #[arg(long, value_name = "WAYS", default_value = "both")]
    pub ways: WaysArg,

    /// Before the trials all flows are opened, so many a second
    #[arg(long, value_name = "PER_S", default_value = "10k", value_parser = number)]
    pub open_rate: f64,
}

/// The frame-loss curve.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct LossCurve {
    /// How trials are made
    #[command(flatten)]
    pub throughput: ThroughputOptions,

    /// By how much each trial is slower than the one before, in percent of the first; RFC 2544,
    /// 26.3 asks for 10 or less
    #[arg(long, value_name = "PERCENT", default_value = "10", value_parser = percent)]
    pub step: f64,
}

/// Latency under load.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct LatencyOptions {
    /// How the throughput is searched
    #[command(flatten)]
    pub search: ThroughputOptions,

    /// The throughput, if it is known: it is not searched then
    #[arg(long, value_name = "PPS", value_parser = number)]
    pub throughput: Option<f64>,

    /// Loads in percent of the throughput
    #[arg(
        long, value_name = "PERCENT,…", value_delimiter = ',', default_value = "10,50,90",
        value_parser = percent
    )]
    pub loads: Vec<f64>,
}

/// How a device is brought to forget its sessions between trials.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct Clearing {
    /// A command, run by sh, after which the device has no session
    #[arg(long, value_name = "CMD")]
    pub clear_command: Option<String>,

    /// Wait so long between trials: over the device's timeout, where there is no command for it
    #[arg(long, value_name = "DUR", value_parser = duration)]
    pub clear_wait: Option<Duration>,

    /// Probe so many sessions a second when it is validated that each is there
    #[arg(long, value_name = "PER_S", default_value = "10k", value_parser = number)]
    pub probe_rate: f64,
}

/// The maximum connection establishment rate.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct Establishment {
    /// Sessions in a trial; the profile's flows if not given
    #[arg(long, value_name = "N", value_parser = whole)]
    pub sessions: Option<u32>,

    /// The rate to begin with, sessions/s
    #[arg(long, value_name = "PER_S", default_value = "1M", value_parser = number)]
    pub max_rate: f64,

    /// End when the bracket is that narrow, in percent of its upper end
    #[arg(long, value_name = "PERCENT", default_value = "1", value_parser = percent)]
    pub resolution: f64,

    /// How the device forgets
    #[command(flatten)]
    pub clearing: Clearing,
}

/// The capacity of the connection tracking table.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct Capacity {
    /// Sessions in the first trial; doubled until one fails or the profile's flows are reached
    #[arg(long, value_name = "N", default_value = "1k", value_parser = whole)]
    pub start: u32,

    /// Open so many sessions a second; measured with the first trial's sessions, and halved, if not
    /// given
    #[arg(long, value_name = "PER_S", value_parser = number)]
    pub open_rate: Option<f64>,

    /// End when the bracket is that narrow, in percent of its upper end
    #[arg(long, value_name = "PERCENT", default_value = "1", value_parser = percent)]
    pub resolution: f64,

    /// How the device forgets
    #[command(flatten)]
    pub clearing: Clearing,
}

/// Throughput with so many sessions.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct LoadedThroughput {
    /// Numbers of sessions, such as 1k,100k,1M; powers of ten up to the profile's flows if not given
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = whole)]
    pub sessions: Vec<u32>,

    /// How the throughput is searched
    #[command(flatten)]
    pub search: ThroughputOptions,

    /// How the device forgets
    #[command(flatten)]
    pub clearing: Clearing,
}

/// The connection tear-down rate.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct TearDown {
    /// Sessions that are opened and torn down; the profile's flows if not given
    #[arg(long, value_name = "N", value_parser = whole)]
    pub sessions: Option<u32>,

    /// Open so many sessions a second
    #[arg(long, value_name = "PER_S", default_value = "10k", value_parser = number)]
    pub open_rate: f64,

    /// Close so many sessions a second; as fast as possible if not given
    #[arg(long, value_name = "PER_S", value_parser = number)]
    pub close_rate: Option<f64>,

    /// A command, run by sh, that makes the device forget all sessions; the time that it takes is
    /// measured. Without it TCP sessions are closed by FINs from both ends
    #[arg(long, value_name = "CMD")]
    pub clear_command: Option<String>,
}

/// What flows suffer from an event.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct Outage {
    /// The event: a command, run by sh
    #[arg(long, value_name = "CMD")]
    pub run: String,

    /// When, after the load began
    #[arg(long, value_name = "DUR", default_value = "5s", value_parser = duration)]
    pub at: Duration,

    /// How long the load lasts
    #[arg(long, value_name = "DUR", default_value = "20s", value_parser = duration)]
    pub duration: Duration,

    /// A command, run by sh after each repeat, that puts back what the event broke
    #[arg(long, value_name = "CMD")]
    pub restore: Option<String>,

    /// Wait so long after --restore
    #[arg(long, value_name = "DUR", default_value = "2s", value_parser = duration)]
    pub settle: Duration,

    /// Fail if a flow is silent for longer
    #[arg(long, value_name = "DUR", value_parser = duration)]
    pub max_outage: Option<Duration>,

    /// Fail if more flows are lost for good
    #[arg(long, value_name = "N", value_parser = whole)]
    pub max_lost: Option<u32>,

    /// The device may forget its sessions: flows that have another public endpoint afterwards are
    /// counted as moved, and are not wrong
    #[arg(long)]
    pub may_forget: bool,

    /// Before the load all flows are opened, so many a second
    #[arg(long, value_name = "PER_S", default_value = "10k", value_parser = number)]
    pub open_rate: f64,
}

/// What bench-gen can do without a device.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct SelfCheck {
    /// What joins the two ports
    #[arg(long, value_enum, default_value = "ring")]
    pub over: CableArg,

    /// Length of a trial
    #[arg(long, value_name = "DUR", default_value = "2s", value_parser = duration)]
    pub trial: Duration,

    /// Before the trials all flows are opened, so many a second; over rings as fast as possible if
    /// not given, over devices 50k
    #[arg(long, value_name = "PER_S", value_parser = number)]
    pub open_rate: Option<f64>,

    /// Rates whose accuracy is checked, packets/s; those above the ceiling are left out
    #[arg(
        long, value_name = "PPS,…", value_delimiter = ',', default_value = "10k,100k,1M",
        value_parser = number
    )]
    pub rates: Vec<f64>,
}

/// What joins the two ports in a self-check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CableArg {
    /// Rings within this process: no devices, no root
    Ring,
    /// Whatever joins the profile's devices: a veth pair, a memif, a cable
    Devices,
}

impl CableArg {
    /// How many sessions a second it carries with certainty.
    pub(super) fn open_rate(self) -> f64 {
        match self {
            CableArg::Ring => f64::INFINITY,
            CableArg::Devices => 50_000.0,
        }
    }
}

impl From<CableArg> for Cable {
    fn from(cable: CableArg) -> Cable {
        match cable {
            CableArg::Ring => Cable::Ring,
            CableArg::Devices => Cable::Devices,
        }
    }
}

/// From which side packets come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WaysArg {
    /// Subscribers send and servers answer, as the profile says
    Both,
    /// Subscribers only
    Up,
    /// Servers only, to sessions that subscribers opened
    Down,
}

impl From<WaysArg> for Ways {
    fn from(ways: WaysArg) -> Ways {
        match ways {
            WaysArg::Both => Ways::Both,
            WaysArg::Up => Ways::Up,
            WaysArg::Down => Ways::Down,
        }
    }
}

/// A positive number with k, M or G for thousands, millions and milliards.
fn number(text: &str) -> Result<f64, String> {
    let units = [('k', 1e3), ('M', 1e6), ('G', 1e9)];
    let unit = units.into_iter().find_map(|unit| Some((text.strip_suffix(unit.0)?, unit.1)));
    let (digits, unit) = unit.unwrap_or((text, 1.0));
    let value = digits.parse::<f64>().ok().map(|value| value * unit);
    value
        .filter(|value| value.is_finite() && *value > 0.0)
        .ok_or_else(|| "expected a positive number such as 500, 10k or 1.5M".to_owned())
}

fn whole(text: &str) -> Result<u32, String> {
    let value = number(text)?;
    if value.fract() != 0.0 || value > f64::from(u32::MAX) {
        return Err("expected a whole number such as 500, 10k or 1M".to_owned());
    }
    Ok(value as u32)
}

/// Percent as a share.
fn percent(text: &str) -> Result<f64, String> {
    let value = text.trim_end_matches('%').parse::<f64>().ok();
    let value = value.filter(|value| (0.0..=100.0).contains(value));
    value.map(|value| value / 100.0).ok_or_else(|| "expected percent, from 0 to 100".to_owned())
}

fn frame(text: &str) -> Result<u16, String> {
    let size = text.parse().ok().filter(|size| (64..=9018).contains(size));
    size.ok_or_else(|| "expected the bytes of a frame with its checksum, 64 to 9018".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = krono_config::values::duration(text)?;
    if duration.is_zero() { Err("expected more than nothing".to_owned()) } else { Ok(duration) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_times_and_shares_are_read() {
        assert_eq!(number("1.5M"), Ok(1.5e6));
        assert_eq!(whole("10k"), Ok(10_000));
        assert_eq!(percent("1"), Ok(0.01));
        assert_eq!(percent("0.5%"), Ok(0.005));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for text in ["", "-1", "0", "1kk", "k", "inf", "NaN", "1 x"] {
            assert!(number(text).is_err(), "{text}");
        }
        for text in ["5", "-5s", "0s", "x"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(percent("101").is_err() && frame("63").is_err() && whole("1.5").is_err());
    }
}
