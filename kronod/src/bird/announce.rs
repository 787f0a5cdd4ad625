//! What is announced, and the file that says so in BIRD's words.
//!
//! Routes have `blackhole` as their place in BIRD's own tables, since it is not this server's kernel
//! that forwards them; what a router learns is the attribute `bgp_next_hop`. That is an address of the
//! shard's own which no connected network has: BIRD lives on when kronod hangs, so routers must be
//! able to tell by themselves whether that next hop can be reached.

use std::fmt::Write;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use krono_core::packet::Side;
use krono_ha::roles::Role;

use crate::config::{Config, ShardConfig};

/// What routers are told of a shard, whoever serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Announcement {
    /// Its id.
    pub(super) shard: u16,
    /// Whether this server is the one that is to serve it if both can.
    pub(super) is_master: bool,
    /// The next hop of routes inside.
    pub(super) inside: Ipv4Addr,
    /// The next hop of routes outside.
    pub(super) outside: Ipv4Addr,
    /// Its public addresses, announced outside.
    pub(super) pool: Vec<Ipv4Net>,
    /// The networks of its subscribers, and where they are announced, if they are.
    pub(super) subscribers: Option<(Side, Vec<Ipv4Net>)>,
}

/// What a configuration has BIRD announce: the shards with next hops, in order.
pub(super) fn announcements(config: &Config) -> Vec<Announcement> {
    let Some(cluster) = &config.cluster else { return Vec::new() };
    let Some(bird) = &cluster.bird else { return Vec::new() };
    let announcement = |shard: &ShardConfig| {
        let twin = shard.twin.as_ref()?;
        let hops = twin.next_hops?;
        Some(Announcement {
            shard: shard.id,
            is_master: twin.master == cluster.node,
            inside: hops.inside,
            outside: hops.outside,
            pool: shard.nat.iter().flat_map(|nat| nat.pool.iter().copied()).collect(),
            subscribers: bird.subscribers.map(|side| (side, shard.inside.networks().collect())),
        })
    };
    config.shards.iter().filter_map(announcement).collect()
}

/// How routers are to see this server's half of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It serves.
    First,
    /// It would, if nobody else did.
    Second,
    /// It is not to be used.
    Withdrawn,
}

impl Standing {
    /// What follows from what a half does, if that is known. Whether it could serve is not asked:
    /// routers see by BFD what they cannot reach.
    pub(crate) fn of(role: Option<Role>) -> Standing {
        match role {
            Some(Role::Serving | Role::Draining) => Standing::First,
            Some(Role::Following | Role::Yielded) => Standing::Second,
            None => Standing::Withdrawn,
        }
    }
}

/// What BIRD is to announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The whole file.
    pub(super) text: String,
    /// The names of the protocols in it.
    pub(super) protocols: Vec<String>,
    /// In a few words for people; nothing if nothing is announced.
    pub(super) summary: String,
}

const HEADER: &str =
    "# Written by kronod, which replaces it when a shard begins or ends to serve: see \"Routes\" in
# docs/cluster.md.\n";

/// What all names of protocols in the file begin with.
pub(super) const PREFIX: &str = "krono_shard_";

impl Wanted {
    /// What follows from how each shard stands, in order.
    pub(super) fn new(announcements: &[Announcement], standings: &[Standing]) -> Wanted {
        let mut wanted = Wanted::nothing();
        for (announcement, standing) in announcements.iter().zip(standings) {
            let place = match standing {
                Standing::First => "first",
                Standing::Second => "second",
                Standing::Withdrawn => continue,
            };
            let comma = if wanted.summary.is_empty() { "" } else { ", " };
            let Announcement { shard, .. } = announcement;
            _ = write!(wanted.summary, "{comma}shard {shard} as {place}");
            for side in Side::BOTH {
                wanted.add(announcement, side, *standing);
            }
        }
        wanted
    }

    /// No route.
    pub(super) fn nothing() -> Wanted {
        Wanted { text: HEADER.to_owned(), protocols: Vec::new(), summary: String::new() }
    }

