//! Requests and answers on the control socket, each a line of JSON.
//!
//! ```text
//! → {"version":1,"request":"status"}
//! → {"version":1,"request":"stats"}
//! → {"version":1,"request":{"sessions":{"protocol":"tcp","inside":"10.0.0.7","limit":100}}}
//! → {"version":1,"request":{"lookup":{"outside":"198.51.100.1:4000","protocol":"tcp"}}}
//! → {"version":1,"request":{"group":{"shard":0,"join":2}}}
//! → {"version":1,"request":{"bfd":{"neighbour":"192.0.2.254","hold":true}}}
//! → {"version":1,"request":"cluster"}
//! → {"version":1,"request":{"shard":{"shard":0,"order":"drain","to":2}}}
//! ← {"version":1,"answer":{…}}
//! ← {"version":1,"error":"a sentence"}
//! ```
//!
//! Requests on one connection are answered in their order. Fields may be added to answers without
//! a new version; unknown fields in requests are errors.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::str::FromStr;

use krono_core::packet::Protocol;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::mailbox::EndpointFilter;

/// The version of this protocol.
pub const VERSION: u32 = 1;

/// The longest request, bytes, without the end of its line.
pub const REQUEST_MAX: usize = 4096;

/// The most sessions in one answer.
pub const SESSIONS_PER_ANSWER: u32 = 1000;

/// What may be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// How it is: [`Status`].
    Status,
    /// What was counted: [`Stats`].
    Stats,
    /// Which sessions live: [`Sessions`].
    Sessions(SessionsRequest),
    /// Who has a public endpoint: [`Owners`].
    Lookup(LookupRequest),
    /// How a shard is whose state is on several cores, and what is in it: [`Group`].
    Group(GroupRequest),
    /// Holds BFD sessions down, or no longer: [`BfdChange`].
    Bfd(BfdRequest),
    /// How the halves of shards stand whose other halves are on other servers: [`Cluster`].
    Cluster,
    /// Orders something of the half of a shard: [`Half`], as it stood before.
    Shard(ShardRequest),
}

/// Asks for sessions, those that all filters admit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionsRequest {
    /// Only those of this shard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<u16>,
    /// Only this transport.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Text<Protocol>>,
    /// Only with such an inside endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inside: Option<Text<EndpointFilter>>,
    /// Only with such a public endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outside: Option<Text<EndpointFilter>>,
    /// Only with such a remote endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<Text<EndpointFilter>>,
    /// Only in the state of this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// At most so many, and never more than [`SESSIONS_PER_ANSWER`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Where an earlier answer left off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Text<Cursor>>,
}

/// Asks who has a public endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookupRequest {
    /// The public endpoint.
    pub outside: SocketAddrV4,
    /// The transport, all if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Text<Protocol>>,
}

/// Asks about a shard whose state is on several cores, or has a core join or leave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroupRequest {
    /// Which one; the first if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<u16>,
    /// This core shall get packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join: Option<usize>,
    /// This core shall get none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leave: Option<usize>,
    /// At most so many rows, by default [`ROWS_PER_ANSWER`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Has BFD sessions held down, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BfdRequest {
    /// Those of this shard; of all if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<u16>,
    /// Those with this neighbour; with all if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neighbour: Option<Ipv4Addr>,
    /// Whether they shall be held down.
    pub hold: bool,
}

/// Orders something of the half of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardRequest {
    /// Of which one.
    pub shard: u16,
    /// What.
    pub order: Order,
    /// With `drain`: the node that is to serve; the one with the other half if none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u32>,
}

/// What a half can be ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// To have the other half serve as soon as that has everything.
    Drain,
    /// To go on, as long as the other does not serve.
    Keep,
    /// To take it from the operator that the other half does not run, and will start anew.
    Fence,
}

/// Rows of a replica's state in one answer, unless otherwise asked.
pub const ROWS_PER_ANSWER: u32 = 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    version: u32,
    request: Request,
}

/// The one field that a request of any version has.
#[derive(Deserialize)]
struct AnyEnvelope {
    version: u32,
}

