//! kronoctl as people and scripts run it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use krono_core::counters::Counter;
use krono_core::drop::DropReason;
use serde_json::Value;

use crate::fake::row;
use crate::sockets::Served;

struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn command(socket: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kronoctl"));
    command.arg("--socket").arg(socket).args(line.split_whitespace());
    command
}

fn run(socket: &Path, line: &str) -> Ran {
    let output = command(socket, line).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).expect("kronoctl writes UTF-8");
    let code = output.status.code().expect("kronoctl exits");
    Ran { code, out: text(output.stdout), err: text(output.stderr) }
}

/// The JSON that a command prints, with exit code 0.
fn json(socket: &Path, line: &str) -> Value {
    let ran = run(socket, &format!("--json {line}"));
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{line}");
    assert_eq!(ran.out.lines().count(), 1, "one line of JSON");
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {}", ran.out))
}

#[test]
fn without_a_daemon_every_question_exits_1_with_a_sentence() {
    let nowhere = Path::new("/nonexistent/kronod.sock");
    for line in ["status", "stats", "stats --watch", "sessions", "lookup 198.51.100.1:1"] {
        for json in ["", "--json "] {
            let ran = run(nowhere, &format!("{json}{line}"));
            assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{line}");
            assert_eq!(
                ran.err,
                "kronoctl: no kronod answers on /nonexistent/kronod.sock: \
                 No such file or directory (os error 2); is it running, and may you ask it?\n"
            );
        }
    }
}

#[test]
fn a_wrong_command_line_exits_2() {
    let nowhere = Path::new("/nonexistent/kronod.sock");
    for line in [
        "",
        "reboot",
        "status now",
        "lookup",
        "lookup 198.51.100.1",
        "lookup 198.51.100.1:80/sctp",
        "lookup 2001:db8::1",
        "sessions --protocol sctp",
        "sessions --inside ten",
        "sessions --inside 10.0.0.1/33",
        "sessions --limit 0",
        "sessions --cursor 7",
        "sessions --shard -1",
        "stats --watch=yes",
        "bfd",
        "bfd --hold --release",
        "bfd --hold --neighbour ten",
        "shard",
        "shard drain",
        "shard move 7",
        "shard move 7 --to two",
        "shard fence 7 --to 2",
    ] {
        let ran = run(nowhere, line);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "'{line}': {}", ran.err);
        assert!(!ran.err.is_empty());
    }
    for line in ["--help", "help stats", "sessions --help", "--version"] {
        assert_eq!(run(nowhere, line).code, 0, "{line}");
    }
}

#[test]
fn reasons_need_no_daemon() {
    let nowhere = Path::new("/nonexistent/kronod.sock");
    let people = run(nowhere, "reasons");
    assert_eq!(people.code, 0);
    let machines = json(nowhere, "reasons");
    for reason in DropReason::ALL {
        assert!(people.out.lines().any(|line| line.starts_with(reason.name())), "{reason}");
        assert_eq!(machines["reasons"][reason.name()], reason.describe());
    }
}

#[test]
fn stats_in_json_have_the_shape_that_was_promised() {
    let served = Served::start(&[3, 4]);
    for _ in 0..20 {
        let stats = json(&served.path, "stats");
        let shards = stats["shards"].as_array().unwrap();
        assert_eq!(shards.len(), 2);
        for (shard, id) in shards.iter().zip([0, 7]) {
            assert_eq!(shard["id"], id);
            let figure = |name: &str| shard[name].as_u64().unwrap_or_else(|| panic!("{name}"));
            let drops = shard["drops"].as_object().unwrap();
            assert_eq!(drops.len(), DropReason::COUNT);
            let dropped: u64 = DropReason::ALL
                .iter()
                .map(|reason| drops[reason.name()].as_u64().expect("every reason is there"))
                .sum();
            let fates = figure("sent") + figure("consumed") + figure("held") + dropped;
            assert_eq!(figure("received"), fates);
            figure("originated");
        }
    }
    let keys = |value: &Value| {
        let mut keys: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    };
    let stats = json(&served.path, "stats");
    assert_eq!(keys(&stats), ["ports", "shards"]);
    let mut expected: Vec<_> = Counter::ALL.iter().map(|counter| counter.name()).collect();
    expected.extend([
        "id", "lcore", "role", "state", "stale", "received", "drops", "inside", "outside",
    ]);
    expected.extend(["bursts", "busy_polls", "cycles_per_packet"]);
    expected.sort();
    assert_eq!(keys(&stats["shards"][0]), expected);
    assert_eq!(
        keys(&stats["shards"][0]["inside"]),
        ["rx_bytes", "rx_packets", "tx_bytes", "tx_packets"]
    );
    assert_eq!(stats["ports"][0]["name"], "access");
}

