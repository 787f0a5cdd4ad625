//! The key that all servers of a cluster share, from a file that nobody else may read.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use krono_ha::frame::Key;

/// Digits of a key: two for each of its 32 bytes.
const DIGITS: usize = 64;

/// Reads the key from its file: 64 hexadecimal digits.
///
/// # Errors
/// That it cannot be read, that others than its owner may, or what is wrong in it.
pub fn read_key(path: &Path) -> Result<Key> {
    read(path).with_context(|| format!("cluster.key: {}", path.display()))
}

fn read(path: &Path) -> Result<Key> {
    let mut file = File::open(path)?;
    let about = file.metadata()?;
    let mode = about.mode() & 0o777;
    ensure!(about.is_file(), "this is no file");
    ensure!(
        mode & 0o077 == 0,
        "others than its owner may use this file (mode {mode:03o}); expected mode 400 or 600"
    );
    let (owner, own) = (about.uid(), rustix::process::geteuid().as_raw());
    ensure!(
        owner == 0 || owner == own,
        "this file belongs to user {owner}, who may read it; expected root's"
    );
    ensure!(about.len() <= 2 * DIGITS as u64, "this is too long for a key of {DIGITS} digits");
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    match bytes(text.trim()) {
        Some(bytes) => Ok(Key::new(&bytes)),
        None => bail!(
            "this is no key; expected {DIGITS} hexadecimal digits, as \"openssl rand -hex 32\" \
             prints them"
        ),
    }
}

fn bytes(text: &str) -> Option<[u8; DIGITS / 2]> {
    let digits: Vec<u8> =
        text.chars().map(|digit| digit.to_digit(16).map(|it| it as u8)).collect::<Option<_>>()?;
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    fn read_text(text: &str, mode: u32) -> Result<Key, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let name = format!("cluster.key: {}: ", path.display());
        read_key(&path).map_err(|error| format!("{error:#}").replace(&name, ""))
    }

    #[test]
    fn digits_are_bytes() {
        let mut expected = [0; 32];
        (expected[0], expected[1], expected[31]) = (0x01, 0xaf, 0xf0);
        let text = format!("01aF{}f0", "0".repeat(58));
        assert_eq!(bytes(&text), Some(expected));
        assert!(read_text(&format!("{text}\n"), 0o600).is_ok());
        assert!(read_text(&text, 0o400).is_ok());
    }

    #[test]
    fn what_is_no_key_is_refused_with_the_reason() {
        let good = "7".repeat(64);
        for mode in [0o640, 0o604, 0o601, 0o620] {
            let expected = format!(
                "others than its owner may use this file (mode {mode:03o}); expected mode 400 or 600"
            );
            assert_eq!(read_text(&good, mode).unwrap_err(), expected);
        }
        // Only root can give a file away.
        if rustix::process::geteuid().is_root() {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("key");
            fs::write(&path, &good).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
            std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
            let said = format!("{:#}", read_key(&path).unwrap_err());
            let expected = "this file belongs to user 65534, who may read it; expected root's";
            assert!(said.ends_with(expected), "{said}");
        }
        for bad in ["", &good[1..], &format!("{good}7"), &good.replace('7', "g")] {
            let said = read_text(bad, 0o600).unwrap_err();
            assert!(said.starts_with("this is no key; expected 64 hexadecimal digits"), "{said}");
        }
        let said = read_text(&"7".repeat(4096), 0o600).unwrap_err();
        assert_eq!(said, "this is too long for a key of 64 digits");
        let said = format!("{:#}", read_key(Path::new("/nowhere/key")).unwrap_err());
        assert!(said.starts_with("cluster.key: /nowhere/key: No such file"), "{said}");
    }
}
