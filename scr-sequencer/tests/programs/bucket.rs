use krono_core::drop::DropReason::{BucketsFull, RateExceeded};
use krono_core::program::{Program, Verdict};
use rand::RngExt;
use scr_sequencer::programs::bucket::{Config, Policer, Record};
use scr_sequencer::programs::{FourTuple, Marks};

use crate::harness::{self, Model};

/// Buckets in places, each of them filled with each packet, in millionths of a token.
#[derive(Clone, Debug, PartialEq)]
struct Buckets {
    rate: u128,
    depth: u128,
    time: Option<u32>,
    /// Flow, tokens, drops.
    places: Vec<Option<(FourTuple, u128, u64)>>,
}

impl Model for Buckets {
    type Program = Policer;
    type Listing = Vec<(u32, u32, u64)>;

    fn step(&mut self, record: &Record) -> Verdict {
        if record.marks == Marks::default() {
            return Verdict::Pass;
        }
        let time = record.time.get();
        let passed = time.wrapping_sub(self.time.unwrap_or(time));
        let is_back = passed > u32::MAX - 1_000_000;
        let passed = if is_back { 0 } else { u128::from(passed) };
        self.time = Some(if is_back { self.time.unwrap_or(time) } else { time });
        for (_, tokens, drops) in self.places.iter_mut().flatten() {
            *tokens = self.depth.min(*tokens + passed * self.rate);
            *drops = if *tokens == self.depth { 0 } else { *drops };
        }
        let key = record.tuple;
        let is_it =
            |place: &Option<(FourTuple, u128, u64)>| place.is_some_and(|(other, ..)| other == key);
        let known = self.places.iter().position(is_it);
        let free = || self.places.iter().position(Option::is_none);
        let is_full = |place: &Option<(FourTuple, u128, u64)>| {
            place.is_some_and(|(_, tokens, _)| tokens == self.depth)
        };
        let full = || self.places.iter().position(is_full);
        let Some(place) = known.or_else(free).or_else(full) else {
            return Verdict::Drop(BucketsFull);
        };
        let (tokens, drops) = match self.places[place] {
            Some((other, tokens, drops)) if other == key => (tokens, drops),
            _ => (self.depth, 0),
        };
        if tokens < 1_000_000 {
            self.places[place] = Some((key, tokens, drops + 1));
            return Verdict::Drop(RateExceeded);
        }
        self.places[place] = Some((key, tokens - 1_000_000, drops));
        Verdict::Pass
    }

    fn listing(&self) -> Self::Listing {
        let partial = self.places.iter().flatten().filter(|(_, tokens, _)| *tokens < self.depth);
        let mut listing: Vec<_> = partial
            .map(|(key, tokens, drops)| (key.src.get(), (tokens / 1_000_000) as u32, *drops))
            .collect();
        listing.sort_unstable();
        listing
    }

    fn listing_of(program: &Policer) -> Self::Listing {
        let row = |bucket: scr_sequencer::programs::bucket::Bucket| {
            (bucket.flow.source.addr.to_bits(), bucket.tokens, bucket.dropped)
        };
        let mut listing: Vec<_> = program.buckets().into_iter().map(row).collect();
        listing.sort_unstable();
        listing
    }
}

fn record(number: u32, time: u32) -> Record {
    let tuple = FourTuple {
        src: (0x0a00_0000 + number).into(),
        dst: 0xc000_0201.into(),
        sport: 7.into(),
        dport: 80.into(),
    };
    Record { tuple, time: time.into(), marks: Marks { syn: 4, fin: 0 } }
}

#[test]
fn packets_pass_as_the_buckets_say() {
    let mut tally = harness::Tally::default();
    harness::with_seeds(|rng| {
        for (flows, places) in [(8, 8), (512, 512)] {
            let rate = *[1, 7, 999, 16_384, 999_983, 3_000_001, 100_000_000]
                .get(rng.random_range(0..7))
                .expect("a rate");
            let burst = rng.random_range(1..20);
            let config = Config { flows, rate, burst, seed: [6; 32] };
            let new = || Policer::new(&config).expect("good settings");
            let places = vec![None; places];
            let depth = u128::from(burst) * 1_000_000;
            let model = Buckets { rate: rate.into(), depth, time: None, places };
            let many = rng.random_range(3..40);
            let usual = 2_000_000 / rate / many + 2;
            let mut time: u32 = rng.random();
            harness::hold(rng, &mut tally, new, model, |rng| {
                if rng.random_range(0..40) == 0 {
                    return Record::default();
                }
                time = time.wrapping_add(match rng.random_range(0..100) {
                    0 => rng.random_range(0..u32::MAX - 1_000_000),
                    1 => u32::MAX - rng.random_range(0..1_000),
                    _ => rng.random_range(0..usual),
                });
                record(rng.random_range(0..many), time)
            });
        }
    });
    tally.demand(&[Verdict::Pass, Verdict::Drop(RateExceeded), Verdict::Drop(BucketsFull)]);
}

fn send(policer: &mut Policer, number: u32, time: u64) -> Verdict {
    policer.step(&record(number, time as u32), &Default::default(), &mut ())
}

#[test]
fn the_rate_is_exact_over_wraps() {
    // Every 1,000,000/999,983 microseconds: no rate that microseconds divide.
    let config = Config { flows: 64, rate: 999_983, burst: 3, seed: [2; 32] };
    let mut policer = Policer::new(&config).expect("good settings");
    let (start, span) = (u64::from(u32::MAX) - 2_000_000, 5_000_000);
    let passed = (start..start + span)
        .filter(|time| send(&mut policer, 1, *time) == Verdict::Pass)
        .count() as u64;
    // The burst, and then what was gained since the first packet.
    assert_eq!(passed, 3 + (span - 1) * 999_983 / 1_000_000);
}

#[test]
fn a_silence_of_an_hour_fills_a_bucket_wherever_time_begins() {
    let config = Config { flows: 64, rate: 1, burst: 3, seed: [2; 32] };
    for start in [0, 1, (1 << 31) - 5, (1 << 31) + 5, u64::from(u32::MAX) - 5] {
        let mut policer = Policer::new(&config).expect("good settings");
        let drained = |policer: &mut Policer, time| {
            (0..5).filter(|_| send(policer, 1, time) == Verdict::Pass).count()
        };
        assert_eq!(drained(&mut policer, start), 3);
        assert_eq!(drained(&mut policer, start + 999_999), 0);
        assert_eq!(drained(&mut policer, start + 1_000_000), 1);
        assert_eq!(drained(&mut policer, start + 3_600_000_000), 3);
        assert_eq!(policer.buckets()[0].dropped, 2);
    }
}

#[test]
fn nothing_is_allocated_behind_the_start() {
    let config = Config { flows: 64, ..Config::default() };
    harness::allocates_nothing(Policer::new(&config).expect("good settings"));
}
