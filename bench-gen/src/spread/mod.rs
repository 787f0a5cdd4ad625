//! Random draws that shape the load: which flow is next, how long a flow is, how long a frame.
//!
//! Everything is made once from a seed; a draw takes constant time, allocates nothing and costs
//! some tens of cycles, so that it can be made for each packet.

mod agh;
mod alias;
mod lengths;
mod picker;
mod sizes;
mod zipf;

pub use lengths::Lengths;
pub use picker::Picker;
pub use sizes::SizeDraw;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// The generator behind all draws: small, fast, not for secrets.
///
/// What different draws need of one profile's seed differs by `salt`.
fn random(seed: u64, salt: u64) -> SmallRng {
    SmallRng::seed_from_u64(seed ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// A number below `below`, all alike; the bias is below `below` / 2^32.
fn below(random: &mut SmallRng, below: u32) -> u32 {
    ((u64::from(random.next_u32()) * u64::from(below)) >> 32) as u32
}

/// A number from 0 to below 1.
fn unit(random: &mut SmallRng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}
