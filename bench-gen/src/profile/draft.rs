//! The profile as far as it could be read: the shape is right, the sense is not yet known.
//!
//! A value that is `None` is missing or mistaken and has been reported.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv4Net;
use krono_config::eal::EalDraft;
use krono_config::mistake::{Place, Report, Wrong, shown};
use krono_config::read::{self, Given, List, Map, Marked};
use krono_config::tree::{Node, Value};
use krono_core::packet::{Mac, Protocol};

use super::values::{self, FRAME_MAX, FRAME_MIN, IMIX, ipv4};
use crate::load::{End, Popularity, Rate, Sizes, Timing};

/// The most flows that are live at a time: 16 GiB of records.
const FLOWS_MAX: u64 = 1 << 28;
/// The most lcores.
const LCORES: usize = values::LCORES_MAX as usize;
/// The most lengths in a mix.
const SIZES_MAX: usize = 256;

/// The whole file.
pub(super) struct Draft {
    pub(super) eal: Option<EalDraft>,
    pub(super) lcores: Given<Marked<List<Marked<u16>>>>,
    pub(super) inside: Option<PortDraft>,
    pub(super) outside: Option<PortDraft>,
    pub(super) protocols: Option<[u32; Protocol::COUNT]>,
    pub(super) subscribers: Option<SubscribersDraft>,
    pub(super) servers: Option<ServersDraft>,
    pub(super) flows: Option<Marked<u32>>,
    pub(super) popularity: Option<Marked<Popularity>>,
    pub(super) churn: Given<ChurnDraft>,
    pub(super) sizes: Option<Marked<Sizes>>,
    pub(super) answers: Option<u32>,
    pub(super) replay: Given<ReplayDraft>,
    /// What a replay makes no use of, where it is given.
    pub(super) unused: Vec<Place>,
    pub(super) rate: Option<Rate>,
    pub(super) end: Given<Marked<End>>,
    pub(super) repeats: Option<u32>,
    pub(super) seed: Option<u64>,
}

/// `inside`, `outside`.
pub(super) struct PortDraft {
    pub(super) device: Option<Marked<values::Device>>,
    pub(super) mtu: Option<Marked<u16>>,
    pub(super) mac: Option<Option<Mac>>,
    pub(super) address: Option<Marked<Ipv4Net>>,
    pub(super) next_hop: Option<Marked<std::net::Ipv4Addr>>,
    pub(super) next_hop_mac: Option<Option<Mac>>,
    pub(super) vlan: Option<Option<u16>>,
}

/// `subscribers`
pub(super) struct SubscribersDraft {
    pub(super) network: Option<Marked<Ipv4Net>>,
    pub(super) count: Given<Marked<u32>>,
    pub(super) ports: Option<Marked<RangeInclusive<u16>>>,
}

/// `servers`
pub(super) struct ServersDraft {
    pub(super) network: Option<Marked<Ipv4Net>>,
    pub(super) ports: Option<Marked<RangeInclusive<u16>>>,
}

/// `churn`: of the two one may be left out.
pub(super) struct ChurnDraft {
    pub(super) place: Place,
    pub(super) arrivals: Given<Marked<f64>>,
    pub(super) lifetime: Given<Marked<Duration>>,
}

/// `replay`
pub(super) struct ReplayDraft {
    pub(super) file: Option<PathBuf>,
    pub(super) timing: Option<Timing>,
    pub(super) times: Option<u32>,
}

const KEYS: [&str; 17] = [
    "eal",
    "lcores",
    "inside",
    "outside",
    "protocols",
    "subscribers",
    "servers",
    "flows",
    "popularity",
    "churn",
    "sizes",
    "answers",
    "replay",
    "rate",
    "end",
    "repeats",
    "seed",
];

