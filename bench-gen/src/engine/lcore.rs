//! What an lcore does: poll, take, make what is due, send.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use crossbeam::channel::{Receiver, Sender, TryRecvError};
use krono_core::frame::BURST_MAX;
use krono_core::packet::{Mac, Side};
use krono_io::{Burst, Clock, Mbuf, Pool, RxQueue, TxQueue};

use super::arp::{self, Station};
use super::board::Shown;
use super::common::{Common, Phase};
use super::exchange::Exchange;
use super::meter::Meter;
use super::pace::{BURST_FRAMES, Pace, Patience, Rhythm};
use super::part::{Limit, Part};
use super::replay::Replay;
use crate::share::{LinkHeader, Share, ShareSeen, Taken};

/// How often an lcore shows what it has counted, nanoseconds; and when it has sent all.
pub(super) const SHOW_NS: u64 = 100_000_000;
const SHOW_DRAINING_NS: u64 = 5_000_000;

/// A port that has taken nothing for so long, nanoseconds, while packets are due at a rate, gets no
/// more of them: what is due is counted as not sent, and its flows wait, as they would behind a link
/// that is down.
const STUCK_NS: u64 = 20_000_000;

/// How often an unknown next hop is asked for, nanoseconds.
const ASK_NS: u64 = 250_000_000;

/// One lcore with its share of the flows and its queues. Nothing on its path allocates, locks or
/// calls the kernel, except that it yields where lcores share CPUs.
pub(super) struct Lcore {
    pub number: usize,
    pub share: Share,
    /// A capture that is sent instead.
    pub replay: Option<Replay>,
    /// By side.
    pub ends: [End; 2],
    pub exchange: Exchange,
    pub pool: Pool,
    /// Empty buffers, to be filled.
    pub blank: Burst,
    pub clock: Clock,
    pub common: Arc<Common>,
    pub yields: bool,
}

/// An lcore's queues of a port, and who is on its link.
pub(super) struct End {
    pub rx: RxQueue,
    pub tx: TxQueue,
    /// Frames that wait to be sent.
    pub out: Burst,
    pub us: Station,
    pub next_hop: Ipv4Addr,
    /// Where the next hop is said to be, so that nobody need tell.
    pub next_hop_mac: Option<Mac>,
    /// Where the share believes it to be.
    pub known: Option<Mac>,
    pub ask_ns: u64,
    /// Since when its port takes nothing; 0: it does.
    pub stuck_ns: u64,
}

/// What an lcore tells of a stage.
pub(super) struct Outcome {
    pub seen: ShareSeen,
    pub rhythm: Rhythm,
    pub meter: Meter,
    /// For how long it was to send, nanoseconds.
    pub elapsed_ns: u64,
    /// Packets that were due and that it did not come to.
    pub missed: u64,
    /// For how long the frames of a capture that were sent should have taken, by their times.
    pub due_ns: Option<u64>,
    /// Frames that other lcores had no room for.
    pub handover_full: u64,
    /// Times that the pool was empty.
    pub no_buffers: u64,
}

/// A stage under way.
struct Run {
    pace: Pace,
    meter: Meter,
    limit: Limit,
    is_sending: bool,
    now_ns: u64,
    end_ns: u64,
    show_ns: u64,
    no_buffers: u64,
}

/// Where a frame that was taken goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Done,
    /// It is an answer now.
    Answer,
    /// To the lcore with this number.
    Foreign(u8),
    Arp,
}

impl Fate {
    /// What the share says of the frame in this buffer.
    #[inline(always)]
    fn of(taken: Taken, mbuf: &mut Mbuf) -> Fate {
        match taken {
            Taken::Done => Fate::Done,
            Taken::Answer(len) => {
                let fits = mbuf.frame().set_len(len as u16);
                debug_assert!(fits, "an answer is not longer than its frame");
                Fate::Answer
            }
            Taken::Foreign(owner) => Fate::Foreign(owner),
        }
    }
}

impl Lcore {
    /// Carries out stages as they come, until no more can come.
    pub(super) fn run(mut self, parts: &Receiver<Part>, outcomes: &Sender<Outcome>) {
        loop {
            match parts.try_recv() {
                Ok(part) => {
                    // Nobody may be waiting for it.
                    let _ = outcomes.send(self.stage(part));
                }
                Err(TryRecvError::Empty) => self.idle(),
                Err(TryRecvError::Disconnected) => return,
            }
        }
    }

