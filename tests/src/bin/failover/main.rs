//! Shows what becomes of live traffic when the servers that translate it fail: nodes with kronod
//! between two real routers, thousands of sessions and real clients, and one thing after another that
//! happens to a node. Says what was lost and for how long, and whether that is within the goals.
//!
//! Run it by `scripts/failover-demo.sh`.
#![forbid(unsafe_code)]

mod clients;
mod crowd;
mod demo;
mod event;
mod probes;
mod report;
mod sockets;
mod trace;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use krono_tests::cluster::Plan;
use krono_tests::netns::Namespace;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::demo::Demo;
use crate::event::Event;

const USAGE: &str = "usage: failover [--nodes N] [--sessions N] [--only EVENT,…] [--without-twins] \
                     [--step] [--figures FILE] [--logs DIR]";

/// Besides a socket for each session, and one at the other end of each that is a connection.
const FILES_BESIDES: u64 = 3072;

struct Options {
    plan: Plan,
    sessions: u32,
    events: Vec<Event>,
    /// Whether each event waits for Enter.
    steps: bool,
    /// Where the figures go, and in the end the logs.
    figures: Option<PathBuf>,
    logs: Option<PathBuf>,
}

impl Options {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Options> {
        let mut options = Options {
            plan: Plan { nodes: 3, twins: true },
            sessions: 10_000,
            events: Event::ALL.to_vec(),
            steps: false,
            figures: None,
            logs: None,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().context(USAGE);
            match argument.as_str() {
                "--nodes" => options.plan.nodes = value()?.parse().context(USAGE)?,
                "--sessions" => options.sessions = value()?.parse().context(USAGE)?,
                "--only" => {
                    options.events = value()?.split(',').map(Event::named).collect::<Result<_>>()?
                }
                "--without-twins" => options.plan.twins = false,
                "--step" => options.steps = true,
                "--figures" => options.figures = Some(value()?.into()),
                "--logs" => options.logs = Some(value()?.into()),
                _ => bail!(USAGE),
            }
        }
        if !(2..=9).contains(&options.plan.nodes) {
            bail!("two nodes at least and nine at most; {USAGE}");
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the goals were reached.
fn run() -> Result<bool> {
    let options = Options::read(std::env::args().skip(1))?;
    if let Some(reason) = Namespace::missing_permission() {
        bail!("{reason}");
    }
    allow_files(u64::from(options.sessions) * 3 / 2 + FILES_BESIDES)?;
    let mut demo = Demo::new(options.plan, options.sessions)?;
    let outcome = demo.run(&options.events, options.steps);
    if let Some(dir) = &options.logs {
        demo.keep_logs(dir)?;
    }
    let records = outcome?;
    let all_held = report::print(&records);
    if let Some(file) = &options.figures {
        report::write(file, &demo, &records)?;
    }
    Ok(all_held)
}

/// Lets this process have so many files open at once.
fn allow_files(files: u64) -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum.map(|most| most.max(files));
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        .with_context(|| format!("{files} open files are needed at once (see ulimit -n)"))
}
