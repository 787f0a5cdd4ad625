//! The house: from a valid configuration to ports, shards and workers on their lcores.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use anyhow::{Context, bail};
use krono_core::counters::Counters;
use krono_core::packet::{Mac, Side};
use krono_core::ports::Part as PortsPart;
use krono_core::router::{Route, Router, RouterConfig, SideConfig as RouterSide, bfd};
use krono_core::shard::Shard;
use krono_core::time::{Moment, Ticks};
use krono_ha::frame::Key;
use krono_io::{
    Arena, Burst, Clock, Eal, EalConfig, Pool, PoolConfig, Port, PortConfig, QueueId, RxQueue,
    TxQueue,
};
use krono_nat::Nat;
use krono_nat::config as nat;
use log::warn;

use crate::bfd::Board;
use crate::carrier::Carrier;
use crate::changes::ChangeCounts;
use crate::config::{self, Config, NatConfig, ScrConfig, ShardConfig, SideConfig};
use crate::control::protocol::PortFigures;
use crate::held::Held;
use crate::input::Input;
use crate::mailbox::{Mailbox, ShardHandle, mailbox};
use crate::output::Output;
use crate::scr;
use crate::twin;
use crate::worker::Worker;

/// Bytes of buffer memory that one frame of the usual size takes, all told; the rest of
/// `eal.memory` is for DPDK itself.
const BUFFER_BYTES: u64 = 2560;
/// The share of `eal.memory` that becomes buffers, per cent.
const BUFFER_SHARE: u64 = 50;

/// Starts the EAL as the configuration asks.
///
/// # Errors
/// What the EAL lacks.
pub fn start_eal(config: &Config) -> anyhow::Result<Eal> {
    let eal = EalConfig {
        memory_mb: u32::try_from(config.eal.memory >> 20).context("eal.memory is too large")?,
        hugepages: hugepages(config.eal.hugepages),
        lcores: Some(lcores(config)),
        devices: config.ports.iter().map(|port| port.device.to_string()).collect(),
        args: config.eal.args.clone(),
    };
    Ok(Eal::start(&eal)?)
}

/// The EAL's map of lcores.
fn lcores(config: &Config) -> String {
    config.eal.lcore_map(config.shards.iter().flat_map(ShardConfig::lcores))
}

/// The CPUs that workers poll on, as far as the map of lcores says so plainly.
pub(crate) fn worker_cpus(config: &Config) -> Vec<usize> {
    let map = lcores(config);
    let pairs = map.split(',').filter_map(|pair| pair.split_once('@'));
    pairs
        .filter(|(lcore, _)| lcore.parse().is_ok_and(|lcore| is_used(config, lcore)))
        .filter_map(|(_, cpu)| cpu.parse().ok())
        .collect()
}

fn is_used(config: &Config, lcore: u16) -> bool {
    config.shards.iter().flat_map(ShardConfig::lcores).any(|used| used == lcore)
}

pub(crate) fn hugepages(wanted: config::Hugepages) -> krono_io::Hugepages {
    match wanted {
        config::Hugepages::Auto => krono_io::Hugepages::Auto,
        config::Hugepages::Required => krono_io::Hugepages::Required,
        config::Hugepages::Off => krono_io::Hugepages::Off,
    }
}

/// The open ports, with the queues that no shard has taken yet.
pub struct Ports {
    ports: Vec<OpenPort>,
}

struct OpenPort {
    name: String,
    port: Port,
    pool: Pool,
    rx: Vec<Option<RxQueue>>,
    tx: Vec<Option<TxQueue>>,
}

