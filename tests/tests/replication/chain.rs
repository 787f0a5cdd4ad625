//! A program that forgives nothing: its state is a hash over all records in their order.

use krono_core::drop::DropReason;
use krono_core::packet::{PacketMeta, Side};
use krono_core::program::{Events, Program, Verdict};
use krono_core::time::{Moment, Ticks};
use scr_sequencer::Replicable;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian};

#[derive(Clone, Debug)]
pub(crate) struct Chain {
    state: u64,
    ticks: u64,
}

#[derive(
    Clone, Copy, Debug, Default, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub(crate) struct Record {
    src: [u8; 4],
    port: little_endian::U16,
    len: little_endian::U16,
    moment: little_endian::U64,
}

impl Chain {
    pub(crate) fn new(seed: u64) -> Self {
        Chain { state: seed, ticks: 0 }
    }

    fn mix(&mut self, value: u64) {
        self.state = (self.state ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
}

impl Program for Chain {
    type Record = Record;
    type Probe = u64;
    type Event = u64;

    fn record(meta: &PacketMeta, _: Side, now: Moment) -> Record {
        Record {
            src: meta.from.octets(),
            port: meta.dst.port.into(),
            len: meta.ip_len.into(),
            moment: now.0.into(),
        }
    }

    fn probe(&self, _: &Record) -> u64 {
        self.state
    }

    /// A different verdict for about every packet, and now and then an event.
    fn step(&mut self, record: &Record, _: &u64, events: &mut impl Events<u64>) -> Verdict {
        if *record == Record::default() {
            return Verdict::Consume;
        }
        let bytes = u128::from_le_bytes(record.as_bytes().try_into().expect("16 bytes"));
        self.mix(bytes as u64);
        self.mix((bytes >> 64) as u64);
        if self.state.is_multiple_of(3) {
            events.emit(self.state);
        }
        match self.state >> 62 {
            0 => Verdict::Pass,
            1 => Verdict::Consume,
            _ => Verdict::Drop(DropReason::ALL[(self.state >> 8) as usize % DropReason::COUNT]),
        }
    }

    /// Takes more than one call for some ticks.
    fn tick(&mut self, now: Ticks, events: &mut impl Events<u64>) -> bool {
        self.ticks += 1;
        self.mix(u64::from(now.0));
        events.emit(self.state);
        !self.ticks.is_multiple_of(3)
    }
}

impl Replicable for Chain {
    const NAME: &'static str = "chain";

    fn time(record: &Record) -> Option<Ticks> {
        (record.moment != 0).then(|| Moment(record.moment.get()).ticks())
    }

    fn copy_from(&mut self, other: &Self) {
        self.clone_from(other);
    }

    fn digest(&self) -> u64 {
        self.state ^ self.ticks
    }
}
