//! From arguments to a checked plan; nothing here touches files or the network.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use super::Args;
use super::bodies::BodyKind;
use super::target::Status;
use crate::failure::Failure;

/// Most connections of a level: a file descriptor and a few kilobytes each.
pub(super) const MAX_CONNECTIONS: usize = 10_000;
/// Most requests a second of an open loop: ten times what one machine's kernel moves.
const MAX_RATE: f64 = 1e6;
/// Most levels in one run.
const MAX_LEVELS: usize = 64;
/// Most images in a request, which is the ceiling of the service.
const MAX_BATCH: usize = 1024;
/// Longest side of a made-up image in pixels.
const MAX_SIDE: u32 = 4096;
/// How long a level is measured where nothing says.
const DURATION: Duration = Duration::from_secs(10);
/// Longest time that an argument may name.
const MAX_TIME: Duration = Duration::from_secs(86_400);

const HELP: &str = "`ocelli flood --help` lists what it takes";

/// Spacing of an open loop's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Arrivals {
    /// Equal
    Fixed,
    /// Random, as of many users who do not know of each other
    Poisson,
}

/// Format of made-up images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Png,
    Jpeg,
}

/// One level of load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "mode", rename_all = "lowercase")]
pub(super) enum Load {
    /// Connections that each send the next request when they have their answer.
    Closed { concurrency: usize },
    /// Requests a second at times that do not depend on answers.
    Open { rate: f64, arrivals: Arrivals, connections: usize },
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Load::Closed { concurrency: 1 } => write!(f, "1 connection"),
            Load::Closed { concurrency } => write!(f, "{concurrency} connections"),
            Load::Open { rate, .. } => write!(f, "{rate} requests/s"),
        }
    }
}

/// Where images come from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Pictures {
    /// A file or folder.
    Path(PathBuf),
    /// Made up.
    Made { size: SizeChoice, format: Format },
}

/// Everything about a run but the service.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) levels: Vec<Load>,
    /// None: as long as `requests` last.
    pub(super) duration: Option<Duration>,
    pub(super) requests: Option<u64>,
    pub(super) warmup: Duration,
    pub(super) timeout: Duration,
    pub(super) threads: usize,
    pub(super) pictures: Pictures,
    pub(super) seed: u64,
    pub(super) batch: usize,
    pub(super) body: BodyKind,
    pub(super) check: bool,
}

impl Plan {
    pub(super) fn new(args: &Args) -> Result<Plan, Failure> {
        let usage = |text: String| Failure::usage(text, HELP);
        let within = |name: &str, n: usize, most: usize| {
            let fits = (1..=most).contains(&n);
            if fits { Ok(()) } else { Err(usage(format!("{name} {n} is not in 1..={most}"))) }
        };
        within("--threads", args.threads, 256)?;
        within("--batch", args.batch, MAX_BATCH)?;
        within("--connections", args.connections, MAX_CONNECTIONS)?;
        for &n in &args.concurrency {
            within("--concurrency", n, MAX_CONNECTIONS)?;
        }
        if let Some(rate) = args.rate.iter().find(|rate| !(0.001..=MAX_RATE).contains(*rate)) {
            return Err(usage(format!("--rate {rate} is not in 0.001..={MAX_RATE} requests a second")));
        }
        if args.min_rate.is_some_and(|rate| !rate.is_finite() || rate < 0.0) {
            return Err(usage("--min-rate takes a number of answers a second, e.g. 5000".to_owned()));
        }
        if args.requests == Some(0) || args.duration.is_some_and(|time| time.is_zero()) {
            return Err(usage("a level needs at least one request and some time".to_owned()));
        }
        if args.timeout.is_zero() {
            return Err(usage("--timeout 0 leaves no time for an answer".to_owned()));
        }
        if args.body == BodyKind::Raw && args.batch > 1 {
            let text = format!("a raw body is one image, --batch is {}", args.batch);
            return Err(Failure::usage(text, "--body multipart and --body json hold several"));
        }
        let closed = |&concurrency| Load::Closed { concurrency };
        let open = |&rate| Load::Open { rate, arrivals: args.arrivals, connections: args.connections };
        let levels: Vec<Load> = match (args.concurrency.as_slice(), args.rate.as_slice()) {
            ([], []) => vec![Load::Closed { concurrency: 8 }],
            ([], rates) => rates.iter().map(open).collect(),
            (numbers, _) => numbers.iter().map(closed).collect(),
        };
        if levels.len() > MAX_LEVELS {
            return Err(usage(format!("{} levels are more than {MAX_LEVELS}", levels.len())));
        }
        Ok(Plan {
            levels,
            duration: args.duration.or(args.requests.is_none().then_some(DURATION)),
            requests: args.requests,
            warmup: args.warmup,
            timeout: args.timeout,
            threads: args.threads,
            pictures: match &args.images {
                Some(path) => Pictures::Path(path.clone()),
                None => Pictures::Made { size: SizeChoice(args.size), format: args.format },
            },
            seed: args.seed,
            batch: args.batch,
            body: args.body,
            check: args.check,
        })
    }
}