impl Request {
    /// The request as a line, without its end.
    pub fn to_line(&self) -> String {
        let envelope = Envelope { version: VERSION, request: self.clone() };
        serde_json::to_string(&envelope).expect("a request consists of strings and numbers")
    }

    /// Reads a line, without its end.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn from_line(line: &[u8]) -> Result<Request, String> {
        let wrong = |error: serde_json::Error| format!("not a request: {error}");
        let AnyEnvelope { version } = serde_json::from_slice(line).map_err(wrong)?;
        if version != VERSION {
            return Err(format!("version {version} is not spoken here; expected {VERSION}"));
        }
        let envelope: Envelope = serde_json::from_slice(line).map_err(wrong)?;
        Ok(envelope.request)
    }
}

/// What comes back: one of the two.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Response {
    pub(super) version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) answer: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

impl From<Result<Box<RawValue>, String>> for Response {
    fn from(outcome: Result<Box<RawValue>, String>) -> Self {
        match outcome {
            Ok(answer) => Response { version: VERSION, answer: Some(answer), error: None },
            Err(error) => Response { version: VERSION, answer: None, error: Some(error) },
        }
    }
}

/// A value that travels as the text that people write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<T>(pub T);

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Text).map_err(D::Error::custom)
    }
}

/// A place in a walk over the sessions of all shards: `SHARD:RECORD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The shard's id.
    pub shard: u16,
    /// The record to begin at.
    pub record: u32,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.shard, self.record)
    }
}

impl FromStr for Cursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':').and_then(|(shard, record)| {
            Some(Cursor { shard: shard.parse().ok()?, record: record.parse().ok()? })
        });
        parts.ok_or_else(|| format!("'{text}' is not a cursor; expected one from an answer"))
    }
}

/// How the process is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Whole seconds since it started.
    pub uptime_s: u64,
    /// Whether all shards have begun to poll.
    pub ready: bool,
    /// The configuration that it runs by.
    pub config_file: String,
    /// What it has reserved.
    pub memory: Memory,
    /// Its shards, in the order of the configuration.
    pub shards: Vec<ShardStatus>,
    /// Its ports, likewise.
    pub ports: Vec<PortFigures>,
}

/// The memory that was reserved at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// For packet buffers, `eal.memory`.
    pub buffers_bytes: u64,
    /// For the tables of all shards.
    pub tables_bytes: u64,
    /// Whether it is in huge pages.
    pub hugepages: bool,
}

/// What became of a shard's worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShardState {
    /// It answers.
    Polling,
    /// It does not answer.
    Hung,
    /// It has ended.
    Stopped,
}

impl ShardState {
    /// The name on screen, as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            ShardState::Polling => "polling",
            ShardState::Hung => "hung",
            ShardState::Stopped => "stopped",
        }
    }
}

/// What an lcore does for its shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// All.
    #[default]
    Worker,
    /// It numbers packets and sprays them over replicas: what it sends is what it gives to these.
    Sequencer,
    /// It is one of the replicas.
    Replica {
        /// Which one, from 0.
        core: usize,
    },
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::Worker => f.write_str("worker"),
            Role::Sequencer => f.write_str("sequencer"),
            Role::Replica { core } => write!(f, "core {core}"),
        }
    }
}

/// How a shard is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardStatus {
    /// What people call it.
    pub id: u16,
    /// The lcore that runs it, or a part of it.
    pub lcore: u16,
    /// Which part: a shard whose state is on several cores has several.
    #[serde(default)]
    pub role: Role,
    /// What became of its worker.
    pub state: ShardState,
    /// Live sessions.
    pub sessions: u64,
    /// How many it can hold.
    pub sessions_max: u32,
    /// Live mappings.
    pub mappings: u64,
    /// Subscribers with mappings.
    pub subscribers: u64,
    /// Its BFD sessions.
    #[serde(default)]
    pub bfd: Vec<BfdStatus>,
}

