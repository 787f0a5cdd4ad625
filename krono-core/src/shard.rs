//! A shard: a router around a program, and what becomes of each frame.

use std::hint::cold_path;

use std::net::Ipv4Addr;

use arrayvec::ArrayVec;

use crate::drop::DropReason;
use crate::frame::{BURST_MAX, Frame, Set};
use crate::packet::{Kind, Layout, Mac, PacketMeta, Side};
use crate::parse::{ICMP_ECHO, UDP_HEADER_LEN, datagram, parse_into};
use crate::program::{IcmpError, Program, Slot, Verdict};
use crate::reply;
use crate::rewrite::{self, LinkHeader};
use crate::router::{Admitted, ArpAction, ArpFate, Hop, NeighbourId, Refusal, Router, Way, bfd};
use crate::time::{Moment, Ticks};

/// One shard of state with its own identity: a router on each side, a program between them.
///
/// This is the sharded runner: it makes the record of a packet and steps on it at once.
pub struct Shard<P> {
    /// Addresses, routes and neighbours of both sides.
    pub router: Router,
    /// What decides about packets in transit.
    pub program: P,
    /// Whether it decides at all: a half that only follows its twin does not.
    pub serves: bool,
    /// Where frames from its twin arrive, if it has one.
    pub twin: Option<TwinPort>,
}

/// Where a shard and its twin on another server talk: by UDP, both on the same port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TwinPort {
    /// The side.
    pub side: Side,
    /// The twin's address there.
    pub peer: Ipv4Addr,
    /// The port.
    pub port: u16,
}

/// What is to be done with a frame that was processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The frame's own fate.
    pub action: Action,
    /// The frame that waited for this neighbour may go, before this one.
    pub released: Option<NeighbourId>,
}

/// The fate of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Forward it.
    Send(Side),
    /// Send what is in its buffer now: an answer that the shard made. The frame itself was
    /// dropped for this reason, or consumed.
    Answer(Side, Option<DropReason>),
    /// Free it.
    Drop(DropReason),
    /// Free it: it has done its work.
    Consume,
    /// Keep it until its next hop's address is known: it is complete but for that.
    Hold(Side, NeighbourId),
    /// These bytes of it are from the shard's twin, and for whoever runs the shard, who then says
    /// what else is to be done with it ([`Outcomes::settle`]).
    Deliver {
        /// The first byte of the datagram's payload.
        start: u16,
        /// Behind the last.
        end: u16,
    },
}

impl From<Action> for Outcome {
    #[inline]
    fn from(action: Action) -> Outcome {
        Outcome { action, released: None }
    }
}

/// What the first look at a frame found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found {
    /// Not a packet that can be worked on.
    Broken(DropReason),
    /// The router refuses it.
    Refused(Refusal),
    /// ARP for or from this shard.
    Arp,
    /// For the shard itself.
    Local,
    /// For the program.
    Transit,
}

/// The outcomes of a burst, in the order of its frames.
///
/// Nearly all frames are sent, or dropped in a flood, so that is a bit for each, and only other
/// outcomes are kept whole.
#[derive(Debug, Default)]
pub struct Outcomes {
    len: usize,
    /// By side: a bit for each frame that is to be sent there.
    sent: [u64; 2],
    /// A bit for each frame that is dropped, and why.
    dropped: u64,
    reasons: ArrayVec<DropReason, BURST_MAX>,
    others: ArrayVec<Outcome, BURST_MAX>,
}

impl Outcomes {
    /// None yet.
    pub const fn new() -> Self {
        Outcomes {
            len: 0,
            sent: [0; 2],
            dropped: 0,
            reasons: ArrayVec::new_const(),
            others: ArrayVec::new_const(),
        }
    }

    /// Makes ready for those of so many frames, each of which is noted once and in order.
    #[inline]
    pub(crate) fn begin(&mut self, frames: usize) {
        (self.len, self.sent, self.dropped) = (frames, [0; 2], 0);
        self.reasons.clear();
        self.others.clear();
    }

    /// The frame at `index` is to be sent.
    #[inline]
    pub(crate) fn send(&mut self, index: usize, to: Side) {
        self.sent[to as usize] |= 1 << index;
    }

    /// The frame at `index` is dropped.
    #[inline]
    pub(crate) fn drop(&mut self, index: usize, reason: DropReason) {
        self.dropped |= 1 << index;
        self.reasons.push(reason);
    }

    /// What is to be done with the frame at `index`.
    #[inline]
    pub(crate) fn note(&mut self, index: usize, outcome: impl Into<Outcome>) {
        match outcome.into() {
            Outcome { action: Action::Drop(reason), released: None } => self.drop(index, reason),
            other => self.others.push(other),
        }
    }

