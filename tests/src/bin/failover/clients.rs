//! Real clients: curl that fetches a large file slowly, and iperf3 at a steady rate.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use krono_tests::cluster::{Cluster, Plan, SERVER};
use krono_tests::netns::{Process, eventually};
use serde_json::Value;

/// What is fetched.
const FILE_BYTES: usize = 8 << 20;
const FILE: &str = "file";

/// Fetches of each shard at once.
const FETCHES: u8 = 2;

/// What iperf3 sends, a second.
const RATE: &str = "8M";
/// The length of what iperf3 reports by itself.
const REPORT_SECONDS: f64 = 0.1;

/// How much longer than meant they may take.
const PATIENCE: Duration = Duration::from_secs(30);

const FIRST_SUBSCRIBER: u8 = 180;
const IPERF3_SUBSCRIBER: u8 = 190;
const IPERF3_PORT: u16 = 5201;

/// The server of files, and what they are to be.
pub(crate) struct Web {
    _server: Process,
    hash: String,
}

impl Web {
    pub(crate) fn start(cluster: &Cluster) -> Result<Web> {
        let dir = cluster.dir().join("www");
        fs::create_dir_all(&dir)?;
        let file = dir.join(FILE);
        let mut random = fs::File::open("/dev/urandom")?;
        let mut bytes = vec![0; FILE_BYTES];
        std::io::Read::read_exact(&mut random, &mut bytes)?;
        fs::write(&file, bytes)?;
        let hashed = Command::new("sha256sum").arg(&file).output()?;
        let hash = first_word(&String::from_utf8_lossy(&hashed.stdout));
        ensure!(hash.len() == 64, "sha256sum said {hash:?}");
        let line =
            format!("python3 -u -m http.server --bind {SERVER} --directory {} 80", dir.display());
        let mut server = cluster.servers.spawn(&line, &cluster.dir().join("web.log"))?;
        server.wait_for("Serving HTTP", PATIENCE)?;
        Ok(Web { _server: server, hash })
    }
}

fn first_word(text: &str) -> String {
    text.split_whitespace().next().unwrap_or_default().to_owned()
}

/// What became of the clients.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) fetches: usize,
    pub(crate) fetched_right: usize,
    pub(crate) streams: usize,
    pub(crate) streams_whole: usize,
    /// The longest time in which an iperf3 had nothing taken from it, s.
    pub(crate) longest_stall: f64,
}

/// Clients of all shards, while something is done to the nodes.
pub(crate) struct Clients {
    fetches: Vec<Process>,
    streams: Vec<Process>,
    _servers: Vec<Process>,
}

impl Clients {
    /// Starts them; they take so long if nothing hinders them.
    pub(crate) fn start(cluster: &Cluster, time: Duration) -> Result<Clients> {
        let rate = FILE_BYTES as u64 / time.as_secs();
        let file = |name: String| cluster.dir().join(name);
        let (mut fetches, mut streams, mut servers) = (Vec::new(), Vec::new(), Vec::new());
        for shard in cluster.plan.shards() {
            for number in 0..FETCHES {
                let from = Plan::subscriber(shard, FIRST_SUBSCRIBER + number);
                let fetch = format!(
                    "curl --silent --show-error --fail --interface {from} --limit-rate {rate} \
                     http://{SERVER}/{FILE} | sha256sum"
                );
                let mut command = cluster.subscribers.command("sh");
                command.args(["-c", &fetch]);
                let log = file(format!("fetch-{shard}-{number}.log"));
                fetches.push(Process::start(command, &log)?);
            }
            let port = IPERF3_PORT + u16::from(shard);
            let line = format!("iperf3 -s -1 -B {SERVER} -p {port} --forceflush");
            let mut server = cluster.servers.spawn(&line, &file(format!("iperf3-{shard}.log")))?;
            server.wait_for("listening", PATIENCE)?;
            servers.push(server);
            let from = Plan::subscriber(shard, IPERF3_SUBSCRIBER);
            let (seconds, log) = (time.as_secs(), file(format!("stream-{shard}.json")));
            let line = format!(
                "iperf3 -c {SERVER} -p {port} -B {from} -b {RATE} -t {seconds} -i {REPORT_SECONDS} -J"
            );
            streams.push(cluster.subscribers.spawn(&line, &log)?);
        }
        Ok(Clients { fetches, streams, _servers: servers })
    }

    /// Waits for their ends, and looks at what they have got.
    pub(crate) fn finish(mut self, web: &Web) -> Result<Outcome> {
        // Who hangs is killed with `self`, and has not finished.
        let all = self.fetches.iter_mut().chain(&mut self.streams);
        let mut all = all.collect::<Vec<_>>();
        let _ = eventually("clients end", PATIENCE, || {
            all.iter_mut().all(|client| client.ended().is_ok_and(|status| status.is_some()))
        });
        let right = |fetch: &&Process| first_word(&fetch.printed()) == web.hash;
        let stalls: Vec<f64> =
            self.streams.iter().filter_map(|it| stall(&it.printed()).ok()).collect();
        Ok(Outcome {
            fetches: self.fetches.len(),
            fetched_right: self.fetches.iter().filter(right).count(),
            streams: self.streams.len(),
            streams_whole: stalls.len(),
            longest_stall: stalls.into_iter().fold(0.0, f64::max),
        })
    }
}

/// The longest time without a byte in a report of iperf3 that came to its end.
fn stall(report: &str) -> Result<f64> {
    let report: Value = serde_json::from_str(report)?;
    ensure!(report["error"].is_null(), "{}", report["error"]);
    ensure!(report["end"]["sum_received"]["bytes"].as_u64() > Some(0), "nothing received");
    let intervals = report["intervals"].as_array().context("no intervals")?;
    let (mut longest, mut current) = (0, 0);
    for interval in intervals {
        let is_empty = interval["sum"]["bytes"].as_u64() == Some(0);
        current = if is_empty { current + 1 } else { 0 };
        longest = longest.max(current);
    }
    Ok(f64::from(longest) * REPORT_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_stall_is_the_longest_run_of_intervals_without_a_byte() {
        let intervals = |bytes: &[u64]| -> Vec<Value> {
            bytes.iter().map(|bytes| json!({"sum": {"bytes": bytes}})).collect()
        };
        let report = |bytes: &[u64], received: u64| {
            json!({"intervals": intervals(bytes), "end": {"sum_received": {"bytes": received}}})
                .to_string()
        };
        let stalled = stall(&report(&[5, 0, 5, 0, 0, 0, 5, 0, 0], 9)).unwrap();
        assert!((stalled - 0.3).abs() < 1e-9, "{stalled}");
        assert!(stall(&report(&[5, 5], 9)).unwrap() == 0.0);
        assert!(stall(&report(&[5, 5], 0)).is_err());
        assert!(stall(r#"{"error": "connection reset", "intervals": [], "end": {}}"#).is_err());
        assert!(stall("interrupted").is_err());
    }
}
