//! A worker that holds a BFD session with the gateway outside. A tick is 100 ms, so the session is
//! a slow one.

use krono_core::counters::Counter;
use krono_core::drop::DropReason;
use krono_core::packet::{Endpoint, Side};
use krono_core::router::bfd::{Control, Diagnostic, PORT, State};

use super::bed::{Bed, DISCRIMINATOR, Plan};
use super::packets::{
    ADDRESSES, GATEWAY_MACS, GATEWAYS, MACS, Seen, What, arp_reply, read, udp, udp_with_ttl,
};
use crate::mailbox::BfdHold;

const OUT: usize = Side::Outside as usize;

/// The gateway's end of the session.
fn said(state: State, your_discriminator: u32) -> Control {
    Control {
        state,
        multiplier: 3,
        my_discriminator: 77,
        your_discriminator,
        desired_tx_us: 500_000,
        required_rx_us: 500_000,
        ..Control::default()
    }
}

fn ends() -> (Endpoint, Endpoint) {
    (Endpoint::new(GATEWAYS[OUT], 50_000), Endpoint::new(ADDRESSES[OUT], PORT))
}

fn frame(control: &Control) -> Vec<u8> {
    let (from, to) = ends();
    udp_with_ttl(Side::Outside, from, to, &control.to_bytes(), 255)
}

/// The BFD packets among frames that left outside, all of them as they must be.
fn packets(frames: &[Vec<u8>]) -> Vec<Control> {
    let mut ports = Vec::new();
    let packet = |frame: &Vec<u8>| {
        let Seen { macs, what, ttl, vlan } = read(frame);
        let What::Udp(from, to, payload) = what else { return None };
        assert_eq!((macs, ttl, vlan), ((GATEWAY_MACS[OUT], MACS[OUT]), 255, None));
        assert_eq!((from.addr, to), (ADDRESSES[OUT], Endpoint::new(GATEWAYS[OUT], PORT)));
        assert!(from.port >= 49_152, "RFC 5881, 4");
        ports.push(from.port);
        Some(Control::parse(&payload).expect("a BFD packet"))
    };
    let packets: Vec<_> = frames.iter().filter_map(packet).collect();
    assert!(ports.windows(2).all(|pair| pair[0] == pair[1]), "one port for the session");
    packets
}

/// The worker hears the gateway, and says these.
fn exchange(bed: &mut Bed, control: Control) -> Vec<Control> {
    let [inside, outside] = bed.exchange(Side::Outside, &frame(&control));
    assert!(inside.is_empty());
    packets(&outside)
}

/// A bed whose session is up.
fn up() -> Bed {
    let mut bed = Bed::new(&Plan::default().with_bfd());
    exchange(&mut bed, said(State::Down, 0));
    let [told] = exchange(&mut bed, said(State::Up, DISCRIMINATOR))[..] else {
        panic!("it is up and says so")
    };
    assert_eq!((told.state, told.your_discriminator, told.poll), (State::Up, 77, true));
    bed
}

#[test]
fn a_session_comes_up_and_every_packet_of_it_is_accounted_for() {
    let mut bed = Bed::new(&Plan::default().with_bfd());
    bed.turn();
    let [first] = packets(&bed.sent(Side::Outside))[..] else { panic!("the first at once") };
    assert_eq!((first.state, first.desired_tx_us), (State::Down, 1_000_000));
    assert_eq!((first.my_discriminator, first.your_discriminator), (DISCRIMINATOR, 0));
    let [second] = exchange(&mut bed, said(State::Init, DISCRIMINATOR))[..] else {
        panic!("an answer at once")
    };
    assert_eq!((second.state, second.poll), (State::Up, true));
    let answer = Control { poll: true, is_final: false, ..said(State::Up, DISCRIMINATOR) };
    let answers = exchange(&mut bed, answer);
    assert!(answers.len() == 1 && answers[0].is_final, "{answers:?}");
    let counters = bed.counters();
    assert_eq!((counters.of(Counter::Consumed), counters.of(Counter::Originated)), (2, 3));
    assert_eq!((counters.received(), counters.of(Counter::Sent)), (2, 0));
    let (view, _) = bed.worker.bfd.look().next().expect("a session is shown");
    assert_eq!((view.state, view.ups, view.neighbour), (State::Up, 1, GATEWAYS[OUT]));
    assert_eq!((view.transmit_us, view.detection_us), (500_000, 1_500_000));
    assert_eq!(bed.pool.in_use(), 0);
}

