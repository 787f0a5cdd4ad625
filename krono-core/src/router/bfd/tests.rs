//! Sections of RFC 5880 and 5881, one by one.

use super::*;

const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
const MS: u64 = 1_000_000;

fn at_ms(ms: u64) -> Moment {
    Moment(ms * MS)
}

fn config() -> SessionConfig {
    SessionConfig {
        neighbour: NEIGHBOUR,
        transmit_us: 50_000,
        receive_us: 60_000,
        multiplier: 3,
        seed: 0x4711_0000_0000_0815,
    }
}

/// One session with the neighbour, outside.
fn sessions() -> Sessions {
    Sessions::new([(Side::Outside, config())].into_iter())
}

/// What the neighbour says in a state.
fn said(state: State) -> Control {
    Control {
        state,
        multiplier: 4,
        my_discriminator: 77,
        your_discriminator: 0x0815,
        desired_tx_us: 50_000,
        required_rx_us: 40_000,
        ..Control::default()
    }
}

fn hear(sessions: &mut Sessions, control: Control, now: Moment) {
    let from = (Side::Outside, NEIGHBOUR);
    assert_eq!(sessions.receive(from, TTL, &control.to_bytes(), now), Ok(()), "{control:?}");
}

/// A session that is up since `now`, whose news are told and whose Poll is answered.
fn up(now: Moment) -> Sessions {
    let mut sessions = sessions();
    sessions.duty(now);
    hear(&mut sessions, Control { your_discriminator: 0, ..said(State::Down) }, now);
    hear(&mut sessions, Control { is_final: true, ..said(State::Init) }, now);
    hear(&mut sessions, Control { is_final: true, ..said(State::Up) }, now);
    assert_eq!(view(&sessions).state, State::Up);
    assert!(sessions.duty(now).is_some(), "it tells that it is up");
    assert_eq!(sessions.duty(now), None);
    sessions
}

fn view(sessions: &Sessions) -> View {
    sessions.views().next().expect("there is one")
}

/// Lets time pass from `from`, a hundred microseconds at a time, until a packet goes or `limit`.
fn next(sessions: &mut Sessions, from: Moment, limit: Moment) -> Option<(Moment, Control)> {
    (from.0..=limit.0)
        .step_by(100_000)
        .find_map(|now| Some((Moment(now), sessions.duty(Moment(now))?.control)))
}

/// 6.2 and 6.8.6: every state under every state that may be heard.
#[test]
fn the_states_follow_the_diagram() {
    use State::{AdminDown, Down, Init, Up};
    let (none, signaled) = (Diagnostic::NONE, Diagnostic::NEIGHBOR_SIGNALED_DOWN);
    let table = [
        (Down, AdminDown, Down, none),
        (Down, Down, Init, none),
        (Down, Init, Up, none),
        (Down, Up, Down, none),
        (Init, AdminDown, Down, signaled),
        (Init, Down, Init, none),
        (Init, Init, Up, none),
        (Init, Up, Up, none),
        (Up, AdminDown, Down, signaled),
        (Up, Down, Down, signaled),
        (Up, Init, Up, none),
        (Up, Up, Up, none),
        (AdminDown, AdminDown, AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN),
        (AdminDown, Down, AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN),
        (AdminDown, Init, AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN),
        (AdminDown, Up, AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN),
    ];
    for (ours, theirs, then, diagnostic) in table {
        let mut session = Session::new(Side::Outside, config(), 5, *PORTS.start());
        let way: &[State] = match ours {
            Init => &[Down],
            Up => &[Down, Init],
            Down | AdminDown => &[],
        };
        way.iter().for_each(|state| session.receive(&said(*state), at_ms(1)).unwrap());
        session.hold_down(ours == AdminDown, at_ms(1));
        assert_eq!(session.view().state, ours);

        let taken = session.receive(&said(theirs), at_ms(2));
        let refused = (ours == AdminDown).then_some(DropReason::BfdAdminDown);
        assert_eq!(taken.err(), refused, "{ours:?} hears {theirs:?}");
        let seen = session.view();
        assert_eq!((seen.state, seen.diagnostic), (then, diagnostic), "{ours:?} hears {theirs:?}");
        let since = if ours == then { u64::from(ours != Down) } else { 2 };
        assert_eq!(seen.since, at_ms(since), "{ours:?} hears {theirs:?}");
    }
}

