//! What is sent: the next packet of a stage, and answers.

use krono_core::packet::{Protocol, Side, TcpFlags};

use super::flow::{Flow, Marks, State};
use super::frame::{ECHO, ECHO_REPLY, Heading, Transport};
use super::identity::{Ends, Pair};
use super::stages::{RETRY_MS, SKIP, TRIES, Task, Walk, Work};
use super::stamp::Stamp;
use super::tcp::{self, Name};
use super::{Clock, Share, Tally, mix};
use crate::bench::{Way, Ways};
use crate::load::Popularity;

/// From when on a flow counts as silent, milliseconds.
const SILENT_MS: u32 = 100;
/// From when on it counts as lost, milliseconds.
const LOST_MS: u32 = 1_000;

/// A frame to send: out of which side, and how long it is.
type Sent = (Side, usize);

impl Share {
    /// Writes the next frame to send; `None` if nothing is due now.
    #[inline]
    pub fn next(&mut self, now_ns: u64, buffer: &mut [u8]) -> Option<(Side, usize)> {
        self.set_clock(now_ns);
        // Told apart from both others in one comparison.
        if let Work::Traffic = self.plan.work {
            return self.next_traffic(buffer);
        }
        match self.plan.work {
            Work::Walk(walk) => self.next_of_walk(walk, buffer),
            Work::Idle | Work::Traffic => None,
        }
    }

    #[inline]
    fn next_traffic(&mut self, buffer: &mut [u8]) -> Option<Sent> {
        if let Some(number) = self.plan.owed.pop() {
            return Some(self.packet(number, Way::Down, buffer));
        }
        if self.clock.now_ns >= self.plan.churn_at_ns {
            return Some(self.replace_oldest(buffer));
        }
        for _ in 0..SKIP {
            let (at, number) = self.picks.pick(self.flows, &self.identities);
            let flow = &self.flows[number as usize];
            // What most packets meet; all others take the long way.
            if flow.goes_on()
                && self.plan.ways != Ways::Down
                && let Some(ends) = self.picks.ends(at, flow.generation)
            {
                return Some(self.packet_of(number, &ends, Way::Up, buffer));
            }
            if let Some(sent) = self.unusual(number, buffer) {
                return Some(sent);
            }
        }
        None
    }

    /// The next packet of a flow that is not simply open.
    #[cold]
    fn unusual(&mut self, number: u32, buffer: &mut [u8]) -> Option<Sent> {
        let flow = &self.flows[number as usize];
        let (state, learnt) = (flow.state(), flow.public().is_some());
        let tcp = self.identities.protocol(number) == Protocol::Tcp;
        if self.plan.ways == Ways::Down {
            let ready = learnt && (state == State::Open || state == State::Opening && !tcp);
            return ready.then(|| self.packet(number, Way::Down, buffer));
        }
        match state {
            State::Closed => Some(self.start(number, buffer)),
            State::Opening if tcp => self.retry(number, buffer),
            State::Closing => self.retry(number, buffer),
            State::Opening | State::Open if flow.is_over() => Some(self.end(number, buffer)),
            State::Opening | State::Open => Some(self.packet(number, Way::Up, buffer)),
            State::Failed => None,
        }
    }

    /// The oldest flow makes room for a new one.
    #[cold]
    fn replace_oldest(&mut self, buffer: &mut [u8]) -> Sent {
        let number = self.plan.oldest;
        self.plan.oldest = if number + 1 < self.used { number + 1 } else { 0 };
        self.plan.churn_at_ns += self.plan.churn_ns;
        self.end(number, buffer)
    }

    /// Ends a flow: TCP by a FIN, another flow follows when that was answered; others at once.
    fn end(&mut self, number: u32, buffer: &mut [u8]) -> Sent {
        let open = self.flows[number as usize].state() == State::Open;
        if open && self.identities.protocol(number) == Protocol::Tcp {
            return self.close(number, buffer);
        }
        self.seen.tally.closed += u64::from(open);
        self.renew(number);
        self.start(number, buffer)
    }

    /// How many packets a flow will have, if that is what makes it popular: one that is there at
    /// the beginning is met somewhere in its life.
    #[cold]
    fn draw_length(&mut self, number: u32) {
        let tcp = self.identities.protocol(number) == Protocol::Tcp;
        let flow = &mut self.flows[number as usize];
        if flow.marks.has(Marks::HEIR) {
            let packets = self.flow_lengths.of_new();
            flow.set_length(packets, packets);
        } else {
            let (packets, left) = self.flow_lengths.of_met();
            // The numbers of TCP begin where its handshake says.
            flow.set_length(if tcp { left } else { packets }, left);
        }
    }

    /// The first packet of a flow, once more if it was sent before.
    fn start(&mut self, number: u32, buffer: &mut [u8]) -> Sent {
        if self.load.popularity == Popularity::Agh2015 && self.flows[number as usize].length() == 0
        {
            self.draw_length(number);
        }
        let flow = &mut self.flows[number as usize];
        flow.set_state(State::Opening);
        flow.waiting_ms = 0;
        if self.identities.protocol(number) != Protocol::Tcp {
            return self.packet(number, Way::Up, buffer);
        }
        self.control(number, tcp::SYN, buffer)
    }

