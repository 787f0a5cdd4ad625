//! A sequencer, a network that may lose and swap, and cores that poll when they please.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;
use std::sync::Arc;

use krono_core::program::{Program, Verdict};
use krono_core::time::Moment;
use rand::{Rng, RngExt};
use scr_sequencer::history::{Carried, History};
use scr_sequencer::recovery::{Group, Member, Patience, Search, Turn};
use scr_sequencer::{Replicable, Replicated};

use super::traffic::Arriving;

/// How a run goes.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) cores: usize,
    /// Whether cores recover what they lose; if not, nothing is lost.
    pub(crate) recovers: bool,
    /// Slots of a core's log.
    pub(crate) slots: usize,
    /// Packets on their way to a core that are lost, in a thousand.
    pub(crate) loss: u32,
    /// Packets that are lost one after the other, at most.
    pub(crate) loss_run: u32,
    /// Packets, in a thousand, that overtake the one before them on the way to their core.
    pub(crate) swaps: u32,
    /// Packets that a core takes in a poll, at most.
    pub(crate) burst: usize,
    /// Packets that are on their way to a core at the same time, at most.
    pub(crate) in_flight: usize,
    /// A core that nothing reaches from the middle of the traffic on.
    pub(crate) cut_off: Option<usize>,
    /// Whether cores sometimes do not poll for long.
    pub(crate) pauses: bool,
    /// The number of the packet before the first.
    pub(crate) before: u64,
    /// These packets are lost besides, counted from 1.
    pub(crate) lost: Vec<u64>,
    pub(crate) patience: Patience,
}

impl Plan {
    pub(crate) fn random(random: &mut impl Rng) -> Plan {
        let cores = random.random_range(1..=14);
        let recovers = random.random_ratio(4, 5);
        let loss = if recovers { [0, 5, 10, 15, 100][random.random_range(0..5)] } else { 0 };
        let spare = [4, 40, 1024][random.random_range(0..3)];
        let expels = random.random_ratio(1, 10);
        Plan {
            cores,
            recovers,
            slots: cores + random.random_range(0..spare),
            loss,
            loss_run: [1, 1, 5, 60][random.random_range(0..4)],
            swaps: if recovers { [0, 0, 20][random.random_range(0..3)] } else { 0 },
            burst: random.random_range(1..=64),
            in_flight: [0, 0, 3, 30][random.random_range(0..4)],
            cut_off: (recovers && cores > 1 && random.random_ratio(1, 5))
                .then(|| random.random_range(0..cores)),
            pauses: random.random_ratio(1, 3),
            before: [0, 0, 7, u64::from(u32::MAX) - 20, 1 << 50][random.random_range(0..5)],
            lost: Vec::new(),
            patience: Patience {
                idle: random.random_range(1..5),
                silent: if expels { 50 } else { u32::MAX },
            },
        }
    }
}

/// What happened in runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) verdicts: usize,
    pub(crate) drops: usize,
    /// Packets that the packets of a core did not tell it of, so that it had to ask.
    pub(crate) missed: usize,
    /// Those that no core had.
    pub(crate) skipped: usize,
    pub(crate) late: usize,
    pub(crate) copies: usize,
    pub(crate) expelled: usize,
}

impl Seen {
    pub(crate) fn add(&mut self, other: &Seen) {
        self.verdicts += other.verdicts;
        self.drops += other.drops;
        self.missed += other.missed;
        self.skipped += other.skipped;
        self.late += other.late;
        self.copies += other.copies;
        self.expelled += other.expelled;
    }
}

/// Everything on one core or on many: by number, what was decided and what events it had.
type Decisions<E> = BTreeMap<u64, (Verdict, Vec<E>)>;

struct Core<P: Replicable> {
    replica: Replicated<P>,
    /// Packets on their way to it, and those that have reached it, as indices into the traffic.
    coming: VecDeque<usize>,
    queue: VecDeque<usize>,
    /// Polls that it does not make.
    pause: u32,
    skipped: BTreeSet<u64>,
    has_adopted: bool,
}

struct World<'t, P: Replicable> {
    traffic: &'t [Arriving],
    records: Vec<P::Record>,
    plan: &'t Plan,
    group: Option<Arc<Group<P::Record>>>,
    cores: Vec<Core<P>>,
    decisions: Decisions<P::Event>,
    seen: Seen,
    /// Packets that were sent, and those of the present run of losses still to be lost.
    sent: usize,
    losing: u32,
}

