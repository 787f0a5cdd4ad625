//! `nat` for all shards, and a shard's own settings over it.
//!
//! What a shard's own `nat` says replaces what `nat` says: a scalar or a whole list by itself, and
//! each of `timeouts` by itself. A shard without a `static` list of its own has the entries of
//! `nat.static` whose outside addresses are in its pool.

use std::ops::RangeInclusive;

use ipnet::Ipv4Net;
use krono_config::mistake::{Place, Report, Wrong};
use krono_config::read::{self, Given, List, Map, Marked};
use krono_config::tree::Node;
use krono_core::packet::{Endpoint, Protocol};
use krono_core::time::Span;

use super::types::*;
use super::values::{self, choice, shown_span};

/// The keys of a shard's `nat`; those of `nat` are the same but for the pool.
const SHARD_KEYS: [&str; 10] = [
    "pool",
    "sessions",
    "mapping",
    "filtering",
    "ports",
    "ports_per_subscriber",
    "hairpinning",
    "timeouts",
    "exclude",
    "static",
];

/// What one place says about translation: `nat`, or the `nat` of a shard.
#[derive(Clone)]
pub(super) struct NatSettings {
    sessions: Given<Marked<u32>>,
    mapping: Given<Marked<Mapping>>,
    filtering: Given<Marked<Filtering>>,
    ports: Given<Marked<RangeInclusive<u16>>>,
    ports_per_subscriber: Given<Marked<u16>>,
    hairpinning: Given<Marked<bool>>,
    timeouts: [Given<Marked<Span>>; TIMERS.len()],
    exclude: Given<List<Marked<Ipv4Net>>>,
    pub(super) static_mappings: Given<List<StaticDraft>>,
}

/// The settings of a shard: its own over those for all shards over the defaults.
pub(super) struct NatDraft {
    pub(super) pool: List<Marked<Ipv4Net>>,
    pub(super) sessions: Option<Marked<u32>>,
    pub(super) mapping: Option<Marked<Mapping>>,
    pub(super) filtering: Option<Marked<Filtering>>,
    pub(super) ports: Option<Marked<RangeInclusive<u16>>>,
    pub(super) ports_per_subscriber: Option<Marked<u16>>,
    pub(super) hairpinning: Option<Marked<bool>>,
    pub(super) timeouts: Option<Timeouts>,
    pub(super) exclude: Option<Vec<Ipv4Net>>,
    /// Its own; if it has none, those for all shards apply whose outside address it owns.
    pub(super) static_mappings: Given<List<StaticDraft>>,
}

/// An entry of `static`.
#[derive(Clone)]
pub(super) struct StaticDraft {
    pub(super) place: Place,
    pub(super) protocol: Option<Marked<Protocol>>,
    pub(super) inside: Option<Marked<Endpoint>>,
    pub(super) outside: Option<Marked<Endpoint>>,
}

impl StaticDraft {
    /// Whether its outside address is in this pool, as far as both are known.
    pub(super) fn is_in(&self, pool: &List<Marked<Ipv4Net>>) -> bool {
        let contains = |outside: &Marked<Endpoint>| {
            pool.items.iter().any(|prefix| prefix.value.contains(&outside.value.addr))
        };
        self.outside.as_ref().is_some_and(contains)
    }
}

/// One of `timeouts`.
struct Timer {
    key: &'static str,
    default: Span,
    range: RangeInclusive<Span>,
    /// Below this it is a warning that names the source.
    usual_min: Span,
    source: &'static str,
}

const ANY_SPAN: RangeInclusive<Span> = Span(1)..=Span::MAX;

