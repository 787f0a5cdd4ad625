//! What is to be told: changes, entries of ranges that the other asks for, sums.
//!
//! A change is noted by its entry's index and read when it is put into a frame, so that a note is
//! small and what changes twice is told as it is then. Order does not suffer: whoever reads a note
//! later reads a later state, and an entry that is gone by then has a note of its own behind.
//!
//! A note that finds no room, or nobody to be told, is left out and the position of the stream
//! skips one. The other sees that as it sees a frame that was lost: it compares, and asks for what
//! differs.

use arrayvec::ArrayVec;
use krono_core::program::Events;
use krono_core::time::{Moment, Ticks};
use krono_core::twin::{Change, Twin};
use zerocopy::IntoBytes;

use crate::frame::{BODY_MAX, Kind};
use crate::sums::{self, FRAMES, PER_FRAME, Ranges, Sums};

/// The most records that a frame takes, whatever they are.
const RECORDS_MAX: usize = 255;

/// What is to be told of an index.
#[derive(Clone, Copy, Default)]
struct Note<R> {
    index: u32,
    /// The entry that was there is gone.
    is_gone: bool,
    gone: R,
}

/// A half's changes: where its program's events go.
pub struct Changes<T: Twin> {
    pub(crate) sums: Sums,
    notes: Box<[Note<T::Entry>]>,
    first: usize,
    len: usize,
    /// Whether there is somebody to be told.
    pub(crate) is_heard: bool,
    /// Whether what changes here is to be told at all.
    pub(crate) is_source: bool,
    /// The position of the last frame of the stream, or of the last change that was left out.
    pub(crate) position: u64,
    /// How many changes were left out for want of room.
    pub(crate) overflowed: u64,
}

impl<T: Twin> Events<T::Event> for Changes<T> {
    #[inline]
    fn emit(&mut self, event: T::Event) {
        let Some(change) = T::change(&event) else { return };
        self.sums.note::<T>(&change);
        if self.is_source {
            self.note(&change);
        }
    }
}

impl<T: Twin> Changes<T> {
    fn note(&mut self, change: &Change<T::Entry>) {
        if !self.is_heard || self.len == self.notes.len() {
            self.overflowed += u64::from(self.is_heard);
            self.position += 1;
            return;
        }
        let gone = match (change.after, change.before) {
            (None, Some(before)) => Some(T::gone(&before)),
            _ => None,
        };
        let at = (self.first + self.len) % self.notes.len();
        self.notes[at] =
            Note { index: change.index, is_gone: gone.is_some(), gone: gone.unwrap_or_default() };
        self.len += 1;
    }

    fn take_note(&mut self) -> Option<Note<T::Entry>> {
        self.len = self.len.checked_sub(1)?;
        let note = self.notes[self.first];
        self.first = (self.first + 1) % self.notes.len();
        Some(note)
    }

    /// Forgets what was to be told: there is nobody any more.
    pub(crate) fn drop_notes(&mut self) {
        if self.len > 0 {
            self.position += 1;
        }
        self.len = 0;
    }
}

/// Only sums: for changes that the other has told.
pub(crate) struct Told<'s, T: Twin>(pub(crate) &'s mut Changes<T>);

impl<T: Twin> Events<T::Event> for Told<'_, T> {
    fn emit(&mut self, event: T::Event) {
        if let Some(change) = T::change(&event) {
            self.0.sums.note::<T>(&change);
        }
    }
}

/// Entries that the other wants to be told.
#[derive(Clone, Copy)]
struct Walk {
    request: u32,
    ranges: Ranges,
    cursor: u32,
    has_ended: bool,
}

/// Up to where the other is to acknowledge, and what it then knows.
#[derive(Clone, Copy)]
struct Mark {
    position: u64,
    at: Moment,
}

/// A frame's body that is to be sent.
pub(crate) struct Part {
    pub(crate) kind: Kind,
    pub(crate) request: u32,
    pub(crate) first: u32,
    pub(crate) count: u8,
    pub(crate) len: usize,
}

/// What a half tells, see the [module](self).
pub struct Outbox<T: Twin> {
    pub(crate) changes: Changes<T>,
    pending: ArrayVec<T::Entry, RECORDS_MAX>,
    /// Polls since the oldest pending record came without a frame.
    waited: u32,
    walk: Option<Walk>,
    /// The last request for sums, and the frames of them that are due, a bit for each.
    sums_request: u32,
    sums_due: u8,
    /// Up to where the other has acknowledged.
    pub(crate) acknowledged: u64,
    mark: Mark,
    /// The other knows all changes before this.
    pub(crate) known: Moment,
}

const _: () = assert!(FRAMES == 8, "a bit for each");

impl<T: Twin> Outbox<T> {
    /// Room for so many changes that wait.
    pub(crate) fn new(seed: [u8; 32], notes_max: usize, now: Moment) -> Outbox<T> {
        assert!(notes_max > 0, "no room for any change");
        let changes = Changes {
            sums: Sums::new(seed),
            notes: vec![Note::default(); notes_max].into_boxed_slice(),
            first: 0,
            len: 0,
            is_heard: false,
            is_source: false,
            position: 1,
            overflowed: 0,
        };
        Outbox {
            changes,
            pending: ArrayVec::new(),
            waited: 0,
            walk: None,
            sums_request: 0,
            sums_due: 0,
            acknowledged: 0,
            mark: Mark { position: u64::MAX, at: now },
            known: now,
        }
    }

    /// How many records a frame takes.
    const PER_FRAME: usize = {
        let fit = BODY_MAX / size_of::<T::Entry>();
        if fit < RECORDS_MAX { fit } else { RECORDS_MAX }
    };

