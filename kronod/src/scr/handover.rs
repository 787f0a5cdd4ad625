//! How a core gets the state of another, while both run.
//!
//! One replica more than there are cores carries states: the core that gives one makes it a copy of its
//! own, which is all that it does besides its packets, and the core that wants it exchanges its own
//! state for that. One core at a time is served.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::queue::ArrayQueue;
use scr_sequencer::{Replicable, Replicated};

/// The lower bits of a ticket: one more than the core that wants a state, or what is no core.
const CORE: u64 = 0xff;
const NOBODY: u64 = 0;
const WRITING: u64 = CORE;

const _: () = assert!(scr_sequencer::sequencer::CORES_MAX < WRITING as usize);

pub(crate) struct Handover<P: Replicable> {
    /// The ticket of the present wish: its number, and above [`CORE`] how many there were before.
    wanted: AtomicU64,
    /// The packet that the state is to be behind, or past which it is to be.
    behind: AtomicU64,
    /// The latest ticket that somebody serves or has served: so nobody serves a wish that is over, however
    /// long ago it saw it.
    served: AtomicU64,
    at_rest: ArrayQueue<Box<Replicated<P>>>,
    ready: ArrayQueue<Box<Replicated<P>>>,
}

/// A core's wish for a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) core: usize,
    pub(crate) behind: u64,
    ticket: u64,
}

impl<P: Replicable> Handover<P> {
    /// With the replica that carries states, a member of no group.
    pub(crate) fn new(carrier: Replicated<P>) -> Self {
        let (at_rest, ready) = (ArrayQueue::new(1), ArrayQueue::new(1));
        let pushed = at_rest.push(Box::new(carrier));
        assert!(pushed.is_ok(), "an empty queue has room");
        let [wanted, behind, served] = [const { AtomicU64::new(0) }; 3];
        Handover { wanted, behind, served, at_rest, ready }
    }

    /// Asks for a state for a core. False if another is being served.
    pub(crate) fn ask(&self, core: usize, behind: u64) -> bool {
        let before = self.wanted.load(Ordering::Relaxed);
        let (success, failure) = (Ordering::Acquire, Ordering::Relaxed);
        if before & CORE != NOBODY
            || self.wanted.compare_exchange(before, before | WRITING, success, failure).is_err()
        {
            return false;
        }
        self.behind.store(behind, Ordering::Relaxed);
        // Whoever gets a later packet out of a pipe sees this, since it was put in afterwards.
        self.wanted.store(before + CORE + 1 + (core as u64 + 1), Ordering::Release);
        true
    }

    /// Who wants a state now.
    #[inline]
    pub(crate) fn wish(&self) -> Option<Wish> {
        let ticket = self.wanted.load(Ordering::Acquire);
        match ticket & CORE {
            NOBODY | WRITING => None,
            core => {
                let behind = self.behind.load(Ordering::Relaxed);
                Some(Wish { core: core as usize - 1, behind, ticket })
            }
        }
    }

    /// Gives the state that this replica has behind packet `behind`, unless another gives one. It must
    /// stand there, or have come to a burst whose first history goes back to there.
    #[cold]
    pub(crate) fn give(&self, replica: &mut Replicated<P>, wish: &Wish, behind: u64) {
        if !replica.advance_to(behind) {
            debug_assert!(false, "it does not stand behind packet {behind}");
            return;
        }
        if self.served.fetch_max(wish.ticket, Ordering::AcqRel) >= wish.ticket {
            return;
        }
        let mut carrier = self.at_rest.pop().expect("it is at rest when nobody is served");
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
        let ticket = self.wanted.load(Ordering::Relaxed);
        self.wanted.store(ticket & !CORE, Ordering::Release);
        is_ahead
    }
}

#[cfg(test)]
mod tests {
    use scr_sequencer::programs::heavy::{Config, Heavy};

    use super::*;

    fn replica(position: u64) -> Replicated<Heavy> {
        let mut replica = Replicated::new(Heavy::new(&Config::default()).unwrap(), 4, None);
        replica.begin_behind(position);
        replica
    }

    #[test]
    fn who_saw_a_wish_long_ago_serves_no_other() {
        let handover = Handover::new(replica(0));
        assert_eq!(handover.wish(), None);
        assert!(handover.ask(1, 50));
        assert!(!handover.ask(2, 60), "one at a time");
        let old = handover.wish().unwrap();
        assert_eq!((old.core, old.behind), (1, 50));
        let mut newcomer = replica(7);
        assert!(!handover.receive(&mut newcomer), "nothing is there yet");
        handover.give(&mut replica(50), &old, 50);
        assert!(handover.receive(&mut newcomer));
        assert_eq!((newcomer.position(), handover.wish()), (50, None));

        assert!(handover.ask(2, 90));
        // Another core comes to what it saw then.
        handover.give(&mut replica(50), &old, 50);
        let mut newcomer = replica(7);
        assert!(!handover.receive(&mut newcomer), "that was for another");
        let wish = handover.wish().unwrap();
        handover.give(&mut replica(90), &wish, 90);
        handover.give(&mut replica(95), &wish, 95);
        assert!(handover.receive(&mut newcomer));
        assert_eq!((newcomer.position(), handover.wish()), (90, None));
    }
}
