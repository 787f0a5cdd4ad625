//! What others may see of a shard's BFD sessions: its worker shows them and never waits, so that
//! they can be seen though it hangs.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use krono_core::packet::Side;
use krono_core::router::bfd::{Diagnostic, State, View};
use krono_core::time::Moment;
use krono_io::Clock;

/// The sessions of a shard. One worker writes; who reads meanwhile may see one changed by half, but
/// its states, diagnostics and count are of one moment.
#[derive(Debug)]
pub struct Board {
    clock: Clock,
    rows: Box<[Row]>,
}

/// A session: who it is with, and the rest of a [`View`] in words.
#[derive(Debug)]
struct Row {
    side: Side,
    neighbour: Ipv4Addr,
    /// From the highest byte: state, diagnostic, and those of the neighbour; then how often it has
    /// come up.
    states: AtomicU64,
    since: AtomicU64,
    transmit_us: AtomicU64,
    detection_us: AtomicU64,
}

impl Board {
    /// A board for these sessions, whose moments are of this clock.
    pub fn new(clock: Clock, sessions: impl Iterator<Item = View>) -> Board {
        let row = |view: View| {
            let View { side, neighbour, .. } = view;
            let [states, since, transmit_us, detection_us] = [const { AtomicU64::new(0) }; 4];
            let row = Row { side, neighbour, states, since, transmit_us, detection_us };
            row.show(&view);
            row
        };
        Board { clock, rows: sessions.map(row).collect() }
    }

    /// Shows the same sessions, in the same order, as they are now.
    pub fn show(&self, sessions: impl Iterator<Item = View>) {
        self.rows.iter().zip(sessions).for_each(|(row, view)| row.show(&view));
    }

    /// The sessions as they were shown last, each with how long it has been in its state.
    pub fn look(&self) -> impl Iterator<Item = (View, Duration)> {
        let now = self.clock.now_ns();
        self.rows
            .iter()
            .map(Row::look)
            .map(move |view| (view, Duration::from_nanos(now.saturating_sub(view.since.0))))
    }
}

impl Row {
    fn show(&self, view: &View) {
        let [a, b, c, d] = view.ups.to_be_bytes();
        let (state, remote_state) = (view.state as u8, view.remote_state as u8);
        let (why, remote_why) = (view.diagnostic.code(), view.remote_diagnostic.code());
        let states = u64::from_be_bytes([state, why, remote_state, remote_why, a, b, c, d]);
        self.states.store(states, Relaxed);
        self.since.store(view.since.0, Relaxed);
        self.transmit_us.store(view.transmit_us.into(), Relaxed);
        self.detection_us.store(view.detection_us, Relaxed);
    }

    fn look(&self) -> View {
        let [state, why, remote_state, remote_why, ups @ ..] =
            self.states.load(Relaxed).to_be_bytes();
        View {
            side: self.side,
            neighbour: self.neighbour,
            state: State::from_bits(state),
            diagnostic: Diagnostic::from_bits(why),
            since: Moment(self.since.load(Relaxed)),
            ups: u32::from_be_bytes(ups),
            remote_state: State::from_bits(remote_state),
            remote_diagnostic: Diagnostic::from_bits(remote_why),
            transmit_us: self.transmit_us.load(Relaxed) as u32,
            detection_us: self.detection_us.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU64;

    #[test]
    fn what_is_shown_is_what_is_seen() {
        let view = |number: u8| View {
            side: Side::BOTH[usize::from(number) % 2],
            neighbour: [192, 0, 2, number].into(),
            state: State::from_bits(number),
            diagnostic: Diagnostic::from_bits(number),
            since: Moment(u64::from(number)),
            ups: u32::MAX - u32::from(number),
            remote_state: State::from_bits(number + 1),
            remote_diagnostic: Diagnostic::from_bits(31 - number),
            transmit_us: u32::MAX - u32::from(number),
            detection_us: u64::MAX - u64::from(number),
        };
        let clock = Clock::with_frequency(NonZeroU64::new(1_000_000_000).unwrap());
        let board = Board::new(clock, (0..4).map(view));
        let seen = |board: &Board| board.look().map(|(view, _)| view).collect::<Vec<_>>();
        assert_eq!(seen(&board), (0..4).map(view).collect::<Vec<_>>());
        let other =
            |number| View { side: view(number).side, neighbour: view(number).neighbour, ..view(9) };
        board.show((0..4).map(other));
        assert_eq!(seen(&board), (0..4).map(other).collect::<Vec<_>>());
    }
}
