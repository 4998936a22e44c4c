//! The log of a service on standard error: for people, or one JSON object a line.

use std::io::IsTerminal;

use tracing_subscriber::filter::LevelFilter;

/// Form of a line.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

/// Least important thing that is told.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Level {
    Off,
    Error,
    Warn,
    Info,
    Debug,
}

/// From here on the service's events go to standard error.
pub(crate) fn start(format: Format, level: Level) {
    let level = match level {
        Level::Off => LevelFilter::OFF,
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false);
    // A second start, in a process that has a log, keeps the first one.
    let _ = match format {
        Format::Text => log.with_ansi(colours).try_init(),
        Format::Json => log.json().flatten_event(true).try_init(),
    };
}
