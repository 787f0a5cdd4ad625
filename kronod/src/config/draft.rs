//! The configuration as far as it could be read: the shape is right, the sense is not yet known.
//!
//! A value that is `None` is missing or mistaken and has been reported. Whatever could be read is
//! kept with its place, so that all mistakes of sense are found beside all mistakes of shape.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv4Net;
use krono_config::eal::EalDraft;
use krono_config::mistake::{Place, Report, Wrong};
use krono_config::read::{Given, List, Map, Marked};
use krono_config::tree::Node;
use krono_core::packet::{Mac, Side};

use super::cluster::{self, ClusterDraft, TwinDraft};
use super::firewall;
use super::nat::{self, NatDraft, NatSettings, StaticDraft};
use super::scr::{self, ScrDraft};
use super::types::*;
use super::values::{self, choice};

/// The whole file.
pub(super) struct Draft {
    pub(super) eal: Option<EalDraft>,
    pub(super) ports: List<PortDraft>,
    pub(super) shards: List<ShardDraft>,
    /// Those of `nat`, for whichever shard owns their outside addresses.
    pub(super) static_mappings: Given<List<StaticDraft>>,
    pub(super) firewall: Option<FirewallConfig>,
    pub(super) clock: Option<Clock>,
    pub(super) control_socket: Option<PathBuf>,
    pub(super) metrics_listen: Option<SocketAddr>,
    /// `None` if it is not there.
    pub(super) cluster: Option<ClusterDraft>,
}

pub(super) struct PortDraft {
    pub(super) name: Option<Marked<String>>,
    pub(super) device: Option<Marked<Device>>,
    pub(super) mtu: Option<Marked<u16>>,
}

pub(super) struct ShardDraft {
    pub(super) id: Option<Marked<u16>>,
    pub(super) lcore: Option<Marked<u16>>,
    pub(super) inside: Option<SideDraft>,
    pub(super) outside: Option<SideDraft>,
    /// None if it could not be read, or is not to be there.
    pub(super) nat: Option<NatDraft>,
    pub(super) scr: Option<ScrDraft>,
    /// `None` if it is not there.
    pub(super) twin: Option<TwinDraft>,
}

impl ShardDraft {
    /// Whether it is to have a pool of public addresses.
    pub(super) fn translates(&self) -> bool {
        self.scr.as_ref().is_none_or(|scr| scr.translates != Some(false))
    }

    /// The lcores that run it, as far as they are known.
    pub(super) fn lcores(&self) -> impl Iterator<Item = &Marked<u16>> {
        let in_band = self.scr.as_ref().is_some_and(|scr| scr.in_band.is_some());
        let workers = self.scr.iter().flat_map(|scr| &scr.workers.items);
        self.lcore.iter().filter(move |_| !in_band).chain(workers)
    }

    pub(super) fn side(&self, side: Side) -> Option<&SideDraft> {
        match side {
            Side::Inside => self.inside.as_ref(),
            Side::Outside => self.outside.as_ref(),
        }
    }

    pub(super) fn sides(&self) -> impl Iterator<Item = &SideDraft> {
        Side::BOTH.into_iter().filter_map(|side| self.side(side))
    }
}

pub(super) struct SideDraft {
    pub(super) place: Place,
    pub(super) port: Option<Marked<String>>,
    pub(super) queue: Option<Marked<u16>>,
    pub(super) vlan: Option<Marked<Option<u16>>>,
    pub(super) mac: Option<Marked<Option<Mac>>>,
    pub(super) address: Option<Marked<Ipv4Net>>,
    pub(super) routes: List<RouteDraft>,
    pub(super) neighbours: List<NeighbourDraft>,
    pub(super) bfd: List<BfdDraft>,
    /// Where `bfd` stands, if it does.
    pub(super) bfd_place: Option<Place>,
}

impl SideDraft {
    /// The networks behind this side, `None` for what could not be read.
    pub(super) fn networks(&self) -> impl Iterator<Item = Option<Marked<Ipv4Net>>> {
        let on_link = self
            .address
            .as_ref()
            .map(|address| Marked { value: address.value.trunc(), place: address.place.clone() });
        std::iter::once(on_link).chain(self.routes.items.iter().map(|route| route.prefix.clone()))
    }

