//! What the lcores and the thread that watches them share: a few atomics.

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

use krono_core::packet::Mac;

use super::board::Board;

/// How far a stage is. The watching thread says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// Lcores get ready.
    Begin = 0,
    /// They send.
    Send = 1,
    /// They do not, and take what still arrives.
    Drain = 2,
    /// They finish.
    Over = 3,
}

/// What all share.
pub(super) struct Common {
    phase: AtomicU8,
    /// How many lcores are ready to send.
    pub ready: AtomicUsize,
    /// Where the next hops are, by side.
    pub neighbours: [Neighbour; 2],
    /// By the number of an lcore's share.
    pub boards: Vec<Board>,
}

impl Common {
    pub(super) fn new(lcores: usize) -> Common {
        Common {
            phase: AtomicU8::new(Phase::Over as u8),
            ready: AtomicUsize::new(0),
            neighbours: [const { Neighbour(AtomicU64::new(0)) }; 2],
            boards: (0..lcores).map(|_| Board::new()).collect(),
        }
    }

    #[inline]
    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Begin,
            1 => Phase::Send,
            2 => Phase::Drain,
            _ => Phase::Over,
        }
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }
}

/// Where a next hop is, once that is known.
pub(super) struct Neighbour(AtomicU64);

impl Neighbour {
    const KNOWN: u64 = 1 << 48;

    #[inline]
    pub(super) fn mac(&self) -> Option<Mac> {
        let word = self.0.load(Ordering::Relaxed);
        let [.., a, b, c, d, e, f] = word.to_be_bytes();
        (word & Self::KNOWN != 0).then_some(Mac([a, b, c, d, e, f]))
    }

    /// It is to be asked for again.
    pub(super) fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    pub(super) fn set(&self, mac: Mac) {
        let Mac([a, b, c, d, e, f]) = mac;
        let word = u64::from_be_bytes([0, 0, a, b, c, d, e, f]) | Self::KNOWN;
        self.0.store(word, Ordering::Relaxed);
    }
}
