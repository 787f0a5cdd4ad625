//! DPDK's environment abstraction layer: started once, taken down with its last user.

use std::collections::BTreeSet;
use std::ffi::{CString, c_char, c_int};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{process, ptr};

use crossbeam::channel::{Sender, bounded, unbounded};

use crate::dpdk_log::{self, explained};
use crate::hugepages::{self, Hugepages};
use crate::launch::Job;
use crate::mbuf::TimestampField;
use crate::pool::Mempool;
use crate::port::PortId;
use crate::runtime_dir::RuntimeDir;

/// How the EAL is to be started.
#[derive(Clone, Debug)]
pub struct EalConfig {
    /// Memory for packet buffers and drivers, MiB.
    pub memory_mb: u32,
    /// Whether that memory is to lie on huge pages.
    pub hugepages: Hugepages,
    /// The lcores in the EAL's syntax, like `0@0,1@0`; `None`: one on each CPU.
    pub lcores: Option<String>,
    /// The devices that are to be opened. Those at PCI addresses must be named here; drivers then
    /// take those and no others. Virtual devices are made when they are opened.
    pub devices: Vec<String>,
    /// More arguments, after krono's own.
    pub args: Vec<String>,
}

impl Default for EalConfig {
    fn default() -> Self {
        EalConfig {
            memory_mb: 512,
            hugepages: Hugepages::Auto,
            lcores: None,
            devices: Vec::new(),
            args: Vec::new(),
        }
    }
}

/// Why the EAL did not start.
#[derive(Debug, thiserror::Error)]
pub enum EalError {
    /// It was started before; DPDK does that once in a process' life.
    #[error("the EAL was started before in this process, which DPDK allows once")]
    AlreadyStarted,
    /// Fewer huge pages are free than were required.
    #[error(
        "eal.memory is {wanted_mb} MiB on huge pages, of which {free_mb} MiB are free; reserve more \
         (as root: echo N > /proc/sys/vm/nr_hugepages), or set eal.hugepages to auto"
    )]
    Hugepages {
        /// What was asked for, MiB.
        wanted_mb: u32,
        /// What was free, MiB.
        free_mb: u64,
    },
    /// An argument cannot be passed to C.
    #[error("the EAL argument {0:?} contains a NUL character")]
    Argument(String),
    /// The EAL refused to start.
    #[error("the EAL did not start: {reason} (it was given: {arguments})")]
    Refused {
        /// What DPDK says.
        reason: String,
        /// Its command line.
        arguments: String,
    },
}

/// The running EAL; a clone is the same one. Ports, pools, queues and tasks hold it; when the last
/// holder goes, it is taken down and leaves nothing behind.
#[derive(Clone)]
pub struct Eal(Arc<Running>);

struct Running {
    /// The thread that is the main lcore runs these; without the sender it ends.
    jobs: Option<Sender<Job>>,
    main: Option<JoinHandle<()>>,
    main_lcore: u32,
    main_busy: Arc<AtomicBool>,
    ports: Mutex<BTreeSet<PortId>>,
    pools: Mutex<Vec<Mempool>>,
}

static STARTED: AtomicBool = AtomicBool::new(false);

impl Eal {
    /// Starts the EAL.
    ///
    /// Its main lcore is a thread of its own, so that work can be launched on each lcore alike,
    /// and that the calling thread is not pinned, nor the threads that it starts later.
    ///
    /// # Errors
    /// If huge pages are required and not free, if this process has started the EAL before, or if
    /// the EAL refuses its arguments, finds too little memory, or lacks a permission.
    pub fn start(config: &EalConfig) -> Result<Eal, EalError> {
        let huge = use_hugepages(config)?;
        let arguments = arguments(config, huge);
        let c_strings = arguments
            .iter()
            .map(|text| CString::new(text.as_str()).map_err(|_| EalError::Argument(text.clone())))
            .collect::<Result<Vec<CString>, _>>()?;
        if STARTED.swap(true, Ordering::AcqRel) {
            return Err(EalError::AlreadyStarted);
        }
        dpdk_log::install();
        let (jobs, queue) = unbounded::<Job>();
        let main = thread::Builder::new()
            .name("eal-main".into())
            .spawn(move || queue.into_iter().for_each(|job| job()))
            .expect("a thread can be started");
        let (report, outcome) = bounded(1);
        let start: Job = Box::new(move || {
            let _ = report.send(initialise(c_strings));
        });
        jobs.send(start).expect("the thread takes jobs as long as they can come");
        let main_lcore = outcome
            .recv()
            .expect("starting does not panic")
            .map_err(|reason| EalError::Refused { reason, arguments: arguments.join(" ") })?;
        Ok(Eal(Arc::new(Running {
            jobs: Some(jobs),
            main: Some(main),
            main_lcore,
            main_busy: Arc::default(),
            ports: Mutex::default(),
            pools: Mutex::default(),
        })))
    }

