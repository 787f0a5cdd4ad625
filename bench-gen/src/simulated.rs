//! A device that is a formula: procedures are tested on it, and reports are shown without one.
//! Time is simulated, so an hour of trials takes a moment.

use std::time::Duration;

use hdrhistogram::Histogram;
use krono_io::EalConfig;

use crate::bench::{
    Bench, Cost, Counts, Failed, Pace, Seen, Snapshot, Stage, Watch, Way, Ways, Wrong,
};
use crate::load::{End, Load, Popularity, PortSetup, Profile, Rate, Sizes};

/// What the device can do.
#[derive(Clone, Debug)]
pub struct Device {
    /// Packets/s that it forwards, both ways together.
    pub capacity_pps: f64,
    /// Sessions that it has room for.
    pub table: u64,
    /// Sessions/s that it can establish.
    pub establish_per_s: f64,
    /// Sessions/s that it can tear down.
    pub close_per_s: f64,
    /// Latency without load.
    pub latency: Duration,
    /// Loss at any rate, as a share.
    pub loss: f64,
    /// Packets/s that the generator can send; the device is not to blame for less.
    pub generator_pps: f64,
    /// The capacity varies by so much from stage to stage, as a share.
    pub noise: f64,
    /// From when on, and for how long, nothing comes through, in each stage of traffic.
    pub outage: Option<(Duration, Duration)>,
    /// The share of flows that does not come back after the outage.
    pub lost: f64,
    /// In each stage of traffic so many packets come to the wrong subscriber.
    pub wrong: u64,
    /// In each stage of traffic so many flows get another public endpoint.
    pub moved: u64,
    /// Whether [`Stage::Forget`] empties the device's table, as a command would.
    pub forgets: bool,
    /// Whether a tenth of a second takes as long as it says: for the live view.
    pub real_time: bool,
}

impl Default for Device {
    fn default() -> Device {
        Device {
            capacity_pps: 2.4e6,
            table: 1 << 20,
            establish_per_s: 180e3,
            close_per_s: 250e3,
            latency: Duration::from_micros(9),
            loss: 0.0,
            generator_pps: 8e6,
            noise: 0.01,
            outage: None,
            lost: 0.0,
            wrong: 0,
            moved: 0,
            forgets: true,
            real_time: false,
        }
    }
}

/// A bench with a simulated device.
#[derive(Clone, Debug)]
pub struct Simulated {
    device: Device,
    flows: u32,
    answers: f64,
    popularity: Popularity,
    size: f64,
    random: u64,
    /// Sessions that bench-gen knows.
    open: u64,
    /// Sessions in the device's table.
    held: u64,
}

/// Latency is recorded of so many packets; the histogram counts each for many.
const SAMPLES: u64 = 20_000;

impl Simulated {
    /// A bench that sends what the profile says.
    pub fn new(device: Device, profile: &Profile) -> Simulated {
        Simulated {
            device,
            flows: profile.load.flows,
            answers: f64::from(profile.load.answers_percent) / 100.0,
            popularity: profile.load.popularity,
            size: profile.load.sizes.mean(),
            random: profile.seed,
            open: 0,
            held: 0,
        }
    }

