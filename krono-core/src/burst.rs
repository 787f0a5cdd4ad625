//! The path: what happens to a burst, stage by stage, each over all its packets before the next,
//! so that the memory one packet waits for is fetched while others are worked on.

use std::hint::cold_path;

use crate::frame::{BURST_MAX, Frames, Set};
use crate::packet::Side;
use crate::program::{Events, Program, Slot, Verdict};
use crate::router::Way;
use crate::shard::{Found, Outcomes, Scratch, Shard, Step};
use crate::time::Moment;

impl<P: Program> Shard<P> {
    /// Works on a burst that arrived at `side` and says what is to become of each frame; what the
    /// `outcomes` were before is forgotten.
    ///
    /// State changes in the order of the frames, and in the last stage only, so that a burst of 64
    /// does the same as 64 bursts of 1.
    pub fn process(
        &mut self,
        side: Side,
        frames: &mut (impl Frames + ?Sized),
        now: Moment,
        events: &mut impl Events<P::Event>,
        scratch: &mut Scratch<P>,
        outcomes: &mut Outcomes,
    ) {
        self.look_at_all(side, frames, scratch);
        self.decide_all(side, frames, now, events, scratch, outcomes);
    }

    /// The second half of [`Shard::process`], behind [`Shard::look_at_all`] over the same frames: for
    /// a runner that does something between them.
    #[inline]
    pub fn decide_all(
        &mut self,
        side: Side,
        frames: &mut (impl Frames + ?Sized),
        now: Moment,
        events: &mut impl Events<P::Event>,
        scratch: &mut Scratch<P>,
        outcomes: &mut Outcomes,
    ) {
        outcomes.begin(frames.len());
        self.probe_all(side, now, scratch);
        self.touch_all(scratch);
        // Twice, so that it need not ask at every step where packets come from.
        match side {
            Side::Inside => self.finish_all(Side::Inside, frames, now, events, scratch, outcomes),
            Side::Outside => self.finish_all(Side::Outside, frames, now, events, scratch, outcomes),
        }
    }

    // The stages are functions of their own, so that each has all registers for its loop.

    /// Parses frames that arrived at `side` and finds out which are for the program:
    /// [`Scratch::transit`].
    #[inline(never)]
    pub fn look_at_all(
        &self,
        side: Side,
        frames: &mut (impl Frames + ?Sized),
        scratch: &mut Scratch<P>,
    ) {
        let mut transit = Set::default();
        scratch.exceptions.clear();
        for (index, packet) in scratch.packets[..frames.len()].iter_mut().enumerate() {
            match self.look(side, &frames.frame(index), packet) {
                Found::Transit => transit.insert(index),
                other => {
                    cold_path();
                    scratch.exceptions.push(other);
                }
            }
        }
        scratch.transit = transit;
    }

    #[inline(never)]
    fn probe_all(&self, side: Side, now: Moment, scratch: &mut Scratch<P>) {
        for index in scratch.transit.iter() {
            let step = &mut scratch.steps[index];
            step.record = P::record(&scratch.packets[index].meta, side, now);
            step.probe = self.program.probe(&step.record);
        }
    }

    #[inline(never)]
    fn touch_all(&self, scratch: &mut Scratch<P>) {
        let (mut open, mut look) = (scratch.transit, 0);
        while !open.is_empty() {
            for index in std::mem::take(&mut open).iter() {
                let Step { record, probe } = &mut scratch.steps[index];
                if self.program.touch(record, probe, look) {
                    open.insert(index);
                }
            }
            look += 1;
        }
    }

    #[inline(always)]
    fn finish_all(
        &mut self,
        side: Side,
        frames: &mut (impl Frames + ?Sized),
        now: Moment,
        events: &mut impl Events<P::Event>,
        scratch: &Scratch<P>,
        outcomes: &mut Outcomes,
    ) {
        let ticks = now.ticks();
        let (mut exceptions, mut way) = (scratch.exceptions.iter(), Way::NONE);
        for index in 0..frames.len().min(BURST_MAX) {
            let (packet, Step { record, probe }) = (&scratch.packets[index], &scratch.steps[index]);
            if !scratch.transit.contains(index) {
                way = Way::NONE;
                let what = *exceptions.next().expect("what is not in transit is an exception");
                let frame = &mut frames.frame(index);
                outcomes.note(index, self.finish_exception(what, side, frame, packet, now));
                continue;
            }
            let (to, slots) = match self.program.pass(side, record, probe) {
                Some(slot) => (side.opposite(), slot.inside_end(side)),
                None => match self.program.step(record, probe, events) {
                    Verdict::Forward { to, source, destination } => (to, (source, destination)),
                    Verdict::Pass => (side.opposite(), (Slot::NONE, Slot::NONE)),
                    Verdict::Drop(reason) => {
                        outcomes.drop(index, reason);
                        continue;
                    }
                    verdict => {
                        let frame = &mut frames.frame(index);
                        outcomes.note(index, self.withhold(verdict, side, frame, packet, ticks));
                        continue;
                    }
                },
            };
            if self.pass(to, slots, frames.frame(index).into_bytes(), packet, &way) {
                outcomes.send(index, to);
                continue;
            }
            let frame = &mut frames.frame(index);
            match self.forward((side, to), slots, frame, packet, &mut way, ticks) {
                Ok(()) => outcomes.send(index, to),
                Err(action) => outcomes.note(index, action),
            }
        }
    }
}
