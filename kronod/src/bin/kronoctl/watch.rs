//! `stats --watch`: what happened in the last second, again and again.

use std::thread;
use std::time::{Duration, Instant};

use kronod::control::Client;
use kronod::control::protocol::{Request, ShardStats, Stats};

use crate::table::{Align, Table, count, short};
use crate::{is_watched, print, understood};

const INTERVAL: Duration = Duration::from_secs(1);

/// Clears the screen and goes to its beginning (ECMA-48: ED, CUP).
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Prints until kronod goes away.
pub(crate) fn run(client: &mut Client, json: bool) -> anyhow::Result<()> {
    let mut before: Option<(Instant, Stats)> = None;
    loop {
        let answer = client.ask(&Request::Stats)?;
        let at = Instant::now();
        if json {
            print(&format!("{answer}\n"))?;
        } else {
            let now: Stats = understood(&answer)?;
            if let Some((then, before)) = &before {
                let text = rates(before, &now, (at - *then).as_secs_f64());
                print(&if is_watched() { format!("{CLEAR}{text}") } else { text + "\n" })?;
            }
            before = Some((at, now));
        }
        thread::sleep(INTERVAL);
    }
}

/// What changed from one moment to the next.
fn rates(before: &Stats, now: &Stats, seconds: f64) -> String {
    let mut table = Table::new(&[
        ("shard", Align::Right),
        ("state", Align::Left),
        ("side", Align::Left),
        ("rx packet/s", Align::Right),
        ("rx bit/s", Align::Right),
        ("tx packet/s", Align::Right),
        ("tx bit/s", Align::Right),
        ("cycles/packet", Align::Right),
        ("sessions", Align::Right),
    ]);
    let mut reasons = Table::new(&[
        ("shard", Align::Right),
        ("drop/s", Align::Right),
        ("dropped", Align::Right),
        ("reason", Align::Left),
    ]);
    for shard in &now.shards {
        let Some(before) = before
            .shards
            .iter()
            .find(|before| (before.id, before.lcore) == (shard.id, shard.lcore))
        else {
            continue;
        };
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let sides = [(&before.inside, &shard.inside), (&before.outside, &shard.outside)];
        for (name, (before_side, side)) in ["inside", "outside"].into_iter().zip(sides) {
            table.row([
                shard.id.to_string(),
                shard.state.name().to_owned(),
                name.to_owned(),
                short(rate(side.rx_packets, before_side.rx_packets)),
                short(8.0 * rate(side.rx_bytes, before_side.rx_bytes)),
                short(rate(side.tx_packets, before_side.tx_packets)),
                short(8.0 * rate(side.tx_bytes, before_side.tx_bytes)),
                cycles_per_packet(before, shard),
                count(shard.counters.get("sessions").copied().unwrap_or(0)),
            ]);
        }
        for (reason, n) in &shard.drops {
            let new = rate(*n, before.drops.get(reason).copied().unwrap_or(0));
            if new > 0.0 {
                reasons.row([shard.id.to_string(), short(new), count(*n), reason.clone()]);
            }
        }
    }
    table.render("") + "\n" + &reasons.render("")
}

/// What a frame took on average in between.
fn cycles_per_packet(before: &ShardStats, now: &ShardStats) -> String {
    let cycles = |stats: &ShardStats| stats.counters.get("busy_cycles").copied().unwrap_or(0);
    let packets = now.received.saturating_sub(before.received);
    if packets == 0 {
        return "-".to_owned();
    }
    format!("{:.0}", cycles(now).saturating_sub(cycles(before)) as f64 / packets as f64)
}
