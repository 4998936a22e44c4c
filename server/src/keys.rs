//! Keys: three scopes of bearer tokens.
//!
//! A key opens its own scope and those below it: `admin` > `data` > `predict`. There may be several keys for a scope, each
//! with a name that says who used it. Keys are compared by their SHA-256 in constant time, so neither their length nor
//! their first letters leak.

use std::fmt;
use std::sync::{Arc, LazyLock};

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use crate::error::ServerError;
use crate::http::problem::Problem;
use crate::scope::Scope;

/// Shortest key in bytes: with fewer, guessing over the network comes into reach.
const MIN_KEY: usize = 16;

/// Longest key in bytes.
const MAX_KEY: usize = 512;

/// Most keys of a service: each request is compared with all of them.
const MAX_KEYS: usize = 1000;

/// Longest name of a key.
const MAX_NAME: usize = 64;

/// The name of callers that no key tells apart.
pub(crate) const ANYBODY: &str = "anybody";

/// Who sent a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// What the caller may do.
    pub(crate) scope: Scope,
    /// The name of the key.
    pub(crate) name: Arc<str>,
}

impl Caller {
    /// Somebody who showed no key and needs none for what is public.
    pub(crate) fn nobody() -> Caller {
        Caller::anybody(Scope::Public)
    }

    pub(crate) fn anybody(scope: Scope) -> Caller {
        static NAME: LazyLock<Arc<str>> = LazyLock::new(|| ANYBODY.into());
        Caller { scope, name: NAME.clone() }
    }
}

/// The keys of a service. None at all: open to whoever reaches it.
#[derive(Clone, Default)]
pub struct Keys {
    known: Vec<Key>,
}

#[derive(Clone)]
struct Key {
    digest: [u8; 32],
    scope: Scope,
    name: Arc<str>,
}

impl Keys {
    /// Takes the keys for `predict`, `data` and `admin`, which have the names of their scopes. A scope without a key is
    /// open to the keys above it alone.
    ///
    /// # Errors
    /// [`ServerError::Key`] for a key that is not 16 to 512 visible ASCII characters.
    pub fn new(predict: Option<&str>, data: Option<&str>, admin: Option<&str>) -> Result<Keys, ServerError> {
        let mut keys = Keys::default();
        // The highest first: one key for several scopes opens the highest of them.
        for (name, scope, key) in [
            ("admin", Scope::Admin, admin),
            ("data", Scope::Data, data),
            ("predict", Scope::Predict, predict),
        ] {
            let Some(key) = key else { continue };
            let digest = digest(name, key)?;
            if !keys.known.iter().any(|known| known.digest == digest) {
                keys.known.push(Key { digest, scope, name: name.into() });
            }
        }
        Ok(keys)
    }

    /// Takes one more key, for the scope `predict`, `data` or `admin`. Its name says who used it.
    ///
    /// # Errors
    /// [`ServerError::Key`] as in [`Keys::new`]; [`ServerError::NamedKey`] for a name or a scope that is none, a name or
    /// a key that is there already, and for more than 1,000 keys.
    pub fn add(&mut self, name: &str, scope: &str, key: &str) -> Result<(), ServerError> {
        let refuse = |reason: String| Err(ServerError::NamedKey { reason });
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !(1..=MAX_NAME).contains(&name.len()) || !name.bytes().all(plain) {
            return refuse(format!("the name of a key is 1 to {MAX_NAME} of A-Z a-z 0-9 . _ -"));
        }
        let scope = match scope {
            "predict" => Scope::Predict,
            "data" => Scope::Data,
            "admin" => Scope::Admin,
            _ => return refuse(format!("the scope of the key {name} is not predict, data or admin")),
        };
        let digest = digest(name, key)?;
        if self.known.iter().any(|known| *known.name == *name) {
            return refuse(format!("there are two keys of the name {name}"));
        }
        if let Some(known) = self.known.iter().find(|known| known.digest == digest) {
            return refuse(format!(
                "{} and {name} are the same key: the log could not tell who used it",
                known.name
            ));
        }
        if self.known.len() == MAX_KEYS {
            return refuse(format!("there are more than {MAX_KEYS} keys"));
        }
        self.known.push(Key { digest, scope, name: name.into() });
        Ok(())
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Who sent a request, if that may use an endpoint of `scope`. There is at least one key. What is public is for
    /// everybody, whatever key they show.
    pub(crate) fn check(&self, scope: Scope, headers: &HeaderMap) -> Result<Caller, Problem> {
        match self.caller(headers) {
            Some(caller) if caller.scope >= scope => Ok(caller),
            Some(_) => Err(Problem::Forbidden { scope }),
            None if scope == Scope::Public => Ok(Caller::nobody()),
            None => Err(Problem::Unauthorized { scope }),
        }
    }

    /// Whose key a request shows.
    fn caller(&self, headers: &HeaderMap) -> Option<Caller> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        let key = bearer(value.as_bytes())?;
        let digest: [u8; 32] = Sha256::digest(key).into();
        // All are compared whatever the outcome, so that time tells nothing about which one came close.
        let mut found = u32::MAX;
        for (own, at) in self.known.iter().zip(0..) {
            found.conditional_assign(&at, own.digest.ct_eq(&digest));
        }
        let own = self.known.get(found as usize)?;
        Some(Caller { scope: own.scope, name: own.name.clone() })
    }
}

