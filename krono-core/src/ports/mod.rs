//! The public addresses and ports of a shard: who owns which, and which may be given out next.
//!
//! A *bank* is the ports of one protocol on one pool address. It has a bit for each port that says
//! whether it is taken, from which allocation finds a free one, and a dense array of 65,536 entries,
//! which is the way from a public endpoint to its mapping: an unknown inbound packet costs one cache
//! line. An entry says that its port is
//!
//! ```text
//! bit  31 30 29          16 15           0
//!       0  0  (zero)                            free
//!       0  1  due            next               held: when it may be free again, held port behind
//!       1  owner                                owned by the mapping with this index
//! ```
//!
//! Allocation takes a random port of those that are free (RFC 7857, section 9; RFC 6056) in a bounded
//! number of steps whatever the load; release and the reservation of a free port are O(1). A released
//! port is held for a while (RFC 6888, REQ-8) in a queue that is threaded through the entries, so
//! that memory is the same however many ports are held.
//!
//! Where a twin on another server may serve in a shard's place, each of the two gives out ports of
//! its own [`Part`] only, and a port of which the twin was told goes to nobody else before the twin
//! has acknowledged that it is free ([`Ports::release_told`]). So no port has two owners, however
//! long the two do not hear of each other. It costs the ports of the other's part.
//!
//! All state lies in slices that the house hands in. Memory of zeros is a shard with every port
//! free, and construction does not touch it.

mod bank;
mod pool;
mod taken;
#[cfg(test)]
mod tests;

pub use bank::{BankState, HOLD_MAX, MAPPINGS_MAX};
pub use pool::Pool;
pub use taken::TakenPorts;

use std::ops::RangeInclusive;

use zerocopy::IntoBytes;

use crate::packet::{Endpoint, Protocol};
use crate::replicable::Digest;
use crate::table::prefetch;
use crate::time::{Span, Ticks};
use bank::{CLASSES, Class, PORTS, PortRange};

/// Held ports that an allocation frees on its way, if they are due: more than one, so that the
/// queue of held ports shrinks even if nothing else frees them.
const FREED_BY_ALLOCATION: u32 = 2;

/// Held ports that one `tick` frees at most.
const FREED_BY_TICK: u32 = 64;

/// Banks that one `tick` looks at at most.
const VISITED_BY_TICK: usize = 16;

/// The first port that is not a system port (RFC 6335, section 6).
const FIRST_USER_PORT: u16 = 1024;

/// The index of the class of system ports, 1 to 1023, within a part.
const SYSTEM: usize = 0;

/// The index of the class of all others.
const USER: usize = 1;

/// Classes of a part.
const KINDS: usize = 2;

/// Waiting ports that a release settles on its way: more than one, so that the queue shrinks.
const SETTLED_BY_RELEASE: u32 = 2;

/// What a public endpoint is to a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Lookup {
    /// The address is none of the pool's.
    NotPool,
    /// Nobody's.
    Free,
    /// Nobody's, and not to be given out yet (RFC 6888, REQ-8).
    Held,
    /// That of the mapping with this index.
    Owned(u32),
}

/// Which ports of its range a shard gives out, where a twin gives out the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// How many of the ports, counted from the lowest, are the first part: percent, of the system
    /// ports and of the others. Both servers must say the same.
    pub first_percent: u8,
    /// Whether this shard's part is the first.
    pub is_first: bool,
}

impl Part {
    /// All ports, for a shard without twin.
    pub const ALL: Part = Part { first_percent: 100, is_first: true };
}

/// How many ports of the pool are what, for one protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Ports that an allocation may give out now.
    pub free: u64,
    /// Released ports that wait for their hold to be over.
    pub held: u64,
    /// Released ports that a twin may take for owned.
    pub waiting: u64,
    /// Ports of mappings, with those static ones that lie outside of the configured range.
    pub owned: u64,
}

/// The memory of a [`Ports`]: zeros, or what an earlier one of the same pool and range left.
#[derive(Debug)]
pub struct PortsMemory<'m> {
    /// The dense arrays, bank after bank.
    pub entries: &'m mut [u32],
    /// Which ports are taken, bank after bank.
    pub taken: &'m mut [TakenPorts],
    /// The banks' states, by protocol, then by pool address.
    pub banks: &'m mut [BankState],
}

/// How many elements each slice of a [`PortsMemory`] has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortsSizes {
    /// Of `entries`.
    pub entries: usize,
    /// Of `taken`.
    pub taken: usize,
    /// Of `banks`.
    pub banks: usize,
}

