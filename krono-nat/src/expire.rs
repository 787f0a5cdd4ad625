//! Time passes: sessions end, and freed ports come back.

use krono_core::program::Events;
use krono_core::time::Ticks;

use crate::entry::Flags;
use crate::events::Event;
use crate::nat::Nat;

/// The most records looked at one by one in a call, which takes some 50 µs at most then. What is
/// left over is done in the next call, for which the caller is asked.
const DUE_MAX: usize = 256;

impl Nat<'_> {
    /// Whether there may be more to expire now.
    pub(crate) fn expire(&mut self, now: Ticks, events: &mut impl Events<Event>) -> bool {
        self.deadlines.advance(now);
        let mut due = 0;
        while due < DUE_MAX
            && let Some(index) = self.deadlines.next_due()
        {
            due += 1;
            let entry = &self.entries[index as usize];
            if !entry.flags.has(Flags::SESSION) {
                continue;
            }
            if entry.is_over(now) {
                self.end_session(index, now, events);
            } else {
                // Packets came since: only now is the later deadline told.
                self.deadlines.set(index, entry.deadline);
            }
        }
        self.ports.tick(now);
        due == DUE_MAX
    }
}
