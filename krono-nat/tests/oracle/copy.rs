//! What others know of the state: a copy that is made of events alone, and one that joins late,
//! by a walk that traffic interleaves with.

use std::collections::{BTreeMap, BTreeSet};

use krono_core::packet::{Endpoint, Protocol};
use krono_core::time::Ticks;
use krono_nat::{Change, Event, Nat, SessionView, TcpState};

/// Protocol, inside, outside, remote.
pub type Row = (Protocol, Endpoint, Endpoint, Option<Endpoint>);

/// Everything that lives: the sessions, and the mappings as rows without remote endpoint.
#[derive(Default)]
pub struct Copy {
    mappings: BTreeMap<u32, Row>,
    sessions: BTreeMap<u32, (Row, Option<TcpState>)>,
}

impl Copy {
    /// A translator starts with its static mappings, in records that nobody knows yet.
    pub fn with_mappings(rows: impl IntoIterator<Item = Row>) -> Copy {
        Copy { mappings: (0..).zip(rows).collect(), ..Copy::default() }
    }

    pub fn apply(&mut self, event: &Event) {
        let mapping = (event.protocol, event.inside, event.outside, None);
        let session = (event.protocol, event.inside, event.outside, Some(event.remote));
        match event.change {
            Change::MappingCreated => {
                assert!(!self.sessions.contains_key(&event.index), "{event:?}");
                assert_eq!(self.mappings.insert(event.index, mapping), None, "{event:?}");
            }
            Change::MappingDeleted => {
                assert!(!self.sessions.contains_key(&event.index), "{event:?}");
                assert_eq!(self.mappings.remove(&event.index), Some(mapping), "{event:?}");
            }
            Change::SessionCreated => {
                let created = self.sessions.insert(event.index, (session, event.state));
                assert_eq!(created, None, "{event:?}");
                let own = self.mappings.get(&event.index);
                assert!(own.is_none_or(|own| *own == mapping), "{event:?} in {own:?}");
            }
            Change::SessionUpdated => {
                let updated = self.sessions.insert(event.index, (session, event.state));
                assert_eq!(updated, Some((session, event.before)), "{event:?}");
            }
            Change::SessionDeleted => {
                let deleted = self.sessions.remove(&event.index);
                assert_eq!(deleted, Some((session, event.state)), "{event:?}");
            }
        }
    }

    pub fn sessions(&self) -> BTreeSet<Row> {
        self.sessions.values().map(|(row, _)| *row).collect()
    }

    /// The states of connections, by their names.
    pub fn states(&self) -> BTreeMap<Row, &'static str> {
        let named = |(row, state): &(Row, Option<TcpState>)| Some((*row, state.as_ref()?.name()));
        self.sessions.values().filter_map(named).collect()
    }

    pub fn mappings(&self) -> BTreeSet<Row> {
        self.mappings.values().copied().collect()
    }
}

/// Somebody who missed everything up to now, walks, and listens meanwhile.
#[derive(Default)]
pub struct Latecomer {
    cursor: u32,
    sessions: BTreeSet<Row>,
}

impl Latecomer {
    pub fn apply(&mut self, event: &Event) {
        let row = (event.protocol, event.inside, event.outside, Some(event.remote));
        match event.change {
            Change::SessionCreated => {
                self.sessions.insert(row);
            }
            Change::SessionDeleted => {
                self.sessions.remove(&row);
            }
            _ => {}
        }
    }

    /// Walks on over twice `limit` records, and takes no more than `limit` of what they show;
    /// everything that lives if the walk is over.
    pub fn walk(&mut self, nat: &Nat<'_>, now: Ticks, limit: usize) -> Option<BTreeSet<Row>> {
        let (sessions, mut taken) = (&mut self.sessions, 0);
        let next = nat.walk(self.cursor, 2 * limit as u32, now, |view| {
            taken += 1;
            if taken > limit {
                return false;
            }
            sessions.extend(view.remote.is_some().then(|| row(&view)));
            true
        });
        match next {
            Some(cursor) => {
                self.cursor = cursor;
                None
            }
            None => Some(std::mem::take(self).sessions),
        }
    }
}

pub fn row(view: &SessionView) -> Row {
    (view.protocol, view.inside, view.outside, view.remote)
}

/// All that a whole walk shows.
pub fn views(nat: &Nat<'_>, now: Ticks) -> Vec<SessionView> {
    let mut views = Vec::new();
    let end = nat.walk(0, u32::MAX, now, |view| {
        views.push(view);
        true
    });
    assert_eq!(end, None);
    views
}
