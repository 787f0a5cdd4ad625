//! What happens to a node.

use std::time::Duration;

use anyhow::{Context, Result};

/// The node that it happens to.
pub(crate) const STRUCK: u8 = 1;

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Kill,
    Freeze,
    Link,
    Cut,
    Drain,
    Rolling,
}

impl Event {
    pub(crate) const ALL: [Event; 6] =
        [Event::Kill, Event::Freeze, Event::Link, Event::Cut, Event::Drain, Event::Rolling];

    /// Its name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Event::Kill => "kill",
            Event::Freeze => "freeze",
            Event::Link => "link",
            Event::Cut => "cut",
            Event::Drain => "drain",
            Event::Rolling => "rolling",
        }
    }

    pub(crate) fn named(name: &str) -> Result<Event> {
        let all = Event::ALL.map(Event::name).join(", ");
        let event = Event::ALL.into_iter().find(|event| event.name() == name);
        event.with_context(|| format!("no event {name}; there are {all}"))
    }

    /// What is done.
    pub(crate) const fn about(self) -> &'static str {
        match self {
            Event::Kill => "kill -9 of kronod on node 1, later started again",
            Event::Freeze => "kill -STOP of kronod on node 1, later -CONT",
            Event::Link => "node 1 loses its link to the subscribers, later has it again",
            Event::Cut => "no node hears from another, though routers hear from all",
            Event::Drain => "node 1 is drained, and later has its shard back",
            Event::Rolling => "every node is drained and restarted, one after the other",
        }
    }

    /// Whether it comes without warning, so that packets are lost until it is noticed.
    pub(crate) const fn is_failure(self) -> bool {
        matches!(self, Event::Kill | Event::Freeze | Event::Link | Event::Cut)
    }

    /// How long clients are to be busy, which begin before it.
    pub(crate) fn length(self, nodes: u8) -> Duration {
        match self {
            Event::Rolling => Duration::from_secs(12 * u64::from(nodes)),
            _ => Duration::from_secs(14),
        }
    }
}