/// RFC 5881, 5, and 6.8.6: a packet in which everything is wrong, mended bit by bit, is discarded
/// for one reason after the other, in the order of the RFC.
#[test]
fn packets_are_checked_in_the_order_of_the_rfc() {
    use DropReason::*;
    const VERSION_BAD: u8 = 2 << 5;
    const INIT_AUTHENTICATED_MULTIPOINT: u8 = 0x85;
    let mut bytes = [0; 30];
    (bytes[0], bytes[1], bytes[3]) = (VERSION_BAD, INIT_AUTHENTICATED_MULTIPOINT, 31);
    let mut sessions = sessions();
    let mut reason = |ttl, bytes: &[u8]| {
        sessions.receive((Side::Outside, NEIGHBOUR), ttl, bytes, at_ms(1)).unwrap_err()
    };
    assert_eq!(reason(254, &bytes), BfdTtlBad);
    assert_eq!(reason(255, &bytes), BfdVersionBad);
    bytes[0] = 1 << 5;
    assert_eq!(reason(255, &bytes), BfdLenBad, "beyond the datagram");
    bytes[3] = 25;
    assert_eq!(reason(255, &bytes), BfdLenBad, "no room for an authentication section");
    bytes[3] = 26;
    assert_eq!(reason(255, &bytes), BfdMultiplierZero);
    bytes[2] = 3;
    assert_eq!(reason(255, &bytes), BfdMultipoint);
    bytes[1] &= !1;
    assert_eq!(reason(255, &bytes), BfdDiscriminatorZero);
    bytes[7] = 1;
    assert_eq!(reason(255, &bytes), BfdStateBad);
    bytes[11] = 9;
    assert_eq!(reason(255, &bytes), BfdSessionUnknown);
    (bytes[10], bytes[11]) = (0x08, 0x15);
    assert_eq!(reason(255, &bytes), BfdAuthenticated);
    (bytes[1], bytes[3]) = (bytes[1] & !4, 23);
    assert_eq!(reason(255, &bytes), BfdLenBad, "no room for the fields");
    bytes[3] = 24;
    for len in 0..24 {
        assert_eq!(reason(255, &bytes[..len]), BfdLenBad, "a datagram of {len} bytes");
    }
    assert_eq!(view(&sessions).remote_state, State::Down, "nothing was learnt so far");
    assert_eq!(sessions.receive((Side::Outside, NEIGHBOUR), 255, &bytes, at_ms(1)), Ok(()));
    assert_eq!(view(&sessions).state, State::Up, "heard in init");
}

/// 6.8.6 and RFC 5881, 3: without a discriminator the link and the source say which session it is.
#[test]
fn a_session_is_one_with_one_neighbour_on_one_link() {
    let other = Ipv4Addr::new(192, 0, 2, 253);
    let both = [(Side::Outside, config()), (Side::Inside, SessionConfig { seed: 1, ..config() })];
    let mut sessions = Sessions::new(both.into_iter());
    let mut taken = |side, from, your_discriminator| {
        let packet = Control { your_discriminator, ..said(State::Down) };
        sessions.receive((side, from), TTL, &packet.to_bytes(), at_ms(1)).err()
    };
    let unknown = Some(DropReason::BfdSessionUnknown);
    for (side, from, named, reason) in [
        (Side::Outside, NEIGHBOUR, 0, None),
        (Side::Outside, NEIGHBOUR, 0x0815, None),
        (Side::Inside, NEIGHBOUR, 1, None),
        (Side::Outside, other, 0, unknown),
        (Side::Outside, other, 0x0815, unknown),
        (Side::Outside, NEIGHBOUR, 1, unknown),
        (Side::Inside, NEIGHBOUR, 0x0815, unknown),
    ] {
        assert_eq!(taken(side, from, named), reason, "{side} {from} {named:#x}");
    }
    assert!(sessions.views().all(|view| view.state == State::Init));
}

