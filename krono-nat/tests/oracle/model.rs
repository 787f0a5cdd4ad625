//! The rules of the translator once more, said as plainly as can be: maps and 64-bit time, no
//! tables, hints, sweeps or shared records. What the rules leave open is taken from the events of
//! the translator and held to its bounds: which public port a mapping has, and when, within half
//! a second, what is over is cleared away.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use ipnet::Ipv4Net;
use krono_core::drop::DropReason;
use krono_core::packet::{Endpoint, Kind, PacketMeta, Protocol, Side, TcpFlags};
use krono_core::program::{IcmpError, Verdict};
use krono_nat::config::{Config, Filtering, Policy, StaticMapping};
use krono_nat::{Change, Counts, Event};

use crate::common::Passed;
use crate::tcp::{Life, Tcp};

/// A subscriber's endpoint of a protocol.
pub type Inside = (Protocol, Endpoint);

type Outcome<T> = Result<T, Verdict>;

pub struct Mapping {
    pub public: Endpoint,
    pub is_static: bool,
    record: u32,
    /// The latest moment up to which the inside has asked for it.
    asked_until: u64,
}

pub struct Session {
    pub translated: bool,
    pub deadline: u64,
    pub tcp: Option<Tcp>,
    record: u32,
    /// Opens the filter for its remote address, if filtering depends on addresses.
    permits: bool,
}

/// A freed port may be given out from `due` on, and must be from `queued` on.
struct Rest {
    due: u64,
    queued: u64,
}

pub struct Oracle {
    pub config: Config,
    pub policy: Policy,
    pub now: u64,
    pub mappings: BTreeMap<Inside, Mapping>,
    pub sessions: BTreeMap<(Inside, Endpoint), Session>,
    /// The one public address of each subscriber that has mappings.
    homes: BTreeMap<Ipv4Addr, Ipv4Addr>,
    told: BTreeMap<Ipv4Addr, u64>,
    /// How many were told at which time.
    told_at: (u64, u32),
    resting: BTreeMap<(Protocol, Endpoint), Rest>,
    /// By protocol, address and class of ports: ports come back in the order they went.
    queued: BTreeMap<(Protocol, Ipv4Addr, bool), u64>,
    events: VecDeque<Event>,
}

fn drop<T>(reason: DropReason) -> Outcome<T> {
    Err(Verdict::Drop(reason))
}

fn reject(reason: DropReason) -> Verdict {
    Verdict::Reject(reason, IcmpError::HOST_UNREACHABLE)
}

impl Oracle {
    pub fn new(config: &Config, now: u64) -> Oracle {
        let mut oracle = Oracle {
            config: config.clone(),
            policy: Policy { statics: vec![], ..config.policy.clone() },
            now,
            mappings: BTreeMap::new(),
            sessions: BTreeMap::new(),
            homes: BTreeMap::new(),
            told: BTreeMap::new(),
            told_at: (0, 0),
            resting: BTreeMap::new(),
            queued: BTreeMap::new(),
            events: VecDeque::new(),
        };
        // A translator that starts emits no events, and uses its records in order.
        let made = config.policy.statics.iter().zip(0..).map(|(wanted, index)| Event {
            change: Change::MappingCreated,
            index,
            protocol: wanted.protocol,
            inside: wanted.inside,
            outside: wanted.outside,
            remote: Endpoint::default(),
            state: None,
            before: None,
        });
        oracle.reload(config.policy.clone(), made.collect()).expect("static mappings fit");
        oracle
    }

    pub fn counts(&self) -> Counts {
        Counts {
            sessions: self.sessions.len() as u64,
            mappings: self.mappings.len() as u64,
            subscribers: self.homes.len() as u64,
        }
    }

    /// What becomes of a packet; `events` is what the translator says it did.
    pub fn packet(
        &mut self,
        side: Side,
        meta: &PacketMeta,
        events: Vec<Event>,
    ) -> Result<Passed, Verdict> {
        self.events = events.into();
        let outcome = match (meta.kind, side) {
            (Kind::IcmpError, Side::Inside) => self.error_out(meta),
            (Kind::IcmpError, Side::Outside) => self.error_in(meta),
            (_, Side::Inside) => self.packet_out(meta),
            (_, Side::Outside) => self.packet_in(meta),
        };
        assert!(self.events.is_empty(), "no reason for {:?} ({outcome:?})", self.events);
        outcome
    }

