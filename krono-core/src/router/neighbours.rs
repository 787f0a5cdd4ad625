//! Which MAC address a neighbour on a link has (RFC 826; RFC 1122, 2.3.2).

use std::hint::cold_path;
use std::net::Ipv4Addr;

use hashbrown::HashMap;

use super::Duty;
use super::rate::TokenBucket;
use crate::packet::{Mac, Side};
use crate::rewrite::LinkHeader;
use crate::time::{Span, Ticks};

/// How many neighbours a shard holds, both sides together, besides static ones and gateways.
pub const NEIGHBOURS_MAX: usize = 4096;

/// Requests to one neighbour lie this far apart, at least (RFC 1122, 2.3.2.1: at most one a
/// second and destination).
const RETRY: Span = Span::from_secs(1);

/// So many requests stay unanswered before a neighbour counts as gone (RFC 4861, 10:
/// MAX_MULTICAST_SOLICIT and MAX_UNICAST_SOLICIT; ARP has no number of its own).
const REQUESTS_MAX: u8 = 3;

/// A neighbour that answered is believed for so long before it is asked again (RFC 4861, 10:
/// REACHABLE_TIME; RFC 1122, 2.3.2.1 wants "on the order of a minute").
const REACHABLE: Span = Span::from_secs(30);

/// Packets to a neighbour that did not answer are refused for so long before it is asked again.
const NEGATIVE: Span = Span::from_secs(5);

/// A neighbour that is not used for so long is forgotten (RFC 1122, 2.3.2.1; 20 minutes is the
/// custom since 4.2BSD).
const IDLE: Span = Span::from_secs(20 * 60);

/// ARP requests of a shard, all neighbours together: per tick, and at once after a pause.
const REQUESTS_PER_TICK: u32 = 100;
const REQUESTS_BURST: u32 = 100;

/// Names a neighbour. It stays the same neighbour's while a frame waits for it; the name of a
/// neighbour that was forgotten is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NeighbourId(u32);

impl NeighbourId {
    /// The index in arrays by neighbour, below [`super::Router::neighbours_max`].
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Whether a packet can go to a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Its address is known.
    Ready,
    /// Not yet: it is being asked for.
    Wait,
    /// It did not answer a moment ago.
    Unreachable,
}

/// What is known of a neighbour's MAC address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing, and nobody wants to know. Of a dynamic entry: its place is free.
    #[default]
    Unknown,
    /// It was configured. This never changes.
    Static,
    /// It is being asked for by broadcast, so many times already; a frame waits for the answer.
    Incomplete { requests: u8 },
    /// It was confirmed, and is believed without asking until then.
    Reachable { until: Ticks },
    /// It was confirmed once and is used meanwhile, but is asked again by unicast.
    Probing { requests: u8 },
    /// It did not answer.
    Failed,
}

#[derive(Clone, Copy, Debug)]
struct Neighbour {
    side: Side,
    addr: Ipv4Addr,
    /// What goes in front of a packet for it, ready to be copied.
    link: LinkHeader,
    state: State,
    /// When a packet last went there, or the neighbour last spoke.
    used: Ticks,
}

impl Neighbour {
    /// A neighbour that nothing is known of; `own` is the shard's link header on that side.
    fn new(side: Side, addr: Ipv4Addr, own: &LinkHeader) -> Self {
        let link = LinkHeader { to: Mac::default(), ..*own };
        Neighbour { side, addr, link, state: State::Unknown, used: Ticks::default() }
    }

    fn wants_request(&self) -> bool {
        match self.state {
            State::Incomplete { requests } | State::Probing { requests } => requests < REQUESTS_MAX,
            _ => false,
        }
    }
}

