//! Takes values out of the tree, noting what is wrong with them on the way.

use crate::mistake::{Place, Report, Wrong, shown};
use crate::tree::{Entry, Node, Value};

/// A value and where it stands; a default stands where it is missing.
#[derive(Clone, Debug)]
pub struct Marked<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub place: Place,
}

/// What an optional key says.
#[derive(Clone, Debug)]
pub enum Given<T> {
    /// Nothing.
    Absent,
    /// Something wrong, which has been reported: nothing else is to be said about it.
    Mistaken,
    /// This.
    Valid(T),
}

impl<T> Given<T> {
    /// This, or if it is absent what somebody else says.
    pub fn or(self, other: Given<T>) -> Given<T> {
        if let Given::Absent = self { other } else { self }
    }

    /// The value, or if there is none the default; nothing after a mistake.
    pub fn unwrap_or_else(self, default: impl FnOnce() -> T) -> Option<T> {
        match self {
            Given::Absent => Some(default()),
            Given::Mistaken => None,
            Given::Valid(value) => Some(value),
        }
    }

    /// The value, if there is one.
    pub fn ok(self) -> Option<T> {
        if let Given::Valid(value) = self { Some(value) } else { None }
    }
}

/// The items of a list that are right.
#[derive(Clone, Debug)]
pub struct List<T> {
    /// Those that are right.
    pub items: Vec<T>,
    /// Whether that is all of them, so that what is not among them is not there.
    pub complete: bool,
}

impl<T> List<T> {
    /// A list of nothing.
    pub fn empty() -> List<T> {
        List { items: Vec::new(), complete: true }
    }

    /// A list of which nothing is known.
    pub fn mistaken() -> List<T> {
        List { items: Vec::new(), complete: false }
    }

    /// The items, if none was mistaken.
    pub fn all(self) -> Option<Vec<T>> {
        self.complete.then_some(self.items)
    }
}

/// A mapping whose keys are known ones.
#[derive(Debug)]
pub struct Map<'n> {
    /// Where it stands.
    pub place: Place,
    entries: &'n [Entry],
    /// Keys that seem to be there under a misspelled name: they are not reported as missing.
    misspelled: Vec<&'static str>,
}

impl<'n> Map<'n> {
    /// The mapping at `place`; unknown keys are mistakes.
    pub fn open(
        node: &'n Node,
        place: Place,
        keys: &[&'static str],
        report: &mut Report,
    ) -> Option<Map<'n>> {
        let expected = || format!("a mapping with keys of {}", keys.join(", "));
        match &node.value {
            Value::Map(entries) => {
                let misspelled = unknown_keys(entries, &place, keys, report);
                Some(Map { place, entries, misspelled })
            }
            Value::Unusable => None,
            Value::Nothing => {
                report.mistake(&place, Wrong::new("empty", expected()));
                None
            }
            Value::Scalar(_) | Value::List(_) => {
                report.mistake(&place, Wrong::new("not a mapping", expected()));
                None
            }
        }
    }

    /// Whether nothing stands in it, unknown keys included.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The mapping under `key`, which may be left out.
    pub fn section(
        &self,
        key: &'static str,
        keys: &[&'static str],
        report: &mut Report,
    ) -> Option<Map<'n>> {
        let Some((node, place)) = self.node(key) else {
            let place = self.place.key(key, self.place.line);
            return Some(Map { place, entries: &[], misspelled: Vec::new() });
        };
        Map::open(node, place, keys, report)
    }

    /// The mapping under `key`, which must be there.
    pub fn required_section(
        &self,
        key: &'static str,
        keys: &[&'static str],
        report: &mut Report,
    ) -> Option<Map<'n>> {
        if self.node(key).is_none() {
            self.missing(key, format!("a mapping with keys of {}", keys.join(", ")), report);
            return None;
        }
        self.section(key, keys, report)
    }

