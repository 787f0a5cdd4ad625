//! What must hold for any line that comes from the socket, over damaged answers and over those
//! that once failed. A fuzz target runs the body too.

use kronod::control::protocol::{Cluster, Owners, Sessions, Stats, Status};
use kronod::control::{ClientError, answer_from_line};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::{cluster, figures, lists};

/// The body of the fuzz target: any line is an error of one sentence, or an answer. What is
/// understood can be shown, whatever its figures; sessions, which are written again for
/// `--json`, survive that. How many of the five kinds of answers it is understood as.
///
/// # Panics
/// If that does not hold.
pub(crate) fn fuzz_answer(line: &[u8]) -> usize {
    let answer = match answer_from_line(line) {
        Ok(answer) => answer,
        Err(ClientError::Refused(_)) => return 0,
        Err(error) => {
            assert!(!error.to_string().contains('\n'), "more than a line: {error}");
            return 0;
        }
    };
    let found = understood::<Sessions>(&answer);
    if let Some(found) = &found {
        let again = serde_json::to_string(found).expect("sessions can be written");
        assert_eq!(serde_json::from_str::<Sessions>(&again).ok().as_ref(), Some(found));
    }
    let texts = [
        understood(&answer).map(|status: Status| figures::status(&status)),
        understood(&answer).map(|stats: Stats| figures::stats(&stats)),
        found.map(|sessions| lists::sessions(&sessions)),
        understood(&answer).map(|owners: Owners| lists::owners(&owners)),
        understood(&answer).map(|halves: Cluster| cluster::cluster(&halves)),
    ];
    let texts = texts.into_iter().flatten();
    texts.inspect(|text| assert!(text.is_empty() || text.ends_with('\n'), "{text:?}")).count()
}

fn understood<T: DeserializeOwned>(answer: &RawValue) -> Option<T> {
    serde_json::from_str(answer.get()).ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const ROUNDS: usize = 20_000;

    /// One of each kind.
    const ANSWERS: [&str; 5] = [
        include_str!("../../../tests/data/answers/cluster.json"),
        include_str!("../../../tests/data/answers/owners.json"),
        include_str!("../../../tests/data/answers/sessions.json"),
        include_str!("../../../tests/data/answers/stats.json"),
        include_str!("../../../tests/data/answers/status.json"),
    ];

    #[test]
    fn answers_of_every_kind_are_understood() {
        for line in ANSWERS {
            assert_eq!(fuzz_answer(line.as_bytes()), 1, "{line}");
        }
    }

    #[test]
    fn what_is_no_answer_is_said_in_a_sentence() {
        for (line, sentence) in [
            (r#"{"version":1,"error":"no such shard"}"#, "no such shard"),
            (r#"{"version":2,"answer":{}}"#, "version 2, expected 1"),
            (r#"{"version":1}"#, "neither an answer nor an error"),
            ("7", "expected struct"),
            ("", "EOF while parsing"),
        ] {
            let error = answer_from_line(line.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(sentence), "{line}: {error}");
        }
    }

    #[test]
    fn damaged_answers_are_shown_or_refused() {
        let seed = std::env::var("KRONO_SEED").map_or(21, |seed| seed.parse().expect("a number"));
        println!("KRONO_SEED={seed}");
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut shown = 0;
        for _ in 0..ROUNDS {
            let mut line = ANSWERS[random.random_range(0..ANSWERS.len())].as_bytes().to_vec();
            for _ in 0..random.random_range(1..4) {
                damage(&mut line, &mut random);
            }
            shown += usize::from(fuzz_answer(&line) > 0);
        }
        assert!(shown > ROUNDS / 100 && shown < ROUNDS, "{shown} of {ROUNDS} were shown");
    }

    fn damage(line: &mut Vec<u8>, random: &mut ChaCha8Rng) {
        let at = random.random_range(0..=line.len());
        let end = line.len().min(at + random.random_range(0..8));
        match random.random_range(0..6) {
            0 if at < line.len() => line[at] ^= 1 << random.random_range(0..8),
            1 if at < line.len() => line[at] = random.random_range(b'0'..=b'9'),
            2 => line.insert(at, b"{}[]\",:0129.eE-\\u/ "[random.random_range(0..19)]),
            3 => drop(line.drain(at..end)),
            4 => line.extend_from_within(at..end),
            _ => enlarge_a_number(line, at),
        }
    }

    /// Makes the next number the greatest that there is.
    fn enlarge_a_number(line: &mut Vec<u8>, from: usize) {
        let Some(start) = line[from..].iter().position(u8::is_ascii_digit) else { return };
        let digits = line[from + start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = from + start..from + start + digits;
        line.splice(number, u64::MAX.to_string().into_bytes());
    }

    #[test]
    fn answers_that_once_failed_are_shown_or_refused() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/regressions/answer");
        let mut files: Vec<_> =
            std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty());
        for file in files {
            // A failure is told from the last name printed.
            println!("{}", file.display());
            fuzz_answer(&std::fs::read(&file).unwrap());
        }
    }
}
