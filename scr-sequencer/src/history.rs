//! What a packet carries besides itself.

use krono_core::time::Moment;

use crate::Shipped;

/// A packet's number, its time, and the records of those before it.
#[derive(Clone, Copy, Debug)]
pub struct Carried<'a, R> {
    /// Its number: 1 for the first packet of a group, and never wraps.
    pub sequence: u64,
    /// When the sequencer saw it. The only time that a replica may know.
    pub moment: Moment,
    /// The records of the packets `sequence - history.len()` to `sequence - 1`.
    pub history: History<'a, R>,
}

/// Records of consecutive packets, oldest first, in two parts: as a ring holds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History<'a, R> {
    /// The older part.
    pub older: &'a [R],
    /// The newer part.
    pub newer: &'a [R],
}

impl<'a, R: Shipped> History<'a, R> {
    /// No records.
    pub const EMPTY: History<'a, R> = History { older: &[], newer: &[] };

    /// Records in one part.
    pub const fn new(records: &'a [R]) -> Self {
        History { older: records, newer: &[] }
    }

    /// How many records there are.
    #[inline]
    pub const fn len(&self) -> usize {
        self.older.len() + self.newer.len()
    }

    /// Whether there are none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The newest `count` records, or all if there are fewer.
    #[inline]
    pub fn newest(self, count: usize) -> Self {
        let surplus = self.len().saturating_sub(count);
        let of_older = surplus.min(self.older.len());
        History { older: &self.older[of_older..], newer: &self.newer[surplus - of_older..] }
    }

    /// The records, oldest first.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = &'a R> {
        self.older.iter().chain(self.newer)
    }
}
