//! Two ends over a link that loses, delays, doubles and reorders packets, is cut and mended, while
//! either end may freeze: `KRONO_SEED=N` repeats a run.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const SEEDS: u64 = 60;
const MS: u64 = 1_000_000;
/// How often an end looks at what has come and at the time.
const LOOK: u64 = MS / 4;
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];

/// What becomes of packets in one direction.
#[derive(Clone, Copy, Debug)]
struct Link {
    loss: f64,
    doubling: f64,
    delay_ns: (u64, u64),
}

const GOOD: Link = Link { loss: 0.0, doubling: 0.0, delay_ns: (MS / 2, MS / 2 + 1) };
const POOR: Link = Link { loss: 0.3, doubling: 0.2, delay_ns: (0, 30 * MS) };
const CUT: Link = Link { loss: 1.0, ..GOOD };

struct End {
    sessions: Sessions,
    /// What is on its way here: when it arrives, and the packet.
    arriving: Vec<(u64, Control)>,
    heard: u64,
    frozen_until: u64,
}

struct World {
    random: StdRng,
    now: u64,
    ends: [End; 2],
    /// By sender.
    links: [Link; 2],
    last_sent: [Control; 2],
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = StdRng::seed_from_u64(seed);
        let ends = [0, 1].map(|end: usize| {
            let config = SessionConfig {
                neighbour: ADDRESSES[1 - end],
                transmit_us: random.random_range(10_000..300_000),
                receive_us: random.random_range(10_000..300_000),
                multiplier: random.random_range(1..=5),
                seed: random.random(),
            };
            let sessions = Sessions::new([(Side::Inside, config)].into_iter());
            End { sessions, arriving: Vec::new(), heard: 0, frozen_until: 0 }
        });
        let last_sent = [Control::default(); 2];
        World { random, now: 0, ends, links: [GOOD; 2], last_sent }
    }

    fn view(&self, end: usize) -> View {
        self.ends[end].sessions.views().next().expect("there is one session")
    }

    fn states(&self) -> [State; 2] {
        [0, 1].map(|end| self.view(end).state)
    }

    fn run(&mut self, ns: u64) {
        let end = self.now + ns;
        while self.now < end {
            self.now += LOOK;
            self.turn(0);
            self.turn(1);
        }
    }

    /// Runs until that is so, for at most so long.
    fn run_until(&mut self, limit_ns: u64, wanted: impl Fn(&World) -> bool) {
        let start = self.now;
        while !wanted(self) {
            self.run(LOOK);
            assert!(self.now - start <= limit_ns, "{:?} after {limit_ns} ns", self.states());
        }
    }

    /// One end works off what has come, and does what time asks for.
    fn turn(&mut self, index: usize) {
        if self.now < self.ends[index].frozen_until {
            return;
        }
        // As a worker does: time first, then packets.
        let now = Moment(self.now);
        while let Some(sent) = self.ends[index].sessions.duty(now) {
            self.send(index, sent.control);
        }
        let End { sessions, arriving, heard, .. } = &mut self.ends[index];
        arriving.sort_by_key(|(at, _)| *at);
        let arrived = arriving.partition_point(|(at, _)| *at <= self.now);
        for (_, control) in arriving.drain(..arrived) {
            let from = (Side::Inside, ADDRESSES[1 - index]);
            assert_eq!(sessions.receive(from, TTL, &control.to_bytes(), now), Ok(()));
            *heard = self.now;
        }
        self.check(index);
    }

    fn send(&mut self, index: usize, control: Control) {
        assert!(!(control.poll && control.is_final), "6.5: {control:?}");
        self.last_sent[index] = control;
        let (link, random) = (self.links[index], &mut self.random);
        for _ in 0..1 + usize::from(random.random_bool(link.doubling)) {
            if !random.random_bool(link.loss) {
                let delay = random.random_range(link.delay_ns.0..link.delay_ns.1);
                self.ends[1 - index].arriving.push((self.now + delay, control));
            }
        }
    }

    /// Who is up has heard the other end within the detection time.
    fn check(&self, index: usize) {
        let (view, end) = (self.view(index), &self.ends[index]);
        if view.state == State::Up {
            let silence = self.now - end.heard;
            let allowed = view.detection_us * 1000 + LOOK;
            let thawed = self.now.saturating_sub(end.frozen_until) < STALL_NS + 2 * LOOK;
            assert!(silence <= allowed || thawed, "up though silent for {silence} ns");
        }
    }

    /// Over a good link both come up, agree on their intervals and stop polling.
    fn settle(&mut self) {
        self.links = [GOOD; 2];
        self.run_until(6_000 * MS, |world| world.states() == [State::Up; 2]);
        self.run(1_500 * MS);
        assert_eq!(self.states(), [State::Up; 2], "they stay up");
        let [one, other] = [0, 1].map(|end| self.view(end));
        let configs = [0, 1].map(|end| self.ends[end].sessions.sessions[0].config);
        for (view, ours, theirs) in [(one, configs[0], configs[1]), (other, configs[1], configs[0])]
        {
            assert_eq!(view.transmit_us, ours.transmit_us.max(theirs.receive_us));
            let interval = u64::from(theirs.transmit_us.max(ours.receive_us));
            assert_eq!(view.detection_us, u64::from(theirs.multiplier) * interval);
        }
        assert!(self.last_sent.iter().all(|sent| !sent.poll), "{:?}", self.last_sent);
    }

    fn detection_ns(&self, end: usize) -> u64 {
        self.view(end).detection_us * 1000
    }
}

#[test]
fn two_ends_come_up_go_down_and_come_back_whatever_the_link_does() {
    let first = std::env::var("KRONO_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    for seed in first..first + SEEDS {
        println!("KRONO_SEED={seed}");
        let mut world = World::new(seed);
        world.settle();

        // A cut in one direction is found by who hears nothing, and told to the other.
        let deaf = world.random.random_range(0..2);
        world.links[1 - deaf] = CUT;
        let detection = world.detection_ns(deaf);
        world.run_until(detection + 2 * MS, |world| world.states()[deaf] == State::Down);
        assert_eq!(world.view(deaf).diagnostic, Diagnostic::DETECTION_TIME_EXPIRED);
        world.run_until(MS, |world| world.states()[1 - deaf] != State::Up);
        assert_eq!(world.view(1 - deaf).diagnostic, Diagnostic::NEIGHBOR_SIGNALED_DOWN);
        world.run(3_000 * MS);
        assert!(!world.states().contains(&State::Up), "one who hears nothing is not enough");
        world.settle();

        // Both directions, without a word.
        let slower = world.detection_ns(0).max(world.detection_ns(1));
        world.links = [CUT; 2];
        world.run_until(slower + 2 * MS, |world| world.states() == [State::Down; 2]);
        world.settle();

        // An end that freezes is lost to the other, and learns of it when it thaws.
        let frozen = world.random.random_range(0..2);
        let detection = world.detection_ns(1 - frozen);
        world.ends[frozen].frozen_until = world.now + detection + 2_000 * MS;
        world.run_until(detection + 2 * MS, |world| world.states()[1 - frozen] == State::Down);
        world.settle();

        // Anything may happen, and then it is over.
        world.links = [POOR; 2];
        world.run(10_000 * MS);
        let idle = world.random.random_range(0..400 * MS);
        world.ends[0].frozen_until = world.now + idle;
        world.run(5_000 * MS);
        world.settle();
    }
}
