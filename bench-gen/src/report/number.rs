//! Numbers as people read them.

/// Prefixes from 10^3 on.
const PREFIXES: [&str; 5] = ["", "k", "M", "G", "T"];

/// Four significant digits, from ten thousand on with a prefix: `1.235 M`, `9999`, `0.0125`.
pub fn short(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let size = value.abs();
    if size > 0.0 && size < 1e-4 {
        return format!("{value:.1e}");
    }
    // Rounded first, so that 9999.9 becomes 10 k and 999,999 becomes 1 M.
    let rounded = significant(size, 4);
    let power = if rounded < 1e4 { 0 } else { power_of(rounded) };
    with_prefix(value, power, 4)
}

/// The value with thousands apart: `1,234,567`; fractions only below a hundred.
pub fn full(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    if value.fract() != 0.0 && value.abs() < 100.0 {
        return short(value);
    }
    let digits = format!("{:.0}", value.abs());
    let sign = if value < 0.0 && digits != "0" { "-" } else { "" };
    let mut text = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count.
pub fn count(value: u64) -> String {
    full(value as f64)
}

/// A share of the whole as percent: `0.012 %`.
pub fn percent(share: f64) -> String {
    format!("{} %", short(share * 100.0))
}

/// `1 repeat`, `5 repeats`.
pub fn plural(count: u64, one: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{} {one}{s}", self::count(count))
}

/// The prefix that a number of this size has, as a power of a thousand.
pub(super) fn power_of(size: f64) -> usize {
    if size < 1e3 {
        return 0;
    }
    // A little more, since the logarithm of 10^6 may come out as 5.999….
    (((size.log10() + 1e-9) / 3.0).floor() as usize).min(PREFIXES.len() - 1)
}

/// With a given prefix and at most so many significant digits.
pub(super) fn with_prefix(value: f64, power: usize, digits: i32) -> String {
    let scaled = value / 1000f64.powi(power as i32);
    let before = if scaled == 0.0 { 1 } else { scaled.abs().log10().floor() as i32 + 1 };
    let decimals = (digits - before).clamp(0, 12) as usize;
    let text = trimmed(format!("{scaled:.decimals$}"));
    if power == 0 { text } else { format!("{text} {}", PREFIXES[power]) }
}

/// Without zeros behind the point.
pub(super) fn trimmed(text: String) -> String {
    if !text.contains('.') {
        return text;
    }
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

fn significant(value: f64, digits: i32) -> f64 {
    if value == 0.0 {
        return 0.0;
    }
    let scale = 10f64.powi(digits - 1 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_numbers_have_four_digits_and_a_prefix() {
        for (value, text) in [
            (0.0, "0"),
            (0.5, "0.5"),
            (0.012346, "0.01235"),
            (0.0001, "0.0001"),
            (0.000012, "1.2e-5"),
            (12.0, "12"),
            (999.96, "1000"),
            (1234.6, "1235"),
            (9999.4, "9999"),
            (9999.9, "10 k"),
            (12_346.0, "12.35 k"),
            (999_999.0, "1 M"),
            (1_234_567.0, "1.235 M"),
            (14_880_952.0, "14.88 M"),
            (1e11, "100 G"),
            (1e17, "100000 T"),
            (-12_346.0, "-12.35 k"),
            (f64::NAN, "–"),
            (f64::INFINITY, "–"),
        ] {
            assert_eq!(short(value), text, "{value}");
        }
    }

    #[test]
    fn full_numbers_have_thousands_apart() {
        for (value, text) in [
            (0.0, "0"),
            (7.25, "7.25"),
            (999.0, "999"),
            (1000.0, "1,000"),
            (1_234_567.8, "1,234,568"),
            (-1234.0, "-1,234"),
        ] {
            assert_eq!(full(value), text, "{value}");
        }
        assert_eq!(plural(1, "repeat"), "1 repeat");
        assert_eq!(plural(5000, "flow"), "5,000 flows");
        assert_eq!(percent(0.00012), "0.012 %");
    }
}
