//! The heavy-hitter monitor: how many bytes each flow has carried, and which flows carry most. It
//! drops nothing.
//!
//! A TCP flow begins at its SYN and ends at its FIN or RST, as in the paper's artifact (`xdp_hhd`):
//! segments before and after count for nothing, so that what has ended leaves nothing behind. (A
//! further SYN of a flow that has begun is a retransmission, and not a way to be counted anew.) Each
//! direction is a flow of its own, which begins with its own SYN, that of the answer with a SYN and
//! ACK. UDP and ICMP queries have no such marks: their flows begin with any packet, and end
//! when another flow needs their place. What travels of the transport does so in spare bits of the
//! byte that says SYN ([`Marks`]).
//!
//! Where a new flow finds its sets full, a flow that has been silent for [`Config::idle`] packets of
//! others has to go, the smallest of such; if there is none, the smallest that has not reached the
//! threshold; and if there is none such either, the new flow is not followed, which is counted
//! ([`Heavy::unfollowed`]).

use std::hint::cold_path;
use std::ops::Range;

use krono_core::hash::HashKey;
use krono_core::packet::{PacketMeta, Side};
use krono_core::program::{Events, Program, Verdict};
use krono_core::time::{Moment, Ticks};
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::table::{Hashed, Inserted, Table, mix};
use super::{Flow, FourTuple, Marks, Mistake, Mistakes, Row, Shown};
use crate::Replicable;

/// The settings of a monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Flows that it has room for, at least.
    pub flows: usize,
    /// A flow is heavy from so many bytes on.
    pub threshold: u64,
    /// A flow that has been silent for so many packets of others, up to 2^31, may lose its place to
    /// any other.
    pub idle: u32,
    /// Draws the key of the table; the same in every replica.
    pub seed: [u8; 32],
}

impl Default for Config {
    fn default() -> Self {
        Config { flows: 1 << 16, threshold: 10_000_000, idle: 1 << 24, seed: [0; 32] }
    }
}

impl Config {
    /// What the table of such a program takes, bytes.
    pub const fn table_bytes(&self) -> u64 {
        Table::<Counted>::bytes(self.flows)
    }

    /// Whether all settings can be taken.
    ///
    /// # Errors
    /// All that cannot.
    pub fn check(&self) -> Result<(), Vec<Mistake>> {
        let mut mistakes = Mistakes::default();
        mistakes.demand_capacity(self.flows, "flows");
        mistakes.demand(self.threshold >= 1, "threshold", "1 or more");
        mistakes.demand((1..=1 << 31).contains(&self.idle), "idle", "1 to 2,147,483,648");
        mistakes.into_result()
    }
}

/// A packet as the monitor steps on it: 18 bytes.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct Record {
    /// Its flow, but for the transport.
    pub tuple: FourTuple,
    /// Total length of the IP packet, bytes.
    pub length: U32,
    /// The transport, SYN, FIN.
    pub marks: Marks,
}

const _: () = assert!(size_of::<Record>() == 18);

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Counted {
    /// The key's words.
    source: u64,
    destination: u64,
    bytes: u64,
    /// The number of its latest packet, modulo 2^32.
    latest: u64,
}

/// A flow that just became heavy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heaviness {
    /// Which one.
    pub flow: Flow,
    /// What it has carried.
    pub bytes: u64,
}

/// The monitor, see the [module](self).
pub struct Heavy {
    table: Table<Counted>,
    /// Packets so far, modulo 2^32.
    now: u32,
    replaced: u64,
    unfollowed: u64,
    key: HashKey,
    threshold: u64,
    idle: u32,
}

/// Where a flow seems to be; a hint.
#[derive(Clone, Copy, Debug, Default)]
pub struct Probe {
    hash: Hashed,
    place: u32,
}

impl Heavy {
    /// A monitor that knows no flow.
    ///
    /// # Errors
    /// All settings that it cannot take.
    pub fn new(config: &Config) -> Result<Heavy, Vec<Mistake>> {
        config.check()?;
        Ok(Heavy {
            table: Table::new(config.flows),
            now: 0,
            replaced: 0,
            unfollowed: 0,
            key: HashKey::from_seed(config.seed),
            threshold: config.threshold,
            idle: config.idle,
        })
    }

    /// The flows that have carried most, up to `count`, the heaviest first. Allocates.
    pub fn top(&self, count: usize) -> Vec<Heaviness> {
        let mut flows: Vec<_> = self.table.iter().collect();
        let order =
            |flow: &&Counted| (std::cmp::Reverse(flow.bytes), flow.source, flow.destination);
        flows.sort_unstable_by_key(order);
        flows.truncate(count);
        flows.into_iter().map(Counted::heaviness).collect()
    }

    /// How many flows are followed.
    pub fn flows(&self) -> usize {
        self.table.len()
    }

