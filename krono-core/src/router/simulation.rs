//! Neighbours over time: the router among hosts that answer, fall silent and change their
//! address, against a model that does the obvious thing on time that does not wrap.

use std::collections::{HashMap, HashSet};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::tests::{addr, mac, side};
use super::*;
use crate::packet::FlowMeta;

/// Ticks after which 1 s, 5 s, 30 s and 20 min have certainly passed.
const SECOND: u64 = 11;
const NEGATIVE: u64 = 51;
const REACHABLE: u64 = 301;
const IDLE: u64 = 12_001;

type Station = (Side, Ipv4Addr);

/// What the shard ought to know of a station that it knows anything about.
#[derive(Clone, Copy, Debug)]
enum Known {
    Static(Mac),
    Resolving { asked: u8, next: u64 },
    Confirmed { mac: Mac, at: u64, used: u64 },
    Refreshing { mac: Mac, asked: u8, next: u64 },
    Silent { until: u64 },
}

/// What a duty is about: the destination of a request, or `None` when it gives up.
type Asked = (Station, Option<Mac>);

struct World {
    rng: StdRng,
    start: u32,
    time: u64,
    router: Router,
    known: HashMap<Station, Known>,
    /// The hosts that are up.
    hosts: HashMap<Station, Mac>,
    /// Answers on their way: when they arrive, and from whom.
    answers: Vec<(u64, Station)>,
    /// Whose address the frame waits for that is held under this id.
    held: HashMap<NeighbourId, Station>,
    asked_at: HashMap<Station, u64>,
    waited: u64,
    replaced: u64,
    released: u64,
    given_up: u64,
}

const STATIC: (&str, u8) = ("10.0.0.250", 250);
const HOSTS: std::ops::Range<u8> = 20..30;

/// It is known by configuration, though not its address, so that it need not ask for the shard.
const GATEWAY: Station = (Side::Outside, Ipv4Addr::new(10, 0, 0, 20));

/// Both sides number their hosts alike (RFC 4787, REQ-7).
fn config() -> RouterConfig {
    let mut inside = side("10.0.0.1/24", 1, &[("100.64.0.0/10", STATIC.0)]);
    inside.neighbours.push((addr(STATIC.0), mac(STATIC.1)));
    let outside = side("10.0.0.2/24", 2, &[("0.0.0.0/0", "10.0.0.20")]);
    RouterConfig { inside, outside, pool: Vec::new() }
}

impl World {
    fn new(seed: u64, start: u32) -> Self {
        let static_station = (Side::Inside, addr(STATIC.0));
        World {
            rng: StdRng::seed_from_u64(seed),
            start,
            time: 0,
            router: Router::new(&config()),
            known: [(static_station, Known::Static(mac(STATIC.1)))].into(),
            hosts: HashMap::new(),
            answers: Vec::new(),
            held: HashMap::new(),
            asked_at: HashMap::new(),
            waited: 0,
            replaced: 0,
            released: 0,
            given_up: 0,
        }
    }

    fn now(&self) -> Ticks {
        Ticks(self.start.wrapping_add(self.time as u32))
    }

    fn some_station(&mut self) -> Station {
        let side = *Side::BOTH.choose(&mut self.rng).unwrap();
        let last = self.rng.random_range(HOSTS);
        (side, Ipv4Addr::new(10, 0, 0, last))
    }

    fn step(&mut self) {
        self.time += match self.rng.random_range(0..1000) {
            0..200 => 0,
            200..850 => 1,
            850..950 => self.rng.random_range(0..30),
            950..990 => self.rng.random_range(0..400),
            _ => self.rng.random_range(0..13_000),
        };
        self.drain();
        let (arrived, on_the_way) =
            self.answers.drain(..).partition::<Vec<_>, _>(|(at, _)| *at <= self.time);
        self.answers = on_the_way;
        for (_, station) in arrived {
            self.hear(Kind::ArpReply, station, true);
        }
        match self.rng.random_range(0..100) {
            0..60 => self.send(),
            60..64 => {
                let station = self.some_station();
                let kind = *[Kind::ArpRequest, Kind::ArpReply].choose(&mut self.rng).unwrap();
                let to_us = self.rng.random();
                self.hear(kind, station, to_us);
            }
            64..66 => {
                let station = self.some_station();
                self.hosts.insert(station, mac(self.rng.random_range(100..200)));
            }
            66..67 => {
                let station = self.some_station();
                self.hosts.remove(&station);
            }
            _ => {}
        }
        self.drain();
    }

