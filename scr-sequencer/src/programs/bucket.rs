//! The token-bucket policer: no flow may exceed a rate, but for bursts.
//!
//! A flow is one direction of a 5-tuple. Its bucket holds up to [`Config::burst`] tokens and gains
//! [`Config::rate`] a second; a packet takes one, or is dropped if there is less than one. All of it
//! is exact for any rate: tokens are counted in millionths, of which a bucket gains `rate` in each
//! microsecond, and what is kept is not the tokens but when the bucket will be full, on a clock that
//! goes so fast (the Generic Cell Rate Algorithm, ITU-T I.371).
//!
//! A record has 32 bits of the time in microseconds, which wrap after 71 minutes. The program counts
//! on from them, so only a silence of all flows for longer than that is not seen whole. A record that
//! is up to a second older than one before has the time of that one: time never goes back.
//!
//! A full bucket is the same as none. So a bucket begins with any packet, a FIN ends none (it would
//! be a way to new tokens), and an entry whose bucket would be full by now may be taken by another
//! flow. That is all there is of eviction: where a flow finds its sets full of buckets that are not,
//! its packet is dropped by the name `buckets_full`. (In the paper's artifact, `xdp_token_bucket`,
//! buckets begin at SYN and end at FIN. Both still travel, and the transport with them: [`Marks`].)

use std::hint::{cold_path, select_unpredictable};
use std::ops::Range;

use krono_core::drop::DropReason;
use krono_core::hash::HashKey;
use krono_core::packet::{PacketMeta, Side};
use krono_core::program::{Events, Program, Verdict};
use krono_core::time::{Moment, Ticks};
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::table::{Hashed, Inserted, Table, mix};
use super::{Flow, FourTuple, Marks, Mistake, Mistakes, Row, Shown};
use crate::Replicable;

/// The settings of a policer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Flows that it has room for, at least, whose buckets are not full.
    pub flows: usize,
    /// Packets a second that a flow may send: 1 to 10^8.
    pub rate: u32,
    /// Packets that a flow may send at once, 1 to 10^6.
    pub burst: u32,
    /// Draws the key of the table; the same in every replica.
    pub seed: [u8; 32],
}

impl Default for Config {
    fn default() -> Self {
        Config { flows: 1 << 16, rate: 10_000, burst: 1_000, seed: [0; 32] }
    }
}

impl Config {
    /// What the table of such a program takes, bytes.
    pub const fn table_bytes(&self) -> u64 {
        Table::<Policed>::bytes(self.flows)
    }

    /// Whether all settings can be taken.
    ///
    /// # Errors
    /// All that cannot.
    pub fn check(&self) -> Result<(), Vec<Mistake>> {
        let mut mistakes = Mistakes::default();
        mistakes.demand_capacity(self.flows, "flows");
        mistakes.demand((1..=100_000_000).contains(&self.rate), "rate", "1 to 100,000,000");
        mistakes.demand((1..=1_000_000).contains(&self.burst), "burst", "1 to 1,000,000");
        mistakes.into_result()
    }
}

/// What a packet takes from a bucket: a token, in units of which it gains `rate` in a microsecond.
const TOKEN: u64 = 1_000_000;

/// The longest way forth for the time, microseconds; what is more is less than a second back.
const FORTH_MAX: u32 = u32::MAX - 1_000_000;

/// A packet as the policer steps on it: 18 bytes.
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
    /// When it came, microseconds modulo 2^32.
    pub time: U32,
    /// The transport, SYN, FIN.
    pub marks: Marks,
}

const _: () = assert!(size_of::<Record>() == 18);

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Policed {
    /// The key's words.
    source: u64,
    destination: u64,
    /// When the bucket will be full, on the fast clock.
    full_at: u64,
    dropped: u64,
}

/// A bucket that is not full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Whose it is.
    pub flow: Flow,
    /// Whole tokens that are in it.
    pub tokens: u32,
    /// Packets that were dropped for want of a token since it last was full.
    pub dropped: u64,
}

/// The policer, see the [module](self).
pub struct Policer {
    table: Table<Policed>,
    /// The time of the latest record.
    time: u32,
    /// The fast clock: `rate` units in a microsecond, modulo 2^64.
    now: u64,
    key: HashKey,
    rate: u64,
    /// What a full bucket holds.
    depth: u64,
}

/// Where a flow's bucket seems to be; a hint.
#[derive(Clone, Copy, Debug, Default)]
pub struct Probe {
    hash: Hashed,
    place: u32,
}

impl Policer {
    /// A policer with full buckets.
    ///
    /// # Errors
    /// All settings that it cannot take.
    pub fn new(config: &Config) -> Result<Policer, Vec<Mistake>> {
        config.check()?;
        Ok(Policer {
            table: Table::new(config.flows),
            time: 0,
            now: 0,
            key: HashKey::from_seed(config.seed),
            rate: config.rate.into(),
            depth: u64::from(config.burst) * TOKEN,
        })
    }

    /// The buckets that are not full. Allocates.
    pub fn buckets(&self) -> Vec<Bucket> {
        self.table.iter().filter_map(|policed| self.bucket(policed)).collect()
    }

