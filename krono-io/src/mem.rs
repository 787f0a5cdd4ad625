//! Ports made of memory, for tests: the same queues and buffers without devices, EAL or root.
//!
//! [`port`] makes the queue pair that a worker gets, and the [`Peer`] at the other end of its
//! cable, which injects frames, collects what was sent, and can make the cable refuse frames.
//! Nothing allocates while the worker polls and sends. There is a lock where a driver has a ring.

use std::collections::VecDeque;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dpdk_sys::rte_mbuf;
use krono_core::frame::HEADROOM;

use crate::mbuf::{Burst, Mbuf};
use crate::pool::{Pool, frame_room};
use crate::queue::{RxQueue, TxQueue};

/// How many sent frames a cable holds until [`Peer::sent`] collects them.
const CABLE_FRAMES: usize = 4096;

/// A pool of buffers in plain memory; [`Pool::in_use`] is exact.
///
/// # Panics
/// If a frame of this MTU does not fit a buffer (64 KiB with its headroom).
pub fn pool(buffers: usize, mtu: u16) -> Pool {
    pool_with_private(buffers, mtu, 0)
}

/// A pool as [`pool`] makes it, with so many bytes of [`Mbuf::private`] to each buffer.
///
/// # Panics
/// As [`pool`] does.
pub fn pool_with_private(buffers: usize, mtu: u16, private: u16) -> Pool {
    let room = frame_room(mtu) + usize::from(HEADROOM);
    let room = u16::try_from(room).expect("an MTU that fits a buffer");
    let free = (0..buffers).map(|_| Box::new(Buffer::new(room, private))).collect();
    Pool::of_memory(Arc::new(MemPool { buffers, free: Mutex::new(free) }))
}

/// A port of one queue pair, and the other end of its cable. Received frames come from `pool`.
pub fn port(pool: &Pool) -> (RxQueue, TxQueue, Peer) {
    let wires = Wires {
        to_port: VecDeque::new(),
        from_port: VecDeque::with_capacity(CABLE_FRAMES),
        tx_room: usize::MAX,
    };
    let cable = Cable(Arc::new(Mutex::new(wires)));
    let peer = Peer { pool: pool.clone(), cable: cable.clone() };
    (RxQueue::of_memory(cable.clone()), TxQueue::of_memory(cable), peer)
}

/// The other end of a memory port's cable.
pub struct Peer {
    pool: Pool,
    cable: Cable,
}

impl Peer {
    /// Sends a frame to the port; false if the pool is empty or its buffers are too small, in
    /// which case the port never sees the frame, as with a NIC.
    #[must_use]
    pub fn inject(&self, frame: &[u8]) -> bool {
        self.inject_segments(&[frame])
    }

    /// Sends a frame with a time of reception, nanoseconds, which is kept to the microsecond.
    #[must_use]
    pub fn inject_at(&self, frame: &[u8], timestamp_ns: u64) -> bool {
        let buffer = self.buffer_of(frame).map(|mut mbuf| {
            mbuf.set_timestamp_ns(timestamp_ns);
            mbuf
        });
        self.deliver(buffer)
    }

    /// Sends a frame that lies in several buffers, each with one of these pieces.
    #[must_use]
    pub fn inject_segments(&self, pieces: &[&[u8]]) -> bool {
        let segments: Option<Vec<Mbuf>> = pieces.iter().map(|p| self.buffer_of(p)).collect();
        self.deliver(segments.and_then(|segments| {
            segments.into_iter().reduce(|mut head, segment| {
                head.append(segment);
                head
            })
        }))
    }

    /// All frames that the port has sent since the last call, in order.
    pub fn sent(&self) -> Vec<Vec<u8>> {
        let frames: Vec<Mbuf> = self.cable.wires().from_port.drain(..).collect();
        frames.iter().map(|mbuf| mbuf.segments().flatten().copied().collect()).collect()
    }

    /// Lets the port send `frames` more frames; then its queue is full until the next call.
    pub fn limit_tx(&self, frames: usize) {
        self.cable.wires().tx_room = frames;
    }

    /// How many injected frames the port has not polled yet.
    pub fn waiting(&self) -> usize {
        self.cable.wires().to_port.len()
    }

    fn buffer_of(&self, bytes: &[u8]) -> Option<Mbuf> {
        let mut mbuf = self.pool.alloc()?;
        mbuf.write(bytes).then_some(mbuf)
    }

    fn deliver(&self, mbuf: Option<Mbuf>) -> bool {
        let delivered = mbuf.is_some();
        self.cable.wires().to_port.extend(mbuf);
        delivered
    }
}

