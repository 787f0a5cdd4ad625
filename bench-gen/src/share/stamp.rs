//! The stamp in every payload: whose packet it is, which one, and when it was sent.

use krono_core::checksum::Sum;
use krono_core::hash::HashKey;
use krono_core::packet::Protocol;

use super::identity::Pair;
use crate::bench::Way;

/// What a stamp takes, bytes: all the payload that UDP has in a 64-byte frame.
pub(super) const STAMP_LEN: usize = 18;

/// Nanoseconds in a unit of a stamp's time, as a shift: 8 ns, so that 32 bits wrap after 34 s.
pub(super) const TIME_SHIFT: u32 = 3;

/// How many bits of a flow's generation a stamp holds.
const GENERATION_BITS: u32 = 7;

/// What a stamp says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The flow's number in its share.
    pub flow: u32,
    /// Counts the packets of the flow and direction, and wraps.
    pub sequence: u32,
    /// When it was sent, in units of 8 ns, modulo 2^32.
    pub time: u32,
    /// The share that the flow belongs to.
    pub share: u8,
    /// The direction (bit 7) and the generation's low bits.
    way_generation: u8,
}

impl Stamp {
    /// The stamp of a packet sent at `now_ns`.
    #[inline]
    pub(super) fn new(
        share: u8,
        flow: u32,
        generation: u16,
        way: Way,
        sequence: u32,
        now_ns: u64,
    ) -> Stamp {
        let way_generation = (way as u8) << GENERATION_BITS | generation_bits(generation);
        Stamp { flow, sequence, time: time_of(now_ns), share, way_generation }
    }

    /// The direction that the packet was sent in.
    #[inline]
    pub(super) fn way(self) -> Way {
        if self.way_generation >> GENERATION_BITS == 0 { Way::Up } else { Way::Down }
    }

    /// The generation that is meant, if the flow is in `current` now: that or one before.
    #[inline]
    pub(super) fn generation(self, current: u16) -> u16 {
        let age = generation_bits(current).wrapping_sub(self.way_generation);
        current.wrapping_sub(u16::from(generation_bits(age.into())))
    }

    /// The keyed digest of the stamp, the flow's whole generation, the length of the payload, and
    /// what no translator may change of the packet's `pair`, so that a receiver need not know who
    /// the flow is to see that the packet is right.
    #[inline]
    pub(super) fn digest(
        self,
        generation: u16,
        payload_len: u16,
        protocol: Protocol,
        pair: Pair,
        key: &HashKey,
    ) -> u32 {
        let a = u64::from(self.flow) << 32 | u64::from(self.sequence);
        let b = u64::from(self.time) << 32
            | u64::from(payload_len) << 16
            | u64::from(self.share) << 8
            | u64::from(self.way_generation);
        let Pair { addresses, ports } = pair.kept(self.way());
        let c = u64::from(generation) << 48 | (protocol as u64) << 32 | u64::from(ports);
        (key.hash(key.hash(a, b) ^ addresses, c) >> 32) as u32
    }

    /// Writes the stamp and tells what it adds to a checksum.
    #[inline]
    pub(super) fn put(self, digest: u32, at: &mut [u8; STAMP_LEN]) -> Sum {
        let words = [self.flow, self.sequence, self.time, digest];
        for (at, word) in at.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *at = word.to_be_bytes();
        }
        at[16] = self.share;
        at[17] = self.way_generation;
        let last = u16::from_be_bytes([self.share, self.way_generation]);
        words.iter().fold(Sum::default(), |sum, word| sum.add_u32(*word)).add_u16(last)
    }

    /// Reads a stamp and its digest.
    #[inline]
    pub(super) fn read(at: &[u8; STAMP_LEN]) -> (Stamp, u32) {
        let word = |n: usize| u32::from_be_bytes([at[n], at[n + 1], at[n + 2], at[n + 3]]);
        let stamp = Stamp {
            flow: word(0),
            sequence: word(4),
            time: word(8),
            share: at[16],
            way_generation: at[17],
        };
        (stamp, word(12))
    }

    /// How long the packet took if it arrives at `now_ns`, in units of 8 ns; 0 if it was sent
    /// later than that by the clock of another lcore.
    #[inline]
    pub(super) fn age(self, now_ns: u64) -> u32 {
        let age = time_of(now_ns).wrapping_sub(self.time);
        if age > i32::MAX as u32 { 0 } else { age }
    }
}

#[inline]
fn time_of(now_ns: u64) -> u32 {
    (now_ns >> TIME_SHIFT) as u32
}

#[inline]
fn generation_bits(generation: u16) -> u8 {
    generation as u8 & ((1 << GENERATION_BITS) - 1)
}
