//! The locked runner: one state that several cores share behind a spin lock. It is what the other
//! runners are held against.
//!
//! The lock is taken for each packet, as in the baseline of Xu et al. ("State-Compute Replication",
//! NSDI 2025): around the step and nothing else, so that parsing, routing and sending go on side by
//! side. A core that took it for a whole burst would pay for the lock and for the lines that come
//! over from the other core once a burst instead of once a packet, and could prefetch, which the
//! state of others forbids; but then every other core waits for whole bursts, so that it gets
//! its packets' verdicts that much later, and the serial part is no smaller than the program.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use crossbeam::utils::{Backoff, CachePadded};

use crate::packet::{PacketMeta, Side};
use crate::program::{Events, Program, Slot, Translation, Verdict};
use crate::time::{Moment, Ticks};

/// A core's handle of a program that all cores share; a clone is another core's.
///
/// It is itself a [`Program`], so that the shard around it is the same as around any other.
///
/// A verdict names translations by their slots, which may have been given to another session when
/// the core comes to read them. So the handle copies those that a verdict names, two at the most,
/// while it holds the lock, and names its copies instead.
///
/// All cores must have the same clock; the records of one may still be some microseconds behind
/// those of another, and a program must bear that.
pub struct Locked<P> {
    shared: Arc<CachePadded<Mutex<State<P>>>>,
    /// Copies of the translations of the latest verdict: of the source, and of the destination.
    translations: [Translation; 2],
}

struct State<P> {
    program: P,
    /// The latest tick that the program knows.
    ticked: Option<Ticks>,
}

impl<P> Clone for Locked<P> {
    fn clone(&self) -> Self {
        Locked { shared: self.shared.clone(), translations: Default::default() }
    }
}

impl<P> Locked<P> {
    /// The first handle of a program.
    pub fn new(program: P) -> Self {
        let shared = CachePadded::new(Mutex::new(State { program, ticked: None }));
        Locked { shared: Arc::new(shared), translations: Default::default() }
    }

    /// Looks at the program, for which all cores wait.
    pub fn with<T>(&self, look: impl FnOnce(&P) -> T) -> T {
        look(&lock(&self.shared).program)
    }

    /// The program, of the last handle that is left; others get `None`.
    pub fn into_program(self) -> Option<P> {
        let state = Arc::into_inner(self.shared)?.into_inner();
        Some(state.into_inner().unwrap_or_else(PoisonError::into_inner).program)
    }
}

/// Spins until the lock is had. Nobody ever sleeps for it, so releasing it wakes nobody: neither
/// enters the kernel.
///
/// # Panics
/// If another core panicked in the middle of a step: nobody knows what the state is then.
#[inline]
fn lock<P>(shared: &Mutex<State<P>>) -> MutexGuard<'_, State<P>> {
    let backoff = Backoff::new();
    loop {
        match shared.try_lock() {
            Ok(state) => return state,
            Err(TryLockError::WouldBlock) => backoff.spin(),
            Err(TryLockError::Poisoned(_)) => panic!("another core panicked within a step"),
        }
    }
}

/// Copies the translation that a verdict names, and names the copy.
#[inline]
fn keep(program: &impl Program, slot: Slot, copies: &mut [Translation; 2], at: usize) -> Slot {
    if !slot.is_some() {
        return Slot::NONE;
    }
    copies[at] = *program.translation(slot);
    Slot(at as u32)
}

impl<P: Program> Program for Locked<P> {
    type Record = P::Record;
    /// Nothing: who looks for places in a state that others change would need the lock for that.
    type Probe = ();
    type Event = P::Event;

    #[inline]
    fn record(meta: &PacketMeta, side: Side, now: Moment) -> P::Record {
        P::record(meta, side, now)
    }

    #[inline]
    fn probe(&self, _: &P::Record) {}

    #[inline]
    fn step(&mut self, record: &P::Record, _: &(), events: &mut impl Events<P::Event>) -> Verdict {
        let Self { shared, translations } = self;
        let program = &mut lock(shared).program;
        match program.step(record, &P::Probe::default(), events) {
            Verdict::Forward { to, source, destination } => Verdict::Forward {
                to,
                source: keep(program, source, translations, 0),
                destination: keep(program, destination, translations, 1),
            },
            verdict => verdict,
        }
    }

    #[inline]
    fn translation(&self, slot: Slot) -> &Translation {
        &self.translations[slot.0 as usize]
    }

