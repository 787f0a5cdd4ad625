//! What a core does about packets that were lost on their way to it.
//!
//! A packet has a number, and each core sees nearly every number: of its own packets, and in their
//! histories. What it does not see another core may have seen, so each core keeps a [`Log`] of what
//! it knows, and asks the logs of the others for what it lacks. The state machine goes on in order
//! only: a number is done when its record was found, or when all cores say that they have not got
//! it, and then all of them leave it out.
//!
//! What the published algorithm (`xdp_portknock_v6` and `v7` of the paper's artifact) leaves open,
//! and how it is closed here:
//!
//! * *A core waits for one that gets no more packets.* Who waits says for which number
//!   ([`Group`]), and a core without packets, after some polls in which none came, takes all up to
//!   that number for lost: then it knows them by asking, like the one that waits.
//! * *A reader meets a slot that is being overwritten.* It notices ([`Entry::Overwritten`]).
//! * *A gap exceeds the log.* A core says nothing about numbers further ahead of its state than its
//!   log is long. So if a slot is overwritten, its core has gone past, and its state can be copied.
//!   The core that is furthest ahead never finds one overwritten: it goes on, and all others can.
//! * *A core that does not poll any more.* After so many polls in vain it is expelled: the others
//!   go on without it, and if it comes back it must take over a state first.
//! * *It goes on in that very moment.* What counts of an expelled core's log ends where the first one
//!   to look, after it was expelled, finds its end, for all alike. The expelled core says what it knows,
//!   looks whether it is expelled, and only then steps on anything ([`Member::confirm`]): with a
//!   sequentially consistent fence between on both sides, either it sees that it is expelled, or the end
//!   is behind what it said. So it steps on nothing that others leave out.
//! * *All are expelled, or the one that is furthest ahead.* Who is expelled expels nobody, so one is not.
//!   Who is expelled and furthest ahead says that it waits for the next packet, so that those come past
//!   it which have none.
//! * *A core that is back says what others did not wait for.* It takes for lost what any other had said
//!   something of when it came back.
//!
//! What a core has said it has lost stays lost to it. A packet that arrives behind that is dropped,
//! since others may have left it out.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam::utils::CachePadded;

use crate::Shipped;
use crate::history::Carried;
use crate::log::{Atomics, Entry, Log, Memory, Word};

/// How patient the cores of a group are, in polls that bring nothing.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Before a core without packets takes for lost what others wait for: long enough for what is
    /// still on its way to it.
    pub idle: u32,
    /// Before a core that says nothing is expelled.
    pub silent: u32,
}

/// What the cores of a group know of each other.
#[derive(Debug)]
pub struct Group<R, M: Memory = Atomics> {
    members: Box<[CachePadded<Published<R, M>>]>,
    /// One more than the number of the last packet before the group began; 0 as long as it has not.
    began: M::Word,
    /// A bit for each core that is waited for no more. Never all of them.
    expelled: M::Word,
    patience: Patience,
}

/// What a core lets the others know.
#[derive(Debug)]
struct Published<R, M: Memory> {
    log: Log<R, M>,
    /// Its state is that behind this packet.
    applied: M::Word,
    /// It waits for what the others say of the packets up to this one; 0: for nothing.
    wanted: M::Word,
    /// If it is expelled, one more than the last packet of its log that counts, or 0 if that has not been
    /// found yet; and in the bits above [`NUMBER`] how often it has come back.
    end: M::Word,
}

/// The bits of a number in [`Published::end`]: enough for 28 years at 20 million packets a second.
const NUMBER: u64 = (1 << 54) - 1;

impl<R: Shipped, M: Memory> Group<R, M> {
    /// A group of `cores`, each of which remembers `slots` packets.
    ///
    /// # Panics
    /// If there are more than 64 cores.
    pub fn new(cores: usize, slots: usize, patience: Patience) -> Arc<Self> {
        assert!(cores <= u64::BITS as usize, "a group has a bit for each core");
        let member = |_| {
            CachePadded::new(Published {
                log: Log::new(slots),
                applied: M::Word::zero(),
                wanted: M::Word::zero(),
                end: M::Word::zero(),
            })
        };
        let members = (0..cores).map(member).collect();
        let [began, expelled] = [(); 2].map(|()| M::Word::zero());
        Arc::new(Group { members, began, expelled, patience })
    }

    #[inline]
    fn has_expelled(&self, core: usize) -> bool {
        self.expelled.load(Ordering::Acquire) >> core & 1 != 0
    }

    /// Expels a core, unless `by` is expelled itself.
    fn expel(&self, core: usize, by: usize) {
        loop {
            let before = self.expelled.load(Ordering::Acquire);
            if before >> by & 1 != 0 || self.expelled.exchange(before, before | 1 << core) {
                return;
            }
        }
    }

