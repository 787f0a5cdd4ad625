//! Two workers with a half of the same shard each, and a cable between their outsides.
//!
//! A tick is 100 ms, so heartbeats are slow.

use std::collections::HashSet;
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure, opt_out};
use krono_core::counters::Counter;
use krono_core::drop::DropReason;
use krono_core::packet::{Endpoint, Mac, Side};
use krono_ha::Unsafe;
use krono_ha::frame::Rejected;
use krono_ha::roles::Role;

use super::bed::{Bed, Plan, ep};
use super::packets::{MACS, Seen, What, read, udp};
use crate::config::{CLUSTER_PORT, ClusterConfig, TwinConfig};
use crate::twin::{Order, OrderRefused, TwinOrder};

const IN: Side = Side::Inside;
const OUT: Side = Side::Outside;
const SERVER: &str = "203.0.113.9:53";

/// Ticks after which a half that is not heard of is silent.
const SILENCE: u32 = 5;
/// Ticks for which both serve when one has been drained.
const CONVERGE: u32 = 20;

/// What tells the two apart.
fn mac(node: u32, side: Side) -> [u8; 6] {
    let mut mac = MACS[side as usize];
    mac[4] = node as u8 - 1;
    mac
}

fn address(node: u32, side: Side) -> std::net::Ipv4Addr {
    match side {
        Side::Inside => [10, 0, 0, node as u8].into(),
        Side::Outside => [192, 0, 2, node as u8].into(),
    }
}

fn plan(node: u32) -> Plan {
    let mut plan = Plan::default();
    let peer = 3 - node;
    for (side, config) in [(IN, &mut plan.router.inside), (OUT, &mut plan.router.outside)] {
        config.mac = Mac(mac(node, side));
        config.address = format!("{}/24", address(node, side)).parse().unwrap();
        config.neighbours.push((address(peer, side), Mac(mac(peer, side))));
    }
    let ms = Duration::from_millis;
    let cluster = ClusterConfig {
        node,
        key: "unused".into(),
        port: CLUSTER_PORT,
        heartbeat: ms(100),
        silence: ms(100 * u64::from(SILENCE)),
        converge: ms(100 * u64::from(CONVERGE)),
        first_ports: 75,
        bird: None,
    };
    let twin =
        TwinConfig { master: 1, slave: 2, side: OUT, peer: address(peer, OUT), next_hops: None };
    plan.twin = Some((cluster, twin));
    plan
}

/// Two halves. Time passes for both unless one is frozen.
struct Pair {
    beds: [Bed; 2],
    frozen: [bool; 2],
    /// Whether frames between the two are lost.
    is_cut: bool,
}

fn index(node: u32) -> usize {
    node as usize - 1
}

impl Pair {
    fn new() -> Pair {
        Pair::of([1, 2].map(plan))
    }

    fn of(plans: [Plan; 2]) -> Pair {
        Pair { beds: plans.map(|plan| Bed::new(&plan)), frozen: [false; 2], is_cut: false }
    }

    /// Two that have met: node 1 serves, and node 2 has caught up.
    fn settled() -> Pair {
        let mut pair = Pair::new();
        pair.pass(30);
        assert_eq!(pair.roles(), [Role::Serving, Role::Following]);
        assert_eq!(pair.failover(1), Ok(()));
        pair
    }

    fn bed(&mut self, node: u32) -> &mut Bed {
        &mut self.beds[index(node)]
    }

    fn roles(&self) -> [Role; 2] {
        self.beds.each_ref().map(|bed| status(bed).role)
    }

    fn failover(&self, node: u32) -> Result<(), Unsafe> {
        status(&self.beds[index(node)]).failover
    }

    /// Lets ticks pass, with a turn in each and what the two say to each other carried over.
    fn pass(&mut self, ticks: u32) {
        for _ in 0..ticks {
            for at in 0..2 {
                self.beds[at].now.0 += 1;
                if !self.frozen[at] {
                    self.beds[at].turn();
                }
            }
            // What is answered at once is carried in the same tick.
            for _ in 0..4 {
                self.carry();
            }
        }
    }

