//! What must hold for any file whatsoever.

use crate::mistake::{Mistakes, Warning};

/// The body of fuzz targets: any bytes are valid or have mistakes, each of which has a line of the
/// file, a path and one line of text, as warnings have. `loaded` is what became of `bytes`.
///
/// # Panics
/// If that does not hold.
pub fn check<T>(bytes: &[u8], loaded: Result<(T, Vec<Warning>), Mistakes>) {
    let (mistakes, warnings) = match loaded {
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
