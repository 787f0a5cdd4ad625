//! A cluster with its load, and what is done to it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use krono_tests::cluster::{Cluster, Plan, SETTLING};
use krono_tests::netns::{Namespace, eventually};
use serde_json::Value;

use crate::clients::{Clients, Outcome, Web};
use crate::crowd::{self, Counted, Crowd, Members};
use crate::event::{Event, STRUCK};
use crate::probes::{self, Flow, Orders};
use crate::trace::Clock;

/// Watched flows of each class and shard.
const FLOWS_PER_CLASS: u8 = 2;

/// What went on before an event, and how long it lasts before it is mended.
const BEFORE: Duration = Duration::from_secs(2);
const HOLD: Duration = Duration::from_secs(3);
/// How long is looked on when all is as before.
const AFTER: Duration = Duration::from_secs(1);

/// Sessions younger than this when a node fails may be lost, µs.
pub(crate) const YOUNG: u32 = 100_000;

/// Something that happened, and when, µs.
pub(crate) type Mark = (u32, String);

/// All that is known of one event.
pub(crate) struct Record {
    pub(crate) event: Event,
    /// When it began, when it was mended, and when it was over, µs.
    pub(crate) began: u32,
    pub(crate) mended: u32,
    pub(crate) over: u32,
    pub(crate) marks: Vec<Mark>,
    /// From the beginning until a router noticed, and until the last route had changed, µs.
    pub(crate) detected: Option<i64>,
    pub(crate) converged: Option<i64>,
    /// The sessions established before, and those since.
    pub(crate) sessions: Counted,
    /// Watched flows whose sessions were lost.
    pub(crate) flows_lost: u32,
    pub(crate) clients: Outcome,
    pub(crate) flows: Vec<Arc<Flow>>,
    pub(crate) plan: Plan,
}

/// A cluster under load.
pub(crate) struct Demo {
    pub(crate) cluster: Cluster,
    pub(crate) sessions: u32,
    clock: Clock,
    crowd: Option<Crowd>,
    members: Option<Members>,
    flows: Vec<Arc<Flow>>,
    orders: Arc<Orders>,
    web: Web,
    threads: Vec<JoinHandle<Result<()>>>,
}

/// Says what goes on.
macro_rules! tell {
    ($demo:expr, $($words:tt)*) => {
        println!("{:7.2} s  {}", f64::from($demo.clock.us()) / 1e6, format_args!($($words)*))
    };
}

impl Demo {
    /// The network and the servers; nothing else runs yet.
    pub(crate) fn new(plan: Plan, sessions: u32) -> Result<Demo> {
        let clock = Clock::start();
        let cluster = Cluster::new(plan)?;
        let web = Web::start(&cluster)?;
        let flows = probes::flows(plan, FLOWS_PER_CLASS);
        let orders = Arc::new(Orders::default());
        let (crowd, members) = Crowd::new(plan, clock);
        let crowd = Some(crowd);
        let threads = Vec::new();
        let demo = Demo {
            cluster,
            sessions,
            clock,
            members: Some(members),
            crowd,
            flows,
            orders,
            web,
            threads,
        };
        tell!(demo, "{} nodes, {} shards, two routers", plan.nodes, plan.nodes);
        Ok(demo)
    }

    /// What is wrong with the load, rather than that nobody answers.
    fn explained<T>(&mut self, outcome: Result<T>) -> Result<T> {
        if outcome.is_err() {
            sleep(AFTER);
            self.check_load()?;
        }
        outcome
    }

