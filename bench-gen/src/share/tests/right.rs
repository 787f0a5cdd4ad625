//! A translator that does all right: nothing is found wrong, and everything is counted.

use super::*;

#[test]
fn udp_tcp_icmp_and_mixes_come_through() {
    for protocols in [[1, 0, 0], [0, 1, 0], [0, 0, 1], [3, 2, 1]] {
        let mut world = World::new(load(protocols, 100));
        let seen = world.run(&open(100));
        assert_right(&seen);
        assert_eq!((seen.tally.opened, seen.tally.open), (100, 100), "{protocols:?}");
        let seen = world.run_traffic(Ways::Both, 1_000);
        assert_right(&seen);
        assert_eq!(seen.tally.counts.map(|way| way.sent), [1_000; 2]);
        assert_eq!(seen.flow_packets.histogram().len(), 100);
        let seen = world.run(&probe());
        assert_right(&seen);
        assert_eq!(seen.tally.counts.map(|way| way.received), [100; 2]);
        let seen = world.run(&close());
        assert_right(&seen);
        assert_eq!((seen.tally.closed, seen.tally.open), (100, 0), "{protocols:?}");
    }
}

#[test]
fn traffic_opens_what_is_not_open() {
    for protocols in [[1, 0, 0], [0, 1, 0], [0, 0, 1], [3, 2, 1]] {
        let mut world = World::new(load(protocols, 100));
        let seen = world.run_traffic(Ways::Both, 1_000);
        assert_right(&seen);
        assert_eq!((seen.tally.opened, seen.tally.open), (100, 100), "{protocols:?}");
        for ways in [Ways::Up, Ways::Down] {
            let seen = world.run_traffic(ways, 1_000);
            assert_right(&seen);
            let sent = seen.tally.counts.map(|way| way.sent);
            assert_eq!(sent, if ways == Ways::Up { [1_000, 0] } else { [0, 1_000] });
        }
    }
}

#[test]
fn popular_flows_have_more_packets() {
    let mut load = load([3, 2, 1], 100);
    load.popularity = Popularity::Zipf(1.2);
    let mut world = World::new(load);
    let seen = world.run_traffic(Ways::Both, 10_000);
    assert_right(&seen);
    // Of 100 flows the first has 28 % of the packets, answers counted.
    let most = seen.flow_packets.histogram().max();
    assert!((5_000..6_200).contains(&most), "{most}");
}

#[test]
fn flows_of_measured_lengths_end_and_others_follow() {
    let mut load = load([3, 2, 1], 100);
    (load.popularity, load.sizes) = (Popularity::Agh2015, Sizes::Agh2015);
    let mut world = World::new(load);
    let seen = world.run_traffic(Ways::Both, 20_000);
    assert_right(&seen);
    assert!(seen.tally.opened > 150, "{:?}", seen.tally);
    assert!(seen.tally.closed > 50, "{:?}", seen.tally);
    // Sizes are those of long flows.
    let counts = seen.tally.counts[0];
    assert!(counts.sent_bytes / counts.sent > 200, "{counts:?}");
}

/// Flows that are there at the beginning are met somewhere in their lives, which the long ones have
/// most of; those that follow are new, and half of these have one packet.
#[test]
fn flows_of_measured_lengths_come_and_go_as_in_the_long_run_from_the_beginning() {
    const FLOWS: u32 = 2_000;
    let mut load = load([1, 0, 0], FLOWS);
    load.popularity = Popularity::Agh2015;
    let mut world = World::new(load);
    assert_right(&world.run(&open(FLOWS)));
    let long = world.shares[0].flows.iter().filter(|flow| flow.length() > 8_192).count();
    // So many packets are in flows that are longer: 71 %.
    assert!((1_340..=1_500).contains(&long), "{long} of {FLOWS}");
    let seen = world.run_traffic(Ways::Both, 40_000);
    assert_right(&seen);
    // One for 80 packets. Were all new at the beginning, 19 of 20 would have ended by now.
    assert!((300..=800).contains(&seen.tally.closed), "{:?}", seen.tally);
}

