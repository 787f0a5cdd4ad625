//! The DDoS mitigator whose counts all cores share as atomics: a baseline for [`super::ddos`].
//!
//! A level is what it is there: a source's packets raise it by `one_in`, each packet of anybody lowers
//! it by 1. But packets are numbered by one atomic counter, and a source is one atomic word that a
//! core changes by compare and swap, so no core ever waits for another that has been interrupted.
//! What cores do at the same time takes effect in some order; counts are never lost. Two cores that
//! meet a new source at once may give it two places in its set; each then counts a part, of which
//! the second is found no more and drains.
//!
//! The counter is a line that all cores write for each packet, and so is the word of a source that
//! they all meet: that is what this baseline shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crossbeam::utils::CachePadded;
use krono_core::drop::DropReason;
use krono_core::hash::HashKey;
use krono_core::packet::{PacketMeta, Side};
use krono_core::program::{Events, Program, Verdict};
use krono_core::table::prefetch;
use krono_core::time::{Moment, Ticks};

use super::ddos::{Config, Ddos, Record};
use super::{Mistake, PrefixSet};

/// Sources of a set: one line.
const WAYS: usize = 8;

#[derive(Default)]
#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

/// What is known of a source, as one word; 0 is nobody.
#[derive(Clone, Copy)]
struct Source {
    address: u32,
    /// The number of the packet, modulo 2^32, at which the level will be 0 if the source is silent.
    drained_at: u32,
}

impl Source {
    #[inline(always)]
    const fn of_word(word: u64) -> Source {
        Source { address: (word >> 32) as u32, drained_at: word as u32 }
    }

    #[inline(always)]
    const fn word(self) -> u64 {
        (self.address as u64) << 32 | self.drained_at as u64
    }
}

struct Shared {
    /// Packets so far, modulo 2^32.
    now: CachePadded<AtomicU32>,
    sets: Box<[Set]>,
    key: HashKey,
    one_in: u32,
    window: u32,
    deny: PrefixSet,
    allow: PrefixSet,
    /// One set is cleaned when the lower bits of a packet's number, those in this mask, are all 0.
    cleaning: u32,
}

/// A core's handle of the mitigator; a clone is another core's.
#[derive(Clone)]
pub struct SharedDdos(Arc<Shared>);

impl SharedDdos {
    /// A mitigator that knows no source.
    ///
    /// # Errors
    /// All settings that it cannot take.
    pub fn new(config: &Config) -> Result<SharedDdos, Vec<Mistake>> {
        config.check()?;
        let sets = (2 * config.sources).div_ceil(WAYS).next_power_of_two();
        Ok(SharedDdos(Arc::new(Shared {
            now: CachePadded::default(),
            sets: (0..sets).map(|_| Set::default()).collect(),
            key: HashKey::from_seed(config.seed),
            one_in: config.one_in,
            window: config.window,
            deny: PrefixSet::new(&config.deny),
            allow: PrefixSet::new(&config.allow),
            // All sets in turn within 2^30 packets, as in `super::ddos`.
            cleaning: ((1 << 30) / sets) as u32 - 1,
        })))
    }

    /// The level of a source, as of now; `None` if it is not known.
    pub fn level(&self, source: u32) -> Option<u32> {
        let shared = &*self.0;
        let words = shared.set(source).0.iter().map(|word| Source::of_word(word.load(Relaxed)));
        let found = words.into_iter().find(|known| known.address == source)?;
        Some(shared.level(found, shared.now.load(Relaxed)))
    }
}

impl Shared {
    #[inline(always)]
    fn index(&self, address: u32) -> usize {
        self.key.hash(address.into(), 0) as usize & (self.sets.len() - 1)
    }

    #[inline(always)]
    fn set(&self, address: u32) -> &Set {
        &self.sets[self.index(address)]
    }

    /// A source's level, 0 if it has drained. Of a core that was held up behind its number it may be
    /// more than it can rise to: others have raised it by then.
    #[inline(always)]
    fn level(&self, source: Source, now: u32) -> u32 {
        source.drained_at.wrapping_sub(now).cast_signed().max(0).cast_unsigned()
    }

    /// Counts a packet and tells the level of its source.
    #[inline(always)]
    fn count(&self, address: u32) -> u32 {
        let now = self.now.fetch_add(1, Relaxed).wrapping_add(1);
        if now & self.cleaning == 0 {
            self.clean(now);
        }
        let Set(words) = self.set(address);
        loop {
            let seen = words.each_ref().map(|word| word.load(Relaxed));
            let of_source = seen.iter().position(|word| Source::of_word(*word).address == address);
            let (way, level) = match of_source {
                Some(way) => {
                    let level = self.level(Source::of_word(seen[way]), now);
                    (way, (level + self.one_in).min(2 * self.window))
                }
                None => (self.lowest(&seen, now), self.one_in),
            };
            let word = Source { address, drained_at: now.wrapping_add(level) }.word();
            if words[way].compare_exchange_weak(seen[way], word, Relaxed, Relaxed).is_ok() {
                return level;
            }
        }
    }

