//! `scr` of a shard: its state on several cores, the same on each.

use krono_config::mistake::{Place, Report, Wrong};
use krono_config::read::{self, Given, List, Map, Marked};
use krono_core::packet::Side;
use krono_core::time::Span;
use krono_nat::Shipment;
use scr_sequencer::programs::{Mistake, bucket, conntrack, ddos, heavy, knock};
use scr_sequencer::wire::{Codec, Format, Variant};
use scr_sequencer::{Shipped, room, sequencer};

use super::types::*;
use super::values::{self, choice};

/// The key of a section and the program that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Ddos,
    Heavy,
    Bucket,
    Knock,
    Conntrack,
    Nat,
}

const NAMES: [(&str, Name); 6] = [
    ("ddos", Name::Ddos),
    ("heavy", Name::Heavy),
    ("bucket", Name::Bucket),
    ("knock", Name::Knock),
    ("conntrack", Name::Conntrack),
    ("nat", Name::Nat),
];

const KEYS: [&str; 10] = [
    "program",
    "workers",
    "active",
    "sequencer",
    "in_band",
    "ddos",
    "heavy",
    "bucket",
    "knock",
    "conntrack",
];

/// What could be read of it.
pub(super) struct ScrDraft {
    pub(super) workers: List<Marked<u16>>,
    /// Whether the program is the translator; unknown if it could not be read.
    pub(super) translates: Option<bool>,
    /// Whether packets come sequenced, and where that is said.
    pub(super) in_band: Option<Place>,
    /// What the program's table takes, bytes, and where that is said; of the translator `nat` says it.
    pub(super) table: Option<(u64, Place)>,
    /// All of it, if nothing is mistaken.
    pub(super) config: Option<ScrConfig>,
}

/// Reads the section, if there is one.
pub(super) fn read(shard: &Map<'_>, report: &mut Report) -> Option<ScrDraft> {
    shard.node("scr")?;
    let Some(map) = shard.section("scr", &KEYS, report) else {
        let workers = List::mistaken();
        return Some(ScrDraft {
            workers,
            translates: None,
            in_band: None,
            table: None,
            config: None,
        });
    };
    let name = map.required("program", choice(&NAMES), report).map(|name| name.value);
    let lcore = values::number(0..=LCORES_MAX - 1);
    let workers = map.required_list("workers", sequencer::CORES_MAX, report, |node, at, report| {
        read::scalar(node, at, &lcore, report)
    });
    let program = name.and_then(|name| read_program(&map, name, report));
    let table = program.as_ref().and_then(|program| {
        let (key, bytes) = program.table_size()?;
        let section = map.section(program.name(), &[key], &mut Report::default())?;
        Some((bytes, place_of(&section, key)))
    });
    let in_band = map.node("in_band").map(|(_, place)| place);
    let count = workers.items.len();
    let arrival = match (&in_band, name) {
        (Some(_), Some(name)) => read_in_band(&map, name, count, report),
        (None, Some(name)) => read_sequencer(&map, name, count, report),
        _ => None,
    };
    if let Some(in_band) = &in_band {
        forbid(&map, "sequencer", &format!("packets come sequenced, {in_band}"), report);
        forbid(&map, "active", &format!("who sequences in-band decides, {in_band}"), report);
    }
    let active = map.or("active", count, values::number(1..=count.max(1)), report);
    let config = (|| {
        Some(ScrConfig {
            program: program?,
            arrival: arrival?,
            active: active?.value,
            workers: workers.items.iter().map(|lcore| lcore.value).collect(),
        })
    })();
    let config = config.filter(|_| workers.complete);
    let translates = name.map(|name| name == Name::Nat);
    Some(ScrDraft { workers, translates, in_band, table, config })
}

/// Reports a key that has no place here.
fn forbid(map: &Map<'_>, key: &'static str, what: &str, report: &mut Report) {
    if let Some((_, place)) = map.node(key) {
        report.mistake(&place, Wrong::new(what, format!("no {key}")));
    }
}

impl Name {
    /// Bytes of a record of the program.
    const fn record_bytes(self) -> usize {
        match self {
            Name::Ddos => ddos::Record::BYTES,
            Name::Heavy => heavy::Record::BYTES,
            Name::Bucket => bucket::Record::BYTES,
            Name::Knock => knock::Record::BYTES,
            Name::Conntrack => conntrack::Record::BYTES,
            Name::Nat => Shipment::BYTES,
        }
    }

    /// Whether histories of so many records fit beside a packet, or what is wrong.
    fn check_room(self, records: usize) -> Result<(), room::NoRoom> {
        let room = usize::from(u16::MAX);
        match self {
            Name::Ddos => room::check::<ddos::Record>(records, room),
            Name::Heavy => room::check::<heavy::Record>(records, room),
            Name::Bucket => room::check::<bucket::Record>(records, room),
            Name::Knock => room::check::<knock::Record>(records, room),
            Name::Conntrack => room::check::<conntrack::Record>(records, room),
            Name::Nat => room::check::<Shipment>(records, room),
        }
    }

