//! The control socket: what kronoctl and others may ask of a running kronod.
//!
//! One thread serves a few clients on a UNIX socket. A request is a line of JSON and so is its
//! answer, see [`protocol`]. What only a shard knows is asked of its worker through its
//! [mailbox](crate::mailbox).

mod answer;
mod client;
mod cluster;
mod group;
pub mod protocol;
mod server;
mod socket;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use krono_core::counters::Counters;

use crate::bfd::Board;
use crate::mailbox::ShardHandle;
use crate::twin;
use protocol::{Memory, PortFigures};

pub(crate) use answer::snapshots;
pub use client::{Client, ClientError, answer_from_line};
pub use server::Server;
pub use socket::{BindError, Socket};

/// What the control plane knows of the process that it speaks for.
pub struct Facts {
    /// The configuration that it runs by.
    pub config_file: PathBuf,
    /// When it started.
    pub started: Instant,
    /// Whether all shards are polling; set by who waits for that.
    pub ready: AtomicBool,
    /// What it has reserved.
    pub memory: Memory,
    /// Its shards, in the order of the configuration.
    pub shards: Vec<ShardFacts>,
    /// Asks the devices for their figures.
    pub ports: Box<dyn Fn() -> Vec<PortFigures> + Send + Sync>,
}

impl Facts {
    /// Those who may be asked what is in the state of their shards, one for each.
    pub(crate) fn speakers(&self) -> Vec<&ShardFacts> {
        self.shards.iter().filter(|part| (part.speaks)()).collect()
    }
}

/// What the control plane knows of a shard, or of a part of it.
pub struct ShardFacts {
    /// What people call it.
    pub id: u16,
    /// The lcore that runs it, or this part of it.
    pub lcore: u16,
    /// Which part of it this is.
    pub role: protocol::Role,
    /// How many sessions it can hold.
    pub sessions_max: u32,
    /// Whether it is to be asked for what is in the shard's state: of several replicas one is.
    pub speaks: Box<dyn Fn() -> bool + Send + Sync>,
    /// Where to ask it.
    pub handle: Arc<ShardHandle>,
    /// Its figures, to be read when it does not answer.
    pub counters: Arc<Counters>,
    /// Its BFD sessions.
    pub bfd: Arc<Board>,
    /// How its half stands, if it has a twin.
    pub twin: Option<Arc<twin::Board>>,
}
