//! How a stage goes on, as the thread sees it that carries it out: it starts the lcores, looks at
//! what they show, decides when nothing more will arrive, and puts together what they tell.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use krono_io::EalConfig;

use super::board::Shown;
use super::common::Phase;
use super::part::Part;
use super::seen::{Watched, seen};
use super::{Engine, Outcome, lcore, ports};
use crate::bench::{Failed, Seen, Snapshot, Stage, Watch};
use crate::load::{End, Rate, Timing};

/// How often the lcores are looked at.
const LOOK: Duration = Duration::from_millis(5);

/// After a look is due, how long lcores may take to show what is so.
const LATE: Duration = Duration::from_millis(30);

/// How long stragglers are waited for that may never come (RFC 2544, 23: two seconds), and how
/// long after the last that came.
const DRAIN_MAX: Duration = Duration::from_secs(2);
const DRAIN_QUIET: Duration = Duration::from_millis(500);

/// For how long nothing may be sent nor arrive when packets are counted and sent as fast as
/// possible: there the count alone would be the end, and a port that takes nothing never lets it
/// come.
const STALLED: Duration = Duration::from_secs(5);

/// How long lcores may take to finish.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a link that was up may take to come up again before a stage begins.
const LINK_PATIENCE: Duration = Duration::from_secs(5);

/// A stage that is watched.
struct Watching<'a> {
    engine: &'a mut Engine,
    started: Instant,
    start_ns: u64,
    before: Shown,
    series: Vec<Snapshot>,
    /// How many looks found a link down that was up before, by side.
    down: [u64; 2],
    partial: bool,
    /// When packets were last sent or arrived.
    moved: Instant,
}

pub(super) fn carry_out(
    engine: &mut Engine,
    stage: &Stage,
    watch: &mut dyn Watch,
) -> Result<Seen, Failed> {
    let may_stall = !ends_by_count_alone(engine, stage);
    let stage = as_captured(engine, stage);
    let stats = engine.ports.each_ref().map(|port| port.stats());
    if stage != Stage::Forget {
        wait_for_links(engine);
        engine.find_next_hops()?;
    }
    begin(engine, &stage)?;
    let (started, start_ns) = (Instant::now(), engine.clock.now_ns());
    engine.common.set_phase(Phase::Send);
    let (before, series) = (Shown::default(), Vec::new());
    let (down, partial, moved) = ([0; 2], false, started);
    let mut watching = Watching { engine, started, start_ns, before, series, down, partial, moved };
    let is_stalled = !watching.until_all_is_sent(watch, may_stall)?;
    watching.engine.common.set_phase(Phase::Drain);
    watching.drain()?;
    let Watching { series, partial, down, .. } = watching;
    let outcomes = finish(engine)?;
    if is_stalled {
        return Err(stalled());
    }
    let after = engine.ports.each_ref().map(|port| port.stats());
    let mut port_trouble = ports::trouble(&stats, &after);
    for (side, looks) in ["inside", "outside"].into_iter().zip(down).filter(|(_, n)| *n > 0) {
        port_trouble.insert(format!("{side}.link_down_ms"), looks * lcore::SHOW_NS / 1_000_000);
    }
    let watched = Watched { series, port_trouble, partial };
    Ok(seen(&stage, outcomes, watched))
}

/// Whether a stage ends when so much was sent or opened, and nothing else can end it.
fn ends_by_count_alone(engine: &Engine, stage: &Stage) -> bool {
    let Stage::Traffic { rate, end, .. } = stage else { return false };
    let is_counted = matches!(end, End::Packets(_) | End::Sessions(_));
    is_counted && *rate == Rate::Max && !matches!(engine.replays, Some(Timing::Scaled(_)))
}

fn stalled() -> Failed {
    let seconds = STALLED.as_secs();
    Failed(format!(
        "the ports have taken no packet for {seconds} s and none has arrived, though not all are \
         sent: is the device there and running?"
    ))
}

/// A capture with times of its own is not paced.
fn as_captured(engine: &Engine, stage: &Stage) -> Stage {
    let mut stage = stage.clone();
    if let (Some(Timing::Scaled(_)), Stage::Traffic { rate, .. }) = (engine.replays, &mut stage) {
        *rate = Rate::Max;
    }
    stage
}

/// Waits for links that were up once: the device may have been restarted.
fn wait_for_links(engine: &mut Engine) {
    let deadline = Instant::now() + LINK_PATIENCE;
    for (port, was_up) in engine.ports.iter().zip(&mut engine.links) {
        while *was_up && !port.is_up() && Instant::now() < deadline {
            thread::sleep(LOOK);
        }
        *was_up |= port.is_up();
    }
}

