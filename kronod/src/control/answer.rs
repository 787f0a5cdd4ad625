//! From requests to answers.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use krono_core::counters::{BURST_CLASSES, Counter, CounterSnapshot, burst_class_start};
use krono_core::drop::DropReason;
use krono_core::frame::BURST_MAX;
use krono_core::packet::{Endpoint, Protocol, Side};
use krono_core::router::bfd;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::cluster::{cluster, order};
use super::group::group;
use super::protocol::*;
use super::{Facts, ShardFacts};
use crate::mailbox::{BfdHold, LookupQuery, NoAnswer, SessionFilter, SessionRow, SessionsPage};

/// How long a worker may take to come by. It does so every few bursts; only one that is stuck, or
/// whose CPU is taken away for long, needs more.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// How long one answer may search for sessions; other clients wait meanwhile.
const SEARCH_TIME: Duration = Duration::from_millis(300);

/// Answers a request, or says why not.
pub(super) fn answer(request: &Request, facts: &Facts) -> Result<Box<RawValue>, String> {
    match request {
        Request::Status => to_json(&status(facts)),
        Request::Stats => to_json(&stats(facts)),
        Request::Sessions(request) => to_json(&sessions(request, facts)?),
        Request::Lookup(request) => to_json(&owners(request, facts)?),
        Request::Group(request) => to_json(&group(request, facts)?),
        Request::Bfd(request) => to_json(&hold_bfd(request, facts)?),
        Request::Cluster => to_json(&cluster(facts)?),
        Request::Shard(request) => to_json(&order(request, facts)?),
    }
}

fn to_json(answer: &impl Serialize) -> Result<Box<RawValue>, String> {
    to_raw_value(answer).map_err(|error| format!("the answer cannot be written: {error}"))
}

fn status(facts: &Facts) -> Status {
    let shard =
        |(shard, (state, snapshot)): (&ShardFacts, (ShardState, CounterSnapshot))| ShardStatus {
            id: shard.id,
            lcore: shard.lcore,
            role: shard.role,
            state,
            sessions: snapshot.of(Counter::Sessions),
            sessions_max: shard.sessions_max,
            mappings: snapshot.of(Counter::Mappings),
            subscribers: snapshot.of(Counter::Subscribers),
            bfd: shard.bfd.look().map(|(view, since)| bfd_status(&view, since)).collect(),
        };
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_s: facts.started.elapsed().as_secs(),
        ready: facts.ready.load(Ordering::Relaxed),
        config_file: facts.config_file.display().to_string(),
        memory: facts.memory,
        shards: facts.shards.iter().zip(snapshots(facts)).map(shard).collect(),
        ports: (facts.ports)(),
    }
}

fn bfd_status(view: &bfd::View, since: Duration) -> BfdStatus {
    BfdStatus {
        side: view.side.name().to_owned(),
        neighbour: view.neighbour,
        state: view.state.name().to_owned(),
        since_ms: since.as_millis() as u64,
        diagnostic: view.diagnostic.describe().to_owned(),
        remote_state: view.remote_state.name().to_owned(),
        remote_diagnostic: view.remote_diagnostic.describe().to_owned(),
        ups: view.ups,
        transmit_us: view.transmit_us,
        detection_us: view.detection_us,
    }
}

/// Holds sessions down in the shards that are meant, or no longer.
fn hold_bfd(request: &BfdRequest, facts: &Facts) -> Result<BfdChange, String> {
    let BfdRequest { shard, neighbour, hold: is_held } = *request;
    let by = Instant::now() + PATIENCE;
    let mut sessions = 0;
    for meant in facts.shards.iter().filter(|meant| shard.is_none_or(|id| id == meant.id)) {
        let hold = Box::new(BfdHold { neighbour, is_held, count: 0 });
        let answer = meant.handle.ask(hold, by);
        sessions += answer.map_err(|why| format!("shard {} {why}", meant.id))?.count;
    }
    match sessions {
        0 => Err("there is no such BFD session".to_owned()),
        sessions => Ok(BfdChange { sessions }),
    }
}

