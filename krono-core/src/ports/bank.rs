//! One class of ports of one bank: those taken, the queue of those held, and the queue of those
//! that a twin has yet to give up.
//!
//! Both queues are linked through their ports' entries. An entry has 14 bits for the time at
//! which its port is due, in units of 0.4 s; the queue keeps the latest such time in full, and
//! those of its ports are read as the ones at or before it. The wrap of 14 bits after 1.8 hours
//! does no harm as long as the queue spans less, which `hold` sees to; that of the clock does none
//! either, since 2^32 ticks are a whole number of 14-bit rounds. Where ports wait for a twin the
//! queue may span more, and times are read as later ones than they are: those ports wait longer.

use super::Lookup;
use super::taken::TakenPorts;
use crate::time::{Span, Ticks};

/// How many ports an address has, for one protocol.
pub(super) const PORTS: usize = 1 << 16;

/// How many classes of ports a bank has: system ports and others, of each of two parts.
pub(super) const CLASSES: usize = 4;

/// The index of a mapping stays below this.
pub const MAPPINGS_MAX: u32 = 1 << 31;

/// The longest time that a port may be held: one hour. (The queue of held ports can span 1.8.)
pub const HOLD_MAX: Span = Span::from_secs(3600);

/// An entry with this bit is owned.
const OWNED: u32 = 1 << 31;

/// An entry with this bit, and not the one above, is held.
const HELD: u32 = 1 << 30;

/// A time that a port is due at is a multiple of so many ticks.
const DUE_UNIT: u32 = 4;

/// The bits of a due time that an entry keeps, in units.
const DUE_MASK: u32 = (1 << 14) - 1;

/// Where an entry keeps them.
const DUE_SHIFT: u32 = 16;

// A queue that has just been rid of what is due spans one hold: `hold` then never has to free.
const _: () = assert!(HOLD_MAX.0 / DUE_UNIT + 2 < DUE_MASK);

/// What an entry of a dense array says.
#[inline]
pub(super) const fn meaning(entry: u32) -> Lookup {
    if entry & OWNED != 0 {
        Lookup::Owned(entry & !OWNED)
    } else if entry & HELD != 0 {
        Lookup::Held
    } else {
        Lookup::Free
    }
}

/// The entry of a port owned by this mapping.
///
/// # Panics
/// If `mapping` is [`MAPPINGS_MAX`] or more.
#[inline]
pub(super) const fn owned_by(mapping: u32) -> u32 {
    assert!(mapping < MAPPINGS_MAX, "a mapping's index has 31 bits");
    OWNED | mapping
}

/// The state of a bank, whose first cache line is all that a shard without twin needs; zeros: every
/// port free.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
#[repr(C, align(64))]
pub struct BankState {
    pub(super) classes: [ClassState; CLASSES],
    /// Static mappings on ports that lie in no class's range.
    pub(super) owned_outside: u32,
    /// By class: ports that a twin may take for owned.
    pub(super) waiting: [Queue; CLASSES],
    reserved: [u32; 11],
}

const _: () = assert!(size_of::<BankState>() == 192);

/// Ports in a queue that is threaded through their entries, each with a time that is not before
/// those of the ports ahead of it.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
#[repr(C)]
pub(super) struct Queue {
    /// How many there are.
    pub(super) len: u32,
    /// No time is later than this; a multiple of [`DUE_UNIT`].
    latest: Ticks,
    /// The first and the last port, if there are any.
    oldest: u16,
    newest: u16,
}

/// The state of a class of ports.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
#[repr(C)]
pub(super) struct ClassState {
    /// How many ports are not free: owned, held or waiting.
    pub(super) taken: u32,
    /// The ports that are held, each until its time.
    pub(super) held: Queue,
    /// The port that is given out next, unless somebody else takes it before, and the random number
    /// that chooses the one after it: both are known early so that their lines can be fetched.
    /// Nothing yet if `is_drawn` is 0.
    next: u16,
    is_drawn: u16,
    drawn: u32,
}

/// The ports that a class gives out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PortRange {
    first: u16,
    len: u32,
}

impl PortRange {
    pub(super) const EMPTY: PortRange = PortRange { first: 0, len: 0 };

