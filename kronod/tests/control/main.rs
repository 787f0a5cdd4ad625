//! What people may ask of a running kronod, with shards that are made up.

mod commands;
mod fake;
mod mailboxes;
mod requests;
mod scrapes;
mod sockets;
