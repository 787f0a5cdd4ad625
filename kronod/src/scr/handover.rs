//! How a core gets the state of another, while both run.
//!
//! Two replicas more than there are cores carry states: the core that gives one makes it a copy of its
//! own, which is all that it does besides its packets, and the core that wants it exchanges its own
//! state for that. One core at a time is served.
//!
//! A core that dies while it copies keeps the replica that it copies to. So a wish that takes too long is
//! withdrawn, and with the next one another core may give its state, in the other replica. What comes
//! for a wish that was withdrawn is nobody's: a state is taken over only when it is whole, and by who
//! asked for it.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::queue::ArrayQueue;
use scr_sequencer::{Replicable, Replicated};

/// Replicas that carry states: one may be lost to a core that died.
pub(crate) const CARRIERS: usize = 2;

/// So long a wish waits before it is withdrawn, ns: far longer than copying takes.
pub(crate) const GIVE_UP_NS: u64 = 2_000_000_000;

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
    /// Whole states, with the tickets that they are for.
    ready: ArrayQueue<(u64, Box<Replicated<P>>)>,
}

/// A core's wish for a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) core: usize,
    pub(crate) behind: u64,
    ticket: u64,
}

impl<P: Replicable> Handover<P> {
    /// With the replicas that carry states, members of no group.
    pub(crate) fn new(carriers: [Replicated<P>; CARRIERS]) -> Self {
        let (at_rest, ready) = (ArrayQueue::new(CARRIERS), ArrayQueue::new(CARRIERS));
        for carrier in carriers {
            let pushed = at_rest.push(Box::new(carrier));
            assert!(pushed.is_ok(), "there is room for all");
        }
        let [wanted, behind, served] = [const { AtomicU64::new(0) }; 3];
        Handover { wanted, behind, served, at_rest, ready }
    }

