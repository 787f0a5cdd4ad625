//! How a core gets the state of another, while both run.
//!
//! One replica more than there are cores carries states: the core that gives one makes it a copy of its
//! own, which is all that it does besides its packets, and the core that wants it exchanges its own
//! state for that. One core at a time is served.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crossbeam::queue::ArrayQueue;
use scr_sequencer::{Replicable, Replicated};

/// Nobody wants a state; a wish is being written down.
const NOBODY: usize = 0;
const WRITING: usize = usize::MAX;

pub(crate) struct Handover<P: Replicable> {
    /// One more than the core that wants a state.
    wanted: AtomicUsize,
    /// The packet that the state is to be behind, or past which it is to be.
    behind: AtomicU64,
    /// Whether somebody gives one.
    is_taken: AtomicBool,
    at_rest: ArrayQueue<Box<Replicated<P>>>,
    ready: ArrayQueue<Box<Replicated<P>>>,
}

/// A core's wish for a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) core: usize,
    pub(crate) behind: u64,
}

impl<P: Replicable> Handover<P> {
    /// With the replica that carries states, a member of no group.
    pub(crate) fn new(carrier: Replicated<P>) -> Self {
        let (at_rest, ready) = (ArrayQueue::new(1), ArrayQueue::new(1));
        let pushed = at_rest.push(Box::new(carrier));
        assert!(pushed.is_ok(), "an empty queue has room");
        Handover {
            wanted: AtomicUsize::new(NOBODY),
            behind: AtomicU64::new(0),
            is_taken: AtomicBool::new(false),
            at_rest,
            ready,
        }
    }

    /// Asks for a state for a core. False if another is being served.
    pub(crate) fn ask(&self, core: usize, behind: u64) -> bool {
        let (success, failure) = (Ordering::Acquire, Ordering::Relaxed);
        if self.wanted.compare_exchange(NOBODY, WRITING, success, failure).is_err() {
            return false;
        }
        self.behind.store(behind, Ordering::Relaxed);
        self.is_taken.store(false, Ordering::Relaxed);
        // Whoever gets a later packet out of a pipe sees this, since it was put in afterwards.
        self.wanted.store(core + 1, Ordering::Release);
        true
    }

    /// Who wants a state now.
    #[inline]
    pub(crate) fn wish(&self) -> Option<Wish> {
        match self.wanted.load(Ordering::Acquire) {
            NOBODY | WRITING => None,
            core => Some(Wish { core: core - 1, behind: self.behind.load(Ordering::Relaxed) }),
        }
    }

    /// Gives the state that this replica has behind packet `behind`, unless another gives one. It must
    /// stand there, or have come to a burst whose first history goes back to there.
    #[cold]
    pub(crate) fn give(&self, replica: &mut Replicated<P>, behind: u64) {
        if self.is_taken.swap(true, Ordering::AcqRel) {
            return;
        }
        let carrier = self.at_rest.pop().filter(|_| replica.advance_to(behind));
        let Some(mut carrier) = carrier else {
            self.is_taken.store(false, Ordering::Release);
            return;
        };
        carrier.adopt(replica, behind);
        let pushed = self.ready.push(carrier);
        assert!(pushed.is_ok(), "one state is under way at most");
    }

    /// Takes over the state that this core has asked for, if it is there. False if it is not, or was of
    /// no use: then the wish is gone.
    #[cold]
    pub(crate) fn receive(&self, replica: &mut Replicated<P>) -> bool {
        let Some(mut carrier) = self.ready.pop() else { return false };
        let is_ahead = carrier.position() >= replica.position();
        if is_ahead {
            replica.exchange(&mut carrier);
        }
        let pushed = self.at_rest.push(carrier);
        assert!(pushed.is_ok(), "one state is under way at most");
        self.wanted.store(NOBODY, Ordering::Release);
        is_ahead
    }
}
