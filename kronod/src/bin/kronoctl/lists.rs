//! Sessions, owners and reasons for people.

use kronod::control::protocol::{Owners, Session, Sessions};

use crate::table::{Align, Table, span};

/// The width that lists are made for, columns.
const WIDTH: usize = 100;

pub(crate) fn sessions(found: &Sessions) -> String {
    let mut table = Table::new(&[
        ("shard", Align::Right),
        ("proto", Align::Left),
        ("inside", Align::Left),
        ("outside", Align::Left),
        ("remote", Align::Left),
        ("state", Align::Left),
        ("expires", Align::Right),
    ]);
    for session in &found.sessions {
        table.row([
            session.shard.to_string(),
            session.protocol.0.to_string(),
            session.inside.to_string(),
            session.outside.to_string(),
            session.remote.map_or("-".to_owned(), |remote| remote.to_string()),
            session.state.clone(),
            expiry(session),
        ]);
    }
    let mut text = if found.sessions.is_empty() { String::new() } else { table.render("") };
    text += &match found.sessions.len() {
        1 => "1 session".to_owned(),
        count => format!("{count} sessions"),
    };
    if let Some(cursor) = found.cursor {
        text += &format!("; there may be more: --cursor {}", cursor.0);
    }
    text + "\n"
}

fn expiry(session: &Session) -> String {
    match session.expires_in_ms {
        _ if session.is_static => "static".to_owned(),
        Some(ms) => span(ms.div_ceil(1000)),
        None => "never".to_owned(),
    }
}

pub(crate) fn owners(found: &Owners) -> String {
    let line = |owner: &kronod::control::protocol::Owner| {
        let (outside, protocol) = (found.outside, owner.protocol.0);
        format!("{outside}/{protocol} belongs to {} in shard {}\n", owner.inside, owner.shard)
    };
    found.owners.iter().map(line).collect()
}

pub(crate) fn reasons<'r>(each: impl Iterator<Item = (&'r str, &'r str)>) -> String {
    each.map(|(name, sentence)| {
        let indent = " ".repeat(NAME_WIDTH + 2);
        let lines = wrapped(sentence, WIDTH - indent.len());
        format!("{name:<NAME_WIDTH$}  {}\n", lines.join(&format!("\n{indent}")))
    })
    .collect()
}

/// The room for the name of a reason, columns.
pub(crate) const NAME_WIDTH: usize = 27;

/// A text in lines of at most `width` columns, broken between words.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use krono_core::drop::DropReason;

    #[test]
    fn every_reason_fits_its_column_and_the_page() {
        assert!(DropReason::ALL.iter().all(|reason| reason.name().len() <= NAME_WIDTH));
        let text = reasons(DropReason::ALL.iter().map(|r| (r.name(), r.describe())));
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        for reason in DropReason::ALL {
            assert_eq!(wrapped(reason.describe(), 40).join(" "), reason.describe());
        }
    }
}
