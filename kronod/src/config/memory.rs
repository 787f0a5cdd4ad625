//! How much memory the machine has and how much a configuration needs.

use std::fs;
use std::ops::RangeInclusive;

/// What a configuration has to fit in.
pub struct Memory<'a> {
    /// Bytes that may be used, `None` if nobody knows.
    pub available: Option<u64>,
    /// What the tables of a shard take, bytes.
    pub bytes_per_shard: &'a dyn Fn(&TableSizes) -> u64,
}

impl Memory<'static> {
    /// That of this machine, with an estimate of the tables.
    pub fn of_this_machine() -> Memory<'static> {
        Memory { available: machine_memory(), bytes_per_shard: &TableSizes::estimate }
    }

    /// More than any configuration needs.
    pub const fn unlimited() -> Memory<'static> {
        Memory { available: None, bytes_per_shard: &TableSizes::estimate }
    }
}

/// What the memory of a shard's tables depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSizes {
    /// Capacity for sessions.
    pub sessions: u32,
    /// Addresses in the pool.
    pub pool_addresses: u32,
    /// Public ports for TCP and UDP.
    pub ports: RangeInclusive<u16>,
}

impl TableSizes {
    /// What the tables take if there are as many subscribers as a shard is made for, bytes.
    pub fn estimate(&self) -> u64 {
        let sessions = self.sessions as usize;
        let subscribers = subscribers_max(self.sessions) as usize;
        krono_nat::memory_bytes(sessions, subscribers, self.pool_addresses as usize) as u64
    }
}

/// How many subscribers a shard for so many sessions is made for: each has four on average, or
/// more.
pub fn subscribers_max(sessions: u32) -> u32 {
    sessions.div_ceil(4).max(1024)
}

/// Bytes that this machine has left: memory that is available without swapping, and free huge
/// pages of the default size, which are not part of that (proc_meminfo(5)).
pub fn machine_memory() -> Option<u64> {
    available(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn available(meminfo: &str) -> Option<u64> {
    let field = |name: &str| {
        let value = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.split_whitespace().next()?.parse::<u64>().ok()
    };
    let pages = field("HugePages_Free").unwrap_or(0);
    let kib = pages.checked_mul(field("Hugepagesize").unwrap_or(0))?;
    field("MemAvailable")?.checked_add(kib)?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_huge_pages_count_as_available() {
        let text =
            "MemTotal: 100 kB\nMemAvailable:  50 kB\nHugePages_Free:  3\nHugepagesize: 8 kB\n";
        assert_eq!(available(text), Some(74 * 1024));
        assert_eq!(available("MemAvailable: 50 kB\n"), Some(50 * 1024));
        assert_eq!(available("MemTotal: 50 kB\n"), None);
        assert_eq!(available("MemAvailable: 18446744073709551615 kB"), None);
    }
}
