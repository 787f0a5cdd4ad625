//! What is wrong with `cluster` and with `twin` of a shard is said at once, with its line.

use std::time::Duration;

use krono_core::packet::Side;
use kronod::config::{BirdConfig, ClusterConfig, Memory, NextHops, TwinConfig, Warning, load_text};

/// A configuration with this `cluster`, in line 1, this `twin`, in line 9, and these further lines.
fn text(cluster: &str, twin: &str, more: &str) -> String {
    format!(
        "{cluster}
ports: [ {{ name: in, device: net_null0 }}, {{ name: out, device: net_null1 }} ]
shards:
  - id: 0
    lcore: 0
    inside: {{ port: in, address: 10.0.0.1/24, bfd: [ {{ neighbour: 10.0.0.254 }} ] }}
    outside: {{ port: out, address: 192.0.2.1/24, bfd: [ {{ neighbour: 192.0.2.254 }} ] }}
    nat: {{ pool: [ 198.51.100.0/28 ] }}
    {twin}
{more}"
    )
}

const CLUSTER: &str = "cluster: { node: 1, key: /etc/krono/key }";
const TWIN: &str = "twin: { master: 1, slave: 2, peer: 192.0.2.2 }";

fn mistakes_of(text: &str) -> Vec<String> {
    match load_text("k.yaml", text, &Memory::unlimited()) {
        Ok(_) => Vec::new(),
        Err(mistakes) => {
            let is_mistake = |line: &&str| !line.contains(": warning: ");
            mistakes.to_string().lines().filter(is_mistake).map(str::to_owned).collect()
        }
    }
}

fn check(text: &str, expected: &[&str]) {
    let expected: Vec<_> = expected.iter().map(|line| format!("k.yaml:{line}")).collect();
    assert_eq!(mistakes_of(text), expected, "{text}");
}

fn warnings_of(text: &str) -> Vec<String> {
    let (_, warnings) = load_text("k.yaml", text, &Memory::unlimited()).expect("it is valid");
    warnings.iter().map(Warning::to_string).collect()
}

#[test]
fn little_is_enough_and_the_rest_may_be_said() {
    let of = |cluster: &str, twin: &str| {
        let (config, warnings) =
            load_text("k.yaml", &text(cluster, twin, ""), &Memory::unlimited()).unwrap();
        assert_eq!(warnings, []);
        (config.cluster.unwrap(), config.shards[0].twin.clone().unwrap())
    };
    let ms = Duration::from_millis;
    let cluster = ClusterConfig {
        node: 1,
        key: "/etc/krono/key".into(),
        port: 9107,
        heartbeat: ms(10),
        silence: ms(100),
        converge: ms(3000),
        first_ports: 50,
        bird: None,
    };
    let peer = [192, 0, 2, 2].into();
    let twin = TwinConfig { master: 1, slave: 2, side: Side::Outside, peer, next_hops: None };
    assert_eq!(of(CLUSTER, TWIN), (cluster, twin));
    let cluster = ClusterConfig {
        node: 65_535,
        key: "k".into(),
        port: 1,
        heartbeat: ms(1),
        silence: ms(5),
        converge: ms(600_000),
        first_ports: 99,
        bird: Some(BirdConfig {
            socket: "/run/bird/bird.ctl".into(),
            include: "/run/krono/bird.conf".into(),
            subscribers: Some(Side::Outside),
        }),
    };
    let next_hops = NextHops { inside: [10, 255, 0, 1].into(), outside: [10, 255, 1, 1].into() };
    let twin = TwinConfig {
        master: 4,
        slave: 65_535,
        side: Side::Inside,
        peer: [10, 0, 0, 2].into(),
        next_hops: Some(next_hops),
    };
    let given = of(
        "cluster: { node: 65535, key: k, port: 1, heartbeat: 1ms, silence: 5ms, converge: 10m, \
         first_ports: 99, bird: { include: /run/krono/bird.conf, subscribers: outside } }",
        "twin: { master: 4, slave: 65535, side: inside, peer: 10.0.0.2, \
         next_hops: { inside: 10.255.0.1, outside: 10.255.1.1 } }",
    );
    assert_eq!(given, (cluster, twin));
}

#[test]
fn values_beyond_what_they_can_be() {
    check(
        &text(
            "cluster: { node: 0, port: 0, heartbeat: 0ms, silence: 61s, converge: 9ms, \
             first_ports: 100, bird: { sockets: /b } }",
            "twin: { master: 65536, side: west, peer: 192.0.2, next_hops: {} }",
            "",
        ),
        &[
            "1: cluster.bird.include: missing; expected the path of a file",
            "1: cluster.bird.sockets: sockets is not a key here; expected socket, which is the \
             nearest name",
            "1: cluster.converge: 9ms is out of range; expected a duration from 10ms to 600s",
            "1: cluster.first_ports: 100 is out of range; expected a number from 1 to 99",
            "1: cluster.heartbeat: 0ms is out of range; expected a duration from 1ms to 1s",
            "1: cluster.key: missing; expected the path of a file",
            "1: cluster.node: 0 is out of range; expected a number from 1 to 65535",
            "1: cluster.port: 0 is out of range; expected a number from 1 to 65535",
            "1: cluster.silence: 61s is out of range; expected a duration from 5ms to 60s",
            "9: shards[0].twin.master: 65536 is out of range; expected a number from 1 to 65535",
            "9: shards[0].twin.next_hops.inside: missing; expected an IPv4 address such as \
             192.0.2.254",
            "9: shards[0].twin.next_hops.outside: missing; expected an IPv4 address such as \
             192.0.2.254",
            "9: shards[0].twin.peer: 192.0.2 is not an address that a host can have; expected an \
             IPv4 address such as 192.0.2.254",
            "9: shards[0].twin.side: west is unknown here; expected inside or outside",
            "9: shards[0].twin.slave: missing; expected a number from 1 to 65535",
        ],
    );
}

