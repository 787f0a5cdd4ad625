//! What is asked of every program.

use std::fmt::Debug;

use krono_core::program::{Program, Verdict};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use scr_sequencer::Replicable;
use zerocopy::FromBytes;

/// A program as its description has it.
pub(crate) trait Model: Clone + PartialEq + Debug {
    type Program: Replicable;
    type Listing: PartialEq + Debug;

    fn step(&mut self, record: &<Self::Program as Program>::Record) -> Verdict;

    /// What the program is to list, in an order of its own.
    fn listing(&self) -> Self::Listing;
    fn listing_of(program: &Self::Program) -> Self::Listing;
}

const RUNS: u64 = 24;
const STEPS: usize = 4_000;
/// A stale probe is that many steps old.
const AGE: usize = 300;

/// Runs `trial` with seeds, which it says.
pub(crate) fn with_seeds(mut trial: impl FnMut(&mut StdRng)) {
    let given = std::env::var("KRONO_SEED").ok().map(|seed| seed.parse().expect("a number"));
    for seed in given.map_or(1..=RUNS, |seed: u64| seed..=seed) {
        println!("KRONO_SEED={seed}");
        trial(&mut StdRng::seed_from_u64(seed));
    }
}

/// What happened in some trials, so that a test sees that it tests something.
#[derive(Debug, Default)]
pub(crate) struct Tally(std::collections::HashMap<String, usize>);

impl Tally {
    fn count(&mut self, verdict: Verdict) {
        *self.0.entry(format!("{verdict:?}")).or_default() += 1;
    }

    /// Demands that each of these was seen some times.
    pub(crate) fn demand(&self, verdicts: &[Verdict]) {
        println!("{self:#?}");
        let seen = |verdict| self.0.get(&format!("{verdict:?}")).copied().unwrap_or_default();
        for verdict in verdicts {
            assert!(seen(verdict) >= 20, "{verdict:?} was seen {} times", seen(verdict));
        }
    }
}

/// Holds a program against its model, with random records.
pub(crate) fn hold<M: Model>(
    rng: &mut StdRng,
    tally: &mut Tally,
    new: impl Fn() -> M::Program,
    mut model: M,
    draw: impl FnMut(&mut StdRng) -> <M::Program as Program>::Record,
) {
    let (mut program, mut twin) = (new(), new());
    let records = records::<M::Program>(rng, draw);
    let mut old: Vec<_> = records[..AGE].iter().map(|record| program.probe(record)).collect();
    for (step, record) in records.iter().enumerate() {
        let probe = match rng.random_range(0..4) {
            0 => <M::Program as Program>::Probe::default(),
            1 => old[step % AGE],
            _ => touched(&program, record, program.probe(record)),
        };
        let (before, digest) = (model.clone(), program.digest());
        let verdict = program.step(record, &probe, &mut ());
        assert_eq!(verdict, model.step(record), "step {step}: {record:?}\n{before:#?}");
        let default = <M::Program as Program>::Probe::default();
        assert_eq!(verdict, twin.step(record, &default, &mut ()), "step {step}: {record:?}");
        tally.count(verdict);
        let news = program.digest();
        assert_eq!(news, twin.digest(), "step {step}: {record:?}");
        assert!(news != digest || model == before, "step {step} left no trace: {record:?}");
        if let Some(next) = records.get(step + AGE) {
            old[step % AGE] = touched(&program, next, program.probe(next));
        }
        if step % 100 == 0 || step + 1 == STEPS {
            assert_eq!(M::listing_of(&program), model.listing(), "step {step}");
            idle_records_do_nothing(&mut program);
            twin = copy(&program, new());
        }
    }
}

fn records<P: Replicable>(
    rng: &mut StdRng,
    mut draw: impl FnMut(&mut StdRng) -> P::Record,
) -> Vec<P::Record> {
    (0..STEPS).map(|_| draw(rng)).collect()
}

fn touched<P: Program>(program: &P, record: &P::Record, mut probe: P::Probe) -> P::Probe {
    let mut look = 0;
    while program.touch(record, &mut probe, look) {
        look += 1;
    }
    probe
}

fn idle_records_do_nothing<P: Replicable>(program: &mut P) {
    let digest = program.digest();
    let record = P::Record::default();
    let probe = program.probe(&record);
    assert_eq!(program.step(&record, &probe, &mut ()), Verdict::Pass);
    program.step(&record, &P::Probe::default(), &mut ());
    assert_eq!(program.digest(), digest);
}

/// A copy that was something else before.
fn copy<P: Replicable>(program: &P, mut copy: P) -> P {
    for byte in 1..40 {
        let bytes = vec![byte; size_of::<P::Record>()];
        let record = P::Record::read_from_bytes(&bytes).expect("any bytes are a record");
        copy.step(&record, &P::Probe::default(), &mut ());
    }
    copy.copy_from(program);
    assert_eq!(copy.digest(), program.digest());
    copy
}

/// Nothing is allocated for records of any bytes.
pub(crate) fn allocates_nothing<P: Replicable>(mut program: P) {
    let mut other = StdRng::seed_from_u64(1);
    let mut record = vec![0; size_of::<P::Record>()];
    let allocated = allocation_counter::measure(|| {
        for _ in 0..20_000 {
            other.fill(&mut record[..]);
            // Few keys, so that some are there already.
            let length = record.len();
            record[..length.min(12)].iter_mut().for_each(|byte| *byte &= 1);
            let record = P::Record::read_from_bytes(&record).expect("any bytes are a record");
            let probe = touched(&program, &record, program.probe(&record));
            program.step(&record, &probe, &mut ());
        }
        std::hint::black_box(program.digest());
    });
    assert_eq!(allocated.count_total, 0);
}
