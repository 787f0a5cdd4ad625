//! A worker neither allocates nor frees memory once it runs. The counting allocator counts for
//! each thread apart, so other tests do not disturb.

use allocation_counter::{AllocationInfo, measure, opt_out};
use krono_core::counters::{Counter, CounterSnapshot};
use krono_core::drop::DropReason;
use krono_core::packet::{Endpoint, Side};
use krono_core::router::bfd::{Control, PORT, State};

use super::bed::{Bed, DISCRIMINATOR, Plan, ep};
use super::packets::{
    ADDRESSES, GATEWAY_MACS, GATEWAYS, arp_reply, arp_request, echo, read, tcp, udp, udp_with_ttl,
    unreachable,
};
use crate::mailbox::{LookupQuery, Reload, SessionFilter, SessionsPage};

const SERVER: &str = "203.0.113.9:53";

fn host(number: u32) -> Endpoint {
    Endpoint::new([10, 0, 0, 10 + (number % 200) as u8].into(), 1024 + (number / 200) as u16)
}

/// Frames of every kind that makes the worker do something of its own.
fn variety(round: u32, public: Endpoint, answer_seen: &[u8]) -> Vec<(Side, Vec<u8>)> {
    let (inside, outside) = (Side::Inside, Side::Outside);
    let (server, new) = (ep(SERVER), host(round));
    let mac = [2, 0, 0, 3, (round >> 8) as u8, round as u8];
    let mut truncated = udp(inside, new, server, b"");
    truncated.truncate(30);
    vec![
        (inside, udp(inside, new, server, b"a new session")),
        (inside, udp(inside, new, ep("203.0.113.9:54"), b"another of the same mapping")),
        (inside, tcp(inside, new, server, "S", (round, 0))),
        (inside, echo(inside, new, server.addr)),
        (inside, udp(inside, ep("100.64.0.5:5000"), server, b"an old session")),
        (outside, udp(outside, server, public, b"back")),
        (outside, udp(outside, ep("203.0.113.66:6"), public, b"a stranger")),
        (inside, unreachable(inside, [100, 64, 0, 5].into(), answer_seen)),
        (inside, udp_with_ttl(inside, new, server, b"", 1)),
        (inside, udp(inside, new, public, b"hairpin")),
        (inside, udp(inside, ep("192.168.7.7:7"), server, b"spoofed")),
        (inside, echo(inside, new, ADDRESSES[0])),
        (inside, truncated),
        (inside, arp_request(inside, (mac, new.addr), ADDRESSES[0])),
        (outside, arp_request(outside, (mac, GATEWAYS[1]), ADDRESSES[1])),
        (outside, udp(outside, server, ep("192.0.2.1:9"), b"for the shard itself")),
        (outside, bfd(round)),
        // A remote host on the link that does not answer, and a subscriber who will.
        (
            inside,
            udp(inside, new, Endpoint::new([192, 0, 2, 9 + (round % 200) as u8].into(), 1), b""),
        ),
        (outside, arp_reply(outside, (GATEWAY_MACS[1], GATEWAYS[1]))),
    ]
}

/// A BFD session that comes up, goes down and has a Poll answered, and once in a while is silent.
fn bfd(round: u32) -> Vec<u8> {
    let ttl = if round % 50 < 20 { 254 } else { 255 };
    let control = Control {
        state: [State::Down, State::Init, State::Up, State::Up][round as usize % 4],
        poll: round.is_multiple_of(3),
        multiplier: 1,
        my_discriminator: 77,
        your_discriminator: DISCRIMINATOR,
        desired_tx_us: 1,
        required_rx_us: 1,
        ..Control::default()
    };
    let (from, to) = (ep("192.0.2.254:50000"), Endpoint::new(ADDRESSES[1], PORT));
    udp_with_ttl(Side::Outside, from, to, &control.to_bytes(), ttl)
}

/// Turns with only what the worker does being counted.
fn turn(bed: &mut Bed, frames: Vec<(Side, Vec<u8>)>) {
    opt_out(|| {
        for (side, frame) in &frames {
            assert!(bed.peer(*side).inject(frame));
        }
        drop(frames);
    });
    while let Some(side) = bed.worker.input.receive(&mut bed.burst) {
        bed.worker.turn(Some(side), &mut bed.burst, bed.now.into(), &mut bed.pace);
    }
    bed.worker.turn(None, &mut bed.burst, bed.now.into(), &mut bed.pace);
    opt_out(|| Side::BOTH.into_iter().for_each(|side| drop(bed.sent(side))));
}

