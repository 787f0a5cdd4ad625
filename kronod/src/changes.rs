//! What a shard's changes are for today: they are counted. Replication and translation logs will
//! take the same events.

use krono_core::program::Events;
use krono_nat::{Change, Event};

/// How many changes of each kind there were.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ChangeCounts {
    counts: [u64; 5],
}

impl ChangeCounts {
    pub(crate) fn of(&self, change: Change) -> u64 {
        self.counts[change as usize]
    }
}

impl Events<Event> for ChangeCounts {
    #[inline]
    fn emit(&mut self, event: Event) {
        self.counts[event.change as usize] += 1;
    }
}