/// Runs `traffic` through replicas of the program that `make` makes, and compares them with one
/// that sees every packet.
///
/// # Panics
/// If they differ.
pub(crate) fn run<P: Replicable<Event: PartialEq + Debug>>(
    mut make: impl FnMut() -> P,
    traffic: &[Arriving],
    plan: &Plan,
    random: &mut impl Rng,
) -> Seen {
    // Behind the traffic each core gets one that changes nothing, so that all end up alike.
    let last = traffic.last().map_or(Moment::default(), |arriving| arriving.moment);
    let nothing = Arriving { packet: None, moment: last, is_for_program: false };
    let all: Vec<_> = traffic.iter().copied().chain(vec![nothing; 2 * plan.cores]).collect();
    let mut world = World::new(&mut make, &all, plan);
    while world.sent < all.len() {
        if random.random_ratio(1, 3) {
            for _ in 0..random.random_range(1..=3 * plan.cores) {
                world.send(random);
            }
        } else {
            world.poll_any(random);
        }
    }
    world.cores.iter_mut().for_each(|core| core.queue.extend(core.coming.drain(..)));
    for round in 0.. {
        assert!(round < 100_000, "no progress: {:?}", world.positions());
        if world.is_at_rest() {
            break;
        }
        world.poll_any(random);
    }
    world.compare(make())
}

impl<'t, P: Replicable<Event: PartialEq + Debug>> World<'t, P> {
    fn new(mut make: impl FnMut() -> P, traffic: &'t [Arriving], plan: &'t Plan) -> Self {
        let group = plan.recovers.then(|| Group::new(plan.cores, plan.slots, plan.patience));
        let mut core = |index| {
            let member = group.as_ref().map(|group| Member::new(group.clone(), index));
            let mut replica = Replicated::new(make(), plan.cores - 1, member);
            if group.is_none() {
                replica.begin_behind(plan.before);
            }
            let (coming, queue, skipped) = (VecDeque::new(), VecDeque::new(), BTreeSet::new());
            Core { replica, coming, queue, pause: 0, skipped, has_adopted: false }
        };
        let record = |arriving: &Arriving| match &arriving.packet {
            Some((meta, side)) => P::record(meta, *side, arriving.moment),
            None => P::Record::default(),
        };
        World {
            traffic,
            records: traffic.iter().map(record).collect(),
            plan,
            cores: (0..plan.cores).map(&mut core).collect(),
            group,
            decisions: BTreeMap::new(),
            seen: Seen::default(),
            sent: 0,
            losing: 0,
        }
    }

    fn positions(&self) -> Vec<(u64, usize)> {
        self.cores.iter().map(|core| (core.replica.position(), core.queue.len())).collect()
    }

    fn sequence(&self, index: usize) -> u64 {
        self.plan.before + 1 + index as u64
    }

    /// Sends the next packet to its core, or loses it.
    fn send(&mut self, random: &mut impl Rng) {
        let index = self.sent;
        if index == self.traffic.len() {
            return;
        }
        self.sent += 1;
        let may_be_lost = index < self.traffic.len() - 2 * self.plan.cores;
        if self.losing == 0 && random.random_ratio(self.plan.loss, 1000) {
            self.losing = random.random_range(1..=self.plan.loss_run);
        }
        let is_lost = self.losing > 0 || self.plan.lost.contains(&(index as u64 + 1));
        self.losing = self.losing.saturating_sub(1);
        let core = index % self.plan.cores;
        let is_cut_off = self.plan.cut_off == Some(core) && 2 * index > self.traffic.len();
        if is_lost && may_be_lost || is_cut_off {
            return;
        }
        let Core { coming, queue, .. } = &mut self.cores[core];
        coming.push_back(index);
        if coming.len() > self.plan.in_flight {
            queue.extend(coming.drain(..random.random_range(1..=coming.len())));
        }
        let end = queue.len();
        if end > 1 && random.random_ratio(self.plan.swaps, 1000) {
            queue.swap(end - 2, end - 1);
        }
    }

    fn poll_any(&mut self, random: &mut impl Rng) {
        let core = random.random_range(0..self.cores.len());
        if self.cores[core].pause > 0 {
            self.cores[core].pause -= 1;
        } else {
            self.poll(core);
            if self.plan.pauses && random.random_ratio(1, 300) {
                self.cores[core].pause = random.random_range(1..200);
            }
        }
    }

    /// One poll of a core: a burst, or the search for what others lack.
    fn poll(&mut self, at: usize) {
        let core = &mut self.cores[at];
        core.replica.begin();
        let mut burst = Vec::new();
        let mut search = Search::Done;
        if core.queue.is_empty() {
            search = core.replica.idle(&mut |sequence| {
                core.skipped.insert(sequence);
            });
        }
        while let Some(&index) = core.queue.front()
            && burst.len() < self.plan.burst
        {
            let oldest = (index + 1).saturating_sub(self.plan.cores);
            let (older, newer) = self.records[oldest..index].split_at((index - oldest) / 3);
            let carried = Carried {
                sequence: self.plan.before + 1 + index as u64,
                moment: self.traffic[index].moment,
                history: History { older, newer },
            };
            let before = core.replica.position();
            let turn = core.replica.offer(&carried, &mut |sequence| {
                core.skipped.insert(sequence);
            });
            match turn {
                Turn::Now(new) => {
                    burst.push(index);
                    let missed = carried.sequence - before - (new as u64 + 1);
                    // The first packet of a group misses all before it.
                    self.seen.missed += if before == 0 { 0 } else { missed as usize };
                }
                Turn::Wait => break,
                Turn::Late => self.seen.late += 1,
                Turn::Behind => {
                    search = Search::Behind;
                    break;
                }
            }
            core.queue.pop_front();
        }
        self.decide(at, &burst);
        if search == Search::Behind {
            self.adopt(at);
        }
    }

