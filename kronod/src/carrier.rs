//! What becomes of frames once it is decided: sent, held, answered, freed, and each of them counted.

use std::net::Ipv4Addr;
use std::sync::Arc;

use krono_core::counters::{Counter, Counters};
use krono_core::drop::DropReason;
use krono_core::frame::Frame;
use krono_core::packet::{Endpoint, Mac, Side};
use krono_core::program::Program;
use krono_core::reply;
use krono_core::rewrite::{self, LinkHeader};
use krono_core::router::{Duty, NeighbourId, Router};
use krono_core::shard::{Action, Outcome, Outcomes, Shard};
use krono_core::time::Moment;
use krono_io::{Burst, Mbuf, Pool};

use crate::held::Held;
use crate::output::{Origin, Output};

/// The half of a worker behind its shard.
pub(crate) struct Carrier {
    pub(crate) output: Output,
    pub(crate) held: Held,
    /// Frames of the present burst that go nowhere, to be freed together.
    pub(crate) spent: Burst,
    /// Buffers for frames that the shard makes.
    pub(crate) pool: Pool,
    pub(crate) counters: Arc<Counters>,
}

impl Carrier {
    /// Carries out what a shard has decided about a burst, and sends what comes of it.
    #[inline]
    pub(crate) fn carry_out<P: Program>(
        &mut self,
        shard: &Shard<P>,
        burst: &mut Burst,
        outcomes: &Outcomes,
    ) {
        self.drop_some(burst, outcomes);
        if let Some(side) = outcomes.rest_to() {
            self.output.send(side, burst, &self.counters);
        } else {
            for (mbuf, outcome) in burst.drain().zip(outcomes.rest()) {
                self.carry_one(shard, mbuf, outcome);
            }
        }
        self.output.flush(&self.counters);
    }

    /// Frees the frames of a burst that are dropped, together.
    #[inline]
    fn drop_some(&mut self, burst: &mut Burst, outcomes: &Outcomes) {
        if outcomes.dropped() != 0 {
            for run in outcomes.reasons().chunk_by(|one, next| one == next) {
                self.counters.dropped_many(run[0], run.len() as u64);
            }
            burst.part(outcomes.dropped(), &mut self.spent);
            self.spent.clear();
        }
    }

    #[inline]
    pub(crate) fn carry_one<P: Program>(&mut self, shard: &Shard<P>, mbuf: Mbuf, outcome: Outcome) {
        if let Some(neighbour) = outcome.released {
            self.release(shard, neighbour);
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
            Action::Deliver { .. } => unreachable!("who runs the shard has settled that"),
        }
    }

    /// Keeps a frame until its next hop has told its address.
    #[cold]
    fn hold(&mut self, side: Side, neighbour: NeighbourId, mbuf: Mbuf) {
        match self.held.put(neighbour, side, mbuf) {
            Some(_older) => self.counters.dropped(DropReason::NeighbourUnresolved),
            None => self.counters.add(Counter::Held, 1),
        }
    }

    /// Sends the frame that waited for a neighbour, if any did.
    #[cold]
    fn release<P: Program>(&mut self, shard: &Shard<P>, neighbour: NeighbourId) {
        let Some((side, mut mbuf)) = self.held.take(neighbour) else { return };
        self.counters.sub(Counter::Held, 1);
        if shard.release(&mut mbuf.frame(), neighbour) {
            self.output.push(side, mbuf, Origin::Received, &self.counters);
        } else {
            self.counters.dropped(DropReason::NoHeadroom);
        }
    }

    /// Asks neighbours for their addresses, gives up those that do not answer, and sends the BFD
    /// packets that are due.
    pub(crate) fn do_duties(&mut self, router: &mut Router, now: Moment) {
        while let Some(duty) = router.duty(now) {
            match duty {
                Duty::Request { side, target, to } => self.ask(router, side, target, to),
                Duty::GiveUp(neighbour) => self.give_up(neighbour),
                Duty::Bfd { side, neighbour, to, source_port, control } => {
                    let from = Endpoint::new(router.address(side), source_port);
                    let link = router.link(neighbour);
                    self.say(side, link, |frame| reply::bfd_control(frame, from, to, &control));
                }
            }
        }
        self.output.flush(&self.counters);
    }

    /// Sends an ARP request.
    fn ask(&mut self, router: &Router, side: Side, target: Ipv4Addr, to: Mac) {
        let link = LinkHeader { to, ..router.own_link(side) };
        let sender = (link.from, router.address(side));
        self.say(side, &link, |frame| reply::arp_request(frame, sender, target));
    }

    /// Sends a frame that `write` makes of an empty one, behind this link header.
    pub(crate) fn say(
        &mut self,
        side: Side,
        link: &LinkHeader,
        write: impl FnOnce(&mut Frame<'_>) -> Option<u16>,
    ) {
        let Some(mut mbuf) = self.pool.alloc() else {
            self.counters.add(Counter::OriginatedLost, 1);
            return;
        };
        let frame = &mut mbuf.frame();
        if write(frame).is_some_and(|l3| rewrite::write_link(frame, l3, link)) {
            self.output.push(side, mbuf, Origin::Own, &self.counters);
        } else {
            self.counters.add(Counter::OriginatedLost, 1);
        }
    }

    fn give_up(&mut self, neighbour: NeighbourId) {
        if self.held.take(neighbour).is_some() {
            self.counters.sub(Counter::Held, 1);
            self.counters.dropped(DropReason::NeighbourUnreachable);
        }
    }

    /// Sends or frees what is still here, every frame with its reason.
    pub(crate) fn shut_down(&mut self) {
        self.output.flush(&self.counters);
        for _mbuf in self.held.drain() {
            self.counters.sub(Counter::Held, 1);
            self.counters.dropped(DropReason::ShutDown);
        }
    }
}
