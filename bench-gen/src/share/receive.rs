//! What arrives: whose it is, whether it is right, and what is answered.

use krono_core::packet::{Endpoint, Protocol, Side, TcpFlags};

use super::counts::Example;
use super::flow::{self, Flow, Latency, Marks, Order, State};
use super::frame::{Body, ECHO, ECHO_REPLY, Heard, Odd, Segment, Transport, Usual};
use super::identity::{Ends, Pair};
use super::stages::Plan;
use super::stamp::{Stamp, TIME_SHIFT};
use super::tcp::{self, Name};
use super::{Clock, Share, ShareSeen, Taken, frame, owners};
use crate::bench::{Way, Wrong};

/// For how long a mapping must live without a packet, seconds: RFC 4787, REQ-5; RFC 5382, REQ-5;
/// RFC 5508, REQ-1.
const MAPPING_LIFE_S: [u16; Protocol::COUNT] = [120, 7_440, 60];

impl Share {
    /// Takes a frame that came in by `side`, or that another share says is ours.
    #[inline(always)]
    pub fn take(&mut self, side: Side, frame: &mut [u8], now_ns: u64) -> Taken {
        match self.take_usual(side, frame, now_ns) {
            Some(taken) => taken,
            None => self.take_any(side, frame, now_ns),
        }
    }

    /// Takes a frame if it is a usual one, right, and of a flow that is known and has this public
    /// endpoint. `None`, and nothing has happened, if it must take the full way.
    #[inline(always)]
    pub fn take_usual(&mut self, side: Side, frame: &mut [u8], now_ns: u64) -> Option<Taken> {
        self.set_clock(now_ns);
        let mut received = Received::<1>::none();
        let is_answer = self.usual(side, frame, &mut received)?;
        self.record(way_into(side), &received);
        Some(if is_answer { Taken::Answer(frame.len()) } else { Taken::Done })
    }

    /// Takes a usual frame, as above, and tells whether an answer is in its place now.
    #[inline(always)]
    pub(super) fn usual<const N: usize>(
        &mut self,
        side: Side,
        frame: &mut [u8],
        received: &mut Received<N>,
    ) -> Option<bool> {
        let Usual { pair, stamp, digest, payload_len } = self.frames.recognise(side, frame)?;
        let (number, way) = (stamp.flow(), way_into(side));
        let Share { flows, seen, plan, clock, key, number: share, .. } = self;
        let flow = flows.get_mut(number as usize)?;
        let generation = flow.generation;
        let right = stamp.digest(way, generation, payload_len, Protocol::Udp, pair, key);
        let is_right = stamp.is_of(*share, way, generation)
            & (digest == right)
            & (way == Way::Down || flow.is_public(pair.parts_from()));
        if !is_right {
            return None;
        }
        if way == Way::Up {
            flow.renewed_s = clock.s;
        }
        let arrival = arrived(flow, seen, plan, clock, way, stamp, frame.len(), received);
        let is_first = self.note(number, arrival);
        if way == Way::Down || !is_first || !self.is_answered(number) {
            return Some(false);
        }
        let ends = self.identities.ends(number, generation);
        self.stamped(number, &ends, Way::Down, payload_len.into(), false, frame);
        Some(true)
    }

    /// Counts packets that were received, and records their latencies.
    #[inline(always)]
    pub(super) fn record<const N: usize>(&mut self, way: Way, received: &Received<N>) {
        let (counts, way) = (&mut self.seen.tally.counts[way as usize], way as usize);
        counts.received += received.packets as u64;
        counts.received_bytes += received.bytes;
        let latencies = &received.latencies[..received.packets];
        let befores = &received.befores[..received.packets];
        self.seen.latency_ns[way].record_all(latencies);
        let mut variations = [0; N];
        if befores.contains(&0) {
            // The first of its flow varies from none.
            for (latency, before) in
                latencies.iter().zip(befores).filter(|(_, before)| **before != 0)
            {
                self.seen.variation_ns[way].record_all(&[flow::variation(*latency, *before)]);
            }
            return;
        }
        for ((variation, latency), before) in variations.iter_mut().zip(latencies).zip(befores) {
            *variation = flow::variation(*latency, *before);
        }
        self.seen.variation_ns[way].record_all(&variations[..latencies.len()]);
    }

