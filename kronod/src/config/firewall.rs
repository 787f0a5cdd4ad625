//! `firewall`: rules for new sessions.

use std::ops::RangeInclusive;

use ipnet::Ipv4Net;
use krono_config::mistake::{Place, Report, Wrong};
use krono_config::read::{List, Map, Marked};
use krono_config::tree::Node;
use krono_core::packet::Protocol;

use super::types::{Action, Direction, FirewallConfig, LIST_MAX, Rule};
use super::values::{self, choice};

const ACTIONS: &[(&str, Action)] = &[("allow", Action::Allow), ("drop", Action::Drop)];

/// Reads the section; `None` if anything is wrong with it.
pub(super) fn read(map: &Map<'_>, report: &mut Report) -> Option<FirewallConfig> {
    let map = map.section("firewall", &["inbound", "rules"], report)?;
    let inbound = map.or("inbound", Action::Allow, choice(ACTIONS), report);
    let rules = map.list("rules", LIST_MAX, report, read_rule).unwrap_or_else(List::empty);
    Some(FirewallConfig { inbound: inbound?.value, rules: rules?.all()? })
}

fn read_rule(node: &Node, place: Place, report: &mut Report) -> Option<Rule> {
    const KEYS: [&str; 7] = ["action", "direction", "protocol", "from", "to", "sport", "port"];
    let map = Map::open(node, place, &KEYS, report)?;
    let any = Ipv4Net::default();
    let directions = choice(&[("out", Direction::Out), ("in", Direction::In)]);
    let protocols = choice(&[
        ("any", None),
        ("tcp", Some(Protocol::Tcp)),
        ("udp", Some(Protocol::Udp)),
        ("icmp", Some(Protocol::Icmp)),
    ]);
    let action = map.required("action", choice(ACTIONS), report);
    let direction = map.required("direction", directions, report);
    let protocol = map.or("protocol", None, protocols, report);
    let from = map.or("from", any, values::prefix_or_any, report);
    let to = map.or("to", any, values::prefix_or_any, report);
    let source_ports = read_ports(&map, "sport", protocol.as_ref(), report);
    let destination_ports = read_ports(&map, "port", protocol.as_ref(), report);
    Some(Rule {
        action: action?.value,
        direction: direction?.value,
        protocol: protocol?.value,
        from: from?.value,
        to: to?.value,
        source_ports: source_ports?,
        destination_ports: destination_ports?,
    })
}

/// The ports under `key`, which only sessions of TCP and UDP have.
fn read_ports(
    map: &Map<'_>,
    key: &'static str,
    protocol: Option<&Marked<Option<Protocol>>>,
    report: &mut Report,
) -> Option<Option<RangeInclusive<u16>>> {
    let parse = |text: &str| values::port_range(text).map(Some);
    let ports = map.or(key, None, parse, report)?;
    let has_ports = |protocol| matches!(protocol, Some(Protocol::Tcp | Protocol::Udp));
    if ports.value.is_some() && protocol.is_some_and(|protocol| !has_ports(protocol.value)) {
        let what = "only TCP and UDP have ports";
        let expected = "protocol: tcp or protocol: udp in the same rule";
        report.mistake(&ports.place, Wrong::new(what, expected));
    }
    Some(ports.value)
}