    /// Starts all nodes and opens all sessions.
    fn start(&mut self) -> Result<()> {
        let (sessions, clock) = (self.sessions, self.clock);
        for node in self.cluster.plan.nodes() {
            self.cluster.node_mut(node).start()?;
        }
        self.settle(&mut Vec::new())?;
        tell!(self, "all nodes serve; opening {sessions} sessions");
        let (flows, orders) = (self.flows.clone(), self.orders.clone());
        self.serve("watched", move || probes::servers(&flows, clock, &orders))?;
        let orders = self.orders.clone();
        self.serve("crowd", move || crowd::servers(&orders.stop))?;
        let members = self.members.take().context("started twice")?;
        self.subscribe("crowd", move || members.run())?;
        let opened = self.crowd()?.open(sessions)?;
        ensure!(opened.survived == sessions, "not all sessions could be opened: {opened:?}");
        let (flows, orders) = (self.flows.clone(), self.orders.clone());
        self.subscribe("watched", move || probes::subscribers(&flows, clock, &orders))?;
        sleep(BEFORE);
        self.check_load()?;
        tell!(self, "{sessions} sessions and {} watched flows are open", self.flows.len());
        Ok(())
    }

    fn serve(
        &mut self,
        name: &str,
        run: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let thread = start_in(&self.cluster.servers, name, run)?;
        self.threads.push(thread);
        Ok(())
    }

    fn subscribe(
        &mut self,
        name: &str,
        run: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let thread = start_in(&self.cluster.subscribers, name, run)?;
        self.threads.push(thread);
        Ok(())
    }

    fn crowd(&self) -> Result<&Crowd> {
        self.crowd.as_ref().context("the crowd has gone")
    }

    /// Everything that is measured is only worth something if the load runs.
    fn check_load(&mut self) -> Result<()> {
        if let Some(index) = self.threads.iter().position(JoinHandle::is_finished) {
            let thread = self.threads.swap_remove(index);
            thread.join().ok().context("a thread of the load panicked")??;
            bail!("a thread of the load ended");
        }
        let now = self.clock.us();
        let from = now.saturating_sub(1_000_000);
        for flow in &self.flows {
            let arrived = flow.out.between(from, now).iter().filter(|(_, at)| *at != 0).count();
            ensure!(arrived > 0, "a watched {:?} of shard {} does not run", flow.class, flow.shard);
        }
        Ok(())
    }

    /// Starts everything, and lets these happen one after the other, each when Enter is pressed if
    /// it is to wait.
    pub(crate) fn run(&mut self, events: &[Event], waits: bool) -> Result<Vec<Record>> {
        self.start()?;
        let mut records = Vec::new();
        for event in events {
            if waits {
                let dir = self.cluster.dir().display();
                println!("\nLogs and control sockets are in {dir}. Enter for: {}", event.about());
                if std::io::stdin().read_line(&mut String::new())? == 0 {
                    break;
                }
            }
            let record = self.let_happen(*event);
            records.push(self.explained(record)?);
        }
        Ok(records)
    }

    fn let_happen(&mut self, event: Event) -> Result<Record> {
        let plan = self.cluster.plan;
        tell!(self, "{}: {}", event.name(), event.about());
        // A half may have taken over meanwhile.
        self.settle(&mut Vec::new())?;
        let losses = self.losses();
        let clients = Clients::start(&self.cluster, event.length(plan.nodes))?;
        self.crowd()?.set_newcomers(true)?;
        sleep(BEFORE);
        let mut marks = Vec::new();
        let began = self.clock.us();
        self.strike(event, &mut marks)?;
        let mended = self.clock.us();
        self.mend(event, &mut marks)?;
        self.settle(&mut marks)?;
        sleep(AFTER);
        let over = self.clock.us();
        self.crowd()?.set_newcomers(false)?;
        tell!(self, "  over after {:.1} s; counting sessions", f64::from(over - began) / 1e6);
        let sessions = self.crowd()?.count(began - YOUNG)?;
        let clients = clients.finish(&self.web)?;
        self.orders.mend.store(true, Relaxed);
        sleep(AFTER);
        let (detected, converged) = self.routers_said(began, mended);
        let record = Record {
            event,
            began,
            mended,
            over,
            marks,
            detected,
            converged,
            sessions,
            flows_lost: self.losses() - losses,
            clients,
            flows: self.flows.clone(),
            plan,
        };
        self.check_load()?;
        tell!(self, "  {}", crate::report::line(&record));
        Ok(record)
    }

