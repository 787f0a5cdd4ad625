//! Bidirectional Forwarding Detection (RFC 5880) with neighbours on a link (RFC 5881): asynchronous
//! mode over IPv4, a state machine over values and time in nanoseconds.
//!
//! It runs where packets are forwarded, so that a core that hangs is a dead router to its
//! neighbours. Demand mode and Echo are never asked for, but a neighbour in demand mode is left in
//! peace. Authentication, which RFC 5880, 6.7 leaves to choice, is left out.

mod control;
mod session;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;

pub use self::control::{CONTROL_LEN, Control, Diagnostic, State};
use self::session::Session;
pub use self::session::View;
use crate::drop::DropReason;
use crate::packet::Side;
use crate::time::Moment;

/// The UDP port that packets are sent to (RFC 5881, 4).
pub const PORT: u16 = 3784;

/// The time to live of packets, sent and received (RFC 5881, 5; RFC 5082): who is further away
/// than the link cannot have it arrive.
pub const TTL: u8 = 255;

/// The UDP ports that packets may come from (RFC 5881, 4).
const PORTS: std::ops::RangeInclusive<u16> = 49_152..=65_535;

/// Who looks at the time more seldom than this may have packets waiting that came in time: no
/// neighbour counts as lost before they can have been looked at, for which there is as long again.
const STALL_NS: u64 = 5_000_000;

/// A session to be held with a neighbour. Intervals are microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// Its address, on the link.
    pub neighbour: Ipv4Addr,
    /// We would send a packet in this time, no sooner, once the session is up.
    pub transmit_us: u32,
    /// We can take a packet in this time; not 0.
    pub receive_us: u32,
    /// So many of our packets may be missed; not 0.
    pub multiplier: u8,
    /// What cannot be guessed: discriminator, source port and jitter are drawn from it.
    pub seed: u64,
}

/// A packet to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transmission {
    pub(super) side: Side,
    pub(super) neighbour: Ipv4Addr,
    /// The port that it comes from.
    pub(super) port: u16,
    pub(super) control: Control,
}

/// The sessions of a shard.
#[derive(Clone, Debug)]
pub(super) struct Sessions {
    sessions: Vec<Session>,
    /// Nothing is due before.
    wake: Moment,
    /// When time was looked at last.
    looked: Moment,
    has_changed: bool,
}

impl Sessions {
    /// One with each of these neighbours, the first of equal ones counting.
    pub(super) fn new(configs: impl Iterator<Item = (Side, SessionConfig)>) -> Self {
        let mut sessions: Vec<Session> = Vec::new();
        for (side, config) in configs {
            let is_known =
                |known: &Session| (known.side, known.config.neighbour) == (side, config.neighbour);
            if !sessions.iter().any(is_known) {
                let (discriminator, port) = names(&sessions, config.seed);
                sessions.push(Session::new(side, config, discriminator, port));
            }
        }
        let mut all = Sessions { sessions, wake: Moment(0), looked: Moment(0), has_changed: true };
        all.reckon();
        all
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Takes a packet that came from `from` at `side` with this time to live: RFC 5881, 5, and
    /// RFC 5880, 6.8.6, in order.
    ///
    /// A packet that names a session by its discriminator must also come from that session's
    /// neighbour. The RFC does not ask for that; but a session has one neighbour on one link.
    ///
    /// # Errors
    /// Why it is discarded.
    pub(super) fn receive(
        &mut self,
        (side, from): (Side, Ipv4Addr),
        ttl: u8,
        payload: &[u8],
        now: Moment,
    ) -> Result<(), DropReason> {
        if ttl != TTL {
            return Err(DropReason::BfdTtlBad);
        }
        let packet = Control::parse(payload)?;
        let named = packet.your_discriminator;
        if named == 0 && matches!(packet.state, State::Init | State::Up) {
            return Err(DropReason::BfdStateBad);
        }
        let is_meant = |session: &&mut Session| {
            (session.side, session.config.neighbour) == (side, from)
                && (named == 0 || named == session.discriminator)
        };
        let session = self.sessions.iter_mut().find(is_meant);
        session.ok_or(DropReason::BfdSessionUnknown)?.receive(&packet, now)?;
        self.has_changed = true;
        self.reckon();
        Ok(())
    }

    /// What time asks for; to be called often, and until it is `None`.
    #[inline]
    pub(super) fn duty(&mut self, now: Moment) -> Option<Transmission> {
        let last = std::mem::replace(&mut self.looked, now);
        if now < self.wake {
            return None;
        }
        self.elapse(last, now)
    }

    /// The time has come for one of them, or is long past.
    #[cold]
    fn elapse(&mut self, last: Moment, now: Moment) -> Option<Transmission> {
        if now.0 - last.0 > STALL_NS {
            let earliest = Moment(now.0.saturating_add(STALL_NS));
            self.sessions.iter_mut().for_each(|session| session.spare_until(earliest));
        }
        let mut found = None;
        for session in &mut self.sessions {
            self.has_changed |= session.expire(now);
            if found.is_none() {
                let (side, port) = (session.side, session.port);
                let neighbour = session.config.neighbour;
                found = session.transmit(now).map(|control| Transmission {
                    side,
                    neighbour,
                    port,
                    control,
                });
            }
        }
        self.reckon();
        found
    }

    /// Packets are no longer forwarded: neighbours are to know.
    pub(super) fn reset(&mut self, now: Moment) {
        self.sessions.iter_mut().for_each(|session| session.reset(now));
        self.has_changed = true;
        self.reckon();
    }

    /// Holds those sessions down that `is_meant` says, of a side and a neighbour (RFC 5880, 6.8.16), or
    /// no longer; how many they are.
    pub(super) fn hold_down(
        &mut self,
        is_meant: impl Fn(Side, Ipv4Addr) -> bool,
        is_held: bool,
        now: Moment,
    ) -> usize {
        let meant = self
            .sessions
            .iter_mut()
            .filter(|session| is_meant(session.side, session.config.neighbour));
        let count = meant.map(|session| session.hold_down(is_held, now)).count();
        self.has_changed = true;
        self.reckon();
        count
    }

    /// Whether anything may have changed that can be seen, since the last time that it was asked.
    #[inline]
    pub(super) fn has_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// All of them, always in the same order.
    pub(super) fn views(&self) -> impl Iterator<Item = View> {
        self.sessions.iter().map(Session::view)
    }

    /// Works out anew when something is due.
    fn reckon(&mut self) {
        let times = self.sessions.iter().filter_map(Session::wake);
        self.wake = times.min().unwrap_or(Moment(u64::MAX));
    }
}

/// A discriminator (RFC 5880, 6.3: not zero, and not to be guessed) and a source port (RFC 5881, 4)
/// that none of these sessions has.
fn names(sessions: &[Session], seed: u64) -> (u32, u16) {
    let (mut discriminator, mut port) =
        ((seed as u32).max(1), *PORTS.start() | (seed >> 48) as u16);
    while sessions.iter().any(|session| session.discriminator == discriminator) {
        discriminator = discriminator.wrapping_add(1).max(1);
    }
    while sessions.iter().any(|session| session.port == port) {
        port = port.checked_add(1).unwrap_or(*PORTS.start());
    }
    (discriminator, port)
}
