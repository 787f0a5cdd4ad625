//! Has BIRD do what is wanted, again and again until it does, and says so.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use log::Level;

use super::announce::{PREFIX, Wanted};
use super::client::{Client, ClientError};
use super::reply::{NO_PROTOCOL, Reply};
use crate::config::BirdConfig;

/// How often BIRD is looked after, and asked again if it refused.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long BIRD may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long its protocols may take to come and go once it has read its configuration, and how often
/// they are looked at meanwhile.
const SETTLING: Duration = Duration::from_secs(1);
const SETTLING_INTERVAL: Duration = Duration::from_millis(20);

/// Why routes are not announced.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0}: {1}")]
    File(String, io::Error),
    #[error("{0}")]
    Client(#[from] ClientError),
    #[error("BIRD refuses its configuration: {0}")]
    Refused(String),
    #[error("BIRD refuses to show its protocols: {0}")]
    Hidden(String),
    #[error("BIRD does not know {protocol}; does its configuration include {include}?")]
    Unknown { protocol: String, include: String },
    #[error("{protocol} is {state} in BIRD")]
    Down { protocol: String, state: String },
    #[error("BIRD still has {protocol}; does its configuration include {include}?")]
    Stale { protocol: String, include: String },
}

/// What BIRD is to announce, and how far that is done.
#[derive(Debug)]
pub(super) struct Driver {
    places: BirdConfig,
    wanted: Wanted,
    /// Whether that is in the file.
    is_written: bool,
    /// Whether the BIRD behind `client` has read it.
    is_read: bool,
    client: Option<Client>,
    patience: Duration,
    due: Instant,
    teller: Teller,
}

impl Driver {
    pub(super) fn new(places: BirdConfig) -> Driver {
        Driver {
            places,
            wanted: Wanted::nothing(),
            is_written: false,
            is_read: false,
            client: None,
            patience: PATIENCE,
            due: Instant::now(),
            teller: Teller::default(),
        }
    }

    /// Changes what is wanted.
    pub(super) fn want(&mut self, wanted: Wanted) {
        self.is_written &= wanted == self.wanted;
        self.wanted = wanted;
    }

    /// How long there is nothing to do.
    pub(super) fn rest(&self) -> Duration {
        self.due.saturating_duration_since(Instant::now())
    }

    /// Does what is to be done; what is to be told of it, if that is news.
    pub(super) fn advance(&mut self) -> Option<(Level, String)> {
        let was_there = self.client.is_some();
        let mut outcome = self.attempt();
        if was_there && matches!(outcome, Err(Trouble::Client(ClientError::Gone(_)))) {
            // It may have been restarted, which is worth a line.
            self.teller.told = None;
            outcome = self.attempt();
        }
        self.due = Instant::now() + INTERVAL;
        self.teller.tell(&self.wanted.summary, outcome.map_err(|trouble| trouble.to_string()))
    }

    fn attempt(&mut self) -> Result<(), Trouble> {
        if !self.is_written {
            let include = &self.places.include;
            replace(include, &self.wanted.text)
                .map_err(|error| Trouble::File(include.display().to_string(), error))?;
            self.is_written = true;
            self.is_read = false;
        }
        // Who refuses or does not answer is not put back, so that the next attempt begins anew.
        let mut client = match self.client.take() {
            Some(client) => client,
            None => {
                self.is_read = false;
                Client::connect(&self.places.socket, self.patience)?
            }
        };
        let mut settled = Instant::now();
        if !self.is_read {
            let reply = client.ask("configure")?;
            reply.outcome().map_err(|why| Trouble::Refused(why.to_owned()))?;
            self.is_read = true;
            settled = Instant::now() + SETTLING;
        }
        loop {
            let seen = self.compare(&client.ask(&format!("show protocols \"{PREFIX}*\""))?);
            if seen.is_ok() || Instant::now() >= settled {
                self.client = Some(client);
                return seen;
            }
            sleep(SETTLING_INTERVAL);
        }
    }

