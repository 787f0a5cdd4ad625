//! Two halves with real translators, and a wire between them that does what a test says.
#![forbid(unsafe_code)]

use krono_core::carve;
use krono_core::packet::{Endpoint, FlowMeta, Kind, PacketMeta, Protocol, Side};
use krono_core::ports::Part;
use krono_core::program::{Program, Verdict};
use krono_core::time::{Moment, Span};
use krono_core::twin::Twin;
use krono_ha::frame::{FRAME_MAX, Key, Rejected};
use krono_ha::roles::Role;
use krono_ha::{Half, Settings, Status, Unsafe};
use krono_nat::config::{Config, Filtering, Firewall, Policy, Timeouts};
use krono_nat::{Nat, SessionRecord};
use zerocopy::IntoBytes;

const MS: u64 = 1_000_000;
const HEARTBEAT_MS: u64 = 10;
const SILENCE_MS: u64 = 50;

fn config() -> Config {
    Config {
        sessions: 1000,
        subscribers: 100,
        pool: vec!["198.51.100.1/32".parse().unwrap()],
        inside: vec!["100.64.0.0/16".parse().unwrap()],
        ports: 1024..=65535,
        ports_per_subscriber: 2000,
        seed: [7; 32],
        policy: Policy {
            filtering: Filtering::AddressAndPortDependent,
            hairpinning: true,
            timeouts: Timeouts {
                udp: Span::from_secs(30),
                port_hold: Span::from_secs(1),
                ..Timeouts::default()
            },
            exclude: vec![],
            statics: vec![],
            firewall: Firewall::default(),
        },
    }
}

fn settings(place: u32) -> Settings {
    Settings {
        shard: 3,
        node: 1 + place,
        peer: 2 - place,
        rank: place as u8,
        notes_max: 256,
        entries_max: config().sessions,
        flush_polls: 3,
        walk_budget: 20,
        tend_budget: 100,
        heartbeat_ns: HEARTBEAT_MS * MS,
        silence_ns: SILENCE_MS * MS,
        linger_ns: 20 * MS,
        compare_ns: 100 * MS,
        port_hold: Span::from_secs(1),
        patience: 3,
    }
}

struct Member {
    nat: Nat<'static>,
    half: Half<Nat<'static>>,
    /// Frames it has sent, and the records in them.
    frames: usize,
    records: usize,
}

impl Member {
    fn new(settings: Settings, config: &Config, key: u8, now: Moment) -> Member {
        let memory = Box::leak(carve::heap(Nat::memory_bytes(config)).into_boxed_slice());
        let part = Part { first_percent: 50, is_first: settings.node == 1 };
        let nat = Nat::with_part(config, part, memory.as_mut_bytes(), now.ticks()).unwrap();
        let key = Key::new(&[key; 32]);
        let mut half = Half::new(settings, key, &nat, 77 + now.0, now);
        half.set_routes(true);
        Member { nat, half, frames: 0, records: 0 }
    }

    fn sessions(&self) -> Vec<SessionRecord> {
        (0..self.nat.end()).filter_map(|index| self.nat.essence(index)).collect()
    }

    fn sorted(&self) -> Vec<Vec<u8>> {
        let mut all: Vec<_> = self.sessions().iter().map(|one| one.as_bytes().to_vec()).collect();
        all.sort();
        all
    }

    fn tend(&mut self, now: Moment) {
        self.half.tend(&mut self.nat, now);
        if self.half.role().expires() {
            while self.nat.tick(now.ticks(), self.half.changes()) {}
        } else {
            self.nat.tick_following(now.ticks());
        }
    }
}

struct Pair {
    members: [Member; 2],
    now: Moment,
    is_cut: bool,
    /// Loses the next frames with records, so many.
    loses: usize,
}

impl Pair {
    fn new() -> Pair {
        Pair::of([settings(0), settings(1)])
    }