    /// From 0 to 1, by splitmix64.
    fn draw(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn about(&mut self, value: f64) -> f64 {
        let noise = self.device.noise;
        value * (1.0 + noise * (self.draw() * 2.0 - 1.0))
    }

    fn open(&mut self, sessions: u32, per_second: f64, watch: &mut dyn Watch) -> Seen {
        let limit = self.about(self.device.establish_per_s);
        let rate = per_second.min(self.device.generator_pps);
        let seconds = f64::from(sessions) / rate;
        let share = (limit / rate).min(1.0);
        let room = self.device.table.saturating_sub(self.held);
        let opened = ((f64::from(sessions) * share).round() as u64).min(room);
        self.open += opened;
        self.held += opened;
        let sent = u64::from(sessions);
        let way = |sent, received| Counts {
            sent,
            received,
            lost: sent - received,
            ..sized(sent, received, self.size)
        };
        let total = Snapshot {
            counts: [way(sent, opened), way(opened, opened)],
            opened,
            not_opened: sent - opened,
            open: self.open,
            ..Snapshot::default()
        };
        self.play(total, seconds, None, watch)
    }

    fn traffic(
        &mut self,
        rate: Rate,
        end: End,
        sizes: Option<&Sizes>,
        ways: Ways,
        watch: &mut dyn Watch,
    ) -> Seen {
        let size = sizes.map_or(self.size, Sizes::mean);
        let wanted = match rate {
            Rate::Packets(rate) => Some(rate),
            Rate::Bits(rate) => Some(rate / ((size + 20.0) * 8.0)),
            Rate::Max => None,
        };
        let reached = wanted.unwrap_or(f64::INFINITY).min(self.device.generator_pps);
        let seconds = match end {
            End::After(time) => time.as_secs_f64(),
            End::Packets(packets) => packets as f64 / reached,
            End::Sessions(_) => 10.0,
        };
        if self.open == 0 {
            self.open = u64::from(self.flows).min(self.device.table);
            self.held = self.open;
        }
        // Longer frames cost a little more.
        let capacity = self.about(self.device.capacity_pps) / (1.0 + (size - 64.0) / 4000.0);
        let answers = if ways == Ways::Both { self.answers } else { 0.0 };
        let load = reached * (1.0 + answers) / capacity;
        let through = load.recip().min(1.0) * (1.0 - self.device.loss);
        let sent = (reached * seconds).round();
        let there = (sent * through).round();
        let back = ((there * answers).round(), (there * answers * through).round());
        let counts = match ways {
            Ways::Both => {
                [sized(sent as u64, there as u64, size), sized(back.0 as u64, back.1 as u64, size)]
            }
            Ways::Up => [sized(sent as u64, there as u64, size), Counts::default()],
            Ways::Down => [Counts::default(), sized(sent as u64, there as u64, size)],
        };
        let mut total = Snapshot { counts, open: self.open, ..Snapshot::default() };
        total.wrong[Wrong::Subscriber as usize] = self.device.wrong;
        total.wrong[Wrong::SecondEndpoint as usize] = self.device.moved;
        let mut seen = self.play(total, seconds, Some(load), watch);
        seen.pace = Pace {
            wanted_pps: wanted,
            reached_pps: reached,
            burstiness: 1.0 + self.draw() * 0.3,
            mean_burst: 4.0,
        };
        if self.device.wrong > 0 {
            let example = "10.0.3.17:40211 got UDP 198.51.100.7:2207's packet 181 of flow 40712";
            seen.examples.push(example.to_owned());
        }
        self.flows_of(&mut seen);
        seen
    }

    /// Packets and silence by flow.
    fn flows_of(&mut self, seen: &mut Seen) {
        let flows = self.open.clamp(1, 20_000);
        let packets = seen.total.counts[0].sent as f64 / flows as f64;
        let silence = self.device.outage.map_or(0.0, |(_, time)| time.as_secs_f64() * 1000.0);
        let mut silent = 0.0;
        for flow in 1..=flows {
            let share = match self.popularity {
                Popularity::Uniform => 1.0,
                Popularity::Zipf(exponent) => (flow as f64).powf(-exponent) * flows as f64 / 8.0,
                Popularity::Agh2015 => self.draw().powf(-0.9) / 8.0,
            };
            record(&mut seen.flow_packets, (packets * share).max(1.0), 1);
            let outage = if silence > 0.0 { silence * (0.9 + self.draw() * 0.5) } else { 0.0 };
            let gone = silence > 0.0 && self.draw() < self.device.lost;
            silent += f64::from(u8::from(gone));
            record(&mut seen.outage_ms, if gone { silence * 12.0 } else { outage }, 1);
        }
        seen.sessions_lost = silent as u64;
    }

    /// Spreads what is seen in all over tenths of a second.
    fn play(
        &mut self,
        total: Snapshot,
        seconds: f64,
        load: Option<f64>,
        watch: &mut dyn Watch,
    ) -> Seen {
        let tenths = ((seconds * 10.0).ceil() as u64).clamp(1, 36_000);
        let mut seen = empty();
        let mut so_far = Snapshot { open: total.open, ..Snapshot::default() };
        for tenth in 1..=tenths {
            let mut step = self.step(&total, tenth, tenths);
            if load.is_some() {
                self.break_off(&mut step, tenth);
            }
            step.elapsed = Duration::from_secs_f64(seconds / tenths as f64);
            step.latency_ns = self.latencies(load).map(Some);
            add(&mut so_far, &step);
            seen.series.push(step);
            if self.device.real_time {
                std::thread::sleep(Duration::from_secs_f64(seconds / tenths as f64));
            }
            if !watch.look(&so_far) {
                seen.partial = true;
                break;
            }
        }
        self.histograms(&mut seen, &so_far, load);
        so_far.latency_ns = [None; 2];
        seen.total = so_far;
        seen
    }

    /// The part of a total that falls on one tenth.
    fn step(&mut self, total: &Snapshot, tenth: u64, tenths: u64) -> Snapshot {
        let part = |value: u64| value * tenth / tenths - value * (tenth - 1) / tenths;
        let counts = total.counts.map(|way| Counts {
            sent: part(way.sent),
            sent_bytes: part(way.sent_bytes),
            received: part(way.received),
            received_bytes: part(way.received_bytes),
            lost: part(way.lost),
            ..Counts::default()
        });
        Snapshot {
            counts,
            wrong: total.wrong.map(part),
            opened: part(total.opened),
            not_opened: part(total.not_opened),
            closed: part(total.closed),
            open: total.open,
            ..Snapshot::default()
        }
    }

    /// Nothing comes through during the outage, less after it if flows are lost.
    fn break_off(&mut self, step: &mut Snapshot, tenth: u64) {
        let Some((at, time)) = self.device.outage else { return };
        let now = Duration::from_millis(tenth * 100);
        if now <= at {
            return;
        }
        let through = if now <= at + time { 0.0 } else { 1.0 - self.device.lost };
        for counts in &mut step.counts {
            let received = (counts.received as f64 * through) as u64;
            counts.lost += counts.received - received;
            counts.received_bytes = (counts.received_bytes as f64 * through) as u64;
            counts.received = received;
        }
        step.silent = if through == 0.0 { step.open } else { 0 };
    }

    /// As a queue with one server: the fuller, the longer.
    fn latency(&mut self, load: Option<f64>) -> f64 {
        let load = load.unwrap_or(0.1).min(0.995);
        let base = self.device.latency.as_nanos() as f64;
        let wait = base * 0.35 * load / (1.0 - load);
        let tail = if self.draw() < 0.002 { base * 8.0 * self.draw() } else { 0.0 };
        base * (0.85 + 0.3 * self.draw()) - wait * (1.0 - self.draw()).max(1e-12).ln() + tail
    }

    fn latencies(&mut self, load: Option<f64>) -> [(u64, u64); 2] {
        let mut some: Vec<f64> = (0..100).map(|_| self.latency(load)).collect();
        some.sort_by(f64::total_cmp);
        [(some[50] as u64, some[98] as u64), (some[50] as u64 + 400, some[98] as u64 + 900)]
    }

    fn histograms(&mut self, seen: &mut Seen, total: &Snapshot, load: Option<f64>) {
        for way in [Way::Up, Way::Down] {
            let received = total.counts[way as usize].received;
            let samples = received.min(SAMPLES);
            let mut before = None;
            for _ in 0..samples {
                let skew = if way == Way::Down { 400.0 } else { 0.0 };
                let latency = self.latency(load) + skew;
                record(&mut seen.latency_ns[way as usize], latency, received / samples);
                if let Some(before) = before.replace(latency) {
                    let variation: f64 = latency - before;
                    record(&mut seen.variation_ns[way as usize], variation.abs(), 1);
                }
            }
        }
    }
}

impl Bench for Simulated {
    fn stage(&mut self, stage: &Stage, watch: &mut dyn Watch) -> Result<Seen, Failed> {
        Ok(match stage {
            Stage::Open { sessions, per_second } => self.open(*sessions, *per_second, watch),
            Stage::Traffic { rate, end, sizes, ways } => {
                self.traffic(*rate, *end, sizes.as_ref(), *ways, watch)
            }
            Stage::Probe { per_second } => {
                let counts = sized(self.open, self.open, 64.0);
                let total =
                    Snapshot { counts: [counts; 2], open: self.open, ..Snapshot::default() };
                self.play(total, self.open as f64 / per_second, Some(0.1), watch)
            }
            Stage::Close { per_second } => {
                let closed = std::mem::take(&mut self.open);
                self.held = self.held.saturating_sub(closed);
                let rate = self.about(self.device.close_per_s).min(*per_second);
                let counts = sized(closed * 2, closed * 2, 64.0);
                let total = Snapshot { counts: [counts; 2], closed, ..Snapshot::default() };
                let mut seen = self.play(total, closed as f64 / rate, None, watch);
                seen.total.elapsed = Duration::from_secs_f64(closed as f64 / rate);
                seen
            }
            Stage::Forget => {
                self.open = 0;
                self.held = if self.device.forgets { 0 } else { self.held };
                empty()
            }
        })
    }
}

fn sized(sent: u64, received: u64, size: f64) -> Counts {
    Counts {
        sent,
        sent_bytes: (sent as f64 * size) as u64,
        received,
        received_bytes: (received as f64 * size) as u64,
        lost: sent - received,
        ..Counts::default()
    }
}

fn add(sum: &mut Snapshot, step: &Snapshot) {
    sum.elapsed += step.elapsed;
    for (sum, step) in sum.counts.iter_mut().zip(&step.counts) {
        sum.sent += step.sent;
        sum.sent_bytes += step.sent_bytes;
        sum.received += step.received;
        sum.received_bytes += step.received_bytes;
        sum.lost += step.lost;
    }
    for (sum, step) in sum.wrong.iter_mut().zip(step.wrong) {
        *sum += step;
    }
    sum.opened += step.opened;
    sum.not_opened += step.not_opened;
    sum.closed += step.closed;
    sum.silent = step.silent;
    sum.latency_ns = step.latency_ns;
}

fn record(histogram: &mut Histogram<u64>, value: f64, times: u64) {
    // They grow by themselves: nothing is too large.
    let _ = histogram.record_n(value.max(0.0) as u64, times);
}

fn empty() -> Seen {
    let histogram = || Histogram::new(3).expect("three digits are admitted");
    Seen {
        total: Snapshot::default(),
        series: Vec::new(),
        latency_ns: [histogram(), histogram()],
        variation_ns: [histogram(), histogram()],
        outage_ms: histogram(),
        sessions_lost: 0,
        flow_packets: histogram(),
        pace: Pace::default(),
        cost: Cost::default(),
        examples: Vec::new(),
        port_trouble: Default::default(),
        partial: false,
    }
}

/// A profile for it: ten thousand UDP flows of a thousand subscribers, 64-byte frames, each packet
/// answered.
pub fn profile() -> Profile {
    let network = |text: &str| text.parse().expect("a network");
    let port = |device: &str, address: &str, next_hop: &str| PortSetup {
        device: device.to_owned(),
        mtu: 1500,
        mac: None,
        address: network(address),
        next_hop: next_hop.parse().expect("an address"),
        next_hop_mac: None,
        vlan: None,
    };
    Profile {
        eal: EalConfig::default(),
        inside: port("simulated", "10.0.0.254/24", "10.0.0.1"),
        outside: port("simulated", "192.0.2.254/24", "192.0.2.1"),
        lcores: vec![0],
        yields: true,
        load: Load {
            protocols: [1, 0, 0],
            subscribers: network("100.64.0.0/16"),
            subscriber_count: 1000,
            servers: network("203.0.113.0/24"),
            sports: 1024..=65535,
            dports: 1..=49151,
            flows: 10_000,
            popularity: Popularity::Uniform,
            churn: None,
            sizes: Sizes::Fixed(64),
            answers_percent: 100,
            replay: None,
        },
        rate: Rate::Packets(500_000.0),
        end: End::After(Duration::from_secs(10)),
        repeats: 3,
        seed: 1,
    }
}
