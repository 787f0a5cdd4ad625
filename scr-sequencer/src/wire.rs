//! Packets that arrive sequenced: a NIC or a switch has put number and history in front of them.
//!
//! Two layouts are known, both behind an Ethernet header that says nothing but where the frame is
//! to go, so that a plain NIC takes it and steers it to the queue of a core by its addresses:
//!
//! ```text
//! ring    Ethernet 14 | number 4 | moment 8 | N − 1 records, as a ring holds them | oldest 1 | frame
//! shift   Ethernet 14 | number 4 | moment 8 | N − 1 records, oldest first                    | frame
//! ```
//!
//! Hardware writes the *ring*: it overwrites one record and moves one index, the place of the oldest
//! record, from 0. The *shift* layout is that of the published experiments. Number (the lower 32
//! bits, packet 1 being the first) and moment (nanoseconds) are each there or not; both are
//! little-endian. Records of packets before the first are zeros. A frame may be padded behind.
//!
//! Without numbers a core counts its packets, as the sprayer does: its first is that of its place
//! among the cores, and each further one N later. Then a lost packet is not noticed, and the state
//! is wrong for good. Without moments all packets have the moment 0.

use std::marker::PhantomData;

use krono_core::drop::DropReason;
use krono_core::packet::Mac;
use krono_core::time::Moment;
use zerocopy::FromBytes;

use crate::Shipped;
use crate::history::{Carried, History};

/// Bytes of the Ethernet header in front.
pub const LINK_BYTES: usize = 14;

const SEQUENCE_BYTES: usize = 4;
const MOMENT_BYTES: usize = 8;

/// The most cores that packets are sprayed over: the place of the oldest record is one byte.
pub const CORES_MAX: usize = 1 + u8::MAX as usize;

/// The largest header, bytes: offsets in frames have 16 bits.
pub const HEADER_MAX: usize = u16::MAX as usize;

/// EtherType of the header in front: "local experimental" (IEEE 802, 9.2.4), so that no NIC takes
/// what follows for IP. Not looked at in frames that arrive; the published experiments have 0x0800.
const ETHERTYPE: [u8; 2] = 0x88b5_u16.to_be_bytes();

/// The order of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// As a ring holds them, with the place of the oldest behind.
    Ring,
    /// Oldest first.
    Shift,
}

/// What is in front of the frames of a group, see the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// The order of records.
    pub variant: Variant,
    /// Over how many cores packets are sprayed: there is one record less.
    pub cores: usize,
    /// Whether there is the packet's number.
    pub sequence: bool,
    /// Whether there is its moment.
    pub moment: bool,
    /// Bytes that each sequenced frame has at least.
    pub padding: Option<u16>,
}

/// Why frames cannot have a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// There are to be none or too many cores.
    #[error("packets cannot be sprayed over {0} cores in-band, but over 1 to {CORES_MAX}")]
    Cores(usize),
    /// The header would be too long.
    #[error(
        "{records} records of {record_bytes} bytes make a header of {header} bytes, more than \
         {HEADER_MAX}"
    )]
    Header {
        /// Records in each packet.
        records: usize,
        /// Bytes of each.
        record_bytes: usize,
        /// Bytes of the header.
        header: usize,
    },
}

/// Reads and writes what is in front of frames, for programs with records `R`.
#[derive(Clone, Copy, Debug)]
pub struct Codec<R> {
    format: Format,
    /// Where the records begin, bytes from the frame's start, and how many there are.
    records_at: usize,
    slots: usize,
    header_len: usize,
    records: PhantomData<R>,
}

impl<R: Shipped> Codec<R> {
    /// The codec of a format.
    ///
    /// # Errors
    /// If frames cannot have it.
    pub const fn new(format: Format) -> Result<Self, Unfit> {
        if format.cores == 0 || format.cores > CORES_MAX {
            return Err(Unfit::Cores(format.cores));
        }
        let slots = format.cores - 1;
        let sequence = if format.sequence { SEQUENCE_BYTES } else { 0 };
        let moment = if format.moment { MOMENT_BYTES } else { 0 };
        let index = if matches!(format.variant, Variant::Ring) { 1 } else { 0 };
        let records_at = LINK_BYTES + sequence + moment;
        let header_len = (records_at + index).saturating_add(slots.saturating_mul(R::BYTES));
        if header_len > HEADER_MAX {
            let record_bytes = R::BYTES;
            return Err(Unfit::Header { records: slots, record_bytes, header: header_len });
        }
        Ok(Codec { format, records_at, slots, header_len, records: PhantomData })
    }

    /// The format.
    pub const fn format(&self) -> &Format {
        &self.format
    }

    /// Where in a sequenced frame the original one begins, bytes.
    #[inline]
    pub const fn header_len(&self) -> usize {
        self.header_len
    }

    /// How many bytes of padding belong behind an original frame of `len` bytes.
    pub fn padding(&self, len: usize) -> usize {
        usize::from(self.format.padding.unwrap_or(0)).saturating_sub(self.header_len + len)
    }

