//! What the throughput of State-Compute Replication is made of, and that of its baselines: cycles
//! of the time-stamp counter on two lcores.
//!
//! ```text
//! cargo bench -p krono-io --bench scr -- sequencer [--quick]
//! cargo bench -p krono-io --bench scr -- model --out FILE [--quick]
//! ```
//!
//! `sequencer` prints by part what the sequencer's lcore takes for a packet, with seven cores and
//! records of 8 bytes and others, while the other lcore empties all pipes. `model` measures for each
//! program, on a trace of one flow and one by Zipf's law, what the model of
//! `scripts/scr-figures.sh` needs, and the points that two CPUs can show, and writes JSON. Figures
//! are medians of five, all that are measured in turn; `--quick` only shows that it runs.
//!
//! Packets come out of memory into buffers of a DPDK pool, and are sent to DPDK's null device. Wants
//! two CPUs with nothing else on them.
#![forbid(unsafe_code)]

mod cores;
mod lcores;
mod model;
mod programs;
mod sequencer;
mod traces;

use std::sync::{Arc, Mutex};

use krono_core::packet::Side;
use krono_io::{Clock, Eal, EalConfig, Pool, PoolConfig, Port, PortConfig};
use scr_sequencer::Replicable;
use scr_sequencer::programs::{conntrack, ddos, heavy, knock};
use scr_sequencer::room;

use lcores::Tx;
use sequencer::{PARTS, Sequenced, history_max, sequence};
use traces::Trace;

/// Where all packets arrive: the side that mitigator and knocking judge.
const SIDE: Side = Side::Outside;

/// The most cores of a group.
const CORES_MAX: usize = 14;

/// Buffers: as many as all pipes and bursts hold, and not many more, so that they stay in caches.
const BUFFERS: u32 = 8191;

/// What measurements stand on.
struct Lab {
    eal: Eal,
    pool: Pool,
    clock: Clock,
    tx: [Tx; 2],
    /// How long a run is to take, cycles.
    run_cycles: u64,
    /// How often a pipe is filled and emptied in a run.
    rounds: u64,
    repeats: usize,
}

impl Lab {
    fn new(is_quick: bool) -> Lab {
        let config =
            EalConfig { memory_mb: 128, lcores: Some("0@0,1@1".into()), ..EalConfig::default() };
        let eal = Eal::start(&config).unwrap_or_else(|error| panic!("{error}"));
        // In whole lines: so frames begin with one as well.
        let private = room::bytes_needed::<conntrack::Record>(history_max(CORES_MAX));
        let private = private.next_multiple_of(64) as u16;
        let config = PoolConfig { name: "scr".into(), buffers: BUFFERS, mtu: 1500, private };
        let pool = Pool::new(&eal, &config).unwrap_or_else(|error| panic!("{error}"));
        let tx = [0, 1].map(|number| {
            let device = format!("net_null{number}");
            let (_, _, mut tx) = Port::open(&eal, &device, &PortConfig::default(), &pool)
                .unwrap_or_else(|error| panic!("{error}"));
            Arc::new(Mutex::new(tx.remove(0)))
        });
        let (run_cycles, rounds, repeats) =
            if is_quick { (1 << 20, 4, 1) } else { (1 << 25, 64, 5) };
        Lab { clock: Clock::new(&eal), eal, pool, tx, run_cycles, rounds, repeats }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let out = arguments.iter().position(|argument| argument == "--out");
    let lab = Lab::new(has("--quick"));
    if has("sequencer") {
        show_sequencer(&lab);
    }
    if has("model") {
        let text = model::measure(&lab, has("--quick"));
        match out.and_then(|at| arguments.get(at + 1)) {
            Some(path) => std::fs::write(path, text).expect("a file that can be written"),
            None => println!("{text}"),
        }
    }
}

/// The median of some figures.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn show_sequencer(lab: &Lab) {
    let trace = Arc::new(Trace::new("zipf", 16_384, 1 << 16));
    let hz = lab.clock.cycles_per_second();
    println!("cycles of a packet on the sequencer's lcore; {:.0} MHz", hz / 1e6);
    print!("{:10} {:>5} {:>6}", "program", "bytes", "cores");
    PARTS.iter().for_each(|part| print!(" {part:>16}"));
    println!(" {:>8} {:>8} {:>8} {:>8}", "all", "waiting", "Mpps", "drained");
    for cores in [1, 2, 4, 7, 14] {
        show::<ddos::Ddos>(lab, &trace, cores, hz);
        show::<knock::Knock>(lab, &trace, cores, hz);
        show::<heavy::Heavy>(lab, &trace, cores, hz);
        show::<conntrack::Conntrack>(lab, &trace, cores, hz);
    }
}

fn show<P: Replicable + 'static>(lab: &Lab, trace: &Arc<Trace>, cores: usize, hz: f64) {
    let packets = lab.run_cycles / 64;
    let runs: Vec<Sequenced> =
        (0..lab.repeats).map(|_| sequence::<P>(lab, trace, cores, packets)).collect();
    let of = |figure: &dyn Fn(&Sequenced) -> f64| median(runs.iter().map(figure).collect());
    print!("{:10} {:5} {cores:6}", P::NAME, size_of::<P::Record>());
    for part in 0..PARTS.len() {
        print!(" {:16.1}", of(&|run| run.parts[part]));
    }
    let busy = of(&|run| run.parts.iter().sum());
    let all = of(&|run| run.cycles);
    let waiting = of(&|run| run.cycles - run.parts.iter().sum::<f64>());
    println!(" {busy:8.1} {waiting:8.1} {:8.2} {:8.1}", hz / all / 1e6, of(&|run| run.drained));
}
