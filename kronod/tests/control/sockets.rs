//! Requests over a real socket.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use krono_core::counters::Counter;
use krono_core::drop::DropReason;
use kronod::control::protocol::*;
use kronod::control::{BindError, Client, ClientError, Facts, Server, Socket};
use kronod::spare_cpus::SpareCpus;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fake::{Fake, facts, records, row};

/// A served socket, with made-up shards behind it.
pub(crate) struct Served {
    pub(crate) shards: Vec<Fake>,
    pub(crate) facts: Arc<Facts>,
    pub(crate) path: PathBuf,
    server: Option<Server>,
    _dir: TempDir,
}

impl Served {
    /// Serves shards with so many sessions.
    pub(crate) fn start(sessions: &[u16]) -> Served {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("kronod.sock");
        let shards: Vec<_> = sessions.iter().map(|count| Fake::start(records(*count))).collect();
        let facts = Arc::new(facts(&shards));
        let socket = Socket::bind(&path).unwrap();
        let server = Server::start(socket, facts.clone(), SpareCpus::find(&[])).unwrap();
        Served { shards, facts, path, server: Some(server), _dir: dir }
    }

    fn client(&self) -> Client {
        Client::connect(&self.path).unwrap()
    }

    fn ask<T: serde::de::DeserializeOwned>(&self, request: &Request) -> T {
        read(&mut self.client(), request)
    }

    fn raw(&self) -> BufReader<UnixStream> {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        BufReader::new(stream)
    }
}

