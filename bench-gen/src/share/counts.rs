//! What is counted on the way, and histograms that take a few cycles.

use arrayvec::ArrayVec;
use hdrhistogram::Histogram;
use krono_core::packet::{Endpoint, Side};

use super::stamp::TIME_SHIFT;
use crate::bench::{Counts, Wrong};

/// A histogram in a plain array: steps of 1 up to 256, then 128 steps to each power of two (under
/// 0.8 % apart), up to 2^40.
#[derive(Clone)]
pub struct Steps {
    counts: Box<[u64]>,
    /// The last value and its step: packets that come together were often sent together as well.
    last: (u64, usize),
}

impl std::fmt::Debug for Steps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Steps({} values)", self.counts.iter().sum::<u64>())
    }
}

const STEP_BITS: u32 = 7;
const VALUE_BITS: u32 = 40;

impl Steps {
    const LEN: usize = ((VALUE_BITS - STEP_BITS + 1) as usize) << STEP_BITS;

    pub(super) fn new() -> Steps {
        Steps { counts: vec![0; Self::LEN].into(), last: (0, 0) }
    }

    #[inline]
    pub(super) fn record(&mut self, value: u64) {
        if value != self.last.0 {
            self.last = (value, Self::step(value));
        }
        // It is there; `get_mut` is the check that costs no panic.
        if let Some(count) = self.counts.get_mut(self.last.1) {
            *count += 1;
        }
    }

    /// Records times in units of [`TIME_SHIFT`] of packets that came together, and so often were sent
    /// together as well: then all are alike.
    #[inline]
    pub(super) fn record_all(&mut self, times: &[u32]) {
        let Some(first) = times.first() else { return };
        let value = |time: u32| u64::from(time) << TIME_SHIFT;
        if times.iter().fold(0, |differences, time| differences | (time ^ first)) == 0 {
            self.counts[Self::step(value(*first))] += times.len() as u64;
        } else {
            times.iter().for_each(|time| self.record(value(*time)));
        }
    }

    #[inline]
    fn step(value: u64) -> usize {
        let value = value.min((1 << VALUE_BITS) - 1);
        let shift = (u64::BITS - (value >> STEP_BITS).leading_zeros()).saturating_sub(1);
        (value >> shift) as usize + ((shift as usize) << STEP_BITS)
    }

    /// The least value of a step, and how many values it holds.
    fn values(step: usize) -> (u64, u64) {
        let shift = (step >> STEP_BITS).saturating_sub(1);
        (((step - (shift << STEP_BITS)) as u64) << shift, 1 << shift)
    }

    /// Adds what another has recorded.
    pub fn add(&mut self, other: &Steps) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.counts.fill(0);
    }

    /// The median and the 99th percentile of what was recorded since `before`, which then is as
    /// this; `None` if nothing was.
    pub(super) fn since(&self, before: &mut Steps) -> Option<(u64, u64)> {
        let total: u64 = self.counts.iter().zip(&before.counts).map(|(now, then)| now - then).sum();
        let (mut below, mut median, mut high) = (0, None, None);
        for (step, (now, then)) in self.counts.iter().zip(&mut before.counts).enumerate() {
            below += now - *then;
            *then = *now;
            if below * 2 >= total {
                median = median.or(Some(Self::values(step).0));
            }
            if below * 100 >= total * 99 {
                high = high.or(Some(Self::values(step).0));
            }
        }
        median.zip(high).filter(|_| total > 0)
    }

    /// The same as others know it, each value in the middle of its step.
    pub fn histogram(&self) -> Histogram<u64> {
        let mut histogram =
            Histogram::new_with_bounds(1, 1 << VALUE_BITS, 3).expect("bounds that are in order");
        for (step, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let (least, width) = Self::values(step);
            histogram.record_n(least + width / 2, *count).expect("a value within the bounds");
        }
        histogram
    }
}

