//! Ctrl-C: the first asks a procedure to end, and its partial report follows; the second ends the
//! process at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Whether the end was asked for.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Listens for SIGINT and SIGTERM, on a thread of its own. Is to be called before the EAL is
    /// started, whose first thread shares its CPU with all that it starts.
    ///
    /// # Errors
    /// If the system refuses a handler.
    pub fn listen() -> io::Result<Stop> {
        let stop = Stop::default();
        let asked = stop.clone();
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for _ in signals.forever() {
                if asked.0.swap(true, Ordering::Relaxed) {
                    super::terminal::leave();
                    eprintln!("bench-gen: ended at once, without a report");
                    std::process::exit(1);
                }
            }
        })?;
        Ok(stop)
    }

    /// Asks for the end.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked for.
    pub fn is_asked_for(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
