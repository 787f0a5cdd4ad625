//! Random operations on an allocator, each checked against a map that says what may be.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::tests::Memory;
use super::*;

const ADDRESSES: usize = 2;

/// A moment in ticks since the start, which does not wrap.
type Time = u64;

/// A port of one protocol on one address.
type Key = (Protocol, u32, u16);

/// What is known of a port that is not free.
#[derive(Clone, Copy, Debug)]
enum Known {
    Owned(u32),
    /// Must not be given out before `until`, and must be free to be given out at `surely`.
    Held {
        until: Time,
        surely: Time,
    },
}

struct World<'m> {
    rng: StdRng,
    start: u32,
    time: Time,
    ports: Ports<'m>,
    range: RangeInclusive<u16>,
    hold: Span,
    /// Ports that are not here are free.
    known: BTreeMap<Key, Known>,
    /// When everything released so far is surely free, by protocol, address and class.
    surely: BTreeMap<(Protocol, u32, bool), Time>,
    mappings: u32,
    /// Whether more ports are allocated than released, for now.
    growing: bool,
    seen: Seen,
}

/// What a run came across, so that it shows something.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    allocated: u32,
    exhausted: u32,
    reused: u32,
    taken_from_mapping: u32,
    taken_from_hold: u32,
}

impl<'m> World<'m> {
    fn new(
        seed: u64,
        start: u32,
        range: RangeInclusive<u16>,
        hold: Span,
        memory: &'m mut Memory,
    ) -> Self {
        World {
            rng: StdRng::seed_from_u64(seed),
            start,
            time: 0,
            ports: memory.ports(range.clone()),
            range,
            hold,
            known: BTreeMap::new(),
            surely: BTreeMap::new(),
            mappings: 0,
            growing: true,
            seen: Seen::default(),
        }
    }

    fn step(&mut self) {
        self.time += match self.rng.random_range(0..1000) {
            0..600 => 0,
            600..900 => self.rng.random_range(1..10),
            900..990 => self.rng.random_range(1..2 * (self.hold.0 + 8)).into(),
            990..999 => self.rng.random_range(0..100_000),
            _ => self.rng.random_range(0..100 * 86_400 * 10),
        };
        if self.rng.random_ratio(1, 400) {
            self.growing = !self.growing;
        }
        match self.rng.random_range(0..100) {
            0..50 if self.growing => self.allocate(),
            0..15 => self.allocate(),
            15..80 => self.release(),
            80..85 => self.reserve(),
            _ => self.ports.tick(self.now()),
        }
        self.check_counts();
        if self.rng.random_ratio(1, 20) {
            self.check_entries();
        }
    }

    fn allocate(&mut self) {
        let (protocol, address) = (self.protocol(), self.rng.random_range(0..ADDRESSES as u32));
        let inside = *[0, 22, 1023, 1024, 65535].choose(&mut self.rng).unwrap();
        let mapping = self.new_mapping();
        let random = self.rng.random();
        let now = self.now();
        let is_wanted = |world: &Self, port| {
            let both = *world.range.start() < 1024 && *world.range.end() >= 1024;
            let class_kept = (port < 1024) == (inside < 1024);
            world.is_in_range(protocol, port) && (class_kept || !both || protocol == Protocol::Icmp)
        };
        let Some(public) = self.ports.allocate(protocol, address, inside, mapping, random, now)
        else {
            self.seen.exhausted += 1;
            assert_ne!(protocol, Protocol::Icmp, "there are always identifiers here");
            for port in self.range.clone().filter(|port| is_wanted(self, *port)) {
                match self.known.get(&(protocol, address, port)) {
                    None => panic!("{protocol} {address}:{port} is lost"),
                    Some(Known::Held { surely, .. }) => assert!(self.time < *surely, "late"),
                    Some(Known::Owned(_)) => {}
                }
            }
            return;
        };
        assert_eq!(public.addr, self.ports.pool().address(address));
        assert!(is_wanted(self, public.port), "{protocol} {public} for {inside}");
        match self.known.insert((protocol, address, public.port), Known::Owned(mapping)) {
            None => {}
            Some(Known::Held { until, .. }) => {
                assert!(
                    self.time >= until,
                    "{protocol} {public} reused {} early",
                    until - self.time
                );
                self.seen.reused += 1;
            }
            Some(Known::Owned(other)) => panic!("{protocol} {public} is that of {other} already"),
        }
        self.seen.allocated += 1;
    }

