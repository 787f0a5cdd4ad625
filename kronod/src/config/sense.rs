//! Whether the parts of a configuration fit together.
//!
//! Of two values that contradict each other one is reported, with the line of the other: if they
//! are alike, that further down. What is already known to be mistaken is left out.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Display;
use std::hash::Hash;

use ipnet::Ipv4Net;
use krono_config::mistake::{Place, Report, Wrong};
use krono_config::read::{Given, List, Marked};
use krono_core::packet::Endpoint;

use super::cluster;
use super::draft::{Draft, PortDraft, ShardDraft, SideDraft};
use super::memory::{Memory, TableSizes, subscribers_max};
use super::nat::{NatDraft, StaticDraft, port_count};
use super::types::{Clock, POOL_ADDRESSES_MAX, addresses};
use super::values::{ends, shown_size};

/// Reports all mistakes of sense.
pub(super) fn check(draft: &Draft, memory: &Memory<'_>, report: &mut Report) {
    ports_are_distinct(&draft.ports.items, report);
    shards_are_distinct(&draft.shards.items, report);
    lcores_are_mapped(draft, report);
    for side in draft.shards.items.iter().flat_map(ShardDraft::sides) {
        port_is_declared(side, &draft.ports, report);
        neighbours_are_on_link(side, report);
    }
    bfd_has_a_speaker(draft, report);
    cluster::check(draft, report);
    queues_have_one_reader(draft, report);
    addresses_are_distinct(&draft.shards.items, report);
    pools_are_disjoint(&draft.shards.items, report);
    pools_are_nobodys(&draft.shards.items, report);
    for nat in draft.shards.items.iter().filter_map(|shard| shard.nat.as_ref()) {
        subscribers_fit_in_ports(nat, report);
        pool_is_small_enough(nat, report);
    }
    for (shard, entries) in draft.shards.items.iter().zip(static_mappings(draft)) {
        static_mappings_fit(shard, &entries, report);
    }
    static_mappings_have_a_shard(draft, report);
    sizes_fit_in_memory(draft, memory, report);
    // A port whose name is misspelled elsewhere is not one that nobody uses.
    if report.is_clean() {
        queues_are_read(draft, report);
    }
}

/// Remembers which values are taken, and by whom.
struct Taken<K> {
    first: HashMap<K, String>,
}

impl<K: Hash + Eq> Taken<K> {
    fn new() -> Taken<K> {
        Taken { first: HashMap::new() }
    }

    /// Reports `marked` if somebody has taken `key` before.
    fn take<T: Display>(
        &mut self,
        key: K,
        marked: &Marked<T>,
        expected: &str,
        report: &mut Report,
    ) {
        match self.first.get(&key) {
            Some(first) => {
                let what = format!("{} is taken by {first}", marked.value);
                report.mistake(&marked.place, Wrong::new(what, expected));
            }
            None => {
                self.first.insert(key, marked.place.to_string());
            }
        }
    }
}

fn ports_are_distinct(ports: &[PortDraft], report: &mut Report) {
    let mut names = Taken::new();
    let mut devices = Taken::new();
    for port in ports {
        if let Some(name) = &port.name {
            names.take(&name.value, name, "a name of its own for each port", report);
        }
        if let Some(device) = &port.device {
            let expected = "a device of its own for each port";
            devices.take(device.value.name(), device, expected, report);
        }
    }
}

fn shards_are_distinct(shards: &[ShardDraft], report: &mut Report) {
    let mut ids = Taken::new();
    let mut lcores = Taken::new();
    for shard in shards {
        if let Some(id) = &shard.id {
            ids.take(id.value, id, "an id of its own for each shard", report);
        }
        for lcore in shard.lcores() {
            let expected = match shard.scr {
                None => "an lcore of its own for each shard",
                Some(_) => "an lcore of its own for each shard or worker",
            };
            lcores.take(lcore.value, lcore, expected, report);
        }
    }
}

fn lcores_are_mapped(draft: &Draft, report: &mut Report) {
    let Some(Given::Valid(map)) = draft.eal.as_ref().map(|eal| &eal.lcores) else { return };
    for lcore in draft.shards.items.iter().flat_map(ShardDraft::lcores) {
        if !map.value.lcores.contains(&lcore.value) {
            let what = format!("lcore {} is not in {}", lcore.value, map.place);
            report.mistake(&lcore.place, Wrong::new(what, format!("one of {}", map.value.text)));
        }
    }
}

