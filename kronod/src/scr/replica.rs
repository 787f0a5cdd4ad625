//! What the lcore of a replica does for ever: take packets with their histories, decide, carry out.

use std::sync::Arc;

use krono_core::counters::{Counter, CounterSnapshot};
use krono_core::drop::DropReason;
use krono_core::packet::Side;
use krono_core::shard::{Action, Outcome, Outcomes, Scratch, Shard};
use krono_core::time::Moment;
use krono_io::{Burst, Clock, Mbuf, PipeOut};
use scr_sequencer::recovery::{Search, Turn};
use scr_sequencer::{Replicated, room};

use super::handover::Handover;
use super::in_band::InBand;
use super::programs::GroupProgram;
use crate::carrier::Carrier;
use crate::mailbox::{LookupQuery, Mailbox, Reload, RowsPage, SessionsPage, ShardView};
use crate::output::wire_bytes;

/// Polls between two rounds of housekeeping under load.
const POLLS_PER_HOUSEKEEPING: u32 = 32;

/// One replica of a group on its own lcore. Like a worker it allocates nothing, locks nothing and never
/// waits after it was made.
pub(crate) struct ReplicaWorker<P: GroupProgram> {
    pub(crate) core: usize,
    pub(crate) shard: Shard<Replicated<P>>,
    pub(crate) scratch: Box<Scratch<Replicated<P>>>,
    pub(crate) source: Source<P>,
    /// What came out of the pipe, which may wait for a state.
    pub(crate) burst: Burst,
    /// Frames that are looked at and decided together: they are of one side.
    pub(crate) run: Run,
    pub(crate) carrier: Carrier,
    pub(crate) handover: Arc<Handover<P>>,
    /// For neighbours, who are this core's own affair, and for what it costs.
    pub(crate) clock: Clock,
    pub(crate) mailbox: Mailbox,
    pub(crate) yields: bool,
    pub(crate) now: Moment,
    pub(crate) polls: u32,
}

/// Where packets come from.
pub(crate) enum Source<P: GroupProgram> {
    /// Our own sequencer.
    Pipe(PipeOut),
    /// The one of others.
    InBand(InBand<P>),
}

/// Frames of one side in the order in which they came.
pub(crate) struct Run {
    side: Side,
    frames: Burst,
    /// A bit for each that has a number.
    numbered: u64,
}

impl Run {
    pub(crate) fn new() -> Self {
        Run { side: Side::Inside, frames: Burst::new(), numbered: 0 }
    }

    #[inline]
    fn push(&mut self, mbuf: Mbuf, is_numbered: bool) {
        self.numbered |= u64::from(is_numbered) << self.frames.len();
        let pushed = self.frames.push(mbuf);
        debug_assert!(pushed.is_ok(), "a part of a burst fits a burst");
    }
}

impl<P: GroupProgram> ReplicaWorker<P> {
    /// Polls until it is told to stop, then frees what it holds.
    pub(crate) fn run(&mut self) {
        while !self.mailbox.is_stopped() {
            let now = self.clock.now();
            let is_idle = self.turn(now);
            if self.yields && is_idle {
                std::thread::yield_now();
            }
        }
        self.shut_down();
    }

    /// One poll, and what it brings; true if that was nothing.
    #[inline]
    pub(crate) fn turn(&mut self, now: Moment) -> bool {
        let at_once = now.ticks() != self.now.ticks();
        self.now = now;
        self.carrier.counters.add(Counter::Polls, 1);
        self.polls = self.polls.wrapping_add(1);
        let started = self.clock.cycles();
        let has_worked = match self.source {
            Source::Pipe(_) => self.take_from_pipe(),
            Source::InBand(_) => self.take_in_band(),
        };
        if has_worked {
            self.carrier.counters.worked(self.clock.cycles().saturating_sub(started));
        } else {
            self.idle();
        }
        if !has_worked || at_once || self.polls.is_multiple_of(POLLS_PER_HOUSEKEEPING) {
            self.housekeep();
        }
        !has_worked
    }

    /// Works on what the sequencer has sent; false if there is nothing, or no state yet for it.
    fn take_from_pipe(&mut self) -> bool {
        let Source::Pipe(pipe) = &mut self.source else { return false };
        if self.burst.is_empty() && pipe.poll(&mut self.burst) == 0 {
            return false;
        }
        // Asked behind the poll: who sees a packet sees the wish that came before it.
        if self.is_waiting() && !self.may_go_before() {
            return false;
        }
        let mut burst = std::mem::take(&mut self.burst);
        self.shard.program.begin();
        for mbuf in burst.drain() {
            self.take(mbuf);
        }
        self.decide();
        true
    }

