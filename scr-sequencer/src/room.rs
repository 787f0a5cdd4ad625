//! What a live sequencer writes beside a packet: its number, its time and its history, in the
//! private area of the packet's buffer.
//!
//! The frame stays as it was received, and headroom as it was; no record is ever on a wire. All
//! numbers are little-endian, and nothing is aligned:
//!
//! | bits | what |
//! |---|---|
//! | 0–15 | how many records follow |
//! | 16–63 | the lower 48 bits of the packet's number |
//! | 64–125 | its moment, nanoseconds |
//! | 126 | whether it is a copy to be learnt from |
//! | 127 | the side where the packet arrived: 0 inside, 1 outside |
//! | 128– | the records, oldest first, the last of them that of the packet before this one |
//!
//! The header is that short so that it and the records of seven cores, of 8 bytes each, lie in one
//! line: each line beside a packet comes over from the core that had the buffer before, and goes on to
//! the one that gets it.
//!
//! A frame that no state depends on, such as ARP, has no number and no history: it is marked by the
//! number 0 with 65535 records, and may be a copy for a core to learn from.

use krono_core::packet::Side;
use krono_core::time::Moment;
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

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
    /// When the sequencer saw it: less than 2^62 ns, which is in the year 2116 if counted from 1970.
    pub moment: Moment,
    /// Where it arrived.
    pub side: Side,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    /// Records, and above [`RECORDS`] the number.
    numbers: U64,
    /// The moment, [`COPY`] and [`OUTSIDE`].
    moment: U64,
}

const _: () = assert!(HEADER_BYTES == 16);

/// The bits of the number of records, and how many these are.
const RECORDS: u64 = (1 << RECORD_BITS) - 1;
const RECORD_BITS: u32 = 16;

const COPY: u64 = 1 << 62;
const OUTSIDE: u64 = 1 << 63;

impl Raw {
    #[inline]
    fn new(sequence: u64, records: u64, moment: Moment, side: Side) -> Raw {
        let side = if side == Side::Outside { OUTSIDE } else { 0 };
        let numbers = (sequence << RECORD_BITS | records).into();
        Raw { numbers, moment: (moment.0 & (COPY - 1) | side).into() }
    }

    #[inline]
    fn side(&self) -> Side {
        Side::BOTH[(self.moment.get() >> 63) as usize]
    }
}

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

/// Why there is nothing to be read: nobody wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It ends before its header or its records do.
    #[error("the private area of the buffer ends within the history")]
    TooShort,
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
    if needed <= room && R::BYTES <= u8::MAX as usize && (records as u64) < RECORDS {
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
    let Header { sequence, moment, side } = *header;
    raw.copy_from_slice(Raw::new(sequence, history.len() as u64, moment, side).as_bytes());
    copy_short(&mut records[..size_of_val(history)], history.as_bytes());
}

/// Copies bytes, of which there are mostly no more than some hundred, without the call that a copy of
/// unknown length is compiled to: as two pieces of a fixed length, which may overlap.
#[inline(always)]
fn copy_short(to: &mut [u8], from: &[u8]) {
    match from.len() {
        16..32 => copy_ends::<16>(to, from),
        32..64 => copy_ends::<32>(to, from),
        64..128 => copy_ends::<64>(to, from),
        128..=256 => copy_ends::<128>(to, from),
        _ => to.copy_from_slice(from),
    }
}

#[inline(always)]
fn copy_ends<const N: usize>(to: &mut [u8], from: &[u8]) {
    if let (Some(to), Some(from)) = (to.first_chunk_mut::<N>(), from.first_chunk()) {
        *to = *from;
    }
    if let (Some(to), Some(from)) = (to.last_chunk_mut::<N>(), from.last_chunk()) {
        *to = *from;
    }
}

/// The number of records that marks a frame without a number.
const UNNUMBERED: u64 = RECORDS;

/// Marks a frame that has no number, which arrived at `side`; a copy is to be learnt from only.
///
/// # Panics
/// If there is no room for a header.
pub fn write_unnumbered(room: &mut [u8], side: Side, is_copy: bool) {
    let (raw, _) = Raw::mut_from_prefix(room).expect("room for a header is checked at start");
    *raw = Raw::new(0, UNNUMBERED, Moment(0), side);
    raw.moment = (raw.moment.get() | if is_copy { COPY } else { 0 }).into();
}

/// The side that a frame without a number arrived at, and whether it is a copy; `None` for all
/// others.
#[inline]
pub fn unnumbered(room: &[u8]) -> Option<(Side, bool)> {
    let (raw, _) = Raw::ref_from_prefix(room).ok()?;
    if raw.numbers.get() != UNNUMBERED {
        return None;
    }
    Some((raw.side(), raw.moment.get() & COPY != 0))
}