    /// Carries frames between the two.
    fn carry(&mut self) {
        for at in 0..2 {
            for frame in self.beds[at].sent(OUT) {
                let other = &mut self.beds[1 - at];
                if frame[..6] == mac(2 - at as u32, OUT) && !self.is_cut && !self.frozen[1 - at] {
                    assert!(other.peer(OUT).inject(&frame));
                }
            }
        }
        for at in (0..2).filter(|at| !self.frozen[*at]) {
            self.beds[at].settle();
        }
    }

    /// What a node makes of a datagram that arrives at one side: what leaves the other.
    fn send(&mut self, node: u32, side: Side, from: Endpoint, to: Endpoint) -> Option<Seen> {
        let mut frame = udp(side, from, to, b"some");
        frame[..6].copy_from_slice(&mac(node, side));
        self.carry();
        let bed = self.bed(node);
        assert!(bed.peer(side).inject(&frame));
        bed.turn();
        let is_ours =
            |seen: &Seen| matches!(&seen.what, What::Udp(_, _, payload) if payload == b"some");
        let (ours, others): (Vec<_>, Vec<_>) =
            bed.sent(side.opposite()).into_iter().partition(|frame| is_ours(&read(frame)));
        // What the two have to say to each other goes on.
        let other = &mut self.beds[1 - index(node)];
        if side == IN && !self.is_cut {
            others.iter().for_each(|frame| assert!(other.peer(OUT).inject(frame)));
        }
        assert!(ours.len() <= 1);
        ours.first().map(|frame| read(frame))
    }

    /// A subscriber's datagram goes out through a node: where it seems to come from.
    fn out(&mut self, node: u32, from: &str) -> Option<Endpoint> {
        self.send(node, IN, ep(from), ep(SERVER)).map(|seen| seen.what.source())
    }

    /// The server's answer comes in through a node: whether it gets to the subscriber.
    fn back(&mut self, node: u32, public: Endpoint, to: &str) -> bool {
        let Some(Seen { what: What::Udp(_, at, _), .. }) = self.send(node, OUT, ep(SERVER), public)
        else {
            return false;
        };
        assert_eq!(at, ep(to), "delivered to whom it was not for");
        true
    }

    fn order(&mut self, node: u32, order: Order) -> Result<(), OrderRefused> {
        self.bed(node).ask(TwinOrder::new(order)).outcome
    }

    fn dropped(&mut self, node: u32, reason: DropReason) -> u64 {
        self.bed(node).counters().dropped(reason)
    }
}

fn status(bed: &Bed) -> krono_ha::Status {
    let twin = bed.worker.twin.as_ref().expect("it is a half");
    twin.board.look().expect("it has shown how it stands")
}

#[test]
fn a_flow_goes_on_at_the_twin_when_its_half_is_gone() {
    let mut pair = Pair::settled();
    let public = pair.out(1, "100.64.0.5:5000").expect("it is translated");
    assert!(pair.back(1, public, "100.64.0.5:5000"));
    pair.pass(5);
    // Who follows decides nothing, and says so.
    assert_eq!(pair.out(2, "100.64.0.5:5000"), None);
    assert!(!pair.back(2, public, "100.64.0.5:5000"));
    assert_eq!(pair.dropped(2, DropReason::NotServing), 2);
    assert_eq!(pair.bed(2).counters().of(Counter::Sessions), 1);

    pair.frozen[0] = true;
    pair.pass(SILENCE - 1);
    assert_eq!(pair.roles()[1], Role::Following, "not before its time");
    pair.pass(2);
    assert_eq!(pair.roles()[1], Role::Serving);
    assert!(pair.back(2, public, "100.64.0.5:5000"), "the flow goes on from outside");
    assert_eq!(pair.out(2, "100.64.0.5:5000"), Some(public), "and from inside");
    let other = pair.out(2, "100.64.0.6:5000").expect("new ones begin");
    assert!(other.port > public.port || other.addr != public.addr, "from its own part");

    // The one that comes back follows, and knows of what began meanwhile.
    pair.frozen[0] = false;
    pair.pass(30);
    assert_eq!(pair.roles(), [Role::Following, Role::Serving]);
    assert_eq!(pair.failover(2), Ok(()));
    assert_eq!(pair.bed(1).counters().of(Counter::Sessions), 2);
    assert_eq!(pair.out(1, "100.64.0.6:5000"), None);
    assert!(pair.dropped(1, DropReason::NotServing) > 0);
}