    /// Takes a frame the full way, which any may take.
    #[inline(never)]
    pub fn take_any(&mut self, side: Side, frame: &mut [u8], now_ns: u64) -> Taken {
        self.set_clock(now_ns);
        let mut heard = Heard::NOTHING;
        if let Err(odd) = self.frames.read(side, frame, &mut heard) {
            return self.odd(side, frame, odd);
        }
        let Some(at) = heard.stamp(frame) else {
            return self.without_stamp(frame, &heard);
        };
        let (stamp, digest) = Stamp::read(at);
        if stamp.share() != self.number && stamp.share() < self.of {
            return Taken::Foreign(stamp.share());
        }
        let body = self.frames.check(frame, &heard);
        let Some(flow) = self.flows.get(stamp.flow() as usize) else {
            return self.unknown(&heard, body);
        };
        let (current, way) = (flow.generation, stamp.way());
        let generation = stamp.generation(current);
        let is_right = stamp.share() == self.number
            && way == way_into(heard.heading.side)
            && self.is_digest(digest, stamp, generation, &heard, heard.heading.pair)
            && body == Body::Right
            && self.is_form(&heard, stamp, generation);
        if !is_right {
            return self.not_right(&heard, body, stamp, generation, digest);
        }
        if current != generation {
            self.late(way, frame.len());
            return Taken::Done;
        }
        self.take_right(frame, &heard, stamp)
    }

    /// A packet that came as it should.
    #[inline]
    fn take_right(&mut self, frame: &mut [u8], heard: &Heard, stamp: Stamp) -> Taken {
        let (number, way) = (stamp.flow(), stamp.way());
        if way == Way::Up {
            self.learn(number, heard);
        }
        let Share { flows, seen, plan, clock, .. } = self;
        let flow = &mut flows[number as usize];
        let mut received = Received::<1>::none();
        let arrival = arrived(flow, seen, plan, clock, way, stamp, frame.len(), &mut received);
        self.record(way, &received);
        if !self.note(number, arrival) {
            return Taken::Done;
        }
        match way {
            Way::Up => self.answer(number, heard, frame),
            Way::Down => self.acknowledge(number, way, heard, frame),
        }
    }

    /// What is wrong with a packet that carries a stamp.
    #[cold]
    fn not_right(
        &mut self,
        heard: &Heard,
        body: Body,
        stamp: Stamp,
        generation: u16,
        digest: u32,
    ) -> Taken {
        let ends = self.identities.ends(stamp.flow(), generation);
        let sent = ends.pair_of(stamp.way());
        if stamp.share() != self.number || !self.is_digest(digest, stamp, generation, heard, sent) {
            return self.unknown(heard, body);
        }
        let (wrong, expected) = match body {
            Body::BadChecksum => (Wrong::Checksum, None),
            Body::Changed => (Wrong::Corrupted, None),
            Body::Right if !self.is_form(heard, stamp, generation) => (Wrong::Corrupted, None),
            Body::Right => match misdelivery(heard, stamp.way(), &ends) {
                Err(wrong) => wrong,
                Ok(()) => return self.unknown(heard, body),
            },
        };
        self.wrong(wrong, heard, Some((stamp.flow(), generation)), expected);
        Taken::Done
    }

    /// Whether a stamp has this digest in a packet with this pair.
    #[inline]
    fn is_digest(
        &self,
        digest: u32,
        stamp: Stamp,
        generation: u16,
        heard: &Heard,
        pair: Pair,
    ) -> bool {
        let (protocol, len) = (heard.heading.transport.protocol(), heard.payload_len());
        stamp.digest(stamp.way(), generation, len, protocol, pair, &self.key) == digest
    }

    /// Whether the transport header is the one that the packet was sent with.
    #[inline(always)]
    fn is_form(&self, heard: &Heard, stamp: Stamp, generation: u16) -> bool {
        match &heard.heading.transport {
            Transport::Udp => true,
            Transport::Echo(kind, sequence) => {
                let sent = if stamp.way() == Way::Up { ECHO } else { ECHO_REPLY };
                (*kind, *sequence) == (sent, stamp.sequence() as u16)
            }
            Transport::Tcp(segment) => {
                self.is_segment(segment, heard.payload_len(), stamp, generation)
            }
        }
    }

