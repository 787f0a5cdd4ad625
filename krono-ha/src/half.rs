//! One half of a pair: a shard's twin on one server, with all that it knows of the other.
//!
//! The house owns the sockets, the clock and the routes. On the packet thread it
//!
//! * hands [`Half::changes`] to the program as the sink of its events,
//! * hands in each frame that comes for this half ([`Half::receive`]),
//! * asks for frames to send ([`Half::poll`]), a few after each burst,
//! * sees to the rest at each housekeeping ([`Half::tend`]), and then has the program's time pass
//!   if [`Role::expires`], and only its ports' otherwise.
//!
//! It decides packets while [`Role::serves`], and announces routes accordingly.

use krono_core::time::{Moment, Span, Ticks};
use krono_core::twin::{Life, Standing, Twin};

use crate::frame::{BODY_MAX, Codec, HEADER_LEN, Header, Key, Kind, Rejected, Window, facts};
use crate::inbox::{Inbox, Purpose};
use crate::outbox::{Changes, Outbox, Part};
use crate::roles::{self, Claim, Peer, Role, View};
use crate::sums::Ranges;

/// Incarnations of the peer that are remembered so that none is believed again.
const RETIRED: usize = 8;

/// How a half works.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The shard.
    pub shard: u32,
    /// This node, and the other.
    pub node: u32,
    /// The other.
    pub peer: u32,
    /// This node's place in the shard's preference, 0 first.
    pub rank: u8,
    /// Changes that may wait to be sent. What finds no room is told by comparing.
    pub notes_max: usize,
    /// Indices of the program's entries.
    pub entries_max: usize,
    /// Polls after which a frame is sent though it is not full.
    pub flush_polls: u32,
    /// Indices that a walk for the other looks at in a poll.
    pub walk_budget: u32,
    /// Indices that each other walk looks at in a housekeeping.
    pub tend_budget: u32,
    /// The longest time between two frames, ns.
    pub heartbeat_ns: u64,
    /// After so long without a frame the other is silent, ns: some heartbeats.
    pub silence_ns: u64,
    /// How long routes take to converge at most, ns.
    pub linger_ns: u64,
    /// How often sums are compared though nothing was missed, ns.
    pub compare_ns: u64,
    /// How long a port that is given up stays out of use.
    pub port_hold: Span,
    /// Heartbeats after which something is asked for again.
    pub patience: u32,
}

/// The other half, as it last described itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Other {
    incarnation: u64,
    window: Window,
    pub(crate) view: View,
    pub(crate) in_sync: bool,
    offer: u32,
    /// The offer of this half that it has taken.
    taken: u32,
    pub(crate) heard_at: Moment,
    pub(crate) queued: u32,
}

/// One half, see the [module](self).
pub struct Half<T: Twin> {
    settings: Settings,
    codec: Codec,
    incarnation: u64,
    number: u64,
    pub(crate) outbox: Outbox<T>,
    pub(crate) inbox: Inbox,
    pub(crate) role: Role,
    pub(crate) epoch: u64,
    pub(crate) is_current: bool,
    pub(crate) routes_up: bool,
    /// The operator's word that the other does not run, and when.
    fenced_at: Option<Ticks>,
    pub(crate) other: Option<Other>,
    /// Whether the other has been heard of lately.
    pub(crate) is_live: bool,
    /// For how long it has not, ns: of the time in which this half ran itself.
    quiet_ns: u64,
    tended_at: Moment,
    /// An incarnation that has been heard of, and has not heard of this one yet.
    candidate: u64,
    retired: [u64; RETIRED],
    /// What this half has and the other may not have, by number; 0 if there is no such thing.
    offer: u32,
    offers: u32,
    /// The last offer of the other that was taken.
    taken: u32,
    yielded_at: Moment,
    beat_at: Moment,
    compared_at: Moment,
    /// How far the walk is that gives entries the time that they have in this role.
    retimed: Option<u32>,
    pub(crate) rejected: [u64; Rejected::COUNT],
    pub(crate) last_rejected: Option<Rejected>,
}

