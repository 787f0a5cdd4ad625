//! The flow table: which record belongs to a key, in one cache line, two at the most.
//!
//! A bucketised cuckoo table after Cuckoo++ (Le Scouarnec, "Cuckoo++ hash tables", ANCS 2018). A
//! key has a primary and a secondary bucket of eight slots. A bucket is one cache line; in it lies
//! a Bloom filter of the keys that had to leave it for their secondary bucket, so that looking
//! for a key that is absent costs one line, not two.
//!
//! What differs from the paper:
//! - A slot holds a 16-bit tag of the hash and the index of a record; the key is in the record,
//!   where the caller compares it. The secondary bucket follows from the primary one and the tag
//!   alone and the other way round (partial-key cuckoo hashing: Fan et al., "Cuckoo Filter",
//!   CoNEXT 2014), so no entry is hashed again when it moves, and no second hash is kept.
//! - The hash is keyed ([`crate::hash::HashKey`]); any even number of buckets will do.
//! - There are no timers in here: see [`crate::deadlines`].
//!
//! One writer, fixed capacity, no allocation.

#![allow(unsafe_code)]

use arrayvec::ArrayVec;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::replicable::Digest;

/// Entries that a bucket holds.
pub const SLOTS: usize = 8;

/// One cache line of the table. All-zero bytes are an empty bucket.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct Bucket {
    /// Of each entry, 16 bits of its hash.
    tags: [u16; SLOTS],
    /// Of each entry, the index of its record.
    records: [u32; SLOTS],
    /// Bloom filter of the tags of displaced entries: those whose primary bucket this is, and that
    /// are in their secondary one.
    filter: u64,
    /// How many displaced entries there are. At 0 the filter is cleared.
    displaced: u32,
    /// One bit per slot: it holds an entry.
    busy: u8,
    /// One bit per slot: it holds an entry, and this is the entry's primary bucket.
    home: u8,
    unused: [u8; 2],
}

const _: () = assert!(size_of::<Bucket>() == 64 && align_of::<Bucket>() == 64);

impl Bucket {
    /// A bucket without entries.
    pub const EMPTY: Bucket = Bucket {
        tags: [0; SLOTS],
        records: [0; SLOTS],
        filter: 0,
        displaced: 0,
        busy: 0,
        home: 0,
        unused: [0; 2],
    };

    /// The slots of entries with this tag that are in their primary bucket here.
    #[inline]
    fn at_home(&self, tag: u16) -> u8 {
        matching(&self.tags, tag) & self.home
    }

    /// The slots of entries with this tag that are displaced to here.
    #[inline]
    fn guests(&self, tag: u16) -> u8 {
        matching(&self.tags, tag) & self.busy & !self.home
    }

    /// The record in the first of these slots, if there are any.
    #[inline]
    fn any(&self, slots: u8) -> Option<u32> {
        (slots != 0).then(|| self.records[slots.trailing_zeros() as usize % SLOTS])
    }

    /// The first of these slots whose record `eq` takes for the right one.
    #[inline]
    fn first(&self, mut slots: u8, mut eq: impl FnMut(u32) -> bool) -> Option<usize> {
        while slots != 0 {
            let slot = slots.trailing_zeros() as usize;
            if eq(self.records[slot]) {
                return Some(slot);
            }
            slots &= slots - 1;
        }
        None
    }

    #[inline]
    fn free_slot(&self) -> Option<usize> {
        (self.busy != u8::MAX).then(|| self.busy.trailing_ones() as usize)
    }

    fn put(&mut self, slot: usize, tag: u16, record: u32, is_home: bool) {
        self.tags[slot] = tag;
        self.records[slot] = record;
        self.busy |= 1 << slot;
        self.home |= u8::from(is_home) << slot;
    }

    fn vacate(&mut self, slot: usize) {
        self.busy &= !(1 << slot);
        self.home &= !(1 << slot);
    }

    #[inline]
    fn may_have_displaced(&self, tag: u16) -> bool {
        // Bit by bit, as the first one mostly decides, and a CPU tests a bit in one go.
        self.filter >> (tag & 63) & 1 != 0 && self.filter >> (tag >> 6 & 63) & 1 != 0
    }