    /// Time has passed: whatever has ended was over.
    pub fn tick(&mut self, events: Vec<Event>) {
        self.events = events.into();
        self.bury();
        assert!(self.events.is_empty(), "time does not do {:?}", self.events);
    }

    /// What is over is gone half a second later, as promised.
    pub fn assert_nothing_is_late(&self) {
        for (key, session) in &self.sessions {
            assert!(self.now <= session.deadline + 4, "{key:?} ended at {}", session.deadline);
        }
    }

    fn packet_out(&mut self, meta: &PacketMeta) -> Outcome<Passed> {
        let inside = (meta.protocol, meta.src);
        if meta.kind == Kind::IcmpReply {
            // RFC 5508, REQ-7: queries reach only hosts that are not translated.
            match self.live(inside, meta.dst) {
                Some(session) if !session.translated => {}
                _ => return drop(DropReason::IcmpReplyUnasked),
            }
        } else if self.live(inside, meta.dst).is_none() {
            self.open_from_inside(meta)?;
        }
        self.note(inside, meta.dst, Side::Inside, meta);
        if !self.sessions[&(inside, meta.dst)].translated {
            return Ok(Passed { to: Side::Outside, src: meta.src, dst: meta.dst });
        }
        let src = self.mappings[&inside].public;
        if !self.is_public(meta.dst) {
            return Ok(Passed { to: Side::Outside, src, dst: meta.dst });
        }
        // RFC 4787, REQ-9: the other subscriber sees the public endpoint.
        let dst = self.deliver(meta.dst, src, meta)?;
        Ok(Passed { to: Side::Inside, src, dst })
    }

    fn packet_in(&mut self, meta: &PacketMeta) -> Outcome<Passed> {
        let dst = if self.is_public(meta.dst) {
            if meta.kind == Kind::IcmpRequest {
                return drop(DropReason::IcmpQueryUnsolicited);
            }
            self.deliver(meta.dst, meta.src, meta)?
        } else {
            let inside = (meta.protocol, meta.dst);
            if self.live(inside, meta.src).is_none_or(|session| session.translated) {
                self.open_untranslated_from_outside(meta)?;
            }
            self.note(inside, meta.src, Side::Outside, meta);
            meta.dst
        };
        Ok(Passed { to: Side::Inside, src: meta.src, dst })
    }

    fn error_out(&self, meta: &PacketMeta) -> Outcome<Passed> {
        let unknown = Verdict::Drop(DropReason::IcmpErrorNoSession);
        let inside = (meta.protocol, meta.src);
        let session = self.live(inside, meta.dst).filter(|_| meta.to == meta.dst.addr);
        if !session.ok_or(unknown)?.translated {
            return Ok(Passed { to: Side::Outside, src: meta.src, dst: meta.dst });
        }
        let src = self.mappings[&inside].public;
        if !self.is_public(meta.dst) {
            return Ok(Passed { to: Side::Outside, src, dst: meta.dst });
        }
        let to = self.owner(meta.protocol, meta.dst).ok_or(unknown)?;
        self.live(to, src).filter(|session| session.translated).ok_or(unknown)?;
        Ok(Passed { to: Side::Inside, src, dst: to.1 })
    }

    fn error_in(&self, meta: &PacketMeta) -> Outcome<Passed> {
        let unknown = Verdict::Drop(DropReason::IcmpErrorNoSession);
        let translated = self.is_public(meta.dst);
        let inside = match translated {
            true => self.owner(meta.protocol, meta.dst).ok_or(unknown)?,
            false => (meta.protocol, meta.dst),
        };
        let session = self.live(inside, meta.src).filter(|_| meta.to == meta.dst.addr);
        session.filter(|session| session.translated == translated).ok_or(unknown)?;
        Ok(Passed { to: Side::Inside, src: meta.src, dst: inside.1 })
    }