/// 6.8.3, 6.8.7: a packet a second at most until it is up, each 10 to 25 % sooner at random.
#[test]
fn it_is_slow_until_it_is_up_and_jitter_is_10_to_25_per_cent() {
    let gaps = |sessions: &mut Sessions, start: Moment, keep: &dyn Fn(&mut Sessions, Moment)| {
        let (mut last, mut gaps) = (start, Vec::new());
        for _ in 0..200 {
            let (now, control) =
                next(sessions, last, Moment(last.0 + 2000 * MS)).expect("a packet goes");
            gaps.push((now.0 - last.0, control.desired_tx_us));
            last = now;
            keep(sessions, now);
        }
        gaps
    };
    let within = |gaps: &[(u64, u32)], interval_ms: u64, desired_tx_us| {
        let shortest = gaps.iter().map(|(gap, _)| *gap).min().unwrap();
        let longest = gaps.iter().map(|(gap, _)| *gap).max().unwrap();
        let per_mille = |gap: u64| gap / interval_ms / 1000;
        assert!((750..760).contains(&per_mille(shortest)), "{shortest} of {interval_ms} ms");
        assert!((890..903).contains(&per_mille(longest)), "{longest} of {interval_ms} ms");
        assert!(gaps.iter().all(|(_, desired)| *desired == desired_tx_us));
    };
    let mut slow = sessions();
    assert!(slow.duty(at_ms(0)).is_some(), "the first at once");
    within(&gaps(&mut slow, at_ms(0), &|_, _| {}), 1000, 1_000_000);

    let mut fast = up(at_ms(0));
    within(&gaps(&mut fast, at_ms(0), &|it, now| hear(it, said(State::Up), now)), 50, 50_000);
    // 6.8.2: no faster than the neighbour can take it.
    let patient = Control { required_rx_us: 300_000, desired_tx_us: 1_000_000, ..said(State::Up) };
    let mut fast = up(at_ms(0));
    hear(&mut fast, patient, at_ms(0));
    within(&gaps(&mut fast, at_ms(0), &|it, now| hear(it, patient, now)), 300, 50_000);
}

/// 6.8.4: the neighbour's multiplier times the slower of what we take and what it sends.
#[test]
fn a_neighbour_that_falls_silent_is_lost_after_the_detection_time() {
    for (desired_tx_us, multiplier, detection_ms) in
        [(50_000, 4, 240), (100_000, 5, 500), (0, 1, 60)]
    {
        let mut sessions = up(at_ms(0));
        hear(&mut sessions, Control { desired_tx_us, multiplier, ..said(State::Up) }, at_ms(1000));
        assert_eq!(view(&sessions).detection_us, detection_ms * 1000);
        let lost = at_ms(1000 + detection_ms);
        let mut now = at_ms(1000);
        while now < lost {
            sessions.duty(now);
            assert_eq!(view(&sessions).state, State::Up, "after {now:?}");
            now.0 += MS / 10;
        }
        let told = sessions.duty(lost).expect("it tells at once").control;
        assert_eq!(
            (told.state, told.diagnostic),
            (State::Down, Diagnostic::DETECTION_TIME_EXPIRED)
        );
        assert_eq!(told.your_discriminator, 0, "6.8.1, bfd.RemoteDiscr");
        let seen = view(&sessions);
        assert_eq!((seen.state, seen.since, seen.detection_us), (State::Down, lost, 0));
    }
}

#[test]
fn a_neighbour_is_not_lost_while_nobody_looked() {
    for is_heard in [true, false] {
        let mut sessions = up(at_ms(0));
        sessions.duty(at_ms(10));
        // The core had no time, and only now comes to what has arrived since.
        sessions.duty(at_ms(2000));
        assert_eq!(view(&sessions).state, State::Up);
        if is_heard {
            hear(&mut sessions, said(State::Up), at_ms(2001));
        }
        sessions.duty(at_ms(2004));
        sessions.duty(at_ms(2005));
        let expected = if is_heard { State::Up } else { State::Down };
        assert_eq!(view(&sessions).state, expected);
    }
    // Who never looks more often must find out as well.
    let mut sessions = up(at_ms(0));
    for look in 1..=24 {
        while sessions.duty(at_ms(10 * look)).is_some() {}
    }
    assert_eq!(view(&sessions).state, State::Up, "spared once");
    sessions.duty(at_ms(250));
    assert_eq!(view(&sessions).state, State::Down);
}

