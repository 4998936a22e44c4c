//! `ocelli flood`: arguments, progress and print-out of a load, and of hostile requests; the crate `ocelli_flood` sends
//! them.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use indicatif::{ProgressBar, ProgressStyle};
use ocelli_common::text::chain;
use ocelli_flood::report::paint::Tone;
use ocelli_flood::report::{self, checks, text};
use ocelli_flood::{
    Arrivals, BodyKind, Event, FloodError, Format, Limits, Load, Pictures, Settings, Size, abuse,
    parse_duration,
};
use ocelli_pipeline::write_atomic;

use crate::failure::{Failure, Message};
use crate::interrupt::Interrupt;
use crate::output::{self, Output, Paint, Style};

/// How long a level is measured where nothing says.
const DURATION: Duration = Duration::from_secs(10);
/// Connections where nothing says.
const CONCURRENCY: usize = 8;
/// Without a terminal, how often a long level shows that it is alive.
const PLAIN_INTERVAL: Duration = Duration::from_secs(30);
/// Steps of a bar.
const STEPS: u64 = 1000;

/// Words of an argument, each with its help and what it stands for.
type Words<T, const N: usize> = [(&'static str, &'static str, T); N];

const ARRIVALS: Words<Arrivals, 2> = [
    ("fixed", "Equal", Arrivals::Fixed),
    ("poisson", "Random, as of many users who do not know of each other", Arrivals::Poisson),
];
const FORMATS: Words<Format, 2> = [("png", "", Format::Png), ("jpeg", "", Format::Jpeg)];
const BODIES: Words<BodyKind, 3> = [
    ("multipart", "A form with a field `file` for each image", BodyKind::Multipart),
    ("raw", "The image's bytes", BodyKind::Raw),
    ("json", "Base64 in {\"image\": ..}, or {\"images\": [..]} for several", BodyKind::Json),
];

/// Takes one of some words.
fn one_of<T: Copy + Send + Sync + 'static, const N: usize>(
    words: Words<T, N>,
) -> impl TypedValueParser<Value = T> {
    let known = words.map(|(word, help, _)| {
        let value = PossibleValue::new(word);
        if help.is_empty() { value } else { value.help(help) }
    });
    PossibleValuesParser::new(known).map(move |word| {
        let (.., value) = words.iter().find(|(known, ..)| *known == word).expect("only known words get here");
        *value
    })
}

/// Send images to a service and measure its answers
///
/// A closed loop (-c) keeps connections busy and finds the highest throughput; an open loop (--rate) sends at fixed times
/// and measures latency as users meet it, waiting included. Several levels are measured in turn: -c 1,8,32.
///
/// `--abuse` measures nothing: it sends hostile requests (broken framing, slow clients, lying bodies, archives and images
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
    #[arg(long, value_parser = one_of(ARRIVALS), default_value = "poisson", help_heading = "Load")]
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
    #[arg(
        long,
        value_parser = one_of(FORMATS),
        default_value = "png",
        conflicts_with = "images",
        help_heading = "Requests"
    )]
    format: Format,
    /// Seed of made-up images and of random arrivals
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Requests")]
    seed: u64,
    /// Images in a request
    #[arg(short, long, value_name = "N", default_value_t = 1, help_heading = "Requests")]
    batch: usize,
    /// How images are sent
    #[arg(long, value_parser = one_of(BODIES), default_value = "multipart", help_heading = "Requests")]
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

    /// Send hostile requests in place of a load; exit code 3 where something did not hold
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

pub(crate) fn run(args: Args, out: &mut Output) -> Result<(), Failure> {
    if args.abuse {
        return hostile(&args, out);
    }
    let settings = args.settings();
    settings.check()?;
    args.html.as_deref().map_or(Ok(()), place_for_report)?;
    let interrupt = Interrupt::listen()?;
    interrupt.announce("stopping: the report is of what was measured so far, a second signal ends at once");
    let mut view = View::new(out, args.json);
    let mut page = None;
    let listen = &mut |event: Event<'_>| {
        if let (Event::End(summary, levels), true) = (&event, args.html.is_some()) {
            page = Some(report::page(summary, levels));
        }
        view.show(event)
    };
    let summary = ocelli_flood::run(&args.url, args.token.as_deref(), &settings, &interrupt.stop, listen)?;
    if let (Some(path), Some(page)) = (&args.html, page) {
        write_atomic(path, page.as_bytes())?;
        out.say(format_args!("report    {}", path.display()));
    }
    if summary.interrupted {
        let text = format!("stopped in level {} after {} requests", summary.levels, summary.requests);
        return Err(interrupted(&interrupt, text));
    }
    if summary.missed.is_empty() {
        return Ok(());
    }
    let hint =
        (summary.errors > 0).then(|| "failed requests are listed in the report by their kind".to_owned());
    Err(Failure::Gate(Message { text: summary.missed.join("; "), hint }))
}

