//! What is told of shards while they run: when they run out of something, not once for each packet but
//! once a minute; and who of those that they depend on has come or gone.

use std::time::{Duration, Instant};

use krono_core::counters::CounterSnapshot;
use krono_core::drop::DropReason;
use krono_core::router::bfd::State;
use log::{info, warn};

use crate::bfd::Board;
use crate::scr::Membership;

/// What is worth waking somebody for.
const ALARMING: [DropReason; 8] = [
    DropReason::SessionsFull,
    DropReason::SubscribersFull,
    DropReason::PortsExhausted,
    DropReason::SubscriberPorts,
    DropReason::NeighboursFull,
    DropReason::TxFull,
    DropReason::ScrRingFull,
    DropReason::ScrHandover,
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
            let before = &mut self.bfd[index];
            let (was_up, ups) = std::mem::replace(before, (view.state == State::Up, view.ups));
            let (is_up, has_risen) = (view.state == State::Up, view.ups != ups);
            let name = format!("shard {shard}: BFD with {}, {},", view.neighbour, view.side);
            if was_up && has_risen || (was_up || has_risen) && !is_up {
                warn!("{name} went down: {}", view.diagnostic);
            }
            if has_risen && is_up {
                info!("{name} is up");
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
