//! Longest-prefix match over a fixed set of prefixes.

use std::hint::cold_path;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use ipnet::Ipv4Net;

/// A fixed map from IPv4 prefixes to values, asked for the longest prefix that holds an address.
///
/// Prefixes nest, but what they say of the whole address space does not: it is a row of ranges,
/// each of a class: all those with the same value, or with none. A table by /12 says which class
/// holds there, or that several ranges meet: then a binary search over where they begin finds it.
#[derive(Debug)]
pub(super) struct Prefixes<T> {
    /// Where each range begins; the first one at 0.
    starts: Vec<u32>,
    /// The class from each start to the next.
    classes: Vec<u32>,
    /// The value of each class.
    values: Vec<Option<T>>,
    /// For each /12: the class that holds there, or [`SEVERAL`] with the range that its first
    /// address is in.
    slices: Box<[u32; SLICES]>,
}

const SEVERAL: u32 = 1 << 31;

/// How many bits of an address name its slice of the address space.
const SLICE_BITS: u32 = 12;
const SLICES: usize = 1 << SLICE_BITS;

impl<T: Copy + PartialEq> Prefixes<T> {
    /// A map of these. Host bits of a prefix do not count; of equal prefixes the first one wins.
    pub(super) fn new(entries: impl IntoIterator<Item = (Ipv4Net, T)>) -> Self {
        let mut entries: Vec<_> =
            entries.into_iter().map(|(prefix, value)| (prefix.trunc(), value)).collect();
        entries.sort_by_key(|(prefix, _)| (prefix.network(), prefix.prefix_len()));
        entries.dedup_by_key(|(prefix, _)| *prefix);
        let slices = Box::new([0; SLICES]);
        let (starts, classes, values) = (vec![0], vec![0], vec![None]);
        let mut map = Prefixes { starts, classes, values, slices };
        // Prefixes that hold the present address, the longest one last.
        let mut open: Vec<(Ipv4Net, T)> = Vec::new();
        for (prefix, value) in entries {
            while let Some((inner, _)) = open.pop_if(|(net, _)| !net.contains(&prefix)) {
                map.end(&inner, open.last().map(|(_, value)| *value));
            }
            map.begin(prefix.network().to_bits(), Some(value));
            open.push((prefix, value));
        }
        while let Some((inner, _)) = open.pop() {
            map.end(&inner, open.last().map(|(_, value)| *value));
        }
        map.slice();
        map
    }

    fn slice(&mut self) {
        let starts = &self.starts;
        let range_of = |addr| starts.partition_point(|start| *start <= addr) as u32 - 1;
        for (index, slice) in self.slices.iter_mut().enumerate() {
            let first = (index as u32) << (u32::BITS - SLICE_BITS);
            let range = range_of(first);
            let is_one = range == range_of(first | u32::MAX >> SLICE_BITS);
            *slice = if is_one { self.classes[range as usize] } else { SEVERAL | range };
        }
    }

    /// What holds behind a prefix, unless that is the end of all addresses.
    fn end(&mut self, prefix: &Ipv4Net, outer: Option<T>) {
        if let Some(next) = prefix.broadcast().to_bits().checked_add(1) {
            self.begin(next, outer);
        }
    }

