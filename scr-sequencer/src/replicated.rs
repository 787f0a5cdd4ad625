//! The runner of a replica: history first, then the packet's own verdict.

use arrayvec::ArrayVec;
use krono_core::frame::BURST_MAX;
use krono_core::packet::{PacketMeta, Side};
use krono_core::program::{Events, Program, Slot, Translation, Verdict};
use krono_core::time::{Moment, Ticks};

use crate::Replicable;
use crate::history::{Carried, History};
use crate::recovery::{Member, Search, Turn};

/// A program whose state goes through all packets of a group, of which this core gets some.
///
/// It is itself a [`Program`] that knows its packets by their order, so that the shard around it is
/// the same as around any other. For each burst:
///
/// 1. [`Replicated::begin`];
/// 2. [`Replicated::offer`] for each frame, in order, until one's turn has not come;
/// 3. [`Replicated::own`] for each that was taken, when it has been parsed;
/// 4. [`Replicated::touch_all`];
/// 5. a [`Program::step`] for each that is for the program, in order.
///
/// Records wait in one window, history and own ones in the order of their numbers, so that their
/// places in memory are fetched all together before the first is stepped on.
pub struct Replicated<P: Replicable> {
    program: P,
    /// None where nothing can be lost between sequencer and core.
    member: Option<Member<P::Record>>,
    /// The last packet whose record was handed on.
    handed: u64,
    window: Box<[Waiting<P>]>,
    /// The first record of the window is that of the packet behind this one.
    behind: u64,
    /// So many of the window are filled, and so many of them have been stepped on.
    filled: usize,
    stepped: usize,
    /// Of each packet that was taken: where in the window its own record is to be.
    taken: ArrayVec<Place, BURST_MAX>,
    /// So many of them have their `own` record, and of so many the `step` is done, if it was due.
    parsed: usize,
    decided: usize,
    /// The latest tick that the program knows, and whether it has more to do for it.
    ticked: Option<Ticks>,
    is_behind: bool,
}

/// A record that is to be stepped on.
struct Waiting<P: Program> {
    record: P::Record,
    probe: P::Probe,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    sequence: u64,
    moment: Moment,
    at: u32,
    is_for_program: bool,
}

impl<P: Replicable> Replicated<P> {
    /// A replica that takes bursts of packets with histories of up to `history_max` records. With a
    /// `member` it recovers what is lost on the way to it; without one it must get all.
    pub fn new(program: P, history_max: usize, member: Option<Member<P::Record>>) -> Self {
        let waiting = || Waiting { record: P::Record::default(), probe: P::Probe::default() };
        let window = (0..BURST_MAX * (history_max + 1)).map(|_| waiting()).collect();
        Replicated {
            program,
            member,
            handed: 0,
            window,
            behind: 0,
            filled: 0,
            stepped: 0,
            taken: ArrayVec::new(),
            parsed: 0,
            decided: 0,
            ticked: None,
            is_behind: false,
        }
    }

    /// The program, whose state is that behind packet [`Replicated::position`].
    pub fn program(&self) -> &P {
        &self.program
    }

    /// The last packet whose record was handed on: between bursts, the one that the state is behind.
    pub fn position(&self) -> u64 {
        self.handed
    }

    /// Whether the others of its group go on without it.
    pub fn is_expelled(&self) -> bool {
        self.member.as_ref().is_some_and(Member::is_expelled)
    }

    /// Begins behind this packet, where nothing can be lost: the next one's history must begin there.
    pub fn begin_behind(&mut self, sequence: u64) {
        self.handed = sequence;
    }

    /// Makes ready for a burst, behind which everything of the one before has been stepped on.
    pub fn begin(&mut self) {
        self.replay(self.filled);
        if let Some(member) = &mut self.member {
            member.stepped();
        }
        (self.filled, self.stepped) = (0, 0);
        self.taken.clear();
        (self.parsed, self.decided) = (0, 0);
    }

