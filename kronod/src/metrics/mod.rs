//! Figures for Prometheus and its like, over HTTP.
//!
//! One thread serves `GET /metrics`, one connection at a time, each for a bounded time: whoever
//! scrapes comes every few seconds.

mod figures;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::control::Facts;
use crate::spare_cpus::SpareCpus;
use figures::Figures;

/// How often the thread looks for connections.
const ACCEPT_INTERVAL: Duration = Duration::from_millis(50);

/// How long a connection may take to send its request, and then to take the answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The longest request, bytes: its line and its headers.
const REQUEST_MAX: usize = 4096;

/// What the answer is written in.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Why metrics cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("metrics.listen: {address}: {reason}; choose an address of this machine and a free port")]
pub struct ListenError {
    address: SocketAddr,
    reason: io::Error,
}

/// An address to serve metrics at.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Takes the address; with port 0 the kernel chooses one.
    ///
    /// # Errors
    /// If it is not to be had.
    pub fn bind(address: SocketAddr) -> Result<Listener, ListenError> {
        let bind = || {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok(Listener { listener, address })
        };
        bind().map_err(|reason| ListenError { address, reason })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Serves metrics until it is dropped.
pub struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves at `listener` on a thread of its own.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn start(listener: Listener, facts: Arc<Facts>, cpus: SpareCpus) -> io::Result<Server> {
        let stop = Arc::new(AtomicBool::new(false));
        let is_stopped = stop.clone();
        let thread = thread::Builder::new().name("metrics".to_owned()).spawn(move || {
            cpus.occupy();
            serve(&listener.listener, &Figures::of(facts), &is_stopped);
        })?;
        Ok(Server { stop, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the metrics thread panicked");
        }
    }
}

fn serve(listener: &TcpListener, figures: &Figures, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            // Who hangs up or dawdles is not worth a line in the log.
            Ok((mut stream, _)) => drop(converse(&mut stream, figures)),
            Err(error) => {
                if error.kind() != ErrorKind::WouldBlock {
                    log::warn!("metrics.listen: {error}");
                }
                thread::sleep(ACCEPT_INTERVAL);
            }
        }
    }
}

/// One request, one response, and the end of the connection.
fn converse(stream: &mut TcpStream, figures: &Figures) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    let head = read_head(stream, Instant::now() + PATIENCE)?;
    let (status, body) = respond(&head, figures);
    let (kind, allow) = match status {
        "200 OK" => (CONTENT_TYPE, ""),
        "405 Method Not Allowed" => ("text/plain; charset=utf-8", "Allow: GET\r\n"),
        _ => ("text/plain; charset=utf-8", ""),
    };
    let response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{allow}\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    write_by(stream, response.as_bytes(), Instant::now() + PATIENCE)
}

/// The bytes up to the empty line behind the headers, or as many as a request may have.
fn read_head(stream: &mut TcpStream, by: Instant) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut room = [0; REQUEST_MAX];
    while !is_whole(&head) && head.len() < REQUEST_MAX {
        stream.set_read_timeout(Some(time_until(by)?))?;
        match stream.read(&mut room[head.len()..])? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => head.extend_from_slice(&room[head.len()..][..count]),
        }
    }
    Ok(head)
}

fn is_whole(head: &[u8]) -> bool {
    head.windows(4).any(|window| window == b"\r\n\r\n")
}

fn write_by(stream: &mut TcpStream, mut bytes: &[u8], by: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(time_until(by)?))?;
        match stream.write(bytes)? {
            0 => return Err(ErrorKind::WriteZero.into()),
            count => bytes = &bytes[count..],
        }
    }
    Ok(())
}

fn time_until(by: Instant) -> io::Result<Duration> {
    let left = by.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn respond(head: &[u8], figures: &Figures) -> (&'static str, String) {
    if !is_whole(head) {
        let sentence = format!("A request has at most {REQUEST_MAX} bytes.\n");
        return ("431 Request Header Fields Too Large", sentence);
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else {
        return ("400 Bad Request", "This is not HTTP.\n".to_owned());
    };
    if !version.starts_with(b"HTTP/1.") {
        return ("400 Bad Request", "Only HTTP/1 is spoken here.\n".to_owned());
    }
    // What is asked beyond the path, as in /metrics?x=y, changes nothing.
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    match (method, path) {
        (b"GET", b"/metrics") => ("200 OK", figures.encode()),
        (b"GET", _) => ("404 Not Found", "There is only /metrics here.\n".to_owned()),
        _ => ("405 Method Not Allowed", "There is only GET here.\n".to_owned()),
    }
}
