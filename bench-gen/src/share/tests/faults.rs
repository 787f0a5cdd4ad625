//! Each fault on purpose is found, and has its name.

use std::collections::HashMap;

use krono_core::packet::Endpoint;

use super::nat::{End, Packet};
use super::*;
use crate::bench::Way;

/// All three protocols.
const EACH: [[u32; 3]; 3] = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];

impl World {
    /// A world with 10 open flows.
    fn opened(protocols: [u32; 3]) -> World {
        let mut world = World::new(load(protocols, 10));
        assert_right(&world.run(&open(10)));
        world
    }

    /// This is done to the n-th frame that comes out by a side, once.
    fn spoil(
        &mut self,
        side: Side,
        mut n: u32,
        spoil: impl FnOnce(Vec<u8>) -> Vec<(Side, Vec<u8>)> + 'static,
    ) {
        let mut spoil = Some(spoil);
        self.fault = Box::new(move |out, frame| {
            if out == side && n == 0 && spoil.is_some() {
                return spoil.take().map_or_else(Vec::new, |spoil| spoil(frame));
            }
            n = n.saturating_sub(u32::from(out == side));
            vec![(out, frame)]
        });
    }
}

/// The side that packets of a direction come out of.
fn out_of(way: Way) -> Side {
    if way == Way::Up { Side::Outside } else { Side::Inside }
}

fn found(seen: &ShareSeen, wrong: Wrong) -> u64 {
    let total: u64 = seen.tally.wrong.iter().sum();
    assert_eq!(total, seen.tally.wrong[wrong as usize], "{:?}", seen.examples);
    total
}

#[test]
fn dropped_packets_are_lost() {
    for (protocols, way) in EACH.into_iter().flat_map(|p| [(p, Way::Up), (p, Way::Down)]) {
        let mut world = World::opened(protocols);
        world.spoil(out_of(way), 25, |_| vec![]);
        let seen = world.run_traffic(Ways::Both, 100);
        let lost = seen.tally.counts.map(|counts| counts.lost);
        assert_eq!(lost, if way == Way::Up { [1, 0] } else { [0, 1] });
        assert_eq!(seen.tally.wrong, [0; Wrong::COUNT]);
    }
}

#[test]
fn doubled_packets_are_counted_once_and_as_duplicates() {
    for (protocols, way) in EACH.into_iter().flat_map(|p| [(p, Way::Up), (p, Way::Down)]) {
        let mut world = World::opened(protocols);
        let side = out_of(way);
        world.spoil(side, 25, move |frame| vec![(side, frame.clone()), (side, frame)]);
        let seen = world.run_traffic(Ways::Both, 100);
        let duplicated = seen.tally.counts.map(|counts| counts.duplicated);
        assert_eq!(duplicated, if way == Way::Up { [1, 0] } else { [0, 1] });
        assert_eq!(seen.tally.counts.map(|counts| counts.received), [100; 2]);
    }
}

#[test]
fn overtaken_packets_are_reordered() {
    for (protocols, way) in EACH.into_iter().flat_map(|p| [(p, Way::Up), (p, Way::Down)]) {
        let mut world = World::opened(protocols);
        let (side, mut held, mut n) = (out_of(way), None, 0);
        world.fault = Box::new(move |out, frame| {
            if out != side {
                return vec![(out, frame)];
            }
            n += 1;
            // The flow's next packet comes 10 packets later.
            match n {
                25 => {
                    held = Some(frame);
                    vec![]
                }
                35 => vec![(out, frame), (out, held.take().unwrap())],
                _ => vec![(out, frame)],
            }
        });
        let seen = world.run_traffic(Ways::Both, 100);
        let reordered = seen.tally.counts.map(|counts| counts.reordered);
        assert_eq!(reordered, if way == Way::Up { [1, 0] } else { [0, 1] });
        assert_eq!(seen.tally.counts.map(|counts| counts.lost), [0; 2]);
    }
}

