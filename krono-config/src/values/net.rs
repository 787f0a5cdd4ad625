//! Addresses, prefixes and ports.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;

use ipnet::Ipv4Net;
use krono_core::packet::{Endpoint, Mac};

use super::{Parsed, number};
use crate::mistake::{Wrong, shown};

/// An IPv4 prefix without host bits.
pub fn prefix(text: &str) -> Parsed<Ipv4Net> {
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
pub fn unicast_prefix(text: &str) -> Parsed<Ipv4Net> {
    let prefix = prefix(text)?;
    if is_special(prefix.network()) || is_special(prefix.broadcast()) {
        let what = format!("{prefix} has addresses that no host can have");
        let expected = "a prefix outside 0.0.0.0/8, 127.0.0.0/8 and 224.0.0.0/3";
        return Err(Wrong::new(what, expected));
    }
    Ok(prefix)
}

/// The address of an interface in its network.
pub fn interface(text: &str) -> Parsed<Ipv4Net> {
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
pub fn ends(network: &Ipv4Net, address: Ipv4Addr) -> Option<&'static str> {
    match address {
        _ if network.prefix_len() >= 31 => None,
        _ if address == network.network() => Some("network"),
        _ if address == network.broadcast() => Some("broadcast"),
        _ => None,
    }
}

/// An address that a host can have.
pub fn address(text: &str) -> Parsed<Ipv4Addr> {
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
pub fn endpoint(text: &str) -> Parsed<Endpoint> {
    let parsed = text.parse::<SocketAddrV4>().ok();
    let valid = parsed.filter(|parsed| parsed.port() != 0 && !is_special(*parsed.ip()));
    valid.map(|parsed| Endpoint::new(*parsed.ip(), parsed.port())).ok_or_else(|| {
        let what = format!("{} is not an address with a port", shown(text));
        Wrong::new(what, "an address and a port such as \"10.0.0.5:80\"")
    })
}

/// The Ethernet address of one station.
pub fn mac(text: &str) -> Parsed<Mac> {
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
pub fn port_range(text: &str) -> Parsed<RangeInclusive<u16>> {
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
