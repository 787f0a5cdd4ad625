//! What is told: changes and entries, taken as they come; and whether that is all there is.
//!
//! A gap in the stream, a start, or a look once in a while: each has the other's sums asked for and
//! compared with those of the own table, each frame of them at its own position in the stream. If
//! all are alike both have the same, and only that counts as having caught up. Else the ranges that
//! differ are asked for. When the other has told all of them, what lies in them here and was not
//! told since is gone there, and ends here; then the sums are compared anew.

use krono_core::time::Ticks;
use krono_core::twin::{Standing, Taken, Twin};
use zerocopy::FromBytes;

use crate::frame::{Header, Kind};
use crate::outbox::{Changes, Told};
use crate::sums::{FRAMES, PER_FRAME, Ranges};

/// What is being done about what is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing.
    Idle,
    /// Sums are asked for; which frames of them have come, a bit for each.
    Comparing { seen: u8 },
    /// All entries of the ranges that differ are asked for.
    Walking,
    /// What was not told in those ranges ends: from this index on.
    Sweeping { cursor: u32 },
}

/// What the other's word is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Nothing is wanted of the other.
    None,
    /// To have what it has, and nothing else.
    Follow,
    /// To have what it offers besides.
    Merge {
        /// The offer.
        offer: u32,
    },
}

/// What a half is told, see the [module](self).
pub struct Inbox {
    /// The last position of the other's stream that came; none before the first frame.
    position: Option<u64>,
    phase: Phase,
    purpose: Purpose,
    /// The request that is waited for.
    request: u32,
    /// The ranges that differ.
    ranges: Ranges,
    /// Of each index, whether its entry was told since those were asked for.
    confirmed: Box<[u64]>,
    /// What the sums have shown to be the same as the other's, and no gap since.
    is_synced: bool,
    /// Ranges that differed although nothing was missed.
    pub(crate) diverged: u64,
    /// Records that contradicted what is here, or found no room.
    pub(crate) refused: u64,
    /// Frames of the stream that did not come in their place.
    pub(crate) gaps: u64,
    /// Polls of the clock since anything came that was asked for.
    patience: u32,
}

impl Inbox {
    /// For a table of so many indices.
    pub(crate) fn new(indices: usize) -> Inbox {
        Inbox {
            position: None,
            phase: Phase::Idle,
            purpose: Purpose::None,
            request: 0,
            ranges: Ranges::NONE,
            confirmed: vec![0; indices.div_ceil(64)].into_boxed_slice(),
            is_synced: false,
            diverged: 0,
            refused: 0,
            gaps: 0,
            patience: 0,
        }
    }

    /// The other is a new one: nothing of its stream has come.
    pub(crate) fn forget_peer(&mut self) {
        (self.position, self.is_synced, self.phase) = (None, false, Phase::Idle);
    }

    /// Whether all is here that the other has told, and the sums have confirmed it.
    pub(crate) fn is_synced(&self) -> bool {
        self.is_synced
    }

    /// Up to where everything is here.
    pub(crate) fn acknowledged(&self) -> u64 {
        if self.is_synced { self.position.unwrap_or(0) } else { 0 }
    }

    /// The ranges that are being asked for.
    pub(crate) fn ranges(&self) -> &Ranges {
        &self.ranges
    }

    /// Has what comes serve this purpose from now on.
    pub(crate) fn set_purpose(&mut self, purpose: Purpose) {
        if self.purpose != purpose {
            self.purpose = purpose;
            (self.is_synced, self.phase) = (false, Phase::Idle);
        }
    }

    /// What is to be asked for, if it is time: at once, and then again whenever nothing has come
    /// for `patience` calls.
    pub(crate) fn asks(&mut self, patience: u32) -> Option<(Kind, u32)> {
        if self.purpose == Purpose::None || self.is_synced && self.phase == Phase::Idle {
            return None;
        }
        self.patience = self.patience.saturating_sub(1);
        if self.patience > 0 {
            return None;
        }
        self.patience = patience;
        match self.phase {
            Phase::Sweeping { .. } => None,
            Phase::Walking => Some((Kind::AskWalk, self.request)),
            Phase::Idle | Phase::Comparing { .. } => {
                self.compare();
                Some((Kind::AskSums, self.request))
            }
        }
    }

    /// What comes is for this.
    pub(crate) fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Has a look whether what is believed to be the same is.
    pub(crate) fn compare_again(&mut self) {
        if self.is_synced && self.phase == Phase::Idle && self.purpose == Purpose::Follow {
            self.compare();
            self.patience = 1;
        }
    }