    /// Looks at what the next frame of a burst carries. If its turn is `Now`, it is taken. Packets
    /// that no core has are left out everywhere, and their numbers go to `skipped`.
    #[inline]
    pub fn offer(
        &mut self,
        carried: &Carried<'_, P::Record>,
        skipped: &mut impl FnMut(u64),
    ) -> Turn {
        if self.filled + carried.history.len() >= self.window.len() || self.taken.is_full() {
            return Turn::Wait;
        }
        let Self { program, member, ticked, is_behind, .. } = self;
        let turn = match member {
            Some(member) => {
                let turn = member.offer(carried, &mut |sequence, record| match record {
                    Some(record) => replay(program, record, ticked, is_behind),
                    None => skipped(sequence),
                });
                self.handed = member.handed();
                turn
            }
            None => turn_without_loss(self.handed, carried),
        };
        let Turn::Now(new) = turn else { return turn };
        self.handed = carried.sequence;
        self.take(carried.history.newest(new), carried);
        turn
    }

    #[inline]
    fn take(&mut self, history: History<'_, P::Record>, carried: &Carried<'_, P::Record>) {
        if self.filled == 0 {
            self.behind = carried.sequence - 1 - history.len() as u64;
        }
        for record in history.iter() {
            self.fill(*record);
        }
        let at = self.filled as u32;
        self.filled += 1;
        let Carried { sequence, moment, .. } = *carried;
        self.taken.push(Place { sequence, moment, at, is_for_program: false });
    }

    #[inline]
    fn fill(&mut self, record: P::Record) {
        let probe = self.program.probe(&record);
        self.window[self.filled] = Waiting { record, probe };
        self.filled += 1;
    }

    /// Says what the next of the packets that were taken is, `None` if it cannot be parsed, and
    /// whether it is for the program, so that a [`Program::step`] will ask for its verdict.
    ///
    /// The other cores have its record in their histories, so it counts here as well, even if the
    /// router refuses the packet.
    #[inline]
    pub fn own(&mut self, packet: Option<(&PacketMeta, Side)>, is_for_program: bool) {
        let place = &mut self.taken[self.parsed];
        place.is_for_program = is_for_program;
        let record = match packet {
            Some((meta, side)) => P::record(meta, side, place.moment),
            None => P::Record::default(),
        };
        let (at, sequence) = (place.at as usize, place.sequence);
        self.parsed += 1;
        self.window[at] = Waiting { probe: self.program.probe(&record), record };
        if let Some(member) = &self.member {
            member.know_own(sequence, &record);
        }
    }

    /// Has all records of the burst ask for their places in memory.
    pub fn touch_all(&mut self) {
        for look in 0.. {
            let mut goes_on = false;
            for Waiting { record, probe } in &mut self.window[self.stepped..self.filled] {
                goes_on |= self.program.touch(record, probe, look);
            }
            if !goes_on {
                return;
            }
        }
    }

    /// Steps on what waits in the window before `end`, for the state alone.
    #[inline]
    fn replay(&mut self, end: usize) {
        let Self { program, ticked, is_behind, .. } = self;
        for Waiting { record, probe } in &self.window[self.stepped..end] {
            let_time_pass(program, record, ticked, is_behind, &mut ());
            program.follow(record, probe);
        }
        self.stepped = end;
    }

    /// A poll without packets: finds what others wait for. Numbers go to `skipped` as in
    /// [`Replicated::offer`].
    pub fn idle(&mut self, skipped: &mut impl FnMut(u64)) -> Search {
        self.begin();
        let Self { program, member, ticked, is_behind, .. } = self;
        let Some(member) = member else { return Search::Done };
        let search = member.idle(&mut |sequence, record| match record {
            Some(record) => replay(program, record, ticked, is_behind),
            None => skipped(sequence),
        });
        self.handed = member.handed();
        search
    }

