//! What the model of throughput needs, and what it is held against.

use std::fmt::Write as _;
use std::sync::Arc;

use krono_core::locked::Locked;
use krono_core::packet::{PacketMeta, Side};
use krono_core::program::Program;
use krono_core::steering::Steering;
use scr_sequencer::Replicable;
use scr_sequencer::programs::ddos_shared::SharedDdos;

use crate::cores::{compute, replicated, serial_section, sharded, shared, step_alone, whole};
use crate::programs::{Nothing, behind, bucket, conntrack, ddos, ddos_shared, heavy, knock};
use crate::sequencer::sequence;
use crate::traces::{Trace, handshakes, knocks};
use crate::{CORES_MAX, Lab, median};

/// Cores for which points are measured.
const POINTS: [usize; 6] = [1, 2, 4, 7, 10, 14];

/// Buckets of the steering, as many as a NIC has that RSS++ was made for.
const BUCKETS: usize = 512;

/// What is measured of a state that cores share, by its protection: whole packets, the part that only
/// one core can be in, and a step.
const LOCKED: [&str; 3] = ["locked", "serial", "step_locked"];
const ATOMICS: [&str; 3] = ["atomics", "serial_atomics", "step_atomics"];

/// Measures all and gives it as JSON: of each program and trace the figures by name, cycles, some
/// of them by the number of cores.
pub(crate) fn measure(lab: &Lab, is_quick: bool) -> String {
    let packets = if is_quick { 1 << 12 } else { 1 << 18 };
    let trace = |name, flows| Arc::new(Trace::new(name, flows, packets));
    let mut cases: Vec<Box<dyn Measured>> = Vec::new();
    for name in ["one flow", "zipf"] {
        let (few, many) = (trace(name, 16_384), trace(name, 65_536));
        let (knocked, opened) = (knocks(16_384), handshakes(65_536));
        cases.push(Box::new(case(&few, || Nothing, &[])));
        cases.push(Box::new(Case { atomics: Some(ddos_shared), ..case(&few, ddos, &[]) }));
        cases.push(Box::new(case(&few, knock, &knocked)));
        cases.push(Box::new(case(&many, bucket, &[])));
        cases.push(Box::new(case(&many, heavy, &opened)));
        cases.push(Box::new(case(&many, conntrack, &opened)));
    }
    for repeat in 1..=lab.repeats {
        cases.iter_mut().for_each(|case| case.repeat(lab));
        eprintln!("repeat {repeat} of {}", lab.repeats);
    }
    let cases: Vec<String> = cases.iter().map(|case| case.json()).collect();
    let hz = lab.clock.cycles_per_second();
    format!("{{\"hz\": {hz:.0}, \"cases\": [\n{}\n]}}\n", cases.join(",\n"))
}

trait Measured {
    fn repeat(&mut self, lab: &Lab);
    fn json(&self) -> String;
}

/// A program on a trace.
struct Case<P: Replicable, M: Fn() -> P> {
    trace: Arc<Trace>,
    make: M,
    before: Vec<(PacketMeta, Side)>,
    /// The same with a state of atomics, where there is such a program.
    atomics: Option<fn() -> SharedDdos>,
    /// The figures by name and number of cores, with those of all repeats.
    figures: Vec<((&'static str, usize), Vec<f64>)>,
}

fn case<P: Replicable, M: Fn() -> P>(
    trace: &Arc<Trace>,
    make: M,
    before: &[(PacketMeta, Side)],
) -> Case<P, M> {
    let before = before.to_vec();
    Case { trace: trace.clone(), make, before, atomics: None, figures: Vec::new() }
}

impl<P: Replicable, M: Fn() -> P> Case<P, M> {
    fn program(&self) -> P {
        behind((self.make)(), &self.before)
    }

    fn note(&mut self, name: &'static str, cores: usize, figure: f64) {
        match self.figures.iter_mut().find(|(key, _)| *key == (name, cores)) {
            Some((_, figures)) => figures.push(figure),
            None => self.figures.push(((name, cores), vec![figure])),
        }
    }

    /// One state of all cores, of which each clone is a handle.
    fn repeat_shared<H>(&mut self, lab: &Lab, [whole, serial, step]: [&'static str; 3], first: H)
    where
        H: Program + Clone + Send + 'static,
    {
        let trace = self.trace.clone();
        let handles = || [first.clone(), first.clone()];
        let figure = step_alone(lab, &trace, first.clone());
        self.note(step, 1, figure);
        let figure = sharded(lab, &trace, first.clone());
        self.note(whole, 1, figure);
        let figure = shared(lab, &trace, handles());
        self.note(whole, 2, figure);
        let figure = serial_section(lab, &trace, handles());
        self.note(serial, 2, figure);
    }

    /// The part of the packets that the heaviest of so many cores gets, before and after
    /// rebalancing.
    fn shares(&self, cores: usize) -> [f64; 2] {
        let mut steering = Steering::new(cores, BUCKETS, [5; 32]);
        let spread = |steering: &mut Steering| {
            let mut packets = vec![0.0; cores];
            self.trace.metas.iter().for_each(|meta| packets[steering.steer(meta)] += 1.0);
            packets
        };
        let heaviest = |packets: &[f64]| packets.iter().copied().fold(0.0, f64::max);
        let before = spread(&mut steering);
        steering.rebalance(&before);
        let after = spread(&mut steering);
        [before, after].map(|packets| heaviest(&packets) / self.trace.metas.len() as f64)
    }
}

impl<P, M> Measured for Case<P, M>
where
    P: Replicable + Send + 'static,
    M: Fn() -> P + 'static,
{
    fn repeat(&mut self, lab: &Lab) {
        let trace = self.trace.clone();
        let figure = sharded(lab, &trace, self.program());
        self.note("sharded", 1, figure);
        self.repeat_shared(lab, LOCKED, Locked::new(self.program()));
        if let Some(make) = self.atomics {
            self.repeat_shared(lab, ATOMICS, make());
        }
        let figure = whole(lab, &trace, self.program());
        self.note("whole", 1, figure);
        for cores in POINTS {
            let [c1, c2] = compute(lab, &trace, self.program(), cores);
            self.note("c1", cores, c1);
            self.note("c2", cores, c2);
            let figure = replicated(lab, &trace, self.program(), cores);
            self.note("replicated", cores, figure);
            let sequenced = sequence::<P>(lab, &trace, cores, lab.run_cycles / 512);
            self.note("sequencer", cores, sequenced.parts.iter().sum());
        }
    }

    fn json(&self) -> String {
        let mut text = format!(
            "{{\"program\": \"{}\", \"trace\": \"{}\", \"record_bytes\": {}",
            P::NAME,
            self.trace.name,
            size_of::<P::Record>()
        );
        for ((name, cores), figures) in &self.figures {
            let figure = median(figures.clone());
            write!(text, ", \"{name}/{cores}\": {figure:.2}").expect("memory");
        }
        for cores in 1..=CORES_MAX {
            let [before, after] = self.shares(cores);
            write!(text, ", \"share/{cores}\": {before:.5}").expect("memory");
            write!(text, ", \"share_rsspp/{cores}\": {after:.5}").expect("memory");
        }
        text + "}"
    }
}