    /// Changes and entries that wait to be sent.
    pub(crate) fn queued(&self) -> usize {
        self.changes.len + self.pending.len()
    }

    /// Whether no more waits than the next frame takes.
    pub(crate) fn is_in_time(&self) -> bool {
        self.changes.len <= Self::PER_FRAME && self.walk.is_none()
    }

    /// The other is a new one, or gone: what it asked for is void.
    pub(crate) fn forget_peer(&mut self) {
        self.changes.drop_notes();
        if !self.pending.is_empty() {
            self.pending.clear();
            self.changes.position += 1;
        }
        (self.walk, self.sums_due, self.acknowledged) = (None, 0, 0);
        self.mark.position = u64::MAX;
    }

    /// The other wants all sums.
    pub(crate) fn ask_sums(&mut self, request: u32) {
        (self.sums_request, self.sums_due) = (request, u8::MAX);
    }

    /// The other wants to be told all entries of these ranges, unless it has said so before.
    pub(crate) fn ask_walk(&mut self, request: u32, ranges: Ranges) {
        if self.walk.is_none_or(|walk| walk.request != request) {
            self.walk = Some(Walk { request, ranges, cursor: 0, has_ended: false });
        }
    }

    /// The other has everything up to here.
    pub(crate) fn acknowledge(&mut self, position: u64) {
        // What it says of an earlier time, or of another stream, says nothing.
        if position > self.acknowledged && position <= self.changes.position {
            self.acknowledged = position;
        }
    }

    /// Sees what the other knows by now. To be called at every housekeeping.
    pub(crate) fn note_known(&mut self, now: Moment) {
        if self.acknowledged >= self.mark.position {
            self.known = self.mark.at;
            self.mark.position = u64::MAX;
        }
        // An unused mark is replaced; one that is waited for is not, or it would never be reached.
        let is_waited_for = self.mark.position <= self.changes.position;
        if !is_waited_for {
            let frames = self.queued().div_ceil(Self::PER_FRAME) as u64;
            self.mark = Mark { position: self.changes.position + frames, at: now };
        }
    }

    /// [`Outbox::known`] in ticks: the tick of that moment itself may have changes behind it.
    pub(crate) fn known_ticks(&self) -> Ticks {
        Ticks(self.known.ticks().0.wrapping_sub(1))
    }

    /// The next thing to be sent, its body in `body`; nothing while a frame may still fill up.
    pub(crate) fn poll(
        &mut self,
        store: &mut T,
        now: Moment,
        settings: &crate::Settings,
        body: &mut [u8],
    ) -> Option<Part> {
        self.fill(store, now.ticks());
        let wants_sums = self.sums_due != 0 && self.changes.sums.is_whole();
        if self.changes.len == 0 && !wants_sums {
            self.fill_by_walk(store, now.ticks(), settings.walk_budget);
        }
        let is_full = self.pending.len() == Self::PER_FRAME;
        let walk_ends = self.walk.is_some_and(|walk| walk.has_ended);
        if is_full || self.changes.len == 0 && (wants_sums || walk_ends) && !self.pending.is_empty()
        {
            return Some(self.flush(body));
        }
        if self.changes.len == 0 && wants_sums {
            return Some(self.sums_part(body));
        }
        if walk_ends {
            let request = self.walk.take().map_or(0, |walk| walk.request);
            self.changes.position += 1;
            return Some(Part { kind: Kind::WalkEnd, request, first: 0, count: 0, len: 0 });
        }
        if self.pending.is_empty() {
            return None;
        }
        self.waited += 1;
        (self.waited >= settings.flush_polls).then(|| self.flush(body))
    }

    /// Reads what has changed, as much as fits a frame.
    fn fill(&mut self, store: &mut T, now: Ticks) {
        while self.pending.len() < Self::PER_FRAME
            && let Some(note) = self.changes.take_note()
        {
            if note.is_gone {
                self.pending.push(note.gone);
            } else if let Some(record) = store.tell(note.index, now) {
                self.pending.push(record);
            }
        }
    }

    /// Walks on through what the other asked for.
    fn fill_by_walk(&mut self, store: &mut T, now: Ticks, budget: u32) {
        let Some(walk) = &mut self.walk else { return };
        let stop = walk.cursor.saturating_add(budget);
        while walk.cursor < stop.min(store.end()) && self.pending.len() < Self::PER_FRAME {
            let index = walk.cursor;
            walk.cursor += 1;
            let Some(essence) = store.essence(index) else { continue };
            let range = self.changes.sums.range(T::key(&essence));
            if walk.ranges.contains(range)
                && let Some(record) = store.tell(index, now)
            {
                self.pending.push(record);
            }
        }
        walk.has_ended = walk.cursor >= store.end();
    }

    fn flush(&mut self, body: &mut [u8]) -> Part {
        let bytes = self.pending.as_slice().as_bytes();
        body[..bytes.len()].copy_from_slice(bytes);
        let (count, len) = (self.pending.len() as u8, bytes.len());
        self.pending.clear();
        self.waited = 0;
        self.changes.position += 1;
        Part { kind: Kind::Records, request: 0, first: 0, count, len }
    }

    /// The next frame of sums. All changes up to now have been sent, so they are those of the
    /// stream's position.
    fn sums_part(&mut self, body: &mut [u8]) -> Part {
        let frame = self.sums_due.trailing_zeros() as usize;
        self.sums_due &= self.sums_due - 1;
        let first = frame * PER_FRAME;
        let mut len = 0;
        for sum in self.changes.sums.part(first) {
            body[len..len + 8].copy_from_slice(&sum.to_le_bytes());
            len += 8;
        }
        let (request, count) = (self.sums_request, sums::PER_FRAME as u8);
        Part { kind: Kind::Sums, request, first: first as u32, count, len }
    }
}
