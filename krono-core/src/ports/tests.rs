//! What an allocator of public ports promises, one promise at a time; see `simulation` for all of
//! them at once.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// The memory that the house would hand in.
pub(super) struct Memory {
    entries: Vec<u32>,
    free_lists: Vec<u16>,
    banks: Vec<BankState>,
}

impl Memory {
    pub(super) fn of(addresses: usize) -> Self {
        let sizes = Ports::memory(addresses);
        Memory {
            entries: vec![0; sizes.entries],
            free_lists: vec![0; sizes.free_lists],
            banks: vec![BankState::default(); sizes.banks],
        }
    }

    /// The allocator over it, of as many addresses from 198.51.100.0 on.
    pub(super) fn ports(&mut self, range: RangeInclusive<u16>) -> Ports<'_> {
        let addresses = self.banks.len() / Protocol::COUNT;
        let prefix = format!("198.51.100.0/{}", 32 - addresses.ilog2());
        let memory = PortsMemory {
            entries: &mut self.entries,
            free_lists: &mut self.free_lists,
            banks: &mut self.banks,
        };
        Ports::new(Pool::new(&[prefix.parse().unwrap()]), range, memory)
    }
}

const NOW: Ticks = Ticks(u32::MAX - 7);
const HOLD: Span = Span::from_secs(120);
const UDP: Protocol = Protocol::Udp;
const ICMP: Protocol = Protocol::Icmp;

fn endpoint(port: u16) -> Endpoint {
    Endpoint::new([198, 51, 100, 0].into(), port)
}

fn later(ticks: u32) -> Ticks {
    Ticks(NOW.0.wrapping_add(ticks))
}

/// Allocates from address 0 until nothing is left; the ports in the order given out.
fn exhaust(ports: &mut Ports<'_>, protocol: Protocol, inside: u16, now: Ticks) -> Vec<u16> {
    let mut rng = StdRng::seed_from_u64(7);
    std::iter::from_fn(|| ports.allocate(protocol, 0, inside, 1, rng.random(), now))
        .map(|public| public.port)
        .collect()
}

fn is_set(given: &[u16], expected: impl IntoIterator<Item = u16>) -> bool {
    let set: BTreeSet<u16> = given.iter().copied().collect();
    set.len() == given.len() && set == expected.into_iter().collect()
}

#[test]
fn a_port_goes_from_free_to_owned_to_held_to_free() {
    let mut memory = Memory::of(1);
    let mut ports = memory.ports(5000..=5000);
    let public = endpoint(5000);
    assert_eq!(ports.lookup(UDP, Endpoint::new([198, 51, 100, 1].into(), 5000)), Lookup::NotPool);
    assert_eq!(ports.lookup(UDP, public), Lookup::Free);

    assert_eq!(ports.allocate(UDP, 0, 80, 7, 99, NOW), Some(public));
    assert_eq!(ports.lookup(UDP, public), Lookup::Owned(7));
    assert_eq!(ports.lookup(Protocol::Tcp, public), Lookup::Free);
    assert_eq!(ports.allocate(UDP, 0, 80, 8, 99, NOW), None);
    assert_eq!(ports.counts(UDP), Counts { free: 0, held: 0, owned: 1 });

    ports.release(UDP, public, NOW, HOLD);
    assert_eq!(ports.lookup(UDP, public), Lookup::Held);
    assert_eq!(ports.counts(UDP), Counts { free: 0, held: 1, owned: 0 });
    assert_eq!(ports.allocate(UDP, 0, 80, 8, 99, later(HOLD.0)), None);
    ports.tick(later(HOLD.0 + 5));
    assert_eq!(ports.lookup(UDP, public), Lookup::Free);
    assert_eq!(ports.counts(UDP), Counts { free: 1, held: 0, owned: 0 });
}

#[test]
fn construction_leaves_the_memory_alone_and_memory_of_zeros_is_all_free() {
    let mut memory = Memory::of(4);
    let ports = memory.ports(1024..=65535);
    assert_eq!(ports.counts(UDP), Counts { free: 4 * 64512, held: 0, owned: 0 });
    assert_eq!(ports.counts(ICMP), Counts { free: 4 * 65536, held: 0, owned: 0 });
    assert_eq!((ports.usable(UDP, 3), ports.usable(ICMP, 3)), (64512, 65536));
    assert!(memory.entries.iter().all(|entry| *entry == 0));
    assert!(memory.free_lists.iter().all(|port| *port == 0));
    assert!(memory.banks.iter().all(|bank| *bank == BankState::default()));
}

#[test]
fn memory_says_what_it_takes() {
    let bytes = Ports::memory(16).bytes();
    assert_eq!(bytes, 16 * 3 * (65536 * (4 + 2) + size_of::<BankState>()));
}

