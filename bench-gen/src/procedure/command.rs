//! Commands of the user, run by `sh`.

use std::fs::File;
use std::io::{Read, Seek};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A command that was started.
pub(super) struct Running {
    child: Child,
    /// What it says; a file, since something that it leaves running may hold it open.
    output: File,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// What is wrong with its end, in words; `None`: status 0.
    pub complaint: Option<String>,
    /// How long it took.
    pub took: Duration,
}

impl Running {
    /// Starts a command.
    pub(super) fn start(command: &str) -> Result<Running, String> {
        let start = || -> std::io::Result<Running> {
            let output = tempfile::tempfile()?;
            let child = Command::new("sh")
                .args(["-c", command])
                .stdin(Stdio::null())
                .stdout(output.try_clone()?)
                .stderr(output.try_clone()?)
                .spawn()?;
            Ok(Running { child, output })
        };
        start().map_err(|error| format!("`{command}` could not be run: {error}"))
    }

    /// What is wrong with its end; a command that still runs is left alone.
    pub(super) fn complaint(mut self, command: &str) -> Option<String> {
        match self.child.try_wait() {
            Ok(Some(status)) if status.success() => None,
            Ok(Some(status)) => Some(format!("`{command}` ended with {status}{}", self.said())),
            Ok(None) => Some(format!("`{command}` has not ended")),
            Err(error) => Some(format!("`{command}`: {error}")),
        }
    }

    /// The end of what it said.
    fn said(&mut self) -> String {
        let mut text = Vec::new();
        let read = self.output.rewind().and_then(|()| self.output.read_to_end(&mut text));
        let text = String::from_utf8_lossy(&text);
        match (read, text.trim().lines().last()) {
            (Ok(_), Some(line)) => format!(": {line}"),
            _ => String::new(),
        }
    }
}

/// Runs a command to its end.
///
/// # Errors
/// If it cannot be started.
pub fn run_command(command: &str) -> Result<Finished, String> {
    let begin = Instant::now();
    let mut running = Running::start(command)?;
    running.child.wait().map_err(|error| format!("`{command}`: {error}"))?;
    let took = begin.elapsed();
    Ok(Finished { complaint: running.complaint(command), took })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_timed_and_its_failure_told() {
        let finished = run_command("sleep 0.05").unwrap();
        assert_eq!(finished.complaint, None);
        assert!(finished.took >= Duration::from_millis(50), "{:?}", finished.took);
        let failed = run_command("echo fine; echo no such table >&2; exit 3").unwrap();
        let complaint = failed.complaint.unwrap();
        assert!(complaint.ends_with("ended with exit status: 3: no such table"), "{complaint}");
    }

    #[test]
    fn what_a_command_leaves_running_does_not_hold_it_up() {
        let finished = run_command("sleep 5 &").unwrap();
        assert!(finished.took < Duration::from_secs(4), "{:?}", finished.took);
    }
}
