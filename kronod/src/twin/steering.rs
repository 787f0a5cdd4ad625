//! What a half tells routers by its BFD sessions.
//!
//! * Where they choose by BFD alone (static routes, the master's the better one), the preferred half
//!   holds its sessions down while the other serves: else they would send to it as soon as it is back.
//! * A half whose one side has lost all neighbours holds the sessions of the other side down: what
//!   arrives there could not go on, and the twin's other side can.

use krono_core::packet::Side;
use krono_core::time::Moment;
use krono_ha::roles::Role;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Steering {
    /// Whether there are sessions on each side.
    watched: [bool; 2],
    /// Whether this half is to stand by while the other serves.
    stands_by: bool,
    /// How long neighbours may take to come up after they were held down, ns.
    patience_ns: u64,
    up: [bool; 2],
    /// Which sides are held down.
    held: [bool; 2],
    /// The side that was lost, until it is up again.
    lost: Option<Side>,
    /// It stands by.
    is_standing_by: bool,
    /// Till when neighbours are waited for that were held down because it stood by.
    awaited: Moment,
}

impl Steering {
    /// With sessions on these sides; nothing is held down.
    pub(super) fn new(
        watched: [bool; 2],
        is_static: bool,
        is_preferred: bool,
        patience_ns: u64,
    ) -> Steering {
        Steering {
            watched,
            stands_by: is_static && is_preferred,
            patience_ns,
            up: [false; 2],
            held: [false; 2],
            lost: None,
            is_standing_by: false,
            awaited: Moment(0),
        }
    }

    /// Which sides are held down.
    pub(super) fn held(&self) -> [bool; 2] {
        self.held
    }

    /// Which sides are to be held down from now on, by whether any session of each is up, and by who
    /// serves.
    pub(super) fn look(
        &mut self,
        up: [bool; 2],
        role: Role,
        other_serves: bool,
        now: Moment,
    ) -> [bool; 2] {
        for side in Side::BOTH {
            let at = side as usize;
            if self.lost == Some(side) && up[at] {
                self.lost = None;
            }
            // One that is held down, or has not been up since, is not lost.
            if self.lost.is_none() && self.up[at] && !up[at] && !self.held[at] {
                self.lost = Some(side);
            }
        }
        let stood_by = self.is_standing_by;
        self.is_standing_by = self.stands_by && !role.expires() && other_serves;
        if self.is_standing_by {
            self.lost = None;
        } else if stood_by {
            self.awaited = Moment(now.0 + self.patience_ns);
        }
        let all_up = Side::BOTH.map(|side| up[side as usize] || !self.watched[side as usize]);
        if all_up == [true; 2] || now >= self.awaited {
            self.awaited = Moment(0);
        }
        self.held = Side::BOTH.map(|side| {
            let is_useless = self.lost == Some(side.opposite());
            self.watched[side as usize] && (self.is_standing_by || is_useless)
        });
        self.up = Side::BOTH.map(|side| up[side as usize] && !self.held[side as usize]);
        self.held
    }

