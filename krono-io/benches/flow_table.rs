//! The flow table beside DPDK's `rte_hash`, beside hashbrown, and beside what the memory can do.
//!
//! ```text
//! cargo bench -p krono-io --bench flow_table                 # small: does it run?
//! KRONO_BENCH_TABLE=1 KRONO_BENCH_ENTRIES=1048576,8388608,33554432 \
//!     KRONO_BENCH_LOADS=0.5,0.8,0.95 cargo bench …          # one table, rounds interleaved
//! ```
//!
//! All are asked the same keys, 32 at a time, of 16 bytes each:
//! - `krono`: as the translator asks: hash and probe all, touch all, compare keys in the records.
//! - `rte_hash`: `rte_hash_lookup_bulk_data`; 8 bytes of data lie beside the key; no record.
//! - `hashbrown`: a bare loop of `get`; foldhash, and 8 bytes of data beside the key; no record.
//! - `… + work`: each lookup is followed by a packet's other work, see [`Frames::translate`].
//! - `limit`: the same number of random lines, prefetched and read: two for a key that is present
//!   (bucket and record), one for an absent one, out of as much memory.
//!
//! `rte_hash` and hashbrown have powers of two of slots only. So that all are equally full, slots
//! are rounded to such a number, and entries follow from the load. Hashbrown doubles above 7/8.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::c_void;
use std::fmt::Debug;
use std::hint::black_box;
use std::ptr;
use std::str::FromStr;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use dpdk_sys::{rte_hash, rte_hash_parameters};
use hashbrown::HashMap;
use krono_core::hash::HashKey;
use krono_core::table::{Bucket, FlowTable, Probe, SLOTS, prefetch};
use krono_io::{Eal, EalConfig, Hugepages};

const BATCH: usize = 32;

/// No more keys than these are asked for, in turn: enough that no cache holds what they lead to.
const KEYS_MAX: usize = 1 << 22;

/// Two words, so that hashbrown need not hash a length, as it would with an array.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(C)]
struct Key(u64, u64);

type Batch = [Key; BATCH];

impl Key {
    /// Different keys for different numbers. Those of even numbers are entered.
    fn number(n: u64) -> Key {
        // SplitMix64, which permutes.
        let mix = |mut z: u64| {
            z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ z >> 31
        };
        Key(mix(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)), mix(!n))
    }
}

/// Large blocks come aligned to 2 MiB, with the request for transparent huge pages.
struct OnHugePages;

const HUGE_PAGE: usize = 2 << 20;

#[global_allocator]
static ALLOCATOR: OnHugePages = OnHugePages;

// SAFETY: the system's allocator, asked for a larger alignment than was wanted, if need be.
unsafe impl GlobalAlloc for OnHugePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() < HUGE_PAGE {
            // SAFETY: as the caller promises.
            return unsafe { System.alloc(layout) };
        }
        let layout = layout.align_to(HUGE_PAGE).expect("2 MiB is a power of two");
        // SAFETY: as above; then advice on the block. A kernel without such pages refuses.
        unsafe {
            let block = System.alloc(layout);
            libc::madvise(block.cast(), layout.size(), libc::MADV_HUGEPAGE);
            block
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: what the system's allocator gave; it does not ask how it was aligned.
        unsafe { System.dealloc(block, layout) }
    }
}

