//! What must hold for any file whatsoever.

use super::{Memory, load_bytes};

/// The body of a fuzz target: any bytes are a configuration or have mistakes with their places.
///
/// # Panics
/// If that does not hold.
pub fn fuzz_config(bytes: &[u8]) {
    let memory = Memory { available: Some(1 << 30), ..Memory::unlimited() };
    krono_config::fuzz::check(bytes, load_bytes("fuzz.yaml", bytes, &memory));
}
