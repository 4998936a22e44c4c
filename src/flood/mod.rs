//! `ocelli flood`: what a service answers, and how fast, under load.
//!
//! ```text
//! settings ──> target, images, bodies: everything that is sent, made once
//!                   │
//!                   v
//!   load: threads of connections ──> client: one request, one answer or fault
//!     closed: next request when the answer is there         │
//!     open:   arrivals keep their times                     v
//!                                   tally: histograms and counts, one a thread
//!                                                           │ merged
//!                                                           v
//!                                   level: the numbers of one level of load
//!                                                           │
//!                                     text, JSON, html <────┘
//! ```
//!
//! A closed loop keeps a number of connections busy and finds the most that a service can do. Its latencies flatter a
//! service that stalls, as nobody sends while it does (coordinated omission; Tene, "How NOT to Measure Latency", 2015).
//! An open loop sends at times that are fixed beforehand and counts from those: a request that had to wait for a
//! connection has waited.
//!
//! The tool usually shares its machine with the service, so what it costs falsifies what it measures: requests are
//! built once, one thread drives all connections, and of an answer only what is counted is read. With hyper's client
//! that is some 33 microseconds of processor time a request, the kernel's part included, where wrk takes 24 for the same
//! requests (two cores of an EPYC, 32 connections, forms of one kilobyte).

mod abuse;
mod arrivals;
mod bodies;
mod charts;
mod check;
mod client;
mod html;
mod images;
mod level;
mod load;
mod progress;
mod settings;
mod tally;
mod target;
mod text;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ocelli_pipeline::write_atomic;
use serde::Serialize;

use crate::failure::{Failure, Message};
use crate::interrupt::Interrupt;
use crate::output::Output;
use bodies::{BodyKind, Requests};
use check::Check;
use images::Images;
use level::Level;
use load::Job;
use progress::Progress;
use settings::{Arrivals, Format, Pictures, Plan, Size, parse_duration};
use target::{Status, Target};

