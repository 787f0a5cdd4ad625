//! One BFD session: the state variables and timers of RFC 5880, 6.8.
//!
//! Asynchronous mode only, active role, no Echo function, no authentication. A transmission or a
//! deadline is not stored but follows from the variables, so that what changes them takes effect at
//! once, as 6.8.3 asks.

use std::net::Ipv4Addr;

use super::SessionConfig;
use super::control::{Control, Diagnostic, State};
use crate::drop::DropReason;
use crate::packet::Side;
use crate::time::Moment;

/// A session that is not up sends a packet a second and no more (RFC 5880, 6.8.3).
const SLOW_US: u32 = 1_000_000;

const NS_PER_US: u64 = 1000;

/// A BFD session with a neighbour on a link.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) side: Side,
    pub(super) config: SessionConfig,
    /// `bfd.LocalDiscr`, and the UDP port that all packets come from (RFC 5881, 4).
    pub(super) discriminator: u32,
    pub(super) port: u16,
    /// `bfd.SessionState` and `bfd.LocalDiag`, and when the state changed last.
    state: State,
    diagnostic: Diagnostic,
    since: Moment,
    /// How often it has come up.
    ups: u32,
    remote: Remote,
    /// When the neighbour counts as lost; none while nothing was heard of it.
    deadline: Option<Moment>,
    /// That was put off once since.
    is_spared: bool,
    /// A Poll Sequence is under way (6.5).
    polls: bool,
    /// A Poll wants its Final.
    owes_final: bool,
    /// The next packet would say something new (6.8.7): it need not wait for its time.
    has_news: bool,
    /// When the latest periodic packet went; none yet.
    sent: Option<Moment>,
    /// How much sooner than the interval the next one goes, in 2^-32 of the interval.
    jitter: u32,
    random: u64,
}

/// What the other end said last: the variables `bfd.Remote…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Remote {
    discriminator: u32,
    state: State,
    diagnostic: Diagnostic,
    desired_tx_us: u32,
    required_rx_us: u32,
    multiplier: u8,
    demand: bool,
}

impl Remote {
    /// Before it has said anything (6.8.1).
    const UNKNOWN: Remote = Remote {
        discriminator: 0,
        state: State::Down,
        diagnostic: Diagnostic::NONE,
        desired_tx_us: 0,
        required_rx_us: 1,
        multiplier: 0,
        demand: false,
    };
}

/// What may be seen of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Where the neighbour is.
    pub side: Side,
    /// Its address.
    pub neighbour: Ipv4Addr,
    /// Our state.
    pub state: State,
    /// Why it changed last to something worse.
    pub diagnostic: Diagnostic,
    /// When it changed last.
    pub since: Moment,
    /// How often it has come up.
    pub ups: u32,
    /// The neighbour's state, and why that changed last.
    pub remote_state: State,
    /// See `remote_state`.
    pub remote_diagnostic: Diagnostic,
    /// The interval of our packets without jitter, microseconds; 0: none are sent.
    pub transmit_us: u32,
    /// After so long without a packet the neighbour counts as lost, microseconds; 0 while it is not
    /// known.
    pub detection_us: u64,
}

impl Session {
    pub(super) fn new(side: Side, config: SessionConfig, discriminator: u32, port: u16) -> Self {
        let mut session = Session {
            side,
            config,
            discriminator,
            port,
            state: State::Down,
            diagnostic: Diagnostic::NONE,
            since: Moment::default(),
            ups: 0,
            remote: Remote::UNKNOWN,
            deadline: None,
            is_spared: false,
            polls: false,
            owes_final: false,
            has_news: false,
            sent: None,
            jitter: 0,
            random: config.seed,
        };
        session.draw_jitter();
        session
    }

    pub(super) fn view(&self) -> View {
        View {
            side: self.side,
            neighbour: self.config.neighbour,
            state: self.state,
            diagnostic: self.diagnostic,
            since: self.since,
            ups: self.ups,
            remote_state: self.remote.state,
            remote_diagnostic: self.remote.diagnostic,
            transmit_us: if self.transmits() { self.interval_us() } else { 0 },
            detection_us: self.detection_us(),
        }
    }

