//! The TCP connection tracker: drops segments of no connection.
//!
//! Both directions are one connection. What is known of each is whether its SYN and its FIN were
//! seen, whether the other one has acknowledged them, and about which sequence number it has come
//! to; the state follows from that (RFC 9293, 3.3.2, as it looks from between the ends). Segments of a
//! connection always pass, even those that the receiver will refuse: it knows better. But a RST
//! or FIN ends nothing unless its number is near to where its sender is (after RFC 5961, 3.2), or it
//! refuses a SYN by acknowledging it.
//!
//! Records have no length of the payload and no window. So a FIN counts as acknowledged by any number
//! behind that of the segment's beginning, and "near" is 65,535, the longest segment, either way.
//!
//! Timers are those of Linux' `nf_conntrack` by kind: opening, established, half closed, closing,
//! reset. A segment restarts its connection's timer, but when both ends have said FIN or a RST came
//! only what changes the state does. A connection whose time is over is none: its next segment is
//! judged like that of a stranger. A SYN opens a connection that is on its way out anew (RFC 6191).
//!
//! Where a new connection finds its sets full, one that is over or on its way out or not yet open has
//! to go, in this order and of equals the one that ends first; Linux drops early by the same rule.
//! If there is none, the new one is refused by the name `connections_full`.
//!
//! Other transports pass.

use std::hint::cold_path;
use std::ops::Range;

use krono_core::drop::DropReason;
use krono_core::hash::HashKey;
use krono_core::packet::{Endpoint, Kind, PacketMeta, Side, TcpFlags};
use krono_core::program::{Events, Program, Verdict};
use krono_core::time::{Moment, Span, Ticks};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::flow::{endpoint, word};
use super::table::{Hashed, Inserted, Table, mix};
use super::{FourTuple, Mistake, Mistakes, Row, Shown};
use crate::Replicable;

/// The settings of a tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Connections that it has room for, at least.
    pub connections: usize,
    /// Whether a connection begins with a SYN only, and not with any segment that acknowledges.
    pub is_strict: bool,
    /// How long connections live.
    pub timeouts: Timeouts,
    /// Draws the key of the table; the same in every replica.
    pub seed: [u8; 32],
}

/// How long a connection lives after its latest segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Before both ends have acknowledged the other's SYN.
    pub opening: Span,
    /// With data to come; RFC 5382, REQ-5: at least 2 h 4 min.
    pub established: Span,
    /// After one end's FIN.
    pub half_closed: Span,
    /// After both; RFC 9293, 3.4.2: twice the maximum segment lifetime of 2 minutes.
    pub closing: Span,
    /// After a RST.
    pub reset: Span,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            connections: 1 << 16,
            is_strict: true,
            timeouts: Timeouts {
                opening: Span::from_secs(120),
                established: Span::from_secs(7440),
                half_closed: Span::from_secs(7440),
                closing: Span::from_secs(240),
                reset: Span::from_secs(10),
            },
            seed: [0; 32],
        }
    }
}

impl Config {
    /// What the table of such a program takes, bytes.
    pub const fn table_bytes(&self) -> u64 {
        Table::<Tracked>::bytes(self.connections)
    }

    /// Whether all settings can be taken.
    ///
    /// # Errors
    /// All that cannot.
    pub fn check(&self) -> Result<(), Vec<Mistake>> {
        let mut mistakes = Mistakes::default();
        mistakes.demand_capacity(self.connections, "connections");
        let Timeouts { opening, established, half_closed, closing, reset } = self.timeouts;
        for (timeout, field) in [
            (opening, "timeouts.opening"),
            (established, "timeouts.established"),
            (half_closed, "timeouts.half_closed"),
            (closing, "timeouts.closing"),
            (reset, "timeouts.reset"),
        ] {
            mistakes.demand((Span(1)..=Span::MAX).contains(&timeout), field, "100 ms to 3.4 years");
        }
        mistakes.into_result()
    }
}

