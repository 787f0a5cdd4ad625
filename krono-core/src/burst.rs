//! The path: what happens to a burst, stage by stage, each over all its packets before the next,
//! so that the memory one packet waits for is fetched while others are worked on.

use arrayvec::ArrayVec;

use crate::drop::DropReason;
use crate::frame::{BURST_MAX, Frame, Frames};
use crate::packet::Side;
use crate::parse::parse;
use crate::program::{Events, Program};
use crate::router::{Admitted, Refusal};
use crate::shard::{Action, Outcome, Outcomes, Packet, Shard};
use crate::time::Ticks;

/// What the first look at a frame found.
#[derive(Clone, Copy, Debug)]
enum Found {
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

impl<P: Program> Shard<P> {
    /// Works on a burst that arrived at `side` and says what is to become of each frame.
    ///
    /// State changes in the order of the frames, and in `finish` only, so that a burst of 64 does
    /// the same as 64 bursts of 1.
    pub fn process(
        &mut self,
        side: Side,
        frames: &mut (impl Frames + ?Sized),
        now: Ticks,
        events: &mut impl Events<P::Event>,
        outcomes: &mut Outcomes,
    ) {
        let mut packets = [Packet::default(); BURST_MAX];
        let mut records = [P::Record::default(); BURST_MAX];
        let mut probes = [P::Probe::default(); BURST_MAX];
        let mut found = ArrayVec::<Found, BURST_MAX>::new();
        let mut transit = ArrayVec::<u8, BURST_MAX>::new();

        for (index, packet) in packets.iter_mut().enumerate().take(frames.len()) {
            let what = self.look(side, &frames.frame(index), packet);
            if let Found::Transit = what {
                records[index] = P::record(&packet.meta, side, now);
                transit.push(index as u8);
            }
            found.push(what);
        }
        for index in transit.iter().map(|index| usize::from(*index)) {
            probes[index] = self.program.probe(&records[index]);
        }
        for index in transit.iter().map(|index| usize::from(*index)) {
            self.program.touch(&records[index], &mut probes[index]);
        }
        for (index, what) in found.into_iter().enumerate() {
            let frame = &mut frames.frame(index);
            outcomes.push(match what {
                Found::Transit => {
                    let verdict = self.program.step(&records[index], &probes[index], events);
                    self.carry_out(verdict, frame, &packets[index], now).into()
                }
                other => self.finish_exception(other, frame, &packets[index], now),
            });
        }
    }

    /// Parse and admit: nothing here depends on the packets before.
    #[inline]
    fn look(&self, side: Side, frame: &Frame<'_>, packet: &mut Packet) -> Found {
        match parse(frame.bytes(), *frame.wire_len) {
            Ok((meta, layout)) => *packet = Packet { meta, layout, side },
            Err(reason) => return Found::Broken(reason),
        }
        match self.router.admit(side, &packet.meta, &packet.layout) {
            Ok(Admitted::Transit) => Found::Transit,
            Ok(Admitted::Local) => Found::Local,
            Ok(Admitted::Arp) => Found::Arp,
            Err(refusal) => Found::Refused(refusal),
        }
    }

    #[cold]
    fn finish_exception(
        &mut self,
        what: Found,
        frame: &mut Frame<'_>,
        packet: &Packet,
        now: Ticks,
    ) -> Outcome {
        match what {
            Found::Broken(reason) => Action::Drop(reason).into(),
            Found::Refused(Refusal { reason, error }) => {
                self.reject(reason, error, frame, packet, now).into()
            }
            Found::Arp => self.converse(frame, packet, now),
            Found::Local | Found::Transit => self.deliver(frame, packet, now).into(),
        }
    }
}