/// How a BFD session is (RFC 5880). States are `admin_down`, `down`, `init` and `up`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BfdStatus {
    /// The side of the shard that the neighbour is on.
    pub side: String,
    /// Its address.
    pub neighbour: Ipv4Addr,
    /// The shard's own state.
    pub state: String,
    /// Since so many milliseconds.
    pub since_ms: u64,
    /// Why it changed last to something worse.
    pub diagnostic: String,
    /// The state that the neighbour says it is in.
    pub remote_state: String,
    /// And why.
    pub remote_diagnostic: String,
    /// How often the session has come up.
    pub ups: u32,
    /// How far the shard's packets are apart, without jitter; 0 if it sends none.
    pub transmit_us: u32,
    /// After so long without a packet the neighbour counts as lost; 0 while that is not agreed on.
    pub detection_us: u64,
}

/// What became of a [`BfdRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BfdChange {
    /// So many sessions are as was wished now.
    pub sessions: usize,
}

/// How the halves on this server stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// One for each shard with a twin, in the order of the configuration.
    pub halves: Vec<Half>,
}

/// The half of a shard, and what it knows of the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Half {
    /// The shard.
    pub shard: u16,
    /// The node that it is on.
    pub node: u32,
    /// The node of the other half.
    pub peer: u32,
    /// The node that serves by preference.
    pub master: u32,
    /// What it does: `following`, `serving`, `draining` or `yielded`.
    pub role: String,
    /// The epoch that it serves in, or that of whom it follows.
    pub epoch: u64,
    /// Whether the other has been heard of lately.
    pub peer_heard: bool,
    /// Whether the one that follows has what the other has.
    pub caught_up: bool,
    /// Changes that wait to be sent to the other.
    pub queued: u64,
    /// Frames of changes that the other has not acknowledged.
    pub unacknowledged: u64,
    /// How old the oldest change may be that the one that follows does not have.
    pub lag_ms: u64,
    /// Whether the one that follows may serve from now on.
    pub safe: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// Ranges of sessions found to differ though nothing was missed.
    pub diverged: u64,
    /// Ranges whose sums this half's own table did not confirm.
    pub corrected: u64,
    /// Sessions told by the other that contradicted what was here, or found no room.
    pub refused: u64,
    /// How often something of what the other told was missed.
    pub gaps: u64,
    /// Changes that found no room to wait.
    pub overflowed: u64,
}

/// What was counted since the start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// By the shards.
    pub shards: Vec<ShardStats>,
    /// By the devices.
    pub ports: Vec<PortFigures>,
}

/// What a shard counted. Received frames are sent, consumed, held or dropped; if `stale` is false
/// that adds up exactly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardStats {
    /// What people call it.
    pub id: u16,
    /// The lcore that runs it, or a part of it.
    pub lcore: u16,
    /// Which part: a shard whose state is on several cores has several.
    #[serde(default)]
    pub role: Role,
    /// What became of its worker.
    pub state: ShardState,
    /// Whether the worker did not answer, so that these are the figures that it left behind.
    pub stale: bool,
    /// Frames received.
    pub received: u64,
    /// Every [`krono_core::counters::Counter`] by its name.
    #[serde(flatten)]
    pub counters: BTreeMap<String, u64>,
    /// Received frames that were dropped, by the name of every reason.
    pub drops: BTreeMap<String, u64>,
    /// What came and went on the subscriber side, frames that the shard made included.
    pub inside: SideFigures,
    /// Likewise on the Internet's side.
    pub outside: SideFigures,
    /// How many bursts of which sizes were received.
    pub bursts: Vec<BurstClass>,
    /// Polls that found something.
    pub busy_polls: u64,
    /// Cycles that a received frame took on average.
    pub cycles_per_packet: Option<f64>,
}

/// Traffic of a side of a shard. Bytes are those of the Ethernet frames without their checksums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideFigures {
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
}

/// Bursts of some sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BurstClass {
    /// The least size.
    pub size_min: u64,
    /// The greatest.
    pub size_max: u64,
    /// How many there were.
    pub count: u64,
}

/// What a device counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortFigures {
    /// What the configuration calls it.
    pub name: String,
    /// What DPDK calls it.
    pub device: String,
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames lost because the receive ring was full.
    pub rx_missed: u64,
    /// Frames received damaged.
    pub rx_errors: u64,
    /// Frames lost because no buffer was free.
    pub rx_no_buffer: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames that the device failed to send.
    pub tx_errors: u64,
}