/// A TCP segment as the tracker steps on it, all zeros for other packets: 30 bytes.
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
    /// Addresses and ports.
    pub tuple: FourTuple,
    /// The IP protocol: 6, or the packet is left alone.
    pub protocol: u8,
    /// Control bits, as in [`TcpFlags`].
    pub flags: u8,
    /// Sequence number.
    pub seq: U32,
    /// Acknowledgement number.
    pub ack: U32,
    /// When it came, nanoseconds as in [`Moment`].
    pub time: U64,
}

const _: () = assert!(size_of::<Record>() == 30);

const TCP: u8 = 6;

impl Record {
    fn has(&self, flags: TcpFlags) -> bool {
        TcpFlags(self.flags).has(flags)
    }

    /// The key's words, lower end first, and which of the two ends has sent it.
    #[inline(always)]
    fn key(&self) -> (u64, u64, usize) {
        let source = word(self.tuple.src, self.tuple.sport);
        let destination = word(self.tuple.dst, self.tuple.dport);
        let from = usize::from(source > destination);
        (source.min(destination), source.max(destination), from)
    }

    #[inline(always)]
    fn now(&self) -> Ticks {
        Moment(self.time.get()).ticks()
    }
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// A SYN from one end.
    SynSent,
    /// From both, not both acknowledged.
    SynReceived,
    /// Both acknowledged.
    Established,
    /// A FIN from one end.
    HalfClosed,
    /// From both, not both acknowledged.
    Closing,
    /// Both acknowledged.
    TimeWait,
    /// A RST, and nothing behind it.
    Reset,
}

impl State {
    /// The name on screen.
    pub const fn name(self) -> &'static str {
        match self {
            State::SynSent => "syn_sent",
            State::SynReceived => "syn_received",
            State::Established => "established",
            State::HalfClosed => "half_closed",
            State::Closing => "closing",
            State::TimeWait => "time_wait",
            State::Reset => "reset",
        }
    }

    const fn is_closing(self) -> bool {
        matches!(self, State::Closing | State::TimeWait | State::Reset)
    }
}

/// A connection as it is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Who opened it, or was heard first.
    pub originator: Endpoint,
    /// The other end.
    pub responder: Endpoint,
    /// Where it stands.
    pub state: State,
    /// How long it lives if nothing more comes.
    pub expires_in: Span,
}

/// A connection as it is stored: 32 bytes. Ends are 0, the one whose word is lower, and 1.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Tracked {
    low: u64,
    high: u64,
    /// Of each end, the highest sequence number that it is known to have come to.
    reached: [u32; 2],
    until: Ticks,
    /// What was seen of the ends, see the constants: those for end 0, and shifted by 1 for end 1.
    seen: u8,
    /// Whether a RST came, and nothing behind it.
    is_reset: u8,
    /// The end that opened it.
    originator: u8,
    reserved: u8,
}

const _: () = assert!(size_of::<Tracked>() == 32);

/// Its SYN was seen.
const SYN: u8 = 0x01;
/// Its SYN was acknowledged.
const SYN_ACKED: u8 = 0x04;
/// Its FIN was seen.
const FIN: u8 = 0x10;
/// Its FIN was acknowledged.
const FIN_ACKED: u8 = 0x40;
/// A mark of both ends.
const BOTH: u8 = 3;
/// What is seen of an open connection.
const OPEN: u8 = (SYN | SYN_ACKED) * BOTH;

/// How far a number may be from where its sender is known to be, to be believed.
const NEAR: u32 = 65_535;

const fn is_near(number: u32, reached: u32) -> bool {
    number.wrapping_sub(reached).wrapping_add(NEAR) <= 2 * NEAR
}

const fn is_ahead(number: u32, of: u32) -> bool {
    number.wrapping_sub(of) < 1 << 31
}

#[inline(always)]
const fn later(number: u32, other: u32) -> u32 {
    if is_ahead(number, other) { number } else { other }
}

