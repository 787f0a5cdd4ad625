//! `cluster`, and `twin` of a shard: the other server that has its state as well.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use krono_config::mistake::{Place, Report, Wrong, shown};
use krono_config::read::{Map, Marked};
use krono_core::packet::Side;

use super::draft::{Draft, ShardDraft};
use super::types::*;
use super::values::{self, Parsed, choice};

/// What could be read of `cluster`.
pub(super) struct ClusterDraft {
    place: Place,
    node: Option<Marked<u32>>,
    key: Option<Marked<PathBuf>>,
    port: Option<Marked<u16>>,
    heartbeat: Option<Marked<Duration>>,
    silence: Option<Marked<Duration>>,
    converge: Option<Marked<Duration>>,
    first_ports: Option<Marked<u8>>,
    /// `None` if it is not there.
    bird: Option<BirdDraft>,
}

/// What could be read of `cluster.bird`.
struct BirdDraft {
    socket: Option<Marked<PathBuf>>,
    include: Option<Marked<PathBuf>>,
    subscribers: Option<Marked<Option<Side>>>,
}

/// What could be read of `twin`.
pub(super) struct TwinDraft {
    place: Place,
    master: Option<Marked<u32>>,
    slave: Option<Marked<u32>>,
    side: Option<Marked<Side>>,
    peer: Option<Marked<Ipv4Addr>>,
    /// `None` if they are not there.
    next_hops: Option<NextHopsDraft>,
}

/// What could be read of `twin.next_hops`.
struct NextHopsDraft {
    place: Place,
    inside: Option<Marked<Ipv4Addr>>,
    outside: Option<Marked<Ipv4Addr>>,
}

/// Reads `cluster`; `None` if it is not there.
pub(super) fn read(map: &Map<'_>, report: &mut Report) -> Option<ClusterDraft> {
    const KEYS: [&str; 8] =
        ["node", "key", "port", "heartbeat", "silence", "converge", "first_ports", "bird"];
    let (_, place) = map.node("cluster")?;
    let Some(map) = map.section("cluster", &KEYS, report) else {
        return Some(ClusterDraft::mistaken(place));
    };
    let ms = Duration::from_millis;
    Some(ClusterDraft {
        place,
        node: map.required("node", node, report),
        key: map.required("key", file, report),
        port: map.or("port", CLUSTER_PORT, values::number(1..=u16::MAX), report),
        heartbeat: map.or("heartbeat", ms(10), within(ms(1), ms(1000)), report),
        silence: map.or("silence", ms(100), within(ms(5), ms(60_000)), report),
        converge: map.or("converge", ms(3000), within(ms(10), ms(600_000)), report),
        first_ports: map.or("first_ports", 50, values::number(1..=99), report),
        bird: map.node("bird").map(|_| read_bird(&map, report)),
    })
}

impl ClusterDraft {
    fn mistaken(place: Place) -> ClusterDraft {
        let (node, key, port, heartbeat) = (None, None, None, None);
        let (silence, converge, first_ports, bird) = (None, None, None, None);
        ClusterDraft { place, node, key, port, heartbeat, silence, converge, first_ports, bird }
    }
}

fn read_bird(map: &Map<'_>, report: &mut Report) -> BirdDraft {
    const KEYS: [&str; 3] = ["socket", "include", "subscribers"];
    let sides =
        choice(&[("none", None), ("inside", Some(Side::Inside)), ("outside", Some(Side::Outside))]);
    let Some(map) = map.section("bird", &KEYS, report) else {
        return BirdDraft { socket: None, include: None, subscribers: None };
    };
    BirdDraft {
        socket: map.or("socket", PathBuf::from(BIRD_SOCKET), values::socket_path, report),
        include: map.required("include", file, report),
        subscribers: map.or("subscribers", None, sides, report),
    }
}

/// Reads `twin` of a shard; `None` if it is not there.
pub(super) fn read_twin(map: &Map<'_>, report: &mut Report) -> Option<TwinDraft> {
    const KEYS: [&str; 5] = ["master", "slave", "side", "peer", "next_hops"];
    let sides = choice(&[("inside", Side::Inside), ("outside", Side::Outside)]);
    let (_, place) = map.node("twin")?;
    let Some(map) = map.section("twin", &KEYS, report) else {
        let (master, slave, side, peer, next_hops) = (None, None, None, None, None);
        return Some(TwinDraft { place, master, slave, side, peer, next_hops });
    };
    Some(TwinDraft {
        place,
        master: map.required("master", node, report),
        slave: map.required("slave", node, report),
        side: map.or("side", Side::Outside, sides, report),
        peer: map.required("peer", values::address, report),
        next_hops: map.node("next_hops").map(|(_, place)| read_next_hops(&map, place, report)),
    })
}