impl<T: Twin> Half<T> {
    /// The half of a program that has just started. `incarnation` is random, and another one after
    /// each start. Nothing is allocated after this.
    ///
    /// # Panics
    /// If the incarnation is 0, or the settings are impossible.
    pub fn new(settings: Settings, key: Key, store: &T, incarnation: u64, now: Moment) -> Half<T> {
        assert!(incarnation != 0, "an incarnation is not 0");
        assert!(settings.node != settings.peer, "a node is not its own twin");
        assert!(settings.silence_ns > settings.heartbeat_ns, "heartbeats come before silence");
        let Settings { shard, node, peer, .. } = settings;
        Half {
            outbox: Outbox::new(key.seed(), settings.notes_max, now),
            inbox: Inbox::new(settings.entries_max),
            codec: Codec::new::<T::Entry>(key, store.layout(), shard, node, peer),
            incarnation,
            number: 0,
            role: Role::Following,
            epoch: 0,
            is_current: false,
            routes_up: false,
            fenced_at: None,
            other: None,
            is_live: false,
            quiet_ns: 0,
            tended_at: now,
            candidate: 0,
            retired: [0; RETIRED],
            offer: 0,
            offers: 0,
            taken: 0,
            yielded_at: now,
            beat_at: Moment(0),
            compared_at: now,
            retimed: None,
            rejected: [0; Rejected::COUNT],
            last_rejected: None,
            settings,
        }
    }

    /// Where the program's changes go.
    #[inline]
    pub fn changes(&mut self) -> &mut Changes<T> {
        &mut self.outbox.changes
    }

    /// What it does now.
    #[inline]
    pub fn role(&self) -> Role {
        self.role
    }

    pub(crate) fn rank(&self) -> u8 {
        self.settings.rank
    }

    /// Whether routes lead here, or would if this half served: as the house finds.
    pub fn set_routes(&mut self, are_up: bool) {
        self.routes_up = are_up;
    }

    /// The other, as it last described itself, if it has been heard of lately.
    pub fn peer(&self) -> Option<View> {
        self.other.filter(|_| self.is_live).map(|other| other.view)
    }

    /// Changes that wait to be sent.
    #[inline]
    pub fn queued(&self) -> usize {
        self.outbox.queued()
    }

    /// Has the next frame that is asked for say how this half stands, however little time has passed.
    pub fn hurry(&mut self) {
        self.beat_at = Moment(0);
    }

    /// Has the other serve as soon as it has everything. Nothing happens while this one does not.
    pub fn drain(&mut self) {
        if self.role == Role::Serving {
            self.role = Role::Draining;
        }
    }

    /// Takes that back, as long as the other has not begun to serve.
    pub fn keep(&mut self) {
        if self.role == Role::Draining {
            self.role = Role::Serving;
        }
    }

    /// The operator's word: the other does not run, and when it does, it will have started anew. It
    /// holds until the other is heard of. This half serves, if its routes are up, whatever it
    /// knows; all ports are its own once those of the other have been held as long as any.
    pub fn fence(&mut self, now: Moment) {
        self.fenced_at = Some(now.ticks());
        self.part_from_other();
    }

    /// Takes a frame from the other.
    ///
    /// # Errors
    /// The reason why it is refused; it is counted.
    pub fn receive(&mut self, store: &mut T, frame: &[u8], now: Moment) -> Result<(), Rejected> {
        let opened = self.codec.open(frame).and_then(|(header, body)| {
            let is_believed =
                meet(&mut self.other, &self.retired, self.incarnation, self.is_live, header)?;
            Ok((header, body, is_believed))
        });
        match opened {
            Ok((header, body, is_believed)) => {
                self.last_rejected = None;
                if is_believed {
                    self.take(store, header, body, now);
                } else {
                    self.candidate = header.incarnation.get();
                }
                Ok(())
            }
            Err(reason) => {
                self.rejected[reason.index()] += 1;
                self.last_rejected = Some(reason);
                Err(reason)
            }
        }
    }

