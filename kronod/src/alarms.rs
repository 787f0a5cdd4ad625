//! What is told of shards while they run: when they run out of something, not once for each packet
//! but once a minute; and who of those that they depend on has come or gone.

use std::time::{Duration, Instant};

use krono_core::counters::CounterSnapshot;
use krono_core::drop::DropReason;
use krono_core::router::bfd::State;
use krono_ha::{Status, Unsafe};
use log::{info, warn};

use crate::bfd::Board;
use crate::scr::Membership;

/// What is worth waking somebody for.
const ALARMING: [DropReason; 13] = [
    DropReason::SessionsFull,
    DropReason::SubscribersFull,
    DropReason::PortsExhausted,
    DropReason::SubscriberPorts,
    DropReason::NeighboursFull,
    DropReason::TxFull,
    DropReason::ScrRingFull,
    DropReason::ScrHandover,
    DropReason::HaDigest,
    DropReason::HaVersion,
    DropReason::HaLayout,
    DropReason::HaShard,
    DropReason::HaNode,
];

const INTERVAL: Duration = Duration::from_secs(60);

/// What a shard's alarming drops were when they were last warned about.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    seen: [u64; ALARMING.len()],
    warned: [Option<Instant>; ALARMING.len()],
    members: Option<Membership>,
    /// Of each BFD session whether it was up, and how often it had come up.
    bfd: Vec<(bool, u32)>,
    /// How the half stood, if there is one.
    twin: Option<Standing>,
}

/// What is told of a half when it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Standing {
    role: &'static str,
    epoch: u64,
    /// Why the other may not take over.
    doubt: Option<String>,
}

impl Alarms {
    /// Warns about drops that have come since the latest warning, at most once a minute for each
    /// reason.
    pub(crate) fn watch(&mut self, shard: u16, counters: &CounterSnapshot, now: Instant) {
        for (index, reason) in ALARMING.into_iter().enumerate() {
            let dropped = counters.dropped(reason);
            let more = dropped - self.seen[index];
            let rests = self.warned[index].is_some_and(|warned| now - warned < INTERVAL);
            if more > 0 && !rests {
                warn!("shard {shard}: {more} packets dropped, {reason}: {}", reason.describe());
                self.seen[index] = dropped;
                self.warned[index] = Some(now);
            }
        }
    }

    /// Tells which BFD sessions have come up or gone down since the latest look; one that did both
    /// meanwhile is told of as well.
    pub(crate) fn watch_bfd(&mut self, shard: u16, board: &Board) {
        for (index, (view, _)) in board.look().enumerate() {
            if self.bfd.len() == index {
                self.bfd.push((false, 0));
            }
            let now = (view.state == State::Up, view.ups);
            let before = std::mem::replace(&mut self.bfd[index], now);
            let name = format!("shard {shard}: BFD with {}, {},", view.neighbour, view.side);
            let (went_down, came_up) = changes(before, now);
            if went_down {
                warn!("{name} went down: {}", view.diagnostic);
            }
            if came_up {
                info!("{name} is up");
            }
        }
    }

    /// Tells what a half does from now on, and whether the other may take over.
    pub(crate) fn watch_twin(&mut self, shard: u16, status: &Status) {
        let doubt = status.failover.err().and_then(|why| match why {
            // How long it has been silent changes all the time.
            Unsafe::Silent { .. } => Some("the peer is silent".to_owned()),
            // Under load that comes and goes many times a second.
            Unsafe::Lagging { .. } => None,
            why => Some(why.to_string()),
        });
        let now = Standing { role: status.role.name(), epoch: status.epoch, doubt };
        let before = self.twin.replace(now.clone());
        let is_new = |differs: fn(&Standing, &Standing) -> bool| {
            before.as_ref().is_none_or(|before| differs(before, &now))
        };
        if is_new(|before, now| (before.role, before.epoch) != (now.role, now.epoch)) {
            info!("shard {shard}: {}, epoch {}", now.role, now.epoch);
        }
        if is_new(|before, now| before.doubt != now.doubt) {
            match &now.doubt {
                Some(why) => warn!("shard {shard}: not safe to fail over: {why}"),
                None => info!("shard {shard}: safe to fail over"),
            }
        }
    }

    /// Tells which cores of a group get packets no more, or again.
    pub(crate) fn watch_members(&mut self, shard: u16, now: Membership) {
        // Nothing is shown before the sequencer has polled once.
        if now.active == 0 {
            return;
        }
        let before = self.members.replace(now).unwrap_or(now);
        for core in (0..64).filter(|core| (before.active ^ now.active) >> core & 1 != 0) {
            if now.has(core) {
                info!("shard {shard}: core {core} gets packets, epoch {}", now.epoch);
            } else {
                let behind = now.last;
                warn!(
                    "shard {shard}: core {core} gets packets no more, since about packet {behind}"
                );
            }
        }
    }
}

/// Whether a session has gone down, and whether it has come up and still is, from one look to the
/// next: at each, whether it is up and how often it has come up.
fn changes((was_up, ups): (bool, u32), (is_up, ups_now): (bool, u32)) -> (bool, bool) {
    let has_come_up = ups_now != ups;
    let went_down = if is_up { was_up && has_come_up } else { was_up || has_come_up };
    (went_down, is_up && has_come_up)
}

#[cfg(test)]
mod tests {
    use super::changes;

    #[test]
    fn what_a_session_did_between_two_looks_is_told() {
        for (before, now, told) in [
            ((false, 0), (false, 0), (false, false)),
            ((false, 0), (true, 1), (false, true)),
            ((true, 1), (true, 1), (false, false)),
            ((true, 1), (false, 1), (true, false)),
            ((true, 1), (true, 2), (true, true)),
            ((true, 1), (false, 2), (true, false)),
            ((false, 1), (false, 2), (true, false)),
        ] {
            assert_eq!(changes(before, now), told, "{before:?}, then {now:?}");
        }
    }
}
