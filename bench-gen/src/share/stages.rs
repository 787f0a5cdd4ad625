//! Stages: what there is to do, which flow is next, and what is told at the end.

use krono_core::packet::Protocol;
use krono_core::table::prefetch;

use super::flow::{Flow, Marks, State};
use super::identity::{Drawn, Ends, Identities, Pair};
use super::sizes::Lengths;
use super::{Share, ShareSeen, owners};
use crate::bench::{Stage, Way, Ways};
use crate::load::Popularity;
use crate::spread::Picker;

/// How often a first packet, or a FIN, is sent in all before it is given up.
pub(super) const TRIES: usize = 3;

/// After so long without an answer it is sent again: the first timeout of TCP (RFC 6298, 2.1).
pub(super) const RETRY_MS: u32 = 1_000;

/// How many flows are passed over in one go in search of one that something is due for.
pub(super) const SKIP: usize = 64;

/// What is to be done in a stage.
pub(super) struct Plan {
    pub work: Work,
    pub ways: Ways,
    /// How many answers a packet gets at the outside, in hundredths.
    pub answers_percent: u32,
    /// Hundredths of answers that are not whole yet.
    pub answers_due: u32,
    /// A flow waits from when a packet is sent this way
    pub waits_from: Way,
    /// until one arrives this way.
    pub waits_until: Way,
    /// Churn: nanoseconds between new flows, and when the next is due; never if there is none.
    pub churn_ns: u64,
    pub churn_at_ns: u64,
    /// The flow that is replaced next.
    pub oldest: u32,
    /// Flows whose turn for an additional answer it is.
    pub owed: Owed,
}

/// The kinds of work.
#[derive(Clone, Copy)]
pub(super) enum Work {
    Idle,
    Traffic,
    Walk(Walk),
}

/// One thing done for each flow in order, and done again for those that do not answer.
#[derive(Clone, Copy)]
pub(super) struct Walk {
    pub task: Task,
    /// The flow that is next for the first try, the second, …, and for being given up.
    pub at: [u32; TRIES + 1],
    /// How many flows are still to be begun with.
    pub left: u32,
    /// No flow from here on.
    pub end: u32,
}

/// What is done for each flow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    Open,
    Probe,
    Close,
}

impl Task {
    /// Whether this is done for a flow in this state.
    pub(super) fn concerns(self, state: State) -> bool {
        match self {
            Task::Open => matches!(state, State::Closed | State::Failed),
            Task::Probe | Task::Close => state == State::Open,
        }
    }

    /// Whether a flow in this state has not answered yet.
    pub(super) fn pends(self, state: State) -> bool {
        match self {
            Task::Open => state == State::Opening,
            Task::Close => state == State::Closing,
            Task::Probe => false,
        }
    }
}

impl Plan {
    pub(super) fn idle() -> Plan {
        Plan {
            work: Work::Idle,
            ways: Ways::Both,
            answers_percent: 100,
            answers_due: 0,
            waits_from: Way::Up,
            waits_until: Way::Down,
            churn_ns: 0,
            churn_at_ns: u64::MAX,
            oldest: 0,
            owed: Owed::default(),
        }
    }

    fn walk(task: Task, first: u32, end: u32, left: u32) -> Plan {
        let walk = Walk { task, at: [first; TRIES + 1], left, end };
        Plan { work: Work::Walk(walk), ..Plan::idle() }
    }
}

/// A short queue of flows; what does not fit is not answered.
pub(super) struct Owed {
    flows: [u32; Owed::MAX],
    first: usize,
    len: usize,
}

impl Default for Owed {
    fn default() -> Self {
        Owed { flows: [0; Owed::MAX], first: 0, len: 0 }
    }
}

impl Owed {
    const MAX: usize = 1024;

    #[must_use]
    pub(super) fn push(&mut self, flow: u32) -> bool {
        let fits = self.len < Owed::MAX;
        if fits {
            self.flows[(self.first + self.len) % Owed::MAX] = flow;
            self.len += 1;
        }
        fits
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn pop(&mut self) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        let flow = self.flows[self.first];
        self.first = (self.first + 1) % Owed::MAX;
        self.len -= 1;
        Some(flow)
    }
}

/// Which flows are next: drawn some packets ahead, so that memory has time; and who they are, which
/// takes a quarter of the instructions if it is computed for many at once.
pub(super) struct Picks {
    picker: Picker,
    /// Those whose turn it is, from `at` on, their generations and who they are.
    now: [u32; Picks::AHEAD],
    generations: [u16; Picks::AHEAD],
    drawn: Drawn<{ Picks::AHEAD }>,
    at: usize,
    /// Those that follow.
    ahead: [u32; Picks::AHEAD],
}

impl Picks {
    const AHEAD: usize = 32;

