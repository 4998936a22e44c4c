//! The host that a request is for (RFC 9112, section 3.2; the syntax is that of RFC 3986, section 3.2).
//!
//! A request of HTTP/1.1 names exactly one host, whatever its target looks like; one of HTTP/1.0 names one or none. With
//! two hosts, or one that could be read in two ways, a proxy in front of this service may have decided by another one
//! than we would, so such a request is refused before anything else is looked at.

use std::net::Ipv6Addr;

use hyper::Version;
use hyper::header::HOST;
use hyper::http::request::Parts;

use crate::http::problem::Problem;

/// The host of a request, with its port where it has one: the one in the target where that is a whole address, else
/// the one of the `Host` header. None in HTTP/1.0 alone.
pub(crate) fn host(parts: &Parts) -> Result<Option<&str>, Problem> {
    let mut fields = parts.headers.get_all(HOST).iter();
    let field = match (fields.next(), fields.next()) {
        (None, _) if parts.version >= Version::HTTP_11 => {
            return Err(Problem::BadHost("the request names no host: HTTP/1.1 needs one Host header"));
        }
        (None, _) => None,
        (Some(field), None) => Some(field.to_str().ok().filter(|host| is_sound(host)).ok_or(BROKEN)?),
        (Some(_), Some(_)) => {
            return Err(Problem::BadHost("the request names more than one host: send one Host header"));
        }
    };
    match parts.uri.authority() {
        Some(authority) if is_sound(authority.as_str()) => Ok(Some(authority.as_str())),
        Some(_) => Err(BROKEN),
        None => Ok(field),
    }
}

const BROKEN: Problem = Problem::BadHost(
    "the request names no valid host: send a name or an address, with a port where it has one",
);

/// Whether a text is `name`, `address` or `[address]`, with or without a port. An empty name is none, as an address of
/// the web has one; a user's name does not belong here.
fn is_sound(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let Some((address, after)) = rest.split_once(']') else { return false };
            if !is_literal(address) {
                return false;
            }
            match after.strip_prefix(':') {
                Some(port) => (address, port),
                None if after.is_empty() => (address, ""),
                None => return false,
            }
        }
        None => {
            let (name, port) = host.split_once(':').unwrap_or((host, ""));
            if !is_name(name) {
                return false;
            }
            (name, port)
        }
    };
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
    !name.is_empty() && is_port && (port.is_empty() || port.parse::<u16>().is_ok())
}

/// What may stand in brackets: an IPv6 address, or one of a later version.
fn is_literal(text: &str) -> bool {
    if text.parse::<Ipv6Addr>().is_ok() {
        return true;
    }
    let Some((version, address)) = text.strip_prefix(['v', 'V']).and_then(|rest| rest.split_once('.')) else {
        return false;
    };
    let hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex(version) && !address.is_empty() && address.bytes().all(|byte| byte == b':' || is_plain(byte))
}

/// A registered name or an IPv4 address: letters, digits, some signs, and percent-encoded bytes. The comma, which the
/// syntax allows, is none of them: it is how two header fields are joined to one.
fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += match byte {
            b'%' => match bytes.get(at + 1..at + 3) {
                Some(hex) if hex.iter().all(u8::is_ascii_hexdigit) => 3,
                _ => return false,
            },
            byte if is_plain(byte) => 1,
            _ => return false,
        };
    }
    true
}

/// The unreserved characters and the delimiters that may stand in a name.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn of(version: Version, target: &str, hosts: &[&[u8]]) -> Result<Option<String>, Problem> {
        let mut request = Request::builder().version(version).uri(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        host(&parts).map(|host| host.map(str::to_owned))
    }

    #[test]
    fn valid_hosts_are_told_from_invalid_ones() {
        for sound in [
            "t",
            "localhost:8080",
            "10.1.2.3",
            "10.1.2.3:80",
            "[::1]",
            "[::1]:8080",
            "[::ffff:10.1.2.3]",
            "[v1.a:b]",
            "a-b.example",
            "a_b",
            "a:",
            "%41.example",
            "xn--mnchen-3ya.de",
            "a.",
            "a:65535",
        ] {
            assert_eq!(of(Version::HTTP_11, "/", &[sound.as_bytes()]), Ok(Some(sound.to_owned())), "{sound}");
        }
        let broken: [&[u8]; 25] = [
            b"",
            b":80",
            b" ",
            b"a b",
            b"a/b",
            b"a?b",
            b"a#b",
            b"user@a",
            b"a:b",
            b"a:80:80",
            b"a:-1",
            b"a:65536",
            b"http://a",
            b"[::1",
            b"::1",
            b"[]",
            b"[::1]80",
            b"[::1]:x",
            b"[10.1.2.3]",
            b"[fe80::1%25eth0]",
            b"[v.a]",
            b"%4",
            b"%zz",
            b"a\\b",
            b"m\xc3\xbcnchen.de",
        ];
        for host in broken {
            for version in [Version::HTTP_10, Version::HTTP_11] {
                let found = of(version, "/", &[host]);
                assert_eq!(found, Err(BROKEN), "{}", String::from_utf8_lossy(host));
            }
        }
    }

    #[test]
    fn http_1_1_needs_one_host_and_1_0_at_most_one() {
        assert!(of(Version::HTTP_11, "/", &[]).is_err());
        assert_eq!(of(Version::HTTP_10, "/", &[]), Ok(None));
        for version in [Version::HTTP_10, Version::HTTP_11] {
            assert!(of(version, "/", &[b"a", b"a"]).is_err());
            assert!(of(version, "http://a/", &[b"a", b"b"]).is_err());
        }
        // The target's own host counts, and does not stand in for the header.
        assert_eq!(of(Version::HTTP_11, "http://a:1/x", &[b"b"]), Ok(Some("a:1".to_owned())));
        assert!(of(Version::HTTP_11, "http://a/", &[]).is_err());
        assert_eq!(of(Version::HTTP_10, "http://a/", &[]), Ok(Some("a".to_owned())));
        assert!(of(Version::HTTP_11, "http://user@a/", &[b"a"]).is_err());
        assert!(of(Version::HTTP_11, "http://a/", &[b"a b"]).is_err());
    }
}
