use krono_core::drop::DropReason::{KnockersFull, PortClosed};
use krono_core::program::{Program, Verdict};
use rand::RngExt;
use scr_sequencer::programs::Marks;
use scr_sequencer::programs::knock::{Config, Knock, Record, State};

use crate::harness::{self, Model};

const SEQUENCE: [u16; 4] = [100, 101, 100, 7000];

/// What each source that is not closed has knocked so far.
#[derive(Clone, Debug, PartialEq)]
struct Doors {
    close_on_fin: bool,
    places: Vec<Option<(u32, Vec<u16>)>>,
}

fn is_protected(port: u16) -> bool {
    port == 22 || (8000..=8100).contains(&port)
}

impl Model for Doors {
    type Program = Knock;
    type Listing = Vec<(u32, usize)>;

    fn step(&mut self, record: &Record) -> Verdict {
        let (source, port) = (record.source.get(), record.port.get());
        let protocol = record.marks.syn >> 1 & 3;
        if protocol == 0 {
            return Verdict::Pass;
        }
        let is_it = |place: &Option<(u32, _)>| place.as_ref().is_some_and(|it| it.0 == source);
        let known = self.places.iter().position(is_it);
        let mut knocked = match known {
            Some(place) => self.places[place].clone().expect("a source").1,
            None => Vec::new(),
        };
        let is_syn = record.marks.syn & 1 == 1 && record.marks.fin & 2 == 0;
        if protocol == 1 && knocked == SEQUENCE {
            if self.close_on_fin && record.marks.fin & 1 == 1 && is_protected(port) {
                knocked.clear();
            }
        } else if protocol == 1 {
            knocked.push(if is_syn { port } else { 0 });
            if !SEQUENCE.starts_with(&knocked) {
                knocked.clear();
            }
        }
        let is_open = knocked == SEQUENCE;
        if let Some(place) = known {
            self.places[place] = (!knocked.is_empty()).then_some((source, knocked));
        } else if !knocked.is_empty() {
            let free = self.places.iter().position(Option::is_none);
            let least = || {
                let knocks = |place: &Option<(u32, Vec<u16>)>| place.as_ref().map(|it| it.1.len());
                let places = (0..self.places.len()).map(|at| (knocks(&self.places[at]), at));
                let (knocks, at) = places.min().expect("there are places");
                (knocks < Some(SEQUENCE.len())).then_some(at)
            };
            let Some(place) = free.or_else(least) else { return Verdict::Drop(KnockersFull) };
            self.places[place] = Some((source, knocked));
        }
        if is_protected(port) && !is_open { Verdict::Drop(PortClosed) } else { Verdict::Pass }
    }

    fn listing(&self) -> Self::Listing {
        let row = |(source, knocked): &(u32, Vec<u16>)| (*source, knocked.len());
        let mut listing: Vec<_> = self.places.iter().flatten().map(row).collect();
        listing.sort_unstable();
        listing
    }

    fn listing_of(program: &Knock) -> Self::Listing {
        let knocks = |state| match state {
            State::Knocked(knocks) => knocks.into(),
            State::Open => SEQUENCE.len(),
        };
        let knockers = program.knockers().into_iter();
        let mut listing: Vec<_> =
            knockers.map(|it| (it.source.to_bits(), knocks(it.state))).collect();
        listing.sort_unstable();
        listing
    }
}

fn config(sources: usize, close_on_fin: bool) -> Config {
    let sequence = SEQUENCE.to_vec();
    let protected = vec![22..=22, 8000..=8050, 8040..=8100];
    Config { sources, sequence, protected, close_on_fin, seed: [3; 32] }
}

#[test]
fn doors_open_as_the_knocks_say() {
    let mut tally = harness::Tally::default();
    harness::with_seeds(|rng| {
        for (sources, places) in [(8, 8), (512, 512)] {
            let close_on_fin = rng.random();
            let config = config(sources, close_on_fin);
            let new = || Knock::new(&config).expect("good settings");
            let model = Doors { close_on_fin, places: vec![None; places] };
            let many = rng.random_range(2..30);
            // How far each source thinks it is, so that some get through.
            let mut next = vec![0; many];
            harness::hold(rng, &mut tally, new, model, |rng| {
                let number = rng.random_range(0..many);
                let source = (0x0a00_0000 + number as u32).into();
                if rng.random_range(0..4) != 0 {
                    let port = SEQUENCE[next[number] % SEQUENCE.len()].into();
                    next[number] += 1;
                    return Record { source, port, marks: Marks { syn: 3, fin: 0 } };
                }
                let ports = [22, 80, 100, 101, 7999, 8000, 8100, 8101];
                let port = ports[rng.random_range(0..ports.len())].into();
                let syn = rng.random_range(0..8) & !(rng.random_range(0..8) & 1);
                let fin = if rng.random_range(0..3) == 0 { rng.random_range(0..4) } else { 0 };
                Record { source, port, marks: Marks { syn, fin } }
            });
        }
    });
    tally.demand(&[Verdict::Pass, Verdict::Drop(PortClosed), Verdict::Drop(KnockersFull)]);
}

#[test]
fn an_open_door_stays_open() {
    let mut knock = Knock::new(&config(100, false)).expect("good settings");
    let mut send = |port: u16, syn, fin| {
        let record = Record { source: 7.into(), port: port.into(), marks: Marks { syn, fin } };
        knock.step(&record, &Default::default(), &mut ())
    };
    assert_eq!(send(22, 3, 0), Verdict::Drop(PortClosed));
    for port in SEQUENCE {
        assert_eq!(send(port, 3, 0), Verdict::Pass);
    }
    for (port, syn, fin) in [(22, 3, 0), (9, 3, 0), (100, 3, 0), (22, 2, 1), (22, 2, 0), (22, 4, 0)]
    {
        assert_eq!(send(port, syn, fin), Verdict::Pass, "{port}");
    }
}

#[test]
fn nothing_is_allocated_behind_the_start() {
    harness::allocates_nothing(Knock::new(&config(64, true)).expect("good settings"));
}
