//! Who may do what: three scopes of bearer keys, and a shield for services without keys.
//!
//! A key opens its own scope and those below it: `admin` > `data` > `predict`. Keys are compared by their SHA-256 in
//! constant time, so neither their length nor their first letters leak.
//!
//! Without keys everybody who reaches the port may do everything, which is why the program then binds to loopback only.
//! Even so a browser could be made to send requests there by a page of somebody else (cross-site request forgery, DNS
//! rebinding). Such requests name another origin, or another host: they are refused.

use std::fmt;
use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HOST, ORIGIN};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::error::ServerError;
use crate::problem::Problem;

/// Shortest key in bytes: with fewer, guessing over the network comes into reach.
pub(crate) const MIN_KEY: usize = 16;

/// Longest key in bytes.
const MAX_KEY: usize = 512;

/// What a key is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// No key needed.
    Public,
    /// Predictions, and reading what is served.
    Predict,
    /// Data sets: uploading, looking, deleting images.
    Data,
    /// Training and which model serves.
    Admin,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scope::Public => "public",
            Scope::Predict => "predict",
            Scope::Data => "data",
            Scope::Admin => "admin",
        })
    }
}

/// The keys of a service, by scope. None at all: open to whoever reaches it.
#[derive(Clone, Default)]
pub struct Keys {
    digests: [Option<[u8; 32]>; 3],
}

impl Keys {
    /// Takes the keys for `predict`, `data` and `admin`. A scope without a key is open to the keys above it alone.
    ///
    /// # Errors
    /// [`ServerError::Key`] for a key that is not 16 to 512 visible ASCII characters.
    pub fn new(predict: Option<&str>, data: Option<&str>, admin: Option<&str>) -> Result<Keys, ServerError> {
        let mut digests = [None; 3];
        for ((scope, key), digest) in
            [("predict", predict), ("data", data), ("admin", admin)].into_iter().zip(&mut digests)
        {
            let Some(key) = key else { continue };
            if !(MIN_KEY..=MAX_KEY).contains(&key.len()) || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(ServerError::Key { scope, least: MIN_KEY, most: MAX_KEY });
            }
            *digest = Some(Sha256::digest(key).into());
        }
        Ok(Keys { digests })
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.digests.iter().all(Option::is_none)
    }

    /// Whether a request may use an endpoint of `scope`.
    pub(crate) fn check(&self, scope: Scope, headers: &HeaderMap) -> Result<(), Problem> {
        if self.is_empty() {
            return same_site(headers);
        }
        if scope == Scope::Public {
            return Ok(());
        }
        let Some(value) = headers.get(AUTHORIZATION) else { return Err(Problem::Unauthorized { scope }) };
        let key = bearer(value.as_bytes()).ok_or(Problem::Unauthorized { scope })?;
        let digest: [u8; 32] = Sha256::digest(key).into();
        // All are compared whatever the outcome, so that time tells nothing about which one came close.
        let [mut known, mut allowed] = [Choice::from(0); 2];
        for (of, own) in [Scope::Predict, Scope::Data, Scope::Admin].into_iter().zip(&self.digests) {
            let equal = own.as_ref().map_or(Choice::from(0), |own| own.ct_eq(&digest));
            known |= equal;
            allowed |= equal & Choice::from(u8::from(of >= scope));
        }
        match (bool::from(known), bool::from(allowed)) {
            (_, true) => Ok(()),
            (true, false) => Err(Problem::Forbidden { scope }),
            (false, false) => Err(Problem::Unauthorized { scope }),
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = self.digests.map(|digest| digest.is_some());
        f.debug_struct("Keys")
            .field("predict", &given[0])
            .field("data", &given[1])
            .field("admin", &given[2])
            .finish()
    }
}

/// The token of `Bearer TOKEN`; the word in any case (RFC 9110, section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (word, token) = value.split_at_checked(7)?;
    word.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Refuses what a browser sends on behalf of a page of another origin, and hosts that are names of somebody else.
fn same_site(headers: &HeaderMap) -> Result<(), Problem> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    if let Some(origin) = headers.get(ORIGIN) {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
        if origin.is_none() || origin != host {
            return Err(Problem::CrossSite);
        }
    }
    if headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site") {
        return Err(Problem::CrossSite);
    }
    // HTTP/1.0 and tools of the trade send none; browsers always do.
    if host.is_none_or(is_own) { Ok(()) } else { Err(Problem::UnknownHost) }
}

/// An address, or a name that only this machine or its own network answers to: no public name can be bent to those.
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

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    const KEYS: [&str; 3] = ["predict-predict-1", "data-data-data-22", "admin-admin-admin"];

    #[test]
    fn a_key_opens_its_scope_and_those_below() {
        let keys = Keys::new(Some(KEYS[0]), Some(KEYS[1]), Some(KEYS[2])).unwrap();
        let scopes = [Scope::Predict, Scope::Data, Scope::Admin];
        for (have, key) in scopes.into_iter().zip(KEYS) {
            for want in scopes {
                let result = keys.check(want, &headers(&[("authorization", &format!("bearer {key}"))]));
                let expected = if have >= want { Ok(()) } else { Err(Problem::Forbidden { scope: want }) };
                assert_eq!(result, expected);
            }
        }
        for scope in scopes {
            for value in [
                "",
                "Bearer",
                "Bearer ",
                "Basic predict-predict-1",
                "Bearer admin-admin-admi",
                "Bearer admin-admin-adminx",
            ] {
                let result = keys.check(scope, &headers(&[("authorization", value)]));
                assert_eq!(result, Err(Problem::Unauthorized { scope }), "{value}");
            }
            assert_eq!(keys.check(scope, &headers(&[])), Err(Problem::Unauthorized { scope }));
        }
        assert_eq!(keys.check(Scope::Public, &headers(&[("origin", "http://evil.example")])), Ok(()));
    }

    #[test]
    fn a_scope_without_a_key_is_closed_to_those_below() {
        let keys = Keys::new(Some(KEYS[0]), None, None).unwrap();
        let own = headers(&[("authorization", "Bearer predict-predict-1")]);
        assert_eq!(keys.check(Scope::Predict, &own), Ok(()));
        assert_eq!(keys.check(Scope::Admin, &own), Err(Problem::Forbidden { scope: Scope::Admin }));
    }

    #[test]
    fn weak_keys_are_refused() {
        for key in ["", "short", "with a space in it", "ümlaut-ümlaut-ümlaut"] {
            assert!(matches!(Keys::new(None, None, Some(key)), Err(ServerError::Key { scope: "admin", .. })));
        }
        assert!(!format!("{:?}", Keys::new(None, None, Some(KEYS[2])).unwrap()).contains("admin-"));
    }

    #[test]
    fn without_keys_other_sites_are_refused() {
        let open = Keys::default();
        let check = |list: &[(&'static str, &str)]| open.check(Scope::Admin, &headers(list));
        for host in ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "10.1.2.3", "box", "box:80"] {
            assert_eq!(check(&[("host", host)]), Ok(()), "{host}");
            assert_eq!(check(&[("host", host), ("origin", &format!("http://{host}"))]), Ok(()), "{host}");
        }
        assert_eq!(check(&[]), Ok(()));
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
