//! `ocelli flood --abuse`: hostile requests against a service that is one's own, and what held.
//!
//! ```text
//! settings ──> may it be played here? ──> Run: one check after another, each on connections of its own
//!                                          │    framing, bodies, zips, images, access
//!                                          │    slow: all beside each other, as they wait
//!                                          v
//!              after each check: do others still get their answers? ──> one line each, or one JSON object
//! ```
//!
//! Nothing here is meant to change what a service holds: no check deletes, trains or promotes, and archives go to a data
//! set of their own, where none of them may arrive. What a deployment has set its limits to cannot be seen from outside,
//! so checks send what every setting refuses, and times are only observed: a check fails on a wrong answer, on none
//! within `--timeout`, or, where the service is to end a slow connection, on none within `--patience`.

mod access;
// Shared with the tests of all crates, which take more of it.
#[allow(dead_code, unreachable_pub, reason = "the crate of test files publishes the same module")]
mod archive;
mod bodies;
mod framing;
mod images;
mod report;
mod slow;
mod wire;
mod zips;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::header::{AUTHORIZATION, HOST};
use serde::Serialize;

use super::Args;
use super::images::Images;
use super::settings::Format;
use super::target::{Status, Target};
use crate::failure::{Failure, Message};
use crate::interrupt::Interrupt;
use crate::output::Output;
use wire::{End, Reply, Until, Wire};

/// Side of the image that is predicted between the checks.
const SIDE: u32 = 32;
/// Checks in a row after which nobody else is answered: the rest would only wait.
const DEAD: usize = 3;
/// After so long no check begins any more: a service that hangs on each would take hours.
const MOST: Duration = Duration::from_secs(600);
/// Made-up images differ by it.
const SEED: u64 = 1;

/// What became of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Held,
    Failed,
    NotTried,
}

/// One check, as reports show it.
#[derive(Debug, Serialize)]
struct Check {
    theme: &'static str,
    /// What is sent.
    name: Cow<'static, str>,
    /// What must come of it.
    expected: Cow<'static, str>,
    outcome: Outcome,
    /// What came of it, or why it was not tried.
    observed: String,
    seconds: f64,
}

/// What must come of bytes that were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Must {
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
type Found = Result<String, String>;

/// A run against one service.
struct Run<'a> {
    wire: Wire,
    /// An image that the service answered before the checks; none where the key does not open predictions.
    image: Option<Vec<u8>>,
    /// How long slow connections may live.
    patience: Duration,
    checks: Vec<Check>,
    started: Instant,
    /// Checks in a row after which others got no answers.
    dead: usize,
    interrupt: Arc<Interrupt>,
    json: bool,
    out: &'a mut Output,
}

/// The whole, for `--json`.
#[derive(Serialize)]
struct Summary<'a> {
    schema: u32,
    r#type: &'static str,
    version: &'static str,
    url: &'a str,
    /// What the service says about itself; null where it has no `GET /status` or asks for a key.
    service: Option<&'a Status>,
    held: usize,
    failed: usize,
    not_tried: usize,
    seconds: f64,
    interrupted: bool,
    /// Whether something of the archives that were sent stayed; null where none could be sent.
    kept: Option<bool>,
    checks: &'a [Check],
}

/// See the module.
pub(super) fn run(args: &Args, out: &mut Output) -> Result<(), Failure> {
    let mut target = permitted(args)?;
    let interrupt = Interrupt::listen()?;
    interrupt.announce("stopping: the report is of what was tried so far, a second signal ends at once");
    let status = target.probe(args.timeout)?;
    let mut run = Run::new(&target, args, interrupt, out)?;
    run.head(&target, status.as_ref());
    framing::play(&mut run)?;
    bodies::play(&mut run, status.as_ref().and_then(Status::model_name))?;
    images::play(&mut run)?;
    let kept = zips::play(&mut run)?;
    access::play(&mut run)?;
    slow::play(&mut run, args.quick)?;
    let Run { checks, started, interrupt, out, .. } = run;
    let count = |outcome| checks.iter().filter(|check| check.outcome == outcome).count();
    let summary = Summary {
        schema: 1,
        r#type: "abuse",
        version: env!("CARGO_PKG_VERSION"),
        url: target.url(),
        service: status.as_ref(),
        held: count(Outcome::Held),
        failed: count(Outcome::Failed),
        not_tried: count(Outcome::NotTried),
        seconds: started.elapsed().as_secs_f64(),
        interrupted: interrupt.raised(),
        kept,
        checks: &checks,
    };
    if args.json {
        out.json(&summary)?;
    } else {
        report::tail(&summary, out)?;
    }
    verdict(&summary, &interrupt)
}

