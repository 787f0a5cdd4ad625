//! A program on many cores does what it does on one: the verdicts of all cores, put in order, and the
//! state of each are those of a single core that sees every packet, whatever is lost, late or out of
//! order on the way from the sequencer.
//!
//! `KRONO_SEED=n` repeats the run that a failure prints; `KRONO_RUNS=n` makes so many of each test.
#![forbid(unsafe_code)]

mod chain;
mod changing;
mod scenarios;
mod traffic;
mod world;

use std::fmt::Debug;

use ipnet::Ipv4Net;
use krono_core::carve;
use krono_core::time::Ticks;
use krono_nat::{Nat, Replica, config as nat};
use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use scr_sequencer::Replicable;
use scr_sequencer::programs::bucket::{self, Policer};
use scr_sequencer::programs::conntrack::{self, Conntrack};
use scr_sequencer::programs::ddos::{self, Ddos};
use scr_sequencer::programs::heavy::{self, Heavy};
use scr_sequencer::programs::knock::{self, Knock};
use zerocopy::IntoBytes;

use chain::Chain;
use traffic::Traffic;
use world::{Plan, Seen};

/// Runs of each test, if the environment does not say.
const RUNS: u64 = 10_000;

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")))
}

/// Whether all seeds are tried, so that all there is must have happened.
fn is_whole() -> bool {
    from_environment("KRONO_SEED").or(from_environment("KRONO_RUNS")).is_none()
}

/// A run: what arrives, and how it goes on.
struct Run {
    traffic: Traffic,
    plan: Plan,
    random: ChaCha8Rng,
    /// What the program draws its secrets from.
    seed: u64,
}

impl Run {
    /// With a program of which all that `make` makes are equal.
    fn with<P: Replicable<Event: PartialEq + Debug>>(mut self, make: impl FnMut() -> P) -> Seen {
        world::run(make, self.traffic.packets(), &self.plan, &mut self.random)
    }

    /// As [`Run::with`], if the settings are valid.
    fn try_with<P, E>(self, make: impl Fn() -> Result<P, E>) -> Seen
    where
        P: Replicable<Event: PartialEq + Debug>,
        E: Debug,
    {
        self.with(|| make().expect("valid settings"))
    }

    /// A secret for a program's table.
    fn key(&self) -> [u8; 32] {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        key
    }
}

/// Makes many runs, each from a seed of its own, and says what happened in all.
fn simulate(one: impl Fn(Run) -> Seen) -> Seen {
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
        println!("KRONO_SEED={seed}: {traffic}: {plan:?}");
        let seed = random.random();
        all.add(&one(Run { traffic, plan, random, seed }));
    }
    println!("{all:?}");
    all
}

/// That all happened that is to be proved; `drops` of a thousand packets, at least.
fn demand(seen: &Seen, drops: usize) {
    let Seen { verdicts, missed, skipped, late, copies, expelled, .. } = *seen;
    if is_whole() {
        assert!(verdicts > 100_000 && missed > 1000 && skipped > 100, "{seen:?}");
        assert!(seen.drops >= verdicts / 1000 * drops, "{seen:?}");
        assert!(late > 10 && copies > 10 && expelled > 0, "{seen:?}");
    }
}

#[test]
fn a_program_that_forgives_nothing() {
    demand(
        &simulate(|run| {
            let seed = run.seed;
            run.with(|| Chain::new(seed))
        }),
        400,
    );
}

#[test]
fn ddos_mitigator() {
    let deny: Ipv4Net = "100.64.0.3/32".parse().expect("a prefix");
    let seen = simulate(|run| {
        let (deny, allow, seed) = (vec![deny], Vec::new(), run.key());
        let config = ddos::Config { sources: 16, one_in: 4, window: 20, deny, allow, seed };
        run.try_with(|| Ddos::new(&config))
    });
    demand(&seen, 20);
}

#[test]
fn heavy_hitter_monitor() {
    let seen = simulate(|run| {
        let config = heavy::Config { flows: 16, threshold: 5000, idle: 30, seed: run.key() };
        run.try_with(|| Heavy::new(&config))
    });
    demand(&seen, 0);
}

#[test]
fn token_bucket_policer() {
    let seen = simulate(|run| {
        let config = bucket::Config { flows: 16, rate: 200, burst: 5, seed: run.key() };
        run.try_with(|| Policer::new(&config))
    });
    demand(&seen, 20);
}

#[test]
fn port_knocking_firewall() {
    let seen = simulate(|run| {
        let config = knock::Config {
            sources: 8,
            sequence: vec![100, 101],
            protected: vec![102..=103],
            close_on_fin: true,
            seed: run.key(),
        };
        run.try_with(|| Knock::new(&config))
    });
    demand(&seen, 20);
}

#[test]
fn tcp_connection_tracker() {
    let seen = simulate(|run| {
        let (is_strict, seed) = (run.seed.is_multiple_of(2), run.key());
        let defaults = conntrack::Config::default();
        let config = conntrack::Config { connections: 24, is_strict, seed, ..defaults };
        run.try_with(|| Conntrack::new(&config))
    });
    demand(&seen, 20);
}

#[test]
fn network_address_and_port_translator() {
    let prefix = |text: &str| text.parse::<Ipv4Net>().expect("a prefix");
    // Few ports and sessions, so that they run out and are given out again.
    let config = nat::Config {
        sessions: 96,
        subscribers: 8,
        pool: vec![prefix("198.51.101.0/32")],
        inside: vec![prefix("100.64.0.0/10")],
        ports: 1024..=1063,
        ports_per_subscriber: 24,
        seed: [0; 32],
        policy: nat::Policy {
            filtering: nat::Filtering::EndpointIndependent,
            hairpinning: true,
            timeouts: nat::Timeouts::default(),
            exclude: Vec::new(),
            statics: Vec::new(),
            firewall: nat::Firewall::default(),
        },
    };
    let seen = simulate(|run| {
        let config = nat::Config { seed: run.key(), ..config.clone() };
        let bytes = Nat::memory_bytes(&config);
        let mut memory: Vec<_> = (0..=run.plan.cores).map(|_| carve::heap(bytes)).collect();
        let mut memory = memory.iter_mut();
        run.with(|| {
            let memory = memory.next().expect("memory for each replica").as_mut_bytes();
            Replica(Nat::new(&config, memory, Ticks::default()).expect("no static mappings"))
        })
    });
    demand(&seen, 20);
}
