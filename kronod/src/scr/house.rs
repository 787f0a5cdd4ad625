//! From a valid configuration to a group: its sequencer, its replicas, and all between them.

use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use krono_core::counters::Counters;
use krono_core::packet::Side;
use krono_core::router::{Router, RouterConfig};
use krono_core::shard::Shard;
use krono_core::time::{Moment, Ticks};
use krono_io::{Arena, Burst, Clock, Pool, RxQueue, TxQueue, pipe};
use krono_nat::{Nat, Replica};
use scr_sequencer::programs::{Mistake, bucket, conntrack, ddos, heavy, knock};
use scr_sequencer::recovery::{Group, Member, Patience};
use scr_sequencer::sequencer::Sequencer;
use scr_sequencer::wire::Codec;
use scr_sequencer::{Replicated, trial};

use super::handover::Handover;
use super::in_band::InBand;
use super::members::Members;
use super::programs::GroupProgram;
use super::replica::{ReplicaWorker, Run, Source};
use super::sequencing::{Lane, Sequencing};
use crate::bfd::Board;
use crate::carrier::Carrier;
use crate::config::{self, Arrival, Config, NatConfig, ProgramConfig, ScrConfig, ShardConfig};
use crate::held::Held;
use crate::house::{self, Part, Ports, Role, Tables};
use crate::input::Input;
use crate::mailbox::{Mailbox, ShardHandle, mailbox};
use crate::output::Output;

/// How patient replicas are with each other where packets get lost: polls without any before what
/// others wait for is taken for lost, and polls before one that says nothing is left behind.
const PATIENCE: Patience = Patience { idle: 256, silent: 1 << 22 };

/// Sessions of a translator that is only tried.
const TRIAL_SESSIONS: usize = 1024;

/// The parts of a replicated shard, each for an lcore of its own.
///
/// # Errors
/// If memory is not to be had, or the program cannot be replicated.
pub(crate) fn parts(
    config: &Config,
    shard: &ShardConfig,
    scr: &ScrConfig,
    ports: &mut Ports,
    clock: Clock,
    seed: [u8; 32],
) -> anyhow::Result<Vec<Part>> {
    let group = GroupPlan::new(config, shard, scr, ports, clock);
    match &scr.program {
        ProgramConfig::Ddos(settings) => {
            let settings = ddos::Config { seed, ..settings.clone() };
            group.parts(|_| valid(ddos::Ddos::new(&settings)), program_bytes(settings.sources))
        }
        ProgramConfig::Heavy(settings) => {
            let settings = heavy::Config { seed, ..settings.clone() };
            group.parts(|_| valid(heavy::Heavy::new(&settings)), program_bytes(settings.flows))
        }
        ProgramConfig::Bucket(settings) => {
            let settings = bucket::Config { seed, ..settings.clone() };
            group.parts(|_| valid(bucket::Policer::new(&settings)), program_bytes(settings.flows))
        }
        ProgramConfig::Knock(settings) => {
            let settings = knock::Config { seed, ..settings.clone() };
            group.parts(|_| valid(knock::Knock::new(&settings)), program_bytes(settings.sources))
        }
        ProgramConfig::Conntrack(settings) => {
            let settings = conntrack::Config { seed, ..settings.clone() };
            let bytes = program_bytes(settings.connections);
            group.parts(|_| valid(conntrack::Conntrack::new(&settings)), bytes)
        }
        ProgramConfig::Nat => {
            let nat = shard.nat.as_ref().expect("a valid configuration has one for it");
            let settings = house::nat_config(config, shard, nat, seed);
            let tables = Tables { bytes: Nat::memory_bytes(&settings) as u64, huge: false };
            group.parts(|purpose| translator(config, shard, nat, seed, purpose), tables)
        }
    }
}

/// What a replica is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Work,
    Trial,
}

fn valid<P>(made: Result<P, Vec<Mistake>>) -> anyhow::Result<P> {
    made.map_err(|mistakes| anyhow!("settings beyond what they can be: {mistakes:?}"))
}

/// About what the table of a program takes.
const fn program_bytes(entries: usize) -> Tables {
    Tables { bytes: 80 * entries as u64, huge: false }
}

