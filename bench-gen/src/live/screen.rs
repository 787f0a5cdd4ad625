//! The view that fills the terminal.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Gauge, Paragraph, Row, Sparkline, Table};

use super::lines::{between, latency, remaining};
use super::state::State;
use crate::bench::Way;
use crate::procedure::Searching;
use crate::report::{count, percent, short, text};

const UP: Color = Color::Cyan;
const DOWN: Color = Color::Yellow;
/// So many trials of a search are shown, the latest first.
const TRIALS: usize = 8;

/// Draws all.
pub(super) fn draw(frame: &mut Frame, state: &State) {
    let search = if state.doing.search.is_some() { 5 } else { 0 };
    let [title, stage, rates, sessions, searched, sparks, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(3),
        Constraint::Length(5),
        Constraint::Length(3),
        Constraint::Length(search),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(heading(state), title);
    draw_stage(frame, state, stage);
    frame.render_widget(rates_table(state), rates);
    frame.render_widget(sessions_line(state), sessions);
    if let Some(search) = &state.doing.search {
        draw_search(frame, search, searched);
    }
    draw_history(frame, state, sparks);
    let keys_line = "Ctrl-C: end with a partial report; twice: end at once".dim();
    frame.render_widget(Paragraph::new(keys_line), keys);
}

fn heading(state: &State) -> Paragraph<'_> {
    let mut words =
        vec![" bench-gen ".bold().reversed(), " ".into(), state.command.as_str().bold()];
    if !state.doing.part.is_empty() {
        words.push(format!(" · {}", state.doing.part).into());
    }
    words.push(format!(" · {}", text::took(state.since_start_s())).dim());
    Paragraph::new(Line::from(words))
}

fn panel(title: &str) -> Block<'_> {
    Block::new().borders(Borders::TOP).border_style(Style::new().dim()).title(title.bold())
}

fn draw_stage(frame: &mut Frame, state: &State, area: Rect) {
    let elapsed = state.so_far.elapsed.as_secs_f64();
    let block = panel(&state.doing.stage);
    match state.progress() {
        Some(share) => {
            let takes = state.doing.takes_s.unwrap_or(0.0);
            let gauge = Gauge::default().block(block).gauge_style(Style::new().fg(Color::Blue));
            let label = format!("{elapsed:.1} s of {} s", short(takes));
            frame.render_widget(gauge.ratio(share).label(label), area);
        }
        None => frame.render_widget(Paragraph::new(format!("{elapsed:.1} s")).block(block), area),
    }
}

fn rates_table(state: &State) -> Table<'_> {
    let names =
        ["", "sent/s", "arrived/s", "missing", "reordered", "twice", "median µs", "99 % µs"];
    let right = |text: String| Cell::from(Line::from(text).right_aligned());
    let header = Row::new(names.map(|name| right(name.to_owned()))).dim();
    let row = |name: &'static str, way: Way, colour: Color| {
        let rates = state.rates(way);
        let counts = &state.so_far.counts[way as usize];
        let (median, p99) = latency(state, way).unwrap_or_else(|| ("–".into(), "–".into()));
        let missing = right(percent(rates.missing));
        let missing = if rates.missing > 0.0 { missing.red() } else { missing };
        Row::new([
            Cell::from(name).fg(colour).bold(),
            right(short(rates.sent)),
            right(short(rates.received)),
            missing,
            right(count(counts.reordered)),
            right(count(counts.duplicated)),
            right(median),
            right(p99),
        ])
    };
    let rows = [row("up ▲", Way::Up, UP), row("down ▼", Way::Down, DOWN)];
    let widths = [
        Constraint::Length(7),
        Constraint::Length(10),
        Constraint::Length(10),
        Constraint::Length(10),
        Constraint::Length(10),
        Constraint::Length(9),
        Constraint::Length(10),
        Constraint::Length(9),
    ];
    Table::new(rows, widths).header(header).block(panel("packets"))
}

