//! What a half tells people.

use krono_core::time::Moment;
use krono_core::twin::Twin;

use crate::frame::Rejected;
use crate::half::Half;
use crate::roles::Role;

/// Why it is not safe that the other serves from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsafe {
    /// It has not been heard of.
    #[error("the peer has not been heard of since the start")]
    NoPeer,
    /// It has not been heard of lately.
    #[error("the peer has been silent for {ms} ms")]
    Silent {
        /// For so long, ms.
        ms: u64,
    },
    /// Its frames are refused.
    #[error("the peer's frames are refused: {0}")]
    Refused(Rejected),
    /// Both are configured with the same place in the shard's preference.
    #[error("both nodes are configured with place {0} in the shard's preference")]
    SamePlace(u8),
    /// It does not have what this one has.
    #[error("the peer has not caught up")]
    Behind,
    /// More changes than one frame takes wait to be sent.
    #[error("{queued} changes wait to be sent to the peer")]
    Lagging {
        /// So many.
        queued: u64,
    },
    /// It has no route.
    #[error("the peer's routes are down")]
    RoutesDown,
    /// This one does not serve, and has not caught up.
    #[error("this node follows and has not caught up")]
    Following,
}

/// What a half knows of itself and of the other, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether it serves.
    pub role: Role,
    /// The epoch it serves in, or that of whom it follows.
    pub epoch: u64,
    /// Whether the peer has been heard of lately.
    pub is_live: bool,
    /// Whether it has had all state since it started.
    pub is_current: bool,
    /// Whether the one that follows has what the other has, at the moment: this one or the peer.
    pub is_caught_up: bool,
    /// Changes that wait here to be sent.
    pub queued: u64,
    /// Changes that wait at the peer, as it last said.
    pub peer_queued: u64,
    /// Frames of changes that the peer has not acknowledged.
    pub unacknowledged: u64,
    /// How old the oldest change may be that the one that follows does not have, ms: what was not
    /// acknowledged here, or how long the one that serves has not been heard of.
    pub lag_ms: u64,
    /// Whether the peer may take over: no because.
    pub failover: Result<(), Unsafe>,
    /// Frames refused, by reason ([`Rejected::NAMES`]).
    pub rejected: [u64; Rejected::COUNT],
    /// Ranges found to differ from the peer's though nothing was missed.
    pub diverged: u64,
    /// Ranges whose sums the own table did not confirm.
    pub corrected: u64,
    /// Records of the peer that contradicted what is here, or found no room.
    pub refused: u64,
    /// Times that frames of the peer's stream were missed.
    pub gaps: u64,
    /// Changes that found no room to wait.
    pub overflowed: u64,
}

impl<T: Twin> Half<T> {
    /// How it stands.
    pub fn status(&self, now: Moment) -> Status {
        let changes = &self.outbox.changes;
        let follows = self.role == Role::Following;
        let other_follows = self.is_live && self.other.is_some_and(|other| other.in_sync);
        let since = match self.other {
            Some(other) if follows => other.heard_at,
            _ => self.outbox.known,
        };
        Status {
            role: self.role,
            epoch: self.epoch,
            is_live: self.is_live,
            is_current: self.is_current,
            is_caught_up: if follows { self.inbox.is_synced() } else { other_follows },
            queued: self.outbox.queued() as u64,
            peer_queued: self.other.map_or(0, |other| other.queued.into()),
            unacknowledged: changes.position.saturating_sub(self.outbox.acknowledged),
            lag_ms: now.0.saturating_sub(since.0) / 1_000_000,
            failover: self.failover(now),
            rejected: self.rejected,
            diverged: self.inbox.diverged,
            corrected: changes.sums.corrected(),
            refused: self.inbox.refused,
            gaps: self.inbox.gaps,
            overflowed: changes.overflowed,
        }
    }

    /// The other knows all changes before this moment, while it is the one that it was then.
    pub fn known(&self) -> Moment {
        self.outbox.known
    }

    /// Whether the one that follows may serve from now on, and why not.
    fn failover(&self, now: Moment) -> Result<(), Unsafe> {
        let Some(other) = self.other else {
            return Err(self.last_rejected.map_or(Unsafe::NoPeer, Unsafe::Refused));
        };
        if !self.is_live {
            let ms = now.0.saturating_sub(other.heard_at.0) / 1_000_000;
            return Err(self.last_rejected.map_or(Unsafe::Silent { ms }, Unsafe::Refused));
        }
        if other.view.claim.rank == self.rank() {
            return Err(Unsafe::SamePlace(self.rank()));
        }
        if self.role == Role::Following {
            return if self.inbox.is_synced() { Ok(()) } else { Err(Unsafe::Following) };
        }
        if !other.in_sync {
            return Err(Unsafe::Behind);
        }
        if !self.outbox.is_in_time() {
            return Err(Unsafe::Lagging { queued: self.outbox.queued() as u64 });
        }
        if other.view.routes_up { Ok(()) } else { Err(Unsafe::RoutesDown) }
    }
}
