//! The table of programs that know sources: addresses, and of each what is known, in sets of eight.
//!
//! A set is one line: eight addresses, which are compared at once, and eight words. So a lookup takes
//! one line and no tags. A source has one set, of which some are full early; there are twice as many
//! places as sources wanted, and the program's rule says whose place a new source takes.

use std::ops::Range;

use krono_core::table::{equal_words, prefetch, value_of};
use zerocopy::{Immutable, IntoBytes};

use super::table::{Hashed, Inserted, WAYS, mix};

#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C, align(64))]
struct Set {
    /// 0 where there is no source.
    addresses: [u32; WAYS],
    words: [u32; WAYS],
}

impl Set {
    const EMPTY: Set = Set { addresses: [0; WAYS], words: [0; WAYS] };
}

/// What is known of sources, a word of each, by their addresses. Nothing is known of address 0.
pub(super) struct Sources {
    sets: Box<[Set]>,
}

impl Sources {
    /// A table for `capacity` sources, with twice as many places.
    pub(super) fn new(capacity: usize) -> Sources {
        Sources { sets: vec![Set::EMPTY; Self::sets_for(capacity)].into() }
    }

    const fn sets_for(capacity: usize) -> usize {
        if capacity <= WAYS { 1 } else { capacity.div_ceil(WAYS / 2).next_power_of_two() }
    }

    /// What a table for `capacity` sources takes, bytes.
    pub(super) const fn bytes(capacity: usize) -> u64 {
        (Self::sets_for(capacity) * size_of::<Set>()) as u64
    }

    /// How many sets there are, a power of two.
    pub(super) fn sets(&self) -> usize {
        self.sets.len()
    }

    #[inline(always)]
    fn set(&self, hash: Hashed) -> usize {
        hash.choice(0) & (self.sets.len() - 1)
    }

    /// Fetches the set of a source.
    #[inline(always)]
    pub(super) fn prefetch(&self, hash: Hashed) {
        prefetch(&self.sets, self.set(hash));
    }

    /// What is known of a source, or 0; sooner where neither is more usual.
    #[inline(always)]
    pub(super) fn get(&self, hash: Hashed, address: u32) -> u32 {
        let Set { addresses, words } = &self.sets[self.set(hash)];
        // The word of a free place, which address 0 finds, is 0.
        value_of(addresses, words, address)
    }

    /// What is known of a source.
    #[inline(always)]
    pub(super) fn get_mut(&mut self, hash: Hashed, address: u32) -> Option<&mut u32> {
        let set = self.set(hash);
        let Set { addresses, words } = &mut self.sets[set];
        match equal_words(addresses, address) {
            equal if equal != 0 && address != 0 => {
                Some(&mut words[equal.trailing_zeros() as usize % WAYS])
            }
            _ => None,
        }
    }

    /// Enters a source of which nothing is known. If its set is full, the one whose word has the
    /// lowest `rank` goes, of equals the first; one without a rank stays.
    pub(super) fn insert(
        &mut self,
        hash: Hashed,
        address: u32,
        word: u32,
        rank: impl Fn(u32) -> Option<u64>,
    ) -> Inserted<u32> {
        if address == 0 {
            return Inserted::Refused;
        }
        let set = self.set(hash);
        let Set { addresses, words } = &mut self.sets[set];
        let free = equal_words(addresses, 0).trailing_zeros() as usize;
        if free < WAYS {
            (addresses[free], words[free]) = (address, word);
            return Inserted::Free;
        }
        let ranked = words.iter().enumerate().filter_map(|(way, word)| Some((rank(*word)?, way)));
        let Some((_, way)) = ranked.min() else { return Inserted::Refused };
        addresses[way] = address;
        Inserted::Replaced(std::mem::replace(&mut words[way], word))
    }

    /// Forgets a source.
    pub(super) fn remove(&mut self, hash: Hashed, address: u32) {
        let set = self.set(hash);
        self.clear(set, |other, _| other == address);
    }

