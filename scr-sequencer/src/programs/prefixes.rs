//! Lists of prefixes.

use ipnet::Ipv4Net;

/// A set of IPv4 addresses, made of prefixes: one look at a bitmap of 8 KiB says for most addresses
/// whether they are in it, and a binary search for those whose /16 is in it in part.
#[derive(Clone, Debug)]
pub struct PrefixSet {
    /// Of each /16 two bits: some of it is in the set, and all of it is.
    blocks: Box<[u64; BLOCKS / 32]>,
    /// First and last addresses of what is in the set, in order and apart.
    ranges: Box<[(u32, u32)]>,
}

const BLOCKS: usize = 1 << 16;
const SOME: u64 = 1;
const ALL: u64 = 3;

impl PrefixSet {
    /// All addresses that any of these prefixes has.
    pub fn new(prefixes: &[Ipv4Net]) -> PrefixSet {
        let mut set = PrefixSet {
            blocks: Box::new([0; BLOCKS / 32]),
            ranges: Ipv4Net::aggregate(&prefixes.to_vec())
                .iter()
                .map(|net| (net.network().to_bits(), net.broadcast().to_bits()))
                .collect(),
        };
        set.ranges.sort_unstable();
        for (first, last) in &set.ranges {
            for block in first >> 16..=last >> 16 {
                let is_whole = *first <= block << 16 && block << 16 | 0xffff <= *last;
                let bits = if is_whole { ALL } else { SOME };
                set.blocks[block as usize / 32] |= bits << (block % 32 * 2);
            }
        }
        set
    }

    /// Whether an address is in the set.
    #[inline(always)]
    pub fn has(&self, address: u32) -> bool {
        let block = address >> 16;
        match self.blocks[block as usize / 32] >> (block % 32 * 2) & ALL {
            0 => false,
            ALL => true,
            _ => self.search(address),
        }
    }

    #[inline(never)]
    fn search(&self, address: u32) -> bool {
        let before = self.ranges.partition_point(|(first, _)| *first <= address);
        before > 0 && address <= self.ranges[before - 1].1
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_set_has_what_its_prefixes_have() {
        let prefixes: Vec<Ipv4Net> =
            ["10.0.0.0/8", "192.0.2.0/24", "192.0.3.7/32", "255.255.0.0/16", "10.1.0.0/16"]
                .map(|text| text.parse().expect("a prefix"))
                .to_vec();
        let set = PrefixSet::new(&prefixes);
        let edges = prefixes.iter().flat_map(|net| {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            [first.wrapping_sub(1), first, first + 1, last - 1, last, last.wrapping_add(1)]
        });
        for address in edges.chain((0..1 << 16).map(|block| block << 16 | 0x0207)) {
            let is_in = prefixes.iter().any(|net| net.contains(&Ipv4Addr::from_bits(address)));
            assert_eq!(set.has(address), is_in, "{address:#x}");
        }
        assert!(!PrefixSet::new(&[]).has(0));
        assert!(PrefixSet::new(&["0.0.0.0/0".parse().expect("a prefix")]).has(7));
    }
}
