//! What a worker does between bursts: let time pass, speak ARP, answer the control plane, and at
//! the end give back everything.

use krono_core::counters::{Counter, CounterSnapshot};
use krono_core::drop::DropReason;
use krono_core::program::Program;
use krono_nat::Change;

use crate::mailbox::{LookupQuery, RECORDS_PER_PAGE, Reload, SessionRow, SessionsPage, ShardView};
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
        self.carrier.do_duties(&mut self.shard.router, self.now.ticks());
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
        self.carrier.counters.set(Counter::Sessions, counts.sessions);
        self.carrier.counters.set(Counter::Mappings, counts.mappings);
        self.carrier.counters.set(Counter::Subscribers, counts.subscribers);
        for (counter, change) in [
            (Counter::SessionsCreated, Change::SessionCreated),
            (Counter::SessionsDeleted, Change::SessionDeleted),
            (Counter::MappingsCreated, Change::MappingCreated),
            (Counter::MappingsDeleted, Change::MappingDeleted),
        ] {
            self.carrier.counters.set(counter, self.changes.of(change));
        }
    }

    /// Frees what is held or was received but not worked on, every frame with its reason.
    pub(crate) fn shut_down(&mut self) {
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
