//! What others may see of a shard's half: its worker shows it and never waits, so that it can be
//! seen though the worker hangs.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use krono_ha::frame::{self, Rejected};
use krono_ha::roles::Role;
use krono_ha::{Status, Unsafe};

/// Words before those of refused frames.
const WORDS: usize = 17;

/// A half's status. One worker writes; who reads meanwhile may see some of its figures a
/// millisecond older than others.
#[derive(Debug)]
pub struct Board {
    /// The node that this half is on.
    pub node: u32,
    /// The node of the other half.
    pub peer: u32,
    /// Which of both is the master by preference.
    pub master: u32,
    words: [AtomicU64; WORDS],
    rejected: [AtomicU64; Rejected::COUNT],
}

impl Board {
    /// A board that shows nothing yet.
    pub fn new(node: u32, peer: u32, master: u32) -> Board {
        let words = [const { AtomicU64::new(0) }; WORDS];
        let rejected = [const { AtomicU64::new(0) }; Rejected::COUNT];
        Board { node, peer, master, words, rejected }
    }

    /// Shows this.
    pub fn show(&self, status: &Status) {
        let store = |(word, value): (&AtomicU64, u64)| word.store(value, Relaxed);
        self.rejected.iter().zip(status.rejected).for_each(store);
        self.words.iter().zip(words(status)).for_each(store);
    }

    /// What was shown last; none before the first time.
    pub fn look(&self) -> Option<Status> {
        let words = self.words.each_ref().map(|word| word.load(Relaxed));
        let rejected = self.rejected.each_ref().map(|word| word.load(Relaxed));
        status(words, rejected)
    }
}

fn words(status: &Status) -> [u64; WORDS] {
    let [why, first, second] = verdict_words(status.failover);
    [
        status.role as u64,
        status.epoch,
        status.is_current.into(),
        status.is_caught_up.into(),
        status.queued,
        status.peer_queued,
        status.unacknowledged,
        status.lag_ms,
        why,
        first,
        second,
        status.diverged,
        status.corrected,
        status.refused,
        status.gaps,
        status.overflowed,
        status.is_live.into(),
    ]
}

fn status(words: [u64; WORDS], rejected: [u64; Rejected::COUNT]) -> Option<Status> {
    let [role, epoch, is_current, is_caught_up, queued, peer_queued, unacknowledged, rest @ ..] =
        words;
    let [lag_ms, why, first, second, diverged, corrected, refused, gaps, overflowed, is_live] =
        rest;
    Some(Status {
        role: Role::from_byte(role as u8)?,
        epoch,
        is_live: is_live != 0,
        is_current: is_current != 0,
        is_caught_up: is_caught_up != 0,
        queued,
        peer_queued,
        unacknowledged,
        lag_ms,
        failover: verdict([why, first, second]),
        rejected,
        diverged,
        corrected,
        refused,
        gaps,
        overflowed,
    })
}

/// Refusals of frames come behind this.
const REFUSED: u64 = 100;

fn verdict_words(verdict: Result<(), Unsafe>) -> [u64; 3] {
    match verdict {
        Ok(()) => [0; 3],
        Err(Unsafe::NoPeer) => [1, 0, 0],
        Err(Unsafe::Silent { ms }) => [2, ms, 0],
        Err(Unsafe::SamePlace(place)) => [3, place.into(), 0],
        Err(Unsafe::Behind) => [4, 0, 0],
        Err(Unsafe::Lagging { queued }) => [5, queued, 0],
        Err(Unsafe::RoutesDown) => [6, 0, 0],
        Err(Unsafe::Following) => [7, 0, 0],
        Err(Unsafe::Refused(why)) => {
            let (first, second) = match why {
                Rejected::Length(len) => (len as u64, 0),
                Rejected::Version { theirs, .. } => (theirs.into(), 0),
                Rejected::Layout { theirs, ours } => (theirs, ours),
                Rejected::Shard(shard) => (shard.into(), 0),
                Rejected::Node(node) => (node.into(), 0),
                _ => (0, 0),
            };
            [REFUSED + why.index() as u64, first, second]
        }
    }
}

fn verdict([why, first, second]: [u64; 3]) -> Result<(), Unsafe> {
    Err(match why {
        0 => return Ok(()),
        2 => Unsafe::Silent { ms: first },
        3 => Unsafe::SamePlace(first as u8),
        4 => Unsafe::Behind,
        5 => Unsafe::Lagging { queued: first },
        6 => Unsafe::RoutesDown,
        7 => Unsafe::Following,
        REFUSED.. => Unsafe::Refused(match why - REFUSED {
            0 => Rejected::Length(first as usize),
            1 => Rejected::Magic,
            2 => Rejected::Version { theirs: first as u16, ours: frame::VERSION },
            3 => Rejected::Digest,
            4 => Rejected::Layout { theirs: first, ours: second },
            5 => Rejected::Shard(first as u32),
            6 => Rejected::Node(first as u32),
            7 => Rejected::Header,
            8 => Rejected::Replayed,
            _ => Rejected::Outdated,
        }),
        _ => Unsafe::NoPeer,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_what_is_seen() {
        let board = Board::new(1, 2, 1);
        assert_eq!(board.look(), None);
        let refusals = [
            Rejected::Length(1401),
            Rejected::Magic,
            Rejected::Version { theirs: 9, ours: frame::VERSION },
            Rejected::Digest,
            Rejected::Layout { theirs: u64::MAX, ours: 5 },
            Rejected::Shard(u32::MAX),
            Rejected::Node(7),
            Rejected::Header,
            Rejected::Replayed,
            Rejected::Outdated,
        ];
        let verdicts = [
            Ok(()),
            Err(Unsafe::NoPeer),
            Err(Unsafe::Silent { ms: u64::MAX }),
            Err(Unsafe::SamePlace(1)),
            Err(Unsafe::Behind),
            Err(Unsafe::Lagging { queued: 77 }),
            Err(Unsafe::RoutesDown),
            Err(Unsafe::Following),
        ];
        let refused = refusals.map(|why| Err(Unsafe::Refused(why)));
        let roles = [Role::Following, Role::Serving, Role::Draining, Role::Yielded];
        for (number, failover) in (1..).zip(verdicts.into_iter().chain(refused)) {
            let of = |place: u64| number * 100 + place;
            let status = Status {
                role: roles[number as usize % 4],
                epoch: of(1),
                is_live: number % 2 == 0,
                is_current: number % 3 == 0,
                is_caught_up: number % 5 == 0,
                queued: of(2),
                peer_queued: of(3),
                unacknowledged: of(4),
                lag_ms: of(5),
                failover,
                rejected: std::array::from_fn(|index| of(20 + index as u64)),
                diverged: of(6),
                corrected: of(7),
                refused: of(8),
                gaps: of(9),
                overflowed: of(10),
            };
            board.show(&status);
            assert_eq!(board.look(), Some(status));
        }
    }
}