    fn add_displaced(&mut self, tag: u16) {
        self.filter |= filter_bits(tag);
        self.displaced += 1;
    }

    fn release_displaced(&mut self) {
        self.displaced -= 1;
        if self.displaced == 0 {
            self.filter = 0;
        }
    }
}

/// The two bits in the Bloom filter that stand for `tag`.
#[inline]
const fn filter_bits(tag: u16) -> u64 {
    1 << (tag & 63) | 1 << (tag >> 6 & 63)
}

/// One bit for each of `tags` that equals `tag`.
#[inline]
#[cfg(target_arch = "x86_64")]
fn matching(tags: &[u16; SLOTS], tag: u16) -> u8 {
    use std::arch::x86_64::*;
    // SAFETY: SSE2 is part of x86_64, and an unaligned load may read any 16 bytes there are.
    unsafe {
        let tags = _mm_loadu_si128(tags.as_ptr().cast());
        let equal = _mm_cmpeq_epi16(tags, _mm_set1_epi16(tag.cast_signed()));
        _mm_movemask_epi8(_mm_packs_epi16(equal, _mm_setzero_si128())) as u8
    }
}

/// One bit for each of `tags` that equals `tag`.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn matching_scalar(tags: &[u16; SLOTS], tag: u16) -> u8 {
    tags.iter().rev().fold(0, |mask, &other| mask << 1 | u8::from(other == tag))
}
#[cfg(not(target_arch = "x86_64"))]
use matching_scalar as matching;

/// One bit for each of `words` that equals `word`.
#[inline(always)]
#[cfg(target_feature = "avx2")]
pub fn equal_words(words: &[u32; 8], word: u32) -> u8 {
    use std::arch::x86_64::*;
    // SAFETY: this is built for CPUs that have AVX2, and an unaligned load may read any 32 bytes.
    unsafe {
        let words = _mm256_loadu_si256(words.as_ptr().cast());
        let equal = _mm256_cmpeq_epi32(words, _mm256_set1_epi32(word.cast_signed()));
        _mm256_movemask_ps(_mm256_castsi256_ps(equal)) as u8
    }
}

/// One bit for each of `words` that equals `word`.
#[cfg(any(test, not(target_feature = "avx2")))]
pub fn equal_words_scalar(words: &[u32; 8], word: u32) -> u8 {
    words.iter().rev().fold(0, |mask, &other| mask << 1 | u8::from(other == word))
}
#[cfg(not(target_feature = "avx2"))]
pub use equal_words_scalar as equal_words;

/// The value of the key that equals `key`, or 0 if none does; if several do, their values ORed. Takes
/// as long whichever it is, where a branch would have to be predicted.
#[inline(always)]
#[cfg(target_feature = "avx2")]
pub fn value_of(keys: &[u32; 8], values: &[u32; 8], key: u32) -> u32 {
    use std::arch::x86_64::*;
    // SAFETY: this is built for CPUs that have AVX2, and unaligned loads may read any 32 bytes.
    unsafe {
        let keys = _mm256_loadu_si256(keys.as_ptr().cast());
        let values = _mm256_loadu_si256(values.as_ptr().cast());
        let equal = _mm256_cmpeq_epi32(keys, _mm256_set1_epi32(key.cast_signed()));
        let found = _mm256_and_si256(values, equal);
        let four =
            _mm_or_si128(_mm256_castsi256_si128(found), _mm256_extracti128_si256::<1>(found));
        let two = _mm_or_si128(four, _mm_unpackhi_epi64(four, four));
        let both = _mm_cvtsi128_si64(two).cast_unsigned();
        (both | both >> 32) as u32
    }
}

/// The value of the key that equals `key`, or 0 if none does; if several do, their values ORed.
#[cfg(any(test, not(target_feature = "avx2")))]
pub fn value_of_scalar(keys: &[u32; 8], values: &[u32; 8], key: u32) -> u32 {
    let known = |(other, value): (&u32, &u32)| if *other == key { *value } else { 0 };
    keys.iter().zip(values).map(known).fold(0, |found, value| found | value)
}
#[cfg(not(target_feature = "avx2"))]
pub use value_of_scalar as value_of;