    /// Brings the state to that behind packet `sequence`, if that is in the history of the first
    /// packet of this burst or before it: for a core that joins there, and [`Replicated::adopt`]s it.
    /// False if it is not, or is gone.
    pub fn advance_to(&mut self, sequence: u64) -> bool {
        let of_first = self.taken.first().map_or(self.filled, |first| first.at as usize);
        let Some(end) = sequence.checked_sub(self.behind).map(|records| records as usize) else {
            return false;
        };
        if self.filled == 0 {
            return sequence == self.handed;
        }
        if end < self.stepped || end > of_first {
            return false;
        }
        self.replay(end);
        true
    }

    /// Exchanges states with a replica of no group, which has got its own behind packet `sequence`
    /// from a member of this one's group, and so [`Replicated::adopt`]s that without a copy.
    pub fn exchange(&mut self, other: &mut Replicated<P>) {
        self.begin();
        other.begin();
        std::mem::swap(&mut self.program, &mut other.program);
        std::mem::swap(&mut self.ticked, &mut other.ticked);
        std::mem::swap(&mut self.is_behind, &mut other.is_behind);
        std::mem::swap(&mut self.handed, &mut other.handed);
        if let Some(member) = &mut self.member {
            member.adopted(self.handed);
        }
    }

    /// Takes over the state of another replica behind packet `sequence`, where that one stands:
    /// between two bursts, or by [`Replicated::advance_to`].
    pub fn adopt(&mut self, other: &Replicated<P>, sequence: u64) {
        self.begin();
        self.program.copy_from(&other.program);
        (self.handed, self.ticked, self.is_behind) = (sequence, other.ticked, other.is_behind);
        if let Some(member) = &mut self.member {
            member.adopted(sequence);
        }
    }
}

/// Where nothing is lost, nothing is to be recovered.
fn turn_without_loss<R: crate::Shipped>(handed: u64, carried: &Carried<'_, R>) -> Turn {
    if carried.sequence <= handed {
        return Turn::Late;
    }
    let new = (carried.sequence - 1 - handed) as usize;
    if new <= carried.history.len() { Turn::Now(new) } else { Turn::Behind }
}

/// Steps on a record out of the window.
fn replay<P: Replicable>(
    program: &mut P,
    record: &P::Record,
    ticked: &mut Option<Ticks>,
    is_behind: &mut bool,
) {
    let_time_pass(program, record, ticked, is_behind, &mut ());
    let probe = program.probe(record);
    program.follow(record, &probe);
}

/// Lets time pass up to a record, before it is stepped on.
#[inline]
fn let_time_pass<P: Replicable>(
    program: &mut P,
    record: &P::Record,
    ticked: &mut Option<Ticks>,
    is_behind: &mut bool,
    events: &mut impl Events<P::Event>,
) {
    let Some(now) = P::time(record) else { return };
    if *ticked != Some(now) || *is_behind {
        *ticked = Some(now);
        *is_behind = program.tick(now, events);
    }
}

impl<P: Replicable> Program for Replicated<P> {
    type Record = ();
    type Probe = ();
    type Event = P::Event;

    /// Nothing: the record was made when the packet was taken.
    fn record(_: &PacketMeta, _: Side, _: Moment) {}

    fn probe(&self, _: &()) {}

    #[inline]
    fn step(&mut self, _: &(), _: &(), events: &mut impl Events<P::Event>) -> Verdict {
        let place = loop {
            let place = self.taken[self.decided];
            self.decided += 1;
            if place.is_for_program {
                break place;
            }
        };
        self.replay(place.at as usize);
        let Self { program, ticked, is_behind, .. } = self;
        let Waiting { record, probe } = &self.window[place.at as usize];
        let_time_pass(program, record, ticked, is_behind, events);
        self.stepped += 1;
        program.step(record, probe, events)
    }

    fn translation(&self, slot: Slot) -> &Translation {
        self.program.translation(slot)
    }

    /// Nothing: time passes with the packets, for all replicas alike.
    fn tick(&mut self, _: Ticks, _: &mut impl Events<P::Event>) -> bool {
        false
    }
}
