//! The sequencer as a value: numbers, turns, and the records of the latest packets.
//!
//! Cores take turns. A packet carries the records of those since the packet that the same core got
//! before, so with N cores N − 1 of them, fewer at the start; more when the core was passed over
//! because its ring was full; and as many as it takes when cores come and go.
//!
//! A packet is numbered in two steps, [`Sequencer::next_core`] and [`Sequencer::assign`], with the
//! question in between whether the core's ring takes it. What no ring takes is dropped before it is
//! numbered: no record of it exists, and no state lacks it.

use krono_core::packet::Side;
use krono_core::time::Moment;

use crate::Shipped;
use crate::room::Header;

/// The most cores of a group.
pub const CORES_MAX: usize = u64::BITS as usize;

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct Sequencer<R> {
    /// The latest records, each of them twice, half the length apart, so that any window of them
    /// lies in one piece.
    records: Box<[R]>,
    /// The length of a half, a power of two, less 1.
    mask: u64,
    history_max: u64,
    /// The number of the latest packet.
    last: u64,
    epoch: u32,
    /// Whose turn it is; any core if none is active.
    next: usize,
    /// A bit for each core that gets packets.
    active: u64,
    /// A bit for each core that was left out since [`Sequencer::left_out`] was asked.
    left_out: u64,
    /// Each core's latest packet: its next history begins behind that.
    sent: [u64; CORES_MAX],
}

/// A packet that has its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assigned<'a, R> {
    /// The core that gets it.
    pub core: usize,
    /// Its number.
    pub sequence: u64,
    /// Its moment, as handed in.
    pub moment: Moment,
    /// How often cores had joined or left before it.
    pub epoch: u32,
    /// The records since the core's packet before, oldest first.
    pub history: &'a [R],
}

impl<R> Assigned<'_, R> {
    /// What is written beside the packet, which arrived at `side`.
    #[inline]
    pub const fn header(&self, side: Side) -> Header {
        Header { sequence: self.sequence, moment: self.moment, epoch: self.epoch, side }
    }
}

/// Why there are not to be so many cores, or not this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such core.
    #[error("core {0} of a group, which has {CORES_MAX} at most, counted from 0")]
    NoSuchCore(usize),
    /// Histories are too short for so many.
    #[error("{cores} cores need histories of {} records, and {history_max} is the limit", .cores - 1)]
    TooManyCores {
        /// How many there were to be.
        cores: usize,
        /// Records of the longest history.
        history_max: usize,
    },
    /// The state that the core begins with is so old that its first history would be too long.
    #[error(
        "core {core} has the state behind packet {state}, and its first packet would need a history \
         of {records} records, more than the limit of {history_max}; a newer state must be copied"
    )]
    StateTooOld {
        /// The core.
        core: usize,
        /// The packet that its state is behind.
        state: u64,
        /// Records of its first history.
        records: u64,
        /// Records of the longest history.
        history_max: usize,
    },
}

impl<R: Shipped> Sequencer<R> {
    /// A sequencer for the cores 0 to `cores` − 1, in epoch 0, whose histories have at most
    /// `history_max` records. What that exceeds `cores` − 1 by is for cores that join and for those
    /// that are passed over: each time costs N − 1 records.
    ///
    /// # Errors
    /// If there are too many cores, or `history_max` is below `cores` − 1.
    pub fn new(cores: usize, history_max: usize) -> Result<Self, Refused> {
        if cores > CORES_MAX {
            return Err(Refused::NoSuchCore(CORES_MAX));
        }
        check_cores(cores, history_max)?;
        // The newest record is not of its own packet's history, and must not take the oldest's place.
        let half = (history_max + 1).next_power_of_two();
        Ok(Sequencer {
            records: vec![R::default(); 2 * half].into(),
            mask: half as u64 - 1,
            history_max: history_max as u64,
            last: 0,
            epoch: 0,
            next: 0,
            active: below(cores),
            left_out: 0,
            sent: [0; CORES_MAX],
        })
    }

    /// The core whose turn it is; `None` if none is active. Asking changes nothing.
    #[inline]
    pub fn next_core(&self) -> Option<usize> {
        (self.active != 0).then_some(self.next)
    }