/// Send images to a service and measure its answers
///
/// A closed loop (-c) keeps connections busy and finds the highest throughput; an open loop (--rate) sends at fixed times
/// and measures latency as users meet it, waiting included. Several levels are measured in turn: -c 1,8,32.
///
/// `--abuse` measures nothing: it plays hostile requests (broken framing, slow clients, lying bodies, archives and images
/// that were made to do harm, missing keys) against a service of your own, one after another, and says what held.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The service; the path is /predict if left out
    #[arg(default_value = "http://127.0.0.1:8080")]
    url: String,

    /// Closed loop: connections, each with one request at a time; several levels as 1,8,32 [default: 8]
    #[arg(short, long, value_name = "N", value_delimiter = ',', help_heading = "Load")]
    concurrency: Vec<usize>,
    /// Open loop: requests a second, whatever the service does; several levels as 100,1000
    #[arg(
        long,
        value_name = "R",
        value_delimiter = ',',
        conflicts_with = "concurrency",
        help_heading = "Load"
    )]
    rate: Vec<f64>,
    /// Spacing of an open loop's requests
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson, help_heading = "Load")]
    arrivals: Arrivals,
    /// Most connections of an open loop; what is due while all are busy waits, and its wait counts
    #[arg(long, value_name = "N", default_value_t = 256, help_heading = "Load")]
    connections: usize,
    /// How long each level is measured [default: 10s, or without limit where --requests is given]
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration, help_heading = "Load")]
    duration: Option<Duration>,
    /// End a level after so many requests
    #[arg(short = 'n', long, value_name = "N", help_heading = "Load")]
    requests: Option<u64>,
    /// Load before each level that is not counted
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration, help_heading = "Load")]
    warmup: Duration,
    /// A request without its whole answer by then has failed
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration, help_heading = "Load")]
    timeout: Duration,
    /// Threads that send; one drives some 20,000 requests a second
    #[arg(short, long, value_name = "N", default_value_t = 1, help_heading = "Load")]
    threads: usize,

    /// An image file, or a folder of them; made-up images if left out
    #[arg(short, long, value_name = "PATH", help_heading = "Requests")]
    images: Option<PathBuf>,
    /// Size of made-up images, as 224, 224x224 or 28x28x1; what the service's status says if left out
    #[arg(long, value_name = "WxHxC", conflicts_with = "images", help_heading = "Requests")]
    size: Option<Size>,
    /// Format of made-up images
    #[arg(long, value_enum, default_value_t = Format::Png, conflicts_with = "images", help_heading = "Requests")]
    format: Format,
    /// Seed of made-up images and of random arrivals
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Requests")]
    seed: u64,
    /// Images in a request
    #[arg(short, long, value_name = "N", default_value_t = 1, help_heading = "Requests")]
    batch: usize,
    /// How images are sent
    #[arg(long, value_enum, default_value_t = BodyKind::Multipart, help_heading = "Requests")]
    body: BodyKind,
    /// Sent as `Authorization: Bearer TEXT`
    #[arg(
        long,
        value_name = "TEXT",
        env = "OCELLI_TOKEN",
        hide_env_values = true,
        help_heading = "Requests"
    )]
    token: Option<String>,
    /// An image whose label changes between two answers of one model version is an error
    #[arg(long, help_heading = "Requests")]
    check: bool,

    /// Exit code 3 where the 99th percentile of any level is higher, e.g. 25ms
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Gates")]
    max_p99: Option<Duration>,
    /// Exit code 3 where no level has so many good answers a second
    #[arg(long, value_name = "R", help_heading = "Gates")]
    min_rate: Option<f64>,
    /// Exit code 3 where more requests fail, over all levels
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Gates")]
    max_errors: u64,

    /// Play hostile requests in place of a load; exit code 3 where something did not hold
    #[arg(
        long,
        conflicts_with_all = [
            "concurrency", "rate", "duration", "requests", "images", "size", "check", "max_p99", "min_rate", "html"
        ],
        help_heading = "Abuse"
    )]
    abuse: bool,
    /// Leave out the slow clients, which take as long as the service lets them live
    #[arg(long, requires = "abuse", help_heading = "Abuse")]
    quick: bool,
    /// How long the service may take to end a slow or silent connection; its longest limit is `keep_alive`, 75s
    #[arg(
        long,
        value_name = "TIME",
        default_value = "90s",
        value_parser = parse_duration,
        help_heading = "Abuse"
    )]
    patience: Duration,
    /// The service is on another machine, and you may do this to it
    #[arg(long, requires = "abuse", help_heading = "Abuse")]
    yes_it_is_mine: bool,

    /// One JSON object for each level and one for the whole, on standard output; with --abuse, one for the whole
    #[arg(long, help_heading = "Report")]
    json: bool,
    /// Write a report with charts; one file that needs nothing else
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    html: Option<PathBuf>,
}

/// What was measured against what, as every report says it.
#[derive(Serialize)]
struct Summary<'a> {
    schema: u32,
    r#type: &'static str,
    version: &'static str,
    url: &'a str,
    /// What the service says about itself; null where it has no `GET /status`.
    service: Option<&'a Status>,
    images: &'a str,
    distinct_images: usize,
    batch: usize,
    body: BodyKind,
    threads: usize,
    warmup_s: f64,
    timeout_s: f64,
    check: bool,
    levels: usize,
    requests: u64,
    ok: u64,
    errors: u64,
    /// Good answers a second of the best level.
    best_ok_per_second: f64,
    interrupted: bool,
    debug_build: bool,
    /// Gates that were missed, each as a sentence.
    missed: Vec<String>,
}