/// The neighbours of both sides of a shard.
///
/// An entry is `Incomplete` exactly while a frame may wait for it: it leaves that state by an
/// answer ([`Neighbours::confirm`] is true) or by a [`Duty::GiveUp`], once, and only entries in
/// other states are forgotten. So an id is never given to another neighbour under a held frame.
#[derive(Debug)]
pub(super) struct Neighbours {
    /// The shard's own link header on each side.
    own: [LinkHeader; 2],
    /// Static ones, then gateways, then places for dynamic ones.
    entries: Vec<Neighbour>,
    /// When time next changes something for each entry; what it is depends on the state. Apart
    /// from the entries, so that looking through all of them is cheap.
    due: Vec<Ticks>,
    /// Never grows: it has room for twice as many as there are, so that a table full of deleted
    /// places is cleaned where it is.
    ids: HashMap<(Side, Ipv4Addr), NeighbourId>,
    free: Vec<NeighbourId>,
    /// Entries below this index are static or gateways; they are never forgotten.
    permanent: usize,
    /// How far the present look through `due` has come; all of it: none is under way.
    scanned: usize,
    /// No entry is due before, but for those that the present look has yet to see.
    wake: Ticks,
    budget: TokenBucket,
}

impl Neighbours {
    pub(super) fn new(
        own: [LinkHeader; 2],
        fixed: impl Iterator<Item = (Side, Ipv4Addr, Mac)>,
        gateways: impl Iterator<Item = (Side, Ipv4Addr)>,
    ) -> Self {
        let mut entries = Vec::new();
        let mut ids = HashMap::new();
        let unknown = |side, addr| Neighbour::new(side, addr, &own[side as usize]);
        for (side, addr, mac) in fixed {
            ids.entry((side, addr)).or_insert_with(|| {
                let mut entry = Neighbour { state: State::Static, ..unknown(side, addr) };
                entry.link.to = mac;
                entries.push(entry);
                NeighbourId(entries.len() as u32 - 1)
            });
        }
        for (side, addr) in gateways {
            ids.entry((side, addr)).or_insert_with(|| {
                entries.push(unknown(side, addr));
                NeighbourId(entries.len() as u32 - 1)
            });
        }
        let permanent = entries.len();
        let vacant = unknown(Side::default(), Ipv4Addr::UNSPECIFIED);
        entries.resize(permanent + NEIGHBOURS_MAX, vacant);
        ids.reserve(2 * entries.len() - ids.len());
        Neighbours {
            own,
            due: vec![Ticks::default(); entries.len()],
            ids,
            free: (permanent..entries.len()).rev().map(|index| NeighbourId(index as u32)).collect(),
            entries,
            permanent,
            scanned: 0,
            wake: Ticks::default(),
            budget: TokenBucket::new(REQUESTS_PER_TICK, REQUESTS_BURST),
        }
    }

    /// How many there may be: the bound of [`NeighbourId::index`].
    pub(super) fn capacity(&self) -> usize {
        self.entries.len()
    }

    #[inline]
    pub(super) fn find(&self, side: Side, addr: Ipv4Addr) -> Option<NeighbourId> {
        self.ids.get(&(side, addr)).copied()
    }

    /// Makes an entry for a neighbour that has none; `None` if the table is full. The caller
    /// goes on to [`Neighbours::reach`] or [`Neighbours::confirm`] it, for nothing else gives
    /// the place back.
    pub(super) fn add(&mut self, side: Side, addr: Ipv4Addr) -> Option<NeighbourId> {
        let id = self.free.pop()?;
        self.entries[id.index()] = Neighbour::new(side, addr, &self.own[side as usize]);
        self.ids.insert((side, addr), id);
        Some(id)
    }

    /// The link header to a neighbour, with its address as far as it is known.
    #[inline]
    pub(super) fn link(&self, id: NeighbourId) -> &LinkHeader {
        &self.entries[id.index()].link
    }

    /// A packet wants to go there.
    #[inline]
    pub(super) fn reach(&mut self, id: NeighbourId, now: Ticks) -> Reach {
        let entry = &mut self.entries[id.index()];
        entry.used = now;
        match entry.state {
            State::Reachable { until } if !now.reached(until) => Reach::Ready,
            State::Static | State::Probing { .. } => Reach::Ready,
            _ => {
                cold_path();
                self.resolve(id, now)
            }
        }
    }

    /// Nothing is known, or nothing lately.
    #[cold]
    fn resolve(&mut self, id: NeighbourId, now: Ticks) -> Reach {
        let entry = &mut self.entries[id.index()];
        let (next, reach) = match entry.state {
            State::Static | State::Probing { .. } => return Reach::Ready,
            State::Incomplete { .. } => return Reach::Wait,
            State::Failed => return Reach::Unreachable,
            State::Reachable { .. } => (State::Probing { requests: 0 }, Reach::Ready),
            State::Unknown => (State::Incomplete { requests: 0 }, Reach::Wait),
        };
        entry.state = next;
        self.schedule(id, now);
        reach
    }

