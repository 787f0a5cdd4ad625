//! Profiles: a YAML file becomes a valid [`Profile`], or a list of all its mistakes.
//!
//! It is read as kronod's configuration is: what could be read stands in a draft with its places
//! (`draft`, `values`), is looked through for what does not fit together (`sense`), and becomes
//! the profile (`valid`).

mod draft;
mod fuzz;
mod sense;
mod summary;
mod valid;
mod values;

use std::path::Path;

use krono_config::file;
use krono_config::mistake::Report;
pub use krono_config::mistake::{Finding, Mistakes, Warning};
use krono_config::tree::Node;

pub use fuzz::fuzz_profile;

use crate::load::Profile;

/// Reads and validates the profile at `path`. A capture that it names is looked for beside it.
///
/// # Errors
/// All mistakes in it; that it cannot be read is one, in line 1.
pub fn load(path: &Path) -> Result<(Profile, Vec<Warning>), Mistakes> {
    let (mut profile, warnings) = file::load(path, read)?;
    if let (Some(replay), Some(directory)) = (&mut profile.load.replay, path.parent()) {
        replay.file = directory.join(&replay.file);
    }
    Ok((profile, warnings))
}

/// Validates the bytes of a profile called `name`.
///
/// # Errors
/// All mistakes in it.
pub fn load_bytes(name: &str, bytes: &[u8]) -> Result<(Profile, Vec<Warning>), Mistakes> {
    file::load_bytes(name, bytes, read)
}

/// Validates the text of a profile called `name`.
///
/// # Errors
/// All mistakes in it.
pub fn load_text(name: &str, text: &str) -> Result<(Profile, Vec<Warning>), Mistakes> {
    file::load_text(name, text, read)
}

fn read(root: &Node, report: &mut Report) -> Option<Profile> {
    let draft = draft::read(root, report)?;
    sense::check(&draft, report);
    valid::profile(draft)
}
