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
    fn exchange(&self, from: u64, to: u64) -> bool {
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
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
    group: Arc<Group<Record, Checked>>,
    member: Member<Record, Checked>,
    known: Vec<(u64, u8)>,
}

impl Core {
    fn new(group: &Arc<Group<Record, Checked>>, core: usize) -> Self {
        let (group, member) = (group.clone(), Member::new(group.clone(), core));
        Core { group, member, known: Vec::new() }
    }

    /// Takes a packet of a group of two, waiting for lost ones as long as it must.
    fn take(&mut self, sequence: u64) {
        assert!(self.try_take(sequence), "{sequence}: it is expelled");
    }

    /// The same; false, and nothing is known of it, if the others go on without this core, or did so.
    fn try_take(&mut self, sequence: u64) -> bool {
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
                Turn::Behind | Turn::Late => return false,
            }
        };
        let handed = sequence - new..=sequence;
        handed.clone().for_each(|sequence| self.member.know(sequence, &record(sequence)));
        if !self.member.confirm() {
            return false;
        }
        self.known.extend(handed.map(|sequence| (sequence, sequence as u8)));
        self.member.stepped();
        true
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
    run_two(slots, u32::MAX, core_0, core_1).map(|core| core.known)
}

/// The same, with cores that expel each other after `silent` polls in vain; gives the cores.
fn run_two(
    slots: usize,
    silent: u32,
    core_0: impl FnOnce(&mut Core) + Send + 'static,
    core_1: impl FnOnce(&mut Core),
) -> [Core; 2] {
    let group = Group::new(2, slots, Patience { idle: 1, silent });
    let mut second = Core::new(&group, 1);
    let first = thread::spawn(move || {
        let mut first = Core::new(&group, 0);
        core_0(&mut first);
        first
    });
    core_1(&mut second);
    [first.join().unwrap(), second]
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

#[test]
fn who_is_expelled_when_it_goes_on_steps_on_nothing_that_others_leave_out() {
    model(3, || {
        // Of 1, 2, 3, 4, 5 the packets 3 and 4 are lost; whether 2 is late or its core is, core 0 does
        // not know, and waits no longer than for a poll.
        let [first, second] = run_two(
            8,
            1,
            |core| {
                core.take(1);
                core.take(5);
            },
            |core| {
                core.try_take(2);
            },
        );
        let has_2 = second.known.contains(&(2, 2));
        let expected = if has_2 { vec![2] } else { vec![0, 2] };
        let two = first.known.iter().find(|(sequence, _)| *sequence == 2).map(|(_, known)| *known);
        assert!(two.is_some_and(|two| expected.contains(&two)), "{has_2}: {two:?}");
        assert!(!first.member.is_expelled(), "who is expelled expels nobody");
    });
}

#[test]
fn who_is_expelled_and_furthest_ahead_is_passed() {
    model(3, || {
        // Core 0 may expel core 1 when that has gone past all that core 0 has.
        let [mut first, mut second] = run_two(
            8,
            1,
            |core| {
                core.take(1);
                core.take(5);
            },
            |core| {
                let _ = core.try_take(2) && core.try_take(4) && core.try_take(6);
            },
        );
        if !second.member.is_expelled() {
            return;
        }
        for _ in 0..3 {
            second.member.idle(&mut |_, _| panic!("it is expelled"));
            let known = &mut first.known;
            let mut found = |sequence, record: Option<&Record>| {
                known.push((sequence, record.map_or(0, |record| record[0])));
            };
            assert_ne!(first.member.idle(&mut found), Search::Behind);
        }
        assert!(second.member.is_passed(), "there is a state for it");
        // And what it stepped on, all have.
        let left_out = |at: &(u64, u8)| at.1 != 0 && first.known.contains(&(at.0, 0));
        assert!(!second.known.iter().any(left_out), "{:?}, {:?}", first.known, second.known);
        second.member.adopted(first.member.handed());
        assert!(!second.member.is_expelled());
    });
}

#[test]
fn all_who_are_left_leave_out_the_same_of_who_is_expelled() {
    model(2, || {
        // Two cores lack packet 2, which a third one may still come to have.
        let group = Group::new(3, 8, Patience { idle: 1, silent: 1 });
        let taker = {
            let group = group.clone();
            thread::spawn(move || {
                let mut core = Core::new(&group, 1);
                core.try_take(2);
                core.known
            })
        };
        let asker = {
            let group = group.clone();
            thread::spawn(move || {
                let mut core = Core::new(&group, 2);
                core.try_take(4);
                core.known
            })
        };
        let mut core = Core::new(&group, 0);
        core.try_take(1);
        core.try_take(4);
        let known = [core.known, taker.join().unwrap(), asker.join().unwrap()];
        let mut two = known.iter().flatten().filter(|(sequence, _)| *sequence == 2);
        let first = two.next();
        assert!(two.all(|other| Some(other) == first), "{known:?}");
    });
}

#[test]
fn who_is_back_steps_on_nothing_that_others_left_out_meanwhile() {
    model(2, || {
        // 3, 4, 7 and 8 are lost. Core 1 may be expelled for 2, and be back before 6 or behind it.
        let [first, second] = run_two(
            16,
            1,
            |core| {
                let _ = core.try_take(1) && core.try_take(5) && core.try_take(9);
            },
            |core| {
                if core.try_take(2) {
                    return;
                }
                if core.member.is_passed() {
                    core.member.adopted(core.group.foremost().1);
                }
                core.try_take(6);
            },
        );
        let left_out = |at: &(u64, u8)| at.1 != 0 && first.known.contains(&(at.0, 0));
        assert!(!second.known.iter().any(left_out), "{:?}, {:?}", first.known, second.known);
    });
}

#[test]
fn not_all_are_ever_expelled() {
    model(3, || {
        // Each lacks what only the other may have.
        let cores = run_two(
            16,
            1,
            |core| {
                let _ = core.try_take(1) && core.try_take(5);
            },
            |core| {
                let _ = core.try_take(2) && core.try_take(8);
            },
        );
        assert!(!cores.iter().all(|core| core.member.is_expelled()));
    });
}

/// The same group without a model, one call after the other.
#[test]
fn what_a_core_said_in_vain_is_gone_when_it_is_back() {
    let group = Group::<Record>::new(3, 16, Patience { idle: 1, silent: 2 });
    let mut members = [0, 1, 2].map(|core| Member::new(group.clone(), core));
    let mut found = [const { Vec::<(u64, u8)>::new() }; 3];
    let mut offer = |members: &mut [Member<Record>; 3], core: usize, sequence: u64| {
        let history = [record(sequence - 1)];
        let history = History::new(if sequence > 1 { &history } else { &[] });
        let carried = Carried { sequence, moment: Moment::default(), history };
        members[core].offer(&carried, &mut |sequence, record| {
            found[core].push((sequence, record.map_or(0, |record| record[0])));
        })
    };
    assert_eq!(offer(&mut members, 0, 1), Turn::Now(0));
    members[0].know(1, &record(1));
    assert!(members[0].confirm());
    members[0].stepped();
    // Two lack 2, and have said so.
    assert_eq!(offer(&mut members, 2, 6), Turn::Wait);
    assert_eq!(offer(&mut members, 0, 5), Turn::Wait);
    // The third has it, but has not said so when it is expelled.
    assert_eq!(offer(&mut members, 1, 2), Turn::Now(1));
    assert_eq!(offer(&mut members, 0, 5), Turn::Wait);
    assert!(members[1].is_expelled() && !members[0].is_expelled());
    assert_eq!(offer(&mut members, 0, 5), Turn::Now(1));
    (1..=2).for_each(|sequence| members[1].know(sequence, &record(sequence)));
    assert!(!members[1].confirm(), "others go on without it");
    (4..=5).for_each(|sequence| members[0].know(sequence, &record(sequence)));
    assert!(members[0].confirm());
    members[0].stepped();
    members[1].adopted(5);
    assert!(!members[1].is_expelled());
    // Who asks now gets the same answer.
    assert_eq!(offer(&mut members, 2, 6), Turn::Now(1));
    assert_eq!(found[0], [(2, 0), (3, 0)]);
    assert_eq!(found[2], [(1, 1), (2, 0), (3, 0), (4, 4)]);
}
