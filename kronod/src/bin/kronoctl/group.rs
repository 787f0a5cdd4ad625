//! A shard whose state is on several cores, for people.

use kronod::control::protocol::{Group, GroupCore, GroupRow};

use crate::table::{Align, Table, count, span};

pub(crate) fn group(group: &Group) -> String {
    let mut text = format!("Shard {}", group.shard);
    text += &match (group.last, group.epoch) {
        (Some(last), Some(epoch)) => format!(
            ", packet {}; {} since its start\n\n",
            count(last),
            match epoch {
                0 => "no core has joined or left".to_owned(),
                1 => "a core has joined or left once".to_owned(),
                more => format!("cores have joined or left {more} times"),
            }
        ),
        _ => ", whose packets come sequenced\n\n".to_owned(),
    };
    let mut cores =
        Table::new(&[("core", Align::Right), ("lcore", Align::Right), ("packets", Align::Left)]);
    for core in &group.cores {
        cores.row([core.core.to_string(), core.lcore.to_string(), share(core).to_owned()]);
    }
    text += &cores.render("");
    text += "\n";
    text + &rows(&group.rows) + if group.complete { "" } else { "There is more: --limit N\n" }
}

fn share(core: &GroupCore) -> &'static str {
    match (core.active, core.wanted) {
        (Some(true), _) => "gets its share",
        (Some(false), Some(true)) => "left out until it takes some",
        (Some(false), _) => "gets none",
        (None, _) => "as others send them",
    }
}

fn rows(rows: &[GroupRow]) -> String {
    let mut table = match rows.first() {
        None => return "Nothing to list.\n".to_owned(),
        Some(GroupRow::Blocked { .. }) => Table::new(&[
            ("blocked source", Align::Left),
            ("packets", Align::Right),
            ("free after others'", Align::Right),
        ]),
        Some(GroupRow::Heavy { .. }) => Table::new(&[
            ("proto", Align::Left),
            ("source", Align::Left),
            ("destination", Align::Left),
            ("bytes", Align::Right),
        ]),
        Some(GroupRow::Bucket { .. }) => Table::new(&[
            ("proto", Align::Left),
            ("source", Align::Left),
            ("destination", Align::Left),
            ("tokens", Align::Right),
            ("dropped", Align::Right),
        ]),
        Some(GroupRow::Knocker { .. }) => {
            Table::new(&[("source", Align::Left), ("protected ports", Align::Left)])
        }
        Some(GroupRow::Connection { .. }) => Table::new(&[
            ("originator", Align::Left),
            ("responder", Align::Left),
            ("state", Align::Left),
            ("expires", Align::Right),
        ]),
    };
    for row in rows {
        table.row(cells(row));
    }
    table.render("")
}

fn cells(row: &GroupRow) -> Vec<String> {
    match row {
        GroupRow::Blocked { source, packets, free_in } => {
            vec![source.to_string(), count((*packets).into()), count((*free_in).into())]
        }
        GroupRow::Heavy { protocol, source, destination, bytes } => {
            vec![protocol.0.to_string(), source.to_string(), destination.to_string(), count(*bytes)]
        }
        GroupRow::Bucket { protocol, source, destination, tokens, dropped } => vec![
            protocol.0.to_string(),
            source.to_string(),
            destination.to_string(),
            count((*tokens).into()),
            count(*dropped),
        ],
        GroupRow::Knocker { source, knocks, .. } => vec![
            source.to_string(),
            match knocks {
                None => "open".to_owned(),
                Some(1) => "closed, knocked once".to_owned(),
                Some(knocks) => format!("closed, knocked {knocks} times"),
            },
        ],
        GroupRow::Connection { originator, responder, state, expires_in_ms } => vec![
            originator.to_string(),
            responder.to_string(),
            state.clone(),
            span(expires_in_ms.div_ceil(1000)),
        ],
    }
}