impl PortsSizes {
    /// Bytes over all.
    pub const fn bytes(&self) -> usize {
        self.entries * size_of::<u32>()
            + self.taken * size_of::<TakenPorts>()
            + self.banks * size_of::<BankState>()
    }
}

/// The public address and port allocator of a shard.
pub struct Ports<'m> {
    pool: Pool,
    /// The ports that may be given out, by protocol and class: those of the first part, then those
    /// of the second.
    ranges: [[PortRange; CLASSES]; Protocol::COUNT],
    /// The first class of the own part.
    own_class: usize,
    /// Whether the other part is given out as well, where the own one has nothing left.
    is_alone: bool,
    memory: PortsMemory<'m>,
    /// The bank that `tick` looks at next: index of the protocol, and of the address.
    next_bank: (usize, u32),
    /// The bank that `settle` looks at next.
    next_settled: usize,
}

impl<'m> Ports<'m> {
    /// The memory that a pool of so many addresses needs: 0.8 MiB for each.
    pub const fn memory(addresses: usize) -> PortsSizes {
        let banks = addresses * Protocol::COUNT;
        PortsSizes { entries: banks * PORTS, taken: banks, banks }
    }

    /// The allocator of this pool. UDP and TCP ports are given out from `range`, but never port
    /// 0; ICMP identifiers are all 65,536. Only those of `part` are, until [`Ports::set_alone`].
    ///
    /// # Panics
    /// If the pool or the range is empty, or `memory` is not of the size that [`Ports::memory`]
    /// asks for.
    pub fn new(
        pool: Pool,
        range: RangeInclusive<u16>,
        part: Part,
        memory: PortsMemory<'m>,
    ) -> Self {
        let sizes = Self::memory(pool.len());
        assert!(sizes.banks > 0, "a pool has an address");
        assert_eq!(memory.entries.len(), sizes.entries, "the dense arrays fit the pool");
        assert_eq!(memory.taken.len(), sizes.taken, "a bit for each port fits the pool");
        assert_eq!(memory.banks.len(), sizes.banks, "the banks fit the pool");
        let ranges = Protocol::ALL.map(|protocol| class_ranges(protocol, &range, part));
        let own_class = if part.is_first { 0 } else { KINDS };
        let is_empty = |classes: &[PortRange; CLASSES]| {
            classes[own_class..][..KINDS].iter().all(|range| range.is_empty())
        };
        assert!(
            !ranges.iter().any(is_empty),
            "the range of ports {range:?} has a port of {part:?}"
        );
        let (is_alone, next_bank, next_settled) = (false, (0, 0), 0);
        Ports { pool, ranges, own_class, is_alone, memory, next_bank, next_settled }
    }

    /// Whether the other part is given out as well from now on: only while its owner certainly
    /// gives out none, and no mapping of its is unknown here.
    pub fn set_alone(&mut self, is_alone: bool) {
        self.is_alone = is_alone;
    }

    /// Becomes what `other` is, of the same pool and range.
    ///
    /// # Panics
    /// If its pool is of another size.
    pub fn copy_from(&mut self, other: &Ports<'_>) {
        self.memory.entries.copy_from_slice(other.memory.entries);
        self.memory.taken.as_mut_bytes().copy_from_slice(other.memory.taken.as_bytes());
        self.memory.banks.copy_from_slice(other.memory.banks);
        (self.next_bank, self.next_settled) = (other.next_bank, other.next_settled);
        self.is_alone = other.is_alone;
    }

    /// Adds which ports are taken, by whom, and which are given next.
    pub fn add_to(&self, digest: &mut Digest) {
        let banks = self.memory.entries.chunks(PORTS).zip(self.memory.taken.iter());
        for (bank, (entries, taken)) in banks.enumerate() {
            digest.add(bank as u64);
            for port in taken.iter() {
                digest.add(u64::from(port) << 32 | u64::from(entries[usize::from(port)]));
            }
        }
        digest.add_all(self.memory.banks);
        digest.add((self.next_bank.0 as u64) << 32 | u64::from(self.next_bank.1));
    }

    /// Adds the addresses, and how their ports are shared out.
    pub fn add_settings_to(&self, digest: &mut Digest) {
        self.pool.addresses().for_each(|block| digest.add(block));
        for range in self.ranges.iter().flatten() {
            let (first, last) = range.bounds().unwrap_or_default();
            digest.add(u64::from(first) << 32 | u64::from(last));
        }
    }

