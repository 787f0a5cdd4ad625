//! The configuration once it is valid: what the rest of the daemon may rely on.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv4Net;
pub use krono_config::eal::{EalConfig, Hugepages, Idle, MBUF_MEMORY_MIN};
pub use krono_config::values::{Device, LCORES_MAX, LcoreMap};
use krono_core::packet::{Mac, Protocol, Side};
use krono_core::time::Span;
pub use krono_nat::config::{Filtering, StaticMapping, Timeouts};
use scr_sequencer::programs::{bucket, conntrack, ddos, heavy, knock};
use scr_sequencer::room;
use scr_sequencer::wire::Format;

/// Ethernet ports that the EAL can hold (RTE_MAX_ETHPORTS of a distribution's DPDK).
pub const PORTS_MAX: usize = 32;
/// Shards in one process: one lcore each.
pub const SHARDS_MAX: usize = LCORES_MAX as usize;
/// Receive queues that may be named on one port.
pub const QUEUES_MAX: u16 = 256;
/// The fewest sessions that a shard can be made for.
pub const SESSIONS_MIN: u32 = 16;
/// The most sessions of a shard: their slots are numbered in 32 bits with room for marks.
pub const SESSIONS_MAX: u32 = 1 << 28;
/// The most public addresses of a shard: (protocol, address, port) is numbered in 32 bits.
pub const POOL_ADDRESSES_MAX: u32 = 1 << 14;
/// The most prefixes, routes, neighbours, static mappings or rules in one list.
pub const LIST_MAX: usize = 4096;
/// The most BFD sessions of a shard on one side.
pub const BFD_SESSIONS_MAX: usize = 64;
/// The shortest interval of BFD packets: a worker that shares its CPU is late by about as much.
pub const BFD_INTERVAL_MIN: Duration = Duration::from_millis(5);
/// The longest.
pub const BFD_INTERVAL_MAX: Duration = Duration::from_secs(60);
/// The longest `port_hold`: what the port allocator can tell apart.
pub const PORT_HOLD_MAX: Span = krono_core::ports::HOLD_MAX;
/// Where the control socket is unless the configuration says otherwise.
pub const CONTROL_SOCKET: &str = "/run/kronod.sock";
/// The UDP port of replication unless the configuration says otherwise.
pub const CLUSTER_PORT: u16 = 9107;
/// The highest number of a server.
pub const NODE_MAX: u32 = 65_535;
/// Where BIRD's control socket is unless the configuration says otherwise.
pub const BIRD_SOCKET: &str = "/run/bird/bird.ctl";
/// The longest path of a UNIX socket, bytes (`sun_path` less its terminator, unix(7)).
pub const SOCKET_PATH_MAX: usize = 107;

/// Everything that the configuration file says, valid as a whole: every name resolves, nothing
/// overlaps, every value lies within its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What the DPDK environment is started with.
    pub eal: EalConfig,
    /// The Ethernet ports, 1 to [`PORTS_MAX`].
    pub ports: Vec<PortConfig>,
    /// The shards in the order of the file, 1 to [`SHARDS_MAX`].
    pub shards: Vec<ShardConfig>,
    /// Rules for new sessions, the same in every shard.
    pub firewall: FirewallConfig,
    /// What drives the timers.
    pub clock: Clock,
    /// The UNIX socket that kronoctl talks to.
    pub control_socket: PathBuf,
    /// Where metrics are served over HTTP; with port 0 the kernel chooses one.
    pub metrics_listen: SocketAddr,
    /// The servers that have the state of shards in common with this one.
    pub cluster: Option<ClusterConfig>,
}

