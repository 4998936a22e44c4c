//! Hostile requests against a service that is one's own, and what held.
//!
//! ```text
//! settings ──> may it be played here? ──> Run: one check after another, each on connections of its own
//!                                          │    framing, bodies, zips, images, access
//!                                          │    slow: all beside each other, as they wait
//!                                          v
//!              after each check: do others still get their answers? ──> one event each, then the sum
//! ```
//!
//! Nothing here is meant to change what a service holds: no check deletes, trains or promotes, and archives go to a data
//! set of their own, where none of them may arrive. What a deployment has set its limits to cannot be seen from outside,
//! so checks send what every setting refuses, and times are only observed: a check fails on a wrong answer, on none
//! within [`Settings::timeout`], or, where the service is to end a slow connection, on none within
//! [`Settings::patience`].

mod access;
mod bodies;
mod framing;
mod images;
mod run;
mod settings;
mod slow;
mod wire;
mod zips;

use std::sync::atomic::{AtomicBool, Ordering};

use crate::client::target::{Status, Target};
use crate::error::FloodError;
use crate::event::{Event, Listener};
pub use crate::statistics::checks::{Check, Outcome, Summary};
use run::Run;
pub use settings::Settings;

/// Sends all hostile requests to a service, until the last one or until `stop` is raised.
///
/// # Errors
/// A service that hostile requests may not be sent to, one that does not answer normal ones, or results that the
/// listener cannot take. A check that does not hold is counted and is no error.
pub fn run(
    url: &str,
    token: Option<&str>,
    settings: &Settings,
    stop: &AtomicBool,
    listener: &mut Listener,
) -> Result<Summary, FloodError> {
    let mut target = permitted(url, token, settings)?;
    let status = target.probe(settings.timeout)?;
    let mut run = Run::new(&target, settings, stop, listener)?;
    let service = status.as_ref();
    run.tell(Event::ChecksStart { url: target.url().trim_end_matches("/predict"), service })?;
    framing::play(&mut run)?;
    bodies::play(&mut run, service.and_then(Status::model_name))?;
    images::play(&mut run)?;
    let kept = zips::play(&mut run)?;
    access::play(&mut run)?;
    slow::play(&mut run, settings.quick)?;
    let (checks, seconds) = run.end();
    let count = |outcome| checks.iter().filter(|check| check.outcome == outcome).count();
    let summary = Summary {
        schema: 1,
        r#type: "abuse",
        version: env!("CARGO_PKG_VERSION"),
        url: target.url().to_owned(),
        held: count(Outcome::Held),
        failed: count(Outcome::Failed),
        not_tried: count(Outcome::NotTried),
        service: status,
        seconds,
        interrupted: stop.load(Ordering::Acquire),
        kept,
        checks,
    };
    listener(Event::ChecksEnd(&summary)).map_err(FloodError::Output)?;
    Ok(summary)
}

/// The service, if hostile requests may be sent to it.
fn permitted(url: &str, token: Option<&str>, settings: &Settings) -> Result<Target, FloodError> {
    for (name, time) in [("timeout", settings.timeout), ("patience", settings.patience)] {
        if time.is_zero() {
            return Err(FloodError::setting(name, "must leave time for an answer"));
        }
    }
    let target = Target::new(url, token)?;
    if target.path.path() != "/predict" || target.path.query().is_some() {
        return Err(FloodError::OnePath { url: url.to_owned() });
    }
    if !settings.remote && !target.is_loopback() {
        return Err(FloodError::Remote { url: url.to_owned() });
    }
    Ok(target)
}
