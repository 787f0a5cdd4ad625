//! The scalars that only profiles have, beside the general ones.

use std::path::PathBuf;

use ipnet::Ipv6Net;
use krono_config::mistake::{Wrong, shown};
pub(super) use krono_config::values::*;

use crate::load::{Rate, Timing};

/// The shortest Ethernet frame, bytes with the checksum (IEEE 802.3).
pub(super) const FRAME_MIN: u16 = 64;
/// The longest frame that is made, bytes with the checksum.
pub(super) const FRAME_MAX: u16 = 9600;

/// IMIX as testers usually have it: 7:4:1 (RFC 6985, section 4, has it as "IMIX-like").
pub(super) const IMIX: [(u16, u32); 3] = [(64, 7), (594, 4), (1518, 1)];

/// What `parse` reads, which is IPv4: IPv6 is a mistake that is named as such.
pub(super) fn ipv4<T>(parse: impl Fn(&str) -> Parsed<T>) -> impl Fn(&str) -> Parsed<T> {
    move |text| {
        let address = text.split('/').next().unwrap_or(text);
        if text.parse::<Ipv6Net>().is_ok() || address.parse::<std::net::Ipv6Addr>().is_ok() {
            let expected = parse("").err().map_or_else(String::new, |wrong| wrong.expected);
            let what = format!("{} is IPv6, which is not generated yet", shown(text));
            return Err(Wrong::new(what, expected));
        }
        parse(text)
    }
}

/// How fast: `10kpps`, `1.5Mpps`, `10Gbps` or `max`.
pub(super) fn rate(text: &str) -> Parsed<Rate> {
    /// More than any port carries.
    const MAX: f64 = 1e13;
    let wrong = |what: &str| {
        let expected = "packets a second such as 10kpps or 1.5Mpps, bits a second such as 10Gbps \
                        (k, M and G are powers of 1000), or max";
        Wrong::new(format!("{} {what}", shown(text)), expected)
    };
    if text == "max" {
        return Ok(Rate::Max);
    }
    let (number, rate): (&str, fn(f64) -> Rate) = match (text.strip_suffix("pps"), text) {
        (Some(number), _) => (number, Rate::Packets),
        (None, text) => {
            let number = text.strip_suffix("bps").ok_or_else(|| wrong("is not a rate"))?;
            (number, Rate::Bits)
        }
    };
    let scales = [("k", 1e3), ("K", 1e3), ("M", 1e6), ("G", 1e9), ("", 1.0)];
    let scaled = scales
        .iter()
        .find_map(|(unit, scale)| Some(decimal(number.strip_suffix(unit)?.trim_end())? * scale));
    match scaled.ok_or_else(|| wrong("is not a rate"))? {
        value if (1.0..=MAX).contains(&value) => Ok(rate(value)),
        _ => Err(wrong("is out of range")),
    }
}

/// A number of digits with at most one point in them.
pub(super) fn decimal(text: &str) -> Option<f64> {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let points = text.bytes().filter(|byte| *byte == b'.').count();
    (digits > 0 && points <= 1 && digits + points == text.len()).then(|| text.parse().ok())?
}

/// A decimal number from `min` to `max`.
pub(super) fn fraction(min: f64, max: f64) -> impl Fn(&str) -> Parsed<f64> {
    move |text| {
        let value = decimal(text).filter(|value| (min..=max).contains(value));
        value.ok_or_else(|| {
            let what = format!("{} is not a number in range", shown(text));
            Wrong::new(what, format!("a number from {min} to {max}"))
        })
    }
}

/// Per cent, with the sign or without.
pub(super) fn percent(text: &str) -> Parsed<u32> {
    const MAX: u32 = 1000;
    number(0..=MAX)(text.strip_suffix('%').unwrap_or(text)).map_err(|_| {
        let what = format!("{} is not a number of per cent", shown(text));
        Wrong::new(what, format!("0 to {MAX}, such as 100 for an answer to each packet"))
    })
}

/// The timing of a replay.
pub(super) fn timing(text: &str) -> Parsed<Timing> {
    let factor = |text: &str| decimal(text).filter(|factor| (0.001..=1000.0).contains(factor));
    match text {
        "original" => return Ok(Timing::Scaled(1.0)),
        "rate" => return Ok(Timing::Rate),
        _ => {}
    }
    text.strip_prefix('x').and_then(factor).map(Timing::Scaled).ok_or_else(|| {
        let expected = "original, x2 or x0.5 for twice or half as fast (x0.001 to x1000), or rate";
        Wrong::new(format!("{} is not a timing", shown(text)), expected)
    })
}

/// The path of a file.
pub(super) fn file(text: &str) -> Parsed<PathBuf> {
    if text.is_empty() || text.contains('\0') {
        return Err(Wrong::new("this is not a path", "the path of a pcap or pcapng file"));
    }
    Ok(PathBuf::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_people_write_them() {
        let expected = [
            ("10kpps", Rate::Packets(10e3)),
            ("1.5Mpps", Rate::Packets(1.5e6)),
            ("1pps", Rate::Packets(1.0)),
            ("10 Gbps", Rate::Bits(10e9)),
            ("0.5kbps", Rate::Bits(500.0)),
            ("max", Rate::Max),
        ];
        for (text, value) in expected {
            assert_eq!(rate(text), Ok(value), "{text}");
        }
        for text in [
            "",
            "10",
            "pps",
            "k",
            "kpps",
            "1e9pps",
            "-1pps",
            "1..2kpps",
            "0pps",
            "10mpps",
            "0.1pps",
            "99999Gpps",
            "infpps",
            "NaNbps",
            ".kpps",
        ] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn timings_are_read() {
        assert_eq!(timing("original"), Ok(Timing::Scaled(1.0)));
        assert_eq!(timing("x2"), Ok(Timing::Scaled(2.0)));
        assert_eq!(timing("x0.5"), Ok(Timing::Scaled(0.5)));
        assert_eq!(timing("rate"), Ok(Timing::Rate));
        for text in ["", "x", "x0", "2", "x-1", "x1e3", "x10000"] {
            assert!(timing(text).is_err(), "{text}");
        }
    }
}