/// Asks the memory for the element at `index`, without waiting for it. Any index may be asked for.
#[inline]
pub fn prefetch<T>(slice: &[T], index: usize) {
    let address = slice.as_ptr().wrapping_add(index);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of any address is without effect on the program.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// No room for an entry; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableFull;

/// What is known of a key's place before it is needed. A hint: the table may have changed since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// Where to look, and for what.
    primary: u32,
    tag: u16,
    /// Whether there is a candidate: `record`.
    found: bool,
    /// Whether the secondary bucket is to be looked at next.
    goes_on: bool,
    record: u32,
    /// [`FlowTable::inserts`] when the key was seen to be absent, or 0.
    absent_at: u32,
}

impl Probe {
    /// Whether [`FlowTable::touch`] is to be called once more.
    #[inline]
    pub const fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// The record that was found by tag, which is most likely the key's if it has one.
    #[inline]
    pub const fn candidate(&self) -> Option<u32> {
        // Not by `then_some`, which is not const.
        if self.found { Some(self.record) } else { None }
    }
}

/// A map from the hashes of keys to the indices of their records, see the [module](self).
pub struct FlowTable<'m> {
    buckets: &'m mut [Bucket],
    len: usize,
    /// Counts what was entered, wraps, and is never 0. As long as it stays, who is absent stays so.
    inserts: u32,
}

/// So many buckets are looked at, at most, to make room for one entry.
const SEARCH_MAX: usize = 512;

/// A bucket from which an entry could move on to make room, as the search finds it.
#[derive(Clone, Copy)]
struct Stop {
    bucket: u32,
    /// The stop that an entry comes from, or [`Stop::NONE`], and its slot there.
    from: u16,
    slot: u8,
}

impl Stop {
    const NONE: u16 = u16::MAX;
}

impl<'m> FlowTable<'m> {
    /// How many buckets hold `entries` at a load of 0.9 at most, which they do whatever the keys
    /// are, as long as their hashes are random.
    pub const fn buckets_for(entries: usize) -> usize {
        let slots = entries.saturating_mul(10).div_ceil(9);
        let buckets = slots.div_ceil(SLOTS).next_multiple_of(2);
        if buckets == 0 { 2 } else { buckets }
    }

    /// Becomes what `other` is, a table of the same size.
    ///
    /// # Panics
    /// If it is of another.
    pub fn copy_from(&mut self, other: &FlowTable<'_>) {
        self.buckets.copy_from_slice(other.buckets);
        (self.len, self.inserts) = (other.len, other.inserts);
    }

    /// Adds all entries and their places.
    pub fn add_to(&self, digest: &mut Digest) {
        digest.add_all(self.buckets);
        digest.add(self.inserts.into());
    }

    /// An empty table in `buckets`, all of them [`Bucket::EMPTY`]. Touches none of them. Of an odd
    /// number the last stays unused.
    ///
    /// # Panics
    /// If there are less than two buckets, or more than 2^32.
    pub fn new(buckets: &'m mut [Bucket]) -> Self {
        let usable = buckets.len() & !1;
        assert!(usable >= 2 && u32::try_from(usable).is_ok(), "a table of {usable} buckets");
        FlowTable { buckets: &mut buckets[..usable], len: 0, inserts: 1 }
    }

    /// Entries in the table.
    #[inline]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no entries.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Slots in the table. Some 98 % of them can be filled.
    #[inline]
    pub const fn capacity(&self) -> usize {
        self.buckets.len() * SLOTS
    }

    /// Prefetches the primary bucket of the key with this hash.
    #[inline]
    pub fn probe(&self, hash: u64) -> Probe {
        let primary = self.primary(hash);
        prefetch(self.buckets, primary as usize);
        Probe { primary, tag: tag(hash), ..Probe::default() }
    }

