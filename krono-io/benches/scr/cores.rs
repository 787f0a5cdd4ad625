//! What a core does with its packets, from reception to transmission, with each of the runners.

use std::hint::black_box;
use std::sync::Arc;

use krono_core::frame::BURST_MAX;
use krono_core::program::Program;
use krono_core::shard::{Action, Outcomes, Scratch, Shard};
use krono_core::time::Moment;
use krono_io::{Burst, Clock, PipeIn, PipeOut, Pool, TxQueue, pipe};
use scr_sequencer::recovery::Turn;
use scr_sequencer::sequencer::Sequencer;
use scr_sequencer::{Replicable, Replicated, room};

use crate::lcores::{Signal, alone, both};
use crate::programs::Nothing;
use crate::sequencer::{Numbering, PARTS, PIPE_FRAMES, history_max};
use crate::traces::{Replay, Trace, router};
use crate::{Lab, SIDE};

/// Frames that a core takes at once.
const BURST: usize = 32;

/// A shard and what its loop works with.
struct Core<P: Program> {
    shard: Shard<P>,
    scratch: Box<Scratch<P>>,
    outcomes: Outcomes,
    sent: Burst,
    spent: Burst,
}

impl<P: Program> Core<P> {
    fn new(program: P) -> Self {
        Core {
            shard: Shard::new(router(), program),
            scratch: Box::default(),
            outcomes: Outcomes::new(),
            sent: Burst::new(),
            spent: Burst::new(),
        }
    }

    /// Sends what is to be sent and frees what is not.
    #[inline]
    fn carry_out(&mut self, burst: &mut Burst, tx: &mut TxQueue) {
        if self.outcomes.dropped() != 0 {
            burst.part(self.outcomes.dropped(), &mut self.spent);
            self.spent.clear();
        }
        if self.outcomes.rest_to().is_some() {
            tx.send(burst);
            return burst.clear();
        }
        for (mbuf, outcome) in burst.drain().zip(self.outcomes.rest()) {
            let is_sent = matches!(outcome.action, Action::Send(_));
            let to = if is_sent { &mut self.sent } else { &mut self.spent };
            assert!(to.push(mbuf).is_ok(), "a part of a burst fits a burst");
        }
        tx.send(&mut self.sent);
        self.sent.clear();
        self.spent.clear();
    }

    /// Receives and works for so many cycles: packets, and cycles.
    fn run(
        &mut self,
        replay: &mut Replay<'_>,
        tx: &mut TxQueue,
        clock: &Clock,
        cycles: u64,
    ) -> (u64, u64) {
        let (mut burst, mut packets, start) = (Burst::new(), 0, clock.cycles());
        loop {
            packets += replay.poll(&mut burst, BURST, 1) as u64;
            let Core { shard, scratch, outcomes, .. } = self;
            let now = clock.now();
            shard.process(SIDE, &mut burst, now, &mut (), scratch, outcomes);
            self.carry_out(&mut burst, tx);
            let taken = clock.cycles() - start;
            if taken >= cycles {
                return (packets, taken);
            }
        }
    }
}

impl<P: Replicable> Core<Replicated<P>> {
    /// Works on a burst that came through a pipe.
    #[inline]
    fn replicate(&mut self, burst: &mut Burst, tx: &mut TxQueue) {
        let Core { shard, scratch, outcomes, .. } = self;
        shard.program.begin();
        let mut now = Moment(0);
        for mbuf in burst.iter() {
            let (header, carried) = room::read(mbuf.private()).expect("the sequencer wrote it");
            now = header.moment;
            let turn = shard.program.offer(&carried, &mut |_| {});
            assert!(matches!(turn, Turn::Now(_)), "nothing is lost");
        }
        shard.look_at_all(SIDE, burst, scratch);
        for index in 0..burst.len() {
            let packet = scratch.transit(index).expect("traces are for the program");
            shard.program.own(Some((packet, SIDE)), true);
        }
        shard.program.touch_all();
        shard.decide_all(SIDE, burst, now, &mut (), scratch, outcomes);
        self.carry_out(burst, tx);
    }
}

