//! What a worker does between bursts: let time pass, speak ARP and BFD, answer the control plane,
//! and at the end give back everything.

use krono_core::counters::{Counter, CounterSnapshot, Counters};
use krono_core::drop::DropReason;
use krono_core::frame::Frames;
use krono_core::program::Program;
use krono_core::shard::Outcomes;
use krono_core::time::Ticks;
use krono_io::Burst;
use krono_nat::{Change, Nat};

use crate::mailbox::{
    BfdHold, LookupQuery, RECORDS_PER_PAGE, Reload, SessionRow, SessionsPage, ShardView,
};
use crate::twin::{self, Sink, TwinOrder};
use crate::worker::Worker;

impl Worker {
    /// Everything that is not a packet's business; each part is bounded. True if more sessions
    /// were due than it could end: another round should come soon.
    #[cold]
    pub(crate) fn housekeep(&mut self) -> bool {
        let mut is_behind = self.tick();
        while is_behind && self.input.waits() {
            is_behind = self.tick();
        }
        if let Some(twin) = &mut self.twin {
            twin.tend(&mut self.shard, self.now);
        }
        self.carrier.do_duties(&mut self.shard.router, self.now);
        self.publish();
        if let Some(mut letter) = self.mailbox.take() {
            letter.answer(self);
            self.mailbox.give_back(letter);
        }
        is_behind
    }

    /// Lets time pass for the sessions; true if more were due than it could end.
    fn tick(&mut self) -> bool {
        let (nat, now) = (&mut self.shard.program, self.now.ticks());
        match &mut self.twin {
            Some(twin) => twin.tick(nat, &mut self.changes, now),
            None => nat.tick(now, &mut self.changes),
        }
    }

    /// Gives the twin's half what has come for it.
    #[cold]
    pub(crate) fn hear_twin(&mut self, burst: &mut Burst, outcomes: &mut Outcomes) {
        let Some(twin) = &mut self.twin else { return };
        let (shard, now) = (&mut self.shard, self.now);
        outcomes.settle(|index, place| {
            let frame = burst.frame(index);
            twin.receive(&mut shard.program, &frame.bytes()[place], now)
        });
        shard.serves = twin.serves();
    }

    /// Shows what is counted elsewhere.
    fn publish(&mut self) {
        if self.shard.router.bfd_has_changed() {
            self.bfd.show(self.shard.router.bfd_sessions());
        }
        publish_counts(&self.shard.program, &self.carrier.counters);
        for (counter, change) in [
            (Counter::SessionsCreated, Change::SessionCreated),
            (Counter::SessionsDeleted, Change::SessionDeleted),
            (Counter::MappingsCreated, Change::MappingCreated),
            (Counter::MappingsDeleted, Change::MappingDeleted),
        ] {
            self.carrier.counters.set(counter, self.changes.of(change));
        }
    }

    /// Tells neighbours with BFD sessions, then frees what is held or was received but not worked
    /// on, every frame with its reason.
    pub(crate) fn shut_down(&mut self) {
        if let Some(twin) = &mut self.twin {
            twin.leave(&mut self.shard, &mut self.carrier, self.now);
        }
        self.shard.router.retire(self.now);
        self.carrier.do_duties(&mut self.shard.router, self.now);
        self.carrier.shut_down();
        let counters = &self.carrier.counters;
        self.input.take_unworked(|side, mbuf| {
            counters.received(side, 1, u64::from(mbuf.wire_len()));
            counters.dropped(DropReason::ShutDown);
        });
        self.publish();
    }
}

impl ShardView for Worker {
    fn counters(&self) -> CounterSnapshot {
        self.carrier.counters.snapshot()
    }

    fn sessions(&self, page: &mut SessionsPage) {
        sessions(&self.shard.program, page, self.now.ticks());
    }

    fn lookup(&self, query: &mut LookupQuery) {
        lookup(&self.shard.program, query);
    }

    fn reload(&mut self, reload: &mut Reload) {
        let nat = &mut self.shard.program;
        let (counts, now) = (&mut self.changes, self.now.ticks());
        let twin = self.twin.as_mut().map(twin::Channel::changes);
        reload.outcome = nat.swap_policy(&mut reload.policy, now, &mut Sink { counts, twin });
    }

    fn order(&mut self, order: &mut TwinOrder) {
        if let Some(twin) = &mut self.twin {
            twin.obey(order, self.now);
        }
    }

    fn hold_bfd(&mut self, hold: &mut BfdHold) {
        let BfdHold { neighbour, is_held, .. } = *hold;
        let is_meant = |_, address| neighbour.is_none_or(|neighbour| neighbour == address);
        hold.count = self.shard.router.hold_bfd_down(is_meant, is_held, self.now);
    }
}

/// Fills in a page of a translator's sessions.
pub(crate) fn sessions(nat: &Nat<'_>, page: &mut SessionsPage, now: Ticks) {
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
    page.next = nat.walk(cursor, RECORDS_PER_PAGE, now, show);
}

/// Says who has a public endpoint of a translator.
pub(crate) fn lookup(nat: &Nat<'_>, query: &mut LookupQuery) {
    for protocol in query.protocols() {
        query.owners[protocol as usize] = nat.owner(protocol, query.outside);
    }
}

/// Shows how much a translator holds.
pub(crate) fn publish_counts(nat: &Nat<'_>, counters: &Counters) {
    let counts = nat.counts();
    counters.set(Counter::Sessions, counts.sessions);
    counters.set(Counter::Mappings, counts.mappings);
    counters.set(Counter::Subscribers, counts.subscribers);
}
