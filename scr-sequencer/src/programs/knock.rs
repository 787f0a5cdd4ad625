//! The port-knocking firewall: protected ports are closed to a source that has not sent SYNs to a
//! secret sequence of ports.
//!
//! A source is closed, has knocked 1, 2 … times, or is open. The next knock is a TCP SYN, without
//! ACK, to the next port of the sequence; while a source is not open, any other TCP segment closes
//! it, the right port at the wrong time included. An open source stays open, whatever it sends, as
//! the paper's talk wants it (in the artifact, `xdp_portknock`, the very next packet closes it); with
//! [`Config::close_on_fin`] a FIN or RST to a protected port closes it again. Other transports
//! neither knock nor disturb; to a protected port they pass if the source is open.
//!
//! Knocks pass, so that they are answered like any packet to a port where nobody listens: who looks
//! for the sequence must not see which ports are special. Only packets from outside are judged.
//!
//! A source that is closed is not remembered. Where a first knock finds its set of the table full,
//! the source that has knocked least there has to go, of equals the first, but none that is open; if
//! all are, the knock is dropped by the name `knockers_full`.

use std::hint::{cold_path, select_unpredictable};
use std::net::Ipv4Addr;
use std::ops::{Range, RangeInclusive};

use krono_core::drop::DropReason;
use krono_core::hash::HashKey;
use krono_core::packet::{PacketMeta, Side};
use krono_core::program::{Events, Program, Verdict};
use krono_core::time::{Moment, Ticks};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::sources::Sources;
use super::table::{Hashed, Inserted, mix};
use super::{Marks, Mistake, Mistakes, Row, Shown};
use crate::Replicable;

/// The longest sequence.
pub const KNOCKS_MAX: usize = 15;

/// The settings of a firewall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Sources that it has room for, at least.
    pub sources: usize,
    /// The secret sequence, 1 to [`KNOCKS_MAX`] ports.
    pub sequence: Vec<u16>,
    /// Ports that are closed to who has not knocked.
    pub protected: Vec<RangeInclusive<u16>>,
    /// Whether a FIN or RST to a protected port closes an open source.
    pub close_on_fin: bool,
    /// Draws the key of the table; the same in every replica.
    pub seed: [u8; 32],
}

impl Default for Config {
    /// The sequence of the paper's artifact, in front of SSH.
    fn default() -> Self {
        Config {
            sources: 1 << 16,
            sequence: vec![100, 101, 102],
            protected: vec![22..=22],
            close_on_fin: false,
            seed: [0; 32],
        }
    }
}

impl Config {
    /// What the table of such a program takes, bytes.
    pub const fn table_bytes(&self) -> u64 {
        Sources::bytes(self.sources)
    }

    /// Whether all settings can be taken.
    ///
    /// # Errors
    /// All that cannot.
    pub fn check(&self) -> Result<(), Vec<Mistake>> {
        let mut mistakes = Mistakes::default();
        mistakes.demand_capacity(self.sources, "sources");
        let knocks = self.sequence.len();
        mistakes.demand((1..=KNOCKS_MAX).contains(&knocks), "sequence", "1 to 15 ports");
        mistakes.demand(!self.sequence.contains(&0), "sequence", "ports from 1 to 65535");
        mistakes.demand(!self.protected.is_empty(), "protected", "at least one port");
        let is_empty = |ports: &RangeInclusive<u16>| ports.is_empty() || *ports.start() == 0;
        let holds = !self.protected.iter().any(is_empty);
        mistakes.demand(holds, "protected", "ports from 1 to 65535, the lower one first");
        mistakes.into_result()
    }
}

/// A packet from outside as the firewall steps on it, all zeros for others: 8 bytes.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct Record {
    /// Source address, little-endian.
    pub source: U32,
    /// Destination port, little-endian.
    pub port: U16,
    /// The transport, SYN, FIN.
    pub marks: Marks,
}

const _: () = assert!(size_of::<Record>() == 8);

/// A source that is not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knocker {
    /// Its address.
    pub source: Ipv4Addr,
    /// How far it is.
    pub state: State,
}

/// How far a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// So many knocks were right.
    Knocked(u8),
    /// All were: protected ports are open to it.
    Open,
}

/// The firewall, see the [module](self).
pub struct Knock {
    /// Of each source that is not closed, how many knocks were right.
    knocks: Sources,
    key: HashKey,
    /// Of each number of knocks the next one: its port, and [`KNOCK`]. Behind the last one 0, which
    /// no packet is.
    sequence: [u32; KNOCKS_MAX + 1],
    open: u32,
    close_on_fin: bool,
    /// A bit for each port.
    protected: Box<[u64; 1 << 10]>,
}

/// What makes a port a knock on it.
const KNOCK: u32 = 1 << 16;