    /// Has a core back, whose log says nothing behind its end.
    fn readmit(&self, core: usize) {
        loop {
            let before = self.expelled.load(Ordering::Acquire);
            if self.expelled.exchange(before, before & !(1 << core)) {
                break;
            }
        }
        let end = &self.members[core].end;
        let times = end.load(Ordering::Relaxed) & !NUMBER;
        end.store(times.wrapping_add(NUMBER + 1), Ordering::Release);
    }

    /// One more than the last packet that counts of what an expelled core says; `None` if it is not
    /// expelled.
    fn end(&self, core: usize) -> Option<u64> {
        let Published { log, end, .. } = &*self.members[core];
        loop {
            let before = end.load(Ordering::Acquire);
            if !self.has_expelled(core) {
                return None;
            }
            if before & NUMBER != 0 {
                return Some(before & NUMBER);
            }
            M::fence(Ordering::SeqCst);
            end.exchange(before, before | (log.newest() + 1) & NUMBER);
        }
    }

    /// What a core says of a packet, as far as it counts.
    fn read(&self, core: usize, sequence: u64) -> Entry<R> {
        let log = &self.members[core].log;
        let seen = log.read(sequence);
        M::fence(Ordering::SeqCst);
        match self.end(core) {
            None => seen,
            Some(end) if sequence >= end => Entry::Lost,
            // All that is before the end was there when that was found.
            Some(_) => log.read(sequence),
        }
    }

    /// The packet before the first one of the group; 0 as long as it has none.
    pub fn began(&self) -> u64 {
        self.began.load(Ordering::Acquire).saturating_sub(1)
    }

    /// The core that is furthest ahead, and the packet that its state is behind.
    pub fn foremost(&self) -> (usize, u64) {
        let applied = |(core, member): (usize, &CachePadded<Published<R, M>>)| {
            (core, member.applied.load(Ordering::Acquire))
        };
        self.members.iter().enumerate().map(applied).max_by_key(|at| at.1).unwrap_or_default()
    }
}

/// A core's place in its group.
#[derive(Debug)]
pub struct Member<R, M: Memory = Atomics> {
    group: Arc<Group<R, M>>,
    core: usize,
    /// The last packet whose record was handed on.
    handed: u64,
    /// The state is that behind this packet: `handed`, but for what of a burst is to be stepped on.
    applied: u64,
    /// Up to here the log says of every packet whether this core has it. Not before `handed`, and
    /// no further ahead of `applied` than the log is long.
    published: u64,
    /// Up to here it stands in the log: all, but for the burst that is at hand.
    logged: u64,
    /// What is not behind this packet is lost to this core, whether it comes or not: others may have left
    /// it out while this one was expelled.
    lost_to: u64,
    /// The packet whose turn has not come yet.
    pending: Option<Pending>,
    /// Polls without progress: of a search, and of a core without packets.
    fruitless: u32,
    idle: u32,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    sequence: u64,
    /// Up to here packets before it are lost to this core.
    lost_to: u64,
}

/// Whether a packet's turn has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// So many of the newest records of its history are to be stepped on, and then it.
    Now(usize),
    /// Something before it is to be stepped on, or looked for still: it is to be offered again,
    /// before later ones.
    Wait,
    /// It was given up before it came.
    Late,
    /// Records before it are not to be had any more: another core's state must be taken over.
    Behind,
}

/// How far the search for lost records has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// Nothing is missing.
    Done,
    /// Others have not said yet whether they have what is missing.
    Open,
    /// It is so long ago that nobody remembers: another core's state must be taken over.
    Behind,
}

/// What the cores say of a packet that one has not got.
enum Answer<R> {
    Found(R),
    Nobody,
    Open,
    Forgotten,
}

impl<R: Shipped, M: Memory> Member<R, M> {
    /// The place of `core` in `group`; nobody else may have it.
    pub fn new(group: Arc<Group<R, M>>, core: usize) -> Self {
        Member {
            group,
            core,
            handed: 0,
            applied: 0,
            published: 0,
            logged: 0,
            lost_to: 0,
            pending: None,
            fruitless: 0,
            idle: 0,
        }
    }

    /// The last packet whose record was handed on.
    #[inline]
    pub fn handed(&self) -> u64 {
        self.handed
    }

    /// Whether the others go on without it.
    #[inline]
    pub fn is_expelled(&self) -> bool {
        self.group.has_expelled(self.core)
    }

    /// Publishes the record of the next packet of those that were handed on, unless it did before.
    #[inline]
    pub fn know(&mut self, sequence: u64, record: &R) {
        if sequence > self.logged {
            debug_assert_eq!(sequence, self.logged + 1, "a log has no gaps");
            self.own().log.know(sequence, record);
            self.logged = sequence;
        }
    }

