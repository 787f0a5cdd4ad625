//! A loaded worker makes no system call: strace watches one while it translates.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etherparse::PacketBuilder;
use krono_tests::capture::file::Writer;
use krono_tests::daemon::{Kronod, PATIENCE};

const FLOWS: u16 = 1000;
const WATCHED: Duration = Duration::from_secs(2);

/// A capture with one datagram of each flow; the device sends it again and again.
fn write_flows(path: &Path) -> Result<()> {
    let mut capture = Writer::create(path)?;
    for flow in 0..FLOWS {
        let [high, low] = flow.to_be_bytes();
        let packet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1])
            .ipv4([100, 64, high, low], [203, 0, 113, 7], 64)
            .udp(1024 + flow, 53);
        let mut bytes = Vec::new();
        packet.write(&mut bytes, &[0x5a; 18])?;
        capture.write(0, &bytes)?;
    }
    capture.finish()
}

/// A configuration for kronod in `dir`, idle in this way, with this device towards subscribers.
fn config(dir: &Path, idle: &str, access: &str) -> String {
    format!(
        "eal: {{ memory: 128M, hugepages: off, lcores: \"0@0\", idle: {idle} }}
ports:
  - {{ name: access, device: \"{access}\" }}
  - {{ name: core, device: \"net_null0,no-rx=1\" }}
shards:
  - id: 0
    lcore: 0
    inside:
      port: access
      mac: \"02:00:00:00:00:01\"
      address: 10.0.0.1/24
      routes: [ {{ prefix: 100.64.0.0/10, via: 10.0.0.254 }} ]
    outside:
      port: core
      address: 192.0.2.1/24
      routes: [ {{ prefix: 0.0.0.0/0, via: 192.0.2.254 }} ]
      neighbours: [ {{ address: 192.0.2.254, mac: \"02:00:00:00:00:fe\" }} ]
    nat: {{ pool: [ 198.51.100.0/28 ] }}
control: {{ socket: {} }}
metrics: {{ listen: \"127.0.0.1:0\" }}\n",
        dir.join("kronod.sock").display(),
    )
}

fn start(dir: &Path, config: &str) -> Result<Kronod> {
    let mut kronod = Kronod::replaying(dir, config, dir.join("kronod.sock"), &[])?;
    kronod.wait_until_ready()?;
    Ok(kronod)
}

/// The thread of a process that has used the CPU most, which is the one that polls.
fn busiest_thread(pid: u32) -> Result<u32> {
    let mut busiest = (0, 0);
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?;
        let stat = fs::read_to_string(task.path().join("stat"))?;
        // proc_pid_stat(5): user time is the 14th field; the 2nd, a name, ends with ')'.
        let fields: Vec<_> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let used: u64 = fields.get(11).context("no time in stat")?.parse()?;
        busiest = busiest.max((used, task.file_name().to_string_lossy().parse()?));
    }
    Ok(busiest.1)
}

/// The system calls that a thread makes in two seconds, as strace prints them.
fn system_calls_of(thread: u32, log: &Path) -> Result<String> {
    let mut strace = Command::new("strace")
        .args(["--quiet=all", "--trace=all", "--signal=none", "--output"])
        .arg(log)
        .args(["--attach", &thread.to_string()])
        .stderr(Stdio::null())
        .spawn()
        .context("strace is not there")?;
    sleep(WATCHED);
    ensure!(strace.try_wait()?.is_none(), "strace may not look at a process here");
    let interrupted = Command::new("kill").args(["-INT", &strace.id().to_string()]).status()?;
    ensure!(interrupted.success());
    strace.wait()?;
    Ok(fs::read_to_string(log)?)
}

#[test]
fn a_worker_that_translates_makes_no_system_call() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let flows = dir.path().join("flows.pcap");
    write_flows(&flows)?;
    let device = format!("net_pcap0,rx_pcap={},infinite_rx=1", flows.display());
    let kronod = start(dir.path(), &config(dir.path(), "busy", &device))?;
    let sent = || Ok::<_, anyhow::Error>(kronod.stats()?[0].sent);
    let deadline = Instant::now() + PATIENCE;
    while sent()? < 100_000 {
        ensure!(Instant::now() < deadline, "it does not translate:\n{}", kronod.log());
        sleep(Duration::from_millis(50));
    }
    let worker = busiest_thread(kronod.pid())?;
    let before = sent()?;
    let calls = system_calls_of(worker, &dir.path().join("strace.log"))?;
    let translated = sent()? - before;
    println!("{translated} packets translated under strace");
    ensure!(translated > 100_000, "only {translated} packets were translated");
    ensure!(calls.trim().is_empty(), "the worker made system calls:\n{calls}");
    ensure!(kronod.stop()? == 0);
    Ok(())
}

/// The other way round: calls that are made are seen.
#[test]
fn an_idle_worker_that_shares_its_cpu_is_seen_to_yield() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let kronod = start(dir.path(), &config(dir.path(), "yield", "net_null1,no-rx=1"))?;
    sleep(Duration::from_secs(1));
    let calls = system_calls_of(busiest_thread(kronod.pid())?, &dir.path().join("strace.log"))?;
    ensure!(calls.contains("sched_yield"), "no call seen: {calls}");
    ensure!(kronod.stop()? == 0);
    Ok(())
}