#[test]
fn what_does_not_fit_together() {
    let own = "twin: { master: 1, slave: 2, peer: 192.0.2.1 }";
    check(
        &text(CLUSTER, own, ""),
        &[
            "9: shards[0].twin.peer: 192.0.2.1 is this shard's own address; expected the address of \
           the other half",
        ],
    );
    check(
        &text("", TWIN, ""),
        &[
            "9: shards[0].twin: there is no section cluster, which says what this node is; expected \
           a section cluster, or no twin",
        ],
    );
    check(
        &text(CLUSTER, "twin: { master: 2, slave: 2, peer: 192.0.2.2 }", ""),
        &["9: shards[0].twin.slave: node 2 is the master as well; expected another node"],
    );
    check(
        &text(CLUSTER, "twin: { master: 3, slave: 2, peer: 192.0.2.2 }", ""),
        &[
            "9: shards[0].twin: neither master nor slave is node 1, cluster.node (line 1); expected \
           this node as one of them",
        ],
    );
    check(
        &text("cluster: { node: 1, key: k, heartbeat: 40ms }", TWIN, ""),
        &["1: cluster.silence: 100ms is less than 3 heartbeats; expected 120ms or more"],
    );
    check(
        &text("cluster: { node: 1, key: k, bird: { include: i } }", TWIN, ""),
        &["9: shards[0].twin: BIRD is told no next hops of this shard's routes; expected \
           next_hops: { inside: ADDRESS, outside: ADDRESS }"],
    );
    let on_link = text(CLUSTER, TWIN, "").replace("198.51.100.0/28", "192.0.2.128/28");
    check(
        &on_link,
        &[
            "8: shards[0].nat.pool[0]: 192.0.2.128/28 is on-link, so both halves would answer for it \
           by ARP; expected addresses that are routed to the half that serves",
        ],
    );
    let connected = "twin: { master: 1, slave: 2, peer: 192.0.2.2, next_hops: { inside: \
                     10.255.0.1, outside: 192.0.2.9 } }";
    check(
        &text("cluster: { node: 1, key: k, bird: { include: i } }", connected, ""),
        &["9: shards[0].twin.next_hops.outside: 192.0.2.9 lies in 192.0.2.0/24, which is \
           connected; expected an address that routers reach by a route guarded by BFD only"],
    );
}

#[test]
fn what_has_no_twin() {
    let bfd = |text: String| text.replace(", bfd: [ { neighbour: 10.0.0.254 } ]", "");
    let without = |text: String| bfd(text).replace(", bfd: [ { neighbour: 192.0.2.254 } ]", "");
    check(
        &without(text(CLUSTER, TWIN, "clock: capture")),
        &[
            "9: shards[0].twin: clock: capture lets no time pass between packets; expected no twin, \
           or clock: tsc",
        ],
    );
    let scr = format!("{TWIN}\n    scr: {{ program: nat, workers: [1, 2] }}");
    check(
        &without(text(CLUSTER, &scr, "")),
        &["9: shards[0].twin: the state of a shard with scr is not told to another server; \
           expected no twin, or no scr"],
    );
}

#[test]
fn what_is_allowed_but_hardly_meant() {
    assert_eq!(
        warnings_of(&text(CLUSTER, "", "")),
        [
            "k.yaml:1: warning: cluster: no shard has a twin; expected twin in a shard, or no cluster"
        ]
    );
    let hops = "twin: { master: 1, slave: 2, peer: 192.0.2.2, next_hops: { inside: 10.255.0.1, \
                outside: 10.255.1.1 } }";
    let quiet = text(CLUSTER, hops, "").replace(", bfd: [ { neighbour: 10.0.0.254 } ]", "");
    assert_eq!(
        warnings_of(&quiet),
        [
            "k.yaml:6: warning: shards[0].inside: no neighbour would notice by BFD that this half is gone; \
             expected bfd: [ { neighbour: ADDRESS } ]",
            "k.yaml:9: warning: shards[0].twin.next_hops: nobody announces routes, for there is no \
             cluster.bird; expected cluster.bird, or no next_hops"
        ]
    );
}

#[test]
fn next_hops_by_which_routers_could_not_tell_shards_apart() {
    let twins = "twin: { master: 1, slave: 2, peer: 192.0.2.2, next_hops: { inside: 10.255.0.1, \
                 outside: 198.51.100.15 } }
  - id: 1
    lcore: 1
    inside: { port: in, queue: 1, vlan: 2, address: 10.1.0.1/24, bfd: [ { neighbour: 10.1.0.254 } ] }
    outside: { port: out, queue: 1, vlan: 2, address: 192.0.3.1/24, bfd: [ { neighbour: 192.0.3.254 } ] }
    nat: { pool: [ 203.0.113.0/28 ] }
    twin: { master: 1, slave: 2, peer: 192.0.3.2, next_hops: { inside: 10.255.1.1, \
                 outside: 10.255.0.1 } }";
    let bird = "cluster: { node: 1, key: k, bird: { include: i, subscribers: any } }";
    check(
        &text(bird, twins, ""),
        &[
            "1: cluster.bird.subscribers: any is unknown here; expected none, inside or outside",
            "9: shards[0].twin.next_hops.outside: 198.51.100.15 lies in the pool 198.51.100.0/28, \
             shards[0].nat.pool[0] (line 8); expected an address that routers reach by a route \
             guarded by BFD only",
            "15: shards[1].twin.next_hops.outside: 10.255.0.1 is taken by \
             shards[0].twin.next_hops.inside (line 9); expected next hops of its own for each shard",
        ],
    );
}
