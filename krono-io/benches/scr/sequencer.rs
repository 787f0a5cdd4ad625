//! The sequencer's lcore: from a burst that was received to the pipes of the cores.

use std::hint::black_box;
use std::sync::Arc;

use arrayvec::ArrayVec;
use krono_core::frame::BURST_MAX;
use krono_core::packet::{Layout, PacketMeta};
use krono_core::parse::parse_into;
use krono_io::{Burst, Clock, PipeIn, PipeOut, Pool, pipe};
use scr_sequencer::sequencer::Sequencer;
use scr_sequencer::{Replicable, room};

use crate::lcores::{Signal, both};
use crate::traces::{Replay, Trace};
use crate::{Lab, SIDE};

/// A core's frames go into its pipe when they are so many, or when there is no more to do.
const SEND_AT: usize = 32;

/// Frames that a pipe holds.
pub(crate) const PIPE_FRAMES: u32 = 512;

/// The parts of a packet's way, in order, for the cycles of each.
pub(crate) const PARTS: [&str; 4] = ["receive", "parse and record", "number and write", "send"];

/// What the loop works with. What kronod's has besides are counters, and what becomes of packets
/// that are not for a group.
pub(crate) struct Numbering<P: Replicable> {
    sequencer: Sequencer<P::Record>,
    cores: Vec<Core>,
    packets: [(PacketMeta, Layout); BURST_MAX],
    records: [P::Record; BURST_MAX],
    /// What a history takes beside a frame, bytes.
    private: usize,
}

struct Core {
    pipe: PipeIn,
    /// What has its number, and is on its way to the pipe.
    waiting: Burst,
    /// The pipe takes so many more at least, those that wait included.
    room: usize,
}

impl<P: Replicable> Numbering<P> {
    pub(crate) fn new(pipes: impl IntoIterator<Item = PipeIn>) -> Self {
        let core = |pipe| Core { pipe, waiting: Burst::new(), room: 0 };
        let cores: Vec<Core> = pipes.into_iter().map(core).collect();
        Numbering {
            sequencer: Sequencer::new(cores.len(), history_max(cores.len())).expect("few cores"),
            packets: [(PacketMeta::default(), Layout::default()); BURST_MAX],
            records: [P::Record::default(); BURST_MAX],
            private: room::bytes_needed::<P::Record>(cores.len() - 1),
            cores,
        }
    }

    /// Whether all cores take their parts of a burst. What they do not take, the sequencer of a
    /// real port drops before it has a number; here the port waits instead.
    #[inline]
    pub(crate) fn has_room(&mut self) -> bool {
        let part = BURST_MAX.div_ceil(self.cores.len());
        self.cores.iter_mut().all(|core| {
            if core.room < part {
                core.room = core.pipe.room() - core.waiting.len();
            }
            core.room >= part
        })
    }

    #[inline]
    fn parse_all(&mut self, burst: &mut Burst, clock: &Clock) {
        let now = clock.now();
        let places = self.packets.iter_mut().zip(&mut self.records);
        for (mbuf, ((meta, layout), record)) in burst.iter_mut().zip(places) {
            let frame = mbuf.frame();
            let is_good = parse_into(frame.bytes(), *frame.wire_len, meta, layout).is_ok();
            assert!(is_good, "traces have good frames only");
            *record = P::record(meta, SIDE, now);
        }
    }

    #[inline]
    fn number_all(&mut self, burst: &mut Burst, clock: &Clock) {
        let now = clock.now();
        for (mut mbuf, record) in burst.drain().zip(&self.records) {
            let assigned = self.sequencer.assign(*record, now);
            let header = assigned.header(SIDE);
            room::write(mbuf.private_mut(), &header, assigned.history);
            let core = &mut self.cores[assigned.core];
            core.room -= 1;
            assert!(core.waiting.push(mbuf).is_ok(), "it is sent before it is full");
        }
    }

    /// Sends what waits, where it is `least` or more.
    #[inline]
    pub(crate) fn send_all(&mut self, least: usize) {
        for Core { pipe, waiting, .. } in &mut self.cores {
            if waiting.len() >= least {
                pipe.send(waiting);
            }
        }
    }