#[test]
fn a_session_lives_at_the_half_that_follows_until_the_other_ends_it() {
    let mut pair = Pair::settled();
    let public = pair.out(1, "100.64.0.5:5000").expect("it is translated");
    // Its time is 10 s from each packet, of which the half that follows sees none.
    for _ in 0..3 {
        pair.pass(90);
        assert_eq!(pair.out(1, "100.64.0.5:5000"), Some(public));
    }
    pair.pass(2);
    assert_eq!(pair.bed(2).counters().of(Counter::Sessions), 1);
    pair.pass(110);
    assert_eq!(pair.bed(1).counters().of(Counter::Sessions), 0);
    assert_eq!(pair.bed(2).counters().of(Counter::Sessions), 0);
}

#[test]
fn sessions_that_end_by_the_thousand_are_told_as_they_end() {
    const SESSIONS: u64 = 10_000;
    let mut pair = Pair::of([1, 2].map(|node| {
        let mut plan = plan(node);
        (plan.nat.sessions, plan.nat.subscribers) = (2 * SESSIONS as usize, 300);
        plan
    }));
    pair.pass(30);
    for number in 0..SESSIONS {
        let new =
            Endpoint::new([100, 64, 7, (number % 250) as u8].into(), 2000 + (number / 250) as u16);
        let mut frame = udp(IN, new, ep(SERVER), b"new");
        frame[..6].copy_from_slice(&mac(1, IN));
        assert!(pair.bed(1).peer(IN).inject(&frame));
        if number % 64 == 63 {
            pair.carry();
            pair.carry();
        }
    }
    pair.pass(5);
    let sessions = |pair: &mut Pair, node| pair.bed(node).counters().of(Counter::Sessions);
    assert_eq!([1, 2].map(|node| sessions(&mut pair, node)), [SESSIONS; 2]);
    let (mut most, mut ticks) = (0, 0);
    while sessions(&mut pair, 1) > 0 {
        pair.pass(1);
        most = most.max(status(&pair.beds[0]).queued);
        ticks += 1;
    }
    // Their time was 100 ticks, and they had some of it behind them.
    assert!(ticks < 200, "{ticks} ticks");
    assert!((1000..=5000).contains(&most), "{most} changes waited at a time");
    pair.pass(30);
    assert_eq!(sessions(&mut pair, 2), 0);
    let status = status(&pair.beds[0]);
    assert_eq!((status.overflowed, status.failover), (0, Ok(())));
}

