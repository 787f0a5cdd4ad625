//! Nodes, shards, routers and subscribers, and what must hold of them.

use std::collections::{BTreeMap, VecDeque};

use krono_core::carve::Line;
use krono_core::packet::{Endpoint, PacketMeta, Protocol, Side};
use krono_core::ports::Part;
use krono_core::program::{Events, Program, Verdict};
use krono_core::time::{Moment, Span};
use krono_core::twin::Twin;
use krono_ha::frame::{FRAME_MAX, Key};
use krono_ha::roles::Role;
use krono_ha::{Half, Settings};
use krono_nat::config::{Config, Filtering, Firewall, Policy, Timeouts};
use krono_nat::{Event, Nat, SessionRecord};
use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;
use zerocopy::IntoBytes;

use super::flows::{Flow, Stage};
use super::network::{Network, Weather};

/// A step of the clock, ns.
const STEP: u64 = 5_000_000;

/// When it begins, ns: not at the clock's start, and near to a wrap of ticks.
const START: u64 = (u32::MAX as u64 - 10) * 100_000_000;

/// So long two take at most to find each other and to have the same, if nothing disturbs them, ns.
const STARTS_WITHIN_NS: u64 = 400_000_000;

/// How old a change may be, at most, that the other does not have, if nothing disturbs the two, ms: a
/// frame waits for two polls, travels, and is acknowledged by the next heartbeat, which travels.
const LAG_MS: u64 = 60;

/// Steps with faults, and without at the most.
const STEPS: u64 = 300;
const QUIET_STEPS: u64 = 1200;

/// Starts of halves in a run, at the most.
pub(crate) const MEMORIES: usize = 24;

/// A session of which no packet has been seen for so long may have ended; some less than the
/// shortest timeout.
const FRESH_NS: u64 = 350_000_000;

fn config() -> Config {
    let ticks = Span;
    Config {
        sessions: 96,
        subscribers: 16,
        pool: vec!["198.51.100.1/32".parse().expect("a prefix")],
        inside: vec!["100.64.0.0/10".parse().expect("a prefix")],
        // Few, so that they run out and come again.
        ports: 1024..=1063,
        ports_per_subscriber: 24,
        seed: [7; 32],
        policy: Policy {
            filtering: Filtering::AddressAndPortDependent,
            hairpinning: true,
            timeouts: Timeouts {
                udp: ticks(5),
                icmp: ticks(5),
                tcp_established: ticks(12),
                tcp_opening: ticks(5),
                tcp_closing: ticks(2),
                port_hold: ticks(4),
            },
            exclude: Vec::new(),
            statics: Vec::new(),
            firewall: Firewall::default(),
        },
    }
}

pub(crate) fn memory_bytes() -> usize {
    Nat::memory_bytes(&config())
}

/// How a run goes.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    nodes: usize,
    shards: usize,
    weather: Weather,
    /// Which things happen, each so often in a thousand steps.
    crashes: u32,
    partitions: u32,
    freezes: u32,
    moves: u32,
    route_flaps: u32,
    fences: u32,
    /// A node that polls only every so many steps.
    slow: Option<(usize, u64)>,
    /// Changes that may wait to be sent.
    notes_max: usize,
    /// Flows that live at a time, in each shard.
    flows: usize,
    /// Whether the second nodes say that they are the preferred ones as well.
    both_preferred: bool,
}

impl Plan {
    pub(crate) fn random(random: &mut impl Rng) -> Plan {
        let mut often = |most: &[u32]| most[random.random_range(0..most.len())];
        let (crashes, partitions) = (often(&[0, 0, 4, 10]), often(&[0, 0, 4, 10]));
        let (freezes, moves) = (often(&[0, 0, 5]), often(&[0, 6, 15]));
        let (route_flaps, fences) = (often(&[0, 0, 6]), often(&[0, 30]));
        let weather = Weather {
            loss: often(&[0, 0, 10, 50, 200]),
            doubled: often(&[0, 0, 20, 100]),
            delay_ns: u64::from(often(&[0, 4, 12, 25])) * 1_000_000,
        };
        let nodes = random.random_range(2..=4);
        Plan {
            nodes,
            shards: random.random_range(1..=3),
            weather,
            crashes,
            partitions,
            freezes,
            moves,
            route_flaps,
            fences,
            slow: random
                .random_ratio(1, 4)
                .then(|| (random.random_range(0..nodes), random.random_range(2..6))),
            notes_max: [2, 8, 512][random.random_range(0..3)],
            flows: random.random_range(2..=18),
            both_preferred: random.random_ratio(1, 10),
        }
    }