/// The service, if hostile requests may be sent to it.
fn permitted(args: &Args) -> Result<Target, Failure> {
    if args.timeout.is_zero() || args.patience.is_zero() {
        let text = "--timeout and --patience must leave time for an answer";
        return Err(Failure::usage(text, "`ocelli flood --help` lists what it takes"));
    }
    let target = Target::new(&args.url, args.token.as_deref())?;
    if target.path.path() != "/predict" || target.path.query().is_some() {
        let text = format!("{}: --abuse plays against a whole service, not one path of it", args.url);
        return Err(Failure::usage(text, "leave the path out, as in http://127.0.0.1:8080"));
    }
    if !args.yes_it_is_mine && !target.is_loopback() {
        let text =
            format!("{}: hostile requests go to this machine alone unless you say otherwise", args.url);
        let hint = "against other people's services this is an attack; for your own, add --yes-it-is-mine";
        return Err(Failure::usage(text, hint));
    }
    Ok(target)
}

impl<'a> Run<'a> {
    /// Sees to it that the service answers before anything is done to it.
    fn new(
        target: &Target,
        args: &Args,
        interrupt: Arc<Interrupt>,
        out: &'a mut Output,
    ) -> Result<Run<'a>, Failure> {
        let header = |name| target.headers.get(name).and_then(|value| value.to_str().ok());
        let key = header(AUTHORIZATION).map(|key| format!("authorization: {key}\r\n"));
        let wire = Wire {
            addr: target.addr(),
            host: header(HOST).unwrap_or_default().to_owned(),
            key: key.unwrap_or_default(),
            timeout: args.timeout,
        };
        let made = Images::make((SIDE, SIDE, 3), Format::Png, SEED)?;
        let image = made.files()[0].bytes.to_vec();
        let mut run = Run {
            wire,
            image: None,
            patience: args.patience,
            checks: Vec::new(),
            started: Instant::now(),
            dead: 0,
            interrupt,
            json: args.json,
            out,
        };
        if let Err(why) = run.others() {
            let hint = "a service of Ocelli answers it with 200 from its start to its end";
            return Err(Failure::failed(format!("before any check, {why}"), hint));
        }
        let predicted = run.wire.send(&run.wire.post("/predict", "image/png", &image), Until::Answers(1));
        match predicted {
            Ok(reply) if reply.statuses == [200] => run.image = Some(image),
            other => {
                let seen = other.map_or_else(|error| error.to_string(), |reply| reply.text());
                let note = "note: a plain image is not predicted";
                run.out.say(format_args!("{note} ({seen}); --token sends a key"));
            }
        }
        Ok(run)
    }

    fn head(&self, target: &Target, status: Option<&Status>) {
        if !self.json {
            report::head(target, status, self.out);
        }
    }

    /// Whether others get their answers.
    fn others(&self) -> Result<(), String> {
        others(&self.wire, self.image.as_deref())
    }

    /// Why no further check makes sense.
    fn hopeless(&self) -> Option<String> {
        if self.dead >= DEAD {
            return Some(format!("nobody was answered after {DEAD} checks in a row"));
        }
        (self.started.elapsed() > MOST).then(|| format!("the run has taken {} minutes", MOST.as_secs() / 60))
    }

    /// Plays one check and says what came of it.
    fn check(
        &mut self,
        theme: &'static str,
        name: impl Into<Cow<'static, str>>,
        expected: impl Into<Cow<'static, str>>,
        play: impl FnOnce(&Wire) -> Found,
    ) -> Result<(), Failure> {
        if self.interrupt.raised() {
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
    fn bytes(
        &mut self,
        theme: &'static str,
        name: impl Into<Cow<'static, str>>,
        must: Must,
        bytes: &[u8],
    ) -> Result<(), Failure> {
        self.check(theme, name, must.text(), |wire| must.judge(wire.send(bytes, must.until())))
    }

    /// A check that cannot be played here.
    fn skip(
        &mut self,
        theme: &'static str,
        name: impl Into<Cow<'static, str>>,
        why: impl Into<String>,
    ) -> Result<(), Failure> {
        if self.interrupt.raised() {
            return Ok(());
        }
        let (name, observed) = (name.into(), why.into());
        let (expected, outcome) = (Cow::Borrowed(""), Outcome::NotTried);
        self.add(Check { theme, name, expected, outcome, observed, seconds: 0.0 })
    }

    fn add(&mut self, check: Check) -> Result<(), Failure> {
        if !self.json {
            report::line(&check, self.out)?;
        }
        self.checks.push(check);
        Ok(())
    }
}

/// Asks what anybody else might ask: is it alive, and what does an image show?
fn others(wire: &Wire, image: Option<&[u8]>) -> Result<(), String> {
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
    fn text(self) -> Cow<'static, str> {
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

    fn judge(self, reply: std::io::Result<Reply>) -> Found {
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

fn verdict(summary: &Summary, interrupt: &Interrupt) -> Result<(), Failure> {
    if summary.interrupted {
        let text = format!("stopped after {} checks", summary.checks.len());
        return Err(Failure::Interrupted {
            signal: interrupt.signal(),
            message: Message { text, hint: None },
        });
    }
    if summary.failed == 0 {
        return Ok(());
    }
    let text = format!("{} of {} checks did not hold", summary.failed, summary.held + summary.failed);
    Err(Failure::Gate(Message { text, hint: Some("each line says what was wanted".to_owned()) }))
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
