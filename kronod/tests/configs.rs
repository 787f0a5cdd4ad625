//! Every file in `configs/`, and each of kronod's in `configs/bench/`, is valid, with nothing to be warned about.

use std::path::{Path, PathBuf};
use std::process::Command;

use kronod::config::{self, Memory};

fn files() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let entries = |directory: &Path| std::fs::read_dir(directory).unwrap();
    let mut files: Vec<_> = entries(&directory).map(|entry| entry.unwrap().path()).collect();
    // The others there are profiles of bench-gen.
    let bench = entries(&directory.join("bench")).map(|entry| entry.unwrap());
    let bench = bench.filter(|entry| entry.file_name().to_string_lossy().starts_with("kronod"));
    files.extend(bench.map(|entry| entry.path()));
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}

#[test]
fn every_example_is_valid_without_warnings() {
    let memory = Memory { available: Some(4 << 30), ..Memory::unlimited() };
    assert!(files().len() >= 6);
    for file in files() {
        match config::load(&file, &memory) {
            Ok((_, warnings)) => assert_eq!(warnings, [], "{}", file.display()),
            Err(mistakes) => panic!("{mistakes}"),
        }
    }
}

#[test]
fn check_says_ok_for_the_least_example() {
    let file = files().into_iter().find(|file| file.ends_with("minimal.yaml")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_kronod"))
        .args(["--check", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    let expected = ": ok: 1 shard, 2 ports, 16 public addresses, 1048576 sessions\n";
    assert!(String::from_utf8(output.stdout).unwrap().ends_with(expected));
    assert!(output.stderr.is_empty());
}