    /// How many flows are watched.
    pub(crate) fn flows(&self) -> usize {
        self.flows.len()
    }

    fn losses(&self) -> u32 {
        self.flows.iter().map(|flow| flow.losses.load(Relaxed)).sum()
    }

    fn mark(&self, marks: &mut Vec<Mark>, what: impl Into<String>) {
        let what = what.into();
        tell!(self, "  {what}");
        marks.push((self.clock.us(), what));
    }

    fn strike(&mut self, event: Event, marks: &mut Vec<Mark>) -> Result<()> {
        match event {
            Event::Kill => self.cluster.node(STRUCK).signal("KILL")?,
            Event::Freeze => self.cluster.node(STRUCK).signal("STOP")?,
            Event::Link => self.cluster.set_link(STRUCK, "down")?,
            Event::Cut => self.cluster.set_cut(true)?,
            Event::Drain => self.drain(STRUCK, marks)?,
            Event::Rolling => {
                for node in self.cluster.plan.nodes() {
                    self.restart(node, marks)?;
                }
            }
        }
        match event {
            Event::Rolling => return Ok(()),
            Event::Drain => {}
            _ => self.mark(marks, event.name()),
        }
        sleep(HOLD);
        Ok(())
    }

    fn mend(&mut self, event: Event, marks: &mut Vec<Mark>) -> Result<()> {
        match event {
            Event::Kill => {
                self.cluster.node_mut(STRUCK).wait()?;
                self.cluster.node_mut(STRUCK).start()?;
            }
            Event::Freeze => self.cluster.node(STRUCK).signal("CONT")?,
            Event::Link => self.cluster.set_link(STRUCK, "up")?,
            Event::Cut => self.cluster.set_cut(false)?,
            Event::Drain | Event::Rolling => return Ok(()),
        }
        self.mark(marks, "mended");
        Ok(())
    }

    /// Has others serve what a node serves.
    fn drain(&mut self, node: u8, marks: &mut Vec<Mark>) -> Result<()> {
        let plan = self.cluster.plan;
        if !plan.twins {
            return Ok(());
        }
        for shard in plan.shards_of(node) {
            if standing(&self.cluster, node, shard)?.serves {
                self.cluster.node(node).ask(&format!("shard drain {shard}"))?;
            }
        }
        eventually(&format!("node {node} is drained"), SETTLING, || {
            plan.shards_of(node)
                .into_iter()
                .all(|shard| standing(&self.cluster, node, shard).is_ok_and(|it| !it.serves))
        })?;
        self.mark(marks, format!("node {node} is drained"));
        Ok(())
    }

    fn restart(&mut self, node: u8, marks: &mut Vec<Mark>) -> Result<()> {
        self.drain(node, marks)?;
        let kronod = self.cluster.node_mut(node);
        kronod.signal("TERM")?;
        kronod.wait()?;
        kronod.start()?;
        self.mark(marks, format!("node {node} is restarted"));
        self.settle(marks)
    }

    /// Waits until every shard is served where it is to be, and could be served elsewhere.
    fn settle(&mut self, marks: &mut Vec<Mark>) -> Result<()> {
        let plan = self.cluster.plan;
        let sessions = plan.shards().len() * 2;
        if plan.twins {
            self.wait_until_caught_up()?;
            self.mark(marks, "all have caught up");
            let mut moved = false;
            for shard in plan.shards() {
                let master = plan.master(shard);
                if !standing(&self.cluster, master, shard)?.serves {
                    let slave = self.cluster.node(plan.slave(shard));
                    slave.ask(&format!("shard move {shard} --to {master}"))?;
                    moved = true;
                }
            }
            if moved {
                self.wait_until_caught_up_at_home()?;
                self.mark(marks, "all shards are back");
            }
        }
        let routers = [&self.cluster.access, &self.cluster.core];
        eventually("the routers' BFD sessions are up", SETTLING, || {
            routers.iter().all(|it| it.sessions_up().is_ok_and(|up| up == sessions))
        })?;
        if !plan.twins {
            sleep(AFTER);
        }
        Ok(())
    }