    /// Whether this core waits for a state. It takes the state over if that is there, unless it has
    /// packets still that came before it asked: those nobody else has.
    #[inline]
    fn is_waiting(&mut self) -> bool {
        match self.handover.wish() {
            Some(wish) if wish.core == self.core => {
                self.has_packets_before(wish.behind)
                    || !self.handover.receive(&mut self.shard.program)
            }
            _ => false,
        }
    }

    /// Whether what came out of the pipe can be worked on without a state that is wanted.
    #[cold]
    fn may_go_before(&self) -> bool {
        self.handover.wish().is_some_and(|wish| self.has_packets_before(wish.behind))
    }

    /// Whether there are packets that came out of the pipe and are not behind this one. Those of a
    /// burst all are or none is, since the ring was empty when the state was asked for.
    #[cold]
    fn has_packets_before(&self, behind: u64) -> bool {
        let number = |mbuf: &Mbuf| Some(room::read::<P::Record>(mbuf.private()).ok()?.0.sequence);
        match self.burst.iter().find_map(number) {
            Some(first) => first <= behind,
            // What has no number needs no state.
            None => !self.burst.is_empty(),
        }
    }

    /// Takes a packet that the sequencer has sent.
    #[inline]
    fn take(&mut self, mbuf: Mbuf) {
        if let Some((side, is_copy)) = room::unnumbered(mbuf.private()) {
            self.turn_to(side);
            if is_copy {
                return self.learn(mbuf);
            }
            return self.run.push(mbuf, false);
        }
        let Ok((header, carried)) = room::read::<P::Record>(mbuf.private()) else {
            // Nobody but our own sequencer writes there.
            self.received(Side::Inside, &mbuf);
            return self.carrier.counters.dropped(DropReason::ScrHeaderBad);
        };
        let wish = self.handover.wish().filter(|wish| {
            let is_passed = self.shard.program.position() <= wish.behind;
            wish.core != self.core && is_passed && wish.behind < carried.sequence
        });
        let is_nothing = mbuf.wire_len() == 0;
        if wish.is_some() || is_nothing || self.run.side != header.side {
            self.decide();
            self.run.side = header.side;
        }
        let turn = self.shard.program.offer(&carried, &mut |_| {});
        let Turn::Now(_) = turn else {
            self.received(header.side, &mbuf);
            return self.carrier.counters.dropped(DropReason::ScrLate);
        };
        if let Some(wish) = wish {
            self.handover.give(&mut self.shard.program, &wish, wish.behind);
        }
        if is_nothing {
            self.shard.program.own(None, false);
            return self.shard.program.begin();
        }
        self.run.push(mbuf, true);
    }

    #[inline]
    fn received(&self, side: Side, mbuf: &Mbuf) {
        self.carrier.counters.received(side, 1, u64::from(mbuf.wire_len()));
    }

    /// Decides what it has of the other side.
    #[inline]
    fn turn_to(&mut self, side: Side) {
        if self.run.side != side {
            self.decide();
            self.run.side = side;
        }
    }

    /// Works on sequenced packets; false if none has come whose turn it is.
    fn take_in_band(&mut self) -> bool {
        let Source::InBand(in_band) = &mut self.source else { return false };
        let (count, bytes) = in_band.poll();
        let side = in_band.side;
        self.run.side = side;
        if count > 0 {
            self.carrier.counters.received(side, count, bytes);
        }
        if self.is_waiting() {
            return false;
        }
        self.shard.program.begin();
        let mut has_worked = count > 0;
        while let Source::InBand(in_band) = &mut self.source
            && let Some(next) = in_band.next()
        {
            let carried = match next {
                Ok(carried) => carried,
                Err(reason) => {
                    drop(in_band.take(None));
                    self.carrier.counters.dropped(reason);
                    continue;
                }
            };
            let sequence = carried.sequence;
            match self.shard.program.offer(&carried, &mut |_| {}) {
                Turn::Now(_) => self.run.push(in_band.take(Some(sequence)), true),
                Turn::Wait => break,
                Turn::Late => {
                    drop(in_band.take(Some(sequence)));
                    self.carrier.counters.dropped(DropReason::ScrLate);
                }
                Turn::Behind => {
                    self.handover.ask(self.core, self.shard.program.position());
                    break;
                }
            }
            has_worked = true;
        }
        self.decide();
        self.give_if_ahead();
        has_worked
    }

