//! What `ocelli serve` takes besides the model: limits, keys, log.

use std::env::VarError;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ocelli_server::{Access, Config, Keys, Tls};

use crate::bytes::parse_bytes;
use crate::failure::Failure;
use crate::serve::files::read_text;
use crate::serve::keys::{self, NamedKey};
use crate::serve::log;

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

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.trim().parse::<f64>().ok().filter(|seconds| *seconds > 0.0 && *seconds <= 86_400.0);
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "write seconds, above 0 and at most 86400".to_owned())
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
    fn seconds_have_a_range() {
        assert_eq!(parse_seconds("1.5"), Ok(Duration::from_millis(1500)));
        for text in ["0", "-1", "inf", "nan", "", "90000"] {
            assert!(parse_seconds(text).is_err(), "{text}");
        }
    }
}
