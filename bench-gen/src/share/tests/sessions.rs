//! Sessions over time: repetition, churn, silence, generations, several shares.

use std::collections::HashSet;

use proptest::prelude::*;

use super::super::identity::Drawn;
use super::*;
use crate::bench::Way;

/// Lets the translator drop what `drops` says, by the side that it comes out of and time of the
/// n-th frame.
fn dropping(world: &mut World, mut drops: impl FnMut(Side, u32) -> bool + 'static) {
    let mut n = 0;
    world.fault = Box::new(move |side, frame| {
        n += 1;
        if drops(side, n) { vec![] } else { vec![(side, frame)] }
    });
}

#[test]
fn first_packets_are_repeated_and_then_given_up() {
    for protocols in [[1, 0, 0], [0, 1, 0], [0, 0, 1]] {
        let mut world = World::new(load(protocols, 10));
        dropping(&mut world, |_, n| n <= 15);
        let seen = world.run(&open(10));
        assert_eq!((seen.tally.opened, seen.tally.not_opened), (10, 0));
        assert_eq!(seen.tally.repeated, 15);

        let mut world = World::new(load(protocols, 10));
        dropping(&mut world, |_, _| true);
        let seen = world.run(&open(10));
        assert_eq!((seen.tally.opened, seen.tally.not_opened), (0, 10));
        assert_eq!(seen.tally.repeated, 20);
        // The same places are tried again, with other endpoints.
        let before: Vec<Who> = (0..10).map(|flow| world.shares[0].who(flow)).collect();
        world.fault = Box::new(|side, frame| vec![(side, frame)]);
        let seen = world.run(&open(10));
        assert_right(&seen);
        assert_eq!((seen.tally.opened, seen.tally.open), (10, 10));
        assert!((0..10).all(|flow| world.shares[0].who(flow) != before[flow as usize]));
    }
}

#[test]
fn fins_are_repeated() {
    let mut world = World::new(load([0, 1, 0], 10));
    assert_right(&world.run(&open(10)));
    dropping(&mut world, |_, n| n <= 5);
    let seen = world.run(&close());
    assert_eq!((seen.tally.closed, seen.tally.open, seen.tally.repeated), (10, 0, 5));
}

#[test]
fn churn_replaces_the_oldest_with_other_endpoints() {
    for protocols in [[1, 0, 0], [0, 1, 0], [0, 0, 1], [3, 2, 1]] {
        let mut load = load(protocols, 50);
        // One each 100 µs, which is every tenth call or fewer.
        load.churn = Some(Churn { arrivals_per_s: 10_000.0, lifetime: Duration::from_millis(5) });
        let mut world = World::new(load);
        assert_right(&world.run(&open(50)));
        let before: Vec<Who> = (0..50).map(|flow| world.shares[0].who(flow)).collect();
        let seen = world.run_traffic(Ways::Both, 2_000);
        assert_right(&seen);
        let tally = seen.tally;
        assert!(tally.opened > 180, "{tally:?}");
        assert!(tally.opened.abs_diff(tally.closed) <= 2, "{tally:?}");
        assert!((0..50).all(|flow| {
            let now = world.shares[0].who(flow);
            now.subscriber.port != before[flow as usize].subscriber.port
        }));
    }
}

#[test]
fn sessions_that_are_forgotten_come_again_with_other_ports() {
    let mut world = World::new(load([1, 1, 1], 30));
    let mut seen_before = HashSet::new();
    for _ in 0..5 {
        assert_right(&world.run(&open(30)));
        for flow in 0..30 {
            assert!(seen_before.insert(world.shares[0].who(flow).subscriber));
        }
        let seen = world.run(&Stage::Forget);
        assert_eq!(seen.tally.open, 0);
    }
}

#[test]
fn an_outage_is_as_long_as_it_was() {
    for protocols in [[1, 0, 0], [0, 1, 0], [0, 0, 1]] {
        let mut world = World::new(load(protocols, 10));
        assert_right(&world.run(&open(10)));
        world.begin(&traffic(Ways::Both));
        world.send(5_000);
        world.fault = Box::new(|_, _| vec![]);
        let start = world.now_ns;
        world.send(40_000);
        let outage_ms = (world.now_ns - start) / 1_000_000;
        assert!(outage_ms >= 400);
        assert_eq!(world.shares[0].look().tally.silent, 10);
        world.fault = Box::new(|side, frame| vec![(side, frame)]);
        world.send(5_000);
        assert_eq!(world.shares[0].look().tally.silent, 0);
        let seen = world.finish();
        let outage = seen.outage_ms.histogram();
        assert_eq!(outage.len(), 10);
        assert!(outage.min().abs_diff(outage_ms) <= 4, "{} {outage_ms}", outage.min());
        assert!(outage.max().abs_diff(outage_ms) <= 4, "{} {outage_ms}", outage.max());
        assert_eq!(seen.sessions_lost, 0);
        // Without an outage there is none.
        let seen = world.run_traffic(Ways::Both, 1_000);
        assert_eq!(seen.outage_ms.histogram().max(), 0);
    }
}