    fn stage(&mut self, part: Part) -> Outcome {
        let mut run = self.begin(part);
        loop {
            let phase = self.common.phase();
            if phase == Phase::Over {
                return self.finish(&mut run);
            }
            let mut taken = self.receive_inside() + self.receive_outside();
            taken += self.adopt();
            let between = self.clock.cycles();
            run.now_ns = self.clock.ns_at(between);
            let made = self.send_due(&mut run, phase);
            self.flush(&run);
            run.meter.turn(taken, between, made, self.clock.cycles());
            self.keep_house(&mut run);
            if taken + made == 0 && self.yields {
                thread::yield_now();
                run.meter.away(self.clock.cycles());
            }
        }
    }

    /// Either side has code of its own, in which the way of packets is a constant.
    #[inline(never)]
    fn receive_inside(&mut self) -> usize {
        self.receive(Side::Inside)
    }

    #[inline(never)]
    fn receive_outside(&mut self) -> usize {
        self.receive(Side::Outside)
    }

    /// Takes what has come to a port, and returns how much.
    #[inline(always)]
    fn receive(&mut self, side: Side) -> usize {
        let mut burst = Burst::new();
        let count = self.ends[side as usize].rx.poll(&mut burst);
        if count > 0 {
            let now_ns = self.clock.now_ns();
            burst.iter().for_each(|mbuf| self.share.prefetch(mbuf.bytes()));
            let answers = self.take_all(side, &mut burst, now_ns);
            if answers != 0 {
                self.send_back(side, &mut burst, answers);
            }
            burst.clear();
        }
        count
    }

    /// Takes all frames, and says which are answers now, with a bit for each. If some are neither that
    /// nor done with, all go on from here, and none are left.
    #[inline(always)]
    fn take_all(&mut self, side: Side, burst: &mut Burst, now_ns: u64) -> u64 {
        let mut answers = 0;
        let taken = self.take_run(side, burst, 0, now_ns, &mut answers);
        if taken < burst.len() {
            self.take_rest(side, burst, taken, now_ns, answers)
        } else {
            answers
        }
    }

    /// Takes usual frames from the one at `first` on; the index of the first that is not.
    #[inline(always)]
    fn take_run(
        &mut self,
        side: Side,
        burst: &mut Burst,
        first: usize,
        now_ns: u64,
        answers: &mut u64,
    ) -> usize {
        if self.replay.is_some() {
            return first;
        }
        self.share.take_run(side, burst, first, now_ns, answers)
    }

    /// The same as [`Lcore::take_all`], from a frame on that is not a usual one.
    #[inline(never)]
    fn take_rest(
        &mut self,
        side: Side,
        burst: &mut Burst,
        mut at: usize,
        now_ns: u64,
        mut answers: u64,
    ) -> u64 {
        let (mut fates, mut are_others) = ([Fate::Done; BURST_MAX], false);
        while at < burst.len() {
            let fate = self.take_any(side, &mut burst[at], now_ns);
            match fate {
                Fate::Done => {}
                Fate::Answer => answers |= 1 << at,
                Fate::Foreign(_) | Fate::Arp => are_others = true,
            }
            fates[at] = fate;
            at = self.take_run(side, burst, at + 1, now_ns, &mut answers);
        }
        if !are_others {
            return answers;
        }
        for (_, fate) in fates.iter_mut().enumerate().filter(|(at, _)| answers >> at & 1 == 1) {
            *fate = Fate::Answer;
        }
        self.pass_on(side, burst, &fates);
        0
    }

    /// Has answers go out with the next flush, in order.
    #[inline]
    fn send_back(&mut self, side: Side, burst: &mut Burst, answers: u64) {
        let end = &mut self.ends[side as usize];
        if end.out.len() + burst.len() > BURST_MAX {
            end.tx.send(&mut end.out);
        }
        if end.out.len() + burst.len() <= BURST_MAX {
            return burst.part(answers, &mut end.out);
        }
        let mut back = Burst::new();
        burst.part(answers, &mut back);
        back.drain().for_each(|mbuf| self.push(side, mbuf));
    }

    /// Takes one frame.
    #[inline]
    fn take(&mut self, side: Side, mbuf: &mut Mbuf, now_ns: u64) -> Fate {
        if self.replay.is_none()
            && let Some(taken) = self.share.take_usual(side, mbuf.frame().into_bytes(), now_ns)
        {
            return Fate::of(taken, mbuf);
        }
        self.take_any(side, mbuf, now_ns)
    }

