//! Configuration: a YAML file becomes a valid [`Config`], or a list of all its mistakes.

mod types;

pub use types::*;
