//! Usual frames are recognised and taken in runs, and all others take the full way: whichever a frame
//! takes, the same must come of it.

use krono_core::frame::BURST_MAX;

use super::nat::Packet;
use super::*;

/// Numbers below `below`.
fn draw(random: &mut u64, below: usize) -> usize {
    ((u128::from(mix(random)) * below as u128) >> 64) as usize
}

/// Every other frame or so is spoilt in one of many ways.
fn spoil(random: &mut u64, side: Side, mut frame: Vec<u8>) -> Vec<(Side, Vec<u8>)> {
    let (len, bit) = (frame.len(), 1 << draw(random, 8));
    match draw(random, 16) {
        // Somewhere, the link header included.
        0 | 1 => frame[draw(random, len)] ^= bit,
        // In a header behind that.
        2 | 3 => frame[14 + draw(random, 28)] ^= bit,
        // In the stamp or behind it, with checksums that are right.
        4 | 5 => frame = summed(frame, 42 + draw(random, len - 42), bit),
        // In addresses or ports, likewise.
        6 => frame = summed(frame, 26 + draw(random, 12), bit),
        // In what the IP header says behind the lengths, likewise.
        11 => frame = summed(frame, 18 + draw(random, 6), bit),
        7 => frame.truncate(draw(random, len)),
        8 => frame.resize(len + draw(random, 9), 0),
        9 => return vec![(side, frame.clone()), (side, frame)],
        10 => return vec![],
        _ => {}
    }
    vec![(side, frame)]
}

fn summed(mut frame: Vec<u8>, at: usize, bit: u8) -> Vec<u8> {
    frame[at] ^= bit;
    let mut packet = Packet(frame);
    packet.sum();
    packet.0
}

/// All that came of it: what was counted, the examples, and the flows.
fn run(seed: u64, by: By) -> (ShareSeen, Vec<[u8; 64]>) {
    let mut load = load([4, 1, 1], 40);
    load.sizes = Sizes::Fixed([64, 65, 200, 1518][draw(&mut seed.clone(), 4)]);
    load.answers_percent = [100, 50, 250][draw(&mut (seed + 1), 3)];
    let mut world = World::new(load);
    world.by = by;
    assert_right(&world.run(&open(40)));
    let mut random = seed;
    world.fault = Box::new(move |side, frame| spoil(&mut random, side, frame));
    let seen = world.run_traffic(Ways::Both, 400);
    let flows = world.shares[0].flows.iter().map(|flow| zerocopy::transmute!(*flow)).collect();
    (seen, flows)
}

/// Latency and its variation, both ways.
fn histograms(seen: &ShareSeen) -> impl Iterator<Item = hdrhistogram::Histogram<u64>> {
    seen.latency_ns.iter().chain(&seen.variation_ns).map(Steps::histogram)
}

