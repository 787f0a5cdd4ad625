//! Routes to this server's shards, announced through BIRD.
//!
//! krono speaks no routing protocol. It writes a file of static routes that BIRD's configuration
//! includes ([`announce`]), has BIRD read it over its control socket ([`client`]), and looks once a
//! second whether BIRD still has it ([`driver`]). Tables, filters and the sessions with routers are
//! the operator's (`docs/cluster.md`). A thread of its own does that, so that nobody waits for
//! BIRD; shards serve whatever becomes of it.

mod announce;
mod client;
mod driver;
mod reply;

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};

use log::{Level, log};

pub use announce::Standing;
use announce::{Announcement, Wanted, announcements};
pub use reply::fuzz_bird_reply;

use crate::config::{BirdConfig, Config};
use crate::spare_cpus::SpareCpus;
use driver::Driver;

/// Keeps what BIRD announces in line with what the shards do, until it is dropped; all routes are
/// withdrawn then.
#[derive(Debug)]
pub struct Routing {
    announcements: Vec<Announcement>,
    /// What has been asked for last; nothing at first.
    standings: Vec<Standing>,
    /// None once the thread is to end.
    orders: Option<Sender<Wanted>>,
    thread: Option<JoinHandle<()>>,
}

impl Routing {
    /// What a configuration has announced, if anything. Nothing is changed before it is known how
    /// the shards stand.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn start(config: &Config, cpus: SpareCpus) -> io::Result<Option<Routing>> {
        let bird = config.cluster.as_ref().and_then(|cluster| cluster.bird.as_ref());
        let announcements = announcements(config);
        match bird.filter(|_| !announcements.is_empty()) {
            Some(bird) => Routing::to(bird.clone(), announcements, cpus).map(Some),
            None => Ok(None),
        }
    }

    fn to(
        places: BirdConfig,
        announcements: Vec<Announcement>,
        cpus: SpareCpus,
    ) -> io::Result<Routing> {
        let (orders, ordered) = mpsc::channel();
        let thread = thread::Builder::new().name("routing".to_owned()).spawn(move || {
            cpus.occupy();
            drive(Driver::new(places), &ordered);
        })?;
        let (standings, orders) = (Vec::new(), Some(orders));
        Ok(Routing { announcements, standings, orders, thread: Some(thread) })
    }

    /// The shards that are announced, by id.
    pub fn shards(&self) -> impl Iterator<Item = u16> {
        self.announcements.iter().map(|announcement| announcement.shard)
    }

    /// How routers are to see each of [`Routing::shards`]. Does not wait.
    pub fn show(&mut self, standings: Vec<Standing>) {
        if self.standings == standings {
            return;
        }
        self.standings = standings;
        if let Some(orders) = &self.orders {
            // A thread that has panicked is told of when it is waited for.
            _ = orders.send(Wanted::new(&self.announcements, &self.standings));
        }
    }
}

impl Drop for Routing {
    /// Withdraws all routes, and waits as long as BIRD may take for that.
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the routing thread panicked");
        }
    }
}

/// Carries out the latest order, looks after it, and withdraws all when no more can come.
fn drive(mut driver: Driver, orders: &Receiver<Wanted>) {
    let mut order = orders.recv().map_err(RecvTimeoutError::from);
    loop {
        match order {
            Ok(wanted) => driver.want(orders.try_iter().last().unwrap_or(wanted)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        tell(driver.advance());
        order = orders.recv_timeout(driver.rest());
    }
    driver.want(Wanted::nothing());
    tell(driver.advance());
}

fn tell(news: Option<(Level, String)>) {
    if let Some((level, line)) = news {
        log!(level, "{line}");
    }
}