#[test]
fn packets_to_other_ends_are_found() {
    let cases = [(Way::Down, Wrong::Subscriber), (Way::Up, Wrong::Server)];
    for (protocols, (way, wrong)) in EACH.into_iter().flat_map(|p| cases.map(|case| (p, case))) {
        let mut world = World::opened(protocols);
        let other = match way {
            Way::Up => Endpoint::new([198, 18, 1, 1].into(), 80),
            Way::Down => world.shares[0].who(3).subscriber,
        };
        world.spoil(out_of(way), 25, move |frame| {
            let mut packet = Packet(frame);
            packet.set_endpoint(End::To, other);
            packet.sum();
            vec![(out_of(way), packet.0)]
        });
        let seen = world.run_traffic(Ways::Both, 100);
        assert_eq!(found(&seen, wrong), 1);
        assert_eq!(seen.tally.counts[way as usize].lost, 1);
        let named = format!("{}: a packet from", wrong.name());
        assert!(seen.examples[0].starts_with(&named), "{:?}", seen.examples);
    }
}

#[test]
fn a_second_endpoint_of_a_flow_is_found() {
    for protocols in EACH {
        let mut world = World::opened(protocols);
        world.spoil(Side::Outside, 25, |frame| {
            let mut packet = Packet(frame);
            packet.set_endpoint(End::From, Endpoint::new([203, 0, 114, 9].into(), 9));
            packet.sum();
            vec![(Side::Outside, packet.0)]
        });
        let seen = world.run_traffic(Ways::Up, 100);
        // There, and back again.
        assert_eq!(found(&seen, Wrong::SecondEndpoint), 2);
    }
}

#[test]
fn an_endpoint_of_two_subscribers_is_found() {
    for protocols in EACH {
        let mut world = World::new(load(protocols, 10));
        let (third, mut endpoint_of) = (world.shares[0].who(2).subscriber, HashMap::new());
        let seventh = world.shares[0].who(6).subscriber;
        let inside: HashMap<_, _> = [(third, ()), (seventh, ())].into();
        // The seventh gets what the third has.
        world.nat.alias = Box::new(move |from, public| {
            if inside.contains_key(&from) {
                return *endpoint_of.entry(()).or_insert(public);
            }
            public
        });
        world.begin(&open(10));
        world.send(20);
        let seen = world.finish();
        assert_eq!(seen.tally.wrong[Wrong::SharedEndpoint as usize], 1, "{:?}", seen.examples);
    }
}

#[test]
fn a_packet_that_comes_out_on_its_own_side_is_found() {
    for (protocols, way) in EACH.into_iter().flat_map(|p| [(p, Way::Up), (p, Way::Down)]) {
        let mut world = World::opened(protocols);
        let side = out_of(way).opposite();
        let own = setup(load(protocols, 10)).links[side as usize].source;
        world.spoil(out_of(way), 25, move |mut frame| {
            frame[..6].copy_from_slice(&own.0);
            vec![(side, frame)]
        });
        let seen = world.run_traffic(Ways::Both, 100);
        assert_eq!(found(&seen, Wrong::Side), 1);
    }
}

#[test]
fn a_stamp_in_another_flow_s_packet_is_found() {
    for protocols in EACH {
        let mut world = World::opened(protocols);
        let mut held: Option<Vec<u8>> = None;
        let mut n = 0;
        world.fault = Box::new(move |side, mut frame| {
            n += u32::from(side == Side::Outside);
            if n == 25 {
                held.get_or_insert(frame.clone());
            } else if let (26, Some(other)) = (n, held.take()) {
                let at = frame.len() - stamp::STAMP_LEN;
                frame[at..].copy_from_slice(&other[at..]);
                let mut packet = Packet(frame);
                packet.sum();
                frame = packet.0;
            }
            vec![(side, frame)]
        });
        let seen = world.run_traffic(Ways::Up, 100);
        assert_eq!(seen.tally.wrong.iter().sum::<u64>(), 1, "{:?}", seen.examples);
        assert_eq!(seen.tally.counts[0].lost, 1);
    }
}