    /// Begins to compare.
    fn compare(&mut self) {
        self.request = self.request.wrapping_add(1);
        (self.phase, self.ranges) = (Phase::Comparing { seen: 0 }, Ranges::NONE);
    }

    /// Sees to a frame's place in the stream. False if it came too late, so that what it tells may
    /// have been overtaken.
    pub(crate) fn follow(&mut self, header: &Header) -> bool {
        let (position, is_of_stream) = (header.position.get(), header.kind().is_of_stream());
        let Some(before) = self.position else {
            self.position = Some(position);
            return true;
        };
        if position <= before {
            return !is_of_stream;
        }
        if !is_of_stream || position != before + 1 {
            self.gaps += 1;
            self.is_synced = false;
            if self.phase != Phase::Idle {
                // What was not told may have been in what was missed.
                (self.phase, self.patience) = (Phase::Idle, 1);
            }
        }
        self.position = Some(position);
        true
    }

    /// Takes records.
    pub(crate) fn take<T: Twin>(
        &mut self,
        body: &[u8],
        standing: Standing,
        store: &mut T,
        changes: &mut Changes<T>,
        now: Ticks,
    ) {
        let records = <[T::Entry]>::ref_from_bytes(body).expect("the frame's length was looked at");
        for record in records {
            match store.take(record, standing, now, &mut Told(changes)) {
                Taken::Entry(index) => self.confirm(index),
                Taken::Gone => {}
                Taken::Refused => self.refused += 1,
            }
        }
        if self.phase == Phase::Walking {
            self.patience = self.patience.max(2);
        }
    }

    /// Compares a frame of sums. True if an offer has been taken by that.
    pub(crate) fn take_sums<T: Twin>(
        &mut self,
        header: &Header,
        body: &[u8],
        changes: &Changes<T>,
    ) -> bool {
        let Phase::Comparing { seen } = self.phase else { return false };
        let is_now = self.position == Some(header.position.get());
        if header.request.get() != self.request || !is_now || !changes.sums.is_whole() {
            return false;
        }
        let first = header.first.get() as usize;
        let own = changes.sums.part(first);
        for (range, (theirs, own)) in (first..).zip(body.as_chunks().0.iter().zip(own)) {
            if u64::from_le_bytes(*theirs) != *own {
                self.ranges.insert(range);
            }
        }
        let seen = seen | 1 << (first / PER_FRAME);
        self.phase = Phase::Comparing { seen };
        seen.count_ones() as usize == FRAMES && self.conclude()
    }

    /// All sums have been compared.
    fn conclude(&mut self) -> bool {
        if self.ranges.is_empty() {
            (self.phase, self.is_synced) = (Phase::Idle, true);
            return matches!(self.purpose, Purpose::Merge { .. });
        }
        if self.is_synced {
            self.diverged += u64::from(self.ranges.len());
            self.is_synced = false;
        }
        self.request = self.request.wrapping_add(1);
        self.confirmed.fill(0);
        (self.phase, self.patience) = (Phase::Walking, 1);
        false
    }

    /// The other has told all entries of the ranges that were asked for. True if an offer has been
    /// taken by that.
    pub(crate) fn end_walk(&mut self, request: u32) -> bool {
        if self.phase != Phase::Walking || request != self.request {
            return false;
        }
        match self.purpose {
            Purpose::Merge { .. } => {
                (self.phase, self.is_synced) = (Phase::Idle, true);
                true
            }
            _ => {
                self.phase = Phase::Sweeping { cursor: 0 };
                false
            }
        }
    }

    /// Ends, of so many indices, what the other does not have.
    pub(crate) fn sweep<T: Twin>(
        &mut self,
        store: &mut T,
        changes: &mut Changes<T>,
        now: Ticks,
        budget: u32,
    ) {
        let Phase::Sweeping { cursor } = self.phase else { return };
        let end = store.end().min(cursor.saturating_add(budget));
        for index in cursor..end {
            let Some(essence) = store.essence(index) else { continue };
            let range = changes.sums.range(T::key(&essence));
            if self.ranges.contains(range) && !self.is_confirmed(index) {
                store.forget(index, now, &mut Told(changes));
            }
        }
        self.phase = Phase::Sweeping { cursor: end };
        if end == store.end() {
            (self.phase, self.patience) = (Phase::Idle, 1);
        }
    }

    fn confirm(&mut self, index: u32) {
        let index = index as usize;
        self.confirmed[index / 64] |= 1 << (index % 64);
    }

    fn is_confirmed(&self, index: u32) -> bool {
        let index = index as usize;
        self.confirmed[index / 64] >> (index % 64) & 1 != 0
    }
}