    #[inline(never)]
    fn take_any(&mut self, side: Side, mbuf: &mut Mbuf, now_ns: u64) -> Fate {
        let bytes = mbuf.frame().into_bytes();
        if arp::is_arp(bytes).is_some() {
            return Fate::Arp;
        }
        if let Some(replay) = &mut self.replay {
            replay.take(side, bytes);
            return Fate::Done;
        }
        Fate::of(self.share.take_any(side, bytes, now_ns), mbuf)
    }

    /// Has frames that were taken go on, and frees those that are done with.
    #[inline]
    fn pass_on(&mut self, side: Side, burst: &mut Burst, fates: &[Fate; BURST_MAX]) {
        let mut spent = Burst::new();
        for (mbuf, fate) in burst.drain().zip(fates) {
            if let Some(mbuf) = self.pass_on_one(side, mbuf, *fate) {
                // As many as were received fit.
                let _ = spent.push(mbuf);
            }
        }
        spent.clear();
    }

    /// Gives back a buffer that is done with.
    #[inline]
    fn pass_on_one(&mut self, side: Side, mbuf: Mbuf, fate: Fate) -> Option<Mbuf> {
        match fate {
            Fate::Done => return Some(mbuf),
            Fate::Answer => self.push(side, mbuf),
            Fate::Foreign(owner) => self.exchange.hand_over(owner, side, mbuf),
            Fate::Arp => self.answer_arp(side, mbuf),
        }
        None
    }

    /// Takes what came to other lcores, a burst at most.
    #[inline]
    fn adopt(&mut self) -> usize {
        let mut count = 0;
        while count < BURST_MAX
            && let Some((side, mut mbuf)) = self.exchange.next()
        {
            let fate = self.take(side, &mut mbuf, self.clock.now_ns());
            drop(self.pass_on_one(side, mbuf, fate));
            count += 1;
        }
        count
    }

    /// Makes the packets that are due, and returns how many.
    #[inline]
    fn send_due(&mut self, run: &mut Run, phase: Phase) -> usize {
        if !run.is_sending || run.is_over(phase, self) {
            return 0;
        }
        let now_ns = run.now_ns;
        let allowance = run.pace.allowance(now_ns);
        let waiting = self.ends[0].out.len().max(self.ends[1].out.len());
        let most = run.most().min((BURST_MAX - waiting) as u32);
        if allowance <= 0.0 || most == 0 {
            return 0;
        }
        if !self.refill(most as usize) {
            run.no_buffers += 1;
            return 0;
        }
        let (mut frames, mut cost) = (0, 0.0);
        while frames < most && cost < allowance {
            let (made, taken) = self.make_run(&run.pace, most - frames, allowance - cost, now_ns);
            if made > 0 {
                (frames, cost) = (frames + made, cost + taken);
                continue;
            }
            let Some(len) = self.make(now_ns) else {
                run.pace.lapse(now_ns);
                break;
            };
            (frames, cost) = (frames + 1, cost + run.pace.cost(len));
        }
        if frames > 0 {
            run.pace.spend(frames, cost, now_ns);
        }
        frames as usize
    }

    /// Makes packets that are alike, if such are next: how many, and what they take of the allowance.
    #[inline]
    fn make_run(&mut self, pace: &Pace, most: u32, allowance: f64, now_ns: u64) -> (u32, f64) {
        let Some(len) = self.share.run_len().filter(|_| self.replay.is_none()) else {
            return (0, 0.0);
        };
        let cost = pace.cost(len);
        let most = most.min((allowance / cost).ceil() as u32) as usize;
        let made = self.share.next_run(now_ns, &mut self.blank, most);
        self.blank.give(made, &mut self.ends[Side::Inside as usize].out);
        (made as u32, made as f64 * cost)
    }

    /// Makes the next packet; its length.
    #[inline]
    fn make(&mut self, now_ns: u64) -> Option<usize> {
        let mut mbuf = self.blank.pop()?;
        let mut frame = mbuf.frame();
        let room = &mut frame.room[usize::from(*frame.start)..];
        let made = match &mut self.replay {
            Some(replay) => replay.next(now_ns, room),
            None => self.share.next(now_ns, room),
        };
        match made {
            Some((side, len)) => {
                let fits = frame.set_len(len as u16);
                debug_assert!(fits, "a frame fits where it was written");
                self.push(side, mbuf);
                Some(len)
            }
            None => {
                let _ = self.blank.push(mbuf);
                None
            }
        }
    }