/// A replica of the translator, in memory of its own.
fn translator(
    config: &Config,
    shard: &ShardConfig,
    nat: &NatConfig,
    seed: [u8; 32],
    purpose: Purpose,
) -> anyhow::Result<Replica<'static>> {
    let mut settings = house::nat_config(config, shard, nat, seed);
    if purpose == Purpose::Trial {
        settings.sessions = settings.sessions.min(TRIAL_SESSIONS);
        settings.subscribers = settings.subscribers.min(TRIAL_SESSIONS);
        settings.pool.truncate(1);
        settings.pool = settings.pool.iter().map(|pool| pool.network().into()).collect();
        settings.policy.statics.clear();
    }
    let bytes = Nat::memory_bytes(&settings);
    let hugepages = match purpose {
        Purpose::Work => house::hugepages(config.eal.hugepages),
        Purpose::Trial => krono_io::Hugepages::Off,
    };
    let mut arena = Arena::map(bytes, hugepages)
        .with_context(|| format!("shard {}: {} sessions", shard.id, settings.sessions))?;
    let memory = arena.take::<u8>(bytes)?;
    match Nat::new(&settings, memory, Ticks(0)) {
        Ok(nat) => Ok(Replica(nat)),
        Err(_) => bail!("shard {}: its static mappings do not fit nat.sessions", shard.id),
    }
}

/// All that is known of a group before its program is.
pub(super) struct GroupPlan<'c> {
    pub(super) shard: &'c ShardConfig,
    pub(super) scr: &'c ScrConfig,
    pub(super) router: RouterConfig,
    pub(super) pool: Pool,
    /// By side.
    pub(super) rx: [Vec<RxQueue>; 2],
    /// By side and core.
    pub(super) tx: [Vec<TxQueue>; 2],
    pub(super) clock: Clock,
    pub(super) is_capture: bool,
    pub(super) yields: bool,
}

/// A group, each part of which is to run on an lcore of its own.
pub(super) struct Made<P: GroupProgram> {
    pub(super) sequencing: Option<(Sequencing<P>, ShardHandle)>,
    /// By core.
    pub(super) replicas: Vec<(ReplicaWorker<P>, ShardHandle)>,
}

/// What each core takes part in.
struct Shared<P: GroupProgram> {
    handover: Arc<Handover<P>>,
    group: Option<Arc<Group<P::Record>>>,
}

impl<'c> GroupPlan<'c> {
    fn new(
        config: &Config,
        shard: &'c ShardConfig,
        scr: &'c ScrConfig,
        ports: &mut Ports,
        clock: Clock,
    ) -> Self {
        let router = house::router_config(config, shard, ports);
        let pool = ports.pool(&shard.inside);
        let [(inside_rx, inside_tx), (outside_rx, outside_tx)] =
            [&shard.inside, &shard.outside].map(|side| ports.take_all(side));
        GroupPlan {
            shard,
            scr,
            router,
            pool,
            rx: [inside_rx, outside_rx],
            tx: [inside_tx, outside_tx],
            clock,
            is_capture: config.clock == config::Clock::Capture,
            yields: config.eal.idle == config::Idle::Yield,
        }
    }

    /// Makes the parts around replicas that `make` makes, all alike, with tables of `tables` each.
    fn parts<P: GroupProgram>(
        self,
        make: impl FnMut(Purpose) -> anyhow::Result<P>,
        tables: Tables,
    ) -> anyhow::Result<Vec<Part>> {
        let (shard, scr) = (self.shard, self.scr);
        // The configuration has none.
        let bfd = Arc::new(Board::new(self.clock, std::iter::empty()));
        let Made { sequencing, replicas } = self.make(make)?;
        let sequencing = sequencing.map(|(mut sequencing, handle)| Part {
            shard: shard.id,
            lcore: shard.lcore,
            role: Role::Sequencer(sequencing.members.clone()),
            sessions_max: 0,
            tables: Tables { bytes: 0, huge: tables.huge },
            counters: sequencing.counters.clone(),
            handle: Arc::new(handle),
            twin: None,
            bfd: bfd.clone(),
            run: Box::new(move || sequencing.run()),
        });
        let replica = |(mut replica, handle): (ReplicaWorker<P>, ShardHandle)| Part {
            shard: shard.id,
            lcore: scr.workers[replica.core],
            role: Role::Replica(replica.core),
            sessions_max: shard.nat.as_ref().map_or(0, |nat| nat.sessions),
            tables,
            counters: replica.carrier.counters.clone(),
            handle: Arc::new(handle),
            twin: None,
            bfd: bfd.clone(),
            run: Box::new(move || replica.run()),
        };
        Ok(sequencing.into_iter().chain(replicas.into_iter().map(replica)).collect())
    }