/// Reads the file; `None` if there is nothing in it that sense could be made of.
pub(super) fn read(root: &Node, report: &mut Report) -> Option<Draft> {
    let place = Place { line: root.line, path: String::new() };
    let map = Map::open(root, place, &KEYS, report)?;
    let flows = |text: &str| values::size(1..=FLOWS_MAX)(text).map(|flows| flows as u32);
    let repeats = map.or("repeats", 1, values::number(1..=1000), report);
    let seed = map.or("seed", 1, values::number(0..=u64::MAX), report);
    let answers = map.or("answers", 100, values::percent, report);
    let replay = read_replay(&map, report);
    let mut unused = vec!["protocols", "popularity", "churn", "sizes", "answers"];
    if let Given::Valid(ReplayDraft { timing: Some(Timing::Scaled(_)), .. }) = replay {
        unused.push("rate");
    }
    Some(Draft {
        eal: EalDraft::read(&map, "inside.device or outside.device", report),
        lcores: read_lcores(&map, report),
        inside: read_port(&map, "inside", report),
        outside: read_port(&map, "outside", report),
        protocols: read_protocols(&map, report),
        subscribers: read_subscribers(&map, report),
        servers: read_servers(&map, report),
        flows: map.or("flows", 1000, flows, report),
        popularity: read_popularity(&map, report),
        churn: read_churn(&map, report),
        sizes: read_sizes(&map, report),
        answers: answers.map(|answers| answers.value),
        replay,
        unused: unused.iter().filter_map(|key| Some(map.node(key)?.1)).collect(),
        rate: map.or("rate", Rate::Max, values::rate, report).map(|rate| rate.value),
        end: read_end(&map, report),
        repeats: repeats.map(|repeats| repeats.value),
        seed: seed.map(|seed| seed.value),
    })
}

fn read_lcores(map: &Map<'_>, report: &mut Report) -> Given<Marked<List<Marked<u16>>>> {
    const KEY: &str = "lcores";
    let Some((_, place)) = map.node(KEY) else { return Given::Absent };
    let list = map.list(KEY, LCORES, report, |node, place, report| {
        read::scalar(node, place, values::number(0..=values::LCORES_MAX - 1), report)
    });
    match list {
        Given::Valid(value) => Given::Valid(Marked { value, place }),
        _ => Given::Mistaken,
    }
}

fn read_port(map: &Map<'_>, key: &'static str, report: &mut Report) -> Option<PortDraft> {
    const KEYS: [&str; 7] = ["device", "mtu", "mac", "address", "next_hop", "next_hop_mac", "vlan"];
    /// IPv4 packets of 68 bytes must pass any link (RFC 791, section 3.2).
    const MTU: RangeInclusive<u16> = 68..=9582;
    let map = map.required_section(key, &KEYS, report)?;
    let mac = |text: &str| values::mac(text).map(Some);
    let vlan = |text: &str| values::number(1..=4094)(text).map(Some);
    let own = map.or("mac", None, mac, report);
    let next_hop_mac = map.or("next_hop_mac", None, mac, report);
    let vlan = map.or("vlan", None, vlan, report);
    Some(PortDraft {
        device: map.required("device", values::device, report),
        mtu: map.or("mtu", 1500, values::number(MTU), report),
        mac: own.map(|mac| mac.value),
        address: map.required("address", ipv4(values::interface), report),
        next_hop: map.required("next_hop", ipv4(values::address), report),
        next_hop_mac: next_hop_mac.map(|mac| mac.value),
        vlan: vlan.map(|vlan| vlan.value),
    })
}