#[test]
fn a_gateway_that_falls_silent_is_lost_in_time_and_packets_are_still_forwarded() {
    let mut bed = up();
    // 15 ticks, and the one in which the last packet came.
    bed.pass(14);
    assert_eq!(bed.worker.bfd.look().next().unwrap().0.state, State::Up);
    bed.sent(Side::Outside);
    bed.pass(2);
    let seen = bed.worker.bfd.look().next().unwrap().0;
    assert_eq!(seen.state, State::Down);
    assert_eq!(seen.diagnostic, Diagnostic::DETECTION_TIME_EXPIRED);
    assert!(packets(&bed.sent(Side::Outside)).iter().any(|told| told.state == State::Down));
    let payload = udp(
        Side::Inside,
        Endpoint::new([100, 64, 0, 5].into(), 5000),
        Endpoint::new([203, 0, 113, 9].into(), PORT),
        b"of a subscriber to somebody's BFD port",
    );
    bed.forward(Side::Inside, &payload);
}

#[test]
fn what_is_no_packet_of_a_session_is_dropped_for_its_reason() {
    let (from, to) = ends();
    let up = said(State::Up, DISCRIMINATOR).to_bytes();
    let with = |at: usize, byte: u8| {
        let mut bytes = up;
        bytes[at] = byte;
        udp_with_ttl(Side::Outside, from, to, &bytes, 255)
    };
    let mut wrong_sum = frame(&said(State::Up, DISCRIMINATOR));
    wrong_sum[14 + 20 + 6] ^= 1;
    let stranger = Endpoint::new([192, 0, 2, 77].into(), from.port);
    let cases = [
        (udp_with_ttl(Side::Outside, from, to, &up, 254), DropReason::BfdTtlBad),
        (wrong_sum, DropReason::BfdChecksumBad),
        (with(0, 0x40), DropReason::BfdVersionBad),
        (with(3, 23), DropReason::BfdLenBad),
        (udp_with_ttl(Side::Outside, from, to, &up[..20], 255), DropReason::BfdLenBad),
        (with(2, 0), DropReason::BfdMultiplierZero),
        (with(1, 0xc1), DropReason::BfdMultipoint),
        (with(7, 0), DropReason::BfdDiscriminatorZero),
        (frame(&said(State::Up, 0)), DropReason::BfdStateBad),
        (frame(&said(State::Up, 1 + DISCRIMINATOR)), DropReason::BfdSessionUnknown),
        (udp_with_ttl(Side::Outside, stranger, to, &up, 255), DropReason::BfdSessionUnknown),
        (
            udp_with_ttl(Side::Outside, from, to, &[&with_auth(&up)[..], &[0, 0]].concat(), 255),
            DropReason::BfdAuthenticated,
        ),
    ];
    let mut bed = self::up();
    for (frame, reason) in cases {
        let before = bed.counters();
        let out = bed.exchange(Side::Outside, &frame);
        assert!(out.iter().all(Vec::is_empty), "{reason}: nobody is told");
        assert_eq!(bed.counters().dropped(reason), before.dropped(reason) + 1, "{reason}");
    }
    // Without a checksum it is right (RFC 768), cut by segments it is not.
    let mut unsummed = frame(&said(State::Up, DISCRIMINATOR));
    unsummed[14 + 20 + 6..][..2].fill(0);
    bed.exchange(Side::Outside, &unsummed);
    let whole = frame(&said(State::Up, DISCRIMINATOR));
    let (head, tail) = whole.split_at(50);
    assert!(bed.peer(Side::Outside).inject_segments(&[head, tail]));
    bed.settle();
    let counters = bed.counters();
    assert_eq!(
        (counters.of(Counter::Consumed), counters.dropped(DropReason::HeadersSegmented)),
        (3, 1)
    );
}

