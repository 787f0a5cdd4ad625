//! The bench for real: two DPDK ports, lcores with their shares of the flows, and a thread that
//! watches them.
//!
//! * `lcore`: what an lcore does, in one loop; `pace` tells it when packets are due, `exchange`
//!   takes it frames that came to another lcore's queue, `arp` knows its links, `meter` knows where
//!   its time goes;
//! * `watch`: how a stage goes on, as the thread sees it that carries it out;
//! * `joined`: both ports joined, to see what the tool itself can do on this machine.
//!
//! The watching thread and the lcores share a few atomics (`common`, `board`), and a channel
//! between stages. No lcore waits for another in a stage.

mod arp;
mod board;
mod common;
mod exchange;
mod joined;
mod lcore;
mod meter;
mod pace;
mod part;
mod ports;
mod replay;
mod seen;
mod watch;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};
use krono_core::packet::{Mac, Side};
use krono_io::{Burst, Clock, Eal, Opened, Pool, Port, Task};

use crate::bench::{Bench, Failed, Seen, Stage, Watch};
use crate::capture::{Capture, Player};
use crate::load::{PortSetup, Profile, Timing};
use crate::share::{LinkHeader, Share, ShareSetup};
use arp::Station;
use common::Common;
use exchange::Exchange;
use lcore::{End, Lcore, Outcome};
use part::Part;
use replay::Replay;

pub use joined::Cable;

/// How long next hops may take to answer ARP.
const ARP_PATIENCE: Duration = Duration::from_secs(5);

/// The bench over two ports. It goes on answering ARP between stages; dropping it ends its lcores
/// and closes the ports.
pub struct Engine {
    runners: Vec<Runner>,
    ports: [Port; 2],
    /// As the profile has them, by side.
    setups: [PortSetup; 2],
    /// Whose links have been up, by side.
    links: [bool; 2],
    common: Arc<Common>,
    clock: Clock,
    facts: Vec<(String, String)>,
    replays: Option<Timing>,
    _eal: Eal,
}

/// An lcore at work.
struct Runner {
    lcore: u16,
    /// Without it the lcore ends.
    parts: Option<Sender<Part>>,
    outcomes: Receiver<Outcome>,
    task: Option<Task<()>>,
}

impl Engine {
    /// Starts the EAL, opens the profile's ports and finds the next hops.
    ///
    /// # Errors
    /// What is missing or refuses, in a sentence; a next hop that does not answer.
    pub fn start(profile: &Profile) -> Result<Engine, Failed> {
        watch::leave_lcores_alone(&profile.eal, &profile.lcores);
        let eal = Eal::start(&profile.eal).map_err(|error| Failed(error.to_string()))?;
        let pool = ports::pool(&eal, profile)?;
        let ports = ports::open(&eal, profile, &pool)?;
        Engine::over(&eal, ports, pool, profile)
    }

    /// The same over ports that are open, by side, with a queue pair for each lcore of the
    /// profile; the devices that it names are not asked for.
    ///
    /// # Errors
    /// As for [`Engine::start`].
    pub fn over(
        eal: &Eal,
        ports: [Opened; 2],
        pool: Pool,
        profile: &Profile,
    ) -> Result<Engine, Failed> {
        let player = player(profile)?;
        let mut lcores = profile.lcores.clone();
        if player.is_some() && lcores.len() > 1 {
            log::warn!("a capture is sent by one lcore, in its order: lcore {}", lcores[0]);
            lcores.truncate(1);
        }
        let clock = Clock::new(eal);
        let common = Arc::new(Common::new(lcores.len()));
        let [inside, outside] = ports;
        let facts = facts(&[&inside.0, &outside.0], profile);
        let mut queues = [inside.1.into_iter().zip(inside.2), outside.1.into_iter().zip(outside.2)];
        let ports = [inside.0, outside.0];
        let stations =
            [station(&ports[0], &profile.inside)?, station(&ports[1], &profile.outside)?];
        for (neighbour, setup) in common.neighbours.iter().zip([&profile.inside, &profile.outside])
        {
            setup.next_hop_mac.into_iter().for_each(|mac| neighbour.set(mac));
        }
        let mut workers = Vec::new();
        for (number, exchange) in Exchange::among(lcores.len()).into_iter().enumerate() {
            let mut end = |side: Side, setup: &PortSetup| {
                let (rx, tx) = queues[side as usize]
                    .next()
                    .ok_or_else(|| Failed(format!("{side}: fewer queues than lcores")))?;
                Ok(End {
                    rx,
                    tx,
                    out: Burst::new(),
                    us: stations[side as usize],
                    next_hop: v4(setup.next_hop)?,
                    next_hop_mac: setup.next_hop_mac,
                    known: None,
                    ask_ns: 0,
                    stuck_ns: 0,
                })
            };
            let ends = [end(Side::Inside, &profile.inside)?, end(Side::Outside, &profile.outside)?];
            workers.push(Lcore {
                number,
                share: share(profile, number, lcores.len(), &stations)?,
                replay: player.clone().map(Replay::new),
                ends,
                exchange,
                pool: pool.clone(),
                blank: Burst::new(),
                clock,
                common: common.clone(),
                yields: profile.yields,
            });
        }
        let mut engine = Engine {
            runners: Vec::new(),
            ports,
            setups: [profile.inside.clone(), profile.outside.clone()],
            links: [false; 2],
            common,
            clock,
            facts,
            replays: profile.load.replay.as_ref().map(|replay| replay.timing),
            _eal: eal.clone(),
        };
        for (lcore, worker) in lcores.into_iter().zip(workers) {
            engine.runners.push(Runner::launch(eal, lcore, worker)?);
        }
        engine.find_next_hops()?;
        Ok(engine)
    }

