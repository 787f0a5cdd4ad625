//! The other end of the control socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::value::RawValue;

use super::protocol::{Request, Response, VERSION};

/// How long an answer may take to begin or to go on.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest answer, bytes.
const ANSWER_MAX: u64 = 64 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody is there.
    #[error("no kronod answers on {0}: {1}; is it running, and may you ask it?")]
    NoDaemon(String, io::Error),
    /// It went away.
    #[error("kronod did not answer: {0}")]
    Lost(io::Error),
    /// What it says makes no sense.
    #[error("kronod's answer is not understood ({0}); kronoctl and kronod must be of one version")]
    Strange(String),
    /// It refuses, and says why.
    #[error("{0}")]
    Refused(String),
}

/// A connection to a running kronod.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the kronod behind this socket.
    ///
    /// # Errors
    /// If nobody answers on it.
    pub fn connect(socket: &Path) -> Result<Client, ClientError> {
        let connect = || {
            let stream = UnixStream::connect(socket)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        };
        let stream = connect()
            .map_err(|error| ClientError::NoDaemon(socket.display().to_string(), error))?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    /// Asks, and waits for the answer: JSON as the daemon wrote it.
    ///
    /// # Errors
    /// If there is none, or the daemon refuses.
    pub fn ask(&mut self, request: &Request) -> Result<Box<RawValue>, ClientError> {
        let line = request.to_line() + "\n";
        self.stream.get_mut().write_all(line.as_bytes()).map_err(ClientError::Lost)?;
        let mut line = Vec::new();
        let mut answer = self.stream.by_ref().take(ANSWER_MAX);
        answer.read_until(b'\n', &mut line).map_err(ClientError::Lost)?;
        if line.last() != Some(&b'\n') {
            return Err(ClientError::Lost(io::ErrorKind::UnexpectedEof.into()));
        }
        answer_from_line(&line)
    }
}

/// Reads what kronod says, a line with or without its end.
///
/// # Errors
/// If it makes no sense, or is a refusal.
pub fn answer_from_line(line: &[u8]) -> Result<Box<RawValue>, ClientError> {
    let strange = |error: serde_json::Error| ClientError::Strange(error.to_string());
    match serde_json::from_slice(line).map_err(strange)? {
        Response { error: Some(error), .. } => Err(ClientError::Refused(error)),
        Response { version: VERSION, answer: Some(answer), .. } => Ok(answer),
        Response { version: VERSION, answer: None, .. } => {
            Err(ClientError::Strange("neither an answer nor an error".to_owned()))
        }
        Response { version, .. } => {
            Err(ClientError::Strange(format!("version {version}, expected {VERSION}")))
        }
    }
}