    /// From here on this holds; addresses come in order.
    fn begin(&mut self, start: u32, value: Option<T>) {
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.classes.pop();
        }
        let known = self.values.iter().position(|other| *other == value);
        let class = known.unwrap_or_else(|| {
            self.values.push(value);
            self.values.len() - 1
        });
        self.starts.push(start);
        self.classes.push(class as u32);
    }

    /// The value of the longest prefix that holds `addr`.
    #[inline]
    pub(super) fn lookup(&self, addr: Ipv4Addr) -> Option<T> {
        self.values[self.class(addr) as usize]
    }

    /// The class of an address: below 2^31, and the same for all that have the same value.
    #[inline]
    pub(super) fn class(&self, addr: Ipv4Addr) -> u32 {
        let addr = addr.to_bits();
        let class = self.slices[(addr >> (u32::BITS - SLICE_BITS)) as usize];
        if class & SEVERAL != 0 {
            cold_path();
            return self.search(class & !SEVERAL, addr);
        }
        class
    }

    /// The class at `addr`, which is in the range `from` or one behind it.
    #[inline(never)]
    fn search(&self, from: u32, addr: u32) -> u32 {
        let later = &self.starts[from as usize + 1..];
        self.classes[from as usize + later.partition_point(|start| *start <= addr)]
    }

    /// The ranges that lie in a prefix.
    pub(super) fn covered(&self) -> impl Iterator<Item = RangeInclusive<Ipv4Addr>> {
        self.ranges().filter_map(|(range, value)| value.is_some().then_some(range))
    }

    /// The ranges that lie in none.
    pub(super) fn gaps(&self) -> impl Iterator<Item = RangeInclusive<Ipv4Addr>> {
        self.ranges().filter_map(|(range, value)| value.is_none().then_some(range))
    }

    fn ranges(&self) -> impl Iterator<Item = (RangeInclusive<Ipv4Addr>, Option<T>)> {
        let ends = self.starts[1..].iter().map(|next| next - 1).chain([u32::MAX]);
        let ranges =
            self.starts.iter().zip(ends).map(|(first, last)| (*first).into()..=last.into());
        ranges.zip(self.classes.iter().map(|class| self.values[*class as usize]))
    }

    /// Whether any prefix holds `addr`.
    #[inline]
    pub(super) fn contains(&self, addr: Ipv4Addr) -> bool {
        self.lookup(addr).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_prefix_wins_and_of_equal_ones_the_first() {
        let map = Prefixes::new([
            (net("0.0.0.0/0"), "default"),
            (net("10.0.0.0/8"), "eight"),
            (net("10.1.0.0/16"), "sixteen"),
            (net("10.1.2.3/32"), "host"),
            (net("10.1.99.99/16"), "second sixteen"),
        ]);
        for (addr, value) in [
            ("10.1.2.3", "host"),
            ("10.1.2.4", "sixteen"),
            ("10.2.0.0", "eight"),
            ("11.0.0.0", "default"),
            ("255.255.255.255", "default"),
        ] {
            assert_eq!(map.lookup(addr.parse().unwrap()), Some(value), "{addr}");
        }
        assert!(!Prefixes::<()>::new([]).contains(Ipv4Addr::LOCALHOST));
    }

    /// Few distinct networks, so that prefixes nest and meet.
    fn addr() -> impl Strategy<Value = Ipv4Addr> {
        (0u32..4, 0u32..4, any::<u32>(), 0u32..33).prop_map(|(high, low, any, kept)| {
            let dense = high << 30 | low << 8 | low;
            let mask = u32::MAX.checked_shl(kept).unwrap_or(0);
            Ipv4Addr::from_bits((dense & mask) | (any & !mask))
        })
    }

    proptest! {
        #[test]
        fn lookup_agrees_with_looking_at_every_prefix(
            prefixes in prop::collection::vec((addr(), 0u8..=32), 0..60),
            probes in prop::collection::vec(addr(), 1..40),
        ) {
            let prefixes: Vec<_> = prefixes
                .into_iter()
                .map(|(addr, len)| Ipv4Net::new(addr, len).unwrap())
                .enumerate()
                // Some have the same value.
                .map(|(value, prefix)| (prefix, value % 20))
                .collect();
            let map = Prefixes::new(prefixes.iter().copied());
            let edges = prefixes.iter().flat_map(|(net, _)| [net.network(), net.broadcast()]);
            for addr in probes.into_iter().chain(edges.clone()) {
                let mut best: Option<(u8, usize)> = None;
                for (prefix, value) in prefixes.iter().filter(|(net, _)| net.contains(&addr)) {
                    if best.is_none_or(|(len, _)| prefix.prefix_len() > len) {
                        best = Some((prefix.prefix_len(), *value));
                    }
                }
                prop_assert_eq!(map.lookup(addr), best.map(|(_, value)| value));
                for other in edges.clone() {
                    let same = map.class(addr) == map.class(other);
                    prop_assert_eq!(same, map.lookup(addr) == map.lookup(other));
                }
            }
        }
    }
}
