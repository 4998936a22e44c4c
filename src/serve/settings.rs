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
    /// Niceness of training, 0 to 19: at 19 it takes what serving leaves; the default of --config, or 19
    #[arg(long, value_name = "N")]
    job_nice: Option<usize>,
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
            config.job_nice = nice;
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