    /// Looks for the probed key by its tag alone. The record it gives, which the caller
    /// prefetches, is most likely the key's if the key is there at all.
    ///
    /// If the key may have been displaced, its secondary bucket is asked for, and
    /// [`Probe::goes_on`]: to be called again when that has come.
    #[inline]
    pub fn touch(&self, probe: &mut Probe) -> Option<u32> {
        let Probe { primary, tag, goes_on, .. } = *probe;
        let candidate = if goes_on {
            let bucket = self.bucket(self.other(primary, tag));
            bucket.any(bucket.guests(tag))
        } else {
            // The key is absent if it is in neither bucket, both as they are now.
            probe.absent_at = self.inserts;
            let bucket = self.bucket(primary);
            bucket.any(bucket.at_home(tag))
        };
        probe.found = candidate.is_some();
        probe.goes_on = !goes_on && !probe.found && self.bucket(primary).may_have_displaced(tag);
        if probe.goes_on {
            prefetch(self.buckets, self.other(primary, tag) as usize);
        }
        probe.record = candidate?;
        candidate
    }

    /// What [`FlowTable::find`] gives, sooner if the key was probed and touched before. The probe
    /// may be the key's own from any time ago, or [`Probe::default`], which nobody touched.
    ///
    /// `hash` is a function because it is mostly not needed, and time is all that this saves.
    ///
    /// A candidate is asked about first, in the table or not any more, so `eq` must deny records
    /// that were removed. That there was none is believed until something is entered. (After 2^32
    /// entries it would be believed again, but no probe is kept that long.)
    #[inline]
    pub fn find_probed(
        &self,
        probe: &Probe,
        hash: impl FnOnce() -> u64,
        mut eq: impl FnMut(u32) -> bool,
    ) -> Option<u32> {
        match probe.candidate() {
            Some(record) if eq(record) => Some(record),
            None if !probe.goes_on && probe.absent_at == self.inserts => None,
            None if probe.absent_at != 0 => self.find_at(probe.primary, probe.tag, eq),
            _ => self.find(hash(), eq),
        }
    }

    /// The record of the key with this hash; `eq` tells of a record whether it is the key's.
    #[inline]
    pub fn find(&self, hash: u64, eq: impl FnMut(u32) -> bool) -> Option<u32> {
        self.find_at(self.primary(hash), tag(hash), eq)
    }

    #[inline]
    fn find_at(&self, primary: u32, tag: u16, eq: impl FnMut(u32) -> bool) -> Option<u32> {
        let (bucket, slot) = self.locate_at(primary, tag, eq)?;
        Some(self.bucket(bucket).records[slot])
    }

    /// Enters a key, which must not be in the table yet, with the index of its record.
    ///
    /// # Errors
    /// [`TableFull`] if there is no room within reach; nothing has changed then.
    pub fn insert(&mut self, hash: u64, index: u32) -> Result<(), TableFull> {
        let (primary, tag) = (self.primary(hash), tag(hash));
        let (bucket, slot) = match self.bucket(primary).free_slot() {
            Some(slot) => (primary, slot),
            None => self.make_room(primary, self.other(primary, tag)).ok_or(TableFull)?,
        };
        self.bucket_mut(bucket).put(slot, tag, index, bucket == primary);
        if bucket != primary {
            self.bucket_mut(primary).add_displaced(tag);
        }
        self.len += 1;
        self.inserts = self.inserts.wrapping_add(1).max(1);
        Ok(())
    }

    /// Removes the key with this hash and this record; false if it is not there.
    pub fn remove(&mut self, hash: u64, index: u32) -> bool {
        let Some((bucket, slot)) = self.locate(hash, |record| record == index) else {
            return false;
        };
        self.bucket_mut(bucket).vacate(slot);
        let primary = self.primary(hash);
        if bucket != primary {
            self.bucket_mut(primary).release_displaced();
        }
        self.len -= 1;
        true
    }

    /// Where the key is: bucket and slot.
    #[inline]
    fn locate(&self, hash: u64, eq: impl FnMut(u32) -> bool) -> Option<(u32, usize)> {
        self.locate_at(self.primary(hash), tag(hash), eq)
    }

