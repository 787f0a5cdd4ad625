//! The ports: packets come in bursts from an [`RxQueue`] and leave through a [`TxQueue`].
//!
//! [`Eal`] starts DPDK and runs closures on its lcores, [`Port`] opens a device and hands out its
//! queues, [`Pool`] holds the packet buffers ([`Mbuf`]) and [`Burst`] carries them. [`mem`] makes
//! the same queues and buffers of plain memory, for tests without devices or privileges.
//! [`Arena`] gives the tables their memory, [`Clock`] the time.
//!
//! Every buffer has one owner: rx gives, tx takes, and what tx did not take stays with the caller.
//! Nothing lives longer than what it stands on: queues keep their port open, ports and pools keep
//! the EAL up, and the EAL is not taken down while a buffer is out.

mod arena;
mod clock;
mod dpdk_log;
mod eal;
mod flow;
mod hugepages;
mod launch;
mod mbuf;
pub mod mem;
mod pipe;
mod pool;
mod port;
mod queue;
mod rings;
mod runtime_dir;

pub use arena::{Arena, ArenaError};
pub use clock::Clock;
pub use eal::{Eal, EalConfig, EalError};
pub use hugepages::Hugepages;
pub use launch::{LaunchError, Panicked, Task};
pub use mbuf::{Burst, Mbuf};
pub use pipe::{PipeError, PipeIn, PipeOut, pipe};
pub use pool::{Pool, PoolConfig, PoolError};
pub use port::{Opened, Port, PortConfig, PortError, PortId, PortStats};
pub use queue::{QueueId, RxQueue, TxQueue};