    /// The subscriber's FIN, once more if it was sent before.
    fn close(&mut self, number: u32, buffer: &mut [u8]) -> Sent {
        let flow = &mut self.flows[number as usize];
        if flow.state() == State::Open {
            self.seen.tally.open -= 1;
            flow.marks.forget_tries();
        }
        flow.set_state(State::Closing);
        self.control(number, tcp::FIN, buffer)
    }

    /// A SYN or a FIN of a subscriber.
    fn control(&mut self, number: u32, flags: TcpFlags, buffer: &mut [u8]) -> Sent {
        let flow = &mut self.flows[number as usize];
        flow.waiting_ms = self.clock.ms;
        flow.marks.set(Marks::USED);
        let ends = self.identities.ends(number, flow.generation);
        (Side::Inside, self.bare(number, &ends, Way::Up, flags, buffer))
    }

    /// Repeats what was not answered in time, or gives it up.
    fn retry(&mut self, number: u32, buffer: &mut [u8]) -> Option<Sent> {
        let flow = &mut self.flows[number as usize];
        if self.clock.ms.wrapping_sub(flow.waiting_ms) < RETRY_MS {
            return None;
        }
        let closing = flow.state() == State::Closing;
        if usize::from(flow.marks.tried()) < TRIES {
            self.seen.tally.repeated += 1;
            let sent =
                if closing { self.close(number, buffer) } else { self.start(number, buffer) };
            return Some(sent);
        }
        self.give_up(number);
        closing.then(|| self.start(number, buffer))
    }

    /// Nothing was heard of a flow that was to be opened or closed.
    fn give_up(&mut self, number: u32) {
        let flow = &mut self.flows[number as usize];
        if flow.state() == State::Closing {
            self.renew(number);
        } else {
            flow.set_state(State::Failed);
            self.seen.tally.not_opened += 1;
        }
    }

    /// What a walk sends next: again what is overdue, then what is new.
    fn next_of_walk(&mut self, mut walk: Walk, buffer: &mut [u8]) -> Option<Sent> {
        let mut sent = None;
        for round in (1..=TRIES).rev() {
            sent = sent.or_else(|| self.repeat_of_walk(&mut walk, round, buffer));
        }
        sent = sent.or_else(|| self.new_of_walk(&mut walk, buffer));
        self.plan.work = Work::Walk(walk);
        sent
    }

    fn repeat_of_walk(&mut self, walk: &mut Walk, round: usize, buffer: &mut [u8]) -> Option<Sent> {
        for _ in 0..SKIP {
            let number = walk.at[round];
            if number >= walk.at[round - 1] {
                return None;
            }
            let flow = &self.flows[number as usize];
            let pends = walk.task.pends(flow.state());
            if pends && self.clock.ms.wrapping_sub(flow.waiting_ms) < RETRY_MS {
                return None;
            }
            walk.at[round] += 1;
            if pends && round == TRIES {
                self.give_up(number);
            } else if pends {
                self.seen.tally.repeated += 1;
                return self.task(walk.task, number, buffer);
            }
        }
        None
    }

    fn new_of_walk(&mut self, walk: &mut Walk, buffer: &mut [u8]) -> Option<Sent> {
        for _ in 0..SKIP {
            let number = walk.at[0];
            if walk.left == 0 || number == walk.end {
                return None;
            }
            walk.at[0] += 1;
            if !walk.task.concerns(self.flows[number as usize].state()) {
                continue;
            }
            walk.left -= 1;
            if self.flows[number as usize].state() == State::Failed {
                self.renew(number);
            }
            self.used = self.used.max(number + 1);
            if let Some(sent) = self.task(walk.task, number, buffer) {
                return Some(sent);
            }
        }
        None
    }

    /// Does a walk's task for one flow; `None` if nothing is to be sent for it.
    fn task(&mut self, task: Task, number: u32, buffer: &mut [u8]) -> Option<Sent> {
        let tcp = self.identities.protocol(number) == Protocol::Tcp;
        match task {
            Task::Open => Some(self.start(number, buffer)),
            Task::Probe => Some(self.packet(number, Way::Up, buffer)),
            Task::Close if tcp => Some(self.close(number, buffer)),
            Task::Close => {
                self.seen.tally.closed += 1;
                self.renew(number);
                None
            }
        }
    }

    /// A stamped packet of a flow.
    #[inline(never)]
    fn packet(&mut self, number: u32, way: Way, buffer: &mut [u8]) -> Sent {
        let ends = self.identities.ends(number, self.flows[number as usize].generation);
        self.packet_of(number, &ends, way, buffer)
    }

