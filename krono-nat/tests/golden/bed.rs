//! A whole shard on plain memory, with a router as neighbour on each side.

use krono_core::carve;
use krono_core::drop::DropReason;
use krono_core::frame::MemFrame;
use krono_core::packet::{Mac, Protocol, Side};
use krono_core::router::{Duty, NeighbourId, Route, Router, RouterConfig, SideConfig};
use krono_core::shard::{Action, Outcome, Outcomes, Scratch, Shard};
use krono_core::time::{TICKS_PER_SECOND, Ticks};
use krono_core::{reply, rewrite};
use krono_nat::config::{Config, StaticMapping};
use krono_nat::{Change, Event, Nat};
use zerocopy::IntoBytes;

use crate::common::{config, ep};
use crate::packet::Frame;
use crate::verify::assert_well_formed;

/// The shard's own MAC address on a side.
pub(crate) const fn shard_mac(side: Side) -> Mac {
    Mac([2, 0, 0, 0, 0, side as u8 + 1])
}

/// That of the router which is the shard's neighbour on a side.
pub(crate) const fn router_mac(side: Side) -> Mac {
    Mac([2, 0, 0, 0, 0xfe, side as u8 + 1])
}

/// What a shard is made of.
pub(crate) struct Settings {
    pub(crate) router: RouterConfig,
    pub(crate) nat: Config,
}

/// A shard and what happened to it.
pub(crate) struct Bed {
    pub(crate) shard: Shard<Nat<'static>>,
    scratch: Box<Scratch<Nat<'static>>>,
    now: Ticks,
    events: Vec<Event>,
    held: Vec<(NeighbourId, MemFrame)>,
}

