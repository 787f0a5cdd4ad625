//! Sessions end in time, however many, under load and without.

use krono_core::counters::Counter;
use krono_core::packet::{Endpoint, Side};
use krono_core::time::{Span, Ticks};

use super::bed::{Bed, Plan, ep};
use super::packets::udp;

const SESSIONS: usize = 100_000;

fn subscriber(number: usize) -> Endpoint {
    Endpoint::new(([100, 64, 1 + (number / 1000) as u8, 7]).into(), 2000 + (number % 1000) as u16)
}

fn plan() -> Plan {
    let mut plan = Plan::default();
    plan.nat.sessions = 1 << 17;
    plan.nat.subscribers = 1000;
    plan
}

/// Opens so many sessions at one moment.
fn crowd(bed: &mut Bed) {
    for number in 0..SESSIONS {
        let frame = udp(Side::Inside, subscriber(number), ep("203.0.113.9:53"), b"");
        assert!(bed.peer(Side::Inside).inject(&frame));
        if number % 64 == 63 {
            bed.settle();
            drop(bed.sent(Side::Outside));
        }
    }
    bed.settle();
    drop(bed.sent(Side::Outside));
    assert_eq!(bed.counters().of(Counter::Sessions), SESSIONS as u64);
}

/// One full burst that nobody waits for: malformed frames take the least time to make.
fn load(bed: &Bed) {
    for _ in 0..64 {
        assert!(bed.peer(Side::Outside).inject(&[0; 60]));
    }
}

#[test]
fn all_sessions_ending_at_once_under_full_load_end_within_half_a_second() {
    // At 640,000 packets a second a burst of 64 comes every 100 µs.
    const TURNS_PER_TICK: u32 = 1000;
    let mut bed = Bed::new(&plan());
    crowd(&mut bed);
    let opened = bed.now;
    let ends = Ticks(opened.0 + 100);
    let mut ended_at = None;
    bed.now = Ticks(ends.0 - 2);
    while ended_at.is_none() && bed.now.0 < ends.0 + 20 {
        for _ in 0..TURNS_PER_TICK {
            load(&bed);
            assert!(bed.turn());
            if ended_at.is_none() && bed.counters().of(Counter::Sessions) == 0 {
                ended_at = Some(bed.now);
            }
        }
        if bed.now.0 <= ends.0 {
            let alive = bed.counters().of(Counter::Sessions);
            assert_eq!(alive, SESSIONS as u64, "early at {:?}", bed.now);
        }
        bed.now.0 += 1;
    }
    let ended_at = ended_at.expect("they all end");
    let late = ends.until(ended_at);
    println!("ended {} ms late", late.as_millis());
    assert!(late <= Span(5), "{} ms late", late.as_millis());
}

#[test]
fn a_round_of_housekeeping_stays_short_whatever_is_due() {
    let mut bed = Bed::new(&plan());
    crowd(&mut bed);
    bed.now = Ticks(bed.now.0 + 200);
    let mut before = bed.counters().of(Counter::Sessions);
    while before > 0 {
        load(&bed);
        assert!(bed.turn());
        let left = bed.counters().of(Counter::Sessions);
        assert!(before - left <= 256, "{} in one turn", before - left);
        before = left;
    }
}

#[test]
fn a_gap_in_a_capture_ends_all_sessions_before_the_next_packet() {
    let mut bed = Bed::new(&Plan { nat: plan().nat, ..Plan::captures() });
    crowd(&mut bed);
    let frame = udp(Side::Inside, ep("100.64.250.1:1"), ep("203.0.113.9:53"), b"");
    assert!(bed.peer(Side::Inside).inject_at(&frame, 1_000_000_000));
    assert!(bed.turn());
    assert!(bed.peer(Side::Inside).inject_at(&frame, 60_000_000_000));
    assert!(bed.turn());
    // What was shown last was counted before this turn's packet opened a session again.
    let counters = bed.counters();
    assert_eq!(counters.of(Counter::SessionsDeleted), SESSIONS as u64 + 1);
    assert_eq!(
        (counters.of(Counter::Sessions), counters.of(Counter::Sent)),
        (0, SESSIONS as u64 + 2)
    );
}
