//! Keys: every route without one, with a wrong one and with half of one; and, where there are none, the pages of other
//! sites.
//!
//! A route that opens by mistake must not do anything for us: whatever changes something is asked for with a query and a
//! body that no route takes, about things that do not exist.

use serde_json::Value;

use super::run::{Found, Must, Run};
use super::wire::{Until, Wire};
use crate::error::FloodError;

const THEME: &str = "access";
/// Stands for every name in a path.
const NOTHING: &str = "ocelli-abuse-none";
/// Long enough to be a key, and nobody's.
const WRONG: &str = "authorization: Bearer nobody-has-this-key-at-all\r\n";
/// What anybody may ask: all else needs a key where there are keys.
const PUBLIC: [&str; 11] = [
    "/",
    "/assets/{file}",
    "/health/live",
    "/health/ready",
    "/openapi.json",
    "/docs",
    "/docs/{file}",
    "/sample.zip",
    "/v1/me",
    "/v2/health/live",
    "/v2/health/ready",
];
/// Most routes of a document that are tried.
const MOST: usize = 1000;
/// Methods that a document may name.
const VERBS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

pub(super) fn play(run: &mut Run) -> Result<(), FloodError> {
    let open = Wire { key: String::new(), ..run.wire.clone() };
    let status = open.send(&open.request("GET /status", "", b""), Until::Answers(1));
    match status.map(|reply| reply.statuses).as_deref() {
        Ok([401]) => keys(run, &open),
        Ok([200]) => {
            let why = "it has no keys: everybody who reaches its port may do everything";
            run.skip(THEME, "routes without a key", why)?;
            other_sites(run, &open)
        }
        other => {
            let seen = other.map_or_else(|error| error.to_string(), |statuses| format!("{statuses:?}"));
            run.skip(THEME, "routes without a key", format!("GET /status without a key: {seen}"))
        }
    }
}

/// Every route that the service describes.
fn keys(run: &mut Run, open: &Wire) -> Result<(), FloodError> {
    let document = open.send(&open.request("GET /openapi.json", "", b""), Until::Answers(1));
    let document: Value =
        document.ok().and_then(|reply| serde_json::from_slice(&reply.body).ok()).unwrap_or_default();
    let mut routes = Vec::new();
    for (path, verbs) in document["paths"].as_object().into_iter().flatten() {
        let named = VERBS.iter().filter(|verb| verbs.get(**verb).is_some());
        routes.extend(named.map(|verb| (verb.to_uppercase(), path.clone())));
    }
    routes.retain(|(_, path)| !PUBLIC.contains(&path.as_str()));
    if routes.is_empty() || routes.len() > MOST {
        return run.skip(THEME, "routes without a key", "GET /openapi.json has no routes to try");
    }
    for (verb, path) in routes {
        let line = format!("{verb} {}?{NOTHING}=1", filled(&path));
        let send = |wire: &Wire, header: &str| -> Found {
            let headers = format!("{header}content-type: application/json\r\ncontent-length: 2\r\n");
            let reply = wire.send(&wire.request(&line, &headers, b"[]"), Until::Answers(1));
            let reply = reply.map_err(|error| error.to_string())?;
            let held = matches!(reply.statuses.as_slice(), [401 | 403]);
            if held { Ok(reply.text()) } else { Err(reply.text()) }
        };
        run.check(THEME, format!("{verb} {path}, no key or a wrong one"), "401 or 403", |_| {
            let without = send(open, "").map_err(|seen| format!("without a key {seen}"))?;
            send(open, WRONG).map_err(|seen| format!("with a wrong key {seen}"))?;
            Ok(without)
        })?;
    }
    let long = format!("authorization: Bearer {}\r\n", "x".repeat(16 << 10));
    for (name, headers, query) in [
        ("key of nothing", "authorization: Bearer \r\n", ""),
        ("key without its scheme", "authorization: nobody-has-this-key-at-all\r\n", ""),
        ("name and password", "authorization: Basic bm9ib2R5OnBhc3N3b3Jk\r\n", ""),
        ("two wrong keys", &WRONG.repeat(2), ""),
        ("key of 16 KiB", &long, ""),
        (
            "key that is not ASCII",
            "authorization: Bearer \u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\r\n",
            "",
        ),
        ("key in the query", "", "?authorization=nobody-has-this-key-at-all"),
        ("says to come from this machine", "x-forwarded-for: 127.0.0.1\r\nforwarded: for=127.0.0.1\r\n", ""),
        (
            "says to ask for another path",
            "x-original-url: /health/live\r\nx-rewrite-url: /health/live\r\n",
            "",
        ),
        ("says to be another method", "x-http-method-override: OPTIONS\r\n", ""),
    ] {
        let bytes = open.request(&format!("GET /status{query}"), headers, b"");
        run.bytes(THEME, name, Must::Refused, &bytes)?;
    }
    for path in [
        "//status",
        "/./status",
        "/%2e/status",
        "/health/live/../../status",
        "/health/live%2f..%2f..%2fstatus",
        "/STATUS",
    ] {
        run.bytes(
            THEME,
            format!("GET {path} without a key"),
            Must::Refused,
            &open.request(&format!("GET {path}"), "", b""),
        )?;
    }
    Ok(())
}

/// A path whose parts in braces are filled with a name that nothing has.
fn filled(path: &str) -> String {
    let part = |part: &str| match part.split_once('{') {
        Some((before, _)) => format!("{before}{NOTHING}"),
        None => part.to_owned(),
    };
    // Of a document that is not ours, only what can stand in a request line.
    let plain = |c: &char| c.is_ascii_graphic() && !"?#".contains(*c);
    path.split_inclusive('}').map(part).collect::<String>().chars().filter(plain).collect()
}

/// Without keys, a browser on the same machine could be made to ask for somebody else.
fn other_sites(run: &mut Run, open: &Wire) -> Result<(), FloodError> {
    let own = &open.host;
    for (name, host, headers) in [
        ("page of another site", own.as_str(), "origin: http://evil.example\r\n"),
        ("page without an address", own, "origin: null\r\n"),
        ("page of another port", own, "origin: http://localhost:1\r\n"),
        ("browser that says cross-site", own, "sec-fetch-site: cross-site\r\n"),
        ("name of a stranger that leads here", "rebound.example", ""),
        ("page and name of a stranger", "rebound.example", "origin: http://rebound.example\r\n"),
    ] {
        let wire = Wire { host: host.to_owned(), ..open.clone() };
        run.bytes(THEME, name, Must::Status(403), &wire.request("GET /status", headers, b""))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_filled_with_what_is_not_there() {
        for (path, whole) in [
            ("/predict", "/predict"),
            ("/v1/jobs/{id}/events", "/v1/jobs/ocelli-abuse-none/events"),
            ("/v2/models/{a}/versions/{b}", "/v2/models/ocelli-abuse-none/versions/ocelli-abuse-none"),
            ("/x\r\ny z?q", "/xyzq"),
        ] {
            assert_eq!(filled(path), whole);
        }
    }
}
