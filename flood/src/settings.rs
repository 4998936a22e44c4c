//! Everything about a run but the service, checked; nothing here touches files or the network.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

use crate::error::FloodError;

/// Most connections of a level: a file descriptor and a few kilobytes each.
const MAX_CONNECTIONS: usize = 10_000;
/// Most requests a second of an open loop: ten times what one machine's kernel moves.
const MAX_RATE: f64 = 1e6;
/// Most levels in one run.
const MAX_LEVELS: usize = 64;
/// Most images in a request, which is the ceiling of the service.
const MAX_BATCH: usize = 1024;
/// Most threads that send.
const MAX_THREADS: usize = 256;
/// Longest side of a made-up image in pixels.
const MAX_SIDE: u32 = 4096;
/// Longest time that a setting may name.
const MAX_TIME: Duration = Duration::from_secs(86_400);

/// Spacing of an open loop's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// Equal.
    Fixed,
    /// Random, as of many users who do not know of each other.
    Poisson,
}

/// Format of made-up images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// PNG.
    Png,
    /// JPEG.
    Jpeg,
}

/// How images are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BodyKind {
    /// A form with a field `file` for each image.
    Multipart,
    /// The image's bytes.
    Raw,
    /// Base64 in `{"image": ..}`, or `{"images": [..]}` for several.
    Json,
}

/// One level of load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "mode", rename_all = "lowercase")]
pub enum Load {
    /// Connections that each send the next request when they have their answer.
    Closed {
        /// How many.
        concurrency: usize,
    },
    /// Requests a second at times that do not depend on answers.
    Open {
        /// Requests a second.
        rate: f64,
        /// Their spacing.
        arrivals: Arrivals,
        /// Most connections; what is due while all are busy waits, and its wait counts.
        connections: usize,
    },
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
pub enum Pictures {
    /// A file or folder.
    Path(PathBuf),
    /// Made up.
    Made {
        /// None: what the service says that it takes.
        size: Option<Size>,
        /// How they are encoded.
        format: Format,
    },
}

/// Everything about a run but the service.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Levels of load, one after another.
    pub levels: Vec<Load>,
    /// How long each level is measured; none: as long as `requests` last.
    pub duration: Option<Duration>,
    /// A level ends after so many requests.
    pub requests: Option<u64>,
    /// Load before each level that is not counted.
    pub warmup: Duration,
    /// A request without its whole answer by then has failed.
    pub timeout: Duration,
    /// Threads that send.
    pub threads: usize,
    /// What is sent.
    pub pictures: Pictures,
    /// Of made-up images and of random arrivals.
    pub seed: u64,
    /// Images in a request.
    pub batch: usize,
    /// How images are sent.
    pub body: BodyKind,
    /// Whether an image whose label changes between two answers of one model version is an error.
    pub check: bool,
    /// What the whole run is held to.
    pub limits: Limits,
}

/// What a run is held to; what exceeds a limit is told in [`crate::Summary::missed`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Highest 99th percentile of any level.
    pub max_p99: Option<Duration>,
    /// Good answers a second that one level must have.
    pub min_rate: Option<f64>,
    /// Failed requests, over all levels.
    pub max_errors: u64,
}

impl Settings {
    /// # Errors
    /// [`FloodError::Setting`] names the first setting that is out of its range.
    pub fn check(&self) -> Result<(), FloodError> {
        let within = |name, n: usize, most: usize| {
            let fits = (1..=most).contains(&n);
            if fits { Ok(()) } else { Err(FloodError::setting(name, format!("{n} is not in 1..={most}"))) }
        };
        within("threads", self.threads, MAX_THREADS)?;
        within("batch", self.batch, MAX_BATCH)?;
        for level in &self.levels {
            match *level {
                Load::Closed { concurrency } => within("concurrency", concurrency, MAX_CONNECTIONS)?,
                Load::Open { rate, connections, .. } => {
                    within("connections", connections, MAX_CONNECTIONS)?;
                    if !(0.001..=MAX_RATE).contains(&rate) {
                        let problem = format!("{rate} is not in 0.001..={MAX_RATE} requests a second");
                        return Err(FloodError::setting("rate", problem));
                    }
                }
            }
        }
        if self.limits.min_rate.is_some_and(|rate| !rate.is_finite() || rate < 0.0) {
            return Err(FloodError::setting("min-rate", "takes a number of answers a second, e.g. 5000"));
        }
        if self.requests == Some(0) {
            return Err(FloodError::setting("requests", "0: a level needs at least one request"));
        }
        if self.duration.is_some_and(|time| time.is_zero()) {
            return Err(FloodError::setting("duration", "0: a level needs some time"));
        }
        if self.timeout.is_zero() {
            return Err(FloodError::setting("timeout", "0 leaves no time for an answer"));
        }
        if self.body == BodyKind::Raw && self.batch > 1 {
            let problem =
                format!("is {}, a raw body is one image: multipart and json hold several", self.batch);
            return Err(FloodError::setting("batch", problem));
        }
        within("levels", self.levels.len(), MAX_LEVELS)
    }
}

/// `10s`, `250ms`, `2m`, `1h`, or a number of seconds; at most a day.
///
/// # Errors
/// A sentence that says how to write it.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
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
pub struct Size {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// 1 or 3.
    pub channels: Option<u8>,
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

impl Size {
    /// Width, height and channels: what was asked for, else what the service takes, else a usual photo's.
    pub(crate) fn choose(asked: Option<Size>, input: Option<(u32, u32, u8)>) -> (u32, u32, u8) {
        let side = |n: u32| n.clamp(1, MAX_SIDE);
        let (width, height, channels) =
            input.map_or((224, 224, 3), |(w, h, c)| (side(w), side(h), if c == 1 { 1 } else { 3 }));
        match asked {
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
