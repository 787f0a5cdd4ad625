//! The DDoS mitigator: drops what comes from listed sources, and from those that take more than
//! their share.
//!
//! A record is a source address, and there is no time in it, so shares are counted in packets. Each
//! source has a level: a packet of its own raises it by [`Config::one_in`], and each packet of
//! anybody lowers it by 1, not below 0. A source that sends one packet in `one_in` stays at the
//! bottom; one that sends more rises, and is blocked while it is above [`Config::window`]. Packets
//! that are dropped count as well, so a source is free again when it has fallen below its share,
//! and since no level exceeds two windows, `window` packets after its last one at the latest. (This
//! is the Generic Cell Rate Algorithm, ITU-T I.371, with the number of packets for a clock.)
//!
//! A source at level 0 is as good as unknown. Where a new source finds its set of the table full,
//! the one of the lowest level there has to go, so that those that are blocked stay: who floods with
//! ever new addresses does not free them. That one with a level above 0 had to go is counted
//! ([`Ddos::forgotten`]).
//!
//! Only packets from outside are judged: behind this program are those that are to be protected,
//! and their answers are no flood. In the paper's artifact, hits of listed sources are counted; that
//! is `xdp_ddos_mitigator`.

use std::hint::{cold_path, select_unpredictable};
use std::net::Ipv4Addr;
use std::ops::Range;

use ipnet::Ipv4Net;
use krono_core::drop::DropReason;
use krono_core::hash::HashKey;
use krono_core::packet::{Kind, PacketMeta, Side};
use krono_core::program::{Events, Program, Verdict};
use krono_core::time::{Moment, Ticks};
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::sources::Sources;
use super::table::{Hashed, Inserted, mix};
use super::{Mistake, Mistakes, PrefixSet, Row, Shown};
use crate::Replicable;

/// The settings of a mitigator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Sources that it has room for, at least.
    pub sources: usize,
    /// A source may send one packet in so many.
    pub one_in: u32,
    /// How far a source may exceed that, in packets of all sources: 1 to 2^28.
    pub window: u32,
    /// Sources that are always dropped.
    pub deny: Vec<Ipv4Net>,
    /// Sources that never are, those in `deny` included.
    pub allow: Vec<Ipv4Net>,
    /// Draws the key of the table; the same in every replica.
    pub seed: [u8; 32],
}

impl Default for Config {
    fn default() -> Self {
        Config {
            sources: 1 << 16,
            one_in: 20,
            window: 1 << 17,
            deny: Vec::new(),
            allow: Vec::new(),
            seed: [0; 32],
        }
    }
}

impl Config {
    /// What the table of such a program takes, bytes.
    pub const fn table_bytes(&self) -> u64 {
        Sources::bytes(self.sources)
    }

    /// Whether all settings can be taken.
    ///
    /// # Errors
    /// All that cannot.
    pub fn check(&self) -> Result<(), Vec<Mistake>> {
        let mut mistakes = Mistakes::default();
        mistakes.demand_capacity(self.sources, "sources");
        mistakes.demand((1..=WINDOW_MAX).contains(&self.window), "window", "1 to 268,435,456");
        let is_share = self.one_in >= 2 && self.one_in <= self.window;
        mistakes.demand(is_share, "one_in", "2 to the window");
        mistakes.into_result()
    }
}

/// The longest window, packets: levels are differences of numbers that wrap.
const WINDOW_MAX: u32 = 1 << 28;

/// The source of a packet from outside, 0 for all other packets: 4 bytes.
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
    /// The source address in the IP header, little-endian.
    pub source: U32,
}

const _: () = assert!(size_of::<Record>() == 4);

/// A source that is blocked, with its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Its address.
    pub source: Ipv4Addr,
    /// How many of its packets the level stands for, rounded up.
    pub packets: u32,
    /// After so many packets of others it is free again.
    pub free_in: u32,
}

/// The mitigator, see the [module](self).
pub struct Ddos {
    /// Of each source the number of the packet, modulo 2^32, at which its level will be 0 if it is
    /// silent.
    drained_at: Sources,
    /// Packets so far, modulo 2^32.
    now: u32,
    forgotten: u64,
    key: HashKey,
    one_in: u32,
    window: u32,
    deny: PrefixSet,
    allow: PrefixSet,
    /// One set is cleaned when the lower bits of `now`, those in this mask, are all 0.
    cleaning: u32,
}

