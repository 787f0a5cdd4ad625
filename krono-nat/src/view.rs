//! What people may see of the state: counts, sessions page by page, who owns a public port.

use krono_core::packet::{Endpoint, Protocol};
use krono_core::ports::Lookup;
use krono_core::time::{Span, Ticks};

use crate::entry::{EntryKind, Flags};
use crate::nat::Nat;

/// How much is alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Live sessions.
    pub sessions: u64,
    /// Live mappings, static ones included.
    pub mappings: u64,
    /// Subscribers with at least one mapping.
    pub subscribers: u64,
}

/// One session, or a mapping that has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// The transport.
    pub protocol: Protocol,
    /// The subscriber's endpoint.
    pub inside: Endpoint,
    /// The public endpoint; the inside one if the session is not translated.
    pub outside: Endpoint,
    /// The remote endpoint; none for a static mapping without a session.
    pub remote: Option<Endpoint>,
    /// The state's name, e.g. `established`.
    pub state: &'static str,
    /// When it ends unless a packet from inside comes.
    pub expires_in: Span,
    /// Whether it belongs to a static mapping.
    pub is_static: bool,
}

impl Nat<'_> {
    /// How much is alive now.
    pub fn counts(&self) -> Counts {
        Counts { subscribers: u64::from(self.subscribers.len()), ..self.counts }
    }

    /// Shows the sessions in the records from `cursor` on, looking at no more than `budget`
    /// records; returns where to go on, or `None` at the end. Sessions that live throughout a
    /// walk are shown exactly once, whatever else comes and goes: records never move.
    pub fn walk(
        &self,
        cursor: u32,
        budget: u32,
        now: Ticks,
        mut show: impl FnMut(SessionView) -> bool,
    ) -> Option<u32> {
        let used = self.free.high_water();
        let end = cursor.saturating_add(budget).min(used);
        for index in cursor..end {
            if let Some(view) = self.view(index, now)
                && !show(view)
            {
                return Some(index);
            }
        }
        (end < used).then_some(end)
    }

    /// The session in a record, or the mapping if it is a static one without session.
    pub fn view(&self, index: u32, now: Ticks) -> Option<SessionView> {
        let entry = &self.entries[index as usize];
        let has_session = entry.flags.has(Flags::SESSION);
        if !has_session && !entry.flags.has(Flags::STATIC) {
            return None;
        }
        let is_static = match entry.kind() {
            EntryKind::Session => self.entries[entry.owner as usize].flags.has(Flags::STATIC),
            _ => entry.flags.has(Flags::STATIC),
        };
        let state = match (entry.kind(), entry.connection.state()) {
            _ if !has_session => "listening",
            (EntryKind::Bypass, None) => "untranslated",
            (_, None) => "open",
            (_, Some(state)) => state.name(),
        };
        Some(SessionView {
            protocol: entry.protocol(),
            inside: entry.translation.inside(),
            outside: entry.translation.outside(),
            remote: has_session.then(|| entry.remote()),
            state,
            expires_in: if has_session { now.until(entry.deadline) } else { Span(0) },
            is_static,
        })
    }

    /// How many public ports of a protocol new mappings could get now.
    pub fn free_ports(&self, protocol: Protocol) -> u64 {
        let addresses = 0..self.ports.pool().len() as u32;
        addresses.map(|address| u64::from(self.ports.free(protocol, address))).sum()
    }

    /// Who has this public endpoint: the inside endpoint of its mapping.
    pub fn owner(&self, protocol: Protocol, outside: Endpoint) -> Option<Endpoint> {
        match self.ports.lookup(protocol, outside) {
            Lookup::Owned(mapping) => Some(self.entries[mapping as usize].translation.inside()),
            _ => None,
        }
    }
}
