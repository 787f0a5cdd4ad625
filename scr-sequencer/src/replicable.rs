//! What a program must be so that its state can be kept alike on many cores.

use std::fmt::Debug;

use krono_core::program::Program;
use krono_core::time::Ticks;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A record as it travels: bytes of a fixed number, all of which any packet may hold, so that
/// histories are read where they lie.
///
/// The default record is all zeros, as a history that is shorter than its room holds them.
pub trait Shipped:
    Copy + Default + PartialEq + Debug + FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned
{
    /// Bytes of a record.
    const BYTES: usize = size_of::<Self>();
}

impl<R> Shipped for R where
    R: Copy
        + Default
        + PartialEq
        + Debug
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

    /// Becomes what `other` is, which has the same settings. Allocates nothing.
    fn copy_from(&mut self, other: &Self);

    /// A number of 64 bits over all state that may decide about a packet to come: equal states have
    /// equal digests, and different ones almost never.
    fn digest(&self) -> u64;
}
