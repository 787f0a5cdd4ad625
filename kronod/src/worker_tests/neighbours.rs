//! Frames that wait for their next hop to say where it is.

use krono_core::counters::Counter;
use krono_core::drop::DropReason;
use krono_core::packet::Side;

use super::bed::{Bed, Plan, ep};
use super::packets::{
    ADDRESSES, GATEWAY_MACS, GATEWAYS, MACS, Seen, What, arp_reply, echo, read, udp,
};

const OUT: usize = Side::Outside as usize;

fn bed() -> Bed {
    Bed::new(&Plan::default().without_neighbours())
}

fn packet(payload: &[u8]) -> Vec<u8> {
    udp(Side::Inside, ep("100.64.0.5:5000"), ep("203.0.113.9:53"), payload)
}

fn gateway_answers() -> Vec<u8> {
    arp_reply(Side::Outside, (GATEWAY_MACS[OUT], GATEWAYS[OUT]))
}

/// The payloads of the frames that left on the outside.
fn payloads(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let payload = |frame: &Vec<u8>| match read(frame).what {
        What::Udp(_, _, payload) => payload,
        other => panic!("not a packet of a subscriber: {other:?}"),
    };
    frames.iter().map(payload).collect()
}

#[test]
fn a_frame_waits_for_its_next_hop_and_leaves_complete() {
    let mut bed = bed();
    let [inside, outside] = bed.exchange(Side::Inside, &packet(b"first"));
    assert!(inside.is_empty());
    assert_eq!(outside.len(), 1, "one request");
    let request = read(&outside[0]);
    assert_eq!(request.macs, ([0xff; 6], MACS[OUT]));
    assert_eq!(request.what, What::ArpRequest(GATEWAYS[OUT]));
    assert_eq!((bed.counters().of(Counter::Held), bed.pool.in_use()), (1, 1));

    let [_, outside] = bed.exchange(Side::Outside, &gateway_answers());
    let Seen { macs, what, ttl, vlan } = read(&outside[0]);
    assert_eq!((macs, ttl, vlan), ((GATEWAY_MACS[OUT], MACS[OUT]), 63, None));
    let What::Udp(from, to, payload) = what else { panic!("{what:?}") };
    assert!(from.addr.octets().starts_with(&[198, 51, 100]), "translated: {from}");
    assert_eq!((to, &payload[..]), (ep("203.0.113.9:53"), &b"first"[..]));
    let counters = bed.counters();
    assert_eq!((counters.of(Counter::Held), counters.of(Counter::Sent)), (0, 1));
    assert_eq!(bed.pool.in_use(), 0);
}

#[test]
fn what_was_held_leaves_before_what_comes_behind_the_answer() {
    // Everything in one burst, and then the waiting frame in a burst before.
    for held_before in [false, true] {
        let mut bed = bed();
        let mut plan = vec![];
        if held_before {
            assert_eq!(bed.exchange(Side::Inside, &packet(b"1"))[OUT].len(), 1, "a request");
        } else {
            plan.push((Side::Inside, packet(b"1")));
        }
        plan.push((Side::Outside, gateway_answers()));
        plan.push((Side::Inside, packet(b"2")));
        for (side, frame) in plan {
            assert!(bed.peer(side).inject(&frame));
            bed.turn();
        }
        bed.settle();
        let sent = bed.sent(Side::Outside);
        let packets: Vec<_> =
            sent.into_iter().filter(|f| matches!(read(f).what, What::Udp(..))).collect();
        assert_eq!(payloads(&packets), [b"1", b"2"]);
    }
}

#[test]
fn within_a_burst_the_waiting_frame_leaves_in_the_place_of_the_answer() {
    let mut bed = bed();
    let (subscriber, mac) = (ep("10.0.0.9:7000"), [2, 0, 0, 0, 9, 9]);
    let server = ep("203.0.113.9:53");
    bed.exchange(Side::Outside, &gateway_answers());
    let opened = bed.forward(Side::Inside, &udp(Side::Inside, subscriber, server, b"open"));
    let public = read(&opened).what.source();
    let [inside, _] = bed.exchange(Side::Outside, &udp(Side::Outside, server, public, b"waiting"));
    assert_eq!(read(&inside[0]).what, What::ArpRequest(subscriber.addr));

    let ping = echo(Side::Inside, subscriber, ADDRESSES[0]);
    let reply = arp_reply(Side::Inside, (mac, subscriber.addr));
    for frame in [&ping, &reply, &ping] {
        assert!(bed.peer(Side::Inside).inject(frame));
    }
    bed.settle();
    let inside = bed.sent(Side::Inside);
    assert_eq!(inside.len(), 3);
    assert!(matches!(read(&inside[0]).what, What::Icmp(_, _, 0, 0)), "an echo reply before");
    assert_eq!(payloads(&inside[1..2]), [b"waiting"]);
    assert_eq!(read(&inside[1]).macs, (mac, MACS[0]));
    let inside = &inside[1..];
    assert!(matches!(read(&inside[1]).what, What::Icmp(_, _, 0, 0)), "then the echo reply");
}