impl Ports {
    /// Opens every port with as many queues as its shards use, and has it deliver by MAC address
    /// where they are several.
    ///
    /// # Errors
    /// The device that is missing or refuses, and why.
    pub fn open(eal: &Eal, config: &Config) -> anyhow::Result<Ports> {
        let share = config.eal.memory * BUFFER_SHARE / 100 / config.ports.len() as u64;
        let open = |(index, port): (usize, &config::PortConfig)| {
            let room = BUFFER_BYTES.max(u64::from(port.mtu) + 512);
            let private = room_beside(config, index);
            let pool = PoolConfig {
                name: format!("krono-{index}"),
                buffers: u32::try_from(share / (room + u64::from(private))).unwrap_or(u32::MAX),
                mtu: port.mtu,
                private,
            };
            let pool = Pool::new(eal, &pool).with_context(|| format!("port {}", port.name))?;
            let queues = queues_of(config, index);
            let settings = PortConfig {
                rx_queues: queues,
                or_fewer_rx: is_for_sequencer(config, index),
                tx_queues: queues,
                mtu: port.mtu,
                ..PortConfig::default()
            };
            let (opened, rx, tx) = Port::open(eal, &port.device.to_string(), &settings, &pool)
                .with_context(|| format!("port {}", port.name))?;
            let (rx, tx) = (rx.into_iter().map(Some), tx.into_iter().map(Some));
            let name = port.name.clone();
            Ok(OpenPort { name, port: opened, pool, rx: rx.collect(), tx: tx.collect() })
        };
        let mut ports: Vec<_> =
            config.ports.iter().enumerate().map(open).collect::<anyhow::Result<_>>()?;
        for (index, open) in ports.iter_mut().enumerate().filter(|(_, open)| open.rx.len() > 1) {
            if group_of(config, index).is_none() {
                steer(config, index, open);
            }
        }
        Ok(Ports { ports })
    }

    /// What tells the devices' own figures, in the order of the configuration, when the queues
    /// are with their shards.
    pub fn into_figures(self) -> impl Fn() -> Vec<PortFigures> + Send + Sync {
        let ports: Vec<_> = self.ports.into_iter().map(|open| (open.name, open.port)).collect();
        move || ports.iter().map(|(name, port)| figures(name, port)).collect()
    }

    fn mac(&self, side: &SideConfig) -> Mac {
        side.mac.unwrap_or_else(|| self.ports[side.port].port.mac())
    }

    pub(crate) fn pool(&self, side: &SideConfig) -> Pool {
        self.ports[side.port].pool.clone()
    }

    /// All queues of a port that is a group's alone.
    pub(crate) fn take_all(&mut self, side: &SideConfig) -> (Vec<RxQueue>, Vec<TxQueue>) {
        let open = &mut self.ports[side.port];
        let rx = open.rx.iter_mut().filter_map(Option::take).collect();
        (rx, open.tx.iter_mut().filter_map(Option::take).collect())
    }

    fn take(&mut self, side: &SideConfig) -> (RxQueue, TxQueue) {
        let open = &mut self.ports[side.port];
        let queue = usize::from(side.queue);
        let rx = open.rx[queue].take().expect("the configuration gives a queue to one shard");
        let tx = open.tx[queue].take().expect("a queue pair is taken together");
        (rx, tx)
    }
}

/// Has a port of several queues deliver to each shard what is for it. What its device will not do
/// is warned of, once: shards work as far as their frames arrive.
fn steer(config: &Config, port: usize, open: &mut OpenPort) {
    let rules = steering(config, port, open.port.mac());
    let steered = rules.into_iter().map(|(mac, vlan, queue)| open.port.steer(mac, vlan, queue));
    if let Some(error) = steered.fold(None, |first, result| first.or(result.err())) {
        warn!(
            "port {} (driver {}): {error}; what arrives on another queue than its shard's is \
             dropped as mac_not_ours or vlan_unknown: use a port or VF for each shard, or a device \
             that steers",
            open.name,
            open.port.driver(),
        );
    }
}

/// Which frames go to which queue of a port whose own address is `own`: those for each side of a
/// shard, and the broadcasts of a VLAN that is this side's alone.
fn steering(config: &Config, port: usize, own: Mac) -> Vec<(Mac, Option<u16>, QueueId)> {
    let mut rules = Vec::new();
    for side in sides_of(config, port) {
        let queue = QueueId(side.queue);
        rules.push((side.mac.unwrap_or(own), side.vlan, queue));
        let on_vlan = sides_of(config, port).filter(|other| other.vlan == side.vlan).count();
        if side.vlan.is_some() && on_vlan == 1 {
            rules.push((Mac::BROADCAST, side.vlan, queue));
        }
    }
    rules
}

fn figures(name: &str, port: &Port) -> PortFigures {
    let stats = port.stats();
    PortFigures {
        name: name.to_owned(),
        device: port.device().to_owned(),
        rx_packets: stats.rx_packets,
        rx_bytes: stats.rx_bytes,
        rx_missed: stats.rx_missed,
        rx_errors: stats.rx_errors,
        rx_no_buffer: stats.rx_no_buffer,
        tx_packets: stats.tx_packets,
        tx_bytes: stats.tx_bytes,
        tx_errors: stats.tx_errors,
    }
}

