//! Cores that join, leave, are too slow and die, while packets flow: every packet gets the verdict that
//! one core would give it.

use std::ops::RangeInclusive;

use etherparse::PacketBuilder;
use krono_core::carve;
use krono_core::drop::DropReason;
use krono_core::packet::Side;
use krono_core::time::{Moment, Ticks};
use krono_nat::config::{Config as NatConfig, Filtering, Firewall, Policy, Timeouts};
use krono_nat::{Nat, Replica};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use scr_sequencer::programs::{bucket, conntrack, ddos, heavy, knock};
use zerocopy::IntoBytes;

use super::bed::{Bed, GATEWAY_MACS, MACS, POOL, config};
use crate::mailbox::{CoreChange, CoresRefused};
use crate::scr::house::Purpose;
use crate::scr::programs::GroupProgram;

/// Who is inside, as those outside know them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    /// By their addresses.
    Open,
    /// By the address and some port of a translator.
    Translated,
}

/// Ports of the translator: about two for each mapping that there can be.
const PORTS: RangeInclusive<u16> = 1024..=1103;

/// A frame of some source, with its number at its end.
fn frame(side: Side, known: Inside, random: &mut impl Rng, number: u32) -> Vec<u8> {
    let (inside, outside) = (
        [100, 64, random.random_range(0..2), random.random_range(1..5)],
        [198, 51, 100, random.random_range(1..9)],
    );
    let is_translated = side == Side::Outside && known == Inside::Translated;
    let inside = if is_translated { [203, 0, 113, 1] } else { inside };
    let (from, to) = if side == Side::Inside { (inside, outside) } else { (outside, inside) };
    let ports = [
        [1024, 1025, 1026][random.random_range(0..3)],
        [22, 100, 101, 102, 443][random.random_range(0..5)],
    ];
    let [sport, dport] = match side {
        Side::Inside => [ports[1], ports[0]],
        Side::Outside if is_translated => [ports[0], random.random_range(PORTS)],
        Side::Outside => ports,
    };
    let ip = PacketBuilder::ethernet2(GATEWAY_MACS[side as usize], MACS[side as usize])
        .ipv4(from, to, 64);
    let mut bytes = Vec::new();
    let payload = number.to_be_bytes();
    if random.random_ratio(1, 3) {
        ip.udp(sport, dport).write(&mut bytes, &[&[0; 20][..], &payload].concat()).unwrap();
        return bytes;
    }
    let mut tcp = ip.tcp(sport, dport, random.random_range(0..50), 1000);
    match random.random_range(0..6) {
        0 | 1 => tcp = tcp.syn(),
        2 => tcp = tcp.fin().ack(1),
        3 => tcp = tcp.rst(),
        _ => tcp = tcp.ack(random.random_range(0..50)),
    }
    tcp.write(&mut bytes, &[&[0; 20][..], &payload].concat()).unwrap();
    bytes
}

/// What happened in runs.
#[derive(Debug, Default)]
struct Seen {
    joined: u64,
    left: u64,
    left_out: u64,
    unnumbered: u64,
}