/// What a memory port and its peer share.
#[derive(Clone)]
pub(crate) struct Cable(Arc<Mutex<Wires>>);

struct Wires {
    to_port: VecDeque<Mbuf>,
    from_port: VecDeque<Mbuf>,
    /// How many more frames the port may send; not limited at first.
    tx_room: usize,
}

impl Cable {
    fn wires(&self) -> MutexGuard<'_, Wires> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn poll(&self, burst: &mut Burst) -> usize {
        let mut wires = self.wires();
        let before = burst.len();
        while !burst.is_full() {
            let Some(mbuf) = wires.to_port.pop_front() else { break };
            burst.push(mbuf).expect("a burst that is not full takes a frame");
        }
        burst.len() - before
    }

    pub(crate) fn send(&self, burst: &mut Burst) -> usize {
        let mut wires = self.wires();
        let room = wires.tx_room.min(CABLE_FRAMES - wires.from_port.len());
        let count = room.min(burst.len());
        wires.tx_room -= count;
        wires.from_port.extend(burst.drain_first(count));
        count
    }
}

/// Buffers in plain memory; those in use keep their pool alive.
pub(crate) struct MemPool {
    buffers: usize,
    free: Mutex<FreeList>,
}

/// Boxes, since an [`Mbuf`] points at what is in them.
type FreeList = Vec<Box<Buffer>>;

/// A buffer that starts with its `rte_mbuf`, so that an [`Mbuf`] may point at it. The mbuf's own
/// `pool` is null, which tells it from DPDK's.
#[repr(C)]
struct Buffer {
    mbuf: rte_mbuf,
    /// `None` while it is free, so that freeing it twice cannot pass unnoticed.
    home: Option<Arc<MemPool>>,
    room: Box<[u8]>,
    private: Box<[u8]>,
}

// SAFETY: the pointers in the mbuf are to the buffer's own room, or null.
unsafe impl Send for Buffer {}

impl Buffer {
    fn new(room: u16, private: u16) -> Self {
        let bytes = |count: u16| vec![0; usize::from(count)].into_boxed_slice();
        let (room, private) = (bytes(room), bytes(private));
        Buffer { mbuf: rte_mbuf::default(), home: None, room, private }
    }
}

impl MemPool {
    fn free_list(&self) -> MutexGuard<'_, FreeList> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn alloc(self: &Arc<Self>) -> Option<Mbuf> {
        let mut buffer = self.free_list().pop()?;
        buffer.home = Some(self.clone());
        buffer.mbuf = rte_mbuf {
            buf_addr: buffer.room.as_mut_ptr().cast(),
            buf_len: buffer.room.len() as u16,
            data_off: HEADROOM,
            refcnt: 1,
            nb_segs: 1,
            next: ptr::null_mut(),
            pool: ptr::null_mut(),
            ..rte_mbuf::default()
        };
        let raw = NonNull::from(Box::leak(buffer)).cast::<rte_mbuf>();
        // SAFETY: the mbuf of a buffer of ours, which nobody else has.
        Some(unsafe { Mbuf::from_raw(raw) })
    }

    pub(crate) fn in_use(&self) -> usize {
        self.buffers - self.free_list().len()
    }
}

/// The private bytes of the buffer that this mbuf starts, for [`Mbuf::private`].
pub(crate) fn private(mbuf: &Mbuf) -> &[u8] {
    debug_assert!(mbuf.is_mem());
    // SAFETY: `Mbuf` calls this for mbufs that `alloc` made of a `Buffer`, which they start.
    unsafe { &mbuf.place().cast::<Buffer>().as_ref().private }
}

/// The same, to be written.
pub(crate) fn private_mut(mbuf: &mut Mbuf) -> &mut [u8] {
    debug_assert!(mbuf.is_mem());
    // SAFETY: as above, and the `Mbuf` is borrowed as the only one.
    unsafe { &mut mbuf.place().cast::<Buffer>().as_mut().private }
}

