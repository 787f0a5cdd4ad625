//! What SIGHUP may change, and what it may not.

use std::path::Path;

use kronod::config::{Config, Memory, ReloadPlan, load_text, reload_plan};

/// `configs/cgnat.yaml` with these edits, whose left sides occur exactly once.
fn edited(edits: &[(&str, &str)]) -> Config {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/cgnat.yaml");
    let good = std::fs::read_to_string(file).unwrap();
    let text = edits.iter().fold(good, |text, (old, new)| {
        assert_eq!(text.matches(old).count(), 1, "{old}");
        text.replace(old, new)
    });
    load_text("f.yaml", &text, &Memory::unlimited()).unwrap_or_else(|said| panic!("{said}")).0
}

fn plan(edits: &[(&str, &str)]) -> ReloadPlan {
    reload_plan(&edited(&[]), &edited(edits))
}

#[test]
fn the_same_file_changes_nothing() {
    let plan = plan(&[]);
    assert!(plan.is_empty());
    assert_eq!(plan.config, edited(&[]));
}

#[test]
fn what_decides_about_packets_is_applied() {
    let edits = [
        ("filtering: address-and-port-dependent", "filtering: address-dependent"),
        ("hairpinning: true", "hairpinning: false"),
        ("udp: 5m", "udp: 6m"),
        ("    - 192.168.100.0/24", "    - 192.168.101.0/24"),
        ("outside: \"198.51.100.1:8080\"", "outside: \"198.51.100.2:8080\""),
        ("inbound: allow", "inbound: drop"),
        ("port: 25 }", "port: 26 }"),
    ];
    let plan = plan(&edits);
    let for_both =
        |field: &str| [format!("shards[0].nat.{field}"), format!("shards[1].nat.{field}")];
    let mut expected = vec!["firewall.inbound".to_owned(), "firewall.rules".to_owned()];
    expected.extend(["filtering", "hairpinning", "timeouts", "exclude"].map(for_both).concat());
    // The static mapping is in the pool of the first shard only.
    expected.push("shards[0].nat.static".to_owned());
    let sorted = |mut list: Vec<String>| {
        list.sort();
        list
    };
    assert_eq!(sorted(plan.applied.clone()), sorted(expected));
    assert_eq!(plan.restart, [""; 0]);
    assert_eq!(plan.config, edited(&edits));
}

#[test]
fn what_memory_ports_and_identity_depend_on_needs_a_restart() {
    let edits = [
        ("memory: 256M", "memory: 128M"),
        ("hugepages: auto ", "hugepages: off "),
        ("lcores: \"0@0,1@1\"", "lcores: \"0@0,2@1\""),
        ("idle: yield", "idle: busy"),
        ("iface=kr-in1", "iface=kr-in7"),
        ("lcore: 1\n", "lcore: 2\n"),
        ("address: 10.0.1.1/24", "address: 10.0.1.2/24"),
        ("address: 192.0.2.2/24", "address: 192.0.2.3/24"),
        ("pool: [ 198.51.100.16/28 ]", "pool: [ 198.51.100.32/28 ]"),
        ("sessions: 128K", "sessions: 64K"),
        ("ports: 1024-65535", "ports: 2048-65535"),
        ("ports_per_subscriber: 2048", "ports_per_subscriber: 1024"),
        (
            "        - { neighbour: 192.0.2.254, transmit: 50ms, receive: 50ms, multiplier: 3 }\n",
            "",
        ),
        ("clock: tsc", "clock: capture"),
        ("/run/kronod.sock", "/run/other.sock"),
        ("127.0.0.1:9105", "127.0.0.1:9106"),
    ];
    let plan = plan(&edits);
    assert_eq!(plan.applied, [""; 0]);
    let expected = [
        "eal.memory",
        "eal.hugepages",
        "eal.lcores",
        "eal.idle",
        "ports",
        "clock",
        "control.socket",
        "metrics.listen",
        "shards[0].outside",
        "shards[0].nat.ports",
        "shards[0].nat.ports_per_subscriber",
        "shards[1].lcore",
        "shards[1].inside",
        "shards[1].outside",
        "shards[1].nat.pool",
        "shards[1].nat.sessions",
        "shards[1].nat.ports",
        "shards[1].nat.ports_per_subscriber",
    ];
    assert_eq!(plan.restart, expected);
    // A second reload of the same file says the same again.
    assert_eq!(plan.config, edited(&[]));
}

#[test]
fn shards_that_come_or_go_need_a_restart() {
    let (old, mut fewer) = (edited(&[]), edited(&[]));
    fewer.shards.remove(0);
    assert_eq!(reload_plan(&old, &fewer).restart, ["shards"]);
    assert_eq!(reload_plan(&old, &fewer).config, old);
    assert_eq!(reload_plan(&fewer, &old).restart, ["shards[0]"]);
}

#[test]
fn shards_are_matched_by_id() {
    let old = edited(&[]);
    let mut swapped = old.clone();
    swapped.shards.swap(0, 1);
    swapped.shards[0].nat.as_mut().unwrap().hairpinning = false;
    let plan = reload_plan(&old, &swapped);
    assert_eq!((plan.applied, plan.restart), (vec!["shards[0].nat.hairpinning".into()], vec![]));
    assert!(!plan.config.shards[1].nat.as_ref().unwrap().hairpinning);
}

#[test]
fn static_mappings_wait_for_the_pool_that_they_are_in() {
    let plan = plan(&[
        ("pool: [ 198.51.100.0/28 ]", "pool: [ 203.0.113.0/28 ]"),
        ("outside: \"198.51.100.1:8080\"", "outside: \"203.0.113.1:8080\""),
    ]);
    assert_eq!(plan.applied, [""; 0]);
    assert_eq!(plan.restart, ["shards[0].nat.pool", "shards[0].nat.static"]);
    assert_eq!(plan.config, edited(&[]));
}

#[test]
fn static_mappings_wait_for_the_network_that_they_are_in() {
    let plan = plan(&[
        ("prefix: 100.64.0.0/16", "prefix: 100.66.0.0/16"),
        ("inside: \"100.64.0.10:80\"", "inside: \"100.66.0.10:80\""),
    ]);
    assert_eq!(plan.applied, [""; 0]);
    assert_eq!(plan.restart, ["shards[0].inside", "shards[0].nat.static"]);
}