    /// All of it for one burst, and how many packets that were; `cycles` are added to by part.
    #[inline]
    pub(crate) fn turn(
        &mut self,
        replay: &mut Replay<'_>,
        burst: &mut Burst,
        clock: &Clock,
        cycles: &mut [u64; PARTS.len()],
    ) -> u64 {
        let mut marks = ArrayVec::<u64, 5>::new();
        marks.push(clock.cycles());
        let received = replay.poll(burst, BURST_MAX, 1);
        if received == 0 {
            return 0;
        }
        // They come while the frames are parsed.
        burst.prefetch_to_write(self.private);
        marks.push(clock.cycles());
        self.parse_all(burst, clock);
        marks.push(clock.cycles());
        self.number_all(burst, clock);
        marks.push(clock.cycles());
        self.send_all(SEND_AT);
        marks.push(clock.cycles());
        for (cycles, mark) in cycles.iter_mut().zip(marks.windows(2)) {
            *cycles += mark[1] - mark[0];
        }
        received as u64
    }
}

/// Histories of so many cores, and of twice as many for those that are passed over.
pub(crate) fn history_max(cores: usize) -> usize {
    2 * cores
}

/// What a run of the sequencer took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sequenced {
    /// Cycles of a packet by part.
    pub(crate) parts: [f64; PARTS.len()],
    /// Cycles of a packet from the first to the last, waiting for full pipes included.
    pub(crate) cycles: f64,
    /// Cycles of a packet for whoever emptied all pipes, waiting excluded.
    pub(crate) drained: f64,
}

/// Numbers so many packets for as many cores, whose pipes the other lcore empties.
pub(crate) fn sequence<P>(lab: &Lab, trace: &Arc<Trace>, cores: usize, packets: u64) -> Sequenced
where
    P: Replicable + 'static,
{
    let (ins, mut outs): (Vec<_>, Vec<_>) =
        (0..cores).map(|_| pipe(PIPE_FRAMES).expect("a pipe")).unzip();
    let (clock, trace, pool) = (lab.clock, trace.clone(), lab.pool.clone());
    let done = Arc::new(Signal::default());
    let is_done = done.clone();
    let (sequenced, drained) = both(
        &lab.eal,
        move || {
            let sequenced = number::<P>(ins, &trace, &pool, &clock, packets);
            done.raise();
            sequenced
        },
        move || drain::<P>(&mut outs, &clock, &is_done),
    );
    Sequenced { drained, ..sequenced }
}

fn number<P: Replicable>(
    pipes: Vec<PipeIn>,
    trace: &Trace,
    pool: &Pool,
    clock: &Clock,
    packets: u64,
) -> Sequenced {
    let mut numbering = Box::new(Numbering::<P>::new(pipes));
    let (mut replay, mut burst) = (Replay::new(trace, pool), Burst::new());
    let mut cycles = [0; PARTS.len()];
    let (mut numbered, start) = (0, clock.cycles());
    while numbered < packets {
        while !numbering.has_room() {
            numbering.send_all(1);
        }
        numbered += numbering.turn(&mut replay, &mut burst, clock, &mut cycles);
    }
    let taken = clock.cycles() - start;
    numbering.send_all(1);
    let each = |cycles: u64| cycles as f64 / numbered as f64;
    Sequenced { parts: cycles.map(each), cycles: each(taken), drained: 0.0 }
}

/// Empties pipes in turn, as all cores together: reads each packet's history, and frees it. What
/// one pipe gave comes over while that of the pipe before is read.
fn drain<P: Replicable>(pipes: &mut [PipeOut], clock: &Clock, is_done: &Signal) -> f64 {
    let (mut burst, mut next) = (Burst::new(), Burst::new());
    let (mut packets, mut busy, mut idle, mut sum) = (0, 0, 0, 0);
    for pipe in (0..pipes.len()).cycle() {
        let is_last = is_done.is_at_least(1);
        let start = clock.cycles();
        let polled = pipes[pipe].poll(&mut next);
        for mbuf in burst.iter() {
            let (header, carried) = room::read::<P::Record>(mbuf.private()).expect("written");
            sum += header.sequence + carried.history.len() as u64;
            black_box(carried.history.newest(1).iter().next());
        }
        idle = if polled + burst.len() == 0 { idle + 1 } else { 0 };
        packets += burst.len();
        burst.clear();
        busy += (clock.cycles() - start) * u64::from(idle == 0);
        std::mem::swap(&mut burst, &mut next);
        if is_last && idle > pipes.len() {
            break;
        }
    }
    black_box(sum);
    busy as f64 / packets.max(1) as f64
}