    /// The neighbour said that this is its MAC address. Whether a frame may wait for that.
    pub(super) fn confirm(&mut self, id: NeighbourId, mac: Mac, now: Ticks) -> bool {
        let entry = &mut self.entries[id.index()];
        if entry.state == State::Static {
            return false;
        }
        let awaited = matches!(entry.state, State::Incomplete { .. });
        entry.link.to = mac;
        entry.state = State::Reachable { until: now.after(REACHABLE) };
        entry.used = now;
        self.schedule(id, now.after(IDLE));
        awaited
    }

    /// What is to be done now that it is `now`; to be called until there is nothing.
    ///
    /// Costs one comparison while nothing is due; else the due times of all entries are looked
    /// through, once over all the calls up to the one that returns `None`.
    pub(super) fn duty(&mut self, now: Ticks) -> Option<Duty> {
        if self.scanned == self.due.len() {
            if !self.is_due(now) {
                return None;
            }
            self.scanned = 0;
            self.wake = never(now);
        }
        while let Some(due) = self.due.get(self.scanned).copied() {
            let id = NeighbourId(self.scanned as u32);
            let mut duty = None;
            if now.reached(due) {
                // Out of requests for now: the next call goes on here.
                if self.entries[id.index()].wants_request() && !self.budget.take(now) {
                    return None;
                }
                duty = self.elapse(id, now);
            }
            self.wake = earlier(self.wake, self.due[id.index()]);
            self.scanned += 1;
            if duty.is_some() {
                return duty;
            }
        }
        None
    }

    /// Whether something may be due, when no look through the entries is under way.
    #[inline]
    pub(super) fn is_due(&self, now: Ticks) -> bool {
        now.reached(self.wake)
    }

    /// The time that an entry was due at has come.
    fn elapse(&mut self, id: NeighbourId, now: Ticks) -> Option<Duty> {
        let entry = &mut self.entries[id.index()];
        let due = &mut self.due[id.index()];
        let request = |to| Some(Duty::Request { side: entry.side, target: entry.addr, to });
        match entry.state {
            State::Incomplete { requests } if requests < REQUESTS_MAX => {
                entry.state = State::Incomplete { requests: requests + 1 };
                *due = now.after(RETRY);
                request(Mac::BROADCAST)
            }
            State::Probing { requests } if requests < REQUESTS_MAX => {
                entry.state = State::Probing { requests: requests + 1 };
                *due = now.after(RETRY);
                request(entry.link.to)
            }
            State::Incomplete { .. } => {
                entry.state = State::Failed;
                *due = now.after(NEGATIVE);
                Some(Duty::GiveUp(id))
            }
            State::Reachable { .. } if !now.reached(entry.used.after(IDLE)) => {
                *due = entry.used.after(IDLE);
                None
            }
            // One that falls silent while in use is forgotten rather than failed: it may have a
            // new address, which the next packet's broadcast finds.
            State::Reachable { .. } | State::Probing { .. } | State::Failed => {
                *due = never(now);
                self.forget(id);
                None
            }
            State::Unknown | State::Static => {
                *due = never(now);
                None
            }
        }
    }

    fn forget(&mut self, id: NeighbourId) {
        let entry = &mut self.entries[id.index()];
        entry.state = State::Unknown;
        if id.index() >= self.permanent {
            self.ids.remove(&(entry.side, entry.addr));
            self.free.push(id);
        }
    }

    #[cfg(test)]
    pub(super) fn ids_size(&self) -> usize {
        self.ids.allocation_size()
    }

    fn schedule(&mut self, id: NeighbourId, due: Ticks) {
        self.due[id.index()] = due;
        self.wake = earlier(self.wake, due);
    }
}

/// A moment so far away that nothing is late by looking again then.
fn never(now: Ticks) -> Ticks {
    now.after(Span::MAX)
}

/// The earlier of two moments less than 2^31 ticks apart.
#[inline]
fn earlier(a: Ticks, b: Ticks) -> Ticks {
    if b.reached(a) { a } else { b }
}