#[test]
fn sessions_that_stay_silent_are_lost() {
    let mut world = World::new(load([1, 0, 0], 10));
    assert_right(&world.run(&open(10)));
    let third = world.shares[0].who(2).subscriber;
    let inside = world.nat.public_of(17, third);
    world.fault = Box::new(move |side, frame| {
        let from = nat::Packet(frame.clone()).endpoint(nat::End::From);
        if from == inside { vec![] } else { vec![(side, frame)] }
    });
    let seen = world.run_traffic(Ways::Both, 150_000);
    assert_eq!(seen.sessions_lost, 1);
    assert_eq!(seen.tally.wrong, [0; Wrong::COUNT]);
    let seen = world.run(&probe());
    assert_eq!((seen.sessions_lost, seen.tally.open), (1, 9));
}

#[test]
fn a_mapping_may_change_when_it_may_have_timed_out() {
    for (wait_s, second) in [(119, true), (121, false)] {
        let mut world = World::new(load([1, 0, 0], 10));
        assert_right(&world.run(&open(10)));
        world.nat.forget();
        world.now_ns += wait_s * 1_000_000_000;
        let seen = world.run_traffic(Ways::Both, 100);
        let found = seen.tally.wrong[Wrong::SecondEndpoint as usize];
        assert_eq!((found, seen.tally.remapped), if second { (10, 0) } else { (0, 10) });
    }
}

#[test]
fn mappings_are_independent_of_the_server() {
    let mut setup = setup(load([1, 1, 1], 40));
    setup.flows_per_endpoint = 4;
    let mut world = World::of(&[setup.clone()]);
    assert_right(&world.run(&open(40)));
    let subscribers: HashSet<_> =
        (0..40).map(|flow| world.shares[0].who(flow).subscriber).collect();
    assert_eq!(subscribers.len(), 10);
    assert_right(&world.run_traffic(Ways::Both, 1_000));

    let mut world = World::of(&[setup]);
    world.nat.by_destination = true;
    world.begin(&open(40));
    world.send(40);
    let seen = world.finish();
    assert_eq!(seen.tally.wrong[Wrong::SecondEndpoint as usize], 30, "{:?}", seen.examples);
}

#[test]
fn shares_hand_over_what_is_not_theirs() {
    let setups: Vec<ShareSetup> =
        (0..3).map(|number| ShareSetup { number, of: 3, ..setup(load([3, 2, 1], 100)) }).collect();
    let mut world = World::of(&setups);
    assert_eq!(setups.iter().map(Share::flows_of).sum::<u32>(), 100);
    for stage in [open(100), probe(), close()] {
        assert_right(&world.run(&stage));
    }
    assert_right(&world.run_traffic(Ways::Both, 1_000));
}

#[test]
fn answers_are_as_many_as_was_said() {
    for (percent, answers) in [(0, 0), (50, 500), (100, 1_000), (250, 2_500)] {
        for protocols in [[1, 0, 0], [0, 1, 0]] {
            let mut load = load(protocols, 10);
            load.answers_percent = percent;
            let mut world = World::new(load);
            assert_right(&world.run(&open(10)));
            world.begin(&traffic(Ways::Both));
            let mut buffer = [0; 200];
            while world.shares[0].seen.tally.counts[0].sent < 1_000
                || world.shares[0].seen.tally.counts[1].sent < answers
            {
                let (side, len) = world.shares[0].next(world.now_ns, &mut buffer).unwrap();
                world.through_nat(side, buffer[..len].to_vec());
                world.deliver();
                world.now_ns += 1_000;
            }
            let seen = world.finish();
            assert_right(&seen);
            assert_eq!(seen.tally.counts.map(|way| way.sent), [1_000, answers]);
        }
    }
}

#[test]
fn connections_go_on_when_the_frame_size_changes() {
    let mut world = World::new(load([0, 1, 0], 10));
    assert_right(&world.run(&open(10)));
    for len in [64, 1518, 128, 9000, 88] {
        let stage = match traffic(Ways::Both) {
            Stage::Traffic { rate, end, ways, .. } => {
                Stage::Traffic { rate, end, ways, sizes: Some(Sizes::Fixed(len)) }
            }
            _ => unreachable!(),
        };
        world.begin(&stage);
        world.send(100);
        let seen = world.finish();
        assert_right(&seen);
        assert_eq!(seen.tally.counts[0].sent_bytes, 100 * u64::from(len.max(88)));
    }
    assert_right(&world.run(&close()));
}