    /// Decides the frames of a run and carries that out.
    fn decide(&mut self) {
        let Self { shard, scratch, source, run, carrier, .. } = self;
        if !run.frames.is_empty() {
            if let Source::Pipe(_) = source {
                carrier.counters.received(run.side, run.frames.len(), wire_bytes(&run.frames));
            }
            shard.look_at_all(run.side, &mut run.frames, scratch);
            for index in (0..run.frames.len()).filter(|index| run.numbered >> index & 1 != 0) {
                let packet = scratch.parsed(index).map(|meta| (meta, run.side));
                shard.program.own(packet, scratch.transit(index).is_some());
            }
            shard.program.touch_all();
            let mut outcomes = Outcomes::new();
            shard.decide_all(run.side, &mut run.frames, self.now, &mut (), scratch, &mut outcomes);
            carrier.carry_out(shard, &mut run.frames, &outcomes);
            run.numbered = 0;
        }
        // The rest of what was taken is stepped on now, so that the state is where it says it is.
        shard.program.begin();
    }

    /// Learns what it can from a frame that another core answers.
    #[cold]
    fn learn(&mut self, mbuf: Mbuf) {
        self.decide();
        let side = self.run.side;
        self.received(side, &mbuf);
        let Self { shard, scratch, run, carrier, .. } = self;
        run.push(mbuf, false);
        let mut outcomes = Outcomes::new();
        shard.process(side, &mut run.frames, self.now, &mut (), scratch, &mut outcomes);
        for (mbuf, outcome) in run.frames.drain().zip(outcomes.iter()) {
            let action = match outcome.action {
                Action::Answer(..) => Action::Consume,
                other => other,
            };
            carrier.carry_one(shard, mbuf, Outcome { action, ..outcome });
        }
        carrier.output.flush(&carrier.counters);
    }

    /// A poll without packets: finds what others wait for.
    #[cold]
    fn idle(&mut self) {
        if self.is_waiting() {
            return;
        }
        if self.shard.program.idle(&mut |_| {}) == Search::Behind {
            self.handover.ask(self.core, self.shard.program.position());
        }
        match (&self.source, self.handover.wish()) {
            // It was the last to get a packet before the other joined, and no later one may come.
            (Source::Pipe(_), Some(wish))
                if wish.core != self.core && self.shard.program.position() == wish.behind =>
            {
                self.handover.give(&mut self.shard.program, &wish, wish.behind);
            }
            (Source::InBand(_), _) => self.give_if_ahead(),
            _ => {}
        }
    }

    /// Gives the state to a core that has missed too much.
    fn give_if_ahead(&mut self) {
        let position = self.shard.program.position();
        if let Some(wish) = self.handover.wish()
            && wish.core != self.core
            && position > wish.behind
        {
            self.handover.give(&mut self.shard.program, &wish, position);
        }
    }

    #[cold]
    fn housekeep(&mut self) {
        self.carrier.do_duties(&mut self.shard.router, self.now);
        self.shard.program.program().publish(&self.carrier.counters);
        if let Some(mut letter) = self.mailbox.take() {
            letter.answer(self);
            self.mailbox.give_back(letter);
        }
    }

    /// Frees what is held or was received but not worked on, every frame with its reason.
    pub(crate) fn shut_down(&mut self) {
        self.carrier.shut_down();
        let counters = &self.carrier.counters;
        match &mut self.source {
            Source::Pipe(pipe) => {
                let burst = &mut self.burst;
                while !burst.is_empty() || pipe.poll(burst) > 0 {
                    // Those that are nothing were never received.
                    for mbuf in burst.drain().filter(|mbuf| mbuf.wire_len() > 0) {
                        counters.received(Side::Inside, 1, u64::from(mbuf.wire_len()));
                        counters.dropped(DropReason::ShutDown);
                    }
                }
            }
            // They were counted when they were received.
            Source::InBand(in_band) => {
                in_band.drain().for_each(|_| counters.dropped(DropReason::ShutDown));
            }
        }
    }
}

impl<P: GroupProgram> ShardView for ReplicaWorker<P> {
    fn counters(&self) -> CounterSnapshot {
        self.carrier.counters.snapshot()
    }

    fn sessions(&self, page: &mut SessionsPage) {
        self.shard.program.program().sessions(page, self.now.ticks());
    }

    fn lookup(&self, query: &mut LookupQuery) {
        self.shard.program.program().lookup(query);
    }

    fn reload(&mut self, _: &mut Reload) {}

    fn rows(&self, page: &mut RowsPage) {
        page.position = self.shard.program.position();
        self.shard.program.program().rows(page);
    }
}
