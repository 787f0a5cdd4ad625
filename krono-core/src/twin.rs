//! What a program offers so that another server, its twin, holds its state as well.

use crate::program::{Events, Program};
use crate::replicable::Shipped;
use crate::time::Ticks;

/// The most bytes that a record may have.
pub const RECORD_MAX: usize = 48;

/// A program whose entries a twin on another server takes over if this one goes.
///
/// An *entry* is what lives and ends by itself, e.g. a session with all that it takes. It lies at
/// an index below [`Twin::end`], does not move, and has a key by which both servers know it. A
/// *record* says of an entry all that the twin must know, or that it is gone. What changes with
/// each packet (times, sequence numbers) is not told; so what lives costs nothing while it only
/// lives.
pub trait Twin: Program {
    /// An entry as it travels, at most [`RECORD_MAX`] bytes.
    type Entry: Shipped;

    /// What both servers must have in common so that one can take the other's records: the layout
    /// of a record, and the settings that give it sense.
    fn layout(&self) -> u64;

    /// What an event says of an entry, if it is about one.
    fn change(event: &Self::Event) -> Option<Change<Self::Entry>>;

    /// What a record says that stays for the entry's life and is its alone.
    fn key(record: &Self::Entry) -> [u64; 2];

    /// What to tell of an entry with this essence that is gone.
    fn gone(essence: &Self::Entry) -> Self::Entry;

    /// All entries lie below this index.
    fn end(&self) -> u32;

    /// The essence of the entry at an index: a record without all that changes from packet to
    /// packet, the same for equal entries on two servers, and what [`Twin::change`] says of it.
    fn essence(&self, index: u32) -> Option<Self::Entry>;

    /// The record of the entry at an index, which is to be sent: from now on the twin may know it.
    fn tell(&mut self, index: u32, now: Ticks) -> Option<Self::Entry>;

    /// Takes what the twin has told. Bounded work; emits events as any change does.
    fn take(
        &mut self,
        record: &Self::Entry,
        standing: Standing,
        now: Ticks,
        events: &mut impl Events<Self::Event>,
    ) -> Taken;

    /// Ends the entry at an index, if there is one, because the twin does not have it.
    fn forget(&mut self, index: u32, now: Ticks, events: &mut impl Events<Self::Event>);

    /// Gives the entry at an index its full time to live from now on, or time without end.
    fn retime(&mut self, index: u32, now: Ticks, life: Life);

    /// The twin knows all changes up to and in the tick `known`. What waited for that may go on.
    fn acknowledge(&mut self, known: Ticks, now: Ticks);

    /// Whether the twin certainly serves nobody, so that what is shared out between the two is all
    /// this one's.
    fn set_alone(&mut self, is_alone: bool);
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<R> {
    /// Where it lies.
    pub index: u32,
    /// Its essence before, unless it is new.
    pub before: Option<R>,
    /// Its essence now, unless it is gone.
    pub after: Option<R>,
}

/// What a twin's word is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It serves, and this one follows: what it says is so, and what contradicts it ends.
    Master,
    /// It served, and this one does now: what it has is taken where nothing here contradicts it,
    /// and that something is gone says nothing. Of two states of one entry the one further along
    /// counts.
    Past,
}

/// What became of a record that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Taken {
    /// The entry lies here, and is as the record says, or further along.
    Entry(u32),
    /// There is no such entry (any more).
    Gone,
    /// It contradicts what is here, or there is no room for it.
    Refused,
}

/// How long an entry lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// As long as after a packet.
    Full,
    /// Until its twin says that it is gone.
    Endless,
}
