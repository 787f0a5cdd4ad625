//! The worker as a whole, on ports of memory: no EAL, no devices, no privileges.

mod accounts;
mod allocations;
mod bed;
mod bfd;
mod clock;
mod letters;
mod neighbours;
mod packets;
mod sources;
mod twin;