    /// How many flows had to go for new ones.
    pub fn replaced(&self) -> u64 {
        self.replaced
    }

    /// How many packets came of flows that found no place.
    pub fn unfollowed(&self) -> u64 {
        self.unfollowed
    }

    fn hash_of(&self, record: &Record) -> Hashed {
        let (source, destination) = record.tuple.words(record.marks);
        Hashed::new(&self.key, source, destination)
    }

    #[inline(always)]
    fn find(&self, record: &Record, probe: &Probe) -> Option<u32> {
        let (source, destination) = record.tuple.words(record.marks);
        let eq = |flow: &Counted| (flow.source == source) & (flow.destination == destination);
        if self.table.at(probe.place).is_some_and(eq) {
            return Some(probe.place);
        }
        cold_path();
        self.table.find(probe.hash.or(|| self.hash_of(record)), eq)
    }

    /// Enters the flow of a packet, if it begins with it.
    #[cold]
    #[inline(never)]
    fn enter(&mut self, record: &Record) -> Option<u32> {
        let begins = record.marks.begins() || record.marks.protocol() != Marks::TCP;
        if !begins || record.marks.ends() {
            return None;
        }
        let hash = self.hash_of(record);
        let (source, destination) = record.tuple.words(record.marks);
        let flow = Counted { source, destination, bytes: 0, latest: self.now.into() };
        let (now, threshold, idle) = (self.now, self.threshold, self.idle);
        let rank = |flow: &Counted| {
            let is_idle = now.wrapping_sub(flow.latest as u32) >= idle;
            // Silent ones go first, whatever they have carried.
            let bytes = flow.bytes.min(u64::MAX >> 1);
            match is_idle {
                true => Some(bytes),
                false => (flow.bytes < threshold).then_some(bytes | 1 << 63),
            }
        };
        match self.table.insert(hash, flow, rank) {
            Inserted::Free => {}
            Inserted::Replaced(_) => self.replaced += 1,
            Inserted::Refused => self.unfollowed += 1,
        }
        self.find(record, &Probe { hash, place: 0 })
    }
}

impl Counted {
    fn heaviness(&self) -> Heaviness {
        Heaviness { flow: Flow::from_words(self.source, self.destination), bytes: self.bytes }
    }
}

impl Shown for Heavy {
    fn parts(&self) -> usize {
        self.table.sets()
    }

    fn show(&self, parts: Range<usize>, each: &mut dyn FnMut(Row)) {
        let heavy = self.table.iter_sets(parts).filter(|flow| flow.bytes >= self.threshold);
        heavy.for_each(|flow| each(Row::Heavy(flow.heaviness())));
    }
}

impl Program for Heavy {
    type Record = Record;
    type Probe = Probe;
    type Event = Heaviness;

    #[inline]
    fn record(meta: &PacketMeta, _: Side, _: Moment) -> Record {
        let marks = Marks::new(meta);
        if marks.protocol() == 0 {
            return Record::default();
        }
        let length = u32::from(meta.ip_len).into();
        Record { tuple: FourTuple::new(meta), length, marks }
    }

    #[inline(always)]
    fn probe(&self, record: &Record) -> Probe {
        let hash = self.hash_of(record);
        self.table.prefetch_tags(hash);
        Probe { hash, place: 0 }
    }

    #[inline(always)]
    fn touch(&self, _: &Record, probe: &mut Probe, _: u32) -> bool {
        probe.place = self.table.candidate(probe.hash);
        self.table.prefetch_entry(probe.place);
        false
    }

    #[inline(always)]
    fn step(
        &mut self,
        record: &Record,
        probe: &Probe,
        events: &mut impl Events<Heaviness>,
    ) -> Verdict {
        if record.marks.protocol() == 0 {
            cold_path();
            return Verdict::Pass;
        }
        self.now = self.now.wrapping_add(1);
        let Some(place) = self.find(record, probe).or_else(|| self.enter(record)) else {
            return Verdict::Pass;
        };
        let flow = self.table.at_mut(place);
        let before = flow.bytes;
        flow.bytes = before.saturating_add(record.length.get().into());
        flow.latest = self.now.into();
        if before < self.threshold && flow.bytes >= self.threshold {
            cold_path();
            events.emit(flow.heaviness());
        }
        if record.marks.ends() {
            self.table.remove(place);
        }
        Verdict::Pass
    }

    fn tick(&mut self, _: Ticks, _: &mut impl Events<Heaviness>) -> bool {
        false
    }
}

impl Replicable for Heavy {
    const NAME: &'static str = "heavy";

    fn copy_from(&mut self, other: &Self) {
        self.table.copy_from(&other.table);
        self.now = other.now;
        (self.replaced, self.unfollowed) = (other.replaced, other.unfollowed);
    }

    fn digest(&self) -> u64 {
        self.table.digest(mix(0, self.now.into()))
    }
}
