//! The forms: what may be asked of a shard, as plain values with room for the answers.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::Ipv4Net;
use krono_core::counters::CounterSnapshot;
use krono_core::drop::DropReason;
use krono_core::packet::{Endpoint, Protocol};
use krono_nat::config::Policy;
use scr_sequencer::programs::{ROWS_PER_PART, Row};

use crate::twin::TwinOrder;

/// What answers questions: a worker, between two bursts. None of these may allocate or free.
pub trait ShardView {
    /// The figures now; they are balanced.
    fn counters(&self) -> CounterSnapshot;

    /// Looks at no more than [`RECORDS_PER_PAGE`] records from `page.cursor` on, offers what it
    /// finds to `page` until that is full, and notes in `page.next` where to go on.
    fn sessions(&self, page: &mut SessionsPage);

    /// Notes in `query.owners` who has the public endpoint, for each protocol asked about.
    fn lookup(&self, query: &mut LookupQuery);

    /// Exchanges its settings with those in `reload`, and notes the outcome there.
    fn reload(&mut self, reload: &mut Reload);

    /// Looks at no more than [`PARTS_PER_PAGE`] parts of a replica's state from `page.cursor` on.
    fn rows(&self, _: &mut RowsPage) {}

    /// Holds BFD sessions down, or no longer, and notes how many.
    fn hold_bfd(&mut self, _: &mut BfdHold) {}

    /// Carries out an operator's order about a half, and notes what became of it.
    fn order(&mut self, _: &mut TwinOrder) {}

    /// Tells which cores of a group get packets, after the change that is asked for.
    fn cores(&mut self, request: &mut CoresRequest) {
        request.outcome = Err(CoresRefused::NoSequencer);
    }
}

/// The most parts of a replica's state that it looks at for one page.
pub const PARTS_PER_PAGE: usize = RECORDS_PER_PAGE as usize / ROWS_PER_PART;

/// A page of a walk over what is worth seeing of a replica's state.
#[derive(Debug)]
pub struct RowsPage {
    /// The part to begin at; 0 begins the walk.
    pub cursor: usize,
    /// The part to go on at, none if that was the last; noted by the worker.
    pub next: Option<usize>,
    /// The packet that the state is behind; noted by the worker.
    pub position: u64,
    rows: Vec<Row>,
}

impl RowsPage {
    /// An empty page that begins at `cursor`.
    pub fn new(cursor: usize) -> Self {
        let rows = Vec::with_capacity(PARTS_PER_PAGE * ROWS_PER_PART);
        RowsPage { cursor, next: None, position: 0, rows }
    }

    /// Takes a row.
    pub fn push(&mut self, row: Row) {
        debug_assert!(
            self.rows.len() < self.rows.capacity(),
            "the page has room for all its parts"
        );
        self.rows.push(row);
    }

    /// The rows.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }
}

/// BFD sessions that the operator holds down, or no longer.
#[derive(Clone, Copy, Debug)]
pub struct BfdHold {
    /// Those with this neighbour; all if none.
    pub neighbour: Option<Ipv4Addr>,
    /// Whether they shall be held down.
    pub is_held: bool,
    /// How many these are; noted by the worker.
    pub count: usize,
}

/// Which cores of a group get packets, and a change of that.
#[derive(Debug)]
pub struct CoresRequest {
    /// What is to change, if anything.
    pub change: Option<CoreChange>,
    /// A bit for each core that gets packets; noted by the sequencer, as all that follows.
    pub active: u64,
    /// Likewise for those that shall: one that cannot take any is left out until it can.
    pub wanted: u64,
    /// How often cores have joined or left.
    pub epoch: u32,
    /// The number of the latest packet.
    pub last: u64,
    /// Whether the change can be made.
    pub outcome: Result<(), CoresRefused>,
}

impl CoresRequest {
    /// Asks for a change, or only how things are.
    pub fn new(change: Option<CoreChange>) -> Self {
        CoresRequest { change, active: 0, wanted: 0, epoch: 0, last: 0, outcome: Ok(()) }
    }
}

/// A change of the cores that get packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreChange {
    /// This one shall get some.
    Join(usize),
    /// This one shall get none.
    Leave(usize),
}

/// Why cores cannot change so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoresRefused {
    /// Nothing here numbers packets.
    #[error("has no sequencer whose cores could change")]
    NoSequencer,
    /// It is none of the workers.
    #[error("has no such core")]
    NoSuchCore,
    /// Histories are too short for more.
    #[error("has histories too short for another core; raise scr.sequencer.history")]
    HistoryTooShort,
    /// A core is about to get the state of another.
    #[error("hands a state over to another core just now; try again in a moment")]
    Busy,
    /// Somebody must get the packets.
    #[error("would be left without a core that has its state")]
    LastOne,
}

/// The most records that a worker looks at for one page: the packets that arrive meanwhile wait.
pub const RECORDS_PER_PAGE: u32 = 256;

