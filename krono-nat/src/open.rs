//! Opening sessions: the cold half of the packet's way. Nothing is changed before everything that
//! may refuse has agreed, so a refused packet leaves no trace.

use krono_core::drop::DropReason;
use krono_core::packet::{Endpoint, Kind, Protocol, Side, TcpFlags};
use krono_core::ports::Lookup;
use krono_core::program::{Events, IcmpError, Translation, Verdict};
use krono_core::table::prefetch;
use krono_core::time::{Span, Ticks};
use rand_chacha::rand_core::Rng;

use crate::config::{Filtering, is_in};
use crate::entry::{Entry, EntryKind, Flags, Key};
use crate::events::{Change, Event};
use crate::nat::{Decision, Nat, refuse, timeout};
use crate::record::Record;
use crate::tcp::{Connection, State};

/// So far ahead a free record is fetched on a guess.
const FREE_AHEAD: usize = 4;

impl Nat<'_> {
    /// Opens a session for a packet from a subscriber, whose `mapping` was found if it has one, or
    /// finds the untranslated session that the packet is in, and notes the packet there.
    /// `subscriber` is a hint.
    #[cold]
    pub(crate) fn open_from_inside(
        &mut self,
        mut mapping: Option<u32>,
        subscriber: u32,
        record: &Record,
        events: &mut impl Events<Event>,
    ) -> Decision<u32> {
        if self.may_have_own_record(mapping) {
            let session_key = Key::session(record.protocol, record.src, record.dst);
            if let Some(session) = self.find_or_bury(session_key, record.now, events) {
                self.note_sent(session, record, events);
                return Ok(session);
            }
            mapping = self.mapping_of(record.protocol, record.src);
        }
        let mapping = mapping.and_then(|at| self.keep_or_bury(at, record.now, events));
        begins_session(record)?;
        let permits = u32::from(self.policy.filtering == Filtering::AddressDependent);
        // A flood must not have the shard ask what else could be said against a packet for which
        // there is no room, nor look up subscribers whom it will not tell anyway.
        if mapping.is_none() && self.room() <= permits && self.told.is_enough(record.now) {
            return refuse(DropReason::SessionsFull);
        }
        let firewall = &self.policy.firewall;
        if !firewall.admits(Side::Inside, record.protocol, record.src, record.dst) {
            return refuse(DropReason::FirewallRule);
        }
        if self.is_excluded(record.dst) {
            let session = self.open_untranslated(record.src, record.dst, record, events)?;
            self.note_sent(session, record, events);
            return Ok(session);
        }
        self.check_hairpin(record)?;
        let Some(mapping) = mapping else {
            return self.open_mapping(record, subscriber, permits + 1, events);
        };
        let has_session = self.entries[mapping as usize].flags.has(Flags::SESSION);
        self.has_room(record, permits + u32::from(has_session))?;
        let session = self.attach(mapping, Side::Inside, record.dst, record, events)?;
        self.note_sent(session, record, events);
        Ok(session)
    }

    /// Opens a session for a packet from `remote` to a mapping, if the filter and the firewall
    /// let it.
    #[cold]
    pub(crate) fn open_from_outside(
        &mut self,
        mapping: u32,
        remote: Endpoint,
        record: &Record,
        events: &mut impl Events<Event>,
    ) -> Decision<u32> {
        let entry = self.entries[mapping as usize];
        let (protocol, inside) = (entry.protocol(), entry.translation.inside());
        let untranslated =
            self.find_or_bury(Key::session(protocol, inside, remote), record.now, events);
        if self.find_or_bury(Key::mapping(protocol, inside), record.now, events).is_none() {
            return refuse(DropReason::NoMapping);
        }
        let is_static = entry.flags.has(Flags::STATIC);
        // Its sessions are over, if not all of them buried: none of them may admit another.
        if !is_static && record.now.reached(entry.asked_until) {
            return refuse(DropReason::NoMapping);
        }
        // Two endpoints have one session only, or a packet from inside would have the choice.
        let is_taken = untranslated.is_some();
        if is_taken || !is_static && !self.is_admitted(protocol, inside, remote) {
            return refuse(DropReason::Filtered);
        }
        begins_session(record)?;
        if !self.policy.firewall.admits(Side::Outside, protocol, remote, inside) {
            return refuse(DropReason::FirewallRule);
        }
        if self.room() == 0 && self.entries[mapping as usize].flags.has(Flags::SESSION) {
            return refuse(DropReason::SessionsFull);
        }
        self.attach(mapping, Side::Outside, remote, record, events)
    }

    /// Opens an untranslated session for a packet from an excluded network to a subscriber.
    #[cold]
    pub(crate) fn open_untranslated_from_outside(
        &mut self,
        record: &Record,
        events: &mut impl Events<Event>,
    ) -> Decision<u32> {
        let key = Key::session(record.protocol, record.dst, record.src);
        self.find_or_bury(key, record.now, events);
        let mapping_key = Key::mapping(record.protocol, record.dst);
        let mapping = self.find_or_bury(mapping_key, record.now, events);
        let is_taken =
            mapping.is_some_and(|at| self.session_of(at, record.src, record.now).is_some());
        if is_taken || !self.is_excluded(record.src) || !self.is_inside(record.dst) {
            return refuse(DropReason::NotOurs);
        }
        begins_session(record)?;
        if !self.policy.firewall.admits(Side::Outside, record.protocol, record.src, record.dst) {
            return refuse(DropReason::FirewallRule);
        }
        self.open_untranslated(record.dst, record.src, record, events)
    }

    fn open_untranslated(
        &mut self,
        inside: Endpoint,
        remote: Endpoint,
        record: &Record,
        events: &mut impl Events<Event>,
    ) -> Decision<u32> {
        let mut entry = Entry::bypass(record.protocol, inside);
        let connection = connection(record.side, record);
        entry.begin(remote, Ticks::default(), connection);
        entry.deadline = record.now.after(timeout(&self.policy, &entry));
        let session = self.create(entry)?;
        self.untranslated += 1;
        self.counts.sessions += 1;
        self.emit(Change::SessionCreated, session, events);
        Ok(session)
    }

    /// A new mapping for the sender of a packet, at the sender's one public address, with the
    /// session that the packet opens.
    #[inline(never)]
    fn open_mapping(
        &mut self,
        record: &Record,
        hint: u32,
        wanted: u32,
        events: &mut impl Events<Event>,
    ) -> Decision<u32> {
        let subscriber = match self.subscribers.find_hinted(record.src.addr, hint) {
            Some(subscriber) => subscriber,
            None => {
                let index = self.ports.choose_address(record.protocol, self.rng.next_u64());
                self.subscribers.add(record.src.addr, index).map_err(exhausted)?
            }
        };
        match self.map_port(record, subscriber, wanted) {
            Ok(mapping) => {
                self.subscribers.acquire(subscriber, record.protocol);
                self.counts.mappings += 1;
                self.counts.sessions += 1;
                self.emit(Change::MappingCreated, mapping, events);
                self.emit(Change::SessionCreated, mapping, events);
                if self.policy.filtering == Filtering::AddressDependent {
                    self.note_first_sent(mapping);
                }
                Ok(mapping)
            }
            Err(reason) => {
                let verdict = self.tell(subscriber, reason, record.now);
                self.subscribers.forget_if_unused(subscriber);
                Err(verdict)
            }
        }
    }

    /// The record of a new mapping and its first session, written in one go.
    fn map_port(
        &mut self,
        record: &Record,
        subscriber: u32,
        wanted: u32,
    ) -> Result<u32, DropReason> {
        let (protocol, inside, now) = (record.protocol, record.src, record.now);
        if self.subscribers.mappings(subscriber, protocol) >= self.ports_per_subscriber {
            return Err(DropReason::SubscriberPorts);
        }
        if self.room() < wanted {
            return Err(DropReason::SessionsFull);
        }
        let address = self.subscribers.pool_index(subscriber);
        let (next, rng) = (self.free.next(), &mut self.rng);
        let random = || rng.next_u32();
        let outside = self.ports.allocate(protocol, address, inside.port, next, random, now);
        let outside = outside.ok_or(DropReason::PortsExhausted)?;
        let entered = self.enter(Key::mapping(protocol, inside)).map_err(|_| {
            self.ports.release(protocol, outside, now, Span(0));
            DropReason::SessionsFull
        })?;
        debug_assert_eq!(entered, next, "the port is its record's");
        let mut entry = Entry::mapping(protocol, Translation::new(inside, outside), subscriber);
        entry.begin(record.dst, Ticks::default(), connection(Side::Inside, record));
        entry.deadline = now.after(timeout(&self.policy, &entry));
        entry.asked_until = entry.deadline;
        if self.policy.filtering != Filtering::AddressDependent {
            entry.flags.insert(Flags::SENT);
        }
        if self.is_public(record.dst) {
            entry.flags.insert(Flags::HAIRPIN);
        }
        self.place(next, entry);
        Ok(next)
    }

    /// Gives a mapping a session with `remote`: its own first one, or a further one. The caller
    /// has seen that there is room.
    fn attach(
        &mut self,
        mapping: u32,
        from: Side,
        remote: Endpoint,
        record: &Record,
        events: &mut impl Events<Event>,
    ) -> Decision<u32> {
        let entry = self.entries[mapping as usize];
        let connection = connection(from, record);
        let session = if entry.flags.has(Flags::SESSION) {
            let mut session = Entry::session(entry.protocol(), entry.translation, mapping);
            session.begin(remote, Ticks::default(), connection);
            session.deadline = self.first_deadline(&session, &entry, from, record.now);
            let index = self.create(session)?;
            self.entries[mapping as usize].users += 1;
            self.further += 1;
            index
        } else {
            let mut first = entry;
            first.begin(remote, Ticks::default(), connection);
            first.deadline = self.first_deadline(&first, &entry, from, record.now);
            self.deadlines.set(mapping, first.deadline);
            self.entries[mapping as usize] = first;
            mapping
        };
        if self.is_public(remote) {
            self.entries[session as usize].flags.insert(Flags::HAIRPIN);
        }
        self.counts.sessions += 1;
        self.emit(Change::SessionCreated, session, events);
        Ok(session)
    }

    /// A session that is opened from outside does not outlive what the inside has asked for.
    fn first_deadline(&self, session: &Entry, mapping: &Entry, from: Side, now: Ticks) -> Ticks {
        let own = now.after(timeout(&self.policy, session));
        let asked = mapping.asked_until;
        let unbound = from == Side::Inside || mapping.flags.has(Flags::STATIC);
        if unbound || asked.reached(own) { own } else { asked }
    }

    /// Puts a new entry where the flow table and the timers find it.
    pub(crate) fn create(&mut self, entry: Entry) -> Decision<u32> {
        let index = self.enter(entry.key())?;
        self.place(index, entry);
        Ok(index)
    }

    /// A free record, which the flow table finds by this key: the caller places its entry there.
    fn enter(&mut self, key: Key) -> Decision<u32> {
        let entries = &*self.entries;
        let Some(index) = self.free.take(|index| entries[index as usize].owner) else {
            return refuse(DropReason::SessionsFull);
        };
        self.prefetch_free();
        if self.table.insert(self.hash_of(key), index).is_err() {
            self.give(index);
            return refuse(DropReason::SessionsFull);
        }
        Ok(index)
    }

    /// Writes an entry where it stays, field by field: whole, from elsewhere, it would wait for the
    /// stores that made it.
    #[inline(always)]
    fn place(&mut self, index: u32, entry: Entry) {
        self.entries[index as usize] = entry;
        if entry.flags.has(Flags::SESSION) {
            self.deadlines.set(index, entry.deadline);
        }
    }

    /// Fetches the record that is taken next. The one behind it is known when that has come; most
    /// likely it lies nearby, since sessions end in the order of their records.
    fn prefetch_free(&self) {
        let next = self.free.next() as usize;
        prefetch(self.entries, next);
        prefetch(self.entries, next.saturating_sub(FREE_AHEAD));
    }

    fn destroy(&mut self, index: u32) {
        let hash = self.hash_of(self.entries[index as usize].key());
        let removed = self.table.remove(hash, index);
        assert!(removed, "an entry is in the flow table");
        self.deadlines.clear(index);
        self.give(index);
    }

    fn give(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        self.free.give(index, |next| *entry = Entry::free(next));
    }

    /// Whether a session from this mapping, or from an endpoint without one, can be in a record of
    /// its own: a further one or an untranslated one.
    fn may_have_own_record(&self, mapping: Option<u32>) -> bool {
        self.untranslated > 0 || mapping.is_some_and(|at| self.entries[at as usize].users > 0)
    }

    /// The entry with this key, unless it is over: then it is buried, and its mapping with it if
    /// that has nothing left.
    fn find_or_bury(
        &mut self,
        key: Key,
        now: Ticks,
        events: &mut impl Events<Event>,
    ) -> Option<u32> {
        let index = self.find(key)?;
        self.keep_or_bury(index, now, events)
    }

    /// The entry at `index`, which is buried if it is over.
    fn keep_or_bury(
        &mut self,
        index: u32,
        now: Ticks,
        events: &mut impl Events<Event>,
    ) -> Option<u32> {
        let entry = &self.entries[index as usize];
        if entry.flags.has(Flags::SESSION) && entry.is_over(now) {
            let key = entry.key();
            self.end_session(index, now, events);
            return self.find(key);
        }
        Some(index)
    }

    /// Ends the session in an entry, and its mapping if that was the last.
    pub(crate) fn end_session(
        &mut self,
        session: u32,
        now: Ticks,
        events: &mut impl Events<Event>,
    ) {
        self.counts.sessions -= 1;
        self.emit(Change::SessionDeleted, session, events);
        self.revoke(session);
        let entry = self.entries[session as usize];
        match entry.kind() {
            EntryKind::Mapping if entry.users == 0 && !entry.flags.has(Flags::STATIC) => {
                self.forget_mapping(session, now, events);
            }
            EntryKind::Mapping => {
                self.entries[session as usize].end();
                self.deadlines.clear(session);
            }
            EntryKind::Session => {
                self.destroy(session);
                self.further -= 1;
                self.entries[entry.owner as usize].users -= 1;
                self.end_if_idle(entry.owner, now, events);
            }
            _ => {
                self.untranslated -= 1;
                self.destroy(session);
            }
        }
    }

    pub(crate) fn end_if_idle(
        &mut self,
        mapping: u32,
        now: Ticks,
        events: &mut impl Events<Event>,
    ) {
        if self.entries[mapping as usize].is_idle() {
            self.forget_mapping(mapping, now, events);
        }
    }

    /// Ends a mapping that has nothing left to live for.
    fn forget_mapping(&mut self, mapping: u32, now: Ticks, events: &mut impl Events<Event>) {
        self.counts.mappings -= 1;
        self.emit(Change::MappingDeleted, mapping, events);
        let entry = &self.entries[mapping as usize];
        let (protocol, outside) = (entry.protocol(), entry.translation.outside());
        let (hold, is_told) = (self.policy.timeouts.port_hold, entry.flags.has(Flags::TOLD));
        self.subscribers.release(entry.subscriber, protocol);
        if is_told {
            self.ports.release_told(protocol, outside, now, self.known, hold);
        } else {
            self.ports.release(protocol, outside, now, hold);
        }
        self.destroy(mapping);
    }

    /// Notes that the inside has sent to a session's remote address, for address-dependent
    /// filtering.
    pub(crate) fn grant(&mut self, session: u32) -> Decision<()> {
        let entry = self.entries[session as usize];
        if entry.kind() == EntryKind::Bypass {
            return Ok(());
        }
        let (protocol, inside) = (entry.protocol(), entry.translation.inside());
        let permit = match self.find(Key::permit(protocol, inside, entry.remote())) {
            Some(permit) => permit,
            None => self.create(Entry::permit(protocol, inside, entry.remote()))?,
        };
        self.entries[permit as usize].users += 1;
        self.entries[session as usize].flags.insert(Flags::PERMIT);
        Ok(())
    }

    fn revoke(&mut self, session: u32) {
        let entry = self.entries[session as usize];
        if !entry.flags.has(Flags::PERMIT) {
            return;
        }
        let key = Key::permit(entry.protocol(), entry.translation.inside(), entry.remote());
        let permit = self.find(key).expect("a session that counts in a permit has one");
        self.entries[permit as usize].users -= 1;
        if self.entries[permit as usize].users == 0 {
            self.destroy(permit);
        }
    }

    /// Whether filtering lets `remote` open a session (RFC 4787, REQ-8).
    fn is_admitted(&self, protocol: Protocol, inside: Endpoint, remote: Endpoint) -> bool {
        match self.policy.filtering {
            Filtering::EndpointIndependent => true,
            Filtering::AddressDependent => {
                self.find(Key::permit(protocol, inside, remote)).is_some()
            }
            // Whom the inside has sent to has a session already.
            Filtering::AddressAndPortDependent => false,
        }
    }

    fn check_hairpin(&self, record: &Record) -> Decision<()> {
        if self.is_inside(record.dst) {
            return refuse(DropReason::NotOurs);
        }
        if !self.is_public(record.dst) {
            return Ok(());
        }
        if !self.policy.hairpinning {
            return refuse(DropReason::HairpinOff);
        }
        if record.kind == Kind::IcmpRequest {
            return refuse(DropReason::IcmpQueryUnsolicited);
        }
        match self.ports.lookup(record.protocol, record.dst) {
            Lookup::Owned(_) => Ok(()),
            _ => refuse(DropReason::NoMapping),
        }
    }

    fn has_room(&mut self, record: &Record, wanted: u32) -> Decision<()> {
        if self.room() >= wanted {
            return Ok(());
        }
        if self.told.is_enough(record.now) {
            return refuse(DropReason::SessionsFull);
        }
        match self.subscribers.find(record.src.addr) {
            Some(subscriber) => Err(self.tell(subscriber, DropReason::SessionsFull, record.now)),
            None => refuse(DropReason::SessionsFull),
        }
    }

    /// The verdict on a packet that gets no mapping: its sender is told (RFC 6888, REQ-11), but
    /// not for every packet.
    fn tell(&mut self, subscriber: u32, reason: DropReason, now: Ticks) -> Verdict {
        if self.subscribers.may_tell(subscriber, now) {
            self.told.note(now);
            exhausted(reason)
        } else {
            Verdict::Drop(reason)
        }
    }

    /// How many entries more there can be.
    pub(crate) fn room(&self) -> u32 {
        self.free.capacity() - self.free.len()
    }

    fn is_excluded(&self, remote: Endpoint) -> bool {
        self.policy.exclude.iter().any(|net| is_in(remote.addr, net))
    }

    pub(crate) fn is_public(&self, endpoint: Endpoint) -> bool {
        self.ports.pool().index(endpoint.addr).is_some()
    }

    fn is_inside(&self, endpoint: Endpoint) -> bool {
        self.inside.iter().any(|net| is_in(endpoint.addr, net))
    }

    pub(crate) fn emit(&self, change: Change, index: u32, events: &mut impl Events<Event>) {
        let entry = &self.entries[index as usize];
        let of_mapping = matches!(change, Change::MappingCreated | Change::MappingDeleted);
        let remote = if of_mapping { Endpoint::default() } else { entry.remote() };
        events.emit(Event {
            change,
            index,
            protocol: entry.protocol(),
            inside: entry.translation.inside(),
            outside: entry.translation.outside(),
            remote,
            state: if of_mapping { None } else { entry.connection.state() },
            before: None,
        });
    }

    /// A session's connection has left a state.
    pub(crate) fn emit_update(
        &self,
        session: u32,
        before: Option<State>,
        events: &mut impl Events<Event>,
    ) {
        let entry = &self.entries[session as usize];
        events.emit(Event {
            change: Change::SessionUpdated,
            index: session,
            protocol: entry.protocol(),
            inside: entry.translation.inside(),
            outside: entry.translation.outside(),
            remote: entry.remote(),
            state: entry.connection.state(),
            before,
        });
    }
}

