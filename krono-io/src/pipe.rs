//! Frames from one lcore to another: a ring with one owner at each end.

use std::ffi::c_uint;
use std::ptr::NonNull;
use std::sync::Arc;

use dpdk_sys::rte_ring;

use crate::dpdk_log::error_text;
use crate::mbuf::{Burst, Mbuf};

/// The end where frames go in.
pub struct PipeIn(Arc<Ring>);

/// The end where they come out, in the same order.
pub struct PipeOut(Arc<Ring>);

/// A ring of one producer and one consumer in memory of our own, so that it needs no EAL. It frees
/// the frames that are left in it.
struct Ring {
    ring: NonNull<rte_ring>,
    _memory: Box<[Line]>,
}

/// DPDK lays rings out by cache lines.
#[derive(Clone)]
#[repr(C, align(64))]
struct Line([u8; 64]);

// SAFETY: the ring is made for one thread at each end, which `PipeIn` and `PipeOut` are by taking
// themselves as mutable; the memory is written through the ring alone, and frames may be freed on
// any thread.
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

/// Why there is no pipe.
#[derive(Debug, thiserror::Error)]
#[error("a ring of {frames} frames between two lcores: {reason}")]
pub struct PipeError {
    frames: u32,
    reason: String,
}

/// A pipe that holds up to `frames` frames.
///
/// # Errors
/// If that is none, or 2^31 or more.
pub fn pipe(frames: u32) -> Result<(PipeIn, PipeOut), PipeError> {
    let failed = |reason: &str| PipeError { frames, reason: reason.into() };
    if frames == 0 {
        return Err(failed("it would hold nothing"));
    }
    // The ring keeps one place free to tell full from empty.
    let places = (frames + 1).checked_next_power_of_two().ok_or_else(|| failed("too many"))?;
    // SAFETY: computes a size.
    let bytes = unsafe { dpdk_sys::rte_ring_get_memsize(places) };
    let bytes = usize::try_from(bytes).map_err(|_| failed("too many"))?;
    let mut memory = vec![Line([0; 64]); bytes.div_ceil(64)].into_boxed_slice();
    let ring = NonNull::from(&mut memory[0]).cast::<rte_ring>();
    let flags = dpdk_sys::RING_F_SP_ENQ | dpdk_sys::RING_F_SC_DEQ | dpdk_sys::RING_F_EXACT_SZ;
    // SAFETY: as many bytes as such a ring takes, aligned to cache lines; the name is copied.
    let status = unsafe { dpdk_sys::rte_ring_init(ring.as_ptr(), c"pipe".as_ptr(), frames, flags) };
    if status != 0 {
        return Err(failed(&error_text(status)));
    }
    let ring = Arc::new(Ring { ring, _memory: memory });
    Ok((PipeIn(ring.clone()), PipeOut(ring)))
}

impl PipeIn {
    /// Puts frames in, in order, and returns how many. Those that do not fit stay in the burst, in
    /// order.
    #[inline]
    pub fn send(&mut self, burst: &mut Burst) -> usize {
        let ring = self.0.ring.as_ptr();
        // SAFETY: the ring exists, this is its only producer, and it takes buffers over.
        unsafe {
            burst.hand_over(|mbufs, count| {
                dpdk_sys::shim_ring_enqueue_burst(ring, mbufs, c_uint::from(count)) as u16
            })
        }
    }

    /// How many frames fit at least: the other end only makes more room.
    #[inline]
    pub fn room(&self) -> usize {
        // SAFETY: the ring exists.
        unsafe { dpdk_sys::shim_ring_free_count(self.0.ring.as_ptr()) as usize }
    }
}

impl PipeOut {
    /// Appends frames that have come to the burst, as far as it has room, and returns how many.
    #[inline]
    pub fn poll(&mut self, burst: &mut Burst) -> usize {
        let ring = self.0.ring.as_ptr();
        // SAFETY: the ring exists, this is its only consumer, and it gives buffers away.
        let polled = unsafe {
            burst.fill(|mbufs, room| {
                dpdk_sys::shim_ring_dequeue_burst(ring, mbufs, c_uint::from(room)) as u16
            })
        };
        burst.prefetch_handed(burst.len() - polled);
        polled
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: both ends are gone, so nobody else takes frames out; those that come out are
        // nobody's.
        unsafe {
            while let Some(mbuf) = NonNull::new(dpdk_sys::shim_ring_dequeue(self.ring.as_ptr())) {
                drop(Mbuf::from_raw(mbuf));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem;

    const PRIVATE: u16 = 8;

    /// A frame that says its number, beside itself too.
    fn frame(pool: &crate::Pool, number: u32) -> Mbuf {
        let mut mbuf = pool.alloc().expect("a buffer");
        assert!(mbuf.write(&number.to_be_bytes()));
        mbuf.private_mut()[..4].copy_from_slice(&number.to_be_bytes());
        mbuf
    }

    #[test]
    fn every_frame_passes_once_and_in_order_with_what_is_beside_it() {
        const FRAMES: u32 = 100_000;
        let pool = mem::pool_with_private(300, 1500, PRIVATE);
        let (mut entry, mut exit) = pipe(100).unwrap();
        let consumer = std::thread::spawn(move || {
            let (mut burst, mut next) = (Burst::new(), 0u32);
            while next < FRAMES {
                exit.poll(&mut burst);
                for mbuf in burst.drain() {
                    assert_eq!(mbuf.bytes(), next.to_be_bytes());
                    assert_eq!(mbuf.private()[..4], next.to_be_bytes());
                    assert_eq!(mbuf.private().len(), usize::from(PRIVATE));
                    next += 1;
                }
                std::thread::yield_now();
            }
        });
        let (mut burst, mut next) = (Burst::new(), 0);
        while next < FRAMES || !burst.is_empty() {
            while !burst.is_full() && next < FRAMES {
                burst.push(frame(&pool, next)).unwrap();
                next += 1;
            }
            let (room, waiting) = (entry.room(), burst.len());
            let sent = entry.send(&mut burst);
            assert!(sent >= room.min(waiting), "there was room for {room}");
            assert_eq!(sent + burst.len(), waiting);
            std::thread::yield_now();
        }
        consumer.join().unwrap();
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn a_full_pipe_leaves_the_rest_and_a_dropped_one_frees_what_it_has() {
        let pool = mem::pool(64, 1500);
        let (mut entry, exit) = pipe(5).unwrap();
        let mut burst = Burst::new();
        for number in 0..8 {
            let mut mbuf = pool.alloc().unwrap();
            assert!(mbuf.write(&[number; 60]) && burst.push(mbuf).is_ok());
        }
        assert_eq!((entry.room(), entry.send(&mut burst), entry.room()), (5, 5, 0));
        assert_eq!(burst.iter().map(|mbuf| mbuf.bytes()[0]).collect::<Vec<_>>(), [5, 6, 7]);
        drop((burst, entry));
        assert_eq!(pool.in_use(), 5);
        drop(exit);
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        for frames in [0, 1 << 31, u32::MAX - 1] {
            assert!(pipe(frames).is_err());
        }
        assert!(pipe(1).is_ok());
    }
}
