//! The seam between the path and its backends: whole bursts in, whole bursts out.

use std::fmt;
use std::sync::Arc;

use crate::mbuf::{Burst, Mbuf};
use crate::mem::Cable;
use crate::port::{Device, PortId};

/// A queue of a port, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub u16);

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Where frames come from: one receive queue of a port. It has one owner, who may be on any lcore.
pub struct RxQueue(Rx);

enum Rx {
    Dpdk { port: PortId, queue: QueueId, _device: Arc<Device> },
    Mem(Cable),
}

/// Where frames go: one transmit queue of a port. It has one owner, who may be on any lcore.
pub struct TxQueue(Tx);

enum Tx {
    Dpdk { port: PortId, queue: QueueId, _device: Arc<Device> },
    Mem(Cable),
}

impl RxQueue {
    /// # Safety
    /// The device has this receive queue, and no other `RxQueue` is made for it.
    pub(crate) unsafe fn of_device(device: &Arc<Device>, queue: QueueId) -> Self {
        RxQueue(Rx::Dpdk { port: device.id(), queue, _device: device.clone() })
    }

    pub(crate) fn of_memory(cable: Cable) -> Self {
        RxQueue(Rx::Mem(cable))
    }

    /// Appends frames that have arrived to the burst, as far as it has room, and returns how many.
    ///
    /// Poll into an empty burst: some drivers give nothing into room for less than eight.
    #[inline]
    pub fn poll(&mut self, burst: &mut Burst) -> usize {
        match &self.0 {
            Rx::Dpdk { port, queue, .. } => {
                // SAFETY: the device is open and the queue is ours alone; it gives buffers away.
                let received = unsafe {
                    burst.fill(|mbufs, room| {
                        dpdk_sys::shim_eth_rx_burst(port.0, queue.0, mbufs, room)
                    })
                };
                let first = burst.len() - received;
                burst[first..].iter().for_each(|mbuf| mbuf.prefetch());
                received
            }
            Rx::Mem(cable) => cable.poll(burst),
        }
    }
}

impl TxQueue {
    /// # Safety
    /// The device has this transmit queue, and no other `TxQueue` is made for it.
    pub(crate) unsafe fn of_device(device: &Arc<Device>, queue: QueueId) -> Self {
        TxQueue(Tx::Dpdk { port: device.id(), queue, _device: device.clone() })
    }

    pub(crate) fn of_memory(cable: Cable) -> Self {
        TxQueue(Tx::Mem(cable))
    }

    /// Sends the frames in order and returns how many went. Those that the queue did not take,
    /// which are the last ones, stay in the burst: its owner counts and frees them, or tries again.
    ///
    /// # Panics
    /// If a frame's lengths contradict each other, or a device is given a buffer of [`crate::mem`].
    #[inline]
    pub fn send(&mut self, burst: &mut Burst) -> usize {
        match &self.0 {
            Tx::Dpdk { port, queue, .. } => {
                for mbuf in burst.iter_mut() {
                    assert!(!mbuf.is_mem(), "devices get DPDK's buffers only");
                    mbuf.seal();
                }
                // SAFETY: the device is open and the queue is ours alone; what a driver relies on
                // was just checked, and it owns what it takes.
                unsafe {
                    burst.hand_over(|mbufs, count| {
                        dpdk_sys::shim_eth_tx_burst(port.0, queue.0, mbufs, count)
                    })
                }
            }
            Tx::Mem(cable) => {
                burst.iter_mut().for_each(Mbuf::seal);
                cable.send(burst)
            }
        }
    }
}
