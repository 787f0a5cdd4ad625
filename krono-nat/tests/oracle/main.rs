//! The translator against a small oracle that says the same rules in another way, in a small world
//! with random traffic. `KRONO_SEED=n` repeats the run that a failure prints.

#![allow(unreachable_pub, reason = "the modules of a test are its own")]

#[path = "../common/mod.rs"]
mod common;
mod copy;
mod model;
mod tcp;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use common::{Bed, Random};
use copy::{Copy, Latecomer, Row};
use krono_core::drop::DropReason;
use krono_core::program::{Program, Verdict};
use krono_core::time::Ticks;
use krono_nat::Event;
use model::Oracle;

const RUNS: u64 = 120;
const STEPS: u32 = 16_000;

/// Every reason that the translator has to drop a packet.
const REASONS: [DropReason; 13] = [
    DropReason::NotOurs,
    DropReason::NoMapping,
    DropReason::HairpinOff,
    DropReason::Filtered,
    DropReason::FirewallRule,
    DropReason::TcpNoSession,
    DropReason::IcmpReplyUnasked,
    DropReason::IcmpQueryUnsolicited,
    DropReason::IcmpErrorNoSession,
    DropReason::SubscriberPorts,
    DropReason::PortsExhausted,
    DropReason::SessionsFull,
    DropReason::SubscribersFull,
];

/// How often what happened.
#[derive(Default)]
struct Tally(BTreeMap<String, u64>);

impl Tally {
    fn count(&mut self, what: impl Into<String>) {
        *self.0.entry(what.into()).or_default() += 1;
    }
}

/// A translator, its oracle, and those who listen to its events.
struct Trial {
    bed: Bed,
    oracle: Oracle,
    copy: Copy,
    latecomer: Latecomer,
    random: Random,
    /// Since when there was a tick at every tick.
    attentive_since: u64,
}

impl Trial {
    fn new(seed: u64) -> Trial {
        let mut random = Random(seed);
        let config = world::config(&mut random);
        // Shortly before the clock wraps, or after so long that it has done so many times.
        let now = (1 << (32 + random.below(3))) - random.below(3000);
        let statics = config.policy.statics.iter();
        let rows = statics.map(|at| (at.protocol, at.inside, at.outside, None));
        Trial {
            bed: Bed::starting_at(&config, Ticks(now as u32)),
            oracle: Oracle::new(&config, now),
            copy: Copy::with_mappings(rows),
            latecomer: Latecomer::default(),
            random,
            attentive_since: now,
        }
    }

    fn step(&mut self, tally: &mut Tally) {
        match self.random.below(100) {
            0..=84 => self.packet(tally),
            85..=93 => self.wait(),
            94..=95 => self.leap(),
            96 => self.reload(tally),
            _ => self.walk(tally),
        }
        assert_eq!(self.bed.nat.counts(), self.oracle.counts());
    }

    fn packet(&mut self, tally: &mut Tally) {
        let (side, meta) = world::packet(&mut self.random, &self.oracle);
        let got = self.bed.pass(side, &meta);
        let events = self.take_events();
        let expected = self.oracle.packet(side, &meta, events);
        assert_eq!(got, expected, "{side} {meta:?}");
        tally.count(match got {
            Ok(passed) if passed.to == side => "turned around",
            Ok(_) => "passed",
            Err(Verdict::Drop(reason) | Verdict::Reject(reason, _)) => reason.name(),
            Err(Verdict::Forward { .. } | Verdict::Pass | Verdict::Consume) => {
                unreachable!("no outcome")
            }
        });
    }

    /// A while in which the worker ticks as it should.
    fn wait(&mut self) {
        for _ in 0..self.random.below(12) {
            self.pass_time(1);
            self.tick();
            if self.oracle.now - self.attentive_since >= 4 {
                self.oracle.assert_nothing_is_late();
            }
        }
    }

    /// A while, or hours, in which nothing comes and nobody ticks, as in the replay of a capture.
    fn leap(&mut self) {
        let most = self.random.pick(&[2, 20, 100, 1000, 200_000]);
        let ticks = self.random.below(most);
        self.pass_time(ticks);
        if self.random.one_in(2) {
            self.tick();
        }
        self.attentive_since = self.oracle.now;
    }

