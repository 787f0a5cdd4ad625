//! Privileges that a running daemon has no use for are given up.

use caps::{CapSet, Capability, CapsHashSet};

/// What stopping a port still asks for: af_packet devices leave promiscuous mode by it.
const KEPT: [Capability; 2] = [Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW];

/// Reduces this thread's capabilities to what stopping takes. Each thread has its own, so each
/// calls this once it has opened what it needs. Does nothing for a user without privileges.
///
/// # Errors
/// What the kernel refuses.
pub(crate) fn reduce() -> Result<(), caps::errors::CapsError> {
    let held = caps::read(None, CapSet::Permitted)?;
    let kept: CapsHashSet = KEPT.into_iter().filter(|cap| held.contains(cap)).collect();
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new())
}
