//! What BIRD says on its control socket.
//!
//! A reply is lines, each with a code of four digits, of which the last has a space behind it and
//! the others a hyphen; a line that begins with a space has the code of the one before. Codes from
//! 8000 on are refusals (doc/reply_codes of BIRD's sources). Lines that begin with `+` come of
//! themselves and are nobody's reply.

/// The longest line, bytes: BIRD's own are hardly longer than a screen is wide.
const LINE_MAX: usize = 4096;

/// The longest text of a line that is shown to people, characters.
const SHOWN_MAX: usize = 300;

/// Codes from here on say that something was not done.
const REFUSED: u16 = 8000;

/// A row of `show protocols`.
const PROTOCOL: u16 = 1002;

/// No row of `show protocols`.
pub(super) const NO_PROTOCOL: u16 = 8003;

/// A whole reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reply {
    lines: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    code: u16,
    text: String,
}

/// What does not look like BIRD's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a line of BIRD's")]
pub(super) struct Strange(String);

/// A protocol as `show protocols` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Protocol<'r> {
    pub(super) name: &'r str,
    /// Such as `up`, `start` or `down`.
    pub(super) state: &'r str,
}

impl Reply {
    /// Reads the reply that `bytes` begin with: it, and how many bytes it has. `None` if its end
    /// has not come.
    ///
    /// # Errors
    /// If a line is not of a reply.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<(Reply, usize)>, Strange> {
        let mut reply = Reply::default();
        let mut at = 0;
        while let Some(length) = bytes[at..].iter().position(|byte| *byte == b'\n') {
            let line = &bytes[at..at + length];
            at += length + 1;
            if reply.add(line)? {
                return Ok(Some((reply, at)));
            }
        }
        match &bytes[at..] {
            rest if rest.len() > LINE_MAX => Err(Strange(shown(rest))),
            _ => Ok(None),
        }
    }

    /// Adds a line; whether it is the last.
    fn add(&mut self, line: &[u8]) -> Result<bool, Strange> {
        let strange = || Strange(shown(line));
        if line.len() > LINE_MAX {
            return Err(strange());
        }
        let (code, is_last, text) = match line {
            [b'+', ..] => return Ok(false),
            [b' ', text @ ..] => (self.lines.last().ok_or_else(strange)?.code, false, text),
            [a, b, c, d, mark @ (b' ' | b'-'), text @ ..] => {
                let digits = [a, b, c, d];
                if !digits.iter().all(|byte| byte.is_ascii_digit()) {
                    return Err(strange());
                }
                let code = digits.iter().fold(0, |code, byte| code * 10 + u16::from(**byte - b'0'));
                (code, *mark == b' ', text)
            }
            _ => return Err(strange()),
        };
        self.lines.push(Line { code, text: shown(text) });
        Ok(is_last)
    }

    /// The code of the last line.
    pub(super) fn code(&self) -> u16 {
        self.lines.last().map_or(0, |line| line.code)
    }

    /// Whether it was done; else what BIRD says about that.
    pub(super) fn outcome(&self) -> Result<(), &str> {
        match self.lines.last() {
            Some(line) if line.code >= REFUSED => Err(&line.text),
            _ => Ok(()),
        }
    }

    /// The rows of `show protocols`.
    pub(super) fn protocols(&self) -> impl Iterator<Item = Protocol<'_>> {
        self.lines.iter().filter(|line| line.code == PROTOCOL).filter_map(|line| {
            // Name, kind, table, state; then since when, and more.
            let mut words = line.text.split_whitespace();
            Some(Protocol { name: words.next()?, state: words.nth(2)? })
        })
    }
}

/// Text of BIRD's as it may stand in a log: a line without control characters, not too long.
fn shown(text: &[u8]) -> String {
    let head = &text[..text.len().min(4 * SHOWN_MAX)];
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    String::from_utf8_lossy(head).chars().take(SHOWN_MAX).map(clean).collect()
}