    /// Whether what this core has said of packets so far counts, so that they may be stepped on, when all
    /// that was handed on is published: not if it is expelled. Then it goes back to where its state is,
    /// and must take over another's.
    #[must_use]
    pub fn confirm(&mut self) -> bool {
        M::fence(Ordering::SeqCst);
        let holds = !self.is_expelled();
        if !holds {
            self.handed = self.applied;
        }
        holds
    }

    /// Whether some core is ahead of this one, so that it has a state for it.
    pub fn is_passed(&self) -> bool {
        self.group.foremost().1 > self.applied
    }

    #[inline]
    fn own(&self) -> &Published<R, M> {
        &self.group.members[self.core]
    }

    /// How far the log may go: what the state has not seen must not be overwritten.
    #[inline]
    fn reach(&self) -> u64 {
        self.applied + self.own().log.slots()
    }

    /// Looks at a packet that has come. If its turn is `Now`, it and what of its history is new count
    /// as handed on. Lost records go to `found` before, in order, each with its packet's number;
    /// `None` for one that no core has.
    #[inline]
    pub fn offer(
        &mut self,
        carried: &Carried<'_, R>,
        found: &mut impl FnMut(u64, Option<&R>),
    ) -> Turn {
        self.idle = 0;
        let first = carried.sequence - carried.history.len() as u64;
        let is_next = self.published == self.handed
            && self.published != 0
            && first <= self.handed + 1
            && self.handed < carried.sequence
            && self.handed >= self.lost_to
            && !self.is_expelled();
        if !is_next {
            return self.offer_after_loss(carried, found);
        }
        if carried.sequence > self.reach() {
            return Turn::Wait;
        }
        self.published = carried.sequence;
        self.hand_on(carried)
    }

    #[inline]
    fn hand_on(&mut self, carried: &Carried<'_, R>) -> Turn {
        let new = carried.sequence - 1 - self.handed;
        self.handed = carried.sequence;
        Turn::Now(new as usize)
    }

    /// Publishes what the history says of packets that nothing was said of yet, up to `last`.
    fn know_history(&mut self, carried: &Carried<'_, R>, last: u64) {
        let new = carried.history.newest((carried.sequence - 1 - self.published) as usize);
        for (sequence, record) in (self.published + 1..=last).zip(new.iter()) {
            self.know(sequence, record);
            self.published = sequence;
        }
    }

    /// Publishes that this core has not got the packets up to `last`, as far as it may.
    fn lose(&mut self, last: u64) {
        let last = last.min(self.reach());
        for sequence in self.published + 1..=last {
            self.own().log.lose(sequence);
            (self.published, self.logged) = (sequence, sequence);
        }
    }

    #[cold]
    fn offer_after_loss(
        &mut self,
        carried: &Carried<'_, R>,
        found: &mut impl FnMut(u64, Option<&R>),
    ) -> Turn {
        if self.is_expelled() {
            self.ask_to_be_passed();
            return Turn::Behind;
        }
        let first = carried.sequence - carried.history.len() as u64;
        if self.published == 0 {
            // Where the log reaches back to the very first packet, that is the beginning.
            let is_early = carried.sequence <= self.own().log.slots();
            self.begin_behind(if is_early { 0 } else { first - 1 });
        }
        let is_lost = carried.sequence <= self.lost_to;
        let lost_to = match self.pending {
            Some(pending) if pending.sequence == carried.sequence => pending.lost_to,
            _ if carried.sequence <= self.published => return Turn::Late,
            _ if is_lost => carried.sequence,
            // What this core has called lost, others may have left out: its record comes too late.
            _ => (first - 1).max(self.published).max(self.lost_to),
        };
        self.pending = Some(Pending { sequence: carried.sequence, lost_to });
        if self.applied != self.handed {
            return Turn::Wait;
        }
        loop {
            // All is published before anything is waited for, since others may wait for this.
            self.lose(lost_to);
            if self.published >= lost_to && !is_lost {
                self.know_history(carried, (carried.sequence - 1).min(self.reach()));
            }
            match self.search(lost_to, found) {
                Search::Done if self.handed < lost_to => {}
                Search::Done if is_lost => {
                    self.pending = None;
                    return Turn::Late;
                }
                Search::Done if carried.sequence > self.reach() => return Turn::Wait,
                Search::Done => break,
                Search::Open => return Turn::Wait,
                Search::Behind => return Turn::Behind,
            }
        }
        self.know_history(carried, carried.sequence - 1);
        self.pending = None;
        self.published = carried.sequence;
        self.hand_on(carried)
    }