    /// Whether BIRD has the protocols that it should have, no others, and all of them up.
    fn compare(&self, reply: &Reply) -> Result<(), Trouble> {
        if reply.code() != NO_PROTOCOL {
            reply.outcome().map_err(|why| Trouble::Hidden(why.to_owned()))?;
        }
        let include = || self.places.include.display().to_string();
        for name in &self.wanted.protocols {
            let Some(row) = reply.protocols().find(|row| row.name == name) else {
                return Err(Trouble::Unknown { protocol: name.clone(), include: include() });
            };
            if row.state != "up" {
                let state = row.state.to_owned();
                return Err(Trouble::Down { protocol: name.clone(), state });
            }
        }
        let is_wanted = |name: &str| self.wanted.protocols.iter().any(|wanted| wanted == name);
        match reply.protocols().find(|row| !is_wanted(row.name)) {
            Some(row) => Err(Trouble::Stale { protocol: row.name.to_owned(), include: include() }),
            None => Ok(()),
        }
    }
}

/// Puts a file that everybody may read in the place of another, whole at any moment. Its name
/// meanwhile begins with a dot, which no pattern of BIRD's `include` matches.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut file = tempfile::Builder::new()
        .prefix(".kronod-")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(parent.unwrap_or(Path::new(".")))?;
    file.write_all(text.as_bytes())?;
    // The umask may have taken something away.
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    file.persist(path)?;
    Ok(())
}

/// Says a thing once, until it changes.
#[derive(Debug, Default)]
struct Teller {
    told: Option<String>,
}

impl Teller {
    /// What is to be told of an outcome, if it is news; `summary` says what is announced, if
    /// anything.
    fn tell(&mut self, summary: &str, outcome: Result<(), String>) -> Option<(Level, String)> {
        let (level, line) = match outcome {
            Ok(()) if summary.is_empty() => (Level::Info, "routes are withdrawn".to_owned()),
            Ok(()) => (Level::Info, format!("routes are announced: {summary}")),
            Err(why) if summary.is_empty() => {
                (Level::Warn, format!("routes are not withdrawn: {why}"))
            }
            Err(why) => (Level::Warn, format!("routes are not announced: {why}; kronod serves on")),
        };
        let is_news = self.told.as_ref() != Some(&line);
        self.told = Some(line.clone());
        is_news.then_some((level, line))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::Ipv4Addr;
    use std::os::unix::net::UnixListener;
    use std::thread::{JoinHandle, spawn};

    use rustix::net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
    };
    use tempfile::TempDir;

    use super::super::announce::Announcement;
    use super::super::{Routing, Standing};
    use super::*;
    use crate::spare_cpus::SpareCpus;

    const READY: &str = "0001 BIRD 2.0.12 ready.\n";
    const READ: (&str, &str) = ("configure", "0002-Reading\n0003 Reconfigured\n");
    const REFUSED: (&str, &str) = ("configure", "0002-Reading\n8002 bird.conf:7:1 syntax error\n");
    const LOOK: &str = "show protocols \"krono_shard_*\"";
    const NONE: (&str, &str) = (LOOK, "8003 No protocols match\n");
    const BOTH: (&str, &str) = (
        LOOK,
        "2002-Name\n1002-krono_shard_3_inside Static t up 1\n \
         krono_shard_3_outside Static t up 1\n0000 \n",
    );
    const ONE_IS_DOWN: (&str, &str) = (
        LOOK,
        "2002-Name\n1002-krono_shard_3_inside Static t down 1\n \
         krono_shard_3_outside Static t up 1\n0000 \n",
    );
    const ANNOUNCED: &str = "routes are announced: shard 3 as first";

    /// What BIRD is asked on a connection and answers, until it hangs up.
    type Script = &'static [(&'static str, &'static str)];

    struct Bed {
        dir: TempDir,
        driver: Driver,
    }

    impl Bed {
        fn new() -> Bed {
            let dir = TempDir::new().unwrap();
            let [socket, include] = ["bird.ctl", "krono.conf"].map(|name| dir.path().join(name));
            let mut driver = Driver::new(BirdConfig { socket, include, subscribers: None });
            driver.patience = Duration::from_millis(100);
            driver.want(one_shard());
            Bed { dir, driver }
        }

        fn listen(&self) -> UnixListener {
            _ = std::fs::remove_file(&self.driver.places.socket);
            UnixListener::bind(&self.driver.places.socket).unwrap()
        }

        /// Plays BIRD, one connection after the other.
        fn bird(&self, scripts: &'static [Script]) -> JoinHandle<()> {
            let listener = self.listen();
            spawn(move || scripts.iter().for_each(|script| play(script, &listener)))
        }

        /// What is told of one more attempt, if anything.
        fn told(&mut self) -> Option<String> {
            self.driver.advance().map(|(_, line)| line)
        }

        fn file(&self) -> String {
            std::fs::read_to_string(&self.driver.places.include).unwrap()
        }
    }

