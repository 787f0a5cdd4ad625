//! Packet buffers with one owner each, and bursts of them.

use std::fmt;
use std::mem::offset_of;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::OnceLock;

use arrayvec::ArrayVec;
use dpdk_sys::rte_mbuf;
use krono_core::frame::{BURST_MAX, Frame, Frames};

use crate::mem;

/// A packet buffer that is owned: dropping it gives it back to its pool.
///
/// It is one pointer, to an `rte_mbuf` whichever backend it came from. A frame of several segments
/// is the chain of them.
#[repr(transparent)]
pub struct Mbuf(NonNull<rte_mbuf>);

// SAFETY: an mbuf has one owner and may be freed on any thread; DPDK's pools and those of `mem`
// take buffers from all threads.
unsafe impl Send for Mbuf {}

impl Mbuf {
    /// Takes ownership of a buffer.
    ///
    /// # Safety
    /// `raw` is a valid mbuf, chained or not, that nobody else has; its pool is null exactly when
    /// it is the `mbuf` of a buffer of [`mem`].
    pub(crate) unsafe fn from_raw(raw: NonNull<rte_mbuf>) -> Mbuf {
        Mbuf(raw)
    }

    /// Gives up ownership.
    pub(crate) fn into_raw(self) -> NonNull<rte_mbuf> {
        let raw = self.0;
        std::mem::forget(self);
        raw
    }

    #[inline]
    fn raw(&self) -> &rte_mbuf {
        // SAFETY: valid and ours alone by `from_raw`'s contract.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    pub(crate) fn raw_mut(&mut self) -> &mut rte_mbuf {
        // SAFETY: as for `raw`.
        unsafe { self.0.as_mut() }
    }

    /// Where the buffer's `rte_mbuf` is.
    pub(crate) fn place(&self) -> NonNull<rte_mbuf> {
        self.0
    }

    /// Whether the buffer is plain memory of [`mem`], which no DPDK driver may get.
    #[inline]
    pub(crate) fn is_mem(&self) -> bool {
        self.raw().pool.is_null()
    }