impl Ddos {
    /// A mitigator that knows no source.
    ///
    /// # Errors
    /// All settings that it cannot take.
    pub fn new(config: &Config) -> Result<Ddos, Vec<Mistake>> {
        config.check()?;
        let drained_at = Sources::new(config.sources);
        // All sets in turn within 2^30 packets, so that no level of 0 is ever taken for another.
        let cleaning = ((1 << 30) / drained_at.sets()) as u32 - 1;
        Ok(Ddos {
            drained_at,
            now: 0,
            forgotten: 0,
            key: HashKey::from_seed(config.seed),
            one_in: config.one_in,
            window: config.window,
            deny: PrefixSet::new(&config.deny),
            allow: PrefixSet::new(&config.allow),
            cleaning,
        })
    }

    /// The sources that are blocked for their share. Allocates.
    pub fn blocked(&self) -> Vec<Blocked> {
        self.drained_at.iter().filter_map(|source| self.blocked_one(source)).collect()
    }

    fn blocked_one(&self, (address, drained_at): (u32, u32)) -> Option<Blocked> {
        let is_listed = self.allow.has(address) || self.deny.has(address);
        let level = level(drained_at, self.now, 2 * self.window);
        (level > self.window && !is_listed).then(|| Blocked {
            source: address.into(),
            packets: level.div_ceil(self.one_in),
            free_in: level - self.window,
        })
    }

    /// How many sources had to go for new ones before their level was 0.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    fn hash_of(&self, source: u32) -> Hashed {
        Hashed::new(&self.key, source.into(), 0)
    }

    /// Counts a packet and tells the level of its source.
    #[inline(always)]
    fn count(&mut self, hash: Hashed, address: u32) -> u32 {
        self.now = self.now.wrapping_add(1);
        if self.now & self.cleaning == 0 {
            self.clean();
        }
        let (now, most) = (self.now, 2 * self.window);
        let Some(drained_at) = self.drained_at.get_mut(hash, address) else {
            return self.enter(hash, address);
        };
        let level = level(*drained_at, now, most) + self.one_in;
        // Loud sources and others come in any order.
        let level = select_unpredictable(level > most, most, level);
        *drained_at = now.wrapping_add(level);
        level
    }

    #[cold]
    #[inline(never)]
    fn enter(&mut self, hash: Hashed, address: u32) -> u32 {
        let (now, most) = (self.now, 2 * self.window);
        let rank = |drained_at| Some(level(drained_at, now, most).into());
        let drained_at = now.wrapping_add(self.one_in);
        if let Inserted::Replaced(other) = self.drained_at.insert(hash, address, drained_at, rank) {
            self.forgotten += u64::from(level(other, now, most) > 0);
        }
        self.one_in
    }

    /// Cleans the set whose turn it is of sources at level 0, lest the numbers wrap under them.
    #[cold]
    #[inline(never)]
    fn clean(&mut self) {
        let (now, most) = (self.now, 2 * self.window);
        let set = (now / (self.cleaning + 1)) as usize % self.drained_at.sets();
        self.drained_at.clean(set, |drained_at| level(drained_at, now, most) == 0);
    }

    #[inline(always)]
    fn verdict(&self, address: u32, level: u32) -> Verdict {
        let is_blocked = level > self.window;
        if !is_blocked && !self.deny.has(address) || self.allow.has(address) {
            return Verdict::Pass;
        }
        if self.deny.has(address) {
            return Verdict::Drop(DropReason::SourceListed);
        }
        Verdict::Drop(DropReason::SourceBlocked)
    }
}

/// A source's level: no more than `most`, unless it has drained long ago.
#[inline(always)]
fn level(drained_at: u32, now: u32, most: u32) -> u32 {
    let level = drained_at.wrapping_sub(now);
    select_unpredictable(level > most, 0, level)
}

impl Shown for Ddos {
    fn parts(&self) -> usize {
        self.drained_at.sets()
    }

    fn show(&self, parts: Range<usize>, each: &mut dyn FnMut(Row)) {
        let rows = self.drained_at.iter_sets(parts).filter_map(|source| self.blocked_one(source));
        rows.for_each(|row| each(Row::Blocked(row)));
    }
}

