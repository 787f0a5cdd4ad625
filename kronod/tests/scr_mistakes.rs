//! What is wrong with `scr` of a shard is said at once, with its line: what does not fit, does not
//! reach, or has no place there.

use kronod::config::{Memory, load_text};

/// A shard with this `scr`, in line 7, and these further lines.
fn text(scr: &str, more: &str) -> String {
    format!(
        "ports: [ {{ name: in, device: net_null0 }}, {{ name: out, device: net_null1 }} ]
shards:
  - id: 0
    lcore: 0
    inside: {{ port: in, address: 10.0.0.1/24 }}
    outside: {{ port: out, address: 192.0.2.1/24, routes: [ {{ prefix: 0.0.0.0/0, via: 192.0.2.254 }} ] }}
    scr: {scr}
{more}"
    )
}

fn mistakes_of(text: &str) -> Vec<String> {
    match load_text("k.yaml", text, &Memory::unlimited()) {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.to_string().lines().map(str::to_owned).collect(),
    }
}

fn check(scr: &str, expected: &[&str]) {
    let mistakes = mistakes_of(&text(scr, ""));
    let expected: Vec<_> =
        expected.iter().map(|line| format!("k.yaml:7: shards[0].{line}")).collect();
    assert_eq!(mistakes, expected, "{scr}");
}

#[test]
fn the_least_that_can_be_said_is_valid() {
    for program in ["ddos", "heavy", "bucket", "knock", "conntrack"] {
        check(&format!("{{ program: {program}, workers: [ 1, 2 ] }}"), &[]);
    }
    let nat = "    nat: { pool: [ 198.51.100.0/28 ] }\n";
    assert_eq!(mistakes_of(&text("{ program: nat, workers: [ 1 ] }", nat)), [""; 0]);
}

#[test]
fn histories_that_do_not_fit_or_are_too_short() {
    check(
        "{ program: conntrack, workers: [ 1, 2, 3 ], sequencer: { history: 1 } }",
        &[
            "scr.sequencer.history: 1 records are less than each of 3 workers must be told; expected 2 \
           or more",
        ],
    );
    check(
        "{ program: conntrack, workers: [ 1 ], sequencer: { history: 2184 } }",
        &[
            "scr.sequencer.history: a history of 2184 records of 30 bytes takes 65544 bytes beside a \
           packet, and there are 65528; expected 2183 records at most",
        ],
    );
    check("{ program: conntrack, workers: [ 1 ], sequencer: { history: 2183 } }", &[]);
}

#[test]
fn more_workers_than_the_log_reaches_or_a_header_holds() {
    let without_lcore = |scr: &str| text(scr, "").replace("    lcore: 0\n", "");
    let wrong = |scr: &str| mistakes_of(&without_lcore(scr));
    assert_eq!(wrong("{ program: ddos, workers: [ 1, 2, 3 ], in_band: { order: ring } }"), [""; 0]);
    assert_eq!(
        wrong("{ program: ddos, workers: [ 1, 2, 3 ], in_band: { order: ring, log: 5 } }"),
        ["k.yaml:6: shards[0].scr.in_band.log: a log of 5 packets does not reach back over 3 \
          workers; expected 6 or more"],
    );
}

#[test]
fn tables_that_do_not_fit_in_memory() {
    let said = |scr: &str| {
        let memory = Memory { available: Some(4 << 30), ..Memory::unlimited() };
        load_text("k.yaml", &text(scr, ""), &memory)
            .map_or_else(|m| m.to_string(), |_| String::new())
    };
    // Sets of 64 bytes, each made for four sources, in four replicas and
    // the one that carries states.
    let workers = "workers: [ 1, 2, 3, 4 ]";
    assert_eq!(said(&format!("{{ program: ddos, {workers}, ddos: {{ sources: 16M }} }}")), "");
    assert_eq!(
        said(&format!("{{ program: ddos, {workers}, ddos: {{ sources: 64M }} }}")),
        "k.yaml:7: shards[0].scr.ddos.sources: 512M of packet buffers and 5G of tables do not \
         fit in memory; expected at most 4G together"
    );
}

#[test]
fn what_has_no_place_there() {
    check(
        "{ program: ddos, workers: [ 1 ], knock: { sources: 5 } }",
        &["scr.knock: the program of this shard is another one; expected no knock"],
    );
    check(
        "{ program: ddos, workers: [ 1, 1, 0 ], active: 4 }",
        &[
            "scr.active: 4 is out of range; expected a number from 1 to 3",
            "scr.workers[1]: 1 is taken by shards[0].scr.workers[0] (line 7); expected an lcore of \
             its own for each shard or worker",
            "scr.workers[2]: 0 is taken by shards[0].lcore (line 4); expected an lcore of its own \
             for each shard or worker",
        ],
    );
    let sequenced = "{ program: ddos, workers: [ 1 ], in_band: { order: shift } }";
    assert_eq!(
        mistakes_of(&text(sequenced, "")),
        ["k.yaml:4: shards[0].lcore: packets come sequenced, shards[0].scr.in_band (line 7), and \
          workers have lcores of their own; expected no lcore"],
    );
    let nat = "    nat: { pool: [ 198.51.100.0/28 ] }\n";
    assert_eq!(
        mistakes_of(&text("{ program: heavy, workers: [ 1 ] }", nat)),
        [
            "k.yaml:8: shards[0].nat: the program of this shard translates nothing; expected no nat, \
          or scr.program: nat"
        ],
    );
    let nothing = mistakes_of(&text("{ program: nat, workers: [ 1 ] }", ""));
    assert_eq!(nothing.len(), 1, "{nothing:?}");
    assert!(nothing[0].starts_with("k.yaml:3: shards[0].nat: missing"), "{nothing:?}");
}

#[test]
fn settings_that_a_program_cannot_take() {
    check(
        "{ program: ddos, workers: [ 1 ], ddos: { sources: 0, one_in: 1, deny: [ 1.2.3.4/33 ] } }",
        &["scr.ddos.deny[0]: 1.2.3.4/33 is not a prefix; expected an IPv4 prefix such as \
           198.51.100.0/28"],
    );
    check(
        "{ program: bucket, workers: [ 1 ], bucket: { rate: 0, burst: 2M } }",
        &[
            "scr.bucket.burst: that is beyond what it can be; expected 1 to 1,000,000",
            "scr.bucket.rate: that is beyond what it can be; expected 1 to 100,000,000",
        ],
    );
    check(
        "{ program: conntrack, workers: [ 1 ], conntrack: { timeouts: { reset: 0s } } }",
        &["scr.conntrack.timeouts.reset: 0s is out of range; expected a duration from 100ms \
           to 1242d18h9m42s400ms"],
    );
}

#[test]
fn ports_that_cannot_be_shared() {
    let scr = "{ program: heavy, workers: [ 1, 2 ] }";
    let one = text(scr, "").replace("{ port: out, address", "{ port: in, vlan: 7, address");
    let mistakes = mistakes_of(&one);
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    assert!(mistakes[0].contains("a shard with scr cannot have both sides on one port"));
    let other = "  - id: 1
    lcore: 3
    inside: { port: in, queue: 1, mac: \"02:00:00:00:00:09\", address: 10.0.0.9/24 }
    outside: { port: out, queue: 1, mac: \"02:00:00:00:01:09\", address: 192.0.2.9/24 }
    nat: { pool: [ 198.51.100.0/28 ] }
";
    let mistakes = mistakes_of(&text(scr, other));
    assert_eq!(mistakes.len(), 2, "{mistakes:?}");
    assert!(mistakes.iter().all(|line| line.contains("needs all queues of its port")));
}
