//! Which records of an array are in use, and a walk over them that traffic may interleave with.

use std::ops::Range;

use crate::replicable::Digest;

/// Hands out the indices of an array of records, last freed first.
///
/// The links of the list lie in the free records themselves, where the caller keeps them: they
/// cost no memory, and an array never used is never touched, since indices beyond the high-water
/// mark need no link.
#[derive(Clone, Debug)]
pub struct FreeList {
    /// The free record to hand out next, [`FreeList::END`] if all below `fresh` are in use.
    head: u32,
    /// The high-water mark: records from here on have never been handed out.
    fresh: u32,
    len: u32,
    capacity: u32,
}

impl FreeList {
    const END: u32 = u32::MAX;

    /// A list of `capacity` records, all of them free.
    pub const fn new(capacity: u32) -> Self {
        FreeList { head: Self::END, fresh: 0, len: 0, capacity }
    }

    /// Takes a free record, `None` if all are in use. `next_of` tells what [`FreeList::give`]
    /// asked to be kept in the record that is now taken.
    #[inline]
    pub fn take(&mut self, next_of: impl FnOnce(u32) -> u32) -> Option<u32> {
        let index = if self.head != Self::END {
            let index = self.head;
            self.head = next_of(index);
            index
        } else if self.fresh < self.capacity {
            self.fresh += 1;
            self.fresh - 1
        } else {
            return None;
        };
        self.len += 1;
        Some(index)
    }

    /// The record that [`FreeList::take`] gives next, so that it can be fetched: any number if all
    /// are in use.
    #[inline]
    pub const fn next(&self) -> u32 {
        if self.head != Self::END { self.head } else { self.fresh }
    }

    /// Takes back the record at `index`, which must be in use. `set_next` keeps its argument in
    /// the record until it is taken again.
    #[inline]
    pub fn give(&mut self, index: u32, set_next: impl FnOnce(u32)) {
        debug_assert!(index < self.fresh, "record {index} was never taken");
        set_next(self.head);
        self.head = index;
        self.len -= 1;
    }

    /// Adds which record is given next.
    pub fn add_to(&self, digest: &mut Digest) {
        [self.head, self.fresh, self.len].into_iter().for_each(|word| digest.add(word.into()));
    }

    /// Records in use.
    #[inline]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether no record is in use.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many records there are.
    #[inline]
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// All records in use lie below this index.
    #[inline]
    pub const fn high_water(&self) -> u32 {
        self.fresh
    }
}

/// A walk over all records, a bounded number at a time, with changes in between.
///
/// A consumer of change events that has missed some starts anew with an empty copy and takes,
/// in the order they are made, all later events and every record that is in use when the walk
/// comes by. Records do not move, so at the end of the walk the copy is exact: a record that
/// existed from the start has been passed, and whatever was created, updated or deleted since is
/// an event. Some records arrive twice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Walk {
    next: u32,
}

impl Walk {
    /// The next at most `budget` indices to look at; `None` at the end, which is at the
    /// `high_water` mark of the moment.
    #[inline]
    pub fn next_range(&mut self, high_water: u32, budget: u32) -> Option<Range<u32>> {
        let start = self.next;
        self.next = high_water.min(start.saturating_add(budget));
        (start < high_water).then_some(start..self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_is_handed_out_once_and_the_last_freed_first() {
        let mut links = [0; 4];
        let mut list = FreeList::new(4);
        let taken: Vec<_> = std::iter::from_fn(|| list.take(|i| links[i as usize])).collect();
        assert_eq!(taken, [0, 1, 2, 3]);
        assert_eq!((list.len(), list.high_water()), (4, 4));
        for index in [2, 0, 3] {
            list.give(index, |next| links[index as usize] = next);
        }
        assert_eq!((list.len(), list.high_water(), list.is_empty()), (1, 4, false));
        let taken: Vec<_> = std::iter::from_fn(|| list.take(|i| links[i as usize])).collect();
        assert_eq!(taken, [3, 0, 2]);
    }

    #[test]
    fn a_walk_passes_every_index_once_and_ends_at_the_mark_of_the_moment() {
        let mut walk = Walk::default();
        assert_eq!(walk.next_range(5, 3), Some(0..3));
        assert_eq!(walk.next_range(7, 3), Some(3..6));
        assert_eq!(walk.next_range(7, 3), Some(6..7));
        assert_eq!(walk.next_range(7, 3), None);
        assert_eq!(walk.next_range(8, 3), Some(7..8));
        assert_eq!(Walk::default().next_range(0, 3), None);
    }
}
