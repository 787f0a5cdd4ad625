//! Several nodes that share the work of some shards, between two real routers.
//!
//! ```text
//!                        ┌─ in0, in1 ─ node 1 ─ out0, out1 ─┐
//!  subscribers ─ access ─┼─ in1, in2 ─ node 2 ─ out1, out2 ─┼─ core ─ servers
//!  100.64.s.0/24         └─ in0, in2 ─ node 3 ─ out0, out2 ─┘         203.0.113.0/24
//!              10.0.0.0/16                    192.0.2.0/24
//! ```
//!
//! Each shard has two halves, on two nodes; each half has an address on both sides. The routers are
//! BIRD with static routes over both halves of a shard, guarded by BFD, the master's preferred: the
//! access router has a table for each shard's subscribers, the core router a route for each shard's
//! pool. Nothing runs beside kronod on the nodes.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, setpriority_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::daemon::{PATIENCE, hugepages, program};
use crate::netns::{Namespace, Process, plug};

/// Where all servers listen.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// The routers, as the nodes see them.
const ACCESS: Ipv4Addr = Ipv4Addr::new(10, 0, 255, 254);
const CORE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);

/// The UDP port of replication.
const REPLICATION: u16 = 9107;

/// The kernel's routing table for the subscribers of the first shard, at the access router.
const TABLE: u16 = 100;

/// How large it is, and what its parts are called. Nodes are counted from 1, shards from 0.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// As many shards as nodes.
    pub nodes: u8,
    /// Whether the halves of a shard know each other. Else sessions are lost with their node.
    pub twins: bool,
}

impl Plan {
    /// All shards.
    pub fn shards(self) -> std::ops::Range<u8> {
        0..self.nodes
    }

    /// All nodes.
    pub fn nodes(self) -> std::ops::RangeInclusive<u8> {
        1..=self.nodes
    }

    /// The node that is to serve a shard.
    pub fn master(self, shard: u8) -> u8 {
        shard % self.nodes + 1
    }

    /// The node that serves it otherwise.
    pub fn slave(self, shard: u8) -> u8 {
        (shard + 1) % self.nodes + 1
    }

    /// Those that have a half of a shard, the master first.
    pub fn halves(self, shard: u8) -> [u8; 2] {
        [self.master(shard), self.slave(shard)]
    }

    /// The shards of which a node has a half.
    pub fn shards_of(self, node: u8) -> Vec<u8> {
        self.shards().filter(|&shard| self.halves(shard).contains(&node)).collect()
    }

    /// A subscriber of a shard.
    pub fn subscriber(shard: u8, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(100, 64, shard, number)
    }

    fn inside(shard: u8, node: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, shard, node)
    }

    fn outside(shard: u8, node: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, 16 * shard + node)
    }

    fn pool(shard: u8) -> String {
        format!("198.51.100.{}/28", 16 * shard)
    }
}

/// The whole of it; everything ends with this value.
#[derive(Debug)]
pub struct Cluster {
    /// Its size.
    pub plan: Plan,
    /// Where all addresses of subscribers are.
    pub subscribers: Namespace,
    /// Where all addresses of servers are.
    pub servers: Namespace,
    /// The router between subscribers and nodes.
    pub access: Router,
    /// The router between nodes and servers.
    pub core: Router,
    /// By number, from 1.
    nodes: Vec<Node>,
    /// A bridge on each side, `inside` and `outside`.
    switch: Namespace,
    dir: TempDir,
}