    /// Makes the sequencer and the replicas, once the program has stood its trial.
    pub(super) fn make<P: GroupProgram>(
        mut self,
        mut make: impl FnMut(Purpose) -> anyhow::Result<P>,
    ) -> anyhow::Result<Made<P>> {
        let mut trial = || make(Purpose::Trial);
        let (mut one, mut other, mut copy) = (trial()?, trial()?, trial()?);
        trial::check(&mut one, &mut other, &mut copy)
            .with_context(|| format!("shard {}", self.shard.id))?;
        drop((one, other, copy));
        let shared = self.shared(make(Purpose::Work)?);
        let (mut lanes, mut sources) = (Vec::new(), Vec::new());
        for core in 0..self.scr.workers.len() {
            sources.push(match self.scr.arrival {
                Arrival::Plain { ring, .. } => {
                    let (entry, exit) = pipe(ring)?;
                    lanes.push(Lane::new(entry));
                    Source::Pipe(exit)
                }
                Arrival::Sequenced { format, side, .. } => {
                    let queue = self.rx[side as usize].remove(0);
                    Source::InBand(InBand::new(queue, side, Codec::new(format)?, core))
                }
            });
        }
        let sequencing = match self.scr.arrival {
            Arrival::Plain { .. } => Some(self.sequencing(lanes, &shared)?),
            Arrival::Sequenced { .. } => None,
        };
        let mut replicas = Vec::new();
        for (core, source) in sources.into_iter().enumerate() {
            let (handle, mailbox) = mailbox();
            let worker = self.worker(core, make(Purpose::Work)?, source, &shared, mailbox);
            replicas.push((worker, handle));
        }
        Ok(Made { sequencing, replicas })
    }

    fn history_max(&self) -> usize {
        match self.scr.arrival {
            Arrival::Plain { history, .. } => history,
            Arrival::Sequenced { format, .. } => format.cores - 1,
        }
    }

    fn shared<P: GroupProgram>(&self, carrier: P) -> Shared<P> {
        let carrier = Replicated::new(carrier, self.history_max(), None);
        let handover = Arc::new(Handover::new(carrier));
        let group = match self.scr.arrival {
            Arrival::Plain { .. } => None,
            Arrival::Sequenced { format, log, .. } => Some(Group::new(format.cores, log, PATIENCE)),
        };
        Shared { handover, group }
    }

    fn sequencing<P: GroupProgram>(
        &mut self,
        lanes: Vec<Lane>,
        shared: &Shared<P>,
    ) -> anyhow::Result<(Sequencing<P>, ShardHandle)> {
        let [mut inside, mut outside] = self.rx.each_mut().map(std::mem::take);
        let input = if self.is_capture {
            Input::captures(self.clock, inside.remove(0), outside.remove(0))
        } else {
            Input::ports(self.clock, inside, outside)
        };
        let cores = self.scr.workers.len();
        let mut sequencer = Sequencer::new(cores, self.history_max())
            .map_err(|error| anyhow!("shard {}: {error}", self.shard.id))?;
        (self.scr.active..cores).for_each(|core| {
            sequencer.deactivate(core);
        });
        let (handle, mailbox) = mailbox();
        let sequencing = Sequencing {
            wanted: sequencer.active(),
            sequencer,
            lanes: lanes.into(),
            input,
            router: Router::new(&self.router),
            spent: Burst::new(),
            pool: self.pool.clone(),
            counters: Arc::new(Counters::new()),
            mailbox,
            handover: shared.handover.clone(),
            members: Arc::new(Members::default()),
            handing_over_since: None,
            yields: self.yields,
            now: Moment::default(),
            polls: 0,
            is_idle: true,
            nudged: Moment::default(),
        };
        Ok((sequencing, handle))
    }

    fn worker<P: GroupProgram>(
        &mut self,
        core: usize,
        program: P,
        source: Source<P>,
        shared: &Shared<P>,
        mailbox: Mailbox,
    ) -> ReplicaWorker<P> {
        let member = shared.group.clone().map(|group| Member::new(group, core));
        let router = Router::new(&self.router);
        let held = Held::new(router.neighbours_max());
        let [inside, outside] =
            [Side::Inside, Side::Outside].map(|side| self.tx[side as usize].remove(0));
        let output = Output::new(inside, Some(outside));
        ReplicaWorker {
            core,
            shard: Shard::new(router, Replicated::new(program, self.history_max(), member)),
            scratch: Box::default(),
            source,
            burst: Burst::new(),
            run: Run::new(),
            carrier: Carrier {
                output,
                held,
                spent: Burst::new(),
                pool: self.pool.clone(),
                counters: Arc::new(Counters::new()),
            },
            handover: shared.handover.clone(),
            clock: self.clock,
            mailbox,
            yields: self.yields,
            now: Moment::default(),
            polls: 0,
        }
    }
}