#[test]
fn a_mix_of_sizes_is_sent_as_it_weighs() {
    // Many flows, since those of TCP draw but once.
    let mut load = load([1, 1, 1], 1000);
    load.sizes = Sizes::Mix(vec![(64, 7), (594, 4), (1518, 1)]);
    let mut world = World::new(load);
    assert_right(&world.run(&open(1000)));
    let seen = world.run_traffic(Ways::Both, 20_000);
    assert_right(&seen);
    // 362 bytes on average, and a little more where TCP's shortest is longer.
    let mean = seen.tally.counts[0].sent_bytes / 20_000;
    assert!((340..=395).contains(&mean), "{mean}");
}

/// A first packet of UDP, and a SYN, which has no stamp and is no packet that could be lost.
#[test]
fn what_a_port_does_not_take_was_not_sent() {
    for protocols in [[1, 0, 0], [0, 1, 0]] {
        let mut share = Share::new(&setup(load(protocols, 4))).unwrap();
        share.begin(&open(4), 1);
        let mut buffer = [0; frame::FRAME_MAX];
        let mut next = |share: &mut Share| share.next(2, &mut buffer);
        let (side, len) = next(&mut share).unwrap();
        let before = *share.tally();
        let (_, again) = next(&mut share).unwrap();
        assert_eq!(again, len);
        share.unsent(side, &buffer[..len]);
        let after = *share.tally();
        assert_eq!(after.counts[0].unsent, 1);
        let of =
            |tally: &Tally| (tally.counts[0].sent, tally.counts[0].sent_bytes, tally.control_sent);
        assert_eq!(of(&after), of(&before), "{protocols:?}");
    }
}

#[test]
fn flows_that_churn_replaces_at_once_are_no_failures() {
    for protocols in [[1, 0, 0], [0, 1, 0]] {
        let mut load = load(protocols, 4);
        load.churn = Some(Churn { arrivals_per_s: 1e6, lifetime: Duration::from_micros(4) });
        let mut share = Share::new(&setup(load)).unwrap();
        share.begin(&traffic(Ways::Both), 1);
        let mut buffer = [0; frame::FRAME_MAX];
        for us in 1..100 {
            let sent = share.next(us * 1_000, &mut buffer);
            assert!(sent.is_some());
        }
        assert_eq!(share.tally().not_opened, 0, "{protocols:?}");
        // Those that nobody answered for three seconds are.
        for ns in 0..4 {
            share.next(3_000_000_000 + ns, &mut buffer);
        }
        assert!(share.tally().not_opened > 0, "{protocols:?}");
    }
}

#[test]
fn nothing_allocates_between_begin_and_finish() {
    let mut load = load([3, 2, 1], 64);
    load.churn = Some(Churn { arrivals_per_s: 10_000.0, lifetime: Duration::from_millis(6) });
    let mut share = Share::new(&setup(load)).unwrap();
    let [inside, outside] = setup(super::load([1, 0, 0], 1)).links;
    share.set_link(Side::Inside, &LinkHeader { destination: outside.source, ..inside });
    share.set_link(Side::Outside, &LinkHeader { destination: inside.source, ..outside });
    for stage in [open(64), traffic(Ways::Both), probe(), close()] {
        share.begin(&stage, 1);
        let allocated = allocation_counter::measure(|| {
            let mut buffer = [0; 2_000];
            for step in 0..1_000 {
                let now = step * 10_000;
                let Some((mut side, mut len)) = share.next(now, &mut buffer) else { continue };
                side = side.opposite();
                while let Taken::Answer(more) = share.take(side, &mut buffer[..len], now + 100) {
                    (side, len) = (side.opposite(), more);
                }
                // A broken one as well.
                buffer[len - 1] ^= 1;
                share.take(side, &mut buffer[..len], now + 200);
            }
            share.look();
        });
        assert_eq!(allocated.count_total, 0, "{stage:?}");
        assert!(share.finish().tally.wrong[Wrong::Checksum as usize] > 0);
    }
}