impl Cluster {
    /// The network, with routers that run and nodes that do not.
    ///
    /// # Errors
    /// If a namespace or an interface cannot be made, or BIRD does not start.
    pub fn new(plan: Plan) -> Result<Self> {
        let dir = TempDir::with_prefix("krono-cluster-")?;
        let (subscribers, servers, switch) =
            (Namespace::new()?, Namespace::new()?, Namespace::new()?);
        let (access, core) = (Namespace::new()?, Namespace::new()?);
        for side in ["inside", "outside"] {
            switch.shell(&format!(
                "ip link add {side} type bridge
                 echo 1 > /proc/sys/net/ipv6/conf/{side}/disable_ipv6
                 ip link set {side} up"
            ))?;
        }
        let uplink = |router, name, side: &str| {
            plug(router, name, &switch, &format!("to-{side}"))?;
            switch.run(&format!("ip link set to-{side} master {side}"))
        };
        uplink(&access, "nodes", "inside")?;
        uplink(&core, "nodes", "outside")?;
        plug(&subscribers, "eth0", &access, "hosts")?;
        plug(&servers, "eth0", &core, "hosts")?;
        let nodes = plan.nodes().map(|number| Node::new(plan, number, &switch, dir.path()));
        let nodes = nodes.collect::<Result<_>>()?;
        host(&subscribers, "100.64.0.0/16", "10.255.0")?;
        host(&servers, "203.0.113.0/24", "10.255.1")?;
        router(&access, &format!("{ACCESS}/16"), "100.64.0.0/16", "10.255.0")?;
        router(&core, &format!("{CORE}/24"), "203.0.113.0/24", "10.255.1")?;
        for shard in plan.shards() {
            let table = TABLE + u16::from(shard);
            access.run(&format!("ip rule add from 100.64.{shard}.0/24 lookup {table}"))?;
        }
        let access = Router::start("access", access, &access_routes(plan), dir.path())?;
        let core = Router::start("core", core, &core_routes(plan), dir.path())?;
        Ok(Cluster { plan, subscribers, servers, access, core, nodes, switch, dir })
    }

    /// A directory for files, removed with the cluster.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A node.
    pub fn node(&self, number: u8) -> &Node {
        &self.nodes[usize::from(number) - 1]
    }

    /// A node, to be started or stopped.
    pub fn node_mut(&mut self, number: u8) -> &mut Node {
        &mut self.nodes[usize::from(number) - 1]
    }

    /// Takes a node's links inside down, or up again.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn set_link(&self, node: u8, state: &str) -> Result<()> {
        let lines = self.plan.shards_of(node).into_iter();
        let lines = lines.map(|shard| format!("ip link set in{node}-{shard} {state}\n"));
        self.switch.shell(&lines.collect::<String>())?;
        Ok(())
    }

    /// Drops everything that halves tell each other, or no longer.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn set_cut(&self, is_cut: bool) -> Result<()> {
        let rule = format!(
            "add table bridge cut
             add chain bridge cut through {{ type filter hook forward priority 0; }}
             add rule bridge cut through udp dport {REPLICATION} drop"
        );
        let rules = if is_cut { &rule } else { "delete table bridge cut" };
        self.switch.shell(&format!("nft '{rules}'"))?;
        Ok(())
    }
}

/// What TCP keeps of a connection, least, first and most, bytes. Little, or a file would be on its
/// way to a slow reader long before that has it.
const BUFFER: &str = "4096 65536 131072";

/// Makes a namespace a host that has all addresses of a network, behind the router `LINK.1`.
fn host(namespace: &Namespace, network: &str, link: &str) -> Result<()> {
    namespace.shell(&format!(
        "ip address add {link}.2/30 dev eth0
         ip route add local {network} dev lo
         echo '{BUFFER}' > /proc/sys/net/ipv4/tcp_rmem
         echo '{BUFFER}' > /proc/sys/net/ipv4/tcp_wmem
         ip route add default via {link}.1
         echo '0 0' > /proc/sys/net/ipv4/ping_group_range"
    ))?;
    Ok(())
}