    /// The frame in the buffer. What is done to it is done: there is no writing back.
    #[inline]
    pub fn frame(&mut self) -> Frame<'_> {
        let mbuf = self.raw_mut();
        // SAFETY: the buffer behind an mbuf is `buf_len` bytes at `buf_addr`, belongs to the mbuf,
        // and does not overlap it.
        let room = unsafe {
            slice::from_raw_parts_mut(mbuf.buf_addr.cast::<u8>(), usize::from(mbuf.buf_len))
        };
        Frame {
            room,
            start: &mut mbuf.data_off,
            len: &mut mbuf.data_len,
            wire_len: &mut mbuf.pkt_len,
        }
    }

    /// The bytes of the first segment.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        let mbuf = self.raw();
        // SAFETY: as in `frame`.
        let room =
            unsafe { slice::from_raw_parts(mbuf.buf_addr.cast::<u8>(), usize::from(mbuf.buf_len)) };
        let start = usize::from(mbuf.data_off);
        &room[start..start + usize::from(mbuf.data_len)]
    }

    /// Bytes beside the frame that belong to whoever has the buffer: as many as its pool was made
    /// with. They stay what they are until somebody writes them, from one frame to the next.
    #[inline]
    pub fn private(&self) -> &[u8] {
        if self.is_mem() {
            return mem::private(self);
        }
        let len = usize::from(self.raw().priv_size);
        // SAFETY: the private area of a buffer of DPDK's pools follows its mbuf, and is as long as
        // that says.
        unsafe { slice::from_raw_parts(self.0.add(1).cast::<u8>().as_ptr(), len) }
    }

    /// The same, to be written.
    #[inline]
    pub fn private_mut(&mut self) -> &mut [u8] {
        if self.is_mem() {
            return mem::private_mut(self);
        }
        let len = usize::from(self.raw().priv_size);
        // SAFETY: as in `private`, and ours alone.
        unsafe { slice::from_raw_parts_mut(self.0.add(1).cast::<u8>().as_ptr(), len) }
    }

    /// The length of the whole frame, bytes.
    #[inline]
    pub fn wire_len(&self) -> u32 {
        self.raw().pkt_len
    }

    /// Makes `bytes` the frame; false, and nothing done, if they exceed the buffer.
    #[must_use]
    pub fn write(&mut self, bytes: &[u8]) -> bool {
        let mut frame = self.frame();
        let fits = u16::try_from(bytes.len()).is_ok_and(|len| frame.set_len(len));
        if fits {
            frame.bytes_mut().copy_from_slice(bytes);
        }
        fits
    }

    /// When the frame was received, nanoseconds since the epoch, where the driver says so.
    ///
    /// DPDK leaves the unit to the driver. This takes it for microseconds, as net_pcap gives them
    /// from the capture file; with a NIC that stamps in clocks of its own it means nothing.
    #[inline]
    pub fn timestamp_ns(&self) -> Option<u64> {
        let field = TimestampField::current();
        if self.raw().ol_flags & field.flag == 0 {
            return None;
        }
        // SAFETY: a registered field lies within the mbuf, aligned for its type.
        let micros = unsafe { self.0.byte_add(field.offset).cast::<u64>().read() };
        micros.checked_mul(1000)
    }

    /// Sets what `timestamp_ns` returns, to the microsecond.
    pub(crate) fn set_timestamp_ns(&mut self, ns: u64) {
        let field = TimestampField::current();
        self.raw_mut().ol_flags |= field.flag;
        // SAFETY: as in `timestamp_ns`.
        unsafe { self.0.byte_add(field.offset).cast::<u64>().write(ns / 1000) }
    }

    /// Appends a further segment to the frame.
    pub(crate) fn append(&mut self, segment: Mbuf) {
        let added = segment.wire_len();
        let mut last = self.0;
        // SAFETY: the segments of a chain are ours, and the last one's `next` is null.
        unsafe {
            while let Some(next) = NonNull::new(last.as_ref().next) {
                last = next;
            }
            last.as_mut().next = segment.into_raw().as_ptr();
        }
        let head = self.raw_mut();
        head.nb_segs += 1;
        head.pkt_len += added;
    }

    /// The frame's bytes, segment by segment.
    pub(crate) fn segments(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::successors(Some(self), |mbuf| {
            let next: *const *mut rte_mbuf = &mbuf.raw().next;
            // SAFETY: `Mbuf` is a transparent pointer that is not null, and so is `next` then;
            // the segment lives as long as its head.
            (!mbuf.raw().next.is_null()).then(|| unsafe { &*next.cast::<Mbuf>() })
        })
        .map(Mbuf::bytes)
    }

    /// Makes the buffer ready for a driver: the one place where segments are freed that a frame
    /// lost when it was cut to its first.
    ///
    /// # Panics
    /// If the lengths contradict each other or leave the buffer, which a driver would believe.
    #[inline]
    pub(crate) fn seal(&mut self) {
        let mbuf = self.raw();
        let one_segment = (mbuf.nb_segs == 1) & (mbuf.pkt_len == u32::from(mbuf.data_len));
        if !(one_segment & self.is_within_buffer()) {
            self.seal_segments();
        }
    }

    #[inline]
    fn is_within_buffer(&self) -> bool {
        let mbuf = self.raw();
        u32::from(mbuf.data_off) + u32::from(mbuf.data_len) <= u32::from(mbuf.buf_len)
    }

    #[cold]
    fn seal_segments(&mut self) {
        assert!(self.is_within_buffer(), "a frame within its buffer");
        let mbuf = self.raw_mut();
        if mbuf.pkt_len == u32::from(mbuf.data_len) {
            mbuf.nb_segs = 1;
            let rest = NonNull::new(std::mem::replace(&mut mbuf.next, ptr::null_mut()));
            // SAFETY: the rest of a chain of our own, just detached, so that it has one owner.
            drop(rest.map(|rest| unsafe { Mbuf::from_raw(rest) }));
        } else {
            let total: usize = self.segments().map(<[u8]>::len).sum();
            assert_eq!(self.wire_len() as usize, total, "segments add up to the frame");
        }
    }

    /// Fetches what parsing reads first: the line that the frame starts in.
    #[inline]
    pub(crate) fn prefetch(&self) {
        prefetch(self.frame_start());
    }

    #[inline]
    fn frame_start(&self) -> *const u8 {
        let mbuf = self.raw();
        mbuf.buf_addr.cast::<u8>().wrapping_add(usize::from(mbuf.data_off))
    }

    /// Where the lines of the private area are, if the buffer is a device's; of one of [`mem`]
    /// these are other lines, which are fetched in vain.
    #[inline]
    fn private_lines(&self, bytes: usize) -> impl Iterator<Item = *const u8> + use<> {
        let start = self.0.as_ptr().wrapping_add(1).cast::<u8>().cast_const();
        (0..bytes).step_by(64).map(move |at| start.wrapping_add(at))
    }
}

