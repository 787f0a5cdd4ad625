//! A shard with its worker, and the stations at the other ends of its cables.

use std::num::NonZeroU64;
use std::sync::Arc;

use krono_core::counters::{CounterSnapshot, Counters};
use krono_core::packet::{Endpoint, Mac, Side};
use krono_core::ports::Part;
use krono_core::router::bfd::SessionConfig;
use krono_core::router::{Route, Router, RouterConfig, SideConfig};
use krono_core::shard::Shard;
use krono_core::time::{Moment, Span, Ticks};
use krono_ha::frame::Key;
use krono_io::mem::{self, Peer};
use krono_io::{Arena, Burst, Clock, Hugepages, Pool};
use krono_nat::Nat;
use krono_nat::config::{Config, Filtering, Firewall, Policy, Timeouts};

use super::packets::{GATEWAY_MACS, GATEWAYS, MACS};
use crate::bfd::Board;
use crate::carrier::Carrier;
use crate::changes::ChangeCounts;
use crate::config::{ClusterConfig, TwinConfig};
use crate::held::Held;
use crate::input::Input;
use crate::mailbox::{Question, ShardHandle, mailbox};
use crate::output::Output;
use crate::twin::{Channel, part};
use crate::worker::{Pace, Worker};

pub(super) fn ep(text: &str) -> Endpoint {
    let (addr, port) = text.split_once(':').expect("ADDR:PORT");
    Endpoint::new(addr.parse().expect("an address"), port.parse().expect("a port"))
}

/// What the shard calls the BFD session that it may have.
pub(super) const DISCRIMINATOR: u32 = 0x0b0f_d0d0;

/// How a worker gets its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wiring {
    /// A port for each side.
    Ports,
    /// One port for both sides.
    Trunk,
    /// A port for each side, whose frames have timestamps.
    Captures,
}

/// What a bed is to be.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) wiring: Wiring,
    pub(super) router: RouterConfig,
    pub(super) nat: Config,
    pub(super) buffers: usize,
    /// The half that it is, of a shard with a twin.
    pub(super) twin: Option<(ClusterConfig, TwinConfig)>,
}

impl Default for Plan {
    /// Subscribers in 100.64.0.0/16 behind 10.0.0.254, the Internet behind 192.0.2.254; both
    /// gateways are known.
    fn default() -> Plan {
        let side = |side: Side, address: &str, prefix: &str, via: &str| SideConfig {
            mac: Mac(MACS[side as usize]),
            address: address.parse().unwrap(),
            vlan: None,
            mtu: 1500,
            routes: vec![Route { prefix: prefix.parse().unwrap(), via: via.parse().unwrap() }],
            neighbours: vec![(via.parse().unwrap(), Mac(GATEWAY_MACS[side as usize]))],
            bfd: Vec::new(),
        };
        let pool = vec!["198.51.100.0/30".parse().unwrap()];
        Plan {
            wiring: Wiring::Ports,
            router: RouterConfig {
                inside: side(Side::Inside, "10.0.0.1/24", "100.64.0.0/16", "10.0.0.254"),
                outside: side(Side::Outside, "192.0.2.1/24", "0.0.0.0/0", "192.0.2.254"),
                pool: pool.clone(),
            },
            nat: Config {
                sessions: 2000,
                subscribers: 1000,
                pool,
                inside: vec!["100.64.0.0/16".parse().unwrap(), "10.0.0.0/24".parse().unwrap()],
                ports: 1024..=65535,
                ports_per_subscriber: 2048,
                seed: [7; 32],
                policy: Policy {
                    filtering: Filtering::AddressAndPortDependent,
                    hairpinning: true,
                    timeouts: Timeouts { udp: Span(100), ..Timeouts::default() },
                    exclude: vec![],
                    statics: vec![],
                    firewall: Firewall::default(),
                },
            },
            buffers: 2048,
            twin: None,
        }
    }
}

impl Plan {
    pub(super) fn captures() -> Plan {
        Plan { wiring: Wiring::Captures, ..Plan::default() }
    }

    /// The sides are VLANs of one port.
    pub(super) fn trunk(inside: Option<u16>, outside: Option<u16>) -> Plan {
        let mut plan = Plan { wiring: Wiring::Trunk, ..Plan::default() };
        (plan.router.inside.vlan, plan.router.outside.vlan) = (inside, outside);
        plan
    }

    /// With a slow BFD session with the gateway outside, known to the shard as [`DISCRIMINATOR`].
    pub(super) fn with_bfd(mut self) -> Plan {
        self.router.outside.bfd.push(SessionConfig {
            neighbour: GATEWAYS[Side::Outside as usize],
            transmit_us: 500_000,
            receive_us: 500_000,
            multiplier: 3,
            seed: DISCRIMINATOR.into(),
        });
        self
    }

    /// Gateways have to be asked for.
    pub(super) fn without_neighbours(mut self) -> Plan {
        self.router.inside.neighbours.clear();
        self.router.outside.neighbours.clear();
        self
    }
}

pub(super) struct Bed {
    pub(super) worker: Worker,
    pub(super) handle: ShardHandle,
    pub(super) pool: Pool,
    /// The time of the next turn, unless captures tell it.
    pub(super) now: Ticks,
    pub(super) burst: Burst,
    pub(super) pace: Pace,
    /// One for each side, or one for both.
    peers: Vec<Peer>,
    wiring: Wiring,
}

