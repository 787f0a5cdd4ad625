//! The stamp in every payload: whose packet it is, which one, and when it was sent.

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

/// What a stamp says, as two numbers: what its digest is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The flow's number in its share in the lower half; above it the sequence.
    number: u64,
    /// When it was sent, in units of 8 ns, modulo 2^32; the share that the flow belongs to (bits
    /// 32 to 39); the generation's low bits (40 to 46) and the direction (47). Above it nothing.
    facts: u64,
}

/// How many bits of a stamp's second number are in use, and lie before the digest in a packet.
const FACTS_BITS: u32 = 48;

/// Where the digest lies, bytes.
const DIGEST: usize = 8 + FACTS_BITS as usize / 8;

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
        let origin = u64::from(origin(share, way, generation));
        Stamp {
            number: u64::from(sequence) << 32 | u64::from(flow),
            facts: origin << 32 | u64::from(time_of(now_ns)),
        }
    }

    /// The flow's number in its share.
    #[inline]
    pub(super) fn flow(self) -> u32 {
        self.number as u32
    }

    /// Counts the packets of the flow and direction, and wraps.
    #[inline]
    pub(super) fn sequence(self) -> u32 {
        (self.number >> 32) as u32
    }

    /// The share that the flow belongs to.
    #[inline]
    pub(super) fn share(self) -> u8 {
        (self.facts >> 32) as u8
    }

    #[inline]
    fn way_generation(self) -> u8 {
        (self.facts >> 40) as u8
    }

    /// The direction that the packet was sent in.
    #[inline]
    pub(super) fn way(self) -> Way {
        if self.way_generation() >> GENERATION_BITS == 0 { Way::Up } else { Way::Down }
    }

    /// The generation that is meant, if the flow is in `current` now: that or one before.
    #[inline]
    pub(super) fn generation(self, current: u16) -> u16 {
        let age = generation_bits(current).wrapping_sub(self.way_generation());
        current.wrapping_sub(u16::from(generation_bits(age.into())))
    }

    /// The keyed digest of the stamp, the flow's whole generation, the length of the payload, and
    /// what no translator may change this `way` of the packet's `pair`, so that a receiver need not
    /// know who the flow is to see that the packet is right.
    #[inline]
    pub(super) fn digest(
        self,
        way: Way,
        generation: u16,
        payload_len: u16,
        protocol: Protocol,
        pair: Pair,
        key: &HashKey,
    ) -> u32 {
        let facts = u64::from(payload_len) << FACTS_BITS | self.facts;
        let Pair { addresses, ports } = pair.kept(way);
        let rest = u64::from(generation) << 48 | (protocol as u64) << 32 | u64::from(ports);
        key.digest([self.number, facts, addresses, rest])
    }

    /// The stamp and its digest as three words to be summed up, as they would be loaded.
    #[inline]
    pub(super) fn words(self, digest: u32) -> [u64; 3] {
        [self.number.to_le(), self.facts.to_le(), digest.to_le().into()]
    }

    /// Writes the stamp, little-endian, as most machines have it, and its digest.
    #[inline]
    pub(super) fn put(self, digest: u32, at: &mut [u8; STAMP_LEN]) {
        at[..8].copy_from_slice(&self.number.to_le_bytes());
        at[8..16].copy_from_slice(&self.facts.to_le_bytes());
        at[DIGEST..].copy_from_slice(&digest.to_le_bytes());
    }

    /// Reads a stamp and its digest.
    #[inline]
    pub(super) fn read(at: &[u8; STAMP_LEN]) -> (Stamp, u32) {
        let word = |from: usize| u64::from_le_bytes(std::array::from_fn(|n| at[from + n]));
        let facts = word(8) & ((1 << FACTS_BITS) - 1);
        let digest = u32::from_le_bytes(std::array::from_fn(|n| at[DIGEST + n]));
        (Stamp { number: word(0), facts }, digest)
    }

    /// Whether this is what a packet of a share's flow says in that direction and generation.
    #[inline]
    pub(super) fn is_of(self, share: u8, way: Way, generation: u16) -> bool {
        (self.facts >> 32) as u16 == origin(share, way, generation)
    }

    /// How long the packet took if it arrives at `now_ns`, in units of 8 ns; 0 if it was sent
    /// later than that by the clock of another lcore.
    #[inline]
    pub(super) fn age(self, now_ns: u64) -> u32 {
        let age = time_of(now_ns).wrapping_sub(self.facts as u32);
        if age > i32::MAX as u32 { 0 } else { age }
    }
}

/// The share, and the direction and generation as a stamp has them.
#[inline]
fn origin(share: u8, way: Way, generation: u16) -> u16 {
    let way_generation = (way as u8) << GENERATION_BITS | generation_bits(generation);
    u16::from(way_generation) << 8 | u16::from(share)
}

#[inline]
fn time_of(now_ns: u64) -> u32 {
    (now_ns >> TIME_SHIFT) as u32
}

#[inline]
fn generation_bits(generation: u16) -> u8 {
    generation as u8 & ((1 << GENERATION_BITS) - 1)
}