/// Asks the memory for a line that is to be read.
#[inline]
fn prefetch(line: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(line.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

/// Asks for a line that is to be written, so that no other CPU has it when it comes.
#[inline]
fn prefetch_to_write(line: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as above. CPUs that do not know this take it for nothing; the compiler's own word for it
    // becomes this only where newer ones are asked for.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) line, options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        if self.is_mem() {
            mem::free(self.0);
        } else {
            // SAFETY: ours alone, and the pool is there: the EAL stays up while buffers are out.
            unsafe { dpdk_sys::shim_pktmbuf_free(self.0.as_ptr()) }
        }
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mbuf = self.raw();
        write!(f, "Mbuf({} bytes, {} segments)", mbuf.pkt_len, mbuf.nb_segs)
    }
}

/// Where mbufs carry the time of reception.
pub(crate) struct TimestampField {
    offset: usize,
    flag: u64,
}

static TIMESTAMP: OnceLock<TimestampField> = OnceLock::new();

/// What buffers of [`mem`] use while no EAL is up: the first aligned word of the dynamic fields
/// and the first dynamic flag.
static MEM_TIMESTAMP: TimestampField =
    TimestampField { offset: offset_of!(rte_mbuf, dynfield1).next_multiple_of(8), flag: 1 << 23 };

impl TimestampField {
    fn current() -> &'static Self {
        TIMESTAMP.get().unwrap_or(&MEM_TIMESTAMP)
    }

    /// Has DPDK reserve the field, which drivers that set timestamps then share.
    pub(crate) fn register() -> Result<(), String> {
        let (mut offset, mut flag) = (0, 0);
        crate::dpdk_log::explained(|| {
            // SAFETY: both are places for results.
            unsafe { dpdk_sys::rte_mbuf_dyn_rx_timestamp_register(&mut offset, &mut flag) }
        })?;
        TIMESTAMP.get_or_init(|| TimestampField { offset: offset as usize, flag });
        Ok(())
    }
}

/// Up to [`BURST_MAX`] buffers, in order: what was received together, or is to be sent together.
#[derive(Debug, Default)]
pub struct Burst(ArrayVec<Mbuf, BURST_MAX>);

impl Burst {
    /// An empty burst.
    pub const fn new() -> Self {
        Burst(ArrayVec::new_const())
    }