#[test]
fn people_read_status_and_stats_in_100_columns() {
    let served = Served::start(&[3, 4]);
    served.shards[1].hang(true);
    let status = run(&served.path, "status");
    assert_eq!(status.code, 0, "{}", status.err);
    for text in ["starting", "/etc/kronod.yaml", "512 MiB for buffers", "hung", "net_null0"] {
        assert!(status.out.contains(text), "{text} in:\n{}", status.out);
    }
    let bfd = status.out.lines().find(|line| line.contains("192.0.2.254")).expect("a session");
    for text in ["    7  outside", "up  ", "50ms", "150.500ms", "  2  detection time expired"] {
        assert!(bfd.contains(text), "{text} in:\n{}", status.out);
    }
    let machines = json(&served.path, "status");
    assert_eq!(machines["shards"][0]["bfd"], Value::Array(vec![]));
    let session = &machines["shards"][1]["bfd"][0];
    assert_eq!((&session["state"], &session["ups"]), (&"up".into(), &2.into()));
    assert!(session["since_ms"].is_u64());
    let stats = run(&served.path, "stats");
    assert_eq!(stats.code, 0, "{}", stats.err);
    for text in ["Shard 0 on lcore 10, polling", "received", "it does not answer", "burst size"] {
        assert!(stats.out.contains(text), "{text} in:\n{}", stats.out);
    }
    for line in status.out.lines().chain(stats.out.lines()) {
        assert!(line.chars().count() <= 100, "{line}");
    }
}

#[test]
fn sessions_are_listed_filtered_and_paged() {
    let served = Served::start(&[2500]);
    let ports = |answer: &Value| -> Vec<u16> {
        let port = |session: &Value| session["outside"].as_str()?.split(':').nth(1)?.parse().ok();
        let sessions = answer["sessions"].as_array().unwrap();
        sessions.iter().map(|session| port(session).unwrap()).collect()
    };
    let all: Vec<u16> = (0..2500).map(|number| row(number).outside.port).collect();
    let answer = json(&served.path, "sessions --limit 9999");
    assert_eq!((ports(&answer), &answer["cursor"]), (all.clone(), &Value::Null));

    let first = json(&served.path, "sessions --limit 1700");
    let cursor = first["cursor"].as_str().unwrap();
    let second = json(&served.path, &format!("sessions --limit 1700 --cursor {cursor}"));
    assert_eq!([ports(&first), ports(&second)].concat(), all);
    assert_eq!(ports(&first).len(), 1700);

    let filters = "--shard 0 --protocol tcp --inside 10.0.0.4 --outside 198.51.100.0/24 \
                   --remote 203.0.113.5:443 --state established";
    let some = json(&served.path, &format!("sessions {filters}"));
    let numbers = (0..2500).filter(|number| number % 200 == 4);
    assert_eq!(ports(&some), numbers.map(|number| row(number).outside.port).collect::<Vec<_>>());

    let people = run(&served.path, "sessions --limit 3");
    let lines: Vec<_> = people.out.lines().collect();
    assert!(lines[0].starts_with("shard  proto  inside"), "{}", people.out);
    assert!(lines[1].contains("198.51.100.1:2000") && lines[1].contains("established"));
    assert!(lines[4].starts_with("3 sessions; there may be more: --cursor 0:"));
    assert_eq!(run(&served.path, "sessions --state no_such").out, "0 sessions\n");
    let ran = run(&served.path, "sessions --shard 3");
    assert_eq!((ran.code, ran.err.as_str()), (1, "kronoctl: there is no shard 3\n"));
}

#[test]
fn a_lookup_names_the_owner_or_exits_1() {
    let served = Served::start(&[0, 10]);
    let ran = run(&served.path, "lookup 198.51.100.1:2004/tcp");
    let sentence = "198.51.100.1:2004/tcp belongs to 10.0.0.4:1004 in shard 7\n";
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, sentence, ""));
    let answer = json(&served.path, "lookup 198.51.100.1:2004");
    assert_eq!(answer["owners"][0]["inside"], "10.0.0.4:1004");

    let ran = run(&served.path, "lookup 198.51.100.1:2004/udp");
    let sentence = "kronoctl: nobody has 198.51.100.1:2004/udp\n";
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (1, "", sentence));
    let ran = run(&served.path, "--json lookup 198.51.100.1:9");
    assert_eq!(ran.code, 1);
    assert_eq!(ran.out, "{\"outside\":\"198.51.100.1:9\",\"owners\":[]}\n");
}

