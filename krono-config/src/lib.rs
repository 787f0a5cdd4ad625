//! YAML with places: a file becomes marked values, or a list of all its mistakes.
//!
//! The text becomes a tree whose nodes know their lines ([`tree`]); values are taken out of it with
//! their places, and what is wrong with them is noted on the way ([`read`], [`values`]). Whoever
//! has a configuration looks through what could be read for what does not fit together. Mistakes
//! are collected on the whole way ([`mistake`]), so that a file with ten of them gets ten
//! complaints. A value that is mistaken is complained about once: nothing that depends on it is
//! judged.
//!
//! A key without a value is as good as one that is left out.
#![forbid(unsafe_code)]

pub mod eal;
pub mod file;
pub mod fuzz;
pub mod mistake;
pub mod read;
pub mod tree;
pub mod values;