    fn release(&mut self) {
        let owned = |(key, known): (&Key, &Known)| matches!(known, Known::Owned(_)).then_some(*key);
        let owned: Vec<Key> = self.known.iter().filter_map(owned).collect();
        let Some(&key @ (protocol, address, port)) = owned.choose(&mut self.rng) else { return };
        let public = Endpoint::new(self.ports.pool().address(address), port);
        let shortened = self.rng.random_ratio(1, 50);
        let hold = if shortened { Span(self.hold.0 / 2) } else { self.hold };
        self.ports.release(protocol, public, self.now(), hold);
        if hold == Span(0) || !self.is_in_range(protocol, port) {
            self.known.remove(&key);
            return;
        }
        let until = self.time + Time::from(hold.0) + 1;
        // Not before its elders in the queue, and at the next whole 0.4 s.
        let class = (protocol, address, self.is_system(protocol, port));
        let surely = self.surely.entry(class).or_default();
        *surely = (until + 3).max(*surely);
        self.known.insert(key, Known::Held { until, surely: *surely });
    }

    fn reserve(&mut self) {
        let protocol = self.protocol();
        let address = self.rng.random_range(0..ADDRESSES as u32);
        let around = self.surroundings();
        let port = self.rng.random_range(around);
        let public = Endpoint::new(self.ports.pool().address(address), port);
        let mapping = self.new_mapping();
        let was = self.ports.reserve(protocol, public, mapping);
        let known = self.known.insert((protocol, address, port), Known::Owned(mapping));
        assert!(self.agrees(known, was), "{protocol} {public} was {was:?}, not {known:?}");
        self.seen.taken_from_mapping += u32::from(matches!(was, Lookup::Owned(_)));
        self.seen.taken_from_hold += u32::from(was == Lookup::Held);
    }

    /// No port is lost and none is there twice, whatever is asked of the allocator next.
    fn check_counts(&self) {
        for protocol in Protocol::ALL {
            let of_it =
                |(key, known): (&Key, &Known)| (key.0 == protocol).then_some((key.2, *known));
            let all = || self.known.iter().filter_map(of_it);
            let owned = all().filter(|(_, known)| matches!(known, Known::Owned(_)));
            let outside = owned.clone().filter(|(port, _)| !self.is_in_range(protocol, *port));
            let held = |must: bool| {
                let time = self.time;
                all().filter(move |(_, known)| match known {
                    Known::Held { until, .. } => !must || time < *until,
                    Known::Owned(_) => false,
                })
            };
            let counts = self.ports.counts(protocol);
            assert_eq!(counts.owned, owned.count() as u64);
            let size = self.range_size(protocol) * ADDRESSES as u64;
            assert_eq!(counts.free + counts.held + counts.owned, size + outside.count() as u64);
            let held = held(true).count() as u64..=held(false).count() as u64;
            assert!(held.contains(&counts.held), "{} held, not {held:?}", counts.held);
        }
    }

    /// Every entry in and around the range says what is known, and so does that of every known
    /// port; what has become free is forgotten.
    fn check_entries(&mut self) {
        let mut keys: Vec<Key> = self.known.keys().copied().collect();
        for protocol in Protocol::ALL {
            for address in 0..ADDRESSES as u32 {
                keys.extend(self.surroundings().map(|port| (protocol, address, port)));
            }
        }
        for key @ (protocol, address, port) in keys {
            let public = Endpoint::new(self.ports.pool().address(address), port);
            let entry = self.ports.lookup(protocol, public);
            let known = self.known.get(&key).copied();
            assert!(self.agrees(known, entry), "{protocol} {public} is {entry:?}, not {known:?}");
            if entry == Lookup::Free {
                self.known.remove(&key);
            }
        }
    }

