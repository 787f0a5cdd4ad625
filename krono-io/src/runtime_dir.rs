//! Removes the directory that the EAL makes and, as krono starts it, has no use for.
//!
//! With `--no-huge` the EAL makes `/run/dpdk/PREFIX` (elsewhere without root), puts nothing in it,
//! and leaves it behind. Its own `--file-prefix` makes PREFIX this process' alone; `/run/dpdk` is
//! shared, and must not go while another process is between making the one and the other. So
//! krono processes hold a shared lock while they start, and the last one of them removes it.

use std::ffi::{CStr, OsStr};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Any directory that every user may open does for the lock.
const LOCKED: &str = "/run";

/// Held while the EAL starts.
pub(crate) struct RuntimeDir {
    lock: Option<File>,
}

impl RuntimeDir {
    /// Announces that the directory is about to be made. Never waits: the lock is held exclusively
    /// for microseconds only, unless by somebody who means harm.
    pub(crate) fn announce() -> Self {
        let lock = File::open(LOCKED).ok().filter(|file| file.try_lock_shared().is_ok());
        RuntimeDir { lock }
    }

    /// Removes what the EAL has made, so far as it is empty; to be called after `rte_eal_init`.
    pub(crate) fn remove(self) {
        // SAFETY: the EAL returns a string that it keeps, or null before it knows.
        let path = unsafe {
            let path = dpdk_sys::rte_eal_get_runtime_dir();
            if path.is_null() {
                return;
            }
            CStr::from_ptr(path)
        };
        let path = Path::new(OsStr::from_bytes(path.to_bytes()));
        if path.is_absolute() && fs::remove_dir(path).is_ok() {
            let alone = self.lock.is_some_and(|file| file.try_lock().is_ok());
            if let (true, Some(parent)) = (alone, path.parent()) {
                // Not empty: another program's.
                let _ = fs::remove_dir(parent);
            }
        }
    }
}
