//! A sequencer and replicas in one thread, and the same program in a shard on one core.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use krono_core::counters::Counter;
use krono_core::drop::DropReason;
use krono_core::frame::MemFrame;
use krono_core::packet::{Mac, Side};
use krono_core::router::{Route, Router, RouterConfig, SideConfig};
use krono_core::shard::{Action, Outcomes, Scratch, Shard};
use krono_core::time::Moment;
use krono_io::mem::{self, Peer};
use krono_io::{Burst, Clock, Pool};

use crate::config::{self, Config, Memory};
use crate::mailbox::{CoreChange, CoresRefused, CoresRequest, ShardHandle};
use crate::scr::house::{GroupPlan, Made, Purpose};
use crate::scr::programs::GroupProgram;
use crate::scr::replica::ReplicaWorker;
use crate::scr::sequencing::Sequencing;

pub(super) const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
pub(super) const GATEWAY_MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 1, 0xfe], [2, 0, 0, 0, 2, 0xfe]];

/// A configuration with this `scr` section, as one line of YAML.
pub(super) fn config(scr: &str) -> Config {
    let text = format!(
        "ports: [ {{ name: in, device: net_null0 }}, {{ name: out, device: net_null1 }} ]
shards:
  - id: 0
    lcore: 0
    inside: {{ port: in, address: 10.0.0.1/24, routes: [ {{ prefix: 100.64.0.0/16, via: 10.0.0.254 }} ] }}
    outside: {{ port: out, address: 192.0.2.1/24, routes: [ {{ prefix: 0.0.0.0/0, via: 192.0.2.254 }} ] }}
    scr: {scr}
"
    );
    match config::load_text("group.yaml", &text, &Memory::unlimited()) {
        Ok((config, _)) => config,
        Err(mistakes) => panic!("{mistakes}"),
    }
}

fn router(knows_neighbours: bool) -> RouterConfig {
    let side = |side: Side, address: &str, prefix: &str, via: &str| SideConfig {
        mac: Mac(MACS[side as usize]),
        address: address.parse().unwrap(),
        vlan: None,
        mtu: 1500,
        routes: vec![Route { prefix: prefix.parse().unwrap(), via: via.parse().unwrap() }],
        neighbours: match knows_neighbours {
            true => vec![(via.parse().unwrap(), Mac(GATEWAY_MACS[side as usize]))],
            false => vec![],
        },
        bfd: vec![],
    };
    RouterConfig {
        inside: side(Side::Inside, "10.0.0.1/24", "100.64.0.0/16", "10.0.0.254"),
        outside: side(Side::Outside, "192.0.2.1/24", "0.0.0.0/0", "192.0.2.254"),
        pool: vec![],
    }
}

pub(super) struct Bed<P: GroupProgram> {
    pub(super) sequencing: Sequencing<P>,
    handle: ShardHandle,
    pub(super) replicas: Vec<ReplicaWorker<P>>,
    /// What the sequencer receives by, and each core sends by, by side.
    inputs: Vec<Peer>,
    outputs: [Vec<Peer>; 2],
    pool: Pool,
    burst: Burst,
    pub(super) now: Moment,
    /// The same program on one core, and what left it, by the number of each frame.
    single: Shard<P>,
    scratch: Box<Scratch<P>>,
    expected: BTreeMap<u32, Vec<u8>>,
    expected_drops: u64,
    /// Frames that the sequencer dropped before it numbered them.
    pub(super) unnumbered: u64,
}

impl<P: GroupProgram> Bed<P> {
    pub(super) fn new(
        config: &Config,
        knows_neighbours: bool,
        mut make: impl FnMut(Purpose) -> anyhow::Result<P>,
    ) -> Bed<P> {
        let shard = &config.shards[0];
        let scr = shard.scr.as_ref().expect("a group");
        let room = u16::try_from(scr.room_bytes()).unwrap();
        let pool = mem::pool_with_private(4096, 1500, room);
        let single = make(Purpose::Work).unwrap();
        let mut inputs = Vec::new();
        let rx = Side::BOTH.map(|_| {
            let (rx, _, peer) = mem::port(&pool);
            inputs.push(peer);
            vec![rx]
        });
        let mut outputs: [Vec<Peer>; 2] = Default::default();
        let tx = Side::BOTH.map(|side| {
            let each = scr.workers.iter().map(|_| {
                let (_, tx, peer) = mem::port(&pool);
                outputs[side as usize].push(peer);
                tx
            });
            each.collect()
        });
        let plan = GroupPlan {
            shard,
            scr,
            router: router(knows_neighbours),
            pool: pool.clone(),
            rx,
            tx,
            clock: Clock::with_frequency(NonZeroU64::new(1_000_000_000).unwrap()),
            is_capture: false,
            yields: true,
        };
        let Made { sequencing, replicas } = plan.make(make).unwrap();
        let (sequencing, handle) = sequencing.expect("it numbers packets itself");
        Bed {
            sequencing,
            handle,
            replicas: replicas.into_iter().map(|(replica, _)| replica).collect(),
            inputs,
            outputs,
            pool,
            burst: Burst::new(),
            now: Moment(1_000_000_000),
            single: Shard::new(Router::new(&router(true)), single),
            scratch: Box::default(),
            expected: BTreeMap::new(),
            expected_drops: 0,
            unnumbered: 0,
        }
    }

