//! What must hold for any file whatsoever.

use super::{Memory, load_bytes};

/// The body of a fuzz target: any bytes are a configuration or have mistakes, each of which has a
/// line of the file, a path and one line of text.
///
/// # Panics
/// If that does not hold.
pub fn fuzz_config(bytes: &[u8]) {
    let memory = Memory { available: Some(1 << 30), ..Memory::unlimited() };
    let Err(mistakes) = load_bytes("fuzz.yaml", bytes, &memory) else { return };
    let lines = String::from_utf8_lossy(bytes).lines().count().max(1);
    assert!(!mistakes.list.is_empty(), "refused without a mistake");
    assert!(mistakes.list.is_sorted_by_key(|mistake| mistake.line), "not in order: {mistakes}");
    for mistake in &mistakes.list {
        assert!((1..=lines).contains(&(mistake.line as usize)), "no such line: {mistake}");
        assert!(!mistake.path.is_empty(), "no path: {mistake}");
        assert!(!mistake.to_string().contains(['\n', '\r']), "more than a line: {mistake}");
    }
}
