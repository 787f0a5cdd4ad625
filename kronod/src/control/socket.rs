//! The control socket as a file.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Why the control socket could not be made, with its path.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody answers there.
    #[error("control.socket: {0}: another process answers on it; stop that or choose another path")]
    Busy(String),
    /// Something else has that name.
    #[error("control.socket: {0}: exists and is not a socket; remove it or choose another path")]
    NotASocket(String),
    /// The system refuses.
    #[error("control.socket: {0}: {1}; the directory must exist and be writable")]
    Io(String, io::Error),
}

/// A socket that listens at a path, which it removes when it is dropped. Only its owner may
/// connect, at any moment.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    /// Device and inode, by which the file is known to be still this one.
    identity: (u64, u64),
    listener: UnixListener,
}

impl Socket {
    /// Listens at `path`, in place of a socket that nobody answers on any more.
    ///
    /// # Errors
    /// If somebody answers there, or the place is not to be had.
    pub fn bind(path: &Path) -> Result<Socket, BindError> {
        refuse_if_taken(path)?;
        Self::bind_aside(path).map_err(|error| BindError::Io(path.display().to_string(), error))
    }

    /// A socket gets its permissions from the umask, which is the whole process's, and only then
    /// others. So it is made in a directory that nobody else may enter, and moved when it is
    /// ready, over a stale one if need be.
    fn bind_aside(path: &Path) -> io::Result<Socket> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let room = tempfile::Builder::new()
            .prefix(".kronod-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent.unwrap_or(Path::new(".")))?;
        let aside = room.path().join("socket");
        // The way through the open directory is short where the path may be too long for a
        // socket's address.
        let open_room = File::open(room.path())?;
        let listener =
            UnixListener::bind(format!("/proc/self/fd/{}/socket", open_room.as_raw_fd()))?;
        listener.set_nonblocking(true)?;
        fs::set_permissions(&aside, Permissions::from_mode(0o600))?;
        let metadata = fs::symlink_metadata(&aside)?;
        fs::rename(&aside, path)?;
        let identity = (metadata.dev(), metadata.ino());
        Ok(Socket { path: path.to_owned(), identity, listener })
    }

    /// Where it listens; not blocking.
    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

fn refuse_if_taken(path: &Path) -> Result<(), BindError> {
    let name = || path.display().to_string();
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(BindError::Io(name(), error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(BindError::NotASocket(name()));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(BindError::Busy(name())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(BindError::Io(name(), error)),
    }
}

impl Drop for Socket {
    /// Removes the file, unless another has taken its place.
    fn drop(&mut self) {
        let now = fs::symlink_metadata(&self.path).map(|file| (file.dev(), file.ino()));
        if now.is_ok_and(|identity| identity == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!("control.socket: {}: cannot be removed: {error}", self.path.display());
        }
    }
}
