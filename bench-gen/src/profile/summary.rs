//! A profile in a few words.

use std::fmt;

use krono_core::packet::Protocol;

use crate::load::{Churn, End, Load, Popularity, Profile, Rate, Replay, Sizes, Timing};

impl Profile {
    /// What is sent, to whom and for how long, in one line, with the seed that repeats it:
    /// `625 subscribers, 10000 flows (udp), uniform, frames of 64 bytes, 10 kpps, for 10s, …`.
    pub fn summary(&self) -> String {
        let mut parts = match &self.load.replay {
            Some(replay) => vec![replay.to_string()],
            None => self.load.parts(),
        };
        if !self.keeps_captured_times() {
            parts.push(self.rate.to_string());
        }
        if self.end != End::Packets(u64::MAX) {
            parts.push(self.end.to_string());
        }
        parts.push(count(self.lcores.len() as u64, "lcore", "lcores"));
        parts.push(count(u64::from(self.repeats), "repeat", "repeats"));
        parts.push(format!("seed {}", self.seed));
        parts.join(", ")
    }
}

impl Profile {
    /// Whether what is sent has times of its own, so that no rate is needed.
    pub fn keeps_captured_times(&self) -> bool {
        matches!(self.load.replay, Some(Replay { timing: Timing::Scaled(_), .. }))
    }
}

impl Load {
    fn parts(&self) -> Vec<String> {
        let shares = Protocol::ALL.into_iter().map(|p| (p, self.protocols[p as usize]));
        let used: Vec<_> = shares.filter(|(_, share)| *share > 0).collect();
        let protocols = match used.as_slice() {
            [(only, _)] => only.to_string(),
            used => {
                let shown = used.iter().map(|(protocol, share)| format!("{protocol} {share}"));
                shown.collect::<Vec<_>>().join(" : ")
            }
        };
        let flows = count(u64::from(self.flows), "flow", "flows");
        let mut parts = vec![
            count(u64::from(self.subscriber_count), "subscriber", "subscribers"),
            format!("{flows} ({protocols})"),
            self.popularity.to_string(),
            self.sizes.to_string(),
        ];
        parts.extend(self.churn.map(|churn| churn.to_string()));
        if self.answers_percent != 100 {
            parts.push(format!("{} % answers", self.answers_percent));
        }
        parts
    }
}

fn count(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

impl fmt::Display for Popularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Popularity::Uniform => f.write_str("uniform"),
            Popularity::Zipf(exponent) => write!(f, "zipf {exponent}"),
            Popularity::Agh2015 => f.write_str("lengths of agh-2015"),
        }
    }
}

impl fmt::Display for Churn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Churn { arrivals_per_s, lifetime } = self;
        write!(f, "{arrivals_per_s:.1} new flows/s that live {:.1} s", lifetime.as_secs_f64())
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sizes::Fixed(bytes) => write!(f, "frames of {bytes} bytes"),
            Sizes::Mix(mix) if mix.len() <= 8 => {
                let shown = mix.iter().map(|(bytes, weight)| format!("{weight}x{bytes}"));
                write!(f, "frames of {} bytes", shown.collect::<Vec<_>>().join(" + "))
            }
            Sizes::Mix(mix) => write!(f, "frames of {} lengths", mix.len()),
            Sizes::Agh2015 => f.write_str("frames of agh-2015"),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, unit) = match self {
            Rate::Packets(value) => (*value, "pps"),
            Rate::Bits(value) => (*value, "bps"),
            Rate::Max => return f.write_str("as fast as possible"),
        };
        let scales = [(1e9, "G"), (1e6, "M"), (1e3, "k"), (0.0, "")];
        let (scale, prefix) =
            scales.into_iter().find(|(scale, _)| value >= *scale).unwrap_or((1.0, ""));
        let shown = value / if scale == 0.0 { 1.0 } else { scale };
        write!(f, "{} {prefix}{unit}", (shown * 1000.0).round() / 1000.0)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::After(duration) => write!(f, "for {duration:?}"),
            End::Packets(packets) => write!(f, "for {packets} packets"),
            End::Sessions(sessions) => write!(f, "for {sessions} sessions"),
        }
    }
}

impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Replay { file, timing, times } = self;
        let file = file.display();
        match timing {
            Timing::Scaled(1.0) => write!(f, "{file} in its own time, {times} times"),
            Timing::Scaled(factor) => write!(f, "{file} {factor} times as fast, {times} times"),
            Timing::Rate => write!(f, "{file} at the rate, {times} times"),
        }
    }
}