    /// Of the first `used` flows.
    pub(super) fn new(popularity: Popularity, used: u32, seed: u64) -> Picks {
        let mut picker = Picker::new(popularity, used.max(1), seed);
        let mut ahead = [0; Picks::AHEAD];
        picker.pick(&mut ahead);
        let (now, generations) = ([0; Picks::AHEAD], [0; Picks::AHEAD]);
        Picks { picker, now, generations, drawn: Drawn::NOBODY, at: Picks::AHEAD, ahead }
    }

    /// The next flow, as a place for [`Picks::ends`], and its number.
    #[inline]
    pub(super) fn pick(&mut self, flows: &[Flow], identities: &Identities) -> (usize, u32) {
        if self.at == Self::AHEAD {
            self.turn(flows, identities);
        }
        let at = self.at;
        self.at += 1;
        prefetch(flows, self.ahead[at] as usize);
        (at, self.now[at])
    }

    /// The next flows, at least one, that stay next until [`Picks::advance`].
    #[inline(always)]
    pub(super) fn upcoming(&mut self, flows: &[Flow], identities: &Identities) -> Upcoming<'_> {
        if self.at >= Self::AHEAD {
            self.turn(flows, identities);
        }
        Upcoming { picks: self, at: self.at }
    }

    /// So many of those have had their turn; whether some are left.
    #[inline(always)]
    pub(super) fn advance(&mut self, count: usize) -> bool {
        self.at += count;
        self.at < Self::AHEAD
    }

    #[inline(never)]
    fn turn(&mut self, flows: &[Flow], identities: &Identities) {
        self.now = self.ahead;
        self.generations = self.now.map(|flow| flows[flow as usize].generation);
        identities.draw(&self.now, &self.generations, &mut self.drawn);
        self.picker.pick(&mut self.ahead);
        self.at = 0;
    }

    /// Who the flow at this place is, unless it is in another generation by now.
    #[inline(always)]
    pub(super) fn ends(&self, at: usize, generation: u16) -> Option<Ends> {
        (self.generations[at] == generation).then(|| self.drawn.ends(at))
    }
}

/// The flows whose turn it is in short.
pub(super) struct Upcoming<'p> {
    picks: &'p Picks,
    at: usize,
}

impl Upcoming<'_> {
    /// The next flow of UDP, its number, generation and ends; `None` if none is left or it is of
    /// another protocol.
    #[inline(always)]
    pub(super) fn next_udp(&mut self, flows: &[Flow]) -> Option<(u32, u16, Pair)> {
        let Picks { now, generations, drawn, ahead, .. } = self.picks;
        let (number, generation) = (*now.get(self.at)?, generations[self.at]);
        let pair = drawn.udp_pair(self.at)?;
        prefetch(flows, ahead[self.at] as usize);
        self.at += 1;
        Some((number, generation, pair))
    }
}

impl Share {
    /// Begins a stage. Its numbers are this share's part: sessions and rates divided by the number
    /// of shares.
    pub fn begin(&mut self, stage: &Stage, now_ns: u64) {
        self.clock = super::Clock { stage_ns: now_ns, ..Default::default() };
        self.set_clock(now_ns);
        let open = self.seen.tally.open;
        self.seen.clear();
        self.seen.tally = super::Tally::with_open(open);
        self.examples.clear();
        self.latency_before.iter_mut().for_each(super::Steps::clear);
        self.set_lengths(stage);
        let all = self.flows.len() as u32;
        let of_state = |flows: &[Flow], task: Task| {
            flows.iter().position(|flow| task.concerns(flow.state())).map_or(all, |at| at as u32)
        };
        self.plan = match *stage {
            Stage::Open { sessions, .. } => {
                Plan::walk(Task::Open, of_state(self.flows, Task::Open), all, sessions)
            }
            Stage::Probe { .. } => Plan::walk(Task::Probe, 0, self.used, u32::MAX),
            Stage::Close { .. } => Plan::walk(Task::Close, 0, self.used, u32::MAX),
            Stage::Traffic { ways, .. } => self.traffic(ways),
            Stage::Forget => {
                self.forget();
                Plan::idle()
            }
        };
    }

    fn traffic(&mut self, ways: Ways) -> Plan {
        if self.seen.tally.open == 0 {
            self.used = self.flows.len() as u32;
        }
        self.picks = Picks::new(self.load.popularity, self.used, self.random);
        let answers_percent = if ways == Ways::Both { self.load.answers_percent } else { 0 };
        let of = f64::from(self.of);
        let between = |arrivals_per_s: f64| (1e9 * of / arrivals_per_s).max(1.0) as u64;
        let churn_ns = self.load.churn.map_or(u64::MAX, |churn| between(churn.arrivals_per_s));
        let (waits_from, waits_until) = match ways {
            Ways::Both if answers_percent >= 100 => (Way::Up, Way::Down),
            Ways::Both | Ways::Up => (Way::Up, Way::Up),
            Ways::Down => (Way::Down, Way::Down),
        };
        Plan {
            work: Work::Traffic,
            ways,
            answers_percent,
            waits_from,
            waits_until,
            churn_ns,
            churn_at_ns: self.clock.now_ns.saturating_add(churn_ns),
            ..Plan::idle()
        }
    }