impl Tracked {
    fn open((low, high, from): (u64, u64, usize), record: &Record) -> Tracked {
        let mut reached = [0; 2];
        reached[from] = record.seq.get();
        let mut seen = OPEN;
        if record.has(TcpFlags::SYN) {
            reached[from] = record.seq.get().wrapping_add(1);
            seen = SYN << from;
        } else {
            reached[1 - from] = record.ack.get();
        }
        let originator = from as u8;
        let until = Ticks::default();
        Tracked { low, high, reached, until, seen, is_reset: 0, originator, reserved: 0 }
    }

    const fn state(&self) -> State {
        const FINS: u8 = FIN * BOTH;
        const FINS_ACKED: u8 = FIN_ACKED * BOTH;
        if self.is_reset != 0 {
            return State::Reset;
        }
        match (self.seen & FINS, self.seen & OPEN) {
            (FINS, _) if self.seen & FINS_ACKED == FINS_ACKED => State::TimeWait,
            (FINS, _) => State::Closing,
            (0, OPEN) => State::Established,
            (0, open) if open & (SYN * BOTH) == SYN * BOTH => State::SynReceived,
            (0, _) => State::SynSent,
            _ => State::HalfClosed,
        }
    }

    /// Whether a segment is one of those that a connection mostly consists of.
    #[inline(always)]
    fn is_steady(&self, record: &Record) -> bool {
        const TURNS: u8 = TcpFlags::SYN.0 | TcpFlags::FIN.0 | TcpFlags::RST.0 | TcpFlags::ACK.0;
        (self.seen == OPEN) & (self.is_reset == 0) & (record.flags & TURNS == TcpFlags::ACK.0)
    }

    #[inline(always)]
    fn note_steady(&mut self, from: usize, record: &Record) {
        let [of_low, of_high] = &mut self.reached;
        let (own, other) = if from == 0 { (of_low, of_high) } else { (of_high, of_low) };
        *own = later(record.seq.get(), *own);
        *other = later(record.ack.get(), *other);
    }

    /// Takes a segment; false if it is to be left out of account.
    fn advance(&mut self, from: usize, record: &Record) -> bool {
        if record.has(TcpFlags::RST) {
            let takes = !self.state().is_closing() && self.takes_reset(from, record);
            self.is_reset |= u8::from(takes);
            return takes;
        }
        if record.has(TcpFlags::SYN) {
            self.synchronise(from, record);
        } else {
            // The RST was lost, or refused by its receiver: the connection goes on.
            self.is_reset = 0;
        }
        if record.has(TcpFlags::FIN) {
            self.finish(from, record);
        }
        if record.has(TcpFlags::ACK) {
            self.acknowledge(1 - from, record.ack.get());
        }
        if self.seen & (SYN_ACKED << from) != 0 {
            self.reached[from] = later(record.seq.get(), self.reached[from]);
        }
        true
    }

    fn takes_reset(&self, from: usize, record: &Record) -> bool {
        if self.seen & (SYN << from) == 0 {
            return record.has(TcpFlags::ACK) && record.ack.get() == self.reached[1 - from];
        }
        is_near(record.seq.get(), self.reached[from])
    }

    fn synchronise(&mut self, from: usize, syn: &Record) {
        let fresh = !syn.has(TcpFlags::ACK);
        if self.state().is_closing() && fresh {
            *self = Tracked::open((self.low, self.high, from), syn);
        } else if self.seen & (SYN_ACKED << from) == 0 {
            // The first one, or a retransmission of it, perhaps by an end that started anew.
            self.seen |= SYN << from;
            self.reached[from] = syn.seq.get().wrapping_add(1);
        }
    }

    fn finish(&mut self, from: usize, fin: &Record) {
        let is_open = self.seen & (SYN << from) != 0;
        if is_open && is_near(fin.seq.get(), self.reached[from]) {
            self.seen |= FIN << from;
            self.reached[from] = later(fin.seq.get().wrapping_add(1), self.reached[from]);
        }
    }

