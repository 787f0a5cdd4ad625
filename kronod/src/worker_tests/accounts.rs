//! Every frame is accounted for, whatever comes and whatever does not go.

use krono_core::counters::{Counter, CounterSnapshot};
use krono_core::drop::DropReason;
use krono_core::packet::{Endpoint, Side};
use krono_core::router::bfd::{Control, PORT, State};
use krono_core::time::Span;
use krono_io::Mbuf;
use krono_nat::config::Filtering;

use super::bed::{Bed, DISCRIMINATOR, Plan, ep};
use super::packets::{
    ADDRESSES, GATEWAY_MACS, GATEWAYS, What, arp_reply, arp_request, echo, read, tagged, tcp, udp,
    udp_with_ttl,
};

/// A small generator of numbers (SplitMix64), so that a printed seed repeats a run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn one_in(&mut self, chance: u64) -> bool {
        self.below(chance) == 0
    }
}

/// What the stations around a shard send, in any order.
struct Load {
    random: Random,
    /// Public endpoints that were seen.
    public: Vec<Endpoint>,
}

impl Load {
    fn frame(&mut self, side: Side) -> Vec<u8> {
        let random = &mut self.random;
        let host = random.below(30) as u8;
        // Behind the gateway, or on the link, where some never answer.
        let subscriber = match random.below(3) {
            0 => Endpoint::new([10, 0, 0, 10 + host].into(), 4000),
            _ => Endpoint::new([100, 64, 0, host].into(), 4000 + random.below(3) as u16),
        };
        let remote = match random.below(4) {
            0 => Endpoint::new([192, 0, 2, 20 + host % 6].into(), 53),
            _ => Endpoint::new([203, 0, 113, host % 4].into(), 53),
        };
        let public = match self.public.len() {
            0 => ep("198.51.100.2:4000"),
            known => self.public[random.below(known as u64) as usize],
        };
        let numbers = (random.below(1 << 32) as u32, random.below(1 << 32) as u32);
        let flags = ["S", "SA", "A", "FA", "RA", "SF", ""][random.below(7) as usize];
        let (from, to) = if side == Side::Inside { (subscriber, remote) } else { (remote, public) };
        let own = ADDRESSES[side as usize];
        let gateway = (GATEWAY_MACS[side as usize], GATEWAYS[side as usize]);
        let mut frame = match random.below(26) {
            0..6 => udp(side, from, to, b"payload"),
            6..10 => tcp(side, from, to, flags, numbers),
            10 => echo(side, from, to.addr),
            11 => echo(side, from, own),
            12 => udp_with_ttl(side, from, to, b"", 1),
            13 => udp(side, ep("172.16.3.3:3"), to, b"spoofed"),
            14 => udp(side, from, Endpoint::new(own, 9), b"for the shard"),
            15 => udp(side, from, public, b"hairpin, or a stranger"),
            16 => arp_request(side, gateway, own),
            17 => arp_reply(side, gateway),
            18 => arp_reply(side, ([2, 0, 0, 0, 5, host], from.addr)),
            19 => arp_request(side, ([2, 0, 0, 0, 6, host], from.addr), to.addr),
            20 => udp(side, from, to, &[0; 1473]),
            21 => tagged(udp(side, from, to, b""), 77),
            22 => udp(side, from, Endpoint::new([10, 9, 9, 9].into(), 9), b"nowhere"),
            23..25 => bfd(side, random),
            _ => vec![0xa5; 1 + random.below(100) as usize],
        };
        if random.one_in(12) {
            let at = random.below(frame.len() as u64) as usize;
            frame[at] ^= 1 << random.below(8);
        }
        if random.one_in(30) {
            frame.truncate(1 + random.below(frame.len() as u64) as usize);
        }
        frame
    }
}

/// What the gateway of a side, where it may have a session, has to say by BFD.
fn bfd(side: Side, random: &mut Random) -> Vec<u8> {
    let control = Control {
        state: State::from_bits(random.below(4) as u8),
        poll: random.one_in(4),
        is_final: random.one_in(4),
        multiplier: 1 + random.below(3) as u8,
        my_discriminator: 7,
        your_discriminator: if random.one_in(3) { 0 } else { DISCRIMINATOR },
        desired_tx_us: 100_000,
        required_rx_us: 100_000 * random.below(3) as u32,
        ..Control::default()
    };
    let from = Endpoint::new(GATEWAYS[side as usize], 50_000);
    let ttl = if random.one_in(9) { 64 } else { 255 };
    let to = Endpoint::new(ADDRESSES[side as usize], PORT);
    udp_with_ttl(side, from, to, &control.to_bytes(), ttl)
}

fn plan() -> Plan {
    let mut plan = Plan { buffers: 300, ..Plan::default().without_neighbours().with_bfd() };
    plan.nat.sessions = 150;
    plan.nat.ports_per_subscriber = 6;
    plan.nat.policy.timeouts.udp = Span(30);
    plan.nat.policy.timeouts.icmp = Span(10);
    plan.nat.policy.timeouts.tcp_opening = Span(20);
    plan.nat.policy.timeouts.tcp_closing = Span(5);
    plan.router.inside.mtu = 1400;
    plan
}