/// Frames that arrived and were none of ours, or said nothing of a flow: by what they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// ARP, which the engine did not keep for itself.
    pub arp: u64,
    /// IPv6: neighbour discovery of other stations, say.
    pub ipv6: u64,
    /// Other EtherTypes.
    pub ether_types: u64,
    /// To the MAC address of another station.
    pub other_macs: u64,
    /// Cut off, or with lengths that do not fit together, and not to our networks.
    pub malformed: u64,
    /// Fragments of IP packets; ours are sent whole.
    pub fragments: u64,
    /// Other IP protocols, and IP options.
    pub other_ip: u64,
    /// ICMP errors that quote a packet of ours.
    pub icmp_errors: u64,
    /// ICMP errors that quote somebody else's.
    pub icmp_errors_of_others: u64,
    /// Other ICMP messages.
    pub icmp: u64,
    /// TCP resets.
    pub resets: u64,
    /// TCP segments without our option, or UDP and ICMP without a stamp, between addresses that
    /// are not ours.
    pub strangers: u64,
}

impl Others {
    /// All of them by name.
    pub fn by_name(&self) -> [(&'static str, u64); 12] {
        [
            ("arp", self.arp),
            ("ipv6", self.ipv6),
            ("ether_types", self.ether_types),
            ("other_macs", self.other_macs),
            ("malformed", self.malformed),
            ("fragments", self.fragments),
            ("other_ip", self.other_ip),
            ("icmp_errors", self.icmp_errors),
            ("icmp_errors_of_others", self.icmp_errors_of_others),
            ("icmp", self.icmp),
            ("resets", self.resets),
            ("strangers", self.strangers),
        ]
    }

    fn add(&mut self, other: &Others) {
        self.arp += other.arp;
        self.ipv6 += other.ipv6;
        self.ether_types += other.ether_types;
        self.other_macs += other.other_macs;
        self.malformed += other.malformed;
        self.fragments += other.fragments;
        self.other_ip += other.other_ip;
        self.icmp_errors += other.icmp_errors;
        self.icmp_errors_of_others += other.icmp_errors_of_others;
        self.icmp += other.icmp;
        self.resets += other.resets;
        self.strangers += other.strangers;
    }
}

/// What a share has seen since its stage began: small, and copied at each look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Stamped packets, by [`Way`](crate::bench::Way).
    pub counts: [Counts; 2],
    /// Packets delivered wrong, by [`Wrong`].
    pub wrong: [u64; Wrong::COUNT],
    /// TCP segments without payload that were sent, by way; they are in no other count.
    pub control_sent: [u64; 2],
    /// And those that arrived.
    pub control_received: [u64; 2],
    /// First packets, SYNs and FINs that were sent again for lack of an answer.
    pub repeated: u64,
    /// Packets that arrived when their flow had made room for another; received all the same.
    pub late: u64,
    /// Public endpoints learnt anew, since the old mapping may have timed out in the meantime.
    pub remapped: u64,
    /// Answers that were not sent, since too many were owed.
    pub unanswered: u64,
    /// Sessions opened.
    pub opened: u64,
    /// Sessions that did not open.
    pub not_opened: u64,
    /// Sessions closed.
    pub closed: u64,
    /// Sessions open now.
    pub open: u64,
    /// Flows that are silent for over 100 ms now although packets are sent.
    pub silent: u64,
    /// Frames that were not ours.
    pub others: Others,
}

impl Tally {
    /// Nothing seen, in a stage that begins with so many sessions.
    pub(super) fn with_open(open: u64) -> Tally {
        Tally { open, ..Tally::default() }
    }