fn port_is_declared(side: &SideDraft, ports: &List<PortDraft>, report: &mut Report) {
    let Some(name) = &side.port else { return };
    // A port whose name could not be read may be the one that is meant.
    let names: Option<Vec<&str>> =
        ports.items.iter().map(|port| Some(port.name.as_ref()?.value.as_str())).collect();
    if let Some(names) = names
        && ports.complete
        && !names.contains(&name.value.as_str())
    {
        let what = format!("{} is not declared under ports", name.value);
        report.mistake(&name.place, Wrong::new(what, format!("one of {}", names.join(", "))));
    }
}

/// Next hops and static neighbours are hosts of the network that is on-link, routes are distinct.
fn neighbours_are_on_link(side: &SideDraft, report: &mut Report) {
    if let Some(interface) = &side.address {
        for host in side.neighbours() {
            let network = interface.value.trunc();
            let what = match host.value {
                host if !network.contains(&host) => format!("{host} is not on-link"),
                host if host == interface.value.addr() => format!("{host} is the shard's own"),
                host => match ends(&network, host) {
                    Some(end) => format!("{host} is the {end} address"),
                    None => continue,
                },
            };
            let expected = format!("a neighbour's address in {network}");
            report.mistake(&host.place, Wrong::new(what, expected));
        }
    }
    let mut addresses = Taken::new();
    for neighbour in side.neighbours.items.iter().filter_map(|entry| entry.address.as_ref()) {
        addresses.take(neighbour.value, neighbour, "each neighbour once", report);
    }
    let mut watched = Taken::new();
    for neighbour in side.bfd.items.iter().filter_map(|entry| entry.neighbour.as_ref()) {
        watched.take(neighbour.value, neighbour, "each neighbour once", report);
    }
    let mut prefixes = Taken::new();
    let on_link = side.address.as_ref().map(|address| address.value.trunc());
    for prefix in side.routes.items.iter().filter_map(|route| route.prefix.as_ref()) {
        if Some(prefix.value) == on_link {
            let what = format!("{} is on-link", prefix.value);
            report.mistake(&prefix.place, Wrong::new(what, "a network behind a neighbour"));
        } else {
            prefixes.take(prefix.value, prefix, "each prefix once", report);
        }
    }
}

/// Sessions are held by shards whose one core is the router that neighbours see, in real time.
fn bfd_has_a_speaker(draft: &Draft, report: &mut Report) {
    for shard in &draft.shards.items {
        let sides = shard.sides().filter(|side| !side.bfd.items.is_empty());
        for place in sides.filter_map(|side| side.bfd_place.as_ref()) {
            if shard.scr.is_some() {
                let what = "a shard with scr has a router on each core, and none speaks for all";
                report.mistake(place, Wrong::new(what, "no bfd"));
            } else if draft.clock == Some(Clock::Capture) {
                let what = "clock: capture lets no time pass between packets";
                report.mistake(place, Wrong::new(what, "no bfd, or clock: tsc"));
            }
        }
    }
}

/// A queue is polled by one shard, and frames on one port can be told apart by VLAN and MAC.
fn queues_have_one_reader(draft: &Draft, report: &mut Report) {
    let mut by_port: HashMap<&str, Vec<(usize, &SideDraft)>> = HashMap::new();
    let is_replay = draft.clock == Some(Clock::Capture);
    let sides = draft
        .shards
        .items
        .iter()
        .enumerate()
        .flat_map(|(i, shard)| shard.sides().map(move |s| (i, s)));
    for (shard, side) in sides {
        let Some(port) = &side.port else { continue };
        let others = by_port.entry(&port.value).or_default();
        if let Some(wrong) = others.iter().find_map(|(i, other)| clash(side, other, *i == shard)) {
            report.mistake(&port.place, wrong);
        } else if is_replay && others.iter().any(|(i, _)| *i == shard) {
            let what = "clock: capture merges the captures of two ports, and this is one";
            report.mistake(&port.place, Wrong::new(what, "a port of its own for each side"));
        }
        if draft.shards.items[shard].scr.is_some() && others.iter().any(|(i, _)| *i == shard) {
            let what = "a shard with scr cannot have both sides on one port";
            report.mistake(&port.place, Wrong::new(what, "a port of its own for each side"));
        }
        let is_replicated = |index: usize| draft.shards.items[index].scr.is_some();
        if let Some((_, other)) =
            others.iter().find(|(i, _)| *i != shard && (is_replicated(*i) || is_replicated(shard)))
        {
            let what = format!("a shard with scr needs all queues of its port, {}", other.place);
            report.mistake(&port.place, Wrong::new(what, "a port of its own for each of them"));
        }
        others.push((shard, side));
    }
}