    /// Lets everything go, waits, and finds every port again.
    fn wind_up(&mut self) {
        let all: Vec<_> = self.known.iter().map(|(key, known)| (*key, *known)).collect();
        for ((protocol, address, port), known) in all {
            if let Known::Owned(_) = known {
                let public = Endpoint::new(self.ports.pool().address(address), port);
                self.ports.release(protocol, public, self.now(), self.hold);
            }
        }
        self.time += Time::from(self.hold.0) + 4;
        let size = |protocol| self.range_size(protocol) * ADDRESSES as u64;
        let sizes = Protocol::ALL.map(size);
        for _ in 0..sizes.iter().sum::<u64>() / u64::from(FREED_BY_TICK) + 2 {
            self.ports.tick(self.now());
        }
        for (protocol, free) in Protocol::ALL.into_iter().zip(sizes) {
            assert_eq!(self.ports.counts(protocol), Counts { free, held: 0, owned: 0 });
        }
    }

    /// Whether an entry may say this of a port of which that is known.
    fn agrees(&self, known: Option<Known>, entry: Lookup) -> bool {
        match (known, entry) {
            (None, Lookup::Free) => true,
            (Some(Known::Owned(mapping)), Lookup::Owned(owner)) => mapping == owner,
            (Some(Known::Held { .. }), Lookup::Held) => true,
            (Some(Known::Held { until, .. }), Lookup::Free) => self.time >= until,
            _ => false,
        }
    }

    fn is_in_range(&self, protocol: Protocol, port: u16) -> bool {
        protocol == Protocol::Icmp || port != 0 && self.range.contains(&port)
    }

    /// The range and two ports on either side.
    fn surroundings(&self) -> RangeInclusive<u16> {
        self.range.start().saturating_sub(2)..=self.range.end().saturating_add(2)
    }

    fn is_system(&self, protocol: Protocol, port: u16) -> bool {
        protocol != Protocol::Icmp && port < 1024
    }

    fn range_size(&self, protocol: Protocol) -> u64 {
        match protocol {
            Protocol::Icmp => 65_536,
            _ => self.range.clone().filter(|port| *port != 0).count() as u64,
        }
    }

    fn protocol(&mut self) -> Protocol {
        // ICMP has all the identifiers, whatever the range.
        *[Protocol::Udp, Protocol::Udp, Protocol::Udp, Protocol::Tcp, Protocol::Icmp]
            .choose(&mut self.rng)
            .unwrap()
    }

    fn new_mapping(&mut self) -> u32 {
        self.mappings += 1;
        MAPPINGS_MAX - self.mappings
    }

    fn now(&self) -> Ticks {
        Ticks(self.start.wrapping_add(self.time as u32))
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
fn ports_live_as_the_model_says() {
    let seed = seed();
    let holds = [Span(0), Span(1), Span::from_secs(120), HOLD_MAX];
    for range in [1010..=1040, 1024..=1050, 0..=20, 1000..=1023, 2000..=2050] {
        for (index, hold) in holds.into_iter().enumerate() {
            let start = [seed as u32, 0, u32::MAX - 100_000, u32::MAX - 1_000_000][index];
            println!("ports {range:?} held for {hold:?}, clock from {start}");
            let mut memory = Memory::of(ADDRESSES);
            let mut world = World::new(seed, start, range.clone(), hold, &mut memory);
            for _ in 0..10_000 {
                world.step();
            }
            let seen = world.seen;
            assert!(seen.allocated > 500 && seen.exhausted > 10, "{seen:?}");
            assert!(seen.taken_from_mapping > 0, "{seen:?}");
            assert!(hold == Span(0) || seen.reused > 0 && seen.taken_from_hold > 0, "{seen:?}");
            println!("{seen:?}");
            world.wind_up();
        }
    }
}
