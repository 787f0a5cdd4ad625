//! Opening the ports, and what their drivers complain of.

use std::collections::BTreeMap;

use krono_core::frame::BURST_MAX;
use krono_io::{Eal, Opened, Pool, PoolConfig, Port, PortConfig, PortStats};

use super::exchange::WAITING_MAX;
use crate::bench::Failed;
use crate::load::Profile;

/// Frames in the ring of a queue.
const RING: u16 = 2048;

/// Buffers that an lcore holds back in its cache of a pool, at most, and those of its bursts.
const HELD: usize = 768 + 4 * BURST_MAX;

/// The pool that all frames come from: as many as all rings hold, and more.
pub(super) fn pool(eal: &Eal, profile: &Profile) -> Result<Pool, Failed> {
    let rings = 4 * usize::from(RING);
    let buffers = profile.lcores.len() * (rings + HELD + WAITING_MAX);
    let config = PoolConfig {
        name: "bench".into(),
        // Pools are made best of 2^n - 1 buffers.
        buffers: (buffers + 1).next_power_of_two() as u32 - 1,
        mtu: profile.inside.mtu.max(profile.outside.mtu),
        private: 0,
    };
    Pool::new(eal, &config).map_err(|error| Failed(error.to_string()))
}

/// How a port with a queue pair for each lcore is opened.
pub(super) fn config(lcores: usize, mtu: u16) -> PortConfig {
    let queues = lcores as u16;
    PortConfig {
        rx_queues: queues,
        or_fewer_rx: false,
        tx_queues: queues,
        rx_ring: RING,
        tx_ring: RING,
        mtu,
        promiscuous: true,
        spread: true,
    }
}

/// Opens both ports, by side.
pub(super) fn open(eal: &Eal, profile: &Profile, pool: &Pool) -> Result<[Opened; 2], Failed> {
    let open = |name: &str, setup: &crate::load::PortSetup| {
        let config = config(profile.lcores.len(), setup.mtu);
        Port::open(eal, &setup.device, &config, pool)
            .map_err(|error| Failed(format!("{name}: {error}")))
    };
    Ok([open("inside", &profile.inside)?, open("outside", &profile.outside)?])
}

/// What the drivers have counted of trouble between two looks, by port and name; no zeros.
pub(super) fn trouble(before: &[PortStats; 2], after: &[PortStats; 2]) -> BTreeMap<String, u64> {
    let mut trouble = BTreeMap::new();
    for (side, (before, after)) in ["inside", "outside"].into_iter().zip(before.iter().zip(after)) {
        let counters = [
            ("rx_missed", before.rx_missed, after.rx_missed),
            ("rx_errors", before.rx_errors, after.rx_errors),
            ("rx_no_buffer", before.rx_no_buffer, after.rx_no_buffer),
            ("tx_errors", before.tx_errors, after.tx_errors),
        ];
        for (name, before, after) in counters {
            if after > before {
                trouble.insert(format!("{side}.{name}"), after - before);
            }
        }
    }
    trouble
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_what_came_since() {
        let before = [PortStats { rx_missed: 5, tx_errors: 1, ..Default::default() }; 2];
        let mut after = before;
        after[1].rx_missed = 12;
        let trouble = trouble(&before, &after);
        assert_eq!(trouble.into_iter().collect::<Vec<_>>(), [("outside.rx_missed".to_owned(), 7)]);
    }
}
