//! Status and statistics for people.

use krono_core::drop::DropReason;
use kronod::control::protocol::{
    PortFigures, Role, ShardState, ShardStats, ShardStatus, Stats, Status,
};

use crate::lists::wrapped;
use crate::table::{Align, Table, count, memory, short, span};

pub(crate) fn status(status: &Status) -> String {
    let ready = if status.ready { "ready" } else { "starting" };
    let pages = if status.memory.hugepages { "huge pages" } else { "ordinary pages" };
    let mut text = format!(
        "kronod {}, {ready}, up {}, process {}\n",
        status.version,
        span(status.uptime_s),
        status.pid
    );
    text += &format!("configuration  {}\n", status.config_file);
    text += &format!(
        "memory         {} for buffers, {} for tables, in {pages}\n\n",
        memory(status.memory.buffers_bytes),
        memory(status.memory.tables_bytes)
    );
    let mut shards = Table::new(&[
        ("shard", Align::Right),
        ("lcore", Align::Right),
        ("part", Align::Left),
        ("state", Align::Left),
        ("sessions", Align::Right),
        ("of at most", Align::Right),
        ("mappings", Align::Right),
        ("subscribers", Align::Right),
    ]);
    for shard in &status.shards {
        shards.row([
            shard.id.to_string(),
            shard.lcore.to_string(),
            shard.role.to_string(),
            shard.state.name().to_owned(),
            count(shard.sessions),
            count(shard.sessions_max.into()),
            count(shard.mappings),
            count(shard.subscribers),
        ]);
    }
    let mut ports = Table::new(&[("port", Align::Left), ("device", Align::Left)]);
    for port in &status.ports {
        ports.row([port.name.clone(), port.device.clone()]);
    }
    text + &shards.render("") + &bfd(&status.shards) + "\n" + &ports.render("")
}

/// The BFD sessions of all shards, if there are any.
fn bfd(shards: &[ShardStatus]) -> String {
    let mut table = Table::new(&[
        ("shard", Align::Right),
        ("side", Align::Left),
        ("BFD with", Align::Left),
        ("state", Align::Left),
        ("since", Align::Right),
        ("sends", Align::Right),
        ("detects", Align::Right),
        ("ups", Align::Right),
        ("went down for", Align::Left),
    ]);
    let each = || shards.iter().flat_map(|shard| shard.bfd.iter().map(move |it| (shard.id, it)));
    for (shard, session) in each() {
        table.row([
            shard.to_string(),
            session.side.clone(),
            session.neighbour.to_string(),
            session.state.clone(),
            span(session.since_ms / 1000),
            milliseconds(session.transmit_us.into()),
            milliseconds(session.detection_us),
            count(session.ups.into()),
            session.diagnostic.clone(),
        ]);
    }
    if each().next().is_some() { format!("\n{}", table.render("")) } else { String::new() }
}

/// Microseconds as people configure them; `-` for 0.
fn milliseconds(us: u64) -> String {
    match us {
        0 => "-".to_owned(),
        us if us.is_multiple_of(1000) => format!("{}ms", us / 1000),
        us => format!("{}.{:03}ms", us / 1000, us % 1000),
    }
}

pub(crate) fn stats(stats: &Stats) -> String {
    stats.shards.iter().map(shard).collect::<String>() + &ports(&stats.ports)
}

fn shard(shard: &ShardStats) -> String {
    let figure = |name: &str| count(shard.counters.get(name).copied().unwrap_or(0));
    let part = if shard.role == Role::Worker { String::new() } else { format!(", {}", shard.role) };
    let ShardStats { id, lcore, state, .. } = shard;
    let mut text = format!("Shard {id}{part} on lcore {lcore}, {}", state.name());
    text += match shard.state {
        ShardState::Polling => "\n",
        ShardState::Hung => ": it does not answer; these figures may be a burst behind\n",
        ShardState::Stopped => ": these are its last figures\n",
    };
    text += &format!(
        "  received {} = sent {} + consumed {} + held {} + dropped {}\n",
        count(shard.received),
        figure("sent"),
        figure("consumed"),
        figure("held"),
        count(shard.drops.values().fold(0, |sum, n| sum.saturating_add(*n)))
    );
    text +=
        &format!("  originated {}, and {} lost\n", figure("originated"), figure("originated_lost"));
    text += &format!(
        "  sessions {} ({} opened), mappings {} ({} made), subscribers {}\n\n",
        figure("sessions"),
        figure("sessions_created"),
        figure("mappings"),
        figure("mappings_created"),
        figure("subscribers")
    );
    text + &sides(shard) + "\n" + &bursts(shard) + "\n" + &drops(shard) + "\n"
}