    /// The addresses.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Where the entry of a public endpoint lies in [`Ports::entries`]; `None` if the address is
    /// none of the pool's.
    #[inline]
    pub fn slot(&self, protocol: Protocol, endpoint: Endpoint) -> Option<usize> {
        let address = self.pool.index(endpoint.addr)?;
        Some(self.bank(protocol, address) * PORTS + usize::from(endpoint.port))
    }

    /// Asks the memory for the entry behind a slot.
    #[inline]
    pub fn prefetch(&self, slot: usize) {
        prefetch(self.memory.entries, slot);
    }

    /// Asks the memory for what [`Ports::release`] of the port behind a slot will need.
    #[inline]
    pub fn prefetch_release(&self, slot: usize) {
        prefetch(self.memory.entries, slot);
        self.memory.taken[slot / PORTS].prefetch((slot % PORTS) as u16);
    }

    /// What the endpoint behind a slot is. Touches one cache line.
    #[inline]
    pub fn at(&self, slot: usize) -> Lookup {
        bank::meaning(self.memory.entries[slot])
    }

    /// What a public endpoint is. Touches one cache line.
    #[inline]
    pub fn lookup(&self, protocol: Protocol, endpoint: Endpoint) -> Lookup {
        self.slot(protocol, endpoint).map_or(Lookup::NotPool, |slot| self.at(slot))
    }

    /// The pool address, by index, that a new subscriber shall get: of two drawn at random the
    /// one with more free ports of this protocol. It may have none even so, while others do.
    ///
    /// The better of two random choices leaves the fullest address about log log n above the mean
    /// (Azar, Broder, Karlin, Upfal: Balanced Allocations, 1994), at the cost of two looks.
    pub fn choose_address(&self, protocol: Protocol, random: u64) -> u32 {
        let draw = |random: u32| ((u64::from(random) * self.pool.len() as u64) >> 32) as u32;
        let (one, other) = (draw(random as u32), draw((random >> 32) as u32));
        if self.free(protocol, one) >= self.free(protocol, other) { one } else { other }
    }

    /// How many ports of this protocol the pool address with this index could give out now.
    ///
    /// # Panics
    /// If the pool has no such address; so does everything that takes an index.
    pub fn free(&self, protocol: Protocol, address: u32) -> u32 {
        let state = &self.memory.banks[self.bank(protocol, address)];
        let free = |part: usize| {
            let of = |class: usize| {
                self.ranges[protocol as usize][class].len() - state.classes[class].taken
            };
            of(part + SYSTEM) + of(part + USER)
        };
        free(self.own_class) + if self.is_alone { free(self.own_class ^ KINDS) } else { 0 }
    }

    /// Gives a random free port of the pool address with this index to `mapping`; `None` if there is
    /// none. While many are free, any has the same chance if `random` numbers have; see
    /// [`TakenPorts`].
    ///
    /// Where the range reaches below 1024, an inside port below 1024 gets one below 1024 and any
    /// other one that is not (RFC 4787, REQ-3a); such a class does not fall back on the other.
    /// `random` must be unguessable (RFC 6888, REQ-15). It is asked for ports to come, and the first
    /// time for this one as well.
    ///
    /// # Panics
    /// If `mapping` is [`MAPPINGS_MAX`] or more.
    pub fn allocate(
        &mut self,
        protocol: Protocol,
        address: u32,
        inside_port: u16,
        mapping: u32,
        mut random: impl FnMut() -> u32,
        now: Ticks,
    ) -> Option<Endpoint> {
        let (bank, kind) = (self.bank(protocol, address), self.class_wanted(protocol, inside_port));
        let mut class = self.class(protocol, bank, kind);
        class.free_due(now, FREED_BY_ALLOCATION);
        let port = match class.allocate(mapping, &mut random) {
            Some(port) => port,
            None if self.is_alone => {
                let mut others = self.class(protocol, bank, kind ^ KINDS);
                others.allocate_of_others(mapping, &mut random, now)?
            }
            None => return None,
        };
        Some(Endpoint::new(self.pool.address(address), port))
    }

    /// Asks the memory for what [`Ports::allocate`] will need. A hint: something else may be
    /// allocated before.
    #[inline]
    pub fn prefetch_allocation(&self, protocol: Protocol, address: u32, inside_port: u16) {
        let bank = self.bank(protocol, address);
        let class = self.class_wanted(protocol, inside_port);
        let range = self.ranges[protocol as usize][class];
        let ports = self.memory.banks[bank].classes[class].next_ports(range);
        prefetch(self.memory.entries, bank * PORTS + usize::from(ports[0]));
        ports.iter().for_each(|port| self.memory.taken[bank].prefetch(*port));
    }

