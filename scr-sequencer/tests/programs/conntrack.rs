use std::net::Ipv4Addr;

use krono_core::drop::DropReason::{ConnectionsFull, TcpNoSession};
use krono_core::packet::{Endpoint, TcpFlags};
use krono_core::program::{Program, Verdict};
use krono_core::time::Span;
use rand::RngExt;
use scr_sequencer::programs::FourTuple;
use scr_sequencer::programs::conntrack::{Config, Conntrack, Record, State, Timeouts};

use crate::harness::{self, Model};

const FIN: u8 = TcpFlags::FIN.0;
const SYN: u8 = TcpFlags::SYN.0;
const RST: u8 = TcpFlags::RST.0;
const ACK: u8 = TcpFlags::ACK.0;

type Address = (u32, u16);

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct End {
    address: Address,
    sent_syn: bool,
    syn_acked: bool,
    sent_fin: bool,
    fin_acked: bool,
    reached: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Tracked {
    /// The originator first.
    ends: [End; 2],
    is_reset: bool,
    /// In ticks of 100 ms.
    until: u64,
}

/// Connections in places, by name and address of their ends.
#[derive(Clone, Debug)]
struct Connections {
    is_strict: bool,
    now: u64,
    places: Vec<Option<Tracked>>,
}

impl PartialEq for Connections {
    /// Segments say when it is, so the time of one before decides nothing.
    fn eq(&self, other: &Connections) -> bool {
        self.places == other.places
    }
}

fn from_to(record: &Record) -> [Address; 2] {
    let tuple = record.tuple;
    [(tuple.src.get(), tuple.sport.get()), (tuple.dst.get(), tuple.dport.get())]
}

fn distance(number: u32, from: u32) -> i32 {
    number.wrapping_sub(from).cast_signed()
}

fn is_near(number: u32, to: u32) -> bool {
    distance(number, to).unsigned_abs() <= 65_535
}

impl Tracked {
    fn new(record: &Record) -> Tracked {
        let [source, destination] = from_to(record);
        let is_syn = record.flags & SYN != 0;
        let seq = record.seq.get();
        let own = End {
            address: source,
            sent_syn: true,
            syn_acked: !is_syn,
            reached: if is_syn { seq.wrapping_add(1) } else { seq },
            ..End::default()
        };
        let other = End { address: destination, ..End::default() };
        let heard = End { sent_syn: true, syn_acked: true, reached: record.ack.get(), ..other };
        Tracked { ends: [own, if is_syn { other } else { heard }], is_reset: false, until: 0 }
    }

    fn is_of(&self, [source, destination]: [Address; 2]) -> bool {
        let [a, b] = self.ends.map(|end| end.address);
        (a, b) == (source, destination) || (b, a) == (source, destination)
    }

    fn state(&self) -> State {
        let count = |is_so: fn(&End) -> bool| self.ends.iter().filter(|end| is_so(end)).count();
        if self.is_reset {
            return State::Reset;
        }
        match count(|end| end.sent_fin) {
            2 if count(|end| end.fin_acked) == 2 => State::TimeWait,
            2 => State::Closing,
            1 => State::HalfClosed,
            _ if count(|end| end.syn_acked) == 2 => State::Established,
            _ if count(|end| end.sent_syn) == 2 => State::SynReceived,
            _ => State::SynSent,
        }
    }

    fn is_going(&self) -> bool {
        matches!(self.state(), State::TimeWait | State::Closing | State::Reset)
    }

    /// Whether the segment counts.
    fn take(&mut self, record: &Record) -> bool {
        let from = usize::from(self.ends[0].address != from_to(record)[0]);
        let (seq, ack, has) = (record.seq.get(), record.ack.get(), |flag| record.flags & flag != 0);
        let (own, other) = (self.ends[from], self.ends[1 - from]);
        if has(RST) {
            let fits = match own.sent_syn {
                true => is_near(seq, own.reached),
                false => has(ACK) && ack == other.reached,
            };
            let takes = fits && !self.is_going();
            self.is_reset |= takes;
            return takes;
        }
        if has(SYN) && !has(ACK) && self.is_going() {
            *self = Tracked::new(record);
            return self.take_rest(0, record);
        }
        let own = &mut self.ends[from];
        if has(SYN) && !own.syn_acked {
            (own.sent_syn, own.reached) = (true, seq.wrapping_add(1));
        }
        self.is_reset &= has(SYN);
        self.take_rest(from, record)
    }

    /// FIN, acknowledgement and number.
    fn take_rest(&mut self, from: usize, record: &Record) -> bool {
        let (seq, ack, has) = (record.seq.get(), record.ack.get(), |flag| record.flags & flag != 0);
        let own = &mut self.ends[from];
        if has(FIN) && own.sent_syn && is_near(seq, own.reached) {
            own.sent_fin = true;
            if distance(seq.wrapping_add(1), own.reached) > 0 {
                own.reached = seq.wrapping_add(1);
            }
        }
        let other = &mut self.ends[1 - from];
        let is_news = other.sent_syn && distance(ack, other.reached) >= 0;
        if has(ACK) && is_news && (other.syn_acked || is_near(ack, other.reached)) {
            other.syn_acked = true;
            other.fin_acked |= other.sent_fin;
            other.reached = ack;
        }
        let own = &mut self.ends[from];
        if own.syn_acked && distance(seq, own.reached) > 0 {
            own.reached = seq;
        }
        true
    }
}

const TIMEOUTS: Timeouts = Timeouts {
    opening: Span(30),
    established: Span(400),
    half_closed: Span(200),
    closing: Span(60),
    reset: Span(10),
};

fn timeout(state: State) -> u64 {
    match state {
        State::SynSent | State::SynReceived => 30,
        State::Established => 400,
        State::HalfClosed => 200,
        State::Closing | State::TimeWait => 60,
        State::Reset => 10,
    }
}

impl Connections {
    /// The place for a new connection.
    fn vacate(&self) -> Option<usize> {
        if let Some(free) = self.places.iter().position(Option::is_none) {
            return Some(free);
        }
        let rank = |place: &Option<Tracked>| {
            let tracked = place.expect("none is free");
            match tracked.state() {
                _ if tracked.until <= self.now => Some((0, 0)),
                State::Established | State::HalfClosed => None,
                State::SynSent | State::SynReceived => Some((2, tracked.until)),
                _ => Some((1, tracked.until)),
            }
        };
        let ranked = self.places.iter().enumerate();
        ranked.filter_map(|(at, place)| Some((rank(place)?, at))).min().map(|(_, at)| at)
    }
}

impl Model for Connections {
    type Program = Conntrack;
    type Listing = Vec<(Endpoint, Endpoint, &'static str, u32)>;

    fn step(&mut self, record: &Record) -> Verdict {
        if record.protocol != 6 {
            return Verdict::Pass;
        }
        self.now = record.time.get() / 100_000_000;
        let is_it = |place: &Option<Tracked>| place.is_some_and(|it| it.is_of(from_to(record)));
        let known = self.places.iter().position(is_it);
        if let Some(place) = known
            && let Some(tracked) = &mut self.places[place]
            && tracked.until > self.now
        {
            let before = tracked.state();
            let counts = tracked.take(record);
            if counts && (tracked.state() != before || !tracked.is_going()) {
                tracked.until = self.now + timeout(tracked.state()) + 1;
            }
            return Verdict::Pass;
        }
        let opens = match record.flags & (SYN | ACK | FIN | RST) {
            SYN => true,
            ACK => !self.is_strict,
            _ => false,
        };
        if !opens {
            return Verdict::Drop(TcpNoSession);
        }
        let Some(place) = known.or_else(|| self.vacate()) else {
            return Verdict::Drop(ConnectionsFull);
        };
        let mut tracked = Tracked::new(record);
        tracked.until = self.now + timeout(tracked.state()) + 1;
        self.places[place] = Some(tracked);
        Verdict::Pass
    }

    fn listing(&self) -> Self::Listing {
        let endpoint = |(addr, port)| Endpoint::new(Ipv4Addr::from_bits(addr), port);
        let live = self.places.iter().flatten().filter(|tracked| tracked.until > self.now);
        let mut listing: Vec<_> = live
            .map(|tracked| {
                let [originator, responder] = tracked.ends.map(|end| endpoint(end.address));
                let left = (tracked.until - self.now) as u32;
                (originator, responder, tracked.state().name(), left)
            })
            .collect();
        listing.sort_unstable();
        listing
    }

    fn listing_of(program: &Conntrack) -> Self::Listing {
        let connections = program.connections().into_iter();
        let mut listing: Vec<_> = connections
            .map(|it| (it.originator, it.responder, it.state.name(), it.expires_in.0))
            .collect();
        listing.sort_unstable();
        listing
    }
}

fn record(from: Address, to: Address, flags: u8, seq: u32, ack: u32, time: u64) -> Record {
    let tuple = FourTuple {
        src: from.0.into(),
        dst: to.0.into(),
        sport: from.1.into(),
        dport: to.1.into(),
    };
    let (seq, ack, time) = (seq.into(), ack.into(), time.into());
    Record { tuple, protocol: 6, flags, seq, ack, time }
}

#[test]
fn segments_pass_as_the_connections_say() {
    let mut tally = harness::Tally::default();
    harness::with_seeds(|rng| {
        for (connections, places) in [(8, 8), (512, 512)] {
            let is_strict = rng.random();
            let config = Config { connections, is_strict, timeouts: TIMEOUTS, seed: [8; 32] };
            let new = || Conntrack::new(&config).expect("good settings");
            let model = Connections { is_strict, now: 0, places: vec![None; places] };
            let many = rng.random_range(2..20);
            let pace = [1, 1_000_000_000, 3_000_000_000][rng.random_range(0..3)];
            // Where the numbers of both ends of each connection are, about.
            let mut numbers = vec![[u32::MAX - 3, 77]; many];
            let mut time: u64 = 7;
            harness::hold(rng, &mut tally, new, model, |rng| {
                time += rng.random_range(0..=pace);
                let number = rng.random_range(0..many);
                let ends = [(9, 1000 + number as u16), (7, 80)];
                let from = usize::from(rng.random::<bool>());
                let flags = [SYN, SYN | ACK, ACK, ACK, ACK | 8, FIN | ACK, RST, RST | ACK, SYN]
                    [rng.random_range(0..9)];
                let flags = if rng.random_range(0..40) == 0 { rng.random() } else { flags };
                let own = &mut numbers[number];
                own[from] = own[from].wrapping_add(rng.random_range(0..3));
                let (mut seq, mut ack) = (own[from], own[1 - from]);
                match rng.random_range(0..30) {
                    0 => seq = rng.random(),
                    1 => ack = rng.random(),
                    2 => own[from] = rng.random(),
                    _ => {}
                }
                let mut record = record(ends[from], ends[1 - from], flags, seq, ack, time);
                record.protocol = if rng.random_range(0..50) == 0 { rng.random() } else { 6 };
                record
            });
        }
    });
    tally.demand(&[Verdict::Pass, Verdict::Drop(TcpNoSession), Verdict::Drop(ConnectionsFull)]);
}

const CLIENT: Address = (0x0a00_0001, 4000);
const SERVER: Address = (0x0900_0001, 80);
const SECOND: u64 = 1_000_000_000;

struct Bed {
    tracker: Conntrack,
    now: u64,
}

impl Bed {
    fn new(is_strict: bool) -> Bed {
        let config = Config { is_strict, ..Config::default() };
        Bed { tracker: Conntrack::new(&config).expect("good settings"), now: 5 * SECOND }
    }

    fn send(&mut self, from: Address, flags: u8, seq: u32, ack: u32) -> Verdict {
        let to = if from == CLIENT { SERVER } else { CLIENT };
        let record = record(from, to, flags, seq, ack, self.now);
        self.tracker.step(&record, &Default::default(), &mut ())
    }

    fn state(&self) -> Option<State> {
        self.tracker.connections().first().map(|connection| connection.state)
    }

    /// With a connection that the client opened: the next numbers are 101 and 501.
    fn established() -> Bed {
        let mut bed = Bed::new(true);
        bed.send(CLIENT, SYN, 100, 0);
        assert_eq!(bed.state(), Some(State::SynSent));
        bed.send(SERVER, SYN | ACK, 500, 101);
        assert_eq!(bed.state(), Some(State::SynReceived));
        bed.send(CLIENT, ACK, 101, 501);
        assert_eq!(bed.state(), Some(State::Established));
        bed
    }
}

#[test]
fn rfc9293_s3_5_a_connection_opens_and_is_one_for_both_directions() {
    let mut bed = Bed::established();
    let connections = bed.tracker.connections();
    assert_eq!(connections.len(), 1);
    assert_eq!(connections[0].originator.port, CLIENT.1);
    assert_eq!(bed.send(SERVER, ACK, 501, 101), Verdict::Pass);
    // Both open at once (RFC 9293, figure 7).
    let mut bed = Bed::new(true);
    bed.send(CLIENT, SYN, 100, 0);
    bed.send(SERVER, SYN, 500, 0);
    bed.send(CLIENT, SYN | ACK, 100, 501);
    assert_eq!(bed.state(), Some(State::SynReceived));
    bed.send(SERVER, SYN | ACK, 500, 101);
    assert_eq!(bed.state(), Some(State::Established));
}

#[test]
fn rfc9293_s3_6_a_connection_closes_from_either_end() {
    let mut bed = Bed::established();
    bed.send(CLIENT, FIN | ACK, 101, 501);
    assert_eq!(bed.state(), Some(State::HalfClosed));
    bed.send(SERVER, ACK, 501, 102);
    bed.send(SERVER, ACK, 1501, 102);
    bed.send(SERVER, FIN | ACK, 2501, 102);
    assert_eq!(bed.state(), Some(State::Closing));
    bed.send(CLIENT, ACK, 102, 2502);
    assert_eq!(bed.state(), Some(State::TimeWait));
    // What repeats does not keep it, and a SYN begins anew.
    bed.now += 239 * SECOND;
    bed.send(CLIENT, ACK, 102, 2502);
    bed.now += 2 * SECOND;
    assert_eq!(bed.send(CLIENT, ACK, 102, 2502), Verdict::Drop(TcpNoSession));
    assert_eq!(bed.send(CLIENT, SYN, 9000, 0), Verdict::Pass);
    assert_eq!(bed.state(), Some(State::SynSent));
}

#[test]
fn rfc5961_s3_2_only_a_reset_that_fits_ends_a_connection() {
    for stray in [101 + 65_536, 101_u32.wrapping_sub(65_536), 1 << 31] {
        let mut bed = Bed::established();
        assert_eq!(bed.send(CLIENT, RST, stray, 0), Verdict::Pass);
        assert_eq!(bed.state(), Some(State::Established));
    }
    let mut bed = Bed::established();
    bed.send(CLIENT, RST, 101, 0);
    assert_eq!(bed.state(), Some(State::Reset));
    bed.send(SERVER, ACK, 501, 101);
    assert_eq!(bed.state(), Some(State::Established), "its receiver has not believed it");
    let mut bed = Bed::new(true);
    bed.send(CLIENT, SYN, 100, 0);
    bed.send(SERVER, RST | ACK, 0, 77);
    assert_eq!(bed.state(), Some(State::SynSent));
    bed.send(SERVER, RST | ACK, 0, 101);
    assert_eq!(bed.state(), Some(State::Reset));
}

#[test]
fn strangers_are_dropped_or_picked_up() {
    for flags in [ACK, SYN | ACK, RST, FIN | ACK, 0, SYN | FIN, SYN | RST] {
        assert_eq!(Bed::new(true).send(CLIENT, flags, 1, 1), Verdict::Drop(TcpNoSession));
    }
    let mut bed = Bed::new(false);
    assert_eq!(bed.send(CLIENT, RST, 1, 1), Verdict::Drop(TcpNoSession));
    assert_eq!(bed.send(CLIENT, ACK, 1, 1), Verdict::Pass);
    assert_eq!(bed.state(), Some(State::Established));
}

#[test]
fn a_flood_of_syns_does_not_displace_connections() {
    let config = Config { connections: 8, ..Config::default() };
    let mut tracker = Conntrack::new(&config).expect("good settings");
    let send = |tracker: &mut Conntrack, port, flags, (seq, ack): (u32, u32), is_answer: bool| {
        let client = (CLIENT.0, port);
        let (from, to) = if is_answer { (SERVER, client) } else { (client, SERVER) };
        tracker.step(&record(from, to, flags, seq, ack, SECOND), &Default::default(), &mut ())
    };
    for port in 1..=7 {
        send(&mut tracker, port, SYN, (100, 0), false);
        send(&mut tracker, port, SYN | ACK, (500, 101), true);
        send(&mut tracker, port, ACK, (101, 501), false);
    }
    for port in 1000..2000 {
        assert_eq!(send(&mut tracker, port, SYN, (1, 0), false), Verdict::Pass);
    }
    for port in 1..=7 {
        assert_eq!(send(&mut tracker, port, ACK, (101, 501), false), Verdict::Pass);
    }
    assert_eq!(tracker.replaced(), 999);
    send(&mut tracker, 1, FIN | ACK, (101, 501), false);
    let half_closed = tracker.connections().iter().any(|it| it.state == State::HalfClosed);
    assert!(half_closed);
}

#[test]
fn nothing_is_allocated_behind_the_start() {
    let config = Config { connections: 64, ..Config::default() };
    harness::allocates_nothing(Conntrack::new(&config).expect("good settings"));
}