/// The public endpoint that a frame comes from, if it is a translated one.
fn public_source(frame: &[u8]) -> Option<Endpoint> {
    let address: [u8; 4] = *frame.get(26..)?.first_chunk()?;
    let port = u16::from_be_bytes(*frame.get(34..)?.first_chunk()?);
    address.starts_with(&[198, 51, 100]).then(|| Endpoint::new(address.into(), port))
}

/// A worker under random load, and books of its frames that are kept from outside.
struct Ordeal {
    bed: Bed,
    load: Load,
    injected: u64,
    left: u64,
}

impl Ordeal {
    fn new(seed: u64) -> Ordeal {
        let load = Load { random: Random(seed), public: Vec::new() };
        Ordeal { bed: Bed::new(&plan()), load, injected: 0, left: 0 }
    }

    fn step(&mut self) {
        for _ in 0..self.load.random.below(100) {
            let side = Side::BOTH[self.load.random.below(2) as usize];
            self.send(side);
        }
        for side in Side::BOTH {
            let random = &mut self.load.random;
            let room = if random.one_in(3) { random.below(20) } else { 1000 };
            self.bed.peer(side).limit_tx(room as usize);
        }
        let mut hoard: Vec<Mbuf> = Vec::new();
        if self.load.random.one_in(20) {
            hoard.extend(std::iter::from_fn(|| self.bed.pool.alloc()));
        }
        for _ in 0..self.load.random.below(4) {
            self.turn();
        }
        self.bed.now.0 += self.load.random.below(5) as u32;
    }

    /// Delivers a frame, cut into segments at times, if there are buffers for it.
    fn send(&mut self, side: Side) {
        let frame = self.load.frame(side);
        let cut = match self.load.random.one_in(10) {
            true => self.load.random.below(frame.len() as u64) as usize,
            false => frame.len(),
        };
        let (head, tail) = frame.split_at(cut);
        let pieces = if tail.is_empty() { &[head][..] } else { &[head, tail] };
        self.injected += u64::from(self.bed.peer(side).inject_segments(pieces));
    }

    fn turn(&mut self) {
        self.bed.turn();
        for side in Side::BOTH {
            let frames = self.bed.sent(side);
            self.left += frames.len() as u64;
            self.load.public.extend(frames.iter().filter_map(|frame| public_source(frame)));
        }
        let excess = self.load.public.len().saturating_sub(40);
        self.load.public.drain(..excess);
        self.audit();
    }

    fn waiting(&self) -> u64 {
        Side::BOTH.iter().map(|side| self.bed.peer(*side).waiting() as u64).sum()
    }

    fn audit(&self) {
        let counters = self.bed.counters();
        assert!(counters.is_balanced());
        assert_eq!(counters.received(), self.injected - self.waiting());
        assert_eq!(counters.of(Counter::Sent) + counters.of(Counter::Originated), self.left);
        let left_by_side = Side::BOTH.map(|side| counters.tx(side).packets);
        assert_eq!(left_by_side.iter().sum::<u64>(), self.left);
    }

    /// The end comes under load: while frames are held, and more wait in the queues.
    fn end(mut self) -> CounterSnapshot {
        (0..200).for_each(|_| self.send(Side::Inside));
        self.turn();
        let before = self.bed.counters();
        let (counters, pool) = self.bed.shut_down();
        assert_eq!(counters.of(Counter::Held), 0);
        assert_eq!(counters.dropped(DropReason::ShutDown), before.of(Counter::Held));
        assert_eq!(counters.received(), before.received());
        assert_eq!(pool.in_use(), 0, "every buffer is back");
        counters
    }
}