/// `--abuse`.
fn hostile(args: &Args, out: &mut Output) -> Result<(), Failure> {
    let settings = abuse::Settings {
        timeout: args.timeout,
        patience: args.patience,
        quick: args.quick,
        remote: args.yes_it_is_mine,
    };
    let interrupt = Interrupt::listen()?;
    interrupt.announce("stopping: the report is of what was tried so far, a second signal ends at once");
    let mut view = View::new(out, args.json);
    let listen = &mut |event: Event<'_>| view.show(event);
    let summary = abuse::run(&args.url, args.token.as_deref(), &settings, &interrupt.stop, listen)?;
    if summary.interrupted {
        return Err(interrupted(&interrupt, format!("stopped after {} checks", summary.checks.len())));
    }
    if summary.failed == 0 {
        return Ok(());
    }
    let text = format!("{} of {} checks did not hold", summary.failed, summary.held + summary.failed);
    Err(Failure::Gate(Message { text, hint: Some("each line says what was wanted".to_owned()) }))
}

fn interrupted(interrupt: &Interrupt, text: String) -> Failure {
    Failure::Interrupted { signal: interrupt.signal(), message: Message { text, hint: None } }
}

impl Args {
    /// What the arguments ask for, not yet checked.
    fn settings(&self) -> Settings {
        let closed = |&concurrency| Load::Closed { concurrency };
        let open = |&rate| Load::Open { rate, arrivals: self.arrivals, connections: self.connections };
        let levels: Vec<Load> = match (self.concurrency.as_slice(), self.rate.as_slice()) {
            ([], []) => vec![closed(&CONCURRENCY)],
            ([], rates) => rates.iter().map(open).collect(),
            (numbers, _) => numbers.iter().map(closed).collect(),
        };
        Settings {
            levels,
            duration: self.duration.or(self.requests.is_none().then_some(DURATION)),
            requests: self.requests,
            warmup: self.warmup,
            timeout: self.timeout,
            threads: self.threads,
            pictures: match &self.images {
                Some(path) => Pictures::Path(path.clone()),
                None => Pictures::Made { size: self.size, format: self.format },
            },
            seed: self.seed,
            batch: self.batch,
            body: self.body,
            check: self.check,
            limits: Limits { max_p99: self.max_p99, min_rate: self.min_rate, max_errors: self.max_errors },
        }
    }
}

impl From<FloodError> for Failure {
    fn from(error: FloodError) -> Self {
        let usage = |hint: &str| Failure::usage(chain(&error), hint);
        let failed = |hint: &str| Failure::failed(chain(&error), hint);
        match &error {
            // Settings are called as the arguments are.
            FloodError::Setting { .. } => {
                Failure::usage(format!("--{error}"), "`ocelli flood --help` lists what it takes")
            }
            FloodError::Address { .. } => usage("write it as http://127.0.0.1:8080 or http://HOST:PORT/PATH"),
            FloodError::Https { .. } => {
                usage("measure the service itself over http, without the proxy that encrypts")
            }
            FloodError::UserName => usage("`--token` sends a bearer token"),
            FloodError::Token => usage("check --token"),
            FloodError::OnePath { .. } => usage("leave the path out, as in http://127.0.0.1:8080"),
            FloodError::Remote { .. } => {
                usage("against other people's services this is an attack; for your own, add --yes-it-is-mine")
            }
            FloodError::Host { .. } => failed("check its spelling"),
            FloodError::NoAnswer { addr, .. } => {
                failed(&format!("is it running? `ocelli serve --addr {addr}` starts one here"))
            }
            FloodError::NotHealthy { .. } => {
                failed("a service of Ocelli answers it with 200 from its start to its end")
            }
            FloodError::NoImages { .. } => failed("JPEG, PNG, WebP, BMP, GIF and TIFF files are taken"),
            FloodError::TooManyImages { .. } => failed("choose a smaller folder with --images"),
            FloodError::Bodies { .. } => failed("choose fewer images with --images, or a smaller --batch"),
            FloodError::Encode { .. } => failed("try another --size"),
            FloodError::Dataset(_) => failed("check the folder and its permissions"),
            FloodError::Io { path, source } => Failure::io(path, source),
            FloodError::Threads(source) => Failure::io(Path::new("client threads"), source),
            FloodError::Output(source) => Failure::stdout(io::Error::from(source.kind())),
        }
    }
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

/// Shows events as they come: results on standard output as text or JSON, the rest on standard error.
struct View<'a> {
    out: &'a mut Output,
    json: bool,
    /// Of the level that is under way.
    bar: Option<ProgressBar>,
    last_plain: Instant,
    /// Whether the table of levels has its head.
    headed: bool,
}