    /// A packet is to be sent somewhere.
    fn send(&mut self) {
        let (station, destination) = match self.rng.random_range(0..6) {
            0 => (GATEWAY, addr("203.0.113.1")),
            1 => ((Side::Inside, addr(STATIC.0)), addr("100.64.0.1")),
            2 => ((Side::Inside, addr(STATIC.0)), addr(STATIC.0)),
            _ => {
                let station = self.some_station();
                (station, station.1)
            }
        };
        let (time, now) = (self.time, self.now());
        let hop = self.router.route(station.0, destination, now);
        let known = self.known.entry(station).or_insert(Known::Resolving { asked: 0, next: time });
        let expected = match *known {
            Known::Static(mac) | Known::Refreshing { mac, .. } => Some(mac),
            Known::Confirmed { mac, at, .. } if time < at + REACHABLE => {
                *known = Known::Confirmed { mac, at, used: time };
                Some(mac)
            }
            Known::Confirmed { mac, .. } => {
                *known = Known::Refreshing { mac, asked: 0, next: time };
                Some(mac)
            }
            Known::Resolving { .. } => None,
            Known::Silent { .. } => {
                assert_eq!(hop, Err(UNREACHABLE), "{station:?} at {time}");
                return;
            }
        };
        match (hop, expected) {
            (Ok(Hop::Ready(id)), Some(mac)) => {
                let link = self.router.link(id);
                assert_eq!(*link, LinkHeader { to: mac, ..self.router.own_link(station.0) });
            }
            (Ok(Hop::Wait(id)), None) => {
                self.waited += 1;
                if let Some(other) = self.held.insert(id, station) {
                    assert_eq!(other, station, "an id was given away under a held frame");
                    self.replaced += 1;
                }
            }
            other => panic!("{station:?} at {time}: {other:?}"),
        }
    }

    /// The shard hears ARP from a station, if it is up.
    fn hear(&mut self, kind: Kind, station: Station, to_us: bool) {
        let Some(mac) = self.hosts.get(&station).copied() else { return };
        let (time, now) = (self.time, self.now());
        let to = if to_us { self.router.address(station.0) } else { station.1 };
        let flow = FlowMeta { kind, ..FlowMeta::default() };
        let meta = PacketMeta { flow, from: station.1, to, ..PacketMeta::default() };
        let released = self.router.on_arp(station.0, &meta, mac, now).released;

        let learned = Known::Confirmed { mac, at: time, used: time };
        let awaited = match self.known.get_mut(&station) {
            Some(Known::Static(_)) => false,
            Some(known) => {
                matches!(std::mem::replace(known, learned), Known::Resolving { .. })
            }
            None => {
                if to_us && kind == Kind::ArpRequest || station == GATEWAY {
                    self.known.insert(station, learned);
                }
                false
            }
        };
        assert_eq!(released.is_some(), awaited, "{station:?} at {time}");
        if let Some(id) = released {
            assert_eq!(self.held.remove(&id), Some(station));
            assert_eq!(self.router.link(id).to, mac);
            self.released += 1;
        }
    }

    /// Does what time asks for, and checks that it is what it should.
    fn drain(&mut self) {
        let mut actual = Vec::new();
        while let Some(duty) = self.router.duty(self.now().into()) {
            actual.push(match duty {
                Duty::Request { side, target, to } => {
                    self.request((side, target));
                    ((side, target), Some(to))
                }
                Duty::GiveUp(id) => {
                    self.given_up += 1;
                    (self.held.remove(&id).expect("a frame is held for it"), None)
                }
                Duty::Bfd { .. } => unreachable!("there are no sessions"),
            });
        }
        let order = |(station, to): &Asked| (station.0 as u8, station.1, *to);
        actual.sort_by_key(order);
        let mut expected = self.expected();
        expected.sort_by_key(order);
        assert_eq!(actual, expected, "at {}", self.time);
    }

    /// A request goes out: the host may answer it, sooner or later.
    fn request(&mut self, station: Station) {
        if let Some(before) = self.asked_at.insert(station, self.time) {
            assert!(self.time - before >= 10, "two requests within a second: {station:?}");
        }
        if self.rng.random_bool(0.6) {
            self.answers.push((self.time + self.rng.random_range(0..15), station));
        }
    }

