//! A run of the daemon: start, watch, reload, stop.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use krono_core::counters::{Counter, Counters};
use krono_io::{Clock, Task};
use log::{error, info, warn};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::alarms::Alarms;
use crate::bfd::Board;
use crate::bird::{Routing, Standing};
use crate::config::{self, Config, Memory};
use crate::control::{self, Facts, ShardFacts};
use crate::house::{self, Part, Ports, Role};
use crate::mailbox::{Reload, ShardHandle};
use crate::metrics;
use crate::privileges;
use crate::spare_cpus::SpareCpus;
use crate::twin;

/// How often the daemon looks after its shards.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);

/// How long shards may take to begin polling.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the command line adds to the configuration.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Stop after so long without a packet.
    pub exit_when_idle: Option<Duration>,
    /// Fixes hash keys and port choices, for tests; else they are drawn from the OS.
    pub seed: Option<u64>,
}

/// Runs shards by this configuration, which was read from `path`, until a signal or idleness ends
/// it.
///
/// # Errors
/// Why it could not start, or that a shard failed while running.
pub fn run(path: &Path, config: Config, options: &Options) -> anyhow::Result<()> {
    let signals = Signals::catch()?;
    let mut daemon = Daemon::start(path, config, options)?;
    info!("kronod ready: {}", daemon.config.summary());
    let outcome = daemon.watch(&signals, options.exit_when_idle);
    let stopped = daemon.stop();
    outcome.and(stopped)
}

/// What has been asked of the process.
struct Signals {
    stop: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
}

impl Signals {
    fn catch() -> anyhow::Result<Signals> {
        let signals = Signals { stop: Arc::default(), reload: Arc::default() };
        for (signal, flag) in
            [(SIGINT, &signals.stop), (SIGTERM, &signals.stop), (SIGHUP, &signals.reload)]
        {
            signal_hook::flag::register(signal, flag.clone()).context("signal handlers")?;
        }
        Ok(signals)
    }
}

struct Daemon {
    config: Config,
    parts: Vec<RunningPart>,
    facts: Arc<Facts>,
    /// Where routes are announced, if they are.
    routing: Option<Routing>,
    /// They end with the daemon.
    _servers: (control::Server, metrics::Server),
}

struct RunningPart {
    /// The shard that it is of.
    shard: u16,
    role: Role,
    counters: Arc<Counters>,
    handle: Arc<ShardHandle>,
    bfd: Arc<Board>,
    twin: Option<Arc<twin::Board>>,
    alarms: Alarms,
    /// None once its end has been waited for.
    task: Option<Task<()>>,
}

impl RunningPart {
    /// What to call it in a log.
    fn name(&self) -> String {
        match self.role {
            Role::Worker => format!("shard {}", self.shard),
            Role::Sequencer(_) => format!("shard {}, sequencer", self.shard),
            Role::Replica(core) => format!("shard {}, core {core}", self.shard),
        }
    }

    fn has_ended(&self) -> bool {
        self.task.as_ref().is_none_or(Task::is_finished)
    }

    /// Stops the worker and waits for its end, which closes its queues.
    fn stop(&mut self) -> anyhow::Result<()> {
        self.handle.stop();
        let Some(task) = self.task.take() else { return Ok(()) };
        task.join().with_context(|| format!("shard {}", self.shard))
    }
}

impl Drop for RunningPart {
    /// A start that fails half-way stops the workers that poll already.
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            error!("{error:#}");
        }
    }
}

