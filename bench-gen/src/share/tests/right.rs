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
