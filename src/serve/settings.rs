//! What `ocelli serve` takes besides the model: limits, keys, log.

use std::env::VarError;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ocelli_server::{Access, Config, Keys, Tls};

use crate::failure::Failure;
use crate::serve::keys::{self, NamedKey};
use crate::serve::log;

/// A settings file is a page of text; more than this is some other file.
const MAX_FILE: u64 = 1 << 20;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Service")]
pub(crate) struct ServiceSettings {
    /// Limits in TOML; SECURITY.md lists them with their defaults
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Keys in TOML: predict, data, admin, and [keys.NAME] with scope and key
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Certificate chain in PEM: serve HTTPS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Change nothing: predictions and what is known can be asked for, the rest is refused
    #[arg(long)]
    read_only: bool,
    /// Let everybody who reaches the address do everything
    #[arg(long)]
    insecure: bool,
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
        config.read_only |= self.read_only;
        Ok(config)
    }

    /// Who may come in to a service at `addr`, read anew at every call: the keys, the certificate, and whether such an
    /// address may do without keys.
    pub(crate) fn access(&self, addr: SocketAddr) -> Result<Access, Failure> {
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificates), Some(key)) => Some(certificate(certificates, key)?),
            _ => None,
        };
        let access = Access { keys: self.keys()?, tls, anybody: self.insecure };
        if !addr.ip().is_loopback() && access.keys.is_empty() && !self.insecure {
            return Err(Failure::usage(
                format!("{addr} can be reached from other machines, and there are no keys"),
                "set OCELLI_KEY_ADMIN (`openssl rand -hex 32` makes one), or allow everybody everything with --insecure",
            ));
        }
        Ok(access)
    }

    /// The keys: the environment's over the file's.
    fn keys(&self) -> Result<Keys, Failure> {
        let [predict, data, admin] =
            ["OCELLI_KEY_PREDICT", "OCELLI_KEY_DATA", "OCELLI_KEY_ADMIN"].map(from_environment);
        let (predict, data, admin) = (predict?, data?, admin?);
        let own = Keys::new(predict.as_deref(), data.as_deref(), admin.as_deref())?;
        let Some(path) = &self.keys else { return Ok(own) };
        let file = keys::read(path)?;
        let (predict, data, admin) = (predict.or(file.predict), data.or(file.data), admin.or(file.admin));
        // Those of the environment are sound: what is wrong now is the file's.
        let of_file = |error| keys::refusal(path, &format!(": {error}"));
        let mut keys = Keys::new(predict.as_deref(), data.as_deref(), admin.as_deref()).map_err(of_file)?;
        for (name, NamedKey { scope, key }) in &file.named {
            keys.add(name, scope, key).map_err(of_file)?;
        }
        Ok(keys)
    }
}

/// A key of the environment; an empty one is none.
fn from_environment(name: &str) -> Result<Option<String>, Failure> {
    match std::env::var(name) {
        Ok(key) => Ok(Some(key).filter(|key| !key.is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        // A key that is there and cannot be used must not count as none.
        Err(VarError::NotUnicode(_)) => {
            Err(Failure::usage(format!("{name} is not text"), "`openssl rand -hex 32` makes a key"))
        }
    }
}

fn certificate(certificates: &Path, key: &Path) -> Result<Tls, Failure> {
    let (chain, private) = (read_text(certificates)?, read_text(key)?);
    Tls::from_pem(chain.as_bytes(), private.as_bytes()).map_err(|error| {
        Failure::failed(
            format!("{} and {}: {error}", certificates.display(), key.display()),
            "both are PEM files: the certificates with the service's own first, and its private key",
        )
    })
}

pub(super) fn read_text(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text))
        .map_err(|error| Failure::io(path, &error))?;
    if text.len() as u64 > MAX_FILE {
        let reason = format!("{} is larger than {MAX_FILE} bytes", path.display());
        return Err(Failure::usage(reason, "name the file of settings, keys or certificates"));
    }
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
