//! What a twin costs the packet thread: a change that is told, a record that is taken, an entry that a
//! walk over the table looks at.

#![allow(missing_docs, reason = "of the macros' making")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use krono_core::carve;
use krono_core::packet::{Endpoint, FlowMeta, Kind, PacketMeta, Protocol, Side};
use krono_core::ports::Part;
use krono_core::program::{Events, Program};
use krono_core::time::{Moment, Span};
use krono_core::twin::Twin;
use krono_ha::frame::{FRAME_MAX, Key};
use krono_ha::roles::Role;
use krono_ha::{Half, Settings};
use krono_nat::config::{Config, Filtering, Firewall, Policy, Timeouts};
use krono_nat::{Change, Event, Nat};
use zerocopy::IntoBytes;

const MS: u64 = 1_000_000;
const SESSIONS: u32 = 1_000_000;
/// Records of a frame.
const FULL: usize = 40;

fn config() -> Config {
    Config {
        sessions: SESSIONS as usize,
        subscribers: 20_000,
        pool: vec!["198.51.0.0/26".parse().expect("a prefix")],
        inside: vec!["100.64.0.0/10".parse().expect("a prefix")],
        ports: 1024..=65535,
        ports_per_subscriber: 2000,
        seed: [7; 32],
        policy: Policy {
            filtering: Filtering::AddressAndPortDependent,
            hairpinning: true,
            timeouts: Timeouts::default(),
            exclude: vec![],
            statics: vec![],
            firewall: Firewall::default(),
        },
    }
}

fn settings(place: u32) -> Settings {
    Settings {
        shard: 0,
        node: 1 + place,
        peer: 2 - place,
        rank: place as u8,
        notes_max: 4096,
        entries_max: SESSIONS as usize,
        flush_polls: 8,
        walk_budget: 64,
        tend_budget: 256,
        heartbeat_ns: 10 * MS,
        silence_ns: 50 * MS,
        linger_ns: 500 * MS,
        compare_ns: 10_000_000 * MS,
        port_hold: Span::from_secs(120),
        patience: 5,
    }
}

struct Member {
    nat: Nat<'static>,
    half: Half<Nat<'static>>,
}

impl Member {
    fn new(place: u32, now: Moment) -> Member {
        let bytes = Nat::memory_bytes(&config());
        let memory = Box::leak(carve::heap(bytes).into_boxed_slice()).as_mut_bytes();
        let part = Part { first_percent: 50, is_first: place == 0 };
        let nat = Nat::with_part(&config(), part, memory, now.ticks()).expect("nothing static");
        let mut half = Half::new(settings(place), Key::new(&[5; 32]), &nat, 9, now);
        half.set_routes(true);
        Member { nat, half }
    }
}

/// Two in one thread: what one sends the other has at once.
struct Pair {
    members: [Member; 2],
    now: Moment,
    /// Polls, frames and the time that each of the two has worked.
    polls: u64,
    frames: u64,
    worked: [Duration; 2],
}

impl Pair {
    fn new() -> Pair {
        let now = Moment(1_000_000 * MS);
        let members = [0, 1].map(|place| Member::new(place, now));
        Pair { members, now, polls: 0, frames: 0, worked: [Duration::ZERO; 2] }
    }

    /// A poll of each, 10 µs after the one before, with a housekeeping every 32.
    fn step(&mut self) {
        self.now = Moment(self.now.0 + 10_000);
        self.polls += 1;
        for from in 0..2 {
            let mut frame = [0; FRAME_MAX];
            let began = Instant::now();
            let Member { nat, half } = &mut self.members[from];
            if self.polls.is_multiple_of(32) {
                half.tend(nat, self.now);
            }
            let sent = half.poll(nat, self.now, &mut frame);
            self.worked[from] += began.elapsed();
            if let Some(len) = sent {
                self.frames += 1;
                let began = Instant::now();
                let Member { nat, half } = &mut self.members[1 - from];
                half.receive(nat, &frame[..len], self.now).expect("it is in order");
                self.worked[1 - from] += began.elapsed();
            }
        }
    }

