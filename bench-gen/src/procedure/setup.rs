//! What a measurement ran on and with.

use std::fs;

use super::Procedure;
use crate::load::{End, Load, Popularity, PortSetup, Profile, Rate, Sizes};
use crate::report::{count, plural, short};

/// Name and value, in order.
pub(super) fn lines(procedure: &Procedure, profile: &Profile) -> Vec<(String, String)> {
    let load = &profile.load;
    let mut lines = vec![
        ("bench-gen", env!("CARGO_PKG_VERSION").to_owned()),
        ("machine", machine()),
        ("inside", port(&profile.inside)),
        ("outside", port(&profile.outside)),
        ("lcores", profile.lcores.len().to_string()),
        ("flows", count(u64::from(load.flows))),
        (
            "subscribers",
            format!("{} in {}", count(u64::from(load.subscriber_count)), load.subscribers),
        ),
        ("servers", load.servers.to_string()),
        ("ports", ports(load)),
        ("protocols", protocols(load.protocols)),
        ("popularity", popularity(&load.popularity)),
        ("frame sizes", sizes(&load.sizes)),
        ("answers", format!("{} %", load.answers_percent)),
        ("rate", rate(&profile.rate)),
        ("repeats", profile.repeats.to_string()),
        ("seed", profile.seed.to_string()),
    ];
    if let Some(churn) = &load.churn {
        let lifetime = churn.lifetime.as_secs_f64();
        lines.push((
            "churn",
            format!("{}/s for {} s", short(churn.arrivals_per_s), short(lifetime)),
        ));
    }
    if let Some(replay) = &load.replay {
        lines.push(("replay", replay.file.display().to_string()));
    }
    lines.extend(of_procedure(procedure, profile));
    lines.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn of_procedure(procedure: &Procedure, profile: &Profile) -> Vec<(&'static str, String)> {
    let seconds = |time: std::time::Duration| format!("{} s", short(time.as_secs_f64()));
    match procedure {
        Procedure::Run(_) => vec![("end", end(&profile.end))],
        Procedure::Throughput(options)
        | Procedure::LossCurve(super::LossCurve { throughput: options, .. })
        | Procedure::Latency(super::LatencyOptions { search: options, .. })
        | Procedure::LoadedThroughput(super::LoadedThroughput { search: options, .. }) => vec![
            ("trial", seconds(options.trial)),
            ("loss allowed", crate::report::percent(options.loss)),
            ("resolution", crate::report::percent(options.resolution)),
        ],
        Procedure::Outage(options) => vec![
            ("event", options.run.clone()),
            ("moment", seconds(options.at)),
            ("duration", seconds(options.duration)),
        ],
        Procedure::SelfCheck(options) => vec![("trial", seconds(options.trial))],
        Procedure::Establishment(_) | Procedure::Capacity(_) | Procedure::TearDown(_) => Vec::new(),
    }
}

fn port(port: &PortSetup) -> String {
    let vlan = port.vlan.map_or(String::new(), |vlan| format!(", VLAN {vlan}"));
    format!("{}, {} to {}{vlan}", port.device, port.address, port.next_hop)
}

fn ports(load: &Load) -> String {
    let [(from, to), (least, most)] =
        [&load.sports, &load.dports].map(|ports| (*ports.start(), *ports.end()));
    format!("{from}–{to} to {least}–{most}, pseudo-random (RFC 4814)")
}

fn protocols(shares: [u32; 3]) -> String {
    let sum = shares.iter().sum::<u32>().max(1);
    let named = ["UDP", "TCP", "ICMP"].into_iter().zip(shares).filter(|(_, share)| *share > 0);
    let words = named.map(|(name, share)| {
        format!("{name} {} %", short(f64::from(share) * 100.0 / f64::from(sum)))
    });
    words.collect::<Vec<_>>().join(", ")
}

fn popularity(popularity: &Popularity) -> String {
    match popularity {
        Popularity::Uniform => "uniform".to_owned(),
        Popularity::Zipf(exponent) => format!("Zipf, exponent {exponent}"),
        Popularity::Agh2015 => "AGH 2015 flow lengths".to_owned(),
    }
}

fn sizes(sizes: &Sizes) -> String {
    match sizes {
        Sizes::Fixed(size) => format!("{size} bytes"),
        Sizes::Mix(mix) => {
            let parts = mix.iter().map(|(size, weight)| format!("{size} bytes × {weight}"));
            parts.collect::<Vec<_>>().join(", ")
        }
        Sizes::Agh2015 => "AGH 2015, by the flow's length".to_owned(),
    }
}

fn rate(rate: &Rate) -> String {
    match rate {
        Rate::Packets(rate) => format!("{} packets/s", short(*rate)),
        Rate::Bits(rate) => format!("{} bits/s on the wire", short(*rate)),
        Rate::Max => "as fast as possible".to_owned(),
    }
}

fn end(end: &End) -> String {
    match end {
        End::After(time) => format!("after {} s", short(time.as_secs_f64())),
        End::Packets(u64::MAX) => "when the capture has been sent".to_owned(),
        End::Packets(packets) => format!("after {}", plural(*packets, "packet")),
        End::Sessions(sessions) => format!("after {}", plural(*sessions, "session")),
    }
}

/// The CPU and how many of it, the kernel.
fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split(": ").nth(1)).unwrap_or("unknown CPU");
    // Not those that this thread may run on: it has been pinned.
    let cpus = cpuinfo.lines().filter(|line| line.starts_with("processor")).count().max(1);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cpus} × {model}, Linux {}", kernel.trim())
}