    fn play(script: Script, listener: &UnixListener) {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(READY.as_bytes()).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        for (asked, answer) in script {
            assert_eq!(lines.next().unwrap().unwrap(), *asked);
            // BIRD writes when it can, so as much as it can.
            for piece in answer.as_bytes().chunks(7) {
                stream.write_all(piece).unwrap();
            }
        }
    }

    fn announcement() -> Announcement {
        let [inside, outside] = [[10, 255, 0, 1], [10, 255, 1, 1]].map(Ipv4Addr::from);
        let pool = vec!["198.51.100.0/28".parse().unwrap()];
        Announcement { shard: 3, is_master: true, inside, outside, pool, subscribers: None }
    }

    fn one_shard() -> Wanted {
        Wanted::new(&[announcement()], &[Standing::First])
    }

    #[test]
    fn routes_are_written_read_looked_after_and_withdrawn() {
        let mut bed = Bed::new();
        std::fs::write(&bed.driver.places.include, "something old").unwrap();
        let bird = bed.bird(&[&[READ, BOTH, BOTH, READ, NONE]]);
        assert_eq!(bed.told().as_deref(), Some(ANNOUNCED));
        assert_eq!(bed.file(), one_shard().text);
        let mode = std::fs::metadata(&bed.driver.places.include).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        assert!(bed.driver.rest() > INTERVAL / 2);
        bed.driver.want(one_shard());
        assert_eq!(bed.told(), None, "said twice");
        bed.driver.want(Wanted::nothing());
        assert_eq!(bed.told().as_deref(), Some("routes are withdrawn"));
        assert_eq!(bed.file(), Wanted::nothing().text);
        bird.join().unwrap();
        // Nothing is left beside the file and the socket.
        assert_eq!(bed.dir.path().read_dir().unwrap().count(), 2);
    }

    #[test]
    fn without_bird_that_is_said_once_and_routes_are_announced_when_it_comes() {
        let mut bed = Bed::new();
        let told = bed.told().unwrap();
        assert!(told.contains("not announced: no BIRD answers on /"), "{told}");
        assert!(told.ends_with("kronod serves on"), "{told}");
        assert_eq!(bed.told(), None, "said twice");
        assert_eq!(bed.file(), one_shard().text, "BIRD is to find it");
        // Nobody listens where somebody did.
        drop(bed.listen());
        assert!(bed.told().unwrap().contains("refused"));
        let bird = bed.bird(&[&[READ, BOTH]]);
        assert_eq!(bed.told().as_deref(), Some(ANNOUNCED));
        bird.join().unwrap();
    }

    #[test]
    fn what_bird_refuses_is_said_in_its_words_and_asked_again() {
        let mut bed = Bed::new();
        let bird = bed.bird(&[&[REFUSED], &[REFUSED], &[READ, BOTH]]);
        let why = "BIRD refuses its configuration: bird.conf:7:1 syntax error";
        let said = format!("routes are not announced: {why}; kronod serves on");
        assert_eq!(bed.told(), Some(said));
        assert_eq!(bed.told(), None, "said twice");
        assert_eq!(bed.told().as_deref(), Some(ANNOUNCED));
        bird.join().unwrap();
    }

    #[test]
    fn a_bird_that_was_restarted_is_found_at_once_and_said() {
        let mut bed = Bed::new();
        let bird = bed.bird(&[&[READ, BOTH], &[READ, BOTH]]);
        assert_eq!(bed.told().as_deref(), Some(ANNOUNCED));
        assert_eq!(bed.told().as_deref(), Some(ANNOUNCED), "it was restarted");
        bird.join().unwrap();
        // And one that does not come again.
        std::fs::remove_file(&bed.driver.places.socket).unwrap();
        assert!(bed.told().unwrap().contains("no BIRD answers"));
    }

