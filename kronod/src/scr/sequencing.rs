//! What the lcore of a sequencer does for ever: poll both sides, number, spray.

use std::sync::Arc;

use arrayvec::ArrayVec;
use krono_core::counters::{Counter, CounterSnapshot, Counters};
use krono_core::drop::DropReason;
use krono_core::frame::BURST_MAX;
use krono_core::packet::{Layout, PacketMeta, Side};
use krono_core::parse::parse_into;
use krono_core::router::{Admitted, Router};
use krono_core::time::Moment;
use krono_io::{Burst, Mbuf, PipeIn, Pool};
use scr_sequencer::sequencer::{NUMBERED_MAX, Numbered, Sequencer};
use scr_sequencer::{Replicable, room};

use super::handover::{GIVE_UP_NS, Handover, Wish};
use super::members::{Members, Membership};
use crate::input::Input;
use crate::mailbox::{
    CoreChange, CoresRefused, CoresRequest, LookupQuery, Mailbox, Reload, SessionsPage, ShardView,
};
use crate::output::wire_bytes;

/// Polls between two looks at what others want.
const POLLS_PER_HOUSEKEEPING: u32 = 32;

const _: () = assert!(BURST_MAX <= NUMBERED_MAX);

/// A core's frames are handed over when they are so many, or when no more have come.
const SEND_AT: usize = 32;

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
    /// When the present handover began, as long as others wait for it.
    pub(crate) handing_over_since: Option<Moment>,
    /// Who was the last to ask for a state, and when, until that is met or given up.
    pub(crate) asked: Option<(usize, Moment)>,
    /// A bit for each core that was given up when it waited for a state: what it got then it cannot
    /// have done.
    pub(crate) without_state: u64,
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
    /// Frames on their way to it, no more than there is room for.
    batch: Burst,
    /// Frames that have their numbers and go into the batch when they have their histories.
    owed: usize,
    /// Frames that the pipe takes besides those, at least.
    room: usize,
    capacity: usize,
}

impl Lane {
    /// A way through a pipe in which there is nothing yet.
    pub(crate) fn new(pipe: PipeIn) -> Self {
        let capacity = pipe.room();
        Lane { pipe, batch: Burst::new(), owed: 0, room: capacity, capacity }
    }

    /// Whether the pipe takes another frame. The other end makes room all the time; to see that takes a
    /// line from its CPU, so it is asked only when what was known is used up.
    #[inline]
    fn has_room(&mut self) -> bool {
        if self.room == 0 {
            self.room = self.pipe.room() - self.batch.len() - self.owed;
        }
        self.room > 0
    }