/// The SHA-256 of a key that is long enough.
fn digest(name: &str, key: &str) -> Result<[u8; 32], ServerError> {
    if !(MIN_KEY..=MAX_KEY).contains(&key.len()) || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ServerError::Key { name: name.to_owned(), least: MIN_KEY, most: MAX_KEY });
    }
    Ok(Sha256::digest(key).into())
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.known.iter().map(|key| (&key.name, key.scope))).finish()
    }
}

/// The token of `Bearer TOKEN`; the word in any case (RFC 9110, section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (word, token) = value.split_at_checked(7)?;
    word.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
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

    fn named(scope: Scope, name: &str) -> Result<Caller, Problem> {
        Ok(Caller { scope, name: name.into() })
    }

    #[test]
    fn a_key_opens_its_scope_and_those_below() {
        let keys = Keys::new(Some(KEYS[0]), Some(KEYS[1]), Some(KEYS[2])).unwrap();
        let scopes = [Scope::Predict, Scope::Data, Scope::Admin];
        for (have, key) in scopes.into_iter().zip(KEYS) {
            for want in scopes {
                let result = keys.check(want, &headers(&[("authorization", &format!("bearer {key}"))]));
                let expected = if have >= want {
                    named(have, &have.to_string())
                } else {
                    Err(Problem::Forbidden { scope: want })
                };
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
            let two = format!("Bearer {}", KEYS[2]);
            let two = headers(&[("authorization", &two), ("authorization", &two)]);
            assert_eq!(keys.check(scope, &two), Err(Problem::Unauthorized { scope }));
        }
        let evil = headers(&[("origin", "http://evil.example")]);
        assert_eq!(keys.check(Scope::Public, &evil), Ok(Caller::nobody()));
    }

    #[test]
    fn a_scope_without_a_key_is_closed_to_those_below() {
        let keys = Keys::new(Some(KEYS[0]), None, None).unwrap();
        let own = headers(&[("authorization", "Bearer predict-predict-1")]);
        assert_eq!(keys.check(Scope::Predict, &own), named(Scope::Predict, "predict"));
        assert_eq!(keys.check(Scope::Admin, &own), Err(Problem::Forbidden { scope: Scope::Admin }));
    }

    #[test]
    fn one_key_for_several_scopes_opens_the_highest() {
        let keys = Keys::new(Some(KEYS[0]), None, Some(KEYS[0])).unwrap();
        let own = headers(&[("authorization", "Bearer predict-predict-1")]);
        assert_eq!(keys.check(Scope::Admin, &own), named(Scope::Admin, "admin"));
    }

    #[test]
    fn named_keys_name_the_caller() {
        let mut keys = Keys::new(None, None, Some(KEYS[2])).unwrap();
        let key = |i: usize| format!("the-key-of-number-{i}");
        for i in 0..MAX_KEYS - 1 {
            let scope = ["predict", "data", "admin"][i % 3];
            keys.add(&format!("person.{i}"), scope, &key(i)).unwrap();
        }
        for (i, scope) in [(0, Scope::Predict), (1, Scope::Data), (500, Scope::Admin), (998, Scope::Admin)] {
            let own = headers(&[("authorization", &format!("Bearer {}", key(i)))]);
            assert_eq!(keys.check(Scope::Predict, &own), named(scope, &format!("person.{i}")));
            let above = keys.check(Scope::Admin, &own);
            assert_eq!(above.is_ok(), scope == Scope::Admin);
        }
        let one_more = keys.add("one-more", "data", "one-more-key-too-many");
        assert!(one_more.unwrap_err().to_string().contains("1000"));
    }

    #[test]
    fn an_invalid_named_key_is_refused_with_its_reason() {
        let sound = || {
            let mut keys = Keys::new(None, None, Some(KEYS[2])).unwrap();
            keys.add("ann", "data", KEYS[1]).unwrap();
            keys
        };
        let long = "a".repeat(MAX_NAME + 1);
        for (name, scope, key, part) in [
            ("", "data", KEYS[0], "1 to 64"),
            (long.as_str(), "data", KEYS[0], "1 to 64"),
            ("a b", "data", KEYS[0], "1 to 64"),
            ("Zoë", "data", KEYS[0], "1 to 64"),
            ("bob", "root", KEYS[0], "predict, data or admin"),
            ("bob", "public", KEYS[0], "predict, data or admin"),
            ("bob", "", KEYS[0], "predict, data or admin"),
            ("bob", "data", "short", "16 to 512"),
            ("ann", "data", KEYS[0], "two keys"),
            ("admin", "data", KEYS[0], "two keys"),
            ("bob", "data", KEYS[1], "ann and bob"),
            ("bob", "predict", KEYS[2], "admin and bob"),
        ] {
            let error = sound().add(name, scope, key).unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains(key), "{name} {scope}: {error}");
        }
        sound().add(&"b".repeat(MAX_NAME), "predict", KEYS[0]).unwrap();
    }

    #[test]
    fn weak_keys_are_refused() {
        for key in ["", "short", "with a space in it", "ümlaut-ümlaut-ümlaut"] {
            let refused = Keys::new(None, None, Some(key)).unwrap_err();
            assert!(matches!(refused, ServerError::Key { ref name, .. } if name == "admin"));
        }
        assert!(!format!("{:?}", Keys::new(None, None, Some(KEYS[2])).unwrap()).contains("admin-"));
    }
}
