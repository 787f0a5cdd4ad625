//! Which cores of a group get packets: what the sequencer lets others see, and what it is asked.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// What the sequencer shows of its group. It alone writes.
#[derive(Debug, Default)]
pub(crate) struct Members {
    active: AtomicU64,
    epoch: AtomicU32,
    last: AtomicU64,
}

/// The same at some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Membership {
    /// A bit for each core that gets packets.
    pub(crate) active: u64,
    /// How often cores have joined or left.
    pub(crate) epoch: u32,
    /// The number of the latest packet.
    pub(crate) last: u64,
}

impl Members {
    pub(super) fn show(&self, now: Membership) {
        self.active.store(now.active, Relaxed);
        self.epoch.store(now.epoch, Relaxed);
        self.last.store(now.last, Relaxed);
    }

    pub(crate) fn look(&self) -> Membership {
        Membership {
            active: self.active.load(Relaxed),
            epoch: self.epoch.load(Relaxed),
            last: self.last.load(Relaxed),
        }
    }
}

impl Membership {
    /// Whether a core gets packets.
    pub(crate) fn has(&self, core: usize) -> bool {
        self.active >> core & 1 != 0
    }
}