/// MiB of this process on transparent huge pages.
fn on_huge_pages() -> usize {
    let maps = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let line = maps.lines().find_map(|line| line.strip_prefix("AnonHugePages:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kilobytes.unwrap_or(0) >> 10
}

/// A cache line, as a session is one.
#[derive(Clone, Default)]
#[repr(align(64))]
struct Record {
    key: Key,
    value: u64,
}

/// krono's flow table and what belongs to it.
struct Flows<'m> {
    table: FlowTable<'m>,
    records: Vec<Record>,
    secret: HashKey,
}

impl<'m> Flows<'m> {
    fn new(buckets: &'m mut [Bucket], entries: usize) -> Self {
        let secret = HashKey::from_seed([7; 32]);
        let mut table = FlowTable::new(buckets);
        let mut records = vec![Record::default(); entries];
        for (index, record) in records.iter_mut().enumerate() {
            *record = Record { key: Key::number(2 * index as u64), value: index as u64 };
            table.insert(secret.hash(record.key.0, record.key.1), index as u32).expect("room");
        }
        Flows { table, records, secret }
    }

    #[inline]
    fn touch(&self, probe: &mut Probe) {
        if let Some(index) = self.table.touch(probe) {
            prefetch(&self.records, index as usize);
        }
    }

    /// Calls `each` with the values of `keys`, one by one.
    #[inline]
    fn look_up(&self, keys: &Batch, mut each: impl FnMut(Option<u64>)) {
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
        for (probe, key) in probes.iter().zip(keys) {
            each(self.value(key, probe));
        }
    }

    #[inline]
    fn value(&self, key: &Key, probe: &Probe) -> Option<u64> {
        let is_of = |index: u32| self.records[index as usize].key == *key;
        let index = self.table.find_probed(probe, || self.hash(key), is_of)?;
        Some(self.records[index as usize].value)
    }

    #[inline]
    fn hash(&self, key: &Key) -> u64 {
        self.secret.hash(key.0, key.1)
    }
}

/// DPDK's hash table. Keys are compared where their data lie; a record would be one more line.
struct RteHash(*mut rte_hash);

impl RteHash {
    /// `None` if the EAL has no memory for it.
    fn new(slots: usize, entries: usize) -> Option<Self> {
        let parameters = rte_hash_parameters {
            name: c"flow_table".as_ptr(),
            // So many keys can be stored, and the next power of two of slots there are.
            entries: entries.max(slots / 2 + 1) as u32,
            key_len: size_of::<Key>() as u32,
            socket_id: -1,
            ..rte_hash_parameters::default()
        };
        // SAFETY: valid parameters; the EAL is up.
        let table = unsafe { dpdk_sys::rte_hash_create(&parameters) };
        let table = (!table.is_null()).then_some(RteHash(table))?;
        let is_full = (0..entries as u64).any(|n| !table.add(&Key::number(2 * n), n));
        (!is_full).then_some(table)
    }

    fn add(&self, key: &Key, value: u64) -> bool {
        let (key, value) = (ptr::from_ref(key).cast(), ptr::without_provenance_mut(value as usize));
        // SAFETY: a table, a key of the length that it was made for, and a value that is a number.
        unsafe { dpdk_sys::rte_hash_add_key_data(self.0, key, value) == 0 }
    }

    #[inline]
    fn look_up(&self, keys: &Batch, mut each: impl FnMut(Option<u64>)) {
        let mut pointers = keys.each_ref().map(|key| ptr::from_ref(key).cast::<c_void>());
        let mut values = [ptr::null_mut(); BATCH];
        let (mut hits, count) = (0, BATCH as u32);
        let (from, to) = (pointers.as_mut_ptr(), values.as_mut_ptr());
        // SAFETY: a table, and as many keys and places for values as is said.
        unsafe { dpdk_sys::rte_hash_lookup_bulk_data(self.0, from, count, &mut hits, to) };
        for (at, value) in values.iter().enumerate() {
            each((hits >> at & 1 != 0).then_some(value.addr() as u64));
        }
    }
}

impl Drop for RteHash {
    fn drop(&mut self) {
        // SAFETY: not used any more.
        unsafe { dpdk_sys::rte_hash_free(self.0) }
    }
}

/// A map that is asked key by key, as maps are.
struct Map(HashMap<Key, u64>);

impl Map {
    #[inline]
    fn look_up(&self, keys: &Batch, mut each: impl FnMut(Option<u64>)) {
        keys.iter().for_each(|key| each(self.0.get(key).copied()));
    }
}

/// No lookup at all.
struct Nothing;

impl Nothing {
    #[inline]
    fn look_up(&self, keys: &Batch, mut each: impl FnMut(Option<u64>)) {
        keys.iter().for_each(|key| each(Some(key.0)));
    }
}

/// A ring of frames, as a driver has it, and what else a translator does to each of them.
struct Frames {
    ring: Vec<[u16; 32]>,
    next: usize,
    last: u16,
}

impl Frames {
    fn new() -> Self {
        let frame = |n| std::array::from_fn(|at| (n as u16).wrapping_mul(31) ^ at as u16);
        Frames { ring: (0..1024).map(frame).collect(), next: 0, last: 0 }
    }

    /// Sums up 50 bytes of headers, writes an address and a port, and two checksums by RFC 1624:
    /// what a translator does beside its lookup, at the least. What is done to a packet depends on
    /// the one before, so that no two are done at once.
    #[inline(never)]
    fn translate(&mut self, value: u64) {
        let frame = &mut self.ring[self.next % 1024];
        self.next += 1;
        let sum = frame[7..32].iter().fold(self.last, |sum, &word| add(sum, word));
        let words = [value as u16, (value >> 16) as u16, (value >> 32) as u16];
        let mut change = sum;
        for (field, new) in frame[13..16].iter_mut().zip(words) {
            change = add(add(change, !*field), new);
            *field = new;
        }
        frame[12] = !add(!frame[12], change);
        frame[25] = !add(!frame[25], change);
        self.last = frame[25];
    }
}

/// The one's complement sum.
fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u16::from(carry)
}

