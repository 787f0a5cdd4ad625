//! What an lcore does for ever: poll, process, carry out, flush, housekeep.

use krono_core::counters::{Counter, Counters};
use krono_core::packet::Side;
use krono_core::shard::{Action, Outcome, Outcomes, Shard};
use krono_core::time::Ticks;
use krono_io::{Burst, Mbuf, Pool};
use krono_nat::Nat;
use std::sync::Arc;

use crate::changes::ChangeCounts;
use crate::held::Held;
use crate::input::Input;
use crate::mailbox::Mailbox;
use crate::output::{Origin, Output, wire_bytes};

/// Polls between two looks at the mailbox under load; an idle worker looks every time.
const POLLS_PER_HOUSEKEEPING: u32 = 32;

/// One shard with its queues, on its own lcore. It allocates nothing, locks nothing and never
/// waits after it was made.
pub struct Worker {
    pub(crate) shard: Shard<Nat<'static>>,
    pub(crate) input: Input,
    pub(crate) output: Output,
    pub(crate) held: Held,
    /// Buffers for frames that the shard makes.
    pub(crate) pool: Pool,
    pub(crate) changes: ChangeCounts,
    pub(crate) counters: Arc<Counters>,
    pub(crate) mailbox: Mailbox,
    /// Whether other lcores share this CPU, so that an idle one should let them run.
    pub(crate) yields: bool,
    pub(crate) now: Ticks,
}

impl Worker {
    /// Polls until it is told to stop, then frees what it holds.
    pub fn run(&mut self) {
        let mut burst = Burst::new();
        let mut polls: u32 = 0;
        while !self.mailbox.is_stopped() {
            let received = self.input.receive(&mut burst);
            self.now = self.input.now();
            if let Some(side) = received {
                self.work(side, &mut burst);
            }
            polls = polls.wrapping_add(1);
            self.counters.add(Counter::Polls, 1);
            if received.is_none() || polls.is_multiple_of(POLLS_PER_HOUSEKEEPING) {
                self.housekeep();
                if self.yields && received.is_none() {
                    std::thread::yield_now();
                }
            }
        }
        self.shut_down();
    }

    /// Works on one burst from one side and sends what comes of it.
    pub(crate) fn work(&mut self, side: Side, burst: &mut Burst) {
        let started = self.input.cycles();
        self.counters.received(side, burst.len(), wire_bytes(burst));
        let mut outcomes = Outcomes::new();
        self.shard.process(side, burst, self.now, &mut self.changes, &mut outcomes);
        for (mbuf, outcome) in burst.drain().zip(outcomes) {
            self.carry_out(mbuf, outcome);
        }
        self.output.flush(&self.counters);
        self.counters.worked(self.input.cycles() - started);
    }

    #[inline]
    fn carry_out(&mut self, mbuf: Mbuf, outcome: Outcome) {
        if let Some(neighbour) = outcome.released {
            self.release(neighbour);
        }
        match outcome.action {
            Action::Send(side) => self.output.push(side, mbuf, Origin::Received, &self.counters),
            Action::Answer(side, reason) => {
                match reason {
                    Some(reason) => self.counters.dropped(reason),
                    None => self.counters.add(Counter::Consumed, 1),
                }
                self.output.push(side, mbuf, Origin::Own, &self.counters);
            }
            Action::Drop(reason) => self.counters.dropped(reason),
            Action::Consume => self.counters.add(Counter::Consumed, 1),
            Action::Hold(side, neighbour) => self.hold(side, neighbour, mbuf),
        }
    }
}
