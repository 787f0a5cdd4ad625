//! Cores that join and leave a live sequencer's group while packets flow, full rings, and a core that
//! stops for ever: no packet gets another verdict for that.
//!
//! A core that joins begins behind the latest packet of that moment. The first core that comes to
//! a later one stops there, in the middle of its history, and gives it a copy of the state. Its own
//! packets wait meanwhile.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use krono_core::packet::Side;
use krono_core::program::{Program, Verdict};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use scr_sequencer::recovery::Turn;
use scr_sequencer::sequencer::Sequencer;
use scr_sequencer::{Replicable, Replicated, room};

use super::chain::Chain;
use super::traffic::{Arriving, Traffic};
use super::{RUNS, from_environment, is_whole};

/// Cores that there may be, and records that fit beside a packet.
const CORES: usize = 14;
const HISTORY_MAX: usize = 40;

/// Packets that wait for a core, at most.
const RING: usize = 24;

struct Core<P: Replicable> {
    replica: Replicated<P>,
    ring: VecDeque<Sent>,
    /// It joins behind this packet, and has not got the state yet.
    joins_behind: Option<u64>,
    has_died: bool,
}

/// A packet in a ring: what it is, and the bytes beside it.
struct Sent {
    arriving: Arriving,
    private: Vec<u8>,
}

struct Group<P: Replicable> {
    sequencer: Sequencer<P::Record>,
    cores: Vec<Core<P>>,
    /// By number: the record, and the verdict once there is one.
    packets: BTreeMap<u64, (P::Record, Option<Verdict>)>,
    seen: Seen,
}

/// What happened in runs.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    verdicts: usize,
    joined: usize,
    left: usize,
    left_out: usize,
    unnumbered: usize,
}

impl Seen {
    fn add(&mut self, other: &Seen) {
        self.verdicts += other.verdicts;
        self.joined += other.joined;
        self.left += other.left;
        self.left_out += other.left_out;
        self.unnumbered += other.unnumbered;
    }
}

#[test]
fn cores_join_leave_and_die_while_packets_flow() {
    let seeds = match from_environment("KRONO_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=from_environment("KRONO_RUNS").unwrap_or(RUNS),
    };
    let mut seen = Seen::default();
    for seed in seeds {
        println!("KRONO_SEED={seed}");
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let traffic = Traffic::any(&mut random);
        let cores = random.random_range(1..=CORES);
        let mut group = Group::new(|| Chain::new(seed), cores);
        group.run(traffic.packets(), &mut random);
        group.compare(Chain::new(seed));
        seen.add(&group.seen);
    }
    println!("{seen:?}");
    let Seen { verdicts, joined, left, left_out, unnumbered } = seen;
    if is_whole() {
        assert!(verdicts > 10_000 && unnumbered > 10, "{seen:?}");
        assert!(joined > 100 && left > 100 && left_out > 100, "{seen:?}");
    }
}

impl<P: Replicable> Group<P> {
    fn new(make: impl Fn() -> P, cores: usize) -> Self {
        let core = |_| Core {
            replica: Replicated::new(make(), HISTORY_MAX, None),
            ring: VecDeque::new(),
            joins_behind: None,
            has_died: false,
        };
        Group {
            sequencer: Sequencer::new(cores, HISTORY_MAX).expect("so many cores are possible"),
            cores: (0..CORES).map(core).collect(),
            packets: BTreeMap::new(),
            seen: Seen::default(),
        }
    }

    fn run(&mut self, traffic: &[Arriving], random: &mut impl Rng) {
        for arriving in traffic {
            self.send(arriving);
            for _ in 0..random.random_range(0..4) {
                let core = random.random_range(0..CORES);
                self.poll(core, random.random_range(1..=12));
            }
            match random.random_range(0..60) {
                0 => self.join(random.random_range(0..CORES)),
                1 if self.sequencer.cores() > 1 => self.leave(random.random_range(0..CORES)),
                2 if random.random_ratio(1, 4) && self.alive() > 1 => {
                    self.cores[random.random_range(0..CORES)].has_died = true;
                }
                _ => {}
            }
            // Who was left out gets packets again, with a new state.
            while let Some(core) = self.sequencer.left_out() {
                self.seen.left_out += 1;
                self.join(core);
            }
        }
        for _ in 0..4 * RING {
            (0..CORES).for_each(|core| self.poll(core, 64));
        }
    }

    /// Cores that get packets, and do something about them.
    fn alive(&self) -> usize {
        let is_alive = |core: &usize| {
            let Core { has_died, joins_behind, .. } = &self.cores[*core];
            self.sequencer.is_active(*core) && !has_died && joins_behind.is_none()
        };
        (0..CORES).filter(is_alive).count()
    }

    fn send(&mut self, arriving: &Arriving) {
        for _ in 0..CORES {
            let Some(core) = self.sequencer.next_core() else { break };
            if self.cores[core].ring.len() < RING {
                return self.assign(arriving);
            }
            self.sequencer.pass_over();
        }
        // No ring takes it: it gets no number, and no state lacks it.
        self.seen.unnumbered += 1;
    }

