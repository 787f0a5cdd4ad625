//! Configuration: a YAML file becomes a valid [`Config`], or a list of all its mistakes.
//!
//! The text becomes a tree whose nodes know their lines (`tree`), the tree a draft in which every
//! value that could be read stands with its place (`read`, `values`, `draft`, `nat`, `firewall`);
//! the draft is looked through for what does not fit together (`sense`) and becomes the
//! configuration (`valid`). Mistakes are collected on the whole way, so that a file with ten of
//! them gets ten complaints. A value that is mistaken is complained about once: nothing that
//! depends on it is judged.
//!
//! A key without a value is as good as one that is left out.

mod draft;
mod firewall;
mod fuzz;
mod memory;
mod mistake;
mod nat;
mod read;
mod reload;
mod sense;
mod tree;
mod types;
mod valid;
mod values;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

pub use fuzz::fuzz_config;
pub use memory::{Memory, TableSizes, machine_memory, subscribers_max};
pub use mistake::{Finding, Mistakes, Warning};
pub use reload::{ReloadPlan, reload_plan};
pub use types::*;
pub use values::duration;

use mistake::{Place, Report, Wrong};

/// The most that a configuration file may have, bytes.
pub const FILE_SIZE_MAX: usize = 1 << 20;

/// Reads and validates the file at `path`.
///
/// # Errors
/// All mistakes in it; that it cannot be read is one, in line 1.
pub fn load(path: &Path, memory: &Memory<'_>) -> Result<(Config, Vec<Warning>), Mistakes> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    let limit = FILE_SIZE_MAX as u64 + 1;
    match File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)) {
        Ok(_) => load_bytes(&name, &bytes, memory),
        Err(error) => Err(refusal(&name, 1, unreadable(&error))),
    }
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
    if bytes.len() > FILE_SIZE_MAX {
        let expected = format!("at most {FILE_SIZE_MAX} bytes");
        return Err(refusal(name, 1, Wrong::new("the file is too large", expected)));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => load_text(name, text, memory),
        Err(error) => {
            let before = &bytes[..error.valid_up_to()];
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count() as u32;
            Err(refusal(name, line, Wrong::new("this is not UTF-8", "text in UTF-8")))
        }
    }
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
    let mut report = Report::default();
    let draft = tree::read(text, &mut report).and_then(|root| draft::read(&root, &mut report));
    let config = draft.and_then(|draft| {
        sense::check(&draft, memory, &mut report);
        valid::config(draft)
    });
    report.conclude(name, config)
}

fn unreadable(error: &io::Error) -> Wrong {
    Wrong::new(format!("the file cannot be read: {error}"), "a file that can be read")
}

/// The one mistake of a file that cannot even be looked at.
fn refusal(name: &str, line: u32, wrong: Wrong) -> Mistakes {
    let mut report = Report::default();
    report.mistake(&Place { line, path: "file".to_owned() }, wrong);
    report.conclude::<()>(name, None).expect_err("there is a mistake")
}
