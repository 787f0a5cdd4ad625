//! Lengths of time.

use std::ops::RangeInclusive;
use std::time::Duration;

use krono_core::time::Span;

use super::Parsed;
use crate::mistake::{Wrong, shown};

/// Units of time in milliseconds, the longest first.
const TIME_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// A length of time such as `500ms`, `60s`, `5m`, `2h4m` or `1d`: each unit once, the longest
/// first.
///
/// # Errors
/// A sentence that says what is wrong and what is expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|Wrong { what, expected }| format!("{what}; expected {expected}"))
}

/// A length of time, as [`duration`] reads it.
pub fn parse_duration(text: &str) -> Parsed<Duration> {
    let wrong = || {
        let expected = "a duration such as 5m, 60s, 2h4m or 500ms (units d, h, m, s, ms)";
        Wrong::new(format!("{} is not a duration", shown(text)), expected)
    };
    let mut units = TIME_UNITS.iter();
    let mut rest = text;
    let mut ms: u64 = 0;
    while !rest.is_empty() || text.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let (_, scale) = units.find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let part = number.parse::<u64>().ok().and_then(|n| n.checked_mul(*scale));
        ms = part.and_then(|part| ms.checked_add(part)).ok_or_else(wrong)?;
        rest = tail;
    }
    Ok(Duration::from_millis(ms))
}

/// A timer's length in `range`, rounded up to a tick.
pub fn span(range: RangeInclusive<Span>) -> impl Fn(&str) -> Parsed<Span> {
    move |text| {
        let duration = parse_duration(text)?;
        Span::try_from(duration).ok().filter(|span| range.contains(span)).ok_or_else(|| {
            let (start, end) = (shown_span(*range.start()), shown_span(*range.end()));
            let what = format!("{} is out of range", shown(text));
            Wrong::new(what, format!("a duration from {start} to {end}"))
        })
    }
}

/// A span as people write it.
pub fn shown_span(span: Span) -> String {
    let mut ms = span.as_millis();
    let mut text = String::new();
    for (unit, scale) in TIME_UNITS {
        if ms >= scale {
            text.push_str(&format!("{}{unit}", ms / scale));
            ms %= scale;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}