fn exhausted(reason: DropReason) -> Verdict {
    Verdict::Reject(reason, IcmpError::HOST_UNREACHABLE)
}

/// Whether a packet may be the first of a session: a UDP datagram, a TCP SYN, an ICMP query.
fn begins_session(record: &Record) -> Decision<()> {
    match record.kind {
        Kind::Udp | Kind::IcmpRequest => Ok(()),
        Kind::Tcp => {
            let flags = record.tcp.flags;
            if flags.has(TcpFlags::SYN) && !flags.has(TcpFlags::ACK) {
                Ok(())
            } else {
                refuse(DropReason::TcpNoSession)
            }
        }
        _ => refuse(DropReason::IcmpReplyUnasked),
    }
}

fn connection(from: Side, record: &Record) -> Connection {
    match record.protocol {
        Protocol::Tcp => Connection::open(from, &record.tcp),
        _ => Connection::default(),
    }
}

#[cfg(test)]
mod tests {
    use krono_core::carve;
    use krono_core::packet::{FlowMeta, PacketMeta};
    use krono_core::program::Program;
    use krono_core::table::{Bucket, FlowTable};
    use krono_core::time::Moment;
    use zerocopy::IntoBytes;

    use super::*;
    use crate::config::{Config, Firewall, Policy, Timeouts};
    use crate::nat::Probe;

