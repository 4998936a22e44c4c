//! The service: its address, and what it says about itself.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue};
use hyper::{Method, Uri};
use ocelli_common::text::printable;
use serde::{Deserialize, Serialize};

use super::connection::{self, Request};
use crate::error::FloodError;

/// Where requests go.
pub(crate) struct Target {
    url: String,
    /// All addresses of the host, then the one that answered alone.
    addrs: Vec<SocketAddr>,
    /// Path and query of every request.
    pub(crate) path: Uri,
    /// Host and, with a token, authorization.
    pub(crate) headers: HeaderMap,
}

/// What `GET /status` of Ocelli says, as far as reports repeat it.
#[derive(Debug, Deserialize, Serialize)]
pub struct Status {
    version: String,
    model: Model,
}

#[derive(Debug, Deserialize, Serialize)]
struct Model {
    name: Option<String>,
    version: Option<String>,
    input: Option<Input>,
    isa: Option<String>,
    threads: Option<u64>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Input {
    width: u32,
    height: u32,
    channels: u8,
}

impl Target {
    /// Takes an address apart and looks up its host.
    pub(crate) fn new(url: &str, token: Option<&str>) -> Result<Target, FloodError> {
        let wrong = |problem| FloodError::Address { url: url.to_owned(), problem };
        // As curl does: an address without a scheme is one of HTTP.
        let whole = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let uri: Uri = whole.parse().map_err(|_| wrong("not an address"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(FloodError::Https { url: url.to_owned() }),
            _ => return Err(wrong("only http is spoken here")),
        }
        let authority = uri.authority().ok_or_else(|| wrong("there is no host"))?;
        if authority.as_str().contains('@') {
            return Err(FloodError::UserName);
        }
        let path = match uri.path_and_query().map_or("/", |path| path.as_str()) {
            "/" => "/predict",
            path => path,
        };
        let mut headers = HeaderMap::new();
        let host = HeaderValue::from_str(authority.as_str());
        headers.insert(HOST, host.expect("an authority that was parsed is a valid header"));
        if let Some(token) = token {
            let value = HeaderValue::from_str(&format!("Bearer {token}"));
            let mut value = value.map_err(|_| FloodError::Token)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        // The host of an IPv6 address stands in brackets, which the system's resolver does not take.
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = authority.port_u16().unwrap_or(80);
        let addrs: Vec<SocketAddr> =
            (host, port).to_socket_addrs().map(Iterator::collect).unwrap_or_default();
        if addrs.is_empty() {
            return Err(FloodError::Host { host: host.to_owned() });
        }
        let url = format!("http://{authority}{path}");
        let path = path.parse().expect("a path of an address that was parsed");
        Ok(Target { url, addrs, path, headers })
    }

    /// The address with its path.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Where connections go.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addrs[0]
    }

    /// Whether all addresses of the host are this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        self.addrs.iter().all(|addr| addr.ip().to_canonical().is_loopback())
    }

    /// Asks the service what it is, and settles on an address of its host that answers; None where it has no status
    /// that we understand.
    ///
    /// # Errors
    /// [`FloodError::NoAnswer`] where nobody answers at all.
    pub(crate) fn probe(&mut self, timeout: Duration) -> Result<Option<Status>, FloodError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(FloodError::Threads)?;
        let request = Request {
            method: Method::GET,
            path: Uri::from_static("/status"),
            headers: self.headers.clone(),
            body: Bytes::new(),
            images: Vec::new(),
        };
        let mut refused = None;
        let answered = self.addrs.iter().find_map(|&addr| {
            match runtime.block_on(connection::once(addr, &request, timeout)) {
                Ok(answer) => Some((addr, answer)),
                Err(fault) => {
                    refused.get_or_insert(fault);
                    None
                }
            }
        });
        let Some((addr, answer)) = answered else {
            let reason = refused.map(|fault| fault.text).unwrap_or_default();
            return Err(FloodError::NoAnswer { addr: self.addr(), reason });
        };
        self.addrs = vec![addr];
        Ok(if answer.status.is_success() { serde_json::from_slice(&answer.body).ok() } else { None })
    }
}

impl Status {
    /// The name of the model that serves.
    pub(crate) fn model_name(&self) -> Option<&str> {
        self.model.name.as_deref()
    }

    /// Width, height and channels of what the model takes.
    pub(crate) fn input(&self) -> Option<(u32, u32, u8)> {
        let input = self.model.input.as_ref()?;
        Some((input.width, input.height, input.channels))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Status { version, model } = self;
        let text = |text: &Option<String>| printable(text.as_deref().unwrap_or("?"));
        write!(f, "ocelli {}, model {} ({})", printable(version), text(&model.name), text(&model.version))?;
        if let Some(threads) = model.threads {
            write!(f, ", {threads} threads, {}", text(&model.isa))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let table = [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/predict", "127.0.0.1:8080"),
            ("127.0.0.1:81/", "http://127.0.0.1:81/predict", "127.0.0.1:81"),
            ("http://127.0.0.1/v1/x?top_k=1", "http://127.0.0.1/v1/x?top_k=1", "127.0.0.1:80"),
            ("http://[::1]:9", "http://[::1]:9/predict", "[::1]:9"),
        ];
        for (url, whole, addr) in table {
            let target = Target::new(url, Some("secret")).unwrap_or_else(|e| panic!("{url}: {e:?}"));
            assert_eq!((target.url(), target.addr().to_string().as_str()), (whole, addr), "{url}");
            assert_eq!(target.headers[AUTHORIZATION], "Bearer secret");
        }
    }

    #[test]
    fn other_addresses_are_refused() {
        for url in
            ["https://127.0.0.1", "ftp://127.0.0.1", "http://", "http://a b", "http://me:pw@127.0.0.1", ""]
        {
            assert!(Target::new(url, None).is_err(), "{url}");
        }
        assert!(matches!(Target::new("http://127.0.0.1", Some("a\nb")), Err(FloodError::Token)));
    }
}