impl Daemon {
    fn start(path: &Path, config: Config, options: &Options) -> anyhow::Result<Daemon> {
        // First what fails at once, and what is to be known before the EAL moves threads.
        let socket = control::Socket::bind(&config.control_socket)?;
        let metrics = metrics::Listener::bind(config.metrics_listen)?;
        let key =
            config.cluster.as_ref().map(|cluster| twin::read_key(&cluster.key)).transpose()?;
        let cpus = SpareCpus::find(&house::worker_cpus(&config));
        let eal = house::start_eal(&config)?;
        let mut ports = Ports::open(&eal, &config)?;
        let clock = Clock::new(&eal);
        let seed = seed(options.seed)?;
        let mut made = Vec::new();
        for shard in &config.shards {
            let seed = seed_of_shard(seed, shard.id);
            made.extend(house::parts(&config, shard, &mut ports, clock, seed, key.as_ref())?);
        }
        let facts = Arc::new(facts(path, &config, &made, ports));
        let mut parts = Vec::new();
        for Part { shard, lcore, role, counters, handle, bfd, twin, run, .. } in made {
            let task = eal.launch(u32::from(lcore), move || {
                reduce_privileges();
                run();
            })?;
            let alarms = Alarms::default();
            let task = Some(task);
            parts.push(RunningPart { shard, role, counters, handle, bfd, twin, alarms, task });
        }
        reduce_privileges();
        info!("metrics at http://{}/metrics", metrics.address());
        let metrics = metrics::Server::start(metrics, facts.clone(), cpus.clone())?;
        let control = control::Server::start(socket, facts.clone(), cpus.clone())?;
        let routing = Routing::start(&config, cpus)?;
        let daemon = Daemon { parts, config, facts, routing, _servers: (control, metrics) };
        daemon.wait_until_polling()?;
        daemon.facts.ready.store(true, Ordering::Relaxed);
        Ok(daemon)
    }

