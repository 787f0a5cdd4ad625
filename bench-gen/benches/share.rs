//! What a packet costs a share: 64-byte UDP over a million flows, in turn, in bursts of 64, cabled
//! back to back. Elements are packets; times the clock rate over 1e9 gives cycles.

use std::time::{Duration, Instant};

use bench_gen::bench::{Stage, Ways};
use bench_gen::load::{End, Load, Popularity, Rate, Sizes};
use bench_gen::share::{LinkHeader, Share, ShareSetup, Taken};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use krono_core::packet::{Mac, Side};
use krono_io::Hugepages;

const BURST: usize = 64;

fn setup(protocols: [u32; 3], flows: u32, answers_percent: u32) -> ShareSetup {
    let mac = |last| Mac([2, 0, 0, 0, 0, last]);
    // Each side's next hop is the other side.
    let link = |own, other| LinkHeader { destination: mac(other), source: mac(own), vlan: None };
    let load = Load {
        protocols,
        subscribers: "100.64.0.0/10".parse().expect("a network"),
        subscriber_count: 16_384,
        servers: "198.18.0.0/15".parse().expect("a network"),
        sports: 1024..=65535,
        dports: 1..=65535,
        flows,
        popularity: Popularity::Uniform,
        churn: None,
        sizes: Sizes::Fixed(64),
        answers_percent,
        replay: None,
    };
    ShareSetup {
        load,
        number: 0,
        of: 1,
        seed: 1,
        flows_per_endpoint: 1,
        links: [link(1, 2), link(2, 1)],
        hugepages: Hugepages::Auto,
    }
}

/// Time spent in each part.
#[derive(Default)]
struct Parts {
    next: Duration,
    take_up: Duration,
    take_down: Duration,
}

struct Cable {
    share: Share,
    frames: Vec<[u8; 128]>,
    lens: [usize; BURST],
    now_ns: u64,
}

impl Cable {
    /// All flows are open.
    fn new(setup: &ShareSetup) -> Cable {
        let share = Share::new(setup).expect("a load that can be");
        let mut cable = Cable { share, frames: vec![[0; 128]; BURST], lens: [0; BURST], now_ns: 1 };
        let sessions = setup.load.flows;
        cable.share.begin(&Stage::Open { sessions, per_second: f64::INFINITY }, 1);
        while !cable.share.is_done() {
            cable.burst(&mut Parts::default());
        }
        let (rate, end) = (Rate::Max, End::Packets(0));
        cable.share.finish();
        cable
            .share
            .begin(&Stage::Traffic { rate, end, sizes: None, ways: Ways::Both }, cable.now_ns);
        cable
    }

    fn burst(&mut self, parts: &mut Parts) {
        self.now_ns += 5_000;
        let start = Instant::now();
        let mut count = 0;
        while count < BURST {
            let Some((_, len)) = self.share.next(self.now_ns, &mut self.frames[count]) else {
                break;
            };
            self.lens[count] = len;
            count += 1;
        }
        parts.next += start.elapsed();
        let start = Instant::now();
        let count = self.take(Side::Outside, count);
        parts.take_up += start.elapsed();
        let start = Instant::now();
        let count = self.take(Side::Inside, count);
        parts.take_down += start.elapsed();
        self.take(Side::Outside, count);
    }

    /// Takes the first `count` frames, and packs the answers.
    fn take(&mut self, side: Side, count: usize) -> usize {
        self.now_ns += 1_000;
        for (frame, len) in self.frames[..count].iter().zip(self.lens) {
            self.share.prefetch(&frame[..len]);
        }
        let mut answers = 0;
        for index in 0..count {
            let frame = &mut self.frames[index][..self.lens[index]];
            if let Taken::Answer(len) = self.share.take(side, frame, self.now_ns) {
                self.frames.swap(answers, index);
                self.lens[answers] = len;
                answers += 1;
            }
        }
        answers
    }
}

/// A part of the cost, by its name.
type Part = (&'static str, fn(Parts) -> Duration);

fn share(c: &mut Criterion) {
    let loads = [("udp-64", [1, 0, 0]), ("tcp-64", [0, 1, 0]), ("icmp-64", [0, 0, 1])];
    for (name, protocols) in loads {
        let mut cable = Cable::new(&setup(protocols, 1_000_000, 100));
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(1)).sample_size(20);
        group.measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_secs(1));
        let parts: [Part; 3] = [
            ("next", |parts| parts.next),
            ("take-and-answer", |parts| parts.take_up),
            ("take", |parts| parts.take_down),
        ];
        for (part, of) in parts {
            group.bench_function(part, |b| {
                b.iter_custom(|packets| {
                    let mut parts = Parts::default();
                    let bursts = packets.div_ceil(BURST as u64);
                    (0..bursts).for_each(|_| cable.burst(&mut parts));
                    of(parts).mul_f64(packets as f64 / (bursts * BURST as u64) as f64)
                });
            });
        }
        group.finish();
        assert_eq!(cable.share.finish().tally.wrong, [0; 7]);
    }
}

criterion_group!(benches, share);
criterion_main!(benches);
