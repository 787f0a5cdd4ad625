//! A small device under test with faults on purpose, to test the tester with.
//!
//! It crosses frames over between two ports, or translates them, and spoils every n-th in a given
//! way. It is slow and simple, and runs on an lcore of its own.

mod nat;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use krono_core::packet::{Mac, Side};
use krono_io::{Burst, Clock, Mbuf, Pool, RxQueue, TxQueue};

use nat::Mistake;

pub use nat::Nat;

/// What is done to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is dropped.
    Drop,
    /// It is sent twice.
    Duplicate,
    /// It is sent behind the next one of its flow.
    Swap,
    /// A byte of the payload is changed, and the checksum with it.
    Payload,
    /// The transport checksum is changed.
    Checksum,
    /// It is sent back out of the port that it came in by.
    Return,
    /// It is sent so much later.
    Delay(Duration),
    /// Nothing is sent for so long.
    Freeze(Duration),
    /// An answer goes to another subscriber.
    OtherSubscriber,
    /// The packet gets another public endpoint than those before.
    SecondEndpoint,
    /// A new mapping gets the public endpoint of another subscriber.
    SharedEndpoint,
}

/// A fault, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Planted {
    /// What is done.
    pub fault: Fault,
    /// To every n-th frame that it can be done to.
    pub every: u64,
    /// Out of so many that came in by this side; `None`: by either.
    pub side: Option<Side>,
}

/// A side of the relay.
pub struct RelayEnd {
    /// Where frames come from and go: they leave by any queue, as a device would have it that
    /// spreads them.
    pub queues: Vec<(RxQueue, TxQueue)>,
    /// The relay's own address.
    pub mac: Mac,
    /// The tester's, at the other end.
    pub peer: Mac,
}

/// The relay.
pub struct Relay {
    ends: [RelayEnd; 2],
    nat: Option<Nat>,
    planted: Vec<(Planted, Tally)>,
    out: [Burst; 2],
    /// A frame that waits for the next one of its flow, and where it goes.
    held: Option<(Side, Mbuf)>,
    /// Frames that are sent later: when, and where.
    late: VecDeque<(u64, Side, Mbuf)>,
    frozen_until_ns: u64,
    /// Counts up, for the choice of a queue.
    turn: usize,
    pool: Pool,
    clock: Clock,
}

/// Frames that a fault could be done to, and those that it was done to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// That it could.
    pub met: u64,
    /// That it was.
    pub done: u64,
}

impl Relay {
    /// A relay between two ports, by side. Without `nat` it changes no frame.
    pub fn new(
        ends: [RelayEnd; 2],
        nat: Option<Nat>,
        planted: &[Planted],
        pool: Pool,
        clock: Clock,
    ) -> Relay {
        let planted = planted.iter().map(|planted| (*planted, Tally::default())).collect();
        let (out, late) = (Default::default(), VecDeque::new());
        Relay {
            ends,
            nat,
            planted,
            out,
            held: None,
            late,
            frozen_until_ns: 0,
            turn: 0,
            pool,
            clock,
        }
    }

    /// Relays until it is told to stop; returns what was done of each fault, in order.
    pub fn run(mut self, stop: &AtomicBool) -> Vec<Tally> {
        while !stop.load(Ordering::Relaxed) {
            let now_ns = self.clock.now_ns();
            let mut work = 0;
            if now_ns >= self.frozen_until_ns {
                work = self.pass(Side::Inside, stop) + self.pass(Side::Outside, stop);
                work += self.release(now_ns, stop);
                self.flush(stop);
            }
            if work == 0 {
                thread::yield_now();
            }
        }
        self.planted.into_iter().map(|(_, tally)| tally).collect()
    }

    fn pass(&mut self, side: Side, stop: &AtomicBool) -> usize {
        let mut count = 0;
        for queue in 0..self.ends[side as usize].queues.len() {
            let mut burst = Burst::new();
            count += self.ends[side as usize].queues[queue].0.poll(&mut burst);
            for mbuf in burst.drain() {
                self.relay(side, mbuf, stop);
            }
        }
        count
    }

    /// Sends what was to be sent later.
    fn release(&mut self, now_ns: u64, stop: &AtomicBool) -> usize {
        let mut count = 0;
        while let Some((_, out, mbuf)) = self.late.pop_front_if(|(due_ns, ..)| *due_ns <= now_ns) {
            self.send(out, mbuf, stop);
            count += 1;
        }
        count
    }