    fn of(settings: [Settings; 2]) -> Pair {
        let now = Moment(1_000_000 * MS);
        let members = settings.map(|settings| Member::new(settings, &config(), 1, now));
        Pair { members, now, is_cut: false, loses: 0 }
    }

    /// Two that have found each other: the first serves, the second has all it has.
    fn caught_up() -> Pair {
        let mut pair = Pair::new();
        pair.run(100);
        assert_eq!(pair.roles(), [Role::Serving, Role::Following]);
        pair.rests();
        pair
    }

    fn run(&mut self, ms: u64) {
        (0..ms).for_each(|_| self.step());
    }

    fn step(&mut self) {
        self.now = Moment(self.now.0 + MS);
        for from in 0..2 {
            self.members[from].tend(self.now);
            let mut frame = [0; FRAME_MAX];
            loop {
                let Member { nat, half, frames, records } = &mut self.members[from];
                let Some(len) = half.poll(nat, self.now, &mut frame) else { break };
                *frames += 1;
                let has_records = frame[6] == 2;
                *records += if has_records { usize::from(frame[7]) } else { 0 };
                if has_records && self.loses > 0 {
                    self.loses -= 1;
                    continue;
                }
                if !self.is_cut {
                    let Member { nat, half, .. } = &mut self.members[1 - from];
                    let _ = half.receive(nat, &frame[..len], self.now);
                }
            }
        }
    }

    fn roles(&self) -> [Role; 2] {
        [0, 1].map(|place| self.members[place].half.role())
    }

    fn status(&self, place: usize) -> Status {
        self.members[place].half.status(self.now)
    }

    /// A datagram from a subscriber: its public source, if it is passed on.
    fn send(&mut self, place: usize, host: u8, port: u16, server: u8) -> Option<Endpoint> {
        let flow = FlowMeta {
            src: Endpoint::new([100, 64, 0, host].into(), port),
            dst: Endpoint::new([203, 0, 113, server].into(), 53),
            kind: Kind::Udp,
            protocol: Protocol::Udp,
            ..FlowMeta::default()
        };
        let meta = PacketMeta { flow, ..PacketMeta::default() };
        let record = Nat::record(&meta, Side::Inside, self.now);
        let Member { nat, half, .. } = &mut self.members[place];
        match nat.step(&record, &Default::default(), half.changes()) {
            Verdict::Forward { source, .. } => Some(nat.translation(source).outside()),
            _ => None,
        }
    }

    /// Both have the same, and say so.
    fn rests(&mut self) {
        self.run(300);
        assert_eq!(self.members[0].sorted(), self.members[1].sorted());
        for place in 0..2 {
            assert!(self.status(place).is_caught_up, "{:?}", self.status(place));
            assert_eq!(self.status(place).failover, Ok(()));
            self.members[place].nat.assert_consistent();
        }
    }
}

#[test]
fn a_change_is_told_once_and_a_session_that_only_lives_costs_nothing() {
    let mut pair = Pair::caught_up();
    for port in 0..200 {
        pair.send(0, 5, 5000 + port, 1).expect("a port");
    }
    pair.run(20);
    assert_eq!(pair.members[0].sorted(), pair.members[1].sorted());
    assert_eq!(pair.members[0].records, 200);
    // Of 1400 bytes each, 35 for a record.
    let frames = pair.members[0].frames;
    for _ in 0..50 {
        (0..200).for_each(|port| assert!(pair.send(0, 5, 5000 + port, 1).is_some()));
        pair.step();
    }
    assert_eq!(pair.members[0].records, 200);
    assert!(pair.members[0].frames <= frames + 50 / HEARTBEAT_MS as usize + 9, "heartbeats, sums");
    // Its peer is silent for longer than sessions live, and has them all the same.
    pair.run(400);
    assert_eq!(pair.members[1].sessions().len(), 200);
}

