//! Cores that join, leave, are too slow and die, while packets flow: every packet gets the verdict that
//! one core would give it.

use etherparse::PacketBuilder;
use krono_core::packet::Side;
use krono_core::time::Moment;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use scr_sequencer::programs::{bucket, conntrack, ddos, heavy, knock};

use super::bed::{Bed, GATEWAY_MACS, MACS, config};
use crate::mailbox::{CoreChange, CoresRefused};
use crate::scr::house::Purpose;
use crate::scr::programs::GroupProgram;

/// A frame of some source, with its number at its end.
fn frame(side: Side, random: &mut impl Rng, number: u32) -> Vec<u8> {
    let (inside, outside) = (
        [100, 64, random.random_range(0..2), random.random_range(1..5)],
        [198, 51, 100, random.random_range(1..9)],
    );
    let (from, to) = if side == Side::Inside { (inside, outside) } else { (outside, inside) };
    let ports = [
        [1024, 1025, 1026][random.random_range(0..3)],
        [22, 100, 101, 102, 443][random.random_range(0..5)],
    ];
    let [sport, dport] = if side == Side::Inside { [ports[1], ports[0]] } else { ports };
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
        let frame = frame(side, &mut random, number);
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
