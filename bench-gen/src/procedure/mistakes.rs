//! What is asked for and cannot be measured with a profile: known before anything is sent.

use krono_core::packet::Protocol;

use super::Procedure;
use super::options::{Outage, TearDown, ThroughputOptions};
use crate::load::Profile;
use crate::report::count;

/// Bytes of a frame around the IP packet: Ethernet's header and checksum.
const FRAME: u16 = 18;
/// Bytes of an 802.1Q tag.
const TAG: u16 = 4;

/// All mistakes.
pub(super) fn of(procedure: &Procedure, profile: &Profile) -> Vec<String> {
    let mut mistakes = Vec::new();
    if profile.load.replay.is_some() && !matches!(procedure, Procedure::Run(_)) {
        mistakes.push(
            "the profile replays a capture, whose packets are counted, not checked; expected \
             generated traffic (or bench-gen run)"
                .to_owned(),
        );
    }
    match procedure {
        Procedure::Throughput(options) => search(options, profile, &mut mistakes),
        Procedure::LossCurve(options) => search(&options.throughput, profile, &mut mistakes),
        Procedure::Latency(options) => search(&options.search, profile, &mut mistakes),
        Procedure::LoadedThroughput(options) => {
            search(&options.search, profile, &mut mistakes);
            options.sessions.iter().for_each(|n| sessions(*n, profile, &mut mistakes));
            if options.search.sizes.len() > 1 {
                mistakes.push("--sizes: expected one size at a time".to_owned());
            }
        }
        Procedure::Establishment(options) => {
            options.sessions.iter().for_each(|n| sessions(*n, profile, &mut mistakes));
        }
        Procedure::TearDown(options) => tear_down(options, profile, &mut mistakes),
        Procedure::Outage(options) => outage(options, &mut mistakes),
        Procedure::Run(_) | Procedure::Capacity(_) | Procedure::SelfCheck(_) => {}
    }
    mistakes
}

fn search(options: &ThroughputOptions, profile: &Profile, mistakes: &mut Vec<String>) {
    for port in [&profile.inside, &profile.outside] {
        let longest = port.mtu + FRAME + if port.vlan.is_some() { TAG } else { 0 };
        for size in options.sizes.iter().filter(|size| **size > longest) {
            let mistake = format!(
                "--sizes: frames of {size} bytes do not fit the MTU of {}; expected at most \
                 {longest}",
                port.mtu
            );
            if !mistakes.contains(&mistake) {
                mistakes.push(mistake);
            }
        }
    }
}

fn sessions(sessions: u32, profile: &Profile, mistakes: &mut Vec<String>) {
    if sessions > profile.load.flows {
        mistakes.push(format!(
            "--sessions: {} are more than the profile's flows; expected at most {}",
            count(u64::from(sessions)),
            count(u64::from(profile.load.flows))
        ));
    }
}

fn tear_down(options: &TearDown, profile: &Profile, mistakes: &mut Vec<String>) {
    options.sessions.iter().for_each(|n| sessions(*n, profile, mistakes));
    if options.clear_command.is_none() && profile.load.protocols[Protocol::Tcp as usize] == 0 {
        mistakes.push(
            "the profile has no TCP, whose FINs tear sessions down; expected TCP or \
             --clear-command"
                .to_owned(),
        );
    }
}

fn outage(options: &Outage, mistakes: &mut Vec<String>) {
    if options.at >= options.duration {
        mistakes.push("--at: the load is over by then; expected less than --duration".to_owned());
    }
}