    /// Takes a packet that was found to be of this session: the second half of 6.8.6, in order.
    ///
    /// # Errors
    /// Why it is discarded.
    pub(super) fn receive(&mut self, packet: &Control, now: Moment) -> Result<(), DropReason> {
        if packet.authenticated {
            return Err(DropReason::BfdAuthenticated);
        }
        self.remote = Remote {
            discriminator: packet.my_discriminator,
            state: packet.state,
            diagnostic: packet.diagnostic,
            desired_tx_us: packet.desired_tx_us,
            required_rx_us: packet.required_rx_us,
            multiplier: packet.multiplier,
            demand: packet.demand,
        };
        self.polls &= !packet.is_final;
        if self.state == State::AdminDown {
            return Err(DropReason::BfdAdminDown);
        }
        if let Some((state, diagnostic)) = transition(self.state, packet.state) {
            self.enter(state, diagnostic.unwrap_or(self.diagnostic), now);
        }
        self.owes_final |= packet.poll;
        self.deadline = Some(after(now, self.detection_us() * NS_PER_US));
        self.is_spared = false;
        Ok(())
    }

    /// Notes that nothing was heard for the detection time, if so it is; true then.
    ///
    /// 6.8.4, and 6.8.1 on `bfd.RemoteDiscr`. All else that the neighbour said is forgotten with
    /// it: one that wanted no packets and went away without a word would never get one again.
    pub(super) fn expire(&mut self, now: Moment) -> bool {
        let is_over = self.deadline.is_some_and(|deadline| now >= deadline);
        if is_over {
            (self.deadline, self.remote) = (None, Remote::UNKNOWN);
            if matches!(self.state, State::Init | State::Up) {
                self.enter(State::Down, Diagnostic::DETECTION_TIME_EXPIRED, now);
            }
        }
        is_over
    }

    /// Lets the neighbour count as lost no sooner than this; but once only, until it is heard
    /// again, lest it never does where time is always looked at too seldom.
    pub(super) fn spare_until(&mut self, earliest: Moment) {
        if !self.is_spared && self.deadline.is_some_and(|deadline| deadline < earliest) {
            (self.deadline, self.is_spared) = (Some(earliest), true);
        }
    }

    /// Packets are no longer forwarded here (6.8.17).
    pub(super) fn reset(&mut self, now: Moment) {
        if matches!(self.state, State::Init | State::Up) {
            self.enter(State::Down, Diagnostic::FORWARDING_PLANE_RESET, now);
        }
    }

    /// Holds the session down (6.8.16), or no longer.
    pub(super) fn hold_down(&mut self, held: bool, now: Moment) {
        match (held, self.state) {
            (true, State::AdminDown) => {}
            (true, _) => {
                self.deadline = None;
                self.enter(State::AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN, now);
            }
            (false, State::AdminDown) => {
                // What was said meanwhile had no deadline.
                self.remote = Remote::UNKNOWN;
                self.enter(State::Down, self.diagnostic, now);
            }
            (false, _) => {}
        }
    }

    /// When it has something to do next; none: only if it hears something.
    pub(super) fn wake(&self) -> Option<Moment> {
        let times = [self.deadline, self.transmission()];
        times.into_iter().flatten().min()
    }