    /// Whether no more buffers fit.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.0.is_full()
    }

    /// Appends a buffer; a full burst gives it back.
    #[inline]
    pub fn push(&mut self, mbuf: Mbuf) -> Result<(), Mbuf> {
        self.0.try_push(mbuf).map_err(|full| full.element())
    }

    /// Takes all buffers out, in order; those that the iterator still holds when it goes are freed.
    #[inline]
    pub fn drain(&mut self) -> impl ExactSizeIterator<Item = Mbuf> + use<'_> {
        self.0.drain(..)
    }

    /// Moves the buffers with a bit in `those` to the end of `other`, in order; the rest moves up.
    ///
    /// # Panics
    /// If `other` has no room for as many as there are here.
    #[inline]
    pub fn part(&mut self, those: u64, other: &mut Burst) {
        let (len, mut kept) = (self.0.len(), 0);
        assert!(len <= other.0.remaining_capacity(), "a burst has room for what it may get");
        let (here, mut taken) = (self.0.as_mut_ptr(), other.0.len());
        let there = other.0.as_mut_ptr();
        // SAFETY: each buffer is copied to both bursts, without a branch that could not be foretold,
        // and counts in one of them: in the one, at its own place or before it; in the other, behind
        // those that count, where there is room for all.
        unsafe {
            for index in 0..len {
                let (mbuf, is_one) = (ptr::read(here.add(index)).into_raw(), those >> index & 1);
                ptr::write(here.add(kept), Mbuf(mbuf));
                ptr::write(there.add(taken), Mbuf(mbuf));
                taken += is_one as usize;
                kept += 1 - is_one as usize;
            }
            self.0.set_len(kept);
            other.0.set_len(taken);
        }
    }

    /// Moves the first `count` buffers to the end of `other`, in order; the rest moves up.
    ///
    /// # Panics
    /// If there are fewer, or `other` has less room.
    #[inline]
    pub fn give(&mut self, count: usize, other: &mut Burst) {
        let (len, there) = (self.0.len(), other.0.len());
        assert!(count <= len && count <= other.0.remaining_capacity(), "so many are there and fit");
        let here = self.0.as_mut_ptr();
        // SAFETY: so many buffers are copied from here to where there is room for them, and count
        // there alone; those behind them move to the beginning.
        unsafe {
            ptr::copy_nonoverlapping(here, other.0.as_mut_ptr().add(there), count);
            other.0.set_len(there + count);
            ptr::copy(here.add(count), here, len - count);
            self.0.set_len(len - count);
        }
    }

    /// Frees all buffers, those of devices in one go.
    #[inline]
    pub fn clear(&mut self) {
        if self.0.is_empty() {
            return;
        }
        let (first, count) = (self.0.as_mut_ptr().cast::<*mut rte_mbuf>(), self.0.len() as u32);
        // SAFETY: so many mbufs that are ours alone; if they are freed, they are forgotten before
        // anybody could free them again. Their pools are there, as in `Mbuf::drop`.
        let freed = unsafe { dpdk_sys::shim_pktmbuf_free_plain(first, count) } != 0;
        if !freed && self.0.iter().any(Mbuf::is_mem) {
            return self.0.clear();
        }
        // SAFETY: as above.
        unsafe {
            self.0.set_len(0);
            if !freed {
                dpdk_sys::rte_pktmbuf_free_bulk(first, count);
            }
        }
    }

    /// Fetches what is going to be written of each buffer: the line that its frame starts in, and
    /// the first `private` bytes beside it. Worth it where another lcore had the buffers before.
    #[inline]
    pub fn prefetch_to_write(&self, private: usize) {
        for mbuf in &self.0 {
            prefetch_to_write(mbuf.frame_start());
            mbuf.private_lines(private).for_each(prefetch_to_write);
        }
    }

    /// Fetches what is read first of the buffers behind the first `known`, which another lcore has
    /// written: themselves, two lines beside their frames, and the lines that those start in.
    #[inline]
    pub(crate) fn prefetch_handed(&self, known: usize) {
        for mbuf in &self.0[known..] {
            let mbuf_lines = mbuf.0.as_ptr().cast::<u8>().cast_const();
            prefetch(mbuf_lines);
            prefetch(mbuf_lines.wrapping_add(64));
            mbuf.private_lines(128).for_each(prefetch);
        }
        self.0[known..].iter().for_each(Mbuf::prefetch);
    }

    /// Frees all but the first `count` buffers.
    pub(crate) fn truncate(&mut self, count: usize) {
        self.0.truncate(count);
    }

    /// Takes the last buffer out.
    #[inline]
    pub fn pop(&mut self) -> Option<Mbuf> {
        self.0.pop()
    }

    /// Takes the first `count` buffers out, in order.
    pub(crate) fn drain_first(&mut self, count: usize) -> impl Iterator<Item = Mbuf> {
        self.0.drain(..count)
    }

    /// Lets `fill` write pointers to buffers behind those that are here, and returns how many.
    ///
    /// # Safety
    /// `fill` gets room for the given number of pointers, writes mbufs that [`Mbuf::from_raw`]
    /// would take into the first ones, and returns how many it wrote.
    #[inline]
    pub(crate) unsafe fn fill(
        &mut self,
        fill: impl FnOnce(*mut *mut rte_mbuf, u16) -> u16,
    ) -> usize {
        let (len, room) = (self.0.len(), self.0.remaining_capacity());
        // SAFETY: the place for `room` further elements; `Mbuf` is a transparent pointer.
        let rest = unsafe { self.0.as_mut_ptr().add(len).cast::<*mut rte_mbuf>() };
        let filled = usize::from(fill(rest, room as u16));
        debug_assert!(filled <= room, "a driver keeps to the room it is given");
        // SAFETY: by the contract of `fill` so many elements are there now.
        unsafe { self.0.set_len(len + filled) };
        filled
    }

    /// Lets `take` have the buffers, keeps those that it did not take, and returns how many it
    /// took.
    ///
    /// # Safety
    /// `take` gets so many pointers to mbufs, takes ownership of the first ones, and returns of
    /// how many.
    #[inline]
    pub(crate) unsafe fn hand_over(
        &mut self,
        take: impl FnOnce(*mut *mut rte_mbuf, u16) -> u16,
    ) -> usize {
        let len = self.0.len();
        let first = self.0.as_mut_ptr();
        let taken = usize::from(take(first.cast::<*mut rte_mbuf>(), len as u16));
        debug_assert!(taken <= len, "a driver takes no more than it is given");
        // SAFETY: the first `taken` elements belong to somebody else now; the others move up.
        unsafe {
            ptr::copy(first.add(taken), first, len - taken);
            self.0.set_len(len - taken);
        }
        taken
    }
}

impl Deref for Burst {
    type Target = [Mbuf];

    #[inline]
    fn deref(&self) -> &[Mbuf] {
        &self.0
    }
}

impl DerefMut for Burst {
    #[inline]
    fn deref_mut(&mut self) -> &mut [Mbuf] {
        &mut self.0
    }
}

impl Frames for Burst {
    #[inline]
    fn len(&self) -> usize {
        self.0.len()
    }

    #[inline]
    fn frame(&mut self, index: usize) -> Frame<'_> {
        self.0[index].frame()
    }
}
