//! A traffic generator and tester for middleboxes that translate.
//!
//! It plays both ends: subscribers on the inside port, servers on the outside port. Each lcore has
//! its own share of the flows and shares nothing with the others. Every packet carries a stamp that
//! says whose it is, and whatever comes back is held against what a translator must have done.
//!
//! * [`load`]: what is to be sent, as valid values (`profile` reads them from a file);
//! * [`bench`]: one stage of a measurement and what was seen in it, behind the trait [`Bench`], so
//!   that procedures can be tested against a simulated device;
//! * [`profile`]: a file becomes a load, or a list of all its mistakes;
//! * [`capture`]: captures that are sent again;
//! * [`spread`]: random draws: which flow is next, how long it is, how long a frame;
//! * [`share`]: an lcore's flows as a state machine over frames and time;
//! * [`engine`]: ports, lcores and rates: a [`Bench`] over DPDK;
//! * [`relay`]: a small device under test, with faults on purpose;
//! * [`procedure`]: what is measured, in which order;
//! * [`report`]: what is shown to people and machines;
//! * [`live`]: what is seen while it runs;
//! * [`cli`] and [`house`]: a command from its beginning to its exit status;
//! * [`simulated`]: a device that is a formula.
//!
//! [`Bench`]: bench::Bench
#![forbid(unsafe_code)]

pub mod bench;
pub mod capture;
pub mod cli;
pub mod engine;
pub mod house;
pub mod live;
pub mod load;
pub mod procedure;
pub mod profile;
pub mod relay;
pub mod report;
pub mod share;
pub mod simulated;
pub mod spread;