    /// What the model asks for now.
    fn expected(&mut self) -> Vec<Asked> {
        let time = self.time;
        let mut duties = Vec::new();
        self.known.retain(|station, known| {
            match *known {
                Known::Resolving { asked, next } if next <= time && asked < 3 => {
                    *known = Known::Resolving { asked: asked + 1, next: time + SECOND };
                    duties.push((*station, Some(Mac::BROADCAST)));
                }
                Known::Refreshing { mac, asked, next } if next <= time && asked < 3 => {
                    *known = Known::Refreshing { mac, asked: asked + 1, next: time + SECOND };
                    duties.push((*station, Some(mac)));
                }
                Known::Resolving { next, .. } if next <= time => {
                    *known = Known::Silent { until: time + NEGATIVE };
                    duties.push((*station, None));
                }
                Known::Refreshing { next, .. } if next <= time => return false,
                Known::Confirmed { used, .. } if used + IDLE <= time => return false,
                Known::Silent { until } if until <= time => return false,
                _ => {}
            }
            true
        });
        duties
    }
}

/// The seed to repeat a run with, or a new one; it is printed when a test fails.
fn seed() -> u64 {
    let seed = std::env::var("KRONO_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(rand::random);
    println!("KRONO_SEED={seed}");
    seed
}

#[test]
fn neighbours_live_as_the_model_says_and_every_held_frame_has_one_end() {
    let seed = seed();
    for start in [0, (1 << 31) - 5000, u32::MAX - 5000, seed as u32] {
        println!("clock from {start}");
        let mut world = World::new(seed, start);
        for _ in 0..30_000 {
            world.step();
        }
        for _ in 0..4 * SECOND {
            world.time += 1;
            world.drain();
        }
        assert!(world.held.is_empty());
        assert_eq!(world.waited, world.replaced + world.released + world.given_up);
        let least = world.replaced.min(world.released).min(world.given_up);
        assert!(least > 100, "the run shows something: {least}");
    }
}

#[test]
fn a_scan_of_a_large_network_neither_floods_it_nor_outlives_its_packets() {
    let mut config = config();
    config.inside.address = "10.0.0.1/16".parse().unwrap();
    let mut router = Router::new(&config);
    let size = router.neighbours.ids_size();
    for round in 0..3u32 {
        let mut now = Ticks((u32::MAX - 20).wrapping_add(round * 1000));
        let mut held = HashSet::new();
        for host in 0..20_000 {
            let to = Ipv4Addr::from_bits(addr("10.0.1.0").to_bits() + round * 77 + host);
            match router.route(Side::Inside, to, now) {
                Ok(Hop::Wait(id)) => assert!(held.insert(id)),
                full => {
                    assert_eq!(full, Err(DropReason::NeighboursFull.into()));
                    assert_eq!(held.len(), NEIGHBOURS_MAX);
                }
            }
        }
        assert_eq!(router.neighbours.ids_size(), size, "nothing was allocated");
        let (mut requests, mut most) = (0, 0);
        for _ in 0..500 {
            let mut in_tick = 0;
            while let Some(duty) = router.duty(now.into()) {
                match duty {
                    Duty::Request { .. } => in_tick += 1,
                    Duty::GiveUp(id) => assert!(held.remove(&id)),
                    Duty::Bfd { .. } => unreachable!("there are no sessions"),
                }
            }
            requests += in_tick;
            most = most.max(in_tick);
            now = Ticks(now.0.wrapping_add(1));
        }
        assert!(held.is_empty());
        assert_eq!((requests, most), (3 * NEIGHBOURS_MAX, 100));
    }
}

#[test]
fn requests_beyond_the_limit_go_out_in_the_next_tick() {
    let mut config = config();
    config.inside.address = "10.0.0.1/16".parse().unwrap();
    let mut router = Router::new(&config);
    for host in 0..150 {
        let to = Ipv4Addr::new(10, 0, 7, host);
        assert!(matches!(router.route(Side::Inside, to, Ticks(5)), Ok(Hop::Wait(_))));
    }
    let mut requests = |now| std::iter::from_fn(|| router.duty(Ticks(now).into())).count();
    assert_eq!((5..10).map(&mut requests).collect::<Vec<_>>(), [100, 50, 0, 0, 0]);
}

#[test]
fn while_nothing_is_due_nothing_is_looked_through() {
    let mut router = Router::new(&config());
    let now = Ticks(u32::MAX);
    // The first look of all finds out that nothing is; the second has seen the clock's zero pass.
    assert_eq!(router.duty(now.into()), None);
    let now = Ticks(1);
    assert_eq!(router.duty(now.into()), None);
    router.learn(Side::Inside, addr("10.0.0.20"), mac(20), now);
    assert!(!router.neighbours.is_due(Ticks(now.0.wrapping_add(IDLE as u32 - 1))));
    assert!(router.neighbours.is_due(Ticks(now.0.wrapping_add(IDLE as u32))));
}
