//! A kronod under test, and what kronoctl says about it.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use ipnet::Ipv4Net;
use serde_json::Value;

use crate::lab::{Lab, Site};
use crate::netns::{Namespace, Process, tied};

/// How long kronod may take to start or to stop.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One of krono's programs, built beside the running test.
///
/// # Errors
/// If it is not there, or older than its source: cargo does not build it for these tests.
pub fn program(name: &str) -> Result<PathBuf> {
    let this = env::current_exe()?;
    // A test lies in target/PROFILE/deps, a program in target/PROFILE.
    let is_profile = |dir: &&Path| !dir.ends_with("deps");
    let profile = this.ancestors().skip(1).find(is_profile).context("no directory")?;
    let path = profile.join(name);
    let built = modified(&path);
    ensure!(built.is_some(), "{} is missing; run: cargo build --workspace", path.display());
    // What cargo wrote down beside it: "PROGRAM: SOURCE SOURCE …".
    let rule = fs::read_to_string(path.with_extension("d"))?;
    let sources = rule.split_once(": ").map_or("", |(_, sources)| sources).split_whitespace();
    if let Some(newer) = sources.into_iter().find(|source| modified(Path::new(source)) > built) {
        bail!("{} is older than {newer}; run: cargo build --workspace", path.display());
    }
    Ok(path)
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|metadata| metadata.modified()).ok()
}

/// Whether huge pages are to be used: what `KRONO_HUGEPAGES` says (`auto`, `required` or `off`),
/// by default `off`, which works everywhere.
pub fn hugepages() -> String {
    env::var("KRONO_HUGEPAGES").unwrap_or_else(|_| "off".to_owned())
}

/// A configuration for a lab.
#[derive(Debug)]
pub struct Config {
    shards: String,
    ports: String,
    lcores: Vec<String>,
    nat: String,
    bfd: String,
}

impl Config {
    /// A configuration without shards; `nat` holds the lines of its section `nat`, not indented.
    pub fn new(nat: &str) -> Self {
        let nat = nat.lines().map(|line| format!("  {}\n", line.trim())).collect();
        let (shards, ports, bfd) = (String::new(), String::new(), String::new());
        Config { shards, ports, lcores: Vec::new(), nat, bfd }
    }

    /// Has the shards that are added from now on hold a BFD session with their gateways, with these
    /// settings.
    pub fn bfd(mut self, settings: &str) -> Self {
        self.bfd = settings.to_owned();
        self
    }

    /// Adds the shard of a site, which translates to `pool`.
    pub fn shard(mut self, site: Site, pool: Ipv4Net) -> Self {
        let id = self.lcores.len();
        let (access, core) = (site.interface("in"), site.interface("out"));
        for (number, interface) in [(2 * id, &access), (2 * id + 1, &core)] {
            let device = format!("net_af_packet{number},iface={interface}");
            self.ports += &format!("  - {{ name: {interface}, device: \"{device}\" }}\n");
        }
        let (inside, outside, gateway) = (site.inside(), site.outside(), site.gateway());
        let bfd = match self.bfd.as_str() {
            "" => String::new(),
            settings => format!("      bfd: [ {{ neighbour: {gateway}, {settings} }} ]\n"),
        };
        self.shards += &format!(
            "  - id: {id}
    lcore: {id}
    inside: {{ port: {access}, address: {inside}/24 }}
    outside:
      port: {core}
      address: {outside}/25
      routes: [ {{ prefix: 0.0.0.0/0, via: {gateway} }} ]
{bfd}    nat: {{ pool: [ {pool} ] }}\n"
        );
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        self.lcores.push(format!("{id}@{}", id % cpus));
        self
    }