    /// The frames that are dropped and nothing else: a bit for each.
    #[inline]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Why they are, in order.
    #[inline]
    pub fn reasons(&self) -> &[DropReason] {
        &self.reasons
    }

    /// The side that all frames but those [dropped](Outcomes::dropped) are to be sent to, if they
    /// are: so it is with most bursts.
    #[inline]
    pub fn rest_to(&self) -> Option<Side> {
        match self.sent {
            _ if !self.others.is_empty() => None,
            [0, 0] => None,
            [_, 0] => Some(Side::Inside),
            [0, _] => Some(Side::Outside),
            _ => None,
        }
    }

    /// Those of all frames but the [dropped](Outcomes::dropped), in order.
    #[inline]
    pub fn rest(&self) -> impl Iterator<Item = Outcome> {
        let mut others = self.others.iter();
        let rest = (0..self.len).filter(|index| self.dropped & 1 << index == 0);
        rest.map(move |index| match self.sent.map(|sent| sent & 1 << index != 0) {
            [true, _] => Action::Send(Side::Inside).into(),
            [_, true] => Action::Send(Side::Outside).into(),
            _ => *others.next().expect("a frame that is neither sent nor dropped has another"),
        })
    }

    /// Whether any frame is to be [delivered](Action::Deliver).
    #[inline]
    pub fn delivers(&self) -> bool {
        self.others.iter().any(|other| matches!(other.action, Action::Deliver { .. }))
    }

    /// Asks of each frame that is to be [delivered](Action::Deliver), in order, what is to be done with
    /// it after that: of its index and the place of its bytes.
    pub fn settle(&mut self, mut deliver: impl FnMut(usize, std::ops::Range<usize>) -> Action) {
        let done = self.dropped | self.sent[0] | self.sent[1];
        let open = (0..self.len).filter(|index| done & 1 << index == 0);
        for (index, other) in open.zip(&mut self.others) {
            if let Action::Deliver { start, end } = other.action {
                other.action = deliver(index, start.into()..end.into());
            }
        }
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = Outcome> {
        let (mut rest, mut reasons) = (self.rest(), self.reasons.iter());
        (0..self.len).map(move |index| match self.dropped & 1 << index {
            0 => rest.next().expect("a frame that is not dropped has an outcome"),
            _ => Action::Drop(*reasons.next().expect("a dropped frame has a reason")).into(),
        })
    }
}

/// What the stages of a burst hand on to each other. It is made once, since clearing it for every
/// burst would cost more than a packet does.
pub struct Scratch<P: Program> {
    pub(crate) packets: [Packet; BURST_MAX],
    pub(crate) steps: [Step<P>; BURST_MAX],
    /// Which of the packets are for the program.
    pub(crate) transit: Set,
    /// What the others are, in order.
    pub(crate) exceptions: ArrayVec<Found, BURST_MAX>,
}

/// A frame as it was parsed: one cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
pub(crate) struct Packet {
    pub(crate) meta: PacketMeta,
    pub(crate) layout: Layout,
}

const _: () = assert!(size_of::<Packet>() == 64);

/// What a program knows of a packet; with a lean record and probe it is one cache line as well.
#[repr(align(64))]
pub(crate) struct Step<P: Program> {
    pub(crate) record: P::Record,
    pub(crate) probe: P::Probe,
}

impl<P: Program> Scratch<P> {
    /// The packet at `index` of a burst that was looked at, if it is for the program.
    #[inline]
    pub fn transit(&self, index: usize) -> Option<&PacketMeta> {
        self.transit.contains(index).then(|| &self.packets[index].meta)
    }

    /// The packet at `index`, for whomever it is, if it could be parsed.
    #[inline]
    pub fn parsed(&self, index: usize) -> Option<&PacketMeta> {
        let exception = || self.exceptions[self.transit.absent_before(index)];
        let is_broken = !self.transit.contains(index) && matches!(exception(), Found::Broken(_));
        (!is_broken).then(|| &self.packets[index].meta)
    }
}

impl<P: Program> Default for Scratch<P> {
    fn default() -> Self {
        Scratch {
            packets: [Packet::default(); BURST_MAX],
            steps: std::array::from_fn(|_| Step {
                record: P::Record::default(),
                probe: P::Probe::default(),
            }),
            transit: Set::default(),
            exceptions: ArrayVec::new(),
        }
    }
}

impl<P: Program> Shard<P> {
    /// A shard of these two.
    pub fn new(router: Router, program: P) -> Self {
        Shard { router, program, serves: true, twin: None }
    }

    /// Writes the address of a neighbour that has answered into the frame that waited for it.
    pub fn release(&self, frame: &mut Frame<'_>, neighbour: NeighbourId) -> bool {
        let link = self.router.link(neighbour);
        rewrite::write_link(frame, link.byte_len(), link)
    }