/// Cycles of a packet on a core with a state of its own, that has all packets.
pub(crate) fn sharded<P>(lab: &Lab, trace: &Arc<Trace>, program: P) -> f64
where
    P: Program + Send + 'static,
{
    let (clock, trace, pool) = (lab.clock, trace.clone(), lab.pool.clone());
    let (tx, cycles) = (lab.tx[1].clone(), lab.run_cycles);
    alone(&lab.eal, move || {
        let tx = &mut tx.lock().expect("nobody panicked");
        let mut core = Core::new(program);
        let mut replay = Replay::new(&trace, &pool);
        core.run(&mut replay, tx, &clock, cycles / 8);
        let (packets, taken) = core.run(&mut replay, tx, &clock, cycles);
        taken as f64 / packets as f64
    })
}

/// Cycles of the two cores together until they have done one more packet, with one state of which
/// each has a handle.
pub(crate) fn shared<P>(lab: &Lab, trace: &Arc<Trace>, [first, second]: [P; 2]) -> f64
where
    P: Program + Send + 'static,
{
    let work = |program: P, lcore: usize| {
        let (clock, trace, pool) = (lab.clock, trace.clone(), lab.pool.clone());
        let (tx, cycles) = (lab.tx[lcore].clone(), lab.run_cycles);
        move || {
            let tx = &mut tx.lock().expect("nobody panicked");
            let mut core = Core::new(program);
            let mut replay = Replay::new(&trace, &pool);
            replay.position = lcore * trace.metas.len() / 2;
            core.run(&mut replay, tx, &clock, cycles)
        }
    };
    let ((a, a_taken), (b, b_taken)) = both(&lab.eal, work(first, 0), work(second, 1));
    1.0 / (a as f64 / a_taken as f64 + b as f64 / b_taken as f64)
}

/// The part of a step on a shared state that only one core can be in, with the state, and its lock
/// if it has one, coming over from the other core: cycles from one core's step to the other's when
/// they take turns, less those of taking turns.
pub(crate) fn serial_section<P>(lab: &Lab, trace: &Arc<Trace>, handles: [P; 2]) -> f64
where
    P: Program + Send + 'static,
{
    take_turns(lab, trace, handles) - take_turns(lab, trace, [Nothing, Nothing])
}

fn take_turns<P>(lab: &Lab, trace: &Arc<Trace>, [first, second]: [P; 2]) -> f64
where
    P: Program + Send + 'static,
{
    let turn = Arc::new(Signal::default());
    let work = |mut program: P, lcore: u64| {
        let (clock, trace, turn) = (lab.clock, trace.clone(), turn.clone());
        let turns = lab.run_cycles / 512;
        move || {
            let start = clock.cycles();
            for number in (lcore..turns).step_by(2) {
                let meta = &trace.metas[number as usize % trace.metas.len()];
                let record = P::record(meta, SIDE, Moment(1_000_000_000 + 100 * number));
                turn.wait_for(number);
                black_box(program.step(&record, &P::Probe::default(), &mut ()));
                turn.raise();
            }
            (clock.cycles() - start) as f64 / turns as f64
        }
    };
    both(&lab.eal, work(first, 0), work(second, 1)).0
}

/// Cycles of a step without probe that nobody disturbs.
pub(crate) fn step_alone<P>(lab: &Lab, trace: &Arc<Trace>, mut program: P) -> f64
where
    P: Program + Send + 'static,
{
    let (clock, trace, cycles) = (lab.clock, trace.clone(), lab.run_cycles / 2);
    alone(&lab.eal, move || step_on_all(&mut program, &trace, 1, &clock, cycles))
}

/// Steps on the packets of a trace for so many cycles, without anything else: cycles of each.
#[inline(never)]
fn step_on_all<P: Program>(
    program: &mut P,
    trace: &Trace,
    lcore: usize,
    clock: &Clock,
    cycles: u64,
) -> f64 {
    let (mut steps, start) = (0, clock.cycles());
    let (before, after) = trace.metas.split_at(lcore * trace.metas.len() / 2);
    for metas in after.chunks(BURST).chain(before.chunks(BURST)).cycle() {
        let now = clock.now();
        for meta in metas {
            let record = P::record(meta, SIDE, now);
            black_box(program.step(&record, &P::Probe::default(), &mut ()));
        }
        steps += metas.len();
        let taken = clock.cycles() - start;
        if taken >= cycles {
            return taken as f64 / steps as f64;
        }
    }
    unreachable!("a trace goes on for ever")
}

