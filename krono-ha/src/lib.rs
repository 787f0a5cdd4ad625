//! The twin: the state of a shard on two servers, so that no session dies with one of them.
//!
//! Of each shard there are two [`Half`]s, one on each of two servers. One serves and tells the
//! other what changes, in batches, on the packet thread, without ever waiting ([`outbox`]). The
//! other takes that, serves nobody, and ends nothing by itself ([`inbox`]). Whether both have the
//! same is not concluded from what was sent but *compared*: an XOR of the hashes of all entries by
//! range of keys, timers left out ([`sums`]). Only ranges that differ are told again. So one
//! mechanism serves a slave that joins, one that a frame was lost to, one that was too slow, and
//! one that differs for a reason that nobody knows.
//!
//! Who serves is a matter of [`roles`]; what is on the wire, of [`frame`].
//!
//! Everything here is values: no clocks, sockets, threads. After construction nothing allocates,
//! nothing waits, and the work of a call is bounded by [`Settings`].
#![forbid(unsafe_code)]

pub mod frame;
pub mod half;
pub mod inbox;
pub mod outbox;
pub mod roles;
mod status;
pub mod sums;

pub use half::{Half, Settings};
pub use status::{Status, Unsafe};