    /// A stamped packet of a flow of which is known who it is.
    #[inline(always)]
    fn packet_of(&mut self, number: u32, ends: &Ends, way: Way, buffer: &mut [u8]) -> Sent {
        let flow = &self.flows[number as usize];
        let side = if way == Way::Up { Side::Inside } else { Side::Outside };
        let len = if ends.protocol == Protocol::Tcp {
            self.tcp_payload(number) as usize
        } else {
            self.lengths.draw(ends.protocol, || mix(&mut self.random), || flow.length())
        };
        (side, self.stamped(number, ends, way, len, true, buffer))
    }

    /// Writes a stamped packet with `payload_len` bytes of payload and counts it.
    #[inline(always)]
    pub(super) fn stamped(
        &mut self,
        number: u32,
        ends: &Ends,
        way: Way,
        payload_len: usize,
        fill: bool,
        buffer: &mut [u8],
    ) -> usize {
        if ends.protocol == Protocol::Udp {
            // The compiler makes a function of its own of what follows from that.
            let ends = Ends { protocol: Protocol::Udp, ..*ends };
            self.stamped_as(number, &ends, way, payload_len, fill, buffer)
        } else {
            self.stamped_other(number, ends, way, payload_len, fill, buffer)
        }
    }

    #[inline(never)]
    fn stamped_other(
        &mut self,
        number: u32,
        ends: &Ends,
        way: Way,
        payload_len: usize,
        fill: bool,
        buffer: &mut [u8],
    ) -> usize {
        self.stamped_as(number, ends, way, payload_len, fill, buffer)
    }

    #[inline(always)]
    fn stamped_as(
        &mut self,
        number: u32,
        ends: &Ends,
        way: Way,
        payload_len: usize,
        fill: bool,
        buffer: &mut [u8],
    ) -> usize {
        let Share { flows, frames, key, plan, clock, seen, number: share, .. } = self;
        let flow = &mut flows[number as usize];
        let name = Name { share: *share, flow: number, generation: flow.generation };
        let sequence = flow.sent[way as usize];
        let transport = match ends.protocol {
            Protocol::Udp => Transport::Udp,
            Protocol::Tcp => {
                let len = payload_len as u32;
                Transport::Tcp(tcp::segment(flow, name, way, tcp::DATA, len, key, ends))
            }
            Protocol::Icmp if way == Way::Up => Transport::Echo(ECHO, sequence as u16),
            Protocol::Icmp => Transport::Echo(ECHO_REPLY, sequence as u16),
        };
        let heading = heading(ends, flow.public_parts(), way, transport);
        flow.number(way);
        if way == plan.waits_from {
            awaits(flow, clock, &mut seen.tally);
        }
        let stamp = Stamp::new(name.share, number, name.generation, way, sequence, clock.now_ns);
        let len = payload_len as u16;
        let pair = ends.pair_of(way);
        let digest = stamp.digest(way, name.generation, len, ends.protocol, pair, key);
        let len = frames.stamped(&heading, buffer, payload_len, fill, stamp, digest);
        let counts = &mut seen.tally.counts[way as usize];
        counts.sent += 1;
        counts.sent_bytes += len as u64 + 4;
        len
    }

    /// Writes a TCP segment without payload and counts it.
    pub(super) fn bare(
        &mut self,
        number: u32,
        ends: &Ends,
        way: Way,
        flags: TcpFlags,
        buffer: &mut [u8],
    ) -> usize {
        let payload_len = self.tcp_payload(number);
        let flow = &self.flows[number as usize];
        let name = Name { share: self.number, flow: number, generation: flow.generation };
        let segment = tcp::segment(flow, name, way, flags, payload_len, &self.key, ends);
        let heading = heading(ends, flow.public_parts(), way, Transport::Tcp(segment));
        self.seen.tally.control_sent[way as usize] += 1;
        self.frames.bare(&heading, buffer)
    }
}

/// Something should be heard of a flow, of which a packet is sent.
#[inline(always)]
pub(super) fn awaits(flow: &mut Flow, clock: &Clock, tally: &mut Tally) {
    if flow.waiting_ms == 0 {
        flow.waiting_ms = clock.ms;
    } else if clock.ms.wrapping_sub(flow.waiting_ms) > SILENT_MS {
        wait_longer(flow, clock.ms, tally);
    }
}

/// A flow has waited for longer than is usual, and a packet is sent again.
#[cold]
fn wait_longer(flow: &mut Flow, ms: u32, tally: &mut Tally) {
    let silence = ms.wrapping_sub(flow.waiting_ms);
    tally.silent += u64::from(!flow.marks.has(Marks::SILENT));
    flow.marks.set(Marks::SILENT);
    if silence >= LOST_MS {
        flow.marks.set(Marks::LONG);
    }
    flow.silent_for(silence);
}

/// Where a packet in this direction goes.
#[inline]
fn heading(ends: &Ends, public: (u32, u16), way: Way, transport: Transport) -> Heading {
    match way {
        Way::Up => Heading { side: Side::Inside, pair: ends.pair, transport },
        Way::Down => {
            let pair = Pair::new(ends.pair.parts_to(), public);
            Heading { side: Side::Outside, pair, transport }
        }
    }
}
