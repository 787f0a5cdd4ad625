//! The Internet checksum: whole (RFC 1071) and incremental (RFC 1624).
//!
//! One's complement has two zeros, 0x0000 and 0xffff, and that is where incremental updates go
//! wrong. Here a delta is never 0x0000: "nothing changed" is 0xffff ([`NO_CHANGE`]). An updated
//! checksum is then the very one that summing again would give, whichever zero came in, unless
//! the data is all zeros: its own checksum is 0xffff, and the update says 0. Only an ICMP echo
//! reply can be all zeros; see [`nonzero`].

/// A one's complement sum under way, of 16-bit words in network byte order.
///
/// Inside, words stand as the machine loads them: a sum of words with their bytes swapped is the
/// swapped sum (RFC 1071, 2 B), so swapping the result is enough, and often cancels out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

/// The folded sum of data with a correct checksum in it (RFC 1071, 1).
pub const VALID: u16 = 0xffff;

/// The delta of a replacement that leaves the sum as it is.
pub const NO_CHANGE: u16 = 0xffff;

impl Sum {
    /// Adds one 16-bit word.
    #[inline]
    pub const fn add_u16(self, word: u16) -> Sum {
        Sum(self.0 + word.to_be() as u64)
    }

    /// Adds two words given as one number.
    #[inline]
    pub const fn add_u32(self, words: u32) -> Sum {
        // The high word weighs 2^16, which is 1 in one's complement; `fold` brings it down.
        Sum(self.0 + words.to_be() as u64)
    }

    /// Adds bytes, at most 4 GiB over all; an odd last one counts as the high half of a word.
    #[inline]
    pub fn add_bytes(mut self, bytes: &[u8]) -> Sum {
        let (quads, rest) = bytes.as_chunks::<4>();
        for quad in quads {
            self = Sum(self.0 + u64::from(u32::from_ne_bytes(*quad)));
        }
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        Sum(self.0 + u64::from(u32::from_ne_bytes(last)))
    }

    /// The sum folded to 16 bits, not complemented; 0 only if every word was 0.
    #[inline]
    pub const fn fold(self) -> u16 {
        let (sum, carry) = (self.0 as u32).overflowing_add((self.0 >> 32) as u32);
        let sum = sum + carry as u32;
        let (sum, carry) = (sum as u16).overflowing_add((sum >> 16) as u16);
        u16::from_be(sum + carry as u16)
    }

    /// Whether this is the sum of data with a correct checksum in it (RFC 1071, 1).
    #[inline]
    pub const fn is_valid(self) -> bool {
        // Folded, a multiple of 0xffff is 0xffff, and 0 is 0. Multiplied by the inverse of 0xffff
        // (modulo 2^64), multiples become their quotients, which are smaller than other products.
        const INVERSE: u64 = 0xfffe_fffe_fffe_ffff;
        self.0.wrapping_mul(INVERSE).wrapping_sub(1) < u64::MAX / VALID as u64
    }

    /// The checksum: the folded sum's complement.
    #[inline]
    pub const fn checksum(self) -> u16 {
        !self.fold()
    }
}

/// What a sum gains when words summing to `old` are replaced by words summing to `new`:
/// `~m + m'` of RFC 1624. Never 0.
#[inline]
pub const fn delta(old: Sum, new: Sum) -> u16 {
    Sum(NO_CHANGE as u64).add_u16(!old.fold()).add_u16(new.fold()).fold()
}

/// The delta of the opposite replacement. Never 0.
#[inline]
pub const fn inverse(delta: u16) -> u16 {
    if delta == NO_CHANGE { NO_CHANGE } else { !delta }
}

/// The checksum after its words gained the sum of some deltas: `HC' = ~(~HC + ~m + m')`, eqn. 3
/// of RFC 1624.
#[inline]
pub const fn update(checksum: u16, deltas: Sum) -> u16 {
    deltas.add_u16(!checksum).checksum()
}