#[test]
fn a_session_is_the_same_after_its_server_has_gone_and_has_its_full_time() {
    let mut pair = Pair::caught_up();
    let public: Vec<_> = (0..300).map(|port| pair.send(0, 7, 6000 + port, 2).unwrap()).collect();
    // It lives longer than a timeout, of which the other hears nothing, and is nearly over when its
    // server goes.
    for _ in 0..2 {
        pair.run(20_000);
        (0..300).for_each(|port| assert!(pair.send(0, 7, 6000 + port, 2).is_some()));
    }
    pair.run(29_000);
    pair.is_cut = true;
    let began = pair.now;
    while pair.members[1].half.role() != Role::Serving {
        pair.step();
    }
    assert!(pair.now.0 - began.0 <= (SILENCE_MS + 1) * MS);
    // At once, before most have been given their time; and when that is nearly over.
    for _ in 0..2 {
        for (port, public) in (0..300).zip(&public) {
            assert_eq!(pair.send(1, 7, 6000 + port, 2), Some(*public));
        }
        pair.run(29_000);
    }
}

#[test]
fn who_did_not_run_does_not_take_that_for_the_others_silence() {
    let mut pair = Pair::caught_up();
    let epoch = pair.members[0].half.status(pair.now).epoch;
    for _ in 0..3 {
        // Only the first runs, and what it says meanwhile is not read yet.
        pair.now = Moment(pair.now.0 + 10 * SILENCE_MS * MS);
        pair.members[0].tend(pair.now);
        pair.members[1].tend(pair.now);
        assert_eq!(pair.roles(), [Role::Serving, Role::Following]);
        pair.run(3);
    }
    assert_eq!(pair.roles(), [Role::Serving, Role::Following]);
    assert_eq!(pair.members[0].half.status(pair.now).epoch, epoch);
    // One that is gone is silent all the same, also to one that runs seldom.
    for look in 0..SILENCE_MS / HEARTBEAT_MS {
        assert_eq!(pair.members[1].half.role(), Role::Following, "at look {look}");
        pair.now = Moment(pair.now.0 + 2 * HEARTBEAT_MS * MS);
        pair.members[1].tend(pair.now);
    }
    assert_eq!(pair.members[1].half.role(), Role::Serving);
}

#[test]
fn what_a_lost_frame_told_is_found_by_comparing_and_told_again_and_nothing_else() {
    let mut pair = Pair::caught_up();
    (0..400).for_each(|port| assert!(pair.send(0, 5, 5000 + port, 1).is_some()));
    pair.rests();
    pair.loses = 1;
    (0..10).for_each(|port| assert!(pair.send(0, 6, 5000 + port, 1).is_some()));
    let told = pair.members[0].records;
    pair.run(5);
    assert_eq!(pair.members[1].sessions().len(), 400, "lost");
    pair.rests();
    assert_eq!(pair.members[1].sessions().len(), 410);
    assert!(pair.status(1).gaps > 0);
    let again = pair.members[0].records - told;
    // Ten ranges of 1024, with what lies in them besides.
    assert!((10..60).contains(&again), "{again} records");
}

#[test]
fn a_divergence_that_nobody_knows_the_cause_of_is_found_and_repaired() {
    let mut pair = Pair::caught_up();
    (0..300).for_each(|port| assert!(pair.send(0, 5, 5000 + port, 1).is_some()));
    pair.rests();
    let before = pair.status(1);
    assert_eq!(before.diverged, 0);
    let Member { nat, half, .. } = &mut pair.members[1];
    // One lost, one too many, one with another public port, behind everybody's back.
    nat.forget(17, pair.now.ticks(), half.changes());
    let mut strange = nat.essence(20).unwrap();
    strange.as_mut_bytes()[3] = 99;
    strange.as_mut_bytes()[14..16].copy_from_slice(&2000_u16.to_le_bytes());
    let standing = krono_core::twin::Standing::Master;
    let _ = nat.take(&strange, standing, pair.now.ticks(), half.changes());
    let mut other = nat.essence(30).unwrap();
    other.as_mut_bytes()[14..16].copy_from_slice(&2001_u16.to_le_bytes());
    let _ = nat.take(&other, standing, pair.now.ticks(), half.changes());
    assert_ne!(pair.members[0].sorted(), pair.members[1].sorted());
    pair.rests();
    assert!(pair.status(1).diverged >= 3, "{:?}", pair.status(1));
    assert_eq!(pair.status(1).gaps, before.gaps);
}