/// Gives a buffer, and the segments behind it, back to their pools; for `Mbuf`'s drop.
///
/// # Panics
/// If it is free already.
pub(crate) fn free(mbuf: NonNull<rte_mbuf>) {
    let mut next = Some(mbuf);
    while let Some(mbuf) = next {
        let mut place = mbuf.cast::<Buffer>();
        // SAFETY: `Mbuf` calls this for mbufs that `alloc` made of a `Buffer`, which they start.
        let home = unsafe { place.as_mut() }.home.take().expect("a buffer is freed once");
        // SAFETY: the box that `alloc` leaked, and nobody's since.
        let buffer = unsafe { Box::from_raw(place.as_ptr()) };
        next = NonNull::new(buffer.mbuf.next);
        home.free_list().push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use krono_core::frame::{BURST_MAX, Frames};

    use super::*;

    #[test]
    fn frames_pass_in_order_and_buffers_come_home() {
        let pool = pool(256, 1500);
        let (mut rx, mut tx, peer) = port(&pool);
        for number in 0..100u8 {
            assert!(peer.inject(&[number; 60]));
        }
        let mut burst = Burst::new();
        assert_eq!(rx.poll(&mut burst), BURST_MAX);
        assert_eq!((rx.poll(&mut burst), peer.waiting(), pool.in_use()), (0, 36, 100));
        for index in 0..burst.len() {
            burst.frame(index).shrink_front(1);
        }
        assert_eq!(tx.send(&mut burst), BURST_MAX);
        assert_eq!((rx.poll(&mut burst), tx.send(&mut burst)), (36, 36));
        let sent = peer.sent();
        assert_eq!(sent.len(), 36 + BURST_MAX);
        for (number, frame) in sent.iter().enumerate() {
            let first = usize::from(number < BURST_MAX);
            assert_eq!(*frame, vec![number as u8; 60 - first]);
        }
        assert_eq!((pool.in_use(), burst.is_empty()), (0, true));
    }

    #[test]
    fn what_a_full_queue_leaves_stays_with_the_caller_in_order() {
        let pool = pool(16, 1500);
        let (mut rx, mut tx, peer) = port(&pool);
        for number in 0..10u8 {
            assert!(peer.inject(&[number; 60]));
        }
        peer.limit_tx(4);
        let mut burst = Burst::new();
        rx.poll(&mut burst);
        assert_eq!((tx.send(&mut burst), tx.send(&mut burst)), (4, 0));
        let left: Vec<u8> = burst.drain().map(|mbuf| mbuf.bytes()[0]).collect();
        assert_eq!(left, [4, 5, 6, 7, 8, 9]);
        assert_eq!(pool.in_use(), 4);
        peer.limit_tx(100);
        assert_eq!((peer.sent().len(), pool.in_use()), (4, 0));
    }

    #[test]
    fn a_burst_is_parted_in_order_and_no_buffer_is_lost_or_twice() {
        let pool = pool(2 * BURST_MAX, 1500);
        for those in [0, 1, 1 << 63, u64::MAX, 0x5555_5555_5555_5555, 0xdead_beef_0123_4567] {
            let (mut burst, mut other) = (Burst::new(), Burst::new());
            assert!(pool.alloc_many(&mut burst, BURST_MAX));
            for (number, mbuf) in burst.iter_mut().enumerate() {
                assert!(mbuf.write(&[number as u8; 60]));
            }
            burst.part(those, &mut other);
            let numbers = |burst: &Burst| burst.iter().map(|mbuf| mbuf.bytes()[0]).collect();
            let (kept, taken): (Vec<u8>, Vec<u8>) = (numbers(&burst), numbers(&other));
            let is_taken = |number: &u8| those >> number & 1 != 0;
            let all: (Vec<u8>, Vec<u8>) = (0..BURST_MAX as u8).partition(is_taken);
            assert_eq!((taken, kept), all, "{those:x}");
            other.clear();
            assert_eq!(pool.in_use(), burst.len());
        }
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn the_first_of_a_burst_go_to_the_end_of_another() {
        let pool = pool(BURST_MAX, 1500);
        for (there, count) in [(0, 0), (0, 3), (5, 1), (40, 24), (0, 64), (20, 44)] {
            let (mut all, mut other) = (Burst::new(), Burst::new());
            assert!(pool.alloc_many(&mut all, BURST_MAX));
            for (number, mbuf) in all.iter_mut().enumerate() {
                assert!(mbuf.write(&[number as u8; 60]));
            }
            all.give(there, &mut other);
            all.give(count, &mut other);
            let numbers = |burst: &Burst| burst.iter().map(|mbuf| mbuf.bytes()[0]).collect();
            let (kept, given): (Vec<u8>, Vec<u8>) = (numbers(&all), numbers(&other));
            let split = (there + count) as u8;
            assert!(given.into_iter().eq(0..split) && kept.into_iter().eq(split..64));
        }
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn an_empty_pool_gives_nothing_and_recovers() {
        let pool = pool(2, 1500);
        let (mut rx, _tx, peer) = port(&pool);
        let held = pool.alloc().unwrap();
        assert!(peer.inject(&[1; 60]));
        assert!(pool.alloc().is_none());
        assert!(!peer.inject(&[2; 60]));
        drop(held);
        assert!(peer.inject(&[3; 60]));
        let mut burst = Burst::new();
        rx.poll(&mut burst);
        let seen: Vec<u8> = burst.iter().map(|mbuf| mbuf.bytes()[0]).collect();
        assert_eq!(seen, [1, 3]);
    }

    #[test]
    fn buffers_that_outlive_their_port_and_pool_are_freed() {
        let pool = pool(4, 1500);
        let (mut rx, tx, peer) = port(&pool);
        assert!(peer.inject(&[7; 60]) && peer.inject(&[8; 60]));
        let mut burst = Burst::new();
        rx.poll(&mut burst);
        drop((rx, tx, peer, pool));
        let bytes = std::thread::spawn(move || burst.drain().map(|mbuf| mbuf.bytes()[0]).sum());
        assert_eq!(bytes.join().map_err(drop), Ok(15u8));
    }

    #[test]
    fn a_cut_frame_loses_its_other_segments_when_it_is_sent() {
        let pool = pool(8, 1500);
        let (mut rx, mut tx, peer) = port(&pool);
        for _ in 0..2 {
            assert!(peer.inject_segments(&[&[1; 100], &[2; 200], &[3; 300]]));
        }
        let mut burst = Burst::new();
        rx.poll(&mut burst);
        assert_eq!((burst[0].wire_len(), pool.in_use()), (600, 6));
        let mut frame = burst.frame(0);
        assert!(frame.is_segmented() && frame.set_len(50));
        assert!(burst.frame(1).grow_front(4));
        assert_eq!(tx.send(&mut burst), 2);
        assert_eq!(pool.in_use(), 4);
        let sent = peer.sent();
        assert_eq!(sent[0], [1; 50]);
        assert_eq!(sent[1][4..], [&[1; 100][..], &[2; 200], &[3; 300]].concat());
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    #[should_panic(expected = "a frame within its buffer")]
    fn a_frame_beyond_its_buffer_is_never_sent() {
        let pool = pool(1, 1500);
        let (mut rx, mut tx, peer) = port(&pool);
        assert!(peer.inject(&[0; 60]));
        let mut burst = Burst::new();
        rx.poll(&mut burst);
        *burst.frame(0).start = u16::MAX - 60;
        tx.send(&mut burst);
    }

    #[test]
    #[should_panic(expected = "segments add up")]
    fn a_frame_longer_than_its_segments_is_never_sent() {
        let pool = pool(2, 1500);
        let (mut rx, mut tx, peer) = port(&pool);
        assert!(peer.inject_segments(&[&[1; 100], &[2; 200]]));
        let mut burst = Burst::new();
        rx.poll(&mut burst);
        *burst.frame(0).wire_len += 1;
        tx.send(&mut burst);
    }

    #[test]
    #[should_panic(expected = "a buffer is freed once")]
    fn freeing_twice_is_noticed() {
        let pool = pool(1, 1500);
        let raw = pool.alloc().unwrap().into_raw();
        free(raw);
        free(raw);
    }

    #[test]
    fn frames_carry_their_time_if_they_have_one() {
        let pool = pool(2, 1500);
        let (mut rx, _tx, peer) = port(&pool);
        let mut burst = Burst::new();
        assert!(peer.inject_at(&[0; 60], 1_700_000_000_123_456_789) && peer.inject(&[0; 60]));
        rx.poll(&mut burst);
        assert_eq!(burst[0].timestamp_ns(), Some(1_700_000_000_123_456_000));
        assert_eq!(burst[1].timestamp_ns(), None);
        burst.clear();
        assert!(peer.inject(&[0; 60]) && peer.inject(&[0; 60]));
        rx.poll(&mut burst);
        let times: Vec<_> = burst.iter().map(Mbuf::timestamp_ns).collect();
        assert_eq!(times, [None, None], "a buffer forgets with its frame");
    }

    #[test]
    fn a_frame_that_no_buffer_holds_is_refused() {
        let pool = pool(1, 1500);
        let mut mbuf = pool.alloc().unwrap();
        assert!(!mbuf.write(&[0; 4096]) && !mbuf.write(&[0; 1 << 17]));
        assert_eq!(mbuf.bytes(), []);
        assert!(mbuf.write(&[9; 1518]));
        assert_eq!(mbuf.bytes(), [9; 1518]);
    }
}
