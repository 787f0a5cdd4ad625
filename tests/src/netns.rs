//! Network namespaces that need no cleaning up, and programs that run in them.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// How often something awaited is looked for.
const POLL: Duration = Duration::from_millis(10);

/// A network namespace without a name, which a sleeping process keeps alive.
///
/// It ends with this value. It also ends when the test is killed, since the kernel then kills
/// everything started here (`PR_SET_PDEATHSIG`), and a namespace takes its interfaces along.
#[derive(Debug)]
pub struct Namespace {
    holder: Child,
}

impl Namespace {
    /// A new namespace with its loopback up.
    ///
    /// # Errors
    /// If this process may not make one.
    pub fn new() -> Result<Self> {
        let holder = tied("unshare")
            .args(["--net", "sleep", "infinity"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("setpriv and unshare (util-linux)")?;
        let mut namespace = Namespace { holder };
        namespace.wait_until_apart()?;
        namespace.run("ip link set lo up")?;
        Ok(namespace)
    }

    /// Why namespaces cannot be used here, if they cannot.
    pub fn missing_permission() -> Option<String> {
        Namespace::new().err().map(|error| format!("cannot make a network namespace: {error:#}"))
    }

    fn wait_until_apart(&mut self) -> Result<()> {
        let ours = fs::read_link("/proc/self/ns/net")?;
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            if let Some(status) = self.holder.try_wait()? {
                bail!("unshare --net: {status} (are you root?)");
            }
            if fs::read_link(self.path()).is_ok_and(|theirs| theirs != ours) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the namespace did not come up in 5 s");
            sleep(POLL);
        }
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.holder.id()))
    }

    /// What a thread needs to move here.
    ///
    /// # Errors
    /// If the namespace is gone.
    pub fn link(&self) -> Result<Link> {
        Ok(Link(fs::File::open(self.path())?))
    }

    /// The process that stands for this namespace in `ip link … netns PID`.
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// `program`, to be run in this namespace, with the process id of the program itself.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = tied("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg(program);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command line, whose words are separated by single spaces, for at most a minute, and
    /// returns its standard output.
    ///
    /// # Errors
    /// If it fails; with all that it printed.
    pub fn run(&self, line: &str) -> Result<String> {
        succeeded(line, &self.attempt(line)?)
    }

    /// Runs a command line as [`Namespace::run`] does, whatever becomes of it.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn attempt(&self, line: &str) -> Result<Output> {
        let mut command = self.command("timeout");
        command.args(["--kill-after=1", "60"]).args(line.split(' '));
        command.output().with_context(|| line.to_owned())
    }

    /// Runs a shell script for at most a minute, and returns its standard output.
    ///
    /// # Errors
    /// If it fails; with all that it printed.
    pub fn shell(&self, script: &str) -> Result<String> {
        let mut command = self.command("timeout");
        let output = command.args(["--kill-after=1", "60", "sh", "-ec", script]).output()?;
        succeeded(script, &output)
    }

    /// Starts a program that runs until it is dropped; what it prints goes to `log`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(&self, line: &str, log: &Path) -> Result<Process> {
        let mut words = line.split(' ');
        let program = words.next().unwrap_or_default();
        let mut command = self.command(program);
        command.args(words);
        Process::start(command, log)
    }
}

/// A way into a namespace.
#[derive(Debug)]
pub struct Link(fs::File);

impl Link {
    /// Moves the calling thread there: the sockets that it makes from now on are of that namespace.
    ///
    /// # Errors
    /// If this process may not.
    pub fn enter(&self) -> Result<()> {
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(self.0.as_fd(), kind).context("cannot enter a network namespace")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It can only fail if the holder is gone already.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Joins two namespaces by a veth pair whose ends are up, without IPv6. Transmit checksum offload is
/// off, or frames would cross the pair with partial checksums.
///
/// # Errors
/// If an interface cannot be made.
pub fn plug(one: &Namespace, name: &str, other: &Namespace, other_name: &str) -> Result<()> {
    let peer = format!("peer name {other_name} netns {}", other.pid());
    one.run(&format!("ip link add {name} type veth {peer}"))?;
    for (namespace, interface) in [(one, name), (other, other_name)] {
        namespace.shell(&format!(
            "echo 1 > /proc/sys/net/ipv6/conf/{interface}/disable_ipv6
             ethtool -K {interface} tx off >/dev/null
             ip link set {interface} up"
        ))?;
    }
    Ok(())
}

/// The standard output of a command that succeeded.
fn succeeded(what: &str, output: &Output) -> Result<String> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (printed, complaint) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "{what}: {}\n{printed}{complaint}", output.status);
    Ok(printed)
}

/// A program that dies with this process, however this process dies.
pub(crate) fn tied(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// A running program, killed when this value is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with both its outputs in the file `log`.
    ///
    /// # Errors
    /// If the program or the file cannot be opened.
    pub fn start(mut command: Command, log: &Path) -> Result<Self> {
        let file = fs::File::create(log).with_context(|| log.display().to_string())?;
        command.stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("{command:?}"))?;
        Ok(Process { child, log: log.to_owned() })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub fn printed(&self) -> String {
        fs::read(&self.log)
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .unwrap_or_default()
    }

    /// Waits until it has printed `text`.
    ///
    /// # Errors
    /// If it ends before, or does not within `timeout`.
    pub fn wait_for(&mut self, text: &str, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        while !self.printed().contains(text) {
            if let Some(status) = self.ended()? {
                bail!("ended ({status}) before printing '{text}':\n{}", self.printed());
            }
            ensure!(Instant::now() < deadline, "no '{text}' in {timeout:?}:\n{}", self.printed());
            sleep(POLL);
        }
        Ok(())
    }

    /// Sends a signal, such as `TERM`.
    ///
    /// # Errors
    /// If the program has ended.
    pub fn signal(&self, name: &str) -> Result<()> {
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status()
            .context("kill (procps)")?;
        ensure!(status.success(), "kill -{name}: {status}");
        Ok(())
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it does not end within `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            ensure!(
                Instant::now() < deadline,
                "still running after {timeout:?}:\n{}",
                self.printed()
            );
            sleep(POLL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It can only fail if the program is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `condition` holds.
///
/// # Errors
/// If it does not within `timeout`; `what` is named then.
pub fn eventually(
    what: &str,
    timeout: Duration,
    mut condition: impl FnMut() -> bool,
) -> Result<()> {
    let deadline = Instant::now() + timeout;
    while !condition() {
        ensure!(Instant::now() < deadline, "not within {timeout:?}: {what}");
        sleep(POLL);
    }
    Ok(())
}