/// As a table would change by a fault of memory, or a change that no event told of.
#[test]
fn sums_are_checked_against_the_table_itself() {
    let mut pair = Pair::caught_up();
    (0..300).for_each(|port| assert!(pair.send(0, 5, 5000 + port, 1).is_some()));
    pair.rests();
    pair.members[1].nat.forget(17, pair.now.ticks(), &mut ());
    pair.rests();
    assert!(pair.status(1).corrected > 0 && pair.status(0).corrected == 0);
}

#[test]
fn what_two_masters_did_is_merged_and_the_better_claim_decides_what_contradicts() {
    let mut pair = Pair::caught_up();
    let before = pair.send(0, 1, 5000, 1).unwrap();
    pair.rests();
    pair.is_cut = true;
    pair.run(SILENCE_MS + 1);
    assert_eq!(pair.roles(), [Role::Serving, Role::Serving]);
    // Each has a session of its own, and both one of the same endpoint.
    let only_first = pair.send(0, 2, 5000, 1).unwrap();
    let only_second = pair.send(1, 3, 5000, 1).unwrap();
    let of_first = pair.send(0, 4, 5000, 1).unwrap();
    let of_second = pair.send(1, 4, 5000, 1).unwrap();
    assert_ne!(of_first, of_second);
    pair.run(500);
    pair.is_cut = false;
    pair.run(400);
    // The second's epoch is higher.
    assert_eq!(pair.roles(), [Role::Following, Role::Serving]);
    pair.rests();
    assert_eq!(pair.send(1, 1, 5000, 1), Some(before));
    assert_eq!(pair.send(1, 2, 5000, 1), Some(only_first));
    assert_eq!(pair.send(1, 3, 5000, 1), Some(only_second));
    assert_eq!(pair.send(1, 4, 5000, 1), Some(of_second));
    assert_eq!(pair.members[1].sessions().len(), 4);
}

#[test]
fn a_move_loses_nothing_while_both_serve() {
    let mut pair = Pair::caught_up();
    let public: Vec<_> = (0..50).map(|port| pair.send(0, 7, 6000 + port, 2).unwrap()).collect();
    pair.members[0].half.drain();
    pair.run(2 * HEARTBEAT_MS);
    assert_eq!(pair.roles(), [Role::Yielded, Role::Serving]);
    for (port, public) in (0..50).zip(&public) {
        assert_eq!(pair.send(0, 7, 6000 + port, 2), Some(*public));
        assert_eq!(pair.send(1, 7, 6000 + port, 2), Some(*public));
    }
    // What the old one still opens is not lost either.
    let late = pair.send(0, 8, 7000, 2).unwrap();
    pair.run(100);
    assert_eq!(pair.roles(), [Role::Following, Role::Serving]);
    assert_eq!(pair.send(1, 8, 7000, 2), Some(late));
    pair.rests();
}

#[test]
fn who_starts_alone_waits_for_the_operators_word_and_then_has_all_ports() {
    let mut pair = Pair::new();
    pair.is_cut = true;
    pair.run(10 * SILENCE_MS);
    assert_eq!(pair.roles(), [Role::Following; 2]);
    assert_eq!(pair.status(0).failover, Err(Unsafe::NoPeer));
    pair.members[0].half.fence(pair.now);
    pair.run(2);
    assert_eq!(pair.members[0].half.role(), Role::Serving);
    let free = |pair: &Pair| pair.members[0].nat.free_ports(Protocol::Udp);
    let own = free(&pair);
    pair.run(990);
    assert_eq!(free(&pair), own, "the other's ports are held as any");
    pair.run(300);
    assert_eq!(free(&pair), 2 * own);
    // As soon as the other is heard of they are its own again.
    pair.is_cut = false;
    pair.run(3 * HEARTBEAT_MS);
    assert_eq!(free(&pair), own);
}

