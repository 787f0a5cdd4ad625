//! Raw bindings to DPDK: bindgen over libdpdk, plus a shim for what its headers only inline.
//!
//! No logic, no safety: `krono-io` is the one crate that uses this. DPDK's own documentation
//! holds for every name.

#[allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    reason = "generated"
)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use bindings::*;
