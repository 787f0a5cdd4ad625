//! A frame: bytes in a buffer that somebody else owns, with room around them.

/// One received frame, borrowed from the buffer that holds it (an mbuf, or plain memory in tests).
///
/// The bytes are `room[start..start + len]`; what lies before is headroom, what lies behind
/// tailroom. `wire_len` is the length of the whole frame, which is more than `len` when the frame
/// goes on in further segments; the bytes of those are never looked at.
#[derive(Debug)]
pub struct Frame<'a> {
    /// The whole first segment: headroom, bytes and tailroom.
    pub room: &'a mut [u8],
    /// Where the bytes begin in `room`.
    pub start: &'a mut u16,
    /// How many bytes of the frame lie in `room`.
    pub len: &'a mut u16,
    /// How many bytes the frame has, further segments included.
    pub wire_len: &'a mut u32,
}

impl<'a> Frame<'a> {
    /// The bytes of the first segment, to be rewritten when nothing else of the frame is wanted.
    #[inline]
    pub fn into_bytes(self) -> &'a mut [u8] {
        let start = usize::from(*self.start);
        &mut self.room[start..start + usize::from(*self.len)]
    }
}

impl Frame<'_> {
    /// The bytes of the first segment.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        let start = usize::from(*self.start);
        &self.room[start..start + usize::from(*self.len)]
    }

    /// The bytes of the first segment, to be rewritten.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let start = usize::from(*self.start);
        &mut self.room[start..start + usize::from(*self.len)]
    }

    /// Whether the frame goes on in further segments.
    #[inline]
    pub fn is_segmented(&self) -> bool {
        *self.wire_len > u32::from(*self.len)
    }

    /// Makes `count` bytes of headroom part of the frame, in front of it; false, and nothing
    /// done, if there is less headroom.
    #[must_use]
    #[inline]
    pub fn grow_front(&mut self, count: u16) -> bool {
        let fits = *self.start >= count;
        if fits {
            *self.start -= count;
            *self.len += count;
            *self.wire_len += u32::from(count);
        }
        fits
    }

    /// Takes the first `count` bytes off the frame.
    ///
    /// # Panics
    /// If the first segment holds fewer bytes.
    #[inline]
    pub fn shrink_front(&mut self, count: u16) {
        assert!(count <= *self.len, "a frame of {} bytes cannot lose {count}", self.len);
        *self.start += count;
        *self.len -= count;
        *self.wire_len -= u32::from(count);
    }

    /// Makes the frame exactly `len` bytes long, in one segment; false, and nothing done, if the
    /// first segment has no room for so many. Bytes beyond the old end are whatever was there.
    #[must_use]
    #[inline]
    pub fn set_len(&mut self, len: u16) -> bool {
        let fits = usize::from(*self.start) + usize::from(len) <= self.room.len();
        if fits {
            *self.len = len;
            *self.wire_len = u32::from(len);
        }
        fits
    }
}

/// A burst of frames that can be looked at one by one.
pub trait Frames {
    /// How many frames there are, at most [`BURST_MAX`].
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The frame at `index`.
    ///
    /// # Panics
    /// If there is no such frame.
    fn frame(&mut self, index: usize) -> Frame<'_>;
}

/// The most frames in one burst.
pub const BURST_MAX: usize = 64;

/// Some of the frames of a burst, a bit for each.
#[derive(Clone, Copy, Default)]
pub(crate) struct Set(u64);

impl Set {
    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[inline]
    pub(crate) fn insert(&mut self, index: usize) {
        self.0 |= 1 << index;
    }

    #[inline]
    pub(crate) fn contains(self, index: usize) -> bool {
        self.0 & 1 << index != 0
    }

    /// How many below `index` are not in it.
    #[inline]
    pub(crate) fn absent_before(self, index: usize) -> usize {
        (!self.0 & ((1 << index) - 1)).count_ones() as usize
    }

    /// In order.
    #[inline]
    pub(crate) fn iter(self) -> impl Iterator<Item = usize> {
        let next = |rest: &u64| Some(rest & (rest - 1)).filter(|rest| *rest != 0);
        let sets = std::iter::successors(Some(self.0).filter(|set| *set != 0), next);
        sets.map(|set| set.trailing_zeros() as usize)
    }
}

const _: () = assert!(BURST_MAX <= u64::BITS as usize);

/// A frame in plain memory, for tests and tools: 128 bytes of headroom as in an mbuf.
#[derive(Clone, Debug)]
pub struct MemFrame {
    room: Vec<u8>,
    start: u16,
    len: u16,
    wire_len: u32,
}

/// Headroom of a [`MemFrame`], bytes: that of an mbuf (RTE_PKTMBUF_HEADROOM).
pub const HEADROOM: u16 = 128;

impl MemFrame {
    /// A frame of these bytes, with headroom and with tailroom up to 2 KiB.
    ///
    /// # Panics
    /// If there are more bytes than a frame's length can say (65,535 less the headroom).
    pub fn new(bytes: &[u8]) -> Self {
        let len = u16::try_from(bytes.len()).expect("a frame's length fits 16 bits");
        let mut room = vec![0; usize::from(HEADROOM)];
        room.extend_from_slice(bytes);
        room.resize(room.len().max(2048 + usize::from(HEADROOM)), 0);
        MemFrame { room, start: HEADROOM, len, wire_len: u32::from(len) }
    }

    /// The frame as the path sees it.
    pub fn as_frame(&mut self) -> Frame<'_> {
        Frame {
            room: &mut self.room,
            start: &mut self.start,
            len: &mut self.len,
            wire_len: &mut self.wire_len,
        }
    }

    /// The frame's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.room[usize::from(self.start)..][..usize::from(self.len)]
    }

    /// Pretends that `more` bytes of the frame lie in further segments.
    pub fn with_further_segments(mut self, more: u32) -> Self {
        self.wire_len += more;
        self
    }
}

impl Frames for [MemFrame] {
    fn len(&self) -> usize {
        <[MemFrame]>::len(self)
    }

    fn frame(&mut self, index: usize) -> Frame<'_> {
        self[index].as_frame()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_stops_at_the_room_and_changes_nothing() {
        let mut memory = MemFrame::new(&[1, 2, 3]);
        let mut frame = memory.as_frame();
        assert!(frame.grow_front(HEADROOM));
        assert!(!frame.grow_front(1));
        frame.shrink_front(HEADROOM);
        assert_eq!(frame.bytes(), [1, 2, 3]);
        assert!(!frame.set_len(u16::MAX));
        assert!(frame.set_len(2));
        assert_eq!((frame.bytes(), frame.is_segmented()), (&[1, 2][..], false));
    }
}
