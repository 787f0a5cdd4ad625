//! What an allocator of public ports promises, one promise at a time.

use std::ops::RangeInclusive;

use super::*;

/// The memory that the house would hand in.
struct Memory {
    entries: Vec<u32>,
    taken: Vec<TakenPorts>,
    banks: Vec<BankState>,
}

impl Memory {
    fn of(addresses: usize) -> Self {
        let sizes = Ports::memory(addresses);
        Memory {
            entries: vec![0; sizes.entries],
            taken: vec![TakenPorts::NONE; sizes.taken],
            banks: vec![BankState::default(); sizes.banks],
        }
    }

    /// The allocator over it, of as many addresses from 198.51.100.0 on.
    fn ports(&mut self, range: RangeInclusive<u16>) -> Ports<'_> {
        self.part_of_ports(range, Part::ALL)
    }

    fn part_of_ports(&mut self, range: RangeInclusive<u16>, part: Part) -> Ports<'_> {
        let addresses = self.banks.len() / Protocol::COUNT;
        let prefix = format!("198.51.100.0/{}", 32 - addresses.ilog2());
        let memory = PortsMemory {
            entries: &mut self.entries,
            taken: &mut self.taken,
            banks: &mut self.banks,
        };
        Ports::new(Pool::new(&[prefix.parse().unwrap()]), range, part, memory)
    }
}

const NOW: Ticks = Ticks(u32::MAX - 7);
const HOLD: Span = Span::from_secs(120);

fn endpoint(port: u16) -> Endpoint {
    Endpoint::new([198, 51, 100, 0].into(), port)
}

#[test]
fn a_port_goes_from_free_to_owned_to_held_to_free() {
    let mut memory = Memory::of(1);
    let mut ports = memory.ports(5000..=5000);
    let (udp, tcp) = (Protocol::Udp, Protocol::Tcp);
    let public = endpoint(5000);
    assert_eq!(ports.lookup(udp, Endpoint::new([198, 51, 100, 1].into(), 5000)), Lookup::NotPool);
    assert_eq!(ports.lookup(udp, public), Lookup::Free);

    assert_eq!(ports.allocate(udp, 0, 80, 7, || 99, NOW), Some(public));
    assert_eq!(ports.lookup(udp, public), Lookup::Owned(7));
    assert_eq!(ports.lookup(tcp, public), Lookup::Free);
    assert_eq!(ports.allocate(udp, 0, 80, 8, || 99, NOW), None);
    assert_eq!(ports.counts(udp), Counts { owned: 1, ..Counts::default() });

    ports.release(udp, public, NOW, HOLD);
    assert_eq!(ports.lookup(udp, public), Lookup::Held);
    assert_eq!(ports.counts(udp), Counts { held: 1, ..Counts::default() });
    assert_eq!(ports.allocate(udp, 0, 80, 8, || 99, Ticks(NOW.0.wrapping_add(HOLD.0))), None);
    ports.tick(Ticks(NOW.0.wrapping_add(HOLD.0 + 5)));
    assert_eq!(ports.lookup(udp, public), Lookup::Free);
    assert_eq!(ports.counts(udp), Counts { free: 1, ..Counts::default() });
}

/// What a port is in the model: held ones may be free from then on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Free,
    Owned(u32),
    HeldUntil(Ticks),
}

/// Random allocations, releases, reservations and pauses beside a plain table of all ports: no port
/// is given out twice, outside of its class, or before its hold is over; none is ever lost.
#[test]
fn an_allocator_does_what_a_table_of_all_ports_says() {
    for (seed, range) in [(1, 1000..=1200), (2, 1..=65535), (3, 63000..=63063), (4, 1024..=1500)] {
        let mut random = seed;
        let mut next = |below: u64| {
            random = 6_364_136_223_846_793_005_u64.wrapping_mul(random).wrapping_add(1);
            (random >> 33) % below
        };
        let (mut memory, mut now) = (Memory::of(1), NOW);
        let mut ports = memory.ports(range.clone());
        let mut model = vec![Fate::Free; PORTS];
        for mapping in 0..20_000 {
            let port = *range.start() + next(range.len() as u64 + 10).min(65535) as u16 % 64000;
            match (next(10), model[usize::from(port)]) {
                (0..5, _) => {
                    let inside = next(2000) as u16;
                    let given = ports.allocate(
                        Protocol::Udp,
                        0,
                        inside,
                        mapping,
                        || next(1 << 32) as u32,
                        now,
                    );
                    let has_system = *range.start() < 1024;
                    let is_right_class =
                        |port: u16| !has_system || (port < 1024) == (inside < 1024);
                    let Some(given) = given else {
                        let is_free = |port: u16| {
                            is_right_class(port) && model[usize::from(port)] == Fate::Free
                        };
                        assert!(!range.clone().any(is_free), "a free port was not given out");
                        continue;
                    };
                    assert!(range.contains(&given.port) && is_right_class(given.port), "{given}");
                    match model[usize::from(given.port)] {
                        Fate::Free => {}
                        Fate::HeldUntil(due) => assert!(now.reached(due), "{given} too early"),
                        Fate::Owned(other) => panic!("{given} is owned by {other}"),
                    }
                    model[usize::from(given.port)] = Fate::Owned(mapping);
                }
                (5..8, Fate::Owned(_)) => {
                    let hold = Span([0, 7, 40][next(3) as usize]);
                    ports.release(Protocol::Udp, endpoint(port), now, hold);
                    let is_held = hold != Span(0) && port != 0 && range.contains(&port);
                    model[usize::from(port)] =
                        if is_held { Fate::HeldUntil(now.after(hold)) } else { Fate::Free };
                }
                (8, Fate::Free | Fate::HeldUntil(_)) => {
                    let before = ports.reserve(Protocol::Udp, endpoint(port), mapping);
                    assert!(matches!(before, Lookup::Free | Lookup::Held), "{before:?}");
                    model[usize::from(port)] = Fate::Owned(mapping);
                }
                (9, _) => {
                    now = Ticks(now.0.wrapping_add(1));
                    ports.tick(now);
                }
                _ => {}
            }
            let found = ports.lookup(Protocol::Udp, endpoint(port));
            match model[usize::from(port)] {
                Fate::Owned(mapping) => assert_eq!(found, Lookup::Owned(mapping), "{port}"),
                Fate::HeldUntil(due) if !now.reached(due) => assert_eq!(found, Lookup::Held),
                _ => assert!(matches!(found, Lookup::Free | Lookup::Held), "{port}: {found:?}"),
            }
        }
        let owned = model.iter().filter(|fate| matches!(fate, Fate::Owned(_))).count() as u64;
        assert_eq!(ports.counts(Protocol::Udp).owned, owned, "seed {seed}");
        for _ in 0..2000 {
            now = Ticks(now.0.wrapping_add(10));
            ports.tick(now);
        }
        let counts = ports.counts(Protocol::Udp);
        assert_eq!(counts.held, 0, "seed {seed}: every hold ends");
        let free = range
            .clone()
            .filter(|port| *port != 0 && !matches!(model[usize::from(*port)], Fate::Owned(_)));
        assert_eq!(counts.free, free.count() as u64, "seed {seed}");
    }
}

