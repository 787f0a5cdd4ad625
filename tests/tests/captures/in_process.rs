//! The packet path without devices: each packet of a plan by itself, sent to the public endpoint
//! that the ones before it have shown. So the fate of every single packet is known, by name.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use anyhow::{Context, Result, anyhow};
use krono_core::carve;
use krono_core::drop::DropReason;
use krono_core::frame::MemFrame;
use krono_core::packet::{self, Mac};
use krono_core::program::Program;
use krono_core::router::{Route, Router, RouterConfig, SideConfig};
use krono_core::shard::{Action, Outcomes, Shard};
use krono_core::time::{Moment, Ticks};
use krono_nat::Nat;
use krono_nat::config::{Config, Filtering, Firewall, Policy, Timeouts};
use krono_tests::capture::ipv4::{End, Endpoint, ICMP, IcmpKind, Packet};
use krono_tests::capture::plan::{Planned, Side};
use krono_tests::capture::replay;
use zerocopy::IntoBytes;

use super::{MTU, NEIGHBOUR, NOWHERE, SHARD};

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Sent,
    Dropped(DropReason),
}

/// The fate of each packet of a plan.
pub(crate) fn rehearse(plan: &[Planned]) -> Result<Vec<Fate>> {
    let config = nat_config()?;
    let mut memory = carve::heap(Nat::memory_bytes(&config));
    let nat = Nat::new(&config, memory.as_mut_bytes(), Ticks::default())
        .map_err(|reason| anyhow!("{reason}"))?;
    let mut shard = Shard::new(Router::new(&router_config()?), nat);
    let mut scratch = Box::default();
    let mut public: HashMap<(u8, Endpoint), Endpoint> = HashMap::new();
    let mut fates = Vec::with_capacity(plan.len());
    for planned in plan {
        let known = public.get(&planned.subscriber).copied();
        let packet = replay::entering(planned, known, NOWHERE);
        let side = planned.side as usize;
        let mut frames = [MemFrame::new(&packet.frame(SHARD[side], NEIGHBOUR[side]))];
        let now = Moment(planned.time_us * 1000);
        let mut outcomes = Outcomes::new();
        let entered = packet::Side::BOTH[side];
        shard.process(entered, &mut frames[..], now, &mut (), &mut scratch, &mut outcomes);
        shard.program.tick(now.ticks(), &mut ());
        let outcome = outcomes.iter().next().context("a frame without an outcome")?;
        fates.push(match outcome.action {
            Action::Send(_) => {
                if let Some(source) = translated_source(planned, frames[0].bytes()) {
                    public.insert(planned.subscriber, source);
                }
                Fate::Sent
            }
            Action::Drop(reason) | Action::Answer(_, Some(reason)) => Fate::Dropped(reason),
            other => return Err(anyhow!("{other:?} of {planned:?}")),
        });
    }
    Ok(fates)
}

/// The public endpoint that a packet from inside has got.
fn translated_source(planned: &Planned, frame: &[u8]) -> Option<Endpoint> {
    let packet = Packet::in_frame(frame).ok().filter(|_| planned.side == Side::Inside)?;
    let is_error = packet.protocol() == ICMP && packet.icmp_kind() == IcmpKind::Error;
    (!is_error).then(|| packet.endpoint(End::Source))
}

fn nat_config() -> Result<Config> {
    Ok(Config {
        sessions: 256 << 10,
        subscribers: 64 << 10,
        pool: vec!["198.51.100.0/26".parse()?],
        inside: vec!["100.64.0.0/10".parse()?, "192.0.1.0/24".parse()?],
        ports: 1024..=65535,
        ports_per_subscriber: 32768,
        seed: [1; 32],
        policy: Policy {
            filtering: Filtering::default(),
            hairpinning: true,
            timeouts: Timeouts::default(),
            exclude: Vec::new(),
            statics: Vec::new(),
            firewall: Firewall::default(),
        },
    })
}

fn router_config() -> Result<RouterConfig> {
    let side = |number: usize, address: &str, prefix: &str, via: Ipv4Addr| -> Result<_> {
        Ok(SideConfig {
            mac: Mac(SHARD[number]),
            address: address.parse()?,
            vlan: None,
            mtu: MTU,
            routes: vec![Route { prefix: prefix.parse()?, via }],
            neighbours: vec![(via, Mac(NEIGHBOUR[number]))],
            bfd: Vec::new(),
        })
    };
    Ok(RouterConfig {
        inside: side(0, "192.0.1.1/24", "100.64.0.0/10", Ipv4Addr::new(192, 0, 1, 254))?,
        outside: side(1, "192.0.2.1/24", "0.0.0.0/0", Ipv4Addr::new(192, 0, 2, 254))?,
        pool: nat_config()?.pool,
    })
}
