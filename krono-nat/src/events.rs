//! What happened to the state, for replication, logs and live views.

use krono_core::packet::{Endpoint, Protocol};

use crate::tcp::State;

/// One change. For each `index` changes come in order: created, updated …, deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub change: Change,
    /// The record that changed; indices are used again after deletion.
    pub index: u32,
    /// The transport.
    pub protocol: Protocol,
    /// The subscriber's endpoint.
    pub inside: Endpoint,
    /// The public endpoint; the inside one if the session is not translated.
    pub outside: Endpoint,
    /// The session's remote endpoint; unspecified for mappings.
    pub remote: Endpoint,
    /// Where the TCP connection of a session stands now, or stood at its end.
    pub state: Option<State>,
    /// Where it stood before an update.
    pub before: Option<State>,
}

/// The kinds of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// A public port was given to an inside endpoint.
    MappingCreated,
    /// The public port was taken back.
    MappingDeleted,
    /// A session opened.
    SessionCreated,
    /// A TCP session changed its state.
    SessionUpdated,
    /// A session ended.
    SessionDeleted,
}