/// Why two sides cannot share a port, if they cannot.
fn clash(side: &SideDraft, other: &SideDraft, same_shard: bool) -> Option<Wrong> {
    let same_queue = side.queue.as_ref()?.value == other.queue.as_ref()?.value;
    let same_vlan = side.vlan.as_ref()?.value == other.vlan.as_ref()?.value;
    let (what, expected) = if same_shard && same_vlan {
        ("the port and its vlan are also those of", "another port, or another vlan on each side")
    } else if same_shard {
        return None;
    } else if same_queue {
        ("this queue of the port is also read by", "a port or a queue of its own for each shard")
    } else if same_vlan && side.mac.as_ref()?.value == other.mac.as_ref()?.value {
        let expected = "another port, or a mac or vlan of its own for each shard";
        ("the port, vlan and mac are also those of", expected)
    } else {
        return None;
    };
    Some(Wrong::new(format!("{what} {}", other.place), expected))
}

/// Warns of frames that nobody would ever receive.
fn queues_are_read(draft: &Draft, report: &mut Report) {
    let mut by_port: HashMap<&str, BTreeMap<u16, &Place>> = HashMap::new();
    for side in draft.shards.items.iter().flat_map(ShardDraft::sides) {
        let (Some(port), Some(queue)) = (&side.port, &side.queue) else { continue };
        by_port.entry(&port.value).or_default().insert(queue.value, &queue.place);
    }
    for name in draft.ports.items.iter().filter_map(|port| port.name.as_ref()) {
        let Some(queues) = by_port.get(name.value.as_str()) else {
            let what = format!("no shard uses {}", name.value);
            report.warning(&name.place, Wrong::new(what, "a port of a shard"));
            continue;
        };
        let Some((highest, place)) = queues.last_key_value() else { continue };
        if let Some(unread) = (0..*highest).find(|queue| !queues.contains_key(queue)) {
            let what = format!("no shard reads queue {unread} of {}", name.value);
            report.warning(place, Wrong::new(what, "queues that are counted from 0"));
        }
    }
}

fn addresses_are_distinct(shards: &[ShardDraft], report: &mut Report) {
    let mut taken = Taken::new();
    for address in shards.iter().flat_map(ShardDraft::sides).filter_map(|s| s.address.as_ref()) {
        let expected = "an address of its own for each side of each shard";
        taken.take(address.value.addr(), address, expected, report);
    }
}

fn pools(shards: &[ShardDraft]) -> impl Iterator<Item = &Marked<Ipv4Net>> {
    shards.iter().filter_map(|shard| shard.nat.as_ref()).flat_map(|nat| &nat.pool.items)
}

/// No address is in two pools, nor twice in one.
fn pools_are_disjoint(shards: &[ShardDraft], report: &mut Report) {
    let mut sorted: Vec<_> = pools(shards).enumerate().collect();
    sorted.sort_by_key(|(order, pool)| (pool.value, *order));
    let mut reported = HashSet::new();
    let mut rest = sorted.into_iter();
    let Some(mut cover) = rest.next() else { return };
    for next in rest {
        // Of two prefixes that overlap, one contains the other, and it sorts before it.
        if !cover.1.value.contains(&next.1.value) {
            cover = next;
            continue;
        }
        let (first, second) = if cover.0 < next.0 { (cover, next) } else { (next, cover) };
        if reported.insert(second.0) {
            let what = format!("{} overlaps {}, {}", second.1.value, first.1.value, first.1.place);
            report
                .mistake(&second.1.place, Wrong::new(what, "addresses that are in no other pool"));
        }
    }
}

