//! Both ends of a share through a simulated translator, and what goes wrong on purpose.

mod faults;
mod golden;
mod model;
mod nat;
mod right;
mod sessions;
mod usual;

use std::collections::VecDeque;
use std::time::Duration;

use krono_core::frame::MemFrame;
use krono_core::packet::{Mac, Side};
use krono_io::Hugepages;

use super::*;
use crate::bench::{Counts, Stage, Ways, Wrong};
use crate::load::{Churn, End, Load, Popularity, Rate, Sizes};
use nat::Nat;

/// A load of so many flows of UDP, TCP and ICMP by these weights.
fn load(protocols: [u32; 3], flows: u32) -> Load {
    Load {
        protocols,
        subscribers: "100.64.0.0/16".parse().unwrap(),
        subscriber_count: 16,
        servers: "198.18.0.0/16".parse().unwrap(),
        sports: 1024..=65535,
        dports: 1..=65535,
        flows,
        popularity: Popularity::Uniform,
        churn: None,
        sizes: Sizes::Fixed(64),
        answers_percent: 100,
        replay: None,
    }
}

fn setup(load: Load) -> ShareSetup {
    let mac = |last| Mac([2, 0, 0, 0, 0, last]);
    let link = |last| LinkHeader { destination: mac(last), source: mac(last + 1), vlan: None };
    ShareSetup {
        load,
        number: 0,
        of: 1,
        seed: 7,
        flows_per_endpoint: 1,
        links: [link(1), link(3)],
        hugepages: Hugepages::Off,
    }
}

fn open(sessions: u32) -> Stage {
    Stage::Open { sessions, per_second: f64::INFINITY }
}

fn traffic(ways: Ways) -> Stage {
    let (rate, end) = (Rate::Max, End::After(Duration::from_secs(1)));
    Stage::Traffic { rate, end, sizes: None, ways }
}

fn probe() -> Stage {
    Stage::Probe { per_second: f64::INFINITY }
}

fn close() -> Stage {
    Stage::Close { per_second: f64::INFINITY }
}

/// What a faulty translator makes of a frame that comes out by a side.
type Fault = Box<dyn FnMut(Side, Vec<u8>) -> Vec<(Side, Vec<u8>)>>;

/// The ways that packets can take through a share, of which the same must come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// One by one, usual ones recognised.
    One,
    /// As runs, where they are usual, of one packet each.
    Run,
    /// One by one, none recognised.
    FullWay,
}

/// Shares on both sides of a translator, and a clock.
struct World {
    shares: Vec<Share>,
    nat: Nat,
    fault: Fault,
    now_ns: u64,
    /// How packets are made and taken.
    by: By,
    /// Frames on their way to a side.
    wire: VecDeque<(Side, Vec<u8>)>,
}

impl World {
    fn new(load: Load) -> World {
        World::of(&[setup(load)])
    }

    fn of(setups: &[ShareSetup]) -> World {
        World {
            shares: setups.iter().map(|setup| Share::new(setup).unwrap()).collect(),
            nat: Nat::new(&setups[0].links),
            fault: Box::new(|side, frame| vec![(side, frame)]),
            now_ns: 5_000_000_000,
            by: By::One,
            wire: VecDeque::new(),
        }
    }

    fn begin(&mut self, stage: &Stage) {
        let now_ns = self.now_ns;
        self.shares.iter_mut().for_each(|share| share.begin(stage, now_ns));
    }

    /// Sends at most `packets` from each share, one each 10 µs, everything being delivered and
    /// answered in between.
    fn send(&mut self, packets: u32) {
        for _ in 0..packets {
            for index in 0..self.shares.len() {
                if let Some((side, frame)) = self.next(index) {
                    self.through_nat(side, frame);
                }
            }
            self.deliver();
            self.now_ns += 10_000;
        }
    }

