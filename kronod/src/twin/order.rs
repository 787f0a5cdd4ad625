//! What an operator orders of a shard's half.

use krono_core::time::Moment;
use krono_ha::Half;
use krono_ha::roles::Role;
use krono_nat::Nat;

/// What a half is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Have the other serve as soon as it has everything.
    Drain,
    /// Go on, if the other does not serve yet.
    Keep,
    /// The other does not run, and when it does will have started anew.
    Fence,
}

/// An order, and what became of it.
#[derive(Clone, Copy, Debug)]
pub struct TwinOrder {
    /// What is ordered.
    pub order: Order,
    /// Noted by the worker.
    pub outcome: Result<(), OrderRefused>,
}

impl TwinOrder {
    /// An order that nobody has seen.
    pub fn new(order: Order) -> TwinOrder {
        TwinOrder { order, outcome: Err(OrderRefused::NoTwin) }
    }
}

/// Why an order is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderRefused {
    /// There is no half.
    #[error("has no twin")]
    NoTwin,
    /// It does not serve.
    #[error("is {0} on this node, not serving; the other node can be asked")]
    NotServing(&'static str),
    /// It was not asked to drain.
    #[error("is {0}, not draining")]
    NotDraining(&'static str),
    /// Who is heard of runs.
    #[error("hears of its twin, which therefore runs; stop that first")]
    PeerRuns,
}

/// Carries it out.
pub(super) fn carry_out(
    order: Order,
    half: &mut Half<Nat<'static>>,
    now: Moment,
) -> Result<(), OrderRefused> {
    let role = half.role();
    match (order, role) {
        (Order::Drain, Role::Serving) => half.drain(),
        // As was asked before.
        (Order::Drain, Role::Draining | Role::Yielded) => {}
        (Order::Drain, _) => return Err(OrderRefused::NotServing(role.name())),
        (Order::Keep, Role::Draining) => half.keep(),
        (Order::Keep, _) => return Err(OrderRefused::NotDraining(role.name())),
        (Order::Fence, _) if half.peer().is_some() => return Err(OrderRefused::PeerRuns),
        (Order::Fence, _) => half.fence(now),
    }
    Ok(())
}
