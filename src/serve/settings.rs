//! What `ocelli serve` takes besides the model: limits, keys, log.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ocelli_server::{Access, Config, Keys, Tls};
use serde::Deserialize;

use crate::failure::Failure;
use crate::serve::log;

/// A settings file is a page of text; more than this is some other file.
const MAX_FILE: u64 = 1 << 20;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Service")]
pub(crate) struct ServiceSettings {
    /// Limits in TOML; SECURITY.md lists them with their defaults
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Keys in TOML: predict, data, admin
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Certificate chain in PEM: serve HTTPS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Let everybody who reaches the address do everything
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Train by itself once a data set has got N new images
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "20")]
    retrain_on_upload: Option<usize>,
    /// Threads of a training job
    #[arg(long, value_name = "N")]
    job_threads: Option<usize>,
    /// Memory that a training job may take, e.g. 500M or 2G; three quarters of what there is if left out
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    job_memory: Option<u64>,
    /// Percent of a core that a training job gets beside a service under full load [default: 10]
    #[arg(long, value_name = "PERCENT")]
    job_share: Option<usize>,
    /// Niceness of a training job, 0 to 19, whatever its share: at 19 it takes what serving leaves
    #[arg(long, value_name = "N")]
    job_nice: Option<usize>,
    /// Seconds without progress after which a training job is ended [default: 900]
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    job_stuck: Option<Duration>,
    /// Seconds to go on accepting after SIGTERM, while /health/ready says no
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    drain_delay: f64,
    /// Form of the log on standard error
    #[arg(long, value_enum, default_value_t = log::Format::Text)]
    log: log::Format,
    /// Least important thing in the log; debug shows every request
    #[arg(long, value_enum, default_value_t = log::Level::Info)]
    log_level: log::Level,
}

/// The keys of a file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct KeyFile {
    predict: Option<String>,
    data: Option<String>,
    admin: Option<String>,
}

impl ServiceSettings {
    pub(crate) fn start_log(&self) {
        log::start(self.log, self.log_level);
    }

    pub(crate) fn drain_delay(&self) -> Duration {
        Duration::try_from_secs_f64(self.drain_delay.clamp(0.0, 86_400.0)).unwrap_or_default()
    }

    /// The limits: the file's over the defaults, the command line's over both.
    pub(crate) fn config(&self) -> Result<Config, Failure> {
        let mut config: Config = match &self.config {
            Some(path) => read(path)?,
            None => Config::default(),
        };
        if let Some(images) = self.retrain_on_upload {
            config.retrain_on_upload = images;
        }
        if let Some(threads) = self.job_threads {
            config.job_threads = threads;
        }
        if let Some(nice) = self.job_nice {
            config.job_nice = Some(nice);
        }
        if let Some(bytes) = self.job_memory {
            config.job_memory = bytes;
        }
        if let Some(percent) = self.job_share {
            config.job_share = percent;
        }
        if let Some(time) = self.job_stuck {
            config.job_stuck = time;
        }
        Ok(config)
    }

    /// Who may come in, read anew at every call.
    pub(crate) fn access(&self) -> Result<Access, Failure> {
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificates), Some(key)) => {
                Some(Tls::from_pem(read_text(certificates)?.as_bytes(), read_text(key)?.as_bytes())?)
            }
            _ => None,
        };
        Ok(Access { keys: self.keys()?, tls, anybody: self.insecure })
    }

    /// The keys: the environment's over the file's.
    fn keys(&self) -> Result<Keys, Failure> {
        let file: KeyFile = match &self.keys {
            Some(path) => read(path)?,
            None => KeyFile::default(),
        };
        let key = |name: &str, of_file: Option<String>| {
            std::env::var(name).ok().filter(|key| !key.is_empty()).or(of_file)
        };
        let predict = key("OCELLI_KEY_PREDICT", file.predict);
        let data = key("OCELLI_KEY_DATA", file.data);
        let admin = key("OCELLI_KEY_ADMIN", file.admin);
        Ok(Keys::new(predict.as_deref(), data.as_deref(), admin.as_deref())?)
    }
}

/// A number of bytes, with K, M, G or T for powers of 1024.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let number = text.trim_end_matches(['B', 'b']).trim_end_matches(['i', 'I']);
    let (number, shift) = match number.chars().last().map(|unit| unit.to_ascii_uppercase()) {
        Some('K') => (&number[..number.len() - 1], 10),
        Some('M') => (&number[..number.len() - 1], 20),
        Some('G') => (&number[..number.len() - 1], 30),
        Some('T') => (&number[..number.len() - 1], 40),
        _ => (number, 0),
    };
    let bytes = number.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| "write a number of bytes, such as 500M or 2G".to_owned())
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.trim().parse::<f64>().ok().filter(|seconds| *seconds > 0.0 && *seconds <= 86_400.0);
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "write seconds, above 0 and at most 86400".to_owned())
}

fn read_text(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text))
        .map_err(|error| Failure::io(path, &error))?;
    Ok(text)
}

/// A TOML file.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let text = read_text(path)?;
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        // Not the line itself, which may hold a key.
        let reason = error.message().replace('\n', "; ");
        Failure::usage(format!("{} line {line}: {reason}", path.display()), "SECURITY.md lists the settings")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        let good = [
            ("0", 0),
            ("64", 64),
            ("500M", 500 << 20),
            ("2g", 2 << 30),
            (" 3 KiB ", 3 << 10),
            ("1TB", 1 << 40),
        ];
        for (text, bytes) in good {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "-1", "1.5G", "many", "99999999999T", "1MM", "\u{e9}"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
        assert_eq!(parse_seconds("1.5"), Ok(Duration::from_millis(1500)));
        for text in ["0", "-1", "inf", "nan", "", "90000"] {
            assert!(parse_seconds(text).is_err(), "{text}");
        }
    }
}
