use krono_core::drop::DropReason::{SourceBlocked, SourceListed};
use krono_core::program::{Program, Verdict};
use rand::RngExt;
use scr_sequencer::Replicable;
use scr_sequencer::programs::ddos::{Config, Ddos, Record};

use crate::harness::{self, Model};

/// Levels as they are described, each of them changed with each packet.
#[derive(Clone, Debug, PartialEq)]
struct Levels {
    config: [u32; 2],
    places: usize,
    sources: Vec<(u32, u32)>,
}

fn is_denied(source: u32) -> bool {
    source >> 8 == 0x000a_0000
}

fn is_allowed(source: u32) -> bool {
    source & !1 == 0x0a00_0002
}

impl Model for Levels {
    type Program = Ddos;
    type Listing = Vec<(u32, u32)>;

    fn step(&mut self, record: &Record) -> Verdict {
        let [one_in, window] = self.config;
        let address = record.source.get();
        if address == 0 {
            return Verdict::Pass;
        }
        for (_, level) in &mut self.sources {
            *level = level.saturating_sub(1);
        }
        let known = self.sources.iter().position(|(source, _)| *source == address);
        let place = known.unwrap_or_else(|| {
            if self.sources.len() < self.places {
                self.sources.push((address, 0));
                return self.sources.len() - 1;
            }
            let lowest = (0..self.places).min_by_key(|place| self.sources[*place].1);
            let lowest = lowest.expect("there are places");
            self.sources[lowest] = (address, 0);
            lowest
        });
        let level = &mut self.sources[place].1;
        *level = (*level + one_in).min(2 * window);
        match *level > window {
            _ if is_allowed(address) => Verdict::Pass,
            _ if is_denied(address) => Verdict::Drop(SourceListed),
            true => Verdict::Drop(SourceBlocked),
            false => Verdict::Pass,
        }
    }

    fn listing(&self) -> Self::Listing {
        let [one_in, window] = self.config;
        let blocked = |&&(source, level): &&(u32, u32)| {
            level > window && !is_denied(source) && !is_allowed(source)
        };
        let blocked = self.sources.iter().filter(blocked);
        let mut listing: Vec<_> =
            blocked.map(|(source, level)| (*source, level.div_ceil(one_in))).collect();
        listing.sort_unstable();
        listing
    }

    fn listing_of(program: &Ddos) -> Self::Listing {
        let blocked = program.blocked().into_iter();
        let mut listing: Vec<_> =
            blocked.map(|blocked| (blocked.source.to_bits(), blocked.packets)).collect();
        listing.sort_unstable();
        listing
    }
}

fn config(sources: usize, one_in: u32, window: u32) -> Config {
    let deny = vec!["10.0.0.0/24".parse().expect("a prefix")];
    let allow = vec!["10.0.0.2/31".parse().expect("a prefix")];
    Config { sources, one_in, window, deny, allow, seed: [9; 32] }
}

#[test]
fn sources_are_blocked_as_the_levels_say() {
    let mut tally = harness::Tally::default();
    harness::with_seeds(|rng| {
        for (sources, places) in [(8, 8), (4096, usize::MAX)] {
            let (one_in, window) = (rng.random_range(2..12), rng.random_range(12..300));
            let config = config(sources, one_in, window);
            let new = || Ddos::new(&config).expect("good settings");
            let model = Levels { config: [one_in, window], places, sources: Vec::new() };
            let many = rng.random_range(4..60);
            harness::hold(rng, &mut tally, new, model, |rng| {
                let common = rng.random_range(0..many);
                let number = if rng.random() { common } else { common.min(rng.random_range(0..4)) };
                let block = if rng.random_range(0..4) == 0 { 0x0a00_0000 } else { 0xc000_0200 };
                let address = if rng.random_range(0..50) == 0 { 0 } else { block + number };
                Record { source: address.into() }
            });
        }
    });
    tally.demand(&[Verdict::Pass, Verdict::Drop(SourceBlocked), Verdict::Drop(SourceListed)]);
}

fn send(ddos: &mut Ddos, source: u32) -> Verdict {
    ddos.step(&Record { source: source.into() }, &Default::default(), &mut ())
}

#[test]
fn who_falls_below_the_share_is_free_again() {
    let mut ddos = Ddos::new(&config(1000, 10, 1000)).expect("good settings");
    let (loud, quiet) = (0x0101_0101, 0x0202_0000);
    // All packets are one source's: it is above the window after a tenth of it, and a bit.
    let until = (1..).find(|_| send(&mut ddos, loud) != Verdict::Pass).expect("it ends");
    assert_eq!(until, 112, "1,000 / (10 - 1), and the packet that exceeds it");
    (0..10_000).for_each(|_| _ = send(&mut ddos, loud));
    assert_eq!(ddos.blocked()[0].free_in, 1000);
    for other in 0..999 {
        assert_eq!(send(&mut ddos, quiet + other), Verdict::Pass);
    }
    assert_eq!(ddos.blocked().len(), 1);
    assert_eq!(send(&mut ddos, quiet), Verdict::Pass);
    assert_eq!(ddos.blocked(), []);
    assert_eq!(ddos.forgotten(), 0);
    // One in ten is no more than its share, for ever.
    for number in 0..10_000 {
        let source = if number % 10 == 0 { 0x0303_0303 } else { quiet + number % 1000 };
        assert_eq!(send(&mut ddos, source), Verdict::Pass, "packet {number}");
    }
}

#[test]
fn a_flood_of_new_sources_frees_nobody() {
    let mut ddos = Ddos::new(&config(64, 500, 5_000)).expect("good settings");
    (0..10_000).for_each(|_| _ = send(&mut ddos, 0x0101_0101));
    (0..4_000).for_each(|spoofed| _ = send(&mut ddos, 0x0202_0000 + spoofed));
    assert_eq!(send(&mut ddos, 0x0101_0101), Verdict::Drop(SourceBlocked));
    assert!(ddos.forgotten() > 0);
}

#[test]
fn nothing_is_allocated_behind_the_start() {
    harness::allocates_nothing(Ddos::new(&config(64, 4, 500)).expect("good settings"));
    assert_eq!(Ddos::NAME, "ddos");
}