impl Bed {
    pub(super) fn new(plan: &Plan) -> Bed {
        let pool = mem::pool(plan.buffers, 1500);
        let clock = Clock::with_frequency(NonZeroU64::new(1_000_000_000).unwrap());
        let (inside_rx, inside_tx, inside_peer) = mem::port(&pool);
        let mut peers = vec![inside_peer];
        let (input, output) = if plan.wiring == Wiring::Trunk {
            let input = Input::trunk(clock, inside_rx, plan.router.outside.vlan);
            (input, Output::new(inside_tx, None))
        } else {
            let (rx, tx, peer) = mem::port(&pool);
            peers.push(peer);
            let input = match plan.wiring {
                Wiring::Captures => Input::captures(clock, inside_rx, rx),
                _ => Input::ports(clock, [inside_rx], [rx]),
            };
            (input, Output::new(inside_tx, Some(tx)))
        };
        let router = Router::new(&plan.router);
        let bytes = Nat::memory_bytes(&plan.nat);
        let memory = Arena::map(bytes, Hugepages::Off).unwrap().take::<u8>(bytes).unwrap();
        let part = plan.twin.as_ref().map_or(Part::ALL, |(cluster, twin)| part(cluster, twin));
        let nat = Nat::with_part(&plan.nat, part, memory, Ticks(0)).unwrap();
        let twin = plan.twin.as_ref().map(|(cluster, twin)| {
            Channel::new(0, cluster, twin, &Key::new(&[9; 32]), &router, &nat, Moment(0)).unwrap()
        });
        let (handle, mailbox) = mailbox();
        let worker = Worker {
            carrier: Carrier {
                output,
                held: Held::new(router.neighbours_max()),
                spent: Burst::new(),
                pool: pool.clone(),
                counters: Arc::new(Counters::new()),
            },
            bfd: Arc::new(Board::new(clock, router.bfd_sessions())),
            shard: Shard {
                serves: twin.is_none(),
                twin: twin.as_ref().map(Channel::port),
                ..Shard::new(router, nat)
            },
            twin,
            scratch: Box::default(),
            input,
            changes: ChangeCounts::default(),
            mailbox,
            yields: true,
            now: Moment::default(),
        };
        let (now, burst, pace) = (Ticks(0), Burst::new(), Pace::default());
        Bed { worker, handle, pool, now, burst, pace, peers, wiring: plan.wiring }
    }

    pub(super) fn peer(&self, side: Side) -> &Peer {
        &self.peers[(side as usize).min(self.peers.len() - 1)]
    }

    /// One turn of the worker's loop; false if it found nothing.
    pub(super) fn turn(&mut self) -> bool {
        let received = self.worker.input.receive(&mut self.burst);
        if self.wiring == Wiring::Captures {
            self.now = self.worker.input.now().ticks();
        }
        self.worker.turn(received, &mut self.burst, self.now.into(), &mut self.pace);
        assert!(self.counters().is_balanced(), "unbalanced: {:#?}", self.counters());
        received.is_some()
    }

    /// Turns until there is nothing to receive, and once more.
    pub(super) fn settle(&mut self) {
        while self.turn() {}
    }

    /// Lets time pass, with a turn in every tick.
    pub(super) fn pass(&mut self, ticks: u32) {
        for _ in 0..ticks {
            self.now.0 += 1;
            self.turn();
        }
    }

    /// The figures as the worker shows them.
    pub(super) fn counters(&self) -> CounterSnapshot {
        self.worker.carrier.counters.snapshot()
    }

    /// Has the worker process one frame and returns what then came out of both sides.
    pub(super) fn exchange(&mut self, side: Side, frame: &[u8]) -> [Vec<Vec<u8>>; 2] {
        assert!(self.peer(side).inject(frame));
        self.settle();
        Side::BOTH.map(|side| self.sent(side))
    }

    /// Like `exchange`, for a frame that comes out of the other side.
    pub(super) fn forward(&mut self, side: Side, frame: &[u8]) -> Vec<u8> {
        let mut out = self.exchange(side, frame);
        let forwarded = std::mem::take(&mut out[side.opposite() as usize]);
        assert!(out[side as usize].is_empty(), "something came back: {out:?}");
        let [frame] = forwarded.try_into().expect("one frame comes out");
        frame
    }

    pub(super) fn sent(&self, side: Side) -> Vec<Vec<u8>> {
        self.peer(side).sent()
    }

    /// Asks the worker, which answers in its next turn.
    pub(super) fn ask<Q: Question>(&mut self, question: Q) -> Box<Q> {
        let pending = self.handle.post(Box::new(question)).expect("the worker owes no answers");
        self.worker.turn(None, &mut self.burst, self.now.into(), &mut self.pace);
        pending.wait(std::time::Instant::now()).expect("the answer is there")
    }

    /// Shuts the worker down and drops everything but the pool.
    pub(super) fn shut_down(mut self) -> (CounterSnapshot, Pool) {
        self.worker.shut_down();
        let counters = self.counters();
        assert!(counters.is_balanced(), "unbalanced at the end: {counters:#?}");
        (counters, self.pool.clone())
    }
}