impl Config {
    /// A few words about its extent: `2 shards, 2 ports, 32 public addresses, …`.
    pub fn summary(&self) -> String {
        let count = |count: u64, one: &str, many: &str| {
            format!("{count} {}", if count == 1 { one } else { many })
        };
        let nats = || self.shards.iter().filter_map(|shard| shard.nat.as_ref());
        let pool = nats().map(|nat| u64::from(nat.pool_addresses())).sum();
        [
            count(self.shards.len() as u64, "shard", "shards"),
            count(self.ports.len() as u64, "port", "ports"),
            count(pool, "public address", "public addresses"),
            count(nats().map(|nat| u64::from(nat.sessions)).sum(), "session", "sessions"),
        ]
        .join(", ")
    }
}

/// An entry of `ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// What shards call it; unique.
    pub name: String,
    /// What the EAL calls it; unique.
    pub device: Device,
    /// The longest IP packet that it carries, bytes.
    pub mtu: u16,
}

/// An entry of `shards`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardConfig {
    /// What people call it; unique.
    pub id: u16,
    /// The lcore that runs it and nothing else: with `scr` its sequencer, or its first worker if
    /// packets come sequenced.
    pub lcore: u16,
    /// Where its subscribers are.
    pub inside: SideConfig,
    /// Where the Internet is.
    pub outside: SideConfig,
    /// Its translation: its own settings over those of `nat` over the defaults. Only a shard whose
    /// program is another one has none.
    pub nat: Option<NatConfig>,
    /// Its state on several cores, if it is.
    pub scr: Option<ScrConfig>,
    /// The other server that has its state; only with `cluster`.
    pub twin: Option<TwinConfig>,
}

impl ShardConfig {
    /// One of its sides.
    pub fn side(&self, side: Side) -> &SideConfig {
        match side {
            Side::Inside => &self.inside,
            Side::Outside => &self.outside,
        }
    }
}

impl ShardConfig {
    /// All lcores that run it, the first one being [`ShardConfig::lcore`].
    pub fn lcores(&self) -> impl Iterator<Item = u16> {
        let workers = self.scr.iter().flat_map(|scr| scr.workers.iter().copied());
        let own = std::iter::once(self.lcore);
        own.chain(workers.filter(|worker| *worker != self.lcore))
    }
}

/// `cluster`: what this server is to the others (`docs/cluster.md`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Which server this is, 1 to [`NODE_MAX`].
    pub node: u32,
    /// The file of the key that all of them share.
    pub key: PathBuf,
    /// The UDP port of replication.
    pub port: u16,
    /// The longest time between two frames to a twin.
    pub heartbeat: Duration,
    /// A twin that says nothing for so long is gone, or cannot be heard; some heartbeats.
    pub silence: Duration,
    /// How long routes take to converge at most.
    pub converge: Duration,
    /// Per cent of a shard's public ports that the half on the node with the lower number gives
    /// out; the other gives out the rest.
    pub first_ports: u8,
    /// The daemon that announces routes; without it routers have static ones, guarded by BFD.
    pub bird: Option<BirdConfig>,
}

/// `cluster.bird`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BirdConfig {
    /// BIRD's control socket.
    pub socket: PathBuf,
    /// The file that kronod writes and BIRD's configuration includes.
    pub include: PathBuf,
    /// Where the networks of subscribers are announced as well, if they are.
    pub subscribers: Option<Side>,
}

/// `twin` of a shard: which servers have its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TwinConfig {
    /// The node that serves by preference.
    pub master: u32,
    /// The other; this node is one of both.
    pub slave: u32,
    /// The side that the two halves talk on.
    pub side: Side,
    /// The other half's address there.
    pub peer: Ipv4Addr,
    /// Where announced routes lead; with `cluster.bird` they are there.
    pub next_hops: Option<NextHops>,
}

/// `twin.next_hops`: addresses outside of connected networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHops {
    /// For what comes from subscribers.
    pub inside: Ipv4Addr,
    /// For what comes from the Internet.
    pub outside: Ipv4Addr,
}

/// `scr` of a shard: State-Compute Replication (`docs/scr.md`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrConfig {
    /// What decides about packets.
    pub program: ProgramConfig,
    /// How packets get their numbers.
    pub arrival: Arrival,
    /// The lcores that have a replica each.
    pub workers: Vec<u16>,
    /// So many of them get packets from the start.
    pub active: usize,
}

