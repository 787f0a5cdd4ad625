//! Longest-prefix match over a fixed set of prefixes.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// A fixed map from IPv4 prefixes to values, asked for the longest prefix that holds an address.
///
/// The prefixes of one length are a sorted array; a lookup searches one array after another, the
/// longest prefixes first. That is two comparisons for the usual connected network and default
/// route, and at most 33 binary searches for a table of any size.
#[derive(Debug)]
pub(super) struct Prefixes<T> {
    lengths: Vec<Length>,
    networks: Vec<u32>,
    values: Vec<T>,
}

/// The prefixes of one length.
#[derive(Debug)]
struct Length {
    mask: u32,
    /// Where they begin in `networks` and `values`.
    start: usize,
    /// One past where they end.
    end: usize,
}

impl<T> Prefixes<T> {
    /// A map of these. Host bits of a prefix do not count; of equal prefixes the first one wins.
    pub(super) fn new(entries: impl IntoIterator<Item = (Ipv4Net, T)>) -> Self {
        let mut entries: Vec<_> =
            entries.into_iter().map(|(prefix, value)| (prefix.trunc(), value)).collect();
        let order = |prefix: &Ipv4Net| (u8::MAX - prefix.prefix_len(), prefix.network());
        entries.sort_by_key(|(prefix, _)| order(prefix));
        entries.dedup_by_key(|(prefix, _)| *prefix);

        let mut lengths: Vec<Length> = Vec::new();
        for (index, (prefix, _)) in entries.iter().enumerate() {
            let mask = prefix.netmask().to_bits();
            match lengths.last_mut() {
                Some(last) if last.mask == mask => last.end = index + 1,
                _ => lengths.push(Length { mask, start: index, end: index + 1 }),
            }
        }
        let networks = entries.iter().map(|(prefix, _)| prefix.network().to_bits()).collect();
        let values = entries.into_iter().map(|(_, value)| value).collect();
        Prefixes { lengths, networks, values }
    }

    /// The value of the longest prefix that holds `addr`.
    #[inline]
    pub(super) fn lookup(&self, addr: Ipv4Addr) -> Option<&T> {
        self.lengths.iter().find_map(|length| {
            let networks = &self.networks[length.start..length.end];
            let found = networks.binary_search(&(addr.to_bits() & length.mask)).ok()?;
            Some(&self.values[length.start + found])
        })
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
            assert_eq!(map.lookup(addr.parse().unwrap()), Some(&value), "{addr}");
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
                .map(|(value, prefix)| (prefix, value))
                .collect();
            let map = Prefixes::new(prefixes.iter().copied());
            let edges = prefixes.iter().flat_map(|(net, _)| [net.network(), net.broadcast()]);
            for addr in probes.into_iter().chain(edges) {
                let mut best: Option<(u8, usize)> = None;
                for (prefix, value) in prefixes.iter().filter(|(net, _)| net.contains(&addr)) {
                    if best.is_none_or(|(len, _)| prefix.prefix_len() > len) {
                        best = Some((prefix.prefix_len(), *value));
                    }
                }
                prop_assert_eq!(map.lookup(addr).copied(), best.map(|(_, value)| value));
            }
        }
    }
}
