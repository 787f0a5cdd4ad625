//! The daemon as a process, on devices that need no privileges: how it starts, reloads, refuses
//! and stops.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// A running kronod and its log.
struct Kronod {
    child: Child,
    log: Receiver<String>,
    lines: Vec<String>,
}

impl Kronod {
    fn start(config: &Path, options: &[&str]) -> Kronod {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kronod"))
            .arg("--config")
            .arg(config)
            .args(options)
            .env_remove("RUST_LOG")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kronod starts");
        let stderr = BufReader::new(child.stderr.take().expect("its log is piped"));
        let (lines, log) = mpsc::channel();
        thread::spawn(move || {
            let mut whole = stderr.lines().map_while(Result::ok);
            whole.all(|line| lines.send(line).is_ok())
        });
        Kronod { child, log, lines: Vec::new() }
    }

    /// Reads the log up to a line that contains `text`.
    fn wait_for(&mut self, text: &str) {
        loop {
            let Ok(line) = self.log.recv_timeout(PATIENCE) else {
                panic!("no '{text}' in the log:\n{}", self.lines.join("\n"));
            };
            let found = line.contains(text);
            self.lines.push(line);
            if found {
                return;
            }
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().expect("kill runs");
        assert!(sent.success());
    }

    /// The exit code, and the log as a whole.
    fn end(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                self.lines.extend(self.log.iter());
                return (status.code(), self.lines.join("\n"));
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.lines.join("\n"));
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Kronod {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory with a configuration of one shard on these devices.
fn site(access: &str, core: &str, more: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("kronod.yaml");
    let socket = dir.path().join("kronod.sock");
    let text = format!(
        "eal: {{ memory: 64M, hugepages: off, idle: yield }}
ports:
  - {{ name: access, device: \"{access}\" }}
  - {{ name: core, device: \"{core}\" }}
shards:
  - id: 0
    lcore: 0
    inside: {{ port: access, address: 10.0.0.1/24 }}
    outside: {{ port: core, address: 192.0.2.1/24 }}
    nat: {{ pool: [ 198.51.100.0/30 ], sessions: 1K }}
control: {{ socket: {} }}
metrics: {{ listen: \"127.0.0.1:0\" }}
{more}\n",
        socket.display()
    );
    fs::write(&file, text).expect("written");
    (dir, file)
}

#[test]
fn it_polls_until_a_signal_and_leaves_nothing_behind() {
    for signal in ["TERM", "INT"] {
        let (dir, config) = site("net_null0", "net_null1", "");
        let mut kronod = Kronod::start(&config, &[]);
        kronod.wait_for("kronod ready");
        assert!(dir.path().join("kronod.sock").exists());
        kronod.signal(signal);
        let (code, log) = kronod.end();
        assert_eq!(code, Some(0), "{log}");
        assert!(!dir.path().join("kronod.sock").exists());
    }
}

#[test]
fn a_hangup_reloads_what_can_be_and_names_the_rest() {
    let (_dir, config) = site("net_null0", "net_null1", "");
    let mut kronod = Kronod::start(&config, &[]);
    kronod.wait_for("kronod ready");

    let text = fs::read_to_string(&config).unwrap();
    let changed = text.replace("sessions: 1K", "sessions: 2K, timeouts: { udp: 6m }");
    fs::write(&config, &changed).unwrap();
    kronod.signal("HUP");
    kronod.wait_for("sessions differs, which needs a restart");
    kronod.wait_for("timeouts changes now");
    kronod.wait_for("shard 0: reloaded");

    fs::write(&config, changed.replace("udp: 6m", "udp: soon")).unwrap();
    kronod.signal("HUP");
    kronod.wait_for("not reloaded, the old configuration stays");
    kronod.wait_for("soon is not a duration");
    kronod.signal("TERM");
    assert_eq!(kronod.end().0, Some(0));
}

/// Runs a configuration that cannot start; what it says of that.
fn refusal(config: &Path) -> String {
    let (code, log) = Kronod::start(config, &[]).end();
    assert_eq!(code, Some(1), "{log}");
    let sentence = log.lines().last().expect("it says why").to_owned();
    assert!(sentence.starts_with("kronod: "), "{log}");
    sentence
}

#[test]
fn a_missing_device_is_one_sentence() {
    let (_dir, config) = site("net_af_packet0,iface=kr-nowhere", "net_null1", "");
    let sentence = refusal(&config);
    assert!(sentence.contains("port access") && sentence.contains("kr-nowhere"), "{sentence}");
}

#[test]
fn a_busy_socket_is_one_sentence_and_the_other_daemon_goes_on() {
    let (dir, config) = site("net_null0", "net_null1", "");
    let mut first = Kronod::start(&config, &[]);
    first.wait_for("kronod ready");
    let sentence = refusal(&config);
    assert!(sentence.contains("another process answers on it"), "{sentence}");
    assert!(dir.path().join("kronod.sock").exists());
    first.signal("TERM");
    assert_eq!(first.end().0, Some(0));
}

#[test]
fn no_memory_is_one_sentence() {
    let (_dir, config) = site("net_null0", "net_null1", "");
    let text =
        fs::read_to_string(&config).unwrap().replace("hugepages: off", "hugepages: required");
    // More than is reserved, however much that is here.
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let free = meminfo.lines().find_map(|line| line.strip_prefix("HugePages_Free:")).unwrap();
    let more = free.trim().parse::<u32>().unwrap() * 2 + 64;
    fs::write(&config, text.replace("memory: 64M", &format!("memory: {more}M"))).unwrap();
    let sentence = refusal(&config);
    assert!(sentence.contains("huge pages"), "{sentence}");
}

#[test]
fn it_ends_by_itself_when_no_packet_comes() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.pcap");
    // A capture's header (libpcap, little endian, microseconds, Ethernet) and no packet.
    let header: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, 1];
    let bytes: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
    fs::write(&empty, bytes).unwrap();
    let device = |n| {
        let out = dir.path().join(format!("out{n}.pcap"));
        format!("net_pcap{n},rx_pcap={},tx_pcap={}", empty.display(), out.display())
    };
    let (_site, config) = site(&device(0), &device(1), "clock: capture");
    let (code, log) = Kronod::start(&config, &["--exit-when-idle", "300ms"]).end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("kronod ready") && log.contains("no packet for"), "{log}");
}
