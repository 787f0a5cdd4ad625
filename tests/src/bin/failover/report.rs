//! What was seen, beside what was to be.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::crowd::Census;
use crate::demo::{Demo, Record};
use crate::event::{Event, STRUCK};
use crate::probes::{Class, Flow};
use crate::trace::{Fate, Trace, fate};

/// The longest that a flow may stand still when a node fails.
const OUTAGE_MAX: Duration = Duration::from_millis(250);

/// How wide the bins of a timeline are, µs, and when an answer is a late one.
const BIN: u32 = 20_000;
const LATE: u32 = 50_000;

/// What is drawn from before an event.
const LEAD: u32 = 500_000;

/// What is watched of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    UdpOut,
    UdpIn,
    Echo,
    Tcp,
    Keys,
}

impl Way {
    const ALL: [Way; 5] = [Way::UdpOut, Way::UdpIn, Way::Echo, Way::Tcp, Way::Keys];

    const fn name(self) -> &'static str {
        match self {
            Way::UdpOut => "UDP out",
            Way::UdpIn => "UDP in",
            Way::Echo => "ICMP echo",
            Way::Tcp => "TCP",
            Way::Keys => "keystrokes",
        }
    }

    /// Whether each loss is of a packet. A connection's packets are sent again, and their answers
    /// late.
    const fn shows_packets(self) -> bool {
        matches!(self, Way::UdpOut | Way::UdpIn | Way::Echo)
    }

    fn of(self, flow: &Flow) -> Option<&Trace> {
        match (self, flow.class) {
            (Way::UdpOut, Class::Udp) | (Way::Echo, Class::Icmp) => Some(&flow.out),
            (Way::Tcp, Class::Tcp) | (Way::Keys, Class::Keys) => Some(&flow.out),
            (Way::UdpIn, Class::Udp) => flow.back.as_ref(),
            _ => None,
        }
    }
}

impl Record {
    /// Whether a shard is served by a node to which something happens.
    fn is_struck(&self, shard: u8) -> bool {
        match self.event {
            Event::Cut | Event::Rolling => true,
            _ => self.plan.master(shard) == STRUCK,
        }
    }

    fn traces(&self, way: Way, struck: bool) -> impl Iterator<Item = (u8, &Trace)> {
        let flows = self.flows.iter().filter(move |flow| self.is_struck(flow.shard) == struck);
        flows.filter_map(move |flow| Some((flow.shard, way.of(flow)?)))
    }

    /// Of the flows of this kind, packets and their losses together, and the longest outage of one.
    fn fate(&self, way: Way, struck: bool, from: u32, to: u32) -> Fate {
        let mut worst = Fate::default();
        for (_, trace) in self.traces(way, struck) {
            let packets = trace.between(from, to);
            let mut of_flow = fate(&packets, from, to);
            if way == Way::Keys {
                // Keys are so far apart that it is their delay that one feels.
                let delay = |&(sent, at): &(u32, u32)| if at == 0 { to - sent } else { at - sent };
                of_flow.outage_us = packets.iter().map(delay).max().unwrap_or(0);
            }
            worst.sent += of_flow.sent;
            worst.lost += of_flow.lost;
            worst.outage_us = worst.outage_us.max(of_flow.outage_us);
        }
        worst
    }

    /// Packets lost from the beginning to the end, of all flows that show them.
    fn packets_lost(&self) -> (u32, u32) {
        let ways = Way::ALL.into_iter().filter(|way| way.shows_packets());
        let fates = ways.flat_map(|way| [true, false].map(|struck| (way, struck)));
        let fates = fates.map(|(way, struck)| self.fate(way, struck, self.began, self.over));
        fates.fold((0, 0), |(lost, sent), fate| (lost + fate.lost, sent + fate.sent))
    }

    /// The longest outage from the event until it is mended, µs.
    fn outage_us(&self) -> u32 {
        let ways = Way::ALL.into_iter().filter(|way| *way != Way::Keys);
        let fates = ways.map(|way| self.fate(way, true, self.began, self.mended).outage_us);
        fates.max().unwrap_or(0)
    }
}

/// Something that was to be, and whether it was.
struct Goal {
    text: String,
    found: String,
    held: bool,
}

