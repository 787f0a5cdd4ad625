//! The packet's way through the translator: a session that exists is found and passed here; one
//! that does not is opened in `open.rs`.

use krono_core::deadlines::Deadlines;
use krono_core::drop::DropReason;
use krono_core::freelist::FreeList;
use krono_core::hash::HashKey;
use krono_core::packet::{Endpoint, Kind, PacketMeta, Protocol, Side};
use krono_core::ports::{Lookup, Ports};
use krono_core::program::{Events, Program, Slot, Translation, Verdict};
use krono_core::table::{self, FlowTable};
use krono_core::time::{Moment, Span, Ticks};
use rand_chacha::ChaCha8Rng;

use crate::config::{Filtering, Policy};
use crate::entry::{Entry, EntryKind, Flags, Key};
use crate::events::Event;
use crate::record::Record;
use crate::subscribers::{Subscribers, Told};
use crate::tcp::{State, Timer};

/// The translator of one shard.
pub struct Nat<'m> {
    pub(crate) entries: &'m mut [Entry],
    pub(crate) free: FreeList,
    pub(crate) table: FlowTable<'m>,
    pub(crate) deadlines: Deadlines<'m>,
    pub(crate) ports: Ports<'m>,
    pub(crate) subscribers: Subscribers<'m>,
    pub(crate) hash: HashKey,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) inside: Vec<ipnet::Ipv4Net>,
    pub(crate) ports_per_subscriber: u16,
    pub(crate) policy: Policy,
    pub(crate) counts: crate::view::Counts,
    pub(crate) told: Told,
    /// Live sessions that are not the first ones of their mappings.
    pub(crate) further: u32,
    /// Live untranslated sessions.
    pub(crate) untranslated: u32,
    /// A twin knows all changes up to and in this tick.
    pub(crate) known: Ticks,
}

/// Where a record's mapping seems to be; a hint, see [`Program`]: 24 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// From inside: the place in the flow table.
    bucket: table::Probe,
    /// From outside: the place in the array of public ports. From inside, where there is no
    /// mapping: the subscriber, or [`SOUGHT`]. Else [`NOWHERE`].
    place: u32,
    /// The entry that is probably the mapping, or [`NOWHERE`].
    entry: u32,
}

const NOWHERE: u32 = u32::MAX;
/// The subscriber's place in its table is being fetched.
const SOUGHT: u32 = u32::MAX - 1;

impl Default for Probe {
    fn default() -> Self {
        Probe { bucket: table::Probe::default(), place: NOWHERE, entry: NOWHERE }
    }
}

/// A refusal ends a packet's way early.
pub(crate) type Decision<T> = Result<T, Verdict>;

pub(crate) fn refuse<T>(reason: DropReason) -> Decision<T> {
    Err(Verdict::Drop(reason))
}

impl Program for Nat<'_> {
    type Record = Record;
    type Probe = Probe;
    type Event = Event;

    #[inline]
    fn record(meta: &PacketMeta, side: Side, now: Moment) -> Record {
        Record::new(meta, side, now.ticks())
    }

    #[inline]
    fn probe(&self, record: &Record) -> Probe {
        match record.side {
            Side::Inside => {
                let hash = self.hash_of(Key::mapping(record.protocol, record.src));
                Probe { bucket: self.table.probe(hash), ..Probe::default() }
            }
            Side::Outside => {
                let Some(slot) = self.ports.slot(record.protocol, record.dst) else {
                    return Probe::default();
                };
                self.ports.prefetch(slot);
                Probe { place: u32::try_from(slot).unwrap_or(NOWHERE), ..Probe::default() }
            }
        }
    }

    #[inline]
    fn touch(&self, record: &Record, probe: &mut Probe, look: u32) -> bool {
        if probe.entry != NOWHERE {
            return self.touch_further(record, probe.entry, look);
        }
        let entry = match (record.side, probe.place) {
            (Side::Inside, NOWHERE) => self.table.touch(&mut probe.bucket),
            (Side::Inside, _) => return self.touch_subscriber(record, probe),
            (Side::Outside, NOWHERE) => None,
            (Side::Outside, place) => match self.ports.at(place as usize) {
                Lookup::Owned(mapping) => Some(mapping),
                _ => None,
            },
        };
        if let Some(entry) = entry {
            probe.entry = entry;
            table::prefetch(self.entries, entry as usize);
            return self.further > 0 && look == 0;
        }
        if record.side == Side::Outside {
            return false;
        }
        if probe.bucket.goes_on() {
            return true;
        }
        if self.room() > 0 {
            probe.place = SOUGHT;
            self.subscribers.probe(record.src.addr);
        }
        probe.place == SOUGHT
    }

    #[inline(always)]
    fn pass(&mut self, side: Side, record: &Record, probe: &Probe) -> Option<Slot> {
        match (record.kind, side) {
            (Kind::Udp | Kind::Tcp, Side::Inside) => self.pass_out(record, probe),
            (Kind::Udp | Kind::Tcp, Side::Outside) => self.pass_in(record, probe),
            _ => None,
        }
    }

    #[inline]
    fn step(&mut self, record: &Record, probe: &Probe, events: &mut impl Events<Event>) -> Verdict {
        match (record.kind, record.side) {
            (Kind::IcmpError, _) => self.pass_error(record),
            (Kind::IcmpReply, Side::Inside) => self.pass_reply_out(record, events),
            (_, Side::Inside) => self.step_out(record, probe, events),
            (_, Side::Outside) => self.step_in(record, probe, events),
        }
    }

    #[inline]
    fn translation(&self, slot: Slot) -> &Translation {
        &self.entries[slot.0 as usize].translation
    }

    fn tick(&mut self, now: Ticks, events: &mut impl Events<Event>) -> bool {
        self.expire(now, events)
    }
}

