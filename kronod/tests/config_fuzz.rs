//! The example configurations, damaged at random: no file makes kronod panic.
//!
//! `KRONO_SEED` repeats a run, `KRONO_FUZZ_ROUNDS` makes it longer.

use std::env;
use std::fmt::Display;
use std::path::Path;

use kronod::config::fuzz_config;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Pieces that are likely to meet code that is not met by single bytes.
const PIECES: [&str; 38] = [
    "\n",
    "  ",
    "- ",
    ": ",
    "{ ",
    " }",
    "[ ",
    " ]",
    ", ",
    "\"",
    "'",
    "#",
    "&a ",
    "*a",
    "!!str ",
    "? ",
    "|\n",
    ">-\n",
    "---\n",
    "...\n",
    "%TAG ! a\n",
    "<<: ",
    "null",
    "~",
    "\t",
    "\r",
    "\u{85}",
    "\u{feff}",
    "é",
    "0",
    "/33",
    "/0",
    "65536",
    "18446744073709551616",
    "1-",
    "pool",
    "nat:",
    "(",
];

#[test]
fn damaged_configurations_are_refused_in_order() {
    let seed: u64 = setting("KRONO_SEED").unwrap_or_else(rand::random);
    println!("KRONO_SEED={seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let seeds = examples();
    for _ in 0..setting("KRONO_FUZZ_ROUNDS").unwrap_or(3000) {
        let mut bytes = seeds[random.random_range(0..seeds.len())].clone();
        for _ in 0..random.random_range(1..8) {
            damage(&mut bytes, &seeds, &mut random);
        }
        fuzz_config(&bytes);
    }
}

#[test]
fn nothing_and_deep_nesting_and_binary_are_refused() {
    for bytes in [&b""[..], b"\n", b"\0", b"\xff\xfe", b"a: \n  b: \xff", b"\xef\xbb\xbf"] {
        fuzz_config(bytes);
    }
    for piece in ["[", "{", "- ", "{a: ", "? ", "[{"] {
        fuzz_config(piece.repeat(100_000).as_bytes());
    }
    fuzz_config("a: 1\n".repeat(100_000).as_bytes());
    fuzz_config("shards:\n".repeat(100_000).as_bytes());
    fuzz_config(&b"#\n".repeat(1 << 20));
}

#[test]
fn line_ends_that_are_written_as_escapes_do_not_end_a_mistake() {
    for text in [
        r#"{ "a\r\nb": 1 }"#,
        r#"shards: "a\nb""#,
        r#"clock: "a\rb""#,
        r#"ports: [ { name: "a\r\nb", device: "c\rd" }, { name: "a\r\nb", device: "c\rd" } ]"#,
        r#"nat: { timeouts: { "a\rb": 1s, udp: "1\rs" }, exclude: [ "a\nb" ] }"#,
        r#"eal: { args: [ "a\rb" ], lcores: "a\rb", memory: "1\rM" }"#,
    ] {
        fuzz_config(text.as_bytes());
    }
}

fn damage(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut ChaCha8Rng) {
    let at = random.random_range(0..=bytes.len());
    let end = bytes.len().min(at + random.random_range(0..40));
    match random.random_range(0..6) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..end)),
        2 => {
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        3 => {
            let other = &seeds[random.random_range(0..seeds.len())];
            let from = random.random_range(0..other.len());
            let to = other.len().min(from + random.random_range(0..200));
            bytes.splice(at..end, other[from..to].iter().copied());
        }
        4 if at < end => bytes[at] = random.random(),
        _ => {
            let piece = PIECES[random.random_range(0..PIECES.len())];
            bytes.splice(at..at, piece.bytes());
        }
    }
}

fn setting<T: std::str::FromStr<Err: Display>>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

fn examples() -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let mut paths: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.is_file());
    // The order of a directory is nobody's, a seed has to mean the same everywhere.
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}
