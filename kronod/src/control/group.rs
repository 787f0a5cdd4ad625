//! Questions about a shard whose state is on several cores.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use krono_core::packet::Endpoint;
use scr_sequencer::programs::{Row, knock};

use super::answer::{PATIENCE, socket_address};
use super::protocol::*;
use super::{Facts, ShardFacts};
use crate::mailbox::{CoreChange, CoresRequest, RowsPage};

/// How long one answer may look through a replica's state; other clients wait meanwhile.
const LOOK_TIME: Duration = Duration::from_secs(1);

/// Changes the cores of a group if that is asked for, and tells how it is.
pub(super) fn group(request: &GroupRequest, facts: &Facts) -> Result<Group, String> {
    let is_meant = |part: &&ShardFacts| {
        part.role != Role::Worker && request.shard.is_none_or(|shard| shard == part.id)
    };
    let parts: Vec<_> = facts.shards.iter().filter(is_meant).collect();
    let Some(first) = parts.first() else {
        return Err(match request.shard {
            Some(shard) => format!("shard {shard} is on one core, or there is no such shard"),
            None => "no shard here has its state on several cores (scr)".to_owned(),
        });
    };
    let parts: Vec<_> = parts.iter().filter(|part| part.id == first.id).collect();
    let cores = cores(request, &parts)?;
    let speaker = parts.iter().find(|part| (part.speaks)());
    let (rows, position, complete) = match speaker {
        Some(speaker) => rows(speaker, request.limit.unwrap_or(ROWS_PER_ANSWER) as usize)?,
        None => (Vec::new(), 0, true),
    };
    let replicas = parts.iter().filter_map(|part| match part.role {
        Role::Replica { core } => Some(GroupCore {
            core,
            lcore: part.lcore,
            active: cores.as_ref().map(|cores| cores.active >> core & 1 != 0),
            wanted: cores.as_ref().map(|cores| cores.wanted >> core & 1 != 0),
        }),
        _ => None,
    });
    Ok(Group {
        shard: first.id,
        epoch: cores.as_ref().map(|cores| cores.epoch),
        last: cores.as_ref().map(|cores| cores.last),
        cores: replicas.collect(),
        position,
        rows,
        complete,
    })
}

/// Asks the sequencer; none if others number the packets.
fn cores(
    request: &GroupRequest,
    parts: &[&&ShardFacts],
) -> Result<Option<Box<CoresRequest>>, String> {
    let change = match (request.join, request.leave) {
        (Some(_), Some(_)) => return Err("join, leave: one of them at a time".to_owned()),
        (Some(core), None) => Some(CoreChange::Join(core)),
        (None, Some(core)) => Some(CoreChange::Leave(core)),
        (None, None) => None,
    };
    let sequencer = parts.iter().find(|part| part.role == Role::Sequencer);
    let Some(sequencer) = sequencer else {
        let refused = "others number the packets of this shard, for as many cores as they please";
        return if change.is_some() { Err(refused.to_owned()) } else { Ok(None) };
    };
    let by = Instant::now() + PATIENCE;
    let answer = sequencer.handle.ask(Box::new(CoresRequest::new(change)), by);
    let answer = answer.map_err(|why| format!("shard {} {why}", sequencer.id))?;
    match answer.outcome {
        Ok(()) => Ok(Some(answer)),
        Err(refused) => Err(format!("shard {} {refused}", sequencer.id)),
    }
}

/// What is worth seeing of a replica's state, the most important first.
fn rows(speaker: &ShardFacts, limit: usize) -> Result<(Vec<GroupRow>, u64, bool), String> {
    let (mut found, mut cursor, mut position) = (Vec::new(), Some(0), 0);
    let enough = Instant::now() + LOOK_TIME;
    while let Some(at) = cursor.filter(|_| Instant::now() < enough) {
        let page = speaker.handle.ask(Box::new(RowsPage::new(at)), Instant::now() + PATIENCE);
        let page = page.map_err(|why| format!("shard {} {why}", speaker.id))?;
        found.extend_from_slice(page.rows());
        (cursor, position) = (page.next, page.position);
    }
    found.sort_unstable_by_key(weight);
    let complete = cursor.is_none() && found.len() <= limit;
    found.truncate(limit);
    Ok((found.iter().map(row).collect(), position, complete))
}

/// Rows with less of it come first.
fn weight(row: &Row) -> (Reverse<u64>, [u8; 6]) {
    let place = |endpoint: Endpoint| {
        let [a, b, c, d] = endpoint.addr.octets();
        let [high, low] = endpoint.port.to_be_bytes();
        [a, b, c, d, high, low]
    };
    let address = |addr| place(Endpoint::new(addr, 0));
    match row {
        Row::Blocked(blocked) => (Reverse(blocked.packets.into()), address(blocked.source)),
        Row::Heavy(heavy) => (Reverse(heavy.bytes), place(heavy.flow.source)),
        Row::Bucket(bucket) => (Reverse(bucket.dropped), place(bucket.flow.source)),
        Row::Knocker(knocker) => match knocker.state {
            knock::State::Open => (Reverse(u64::MAX), address(knocker.source)),
            knock::State::Knocked(knocks) => (Reverse(knocks.into()), address(knocker.source)),
        },
        Row::Connection(connection) => (Reverse(0), place(connection.originator)),
    }
}

fn row(row: &Row) -> GroupRow {
    match *row {
        Row::Blocked(blocked) => GroupRow::Blocked {
            source: blocked.source,
            packets: blocked.packets,
            free_in: blocked.free_in,
        },
        Row::Heavy(heavy) => GroupRow::Heavy {
            protocol: Text(heavy.flow.protocol),
            source: socket_address(heavy.flow.source),
            destination: socket_address(heavy.flow.destination),
            bytes: heavy.bytes,
        },
        Row::Bucket(bucket) => GroupRow::Bucket {
            protocol: Text(bucket.flow.protocol),
            source: socket_address(bucket.flow.source),
            destination: socket_address(bucket.flow.destination),
            tokens: bucket.tokens,
            dropped: bucket.dropped,
        },
        Row::Knocker(knocker) => GroupRow::Knocker {
            source: knocker.source,
            open: knocker.state == knock::State::Open,
            knocks: match knocker.state {
                knock::State::Open => None,
                knock::State::Knocked(knocks) => Some(knocks),
            },
        },
        Row::Connection(connection) => GroupRow::Connection {
            originator: socket_address(connection.originator),
            responder: socket_address(connection.responder),
            state: connection.state.name().to_owned(),
            expires_in_ms: connection.expires_in.as_millis(),
        },
    }
}
