//! What the view shows: what is being done, and rates over the last second.

use std::collections::VecDeque;
use std::time::Instant;

use crate::bench::{Snapshot, Way, Wrong};
use crate::procedure::Doing;

/// Looks that a rate is taken over: about a second.
const WINDOW: usize = 11;
/// Looks that the view remembers.
const HISTORY: usize = 600;

/// What the view shows.
pub(super) struct State {
    pub(super) command: String,
    pub(super) doing: Doing,
    /// The latest look of the stage.
    pub(super) so_far: Snapshot,
    /// Wrong deliveries of earlier stages.
    wrong_before: [u64; Wrong::COUNT],
    began: Instant,
    recent: VecDeque<Snapshot>,
    history: [VecDeque<u64>; 2],
}

/// Packets a second in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) sent: f64,
    pub(super) received: f64,
    /// What was sent in the window and has not arrived, as a share.
    pub(super) missing: f64,
}

impl State {
    pub(super) fn new(command: &str) -> State {
        State {
            command: command.to_owned(),
            doing: Doing::default(),
            so_far: Snapshot::default(),
            wrong_before: [0; Wrong::COUNT],
            began: Instant::now(),
            recent: VecDeque::new(),
            history: [VecDeque::new(), VecDeque::new()],
        }
    }

    /// A stage begins.
    pub(super) fn turn(&mut self, doing: &Doing) {
        self.wrong_before = self.wrong();
        self.doing = doing.clone();
        self.so_far = Snapshot::default();
        self.recent.clear();
    }

    pub(super) fn look(&mut self, so_far: &Snapshot) {
        let before = self.recent.back().unwrap_or(&self.so_far);
        let seconds = so_far.elapsed.saturating_sub(before.elapsed).as_secs_f64();
        if seconds > 0.0 {
            for (way, history) in self.history.iter_mut().enumerate() {
                let arrived = so_far.counts[way].received - before.counts[way].received;
                history.push_back((arrived as f64 / seconds) as u64);
                if history.len() > HISTORY {
                    history.pop_front();
                }
            }
        }
        self.recent.push_back(so_far.clone());
        if self.recent.len() > WINDOW {
            self.recent.pop_front();
        }
        self.so_far = so_far.clone();
    }

    /// The rates of the last second, or of what there is.
    pub(super) fn rates(&self, way: Way) -> Rates {
        let nothing = Snapshot::default();
        let first = if self.recent.len() < WINDOW { &nothing } else { &self.recent[0] };
        let seconds = self.so_far.elapsed.saturating_sub(first.elapsed).as_secs_f64();
        if seconds <= 0.0 {
            return Rates::default();
        }
        let [now, then] = [&self.so_far, first].map(|look| &look.counts[way as usize]);
        let (sent, received) = (now.sent - then.sent, now.received - then.received);
        // What a port does not take is missed as well.
        let due = sent + now.unsent - then.unsent;
        Rates {
            sent: sent as f64 / seconds,
            received: received as f64 / seconds,
            missing: due.saturating_sub(received) as f64 / due.max(1) as f64,
        }
    }

    /// Sessions opened a second, in the stage.
    pub(super) fn opened_per_s(&self) -> f64 {
        let seconds = self.so_far.elapsed.as_secs_f64();
        if seconds > 0.0 { self.so_far.opened as f64 / seconds } else { 0.0 }
    }

    /// Packets that arrived a second, of the last looks, oldest first.
    pub(super) fn history(&self, way: Way, looks: usize) -> Vec<u64> {
        let history = &self.history[way as usize];
        history.iter().skip(history.len().saturating_sub(looks)).copied().collect()
    }

    /// Wrong deliveries of all stages.
    pub(super) fn wrong(&self) -> [u64; Wrong::COUNT] {
        let mut wrong = self.so_far.wrong;
        self.doing.forgiven.iter().for_each(|kind| wrong[*kind as usize] = 0);
        std::array::from_fn(|kind| self.wrong_before[kind] + wrong[kind])
    }

    /// Wrong deliveries in words; `None`: there are none.
    pub(super) fn wrong_in_words(&self) -> Option<String> {
        let kinds = Wrong::ALL.iter().zip(self.wrong()).filter(|(_, count)| *count > 0);
        let words: Vec<String> = kinds.map(|(kind, n)| format!("{} {n}", kind.name())).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }

    /// How much of the stage is over, where that is known.
    pub(super) fn progress(&self) -> Option<f64> {
        let takes = self.doing.takes_s.filter(|takes| *takes > 0.0)?;
        Some((self.so_far.elapsed.as_secs_f64() / takes).min(1.0))
    }

    /// Since the beginning, seconds.
    pub(super) fn since_start_s(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::bench::Counts;
    use crate::procedure::{Bracket, Searching};
    use std::time::Duration;

    /// A search in its third trial, three seconds after it began; 2 % of what goes down is missing.
    pub(in super::super) fn searching(wrong: u64) -> State {
        let mut state = State::new("throughput");
        state.turn(&Doing {
            part: "64 bytes, repeat 1 of 3".to_owned(),
            stage: "traffic of 64 bytes at 750 k packets/s".to_owned(),
            takes_s: Some(10.0),
            search: Some(Searching {
                unit: "packets/s",
                bracket: Bracket { low: 5e5, high: 1e6, resolution: 0.01, floor: 1e3 },
                tried: vec![(1e6, false), (5e5, true)],
            }),
            forgiven: &[],
        });
        for tenth in 1..=30 {
            let way = |lost: u64| Counts {
                sent: tenth * 75_000,
                received: tenth * (75_000 - lost),
                ..Counts::default()
            };
            let mut look = Snapshot {
                elapsed: Duration::from_millis(tenth * 100),
                counts: [way(0), way(1500)],
                open: 10_000,
                latency_ns: [Some((12_300, 45_600)), Some((13_000, 51_000))],
                ..Snapshot::default()
            };
            look.wrong[Wrong::Subscriber as usize] = wrong;
            state.look(&look);
        }
        state
    }

    #[test]
    fn rates_are_those_of_the_last_second() {
        let state = searching(0);
        let up = state.rates(Way::Up);
        assert!((up.sent - 750e3).abs() < 1.0 && up.missing == 0.0, "{up:?}");
        let down = state.rates(Way::Down);
        assert!((down.received - 735e3).abs() < 1.0, "{down:?}");
        assert!((down.missing - 0.02).abs() < 1e-9, "{down:?}");
        assert_eq!(state.progress(), Some(0.3));
        assert_eq!(state.history(Way::Up, 5), [750_000; 5]);
        assert_eq!(state.wrong_in_words(), None);
    }

    #[test]
    fn what_is_forgiven_is_not_shown_as_wrong() {
        let mut state = State::new("outage");
        state.turn(&Doing { forgiven: Wrong::MOVED, ..Doing::default() });
        let mut look = Snapshot::default();
        look.wrong[Wrong::SecondEndpoint as usize] = 7;
        state.look(&look);
        assert_eq!(state.wrong_in_words(), None);
        look.wrong[Wrong::Subscriber as usize] = 1;
        state.look(&look);
        assert_eq!(state.wrong_in_words().as_deref(), Some("wrong_subscriber 1"));
    }

    #[test]
    fn wrong_deliveries_are_not_forgotten_by_the_next_stage() {
        let mut state = searching(2);
        state.turn(&Doing::default());
        assert_eq!(state.wrong_in_words().as_deref(), Some("wrong_subscriber 2"));
        assert_eq!(state.rates(Way::Up), Rates::default());
    }
}
