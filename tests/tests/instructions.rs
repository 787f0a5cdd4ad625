//! Growth of what a packet costs does not pass unless the changelog says why.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const COMPILER: &str = "rustc 9.9.9 here";

/// A workspace in which `parse.udp` had 100 instructions per packet and has `now`.
struct Counted {
    root: TempDir,
}

impl Counted {
    fn new(now: u32, changelog: &str) -> Counted {
        let counted = Counted { root: tempfile::tempdir().expect("a temporary directory") };
        fs::create_dir_all(counted.path("krono-nat/benches")).expect("it is empty");
        let stored = format!("# compiler: {COMPILER}\nparse.udp 100\n");
        fs::write(counted.path("krono-nat/benches/instructions.txt"), stored).expect("stored");
        let bench = "const PACKETS: usize = 10;\n";
        fs::write(counted.path("krono-nat/benches/instructions.rs"), bench).expect("bench");
        fs::write(counted.path("CHANGELOG.md"), changelog).expect("changelog");
        let total = serde_json::json!({ "metrics": { "Ir": { "values": { "new": 10 * now } } } });
        let profiles = serde_json::json!([{ "data": { "total": total } }]);
        let line =
            serde_json::json!({ "function_name": "parse", "id": "udp", "profiles": profiles });
        fs::write(counted.path("counts"), line.to_string()).expect("counts");
        counted
    }

    fn path(&self, of: &str) -> PathBuf {
        self.root.path().join(of)
    }

    /// Whether the comparison lets it pass, and the count that is stored then.
    fn compare(&self, compiler: &str, more: &[&str]) -> (bool, String) {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts");
        let output = Command::new("python3")
            .arg(scripts.join("instructions.py"))
            .args(["--compiler", compiler, "--counts"])
            .arg(self.path("counts"))
            .arg("--root")
            .arg(self.root.path())
            .args(more)
            .output()
            .expect("python3 starts");
        let said = String::from_utf8_lossy(&output.stderr);
        println!("{}{said}", String::from_utf8_lossy(&output.stdout));
        let is_complaint = said.starts_with("error: ") && said.lines().count() == 1;
        assert_eq!(output.status.success(), said.is_empty(), "it fails without a word");
        assert_eq!(!output.status.success(), is_complaint, "it is not one sentence");
        let stored = fs::read_to_string(self.path("krono-nat/benches/instructions.txt"));
        let stored = stored.expect("it is there");
        let count = stored.lines().find_map(|line| line.strip_prefix("parse.udp "));
        (output.status.success(), count.unwrap_or_default().to_owned())
    }

    fn passes(now: u32, changelog: &str) -> bool {
        Counted::new(now, changelog).compare(COMPILER, &[]).0
    }
}

#[test]
fn growth_above_3_percent_fails() {
    for (now, passes) in [(50, true), (100, true), (103, true), (104, false), (200, false)] {
        assert_eq!(Counted::passes(now, ""), passes, "{now}");
    }
}

#[test]
fn only_an_exact_line_in_the_changelog_explains_growth() {
    let lines = [
        ("* instructions: parse.udp 100 -> 110, options are parsed", true),
        ("* instructions: parse.udp 100 -> 108, options are parsed", true),
        ("* instructions: parse.udp 100 -> 150, options are parsed", false),
        ("* instructions: parse.udp 100 -> 105, options are parsed", false),
        ("* instructions: parse.udp 90 -> 110, an older line", false),
        ("* instructions: parse.tcp 100 -> 110, of another", false),
        ("* instructions: parse.udp 100 -> 110", false),
        ("instructions grew", false),
    ];
    for (line, passes) in lines {
        assert_eq!(Counted::passes(110, &format!("# Changes\n\n{line}\n")), passes, "{line}");
    }
}

#[test]
fn renewal_asks_for_the_same_line() {
    let renewed = |now, changelog| Counted::new(now, changelog).compare(COMPILER, &["--renew"]);
    assert_eq!(renewed(110, ""), (false, "100".to_owned()));
    assert_eq!(renewed(110, "* instructions: parse.udp 100 -> 110, why"), (true, "110".to_owned()));
    assert_eq!(renewed(90, ""), (true, "90".to_owned()));
}

#[test]
fn counts_of_another_compiler_are_only_reported() {
    let counted = Counted::new(200, "");
    assert_eq!(counted.compare("rustc 10 here", &[]), (true, "100".to_owned()));
    assert_eq!(counted.compare("rustc 10 here", &["--renew"]), (true, "200".to_owned()));
}

#[test]
fn what_is_not_both_stored_and_counted_fails() {
    let counted = Counted::new(100, "");
    let counts = fs::read_to_string(counted.path("counts")).expect("it is there");
    fs::write(counted.path("counts"), counts.replace("udp", "tcp")).expect("counts");
    assert!(!counted.compare(COMPILER, &[]).0);
}