    fn is_segment(
        &self,
        segment: &Segment,
        payload_len: u16,
        stamp: Stamp,
        generation: u16,
    ) -> bool {
        let way = stamp.way();
        let name = Name { share: self.number, flow: stamp.flow(), generation };
        let ends = self.identities.ends(stamp.flow(), generation);
        let initial = name.initial(way, &self.key);
        let seq = tcp::position(initial, stamp.sequence(), payload_len.into());
        let option = name.option(way, tcp::DATA, &self.key, &ends);
        (segment.flags, segment.seq, segment.option) == (tcp::DATA, seq, option)
    }

    /// What is to be done about a packet that has arrived; false if it was here before.
    #[inline(always)]
    fn note(&mut self, number: u32, arrival: Arrival) -> bool {
        if let Arrival::AwaitedSince(since, latency) = arrival {
            self.heard_of(number, since, latency);
        }
        arrival != Arrival::Duplicate
    }

    /// A flow waits no longer that has waited since some millisecond, or was not open.
    #[cold]
    fn heard_of(&mut self, number: u32, since: u32, latency: u32) {
        let flow = &mut self.flows[number as usize];
        if since != 0 && self.clock.ms.wrapping_sub(since) > 1 {
            // The first packet that came through was sent so much earlier; of a round trip the
            // other half took as long.
            let round = u32::from(self.plan.waits_from != self.plan.waits_until);
            let under_way = ((u64::from(latency) << TIME_SHIFT) / 1_000_000) as u32;
            let silence = self.clock.ms - since;
            flow.silent_for(silence.saturating_sub(under_way << round).max(1));
            self.seen.tally.silent -= u64::from(flow.marks.has(Marks::SILENT));
            flow.marks.clear(Marks::SILENT);
            flow.marks.clear(Marks::LONG);
        }
        if flow.state() == State::Opening {
            self.opened(number);
        }
    }

    #[cold]
    fn opened(&mut self, number: u32) {
        self.flows[number as usize].set_state(State::Open);
        self.seen.tally.opened += 1;
        self.seen.tally.open += 1;
    }

    /// A packet of the flow that was here before.
    #[cold]
    fn late(&mut self, way: Way, len: usize) {
        let counts = &mut self.seen.tally.counts[way as usize];
        counts.received += 1;
        counts.received_bytes += len as u64 + 4;
        self.seen.tally.late += 1;
    }

    /// Learns the public endpoint, or sees that it is the one that was learnt.
    #[inline]
    fn learn(&mut self, number: u32, heard: &Heard) {
        if !self.flows[number as usize].is_public(heard.heading.pair.parts_from()) {
            self.learn_new(number, heard);
        }
        self.flows[number as usize].renewed_s = self.clock.s;
    }

    #[cold]
    fn learn_new(&mut self, number: u32, heard: &Heard) {
        let from = heard.heading.pair.from();
        let generation = self.flows[number as usize].generation;
        let ends = &self.identities.ends(number, generation);
        if let Some(before) = self.flows[number as usize].public() {
            if self.may_have_expired(number, ends.protocol) {
                self.seen.tally.remapped += 1;
            } else {
                self.wrong(Wrong::SecondEndpoint, heard, Some((number, generation)), Some(before));
            }
            owners::leave(self.flows, &self.key, ends.protocol, number);
        }
        if let Some(other) = self.sibling_elsewhere(number, from, ends.protocol) {
            self.wrong(Wrong::SecondEndpoint, heard, Some((number, generation)), Some(other));
        }
        if let Some(other) = self.other_owner(number, from, ends) {
            self.wrong(Wrong::SharedEndpoint, heard, Some((number, generation)), Some(other));
        }
        self.flows[number as usize].set_public(from);
        owners::enter(self.flows, &self.key, ends.protocol, number);
    }

    /// Whether a translator may have forgotten the flow's mapping.
    fn may_have_expired(&self, number: u32, protocol: Protocol) -> bool {
        let idle = self.clock.s.wrapping_sub(self.flows[number as usize].renewed_s);
        idle >= MAPPING_LIFE_S[protocol as usize]
    }