    /// Whether the core has taken all that it got.
    fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.pipe.room() == self.capacity
    }

    /// Keeps a place for a frame, which is put there soon.
    #[inline]
    fn reserve(&mut self) {
        self.room -= 1;
        self.owed += 1;
    }

    #[inline]
    fn put(&mut self, mbuf: Mbuf) {
        self.owed -= 1;
        let pushed = self.batch.push(mbuf);
        debug_assert!(pushed.is_ok(), "a part of a burst, and no more copies, fit a burst");
        if self.batch.is_full() {
            self.flush(1);
        }
    }

    /// Puts a frame without a history.
    #[inline]
    fn push(&mut self, mbuf: Mbuf) {
        self.reserve();
        self.put(mbuf);
    }

    /// Hands over what waits, if that is `least` frames or more.
    #[inline]
    fn flush(&mut self, least: usize) {
        if self.batch.len() < least {
            return;
        }
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
        if self.is_idle {
            self.lanes.iter_mut().for_each(|lane| lane.flush(1));
        }
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
        // Under load several bursts go over together, since each time costs lines of the ring. A burst
        // that is not full is the last there is for now.
        let least = if burst.is_full() { SEND_AT } else { 1 };
        let (mut meta, mut layout) = (PacketMeta::default(), Layout::default());
        let mut numbered = ArrayVec::new();
        for mut mbuf in burst.drain() {
            let frame = mbuf.frame();
            if let Err(reason) = parse_into(frame.bytes(), *frame.wire_len, &mut meta, &mut layout)
            {
                self.discard(mbuf, reason);
                continue;
            }
            match self.router.admit(side, &meta, &layout) {
                Ok(Admitted::Transit) => {
                    self.number(P::record(&meta, side, self.now), mbuf, &mut numbered);
                }
                Ok(Admitted::Arp) => self.tell_all(side, mbuf),
                Ok(Admitted::Local) | Err(_) => self.pass_on(side, mbuf),
            }
        }
        for (mut mbuf, numbered) in numbered {
            let history = self.sequencer.history(&numbered);
            room::write(mbuf.private_mut(), &numbered.header(side), history);
            self.lanes[numbered.core].put(mbuf);
        }
        self.lanes.iter_mut().for_each(|lane| lane.flush(least));
        self.spent.clear();
        self.counters.worked(self.input.cycles().saturating_sub(started));
    }

    /// Gives a packet its number, for the core whose turn it is and that takes it.
    #[inline]
    fn number(
        &mut self,
        record: P::Record,
        mbuf: Mbuf,
        all: &mut ArrayVec<(Mbuf, Numbered), BURST_MAX>,
    ) {
        if self.handing_over_since.is_some() && self.must_wait() {
            return self.discard(mbuf, DropReason::ScrHandover);
        }
        let Some(core) = self.core_with_room() else {
            return self.discard(mbuf, DropReason::ScrRingFull);
        };
        let numbered = self.sequencer.number(record, self.now);
        debug_assert_eq!(numbered.core, core);
        self.counters.add(Counter::Sent, 1);
        self.lanes[core].reserve();
        all.push((mbuf, numbered));
    }

    /// The core whose turn it is, past those whose rings are full.
    #[inline]
    fn core_with_room(&mut self) -> Option<usize> {
        for _ in 0..self.lanes.len() {
            let core = self.sequencer.next_core()?;
            if self.lanes[core].has_room() {
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
            let copy = self.lanes[core].has_room().then(|| copy(&self.pool, &mbuf)).flatten();
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
        let passed = |since: Moment| self.now.0 - since.0;
        match self.handover.wish() {
            Some(wish) if self.asked.is_some_and(|(_, at)| passed(at) >= GIVE_UP_NS) => {
                self.give_up(&wish);
            }
            Some(_) => {
                self.handing_over_since =
                    self.handing_over_since.filter(|since| passed(*since) < HANDOVER_NS);
                if self.is_idle && passed(self.nudged) >= NUDGE_NS {
                    self.nudged = self.now;
                    self.nudge();
                }
            }
            None => {
                self.handing_over_since = None;
                if let Some((core, _)) = self.asked.take() {
                    self.without_state &= !(1 << core);
                }
                let missing = self.wanted & !self.sequencer.active();
                let is_ready = |core: &usize| {
                    let lane = &self.lanes[*core];
                    missing >> core & 1 != 0 && lane.is_empty()
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
        let has_state = self.without_state >> core & 1 == 0;
        if has_state && self.sequencer.activate(core, own).is_ok() || !self.handover.ask(core, last)
        {
            return;
        }
        self.asked = Some((core, self.now));
        match self.sequencer.activate(core, last) {
            Ok(()) => self.handing_over_since = Some(self.now),
            Err(_) => self.wanted &= !(1 << core),
        }
    }

    /// Leaves a core out that waits for a state in vain: whoever was to give it may have died. It drops
    /// what it got meanwhile, and then asks again, for a later state, which another core may give.
    #[cold]
    fn give_up(&mut self, wish: &Wish) {
        if !self.handover.withdraw(wish) {
            return;
        }
        (self.asked, self.handing_over_since) = (None, None);
        self.without_state |= 1 << wish.core;
        if self.sequencer.is_active(wish.core) {
            self.sequencer.deactivate(wish.core);
        }
    }

    /// Sends a packet that is nothing, so that its history brings some core past the one behind which
    /// another waits for its state, if no other packet does.
    #[cold]
    fn nudge(&mut self) {
        let Some(core) = self.core_with_room() else { return };
        let Some(mut mbuf) = self.pool.alloc() else { return };
        let numbered = self.sequencer.number(P::Record::default(), self.now);
        let history = self.sequencer.history(&numbered);
        room::write(mbuf.private_mut(), &numbered.header(Side::Inside), history);
        self.lanes[core].push(mbuf);
        self.lanes[core].flush(1);
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
        self.lanes.iter_mut().for_each(|lane| lane.flush(1));
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