/// Makes a namespace a router between the nodes and the hosts `network`, which are at `LINK.2`.
fn router(namespace: &Namespace, address: &str, network: &str, link: &str) -> Result<()> {
    namespace.shell(&format!(
        "ip address add {address} dev nodes
         ip address add {link}.1/30 dev hosts
         ip route add {network} via {link}.2
         echo 0 > /proc/sys/net/ipv4/conf/all/send_redirects
         echo 0 > /proc/sys/net/ipv4/conf/nodes/send_redirects
         echo 1 > /proc/sys/net/ipv4/ip_forward"
    ))?;
    Ok(())
}

/// The access router's part of a configuration: a table for each shard's subscribers.
fn access_routes(plan: Plan) -> String {
    let shard = |shard| {
        let (table, number) = (format!("shard{shard}"), TABLE + u16::from(shard));
        let halves = guarded(plan, shard, "0.0.0.0/0", &table, Plan::inside);
        format!(
            "ipv4 table {table};
protocol kernel {{ ipv4 {{ table {table}; import none; export all; }}; kernel table {number}; }}
{halves}"
        )
    };
    plan.shards().map(shard).collect()
}

/// The core router's part: a route for each shard's pool.
fn core_routes(plan: Plan) -> String {
    let kernel = "protocol kernel { ipv4 { import none; export all; }; }\n".to_owned();
    let shard = |shard| guarded(plan, shard, &Plan::pool(shard), "master4", Plan::outside);
    kernel + &plan.shards().map(shard).collect::<String>()
}

/// A route over both halves of a shard, the master's preferred.
fn guarded(
    plan: Plan,
    shard: u8,
    prefix: &str,
    table: &str,
    address: impl Fn(u8, u8) -> Ipv4Addr,
) -> String {
    let route = |(node, preference): (u8, u16)| {
        let via = address(shard, node);
        format!(
            "protocol static {{ ipv4 {{ table {table}; preference {preference}; }}; \
             route {prefix} via {via} bfd yes; }}\n"
        )
    };
    plan.halves(shard).into_iter().zip([200, 100]).map(route).collect()
}

/// BIRD in a namespace, and what the kernel says of its routes as they change.
#[derive(Debug)]
pub struct Router {
    bird: Process,
    monitor: Process,
    namespace: Namespace,
    socket: PathBuf,
}

impl Router {
    fn start(name: &str, namespace: Namespace, routes: &str, dir: &Path) -> Result<Self> {
        let file = |suffix: &str| dir.join(format!("{name}.{suffix}"));
        let (config, socket) = (file("conf"), file("ctl"));
        let text = format!(
            "router id {};
log stderr all;
timeformat log iso long us;
protocol device {{ scan time 10; }}
protocol bfd {{
  debug {{ events }};
  interface \"nodes\" {{ min rx interval 50 ms; min tx interval 50 ms; multiplier 3; }};
}}
{routes}",
            if name == "access" { ACCESS } else { CORE },
        );
        std::fs::write(&config, text)?;
        let tell = ["ip -4 -ts monitor route".to_owned(), bird(&config, &socket)];
        let [monitor, bird] = tell;
        let monitor = namespace.spawn(&monitor, &file("routes"))?;
        let bird = namespace.spawn(&bird, &file("log"))?;
        Ok(Router { bird, monitor, namespace, socket })
    }

    /// What BIRD logged: a line with date and time for each session that came or went.
    pub fn log(&self) -> String {
        self.bird.printed()
    }

    /// What the kernel said of routes, each line after its date and time.
    pub fn routes(&self) -> String {
        self.monitor.printed()
    }

    /// How many BFD sessions are up.
    ///
    /// # Errors
    /// If BIRD does not answer.
    pub fn sessions_up(&self) -> Result<usize> {
        let line = format!("birdc -s {} show bfd sessions", self.socket.display());
        Ok(self.namespace.run(&line)?.lines().filter(|line| line.contains(" Up ")).count())
    }
}

/// BIRD in the foreground, ahead of all that merely computes: it is to notice a silent neighbour
/// also where lcores never sleep.
fn bird(config: &Path, socket: &Path) -> String {
    format!("env TZ=UTC chrt --rr 1 bird -f -c {} -s {}", config.display(), socket.display())
}