    fn bucket(&self, policed: &Policed) -> Option<Bucket> {
        let lacks = self.lacks(policed);
        (lacks > 0).then(|| Bucket {
            flow: Flow::from_words(policed.source, policed.destination),
            tokens: ((self.depth - lacks) / TOKEN) as u32,
            dropped: policed.dropped,
        })
    }

    fn hash_of(&self, record: &Record) -> Hashed {
        let (source, destination) = record.tuple.words(record.marks);
        Hashed::new(&self.key, source, destination)
    }

    #[inline(always)]
    fn lacks(&self, policed: &Policed) -> u64 {
        lacks(policed, self.now, self.depth)
    }

    #[inline(always)]
    fn find(&self, record: &Record, probe: &Probe) -> Option<u32> {
        let (source, destination) = record.tuple.words(record.marks);
        let eq = |flow: &Policed| (flow.source == source) & (flow.destination == destination);
        if self.table.at(probe.place).is_some_and(eq) {
            return Some(probe.place);
        }
        cold_path();
        self.table.find(probe.hash.or(|| self.hash_of(record)), eq)
    }

    /// Lets the clocks go on to a record's time.
    #[inline(always)]
    fn go_on(&mut self, time: u32) {
        let passed = time.wrapping_sub(self.time);
        if passed > FORTH_MAX {
            cold_path();
            // At the start no time has passed, wherever the clock begins.
            self.time = if self.table.len() == 0 { time } else { self.time };
            return;
        }
        self.time = time;
        self.now = self.now.wrapping_add(u64::from(passed) * self.rate);
    }

    /// The first packet of a bucket that was full.
    #[cold]
    #[inline(never)]
    fn enter(&mut self, record: &Record) -> Verdict {
        let (source, destination) = record.tuple.words(record.marks);
        let full_at = self.now.wrapping_add(TOKEN);
        let policed = Policed { source, destination, full_at, dropped: 0 };
        let (now, depth) = (self.now, self.depth);
        let rank = |policed: &Policed| (lacks(policed, now, depth) == 0).then_some(0);
        match self.table.insert(self.hash_of(record), policed, rank) {
            Inserted::Free | Inserted::Replaced(_) => Verdict::Pass,
            Inserted::Refused => Verdict::Drop(DropReason::BucketsFull),
        }
    }
}

/// What a bucket lacks to be full.
#[inline(always)]
fn lacks(policed: &Policed, now: u64, depth: u64) -> u64 {
    let lacks = policed.full_at.wrapping_sub(now);
    // More than it can hold: it was full before now. (So it is until the clock has gone round, in 51
    // hours at the highest rate; then the bucket of a flow that was silent for so long and whose
    // place nobody took is not full for an instant.)
    select_unpredictable(lacks > depth, 0, lacks)
}

impl Shown for Policer {
    fn parts(&self) -> usize {
        self.table.sets()
    }

    fn show(&self, parts: Range<usize>, each: &mut dyn FnMut(Row)) {
        let buckets = self.table.iter_sets(parts).filter_map(|policed| self.bucket(policed));
        buckets.for_each(|bucket| each(Row::Bucket(bucket)));
    }
}

impl Program for Policer {
    type Record = Record;
    type Probe = Probe;
    type Event = ();

    #[inline]
    fn record(meta: &PacketMeta, _: Side, now: Moment) -> Record {
        let marks = Marks::new(meta);
        if marks.protocol() == 0 {
            return Record::default();
        }
        let time = ((now.0 / 1_000) as u32).into();
        Record { tuple: FourTuple::new(meta), time, marks }
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
    fn step(&mut self, record: &Record, probe: &Probe, _: &mut impl Events<()>) -> Verdict {
        if record.marks.protocol() == 0 {
            cold_path();
            return Verdict::Pass;
        }
        self.go_on(record.time.get());
        let Some(place) = self.find(record, probe) else { return self.enter(record) };
        let (now, depth) = (self.now, self.depth);
        let policed = self.table.at_mut(place);
        let lacks = lacks(policed, now, depth);
        // A bucket that was full again begins anew.
        let dropped = select_unpredictable(lacks == 0, 0, policed.dropped);
        let is_dropped = lacks + TOKEN > depth;
        let taken = select_unpredictable(is_dropped, 0, TOKEN);
        policed.full_at = now.wrapping_add(lacks + taken);
        policed.dropped = dropped + u64::from(is_dropped);
        if is_dropped { Verdict::Drop(DropReason::RateExceeded) } else { Verdict::Pass }
    }

    fn tick(&mut self, _: Ticks, _: &mut impl Events<()>) -> bool {
        false
    }
}

impl Replicable for Policer {
    const NAME: &'static str = "bucket";

    fn copy_from(&mut self, other: &Self) {
        self.table.copy_from(&other.table);
        (self.time, self.now) = (other.time, other.now);
    }

    fn digest(&self) -> u64 {
        self.table.digest(mix(self.now, self.time.into()))
    }
}
