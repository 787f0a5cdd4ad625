//! The translator as one of two: what a twin is told of its sessions, and what it takes from one.
//!
//! A record tells of a session. Mappings need none: a dynamic one lives as long as its sessions, of
//! which each names it, and static ones are settings.

use krono_core::packet::{Endpoint, Protocol};
use krono_core::ports::Lookup;
use krono_core::program::{Events, Translation};
use krono_core::replicable::Digest;
use krono_core::time::{Span, Ticks};
use krono_core::twin::{self, Life, Standing, Taken, Twin};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::entry::{Entry, EntryKind, Flags, Key};
use crate::events::{Change, Event};
use crate::nat::{Nat, steady_timeout, timeout};
use crate::tcp::{Connection, State};

/// A session as it travels: 32 bytes, little-endian, without gaps.
///
/// | bytes | field |
/// |---|---|
/// | 0–11 | inside, outside and remote address |
/// | 12–17 | inside, outside and remote port |
/// | 18 | protocol: 0 UDP, 1 TCP, 2 ICMP |
/// | 19 | TCP state, 0 of other transports |
/// | 20 | bit 0 it lives, 1 it is not translated, 2 the inside has sent |
/// | 21 | 0 |
/// | 22–23 | window scales of inside and outside, one more than in the option, 0 if there was none |
/// | 24–27 | time left, ticks of 100 ms |
/// | 28–31 | the TCP sequence number behind all that the inside had sent |
#[derive(
    Clone, Copy, Debug, Default, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct SessionRecord {
    inside_addr: [u8; 4],
    outside_addr: [u8; 4],
    remote_addr: [u8; 4],
    inside_port: U16,
    outside_port: U16,
    remote_port: U16,
    protocol: u8,
    state: u8,
    marks: u8,
    zero: u8,
    scale: [u8; 2],
    left: U32,
    sent: U32,
}

const _: () =
    assert!(size_of::<SessionRecord>() == 32 && size_of::<SessionRecord>() <= twin::RECORD_MAX);

/// The version of that layout.
const LAYOUT: u64 = 1;

const LIVES: u8 = 0x01;
const UNTRANSLATED: u8 = 0x02;
const SENT: u8 = 0x04;

impl SessionRecord {
    /// The subscriber's endpoint.
    pub fn inside(&self) -> Endpoint {
        Endpoint::new(self.inside_addr.into(), self.inside_port.get())
    }

    /// The public endpoint; the inside one if the session is not translated.
    pub fn outside(&self) -> Endpoint {
        Endpoint::new(self.outside_addr.into(), self.outside_port.get())
    }

    /// The index of the protocol.
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// The remote endpoint.
    pub fn remote(&self) -> Endpoint {
        Endpoint::new(self.remote_addr.into(), self.remote_port.get())
    }

    fn has(&self, mark: u8) -> bool {
        self.marks & mark != 0
    }

    fn of(protocol: Protocol, inside: Endpoint, outside: Endpoint, remote: Endpoint) -> Self {
        SessionRecord {
            inside_addr: inside.addr.octets(),
            outside_addr: outside.addr.octets(),
            remote_addr: remote.addr.octets(),
            inside_port: inside.port.into(),
            outside_port: outside.port.into(),
            remote_port: remote.port.into(),
            protocol: protocol as u8,
            marks: LIVES | if inside == outside { UNTRANSLATED } else { 0 },
            ..SessionRecord::default()
        }
    }

    fn in_state(self, state: Option<State>) -> Self {
        SessionRecord { state: state.map_or(0, |state| state as u8), ..self }
    }

    /// The connection that it tells of, if it tells of one that there can be.
    fn connection(&self, protocol: Protocol) -> Option<Connection> {
        match (protocol, State::from_byte(self.state)) {
            (Protocol::Tcp, Some(state)) => {
                let scale = self.scale.map(|scale| scale.min(15));
                Some(Connection::adopted(state, scale, self.sent.get()))
            }
            (Protocol::Tcp, None) => None,
            _ => Some(Connection::default()),
        }
    }
}

