//! What an lcore shows of itself while it runs: one block of counters with a single writer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::bench::{Counts, Snapshot, Wrong};
use crate::share::Look;

const COUNTS: usize = 10;
const WRONG: usize = 2 * COUNTS;
const SESSIONS: usize = WRONG + Wrong::COUNT;
/// The first word that does not grow: what is so now.
const NOW: usize = SESSIONS + 3;
const LATENCY: usize = NOW + 2;
const WORDS: usize = LATENCY + 4;

/// What is shown, as words that can be added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown([u64; WORDS]);

impl Default for Shown {
    fn default() -> Self {
        Shown([0; WORDS])
    }
}

impl Shown {
    pub(super) fn new(look: &Look) -> Shown {
        let mut words = [0; WORDS];
        let tally = &look.tally;
        for (words, counts) in words.chunks_mut(COUNTS).zip(&tally.counts) {
            words.copy_from_slice(&words_of(counts));
        }
        words[WRONG..SESSIONS].copy_from_slice(&tally.wrong);
        let sessions = [tally.opened, tally.not_opened, tally.closed, tally.open, tally.silent];
        words[SESSIONS..LATENCY].copy_from_slice(&sessions);
        for (words, latency) in words[LATENCY..].chunks_mut(2).zip(look.latency_ns) {
            words.copy_from_slice(&latency.map_or([0, 0], |(median, high)| [median, high]));
        }
        Shown(words)
    }

    /// Adds another lcore's. Of latencies the larger are kept.
    pub(super) fn add(&mut self, other: &Shown) {
        for (index, (word, other)) in self.0.iter_mut().zip(other.0).enumerate() {
            *word = if index < LATENCY { *word + other } else { (*word).max(other) };
        }
    }

    /// What came since `before`.
    pub(super) fn since(&self, before: &Shown) -> Shown {
        let mut words = self.0;
        for (word, before) in words[..NOW].iter_mut().zip(before.0) {
            *word = word.saturating_sub(before);
        }
        Shown(words)
    }

    /// Packets that were sent or arrived.
    pub(super) fn packets(&self) -> u64 {
        let counts = [0, 1].map(|way| counts_of(&self.0[way * COUNTS..]));
        counts.iter().map(|counts| counts.sent + counts.received).sum()
    }

    /// Packets that arrived, and those that are not there yet.
    pub(super) fn arrived(&self) -> (u64, u64) {
        let [up, down] = [0, 1].map(|way| counts_of(&self.0[way * COUNTS..]));
        let received = up.received + down.received;
        (received, (up.sent + down.sent).saturating_sub(received))
    }

    pub(super) fn snapshot(&self, elapsed: Duration) -> Snapshot {
        let words = &self.0;
        let mut wrong = [0; Wrong::COUNT];
        wrong.copy_from_slice(&words[WRONG..SESSIONS]);
        let latency = |way: usize| {
            let (median, high) = (words[LATENCY + 2 * way], words[LATENCY + 2 * way + 1]);
            (high > 0).then_some((median, high))
        };
        Snapshot {
            elapsed,
            counts: [counts_of(words), counts_of(&words[COUNTS..])],
            wrong,
            opened: words[SESSIONS],
            not_opened: words[SESSIONS + 1],
            closed: words[SESSIONS + 2],
            open: words[NOW],
            silent: words[NOW + 1],
            latency_ns: [latency(0), latency(1)],
        }
    }
}

fn words_of(counts: &Counts) -> [u64; COUNTS] {
    let Counts { sent, sent_bytes, received, received_bytes, lost, .. } = *counts;
    let Counts { duplicated, reordered, corrupted, bad_checksums, unsent, .. } = *counts;
    let arrived = [sent, sent_bytes, received, received_bytes, lost];
    let mut words = [0; COUNTS];
    words[..5].copy_from_slice(&arrived);
    words[5..].copy_from_slice(&[duplicated, reordered, corrupted, bad_checksums, unsent]);
    words
}