/// What an own packet and a record of another's cost a replica: cycles of c1 and c2, each in bursts
/// as big as those of `cores`.
pub(crate) fn compute<P>(lab: &Lab, trace: &Arc<Trace>, program: P, cores: usize) -> [f64; 2]
where
    P: Replicable + Send + 'static,
{
    let (clock, trace) = (lab.clock, trace.clone());
    alone(&lab.eal, move || {
        let mut program = program;
        let moment = |index: usize| Moment(1_000_000_000 + 100 * index as u64);
        let records: Vec<P::Record> = (0..)
            .zip(&trace.metas)
            .map(|(index, meta)| P::record(meta, SIDE, moment(index)))
            .collect();
        replay_all(&mut program, &records, BURST * cores);
        let start = clock.cycles();
        decide_all(&mut program, &trace, moment);
        let decided = clock.cycles();
        replay_all(&mut program, &records, BURST * cores);
        let replayed = clock.cycles();
        black_box(&program);
        [decided - start, replayed - decided].map(|taken| taken as f64 / records.len() as f64)
    })
}

#[inline(never)]
fn decide_all<P: Replicable>(program: &mut P, trace: &Trace, moment: impl Fn(usize) -> Moment) {
    let mut waiting = [(P::Record::default(), P::Probe::default()); BURST];
    for (burst, metas) in trace.metas.chunks(BURST).enumerate() {
        for ((record, probe), meta) in waiting.iter_mut().zip(metas) {
            *record = P::record(meta, SIDE, moment(burst * BURST));
            *probe = program.probe(record);
        }
        touch_all(program, &mut waiting[..metas.len()]);
        for (record, probe) in &waiting[..metas.len()] {
            black_box(program.step(record, probe, &mut ()));
        }
    }
}

#[inline(never)]
fn replay_all<P: Replicable>(program: &mut P, records: &[P::Record], at_once: usize) {
    let mut waiting = vec![(P::Record::default(), P::Probe::default()); at_once];
    for burst in records.chunks(at_once) {
        for ((waiting, probe), record) in waiting.iter_mut().zip(burst) {
            (*waiting, *probe) = (*record, program.probe(record));
        }
        touch_all(program, &mut waiting[..burst.len()]);
        for (record, probe) in &waiting[..burst.len()] {
            program.step(record, probe, &mut ());
        }
    }
}

#[inline(always)]
fn touch_all<P: Replicable>(program: &P, waiting: &mut [(P::Record, P::Probe)]) {
    for look in 0.. {
        let mut goes_on = false;
        for (record, probe) in &mut *waiting {
            goes_on |= program.touch(record, probe, look);
        }
        if !goes_on {
            return;
        }
    }
}

/// Cycles of an own packet on one core of so many: the other lcore is their sequencer, and gives
/// this one its packets with what all others got in between, of which there are only the records.
///
/// The two take turns with a pipe full of frames, so that the core never waits, and all lines
/// come from the other CPU.
pub(crate) fn replicated<P>(lab: &Lab, trace: &Arc<Trace>, program: P, cores: usize) -> f64
where
    P: Replicable + Send + 'static,
{
    let (entry, exit) = pipe(PIPE_FRAMES).expect("a pipe");
    let [fed, eaten] = [(); 2].map(|()| Arc::new(Signal::default()));
    let (fed_there, eaten_there) = (fed.clone(), eaten.clone());
    let (clock, trace, pool) = (lab.clock, trace.clone(), lab.pool.clone());
    let (tx, rounds) = (lab.tx[1].clone(), lab.rounds);
    let ((), cycles) = both(
        &lab.eal,
        move || {
            let mut feeder = Feeder::<P>::new(cores, entry);
            let mut replay = Replay::new(&trace, &pool);
            for round in 0..rounds {
                eaten_there.wait_for(round);
                feeder.feed(&mut replay, &trace, &clock);
                fed_there.raise();
            }
        },
        move || {
            let tx = &mut tx.lock().expect("nobody panicked");
            let mut core = Core::new(Replicated::new(program, history_max(cores), None));
            eat(&mut core, exit, tx, &clock, rounds, [&fed, &eaten])
        },
    );
    cycles
}