    fn relay(&mut self, side: Side, mut mbuf: Mbuf, stop: &AtomicBool) {
        let fault = self.due(side, mbuf.bytes());
        let mut frame = mbuf.frame();
        let bytes = frame.bytes_mut();
        let out = if fault == Some(Fault::Return) { side } else { side.opposite() };
        if let Some(nat) = &mut self.nat {
            let mistake = match fault {
                Some(Fault::OtherSubscriber) => Some(Mistake::OtherSubscriber),
                Some(Fault::SecondEndpoint) => Some(Mistake::SecondEndpoint),
                Some(Fault::SharedEndpoint) => Some(Mistake::SharedEndpoint),
                _ => None,
            };
            if out != side && !nat.translate(side, bytes, mistake) {
                return;
            }
            let end = &self.ends[out as usize];
            bytes[..6].copy_from_slice(&end.peer.0);
            bytes[6..12].copy_from_slice(&end.mac.0);
        }
        match fault {
            Some(Fault::Drop) => return,
            Some(Fault::Duplicate) => self.duplicate(out, &mbuf, stop),
            Some(Fault::Payload) => {
                bytes[nat::end(bytes) - 1] ^= 0x5a;
                nat::sum(bytes);
            }
            Some(Fault::Checksum) => {
                if let Some(at) = nat::checksum_at(bytes) {
                    bytes[at] ^= 0x5a;
                }
            }
            Some(Fault::Delay(time)) => {
                let due_ns = self.clock.now_ns() + time.as_nanos() as u64;
                self.late.push_back((due_ns, out, mbuf));
                return;
            }
            Some(Fault::Freeze(time)) => {
                self.frozen_until_ns = self.clock.now_ns() + time.as_nanos() as u64;
            }
            Some(Fault::Swap) if self.held.is_none() => {
                self.held = Some((out, mbuf));
                return;
            }
            _ => {}
        }
        self.send_before_held(out, mbuf, stop);
    }

    /// The fault that is due for this frame, if any.
    fn due(&mut self, side: Side, frame: &[u8]) -> Option<Fault> {
        let nat = self.nat.as_ref();
        let mut due = None;
        for (planted, tally) in &mut self.planted {
            let concerns = match planted.fault {
                _ if planted.side.is_some_and(|wanted| wanted != side) => false,
                _ if nat::checksum_at(frame).is_none() => false,
                Fault::OtherSubscriber => {
                    side == Side::Outside && nat.is_some_and(|nat| nat.has_other(side, frame))
                }
                Fault::SecondEndpoint => {
                    side == Side::Inside && nat.is_some_and(|nat| !nat.is_new(side, frame))
                }
                Fault::SharedEndpoint => {
                    let could = |nat: &Nat| nat.is_new(side, frame) && nat.has_other(side, frame);
                    nat.is_some_and(could)
                }
                _ => true,
            };
            tally.met += u64::from(concerns);
            if concerns && tally.met.is_multiple_of(planted.every) {
                tally.done += 1;
                due = Some(planted.fault);
            }
        }
        due
    }

    fn send_before_held(&mut self, out: Side, mbuf: Mbuf, stop: &AtomicBool) {
        let behind = self.held.take_if(|(side, held)| {
            // Addresses and ports, which lie one behind the other.
            *side == out && held.bytes().get(26..38) == mbuf.bytes().get(26..38)
        });
        self.send(out, mbuf, stop);
        if let Some((side, held)) = behind {
            self.send(side, held, stop);
        }
    }

    fn duplicate(&mut self, out: Side, mbuf: &Mbuf, stop: &AtomicBool) {
        let copy = self.pool.alloc().and_then(|mut copy| copy.write(mbuf.bytes()).then_some(copy));
        if let Some(copy) = copy {
            self.send(out, copy, stop);
        }
    }

    fn send(&mut self, out: Side, mbuf: Mbuf, stop: &AtomicBool) {
        if self.out[out as usize].is_full() {
            self.flush(stop);
        }
        // Else it is to stop.
        let _ = self.out[out as usize].push(mbuf);
    }

    /// Sends what waits, however long it takes: nothing is lost here but on purpose.
    fn flush(&mut self, stop: &AtomicBool) {
        self.turn = self.turn.wrapping_add(1);
        for (out, end) in self.out.iter_mut().zip(&mut self.ends) {
            let queue = self.turn % end.queues.len();
            while !out.is_empty() && !stop.load(Ordering::Relaxed) {
                if end.queues[queue].1.send(out) == 0 {
                    thread::yield_now();
                }
            }
        }
    }
}