#[test]
fn a_running_worker_neither_allocates_nor_frees() {
    let mut plan = Plan::default().without_neighbours().with_bfd();
    plan.nat.policy.timeouts.icmp = krono_core::time::Span(20);
    let mut bed = Bed::new(&plan);
    // Warming up makes the lists of the memory ports grow, and shows both sides' gateways.
    for side in Side::BOTH {
        let gateway = (GATEWAY_MACS[side as usize], GATEWAYS[side as usize]);
        bed.exchange(side, &arp_reply(side, gateway));
    }
    let open = udp(Side::Inside, ep("100.64.0.5:5000"), ep(SERVER), b"open");
    let public = read(&bed.forward(Side::Inside, &open)).what.source();
    let answer = udp(Side::Outside, ep(SERVER), public, b"answer");
    let answer_seen = bed.forward(Side::Outside, &answer);
    turn(&mut bed, variety(100_000, public, &answer_seen));

    let counted = measure(|| {
        for round in 0..600 {
            let mut frames = Vec::new();
            opt_out(|| frames = variety(round, public, &answer_seen));
            // A full queue, now and then.
            opt_out(|| bed.peer(Side::Outside).limit_tx(if round % 10 == 0 { 2 } else { 1000 }));
            turn(&mut bed, frames);
            bed.now.0 += 1;
        }
    });
    assert_eq!(counted, AllocationInfo::default());

    let counters = bed.counters();
    for counter in [
        Counter::Sent,
        Counter::Consumed,
        Counter::Originated,
        Counter::OriginatedLost,
        Counter::SessionsDeleted,
        Counter::MappingsDeleted,
    ] {
        assert!(counters.of(counter) > 0, "no {}", counter.name());
    }
    let (session, _) = bed.worker.bfd.look().next().expect("a session is shown");
    assert!(session.ups > 20, "it came up {} times", session.ups);
    for reason in [
        DropReason::TtlExceeded,
        DropReason::TxFull,
        DropReason::Filtered,
        DropReason::NeighbourUnreachable,
        DropReason::LocalUnsupported,
        DropReason::BfdTtlBad,
    ] {
        assert!(counters.dropped(reason) > 0, "no {reason}");
    }
}

#[test]
fn answering_a_letter_allocates_and_frees_nothing() {
    let plan = Plan::default();
    let mut bed = Bed::new(&plan);
    let mut public = None;
    for number in 0..300 {
        let frame = udp(Side::Inside, host(number), ep(SERVER), b"");
        public = Some(read(&bed.forward(Side::Inside, &frame)).what.source());
    }
    let mut policy = plan.nat.policy.clone();
    policy.statics.push(krono_nat::config::StaticMapping {
        protocol: krono_core::packet::Protocol::Tcp,
        inside: ep("100.64.0.80:80"),
        outside: ep("198.51.100.1:8080"),
    });
    let Bed { worker, handle, burst, pace, now, .. } = &mut bed;
    let mut answer = |post: &mut dyn FnMut()| {
        post();
        let counted = measure(|| worker.turn(None, burst, (*now).into(), pace));
        assert_eq!(counted, AllocationInfo::default());
    };
    answer(&mut || drop(handle.post(Box::<CounterSnapshot>::default()).unwrap()));
    let page = || SessionsPage::new(0, SessionFilter::default(), 1000);
    answer(&mut || drop(handle.post(Box::new(page())).unwrap()));
    let query = || LookupQuery::new(public.unwrap(), None);
    answer(&mut || drop(handle.post(Box::new(query())).unwrap()));
    let reload = || Reload { policy: policy.clone(), outcome: Ok(()) };
    answer(&mut || drop(handle.post(Box::new(reload())).unwrap()));
    assert_eq!(bed.ask(query()).owners.iter().flatten().count(), 1);
    assert_eq!(bed.counters().of(Counter::Mappings), 301, "the static mapping was made");
}

#[test]
fn starting_to_run_and_shutting_down_allocate_nothing() {
    let mut bed = Bed::new(&Plan::default().without_neighbours().with_bfd());
    let frame = udp(Side::Inside, ep("100.64.0.5:5000"), ep(SERVER), b"held");
    assert!(bed.peer(Side::Inside).inject(&frame));
    bed.turn();
    bed.handle.stop();
    let counted = measure(|| bed.worker.run());
    assert_eq!(counted, AllocationInfo::default());
    assert_eq!(bed.counters().dropped(DropReason::ShutDown), 1);
}