    /// Adds another share's.
    pub fn add(&mut self, other: &Tally) {
        for (sum, way) in self.counts.iter_mut().zip(&other.counts) {
            sum.sent += way.sent;
            sum.sent_bytes += way.sent_bytes;
            sum.received += way.received;
            sum.received_bytes += way.received_bytes;
            sum.lost += way.lost;
            sum.duplicated += way.duplicated;
            sum.reordered += way.reordered;
            sum.corrupted += way.corrupted;
            sum.bad_checksums += way.bad_checksums;
            sum.unsent += way.unsent;
        }
        let both = |sum: &mut [u64], other: &[u64]| {
            sum.iter_mut().zip(other).for_each(|(sum, other)| *sum += other);
        };
        both(&mut self.wrong, &other.wrong);
        both(&mut self.control_sent, &other.control_sent);
        both(&mut self.control_received, &other.control_received);
        self.repeated += other.repeated;
        self.late += other.late;
        self.remapped += other.remapped;
        self.unanswered += other.unanswered;
        self.opened += other.opened;
        self.not_opened += other.not_opened;
        self.closed += other.closed;
        self.open += other.open;
        self.silent += other.silent;
        self.others.add(&other.others);
    }
}

/// A wrong packet, kept to be shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Example {
    pub wrong: Wrong,
    pub side: Side,
    pub from: Endpoint,
    pub to: Endpoint,
    /// The flow and its generation, if it is known.
    pub flow: Option<(u32, u16)>,
    /// Where it should have come from or gone to, or who is there already.
    pub expected: Option<Endpoint>,
}

impl std::fmt::Display for Example {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Example { wrong, side, from, to, .. } = self;
        write!(f, "{}: a packet from {from} to {to} came out {side}", wrong.name())?;
        if let Some((flow, generation)) = self.flow {
            write!(f, ", of flow {flow} (generation {generation})")?;
        }
        match (self.wrong, self.expected) {
            (Wrong::SharedEndpoint, Some(other)) => write!(f, "; {other} has this endpoint too"),
            (_, Some(expected)) => write!(f, "; expected {expected}"),
            (_, None) => Ok(()),
        }
    }
}

/// How many examples are kept.
pub(super) const EXAMPLES: usize = 8;

/// A few of the wrong packets.
pub(super) type Examples = ArrayVec<Example, EXAMPLES>;

/// What a share has seen of a whole stage.
#[derive(Clone, Debug)]
pub struct ShareSeen {
    /// The totals.
    pub tally: Tally,
    /// One-way latency by way, nanoseconds.
    pub latency_ns: [Steps; 2],
    /// Variation of latency by way, nanoseconds.
    pub variation_ns: [Steps; 2],
    /// The longest silence of each flow, milliseconds.
    pub outage_ms: Steps,
    /// Sessions that went silent for good.
    pub sessions_lost: u64,
    /// Packets of each flow since it came up, both ways.
    pub flow_packets: Steps,
    /// A few of the wrong packets, in words.
    pub examples: Vec<String>,
}

impl ShareSeen {
    pub(super) fn new() -> ShareSeen {
        ShareSeen {
            tally: Tally::default(),
            latency_ns: [Steps::new(), Steps::new()],
            variation_ns: [Steps::new(), Steps::new()],
            outage_ms: Steps::new(),
            sessions_lost: 0,
            flow_packets: Steps::new(),
            examples: vec![],
        }
    }

    pub(super) fn clear(&mut self) {
        let [up, down] = &mut self.latency_ns;
        let [up_variation, down_variation] = &mut self.variation_ns;
        let packets = &mut self.flow_packets;
        for steps in [up, down, up_variation, down_variation, &mut self.outage_ms, packets] {
            steps.clear();
        }
        self.sessions_lost = 0;
        self.examples.clear();
    }

    /// Adds another share's.
    pub fn add(&mut self, other: &ShareSeen) {
        self.tally.add(&other.tally);
        for way in 0..2 {
            self.latency_ns[way].add(&other.latency_ns[way]);
            self.variation_ns[way].add(&other.variation_ns[way]);
        }
        self.outage_ms.add(&other.outage_ms);
        self.sessions_lost += other.sessions_lost;
        self.flow_packets.add(&other.flow_packets);
        self.examples.extend(other.examples.iter().cloned());
    }
}