    /// Whether frames can have such a header, or what is wrong.
    fn check_header(self, format: Format) -> Result<(), scr_sequencer::wire::Unfit> {
        match self {
            Name::Ddos => Codec::<ddos::Record>::new(format).map(drop),
            Name::Heavy => Codec::<heavy::Record>::new(format).map(drop),
            Name::Bucket => Codec::<bucket::Record>::new(format).map(drop),
            Name::Knock => Codec::<knock::Record>::new(format).map(drop),
            Name::Conntrack => Codec::<conntrack::Record>::new(format).map(drop),
            Name::Nat => Codec::<Shipment>::new(format).map(drop),
        }
    }
}

fn read_sequencer(
    map: &Map<'_>,
    name: Name,
    workers: usize,
    report: &mut Report,
) -> Option<Arrival> {
    let map = map.section("sequencer", &["history", "ring"], report)?;
    // Enough that a core can be passed over for some rounds, and little beside a packet.
    let default = (8 * workers).max(32);
    let history = map.or("history", default, values::number(0..=65_535), report);
    let ring = map.or("ring", 512, values::size(1..=1 << 20), report);
    if let Some(history) = &history {
        let least = workers.saturating_sub(1);
        if history.value < least {
            let what = format!(
                "{} records are less than each of {workers} workers must be told",
                history.value
            );
            report.mistake(&history.place, Wrong::new(what, format!("{least} or more")));
        } else if let Err(error) = name.check_room(history.value) {
            let most = error.room.saturating_sub(room::HEADER_BYTES) / name.record_bytes();
            report.mistake(
                &history.place,
                Wrong::new(error.to_string(), format!("{most} records at most")),
            );
        }
    }
    Some(Arrival::Plain { history: history?.value, ring: ring?.value as u32 })
}

fn read_in_band(map: &Map<'_>, name: Name, workers: usize, report: &mut Report) -> Option<Arrival> {
    const KEYS: [&str; 5] = ["order", "side", "numbers", "moments", "log"];
    let orders = choice(&[("ring", Variant::Ring), ("shift", Variant::Shift)]);
    let sides = choice(&[("inside", Side::Inside), ("outside", Side::Outside)]);
    let map = map.section("in_band", &KEYS, report)?;
    let order = map.required("order", orders, report);
    let side = map.or("side", Side::Outside, sides, report);
    let numbers = map.or("numbers", true, values::boolean, report);
    let moments = map.or("moments", true, values::boolean, report);
    let log = map.or("log", 1024, values::size(1..=1 << 20), report);
    if let Some(log) = log.as_ref().filter(|log| log.value < 2 * workers as u64) {
        let what =
            format!("a log of {} packets does not reach back over {workers} workers", log.value);
        let expected = format!("{} or more", 2 * workers);
        report.mistake(&log.place, Wrong::new(what, expected));
    }
    let format = Format {
        variant: order?.value,
        cores: workers,
        sequence: numbers?.value,
        moment: moments?.value,
        padding: None,
    };
    if let Err(error) = name.check_header(format) {
        report.mistake(&map.place, Wrong::new(error.to_string(), "fewer workers"));
    }
    Some(Arrival::Sequenced { format, side: side?.value, log: log?.value as usize })
}

/// The settings of the shard's program, in the section that has its name.
fn read_program(map: &Map<'_>, name: Name, report: &mut Report) -> Option<ProgramConfig> {
    for (key, other) in NAMES.into_iter().filter(|(key, _)| *key != "nat") {
        if other != name {
            forbid(map, key, "the program of this shard is another one", report);
        }
    }
    match name {
        Name::Ddos => read_ddos(map, report).map(ProgramConfig::Ddos),
        Name::Heavy => read_heavy(map, report).map(ProgramConfig::Heavy),
        Name::Bucket => read_bucket(map, report).map(ProgramConfig::Bucket),
        Name::Knock => read_knock(map, report).map(ProgramConfig::Knock),
        Name::Conntrack => read_conntrack(map, report).map(ProgramConfig::Conntrack),
        Name::Nat => Some(ProgramConfig::Nat),
    }
}

/// Where a setting is, or would be.
fn place_of(map: &Map<'_>, key: &'static str) -> Place {
    map.node(key).map_or_else(|| map.default(key, ()).place, |(_, place)| place)
}

/// Reports what a program finds wrong with its settings.
fn blame(map: &Map<'_>, checked: Result<(), Vec<Mistake>>, report: &mut Report) {
    for Mistake { field, expected } in checked.err().into_iter().flatten() {
        let key = field.rsplit('.').next().unwrap_or(field);
        report.mistake(&place_of(map, key), Wrong::new("that is beyond what it can be", expected));
    }
}

const ANY: std::ops::RangeInclusive<u64> = 0..=u32::MAX as u64;

fn entries(map: &Map<'_>, key: &'static str, default: usize, report: &mut Report) -> Option<usize> {
    map.or(key, default as u64, values::size(ANY), report).map(|entries| entries.value as usize)
}

fn number(map: &Map<'_>, key: &'static str, default: u32, report: &mut Report) -> Option<u32> {
    map.or(key, default.into(), values::size(ANY), report).map(|number| number.value as u32)
}