impl Program for Ddos {
    type Record = Record;
    type Probe = Hashed;
    type Event = ();

    #[inline]
    fn record(meta: &PacketMeta, side: Side, _: Moment) -> Record {
        let is_judged =
            side == Side::Outside && !matches!(meta.kind, Kind::ArpRequest | Kind::ArpReply);
        let source = if is_judged { meta.from.to_bits() } else { 0 };
        Record { source: source.into() }
    }

    #[inline(always)]
    fn probe(&self, record: &Record) -> Hashed {
        let hash = self.hash_of(record.source.get());
        self.drained_at.prefetch(hash);
        hash
    }

    #[inline(always)]
    fn step(&mut self, record: &Record, probe: &Hashed, _: &mut impl Events<()>) -> Verdict {
        let address = record.source.get();
        if address == 0 {
            cold_path();
            return Verdict::Pass;
        }
        let hash = probe.or(|| self.hash_of(address));
        let level = self.count(hash, address);
        self.verdict(address, level)
    }

    fn tick(&mut self, _: Ticks, _: &mut impl Events<()>) -> bool {
        false
    }
}

impl Replicable for Ddos {
    const NAME: &'static str = "ddos";

    #[inline(always)]
    fn follow(&mut self, record: &Record, probe: &Hashed) {
        let address = record.source.get();
        if address != 0 {
            self.count(probe.or(|| self.hash_of(address)), address);
        }
    }

    fn copy_from(&mut self, other: &Self) {
        self.drained_at.copy_from(&other.drained_at);
        (self.now, self.forgotten) = (other.now, other.forgotten);
    }

    fn digest(&self) -> u64 {
        self.drained_at.digest(mix(0, self.now.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ddos(sources: usize, now: u32) -> Ddos {
        let config = Config { sources, one_in: 8, window: 64, ..Config::default() };
        Ddos { now, ..Ddos::new(&config).expect("good settings") }
    }

    /// Sources of which some are above their share.
    fn source(packet: u32) -> Record {
        let number = packet.wrapping_mul(0x9e37_79b9) >> 27;
        Record { source: (1 + number * number / 64).into() }
    }

    #[test]
    fn numbers_may_wrap_and_sets_may_be_cleaned_at_any_time() {
        let mut programs = [ddos(1000, 0), ddos(1000, u32::MAX - 700), ddos(1000, 1 << 31)];
        programs[2].cleaning = 1;
        let mut dropped = 0;
        for packet in 0..5_000 {
            let record = source(packet);
            let step = |program: &mut Ddos| program.step(&record, &Hashed::default(), &mut ());
            let [verdict, wrapped, cleaned] = programs.each_mut().map(step);
            assert_eq!((verdict, verdict), (wrapped, cleaned), "packet {packet}");
            dropped += u32::from(verdict != Verdict::Pass);
        }
        assert!((500..4_500).contains(&dropped), "{dropped} dropped");
        assert!(programs[2].drained_at.iter().count() < programs[0].drained_at.iter().count());
    }

    #[test]
    fn who_was_silent_for_all_numbers_is_not_blocked() {
        let mut ddos = ddos(1000, 0);
        let (loud, other) = (Record { source: 7.into() }, Record { source: 9.into() });
        let mut step = |now: Option<u32>, record: &Record| {
            ddos.now = now.unwrap_or(ddos.now);
            let verdict = ddos.step(record, &Hashed::default(), &mut ());
            (
                verdict,
                ddos.drained_at.iter().count(),
                ddos.cleaning + 1,
                ddos.drained_at.sets() as u32,
            )
        };
        let (.., interval, sets) = (0..100).map(|_| step(None, &loud)).last().expect("packets");
        assert_eq!(step(None, &loud).0, Verdict::Drop(DropReason::SourceBlocked));
        assert_eq!(interval * sets, 1 << 30);
        // Of 2^30 packets only those behind which a set is cleaned.
        let ends = (1..=sets).map(|turn| step(Some(turn * interval - 1), &other).1);
        assert_eq!(ends.last(), Some(1), "only the other one is left");
        // The number at which it was blocked comes again.
        assert_eq!(step(Some(100), &loud).0, Verdict::Pass);
    }
}