fn goals(record: &Record) -> Vec<Goal> {
    let (old, young) = record.sessions;
    let mut goals = Vec::new();
    let mut goal = |text: &str, found: String, held| {
        goals.push(Goal { text: text.to_owned(), found, held });
    };
    let survived =
        |census: Census| format!("{} of {}", census.survived, census.survived + census.lost());
    goal(
        "every session that was older than 100 ms survives",
        format!("{}, watched flows lost: {}", survived(old), record.flows_lost),
        old.lost() == 0 && old.survived > 0 && record.flows_lost == 0,
    );
    goal("no answer comes to a stranger", old.strayed.to_string(), old.strayed == 0);
    if record.event.is_failure() {
        let ms = f64::from(record.outage_us()) / 1e3;
        let text = format!("no flow is out for {} ms", OUTAGE_MAX.as_millis());
        goal(&text, format!("{ms:.0} ms"), ms < OUTAGE_MAX.as_millis() as f64);
    } else {
        goal("every younger session survives as well", survived(young), young.lost() == 0);
    }
    if record.event == Event::Drain {
        let (lost, sent) = record.packets_lost();
        goal(
            "no packet is lost, there and back",
            format!("{lost} of {sent}"),
            lost == 0 && sent > 0,
        );
    }
    let clients = record.clients;
    goal(
        "all files arrive whole",
        format!("{} of {}", clients.fetched_right, clients.fetches),
        clients.fetched_right == clients.fetches && clients.fetches > 0,
    );
    goal(
        "every iperf3 comes to its end",
        format!("{} of {}", clients.streams_whole, clients.streams),
        clients.streams_whole == clients.streams && clients.streams > 0,
    );
    goals
}

fn ms(us: impl Into<i64>) -> f64 {
    us.into() as f64 / 1e3
}

/// A record in a line.
pub(crate) fn line(record: &Record) -> String {
    let (old, _) = record.sessions;
    let (lost, sent) = record.packets_lost();
    let missed = goals(record).iter().filter(|goal| !goal.held).count();
    let verdict =
        if missed == 0 { "goals reached".to_owned() } else { format!("{missed} goals MISSED") };
    format!(
        "{verdict}: longest outage {:.0} ms, sessions lost {} of {}, packets lost {lost} of {sent}",
        ms(record.outage_us()),
        old.lost(),
        old.lost() + old.survived,
    )
}

/// Prints what was seen. Returns whether all goals were reached.
pub(crate) fn print(records: &[Record]) -> bool {
    let mut all_held = !records.is_empty();
    for record in records {
        println!("\n{}: {}", record.event.name(), record.event.about());
        let moment = |at: Option<i64>| at.map_or("-".to_owned(), |us| format!("{:.0} ms", ms(us)));
        println!(
            "  first router noticed after {}, last route changed after {}; mended after {:.1} s, over \
             after {:.1} s",
            moment(record.detected),
            moment(record.converged),
            ms(record.mended - record.began) / 1e3,
            ms(record.over - record.began) / 1e3,
        );
        println!(
            "  {:<14}{:>16}{:>16}{:>16}{:>16}{:>16}",
            "", "longest outage", "lost", "while mended", "lost", "other shards'"
        );
        for way in Way::ALL {
            let failed = record.fate(way, true, record.began, record.mended);
            let mended = record.fate(way, true, record.mended, record.over);
            let other = record.fate(way, false, record.began, record.over);
            println!(
                "  {:<14}{:>13.0} ms{:>16}{:>13.0} ms{:>16}{:>16}",
                way.name(),
                ms(failed.outage_us),
                format!("{} of {}", failed.lost, failed.sent),
                ms(mended.outage_us),
                format!("{} of {}", mended.lost, mended.sent),
                format!("{} of {}", other.lost, other.sent),
            );
        }
        let (old, young) = record.sessions;
        for (name, census) in [("sessions", old), ("younger ones", young)] {
            println!(
                "  {name:<14}{} survived, {} have another public port, {} are silent, {} were reset",
                census.survived, census.moved, census.silent, census.reset
            );
        }
        println!(
            "  iperf3        longest time without a byte {:.1} s",
            record.clients.longest_stall
        );
        for goal in goals(record) {
            let verdict = if goal.held { "held  " } else { "MISSED" };
            println!("  {verdict} {}: {}", goal.text, goal.found);
            all_held &= goal.held;
        }
    }
    println!(
        "\n{}",
        if all_held { "All goals were reached." } else { "Not all goals were reached." }
    );
    all_held
}

