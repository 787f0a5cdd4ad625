//! What must hold for any file whatsoever.

use super::{Memory, load_bytes};

/// The body of a fuzz target: any bytes are a configuration or have mistakes, each of which has a
/// line of the file, a path and one line of text, as warnings have.
///
/// # Panics
/// If that does not hold.
pub fn fuzz_config(bytes: &[u8]) {
    let memory = Memory { available: Some(1 << 30), ..Memory::unlimited() };
    let (mistakes, warnings) = match load_bytes("fuzz.yaml", bytes, &memory) {
        Ok((_, warnings)) => (Vec::new(), warnings),
        Err(mistakes) => {
            assert!(!mistakes.list.is_empty(), "refused without a mistake");
            assert!(mistakes.list.is_sorted_by_key(|mistake| mistake.line), "not in order");
            (mistakes.list, mistakes.warnings)
        }
    };
    let lines = String::from_utf8_lossy(bytes).lines().count().max(1);
    for finding in mistakes.iter().chain(warnings.iter().map(|warning| &warning.finding)) {
        assert!((1..=lines).contains(&(finding.line as usize)), "no such line: {finding}");
        assert!(!finding.path.is_empty(), "no path: {finding}");
        assert!(!finding.to_string().contains(['\n', '\r']), "more than a line: {finding}");
    }
}