/// 6.5, 6.8.3: what changes the intervals is asked to be confirmed, in periodic packets.
#[test]
fn a_poll_goes_on_until_it_is_answered() {
    let mut sessions = sessions();
    assert!(!sessions.duty(at_ms(0)).unwrap().control.poll);
    hear(&mut sessions, said(State::Init), at_ms(0));
    let mut now = at_ms(0);
    for _ in 0..5 {
        let (sent, control) = next(&mut sessions, now, Moment(now.0 + 50 * MS)).unwrap();
        assert!(control.poll && !control.is_final && control.desired_tx_us == 50_000);
        hear(&mut sessions, said(State::Up), sent);
        now = sent;
    }
    hear(&mut sessions, Control { is_final: true, ..said(State::Up) }, now);
    let (now, control) = next(&mut sessions, now, Moment(now.0 + 50 * MS)).unwrap();
    assert!(!control.poll);

    // It is slower again when it is down, and says so.
    hear(&mut sessions, said(State::Down), now);
    let control = sessions.duty(now).unwrap().control;
    assert!(control.poll && control.desired_tx_us == 1_000_000, "{control:?}");
}

/// 6.8.7: at once, without regard to anything, and never with a Poll of its own.
#[test]
fn a_poll_is_answered_at_once_and_moves_no_other_packet() {
    let mut sessions = up(at_ms(0));
    let mut other = sessions.clone();
    let (periodic, _) = next(&mut other, at_ms(0), at_ms(50)).unwrap();
    for ms in [1, 2, 3] {
        hear(&mut sessions, Control { poll: true, ..said(State::Up) }, at_ms(ms));
        let answer = sessions.duty(at_ms(ms)).unwrap().control;
        assert!(answer.is_final && !answer.poll, "{answer:?}");
        assert_eq!(sessions.duty(at_ms(ms)), None, "once");
    }
    let (after, control) = next(&mut sessions, at_ms(4), at_ms(50)).unwrap();
    assert_eq!((after, control.is_final), (periodic, false));

    // While it polls itself, and before it is up.
    let mut sessions = super::tests::sessions();
    sessions.duty(at_ms(0));
    hear(&mut sessions, Control { poll: true, ..said(State::Init) }, at_ms(1));
    let answer = sessions.duty(at_ms(1)).unwrap().control;
    assert!(answer.is_final && !answer.poll && answer.state == State::Up, "{answer:?}");
    let (_, periodic) = next(&mut sessions, at_ms(1), at_ms(51)).unwrap();
    assert!(periodic.poll, "the Poll waits for its next packet");
}

/// 6.8.3: a new interval counts from the packet before.
#[test]
fn a_shorter_interval_is_honoured_at_once() {
    let mut sessions = up(at_ms(0));
    let slow = Control { required_rx_us: 1_000_000, desired_tx_us: 1_000_000, ..said(State::Up) };
    hear(&mut sessions, slow, at_ms(0));
    assert_eq!(next(&mut sessions, at_ms(0), at_ms(700)), None);
    hear(&mut sessions, Control { required_rx_us: 40_000, ..slow }, at_ms(700));
    assert!(sessions.duty(at_ms(700)).is_some(), "its time has passed");
}

/// 6.8.7, 6.6: neither to who can take none, nor to who wants none while all is well.
#[test]
fn periodic_packets_cease_where_they_are_not_wanted() {
    let deaf = Control { required_rx_us: 0, desired_tx_us: 1_000_000, ..said(State::Up) };
    let demanding = Control { demand: true, desired_tx_us: 1_000_000, ..said(State::Up) };
    for silencing in [deaf, demanding] {
        let mut sessions = up(at_ms(0));
        hear(&mut sessions, silencing, at_ms(1));
        assert_eq!(next(&mut sessions, at_ms(1), at_ms(3500)), None, "{silencing:?}");
        assert_eq!(view(&sessions).transmit_us, 0);
        hear(&mut sessions, Control { poll: true, ..silencing }, at_ms(3500));
        assert!(sessions.duty(at_ms(3500)).unwrap().control.is_final);
        // It went away without a word, and may want packets when it comes back.
        let (at, control) = next(&mut sessions, at_ms(3501), at_ms(9000)).unwrap();
        assert_eq!((at, control.state), (at_ms(7500), State::Down), "{silencing:?}");
    }
    let mut sessions = up(at_ms(0));
    hear(&mut sessions, Control { demand: true, ..said(State::Init) }, at_ms(1));
    assert!(next(&mut sessions, at_ms(1), at_ms(60)).is_some(), "not before both are up");
}