    fn pass_time(&mut self, ticks: u64) {
        self.oracle.now += ticks;
        self.bed.now = Ticks(self.oracle.now as u32);
    }

    fn tick(&mut self) {
        self.bed.nat.tick(self.bed.now, &mut self.bed.events);
        let events = self.take_events();
        self.oracle.tick(events);
    }

    fn reload(&mut self, tally: &mut Tally) {
        let mut policy = world::policy(&mut self.random);
        if self.random.one_in(2) {
            policy.timeouts = self.oracle.policy.timeouts;
            policy.statics.clone_from(&self.oracle.policy.statics);
        }
        let wanted = policy.clone();
        let got = self.bed.nat.swap_policy(&mut policy, self.bed.now, &mut self.bed.events);
        let events = self.take_events();
        assert_eq!(got, self.oracle.reload(wanted, events));
        tally.count(if got.is_ok() { "reloaded" } else { "no room for a static mapping" });
        self.bed.nat.assert_consistent();
    }

    /// Looks at the whole state, from all sides.
    fn walk(&mut self, tally: &mut Tally) {
        self.bed.nat.assert_consistent();
        let (mut sessions, mut listening) = (BTreeSet::new(), BTreeSet::new());
        let states = self.copy.states();
        for view in copy::views(&self.bed.nat, self.bed.now) {
            let inside = (view.protocol, view.inside);
            let mapping = self.oracle.mappings.get(&inside);
            let mapping = mapping.filter(|mapping| mapping.public == view.outside);
            assert_eq!(view.is_static, mapping.is_some_and(|mapping| mapping.is_static));
            let Some(remote) = view.remote else {
                listening.insert(copy::row(&view));
                continue;
            };
            assert!(sessions.insert(copy::row(&view)), "{view:?} twice");
            let session = &self.oracle.sessions[&(inside, remote)];
            let state = match &session.tcp {
                Some(tcp) => tcp.state(),
                None if session.translated => "open",
                None => "untranslated",
            };
            assert_eq!(view.state, state, "{view:?}");
            let told = states.get(&copy::row(&view));
            assert_eq!(told, session.tcp.is_some().then_some(&state), "{view:?}");
            let left = session.deadline.saturating_sub(self.oracle.now);
            assert_eq!(u64::from(view.expires_in.0), left, "{view:?}");
        }
        assert_eq!(sessions.len(), self.oracle.sessions.len());
        assert_eq!(sessions, self.copy.sessions());
        let mappings: BTreeSet<Row> = self.mappings();
        assert!(listening.is_subset(&mappings));
        assert_eq!(mappings, self.copy.mappings());
        for (protocol, inside, outside, _) in mappings {
            assert_eq!(self.bed.nat.owner(protocol, outside), Some(inside));
        }
        let limit = 1 + self.random.below(10) as usize;
        if let Some(caught_up) = self.latecomer.walk(&self.bed.nat, self.bed.now, limit) {
            assert_eq!(caught_up, sessions);
            tally.count("caught up by a walk");
        }
    }

    fn mappings(&self) -> BTreeSet<Row> {
        let row = |(inside, mapping): (&model::Inside, &model::Mapping)| {
            (inside.0, inside.1, mapping.public, None)
        };
        self.oracle.mappings.iter().map(row).collect()
    }

    fn take_events(&mut self) -> Vec<Event> {
        let events = std::mem::take(&mut self.bed.events);
        for event in &events {
            self.copy.apply(event);
            self.latecomer.apply(event);
        }
        events
    }
}

#[test]
fn the_translator_does_what_the_oracle_says() {
    let given = std::env::var("KRONO_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seeds = given.map_or(1..=RUNS, |seed: u64| seed..=seed);
    let mut tally = Tally::default();
    for seed in seeds {
        println!("KRONO_SEED={seed}");
        let mut trial = Trial::new(seed);
        for _ in 0..STEPS {
            trial.step(&mut tally);
        }
    }
    println!("{:#?}", tally.0);
    if given.is_none() {
        for reason in REASONS {
            let seen = tally.0.get(reason.name()).copied().unwrap_or_default();
            assert!(seen >= 20, "{reason} was seen {seen} times");
        }
        for what in
            ["passed", "turned around", "caught up by a walk", "no room for a static mapping"]
        {
            assert!(tally.0.contains_key(what), "{what} did not happen");
        }
    }
}