    /// Lets a frame arrive, whose number is in its last four bytes, and the sequencer have it.
    pub(super) fn arrive(&mut self, side: Side, frame: &[u8]) {
        let numbered = |bed: &Self| bed.sequencing.counters.snapshot().of(Counter::Sent);
        let before = numbered(self);
        self.inject(side, frame);
        if numbered(self) == before {
            self.unnumbered += 1;
            return;
        }
        let number = u32::from_be_bytes(*frame.last_chunk().unwrap());
        let mut frames = [MemFrame::new(frame)];
        let mut outcomes = Outcomes::new();
        let (now, scratch) = (self.now, &mut self.scratch);
        if let Some(tick) = P::time(&P::Record::default()) {
            self.single.program.tick(tick, &mut ());
        }
        self.single.process(side, &mut frames[..], now, &mut (), scratch, &mut outcomes);
        match outcomes.iter().next().unwrap().action {
            Action::Send(_) => {
                self.expected.insert(number, frames[0].bytes().to_vec());
            }
            Action::Drop(_) => self.expected_drops += 1,
            other => panic!("{other:?}"),
        }
    }

    /// Lets a frame arrive and the sequencer have it.
    pub(super) fn inject(&mut self, side: Side, frame: &[u8]) {
        assert!(self.inputs[side as usize].inject(frame), "the pool is too small");
        for _ in Side::BOTH {
            let received = self.sequencing.input.receive(&mut self.burst);
            self.sequencing.turn(received, &mut self.burst, self.now);
        }
        assert!(self.sequencing.counters.snapshot().is_balanced());
    }

    /// Has the sequencer and all cores poll until nothing is left, without a look at what comes of it.
    pub(super) fn settle(&mut self) {
        for _ in 0..4 {
            while let Some(side) = self.sequencing.input.receive(&mut self.burst) {
                self.sequencing.turn(Some(side), &mut self.burst, self.now);
            }
            self.sequencing.turn(None, &mut self.burst, self.now);
            for replica in &mut self.replicas {
                while !replica.turn(self.now) {}
            }
        }
    }

    /// Puts a frame on the wire.
    pub(super) fn wire(&self, side: Side, frame: &[u8]) {
        assert!(self.inputs[side as usize].inject(frame), "the pool is too small");
    }

    /// One poll of a core; true if it found nothing.
    pub(super) fn poll(&mut self, core: usize) -> bool {
        let is_idle = self.replicas[core].turn(self.now);
        let counters = self.replicas[core].carrier.counters.snapshot();
        assert!(counters.is_balanced(), "core {core}: {counters:#?}");
        is_idle
    }

    /// Polls of the sequencer that find nothing.
    pub(super) fn idle(&mut self) {
        self.sequencing.turn(None, &mut self.burst, self.now);
    }

    pub(super) fn change(&mut self, change: CoreChange) -> Result<(), CoresRefused> {
        let pending = self.handle.post(Box::new(CoresRequest::new(Some(change)))).unwrap();
        self.sequencing.turn(None, &mut self.burst, self.now);
        pending.wait(std::time::Instant::now()).expect("it was answered").outcome
    }

    /// What left a core on a side since the last call.
    pub(super) fn sent(&self, core: usize, side: Side) -> Vec<Vec<u8>> {
        self.outputs[side as usize][core].sent()
    }

    /// Holds all that left the cores against what the one core sent; `dead` are polled no more.
    pub(super) fn compare(mut self, dead: &[usize]) {
        let alive: Vec<_> = (0..self.replicas.len()).filter(|core| !dead.contains(core)).collect();
        let mut quiet = 0;
        for _ in 0..10_000 {
            self.now = Moment(self.now.0 + 1_000_000);
            self.idle();
            let idle = alive.iter().filter(|core| self.poll(**core)).count();
            let is_quiet = idle == alive.len() && self.sequencing.handover.wish().is_none();
            quiet = if is_quiet { quiet + 1 } else { 0 };
            if quiet == 3 {
                break;
            }
        }
        let mut sent = BTreeMap::new();
        for core in 0..self.replicas.len() {
            for frame in Side::BOTH.into_iter().flat_map(|side| self.sent(core, side)) {
                let number = u32::from_be_bytes(*frame.last_chunk().unwrap());
                assert!(sent.insert(number, frame).is_none(), "{number} left twice");
            }
        }
        let drops: u64 = (self.replicas.iter())
            .map(|replica| replica.carrier.counters.snapshot().dropped_total())
            .sum();
        let late: u64 = (self.replicas.iter())
            .map(|replica| replica.carrier.counters.snapshot().dropped(DropReason::ScrLate))
            .sum();
        assert_eq!(late, 0, "our own sequencer loses nothing");
        let stuck: usize = dead.iter().map(|core| self.in_pipe(*core)).sum();
        for (number, frame) in &sent {
            assert_eq!(Some(frame), self.expected.get(number), "frame {number}");
        }
        // What a dead core has is neither sent nor dropped.
        let decided = sent.len() as u64 + drops;
        let expected = self.expected.len() as u64 + self.expected_drops;
        assert_eq!(decided + stuck as u64, expected, "{stuck} are with the dead");
        let digest = self.single.program.digest();
        let last = self.sequencing.sequencer.last();
        let up_to_date = alive.iter().filter(|core| {
            let replica = &self.replicas[**core].shard.program;
            replica.position() == last && {
                assert_eq!(replica.program().digest(), digest, "core {core}");
                true
            }
        });
        assert!(up_to_date.count() > 0, "nobody has the latest packet");
        drop((self.sequencing, self.replicas));
        assert_eq!(self.pool.in_use(), 0, "every frame is freed");
    }

    fn in_pipe(&mut self, core: usize) -> usize {
        let before = self.replicas[core].carrier.counters.snapshot().received();
        let was = self.replicas[core].carrier.counters.snapshot().dropped(DropReason::ShutDown);
        self.replicas[core].shut_down();
        let now = self.replicas[core].carrier.counters.snapshot();
        assert_eq!(now.received() - before, now.dropped(DropReason::ShutDown) - was);
        (now.received() - before) as usize
    }
}
