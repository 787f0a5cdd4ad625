//! The scalars that only this configuration has, beside the general ones.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv4Net;
use krono_config::mistake::{Wrong, shown};
pub(super) use krono_config::values::*;

use super::types::{BFD_INTERVAL_MAX, BFD_INTERVAL_MIN, SOCKET_PATH_MAX};

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

/// How far BFD packets are apart.
pub(super) fn bfd_interval(text: &str) -> Parsed<Duration> {
    let expected = "a duration from 5ms to 1m";
    match parse_duration(text) {
        Ok(interval) if (BFD_INTERVAL_MIN..=BFD_INTERVAL_MAX).contains(&interval) => Ok(interval),
        Ok(_) => Err(Wrong::new(format!("{} is out of range", shown(text)), expected)),
        Err(wrong) => Err(Wrong { expected: expected.to_owned(), ..wrong }),
    }
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
