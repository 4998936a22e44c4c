//! Who may do what: those who have a key, or, in a service without keys, whoever is no page of another site.
//!
//! Without keys everybody who reaches the port may do everything, which is why the program then binds to loopback only.
//! Even so a browser could be made to send requests there by a page of somebody else (cross-site request forgery, DNS
//! rebinding). Such requests name another origin, or another host: they are refused.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use hyper::HeaderMap;
use hyper::header::ORIGIN;

use crate::http::problem::Problem;
use crate::keys::{Caller, Keys};
use crate::scope::Scope;
use crate::tls::Tls;

/// Who may come in, and how: what can be read anew while the service runs, replaced as a whole.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The keys.
    pub keys: Keys,
    /// The certificate; plain HTTP without one.
    pub tls: Option<Tls>,
    /// Without keys: take requests for any host and from any origin, because something in front of the service decides.
    pub anybody: bool,
}

impl Access {
    /// Who sent a request to `host`, if that may use an endpoint of `scope`.
    pub(crate) fn check(
        &self,
        scope: Scope,
        headers: &HeaderMap,
        host: Option<&str>,
    ) -> Result<Caller, Problem> {
        if !self.keys.is_empty() {
            return self.keys.check(scope, headers);
        }
        if !self.anybody {
            same_site(headers, host)?;
        }
        Ok(Caller::anybody(Scope::Admin))
    }
}

/// The access in force. What comes later does not change what was given: whoever decides several things for a request
/// decides them by the same one.
pub(crate) struct CurrentAccess(RwLock<Arc<Access>>);

/// The new access has no key and the old one has: it would open the service to everybody.
#[derive(Debug)]
pub(crate) struct LastKeyGone;

impl CurrentAccess {
    pub(crate) fn new(access: Access) -> CurrentAccess {
        CurrentAccess(RwLock::new(Arc::new(access)))
    }

    /// Who may come in at this moment.
    pub(crate) fn get(&self) -> Arc<Access> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes another access for the requests and connections from now on.
    pub(crate) fn replace(&self, access: Access) -> Result<(), LastKeyGone> {
        let mut own = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if access.keys.is_empty() && !own.keys.is_empty() {
            return Err(LastKeyGone);
        }
        *own = Arc::new(access);
        Ok(())
    }
}

/// Refuses what a browser sends on behalf of a page of another origin, and hosts that could be names of another site.
fn same_site(headers: &HeaderMap, host: Option<&str>) -> Result<(), Problem> {
    if let Some(origin) = headers.get(ORIGIN) {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
        if origin.is_none() || origin != host {
            return Err(Problem::CrossSite);
        }
    }
    if headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site") {
        return Err(Problem::CrossSite);
    }
    // HTTP/1.0 clients and some tools send none; browsers always do.
    if host.is_none_or(is_own) { Ok(()) } else { Err(Problem::UnknownHost) }
}

/// An address, or a name that only this machine or its own network answers to: DNS rebinding needs a public name.
fn is_own(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost") || !name.contains('.')
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;
    use crate::keys::ANYBODY;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[test]
    fn without_keys_other_sites_are_refused() {
        let open = Access::default();
        let check = |list: &[(&'static str, &str)]| {
            let headers = headers(list);
            let host = headers.get("host").map(|host| host.to_str().unwrap());
            open.check(Scope::Admin, &headers, host)
        };
        let anybody = Ok(Caller { scope: Scope::Admin, name: ANYBODY.into() });
        for host in ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "10.1.2.3", "box", "box:80"] {
            assert_eq!(check(&[("host", host)]), anybody, "{host}");
            assert_eq!(check(&[("host", host), ("origin", &format!("http://{host}"))]), anybody, "{host}");
        }
        assert_eq!(check(&[]), anybody);
        for host in ["evil.example", "evil.example:8080", "127.0.0.1.evil.example"] {
            assert_eq!(check(&[("host", host)]), Err(Problem::UnknownHost), "{host}");
        }
        for origin in
            ["null", "http://evil.example", "http://localhost:1", "http://localhost:8080.evil.example"]
        {
            assert_eq!(
                check(&[("host", "localhost:8080"), ("origin", origin)]),
                Err(Problem::CrossSite),
                "{origin}"
            );
        }
        assert_eq!(check(&[("host", "box"), ("sec-fetch-site", "cross-site")]), Err(Problem::CrossSite));
    }
}