fn read_next_hops(map: &Map<'_>, place: Place, report: &mut Report) -> NextHopsDraft {
    let Some(map) = map.section("next_hops", &["inside", "outside"], report) else {
        return NextHopsDraft { place, inside: None, outside: None };
    };
    NextHopsDraft {
        place,
        inside: map.required("inside", values::address, report),
        outside: map.required("outside", values::address, report),
    }
}

/// The number of a server.
fn node(text: &str) -> Parsed<u32> {
    values::number(1..=NODE_MAX)(text)
}

/// The path of a file.
fn file(text: &str) -> Parsed<PathBuf> {
    if text.is_empty() || text.contains('\0') {
        return Err(Wrong::new(format!("{} is not a path", shown(text)), "the path of a file"));
    }
    Ok(PathBuf::from(text))
}

/// A duration from `least` to `most`.
fn within(least: Duration, most: Duration) -> impl Fn(&str) -> Parsed<Duration> {
    move |text| {
        let expected = format!("a duration from {least:?} to {most:?}");
        match values::parse_duration(text) {
            Ok(duration) if (least..=most).contains(&duration) => Ok(duration),
            Ok(_) => Err(Wrong::new(format!("{} is out of range", shown(text)), expected)),
            Err(wrong) => Err(Wrong { expected, ..wrong }),
        }
    }
}

/// Reports what does not fit together.
pub(super) fn check(draft: &Draft, report: &mut Report) {
    /// One heartbeat may be lost and another be late.
    const HEARTBEATS_MIN: u32 = 3;
    if let Some(ClusterDraft { heartbeat: Some(heartbeat), silence: Some(silence), .. }) =
        &draft.cluster
        && silence.value < heartbeat.value * HEARTBEATS_MIN
    {
        let what = format!("{:?} is less than {HEARTBEATS_MIN} heartbeats", silence.value);
        let expected = format!("{:?} or more", heartbeat.value * HEARTBEATS_MIN);
        report.mistake(&silence.place, Wrong::new(what, expected));
    }
    for shard in &draft.shards.items {
        let Some(twin) = &shard.twin else { continue };
        match &draft.cluster {
            None => {
                let what = "there is no section cluster, which says what this node is";
                report.mistake(&twin.place, Wrong::new(what, "a section cluster, or no twin"));
            }
            Some(cluster) => twin_is_of_cluster(twin, cluster, report),
        }
        twin_fits_shard(twin, shard, draft, report);
    }
    next_hops_are_distinct(draft, report);
    if let Some(cluster) = &draft.cluster
        && draft.shards.complete
        && draft.shards.items.iter().all(|shard| shard.twin.is_none())
    {
        let what = "no shard has a twin";
        report.warning(&cluster.place, Wrong::new(what, "twin in a shard, or no cluster"));
    }
}

/// Routers tell by the next hop which shard it is that cannot be reached. One that lies in a pool would
/// be reached by the very route that it is the next hop of.
fn next_hops_are_distinct(draft: &Draft, report: &mut Report) {
    let shards = &draft.shards.items;
    let pools: Vec<_> =
        shards.iter().filter_map(|it| it.nat.as_ref()).flat_map(|nat| &nat.pool.items).collect();
    for (index, shard) in shards.iter().enumerate() {
        for hop in next_hops(shard) {
            if let Some(other) =
                shards[..index].iter().flat_map(next_hops).find(|other| other.value == hop.value)
            {
                let what = format!("{} is taken by {}", hop.value, other.place);
                let expected = "next hops of its own for each shard";
                report.mistake(&hop.place, Wrong::new(what, expected));
            }
            if let Some(pool) = pools.iter().find(|pool| pool.value.contains(&hop.value)) {
                let what = format!("{} lies in the pool {}, {}", hop.value, pool.value, pool.place);
                let expected = "an address that routers reach by a route guarded by BFD only";
                report.mistake(&hop.place, Wrong::new(what, expected));
            }
        }
    }
}

fn next_hops(shard: &ShardDraft) -> impl Iterator<Item = &Marked<Ipv4Addr>> {
    let hops = shard.twin.iter().filter_map(|twin| twin.next_hops.as_ref());
    hops.flat_map(|hops| [&hops.inside, &hops.outside]).flatten()
}