    /// The public endpoint of another flow with the same subscriber endpoint, if that is not
    /// `from` (RFC 4787, REQ-1).
    fn sibling_elsewhere(
        &self,
        number: u32,
        from: Endpoint,
        protocol: Protocol,
    ) -> Option<Endpoint> {
        let generation = self.flows[number as usize].generation;
        self.identities.siblings(number).filter(|sibling| *sibling != number).find_map(|sibling| {
            let flow = self.flows.get(sibling as usize)?;
            let alike = flow.generation == generation && !self.may_have_expired(sibling, protocol);
            flow.public().filter(|public| alike && *public != from)
        })
    }

    /// Another subscriber endpoint that has this public one.
    fn other_owner(&self, number: u32, from: Endpoint, ends: &Ends) -> Option<Endpoint> {
        let protocol = ends.protocol;
        owners::near(self.flows, &self.key, protocol, from).find_map(|other| {
            let flow = &self.flows[other as usize];
            let has_it = other != number
                && flow.public() == Some(from)
                && self.identities.protocol(other) == protocol
                && !self.may_have_expired(other, protocol);
            let subscriber = self.identities.ends(other, flow.generation).pair.from();
            (has_it && subscriber != ends.pair.from()).then_some(subscriber)
        })
    }

    /// The server answers a packet, in its place.
    #[inline]
    fn answer(&mut self, number: u32, heard: &Heard, frame: &mut [u8]) -> Taken {
        if !self.is_answered(number) {
            return self.acknowledge(number, Way::Up, heard, frame);
        }
        let ends = self.identities.ends(number, self.flows[number as usize].generation);
        let payload_len = heard.payload_len().into();
        Taken::Answer(self.stamped(number, &ends, Way::Down, payload_len, false, frame))
    }

    /// Whether an answer to a packet is due; of what more is due, the flow is noted.
    #[inline]
    fn is_answered(&mut self, number: u32) -> bool {
        self.plan.answers_due += self.plan.answers_percent;
        if self.plan.answers_due < 100 {
            return false;
        }
        self.plan.answers_due -= 100;
        while self.plan.answers_due >= 100 {
            self.plan.answers_due -= 100;
            self.seen.tally.unanswered += u64::from(!self.plan.owed.push(number));
        }
        true
    }

    /// TCP acknowledges now and then what is not answered by data; `way` is that of the data.
    #[inline(always)]
    fn acknowledge(&mut self, number: u32, way: Way, heard: &Heard, frame: &mut [u8]) -> Taken {
        match heard.heading.transport {
            Transport::Tcp(_) => self.acknowledge_segment(number, way, frame),
            Transport::Udp | Transport::Echo(..) => Taken::Done,
        }
    }

    fn acknowledge_segment(&mut self, number: u32, way: Way, frame: &mut [u8]) -> Taken {
        // The other end's next data acknowledges as well.
        let one_sided = self.plan.waits_from == self.plan.waits_until;
        if !one_sided || !self.flows[number as usize].heard(way).is_multiple_of(tcp::ACK_EVERY) {
            return Taken::Done;
        }
        let back = if way == Way::Up { Way::Down } else { Way::Up };
        let ends = self.identities.ends(number, self.flows[number as usize].generation);
        Taken::Answer(self.bare(number, &ends, back, tcp::ACK, frame))
    }

    /// A packet without room for a stamp: TCP opens and closes with such.
    #[cold]
    fn without_stamp(&mut self, frame: &mut [u8], heard: &Heard) -> Taken {
        let body = self.frames.check(frame, heard);
        let Transport::Tcp(segment) = heard.heading.transport else {
            return self.unknown(heard, body);
        };
        let (share, number) = Name::read(segment.option);
        if share != self.number && share < self.of {
            return Taken::Foreign(share);
        }
        let known = self.control_way(number, segment, heard).filter(|_| share == self.number);
        let Some((way, generation)) = known else {
            return self.unknown(heard, body);
        };
        let ends = self.identities.ends(number, generation);
        let wrong = match body {
            Body::Right if heard.payload_len() == 0 => misdelivery(heard, way, &ends),
            Body::Right | Body::Changed => Err((Wrong::Corrupted, None)),
            Body::BadChecksum => Err((Wrong::Checksum, None)),
        };
        if let Err((wrong, expected)) = wrong {
            self.wrong(wrong, heard, Some((number, generation)), expected);
            return Taken::Done;
        }
        self.seen.tally.control_received[way as usize] += 1;
        if self.flows[number as usize].generation != generation {
            // The last ACK of a connection comes when another flow has its place already.
            return Taken::Done;
        }
        if way == Way::Up {
            self.learn(number, heard);
        }
        self.answer_control(number, &ends, way, segment.flags, frame)
    }