    /// Whether nothing disturbs the two.
    fn is_calm(&self) -> bool {
        let faults = [self.crashes, self.partitions, self.freezes, self.moves, self.route_flaps];
        // One frame that overtakes another is as good as lost.
        let Weather { loss, doubled, delay_ns } = self.weather;
        faults == [0; 5]
            && loss + doubled == 0
            && delay_ns == 0
            && self.slow.is_none()
            && self.notes_max > 100
    }
}

/// What happened in runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    passed: u64,
    answered: u64,
    /// Flows that another node took over as they were, and those that began anew.
    kept: u64,
    lost: u64,
    crashes: u64,
    fences: u64,
    takeovers: u64,
    moved: u64,
    gaps: u64,
    overflowed: u64,
    refused: u64,
    exhausted: u64,
    both_serve: u64,
    most_lag_ms: u64,
}

impl Seen {
    pub(crate) fn add(&mut self, other: &Seen) {
        let Seen { passed, answered, kept, lost, crashes, fences, takeovers, moved, .. } = *other;
        self.passed += passed;
        self.answered += answered;
        self.kept += kept;
        self.lost += lost;
        self.crashes += crashes;
        self.fences += fences;
        self.takeovers += takeovers;
        self.moved += moved;
        self.gaps += other.gaps;
        self.overflowed += other.overflowed;
        self.refused += other.refused;
        self.exhausted += other.exhausted;
        self.both_serve += other.both_serve;
        self.most_lag_ms = self.most_lag_ms.max(other.most_lag_ms);
    }

    /// That all happened that is to be proved.
    pub(crate) fn demand(&self) {
        let Seen { passed, answered, kept, crashes, fences, takeovers, moved, gaps, .. } = *self;
        assert!(passed > 1_000_000 && answered > 500_000, "{self:?}");
        assert!(kept > 10_000 && crashes > 1000 && fences > 100, "{self:?}");
        assert!(takeovers > 3000 && moved > 300 && gaps > 10_000, "{self:?}");
        assert!(self.most_lag_ms > 0 && self.most_lag_ms < LAG_MS, "{self:?}");
        assert!(self.overflowed > 1000 && self.refused > 100, "{self:?}");
        assert!(self.exhausted > 1000 && self.both_serve > 1000, "{self:?}");
    }
}

/// A half and its translator.
struct Member<'m> {
    nat: Nat<'m>,
    half: Half<Nat<'m>>,
    started_at: u64,
    /// Since when its sessions end by themselves.
    expires_since: u64,
    /// When it last ceased to be the one that serves.
    demoted_at: u64,
    /// When it first had what the other had.
    synced_at: Option<u64>,
    role: Role,
}

/// Events go to the half; the world only counts.
struct Sink<'s, 'm>(&'s mut Half<Nat<'m>>);

impl Events<Event> for Sink<'_, '_> {
    fn emit(&mut self, event: Event) {
        self.0.changes().emit(event);
    }
}

struct Shard<'m> {
    /// By place in its preference.
    nodes: [usize; 2],
    members: [Option<Member<'m>>; 2],
    /// Where the two routers send to, by place.
    ways: [usize; 2],
}

#[derive(Clone, Default)]
struct Node {
    down_until: Option<u64>,
    frozen_until: u64,
    routes_down_until: u64,
    queue: VecDeque<(usize, Vec<u8>)>,
}

/// An answer on its way: when it comes, to whom it must come, and the packet.
struct Answer {
    at: u64,
    shard: usize,
    inside: Endpoint,
    packet: PacketMeta,
}

pub(crate) struct World<'m> {
    plan: Plan,
    random: ChaCha8Rng,
    now: u64,
    memory: std::slice::IterMut<'m, Vec<Line>>,
    nodes: Vec<Node>,
    shards: Vec<Shard<'m>>,
    network: Network,
    healed_at: Option<u64>,
    flows: Vec<Flow>,
    answers: Vec<Answer>,
    /// Nothing disturbs the two, ever.
    is_calm: bool,
    /// Flows that have begun.
    begun: u16,
    is_quiet: bool,
    seen: Seen,
    /// Whether it tells what happens.
    logs: bool,
}