    /// Has a core decide the packets that it has taken.
    fn decide(&mut self, at: usize, burst: &[usize]) {
        let before = self.plan.before;
        let core = &mut self.cores[at];
        for &index in burst {
            let Arriving { packet, is_for_program, .. } = &self.traffic[index];
            let packet = packet.as_ref().map(|(meta, side)| (meta, *side));
            core.replica.own(packet, *is_for_program);
        }
        core.replica.touch_all();
        for &index in burst.iter().filter(|index| self.traffic[**index].is_for_program) {
            let mut events = Vec::new();
            let verdict = core.replica.step(&(), &(), &mut events);
            let again = self.decisions.insert(before + 1 + index as u64, (verdict, events));
            assert!(again.is_none(), "{index} was decided twice");
            self.seen.verdicts += 1;
            self.seen.drops += usize::from(matches!(verdict, Verdict::Drop(_)));
        }
        core.replica.begin();
    }

    /// Has a core take over the state of the one that is furthest ahead.
    fn adopt(&mut self, at: usize) {
        let group = self.group.as_ref().expect("who loses nothing is never behind");
        let (foremost, applied) = group.foremost();
        assert_ne!(foremost, at, "nobody is ahead of {at}: {:?}", self.positions());
        let [core, other] = self.cores.get_disjoint_mut([at, foremost]).expect("two cores");
        other.replica.begin();
        assert_eq!(other.replica.position(), applied);
        self.seen.expelled += usize::from(core.replica.is_expelled());
        core.replica.adopt(&other.replica, applied);
        core.has_adopted = true;
        self.seen.copies += 1;
    }

    fn is_at_rest(&self) -> bool {
        let last = self.sequence(self.traffic.len()) - 1;
        let is_done = |(at, core): (usize, &Core<P>)| {
            let is_at_end = core.replica.position() + self.plan.cores as u64 > last;
            core.queue.is_empty() && (is_at_end || self.plan.cut_off == Some(at))
        };
        self.cores.iter().enumerate().all(is_done)
    }

    /// Compares with a program that sees every packet but those that no core has.
    fn compare(mut self, mut single: P) -> Seen {
        let began = self.group.as_ref().map_or(self.plan.before, |group| group.began());
        let skipped: BTreeSet<u64> =
            self.cores.iter().flat_map(|core| core.skipped.iter().copied()).collect();
        for core in self.cores.iter().filter(|core| !core.has_adopted) {
            let mine = core.replica.position();
            assert!(skipped.range(..=mine).eq(&core.skipped), "cores leave out different packets");
        }
        self.seen.skipped = skipped.len();
        // Cores end at different packets.
        let ends: BTreeSet<u64> = self.cores.iter().map(|core| core.replica.position()).collect();
        let mut digests = BTreeMap::from([(began, single.digest())]);
        let (mut ticked, mut is_behind) = (None, false);
        for (index, record) in self.records.iter().enumerate() {
            let sequence = self.sequence(index);
            if sequence <= began || skipped.contains(&sequence) {
                assert!(!self.decisions.contains_key(&sequence), "{sequence} was left out");
                if ends.contains(&sequence) {
                    digests.insert(sequence, single.digest());
                }
                continue;
            }
            let mut events = Vec::new();
            if let Some(now) = P::time(record)
                && (ticked != Some(now) || is_behind)
            {
                ticked = Some(now);
                is_behind = single.tick(now, &mut events);
            }
            let verdict = single.step(record, &P::Probe::default(), &mut events);
            if let Some(decided) = self.decisions.remove(&sequence) {
                assert_eq!(decided, (verdict, events), "packet {sequence}");
            }
            if ends.contains(&sequence) {
                digests.insert(sequence, single.digest());
            }
        }
        assert!(self.decisions.is_empty(), "decided, but never sent: {:?}", self.decisions);
        for (at, core) in self.cores.iter_mut().enumerate() {
            core.replica.begin();
            let (position, digest) = (core.replica.position(), core.replica.program().digest());
            if position != 0 {
                assert_eq!(digest, digests[&position], "the state of core {at} behind {position}");
            }
        }
        let is_calm = self.plan.swaps == 0
            && self.plan.in_flight == 0
            && self.seen.copies == 0
            && began == self.plan.before;
        assert!(!is_calm || self.seen.late == 0, "late, though nothing was out of order");
        self.seen
    }
}