const FIRST: Part = Part { first_percent: 75, is_first: true };
const SECOND: Part = Part { is_first: false, ..FIRST };

#[test]
fn two_parts_have_no_port_in_common_and_all_of_them_together() {
    for range in [1..=65535, 1024..=1063, 5000..=5001] {
        let mut seen = vec![0; PORTS];
        for part in [FIRST, SECOND] {
            let mut memory = Memory::of(1);
            let mut ports = memory.part_of_ports(range.clone(), part);
            let free = ports.free(Protocol::Tcp, 0);
            let mut random = 17_u32;
            for inside in [80, 8080] {
                let next = || {
                    random = random.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
                    random
                };
                let mut next = next;
                while let Some(given) = ports.allocate(Protocol::Tcp, 0, inside, 7, &mut next, NOW)
                {
                    seen[usize::from(given.port)] += 1;
                }
            }
            assert_eq!(ports.free(Protocol::Tcp, 0), 0);
            let given = seen.iter().sum::<u32>();
            assert_eq!(given, if part.is_first { free } else { range.len() as u32 });
            // Who is alone has the other part too, of which another allocator gave out the like.
            ports.set_alone(true);
            assert_eq!(ports.free(Protocol::Tcp, 0), range.len() as u32 - free);
            let given = ports.allocate(Protocol::Tcp, 0, 8080, 7, || 5, NOW).expect("a port");
            assert_eq!(seen[usize::from(given.port)], u32::from(!part.is_first));
        }
        assert!(range.clone().all(|port| seen[usize::from(port)] == 1));
    }
}

#[test]
fn a_port_that_a_twin_was_told_of_waits_for_the_twin_and_then_for_its_hold() {
    let mut memory = Memory::of(1);
    let mut ports = memory.part_of_ports(5000..=5001, SECOND);
    let udp = Protocol::Udp;
    let at = |later: u32| Ticks(NOW.0.wrapping_add(later));
    let public = ports.allocate(udp, 0, 80, 7, || 99, NOW).expect("a port");
    ports.release_told(udp, public, at(40), at(30), HOLD);
    assert_eq!(ports.lookup(udp, public), Lookup::Held);
    for later in [41, 5000, 80_000] {
        // The twin knows of what was up to then, so not yet of this.
        ports.settle(at(36), at(later), HOLD);
        ports.tick(at(later));
        assert_eq!(ports.counts(udp), Counts { waiting: 1, free: 1, ..Counts::default() });
    }
    ports.settle(at(44), at(90_000), HOLD);
    assert_eq!(ports.counts(udp), Counts { held: 1, free: 1, ..Counts::default() });
    ports.tick(at(90_000 + HOLD.0));
    assert_eq!(ports.lookup(udp, public), Lookup::Held);
    ports.tick(at(90_000 + HOLD.0 + 5));
    assert_eq!(ports.counts(udp), Counts { free: 2, ..Counts::default() });

    let at_most = |now: Ticks| Ticks(now.0.wrapping_sub(1));
    // A static mapping takes a port that waits, first, last or between others.
    for taken in 0..3 {
        let mut memory = Memory::of(1);
        let mut ports = memory.ports(5000..=5002);
        let mut given: Vec<_> = (0..3)
            .map(|mapping| ports.allocate(udp, 0, 80, mapping, || 99, NOW).expect("a port"))
            .collect();
        given.iter().for_each(|port| ports.release_told(udp, *port, NOW, at_most(NOW), HOLD));
        assert_eq!(ports.reserve(udp, given.remove(taken), 9), Lookup::Held);
        ports.settle(at(10), at(10), Span(0));
        assert_eq!(ports.counts(udp), Counts { owned: 1, free: 2, ..Counts::default() });
    }
}
