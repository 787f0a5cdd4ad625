//! The sequencer against a model that keeps all records for ever, under any order of packets, full
//! rings, and cores that come and go. `KRONO_SEED=n` repeats the run that a failure prints.
#![forbid(unsafe_code)]

use krono_core::packet::Side;
use krono_core::time::Moment;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use scr_sequencer::room;
use scr_sequencer::sequencer::{Refused, Sequencer};

type Record = zerocopy::little_endian::U64;

/// A sequencer, and what must be true of it.
struct Run {
    rng: ChaCha8Rng,
    sequencer: Sequencer<Record>,
    history_max: usize,
    cores: usize,
    room: Vec<u8>,
    /// The record of each packet, from packet 1 on.
    records: Vec<Record>,
    /// Of each core: the packet that its state is behind, and whether it gets packets.
    states: Vec<(usize, bool)>,
    next: usize,
    epoch: u32,
    left_out: Vec<usize>,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let cores = rng.random_range(1..=14);
        let history_max = cores - 1 + rng.random_range(0..40);
        Run {
            sequencer: Sequencer::new(cores, history_max).unwrap(),
            history_max,
            cores,
            room: vec![0; room::bytes_needed::<Record>(history_max)],
            records: vec![],
            states: (0..16).map(|core| (0, core < cores)).collect(),
            next: 0,
            epoch: 0,
            left_out: vec![],
            rng,
        }
    }

    fn active(&self) -> usize {
        self.states.iter().filter(|(_, is_active)| *is_active).count()
    }

    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0 => self.join(),
            1 => self.leave(),
            2..12 if self.active() > 0 => {
                self.sequencer.pass_over();
                self.turn(self.next + 1);
            }
            _ if self.active() > 0 => self.assign(),
            _ => assert_eq!(self.sequencer.next_core(), None),
        }
        assert_eq!(self.sequencer.cores(), self.active());
        assert_eq!(self.sequencer.epoch(), self.epoch);
        assert_eq!(self.sequencer.last(), self.records.len() as u64);
        self.left_out.sort_unstable();
        for core in self.left_out.drain(..) {
            assert_eq!(self.sequencer.left_out(), Some(core));
        }
        assert_eq!(self.sequencer.left_out(), None);
    }

    /// The first from `core` on, around the circle, that is active and not too far behind.
    fn turn(&mut self, core: usize) {
        let cores = self.states.len();
        for core in (core..core + cores).map(|core| core % cores) {
            let (state, is_active) = &mut self.states[core];
            if *is_active && self.records.len() - *state > self.history_max {
                *is_active = false;
                self.epoch += 1;
                self.left_out.push(core);
            } else if *is_active {
                self.next = core;
                return;
            }
        }
    }

    fn assign(&mut self) {
        assert_eq!(self.sequencer.next_core(), Some(self.next));
        let (record, moment) = (self.rng.random::<u64>().into(), Moment(self.rng.random()));
        let assigned = self.sequencer.assign(record, moment);
        let (state, _) = &mut self.states[self.next];
        assert_eq!(assigned.core, self.next);
        assert_eq!(assigned.sequence, self.records.len() as u64 + 1);
        assert_eq!(assigned.epoch, self.epoch);
        assert_eq!(assigned.history, &self.records[*state..], "packet {}", assigned.sequence);
        let header = assigned.header(Side::Outside);
        room::write(&mut self.room, &header, assigned.history);
        let (read, carried) = room::read::<Record>(&self.room).unwrap();
        assert_eq!(read, header);
        assert_eq!(carried.moment, moment);
        assert!(carried.history.iter().eq(&self.records[*state..]));
        self.records.push(record);
        *state = self.records.len();
        self.turn(self.next + 1);
    }

    fn leave(&mut self) {
        let core = self.rng.random_range(0..self.states.len());
        if !self.states[core].1 {
            return;
        }
        assert_eq!(self.sequencer.deactivate(core), self.states[core].0 as u64);
        self.states[core].1 = false;
        self.epoch += 1;
        if self.next == core {
            self.turn(core);
        }
    }

    /// A core joins with its own state, or with a copy of that of another.
    fn join(&mut self) {
        let core = self.rng.random_range(0..self.states.len());
        if self.states[core].1 {
            return;
        }
        let state = match self.rng.random_range(0..4) {
            0 => self.states[core].0,
            1 => self.records.len(),
            _ => self.states[self.rng.random_range(0..self.states.len())].0,
        };
        let turns = (self.next..self.next + self.states.len())
            .map(|turn| turn % self.states.len())
            .take_while(|turn| *turn != core && self.active() > 0)
            .filter(|turn| self.states[*turn].1)
            .count();
        let records = self.records.len() - state + turns;
        let result = self.sequencer.activate(core, state as u64);
        if self.active() > self.history_max {
            assert!(matches!(result, Err(Refused::TooManyCores { .. })), "{result:?}");
        } else if records > self.history_max {
            let told = Refused::StateTooOld {
                core,
                state: state as u64,
                records: records as u64,
                history_max: self.history_max,
            };
            assert_eq!(result, Err(told));
        } else {
            assert_eq!(result, Ok(()));
            if self.active() == 0 {
                self.next = core;
            }
            self.states[core] = (state, true);
            self.epoch += 1;
        }
    }
}

