//! Work on lcores.

use std::any::Any;
use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam::channel::{Receiver, bounded};

use crate::eal::Eal;

/// A closure that does not unwind.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// Why nothing was launched.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The EAL runs no such lcore.
    #[error("the EAL has no lcore {lcore}; eal.lcores must name it")]
    NoSuchLcore {
        /// The lcore asked for.
        lcore: u32,
    },
    /// The lcore is at work.
    #[error("lcore {lcore} is at work already")]
    Busy {
        /// The lcore asked for.
        lcore: u32,
    },
}

/// The work panicked.
#[derive(Debug, thiserror::Error)]
#[error("lcore {lcore} panicked: {message}")]
pub struct Panicked {
    /// Where.
    pub lcore: u32,
    /// What the panic said.
    pub message: String,
}

/// Work that was launched on an lcore. Dropping this lets it go on unattended.
#[must_use]
pub struct Task<T> {
    lcore: u32,
    outcome: Receiver<thread::Result<T>>,
    eal: Eal,
}

impl Eal {
    /// Runs `work` on an lcore, the main lcore included.
    ///
    /// # Errors
    /// If there is no such lcore, or it is at work; nothing was run then.
    pub fn launch<T: Send + 'static>(
        &self,
        lcore: u32,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Task<T>, LaunchError> {
        if !self.has_lcore(lcore) {
            return Err(LaunchError::NoSuchLcore { lcore });
        }
        let (report, outcome) = bounded(1);
        let job: Job = Box::new(move || {
            // The outcome is all that is seen of what a panic left half done.
            let result = catch_unwind(AssertUnwindSafe(work));
            // Nobody may be waiting for it.
            let _ = report.send(result);
        });
        let launched = if lcore == self.main_lcore() {
            launch_on_main(self, job)
        } else {
            launch_on_worker(lcore, job)
        };
        if launched {
            Ok(Task { lcore, outcome, eal: self.clone() })
        } else {
            Err(LaunchError::Busy { lcore })
        }
    }
}

impl<T> Task<T> {
    /// Where the work runs.
    pub fn lcore(&self) -> u32 {
        self.lcore
    }

    /// Whether the work is done, or has panicked.
    pub fn is_finished(&self) -> bool {
        !self.outcome.is_empty()
    }

    /// Waits for the work to end; its lcore can then take up other work.
    ///
    /// # Errors
    /// If the work panicked.
    pub fn join(self) -> Result<T, Panicked> {
        let outcome = self.outcome.recv().expect("the outcome is sent whatever it is");
        if self.lcore == self.eal.main_lcore() {
            while self.eal.main_busy().load(Ordering::Acquire) {
                thread::yield_now();
            }
        } else {
            // SAFETY: an lcore of the EAL's; it has nothing left to do but say so.
            unsafe { dpdk_sys::rte_eal_wait_lcore(self.lcore) };
        }
        outcome.map_err(|panic| Panicked { lcore: self.lcore, message: message_of(&*panic) })
    }
}

/// The main lcore is the thread that keeps the EAL, and takes jobs as its other business.
fn launch_on_main(eal: &Eal, job: Job) -> bool {
    let busy: Arc<AtomicBool> = eal.main_busy().clone();
    if busy.swap(true, Ordering::AcqRel) {
        return false;
    }
    eal.run_on_main(Box::new(move || {
        job();
        busy.store(false, Ordering::Release);
    }));
    true
}

fn launch_on_worker(lcore: u32, job: Job) -> bool {
    let argument = Box::into_raw(Box::new(job)).cast::<c_void>();
    // SAFETY: `run` takes ownership of what `argument` points to, if it runs at all.
    let result = unsafe { dpdk_sys::rte_eal_remote_launch(Some(run), argument, lcore) };
    if result != 0 {
        // SAFETY: it does not run: the box is still ours.
        drop(unsafe { Box::from_raw(argument.cast::<Job>()) });
    }
    result == 0
}

unsafe extern "C" fn run(argument: *mut c_void) -> c_int {
    // SAFETY: `launch_on_worker` made this of a box, for one call.
    let job = unsafe { Box::from_raw(argument.cast::<Job>()) };
    job();
    0
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message").to_owned()
}
