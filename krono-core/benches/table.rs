//! Lookups in the flow table, in batches as a burst makes them: probe all, touch all, find all.
//!
//! ```text
//! cargo bench -p krono-core --bench table
//! KRONO_BENCH_ENTRIES=1048576,33554432 KRONO_BENCH_LOADS=0.5,0.9 cargo bench …
//! GLIBC_TUNABLES=glibc.malloc.hugetlb=1 cargo bench …      # on transparent huge pages
//! ```

use std::fmt::Debug;
use std::hint::black_box;
use std::str::FromStr;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use krono_core::hash::HashKey;
use krono_core::table::{Bucket, FlowTable, Probe, SLOTS, prefetch};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

const BATCH: usize = 32;

type Key = [u64; 2];

/// A cache line, as a session is one.
#[derive(Clone, Default)]
#[repr(align(64))]
struct Record {
    key: Key,
}

/// What is looked up in, and how.
struct Flows<'m> {
    table: FlowTable<'m>,
    records: &'m [Record],
    secret: HashKey,
}

impl Flows<'_> {
    fn is_of(&self, index: u32, key: &Key) -> bool {
        self.records[index as usize].key == *key
    }

    /// How many of `keys` are there.
    fn count_found(&self, keys: &[Key; BATCH]) -> usize {
        let mut probes = [Probe::default(); BATCH];
        for (probe, key) in probes.iter_mut().zip(keys) {
            *probe = self.table.probe(self.hash(key));
        }
        for probe in &mut probes {
            self.touch(probe);
        }
        for probe in probes.iter_mut().filter(|probe| probe.goes_on()) {
            self.touch(probe);
        }
        probes.iter().zip(keys).filter(|(probe, key)| self.is_found(key, probe)).count()
    }

    #[inline]
    fn touch(&self, probe: &mut Probe) {
        if let Some(index) = self.table.touch(probe) {
            prefetch(self.records, index as usize);
        }
    }

    fn is_found(&self, key: &Key, probe: &Probe) -> bool {
        self.table.find_probed(probe, || self.hash(key), |index| self.is_of(index, key)).is_some()
    }

    fn hash(&self, [a, b]: &Key) -> u64 {
        self.secret.hash(*a, *b)
    }
}

/// The values of an environment variable, separated by commas, or else the default ones.
fn parameters<T: FromStr<Err: Debug>>(name: &str, default: &str) -> Vec<T> {
    let text = std::env::var(name).unwrap_or_else(|_| default.into());
    text.split(',').map(|value| value.parse().expect(name)).collect()
}

/// Numbers of entries and loads to measure at.
fn points() -> Vec<(usize, f64)> {
    let loads: Vec<f64> = parameters("KRONO_BENCH_LOADS", "0.5,0.9");
    let entries: Vec<usize> = parameters("KRONO_BENCH_ENTRIES", "4096,262144");
    entries.iter().flat_map(|&entries| loads.iter().map(move |&load| (entries, load))).collect()
}

fn buckets_at(entries: usize, load: f64) -> Vec<Bucket> {
    let count = (entries as f64 / load / SLOTS as f64).ceil() as usize;
    vec![Bucket::EMPTY; count.next_multiple_of(2)]
}

fn lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lookup");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (entries, load) in points() {
        let mut rng = StdRng::seed_from_u64(1);
        let secret = HashKey::from_seed(rng.random());
        let mut keys_with = |parity: u64| -> Vec<Key> {
            (0..entries).map(|_| [rng.random::<u64>() << 1 | parity, rng.random()]).collect()
        };
        let (mut present, absent) = (keys_with(1), keys_with(0));
        let records: Vec<_> = present.iter().map(|&key| Record { key }).collect();
        present.shuffle(&mut rng);

        let mut buckets = buckets_at(entries, load);
        let mut table = FlowTable::new(&mut buckets);
        for (index, Record { key: [a, b] }) in records.iter().enumerate() {
            table.insert(secret.hash(*a, *b), index as u32).expect("room for all entries");
        }
        let flows = Flows { table, records: &records, secret };
        for (name, keys, found) in [("present", present, BATCH), ("absent", absent, 0)] {
            let mut batches = keys.as_chunks::<BATCH>().0.iter().cycle();
            let id = BenchmarkId::new(name, format!("{entries}/{load}"));
            group.bench_function(id, |bencher| {
                bencher.iter(|| {
                    let keys = black_box(batches.next().expect("a cycle has no end"));
                    assert_eq!(flows.count_found(keys), found);
                });
            });
        }
    }
    group.finish();
}

/// An entry goes and another comes, at a steady load: what a new session costs the table.
fn churn(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("churn");
    group.throughput(Throughput::Elements(1));
    for (entries, load) in points() {
        let secret = HashKey::from_seed([1; 32]);
        let mut buckets = buckets_at(entries, load);
        let mut table = FlowTable::new(&mut buckets);
        let (mut oldest, mut newest) = (0, entries as u32);
        for index in oldest..newest {
            table.insert(secret.hash(index.into(), 0), index).expect("room for all entries");
        }
        group.bench_function(format!("{entries}/{load}"), |bencher| {
            bencher.iter(|| {
                assert!(table.remove(secret.hash(oldest.into(), 0), oldest));
                table.insert(secret.hash(newest.into(), 0), newest).expect("room for one more");
                (oldest, newest) = (oldest.wrapping_add(1), newest.wrapping_add(1));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, lookup, churn);
criterion_main!(benches);
