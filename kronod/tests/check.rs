//! `kronod --check` and the start of `kronod`: what is printed where, and the exit codes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn kronod(file: &Path, options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kronod"));
    command.arg("--config").arg(file).args(options).output().unwrap()
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Standard error, without the name of the file in front of each line.
fn complaints(output: &Output, file: &Path) -> Vec<String> {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    let name = format!("{}:", file.display());
    text.lines().map(|line| line.strip_prefix(&name).unwrap_or(line).to_owned()).collect()
}

#[test]
fn ten_mistakes_are_ten_complaints() {
    let file = data("ten-mistakes.yaml");
    let expected = [
        "3: eal.memory: 512MB is not a size; \
         expected a size from 16M to 16T (K, M, G and T are powers of 1024)",
        "6: ports[1].device: eth0 is not a device; expected a PCI address such as \
         \"0000:3b:00.1\" or a virtual device such as \"net_af_packet0,iface=eth1\"",
        "11: shards[0].inside.port: acces is not declared under ports; \
         expected one of access, core",
        "20: shards[0].nat.pool[1]: 10.0.0.0/33 is not a prefix; \
         expected an IPv4 prefix such as 198.51.100.0/28",
        "21: shards[0].nat.pool[2]: 100.100.0.0/28 overlaps the inside network 100.64.0.0/10, \
         shards[0].inside.routes[0].prefix (line 13); expected addresses that nobody else has",
        "23: shards[1].lcore: 0 is taken by shards[0].lcore (line 9); \
         expected an lcore of its own for each shard",
        "26: shards[1].nat.pool[0]: 198.51.100.8/29 overlaps 198.51.100.0/28, \
         shards[0].nat.pool[0] (line 19); expected addresses that are in no other pool",
        "28: nat.sesions: sesions is not a key here; \
         expected sessions, which is the nearest name",
        "29: nat.timeouts.udp: 300 is not a duration; \
         expected a duration such as 5m, 60s, 2h4m or 500ms (units d, h, m, s, ms)",
        "31: firewall.rules[0].port: only TCP and UDP have ports; \
         expected protocol: tcp or protocol: udp in the same rule",
    ];
    // Whether it is only checked or to be run, nothing is started with it.
    for options in [&["--check"][..], &[]] {
        let output = kronod(&file, options);
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(complaints(&output, &file), expected);
        assert_eq!(expected.len(), 10);
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_valid_file_with_a_warning_is_exit_0() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("warned.yaml");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/null.yaml");
    let text = std::fs::read_to_string(example).unwrap();
    let text = text.replace("sessions: 16K", "timeouts: { udp: 30s }");
    std::fs::write(&file, &text).unwrap();
    let line = 1 + text.lines().position(|line| line.contains("30s")).unwrap();
    let output = kronod(&file, &["--check"]);
    assert_eq!(output.status.code(), Some(0));
    let expected = format!(
        "{line}: warning: nat.timeouts.udp: 30s is below the minimum of RFC 4787, REQ-5; \
         expected 2m or more"
    );
    assert_eq!(complaints(&output, &file), [expected]);
    assert!(String::from_utf8(output.stdout).unwrap().contains(": ok: 1 shard, 2 ports"));
}

#[test]
fn a_file_that_is_not_there_is_exit_2() {
    let file = data("no-such.yaml");
    let output = kronod(&file, &["--check"]);
    assert_eq!(output.status.code(), Some(2));
    let said = complaints(&output, &file);
    assert!(said[0].starts_with("1: file: the file cannot be read: No such file"), "{said:?}");
}