fn sides(shard: &ShardStats) -> String {
    let mut table = Table::new(&[
        ("side", Align::Left),
        ("rx packets", Align::Right),
        ("rx bytes", Align::Right),
        ("tx packets", Align::Right),
        ("tx bytes", Align::Right),
    ]);
    for (name, side) in [("inside", &shard.inside), ("outside", &shard.outside)] {
        let figures = [side.rx_packets, side.rx_bytes, side.tx_packets, side.tx_bytes];
        table.row(std::iter::once(name.to_owned()).chain(figures.map(count)));
    }
    table.render("  ")
}

fn bursts(shard: &ShardStats) -> String {
    let sizes = shard.bursts.iter().map(|class| match (class.size_min, class.size_max) {
        (min, max) if min == max => min.to_string(),
        (min, max) => format!("{min}-{max}"),
    });
    let sizes: Vec<String> = std::iter::once("burst size".to_owned()).chain(sizes).collect();
    let columns: Vec<_> = sizes.iter().map(|size| (size.as_str(), Align::Right)).collect();
    let mut table = Table::new(&columns);
    let counts = shard.bursts.iter().map(|class| short(class.count as f64));
    table.row(std::iter::once("bursts".to_owned()).chain(counts));

    let polls = shard.counters.get("polls").copied().unwrap_or(0);
    let busy = 100.0 * shard.busy_polls as f64 / polls.max(1) as f64;
    let cycles = shard.cycles_per_packet.map_or("-".to_owned(), |cycles| format!("{cycles:.0}"));
    table.render("  ") + &format!("  {cycles} cycles per packet, {busy:.1} % of polls busy\n")
}

/// The reasons that occurred, the most frequent first.
fn drops(shard: &ShardStats) -> String {
    let mut occurred: Vec<_> = shard.drops.iter().filter(|(_, count)| **count > 0).collect();
    occurred.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let others = shard.drops.len() - occurred.len();
    if occurred.is_empty() {
        return format!("  nothing dropped ({others} reasons: kronoctl reasons)\n");
    }
    let mut table =
        Table::new(&[("dropped", Align::Right), ("reason", Align::Left), ("", Align::Left)]);
    for (name, n) in occurred {
        let reason = DropReason::ALL.iter().find(|reason| reason.name() == name);
        let mut lines = wrapped(reason.map_or("", |reason| reason.describe()), 54).into_iter();
        table.row([count(*n), name.clone(), lines.next().unwrap_or_default()]);
        lines.for_each(|line| table.row([String::new(), String::new(), line]));
    }
    table.render("  ") + &format!("  {others} other reasons did not occur (kronoctl reasons)\n")
}

fn ports(ports: &[PortFigures]) -> String {
    let mut table = Table::new(&[
        ("port", Align::Left),
        ("rx packets", Align::Right),
        ("rx bytes", Align::Right),
        ("missed", Align::Right),
        ("no buffer", Align::Right),
        ("errors", Align::Right),
        ("tx packets", Align::Right),
        ("tx bytes", Align::Right),
        ("errors", Align::Right),
    ]);
    for port in ports {
        table.row([
            port.name.clone(),
            short(port.rx_packets as f64),
            short(port.rx_bytes as f64),
            short(port.rx_missed as f64),
            short(port.rx_no_buffer as f64),
            short(port.rx_errors as f64),
            short(port.tx_packets as f64),
            short(port.tx_bytes as f64),
            short(port.tx_errors as f64),
        ]);
    }
    table.render("")
}