/// Some of the sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// In no order. A session that lives throughout a walk is shown exactly once.
    pub sessions: Vec<Session>,
    /// Where to go on; none at the end. There may be one though no session was found yet.
    pub cursor: Option<Text<Cursor>>,
}

/// A session, or a static mapping that has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The shard that has it.
    pub shard: u16,
    /// The transport.
    pub protocol: Text<Protocol>,
    /// The subscriber's endpoint.
    pub inside: SocketAddrV4,
    /// The public endpoint.
    pub outside: SocketAddrV4,
    /// The endpoint in the Internet; none without a session.
    pub remote: Option<SocketAddrV4>,
    /// The name of its state.
    pub state: String,
    /// When it ends if no packet comes, milliseconds; none if it does not end.
    pub expires_in_ms: Option<u64>,
    /// Whether its mapping is a static one.
    #[serde(rename = "static")]
    pub is_static: bool,
}

/// A shard whose state is on several cores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// What people call it.
    pub shard: u16,
    /// How often cores have joined or left; none if others number its packets.
    pub epoch: Option<u32>,
    /// The number of the latest packet; likewise.
    pub last: Option<u64>,
    /// Its cores.
    pub cores: Vec<GroupCore>,
    /// The packet that the rows are behind, or a later one.
    pub position: u64,
    /// What is worth seeing of the state, the most important first.
    pub rows: Vec<GroupRow>,
    /// Whether there is no more to see.
    pub complete: bool,
}

/// A core of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupCore {
    /// Its number, from 0.
    pub core: usize,
    /// The lcore that runs it.
    pub lcore: u16,
    /// Whether it gets packets; none if nobody here knows.
    pub active: Option<bool>,
    /// Whether it shall; one that takes none is left out until it does.
    pub wanted: Option<bool>,
}

/// Something worth seeing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupRow {
    /// A source that is blocked for its share.
    Blocked {
        /// Its address.
        source: Ipv4Addr,
        /// Packets that its level stands for.
        packets: u32,
        /// Packets of others until it is free.
        free_in: u32,
    },
    /// A flow that has carried much.
    Heavy {
        /// Its transport.
        protocol: Text<Protocol>,
        /// Who sends.
        source: SocketAddrV4,
        /// To whom.
        destination: SocketAddrV4,
        /// Bytes of IP packets.
        bytes: u64,
    },
    /// A token bucket that is not full.
    Bucket {
        /// Its flow's transport.
        protocol: Text<Protocol>,
        /// Who sends.
        source: SocketAddrV4,
        /// To whom.
        destination: SocketAddrV4,
        /// Whole tokens in it.
        tokens: u32,
        /// Packets dropped since it was full.
        dropped: u64,
    },
    /// A source that has knocked.
    Knocker {
        /// Its address.
        source: Ipv4Addr,
        /// Whether protected ports are open to it.
        open: bool,
        /// How many knocks were right so far, until it is open.
        knocks: Option<u8>,
    },
    /// A TCP connection.
    Connection {
        /// Who opened it.
        originator: SocketAddrV4,
        /// The other end.
        responder: SocketAddrV4,
        /// Where it stands.
        state: String,
        /// When it ends if nothing more comes, milliseconds.
        expires_in_ms: u64,
    },
}

/// Who has a public endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owners {
    /// The public endpoint.
    pub outside: SocketAddrV4,
    /// Who has it, for each protocol; empty if nobody.
    pub owners: Vec<Owner>,
}

/// The owner of a public endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The shard that has the mapping.
    pub shard: u16,
    /// The transport.
    pub protocol: Text<Protocol>,
    /// The subscriber's endpoint.
    pub inside: SocketAddrV4,
}

/// The body of a fuzz target: any line is refused with a sentence, or is a request that survives
/// being written and read again.
///
/// # Panics
/// If that does not hold.
pub fn fuzz_control(line: &[u8]) {
    match Request::from_line(line) {
        Ok(request) => {
            let again = Request::from_line(request.to_line().as_bytes());
            assert_eq!(again.as_ref(), Ok(&request), "{:?}", String::from_utf8_lossy(line));
        }
        Err(sentence) => assert!(!sentence.is_empty()),
    }
}
