//! The control plane asks a worker that has packets to move.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use krono_core::counters::{Counter, CounterSnapshot};
use krono_core::drop::DropReason;
use krono_core::packet::{Endpoint, Protocol, Side};
use krono_core::time::Ticks;
use krono_nat::config::{Filtering, StaticMapping};

use super::bed::{Bed, Plan, ep};
use super::packets::{read, udp};
use crate::mailbox::{LookupQuery, NoAnswer, Reload, SessionFilter, SessionsPage};

const SERVER: &str = "203.0.113.9:53";

fn subscriber(number: u16) -> Endpoint {
    Endpoint::new([100, 64, (number >> 8) as u8, number as u8].into(), 5000)
}

fn open(bed: &mut Bed, number: u16) -> Endpoint {
    let frame = udp(Side::Inside, subscriber(number), ep(SERVER), b"");
    read(&bed.forward(Side::Inside, &frame)).what.source()
}

#[test]
fn a_walk_shows_every_session_once_while_others_come_and_go() {
    // Small pages fill up; large ones take as many records as a worker looks at in one turn.
    [50, 1000].into_iter().for_each(walk_in_pages);
}

fn walk_in_pages(rows_max: usize) {
    let mut bed = Bed::new(&Plan { buffers: 256, ..Plan::default() });
    // These end during the walk, and their records are used again.
    for number in 0..300 {
        open(&mut bed, number);
    }
    bed.now = Ticks(50);
    for number in 300..700 {
        open(&mut bed, number);
    }
    bed.now = Ticks(99);
    let mut seen: HashMap<Endpoint, u32> = HashMap::new();
    let mut page = SessionsPage::new(0, SessionFilter::default(), rows_max);
    let mut newcomers = 700;
    loop {
        page = *bed.ask(page);
        bed.pass(3);
        for _ in 0..3 {
            open(&mut bed, newcomers);
            newcomers += 1;
        }
        if page.turn() {
            continue;
        }
        page.rows().iter().for_each(|row| *seen.entry(row.inside).or_default() += 1);
        let Some(next) = page.next else { break };
        page = SessionsPage::new(next, SessionFilter::default(), rows_max);
    }
    assert!(bed.counters().of(Counter::SessionsDeleted) >= 300, "some ended meanwhile");
    for number in 300..700 {
        assert_eq!(seen.get(&subscriber(number)), Some(&1), "session {number}");
    }
    assert!(seen.values().all(|times| *times == 1), "none is shown twice");
}

#[test]
fn a_lookup_tells_the_owner_and_counters_are_balanced() {
    let mut bed = Bed::new(&Plan::default());
    let public = open(&mut bed, 5);
    let answer = bed.ask(LookupQuery::new(public, None));
    let owners = Protocol::ALL.map(|protocol| answer.owners[protocol as usize]);
    for (protocol, owner) in Protocol::ALL.into_iter().zip(owners) {
        let expected = (protocol == Protocol::Udp).then(|| subscriber(5));
        assert_eq!(owner, expected, "{protocol:?}");
    }
    let tcp_only = bed.ask(LookupQuery::new(public, Some(Protocol::Tcp)));
    assert_eq!(tcp_only.owners, [None; Protocol::COUNT]);
    let counters = bed.ask(CounterSnapshot::default());
    assert!(counters.is_balanced());
    assert_eq!((counters.received(), counters.of(Counter::Sessions)), (1, 1));
}

#[test]
fn a_reload_exchanges_the_policy_between_two_bursts() {
    let plan = Plan::default();
    let mut bed = Bed::new(&plan);
    let public = open(&mut bed, 5);
    let stranger = udp(Side::Outside, ep("203.0.113.77:9"), public, b"");
    bed.exchange(Side::Outside, &stranger);
    assert_eq!(bed.counters().dropped(DropReason::Filtered), 1);

    let mut policy = plan.nat.policy.clone();
    policy.filtering = Filtering::EndpointIndependent;
    let server = StaticMapping {
        protocol: Protocol::Tcp,
        inside: ep("100.64.0.80:80"),
        outside: ep("198.51.100.1:8080"),
    };
    policy.statics.push(server);
    let answer = bed.ask(Reload { policy: policy.clone(), outcome: Ok(()) });
    assert_eq!(answer.outcome, Ok(()));
    assert_eq!(answer.policy.filtering, plan.nat.policy.filtering, "the old one comes back");
    assert!(answer.policy.statics.is_empty());

    assert_eq!(bed.exchange(Side::Outside, &stranger)[Side::Inside as usize].len(), 1);
    let owner = bed.ask(LookupQuery::new(server.outside, Some(Protocol::Tcp)));
    assert_eq!(owner.owners[Protocol::Tcp as usize], Some(server.inside));
    assert_eq!(bed.counters().of(Counter::Mappings), 2);
}

#[test]
fn a_worker_that_hangs_is_told_from_one_that_has_ended() {
    let mut bed = Bed::new(&Plan::default());
    let soon = || Instant::now() + Duration::from_millis(5);
    let public = open(&mut bed, 5);
    let question = || Box::new(LookupQuery::new(public, None));
    // It is asked and does not come by; at some number of debts it is not even asked.
    for _ in 0..20 {
        assert_eq!(bed.handle.ask(question(), soon()).err(), Some(NoAnswer::Hung));
    }
    // It comes back and answers some; the others are not taken for the answer to a new question.
    bed.pass(3);
    let pending = bed.handle.post(Box::<CounterSnapshot>::default()).expect("room for one more");
    for _ in 0..20 {
        bed.worker.turn(None, &mut bed.burst, bed.now.into(), &mut bed.pace);
    }
    assert_eq!(pending.wait(Instant::now()).map(|answer| answer.received()), Ok(1));
    assert_eq!(bed.ask(*question()).owners[Protocol::Udp as usize], Some(subscriber(5)));

    let Bed { worker, handle, .. } = bed;
    drop(worker);
    assert_eq!(handle.ask(question(), soon()).err(), Some(NoAnswer::Ended));
}

#[test]
fn a_running_worker_answers_under_load_and_stops_when_told() {
    let mut bed = Bed::new(&Plan { buffers: 8192, ..Plan::default() });
    let handle = std::mem::replace(&mut bed.handle, crate::mailbox::mailbox().0);
    let (pool, counters) = (bed.pool.clone(), bed.worker.carrier.counters.clone());
    let running = thread::spawn(move || {
        let frame = |number| udp(Side::Inside, subscriber(number), ep(SERVER), b"");
        (0..4000).for_each(|number| assert!(bed.peer(Side::Inside).inject(&frame(number % 900))));
        bed.worker.run();
        drop(bed.sent(Side::Outside));
        bed.peer(Side::Inside).waiting()
    });
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut received = 0;
    while received < 4000 {
        let answer = handle.ask(Box::<CounterSnapshot>::default(), deadline);
        let snapshot = answer.expect("it answers under load");
        assert!(snapshot.is_balanced());
        assert!(snapshot.received() >= received);
        received = snapshot.received();
    }
    handle.stop();
    assert_eq!(running.join().unwrap(), 0);
    let end = counters.snapshot();
    assert!(end.is_balanced());
    assert_eq!((end.received(), end.of(Counter::Sessions)), (4000, 900));
    assert_eq!(pool.in_use(), 0);
}