    fn open_from_inside(&mut self, meta: &PacketMeta) -> Outcome<()> {
        self.bury();
        let inside = (meta.protocol, meta.src);
        begins(meta)?;
        let permits = usize::from(self.policy.filtering == Filtering::AddressDependent);
        let is_new = !self.mappings.contains_key(&inside);
        if is_new && self.room() <= permits && self.told_enough() {
            return drop(DropReason::SessionsFull);
        }
        self.firewall_admits(Side::Inside, meta.protocol, meta.src, meta.dst)?;
        if self.is_excluded(meta.dst) {
            return self.open(inside, meta.dst, Side::Inside, false, meta);
        }
        if self.is_inside(meta.dst) {
            return drop(DropReason::NotOurs);
        }
        if self.is_public(meta.dst) {
            if !self.policy.hairpinning {
                return drop(DropReason::HairpinOff);
            }
            if meta.kind == Kind::IcmpRequest {
                return drop(DropReason::IcmpQueryUnsolicited);
            }
            if self.owner(meta.protocol, meta.dst).is_none() {
                return drop(DropReason::NoMapping);
            }
        }
        if is_new {
            self.open_mapping(inside, 1 + permits)?;
        } else if self.room() < permits + usize::from(self.has_first_session(inside)) {
            if self.told_enough() {
                return drop(DropReason::SessionsFull);
            }
            return Err(self.tell(inside.1.addr, DropReason::SessionsFull));
        }
        self.open(inside, meta.dst, Side::Inside, true, meta)
    }

    /// A packet for a public endpoint; the subscriber's endpoint that gets it.
    fn deliver(&mut self, to: Endpoint, from: Endpoint, meta: &PacketMeta) -> Outcome<Endpoint> {
        let owner = self.owner(meta.protocol, to);
        let session = owner.and_then(|inside| self.live(inside, from));
        if session.is_none_or(|session| !session.translated) {
            self.bury();
            self.open_from_outside(to, from, meta)?;
        }
        let inside = owner.expect("a session has an owner");
        self.note(inside, from, Side::Outside, meta);
        Ok(inside.1)
    }

    fn open_from_outside(
        &mut self,
        to: Endpoint,
        from: Endpoint,
        meta: &PacketMeta,
    ) -> Outcome<()> {
        let Some(inside) = self.owner(meta.protocol, to) else {
            return drop(DropReason::NoMapping);
        };
        let mapping = &self.mappings[&inside];
        if !mapping.is_static {
            if mapping.asked_until <= self.now {
                return drop(DropReason::NoMapping);
            }
            let admitted = match self.policy.filtering {
                Filtering::EndpointIndependent => true,
                Filtering::AddressDependent => self.permits().contains(&(inside, from.addr)),
                Filtering::AddressAndPortDependent => false,
            };
            if !admitted {
                return drop(DropReason::Filtered);
            }
        }
        if self.live(inside, from).is_some() {
            // An untranslated session: two endpoints have one.
            return drop(DropReason::Filtered);
        }
        begins(meta)?;
        self.firewall_admits(Side::Outside, meta.protocol, from, inside.1)?;
        self.open(inside, from, Side::Outside, true, meta)
    }

    fn open_untranslated_from_outside(&mut self, meta: &PacketMeta) -> Outcome<()> {
        self.bury();
        let inside = (meta.protocol, meta.dst);
        let taken = self.live(inside, meta.src).is_some();
        if taken || !self.is_excluded(meta.src) || !self.is_inside(meta.dst) {
            return drop(DropReason::NotOurs);
        }
        begins(meta)?;
        self.firewall_admits(Side::Outside, meta.protocol, meta.src, meta.dst)?;
        self.open(inside, meta.src, Side::Outside, false, meta)
    }