    const NOW: Ticks = Ticks(1000);

    fn config() -> Config {
        Config {
            sessions: 64,
            subscribers: 64,
            pool: vec!["198.51.100.1/32".parse().unwrap()],
            inside: vec!["100.64.0.0/16".parse().unwrap()],
            ports: 1024..=65535,
            ports_per_subscriber: 64,
            seed: [7; 32],
            policy: Policy {
                filtering: Filtering::AddressAndPortDependent,
                hairpinning: true,
                timeouts: Timeouts { port_hold: Span(0), ..Timeouts::default() },
                exclude: vec![],
                statics: vec![],
                firewall: Firewall::default(),
            },
        }
    }

    fn send(nat: &mut Nat<'_>, host: u8, now: Ticks, events: &mut Vec<Event>) -> Verdict {
        let flow = FlowMeta {
            src: Endpoint::new([100, 64, 0, host].into(), 5000),
            dst: Endpoint::new([203, 0, 113, 1].into(), 53),
            kind: Kind::Udp,
            protocol: Protocol::Udp,
            ..FlowMeta::default()
        };
        let meta = PacketMeta { flow, ..PacketMeta::default() };
        let record = Nat::record(&meta, Side::Inside, Moment::from(now));
        nat.step(&record, &Probe::default(), events)
    }

