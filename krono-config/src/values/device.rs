//! Devices and lcores in the words of DPDK's environment abstraction layer (EAL).

use std::fmt;

use super::{Parsed, number};
use crate::mistake::{Wrong, shown};

/// Lcore ids lie below this (RTE_MAX_LCORE of a distribution's DPDK).
pub const LCORES_MAX: u16 = 128;

/// `eal.lcores`: the EAL's own words, and what lcores they name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LcoreMap {
    /// The argument of the EAL's `--lcores`.
    pub text: String,
    /// The lcore ids in it, ascending.
    pub lcores: Vec<u16>,
}

/// A device in the EAL's words, arguments included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// A PCI address such as `0000:3b:00.1`, always with its domain: the EAL's `--allow`.
    Pci(String),
    /// A virtual device such as `net_af_packet0,iface=kr-in`: the EAL's `--vdev`.
    Vdev(String),
}

impl Device {
    /// The name that the port has in the EAL: the device without its arguments.
    pub fn name(&self) -> &str {
        let (Device::Pci(text) | Device::Vdev(text)) = self;
        text.split_once(',').map_or(text, |(name, _)| name)
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Device::Pci(text) | Device::Vdev(text)) = self;
        f.write_str(text)
    }
}

/// A device in the EAL's words, with its arguments.
pub fn device(text: &str) -> Parsed<Device> {
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
pub fn lcores(text: &str) -> Parsed<LcoreMap> {
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

/// An argument for the EAL that is not krono's to give; `devices` says where devices are named.
pub fn eal_argument(devices: &'static str) -> impl Fn(&str) -> Parsed<String> {
    move |text| {
        let own = [
            ("-l", "eal.lcores"),
            ("-c", "eal.lcores"),
            ("--lcores", "eal.lcores"),
            ("-m", "eal.memory"),
            ("--no-huge", "eal.hugepages: off"),
            ("--in-memory", "eal.hugepages"),
            ("--vdev", devices),
            ("-a", devices),
        ];
        let word = text.split('=').next().unwrap_or(text);
        if let Some((_, instead)) = own.iter().find(|(own, _)| *own == word) {
            let what = format!("{} is krono's own to give", shown(text));
            return Err(Wrong::new(what, format!("{instead} instead")));
        }
        if text.is_empty() || text.contains('\0') {
            let what = format!("{} is not an argument", shown(text));
            return Err(Wrong::new(what, "an argument of the EAL such as --log-level=8"));
        }
        Ok(text.to_owned())
    }
}
