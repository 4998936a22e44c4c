//! A run against one service: what it holds, how a check is made and judged.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hyper::header::{AUTHORIZATION, HOST};

use super::settings::Settings;
use super::wire::{End, Reply, Until, Wire};
use crate::client::images::Images;
use crate::client::target::Target;
use crate::error::FloodError;
use crate::event::{Event, Listener};
use crate::settings::Format;
use crate::statistics::checks::{Check, Outcome};

/// Side of the image that is predicted between the checks.
pub(super) const SIDE: u32 = 32;
/// Checks in a row after which nobody else is answered: the rest would only wait.
const DEAD: usize = 3;
/// After so long no check begins any more: a service that hangs on each would take hours.
const MOST: Duration = Duration::from_secs(600);
/// Made-up images differ by it.
pub(super) const SEED: u64 = 1;

/// What must come of bytes that were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Must {
    /// Refused or cut off, and what stands behind it is not taken for a request.
    End,
    /// Answered with 4xx.
    Refused,
    /// Answered with this status.
    Status(u16),
    /// Answered as good or as the client's fault.
    Answered,
    /// Anything but a failure of the service, or silence.
    Unharmed,
}

/// What a check found: what was seen, as what held or as what did not.
pub(super) type Found = Result<String, String>;

/// A run against one service.
pub(super) struct Run<'a> {
    pub(super) wire: Wire,
    /// An image that the service answered before the checks; none where the key does not open predictions.
    pub(super) image: Option<Vec<u8>>,
    /// How long slow connections may live.
    pub(super) patience: Duration,
    checks: Vec<Check>,
    started: Instant,
    /// Checks in a row after which others got no answers.
    dead: usize,
    pub(super) stop: &'a AtomicBool,
    listener: &'a mut Listener<'a>,
}

impl<'a> Run<'a> {
    /// Sees to it that the service answers before anything is done to it.
    pub(super) fn new(
        target: &Target,
        settings: &Settings,
        stop: &'a AtomicBool,
        listener: &'a mut Listener<'a>,
    ) -> Result<Run<'a>, FloodError> {
        let header = |name| target.headers.get(name).and_then(|value| value.to_str().ok());
        let key = header(AUTHORIZATION).map(|key| format!("authorization: {key}\r\n"));
        let wire = Wire {
            addr: target.addr(),
            host: header(HOST).unwrap_or_default().to_owned(),
            key: key.unwrap_or_default(),
            timeout: settings.timeout,
        };
        let made = Images::make((SIDE, SIDE, 3), Format::Png, SEED)?;
        let image = made.files()[0].bytes.to_vec();
        let mut run = Run {
            wire,
            image: None,
            patience: settings.patience,
            checks: Vec::new(),
            started: Instant::now(),
            dead: 0,
            stop,
            listener,
        };
        if let Err(why) = run.others() {
            return Err(FloodError::NotHealthy { reason: why });
        }
        let predicted = run.wire.send(&run.wire.post("/predict", "image/png", &image), Until::Answers(1));
        match predicted {
            Ok(reply) if reply.statuses == [200] => run.image = Some(image),
            other => {
                let seen = other.map_or_else(|error| error.to_string(), |reply| reply.text());
                let note = "a plain image is not predicted";
                run.tell(Event::Note(&format!("{note} ({seen}): it may need a key")))?;
            }
        }
        Ok(run)
    }

    /// Whether it is to stop.
    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(super) fn tell(&mut self, event: Event) -> Result<(), FloodError> {
        (self.listener)(event).map_err(FloodError::Output)
    }

    /// All checks, and how many seconds they took.
    pub(super) fn end(self) -> (Vec<Check>, f64) {
        (self.checks, self.started.elapsed().as_secs_f64())
    }

    /// Whether others get their answers.
    fn others(&self) -> Result<(), String> {
        others(&self.wire, self.image.as_deref())
    }

    /// Why no further check makes sense.
    pub(super) fn hopeless(&self) -> Option<String> {
        if self.dead >= DEAD {
            return Some(format!("nobody was answered after {DEAD} checks in a row"));
        }
        (self.started.elapsed() > MOST).then(|| format!("the run has taken {} minutes", MOST.as_secs() / 60))
    }

    /// Plays one check and says what came of it.
    pub(super) fn check(
        &mut self,
        theme: &'static str,
        name: impl Into<Cow<'static, str>>,
        expected: impl Into<Cow<'static, str>>,
        play: impl FnOnce(&Wire) -> Found,
    ) -> Result<(), FloodError> {
        if self.stopped() {
            return Ok(());
        }
        if let Some(why) = self.hopeless() {
            return self.skip(theme, name, why);
        }
        let started = Instant::now();
        let mut found = play(&self.wire);
        let seconds = started.elapsed().as_secs_f64();
        let others = self.others();
        self.dead = if others.is_err() { self.dead + 1 } else { 0 };
        if let Err(why) = others {
            let seen = found.unwrap_or_else(|seen| seen);
            found = Err(format!("{seen}; afterwards {why}"));
        }
        let (outcome, observed) = match found {
            Ok(seen) => (Outcome::Held, seen),
            Err(seen) => (Outcome::Failed, seen),
        };
        self.add(Check { theme, name: name.into(), expected: expected.into(), outcome, observed, seconds })
    }

    /// A check that sends some bytes and looks at what comes back.
    pub(super) fn bytes(
        &mut self,
        theme: &'static str,
        name: impl Into<Cow<'static, str>>,
        must: Must,
        bytes: &[u8],
    ) -> Result<(), FloodError> {
        self.check(theme, name, must.text(), |wire| must.judge(wire.send(bytes, must.until())))
    }

    /// A check that cannot be played here.
    pub(super) fn skip(
        &mut self,
        theme: &'static str,
        name: impl Into<Cow<'static, str>>,
        why: impl Into<String>,
    ) -> Result<(), FloodError> {
        if self.stopped() {
            return Ok(());
        }
        let (name, observed) = (name.into(), why.into());
        let (expected, outcome) = (Cow::Borrowed(""), Outcome::NotTried);
        self.add(Check { theme, name, expected, outcome, observed, seconds: 0.0 })
    }

    pub(super) fn add(&mut self, check: Check) -> Result<(), FloodError> {
        self.tell(Event::Check(&check))?;
        self.checks.push(check);
        Ok(())
    }
}