#[test]
fn a_later_allocator_takes_the_memory_over() {
    let mut memory = Memory::of(1);
    let mut ports = memory.ports(6000..=6002);
    let first = ports.allocate(UDP, 0, 9999, 5, 0, NOW).unwrap();
    let second = ports.allocate(UDP, 0, 9999, 6, 0, NOW).unwrap();
    ports.release(UDP, first, NOW, HOLD);
    let before = ports.counts(UDP);
    let mut ports = memory.ports(6000..=6002);
    assert_eq!(ports.counts(UDP), before);
    assert_eq!(ports.lookup(UDP, second), Lookup::Owned(6));
    assert_eq!(exhaust(&mut ports, UDP, 9999, later(HOLD.0 + 4)).len(), 2);
}

#[test]
fn rfc4787_3_every_port_is_given_out_once() {
    let mut memory = Memory::of(1);
    let mut ports = memory.ports(1024..=65535);
    let given = exhaust(&mut ports, UDP, 5000, NOW);
    assert!(is_set(&given, 1024..=65535));
    assert_eq!(ports.counts(UDP), Counts { free: 0, held: 0, owned: 64512 });
    // A port below 1024 shares the one class there is.
    ports.release(UDP, endpoint(4000), NOW, Span(0));
    assert_eq!(ports.allocate(UDP, 0, 53, 1, 0, NOW), Some(endpoint(4000)));
    // And every ICMP identifier, 0 included, whatever the range of ports.
    assert!(is_set(&exhaust(&mut ports, ICMP, 80, NOW), 0..=65535));
}

#[test]
fn rfc4787_3a_the_port_class_is_kept_where_the_range_has_both() {
    let mut memory = Memory::of(1);
    let mut ports = memory.ports(0..=2000);
    // Never port 0; and the exhausted class leaves the other one alone.
    assert!(is_set(&exhaust(&mut ports, UDP, 500, NOW), 1..=1023));
    assert_eq!(ports.usable(UDP, 0), 2000 - 1023);
    assert!(is_set(&exhaust(&mut ports, UDP, 1024, NOW), 1024..=2000));

    let mut ports = Memory::of(1);
    let mut ports = ports.ports(100..=110);
    assert!(is_set(&exhaust(&mut ports, UDP, 40000, NOW), 100..=110));
}

#[test]
fn rfc6888_8_no_held_port_is_given_out_before_its_time() {
    for hold in [Span(1), Span(2), Span(3), HOLD, HOLD_MAX] {
        for start in 0..8 {
            let mut memory = Memory::of(1);
            let mut ports = memory.ports(5000..=5000);
            let public = ports.allocate(UDP, 0, 80, 1, 0, later(start)).unwrap();
            ports.release(UDP, public, later(start), hold);
            let mut waited = 0;
            while ports.allocate(UDP, 0, 80, 1, 0, later(start + waited)).is_none() {
                waited += 1;
            }
            // The port was released somewhere within its tick: one more than `hold` must pass.
            assert!(waited > hold.0, "after {waited} of {hold:?}");
            assert!(waited <= hold.0 + 5, "after {waited} of {hold:?}: half a second late");
        }
    }
}

#[test]
fn a_hold_of_nothing_frees_at_once() {
    let mut memory = Memory::of(1);
    let mut ports = memory.ports(5000..=5000);
    for mapping in 0..10 {
        let public = ports.allocate(UDP, 0, 80, mapping, 0, NOW).unwrap();
        ports.release(UDP, public, NOW, Span(0));
        assert_eq!(ports.lookup(UDP, public), Lookup::Free);
    }
}

#[test]
fn exhaustion_ends_as_holds_do() {
    let mut memory = Memory::of(1);
    let mut ports = memory.ports(1024..=65535);
    let given = exhaust(&mut ports, ICMP, 1, NOW);
    for (order, identifier) in given.iter().enumerate() {
        ports.release(ICMP, endpoint(*identifier), later(order as u32 / 64), HOLD);
    }
    assert_eq!(ports.counts(ICMP), Counts { free: 0, held: 65536, owned: 0 });
    assert_eq!(ports.allocate(ICMP, 0, 1, 1, 0, later(HOLD.0)), None);
    assert_eq!(exhaust(&mut ports, ICMP, 1, later(HOLD.0 + 511 + 4)).len(), 32768);
    assert_eq!(exhaust(&mut ports, ICMP, 1, later(HOLD.0 + 1023 + 4)).len(), 32768);
}