fn run<P: GroupProgram>(
    seed: u64,
    scr: &str,
    make: impl FnMut(Purpose) -> anyhow::Result<P>,
    seen: &mut Seen,
) {
    let known = if P::NAME == "nat" { Inside::Translated } else { Inside::Open };
    println!("KRONO_SEED={seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let config = config(scr);
    let mut bed = Bed::new(&config, true, make);
    let cores = bed.replicas.len();
    let (mut dead, mut paused) = (Vec::new(), vec![0; cores]);
    for number in 0..random.random_range(100..1500) {
        let before = bed.sequencing.sequencer.active();
        bed.now = Moment(bed.now.0 + random.random_range(0..3_000_000));
        let side = Side::BOTH[random.random_range(0..2)];
        let frame = frame(side, known, &mut random, number);
        bed.arrive(side, &frame);
        for _ in 0..random.random_range(0..2 * cores) {
            let core = random.random_range(0..cores);
            if paused[core] > 0 {
                paused[core] -= 1;
            } else if !dead.contains(&core) {
                bed.poll(core);
            }
        }
        let core = random.random_range(0..cores);
        match random.random_range(0..60) {
            0 => {
                bed.change(CoreChange::Join(core)).unwrap();
            }
            1 => match bed.change(CoreChange::Leave(core)) {
                Ok(()) => seen.left += 1,
                Err(CoresRefused::LastOne | CoresRefused::Busy) => {}
                Err(refused) => panic!("{refused}"),
            },
            2 => paused[core] = random.random_range(1..100),
            3 if dead.is_empty() && before.count_ones() > 2 && random.random_ratio(1, 10) => {
                dead.push(core);
            }
            4..10 => bed.idle(),
            _ => {}
        }
        let now = bed.sequencing.sequencer.active();
        seen.joined += u64::from((now & !before).count_ones());
        seen.left_out += u64::from((bed.sequencing.wanted & before & !now).count_ones());
    }
    seen.unnumbered += bed.unnumbered;
    bed.compare(&dead);
}

fn runs(scr: &str, mut each: impl FnMut(u64, &str, &mut Seen)) {
    let mut seen = Seen::default();
    let seed = std::env::var("KRONO_SEED").ok().map(|seed| seed.parse().unwrap());
    for seed in seed.map_or(1..=60, |seed: u64| seed..=seed) {
        let (workers, active) = (1 + seed % 5, 1 + seed % 3);
        let list: Vec<_> = (1..=workers).map(|lcore| lcore.to_string()).collect();
        let scr = format!(
            "{{ {scr}, workers: [ {} ], active: {}, sequencer: {{ history: {}, ring: {} }} }}",
            list.join(", "),
            active.min(workers),
            workers + 3 * seed % 40,
            4 + seed % 20,
        );
        each(seed, &scr, &mut seen);
    }
    println!("{seen:?}");
    if std::env::var_os("KRONO_SEED").is_none() {
        let Seen { joined, left, left_out, unnumbered } = seen;
        assert!(joined > 50 && left > 50 && left_out > 10 && unnumbered > 10, "{seen:?}");
    }
}

#[test]
fn a_mitigator_decides_as_on_one_core() {
    let settings = ddos::Config { sources: 64, one_in: 3, window: 20, ..Default::default() };
    runs("program: ddos", |seed, scr, seen| {
        run(seed, scr, |_| Ok(ddos::Ddos::new(&settings).unwrap()), seen);
    });
}

#[test]
fn a_monitor_decides_as_on_one_core() {
    let settings = heavy::Config { flows: 8, threshold: 100, idle: 5, ..Default::default() };
    runs("program: heavy", |seed, scr, seen| {
        run(seed, scr, |_| Ok(heavy::Heavy::new(&settings).unwrap()), seen);
    });
}

#[test]
fn a_policer_decides_as_on_one_core() {
    let settings = bucket::Config { flows: 16, rate: 20, burst: 3, ..Default::default() };
    runs("program: bucket", |seed, scr, seen| {
        run(seed, scr, |_| Ok(bucket::Policer::new(&settings).unwrap()), seen);
    });
}

#[test]
fn a_door_opens_as_on_one_core() {
    let settings = knock::Config { close_on_fin: true, ..Default::default() };
    runs("program: knock", |seed, scr, seen| {
        run(seed, scr, |_| Ok(knock::Knock::new(&settings).unwrap()), seen);
    });
}

#[test]
fn a_tracker_decides_as_on_one_core() {
    let settings = conntrack::Config { connections: 64, is_strict: false, ..Default::default() };
    runs("program: conntrack", |seed, scr, seen| {
        run(seed, scr, |_| Ok(conntrack::Conntrack::new(&settings).unwrap()), seen);
    });
}

#[test]
fn a_translator_gives_out_ports_as_on_one_core() {
    let settings = NatConfig {
        sessions: 4096,
        subscribers: 16,
        pool: vec![POOL.parse().unwrap()],
        inside: vec!["100.64.0.0/16".parse().unwrap()],
        ports: PORTS,
        ports_per_subscriber: 80,
        seed: [7; 32],
        policy: Policy {
            filtering: Filtering::EndpointIndependent,
            hairpinning: true,
            timeouts: Timeouts::default(),
            exclude: vec![],
            statics: vec![],
            firewall: Firewall::default(),
        },
    };
    let translator = |_| {
        let memory = Box::leak(carve::heap(Nat::memory_bytes(&settings)).into_boxed_slice());
        let nat = Nat::new(&settings, memory.as_mut_bytes(), Ticks(0));
        Ok(Replica(nat.expect("no static mappings")))
    };
    runs("program: nat", |seed, scr, seen| run(seed, scr, translator, seen));
}

/// A group of three of which core 2 is out, has got its packets, and is to come back.
fn with_one_out(bed: &mut Bed<heavy::Heavy>, numbers: &mut impl Iterator<Item = u32>) {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    bed.change(CoreChange::Leave(2)).unwrap();
    for number in numbers.take(60) {
        bed.arrive(Side::Outside, &frame(Side::Outside, Inside::Open, &mut random, number));
        (0..3).for_each(|core| while !bed.poll(core) {});
    }
    bed.change(CoreChange::Join(2)).unwrap();
    bed.idle();
}

fn three_monitors() -> Bed<heavy::Heavy> {
    let config = config("{ program: heavy, workers: [ 1, 2, 3 ], sequencer: { history: 8 } }");
    Bed::new(&config, true, |_| Ok(heavy::Heavy::new(&Default::default()).unwrap()))
}

#[test]
fn a_core_that_dies_while_it_copies_its_state_keeps_nobody_out() {
    let mut bed = three_monitors();
    let mut numbers = 0..;
    with_one_out(&mut bed, &mut numbers);
    // One has begun to copy, and is not heard of again.
    let wish = bed.sequencing.handover.wish().expect("a core wants a state");
    assert_eq!(wish.core, 2);
    let copying = bed.sequencing.handover.begin_to_serve(&wish).expect("nobody else does");
    let mut random = ChaCha8Rng::seed_from_u64(6);
    let mut run = |bed: &mut Bed<_>, milliseconds: u64| {
        for number in numbers.by_ref().take(100) {
            bed.now = Moment(bed.now.0 + milliseconds * 10_000);
            bed.arrive(Side::Outside, &frame(Side::Outside, Inside::Open, &mut random, number));
            (0..3).for_each(|core| while !bed.poll(core) {});
        }
        bed.idle();
    };
    run(&mut bed, 1900);
    assert_eq!(bed.sequencing.handover.wish(), Some(wish), "it is waited for");
    run(&mut bed, 200);
    (0..3).for_each(|_| run(&mut bed, 10));
    assert_eq!(bed.sequencing.handover.wish(), None);
    assert_eq!(bed.sequencing.sequencer.active(), 0b111, "another has given its state");
    let dropped = |bed: &Bed<_>, reason| {
        let counters = bed.replicas[2].carrier.counters.snapshot();
        counters.dropped(reason)
    };
    let in_vain = dropped(&bed, DropReason::ScrHandover);
    assert!(in_vain > 0, "what it had got in vain has a name");
    run(&mut bed, 10);
    assert_eq!(dropped(&bed, DropReason::ScrHandover), in_vain, "it has a state");
    assert_eq!(dropped(&bed, DropReason::ScrLate), 0);
    let [position, last] =
        [bed.replicas[2].shard.program.position(), bed.sequencing.sequencer.last()];
    assert!(last - position < 3, "it is behind packet {position} of {last}");
    drop(copying);
    bed.compare(&[]);
}

#[test]
fn under_load_frames_go_over_together_and_none_is_left_behind() {
    let mut bed = three_monitors();
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut frame = |number| frame(Side::Outside, Inside::Open, &mut random, number);
    // A burst that is full, and one that is not.
    (0..64).for_each(|number| bed.wire(Side::Outside, &frame(number)));
    bed.work();
    let polled: usize = (0..3).map(|core| bed.polled(core)).sum();
    assert_eq!(polled, 0, "each core's part waits for more");
    (64..74).for_each(|number| bed.wire(Side::Outside, &frame(number)));
    bed.work();
    let polled: usize = (0..3).map(|core| bed.polled(core)).sum();
    assert_eq!(polled, 74, "no more has come");
    (0..64).for_each(|number| bed.wire(Side::Outside, &frame(number)));
    bed.work();
    bed.idle();
    let polled: usize = (0..3).map(|core| bed.polled(core)).sum();
    assert_eq!(polled, 74 + 64);
}

#[test]
fn what_no_ring_takes_is_dropped_before_it_has_a_number_in_the_middle_of_a_burst_too() {
    let config =
        config("{ program: heavy, workers: [ 1, 2, 3 ], sequencer: { history: 99, ring: 16 } }");
    let mut bed = Bed::new(&config, true, |_| Ok(heavy::Heavy::new(&Default::default()).unwrap()));
    let mut random = ChaCha8Rng::seed_from_u64(8);
    for number in 0..64 {
        bed.wire(Side::Outside, &frame(Side::Outside, Inside::Open, &mut random, number));
    }
    bed.work();
    bed.idle();
    let counters = bed.sequencing.counters.snapshot();
    assert_eq!(counters.dropped(DropReason::ScrRingFull), 64 - 3 * 16);
    assert_eq!(bed.sequencing.sequencer.last(), 3 * 16);
    let polled: usize = (0..3).map(|core| bed.polled(core)).sum();
    assert_eq!(polled, 3 * 16);
}
