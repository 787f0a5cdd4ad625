//! The addresses of a pool and their indices.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Public addresses, numbered from 0 in the order of the addresses.
///
/// Every address of a prefix is used, its first and last as well: nothing on a link has them.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Disjoint, in order.
    blocks: Vec<Block>,
    len: usize,
}

/// The addresses of one prefix.
#[derive(Clone, Copy, Debug)]
struct Block {
    first: u32,
    last: u32,
    /// The index of the first address.
    index: u32,
}

impl Block {
    #[inline]
    fn index_of(&self, addr: u32) -> Option<u32> {
        let offset = addr.wrapping_sub(self.first);
        (offset <= self.last - self.first).then(|| self.index + offset)
    }
}

impl Pool {
    /// The first and the last address of each prefix, as the halves of a number.
    pub(super) fn addresses(&self) -> impl Iterator<Item = u64> {
        self.blocks.iter().map(|block| u64::from(block.first) << 32 | u64::from(block.last))
    }

    /// The pool of these prefixes.
    ///
    /// # Panics
    /// If two of them overlap.
    pub fn new(prefixes: &[Ipv4Net]) -> Self {
        let mut prefixes = prefixes.to_vec();
        prefixes.sort_by_key(Ipv4Net::network);
        let mut pool = Pool { blocks: Vec::with_capacity(prefixes.len()), len: 0 };
        for prefix in prefixes {
            let (first, last) = (prefix.network().to_bits(), prefix.broadcast().to_bits());
            let is_apart = pool.blocks.last().is_none_or(|before| before.last < first);
            assert!(is_apart, "{prefix} overlaps another prefix of the pool");
            // Disjoint prefixes have 2^32 addresses at most, so the index of one fits.
            pool.blocks.push(Block { first, last, index: pool.len as u32 });
            pool.len += (last - first) as usize + 1;
        }
        pool
    }

    /// How many addresses there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The index of an address, if it is one of the pool's. O(log prefixes), and less for the
    /// first prefix, which is the only one of most pools.
    #[inline]
    pub fn index(&self, addr: Ipv4Addr) -> Option<u32> {
        let addr = addr.to_bits();
        match self.blocks.first()?.index_of(addr) {
            None if self.blocks.len() > 1 => self.search(addr),
            found => found,
        }
    }

    #[inline(never)]
    fn search(&self, addr: u32) -> Option<u32> {
        let behind = self.blocks.partition_point(|block| block.first <= addr);
        self.blocks.get(behind.checked_sub(1)?)?.index_of(addr)
    }

    /// The address with this index. O(log prefixes).
    ///
    /// # Panics
    /// If there is none.
    pub fn address(&self, index: u32) -> Ipv4Addr {
        assert!((index as usize) < self.len, "the pool has no address {index}");
        let behind = self.blocks.partition_point(|block| block.index <= index);
        let block = &self.blocks[behind - 1];
        Ipv4Addr::from_bits(block.first + (index - block.index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(prefixes: &[&str]) -> Pool {
        Pool::new(&prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect::<Vec<_>>())
    }

    #[test]
    fn indices_and_addresses_are_each_others_inverse() {
        let pool = pool(&["198.51.100.16/28", "192.0.2.1/32", "198.51.100.5/29", "0.0.0.0/31"]);
        assert_eq!(pool.len(), 16 + 1 + 8 + 2);
        let addresses: Vec<_> = (0..27).map(|index| pool.address(index)).collect();
        assert!(addresses.is_sorted());
        for (index, addr) in addresses.iter().enumerate() {
            assert_eq!(pool.index(*addr), Some(index as u32));
        }
        for other in ["0.0.0.2", "192.0.2.0", "192.0.2.2", "198.51.100.8", "198.51.100.32"] {
            assert_eq!(pool.index(other.parse().unwrap()), None, "{other}");
        }
        assert_eq!(self::pool(&[]).index(Ipv4Addr::LOCALHOST), None);
    }

    #[test]
    fn the_whole_of_ipv4_has_indices() {
        let pool = pool(&["128.0.0.0/1", "0.0.0.0/1"]);
        assert_eq!(pool.len(), 1 << 32);
        for addr in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(128, 0, 0, 0), Ipv4Addr::BROADCAST] {
            assert_eq!(pool.index(addr), Some(addr.to_bits()));
            assert_eq!(pool.address(addr.to_bits()), addr);
        }
    }

    #[test]
    #[should_panic(expected = "overlaps")]
    fn no_address_is_twice_in_a_pool() {
        let _ = pool(&["198.51.100.0/28", "192.0.2.0/24", "198.51.100.15/32"]);
    }
}