impl ScrConfig {
    /// Bytes that histories take beside a packet.
    pub fn room_bytes(&self) -> usize {
        let Arrival::Plain { history, .. } = self.arrival else { return 0 };
        match &self.program {
            ProgramConfig::Ddos(_) => room::bytes_needed::<ddos::Record>(history),
            ProgramConfig::Heavy(_) => room::bytes_needed::<heavy::Record>(history),
            ProgramConfig::Bucket(_) => room::bytes_needed::<bucket::Record>(history),
            ProgramConfig::Knock(_) => room::bytes_needed::<knock::Record>(history),
            ProgramConfig::Conntrack(_) => room::bytes_needed::<conntrack::Record>(history),
            ProgramConfig::Nat => room::bytes_needed::<krono_nat::Shipment>(history),
        }
    }
}

/// How packets of a replicated shard get their numbers and histories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// From a sequencer on the shard's lcore.
    Plain {
        /// Records beside a packet, at most.
        history: usize,
        /// Packets that wait for a worker, at most.
        ring: u32,
    },
    /// From a NIC or a switch, in front of each packet.
    Sequenced {
        /// How.
        format: Format,
        /// Where they arrive.
        side: Side,
        /// Packets of which each core remembers the record, for those who missed them.
        log: usize,
    },
}

/// The program of a replicated shard, with its settings; seeds are drawn at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProgramConfig {
    /// Drops listed sources, and those that send more than their share.
    Ddos(ddos::Config),
    /// Lists flows above a number of bytes.
    Heavy(heavy::Config),
    /// Holds flows to a rate.
    Bucket(bucket::Config),
    /// Opens ports to who has knocked.
    Knock(knock::Config),
    /// Admits TCP that belongs to a connection.
    Conntrack(conntrack::Config),
    /// Translates, as the `nat` of the shard says.
    Nat,
}

impl ProgramConfig {
    /// The name in the configuration and on screen.
    pub const fn name(&self) -> &'static str {
        match self {
            ProgramConfig::Ddos(_) => "ddos",
            ProgramConfig::Heavy(_) => "heavy",
            ProgramConfig::Bucket(_) => "bucket",
            ProgramConfig::Knock(_) => "knock",
            ProgramConfig::Conntrack(_) => "conntrack",
            ProgramConfig::Nat => "nat",
        }
    }

    /// The key of its capacity and what its table takes, bytes; of the translator `nat` says that.
    pub const fn table_size(&self) -> Option<(&'static str, u64)> {
        Some(match self {
            ProgramConfig::Ddos(config) => ("sources", config.table_bytes()),
            ProgramConfig::Heavy(config) => ("flows", config.table_bytes()),
            ProgramConfig::Bucket(config) => ("flows", config.table_bytes()),
            ProgramConfig::Knock(config) => ("sources", config.table_bytes()),
            ProgramConfig::Conntrack(config) => ("connections", config.table_bytes()),
            ProgramConfig::Nat => return None,
        })
    }
}

/// A shard as a router, one side of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SideConfig {
    /// The index of its port in [`Config::ports`].
    pub port: usize,
    /// The receive queue of that port, and its transmit queue. No other shard has it.
    pub queue: u16,
    /// The VLAN that its frames are tagged with, 1 to 4094.
    pub vlan: Option<u16>,
    /// Its own Ethernet address; that of the port if there is none.
    pub mac: Option<Mac>,
    /// Its address, in the network that is on-link.
    pub address: Ipv4Net,
    /// Where it sends what is not on-link.
    pub routes: Vec<RouteConfig>,
    /// Neighbours that need not be asked by ARP.
    pub neighbours: Vec<NeighbourConfig>,
    /// Neighbours that a BFD session is held with.
    pub bfd: Vec<BfdConfig>,
}

