//! The thread behind the control socket.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::protocol::{REQUEST_MAX, Request, Response};
use super::{Facts, Socket, answer};
use crate::spare_cpus::SpareCpus;

/// Clients at once; more are told so.
const CLIENTS_MAX: usize = 16;

/// How long a client may take from one whole request to the next, and to take its answer.
const CLIENT_PATIENCE: Duration = Duration::from_secs(10);

/// How often the thread looks for clients while there are none.
const IDLE_INTERVAL: Duration = Duration::from_millis(20);

/// How often it looks at the clients that there are.
const CLIENT_INTERVAL: Duration = Duration::from_millis(1);

/// Serves a control socket until it is dropped; the socket is removed then.
pub struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `socket` on a thread of its own.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn start(socket: Socket, facts: Arc<Facts>, cpus: SpareCpus) -> io::Result<Server> {
        let stop = Arc::new(AtomicBool::new(false));
        let is_stopped = stop.clone();
        let thread = thread::Builder::new().name("control".to_owned()).spawn(move || {
            cpus.occupy();
            serve(&socket, &facts, &is_stopped);
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
            log::error!("the control thread panicked");
        }
    }
}

fn serve(socket: &Socket, facts: &Facts, stop: &AtomicBool) {
    let mut clients = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        accept(socket, &mut clients);
        let mut is_busy = false;
        clients.retain_mut(|client: &mut Client| match client.advance(facts) {
            Ok(advanced) => {
                is_busy |= advanced;
                true
            }
            Err(_gone) => false,
        });
        if !is_busy {
            thread::sleep(if clients.is_empty() { IDLE_INTERVAL } else { CLIENT_INTERVAL });
        }
    }
}

fn accept(socket: &Socket, clients: &mut Vec<Client>) {
    loop {
        let stream = match socket.listener().accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => {
                log::warn!("control.socket: {error}");
                return;
            }
        };
        if stream.set_nonblocking(true).is_err() {
            continue;
        }
        let mut client = Client::new(stream);
        if clients.len() >= CLIENTS_MAX {
            client.refuse(format!("there are {CLIENTS_MAX} clients already; try again later"));
            // As much as fits at once, which an error does; it is not waited for.
            let _ = client.send();
            continue;
        }
        clients.push(client);
    }
}

/// A connection, with what has come and what is to go.
struct Client {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// How much of `output` has gone.
    gone: usize,
    /// Whether nothing more is read.
    is_refused: bool,
    /// When a whole request must have come and its answer gone.
    deadline: Instant,
}

impl Client {
    fn new(stream: UnixStream) -> Client {
        let deadline = Instant::now() + CLIENT_PATIENCE;
        Client {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            gone: 0,
            is_refused: false,
            deadline,
        }
    }

    /// Does what can be done without waiting, at most one request; whether there was anything.
    fn advance(&mut self, facts: &Facts) -> io::Result<bool> {
        if Instant::now() >= self.deadline {
            return Err(ErrorKind::TimedOut.into());
        }
        if self.gone < self.output.len() {
            return self.send();
        }
        if self.is_refused {
            return Err(ErrorKind::InvalidInput.into());
        }
        let has_read = self.read()?;
        let Some(end) = self.input.iter().position(|byte| *byte == b'\n') else {
            if self.input.len() > REQUEST_MAX {
                self.refuse(format!("a request has at most {REQUEST_MAX} bytes"));
            }
            return Ok(has_read);
        };
        let answer = Request::from_line(&self.input[..end])
            .and_then(|request| answer::answer(&request, facts));
        self.input.drain(..=end);
        self.respond(answer.into());
        self.deadline = Instant::now() + CLIENT_PATIENCE;
        self.send()?;
        Ok(true)
    }

    /// Reads up to a request's length and the end of its line.
    fn read(&mut self) -> io::Result<bool> {
        let mut room = [0; REQUEST_MAX + 1];
        let free = room.len() - self.input.len();
        if free == 0 {
            return Ok(false);
        }
        match self.stream.read(&mut room[..free]) {
            // Requests that came before the end are still answered.
            Ok(0) if self.input.contains(&b'\n') => Ok(false),
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.input.extend_from_slice(&room[..count]);
                Ok(true)
            }
            Err(error) if is_transient(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sends as much as the client takes; whether it took anything.
    fn send(&mut self) -> io::Result<bool> {
        match self.stream.write(&self.output[self.gone..]) {
            Ok(0) => Err(ErrorKind::WriteZero.into()),
            Ok(count) => {
                self.gone += count;
                Ok(true)
            }
            Err(error) if is_transient(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn respond(&mut self, response: Response) {
        self.output.clear();
        self.gone = 0;
        serde_json::to_writer(&mut self.output, &response).expect("a response can be written");
        self.output.push(b'\n');
    }

    /// Says why nothing more will be read, and hangs up when that is sent.
    fn refuse(&mut self, why: String) {
        self.respond(Err(why).into());
        self.is_refused = true;
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