    /// Takes what a frame says that is believed.
    fn take(&mut self, store: &mut T, header: &Header, body: &[u8], now: Moment) {
        if self.other.is_none_or(|other| other.incarnation != header.incarnation.get()) {
            self.meet_anew();
            self.other = Some(Other::met(header, now));
        }
        if self.fenced_at.take().is_some() {
            store.set_alone(false);
        }
        let Some(other) = &mut self.other else { return };
        other.hear(header, now);
        self.quiet_ns = 0;
        let epoch = other.view.claim.epoch;
        (self.is_live, self.outbox.changes.is_heard, self.candidate) = (true, true, 0);
        self.outbox.acknowledge(header.ack.get());
        self.change_role(now);
        self.epoch = self.epoch.max(if self.role.expires() { 0 } else { epoch });
        self.change_purpose();
        let is_in_time = self.inbox.follow(header);
        let has_taken = match header.kind() {
            Kind::Records if is_in_time => {
                let standing = if self.role.expires() { Standing::Past } else { Standing::Master };
                let changes = &mut self.outbox.changes;
                self.inbox.take(body, standing, store, changes, now.ticks());
                false
            }
            Kind::WalkEnd if is_in_time => self.inbox.end_walk(header.request.get()),
            Kind::Sums => self.inbox.take_sums(header, body, &self.outbox.changes),
            Kind::AskSums => {
                self.outbox.ask_sums(header.request.get());
                false
            }
            Kind::AskWalk => {
                let ranges = Ranges(body.try_into().expect("the frame's length was looked at"));
                self.outbox.ask_walk(header.request.get(), ranges);
                false
            }
            Kind::Hello | Kind::Records | Kind::WalkEnd => false,
        };
        if has_taken {
            self.taken = header.offer.get();
        }
        self.change_purpose();
    }

    /// The other has started anew.
    fn meet_anew(&mut self) {
        self.part_from_other();
        if let Some(old) = self.other {
            self.retire(old.incarnation);
        }
        self.taken = 0;
        self.inbox.forget_peer();
    }

    fn retire(&mut self, incarnation: u64) {
        self.retired.rotate_right(1);
        self.retired[0] = incarnation;
    }

    /// The other is silent.
    fn part_from_other(&mut self) {
        (self.is_live, self.outbox.changes.is_heard) = (false, false);
        self.outbox.forget_peer();
    }

    /// This half, as the other is told.
    fn view(&self) -> View {
        let claim = Claim { epoch: self.epoch, rank: self.settings.rank, node: self.settings.node };
        let yields = match self.role {
            Role::Following => false,
            Role::Draining => self.is_followed(),
            Role::Serving | Role::Yielded => !self.routes_up,
        };
        let Half { role, routes_up, is_current, .. } = *self;
        View { role, claim, routes_up, is_current, yields }
    }

    /// Whether the other has all there is but for what changes just now.
    fn is_followed(&self) -> bool {
        self.is_live && self.other.is_some_and(|other| other.in_sync) && self.outbox.is_in_time()
    }

    /// Serves, or stops to, if that is right now.
    fn change_role(&mut self, now: Moment) {
        let peer = match self.other {
            Some(other) if self.is_live => Peer::Live(other.view),
            _ if self.fenced_at.is_some() => Peer::Fenced,
            _ => Peer::Silent,
        };
        let lingered = now.0.saturating_sub(self.yielded_at.0) >= self.settings.linger_ns;
        let next = roles::next(&self.view(), &peer, lingered);
        if next == self.role {
            return;
        }
        match next {
            Role::Serving => {
                let seen = self.other.map_or(0, |other| other.view.claim.epoch);
                self.epoch = self.epoch.max(seen) + 1;
                (self.is_current, self.offer) = (true, 0);
            }
            Role::Yielded => self.yielded_at = now,
            Role::Following => {
                self.offers += 1;
                self.offer = self.offers;
            }
            Role::Draining => {}
        }
        if next != Role::Yielded {
            self.retimed = Some(0);
        }
        self.role = next;
        self.outbox.changes.is_source = next.serves();
        // Whatever was told before was told in another role.
        self.outbox.changes.position += 1;
    }