/// In the order of the fields of [`Timeouts`].
const TIMERS: [Timer; 6] = [
    Timer {
        key: "udp",
        default: Span::from_secs(300),
        range: ANY_SPAN,
        usual_min: Span::from_secs(120),
        source: "RFC 4787, REQ-5",
    },
    Timer {
        key: "icmp",
        default: Span::from_secs(60),
        range: ANY_SPAN,
        usual_min: Span::from_secs(60),
        source: "RFC 5508, REQ-2",
    },
    Timer {
        key: "tcp_established",
        default: Span::from_secs(7440),
        range: ANY_SPAN,
        usual_min: Span::from_secs(7440),
        source: "RFC 5382, REQ-5",
    },
    // RFC 7857, section 2.1, allows less than four minutes while a connection is being opened.
    Timer {
        key: "tcp_opening",
        default: Span::from_secs(240),
        range: ANY_SPAN,
        usual_min: Span(0),
        source: "RFC 7857, 2.1",
    },
    Timer {
        key: "tcp_closing",
        default: Span::from_secs(240),
        range: ANY_SPAN,
        usual_min: Span::from_secs(240),
        source: "RFC 5382, REQ-5",
    },
    Timer {
        key: "port_hold",
        default: Span::from_secs(120),
        range: Span(0)..=PORT_HOLD_MAX,
        usual_min: Span::from_secs(120),
        source: "RFC 6888, REQ-8",
    },
];

impl NatSettings {
    /// Settings of which nothing is known, since their section is none.
    const MISTAKEN: NatSettings = NatSettings {
        sessions: Given::Mistaken,
        mapping: Given::Mistaken,
        filtering: Given::Mistaken,
        ports: Given::Mistaken,
        ports_per_subscriber: Given::Mistaken,
        hairpinning: Given::Mistaken,
        timeouts: [const { Given::Mistaken }; TIMERS.len()],
        exclude: Given::Mistaken,
        static_mappings: Given::Mistaken,
    };
}

/// Reads `nat`.
pub(super) fn read(map: &Map<'_>, report: &mut Report) -> NatSettings {
    let keys: Vec<_> = SHARD_KEYS.into_iter().filter(|key| *key != "pool").collect();
    match map.section("nat", &keys, report) {
        Some(map) => read_settings(&map, report),
        None => NatSettings::MISTAKEN,
    }
}

/// Reads the `nat` of a shard and completes it with the settings for all shards.
pub(super) fn read_shard(
    map: &Map<'_>,
    for_all: &NatSettings,
    report: &mut Report,
) -> Option<NatDraft> {
    let map = map.required_section("nat", &SHARD_KEYS, report)?;
    let pool = map.required_list("pool", LIST_MAX, report, |node, place, report| {
        read::scalar(node, place, values::unicast_prefix, report)
    });
    let own = read_settings(&map, report);
    let all = for_all.clone();
    let ports = own.ports.or(all.ports);
    let ports = ports.unwrap_or_else(|| map.default("ports", 1024..=u16::MAX));
    let limit = own.ports_per_subscriber.or(all.ports_per_subscriber);
    let limit = limit.unwrap_or_else(|| {
        let count = ports.as_ref().map_or(u16::MAX, |ports| port_count(&ports.value));
        map.default("ports_per_subscriber", count.min(2048))
    });
    let mut timeouts = own.timeouts.into_iter().zip(all.timeouts).zip(&TIMERS);
    let timeouts = std::array::from_fn(|_| {
        let ((own, all), timer) = timeouts.next()?;
        let given = own.or(all).unwrap_or_else(|| map.default(timer.key, timer.default));
        given.map(|span| span.value)
    });
    let exclude = own.exclude.or(all.exclude).unwrap_or_else(List::empty).and_then(List::all);
    Some(NatDraft {
        pool,
        sessions: own.sessions.or(all.sessions).unwrap_or_else(|| map.default("sessions", 1 << 20)),
        mapping: own
            .mapping
            .or(all.mapping)
            .unwrap_or_else(|| map.default("mapping", Mapping::EndpointIndependent)),
        filtering: own
            .filtering
            .or(all.filtering)
            .unwrap_or_else(|| map.default("filtering", Filtering::AddressAndPortDependent)),
        ports,
        ports_per_subscriber: limit,
        hairpinning: own
            .hairpinning
            .or(all.hairpinning)
            .unwrap_or_else(|| map.default("hairpinning", true)),
        timeouts: complete(timeouts),
        exclude: exclude.map(|list| list.into_iter().map(|prefix| prefix.value).collect()),
        static_mappings: own.static_mappings,
    })
}