    #[inline]
    fn locate_at(
        &self,
        primary: u32,
        tag: u16,
        mut eq: impl FnMut(u32) -> bool,
    ) -> Option<(u32, usize)> {
        let bucket = self.bucket(primary);
        if let Some(slot) = bucket.first(bucket.at_home(tag), &mut eq) {
            return Some((primary, slot));
        }
        if !bucket.may_have_displaced(tag) {
            return None;
        }
        let secondary = self.other(primary, tag);
        let bucket = self.bucket(secondary);
        Some((secondary, bucket.first(bucket.guests(tag), eq)?))
    }

    /// Frees a slot in one of the two buckets by moving entries on, each to its other bucket,
    /// along the shortest way to a free slot. `None`, and nothing moved, if that is too far.
    #[cold]
    fn make_room(&mut self, primary: u32, secondary: u32) -> Option<(u32, usize)> {
        let mut stops = ArrayVec::<Stop, SEARCH_MAX>::new();
        for bucket in [primary, secondary] {
            stops.push(Stop { bucket, from: Stop::NONE, slot: 0 });
            prefetch(self.buckets, bucket as usize);
        }
        for reached in 0.. {
            let stop = *stops.get(reached)?;
            let bucket = self.bucket(stop.bucket);
            if let Some(free) = bucket.free_slot() {
                return Some(self.move_along(&stops, stop, free));
            }
            for (slot, &tag) in bucket.tags.iter().enumerate().take(stops.remaining_capacity()) {
                let next = self.other(stop.bucket, tag);
                prefetch(self.buckets, next as usize);
                stops.push(Stop { bucket: next, from: reached as u16, slot: slot as u8 });
            }
        }
        None
    }

    /// Moves the entries on the way to `stop` one stop on each, the last one into the slot `free`;
    /// the slot that gets free in the first bucket.
    ///
    /// No bucket is twice on the way: the search, breadth first, would have found the shorter way
    /// that leaves out the loop before.
    fn move_along(&mut self, stops: &[Stop], mut stop: Stop, mut free: usize) -> (u32, usize) {
        while let Some(before) = stops.get(usize::from(stop.from)) {
            let slot = usize::from(stop.slot);
            self.relocate((before.bucket, slot), (stop.bucket, free));
            (stop, free) = (*before, slot);
        }
        (stop.bucket, free)
    }

    /// Moves an entry to a free slot of its other bucket.
    fn relocate(&mut self, (from, slot): (u32, usize), (to, free): (u32, usize)) {
        let bucket = self.bucket_mut(from);
        let (tag, record) = (bucket.tags[slot], bucket.records[slot]);
        let was_displaced = bucket.home & 1 << slot == 0;
        bucket.vacate(slot);
        self.bucket_mut(to).put(free, tag, record, was_displaced);
        if was_displaced {
            self.bucket_mut(to).release_displaced();
        } else {
            self.bucket_mut(from).add_displaced(tag);
        }
    }

