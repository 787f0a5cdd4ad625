//! What an lcore does for ever: poll, process, carry out, flush, housekeep.

use std::sync::Arc;

use krono_core::counters::Counter;
use krono_core::packet::Side;
use krono_core::shard::{Outcomes, Scratch, Shard};
use krono_core::time::Moment;
use krono_io::Burst;
use krono_nat::Nat;

use crate::bfd::Board;
use crate::carrier::Carrier;
use crate::changes::ChangeCounts;
use crate::input::Input;
use crate::mailbox::Mailbox;
use crate::output::wire_bytes;
use crate::twin::{self, Sink};

/// Polls between two rounds of housekeeping under load; an idle worker keeps house every time.
const POLLS_PER_HOUSEKEEPING: u32 = 32;

/// One shard with its queues, on its own lcore. It allocates nothing, locks nothing and never
/// waits after it was made.
pub struct Worker {
    pub(crate) shard: Shard<Nat<'static>>,
    pub(crate) scratch: Box<Scratch<Nat<'static>>>,
    pub(crate) input: Input,
    pub(crate) carrier: Carrier,
    pub(crate) changes: ChangeCounts,
    /// Its half of the shard, if there is another on another server.
    pub(crate) twin: Option<twin::Channel>,
    pub(crate) mailbox: Mailbox,
    /// Where it shows its BFD sessions.
    pub(crate) bfd: Arc<Board>,
    /// Whether other lcores share this CPU, so that an idle one should let them run.
    pub(crate) yields: bool,
    pub(crate) now: Moment,
}

/// When to keep house.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    polls: u32,
    /// The last round has left something over.
    is_behind: bool,
}

impl Pace {
    /// Whether it is time after one more poll: there is nothing else to do, or a tick has passed,
    /// or more was due than one round takes, or there has been none for long.
    #[inline]
    fn is_due(&mut self, at_once: bool) -> bool {
        self.polls = self.polls.wrapping_add(1);
        at_once || self.is_behind || self.polls.is_multiple_of(POLLS_PER_HOUSEKEEPING)
    }
}

impl Worker {
    /// Polls until it is told to stop, then frees what it holds.
    pub fn run(&mut self) {
        let mut burst = Burst::new();
        let mut pace = Pace::default();
        while !self.mailbox.is_stopped() {
            let received = self.input.receive(&mut burst);
            self.turn(received, &mut burst, self.input.now(), &mut pace);
            if self.yields && received.is_none() {
                std::thread::yield_now();
            }
        }
        self.shut_down();
    }

    /// Keeps house if it is time, then works on what a poll has found. In this order, so that time
    /// has passed for the tables when a burst meets them.
    #[inline]
    pub(crate) fn turn(
        &mut self,
        received: Option<Side>,
        burst: &mut Burst,
        now: Moment,
        pace: &mut Pace,
    ) {
        let at_once = received.is_none() || now.ticks() != self.now.ticks();
        self.now = now;
        self.carrier.counters.add(Counter::Polls, 1);
        if pace.is_due(at_once) {
            pace.is_behind = self.housekeep();
        }
        if let Some(side) = received {
            self.work(side, burst);
        }
        if let Some(twin) = &mut self.twin {
            twin.send(&mut self.shard, &mut self.carrier, now);
        }
    }

    /// Works on one burst from one side and sends what comes of it.
    pub(crate) fn work(&mut self, side: Side, burst: &mut Burst) {
        let started = self.input.cycles();
        self.carrier.counters.received(side, burst.len(), wire_bytes(burst));
        let mut outcomes = Outcomes::new();
        let changes = &mut self.changes;
        let mut sink =
            Sink { counts: changes, twin: self.twin.as_mut().map(twin::Channel::changes) };
        let scratch = &mut self.scratch;
        self.shard.process(side, burst, self.now, &mut sink, scratch, &mut outcomes);
        if outcomes.delivers() {
            self.hear_twin(burst, &mut outcomes);
        }
        self.carrier.carry_out(&self.shard, burst, &outcomes);
        self.carrier.counters.worked(self.input.cycles().saturating_sub(started));
    }
}