/// Every core gets every record once and in order from where its state is on, whatever happens.
#[test]
fn no_core_lacks_a_record_or_gets_one_twice() {
    let given = std::env::var("KRONO_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seeds = given.map_or(0..2000, |seed| seed..seed + 1);
    let (mut packets, mut changes, mut left_out) = (0, 0, 0);
    for seed in seeds {
        println!("KRONO_SEED={seed}");
        let mut run = Run::new(seed);
        for _ in 0..400 {
            run.step();
            changes += usize::from(run.active() != run.cores);
            left_out +=
                run.states.iter().filter(|(state, is_active)| *state > 0 && !is_active).count();
        }
        packets += run.records.len();
    }
    println!("{packets} packets");
    assert!(given.is_some() || packets > 100_000 && changes > 10_000 && left_out > 1000);
}

#[test]
fn histories_are_one_less_than_cores_but_for_the_first() {
    for cores in 1..=64 {
        let mut sequencer = Sequencer::<Record>::new(cores, cores - 1).unwrap();
        for packet in 0..3 * cores {
            let assigned = sequencer.assign(0.into(), Moment(0));
            assert_eq!(assigned.core, packet % cores);
            assert_eq!(assigned.history.len(), packet.min(cores - 1));
            assert_eq!(assigned.epoch, 0);
        }
    }
}

#[test]
fn what_histories_cannot_do_is_refused_with_numbers() {
    let refused = |result: Result<_, Refused>| result.err().map(|refused| refused.to_string());
    let too_many = "7 cores need histories of 6 records, and 5 is the limit";
    assert_eq!(refused(Sequencer::<Record>::new(7, 5).map(drop)).as_deref(), Some(too_many));
    let no_such = "core 64 of a group, which has 64 at most, counted from 0";
    assert_eq!(refused(Sequencer::<Record>::new(65, 99).map(drop)).as_deref(), Some(no_such));
    let mut sequencer = Sequencer::<Record>::new(2, 5).unwrap();
    assert_eq!(refused(sequencer.activate(64, 0)).as_deref(), Some(no_such));
    for _ in 0..5 {
        sequencer.assign(0.into(), Moment(0));
    }
    let too_old = "core 2 has the state behind packet 0, and its first packet would need a history \
                   of 6 records, more than the limit of 5; a newer state must be copied";
    assert_eq!(refused(sequencer.activate(2, 0)).as_deref(), Some(too_old));
    assert_eq!(sequencer.activate(2, 1), Ok(()));
}
