//! What real servers and clients do. Nothing here knows which NAT lies between them.

use std::collections::HashSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use krono_tests::lab::{Lab, SERVERS};
use krono_tests::netns::{Namespace, Process, eventually};
use serde_json::Value;

/// The server that clients talk to.
pub(crate) const SERVER: Ipv4Addr = SERVERS[0];

const START: Duration = Duration::from_secs(30);
const WEB: &str = include_str!("web.py");

/// Starts a web server on `port`, which serves the files in the lab's directory `www`.
pub(crate) fn web_server(lab: &Lab, host: &Namespace, port: u16) -> Result<Process> {
    let script = lab.dir().join("web.py");
    let www = lab.dir().join("www");
    fs::create_dir_all(&www)?;
    fs::write(&script, WEB)?;
    let line = format!("python3 {} {port} {}", script.display(), www.display());
    let mut server = host.spawn(&line, &lab.dir().join(format!("web{}-{port}.log", host.pid())))?;
    server.wait_for("serving", START)?;
    Ok(server)
}

/// Who the server of `url` (its path `/peer` or `/late`) says that the client is.
pub(crate) fn seen_by(host: &Namespace, url: &str) -> Result<SocketAddrV4> {
    let body = host.run(&format!("curl --silent --show-error --fail --max-time 20 {url}"))?;
    body.trim().parse().with_context(|| format!("{url} answered '{body}'"))
}

/// Fetches 100 MB and compares the SHA-256 of what was sent and what came.
pub(crate) fn fetch_a_large_file(lab: &Lab, host: &Namespace) -> Result<()> {
    let original = lab.dir().join("www/large");
    let fetched = lab.dir().join("fetched");
    fs::create_dir_all(lab.dir().join("www"))?;
    let mut write = Command::new("dd");
    write.args(["if=/dev/urandom", "bs=1M", "count=100", "status=none"]);
    ensure!(write.arg(format!("of={}", original.display())).status()?.success(), "dd failed");
    let _web = web_server(lab, &lab.internet, 80)?;
    let url = format!("http://{SERVER}/large");
    host.run(&format!("curl --silent --show-error --fail --output {} {url}", fetched.display()))?;
    let (sent, came) = (sha256(&original)?, sha256(&fetched)?);
    ensure!(sent == came, "sent {sent}, came {came}");
    Ok(())
}

fn sha256(file: &PathBuf) -> Result<String> {
    let output = Command::new("sha256sum").arg(file).output()?;
    ensure!(output.status.success(), "sha256sum {}: {}", file.display(), output.status);
    let printed = String::from_utf8(output.stdout)?;
    Ok(printed.split(' ').next().unwrap_or_default().to_owned())
}

/// Opens 200 connections that are alive at once, and returns what the server saw of each.
pub(crate) fn fetch_in_parallel(lab: &Lab, host: &Namespace) -> Result<HashSet<SocketAddrV4>> {
    let _web = web_server(lab, &lab.internet, 80)?;
    let peers = host.shell(&parallel_curl(200))?;
    let peers: Vec<SocketAddrV4> =
        peers.lines().map(|line| line.parse().context(line.to_owned())).collect::<Result<_>>()?;
    ensure!(peers.len() == 200, "{} of 200 answers", peers.len());
    Ok(peers.into_iter().collect())
}

/// Opens `count` connections at once; how many were answered, and how many were not.
pub(crate) fn try_in_parallel(host: &Namespace, count: usize) -> Result<(usize, usize)> {
    if count == 0 {
        return Ok((0, 0));
    }
    let curl = parallel_curl(count);
    let peers = host.shell(&format!("{curl} --connect-timeout 4 2>/dev/null || true"))?;
    let answered = peers.lines().count();
    Ok((answered, count - answered))
}

fn parallel_curl(count: usize) -> String {
    format!(
        "curl --silent --show-error --fail --no-progress-meter \
         --parallel --parallel-immediate --parallel-max {count} \
         $(for i in $(seq {count}); do echo http://{SERVER}/late; done)"
    )
}

/// A stream of small packets both ways at once, until it is dropped.
pub(crate) struct Load {
    _client: Process,
    _server: Process,
}

impl Load {
    /// Starts to send.
    pub(crate) fn start(lab: &Lab, host: &Namespace) -> Result<Self> {
        let _server = iperf3_server(lab)?;
        let line =
            format!("iperf3 --client {SERVER} --udp --bidir --time 60 --bitrate 100M -l 200");
        let mut client =
            host.spawn(&format!("{line} --forceflush"), &lab.dir().join("load.log"))?;
        client.wait_for("sec", START)?;
        Ok(Load { _client: client, _server })
    }
}

