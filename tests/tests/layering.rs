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
    ("krono-config", &["krono-core"]),
    ("krono-io", &["dpdk-sys", "krono-core"]),
    ("krono-nat", &["krono-core"]),
    ("scr-sequencer", &["krono-core"]),
    ("krono-ha", &["krono-core"]),
    ("bench-gen", &["krono-config", "krono-core", "krono-io"]),
    (
        "kronod",
        &[
            "dpdk-sys",
            "krono-config",
            "krono-core",
            "krono-io",
            "krono-nat",
            "scr-sequencer",
            "krono-ha",
        ],
    ),
    (
        "krono-tests",
        &[
            "dpdk-sys",
            "krono-config",
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

/// Tools in these crates, for which that does not hold: they are programs that people start.
const TOOLS: &[&str] = &["scr-sequencer/src/bin/"];

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

fn metadata() -> Metadata {
    let manifest = workspace().join("Cargo.toml");
    MetadataCommand::new().manifest_path(manifest).no_deps().exec().expect("cargo metadata")
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

/// The code of a file before the module with its tests, without comments: line numbers and text.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| is_for_tests(pair) && pair[1].ends_with('{'));
    let end = tests.unwrap_or(lines.len());
    lines
        .into_iter()
        .take(end)
        .zip(1..)
        .map(|(line, number)| (number, line.split("//").next().unwrap_or_default()))
}

/// Whether these two lines declare a module that exists in tests only.
fn is_for_tests(pair: &[&str]) -> bool {
    pair[0].trim() == "#[cfg(test)]" && mentions(pair[1], "mod")
}

/// The files that are modules for tests only.
fn test_modules(sources: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (path, text) in sources {
        let (directory, file) = path.rsplit_once('/').unwrap_or(("", path));
        let stem = file.trim_end_matches(".rs");
        let is_root = matches!(stem, "lib" | "main" | "mod");
        let place = if is_root { directory.to_owned() } else { format!("{directory}/{stem}") };
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.windows(2).filter(|pair| is_for_tests(pair)) {
            let name = pair[1].trim_end_matches(';').rsplit(' ').next().unwrap_or_default();
            found.extend([format!("{place}/{name}.rs"), format!("{place}/{name}/mod.rs")]);
        }
    }
    found
}

fn mentions(line: &str, word: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        let goes_on = word.ends_with(is_word) && after.starts_with(is_word);
        // A module of the crate may be called like a crate.
        !before.ends_with(is_word) && !before.ends_with("crate::") && !goes_on
    })
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

#[test]
fn every_crate_root_forbids_unsafe_code() {
    let mut wrong = Vec::new();
    let metadata = metadata();
    for package in &metadata.packages {
        let level = match package.name.as_str() {
            "dpdk-sys" | "krono-io" => continue,
            // krono-core's table opts out of a `deny`, which a `forbid` would not let it.
            "krono-core" => "deny",
            _ => "forbid",
        };
        let shipped = package.targets.iter().filter(|target| target.is_lib() || target.is_bin());
        for root in shipped.map(|target| &target.src_path) {
            let text = fs::read_to_string(root).expect("Rust source is UTF-8");
            if !text.contains(&format!("#![{level}(unsafe_code)]")) {
                wrong.push(format!("{root} lacks #![{level}(unsafe_code)]"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn programs_touch_nothing_but_values() {
    let sources = sources();
    let test_modules = test_modules(&sources);
    let mut wrong = Vec::new();
    for (path, text) in &sources {
        let is_pure = PURE.iter().any(|name| path.starts_with(&format!("{name}/src/")));
        let is_tool = TOOLS.iter().any(|tools| path.starts_with(tools));
        if !is_pure || is_tool || test_modules.contains(path) {
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
        let text = sources.get(*path).unwrap_or_else(|| panic!("{path} is missing"));
        let lines = code(text).count();
        println!("{path}: {lines} lines");
        assert!(lines <= PATH_LINES_MAX, "{path}: {lines} lines, {PATH_LINES_MAX} allowed");
    }
}

#[test]
fn tests_are_told_from_code() {
    let text = "#[cfg(test)]\nmod simulation;\nuse a; // b\n#[cfg(test)]\nmod tests {\nuse c;\n}";
    let lines: Vec<(usize, &str)> = code(text).collect();
    assert_eq!(lines, [(1, "#[cfg(test)]"), (2, "mod simulation;"), (3, "use a; ")]);
    let sources = BTreeMap::from([("x/src/router/mod.rs".to_owned(), text.to_owned())]);
    assert!(test_modules(&sources).contains("x/src/router/simulation.rs"));
    let sources = BTreeMap::from([("x/src/router.rs".to_owned(), text.to_owned())]);
    assert!(test_modules(&sources).contains("x/src/router/simulation.rs"));
}

#[test]
fn words_are_found_as_words() {
    assert!(mentions("let x = unsafe { y };", "unsafe"));
    assert!(!mentions("#![forbid(unsafe_code)]", "unsafe"));
    assert!(mentions("use std::fs::File;", "std::fs"));
    assert!(!mentions("catalog::entry", "log::"));
    assert!(mentions("log::warn!()", "log::"));
}
