//! Frames that came to another lcore's queue than their flow's.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use krono_core::packet::Side;
use krono_io::Mbuf;

/// How many frames may wait for an lcore.
pub(super) const WAITING_MAX: usize = 2048;

type Inbox = Arc<ArrayQueue<(Side, Mbuf)>>;

/// An lcore's way to all others.
pub(super) struct Exchange {
    inboxes: Vec<Inbox>,
    own: usize,
    /// Frames handed over.
    pub handed: u64,
    /// Frames that were dropped, since too many waited already.
    pub full: u64,
}

impl Exchange {
    /// One for each of `lcores` lcores.
    pub(super) fn among(lcores: usize) -> Vec<Exchange> {
        let inbox = |_| Arc::new(ArrayQueue::new(WAITING_MAX));
        let inboxes: Vec<Inbox> = (0..lcores).map(inbox).collect();
        let exchange = |own| Exchange { inboxes: inboxes.clone(), own, handed: 0, full: 0 };
        (0..lcores).map(exchange).collect()
    }

    /// Gives a frame to the lcore with this number.
    #[cold]
    pub(super) fn hand_over(&mut self, to: u8, side: Side, mbuf: Mbuf) {
        let inbox = self.inboxes.get(usize::from(to));
        let taken = inbox.is_some_and(|inbox| inbox.push((side, mbuf)).is_ok());
        self.handed += u64::from(taken);
        self.full += u64::from(!taken);
    }

    /// The next frame that another lcore gave.
    #[inline]
    pub(super) fn next(&self) -> Option<(Side, Mbuf)> {
        // Alone there is nobody to give any.
        if self.inboxes.len() == 1 { None } else { self.inboxes[self.own].pop() }
    }
}