    /// Who has to go: nobody, or of those of the lowest level the first.
    #[cold]
    fn lowest(&self, seen: &[u64; WAYS], now: u32) -> usize {
        let rank = |way: &usize| match seen[*way] {
            0 => None,
            word => Some(self.level(Source::of_word(word), now)),
        };
        (0..WAYS).min_by_key(rank).expect("a set has places")
    }

    /// Cleans the set whose turn it is of sources at level 0, lest the numbers wrap under them.
    #[cold]
    fn clean(&self, now: u32) {
        let set = (now / (self.cleaning + 1)) as usize % self.sets.len();
        for word in &self.sets[set].0 {
            let seen = word.load(Relaxed);
            if self.level(Source::of_word(seen), now) == 0 {
                // Who is met at this moment stays.
                let _ = word.compare_exchange(seen, 0, Relaxed, Relaxed);
            }
        }
    }
}

impl Program for SharedDdos {
    type Record = Record;
    type Probe = ();
    type Event = ();

    #[inline]
    fn record(meta: &PacketMeta, side: Side, now: Moment) -> Record {
        Ddos::record(meta, side, now)
    }

    #[inline(always)]
    fn probe(&self, record: &Record) {
        prefetch(&self.0.sets, self.0.index(record.source.get()));
    }

    #[inline(always)]
    fn step(&mut self, record: &Record, _: &(), _: &mut impl Events<()>) -> Verdict {
        let (shared, address) = (&*self.0, record.source.get());
        if address == 0 {
            return Verdict::Pass;
        }
        let is_blocked = shared.count(address) > shared.window;
        if shared.allow.has(address) {
            Verdict::Pass
        } else if shared.deny.has(address) {
            Verdict::Drop(DropReason::SourceListed)
        } else if is_blocked {
            Verdict::Drop(DropReason::SourceBlocked)
        } else {
            Verdict::Pass
        }
    }

    fn tick(&mut self, _: Ticks, _: &mut impl Events<()>) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    const SOURCES: u32 = 3;

    fn record(packet: u32) -> Record {
        Record { source: (1 + packet % SOURCES).into() }
    }

    fn step(core: &mut SharedDdos, packet: u32) -> Verdict {
        core.step(&record(packet), &(), &mut ())
    }

    #[test]
    fn one_core_decides_as_the_mitigator_does() {
        let config = Config { sources: 1000, one_in: 8, window: 64, ..Config::default() };
        let (mut own, mut shared) =
            (Ddos::new(&config).expect("good"), SharedDdos::new(&config).expect("good"));
        let mut dropped = 0;
        for packet in 0_u32..20_000 {
            let number = packet.wrapping_mul(0x9e37_79b9) >> 27;
            let record = Record { source: (1 + number * number / 64).into() };
            let verdict = own.step(&record, &Default::default(), &mut ());
            assert_eq!(shared.step(&record, &(), &mut ()), verdict, "packet {packet}");
            dropped += u32::from(verdict != Verdict::Pass);
        }
        assert!((1_000..19_000).contains(&dropped), "{dropped} dropped");
    }

    /// As long as no level comes to either end, it only depends on how many packets there were.
    #[test]
    fn no_packet_of_any_core_is_lost() {
        const CORES: u32 = 4;
        const PACKETS: u32 = 300_000;
        let config = Config { sources: 1000, one_in: 100, window: 1 << 28, ..Config::default() };
        let mut alone = SharedDdos::new(&config).expect("good");
        let mut together = SharedDdos::new(&config).expect("good");
        for packet in 0..SOURCES {
            step(&mut alone, packet);
            step(&mut together, packet);
        }
        (0..PACKETS).for_each(|packet| _ = step(&mut alone, packet));
        let start = Arc::new(Barrier::new(CORES as usize));
        let cores = (0..CORES).map(|index| {
            let (mut core, start) = (together.clone(), start.clone());
            thread::spawn(move || {
                start.wait();
                let own = (index..PACKETS).step_by(CORES as usize);
                own.for_each(|packet| _ = step(&mut core, packet));
            })
        });
        let cores: Vec<_> = cores.collect();
        cores.into_iter().for_each(|core| core.join().expect("it counts"));
        let levels = |core: &SharedDdos| (1..=SOURCES).map(|it| core.level(it)).collect::<Vec<_>>();
        assert_eq!(levels(&together), levels(&alone));
        assert!(levels(&alone)[0].is_some_and(|level| level > PACKETS));
    }

    #[test]
    fn who_has_to_go_is_who_has_the_lowest_level() {
        let config = Config { sources: 4, one_in: 100, window: 1 << 20, ..Config::default() };
        let mut core = SharedDdos::new(&config).expect("good");
        assert_eq!(core.0.sets.len(), 1);
        for source in 1..=8 {
            (0..source)
                .for_each(|_| _ = core.step(&Record { source: source.into() }, &(), &mut ()));
        }
        core.step(&Record { source: 9.into() }, &(), &mut ());
        assert_eq!((core.level(1), core.level(9)), (None, Some(100)));
        assert!((2..=8).all(|source| core.level(source).is_some()));
        let lowest_set_again = core.0.cleaning + 1;
        core.0.now.store(lowest_set_again - 1, Relaxed);
        core.step(&Record { source: 9.into() }, &(), &mut ());
        assert_eq!(core.level(8), None, "a set that was cleaned is empty but for who comes");
    }
}
