//! Table, deadlines, free list and walk put together as a session store, against a plain map.
//!
//! `KRONO_SEED=n cargo test -p krono-core --test flow_store` repeats a run.

use std::collections::HashMap;

use krono_core::deadlines::Deadlines;
use krono_core::freelist::{FreeList, Walk};
use krono_core::hash::HashKey;
use krono_core::program::Events;
use krono_core::table::{Bucket, FlowTable, Probe, SLOTS};
use krono_core::time::{Span, Ticks};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

type Key = u32;

/// How a store makes hashes of keys.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Keys {
    /// As in production.
    Random,
    /// As made by one who knows the secret: only four different tags.
    FewTags,
    /// Likewise: groups of keys with the same hash.
    EqualHashes,
}

impl Keys {
    fn hash(self, secret: &HashKey, key: Key) -> u64 {
        match self {
            Keys::Random => secret.hash(u64::from(key), 0),
            Keys::FewTags => secret.hash(u64::from(key), 0) & !0xffff | u64::from(key & 3),
            Keys::EqualHashes => secret.hash(u64::from(key / 24), 0),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Record {
    #[default]
    Unused,
    Free {
        next: u32,
    },
    Live {
        key: Key,
        value: u64,
        deadline: Ticks,
    },
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Created(Key, u64),
    Updated(Key, u64),
    Deleted(Key),
}

/// A session store as a program would build it, keys and values reduced to numbers.
struct Store<'m> {
    table: FlowTable<'m>,
    deadlines: Deadlines<'m>,
    free: FreeList,
    records: Vec<Record>,
    secret: HashKey,
    keys: Keys,
}

impl Store<'_> {
    fn hash(&self, key: Key) -> u64 {
        self.keys.hash(&self.secret, key)
    }

    fn is_of(&self, index: u32, key: Key) -> bool {
        matches!(self.records[index as usize], Record::Live { key: other, .. } if other == key)
    }

    fn probe(&self, key: Key) -> Probe {
        let mut probe = self.table.probe(self.hash(key));
        self.table.touch(&mut probe);
        probe
    }

    /// The record of `key`, unless it has expired, which ends it. Any probe is good.
    fn find(
        &mut self,
        key: Key,
        probe: Probe,
        now: Ticks,
        events: &mut impl Events<Change>,
    ) -> Option<u32> {
        let hint = probe.candidate().filter(|&index| self.is_of(index, key));
        let found =
            hint.or_else(|| self.table.find(self.hash(key), |index| self.is_of(index, key)));
        let index = found?;
        let Record::Live { deadline, .. } = self.records[index as usize] else { unreachable!() };
        if now.reached(deadline) {
            self.delete(index, events);
            return None;
        }
        Some(index)
    }

    /// Enters a key that is not there; false if there is no room.
    fn create(
        &mut self,
        key: Key,
        value: u64,
        deadline: Ticks,
        events: &mut impl Events<Change>,
    ) -> bool {
        let records = &self.records;
        let next_of = |index: u32| match records[index as usize] {
            Record::Free { next } => next,
            record => panic!("{record:?} in the list of free records"),
        };
        let Some(index) = self.free.take(next_of) else { return false };
        if self.table.insert(self.hash(key), index).is_err() {
            self.free.give(index, |next| self.records[index as usize] = Record::Free { next });
            return false;
        }
        self.records[index as usize] = Record::Live { key, value, deadline };
        self.deadlines.set(index, deadline);
        events.emit(Change::Created(key, value));
        true
    }

    fn update(
        &mut self,
        index: u32,
        value: u64,
        deadline: Ticks,
        events: &mut impl Events<Change>,
    ) {
        let Record::Live { key, deadline: before, .. } = self.records[index as usize] else {
            panic!("an update of a free record")
        };
        self.records[index as usize] = Record::Live { key, value, deadline };
        if before.reached(deadline) {
            self.deadlines.set(index, deadline);
        }
        events.emit(Change::Updated(key, value));
    }

    fn delete(&mut self, index: u32, events: &mut impl Events<Change>) {
        let Record::Live { key, .. } = self.records[index as usize] else {
            panic!("a deletion of a free record")
        };
        assert!(self.table.remove(self.hash(key), index), "key {key} was not in the table");
        self.deadlines.clear(index);
        self.free.give(index, |next| self.records[index as usize] = Record::Free { next });
        events.emit(Change::Deleted(key));
    }

    fn tick(&mut self, now: Ticks, most: usize, events: &mut impl Events<Change>) {
        self.deadlines.advance(now);
        for _ in 0..most {
            let Some(due) = self.deadlines.next_due() else { break };
            let Record::Live { deadline, .. } = self.records[due as usize] else {
                panic!("a free record has a deadline")
            };
            if now.reached(deadline) {
                self.delete(due, events);
            } else {
                self.deadlines.set(due, deadline);
            }
        }
    }

    fn live(&self) -> HashMap<Key, u64> {
        self.live_in(0..self.records.len()).collect()
    }

    fn live_in(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = (Key, u64)> {
        self.records[range].iter().filter_map(|record| match *record {
            Record::Live { key, value, .. } => Some((key, value)),
            _ => None,
        })
    }

    fn assert_consistent(&self) {
        self.table.assert_consistent(|index| match self.records[index as usize] {
            Record::Live { key, .. } => self.hash(key),
            record => panic!("{record:?} in the table"),
        });
        assert_eq!(self.table.len(), self.free.len() as usize);
    }
}

/// What a store is to hold: values and the moments at which they end, on a clock without wrap.
#[derive(Default)]
struct Model {
    entries: HashMap<Key, (u64, u64)>,
    now: u64,
}

impl Model {
    fn value(&self, key: Key) -> Option<u64> {
        self.entries.get(&key).filter(|(_, end)| self.now < *end).map(|(value, _)| *value)
    }
}

const BUCKETS: usize = 128;

/// A run: random operations on a store and on the model, compared at each.
struct Run<'m> {
    store: Store<'m>,
    model: Model,
    rng: StdRng,
    /// The store's clock when the model's is 0.
    start: u32,
    events: Vec<Change>,
    /// Keys are drawn from `0..universe`.
    universe: Key,
    probes: Vec<(Key, Probe)>,
    refused: usize,
    fullest: usize,
}

impl Run<'_> {
    /// Makes a store of `BUCKETS` buckets and as many records as fill `load` of them, and hands
    /// a run over it to `test`.
    fn with(keys: Keys, load: f64, start: u32, seed: u64, test: impl FnOnce(Run<'_>)) {
        let mut rng = StdRng::seed_from_u64(seed);
        let capacity = ((BUCKETS * SLOTS) as f64 * load) as usize;
        let (mut buckets, mut words) = (vec![Bucket::EMPTY; BUCKETS], vec![0; capacity]);
        let store = Store {
            table: FlowTable::new(&mut buckets),
            deadlines: Deadlines::new(&mut words),
            free: FreeList::new(capacity as u32),
            records: vec![Record::default(); capacity],
            secret: HashKey::from_seed(rng.random()),
            keys,
        };
        test(Run {
            store,
            model: Model::default(),
            rng,
            start,
            events: Vec::new(),
            universe: capacity as Key * 2,
            probes: Vec::new(),
            refused: 0,
            fullest: 0,
        });
    }

    fn ticks(&self) -> Ticks {
        Ticks(self.start.wrapping_add(self.model.now as u32))
    }

    fn span(&mut self) -> Span {
        let bits = self.rng.random_range(0..=30);
        Span(self.rng.random_range(0..=1 << bits))
    }

    /// A hint for `key` from any time ago, or none.
    fn any_probe(&mut self, key: Key) -> Probe {
        let old = self.probes.iter().position(|(other, _)| *other == key);
        match old {
            Some(place) if self.rng.random() => self.probes.swap_remove(place).1,
            _ if self.rng.random() => self.store.probe(key),
            _ => Probe::default(),
        }
    }

    /// One random operation, and what it must do.
    fn step(&mut self) {
        let key = self.rng.random_range(0..self.universe);
        match self.rng.random_range(0..100) {
            0..50 => self.create_or_update(key),
            50..75 => _ = self.find(key),
            75..82 => self.delete(key),
            82..90 => self.probes.push((key, self.store.probe(key))),
            _ => self.model.now += self.rng.random_range(0..2),
        }
        if self.rng.random_ratio(1, 5000) {
            self.pause();
        }
        self.probes.truncate(64);
        self.fullest = self.fullest.max(self.store.table.len());
    }

    fn find(&mut self, key: Key) -> Option<u32> {
        let (now, probe) = (self.ticks(), self.any_probe(key));
        let found = self.store.find(key, probe, now, &mut self.events);
        let value = found.map(|index| match self.store.records[index as usize] {
            Record::Live { value, .. } => value,
            record => panic!("found {record:?}"),
        });
        assert_eq!(value, self.model.value(key), "key {key} at {}", self.model.now);
        found
    }

    fn create_or_update(&mut self, key: Key) {
        let (value, span) = (self.rng.random(), self.span());
        let deadline = self.ticks().after(span);
        match self.find(key) {
            Some(index) => self.store.update(index, value, deadline, &mut self.events),
            None if self.store.create(key, value, deadline, &mut self.events) => {}
            None => {
                let full = self.store.free.len() == self.store.free.capacity();
                assert!(full || self.store.keys != Keys::Random, "refused for want of a slot");
                self.refused += 1;
                self.model.entries.remove(&key);
                return;
            }
        }
        self.model.entries.insert(key, (value, self.model.now + u64::from(span.0) + 1));
    }

    fn delete(&mut self, key: Key) {
        if let Some(index) = self.find(key) {
            self.store.delete(index, &mut self.events);
            self.model.entries.remove(&key);
        }
    }

    /// Time passes without a sweep, up to years, so that lookups alone see what has expired.
    fn pause(&mut self) {
        self.tick(usize::MAX);
        let bits = self.rng.random_range(0..=29);
        self.model.now += self.rng.random_range(0..1 << bits);
    }

    fn tick(&mut self, most: usize) {
        self.store.tick(self.ticks(), most, &mut self.events);
    }

    /// Everything that is there is found, and nothing else.
    fn compare_all(&mut self) {
        self.store.assert_consistent();
        for key in 0..self.universe {
            self.find(key);
        }
        self.store.assert_consistent();
        assert_eq!(self.store.table.len(), self.store.live().len());
    }
}

/// The starts put the wrap of the clock and the change of its sign into the run.
const STARTS: [u32; 4] = [0, (1 << 31) - 1000, u32::MAX - 1000, 12_345];

fn seed() -> u64 {
    let seed = std::env::var("KRONO_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(rand::random);
    println!("KRONO_SEED={seed}");
    seed
}

#[test]
fn the_store_does_what_a_plain_map_does() {
    let seed = seed();
    for keys in [Keys::Random, Keys::FewTags, Keys::EqualHashes] {
        for (load, start) in [0.3, 0.7, 0.95, 0.95].into_iter().zip(STARTS) {
            Run::with(keys, load, start, seed ^ u64::from(start), |mut run| {
                for round in 0..120 {
                    (0..1000).for_each(|_| run.step());
                    run.compare_all();
                    if round % 3 == 0 {
                        run.tick(usize::MAX);
                    }
                }
                let fullest = run.fullest as f64 / (BUCKETS * SLOTS) as f64;
                println!("{keys:?} {load} from {start}: {fullest:.2}, {} refused", run.refused);
                assert!(keys != Keys::Random || fullest > load - 0.01, "never full");
            });
        }
    }
}

/// With the packet path idle the sweep alone ends sessions: in time, and none early.
#[test]
fn the_sweep_ends_every_session_in_time() {
    let seed = seed();
    for start in STARTS {
        Run::with(Keys::Random, 0.9, start, seed, |mut run| {
            // Twice: half of the updates put the end off, the others bring it forward.
            for key in (0..900).chain(0..900) {
                run.create_or_update(key);
            }
            let mut live = run.store.live();
            while !live.is_empty() {
                let next = run.model.entries.values().map(|&(_, end)| end);
                let next = next.filter(|&end| end > run.model.now).min();
                // Up to the tick before the next end, or just on while ends lie close together.
                let now = run.model.now;
                run.model.now = next.map_or(now + 1, |next| (now + 1).max(next - 1));
                for _ in 0..3 {
                    run.tick(64);
                }
                live = run.store.live();
                for (key, &(_, end)) in &run.model.entries {
                    let now = run.model.now;
                    assert!(now >= end || live.contains_key(key), "{key} ended early");
                    assert!(now < end + 5 || !live.contains_key(key), "{key} ended late");
                }
            }
            run.store.assert_consistent();
            assert!(run.store.table.is_empty());
        });
    }
}

/// A consumer of changes that loses them now and then and makes up for it by a walk.
#[derive(Default)]
struct Consumer {
    copy: HashMap<Key, u64>,
    walk: Walk,
}

impl Consumer {
    fn apply(&mut self, events: &mut Vec<Change>) {
        for event in events.drain(..) {
            match event {
                Change::Created(key, value) | Change::Updated(key, value) => {
                    self.copy.insert(key, value);
                }
                Change::Deleted(key) => {
                    self.copy.remove(&key);
                }
            }
        }
    }
}

#[test]
fn a_walk_among_changes_rebuilds_the_store_exactly() {
    let seed = seed();
    for (load, start) in [0.5, 0.8, 0.95].into_iter().zip(STARTS) {
        Run::with(Keys::Random, load, start, seed, |mut run| {
            for _ in 0..60 {
                let quiet = run.rng.random_range(0..2000);
                (0..quiet).for_each(|_| run.step());
                run.events.clear();
                let mut consumer = Consumer::default();
                let (steps, budget) = (run.rng.random_range(0..40), run.rng.random_range(1..100));
                while let Some(range) =
                    consumer.walk.next_range(run.store.free.high_water(), budget)
                {
                    let range = range.start as usize..range.end as usize;
                    consumer.copy.extend(run.store.live_in(range));
                    (0..steps).for_each(|_| run.step());
                    consumer.apply(&mut run.events);
                }
                assert_eq!(consumer.copy, run.store.live());
            }
        });
    }
}