    /// What the other's word is for now.
    fn change_purpose(&mut self) {
        let purpose = match self.other {
            Some(other) if self.is_live => {
                if self.offer != 0 && other.taken == self.offer {
                    self.offer = 0;
                }
                match self.role {
                    Role::Following if self.offer != 0 => Purpose::None,
                    Role::Following if other.view.role.serves() => Purpose::Follow,
                    Role::Following if !self.is_current && other.view.is_current => Purpose::Follow,
                    Role::Serving | Role::Draining
                        if other.offer != 0 && other.offer != self.taken =>
                    {
                        Purpose::Merge { offer: other.offer }
                    }
                    _ => Purpose::None,
                }
            }
            _ => self.inbox.purpose(),
        };
        self.inbox.set_purpose(purpose);
        self.is_current |= purpose == Purpose::Follow && self.inbox.is_synced();
    }

    /// The next frame to send, written into `out`: its length. A few are to be asked for after each
    /// burst, as long as there are any.
    ///
    /// # Panics
    /// If `out` has less than [`crate::frame::FRAME_MAX`] bytes.
    pub fn poll(&mut self, store: &mut T, now: Moment, out: &mut [u8]) -> Option<usize> {
        let body = &mut out[HEADER_LEN..HEADER_LEN + BODY_MAX];
        let part = match self.beat(now, body) {
            None if self.is_live => self.outbox.poll(store, now, &self.settings, body),
            beat => beat,
        }?;
        let header = self.header(&part);
        Some(self.codec.seal_around(header, part.len, out))
    }

    /// What is to be said at every heartbeat: what is wanted, or that this half lives.
    fn beat(&mut self, now: Moment, body: &mut [u8]) -> Option<Part> {
        if now.0 < self.beat_at.0 {
            return None;
        }
        self.beat_at = Moment(now.0 + self.settings.heartbeat_ns);
        let asked = if self.is_live { self.inbox.asks(self.settings.patience) } else { None };
        let (kind, request) = asked.unwrap_or((Kind::Hello, 0));
        let mut len = 0;
        if kind == Kind::AskWalk {
            let ranges = &self.inbox.ranges().0;
            body[..ranges.len()].copy_from_slice(ranges);
            len = ranges.len();
        }
        Some(Part { kind, request, first: 0, count: len as u8, len })
    }

    fn header(&mut self, part: &Part) -> Header {
        self.number += 1;
        let view = self.view();
        let in_sync = self.role == Role::Following && self.inbox.is_synced();
        let facts = [
            (view.routes_up, facts::ROUTES_UP),
            (view.is_current, facts::IS_CURRENT),
            (in_sync, facts::IN_SYNC),
            (view.yields, facts::YIELDS),
        ];
        let facts = facts.iter().filter(|(holds, _)| *holds).fold(0, |all, (_, fact)| all | fact);
        let heard = match self.other {
            // One that has started anew is answered when the one before it is certainly gone.
            Some(other) if self.is_live || self.candidate == 0 => other.incarnation,
            _ => self.candidate,
        };
        Header {
            count: part.count,
            incarnation: self.incarnation.into(),
            number: self.number.into(),
            epoch: view.claim.epoch.into(),
            rank: view.claim.rank,
            facts: facts.into(),
            request: part.request.into(),
            position: self.outbox.changes.position.into(),
            heard: heard.into(),
            ack: self.inbox.acknowledged().into(),
            queued: (self.outbox.queued() as u32).into(),
            taken: self.taken.into(),
            offer: self.offer.into(),
            first: part.first.into(),
            ..Header::of(part.kind, self.role)
        }
    }