fn prefixes(map: &Map<'_>, key: &'static str, report: &mut Report) -> Option<Vec<ipnet::Ipv4Net>> {
    let list = map.list(key, LIST_MAX, report, |node, place, report| {
        read::scalar(node, place, values::prefix, report)
    });
    let list = list.unwrap_or_else(List::empty)?.all()?;
    Some(list.into_iter().map(|prefix| prefix.value).collect())
}

fn read_ddos(map: &Map<'_>, report: &mut Report) -> Option<ddos::Config> {
    let map = map.section("ddos", &["sources", "one_in", "window", "deny", "allow"], report)?;
    let usual = ddos::Config::default();
    let (sources, one_in) = (
        entries(&map, "sources", usual.sources, report),
        number(&map, "one_in", usual.one_in, report),
    );
    let window = number(&map, "window", usual.window, report);
    let (deny, allow) = (prefixes(&map, "deny", report), prefixes(&map, "allow", report));
    let config = ddos::Config {
        sources: sources?,
        one_in: one_in?,
        window: window?,
        deny: deny?,
        allow: allow?,
        seed: usual.seed,
    };
    blame(&map, config.check(), report);
    Some(config)
}

fn read_heavy(map: &Map<'_>, report: &mut Report) -> Option<heavy::Config> {
    let map = map.section("heavy", &["flows", "threshold", "idle"], report)?;
    let usual = heavy::Config::default();
    let flows = entries(&map, "flows", usual.flows, report);
    let threshold = map.or("threshold", usual.threshold, values::size(0..=1 << 60), report);
    let idle = number(&map, "idle", usual.idle, report);
    let config =
        heavy::Config { flows: flows?, threshold: threshold?.value, idle: idle?, seed: usual.seed };
    blame(&map, config.check(), report);
    Some(config)
}

fn read_bucket(map: &Map<'_>, report: &mut Report) -> Option<bucket::Config> {
    let map = map.section("bucket", &["flows", "rate", "burst"], report)?;
    let usual = bucket::Config::default();
    let flows = entries(&map, "flows", usual.flows, report);
    let rate = number(&map, "rate", usual.rate, report);
    let burst = number(&map, "burst", usual.burst, report);
    let config = bucket::Config { flows: flows?, rate: rate?, burst: burst?, seed: usual.seed };
    blame(&map, config.check(), report);
    Some(config)
}

fn read_knock(map: &Map<'_>, report: &mut Report) -> Option<knock::Config> {
    const KEYS: [&str; 4] = ["sources", "sequence", "protected", "close_on_fin"];
    let map = map.section("knock", &KEYS, report)?;
    let usual = knock::Config::default();
    let sources = entries(&map, "sources", usual.sources, report);
    let sequence = map.list("sequence", LIST_MAX, report, |node, place, report| {
        read::scalar(node, place, values::number(0..=u16::MAX), report)
    });
    let protected = map.list("protected", LIST_MAX, report, |node, place, report| {
        read::scalar(node, place, values::port_range, report)
    });
    let close_on_fin = map.or("close_on_fin", usual.close_on_fin, values::boolean, report);
    let config = knock::Config {
        sources: sources?,
        sequence: items(sequence, usual.sequence)?,
        protected: items(protected, usual.protected)?,
        close_on_fin: close_on_fin?.value,
        seed: usual.seed,
    };
    blame(&map, config.check(), report);
    Some(config)
}

/// The items of a list, or if there is none those by default.
fn items<T>(given: Given<List<Marked<T>>>, default: Vec<T>) -> Option<Vec<T>> {
    match given {
        Given::Absent => Some(default),
        Given::Valid(list) => Some(list.all()?.into_iter().map(|item| item.value).collect()),
        Given::Mistaken => None,
    }
}

fn read_conntrack(map: &Map<'_>, report: &mut Report) -> Option<conntrack::Config> {
    const TIMEOUTS: [&str; 5] = ["opening", "established", "half_closed", "closing", "reset"];
    let map = map.section("conntrack", &["connections", "strict", "timeouts"], report)?;
    let usual = conntrack::Config::default();
    let connections = entries(&map, "connections", usual.connections, report);
    let strict = map.or("strict", usual.is_strict, values::boolean, report);
    let timeouts = map.section("timeouts", &TIMEOUTS, report)?;
    let mut timeout = |key, default| {
        let span = timeouts.or(key, default, values::span(Span(1)..=Span::MAX), report);
        span.map(|span| span.value)
    };
    let times = usual.timeouts;
    let opening = timeout("opening", times.opening);
    let established = timeout("established", times.established);
    let half_closed = timeout("half_closed", times.half_closed);
    let closing = timeout("closing", times.closing);
    let reset = timeout("reset", times.reset);
    let config = conntrack::Config {
        connections: connections?,
        is_strict: strict?.value,
        timeouts: conntrack::Timeouts {
            opening: opening?,
            established: established?,
            half_closed: half_closed?,
            closing: closing?,
            reset: reset?,
        },
        seed: usual.seed,
    };
    blame(&map, config.check(), report);
    Some(config)
}