    /// Takes an owned port from its mapping. It is held for `hold`, and then free; at once if
    /// `hold` is 0, or if it is a static one outside of the range.
    ///
    /// A hold is over no sooner than it says, at most 0.5 s late, and not before those of the
    /// ports released earlier.
    ///
    /// # Panics
    /// If no mapping owns the endpoint, or `hold` exceeds [`HOLD_MAX`].
    #[inline]
    pub fn release(&mut self, protocol: Protocol, endpoint: Endpoint, now: Ticks, hold: Span) {
        let slot = self.owned_slot(protocol, endpoint);
        let bank = slot / PORTS;
        match self.class_holding(protocol, endpoint.port) {
            None => self.release_outside(slot),
            Some(class) if hold == Span(0) => {
                self.class(protocol, bank, class).free(endpoint.port);
            }
            Some(class) => self.class(protocol, bank, class).hold(endpoint.port, now, hold),
        }
    }

    /// Takes an owned port from its mapping, of which a twin was told: it waits until the twin
    /// knows all changes of this tick and before ([`Ports::settle`]), and is held from then on.
    /// `known` is the last tick of which it knows all.
    ///
    /// # Panics
    /// If no mapping owns the endpoint.
    #[inline(never)]
    pub fn release_told(
        &mut self,
        protocol: Protocol,
        endpoint: Endpoint,
        now: Ticks,
        known: Ticks,
        hold: Span,
    ) {
        let slot = self.owned_slot(protocol, endpoint);
        let Some(class) = self.class_holding(protocol, endpoint.port) else {
            // Nobody is given that one anyway.
            return self.release_outside(slot);
        };
        let mut class = self.class(protocol, slot / PORTS, class);
        class.settle(known, now, hold, SETTLED_BY_RELEASE);
        class.wait(endpoint.port, now);
    }

    /// Lets ports go that waited for a twin, which now knows all changes up to and in the tick
    /// `known`: they are held for `hold` from now on. Looks at a bounded number of ports and banks,
    /// going round.
    pub fn settle(&mut self, known: Ticks, now: Ticks, hold: Span) {
        let mut budget = FREED_BY_TICK;
        for _ in 0..VISITED_BY_TICK.min(self.memory.banks.len()) {
            let bank = self.next_settled;
            let protocol = Protocol::ALL[bank / self.pool.len()];
            for class in 0..CLASSES {
                budget -= self.class(protocol, bank, class).settle(known, now, hold, budget);
            }
            if budget == 0 {
                return;
            }
            self.next_settled = (bank + 1) % self.memory.banks.len();
        }
    }

    /// Frees a port that is in no class.
    fn release_outside(&mut self, slot: usize) {
        let bank = slot / PORTS;
        self.memory.entries[slot] = 0;
        self.memory.taken[bank].remove((slot % PORTS) as u16);
        self.memory.banks[bank].owned_outside -= 1;
    }

    /// The slot of an endpoint that a mapping owns.
    #[inline(always)]
    fn owned_slot(&self, protocol: Protocol, endpoint: Endpoint) -> usize {
        let owned =
            self.slot(protocol, endpoint).filter(|s| matches!(self.at(*s), Lookup::Owned(_)));
        owned.unwrap_or_else(|| panic!("no mapping owns {protocol} {endpoint}"))
    }

    /// Gives this very endpoint to a (static) `mapping` whatever it was, and says what that was:
    /// static mappings win over dynamic ones, so the caller is to end the mapping that owned it.
    /// It may lie outside of the range. Nothing is done if it is none of the pool's.
    ///
    /// O(1) but for a held port, which is looked for in the queue of its bank: up to 65,535 steps.
    ///
    /// # Panics
    /// If `mapping` is [`MAPPINGS_MAX`] or more.
    pub fn reserve(&mut self, protocol: Protocol, endpoint: Endpoint, mapping: u32) -> Lookup {
        let Some(slot) = self.slot(protocol, endpoint) else { return Lookup::NotPool };
        let bank = slot / PORTS;
        let before = self.at(slot);
        match (before, self.class_holding(protocol, endpoint.port)) {
            (Lookup::Owned(_), _) => {}
            (_, None) => {
                self.memory.taken[bank].insert(endpoint.port);
                self.memory.banks[bank].owned_outside += 1;
            }
            (Lookup::Held, Some(class)) => {
                self.class(protocol, bank, class).take_held(endpoint.port);
            }
            (_, Some(class)) => self.class(protocol, bank, class).take_free(endpoint.port),
        }
        self.memory.entries[slot] = bank::owned_by(mapping);
        before
    }