/// How many ports a range has; all 65,535 from 1 on are 65,535.
pub(super) fn port_count(ports: &RangeInclusive<u16>) -> u16 {
    (ports.end() - ports.start()).saturating_add(1)
}

/// The timeouts, in the order of [`TIMERS`], if all are known.
fn complete(spans: [Option<Span>; TIMERS.len()]) -> Option<Timeouts> {
    let [udp, icmp, tcp_established, tcp_opening, tcp_closing, port_hold] = spans;
    Some(Timeouts {
        udp: udp?,
        icmp: icmp?,
        tcp_established: tcp_established?,
        tcp_opening: tcp_opening?,
        tcp_closing: tcp_closing?,
        port_hold: port_hold?,
    })
}

/// Reads what `nat` and the `nat` of a shard have in common.
fn read_settings(map: &Map<'_>, report: &mut Report) -> NatSettings {
    let sessions = |text: &str| {
        let range = SESSIONS_MIN.into()..=SESSIONS_MAX.into();
        values::size(range)(text).map(|sessions| sessions as u32)
    };
    let mapping = choice(&[("endpoint-independent", Mapping::EndpointIndependent)]);
    let filtering = choice(&[
        ("address-and-port-dependent", Filtering::AddressAndPortDependent),
        ("address-dependent", Filtering::AddressDependent),
        ("endpoint-independent", Filtering::EndpointIndependent),
    ]);
    let hairpinning = map.optional("hairpinning", values::boolean, report);
    if let Given::Valid(Marked { value: false, place }) = &hairpinning {
        let what = "subscribers cannot reach each other's public endpoints (RFC 4787, REQ-9)";
        report.warning(place, Wrong::new(what, "true"));
    }
    NatSettings {
        sessions: map.optional("sessions", sessions, report),
        mapping: map.optional("mapping", mapping, report),
        filtering: map.optional("filtering", filtering, report),
        ports: map.optional("ports", values::port_range, report),
        ports_per_subscriber: map.optional(
            "ports_per_subscriber",
            values::number(1..=u16::MAX),
            report,
        ),
        hairpinning,
        timeouts: read_timeouts(map, report),
        exclude: map.list("exclude", LIST_MAX, report, |node, place, report| {
            read::scalar(node, place, values::prefix, report)
        }),
        static_mappings: map.list("static", LIST_MAX, report, read_static),
    }
}

fn read_timeouts(map: &Map<'_>, report: &mut Report) -> [Given<Marked<Span>>; TIMERS.len()] {
    let Some(map) = map.section("timeouts", &TIMERS.each_ref().map(|timer| timer.key), report)
    else {
        return [const { Given::Mistaken }; TIMERS.len()];
    };
    TIMERS.each_ref().map(|timer| {
        let given = map.optional(timer.key, values::span(timer.range.clone()), report);
        if let Given::Valid(span) = &given
            && span.value < timer.usual_min
        {
            let (value, min) = (shown_span(span.value), shown_span(timer.usual_min));
            let what = format!("{value} is below the minimum of {}", timer.source);
            report.warning(&span.place, Wrong::new(what, format!("{min} or more")));
        }
        given
    })
}

fn read_static(node: &Node, place: Place, report: &mut Report) -> Option<StaticDraft> {
    let protocol = choice(&[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)]);
    let map = Map::open(node, place, &["protocol", "inside", "outside"], report)?;
    Some(StaticDraft {
        protocol: map.required("protocol", protocol, report),
        inside: map.required("inside", values::endpoint, report),
        outside: map.required("outside", values::endpoint, report),
        place: map.place,
    })
}