#[test]
fn sequence_numbers_wrap() {
    for protocols in [[1, 0, 0], [0, 1, 0], [0, 0, 1]] {
        let mut world = World::new(load(protocols, 2));
        assert_right(&world.run(&open(2)));
        for flow in world.shares[0].flows.iter_mut() {
            flow.renumber(Way::Up, u32::MAX - 20);
            flow.renumber(Way::Down, u32::MAX - 30);
        }
        assert_right(&world.run_traffic(Ways::Both, 100));
    }
}

#[test]
fn the_time_in_stamps_wraps() {
    let mut world = World::new(load([1, 0, 0], 10));
    world.now_ns = (1 << 35) - 500_000;
    assert_right(&world.run(&open(10)));
    let seen = world.run_traffic(Ways::Both, 200);
    assert!(world.now_ns > (1 << 35) + 500_000);
    assert_right(&seen);
    for latency in &seen.latency_ns {
        let latency = latency.histogram();
        assert_eq!(latency.len(), 200);
        assert!((980..1_030).contains(&latency.min()), "{}", latency.min());
        assert!((980..2_060).contains(&latency.max()), "{}", latency.max());
    }
}

#[test]
fn a_setup_that_cannot_be_is_refused() {
    let refused = |change: fn(&mut ShareSetup)| {
        let mut setup = setup(load([1, 0, 0], 100));
        change(&mut setup);
        Share::new(&setup).err().unwrap()
    };
    assert!(refused(|s| s.of = 65).contains("lcores"));
    assert!(refused(|s| s.load.flows = 0).contains("flows"));
    assert!(refused(|s| s.load.subscriber_count = 0).contains("subscribers"));
    assert!(refused(|s| s.load.sports = 1..=6).contains("7 flows of a subscriber"));
    assert!(refused(|s| s.load.protocols = [0; 3]).contains("protocol"));
    assert!(refused(|s| s.load.servers = "2001:db8::/64".parse().unwrap()).contains("IPv6"));
}

proptest! {
    /// No two flows of any shares and generations have one 5-tuple; subscribers are the share's.
    #[test]
    fn five_tuples_differ(
        seed: u64,
        flows in 1_u32..400,
        subscriber_count in 8_u32..50,
        of in 1_u8..4,
        flows_per_endpoint in 1_u32..4,
        sports in 100_u16..3_000,
        protocols in [0_u32..5, 0..5, 1..5],
    ) {
        let flows = flows.max(of.into());
        let (mut tuples, mut owners) = (HashSet::new(), std::collections::HashMap::new());
        let mut endpoints = std::collections::HashMap::new();
        for number in 0..of {
            let load = Load {
                subscriber_count,
                sports: 1000..=1000 + sports,
                ..load(protocols, flows)
            };
            let setup = ShareSetup { number, of, seed, flows_per_endpoint, ..setup(load) };
            let share = Share::new(&setup).unwrap();
            for (flow, generation) in
                (0..Share::flows_of(&setup)).flat_map(|flow| [0, 1].map(|g| (flow, g)))
            {
                let who = share.identities.ends(flow, generation).who();
                let tuple = (who.subscriber, who.server, who.protocol);
                prop_assert!(tuples.insert(tuple) || sports < 400, "{:?}", who);
                let host = who.subscriber.addr.to_bits() - 0x6440_0001;
                prop_assert!(host < subscriber_count);
                prop_assert_eq!(*owners.entry(host).or_insert(number), number);
                prop_assert!((1000..=1000 + sports).contains(&who.subscriber.port));
                let class = (number, flow / flows_per_endpoint, generation);
                let same = *endpoints.entry((who.subscriber, generation)).or_insert(class) == class;
                prop_assert!(same, "{:?}", who);
            }
            // As they are drawn for the path.
            let some: [u32; 16] = std::array::from_fn(|n| n as u32 % Share::flows_of(&setup));
            let generations = std::array::from_fn(|n| n as u16 / 5);
            let mut drawn = Drawn::NOBODY;
            share.identities.draw(&some, &generations, &mut drawn);
            for (at, (flow, generation)) in some.into_iter().zip(generations).enumerate() {
                prop_assert_eq!(drawn.ends(at), share.identities.ends(flow, generation));
            }
        }
    }
}