    fn open_mapping(&mut self, inside: Inside, wanted: usize) -> Outcome<()> {
        let (protocol, Endpoint { addr: host, port }) = inside;
        let home = self.homes.get(&host).copied();
        if home.is_none() && self.homes.len() == self.config.subscribers {
            return Err(reject(DropReason::SubscribersFull));
        }
        let has = self.mappings.keys().filter(|(p, at)| *p == protocol && at.addr == host).count();
        if has >= usize::from(self.config.ports_per_subscriber) {
            return Err(self.tell(host, DropReason::SubscriberPorts));
        }
        if self.room() < wanted {
            return Err(self.tell(host, DropReason::SessionsFull));
        }
        let ports = self.ports_for(protocol, port);
        let Some(created) = self.events.pop_front() else {
            assert!(self.is_exhausted(protocol, home, ports), "there is a port for {inside:?}");
            return Err(self.tell(host, DropReason::PortsExhausted));
        };
        let public = created.outside;
        assert!(ports.contains(&public.port), "{public} is not in {ports:?}");
        assert!(self.is_public(public) && home.is_none_or(|home| home == public.addr), "{public}");
        let rests = self.resting.get(&(protocol, public)).is_some_and(|rest| rest.due > self.now);
        assert!(!rests, "{public} rests");
        self.events.push_front(created);
        self.learn_mapping(inside, public, false);
        Ok(())
    }

    /// Takes note of a mapping that the translator has made.
    fn learn_mapping(&mut self, inside: Inside, public: Endpoint, is_static: bool) {
        assert_eq!(self.owner(inside.0, public), None, "no port is overloaded");
        let record = self.expect_new(Change::MappingCreated, inside, public, Endpoint::default());
        self.resting.remove(&(inside.0, public));
        self.homes.entry(inside.1.addr).or_insert(public.addr);
        let mapping = Mapping { public, is_static, record, asked_until: self.now };
        self.mappings.insert(inside, mapping);
    }

    fn open(
        &mut self,
        inside: Inside,
        remote: Endpoint,
        from: Side,
        translated: bool,
        meta: &PacketMeta,
    ) -> Outcome<()> {
        let has_first = !translated || self.has_first_session(inside);
        if has_first && self.room() == 0 {
            return drop(DropReason::SessionsFull);
        }
        let public = if translated { self.mappings[&inside].public } else { inside.1 };
        let record = if has_first {
            self.expect_new(Change::SessionCreated, inside, public, remote)
        } else {
            let record = self.mappings[&inside].record;
            self.expect(Change::SessionCreated, record, inside, public, remote);
            record
        };
        let tcp = (meta.kind == Kind::Tcp).then(|| Tcp::open(from, &meta.tcp));
        let mut deadline = self.now + self.timeout(inside.0, &tcp) + 1;
        if translated && from == Side::Outside && !self.mappings[&inside].is_static {
            deadline = deadline.min(self.mappings[&inside].asked_until);
        }
        let session = Session { translated, deadline, tcp, record, permits: false };
        let before = self.sessions.insert((inside, remote), session);
        assert!(before.is_none(), "{inside:?} {remote} had a session, dead or alive");
        Ok(())
    }

    /// A packet of a session has come.
    fn note(&mut self, inside: Inside, remote: Endpoint, from: Side, meta: &PacketMeta) {
        let session = self.sessions.get_mut(&(inside, remote)).expect("it was found");
        let mut life = Life::GoesOn;
        if let Some(tcp) = &mut session.tcp {
            let before = tcp.state();
            life = tcp.hear(from, &meta.tcp);
            if tcp.state() != before {
                let (record, translated) = (session.record, session.translated);
                let public = if translated { self.mappings[&inside].public } else { inside.1 };
                self.expect(Change::SessionUpdated, record, inside, public, remote);
            }
        }
        let session = &self.sessions[&(inside, remote)];
        let (translated, permits) = (session.translated, session.permits);
        let own = self.now + self.timeout(inside.0, &session.tcp) + 1;
        let closing = self.now + u64::from(self.policy.timeouts.tcp_closing.0) + 1;
        let deadline = match (life, from) {
            (Life::GoesOn, Side::Inside) => own,
            (Life::Ends, _) => closing.min(session.deadline),
            _ => session.deadline,
        };
        self.sessions.get_mut(&(inside, remote)).unwrap().deadline = deadline;
        if from == Side::Outside || !translated {
            return;
        }
        if life == Life::GoesOn {
            let mapping = self.mappings.get_mut(&inside).unwrap();
            mapping.asked_until = mapping.asked_until.max(deadline);
        }
        let has_place = self.room() > 0 || self.permits().contains(&(inside, remote.addr));
        let grants = self.policy.filtering == Filtering::AddressDependent && has_place;
        self.sessions.get_mut(&(inside, remote)).unwrap().permits = permits || grants;
    }

