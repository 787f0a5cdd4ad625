//! What a program must be so that its state can be kept alike on many cores.

use std::fmt::Debug;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::program::Program;
use crate::time::Ticks;

/// A record as it travels: bytes of a fixed number, all of which any packet may hold, so that
/// histories are read where they lie.
///
/// The default record is all zeros, as a history that is shorter than its room holds them.
pub trait Shipped:
    Copy
    + Default
    + PartialEq
    + Debug
    + Send
    + Sync
    + FromBytes
    + IntoBytes
    + Immutable
    + KnownLayout
    + Unaligned
{
    /// Bytes of a record.
    const BYTES: usize = size_of::<Self>();
}

impl<R> Shipped for R where
    R: Copy
        + Default
        + PartialEq
        + Debug
        + Send
        + Sync
        + FromBytes
        + IntoBytes
        + Immutable
        + KnownLayout
        + Unaligned
{
}

/// A program whose replicas hold the same state after the same records.
///
/// What that takes, besides what [`Program`] asks anyway:
/// * Equal settings, seeds and capacities make equal programs, and a step on equal programs with
///   the same record makes equal programs again, whatever the probe.
/// * The default record, all zeros, changes nothing: it stands for a packet that has a number and
///   nothing else, because it could not be parsed.
/// * Nobody but the runner calls [`Program::tick`], which the runner does behind records that are
///   the same ones for all replicas ([`Replicable::time`]).
pub trait Replicable: Program<Record: Shipped> {
    /// The name in configuration and on screen.
    const NAME: &'static str;

    /// When the packet of a record came, for a program that has ticks. The runner lets time pass to
    /// here before it steps on the record.
    #[inline]
    fn time(_record: &Self::Record) -> Option<Ticks> {
        None
    }

    /// Steps on a record whose packet another core has, for the state alone: as [`Program::step`]
    /// leaves it. For a program whose verdict takes work of its own.
    #[inline(always)]
    fn follow(&mut self, record: &Self::Record, probe: &Self::Probe) {
        self.step(record, probe, &mut ());
    }

    /// Becomes what `other` is, which has the same settings. Allocates nothing.
    fn copy_from(&mut self, other: &Self);

    /// A number of 64 bits over all state that may decide about a packet to come: equal states have
    /// equal digests, and different ones almost never.
    fn digest(&self) -> u64;
}

/// Digests state word by word: equal sequences of words have equal digests.
///
/// It tells apart what went different ways by mistake, and resists nobody who wants it to fail.
#[derive(Clone, Copy, Debug, Default)]
pub struct Digest(u64);

impl Digest {
    /// Adds a number.
    #[inline]
    pub fn add(&mut self, word: u64) {
        let mixed = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 29;
    }

    /// Adds values as the bytes that they are.
    pub fn add_all<T: IntoBytes + Immutable>(&mut self, values: &[T]) {
        let (words, rest) = values.as_bytes().as_chunks();
        words.iter().for_each(|word| self.add(u64::from_le_bytes(*word)));
        rest.iter().for_each(|byte| self.add(u64::from(*byte)));
    }

    /// The digest of what was added.
    pub fn finish(self) -> u64 {
        self.0
    }
}
