//! What a packet costs a share, in instructions: 64-byte UDP of flows that are open, in bursts of 32, the
//! engine and DPDK left out.
//!
//! `cargo bench --package bench-gen --bench instructions` runs it under callgrind, if gungraun-runner is
//! there (`scripts/instructions.sh` installs it). Counts are of 1,024 packets.

#![allow(missing_docs, reason = "of the macros' making")]

use std::hint::black_box;

use bench_gen::bench::{Stage, Ways};
use bench_gen::load::{End, Load, Popularity, Rate, Sizes};
use bench_gen::share::{LinkHeader, Share, ShareSetup, Taken};
use gungraun::{library_benchmark, library_benchmark_group, main};
use krono_core::frame::MemFrame;
use krono_core::packet::{Mac, Side};
use krono_io::Hugepages;

const BURST: usize = 32;
const PACKETS: usize = 1024;
const FLOWS: u32 = PACKETS as u32;

struct Cable {
    share: Share,
    bursts: Vec<Vec<MemFrame>>,
}

/// All flows are open, and all packets are from subscribers.
fn opened() -> Cable {
    let mac = |last| Mac([2, 0, 0, 0, 0, last]);
    let link = |own, other| LinkHeader { destination: mac(other), source: mac(own), vlan: None };
    let load = Load {
        protocols: [1, 0, 0],
        subscribers: "100.64.0.0/10".parse().expect("a network"),
        subscriber_count: 1024,
        servers: "198.18.0.0/15".parse().expect("a network"),
        sports: 1024..=65535,
        dports: 1..=65535,
        flows: FLOWS,
        popularity: Popularity::Uniform,
        churn: None,
        sizes: Sizes::Fixed(64),
        answers_percent: 100,
        replay: None,
    };
    let mut share = Share::new(&ShareSetup {
        load,
        number: 0,
        of: 1,
        seed: 1,
        flows_per_endpoint: 1,
        links: [link(1, 2), link(2, 1)],
        hugepages: Hugepages::Off,
    })
    .expect("a load that can be");
    share.begin(&Stage::Open { sessions: FLOWS, per_second: f64::INFINITY }, 1);
    let mut buffer = [0; 64];
    while let Some((_, len)) = share.next(2, &mut buffer) {
        let Taken::Answer(len) = share.take(Side::Outside, &mut buffer[..len], 3) else {
            panic!("a first packet is answered")
        };
        share.take(Side::Inside, &mut buffer[..len], 4);
    }
    share.finish();
    let (rate, end) = (Rate::Max, End::Packets(0));
    share.begin(&Stage::Traffic { rate, end, sizes: None, ways: Ways::Up }, 5);
    Cable { share, bursts: vec![vec![MemFrame::new(&[]); BURST]; PACKETS / BURST] }
}

fn sent() -> Cable {
    make(opened())
}

fn make(mut cable: Cable) -> Cable {
    for (burst, now) in cable.bursts.iter_mut().zip((10_000..).step_by(1_000)) {
        assert_eq!(cable.share.next_run(now, &mut burst[..], BURST), BURST);
    }
    cable
}

fn take(mut cable: Cable) -> Cable {
    for (burst, now) in cable.bursts.iter_mut().zip((20_000..).step_by(1_000)) {
        burst.iter().for_each(|frame| cable.share.prefetch(frame.bytes()));
        assert_eq!(cable.share.take_run(Side::Outside, &mut burst[..], 0, now, &mut 0), BURST);
    }
    cable
}

#[library_benchmark]
#[bench::udp_64(opened())]
fn next(cable: Cable) -> Cable {
    black_box(make(black_box(cable)))
}

#[library_benchmark]
#[bench::udp_64(sent())]
fn received(cable: Cable) -> Cable {
    black_box(take(black_box(cable)))
}

library_benchmark_group!(name = share, benchmarks = [next, received]);
main!(library_benchmark_groups = share);