    /// Whether the EAL runs this lcore.
    pub fn has_lcore(&self, lcore: u32) -> bool {
        // SAFETY: looks up a number, whatever it is.
        unsafe { dpdk_sys::rte_lcore_is_enabled(lcore) != 0 }
    }

    /// The main lcore. It takes work like the others.
    pub fn main_lcore(&self) -> u32 {
        self.0.main_lcore
    }

    pub(crate) fn main_busy(&self) -> &Arc<AtomicBool> {
        &self.0.main_busy
    }

    pub(crate) fn run_on_main(&self, job: Job) {
        let jobs = self.0.jobs.as_ref().expect("there until the EAL is dropped");
        jobs.send(job).expect("the thread takes jobs as long as they can come");
    }

    /// Notes that a port is open; false if it was.
    pub(crate) fn claim_port(&self, port: PortId) -> bool {
        lock(&self.0.ports).insert(port)
    }

    pub(crate) fn release_port(&self, port: PortId) {
        lock(&self.0.ports).remove(&port);
    }

    /// Has the EAL stay up, rather than be taken down, while buffers of this pool are out.
    pub(crate) fn keep_account_of(&self, pool: Mempool) {
        lock(&self.0.pools).push(pool);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let held: usize = lock(&self.pools).iter().map(|pool| pool.in_use()).sum();
        if held > 0 {
            // Whoever holds them may yet free them, into memory that must be there then.
            log::warn!("{held} packet buffers are still held; DPDK is not taken down");
        } else if let Some(jobs) = &self.jobs {
            let _ = jobs.send(Box::new(take_down));
        }
        self.jobs = None;
        // An lcore that waited here would wait for itself.
        // SAFETY: reads a thread-local variable.
        let on_lcore = unsafe { dpdk_sys::shim_on_lcore() != 0 };
        if let Some(main) = self.main.take().filter(|_| !on_lcore) {
            let _ = main.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether to use huge pages.
fn use_hugepages(config: &EalConfig) -> Result<bool, EalError> {
    if config.hugepages == Hugepages::Off {
        return Ok(false);
    }
    let free_mb = hugepages::free_bytes() >> 20;
    let enough = free_mb >= config.memory_mb.into();
    if !enough && config.hugepages == Hugepages::Required {
        return Err(EalError::Hugepages { wanted_mb: config.memory_mb, free_mb });
    }
    Ok(enough)
}

/// The EAL's command line.
fn arguments(config: &EalConfig, huge: bool) -> Vec<String> {
    let mut arguments = vec!["krono".to_owned(), format!("-m{}", config.memory_mb)];
    let mut add = |argument: &str| arguments.push(argument.to_owned());
    add("--no-telemetry");
    if huge {
        // Leaves no files behind, even when the process is killed.
        add("--in-memory");
    } else {
        add("--no-huge");
        add("--no-shconf");
        // What the EAL makes all the same is then ours alone to remove.
        add(&format!("--file-prefix=krono-{}", process::id()));
    }
    if let Some(lcores) = &config.lcores {
        add(&format!("--lcores={lcores}"));
    }
    let pci: Vec<&String> = config.devices.iter().filter(|d| pci_name(d).is_some()).collect();
    if pci.is_empty() {
        add("--no-pci");
    }
    for device in pci {
        add(&format!("--allow={device}"));
    }
    arguments.extend(config.args.iter().cloned());
    arguments
}

/// The name that DPDK gives to a device which is asked for by its PCI address, with or without the
/// domain and device arguments behind a comma; `None` for other devices.
pub(crate) fn pci_name(device: &str) -> Option<String> {
    let address = device.split(',').next()?;
    let mut parts = address.rsplit(':');
    let (slot, function) = parts.next()?.split_once('.')?;
    let bus = parts.next()?;
    let domain = parts.next().unwrap_or("0");
    let number = |text: &str, digits| {
        let plain = text.len() <= digits && text.bytes().all(|b| b.is_ascii_hexdigit());
        plain.then(|| u32::from_str_radix(text, 16).ok())?
    };
    let (domain, bus) = (number(domain, 8)?, number(bus, 2)?);
    let (slot, function) = (number(slot, 2)?, number(function, 1)?);
    let ends = parts.next().is_none();
    ends.then(|| format!("{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"))
}

/// Starts the EAL on this thread, which becomes the main lcore, and returns that one's id.
fn initialise(arguments: Vec<CString>) -> Result<u32, String> {
    let count = c_int::try_from(arguments.len()).map_err(|_| "too many arguments")?;
    // The EAL keeps pointers into its arguments, so they stay; it starts but once.
    let mut pointers: Vec<*mut c_char> = arguments.into_iter().map(CString::into_raw).collect();
    pointers.push(ptr::null_mut());
    let pointers = pointers.leak();
    let directory = RuntimeDir::announce();
    // SAFETY: `count` strings, then null, as for `main`; `STARTED` keeps this the only call.
    let initialise = || unsafe { dpdk_sys::rte_eal_init(count, pointers.as_mut_ptr()) };
    let started = dpdk_log::without_stdout(|| explained(initialise));
    directory.remove();
    started?;
    TimestampField::register()?;
    // SAFETY: the EAL is up.
    Ok(unsafe { dpdk_sys::rte_get_main_lcore() })
}

/// How long the EAL's interrupt thread may take to notice that a handle is gone, as that of a memif
/// whose port was closed. It then looks through all others, in memory that the cleanup unmaps
/// without waiting for it: without this some processes with memif ports crash at their end.
const INTERRUPTS_SETTLE: Duration = Duration::from_millis(20);

/// Ends the EAL, on the thread that started it.
fn take_down() {
    thread::sleep(INTERRUPTS_SETTLE);
    // SAFETY: ports are closed, queues gone, buffers home; lcores at most finish what dropped the
    // last of these.
    unsafe {
        dpdk_sys::rte_eal_mp_wait_lcore();
        dpdk_sys::rte_eal_cleanup();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_addresses_are_told_from_virtual_devices() {
        let name = |device: &str| pci_name(device);
        assert_eq!(name("0000:3b:00.1").as_deref(), Some("0000:3b:00.1"));
        assert_eq!(name("3B:0.1,arg=1:2").as_deref(), Some("0000:3b:00.1"));
        assert_eq!(name("10000:01:1f.7").as_deref(), Some("10000:01:1f.7"));
        for device in
            ["net_null0", "net_pcap0,rx_pcap=a:b.c", "", ":", "a.b", "0:0:0:0.0", "1:+1.0"]
        {
            assert_eq!(name(device), None, "{device}");
        }
    }

    #[test]
    fn arguments_leave_nothing_behind_and_keep_drivers_off_other_devices() {
        let mut config = EalConfig {
            memory_mb: 64,
            lcores: Some("0@0,1@0".into()),
            devices: vec!["net_null0".into()],
            args: vec!["--log-level=8".into()],
            ..EalConfig::default()
        };
        let line = arguments(&config, true).join(" ");
        let expected =
            "krono -m64 --no-telemetry --in-memory --lcores=0@0,1@0 --no-pci --log-level=8";
        assert_eq!(line, expected);
        config.devices.push("3b:00.1".into());
        let line = arguments(&config, false).join(" ");
        for part in ["--no-huge --no-shconf --file-prefix=krono-", "--allow=3b:00.1"] {
            assert!(line.contains(part), "{line}");
        }
        assert!(!line.contains("--no-pci") && !line.contains("--in-memory"), "{line}");
    }

    #[test]
    fn hugepages_that_no_machine_has() {
        let mut config = EalConfig { memory_mb: u32::MAX, ..EalConfig::default() };
        assert!(matches!(use_hugepages(&config), Ok(false)));
        config.hugepages = Hugepages::Required;
        let error = use_hugepages(&config).unwrap_err().to_string();
        assert!(error.contains("4294967295 MiB") && error.contains("nr_hugepages"), "{error}");
    }
}