#[test]
fn a_drained_half_serves_until_routes_have_converged_and_loses_nothing() {
    let mut pair = Pair::settled();
    let public = pair.out(1, "100.64.0.5:5000").expect("it is translated");
    assert_eq!(pair.order(2, Order::Drain), Err(OrderRefused::NotServing("following")));
    assert_eq!(pair.order(1, Order::Keep), Err(OrderRefused::NotDraining("serving")));
    assert_eq!(pair.order(1, Order::Drain), Ok(()));
    // Who waits for the end of it must not see how it stood before.
    assert_eq!(pair.roles()[0], Role::Draining);
    pair.pass(3);
    assert_eq!(pair.roles(), [Role::Yielded, Role::Serving]);
    // Both serve, old flows and new ones.
    for node in [1, 2] {
        assert_eq!(pair.out(node, "100.64.0.5:5000"), Some(public));
        assert!(pair.back(node, public, "100.64.0.5:5000"));
        let new = format!("100.64.0.{}:5000", 10 + node);
        let public = pair.out(node, &new).expect("new ones begin");
        assert!(pair.back(node, public, &new));
    }
    pair.pass(CONVERGE + 10);
    assert_eq!(pair.roles(), [Role::Following, Role::Serving]);
    assert_eq!(pair.failover(2), Ok(()));
    assert_eq!([1, 2].map(|node| pair.bed(node).counters().of(Counter::Sessions)), [3, 3]);
    // And back again.
    assert_eq!(pair.order(2, Order::Drain), Ok(()));
    pair.pass(CONVERGE + 10);
    assert_eq!(pair.roles(), [Role::Serving, Role::Following]);
    assert_eq!(pair.out(1, "100.64.0.5:5000"), Some(public));
}

#[test]
fn a_half_that_has_yielded_ends_no_session_whose_packets_it_does_not_see() {
    let mut pair = Pair::settled();
    let public = pair.out(1, "100.64.0.5:5000").expect("it is translated");
    // Its time is 100 ticks.
    pair.pass(92);
    assert_eq!(pair.order(1, Order::Drain), Ok(()));
    pair.pass(3);
    assert_eq!(pair.out(2, "100.64.0.5:5000"), Some(public));
    pair.pass(CONVERGE - 4);
    assert_eq!(pair.roles(), [Role::Yielded, Role::Serving]);
    assert_eq!([1, 2].map(|node| pair.bed(node).counters().of(Counter::Sessions)), [1, 1]);
    assert_eq!(pair.out(2, "100.64.0.5:5000"), Some(public));
}

#[test]
fn a_half_that_is_stopped_has_the_other_serve_at_once() {
    let mut pair = Pair::settled();
    let public = pair.out(1, "100.64.0.5:5000").expect("it is translated");
    // Nobody has been told of this session yet when the half ends.
    let late = pair.out(1, "100.64.0.6:5000").expect("it is translated");
    pair.bed(1).worker.shut_down();
    pair.frozen[0] = true;
    pair.carry();
    pair.pass(1);
    assert_eq!(pair.roles()[1], Role::Serving);
    assert_eq!(pair.out(2, "100.64.0.5:5000"), Some(public));
    assert!(pair.back(2, late, "100.64.0.6:5000"));
    // Likewise if there is nothing else to be told, and no heartbeat due.
    let mut pair = Pair::settled();
    pair.bed(1).worker.shut_down();
    pair.frozen[0] = true;
    pair.carry();
    pair.pass(1);
    assert_eq!(pair.roles()[1], Role::Serving);
}

#[test]
fn two_that_are_both_configured_as_master_are_told_apart_and_share_no_port() {
    let mut pair = Pair::of([1, 2].map(|node| {
        let mut plan = plan(node);
        let (_, twin) = plan.twin.as_mut().unwrap();
        (twin.master, twin.slave) = (node, 3 - node);
        plan
    }));
    pair.pass(30);
    assert_eq!(pair.roles(), [Role::Serving, Role::Following]);
    assert_eq!(pair.failover(1), Err(Unsafe::SamePlace(0)));
    pair.is_cut = true;
    pair.pass(2 * SILENCE);
    assert_eq!(pair.roles(), [Role::Serving; 2]);
    let mut given = HashSet::new();
    for number in 0..500 {
        for node in [1, 2] {
            let new = format!("100.64.{node}.{}:{}", number % 2, 2000 + number);
            let public = pair.out(node, &new).expect("a new session");
            assert!(given.insert(public), "{public:?} has two owners");
        }
    }
    pair.is_cut = false;
    pair.pass(50);
    // The one that took over has the higher epoch.
    assert_eq!(pair.roles(), [Role::Following, Role::Serving]);
    assert_eq!([1, 2].map(|node| pair.bed(node).counters().of(Counter::Sessions)), [1000; 2]);
}