    /// What it runs on, for a report: name and value.
    pub fn facts(&self) -> &[(String, String)] {
        &self.facts
    }

    /// How many lcores send.
    pub fn lcores(&self) -> usize {
        self.runners.len()
    }

    /// Asks for the next hops anew. A device that was restarted may have other addresses, and it
    /// learns ours from the question: else it would look for us when the first packets are there,
    /// and drop some.
    fn find_next_hops(&self) -> Result<(), Failed> {
        let deadline = Instant::now() + ARP_PATIENCE;
        for (neighbour, setup) in self.common.neighbours.iter().zip(&self.setups) {
            if setup.next_hop_mac.is_none() {
                neighbour.forget();
            }
        }
        for (side, setup) in Side::BOTH.into_iter().zip(&self.setups) {
            while self.common.neighbours[side as usize].mac().is_none() {
                if Instant::now() > deadline {
                    return Err(Failed(format!(
                        "nobody answers ARP for {side}.next_hop {} on {} within {ARP_PATIENCE:?}; is \
                         the device under test up, and does it have this address? (If it answers \
                         no ARP, give {side}.next_hop_mac.)",
                        setup.next_hop, setup.device,
                    )));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }
}

impl Bench for Engine {
    fn stage(&mut self, stage: &Stage, watch: &mut dyn Watch) -> Result<Seen, Failed> {
        watch::carry_out(self, stage, watch)
    }
}

impl Runner {
    fn launch(eal: &Eal, lcore: u16, worker: Lcore) -> Result<Runner, Failed> {
        let (parts, from_watch) = bounded(1);
        let (to_watch, outcomes) = bounded(1);
        let task = eal
            .launch(lcore.into(), move || worker.run(&from_watch, &to_watch))
            .map_err(|error| Failed(error.to_string()))?;
        Ok(Runner { lcore, parts: Some(parts), outcomes, task: Some(task) })
    }

    /// Why it has ended, if it has.
    fn failure(&mut self) -> Option<Failed> {
        let task = self.task.take_if(|task| task.is_finished())?;
        let why = match task.join() {
            Ok(()) => format!("lcore {} ended by itself", self.lcore),
            Err(panicked) => panicked.to_string(),
        };
        Some(Failed(why))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.common.set_phase(common::Phase::Over);
        self.runners.iter_mut().for_each(|runner| runner.parts = None);
        for task in self.runners.iter_mut().filter_map(|runner| runner.task.take()) {
            if let Err(panicked) = task.join() {
                log::error!("{panicked}");
            }
        }
    }
}

/// The capture that is to be sent, if any.
fn player(profile: &Profile) -> Result<Option<Player>, Failed> {
    let Some(replay) = &profile.load.replay else { return Ok(None) };
    let capture = Capture::open(&replay.file).map_err(|error| Failed(error.to_string()))?;
    let notes = capture.notes().to_string();
    if !notes.is_empty() {
        log::warn!("{}: {notes}", replay.file.display());
    }
    let (longest, room) = (capture.longest(), usize::from(profile.inside.mtu) + 18);
    if longest > room {
        return Err(Failed(format!(
            "{}: its longest frame has {longest} bytes; inside.mtu {} carries {room}",
            replay.file.display(),
            profile.inside.mtu,
        )));
    }
    Ok(Some(Player::new(Arc::new(capture), replay.timing, replay.times)))
}

fn share(
    profile: &Profile,
    number: usize,
    of: usize,
    stations: &[Station; 2],
) -> Result<Share, Failed> {
    let link = |us: &Station| LinkHeader { source: us.mac, vlan: us.vlan, ..Default::default() };
    let setup = ShareSetup {
        load: profile.load.clone(),
        number: number as u8,
        of: u8::try_from(of).map_err(|_| Failed(format!("{of} lcores are too many")))?,
        seed: profile.seed,
        flows_per_endpoint: 1,
        links: stations.each_ref().map(link),
        hugepages: profile.eal.hugepages,
    };
    Share::new(&setup).map_err(Failed)
}

fn station(port: &Port, setup: &PortSetup) -> Result<Station, Failed> {
    let mac = setup.mac.unwrap_or(port.mac());
    Ok(Station { mac, address: v4(setup.address.addr())?, vlan: setup.vlan })
}

fn v4(address: IpAddr) -> Result<Ipv4Addr, Failed> {
    match address {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(address) => Err(Failed(format!("{address}: IPv6 is not supported yet"))),
    }
}

fn facts(ports: &[&Port; 2], profile: &Profile) -> Vec<(String, String)> {
    let port = |name: &str, port: &Port, mac: Option<Mac>| {
        let (device, driver) = (port.device(), port.driver());
        (name.to_owned(), format!("{device} ({driver}, {})", mac.unwrap_or(port.mac())))
    };
    let lcores = profile.lcores.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
    let shared = if profile.yields { " (yielding: they may share CPUs)" } else { "" };
    vec![
        port("inside", ports[0], profile.inside.mac),
        port("outside", ports[1], profile.outside.mac),
        ("lcores".into(), lcores + shared),
    ]
}