/// The lcores of all nodes share a few CPUs and never sleep, but yield when they have nothing to do.
/// Whoever yields forfeits its slice, which weighs little at a high priority: so an lcore polls
/// again after some 100 µs though others compute, and not after as many ms, in which BFD sessions
/// would end.
const NICE: i32 = -20;

/// Room for what comes while an lcore waits for a CPU: four times as much as by default.
const RING: &str = "framecnt=2048";

/// A server with kronod on it.
#[derive(Debug)]
pub struct Node {
    number: u8,
    namespace: Namespace,
    kronod: Option<Process>,
    config: PathBuf,
    socket: PathBuf,
    starts: u32,
}

impl Node {
    fn new(plan: Plan, number: u8, switch: &Namespace, dir: &Path) -> Result<Self> {
        let namespace = Namespace::new()?;
        for shard in plan.shards_of(number) {
            for (side, bridge) in [("in", "inside"), ("out", "outside")] {
                let port = format!("{side}{number}-{shard}");
                plug(&namespace, &format!("{side}{shard}"), switch, &port)?;
                switch.run(&format!("ip link set {port} master {bridge}"))?;
            }
        }
        let (config, socket, key) = (
            dir.join(format!("node{number}.yaml")),
            dir.join(format!("node{number}.sock")),
            dir.join("cluster.key"),
        );
        std::fs::write(&key, "5a".repeat(32))?;
        Command::new("chmod").arg("600").arg(&key).status()?;
        std::fs::write(&config, node_config(plan, number, &socket, &key))?;
        Ok(Node { number, namespace, kronod: None, config, socket, starts: 0 })
    }

    /// Starts kronod and waits until its shards poll.
    ///
    /// # Errors
    /// If they do not in time; with its log.
    pub fn start(&mut self) -> Result<()> {
        self.starts += 1;
        let log = self.config.with_extension(format!("{}.log", self.starts));
        let mut command = self.namespace.command("env");
        command.arg("TZ=UTC").arg(program("kronod")?).arg("--config").arg(&self.config);
        let kronod = self.kronod.insert(Process::start(command, &log)?);
        kronod.wait_for("kronod ready", PATIENCE)?;
        // Not before: who starts computes and does not yield, and would keep the other nodes waiting.
        for thread in std::fs::read_dir(format!("/proc/{}/task", kronod.pid()))? {
            let thread = thread?.file_name().to_string_lossy().parse().ok().and_then(Pid::from_raw);
            setpriority_process(thread, NICE).context("kronod's priority cannot be raised")?;
        }
        Ok(())
    }

    /// Sends kronod a signal, such as `STOP`.
    ///
    /// # Errors
    /// If it does not run.
    pub fn signal(&self, name: &str) -> Result<()> {
        self.kronod.as_ref().context("kronod does not run")?.signal(name)
    }

    /// Waits for the end of kronod after a signal.
    ///
    /// # Errors
    /// If it does not end in time.
    pub fn wait(&mut self) -> Result<()> {
        let mut kronod = self.kronod.take().context("kronod does not run")?;
        kronod.wait(PATIENCE).map(drop)
    }

    /// What it has logged since it was started last.
    pub fn log(&self) -> String {
        self.kronod.as_ref().map(Process::printed).unwrap_or_default()
    }

    /// What `kronoctl --json` answers to a command line.
    ///
    /// # Errors
    /// If kronoctl fails or does not print JSON.
    pub fn ask(&self, line: &str) -> Result<Value> {
        let mut kronoctl = Command::new(program("kronoctl")?);
        kronoctl.arg("--socket").arg(&self.socket).arg("--json").args(line.split(' '));
        let output = kronoctl.output()?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            bail!("node {}: kronoctl {line}: {complaint}", self.number);
        }
        ensure!(!output.stdout.is_empty(), "node {}: no answer to {line}", self.number);
        serde_json::from_slice(&output.stdout).with_context(|| format!("kronoctl {line}"))
    }
}