/// Gives all lcores their parts and waits until they are ready.
fn begin(engine: &mut Engine, stage: &Stage) -> Result<(), Failed> {
    engine.common.ready.store(0, Ordering::Relaxed);
    engine.common.set_phase(Phase::Begin);
    let of = engine.runners.len();
    for (number, runner) in engine.runners.iter_mut().enumerate() {
        let parts = runner.parts.as_ref().expect("there until the engine is dropped");
        if parts.send(Part::new(stage, number, of)).is_err() {
            return Err(runner.failure().unwrap_or(Failed("an lcore has ended".into())));
        }
    }
    while engine.common.ready.load(Ordering::Acquire) < of {
        fail_with(engine)?;
        thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

/// Fails if an lcore has.
fn fail_with(engine: &mut Engine) -> Result<(), Failed> {
    let failed = engine.runners.iter_mut().find_map(|runner| runner.failure());
    failed.map_or(Ok(()), |failed| {
        engine.common.set_phase(Phase::Over);
        Err(failed)
    })
}

impl Watching<'_> {
    /// False if it is given up, since nothing moves.
    fn until_all_is_sent(
        &mut self,
        watch: &mut dyn Watch,
        may_stall: bool,
    ) -> Result<bool, Failed> {
        let step = Duration::from_nanos(lcore::SHOW_NS);
        let mut due = step;
        loop {
            let all_sent = self.engine.common.boards.iter().all(|board| board.has_sent_all());
            if all_sent {
                return Ok(true);
            }
            if self.is_shown(due) {
                let shown = self.shown();
                let elapsed = self.started.elapsed();
                let since = shown.since(&self.before);
                if since.packets() > 0 {
                    self.moved = Instant::now();
                }
                self.series.push(since.snapshot(elapsed));
                self.before = shown;
                self.look_at_links();
                due = (due + step).max(elapsed);
                if !watch.look(&shown.snapshot(elapsed)) {
                    self.partial = true;
                    return Ok(true);
                }
                if !may_stall && self.moved.elapsed() >= STALLED {
                    return Ok(false);
                }
            }
            fail_with(self.engine)?;
            thread::sleep(LOOK);
        }
    }

    fn look_at_links(&mut self) {
        let links = self.engine.ports.iter().zip(self.engine.links).zip(&mut self.down);
        for ((port, was_up), down) in links {
            *down += u64::from(was_up && !port.is_up());
        }
    }

    /// Whether all lcores have shown what was so at this time, or should have by now.
    fn is_shown(&self, due: Duration) -> bool {
        let elapsed = self.started.elapsed();
        let due_ns = self.start_ns + due.as_nanos() as u64;
        elapsed >= due
            && (elapsed >= due + LATE
                || self.engine.common.boards.iter().all(|board| board.time_ns() >= due_ns))
    }

    fn shown(&self) -> Shown {
        let mut sum = Shown::default();
        self.engine.common.boards.iter().for_each(|board| sum.add(&board.read()));
        sum
    }

    /// Waits for what is still on its way. Lcores show more often what they have counted now.
    fn drain(&mut self) -> Result<(), Failed> {
        let began = Instant::now();
        let began_ns = self.engine.clock.now_ns();
        let (mut arrived, mut heard) = (0, began);
        while began.elapsed() < DRAIN_MAX && heard.elapsed() < DRAIN_QUIET {
            thread::sleep(LOOK);
            fail_with(self.engine)?;
            let (received, missing) = self.shown().arrived();
            if received != arrived {
                (arrived, heard) = (received, Instant::now());
            }
            let is_recent = |ns| ns > began_ns;
            if missing == 0
                && self.engine.common.boards.iter().all(|board| is_recent(board.time_ns()))
            {
                break;
            }
        }
        let elapsed = self.started.elapsed();
        self.series.push(self.shown().since(&self.before).snapshot(elapsed));
        Ok(())
    }
}

/// Has the lcores finish, and collects what they tell.
fn finish(engine: &mut Engine) -> Result<Vec<Outcome>, Failed> {
    engine.common.set_phase(Phase::Over);
    let deadline = Instant::now() + PATIENCE;
    let mut outcomes = Vec::new();
    for runner in &mut engine.runners {
        match runner.outcomes.recv_deadline(deadline) {
            Ok(outcome) => outcomes.push(outcome),
            Err(_) => {
                let silent = Failed(format!("lcore {} does not finish", runner.lcore));
                return Err(runner.failure().unwrap_or(silent));
            }
        }
    }
    Ok(outcomes)
}

/// Moves the calling thread, and those that it starts later, to a CPU that no lcore polls on, if
/// the map of lcores says plainly which those are and there is one.
pub(super) fn leave_lcores_alone(eal: &EalConfig, lcores: &[u16]) {
    let Some(map) = &eal.lcores else { return };
    let pairs = map.split(',').filter_map(|pair| pair.split_once('@'));
    let taken: Vec<usize> = pairs
        .filter(|(lcore, _)| lcores.iter().any(|one| lcore.parse() == Ok(*one)))
        .filter_map(|(_, cpu)| cpu.parse().ok())
        .collect();
    let cpus = core_affinity::get_core_ids().unwrap_or_default();
    if let Some(spare) = cpus.into_iter().rev().find(|cpu| !taken.contains(&cpu.id))
        && taken.len() == lcores.len()
    {
        core_affinity::set_for_current(spare);
    }
}
