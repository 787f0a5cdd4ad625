//! Warnings about shards that run out of something: not one for each packet, but one a minute.

use std::time::{Duration, Instant};

use krono_core::counters::CounterSnapshot;
use krono_core::drop::DropReason;
use log::warn;

/// What is worth waking somebody for.
const ALARMING: [DropReason; 6] = [
    DropReason::SessionsFull,
    DropReason::SubscribersFull,
    DropReason::PortsExhausted,
    DropReason::SubscriberPorts,
    DropReason::NeighboursFull,
    DropReason::TxFull,
];

const INTERVAL: Duration = Duration::from_secs(60);

/// What a shard's alarming drops were when they were last warned about.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    seen: [u64; ALARMING.len()],
    warned: [Option<Instant>; ALARMING.len()],
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
}