    /// Has so many empty buffers at hand; false if the pool has too few.
    #[inline]
    fn refill(&mut self, count: usize) -> bool {
        let has = self.blank.len();
        has >= count || self.pool.alloc_many(&mut self.blank, count - has)
    }

    /// Has a frame sent with the next flush. One that its port has no room for is dropped.
    #[inline]
    fn push(&mut self, side: Side, mbuf: Mbuf) {
        let end = &mut self.ends[side as usize];
        if end.out.is_full() {
            end.tx.send(&mut end.out);
        }
        if let Err(mbuf) = end.out.push(mbuf) {
            self.unsent(side, &mbuf);
        }
    }

    #[cold]
    fn unsent(&mut self, side: Side, mbuf: &Mbuf) {
        match &mut self.replay {
            Some(replay) => replay.unsent(side, mbuf.bytes().len()),
            None => self.share.unsent(side, mbuf.bytes()),
        }
    }

    /// Sends what waits. What a port does not take stays: it goes first next time.
    #[inline]
    fn flush(&mut self, run: &Run) {
        for side in Side::BOTH {
            let end = &mut self.ends[side as usize];
            if end.out.is_empty() {
                continue;
            }
            let waiting = end.out.len();
            end.tx.send(&mut end.out);
            if end.out.len() < waiting {
                end.stuck_ns = 0;
            } else {
                self.stuck(side, run);
            }
        }
    }

    /// A port took nothing.
    #[cold]
    fn stuck(&mut self, side: Side, run: &Run) {
        let end = &mut self.ends[side as usize];
        if end.stuck_ns == 0 {
            end.stuck_ns = run.now_ns;
        } else if run.pace.is_paced() && run.now_ns - end.stuck_ns >= STUCK_NS {
            self.drop_waiting(side);
        }
    }

    fn drop_waiting(&mut self, side: Side) {
        let mut out = std::mem::take(&mut self.ends[side as usize].out);
        out.drain().for_each(|mbuf| self.unsent(side, &mbuf));
    }

    /// Shows what was counted, and hears of next hops that have moved.
    #[inline]
    fn keep_house(&mut self, run: &mut Run) {
        for side in Side::BOTH {
            if self.ends[side as usize].known != self.common.neighbours[side as usize].mac() {
                self.learn(side);
            }
        }
        if run.now_ns >= run.show_ns {
            self.show(run);
        }
    }

    fn show(&mut self, run: &mut Run) {
        let shown = match &self.replay {
            Some(replay) => replay.shown(),
            None => Shown::new(&self.share.look()),
        };
        let step = if run.is_sending { SHOW_NS } else { SHOW_DRAINING_NS };
        run.show_ns = (run.show_ns + step).max(run.now_ns);
        self.common.boards[self.number].show(&shown, run.now_ns, !run.is_sending);
    }

    #[cold]
    fn learn(&mut self, side: Side) {
        let end = &mut self.ends[side as usize];
        end.known = self.common.neighbours[side as usize].mac();
        let Some(destination) = end.known else { return };
        let link = LinkHeader { destination, source: end.us.mac, vlan: end.us.vlan };
        self.share.set_link(side, &link);
        if let Some(replay) = &mut self.replay {
            replay.set_link(side, &link);
        }
    }

    #[cold]
    fn answer_arp(&mut self, side: Side, mbuf: Mbuf) {
        let end = &mut self.ends[side as usize];
        let Some(heard) = end.us.hear(mbuf.bytes()) else { return };
        let (address, mac) = heard.sender;
        if address == end.next_hop && end.next_hop_mac.is_none() && !mac.is_group() {
            self.common.neighbours[side as usize].set(mac);
        }
        if heard.asks_us {
            end.send_arp(mbuf, |us, buffer| us.answer(&heard, buffer));
        }
    }

    /// Between stages nothing but ARP is heard.
    fn idle(&mut self) {
        for side in Side::BOTH {
            let mut burst = Burst::new();
            self.ends[side as usize].rx.poll(&mut burst);
            for mbuf in burst.drain().filter(|mbuf| arp::is_arp(mbuf.bytes()).is_some()) {
                self.answer_arp(side, mbuf);
            }
            if self.number == 0 && self.common.neighbours[side as usize].mac().is_none() {
                self.ask(side);
            }
        }
        while self.exchange.next().is_some() {}
        if self.yields {
            thread::yield_now();
        }
    }