    /// The ports from `first` to `last`; none if `last` comes before `first`.
    pub(super) fn between(first: u16, last: u16) -> Self {
        let len = (u32::from(last) + 1).saturating_sub(u32::from(first));
        PortRange { first, len }
    }

    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    /// The first so many percent of these ports, and the others.
    pub(super) fn split(&self, percent: u8) -> [PortRange; 2] {
        let first = self.len * u32::from(percent) / 100;
        let behind = self.first.wrapping_add(first as u16);
        [PortRange { len: first, ..*self }, PortRange { first: behind, len: self.len - first }]
    }

    /// The first and the last port, unless there are none.
    pub(super) fn bounds(&self) -> Option<(u16, u16)> {
        let last = self.len.checked_sub(1)?;
        Some((self.first, self.first + last as u16))
    }

    /// The port that a random number stands for: off from uniform by 2^-16 at most.
    #[inline]
    pub(super) fn scaled(&self, random: u32) -> u16 {
        self.first.wrapping_add(((u64::from(random) * u64::from(self.len)) >> 32) as u16)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) const fn contains(&self, port: u16) -> bool {
        port >= self.first && ((port - self.first) as u32) < self.len
    }
}

impl ClassState {
    /// The ports whose bits the next allocation looks at: the one that it gives out first.
    #[inline]
    pub(super) fn next_ports(&self, range: PortRange) -> [u16; 2] {
        [self.next, range.scaled(self.drawn)]
    }
}

/// One class of ports of one bank.
pub(super) struct Class<'a> {
    pub(super) entries: &'a mut [u32; PORTS],
    pub(super) taken: &'a mut TakenPorts,
    pub(super) state: &'a mut ClassState,
    pub(super) waiting: &'a mut Queue,
    pub(super) range: PortRange,
}

impl Class<'_> {
    /// Gives a random free port to `mapping`; `None` if no port is free.
    pub(super) fn allocate(
        &mut self,
        mapping: u32,
        mut random: impl FnMut() -> u32,
    ) -> Option<u16> {
        if self.range.len == self.state.taken {
            return None;
        }
        if self.state.is_drawn == 0 || self.taken.contains(self.state.next) {
            self.state.next = self.taken.choose(random(), self.range)?;
        }
        if self.state.is_drawn == 0 {
            (self.state.drawn, self.state.is_drawn) = (random(), 1);
        }
        let port = self.state.next;
        self.take_free(port);
        self.entries[usize::from(port)] = owned_by(mapping);
        // If none is left now, the next allocation sees that.
        self.state.next = self.taken.choose(self.state.drawn, self.range).unwrap_or(port);
        self.state.drawn = random();
        Some(port)
    }

    /// [`Class::allocate`] for who is alone and has none of its own left, behind
    /// [`Class::free_due`]. Apart, so that the usual one stays small.
    #[cold]
    pub(super) fn allocate_of_others(
        &mut self,
        mapping: u32,
        random: &mut dyn FnMut() -> u32,
        now: Ticks,
    ) -> Option<u16> {
        self.free_due(now, super::FREED_BY_ALLOCATION);
        self.allocate(mapping, random)
    }

    /// Takes a free port; its entry is the caller's to set.
    pub(super) fn take_free(&mut self, port: u16) {
        self.taken.insert(port);
        self.state.taken += 1;
    }

    /// Makes a port free that is not, and in no queue either.
    pub(super) fn free(&mut self, port: u16) {
        self.entries[usize::from(port)] = 0;
        self.taken.remove(port);
        self.state.taken -= 1;
    }

    /// Holds a port that was owned until `hold` has passed.
    #[inline(always)]
    pub(super) fn hold(&mut self, port: u16, now: Ticks, hold: Span) {
        assert!(hold <= HOLD_MAX, "ports are not held for more than an hour");
        let due = round_up(now.after(hold));
        // The queue must not span more than 14 bits can tell apart. What is so far behind has been
        // due for 49 minutes, in which nobody asked: the clock of a capture leaps, no other does.
        while self.state.held.len > 0 && self.state.held.spans_too_much(self.entries, due) {
            self.free_oldest();
        }
        self.state.held.push(self.entries, port, due);
    }

    /// Frees held ports that are due, oldest first and at most `limit`; returns how many.
    pub(super) fn free_due(&mut self, now: Ticks, limit: u32) -> u32 {
        let mut freed = 0;
        while freed < limit && self.state.held.is_due(self.entries, now) {
            self.free_oldest();
            freed += 1;
        }
        freed
    }

    /// Has a port that was owned wait until a twin has given it up as well.
    pub(super) fn wait(&mut self, port: u16, now: Ticks) {
        self.waiting.push(self.entries, port, round_up(now));
    }

    /// Holds ports that waited, if a twin knows of all that was before `known`; at most `limit` of
    /// them. Returns how many.
    pub(super) fn settle(&mut self, known: Ticks, now: Ticks, hold: Span, limit: u32) -> u32 {
        let mut settled = 0;
        while settled < limit && self.waiting.is_due(self.entries, known) {
            let port = self.waiting.pop(self.entries);
            if hold == Span(0) {
                self.free(port);
            } else {
                self.hold(port, now, hold);
            }
            settled += 1;
        }
        settled
    }

    /// Takes a held or waiting port out of its queue, by a walk; its entry is the caller's to set.
    pub(super) fn take_held(&mut self, port: u16) {
        let is_held = self.state.held.take(self.entries, port);
        assert!(is_held || self.waiting.take(self.entries, port), "port {port} is in no queue");
    }

    /// Frees the port that has been held longest.
    fn free_oldest(&mut self) {
        let port = self.state.held.pop(self.entries);
        self.free(port);
    }
}

