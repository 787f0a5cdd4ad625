//! A shard's twin on another server: the half that is here, on the packet thread, and the frames
//! between the two.
//!
//! Frames go by UDP from the shard's own address to the other half's, on the shard's own port and
//! queue, so that there is nobody else to wait for. What is in them and who serves is
//! [`krono_ha`]'s; what routers are told of that is [`steering`]'s.

mod board;
mod key;
mod order;
mod steering;

use std::sync::Arc;
use std::time::Duration;

use krono_core::drop::DropReason;
use krono_core::packet::{Endpoint, Side};
use krono_core::ports::Part;
use krono_core::program::{Events, Program};
use krono_core::reply;
use krono_core::router::{Hop, NeighbourId, Router, bfd};
use krono_core::shard::{Action, Shard, TwinPort};
use krono_core::time::{Moment, Ticks};
use krono_ha::frame::{FRAME_MAX, Key, Rejected};
use krono_ha::outbox::Changes;
use krono_ha::{Half, Settings};
use krono_nat::{Event, Nat};

use crate::carrier::Carrier;
use crate::changes::ChangeCounts;
use crate::config::{ClusterConfig, TwinConfig};

pub use board::Board;
pub use key::read_key;
pub use order::{Order, OrderRefused, TwinOrder};
use steering::Steering;

/// Frames to the twin after each burst, at the most: two take all that a burst can change.
const FRAMES_PER_TURN: usize = 2;

/// Polls after which a frame goes though it is not full: some hundred microseconds under load.
const FLUSH_POLLS: u32 = 16;

/// Changes that may wait to be sent: those of some 50 ms at a million a second.
const NOTES_MAX: usize = 1 << 16;

/// While so many wait, no session is ended because its time is over. They end by the ten thousand in
/// a tick, faster than a twin could take that; and who is over is dead to every packet anyway.
const BACKLOG: usize = 1 << 12;

/// Indices that a walk for the twin looks at in a poll: those of a frame and some.
const WALK_BUDGET: u32 = 64;

/// Indices that each other walk looks at in a housekeeping. Under load that is one for some sixty
/// packets, two to three cycles for each packet.
const TEND_BUDGET: u32 = 32;

/// How often the board is written, ns.
const SHOW_NS: u64 = 1_000_000;

/// The time to live of frames to the twin, which may be some routers away.
const TTL: u8 = 64;

/// A shard's half here, and its way to the other.
pub(crate) struct Channel {
    half: Half<Nat<'static>>,
    port: TwinPort,
    /// The next hop to the twin, if it can be sent to.
    hop: Option<NeighbourId>,
    frame: Box<[u8; FRAME_MAX]>,
    steering: Steering,
    pub(crate) board: Arc<Board>,
    shown_at: Moment,
}

/// Where a shard's changes go: they are counted, and told to the twin if there is one.
pub(crate) struct Sink<'w> {
    pub(crate) counts: &'w mut ChangeCounts,
    pub(crate) twin: Option<&'w mut Changes<Nat<'static>>>,
}

impl Events<Event> for Sink<'_> {
    #[inline]
    fn emit(&mut self, event: Event) {
        self.counts.emit(event);
        if let Some(twin) = &mut self.twin {
            twin.emit(event);
        }
    }
}

/// The part of a shard's ports that the half here gives out. Whose is which follows from the numbers of
/// the nodes and not from who is said to be the master, for both may be said to be that.
pub(crate) fn part(cluster: &ClusterConfig, twin: &TwinConfig) -> Part {
    let is_first = cluster.node == twin.master.min(twin.slave);
    Part { first_percent: cluster.first_ports, is_first }
}

/// The settings of the half of a shard that is here.
fn settings(
    shard: u16,
    cluster: &ClusterConfig,
    twin: &TwinConfig,
    nat: &Nat<'static>,
) -> Settings {
    let ns = |duration: Duration| duration.as_nanos() as u64;
    let is_master = twin.master == cluster.node;
    Settings {
        shard: shard.into(),
        node: cluster.node,
        peer: if is_master { twin.slave } else { twin.master },
        rank: u8::from(!is_master),
        notes_max: NOTES_MAX,
        entries_max: nat.entries_max(),
        flush_polls: FLUSH_POLLS,
        walk_budget: WALK_BUDGET,
        tend_budget: TEND_BUDGET,
        heartbeat_ns: ns(cluster.heartbeat),
        silence_ns: ns(cluster.silence),
        linger_ns: ns(cluster.converge),
        // A look once in a while costs eight frames and a comparison.
        compare_ns: 10 * ns(cluster.converge),
        port_hold: nat.port_hold(),
        patience: 4,
    }
}

/// What tells this start of a half from all others.
fn incarnation() -> anyhow::Result<u64> {
    let mut random = [0; 8];
    crate::run::draw(&mut random)?;
    Ok(u64::from_ne_bytes(random).max(1))
}

impl Channel {
    /// The channel of the half of a shard that has just started.
    ///
    /// # Errors
    /// If there are no random numbers.
    pub(crate) fn new(
        shard: u16,
        cluster: &ClusterConfig,
        twin: &TwinConfig,
        key: &Key,
        router: &Router,
        nat: &Nat<'static>,
        now: Moment,
    ) -> anyhow::Result<Channel> {
        let settings = settings(shard, cluster, twin, nat);
        let watched = |side| router.bfd_sessions().any(|session| session.side == side);
        let (is_static, is_preferred) = (cluster.bird.is_none(), settings.rank == 0);
        let steering =
            Steering::new(Side::BOTH.map(watched), is_static, is_preferred, settings.linger_ns);
        Ok(Channel {
            half: Half::new(settings, key.clone(), nat, incarnation()?, now),
            port: TwinPort { side: twin.side, peer: twin.peer, port: cluster.port },
            hop: None,
            frame: Box::new([0; FRAME_MAX]),
            steering,
            board: Arc::new(Board::new(settings.node, settings.peer, twin.master)),
            shown_at: Moment(0),
        })
    }

