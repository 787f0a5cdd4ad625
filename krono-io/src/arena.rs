//! Memory for tables: mapped once, on huge pages where there are any, never given back.

use std::io;
use std::ptr::{self, NonNull};
use std::slice;

use zerocopy::{FromBytes, IntoBytes};

use crate::hugepages::{self, Hugepages};

/// Tables start at multiples of this: the 2 MiB that x86 and ARM have as a huge page. It lets the
/// kernel use huge pages by itself where none are reserved.
const HUGE_PAGE: usize = 2 << 20;

/// A stretch of zeroed memory that hands out slices for good.
///
/// What it gives out lives until the process ends, on purpose: a shard's state is as old as the
/// process. No page is touched before its first use.
#[derive(Debug)]
pub struct Arena {
    next: NonNull<u8>,
    left: usize,
    huge: bool,
}

// SAFETY: the memory is the arena's own until it is given out.
unsafe impl Send for Arena {}

/// Why there is no memory for tables.
#[derive(Debug, thiserror::Error)]
pub enum ArenaError {
    /// Fewer huge pages are free than were required.
    #[error(
        "{wanted_mb} MiB of tables need {} free huge pages of 2 MiB, and {free_mb} MiB of huge \
         pages are free; reserve more (as root: echo N > /proc/sys/vm/nr_hugepages, N counting \
         those in use as well), or set eal.hugepages to auto", wanted_mb.div_ceil(2)
    )]
    Hugepages {
        /// What was asked for, MiB.
        wanted_mb: usize,
        /// What was free, MiB.
        free_mb: u64,
    },
    /// The kernel gives no such mapping.
    #[error("{wanted_mb} MiB of memory for tables are not to be had: {reason}; use smaller tables")]
    Memory {
        /// What was asked for, MiB.
        wanted_mb: usize,
        /// What the kernel says.
        reason: io::Error,
    },
    /// The arena was made too small.
    #[error("a table of {wanted} bytes does not fit the {left} bytes that its arena has left")]
    Exhausted {
        /// What was asked for, bytes, alignment included.
        wanted: usize,
        /// What was left, bytes.
        left: usize,
    },
}

impl Arena {
    /// Maps `bytes` of memory, rounded up to whole huge pages.
    ///
    /// Huge pages are reserved here and now, so that a later access cannot fail; normal pages are
    /// promised, as always, and found on first use.
    ///
    /// # Errors
    /// If there is not so much memory, or not so much on huge pages where they are required.
    pub fn map(bytes: usize, pages: Hugepages) -> Result<Arena, ArenaError> {
        let wanted_mb = bytes.div_ceil(1 << 20);
        let overflow =
            || ArenaError::Memory { wanted_mb, reason: io::ErrorKind::OutOfMemory.into() };
        let size = bytes.max(1).checked_next_multiple_of(HUGE_PAGE).ok_or_else(overflow)?;
        if pages != Hugepages::Off {
            // The page size is stated, since a machine's default may be 1 GiB.
            match map_anonymous(size, libc::MAP_HUGETLB | libc::MAP_HUGE_2MB) {
                Ok(start) => return Ok(Arena { next: start, left: size, huge: true }),
                Err(_) if pages == Hugepages::Auto => {}
                Err(_) => {
                    let free_mb = hugepages::free_bytes() >> 20;
                    return Err(ArenaError::Hugepages { wanted_mb, free_mb });
                }
            }
        }
        let mapped = size.checked_add(HUGE_PAGE).ok_or_else(overflow)?;
        let start =
            map_anonymous(mapped, 0).map_err(|reason| ArenaError::Memory { wanted_mb, reason })?;
        let skip = start.align_offset(HUGE_PAGE);
        // SAFETY: `skip` is less than the huge page that was mapped in addition.
        let start = unsafe { start.add(skip) };
        if pages != Hugepages::Off {
            // A kernel without transparent huge pages refuses, which costs only speed.
            // SAFETY: advice on memory of our own.
            unsafe { libc::madvise(start.as_ptr().cast(), size, libc::MADV_HUGEPAGE) };
        }
        Ok(Arena { next: start, left: size, huge: false })
    }

    /// Whether the memory lies on reserved huge pages.
    pub fn is_huge(&self) -> bool {
        self.huge
    }

    /// How many bytes have not been given out.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Gives out `count` zeroed values, starting at a cache line at least.
    ///
    /// # Errors
    /// If they do not fit what is left.
    pub fn take<T: FromBytes + IntoBytes>(
        &mut self,
        count: usize,
    ) -> Result<&'static mut [T], ArenaError> {
        const CACHE_LINE: usize = 64;
        let skip = self.next.align_offset(align_of::<T>().max(CACHE_LINE));
        let wanted = count.checked_mul(size_of::<T>()).and_then(|bytes| bytes.checked_add(skip));
        let Some(wanted) = wanted.filter(|wanted| *wanted <= self.left) else {
            let wanted = wanted.unwrap_or(usize::MAX);
            return Err(ArenaError::Exhausted { wanted, left: self.left });
        };
        // SAFETY: `skip` and the values lie within the `left` bytes from `next`, which are mapped
        // for good and nobody else's; they are zeroes, which every `FromBytes` may be.
        unsafe {
            let values = self.next.add(skip).cast::<T>();
            self.next = self.next.add(wanted);
            self.left -= wanted;
            Ok(slice::from_raw_parts_mut(values.as_ptr(), count))
        }
    }
}

fn map_anonymous(size: usize, flags: i32) -> io::Result<NonNull<u8>> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let start = unsafe { libc::mmap(ptr::null_mut(), size, protection, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(NonNull::new(start.cast()).expect("the kernel maps nothing at 0 unless asked to"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_zero_aligned_and_apart() {
        let mut arena = Arena::map(1 << 20, Hugepages::Off).unwrap();
        let bytes = arena.take::<u8>(3).unwrap();
        let words = arena.take::<u64>(1000).unwrap();
        assert!(bytes.iter().all(|b| *b == 0) && words.iter().all(|w| *w == 0));
        assert_eq!((bytes.as_ptr().addr() % 64, words.as_ptr().addr() % 64), (0, 0));
        words.fill(u64::MAX);
        assert_eq!(bytes, [0; 3]);
        assert_eq!(arena.left(), (2 << 20) - 64 - 8000);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_changes_nothing() {
        let mut arena = Arena::map(1, Hugepages::Off).unwrap();
        let left = arena.left();
        for count in [HUGE_PAGE / 8 + 1, usize::MAX, usize::MAX / 8] {
            assert!(matches!(arena.take::<u64>(count), Err(ArenaError::Exhausted { .. })));
        }
        assert_eq!(arena.left(), left);
        assert_eq!(arena.take::<u64>(HUGE_PAGE / 8).unwrap().len(), HUGE_PAGE / 8);
        assert!(arena.take::<u8>(1).is_err());
        assert!(arena.take::<u8>(0).unwrap().is_empty());
    }

    #[test]
    fn more_than_the_address_space_is_an_error() {
        for bytes in [1 << 60, usize::MAX] {
            for pages in [Hugepages::Auto, Hugepages::Off] {
                let error = Arena::map(bytes, pages).unwrap_err();
                assert!(matches!(error, ArenaError::Memory { .. }), "{error}");
            }
        }
    }

    #[test]
    fn required_hugepages_come_or_the_error_says_how() {
        match Arena::map(1 << 40, Hugepages::Required) {
            Ok(arena) => assert!(arena.is_huge()),
            Err(error) => assert!(error.to_string().contains("nr_hugepages"), "{error}"),
        }
    }
}