fn stats(facts: &Facts) -> Stats {
    let shards = facts.shards.iter().zip(snapshots(facts));
    Stats {
        shards: shards.map(|(shard, (state, at))| shard_stats(shard, state, &at)).collect(),
        ports: (facts.ports)(),
    }
}

/// The figures of all shards: those that the workers tell, exact, or else those that they left.
pub(crate) fn snapshots(facts: &Facts) -> Vec<(ShardState, CounterSnapshot)> {
    let by = Instant::now() + PATIENCE;
    let asked: Vec<_> =
        facts.shards.iter().map(|shard| shard.handle.post(Box::default())).collect();
    let answers = asked.into_iter().map(|asked| asked.and_then(|pending| pending.wait(by)));
    let figures = |(shard, answer): (&ShardFacts, Result<Box<CounterSnapshot>, NoAnswer>)| {
        match answer {
            Ok(snapshot) => (ShardState::Polling, *snapshot),
            Err(NoAnswer::Hung) => (ShardState::Hung, shard.counters.snapshot()),
            // Nobody writes any more: these are exact, too.
            Err(NoAnswer::Ended) => (ShardState::Stopped, shard.counters.snapshot()),
        }
    };
    facts.shards.iter().zip(answers).map(figures).collect()
}

fn shard_stats(shard: &ShardFacts, state: ShardState, at: &CounterSnapshot) -> ShardStats {
    let side = |side: Side| SideFigures {
        rx_packets: at.rx(side).packets,
        rx_bytes: at.rx(side).bytes,
        tx_packets: at.tx(side).packets,
        tx_bytes: at.tx(side).bytes,
    };
    let drop = |reason: &DropReason| (reason.name().to_owned(), at.dropped(*reason));
    let counter = |counter: &Counter| (counter.name().to_owned(), at.of(*counter));
    ShardStats {
        id: shard.id,
        lcore: shard.lcore,
        role: shard.role,
        state,
        stale: state == ShardState::Hung,
        received: at.received(),
        counters: Counter::ALL.iter().map(counter).collect::<BTreeMap<_, _>>(),
        drops: DropReason::ALL.iter().map(drop).collect(),
        inside: side(Side::Inside),
        outside: side(Side::Outside),
        bursts: (0..BURST_CLASSES).map(|class| burst_class(class, at)).collect(),
        busy_polls: at.busy_polls(),
        cycles_per_packet: at.cycles_per_packet(),
    }
}

fn burst_class(class: usize, at: &CounterSnapshot) -> BurstClass {
    BurstClass {
        size_min: burst_class_start(class) as u64,
        size_max: BURST_MAX.min(burst_class_start(class + 1) - 1) as u64,
        count: at.bursts()[class],
    }
}

fn sessions(request: &SessionsRequest, facts: &Facts) -> Result<Sessions, String> {
    let limit = request.limit.unwrap_or(SESSIONS_PER_ANSWER).min(SESSIONS_PER_ANSWER) as usize;
    if limit == 0 {
        return Err("limit: must be at least 1".to_owned());
    }
    let text = |filter: &Option<Text<_>>| filter.map(|Text(filter)| filter);
    let filter = SessionFilter {
        protocol: request.protocol.map(|Text(protocol)| protocol),
        inside: text(&request.inside),
        outside: text(&request.outside),
        remote: text(&request.remote),
        state: request.state.clone(),
    };
    let speakers = facts.speakers();
    let mut cursor = first_cursor(request, &speakers)?;
    let mut found = Vec::new();
    let enough = Instant::now() + SEARCH_TIME;
    while let Some(at) = cursor.filter(|_| found.len() < limit && Instant::now() < enough) {
        let (index, shard) = shard_of(&speakers, at.shard)?;
        let page = SessionsPage::new(at.record, filter.clone(), limit - found.len());
        let page = walk(shard, Box::new(page), enough)?;
        found.extend(page.rows().iter().map(|row| session(shard.id, row)));
        let next_shard = speakers.get(index + 1).filter(|_| request.shard.is_none());
        cursor = match page.next {
            Some(record) => Some(Cursor { record, ..at }),
            None => next_shard.map(|shard| Cursor { shard: shard.id, record: 0 }),
        };
    }
    Ok(Sessions { sessions: found, cursor: cursor.map(Text) })
}

