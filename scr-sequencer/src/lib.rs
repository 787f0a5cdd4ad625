//! State-Compute Replication: a program's state on many cores, the same on each, shared by none.
//!
//! ```text
//!                                     ┌▶ replica 0: history, own packet ─▶ verdict
//! packets ─▶ sequencer: number, stamp ┼▶ replica 1: history, own packet ─▶ verdict
//!            record; spray with history └▶ …
//! ```
//!
//! A sequencer gives every packet a number and the time, and sprays packets over the cores round
//! robin, each with the [records](Shipped) of those that went to the other cores in between. A
//! core first replays these on its own copy of the state, then decides its own packet: so it does
//! for all packets what the state asks for, and the dear rest (driver, parsing, sending) for one in
//! N only (Xu et al., "State-Compute Replication: Parallelizing High-Speed Stateful Packet
//! Processing", NSDI 2025).
//!
//! Nothing in here knows DPDK, a thread or a clock: numbers, histories, logs and replicas are
//! values, and whoever has lcores runs them.
#![forbid(unsafe_code)]

pub mod history;
pub mod log;
pub mod programs;
pub mod recovery;
mod replicated;
pub mod room;
pub mod sequencer;
pub mod trial;
pub mod wire;

pub use krono_core::replicable::{Replicable, Shipped};
pub use replicated::Replicated;