#[test]
fn ticks_free_what_is_due_after_any_idle_time() {
    for idle in [HOLD.0 + 5, HOLD_MAX.0 + 5, 65536, 65536 + 5, 10 * 86400 * 3, 1 << 30] {
        let mut memory = Memory::of(2);
        let mut ports = memory.ports(1..=65535);
        for port in 0..1000 {
            let inside = if port % 2 == 0 { 80 } else { 8080 };
            let public = ports.allocate(UDP, port % 2, inside, 1, port << 20, NOW).unwrap();
            ports.release(UDP, public, NOW, HOLD);
        }
        for _ in 0..1000 / FREED_BY_TICK + 2 {
            ports.tick(later(idle));
        }
        let counts = ports.counts(UDP);
        assert_eq!(counts, Counts { free: 2 * 65535, held: 0, owned: 0 }, "idle {idle}");
    }
}

#[test]
fn a_tick_frees_a_bounded_number_of_ports() {
    let mut memory = Memory::of(1);
    let mut ports = memory.ports(1024..=65535);
    for port in exhaust(&mut ports, UDP, 5000, NOW) {
        ports.release(UDP, endpoint(port), NOW, HOLD);
    }
    for ticks in 1..5 {
        ports.tick(later(HOLD.0 + 4));
        assert_eq!(ports.usable(UDP, 0), ticks * FREED_BY_TICK);
    }
}

#[test]
fn a_queue_that_spans_more_than_its_clock_is_put_right() {
    // The clock of a capture may leap over days without a tick between.
    for leap in [40_000, 60_000, 65_536, 70_000, 100_000, 40 * 65_536 + 7] {
        let mut memory = Memory::of(1);
        let mut ports = memory.ports(5000..=5009);
        let given = exhaust(&mut ports, UDP, 5000, NOW);
        ports.release(UDP, endpoint(given[0]), NOW, HOLD);
        ports.release(UDP, endpoint(given[1]), later(leap), HOLD_MAX);
        let reused = exhaust(&mut ports, UDP, 5000, later(leap));
        assert_eq!(reused, given[..1], "after {leap}");
        let reused = exhaust(&mut ports, UDP, 5000, later(leap + HOLD_MAX.0 + 4));
        assert_eq!(reused, given[1..2], "after {leap}");
    }
}

#[test]
fn a_short_hold_waits_behind_a_long_one() {
    let mut memory = Memory::of(1);
    let mut ports = memory.ports(5000..=5001);
    let given = exhaust(&mut ports, UDP, 5000, NOW);
    ports.release(UDP, endpoint(given[0]), NOW, HOLD_MAX);
    ports.release(UDP, endpoint(given[1]), NOW, Span(1));
    assert_eq!(exhaust(&mut ports, UDP, 5000, later(HOLD_MAX.0)), []);
    assert_eq!(exhaust(&mut ports, UDP, 5000, later(HOLD_MAX.0 + 4)).len(), 2);
}

#[test]
fn a_static_mapping_takes_a_port_from_whatever_has_it() {
    let mut memory = Memory::of(1);
    let mut ports = memory.ports(5000..=5003);
    let stranger = Endpoint::new([192, 0, 2, 1].into(), 5000);
    assert_eq!(ports.reserve(UDP, stranger, 100), Lookup::NotPool);
    assert_eq!(ports.reserve(UDP, endpoint(5001), 100), Lookup::Free);
    assert!(is_set(&exhaust(&mut ports, UDP, 5000, NOW), [5000, 5002, 5003]));
    assert_eq!(ports.reserve(UDP, endpoint(5002), 101), Lookup::Owned(1));
    ports.release(UDP, endpoint(5003), NOW, HOLD);
    assert_eq!(ports.reserve(UDP, endpoint(5003), 102), Lookup::Held);
    for (port, mapping) in [(5000, 1), (5001, 100), (5002, 101), (5003, 102)] {
        assert_eq!(ports.lookup(UDP, endpoint(port)), Lookup::Owned(mapping));
    }
    assert_eq!(ports.counts(UDP), Counts { free: 0, held: 0, owned: 4 });
    assert_eq!(exhaust(&mut ports, UDP, 5000, later(100_000)), []);
    // Given back, they are like any other.
    for port in 5001..=5003 {
        ports.release(UDP, endpoint(port), NOW, Span(0));
    }
    assert!(is_set(&exhaust(&mut ports, UDP, 5000, NOW), 5001..=5003));
}

#[test]
fn a_static_mapping_may_lie_outside_of_the_range() {
    let mut memory = Memory::of(1);
    let mut ports = memory.ports(1024..=1030);
    for port in [0, 80, 1023, 1031, 65535] {
        assert_eq!(ports.reserve(UDP, endpoint(port), 9), Lookup::Free);
        assert_eq!(ports.lookup(UDP, endpoint(port)), Lookup::Owned(9));
        assert_eq!(ports.reserve(UDP, endpoint(port), 10), Lookup::Owned(9));
    }
    assert_eq!(ports.counts(UDP), Counts { free: 7, held: 0, owned: 5 });
    assert!(is_set(&exhaust(&mut ports, UDP, 80, NOW), 1024..=1030));
    ports.release(UDP, endpoint(80), NOW, HOLD);
    assert_eq!(ports.lookup(UDP, endpoint(80)), Lookup::Free);
    assert_eq!(ports.counts(UDP), Counts { free: 0, held: 0, owned: 11 });
}

