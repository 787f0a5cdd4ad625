//! A shard whose state is on several cores, the same on each (`docs/scr.md`).
//!
//! ```text
//!                  ┌ pipe ▶ replica, core 0 ┐
//! ports ▶ sequencer┼ pipe ▶ replica, core 1 ┼▶ ports, a transmit queue for each core
//!                  └ pipe ▶ …               ┘
//! ```
//!
//! The sequencer ([`sequencing`]) parses and admits packets, numbers those that are for the program, and
//! writes their histories beside them. A replica ([`replica`]) is a router around a program as any shard
//! is. What has no number, since no state depends on it, goes to one core; ARP to all, since each has
//! neighbours of its own. Who sequences in-band ([`in_band`]) is in front of the replicas' own queues.
//! A core that comes or comes back gets the state of another ([`handover`]).

mod handover;
mod house;
mod in_band;
mod members;
mod programs;
mod replica;
mod sequencing;
#[cfg(test)]
mod tests;

pub(crate) use house::parts;
pub(crate) use members::{Members, Membership};