/// A session, or a static mapping that has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// The transport.
    pub protocol: Protocol,
    /// The subscriber's endpoint.
    pub inside: Endpoint,
    /// The public endpoint.
    pub outside: Endpoint,
    /// The endpoint in the Internet; none without a session.
    pub remote: Option<Endpoint>,
    /// The name of the session's state.
    pub state: &'static str,
    /// When it ends if no packet comes, milliseconds; none if it does not end.
    pub expires_in_ms: Option<u64>,
    /// Whether its mapping is a static one.
    pub is_static: bool,
}

/// Which sessions are asked for: those that all of these admit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// Only this transport.
    pub protocol: Option<Protocol>,
    /// Only with such an inside endpoint.
    pub inside: Option<EndpointFilter>,
    /// Only with such a public endpoint.
    pub outside: Option<EndpointFilter>,
    /// Only with such a remote endpoint.
    pub remote: Option<EndpointFilter>,
    /// Only in the state of this name.
    pub state: Option<String>,
}

impl SessionFilter {
    /// Whether a session is asked for.
    pub fn admits(&self, row: &SessionRow) -> bool {
        let endpoint = |filter: &Option<EndpointFilter>, endpoint: Option<Endpoint>| {
            filter.is_none_or(|filter| endpoint.is_some_and(|endpoint| filter.admits(endpoint)))
        };
        self.protocol.is_none_or(|protocol| protocol == row.protocol)
            && endpoint(&self.inside, Some(row.inside))
            && endpoint(&self.outside, Some(row.outside))
            && endpoint(&self.remote, row.remote)
            && self.state.as_ref().is_none_or(|state| state == row.state)
    }
}

/// Some endpoints: those in a network, or with an address, and with a port if one is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointFilter {
    /// The addresses.
    pub network: Ipv4Net,
    /// The port, all if none.
    pub port: Option<u16>,
}

impl EndpointFilter {
    /// Whether an endpoint is one of these.
    pub fn admits(&self, endpoint: Endpoint) -> bool {
        self.network.contains(&endpoint.addr) && self.port.is_none_or(|port| port == endpoint.port)
    }
}

impl FromStr for EndpointFilter {
    type Err = String;

    /// `ADDR`, `ADDR:PORT`, `ADDR/LEN` or `ADDR/LEN:PORT`
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not an address; expected ADDR[/LEN][:PORT]");
        let (network, port) = match text.split_once(':') {
            Some((network, port)) => (network, Some(port.parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let network = match network.parse::<Ipv4Addr>() {
            Ok(address) => Ipv4Net::from(address),
            Err(_) => network.parse::<Ipv4Net>().map_err(|_| wrong())?,
        };
        Ok(EndpointFilter { network, port })
    }
}

impl fmt::Display for EndpointFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.network)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// A page of a walk over the sessions of a shard.
#[derive(Debug)]
pub struct SessionsPage {
    /// The record to begin at; 0 begins the walk.
    pub cursor: u32,
    /// The record to go on at, none if that was the last; noted by the worker.
    pub next: Option<u32>,
    filter: SessionFilter,
    rows: Vec<SessionRow>,
    rows_max: usize,
}

impl SessionsPage {
    /// An empty page that begins at `cursor` and has room for `rows_max` rows.
    pub fn new(cursor: u32, filter: SessionFilter, rows_max: usize) -> Self {
        SessionsPage { cursor, next: None, filter, rows: Vec::with_capacity(rows_max), rows_max }
    }

    /// Takes a row if it is asked for. False if it is but does not fit: the walk is to go on at
    /// its record.
    pub fn offer(&mut self, row: SessionRow) -> bool {
        if !self.filter.admits(&row) {
            return true;
        }
        // Asked of the agreed size, not of the vector's capacity, which may be larger.
        let fits = self.rows.len() < self.rows_max;
        if fits {
            self.rows.push(row);
        }
        fits
    }

    /// The rows so far.
    pub fn rows(&self) -> &[SessionRow] {
        &self.rows
    }

    /// Whether there is more to find and room for it; the page then asks for the next records.
    pub fn turn(&mut self) -> bool {
        match self.next {
            Some(next) if self.rows.len() < self.rows_max => {
                self.cursor = next;
                self.next = None;
                true
            }
            _ => false,
        }
    }
}

/// Who has a public endpoint?
#[derive(Clone, Debug)]
pub struct LookupQuery {
    /// The public endpoint.
    pub outside: Endpoint,
    /// The inside endpoints that have it, by protocol; noted by the worker.
    pub owners: [Option<Endpoint>; Protocol::COUNT],
    protocol: Option<Protocol>,
}

impl LookupQuery {
    /// Asks about one protocol, or about all.
    pub fn new(outside: Endpoint, protocol: Option<Protocol>) -> Self {
        LookupQuery { outside, owners: [None; Protocol::COUNT], protocol }
    }

    /// The protocols asked about.
    pub fn protocols(&self) -> impl Iterator<Item = Protocol> + use<> {
        let asked = self.protocol;
        Protocol::ALL.into_iter().filter(move |protocol| asked.is_none_or(|p| p == *protocol))
    }
}

/// The settings that a running shard may exchange.
#[derive(Debug)]
pub struct Reload {
    /// The new settings on the way to the worker, the old ones on the way back.
    pub policy: Policy,
    /// Why a static mapping could not be made, if one could not; noted by the worker.
    pub outcome: Result<(), DropReason>,
}