    /// Takes over a new policy; what the translator does at that.
    pub fn reload(&mut self, policy: Policy, events: Vec<Event>) -> Result<(), DropReason> {
        self.events = events.into();
        let old = std::mem::replace(&mut self.policy, policy);
        let wanted = self.policy.statics.clone();
        for gone in old.statics.iter().filter(|old| !wanted.contains(old)) {
            let inside = (gone.protocol, gone.inside);
            if self.has_static(gone) {
                self.mappings.get_mut(&inside).unwrap().is_static = false;
                if !self.is_in_use(inside) {
                    self.end_mapping(inside);
                }
            }
        }
        let mut outcome = Ok(());
        for new in &wanted {
            if !self.has_static(new) {
                outcome = outcome.and(self.make_static(new));
            }
        }
        assert!(self.events.is_empty(), "a reload does not do {:?}", self.events);
        outcome
    }

    fn make_static(&mut self, wanted: &StaticMapping) -> Result<(), DropReason> {
        let inside = (wanted.protocol, wanted.inside);
        if let Some(mapping) = self.mappings.get_mut(&inside)
            && mapping.public == wanted.outside
        {
            mapping.is_static = true;
            return Ok(());
        }
        if self.mappings.contains_key(&inside) {
            self.end_mapping(inside);
        }
        if let Some(owner) = self.owner(wanted.protocol, wanted.outside) {
            self.end_mapping(owner);
        }
        let is_known = self.homes.contains_key(&wanted.inside.addr);
        if !is_known && self.homes.len() == self.config.subscribers {
            return Err(DropReason::SubscribersFull);
        }
        if self.room() == 0 {
            return Err(DropReason::SessionsFull);
        }
        self.learn_mapping(inside, wanted.outside, true);
        Ok(())
    }

    /// Takes note that a mapping was ended with all its sessions, in whatever order.
    fn end_mapping(&mut self, inside: Inside) {
        while self.mappings.contains_key(&inside) {
            let event = self.events.pop_front().expect("a mapping ends with its sessions");
            assert_eq!((event.protocol, event.inside), inside, "{event:?}");
            self.forget(event);
        }
    }

    /// Takes note of what the translator has cleared away just now: it must have been over.
    fn bury(&mut self) {
        while let Some(event) = self.events.front().copied() {
            match event.change {
                Change::SessionDeleted => {
                    let session = &self.sessions[&((event.protocol, event.inside), event.remote)];
                    assert!(session.deadline <= self.now, "early: {event:?}");
                }
                Change::MappingDeleted => {
                    let mapping = &self.mappings[&(event.protocol, event.inside)];
                    assert!(!mapping.is_static, "{event:?}");
                }
                _ => return,
            }
            self.events.pop_front();
            self.forget(event);
        }
    }

    fn forget(&mut self, event: Event) {
        let inside = (event.protocol, event.inside);
        match event.change {
            Change::SessionDeleted => {
                let session = self.sessions.remove(&(inside, event.remote)).expect("it lived");
                assert_eq!(event.index, session.record);
                let public = match session.translated {
                    true => self.mappings[&inside].public,
                    false => inside.1,
                };
                assert_eq!(event.outside, public);
            }
            Change::MappingDeleted => {
                assert!(!self.is_in_use(inside), "{event:?} ends with sessions");
                let mapping = self.mappings.remove(&inside).expect("it lived");
                assert_eq!((event.index, event.outside), (mapping.record, mapping.public));
                self.rest(inside.0, mapping.public);
                if !self.mappings.keys().any(|(_, at)| at.addr == inside.1.addr) {
                    self.homes.remove(&inside.1.addr);
                    self.told.remove(&inside.1.addr);
                }
            }
            _ => panic!("{event:?} ends nothing"),
        }
    }

