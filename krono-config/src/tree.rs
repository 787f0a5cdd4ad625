//! YAML as a tree whose nodes know their lines.
//!
//! Only the plain part of YAML is taken: one document of mappings with scalar keys, lists and
//! scalars. Anchors, aliases and tags are mistakes, so that no small file can unfold into a large
//! one and every value stands where it is used.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle};

use crate::mistake::{Place, Report, Wrong, shown};

/// How deep mappings and lists may be nested.
const DEPTH_MAX: usize = 16;

/// A value and the line where it begins.
#[derive(Debug)]
pub struct Node {
    /// Counted from 1.
    pub line: u32,
    /// What stands there.
    pub value: Value,
}

/// What stands somewhere.
#[derive(Debug)]
pub enum Value {
    /// Nothing is written, or `null`, or `~`.
    Nothing,
    /// A single value as it is written, without quotes.
    Scalar(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping.
    Map(Vec<Entry>),
    /// Something that has been reported as a mistake.
    Unusable,
}

/// A key of a mapping with its value. The keys of a mapping are distinct.
#[derive(Debug)]
pub struct Entry {
    /// The key as it is written, without quotes.
    pub key: String,
    /// The line of the key.
    pub line: u32,
    /// The value.
    pub node: Node,
}

/// Reads `text`; `None` after a mistake that leaves nothing to look at.
pub fn read(text: &str, report: &mut Report) -> Option<Node> {
    let lines = u32::try_from(text.lines().count()).unwrap_or(u32::MAX).max(1);
    let mut builder = Builder { open: Vec::new(), root: None, lines, report };
    let mut parser = Parser::new_from_str(text);
    loop {
        match parser.next_event()? {
            Ok((Event::StreamEnd, _)) => return builder.finish(),
            Ok((event, span)) => {
                let line = builder.line(span.start.line());
                builder.take(event, line)?;
            }
            Err(error) => {
                let line = builder.line(error.marker().line());
                builder.refuse(line, Wrong::new(shown(error.info()), "well-formed YAML"));
                return None;
            }
        }
    }
}

/// A mapping or list that has not ended yet.
enum Open {
    List {
        line: u32,
        nodes: Vec<Node>,
    },
    Map {
        line: u32,
        entries: Vec<Entry>,
        lines: HashMap<String, u32>,
        key: Option<Key>,
    },
    /// One that stands as a key.
    Ignored,
}

/// A key whose value comes next.
struct Key {
    text: String,
    line: u32,
    /// A duplicate, or no scalar: its value is not kept.
    ignored: bool,
}

struct Builder<'a> {
    open: Vec<Open>,
    root: Option<Node>,
    lines: u32,
    report: &'a mut Report,
}

impl Builder<'_> {
    /// A line within the file: the parser's end of file lies behind the last one.
    fn line(&self, line: usize) -> u32 {
        u32::try_from(line).unwrap_or(u32::MAX).clamp(1, self.lines)
    }

    /// Takes one event; `None` when nothing behind it counts.
    fn take(&mut self, event: Event<'_>, line: u32) -> Option<()> {
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                let wrong = Wrong::new("a second document begins", "one document in the file");
                self.refuse(line, wrong);
                return None;
            }
            Event::Alias(_) => {
                self.refuse_here(line, "an alias", "the value itself");
                self.place(Node { line, value: Value::Unusable });
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_decoration(line, anchor, tag.is_some());
                self.scalar(text.into_owned(), style, line);
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_decoration(line, anchor, tag.is_some());
                self.begin(Open::List { line, nodes: Vec::new() }, line)?;
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_decoration(line, anchor, tag.is_some());
                let lines = HashMap::new();
                self.begin(Open::Map { line, entries: Vec::new(), lines, key: None }, line)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(line),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => {}
        }
        Some(())
    }

    fn scalar(&mut self, text: String, style: ScalarStyle, line: u32) {
        if let Some(Open::Map { lines, key: key @ None, .. }) = self.open.last_mut() {
            let first = lines.get(&text).copied();
            lines.entry(text.clone()).or_insert(line);
            *key = Some(Key { text, line, ignored: first.is_some() });
            if let Some(first) = first {
                let what = format!("the key is there already, in line {first}");
                let place = Place { line, path: self.path() };
                self.report.mistake(&place, Wrong::new(what, "each key once"));
            }
            return;
        }
        let nothing = style == ScalarStyle::Plain && matches!(text.as_str(), "" | "~" | "null");
        let value = if nothing { Value::Nothing } else { Value::Scalar(text) };
        self.place(Node { line, value });
    }

    /// Begins a mapping or list; `None` if it is too deep, since what follows is no better.
    fn begin(&mut self, open: Open, line: u32) -> Option<()> {
        if self.open.len() == DEPTH_MAX {
            let expected = format!("at most {DEPTH_MAX} levels");
            self.refuse(line, Wrong::new("mappings and lists are nested too deeply", expected));
            return None;
        }
        let is_key = matches!(self.open.last(), Some(Open::Map { key: None, .. }));
        if is_key {
            self.refuse_here(line, "a mapping or list as a key", "a name");
        }
        self.open.push(if is_key { Open::Ignored } else { open });
        Some(())
    }

    fn end(&mut self, line: u32) {
        let node = match self.open.pop() {
            Some(Open::List { line, nodes }) => Node { line, value: Value::List(nodes) },
            Some(Open::Map { line, entries, .. }) => Node { line, value: Value::Map(entries) },
            Some(Open::Ignored) | None => Node { line, value: Value::Unusable },
        };
        self.place(node);
    }

    /// Puts a complete node where it belongs.
    fn place(&mut self, node: Node) {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { nodes, .. }) => nodes.push(node),
            Some(Open::Map { entries, key, .. }) => match key.take() {
                Some(Key { ignored: true, .. }) => {}
                Some(Key { text, line, .. }) => entries.push(Entry { key: text, line, node }),
                None => *key = Some(Key { text: String::new(), line: node.line, ignored: true }),
            },
            Some(Open::Ignored) => {}
        }
    }

    fn is_ignored(&self) -> bool {
        self.open.iter().any(|open| matches!(open, Open::Ignored))
    }

    fn refuse_decoration(&mut self, line: u32, anchor: usize, tagged: bool) {
        if anchor != 0 {
            self.refuse_here(line, "an anchor", "the value alone");
        } else if tagged {
            self.refuse_here(line, "a tag", "the value alone");
        }
    }

    /// Refuses a part of YAML that configurations do without.
    fn refuse_here(&mut self, line: u32, what: &str, expected: &str) {
        if !self.is_ignored() {
            let place = Place { line, path: self.path() };
            let what = format!("{what} is not supported");
            self.report.mistake(&place, Wrong::new(what, expected));
        }
    }

    /// Refuses the file as a whole.
    fn refuse(&mut self, line: u32, wrong: Wrong) {
        self.report.mistake(&Place { line, path: String::new() }, wrong);
    }

    /// The path of the node that comes next.
    fn path(&self) -> String {
        let mut place = Place { line: 0, path: String::new() };
        for open in &self.open {
            place = match open {
                Open::List { nodes, .. } => place.index(nodes.len(), 0),
                Open::Map { key: Some(key), .. } => place.key(&key.text, 0),
                Open::Map { key: None, .. } | Open::Ignored => place,
            };
        }
        place.path
    }

    fn finish(self) -> Option<Node> {
        Some(self.root.unwrap_or(Node { line: 1, value: Value::Nothing }))
    }
}
