//! Captures of real traffic, made fit to be replayed through a NAT.
//!
//! A capture shows a conversation at one place. To replay it through a NAT, each flow needs an
//! inside and an outside: [`plan`] takes the sender of a flow's first packet as inside, gives it
//! an address of the subscribers' prefix, and splits the packets by direction. What the outside
//! must send to is known only once the NAT has chosen public endpoints: [`replay`] reads those
//! from what came out, and the same packets are replayed until that changes nothing any more.

pub mod file;
pub mod ipv4;
pub mod plan;
pub mod replay;
