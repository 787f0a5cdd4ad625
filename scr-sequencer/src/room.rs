//! What a live sequencer writes beside a packet: its number, its time and its history, in the
//! private area of the packet's buffer.
//!
//! The frame stays as it was received, and headroom as it was; no record is ever on a wire. All
//! numbers are little-endian, and nothing is aligned:
//!
//! | bytes | what |
//! |---|---|
//! | 0–7 | the packet's number |
//! | 8–15 | its moment, nanoseconds |
//! | 16–19 | the epoch: how often cores had joined or left by then |
//! | 20–21 | how many records follow |
//! | 22 | bytes of a record |
//! | 23 | the side where the packet arrived: 0 inside, 1 outside |
//! | 24– | the records, oldest first, the last of them that of the packet before this one |
//!
//! A frame that no state depends on, such as ARP, has no number and no history: it is marked by the
//! number 0 with 65535 records, and 2 is added to its side if it is a copy for a core to learn from.

use krono_core::packet::Side;
use krono_core::time::Moment;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Shipped;
use crate::history::{Carried, History};

/// Bytes before the records.
pub const HEADER_BYTES: usize = size_of::<Raw>();

/// DPDK wants private areas in multiples of so many bytes (`RTE_MBUF_PRIV_ALIGN`).
const MULTIPLE: usize = 8;

/// The largest private area of a buffer: DPDK counts its bytes in 16 bits.
pub const ROOM_MAX: usize = u16::MAX as usize / MULTIPLE * MULTIPLE;

/// What is known of a packet besides its history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its number, from 1.
    pub sequence: u64,
    /// When the sequencer saw it.
    pub moment: Moment,
    /// How often cores had joined or left by then.
    pub epoch: u32,
    /// Where it arrived.
    pub side: Side,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    sequence: U64,
    moment_ns: U64,
    epoch: U32,
    records: U16,
    record_bytes: u8,
    side: u8,
}

const _: () = assert!(HEADER_BYTES == 24);

/// Histories would not fit the private area.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a history of {records} records of {record_bytes} bytes takes {needed} bytes beside a packet, \
     and there are {room}"
)]
pub struct NoRoom {
    /// Records of the longest history.
    pub records: usize,
    /// Bytes of each.
    pub record_bytes: usize,
    /// Bytes that these and the header take, in multiples of 8.
    pub needed: usize,
    /// Bytes that there are.
    pub room: usize,
}

/// Why there is nothing to be read: nobody wrote it, or somebody with records of another size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It ends before its header or its records do.
    #[error("the private area of the buffer ends within the history")]
    TooShort,
    /// The records are not those of the program.
    #[error("the history has records of {0} bytes, which are not those of the program")]
    OtherRecords(u8),
    /// The header says what no sequencer says.
    #[error("the private area of the buffer holds no history")]
    NotWritten,
}

/// Bytes of a private area in which histories of `records` records fit, a multiple of 8.
pub const fn bytes_needed<R: Shipped>(records: usize) -> usize {
    let bytes = records.saturating_mul(R::BYTES).saturating_add(HEADER_BYTES);
    match bytes.checked_next_multiple_of(MULTIPLE) {
        Some(bytes) => bytes,
        None => usize::MAX,
    }
}

/// Checks at start that histories of up to `records` records fit private areas of `room` bytes.
///
/// # Errors
/// If they do not, with the numbers.
pub const fn check<R: Shipped>(records: usize, room: usize) -> Result<(), NoRoom> {
    let needed = bytes_needed::<R>(records);
    // Where 64 KiB suffice, so do the header's 16 bits for the number of records.
    let room = if room < ROOM_MAX { room } else { ROOM_MAX };
    if needed <= room && R::BYTES <= u8::MAX as usize && records <= u16::MAX as usize {
        return Ok(());
    }
    Err(NoRoom { records, record_bytes: R::BYTES, needed, room })
}

/// Writes a header and a history.
///
/// # Panics
/// If they do not fit, which [`check`] rules out at start.
#[inline]
pub fn write<R: Shipped>(room: &mut [u8], header: &Header, history: &[R]) {
    let (raw, records) = room.split_at_mut(HEADER_BYTES);
    let raw = Raw::mut_from_bytes(raw).expect("it was split there");
    raw.sequence = header.sequence.into();
    raw.moment_ns = header.moment.0.into();
    raw.epoch = header.epoch.into();
    raw.records = (history.len() as u16).into();
    raw.record_bytes = const { R::BYTES as u8 };
    raw.side = header.side as u8;
    let bytes = history.as_bytes();
    records[..bytes.len()].copy_from_slice(bytes);
}

/// The number of records that marks a frame without a number.
const UNNUMBERED: u16 = u16::MAX;

/// Marks a frame that has no number, which arrived at `side`; a copy is to be learnt from only.
///
/// # Panics
/// If there is no room for a header.
pub fn write_unnumbered(room: &mut [u8], side: Side, is_copy: bool) {
    let (raw, _) = Raw::mut_from_prefix(room).expect("room for a header is checked at start");
    let side = side as u8 + 2 * u8::from(is_copy);
    *raw = Raw { records: UNNUMBERED.into(), side, ..Raw::new_zeroed() };
}

