//! The terminal while the view fills it. However that ends, it is left as it was: by the end, by a
//! panic, by Ctrl-C.

use std::io::{self, Stderr, Write};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::screen;
use super::state::State;

/// What the terminal was like before the view came; `None` while it is away.
static BEFORE: Mutex<Option<Before>> = Mutex::new(None);

struct Before {
    /// How input was treated, where stdin is a terminal.
    modes: Option<Termios>,
    /// What was logged meanwhile.
    log: Vec<u8>,
}

/// The view on stderr.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stderr>>,
}

impl Screen {
    /// Fills the terminal. Keys are not echoed; Ctrl-C stays a signal.
    pub(super) fn enter() -> io::Result<Screen> {
        leave_on_panic();
        let terminal = Terminal::new(CrosstermBackend::new(io::stderr()))?;
        *before() = Some(Before { modes: silence_keys(), log: Vec::new() });
        if let Err(error) = execute!(io::stderr(), EnterAlternateScreen, Hide) {
            leave();
            return Err(error);
        }
        Ok(Screen { terminal })
    }

    pub(super) fn draw(&mut self, state: &State) -> io::Result<()> {
        self.terminal.draw(|frame| screen::draw(frame, state)).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

/// Leaves the terminal as it was, and writes what was logged meanwhile. May be called at any time.
pub fn leave() {
    let Some(was) = before().take() else { return };
    // Nobody is left to be told of an error.
    let _ = execute!(io::stderr(), LeaveAlternateScreen, Show);
    if let Some(modes) = &was.modes {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, modes);
    }
    let _ = io::stderr().write_all(&was.log);
}

fn before() -> MutexGuard<'static, Option<Before>> {
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn silence_keys() -> Option<Termios> {
    let modes = tcgetattr(io::stdin()).ok()?;
    let mut silent = modes.clone();
    silent.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON);
    tcsetattr(io::stdin(), OptionalActions::Now, &silent).ok()?;
    Some(modes)
}

fn leave_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            leave();
            told(panic);
        }));
    });
}

/// Where log lines go: to stderr, held back while the view fills it.
#[derive(Debug, Default)]
pub struct Held;

impl Write for Held {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match before().as_mut() {
            Some(before) => before.log.write(bytes),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, since what it looks at is one for the process.
    #[test]
    fn the_log_is_held_back_while_the_view_is_there_also_by_a_panic() {
        *before() = Some(Before { modes: None, log: Vec::new() });
        write!(Held, "a line").unwrap();
        assert_eq!(before().as_ref().unwrap().log, b"a line");
        leave();
        assert!(before().is_none());
        leave();

        leave_on_panic();
        *before() = Some(Before { modes: None, log: Vec::new() });
        std::panic::catch_unwind(|| panic!("on purpose")).unwrap_err();
        assert!(before().is_none(), "the hook left");
    }
}