fn read<T: serde::de::DeserializeOwned>(client: &mut Client, request: &Request) -> T {
    let answer = client.ask(request).unwrap();
    serde_json::from_str(answer.get()).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

fn line(stream: &mut BufReader<UnixStream>) -> Value {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: '{line}'"))
}

fn error_in(response: &Value) -> &str {
    assert_eq!(response["version"], VERSION, "{response}");
    assert!(response.get("answer").is_none(), "{response}");
    response["error"].as_str().unwrap_or_else(|| panic!("no error: {response}"))
}

#[test]
fn status_tells_what_runs() {
    let served = Served::start(&[3, 4]);
    let status: Status = served.ask(&Request::Status);
    assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
    assert_eq!((status.pid, status.ready), (std::process::id(), false));
    assert_eq!(status.config_file, "/etc/kronod.yaml");
    assert_eq!(status.memory, served.facts.memory);
    let shards: Vec<_> = status.shards.iter().map(|shard| (shard.id, shard.lcore)).collect();
    assert_eq!(shards, [(0, 10), (7, 11)]);
    assert!(status.shards.iter().all(|shard| shard.state == ShardState::Polling));
    assert_eq!(status.shards[0].sessions_max, 1000);
    assert_eq!(status.ports[0].device, "net_null0");
    served.facts.ready.store(true, Ordering::Relaxed);
    assert!(served.ask::<Status>(&Request::Status).ready);
}

#[test]
fn stats_add_up_exactly_while_packets_flow() {
    let served = Served::start(&[0, 0]);
    let mut client = served.client();
    for _ in 0..200 {
        let stats: Stats = read(&mut client, &Request::Stats);
        assert_eq!(stats.shards.len(), 2);
        for shard in &stats.shards {
            let fates = ["sent", "consumed", "held"].map(|name| shard.counters[name]);
            let accounted = fates.iter().sum::<u64>() + shard.drops.values().sum::<u64>();
            assert_eq!(shard.received, accounted, "{shard:?}");
            assert_eq!(shard.received, shard.inside.rx_packets + shard.outside.rx_packets);
            assert!(!shard.stale && shard.received > 0);
            assert_eq!(shard.bursts.iter().map(|class| class.count).sum::<u64>(), shard.busy_polls);
            assert_eq!(shard.cycles_per_packet, Some(50.0));
        }
    }
}

/// All sessions that a request finds, by answers of so many; a search may be cut short by its time.
fn walk(served: &Served, request: &SessionsRequest, limit: u32) -> Vec<(u16, u16)> {
    let mut client = served.client();
    let mut request = SessionsRequest { limit: Some(limit), ..request.clone() };
    let mut found = Vec::new();
    loop {
        let page: Sessions = read(&mut client, &Request::Sessions(request.clone()));
        assert!(page.sessions.len() <= limit as usize);
        found.extend(page.sessions.iter().map(|session| (session.shard, session.outside.port())));
        match page.cursor {
            Some(cursor) => request.cursor = Some(cursor),
            None => return found,
        }
    }
}

#[test]
fn sessions_come_page_by_page_from_all_shards() {
    let served = Served::start(&[900, 0, 700]);
    let all = |shard, count| (0..count).map(move |number| (shard, row(number).outside.port));
    let expected: Vec<_> = all(0, 900).chain(all(14, 700)).collect();
    for limit in [1000, 123] {
        assert_eq!(walk(&served, &SessionsRequest::default(), limit), expected);
    }
    for (shard, count) in [(0, 900), (14, 700)] {
        let request = SessionsRequest {
            shard: Some(shard),
            protocol: Some(Text(krono_core::packet::Protocol::Tcp)),
            ..SessionsRequest::default()
        };
        let expected: Vec<_> = all(shard, count).step_by(4).collect();
        assert_eq!(walk(&served, &request, 1000), expected);
    }
}

#[test]
fn a_session_has_the_keys_that_others_rely_on() {
    let served = Served::start(&[100]);
    let request = |outside: &str| {
        let outside = Some(Text(outside.parse().unwrap()));
        Request::Sessions(SessionsRequest { outside, ..SessionsRequest::default() })
    };
    let answer: Value = served.ask(&request("198.51.100.1:2004"));
    let expected = json!({
        "sessions": [{
            "shard": 0, "protocol": "tcp", "inside": "10.0.0.4:1004",
            "outside": "198.51.100.1:2004", "remote": "203.0.113.5:443",
            "state": "established", "expires_in_ms": 4000, "static": false,
        }],
        "cursor": null,
    });
    assert_eq!(answer, expected);
    let answer: Value = served.ask(&request("198.51.100.1:2099"));
    assert_eq!(answer["sessions"][0]["remote"], Value::Null);
    assert_eq!(answer["sessions"][0]["expires_in_ms"], Value::Null);
    assert_eq!(answer["sessions"][0]["static"], true);
}

#[test]
fn a_lookup_asks_all_shards() {
    let served = Served::start(&[0, 10]);
    let request = |port| LookupRequest {
        outside: format!("198.51.100.1:{port}").parse().unwrap(),
        protocol: None,
    };
    let answer: Value = served.ask(&Request::Lookup(request(2004)));
    let owner = json!({"shard": 7, "protocol": "tcp", "inside": "10.0.0.4:1004"});
    assert_eq!(answer, json!({"outside": "198.51.100.1:2004", "owners": [owner]}));
    let nobody: Owners = served.ask(&Request::Lookup(request(9)));
    assert!(nobody.owners.is_empty());
}

#[test]
fn a_hung_shard_is_told_as_such_and_delays_others_by_a_moment() {
    let served = Served::start(&[5, 5]);
    served.shards[1].hang(true);
    let started = Instant::now();
    let stats: Stats = served.ask(&Request::Stats);
    assert!(started.elapsed() < Duration::from_secs(5));
    let state = |index: usize| (stats.shards[index].state, stats.shards[index].stale);
    assert_eq!(state(0), (ShardState::Polling, false));
    assert_eq!(state(1), (ShardState::Hung, true));
    assert_eq!(stats.shards[1].received, served.shards[1].counters.snapshot().received());

    let mut client = served.client();
    let refused = client.ask(&Request::Sessions(SessionsRequest::default())).unwrap_err();
    assert_eq!(refused.to_string(), "shard 7 does not answer");
    let outside = "198.51.100.1:2001".parse().unwrap();
    let lookup = Request::Lookup(LookupRequest { outside, protocol: None });
    assert!(client.ask(&lookup).is_ok(), "the other shard knows");
    let outside = "198.51.100.1:9".parse().unwrap();
    let lookup = Request::Lookup(LookupRequest { outside, protocol: None });
    assert_eq!(client.ask(&lookup).unwrap_err().to_string(), "shard 7 does not answer");

    served.shards[1].hang(false);
    let stats: Stats = served.ask(&Request::Stats);
    assert!(stats.shards.iter().all(|shard| shard.state == ShardState::Polling && !shard.stale));
}

#[test]
fn the_last_figures_of_a_stopped_shard_are_exact() {
    let mut served = Served::start(&[5]);
    served.shards[0].end();
    let stats: Stats = served.ask(&Request::Stats);
    let shard = &stats.shards[0];
    assert_eq!((shard.state, shard.stale), (ShardState::Stopped, false));
    let fates = ["sent", "consumed", "held"].map(|name| shard.counters[name]);
    assert_eq!(shard.received, fates.iter().sum::<u64>() + shard.drops.values().sum::<u64>());
}

#[test]
fn a_client_that_waits_does_not_hold_up_another() {
    let served = Served::start(&[5]);
    let mut silent = served.raw();
    silent.get_mut().write_all(b"{\"version\":1,").unwrap();
    let _idle = served.raw();
    assert_eq!(served.ask::<Status>(&Request::Status).shards.len(), 1);
    silent.get_mut().write_all(b"\"request\":\"status\"}\n").unwrap();
    assert!(line(&mut silent)["answer"]["pid"].is_u64(), "a request may come in parts");
}

#[test]
fn requests_sent_at_once_are_answered_in_order_and_after_the_end_of_input() {
    let served = Served::start(&[5]);
    let mut client = served.raw();
    let requests =
        "{\"version\":1,\"request\":\"status\"}\n{\"version\":1,\"request\":\"stats\"}\n";
    client.get_mut().write_all(requests.repeat(20).as_bytes()).unwrap();
    client.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
    for _ in 0..20 {
        assert!(line(&mut client)["answer"]["pid"].is_u64());
        assert!(line(&mut client)["answer"]["shards"].is_array());
    }
    assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 0);
}