    /// Checks what must hold after any sequence of changes; `hash_of` is the hash of the key of a
    /// record. For tests: it reads the whole table, and allocates.
    ///
    /// # Panics
    /// If an entry cannot be found, a Bloom filter lacks a displaced entry or outlives the last
    /// one, or a count is wrong.
    pub fn assert_consistent(&self, hash_of: impl Fn(u32) -> u64) {
        let mut displaced = vec![0; self.buckets.len()];
        let mut len = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            assert_eq!(bucket.home & !bucket.busy, 0, "bucket {index}: at home in a free slot");
            for slot in (0..SLOTS).filter(|slot| bucket.busy & 1 << slot != 0) {
                let record = bucket.records[slot];
                let hash = hash_of(record);
                let found = self.locate(hash, |other| other == record);
                assert_eq!(found, Some((index as u32, slot)), "where record {record} is found");
                len += 1;
                if bucket.home & 1 << slot == 0 {
                    displaced[self.primary(hash) as usize] += 1;
                }
            }
        }
        assert_eq!(len, self.len, "entries");
        for (index, (bucket, displaced)) in self.buckets.iter().zip(displaced).enumerate() {
            assert_eq!(bucket.displaced, displaced, "entries displaced from bucket {index}");
            assert_eq!(bucket.filter == 0, displaced == 0, "the filter of bucket {index}");
        }
    }

    #[inline]
    fn bucket(&self, index: u32) -> &Bucket {
        &self.buckets[index as usize]
    }

    #[inline]
    fn bucket_mut(&mut self, index: u32) -> &mut Bucket {
        &mut self.buckets[index as usize]
    }

    /// The bucket where the key with this hash is to be, if there is room.
    #[inline]
    fn primary(&self, hash: u64) -> u32 {
        self.reduce((hash >> 32) as u32)
    }

    /// The other one of the two buckets in which an entry with this tag can be: they add up to a
    /// number that depends on the tag, modulo the number of buckets. That number is odd, that of
    /// the buckets even, so that the two are never the same.
    #[inline]
    fn other(&self, bucket: u32, tag: u16) -> u32 {
        // 2^32 divided by the golden ratio: the 65,536 sums lie evenly over the table.
        const SPREAD: u32 = 0x9e37_79b1;
        let sum = self.reduce(u32::from(tag).wrapping_mul(SPREAD)) | 1;
        let other = sum.wrapping_sub(bucket);
        if bucket <= sum { other } else { other.wrapping_add(self.buckets.len() as u32) }
    }

    /// Maps a random number to a bucket, evenly (multiply-shift in place of a division).
    #[inline]
    fn reduce(&self, random: u32) -> u32 {
        ((u64::from(random) * self.buckets.len() as u64) >> 32) as u32
    }
}

