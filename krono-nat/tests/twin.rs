//! What a translator tells a twin, and takes from one: whatever that is, its state stays in order,
//! and who is told everything has everything.

mod common;

use common::*;
use krono_core::packet::{Protocol, Side};
use krono_core::ports::Part;
use krono_core::program::Program;
use krono_core::time::{Span, Ticks};
use krono_core::twin::{Life, Standing, Taken, Twin};
use krono_nat::config::{Config, Filtering, Policy, StaticMapping, Timeouts};
use krono_nat::{Nat, SessionRecord};
use proptest::collection::vec;
use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

fn settings(filtering: Filtering) -> Config {
    Config {
        sessions: 24,
        subscribers: 6,
        pool: vec!["198.51.100.1/32".parse().unwrap()],
        ports: 1020..=1039,
        ports_per_subscriber: 10,
        policy: Policy {
            filtering,
            timeouts: Timeouts { port_hold: Span(4), udp: Span(40), ..Timeouts::default() },
            statics: vec![StaticMapping {
                protocol: Protocol::Udp,
                inside: ep("100.64.0.1:5000"),
                outside: ep("198.51.100.1:1030"),
            }],
            ..policy()
        },
        ..config()
    }
}

/// A record of which any part may be anything, but mostly what there is.
fn record() -> impl Strategy<Value = SessionRecord> {
    let address = |net: [u8; 3], last: std::ops::Range<u8>| {
        last.prop_map(move |last| [net[0], net[1], net[2], last])
    };
    let port = |first: u16, last: u16| (first..last).prop_map(u16::to_le_bytes);
    let any_bytes = (any::<[u8; 32]>(), any::<prop::sample::Index>());
    let parts = (
        address([100, 64, 0], 1..4),
        address([198, 51, 100], 0..3),
        address([203, 0, 113], 1..3),
        port(5000, 5003),
        port(1028, 1034),
        port(53, 55),
    );
    let rest = (0..4_u8, 0..9_u8, 0..8_u8, any::<[u8; 8]>());
    (parts, rest, any_bytes, 0..8_u8).prop_map(|(parts, rest, (bytes, index), noise)| {
        let (inside, outside, remote, inside_port, outside_port, remote_port) = parts;
        let (protocol, state, marks, times) = rest;
        let mut all = Vec::new();
        // Untranslated ones are so all through.
        let is_own = marks & 2 != 0 && noise != 1;
        all.extend(inside);
        all.extend(if is_own { inside } else { outside });
        all.extend(remote);
        all.extend(inside_port);
        all.extend(if is_own { inside_port } else { outside_port });
        all.extend(remote_port);
        all.extend([protocol, state, marks, 0, 0, 1]);
        all.extend(times);
        if noise == 0 {
            let at = index.index(32);
            all[at] = bytes[at];
        }
        SessionRecord::read_from_bytes(&all).expect("32 bytes")
    })
}

#[derive(Clone, Debug)]
enum Act {
    Take(SessionRecord, bool),
    Forget(u32),
    Tell(u32),
    Retime(u32, bool),
    Out(u8, u8, u8),
    Back(u8, u8, u8),
    Wait(u8),
    Know,
    Alone(bool),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => (record(), any::<bool>()).prop_map(|(record, is_law)| Act::Take(record, is_law)),
        1 => (0..30_u32).prop_map(Act::Forget),
        2 => (0..30_u32).prop_map(Act::Tell),
        1 => (0..30_u32, any::<bool>()).prop_map(|(index, full)| Act::Retime(index, full)),
        8 => (1..4_u8, 0..3_u8, 1..3_u8).prop_map(|(host, port, to)| Act::Out(host, port, to)),
        3 => (0..2_u8, 28..34_u8, 1..3_u8).prop_map(|(host, port, by)| Act::Back(host, port, by)),
        2 => (1..30_u8).prop_map(Act::Wait),
        2 => Just(Act::Know),
        1 => any::<bool>().prop_map(Act::Alone),
    ]
}

fn essences(nat: &Nat<'_>) -> Vec<Vec<u8>> {
    let all = (0..nat.end()).filter_map(|index| nat.essence(index));
    let mut all: Vec<_> = all.map(|record| record.as_bytes().to_vec()).collect();
    all.sort();
    all
}

