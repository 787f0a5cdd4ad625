//! Halves of shards, for people; and orders to them.

use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kronod::control::Client;
use kronod::control::protocol::{Cluster, Half, Order, Request, ShardRequest};

use crate::args::{Cli, ShardOrder};
use crate::table::{Align, Table, count};
use crate::{connect, print, show, understood};

/// How often it is looked how far a drain is.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How long a drain is waited for; routes may take [`kronod::config::ClusterConfig::converge`].
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn cluster(cluster: &Cluster) -> String {
    let mut table = Table::new(&[
        ("shard", Align::Right),
        ("node", Align::Right),
        ("role", Align::Left),
        ("epoch", Align::Right),
        ("peer", Align::Right),
        ("heard", Align::Left),
        ("caught up", Align::Left),
        ("queued", Align::Right),
        ("lag", Align::Right),
        ("safe to fail over", Align::Left),
    ]);
    for half in &cluster.halves {
        table.row(cells(half));
    }
    table.render("")
}

fn cells(half: &Half) -> [String; 10] {
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    let role = match half.node == half.master {
        true => format!("{}, master", half.role),
        false => format!("{}, slave", half.role),
    };
    [
        half.shard.to_string(),
        half.node.to_string(),
        role,
        half.epoch.to_string(),
        half.peer.to_string(),
        yes(half.peer_heard),
        yes(half.caught_up),
        count(half.queued),
        format!("{} ms", count(half.lag_ms)),
        match &half.because {
            None => "yes".to_owned(),
            Some(why) => format!("no, because {why}"),
        },
    ]
}

/// Gives an order, and waits until a shard that is drained is served elsewhere.
pub(crate) fn order(cli: &Cli, order: &ShardOrder) -> Result<ExitCode> {
    let (shard, order, to, waits) = match *order {
        ShardOrder::Drain { shard, no_wait } => (shard, Order::Drain, None, !no_wait),
        ShardOrder::Move { shard, to, no_wait } => (shard, Order::Drain, Some(to), !no_wait),
        ShardOrder::Keep { shard } => (shard, Order::Keep, None, false),
        ShardOrder::Fence { shard } => (shard, Order::Fence, None, false),
    };
    let mut client = connect(cli)?;
    let answer = client.ask(&Request::Shard(ShardRequest { shard, order, to }))?;
    if waits {
        return wait(cli, &mut client, shard);
    }
    show(cli, &answer, |half: &Half| match order {
        Order::Drain => format!("shard {shard} drains to node {}\n", half.peer),
        Order::Keep => format!("shard {shard} stays on node {}\n", half.node),
        Order::Fence => format!("shard {shard} is node {}'s alone\n", half.node),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Waits until the other half serves and this one follows; says what it waits for.
fn wait(cli: &Cli, client: &mut Client, shard: u16) -> Result<ExitCode> {
    let (started, mut said) = (Instant::now(), String::new());
    loop {
        let cluster: Cluster = understood(&client.ask(&Request::Cluster)?)?;
        let half = cluster.halves.iter().find(|half| half.shard == shard);
        let half = half.with_context(|| format!("shard {shard} has no twin"))?;
        let state = match half.role.as_str() {
            "following" => break done(cli, half, started),
            "yielded" => format!("node {} serves; routes converge", half.peer),
            "draining" => match &half.because {
                Some(why) => format!("waiting: {why}"),
                None => format!("node {} is about to serve", half.peer),
            },
            _ => {
                anyhow::bail!("shard {shard} stays on node {}: its drain was taken back", half.node)
            }
        };
        if state != said {
            eprintln!("shard {shard}: {state}");
            said = state;
        }
        if started.elapsed() > PATIENCE {
            eprintln!(
                "kronoctl: shard {shard} has not been handed over yet, and still drains; \
                 \"kronoctl shard keep {shard}\" takes that back"
            );
            return Ok(ExitCode::FAILURE);
        }
        sleep(LOOK_INTERVAL);
    }
}

fn done(cli: &Cli, half: &Half, started: Instant) -> Result<ExitCode> {
    if cli.json {
        print(&format!("{}\n", serde_json::to_string(half)?))?;
    } else {
        let took = started.elapsed().as_secs_f64();
        print(&format!("shard {}: node {} serves, after {took:.1} s\n", half.shard, half.peer))?;
    }
    Ok(ExitCode::SUCCESS)
}
