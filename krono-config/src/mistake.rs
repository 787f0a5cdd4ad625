//! What is wrong with a configuration, and where.

use std::collections::BTreeSet;
use std::fmt;

/// A place in the file: the line, and the path of keys and indices that leads there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Counted from 1.
    pub line: u32,
    /// For example `shards[0].nat.pool[1]`.
    pub path: String,
}

impl Place {
    /// The place of the value under `key`.
    pub fn key(&self, key: &str, line: u32) -> Place {
        let dot = if self.path.is_empty() { "" } else { "." };
        let key = if key.is_empty() { "\"\"" } else { &shown(key) };
        Place { line, path: format!("{}{dot}{key}", self.path) }
    }

    /// The place of the value at `index`.
    pub fn index(&self, index: usize, line: u32) -> Place {
        Place { line, path: format!("{}[{index}]", self.path) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (line {})", self.path, self.line)
    }
}

/// What is wrong with one value, without its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// For example `10.0.0.0/33 is not a prefix`.
    pub what: String,
    /// For example `an IPv4 prefix such as 198.51.100.0/28`.
    pub expected: String,
}

impl Wrong {
    /// What is wrong, and what would be right.
    pub fn new(what: impl Into<String>, expected: impl Into<String>) -> Wrong {
        Wrong { what: what.into(), expected: expected.into() }
    }
}

/// One mistake, or one warning: `LINE: field.path: what is wrong; expected …`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The line in the file, counted from 1.
    pub line: u32,
    /// The field, for example `shards[0].nat.pool[1]`.
    pub path: String,
    /// What is wrong with it.
    pub what: String,
    /// What would be right.
    pub expected: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { line, path, what, expected } = self;
        write!(f, "{line}: {path}: {what}; expected {expected}")
    }
}

/// What a configuration may have and yet be valid, such as a timeout below an RFC's minimum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The file.
    pub file: String,
    /// What is questionable in it.
    pub finding: Finding,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { line, path, what, expected } = &self.finding;
        write!(f, "{}:{line}: warning: {path}: {what}; expected {expected}", self.file)
    }
}

/// All mistakes of a configuration in the order of its lines; there is at least one.
///
/// Displayed with one line for each, warnings first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes {
    /// The file.
    pub file: String,
    /// What is wrong in it.
    pub list: Vec<Finding>,
    /// What else is questionable in it.
    pub warnings: Vec<Warning>,
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let warnings = self.warnings.iter().map(|warning| warning.to_string());
        let mistakes = self.list.iter().map(|mistake| format!("{}:{mistake}", self.file));
        f.write_str(&warnings.chain(mistakes).collect::<Vec<_>>().join("\n"))
    }
}

/// Collects findings while a file is read.
#[derive(Debug, Default)]
pub struct Report {
    mistakes: BTreeSet<Finding>,
    warnings: BTreeSet<Finding>,
}

impl Report {
    /// Notes a mistake. A value that several shards share is reported once.
    pub fn mistake(&mut self, place: &Place, wrong: Wrong) {
        self.mistakes.insert(finding(place, wrong));
    }

    /// Notes something questionable.
    pub fn warning(&mut self, place: &Place, wrong: Wrong) {
        self.warnings.insert(finding(place, wrong));
    }

    /// Notes the mistake of a result, if it is one.
    pub fn check<T>(&mut self, place: &Place, result: Result<T, Wrong>) -> Option<T> {
        result.map_err(|wrong| self.mistake(place, wrong)).ok()
    }

    /// Whether there is no mistake so far.
    pub fn is_clean(&self) -> bool {
        self.mistakes.is_empty()
    }

    /// `value` with the warnings about `file`, or its mistakes if there are any.
    pub fn conclude<T>(self, file: &str, value: Option<T>) -> Result<(T, Vec<Warning>), Mistakes> {
        let file = file.to_owned();
        let warning = |finding| Warning { file: file.clone(), finding };
        let warnings = self.warnings.into_iter().map(warning).collect();
        match value {
            Some(value) if self.mistakes.is_empty() => Ok((value, warnings)),
            _ => Err(Mistakes { file, list: self.mistakes.into_iter().collect(), warnings }),
        }
    }
}

fn finding(place: &Place, wrong: Wrong) -> Finding {
    let Wrong { what, expected } = wrong;
    // The file as a whole has no path.
    let path = if place.path.is_empty() { "yaml".to_owned() } else { place.path.clone() };
    Finding { line: place.line, path, what, expected }
}

/// Text from the file as it may stand in a message: one line, not too long.
pub fn shown(text: &str) -> String {
    const LEN_MAX: usize = 60;
    let clean = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    let mut shown: String = text.chars().take(LEN_MAX).map(clean).collect();
    if text.chars().nth(LEN_MAX).is_some() {
        shown.push('…');
    }
    shown
}