    /// The number that a core's first packet has: cores take turns, from core 0 on.
    pub const fn first(&self, core: usize) -> u64 {
        core as u64 + 1
    }

    /// The number of a core's packet behind that with the number `sequence`, if none is lost.
    #[inline]
    pub const fn following(&self, sequence: u64) -> u64 {
        sequence + self.format.cores as u64
    }

    /// Reads what is in front of the original frame, which begins at [`Codec::header_len`]. `bytes`
    /// is the frame's first segment, and `expected` the number that the packet has if none was lost:
    /// its own number is the nearest to that with the bits that it carries. Records are not copied.
    ///
    /// # Errors
    /// [`DropReason::ScrHeaderBad`] if the segment ends before the original frame begins, or the
    /// header says what no sequencer writes: a number below 1, or an oldest record that is not there.
    #[inline]
    pub fn decode<'a>(&self, bytes: &'a [u8], expected: u64) -> Result<Carried<'a, R>, DropReason> {
        let header = bytes.get(..self.header_len).ok_or(DropReason::ScrHeaderBad)?;
        let (numbers, records) = header.split_at(self.records_at);
        let sequence = match &numbers[LINK_BYTES..] {
            [a, b, c, d, ..] if self.format.sequence => {
                let carried = u32::from_le_bytes([*a, *b, *c, *d]);
                nearest(carried, expected).ok_or(DropReason::ScrHeaderBad)?
            }
            _ => expected.max(1),
        };
        let moment = match numbers.last_chunk() {
            Some(bytes) if self.format.moment => Moment(u64::from_le_bytes(*bytes)),
            _ => Moment::default(),
        };
        let (records, index) = <[R]>::ref_from_prefix_with_elems(records, self.slots)
            .map_err(|_| DropReason::ScrHeaderBad)?;
        let oldest = index.first().map_or(0, |index| usize::from(*index));
        // Of no records the oldest is at 0.
        if oldest >= self.slots.max(1) {
            return Err(DropReason::ScrHeaderBad);
        }
        let (newer, older) = records.split_at(oldest);
        let history = History { older, newer }.newest(self.history_len(sequence));
        Ok(Carried { sequence, moment, history })
    }

    /// How many records the packet with this number carries that are those of packets.
    #[inline]
    fn history_len(&self, sequence: u64) -> usize {
        usize::try_from(sequence - 1).unwrap_or(usize::MAX).min(self.slots)
    }

    /// Writes what belongs in front of a frame into `header`, with `link` foremost.
    ///
    /// # Panics
    /// If `header` has not [`Codec::header_len`] bytes, or the history is not that of one of the
    /// packets that are sprayed in turn: N − 1 records, or all that there are before it.
    pub fn encode(&self, link: &[u8; LINK_BYTES], carried: &Carried<'_, R>, header: &mut [u8]) {
        let Carried { sequence, moment, history } = *carried;
        assert_eq!(history.len(), self.history_len(sequence), "packet {sequence}");
        assert_eq!(header.len(), self.header_len, "the header's length");
        let (numbers, behind) = header.split_at_mut(self.records_at);
        numbers[..LINK_BYTES].copy_from_slice(link);
        if self.format.sequence {
            let bytes = (sequence as u32).to_le_bytes();
            numbers[LINK_BYTES..][..SEQUENCE_BYTES].copy_from_slice(&bytes);
        }
        if self.format.moment {
            let at = self.records_at - MOMENT_BYTES;
            numbers[at..].copy_from_slice(&moment.0.to_le_bytes());
        }
        let (records, index) = <[R]>::mut_from_prefix_with_elems(behind, self.slots)
            .expect("the header has room for all records");
        records.fill(R::default());
        let oldest = self.oldest(sequence);
        let unused = self.slots - history.len();
        for (place, record) in (oldest + unused..).zip(history.iter()) {
            records[place % self.slots] = *record;
        }
        index.fill(oldest as u8);
    }

    /// Where the oldest record is in what this packet carries: packet 1 has its record at place 0.
    fn oldest(&self, sequence: u64) -> usize {
        match self.format.variant {
            Variant::Ring if self.slots > 0 => ((sequence - 1) % self.slots as u64) as usize,
            _ => 0,
        }
    }
}

/// The number nearest to `expected` that has these lower 32 bits; `None` if that is below 1.
#[inline]
pub fn nearest(lower: u32, expected: u64) -> Option<u64> {
    let ahead = i64::from(lower.wrapping_sub(expected as u32) as i32);
    expected.checked_add_signed(ahead).filter(|sequence| *sequence > 0)
}

/// An Ethernet header that says no more than where a frame is to go.
pub fn link(to: Mac, from: Mac) -> [u8; LINK_BYTES] {
    let mut link = [0; LINK_BYTES];
    link[..6].copy_from_slice(&to.0);
    link[6..12].copy_from_slice(&from.0);
    link[12..].copy_from_slice(&ETHERTYPE);
    link
}

/// The address by which the published experiments have a NIC steer to a core.
pub const fn steering_mac(core: u8) -> Mac {
    Mac([0x10, 0x10, 0x10, 0x10, 0x10, core])
}