/// One queue more than the highest that a shard names, or as many as a group has replicas.
fn queues_of(config: &Config, port: usize) -> u16 {
    match group_of(config, port) {
        Some((_, scr)) => scr.workers.len() as u16,
        None => sides_of(config, port).map(|side| side.queue + 1).max().unwrap_or(1),
    }
}

/// The group that a port serves, and nobody else.
fn group_of(config: &Config, port: usize) -> Option<(&ShardConfig, &ScrConfig)> {
    let groups = config.shards.iter().filter_map(|shard| Some((shard, shard.scr.as_ref()?)));
    groups
        .into_iter()
        .find(|(shard, _)| [&shard.inside, &shard.outside].map(|side| side.port).contains(&port))
}

/// Whether all that arrives at a port goes to one sequencer, or is nothing but ARP.
fn is_for_sequencer(config: &Config, port: usize) -> bool {
    group_of(config, port).is_some_and(|(shard, scr)| match scr.arrival {
        config::Arrival::Plain { .. } => true,
        config::Arrival::Sequenced { side, .. } => shard.side(side).port != port,
    })
}

/// Bytes beside each frame for the histories of a group.
fn room_beside(config: &Config, port: usize) -> u16 {
    let group = group_of(config, port);
    group.map_or(0, |(_, scr)| u16::try_from(scr.room_bytes()).expect("checked by configuration"))
}

/// The sides of shards that a port serves.
fn sides_of(config: &Config, port: usize) -> impl Iterator<Item = &SideConfig> {
    let sides = config.shards.iter().flat_map(|shard| [&shard.inside, &shard.outside]);
    sides.filter(move |side| side.port == port)
}

/// The memory of a shard's tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tables {
    /// How much there is.
    pub(crate) bytes: u64,
    /// Whether it lies on huge pages.
    pub(crate) huge: bool,
}

/// What runs on an lcore.
pub(crate) struct Part {
    /// The shard that it is of.
    pub(crate) shard: u16,
    pub(crate) lcore: u16,
    pub(crate) role: Role,
    /// How many sessions it can hold.
    pub(crate) sessions_max: u32,
    pub(crate) tables: Tables,
    pub(crate) counters: Arc<Counters>,
    pub(crate) handle: Arc<ShardHandle>,
    pub(crate) bfd: Arc<Board>,
    /// How its half stands, if it has a twin.
    pub(crate) twin: Option<Arc<twin::Board>>,
    /// Returns when its mailbox tells it to stop.
    pub(crate) run: Box<dyn FnOnce() + Send>,
}

/// What a part does for its shard.
#[derive(Clone)]
pub(crate) enum Role {
    /// All.
    Worker,
    /// It numbers packets and sprays them over replicas.
    Sequencer(Arc<scr::Members>),
    /// It is this core of a group.
    Replica(usize),
}

impl Role {
    /// What tells whether a part of `shard` is to be asked about its state: of replicas it is the first
    /// one that gets packets.
    pub(crate) fn speaks(&self, parts: &[Part], shard: u16) -> Box<dyn Fn() -> bool + Send + Sync> {
        let sequencer = parts.iter().find_map(|part| match &part.role {
            Role::Sequencer(members) if part.shard == shard => Some(members.clone()),
            _ => None,
        });
        match (self, sequencer) {
            (Role::Worker, _) => Box::new(|| true),
            (Role::Sequencer(_), _) => Box::new(|| false),
            (Role::Replica(core), None) => {
                let is_first = *core == 0;
                Box::new(move || is_first)
            }
            (Role::Replica(core), Some(members)) => {
                let core = *core;
                Box::new(move || members.look().active.trailing_zeros() as usize == core)
            }
        }
    }
}