    /// Sees to the other's silence, to the sums, and to what the other has given up. Each part is
    /// bounded.
    pub fn tend(&mut self, store: &mut T, now: Moment) {
        let Settings { heartbeat_ns, silence_ns, .. } = self.settings;
        // What was said while this half did not run waits to be read: one that was frozen would else
        // claim what the other serves.
        self.quiet_ns += now.0.saturating_sub(self.tended_at.0).min(heartbeat_ns);
        self.tended_at = now;
        if self.is_live && self.quiet_ns >= silence_ns {
            self.part_from_other();
        }
        self.change_role(now);
        self.change_purpose();
        let (budget, ticks) = (self.settings.tend_budget, now.ticks());
        self.outbox.changes.sums.walk(store, budget);
        self.inbox.sweep(store, &mut self.outbox.changes, ticks, budget);
        self.retime(store, ticks);
        self.outbox.note_known(now);
        let known = match self.fenced_at {
            // One that does not run has given up everything.
            Some(fenced_at) => {
                store.set_alone(ticks.reached(fenced_at.after(self.settings.port_hold)));
                ticks
            }
            None => self.outbox.known_ticks(),
        };
        store.acknowledge(known, ticks);
        if now.0.saturating_sub(self.compared_at.0) >= self.settings.compare_ns {
            self.compared_at = now;
            self.inbox.compare_again();
        }
    }

    /// Gives entries the time that they have in this role.
    fn retime(&mut self, store: &mut T, now: Ticks) {
        let Some(from) = self.retimed else { return };
        let life = if self.role.expires() { Life::Full } else { Life::Endless };
        let end = store.end().min(from.saturating_add(self.settings.tend_budget));
        (from..end).for_each(|index| store.retime(index, now, life));
        self.retimed = (end < store.end()).then_some(end);
    }
}

/// Sees whether a frame is from the other as it is now, and of those that are believed whether it
/// has come before. One that has not heard of this half may be a recording, and is not believed.
fn meet(
    other: &mut Option<Other>,
    retired: &[u64],
    own: u64,
    is_live: bool,
    header: &Header,
) -> Result<bool, Rejected> {
    let incarnation = header.incarnation.get();
    let has_heard = header.heard.get() == own;
    if retired.contains(&incarnation) {
        return Err(Rejected::Outdated);
    }
    match other {
        Some(other) if other.incarnation == incarnation => {
            if other.window.take(header.number.get()) {
                Ok(has_heard)
            } else {
                Err(Rejected::Replayed)
            }
        }
        Some(_) if is_live => Err(Rejected::Outdated),
        _ => Ok(has_heard),
    }
}

impl Other {
    /// One that was just met.
    fn met(header: &Header, now: Moment) -> Other {
        let mut other = Other {
            incarnation: header.incarnation.get(),
            window: Window::default(),
            view: header.view(),
            in_sync: false,
            offer: 0,
            taken: 0,
            heard_at: now,
            queued: 0,
        };
        other.window.take(header.number.get());
        other
    }

    fn hear(&mut self, header: &Header, now: Moment) {
        self.view = header.view();
        self.in_sync = header.has(facts::IN_SYNC);
        (self.offer, self.taken) = (header.offer.get(), header.taken.get());
        (self.heard_at, self.queued) = (now, header.queued.get());
    }
}

impl Header {
    /// What the sender says of itself.
    fn view(&self) -> View {
        View {
            role: self.role(),
            claim: Claim { epoch: self.epoch.get(), rank: self.rank, node: self.node() },
            routes_up: self.has(facts::ROUTES_UP),
            is_current: self.has(facts::IS_CURRENT),
            yields: self.has(facts::YIELDS),
        }
    }
}