#[test]
fn only_who_hears_nothing_of_the_other_may_be_told_that_it_is_off() {
    let mut pair = Pair::new();
    // Alone from the start it knows nothing of what the other may have given out.
    pair.is_cut = true;
    pair.pass(2 * SILENCE);
    assert_eq!(pair.roles(), [Role::Following; 2]);
    assert_eq!(pair.failover(1), Err(Unsafe::NoPeer));
    assert_eq!(pair.out(1, "100.64.0.5:5000"), None);
    assert_eq!(pair.order(1, Order::Fence), Ok(()));
    pair.pass(2);
    assert_eq!(pair.roles()[0], Role::Serving);
    assert!(pair.out(1, "100.64.0.5:5000").is_some());
    pair.is_cut = false;
    pair.pass(30);
    assert_eq!(pair.roles(), [Role::Serving, Role::Following]);
    assert_eq!(pair.order(1, Order::Fence), Err(OrderRefused::PeerRuns));
}

#[test]
fn what_is_no_frame_of_the_twin_is_dropped_by_its_name() {
    let mut pair = Pair::settled();
    let twin = Endpoint::new(address(1, OUT), CLUSTER_PORT);
    let own = Endpoint::new(address(2, OUT), CLUSTER_PORT);
    let mut hear = |from: Endpoint, to: Endpoint, payload: &[u8]| {
        let mut frame = udp(OUT, from, to, payload);
        frame[..6].copy_from_slice(&mac(2, OUT));
        let bed = pair.bed(2);
        assert!(bed.peer(OUT).inject(&frame));
        bed.turn();
        bed.counters()
    };
    assert_eq!(hear(twin, own, b"short").dropped(DropReason::HaLength), 1);
    assert_eq!(hear(twin, own, &[7; 200]).dropped(DropReason::HaMagic), 1);
    // Neither another's datagrams nor those for another port are looked at.
    let other = Endpoint::new([192, 0, 2, 77].into(), CLUSTER_PORT);
    assert_eq!(hear(other, own, &[7; 200]).dropped(DropReason::LocalUnsupported), 1);
    let port = Endpoint::new(own.addr, CLUSTER_PORT + 1);
    let counters = hear(twin, port, &[7; 200]);
    assert_eq!(counters.dropped(DropReason::LocalUnsupported), 2);
    assert_eq!(counters.dropped(DropReason::HaMagic), 1);
}

#[test]
fn a_wrong_sum_and_a_frame_that_came_before_are_dropped_by_their_names() {
    let mut pair = Pair::settled();
    pair.bed(1).now.0 += 1;
    pair.bed(1).turn();
    let is_for_twin = |frame: &Vec<u8>| frame[..6] == mac(2, OUT);
    let frame = pair.bed(1).sent(OUT).into_iter().find(is_for_twin).expect("a heartbeat");
    let mut wrong = frame.clone();
    *wrong.last_mut().unwrap() ^= 1;
    let mut forged = wrong.clone();
    // No UDP checksum at all.
    forged[40..42].fill(0);
    for (frame, reason) in [
        (&wrong, DropReason::HaChecksumBad),
        (&forged, DropReason::HaDigest),
        (&frame, DropReason::HaReplayed),
    ] {
        let bed = pair.bed(2);
        assert_eq!(bed.counters().dropped(reason), 0);
        assert!(bed.peer(OUT).inject(frame));
        bed.settle();
        // The first time the last one is taken.
        assert!(bed.peer(OUT).inject(frame));
        bed.settle();
        let expected = if reason == DropReason::HaReplayed { 1 } else { 2 };
        assert_eq!(bed.counters().dropped(reason), expected, "{reason}");
    }
}