    /// The hosts on-link that are known: the shard itself, next hops, static neighbours.
    pub(super) fn hosts(&self) -> impl Iterator<Item = Marked<Ipv4Addr>> {
        let own = self
            .address
            .as_ref()
            .map(|address| Marked { value: address.value.addr(), place: address.place.clone() });
        own.into_iter().chain(self.neighbours().cloned())
    }

    /// The neighbours that are known: next hops, static ones, and those with a BFD session.
    pub(super) fn neighbours(&self) -> impl Iterator<Item = &Marked<Ipv4Addr>> {
        let vias = self.routes.items.iter().filter_map(|route| route.via.as_ref());
        let fixed = self.neighbours.items.iter().filter_map(|entry| entry.address.as_ref());
        vias.chain(fixed).chain(self.bfd.items.iter().filter_map(|entry| entry.neighbour.as_ref()))
    }
}

pub(super) struct RouteDraft {
    pub(super) prefix: Option<Marked<Ipv4Net>>,
    pub(super) via: Option<Marked<Ipv4Addr>>,
}

pub(super) struct NeighbourDraft {
    pub(super) address: Option<Marked<Ipv4Addr>>,
    pub(super) mac: Option<Marked<Mac>>,
}

pub(super) struct BfdDraft {
    pub(super) neighbour: Option<Marked<Ipv4Addr>>,
    pub(super) transmit: Option<Marked<Duration>>,
    pub(super) receive: Option<Marked<Duration>>,
    pub(super) multiplier: Option<Marked<u8>>,
}

/// Reads the file; `None` if there is nothing in it that sense could be made of.
pub(super) fn read(root: &Node, report: &mut Report) -> Option<Draft> {
    const KEYS: [&str; 9] =
        ["eal", "ports", "shards", "nat", "firewall", "clock", "cluster", "control", "metrics"];
    let place = Place { line: root.line, path: String::new() };
    let map = Map::open(root, place, &KEYS, report)?;
    let clock = choice(&[("tsc", Clock::Tsc), ("capture", Clock::Capture)]);
    let eal = EalDraft::read(&map, "an entry of ports", report);
    let control = map.section("control", &["socket"], report);
    let metrics = map.section("metrics", &["listen"], report);
    let nat = nat::read(&map, report);
    Some(Draft {
        eal,
        ports: map.required_list("ports", PORTS_MAX, report, read_port),
        shards: map.required_list("shards", SHARDS_MAX, report, |node, place, report| {
            read_shard(node, place, &nat, report)
        }),
        static_mappings: nat.static_mappings,
        firewall: firewall::read(&map, report),
        clock: map.or("clock", Clock::Tsc, clock, report).map(|clock| clock.value),
        cluster: cluster::read(&map, report),
        control_socket: control.and_then(|control| {
            let default = PathBuf::from(CONTROL_SOCKET);
            Some(control.or("socket", default, values::socket_path, report)?.value)
        }),
        metrics_listen: metrics.and_then(|metrics| {
            let default = SocketAddr::from(([127, 0, 0, 1], 9105));
            Some(metrics.or("listen", default, values::listen, report)?.value)
        }),
    })
}

fn read_port(node: &Node, place: Place, report: &mut Report) -> Option<PortDraft> {
    /// IPv4 packets of 68 bytes must pass any link (RFC 791, section 3.2).
    const MTU_RANGE: std::ops::RangeInclusive<u16> = 68..=9600;
    /// What every host must be able to receive (RFC 791, section 3.1).
    const MTU_USUAL_MIN: u16 = 576;
    let map = Map::open(node, place, &["name", "device", "mtu"], report)?;
    let mtu = map.or("mtu", 1500, values::number(MTU_RANGE), report);
    if let Some(mtu) = mtu.as_ref().filter(|mtu| mtu.value < MTU_USUAL_MIN) {
        let what = format!("{} is below what every host must take (RFC 791, 3.1)", mtu.value);
        report.warning(&mtu.place, Wrong::new(what, format!("{MTU_USUAL_MIN} or more")));
    }
    Some(PortDraft {
        name: map.required("name", values::name, report),
        device: map.required("device", values::device, report),
        mtu,
    })
}

