//! What the lcore of a sequencer does for ever: poll both sides, number, spray.

use std::sync::Arc;

use krono_core::counters::{Counter, CounterSnapshot, Counters};
use krono_core::drop::DropReason;
use krono_core::packet::{Layout, PacketMeta, Side};
use krono_core::parse::parse_into;
use krono_core::router::{Admitted, Router};
use krono_core::time::Moment;
use krono_io::{Burst, Mbuf, PipeIn, Pool};
use scr_sequencer::sequencer::Sequencer;
use scr_sequencer::{Replicable, room};

use super::handover::Handover;
use super::members::{Members, Membership};
use crate::input::Input;
use crate::mailbox::{
    CoreChange, CoresRefused, CoresRequest, LookupQuery, Mailbox, Reload, SessionsPage, ShardView,
};
use crate::output::wire_bytes;

/// Polls between two looks at what others want.
const POLLS_PER_HOUSEKEEPING: u32 = 32;

/// So long other packets wait for a core that takes over a state. Then those that are far behind are
/// left out: the one that was to give its state may have died.
const HANDOVER_NS: u64 = 500_000_000;

/// So often a packet that is nothing is sent while a core waits for a state and no packets come.
const NUDGE_NS: u64 = 1_000_000;

/// The sequencer of a group on its own lcore. Like a worker it allocates nothing, locks nothing and
/// never waits after it was made.
pub(crate) struct Sequencing<P: Replicable> {
    pub(crate) sequencer: Sequencer<P::Record>,
    /// By core.
    pub(crate) lanes: Box<[Lane]>,
    pub(crate) input: Input,
    /// It only tells what is for the program.
    pub(crate) router: Router,
    /// Frames of the present burst that go nowhere.
    pub(crate) spent: Burst,
    /// Buffers for copies.
    pub(crate) pool: Pool,
    pub(crate) counters: Arc<Counters>,
    pub(crate) mailbox: Mailbox,
    pub(crate) handover: Arc<Handover<P>>,
    pub(crate) members: Arc<Members>,
    /// A bit for each core that shall get packets, as far as it can take them.
    pub(crate) wanted: u64,
    /// When the present handover began.
    pub(crate) handing_over_since: Option<Moment>,
    pub(crate) yields: bool,
    pub(crate) now: Moment,
    pub(crate) polls: u32,
    /// Whether the latest poll found nothing.
    pub(crate) is_idle: bool,
    /// When the latest packet was sent that is nothing.
    pub(crate) nudged: Moment,
}

/// The way to a core.
pub(crate) struct Lane {
    pipe: PipeIn,
    /// Frames of the present burst, no more than there is room for.
    batch: Burst,
    /// Frames that the pipe takes besides those of the batch, at least.
    room: usize,
    capacity: usize,
}

impl Lane {
    /// A way through a pipe in which there is nothing yet.
    pub(crate) fn new(pipe: PipeIn) -> Self {
        let capacity = pipe.room();
        Lane { pipe, batch: Burst::new(), room: capacity, capacity }
    }

    #[inline]
    fn push(&mut self, mbuf: Mbuf) {
        self.room -= 1;
        let pushed = self.batch.push(mbuf);
        debug_assert!(pushed.is_ok(), "a part of a burst, and no more copies, fit a burst");
        if self.batch.is_full() {
            self.flush();
        }
    }

    #[inline]
    fn flush(&mut self) {
        self.pipe.send(&mut self.batch);
        debug_assert!(self.batch.is_empty(), "there was room");
    }
}

impl<P: Replicable> Sequencing<P> {
    /// Polls until it is told to stop.
    pub(crate) fn run(&mut self) {
        let mut burst = Burst::new();
        while !self.mailbox.is_stopped() {
            let received = self.input.receive(&mut burst);
            self.turn(received, &mut burst, self.input.now());
            if self.yields && received.is_none() {
                std::thread::yield_now();
            }
        }
        self.shut_down();
    }

    #[inline]
    pub(crate) fn turn(&mut self, received: Option<Side>, burst: &mut Burst, now: Moment) {
        self.now = now;
        self.counters.add(Counter::Polls, 1);
        self.polls = self.polls.wrapping_add(1);
        self.is_idle = received.is_none();
        if self.is_idle || self.polls.is_multiple_of(POLLS_PER_HOUSEKEEPING) {
            self.housekeep();
        }
        if let Some(side) = received {
            self.work(side, burst);
        }
    }

