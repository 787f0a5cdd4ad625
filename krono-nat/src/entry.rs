//! What the translator remembers: one cache line for each mapping, session or permit.

use krono_core::packet::{Endpoint, Protocol, TcpMeta};
use krono_core::program::Translation;
use krono_core::time::Ticks;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::record::Record;
use crate::tcp::Connection;

/// What an [`Entry`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum EntryKind {
    /// Nothing; `owner` is the next free entry.
    Free = 0,
    /// An inside endpoint and its public one, with its first session inside the record.
    Mapping = 1,
    /// A further session of the mapping `owner`.
    Session = 2,
    /// A session that is passed without translation.
    Bypass = 3,
    /// Under address-dependent filtering: the mapping of this inside endpoint has sent to this
    /// remote address, in `users` sessions.
    Permit = 4,
}

/// A mapping, a session or a permit: 64 bytes, all zero when free.
///
/// Most mappings have one session, so that one lives in the mapping's own record and costs no
/// line of its own; every field from `remote_addr` to `flags` is that session's.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub(crate) struct Entry {
    /// Both endpoints; sessions have a copy of their mapping's, so that a packet needs one line.
    pub(crate) translation: Translation,
    remote_addr: [u8; 4],
    remote_port: u16,
    kind: u8,
    protocol: u8,
    /// When the session ends unless a packet from inside comes.
    pub(crate) deadline: Ticks,
    /// TCP only.
    pub(crate) connection: Connection,
    /// A session's mapping; a free entry's successor.
    pub(crate) owner: u32,
    /// A mapping's further sessions; a permit's sessions.
    pub(crate) users: u32,
    /// A mapping's subscriber.
    pub(crate) subscriber: u32,
    /// A mapping's latest deadline that a packet from inside has set.
    pub(crate) asked_until: Ticks,
    pub(crate) flags: Flags,
    reserved: [u8; 3],
}

const _: () = assert!(size_of::<Entry>() == 64);

/// Facts about an entry.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub(crate) struct Flags(u8);

impl Flags {
    /// The record holds a session (in a mapping: its own first one).
    pub(crate) const SESSION: Flags = Flags(0x01);
    /// The inside has sent in this session.
    pub(crate) const SENT: Flags = Flags(0x02);
    /// The session counts in a permit.
    pub(crate) const PERMIT: Flags = Flags(0x04);
    /// The remote end is a public endpoint of this shard.
    pub(crate) const HAIRPIN: Flags = Flags(0x08);
    /// A static mapping.
    pub(crate) const STATIC: Flags = Flags(0x10);
    /// A mapping that a twin may know.
    pub(crate) const TOLD: Flags = Flags(0x20);

    /// What a mapping keeps when its own session ends.
    const OF_MAPPING: Flags = Flags(Flags::STATIC.0 | Flags::TOLD.0);

    #[inline]
    pub(crate) const fn has(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }

    /// A session in which the inside has sent before, and not to another subscriber.
    #[inline]
    pub(crate) const fn is_usual(self) -> bool {
        self.0 & (Flags::SENT.0 | Flags::HAIRPIN.0) == Flags::SENT.0
    }

    pub(crate) fn insert(&mut self, other: Flags) {
        self.0 |= other.0;
    }

    pub(crate) fn remove(&mut self, other: Flags) {
        self.0 &= !other.0;
    }
}

impl Entry {
    /// Nothing, with the index of the next free entry.
    pub(crate) fn free(next: u32) -> Entry {
        Entry { owner: next, ..Entry::default() }
    }

    /// A mapping that has no session yet.
    pub(crate) fn mapping(protocol: Protocol, translation: Translation, subscriber: u32) -> Entry {
        Entry { subscriber, ..Entry::new(EntryKind::Mapping, protocol, translation) }
    }

    /// A further session of the mapping at `owner`.
    pub(crate) fn session(protocol: Protocol, translation: Translation, owner: u32) -> Entry {
        Entry { owner, ..Entry::new(EntryKind::Session, protocol, translation) }
    }

    /// A session that passes untranslated.
    pub(crate) fn bypass(protocol: Protocol, inside: Endpoint) -> Entry {
        Entry::new(EntryKind::Bypass, protocol, Translation::new(inside, inside))
    }

    /// A permit for `remote`'s address to send to `inside`.
    pub(crate) fn permit(protocol: Protocol, inside: Endpoint, remote: Endpoint) -> Entry {
        let translation = Translation::new(inside, inside);
        Entry {
            remote_addr: remote.addr.octets(),
            ..Entry::new(EntryKind::Permit, protocol, translation)
        }
    }

    fn new(kind: EntryKind, protocol: Protocol, translation: Translation) -> Entry {
        Entry { kind: kind as u8, protocol: protocol as u8, translation, ..Entry::default() }
    }

