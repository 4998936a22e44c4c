//! One run of a load: level after level against one service.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ocelli_common::text::printable;

use crate::client::bodies::Requests;
use crate::client::images::Images;
use crate::client::target::Target;
use crate::error::FloodError;
use crate::event::{Counts, Event, Listener, Progress, Start};
use crate::load::check::LabelCheck;
use crate::load::sender::{self, Work};
use crate::settings::{Pictures, Settings, Size};
use crate::statistics::level::Level;
use crate::statistics::summary::{Summary, missed};

/// Measures a service under every level of `settings`, until the last one ends or `stop` is raised; then the level that
/// was under way is told as far as it came.
///
/// `token` is sent as a bearer token with every request.
///
/// # Errors
/// Settings out of range, a service that does not answer at all, images that cannot be read, or results that the
/// listener cannot take. Requests that fail are counted and are no error.
pub fn run(
    url: &str,
    token: Option<&str>,
    settings: &Settings,
    stop: &AtomicBool,
    listener: &mut Listener,
) -> Result<Summary, FloodError> {
    settings.check()?;
    let mut target = Target::new(url, token)?;
    let mut tell = |event: Event| listener(event).map_err(FloodError::Output);
    let status = target.probe(settings.timeout)?;
    let images = match &settings.pictures {
        Pictures::Path(path) => Images::read(path)?,
        Pictures::Made { size, format } => {
            let input = status.as_ref().and_then(|status| status.input());
            Images::make(Size::choose(*size, input), *format, settings.seed)?
        }
    };
    for warning in &images.warnings {
        tell(Event::Warning(&printable(warning)))?;
    }
    for note in &images.notes {
        tell(Event::Note(&printable(note)))?;
    }
    let requests = Arc::new(Requests::new(&images, settings.body, settings.batch, &target)?);
    if cfg!(debug_assertions) {
        tell(Event::Warning("this is a debug build, which is slower: build with --release"))?;
    }
    let target = Arc::new(target);
    tell(Event::Start(&Start {
        url: target.url(),
        service: status.as_ref(),
        body: settings.body,
        batch: settings.batch,
        images: images.about(),
        distinct_images: images.distinct(),
    }))?;
    let check = settings.check.then(|| Arc::new(LabelCheck::default()));
    let mut levels: Vec<Level> = Vec::new();
    for (i, &load) in settings.levels.iter().enumerate() {
        let work =
            Arc::new(Work::new(load, settings, Arc::clone(&target), Arc::clone(&requests), check.clone()));
        let start = Instant::now();
        let number = (i + 1, settings.levels.len());
        let tally =
            sender::run(&work, stop, &mut |work| tell(Event::Progress(&progress(work, number, start))))?;
        let level = Level::new(load, tally);
        tell(Event::Level(&level))?;
        levels.push(level);
        if stop.load(Ordering::Acquire) {
            break;
        }
    }
    let total = |count: fn(&Level) -> u64| levels.iter().map(count).sum();
    let summary = Summary {
        schema: 1,
        r#type: "flood",
        version: env!("CARGO_PKG_VERSION"),
        url: target.url().to_owned(),
        service: status,
        images: images.about().to_owned(),
        distinct_images: images.distinct(),
        batch: settings.batch,
        body: settings.body,
        threads: settings.threads,
        warmup_s: settings.warmup.as_secs_f64(),
        timeout_s: settings.timeout.as_secs_f64(),
        check: settings.check,
        levels: levels.len(),
        requests: total(|level| level.requests),
        ok: total(|level| level.ok),
        errors: total(|level| level.errors),
        best_ok_per_second: levels.iter().map(|level| level.ok_per_second).fold(0.0, f64::max),
        interrupted: stop.load(Ordering::Acquire),
        debug_build: cfg!(debug_assertions),
        missed: missed(&settings.limits, &levels),
    };
    tell(Event::End(&summary, &levels))?;
    Ok(summary)
}

/// How far a level is that began at `start`.
fn progress(work: &Work, level: (usize, usize), start: Instant) -> Progress {
    let measured = start.elapsed().saturating_sub(work.warmup);
    if measured.is_zero() {
        return Progress { level, load: work.load, part: 0.0, counts: None };
    }
    let (ok, errors) = (work.live.ok.load(Ordering::Relaxed), work.live.errors.load(Ordering::Relaxed));
    let of_time = work.duration.map(|duration| measured.as_secs_f64() / duration.as_secs_f64());
    let of_budget = work.budget.map(|budget| (ok + errors) as f64 / budget as f64);
    let part = of_time.unwrap_or(0.0).max(of_budget.unwrap_or(0.0)).min(1.0);
    let ok_per_second = ok as f64 / measured.as_secs_f64();
    Progress { level, load: work.load, part, counts: Some(Counts { ok, errors, ok_per_second }) }
}
