//! Who has mappings: the public address of each subscriber and how much it uses.

use std::net::Ipv4Addr;

use krono_core::drop::DropReason;
use krono_core::freelist::FreeList;
use krono_core::hash::HashKey;
use krono_core::packet::Protocol;
use krono_core::replicable::Digest;
use krono_core::table::{self, FlowTable};
use krono_core::time::Ticks;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A subscriber with at least one mapping: 32 bytes, so that one lies in a single cache line.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(32))]
pub(crate) struct Subscriber {
    /// Inside address, host order. In a free record: the next free one.
    addr: u32,
    /// When it was last told that it gets no more ports.
    told: Ticks,
    /// Its public address, as an index into the pool: one for all its mappings and protocols
    /// (paired pooling, RFC 4787, REQ-2; RFC 6888, REQ-2).
    pool_index: u32,
    /// Mappings by protocol.
    mappings: [u16; Protocol::COUNT],
    was_told: u8,
    reserved: [u8; 13],
}

/// How often a subscriber is told of exhaustion at most, ticks.
const TOLD_INTERVAL: u32 = krono_core::time::TICKS_PER_SECOND;

/// So many subscribers are told in a tick, when sessions are full: more than the router lets
/// through of the errors that this makes ([`krono_core::router`]).
const TOLD_PER_TICK: u32 = 64;

/// How many subscribers were told of exhaustion lately.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    tick: Ticks,
    count: u32,
}

impl Told {
    /// Whether nobody else need be told now.
    pub(crate) fn is_enough(&self, now: Ticks) -> bool {
        self.tick == now && self.count >= TOLD_PER_TICK
    }

    pub(crate) fn add_to(&self, digest: &mut Digest) {
        digest.add(u64::from(self.tick.0) << 32 | u64::from(self.count));
    }

    /// One is told.
    pub(crate) fn note(&mut self, now: Ticks) {
        self.count = if self.tick == now { self.count + 1 } else { 1 };
        self.tick = now;
    }
}

/// The subscribers of a shard, found by their address.
pub(crate) struct Subscribers<'m> {
    records: &'m mut [Subscriber],
    table: FlowTable<'m>,
    free: FreeList,
    hash: HashKey,
}

impl<'m> Subscribers<'m> {
    pub(crate) fn new(
        records: &'m mut [Subscriber],
        table: FlowTable<'m>,
        hash: HashKey,
    ) -> Subscribers<'m> {
        let free = FreeList::new(records.len() as u32);
        Subscribers { records, table, free, hash }
    }

    /// Becomes what `other` is.
    pub(crate) fn copy_from(&mut self, other: &Subscribers<'_>) {
        self.records.copy_from_slice(other.records);
        self.table.copy_from(&other.table);
        self.free.clone_from(&other.free);
    }

    pub(crate) fn add_to(&self, digest: &mut Digest) {
        digest.add_all(&self.records[..self.free.high_water() as usize]);
        self.table.add_to(digest);
        self.free.add_to(digest);
    }

    pub(crate) fn len(&self) -> u32 {
        self.free.len()
    }

    /// The subscriber at `addr`, sooner if `hint` is its record. A record in use has mappings.
    pub(crate) fn find_hinted(&self, addr: Ipv4Addr, hint: u32) -> Option<u32> {
        let is_it = self.records.get(hint as usize).is_some_and(|record| {
            record.addr == addr.to_bits() && record.mappings != [0; Protocol::COUNT]
        });
        if is_it { Some(hint) } else { self.find(addr) }
    }

    /// The subscriber at `addr`.
    pub(crate) fn find(&self, addr: Ipv4Addr) -> Option<u32> {
        self.table
            .find(self.hash_of(addr), |index| self.records[index as usize].addr == addr.to_bits())
    }

    /// Asks the memory for where the subscriber at `addr` is found.
    #[inline]
    pub(crate) fn probe(&self, addr: Ipv4Addr) {
        self.table.probe(self.hash_of(addr));
    }

    /// The record that is most likely that of the subscriber at `addr`, if it has one, and asks the
    /// memory for it.
    #[inline]
    pub(crate) fn touch(&self, addr: Ipv4Addr) -> Option<u32> {
        let record = self.table.find(self.hash_of(addr), |_| true)?;
        table::prefetch(self.records, record as usize);
        Some(record)
    }

    /// Asks the memory for this subscriber.
    #[inline]
    pub(crate) fn prefetch(&self, index: u32) {
        table::prefetch(self.records, index as usize);
    }

    /// A new subscriber whose mappings will be at `pool_index`.
    pub(crate) fn add(&mut self, addr: Ipv4Addr, pool_index: u32) -> Result<u32, DropReason> {
        let records = &*self.records;
        let index = self.free.take(|index| records[index as usize].addr);
        let index = index.ok_or(DropReason::SubscribersFull)?;
        if self.table.insert(self.hash_of(addr), index).is_err() {
            self.give(index);
            return Err(DropReason::SubscribersFull);
        }
        self.records[index as usize] =
            Subscriber { addr: addr.to_bits(), pool_index, ..Subscriber::default() };
        Ok(index)
    }

    pub(crate) fn pool_index(&self, index: u32) -> u32 {
        self.records[index as usize].pool_index
    }

    pub(crate) fn mappings(&self, index: u32, protocol: Protocol) -> u16 {
        self.records[index as usize].mappings[protocol as usize]
    }

    /// Counts one mapping more.
    pub(crate) fn acquire(&mut self, index: u32, protocol: Protocol) {
        self.records[index as usize].mappings[protocol as usize] += 1;
    }

    /// Counts one mapping less, and forgets a subscriber that has none left.
    pub(crate) fn release(&mut self, index: u32, protocol: Protocol) {
        self.records[index as usize].mappings[protocol as usize] -= 1;
        self.forget_if_unused(index);
    }

    /// Forgets a subscriber that has no mapping.
    pub(crate) fn forget_if_unused(&mut self, index: u32) {
        let subscriber = self.records[index as usize];
        if subscriber.mappings == [0; Protocol::COUNT] {
            let removed = self.table.remove(self.hash_of(subscriber.addr.into()), index);
            assert!(removed, "a subscriber is in its table");
            self.give(index);
        }
    }

    /// Whether to tell the subscriber now that it gets no more ports: once a second at most.
    pub(crate) fn may_tell(&mut self, index: u32, now: Ticks) -> bool {
        let subscriber = &mut self.records[index as usize];
        let due = subscriber.was_told == 0 || now.since(subscriber.told) >= TOLD_INTERVAL;
        if due {
            (subscriber.was_told, subscriber.told) = (1, now);
        }
        due
    }

    fn give(&mut self, index: u32) {
        let record = &mut self.records[index as usize];
        self.free.give(index, |next| *record = Subscriber { addr: next, ..Subscriber::default() });
    }

    fn hash_of(&self, addr: Ipv4Addr) -> u64 {
        self.hash.hash(u64::from(addr.to_bits()), 0)
    }
}