impl SideConfig {
    /// All networks behind this side: the one on-link, then those of the routes.
    pub fn networks(&self) -> impl Iterator<Item = Ipv4Net> {
        std::iter::once(self.address.trunc()).chain(self.routes.iter().map(|route| route.prefix))
    }
}

/// A static route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteConfig {
    /// The destinations, without host bits.
    pub prefix: Ipv4Net,
    /// The next hop, which is on-link.
    pub via: Ipv4Addr,
}

/// A static neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourConfig {
    /// Its address, which is on-link.
    pub address: Ipv4Addr,
    /// Its Ethernet address.
    pub mac: Mac,
}

/// A BFD session (RFC 5880, 5881).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BfdConfig {
    /// The neighbour's address, which is on-link.
    pub neighbour: Ipv4Addr,
    /// The shard sends a packet in this time, or as often as the neighbour can take them;
    /// [`BFD_INTERVAL_MIN`] to [`BFD_INTERVAL_MAX`].
    pub transmit: Duration,
    /// The shard can take a packet in this time; likewise.
    pub receive: Duration,
    /// So many packets of the shard may be missed before it counts as lost, at least 1.
    pub multiplier: u8,
}

/// What a shard translates, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatConfig {
    /// Its public addresses; no other shard has any of them.
    pub pool: Vec<Ipv4Net>,
    /// How many sessions it can hold, [`SESSIONS_MIN`] to [`SESSIONS_MAX`].
    pub sessions: u32,
    /// How inside endpoints are mapped.
    pub mapping: Mapping,
    /// Who may answer.
    pub filtering: Filtering,
    /// The public ports that TCP and UDP mappings may have.
    pub ports: RangeInclusive<u16>,
    /// The most mappings of one subscriber per protocol.
    pub ports_per_subscriber: u16,
    /// Whether subscribers reach each other by their public endpoints.
    pub hairpinning: bool,
    /// How long things live without a packet.
    pub timeouts: Timeouts,
    /// Destinations that are not translated.
    pub exclude: Vec<Ipv4Net>,
    /// Mappings that are always there.
    pub static_mappings: Vec<StaticMapping>,
}

impl NatConfig {
    /// How many addresses the pool has.
    pub fn pool_addresses(&self) -> u32 {
        self.pool.iter().map(|prefix| addresses(prefix) as u32).sum()
    }
}

/// How many addresses a prefix has.
pub(super) fn addresses(prefix: &Ipv4Net) -> u64 {
    1 << (32 - prefix.prefix_len())
}

/// `nat.mapping` (RFC 4787, section 4.1)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// One public endpoint for an inside endpoint, whatever it talks to.
    EndpointIndependent,
}

/// `firewall`: what new sessions are allowed. The first rule that matches decides, then
/// `inbound`; new outbound sessions that no rule matches are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirewallConfig {
    /// For new inbound sessions that filtering or a static mapping would admit.
    pub inbound: Action,
    /// In order.
    pub rules: Vec<Rule>,
}

/// What becomes of a new session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is opened.
    Allow,
    /// Its packets are dropped.
    Drop,
}

/// Who opens a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// A subscriber.
    Out,
    /// Somebody in the Internet.
    In,
}

/// An entry of `firewall.rules`; the addresses are those that the subscriber sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What becomes of a session that matches.
    pub action: Action,
    /// Who opens it.
    pub direction: Direction,
    /// Its protocol, `None` for any.
    pub protocol: Option<Protocol>,
    /// Who its first packet comes from; 0.0.0.0/0 for anybody.
    pub from: Ipv4Net,
    /// Who its first packet goes to; 0.0.0.0/0 for anybody.
    pub to: Ipv4Net,
    /// Source ports, `None` for all; only with UDP or TCP.
    pub source_ports: Option<RangeInclusive<u16>>,
    /// Destination ports, `None` for all; only with UDP or TCP.
    pub destination_ports: Option<RangeInclusive<u16>>,
}

/// `clock`: what drives the timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The processor's time stamp counter.
    Tsc,
    /// The timestamps of the packets, for replays of captures.
    Capture,
}
