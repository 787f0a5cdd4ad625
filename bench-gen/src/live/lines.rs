//! One line a second, for logs.

use super::state::State;
use crate::bench::Way;
use crate::procedure::{Doing, Searching};
use crate::report::{percent, short};

/// Whether the beginning of a stage is worth a line.
pub(super) fn is_worth_a_line(doing: &Doing) -> bool {
    doing.takes_s.is_none_or(|takes| takes >= 0.1) && !doing.stage.starts_with("forgetting")
}

/// That a stage begins.
pub(super) fn turn(state: &State) -> String {
    let doing = &state.doing;
    let part = if doing.part.is_empty() { String::new() } else { format!("{}: ", doing.part) };
    let search = doing
        .search
        .as_ref()
        .map_or(String::new(), |search| format!("; {}, {}", between(search), remaining(search)));
    format!("{:>6.1} s  {part}{}{search}", state.since_start_s(), doing.stage)
}

/// How a stage goes on.
pub(super) fn line(state: &State) -> String {
    let way = |name: &str, way: Way| {
        let rates = state.rates(way);
        let latency = latency(state, way)
            .map_or(String::new(), |(median, p99)| format!(", {median} µs (99 %: {p99})"));
        let (received, missing) = (short(rates.received), percent(rates.missing));
        format!("{name} {received} packets/s, missing {missing}{latency}")
    };
    let (up, down) = (way("up", Way::Up), way("down", Way::Down));
    let wrong = state.wrong_in_words().map_or(String::new(), |words| format!("  WRONG: {words}"));
    format!("{:>6.1} s    {up}; {down}; {} open{wrong}", state.since_start_s(), state.so_far.open)
}

/// Median and 99th percentile in microseconds.
pub(super) fn latency(state: &State, way: Way) -> Option<(String, String)> {
    let (median, p99) = state.so_far.latency_ns[way as usize]?;
    Some((short(median as f64 / 1000.0), short(p99 as f64 / 1000.0)))
}

/// Where the result of a search lies.
pub(super) fn between(search: &Searching) -> String {
    let Searching { bracket, unit, .. } = search;
    format!("between {} and {} {unit}", short(bracket.low), short(bracket.high))
}

/// What remains of a search.
pub(super) fn remaining(search: &Searching) -> String {
    match search.bracket.remaining() {
        0 | 1 => "the last trial".to_owned(),
        remaining => format!("about {remaining} trials remain"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::searching;
    use super::*;

    #[test]
    fn lines_say_what_is_done_and_how_it_goes() {
        let state = searching(3);
        let turn = turn(&state);
        assert!(turn.contains("64 bytes, repeat 1 of 3: traffic of 64 bytes at 750 k"), "{turn}");
        assert!(turn.ends_with("between 500 k and 1 M packets/s, about 7 trials remain"), "{turn}");
        let line = line(&state);
        assert!(line.contains("up 750 k packets/s, missing 0 %, 12.3 µs (99 %: 45.6);"), "{line}");
        assert!(line.contains("down 735 k packets/s, missing 2 %, 13 µs (99 %: 51);"), "{line}");
        assert!(line.ends_with("WRONG: wrong_subscriber 3"), "{line}");
    }
}