/// Reads what [`write`] wrote, with records of the same kind; they are not copied. The number is the
/// one nearest to `near` of those with the 48 bits that are there.
///
/// # Errors
/// If it was not written.
#[inline]
pub fn read<R: Shipped>(room: &[u8], near: u64) -> Result<(Header, Carried<'_, R>), Unreadable> {
    let (raw, records) = Raw::ref_from_prefix(room).map_err(|_| Unreadable::TooShort)?;
    let count = (raw.numbers.get() & RECORDS) as usize;
    let (history, _) =
        <[R]>::ref_from_prefix_with_elems(records, count).map_err(|_| Unreadable::TooShort)?;
    let moment = Moment(raw.moment.get() & (COPY - 1));
    // How far it is ahead of `near`, in the upper bits, so that its sign is the word's.
    let ahead = (raw.numbers.get() & !RECORDS).wrapping_sub(near << RECORD_BITS).cast_signed();
    let sequence = near.wrapping_add_signed(ahead >> RECORD_BITS);
    if sequence <= count as u64 || sequence.cast_signed() < 0 {
        return Err(Unreadable::NotWritten);
    }
    let header = Header { sequence, moment, side: raw.side() };
    Ok((header, Carried { sequence, moment, history: History::new(history) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Record = [u8; 30];

    const NUMBER: u64 = 0x0001_0304_0506_0708;
    const HEADER: Header =
        Header { sequence: NUMBER, moment: Moment(0x1112_1314_1516_1718), side: Side::Outside };

    fn records(count: u8) -> Vec<Record> {
        (1..=count).map(|record| [record; 30]).collect()
    }

    #[test]
    fn what_was_written_is_read() {
        for count in 0..=13 {
            let history = records(count);
            let mut room = vec![0xee; bytes_needed::<Record>(13)];
            write(&mut room, &HEADER, &history);
            let (header, carried) = read::<Record>(&room, NUMBER - 5).unwrap();
            assert_eq!(header, HEADER);
            assert_eq!((carried.sequence, carried.moment), (HEADER.sequence, HEADER.moment));
            assert_eq!(carried.history, History::new(&history));
        }
    }

    #[test]
    fn a_number_is_the_nearest_with_its_48_bits() {
        let mut room = [0; 16 + 30];
        for (sequence, near) in [
            (5, 1),
            (5, 1 << 40),
            ((1 << 48) - 1, (1 << 48) + 7),
            (1 << 48, (1 << 48) - 7),
            ((1 << 48) + 1, 1 << 48),
            ((1 << 48) + 3, (1 << 48) + 3 + (1 << 47)),
            ((9 << 48) - 2, 9 << 48),
        ] {
            write(&mut room, &Header { sequence, ..HEADER }, &records(1));
            assert_eq!(read::<Record>(&room, near).unwrap().0.sequence, sequence);
            let (one_later, _) = read::<Record>(&room, near + (1 << 48)).unwrap();
            assert_eq!(one_later.sequence, sequence + (1 << 48));
        }
    }

    #[test]
    fn short_copies_are_whole_and_no_longer() {
        let from: Vec<u8> = (0..300).map(|byte| byte as u8 | 1).collect();
        for len in 0..=from.len() {
            let mut to = [0; 301];
            copy_short(&mut to[..len], &from[..len]);
            assert_eq!((&to[..len], to[len]), (&from[..len], 0));
        }
    }

    #[test]
    fn the_layout_is_as_documented() {
        let mut room = [0xee; 16 + 4 + 1];
        let layout = |moment: [u8; 8]| {
            [&[2, 0, 8, 7, 6, 5, 4, 3][..], &moment, &[0xaa, 0xab, 0xac, 0xad, 0xee]].concat()
        };
        write(&mut room, &HEADER, &[[0xaa_u8, 0xab], [0xac, 0xad]]);
        assert_eq!(room[..], layout([0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x91]));
        write(
            &mut room,
            &Header { side: Side::Inside, ..HEADER },
            &[[0xaa_u8, 0xab], [0xac, 0xad]],
        );
        assert_eq!(room[..], layout([0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11]));
        // A line holds what the sequencer of seven cores writes for a firewall.
        assert_eq!(bytes_needed::<[u8; 8]>(6), 64);
    }

    #[test]
    fn the_room_is_checked_with_numbers() {
        assert_eq!(bytes_needed::<Record>(13), 408);
        assert_eq!(check::<Record>(13, 408), Ok(()));
        let error = check::<Record>(13, 400).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a history of 13 records of 30 bytes takes 408 bytes beside a packet, and there are 400"
        );
        // What a buffer cannot have does not help.
        assert!(check::<[u8; 8]>(8189, usize::MAX).is_ok());
        assert_eq!(check::<[u8; 8]>(8190, usize::MAX).unwrap_err().room, ROOM_MAX);
        assert!(check::<[u8; 8]>(usize::MAX, usize::MAX).is_err());
        assert!(check::<[[u8; 30]; 9]>(1, 1000).is_err());
    }

    #[test]
    fn frames_without_a_number_are_told_from_all_others() {
        let mut room = [0xee; 16];
        for (side, is_copy) in
            [(Side::Inside, false), (Side::Outside, false), (Side::Outside, true)]
        {
            write_unnumbered(&mut room, side, is_copy);
            assert_eq!(unnumbered(&room), Some((side, is_copy)));
            assert!(read::<Record>(&room, 1).is_err());
        }
        write(&mut room, &HEADER, &[] as &[Record]);
        assert_eq!(unnumbered(&room), None);
        assert_eq!(unnumbered(&[0; 16]), None);
        assert_eq!(unnumbered(&[0; 15]), None);
    }

    #[test]
    fn what_nobody_wrote_is_not_read() {
        let mut room = [0; 16 + 60];
        for near in [0, 1, 100, 1 << 47] {
            assert_eq!(read::<Record>(&room, near).unwrap_err(), Unreadable::NotWritten);
        }
        write(&mut room, &HEADER, &records(2));
        assert_eq!(read::<Record>(&room[..75], NUMBER).unwrap_err(), Unreadable::TooShort);
        assert_eq!(read::<Record>(&room[..15], NUMBER).unwrap_err(), Unreadable::TooShort);
        // Packet 2 has but one before it.
        write(&mut room, &Header { sequence: 2, ..HEADER }, &records(2));
        assert_eq!(read::<Record>(&room, 2).unwrap_err(), Unreadable::NotWritten);
    }
}