    /// Parse and admit: nothing here depends on the packets before.
    #[inline]
    pub(crate) fn look(&self, side: Side, frame: &Frame<'_>, packet: &mut Packet) -> Found {
        let Packet { meta, layout } = packet;
        if let Err(reason) = parse_into(frame.bytes(), *frame.wire_len, meta, layout) {
            cold_path();
            return Found::Broken(reason);
        }
        match self.router.admit(side, meta, layout) {
            Ok(Admitted::Transit) if self.serves => Found::Transit,
            Ok(Admitted::Transit) => Found::Refused(DropReason::NotServing.into()),
            Ok(Admitted::Local) => Found::Local,
            Ok(Admitted::Arp) => Found::Arp,
            Err(refusal) => Found::Refused(refusal),
        }
    }

    /// [`Shard::forward`] for nearly all packets: UDP or TCP, without tag and IP options, one end to
    /// be translated, along the `way` that a packet before has gone. False, and nothing done, for
    /// others.
    #[inline(always)]
    pub(crate) fn pass(
        &self,
        to: Side,
        (source, destination): (Slot, Slot),
        bytes: &mut [u8],
        packet: &Packet,
        way: &Way,
    ) -> bool {
        let Packet { meta, layout } = packet;
        let (slot, other) = match to {
            Side::Inside => (destination, source),
            Side::Outside => (source, destination),
        };
        let has_ports = matches!(meta.kind, Kind::Udp | Kind::Tcp);
        if !(has_ports & layout.is_plain() & slot.is_some() & !other.is_some()) {
            return false;
        }
        let translation = self.program.translation(slot);
        let (address, source, destination) = match to {
            Side::Inside => (translation.inside().addr, None, Some(translation)),
            Side::Outside => (meta.to, Some(translation), None),
        };
        self.router.goes(way, to, address, meta.ip_len)
            && rewrite::pass(bytes, meta.kind, source, destination, way.addresses())
    }

    /// Forwards a packet that arrived at `side`; what it finds out on its `way` may hold for the
    /// next ones.
    ///
    /// # Errors
    /// What becomes of it instead if it cannot be sent at once.
    #[inline(never)]
    pub(crate) fn forward(
        &mut self,
        (side, to): (Side, Side),
        (source, destination): (Slot, Slot),
        frame: &mut Frame<'_>,
        packet: &Packet,
        way: &mut Way,
        now: Ticks,
    ) -> Result<(), Action> {
        let Packet { meta, layout } = packet;
        let program = &self.program;
        let translation = |slot: Slot| slot.is_some().then(|| program.translation(slot));
        let (source, destination) = (translation(source), translation(destination));
        let address = destination.map_or(meta.to, |to| to.inside().addr);
        let hop = match self.router.route(to, address, now) {
            Ok(hop) => hop,
            Err(Refusal { reason, error }) => {
                return Err(self.reject(side, reason, error, frame, packet, now));
            }
        };
        let mtu = self.router.mtu(to);
        if meta.ip_len > mtu {
            let (reason, error) = too_big(meta, mtu);
            return Err(self.reject(side, reason, error, frame, packet, now));
        }
        let (Hop::Ready(neighbour) | Hop::Wait(neighbour)) = hop;
        let link = self.router.link(neighbour);
        if !rewrite::forward(frame, layout, meta, source, destination, link) {
            return Err(Action::Drop(DropReason::NoHeadroom));
        }
        match hop {
            Hop::Ready(_) => *way = self.router.way(to, address, neighbour),
            Hop::Wait(_) => return Err(Action::Hold(to, neighbour)),
        }
        Ok(())
    }

    /// Carries out a verdict that is not to forward the packet.
    pub(crate) fn withhold(
        &mut self,
        verdict: Verdict,
        side: Side,
        frame: &mut Frame<'_>,
        packet: &Packet,
        now: Ticks,
    ) -> Action {
        match verdict {
            Verdict::Reject(reason, error) => {
                self.reject(side, reason, Some(error), frame, packet, now)
            }
            Verdict::Consume => Action::Consume,
            Verdict::Drop(reason) => Action::Drop(reason),
            Verdict::Forward { .. } | Verdict::Pass => {
                unreachable!("{verdict:?} withholds nothing")
            }
        }
    }

    /// Drops a packet and, if it may be answered, tells its sender in the same buffer.
    #[cold]
    pub(crate) fn reject(
        &mut self,
        side: Side,
        reason: DropReason,
        error: Option<IcmpError>,
        frame: &mut Frame<'_>,
        packet: &Packet,
        now: Ticks,
    ) -> Action {
        let Some(error) = error.filter(|_| reply::may_answer(&packet.meta)) else {
            return Action::Drop(reason);
        };
        if !self.router.error_allowed(side, now) {
            return Action::Drop(reason);
        }
        let from = self.router.address(side);
        let link = self.answer_link(side, frame);
        match reply::icmp_error(frame, &packet.layout, error, from) {
            Some(l3) if rewrite::write_link(frame, l3, &link) => Action::Answer(side, Some(reason)),
            _ => Action::Drop(DropReason::NoHeadroom),
        }
    }