impl<'m> World<'m> {
    pub(crate) fn new(plan: Plan, random: ChaCha8Rng, memory: &'m mut [Vec<Line>]) -> World<'m> {
        let network = Network::new(plan.nodes, plan.weather);
        let shard = |shard: usize| Shard {
            nodes: [shard % plan.nodes, (shard + 1) % plan.nodes],
            members: [None, None],
            ways: [0, 0],
        };
        let mut world = World {
            nodes: vec![Node::default(); plan.nodes],
            shards: (0..plan.shards).map(shard).collect(),
            network,
            random,
            now: START,
            memory: memory.iter_mut(),
            healed_at: None,
            flows: Vec::new(),
            answers: Vec::new(),
            is_calm: plan.is_calm(),
            begun: 0,
            is_quiet: false,
            seen: Seen::default(),
            logs: std::env::var_os("KRONO_SEED").is_some(),
            plan,
        };
        for shard in 0..world.shards.len() {
            (0..2).for_each(|place| world.start(shard, place));
        }
        world
    }

    pub(crate) fn run(mut self) -> Seen {
        for _ in 0..STEPS {
            self.disturb();
            self.step();
        }
        self.be_quiet();
        let mut at_rest = 0;
        for _ in 0..QUIET_STEPS {
            self.step();
            at_rest = if self.is_at_rest() { at_rest + 1 } else { 0 };
            if at_rest == 20 {
                self.compare();
                return self.seen;
            }
        }
        panic!("no rest: {:#?}", self.statuses());
    }

    fn statuses(&self) -> Vec<krono_ha::Status> {
        let members = self.shards.iter().flat_map(|shard| shard.members.iter().flatten());
        members.map(|member| member.half.status(Moment(self.now))).collect()
    }

    fn log(&self, what: std::fmt::Arguments<'_>) {
        log(self.logs, self.now, what);
    }

    /// Starts a half anew, if there is memory left for it.
    fn start(&mut self, shard: usize, place: usize) {
        let Some(memory) = self.memory.next() else { return };
        let memory = memory.as_mut_bytes();
        memory.fill(0);
        let nodes = self.shards[shard].nodes;
        let now = Moment(self.now);
        let part = Part { first_percent: 50, is_first: place == 0 };
        let nat = Nat::with_part(&config(), part, memory, now.ticks()).expect("no static ones");
        let settings = Settings {
            shard: shard as u32,
            node: nodes[place] as u32 + 1,
            peer: nodes[1 - place] as u32 + 1,
            rank: if self.plan.both_preferred { 0 } else { place as u8 },
            notes_max: self.plan.notes_max,
            entries_max: config().sessions,
            flush_polls: 2,
            walk_budget: 16,
            // Less than there are, so that all walks have changes in between.
            tend_budget: 7,
            heartbeat_ns: 15_000_000,
            silence_ns: 80_000_000,
            linger_ns: 60_000_000,
            compare_ns: 200_000_000,
            port_hold: config().policy.timeouts.port_hold,
            patience: 5,
        };
        let incarnation = self.random.random_range(1..u64::MAX);
        self.log(format_args!("shard {shard}: place {place} starts on {}", nodes[place]));
        let half = Half::new(settings, Key::new(&[9; 32]), &nat, incarnation, now);
        self.shards[shard].members[place] = Some(Member {
            nat,
            half,
            started_at: self.now,
            expires_since: 0,
            demoted_at: 0,
            synced_at: None,
            role: Role::Following,
        });
    }

    fn disturb(&mut self) {
        let happens = |random: &mut ChaCha8Rng, often: u32| random.random_ratio(often, 1000);
        let node = self.random.random_range(0..self.nodes.len());
        if happens(&mut self.random, self.plan.crashes) {
            self.crash(node);
        }
        if happens(&mut self.random, self.plan.freezes) {
            self.nodes[node].frozen_until = self.now + STEP * self.random.random_range(1..60);
        }
        if happens(&mut self.random, self.plan.route_flaps) {
            self.nodes[node].routes_down_until = self.now + STEP * self.random.random_range(1..60);
        }
        if happens(&mut self.random, self.plan.partitions) {
            self.part();
        }
        if self.healed_at.is_some_and(|at| at <= self.now) {
            self.healed_at = None;
            self.log(format_args!("all are connected"));
            self.network.connect_all();
        }
        let shard = self.random.random_range(0..self.shards.len());
        if happens(&mut self.random, self.plan.moves) {
            let keeps = self.random.random_ratio(1, 6);
            for member in self.shards[shard].members.iter_mut().flatten() {
                if keeps { member.half.keep() } else { member.half.drain() }
            }
        }
        if happens(&mut self.random, self.plan.fences) {
            self.fence(shard);
        }
        self.restart();
    }

    /// Cuts a random set of ways between nodes.
    fn part(&mut self) {
        let is_whole = self.random.random_ratio(2, 3);
        for from in 0..self.nodes.len() {
            for to in 0..from {
                let (there, back) = (self.random.random(), self.random.random());
                self.network.connect(from, to, there);
                self.network.connect(to, from, if is_whole { there } else { back });
            }
        }
        self.log(format_args!("some are not connected"));
        self.healed_at = Some(self.now + STEP * self.random.random_range(1..160));
    }

    fn crash(&mut self, node: usize) {
        let halves: Vec<_> = self.halves_of(node).collect();
        if self.nodes[node].down_until.is_some() || self.memory.len() < halves.len() {
            return;
        }
        self.seen.crashes += 1;
        self.log(format_args!("node {node} crashes"));
        self.nodes[node] = Node {
            down_until: Some(self.now + STEP * self.random.random_range(1..100)),
            ..Node::default()
        };
        for (shard, place) in halves {
            let Some(member) = self.shards[shard].members[place].take() else { continue };
            let of_it =
                self.flows.iter_mut().filter(|flow| (flow.shard, flow.node) == (shard, place));
            for flow in of_it.filter(|flow| flow.opened_at >= member.started_at) {
                flow.told = Some(member.half.known().0);
            }
            self.seen.count(&member);
        }
    }

    /// The operator says of a node that is down that it is.
    fn fence(&mut self, shard: usize) {
        let Shard { nodes, members, .. } = &mut self.shards[shard];
        for place in 0..2 {
            let is_down = self.nodes[nodes[1 - place]].down_until.is_some();
            if let Some(member) = &mut members[place]
                && is_down
            {
                member.half.fence(Moment(self.now));
                self.seen.fences += 1;
                log(self.logs, self.now, format_args!("shard {shard}: place {place} is alone"));
            }
        }
    }

    fn restart(&mut self) {
        for node in 0..self.nodes.len() {
            if self.nodes[node].down_until.is_some_and(|until| until <= self.now) {
                self.nodes[node].down_until = None;
                let halves: Vec<_> = self.halves_of(node).collect();
                halves.into_iter().for_each(|(shard, place)| self.start(shard, place));
            }
        }
    }

    /// Shard and place of each half on a node.
    fn halves_of(&self, node: usize) -> impl Iterator<Item = (usize, usize)> {
        let shards = self.shards.iter().enumerate();
        shards.flat_map(move |(shard, it)| {
            let places = (0..2).filter(move |place| it.nodes[*place] == node);
            places.map(move |place| (shard, place))
        })
    }

    /// Everything works from now on.
    fn be_quiet(&mut self) {
        self.is_quiet = true;
        self.network.connect_all();
        self.network.weather = Weather { loss: 0, doubled: 0, ..self.network.weather };
        self.plan.slow = None;
        for node in &mut self.nodes {
            (node.frozen_until, node.routes_down_until) = (0, 0);
            node.down_until = node.down_until.map(|_| self.now);
        }
        self.restart();
        for member in self.shards.iter_mut().flat_map(|shard| shard.members.iter_mut().flatten()) {
            member.half.keep();
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        while let Some((to, shard, bytes)) = self.network.arrived(self.now) {
            let node = &mut self.nodes[to];
            if node.down_until.is_none() && node.queue.len() < 64 {
                node.queue.push_back((shard, bytes));
            }
        }
        for node in 0..self.nodes.len() {
            if self.runs(node) {
                self.poll(node);
            }
        }
        (0..self.shards.len()).for_each(|shard| self.route(shard));
        self.answer();
        if !self.is_quiet {
            self.subscribe();
        }
        if (self.now / STEP).is_multiple_of(4) {
            (0..self.shards.len()).for_each(|shard| self.check_ports(shard));
        }
    }

    /// Whether a node gets to poll now.
    fn runs(&self, node: usize) -> bool {
        let is_slow = self
            .plan
            .slow
            .is_some_and(|(slow, every)| slow == node && !(self.now / STEP).is_multiple_of(every));
        self.reaches(node) && !is_slow
    }

    fn reaches(&self, node: usize) -> bool {
        reaches(&self.nodes[node], self.now)
    }

    /// What a node does in a turn.
    fn poll(&mut self, node: usize) {
        let now = Moment(self.now);
        while let Some((shard, bytes)) = self.nodes[node].queue.pop_front() {
            let Shard { nodes, members, .. } = &mut self.shards[shard];
            let place = usize::from(nodes[0] != node);
            if let Some(member) = &mut members[place] {
                // Frames of earlier incarnations and doubled ones are refused.
                let _ = member.half.receive(&mut member.nat, &bytes, now);
                let old = member.role;
                member.note_role(self.now, &mut self.seen);
                log_role(self.logs, self.now, (shard, place), old, member);
            }
        }
        let halves: Vec<_> = self.halves_of(node).collect();
        for (shard, place) in halves {
            let routes_up = self.nodes[node].routes_down_until <= self.now;
            let Shard { nodes, members, .. } = &mut self.shards[shard];
            let Some(member) = &mut members[place] else { continue };
            member.half.set_routes(routes_up);
            let old = member.role;
            member.tend(now, self.is_quiet, &mut self.seen);
            log_role(self.logs, self.now, (shard, place), old, member);
            let mut frame = [0; FRAME_MAX];
            for _ in 0..4 {
                let Some(len) = member.half.poll(&mut member.nat, now, &mut frame) else { break };
                let way = (node, nodes[1 - place]);
                self.network.send(self.now, way, shard, &frame[..len], &mut self.random);
            }
            let status = member.half.status(now);
            let has_begun = self.now > START + STARTS_WITHIN_NS;
            if self.is_calm && has_begun && status.role == Role::Serving {
                self.seen.most_lag_ms = self.seen.most_lag_ms.max(status.lag_ms);
            }
        }
    }

    /// Routers see after a while who serves; each by itself.
    fn route(&mut self, shard: usize) {
        for router in 0..2 {
            if !self.random.random_ratio(1, 5) {
                continue;
            }
            let favourite = self.random.random_range(0..2);
            let Shard { nodes, members, .. } = &self.shards[shard];
            let weight = |place: usize| {
                let node = &self.nodes[nodes[place]];
                let announces = self.reaches(nodes[place]) && node.routes_down_until <= self.now;
                match members[place].as_ref().map(|member| member.half.role()) {
                    Some(role) if announces && role.expires() => 4,
                    Some(Role::Yielded) if announces => 2,
                    _ => 0,
                }
            };
            let best = if weight(0) + usize::from(favourite == 0) > weight(1) { 0 } else { 1 };
            if weight(best) > 0 {
                self.shards[shard].ways[router] = best;
            }
        }
        let serving = |member: &Option<Member<'_>>| {
            member.as_ref().is_some_and(|member| member.half.role().serves())
        };
        self.seen.both_serve += u64::from(self.shards[shard].members.iter().all(serving));
    }

    /// Subscribers send what is due, and begin anew.
    fn subscribe(&mut self) {
        for shard in 0..self.shards.len() {
            let living = self.flows.iter().filter(|flow| flow.shard == shard).count();
            if living < self.plan.flows {
                self.begun += 1;
                let flow = Flow::random(shard, self.begun, self.now, &mut self.random);
                if !self.flows.iter().any(|other| other.shard == shard && other.is_between(&flow)) {
                    self.flows.push(flow);
                }
            }
        }
        let mut flows = std::mem::take(&mut self.flows);
        flows.retain_mut(|flow| flow.due > self.now || self.request(flow));
        self.flows = flows;
    }

    /// A subscriber sends; false if that was its last packet.
    fn request(&mut self, flow: &mut Flow) -> bool {
        flow.due = self.now + STEP * self.random.random_range(1..30);
        if flow.stage == Stage::Open && self.random.random_ratio(1, 20) {
            flow.stage = Stage::Over;
        }
        let goes_on = flow.stage != Stage::Over;
        let packet = flow.request(&mut self.random);
        let place = self.shards[flow.shard].ways[0];
        let passed = self.pass(flow.shard, place, Side::Inside, &packet);
        let knows = self.must_know(flow, place);
        match passed {
            None => {}
            Some(None) => {
                self.seen.exhausted += 1;
                assert!(!knows, "a packet of {flow:?} was dropped at place {place}");
            }
            Some(Some(public)) => self.passed(flow, place, public, knows),
        }
        goes_on
    }

    /// A subscriber's packet has been passed on.
    fn passed(&mut self, flow: &mut Flow, place: usize, public: Endpoint, knows: bool) {
        self.seen.passed += 1;
        if flow.public.is_some_and(|before| before != public) {
            assert!(!knows, "{flow:?} is {public} at place {place} now");
            self.seen.lost += 1;
        } else if flow.public.is_some() && flow.node != place {
            self.seen.kept += 1;
        }
        if flow.public != Some(public) || flow.node != place {
            (flow.opened_at, flow.node, flow.public) = (self.now, place, Some(public));
            flow.told = None;
        }
        flow.passed_at[place] = self.now;
        let packet = flow.answer(public);
        if flow.stage == Stage::Opening {
            flow.stage = Stage::Open;
        }
        let at = self.now + STEP * self.random.random_range(0..6);
        self.answers.push(Answer { at, shard: flow.shard, inside: flow.inside, packet });
    }

    /// Whether the half at a place has no excuse not to have the session of a flow as it is.
    fn must_know(&self, flow: &Flow, place: usize) -> bool {
        let shard = &self.shards[flow.shard];
        let Some(member) = &shard.members[place] else { return false };
        let is_fresh = |at: u64, now: u64| now < at + FRESH_NS;
        let took_over = member.expires_since;
        let lives = is_fresh(flow.passed_at[place], self.now)
            || is_fresh(took_over, self.now) && is_fresh(flow.passed_at[1 - place], took_over);
        if flow.public.is_none() || !lives {
            return false;
        }
        let server = shard.members[flow.node].as_ref();
        let told = flow.told.or(server.map(|server| server.half.known().0)).unwrap_or(0);
        if place == flow.node {
            return member.started_at <= flow.opened_at && member.demoted_at < flow.opened_at;
        }
        // The other is the one that it was when it was told.
        told > flow.opened_at && member.synced_at.is_some_and(|since| told >= since)
    }

    /// Answers reach the other router, and must come to who asked or nobody.
    fn answer(&mut self) {
        let due = self.answers.extract_if(.., |answer| answer.at <= self.now).collect::<Vec<_>>();
        for answer in due {
            let place = self.shards[answer.shard].ways[1];
            let passed = self.pass(answer.shard, place, Side::Outside, &answer.packet);
            if let Some(Some(inside)) = passed {
                assert_eq!(inside, answer.inside, "an answer came to a wrong subscriber");
                self.seen.answered += 1;
            }
        }
    }

    /// Has the half at a place decide a packet: the inside or outside endpoint that it then has,
    /// none if it is dropped; nothing if nobody serves there.
    fn pass(
        &mut self,
        shard: usize,
        place: usize,
        side: Side,
        packet: &PacketMeta,
    ) -> Option<Option<Endpoint>> {
        let Shard { nodes, members, .. } = &mut self.shards[shard];
        if !reaches(&self.nodes[nodes[place]], self.now) {
            return None;
        }
        let Member { nat, half, .. } = members[place].as_mut()?;
        if !half.role().serves() {
            return None;
        }
        let record = Nat::record(packet, side, Moment(self.now));
        let mut probe = nat.probe(&record);
        (0..).take_while(|look| nat.touch(&record, &mut probe, *look)).count();
        let verdict = match nat.pass(side, &record, &probe) {
            Some(slot) => {
                let (source, destination) = slot.inside_end(side);
                Verdict::Forward { to: side.opposite(), source, destination }
            }
            None => nat.step(&record, &probe, &mut Sink(half)),
        };
        Some(match verdict {
            Verdict::Forward { source, .. } if side == Side::Inside => {
                Some(nat.translation(source).outside())
            }
            Verdict::Forward { destination, .. } => Some(nat.translation(destination).inside()),
            _ => None,
        })
    }

    /// No public port has two owners, wherever it is looked for.
    fn check_ports(&self, shard: usize) {
        let mut owners = BTreeMap::<(Protocol, Endpoint), Endpoint>::new();
        for member in self.shards[shard].members.iter().flatten() {
            if !member.half.role().serves() && !member.half.status(Moment(self.now)).is_current {
                continue;
            }
            for record in member.sessions() {
                let protocol = Protocol::from_index(record.protocol()).expect("a protocol");
                let owner = owners.entry((protocol, record.outside())).or_insert(record.inside());
                assert_eq!(*owner, record.inside(), "{} has two owners", record.outside());
            }
        }
    }

    /// Whether in each shard one serves and the other has caught up.
    fn is_at_rest(&self) -> bool {
        let now = Moment(self.now);
        self.shards.iter().all(|shard| {
            let status = |place: usize| shard.members[place].as_ref().map(|it| it.half.status(now));
            let (Some(one), Some(other)) = (status(0), status(1)) else { return true };
            let mut roles = [one.role, other.role];
            roles.sort_by_key(|role| role.serves());
            roles == [Role::Following, Role::Serving] && one.is_caught_up && other.is_caught_up
        })
    }

    /// Both halves of each shard hold the same.
    fn compare(&mut self) {
        for shard in &self.shards {
            let [Some(one), Some(other)] = &shard.members else { continue };
            assert_eq!(one.sorted_sessions(), other.sorted_sessions());
            for member in [one, other] {
                member.nat.assert_consistent();
                let status = member.half.status(Moment(self.now));
                assert_eq!(status.corrected, 0, "sums are those of the table");
                assert!(status.diverged == 0 || status.refused > 0, "{status:?}");
            }
            self.seen.count(one);
            self.seen.count(other);
        }
    }
}

/// Tells what happens in a run that is looked at by itself.
fn log(logs: bool, now: u64, what: std::fmt::Arguments<'_>) {
    if logs {
        println!("{:>6} ms: {what}", (now - START) / 1_000_000);
    }
}

fn log_role(logs: bool, now: u64, of: (usize, usize), old: Role, member: &Member<'_>) {
    if old != member.role {
        let status = member.half.status(Moment(now));
        log(logs, now, format_args!("shard {}: place {}: {status:?}", of.0, of.1));
    }
}

/// Whether a node is up and not frozen.
fn reaches(node: &Node, now: u64) -> bool {
    node.down_until.is_none() && node.frozen_until <= now
}

impl Seen {
    /// Adds what a half has counted.
    fn count(&mut self, member: &Member<'_>) {
        let status = member.half.status(Moment(0));
        self.gaps += status.gaps;
        self.overflowed += status.overflowed;
        self.refused += status.refused;
    }
}

impl Member<'_> {
    /// What is done at each housekeeping. Once it is quiet no session ends, so that there is
    /// something to be compared.
    fn tend(&mut self, now: Moment, is_quiet: bool, seen: &mut Seen) {
        self.half.tend(&mut self.nat, now);
        self.note_role(now.0, seen);
        if self.half.role().expires() && !is_quiet {
            while self.nat.tick(now.ticks(), &mut Sink(&mut self.half)) {}
        } else {
            self.nat.tick_following(now.ticks());
        }
    }

    fn note_role(&mut self, now: u64, seen: &mut Seen) {
        let (before, role) = (self.role, self.half.role());
        self.role = role;
        if role.expires() && !before.expires() {
            self.expires_since = now;
            seen.takeovers += 1;
        }
        if before.expires() && !role.expires() {
            self.demoted_at = now;
        }
        if !role.serves() && self.synced_at.is_none() && self.half.status(Moment(now)).is_caught_up
        {
            self.synced_at = Some(now);
        }
        if before.serves() && !role.serves() {
            seen.moved += u64::from(before == Role::Yielded);
        }
    }

    fn sessions(&self) -> impl Iterator<Item = SessionRecord> {
        (0..self.nat.end()).filter_map(|index| self.nat.essence(index))
    }

    fn sorted_sessions(&self) -> Vec<Vec<u8>> {
        let mut sessions: Vec<_> =
            self.sessions().map(|record| record.as_bytes().to_vec()).collect();
        sessions.sort();
        sessions
    }
}
