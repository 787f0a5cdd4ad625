//! What krono's cross-crate proofs share: network namespaces with real clients in them, a kronod
//! under test, and captures made fit to be replayed through it.
//!
//! The daemon is run as its users run it, so its binaries must be built beside the tests
//! (`cargo build --workspace`, as `scripts/test.sh` does).
#![forbid(unsafe_code)]

pub mod capture;
pub mod cluster;
pub mod daemon;
pub mod lab;
pub mod netns;