/// Makes the parts of a shard, each for an lcore of its own.
///
/// # Errors
/// If memory is not to be had, or what is configured cannot be made.
pub(crate) fn parts(
    config: &Config,
    shard: &ShardConfig,
    ports: &mut Ports,
    clock: Clock,
    seed: [u8; 32],
    key: Option<&Key>,
) -> anyhow::Result<Vec<Part>> {
    if let Some(scr) = &shard.scr {
        return scr::parts(config, shard, scr, ports, clock, seed);
    }
    let counters = Arc::new(Counters::new());
    let (handle, mailbox) = mailbox();
    let nat = shard.nat.as_ref().expect("a shard on one core translates");
    let (mut worker, tables) =
        worker(config, shard, nat, ports, clock, seed, key, counters.clone(), mailbox)?;
    Ok(vec![Part {
        shard: shard.id,
        lcore: shard.lcore,
        role: Role::Worker,
        sessions_max: nat.sessions,
        tables,
        counters,
        handle: Arc::new(handle),
        bfd: worker.bfd.clone(),
        twin: worker.twin.as_ref().map(|twin| twin.board.clone()),
        run: Box::new(move || worker.run()),
    }])
}

/// Makes the worker of a shard: its memory, its router, its translator, its queues.
#[expect(clippy::too_many_arguments, reason = "each is one thing that the worker is made of")]
fn worker(
    config: &Config,
    shard: &ShardConfig,
    nat: &NatConfig,
    ports: &mut Ports,
    clock: Clock,
    seed: [u8; 32],
    key: Option<&Key>,
    counters: Arc<Counters>,
    mailbox: Mailbox,
) -> anyhow::Result<(Worker, Tables)> {
    let settings = nat_config(config, shard, nat, seed);
    let bytes = Nat::memory_bytes(&settings);
    let mut arena = Arena::map(bytes, hugepages(config.eal.hugepages))
        .with_context(|| format!("shard {}: {} sessions", shard.id, settings.sessions))?;
    let tables = Tables { bytes: bytes as u64, huge: arena.is_huge() };
    let memory = arena.take::<u8>(bytes)?;
    let pair = config.cluster.as_ref().zip(shard.twin.as_ref());
    let part = pair.map_or(PortsPart::ALL, |(cluster, twin)| twin::part(cluster, twin));
    let Ok(translator) = Nat::with_part(&settings, part, memory, Ticks(0)) else {
        bail!("shard {}: its static mappings do not fit nat.sessions", shard.id);
    };
    let router = Router::new(&router_config(config, shard, ports));
    let channel = |((cluster, twin), key)| {
        twin::Channel::new(shard.id, cluster, twin, key, &router, &translator, clock.now())
    };
    let channel = pair.zip(key).map(channel).transpose()?;
    let held = Held::new(router.neighbours_max());
    let pool = ports.ports[shard.inside.port].pool.clone();
    let (inside_rx, inside_tx) = ports.take(&shard.inside);
    let is_trunk =
        (shard.inside.port, shard.inside.queue) == (shard.outside.port, shard.outside.queue);
    let (input, output) = if is_trunk {
        let input = Input::trunk(clock, inside_rx, shard.outside.vlan);
        (input, Output::new(inside_tx, None))
    } else {
        let (outside_rx, outside_tx) = ports.take(&shard.outside);
        let input = match config.clock {
            config::Clock::Tsc => Input::ports(clock, [inside_rx], [outside_rx]),
            config::Clock::Capture => Input::captures(clock, inside_rx, outside_rx),
        };
        (input, Output::new(inside_tx, Some(outside_tx)))
    };
    let worker = Worker {
        bfd: Arc::new(Board::new(clock, router.bfd_sessions())),
        shard: Shard {
            serves: channel.is_none(),
            twin: channel.as_ref().map(twin::Channel::port),
            ..Shard::new(router, translator)
        },
        twin: channel,
        scratch: Box::default(),
        input,
        carrier: Carrier { output, held, spent: Burst::new(), pool, counters },
        changes: ChangeCounts::default(),
        mailbox,
        yields: config.eal.idle == config::Idle::Yield,
        now: Moment::default(),
    };
    Ok((worker, tables))
}

pub(crate) fn router_config(config: &Config, shard: &ShardConfig, ports: &Ports) -> RouterConfig {
    // Apart from the seed of hash keys and port choices, for what is drawn is told to neighbours.
    let secret = RandomState::new();
    let watch = |side: Side, session: &config::BfdConfig| bfd::SessionConfig {
        neighbour: session.neighbour,
        transmit_us: session.transmit.as_micros() as u32,
        receive_us: session.receive.as_micros() as u32,
        multiplier: session.multiplier,
        seed: secret.hash_one((side, session.neighbour)),
    };
    let side = |side: Side| {
        let of = shard.side(side);
        RouterSide {
            mac: ports.mac(of),
            address: of.address,
            vlan: of.vlan,
            mtu: config.ports[of.port].mtu,
            routes: of.routes.iter().map(|r| Route { prefix: r.prefix, via: r.via }).collect(),
            neighbours: of.neighbours.iter().map(|n| (n.address, n.mac)).collect(),
            bfd: of.bfd.iter().map(|session| watch(side, session)).collect(),
        }
    };
    RouterConfig {
        inside: side(Side::Inside),
        outside: side(Side::Outside),
        pool: shard.nat.iter().flat_map(|nat| nat.pool.iter().copied()).collect(),
    }
}