    /// One end has acknowledged up to `number` of what the other, `of`, has sent.
    fn acknowledge(&mut self, of: usize, number: u32) {
        if self.seen & (SYN << of) == 0 || !is_ahead(number, self.reached[of]) {
            return;
        }
        if self.seen & (SYN_ACKED << of) == 0 {
            // An end that answers somebody else's SYN, or one from another life.
            if !is_near(number, self.reached[of]) {
                return;
            }
            self.seen |= SYN_ACKED << of;
        }
        if self.seen & (FIN << of) != 0 {
            self.seen |= FIN_ACKED << of;
        }
        self.reached[of] = number;
    }
}

/// The tracker, see the [module](self).
pub struct Conntrack {
    table: Table<Tracked>,
    /// When the latest segment came.
    now: Ticks,
    replaced: u64,
    key: HashKey,
    is_strict: bool,
    timeouts: Timeouts,
}

/// Where a connection seems to be; a hint.
#[derive(Clone, Copy, Debug, Default)]
pub struct Probe {
    hash: Hashed,
    place: u32,
}

impl Conntrack {
    /// A tracker that knows no connection.
    ///
    /// # Errors
    /// All settings that it cannot take.
    pub fn new(config: &Config) -> Result<Conntrack, Vec<Mistake>> {
        config.check()?;
        Ok(Conntrack {
            table: Table::new(config.connections),
            now: Ticks::default(),
            replaced: 0,
            key: HashKey::from_seed(config.seed),
            is_strict: config.is_strict,
            timeouts: config.timeouts,
        })
    }

    /// The connections that are not over. Allocates.
    pub fn connections(&self) -> Vec<Connection> {
        self.table.iter().filter_map(|tracked| self.connection(tracked)).collect()
    }

    fn connection(&self, tracked: &Tracked) -> Option<Connection> {
        let ends = [endpoint(tracked.low), endpoint(tracked.high)];
        let originator = usize::from(tracked.originator);
        (!self.now.reached(tracked.until)).then(|| Connection {
            originator: ends[originator],
            responder: ends[1 - originator],
            state: tracked.state(),
            expires_in: self.now.until(tracked.until),
        })
    }

    /// How many connections had to go for new ones before their time was over.
    pub fn replaced(&self) -> u64 {
        self.replaced
    }

    fn hash_of(&self, record: &Record) -> Hashed {
        let (low, high, _) = record.key();
        Hashed::new(&self.key, low, high)
    }

    #[inline(always)]
    fn find(&self, record: &Record, probe: &Probe) -> Option<u32> {
        let (low, high, _) = record.key();
        let eq = |tracked: &Tracked| (tracked.low == low) & (tracked.high == high);
        // An end that is all zeros would be equal to what a free place holds.
        if self.table.at(probe.place).is_some_and(eq) & (high != 0) {
            return Some(probe.place);
        }
        cold_path();
        self.table.find(probe.hash.or(|| self.hash_of(record)), eq)
    }

    /// A segment that is not a steady one of a connection.
    #[cold]
    #[inline(never)]
    fn turn(&mut self, place: Option<u32>, record: &Record) -> Verdict {
        let (now, (.., from)) = (record.now(), record.key());
        let live = place.filter(|place| {
            self.table.at(*place).is_some_and(|tracked| !now.reached(tracked.until))
        });
        let Some(live) = live else { return self.open(place, record) };
        let tracked = self.table.at_mut(live);
        let before = tracked.state();
        let counts = tracked.advance(from, record);
        let state = tracked.state();
        if counts && (state != before || !state.is_closing()) {
            tracked.until = now.after(self.timeouts.of(state));
        }
        Verdict::Pass
    }