pub(crate) fn run(args: Args, out: &mut Output) -> Result<(), Failure> {
    if args.abuse {
        return abuse::run(&args, out);
    }
    let plan = Plan::new(&args)?;
    args.html.as_deref().map_or(Ok(()), place_for_report)?;
    let mut target = Target::new(&args.url, args.token.as_deref())?;
    let interrupt = Interrupt::listen()?;
    interrupt.announce("stopping: the report is of what was measured so far, a second signal ends at once");
    let status = target.probe(plan.timeout)?;
    let images = match &plan.pictures {
        Pictures::Path(path) => Images::read(path, out)?,
        Pictures::Made { size, format } => Images::make(size.resolve(status.as_ref()), *format, plan.seed)?,
    };
    let requests = Arc::new(Requests::new(&images, plan.body, plan.batch, &target)?);
    if cfg!(debug_assertions) {
        out.warn("this is a debug build, which is slower: build with --release");
    }
    let target = Arc::new(target);
    if !args.json {
        text::head(&target, status.as_ref(), &plan, &images, out)?;
    }
    let check = plan.check.then(|| Arc::new(Check::default()));
    let mut levels: Vec<Level> = Vec::new();
    for (i, &load) in plan.levels.iter().enumerate() {
        let job = Arc::new(Job::new(load, &plan, Arc::clone(&target), Arc::clone(&requests), check.clone()));
        let mut progress = Progress::new(out, (i + 1, plan.levels.len()), &job);
        let tally = load::run(&job, &interrupt, &mut |job| progress.show(job));
        progress.finish();
        let level = Level::new(load, tally?);
        if args.json {
            out.json(&level)?;
        } else {
            text::level(&level, i == 0, out)?;
        }
        levels.push(level);
        if interrupt.raised() {
            break;
        }
    }
    let total = |count: fn(&Level) -> u64| levels.iter().map(count).sum();
    let summary = Summary {
        schema: 1,
        r#type: "flood",
        version: env!("CARGO_PKG_VERSION"),
        url: target.url(),
        service: status.as_ref(),
        images: images.about(),
        distinct_images: images.distinct(),
        batch: plan.batch,
        body: plan.body,
        threads: plan.threads,
        warmup_s: plan.warmup.as_secs_f64(),
        timeout_s: plan.timeout.as_secs_f64(),
        check: plan.check,
        levels: levels.len(),
        requests: total(|level| level.requests),
        ok: total(|level| level.ok),
        errors: total(|level| level.errors),
        best_ok_per_second: levels.iter().map(|level| level.ok_per_second).fold(0.0, f64::max),
        interrupted: interrupt.raised(),
        debug_build: cfg!(debug_assertions),
        missed: missed(&args, &levels),
    };
    if args.json {
        out.json(&summary)?;
    } else {
        text::tail(&levels, out)?;
    }
    if let Some(path) = &args.html {
        write_atomic(path, html::page(&summary, &levels).as_bytes())?;
        out.say(format_args!("report    {}", path.display()));
    }
    verdict(&summary, &interrupt)
}

/// Whether the report can be expected to be written: a run of minutes must not end with a folder that is not there.
fn place_for_report(path: &Path) -> Result<(), Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if path.file_name().is_none() || path.is_dir() || !folder.is_dir() {
        let text = format!("--html {}: not a file in a folder that exists", path.display());
        return Err(Failure::usage(text, "make the folder first, or name another file"));
    }
    Ok(())
}

/// The gates that the levels miss.
fn missed(args: &Args, levels: &[Level]) -> Vec<String> {
    let mut missed = Vec::new();
    if let Some(most) = args.max_p99.map(|most| 1e3 * most.as_secs_f64()) {
        // A level without one good answer has no percentile that could pass.
        let over = |level: &&Level| level.latency_ms.as_ref().is_none_or(|latency| latency.p99 > most);
        for level in levels.iter().filter(over) {
            let p99 = level
                .latency_ms
                .as_ref()
                .map_or("no good answer".to_owned(), |latency| format!("p99 {:.3} ms", latency.p99));
            missed.push(format!("{}: {p99}, --max-p99 is {most} ms", level.load));
        }
    }
    if let Some(least) = args.min_rate {
        let best = levels.iter().map(|level| level.ok_per_second).fold(0.0, f64::max);
        if best < least {
            missed.push(format!("{best:.1} good answers a second at best, --min-rate is {least}"));
        }
    }
    let errors: u64 = levels.iter().map(|level| level.errors).sum();
    if errors > args.max_errors {
        let requests: u64 = levels.iter().map(|level| level.requests).sum();
        missed.push(format!("{errors} of {requests} requests failed, --max-errors is {}", args.max_errors));
    }
    missed
}

fn verdict(summary: &Summary, interrupt: &Interrupt) -> Result<(), Failure> {
    if summary.interrupted {
        let text = format!("stopped in level {} after {} requests", summary.levels, summary.requests);
        let message = Message { text, hint: None };
        return Err(Failure::Interrupted { signal: interrupt.signal(), message });
    }
    if summary.missed.is_empty() {
        return Ok(());
    }
    let hint =
        (summary.errors > 0).then(|| "failed requests are listed in the report by their kind".to_owned());
    Err(Failure::Gate(Message { text: summary.missed.join("; "), hint }))
}
