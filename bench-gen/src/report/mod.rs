//! What a measurement is shown as.

pub mod model;
