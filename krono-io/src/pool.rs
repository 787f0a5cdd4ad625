//! Pools of packet buffers.

use std::ffi::CString;
use std::ptr::NonNull;
use std::sync::Arc;

use dpdk_sys::rte_mempool;
use krono_core::frame::HEADROOM;

use crate::dpdk_log::error_text;
use crate::eal::Eal;
use crate::mbuf::{Burst, Mbuf};
use crate::mem::MemPool;

// Frames in memory are to have as much headroom as those of devices.
const _: () = assert!(HEADROOM as u32 == dpdk_sys::RTE_PKTMBUF_HEADROOM);

/// Ethernet header, one 802.1Q tag and the frame check sequence that some NICs leave in place.
const LINK_BYTES: usize = 14 + 4 + 4;

/// Many NICs take buffers in multiples of 1 KiB only, and split frames at less than 2 KiB.
const FRAME_ROOM_MIN: usize = 2048;

/// How a pool is to be.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// Its name, unique in the process, at most 25 bytes.
    pub name: String,
    /// How many buffers: as many as all rings and bursts that they travel in, and then some.
    pub buffers: u32,
    /// The largest IP packet that is to fit one buffer, bytes.
    pub mtu: u16,
    /// Bytes of each buffer for [`Mbuf::private`], a multiple of 8.
    pub private: u16,
}

/// A pool of packet buffers; a clone is the same pool.
///
/// A pool is there as long as the EAL: drivers and flying buffers refer to it.
#[derive(Clone)]
pub struct Pool(Backend);

#[derive(Clone)]
enum Backend {
    Dpdk { pool: Mempool, _eal: Eal },
    Mem(Arc<MemPool>),
}

/// A mempool, which every thread may use.
#[derive(Clone, Copy)]
pub(crate) struct Mempool(NonNull<rte_mempool>);

// SAFETY: mempools are made for use by all threads; they are not freed before the EAL ends.
unsafe impl Send for Mempool {}
// SAFETY: as above.
unsafe impl Sync for Mempool {}

impl Mempool {
    pub(crate) fn in_use(self) -> usize {
        // SAFETY: the pool exists as long as the EAL.
        unsafe { dpdk_sys::rte_mempool_in_use_count(self.0.as_ptr()) as usize }
    }
}

/// Why there is no pool.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The memory that the EAL was given does not suffice.
    #[error(
        "buffer pool {name}: {buffers} buffers of {bytes} bytes are more than is left of the \
         memory for buffers; raise eal.memory"
    )]
    Memory {
        /// The pool's name.
        name: String,
        /// How many buffers were wanted.
        buffers: u32,
        /// What one of them takes, less the pool's own bookkeeping.
        bytes: usize,
    },
    /// DPDK made none, for another reason.
    #[error("buffer pool {name}: {reason}")]
    Refused {
        /// The pool's name.
        name: String,
        /// What DPDK says.
        reason: String,
    },
}

impl Pool {
    /// Makes a pool of the EAL's memory.
    ///
    /// Each lcore keeps some free buffers to itself (up to a sixteenth of the pool, 384 at most),
    /// so a pool may be empty for one lcore while others have these left.
    ///
    /// # Errors
    /// If the memory does not suffice, or the name is taken or too long.
    pub fn new(eal: &Eal, config: &PoolConfig) -> Result<Pool, PoolError> {
        let refused = |reason| PoolError::Refused { name: config.name.clone(), reason };
        let name = CString::new(config.name.as_str())
            .map_err(|_| refused("the name contains a NUL".into()))?;
        let room = frame_room(config.mtu) + usize::from(HEADROOM);
        let room = u16::try_from(room)
            .map_err(|_| refused(format!("an MTU of {} is too large for a buffer", config.mtu)))?;
        let cache = (config.buffers / 24).min(256);
        // SAFETY: the EAL is up; the name is copied.
        let pool = unsafe {
            let any_socket = -1;
            dpdk_sys::rte_pktmbuf_pool_create(
                name.as_ptr(),
                config.buffers,
                cache,
                config.private,
                room,
                any_socket,
            )
        };
        let Some(pool) = NonNull::new(pool) else {
            // SAFETY: reads a thread-local variable.
            return Err(match unsafe { dpdk_sys::shim_errno() } {
                libc::ENOMEM => PoolError::Memory {
                    name: config.name.clone(),
                    buffers: config.buffers,
                    bytes: usize::from(room)
                        + usize::from(config.private)
                        + size_of::<dpdk_sys::rte_mbuf>(),
                },
                _ => refused(error_text(-1)),
            });
        };
        eal.keep_account_of(Mempool(pool));
        Ok(Pool(Backend::Dpdk { pool: Mempool(pool), _eal: eal.clone() }))
    }

    pub(crate) fn of_memory(pool: Arc<MemPool>) -> Pool {
        Pool(Backend::Mem(pool))
    }

    /// An empty buffer with [`HEADROOM`]; `None` if the pool is empty.
    #[inline]
    pub fn alloc(&self) -> Option<Mbuf> {
        match &self.0 {
            Backend::Dpdk { pool, .. } => {
                // SAFETY: the pool exists; the buffer is nobody's.
                let raw = unsafe { dpdk_sys::shim_pktmbuf_alloc(pool.0.as_ptr()) };
                // SAFETY: as above; a mempool's buffers name their pool.
                NonNull::new(raw).map(|raw| unsafe { Mbuf::from_raw(raw) })
            }
            Backend::Mem(pool) => pool.alloc(),
        }
    }

    /// Appends `count` empty buffers with [`HEADROOM`] to the burst, all or, if the pool has fewer
    /// or the burst too little room, none.
    #[inline]
    #[must_use]
    pub fn alloc_many(&self, burst: &mut Burst, count: usize) -> bool {
        let Backend::Dpdk { pool, .. } = &self.0 else {
            return self.alloc_one_by_one(burst, count);
        };
        // SAFETY: the pool exists; as many buffers as there is room for are written, or none, and
        // they are nobody's.
        let filled = unsafe {
            burst.fill(|mbufs, room| {
                let wanted = if count <= usize::from(room) { count as u16 } else { 0 };
                let none =
                    dpdk_sys::shim_pktmbuf_alloc_bulk(pool.0.as_ptr(), mbufs, wanted.into()) != 0;
                if none { 0 } else { wanted }
            })
        };
        filled == count
    }

    fn alloc_one_by_one(&self, burst: &mut Burst, count: usize) -> bool {
        let before = burst.len();
        while burst.len() < before + count {
            let Some(mbuf) = self.alloc() else { break };
            if burst.push(mbuf).is_err() {
                break;
            }
        }
        let all = burst.len() == before + count;
        if !all {
            burst.truncate(before);
        }
        all
    }

    /// How many buffers are out: in rings, in flight, held. Exact only while nothing moves.
    pub fn in_use(&self) -> usize {
        match &self.0 {
            Backend::Dpdk { pool, .. } => pool.in_use(),
            Backend::Mem(pool) => pool.in_use(),
        }
    }

    /// For drivers; `None` for plain memory, which no driver may have.
    pub(crate) fn mempool(&self) -> Option<*mut rte_mempool> {
        match &self.0 {
            Backend::Dpdk { pool, .. } => Some(pool.0.as_ptr()),
            Backend::Mem(_) => None,
        }
    }
}

/// Bytes in a buffer for a frame that carries an IP packet of `mtu` bytes.
pub(crate) fn frame_room(mtu: u16) -> usize {
    (usize::from(mtu) + LINK_BYTES).next_multiple_of(64).max(FRAME_ROOM_MIN)
}