    /// What becomes of a frame that is not for the program.
    #[cold]
    pub(crate) fn finish_exception(
        &mut self,
        what: Found,
        side: Side,
        frame: &mut Frame<'_>,
        packet: &Packet,
        now: Moment,
    ) -> Outcome {
        match what {
            Found::Broken(reason) => Action::Drop(reason).into(),
            Found::Refused(Refusal { reason, error }) => {
                self.reject(side, reason, error, frame, packet, now.ticks()).into()
            }
            Found::Arp => self.converse(side, frame, packet, now.ticks()),
            Found::Local | Found::Transit => self.deliver(side, frame, packet, now).into(),
        }
    }

    /// A packet for the shard itself: it answers pings, holds BFD sessions, hears its twin, and tells
    /// that no other port is open.
    #[cold]
    pub(crate) fn deliver(
        &mut self,
        side: Side,
        frame: &mut Frame<'_>,
        packet: &Packet,
        now: Moment,
    ) -> Action {
        if packet.meta.kind == Kind::IcmpRequest && packet.meta.icmp_type == ICMP_ECHO {
            let link = self.answer_link(side, frame);
            return match reply::echo_reply(frame, &packet.layout) {
                Some(l3) if rewrite::write_link(frame, l3, &link) => Action::Answer(side, None),
                _ => Action::Drop(DropReason::NoHeadroom),
            };
        }
        let is_udp = packet.meta.kind == Kind::Udp;
        if is_udp && packet.meta.dst.port == bfd::PORT && self.router.speaks_bfd() {
            let payload = datagram(frame.bytes(), &packet.layout, DropReason::BfdChecksumBad);
            let taken = payload.and_then(|it| self.router.on_bfd(side, &packet.meta, it, now));
            return taken.map_or_else(Action::Drop, |()| Action::Consume);
        }
        if is_udp && self.twin.is_some_and(|twin| twin.hears(side, &packet.meta)) {
            let payload = datagram(frame.bytes(), &packet.layout, DropReason::HaChecksumBad);
            let start = packet.layout.l4 + UDP_HEADER_LEN;
            let deliver = |len| Action::Deliver { start, end: start + len };
            return payload.map_or_else(Action::Drop, |payload| deliver(payload.len() as u16));
        }
        let error = is_udp.then_some(IcmpError::PORT_UNREACHABLE);
        self.reject(side, DropReason::LocalUnsupported, error, frame, packet, now.ticks())
    }

    /// ARP: what it says of neighbours is noted, and a request for the shard is answered.
    #[cold]
    pub(crate) fn converse(
        &mut self,
        side: Side,
        frame: &mut Frame<'_>,
        packet: &Packet,
        now: Ticks,
    ) -> Outcome {
        let sender = reply::arp_sender(frame, &packet.layout);
        let ArpAction { fate, released } = self.router.on_arp(side, &packet.meta, sender, now);
        let action = match fate {
            ArpFate::Drop(reason) => Action::Drop(reason),
            ArpFate::Consume => Action::Consume,
            ArpFate::Answer => {
                let link = LinkHeader { to: sender, ..self.router.own_link(side) };
                match reply::arp_reply(frame, &packet.layout, link.from) {
                    Some(l3) if rewrite::write_link(frame, l3, &link) => Action::Answer(side, None),
                    _ => Action::Drop(DropReason::NoHeadroom),
                }
            }
        };
        Outcome { action, released }
    }

    /// An answer goes back to the station that the frame came from: it knows the way.
    fn answer_link(&self, side: Side, frame: &Frame<'_>) -> LinkHeader {
        let mut to = Mac::default();
        to.0.copy_from_slice(&frame.bytes()[6..12]);
        LinkHeader { to, ..self.router.own_link(side) }
    }
}

impl TwinPort {
    /// Whether a datagram for the shard itself is from the twin.
    fn hears(&self, side: Side, meta: &PacketMeta) -> bool {
        (side, meta.from, meta.dst.port) == (self.side, self.peer, self.port)
    }
}

/// What to say about a packet that exceeds the MTU of its way out (RFC 1191).
fn too_big(meta: &PacketMeta, mtu: u16) -> (DropReason, Option<IcmpError>) {
    if meta.dont_fragment {
        (DropReason::FragmentationNeeded, Some(IcmpError::fragmentation_needed(mtu)))
    } else {
        (DropReason::TooBig, None)
    }
}
