//! Which ports of a bank are taken: a bit for each.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::bank::{PORTS, PortRange};
use crate::table::prefetch;

const WORD: usize = u64::BITS as usize;

/// A bit for each port of a bank, set if it is owned or held, and a bit for each word of those
/// that is all ones, so that a free port is found in a bounded number of steps: 8.1 KiB. All-zero
/// bytes: every port is free.
///
/// A free port is found by a random number. While there are many, all have the same chance but for
/// what the cache lines differ in load: a taken port is passed over by a fixed walk over pseudo-random
/// ones whose bits lie in the same line, since another would have to be waited for. Where sixteen steps
/// of that find none, it is the next free one (RFC 6056, 3.3.1, algorithm 1).
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct TakenPorts {
    ports: [u64; PORTS / WORD],
    full: [u64; PORTS / WORD / WORD],
}

/// So many ports have their bits in one cache line.
const LINE: u16 = 512;

/// So many random ports are tried before the next free one is looked for.
const TRIES: usize = 16;

impl TakenPorts {
    /// No port is taken.
    pub const NONE: TakenPorts =
        TakenPorts { ports: [0; PORTS / WORD], full: [0; PORTS / WORD / WORD] };

    /// The ports that are taken, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u16> {
        let ports = |(word, bits): (usize, &u64)| {
            let bits = std::iter::successors(Some(*bits), |bits| Some(bits & bits.wrapping_sub(1)));
            bits.take_while(|bits| *bits != 0)
                .map(move |bits| (word * WORD) as u16 + bits.trailing_zeros() as u16)
        };
        self.ports.iter().enumerate().flat_map(ports)
    }

    #[inline]
    pub(super) fn contains(&self, port: u16) -> bool {
        has_bit(&self.ports, port.into())
    }

    #[inline]
    pub(super) fn insert(&mut self, port: u16) {
        let word = usize::from(port) / WORD;
        set_bit(&mut self.ports, port.into());
        if self.ports[word] == u64::MAX {
            set_bit(&mut self.full, word);
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, port: u16) {
        clear_bit(&mut self.ports, port.into());
        clear_bit(&mut self.full, usize::from(port) / WORD);
    }

    /// The free port that a random number stands for; `None` if none of the range is free.
    #[inline]
    pub(super) fn choose(&self, mut random: u32, range: PortRange) -> Option<u16> {
        let first = range.scaled(random);
        let mut port = first;
        for _ in 0..TRIES {
            if range.contains(port) && !self.contains(port) {
                return Some(port);
            }
            // A generator of full period (Numerical Recipes); its high bits are what is used.
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            port = first & !(LINE - 1) | (random >> (u32::BITS - LINE.ilog2())) as u16;
        }
        self.next_free(first, range)
    }

    /// Asks the memory for a port's bit.
    #[inline]
    pub(super) fn prefetch(&self, port: u16) {
        prefetch(&self.ports, usize::from(port) / WORD);
    }

    /// The first free port from this one on, in a circle.
    #[cold]
    fn next_free(&self, from: u16, range: PortRange) -> Option<u16> {
        let (first, last) = range.bounds()?;
        self.first_free(from, last).or_else(|| self.first_free(first, from))
    }

    /// The first free port of these.
    fn first_free(&self, first: u16, last: u16) -> Option<u16> {
        let (mut at, end) = (usize::from(first), usize::from(last) + 1);
        loop {
            // In the word that `at` lies in; then in the next one that is not full.
            let in_word = end.min((at / WORD + 1) * WORD);
            if let Some(port) = first_clear(&self.ports, at, in_word) {
                return u16::try_from(port).ok();
            }
            at = first_clear(&self.full, at / WORD + 1, end.div_ceil(WORD))? * WORD;
        }
    }
}

fn has_bit(words: &[u64], bit: usize) -> bool {
    words[bit / WORD] >> (bit % WORD) & 1 != 0
}

fn set_bit(words: &mut [u64], bit: usize) {
    words[bit / WORD] |= 1 << (bit % WORD);
}

fn clear_bit(words: &mut [u64], bit: usize) {
    words[bit / WORD] &= !(1 << (bit % WORD));
}

/// The first bit from `at` on and before `end` that is not set.
fn first_clear(words: &[u64], mut at: usize, end: usize) -> Option<usize> {
    while at < end {
        let clear = !words[at / WORD] >> (at % WORD);
        if clear != 0 {
            let found = at + clear.trailing_zeros() as usize;
            return (found < end).then_some(found);
        }
        at = (at / WORD + 1) * WORD;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_of_a_range_is_chosen_before_none_is_left() {
        for (first, last) in
            [(0, u16::MAX), (1024, 65535), (1, 1023), (5000, 5000), (63, 64), (70, 4500)]
        {
            let range = PortRange::between(first, last);
            let mut taken = TakenPorts::NONE;
            let mut random = 0x1234_5678_u32;
            for left in (1..=range.len()).rev() {
                random = random.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
                let port = taken.choose(random, range).unwrap_or_else(|| panic!("{left} are left"));
                assert!(range.contains(port) && !taken.contains(port), "{port}");
                taken.insert(port);
            }
            assert_eq!(taken.choose(random, range), None);
            taken.remove(last);
            assert_eq!(taken.choose(random, range), Some(last));
        }
    }

    #[test]
    fn at_half_load_free_ports_have_the_same_chance() {
        let range = PortRange::between(1024, 1024 + 1023);
        let mut taken = TakenPorts::NONE;
        // In runs of 64, as statics or an earlier scan leave them.
        let is_free = |port: u16| (port / 64).is_multiple_of(2);
        (1024..2048).filter(|port| !is_free(*port)).for_each(|port| taken.insert(port));
        let mut counts = [0_u32; 1024];
        let mut random = 99_u64;
        for _ in 0..512 * 400 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            counts[usize::from(taken.choose((random >> 32) as u32, range).unwrap() - 1024)] += 1;
        }
        let free = counts.iter().zip(1024..).filter(|(_, port)| is_free(*port)).map(|(n, _)| *n);
        let chi_square: f64 = free.map(|n| (f64::from(n) - 400.0).powi(2) / 400.0).sum();
        // 511 degrees of freedom: six standard deviations are 192. Scans make it a little uneven.
        assert!(chi_square < 511.0 + 192.0, "{chi_square}");
    }
}