    /// Sprays a burst that arrived at `side`.
    fn work(&mut self, side: Side, burst: &mut Burst) {
        let started = self.input.cycles();
        // Cores had the buffers before; the usual history comes over while frames are parsed.
        burst.prefetch_to_write(room::bytes_needed::<P::Record>(self.lanes.len() - 1));
        self.counters.received(side, burst.len(), wire_bytes(burst));
        self.lanes.iter_mut().for_each(|lane| lane.room = lane.pipe.room());
        let (mut meta, mut layout) = (PacketMeta::default(), Layout::default());
        for mut mbuf in burst.drain() {
            let frame = mbuf.frame();
            if let Err(reason) = parse_into(frame.bytes(), *frame.wire_len, &mut meta, &mut layout)
            {
                self.discard(mbuf, reason);
                continue;
            }
            match self.router.admit(side, &meta, &layout) {
                Ok(Admitted::Transit) => self.number(P::record(&meta, side, self.now), side, mbuf),
                Ok(Admitted::Arp) => self.tell_all(side, mbuf),
                Ok(Admitted::Local) | Err(_) => self.pass_on(side, mbuf),
            }
        }
        self.lanes.iter_mut().for_each(Lane::flush);
        self.spent.clear();
        self.counters.worked(self.input.cycles().saturating_sub(started));
    }

    /// Gives a packet its number, and to the core whose turn it is and that takes it.
    #[inline]
    fn number(&mut self, record: P::Record, side: Side, mut mbuf: Mbuf) {
        if self.handing_over_since.is_some() && self.must_wait() {
            return self.discard(mbuf, DropReason::ScrHandover);
        }
        let Some(core) = self.core_with_room() else {
            return self.discard(mbuf, DropReason::ScrRingFull);
        };
        let assigned = self.sequencer.assign(record, self.now);
        debug_assert_eq!(assigned.core, core);
        room::write(mbuf.private_mut(), &assigned.header(side), assigned.history);
        self.counters.add(Counter::Sent, 1);
        self.lanes[core].push(mbuf);
    }

    /// The core whose turn it is, past those whose rings are full.
    #[inline]
    fn core_with_room(&mut self) -> Option<usize> {
        for _ in 0..self.lanes.len() {
            let core = self.sequencer.next_core()?;
            if self.lanes[core].room > 0 {
                return Some(core);
            }
            self.sequencer.pass_over();
        }
        None
    }

    /// Whether another packet would have a core left out that gives its state, or waits for one.
    #[cold]
    fn must_wait(&mut self) -> bool {
        let longest = self.sequencer.longest_history();
        longest + self.sequencer.cores() as u64 > self.sequencer.history_max()
    }

    /// Has a core answer a frame that is not for the program.
    #[cold]
    fn pass_on(&mut self, side: Side, mut mbuf: Mbuf) {
        let Some(core) = self.core_with_room() else {
            return self.discard(mbuf, DropReason::ScrRingFull);
        };
        room::write_unnumbered(mbuf.private_mut(), side, false);
        self.counters.add(Counter::Sent, 1);
        self.lanes[core].push(mbuf);
    }

    /// Has a core answer ARP, and all others learn from it what they can.
    #[cold]
    fn tell_all(&mut self, side: Side, mbuf: Mbuf) {
        let answering = self.sequencer.next_core();
        let others = self.sequencer.active() & !answering.map_or(0, |core| 1 << core);
        for core in (0..self.lanes.len()).filter(|core| others >> core & 1 != 0) {
            let copy = (self.lanes[core].room > 0).then(|| copy(&self.pool, &mbuf)).flatten();
            let Some(mut copy) = copy else {
                self.counters.add(Counter::OriginatedLost, 1);
                continue;
            };
            room::write_unnumbered(copy.private_mut(), side, true);
            self.counters.add(Counter::Originated, 1);
            self.lanes[core].push(copy);
        }
        self.pass_on(side, mbuf);
    }

    fn discard(&mut self, mbuf: Mbuf, reason: DropReason) {
        self.counters.dropped(reason);
        let pushed = self.spent.push(mbuf);
        debug_assert!(pushed.is_ok(), "a part of a burst fits a burst");
    }

    /// Looks after its cores and answers the control plane.
    #[cold]
    fn housekeep(&mut self) {
        // They are in `wanted` still, and come back when they have emptied their rings.
        while self.sequencer.left_out().is_some() {}
        self.look_after_handover();
        if let Some(mut letter) = self.mailbox.take() {
            letter.answer(self);
            self.mailbox.give_back(letter);
        }
        self.members.show(self.membership());
    }