#[test]
fn garbage_is_answered_by_a_sentence_and_the_connection_lives() {
    let served = Served::start(&[5]);
    let mut client = served.raw();
    let cases = [
        ("", "not a request: EOF while parsing a value"),
        ("status", "not a request: expected value"),
        ("[1]", "not a request: "),
        ("{\"request\":\"status\"}", "missing field `version`"),
        ("{\"version\":2,\"request\":\"status\"}", "version 2 is not spoken here; expected 1"),
        ("{\"version\":1}", "missing field `request`"),
        ("{\"version\":1,\"request\":\"reboot\"}", "unknown variant `reboot`"),
        ("{\"version\":1,\"request\":\"status\",\"x\":1}", "unknown field `x`"),
        ("{\"version\":1,\"request\":{\"sessions\":{\"x\":1}}}", "unknown field `x`"),
        (
            "{\"version\":1,\"request\":{\"sessions\":{\"inside\":\"ten\"}}}",
            "'ten' is not an address; expected ADDR[/LEN][:PORT]",
        ),
        (
            "{\"version\":1,\"request\":{\"sessions\":{\"protocol\":\"sctp\"}}}",
            "expected udp, tcp or icmp",
        ),
        ("{\"version\":1,\"request\":{\"sessions\":{\"limit\":0}}}", "limit: must be at least 1"),
        ("{\"version\":1,\"request\":{\"sessions\":{\"limit\":-1}}}", "expected u32"),
        ("{\"version\":1,\"request\":{\"sessions\":{\"shard\":9}}}", "there is no shard 9"),
        ("{\"version\":1,\"request\":{\"sessions\":{\"cursor\":\"3:0\"}}}", "there is no shard 3"),
        (
            "{\"version\":1,\"request\":{\"sessions\":{\"cursor\":\"0:0\",\"shard\":1}}}",
            "cursor: 0:0 is not in shard 1",
        ),
        (
            "{\"version\":1,\"request\":{\"sessions\":{\"cursor\":\"5\"}}}",
            "'5' is not a cursor; expected one from an answer",
        ),
        (
            "{\"version\":1,\"request\":{\"lookup\":{\"outside\":\"1.2.3.4\"}}}",
            "invalid IPv4 socket address",
        ),
    ];
    for (request, sentence) in cases {
        client.get_mut().write_all(format!("{request}\n").as_bytes()).unwrap();
        let response = line(&mut client);
        assert!(error_in(&response).contains(sentence), "{request}: {response}");
    }
    client.get_mut().write_all(b"\xff\xfe\0\n{\"version\":1,\"request\":\"status\"}\n").unwrap();
    assert!(error_in(&line(&mut client)).starts_with("not a request: "));
    assert!(line(&mut client)["answer"]["pid"].is_u64());
    // A cursor beyond the end is the end.
    let request = "{\"version\":1,\"request\":{\"sessions\":{\"cursor\":\"0:4294967295\"}}}\n";
    client.get_mut().write_all(request.as_bytes()).unwrap();
    assert_eq!(line(&mut client)["answer"], json!({"sessions": [], "cursor": null}));
}

#[test]
fn a_line_that_is_too_long_ends_the_connection() {
    let served = Served::start(&[5]);
    let at_most = format!("{:<1$}\n", Request::Status.to_line(), REQUEST_MAX);
    let mut client = served.raw();
    client.get_mut().write_all(at_most.as_bytes()).unwrap();
    assert!(line(&mut client)["answer"]["pid"].is_u64(), "the longest line is answered");

    client.get_mut().write_all(&[b' '; REQUEST_MAX + 1]).unwrap();
    assert_eq!(error_in(&line(&mut client)), "a request has at most 4096 bytes");
    assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 0);
    assert_eq!(served.ask::<Status>(&Request::Status).shards.len(), 1);
}