    /// Frees some of the held ports that are due, in a bounded number of banks, going round.
    ///
    /// Allocation finds what is due by itself; this keeps counts honest where nothing happens.
    pub fn tick(&mut self, now: Ticks) {
        let mut budget = FREED_BY_TICK;
        for _ in 0..VISITED_BY_TICK.min(self.memory.banks.len()) {
            let (protocol, address) = self.next_bank;
            let bank = self.bank(Protocol::ALL[protocol], address);
            for class in 0..CLASSES {
                budget -= self.class(Protocol::ALL[protocol], bank, class).free_due(now, budget);
            }
            if budget == 0 {
                return;
            }
            self.next_bank = match address as usize + 1 == self.pool.len() {
                false => (protocol, address + 1),
                true if protocol + 1 == Protocol::COUNT => (0, 0),
                true => (protocol + 1, 0),
            };
        }
    }

    /// How many ports of a protocol are what, over the whole pool. Looks at every address.
    pub fn counts(&self, protocol: Protocol) -> Counts {
        let mut counts = Counts::default();
        let banks = &self.memory.banks[self.bank(protocol, 0)..][..self.pool.len()];
        for bank in banks {
            counts.owned += u64::from(bank.owned_outside);
            for (class, range) in bank.classes.iter().zip(&self.ranges[protocol as usize]) {
                counts.free += u64::from(range.len() - class.taken);
                counts.held += u64::from(class.held.len);
                counts.owned += u64::from(class.taken - class.held.len);
            }
            let waiting = bank.waiting.iter().map(|queue| u64::from(queue.len)).sum::<u64>();
            counts.waiting += waiting;
            counts.owned -= waiting;
        }
        counts
    }

    /// The index of a bank.
    #[inline]
    fn bank(&self, protocol: Protocol, address: u32) -> usize {
        let address = address as usize;
        assert!(address < self.pool.len(), "the pool has no address {address}");
        protocol as usize * self.pool.len() + address
    }

    /// The class that an inside port is to be mapped to: its own, if the part has both.
    fn class_wanted(&self, protocol: Protocol, inside_port: u16) -> usize {
        let part = self.own_class;
        let ranges = &self.ranges[protocol as usize];
        let own = if inside_port < FIRST_USER_PORT { SYSTEM } else { USER };
        let kind = match (ranges[part + SYSTEM].is_empty(), ranges[part + USER].is_empty()) {
            (true, _) => USER,
            (_, true) => SYSTEM,
            _ => own,
        };
        part + kind
    }

    /// The class that gives out a port; `None` if it lies outside of the range.
    #[inline]
    fn class_holding(&self, protocol: Protocol, port: u16) -> Option<usize> {
        let ranges = &self.ranges[protocol as usize];
        // That of most ports first.
        let usual = self.own_class + USER;
        if ranges[usual].contains(port) {
            return Some(usual);
        }
        ranges.iter().position(|range| range.contains(port))
    }

    /// One class of ports of one bank.
    fn class(&mut self, protocol: Protocol, bank: usize, class: usize) -> Class<'_> {
        let state = &mut self.memory.banks[bank];
        Class {
            entries: &mut self.memory.entries.as_chunks_mut().0[bank],
            taken: &mut self.memory.taken[bank],
            state: &mut state.classes[class],
            waiting: &mut state.waiting[class],
            range: self.ranges[protocol as usize][class],
        }
    }
}

/// The ports of each class that a protocol may be given, out of the configured ones.
fn class_ranges(
    protocol: Protocol,
    range: &RangeInclusive<u16>,
    part: Part,
) -> [PortRange; CLASSES] {
    let [system, user] = match protocol {
        Protocol::Icmp => [PortRange::EMPTY, PortRange::between(0, u16::MAX)],
        Protocol::Udp | Protocol::Tcp => {
            let (first, last) = (*range.start(), *range.end());
            [
                PortRange::between(first.max(1), last.min(FIRST_USER_PORT - 1)),
                PortRange::between(first.max(FIRST_USER_PORT), last),
            ]
        }
    };
    let ([system, others_system], [user, others_user]) =
        (system.split(part.first_percent), user.split(part.first_percent));
    [system, user, others_system, others_user]
}