    /// Asks for a state for a core. False if another is being served, or if no replica is left to carry
    /// a state.
    pub(crate) fn ask(&self, core: usize, behind: u64) -> bool {
        let before = self.wanted.load(Ordering::Relaxed);
        let (success, failure) = (Ordering::Acquire, Ordering::Relaxed);
        if before & CORE != NOBODY
            || self.wanted.compare_exchange(before, before | WRITING, success, failure).is_err()
        {
            return false;
        }
        while let Some((_, carrier)) = self.ready.pop() {
            self.put_to_rest(carrier);
        }
        if self.at_rest.is_empty() {
            self.wanted.store(before, Ordering::Relaxed);
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

    /// Takes a wish back that nobody has met so far. False if it is met, or gone.
    #[cold]
    pub(crate) fn withdraw(&self, wish: &Wish) -> bool {
        let (order, met) = (Ordering::AcqRel, wish.ticket & !CORE);
        self.wanted.compare_exchange(wish.ticket, met, order, Ordering::Relaxed).is_ok()
    }

    fn put_to_rest(&self, carrier: Box<Replicated<P>>) {
        let pushed = self.at_rest.push(carrier);
        assert!(pushed.is_ok(), "there is room for all");
    }

    /// Gives the state that this replica has behind packet `behind`, unless another gives one. It must
    /// stand there, or have come to a burst whose first history goes back to there.
    #[cold]
    pub(crate) fn give(&self, replica: &mut Replicated<P>, wish: &Wish, behind: u64) {
        if !replica.advance_to(behind) {
            debug_assert!(false, "it does not stand behind packet {behind}");
            return;
        }
        let Some(mut carrier) = self.begin_to_serve(wish) else { return };
        carrier.adopt(replica, behind);
        let pushed = self.ready.push((wish.ticket, carrier));
        assert!(pushed.is_ok(), "there is room for all");
    }

    /// Takes a replica to copy a state to, unless another serves this wish.
    pub(crate) fn begin_to_serve(&self, wish: &Wish) -> Option<Box<Replicated<P>>> {
        if self.served.fetch_max(wish.ticket, Ordering::AcqRel) >= wish.ticket {
            return None;
        }
        // If there is none, others serve wishes that were withdrawn; this one will be as well.
        self.at_rest.pop()
    }

    /// Takes over the state that this core has asked for, if it is there. False if it is not, or was of
    /// no use: then the wish is gone.
    #[cold]
    pub(crate) fn receive(&self, replica: &mut Replicated<P>, wish: &Wish) -> bool {
        while let Some((ticket, mut carrier)) = self.ready.pop() {
            let is_mine = ticket == wish.ticket;
            let is_ahead = is_mine && carrier.position() >= replica.position();
            if is_ahead {
                replica.exchange(&mut carrier);
            }
            self.put_to_rest(carrier);
            if is_mine {
                // Or it was withdrawn just now, which changes nothing about what was taken over.
                self.withdraw(wish);
                return is_ahead;
            }
        }
        false
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

    fn handover() -> Handover<Heavy> {
        Handover::new([replica(0), replica(0)])
    }

    #[test]
    fn who_saw_a_wish_long_ago_serves_no_other() {
        let handover = handover();
        assert_eq!(handover.wish(), None);
        assert!(handover.ask(1, 50));
        assert!(!handover.ask(2, 60), "one at a time");
        let old = handover.wish().unwrap();
        assert_eq!((old.core, old.behind), (1, 50));
        let mut newcomer = replica(7);
        assert!(!handover.receive(&mut newcomer, &old), "nothing is there yet");
        handover.give(&mut replica(50), &old, 50);
        assert!(handover.receive(&mut newcomer, &old));
        assert_eq!((newcomer.position(), handover.wish()), (50, None));

        assert!(handover.ask(2, 90));
        // Another core comes to what it saw then.
        handover.give(&mut replica(50), &old, 50);
        let mut newcomer = replica(7);
        let wish = handover.wish().unwrap();
        assert!(!handover.receive(&mut newcomer, &wish), "that was for another");
        handover.give(&mut replica(90), &wish, 90);
        handover.give(&mut replica(95), &wish, 95);
        assert!(handover.receive(&mut newcomer, &wish));
        assert_eq!((newcomer.position(), handover.wish()), (90, None));
    }

    #[test]
    fn a_state_that_comes_too_late_is_nobodys() {
        let handover = handover();
        assert!(handover.ask(1, 50));
        let old = handover.wish().unwrap();
        assert!(handover.withdraw(&old) && !handover.withdraw(&old));
        assert_eq!(handover.wish(), None);
        assert!(handover.ask(1, 70));
        let wish = handover.wish().unwrap();
        // Who was about to serve the first does so now, and is not heard.
        handover.give(&mut replica(50), &old, 50);
        let mut newcomer = replica(7);
        assert!(!handover.receive(&mut newcomer, &wish));
        assert_eq!((newcomer.position(), handover.wish()), (7, Some(wish)));
        handover.give(&mut replica(70), &wish, 70);
        assert!(handover.receive(&mut newcomer, &wish));
        assert_eq!((newcomer.position(), handover.wish()), (70, None));
    }

    #[test]
    fn a_core_that_dies_while_it_copies_keeps_one_replica_and_no_more() {
        let handover = handover();
        // Two begin to copy, and are not heard of again.
        let mut lost = Vec::new();
        for behind in [10, 20] {
            assert!(handover.ask(1, behind), "there is a replica left");
            let wish = handover.wish().unwrap();
            lost.push((wish.ticket, handover.begin_to_serve(&wish).unwrap()));
            handover.give(&mut replica(behind), &wish, behind);
            assert!(!handover.receive(&mut replica(7), &wish), "another has begun to serve it");
            assert!(handover.withdraw(&wish));
        }
        assert!(!handover.ask(1, 30), "no replica is left");
        assert_eq!(handover.wish(), None);
        // One of them comes back.
        assert!(handover.ready.push(lost.remove(0)).is_ok());
        assert!(handover.ask(1, 40));
        let wish = handover.wish().unwrap();
        handover.give(&mut replica(40), &wish, 40);
        let mut newcomer = replica(7);
        assert!(handover.receive(&mut newcomer, &wish));
        assert_eq!((newcomer.position(), handover.wish()), (40, None));
    }
}
