//! Two halves of each of some shards, on some nodes, with real translators: whatever a network,
//! crashes, partitions, slow and frozen nodes, moves and operators do to them, no port has two
//! owners, no packet comes to a wrong subscriber, no session is lost that the other half knew, and
//! both halves hold the same as soon as they are left alone.
//!
//! `KRONO_SEED=n` repeats the run that a failure prints; `KRONO_RUNS=n` makes so many.
#![forbid(unsafe_code)]

mod flows;
mod network;
mod world;

use krono_core::carve;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use world::{MEMORIES, Plan, Seen, World};

/// Runs, if the environment does not say.
const RUNS: u64 = 10_000;

/// Threads that share the runs: as many as a small machine has CPUs.
const THREADS: u64 = 2;

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")))
}

#[test]
fn no_session_dies_with_a_node_and_no_port_has_two_owners() {
    let only = from_environment("KRONO_SEED");
    let runs = from_environment("KRONO_RUNS").unwrap_or(RUNS);
    let all = match only {
        Some(seed) => run_all(seed..seed + 1, 1),
        None => std::thread::scope(|scope| {
            let run = |first: u64| scope.spawn(move || run_all(1 + first..1 + runs, THREADS));
            let threads: Vec<_> = (0..THREADS).map(run).collect();
            let mut all = Seen::default();
            for thread in threads {
                all.add(&thread.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause)));
            }
            all
        }),
    };
    println!("{all:#?}");
    if only.is_none() && runs >= RUNS {
        all.demand();
    }
}

/// Every `step`th of these seeds.
fn run_all(seeds: std::ops::Range<u64>, step: u64) -> Seen {
    let mut memory: Vec<_> = (0..MEMORIES).map(|_| carve::heap(world::memory_bytes())).collect();
    let mut all = Seen::default();
    for seed in seeds.step_by(step as usize) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let plan = Plan::random(&mut random);
        // Shown by the test harness if the run fails.
        let failed = Announce(format!("KRONO_SEED={seed}: {plan:?}"));
        all.add(&World::new(plan, random, &mut memory).run());
        std::mem::forget(failed);
    }
    all
}

/// Says which run it was, if that fails.
struct Announce(String);

impl Drop for Announce {
    fn drop(&mut self) {
        println!("{}", self.0);
    }
}
