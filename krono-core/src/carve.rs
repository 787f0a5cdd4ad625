//! One block of zeroed memory, cut into the typed slices that hold a shard's state.
//!
//! The house hands in the block: huge pages, a heap allocation in tests, later a file that
//! outlives the process. Whoever cuts in the same order with the same counts finds the same
//! layout again, so the order of cuts is part of a state's version.

use std::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Every slice begins at a multiple of this many bytes: a cache line.
pub const ALIGNMENT: usize = 64;

/// How many bytes slices need together, cut in this order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measure(usize);

impl Measure {
    /// Room for `count` values of `T` more.
    #[must_use]
    pub const fn and<T>(self, count: usize) -> Measure {
        Measure((self.0 + count * size_of::<T>()).next_multiple_of(ALIGNMENT))
    }

    /// The sum, bytes.
    pub const fn bytes(self) -> usize {
        self.0
    }
}

/// Cuts a block of memory into slices.
#[derive(Debug)]
pub struct Carver<'m> {
    rest: &'m mut [u8],
}

impl<'m> Carver<'m> {
    /// Begins at the front of `memory`.
    ///
    /// # Panics
    /// If the block does not begin at a multiple of [`ALIGNMENT`].
    pub fn new(memory: &'m mut [u8]) -> Self {
        assert_eq!(memory.as_ptr().addr() % ALIGNMENT, 0, "state begins on a cache line");
        Carver { rest: memory }
    }

    /// The next `count` values.
    ///
    /// # Panics
    /// If the block is too small: [`Measure`] it first.
    pub fn take<T>(&mut self, count: usize) -> &'m mut [T]
    where
        T: FromBytes + IntoBytes + Immutable + KnownLayout,
    {
        let bytes = Measure::default().and::<T>(count).bytes();
        let (slice, rest) = std::mem::take(&mut self.rest).split_at_mut(bytes);
        self.rest = rest;
        match <[T]>::mut_from_prefix_with_elems(slice, count) {
            Ok((values, _padding)) => values,
            Err(_) => unreachable!("a cache line suits every alignment"),
        }
    }
}

/// One cache line of zeroes, to build an aligned block on the heap.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct Line([u8; ALIGNMENT]);

/// At least `bytes` bytes of zeroed heap that a [`Carver`] takes, for tests and tools.
pub fn heap(bytes: usize) -> Vec<Line> {
    vec![Line([0; ALIGNMENT]); bytes.div_ceil(ALIGNMENT)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_disjoint_aligned_and_use_what_was_measured() {
        let measure = Measure::default().and::<u16>(3).and::<u64>(9).and::<u8>(1);
        assert_eq!(measure.bytes(), 64 + 128 + 64);
        let mut memory = heap(measure.bytes());
        let mut carver = Carver::new(memory.as_mut_bytes());
        carver.take::<u16>(3).fill(0xffff);
        let words = carver.take::<u64>(9);
        assert!(words.iter().all(|word| *word == 0));
        assert_eq!(words.as_ptr().addr() % ALIGNMENT, 0);
        carver.take::<u8>(1);
        assert!(carver.rest.is_empty());
    }
}
