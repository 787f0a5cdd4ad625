//! Metrics over HTTP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use krono_core::counters::{Counter, CounterKind};
use krono_core::drop::DropReason;
use kronod::metrics::{Listener, Server};
use kronod::spare_cpus::SpareCpus;

use crate::fake::{Fake, facts};

struct Served {
    shards: Vec<Fake>,
    address: SocketAddr,
    _server: Server,
}

fn serve() -> Served {
    let shards: Vec<_> = (0..2).map(|_| Fake::start(Vec::new())).collect();
    let listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.address();
    let facts = Arc::new(facts(&shards));
    let _server = Server::start(listener, facts, SpareCpus::find(&[])).unwrap();
    Served { shards, address, _server }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// The head and the body of the response to these bytes.
fn exchange(address: SocketAddr, request: &[u8]) -> (String, String) {
    let mut stream = connect(address);
    stream.write_all(request).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").expect("a head and a body");
    (head.to_owned(), body.to_owned())
}

fn scrape(address: SocketAddr) -> String {
    let (head, body) = exchange(address, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("Content-Type: application/openmetrics-text"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
    assert!(body.ends_with("# EOF\n"), "{body}");
    body
}

/// The value of the sample with this name and these labels.
fn value(body: &str, sample: &str) -> u64 {
    let line = body.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {sample} in:\n{body}")).parse().unwrap()
}

#[test]
fn every_figure_is_there_and_adds_up() {
    let served = serve();
    let body = scrape(served.address);
    for shard in [0, 7] {
        let of = |name: &str| value(&body, &format!("krono_{name}{{shard=\"{shard}\"}}"));
        for counter in Counter::ALL {
            match counter.kind() {
                CounterKind::Total => of(&format!("{}_total", counter.name())),
                CounterKind::Gauge => of(counter.name()),
            };
        }
        assert_eq!(of("shard_up"), 1);
        let received: u64 = ["inside", "outside"]
            .map(|side| {
                let labels = format!("shard=\"{shard}\",side=\"{side}\",direction=\"rx\"");
                value(&body, &format!("krono_packets_total{{{labels}}}"))
            })
            .iter()
            .sum();
        let drops = DropReason::ALL.iter().map(|reason| {
            let labels = format!("shard=\"{shard}\",reason=\"{reason}\"");
            value(&body, &format!("krono_dropped_total{{{labels}}}"))
        });
        let fates = of("sent_total") + of("consumed_total") + of("held");
        assert!(received > 0);
        assert_eq!(received, fates + drops.sum::<u64>());
    }
    let session = "shard=\"7\",side=\"outside\",neighbour=\"192.0.2.254\"";
    for (name, expected) in [
        ("bfd_up", 1),
        ("bfd_ups_total", 2),
        ("bfd_transmit_us", 50_000),
        ("bfd_detection_us", 150_500),
    ] {
        assert_eq!(value(&body, &format!("krono_{name}{{{session}}}")), expected, "{name}");
    }
    for (name, expected) in [
        ("twin_serves", 1),
        ("twin_epoch", 5),
        ("twin_heard", 1),
        ("twin_safe", 0),
        ("twin_queued", 1234),
        ("twin_lag_ms", 77),
        ("twin_gaps_total", 4),
        ("twin_diverged_total", 1),
        ("twin_refused_total", 2),
        ("twin_overflowed_total", 6),
    ] {
        let series = format!("krono_{name}{{shard=\"7\",peer=\"2\"}}");
        assert_eq!(value(&body, &series), expected, "{name}");
    }
    assert_eq!(value(&body, "krono_port_rx_packets_total{port=\"access\"}"), 12_345);
    assert_eq!(value(&body, "krono_port_rx_missed_total{port=\"access\"}"), 3);
}

#[test]
fn a_hung_shard_is_down() {
    let served = serve();
    served.shards[1].hang(true);
    let body = scrape(served.address);
    assert_eq!(value(&body, "krono_shard_up{shard=\"0\"}"), 1);
    assert_eq!(value(&body, "krono_shard_up{shard=\"7\"}"), 0);
}

#[test]
fn other_requests_are_refused_by_their_status() {
    let served = serve();
    let cases: [(&[u8], &str); 7] = [
        (b"GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
        (b"GET /metrics?a=b HTTP/1.0\r\nA: b\r\n\r\n", "200 OK"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        (b"GET /metrics HTTP/2\r\n\r\n", "400 Bad Request"),
        (b"\r\n\r\n", "400 Bad Request"),
        (b"\xff\x00 \x01\r\n\r\n", "400 Bad Request"),
        (&[b'a'; 4096], "431 Request Header Fields Too Large"),
    ];
    for (request, status) in cases {
        let (head, _) = exchange(served.address, request);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{head}");
    }
}

#[test]
fn who_says_nothing_or_hangs_up_holds_nobody_up_for_long() {
    let served = serve();
    let _silent = connect(served.address);
    drop(connect(served.address));
    let mut slow = connect(served.address);
    slow.write_all(b"GET /metrics").unwrap();
    let started = Instant::now();
    scrape(served.address);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn an_address_that_is_taken_is_told() {
    let served = serve();
    let error = Listener::bind(served.address).expect_err("it is taken");
    let sentence = format!("metrics.listen: {}: Address already in use", served.address);
    assert!(error.to_string().starts_with(&sentence), "{error}");
}
