//! From a draft to a configuration.

use krono_config::read::{Given, Marked};

use super::draft::{BfdDraft, Draft, NeighbourDraft, PortDraft, RouteDraft, ShardDraft, SideDraft};
use super::nat::{NatDraft, StaticDraft};
use super::sense;
use super::types::*;

/// The configuration; `None` if any part of it is missing or mistaken.
pub(super) fn config(draft: Draft) -> Option<Config> {
    let static_mappings: Vec<Vec<StaticMapping>> = sense::static_mappings(&draft)
        .into_iter()
        .map(|entries| entries.into_iter().map(static_mapping).collect())
        .collect::<Option<_>>()?;
    let ports: Vec<_> = draft.ports.all()?.into_iter().map(port).collect::<Option<_>>()?;
    let shards = draft.shards.all()?.into_iter().zip(static_mappings);
    let shards = shards.map(|(draft, static_mappings)| shard(draft, &ports, static_mappings));
    Some(Config {
        eal: draft.eal?.valid()?,
        shards: shards.collect::<Option<_>>()?,
        ports,
        firewall: draft.firewall?,
        clock: draft.clock?,
        control_socket: draft.control_socket?,
        metrics_listen: draft.metrics_listen?,
        cluster: match draft.cluster {
            Some(cluster) => Some(cluster.valid()?),
            None => None,
        },
    })
}

fn port(draft: PortDraft) -> Option<PortConfig> {
    Some(PortConfig { name: draft.name?.value, device: draft.device?.value, mtu: draft.mtu?.value })
}

fn shard(
    draft: ShardDraft,
    ports: &[PortConfig],
    static_mappings: Vec<StaticMapping>,
) -> Option<ShardConfig> {
    let translates = draft.translates();
    Some(ShardConfig {
        id: draft.id?.value,
        lcore: draft.lcore?.value,
        inside: side(draft.inside?, ports)?,
        outside: side(draft.outside?, ports)?,
        nat: match translates {
            true => Some(nat(draft.nat?, static_mappings)?),
            false => None,
        },
        scr: match draft.scr {
            Some(scr) => Some(scr.config?),
            None => None,
        },
        twin: match draft.twin {
            Some(twin) => Some(twin.valid()?),
            None => None,
        },
    })
}

fn side(draft: SideDraft, ports: &[PortConfig]) -> Option<SideConfig> {
    let name = draft.port?.value;
    let routes = draft.routes.all()?.into_iter().map(route);
    let neighbours = draft.neighbours.all()?.into_iter().map(neighbour);
    let bfd = draft.bfd.all()?.into_iter().map(bfd);
    Some(SideConfig {
        port: ports.iter().position(|port| port.name == name)?,
        queue: draft.queue?.value,
        vlan: draft.vlan?.value,
        mac: draft.mac?.value,
        address: draft.address?.value,
        routes: routes.collect::<Option<_>>()?,
        neighbours: neighbours.collect::<Option<_>>()?,
        bfd: bfd.collect::<Option<_>>()?,
    })
}

fn route(draft: RouteDraft) -> Option<RouteConfig> {
    Some(RouteConfig { prefix: draft.prefix?.value, via: draft.via?.value })
}

fn neighbour(draft: NeighbourDraft) -> Option<NeighbourConfig> {
    Some(NeighbourConfig { address: draft.address?.value, mac: draft.mac?.value })
}

fn bfd(draft: BfdDraft) -> Option<BfdConfig> {
    Some(BfdConfig {
        neighbour: draft.neighbour?.value,
        transmit: draft.transmit?.value,
        receive: draft.receive?.value,
        multiplier: draft.multiplier?.value,
    })
}

fn nat(draft: NatDraft, static_mappings: Vec<StaticMapping>) -> Option<NatConfig> {
    if let Given::Mistaken = draft.static_mappings {
        return None;
    }
    let pool = draft.pool.all()?;
    Some(NatConfig {
        pool: pool.into_iter().map(|prefix| prefix.value).collect(),
        sessions: draft.sessions?.value,
        mapping: draft.mapping?.value,
        filtering: draft.filtering?.value,
        ports: draft.ports?.value,
        ports_per_subscriber: draft.ports_per_subscriber?.value,
        hairpinning: draft.hairpinning?.value,
        timeouts: draft.timeouts?,
        exclude: draft.exclude?,
        static_mappings,
    })
}

fn static_mapping(draft: &StaticDraft) -> Option<StaticMapping> {
    fn value<T: Copy>(marked: &Option<Marked<T>>) -> Option<T> {
        marked.as_ref().map(|marked| marked.value)
    }
    Some(StaticMapping {
        protocol: value(&draft.protocol)?,
        inside: value(&draft.inside)?,
        outside: value(&draft.outside)?,
    })
}
