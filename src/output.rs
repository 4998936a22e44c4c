//! The two streams: data on standard output, messages on standard error.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, StderrLock, Stdout, Write};

use clap::ValueEnum;
use ocelli_common::text::printable;
use serde::Serialize;

use crate::failure::Failure;

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    Always,
    Never,
}

impl ColorChoice {
    /// Whether a stream gets colours; <https://no-color.org> and CLICOLOR_FORCE decide where the user did not.
    fn resolve(self, terminal: bool) -> bool {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
        match self {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) => false,
            ColorChoice::Auto => set("CLICOLOR_FORCE") || terminal && !dumb_terminal(),
        }
    }
}

fn dumb_terminal() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// A way to stand out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Style {
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
    Cyan,
}

impl Style {
    fn code(self) -> u8 {
        match self {
            Style::Bold => 1,
            Style::Dim => 2,
            Style::Red => 31,
            Style::Green => 32,
            Style::Yellow => 33,
            Style::Cyan => 36,
        }
    }
}

/// Colours on or off for one stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint(bool);

impl Paint {
    /// `text` in `style`, or as it is where there are no colours.
    pub(crate) fn apply(self, style: Style, text: impl Display) -> String {
        if self.0 { format!("\x1b[{}m{text}\x1b[0m", style.code()) } else { text.to_string() }
    }

    /// `text` on a background of the nearest of the 216 colours that every colour terminal has, in black or white, whichever
    /// can be read on it; or as it is where there are no colours.
    pub(crate) fn on(self, colour: [u8; 3], text: impl Display) -> String {
        if !self.0 {
            return text.to_string();
        }
        let [red, green, blue] = colour.map(|value| (u32::from(value) * 5 + 127) / 255);
        let light = 2 * u32::from(colour[0]) + 5 * u32::from(colour[1]) + u32::from(colour[2]) > 8 * 127;
        let letters = if light { 30 } else { 97 };
        format!("\x1b[{letters};48;5;{}m{text}\x1b[0m", 16 + 36 * red + 6 * green + blue)
    }

    /// No colours.
    #[cfg(test)]
    pub(crate) fn none() -> Paint {
        Paint(false)
    }
}

/// Where a command writes.
pub(crate) struct Output {
    stdout: BufWriter<Stdout>,
    /// Colours of standard output.
    pub(crate) paint: Paint,
    /// Colours of standard error.
    pub(crate) message_paint: Paint,
    quiet: bool,
}

impl Output {
    pub(crate) fn new(color: ColorChoice, quiet: bool) -> Self {
        let stdout = io::stdout();
        let paint = Paint(color.resolve(stdout.is_terminal()));
        let message_paint = Paint(color.resolve(io::stderr().is_terminal()));
        Output { stdout: BufWriter::new(stdout), paint, message_paint, quiet }
    }

    /// Whether progress and remarks are to be left out.
    pub(crate) fn quiet(&self) -> bool {
        self.quiet
    }

    /// One line of results.
    pub(crate) fn line(&mut self, line: impl Display) -> Result<(), Failure> {
        self.write_line(line).map_err(Failure::stdout)
    }

    /// The same, with the error as it is.
    pub(crate) fn write_line(&mut self, line: impl Display) -> io::Result<()> {
        writeln!(self.stdout, "{line}")
    }

    /// One JSON object on a line of its own, sent at once: somebody may be waiting for it.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        self.write_json(value).map_err(Failure::stdout)
    }

    /// The same, with the error as it is.
    pub(crate) fn write_json(&mut self, value: &impl Serialize) -> io::Result<()> {
        let line = serde_json::to_string(value)?;
        self.write_line(line)?;
        self.write_out()
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stdout.write_all(bytes).map_err(Failure::stdout)
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.write_out().map_err(Failure::stdout)
    }

    /// The same, with the error as it is.
    pub(crate) fn write_out(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }

    /// One message, left out by `--quiet`.
    pub(crate) fn say(&self, line: impl Display) {
        if !self.quiet {
            print_message(line);
        }
    }

    /// One warning.
    pub(crate) fn warn(&self, line: impl Display) {
        print_message(format_args!("{} {line}", self.message_paint.apply(Style::Yellow, "warning:")));
    }

    /// What went wrong and what to do next.
    pub(crate) fn failure(&mut self, failure: &Failure) {
        // Results before the error that ended them; a failure to write them is what we are reporting, or less.
        let _ = self.stdout.flush();
        if let Some(message) = failure.message().filter(|message| !message.text.is_empty()) {
            let word = match failure {
                Failure::Interrupted { .. } => self.message_paint.apply(Style::Yellow, "interrupted:"),
                Failure::Gate(_) => self.message_paint.apply(Style::Yellow, "gate missed:"),
                _ => self.message_paint.apply(Style::Red, "error:"),
            };
            print_message(format_args!("{word} {}", printable(&message.text)));
            if let Some(hint) = &message.hint {
                print_message(format_args!(
                    "{} {}",
                    self.message_paint.apply(Style::Cyan, "hint:"),
                    printable(hint)
                ));
            }
        }
    }
}

/// An error before the arguments are known.
pub(crate) fn print_error(message: &str, hints: &[String]) {
    let paint = Paint(ColorChoice::Auto.resolve(io::stderr().is_terminal()));
    print_message(format_args!("{} {}", paint.apply(Style::Red, "error:"), printable(message)));
    for hint in hints {
        print_message(format_args!("{} {}", paint.apply(Style::Cyan, "hint:"), printable(hint)));
    }
}

/// One line on standard error; a closed standard error is no failure.
pub(crate) fn print_message(line: impl Display) {
    let mut stderr: StderrLock = io::stderr().lock();
    let _ = writeln!(stderr, "{line}");
}