    /// Whether routes lead here, or would as soon as this half served.
    pub(super) fn routes_up(&self) -> bool {
        let is_up = |side: Side| self.up[side as usize] || !self.watched[side as usize];
        self.is_standing_by || self.awaited > Moment(0) || Side::BOTH.into_iter().all(is_up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Role::{Following, Serving, Yielded};

    const IN: usize = Side::Inside as usize;
    const OUT: usize = Side::Outside as usize;
    const NONE: [bool; 2] = [false; 2];
    const BOTH: [bool; 2] = [true; 2];

    fn only(side: usize) -> [bool; 2] {
        let mut sides = NONE;
        sides[side] = true;
        sides
    }

    fn at(ms: u64) -> Moment {
        Moment(1_000_000_000 + ms * 1_000_000)
    }

    fn master() -> Steering {
        Steering::new(BOTH, true, true, 100_000_000)
    }

    #[test]
    fn a_side_is_of_no_use_when_the_other_is_lost() {
        let mut steering = Steering::new(BOTH, false, false, 0);
        // Neighbours do not come up at once, nor together.
        for up in [NONE, only(IN)] {
            assert_eq!(steering.look(up, Following, true, at(0)), NONE);
            assert!(!steering.routes_up());
        }
        assert_eq!(steering.look(BOTH, Following, true, at(0)), NONE);
        assert!(steering.routes_up());
        for (lost, other) in [(OUT, IN), (IN, OUT)] {
            assert_eq!(steering.look(only(other), Serving, false, at(1)), only(other));
            assert!(!steering.routes_up());
            // It is held down by now, so it is not up, and not lost either.
            assert_eq!(steering.look(NONE, Serving, false, at(2)), only(other));
            assert_eq!(steering.look(only(lost), Serving, false, at(3)), NONE);
            assert_eq!(steering.look(only(lost), Serving, false, at(4)), NONE);
            assert!(!steering.routes_up());
            assert_eq!(steering.look(BOTH, Serving, false, at(5)), NONE);
            assert!(steering.routes_up());
        }
        // Both at once: whoever is back first need not wait for the other to be held down.
        steering.look(NONE, Serving, false, at(6));
        assert_eq!(steering.look(BOTH, Serving, false, at(7)), NONE);
        assert!(steering.routes_up());
    }

    #[test]
    fn sides_without_sessions_are_up_and_never_held() {
        let mut steering = Steering::new(only(OUT), true, true, 0);
        assert_eq!(steering.look(only(OUT), Serving, false, at(0)), NONE);
        assert!(steering.routes_up());
        assert_eq!(steering.look(NONE, Serving, false, at(1)), NONE);
        assert!(!steering.routes_up());
        let mut blind = Steering::new(NONE, true, true, 0);
        assert_eq!(blind.look(NONE, Following, true, at(0)), NONE);
        assert!(blind.routes_up());
    }

    #[test]
    fn the_preferred_half_stands_by_while_the_other_serves_and_is_waited_for_after_that() {
        let mut steering = master();
        steering.look(BOTH, Serving, false, at(0));
        // It has been asked to drain, and the other serves.
        assert_eq!(steering.look(BOTH, Yielded, true, at(1)), BOTH);
        assert!(steering.routes_up());
        assert_eq!(steering.look(NONE, Following, true, at(2)), BOTH);
        assert!(steering.routes_up(), "they would be up if this half served");
        // The other is silent: it serves, and neighbours need some time.
        assert_eq!(steering.look(NONE, Following, false, at(10)), NONE);
        assert_eq!(steering.look(NONE, Serving, false, at(11)), NONE);
        assert!(steering.routes_up());
        assert_eq!(steering.look(only(IN), Serving, false, at(50)), NONE);
        assert!(steering.routes_up());
        steering.look(only(IN), Serving, false, at(110));
        assert!(!steering.routes_up(), "they took too long");
        steering.look(BOTH, Serving, false, at(120));
        assert!(steering.routes_up());
        // Not waited for once they have been up.
        assert_eq!(steering.look(only(IN), Serving, false, at(121)), only(IN));
        assert!(!steering.routes_up());
    }

    #[test]
    fn only_the_preferred_half_stands_by_and_only_where_routes_are_static() {
        for (is_static, is_preferred) in [(false, true), (true, false), (false, false)] {
            let mut steering = Steering::new(BOTH, is_static, is_preferred, 0);
            assert_eq!(steering.look(BOTH, Following, true, at(0)), NONE);
        }
        assert_eq!(master().look(BOTH, Following, true, at(0)), BOTH);
        assert_eq!(master().look(BOTH, Following, false, at(0)), NONE);
        assert_eq!(master().look(BOTH, Serving, true, at(0)), NONE);
    }
}