/// 6.8.17
#[test]
fn who_stops_forwarding_says_so() {
    let mut sessions = up(at_ms(0));
    sessions.reset(at_ms(1));
    let told = sessions.duty(at_ms(1)).unwrap().control;
    assert_eq!((told.state, told.diagnostic), (State::Down, Diagnostic::FORWARDING_PLANE_RESET));
    let mut down = super::tests::sessions();
    down.duty(at_ms(0));
    down.reset(at_ms(1));
    assert_eq!(down.duty(at_ms(1)), None, "who is down already has nothing to say");
}

fn all(_: Side, _: Ipv4Addr) -> bool {
    true
}

fn with(address: Ipv4Addr) -> impl Fn(Side, Ipv4Addr) -> bool {
    move |_, neighbour| neighbour == address
}

/// 6.8.16
#[test]
fn who_is_held_down_says_so_slowly_and_begins_anew_when_released() {
    let mut sessions = up(at_ms(0));
    assert_eq!(sessions.hold_down(with(Ipv4Addr::new(192, 0, 2, 1)), true, at_ms(1)), 0);
    assert_eq!(sessions.duty(at_ms(1)), None);
    assert_eq!(sessions.hold_down(all, true, at_ms(1)), 1);
    let told = sessions.duty(at_ms(1)).unwrap().control;
    let why = Diagnostic::ADMINISTRATIVELY_DOWN;
    assert_eq!(
        (told.state, told.diagnostic, told.desired_tx_us),
        (State::AdminDown, why, 1_000_000)
    );
    assert_eq!(told.your_discriminator, 77);
    sessions.hold_down(all, true, at_ms(2));
    assert_eq!(next(&mut sessions, at_ms(2), at_ms(700)), None, "held twice is held once");
    let (_, told) = next(&mut sessions, at_ms(700), at_ms(1000)).expect("it goes on saying so");
    assert_eq!(told.state, State::AdminDown);

    assert_eq!(sessions.hold_down(with(NEIGHBOUR), false, at_ms(1000)), 1);
    let told = sessions.duty(at_ms(1000)).unwrap().control;
    assert_eq!((told.state, told.your_discriminator), (State::Down, 0));
    sessions.hold_down(all, false, at_ms(1001));
    assert_eq!(sessions.duty(at_ms(1001)), None, "who is not held is not released");
    hear(&mut sessions, said(State::Down), at_ms(1002));
    assert_eq!(view(&sessions).state, State::Init);
}

/// 6.3, and RFC 5881, 4.
#[test]
fn discriminators_and_ports_are_of_one_session_each() {
    for seed in [0, 1, u64::MAX, 0xffff_0000_ffff_ffff] {
        let config = |host: u8| {
            let neighbour = Ipv4Addr::new(192, 0, 2, host);
            (Side::Outside, SessionConfig { neighbour, seed, ..config() })
        };
        let sessions = Sessions::new((0..200).chain(0..200).map(config));
        assert_eq!(sessions.sessions.len(), 200, "one with each neighbour");
        let distinct = |mut of: Vec<u32>| {
            of.sort_unstable();
            of.dedup();
            of.len() == 200
        };
        assert!(distinct(sessions.sessions.iter().map(|it| it.discriminator).collect()));
        assert!(distinct(sessions.sessions.iter().map(|it| it.port.into()).collect()));
        assert!(
            sessions.sessions.iter().all(|it| it.discriminator > 0 && PORTS.contains(&it.port))
        );
    }
}

#[test]
fn what_can_be_seen_is_told_to_have_changed() {
    let mut sessions = sessions();
    assert!(sessions.has_changed(), "at first");
    assert!(!sessions.has_changed());
    sessions.duty(at_ms(1));
    assert!(!sessions.has_changed());
    hear(&mut sessions, said(State::Init), at_ms(2));
    assert!(sessions.has_changed() && !sessions.has_changed());
    for ms in 3..300 {
        sessions.duty(at_ms(ms));
    }
    assert!(sessions.has_changed(), "it was lost");
    sessions.reset(at_ms(300));
    assert!(sessions.has_changed());
}
