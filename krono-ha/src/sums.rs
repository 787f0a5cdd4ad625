//! Whether two tables hold the same: an XOR of the hashes of all entries, by range of keys.
//!
//! The sums depend neither on where a table put an entry nor on its timers. They are made by a walk
//! over the table itself, a bounded number of entries at a time, while traffic goes on: a change at
//! an index that the walk has passed is added at once, one ahead of it will be passed. So the sums
//! are exact when the walk ends, and stay so by the changes; meanwhile the next walk checks them
//! against the table. (XOR of hashes of the elements as a digest of a set: Bellare and Micciancio,
//! EUROCRYPT 1997, whose attack on it needs hashes that the attacker can compute. These are keyed,
//! and the key is for nothing else: who reads the sums on the wire may learn it, and could then at
//! best choose sessions whose loss a comparison does not see.)

use krono_core::hash::HashKey;
use krono_core::twin::{Change, Twin};
use zerocopy::IntoBytes;

/// How many ranges there are. Of a million entries each has a thousand.
pub const RANGES: usize = 1024;

/// The ranges whose sums one frame carries.
pub const PER_FRAME: usize = 128;

/// The frames that carry all sums.
pub const FRAMES: usize = RANGES / PER_FRAME;

/// A set of ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranges(pub(crate) [u8; RANGES / 8]);

impl Ranges {
    /// No range.
    pub const NONE: Ranges = Ranges([0; RANGES / 8]);

    /// Every range.
    pub const ALL: Ranges = Ranges([u8::MAX; RANGES / 8]);

    /// Whether a range is in it.
    pub fn contains(&self, range: usize) -> bool {
        self.0[range / 8] >> (range % 8) & 1 != 0
    }

    /// Adds a range.
    pub fn insert(&mut self, range: usize) {
        self.0[range / 8] |= 1 << (range % 8);
    }

    /// How many there are.
    pub fn len(&self) -> u32 {
        self.0.iter().map(|bits| bits.count_ones()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Ranges::NONE
    }
}

/// The sums of a table.
pub struct Sums {
    hash: HashKey,
    current: Box<[u64; RANGES]>,
    /// Those of the walk that is under way, up to `cursor`.
    next: Box<[u64; RANGES]>,
    cursor: u32,
    /// The first walk has ended.
    is_whole: bool,
    /// Ranges whose sums were not what the table said.
    corrected: u64,
}

impl Sums {
    /// Sums of a table that nobody has walked over yet. Both sides have the same seed.
    pub fn new(seed: [u8; 32]) -> Sums {
        let none = || Box::new([0; RANGES]);
        let hash = HashKey::from_seed(seed);
        Sums { hash, current: none(), next: none(), cursor: 0, is_whole: false, corrected: 0 }
    }

    /// Whether the sums are those of the table.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// How many ranges had sums that the table did not confirm. There is no cause for any.
    pub fn corrected(&self) -> u64 {
        self.corrected
    }

    /// The sums of the ranges of one frame.
    pub fn part(&self, first: usize) -> &[u64] {
        &self.current[first..first + PER_FRAME]
    }

    /// The range that a key lies in.
    pub fn range(&self, key: [u64; 2]) -> usize {
        (self.hash.hash(key[0], key[1]) >> (u64::BITS - RANGES.ilog2())) as usize
    }

    /// Takes a change, in the order of changes.
    pub fn note<T: Twin>(&mut self, change: &Change<T::Entry>) {
        let is_passed = change.index < self.cursor;
        for essence in [&change.before, &change.after].into_iter().flatten() {
            let (range, sum) = self.of::<T>(essence);
            self.current[range] ^= sum;
            if is_passed {
                self.next[range] ^= sum;
            }
        }
    }

    /// Walks on over so many indices.
    pub fn walk<T: Twin>(&mut self, store: &T, budget: u32) {
        let end = store.end().min(self.cursor.saturating_add(budget));
        for index in self.cursor..end {
            if let Some(essence) = store.essence(index) {
                let (range, sum) = self.of::<T>(&essence);
                self.next[range] ^= sum;
            }
        }
        self.cursor = end;
        if end == store.end() {
            self.end_walk();
        }
    }

    fn end_walk(&mut self) {
        if self.is_whole {
            let differing =
                self.current.iter().zip(self.next.iter()).filter(|(old, new)| old != new);
            self.corrected += differing.count() as u64;
        }
        std::mem::swap(&mut self.current, &mut self.next);
        self.next.fill(0);
        (self.cursor, self.is_whole) = (0, true);
    }

    /// The range and the hash of an entry.
    fn of<T: Twin>(&self, essence: &T::Entry) -> (usize, u64) {
        let mut words = [0_u64; krono_core::twin::RECORD_MAX / 8];
        let bytes = essence.as_bytes();
        words.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
        let pairs = words[..bytes.len().div_ceil(16) * 2].as_chunks().0;
        let add = |sum, &[a, b]: &[u64; 2]| self.hash.hash(a ^ sum, b);
        (self.range(T::key(essence)), pairs.iter().fold(0, add))
    }
}
