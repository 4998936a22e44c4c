//! Files inside the program, as browsers get them.

use std::sync::OnceLock;

use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, HeaderValue, IF_NONE_MATCH};
use hyper::{HeaderMap, Response, StatusCode};
use sha2::{Digest, Sha256};

use crate::http::problem::Problem;
use crate::http::response::{self, ResponseBody};

/// A file, which stays the same as long as the program does.
pub(crate) struct Asset {
    pub(crate) name: &'static str,
    pub(crate) media_type: &'static str,
    pub(crate) bytes: &'static [u8],
    /// Its entity tag, once somebody asked for it.
    tag: OnceLock<HeaderValue>,
}

impl Asset {
    pub(crate) const fn new(name: &'static str, media_type: &'static str, bytes: &'static [u8]) -> Asset {
        Asset { name, media_type, bytes, tag: OnceLock::new() }
    }

    /// One of some files, by its name; `what` has no such file where there is none.
    pub(crate) fn named(
        files: &[Asset],
        name: &str,
        headers: &HeaderMap,
        what: &str,
    ) -> Result<Response<ResponseBody>, Problem> {
        let found = files.iter().find(|asset| asset.name == name);
        found
            .map(|asset| asset.answer(headers))
            .ok_or_else(|| Problem::NotFound(format!("{what} has no such file")))
    }

    /// A page whose scripts, styles and pictures `policy` limits (Content-Security-Policy).
    pub(crate) fn page(&self, headers: &HeaderMap, policy: &'static str) -> Response<ResponseBody> {
        let mut response = self.answer(headers);
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
        response
    }

    /// 200 with the file, or 304 where the client has it: browsers ask each time, so that a new program shows its own.
    pub(crate) fn answer(&self, headers: &HeaderMap) -> Response<ResponseBody> {
        let tag = self.tag.get_or_init(|| tag(self.bytes));
        let mut response = if has(headers, tag) {
            let mut response = response::no_content();
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        } else {
            response::bytes(self.media_type, self.bytes)
        };
        response.headers_mut().insert(ETAG, tag.clone());
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }
}

/// The first 16 digits of the content's hash.
fn tag(bytes: &[u8]) -> HeaderValue {
    let digits: String = Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::from_str(&format!("\"{digits}\"")).expect("quotes and digits are a valid header")
}

/// Whether a client says that it has what `tag` names (RFC 9110, section 13.1.2).
fn has(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let lists = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = lists.flat_map(|list| list.split(',')).map(str::trim);
    tags.any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one).as_bytes() == tag.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(asset: &Asset, seen: &[&str]) -> u16 {
        let mut headers = HeaderMap::new();
        for value in seen {
            headers.append(IF_NONE_MATCH, HeaderValue::from_str(value).unwrap());
        }
        asset.answer(&headers).status().as_u16()
    }

    #[test]
    fn a_client_that_has_the_file_does_not_get_it_again() {
        let (asset, other) = (Asset::new("a", "text/css", b"a"), Asset::new("b", "text/css", b"b"));
        let of = |asset: &Asset| asset.answer(&HeaderMap::new()).headers()[ETAG].to_str().unwrap().to_owned();
        let (own, foreign) = (of(&asset), of(&other));
        assert_ne!(own, foreign);
        for seen in [
            &[own.as_str()][..],
            &["*"],
            &[&format!("W/{own}")],
            &[&format!("{foreign} , {own}")],
            &[&foreign, &own],
        ] {
            assert_eq!(status(&asset, seen), 304, "{seen:?}");
        }
        for seen in [&[][..], &[foreign.as_str()], &[""], &[own.trim_matches('"')]] {
            assert_eq!(status(&asset, seen), 200, "{seen:?}");
        }
    }
}