    /// Random keys never find a table full whose records are not: this one has 16 slots for 64.
    #[test]
    fn a_mapping_that_the_flow_table_has_no_room_for_leaves_no_trace() {
        let (mut buckets, mut events) = ([Bucket::EMPTY; 2], Vec::new());
        let mut memory = carve::heap(Nat::memory_bytes(&config()));
        let mut nat = Nat::new(&config(), memory.as_mut_bytes(), NOW).expect("no static ones");
        nat.table = FlowTable::new(&mut buckets);
        let slots = nat.table.capacity() as u8;
        for host in 0..slots {
            let verdict = send(&mut nat, host, NOW, &mut events);
            assert!(matches!(verdict, Verdict::Forward { .. }), "{host}: {verdict:?}");
        }
        let (counts, changes) = (nat.counts(), events.len());
        for host in slots..3 * slots {
            let refusal = exhausted(DropReason::SessionsFull);
            assert_eq!(send(&mut nat, host, NOW, &mut events), refusal);
            nat.assert_consistent();
        }
        assert_eq!((nat.counts(), events.len()), (counts, changes));

        let later = NOW.after(Span::from_secs(1000));
        while nat.tick(later, &mut events) {}
        assert_eq!(nat.counts().sessions, 0);
        let verdict = send(&mut nat, slots, later, &mut events);
        assert!(matches!(verdict, Verdict::Forward { .. }), "{verdict:?}");
        nat.assert_consistent();
    }
}