/// One protocol by its name, or shares by names.
fn read_protocols(map: &Map<'_>, report: &mut Report) -> Option<[u32; Protocol::COUNT]> {
    const KEY: &str = "protocols";
    let only = |protocol: Protocol| {
        let mut shares = [0; Protocol::COUNT];
        shares[protocol as usize] = 1;
        shares
    };
    match map.node(KEY) {
        None => return Some(only(Protocol::Udp)),
        Some((Node { value: Value::Scalar(_), .. }, _)) => {
            let parse = |text: &str| {
                text.parse().map_err(|_| {
                    let what = format!("{} is unknown here", shown(text));
                    Wrong::new(what, "udp, tcp, icmp, or shares such as { udp: 45, tcp: 55 }")
                })
            };
            return Some(only(map.optional(KEY, parse, report).ok()?.value));
        }
        Some(_) => {}
    }
    let map = map.section(KEY, &["udp", "tcp", "icmp"], report)?;
    let shares = Protocol::ALL.map(|protocol| {
        (protocol, map.or(protocol.name(), 0, values::number(0..=1_000_000), report))
    });
    let mut found = [0; Protocol::COUNT];
    for (protocol, share) in shares {
        found[protocol as usize] = share?.value;
    }
    if found == [0; Protocol::COUNT] {
        report.mistake(&map.place, Wrong::new("no protocol has a share", "one above 0"));
        return None;
    }
    Some(found)
}

fn read_subscribers(map: &Map<'_>, report: &mut Report) -> Option<SubscribersDraft> {
    // The shared address space behind a carrier-grade NAT (RFC 6598), the first /16 of it.
    const NETWORK: Ipv4Net = Ipv4Net::new_assert(std::net::Ipv4Addr::new(100, 64, 0, 0), 16);
    let map = map.section("subscribers", &["network", "count", "ports"], report)?;
    let count = |text: &str| values::size(1..=FLOWS_MAX)(text).map(|count| count as u32);
    Some(SubscribersDraft {
        network: map.or("network", NETWORK, ipv4(values::unicast_prefix), report),
        count: map.optional("count", count, report),
        ports: map.or("ports", 1024..=65_535, values::port_range, report),
    })
}

fn read_servers(map: &Map<'_>, report: &mut Report) -> Option<ServersDraft> {
    // Set aside for measurements (RFC 2544, C.2.2; RFC 6890).
    const NETWORK: Ipv4Net = Ipv4Net::new_assert(std::net::Ipv4Addr::new(198, 18, 0, 0), 15);
    let map = map.section("servers", &["network", "ports"], report)?;
    Some(ServersDraft {
        network: map.or("network", NETWORK, ipv4(values::unicast_prefix), report),
        ports: map.or("ports", 1..=49_151, values::port_range, report),
    })
}

/// `uniform`, `agh-2015`, or `{ zipf: 1.0 }`.
fn read_popularity(map: &Map<'_>, report: &mut Report) -> Option<Marked<Popularity>> {
    const KEY: &str = "popularity";
    if let Some((Node { value: Value::Map(_), .. }, place)) = map.node(KEY) {
        let map = map.section(KEY, &["zipf"], report)?;
        let zipf = map.required("zipf", values::fraction(0.0, 5.0), report)?;
        return Some(Marked { value: Popularity::Zipf(zipf.value), place });
    }
    let parse = |text: &str| match text {
        "uniform" => Ok(Popularity::Uniform),
        "agh-2015" => Ok(Popularity::Agh2015),
        _ => {
            let what = format!("{} is unknown here", shown(text));
            Err(Wrong::new(what, "uniform, agh-2015, or a mapping such as { zipf: 1.0 }"))
        }
    };
    map.or(KEY, Popularity::Uniform, parse, report)
}

fn read_churn(map: &Map<'_>, report: &mut Report) -> Given<ChurnDraft> {
    const KEY: &str = "churn";
    if map.node(KEY).is_none() {
        return Given::Absent;
    }
    let Some(map) = map.section(KEY, &["arrivals", "lifetime"], report) else {
        return Given::Mistaken;
    };
    let lifetime = |text: &str| {
        let lifetime = values::parse_duration(text)?;
        let expected = "a duration above 0, such as 30s";
        let none = Wrong::new("flows of no duration", expected);
        if lifetime.is_zero() { Err(none) } else { Ok(lifetime) }
    };
    Given::Valid(ChurnDraft {
        arrivals: map.optional("arrivals", values::fraction(0.001, 1e9), report),
        lifetime: map.optional("lifetime", lifetime, report),
        place: map.place,
    })
}

