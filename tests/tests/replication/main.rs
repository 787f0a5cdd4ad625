//! A program on many cores does what it does on one: the verdicts of all cores, put in order, and the
//! state of each are those of a single core that sees every packet, whatever is lost, late or out of
//! order on the way from the sequencer.
//!
//! `KRONO_SEED=n` repeats the run that a failure prints; `KRONO_RUNS=n` makes so many of each test.
#![forbid(unsafe_code)]

mod chain;
mod scenarios;
mod traffic;
mod world;

use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use scr_sequencer::Replicable;

use chain::Chain;
use traffic::Traffic;
use world::{Plan, Seen};

/// Runs of each test, if the environment does not say.
const RUNS: u64 = 10_000;

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")))
}

/// Makes many runs of a program, each from a seed of its own, and says what happened in all.
fn simulate<P: Replicable<Event: PartialEq + std::fmt::Debug>>(make: impl Fn(u64) -> P) -> Seen {
    let seeds = match from_environment("KRONO_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=from_environment("KRONO_RUNS").unwrap_or(RUNS),
    };
    let mut all = Seen::default();
    for seed in seeds {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let plan = Plan::random(&mut random);
        let traffic = Traffic::any(&mut random);
        // Shown by the test harness if the run fails.
        println!("KRONO_SEED={seed}: {} on {traffic}: {plan:?}", P::NAME);
        let program_seed = random.random();
        all.add(&world::run(|| make(program_seed), traffic.packets(), &plan, &mut random));
    }
    println!("{all:?}");
    all
}

#[test]
fn cores_that_may_lose_packets_agree() {
    let seen = simulate(Chain::new);
    // All that is to be proved has happened.
    let Seen { verdicts, missed, skipped, late, copies, expelled } = seen;
    if from_environment("KRONO_SEED").is_none() {
        assert!(verdicts > 100_000 && missed > 1000 && skipped > 100, "{seen:?}");
        assert!(late > 10 && copies > 10 && expelled > 0, "{seen:?}");
    }
}
