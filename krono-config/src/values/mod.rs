//! The scalars of a configuration: what they look like and what they mean.
//!
//! No parser takes an empty text; what it says about one is the general expectation.

mod device;
mod net;
mod time;

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::mistake::{Wrong, shown};

pub use device::{Device, LCORES_MAX, LcoreMap, device, eal_argument, lcores};
pub use net::{address, endpoint, ends, interface, mac, port_range, prefix, unicast_prefix};
pub use time::{duration, parse_duration, shown_span, span};

/// What a parser makes of a text.
pub type Parsed<T> = Result<T, Wrong>;

/// A decimal number in `range`.
pub fn number<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Parsed<T>
where
    T: FromStr + PartialOrd + Display,
{
    move |text| {
        let wrong = |what: &str| {
            let expected = format!("a number from {} to {}", range.start(), range.end());
            Wrong::new(format!("{} {what}", shown(text)), expected)
        };
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong("is not a number"));
        }
        text.parse().ok().filter(|n| range.contains(n)).ok_or_else(|| wrong("is out of range"))
    }
}

/// One of these words.
pub fn choice<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(&str) -> Parsed<T> {
    move |text| {
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            Wrong::new(format!("{} is unknown here", shown(text)), enumeration(words))
        })
    }
}

/// `a, b or c`.
fn enumeration<T>(words: &[(&str, T)]) -> String {
    let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

/// `true` or `false`.
pub fn boolean(text: &str) -> Parsed<bool> {
    choice(&[("true", true), ("false", false)])(text)
}

/// The name of a port.
pub fn name(text: &str) -> Parsed<String> {
    const LEN_MAX: usize = 32;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if (1..=LEN_MAX).contains(&text.len()) && text.bytes().all(fits) {
        return Ok(text.to_owned());
    }
    let expected = format!("1 to {LEN_MAX} letters, digits, \"_\", \"-\" and \".\"");
    Err(Wrong::new(format!("{} is not a name", shown(text)), expected))
}

/// A size: a number of bytes or of entries, with a binary multiple `K`, `M`, `G` or `T`, in
/// capitals or not.
pub fn size(range: RangeInclusive<u64>) -> impl Fn(&str) -> Parsed<u64> {
    move |text| {
        let (start, end) = (shown_size(*range.start()), shown_size(*range.end()));
        let wrong = |what: &str| {
            let expected =
                format!("a size from {start} to {end} (K, M, G and T are powers of 1024)");
            Wrong::new(format!("{} {what}", shown(text)), expected)
        };
        let shift = match text.bytes().last().map(|byte| byte.to_ascii_uppercase()) {
            Some(b'K') => 10,
            Some(b'M') => 20,
            Some(b'G') => 30,
            Some(b'T') => 40,
            _ => 0,
        };
        let digits = if shift == 0 { text } else { &text[..text.len() - 1] };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong("is not a size"));
        }
        let value = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift));
        value.filter(|n| range.contains(n)).ok_or_else(|| wrong("is out of range"))
    }
}

/// A size as people write it; rounded up where that changes less than a tenth.
pub fn shown_size(size: u64) -> String {
    let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
    let suits = |shift: u32| size >> shift >= 10 || (size > 0 && size.is_multiple_of(1 << shift));
    match units.iter().find(|(shift, _)| suits(*shift)) {
        Some((shift, unit)) => format!("{}{unit}", size.div_ceil(1 << shift)),
        None => size.to_string(),
    }
}