    fn ask(&mut self, side: Side) {
        let now_ns = self.clock.now_ns();
        let end = &mut self.ends[side as usize];
        if now_ns >= end.ask_ns
            && let Some(mbuf) = self.pool.alloc()
        {
            end.ask_ns = now_ns + ASK_NS;
            let next_hop = end.next_hop;
            end.send_arp(mbuf, |us, buffer| us.ask(next_hop, buffer));
        }
    }

    fn begin(&mut self, part: Part) -> Run {
        Side::BOTH.into_iter().for_each(|side| self.learn(side));
        let now_ns = self.clock.now_ns();
        self.share.begin(&part.stage, now_ns);
        if let Some(replay) = &mut self.replay {
            replay.begin();
        }
        (self.exchange.handed, self.exchange.full) = (0, 0);
        self.common.boards[self.number].show(&Shown::default(), now_ns, false);
        self.common.ready.fetch_add(1, Ordering::AcqRel);
        while self.common.phase() == Phase::Begin {
            thread::yield_now();
        }
        let now_ns = self.clock.now_ns();
        let patience = if self.yields { Patience::SHARED } else { Patience::ALONE };
        let time = if let Limit::Time(ns) = part.limit { Some(ns) } else { None };
        Run {
            pace: Pace::new(part.rate, patience, now_ns, time),
            meter: Meter::new(self.clock.cycles()),
            limit: part.limit,
            is_sending: true,
            now_ns,
            end_ns: now_ns,
            show_ns: now_ns + SHOW_NS,
            no_buffers: 0,
        }
    }

    fn finish(&mut self, run: &mut Run) -> Outcome {
        if run.is_sending {
            run.stop();
        }
        for side in Side::BOTH {
            self.drop_waiting(side);
            (self.ends[side as usize].stuck_ns, self.ends[side as usize].ask_ns) = (0, 0);
        }
        let mut seen = self.share.finish();
        if let Some(replay) = &self.replay {
            replay.tell(&mut seen);
        }
        Outcome {
            seen,
            rhythm: run.pace.rhythm(),
            meter: run.meter,
            elapsed_ns: run.pace.elapsed_ns(run.end_ns),
            missed: run.pace.missed(run.end_ns),
            due_ns: self.replay.as_ref().and_then(Replay::due_ns),
            handover_full: self.exchange.full,
            no_buffers: run.no_buffers,
        }
    }
}

impl Run {
    /// Whether there is nothing more to send.
    #[inline]
    fn is_over(&mut self, phase: Phase, lcore: &Lcore) -> bool {
        let is_over = phase != Phase::Send
            || match (self.limit, &lcore.replay) {
                (Limit::Time(_), _) if self.pace.is_over(self.now_ns) => true,
                (_, Some(replay)) => replay.is_done(),
                (Limit::Time(_), None) => false,
                (Limit::Packets(count), _) => self.pace.frames() >= count,
                (Limit::Sessions(count), _) => lcore.share.tally().opened >= count,
                (Limit::Done, _) => lcore.share.is_done(),
            };
        if is_over {
            self.stop();
        }
        is_over
    }

    #[cold]
    fn stop(&mut self) {
        self.is_sending = false;
        self.meter.stop();
        self.end_ns = self.now_ns;
        self.show_ns = 0;
    }

    /// How many packets may still be sent, a burst at most.
    #[inline]
    fn most(&self) -> u32 {
        match self.limit {
            Limit::Packets(count) => (count - self.pace.frames()).min(BURST_FRAMES.into()) as u32,
            _ => BURST_FRAMES,
        }
    }
}

impl End {
    /// Sends an ARP frame in this buffer at once; if its port is full it is lost.
    fn send_arp(&mut self, mut mbuf: Mbuf, write: impl FnOnce(&Station, &mut [u8]) -> usize) {
        let mut frame = mbuf.frame();
        if frame.set_len(arp::FRAME_LEN as u16) {
            let len = write(&self.us, frame.bytes_mut());
            let fits = frame.set_len(len as u16);
            debug_assert!(fits, "it was written there");
            let mut burst = Burst::new();
            let _ = burst.push(mbuf);
            self.tx.send(&mut burst);
        }
    }
}