/// The side that a frame without a number arrived at, and whether it is a copy; `None` for all
/// others.
#[inline]
pub fn unnumbered(room: &[u8]) -> Option<(Side, bool)> {
    let (raw, _) = Raw::ref_from_prefix(room).ok()?;
    if raw.records.get() != UNNUMBERED || raw.sequence.get() != 0 {
        return None;
    }
    Some((*Side::BOTH.get(usize::from(raw.side & 1))?, raw.side & 2 != 0))
}

/// Reads what [`write`] wrote; the records are not copied.
///
/// # Errors
/// If it was not written, or for a program with other records.
#[inline]
pub fn read<R: Shipped>(room: &[u8]) -> Result<(Header, Carried<'_, R>), Unreadable> {
    let (raw, records) = Raw::ref_from_prefix(room).map_err(|_| Unreadable::TooShort)?;
    if usize::from(raw.record_bytes) != R::BYTES {
        return Err(Unreadable::OtherRecords(raw.record_bytes));
    }
    let count = usize::from(raw.records.get());
    let (history, _) =
        <[R]>::ref_from_prefix_with_elems(records, count).map_err(|_| Unreadable::TooShort)?;
    let side = *Side::BOTH.get(usize::from(raw.side)).ok_or(Unreadable::NotWritten)?;
    let (sequence, moment) = (raw.sequence.get(), Moment(raw.moment_ns.get()));
    if sequence <= count as u64 {
        return Err(Unreadable::NotWritten);
    }
    let header = Header { sequence, moment, epoch: raw.epoch.get(), side };
    Ok((header, Carried { sequence, moment, history: History::new(history) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Record = [u8; 30];

    const HEADER: Header = Header {
        sequence: 0x0102_0304_0506_0708,
        moment: Moment(0x1112_1314_1516_1718),
        epoch: 0x2122_2324,
        side: Side::Outside,
    };

    fn records(count: u8) -> Vec<Record> {
        (1..=count).map(|record| [record; 30]).collect()
    }

    #[test]
    fn what_was_written_is_read() {
        for count in 0..=13 {
            let history = records(count);
            let mut room = vec![0xee; bytes_needed::<Record>(13)];
            write(&mut room, &HEADER, &history);
            let (header, carried) = read::<Record>(&room).unwrap();
            assert_eq!(header, HEADER);
            assert_eq!((carried.sequence, carried.moment), (HEADER.sequence, HEADER.moment));
            assert_eq!(carried.history, History::new(&history));
        }
    }

    #[test]
    fn the_layout_is_as_documented() {
        let mut room = [0xee; 24 + 4 + 1];
        write(&mut room, &HEADER, &[[0xaa_u8, 0xab], [0xac, 0xad]]);
        let expected = [
            &[8, 7, 6, 5, 4, 3, 2, 1][..],
            &[0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11],
            &[0x24, 0x23, 0x22, 0x21, 2, 0, 2, 1],
            &[0xaa, 0xab, 0xac, 0xad, 0xee],
        ];
        assert_eq!(room[..], expected.concat());
    }

    #[test]
    fn the_room_is_checked_with_numbers() {
        assert_eq!(bytes_needed::<Record>(13), 416);
        assert_eq!(check::<Record>(13, 416), Ok(()));
        let error = check::<Record>(13, 408).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a history of 13 records of 30 bytes takes 416 bytes beside a packet, and there are 408"
        );
        // What a buffer cannot have does not help.
        assert!(check::<[u8; 8]>(8187, usize::MAX).is_ok());
        assert_eq!(check::<[u8; 8]>(8189, usize::MAX).unwrap_err().room, ROOM_MAX);
        assert!(check::<[u8; 8]>(usize::MAX, usize::MAX).is_err());
        assert!(check::<[[u8; 30]; 9]>(1, 1000).is_err());
    }

    #[test]
    fn frames_without_a_number_are_told_from_all_others() {
        let mut room = [0xee; 24];
        for (side, is_copy) in
            [(Side::Inside, false), (Side::Outside, false), (Side::Outside, true)]
        {
            write_unnumbered(&mut room, side, is_copy);
            assert_eq!(unnumbered(&room), Some((side, is_copy)));
            assert!(read::<Record>(&room).is_err());
        }
        write(&mut room, &HEADER, &[] as &[Record]);
        assert_eq!(unnumbered(&room), None);
        assert_eq!(unnumbered(&[0; 24]), None);
        assert_eq!(unnumbered(&[0; 23]), None);
    }

    #[test]
    fn what_nobody_wrote_is_not_read() {
        let mut room = [0; 24 + 60];
        assert_eq!(read::<Record>(&room).unwrap_err(), Unreadable::OtherRecords(0));
        write(&mut room, &HEADER, &records(2));
        assert_eq!(read::<Record>(&room[..83]).unwrap_err(), Unreadable::TooShort);
        assert_eq!(read::<Record>(&room[..23]).unwrap_err(), Unreadable::TooShort);
        assert_eq!(read::<[u8; 4]>(&room).unwrap_err(), Unreadable::OtherRecords(30));
        room[23] = 2;
        assert_eq!(read::<Record>(&room).unwrap_err(), Unreadable::NotWritten);
        // Packet 2 has but one before it.
        write(&mut room, &Header { sequence: 2, ..HEADER }, &records(2));
        assert_eq!(read::<Record>(&room).unwrap_err(), Unreadable::NotWritten);
    }
}