fn read_shard(
    node: &Node,
    place: Place,
    for_all: &NatSettings,
    report: &mut Report,
) -> Option<ShardDraft> {
    const KEYS: [&str; 7] = ["id", "lcore", "inside", "outside", "nat", "scr", "twin"];
    let map = Map::open(node, place, &KEYS, report)?;
    let id = map.required("id", values::number(0..=u16::MAX), report);
    let scr = scr::read(&map, report);
    let lcore = read_lcore(&map, scr.as_ref(), report);
    let inside = map.required_section("inside", &SIDE_KEYS, report);
    let inside = inside.map(|map| read_side(&map, report));
    let outside = map.required_section("outside", &SIDE_KEYS, report);
    let outside = outside.map(|map| read_side(&map, report));
    let nat = match scr.as_ref().map(|scr| scr.translates) {
        None | Some(Some(true)) => nat::read_shard(&map, for_all, report),
        Some(Some(false)) => {
            if let Some((_, place)) = map.node("nat") {
                let what = "the program of this shard translates nothing";
                report.mistake(&place, Wrong::new(what, "no nat, or scr.program: nat"));
            }
            None
        }
        Some(None) => None,
    };
    let twin = cluster::read_twin(&map, report);
    Some(ShardDraft { id, lcore, inside, outside, nat, scr, twin })
}

/// The lcore of a shard; where packets come sequenced that of its first worker.
fn read_lcore(map: &Map<'_>, scr: Option<&ScrDraft>, report: &mut Report) -> Option<Marked<u16>> {
    let Some(ScrDraft { in_band: Some(in_band), workers, .. }) = scr else {
        return map.required("lcore", values::number(0..=LCORES_MAX - 1), report);
    };
    if let Some((_, place)) = map.node("lcore") {
        let what =
            format!("packets come sequenced, {in_band}, and workers have lcores of their own");
        report.mistake(&place, Wrong::new(what, "no lcore"));
    }
    workers.items.first().cloned()
}

const SIDE_KEYS: [&str; 8] =
    ["port", "queue", "vlan", "mac", "address", "routes", "neighbours", "bfd"];

fn read_side(map: &Map<'_>, report: &mut Report) -> SideDraft {
    let vlan = |text: &str| values::number(1..=4094)(text).map(Some);
    let mac = |text: &str| values::mac(text).map(Some);
    let routes = map.list("routes", LIST_MAX, report, |node, place, report| {
        let map = Map::open(node, place, &["prefix", "via"], report)?;
        Some(RouteDraft {
            prefix: map.required("prefix", values::route_prefix, report),
            via: map.required("via", values::address, report),
        })
    });
    let neighbours = map.list("neighbours", LIST_MAX, report, |node, place, report| {
        let map = Map::open(node, place, &["address", "mac"], report)?;
        Some(NeighbourDraft {
            address: map.required("address", values::address, report),
            mac: map.required("mac", values::mac, report),
        })
    });
    let bfd = map.list("bfd", BFD_SESSIONS_MAX, report, read_bfd);
    SideDraft {
        place: map.place.clone(),
        port: map.required("port", values::name, report),
        queue: map.or("queue", 0, values::number(0..=QUEUES_MAX - 1), report),
        vlan: map.or("vlan", None, vlan, report),
        mac: map.or("mac", None, mac, report),
        address: map.required("address", values::interface, report),
        routes: routes.unwrap_or_else(List::empty).unwrap_or_else(List::mistaken),
        neighbours: neighbours.unwrap_or_else(List::empty).unwrap_or_else(List::mistaken),
        bfd: bfd.unwrap_or_else(List::empty).unwrap_or_else(List::mistaken),
        bfd_place: map.node("bfd").map(|(_, place)| place),
    }
}

fn read_bfd(node: &Node, place: Place, report: &mut Report) -> Option<BfdDraft> {
    const KEYS: [&str; 4] = ["neighbour", "transmit", "receive", "multiplier"];
    /// A neighbour that falls silent is lost after 150 ms, if it is as quick.
    const INTERVAL: Duration = Duration::from_millis(50);
    const MULTIPLIER: u8 = 3;
    let map = Map::open(node, place, &KEYS, report)?;
    Some(BfdDraft {
        neighbour: map.required("neighbour", values::address, report),
        transmit: map.or("transmit", INTERVAL, values::bfd_interval, report),
        receive: map.or("receive", INTERVAL, values::bfd_interval, report),
        multiplier: map.or("multiplier", MULTIPLIER, values::number(1..=u8::MAX), report),
    })
}