    #[test]
    fn a_bird_that_reads_another_file_is_found_out_but_not_had_read_it_again() {
        let mut bed = Bed::new();
        // It may take a moment until protocols are up.
        let bird = bed.bird(&[&[READ, NONE, ONE_IS_DOWN, BOTH, NONE, ONE_IS_DOWN, BOTH]]);
        assert_eq!(bed.told().as_deref(), Some(ANNOUNCED));
        let told = bed.told().unwrap();
        assert!(told.contains("BIRD does not know krono_shard_3_inside; does"), "{told}");
        assert!(told.contains("include /") && told.contains("krono.conf?"), "{told}");
        let told = bed.told().unwrap();
        assert!(told.contains("krono_shard_3_inside is down in BIRD"), "{told}");
        assert_eq!(bed.told().as_deref(), Some(ANNOUNCED));
        bird.join().unwrap();

        let mut bed = Bed::new();
        bed.driver.want(Wanted::nothing());
        let listener = bed.listen();
        let bird = spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(READY.as_bytes()).unwrap();
            for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                let [read, both] = [READ, BOTH].map(|(_, answer)| answer.as_bytes());
                let answer = if line.unwrap() == "configure" { read } else { both };
                stream.write_all(answer).unwrap();
            }
        });
        let told = bed.told().unwrap();
        assert!(told.contains("not withdrawn: BIRD still has krono_shard_3_inside"), "{told}");
        bed.driver.client = None;
        bird.join().unwrap();
    }

    #[test]
    fn what_comes_of_itself_may_come_in_pieces() {
        let mut bed = Bed::new();
        let listener = bed.listen();
        let bird = spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(format!("{READY}+half of a").as_bytes()).unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            for (asked, answer) in [READ, BOTH] {
                assert_eq!(lines.next().unwrap().unwrap(), asked);
                stream.write_all(format!(" line\n{answer}+and").as_bytes()).unwrap();
            }
        });
        assert_eq!(bed.told().as_deref(), Some(ANNOUNCED));
        bird.join().unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_written_is_told_of() {
        let mut bed = Bed::new();
        std::fs::create_dir(&bed.driver.places.include).unwrap();
        let told = bed.told().unwrap();
        assert!(told.contains("not announced: /") && told.contains("krono.conf: "), "{told}");
        std::fs::remove_dir(&bed.driver.places.include).unwrap();
        let bird = bed.bird(&[&[READ, BOTH]]);
        assert_eq!(bed.told().as_deref(), Some(ANNOUNCED));
        bird.join().unwrap();
    }

    #[test]
    fn nobody_waits_long_for_a_bird_that_is_frozen() {
        let mut bed = Bed::new();
        let listener =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let listener = listener.unwrap();
        bind(&listener, &SocketAddrUnix::new(&bed.driver.places.socket).unwrap()).unwrap();
        listen(&listener, 1).unwrap();
        let mut took = Duration::MAX;
        // Until its queue is full, and then.
        for _ in 0..4 {
            let began = Instant::now();
            bed.driver.teller.told = None;
            let told = bed.told().unwrap();
            took = began.elapsed();
            assert!(told.contains("BIRD does not answer within 100ms"), "{told}");
            assert!(took < 20 * bed.driver.patience, "{took:?}");
        }
        assert!(took < bed.driver.patience, "a full queue is waited for: {took:?}");
    }

    #[test]
    fn what_is_not_bird_is_told_from_it() {
        let [long, endless] = [vec![b'0'; 1 << 16], [&[b'+'; 4000][..], b"\n"].concat()];
        let answers =
            [b"HTTP/1.1 400 Bad Request\r\n".to_vec(), READ.1.as_bytes().to_vec(), long, endless];
        for answer in answers {
            let mut bed = Bed::new();
            bed.driver.patience = PATIENCE;
            let listener = bed.listen();
            let other = spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                // As much as is taken.
                while stream.write_all(&answer).is_ok() {}
            });
            let told = bed.told().unwrap();
            assert!(told.contains("on BIRD's socket is not BIRD: "), "{told}");
            assert!(told.chars().count() < 500 && !told.contains('\r'), "{told}");
            other.join().unwrap();
        }
    }

    #[test]
    fn what_a_daemon_shows_is_announced_until_it_stops() {
        let bed = Bed::new();
        let bird = bed.bird(&[&[READ, BOTH, READ, NONE]]);
        let announcement = announcement();
        let cpus = SpareCpus::find(&[]);
        let mut routing = Routing::to(bed.driver.places.clone(), vec![announcement], cpus).unwrap();
        sleep(2 * SETTLING_INTERVAL);
        assert!(!bed.driver.places.include.exists(), "it is not known yet how the shard stands");
        routing.show(vec![Standing::First]);
        routing.show(vec![Standing::First]);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !bed.driver.places.include.exists() {
            assert!(Instant::now() < deadline);
            sleep(SETTLING_INTERVAL);
        }
        assert_eq!(bed.file(), one_shard().text);
        drop(routing);
        assert_eq!(bed.file(), Wanted::nothing().text);
        bird.join().unwrap();
    }
}