impl<'a> View<'a> {
    fn new(out: &'a mut Output, json: bool) -> View<'a> {
        View { out, json, bar: None, last_plain: Instant::now(), headed: false }
    }

    fn show(&mut self, event: Event<'_>) -> io::Result<()> {
        let paint = self.out.paint;
        let tone = |tone: Tone, text: &str| apply(paint, tone, text);
        match event {
            Event::Warning(text) => self.out.warn(text),
            Event::Note(text) => self.out.say(format_args!("note: {text}")),
            Event::Start(start) if !self.json => self.say(text::start(start)),
            Event::ChecksStart { url, service } if !self.json => self.say(checks::start(url, service)),
            Event::Start(_) | Event::ChecksStart { .. } => {}
            Event::Progress(progress) => self.progress(progress),
            Event::Level(level) => {
                self.end_of_level();
                if self.json {
                    return self.out.write_json(level);
                }
                let head = (!self.headed).then(|| text::head(level, &tone));
                self.headed = true;
                return self.lines(head.into_iter().chain([text::level(level, &tone)]));
            }
            Event::End(summary, levels) => {
                if self.json {
                    return self.out.write_json(summary);
                }
                return self.lines(text::tail(levels, &tone));
            }
            Event::Check(check) if !self.json => return self.lines([checks::line(check, &tone)]),
            Event::Check(_) => {}
            Event::ChecksEnd(summary) => {
                if self.json {
                    return self.out.write_json(summary);
                }
                return self.lines(checks::tail(summary, &tone));
            }
        }
        Ok(())
    }

    fn say(&self, lines: Vec<String>) {
        lines.iter().for_each(|line| self.out.say(line));
    }

    /// Lines of results, sent at once: somebody may be waiting for them.
    fn lines(&mut self, lines: impl IntoIterator<Item = String>) -> io::Result<()> {
        for line in lines {
            self.out.write_line(line)?;
        }
        self.out.write_out()
    }

    /// A bar on a terminal, a line now and then in a pipe.
    fn progress(&mut self, progress: &ocelli_flood::Progress) {
        if self.out.quiet() {
            return;
        }
        let (level, levels) = progress.level;
        let what = format!("level {level} of {levels}, {}", progress.load);
        if io::stderr().is_terminal() {
            let bar = self.bar.get_or_insert_with(|| {
                let bar = ProgressBar::new(STEPS);
                bar.set_style(bar_style());
                bar.set_prefix(what);
                bar
            });
            bar.set_position((progress.part * STEPS as f64) as u64);
            bar.set_message(text::progress(progress));
        } else if self.last_plain.elapsed() >= PLAIN_INTERVAL {
            self.last_plain = Instant::now();
            output::print_message(format_args!("{what}: {}", text::progress(progress)));
        }
    }

    /// Takes the bar away.
    fn end_of_level(&mut self) {
        self.last_plain = Instant::now();
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn bar_style() -> ProgressStyle {
    let style = ProgressStyle::with_template("{prefix} [{bar:30}] {msg}");
    style.expect("the template is constant, and a test parses it").progress_chars("=> ")
}

fn apply(paint: Paint, tone: Tone, text: &str) -> String {
    let style = match tone {
        Tone::Head => Style::Bold,
        Tone::Bad => Style::Red,
        Tone::Good => Style::Green,
        Tone::Faint => Style::Dim,
    };
    paint.apply(style, text)
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
}
