//! A whole group on ports of memory, whose lcores are polled in any order, beside one shard on one core.

mod allocations;
mod bed;
mod changing;
mod neighbours;