    fn wait_until_polling(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        for part in &self.parts {
            while part.counters.snapshot().of(Counter::Polls) == 0 {
                if part.has_ended() || Instant::now() > deadline {
                    bail!("shard {} does not poll", part.shard);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }

    /// Looks after the shards until something ends the run.
    fn watch(&mut self, signals: &Signals, idle_max: Option<Duration>) -> anyhow::Result<()> {
        let mut busy = (0, Instant::now());
        while !signals.stop.load(Ordering::Relaxed) {
            std::thread::sleep(WATCH_INTERVAL);
            if signals.reload.swap(false, Ordering::Relaxed) {
                self.reload();
            }
            let now = Instant::now();
            let mut received = 0;
            for part in &mut self.parts {
                if part.has_ended() {
                    bail!("shard {} ended by itself", part.shard);
                }
                let counters = part.counters.snapshot();
                received += counters.received();
                part.alarms.watch(part.shard, &counters, now);
                part.alarms.watch_bfd(part.shard, &part.bfd);
                if let Some(status) = part.twin.as_ref().and_then(|board| board.look()) {
                    part.alarms.watch_twin(part.shard, &status);
                }
                if let Role::Sequencer(members) = &part.role {
                    part.alarms.watch_members(part.shard, members.look());
                }
            }
            self.announce();
            if received != busy.0 {
                busy = (received, now);
            }
            if idle_max.is_some_and(|max| now - busy.1 >= max) {
                info!("no packet for {:?}: stopping", now - busy.1);
                return Ok(());
            }
        }
        info!("stopping as asked");
        Ok(())
    }

    /// Has routes follow what shards do.
    fn announce(&mut self) {
        let Some(routing) = &mut self.routing else { return };
        let role = |shard: u16| {
            let part = self.parts.iter().find(|part| part.shard == shard)?;
            Some(part.twin.as_ref()?.look()?.role)
        };
        let standings = routing.shards().map(|shard| Standing::of(role(shard))).collect();
        routing.show(standings);
    }

    /// Reads the configuration again and applies what running shards can take.
    fn reload(&mut self) {
        let (config, warnings) =
            match config::load(&self.facts.config_file, &Memory::of_this_machine()) {
                Ok(valid) => valid,
                Err(mistakes) => {
                    error!("not reloaded, the old configuration stays:\n{mistakes}");
                    return;
                }
            };
        warnings.iter().for_each(|warning| warn!("{warning}"));
        let plan = config::reload_plan(&self.config, &config);
        plan.restart.iter().for_each(|what| warn!("{what} differs, which needs a restart"));
        plan.applied.iter().for_each(|what| info!("{what} changes now"));
        for running in &self.parts {
            let shard = plan.config.shards.iter().find(|shard| shard.id == running.shard);
            let nat =
                shard.filter(|shard| shard.scr.is_none()).and_then(|shard| shard.nat.as_ref());
            let Some(nat) = nat else { continue };
            let reload = Reload { policy: house::policy(&plan.config, nat), outcome: Ok(()) };
            let answer = running.handle.ask(Box::new(reload), Instant::now() + PATIENCE);
            match answer.map(|answer| answer.outcome) {
                Ok(Ok(())) => info!("shard {}: reloaded", running.shard),
                Ok(Err(reason)) => {
                    error!("shard {}: a static mapping was not made, {reason}", running.shard);
                }
                Err(why) => error!("shard {}: not reloaded, it {why}", running.shard),
            }
        }
        self.config = plan.config;
    }

    /// Stops the workers, closes the ports, and takes the EAL down.
    fn stop(mut self) -> anyhow::Result<()> {
        // Before anything else, so that as little as possible comes that nobody answers.
        self.routing = None;
        // Sequencers first, so that replicas account for what is in their pipes.
        let is_first = |part: &RunningPart| matches!(part.role, Role::Sequencer(_));
        let (first, rest): (Vec<_>, Vec<_>) = self.parts.drain(..).partition(is_first);
        first.iter().for_each(|part| part.handle.stop());
        let mut outcome = Ok(());
        for mut part in first.into_iter().chain(rest) {
            outcome = outcome.and(part.stop());
            let counters = part.counters.snapshot();
            info!(
                "{}: stopped, {} packets received, {} dropped",
                part.name(),
                counters.received(),
                counters.dropped_total(),
            );
        }
        outcome
    }
}

/// What the control plane may tell of this process.
fn facts(path: &Path, config: &Config, parts: &[Part], ports: Ports) -> Facts {
    let of_part = |part: &Part| ShardFacts {
        id: part.shard,
        lcore: part.lcore,
        role: match part.role {
            Role::Worker => control::protocol::Role::Worker,
            Role::Sequencer(_) => control::protocol::Role::Sequencer,
            Role::Replica(core) => control::protocol::Role::Replica { core },
        },
        sessions_max: part.sessions_max,
        speaks: part.role.speaks(parts, part.shard),
        handle: part.handle.clone(),
        counters: part.counters.clone(),
        bfd: part.bfd.clone(),
        twin: part.twin.clone(),
    };
    Facts {
        config_file: path.to_owned(),
        started: Instant::now(),
        ready: AtomicBool::new(false),
        memory: control::protocol::Memory {
            buffers_bytes: config.eal.memory,
            tables_bytes: parts.iter().map(|part| part.tables.bytes).sum(),
            hugepages: parts.iter().all(|part| part.tables.huge),
        },
        shards: parts.iter().map(of_part).collect(),
        ports: Box::new(ports.into_figures()),
    }
}

fn reduce_privileges() {
    if let Err(error) = privileges::reduce() {
        warn!("privileges are kept: {error}");
    }
}

/// The secret of this run: of hash keys and port choices.
fn seed(fixed: Option<u64>) -> anyhow::Result<[u8; 32]> {
    let mut seed = [0; 32];
    match fixed {
        Some(fixed) => seed[..8].copy_from_slice(&fixed.to_le_bytes()),
        None => draw(&mut seed)?,
    }
    Ok(seed)
}

/// Fills `bytes` with what nobody can guess.
pub(crate) fn draw(bytes: &mut [u8]) -> anyhow::Result<()> {
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(bytes))
        .context("cannot read /dev/urandom")
}

/// Shards of one run choose ports independently.
fn seed_of_shard(mut seed: [u8; 32], shard: u16) -> [u8; 32] {
    for (byte, mask) in seed[16..18].iter_mut().zip(shard.to_le_bytes()) {
        *byte ^= mask;
    }
    seed
}
