//! Who serves a shard.
//!
//! Availability comes before consistency: nobody waits for leave. What keeps two that both serve
//! from harm is not agreement but that they never give out the same port ([`krono_core::ports`]).
//!
//! * A half that follows serves as soon as its own routes are up *and* the other is silent or
//!   yields. A stray packet is no reason.
//! * It then has a higher **epoch** than any that it has seen. Whoever hears of a better claim
//!   stops serving. Claims compare by epoch, then by place in the shard's preference, then by node:
//!   so two that are both configured as master, or that start apart from each other, are told apart
//!   as well.
//! * Who stops serving has served until then, perhaps without the other's knowledge. It makes an
//!   **offer**: the other compares and takes what contradicts nothing of its own
//!   ([`krono_core::twin::Standing::Past`]). Only then does it follow, and what it has beyond ends.
//! * A half that has never had all state since it started (it is not **current**) does not serve by
//!   itself, since it does not know which of its ports an earlier incarnation gave out. It serves
//!   if the other says that it is not current either, or if an operator has **fenced** the other
//!   off: its word that the other does not run, and will start anew.
//! * To **drain** a half is to have it ask the other to serve once that has everything. Both serve
//!   while routes converge; then the first makes its offer, and follows.

/// What a half does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Role {
    /// It serves nobody and takes what the other tells.
    Following = 1,
    /// It serves.
    Serving = 2,
    /// It serves until the other does.
    Draining = 3,
    /// It serves whom routes still bring, after the other has begun to.
    Yielded = 4,
}

impl Role {
    /// The role that this byte stands for, if any.
    pub const fn from_byte(byte: u8) -> Option<Role> {
        Some(match byte {
            1 => Role::Following,
            2 => Role::Serving,
            3 => Role::Draining,
            4 => Role::Yielded,
            _ => return None,
        })
    }

    /// The name on screen.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Following => "following",
            Role::Serving => "serving",
            Role::Draining => "draining",
            Role::Yielded => "yielded",
        }
    }

    /// Whether packets are to be decided.
    pub const fn serves(self) -> bool {
        !matches!(self, Role::Following)
    }

    /// Whether sessions end by themselves: who is not the only one to serve does not see all
    /// packets.
    pub const fn expires(self) -> bool {
        matches!(self, Role::Serving | Role::Draining)
    }
}

/// Why one of two that serve is the one to go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Rises with each takeover.
    pub epoch: u64,
    /// The place in the shard's preference.
    pub rank: u8,
    /// The node.
    pub node: u32,
}

impl Claim {
    /// Whether this one goes on and `other` stops.
    pub fn outranks(&self, other: &Claim) -> bool {
        let ascending = |claim: &Claim| (u64::MAX - claim.epoch, claim.rank, claim.node);
        ascending(self) < ascending(other)
    }

    /// The place in the shard's preference; of two with the same rank, which is a mistake, the
    /// lower node comes first.
    fn place(&self) -> (u8, u32) {
        (self.rank, self.node)
    }
}

/// What is known of one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// What it does.
    pub role: Role,
    /// What it claims.
    pub claim: Claim,
    /// Whether its routes are up.
    pub routes_up: bool,
    /// Whether it has had all state since it started.
    pub is_current: bool,
    /// Whether it asks the other to serve.
    pub yields: bool,
}

/// What the peer is to a half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Not heard of lately, or never.
    Silent,
    /// The operator's word is that it does not run.
    Fenced,
    /// It says this.
    Live(View),
}

/// The role that a half has next; `lingered` says that routes have converged since it yielded.
pub fn next(own: &View, peer: &Peer, lingered: bool) -> Role {
    match own.role {
        Role::Following if may_serve(own, peer) => Role::Serving,
        Role::Following => Role::Following,
        Role::Serving | Role::Draining => match peer {
            Peer::Live(view) if view.role.expires() && view.claim.outranks(&own.claim) => {
                if own.role == Role::Draining { Role::Yielded } else { Role::Following }
            }
            _ => own.role,
        },
        Role::Yielded => match peer {
            Peer::Live(view) if view.role.expires() => {
                if lingered {
                    Role::Following
                } else {
                    Role::Yielded
                }
            }
            // Nobody else serves (any more).
            _ => Role::Serving,
        },
    }
}