    /// RFC 6888, REQ-8.
    fn rest(&mut self, protocol: Protocol, public: Endpoint) {
        let hold = u64::from(self.policy.timeouts.port_hold.0);
        if hold == 0 || !self.ports_for(protocol, public.port).contains(&public.port) {
            return;
        }
        let due = self.now + hold + 1;
        let queue = (protocol, public.addr, is_system(protocol, public.port));
        let queued = self.queued.entry(queue).or_default();
        *queued = due.next_multiple_of(4).max(*queued);
        self.resting.insert((protocol, public), Rest { due, queued: *queued });
    }

    /// The first that fits decides; without any, only the inside may begin, or all may.
    fn firewall_admits(
        &self,
        side: Side,
        protocol: Protocol,
        from: Endpoint,
        to: Endpoint,
    ) -> Outcome<()> {
        let firewall = &self.policy.firewall;
        let ports_fit = |rule: &krono_nat::config::Rule| {
            protocol == Protocol::Icmp
                || rule.source_port.contains(&from.port) && rule.port.contains(&to.port)
        };
        let rule = firewall.rules.iter().find(|rule| {
            rule.opened_from == side
                && (rule.protocol == Some(protocol) || rule.protocol.is_none())
                && rule.from.contains(&from.addr)
                && rule.to.contains(&to.addr)
                && ports_fit(rule)
        });
        let default = side == Side::Inside || !firewall.drop_inbound;
        match rule.map_or(default, |rule| rule.allow) {
            true => Ok(()),
            false => drop(DropReason::FirewallRule),
        }
    }

    /// RFC 6888, REQ-11: the sender is told, once a second.
    fn tell(&mut self, host: Ipv4Addr, reason: DropReason) -> Verdict {
        let is_due = self.told.get(&host).is_none_or(|told| self.now - told >= 10);
        if !is_due {
            return Verdict::Drop(reason);
        }
        let (at, count) = self.told_at;
        self.told_at = (self.now, if at == self.now { count + 1 } else { 1 });
        // Of a host without mappings nothing is remembered.
        if self.homes.contains_key(&host) {
            self.told.insert(host, self.now);
        }
        reject(reason)
    }

    /// Whether nobody else is told at this time that sessions are full.
    fn told_enough(&self) -> bool {
        self.told_at.0 == self.now && self.told_at.1 >= 64
    }

    fn timeout(&self, protocol: Protocol, tcp: &Option<Tcp>) -> u64 {
        let timeouts = &self.policy.timeouts;
        let span = match (protocol, tcp.as_ref().map(Tcp::state)) {
            (Protocol::Udp, _) => timeouts.udp,
            (Protocol::Icmp, _) => timeouts.icmp,
            (_, Some("syn_sent" | "syn_received") | None) => timeouts.tcp_opening,
            (_, Some("closing" | "reset")) => timeouts.tcp_closing,
            _ => timeouts.tcp_established,
        };
        u64::from(span.0)
    }

    /// The session of these two, if it is not over.
    fn live(&self, inside: Inside, remote: Endpoint) -> Option<&Session> {
        self.sessions.get(&(inside, remote)).filter(|session| self.now < session.deadline)
    }

    pub fn owner(&self, protocol: Protocol, public: Endpoint) -> Option<Inside> {
        let mut owners =
            self.mappings.iter().filter(|(at, m)| at.0 == protocol && m.public == public);
        owners.next().map(|(inside, _)| *inside)
    }

    /// Which remote addresses may send to whom under address-dependent filtering.
    fn permits(&self) -> BTreeSet<(Inside, Ipv4Addr)> {
        let permitting = self.sessions.iter().filter(|(_, session)| session.permits);
        permitting.map(|((inside, remote), _)| (*inside, remote.addr)).collect()
    }

    /// How many records are left: the first session of a mapping needs none of its own.
    fn room(&self) -> usize {
        let records: BTreeSet<u32> = self.records().collect();
        self.config.sessions - records.len() - self.permits().len()
    }

    fn records(&self) -> impl Iterator<Item = u32> {
        let mappings = self.mappings.values().map(|mapping| mapping.record);
        mappings.chain(self.sessions.values().map(|session| session.record))
    }