/// One length, a list of lengths, a list of lengths with weights, `imix` or `agh-2015`.
fn read_sizes(map: &Map<'_>, report: &mut Report) -> Option<Marked<Sizes>> {
    const KEY: &str = "sizes";
    if let Some((Node { value: Value::List(_), .. }, place)) = map.node(KEY) {
        let list = map.required_list(KEY, SIZES_MAX, report, read_size);
        let mix = list.all()?;
        if mix.iter().all(|(_, weight)| *weight == 0) {
            report.mistake(&place, Wrong::new("no length has a weight", "one above 0"));
            return None;
        }
        return Some(Marked { value: Sizes::Mix(mix), place });
    }
    let parse = |text: &str| match text {
        "imix" => Ok(Sizes::Mix(IMIX.to_vec())),
        "agh-2015" => Ok(Sizes::Agh2015),
        _ => values::number(FRAME_MIN..=FRAME_MAX)(text).map(Sizes::Fixed).map_err(|mut wrong| {
            wrong.expected = format!(
                "a frame's bytes with its checksum from {FRAME_MIN} to {FRAME_MAX}, imix, \
                 agh-2015, or a list such as [ 64, 594, 1518 ]"
            );
            wrong
        }),
    };
    map.or(KEY, Sizes::Fixed(FRAME_MIN), parse, report)
}

/// `64`, or `{ bytes: 64, weight: 7 }`.
fn read_size(node: &Node, place: Place, report: &mut Report) -> Option<(u16, u32)> {
    let bytes = values::number(FRAME_MIN..=FRAME_MAX);
    if let Value::Map(_) = node.value {
        let map = Map::open(node, place, &["bytes", "weight"], report)?;
        let bytes = map.required("bytes", bytes, report);
        let weight = map.or("weight", 1, values::number(0..=1_000_000), report);
        return Some((bytes?.value, weight?.value));
    }
    Some((read::scalar(node, place, bytes, report)?.value, 1))
}

fn read_replay(map: &Map<'_>, report: &mut Report) -> Given<ReplayDraft> {
    const KEY: &str = "replay";
    if map.node(KEY).is_none() {
        return Given::Absent;
    }
    let Some(map) = map.section(KEY, &["file", "timing", "times"], report) else {
        return Given::Mistaken;
    };
    let file = map.required("file", values::file, report);
    let timing = map.or("timing", Timing::Scaled(1.0), values::timing, report);
    let times = map.or("times", 1, values::number(1..=u32::MAX), report);
    Given::Valid(ReplayDraft {
        file: file.map(|file| file.value),
        timing: timing.map(|timing| timing.value),
        times: times.map(|times| times.value),
    })
}

/// `{ after: 10s }`, `{ packets: 1M }` or `{ sessions: 100K }`.
fn read_end(map: &Map<'_>, report: &mut Report) -> Given<Marked<End>> {
    const KEY: &str = "end";
    if map.node(KEY).is_none() {
        return Given::Absent;
    }
    let Some(map) = map.section(KEY, &["after", "packets", "sessions"], report) else {
        return Given::Mistaken;
    };
    let after = |text: &str| {
        let after = values::parse_duration(text)?;
        let none = Wrong::new("this ends before it begins", "a duration above 0, such as 10s");
        if after.is_zero() { Err(none) } else { Ok(End::After(after)) }
    };
    let count = values::size(1..=1 << 60);
    let packets = |text: &str| count(text).map(End::Packets);
    let sessions = |text: &str| count(text).map(End::Sessions);
    let given = [
        map.optional("after", after, report),
        map.optional("packets", packets, report),
        map.optional("sessions", sessions, report),
    ];
    let mut given: Vec<_> =
        given.into_iter().filter(|given| !matches!(given, Given::Absent)).collect();
    match (given.pop(), given.len()) {
        (Some(one), 0) => one,
        _ => {
            let what = if map.is_empty() { "no end is said" } else { "more than one end is said" };
            report.mistake(&map.place, Wrong::new(what, "one of after, packets and sessions"));
            Given::Mistaken
        }
    }
}