/// The settings of a shard's translator, which are `nat`.
pub fn nat_config(
    config: &Config,
    shard: &ShardConfig,
    nat: &NatConfig,
    seed: [u8; 32],
) -> nat::Config {
    nat::Config {
        sessions: nat.sessions as usize,
        subscribers: subscribers_max(shard, nat),
        pool: nat.pool.clone(),
        inside: shard.inside.networks().collect(),
        ports: nat.ports.clone(),
        ports_per_subscriber: nat.ports_per_subscriber,
        seed,
        policy: policy(config, nat),
    }
}

/// The part of a translator's settings that a reload may change.
pub fn policy(config: &Config, nat: &NatConfig) -> nat::Policy {
    nat::Policy {
        filtering: nat.filtering,
        hairpinning: nat.hairpinning,
        timeouts: nat.timeouts,
        exclude: nat.exclude.clone(),
        statics: nat.static_mappings.clone(),
        firewall: firewall(&config.firewall),
    }
}

fn firewall(config: &config::FirewallConfig) -> nat::Firewall {
    let rule = |rule: &config::Rule| nat::Rule {
        allow: rule.action == config::Action::Allow,
        opened_from: match rule.direction {
            config::Direction::Out => Side::Inside,
            config::Direction::In => Side::Outside,
        },
        protocol: rule.protocol,
        from: rule.from,
        to: rule.to,
        source_port: rule.source_ports.clone().unwrap_or(0..=u16::MAX),
        port: rule.destination_ports.clone().unwrap_or(0..=u16::MAX),
    };
    nat::Firewall {
        drop_inbound: config.inbound == config::Action::Drop,
        rules: config.rules.iter().map(rule).collect(),
    }
}

/// As many as the sessions suggest, but no more than there are addresses.
fn subscribers_max(shard: &ShardConfig, nat: &NatConfig) -> usize {
    let hosts = |net: ipnet::Ipv4Net| 1u64 << (32 - net.prefix_len());
    let addresses: u64 = shard.inside.networks().map(hosts).sum();
    addresses.min(config::subscribers_max(nat.sessions).into()) as usize
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_shared_port_steers_by_mac_and_broadcasts_of_own_vlans() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/two-shards.yaml");
        let (mut config, _) = config::load(&file, &config::Memory::unlimited()).unwrap();
        config.shards[1].inside.mac = None;
        let mac = |last: [u8; 2]| Mac([0x02, 0, 0, 0, last[0], last[1]]);
        let own = mac([0xff, 0xff]);
        let access = [
            (mac([0, 0x10]), Some(100), QueueId(0)),
            (Mac::BROADCAST, Some(100), QueueId(0)),
            (own, Some(101), QueueId(1)),
            (Mac::BROADCAST, Some(101), QueueId(1)),
        ];
        assert_eq!(steering(&config, 0, own), access);
        // No rule delivers the broadcasts of a network that shards share, nor untagged ones alone.
        let core = |vlans: [Option<u16>; 2]| {
            let mut config = config.clone();
            config.shards.iter_mut().zip(vlans).for_each(|(shard, vlan)| shard.outside.vlan = vlan);
            steering(&config, 1, own)
        };
        let sides = |vlans: [Option<u16>; 2]| {
            let first = (mac([1, 0x10]), vlans[0], QueueId(0));
            let second = (mac([1, 0x11]), vlans[1], QueueId(1));
            [first, second]
        };
        for shared in [[None, None], [Some(200), Some(200)]] {
            assert_eq!(core(shared), sides(shared));
        }
        let [untagged, tagged] = sides([None, Some(200)]);
        let broadcast = (Mac::BROADCAST, Some(200), QueueId(1));
        assert_eq!(core([None, Some(200)]), [untagged, tagged, broadcast]);
    }
}