/// No pool has addresses that subscribers, routers or the shards themselves have.
fn pools_are_nobodys(shards: &[ShardDraft], report: &mut Report) {
    let mut taken: BTreeMap<Ipv4Net, String> = BTreeMap::new();
    for shard in shards {
        for network in shard.inside.iter().flat_map(SideDraft::networks).flatten() {
            let owner = format!("the inside network {}, {}", network.value, network.place);
            taken.entry(network.value).or_insert(owner);
        }
        for host in shard.outside.iter().flat_map(SideDraft::hosts) {
            let owner = format!("the address {}, {}", host.value, host.place);
            taken.entry(host.value.into()).or_insert(owner);
        }
    }
    for pool in pools(shards) {
        let supernets = (0..=pool.value.prefix_len()).filter_map(|length| {
            let supernet = Ipv4Net::new(pool.value.network(), length).ok()?.trunc();
            taken.get(&supernet)
        });
        let last = Ipv4Net::from(pool.value.broadcast());
        let mut subnets = taken.range(pool.value..=last).map(|(_, owner)| owner);
        if let Some(owner) = supernets.into_iter().next().or_else(|| subnets.next()) {
            let what = format!("{} overlaps {owner}", pool.value);
            report.mistake(&pool.place, Wrong::new(what, "addresses that nobody else has"));
        }
    }
}

fn subscribers_fit_in_ports(nat: &NatDraft, report: &mut Report) {
    let (Some(limit), Some(ports)) = (&nat.ports_per_subscriber, &nat.ports) else { return };
    let count = port_count(&ports.value);
    if limit.value > count {
        let what = format!("{} exceeds the {count} ports of {}", limit.value, ports.place);
        report.mistake(&limit.place, Wrong::new(what, format!("at most {count}")));
    }
}

fn pool_is_small_enough(nat: &NatDraft, report: &mut Report) {
    let mut count = 0;
    for pool in &nat.pool.items {
        count += addresses(&pool.value);
        if count > POOL_ADDRESSES_MAX.into() {
            let what = format!("the pool has {count} addresses with {}", pool.value);
            let expected = format!("at most {POOL_ADDRESSES_MAX} in a shard");
            report.mistake(&pool.place, Wrong::new(what, expected));
            return;
        }
    }
}

/// The static mappings of each shard: its own, or those for all shards that are in its pool.
pub(super) fn static_mappings(draft: &Draft) -> Vec<Vec<&StaticDraft>> {
    let mut by_shard: Vec<Vec<&StaticDraft>> = vec![Vec::new(); draft.shards.items.len()];
    if let Given::Valid(list) = &draft.static_mappings {
        for entry in &list.items {
            if let Some(index) = owner(entry, draft) {
                by_shard[index].push(entry);
            }
        }
    }
    for (entries, shard) in by_shard.iter_mut().zip(&draft.shards.items) {
        match shard.nat.as_ref().map(|nat| &nat.static_mappings) {
            Some(Given::Valid(own)) => *entries = own.items.iter().collect(),
            Some(Given::Mistaken) => entries.clear(),
            Some(Given::Absent) | None => {}
        }
    }
    by_shard
}

/// The shard that a static mapping for all shards falls to.
fn owner(entry: &StaticDraft, draft: &Draft) -> Option<usize> {
    let has_it = |shard: &ShardDraft| shard.nat.as_ref().is_some_and(|nat| entry.is_in(&nat.pool));
    draft.shards.items.iter().position(has_it)
}

fn static_mappings_fit(shard: &ShardDraft, entries: &[&StaticDraft], report: &mut Report) {
    let ShardDraft { inside: side, nat: Some(nat), .. } = shard else { return };
    if let Some(sessions) = &nat.sessions {
        // Each takes the place of a session and maybe of a subscriber for good.
        let room = sessions.value.min(subscribers_max(sessions.value)) as usize;
        if let Some(entry) = entries.get(room) {
            let what = format!("there are {} with this, too many for {}", room + 1, sessions.place);
            let expected = format!("at most {room} static mappings in the shard");
            report.mistake(&entry.place, Wrong::new(what, expected));
        }
    }
    let mut insides = Taken::new();
    let mut outsides = Taken::new();
    for entry in entries {
        if let Some(outside) = &entry.outside
            && nat.pool.complete
            && !entry.is_in(&nat.pool)
        {
            let what = format!("{} is not in the shard's pool", outside.value.addr);
            report.mistake(&outside.place, Wrong::new(what, "an address of the shard's pool"));
        }
        if let (Some(inside), Some(side)) = (&entry.inside, side) {
            subscriber_is_reached(inside, side, report);
        }
        let Some(protocol) = &entry.protocol else { continue };
        if let Some(inside) = &entry.inside {
            let expected = "one mapping for each inside endpoint";
            insides.take((protocol.value, inside.value), inside, expected, report);
        }
        if let Some(outside) = &entry.outside {
            let expected = "one mapping for each outside endpoint";
            outsides.take((protocol.value, outside.value), outside, expected, report);
        }
    }
}

