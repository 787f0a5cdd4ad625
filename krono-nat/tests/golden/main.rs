//! Golden packets: what a whole shard does on the wire. A frame in, state made by the frames
//! before it, and the frame that must come out, byte for byte. Everything that comes out is built
//! anew by etherparse and read by smoltcp, so no checksum here is the shard's own.

#[path = "../common/mod.rs"]
mod common;

mod bed;
mod errors;
mod packet;
mod router;
mod translation;
mod verify;

/// A subscriber's endpoint, the public one that it gets, and whom it talks to.
const HOST: &str = "100.64.0.5:5000";
const PUBLIC: &str = "198.51.100.1:40000";
const SERVER: &str = "203.0.113.9:53";
