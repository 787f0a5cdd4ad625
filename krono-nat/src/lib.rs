//! The translator and its gate: NAT44 with stateful filtering, as a deterministic state machine
//! over values (RFC 4787, 5382, 5508, 6888, 7857).
//!
//! A *mapping* is an inside endpoint and the public endpoint it has towards everybody
//! (endpoint-independent mapping); a *session* is a mapping in use with one remote endpoint. What
//! is alive is found in two ways: from inside by hash in the flow table, from outside through the
//! dense array of public ports, so that a packet to a port that nobody has costs one line.
#![forbid(unsafe_code)]

pub mod config;
mod entry;
mod events;
mod expire;
mod invariants;
mod memory;
mod nat;
mod open;
mod record;
mod replica;
mod statics;
mod subscribers;
mod tcp;
mod twin;
mod view;

pub use events::{Change, Event};
pub use memory::memory_bytes;
pub use nat::{Nat, Probe};
pub use record::Record;
pub use replica::{Replica, Shipment};
pub use tcp::State as TcpState;
pub use twin::SessionRecord;
pub use view::{Counts, SessionView};
