//! bench-gen around kronod: two processes joined by memif, without root, devices or huge pages.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use krono_tests::daemon::{Kronod, program};
use serde_json::Value;

/// The vdev string of one end of a memif in `dir`.
fn memif(dir: &Path, number: u32, role: &str) -> String {
    let socket = dir.join(format!("{number}.sock"));
    format!("net_memif{number},role={role},id=0,socket={},socket-abstract=no", socket.display())
}

/// A configuration with the capacity for so many sessions.
fn config(dir: &Path, sessions: u32) -> String {
    let (access, core) = (memif(dir, 0, "server"), memif(dir, 1, "server"));
    format!(
        "eal: {{ memory: 64M, hugepages: off, lcores: \"0@0\", idle: yield }}
ports:
  - {{ name: access, device: \"{access}\" }}
  - {{ name: core, device: \"{core}\" }}
shards:
  - id: 0
    lcore: 0
    inside:
      port: access
      address: 10.0.0.1/24
      routes: [ {{ prefix: 100.64.0.0/10, via: 10.0.0.254 }} ]
    outside:
      port: core
      address: 192.0.2.1/24
      routes: [ {{ prefix: 0.0.0.0/0, via: 192.0.2.254 }} ]
    nat: {{ pool: [ 198.51.100.0/28 ] }}
nat: {{ sessions: {sessions} }}
control: {{ socket: {} }}
metrics: {{ listen: \"127.0.0.1:0\" }}\n",
        dir.join("kronod.sock").display(),
    )
}

/// 2,000 flows of all protocols for three seconds, slow enough for two processes on one CPU.
fn profile(dir: &Path) -> String {
    let (inside, outside) = (memif(dir, 0, "client"), memif(dir, 1, "client"));
    format!(
        "eal: {{ memory: 128M, hugepages: off, lcores: \"0@0\", idle: yield }}
inside: {{ device: \"{inside}\", address: 10.0.0.254/24, next_hop: 10.0.0.1 }}
outside: {{ device: \"{outside}\", address: 192.0.2.254/24, next_hop: 192.0.2.1 }}
protocols: {{ udp: 50, tcp: 40, icmp: 10 }}
flows: 2000
rate: 2kpps
end: {{ after: 3s }}\n"
    )
}

/// bench-gen around a kronod with so much room: how it ended, its report, and how many packets
/// kronod has sent on. `after_start` is given the number of its process.
fn measure(
    sessions: u32,
    command: &[&str],
    after_start: impl FnOnce(u32) -> Result<()>,
) -> Result<(Output, Value, u64)> {
    let dir = tempfile::tempdir()?;
    let dir = dir.path();
    let mut kronod = Kronod::replaying(dir, &config(dir, sessions), dir.join("kronod.sock"), &[])?;
    kronod.wait_until_ready()?;
    let (file, json) = (dir.join("profile.yaml"), dir.join("report.json"));
    std::fs::write(&file, profile(dir))?;
    let child = Command::new(program("bench-gen")?)
        .args(command)
        .args(["--quiet", "--profile"])
        .arg(&file)
        .arg("--json")
        .arg(&json)
        .env("KRONOD", kronod.pid().to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    after_start(child.id())?;
    let output = child.wait_with_output()?;
    let report = std::fs::read_to_string(&json)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let stats = &kronod.stats()?[0];
    ensure!(stats.is_balanced(), "{stats:?}");
    let sent = stats.sent;
    ensure!(kronod.stop()? == 0);
    Ok((output, serde_json::from_str(&report)?, sent))
}

fn run(sessions: u32) -> Result<(Output, Value, u64)> {
    measure(sessions, &["run"], |_| Ok(()))
}

/// The median of a figure.
fn figure(report: &Value, name: &str) -> Result<f64> {
    let figures = report["figures"].as_array().context("a report has figures")?;
    let figure = figures.iter().find(|figure| figure["name"] == name);
    let median = figure.and_then(|figure| figure["median"].as_f64());
    median.with_context(|| format!("no {name}: {figures:?}"))
}

#[test]
fn every_packet_that_kronod_translates_is_right() -> Result<()> {
    let (output, report, sent) = run(10_000)?;
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    ensure!(report["passed"] == true, "{}", report["complaints"]);
    ensure!(output.status.success(), "{}", output.status);
    ensure!(sent > 10_000, "kronod has forwarded {sent} packets: 2,000 a second both ways");
    Ok(())
}

/// The other way round: what a device does not do is seen.
#[test]
fn sessions_that_do_not_fit_are_missed() -> Result<()> {
    let (_, report, _) = run(1_000)?;
    // Half of the sessions get no answer, and go on asking.
    let loss = figure(&report, "loss")?;
    ensure!(loss > 10.0, "{loss} %");
    Ok(())
}

#[test]
fn an_interrupted_run_is_told_as_partial() -> Result<()> {
    let (output, report, _) = measure(10_000, &["run"], |pid| {
        sleep(Duration::from_millis(1500));
        let status = Command::new("kill").args(["-INT", &pid.to_string()]).status()?;
        ensure!(status.success(), "kill: {status}");
        Ok(())
    })?;
    ensure!(output.status.code() == Some(1), "{}", output.status);
    ensure!(report["partial"] == true && report["passed"] == false, "{report}");
    ensure!(figure(&report, "arrived up")? > 0.0);
    Ok(())
}

/// kronod is stopped for half a second (2,000 flows, so that each has a packet in a second), and
/// what bench-gen says is about that.
#[test]
fn a_frozen_kronod_is_an_outage() -> Result<()> {
    let command = "kill -STOP $KRONOD; sleep 0.5; kill -CONT $KRONOD";
    let options = ["outage", "--at", "1s", "--duration", "4s", "--run", command];
    let (output, report, _) = measure(10_000, &options, |_| Ok(()))?;
    ensure!(output.status.success(), "{}: {}", output.status, report["complaints"]);
    let longest = figure(&report, "longest outage of a flow")?;
    ensure!((450.0..1500.0).contains(&longest), "{longest} ms");
    let lost = figure(&report, "packets lost")?;
    ensure!(lost == 0.0, "{lost} packets were lost: they wait in the ring");
    Ok(())
}