    /// Which direction and generation a segment without payload is of, by its digest.
    fn control_way(&self, number: u32, segment: Segment, heard: &Heard) -> Option<(Way, u16)> {
        let current = self.flows.get(number as usize)?.generation;
        let expected = way_into(heard.heading.side);
        let other = if expected == Way::Up { Way::Down } else { Way::Up };
        let before = current.wrapping_sub(1);
        [(expected, current), (other, current), (expected, before)].into_iter().find(|candidate| {
            let (way, generation) = *candidate;
            let ends = self.identities.ends(number, generation);
            let name = Name { share: self.number, flow: number, generation };
            name.option(way, segment.flags, &self.key, &ends) == segment.option
        })
    }

    /// What the receiver of a segment without payload does.
    fn answer_control(
        &mut self,
        number: u32,
        ends: &Ends,
        way: Way,
        flags: TcpFlags,
        frame: &mut [u8],
    ) -> Taken {
        let state = self.flows[number as usize].state();
        let (back, answer) = match (way, flags, state) {
            (Way::Up, tcp::SYN, _) => (Way::Down, tcp::SYN_ACK),
            (Way::Up, tcp::FIN, _) => (Way::Down, tcp::FIN),
            (Way::Down, tcp::SYN_ACK, State::Opening | State::Open) => (Way::Up, tcp::ACK),
            (Way::Down, tcp::FIN, State::Closing) => (Way::Up, tcp::ACK),
            _ => return Taken::Done,
        };
        let len = self.bare(number, ends, back, answer, frame);
        let flow = &mut self.flows[number as usize];
        match state {
            State::Opening if back == Way::Up => {
                flow.waiting_ms = 0;
                self.opened(number);
            }
            State::Closing if back == Way::Up => {
                self.seen.tally.closed += 1;
                self.renew(number);
            }
            _ => {}
        }
        Taken::Answer(len)
    }

    /// A frame that is not one of ours by its form.
    #[cold]
    fn odd(&mut self, side: Side, frame: &[u8], odd: Odd) -> Taken {
        if let Some(wrong) = self.odd_and_wrong(side, frame, odd) {
            self.note_wrong(wrong, side);
            return Taken::Done;
        }
        let others = &mut self.seen.tally.others;
        let count = match odd {
            Odd::Arp => &mut others.arp,
            Odd::Ipv6 => &mut others.ipv6,
            Odd::EtherType => &mut others.ether_types,
            Odd::Mac => &mut others.other_macs,
            Odd::Malformed => &mut others.malformed,
            Odd::Fragment => &mut others.fragments,
            Odd::Ip => &mut others.other_ip,
            Odd::Icmp => &mut others.icmp,
            Odd::Reset => &mut others.resets,
            Odd::Tcp => &mut others.strangers,
            Odd::IcmpError(quoted) => {
                // It comes back to the sender of what it quotes.
                let ours =
                    quoted.is_some_and(|(from, _)| self.targets[side as usize].contains(from));
                if ours { &mut others.icmp_errors } else { &mut others.icmp_errors_of_others }
            }
            Odd::IpChecksum => &mut others.malformed,
        };
        *count += 1;
        Taken::Done
    }

    /// What is wrong with such a frame, if it goes to one of us.
    fn odd_and_wrong(&self, side: Side, frame: &[u8], odd: Odd) -> Option<Wrong> {
        let others_may_send = match odd {
            Odd::IpChecksum => return Some(Wrong::Checksum),
            Odd::Malformed | Odd::Tcp => false,
            Odd::Reset | Odd::Icmp | Odd::IcmpError(_) => true,
            _ => return None,
        };
        let (to, intact) = frame::addressee(frame)?;
        match (self.targets[side as usize].contains(to), intact) {
            (true, false) => Some(Wrong::Checksum),
            (true, true) if !others_may_send => Some(Wrong::Corrupted),
            _ => None,
        }
    }

