//! What must hold for any file whatsoever.

use super::load_bytes;

/// The body of a fuzz target: any bytes are a profile or have mistakes with their places.
///
/// # Panics
/// If that does not hold.
pub fn fuzz_profile(bytes: &[u8]) {
    let loaded = load_bytes("fuzz.yaml", bytes);
    if let Ok((profile, _)) = &loaded {
        assert!(!profile.summary().is_empty());
        assert!(profile.load.flows > 0 && !profile.lcores.is_empty());
    }
    krono_config::fuzz::check(bytes, loaded);
}