    /// A segment of no connection that lives; of one that is over, at `place`.
    fn open(&mut self, place: Option<u32>, record: &Record) -> Verdict {
        const TURNS: TcpFlags = TcpFlags::SYN.with(TcpFlags::FIN).with(TcpFlags::RST);
        let opens = record.has(TcpFlags::SYN) && record.flags & (TURNS.0 | TcpFlags::ACK.0) == 2;
        let picks_up = !self.is_strict && record.has(TcpFlags::ACK) && !record.has(TURNS);
        if !opens && !picks_up {
            return Verdict::Drop(DropReason::TcpNoSession);
        }
        let now = record.now();
        let mut tracked = Tracked::open(record.key(), record);
        tracked.until = now.after(self.timeouts.of(tracked.state()));
        if let Some(place) = place {
            *self.table.at_mut(place) = tracked;
            return Verdict::Pass;
        }
        let rank = |tracked: &Tracked| tracked.rank(now);
        match self.table.insert(self.hash_of(record), tracked, rank) {
            Inserted::Free => Verdict::Pass,
            Inserted::Replaced(other) => {
                self.replaced += u64::from(!now.reached(other.until));
                Verdict::Pass
            }
            Inserted::Refused => Verdict::Drop(DropReason::ConnectionsFull),
        }
    }
}

impl Tracked {
    /// The lower, the sooner it goes for a new one; `None` if it stays.
    fn rank(&self, now: Ticks) -> Option<u64> {
        if now.reached(self.until) {
            return Some(0);
        }
        let class = match self.state() {
            State::Reset | State::Closing | State::TimeWait => 1,
            State::SynSent | State::SynReceived => 2,
            State::Established | State::HalfClosed => return None,
        };
        Some(class << 32 | u64::from(now.until(self.until).0))
    }
}

impl Timeouts {
    const fn of(&self, state: State) -> Span {
        match state {
            State::SynSent | State::SynReceived => self.opening,
            State::Established => self.established,
            State::HalfClosed => self.half_closed,
            State::Closing | State::TimeWait => self.closing,
            State::Reset => self.reset,
        }
    }
}

impl Shown for Conntrack {
    fn parts(&self) -> usize {
        self.table.sets()
    }

    fn show(&self, parts: Range<usize>, each: &mut dyn FnMut(Row)) {
        let connections = self.table.iter_sets(parts);
        let connections = connections.filter_map(|tracked| self.connection(tracked));
        connections.for_each(|connection| each(Row::Connection(connection)));
    }
}

impl Program for Conntrack {
    type Record = Record;
    type Probe = Probe;
    type Event = ();

    #[inline]
    fn record(meta: &PacketMeta, _: Side, now: Moment) -> Record {
        if meta.kind != Kind::Tcp {
            return Record::default();
        }
        Record {
            tuple: FourTuple::new(meta),
            protocol: TCP,
            flags: meta.tcp.flags.0,
            seq: meta.tcp.seq.into(),
            ack: meta.tcp.ack.into(),
            time: now.0.into(),
        }
    }

    #[inline(always)]
    fn probe(&self, record: &Record) -> Probe {
        let hash = self.hash_of(record);
        self.table.prefetch_tags(hash);
        Probe { hash, place: 0 }
    }

    #[inline(always)]
    fn touch(&self, _: &Record, probe: &mut Probe, _: u32) -> bool {
        probe.place = self.table.candidate(probe.hash);
        self.table.prefetch_entry(probe.place);
        false
    }

    #[inline(always)]
    fn step(&mut self, record: &Record, probe: &Probe, _: &mut impl Events<()>) -> Verdict {
        if record.protocol != TCP {
            cold_path();
            return Verdict::Pass;
        }
        let now = record.now();
        self.now = now;
        let place = self.find(record, probe);
        if let Some(at) = place {
            let tracked = self.table.at_mut(at);
            if tracked.is_steady(record) & !now.reached(tracked.until) {
                let (.., from) = record.key();
                tracked.note_steady(from, record);
                tracked.until = now.after(self.timeouts.established);
                return Verdict::Pass;
            }
        }
        self.turn(place, record)
    }

    fn tick(&mut self, _: Ticks, _: &mut impl Events<()>) -> bool {
        false
    }
}

impl Replicable for Conntrack {
    const NAME: &'static str = "conntrack";

    fn copy_from(&mut self, other: &Self) {
        self.table.copy_from(&other.table);
        (self.now, self.replaced) = (other.now, other.replaced);
    }

    fn digest(&self) -> u64 {
        self.table.digest(mix(0, 0))
    }
}
