//! Time passes: sessions end, and freed ports come back.

use arrayvec::ArrayVec;
use krono_core::program::Events;
use krono_core::table;
use krono_core::time::Ticks;

use crate::entry::Flags;
use crate::events::Event;
use crate::nat::Nat;

/// The most records looked at one by one in a call, which takes some 50 µs at most then. What is
/// left over is done in the next call, for which the caller is asked.
const DUE_MAX: usize = 256;

/// So many are looked at together, so that the memory that one waits for is fetched while others
/// are worked on.
const BATCH: usize = 16;

type Batch = ArrayVec<u32, BATCH>;

impl Nat<'_> {
    /// Whether there may be more to expire now.
    ///
    /// While a batch of sessions ends, what the end of the next batch takes is being fetched, and
    /// the records of the one after that.
    pub(crate) fn expire(&mut self, now: Ticks, events: &mut impl Events<Event>) -> bool {
        self.deadlines.advance(now);
        let (mut due, mut next, mut present) = (0, Batch::new(), Batch::new());
        loop {
            let found = if due < DUE_MAX { self.next_due() } else { Batch::new() };
            due += found.len();
            for index in &next {
                self.prefetch_end(*index, now);
            }
            for index in &present {
                self.end_or_wait(*index, now, events);
            }
            if found.is_empty() && next.is_empty() {
                break;
            }
            (present, next) = (next, found);
        }
        self.ports.tick(now);
        due >= DUE_MAX
    }

    /// Records that are to be looked at, which are being fetched.
    fn next_due(&mut self) -> Batch {
        let batch: Batch = std::iter::from_fn(|| self.deadlines.next_due()).take(BATCH).collect();
        for index in &batch {
            table::prefetch(self.entries, *index as usize);
        }
        batch
    }

    /// Fetches what the end of a session takes, if it is over.
    fn prefetch_end(&self, index: u32, now: Ticks) {
        let entry = &self.entries[index as usize];
        if !entry.flags.has(Flags::SESSION) || !entry.is_over(now) {
            return;
        }
        self.table.probe(self.hash_of(entry.key()));
        self.subscribers.prefetch(entry.subscriber);
        if let Some(slot) = self.ports.slot(entry.protocol(), entry.translation.outside()) {
            self.ports.prefetch_release(slot);
        }
    }

    fn end_or_wait(&mut self, index: u32, now: Ticks, events: &mut impl Events<Event>) {
        let entry = &self.entries[index as usize];
        if !entry.flags.has(Flags::SESSION) {
            return;
        }
        if entry.is_over(now) {
            self.end_session(index, now, events);
        } else {
            // Packets came since: only now is the later deadline told.
            self.deadlines.set(index, entry.deadline);
        }
    }
}
