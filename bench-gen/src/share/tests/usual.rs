//! Usual frames are recognised, and all others take the full way: whichever a frame takes, the same
//! must come of it.

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
fn run(seed: u64, all_the_full_way: bool) -> (ShareSeen, Vec<[u8; 64]>) {
    let mut load = load([4, 1, 1], 40);
    load.sizes = Sizes::Fixed([64, 65, 200, 1518][draw(&mut seed.clone(), 4)]);
    load.answers_percent = [100, 50, 250][draw(&mut (seed + 1), 3)];
    let mut world = World::new(load);
    world.all_the_full_way = all_the_full_way;
    assert_right(&world.run(&open(40)));
    let mut random = seed;
    world.fault = Box::new(move |side, frame| spoil(&mut random, side, frame));
    let seen = world.run_traffic(Ways::Both, 400);
    let flows = world.shares[0].flows.iter().map(|flow| zerocopy::transmute!(*flow)).collect();
    (seen, flows)
}

#[test]
fn the_usual_way_and_the_full_way_agree() {
    let only = std::env::var("KRONO_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seeds: Vec<u64> = only.map_or_else(|| (0..100).collect(), |seed| vec![seed]);
    for seed in seeds {
        let ((usual, flows), (full, all_flows)) = (run(seed, false), run(seed, true));
        assert_eq!(usual.tally, full.tally, "KRONO_SEED={seed}");
        assert_eq!(usual.examples, full.examples, "KRONO_SEED={seed}");
        assert_eq!(flows, all_flows, "KRONO_SEED={seed}");
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
