//! DPDK's log lines go to the `log` crate under the target `dpdk`; errors explain failed calls.

use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use log::Level;

/// What DPDK complained about first since a call began; drivers name the cause first, and the
/// layers above them then only say that something failed.
static COMPLAINT: Mutex<Listening> = Mutex::new(Listening::No);

enum Listening {
    No,
    Yes { first: Option<String> },
}

fn complaint() -> MutexGuard<'static, Listening> {
    COMPLAINT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends all that DPDK logs from now on to the `log` crate.
pub(crate) fn install() {
    let functions = dpdk_sys::cookie_io_functions_t { write: Some(write), ..Default::default() };
    // SAFETY: `write` needs no cookie and keeps fopencookie's contract; the stream is never closed.
    unsafe {
        let stream = dpdk_sys::fopencookie(ptr::null_mut(), c"w".as_ptr(), functions);
        if !stream.is_null() {
            dpdk_sys::rte_openlog_stream(stream);
        }
    }
}

unsafe extern "C" fn write(_: *mut c_void, text: *const c_char, len: usize) -> c_long {
    // SAFETY: stdio hands over a buffer of `len` bytes.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), len) };
    let text = String::from_utf8_lossy(bytes);
    let line = text.trim_end();
    // SAFETY: a plain read of a thread-local variable.
    let is_error =
        unsafe { dpdk_sys::rte_log_cur_msg_loglevel() } <= dpdk_sys::RTE_LOG_ERR as c_int;
    let level = match (&mut *complaint(), is_error) {
        (Listening::No, true) => Level::Warn,
        (Listening::Yes { first }, true) => {
            first.get_or_insert_with(|| cause(line).to_owned());
            Level::Debug
        }
        (_, false) => Level::Debug,
    };
    log::log!(target: "dpdk", level, "{line}");
    len as c_long
}

/// A line without the names of the component and the function that it comes from.
fn cause(line: &str) -> &str {
    let line = line.strip_prefix("EAL: ").unwrap_or(line);
    line.split_once("(): ").map_or(line, |(_, cause)| cause)
}

/// Makes a DPDK call that returns a negative error number, or -1 with `rte_errno` set; the error
/// is what DPDK logged first about it, else what the number means.
pub(crate) fn explained(call: impl FnOnce() -> c_int) -> Result<c_int, String> {
    *complaint() = Listening::Yes { first: None };
    let result = call();
    let heard = std::mem::replace(&mut *complaint(), Listening::No);
    match heard {
        _ if result >= 0 => Ok(result),
        Listening::Yes { first: Some(first) } => Err(first),
        _ => Err(error_text(result)),
    }
}

/// Makes a call that prints to standard output what nobody is to see: the EAL answers a bad
/// argument with pages of usage. What other threads print meanwhile goes the same way.
pub(crate) fn without_stdout<T>(call: impl FnOnce() -> T) -> T {
    // SAFETY: flushes all streams, then has descriptor 1 stand for another file; without
    // descriptors to be had it stays as it is.
    let saved = unsafe {
        libc::fflush(ptr::null_mut());
        let saved = libc::dup(libc::STDOUT_FILENO);
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if saved >= 0 && null >= 0 {
            libc::dup2(null, libc::STDOUT_FILENO);
        }
        libc::close(null);
        saved
    };
    let result = call();
    // SAFETY: as above, and back.
    unsafe {
        libc::fflush(ptr::null_mut());
        if saved >= 0 {
            libc::dup2(saved, libc::STDOUT_FILENO);
            libc::close(saved);
        }
    }
    result
}

/// What a DPDK return value means; -1 refers to `rte_errno`.
pub(crate) fn error_text(result: c_int) -> String {
    // SAFETY: rte_strerror returns a string that stays until this thread's next call of it.
    unsafe {
        let number = if result == -1 { dpdk_sys::shim_errno() } else { -result };
        CStr::from_ptr(dpdk_sys::rte_strerror(number)).to_string_lossy().into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_without_its_place() {
        for line in ["gone", "EAL: gone", "rte_init(): gone", "EAL: rte_init(): gone"] {
            assert_eq!(cause(line), "gone");
        }
    }
}
