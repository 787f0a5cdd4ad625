//! From a file to a valid value, or to all its mistakes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::mistake::{Mistakes, Place, Report, Warning, Wrong};
use crate::tree::{self, Node};

/// The most that a file may have, bytes.
pub const FILE_SIZE_MAX: usize = 1 << 20;

/// Reads the file at `path`; `read` makes a value of its tree, and reports what is wrong.
///
/// # Errors
/// All mistakes in it; that it cannot be read is one, in line 1.
pub fn load<T>(
    path: &Path,
    read: impl FnOnce(&Node, &mut Report) -> Option<T>,
) -> Result<(T, Vec<Warning>), Mistakes> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    let limit = FILE_SIZE_MAX as u64 + 1;
    match File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)) {
        Ok(_) => load_bytes(&name, &bytes, read),
        Err(error) => Err(refusal(&name, 1, unreadable(&error))),
    }
}

/// Likewise the bytes of a file called `name`.
///
/// # Errors
/// All mistakes in it.
pub fn load_bytes<T>(
    name: &str,
    bytes: &[u8],
    read: impl FnOnce(&Node, &mut Report) -> Option<T>,
) -> Result<(T, Vec<Warning>), Mistakes> {
    if bytes.len() > FILE_SIZE_MAX {
        let expected = format!("at most {FILE_SIZE_MAX} bytes");
        return Err(refusal(name, 1, Wrong::new("the file is too large", expected)));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => load_text(name, text, read),
        Err(error) => {
            let before = &bytes[..error.valid_up_to()];
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count() as u32;
            Err(refusal(name, line, Wrong::new("this is not UTF-8", "text in UTF-8")))
        }
    }
}

/// Likewise the text of a file called `name`.
///
/// # Errors
/// All mistakes in it.
pub fn load_text<T>(
    name: &str,
    text: &str,
    read: impl FnOnce(&Node, &mut Report) -> Option<T>,
) -> Result<(T, Vec<Warning>), Mistakes> {
    let mut report = Report::default();
    let value = tree::read(text, &mut report).and_then(|root| read(&root, &mut report));
    report.conclude(name, value)
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