    /// The YAML, with the control socket at `socket`.
    pub fn text(&self, socket: &Path) -> String {
        let Config { shards, ports, lcores, nat, .. } = self;
        let (lcores, hugepages) = (lcores.join(","), hugepages());
        let nat = if nat.is_empty() { String::new() } else { format!("nat:\n{nat}") };
        format!(
            "eal: {{ memory: 128M, hugepages: {hugepages}, lcores: \"{lcores}\", idle: yield }}
ports:
{ports}shards:
{shards}{nat}control: {{ socket: \"{}\" }}
metrics: {{ listen: \"127.0.0.1:0\" }}\n",
            socket.display()
        )
    }
}

/// A running kronod.
#[derive(Debug)]
pub struct Kronod {
    process: Process,
    socket: PathBuf,
}

impl Kronod {
    /// Starts kronod in the lab and waits until all its shards poll.
    ///
    /// # Errors
    /// If it is not ready in time; with its log.
    pub fn start(lab: &Lab, config: &Config) -> Result<Self> {
        Kronod::start_by(lab, &[], &config.text(&Kronod::socket_in(lab)))
    }

    /// Starts kronod in the lab by `wrapper`, a program that becomes kronod, or by none. `text` is its
    /// configuration, with the control socket at [`Kronod::socket_in`].
    ///
    /// # Errors
    /// If it is not ready in time; with its log.
    pub fn start_by(lab: &Lab, wrapper: &[&str], text: &str) -> Result<Self> {
        let kronod = program("kronod")?;
        let mut words = wrapper.iter().map(OsStr::new).chain([kronod.as_os_str()]);
        let mut command = lab.nat.command(words.next().unwrap_or_default());
        command.args(words);
        let mut kronod = Kronod::launch(command, lab.dir(), text, Kronod::socket_in(lab))?;
        kronod.wait_until_ready()?;
        Ok(kronod)
    }

    /// Where the control socket is in a lab.
    pub fn socket_in(lab: &Lab) -> PathBuf {
        lab.dir().join("kronod.sock")
    }

    /// Starts kronod where the test itself runs, and does not wait for it. `text` is its
    /// configuration, with the control socket at `socket`; `options` go on its command line.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn replaying(dir: &Path, text: &str, socket: PathBuf, options: &[&str]) -> Result<Self> {
        let mut command = tied(program("kronod")?);
        command.args(options);
        Kronod::launch(command, dir, text, socket)
    }

    fn launch(mut command: Command, dir: &Path, text: &str, socket: PathBuf) -> Result<Self> {
        let file = dir.join("kronod.yaml");
        fs::write(&file, text)?;
        command.arg("--config").arg(&file);
        let process = Process::start(command, &dir.join("kronod.log"))?;
        Ok(Kronod { process, socket })
    }

    /// Waits until all its shards poll.
    ///
    /// # Errors
    /// If they do not in time; with its log.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        self.process.wait_for("kronod ready", PATIENCE)
    }

    /// Waits until it ends by itself: its exit code, and the last figures that could be had.
    ///
    /// # Errors
    /// If it does not end within `timeout`, or is killed by a signal.
    pub fn last_words(mut self, timeout: Duration) -> Result<(i32, Vec<ShardStats>)> {
        let deadline = Instant::now() + timeout;
        let mut stats = Vec::new();
        let status = loop {
            if let Some(status) = self.process.ended()? {
                break status;
            }
            stats = self.stats().unwrap_or(stats);
            ensure!(Instant::now() < deadline, "still running after {timeout:?}:\n{}", self.log());
            sleep(Duration::from_millis(50));
        };
        let code = status.code().with_context(|| format!("{status}:\n{}", self.log()))?;
        Ok((code, stats))
    }

    /// Starts kronod with `text` as its configuration and waits for its end: exit code and log.
    ///
    /// # Errors
    /// If it does not end, or is killed by a signal.
    pub fn failing(namespace: &Namespace, dir: &Path, text: &str) -> Result<(i32, String)> {
        let file = dir.join("failing.yaml");
        fs::write(&file, text)?;
        let mut command = namespace.command(program("kronod")?);
        command.arg("--config").arg(&file);
        let mut process = Process::start(command, &dir.join("failing.log"))?;
        let status = process.wait(PATIENCE)?;
        let code = status.code().with_context(|| format!("{status}:\n{}", process.printed()))?;
        Ok((code, process.printed()))
    }

    /// Stops it as its users do, and says with which exit code it ended.
    ///
    /// # Errors
    /// If it does not end, or is killed by a signal.
    pub fn stop(mut self) -> Result<i32> {
        self.process.signal("TERM")?;
        let status = self.process.wait(PATIENCE)?;
        status.code().with_context(|| format!("{status}:\n{}", self.process.printed()))
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.process.printed()
    }

    /// Sends it a signal, such as `STOP`.
    ///
    /// # Errors
    /// If it has ended.
    pub fn signal(&self, name: &str) -> Result<()> {
        self.process.signal(name)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its control socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What `kronoctl --json` answers to a command line.
    ///
    /// # Errors
    /// If kronoctl fails or does not print JSON.
    pub fn ask(&self, command: &str) -> Result<Value> {
        let mut kronoctl = Command::new(program("kronoctl")?);
        kronoctl.arg("--socket").arg(&self.socket).arg("--json").args(command.split(' '));
        let output = kronoctl.output()?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            bail!("kronoctl {command}: {}: {complaint}", output.status);
        }
        serde_json::from_slice(&output.stdout).with_context(|| format!("kronoctl {command}"))
    }

    /// The figures of each shard.
    ///
    /// # Errors
    /// If they cannot be had.
    pub fn stats(&self) -> Result<Vec<ShardStats>> {
        let stats = self.ask("stats")?;
        let shards = stats["shards"].as_array().with_context(|| format!("no shards: {stats}"))?;
        shards.iter().map(ShardStats::from_json).collect()
    }
}

/// What became of the packets of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardStats {
    /// Taken from the ports.
    pub received: u64,
    /// Received ones that were sent on.
    pub sent: u64,
    /// Received ones that have done their work, such as ARP.
    pub consumed: u64,
    /// Received ones that wait for a neighbour.
    pub held: u64,
    /// Sent ones that krono made itself.
    pub originated: u64,
    /// Dropped ones, by reason; only reasons that occurred.
    pub drops: Vec<(String, u64)>,
}

impl ShardStats {
    /// Reads one element of `shards` of `kronoctl stats --json`.
    ///
    /// # Errors
    /// If a figure is missing.
    pub fn from_json(shard: &Value) -> Result<Self> {
        let figure = |name: &str| {
            shard[name].as_u64().with_context(|| format!("no figure '{name}' in {shard}"))
        };
        let drops = shard["drops"].as_object().with_context(|| format!("no drops: {shard}"))?;
        let drop = |(reason, count): (&String, &Value)| {
            Ok((reason.clone(), count.as_u64().with_context(|| format!("{reason}: {count}"))?))
        };
        Ok(ShardStats {
            received: figure("received")?,
            sent: figure("sent")?,
            consumed: figure("consumed")?,
            held: figure("held")?,
            originated: figure("originated")?,
            drops: drops
                .iter()
                .filter(|(_, count)| **count != 0)
                .map(drop)
                .collect::<Result<_>>()?,
        })
    }

    /// How many were dropped for this reason.
    pub fn dropped(&self, reason: &str) -> u64 {
        self.drops.iter().filter(|(name, _)| name == reason).map(|(_, count)| count).sum()
    }

    /// How many were dropped.
    pub fn drops_total(&self) -> u64 {
        self.drops.iter().map(|(_, count)| count).sum()
    }

    /// Whether every packet received is accounted for.
    pub fn is_balanced(&self) -> bool {
        self.received == self.sent + self.consumed + self.held + self.drops_total()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_balance_only_if_nothing_is_missing() {
        let text = r#"{"id":0,"received":10,"sent":4,"consumed":3,"held":1,"originated":7,
                       "drops":{"filtered":1,"no_mapping":1}}"#;
        let mut stats = ShardStats::from_json(&serde_json::from_str(text).unwrap()).unwrap();
        assert!(stats.is_balanced());
        assert_eq!((stats.dropped("filtered"), stats.dropped("land")), (1, 0));
        stats.held = 0;
        assert!(!stats.is_balanced());
        assert!(ShardStats::from_json(&serde_json::json!({"received": 1})).is_err());
    }
}
