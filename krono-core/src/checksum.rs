//! The Internet checksum: whole (RFC 1071) and incremental (RFC 1624).

/// A one's complement sum under way. Words are added in host order of their big-endian value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// Adds one 16-bit word.
    #[inline]
    pub const fn add_u16(self, word: u16) -> Sum {
        Sum(self.0 + word as u64)
    }

    /// Adds two words given as one number.
    #[inline]
    pub const fn add_u32(self, words: u32) -> Sum {
        Sum(self.0 + (words >> 16) as u64 + (words & 0xffff) as u64)
    }

    /// Adds bytes; an odd last one counts as the high half of a word.
    pub fn add_bytes(self, bytes: &[u8]) -> Sum {
        let (words, rest) = bytes.as_chunks::<2>();
        let mut sum = words.iter().fold(self, |sum, word| sum.add_u16(u16::from_be_bytes(*word)));
        if let [last] = rest {
            sum = sum.add_u16(u16::from(*last) << 8);
        }
        sum
    }

    /// The sum folded to 16 bits, not complemented.
    #[inline]
    pub const fn fold(self) -> u16 {
        let mut sum = self.0;
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    /// The checksum: the folded sum's complement.
    #[inline]
    pub const fn checksum(self) -> u16 {
        !self.fold()
    }
}

/// What a sum gains when words summing to `old` are replaced by words summing to `new`:
/// `~m + m'` of RFC 1624.
pub const fn delta(old: Sum, new: Sum) -> u16 {
    Sum((!old.fold()) as u64).add_u16(new.fold()).fold()
}

/// The checksum after its words gained `delta`: `HC' = ~(~HC + ~m + m')`, eqn. 3 of RFC 1624.
#[inline]
pub const fn update(checksum: u16, delta: u16) -> u16 {
    Sum((!checksum) as u64).add_u16(delta).checksum()
}

/// The delta of the opposite replacement.
#[inline]
pub const fn inverse(delta: u16) -> u16 {
    !delta
}
