use std::cmp::Reverse;

use krono_core::program::{Program, Verdict};
use rand::RngExt;
use scr_sequencer::programs::heavy::{Config, Heaviness, Heavy, Record};
use scr_sequencer::programs::{FourTuple, Marks};

use crate::harness::{self, Model};

type Key = (u8, FourTuple);

/// Flows in places, each of them looked at.
#[derive(Clone, Debug, PartialEq)]
struct Flows {
    threshold: u64,
    idle: u64,
    /// Flow, bytes, latest packet.
    places: Vec<Option<(Key, u64, u64)>>,
    packets: u64,
}

impl Flows {
    fn place(&mut self, key: Key, may_begin: bool) -> Option<usize> {
        let is_it = |place: &Option<(Key, u64, u64)>| place.is_some_and(|(other, ..)| other == key);
        if let Some(place) = self.places.iter().position(is_it) {
            return Some(place);
        }
        if !may_begin {
            return None;
        }
        let free = self.places.iter().position(Option::is_none);
        let goes = free.or_else(|| {
            let silent = |latest| self.packets - latest >= self.idle;
            let by_bytes = |wanted: &dyn Fn(u64, u64) -> bool| {
                let places = self.places.iter().enumerate();
                let places = places.filter_map(|(at, place)| Some((at, (*place)?)));
                let wanted = places.filter(|(_, (_, bytes, latest))| wanted(*bytes, *latest));
                wanted.min_by_key(|(_, (_, bytes, _))| *bytes).map(|(at, _)| at)
            };
            by_bytes(&|_, latest| silent(latest))
                .or_else(|| by_bytes(&|bytes, _| bytes < self.threshold))
        })?;
        self.places[goes] = Some((key, 0, 0));
        Some(goes)
    }
}

impl Model for Flows {
    type Program = Heavy;
    type Listing = Vec<(u8, Vec<u8>, u64)>;

    fn step(&mut self, record: &Record) -> Verdict {
        let protocol = record.marks.syn >> 1 & 3;
        if protocol == 0 {
            return Verdict::Pass;
        }
        self.packets += 1;
        let syn = record.marks.syn & 1 == 1;
        let ends = protocol == 1 && record.marks.fin & 1 == 1;
        let begins = if protocol == 1 { syn && !ends } else { true };
        if let Some(place) = self.place((protocol, record.tuple), begins) {
            let (_, bytes, latest) = self.places[place].as_mut().expect("a flow");
            (*bytes, *latest) = (*bytes + u64::from(record.length.get()), self.packets);
            if ends {
                self.places[place] = None;
            }
        }
        Verdict::Pass
    }

    fn listing(&self) -> Self::Listing {
        let row = |((protocol, tuple), bytes, _): &(Key, u64, u64)| {
            let mut row = tuple.src.get().to_be_bytes().to_vec();
            row.extend(tuple.sport.get().to_be_bytes());
            row.extend(tuple.dst.get().to_be_bytes());
            row.extend(tuple.dport.get().to_be_bytes());
            (*protocol, row, *bytes)
        };
        let mut rows: Vec<_> = self.places.iter().flatten().map(row).collect();
        rows.sort_unstable_by_key(|(protocol, row, bytes)| {
            (Reverse(*bytes), *protocol, row.clone())
        });
        rows
    }

    fn listing_of(program: &Heavy) -> Self::Listing {
        let top = program.top(usize::MAX);
        assert_eq!(top.len(), program.flows());
        assert_eq!(program.top(3), top[..top.len().min(3)]);
        top.iter().map(row_of).collect()
    }
}

fn row_of(heaviness: &Heaviness) -> (u8, Vec<u8>, u64) {
    let flow = heaviness.flow;
    let mut row = Vec::new();
    for end in [flow.source, flow.destination] {
        row.extend(end.addr.octets());
        row.extend(end.port.to_be_bytes());
    }
    let protocol = match flow.protocol.name() {
        "tcp" => 1,
        "udp" => 2,
        _ => 3,
    };
    (protocol, row, heaviness.bytes)
}

fn record(number: u32, length: u32, syn: u8, fin: u8) -> Record {
    let tuple = FourTuple {
        src: (0x0a00_0000 + number % 5).into(),
        dst: (0xc000_0200 + number / 5).into(),
        sport: 7.into(),
        dport: (number as u16 & 1).into(),
    };
    Record { tuple, length: length.into(), marks: Marks { syn, fin } }
}

#[test]
fn bytes_are_counted_as_the_flows_say() {
    let mut tally = harness::Tally::default();
    harness::with_seeds(|rng| {
        for (flows, places) in [(8, 8), (1024, 1024)] {
            let idle = rng.random_range(20..200);
            let config = Config { flows, threshold: 5_000, idle, seed: [5; 32] };
            let new = || Heavy::new(&config).expect("good settings");
            let places = vec![None; places];
            let model = Flows { threshold: 5_000, idle: idle.into(), places, packets: 0 };
            let many = rng.random_range(6..60);
            harness::hold(rng, &mut tally, new, model, |rng| {
                let number = rng.random_range(0..many).min(rng.random_range(0..many));
                let ends = u8::from(rng.random_range(0..30) == 0);
                record(number, rng.random_range(20..1500), rng.random_range(0..8), ends)
            });
        }
    });
}

const TCP_SYN: u8 = 3;
const TCP: u8 = 2;
const UDP: u8 = 4;

fn send(heavy: &mut Heavy, record: Record) -> Vec<Heaviness> {
    let mut events = Vec::new();
    heavy.step(&record, &Default::default(), &mut events);
    events
}

#[test]
fn a_tcp_flow_is_what_lies_between_syn_and_fin() {
    let mut heavy = Heavy::new(&Config { threshold: 1_000, ..Config::default() }).expect("good");
    send(&mut heavy, record(1, 500, TCP, 0));
    assert_eq!(heavy.flows(), 0);
    send(&mut heavy, record(1, 60, TCP_SYN, 0));
    assert_eq!(send(&mut heavy, record(1, 939, TCP, 0)), []);
    let events = send(&mut heavy, record(1, 1, TCP, 0));
    assert_eq!((events.len(), events[0].bytes), (1, 1_000));
    assert_eq!(send(&mut heavy, record(1, 1_500, TCP, 0)), []);
    // Not even a SYN hides what it has carried.
    send(&mut heavy, record(1, 60, TCP_SYN, 0));
    assert_eq!(heavy.top(5)[0].bytes, 2_560);
    send(&mut heavy, record(1, 40, TCP, 1));
    assert_eq!(heavy.top(5), []);
}

#[test]
fn mice_do_not_displace_an_elephant_and_silence_does() {
    let config = Config { flows: 8, threshold: 1_000, idle: 100, seed: [1; 32] };
    let mut heavy = Heavy::new(&config).expect("good settings");
    for number in 0..8 {
        send(&mut heavy, record(number, 1_000 + number, UDP, 0));
    }
    send(&mut heavy, record(20, 2_000, UDP, 0));
    assert_eq!((heavy.unfollowed(), heavy.replaced()), (1, 0));
    for _ in 0..100 {
        send(&mut heavy, record(3, 1, UDP, 0));
    }
    send(&mut heavy, record(20, 900, UDP, 0));
    assert_eq!((heavy.unfollowed(), heavy.replaced()), (1, 1));
    assert!(heavy.top(9).iter().all(|flow| flow.bytes != 1_000), "the smallest that is silent");
}

#[test]
fn nothing_is_allocated_behind_the_start() {
    let config = Config { flows: 64, ..Config::default() };
    harness::allocates_nothing(Heavy::new(&config).expect("good settings"));
}
