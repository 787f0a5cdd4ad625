//! Where frames come from: captures, VLANs of one port, and several shards in one process.

use krono_core::counters::Counter;
use krono_core::drop::DropReason;
use krono_core::packet::Side;
use krono_core::time::Ticks;

use super::bed::{Bed, Plan, Wiring, ep};
use super::packets::{GATEWAY_MACS, MACS, What, read, tagged, udp};

const SUBSCRIBER: &str = "100.64.0.5:5000";
const SERVER: &str = "203.0.113.9:53";
const SECOND_NS: u64 = 1_000_000_000;
/// Captures begin at some time of day.
const START_NS: u64 = 1_700_000_000 * SECOND_NS;

fn question() -> Vec<u8> {
    udp(Side::Inside, ep(SUBSCRIBER), ep(SERVER), b"?")
}

#[test]
fn captures_are_merged_by_time_and_it_never_runs_backwards() {
    let mut bed = Bed::new(&Plan::captures());
    // Seconds and side; the 4 on the outside is followed by an older one.
    let inside = [0, 2, 4, 4, 9];
    let outside = [1, 2, 3, 4, 1, 5];
    for (side, times) in [(Side::Inside, &inside[..]), (Side::Outside, &outside[..])] {
        for time in times {
            let at = START_NS + time * SECOND_NS;
            assert!(bed.peer(side).inject_at(&question(), at));
        }
    }
    let mut seen = Vec::new();
    while let Some(side) = bed.worker.input.receive(&mut bed.burst) {
        assert_eq!(bed.burst.len(), 1, "each packet has its own time");
        bed.burst.clear();
        seen.push((side, bed.worker.input.now().ticks().0 / 10));
    }
    use Side::{Inside as I, Outside as O};
    let expected =
        [(I, 0), (O, 1), (I, 2), (O, 2), (O, 3), (I, 4), (I, 4), (O, 4), (O, 4), (O, 5), (I, 9)];
    assert_eq!(seen, expected);
}

#[test]
fn a_capture_without_timestamps_stands_still() {
    let mut bed = Bed::new(&Plan::captures());
    for _ in 0..3 {
        assert!(bed.peer(Side::Inside).inject(&question()));
        assert!(bed.turn());
        assert_eq!(bed.now, Ticks(0));
    }
    assert_eq!(bed.counters().of(Counter::Sent), 3);
}

#[test]
fn sessions_of_captures_end_by_later_timestamps() {
    let mut bed = Bed::new(&Plan::captures());
    let send = |bed: &mut Bed, side, frame: &[u8], after_ns| {
        assert!(bed.peer(side).inject_at(frame, START_NS + after_ns));
        assert!(bed.turn());
        bed.settle();
    };
    send(&mut bed, Side::Inside, &question(), 0);
    let public = read(&bed.sent(Side::Outside)[0]).what.source();
    let answer = udp(Side::Outside, ep(SERVER), public, b"!");
    send(&mut bed, Side::Outside, &answer, 9 * SECOND_NS);
    assert_eq!(bed.sent(Side::Inside).len(), 1, "in time");
    // The last packet, of somebody else, says that 10.6 s have passed: 10 s and half a second.
    let other = udp(Side::Inside, ep("100.64.0.6:1"), ep(SERVER), b"?");
    send(&mut bed, Side::Inside, &other, 10 * SECOND_NS + 600_000_000);
    let counters = bed.counters();
    assert_eq!(counters.of(Counter::SessionsDeleted), 1);
    assert_eq!(counters.of(Counter::Sessions), 1, "that of the last packet");
    send(&mut bed, Side::Outside, &answer, 11 * SECOND_NS);
    assert_eq!(bed.counters().dropped(DropReason::NoMapping), 1);
}