    fn wait_until_caught_up(&self) -> Result<()> {
        let plan = self.cluster.plan;
        eventually("all shards have twins that have caught up", SETTLING, || {
            plan.shards().all(|shard| {
                let halves = plan.halves(shard).map(|node| standing(&self.cluster, node, shard));
                let [Ok(one), Ok(other)] = halves else { return false };
                one.serves != other.serves && one.is_safe && other.is_safe
            })
        })
        .with_context(|| self.standings())
    }

    fn wait_until_caught_up_at_home(&self) -> Result<()> {
        let plan = self.cluster.plan;
        eventually("all shards are where they are to be", SETTLING, || {
            plan.shards().all(|shard| {
                let halves = plan.halves(shard).map(|node| standing(&self.cluster, node, shard));
                let [Ok(master), Ok(slave)] = halves else { return false };
                master.serves && !slave.serves && master.is_safe && slave.is_safe
            })
        })
        .with_context(|| self.standings())
    }

    /// What all nodes say of their halves.
    fn standings(&self) -> String {
        let say = |node| match self.cluster.node(node).ask("cluster") {
            Ok(said) => format!("node {node}: {said}\n"),
            Err(error) => format!("node {node}: {error:#}\n"),
        };
        self.cluster.plan.nodes().map(say).collect()
    }

    /// When, after `began`, the first router noticed that a neighbour has gone, and when the last
    /// route changed before it was mended.
    fn routers_said(&self, began: u32, mended: u32) -> (Option<i64>, Option<i64>) {
        let routers = [&self.cluster.access, &self.cluster.core];
        let moments = |text: String, what: &str| -> Vec<i64> {
            let during = i64::from(began)..i64::from(mended);
            let lines = text.lines().filter(|line| line.contains(what));
            let moments = lines.filter_map(|line| self.clock.moment(line));
            moments.filter(|it| during.contains(it)).map(|it| it - i64::from(began)).collect()
        };
        let down = routers.iter().flat_map(|it| moments(it.log(), "to Down")).min();
        let routes = routers.iter().flat_map(|it| moments(it.routes(), "")).max();
        (down, routes)
    }

    /// Copies the logs of all programs to a directory, with what the nodes counted.
    pub(crate) fn keep_logs(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir)?;
        for entry in std::fs::read_dir(self.cluster.dir())? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                std::fs::copy(entry.path(), dir.join(entry.file_name()))?;
            }
        }
        for node in self.cluster.plan.nodes() {
            // One that does not run has nothing to say.
            if let Ok(stats) = self.cluster.node(node).ask("stats") {
                std::fs::write(dir.join(format!("node{node}.stats.json")), stats.to_string())?;
            }
        }
        Ok(())
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.orders.stop.store(true, Relaxed);
        self.crowd = None;
        for thread in self.threads.drain(..) {
            // What it had to say is known, or nobody wants to know any more.
            let _ = thread.join();
        }
    }
}

fn start_in(
    namespace: &Namespace,
    name: &str,
    run: impl FnOnce() -> Result<()> + Send + 'static,
) -> Result<JoinHandle<Result<()>>> {
    let namespace = namespace.link()?;
    let run = move || {
        namespace.enter()?;
        run()
    };
    Ok(std::thread::Builder::new().name(name.to_owned()).spawn(run)?)
}

/// How a half stands.
struct Standing {
    serves: bool,
    /// Whether the other may fail now.
    is_safe: bool,
}

fn standing(cluster: &Cluster, node: u8, shard: u8) -> Result<Standing> {
    let said = cluster.node(node).ask("cluster")?;
    let halves = said["halves"].as_array().context("no halves")?;
    let half = halves.iter().find(|half| half["shard"] == u64::from(shard));
    let half: &Value = half.with_context(|| format!("no shard {shard}: {said}"))?;
    let role = half["role"].as_str().context("no role")?;
    Ok(Standing { serves: role != "following", is_safe: half["safe"] == true })
}
