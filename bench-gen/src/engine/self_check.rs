//! What the tool itself can do on this machine: both ports joined, nothing in between.

use krono_io::{Eal, Port};

use super::{Engine, ports};
use crate::bench::{Bench, Failed, Seen, Stage, Watch, Ways};
use crate::load::{End, Profile, Rate};

use std::time::Duration;

/// What joins the two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cable {
    /// Rings within this process. Needs no device, no root and no huge pages.
    Ring,
    /// Whatever joins the profile's devices: a veth pair, a memif, a cable.
    Devices,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Checked {
    /// All flows opened.
    pub opened: Seen,
    /// As many packets as possible. Where the cable loses some, this is the fastest of a few rates
    /// at which it lost none, or the slowest of them.
    pub ceiling: Seen,
    /// At a tenth of that: the least latency.
    pub floor: Seen,
    /// How many lcores took part.
    pub lcores: usize,
    /// What it ran on.
    pub facts: Vec<(String, String)>,
}

/// How often a rate is reduced until the cable loses nothing.
const TRIES: usize = 8;
/// By what it is multiplied.
const STEP: f64 = 0.8;
/// The part of the ceiling at which latency is looked at.
const FLOOR: f64 = 0.1;

impl Checked {
    /// Whether nothing was lost, unopened or wrong.
    pub fn passed(&self) -> bool {
        [&self.opened, &self.ceiling, &self.floor].into_iter().all(is_clean)
            && self.opened.total.not_opened == 0
    }

    /// Packets a second that were sent and came back in all, answers included.
    pub fn ceiling_pps(&self) -> f64 {
        let received: u64 = self.ceiling.total.counts.iter().map(|counts| counts.received).sum();
        received as f64 / self.ceiling.total.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

fn is_clean(seen: &Seen) -> bool {
    seen.is_right() && seen.loss() == 0.0
}

/// Runs the profile's load back to back with itself: opens its flows, sends as fast as possible for
/// `time`, then at a tenth of that.
///
/// # Errors
/// As for [`Engine::start`] and [`Bench::stage`].
pub fn self_check(
    profile: &Profile,
    cable: Cable,
    time: Duration,
    watch: &mut dyn Watch,
) -> Result<Checked, Failed> {
    let mut engine = joined(profile, cable)?;
    let sessions = profile.load.flows;
    let opened = engine.stage(&Stage::Open { sessions, per_second: f64::INFINITY }, watch)?;
    let mut traffic = |rate| {
        let end = End::After(time);
        engine.stage(&Stage::Traffic { rate, end, sizes: None, ways: Ways::Both }, watch)
    };
    let mut ceiling = traffic(Rate::Max)?;
    for _ in 0..TRIES {
        if is_clean(&ceiling) || ceiling.partial || !ceiling.is_right() {
            break;
        }
        ceiling = traffic(Rate::Packets(ceiling.pace.reached_pps * STEP))?;
    }
    let floor = traffic(Rate::Packets((ceiling.pace.reached_pps * FLOOR).max(1.0)))?;
    let (lcores, facts) = (engine.lcores(), engine.facts().to_vec());
    Ok(Checked { opened, ceiling, floor, lcores, facts })
}

/// An engine with its ports joined: each is the other's next hop.
fn joined(profile: &Profile, cable: Cable) -> Result<Engine, Failed> {
    let failed = |error: &dyn std::fmt::Display| Failed(error.to_string());
    let mut profile = profile.clone();
    super::watch::leave_lcores_alone(&profile.eal, &profile.lcores);
    if cable == Cable::Ring {
        profile.eal.devices.clear();
    }
    let eal = Eal::start(&profile.eal).map_err(|error| failed(&error))?;
    let pool = ports::pool(&eal, &profile)?;
    let ports = match cable {
        Cable::Devices => ports::open(&eal, &profile, &pool)?,
        Cable::Ring => {
            let config = ports::config(profile.lcores.len(), profile.inside.mtu);
            Port::pair(&eal, "self", &config, &pool).map_err(|error| failed(&error))?
        }
    };
    let mac = |port: usize, own: Option<_>| own.unwrap_or(ports[port].0.mac());
    profile.inside.next_hop_mac = Some(mac(1, profile.outside.mac));
    profile.outside.next_hop_mac = Some(mac(0, profile.inside.mac));
    let engine = Engine::over(&eal, ports, pool, &profile)?;
    super::watch::stop_on_signals(&engine.stop)?;
    Ok(engine)
}
