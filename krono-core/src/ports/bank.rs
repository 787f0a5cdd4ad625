//! One class of ports of one bank: those taken and the queue of those held.
//!
//! The queue of held ports is linked through their entries. An entry has 14 bits for the time at
//! which its port is due, in units of 0.4 s; the class keeps the latest such time in full, and
//! those of the queue are read as the ones at or before it. The wrap of 14 bits after 1.8 hours
//! does no harm as long as the queue spans less, which `hold` sees to; that of the clock does none
//! either, since 2^32 ticks are a whole number of 14-bit rounds.

use super::Lookup;
use super::taken::TakenPorts;
use crate::time::{Span, Ticks};

/// How many ports an address has, for one protocol.
pub(super) const PORTS: usize = 1 << 16;

/// How many classes of ports a bank has.
pub(super) const CLASSES: usize = 2;

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

/// The state of a bank, a cache line; zeros: every port free.
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
    reserved: [u32; 3],
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
    /// How many ports are not free: owned or held.
    pub(super) taken: u32,
    /// How many ports are held.
    pub(super) held: u32,
    /// No held port is due later than this; a multiple of [`DUE_UNIT`].
    latest_due: Ticks,
    /// The port that has been held longest, if any is held.
    oldest: u16,
    /// The port that has been held shortest, likewise.
    newest: u16,
    /// The port that is given out next, unless somebody else takes it before, and the random number
    /// that chooses the one after it: both are known early so that their lines can be fetched.
    /// Nothing yet if `is_drawn` is 0.
    next: u16,
    is_drawn: u16,
    drawn: u32,
}

/// The ports that a class gives out.
#[derive(Clone, Copy, Debug)]
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

    /// Takes a free port; its entry is the caller's to set.
    pub(super) fn take_free(&mut self, port: u16) {
        self.taken.insert(port);
        self.state.taken += 1;
    }

    /// Makes a port free that is not, and not held either.
    pub(super) fn free(&mut self, port: u16) {
        self.entries[usize::from(port)] = 0;
        self.taken.remove(port);
        self.state.taken -= 1;
    }

    /// Holds a port that was owned until `hold` has passed.
    pub(super) fn hold(&mut self, port: u16, now: Ticks, hold: Span) {
        assert!(hold <= HOLD_MAX, "ports are not held for more than an hour");
        let mut due = round_up(now.after(hold));
        if self.state.held > 0 && self.state.latest_due.reached(due) {
            // A shorter hold than before would be waiting for the ports ahead of it anyway.
            due = self.state.latest_due;
        }
        // The queue must not span more than 14 bits can tell apart. What is so far behind has been
        // due for 49 minutes, in which nobody asked: the clock of a capture leaps, no other does.
        while self.state.held > 0 && units(due.since(self.oldest_due())) > DUE_MASK {
            self.free_oldest();
        }

        self.entries[usize::from(port)] = held_until(due, port);
        if self.state.held == 0 {
            self.state.oldest = port;
        } else {
            let newest = self.state.newest;
            self.link(newest, port);
        }
        self.state.newest = port;
        self.state.latest_due = due;
        self.state.held += 1;
    }

    /// Frees held ports that are due, oldest first and at most `limit`; returns how many.
    pub(super) fn free_due(&mut self, now: Ticks, limit: u32) -> u32 {
        let mut freed = 0;
        while freed < limit && self.state.held > 0 && now.reached(self.oldest_due()) {
            self.free_oldest();
            freed += 1;
        }
        freed
    }

    /// Takes a held port out of the queue, by a walk; its entry is the caller's to set.
    pub(super) fn take_held(&mut self, port: u16) {
        let next = self.next_held(port);
        if port == self.state.oldest {
            self.state.oldest = next;
        } else {
            let mut before = self.state.oldest;
            while self.next_held(before) != port {
                before = self.next_held(before);
            }
            self.link(before, next);
            if port == self.state.newest {
                self.state.newest = before;
            }
        }
        self.state.held -= 1;
    }

    /// Frees the port that has been held longest.
    fn free_oldest(&mut self) {
        let port = self.state.oldest;
        self.state.oldest = self.next_held(port);
        self.state.held -= 1;
        self.free(port);
    }

    /// When the port that has been held longest may be free.
    fn oldest_due(&self) -> Ticks {
        let latest = self.state.latest_due;
        let due = self.entries[usize::from(self.state.oldest)] >> DUE_SHIFT;
        let earlier_by = units(latest.0).wrapping_sub(due) & DUE_MASK;
        Ticks(latest.0.wrapping_sub(earlier_by * DUE_UNIT))
    }

    /// The port behind a held one in the queue; anything behind the last.
    fn next_held(&self, port: u16) -> u16 {
        self.entries[usize::from(port)] as u16
    }

    /// Makes `next` the port behind a held one.
    fn link(&mut self, port: u16, next: u16) {
        let entry = &mut self.entries[usize::from(port)];
        *entry = *entry & !u32::from(u16::MAX) | u32::from(next);
    }
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