fn run(bed: &mut Bed, act: &Act) {
    let now = bed.now;
    match act {
        Act::Take(record, is_law) => {
            let standing = if *is_law { Standing::Master } else { Standing::Past };
            if let Taken::Entry(index) = bed.nat.take(record, standing, now, &mut bed.events) {
                let essence = bed.nat.essence(index).expect("it was taken");
                assert_eq!(Nat::key(&essence), Nat::key(record));
                assert_eq!(essence.outside(), record.outside());
            }
        }
        Act::Forget(index) => bed.nat.forget(*index, now, &mut bed.events),
        Act::Tell(index) => {
            let _ = bed.nat.tell(*index, now);
        }
        Act::Retime(index, full) => {
            bed.nat.retime(*index, now, if *full { Life::Full } else { Life::Endless });
        }
        Act::Out(host, port, to) => {
            let (src, dst) = (format!("100.64.0.{host}:500{port}"), format!("203.0.113.{to}:53"));
            let _ = bed.out(&src, &dst);
        }
        Act::Back(host, port, by) => {
            let (src, dst) = (format!("203.0.113.{by}:53"), format!("198.51.100.{host}:10{port}"));
            let _ = bed.back(&src, ep(&dst));
        }
        Act::Wait(ticks) => bed.wait_ticks((*ticks).into()),
        Act::Know => bed.nat.acknowledge(now, now),
        Act::Alone(is_alone) => bed.nat.set_alone(*is_alone),
    }
}

fn filterings() -> impl Strategy<Value = Filtering> {
    prop_oneof![
        Just(Filtering::EndpointIndependent),
        Just(Filtering::AddressDependent),
        Just(Filtering::AddressAndPortDependent),
    ]
}

proptest! {
    // Beds keep their memory for good.
    #![proptest_config(ProptestConfig { cases: 80, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_twin_tells_the_state_stays_in_order(
        filtering in filterings(),
        acts in vec(act(), 1..120),
    ) {
        let mut bed = Bed::new(&settings(filtering));
        for act in &acts {
            run(&mut bed, act);
            bed.nat.assert_consistent();
        }
        let later = bed.now.after(Span::from_secs(3 * 3600));
        for index in 0..bed.nat.end() {
            bed.nat.retime(index, bed.now, Life::Full);
        }
        while bed.nat.tick(later, &mut bed.events) {}
        bed.nat.assert_consistent();
        assert_eq!(essences(&bed.nat), Vec::<Vec<u8>>::new(), "all ends");
    }

    /// Each change is told as it is made: by its record, or by the word that it is gone.
    #[test]
    fn who_is_told_everything_has_everything(
        filtering in filterings(),
        acts in vec(act(), 1..200),
    ) {
        let (mut bed, mut twin) = (Bed::new(&settings(filtering)), Bed::new(&settings(filtering)));
        for act in acts.iter().filter(|act| !matches!(act, Act::Take(..) | Act::Forget(_))) {
            bed.events.clear();
            run(&mut bed, act);
            twin.now = bed.now;
            for change in bed.events.iter().filter_map(Nat::change) {
                let record = match change.after {
                    Some(_) => bed.nat.tell(change.index, bed.now),
                    None => change.before.map(|before| Nat::gone(&before)),
                };
                if let Some(record) = record {
                    let taken = twin.nat.take(&record, Standing::Master, twin.now, &mut ());
                    assert_ne!(taken, Taken::Refused, "{record:?}");
                }
            }
            assert_eq!(essences(&bed.nat), essences(&twin.nat));
            twin.nat.assert_consistent();
        }
    }
}

/// The claim of one port by two is decided by who speaks.
#[test]
fn the_master_wins_and_the_past_does_not() {
    let mut one = Bed::new(&config());
    one.out("100.64.0.1:5000", "203.0.113.1:53").unwrap();
    let told = one.nat.tell(0, one.now).unwrap();
    let mut other = told;
    other.as_mut_bytes()[3] = 2;
    for standing in [Standing::Master, Standing::Past] {
        let mut bed = Bed::new(&config());
        let _ = bed.nat.take(&told, Standing::Master, bed.now, &mut ());
        let taken = bed.nat.take(&other, standing, bed.now, &mut ());
        let owner = bed.nat.owner(Protocol::Udp, told.outside());
        match standing {
            Standing::Master => assert_eq!(owner, Some(ep("100.64.0.2:5000"))),
            Standing::Past => {
                assert_eq!((taken, owner), (Taken::Refused, Some(ep("100.64.0.1:5000"))));
            }
        }
        bed.nat.assert_consistent();
        // That something is gone is the master's to say.
        let essence = bed.nat.essence(0).expect("a session");
        let taken = bed.nat.take(&Nat::gone(&essence), standing, bed.now, &mut ());
        assert_eq!(taken, Taken::Gone);
        assert_eq!(bed.nat.essence(0).is_none(), standing == Standing::Master);
    }
}