/// The part of a hash that is kept in the slot. The bucket comes from other bits.
#[inline]
const fn tag(hash: u64) -> u16 {
    hash as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cheap source of hashes for keys `0..`: SplitMix64.
    fn hash_of(key: u32) -> u64 {
        let mut z = (u64::from(key) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn simd_and_scalar_match_the_same_tags() {
        for round in 0..10_000 {
            // Few different tags, the extremes among them, so that many are equal.
            let tags = std::array::from_fn(|slot| {
                [0, 1, 0x7fff, 0x8000, 0xffff][hash_of(round * 8 + slot as u32) as usize % 5]
            });
            for tag in tags.into_iter().chain([0, 1, 2, 0xffff]) {
                assert_eq!(matching(&tags, tag), matching_scalar(&tags, tag), "{tags:x?} {tag:x}");
            }
        }
    }

    #[test]
    fn simd_and_scalar_find_the_same_words() {
        for round in 0..10_000 {
            let words = std::array::from_fn(|at| {
                [0, 1, 0x7fff_ffff, 1 << 31, u32::MAX][hash_of(round * 8 + at as u32) as usize % 5]
            });
            for word in words.into_iter().chain([0, 1, 2, u32::MAX]) {
                let found = equal_words(&words, word);
                assert_eq!(found, equal_words_scalar(&words, word), "{words:x?} {word:x}");
                let values = std::array::from_fn(|at| hash_of(round << 8 | at as u32) as u32);
                let value = value_of(&words, &values, word);
                assert_eq!(value, value_of_scalar(&words, &values, word), "{words:x?} {word:x}");
            }
        }
    }

    #[test]
    fn the_other_bucket_of_the_other_bucket_is_the_first_whatever_their_number() {
        for count in [2, 4, 6, 10, 146, 1 << 10, 99_998] {
            let mut buckets = vec![Bucket::EMPTY; count];
            let table = FlowTable::new(&mut buckets);
            for key in 0..100_000 {
                let (primary, tag) = (table.primary(hash_of(key)), tag(hash_of(key)));
                let other = table.other(primary, tag);
                assert!((other as usize) < count);
                assert_ne!(other, primary);
                assert_eq!(table.other(other, tag), primary);
            }
        }
    }

    #[test]
    fn a_table_holds_what_it_was_sized_for_and_says_when_it_is_full() {
        for entries in (0..200).chain([1_000, 3_000, 10_000, 100_000]) {
            let mut buckets = vec![Bucket::EMPTY; FlowTable::buckets_for(entries as usize)];
            let mut table = FlowTable::new(&mut buckets);
            for key in 0..entries {
                assert_eq!(table.insert(hash_of(key), key), Ok(()), "{key} of {entries}");
            }
            table.assert_consistent(hash_of);
            let more = (entries..).take_while(|&key| table.insert(hash_of(key), key).is_ok());
            let full = entries as usize + more.count();
            assert!(full * 100 >= table.capacity() * 95 || entries < 1_000, "full at {full}");
            assert_eq!(table.len(), full);
            table.assert_consistent(hash_of);
            for key in 0..full as u32 {
                assert_eq!(table.find(hash_of(key), |record| record == key), Some(key));
                assert!(table.remove(hash_of(key), key));
                assert!(!table.remove(hash_of(key), key));
            }
            assert!(table.is_empty());
            table.assert_consistent(hash_of);
        }
    }

    /// Only who knows the secret can make such keys; then two buckets is all they get.
    #[test]
    fn equal_hashes_fill_two_buckets_and_the_rest_is_refused() {
        let mut buckets = vec![Bucket::EMPTY; 64];
        let mut table = FlowTable::new(&mut buckets);
        for key in 0..16 {
            assert_eq!(table.insert(7 << 50, key), Ok(()));
        }
        assert_eq!(table.insert(7 << 50, 16), Err(TableFull));
        table.assert_consistent(|_| 7 << 50);
        for key in 0..16 {
            assert_eq!(table.find(7 << 50, |record| record == key), Some(key));
        }
        assert!(table.remove(7 << 50, 3));
        assert_eq!(table.insert(7 << 50, 16), Ok(()));
        table.assert_consistent(|_| 7 << 50);
    }

    #[test]
    fn a_probe_finds_the_candidate_for_the_prefetch() {
        let mut buckets = vec![Bucket::EMPTY; 4];
        let mut table = FlowTable::new(&mut buckets);
        assert_eq!(table.insert(hash_of(1), 1), Ok(()));
        let mut probe = table.probe(hash_of(1));
        assert_eq!(probe.candidate(), None);
        assert_eq!(table.touch(&mut probe), Some(1));
        assert_eq!(probe.candidate(), Some(1));
        assert_eq!(table.touch(&mut table.probe(hash_of(2))), None);
        assert_eq!(Probe::default().candidate(), None);
        assert_eq!(size_of::<Probe>(), 16);
    }

    /// Keys come and go, some with equal tags, and displace each other; probes of any age are used.
    #[test]
    fn a_probe_of_any_age_changes_nothing_but_the_time_it_takes() {
        const KEYS: u32 = 120;
        let few_tags = |key: u32| hash_of(key) & !0xffff | u64::from(key % 7);
        let mut buckets = vec![Bucket::EMPTY; 8];
        let mut table = FlowTable::new(&mut buckets);
        let mut present = [false; KEYS as usize];
        let mut probes = [Probe::default(); KEYS as usize];
        for round in 0..200_000 {
            let random = hash_of(round);
            let key = (random >> 32) as u32 % KEYS;
            let (index, hash) = (key as usize, few_tags(key));
            match random % 8 {
                0 if present[index] => present[index] = !table.remove(hash, key),
                0..2 if !present[index] => present[index] = table.insert(hash, key).is_ok(),
                2 if random >> 8 & 1 == 0 => probes[index] = Probe::default(),
                2 => probes[index] = table.probe(hash),
                3 if probes[index] != Probe::default() => _ = table.touch(&mut probes[index]),
                _ => {
                    let eq = |record| record == key && present[index];
                    let found = table.find_probed(&probes[index], || hash, eq);
                    assert_eq!(found, present[index].then_some(key), "key {key}, round {round}");
                    assert_eq!(found, table.find(hash, |record| record == key));
                }
            }
        }
        assert!(table.len() > 40, "{} entries", table.len());
        table.assert_consistent(few_tags);
    }
}