/// Bytes that may be changed on the way if the checksums follow: of the link the source address,
/// which nobody is known by, then TOS, identification, flags, TTL.
const FREE: [usize; 12] = [6, 7, 8, 9, 10, 11, 15, 18, 19, 20, 21, 22];
/// Acknowledgement, window and urgent pointer.
const FREE_TCP: [usize; 8] = [42, 43, 44, 45, 48, 49, 52, 53];

#[test]
fn no_flipped_bit_passes() {
    for (protocols, way) in EACH.into_iter().flat_map(|p| [(p, Way::Up), (p, Way::Down)]) {
        for len in [64, 130] {
            let mut load = load(protocols, 10);
            load.sizes = Sizes::Fixed(len);
            let mut world = World::new(load);
            assert_right(&world.run(&open(10)));
            let bytes = if protocols[1] > 0 { usize::from(len).max(88) } else { len.into() } - 4;
            for (bit, mend) in (0..bytes * 8).flat_map(|bit| [(bit, false), (bit, true)]) {
                flip(&mut world, way, bit, mend, protocols[1] > 0);
            }
        }
    }
}

fn flip(world: &mut World, way: Way, bit: usize, mend: bool, tcp: bool) {
    let (at, side) = (bit / 8, out_of(way));
    let link = (6..12).contains(&at);
    let free = link || mend && (FREE.contains(&at) || tcp && FREE_TCP.contains(&at));
    let transport_sum = matches!((tcp, at), (false, 36 | 37 | 40 | 41) | (true, 50 | 51));
    if free || mend && (transport_sum || matches!(at, 12..=14 | 16 | 17 | 23..=25 | 38 | 39)) {
        // Free to change, or what mending would undo, or makes the packet another protocol's.
        return;
    }
    world.spoil(side, 5, move |mut frame| {
        frame[at] ^= 1 << (bit % 8);
        let mut packet = Packet(frame);
        if mend {
            packet.sum();
        }
        vec![(side, packet.0)]
    });
    let seen = world.run_traffic(Ways::Both, 20);
    let counts = seen.tally.counts[way as usize];
    let wrong: u64 = seen.tally.wrong.iter().sum();
    let others: u64 = seen.tally.others.by_name().iter().map(|(_, count)| count).sum();
    let noticed = wrong > 0 || others > 0 && counts.lost == 1;
    assert!(noticed, "byte {at}, bit {bit}, mended: {mend}, {way:?}: {seen:?}");
    // The link header is not the checksums' matter.
    if at >= 14 && !mend {
        assert_eq!(seen.tally.wrong[Wrong::Checksum as usize], 1, "byte {at}: {:?}", seen.tally);
        assert_eq!(counts.bad_checksums, 1);
    }
    // A changed source was learnt; let the right one be learnt again.
    world.fault = Box::new(|side, frame| vec![(side, frame)]);
    world.run_traffic(Ways::Both, 10);
}

#[test]
fn payloads_changed_with_their_checksum_are_corrupted() {
    for protocols in EACH {
        let mut load = load(protocols, 10);
        load.sizes = Sizes::Fixed(600);
        let mut world = World::new(load);
        assert_right(&world.run(&open(10)));
        world.spoil(Side::Inside, 7, |mut frame| {
            frame[500] ^= 4;
            let mut packet = Packet(frame);
            packet.sum();
            vec![(Side::Inside, packet.0)]
        });
        let seen = world.run_traffic(Ways::Both, 100);
        assert_eq!(found(&seen, Wrong::Corrupted), 1);
        assert_eq!((seen.tally.counts[1].corrupted, seen.tally.counts[1].lost), (1, 1));
    }
}

/// What is seen of a packet that comes when there have been so many generations more.
fn after_generations(protocols: [u32; 3], generations: u32) -> ShareSeen {
    let mut world = World::opened(protocols);
    let mut buffer = [0; 200];
    world.begin(&traffic(Ways::Both));
    let (side, len) = world.shares[0].next(world.now_ns, &mut buffer).unwrap();
    let (out, mut frame) = world.nat.translate(side, buffer[..len].to_vec()).unwrap();
    (0..generations).for_each(|_| world.shares[0].renew(0));
    assert_eq!(world.shares[0].take(out, &mut frame, world.now_ns), Taken::Done);
    world.finish()
}