fn sessions_line(state: &State) -> Paragraph<'_> {
    let seen = &state.so_far;
    let mut words = vec![
        Span::from(format!("{} sessions open", count(seen.open))),
        format!(" · {} opened, {}/s", count(seen.opened), short(state.opened_per_s())).into(),
    ];
    if seen.not_opened > 0 {
        words.push(format!(" · {} did not open", count(seen.not_opened)).red());
    }
    if seen.silent > 0 {
        words.push(format!(" · {} flows silent", count(seen.silent)).yellow());
    }
    let verdict = match state.wrong_in_words() {
        Some(wrong) => format!("WRONG DELIVERIES: {wrong}").red().bold(),
        None => "no wrong delivery".green(),
    };
    Paragraph::new(vec![Line::from(verdict), Line::from(words)]).block(panel("sessions"))
}

fn draw_search(frame: &mut Frame, search: &Searching, area: Rect) {
    let block = panel("search");
    let inside = block.inner(area);
    frame.render_widget(block, area);
    let [where_to, bar, tried] = Layout::vertical([Constraint::Length(1); 3]).areas(inside);
    let words = format!("{}; {}", between(search), remaining(search));
    frame.render_widget(Paragraph::new(words), where_to);
    frame.render_widget(bracket_bar(search, bar.width), bar);
    let latest = search.tried.iter().rev().take(TRIALS).map(|(value, passed)| {
        let value = short(*value);
        if *passed { format!("✓ {value}  ").green() } else { format!("✗ {value}  ").red() }
    });
    let trials = std::iter::once("tried: ".dim()).chain(latest);
    frame.render_widget(Paragraph::new(Line::from_iter(trials)), tried);
}

/// The range of the search from zero: what passed, what is open, what failed.
fn bracket_bar(search: &Searching, width: u16) -> Paragraph<'static> {
    let tried = search.tried.iter().map(|(value, _)| *value);
    let limit = tried.fold(search.bracket.high, f64::max).max(f64::MIN_POSITIVE);
    let cells = |value: f64| (value / limit * f64::from(width)).round() as usize;
    let (low, high) = (cells(search.bracket.low), cells(search.bracket.high));
    let open = high.saturating_sub(low).max(1);
    let rest = usize::from(width).saturating_sub(low + open);
    Paragraph::new(Line::from(vec![
        "━".repeat(low).green(),
        "░".repeat(open).blue(),
        "━".repeat(rest).red(),
    ]))
}

fn draw_history(frame: &mut Frame, state: &State, area: Rect) {
    let halves = Layout::vertical([Constraint::Fill(1); 2]).split(area);
    let ways = [("up", Way::Up, UP), ("down", Way::Down, DOWN)];
    for (area, (name, way, colour)) in halves.iter().zip(ways) {
        let history = state.history(way, usize::from(area.width));
        let most = history.iter().max().copied().unwrap_or(0);
        let title = format!("arrived {name}, up to {} packets/s", short(most as f64));
        let spark = Sparkline::default().data(history).style(Style::new().fg(colour));
        frame.render_widget(spark.block(panel(&title)), *area);
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::buffer::Buffer;

    use super::super::state::tests::searching;
    use super::*;

    fn drawn(state: &State, width: u16, height: u16) -> (Vec<String>, Buffer) {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        ((0..height).map(row).collect(), buffer)
    }

    #[test]
    fn a_search_shows_rates_latency_and_what_remains() {
        let (rows, _) = drawn(&searching(0), 80, 24);
        let all = rows.join("\n");
        for words in [
            "throughput · 64 bytes, repeat 1 of 3",
            "3.0 s of 10 s",
            "735 k",
            "2 %",
            "12.3",
            "10,000 sessions open",
            "no wrong delivery",
            "between 500 k and 1 M packets/s; about 7 trials remain",
            "✓ 500 k  ✗ 1 M",
            "arrived down, up to 735 k packets/s",
            "Ctrl-C",
        ] {
            assert!(all.contains(words), "no {words} in\n{all}");
        }
    }

    #[test]
    fn wrong_deliveries_are_red() {
        let (rows, buffer) = drawn(&searching(3), 80, 24);
        let y = rows.iter().position(|row| row.contains("WRONG")).expect("shown");
        let x = rows[y].find("WRONG").unwrap();
        assert_eq!(buffer[(x as u16, y as u16)].fg, Color::Red);
        assert!(rows[y].contains("wrong_subscriber 3"), "{}", rows[y]);
    }

    #[test]
    fn it_fits_any_terminal() {
        for (width, height) in [(1, 1), (20, 5), (40, 12), (300, 90)] {
            drawn(&searching(1), width, height);
            drawn(&State::new("run"), width, height);
        }
    }
}