    /// A packet that nobody of ours has sent as it is: if it goes to one of us, it was ours.
    #[cold]
    fn unknown(&mut self, heard: &Heard, body: Body) -> Taken {
        let side = heard.heading.side;
        if !self.targets[side as usize].contains(heard.heading.pair.to().addr) {
            self.seen.tally.others.strangers += 1;
            return Taken::Done;
        }
        let wrong = match body {
            Body::BadChecksum => Wrong::Checksum,
            Body::Right | Body::Changed => Wrong::Corrupted,
        };
        self.wrong(wrong, heard, None, None);
        Taken::Done
    }

    /// Counts a wrong packet, and keeps some.
    #[cold]
    fn wrong(
        &mut self,
        wrong: Wrong,
        heard: &Heard,
        flow: Option<(u32, u16)>,
        expected: Option<Endpoint>,
    ) {
        let (side, pair) = (heard.heading.side, heard.heading.pair);
        let (from, to) = (pair.from(), pair.to());
        self.note_wrong(wrong, side);
        let _ = self.examples.try_push(Example { wrong, side, from, to, flow, expected });
    }

    fn note_wrong(&mut self, wrong: Wrong, side: Side) {
        let tally = &mut self.seen.tally;
        tally.wrong[wrong as usize] += 1;
        let counts = &mut tally.counts[way_into(side) as usize];
        match wrong {
            Wrong::Corrupted => counts.corrupted += 1,
            Wrong::Checksum => counts.bad_checksums += 1,
            _ => {}
        }
    }
}

/// What a packet means that is right.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Arrival {
    First,
    Duplicate,
    /// The first in a while: since when its flow has waited, and how long it took itself.
    AwaitedSince(u32, u32),
}

/// What is known of up to `N` packets that came together and have not been here before.
pub(super) struct Received<const N: usize> {
    packets: usize,
    /// With checksums.
    bytes: u64,
    /// Units of 8 ns.
    latencies: [u32; N],
    /// Those of the packets of the same flows before.
    befores: [Latency; N],
}

impl<const N: usize> Received<N> {
    pub(super) fn none() -> Self {
        Received { packets: 0, bytes: 0, latencies: [0; N], befores: [0; N] }
    }

    #[inline(always)]
    fn push(&mut self, len: usize, latency: u32, before: Latency) {
        self.latencies[self.packets] = latency;
        self.befores[self.packets] = before;
        self.packets += 1;
        self.bytes += len as u64 + 4;
    }
}

/// Notes a packet that is right: order, latency, silence.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn arrived<const N: usize>(
    flow: &mut Flow,
    seen: &mut ShareSeen,
    plan: &Plan,
    clock: &Clock,
    way: Way,
    stamp: Stamp,
    len: usize,
    received: &mut Received<N>,
) -> Arrival {
    let counts = &mut seen.tally.counts[way as usize];
    match flow.arrived(way, stamp.sequence()) {
        Order::Ahead => {}
        Order::Reordered => counts.reordered += 1,
        Order::Duplicate => {
            counts.duplicated += 1;
            return Arrival::Duplicate;
        }
    }
    let latency = stamp.age(clock.now_ns);
    received.push(len, latency, flow.latency(way, latency));
    if way == plan.waits_until {
        let since = std::mem::take(&mut flow.waiting_ms);
        let has_waited = since != 0 && clock.ms.wrapping_sub(since) > 1;
        if has_waited | (flow.state() == State::Opening) {
            return Arrival::AwaitedSince(since, latency);
        }
    }
    Arrival::First
}

/// The direction of packets that come in by a side.
pub(super) fn way_into(side: Side) -> Way {
    match side {
        Side::Inside => Way::Down,
        Side::Outside => Way::Up,
    }
}

/// Whether a packet came to where it was sent, and from where it should; else what is wrong, and
/// what was expected.
#[inline]
fn misdelivery(heard: &Heard, way: Way, ends: &Ends) -> Result<(), (Wrong, Option<Endpoint>)> {
    let (pair, sent) = (heard.heading.pair, ends.pair);
    if way != way_into(heard.heading.side) {
        return Err((Wrong::Side, None));
    }
    match way {
        Way::Up if pair.same_to(sent) => Ok(()),
        Way::Up => Err((Wrong::Server, Some(sent.to()))),
        Way::Down if pair == sent.swapped() => Ok(()),
        Way::Down if pair.same_to(sent.swapped()) => Err((Wrong::Server, Some(sent.to()))),
        Way::Down => Err((Wrong::Subscriber, Some(sent.from()))),
    }
}