    /// Has a core join that shall, as soon as it has done what it got before and none else joins.
    fn look_after_handover(&mut self) {
        match (self.handover.wish(), self.handing_over_since) {
            (Some(_), Some(since)) if self.now.0 - since.0 >= HANDOVER_NS => {
                self.handing_over_since = None;
            }
            (Some(_), _) => {
                if self.is_idle && self.now.0 - self.nudged.0 >= NUDGE_NS {
                    self.nudged = self.now;
                    self.nudge();
                }
            }
            (None, _) => {
                self.handing_over_since = None;
                let missing = self.wanted & !self.sequencer.active();
                let is_ready = |core: &usize| {
                    let lane = &self.lanes[*core];
                    missing >> core & 1 != 0 && lane.pipe.room() == lane.capacity
                };
                if let Some(core) = (0..self.lanes.len()).find(is_ready) {
                    self.join(core);
                }
            }
        }
    }

    fn join(&mut self, core: usize) {
        // One that was away for a moment only is told of what it missed.
        let (own, last) = (self.sequencer.sent_to(core), self.sequencer.last());
        if self.sequencer.activate(core, own).is_ok() || !self.handover.ask(core, last) {
            return;
        }
        match self.sequencer.activate(core, last) {
            Ok(()) => self.handing_over_since = Some(self.now),
            Err(_) => self.wanted &= !(1 << core),
        }
    }

    /// Sends a packet that is nothing, so that its history brings some core past the one behind which
    /// another waits for its state, if no other packet does.
    #[cold]
    fn nudge(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.room = lane.pipe.room());
        let Some(core) = self.core_with_room() else { return };
        let Some(mut mbuf) = self.pool.alloc() else { return };
        let assigned = self.sequencer.assign(P::Record::default(), self.now);
        room::write(mbuf.private_mut(), &assigned.header(Side::Inside), assigned.history);
        self.lanes[core].push(mbuf);
        self.lanes[core].flush();
    }

    fn membership(&self) -> Membership {
        Membership {
            active: self.sequencer.active(),
            epoch: self.sequencer.epoch(),
            last: self.sequencer.last(),
        }
    }

    /// Frees what was received but not sprayed.
    fn shut_down(&mut self) {
        let counters = &self.counters;
        self.input.take_unworked(|side, mbuf| {
            counters.received(side, 1, u64::from(mbuf.wire_len()));
            counters.dropped(DropReason::ShutDown);
        });
    }

    fn change(&mut self, change: CoreChange) -> Result<(), CoresRefused> {
        let (CoreChange::Join(core) | CoreChange::Leave(core)) = change;
        if core >= self.lanes.len() {
            return Err(CoresRefused::NoSuchCore);
        }
        match change {
            CoreChange::Join(_) => {
                let cores = (self.wanted | 1 << core).count_ones();
                if u64::from(cores) > self.sequencer.history_max() + 1 {
                    return Err(CoresRefused::HistoryTooShort);
                }
                self.wanted |= 1 << core;
            }
            CoreChange::Leave(_) => {
                // Who gets a state has none yet, and who gives one must not be the last to have it.
                if self.handover.wish().is_some() {
                    return Err(CoresRefused::Busy);
                }
                if self.sequencer.active() & !(1 << core) == 0 {
                    return Err(CoresRefused::LastOne);
                }
                self.wanted &= !(1 << core);
                if self.sequencer.is_active(core) {
                    self.sequencer.deactivate(core);
                }
            }
        }
        Ok(())
    }
}

/// The first segment of a frame in another buffer.
fn copy(pool: &Pool, mbuf: &Mbuf) -> Option<Mbuf> {
    let mut copy = pool.alloc()?;
    copy.write(mbuf.bytes()).then_some(copy)
}

impl<P: Replicable> ShardView for Sequencing<P> {
    fn counters(&self) -> CounterSnapshot {
        self.counters.snapshot()
    }

    fn sessions(&self, _: &mut SessionsPage) {}

    fn lookup(&self, _: &mut LookupQuery) {}

    fn reload(&mut self, _: &mut Reload) {}

    fn cores(&mut self, request: &mut CoresRequest) {
        request.outcome = request.change.map_or(Ok(()), |change| self.change(change));
        request.active = self.sequencer.active();
        request.wanted = self.wanted;
        (request.epoch, request.last) = (self.sequencer.epoch(), self.sequencer.last());
    }
}
