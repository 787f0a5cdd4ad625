//! Configuration: a YAML file becomes a valid [`Config`], or a list of all its mistakes.
//!
//! The room `krono-config` reads the text with places. What could be read stands in a draft
//! (`draft`, `nat`, `firewall`); the draft is looked through for what does not fit together
//! (`sense`) and becomes the configuration (`valid`).

mod cluster;
mod draft;
mod firewall;
mod fuzz;
mod memory;
mod nat;
mod reload;
mod scr;
mod sense;
mod types;
mod valid;
mod values;

use std::path::Path;

pub use fuzz::fuzz_config;
pub use krono_config::file::FILE_SIZE_MAX;
pub use krono_config::mistake::{Finding, Mistakes, Warning};
pub use krono_config::values::duration;
pub use memory::{Memory, TableSizes, machine_memory, subscribers_max};
pub use reload::{ReloadPlan, reload_plan};
pub use types::*;

use krono_config::file;
use krono_config::mistake::Report;
use krono_config::tree::Node;

/// Reads and validates the file at `path`.
///
/// # Errors
/// All mistakes in it; that it cannot be read is one, in line 1.
pub fn load(path: &Path, memory: &Memory<'_>) -> Result<(Config, Vec<Warning>), Mistakes> {
    file::load(path, |root, report| validate(root, memory, report))
}

/// Validates the bytes of a configuration file called `name`.
///
/// # Errors
/// All mistakes in it.
pub fn load_bytes(
    name: &str,
    bytes: &[u8],
    memory: &Memory<'_>,
) -> Result<(Config, Vec<Warning>), Mistakes> {
    file::load_bytes(name, bytes, |root, report| validate(root, memory, report))
}

/// Validates the text of a configuration file called `name`.
///
/// # Errors
/// All mistakes in it.
pub fn load_text(
    name: &str,
    text: &str,
    memory: &Memory<'_>,
) -> Result<(Config, Vec<Warning>), Mistakes> {
    file::load_text(name, text, |root, report| validate(root, memory, report))
}

fn validate(root: &Node, memory: &Memory<'_>, report: &mut Report) -> Option<Config> {
    let draft = draft::read(root, report)?;
    sense::check(&draft, memory, report);
    valid::config(draft)
}
