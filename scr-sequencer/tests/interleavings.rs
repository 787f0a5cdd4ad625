//! The loss log and the recovery protocol under every interleaving of two cores that a bounded number
//! of preemptions makes, with the memory model of the language rather than that of this machine.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::Ordering;

use krono_core::time::Moment;
use loom::sync::atomic::{AtomicU64, fence};
use loom::thread;
use scr_sequencer::history::{Carried, History};
use scr_sequencer::log::{Entry, Log, Memory, Word};
use scr_sequencer::recovery::{Group, Member, Patience, Search, Turn};

#[derive(Debug)]
struct Checked;

#[derive(Debug)]
struct CheckedWord(AtomicU64);

impl Memory for Checked {
    type Word = CheckedWord;

    fn fence(order: Ordering) {
        fence(order);
    }
}

impl Word for CheckedWord {
    fn zero() -> Self {
        CheckedWord(AtomicU64::new(0))
    }
    fn load(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }
    fn store(&self, value: u64, order: Ordering) {
        self.0.store(value, order);
    }
    fn set_once(&self, value: u64) -> u64 {
        match self.0.compare_exchange(0, value, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => value,
            Err(present) => present,
        }
    }
}

/// Two words, which a reader must never get from two packets.
type Record = [u8; 16];

fn record(sequence: u64) -> Record {
    [sequence as u8; 16]
}

fn model(preemptions: usize, check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(check);
}

#[test]
fn a_record_is_read_whole_or_not_at_all() {
    model(4, || {
        let log = Arc::new(Log::<Record, Checked>::new(1));
        let writer = {
            let log = log.clone();
            thread::spawn(move || {
                log.know(1, &record(1));
                log.know(2, &record(2));
                log.lose(3);
            })
        };
        let readers = [1, 2].map(|sequence| {
            let log = log.clone();
            move || match log.read(sequence) {
                Entry::Known(found) => assert_eq!(found, record(sequence), "torn or another's"),
                Entry::NotYet | Entry::Overwritten => {}
                Entry::Lost => panic!("{sequence} was never lost"),
            }
        });
        let [first, second] = readers;
        let reader = thread::spawn(first);
        second();
        reader.join().unwrap();
        writer.join().unwrap();
        assert_eq!((log.read(2), log.read(3)), (Entry::Overwritten, Entry::Lost));
    });
}

/// What a core has come to know of each packet: its record's first byte, or 0 where nobody has it.
struct Core {
    member: Member<Record, Checked>,
    known: Vec<(u64, u8)>,
}

impl Core {
    fn new(group: &Arc<Group<Record, Checked>>, core: usize) -> Self {
        Core { member: Member::new(group.clone(), core), known: Vec::new() }
    }

    /// Takes a packet of a group of two, waiting for lost ones as long as it must.
    fn take(&mut self, sequence: u64) {
        let history = [record(sequence - 1)];
        let history = History::new(if sequence > 1 { &history } else { &[] });
        let carried = Carried { sequence, moment: Moment::default(), history };
        let known = &mut self.known;
        let mut found = |sequence, record: Option<&Record>| {
            known.push((sequence, record.map_or(0, |record| record[0])));
        };
        let new = loop {
            match self.member.offer(&carried, &mut found) {
                Turn::Now(new) => break new as u64,
                Turn::Wait => thread::yield_now(),
                turn => panic!("{sequence}: {turn:?}"),
            }
        };
        self.known.extend((sequence - new..=sequence).map(|sequence| (sequence, sequence as u8)));
        self.member.know_own(sequence, &record(sequence));
        self.member.stepped();
    }

    /// Polls without packets until what others want of the packets up to `last` has been said.
    fn idle_until(&mut self, last: u64) {
        let known = &mut self.known;
        let mut found = |sequence, record: Option<&Record>| {
            known.push((sequence, record.map_or(0, |record| record[0])));
        };
        while self.member.idle(&mut found) != Search::Done || self.member.handed() < last {
            thread::yield_now();
        }
    }
}

/// Runs a group of two cores, core 0 in a thread of its own, and says what each came to know.
fn two_cores(
    slots: usize,
    core_0: impl FnOnce(&mut Core) + Send + 'static,
    core_1: impl FnOnce(&mut Core),
) -> [Vec<(u64, u8)>; 2] {
    let group = Group::new(2, slots, Patience { idle: 1, silent: u32::MAX });
    let mut second = Core::new(&group, 1);
    let first = thread::spawn(move || {
        let mut first = Core::new(&group, 0);
        core_0(&mut first);
        first.known
    });
    core_1(&mut second);
    [first.join().unwrap(), second.known]
}

#[test]
fn cores_that_lack_each_others_packets_find_them_and_leave_out_the_same() {
    model(3, || {
        // Of 1, 2, 3, 4, 5 the packets 2 and 3 are lost on their way: 3 is in the history of 4, and
        // 2 in none.
        let known = two_cores(
            8,
            |core| {
                core.take(1);
                core.take(5);
            },
            |core| core.take(4),
        );
        assert_eq!(known[0], [(1, 1), (2, 0), (3, 3), (4, 4), (5, 5)]);
        assert_eq!(known[1], known[0][..4]);
    });
}

#[test]
fn a_core_without_packets_lets_another_one_go_on() {
    model(3, || {
        // 2 and 4 are lost, and nothing comes to core 1 behind them.
        let known = two_cores(
            8,
            |core| {
                core.take(1);
                core.take(5);
            },
            |core| core.idle_until(3),
        );
        assert_eq!(known[0], [(1, 1), (2, 0), (3, 0), (4, 4), (5, 5)]);
        assert_eq!(known[1], known[0][..3]);
    });
}