/// Writes the figures and what a plot needs.
pub(crate) fn write(file: &Path, demo: &Demo, records: &[Record]) -> Result<()> {
    let plan = demo.cluster.plan;
    let events: Vec<Value> = records.iter().map(event).collect();
    let all = json!({
        "nodes": plan.nodes,
        "twins": plan.twins,
        "sessions": demo.sessions,
        "flows": demo.flows(),
        "events": events,
    });
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(file, serde_json::to_vec(&all)?)?;
    Ok(())
}

fn event(record: &Record) -> Value {
    let marks: Vec<Value> = record
        .marks
        .iter()
        .map(|(at, what)| json!([ms(i64::from(*at) - i64::from(record.began)), what]))
        .collect();
    let goals: Vec<Value> = goals(record)
        .into_iter()
        .map(|goal| json!({"goal": goal.text, "found": goal.found, "held": goal.held}))
        .collect();
    let (old, young) = record.sessions;
    let census = |census: Census| {
        let Census { survived, moved, silent, reset, strayed } = census;
        json!({"survived": survived, "moved": moved, "silent": silent, "reset": reset,
               "strayed": strayed})
    };
    json!({
        "name": record.event.name(),
        "about": record.event.about(),
        "mended_ms": ms(record.mended - record.began),
        "over_ms": ms(record.over - record.began),
        "detected_ms": record.detected.map(ms),
        "converged_ms": record.converged.map(ms),
        "outage_ms": ms(record.outage_us()),
        "marks": marks,
        "goals": goals,
        "sessions": census(old),
        "young": census(young),
        "ways": Way::ALL.map(|way| ways(record, way)),
    })
}