#[test]
fn every_frame_is_accounted_for_under_random_load() {
    let first = std::env::var("KRONO_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut totals = Vec::new();
    for seed in first..first + 20 {
        println!("KRONO_SEED={seed}");
        let mut ordeal = Ordeal::new(seed);
        (0..400).for_each(|_| ordeal.step());
        totals.push(ordeal.end());
    }
    // The load is as mixed as it claims to be.
    let sum = |of: &dyn Fn(&CounterSnapshot) -> u64| totals.iter().map(of).sum::<u64>();
    let often = [
        DropReason::FrameTooShort,
        DropReason::HeadersSegmented,
        DropReason::IpChecksumBad,
        DropReason::ArpNotOurs,
        DropReason::SpoofedSource,
        DropReason::TtlExceeded,
        DropReason::LocalUnsupported,
        DropReason::FragmentationNeeded,
        DropReason::NoMapping,
        DropReason::Filtered,
        DropReason::NeighbourUnresolved,
        DropReason::NeighbourUnreachable,
        DropReason::SessionsFull,
        DropReason::TxFull,
        DropReason::BfdTtlBad,
        DropReason::BfdSessionUnknown,
    ];
    for reason in often {
        assert!(sum(&|end| end.dropped(reason)) > 100, "hardly any {reason}");
    }
    assert!(sum(&|end| end.dropped(DropReason::ShutDown)) > 0, "nothing was held at the end");
    for counter in [Counter::Sent, Counter::Consumed, Counter::OriginatedLost] {
        assert!(sum(&|end| end.of(counter)) > 1000, "hardly any {}", counter.name());
    }
}

const SERVER: &str = "203.0.113.9:53";

#[test]
fn a_full_queue_costs_its_frames_and_nothing_else() {
    let mut bed = Bed::new(&Plan::default());
    let packet = |host: u8| {
        udp(Side::Inside, Endpoint::new([100, 64, 0, host].into(), 5000), ep(SERVER), &[host])
    };
    let public: Vec<_> =
        (0..40).map(|host| read(&bed.forward(Side::Inside, &packet(host))).what.source()).collect();

    bed.peer(Side::Outside).limit_tx(10);
    let doomed = udp_with_ttl(Side::Inside, ep("100.64.0.1:1"), ep(SERVER), b"", 1);
    bed.peer(Side::Inside).limit_tx(0);
    (0..40).for_each(|host| assert!(bed.peer(Side::Inside).inject(&packet(host))));
    assert!(bed.peer(Side::Inside).inject(&doomed));
    assert!(bed.peer(Side::Inside).inject(&echo(Side::Inside, ep("100.64.0.1:1"), ADDRESSES[0])));
    bed.settle();
    let counters = bed.counters();
    assert_eq!(bed.sent(Side::Outside).len(), 10, "the first ones");
    assert_eq!(counters.dropped(DropReason::TxFull), 30);
    assert_eq!((counters.of(Counter::Sent), counters.of(Counter::Consumed)), (50, 1));
    assert_eq!(counters.dropped(DropReason::TtlExceeded), 1);
    let own = (counters.of(Counter::Originated), counters.of(Counter::OriginatedLost));
    assert_eq!(own, (0, 2), "the ICMP error and the echo reply");
    assert_eq!(bed.pool.in_use(), 0);

    // Sessions are as they were, in both directions.
    Side::BOTH.iter().for_each(|side| bed.peer(*side).limit_tx(1000));
    for (host, public) in (0..40).zip(public) {
        let seen = read(&bed.forward(Side::Inside, &packet(host))).what;
        assert_eq!(seen, What::Udp(public, ep(SERVER), vec![host]));
        let back = bed.forward(Side::Outside, &udp(Side::Outside, ep(SERVER), public, b"back"));
        let What::Udp(_, to, _) = read(&back).what else { panic!("no answer") };
        assert_eq!(to.addr.octets(), [100, 64, 0, host]);
    }
}

#[test]
fn an_empty_pool_stops_nothing_for_good() {
    let mut bed = Bed::new(&Plan { buffers: 64, ..Plan::default().without_neighbours() });
    let packet = udp(Side::Inside, ep("100.64.0.5:5000"), ep(SERVER), b"");
    let mut hoard: Vec<Mbuf> = std::iter::from_fn(|| bed.pool.alloc()).collect();
    assert!(!bed.peer(Side::Inside).inject(&packet), "the port itself has no buffers");
    (0..10).for_each(|_| bed.pass(1));
    assert_eq!(bed.counters().received(), 0);

    // One buffer: it takes the packet, and so none is left for the request.
    hoard.pop();
    assert!(bed.peer(Side::Inside).inject(&packet));
    bed.settle();
    let counters = bed.counters();
    assert_eq!((counters.of(Counter::Held), counters.of(Counter::OriginatedLost)), (1, 1));

    hoard.clear();
    bed.pass(20);
    assert_eq!(bed.sent(Side::Outside).len(), 1, "the request comes again");
    let gateway = (GATEWAY_MACS[1], GATEWAYS[1]);
    assert_eq!(bed.exchange(Side::Outside, &arp_reply(Side::Outside, gateway))[1].len(), 1);
    bed.forward(Side::Inside, &packet);
    assert_eq!(bed.pool.in_use(), 0);
}

/// A burst goes whole to one side, or each of its frames to its own.
#[test]
fn frames_of_one_burst_leave_where_each_belongs() {
    let mut plan = Plan::default();
    plan.nat.policy.filtering = Filtering::EndpointIndependent;
    let mut bed = Bed::new(&plan);
    let (one, other, server) = (ep("100.64.0.1:4000"), ep("100.64.0.2:4000"), ep("203.0.113.9:53"));
    let out = |from, to| udp(Side::Inside, from, to, b"x");
    let public = read(&bed.forward(Side::Inside, &out(other, server))).what.source();
    let (hairpinned, outgoing) = (out(one, public), out(other, server));
    for (frames, left) in [
        (vec![&outgoing, &outgoing], [0, 2]),
        (vec![&outgoing, &hairpinned, &outgoing], [1, 2]),
        (vec![&hairpinned, &hairpinned], [2, 0]),
    ] {
        frames.iter().for_each(|frame| assert!(bed.peer(Side::Inside).inject(frame)));
        bed.settle();
        assert_eq!(Side::BOTH.map(|side| bed.sent(side).len()), left);
    }
}