    pub(crate) fn kind(&self) -> EntryKind {
        match self.kind {
            1 => EntryKind::Mapping,
            2 => EntryKind::Session,
            3 => EntryKind::Bypass,
            4 => EntryKind::Permit,
            _ => EntryKind::Free,
        }
    }

    pub(crate) fn protocol(&self) -> Protocol {
        Protocol::from_index(self.protocol).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn remote(&self) -> Endpoint {
        Endpoint::new(self.remote_addr.into(), self.remote_port)
    }

    /// Whether this is the mapping of `inside`.
    #[inline]
    pub(crate) fn maps(&self, protocol: Protocol, inside: Endpoint) -> bool {
        self.kind == EntryKind::Mapping as u8
            && self.protocol == protocol as u8
            && self.translation.inside() == inside
    }

    /// Whether the session in this record is one with `remote`.
    #[inline]
    pub(crate) fn talks_to(&self, remote: Endpoint) -> bool {
        self.flags.has(Flags::SESSION) && self.remote() == remote
    }

    /// Whether this packet to or from `remote` belongs to the session in this record and changes
    /// nothing in it but its time and a connection's numbers.
    #[inline(always)]
    pub(crate) fn goes_on_with(&self, remote: Endpoint, record: &Record) -> bool {
        self.talks_to(remote)
            && !self.is_over(record.now)
            && (record.protocol != Protocol::Tcp || self.connection.is_steady(&record.tcp))
    }

    /// Notes such a packet from inside in a mapping's own session.
    #[inline(always)]
    pub(crate) fn refresh(&mut self, deadline: Ticks, segment: &TcpMeta) {
        if self.protocol == Protocol::Tcp as u8 {
            self.connection.note_steady(segment);
        }
        self.deadline = deadline;
        if deadline.reached(self.asked_until) {
            self.asked_until = deadline;
        }
    }

    /// Whether the session in this record is over.
    #[inline]
    pub(crate) fn is_over(&self, now: Ticks) -> bool {
        now.reached(self.deadline)
    }

    /// Puts a session into this record.
    pub(crate) fn begin(&mut self, remote: Endpoint, deadline: Ticks, connection: Connection) {
        self.remote_addr = remote.addr.octets();
        self.remote_port = remote.port;
        self.deadline = deadline;
        self.connection = connection;
        self.flags.insert(Flags::SESSION);
    }

    /// Takes the session out of a mapping's record.
    pub(crate) fn end(&mut self) {
        self.remote_addr = [0; 4];
        self.remote_port = 0;
        self.connection = Connection::default();
        self.flags.0 &= Flags::OF_MAPPING.0;
    }

    /// The mapping of this session, if it is not one by itself; what else has it, itself.
    pub(crate) fn mapping_at(&self, index: u32) -> u32 {
        if self.kind() == EntryKind::Session { self.owner } else { index }
    }

    /// Whether a mapping has nothing left to live for.
    pub(crate) fn is_idle(&self) -> bool {
        self.users == 0 && !self.flags.has(Flags::SESSION) && !self.flags.has(Flags::STATIC)
    }

    /// The key under which the flow table finds this entry.
    pub(crate) fn key(&self) -> Key {
        let (protocol, inside) = (self.protocol(), self.translation.inside());
        match self.kind() {
            EntryKind::Mapping | EntryKind::Free => Key::mapping(protocol, inside),
            EntryKind::Session | EntryKind::Bypass => Key::session(protocol, inside, self.remote()),
            EntryKind::Permit => Key::permit(protocol, inside, self.remote()),
        }
    }
}

/// What the flow table hashes: 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key(pub(crate) u64, pub(crate) u64);

impl Key {
    const MAPPING: u8 = 1;
    const SESSION: u8 = 2;
    const PERMIT: u8 = 3;

    #[inline]
    pub(crate) fn mapping(protocol: Protocol, inside: Endpoint) -> Key {
        Key::of(Key::MAPPING, protocol, inside, Endpoint::default())
    }

    /// Sessions and untranslated ones: two endpoints have one of the two at a time.
    pub(crate) fn session(protocol: Protocol, inside: Endpoint, remote: Endpoint) -> Key {
        Key::of(Key::SESSION, protocol, inside, remote)
    }

    pub(crate) fn permit(protocol: Protocol, inside: Endpoint, remote: Endpoint) -> Key {
        Key::of(Key::PERMIT, protocol, inside, Endpoint::new(remote.addr, 0))
    }

    #[inline]
    fn of(class: u8, protocol: Protocol, inside: Endpoint, remote: Endpoint) -> Key {
        Key(
            u64::from(inside.addr.to_bits()) << 32 | u64::from(remote.addr.to_bits()),
            u64::from(inside.port) << 32
                | u64::from(remote.port) << 16
                | u64::from(protocol as u8) << 8
                | u64::from(class),
        )
    }
}
