//! The programs that are measured, each with what it has seen before.

use krono_core::packet::{PacketMeta, Side};
use krono_core::program::{Events, Program, Verdict};
use krono_core::time::{Moment, Ticks};
use scr_sequencer::Replicable;
use scr_sequencer::programs::ddos_shared::SharedDdos;
use scr_sequencer::programs::{bucket, conntrack, ddos, heavy, knock};

/// When what was before has been seen.
const BEFORE: Moment = Moment(1);

/// Passes everything: what is left is what a packet costs without a program.
#[derive(Clone, Copy)]
pub(crate) struct Nothing;

impl Program for Nothing {
    type Record = [u8; 8];
    type Probe = ();
    type Event = ();

    fn record(_: &PacketMeta, _: Side, _: Moment) -> [u8; 8] {
        [0; 8]
    }

    fn probe(&self, _: &[u8; 8]) {}

    fn step(&mut self, _: &[u8; 8], _: &(), _: &mut impl Events<()>) -> Verdict {
        Verdict::Pass
    }

    fn tick(&mut self, _: Ticks, _: &mut impl Events<()>) -> bool {
        false
    }
}

impl Replicable for Nothing {
    const NAME: &'static str = "nothing";

    fn copy_from(&mut self, _: &Self) {}

    fn digest(&self) -> u64 {
        0
    }
}

/// The program that has stepped on these.
pub(crate) fn behind<P: Replicable>(mut program: P, before: &[(PacketMeta, Side)]) -> P {
    for (meta, side) in before {
        program.step(&P::record(meta, *side, BEFORE), &P::Probe::default(), &mut ());
    }
    program
}

// All settings are such that every packet passes, so that the way of a packet is the same for all
// programs (in the paper every packet is sent back, whatever its verdict).

fn ddos_config() -> ddos::Config {
    let deny = vec!["198.51.100.0/24".parse().expect("a prefix")];
    let (one_in, window) = (2, 1 << 28);
    ddos::Config { sources: 16_384, deny, one_in, window, ..Default::default() }
}

pub(crate) fn ddos() -> ddos::Ddos {
    ddos::Ddos::new(&ddos_config()).expect("good settings")
}

pub(crate) fn ddos_shared() -> SharedDdos {
    SharedDdos::new(&ddos_config()).expect("good settings")
}

pub(crate) fn knock() -> knock::Knock {
    let protected = vec![22..=22, 8080..=8080];
    let config = knock::Config { sources: 16_384, protected, ..Default::default() };
    knock::Knock::new(&config).expect("good settings")
}

pub(crate) fn bucket() -> bucket::Policer {
    let config = bucket::Config { rate: 100_000_000, burst: 1_000_000, ..Default::default() };
    bucket::Policer::new(&config).expect("good settings")
}

pub(crate) fn heavy() -> heavy::Heavy {
    heavy::Heavy::new(&Default::default()).expect("good settings")
}

pub(crate) fn conntrack() -> conntrack::Conntrack {
    conntrack::Conntrack::new(&Default::default()).expect("good settings")
}
