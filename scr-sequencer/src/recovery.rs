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
    /// Not 0: it is waited for no more.
    expelled: M::Word,
}

impl<R: Shipped, M: Memory> Group<R, M> {
    /// A group of `cores`, each of which remembers `slots` packets.
    pub fn new(cores: usize, slots: usize, patience: Patience) -> Arc<Self> {
        let member = |_| {
            CachePadded::new(Published {
                log: Log::new(slots),
                applied: M::Word::zero(),
                wanted: M::Word::zero(),
                expelled: M::Word::zero(),
            })
        };
        let (members, began) = ((0..cores).map(member).collect(), M::Word::zero());
        Arc::new(Group { members, began, patience })
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

impl<R: Shipped, M: Memory> Published<R, M> {
    #[inline]
    fn is_expelled(&self) -> bool {
        self.expelled.load(Ordering::Acquire) != 0
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
        let (handed, applied, published) = (0, 0, 0);
        let (pending, fruitless, idle) = (None, 0, 0);
        Member { group, core, handed, applied, published, pending, fruitless, idle }
    }

    /// The last packet whose record was handed on.
    #[inline]
    pub fn handed(&self) -> u64 {
        self.handed
    }

    /// Whether the others go on without it.
    pub fn is_expelled(&self) -> bool {
        self.own().is_expelled()
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
            && !self.own().is_expelled();
        if !is_next {
            return self.offer_after_loss(carried, found);
        }
        if carried.sequence > self.reach() {
            return Turn::Wait;
        }
        self.know(carried, carried.sequence - 1);
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
    #[inline]
    fn know(&mut self, carried: &Carried<'_, R>, last: u64) {
        let new = carried.history.newest((carried.sequence - 1 - self.published) as usize);
        for (sequence, record) in (self.published + 1..=last).zip(new.iter()) {
            self.own().log.know(sequence, record);
            self.published = sequence;
        }
    }

    /// Publishes that this core has not got the packets up to `last`, as far as it may.
    fn lose(&mut self, last: u64) {
        let last = last.min(self.reach());
        for sequence in self.published + 1..=last {
            self.own().log.lose(sequence);
            self.published = sequence;
        }
    }

    #[cold]
    fn offer_after_loss(
        &mut self,
        carried: &Carried<'_, R>,
        found: &mut impl FnMut(u64, Option<&R>),
    ) -> Turn {
        if self.own().is_expelled() {
            return Turn::Behind;
        }
        let first = carried.sequence - carried.history.len() as u64;
        if self.published == 0 {
            // Where the log reaches back to the very first packet, that is the beginning.
            let is_early = carried.sequence <= self.own().log.slots();
            self.begin_behind(if is_early { 0 } else { first - 1 });
        }
        let lost_to = match self.pending {
            Some(pending) if pending.sequence == carried.sequence => pending.lost_to,
            _ if carried.sequence <= self.published => return Turn::Late,
            // What this core has called lost, others may have left out: its record comes too late.
            _ => (first - 1).max(self.published),
        };
        self.pending = Some(Pending { sequence: carried.sequence, lost_to });
        if self.applied != self.handed {
            return Turn::Wait;
        }
        loop {
            // All is published before anything is waited for, since others may wait for this.
            self.lose(lost_to);
            if self.published >= lost_to {
                self.know(carried, (carried.sequence - 1).min(self.reach()));
            }
            match self.search(lost_to, found) {
                Search::Done if self.handed < lost_to => {}
                Search::Done if carried.sequence > self.reach() => return Turn::Wait,
                Search::Done => break,
                Search::Open => return Turn::Wait,
                Search::Behind => return Turn::Behind,
            }
        }
        self.know(carried, carried.sequence - 1);
        self.pending = None;
        self.published = carried.sequence;
        self.hand_on(carried)
    }

    /// Joins a group whose first packet, of those that any core saw, came with a history that began
    /// behind `last`: what was before, nobody can know.
    fn begin_behind(&mut self, last: u64) {
        let began = self.group.began.set_once(last + 1) - 1;
        (self.handed, self.published) = (began, began);
        self.stepped();
    }

    /// Publishes the record of the packet that was handed on last but for its own record, which is
    /// known only when it is parsed.
    #[inline]
    pub fn know_own(&self, sequence: u64, record: &R) {
        self.own().log.know(sequence, record);
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

    /// Asks the others for the packets up to `last`, as far as it was published that they are lost.
    fn search(&mut self, last: u64, found: &mut impl FnMut(u64, Option<&R>)) -> Search {
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
        for other in &self.group.members {
            match other.log.read(sequence) {
                Entry::Known(record) => return Answer::Found(record),
                Entry::Lost => {}
                Entry::NotYet => is_open |= !other.is_expelled(),
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
        for other in &self.group.members {
            if other.log.read(sequence) == Entry::NotYet {
                other.expelled.store(1, Ordering::Release);
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
        // Of those further back the log says nothing, which reads as forgotten.
        self.published = self.published.max(applied.saturating_sub(self.own().log.slots()));
        self.lose(applied);
        self.pending = self.pending.filter(|pending| pending.sequence > applied);
        self.fruitless = 0;
        self.own().wanted.store(0, Ordering::Relaxed);
        self.own().expelled.store(0, Ordering::Release);
    }
}