#[test]
fn a_held_port_may_be_taken_from_anywhere_in_the_queue() {
    for taken in [vec![0], vec![4], vec![2], vec![0, 1], vec![4, 3], vec![1, 0, 4, 3, 2]] {
        let mut memory = Memory::of(1);
        let mut ports = memory.ports(5000..=5004);
        let given = exhaust(&mut ports, UDP, 5000, NOW);
        for (order, port) in given.iter().enumerate() {
            ports.release(UDP, endpoint(*port), later(order as u32 * 10), HOLD);
        }
        for index in &taken {
            assert_eq!(ports.reserve(UDP, endpoint(given[*index]), 9), Lookup::Held);
        }
        // The queue goes on behind what is left of it.
        let last = given[taken[0]];
        ports.release(UDP, endpoint(last), later(60), HOLD);
        for order in (0..5).filter(|index| !taken.contains(index)) {
            let now = later(order as u32 * 10 + HOLD.0 + 4);
            assert_eq!(exhaust(&mut ports, UDP, 5000, now), [given[order]], "{taken:?}");
        }
        assert_eq!(exhaust(&mut ports, UDP, 5000, later(60 + HOLD.0)), []);
        assert_eq!(exhaust(&mut ports, UDP, 5000, later(60 + HOLD.0 + 4)), [last]);
    }
}

#[test]
fn rfc7857_9_every_free_port_is_as_likely_as_another() {
    const PORTS: RangeInclusive<u16> = 2000..=2063;
    const RESERVED: usize = 14;
    const FREE: f64 = (64 - RESERVED) as f64;
    const DRAWS: usize = 50_000;
    let mut memory = Memory::of(1);
    let mut ports = memory.ports(PORTS);
    for port in PORTS.take(RESERVED) {
        assert_eq!(ports.reserve(UDP, endpoint(port), 0), Lookup::Free);
    }
    let mut rng = StdRng::seed_from_u64(6056);
    let (mut singles, mut steps) = ([0u32; 64], [0u32; 64]);
    let mut before = 0;
    for _ in 0..DRAWS {
        let public = ports.allocate(UDP, 0, 5000, 1, rng.random(), NOW).unwrap();
        ports.release(UDP, public, NOW, Span(0));
        let index = usize::from(public.port - PORTS.start()) - RESERVED;
        singles[index] += 1;
        // How far it is from the port before, around the free ones.
        steps[(index + 50 - before) % 50] += 1;
        before = index;
    }
    for counts in [&singles[..50], &steps[..50]] {
        let expected = DRAWS as f64 / FREE;
        let square = |count: &u32| (f64::from(*count) - expected).powi(2) / expected;
        let chi: f64 = counts.iter().map(square).sum();
        // 49 degrees of freedom: less than 1 in 1000 lies above.
        assert!(chi < 85.4, "chi-square {chi}: {counts:?}");
    }
}

#[test]
fn subscribers_spread_over_the_addresses() {
    const ADDRESSES: usize = 16;
    let mut memory = Memory::of(ADDRESSES);
    let mut ports = memory.ports(1024..=65535);
    let mut rng = StdRng::seed_from_u64(1994);
    let mut load = [0u32; ADDRESSES];
    for _ in 0..16_000 {
        let address = ports.choose_address(UDP, rng.random());
        load[address as usize] += 1;
        let public = ports.allocate(UDP, address, 5000, 1, rng.random(), NOW).unwrap();
        assert_eq!(ports.pool().index(public.addr), Some(address));
    }
    // One random choice would leave the fullest about 60 above the mean.
    assert!(load.iter().all(|load| load.abs_diff(1000) <= 8), "{load:?}");
}

#[test]
#[should_panic(expected = "no mapping owns udp 198.51.100.0:5000")]
fn a_port_is_not_released_twice() {
    let mut memory = Memory::of(1);
    let mut ports = memory.ports(5000..=5000);
    let public = ports.allocate(UDP, 0, 80, 1, 0, NOW).unwrap();
    ports.release(UDP, public, NOW, HOLD);
    ports.release(UDP, public, NOW, HOLD);
}

#[test]
#[should_panic(expected = "not held for more than an hour")]
fn a_hold_has_a_limit() {
    let mut memory = Memory::of(1);
    let mut ports = memory.ports(5000..=5000);
    let public = ports.allocate(UDP, 0, 80, 1, 0, NOW).unwrap();
    ports.release(UDP, public, NOW, Span(HOLD_MAX.0 + 1));
}