fn may_serve(own: &View, peer: &Peer) -> bool {
    own.routes_up
        && match peer {
            Peer::Fenced => true,
            Peer::Silent => own.is_current,
            Peer::Live(view) if view.role != Role::Following => view.yields && own.is_current,
            Peer::Live(view) => match (own.is_current, view.is_current) {
                (true, false) => true,
                (false, true) => false,
                // Either would do.
                _ => !view.routes_up || own.claim.place() < view.claim.place(),
            },
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(role: Role, epoch: u64, rank: u8, node: u32) -> View {
        let claim = Claim { epoch, rank, node };
        View { role, claim, routes_up: true, is_current: true, yields: false }
    }

    fn following() -> View {
        view(Role::Following, 5, 1, 2)
    }

    #[test]
    fn of_two_claims_exactly_one_outranks_the_other() {
        let claim = |epoch, rank, node| Claim { epoch, rank, node };
        // Each before the next: a higher epoch, the preferred one, the lower node.
        let order =
            [claim(7, 1, 9), claim(6, 0, 4), claim(6, 0, 5), claim(6, 1, 3), claim(0, 0, 0)];
        for (place, better) in order.iter().enumerate() {
            for (other_place, other) in order.iter().enumerate() {
                assert_eq!(better.outranks(other), place < other_place, "{better:?} {other:?}");
            }
        }
    }

    #[test]
    fn a_half_that_follows_serves_if_its_routes_are_up_and_the_other_is_silent_or_yields() {
        let master = view(Role::Serving, 5, 0, 1);
        let own = following();
        let after = |own: View, peer| next(&own, &peer, false);
        assert_eq!(after(own, Peer::Live(master)), Role::Following);
        assert_eq!(after(own, Peer::Silent), Role::Serving);
        assert_eq!(after(own, Peer::Live(View { yields: true, ..master })), Role::Serving);
        let down = View { routes_up: false, ..own };
        for peer in [Peer::Silent, Peer::Fenced, Peer::Live(View { yields: true, ..master })] {
            assert_eq!(after(down, peer), Role::Following, "{peer:?}");
        }
    }

    #[test]
    fn a_half_that_knows_nothing_serves_only_on_the_operators_word_or_if_nobody_knows_more() {
        let own = View { is_current: false, ..following() };
        let preferred = View { claim: Claim { rank: 0, ..own.claim }, ..own };
        let other = view(Role::Following, 9, 1, 1);
        let empty = View { is_current: false, ..other };
        assert_eq!(next(&preferred, &Peer::Silent, false), Role::Following);
        assert_eq!(next(&preferred, &Peer::Fenced, false), Role::Serving);
        assert_eq!(next(&preferred, &Peer::Live(other), false), Role::Following);
        assert_eq!(next(&preferred, &Peer::Live(empty), false), Role::Serving);
        // Not both of them.
        assert_eq!(next(&empty, &Peer::Live(preferred), false), Role::Following);
        // Unless the preferred one cannot.
        let down = View { routes_up: false, ..preferred };
        assert_eq!(next(&empty, &Peer::Live(down), false), Role::Serving);
        assert_eq!(next(&down, &Peer::Live(empty), false), Role::Following);
        // One that has been restarted has left its work to the other.
        assert_eq!(next(&other, &Peer::Live(preferred), false), Role::Serving);
    }

    #[test]
    fn who_serves_stops_for_a_better_claim_only_and_at_once() {
        let own = view(Role::Serving, 5, 0, 1);
        let better = view(Role::Serving, 6, 1, 2);
        assert_eq!(next(&own, &Peer::Live(better), false), Role::Following);
        assert_eq!(next(&better, &Peer::Live(own), false), Role::Serving);
        // Both configured as master, and started apart.
        let twin = view(Role::Serving, 5, 0, 2);
        assert_eq!(next(&own, &Peer::Live(twin), false), Role::Serving);
        assert_eq!(next(&twin, &Peer::Live(own), false), Role::Following);
        // One that only follows takes nothing away, whatever epoch it has heard of.
        let follower = View { role: Role::Following, ..better };
        assert_eq!(next(&own, &Peer::Live(follower), false), Role::Serving);
        assert_eq!(next(&own, &Peer::Silent, false), Role::Serving);
    }

    #[test]
    fn who_drains_serves_until_the_other_does_and_routes_have_converged() {
        let own = view(Role::Draining, 5, 0, 1);
        let other = view(Role::Serving, 6, 1, 2);
        let before = View { role: Role::Following, ..other };
        assert_eq!(next(&own, &Peer::Live(before), false), Role::Draining);
        assert_eq!(next(&own, &Peer::Silent, false), Role::Draining);
        assert_eq!(next(&own, &Peer::Live(other), false), Role::Yielded);
        let own = View { role: Role::Yielded, ..own };
        assert_eq!(next(&own, &Peer::Live(other), false), Role::Yielded);
        assert_eq!(next(&own, &Peer::Live(other), true), Role::Following);
        // The other went before its time, or was restarted.
        assert_eq!(next(&own, &Peer::Silent, false), Role::Serving);
        assert_eq!(next(&own, &Peer::Live(before), true), Role::Serving);
    }
}
