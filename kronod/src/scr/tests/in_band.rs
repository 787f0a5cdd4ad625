//! Groups whose packets come sequenced: a donor that dies, and a sequencer that counts anew.

use std::num::NonZeroU64;

use krono_core::counters::CounterSnapshot;
use krono_core::drop::DropReason;
use krono_core::packet::Side;
use krono_core::parse::parse;
use krono_core::program::Program;
use krono_core::time::Moment;
use krono_io::mem::{self, Peer};
use krono_io::{Clock, Pool};
use scr_sequencer::Replicable;
use scr_sequencer::history::{Carried, History};
use scr_sequencer::programs::heavy::{Config, Heavy, Record};
use scr_sequencer::wire::{Codec, Format, Variant};

use super::bed::{GATEWAY_MACS, config, router};
use super::neighbours::udp;
use crate::scr::handover::GIVE_UP_NS;
use crate::scr::house::GroupPlan;
use crate::scr::replica::ReplicaWorker;

/// Cores whose packets are sequenced in front of them.
struct Group {
    replicas: Vec<ReplicaWorker<Heavy>>,
    inputs: Vec<Peer>,
    codec: Codec<Record>,
    record: Record,
    now: Moment,
    _outputs: Vec<Peer>,
    _pool: Pool,
}

impl Group {
    fn new(cores: usize, log: usize) -> Group {
        let workers: Vec<_> = (1..=cores).map(|lcore| lcore.to_string()).collect();
        let workers = workers.join(", ");
        let scr = format!(
            "{{ program: heavy, workers: [ {workers} ], in_band: {{ order: ring, log: {log} }} }}"
        );
        let config = config(&scr);
        let shard = &config.shards[0];
        let scr = shard.scr.as_ref().expect("a group");
        let pool = mem::pool(4096, 1500);
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        let queues = (0..cores).map(|_| {
            let (rx, _, peer) = mem::port(&pool);
            inputs.push(peer);
            rx
        });
        let rx = [Vec::new(), queues.collect()];
        let tx = Side::BOTH.map(|_| {
            let each = (0..cores).map(|_| {
                let (_, tx, peer) = mem::port(&pool);
                outputs.push(peer);
                tx
            });
            each.collect()
        });
        let plan = GroupPlan {
            shard,
            scr,
            router: router(true),
            pool: pool.clone(),
            rx,
            tx,
            clock: Clock::with_frequency(NonZeroU64::new(1_000_000_000).unwrap()),
            is_capture: false,
            yields: true,
        };
        let made = plan.make(|_| Ok(Heavy::new(&Config::default()).unwrap())).unwrap();
        let (meta, _) = parse(&udp(), udp().len() as u32).unwrap();
        let format =
            Format { variant: Variant::Ring, cores, sequence: true, moment: true, padding: None };
        Group {
            replicas: made.replicas.into_iter().map(|(replica, _)| replica).collect(),
            inputs,
            codec: Codec::new(format).unwrap(),
            record: Heavy::record(&meta, Side::Outside, Moment(0)),
            now: Moment(1_000_000_000),
            _outputs: outputs,
            _pool: pool,
        }
    }

    /// Sends packets with these numbers to their cores, all of one flow.
    fn send(&mut self, numbers: impl IntoIterator<Item = u64>) {
        let cores = self.replicas.len();
        let records = vec![self.record; cores - 1];
        for sequence in numbers {
            let count = records.len().min(sequence as usize - 1);
            let history = History::new(&records[..count]);
            let carried = Carried { sequence, moment: self.now, history };
            let mut frame = vec![0; self.codec.header_len()];
            self.codec.encode(&[0; 14], &carried, &mut frame);
            frame.extend(udp());
            let core = (sequence - 1) as usize % cores;
            assert!(self.inputs[core].inject(&frame), "the pool is too small");
        }
    }

    /// Has these cores poll until none finds anything.
    fn settle(&mut self, cores: &[usize]) {
        for _ in 0..600 {
            for core in cores {
                while !self.replicas[*core].turn(self.now) {}
            }
        }
        self._outputs.iter().for_each(|peer| drop(peer.sent()));
    }

    fn counters(&self, core: usize) -> CounterSnapshot {
        let counters = self.replicas[core].carrier.counters.snapshot();
        assert!(counters.is_balanced());
        counters
    }

    fn digest(&self, core: usize) -> u64 {
        self.replicas[core].shard.program.program().digest()
    }

    fn position(&self, core: usize) -> u64 {
        self.replicas[core].shard.program.position()
    }
}

#[test]
fn the_frames_are_what_a_sequencer_sends() {
    assert_eq!(udp()[6..12], GATEWAY_MACS[1]);
    let mut group = Group::new(3, 16);
    group.send(1..=9);
    group.settle(&[0, 1, 2]);
    for core in 0..3 {
        assert_eq!(
            (group.position(core), group.counters(core).dropped_total()),
            (7 + core as u64, 0)
        );
    }
}

#[test]
fn who_counts_anew_is_noticed_by_all_and_nothing_is_decided() {
    let mut group = Group::new(2, 16);
    group.send(1..=1000);
    group.settle(&[0, 1]);
    let before = [0, 1].map(|core| group.digest(core));
    // As many as might still be on their way from before, and then more.
    for _ in 0..72 {
        group.send(1..=998);
        group.settle(&[0, 1]);
    }
    for (core, before) in before.into_iter().enumerate() {
        let counters = group.counters(core);
        let dropped = |reason| counters.dropped(reason);
        assert_eq!(dropped(DropReason::ScrLate), 1 << 15);
        assert_eq!(dropped(DropReason::ScrRestarted), 72 * 499 - (1 << 15));
        assert_eq!(group.digest(core), before);
    }
    // Its numbers have come to where they were.
    group.send(999..=1010);
    group.settle(&[0, 1]);
    for core in 0..2 {
        assert_eq!(group.position(core), 1009 + core as u64);
        assert_eq!(group.counters(core).dropped_total(), 72 * 499 + 1);
    }
}

#[test]
fn a_donor_that_dies_while_it_copies_is_one_of_several() {
    let mut group = Group::new(3, 8);
    group.send(1..=3);
    group.settle(&[0, 1, 2]);
    // Core 0 misses more than any log holds.
    let for_others = |numbers: std::ops::RangeInclusive<u64>| numbers.filter(|it| it % 3 != 1);
    let handover = group.replicas[0].handover.clone();
    for first in (4..100).step_by(6) {
        group.send(for_others(first..=first + 5));
        group.settle(&[1, 2]);
    }
    group.send([100]);
    group.settle(&[0]);
    let wish = handover.wish().expect("it is behind");
    assert_eq!(wish.core, 0);
    let copying = handover.begin_to_serve(&wish).expect("nobody else does");
    group.now = Moment(group.now.0 + GIVE_UP_NS - 1);
    group.settle(&[0, 1, 2]);
    assert_eq!((handover.wish(), group.position(0)), (Some(wish), 1));
    group.now = Moment(group.now.0 + 1);
    group.settle(&[0, 1, 2]);
    assert_eq!(handover.wish(), None, "another one has given its state");
    group.send(101..=103);
    group.settle(&[0, 1, 2]);
    assert_eq!([0, 1, 2].map(|core| group.position(core)), [103, 101, 102]);
    group.send(104..=106);
    group.settle(&[0, 1, 2]);
    assert_eq!(group.position(0), 106);
    drop(copying);
}