impl Queue {
    /// Adds a port, at its time or at the latest before it: it would wait for the ports ahead
    /// anyway.
    #[inline(always)]
    fn push(&mut self, entries: &mut [u32; PORTS], port: u16, at: Ticks) {
        if self.len == 0 || !self.latest.reached(at) {
            self.latest = at;
        }
        entries[usize::from(port)] = held_until(self.latest, port);
        if self.len == 0 {
            self.oldest = port;
        } else {
            link(entries, self.newest, port);
        }
        self.newest = port;
        self.len += 1;
    }

    /// Takes the first port, of which there must be one.
    fn pop(&mut self, entries: &[u32; PORTS]) -> u16 {
        let port = self.oldest;
        self.oldest = behind(entries, port);
        self.len -= 1;
        port
    }

    /// Takes this port, if it is there.
    fn take(&mut self, entries: &mut [u32; PORTS], port: u16) -> bool {
        let (mut before, mut at) = (None, self.oldest);
        for _ in 0..self.len {
            if at != port {
                (before, at) = (Some(at), behind(entries, at));
                continue;
            }
            let next = behind(entries, port);
            match before {
                None => self.oldest = next,
                Some(before) => link(entries, before, next),
            }
            if port == self.newest {
                self.newest = before.unwrap_or(port);
            }
            self.len -= 1;
            return true;
        }
        false
    }

    /// Whether there is a port whose time has come.
    #[inline]
    fn is_due(&self, entries: &[u32; PORTS], now: Ticks) -> bool {
        self.len > 0 && now.reached(self.first_at(entries))
    }

    /// Whether `at` is so much later than the first port's time that 14 bits do not tell. There must
    /// be one.
    #[inline]
    fn spans_too_much(&self, entries: &[u32; PORTS], at: Ticks) -> bool {
        let at = if self.latest.reached(at) { self.latest } else { at };
        units(at.since(self.first_at(entries))) > DUE_MASK
    }

    /// The first port's time.
    #[inline]
    fn first_at(&self, entries: &[u32; PORTS]) -> Ticks {
        let at = entries[usize::from(self.oldest)] >> DUE_SHIFT;
        let earlier_by = units(self.latest.0).wrapping_sub(at) & DUE_MASK;
        Ticks(self.latest.0.wrapping_sub(earlier_by * DUE_UNIT))
    }
}

/// The port behind another in its queue; anything behind the last.
#[inline]
fn behind(entries: &[u32; PORTS], port: u16) -> u16 {
    entries[usize::from(port)] as u16
}

/// Makes `next` the port behind `port` in its queue.
#[inline]
fn link(entries: &mut [u32; PORTS], port: u16, next: u16) {
    let entry = &mut entries[usize::from(port)];
    *entry = *entry & !u32::from(u16::MAX) | u32::from(next);
}

/// The entry of a port held until `due`, with `next` behind it.
const fn held_until(due: Ticks, next: u16) -> u32 {
    HELD | (units(due.0) & DUE_MASK) << DUE_SHIFT | next as u32
}

/// Ticks in units of due times.
const fn units(ticks: u32) -> u32 {
    ticks / DUE_UNIT
}

/// The first moment that due times can express which is not before this one.
const fn round_up(moment: Ticks) -> Ticks {
    Ticks(moment.0.wrapping_add(DUE_UNIT - 1) / DUE_UNIT * DUE_UNIT)
}