    /// Every core lets time pass; it does not go back for the one that is behind.
    fn tick(&mut self, now: Ticks, events: &mut impl Events<P::Event>) -> bool {
        let State { program, ticked } = &mut *lock(&self.shared);
        let now = ticked.filter(|ticked| ticked.reached(now)).unwrap_or(now);
        *ticked = Some(now);
        program.tick(now, events)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;
    use crate::packet::Endpoint;

    const SLOTS: usize = 2;

    /// Counts packets by source, all of them in a hash that does not know their order, and translates
    /// each into a slot that a later packet gets again.
    #[derive(Default)]
    struct Counting {
        packets: [u64; 16],
        sum: u64,
        turn: usize,
        slots: [Translation; SLOTS],
        ticks: Vec<Ticks>,
    }

    impl Program for Counting {
        type Record = (Endpoint, Endpoint);
        type Probe = bool;
        type Event = u16;

        fn record(meta: &PacketMeta, _: Side, _: Moment) -> Self::Record {
            (meta.src, meta.dst)
        }

        fn probe(&self, _: &Self::Record) -> bool {
            true
        }

        fn step(
            &mut self,
            (source, destination): &Self::Record,
            probed: &bool,
            events: &mut impl Events<u16>,
        ) -> Verdict {
            assert!(!probed, "nobody looked");
            self.packets[usize::from(source.port) % 16] += 1;
            self.sum = self.sum.wrapping_add(u64::from(source.port).wrapping_mul(0x9e37_79b9));
            events.emit(source.port);
            if source.port.is_multiple_of(8) {
                // Others come to wait for the lock, and take it as soon as they can.
                (0..100).for_each(|_| std::hint::spin_loop());
            }
            self.turn = (self.turn + 2) % SLOTS;
            self.slots[self.turn] = Translation::new(*source, *destination);
            self.slots[self.turn + 1] = Translation::new(*destination, *source);
            let slot = |slot: usize| Slot(slot as u32);
            match source.port % 3 {
                0 => Verdict::Pass,
                1 => Verdict::Forward {
                    to: Side::Outside,
                    source: slot(self.turn),
                    destination: Slot::NONE,
                },
                _ => Verdict::Forward {
                    to: Side::Inside,
                    source: slot(self.turn),
                    destination: slot(self.turn + 1),
                },
            }
        }

        fn translation(&self, slot: Slot) -> &Translation {
            &self.slots[slot.0 as usize]
        }

        fn tick(&mut self, now: Ticks, _: &mut impl Events<u16>) -> bool {
            self.ticks.push(now);
            false
        }
    }

    fn record(number: u32) -> (Endpoint, Endpoint) {
        let port = (number.wrapping_mul(0x9e37_79b9) >> 16) as u16;
        (Endpoint::new(number.into(), port), Endpoint::new((!number).into(), !port))
    }

    /// Steps on a packet and checks that what its verdict names is its own, as often as one looks.
    fn step(core: &mut Locked<Counting>, number: u32, events: &mut Vec<u16>) {
        let (source, destination) = record(number);
        if let Verdict::Forward { source: own, destination: other, .. } =
            core.step(&(source, destination), &(), events)
        {
            std::hint::spin_loop();
            assert_eq!(core.translation(own).inside(), source, "packet {number}");
            assert_eq!(core.translation(own).outside(), destination, "packet {number}");
            if other.is_some() {
                assert_eq!(core.translation(other).inside(), destination, "packet {number}");
            }
        }
    }

    #[test]
    fn cores_that_share_a_state_count_as_one_does_and_each_has_its_own_translations() {
        const CORES: u32 = 4;
        const PACKETS: u32 = 200_000;
        let mut alone = Counting::default();
        for number in 0..PACKETS {
            alone.step(&record(number), &false, &mut ());
        }
        let shared = Locked::new(Counting::default());
        let start = Arc::new(Barrier::new(CORES as usize));
        let cores: Vec<_> = (0..CORES)
            .map(|index| {
                let (mut core, start) = (shared.clone(), start.clone());
                thread::spawn(move || {
                    start.wait();
                    let mut events = Vec::new();
                    let own = || (index..PACKETS).step_by(CORES as usize);
                    own().for_each(|number| step(&mut core, number, &mut events));
                    let expected: Vec<u16> = own().map(|number| record(number).0.port).collect();
                    assert!(events == expected, "a core emits the events of its own packets");
                })
            })
            .collect();
        cores.into_iter().for_each(|core| core.join().expect("it saw its own translations"));
        let together = shared.into_program().expect("the others are gone");
        assert_eq!((together.packets, together.sum), (alone.packets, alone.sum));
    }

    #[test]
    fn a_slot_that_is_given_to_another_session_changes_no_verdict_from_before() {
        let mut cores = [Locked::new(Counting::default()), Locked::new(Counting::default())];
        cores[1] = cores[0].clone();
        let forwards = (0..).filter(|number| record(*number).0.port % 3 == 2);
        let numbers: Vec<u32> = forwards.take(1 + 2 * SLOTS).collect();
        let (source, destination) = record(numbers[0]);
        let verdict = cores[0].step(&(source, destination), &(), &mut ());
        let Verdict::Forward { source: own, destination: other, .. } = verdict else {
            panic!("{verdict:?}");
        };
        for number in &numbers[1..] {
            step(&mut cores[1], *number, &mut Vec::new());
        }
        assert_eq!(cores[0].translation(own).inside(), source);
        assert_eq!(cores[0].translation(other).inside(), destination);
        assert!(cores[0].clone().into_program().is_none(), "it is not the last one");
        assert_eq!(
            cores[0].with(|program| program.packets.iter().sum::<u64>()),
            1 + 2 * SLOTS as u64
        );
    }

    #[test]
    fn time_does_not_go_back_for_a_core_that_is_behind() {
        let mut cores = [Locked::new(Counting::default()), Locked::new(Counting::default())];
        cores[1] = cores[0].clone();
        for (core, tick) in [(0, u32::MAX), (1, u32::MAX - 1), (1, 0), (0, u32::MAX), (0, 1)] {
            cores[core].tick(Ticks(tick), &mut ());
        }
        let ticks = cores[0].with(|program| program.ticks.clone());
        assert_eq!(ticks, [u32::MAX, u32::MAX, 0, 0, 1].map(Ticks));
    }

    #[test]
    #[should_panic(expected = "another core panicked")]
    fn a_state_that_a_step_was_left_in_is_not_worked_on() {
        let mut shared = Locked::new(Counting::default());
        let other = shared.clone();
        let died = thread::spawn(move || other.with(|_| panic!("on purpose"))).join();
        assert!(died.is_err());
        step(&mut shared, 0, &mut Vec::new());
    }
}