    /// Forgets those sources of a set whose words say that they are over.
    pub(super) fn clean(&mut self, set: usize, is_over: impl Fn(u32) -> bool) {
        self.clear(set, |_, word| is_over(word));
    }

    fn clear(&mut self, set: usize, is_it: impl Fn(u32, u32) -> bool) {
        let Set { addresses, words } = &mut self.sets[set];
        for (address, word) in addresses.iter_mut().zip(words) {
            if *address != 0 && is_it(*address, *word) {
                (*address, *word) = (0, 0);
            }
        }
    }

    /// All sources, with what is known of each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u32)> {
        self.iter_sets(0..self.sets.len())
    }

    /// The sources of some sets, as far as there are so many.
    pub(super) fn iter_sets(&self, sets: Range<usize>) -> impl Iterator<Item = (u32, u32)> {
        let end = sets.end.min(self.sets.len());
        let sets = &self.sets[sets.start.min(end)..end];
        let sources = sets.iter().flat_map(|set| set.addresses.into_iter().zip(set.words));
        sources.filter(|(address, _)| *address != 0)
    }

    /// Becomes what a table of the same size is.
    pub(super) fn copy_from(&mut self, other: &Self) {
        self.sets.copy_from_slice(&other.sets);
    }

    /// A number over all sources and where they are, on which it depends who has to go.
    pub(super) fn digest(&self, start: u64) -> u64 {
        self.sets.iter().fold(start, |digest, set| match set.addresses {
            [0, 0, 0, 0, 0, 0, 0, 0] => mix(digest, 0),
            _ => {
                let words = set.as_bytes().as_chunks::<8>().0;
                words.iter().fold(digest, |digest, word| mix(digest, u64::from_ne_bytes(*word)))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use krono_core::hash::HashKey;

    use super::*;

    fn hash(address: u32) -> Hashed {
        Hashed::new(&HashKey::from_seed([5; 32]), address.into(), 0)
    }

    #[test]
    fn what_was_entered_is_found_until_it_is_removed() {
        let mut table = Sources::new(4096);
        let known = (1..=4096).filter(|address| {
            table.insert(hash(*address), *address, !address, |_| None) == Inserted::Free
        });
        let known: Vec<_> = known.collect();
        assert!(known.len() > 4000, "{} of 4096 found room", known.len());
        assert_eq!(table.iter().count(), known.len());
        for address in &known {
            assert_eq!(table.get_mut(hash(*address), *address), Some(&mut !address));
            assert_eq!(table.get(hash(*address), *address), !address);
            table.remove(hash(*address), *address);
            assert_eq!(table.get_mut(hash(*address), *address), None);
            assert_eq!(table.get(hash(*address), *address), 0);
        }
        assert_eq!(table.digest(9), Sources::new(4096).digest(9));
    }

    #[test]
    fn nothing_is_known_of_address_zero() {
        let mut table = Sources::new(8);
        assert_eq!((table.get(hash(0), 0), table.get_mut(hash(0), 0)), (0, None));
        assert_eq!(table.insert(hash(0), 0, 1, |_| Some(0)), Inserted::Refused);
        assert_eq!((table.iter().count(), table.get_mut(hash(0), 0)), (0, None));
    }

    #[test]
    fn the_lowest_rank_goes_and_who_has_none_stays() {
        let mut table = Sources::new(8);
        for address in 1..=8 {
            assert_eq!(table.insert(hash(address), address, address, |_| None), Inserted::Free);
        }
        let even = |word: u32| word.is_multiple_of(2).then_some(u64::from(100 - word / 4));
        assert_eq!(table.insert(hash(9), 9, 9, even), Inserted::Replaced(8));
        assert_eq!(table.insert(hash(11), 11, 11, even), Inserted::Replaced(4));
        assert_eq!(table.insert(hash(13), 13, 13, |_| None), Inserted::Refused);
        table.clean(0, |word| word > 8);
        let left: Vec<_> = table.iter().collect();
        assert_eq!(left, [1, 2, 3, 5, 6, 7].map(|address| (address, address)));
    }
}