impl Nat<'_> {
    /// Fetches the session of a packet that is not in its mapping's first one.
    #[inline(never)]
    fn touch_further(&self, record: &Record, mapping: u32, look: u32) -> bool {
        let mapping = &self.entries[mapping as usize];
        let remote = match record.side {
            Side::Inside => record.dst,
            Side::Outside => record.src,
        };
        if mapping.talks_to(remote) || mapping.users == 0 {
            return false;
        }
        let key = Key::session(record.protocol, mapping.translation.inside(), remote);
        let hash = self.hash_of(key);
        if look == 1 {
            self.table.probe(hash);
            return true;
        }
        if let Some(session) = self.table.find(hash, |_| true) {
            table::prefetch(self.entries, session as usize);
        }
        false
    }

    /// Fetches what a new mapping takes: first its subscriber, then one of that one's ports.
    #[inline(never)]
    fn touch_subscriber(&self, record: &Record, probe: &mut Probe) -> bool {
        if probe.place != SOUGHT {
            let address = self.subscribers.pool_index(probe.place);
            self.ports.prefetch_allocation(record.protocol, address, record.src.port);
            return false;
        }
        let subscriber = self.subscribers.touch(record.src.addr);
        probe.place = subscriber.unwrap_or(NOWHERE);
        subscriber.is_some()
    }

    /// [`Program::pass`] for a packet from a subscriber.
    #[inline(always)]
    fn pass_out(&mut self, record: &Record, probe: &Probe) -> Option<Slot> {
        let entry = self.entries.get_mut(probe.entry as usize)?;
        let is_usual = entry.maps(record.protocol, record.src)
            && entry.goes_on_with(record.dst, record)
            && entry.flags.is_usual();
        let deadline = record.now.after(steady_timeout(&self.policy, record.protocol));
        if !is_usual || !deadline.reached(entry.deadline) {
            return None;
        }
        entry.refresh(deadline, &record.tcp);
        Some(Slot(probe.entry))
    }

    /// [`Program::pass`] for a packet from the Internet.
    #[inline(always)]
    fn pass_in(&mut self, record: &Record, probe: &Probe) -> Option<Slot> {
        // Which place in the array is the port's never changes: that much is more than a hint.
        if probe.place == NOWHERE {
            return None;
        }
        match self.ports.at(probe.place as usize) {
            Lookup::Owned(mapping)
                if self.entries[mapping as usize].goes_on_with(record.src, record) =>
            {
                Some(Slot(mapping))
            }
            _ => None,
        }
    }

    /// A packet from a subscriber.
    #[inline(never)]
    fn step_out(
        &mut self,
        record: &Record,
        probe: &Probe,
        events: &mut impl Events<Event>,
    ) -> Verdict {
        let mapping = self.probed_mapping(record, probe);
        let session = mapping.and_then(|at| self.session_of(at, record.dst, record.now));
        let session = match session {
            Some(session) => {
                self.note_sent(session, record, events);
                session
            }
            None => match self.open_from_inside(mapping, probe.place, record, events) {
                Ok(session) => session,
                Err(refusal) => return refusal,
            },
        };
        let entry = &self.entries[session as usize];
        if entry.flags.has(Flags::HAIRPIN) {
            return self.turn_around(session, record, events);
        }
        let source = self.translates(session);
        Verdict::Forward { to: Side::Outside, source, destination: Slot::NONE }
    }

    /// A subscriber's answer to a query: only untranslated ones reach it. (That a mapping may have
    /// the identifier 0, as the sender of an answer seems to have, must not confuse anybody.)
    #[cold]
    fn pass_reply_out(&mut self, record: &Record, events: &mut impl Events<Event>) -> Verdict {
        let session = self.untranslated(record.protocol, record.src, record.dst, record.now);
        let Some(session) = session else { return Verdict::Drop(DropReason::IcmpReplyUnasked) };
        self.note_sent(session, record, events);
        Verdict::Forward { to: Side::Outside, source: Slot::NONE, destination: Slot::NONE }
    }

    /// A packet from the Internet.
    #[inline(never)]
    fn step_in(
        &mut self,
        record: &Record,
        probe: &Probe,
        events: &mut impl Events<Event>,
    ) -> Verdict {
        // Which place in the array is the port's never changes: that much is more than a hint.
        let owner = match probe.place {
            NOWHERE => self.ports.lookup(record.protocol, record.dst),
            place => self.ports.at(place as usize),
        };
        let received = match owner {
            // A query's identifier belongs to its sender, so nobody inside is meant.
            Lookup::Free | Lookup::Held | Lookup::Owned(_) if record.kind == Kind::IcmpRequest => {
                return Verdict::Drop(DropReason::IcmpQueryUnsolicited);
            }
            Lookup::Owned(mapping) => self.receive(mapping, record.src, record, events),
            Lookup::Free | Lookup::Held => return Verdict::Drop(DropReason::NoMapping),
            Lookup::NotPool => self.receive_untranslated(record, events),
        };
        match received {
            Ok(session) => {
                let destination = self.translates(session);
                Verdict::Forward { to: Side::Inside, source: Slot::NONE, destination }
            }
            Err(refusal) => refusal,
        }
    }

    /// A packet from one subscriber to the public endpoint of another (RFC 4787, REQ-9): `sender`
    /// is the first one's session; the second sees the first one's public endpoint (REQ-9a).
    #[cold]
    fn turn_around(
        &mut self,
        sender: u32,
        record: &Record,
        events: &mut impl Events<Event>,
    ) -> Verdict {
        let remote = self.entries[sender as usize].translation.outside();
        let Lookup::Owned(mapping) = self.ports.lookup(record.protocol, record.dst) else {
            return Verdict::Drop(DropReason::NoMapping);
        };
        let (to, source) = (Side::Inside, Slot(sender));
        match self.receive(mapping, remote, record, events) {
            Ok(receiver) => Verdict::Forward { to, source, destination: Slot(receiver) },
            Err(refusal) => refusal,
        }
    }

    /// Finds or opens the session in which `remote` sends to a mapping.
    #[inline(never)]
    fn receive(
        &mut self,
        mapping: u32,
        remote: Endpoint,
        record: &Record,
        events: &mut impl Events<Event>,
    ) -> Decision<u32> {
        let session = match self.session_of(mapping, remote, record.now) {
            Some(session) => session,
            None => self.open_from_outside(mapping, remote, record, events)?,
        };
        self.note_received(session, record, events);
        Ok(session)
    }

    /// A packet for an address that is not in the pool: only sessions with excluded networks
    /// (RFC 6888, REQ-6) have such.
    #[cold]
    fn receive_untranslated(
        &mut self,
        record: &Record,
        events: &mut impl Events<Event>,
    ) -> Decision<u32> {
        let session = match self.untranslated(record.protocol, record.dst, record.src, record.now) {
            Some(session) => session,
            None => self.open_untranslated_from_outside(record, events)?,
        };
        self.note_received(session, record, events);
        Ok(session)
    }

    /// An ICMP error: the quoted packet tells the session. It never changes any state (RFC 4787,
    /// REQ-12; RFC 5382, REQ-10; RFC 5508, REQ-6), so it needs no events.
    #[cold]
    fn pass_error(&mut self, record: &Record) -> Verdict {
        self.error_session(record).unwrap_or(Verdict::Drop(DropReason::IcmpErrorNoSession))
    }

    fn error_session(&self, record: &Record) -> Option<Verdict> {
        if !record.to_quoted_sender {
            return None;
        }
        match record.side {
            Side::Inside => {
                let sender = self.session_from_inside(record).or_else(|| {
                    let key = Key::session(record.protocol, record.src, record.dst);
                    self.live_session(key, record.now)
                })?;
                if self.entries[sender as usize].flags.has(Flags::HAIRPIN) {
                    return self.turn_error_around(sender, record);
                }
                let source = self.translates(sender);
                Some(Verdict::Forward { to: Side::Outside, source, destination: Slot::NONE })
            }
            Side::Outside => {
                let session = match self.ports.lookup(record.protocol, record.dst) {
                    Lookup::Owned(mapping) => self.session_of(mapping, record.src, record.now)?,
                    Lookup::Free | Lookup::Held => return None,
                    Lookup::NotPool => {
                        self.untranslated(record.protocol, record.dst, record.src, record.now)?
                    }
                };
                let destination = self.translates(session);
                Some(Verdict::Forward { to: Side::Inside, source: Slot::NONE, destination })
            }
        }
    }

    /// An error about a hairpinned packet (RFC 5508, REQ-7): back to who sent that packet.
    fn turn_error_around(&self, sender: u32, record: &Record) -> Option<Verdict> {
        let Lookup::Owned(mapping) = self.ports.lookup(record.protocol, record.dst) else {
            return None;
        };
        let remote = self.entries[sender as usize].translation.outside();
        let receiver = self.session_of(mapping, remote, record.now)?;
        Some(Verdict::Forward {
            to: Side::Inside,
            source: Slot(sender),
            destination: Slot(receiver),
        })
    }

    /// The live session that a packet from inside belongs to.
    fn session_from_inside(&self, record: &Record) -> Option<u32> {
        let mapping = self.mapping_of(record.protocol, record.src)?;
        self.session_of(mapping, record.dst, record.now)
    }

    /// The live session of a mapping with `remote`.
    pub(crate) fn session_of(&self, mapping: u32, remote: Endpoint, now: Ticks) -> Option<u32> {
        let entry = &self.entries[mapping as usize];
        if entry.talks_to(remote) {
            return (!entry.is_over(now)).then_some(mapping);
        }
        if entry.users == 0 { None } else { self.further_session_of(entry, remote, now) }
    }

    #[inline(never)]
    fn further_session_of(&self, mapping: &Entry, remote: Endpoint, now: Ticks) -> Option<u32> {
        let key = Key::session(mapping.protocol(), mapping.translation.inside(), remote);
        self.live_session(key, now).filter(|session| self.is(*session, EntryKind::Session))
    }

    /// The live untranslated session between these two.
    fn untranslated(
        &self,
        protocol: Protocol,
        inside: Endpoint,
        remote: Endpoint,
        now: Ticks,
    ) -> Option<u32> {
        let session = self.live_session(Key::session(protocol, inside, remote), now);
        session.filter(|session| self.is(*session, EntryKind::Bypass))
    }

    fn is(&self, index: u32, kind: EntryKind) -> bool {
        self.entries[index as usize].kind() == kind
    }

    fn live_session(&self, key: Key, now: Ticks) -> Option<u32> {
        self.find(key).filter(|index| !self.entries[*index as usize].is_over(now))
    }

    /// The sender's mapping, with the help of its probe.
    #[inline]
    fn probed_mapping(&self, record: &Record, probe: &Probe) -> Option<u32> {
        let key = Key::mapping(record.protocol, record.src);
        let is_it = |index| self.entries[index as usize].maps(record.protocol, record.src);
        self.table.find_probed(&probe.bucket, || self.hash_of(key), is_it)
    }

    pub(crate) fn mapping_of(&self, protocol: Protocol, inside: Endpoint) -> Option<u32> {
        self.find(Key::mapping(protocol, inside))
    }

    pub(crate) fn find(&self, key: Key) -> Option<u32> {
        self.table.find(self.hash_of(key), |index| self.entries[index as usize].key() == key)
    }

    #[inline]
    pub(crate) fn hash_of(&self, key: Key) -> u64 {
        self.hash.hash(key.0, key.1)
    }

    /// The translation of a session, none if it passes untranslated.
    #[inline]
    fn translates(&self, session: u32) -> Slot {
        match self.entries[session as usize].kind() {
            EntryKind::Bypass => Slot::NONE,
            _ => Slot(session),
        }
    }

    /// A packet from inside keeps its session alive (RFC 4787, REQ-6).
    pub(crate) fn note_sent(
        &mut self,
        session: u32,
        record: &Record,
        events: &mut impl Events<Event>,
    ) {
        match self.follow(session, Side::Inside, record, events) {
            Timer::Restart => self.prolong(session, record.now),
            Timer::Shorten => self.shorten(session, record.now),
            Timer::Keep => {}
        }
        if !self.entries[session as usize].flags.has(Flags::SENT) {
            self.note_first_sent(session);
        }
    }

    /// A packet from outside never makes a session live longer: else anybody could keep it alive
    /// (RFC 4787, section 4.3; RFC 7857, section 7). A connection that lives is acknowledged.
    #[inline]
    fn note_received(&mut self, session: u32, record: &Record, events: &mut impl Events<Event>) {
        if self.follow(session, Side::Outside, record, events) == Timer::Shorten {
            self.shorten(session, record.now);
        }
    }

    /// Lets a TCP session follow its connection.
    #[inline]
    fn follow(
        &mut self,
        session: u32,
        from: Side,
        record: &Record,
        events: &mut impl Events<Event>,
    ) -> Timer {
        if record.protocol != Protocol::Tcp {
            return Timer::Restart;
        }
        let connection = &mut self.entries[session as usize].connection;
        let before = connection.state();
        let timer = connection.advance(from, &record.tcp);
        if connection.state() != before {
            self.emit_update(session, before, events);
        }
        timer
    }

    /// Lets the time of a session begin anew, and its mapping's with it.
    fn prolong(&mut self, session: u32, now: Ticks) {
        let entry = &mut self.entries[session as usize];
        let deadline = now.after(timeout(&self.policy, entry));
        // The array of deadlines holds lower bounds; only an earlier one has to be told.
        if !deadline.reached(entry.deadline) {
            self.deadlines.set(session, deadline);
        }
        entry.deadline = deadline;
        let mapping = match entry.kind() {
            EntryKind::Session => &mut self.entries[entry.owner as usize],
            _ => entry,
        };
        if deadline.reached(mapping.asked_until) {
            mapping.asked_until = deadline;
        }
    }

    fn shorten(&mut self, session: u32, now: Ticks) {
        let entry = &mut self.entries[session as usize];
        let deadline = now.after(self.policy.timeouts.tcp_closing);
        if !deadline.reached(entry.deadline) {
            entry.deadline = deadline;
            self.deadlines.set(session, deadline);
        }
    }

    /// Without room for a permit the packet passes all the same (existing sessions are not to be
    /// disturbed, RFC 6888, REQ-11), and the next one tries again.
    #[cold]
    pub(crate) fn note_first_sent(&mut self, session: u32) {
        let grants = self.policy.filtering == Filtering::AddressDependent;
        if !grants || self.grant(session).is_ok() {
            self.entries[session as usize].flags.insert(Flags::SENT);
        }
    }
}

/// How long a session lives without a packet from inside while nothing happens in it.
#[inline(always)]
pub(crate) fn steady_timeout(policy: &Policy, protocol: Protocol) -> Span {
    match protocol {
        Protocol::Udp => policy.timeouts.udp,
        Protocol::Tcp => policy.timeouts.tcp_established,
        Protocol::Icmp => policy.timeouts.icmp,
    }
}

/// How long a session lives without a packet from inside.
pub(crate) fn timeout(policy: &Policy, entry: &Entry) -> Span {
    let timeouts = &policy.timeouts;
    match entry.protocol() {
        Protocol::Udp => timeouts.udp,
        Protocol::Icmp => timeouts.icmp,
        Protocol::Tcp => match entry.connection.state() {
            Some(State::OpeningInside | State::OpeningOutside) | None => timeouts.tcp_opening,
            Some(State::Established | State::FinInside | State::FinOutside) => {
                timeouts.tcp_established
            }
            Some(State::FinBoth | State::Reset) => timeouts.tcp_closing,
        },
    }
}