fn with_auth(bytes: &[u8; 24]) -> [u8; 24] {
    let mut bytes = *bytes;
    (bytes[1], bytes[3]) = (bytes[1] | 4, 26);
    bytes
}

#[test]
fn without_sessions_the_port_is_closed() {
    let mut bed = Bed::new(&Plan::default());
    let [_, outside] = bed.exchange(Side::Outside, &frame(&said(State::Down, 0)));
    let told = read(&outside[0]).what;
    assert_eq!(told, What::Icmp(ADDRESSES[OUT], GATEWAYS[OUT], 3, 3));
    assert_eq!(bed.counters().dropped(DropReason::LocalUnsupported), 1);
}

#[test]
fn a_neighbour_is_asked_for_its_address_first() {
    let mut bed = Bed::new(&Plan::default().without_neighbours().with_bfd());
    bed.turn();
    let [request] = &bed.sent(Side::Outside)[..] else { panic!("a request alone") };
    assert_eq!(read(request).what, What::ArpRequest(GATEWAYS[OUT]));
    // For as long as it does not answer, it is asked now and then, and nothing is said to it.
    bed.pass(200);
    assert_eq!(packets(&bed.sent(Side::Outside)), []);
    let answer = arp_reply(Side::Outside, (GATEWAY_MACS[OUT], GATEWAYS[OUT]));
    bed.exchange(Side::Outside, &answer);
    bed.pass(10);
    assert_eq!(packets(&bed.sent(Side::Outside)).len(), 1);
    assert_eq!(bed.counters().of(Counter::Held), 0);
}

#[test]
fn a_packet_without_a_buffer_is_lost_and_the_next_one_goes() {
    let mut bed = up();
    let hoard: Vec<_> = std::iter::from_fn(|| bed.pool.alloc()).collect();
    bed.pass(5);
    assert_eq!(bed.counters().of(Counter::OriginatedLost), 1);
    drop(hoard);
    bed.pass(5);
    assert_eq!(packets(&bed.sent(Side::Outside)).len(), 1);
}

#[test]
fn a_session_that_is_held_down_says_so_and_hears_nothing_until_it_is_released() {
    let mut bed = up();
    let hold = |is_held| BfdHold { neighbour: Some(GATEWAYS[OUT]), is_held, count: 0 };
    assert_eq!(bed.ask(hold(true)).count, 1);
    bed.settle();
    let [told] = packets(&bed.sent(Side::Outside))[..] else { panic!("it says so at once") };
    assert_eq!(
        (told.state, told.diagnostic),
        (State::AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN)
    );
    assert_eq!(exchange(&mut bed, said(State::Down, DISCRIMINATOR)), []);
    assert_eq!(bed.counters().dropped(DropReason::BfdAdminDown), 1);
    assert_eq!(bed.ask(BfdHold { neighbour: Some(GATEWAYS[0]), ..hold(false) }).count, 0);
    assert_eq!(bed.ask(BfdHold { neighbour: None, ..hold(false) }).count, 1);
    let answers = exchange(&mut bed, said(State::Down, DISCRIMINATOR));
    assert_eq!(answers.last().map(|told| told.state), Some(State::Init));
}

#[test]
fn who_is_shut_down_says_so() {
    let mut bed = up();
    bed.worker.shut_down();
    let [told] = packets(&bed.sent(Side::Outside))[..] else { panic!("one packet") };
    assert_eq!((told.state, told.diagnostic), (State::Down, Diagnostic::FORWARDING_PLANE_RESET));
    assert!(bed.counters().is_balanced());
}