    /// The first serves so many sessions.
    fn open(&mut self, sessions: u32) {
        for number in 0..sessions {
            let flow = FlowMeta {
                src: Endpoint::new(
                    (0x6440_0000 + number / 100).into(),
                    5000 + (number % 100) as u16,
                ),
                dst: Endpoint::new([203, 0, 113, 1].into(), 443),
                kind: Kind::Udp,
                protocol: Protocol::Udp,
                ..FlowMeta::default()
            };
            let meta = PacketMeta { flow, ..PacketMeta::default() };
            let record = Nat::record(&meta, Side::Inside, self.now);
            let Member { nat, half } = &mut self.members[0];
            black_box(nat.step(&record, &Default::default(), half.changes()));
        }
        assert_eq!(self.members[0].nat.counts().sessions, u64::from(sessions));
    }
}

fn update(pair: &Pair, index: u32) -> Event {
    let record = pair.members[0].nat.essence(index).expect("a session");
    Event {
        change: Change::SessionUpdated,
        index,
        protocol: Protocol::Udp,
        inside: record.inside(),
        outside: record.outside(),
        remote: record.remote(),
        state: None,
        before: None,
    }
}

/// A slave that has nothing catches up with a master of a million sessions.
fn join() -> Pair {
    let mut pair = Pair::new();
    while pair.members[0].half.role() != Role::Serving {
        pair.step();
    }
    pair.open(SESSIONS);
    (pair.polls, pair.frames, pair.worked) = (0, 0, [Duration::ZERO; 2]);
    let began = pair.now;
    while !pair.members[1].half.status(pair.now).is_caught_up {
        pair.step();
    }
    assert_eq!(pair.members[1].nat.counts().sessions, u64::from(SESSIONS));
    let (clock, Pair { polls, frames, worked, .. }) = ((pair.now.0 - began.0) / MS, &pair);
    println!(
        "joining, {SESSIONS} sessions: {polls} polls of 10 us ({clock} ms), {frames} frames; work: \
         master {} ms, slave {} ms",
        worked[0].as_millis(),
        worked[1].as_millis()
    );
    pair
}

fn costs(criterion: &mut Criterion) {
    let mut pair = join();
    let mut group = criterion.benchmark_group("twin");
    group.throughput(Throughput::Elements(FULL as u64));
    let mut at = 0_u32;
    for (name, of) in [("tell", 0), ("take", 1)] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| {
                let mut worked = [Duration::ZERO; 2];
                for _ in 0..rounds {
                    // Far apart, so that they are in no cache.
                    let events: Vec<_> = (0..FULL as u32)
                        .map(|n| update(&pair, (at + n * 24_007) % SESSIONS))
                        .collect();
                    at = (at + 10_007) % SESSIONS;
                    pair.now = Moment(pair.now.0 + 1000);
                    let mut frame = [0; FRAME_MAX];
                    let began = Instant::now();
                    let Member { nat, half } = &mut pair.members[0];
                    events.into_iter().for_each(|event| half.changes().emit(event));
                    let len = half.poll(nat, pair.now, &mut frame).expect("a frame");
                    worked[0] += began.elapsed();
                    let began = Instant::now();
                    let Member { nat, half } = &mut pair.members[1];
                    half.receive(nat, &frame[..len], pair.now).expect("it is in order");
                    worked[1] += began.elapsed();
                }
                worked[of]
            });
        });
    }
    group.throughput(Throughput::Elements(settings(0).tend_budget.into()));
    group.bench_function("tend", |bencher| {
        let Member { nat, half } = &mut pair.members[0];
        bencher.iter(|| half.tend(nat, black_box(pair.now)));
    });
    group.finish();
}

criterion_group!(benches, costs);
criterion_main!(benches);