    /// The packet that is to be sent now, if any is (6.8.7).
    pub(super) fn transmit(&mut self, now: Moment) -> Option<Control> {
        if self.transmission().is_none_or(|at| at > now) {
            return None;
        }
        let is_final = std::mem::take(&mut self.owes_final);
        // A Final on its own is no periodic packet, which takes place when it would have.
        if !is_final || self.has_news || self.periodic().is_some_and(|at| at <= now) {
            self.has_news = false;
            self.sent = Some(now);
            self.draw_jitter();
        }
        Some(Control {
            diagnostic: self.diagnostic,
            state: self.state,
            poll: self.polls && !is_final,
            is_final,
            // It runs where packets are forwarded: if it falls silent, so do they.
            control_plane_independent: true,
            authenticated: false,
            demand: false,
            multiplier: self.config.multiplier,
            my_discriminator: self.discriminator,
            your_discriminator: self.remote.discriminator,
            desired_tx_us: self.desired_tx_us(),
            required_rx_us: self.config.receive_us,
            required_echo_us: 0,
        })
    }

    /// When the next packet goes.
    fn transmission(&self) -> Option<Moment> {
        let is_urgent = self.owes_final || self.has_news && self.transmits();
        if is_urgent { Some(Moment::default()) } else { self.periodic() }
    }

    /// When the next periodic packet goes.
    fn periodic(&self) -> Option<Moment> {
        if !self.transmits() {
            return None;
        }
        let interval = u64::from(self.interval_us()) * NS_PER_US;
        let sooner = (u128::from(interval) * u128::from(self.jitter)) >> 32;
        Some(self.sent.map_or(Moment::default(), |sent| after(sent, interval - sooner as u64)))
    }

    /// Whether periodic packets are sent at all (6.8.7).
    fn transmits(&self) -> bool {
        let is_demanded =
            self.remote.demand && self.state == State::Up && self.remote.state == State::Up;
        self.remote.required_rx_us != 0 && (!is_demanded || self.polls)
    }

    /// `bfd.DesiredMinTxInterval` (6.8.3).
    fn desired_tx_us(&self) -> u32 {
        let wanted = self.config.transmit_us;
        if self.state == State::Up { wanted } else { wanted.max(SLOW_US) }
    }

    /// The interval of periodic packets before jitter (6.8.2).
    fn interval_us(&self) -> u32 {
        self.desired_tx_us().max(self.remote.required_rx_us)
    }

    /// The detection time (6.8.4).
    fn detection_us(&self) -> u64 {
        let interval = self.config.receive_us.max(self.remote.desired_tx_us);
        u64::from(self.remote.multiplier) * u64::from(interval)
    }

    /// Changes the state. Where that changes the desired interval a Poll Sequence begins (6.8.3);
    /// it never has to wait for its end, since only a session that is not up sends more slowly.
    fn enter(&mut self, state: State, diagnostic: Diagnostic, now: Moment) {
        let desired = self.desired_tx_us();
        (self.state, self.diagnostic, self.since) = (state, diagnostic, now);
        self.ups += u32::from(state == State::Up);
        self.polls |= self.desired_tx_us() != desired;
        self.has_news = true;
    }

    /// Packets go 10 to 25 % sooner than their interval, at random: what 6.8.7 asks of a session
    /// with a multiplier of 1 is allowed for all.
    fn draw_jitter(&mut self) {
        const LEAST: u32 = (0.10 * 4_294_967_296.0) as u32;
        const RANGE: u32 = (0.15 * 4_294_967_296.0) as u32;
        // SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.jitter = LEAST + (((z >> 32) * u64::from(RANGE)) >> 32) as u32;
    }
}

/// The state that a packet brings a session to, and the diagnostic if there is a new one; none: it
/// stays (6.8.6; the diagram in 6.2).
fn transition(ours: State, theirs: State) -> Option<(State, Option<Diagnostic>)> {
    let down = Some((State::Down, Some(Diagnostic::NEIGHBOR_SIGNALED_DOWN)));
    match (ours, theirs) {
        (State::Init | State::Up, State::AdminDown) => down,
        (State::Down, State::Down) => Some((State::Init, None)),
        (State::Down, State::Init) => Some((State::Up, None)),
        (State::Init, State::Init | State::Up) => Some((State::Up, None)),
        (State::Up, State::Down) => down,
        _ => None,
    }
}

fn after(moment: Moment, ns: u64) -> Moment {
    Moment(moment.0.saturating_add(ns))
}