    fn is_in_use(&self, inside: Inside) -> bool {
        self.sessions.iter().any(|((at, _), session)| *at == inside && session.translated)
    }

    fn has_first_session(&self, inside: Inside) -> bool {
        let record = self.mappings[&inside].record;
        self.sessions.values().any(|session| session.record == record)
    }

    /// Whether a port may, for all that is promised, not be given out.
    fn is_taken(&self, protocol: Protocol, public: Endpoint) -> bool {
        let rest = self.resting.get(&(protocol, public));
        self.owner(protocol, public).is_some() || rest.is_some_and(|rest| self.now < rest.queued)
    }

    /// Whether a subscriber's home, or any address if it has none yet, may be out of ports.
    fn is_exhausted(
        &self,
        protocol: Protocol,
        home: Option<Ipv4Addr>,
        ports: RangeInclusive<u16>,
    ) -> bool {
        let bits = |net: &Ipv4Net| net.network().to_bits()..=net.broadcast().to_bits();
        let addresses = self.config.pool.iter().flat_map(bits).map(Ipv4Addr::from_bits);
        let mut homes = addresses.filter(|addr| home.is_none_or(|home| home == *addr));
        homes.any(|addr| {
            ports.clone().all(|port| self.is_taken(protocol, Endpoint::new(addr, port)))
        })
    }

    /// The ports that an inside port may be given (RFC 4787, REQ-3a).
    fn ports_for(&self, protocol: Protocol, port: u16) -> RangeInclusive<u16> {
        let (first, last) = (*self.config.ports.start(), *self.config.ports.end());
        match (protocol, first < 1024 && last >= 1024) {
            (Protocol::Icmp, _) => 0..=u16::MAX,
            (_, true) if port < 1024 => first..=1023,
            (_, true) => 1024..=last,
            (_, false) => first..=last,
        }
    }

    fn is_public(&self, endpoint: Endpoint) -> bool {
        self.config.pool.iter().any(|net| net.contains(&endpoint.addr))
    }

    fn is_inside(&self, endpoint: Endpoint) -> bool {
        self.config.inside.iter().any(|net| net.contains(&endpoint.addr))
    }

    fn is_excluded(&self, endpoint: Endpoint) -> bool {
        self.policy.exclude.iter().any(|net| net.contains(&endpoint.addr))
    }

    fn has_static(&self, wanted: &StaticMapping) -> bool {
        let mapping = self.mappings.get(&(wanted.protocol, wanted.inside));
        mapping.is_some_and(|mapping| mapping.is_static && mapping.public == wanted.outside)
    }

    fn expect_new(
        &mut self,
        change: Change,
        inside: Inside,
        outside: Endpoint,
        remote: Endpoint,
    ) -> u32 {
        let Some(index) = self.events.front().map(|event| event.index) else {
            panic!("{change:?} {inside:?} {outside} {remote} is missing");
        };
        assert!(self.records().all(|record| record != index), "record {index} is in use");
        self.expect(change, index, inside, outside, remote);
        index
    }

    fn expect(
        &mut self,
        change: Change,
        index: u32,
        (protocol, inside): Inside,
        outside: Endpoint,
        remote: Endpoint,
    ) {
        let event = self.events.pop_front();
        // States are held against those of the records, see `Copy`.
        let (state, before) = event.map_or((None, None), |event| (event.state, event.before));
        let expected = Event { change, index, protocol, inside, outside, remote, state, before };
        assert_eq!(event, Some(expected));
    }
}

/// Only a datagram, a SYN or a query begins a session.
fn begins(meta: &PacketMeta) -> Outcome<()> {
    let flags = meta.tcp.flags;
    match meta.kind {
        Kind::Tcp if !flags.has(TcpFlags::SYN) || flags.has(TcpFlags::ACK) => {
            drop(DropReason::TcpNoSession)
        }
        Kind::IcmpReply => drop(DropReason::IcmpReplyUnasked),
        _ => Ok(()),
    }
}

fn is_system(protocol: Protocol, port: u16) -> bool {
    protocol != Protocol::Icmp && port < 1024
}