/// Asks what anybody else might ask: is it alive, and what does an image show?
pub(super) fn others(wire: &Wire, image: Option<&[u8]>) -> Result<(), String> {
    let live = wire.request("GET /health/live", "", b"");
    let predict = image.map(|image| wire.post("/predict", "image/png", image));
    let asked = [("GET /health/live", Some(live)), ("POST /predict of a plain image", predict)];
    for (what, bytes) in asked {
        let Some(bytes) = bytes else { continue };
        let reply = wire.send(&bytes, Until::Answers(1)).map_err(|error| format!("{what}: {error}"))?;
        if reply.statuses != [200] {
            return Err(format!("{what}: {}", reply.text()));
        }
    }
    Ok(())
}

impl Must {
    pub(super) fn text(self) -> Cow<'static, str> {
        match self {
            Must::End => "refused or cut off, nothing behind it answered, closed".into(),
            Must::Refused => "4xx".into(),
            Must::Status(status) => status.to_string().into(),
            Must::Answered => "2xx or 4xx".into(),
            Must::Unharmed => "any answer but 5xx, or closed".into(),
        }
    }

    fn until(self) -> Until {
        match self {
            Must::End => Until::End,
            _ => Until::Answers(1),
        }
    }

    pub(super) fn judge(self, reply: std::io::Result<Reply>) -> Found {
        let reply = reply.map_err(|error| format!("no connection: {error}"))?;
        let answers: Vec<u16> = reply.answers().collect();
        // 501 and 505 say that a coding, a method or a version is not spoken here.
        let refusal = |status: u16| (400..500).contains(&status) || status == 501 || status == 505;
        let ended = matches!(reply.end, End::Closed | End::Reset);
        let held = match (self, answers.as_slice()) {
            _ if reply.nonsense => false,
            (Must::End, []) => ended,
            (Must::End, [status]) => refusal(*status) && ended,
            (Must::Refused, [status]) => refusal(*status),
            (Must::Status(wanted), [status]) => *status == wanted,
            (Must::Answered, [status]) => refusal(*status) || (200..300).contains(status),
            (Must::Unharmed, []) => ended,
            (Must::Unharmed, [status]) => *status < 500 || refusal(*status),
            _ => false,
        };
        if held { Ok(reply.text()) } else { Err(reply.text()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(statuses: &[u16], end: End) -> std::io::Result<Reply> {
        let (statuses, took) = (statuses.to_vec(), Duration::ZERO);
        Ok(Reply { statuses, body: Vec::new(), end, took, nonsense: false })
    }

    #[test]
    fn answers_are_judged() {
        use End::{Closed, Open, Reset, Unseen};
        for (must, statuses, end, held) in [
            (Must::End, &[][..], Closed, true),
            (Must::End, &[], Reset, true),
            (Must::End, &[], Open, false),
            (Must::End, &[400], Closed, true),
            (Must::End, &[100, 400], Closed, true),
            (Must::End, &[400], Open, false),
            (Must::End, &[200], Unseen, false),
            (Must::End, &[500], Closed, false),
            (Must::End, &[400, 200], Closed, false),
            (Must::Refused, &[413], Unseen, true),
            (Must::Refused, &[], Closed, false),
            (Must::Refused, &[503], Open, false),
            (Must::Status(400), &[400], Unseen, true),
            (Must::Status(400), &[404], Open, false),
            (Must::Answered, &[200], Unseen, true),
            (Must::Answered, &[500], Open, false),
            (Must::Unharmed, &[], Closed, true),
            (Must::Unharmed, &[301], Open, true),
            (Must::Unharmed, &[502], Open, false),
        ] {
            let found = must.judge(reply(statuses, end));
            assert_eq!(found.is_ok(), held, "{must:?} {statuses:?} {end:?}: {found:?}");
        }
        assert!(Must::End.judge(Err(std::io::ErrorKind::ConnectionRefused.into())).is_err());
    }
}