#[test]
fn bfd_sessions_are_held_down_by_shard_and_neighbour() {
    let served = Served::start(&[1, 1]);
    let held = |line: &str| run(&served.path, line).out;
    assert_eq!(held("bfd --hold"), "2 BFD sessions held down\n");
    assert_eq!(held("bfd --hold --shard 7"), "1 BFD session held down\n");
    assert_eq!(json(&served.path, "bfd --hold --neighbour 192.0.2.254")["sessions"], 2);
    // These shards have none that could be released.
    for line in ["bfd --hold --neighbour 192.0.2.1", "bfd --hold --shard 3", "bfd --release"] {
        let ran = run(&served.path, line);
        let sentence = "kronoctl: there is no such BFD session\n";
        assert_eq!((ran.code, ran.err.as_str()), (1, sentence), "{line}");
    }
    served.shards[1].hang(true);
    let ran = run(&served.path, "bfd --hold --shard 7");
    assert_eq!((ran.code, ran.err.as_str()), (1, "kronoctl: shard 7 does not answer\n"));
}

#[test]
fn halves_are_shown_with_what_makes_a_failover_unsafe() {
    let served = Served::start(&[1, 1]);
    let shown = run(&served.path, "cluster").out;
    let half = shown.lines().last().expect("a half");
    for text in ["serving, master", "1,234", "77 ms", "no, because the peer has not caught up"] {
        assert!(half.contains(text), "{text} in:\n{shown}");
    }
    let halves = &json(&served.path, "cluster")["halves"];
    assert_eq!(halves.as_array().map(Vec::len), Some(1), "the first shard has no twin");
    let half = &halves[0];
    for (field, expected) in [
        ("shard", 7),
        ("node", 1),
        ("peer", 2),
        ("master", 1),
        ("epoch", 5),
        ("unacknowledged", 3),
        ("diverged", 1),
        ("refused", 2),
        ("gaps", 4),
        ("overflowed", 6),
    ] {
        assert_eq!(half[field], expected, "{field}");
    }
    assert_eq!((&half["safe"], &half["peer_heard"]), (&false.into(), &true.into()));
    // What it showed last can be seen though it hangs.
    served.shards[1].hang(true);
    assert_eq!(json(&served.path, "cluster")["halves"][0]["epoch"], 5);
}

#[test]
fn orders_are_carried_out_or_refused_with_the_reason() {
    let served = Served::start(&[1, 1]);
    for (line, said) in [
        ("shard drain 7 --no-wait", "shard 7 drains to node 2\n"),
        ("shard move 7 --to 2 --no-wait", "shard 7 drains to node 2\n"),
        ("shard keep 7", "shard 7 stays on node 1\n"),
    ] {
        let ran = run(&served.path, line);
        assert_eq!((ran.code, ran.out.as_str()), (0, said), "{line}: {}", ran.err);
    }
    for (line, sentence) in [
        ("shard drain 3", "there is no shard 3"),
        ("shard drain 0", "shard 0 has no twin"),
        ("shard move 7 --to 1", "to: node 1 is this one; ask node 2, which serves"),
        ("shard move 7 --to 9", "to: shard 7 is on nodes 1 and 2 only"),
        ("shard fence 7", "shard 7 hears of its twin, which therefore runs; stop that first"),
        // It was asked to, but goes on.
        ("shard drain 7", "shard 7 stays on node 1: its drain was taken back"),
    ] {
        let ran = run(&served.path, line);
        assert_eq!((ran.code, ran.err), (1, format!("kronoctl: {sentence}\n")), "{line}");
    }
    let alone = Served::start(&[1]);
    let ran = run(&alone.path, "cluster");
    let sentence = "kronoctl: no shard has a twin (section cluster of the configuration)\n";
    assert_eq!((ran.code, ran.err.as_str()), (1, sentence));
}

#[test]
fn watching_goes_on_until_the_daemon_ends() {
    let served = Served::start(&[3]);
    let mut watch = command(&served.path, "--json stats --watch")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut received = 0;
    for _ in 0..3 {
        let stats: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        let now = stats["shards"][0]["received"].as_u64().unwrap();
        assert!(now > received);
        received = now;
    }
    drop(served);
    assert_eq!(lines.count(), 0);
    let output = watch.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("kronoctl: kronod did not answer"));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let served = Served::start(&[2500]);
    let mut sessions = command(&served.path, "sessions --limit 2500")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(sessions.stdout.take());
    let output = sessions.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}