#[test]
fn all_ways_agree() {
    let only = std::env::var("KRONO_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seeds: Vec<u64> = only.map_or_else(|| (0..100).collect(), |seed| vec![seed]);
    for seed in seeds {
        let (usual, flows) = run(seed, By::One);
        for by in [By::FullWay, By::Run] {
            let (other, other_flows) = run(seed, by);
            assert_eq!(usual.tally, other.tally, "KRONO_SEED={seed} {by:?}");
            assert_eq!(usual.examples, other.examples, "KRONO_SEED={seed} {by:?}");
            assert_eq!(flows, other_flows, "KRONO_SEED={seed} {by:?}");
            for (usual, other) in histograms(&usual).zip(histograms(&other)) {
                assert_eq!(usual, other, "KRONO_SEED={seed} {by:?}");
            }
        }
        let wrong = usual.tally.wrong;
        assert!(wrong[Wrong::Checksum as usize] > 0 && wrong[Wrong::Corrupted as usize] > 0);
        let received: Vec<_> = usual.tally.counts.iter().map(|counts| counts.received).collect();
        assert!(received.iter().all(|received| *received > 20), "KRONO_SEED={seed}: {received:?}");
    }
}

/// Else the test above would compare the full way with itself.
#[test]
fn frames_of_ours_are_recognised() {
    for (len, tag, recognised) in [(64, None, true), (1518, None, true), (64, Some(7), false)] {
        let mut setup = setup(load([1, 0, 0], 10));
        setup.load.sizes = Sizes::Fixed(len);
        setup.links =
            setup.links.map(|link| LinkHeader { source: link.destination, vlan: tag, ..link });
        let mut share = Share::new(&setup).unwrap();
        share.begin(&traffic(Ways::Both), 1);
        let mut buffer = [0; FRAME_MAX + 4];
        let (side, len) = share.next(2, &mut buffer).unwrap();
        assert_eq!(share.frames.recognise(side, &buffer[..len]).is_some(), recognised);
    }
}

/// A share whose ends are each other's next hop, with all its flows open and traffic both ways begun.
fn opened(load: Load) -> Share {
    let mut setup = setup(load);
    let [inside, outside] = setup.links;
    setup.links[0].destination = outside.source;
    setup.links[1].destination = inside.source;
    let mut share = Share::new(&setup).unwrap();
    share.begin(&open(u32::MAX), 1);
    let mut buffer = [0; FRAME_MAX];
    while let Some((mut side, mut len)) = share.next(2, &mut buffer) {
        side = side.opposite();
        while let Taken::Answer(more) = share.take(side, &mut buffer[..len], 3) {
            (side, len) = (side.opposite(), more);
        }
    }
    share.finish();
    share.begin(&traffic(Ways::Both), 1_000);
    share
}

/// Whole bursts, some of whose frames are not usual, come to what their frames come to one by one.
#[test]
fn a_run_is_its_packets_one_by_one() {
    let (mut made, mut stopped) = (0, 0);
    for seed in 0..30_u64 {
        let (mut load, mut random) = (load([30, 1, 1], 77), seed);
        load.sizes = Sizes::Fixed([64, 200][draw(&mut random, 2)]);
        load.popularity = [Popularity::Uniform, Popularity::Zipf(1.0)][draw(&mut random, 2)];
        let mut shares = [opened(load.clone()), opened(load)];
        for now in (2_000..400_000).step_by(3_000) {
            let most = 1 + draw(&mut random, BURST_MAX);
            let mut burst = vec![MemFrame::new(&[]); most];
            let count = shares[0].next_run(now, &mut burst[..], most);
            for frame in &burst[..count] {
                let mut buffer = [0; FRAME_MAX];
                let (side, len) = shares[1].next(now, &mut buffer).unwrap();
                assert_eq!((side, &buffer[..len]), (Side::Inside, frame.bytes()), "{seed}");
            }
            burst.truncate(count);
            (made, stopped) = (made + count, stopped + usize::from(count < most));
            for share in &mut shares {
                // What a run stops at goes lost here.
                share.next(now, &mut [0; FRAME_MAX]);
            }
            for side in [Side::Outside, Side::Inside] {
                burst = taken_alike(&mut shares, side, burst, now + 1_000, &mut random);
            }
        }
        let [one, other] = shares.map(|mut share| {
            let flows: Vec<[u8; 64]> =
                share.flows.iter().map(|flow| zerocopy::transmute!(*flow)).collect();
            (share.finish(), flows)
        });
        assert_eq!((one.0.tally, &one.1), (other.0.tally, &other.1), "{seed}");
        assert!(histograms(&one.0).eq(histograms(&other.0)), "{seed}");
    }
    assert!(made > 10_000 && stopped > 100, "{made} {stopped}");
}

/// One share takes a burst by runs, the other one by one; the answers, which are alike.
fn taken_alike(
    shares: &mut [Share; 2],
    side: Side,
    mut burst: Vec<MemFrame>,
    now: u64,
    random: &mut u64,
) -> Vec<MemFrame> {
    for frame in &mut burst {
        if draw(random, 20) == 0 {
            let bytes = frame.as_frame().into_bytes();
            bytes[draw(random, bytes.len())] ^= 1;
        }
    }
    let (mut at, mut answers, mut single, mut alike) = (0, 0, burst.clone(), Vec::new());
    while at < burst.len() {
        at = shares[0].take_run(side, &mut burst[..], at, now, &mut answers);
        if at < burst.len() {
            let taken = shares[0].take_any(side, burst[at].as_frame().into_bytes(), now);
            answers |= u64::from(matches!(taken, Taken::Answer(_))) << at;
            at += 1;
        }
    }
    for (at, (frame, other)) in burst.into_iter().zip(&mut single).enumerate() {
        let taken = shares[1].take(side, other.as_frame().into_bytes(), now);
        assert_eq!(matches!(taken, Taken::Answer(_)), answers >> at & 1 == 1);
        assert_eq!(frame.bytes(), other.bytes());
        alike.extend((answers >> at & 1 == 1).then_some(frame));
    }
    alike
}
