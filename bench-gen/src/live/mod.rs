//! What is seen while it runs: a view that fills the terminal, or a line a second where stderr is
//! none.

mod lines;
mod screen;
mod state;
mod stop;
mod terminal;

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use crate::bench::{Snapshot, Watch};
use crate::procedure::{Audience, Doing};

pub use stop::Stop;
pub use terminal::{Held, leave};

use state::State;
use terminal::Screen;

/// The view is drawn at most that often.
const DRAW: Duration = Duration::from_millis(100);
/// A line is written at most that often.
const LINE: Duration = Duration::from_secs(1);

/// Shows on stderr how a procedure goes on.
pub struct Live {
    state: State,
    stop: Stop,
    /// `None`: lines instead.
    screen: Option<Screen>,
    shown: Option<Instant>,
}

impl Live {
    /// A view of `command` where stderr is a terminal and `quiet` is not asked for.
    pub fn new(command: &str, quiet: bool, stop: Stop) -> Live {
        let fills = !quiet && std::io::stderr().is_terminal();
        let screen = fills.then(Screen::enter).and_then(Result::ok);
        Live { state: State::new(command), stop, screen, shown: None }
    }

    fn show(&mut self) {
        let apart = if self.screen.is_some() { DRAW } else { LINE };
        let now = Instant::now();
        if self.shown.is_some_and(|shown| now.duration_since(shown) < apart) {
            return;
        }
        self.shown = Some(now);
        match &mut self.screen {
            // A terminal that cannot be drawn on is no reason to end a measurement.
            Some(screen) => drop(screen.draw(&self.state)),
            None => eprintln!("{}", lines::line(&self.state)),
        }
    }
}

impl Watch for Live {
    fn look(&mut self, so_far: &Snapshot) -> bool {
        self.state.look(so_far);
        self.show();
        !self.stop.is_asked_for()
    }
}

impl Audience for Live {
    fn turn(&mut self, doing: &Doing) {
        self.state.turn(doing);
        match &mut self.screen {
            Some(screen) => drop(screen.draw(&self.state)),
            None if lines::is_worth_a_line(doing) => eprintln!("{}", lines::turn(&self.state)),
            None => {}
        }
        // Lines tell first what begins, and a second later how it goes.
        self.shown = Some(Instant::now());
    }

    fn ended(&self) -> bool {
        self.stop.is_asked_for()
    }
}