fn counts_of(words: &[u64]) -> Counts {
    Counts {
        sent: words[0],
        sent_bytes: words[1],
        received: words[2],
        received_bytes: words[3],
        lost: words[4],
        duplicated: words[5],
        reordered: words[6],
        corrupted: words[7],
        bad_checksums: words[8],
        unsent: words[9],
    }
}

/// Where an lcore shows it. Words are read one by one, so that a reader may see some of them older
/// than others, but none older than the time that [`Board::time_ns`] said.
#[repr(align(128))]
pub(super) struct Board {
    words: [AtomicU64; WORDS],
    time_ns: AtomicU64,
    has_sent_all: AtomicBool,
}

impl Board {
    pub(super) fn new() -> Board {
        let words = [const { AtomicU64::new(0) }; WORDS];
        Board { words, time_ns: AtomicU64::new(0), has_sent_all: AtomicBool::new(false) }
    }

    /// Shows what is so at this time. For the lcore.
    pub(super) fn show(&self, shown: &Shown, now_ns: u64, has_sent_all: bool) {
        for (word, value) in self.words.iter().zip(shown.0) {
            word.store(value, Ordering::Relaxed);
        }
        self.has_sent_all.store(has_sent_all, Ordering::Relaxed);
        self.time_ns.store(now_ns, Ordering::Release);
    }

    /// When it was shown.
    pub(super) fn time_ns(&self) -> u64 {
        self.time_ns.load(Ordering::Acquire)
    }

    /// Whether the lcore has nothing more to send, answers aside.
    pub(super) fn has_sent_all(&self) -> bool {
        self.has_sent_all.load(Ordering::Relaxed)
    }

    pub(super) fn read(&self) -> Shown {
        let mut words = [0; WORDS];
        for (value, word) in words.iter_mut().zip(&self.words) {
            *value = word.load(Ordering::Relaxed);
        }
        Shown(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::Tally;

    /// A look with another number in each place.
    fn look(first: u64) -> Look {
        let counts = |n: u64| Counts {
            sent: n,
            sent_bytes: n + 1,
            received: n + 2,
            received_bytes: n + 3,
            lost: n + 4,
            duplicated: n + 5,
            reordered: n + 6,
            corrupted: n + 7,
            bad_checksums: n + 8,
            unsent: n + 9,
        };
        let tally = Tally {
            counts: [counts(first), counts(first + 10)],
            wrong: std::array::from_fn(|kind| first + 20 + kind as u64),
            opened: first + 30,
            not_opened: first + 31,
            closed: first + 32,
            open: first + 33,
            silent: first + 34,
            ..Tally::default()
        };
        Look { tally, latency_ns: [Some((first + 40, first + 41)), None] }
    }

    #[test]
    fn what_is_shown_is_read_added_up_and_told_from_before() {
        let board = Board::new();
        board.show(&Shown::new(&look(100)), 7, true);
        assert_eq!((board.time_ns(), board.has_sent_all()), (7, true));
        let mut sum = board.read();
        let one = sum.snapshot(Duration::from_secs(1));
        assert_eq!(one.counts, look(100).tally.counts);
        assert_eq!(one.wrong, look(100).tally.wrong);
        assert_eq!((one.opened, one.not_opened, one.closed), (130, 131, 132));
        assert_eq!((one.open, one.silent), (133, 134));
        assert_eq!(one.latency_ns, [Some((140, 141)), None]);

        sum.add(&Shown::new(&look(1000)));
        assert_eq!(sum.arrived(), (102 + 112 + 1002 + 1012, 0));
        let more = sum.since(&board.read()).snapshot(Duration::ZERO);
        assert_eq!((more.counts[1].unsent, more.wrong[6], more.closed), (1019, 1026, 1032));
        // What is so now is not what was added.
        assert_eq!((more.open, more.latency_ns[0]), (133 + 1033, Some((1040, 1041))));
    }
}
