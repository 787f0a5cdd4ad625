//! Shards that share ports by queues, on devices that cannot steer.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

const SHARED_PORTS: &str = r#"
eal: { memory: 64M, hugepages: off, lcores: "0@0,1@0,2@0", idle: yield }
ports:
  - { name: access, device: net_null0 }
  - { name: core, device: net_null1 }
  - { name: spare, device: net_null2 }
shards:
  - id: 0
    lcore: 0
    inside: { port: access, vlan: 100, address: 10.0.0.1/24 }
    outside: { port: core, mac: "02:00:00:00:01:10", address: 192.0.2.1/24 }
    nat: { pool: [ 198.51.100.0/28 ] }
  - id: 1
    lcore: 1
    inside: { port: access, queue: 1, vlan: 101, address: 10.0.1.1/24 }
    outside: { port: core, queue: 1, mac: "02:00:00:00:01:11", address: 192.0.2.2/24 }
    nat: { pool: [ 198.51.100.16/28 ] }
  - id: 2
    lcore: 2
    inside: { port: spare, vlan: 100, address: 10.0.2.1/24 }
    outside: { port: spare, vlan: 200, address: 192.0.2.3/24 }
    nat: { pool: [ 198.51.100.32/28 ] }
nat: { sessions: 16K }
"#;

#[test]
fn each_port_that_cannot_steer_is_warned_of_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("shared-ports.yaml");
    let socket = directory.path().join("kronod.sock");
    let ends = "metrics: { listen: \"127.0.0.1:0\" }";
    let text = format!("{SHARED_PORTS}{ends}\ncontrol: {{ socket: {} }}\n", socket.display());
    std::fs::write(&file, text).unwrap();
    let mut kronod = Command::new(env!("CARGO_BIN_EXE_kronod"))
        .arg("--config")
        .arg(&file)
        .args(["--log-level", "info"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();

    let mut log = Vec::new();
    for line in BufReader::new(kronod.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        if line.contains("kronod ready") {
            let id = kronod.id().to_string();
            assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        }
        log.push(line);
    }
    assert_eq!(kronod.wait().unwrap().code(), Some(0), "{log:#?}");
    assert!(log.iter().any(|line| line.contains("kronod ready")), "{log:#?}");
    let warnings: Vec<_> = log.iter().filter(|line| line.contains("steer")).collect();
    assert_eq!(warnings.len(), 2, "{log:#?}");
    for (port, device, warning) in
        [("access", "net_null0", warnings[0]), ("core", "net_null1", warnings[1])]
    {
        let expected = format!(
            "port {port} (driver net_null): device {device}: cannot steer frames by destination \
             MAC: Function not implemented; what arrives on another queue than its shard's is \
             dropped as mac_not_ours or vlan_unknown"
        );
        assert!(warning.contains("WARN") && warning.contains(&expected), "{warning}");
    }
}