/// Of two states of a connection the one further along counts, unless the master speaks.
#[test]
fn states_of_the_past_count_if_they_are_further_along() {
    let mut one = Bed::new(&config());
    let (src, dst) = ("100.64.0.1:5000", "203.0.113.1:443");
    let public = one.tcp_out(src, dst, syn(100)).unwrap();
    let opening = one.nat.tell(0, one.now).unwrap();
    one.tcp_back(dst, public, syn_ack(500, 101)).unwrap();
    let open = one.nat.tell(0, one.now).unwrap();
    let state = |bed: &Bed| bed.nat.view(0, bed.now).map(|view| view.state);
    for (standing, back) in [(Standing::Past, "established"), (Standing::Master, "syn_sent")] {
        let mut bed = Bed::new(&config());
        let _ = bed.nat.take(&opening, Standing::Master, bed.now, &mut ());
        assert_eq!(state(&bed), Some("syn_sent"));
        let _ = bed.nat.take(&open, standing, bed.now, &mut ());
        assert_eq!(state(&bed), Some("established"));
        let _ = bed.nat.take(&opening, standing, bed.now, &mut ());
        assert_eq!(state(&bed), Some(back));
    }
}

#[test]
fn a_port_that_a_twin_may_take_for_owned_goes_to_nobody_else() {
    let config =
        Config { ports: 2000..=2001, pool: vec!["198.51.100.1/32".parse().unwrap()], ..config() };
    let part = Part { first_percent: 50, is_first: true };
    let mut bed = Bed::of_part(&config, part);
    let public = bed.out("100.64.0.1:5000", "203.0.113.1:53").unwrap();
    assert_eq!(public.port, 2000);
    assert!(bed.nat.tell(0, bed.now).is_some());
    bed.wait(3600);
    assert_eq!(bed.nat.counts().mappings, 0);
    let refused = |bed: &mut Bed| bed.out("100.64.0.2:5000", "203.0.113.1:53").is_err();
    assert!(refused(&mut bed), "the twin has it still");
    let known = bed.now;
    bed.nat.acknowledge(known, bed.now);
    bed.wait(119);
    assert!(refused(&mut bed), "it is held");
    bed.wait(2);
    assert_eq!(bed.out("100.64.0.2:5000", "203.0.113.1:53"), Ok(public));
    // One that nobody was told of is only held.
    bed.wait(3600);
    assert_eq!(bed.out("100.64.0.3:5000", "203.0.113.1:53"), Ok(public));
}

#[test]
fn a_session_that_is_taken_over_lives_its_full_time_from_then_on() {
    let mut one = Bed::new(&config());
    let public = one.connect("100.64.0.1:5000", "203.0.113.1:443");
    let told = one.nat.tell(0, one.now).unwrap();
    let mut bed = Bed::new(&config());
    let _ = bed.nat.take(&told, Standing::Master, bed.now, &mut ());
    let left = |bed: &Bed| bed.nat.view(0, bed.now).map(|view| view.expires_in);
    assert!(left(&bed) >= Some(Span(Span::MAX.0)));
    bed.now = Ticks(bed.now.0.wrapping_add(1_000_000));
    let meta = tcp_packet(ep("203.0.113.1:443"), public, ack(501, 101));
    assert!(bed.pass(Side::Outside, &meta).is_ok(), "it lives without end");
    bed.nat.retime(0, bed.now, Life::Full);
    assert_eq!(left(&bed), Some(Span(Span::from_secs(7440).0 + 1)));
    assert_eq!(bed.nat.view(0, bed.now).unwrap().state, "established");
    assert_eq!(bed.tcp_out("100.64.0.1:5000", "203.0.113.1:443", ack(101, 501)), Ok(public));
}