/// The body of a fuzz target: any bytes are refused in a line that can be shown, are not whole yet,
/// or begin with a reply that is whole with its last byte and not before.
///
/// # Panics
/// If that does not hold.
pub fn fuzz_bird_reply(bytes: &[u8]) {
    let is_shown = |text: &str| !text.chars().any(char::is_control);
    match Reply::read(bytes) {
        Ok(None) => {}
        Ok(Some((reply, length))) => {
            assert_eq!(Reply::read(&bytes[..length]), Ok(Some((reply.clone(), length))));
            assert_eq!(Reply::read(&bytes[..length - 1]), Ok(None));
            assert!(reply.lines.iter().all(|line| is_shown(&line.text)), "{reply:?}");
            assert_eq!(reply.outcome().is_err(), reply.code() >= REFUSED, "{reply:?}");
            let is_row = |row: Protocol<'_>| !row.name.is_empty() && !row.state.is_empty();
            assert!(reply.protocols().all(is_row), "{reply:?}");
        }
        Err(strange) => assert!(is_shown(&strange.to_string()), "{strange}"),
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const ROUNDS: usize = 20_000;

    /// As BIRD 2.0.12 sent them.
    const REPLIES: [&str; 5] = [
        include_str!("../../tests/data/bird/configured.txt"),
        include_str!("../../tests/data/bird/greeting.txt"),
        include_str!("../../tests/data/bird/no-protocols.txt"),
        include_str!("../../tests/data/bird/protocols.txt"),
        include_str!("../../tests/data/bird/refused.txt"),
    ];

    fn whole(text: &str) -> Reply {
        let (reply, length) = Reply::read(text.as_bytes()).unwrap().expect("it is whole");
        assert_eq!(length, text.len());
        reply
    }

    #[test]
    fn what_bird_says_is_understood() {
        let [configured, greeting, none, protocols, refused] = REPLIES.map(whole);
        assert_eq!((greeting.code(), greeting.outcome()), (1, Ok(())));
        assert_eq!((configured.code(), configured.outcome()), (3, Ok(())));
        assert_eq!((none.code(), none.outcome()), (NO_PROTOCOL, Err("No protocols match")));
        let why = "bird.conf:1:1 syntax error, unexpected CF_SYM_UNDEFINED";
        assert_eq!(refused.outcome(), Err(why));
        let rows: Vec<_> = protocols.protocols().map(|row| (row.name, row.state)).collect();
        assert_eq!(rows, [("krono_shard_0_outside", "up"), ("krono_shard_0_inside", "down")]);
        assert_eq!(protocols.outcome(), Ok(()));
    }

    #[test]
    fn two_replies_are_told_apart_and_what_comes_of_itself_is_left_out() {
        let text = "+a log line\n0002-Reading\n+another\n0003 Reconfigured\n0000 \n";
        let (reply, length) = Reply::read(text.as_bytes()).unwrap().unwrap();
        assert_eq!(reply.lines.len(), 2);
        assert_eq!(whole(&text[length..]).code(), 0);
    }

    #[test]
    fn what_is_not_birds_is_refused() {
        for line in
            ["\n", "HTTP/1.1 200 OK\n", " row without a code\n", "12a4 x\n", "0001\n", "0001x\n"]
        {
            assert!(Reply::read(line.as_bytes()).is_err(), "{line:?}");
        }
        let endless = vec![b'0'; LINE_MAX + 1];
        assert!(Reply::read(&endless).is_err());
        assert_eq!(Reply::read(&endless[1..]), Ok(None));
        let long = [b"0001 ", &endless[..], b"\n"].concat();
        assert!(Reply::read(&long).is_err(), "a long line that has come at once");
        let strange = Reply::read(b"\x1b[2J\xff\r\n").unwrap_err().to_string();
        assert!(!strange.chars().any(char::is_control), "{strange:?}");
        assert!(Reply::read(&[b'x'; LINE_MAX + 1]).unwrap_err().to_string().chars().count() < 400);
    }

    #[test]
    fn damaged_replies_are_refused_or_understood() {
        let seed: u64 = rand::random();
        println!("seed {seed}");
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        for _ in 0..ROUNDS {
            let mut bytes = REPLIES[random.random_range(0..REPLIES.len())].as_bytes().to_vec();
            for _ in 0..random.random_range(1..4) {
                damage(&mut bytes, &mut random);
            }
            fuzz_bird_reply(&bytes);
        }
    }

    fn damage(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
        let at = random.random_range(0..=bytes.len());
        let end = bytes.len().min(at + random.random_range(0..8));
        match random.random_range(0..5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = b"\n -+09"[random.random_range(0..6)],
            2 => bytes.insert(at, random.random_range(0..=u8::MAX)),
            3 => drop(bytes.drain(at..end)),
            _ => bytes.extend_from_within(at..end),
        }
    }
}