impl Twin for Nat<'_> {
    type Entry = SessionRecord;

    fn layout(&self) -> u64 {
        let mut digest = Digest::default();
        digest.add(LAYOUT << 32 | size_of::<SessionRecord>() as u64);
        self.ports.add_settings_to(&mut digest);
        digest.add(self.policy.filtering as u64);
        digest.finish()
    }

    fn change(event: &Event) -> Option<twin::Change<SessionRecord>> {
        let Event { change, index, protocol, inside, outside, remote, state, before } = *event;
        let essence =
            |state| Some(SessionRecord::of(protocol, inside, outside, remote).in_state(state));
        let (before, after) = match change {
            Change::MappingCreated | Change::MappingDeleted => return None,
            Change::SessionCreated => (None, essence(state)),
            Change::SessionUpdated => (essence(before), essence(state)),
            Change::SessionDeleted => (essence(state), None),
        };
        Some(twin::Change { index, before, after })
    }

    fn key(record: &SessionRecord) -> [u64; 2] {
        let (inside, remote) = (record.inside(), record.remote());
        [
            u64::from(inside.addr.to_bits()) << 32 | u64::from(remote.addr.to_bits()),
            u64::from(inside.port) << 32
                | u64::from(remote.port) << 16
                | u64::from(record.protocol),
        ]
    }

    fn gone(essence: &SessionRecord) -> SessionRecord {
        SessionRecord { marks: essence.marks & !LIVES, ..*essence }
    }

    fn end(&self) -> u32 {
        self.free.high_water()
    }

    fn essence(&self, index: u32) -> Option<SessionRecord> {
        let entry = self.entries.get(index as usize)?;
        if !entry.flags.has(Flags::SESSION) {
            return None;
        }
        let (inside, outside) = (entry.translation.inside(), entry.translation.outside());
        let record = SessionRecord::of(entry.protocol(), inside, outside, entry.remote());
        Some(record.in_state(entry.connection.state()))
    }

    fn tell(&mut self, index: u32, now: Ticks) -> Option<SessionRecord> {
        let essence = self.essence(index)?;
        let entry = &self.entries[index as usize];
        let (scale, sent) = entry.connection.numbers();
        let record = SessionRecord {
            marks: essence.marks | if entry.flags.has(Flags::SENT) { SENT } else { 0 },
            scale,
            left: now.until(entry.deadline).0.into(),
            sent: sent.into(),
            ..essence
        };
        let mapping = entry.mapping_at(index);
        self.entries[mapping as usize].flags.insert(Flags::TOLD);
        Some(record)
    }

    fn take(
        &mut self,
        record: &SessionRecord,
        standing: Standing,
        now: Ticks,
        events: &mut impl Events<Event>,
    ) -> Taken {
        let Some(protocol) = Protocol::from_index(record.protocol) else { return Taken::Refused };
        if record.has(UNTRANSLATED) != (record.inside() == record.outside()) {
            return Taken::Refused;
        }
        let key = Key::session(protocol, record.inside(), record.remote());
        let session = self.session_at(protocol, record.inside(), record.remote(), key);
        let is_same =
            |at: &u32| self.entries[*at as usize].translation.outside() == record.outside();
        match (session, session.filter(is_same), record.has(LIVES), standing) {
            (_, Some(session), true, _) => self.take_state(session, record, standing, now, events),
            (_, Some(session), false, Standing::Master) => {
                self.forget(session, now, events);
                Taken::Gone
            }
            (_, _, false, _) => Taken::Gone,
            (Some(_), None, true, Standing::Past) => Taken::Refused,
            (Some(other), None, true, Standing::Master) => {
                self.forget(other, now, events);
                self.take_new(protocol, record, standing, now, events)
            }
            (None, _, true, _) => self.take_new(protocol, record, standing, now, events),
        }
    }

    fn forget(&mut self, index: u32, now: Ticks, events: &mut impl Events<Event>) {
        let Some(entry) = self.entries.get(index as usize).copied() else { return };
        if entry.flags.has(Flags::SESSION) {
            // The twin has given up the port, if this was its last session, or never had it.
            self.entries[entry.mapping_at(index) as usize].flags.remove(Flags::TOLD);
            self.end_session(index, now, events);
        }
    }

    fn retime(&mut self, index: u32, now: Ticks, life: Life) {
        let Some(entry) = self.entries.get(index as usize).copied() else { return };
        if entry.flags.has(Flags::SESSION) {
            let full = timeout(&self.policy, &entry);
            self.set_life(index, now, if life == Life::Full { full } else { Span::MAX });
        }
    }

    fn acknowledge(&mut self, known: Ticks, now: Ticks) {
        self.known = known;
        self.ports.settle(known, now, self.policy.timeouts.port_hold);
    }

    fn set_alone(&mut self, is_alone: bool) {
        self.ports.set_alone(is_alone);
    }
}

