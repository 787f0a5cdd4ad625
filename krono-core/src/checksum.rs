//! The Internet checksum: whole (RFC 1071) and incremental (RFC 1624).
//!
//! One's complement has two zeros, 0x0000 and 0xffff, and that is where incremental updates go
//! wrong. Here a [`Delta`] is never 0x0000: "nothing changed" is 0xffff. An updated checksum is
//! then the very one that summing again would give, whichever zero came in, unless the data is all
//! zeros: its own checksum is 0xffff, and the update says 0. Only an ICMP echo reply can be all
//! zeros; see [`nonzero`].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A one's complement sum under way, of 16-bit words in network byte order.
///
/// Inside, words stand as the machine loads them: a sum of words with their bytes swapped is the
/// swapped sum (RFC 1071, 2 B), so swapping the result is enough, and often cancels out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

/// The folded sum of data with a correct checksum in it (RFC 1071, 1).
pub const VALID: u16 = 0xffff;

impl Sum {
    /// Of no words.
    pub const ZERO: Sum = Sum(0);

    /// Adds the words of another sum.
    #[inline]
    #[allow(clippy::should_implement_trait)]
    pub const fn add(self, other: Sum) -> Sum {
        Sum(self.0 + other.0)
    }

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

    /// Adds four words given as one number.
    #[inline]
    pub const fn add_u64(self, words: u64) -> Sum {
        let words = words.to_be();
        Sum(self.0 + (words >> 32) + (words & 0xffff_ffff))
    }

    /// Of words of 64 bits as they are loaded from memory, or are stored there. It may be so large
    /// that nothing more can be added to it.
    #[inline]
    pub const fn of_loaded<const N: usize>(words: [u64; N]) -> Sum {
        let (mut sum, mut at) = (0, 0);
        while at < N {
            // 2^64 is 1 in one's complement.
            let (low, carry) = u64::overflowing_add(sum, words[at]);
            sum = low + carry as u64;
            at += 1;
        }
        Sum(sum)
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
        u16::from_be(self.fold_as_loaded())
    }

