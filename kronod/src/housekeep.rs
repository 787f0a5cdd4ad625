//! What a worker does between bursts: let time pass, speak ARP, answer the control plane, and at
//! the end give back everything.

use std::net::Ipv4Addr;

use krono_core::counters::{Counter, CounterSnapshot};
use krono_core::drop::DropReason;
use krono_core::packet::{Mac, Side};
use krono_core::program::Program;
use krono_core::reply;
use krono_core::rewrite;
use krono_core::router::{Duty, NeighbourId};
use krono_io::Mbuf;
use krono_nat::Change;

use crate::mailbox::{LookupQuery, RECORDS_PER_PAGE, Reload, SessionRow, SessionsPage, ShardView};
use crate::output::Origin;
use crate::worker::Worker;

impl Worker {
    /// Everything that is not a packet's business; each part is bounded. True if more sessions
    /// were due than it could end: another round should come soon.
    #[cold]
    pub(crate) fn housekeep(&mut self) -> bool {
        let mut is_behind = self.shard.program.tick(self.now.ticks(), &mut self.changes);
        while is_behind && self.input.waits() {
            is_behind = self.shard.program.tick(self.now.ticks(), &mut self.changes);
        }
        while let Some(duty) = self.shard.router.duty(self.now.ticks()) {
            match duty {
                Duty::Request { side, target, to } => self.ask(side, target, to),
                Duty::GiveUp(neighbour) => self.give_up(neighbour),
            }
        }
        self.output.flush(&self.counters);
        self.publish();
        if let Some(mut letter) = self.mailbox.take() {
            letter.answer(self);
            self.mailbox.give_back(letter);
        }
        is_behind
    }

    /// Shows what is counted elsewhere.
    fn publish(&self) {
        let counts = self.shard.program.counts();
        self.counters.set(Counter::Sessions, counts.sessions);
        self.counters.set(Counter::Mappings, counts.mappings);
        self.counters.set(Counter::Subscribers, counts.subscribers);
        for (counter, change) in [
            (Counter::SessionsCreated, Change::SessionCreated),
            (Counter::SessionsDeleted, Change::SessionDeleted),
            (Counter::MappingsCreated, Change::MappingCreated),
            (Counter::MappingsDeleted, Change::MappingDeleted),
        ] {
            self.counters.set(counter, self.changes.of(change));
        }
    }

    /// Sends an ARP request.
    fn ask(&mut self, side: Side, target: Ipv4Addr, to: Mac) {
        let Some(mut mbuf) = self.pool.alloc() else {
            self.counters.add(Counter::OriginatedLost, 1);
            return;
        };
        let router = &self.shard.router;
        let link = rewrite::LinkHeader { to, ..router.own_link(side) };
        let frame = &mut mbuf.frame();
        let l3 = reply::arp_request(frame, (link.from, router.address(side)), target);
        if l3.is_some_and(|l3| rewrite::write_link(frame, l3, &link)) {
            self.output.push(side, mbuf, Origin::Own, &self.counters);
        } else {
            self.counters.add(Counter::OriginatedLost, 1);
        }
    }

    /// Keeps a frame until its next hop has told its address.
    #[cold]
    pub(crate) fn hold(&mut self, side: Side, neighbour: NeighbourId, mbuf: Mbuf) {
        match self.held.put(neighbour, side, mbuf) {
            Some(_older) => self.counters.dropped(DropReason::NeighbourUnresolved),
            None => self.counters.add(Counter::Held, 1),
        }
    }

    /// Sends the frame that waited for a neighbour, if any did.
    #[cold]
    pub(crate) fn release(&mut self, neighbour: NeighbourId) {
        let Some((side, mut mbuf)) = self.held.take(neighbour) else { return };
        self.counters.sub(Counter::Held, 1);
        if self.shard.release(&mut mbuf.frame(), neighbour) {
            self.output.push(side, mbuf, Origin::Received, &self.counters);
        } else {
            self.counters.dropped(DropReason::NoHeadroom);
        }
    }

    fn give_up(&mut self, neighbour: NeighbourId) {
        if self.held.take(neighbour).is_some() {
            self.counters.sub(Counter::Held, 1);
            self.counters.dropped(DropReason::NeighbourUnreachable);
        }
    }

    /// Frees what is held or was received but not worked on, every frame with its reason.
    pub(crate) fn shut_down(&mut self) {
        self.output.flush(&self.counters);
        for _mbuf in self.held.drain() {
            self.counters.sub(Counter::Held, 1);
            self.counters.dropped(DropReason::ShutDown);
        }
        let counters = &self.counters;
        self.input.take_unworked(|side, mbuf| {
            counters.received(side, 1, u64::from(mbuf.wire_len()));
            counters.dropped(DropReason::ShutDown);
        });
        self.publish();
    }
}

impl ShardView for Worker {
    fn counters(&self) -> CounterSnapshot {
        self.counters.snapshot()
    }

    fn sessions(&self, page: &mut SessionsPage) {
        let cursor = page.cursor;
        let show = |view: krono_nat::SessionView| {
            page.offer(SessionRow {
                protocol: view.protocol,
                inside: view.inside,
                outside: view.outside,
                remote: view.remote,
                state: view.state,
                expires_in_ms: view.remote.map(|_| view.expires_in.as_millis()),
                is_static: view.is_static,
            })
        };
        page.next = self.shard.program.walk(cursor, RECORDS_PER_PAGE, self.now.ticks(), show);
    }

    fn lookup(&self, query: &mut LookupQuery) {
        for protocol in query.protocols() {
            let owner = self.shard.program.owner(protocol, query.outside);
            query.owners[protocol as usize] = owner;
        }
    }

    fn reload(&mut self, reload: &mut Reload) {
        let nat = &mut self.shard.program;
        reload.outcome = nat.swap_policy(&mut reload.policy, self.now.ticks(), &mut self.changes);
    }
}
