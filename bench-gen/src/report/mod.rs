//! What a measurement is shown as: a value ([`model`]), which is written as JSON, as one HTML file
//! ([`html`]) or as lines for a terminal ([`text`]).

pub mod html;
pub mod model;
mod number;
mod scale;
mod svg;
pub mod text;

pub use number::{count, full, percent, plural, short};
