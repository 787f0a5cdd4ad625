//! Both ports joined, nothing in between: what the tool itself can do on this machine.

use krono_io::{Eal, Port};

use super::{Engine, ports, watch};
use crate::bench::Failed;
use crate::load::Profile;

/// What joins the two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cable {
    /// Rings within this process. Needs no device, no root and no huge pages.
    Ring,
    /// Whatever joins the profile's devices: a veth pair, a memif, a cable.
    Devices,
}

impl Engine {
    /// Starts the EAL and an engine whose ports are joined, so that each is the other's next hop;
    /// nobody is asked by ARP.
    ///
    /// # Errors
    /// As for [`Engine::start`].
    pub fn joined(profile: &Profile, cable: Cable) -> Result<Engine, Failed> {
        let mut profile = profile.clone();
        if cable == Cable::Ring {
            profile.eal.devices.clear();
        }
        watch::leave_lcores_alone(&profile.eal, &profile.lcores);
        let eal = Eal::start(&profile.eal).map_err(|error| Failed(error.to_string()))?;
        let pool = ports::pool(&eal, &profile)?;
        let ports = match cable {
            Cable::Devices => ports::open(&eal, &profile, &pool)?,
            Cable::Ring => {
                let config = ports::config(profile.lcores.len(), profile.inside.mtu);
                Port::pair(&eal, "joined", &config, &pool)
                    .map_err(|error| Failed(error.to_string()))?
            }
        };
        let mac = |port: usize, own: Option<_>| own.unwrap_or(ports[port].0.mac());
        profile.inside.next_hop_mac = Some(mac(1, profile.outside.mac));
        profile.outside.next_hop_mac = Some(mac(0, profile.inside.mac));
        Engine::over(&eal, ports, pool, &profile)
    }
}
