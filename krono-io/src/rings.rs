//! The rings that join two ports within a process.

use std::ffi::{CString, c_int};
use std::ptr::NonNull;

use dpdk_sys::rte_ring;

use crate::dpdk_log::{error_text, explained};
use crate::mbuf::Mbuf;
use crate::port::{PortConfig, PortError, PortId, port_count};

/// A ring for each queue and direction; they are freed with the last port that they make up, and
/// the frames in them.
pub(crate) struct Rings {
    /// By the end that sends.
    from: [Vec<NonNull<rte_ring>>; 2],
}

// SAFETY: rings may be used from any thread; here they are only made and freed, and the drivers
// use each end of one through the one queue that it belongs to.
unsafe impl Send for Rings {}
// SAFETY: as above.
unsafe impl Sync for Rings {}

impl Rings {
    pub(crate) fn new(name: &str, config: &PortConfig) -> Result<Rings, PortError> {
        let mut rings = Rings { from: [Vec::new(), Vec::new()] };
        for end in 0..2 {
            for queue in 0..config.tx_queues {
                let ring = ring(&format!("{name}-{end}-{queue}"), config.tx_ring.into());
                rings.from[end].push(ring.map_err(|reason| failed(name, reason))?);
            }
        }
        Ok(rings)
    }

    /// Makes the port of one end.
    pub(crate) fn port(&self, name: &str, end: usize) -> Result<PortId, PortError> {
        if port_count() == dpdk_sys::RTE_MAX_ETHPORTS {
            return Err(PortError::TooManyPorts { device: name.into() });
        }
        let text = CString::new(name).map_err(|_| failed(name, "the name has a NUL".into()))?;
        let (rx, tx) = (&self.from[1 - end], &self.from[end]);
        // SAFETY: so many rings each; `NonNull` is a transparent pointer. The driver copies the
        // pointers, and the port holds the rings.
        let made = explained(|| unsafe {
            dpdk_sys::rte_eth_from_rings(
                text.as_ptr(),
                rx.as_ptr().cast(),
                rx.len() as u32,
                tx.as_ptr().cast(),
                tx.len() as u32,
                0,
            )
        });
        made.map(|id| PortId(id as u16)).map_err(|reason| failed(name, reason))
    }
}

impl Drop for Rings {
    fn drop(&mut self) {
        for ring in self.from.iter().flatten() {
            // SAFETY: the ports are closed, so nobody else takes frames out; those that come out
            // are nobody's. Nobody uses the ring hereafter.
            unsafe {
                while let Some(mbuf) = NonNull::new(dpdk_sys::shim_ring_dequeue(ring.as_ptr())) {
                    drop(Mbuf::from_raw(mbuf));
                }
                dpdk_sys::rte_ring_free(ring.as_ptr());
            }
        }
    }
}

/// A ring of one producer and one consumer: the queues at its ends have one owner each.
fn ring(name: &str, frames: u32) -> Result<NonNull<rte_ring>, String> {
    let name = CString::new(name).map_err(|_| "the name has a NUL")?;
    let flags = dpdk_sys::RING_F_SP_ENQ | dpdk_sys::RING_F_SC_DEQ | dpdk_sys::RING_F_EXACT_SZ;
    let any_socket: c_int = -1;
    // SAFETY: a string, and numbers that are checked.
    let ring = unsafe { dpdk_sys::rte_ring_create(name.as_ptr(), frames, any_socket, flags) };
    NonNull::new(ring).ok_or_else(|| error_text(-1))
}

fn failed(device: &str, reason: String) -> PortError {
    PortError::Attach { device: device.into(), reason }
}