/// How long a node waits for its twin's answer to be asked again, and for routes to converge.
const CLUSTER: &str = "heartbeat: 10ms, silence: 100ms, converge: 2s";

fn node_config(plan: Plan, node: u8, socket: &Path, key: &Path) -> String {
    let shards = plan.shards_of(node);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let lcore = |lcore: usize| format!("{lcore}@{}", (usize::from(node) + lcore) % cpus);
    let lcores = (0..shards.len()).map(lcore).collect::<Vec<_>>().join(",");
    let hugepages = hugepages();
    let mut text = format!(
        "eal: {{ memory: 64M, hugepages: {hugepages}, lcores: \"{lcores}\", idle: yield }}\n"
    );
    if plan.twins {
        let key = key.display();
        text +=
            &format!("cluster: {{ node: {node}, key: {key}, port: {REPLICATION}, {CLUSTER} }}\n");
    }
    text += "ports:\n";
    for (place, shard) in shards.iter().enumerate() {
        for (offset, side) in ["in", "out"].into_iter().enumerate() {
            let device = format!("net_af_packet{},iface={side}{shard},{RING}", 2 * place + offset);
            text += &format!("  - {{ name: {side}{shard}, device: \"{device}\" }}\n");
        }
    }
    text += "shards:\n";
    for (lcore, shard) in shards.iter().enumerate() {
        text += &shard_config(plan, *shard, node, lcore);
    }
    text + &format!(
        "nat: {{ sessions: 64K }}
control: {{ socket: \"{}\" }}
metrics: {{ listen: \"127.0.0.1:0\" }}\n",
        socket.display()
    )
}

fn shard_config(plan: Plan, shard: u8, node: u8, lcore: usize) -> String {
    let session = |neighbour| {
        format!("{{ neighbour: {neighbour}, transmit: 50ms, receive: 50ms, multiplier: 3 }}")
    };
    let (inside, outside) = (Plan::inside(shard, node), Plan::outside(shard, node));
    let (access, core, pool) = (session(ACCESS), session(CORE), Plan::pool(shard));
    let twin = match plan.halves(shard) {
        [master, slave] if plan.twins => {
            let peer = Plan::outside(shard, if node == master { slave } else { master });
            format!(
                "    twin: {{ master: {master}, slave: {slave}, side: outside, peer: {peer} }}\n"
            )
        }
        _ => String::new(),
    };
    format!(
        "  - id: {shard}
    lcore: {lcore}
    inside:
      port: in{shard}
      address: {inside}/16
      routes: [ {{ prefix: 100.64.{shard}.0/24, via: {ACCESS} }} ]
      bfd: [ {access} ]
    outside:
      port: out{shard}
      address: {outside}/24
      routes: [ {{ prefix: 0.0.0.0/0, via: {CORE} }} ]
      bfd: [ {core} ]
    nat: {{ pool: [ {pool} ] }}
{twin}"
    )
}

/// How long something takes that the cluster does by itself at most, such as catching up.
pub const SETTLING: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_is_the_master_of_one_shard_and_the_slave_of_another() {
        for nodes in 2..=3 {
            let plan = Plan { nodes, twins: true };
            let of = |role: fn(Plan, u8) -> u8| {
                let mut nodes = plan.shards().map(|shard| role(plan, shard)).collect::<Vec<_>>();
                nodes.sort_unstable();
                nodes
            };
            let all = plan.nodes().collect::<Vec<_>>();
            assert_eq!((of(Plan::master), of(Plan::slave)), (all.clone(), all));
            assert!(plan.shards().all(|shard| plan.master(shard) != plan.slave(shard)));
            assert!(plan.nodes().all(|node| plan.shards_of(node).len() == 2));
        }
    }
}