    fn assign(&mut self, arriving: &Arriving) {
        let side = arriving.packet.map_or(Side::Inside, |(_, side)| side);
        let record = match &arriving.packet {
            Some((meta, side)) => P::record(meta, *side, arriving.moment),
            None => P::Record::default(),
        };
        let assigned = self.sequencer.assign(record, arriving.moment);
        let mut private = vec![0; room::bytes_needed::<P::Record>(HISTORY_MAX)];
        room::write(&mut private, &assigned.header(side), assigned.history);
        let (core, sequence) = (assigned.core, assigned.sequence);
        self.cores[core].ring.push_back(Sent { arriving: *arriving, private });
        self.packets.insert(sequence, (record, None));
    }

    fn join(&mut self, core: usize) {
        let last = self.sequencer.last();
        let is_possible = !self.sequencer.is_active(core) && !self.cores[core].has_died;
        // What it got before it left is still to be done, for which its old state serves.
        if !is_possible || !self.cores[core].ring.is_empty() || self.alive() == 0 {
            return;
        }
        if self.sequencer.activate(core, last).is_ok() {
            self.cores[core].joins_behind = Some(last);
        }
    }

    fn leave(&mut self, core: usize) {
        // The last one that can give its state stays.
        let is_needed = self.alive() == 1 && !self.cores[core].has_died;
        if self.sequencer.is_active(core) && !is_needed {
            self.sequencer.deactivate(core);
            self.seen.left += 1;
        }
    }

    fn poll(&mut self, at: usize, burst_max: usize) {
        let core = &mut self.cores[at];
        if core.has_died || core.joins_behind.is_some() {
            return;
        }
        core.replica.begin();
        let mut burst = Vec::new();
        while burst.len() < burst_max
            && let Some(sent) = self.cores[at].ring.front()
        {
            let (_, carried) = room::read::<P::Record>(&sent.private).expect("as it was written");
            let (sequence, arriving) = (carried.sequence, sent.arriving);
            let joining = self.joining(self.cores[at].replica.position()..sequence);
            if !joining.is_empty() && !burst.is_empty() {
                break;
            }
            let Core { replica, ring, .. } = &mut self.cores[at];
            let (_, carried) = room::read(&ring[0].private).expect("as it was written");
            match replica.offer(&carried, &mut |_| panic!("nothing is lost")) {
                Turn::Now(_) => burst.push((sequence, arriving)),
                Turn::Wait => break,
                turn => panic!("core {at}, packet {sequence}: {turn:?}"),
            }
            ring.pop_front();
            joining.into_iter().for_each(|(behind, core)| self.give_state(at, core, behind));
        }
        self.decide(at, &burst);
    }

    /// The cores that join behind one of these packets, in the order of those.
    fn joining(&self, behind: Range<u64>) -> Vec<(u64, usize)> {
        let joins = |(at, core): (usize, &Core<P>)| {
            core.joins_behind.filter(|joins| behind.contains(joins)).map(|joins| (joins, at))
        };
        let mut joining: Vec<_> = self.cores.iter().enumerate().filter_map(joins).collect();
        joining.sort_unstable();
        joining
    }

    /// Has `donor`, whose first packet of a burst lies behind packet `behind`, give `core` its state.
    fn give_state(&mut self, donor: usize, core: usize, behind: u64) {
        let [donor, core] = self.cores.get_disjoint_mut([donor, core]).expect("two cores");
        assert!(donor.replica.advance_to(behind), "its history goes back to {behind}");
        core.replica.adopt(&donor.replica, behind);
        core.joins_behind = None;
        self.seen.joined += 1;
    }

    fn decide(&mut self, at: usize, burst: &[(u64, Arriving)]) {
        let replica = &mut self.cores[at].replica;
        for (_, Arriving { packet, is_for_program, .. }) in burst {
            replica.own(packet.as_ref().map(|(meta, side)| (meta, *side)), *is_for_program);
        }
        replica.touch_all();
        for (sequence, _) in burst.iter().filter(|(_, arriving)| arriving.is_for_program) {
            let verdict = replica.step(&(), &(), &mut ());
            let (_, decided) = self.packets.get_mut(sequence).expect("it was numbered");
            assert_eq!(decided.replace(verdict), None, "{sequence} was decided twice");
            self.seen.verdicts += 1;
        }
        replica.begin();
    }

    /// Compares with a program that sees every packet that has a number.
    fn compare(&self, mut single: P) {
        let ends: Vec<u64> = self.cores.iter().map(|core| core.replica.position()).collect();
        let mut digests = BTreeMap::from([(0, single.digest())]);
        let (mut ticked, mut is_behind) = (None, false);
        for (sequence, (record, decided)) in &self.packets {
            if let Some(now) = P::time(record)
                && (ticked != Some(now) || is_behind)
            {
                ticked = Some(now);
                is_behind = single.tick(now, &mut ());
            }
            let verdict = single.step(record, &P::Probe::default(), &mut ());
            assert!(decided.is_none_or(|decided| decided == verdict), "packet {sequence}");
            if ends.contains(sequence) {
                digests.insert(*sequence, single.digest());
            }
        }
        for (at, core) in self.cores.iter().enumerate() {
            let end = core.replica.position();
            let digest = core.replica.program().digest();
            assert_eq!(digest, digests[&end], "the state of core {at} behind {end}");
            let is_done = core.ring.is_empty() || core.has_died || core.joins_behind.is_some();
            assert!(is_done, "core {at} has packets left");
        }
    }
}
