//! A learning rate in a recipe: a number, or `auto`.

use std::fmt;

use serde::de::{Deserializer, Error, Visitor};
use serde::ser::Serializer;

/// What stands for a rate that is to be found.
pub(crate) const AUTO: &str = "auto";

#[allow(clippy::ref_option, reason = "the form that serde calls")]
pub(super) fn serialize<S: Serializer>(rate: &Option<f32>, serializer: S) -> Result<S::Ok, S::Error> {
    match rate {
        Some(rate) => serializer.serialize_f32(*rate),
        None => serializer.serialize_str(AUTO),
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f32>, D::Error> {
    deserializer.deserialize_any(Rate)
}

struct Rate;

impl Visitor<'_> for Rate {
    type Value = Option<f32>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or \"auto\"")
    }

    fn visit_f64<E: Error>(self, rate: f64) -> Result<Option<f32>, E> {
        Ok(Some(rate as f32))
    }

    fn visit_i64<E: Error>(self, rate: i64) -> Result<Option<f32>, E> {
        Ok(Some(rate as f32))
    }

    fn visit_u64<E: Error>(self, rate: u64) -> Result<Option<f32>, E> {
        Ok(Some(rate as f32))
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Option<f32>, E> {
        match word {
            AUTO => Ok(None),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(word), &self)),
        }
    }
}