/// The sequencer of a group of which only the first core is there.
struct Feeder<P: Replicable> {
    cores: usize,
    sequencer: Sequencer<P::Record>,
    entry: PipeIn,
}

impl<P: Replicable> Feeder<P> {
    fn new(cores: usize, entry: PipeIn) -> Self {
        let sequencer = Sequencer::new(cores, history_max(cores)).expect("few cores");
        Feeder { cores, sequencer, entry }
    }

    /// Fills the pipe.
    fn feed(&mut self, replay: &mut Replay<'_>, trace: &Trace, clock: &Clock) {
        let mut burst = Burst::new();
        for _ in 0..PIPE_FRAMES as usize / BURST_MAX {
            let (first, now) = (replay.position, clock.now());
            assert_eq!(replay.poll(&mut burst, BURST_MAX, self.cores), BURST_MAX);
            let mut packet = (first..).map(|at| &trace.metas[at % trace.metas.len()]);
            for mbuf in burst.iter_mut() {
                for core in 0..self.cores {
                    let meta = packet.next().expect("a trace goes on for ever");
                    let assigned = self.sequencer.assign(P::record(meta, SIDE, now), now);
                    if core == 0 {
                        let header = assigned.header(SIDE);
                        room::write(mbuf.private_mut(), &header, assigned.history);
                    }
                }
            }
            self.entry.send(&mut burst);
        }
    }
}

/// Empties a pipe whenever it is full: cycles of a packet, of the later half of the rounds.
fn eat<P: Replicable>(
    core: &mut Core<Replicated<P>>,
    mut exit: PipeOut,
    tx: &mut TxQueue,
    clock: &Clock,
    rounds: u64,
    [fed, eaten]: [&Signal; 2],
) -> f64 {
    let (mut burst, mut packets, mut taken) = (Burst::new(), 0, 0);
    for round in 0..rounds {
        fed.wait_for(round + 1);
        let start = clock.cycles();
        loop {
            let polled = exit.poll(&mut burst);
            if polled == 0 {
                break;
            }
            core.replicate(&mut burst, tx);
            packets += polled as u64 * u64::from(round >= rounds / 2);
        }
        taken += (clock.cycles() - start) * u64::from(round >= rounds / 2);
        eaten.raise();
    }
    taken as f64 / packets as f64
}

/// Cycles from one packet to the next of a group of one core behind its sequencer, both at work at
/// the same time.
pub(crate) fn whole<P>(lab: &Lab, trace: &Arc<Trace>, program: P) -> f64
where
    P: Replicable + Send + 'static,
{
    let (entry, mut exit) = pipe(PIPE_FRAMES).expect("a pipe");
    let done = Arc::new(Signal::default());
    let is_done = done.clone();
    let (clock, trace, pool) = (lab.clock, trace.clone(), lab.pool.clone());
    let (tx, cycles) = (lab.tx[1].clone(), lab.run_cycles);
    let (cycles, ()) = both(
        &lab.eal,
        move || {
            let cycles = pass_on::<P>(entry, &trace, &pool, &clock, cycles);
            done.raise();
            cycles
        },
        move || {
            let tx = &mut tx.lock().expect("nobody panicked");
            let mut core = Core::new(Replicated::new(program, history_max(1), None));
            let mut burst = Burst::new();
            loop {
                let is_last = is_done.is_at_least(1);
                if exit.poll(&mut burst) > 0 {
                    core.replicate(&mut burst, tx);
                } else if is_last {
                    return;
                }
            }
        },
    );
    cycles
}

/// Numbers packets for one core for so many cycles: cycles of each, with those that it waits.
fn pass_on<P: Replicable>(
    entry: PipeIn,
    trace: &Trace,
    pool: &Pool,
    clock: &Clock,
    cycles: u64,
) -> f64 {
    let mut numbering = Box::new(Numbering::<P>::new([entry]));
    let (mut replay, mut burst) = (Replay::new(trace, pool), Burst::new());
    let (mut packets, start) = (0, clock.cycles());
    loop {
        if numbering.has_room() {
            packets += numbering.turn(&mut replay, &mut burst, clock, &mut [0; PARTS.len()]);
        }
        let taken = clock.cycles() - start;
        if taken >= cycles {
            return taken as f64 / packets as f64;
        }
    }
}