    /// Where the twin's frames arrive.
    pub(crate) fn port(&self) -> TwinPort {
        self.port
    }

    /// Where the program's changes go.
    #[inline]
    pub(crate) fn changes(&mut self) -> &mut Changes<Nat<'static>> {
        self.half.changes()
    }

    /// Takes a frame's payload that is from the twin's address: what is to be done with the frame.
    #[cold]
    pub(crate) fn receive(&mut self, nat: &mut Nat<'static>, bytes: &[u8], now: Moment) -> Action {
        match self.half.receive(nat, bytes, now) {
            Ok(()) => Action::Consume,
            Err(why) => Action::Drop(drop_reason(why)),
        }
    }

    /// Sends what is to be said to the twin, no more than a few frames.
    #[inline]
    pub(crate) fn send(
        &mut self,
        shard: &mut Shard<Nat<'static>>,
        carrier: &mut Carrier,
        now: Moment,
    ) {
        let Some(hop) = self.hop else { return };
        for _ in 0..FRAMES_PER_TURN {
            let Some(len) = self.half.poll(&mut shard.program, now, &mut self.frame[..]) else {
                break;
            };
            self.say(&shard.router, hop, carrier, len);
        }
    }

    #[cold]
    fn say(&self, router: &Router, hop: NeighbourId, carrier: &mut Carrier, len: usize) {
        let TwinPort { side, peer, port } = self.port;
        let from = Endpoint::new(router.address(side), port);
        let (to, payload) = (Endpoint::new(peer, port), &self.frame[..len]);
        carrier.say(side, router.link(hop), |frame| reply::datagram(frame, from, to, TTL, payload));
        carrier.output.flush(&carrier.counters);
    }

    /// Whether packets are to be decided here.
    pub(crate) fn serves(&self) -> bool {
        self.half.role().serves()
    }

    /// Sees to the rest, at housekeeping: who serves, what the walks have to do, what routers are
    /// told by BFD.
    pub(crate) fn tend(&mut self, shard: &mut Shard<Nat<'static>>, now: Moment) {
        let ticks = now.ticks();
        self.hop = match shard.router.route(self.port.side, self.port.peer, ticks) {
            Ok(Hop::Ready(hop)) => Some(hop),
            _ => None,
        };
        self.steer(&mut shard.router, now);
        self.half.tend(&mut shard.program, now);
        shard.serves = self.serves();
        if now.0.saturating_sub(self.shown_at.0) >= SHOW_NS {
            self.shown_at = now;
            self.board.show(&self.half.status(now));
        }
    }

    /// Lets time pass for the translator, as the role has it; true if more sessions were due than
    /// it could end.
    pub(crate) fn tick(
        &mut self,
        nat: &mut Nat<'static>,
        counts: &mut ChangeCounts,
        now: Ticks,
    ) -> bool {
        if !self.half.role().expires() {
            nat.tick_following(now);
            return false;
        }
        if self.half.queued() >= BACKLOG {
            return true;
        }
        nat.tick(now, &mut Sink { counts, twin: Some(self.half.changes()) })
    }

    fn steer(&mut self, router: &mut Router, now: Moment) {
        let mut up = [false; 2];
        for session in router.bfd_sessions() {
            up[session.side as usize] |= session.state == bfd::State::Up;
        }
        let other_serves = self.half.peer().is_some_and(|peer| peer.role.expires());
        let before = self.steering.held();
        let held = self.steering.look(up, self.half.role(), other_serves, now);
        for side in Side::BOTH.into_iter().filter(|side| {
            let side = *side as usize;
            before[side] != held[side]
        }) {
            router.hold_bfd_down(|of, _| of == side, held[side as usize], now);
        }
        self.half.set_routes(self.steering.routes_up());
    }

    /// Carries out an operator's order.
    pub(crate) fn obey(&mut self, order: &mut TwinOrder, now: Moment) {
        order.outcome = order::carry_out(order.order, &mut self.half, now);
        // Who waits for what becomes of it looks at the board from now on.
        self.board.show(&self.half.status(now));
    }

    /// This half ends: the twin is to know all of it, and to serve.
    pub(crate) fn leave(
        &mut self,
        shard: &mut Shard<Nat<'static>>,
        carrier: &mut Carrier,
        now: Moment,
    ) {
        self.half.set_routes(false);
        for poll in 0..LAST_POLLS {
            if poll + 1 == LAST_POLLS {
                self.half.hurry();
            }
            self.send(shard, carrier, now);
        }
    }
}

/// Polls at the end, enough for what waits in [`NOTES_MAX`] to go in frames of some forty.
const LAST_POLLS: usize = NOTES_MAX / 40 / FRAMES_PER_TURN + FLUSH_POLLS as usize + 1;

/// The drop that a refused frame is.
pub(crate) fn drop_reason(why: Rejected) -> DropReason {
    match why {
        Rejected::Length(_) => DropReason::HaLength,
        Rejected::Magic => DropReason::HaMagic,
        Rejected::Version { .. } => DropReason::HaVersion,
        Rejected::Digest => DropReason::HaDigest,
        Rejected::Layout { .. } => DropReason::HaLayout,
        Rejected::Shard(_) => DropReason::HaShard,
        Rejected::Node(_) => DropReason::HaNode,
        Rejected::Header => DropReason::HaHeader,
        Rejected::Replayed => DropReason::HaReplayed,
        Rejected::Outdated => DropReason::HaOutdated,
    }
}
