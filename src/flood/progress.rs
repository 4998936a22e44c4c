//! How far a level is: a bar on a terminal, a line now and then in a pipe.

use std::io::IsTerminal;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::load::Job;
use crate::output::{self, Output};
use crate::progress::thousands;

/// Without a terminal, how often a long level shows that it is alive.
const PLAIN_INTERVAL: Duration = Duration::from_secs(30);
/// Steps of a bar.
const STEPS: u64 = 1000;

/// Shows one level.
pub(super) struct Progress {
    mode: Mode,
    what: String,
    start: Instant,
    last_plain: Instant,
}

enum Mode {
    Bar(ProgressBar),
    Plain,
    Quiet,
}

impl Progress {
    pub(super) fn new(out: &Output, (level, levels): (usize, usize), job: &Job) -> Progress {
        let what = format!("level {level} of {levels}, {}", job.load);
        let mode = if out.quiet() {
            Mode::Quiet
        } else if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(STEPS);
            let style = ProgressStyle::with_template("{prefix} [{bar:30}] {msg}");
            bar.set_style(
                style.expect("the template is constant, and a test parses it").progress_chars("=> "),
            );
            bar.set_prefix(what.clone());
            Mode::Bar(bar)
        } else {
            Mode::Plain
        };
        let start = Instant::now();
        Progress { mode, what, start, last_plain: start }
    }

    pub(super) fn show(&mut self, job: &Job) {
        let now = match &self.mode {
            Mode::Quiet => return,
            Mode::Plain if self.last_plain.elapsed() < PLAIN_INTERVAL => return,
            _ => self.now(job),
        };
        match &self.mode {
            Mode::Bar(bar) => {
                bar.set_position((now.part * STEPS as f64) as u64);
                bar.set_message(now.text);
            }
            _ => {
                self.last_plain = Instant::now();
                output::talk(format_args!("{}: {}", self.what, now.text));
            }
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        if let Mode::Bar(bar) = &self.mode {
            bar.finish_and_clear();
        }
    }

    fn now(&self, job: &Job) -> Now {
        let measured = self.start.elapsed().saturating_sub(job.warmup);
        if measured.is_zero() {
            return Now { part: 0.0, text: "warm-up".to_owned() };
        }
        let (ok, errors) = (job.live.ok.load(Ordering::Relaxed), job.live.errors.load(Ordering::Relaxed));
        let of_time = job.duration.map(|duration| measured.as_secs_f64() / duration.as_secs_f64());
        let of_budget = job.budget.map(|budget| (ok + errors) as f64 / budget as f64);
        let part = of_time.unwrap_or(0.0).max(of_budget.unwrap_or(0.0)).min(1.0);
        let rate = ok as f64 / measured.as_secs_f64();
        let mut text = format!("{} answers, {}/s", thousands(ok), thousands(rate as u64));
        if errors > 0 {
            text += &format!(", {} failed", thousands(errors));
        }
        Now { part, text }
    }
}

struct Now {
    part: f64,
    text: String,
}