    /// Numbers the packet with this record, which goes to [`Sequencer::next_core`].
    ///
    /// # Panics
    /// If no core is active.
    #[inline]
    pub fn assign(&mut self, record: R, moment: Moment) -> Assigned<'_, R> {
        assert!(self.active != 0, "a packet was numbered that no core gets");
        let core = self.next;
        let sequence = self.last + 1;
        let epoch = self.epoch;
        let behind = std::mem::replace(&mut self.sent[core], sequence);
        let half = self.records.len() / 2;
        let at = (sequence & self.mask) as usize;
        self.records[at] = record;
        self.records[half + at] = record;
        self.last = sequence;
        self.turn();
        let from = ((behind + 1) & self.mask) as usize;
        let history = &self.records[from..from + (sequence - 1 - behind) as usize];
        Assigned { core, sequence, moment, epoch, history }
    }

    /// Passes over the core whose turn it is, since its ring takes nothing: it is the next one's.
    ///
    /// A core that has been passed over for so long that its history has become too long is left out
    /// when its turn comes, as by [`Sequencer::deactivate`]; [`Sequencer::left_out`] says so.
    ///
    /// # Panics
    /// If no core is active.
    #[inline]
    pub fn pass_over(&mut self) {
        assert!(self.active != 0, "there is none to pass over");
        self.turn();
    }

    /// Gives the turn to the next core that can have it.
    #[inline]
    fn turn(&mut self) {
        self.next = following(self.active, self.next);
        if self.last - self.sent[self.next] > self.history_max {
            self.leave_out();
        }
    }

    /// Leaves out whose turn it is until it is that of a core whose history is not too long.
    #[cold]
    fn leave_out(&mut self) {
        while self.active != 0 && self.last - self.sent[self.next] > self.history_max {
            self.left_out |= 1 << self.next;
            self.active &= !(1 << self.next);
            self.epoch += 1;
            if self.active != 0 {
                self.next = following(self.active, self.next);
            }
        }
    }

    /// Records of the longest history that is to be written next: when it exceeds the limit, that
    /// core is left out.
    pub fn longest_history(&self) -> u64 {
        let active = (0..CORES_MAX).filter(|core| self.is_active(*core));
        active.map(|core| self.last - self.sent[core]).max().unwrap_or(0)
    }

    /// Records of the longest history that may be.
    pub fn history_max(&self) -> u64 {
        self.history_max
    }

    /// The cores that get packets, a bit for each.
    pub fn active(&self) -> u64 {
        self.active
    }

    /// One of the cores that were left out, once each: it must get a copy of another's state, and
    /// then be activated.
    #[inline]
    pub fn left_out(&mut self) -> Option<usize> {
        let core = (self.left_out != 0).then(|| self.left_out.trailing_zeros() as usize)?;
        self.left_out &= !(1 << core);
        Some(core)
    }

    /// Gives packets to a core from its next turn on. It has the state behind packet `state`, or
    /// will have got it when it comes to its first packet, whose history begins behind that.
    ///
    /// # Errors
    /// If that history, or all of them, would be longer than they may be.
    ///
    /// # Panics
    /// If the core is active, or `state` is ahead of the latest packet.
    pub fn activate(&mut self, core: usize, state: u64) -> Result<(), Refused> {
        if core >= CORES_MAX {
            return Err(Refused::NoSuchCore(core));
        }
        assert!(!self.is_active(core), "core {core} is active");
        assert!(state <= self.last, "packet {state} is not there yet");
        let history_max = self.history_max as usize;
        check_cores(self.cores() + 1, history_max)?;
        let records = self.last - state + self.turns_until(core);
        if records > self.history_max {
            return Err(Refused::StateTooOld { core, state, records, history_max });
        }
        if self.active == 0 {
            self.next = core;
        }
        self.active |= 1 << core;
        self.left_out &= !(1 << core);
        self.sent[core] = state;
        self.epoch += 1;
        Ok(())
    }

    /// How many cores have their turns before `core` has its first.
    fn turns_until(&self, core: usize) -> u64 {
        let before = self.active & below(core);
        let missed = self.active & below(self.next);
        match self.next <= core {
            true => (before & !missed).count_ones().into(),
            false => (before | self.active & !missed).count_ones().into(),
        }
    }

    /// Gives no more packets to a core: the number of its latest, behind which it may be activated
    /// again.
    ///
    /// # Panics
    /// If the core is not active.
    pub fn deactivate(&mut self, core: usize) -> u64 {
        assert!(self.is_active(core), "core {core} is not active");
        self.active &= !(1 << core);
        self.epoch += 1;
        if self.next == core && self.active != 0 {
            self.turn();
        }
        self.sent[core]
    }

    /// The number of a core's latest packet, 0 before its first: its state is behind that, once it has
    /// done what it got.
    pub fn sent_to(&self, core: usize) -> u64 {
        self.sent[core]
    }

    /// Whether a core gets packets.
    #[inline]
    pub fn is_active(&self, core: usize) -> bool {
        core < CORES_MAX && self.active & (1 << core) != 0
    }

    /// How many cores get packets.
    #[inline]
    pub fn cores(&self) -> usize {
        self.active.count_ones() as usize
    }

    /// The number of the latest packet, 0 before the first.
    #[inline]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// How often cores have joined or left.
    #[inline]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }
}

/// The bits of the cores with lower numbers.
const fn below(core: usize) -> u64 {
    if core >= CORES_MAX { u64::MAX } else { (1 << core) - 1 }
}

/// The core among `active`, which has some, whose turn is behind that of `core`.
#[inline]
const fn following(active: u64, core: usize) -> usize {
    let above = active & (u64::MAX << core << 1);
    (if above != 0 { above } else { active }).trailing_zeros() as usize
}

const fn check_cores(cores: usize, history_max: usize) -> Result<(), Refused> {
    if cores > history_max + 1 {
        return Err(Refused::TooManyCores { cores, history_max });
    }
    Ok(())
}