/// The same checksum in the form that is never 0.
///
/// UDP needs it, where 0 says that there is no checksum (RFC 768), and so does data that may be
/// all zeros: 0xffff is right for that, and verifies wherever 0 does.
#[inline]
pub const fn nonzero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071's definition, as slowly as it is written there.
    fn by_the_book(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    fn of(words: &[u16]) -> Sum {
        words.iter().fold(Sum::default(), |sum, word| sum.add_u16(*word))
    }

    #[test]
    fn the_examples_of_the_rfcs() {
        // RFC 1071, 3.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::default().add_bytes(&bytes).fold(), 0xddf2);
        // RFC 1624, 4: with eqn. 2 of RFC 1141 this becomes 0xffff.
        assert_eq!(update(0xdd2f, of(&[delta(of(&[0x5555]), of(&[0x3285]))])), 0x0000);
    }

    #[test]
    fn folding_takes_every_carry() {
        for (sum, folded) in [
            (0, 0),
            (0xffff, 0xffff),
            (0x1_0000, 1),
            (0xffff_ffff, 0xffff),
            (0x1_ffff_ffff, 1),
            (u64::MAX, 0xffff),
            (0xffff_ffff_ffff_0001, 1),
        ] {
            assert_eq!(Sum(sum).fold(), u16::from_be(folded), "{sum:#x}");
            assert_eq!(Sum(sum).is_valid(), folded == VALID, "{sum:#x}");
        }
    }

    #[test]
    fn no_delta_is_zero_and_inverses_cancel() {
        for word in 0..=u16::MAX {
            for other in [0, 1, 0x7fff, 0xfffe, 0xffff, word, !word] {
                let there = delta(of(&[word]), of(&[other]));
                assert_ne!(there, 0);
                assert_ne!(inverse(there), 0);
                assert_eq!(of(&[there, inverse(there)]).fold(), NO_CHANGE);
                assert_eq!(inverse(inverse(there)), there);
            }
        }
    }

    #[test]
    fn either_zero_that_comes_in_becomes_the_one_that_summing_gives() {
        // The words sum to 0xffff, so 0 and 0xffff in the checksum's place both verify.
        for checksum in [0x0000, 0xffff] {
            assert_eq!(of(&[0x1234, 0xedcb, checksum]).fold(), VALID);
            let same = delta(of(&[0x1234]), of(&[0x1234]));
            assert_eq!(update(checksum, of(&[same])), of(&[0x1234, 0xedcb]).checksum());
            let other = delta(of(&[0x1234]), of(&[0x0001]));
            assert_eq!(update(checksum, of(&[other])), of(&[0x0001, 0xedcb]).checksum());
        }
    }

    #[test]
    fn data_that_becomes_all_zeros_needs_the_nonzero_form() {
        let checksum = of(&[0x4711]).checksum();
        let updated = update(checksum, of(&[delta(of(&[0x4711]), of(&[0]))]));
        assert_ne!(of(&[0, updated]).fold(), VALID);
        assert_eq!(of(&[0, nonzero(updated)]).fold(), VALID);
        // And it does no harm to other data.
        assert_eq!(of(&[0x1234, 0xedcb, nonzero(0)]).fold(), VALID);
    }

    /// Words that sit at the corners of one's complement as often as anywhere else.
    fn word() -> impl Strategy<Value = u16> {
        prop_oneof![Just(0), Just(1), Just(0xfffe), Just(0xffff), any::<u16>()]
    }

    proptest! {
        #[test]
        fn summing_is_by_the_book(bytes in proptest::collection::vec(any::<u8>(), 0..70)) {
            prop_assert_eq!(Sum::default().add_bytes(&bytes).checksum(), by_the_book(&bytes));
        }

        #[test]
        fn updating_is_summing_again(
            kept in proptest::collection::vec(word(), 1..6),
            old in proptest::collection::vec(word(), 1..4),
            new in proptest::collection::vec(word(), 1..4),
        ) {
            let whole = |words: &[u16]| of(&kept).add_u32(of(words).fold().into());
            prop_assume!(whole(&new).fold() != 0);
            let there = delta(of(&old), of(&new));
            let updated = update(whole(&old).checksum(), of(&[there]));
            prop_assert_eq!(updated, whole(&new).checksum());
            let back = update(updated, of(&[inverse(there)]));
            prop_assume!(whole(&old).fold() != 0);
            prop_assert_eq!(back, whole(&old).checksum());
        }
    }
}