/// Reads of random lines, in batches as lookups make them.
fn read_lines(buckets: &[Record], records: Option<&[Record]>, keys: &Batch) -> u64 {
    let place = |random: u64, lines: &[Record]| ((random >> 32) as usize * lines.len()) >> 32;
    let read = |lines: &[Record], word: fn(&Key) -> u64| {
        keys.iter().for_each(|key| prefetch(lines, place(word(key), lines)));
        keys.iter().fold(0, |sum: u64, key| sum.wrapping_add(lines[place(word(key), lines)].value))
    };
    let sum = read(buckets, |key| key.0);
    sum.wrapping_add(records.map_or(0, |records| read(records, |key| key.1)))
}

/// One that is measured: how many of a batch of keys it found.
struct Contender<'a> {
    name: &'static str,
    count: Box<dyn FnMut(&Batch) -> usize + 'a>,
}

/// Makes a contender of a thing that looks up.
macro_rules! contender {
    ($name:literal, $table:expr) => {
        Contender {
            name: $name,
            count: Box::new(move |keys| {
                let (mut found, mut sum) = (0, 0);
                $table.look_up(keys, |value| {
                    found += usize::from(value.is_some());
                    sum ^= value.unwrap_or(0);
                });
                black_box(sum);
                found
            }),
        }
    };
    ($name:literal, $table:expr, work) => {{
        let mut frames = Frames::new();
        Contender {
            name: $name,
            count: Box::new(move |keys| {
                let mut found = 0;
                $table.look_up(keys, |value| {
                    found += usize::from(value.is_some());
                    frames.translate(value.unwrap_or(0));
                });
                found
            }),
        }
    }};
}

/// The values of an environment variable, separated by commas, or else the default ones.
fn parameters<T: FromStr<Err: Debug>>(name: &str, default: &str) -> Vec<T> {
    let text = std::env::var(name).unwrap_or_else(|_| default.into());
    text.split(',').map(|value| value.parse().expect(name)).collect()
}

/// How many of how many slots are filled.
#[derive(Clone, Copy)]
struct Point {
    slots: usize,
    entries: usize,
    load: f64,
}

/// Where to measure.
fn points() -> Vec<Point> {
    let loads: Vec<f64> = parameters("KRONO_BENCH_LOADS", "0.5,0.9");
    let entries: Vec<f64> = parameters("KRONO_BENCH_ENTRIES", "65536");
    let point = |entries: f64, load: f64| {
        let slots = 1 << (entries / load).log2().round() as u32;
        Point { slots, entries: (slots as f64 * load) as usize, load }
    };
    entries.iter().flat_map(|&count| loads.iter().map(move |&load| point(count, load))).collect()
}

/// Keys to ask for, in random order; those with odd numbers are absent.
fn batches(entries: usize, parity: u64) -> Vec<Batch> {
    let random = |n: usize| Key::number(n as u64 + (1 << 40)).0 % entries as u64;
    let key = |n| Key::number(2 * random(n) + parity);
    let count = entries.min(KEYS_MAX) / BATCH;
    (0..count).map(|batch| std::array::from_fn(|at| key(batch * BATCH + at))).collect()
}