#[test]
fn too_many_clients_are_told_so() {
    let served = Served::start(&[5]);
    let mut clients: Vec<_> = (0..16).map(|_| served.raw()).collect();
    for client in &mut clients {
        client.get_mut().write_all(b"{\"version\":1,\"request\":\"status\"}\n").unwrap();
        assert!(line(client)["answer"]["pid"].is_u64());
    }
    assert!(error_in(&line(&mut served.raw())).contains("16 clients"));
    drop(clients);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(served.ask::<Status>(&Request::Status).shards.len(), 1);
}

#[test]
fn a_client_that_takes_no_answers_does_not_hold_up_others() {
    let served = Served::start(&[5000]);
    let mut glutton = served.raw();
    let sessions = Request::Sessions(SessionsRequest::default()).to_line() + "\n";
    for _ in 0..20 {
        glutton.get_mut().write_all(sessions.as_bytes()).unwrap();
    }
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(served.ask::<Status>(&Request::Status).shards.len(), 1);
    for _ in 0..20 {
        assert!(line(&mut glutton)["answer"]["sessions"].is_array());
    }
}

#[test]
fn only_the_owner_may_connect_and_the_file_goes_with_the_server() {
    let mut served = Served::start(&[]);
    let mode = fs::metadata(&served.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let names = || {
        let files = fs::read_dir(served.path.parent().unwrap()).unwrap();
        files.map(|file| file.unwrap().file_name()).collect::<Vec<_>>()
    };
    assert_eq!(names(), ["kronod.sock"], "nothing else is left beside it");
    served.server = None;
    assert!(!served.path.exists());
    assert!(matches!(Client::connect(&served.path), Err(ClientError::NoDaemon(..))));
}

fn bind_error(path: &Path) -> BindError {
    Socket::bind(path).expect_err("the place is taken")
}

#[test]
fn a_socket_is_taken_over_only_if_nobody_answers_on_it() {
    let served = Served::start(&[]);
    let error = bind_error(&served.path);
    assert!(matches!(error, BindError::Busy(_)));
    assert!(error.to_string().contains("another process answers on it"), "{error}");
    assert!(served.ask::<Status>(&Request::Status).shards.is_empty(), "it is still served");

    let dir = TempDir::new().unwrap();
    let stale = dir.path().join("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
    assert!(stale.exists());
    let first = Socket::bind(&stale).unwrap();
    assert!(UnixStream::connect(&stale).is_ok());

    // Who is replaced does not remove the file of its successor.
    fs::remove_file(&stale).unwrap();
    let second = Socket::bind(&stale).unwrap();
    drop(first);
    assert!(UnixStream::connect(&stale).is_ok());
    drop(second);
    assert!(!stale.exists());

    let file = dir.path().join("file");
    fs::write(&file, "precious").unwrap();
    assert!(matches!(bind_error(&file), BindError::NotASocket(_)));
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    assert!(matches!(bind_error(&dir.path().join("no/where")), BindError::Io(..)));
}

#[test]
fn the_longest_path_that_a_socket_can_have_works() {
    let dir = TempDir::new().unwrap();
    let room = kronod::config::SOCKET_PATH_MAX - dir.path().as_os_str().len() - 1;
    let deep = dir.path().join("d".repeat(room - 2));
    fs::create_dir(&deep).unwrap();
    for path in [dir.path().join("s".repeat(room)), deep.join("s")] {
        let _socket = Socket::bind(&path).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
    }
}

#[test]
fn all_reasons_and_figures_are_there_by_name() {
    let served = Served::start(&[0]);
    let stats: Value = served.ask(&Request::Stats);
    let shard = stats["shards"][0].as_object().unwrap();
    for name in ["id", "received", "sent", "consumed", "held", "originated"] {
        assert!(shard[name].is_u64(), "{name}");
    }
    for counter in Counter::ALL {
        assert!(shard[counter.name()].is_u64(), "{}", counter.name());
    }
    let drops = shard["drops"].as_object().unwrap();
    assert_eq!(drops.len(), DropReason::COUNT);
    for reason in DropReason::ALL {
        assert!(drops[reason.name()].is_u64(), "{reason}");
    }
}

#[test]
fn a_client_that_says_nothing_more_is_hung_up_on() {
    let served = Served::start(&[]);
    let mut client = served.raw();
    client.get_mut().write_all(b"{\"version\":1,\"request\":\"status\"}\n{\"version\"").unwrap();
    assert!(line(&mut client)["answer"]["pid"].is_u64());
    assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 0);
}