#[test]
fn packets_of_an_earlier_generation_are_late_and_not_wrong() {
    for protocols in EACH {
        let seen = after_generations(protocols, 1);
        assert_eq!(seen.tally.late, 1);
        assert_eq!((seen.tally.counts[0].received, seen.tally.counts[0].lost), (1, 0));
        assert_eq!(found(&seen, Wrong::Corrupted), 0);
    }
}

/// A stamp holds seven bits of the generation, its digest all.
#[test]
fn packets_of_128_generations_ago_are_not_taken_for_new_ones() {
    for protocols in EACH {
        let seen = after_generations(protocols, 128);
        assert_eq!((seen.tally.late, seen.tally.counts[0].received), (0, 0));
        assert_eq!(found(&seen, Wrong::Corrupted), 1);
    }
}

#[test]
fn what_is_not_ours_is_counted_by_name() {
    let mut world = World::opened([1, 0, 0]);
    world.begin(&traffic(Ways::Both));
    let mut buffer = [0; 100];
    let (_, len) = world.shares[0].next(world.now_ns, &mut buffer).unwrap();
    let ours = buffer[..len].to_vec();
    let mac = world.nat.own(Side::Inside);
    let frame = |ether_type: [u8; 2], rest: &[u8]| [&mac[..], &[2; 6], &ether_type, rest].concat();
    let ip = |protocol: u8, from: [u8; 4], body: &[u8]| {
        let mut packet = vec![0x45, 0, 0, 20 + body.len() as u8, 0, 0, 0, 0, 64, protocol, 0, 0];
        packet.extend([&from[..], &[100, 64, 0, 1], body].concat());
        let mut packet = Packet(frame([8, 0], &packet));
        packet.sum();
        packet.0
    };
    let unreachable = [&[3, 1, 0, 0, 0, 0, 0, 0][..], &ours[14..42]].concat();
    let mut strange = unreachable.clone();
    strange[8 + 12] = 9;
    let mut stranger = ours.clone();
    stranger[..6].copy_from_slice(&mac);
    (stranger[30], stranger[50]) = (9, 0);
    let mut stranger = Packet(stranger);
    stranger.sum();
    let mut fragment = Packet(ours.clone());
    fragment.0[..6].copy_from_slice(&mac);
    fragment.0[20] |= 0x20;
    fragment.sum();
    let reset = [0, 80, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 4, 0, 0, 0, 0, 0, 0];
    let frames = [
        ("arp", frame([8, 6], &[0; 46])),
        ("ipv6", frame([0x86, 0xdd], &[0; 46])),
        ("ether_types", frame([0x88, 0xcc], &[0; 46])),
        ("other_macs", [&[2, 9, 9, 9, 9, 9][..], &[2; 6], &[8, 0], &[0; 46]].concat()),
        ("malformed", mac.to_vec()),
        ("fragments", fragment.0),
        ("icmp_errors", ip(1, [9; 4], &unreachable)),
        ("icmp_errors_of_others", ip(1, [9; 4], &strange)),
        ("icmp", ip(1, [9; 4], &[13; 20])),
        ("other_ip", ip(47, [9; 4], &[0; 40])),
        ("resets", ip(6, [9; 4], &reset)),
        ("strangers", stranger.0),
    ];
    for (name, mut frame) in frames {
        let before = world.shares[0].look().tally.others;
        assert_eq!(world.shares[0].take(Side::Inside, &mut frame, world.now_ns), Taken::Done);
        let after = world.shares[0].look().tally.others;
        let more: Vec<_> = (after.by_name().into_iter().zip(before.by_name()))
            .filter(|(after, before)| after != before)
            .map(|((name, _), _)| name)
            .collect();
        assert_eq!(more, [name]);
    }
    assert_eq!(world.finish().tally.wrong, [0; Wrong::COUNT]);
}