/// Fills all tables, and has them measured with present and with absent keys.
fn at(point: Point, mut measure: impl FnMut(&str, Point, &[Batch], usize, Vec<Contender<'_>>)) {
    let Point { slots, entries, .. } = point;
    let mut buckets = vec![Bucket::EMPTY; slots / SLOTS];
    let lines = vec![Record { key: Key(1, 1), value: 1 }; slots / SLOTS];
    let flows = &Flows::new(&mut buckets, entries);
    let rte_hash = &RteHash::new(slots, entries);
    let map = &Map((0..entries as u64).map(|n| (Key::number(2 * n), n)).collect());
    eprintln!("{entries} entries: {} MiB are on transparent huge pages", on_huge_pages());
    for (kind, parity, found) in [("present", 0, BATCH), ("absent", 1, 0)] {
        let records = (parity == 0).then_some(&flows.records[..]);
        let limit = |keys: &Batch| {
            black_box(read_lines(&lines, records, keys));
            found
        };
        let mut contenders = vec![
            Contender { name: "limit", count: Box::new(limit) },
            contender!("krono", flows),
            contender!("hashbrown", map),
            contender!("krono + work", flows, work),
            contender!("hashbrown + work", map, work),
        ];
        if let Some(table) = rte_hash {
            contenders.push(contender!("rte_hash", table));
            contenders.push(contender!("rte_hash + work", table, work));
        }
        if parity == 0 {
            contenders.push(contender!("work", Nothing, work));
        }
        measure(kind, point, &batches(entries, parity), found, contenders);
    }
}

/// The rates of all contenders as rows of a Markdown table: medians of interleaved rounds.
fn print_table(rounds: usize) {
    println!("Million lookups per second of CPU time, medians of {rounds} rounds:\n");
    println!(
        "| entries | load | keys | krono | rte_hash | ratio | hashbrown | ratio | limit | share \
         | with work: krono | rte_hash | hashbrown | ratio | work alone |"
    );
    println!("|{}", "---:|".repeat(15));
    points().into_iter().for_each(|point| {
        at(point, |kind, Point { entries, load, .. }, batches, found, mut contenders| {
            let rates = medians(rounds, batches, found, &mut contenders);
            let rate = |name| {
                let place = contenders.iter().position(|contender| contender.name == name);
                place.map_or(f64::NAN, |place| rates[place])
            };
            let (krono, rte_hash, map) = (rate("krono"), rate("rte_hash"), rate("hashbrown"));
            let (krono_work, map_work) = (rate("krono + work"), rate("hashbrown + work"));
            let limit = rate("limit");
            println!(
                "| {entries} | {load} | {kind} | {krono:.1} | {rte_hash:.1} | {:.2} | {map:.1} \
                 | {:.2} | {limit:.1} | {:.0} % | {krono_work:.1} | {:.1} | {map_work:.1} | {:.2} \
                 | {:.1} |",
                krono / rte_hash,
                krono / map,
                100.0 * krono / limit,
                rate("rte_hash + work"),
                krono_work / map_work,
                rate("work"),
            );
        });
    });
}

/// Of each contender, the median of its rates, in millions per second. They take turns.
fn medians(
    rounds: usize,
    batches: &[Batch],
    found: usize,
    contenders: &mut [Contender<'_>],
) -> Vec<f64> {
    let mut turn = batches.iter().cycle();
    let mut rates = vec![Vec::new(); contenders.len()];
    for _ in 0..rounds {
        for (Contender { name, count }, rates) in contenders.iter_mut().zip(&mut rates) {
            let mut run = |time| {
                let (start, mut done) = (cpu_time(), 0);
                while cpu_time() - start < time {
                    for keys in turn.by_ref().take(256) {
                        assert_eq!(count(keys), found, "{name}");
                    }
                    done += 256 * BATCH;
                }
                done as f64 / (cpu_time() - start) / 1e6
            };
            // Until the caches are no longer those of the one before.
            run(0.015);
            rates.push(run(0.015));
        }
    }
    rates.iter_mut().for_each(|rates| rates.sort_by(f64::total_cmp));
    rates.iter().map(|rates| rates[rounds / 2]).collect()
}

/// Seconds for which this thread ran, which leaves out what others do with its CPU.
fn cpu_time() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the time to where there is place for it.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn run_criterion(criterion: &mut Criterion) {
    points().into_iter().for_each(|point| {
        at(point, |kind, Point { entries, load, .. }, batches, found, contenders| {
            let mut group = criterion.benchmark_group(format!("{kind}/{entries}/{load}"));
            group.throughput(Throughput::Elements(BATCH as u64));
            for Contender { name, mut count } in contenders {
                let mut turn = batches.iter().cycle();
                group.bench_function(name, |bencher| {
                    bencher.iter(|| {
                        let keys = turn.next().expect("a cycle has no end");
                        assert_eq!(count(keys), found, "{name}");
                    });
                });
            }
        });
    });
}

/// An entry goes and another comes, at a steady load: what a new session costs krono's table.
fn run_churn(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("churn");
    group.throughput(Throughput::Elements(1));
    for Point { slots, entries, load } in points() {
        let secret = HashKey::from_seed([1; 32]);
        let mut buckets = vec![Bucket::EMPTY; slots / SLOTS];
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

/// The EAL, with memory for the largest `rte_hash`.
fn start_eal() -> Eal {
    // A slot is an eighth of a line and 4 bytes in a ring; a key with its data is 32 bytes.
    let bytes = points().into_iter().map(|point| point.slots * 12 + point.entries * 33).max();
    let memory_mb = (bytes.unwrap_or(0) >> 20) as u32 + 64;
    let config = EalConfig { memory_mb, lcores: Some("0".into()), ..EalConfig::default() };
    let required = EalConfig { hugepages: Hugepages::Required, ..config.clone() };
    Eal::start(&required).unwrap_or_else(|error| {
        println!("rte_hash is on normal pages, which slows it down: {error}");
        Eal::start(&config).expect("the EAL starts without huge pages")
    })
}

fn main() {
    let _eal = start_eal();
    if std::env::var_os("KRONO_BENCH_TABLE").is_some() {
        return print_table(parameters("KRONO_BENCH_ROUNDS", "15")[0]);
    }
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(50))
        .measurement_time(Duration::from_millis(150))
        .configure_from_args();
    run_criterion(&mut criterion);
    run_churn(&mut criterion);
    criterion.final_summary();
}