#[test]
fn a_second_frame_takes_the_place_of_the_first() {
    let mut bed = bed();
    bed.exchange(Side::Inside, &packet(b"older"));
    assert_eq!(bed.exchange(Side::Inside, &packet(b"newer"))[OUT], Vec::<Vec<u8>>::new());
    let counters = bed.counters();
    assert_eq!(counters.dropped(DropReason::NeighbourUnresolved), 1);
    assert_eq!((counters.of(Counter::Held), bed.pool.in_use()), (1, 1));
    let [_, outside] = bed.exchange(Side::Outside, &gateway_answers());
    assert_eq!(payloads(&outside), [b"newer"]);
}

#[test]
fn a_neighbour_that_never_answers_is_given_up_and_senders_are_told() {
    let mut bed = bed();
    let mut requests = bed.exchange(Side::Inside, &packet(b"lost"))[OUT].len();
    for _ in 0..50 {
        bed.pass(1);
        requests += bed.sent(Side::Outside).len();
        if bed.counters().of(Counter::Held) == 0 {
            break;
        }
    }
    assert_eq!(requests, 3, "requests before giving up");
    assert_eq!(bed.counters().dropped(DropReason::NeighbourUnreachable), 1);
    assert_eq!(bed.pool.in_use(), 0);
    assert!((30..=35).contains(&bed.now.0), "given up after {:?}", bed.now);

    let [inside, outside] = bed.exchange(Side::Inside, &packet(b"refused"));
    assert_eq!((inside.len(), outside.len()), (1, 0));
    let told = read(&inside[0]);
    assert_eq!(told.what, What::Icmp(ADDRESSES[0], [100, 64, 0, 5].into(), 3, 1));
    assert_eq!(told.macs, (GATEWAY_MACS[0], MACS[0]));
    let counters = bed.counters();
    assert_eq!(counters.dropped(DropReason::NeighbourUnreachable), 2);
    assert_eq!((counters.of(Counter::Held), counters.of(Counter::Originated)), (0, 4));

    // It is asked again later, and answers now.
    bed.pass(60);
    bed.exchange(Side::Inside, &packet(b"again"));
    let [_, outside] = bed.exchange(Side::Outside, &gateway_answers());
    assert_eq!(payloads(&outside), [b"again"]);
}

#[test]
fn what_is_held_is_freed_at_shutdown() {
    let mut bed = bed();
    bed.exchange(Side::Inside, &packet(b"held"));
    assert_eq!(bed.pool.in_use(), 1);
    let (counters, pool) = bed.shut_down();
    assert_eq!((counters.of(Counter::Held), counters.dropped(DropReason::ShutDown)), (0, 1));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn requests_without_buffers_or_room_are_lost_and_come_again() {
    let mut bed = bed();
    let mut hoard = Vec::new();
    assert!(bed.peer(Side::Inside).inject(&packet(b"patient")));
    hoard.extend(std::iter::from_fn(|| bed.pool.alloc()));
    bed.settle();
    assert_eq!(bed.counters().of(Counter::OriginatedLost), 1, "no buffer");
    hoard.clear();
    bed.peer(Side::Outside).limit_tx(0);
    bed.pass(11);
    assert_eq!(bed.counters().of(Counter::OriginatedLost), 2, "no room");
    bed.peer(Side::Outside).limit_tx(100);
    bed.pass(11);
    assert_eq!(bed.counters().of(Counter::Originated), 1);
    assert_eq!(read(&bed.sent(Side::Outside)[0]).what, What::ArpRequest(GATEWAYS[OUT]));
    let [_, outside] = bed.exchange(Side::Outside, &gateway_answers());
    assert_eq!(payloads(&outside), [b"patient"]);
}