#[test]
fn another_version_is_refused_with_both_named_and_serving_goes_on() {
    let mut pair = Pair::new();
    // All that node 1 says is of another version.
    for _ in 0..30 {
        pair.is_cut = true;
        pair.pass(1);
        let bed = pair.bed(1);
        bed.now.0 += 1;
        bed.turn();
        for mut frame in bed.sent(OUT) {
            if frame[..6] == mac(2, OUT) {
                // The version is that of the payload, which no UDP checksum protects.
                frame[46..48].copy_from_slice(&9_u16.to_le_bytes());
                frame[40..42].fill(0);
                let bed = pair.bed(2);
                assert!(bed.peer(OUT).inject(&frame));
                bed.settle();
            }
        }
    }
    let theirs = Rejected::Version { theirs: 9, ours: krono_ha::frame::VERSION };
    assert_eq!(pair.failover(2), Err(Unsafe::Refused(theirs)));
    let said = pair.failover(2).unwrap_err().to_string();
    assert!(said.contains("version 9") && said.ends_with("this node 1"), "{said}");
    assert!(pair.dropped(2, DropReason::HaVersion) >= 30);
    assert_eq!(pair.order(2, Order::Fence), Ok(()));
    pair.pass(2);
    assert_eq!(pair.roles()[1], Role::Serving);
    assert!(pair.out(2, "100.64.0.5:5000").is_some());
}

#[test]
fn every_refusal_has_a_drop_of_its_name() {
    let reasons = [
        Rejected::Length(0),
        Rejected::Magic,
        Rejected::Version { theirs: 0, ours: 1 },
        Rejected::Digest,
        Rejected::Layout { theirs: 0, ours: 1 },
        Rejected::Shard(0),
        Rejected::Node(0),
        Rejected::Header,
        Rejected::Replayed,
        Rejected::Outdated,
    ];
    assert_eq!(reasons.len(), Rejected::COUNT);
    for reason in reasons {
        assert_eq!(crate::twin::drop_reason(reason).name(), reason.name());
    }
}

#[test]
fn neither_half_allocates_while_it_serves_follows_and_takes_over() {
    let mut pair = Pair::settled();
    pair.out(1, "100.64.0.5:5000").expect("it is translated");
    pair.pass(3);
    let counted = measure(|| {
        for round in 0..200_u32 {
            let [first, second] = &mut pair.beds;
            opt_out(|| {
                let new = Endpoint::new([100, 64, 1, round as u8].into(), 5000);
                let mut frame = udp(IN, new, ep(SERVER), b"new");
                let node = if round < 100 { 1 } else { 2 };
                frame[..6].copy_from_slice(&mac(node, IN));
                let bed = if node == 1 { &first } else { &second };
                assert!(bed.peer(IN).inject(&frame));
            });
            for bed in [&mut *first, &mut *second] {
                bed.now.0 += 1;
                while let Some(side) = bed.worker.input.receive(&mut bed.burst) {
                    bed.worker.turn(Some(side), &mut bed.burst, bed.now.into(), &mut bed.pace);
                }
                bed.worker.turn(None, &mut bed.burst, bed.now.into(), &mut bed.pace);
            }
            // From round 90 on the first one is not heard any more.
            opt_out(|| {
                for frame in first.sent(OUT) {
                    if round < 90 && frame[..6] == mac(2, OUT) {
                        assert!(second.peer(OUT).inject(&frame));
                    }
                }
                drop((first.sent(IN), second.sent(IN)));
                for frame in second.sent(OUT) {
                    if round < 90 && frame[..6] == mac(1, OUT) {
                        assert!(first.peer(OUT).inject(&frame));
                    }
                }
            });
        }
    });
    assert_eq!(counted, AllocationInfo::default());
    assert_eq!(pair.roles()[1], Role::Serving);
    assert!(pair.bed(2).counters().of(Counter::Sessions) > 95);
}
