//! What the house knows of programs that are replicated, besides how to step them.

use krono_core::counters::Counters;
use krono_core::time::Ticks;
use krono_nat::Replica;
use scr_sequencer::Replicable;
use scr_sequencer::programs::bucket::Policer;
use scr_sequencer::programs::conntrack::Conntrack;
use scr_sequencer::programs::ddos::Ddos;
use scr_sequencer::programs::heavy::Heavy;
use scr_sequencer::programs::knock::Knock;
use scr_sequencer::programs::{Row, Shown};

use crate::housekeep;
use crate::mailbox::{LookupQuery, PARTS_PER_PAGE, RowsPage, SessionsPage};

/// A program that a group may run.
pub(crate) trait GroupProgram: Replicable<Probe: Send> + Send + 'static {
    /// Fills in a page of what is worth seeing.
    fn rows(&self, _: &mut RowsPage) {}

    /// Fills in a page of sessions.
    fn sessions(&self, _: &mut SessionsPage, _now: Ticks) {}

    /// Says who has a public endpoint.
    fn lookup(&self, _: &mut LookupQuery) {}

    /// Shows what it counts.
    fn publish(&self, _: &Counters) {}
}

macro_rules! shown {
    ($($program:ty)*) => {$(
        impl GroupProgram for $program {
            fn rows(&self, page: &mut RowsPage) {
                show(self, page);
            }
        }
    )*};
}

shown! { Ddos Heavy Policer Knock Conntrack }

fn show(program: &impl Shown, page: &mut RowsPage) {
    let end = page.cursor.saturating_add(PARTS_PER_PAGE);
    program.show(page.cursor..end, &mut |row: Row| page.push(row));
    page.next = (end < program.parts()).then_some(end);
}

impl GroupProgram for Replica<'static> {
    fn sessions(&self, page: &mut SessionsPage, now: Ticks) {
        housekeep::sessions(&self.0, page, now);
    }

    fn lookup(&self, query: &mut LookupQuery) {
        housekeep::lookup(&self.0, query);
    }

    fn publish(&self, counters: &Counters) {
        housekeep::publish_counts(&self.0, counters);
    }
}
