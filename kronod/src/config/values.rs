//! The scalars of a configuration: what they look like and what they mean.
//!
//! No parser takes an empty text; what it says about one is the general expectation.

use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::Ipv4Net;
use krono_core::packet::{Endpoint, Mac};
use krono_core::time::Span;

use super::mistake::{Wrong, shown};
use super::types::{Device, LCORES_MAX, LcoreMap, SOCKET_PATH_MAX};

type Parsed<T> = Result<T, Wrong>;

/// Units of time in milliseconds, the longest first.
const TIME_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// A decimal number in `range`.
pub(super) fn number<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Parsed<T>
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
pub(super) fn choice<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(&str) -> Parsed<T> {
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
pub(super) fn boolean(text: &str) -> Parsed<bool> {
    choice(&[("true", true), ("false", false)])(text)
}

/// The name of a port.
pub(super) fn name(text: &str) -> Parsed<String> {
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
pub(super) fn size(range: RangeInclusive<u64>) -> impl Fn(&str) -> Parsed<u64> {
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
pub(super) fn shown_size(size: u64) -> String {
    let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
    let suits = |shift: u32| size >> shift >= 10 || (size > 0 && size.is_multiple_of(1 << shift));
    match units.iter().find(|(shift, _)| suits(*shift)) {
        Some((shift, unit)) => format!("{}{unit}", size.div_ceil(1 << shift)),
        None => size.to_string(),
    }
}

/// A length of time such as `500ms`, `60s`, `5m`, `2h4m` or `1d`: each unit once, the longest
/// first.
///
/// # Errors
/// A sentence that says what is wrong and what is expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|Wrong { what, expected }| format!("{what}; expected {expected}"))
}

fn parse_duration(text: &str) -> Parsed<Duration> {
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
pub(super) fn span(range: RangeInclusive<Span>) -> impl Fn(&str) -> Parsed<Span> {
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
pub(super) fn shown_span(span: Span) -> String {
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

/// An IPv4 prefix without host bits.
pub(super) fn prefix(text: &str) -> Parsed<Ipv4Net> {
    let prefix: Ipv4Net = text.parse().map_err(|_| {
        let expected = "an IPv4 prefix such as 198.51.100.0/28";
        Wrong::new(format!("{} is not a prefix", shown(text)), expected)
    })?;
    if prefix != prefix.trunc() {
        let what = format!("{prefix} has bits set behind its length");
        return Err(Wrong::new(what, format!("{} or a longer prefix", prefix.trunc())));
    }
    Ok(prefix)
}

/// A prefix of addresses that hosts can have.
pub(super) fn unicast_prefix(text: &str) -> Parsed<Ipv4Net> {
    let prefix = prefix(text)?;
    if is_special(prefix.network()) || is_special(prefix.broadcast()) {
        let what = format!("{prefix} has addresses that no host can have");
        let expected = "a prefix outside 0.0.0.0/8, 127.0.0.0/8 and 224.0.0.0/3";
        return Err(Wrong::new(what, expected));
    }
    Ok(prefix)
}

/// A prefix that a route may lead to: everything, or addresses that hosts can have.
pub(super) fn route_prefix(text: &str) -> Parsed<Ipv4Net> {
    let prefix = prefix(text)?;
    // The short prefixes cover special addresses without being about them.
    if prefix.prefix_len() < 8 { Ok(prefix) } else { unicast_prefix(text) }
}

/// A prefix, or `any`.
pub(super) fn prefix_or_any(text: &str) -> Parsed<Ipv4Net> {
    if text == "any" {
        return Ok(Ipv4Net::default());
    }
    prefix(text).map_err(|mut wrong| {
        wrong.expected.insert_str(0, "any, or ");
        wrong
    })
}

/// The address of an interface in its network.
pub(super) fn interface(text: &str) -> Parsed<Ipv4Net> {
    let expected = "an address with its network's length, such as 192.0.2.1/24";
    let wrong = |what: &str| Wrong::new(format!("{} {what}", shown(text)), expected);
    let interface: Ipv4Net = text.parse().map_err(|_| wrong("is not an address in a network"))?;
    match interface.prefix_len() {
        32 => return Err(wrong("leaves no neighbours on-link")),
        0..=7 => return Err(wrong("is too large a network to be on-link")),
        _ => {}
    }
    if is_special(interface.addr()) {
        return Err(wrong("is not an address that a host can have"));
    }
    match ends(&interface, interface.addr()) {
        Some(end) => Err(wrong(&format!("is the {end} address of its network"))),
        None => Ok(interface),
    }
}

/// Whether `address` is the network or the broadcast address of `network` (RFC 3021: a /31 has
/// neither).
pub(super) fn ends(network: &Ipv4Net, address: Ipv4Addr) -> Option<&'static str> {
    match address {
        _ if network.prefix_len() >= 31 => None,
        _ if address == network.network() => Some("network"),
        _ if address == network.broadcast() => Some("broadcast"),
        _ => None,
    }
}

/// An address that a host can have.
pub(super) fn address(text: &str) -> Parsed<Ipv4Addr> {
    let address = text.parse().ok().filter(|address| !is_special(*address));
    address.ok_or_else(|| {
        let what = format!("{} is not an address that a host can have", shown(text));
        Wrong::new(what, "an IPv4 address such as 192.0.2.254")
    })
}

/// Whether no host can have this address: this network, loopback, multicast, reserved, broadcast
/// (RFC 6890).
fn is_special(address: Ipv4Addr) -> bool {
    matches!(address.octets()[0], 0 | 127 | 224..)
}

/// An address and a port that hosts can have.
pub(super) fn endpoint(text: &str) -> Parsed<Endpoint> {
    let parsed = text.parse::<SocketAddrV4>().ok();
    let valid = parsed.filter(|parsed| parsed.port() != 0 && !is_special(*parsed.ip()));
    valid.map(|parsed| Endpoint::new(*parsed.ip(), parsed.port())).ok_or_else(|| {
        let what = format!("{} is not an address with a port", shown(text));
        Wrong::new(what, "an address and a port such as \"10.0.0.5:80\"")
    })
}

/// The Ethernet address of one station.
pub(super) fn mac(text: &str) -> Parsed<Mac> {
    let wrong = |what: &str| {
        let expected = "a station's Ethernet address such as \"02:00:00:00:00:01\"";
        Wrong::new(format!("{} {what}", shown(text)), expected)
    };
    let mac: Mac = text.parse().map_err(|()| wrong("is not an Ethernet address"))?;
    match mac {
        _ if mac.is_group() => Err(wrong("is a group's address")),
        _ if mac == Mac::default() => Err(wrong("is the null address")),
        _ => Ok(mac),
    }
}

/// One port, or a range of them: `25`, `1024-65535`.
pub(super) fn port_range(text: &str) -> Parsed<RangeInclusive<u16>> {
    let wrong = |what: &str| {
        let expected = "one port or a range within 1-65535, such as 25 or 1024-65535";
        Wrong::new(format!("{} {what}", shown(text)), expected)
    };
    let port = |text: &str| number(1..=u16::MAX)(text.trim());
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (port(first), port(last)) {
        (Ok(first), Ok(last)) if first > last => Err(wrong("ends before it begins")),
        (Ok(first), Ok(last)) => Ok(first..=last),
        _ => Err(wrong("is not a range of ports")),
    }
}

/// A device in the EAL's words, with its arguments.
pub(super) fn device(text: &str) -> Parsed<Device> {
    let (name, arguments) = text.split_once(',').map_or((text, None), |(n, a)| (n, Some(a)));
    let is_vdev = name.strip_prefix("net_").is_some_and(|rest| {
        !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    });
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    let with_arguments = |name: String| match arguments {
        Some(arguments) => format!("{name},{arguments}"),
        None => name,
    };
    match pci_address(name) {
        Some(address) if is_plain => Ok(Device::Pci(with_arguments(address))),
        None if is_vdev && is_plain => Ok(Device::Vdev(text.to_owned())),
        _ => {
            let what = format!("{} is not a device", shown(text));
            let expected = "a PCI address such as \"0000:3b:00.1\" or a virtual device such as \
                            \"net_af_packet0,iface=eth1\"";
            Err(Wrong::new(what, expected))
        }
    }
}

/// `[domain:]bus:device.function`, all hexadecimal, as the EAL names it: with its domain.
fn pci_address(text: &str) -> Option<String> {
    let hex = |text: &str, digits: usize, max: u32| {
        let fits = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u32::from_str_radix(text, 16).ok().filter(|n| fits && *n <= max)
    };
    let (bus_device, function) = text.rsplit_once('.')?;
    let (domain_bus, device) = bus_device.rsplit_once(':')?;
    let (domain, bus) = domain_bus.rsplit_once(':').unwrap_or(("0000", domain_bus));
    let (domain, bus) = (hex(domain, 4, 0xffff)?, hex(bus, 2, 0xff)?);
    let (device, function) = (hex(device, 2, 0x1f)?, hex(function, 1, 7)?);
    Some(format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}"))
}

/// The EAL's map of lcores to CPUs: `LCORES[@CPUS][,LCORES[@CPUS]]…`, where either is a number,
/// a range, or a list of them in parentheses (DPDK, EAL parameters, `--lcores`).
pub(super) fn lcores(text: &str) -> Parsed<LcoreMap> {
    let wrong = |what: &str| {
        let expected = format!(
            "lcores below {LCORES_MAX}, each once, on CPUs in EAL syntax such as 0@0,1@0 or \
             (2-4)@(0,1)"
        );
        Wrong::new(format!("{} {what}", shown(text)), expected)
    };
    let malformed = || wrong("is not a map of lcores");
    let mut lcores = Vec::new();
    for entry in split_outside_parentheses(text).ok_or_else(malformed)? {
        let (ids, cpus) = entry.split_once('@').unwrap_or((entry, entry));
        let ids = id_set(ids).ok_or_else(malformed)?;
        id_set(cpus).ok_or_else(malformed)?;
        lcores.extend(ids);
    }
    lcores.sort_unstable();
    if lcores.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(wrong("has an lcore twice"));
    }
    if lcores.last().is_some_and(|last| *last >= LCORES_MAX) {
        return Err(wrong("has an lcore that is out of range"));
    }
    Ok(LcoreMap { text: text.to_owned(), lcores })
}

/// The parts between the commas that are not in parentheses; `None` if those do not match.
fn split_outside_parentheses(text: &str) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    let (mut start, mut within) = (0, false);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'(' | b')' if within == (byte == b'(') => return None,
            b'(' | b')' => within = !within,
            b',' if !within => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (!within).then_some(parts)
}

/// `3`, `3-5`, or `(1,3-5)`.
fn id_set(text: &str) -> Option<Vec<u16>> {
    /// No machine has as many CPUs (CPU_SETSIZE).
    const ID_MAX: u16 = 1023;
    let group = text.strip_prefix('(').map_or(Some(text), |rest| rest.strip_suffix(')'))?;
    let mut ids = Vec::new();
    for part in group.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(0..=ID_MAX)(first).ok()?, number(0..=ID_MAX)(last).ok()?);
        if first > last || ids.len() > usize::from(ID_MAX) {
            return None;
        }
        ids.extend(first..=last);
    }
    Some(ids)
}

