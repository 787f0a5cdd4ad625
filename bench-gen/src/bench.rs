//! The seam between procedures and what they measure: a [`Stage`] goes in, a [`Seen`] comes out.
//!
//! The engine implements [`Bench`] over DPDK ports; tests of procedures implement it over a device
//! that is a formula.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::load::{Rate, Sizes};

/// What measurements are made with: a device under test between two ports.
pub trait Bench {
    /// Carries out one stage, waits for what is still on its way, and tells what was seen. Flows
    /// that earlier stages opened are still known.
    ///
    /// # Errors
    /// If the ports fail, or an lcore.
    fn stage(&mut self, stage: &Stage, watch: &mut dyn Watch) -> Result<Seen, Failed>;
}

/// Who looks on while a stage runs, and may end it.
pub trait Watch {
    /// Called some ten times a second with what was seen in all so far. `false` ends the stage
    /// early: it is marked partial then.
    fn look(&mut self, so_far: &Snapshot) -> bool;
}

/// Nobody looks.
impl Watch for () {
    fn look(&mut self, _: &Snapshot) -> bool {
        true
    }
}

/// Why a stage could not be carried out.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failed(pub String);

/// One thing to do with the device under test.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// Opens sessions that were not open: by their first packet and its answer, TCP by its
    /// handshake. No other traffic.
    Open {
        /// How many.
        sessions: u32,
        /// How many a second; `f64::INFINITY`: as fast as possible.
        per_second: f64,
    },
    /// Packets over the open sessions (or over the profile's flows, opened as they come, if none
    /// is open), with the profile's popularity and churn.
    Traffic {
        /// How fast.
        rate: Rate,
        /// How long.
        end: crate::load::End,
        /// Instead of the profile's.
        sizes: Option<Sizes>,
        /// From which side.
        ways: Ways,
    },
    /// One packet each way over every open session, to see which are alive.
    Probe {
        /// How many a second.
        per_second: f64,
    },
    /// Closes all open sessions: TCP by FINs from both ends; others are just not used any more.
    Close {
        /// How many a second.
        per_second: f64,
    },
    /// Forgets all sessions without a packet. Sessions opened later have other ports.
    Forget,
}

/// From which side packets come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ways {
    /// Subscribers send and servers answer, as the profile says.
    Both,
    /// Subscribers only.
    Up,
    /// Servers only, to endpoints that were learnt before.
    Down,
}

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Way {
    /// From subscribers to servers (in2out).
    Up = 0,
    /// From servers to subscribers (out2in).
    Down = 1,
}

/// What was seen of a stage's stamped packets in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets given to the port, which took them.
    pub sent: u64,
    /// Bytes of these frames, with their checksums.
    pub sent_bytes: u64,
    /// Packets that arrived, each once.
    pub received: u64,
    /// Bytes of these frames, with their checksums.
    pub received_bytes: u64,
    /// Sent and not arrived when the stage and its time for stragglers were over.
    pub lost: u64,
    /// Arrived again.
    pub duplicated: u64,
    /// Arrived behind a later packet of the same flow (RFC 4737).
    pub reordered: u64,
    /// Payloads that are not what was sent.
    pub corrupted: u64,
    /// Headers whose checksums are wrong.
    pub bad_checksums: u64,
    /// Packets that the port did not take: what should have been sent and was not.
    pub unsent: u64,
}

/// A packet that was delivered wrong: one of these fails a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Wrong {
    /// To an address or port that is not the subscriber's.
    Subscriber = 0,
    /// To a server that it was not sent to.
    Server = 1,
    /// A flow had another public endpoint before (RFC 4787, REQ-1).
    SecondEndpoint = 2,
    /// Two flows of different subscribers have one public endpoint at a time.
    SharedEndpoint = 3,
    /// A packet of one direction came out where those of the other should.
    Side = 4,
    /// A payload that is not what was sent.
    Corrupted = 5,
    /// A checksum is wrong.
    Checksum = 6,
}

impl Wrong {
    /// How many kinds there are.
    pub const COUNT: usize = 7;

    /// All kinds, in index order.
    pub const ALL: [Wrong; Self::COUNT] = [
        Wrong::Subscriber,
        Wrong::Server,
        Wrong::SecondEndpoint,
        Wrong::SharedEndpoint,
        Wrong::Side,
        Wrong::Corrupted,
        Wrong::Checksum,
    ];

