//! The packet as a value, and what every krono program needs to decide about it.
//!
//! ```text
//! frame ─parse─▶ PacketMeta ─admit─▶ probe ─▶ touch ─▶ finish: step ─▶ Verdict ─▶ route ─▶ apply ─▶ tx
//! ```
//!
//! Nothing here knows DPDK, sockets, threads or the time of day; nothing allocates after
//! construction.
#![deny(unsafe_code)]

mod burst;
pub mod carve;
pub mod checksum;
pub mod counters;
pub mod cpu;
pub mod deadlines;
pub mod drop;
pub mod frame;
pub mod freelist;
pub mod hash;
pub mod locked;
pub mod packet;
pub mod parse;
pub mod ports;
pub mod program;
pub mod replicable;
pub mod reply;
pub mod rewrite;
pub mod router;
pub mod shard;
pub mod steering;
pub mod table;
pub mod time;
pub mod twin;