    /// Whether there is nothing more to send in this stage; one of traffic has no end of its own.
    pub fn is_done(&self) -> bool {
        match self.plan.work {
            Work::Idle => true,
            Work::Traffic => false,
            Work::Walk(walk) => {
                let begun = walk.left == 0 || walk.at[0] == walk.end;
                let last = if walk.task == Task::Probe { 0 } else { TRIES };
                begun && walk.at[last] == walk.at[0]
            }
        }
    }

    /// Ends the stage: tells what was seen, and what was lost by now is lost.
    pub fn finish(&mut self) -> ShareSeen {
        let probe = matches!(self.plan.work, Work::Walk(Walk { task: Task::Probe, .. }));
        for number in 0..self.used {
            let flow = &mut self.flows[number as usize];
            if probe && flow.waiting_ms != 0 {
                flow.marks.set(Marks::LONG);
                flow.set_state(State::Failed);
                self.seen.tally.open -= 1;
            }
            self.account(number);
        }
        self.plan = Plan::idle();
        for counts in &mut self.seen.tally.counts {
            counts.lost = counts.sent.saturating_sub(counts.received);
        }
        let mut seen = self.seen.clone();
        seen.examples = self.examples.iter().map(ToString::to_string).collect();
        seen
    }

    /// Tells of a flow what is told at its end or at the stage's.
    pub(super) fn account(&mut self, number: u32) {
        let flow = &mut self.flows[number as usize];
        if flow.marks.has(Marks::USED) {
            self.seen.sessions_lost += u64::from(flow.marks.has(Marks::LONG));
            self.seen.tally.silent -= u64::from(flow.marks.has(Marks::SILENT));
            self.seen.outage_ms.record(flow.take_silence().into());
            self.seen.flow_packets.record(flow.sent.iter().map(|sent| u64::from(*sent)).sum());
        }
        flow.marks.clear(Marks::USED);
        flow.marks.clear(Marks::LONG);
        flow.marks.clear(Marks::SILENT);
        flow.waiting_ms = 0;
    }

    /// Another flow takes the place of this one.
    pub(super) fn renew(&mut self, number: u32) {
        let waiting_ms = self.flows[number as usize].waiting_ms;
        // One that churn replaced before an answer could come is no fault of the device.
        let is_overdue = waiting_ms != 0 && self.clock.ms.wrapping_sub(waiting_ms) >= RETRY_MS;
        self.account(number);
        owners::leave(self.flows, &self.key, self.identities.protocol(number), number);
        let flow = &mut self.flows[number as usize];
        match flow.state() {
            State::Opening => self.seen.tally.not_opened += u64::from(is_overdue),
            State::Open => self.seen.tally.open -= 1,
            State::Closed | State::Closing | State::Failed => {}
        }
        flow.renew();
        if matches!(self.plan.work, Work::Traffic) {
            flow.marks.set(Marks::HEIR);
        }
    }

    /// Forgets all flows, with nothing counted.
    fn forget(&mut self) {
        for flow in &mut self.flows[..] {
            flow.renew();
            flow.head = 0;
        }
        self.used = 0;
        self.seen.tally.open = 0;
    }

    /// Frames are as long from now on as the stage says, or the profile.
    fn set_lengths(&mut self, stage: &Stage) {
        let sizes = match stage {
            Stage::Traffic { sizes: Some(sizes), .. } => sizes,
            _ => &self.load.sizes,
        };
        let lengths = Lengths::new(sizes);
        if lengths == self.lengths {
            return;
        }
        let before = std::mem::replace(&mut self.lengths, lengths);
        for number in 0..self.used {
            if self.identities.protocol(number) == Protocol::Tcp {
                self.resize_tcp(number, &before);
            }
        }
    }

    /// A connection goes on with segments of another length: from the next number on that is a
    /// multiple of it, as if a piece before had been lost.
    fn resize_tcp(&mut self, number: u32, before: &Lengths) {
        let packets = || self.flows[number as usize].length();
        let before = before.draw(Protocol::Tcp, || self.tcp_draw(number), packets);
        let after = self.tcp_payload(number);
        let flow = &mut self.flows[number as usize];
        for way in [Way::Up, Way::Down] {
            let bytes = flow.sent[way as usize].wrapping_mul(before as u32);
            flow.renumber(way, bytes.div_ceil(after));
        }
    }
}