    /// What is wrong only for a device that keeps its mappings: endpoints that flows did not have
    /// before, or that others had.
    pub const MOVED: &'static [Wrong] = &[Wrong::SecondEndpoint, Wrong::SharedEndpoint];

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Wrong::Subscriber => "wrong_subscriber",
            Wrong::Server => "wrong_server",
            Wrong::SecondEndpoint => "second_endpoint",
            Wrong::SharedEndpoint => "shared_endpoint",
            Wrong::Side => "wrong_side",
            Wrong::Corrupted => "corrupted",
            Wrong::Checksum => "bad_checksum",
        }
    }
}

/// What has been seen so far.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Since the stage began.
    pub elapsed: Duration,
    /// By [`Way`].
    pub counts: [Counts; 2],
    /// By [`Wrong`].
    pub wrong: [u64; Wrong::COUNT],
    /// Sessions opened since the stage began.
    pub opened: u64,
    /// Sessions that did not open: no answer after all repetitions.
    pub not_opened: u64,
    /// Sessions closed since the stage began.
    pub closed: u64,
    /// Sessions open now.
    pub open: u64,
    /// Latency since the last look, by [`Way`]: (median, 99th percentile) in nanoseconds.
    pub latency_ns: [Option<(u64, u64)>; 2],
    /// Flows that have been silent for over 100 ms now although packets are sent.
    pub silent: u64,
}

/// What was seen of a stage.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The totals.
    pub total: Snapshot,
    /// What each tenth of a second added.
    pub series: Vec<Snapshot>,
    /// One-way latency by [`Way`], nanoseconds, from just before a packet was given to the port to
    /// the poll that it came with.
    pub latency_ns: [Histogram<u64>; 2],
    /// The difference in latency of each packet to the one before of its flow (RFC 3393, IPDV),
    /// absolute, by [`Way`], nanoseconds.
    pub variation_ns: [Histogram<u64>; 2],
    /// For how long flows were silent at most in the stage, milliseconds: one value for each flow
    /// that packets were sent on; 0 is anything below the spacing of its packets.
    pub outage_ms: Histogram<u64>,
    /// Sessions that nothing more was heard of although packets were sent for a second or more.
    pub sessions_lost: u64,
    /// Packets per flow, as a histogram.
    pub flow_packets: Histogram<u64>,
    /// How well the rate was kept.
    pub pace: Pace,
    /// What packets cost; zeros where nothing was sent for real.
    pub cost: Cost,
    /// A few of the wrong packets, in words.
    pub examples: Vec<String>,
    /// The device's own counters of trouble, by port and name; zeros left out.
    pub port_trouble: BTreeMap<String, u64>,
    /// Ended early.
    pub partial: bool,
}

/// How well a rate was kept.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    /// What was asked for, packets per second; `None` for as fast as possible.
    pub wanted_pps: Option<f64>,
    /// What was reached by packets of the inside.
    pub reached_pps: f64,
    /// The most packets within a millisecond over the mean, 1.0 for an even stream.
    pub burstiness: f64,
    /// How many packets went in one go on average.
    pub mean_burst: f64,
}

/// What packets cost the lcores, cycles of the time-stamp counter for each.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// To make a packet, stamp it and give it to its port.
    pub sent: f64,
    /// To take a packet from its port and check it, and to answer it if it is answered.
    pub received: f64,
    /// All time until the last was made, over the packets made: looks at empty queues, answers and
    /// waiting for the next to be due are in it.
    pub all: f64,
}

impl Seen {
    /// Whether every packet that arrived was right.
    pub fn is_right(&self) -> bool {
        self.total.wrong.iter().all(|count| *count == 0)
    }

    /// Takes out what is [wrong only for a device that keeps its mappings](Wrong::MOVED). How many
    /// flows have moved.
    pub fn forgive_moved(&mut self) -> u64 {
        let moved = self.total.wrong[Wrong::SecondEndpoint as usize];
        for kind in Wrong::MOVED {
            self.total.wrong[*kind as usize] = 0;
        }
        self.examples
            .retain(|example| !Wrong::MOVED.iter().any(|kind| example.starts_with(kind.name())));
        moved
    }

    /// Lost packets as a share of those sent, both ways together.
    pub fn loss(&self) -> f64 {
        let (lost, sent) = self
            .total
            .counts
            .iter()
            .fold((0, 0), |(lost, sent), way| (lost + way.lost, sent + way.sent));
        if sent == 0 { 0.0 } else { lost as f64 / sent as f64 }
    }
}