/// Of one kind of flow the figures, and the timeline of those to which something happened: for each
/// bin how many packets were sent, lost, and late. Also each loss of all shards, with its moment.
fn ways(record: &Record, way: Way) -> Value {
    let from = record.began.saturating_sub(LEAD);
    let mut bins = vec![[0_u32; 3]; ((record.over - from) / BIN + 1) as usize];
    for (sent, arrived) in
        record.traces(way, true).flat_map(|(_, trace)| trace.between(from, record.over))
    {
        let bin = &mut bins[((sent - from) / BIN) as usize];
        bin[0] += 1;
        bin[1] += u32::from(arrived == 0);
        bin[2] += u32::from(arrived != 0 && arrived - sent > LATE);
    }
    let losses: Vec<(u8, f64)> = [true, false]
        .into_iter()
        .flat_map(|struck| record.traces(way, struck))
        .flat_map(|(shard, trace)| {
            let packets = trace.between(from, record.over).into_iter();
            packets.filter(|&(_, at)| at == 0).map(move |(sent, _)| (shard, sent))
        })
        .map(|(shard, sent)| (shard, ms(i64::from(sent) - i64::from(record.began))))
        .collect();
    let figures =
        |fate: Fate| json!({"sent": fate.sent, "lost": fate.lost, "outage_ms": ms(fate.outage_us)});
    json!({
        "name": way.name(),
        "failed": figures(record.fate(way, true, record.began, record.mended)),
        "mended": figures(record.fate(way, true, record.mended, record.over)),
        "others": figures(record.fate(way, false, record.began, record.over)),
        "from_ms": -ms(record.began - from),
        "bin_ms": ms(BIN),
        "bins": bins,
        "losses": losses,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::Outcome;
    use crate::probes;
    use krono_tests::cluster::Plan;

    const SECOND: u32 = 1_000_000;

    /// Three seconds of an event in which all goes well, but for those flows of shard 0 of which
    /// packets that were sent within `lost` do not arrive.
    fn record(event: Event, way: Way, lost: std::ops::Range<u32>) -> Record {
        let plan = Plan { nodes: 3, twins: true };
        let flows = probes::flows(plan, 1);
        for flow in &flows {
            for one in Way::ALL {
                let Some(trace) = one.of(flow) else { continue };
                for number in 0..400 {
                    let sent = SECOND + number * 10_000;
                    trace.sent(number, sent);
                    if one != way || flow.shard != 0 || !lost.contains(&sent) {
                        trace.arrived(number, sent + 300);
                    }
                }
            }
        }
        let old = Census { survived: 100, ..Census::default() };
        let clients = Outcome {
            fetches: 6,
            fetched_right: 6,
            streams: 3,
            streams_whole: 3,
            longest_stall: 0.0,
        };
        let (began, mended, over) = (SECOND, 3 * SECOND, 4 * SECOND);
        let (detected, converged, marks) = (None, None, Vec::new());
        let sessions = (old, Census { survived: 10, ..Census::default() });
        let flows_lost = 0;
        Record {
            event,
            began,
            mended,
            over,
            marks,
            detected,
            converged,
            sessions,
            flows_lost,
            clients,
            flows,
            plan,
        }
    }

    fn missed(record: &Record) -> Vec<String> {
        goals(record).into_iter().filter(|goal| !goal.held).map(|goal| goal.text).collect()
    }

    #[test]
    fn an_outage_is_the_worst_flows_and_ends_where_the_goal_ends() {
        let lost = |ms: u32| SECOND..SECOND + ms * 1000;
        for way in [Way::UdpOut, Way::UdpIn, Way::Echo, Way::Tcp] {
            assert!(missed(&record(Event::Kill, way, lost(240))).is_empty(), "{way:?}");
            let too_long = record(Event::Kill, way, lost(260));
            assert_eq!(missed(&too_long), ["no flow is out for 250 ms"], "{way:?}");
            let fate = too_long.fate(way, true, too_long.began, too_long.mended);
            assert_eq!((fate.sent, fate.lost, fate.outage_us), (200, 26, 260_300), "{way:?}");
            assert_eq!(too_long.fate(way, false, SECOND, 4 * SECOND).lost, 0);
        }
    }

    #[test]
    fn a_drain_may_lose_no_packet_and_a_failure_may() {
        let one = SECOND..SECOND + 1;
        for way in [Way::UdpOut, Way::UdpIn, Way::Echo] {
            let drained = record(Event::Drain, way, one.clone());
            assert_eq!(missed(&drained), ["no packet is lost, there and back"], "{way:?}");
            assert!(missed(&record(Event::Kill, way, one.clone())).is_empty());
            assert!(missed(&record(Event::Rolling, way, one.clone())).is_empty());
        }
        assert!(missed(&record(Event::Drain, Way::UdpOut, 0..0)).is_empty());
    }

    #[test]
    fn no_old_session_may_be_lost_and_in_a_drain_no_young_one() {
        let census = Census { survived: 9, ..Census::default() };
        for lost in [
            Census { moved: 1, ..census },
            Census { silent: 1, ..census },
            Census { reset: 1, ..census },
        ] {
            let mut killed = record(Event::Kill, Way::Tcp, 0..0);
            killed.sessions.1 = lost;
            assert!(missed(&killed).is_empty());
            killed.sessions.0 = lost;
            assert_eq!(missed(&killed), ["every session that was older than 100 ms survives"]);
            let mut drained = record(Event::Rolling, Way::Tcp, 0..0);
            drained.sessions.1 = lost;
            assert_eq!(missed(&drained), ["every younger session survives as well"]);
        }
        let mut strayed = record(Event::Cut, Way::Tcp, 0..0);
        strayed.sessions.0.strayed = 1;
        assert_eq!(missed(&strayed), ["no answer comes to a stranger"]);
        let mut flow = record(Event::Cut, Way::Tcp, 0..0);
        flow.flows_lost = 1;
        assert_eq!(missed(&flow), ["every session that was older than 100 ms survives"]);
    }

    #[test]
    fn clients_must_get_everything_and_there_must_be_some() {
        for spoil in [|it: &mut Outcome| it.fetched_right -= 1, |it: &mut Outcome| it.fetches = 0] {
            let mut record = record(Event::Link, Way::Tcp, 0..0);
            spoil(&mut record.clients);
            assert_eq!(missed(&record), ["all files arrive whole"]);
        }
        let mut record = record(Event::Link, Way::Tcp, 0..0);
        record.clients.streams_whole -= 1;
        assert_eq!(missed(&record), ["every iperf3 comes to its end"]);
    }
}
