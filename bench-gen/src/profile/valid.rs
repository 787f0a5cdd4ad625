//! From a draft to a profile.

use std::net::IpAddr;
use std::time::Duration;

use krono_config::eal::{EalConfig, Hugepages, Idle};
use krono_config::read::Given;

use super::draft::{ChurnDraft, Draft, PortDraft, ReplayDraft};
use super::sense;
use crate::load::{Churn, End, Load, PortSetup, Profile, Replay};

/// How long a run is unless something else is said.
const AFTER: Duration = Duration::from_secs(10);

/// The profile; `None` if any part of it is missing or mistaken.
pub(super) fn profile(draft: Draft) -> Option<Profile> {
    let lcores = sense::lcores(&draft)?;
    let flows = draft.flows?.value;
    let subscribers = draft.subscribers?;
    let subscriber_count = sense::subscriber_count(&subscribers, flows)?;
    let servers = draft.servers?;
    let replay = optional(draft.replay, replay)?;
    let end = match draft.end {
        Given::Valid(end) => end.value,
        Given::Mistaken => return None,
        // A capture ends by itself.
        Given::Absent if replay.is_some() => End::Packets(u64::MAX),
        Given::Absent => End::After(AFTER),
    };
    let (inside, outside) = (port(draft.inside?)?, port(draft.outside?)?);
    let config = draft.eal?.valid()?;
    Some(Profile {
        yields: config.idle == Idle::Yield,
        eal: eal(config, &lcores, [&inside, &outside])?,
        inside,
        outside,
        lcores,
        load: Load {
            protocols: draft.protocols?,
            subscribers: subscribers.network?.value.into(),
            subscriber_count,
            servers: servers.network?.value.into(),
            sports: subscribers.ports?.value,
            dports: servers.ports?.value,
            flows,
            popularity: draft.popularity?.value,
            churn: optional(draft.churn, |draft| churn(draft, flows))?,
            sizes: draft.sizes?.value,
            answers_percent: draft.answers?,
            replay,
        },
        rate: draft.rate?,
        end,
        repeats: draft.repeats?,
        seed: draft.seed?,
    })
}

/// Nothing if it is absent, and no profile if it is mistaken.
fn optional<D, T>(given: Given<D>, valid: impl FnOnce(D) -> Option<T>) -> Option<Option<T>> {
    match given {
        Given::Absent => Some(None),
        Given::Mistaken => None,
        Given::Valid(draft) => valid(draft).map(Some),
    }
}

fn eal(config: EalConfig, lcores: &[u16], ports: [&PortSetup; 2]) -> Option<krono_io::EalConfig> {
    Some(krono_io::EalConfig {
        memory_mb: u32::try_from(config.memory >> 20).ok()?,
        hugepages: match config.hugepages {
            Hugepages::Auto => krono_io::Hugepages::Auto,
            Hugepages::Required => krono_io::Hugepages::Required,
            Hugepages::Off => krono_io::Hugepages::Off,
        },
        lcores: Some(config.lcore_map(lcores.iter().copied())),
        devices: ports.map(|port| port.device.clone()).to_vec(),
        args: config.args,
    })
}

fn port(draft: PortDraft) -> Option<PortSetup> {
    Some(PortSetup {
        device: draft.device?.value.to_string(),
        mtu: draft.mtu?.value,
        mac: draft.mac?,
        address: draft.address?.value.into(),
        next_hop: IpAddr::V4(draft.next_hop?.value),
        next_hop_mac: draft.next_hop_mac?,
        vlan: draft.vlan?,
    })
}

/// What is not said follows from the number of flows (Little's law).
fn churn(draft: ChurnDraft, flows: u32) -> Option<Churn> {
    let flows = f64::from(flows);
    let (arrivals_per_s, lifetime) = match (draft.arrivals, draft.lifetime) {
        (Given::Valid(arrivals), Given::Valid(lifetime)) => (arrivals.value, lifetime.value),
        (Given::Valid(arrivals), Given::Absent) => {
            (arrivals.value, Duration::try_from_secs_f64(flows / arrivals.value).ok()?)
        }
        (Given::Absent, Given::Valid(lifetime)) => {
            (flows / lifetime.value.as_secs_f64(), lifetime.value)
        }
        _ => return None,
    };
    Some(Churn { arrivals_per_s, lifetime })
}

fn replay(draft: ReplayDraft) -> Option<Replay> {
    Some(Replay { file: draft.file?, timing: draft.timing?, times: draft.times? })
}
