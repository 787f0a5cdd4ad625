//! The programs of the paper, as `krono` runs them: sharded, locked or replicated.
//!
//! | program | record | state | drops |
//! |---|---|---|---|
//! | [`ddos`] | 4 bytes: source | a level for each source | listed sources, and those above their share |
//! | [`heavy`] | 18 bytes: flow, length, SYN, FIN | bytes of each flow | nothing |
//! | [`bucket`] | 18 bytes: flow, time, SYN, FIN | a token bucket for each flow | what exceeds the rate |
//! | [`knock`] | 8 bytes: source, port, SYN, FIN | how far each source has knocked | who has not knocked |
//! | [`conntrack`] | 30 bytes: flow, TCP header, time | TCP connections | what belongs to none |
//!
//! What they have in common:
//! * State is in tables of fixed capacity ([`table`], [`sources`]), keyed by a secret, in which an entry has one
//!   cache line or shares it. Nothing is swept on time: what is over is as good as absent, and its
//!   place goes to whoever needs one.
//! * Any bytes are a record. That of all zeros changes nothing.
//! * Time is what records say, or how many of them there were, never a clock. So
//!   [`tick`](krono_core::program::Program::tick) has nothing to do.
//! * A verdict is [`Pass`](krono_core::program::Verdict::Pass) or a drop: nothing is translated.

pub mod bucket;
pub mod conntrack;
pub mod ddos;
pub mod ddos_shared;
pub mod heavy;
pub mod knock;

mod flow;
mod prefixes;
mod sources;
mod table;

use std::ops::Range;

pub use flow::{Flow, FourTuple, Marks};
pub use prefixes::PrefixSet;

/// A program whose state can be shown to people, part by part, so that nobody waits long for it.
pub trait Shown {
    /// How many parts there are: the sets of its table.
    fn parts(&self) -> usize;

    /// What is worth seeing of some parts, row by row. Allocates nothing.
    fn show(&self, parts: Range<usize>, each: &mut dyn FnMut(Row));
}

/// Something worth seeing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    /// A source that is blocked for its share.
    Blocked(ddos::Blocked),
    /// A flow that carries much.
    Heavy(heavy::Heaviness),
    /// A bucket that is not full.
    Bucket(bucket::Bucket),
    /// A source that knocks, or has.
    Knocker(knock::Knocker),
    /// A connection.
    Connection(conntrack::Connection),
}

/// The most rows of a part.
pub const ROWS_PER_PART: usize = table::WAYS;

/// A setting that cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The field of the program's settings.
    pub field: &'static str,
    /// What it ought to be.
    pub expected: &'static str,
}

/// Collects what is wrong with settings, so that all of it is said at once.
#[derive(Default)]
struct Mistakes(Vec<Mistake>);

impl Mistakes {
    fn demand(&mut self, holds: bool, field: &'static str, expected: &'static str) {
        if !holds {
            self.0.push(Mistake { field, expected });
        }
    }

    fn demand_capacity(&mut self, capacity: usize, field: &'static str) {
        let holds = (1..=table::CAPACITY_MAX).contains(&capacity);
        self.demand(holds, field, "1 to 67,108,864");
    }

    fn into_result(self) -> Result<(), Vec<Mistake>> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }
}
