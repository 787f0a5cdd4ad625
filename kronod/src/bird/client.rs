//! The other end of BIRD's control socket.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::reply::Reply;

/// The longest reply, bytes: as many shards as there can be take some 30 KiB.
const REPLY_MAX: usize = 1 << 20;

/// The code of what BIRD says to who connects.
const WELCOME: u16 = 1;

/// Why BIRD did not do or say what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// Nobody is there.
    #[error("no BIRD answers on {0}: {1}")]
    Absent(String, io::Error),
    /// Only a group may ask it.
    #[error("{0}: {1}; kronod must be in the group that the socket belongs to")]
    Forbidden(String, io::Error),
    /// It is frozen, or has much to do.
    #[error("BIRD does not answer within {0:?}")]
    Silent(Duration),
    /// It went away.
    #[error("BIRD has gone: {0}")]
    Gone(io::Error),
    /// Somebody else answers.
    #[error("what answers on BIRD's socket is not BIRD: {0}")]
    Strange(String),
}

/// A connection to a running BIRD.
#[derive(Debug)]
pub(super) struct Client {
    stream: UnixStream,
    patience: Duration,
    /// What has come of the next reply.
    unread: Vec<u8>,
}

impl Client {
    /// Connects to the BIRD behind this socket, which is to answer each question within `patience`.
    pub(super) fn connect(socket: &Path, patience: Duration) -> Result<Client, ClientError> {
        let stream = open(socket).map_err(|error| {
            let path = socket.display().to_string();
            match error.kind() {
                ErrorKind::PermissionDenied => ClientError::Forbidden(path, error),
                // Its queue is full of those that it did not answer.
                ErrorKind::WouldBlock => ClientError::Silent(patience),
                _ => ClientError::Absent(path, error),
            }
        })?;
        stream.set_write_timeout(Some(patience)).map_err(ClientError::Gone)?;
        let mut client = Client { stream, patience, unread: Vec::new() };
        match client.reply(Instant::now() + patience)?.code() {
            WELCOME => Ok(client),
            code => Err(ClientError::Strange(format!("it begins with code {code}"))),
        }
    }

    /// Asks, and waits for the reply.
    pub(super) fn ask(&mut self, command: &str) -> Result<Reply, ClientError> {
        let deadline = Instant::now() + self.patience;
        self.stream
            .write_all(format!("{command}\n").as_bytes())
            .map_err(|error| self.lost(error))?;
        self.reply(deadline)
    }

    fn reply(&mut self, deadline: Instant) -> Result<Reply, ClientError> {
        let mut room = [0; 4096];
        loop {
            let read = Reply::read(&self.unread)
                .map_err(|strange| ClientError::Strange(strange.to_string()))?;
            if let Some((reply, length)) = read {
                self.unread.drain(..length);
                return Ok(reply);
            }
            if self.unread.len() > REPLY_MAX {
                return Err(ClientError::Strange("its reply does not end".to_owned()));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ClientError::Silent(self.patience));
            }
            self.stream.set_read_timeout(Some(left)).map_err(ClientError::Gone)?;
            match self.stream.read(&mut room) {
                Ok(0) => return Err(ClientError::Gone(ErrorKind::UnexpectedEof.into())),
                Ok(count) => self.unread.extend_from_slice(&room[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.lost(error)),
            }
        }
    }

    fn lost(&self, error: io::Error) -> ClientError {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => ClientError::Silent(self.patience),
            _ => ClientError::Gone(error),
        }
    }
}

/// Connects at once or not at all: who connects the usual way waits without end for one who is
/// frozen and whose queue is full.
fn open(socket: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&fd, &SocketAddrUnix::new(socket)?)?;
    let stream = UnixStream::from(fd);
    stream.set_nonblocking(false)?;
    Ok(stream)
}