/// `10s`, `250ms`, `2m`, `1h`, or a number of seconds; at most a day.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => f64::NAN,
    };
    let seconds = number.parse().map_or(f64::NAN, |number: f64| number * scale);
    let time = (0.0..=MAX_TIME.as_secs_f64()).contains(&seconds).then(|| Duration::from_secs_f64(seconds));
    time.ok_or_else(|| "write a time of at most a day, e.g. 10s, 250ms, 2m".to_owned())
}

/// Width, height and, where it was said, channels of made-up images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) width: u32,
    pub(super) height: u32,
    /// 1 or 3.
    pub(super) channels: Option<u8>,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let parse = || {
            let parts: Vec<u32> = text.split('x').map(|part| part.parse().ok()).collect::<Option<_>>()?;
            let (width, height, channels) = match parts[..] {
                [side] => (side, side, None),
                [width, height] => (width, height, None),
                [width, height, channels @ (1 | 3)] => (width, height, Some(channels as u8)),
                _ => return None,
            };
            let fits = |side| (1..=MAX_SIDE).contains(&side);
            (fits(width) && fits(height)).then_some(Size { width, height, channels })
        };
        parse().ok_or_else(|| {
            format!("write pixels up to {MAX_SIDE} as 224, 224x224, or 28x28x1 with 1 or 3 channels")
        })
    }
}

/// What was said about the size of made-up images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SizeChoice(Option<Size>);

impl SizeChoice {
    /// Width, height and channels: what was asked for, else what the service takes, else a usual photo's.
    pub(super) fn resolve(self, status: Option<&Status>) -> (u32, u32, u8) {
        let input = status.and_then(|status| status.input());
        let side = |n: u32| n.clamp(1, MAX_SIDE);
        let (width, height, channels) =
            input.map_or((224, 224, 3), |(w, h, c)| (side(w), side(h), if c == 1 { 1 } else { 3 }));
        match self.0 {
            Some(size) => (size.width, size.height, size.channels.unwrap_or(channels)),
            None => (width, height, channels),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let table = [("10s", 10_000), ("250ms", 250), ("2m", 120_000), ("1.5", 1500), ("24h", 86_400_000)];
        for (text, ms) in table {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(parse_duration("40us"), Ok(Duration::from_micros(40)));
        for text in ["", "s", "-1s", "1 s", "1e9", "25h", "nan", "inf", "1.2.3s", "5days", "µ"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_and_bounded() {
        let size = |width, height, channels| Ok(Size { width, height, channels });
        assert_eq!("32".parse(), size(32, 32, None));
        assert_eq!("64x48".parse(), size(64, 48, None));
        assert_eq!("28x28x1".parse(), size(28, 28, Some(1)));
        for text in ["", "0", "4097", "2x2x2", "1x1x1x1", "axb", "-1", "9999999999"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
