//! Frames from anywhere come in to the tester's share of the flows: it must not panic, and must
//! count none of them as right. The first byte chooses between any frame at all and one of the
//! share's own, changed.

use std::cell::RefCell;

use bench_gen::bench::{Stage, Ways};
use bench_gen::load::{End, Load, Popularity, Rate, Sizes};
use bench_gen::share::{LinkHeader, Share, ShareSetup};
use krono_core::packet::{Mac, Side};
use krono_io::Hugepages;

const MACS: [Mac; 2] = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];

thread_local! {
    static SHARE: RefCell<Share> = RefCell::new(share());
}

fn share() -> Share {
    let link = |own, other| LinkHeader { destination: other, source: own, vlan: None };
    let load = Load {
        protocols: [1, 1, 1],
        subscribers: "100.64.0.0/24".parse().unwrap(),
        subscriber_count: 4,
        servers: "198.18.0.0/24".parse().unwrap(),
        sports: 1024..=65535,
        dports: 1..=65535,
        flows: 30,
        popularity: Popularity::Uniform,
        churn: None,
        sizes: Sizes::Fixed(100),
        answers_percent: 100,
        replay: None,
    };
    let setup = ShareSetup {
        load,
        number: 0,
        of: 2,
        seed: 1,
        flows_per_endpoint: 1,
        links: [link(MACS[0], MACS[1]), link(MACS[1], MACS[0])],
        hugepages: Hugepages::Off,
    };
    Share::new(&setup).unwrap()
}

/// Bytes of a frame that others may change: link source, TOS, identification, flags, TTL, and of
/// TCP the acknowledgement, the window and the urgent pointer.
fn free(at: usize) -> bool {
    matches!(at, 6..=11 | 15 | 18..=22 | 42..=45 | 48 | 49 | 52 | 53)
}

pub(crate) fn take(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    let side = Side::BOTH[usize::from(choice & 1)];
    SHARE.with_borrow_mut(|share| {
        let (rate, end) = (Rate::Max, End::Packets(0));
        share.begin(&Stage::Traffic { rate, end, sizes: None, ways: Ways::Up }, 0);
        let mut buffer = [0; 2_048];
        let mut frame = if choice & 2 == 0 {
            data.to_vec()
        } else {
            let Some((_, len)) = share.next(1_000_000, &mut buffer) else { return };
            let mut frame = buffer[..len].to_vec();
            let mut changed = false;
            for (at, (byte, mask)) in frame.iter_mut().zip(data).enumerate() {
                // What is free to change, and checksums that may follow, stay.
                if !free(at) {
                    *byte ^= mask;
                    changed |= *mask != 0;
                }
            }
            if !changed {
                return;
            }
            frame
        };
        share.prefetch(&frame);
        let before = share.look().tally;
        share.take(side, &mut frame, 2_000_000);
        let after = share.look().tally;
        for way in 0..2 {
            assert_eq!(after.counts[way].received, before.counts[way].received);
            assert_eq!(after.control_received[way], before.control_received[way]);
        }
    });
}
