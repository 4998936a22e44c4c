//! `ocelli train --tui`: a training as a screen of the terminal, with curves, speed, and what is mixed up.

mod draw;
mod state;

use std::io::{self, IsTerminal, Stderr, stderr};
use std::time::{Duration, Instant};

use ocelli_pipeline::Event;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event as Input, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use state::State;

/// Time between two pictures.
const REDRAW: Duration = Duration::from_millis(100);

/// The screen of a terminal, taken over until this is dropped.
pub(crate) struct Screen<'a> {
    terminal: Terminal<CrosstermBackend<Stderr>>,
    state: State,
    drawn: Option<Instant>,
    interrupt: &'a Interrupt,
}

impl<'a> Screen<'a> {
    /// Takes over the terminal of standard error.
    pub(crate) fn open(interrupt: &'a Interrupt) -> Result<Self, Failure> {
        if !stderr().is_terminal() {
            return Err(Failure::usage("--tui needs a terminal on standard error", "leave --tui out"));
        }
        let failed = |error: io::Error| {
            leave();
            Failure::failed(format!("the terminal cannot be used: {error}"), "leave --tui out")
        };
        interrupt.before_exit(leave);
        enable_raw_mode().map_err(failed)?;
        execute!(stderr(), EnterAlternateScreen).map_err(failed)?;
        let terminal = Terminal::new(CrosstermBackend::new(stderr())).map_err(failed)?;
        Ok(Screen { terminal, state: State::default(), drawn: None, interrupt })
    }

    /// Takes an event of the training and the keys that were pressed.
    pub(crate) fn show(&mut self, event: &Event) {
        self.state.take(event);
        if self.drawn.is_some_and(|drawn| drawn.elapsed() < REDRAW) {
            return;
        }
        self.drawn = Some(Instant::now());
        self.keys();
        // A terminal that went away must not cost the training.
        let _ = self.terminal.draw(|frame| draw::draw(frame, &self.state));
    }

    /// Gives the terminal back; what was said that should outlast the screen.
    pub(crate) fn close(self) -> Vec<String> {
        self.state.remarks().to_vec()
    }

    /// q or Ctrl-C stops; pressed again, at once.
    fn keys(&mut self) {
        while event::poll(Duration::ZERO).unwrap_or(false) {
            let Ok(Input::Key(key)) = event::read() else { continue };
            let is_stop = match key.code {
                KeyCode::Char('q') => true,
                KeyCode::Char('c') => key.modifiers.contains(KeyModifiers::CONTROL),
                _ => false,
            };
            if key.kind == KeyEventKind::Press && is_stop {
                self.state.stopping = true;
                self.interrupt.press();
            }
        }
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        leave();
    }
}

/// Gives the terminal back.
fn leave() {
    // Nothing is left to do where this fails.
    let _ = disable_raw_mode();
    let _ = execute!(stderr(), LeaveAlternateScreen);
}