fn iperf3_server(lab: &Lab) -> Result<Process> {
    // Bound, or it would answer UDP from whichever address routing prefers.
    let line = format!("iperf3 --server --forceflush --bind {SERVER}");
    let mut server = lab.internet.spawn(&line, &lab.dir().join("iperf3.log"))?;
    server.wait_for("listening", START)?;
    Ok(server)
}

/// Runs iperf3 both ways over TCP, and over UDP.
pub(crate) fn measure_throughput(lab: &Lab, host: &Namespace) -> Result<()> {
    let _server = iperf3_server(lab)?;
    for direction in ["", " --reverse"] {
        let report = iperf3(host, &format!("--time 2{direction}"))?;
        let bytes = report["end"]["sum_received"]["bytes"].as_u64().unwrap_or(0);
        println!("TCP{direction}: {:.0} Mbit/s", bytes as f64 * 8e-6 / 2.0);
        ensure!(bytes > 1_000_000, "TCP{direction}: {bytes} bytes in 2 s: {report}");
    }
    let report = iperf3(host, "--time 2 --udp --bitrate 50M --length 1400")?;
    let figure = |name: &str| report["end"]["sum"][name].as_u64().unwrap_or(0);
    let (packets, lost) = (figure("packets"), figure("lost_packets"));
    println!("UDP: {lost} of {packets} packets lost");
    ensure!(packets > 1000 && lost < packets / 2, "UDP: {report}");
    Ok(())
}

fn iperf3(host: &Namespace, options: &str) -> Result<Value> {
    let printed = host.run(&format!("iperf3 --json --client {SERVER} {options}"))?;
    serde_json::from_str(&printed).with_context(|| printed.clone())
}

/// Resolves a name over UDP, which only the lab's server knows.
pub(crate) fn resolve(lab: &Lab, host: &Namespace) -> Result<()> {
    let options = "--no-daemon --no-resolv --no-hosts --bind-interfaces --user=root --log-queries";
    let zone = format!("--listen-address={SERVER} --address=/krono.test/203.0.113.77");
    let line = format!("dnsmasq --conf-file=/dev/null {options} {zone}");
    let mut server = lab.internet.spawn(&line, &lab.dir().join("dnsmasq.log"))?;
    server.wait_for("started", START)?;
    let answer = host.run(&format!("dig +short +tries=2 +time=2 @{SERVER} host.krono.test"))?;
    ensure!(answer.trim() == "203.0.113.77", "dig printed '{answer}'");
    Ok(())
}

/// Pings `address`; every request must be answered.
///
/// A first one may meet neighbours who are not known yet. A busy machine takes its time to make
/// them known, and of the packets that wait for a neighbour only the newest is kept.
pub(crate) fn ping(host: &Namespace, address: Ipv4Addr) -> Result<()> {
    host.run(&format!("ping -n -c 1 -W 5 {address}"))?;
    let printed = host.run(&format!("ping -n -c 5 -i 0.1 -W 2 {address}"))?;
    ensure!(printed.contains(" 0% packet loss"), "{printed}");
    Ok(())
}

/// The hops to [`SERVER`] that traceroute finds with `mode`: `--icmp`, or `--udp` to ports from 33434.
pub(crate) fn traceroute(host: &Namespace, mode: &str) -> Result<Vec<String>> {
    let printed =
        host.run(&format!("traceroute -n {mode} --queries=2 --wait=2 --max-hops=5 {SERVER}"))?;
    let hop = |line: &str| line.split_whitespace().nth(1).unwrap_or_default().to_owned();
    Ok(printed.lines().skip(1).map(hop).collect())
}

/// What a STUN client concludes from a server on two addresses: its line `Primary: …`.
pub(crate) fn stun_verdict(lab: &Lab, host: &Namespace) -> Result<String> {
    let [first, second] = SERVERS;
    let line = format!(
        "turnserver -n --stun-only --no-tls --no-dtls --no-tcp --no-cli --log-file=stdout \
         --listening-ip={first} --listening-ip={second} --pidfile={}",
        lab.dir().join("turnserver.pid").display()
    );
    let _server = lab.internet.spawn(&line, &lab.dir().join("turnserver.log"))?;
    let last_socket = format!("{second}:3479");
    eventually("coturn listens", START, || {
        lab.internet.run("ss -uln").is_ok_and(|sockets| sockets.contains(&last_socket))
    })?;
    // Its exit code is the verdict's number.
    let output = host.attempt(&format!("stun {first}"))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let verdict = printed.lines().find_map(|line| line.strip_prefix("Primary: "));
    verdict.map(str::to_owned).with_context(|| format!("stun printed: {printed}"))
}
