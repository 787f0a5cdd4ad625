//! Answers about the halves of shards, whose other halves are on other servers.

use std::time::Instant;

use super::answer::PATIENCE;
use super::protocol::{Cluster, Half, Order, ShardRequest};
use super::{Facts, ShardFacts};
use crate::twin::{self, Board, TwinOrder};

/// How all halves stand, as far as they have said so.
///
/// # Errors
/// If there are none.
pub(super) fn cluster(facts: &Facts) -> Result<Cluster, String> {
    let halves: Vec<_> = facts.shards.iter().filter_map(half).collect();
    match halves.is_empty() {
        true => Err("no shard has a twin (section cluster of the configuration)".to_owned()),
        false => Ok(Cluster { halves }),
    }
}

/// How the half of a shard stands: as it showed last, so that a hung worker's can be seen.
fn half(shard: &ShardFacts) -> Option<Half> {
    let board = shard.twin.as_ref()?;
    let status = board.look()?;
    let Board { node, peer, master, .. } = **board;
    Some(Half {
        shard: shard.id,
        node,
        peer,
        master,
        role: status.role.name().to_owned(),
        epoch: status.epoch,
        peer_heard: status.is_live,
        caught_up: status.is_caught_up,
        queued: status.queued,
        unacknowledged: status.unacknowledged,
        lag_ms: status.lag_ms,
        safe: status.failover.is_ok(),
        because: status.failover.err().map(|why| why.to_string()),
        diverged: status.diverged,
        corrected: status.corrected,
        refused: status.refused,
        gaps: status.gaps,
        overflowed: status.overflowed,
    })
}

/// Gives an order to the half of a shard; how that stood before.
pub(super) fn order(request: &ShardRequest, facts: &Facts) -> Result<Half, String> {
    let ShardRequest { shard: id, order, to } = *request;
    let shard = facts.shards.iter().find(|shard| shard.id == id);
    let shard = shard.ok_or_else(|| format!("there is no shard {id}"))?;
    let Some(before) = half(shard) else { return Err(format!("shard {id} has no twin")) };
    let Half { node, peer, .. } = before;
    match (order, to) {
        (Order::Drain, Some(to)) if to == node => {
            return Err(format!("to: node {to} is this one; ask node {peer}, which serves"));
        }
        (Order::Drain, Some(to)) if to != peer => {
            return Err(format!("to: shard {id} is on nodes {node} and {peer} only"));
        }
        (Order::Drain, _) | (_, None) => {}
        (_, Some(_)) => return Err("to: only with drain".to_owned()),
    }
    let order = match order {
        Order::Drain => twin::Order::Drain,
        Order::Keep => twin::Order::Keep,
        Order::Fence => twin::Order::Fence,
    };
    let answer = shard.handle.ask(Box::new(TwinOrder::new(order)), Instant::now() + PATIENCE);
    let answer = answer.map_err(|why| format!("shard {id} {why}"))?;
    answer.outcome.map(|()| before).map_err(|why| format!("shard {id} {why}"))
}