impl Bed {
    /// Subscribers 100.64.0.0/16 behind 10.0.0.254, the world behind 192.0.2.254, the shard at
    /// 10.0.0.1 and 192.0.2.1. One public address, 198.51.100.1, with one dynamic port, 40000, so
    /// that tables can say what comes out; static mappings from 198.51.100.1:5300 (UDP) and :8080
    /// (TCP) to the subscriber 100.64.0.20. 192.168.100.0/24 is not translated.
    pub(crate) fn new() -> Bed {
        Bed::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Bed {
        let mut settings = usual();
        change(&mut settings);
        let Settings { router, nat } = settings;
        let now = Ticks(u32::MAX - 100);
        let memory = Box::leak(carve::heap(Nat::memory_bytes(&nat)).into_boxed_slice());
        let nat = Nat::new(&nat, memory.as_mut_bytes(), now).expect("static mappings fit");
        let shard = Shard::new(Router::new(&router), nat);
        Bed { shard, scratch: Box::default(), now, events: Vec::new(), held: Vec::new() }
    }

    /// `frame` arrives at a side; `expected` leaves through the other.
    #[track_caller]
    pub(crate) fn forwards(
        &mut self,
        at: Side,
        frame: impl Into<Frame>,
        expected: impl Into<Frame>,
    ) {
        let to = at.opposite();
        self.emits(at, frame, Action::Send(to), to, expected);
    }

    /// `frame` arrives from one subscriber; `expected` leaves for another.
    #[track_caller]
    pub(crate) fn hairpins(&mut self, frame: impl Into<Frame>, expected: impl Into<Frame>) {
        self.emits(Side::Inside, frame, Action::Send(Side::Inside), Side::Inside, expected);
    }

    /// `frame` is dropped for this reason, and `expected` goes back.
    #[track_caller]
    pub(crate) fn rejects(
        &mut self,
        at: Side,
        frame: impl Into<Frame>,
        reason: DropReason,
        expected: impl Into<Frame>,
    ) {
        self.emits(at, frame, Action::Answer(at, Some(reason)), at, expected);
    }

    /// `expected` answers `frame`.
    #[track_caller]
    pub(crate) fn answers(
        &mut self,
        at: Side,
        frame: impl Into<Frame>,
        expected: impl Into<Frame>,
    ) {
        self.emits(at, frame, Action::Answer(at, None), at, expected);
    }

    /// `frame` is dropped without a word.
    #[track_caller]
    pub(crate) fn drops(&mut self, at: Side, frame: impl Into<Frame>, reason: DropReason) {
        let (outcome, _) = self.process(at, arriving(at, &frame.into()));
        assert_eq!(outcome, Action::Drop(reason).into());
    }

    /// `frame` waits for its next hop.
    #[track_caller]
    pub(crate) fn holds(&mut self, at: Side, frame: impl Into<Frame>) {
        let (outcome, memory) = self.process(at, arriving(at, &frame.into()));
        let Action::Hold(side, neighbour) = outcome.action else { panic!("{outcome:?}") };
        assert_eq!(side, at.opposite());
        self.held.push((neighbour, memory));
    }

    /// `frame` tells something, upon which `released` leaves, that waited for this.
    #[track_caller]
    pub(crate) fn releases(
        &mut self,
        at: Side,
        frame: impl Into<Frame>,
        released: impl Into<Frame>,
    ) {
        let (outcome, _) = self.process(at, arriving(at, &frame.into()));
        assert_eq!(outcome.action, Action::Consume);
        let neighbour = outcome.released.expect("a frame may go");
        let waits = self.held.iter().position(|(held_for, _)| *held_for == neighbour);
        let (_, mut memory) = self.held.swap_remove(waits.expect("a frame waits"));
        assert!(self.shard.release(&mut memory.as_frame(), neighbour));
        assert_frame(memory.bytes(), at, &released.into());
    }

    /// The shard asks for a neighbour's address, and for nothing else.
    #[track_caller]
    pub(crate) fn asks(&mut self, expected: impl Into<Frame>) {
        let duty = self.shard.router.duty(self.now.into());
        let Some(Duty::Request { side, target, to }) = duty else { panic!("{duty:?}") };
        let router = &self.shard.router;
        let link = rewrite::LinkHeader { to, ..router.own_link(side) };
        let mut memory = MemFrame::new(&[]);
        let frame = &mut memory.as_frame();
        let sender = (link.from, router.address(side));
        let l3 = reply::arp_request(frame, sender, target).expect("there is room");
        assert!(rewrite::write_link(frame, l3, &link));
        assert_frame(memory.bytes(), side, &expected.into());
        assert_eq!(self.shard.router.duty(self.now.into()), None);
    }

    /// The shard stops asking for the next hop of the frame that waits.
    #[track_caller]
    pub(crate) fn gives_up(&mut self) {
        let (neighbour, _) = self.held.pop().expect("a frame waits");
        assert_eq!(self.shard.router.duty(self.now.into()), Some(Duty::GiveUp(neighbour)));
    }

    /// Sends an echo request out; the identifier that it leaves with.
    #[track_caller]
    pub(crate) fn public_identifier(&mut self, request: impl Into<Frame>) -> u16 {
        let (outcome, _) = self.process(Side::Inside, arriving(Side::Inside, &request.into()));
        assert_eq!(outcome.action, Action::Send(Side::Outside));
        let created = self.events.iter().rfind(|event| event.change == Change::MappingCreated);
        created.expect("a mapping").outside.port
    }

    /// Lets time pass. The clock wraps 10 s after the start.
    pub(crate) fn wait(&mut self, seconds: u32) {
        self.now = Ticks(self.now.0.wrapping_add(seconds * TICKS_PER_SECOND));
    }

    /// What becomes of a frame that is already in memory.
    pub(crate) fn process(&mut self, at: Side, memory: MemFrame) -> (Outcome, MemFrame) {
        let mut frames = [memory];
        let mut outcomes = Outcomes::new();
        let Bed { shard, now, events, scratch, .. } = self;
        shard.process(at, &mut frames[..], (*now).into(), events, scratch, &mut outcomes);
        let [memory] = frames;
        (outcomes.iter().next().expect("one frame has an outcome"), memory)
    }

    #[track_caller]
    fn emits(
        &mut self,
        at: Side,
        frame: impl Into<Frame>,
        action: Action,
        through: Side,
        expected: impl Into<Frame>,
    ) {
        let (outcome, memory) = self.process(at, arriving(at, &frame.into()));
        assert_eq!(outcome, action.into());
        assert!(!memory.clone().as_frame().is_segmented());
        assert_frame(memory.bytes(), through, &expected.into());
    }
}

fn usual() -> Settings {
    let pool = vec!["198.51.100.1/32".parse().expect("a network")];
    let side = |side: Side, address: &str, prefix: &str, router: &str| SideConfig {
        mac: shard_mac(side),
        address: address.parse().expect("a network"),
        vlan: None,
        mtu: 1500,
        routes: vec![Route {
            prefix: prefix.parse().expect("a network"),
            via: router.parse().expect("an address"),
        }],
        neighbours: vec![(router.parse().expect("an address"), router_mac(side))],
        bfd: Vec::new(),
    };
    let mut nat = Config { pool: pool.clone(), ports: 40000..=40000, ..config() };
    let fixed = |protocol, inside, outside| StaticMapping {
        protocol,
        inside: ep(inside),
        outside: ep(outside),
    };
    nat.policy.statics = vec![
        fixed(Protocol::Udp, "100.64.0.20:53", "198.51.100.1:5300"),
        fixed(Protocol::Tcp, "100.64.0.20:80", "198.51.100.1:8080"),
    ];
    let router = RouterConfig {
        inside: side(Side::Inside, "10.0.0.1/24", "100.64.0.0/16", "10.0.0.254"),
        outside: side(Side::Outside, "192.0.2.1/24", "0.0.0.0/0", "192.0.2.254"),
        pool,
    };
    Settings { router, nat }
}

/// A frame as it reaches the shard.
pub(crate) fn arriving(at: Side, frame: &Frame) -> MemFrame {
    MemFrame::new(&frame.bytes(router_mac(at), shard_mac(at)))
}

/// Compares what left through a side, byte for byte.
#[track_caller]
pub(crate) fn assert_frame(bytes: &[u8], through: Side, expected: &Frame) {
    let wanted = expected.bytes(shard_mac(through), router_mac(through));
    assert!(bytes == wanted, "sent:\n{}\nexpected:\n{}", hex(bytes), hex(&wanted));
    if expected.verifies {
        assert_well_formed(bytes);
    }
}

fn hex(bytes: &[u8]) -> String {
    let line = |(index, bytes): (usize, &[u8])| {
        let digits: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{:04x}  {}\n", 16 * index, digits.join(" "))
    };
    bytes.chunks(16).enumerate().map(line).collect()
}