fn subscriber_is_reached(inside: &Marked<Endpoint>, side: &SideDraft, report: &mut Report) {
    let addr = inside.value.addr;
    let expected = "a subscriber's address in a network behind the inside of the shard";
    let own = side.address.as_ref().is_some_and(|address| address.value.addr() == addr);
    // A network that could not be read may be the one that the address is in.
    let networks: Option<Vec<_>> = side.networks().collect();
    if own {
        let what = format!("{addr} is the shard's own");
        report.mistake(&inside.place, Wrong::new(what, expected));
    } else if let Some(networks) = networks
        && side.routes.complete
        && !networks.iter().any(|network| network.value.contains(&addr))
    {
        let what = format!("{addr} is in no network behind the shard");
        report.mistake(&inside.place, Wrong::new(what, expected));
    }
}

/// Each static mapping for all shards applies to one.
fn static_mappings_have_a_shard(draft: &Draft, report: &mut Report) {
    let Given::Valid(list) = &draft.static_mappings else { return };
    let shards = &draft.shards.items;
    let known = draft.shards.complete
        && shards.iter().all(|shard| {
            !shard.translates() || shard.nat.as_ref().is_some_and(|nat| nat.pool.complete)
        });
    for entry in &list.items {
        let Some(outside) = &entry.outside else { continue };
        let nat = owner(entry, draft).and_then(|index| shards[index].nat.as_ref());
        match nat {
            None if known => {
                let what = format!("{} is in no shard's pool", outside.value.addr);
                report.mistake(&outside.place, Wrong::new(what, "an address of a pool"));
            }
            Some(NatDraft { static_mappings: Given::Valid(_), .. }) => {
                let what = "the shard with this pool has a list of its own, which replaces this";
                report.warning(&entry.place, Wrong::new(what, "an entry in that list"));
            }
            _ => {}
        }
    }
}

/// Packet buffers and the tables of all shards fit in the memory that the machine has left.
fn sizes_fit_in_memory(draft: &Draft, memory: &Memory<'_>, report: &mut Report) {
    let (Some(available), Some(eal)) = (memory.available, &draft.eal) else { return };
    let Some(buffers) = &eal.memory else { return };
    let sized = draft.shards.items.iter().filter_map(|shard| {
        let (bytes, place) = tables_of(shard, memory)?;
        // A replica for each worker, and one more that carries states between them.
        let replicas = shard.scr.as_ref().map_or(1, |scr| 1 + scr.workers.items.len() as u64);
        Some((bytes.saturating_mul(replicas), place))
    });
    let sized: Vec<_> = sized.collect();
    let tables = sized.iter().fold(0u64, |sum, (bytes, _)| sum.saturating_add(*bytes));
    if tables.saturating_add(buffers.value) <= available {
        return;
    }
    let largest = sized.iter().max_by_key(|(bytes, _)| *bytes);
    let place = match largest {
        Some((_, place)) if tables > buffers.value => place,
        _ => &buffers.place,
    };
    let (buffers, tables) = (shown_size(buffers.value), shown_size(tables));
    let what = format!("{buffers} of packet buffers and {tables} of tables do not fit in memory");
    let expected = format!("at most {} together", shown_size(available));
    report.mistake(place, Wrong::new(what, expected));
}

/// What the tables of a shard on one core, or of one replica, take, bytes, and where that is said.
fn tables_of<'d>(shard: &'d ShardDraft, memory: &Memory<'_>) -> Option<(u64, &'d Place)> {
    if let Some((bytes, place)) = shard.scr.as_ref().and_then(|scr| scr.table.as_ref()) {
        return Some((*bytes, place));
    }
    let nat = shard.nat.as_ref()?;
    let sessions = nat.sessions.as_ref()?;
    let sizes = TableSizes {
        sessions: sessions.value,
        pool_addresses: pool_addresses(nat)?,
        ports: nat.ports.as_ref()?.value.clone(),
    };
    Some(((memory.bytes_per_shard)(&sizes), &sessions.place))
}

/// How many addresses a pool has, if that is known and not too many.
fn pool_addresses(nat: &NatDraft) -> Option<u32> {
    let sum: u64 = nat.pool.items.iter().map(|pool| addresses(&pool.value)).sum();
    u32::try_from(sum).ok().filter(|sum| *sum <= POOL_ADDRESSES_MAX)
}
