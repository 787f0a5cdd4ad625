//! Time passes: sessions end, and freed ports come back.

use krono_core::program::Events;
use krono_core::time::Ticks;

use crate::entry::Flags;
use crate::events::Event;
use crate::nat::Nat;

/// The most records looked at one by one in a call: what keeps a tick short. Under load there is
/// a call every few thousand packets at least; what is left over is done in the next.
const DUE_MAX: usize = 256;

impl Nat<'_> {
    pub(crate) fn expire(&mut self, now: Ticks, events: &mut impl Events<Event>) {
        self.deadlines.advance(now);
        for _ in 0..DUE_MAX {
            let Some(index) = self.deadlines.next_due() else { break };
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
    }
}
