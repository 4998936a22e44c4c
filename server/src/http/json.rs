//! JSON from outside, within a depth.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::http::problem::Problem;
use crate::http::text::plain;

/// Parses a body. Its nesting is counted first: a parser that recurses must not be led by the client.
pub(crate) fn parse<'a, T: Deserialize<'a>>(text: &'a [u8], max_depth: usize) -> Result<T, Problem> {
    let text = without_bom(text);
    if depth(text) > max_depth {
        return Err(Problem::BadBody(format!("arrays and objects are nested more than {max_depth} deep")));
    }
    serde_json::from_slice(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let reason = match error.classify() {
            // Of a value that is JSON but not what was asked for, serde names the field.
            serde_json::error::Category::Data => plain(&error.to_string()),
            _ => "not JSON".to_owned(),
        };
        Problem::BadBody(format!("line {line} column {column}: {reason}"))
    })
}

/// A text without the byte order mark that some writers put in front; RFC 8259, section 8.1, lets readers ignore it.
pub(crate) fn without_bom(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

/// A value that is an object: serde would take a struct from an array of its fields, too.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// For a field that may be left out: null is a value, and the wrong one. Needs `#[serde(default)]` beside it.
pub(crate) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Deepest nesting of brackets outside of strings.
fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_text, mut escaped) = (false, false);
    for &byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn depth_is_counted_outside_of_strings() {
        for (text, expected) in
            [("1", 0), ("[]", 1), ("[{\"a\":[1]},[2]]", 3), ("\"[[[\"", 0), ("[\"\\\"[[\"]", 1)]
        {
            assert_eq!(depth(text.as_bytes()), expected, "{text}");
            let parsed = parse::<Value>(text.as_bytes(), expected);
            assert!(
                parsed.is_ok() && (expected == 0 || parse::<Value>(text.as_bytes(), expected - 1).is_err())
            );
        }
        let bomb = "[".repeat(10_000_000);
        assert!(matches!(parse::<Value>(bomb.as_bytes(), 32), Err(Problem::BadBody(_))));
    }

    #[test]
    fn errors_say_where_and_what() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Known {
            #[allow(dead_code, reason = "only its name matters")]
            name: String,
        }
        let reason = |text: &str| match parse::<Known>(text.as_bytes(), 8) {
            Err(Problem::BadBody(reason)) => reason,
            other => panic!("{other:?}"),
        };
        assert!(reason("{\"nam\u{1b}e\":1}").contains("not JSON"));
        assert!(reason("{\"nme\":1}").contains("unknown field `nme`"));
        assert!(reason("{\n\"name\":").starts_with("line 2"));
        // A long value hides neither.
        let long = reason(&format!("{{\"name\":[\"{}\"]}}", "A".repeat(1000)));
        assert!(long.contains("expected a string"), "{long}");
        let long = parse::<u32>(format!("\"{}\"", "A".repeat(1000)).as_bytes(), 8);
        let Err(Problem::BadBody(long)) = long else { panic!("{long:?}") };
        assert!(long.contains("invalid type: string \"AAA") && long.ends_with("expected u32"), "{long}");
        assert!(long.len() < 250, "{long}");
    }
}