    /// Joins a group whose first packet, of those that any core saw, came with a history that began
    /// behind `last`: what was before, nobody can know.
    fn begin_behind(&mut self, last: u64) {
        let began = self.group.began.set_once(last + 1) - 1;
        (self.handed, self.published, self.logged) = (began, began, began);
        self.stepped();
    }

    /// Says that all that was handed on has been stepped on.
    #[inline]
    pub fn stepped(&mut self) {
        self.applied = self.handed;
        self.own().applied.store(self.applied, Ordering::Release);
    }

    /// A poll without packets. Lost records go to `found`, as in [`Member::offer`].
    pub fn idle(&mut self, found: &mut impl FnMut(u64, Option<&R>)) -> Search {
        debug_assert_eq!(self.applied, self.handed, "a burst is stepped on before the next poll");
        if self.published == 0 {
            match self.group.began.load(Ordering::Acquire) {
                0 => return Search::Done,
                began => self.begin_behind(began - 1),
            }
        }
        if self.is_expelled() {
            self.ask_to_be_passed();
            return Search::Behind;
        }
        let others = self.group.members.iter().map(|member| member.wanted.load(Ordering::Relaxed));
        let wanted = others.max().unwrap_or(0);
        if self.published < wanted {
            self.idle += 1;
            if self.idle < self.group.patience.idle {
                return Search::Open;
            }
            self.lose(wanted);
        }
        self.search(self.published, found)
    }

    /// Has cores without packets come past this one, which is expelled and needs the state of one that is
    /// ahead.
    fn ask_to_be_passed(&self) {
        self.own().wanted.store(self.applied + 1, Ordering::Relaxed);
    }

    /// Asks the others for the packets up to `last`, as far as it was published that they are lost.
    fn search(&mut self, last: u64, found: &mut impl FnMut(u64, Option<&R>)) -> Search {
        if self.handed < last.min(self.published) && !self.confirm() {
            return Search::Behind;
        }
        while self.handed < last.min(self.published) {
            let sequence = self.handed + 1;
            match self.ask(sequence) {
                Answer::Found(record) => found(sequence, Some(&record)),
                Answer::Nobody => found(sequence, None),
                Answer::Open => {
                    self.own().wanted.store(last, Ordering::Relaxed);
                    self.wait_for(sequence);
                    return Search::Open;
                }
                Answer::Forgotten => return Search::Behind,
            }
            (self.handed, self.fruitless) = (sequence, 0);
            self.stepped();
        }
        self.own().wanted.store(0, Ordering::Relaxed);
        Search::Done
    }

    /// Asks all cores, this one too: it may have taken note of a history whose packet it then had to
    /// give up.
    fn ask(&self, sequence: u64) -> Answer<R> {
        let (mut is_open, mut is_forgotten) = (false, false);
        for core in 0..self.group.members.len() {
            match self.group.read(core, sequence) {
                Entry::Known(record) => return Answer::Found(record),
                Entry::Lost => {}
                Entry::NotYet => is_open = true,
                Entry::Overwritten => is_forgotten = true,
            }
        }
        match (is_forgotten, is_open) {
            (true, _) => Answer::Forgotten,
            (_, true) => Answer::Open,
            _ => Answer::Nobody,
        }
    }

    /// Expels who has not said anything of a packet for too long.
    fn wait_for(&mut self, sequence: u64) {
        self.fruitless += 1;
        if self.fruitless < self.group.patience.silent {
            return;
        }
        self.fruitless = 0;
        for core in 0..self.group.members.len() {
            if self.group.read(core, sequence) == Entry::NotYet {
                self.group.expel(core, self.core);
            }
        }
    }

    /// Takes note that the state has become that of another core behind the packet `applied`.
    ///
    /// # Panics
    /// If that is not ahead of this core's own.
    pub fn adopted(&mut self, applied: u64) {
        assert!(applied >= self.handed, "a state is taken over from a core that is ahead");
        self.handed = applied;
        self.stepped();
        let end = self.group.end(self.core);
        if let Some(end) = end {
            // What it said behind its end counts for nobody.
            (end..=self.logged).for_each(|sequence| self.own().log.lose(sequence));
        }
        // Of those further back the log says nothing, which reads as forgotten.
        self.published = self.logged.max(applied.saturating_sub(self.own().log.slots()));
        self.lose(applied);
        self.pending = self.pending.filter(|pending| pending.sequence > applied);
        self.fruitless = 0;
        self.own().wanted.store(0, Ordering::Relaxed);
        if end.is_none() {
            return;
        }
        self.group.readmit(self.core);
        // Who decides without this core now has said something of that packet before.
        M::fence(Ordering::SeqCst);
        let others = self.group.members.iter().enumerate().filter(|(core, _)| *core != self.core);
        self.lost_to = others.map(|(_, other)| other.log.newest()).max().unwrap_or(0);
    }
}