/// This node is one of both, and says by which addresses routes lead here if it announces any.
fn twin_is_of_cluster(twin: &TwinDraft, cluster: &ClusterDraft, report: &mut Report) {
    if let (Some(master), Some(slave)) = (&twin.master, &twin.slave) {
        if master.value == slave.value {
            let what = format!("node {} is the master as well", slave.value);
            report.mistake(&slave.place, Wrong::new(what, "another node"));
        } else if let Some(node) = &cluster.node
            && ![master.value, slave.value].contains(&node.value)
        {
            let what = format!("neither master nor slave is node {}, {}", node.value, node.place);
            report.mistake(&twin.place, Wrong::new(what, "this node as one of them"));
        }
    }
    match (&cluster.bird, &twin.next_hops) {
        (Some(_), None) => {
            let what = "BIRD is told no next hops of this shard's routes";
            let expected = "next_hops: { inside: ADDRESS, outside: ADDRESS }";
            report.mistake(&twin.place, Wrong::new(what, expected));
        }
        (None, Some(next_hops)) => {
            let what = "nobody announces routes, for there is no cluster.bird";
            let expected = "cluster.bird, or no next_hops";
            report.warning(&next_hops.place, Wrong::new(what, expected));
        }
        _ => {}
    }
}

fn twin_fits_shard(twin: &TwinDraft, shard: &ShardDraft, draft: &Draft, report: &mut Report) {
    if shard.scr.is_some() {
        let what = "the state of a shard with scr is not told to another server";
        report.mistake(&twin.place, Wrong::new(what, "no twin, or no scr"));
    }
    if draft.clock == Some(Clock::Capture) {
        let what = "clock: capture lets no time pass between packets";
        report.mistake(&twin.place, Wrong::new(what, "no twin, or clock: tsc"));
    }
    for address in twin.peer.iter() {
        if is_of_shard(address.value, shard) {
            let what = format!("{} is this shard's own address", address.value);
            report.mistake(&address.place, Wrong::new(what, "the address of the other half"));
        }
    }
    for hop in next_hops(shard) {
        // A router resolves what is connected without looking at what BFD says of it.
        let connected = shard.sides().filter_map(|side| side.address.as_ref());
        if let Some(network) =
            connected.map(|it| it.value.trunc()).find(|it| it.contains(&hop.value))
        {
            let what = format!("{} lies in {network}, which is connected", hop.value);
            let expected = "an address that routers reach by a route guarded by BFD only";
            report.mistake(&hop.place, Wrong::new(what, expected));
        }
    }
    pool_is_routed(shard, report);
    for side in shard.sides().filter(|side| side.bfd.items.is_empty() && side.bfd.complete) {
        let what = "no neighbour would notice by BFD that this half is gone";
        report.warning(&side.place, Wrong::new(what, "bfd: [ { neighbour: ADDRESS } ]"));
    }
}

/// ARP knows of one station only that has an address.
fn pool_is_routed(shard: &ShardDraft, report: &mut Report) {
    let link = shard.outside.as_ref().and_then(|outside| outside.address.as_ref());
    let Some(link) = link.map(|address| address.value.trunc()) else { return };
    for pool in shard.nat.iter().flat_map(|nat| &nat.pool.items) {
        if link.contains(&pool.value) {
            let what =
                format!("{} is on-link, so both halves would answer for it by ARP", pool.value);
            let expected = "addresses that are routed to the half that serves";
            report.mistake(&pool.place, Wrong::new(what, expected));
        }
    }
}

fn is_of_shard(address: Ipv4Addr, shard: &ShardDraft) -> bool {
    shard.sides().filter_map(|side| side.address.as_ref()).any(|own| own.value.addr() == address)
}

impl ClusterDraft {
    /// What is valid of it; `None` if anything is mistaken.
    pub(super) fn valid(self) -> Option<ClusterConfig> {
        let bird = match self.bird {
            Some(bird) => Some(BirdConfig {
                socket: bird.socket?.value,
                include: bird.include?.value,
                subscribers: bird.subscribers?.value,
            }),
            None => None,
        };
        Some(ClusterConfig {
            node: self.node?.value,
            key: self.key?.value,
            port: self.port?.value,
            heartbeat: self.heartbeat?.value,
            silence: self.silence?.value,
            converge: self.converge?.value,
            first_ports: self.first_ports?.value,
            bird,
        })
    }
}

impl TwinDraft {
    /// Likewise.
    pub(super) fn valid(self) -> Option<TwinConfig> {
        let next_hops = match self.next_hops {
            Some(hops) => {
                Some(NextHops { inside: hops.inside?.value, outside: hops.outside?.value })
            }
            None => None,
        };
        Some(TwinConfig {
            master: self.master?.value,
            slave: self.slave?.value,
            side: self.side?.value,
            peer: self.peer?.value,
            next_hops,
        })
    }
}