    /// Adds a shard's routes on one side. Tables are the operator's: one for all pools, since those
    /// are disjoint; one inside for each shard, since each has a default route.
    fn add(&mut self, announcement: &Announcement, side: Side, standing: Standing) {
        let Announcement { shard, inside, outside, pool, subscribers, .. } = announcement;
        let default = [Ipv4Net::default()];
        let (name, table, next_hop, own) = match side {
            Side::Inside => ("inside", format!("krono_inside_{shard}"), inside, &default[..]),
            Side::Outside => ("outside", "krono_outside".to_owned(), outside, &pool[..]),
        };
        let others = subscribers.iter().filter(|(at, _)| *at == side).flat_map(|(_, nets)| nets);
        // Who has subscribers everywhere says no more than that.
        let others = others.filter(|network| network.prefix_len() > 0);
        let name = format!("{PREFIX}{shard}_{name}");
        let (local_pref, med) = preference(standing, announcement.is_master);
        let attributes =
            format!("bgp_next_hop = {next_hop}; bgp_local_pref = {local_pref}; bgp_med = {med};");
        _ = write!(self.text, "\nprotocol static {name} {{\n  ipv4 {{ table {table}; }};\n");
        for prefix in own.iter().chain(others) {
            _ = writeln!(self.text, "  route {prefix} blackhole {{ {attributes} }};");
        }
        self.text.push_str("}\n");
        self.protocols.push(name);
    }
}

