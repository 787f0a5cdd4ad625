//! Two lcores that begin together: what both sides of a measurement stand on.

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use krono_io::{Eal, TxQueue};

/// Runs one closure on each of the two lcores, at the same time, and gives what they return.
pub(crate) fn both<A: Send + 'static, B: Send + 'static>(
    eal: &Eal,
    first: impl FnOnce() -> A + Send + 'static,
    second: impl FnOnce() -> B + Send + 'static,
) -> (A, B) {
    let gate = Arc::new(Signal::default());
    let other = gate.clone();
    let first = eal.launch(0, move || {
        gate.meet(2);
        first()
    });
    let second = eal.launch(1, move || {
        other.meet(2);
        second()
    });
    let first = first.expect("an idle lcore").join().expect("work that does not panic");
    (first, second.expect("an idle lcore").join().expect("work that does not panic"))
}

/// Runs a closure on the second lcore, while the first is idle.
pub(crate) fn alone<T: Send + 'static>(eal: &Eal, work: impl FnOnce() -> T + Send + 'static) -> T {
    eal.launch(1, work).expect("an idle lcore").join().expect("work that does not panic")
}

/// A number that only grows, in a line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Signal(AtomicU64);

impl Signal {
    pub(crate) fn raise(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn is_at_least(&self, number: u64) -> bool {
        self.0.load(Ordering::Acquire) >= number
    }

    pub(crate) fn wait_for(&self, number: u64) {
        while !self.is_at_least(number) {
            spin_loop();
        }
    }

    fn meet(&self, all: u64) {
        self.raise();
        self.wait_for(all);
    }
}

/// A transmit queue that the closures of lcores lend each other, one at a time.
pub(crate) type Tx = Arc<std::sync::Mutex<TxQueue>>;
