//! What a run reports while it works: a bar on a terminal, lines in a pipe, or JSON.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use ocelli_common::text::{printable, thousands};
use ocelli_pipeline::Event;

use crate::output::{self, Output, Paint, Style};

/// Without a terminal, how often a long epoch shows that it is alive.
const PLAIN_INTERVAL: Duration = Duration::from_secs(30);

/// Shows events as they come.
pub(crate) struct Progress {
    mode: Mode,
    paint: Paint,
    last_plain: Instant,
    /// What the bar counts.
    counted: String,
}

enum Mode {
    Bar(ProgressBar),
    Plain,
    Json,
    Quiet,
}

impl Progress {
    /// `json` sends every event to standard output as one line.
    pub(crate) fn new(out: &Output, json: bool) -> Self {
        let mode = match (json, out.quiet()) {
            (true, _) => Mode::Json,
            (_, true) => Mode::Quiet,
            _ if std::io::stderr().is_terminal() => Mode::Bar(ProgressBar::no_length()),
            _ => Mode::Plain,
        };
        Progress { mode, paint: out.message_paint, last_plain: Instant::now(), counted: String::new() }
    }

    /// Shows one event.
    pub(crate) fn show(&mut self, event: &Event, out: &mut Output) {
        // Said when the work begins, not when it is refused.
        if cfg!(debug_assertions) && matches!(event, Event::Model { .. }) {
            let word = self.paint.apply(Style::Yellow, "warning:");
            self.print(&format!("{word} this is a debug build, which is slower: build with --release"));
        }
        match self.mode {
            // A reader that went away must not cost a training run: the run folder keeps every event.
            Mode::Json => drop(out.line(event.to_json()).and_then(|()| out.flush())),
            Mode::Quiet => {}
            Mode::Bar(_) | Mode::Plain => self.tell(event),
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Mode::Bar(bar) = &self.mode {
            bar.finish_and_clear();
        }
    }

    fn tell(&mut self, event: &Event) {
        match event {
            Event::Loading { done, total } => self.advance("reading images", (*done, *total), ""),
            Event::Step { epoch, step, steps, loss, images_per_second, eta_s, .. } => {
                let speed = thousands(*images_per_second as u64);
                let rest = format!("loss {loss:.4}, {speed} images/s, {} left", duration(*eta_s));
                self.advance(&format!("epoch {epoch}"), (*step, *steps), &rest);
            }
            Event::RangeTest { step, steps, lr, loss } => {
                self.advance("learning rate", (*step, *steps), &format!("{lr:.1e}, loss {loss:.4}"));
            }
            Event::Dataset { .. } => self.dataset(event),
            Event::Model { name, parameters, run_dir } => {
                self.line("model", &format!("{name}, {} parameters", thousands(*parameters as u64)));
                self.line("run", &printable(run_dir));
            }
            Event::Features { done, total } => self.advance("features", (*done, *total), ""),
            Event::Calibrating { done, total } => self.advance("finding scales", (*done, *total), "%"),
            Event::Evaluating { split, done, total } => {
                self.advance(&format!("evaluating {split}"), (*done, *total), "");
            }
            Event::Epoch { .. } => self.epoch(event),
            Event::Note { text } => self.note(text),
            Event::Warning { text } => {
                self.print(&format!("{} {}", self.paint.apply(Style::Yellow, "warning:"), printable(text)));
            }
            Event::ClassesAdded { added } => self.line("added", &printable(&added.describe())),
            // Nothing was trained by steps that would wait.
            Event::Done { waited: 0.0, .. } => {}
            Event::Done { waited, .. } => {
                self.line(
                    "images",
                    &format!("{:.1} % of the training time went into waiting for them", 100.0 * waited),
                );
            }
            Event::Communication { ranks, steps_s, total_s, exposed_s, .. } => {
                let share = 100.0 * exposed_s / steps_s.max(f32::MIN_POSITIVE);
                let text = format!(
                    "{total_s:.2} s between {ranks} processes, of which steps waited for {exposed_s:.2} s ({share:.0} %)"
                );
                self.line("ranks", &text);
            }
            Event::StepLoss { .. } => {}
            Event::Interrupted { .. } | Event::Evaluated { .. } | Event::Mistakes { .. } => {}
        }
    }

    fn dataset(&self, event: &Event) {
        let Event::Dataset { kind, name, classes, train, val, test, skipped, notes, width, height, channels } =
            event
        else {
            return;
        };
        let (name, images, classes) =
            (printable(name), thousands((train + val + test) as u64), classes.len());
        let size = format!("{width}x{height}x{channels}");
        self.line("data", &format!("{name} ({kind}): {images} images in {classes} classes, read as {size}"));
        let [train, val, test] = [train, val, test].map(|&n| thousands(n as u64));
        self.line("", &format!("train {train}, validation {val}, test {test}"));
        match skipped {
            0 => {}
            1 => self.note("1 unreadable image was left out"),
            n => self.note(&format!("{n} unreadable images were left out")),
        }
        for note in notes {
            self.note(note);
        }
    }

    fn epoch(&self, event: &Event) {
        let Event::Epoch {
            epoch,
            epochs,
            lr: _,
            train_loss,
            train_accuracy,
            val_loss,
            val_accuracy,
            val_map,
            seconds,
            images_per_second,
            waited: _,
            best,
        } = event
        else {
            return;
        };
        let width = epochs.to_string().len();
        let accuracy = 100.0 * train_accuracy;
        let mut line =
            format!("epoch {epoch:>width$}/{epochs}  loss {train_loss:.4}  accuracy {accuracy:5.2}%");
        if let (Some(loss), Some(accuracy)) = (val_loss, val_accuracy) {
            line += &match val_map {
                Some(map) => format!("  val loss {loss:.4}  val mAP {map:.4}"),
                None => format!("  val loss {loss:.4}  val accuracy {:5.2}%", 100.0 * accuracy),
            };
        }
        line += &format!("  {}  {} images/s", duration(*seconds), thousands(*images_per_second as u64));
        if *best {
            line += &self.paint.apply(Style::Green, "  best");
        }
        self.print(&line);
    }

    /// Moves the bar, or says something where there is none and it has been quiet for long.
    fn advance(&mut self, what: &str, (done, total): (usize, usize), rest: &str) {
        match &self.mode {
            Mode::Bar(bar) => {
                if self.counted != what {
                    bar.set_style(bar_style());
                    bar.set_prefix(what.to_owned());
                    self.counted = what.to_owned();
                }
                bar.set_length(total as u64);
                bar.set_position(done as u64);
                bar.set_message(rest.to_owned());
            }
            _ if self.last_plain.elapsed() >= PLAIN_INTERVAL => {
                self.last_plain = Instant::now();
                let comma = if rest.is_empty() { "" } else { ", " };
                output::print_message(format_args!("{what}, {done} of {total}{comma}{rest}"));
            }
            _ => {}
        }
    }

    fn note(&self, text: &str) {
        self.print(&format!("{} {}", self.paint.apply(Style::Yellow, "note:"), printable(text)));
    }

    fn line(&self, label: &str, text: &str) {
        let label = format!("{label:<6}");
        self.print(&format!("{} {text}", self.paint.apply(Style::Bold, label)));
    }

    /// One line on standard error, above the bar.
    fn print(&self, line: &str) {
        match &self.mode {
            Mode::Bar(bar) => bar.suspend(|| output::print_message(line)),
            _ => output::print_message(line),
        }
    }
}

fn bar_style() -> ProgressStyle {
    let style = ProgressStyle::with_template("{prefix} [{bar:30}] {human_pos}/{human_len}  {msg}");
    style.expect("the template is constant, and a test parses it").progress_chars("=> ")
}

/// Seconds as people say them: `0.42 s`, `12.3 s`, `4 min 05 s`, `2 h 10 min`.
pub(crate) fn duration(seconds: f32) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..10 => format!("{seconds:.2} s"),
        10..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_can_be_drawn() {
        let bar = ProgressBar::hidden();
        bar.set_style(bar_style());
        bar.tick();
    }

    #[test]
    fn durations_are_readable() {
        let written = [0.421, 12.34, 59.6, 245.0, 7800.0].map(duration);
        assert_eq!(written, ["0.42 s", "12.3 s", "1 min 00 s", "4 min 05 s", "2 h 10 min"]);
    }
}