#[test]
fn two_masters_by_configuration_are_told_apart_and_reported() {
    let both_first = [settings(0), Settings { rank: 0, ..settings(1) }];
    let mut pair = Pair::of(both_first);
    pair.run(300);
    assert_eq!(pair.roles(), [Role::Serving, Role::Following]);
    assert_eq!(pair.status(0).failover, Err(Unsafe::SamePlace(0)));
    assert_eq!(pair.status(1).failover, Err(Unsafe::SamePlace(0)));
}

#[test]
fn another_layout_and_another_key_are_refused_and_serving_goes_on() {
    let mut other_pool = config();
    other_pool.ports = 2000..=65535;
    for (config, key, name) in [(other_pool, 1, "ha_layout"), (config(), 2, "ha_digest")] {
        let mut pair = Pair::new();
        pair.members[1] = Member::new(settings(1), &config, key, pair.now);
        pair.members[0].half.fence(pair.now);
        pair.run(100);
        assert_eq!(pair.members[0].half.role(), Role::Serving);
        assert!(pair.send(0, 1, 5000, 1).is_some());
        for place in 0..2 {
            let Err(Unsafe::Refused(reason)) = pair.status(place).failover else {
                panic!("{:?}", pair.status(place));
            };
            assert_eq!(reason.name(), name);
            assert!(pair.status(place).rejected[reason.index()] > 5);
            if let Rejected::Layout { theirs, ours } = reason {
                let text = reason.to_string();
                assert!(text.contains(&format!("{theirs:016x}")));
                assert!(text.contains(&format!("{ours:016x}")));
            }
        }
    }
}

#[test]
fn a_recorded_frame_is_refused_in_the_same_incarnation_and_after_it() {
    let mut pair = Pair::caught_up();
    let mut recorded = [0; FRAME_MAX];
    pair.send(0, 1, 5000, 1).unwrap();
    let Member { nat, half, .. } = &mut pair.members[0];
    let now = Moment(pair.now.0 + 50 * MS);
    let len = half.poll(nat, now, &mut recorded).expect("a frame");
    let Member { nat, half, .. } = &mut pair.members[1];
    assert_eq!(half.receive(nat, &recorded[..len], now), Ok(()));
    assert_eq!(half.receive(nat, &recorded[..len], now), Err(Rejected::Replayed));
    // The sender starts anew; what it sent before is not believed any more.
    pair.now = now;
    pair.is_cut = true;
    pair.run(2 * SILENCE_MS);
    pair.members[0] = Member::new(settings(0), &config(), 1, pair.now);
    pair.is_cut = false;
    pair.run(100);
    let Member { nat, half, .. } = &mut pair.members[1];
    assert_eq!(half.receive(nat, &recorded[..len], pair.now), Err(Rejected::Outdated));
}

#[test]
fn nothing_allocates_once_it_is_made() {
    let mut pair = Pair::caught_up();
    let allocated = allocation_counter::measure(|| {
        for round in 0..200_u16 {
            (0..5).for_each(|port| assert!(pair.send(0, 5, 5 * round + port, 1).is_some()));
            pair.loses = usize::from(round % 20 == 0);
            pair.step();
        }
        pair.run(300);
        pair.members[0].half.drain();
        pair.run(100);
        pair.is_cut = true;
        pair.run(300);
        pair.is_cut = false;
        pair.run(500);
    });
    assert_eq!(allocated.count_total, 0, "{allocated:?}");
    assert!(pair.status(0).gaps + pair.status(1).gaps > 10);
}
