//! An EAL that does not start: one sentence, no pages of usage, nothing left behind.

mod common;

use std::env;
use std::process::Command;

use krono_io::{Eal, EalError};

const CHILD: &str = "KRONO_TEST_REFUSED_CHILD";

#[test]
fn a_bad_argument_is_one_sentence() {
    if env::var_os(CHILD).is_some() {
        return start_with_a_bad_argument();
    }
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "a_bad_argument_is_one_sentence", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{stdout}");
    assert!(stdout.contains("standard output is back"), "{stdout}");
    assert!(!stdout.contains("Usage"), "{stdout}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    // The EAL prints one line of its own before.
    assert!(stderr.lines().count() <= 2, "{stderr}");
}

fn start_with_a_bad_argument() {
    let mut config = common::config();
    config.lcores = Some("no such thing".into());
    let error = Eal::start(&config).err().unwrap();
    eprintln!("{error}");
    println!("standard output is back");
    let text = error.to_string();
    assert!(text.contains("did not start: invalid parameter for --lcores"), "{text}");
    common::assert_nothing_left();

    config.lcores = Some("0\0".into());
    assert!(matches!(Eal::start(&config), Err(EalError::Argument(_))));
    assert!(matches!(Eal::start(&common::config()), Err(EalError::AlreadyStarted)));
}