/// Of two halves the one that serves comes first, and the master of two that do or do not: the
/// higher local preference within an autonomous system, the lower discriminator between two.
fn preference(standing: Standing, is_master: bool) -> (u32, u32) {
    match (standing, is_master) {
        (Standing::First, true) => (400, 100),
        (Standing::First, false) => (300, 200),
        (_, true) => (200, 300),
        (_, false) => (100, 400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Memory, load_text};

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn shard(shard: u16, is_master: bool) -> Announcement {
        let pool = vec![net("198.51.100.0/28"), net("203.0.113.8/32")];
        let [inside, outside] = [[10, 255, 0, 1].into(), [10, 255, 1, 1].into()];
        Announcement { shard, is_master, inside, outside, pool, subscribers: None }
    }

    fn text(announcement: Announcement, standing: Standing) -> String {
        Wanted::new(&[announcement], &[standing]).text
    }

    #[test]
    fn a_shard_is_a_default_route_inside_and_its_pool_outside() {
        let wanted = Wanted::new(&[shard(7, true)], &[Standing::First]);
        let attributes = "bgp_local_pref = 400; bgp_med = 100; };";
        let expected = format!(
            "{HEADER}
protocol static krono_shard_7_inside {{
  ipv4 {{ table krono_inside_7; }};
  route 0.0.0.0/0 blackhole {{ bgp_next_hop = 10.255.0.1; {attributes}
}}

protocol static krono_shard_7_outside {{
  ipv4 {{ table krono_outside; }};
  route 198.51.100.0/28 blackhole {{ bgp_next_hop = 10.255.1.1; {attributes}
  route 203.0.113.8/32 blackhole {{ bgp_next_hop = 10.255.1.1; {attributes}
}}\n"
        );
        assert_eq!(wanted.text, expected);
        assert_eq!(wanted.protocols, ["krono_shard_7_inside", "krono_shard_7_outside"]);
        assert_eq!(wanted.summary, "shard 7 as first");
    }

    #[test]
    fn the_half_that_serves_is_preferred_and_the_master_of_two_alike() {
        let best_first = [
            (Standing::First, true),
            (Standing::First, false),
            (Standing::Second, true),
            (Standing::Second, false),
        ];
        for pair in best_first.windows(2) {
            let [(better, better_med), (worse, worse_med)] =
                [pair[0], pair[1]].map(|(standing, is_master)| preference(standing, is_master));
            assert!(better > worse && better_med < worse_med, "{pair:?}");
        }
        assert!(
            text(shard(0, false), Standing::Second).contains("local_pref = 100; bgp_med = 400")
        );
    }

    #[test]
    fn who_serves_until_the_other_does_is_preferred() {
        for role in [Role::Serving, Role::Draining] {
            assert_eq!(Standing::of(Some(role)), Standing::First);
        }
        for role in [Role::Following, Role::Yielded] {
            assert_eq!(Standing::of(Some(role)), Standing::Second);
        }
        assert_eq!(Standing::of(None), Standing::Withdrawn);
    }

    #[test]
    fn shards_with_next_hops_are_announced() {
        let shard = |id: u16, twin: &str| {
            let vlan = id + 1;
            format!(
                "  - {{ id: {id}, lcore: {id}, nat: {{ pool: [ 198.51.10{id}.0/28 ] }}, {twin}
      inside: {{ port: in, queue: {id}, vlan: {vlan}, address: 10.{id}.0.1/24,
                routes: [ {{ prefix: 100.6{id}.0.0/16, via: 10.{id}.0.2 }} ] }},
      outside: {{ port: out, queue: {id}, vlan: {vlan}, address: 192.0.{id}.1/24 }} }}\n"
            )
        };
        let hops = "next_hops: { inside: 10.255.0.2, outside: 10.255.1.2 }";
        let twin = format!("twin: {{ master: 2, slave: 1, peer: 192.0.2.2, {hops} }},");
        let config = |bird: &str| {
            let text = format!(
                "cluster: {{ node: 2, key: k{bird} }}
ports: [ {{ name: in, device: net_null0 }}, {{ name: out, device: net_null1 }} ]
shards:\n{}{}",
                shard(0, ""),
                shard(2, &twin)
            );
            load_text("k.yaml", &text, &Memory::unlimited()).unwrap().0
        };
        let mut expected = Announcement {
            shard: 2,
            is_master: true,
            inside: [10, 255, 0, 2].into(),
            outside: [10, 255, 1, 2].into(),
            pool: vec![net("198.51.102.0/28")],
            subscribers: None,
        };
        let with_bird = config(", bird: { include: f }");
        assert_eq!(announcements(&with_bird), [expected.clone()]);
        expected.subscribers =
            Some((Side::Outside, vec![net("10.2.0.0/24"), net("100.62.0.0/16")]));
        let told = config(", bird: { include: f, subscribers: outside }");
        assert_eq!(announcements(&told), [expected]);
        assert_eq!(announcements(&config("")), []);
        let mut slave = with_bird;
        slave.cluster.as_mut().unwrap().node = 1;
        assert!(!announcements(&slave)[0].is_master);
        slave.cluster = None;
        assert_eq!(announcements(&slave), []);
    }

    #[test]
    fn what_is_withdrawn_is_not_in_the_file() {
        let shards = [shard(0, true), shard(1, false), shard(2, true)];
        let standings = [Standing::Second, Standing::Withdrawn, Standing::First];
        let wanted = Wanted::new(&shards, &standings);
        let names = ["0_inside", "0_outside", "2_inside", "2_outside"];
        assert_eq!(wanted.protocols, names.map(|name| format!("krono_shard_{name}")));
        assert!(!wanted.text.contains("shard_1") && !wanted.text.contains("inside_1"));
        assert_eq!(wanted.summary, "shard 0 as second, shard 2 as first");
        let none = Wanted::new(&shards, &[Standing::Withdrawn; 3]);
        assert_eq!(none, Wanted::nothing());
        assert!(none.text.lines().all(|line| line.starts_with('#')), "{}", none.text);
    }

    #[test]
    fn networks_of_subscribers_are_announced_on_the_side_that_wants_them() {
        let networks = vec![net("100.64.0.0/10"), net("0.0.0.0/0"), net("10.0.0.0/24")];
        let route =
            |prefix: &str, hop: &str| format!("route {prefix} blackhole {{ bgp_next_hop = {hop};");
        let [here, there] = ["10.255.0.1", "10.255.1.1"];
        for (side, hop, other) in [(Side::Inside, here, there), (Side::Outside, there, here)] {
            let subscribers = Some((side, networks.clone()));
            let text = text(Announcement { subscribers, ..shard(0, true) }, Standing::First);
            for prefix in ["100.64.0.0/10", "10.0.0.0/24"] {
                assert!(text.contains(&route(prefix, hop)), "{prefix} {side}\n{text}");
                assert!(!text.contains(&route(prefix, other)), "{prefix} {side}\n{text}");
            }
            assert_eq!(text.matches("route 0.0.0.0/0").count(), 1, "{text}");
        }
    }
}
