//! The table of programs that know flows: sets of eight entries, a key in either of two.
//!
//! A set has a word of eight tags, each a byte of its key's hash, and eight entries. Tags lie apart
//! from entries, so densely that those of 100,000 entries stay in a second-level cache, and all
//! eight are compared in one word; so of the entries, which do not fit there, only the right one is
//! read. A key gets its place in the emptier one of its sets, which keeps sets evenly filled
//! (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001): a table of its
//! nominal capacity has room for all its keys but with a chance beyond notice.
//!
//! An entry never moves, so that a probe finds it again or finds that it is gone.

use std::hint::{cold_path, select_unpredictable};
use std::ops::Range;

use krono_core::hash::HashKey;
use krono_core::table::prefetch;
use zerocopy::{FromZeros, Immutable, IntoBytes};

/// Entries of a set.
pub(super) const WAYS: usize = 8;

/// The largest capacity: so far reach the hash's bits.
pub(super) const CAPACITY_MAX: usize = 1 << 26;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// What a table holds: a key, and what is known of it.
pub(super) trait Entry: Copy + FromZeros + IntoBytes + Immutable {}

impl<E: Copy + FromZeros + IntoBytes + Immutable> Entry for E {}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Set<E>([E; WAYS]);

/// The sets that a key may be in.
const CHOICES: usize = 2;

/// Entries by the hashes of their keys.
pub(super) struct Table<E> {
    /// Of each set the tags, 0 where there is no entry.
    tags: Box<[u64]>,
    sets: Box<[Set<E>]>,
    len: usize,
}

/// The hash of a key, from which all places follow: never 0, so that 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hashed(u64);

impl Hashed {
    /// The hash of a key of two words.
    #[inline(always)]
    pub(super) fn new(key: &HashKey, a: u64, b: u64) -> Hashed {
        Hashed(key.hash(a, b) | 1)
    }

    /// This one, or if it is none, what `hash` gives.
    #[inline(always)]
    pub(super) fn or(self, hash: impl FnOnce() -> Hashed) -> Hashed {
        if self.0 == 0 {
            cold_path();
            return hash();
        }
        self
    }

    /// Odd, therefore not 0, which marks a free place.
    #[inline(always)]
    const fn tag(self) -> u8 {
        self.0 as u8
    }

    /// Many bits of it, from which its sets follow.
    #[inline(always)]
    pub(super) const fn choice(self, choice: usize) -> usize {
        (self.0 >> (40 - 24 * choice)) as usize
    }
}

/// What became of a key that was entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inserted<E> {
    /// It has a place that was free.
    Free,
    /// It has the place of this one.
    Replaced(E),
    /// There is none: all that are in its sets stay.
    Refused,
}

impl<E: Entry> Table<E> {
    /// A table with at least `capacity` places.
    pub(super) fn new(capacity: usize) -> Self {
        let sets = Self::sets_for(capacity);
        let empty = Set([E::new_zeroed(); WAYS]);
        Table { tags: vec![0; sets].into(), sets: vec![empty; sets].into(), len: 0 }
    }

    const fn sets_for(capacity: usize) -> usize {
        if capacity <= WAYS { 1 } else { capacity.div_ceil(WAYS * 5 / 8).next_power_of_two() }
    }

