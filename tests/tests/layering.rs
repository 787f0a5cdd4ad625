//! Who may import whom, where `unsafe` may stand, what programs may not touch, and how long the
//! two files of the packet path may grow.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Each crate of the workspace, and the crates of the workspace that it may depend on.
const ALLOWED: &[(&str, &[&str])] = &[
    ("dpdk-sys", &[]),
    ("krono-core", &[]),
    ("krono-io", &["dpdk-sys", "krono-core"]),
    ("krono-nat", &["krono-core"]),
    ("scr-sequencer", &["krono-core"]),
    ("krono-ha", &["krono-core"]),
    ("bench-gen", &["krono-core", "krono-io"]),
    ("kronod", &["dpdk-sys", "krono-core", "krono-io", "krono-nat", "scr-sequencer", "krono-ha"]),
    (
        "krono-tests",
        &[
            "dpdk-sys",
            "krono-core",
            "krono-io",
            "krono-nat",
            "scr-sequencer",
            "krono-ha",
            "bench-gen",
            "kronod",
        ],
    ),
];

/// The crates of values: programs, and the core that they stand on.
const PURE: &[&str] = &["krono-core", "krono-nat", "scr-sequencer", "krono-ha"];

/// What the crates of values must not name: the outside world, and clocks that nobody handed in.
const IMPURE: &[&str] = &[
    "std::thread",
    "std::fs",
    "std::process",
    "std::env",
    "std::os",
    "std::net::Tcp",
    "std::net::Udp",
    "Instant",
    "SystemTime",
    "log::",
    "println!",
    "rand::rng",
];

/// Where `unsafe` may stand, as prefixes of paths in the workspace.
const UNSAFE: &[&str] = &["dpdk-sys/", "krono-io/", "krono-core/src/table.rs"];

/// The two files that hold the whole packet path.
const PATH_FILES: &[&str] = &["kronod/src/worker.rs", "krono-core/src/burst.rs"];

/// How many lines a file of the path may have, its tests aside.
const PATH_LINES_MAX: usize = 150;

fn workspace() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the tests are a member of the workspace").to_owned()
}

/// Every Rust file of the workspace, by its path in it.
fn sources() -> BTreeMap<String, String> {
    let root = workspace();
    let mut found = BTreeMap::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory of the workspace") {
            let path = entry.expect("an entry of the workspace").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    directories.push(path);
                }
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).expect("Rust source is UTF-8");
                let place = path.strip_prefix(&root).expect("it lies in the workspace");
                found.insert(place.to_string_lossy().into_owned(), text);
            }
        }
    }
    found
}

/// The code of a file before its tests, without comments: line numbers and text.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().take_while(|line| line.trim() != "#[cfg(test)]");
    lines.map(|line| line.split("//").next().unwrap_or_default()).zip(1..).map(|(l, n)| (n, l))
}

/// The files of modules that are declared for tests only, in the file of their parent.
fn modules_of_tests(sources: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (path, text) in sources {
        let directory = match path.strip_suffix("/mod.rs").or(path.strip_suffix("/lib.rs")) {
            Some(directory) => directory,
            None => path.trim_end_matches(".rs"),
        };
        for (attribute, declaration) in text.lines().zip(text.lines().skip(1)) {
            let name = declaration.trim().strip_prefix("mod ").and_then(|m| m.strip_suffix(';'));
            if let (Some(name), "#[cfg(test)]") = (name, attribute.trim()) {
                found.insert(format!("{directory}/{name}.rs"));
                found.insert(format!("{directory}/{name}/mod.rs"));
            }
        }
    }
    found
}

fn mentions(line: &str, word: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        let goes_on = word.ends_with(is_word) && after.starts_with(is_word);
        !before.ends_with(is_word) && !goes_on
    })
}

fn metadata() -> Metadata {
    let manifest = workspace().join("Cargo.toml");
    MetadataCommand::new().manifest_path(manifest).no_deps().exec().expect("cargo metadata")
}

#[test]
fn crates_depend_only_on_what_the_design_allows() {
    let metadata = metadata();
    let members: BTreeSet<&str> = metadata.packages.iter().map(|p| p.name.as_str()).collect();
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let name = package.name.as_str();
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
            wrong.push(format!("{name} is not in the table of this test"));
            continue;
        };
        let normal = package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal);
        for dependency in normal.map(|d| d.name.as_str()).filter(|d| members.contains(d)) {
            if !allowed.contains(&dependency) {
                wrong.push(format!("{name} must not depend on {dependency}"));
            }
        }
    }
    assert!(members.len() > 5, "the workspace was not read: {members:?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn unsafe_stands_only_where_the_design_allows_it() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        if UNSAFE.iter().any(|allowed| path.starts_with(allowed)) {
            continue;
        }
        // Tests as well, so the whole text.
        for (line, number) in text.lines().zip(1..) {
            let code = line.split("//").next().unwrap_or_default();
            if !code.contains('"') && mentions(code, "unsafe") {
                wrong.push(format!("{path}:{number}: {}", line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The files that libraries and programs of the workspace begin with.
fn crate_roots() -> BTreeSet<String> {
    let targets = metadata().packages.into_iter().flat_map(|package| package.targets);
    let roots = targets.filter(|target| target.is_lib() || target.is_bin()).map(|target| {
        let root = target.src_path.as_std_path().strip_prefix(workspace());
        root.expect("it lies in the workspace").to_string_lossy().into_owned()
    });
    roots.collect()
}

#[test]
fn every_crate_root_forbids_unsafe_code() {
    let roots = crate_roots();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let is_root = roots.contains(&path);
        let exempt = path.starts_with("dpdk-sys/") || path.starts_with("krono-io/");
        // krono-core's table opts out of a `deny`, which a `forbid` would not let it.
        let level = if path.starts_with("krono-core/") { "deny" } else { "forbid" };
        if is_root && !exempt && !text.contains(&format!("#![{level}(unsafe_code)]")) {
            wrong.push(format!("{path} lacks #![{level}(unsafe_code)]"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn programs_touch_nothing_but_values() {
    let sources = sources();
    let only_tests = modules_of_tests(&sources);
    let mut wrong = Vec::new();
    for (path, text) in &sources {
        let is_pure = PURE.iter().any(|name| path.starts_with(&format!("{name}/src/")));
        if !is_pure || only_tests.contains(path) {
            continue;
        }
        for (number, line) in code(text) {
            for word in IMPURE.iter().filter(|word| mentions(line, word)) {
                wrong.push(format!("{path}:{number}: {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_packet_path_stays_readable_on_one_screen_pair() {
    let sources = sources();
    for path in PATH_FILES {
        let Some(text) = sources.get(*path) else { continue };
        let lines = code(text).count();
        println!("{path}: {lines} lines");
        assert!(lines <= PATH_LINES_MAX, "{path}: {lines} lines, {PATH_LINES_MAX} allowed");
    }
}

#[test]
fn words_are_found_as_words() {
    assert!(mentions("let x = unsafe { y };", "unsafe"));
    assert!(!mentions("#![forbid(unsafe_code)]", "unsafe"));
    assert!(mentions("use std::fs::File;", "std::fs"));
    assert!(!mentions("catalog::entry", "log::"));
    assert!(mentions("log::warn!()", "log::"));
}