    /// The next frame of a share, and the side that it goes out of.
    fn next(&mut self, share: usize) -> Option<(Side, Vec<u8>)> {
        let share = &mut self.shares[share];
        if self.by == By::Run {
            let mut buffers = [MemFrame::new(&[])];
            if share.next_run(self.now_ns, &mut buffers[..], 1) == 1 {
                assert_eq!(share.run_len(), Some(buffers[0].bytes().len()));
                return Some((Side::Inside, buffers[0].bytes().to_vec()));
            }
        }
        let mut buffer = [0; FRAME_MAX + 4];
        let (side, len) = share.next(self.now_ns, &mut buffer)?;
        Some((side, buffer[..len].to_vec()))
    }

    /// A frame that was sent out of a side goes through the translator.
    fn through_nat(&mut self, side: Side, frame: Vec<u8>) {
        if let Some((side, frame)) = self.nat.translate(side, frame) {
            let frames = (self.fault)(side, frame);
            self.wire.extend(frames);
        }
    }

    fn deliver(&mut self) {
        while let Some((side, frame)) = self.wire.pop_front() {
            self.now_ns += 1_000;
            self.arrive(0, side, frame);
        }
    }

    fn arrive(&mut self, share: usize, side: Side, mut frame: Vec<u8>) {
        self.shares[share].prefetch(&frame);
        match self.taken(share, side, &mut frame) {
            Taken::Done => {}
            Taken::Answer(len) => {
                frame.truncate(len);
                self.through_nat(side, frame);
            }
            Taken::Foreign(owner) => {
                assert_ne!(usize::from(owner), share);
                self.arrive(owner.into(), side, frame);
            }
        }
    }

    fn taken(&mut self, share: usize, side: Side, frame: &mut [u8]) -> Taken {
        let share = &mut self.shares[share];
        match self.by {
            By::One => share.take(side, frame, self.now_ns),
            By::FullWay => share.take_any(side, frame, self.now_ns),
            By::Run => {
                let (mut frames, mut answers) = ([MemFrame::new(frame)], 0);
                if share.take_run(side, &mut frames[..], 0, self.now_ns, &mut answers) == 0 {
                    return share.take_any(side, frame, self.now_ns);
                }
                frame.copy_from_slice(frames[0].bytes());
                if answers == 1 { Taken::Answer(frame.len()) } else { Taken::Done }
            }
        }
    }

    /// Runs a stage with an end of its own.
    fn run(&mut self, stage: &Stage) -> ShareSeen {
        self.begin(stage);
        for _ in 0..1_000_000 {
            if self.shares.iter().all(Share::is_done) {
                return self.finish();
            }
            let sent = self.sent();
            self.send(1);
            if self.sent() == sent {
                // Nothing is due: a while passes.
                self.now_ns += 50_000_000;
            }
        }
        panic!("the stage does not end");
    }

    fn sent(&self) -> u64 {
        let sent = |tally: &Tally| tally.counts[0].sent + tally.control_sent[0];
        self.shares.iter().map(|share| sent(&share.seen.tally)).sum()
    }

    fn run_traffic(&mut self, ways: Ways, packets: u32) -> ShareSeen {
        self.begin(&traffic(ways));
        self.send(packets);
        self.finish()
    }

    fn finish(&mut self) -> ShareSeen {
        let mut all = ShareSeen::new();
        self.shares.iter_mut().for_each(|share| all.add(&share.finish()));
        all
    }
}

/// Nothing is wrong, lost or out of order.
fn assert_right(seen: &ShareSeen) {
    assert_eq!(seen.tally.wrong, [0; Wrong::COUNT], "{:?}", seen.examples);
    assert_eq!(seen.tally.others, Others::default());
    for counts in seen.tally.counts {
        let Counts { sent, sent_bytes, .. } = counts;
        let right = Counts {
            sent,
            sent_bytes,
            received: sent,
            received_bytes: sent_bytes,
            ..Counts::default()
        };
        assert_eq!(counts, right);
    }
    assert_eq!((seen.sessions_lost, seen.tally.late, seen.tally.not_opened), (0, 0, 0));
}
