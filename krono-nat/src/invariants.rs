//! What must hold between packets, for tests.

use std::collections::HashMap;

use krono_core::packet::Protocol;
use krono_core::ports::Lookup;

use crate::entry::{EntryKind, Flags, Key};
use crate::nat::Nat;

impl Nat<'_> {
    /// Looks at the whole state and finds everything in its place: every entry in the flow table,
    /// every mapping the owner of its public port and of nobody else's, every count right.
    ///
    /// # Panics
    /// If not.
    pub fn assert_consistent(&self) {
        let mut sessions = 0;
        let mut sessions_of = HashMap::<u32, u32>::new();
        let mut permitted = HashMap::<u32, u32>::new();
        let mut mappings_of = HashMap::<(u32, Protocol), u16>::new();
        let mut mappings = [0; Protocol::COUNT];
        let (mut live, mut untranslated) = (0, 0);
        for index in 0..self.free.high_water() {
            let entry = &self.entries[index as usize];
            if entry.kind() == EntryKind::Free {
                continue;
            }
            live += 1;
            assert_eq!(self.find(entry.key()), Some(index), "{entry:?} is in the flow table");
            sessions += u64::from(entry.flags.has(Flags::SESSION));
            let (protocol, translation) = (entry.protocol(), entry.translation);
            if entry.flags.has(Flags::PERMIT) {
                let key = Key::permit(protocol, translation.inside(), entry.remote());
                *permitted.entry(self.find(key).expect("a permit")).or_default() += 1;
            }
            match entry.kind() {
                EntryKind::Mapping => {
                    assert!(!entry.is_idle(), "{entry:?} should have ended");
                    let owner = self.ports.lookup(protocol, translation.outside());
                    assert_eq!(owner, Lookup::Owned(index), "{entry:?} owns its port");
                    mappings[protocol as usize] += 1;
                    *mappings_of.entry((entry.subscriber, protocol)).or_default() += 1;
                }
                EntryKind::Session => {
                    let mapping = &self.entries[entry.owner as usize];
                    assert_eq!(mapping.kind(), EntryKind::Mapping);
                    assert_eq!(mapping.translation, translation);
                    *sessions_of.entry(entry.owner).or_default() += 1;
                }
                EntryKind::Bypass => untranslated += 1,
                EntryKind::Permit | EntryKind::Free => {}
            }
        }
        assert_eq!(live, self.free.len());
        assert_eq!(self.untranslated, untranslated);
        assert_eq!(self.further, sessions_of.values().sum());
        assert_eq!(self.table.len(), self.free.len() as usize);
        assert_eq!(self.counts.sessions, sessions);
        assert_eq!(self.counts.mappings, mappings.iter().sum::<u64>());
        for protocol in Protocol::ALL {
            let owned = self.ports.counts(protocol).owned;
            assert_eq!(owned, mappings[protocol as usize], "{protocol} ports without owner");
        }
        for index in 0..self.free.high_water() {
            let entry = &self.entries[index as usize];
            let users = match entry.kind() {
                EntryKind::Mapping => sessions_of.get(&index),
                EntryKind::Permit => permitted.get(&index),
                _ => continue,
            };
            assert_eq!(entry.users, users.copied().unwrap_or(0), "{entry:?}");
        }
        let subscribers = mappings_of.keys().map(|(subscriber, _)| subscriber);
        let subscribers: std::collections::HashSet<_> = subscribers.collect();
        assert_eq!(self.subscribers.len() as usize, subscribers.len());
        for ((subscriber, protocol), count) in mappings_of {
            assert_eq!(self.subscribers.mappings(subscriber, protocol), count);
        }
    }
}
