//! What people may ask of a running kronod, with shards that are made up.

mod fake;
mod mailboxes;
mod requests;
mod scrapes;
mod sockets;