impl Nat<'_> {
    /// Lets time pass for a translator that follows its twin: ports are held no longer than they
    /// must, and no session ends.
    pub fn tick_following(&mut self, now: Ticks) {
        self.ports.tick(now);
    }

    /// All entries lie below this index, whatever comes.
    pub fn entries_max(&self) -> usize {
        self.entries.len()
    }

    /// How long a port that is given up stays out of use.
    pub fn port_hold(&self) -> Span {
        self.policy.timeouts.port_hold
    }

    /// The session with this key, alive or over.
    fn session_at(
        &self,
        protocol: Protocol,
        inside: Endpoint,
        remote: Endpoint,
        key: Key,
    ) -> Option<u32> {
        let mapping = self.mapping_of(protocol, inside);
        mapping.filter(|at| self.entries[*at as usize].talks_to(remote)).or_else(|| self.find(key))
    }

    /// What a twin tells of a session that is here.
    fn take_state(
        &mut self,
        session: u32,
        record: &SessionRecord,
        standing: Standing,
        now: Ticks,
        events: &mut impl Events<Event>,
    ) -> Taken {
        let entry = self.entries[session as usize];
        let Some(connection) = record.connection(entry.protocol()) else { return Taken::Refused };
        let (before, after) = (entry.connection.state(), connection.state());
        if before != after && (standing == Standing::Master || after > before) {
            self.entries[session as usize].connection = connection;
            self.emit_update(session, before, events);
        }
        if standing == Standing::Master {
            self.set_life(session, now, Span::MAX);
        } else if before != after {
            self.retime(session, now, Life::Full);
        }
        if record.has(SENT) && !entry.flags.has(Flags::SENT) {
            self.note_first_sent(session);
        }
        Taken::Entry(session)
    }

    /// A session that only the twin has so far.
    fn take_new(
        &mut self,
        protocol: Protocol,
        record: &SessionRecord,
        standing: Standing,
        now: Ticks,
        events: &mut impl Events<Event>,
    ) -> Taken {
        let Some(connection) = record.connection(protocol) else { return Taken::Refused };
        let (inside, outside) = (record.inside(), record.outside());
        let session = if record.has(UNTRANSLATED) {
            self.take_untranslated(protocol, record, connection)
        } else if self.make_way(protocol, inside, outside, standing, now, events) {
            self.take_translated(protocol, record, connection, events)
        } else {
            None
        };
        let Some(session) = session else { return Taken::Refused };
        self.counts.sessions += 1;
        let full = timeout(&self.policy, &self.entries[session as usize]);
        let left = if standing == Standing::Master {
            Span::MAX
        } else {
            full.min(Span(record.left.get()))
        };
        self.set_life(session, now, left);
        self.emit(Change::SessionCreated, session, events);
        if record.has(SENT) {
            self.note_first_sent(session);
        }
        Taken::Entry(session)
    }

    fn take_untranslated(
        &mut self,
        protocol: Protocol,
        record: &SessionRecord,
        connection: Connection,
    ) -> Option<u32> {
        let mut entry = Entry::bypass(protocol, record.inside());
        entry.begin(record.remote(), Ticks::default(), connection);
        let session = self.create(entry).ok()?;
        self.untranslated += 1;
        Some(session)
    }

    /// Whether a mapping between these two may be here: there is none that contradicts it, or the
    /// master says that there is not. One with further sessions stays all the same, since they
    /// cannot be found without a look at every record; each of them ends by itself when the master
    /// does not name it, and the mapping with them.
    fn make_way(
        &mut self,
        protocol: Protocol,
        inside: Endpoint,
        outside: Endpoint,
        standing: Standing,
        now: Ticks,
        events: &mut impl Events<Event>,
    ) -> bool {
        let has_it = |nat: &Self, at: u32| {
            let translation = nat.entries[at as usize].translation;
            translation.inside() == inside && translation.outside() == outside
        };
        let mapped = self.mapping_of(protocol, inside);
        let owner = match self.ports.lookup(protocol, outside) {
            Lookup::NotPool => return false,
            Lookup::Owned(owner) => Some(owner),
            Lookup::Free | Lookup::Held => None,
        };
        for other in [mapped, owner].into_iter().flatten() {
            let entry = &self.entries[other as usize];
            // The first may have been the second as well.
            if entry.kind() != EntryKind::Mapping || has_it(self, other) {
                continue;
            }
            if standing == Standing::Past || entry.users > 0 || entry.flags.has(Flags::STATIC) {
                return false;
            }
            self.forget(other, now, events);
        }
        true
    }

    /// A session of the mapping that its record names, with that mapping if there is none.
    fn take_translated(
        &mut self,
        protocol: Protocol,
        record: &SessionRecord,
        connection: Connection,
        events: &mut impl Events<Event>,
    ) -> Option<u32> {
        let (inside, remote) = (record.inside(), record.remote());
        let mapping = match self.mapping_of(protocol, inside) {
            Some(mapping) => mapping,
            None => self.take_mapping(protocol, inside, record.outside(), events)?,
        };
        self.entries[mapping as usize].flags.insert(Flags::TOLD);
        let entry = self.entries[mapping as usize];
        let session = if entry.flags.has(Flags::SESSION) {
            let mut further = Entry::session(protocol, entry.translation, mapping);
            further.begin(remote, Ticks::default(), connection);
            let session = self.create(further).ok()?;
            self.entries[mapping as usize].users += 1;
            self.further += 1;
            session
        } else {
            self.entries[mapping as usize].begin(remote, Ticks::default(), connection);
            mapping
        };
        if self.is_public(remote) {
            self.entries[session as usize].flags.insert(Flags::HAIRPIN);
        }
        Some(session)
    }

    /// A mapping without session yet, at a port that nobody has.
    fn take_mapping(
        &mut self,
        protocol: Protocol,
        inside: Endpoint,
        outside: Endpoint,
        events: &mut impl Events<Event>,
    ) -> Option<u32> {
        let address = self.ports.pool().index(outside.addr)?;
        let subscriber = match self.subscribers.find(inside.addr) {
            Some(subscriber) => subscriber,
            None => self.subscribers.add(inside.addr, address).ok()?,
        };
        let translation = Translation::new(inside, outside);
        let has_room = self.subscribers.mappings(subscriber, protocol) < u16::MAX;
        let mapping = if has_room {
            self.create(Entry::mapping(protocol, translation, subscriber)).ok()
        } else {
            None
        };
        let Some(mapping) = mapping else {
            self.subscribers.forget_if_unused(subscriber);
            return None;
        };
        let reserved = self.ports.reserve(protocol, outside, mapping);
        assert!(!matches!(reserved, Lookup::Owned(_)), "way was made for it");
        self.subscribers.acquire(subscriber, protocol);
        self.counts.mappings += 1;
        self.emit(Change::MappingCreated, mapping, events);
        Some(mapping)
    }

    /// Lets a session live so long from now on, and its mapping admit others as if the inside had
    /// sent just now: when it did is not told.
    fn set_life(&mut self, session: u32, now: Ticks, life: Span) {
        let entry = &mut self.entries[session as usize];
        entry.deadline = now.after(life);
        self.deadlines.set(session, entry.deadline);
        let asked = life.max(steady_timeout(&self.policy, entry.protocol()));
        let mapping = entry.mapping_at(session);
        self.entries[mapping as usize].asked_until = now.after(asked);
    }
}