/// An argument for the EAL that is not krono's to give.
pub(super) fn eal_argument(text: &str) -> Parsed<String> {
    const OWN: [(&str, &str); 8] = [
        ("-l", "eal.lcores"),
        ("-c", "eal.lcores"),
        ("--lcores", "eal.lcores"),
        ("-m", "eal.memory"),
        ("--no-huge", "eal.hugepages: off"),
        ("--in-memory", "eal.hugepages"),
        ("--vdev", "an entry of ports"),
        ("-a", "an entry of ports"),
    ];
    let word = text.split('=').next().unwrap_or(text);
    if let Some((_, instead)) = OWN.iter().find(|(own, _)| *own == word) {
        let what = format!("{} is krono's own to give", shown(text));
        return Err(Wrong::new(what, format!("{instead} instead")));
    }
    if text.is_empty() || text.contains('\0') {
        let what = format!("{} is not an argument", shown(text));
        return Err(Wrong::new(what, "an argument of the EAL such as --log-level=8"));
    }
    Ok(text.to_owned())
}

/// The path of a UNIX socket.
pub(super) fn socket_path(text: &str) -> Parsed<PathBuf> {
    let expected = format!("a path of at most {SOCKET_PATH_MAX} bytes");
    match text.len() {
        0 => Err(Wrong::new("the path is empty", expected)),
        len if len > SOCKET_PATH_MAX => {
            Err(Wrong::new(format!("the path has {len} bytes"), expected))
        }
        _ if text.contains('\0') => Err(Wrong::new("the path has a NUL in it", expected)),
        _ => Ok(PathBuf::from(text)),
    }
}

/// Where to listen.
pub(super) fn listen(text: &str) -> Parsed<SocketAddr> {
    text.parse().map_err(|_| {
        let what = format!("{} is not an address with a port", shown(text));
        Wrong::new(what, "an address and a port such as \"127.0.0.1:9105\"")
    })
}