#[test]
fn sides_that_are_vlans_of_one_port_are_told_apart() {
    for (inside, outside) in [(Some(10), Some(20)), (None, Some(20)), (Some(10), None)] {
        let mut bed = Bed::new(&Plan::trunk(inside, outside));
        let on = |vlan: Option<u16>, frame: Vec<u8>| match vlan {
            Some(vlan) => tagged(frame, vlan),
            None => frame,
        };
        assert!(bed.peer(Side::Inside).inject(&on(inside, question())));
        bed.settle();
        let seen = read(&bed.sent(Side::Inside)[0]);
        let outside_index = Side::Outside as usize;
        assert_eq!(seen.vlan, outside);
        assert_eq!(seen.macs, (GATEWAY_MACS[outside_index], MACS[outside_index]));
        let public = seen.what.source();

        // A burst of both sides and of strangers, in an order of its own.
        let answer = udp(Side::Outside, ep(SERVER), public, b"!");
        for _ in 0..5 {
            for frame in [
                on(outside, answer.clone()),
                on(inside, question()),
                tagged(question(), 30),
                on(outside, answer.clone()),
            ] {
                assert!(bed.peer(Side::Inside).inject(&frame));
            }
        }
        bed.settle();
        let sent: Vec<_> = bed.sent(Side::Inside).iter().map(|frame| read(frame)).collect();
        let left = |vlan| sent.iter().filter(|seen| seen.vlan == vlan).count();
        assert_eq!((left(inside), left(outside)), (10, 5));
        for seen in &sent {
            let What::Udp(_, to, _) = &seen.what else { panic!("{seen:?}") };
            let expected = if seen.vlan == inside { SUBSCRIBER } else { SERVER };
            assert_eq!(*to, ep(expected));
        }
        assert_eq!(bed.counters().dropped(DropReason::VlanUnknown), 5);
        assert_eq!(bed.counters().rx(Side::Outside).packets, 10);
    }
}

/// IEEE 802.1Q: a tag of VLAN 0 is a priority, and its frame belongs to no VLAN.
#[test]
fn a_priority_tag_on_a_trunk_is_no_vlan() {
    let mut bed = Bed::new(&Plan::trunk(Some(10), None));
    assert!(bed.peer(Side::Inside).inject(&tagged(question(), 10)));
    bed.settle();
    let public = read(&bed.sent(Side::Inside)[0]).what.source();
    let answer = udp(Side::Outside, ep(SERVER), public, b"!");
    assert!(bed.peer(Side::Outside).inject(&tagged(answer, 0)));
    bed.settle();
    assert_eq!(read(&bed.sent(Side::Inside)[0]).vlan, Some(10));
}

#[test]
fn what_waits_within_the_input_is_accounted_for_at_shutdown() {
    let trunk = Bed::new(&Plan::trunk(Some(10), Some(20)));
    let stray = udp(Side::Outside, ep(SERVER), ep("198.51.100.1:4000"), b"");
    assert!(trunk.peer(Side::Inside).inject(&tagged(question(), 10)));
    for _ in 0..3 {
        assert!(trunk.peer(Side::Inside).inject(&tagged(stray.clone(), 20)));
    }
    let captures = Bed::new(&Plan::captures());
    for number in 0..4 {
        assert!(captures.peer(Side::Inside).inject_at(&question(), START_NS + number));
    }
    for mut bed in [trunk, captures] {
        assert!(bed.turn(), "the first is worked on");
        drop(bed.sent(Side::Outside));
        let (counters, pool) = bed.shut_down();
        assert_eq!((counters.received(), counters.of(Counter::Sent)), (4, 1));
        assert_eq!(counters.dropped(DropReason::ShutDown), 3);
        assert_eq!(pool.in_use(), 0);
    }
}

#[test]
fn shards_of_one_process_share_nothing() {
    let mut second = Plan { wiring: Wiring::Ports, ..Plan::default() };
    // The same public addresses, so that a shared table would show.
    second.nat.seed = [8; 32];
    let (mut one, mut other) = (Bed::new(&Plan::default()), Bed::new(&second));
    let public = read(&one.forward(Side::Inside, &question())).what.source();
    let answer = udp(Side::Outside, ep(SERVER), public, b"!");
    let [inside, _] = other.exchange(Side::Outside, &answer);
    assert!(inside.is_empty());
    assert_eq!(other.counters().dropped(DropReason::NoMapping), 1);
    assert_eq!(other.counters().of(Counter::Sessions), 0);
    assert_eq!(one.counters().of(Counter::Sessions), 1);
    assert_eq!(one.counters().received(), 1);
    let [inside, _] = one.exchange(Side::Outside, &answer);
    assert_eq!(inside.len(), 1);
    // Each draws its own ports.
    assert_ne!(public, read(&other.forward(Side::Inside, &question())).what.source());
}