/// Where the walk begins: where the last one left off, or at the beginning.
fn first_cursor(
    request: &SessionsRequest,
    speakers: &[&ShardFacts],
) -> Result<Option<Cursor>, String> {
    let first = request.shard.or(speakers.first().map(|shard| shard.id));
    let beginning = first.map(|shard| Cursor { shard, record: 0 });
    let cursor = request.cursor.map(|Text(cursor)| cursor).or(beginning);
    match (cursor, request.shard) {
        (Some(cursor), Some(shard)) if cursor.shard != shard => {
            Err(format!("cursor: {cursor} is not in shard {shard}"))
        }
        _ => Ok(cursor),
    }
}

fn shard_of<'f>(speakers: &[&'f ShardFacts], id: u16) -> Result<(usize, &'f ShardFacts), String> {
    let mut shards = speakers.iter().copied().enumerate();
    shards.find(|(_, shard)| shard.id == id).ok_or_else(|| format!("there is no shard {id}"))
}

/// Has a shard fill a page, or as much of it as it finds until `enough`.
fn walk(
    shard: &ShardFacts,
    mut page: Box<SessionsPage>,
    enough: Instant,
) -> Result<Box<SessionsPage>, String> {
    loop {
        page = shard
            .handle
            .ask(page, Instant::now() + PATIENCE)
            .map_err(|why| format!("shard {} {why}", shard.id))?;
        if Instant::now() >= enough || !page.turn() {
            return Ok(page);
        }
    }
}

fn session(shard: u16, row: &SessionRow) -> Session {
    Session {
        shard,
        protocol: Text(row.protocol),
        inside: socket_address(row.inside),
        outside: socket_address(row.outside),
        remote: row.remote.map(socket_address),
        state: row.state.to_owned(),
        expires_in_ms: row.expires_in_ms,
        is_static: row.is_static,
    }
}

pub(super) fn socket_address(endpoint: Endpoint) -> SocketAddrV4 {
    SocketAddrV4::new(endpoint.addr, endpoint.port)
}

/// All shards are asked: which pool is whose is not the control plane's to know.
fn owners(request: &LookupRequest, facts: &Facts) -> Result<Owners, String> {
    let by = Instant::now() + PATIENCE;
    let outside = Endpoint::new(*request.outside.ip(), request.outside.port());
    let protocol = request.protocol.map(|Text(protocol)| protocol);
    let query = LookupQuery::new(outside, protocol);
    let speakers = facts.speakers();
    let asked: Vec<_> =
        speakers.iter().map(|shard| shard.handle.post(Box::new(query.clone()))).collect();

    let (mut owners, mut silent) = (Vec::new(), None);
    for (shard, asked) in speakers.iter().zip(asked) {
        match asked.and_then(|pending| pending.wait(by)) {
            Ok(query) => owners.extend(owners_in(shard.id, &query)),
            Err(why) => silent = Some(format!("shard {} {why}", shard.id)),
        }
    }
    match silent {
        Some(silent) if owners.is_empty() => Err(silent),
        _ => Ok(Owners { outside: request.outside, owners }),
    }
}

fn owners_in(shard: u16, query: &LookupQuery) -> impl Iterator<Item = Owner> {
    Protocol::ALL.into_iter().zip(query.owners).filter_map(move |(protocol, inside)| {
        let inside = socket_address(inside?);
        Some(Owner { shard, protocol: Text(protocol), inside })
    })
}