impl Knock {
    /// A firewall that is closed to all.
    ///
    /// # Errors
    /// All settings that it cannot take.
    pub fn new(config: &Config) -> Result<Knock, Vec<Mistake>> {
        config.check()?;
        let mut sequence = [0; KNOCKS_MAX + 1];
        for (next, port) in sequence.iter_mut().zip(&config.sequence) {
            *next = u32::from(*port) | KNOCK;
        }
        let mut protected = Box::new([0; 1 << 10]);
        for port in config.protected.iter().cloned().flatten() {
            protected[usize::from(port) / 64] |= 1 << (port % 64);
        }
        Ok(Knock {
            knocks: Sources::new(config.sources),
            key: HashKey::from_seed(config.seed),
            sequence,
            open: config.sequence.len() as u32,
            close_on_fin: config.close_on_fin,
            protected,
        })
    }

    /// The sources that are not closed. Allocates.
    pub fn knockers(&self) -> Vec<Knocker> {
        self.knocks.iter().map(|source| self.knocker(source)).collect()
    }

    fn knocker(&self, (address, knocks): (u32, u32)) -> Knocker {
        Knocker {
            source: address.into(),
            state: match knocks {
                knocks if knocks == self.open => State::Open,
                knocks => State::Knocked(knocks as u8),
            },
        }
    }

    fn hash_of(&self, source: u32) -> Hashed {
        Hashed::new(&self.key, source.into(), 0)
    }

    #[inline(always)]
    fn is_protected(&self, port: u16) -> bool {
        self.protected[usize::from(port) / 64] >> (port % 64) & 1 != 0
    }

    /// How many knocks are right behind a packet, if they were `knocks` before.
    #[inline(always)]
    fn after(&self, knocks: u32, record: &Record) -> u32 {
        if record.marks.protocol() != Marks::TCP {
            return knocks;
        }
        let closes =
            self.close_on_fin && record.marks.ends() && self.is_protected(record.port.get());
        let open = if closes { 0 } else { knocks };
        let port = u32::from(record.port.get());
        let knock = if record.marks.connects() { port | KNOCK } else { port };
        let is_right = knock == self.sequence[knocks as usize % self.sequence.len()];
        let knocking = if is_right { knocks + 1 } else { 0 };
        // Sources that are open and others come in any order.
        select_unpredictable(knocks == self.open, open, knocking)
    }

    /// Takes note that a source has come from `before` to `knocks`; false if there is no place for it.
    #[cold]
    #[inline(never)]
    fn note(&mut self, hash: Hashed, address: u32, before: u32, knocks: u32) -> bool {
        if knocks == 0 {
            self.knocks.remove(hash, address);
        } else if before == 0 {
            let open = self.open;
            let rank = |knocks: u32| (knocks < open).then_some(knocks.into());
            return self.knocks.insert(hash, address, knocks, rank) != Inserted::Refused;
        } else if let Some(known) = self.knocks.get_mut(hash, address) {
            *known = knocks;
        }
        true
    }
}

impl Shown for Knock {
    fn parts(&self) -> usize {
        self.knocks.sets()
    }

    fn show(&self, parts: Range<usize>, each: &mut dyn FnMut(Row)) {
        let sources = self.knocks.iter_sets(parts);
        sources.for_each(|source| each(Row::Knocker(self.knocker(source))));
    }
}

impl Program for Knock {
    type Record = Record;
    type Probe = Hashed;
    type Event = ();

    #[inline]
    fn record(meta: &PacketMeta, side: Side, _: Moment) -> Record {
        let marks = Marks::new(meta);
        if side == Side::Inside || !matches!(marks.protocol(), Marks::TCP | Marks::UDP) {
            return Record::default();
        }
        Record { source: meta.src.addr.to_bits().into(), port: meta.dst.port.into(), marks }
    }

    #[inline(always)]
    fn probe(&self, record: &Record) -> Hashed {
        let hash = self.hash_of(record.source.get());
        self.knocks.prefetch(hash);
        hash
    }

    #[inline(always)]
    fn step(&mut self, record: &Record, probe: &Hashed, _: &mut impl Events<()>) -> Verdict {
        if record.marks.protocol() == 0 {
            cold_path();
            return Verdict::Pass;
        }
        let address = record.source.get();
        let hash = probe.or(|| self.hash_of(address));
        let before = self.knocks.get(hash, address);
        let knocks = self.after(before, record);
        if knocks != before && !self.note(hash, address, before, knocks) {
            return Verdict::Drop(DropReason::KnockersFull);
        }
        if knocks != self.open && self.is_protected(record.port.get()) {
            return Verdict::Drop(DropReason::PortClosed);
        }
        Verdict::Pass
    }

    fn tick(&mut self, _: Ticks, _: &mut impl Events<()>) -> bool {
        false
    }
}

impl Replicable for Knock {
    const NAME: &'static str = "knock";

    fn copy_from(&mut self, other: &Self) {
        self.knocks.copy_from(&other.knocks);
    }

    fn digest(&self) -> u64 {
        self.knocks.digest(mix(0, 0))
    }
}
