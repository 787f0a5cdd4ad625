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
use scr_sequencer::programs::bucket::{self, Policer};
use scr_sequencer::programs::conntrack::{self, Conntrack};
use scr_sequencer::programs::ddos::{self, Ddos};
use scr_sequencer::programs::heavy::{self, Heavy};
use scr_sequencer::programs::knock::{self, Knock};

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

/// That all happened that is to be proved; `drops` of a thousand packets, at least.
fn demand(seen: &Seen, drops: usize) {
    let Seen { verdicts, missed, skipped, late, copies, expelled, .. } = *seen;
    if from_environment("KRONO_SEED").is_none() {
        assert!(verdicts > 100_000 && missed > 1000 && skipped > 100, "{seen:?}");
        assert!(seen.drops >= verdicts / 1000 * drops, "{seen:?}");
        assert!(late > 10 && copies > 10 && expelled > 0, "{seen:?}");
    }
}

#[test]
fn a_program_that_forgives_nothing() {
    demand(&simulate(Chain::new), 400);
}

#[test]
fn ddos_mitigator() {
    let deny = vec!["100.64.0.3/32".parse().expect("a prefix")];
    let config = ddos::Config { sources: 16, one_in: 4, window: 20, deny, ..Default::default() };
    demand(
        &simulate(|seed| valid(Ddos::new(&ddos::Config { seed: key(seed), ..config.clone() }))),
        20,
    );
}

#[test]
fn heavy_hitter_monitor() {
    let config = heavy::Config { flows: 16, threshold: 5000, idle: 30, ..Default::default() };
    let make = |seed| valid(Heavy::new(&heavy::Config { seed: key(seed), ..config.clone() }));
    demand(&simulate(make), 0);
}

#[test]
fn token_bucket_policer() {
    let config = bucket::Config { flows: 16, rate: 200, burst: 5, ..Default::default() };
    let make = |seed| valid(Policer::new(&bucket::Config { seed: key(seed), ..config.clone() }));
    demand(&simulate(make), 20);
}

#[test]
fn port_knocking_firewall() {
    let config = knock::Config {
        sources: 8,
        sequence: vec![100, 101],
        protected: vec![102..=103],
        close_on_fin: true,
        ..Default::default()
    };
    let make = |seed| valid(Knock::new(&knock::Config { seed: key(seed), ..config.clone() }));
    demand(&simulate(make), 20);
}

#[test]
fn tcp_connection_tracker() {
    let config = conntrack::Config { connections: 24, is_strict: false, ..Default::default() };
    let make = |seed: u64| {
        let is_strict = seed.is_multiple_of(2);
        valid(Conntrack::new(&conntrack::Config { seed: key(seed), is_strict, ..config.clone() }))
    };
    demand(&simulate(make), 20);
}

fn valid<P, E: std::fmt::Debug>(program: Result<P, E>) -> P {
    program.expect("valid settings")
}

/// A secret for a program's table.
fn key(seed: u64) -> [u8; 32] {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key
}