    /// The scalar under `key`.
    pub fn optional<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, Wrong>,
        report: &mut Report,
    ) -> Given<Marked<T>> {
        match self.node(key) {
            None => Given::Absent,
            Some((node, place)) => match scalar(node, place, parse, report) {
                Some(value) => Given::Valid(value),
                None => Given::Mistaken,
            },
        }
    }

    /// The scalar under `key`, which must be there.
    pub fn required<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, Wrong>,
        report: &mut Report,
    ) -> Option<Marked<T>> {
        let given = self.optional(key, &parse, report);
        if let Given::Absent = given {
            self.missing(key, expectation(parse), report);
        }
        given.ok()
    }

    /// The scalar under `key`, or the default.
    pub fn or<T>(
        &self,
        key: &'static str,
        default: T,
        parse: impl Fn(&str) -> Result<T, Wrong>,
        report: &mut Report,
    ) -> Option<Marked<T>> {
        self.optional(key, parse, report).unwrap_or_else(|| self.default(key, default))
    }

    /// A default in the place where `key` is missing.
    pub fn default<T>(&self, key: &str, value: T) -> Marked<T> {
        Marked { value, place: self.place.key(key, self.place.line) }
    }

    /// The list under `key`, its items read by `read`.
    pub fn list<T>(
        &self,
        key: &'static str,
        len_max: usize,
        report: &mut Report,
        mut read: impl FnMut(&'n Node, Place, &mut Report) -> Option<T>,
    ) -> Given<List<T>> {
        let Some((node, place)) = self.node(key) else { return Given::Absent };
        let nodes = match &node.value {
            Value::List(nodes) if nodes.len() <= len_max => nodes,
            Value::List(nodes) => {
                let what = format!("the list has {} items", nodes.len());
                report.mistake(&place, Wrong::new(what, format!("at most {len_max} items")));
                return Given::Mistaken;
            }
            Value::Unusable => return Given::Mistaken,
            Value::Nothing | Value::Scalar(_) | Value::Map(_) => {
                let expected = "a list, such as [ a, b ] or one item a line behind dashes";
                report.mistake(&place, Wrong::new("not a list", expected));
                return Given::Mistaken;
            }
        };
        let items: Vec<T> = nodes
            .iter()
            .enumerate()
            .filter_map(|(index, node)| read(node, place.index(index, node.line), report))
            .collect();
        let complete = items.len() == nodes.len();
        Given::Valid(List { items, complete })
    }

    /// The list under `key`, which must be there and must not be empty.
    pub fn required_list<T>(
        &self,
        key: &'static str,
        len_max: usize,
        report: &mut Report,
        read: impl FnMut(&'n Node, Place, &mut Report) -> Option<T>,
    ) -> List<T> {
        let expected = format!("a list of 1 to {len_max} items");
        match self.list(key, len_max, report, read) {
            Given::Valid(list) if !list.items.is_empty() || !list.complete => return list,
            Given::Mistaken => {}
            Given::Absent => self.missing(key, expected, report),
            Given::Valid(_) => {
                if let Some((_, place)) = self.node(key) {
                    report.mistake(&place, Wrong::new("the list is empty", expected));
                }
            }
        }
        List::mistaken()
    }

    /// Reports that a key which must be there is not.
    fn missing(&self, key: &'static str, expected: String, report: &mut Report) {
        if !self.misspelled.contains(&key) {
            let place = self.place.key(key, self.place.line);
            report.mistake(&place, Wrong::new("missing", expected));
        }
    }

    /// What `key` says and where, of whatever shape; nothing if it has no value.
    pub fn node(&self, key: &str) -> Option<(&'n Node, Place)> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        let line = match entry.node.value {
            Value::Nothing => return None,
            Value::Scalar(_) => entry.node.line,
            Value::List(_) | Value::Map(_) | Value::Unusable => entry.line,
        };
        Some((&entry.node, self.place.key(key, line)))
    }
}

/// The scalar of a node.
pub fn scalar<T>(
    node: &Node,
    place: Place,
    parse: impl Fn(&str) -> Result<T, Wrong>,
    report: &mut Report,
) -> Option<Marked<T>> {
    let what = match &node.value {
        Value::Scalar(text) => {
            let value = report.check(&place, parse(text))?;
            return Some(Marked { value, place });
        }
        Value::Unusable => return None,
        Value::Nothing => "empty",
        Value::List(_) => "a list, not a single value",
        Value::Map(_) => "a mapping, not a single value",
    };
    report.mistake(&place, Wrong::new(what, expectation(parse)));
    None
}

/// What a parser expects: what it says about an empty text, which none of them takes.
fn expectation<T>(parse: impl Fn(&str) -> Result<T, Wrong>) -> String {
    parse("").err().map_or_else(|| "a value".to_owned(), |wrong| wrong.expected)
}

/// Reports the keys that are not in `keys`, and returns those that seem to be meant.
fn unknown_keys(
    entries: &[Entry],
    place: &Place,
    keys: &[&'static str],
    report: &mut Report,
) -> Vec<&'static str> {
    let mut meant = Vec::new();
    for entry in entries.iter().filter(|entry| !keys.contains(&entry.key.as_str())) {
        let nearest = nearest(&entry.key, keys);
        let expected = match nearest {
            Some(name) => format!("{name}, which is the nearest name"),
            None => format!("one of {}", keys.join(", ")),
        };
        meant.extend(nearest);
        let what = format!("{} is not a key here", shown(&entry.key));
        report.mistake(&place.key(&entry.key, entry.line), Wrong::new(what, expected));
    }
    meant
}

/// The name that `word` may be a misspelling of: at most a third of its letters differ.
fn nearest(word: &str, names: &[&'static str]) -> Option<&'static str> {
    let letters = word.len();
    let distances = names.iter().map(|name| (distance(word, name), *name));
    let (distance, name) = distances.min()?;
    (distance <= (letters.max(name.len()) / 3).max(1)).then_some(name)
}

/// Letters to insert, delete or replace in order to make one word of the other (Levenshtein).
fn distance(word: &str, name: &str) -> usize {
    const LEN_MAX: usize = 64;
    if word.len() > LEN_MAX {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=name.len()).collect();
    for (i, a) in word.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in name.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[name.len()]
}
