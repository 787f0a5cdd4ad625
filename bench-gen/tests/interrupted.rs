//! Ctrl-C in the middle of the real program: a partial report of what had been measured, exit 1.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

/// A self-check over rings needs a profile, but not its devices.
const PROFILE: &str = "\
eal: { memory: 128M, hugepages: off, lcores: \"0@0\", idle: yield }
inside: { device: net_null0, address: 10.0.0.254/24, next_hop: 10.0.0.1 }
outside: { device: net_null1, address: 192.0.2.254/24, next_hop: 192.0.2.1 }
flows: 1000
";

/// The report of a command that is interrupted soon after a line on stderr has this in it.
fn interrupted(command: &str, at: &str) -> Value {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("profile.yaml"), PROFILE).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_bench-gen"))
        .args(command.split(' '))
        .args(["--json", "report.json", "--html", "report.html"])
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said: Vec<String> = Vec::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        if line.contains(at) && !said.iter().any(|line| line.contains(at)) {
            sleep(Duration::from_millis(400));
            let pid = child.id().to_string();
            assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        }
        said.push(line);
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{said:?}");
    let summary = String::from_utf8(output.stdout).unwrap();
    assert!(summary.contains("PARTIAL"), "{summary}{said:?}");
    let page = fs::read_to_string(dir.path().join("report.html")).unwrap();
    assert!(page.contains("partial"), "the page says so, too");
    let report = fs::read_to_string(dir.path().join("report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["partial"], &report["passed"]), (&true.into(), &false.into()));
    report
}

fn rows(report: &Value, title: &str) -> usize {
    let tables = report["tables"].as_array().unwrap();
    let table = tables.iter().find(|table| table["title"] == title);
    table.unwrap_or_else(|| panic!("no {title}: {tables:?}"))["rows"].as_array().unwrap().len()
}

#[test]
fn a_self_check() {
    let report = interrupted("self-check --profile profile.yaml --trial 3s", "as fast as possible");
    let figures = report["figures"].as_array().unwrap();
    assert!(figures.iter().any(|figure| figure["name"] == "median latency up at 1,000 packets/s"));
}

#[test]
fn a_run() {
    let report = interrupted("run --simulate", "traffic");
    assert_eq!(rows(&report, "Packets of the last repeat"), 2);
}

#[test]
fn a_search() {
    let report = interrupted("throughput --simulate --trial 200ms", "trials remain");
    assert!(rows(&report, "Trials") >= 1);
}

#[test]
fn an_outage() {
    let report = interrupted("outage --simulate --run true --at 200ms", "traffic");
    assert_eq!(rows(&report, "Packets of the last repeat"), 2);
    assert_eq!(report["plots"][0]["title"], "Outage timeline");
}
