//! `eal`: how DPDK's environment is started, as a section of a configuration.

use crate::mistake::Report;
use crate::read::{self, Given, List, Map, Marked};
use crate::values::{self, LcoreMap, choice};

/// The least memory for packet buffers, bytes.
pub const MBUF_MEMORY_MIN: u64 = 16 << 20;

/// `eal`: the DPDK environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EalConfig {
    /// Memory for packet buffers, bytes; tables come on top.
    pub memory: u64,
    /// Whether huge pages are used.
    pub hugepages: Hugepages,
    /// The map of lcores to CPUs, if one is given.
    pub lcores: Option<LcoreMap>,
    /// What a worker does when there is nothing to receive.
    pub idle: Idle,
    /// Further arguments, passed through.
    pub args: Vec<String>,
}

impl EalConfig {
    /// The EAL's map of lcores: as configured, or each of `lcores` on the CPU of its number, going
    /// round where there are fewer CPUs.
    pub fn lcore_map(&self, lcores: impl Iterator<Item = u16>) -> String {
        if let Some(map) = &self.lcores {
            return map.text.clone();
        }
        let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get());
        let map = |lcore: u16| format!("{lcore}@{}", usize::from(lcore) % cpus);
        lcores.map(map).collect::<Vec<_>>().join(",")
    }
}

/// `eal.hugepages`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hugepages {
    /// If there are any.
    Auto,
    /// Without them the start fails.
    Required,
    /// Never.
    Off,
}

/// `eal.idle`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Poll again at once.
    Busy,
    /// Let others run on this CPU.
    Yield,
}

/// The section as far as it could be read; `None` for what is mistaken and has been reported.
#[derive(Debug)]
pub struct EalDraft {
    /// See [`EalConfig`], also below.
    pub memory: Option<Marked<u64>>,
    /// Whether huge pages are used.
    pub hugepages: Option<Marked<Hugepages>>,
    /// The map of lcores.
    pub lcores: Given<Marked<LcoreMap>>,
    /// What to do when there is nothing to do.
    pub idle: Option<Marked<Idle>>,
    /// Further arguments.
    pub args: Option<Vec<String>>,
}

impl EalDraft {
    /// Reads the section, in which all may be left out. `devices` says where devices are named, for
    /// those who name them here.
    pub fn read(map: &Map<'_>, devices: &'static str, report: &mut Report) -> Option<EalDraft> {
        const KEYS: [&str; 5] = ["memory", "hugepages", "lcores", "idle", "args"];
        const MEMORY_DEFAULT: u64 = 512 << 20;
        const MEMORY_MAX: u64 = 1 << 44;
        const ARGS_MAX: usize = 64;
        let map = map.section("eal", &KEYS, report)?;
        let hugepages = choice(&[
            ("auto", Hugepages::Auto),
            ("required", Hugepages::Required),
            ("off", Hugepages::Off),
        ]);
        let idle = choice(&[("busy", Idle::Busy), ("yield", Idle::Yield)]);
        let memory = values::size(MBUF_MEMORY_MIN..=MEMORY_MAX);
        let args = map.list("args", ARGS_MAX, report, |node, place, report| {
            read::scalar(node, place, values::eal_argument(devices), report)
        });
        let args = args.unwrap_or_else(List::empty).and_then(List::all);
        Some(EalDraft {
            memory: map.or("memory", MEMORY_DEFAULT, memory, report),
            hugepages: map.or("hugepages", Hugepages::Auto, hugepages, report),
            lcores: map.optional("lcores", values::lcores, report),
            idle: map.or("idle", Idle::Busy, idle, report),
            args: args.map(|args| args.into_iter().map(|arg| arg.value).collect()),
        })
    }

    /// The section once it is valid.
    pub fn valid(self) -> Option<EalConfig> {
        let lcores = match self.lcores {
            Given::Absent => None,
            Given::Mistaken => return None,
            Given::Valid(map) => Some(map.value),
        };
        Some(EalConfig {
            memory: self.memory?.value,
            hugepages: self.hugepages?.value,
            lcores,
            idle: self.idle?.value,
            args: self.args?,
        })
    }
}