    #[inline]
    const fn fold_as_loaded(self) -> u16 {
        // A number and itself with its halves swapped: the carry out of the lower half is the one
        // that the upper half wants.
        let sum = (self.0.wrapping_add(self.0.rotate_left(32)) >> 32) as u32;
        (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
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

/// One's complement addition; 0 only if both are.
#[inline]
const fn add(one: u16, other: u16) -> u16 {
    let (sum, carry) = one.overflowing_add(other);
    sum + carry as u16
}

/// What a sum gains when some of its words are replaced: `~m + m'` of RFC 1624, never 0 (but in
/// memory that was cleared, where it means nothing). It stands as the machine loads words, so that a
/// checksum is updated where it lies.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct Delta(u16);

impl Delta {
    /// That of a replacement which leaves the sum as it is.
    pub const NONE: Delta = Delta(0xffff);

    /// That of the replacement of words summing to `old` by words summing to `new`.
    #[inline]
    pub const fn between(old: Sum, new: Sum) -> Delta {
        Delta::NONE.and(Delta(!old.fold_as_loaded())).and(Delta(new.fold_as_loaded()))
    }

    /// That of both replacements.
    #[inline]
    pub const fn and(self, other: Delta) -> Delta {
        Delta(add(self.0, other.0))
    }

    /// That of the opposite replacement.
    #[inline]
    pub const fn inverse(self) -> Delta {
        if self.0 == Delta::NONE.0 { Delta::NONE } else { Delta(!self.0) }
    }

    /// The checksum, as it stands in a packet, after the replacement: `HC' = HC - ~m - m'`, eqn. 4
    /// of RFC 1624, in one's complement.
    #[inline]
    pub const fn update(self, checksum: [u8; 2]) -> [u8; 2] {
        let (difference, borrow) = u16::from_ne_bytes(checksum).overflowing_sub(self.0);
        (difference - borrow as u16).to_ne_bytes()
    }
}

/// The same checksum, as it stands in a packet, in the form that is never 0.
///
/// UDP needs it, where 0 says that there is no checksum (RFC 768), and so does data that may be
/// all zeros: 0xffff is right for that, and verifies wherever 0 does.
#[inline]
pub const fn nonzero(checksum: [u8; 2]) -> [u8; 2] {
    let sum = u16::from_ne_bytes(checksum);
    sum.wrapping_sub((sum == 0) as u16).to_ne_bytes()
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

    fn update(checksum: u16, delta: Delta) -> u16 {
        u16::from_be_bytes(delta.update(checksum.to_be_bytes()))
    }

    #[test]
    fn wide_numbers_are_the_words_in_them() {
        let words = of(&[0x0102, 0xfffe, 0x8000, 0x7fff]);
        assert_eq!(Sum::default().add_u64(0x0102_fffe_8000_7fff).fold(), words.fold());
        assert_eq!(Sum::default().add_u32(0x0102_fffe).add_u32(0x8000_7fff).fold(), words.fold());
    }

    #[test]
    fn loaded_words_are_the_bytes_that_they_were_loaded_from() {
        let all = u64::MAX;
        for words in [[0, 0, 0], [1, 2, 3], [all, 1, 0], [all, all, all], [all - 1, 1, 1 << 63]] {
            let bytes = words.map(u64::to_ne_bytes).concat();
            let (loaded, summed) = (Sum::of_loaded(words), Sum::default().add_bytes(&bytes));
            assert_eq!(loaded.fold(), summed.fold(), "{words:x?}");
            assert_eq!(loaded.is_valid(), summed.is_valid(), "{words:x?}");
        }
    }

    #[test]
    fn the_examples_of_the_rfcs() {
        // RFC 1071, 3.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::default().add_bytes(&bytes).fold(), 0xddf2);
        // RFC 1624, 4: with eqn. 2 of RFC 1141 this becomes 0xffff.
        assert_eq!(update(0xdd2f, Delta::between(of(&[0x5555]), of(&[0x3285]))), 0x0000);
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
                let there = Delta::between(of(&[word]), of(&[other]));
                assert_ne!(there.0, 0);
                assert_ne!(there.inverse().0, 0);
                assert_eq!(there.and(there.inverse()), Delta::NONE);
                assert_eq!(there.inverse().inverse(), there);
            }
        }
    }

    #[test]
    fn either_zero_that_comes_in_becomes_the_one_that_summing_gives() {
        // The words sum to 0xffff, so 0 and 0xffff in the checksum's place both verify.
        for checksum in [0x0000, 0xffff] {
            assert_eq!(of(&[0x1234, 0xedcb, checksum]).fold(), VALID);
            let same = Delta::between(of(&[0x1234]), of(&[0x1234]));
            assert_eq!(update(checksum, same), of(&[0x1234, 0xedcb]).checksum());
            let other = Delta::between(of(&[0x1234]), of(&[0x0001]));
            assert_eq!(update(checksum, other), of(&[0x0001, 0xedcb]).checksum());
        }
    }

    #[test]
    fn data_that_becomes_all_zeros_needs_the_nonzero_form() {
        let checksum = of(&[0x4711]).checksum();
        let updated = update(checksum, Delta::between(of(&[0x4711]), of(&[0])));
        assert_ne!(of(&[0, updated]).fold(), VALID);
        let nonzero = |checksum: u16| u16::from_be_bytes(nonzero(checksum.to_be_bytes()));
        assert_eq!(of(&[0, nonzero(updated)]).fold(), VALID);
        // And it does no harm to other data.
        assert_eq!(of(&[0x1234, 0xedcb, nonzero(0)]).fold(), VALID);
        assert_eq!(nonzero(0x1200), 0x1200);
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
            let there = Delta::between(of(&old), of(&new));
            let updated = update(whole(&old).checksum(), there);
            prop_assert_eq!(updated, whole(&new).checksum());
            let back = update(updated, there.inverse());
            prop_assume!(whole(&old).fold() != 0);
            prop_assert_eq!(back, whole(&old).checksum());
        }
    }
}