    /// What a table of `capacity` takes, bytes.
    pub(super) const fn bytes(capacity: usize) -> u64 {
        (Self::sets_for(capacity) * (size_of::<u64>() + size_of::<Set<E>>())) as u64
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many sets there are, a power of two.
    pub(super) fn sets(&self) -> usize {
        self.tags.len()
    }

    #[inline(always)]
    fn set(&self, hash: Hashed, choice: usize) -> usize {
        hash.choice(choice) & (self.tags.len() - 1)
    }

    /// Fetches the tags of a key.
    #[inline(always)]
    pub(super) fn prefetch_tags(&self, hash: Hashed) {
        for choice in 0..CHOICES {
            prefetch(&self.tags, self.set(hash, choice));
        }
    }

    /// The place that by its tag is probably the key's; any place if there is none such.
    #[inline(always)]
    pub(super) fn candidate(&self, hash: Hashed) -> u32 {
        let sets = [self.set(hash, 0), self.set(hash, 1)];
        let [first, second] = sets.map(|set| first_matching(self.tags[set], hash.tag()));
        // Keys are in either as often, so nothing can predict a branch.
        let is_first = first != 0;
        let set = select_unpredictable(is_first, sets[0], sets[1]);
        place(set, select_unpredictable(is_first, first, second))
    }

    /// Fetches the entry at a place.
    #[inline(always)]
    pub(super) fn prefetch_entry(&self, place: u32) {
        if let Some(set) = self.sets.get(place as usize / WAYS) {
            prefetch(&set.0, place as usize % WAYS);
        }
    }

    /// The entry at a place, which is all zeros if the place is free.
    #[inline(always)]
    pub(super) fn at(&self, place: u32) -> Option<&E> {
        Some(&self.sets.get(place as usize / WAYS)?.0[place as usize % WAYS])
    }

    /// The entry at a place that [`Table::find`] or [`Table::at`] gave.
    #[inline(always)]
    pub(super) fn at_mut(&mut self, place: u32) -> &mut E {
        &mut self.sets[place as usize / WAYS].0[place as usize % WAYS]
    }

    /// The place of a key; `eq` tells of an entry whether it is the key's.
    #[inline(always)]
    pub(super) fn find(&self, hash: Hashed, eq: impl Fn(&E) -> bool) -> Option<u32> {
        for choice in 0..CHOICES {
            let set = self.set(hash, choice);
            let mut matches = matching(self.tags[set], hash.tag());
            while matches != 0 {
                let place = place(set, matches);
                if eq(&self.sets[set].0[place as usize % WAYS]) {
                    return Some(place);
                }
                cold_path();
                matches &= matches - 1;
            }
        }
        None
    }

    /// Enters a key that is in neither of its sets. If they are full, the entry of lowest `rank`
    /// goes, of equals the first; one without a rank stays.
    pub(super) fn insert(
        &mut self,
        hash: Hashed,
        entry: E,
        rank: impl Fn(&E) -> Option<u64>,
    ) -> Inserted<E> {
        let sets: [usize; CHOICES] = std::array::from_fn(|choice| self.set(hash, choice));
        let free = |set: &usize| matching(self.tags[*set], 0).count_ones();
        let roomiest = sets.into_iter().rev().max_by_key(free).expect("a key has a set");
        let frees = matching(self.tags[roomiest], 0);
        if frees != 0 {
            self.put(place(roomiest, frees), hash.tag(), entry);
            self.len += 1;
            return Inserted::Free;
        }
        let ranked = sets.iter().flat_map(|set| (0..WAYS).map(move |way| set * WAYS + way));
        let ranked = ranked.filter_map(|place| Some((rank(self.at(place as u32)?)?, place as u32)));
        let Some((_, place)) = ranked.min_by_key(|(rank, _)| *rank) else {
            return Inserted::Refused;
        };
        let replaced = *self.at_mut(place);
        self.put(place, hash.tag(), entry);
        Inserted::Replaced(replaced)
    }

    fn put(&mut self, place: u32, tag: u8, entry: E) {
        let (set, shift) = (place as usize / WAYS, place as usize % WAYS * 8);
        self.tags[set] = self.tags[set] & !(0xff << shift) | u64::from(tag) << shift;
        *self.at_mut(place) = entry;
    }

    /// Frees a place, which has an entry.
    pub(super) fn remove(&mut self, place: u32) {
        self.put(place, 0, E::new_zeroed());
        self.len -= 1;
    }

    /// All entries.
    pub(super) fn iter(&self) -> impl Iterator<Item = &E> {
        self.iter_sets(0..self.sets.len())
    }

    /// The entries of some sets, as far as there are so many.
    pub(super) fn iter_sets(&self, sets: Range<usize>) -> impl Iterator<Item = &E> {
        let is_busy = |tags: u64, way: usize| tags >> (8 * way) & 0xff != 0;
        let end = sets.end.min(self.sets.len());
        let sets = sets.start.min(end)..end;
        let tags = self.tags[sets.clone()].iter();
        tags.zip(&self.sets[sets]).flat_map(move |(tags, set)| {
            let ways = set.0.iter().enumerate();
            ways.filter(move |(way, _)| is_busy(*tags, *way)).map(|(_, entry)| entry)
        })
    }

    /// Becomes what a table of the same size is.
    pub(super) fn copy_from(&mut self, other: &Self) {
        self.tags.copy_from_slice(&other.tags);
        self.sets.copy_from_slice(&other.sets);
        self.len = other.len;
    }

    /// A number over all entries and where they are, on which it depends who has to go.
    pub(super) fn digest(&self, start: u64) -> u64 {
        let mixed = |digest: u64, (tags, set): (&u64, &Set<E>)| {
            if *tags == 0 {
                return mix(digest, 0);
            }
            let words = set.0.as_bytes().as_chunks::<8>().0;
            let digest = mix(digest, *tags);
            words.iter().fold(digest, |digest, word| mix(digest, u64::from_ne_bytes(*word)))
        };
        self.tags.iter().zip(&self.sets).fold(start, mixed)
    }
}

/// A digest that has taken in one more word.
pub(super) fn mix(digest: u64, word: u64) -> u64 {
    // By xorshift and multiplication, both of which can be undone, so that no state is lost
    // (the finalizer of MurmurHash3).
    let mut mixed = digest.rotate_left(5) ^ word;
    mixed = (mixed ^ mixed >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed = (mixed ^ mixed >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ mixed >> 33
}

/// The first of these places of a set.
#[inline(always)]
const fn place(set: usize, matches: u64) -> u32 {
    (set * WAYS) as u32 + (matches.trailing_zeros() >> 3) % WAYS as u32
}

/// The highest bit of the first byte of `tags` that is `tag`, and perhaps others above; 0 if there is
/// none (Mycroft's test for a zero byte).
#[inline(always)]
const fn first_matching(tags: u64, tag: u8) -> u64 {
    let differs = tags ^ ONES.wrapping_mul(tag as u64);
    differs.wrapping_sub(ONES) & !differs & HIGH
}

/// The highest bit of each byte of `tags` that is `tag`, and no other bits.
#[inline(always)]
const fn matching(tags: u64, tag: u8) -> u64 {
    let differs = tags ^ ONES.wrapping_mul(tag as u64);
    // A byte's lower bits carry into its highest unless they are 0 (Warren, "Hacker's Delight",
    // section 6-1).
    !(((differs & !HIGH) + !HIGH) | differs | !HIGH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_match_bytewise_and_exactly() {
        for tags in [0, u64::MAX, 0x0100_0102_0001_0180, 0x8001_017f_0081_ff00] {
            for tag in 0..=u8::MAX {
                let found = matching(tags, tag);
                for (way, byte) in tags.to_le_bytes().into_iter().enumerate() {
                    assert_eq!(found >> (8 * way) & 0xff, if byte == tag { 0x80 } else { 0 });
                }
                let first = first_matching(tags, tag);
                assert_eq!(
                    (first == 0, first.trailing_zeros()),
                    (found == 0, found.trailing_zeros())
                );
            }
        }
    }

    #[test]
    fn a_key_with_two_sets_finds_room_at_the_nominal_capacity() {
        const KEYS: u64 = 5 << 16;
        let key = HashKey::from_seed([3; 32]);
        let mut table = Table::<u64>::new(KEYS as usize);
        // As full as the power of two of sets allows: five eighths.
        assert_eq!(table.sets() * WAYS * 5 / 8, KEYS as usize);
        for number in 1..=KEYS {
            let hash = Hashed::new(&key, number, 0);
            assert_eq!(table.insert(hash, number, |_| None), Inserted::Free, "{number}");
        }
        assert_eq!((table.len(), table.iter().count()), (KEYS as usize, KEYS as usize));
        for number in 1..=KEYS {
            let hash = Hashed::new(&key, number, 0);
            let place = table.find(hash, |entry| *entry == number).expect("it was entered");
            assert_eq!(table.at(place), Some(&number));
            table.remove(place);
            assert_eq!(table.find(hash, |entry| *entry == number), None);
        }
        assert_eq!((table.len(), table.iter().count()), (0, 0));
    }

    #[test]
    fn the_lowest_rank_goes_and_who_has_none_stays() {
        let key = HashKey::from_seed([4; 32]);
        let mut table = Table::<u64>::new(8);
        let hash = |number| Hashed::new(&key, number, 0);
        for number in 1..=8 {
            assert_eq!(table.insert(hash(number), number, |_| None), Inserted::Free);
        }
        let even = |entry: &u64| entry.is_multiple_of(2).then_some(100 - entry / 4);
        assert_eq!(table.insert(hash(9), 9, even), Inserted::Replaced(8));
        assert_eq!(table.insert(hash(11), 11, even), Inserted::Replaced(4));
        assert_eq!(table.insert(hash(13), 13, |_| None), Inserted::Refused);
        assert_eq!(table.iter().copied().collect::<Vec<_>>(), [1, 2, 3, 11, 5, 6, 7, 9]);
    }
}
