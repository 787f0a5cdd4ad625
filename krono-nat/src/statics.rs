//! Mappings that always exist, and the change of policy on a running shard.

use krono_core::drop::DropReason;
use krono_core::ports::Lookup;
use krono_core::program::{Events, Translation};
use krono_core::time::Ticks;

use crate::config::{Policy, StaticMapping};
use crate::entry::{Entry, EntryKind, Flags};
use crate::events::{Change, Event};
use crate::nat::Nat;

impl Nat<'_> {
    /// Takes a new policy, and leaves the old one in its place for the caller to drop elsewhere.
    /// Sessions that are open stay open, whatever the new policy says of new ones, but where a new
    /// static mapping wants their port or inside endpoint. Looks at every record if so.
    ///
    /// # Errors
    /// The reason why a static mapping could not be made; the others are.
    pub fn swap_policy(
        &mut self,
        policy: &mut Policy,
        now: Ticks,
        events: &mut impl Events<Event>,
    ) -> Result<(), DropReason> {
        std::mem::swap(&mut self.policy, policy);
        if self.policy.filtering != policy.filtering {
            self.forget_what_was_sent();
        }
        // What exists is asked, not what was wanted before: that may have found no room.
        for old in &policy.statics {
            if !self.policy.statics.contains(old)
                && let Some(mapping) = self.static_mapping(old)
            {
                self.remove_static(mapping, now, events);
            }
        }
        let mut outcome = Ok(());
        for index in 0..self.policy.statics.len() {
            let wanted = self.policy.statics[index];
            if self.static_mapping(&wanted).is_none() {
                outcome = outcome.and(self.add_static(wanted, now, events));
            }
        }
        outcome
    }

    /// Has the next packet from inside in each session grant what the filtering of now asks for.
    fn forget_what_was_sent(&mut self) {
        for entry in &mut self.entries[..self.free.high_water() as usize] {
            if !entry.flags.has(Flags::PERMIT) {
                entry.flags.remove(Flags::SENT);
            }
        }
    }

    /// The static mapping between exactly these endpoints, if there is one.
    fn static_mapping(&self, wanted: &StaticMapping) -> Option<u32> {
        let mapping = self.mapping_of(wanted.protocol, wanted.inside)?;
        let entry = &self.entries[mapping as usize];
        let is_it = entry.flags.has(Flags::STATIC) && entry.translation.outside() == wanted.outside;
        is_it.then_some(mapping)
    }

    /// Makes a static mapping. It wins over dynamic ones: whoever has its port or its inside
    /// endpoint loses them. One that is there already, as left by an earlier policy, stays.
    fn add_static(
        &mut self,
        wanted: StaticMapping,
        now: Ticks,
        events: &mut impl Events<Event>,
    ) -> Result<(), DropReason> {
        let StaticMapping { protocol, inside, outside } = wanted;
        if let Some(dynamic) = self.mapping_of(protocol, inside) {
            let entry = &mut self.entries[dynamic as usize];
            if entry.translation.outside() == outside {
                entry.flags.insert(Flags::STATIC);
                return Ok(());
            }
            self.end_mapping(dynamic, now, events);
        }
        if let Lookup::Owned(dynamic) = self.ports.lookup(protocol, outside) {
            self.end_mapping(dynamic, now, events);
        }
        let address = self.ports.pool().index(outside.addr).ok_or(DropReason::NotOurs)?;
        let subscriber = match self.subscribers.find(inside.addr) {
            Some(subscriber) => subscriber,
            None => self.subscribers.add(inside.addr, address)?,
        };
        if self.subscribers.mappings(subscriber, protocol) == u16::MAX {
            return Err(DropReason::SubscriberPorts);
        }
        let mut entry = Entry::mapping(protocol, Translation::new(inside, outside), subscriber);
        entry.flags.insert(Flags::STATIC);
        entry.asked_until = now;
        let Ok(mapping) = self.create(entry) else {
            self.subscribers.forget_if_unused(subscriber);
            return Err(DropReason::SessionsFull);
        };
        let reserved = self.ports.reserve(protocol, outside, mapping);
        assert!(!matches!(reserved, Lookup::Owned(_)), "its owner was ended just now");
        self.subscribers.acquire(subscriber, protocol);
        self.counts.mappings += 1;
        self.emit(Change::MappingCreated, mapping, events);
        Ok(())
    }

    /// Lets a static mapping go: as a dynamic one it ends with its last session.
    fn remove_static(&mut self, mapping: u32, now: Ticks, events: &mut impl Events<Event>) {
        self.entries[mapping as usize].flags.remove(Flags::STATIC);
        self.end_if_idle(mapping, now, events);
    }

    /// Ends a mapping with all its sessions. They are not chained, so every record is looked at:
    /// this happens on a reload only.
    fn end_mapping(&mut self, mapping: u32, now: Ticks, events: &mut impl Events<Event>) {
        self.entries[mapping as usize].flags.remove(Flags::STATIC);
        for index in 0..self.free.high_water() {
            let entry = &self.entries[index as usize];
            if entry.kind() == EntryKind::Session && entry.owner == mapping {
                self.end_session(index, now, events);
            }
        }
        let entry = &self.entries[mapping as usize];
        if entry.kind() == EntryKind::Mapping && entry.flags.has(Flags::SESSION) {
            self.end_session(mapping, now, events);
        }
    }
}
