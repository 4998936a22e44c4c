//! The JSON of a configuration, and its fields by name.

use serde_json::Value;

/// Bytes that an object takes as a value in memory, at least: one node of a map for up to eleven fields.
const OBJECT_BYTES: usize = 640;
/// Bytes that an element of a list takes, with the room that a list grows ahead.
const ELEMENT_BYTES: usize = 96;

/// Parses a text whose values take no more memory than `most` bytes, which is told before.
pub(super) fn parse(text: &str, most: usize) -> Result<Value, String> {
    let count = |byte: u8| text.bytes().filter(|&b| b == byte).count();
    let objects = count(b'{').saturating_mul(OBJECT_BYTES);
    let elements = (count(b',') + count(b'[')).saturating_mul(ELEMENT_BYTES);
    if objects.saturating_add(elements).saturating_add(2 * text.len()) > most {
        return Err("the configuration has more parts than a file of this size accounts for".to_owned());
    }
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// An object of the configuration; fields that are missing are as good as `null`.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a Value);

impl<'a> Fields<'a> {
    /// A field that is there and not null.
    pub(super) fn get(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A field with fields of its own.
    pub(super) fn inner(self, name: &str) -> Fields<'a> {
        Fields(self.0.get(name).unwrap_or(&Value::Null))
    }

    /// A text.
    pub(super) fn text(self, name: &str) -> Option<&'a str> {
        self.get(name)?.as_str()
    }

    /// A number.
    pub(super) fn number(self, name: &str) -> Option<f64> {
        self.get(name)?.as_f64()
    }

    /// A truth value, or else its default.
    pub(super) fn flag(self, name: &str, default: bool) -> bool {
        self.get(name).and_then(Value::as_bool).unwrap_or(default)
    }

    /// A whole number that fits.
    pub(super) fn count(self, name: &str) -> Option<u32> {
        whole(self.get(name)?)
    }

    /// Height and width: two numbers, or one for both.
    pub(super) fn pair(self, name: &str) -> Option<[u32; 2]> {
        pair(self.get(name)?)
    }

    /// A list; empty if there is none.
    pub(super) fn list(self, name: &str) -> &'a [Value] {
        self.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }
}

/// A whole number, which some writers give as a float.
pub(super) fn whole(value: &Value) -> Option<u32> {
    let number = value.as_f64()?;
    (number >= 0.0 && number <= f64::from(u32::MAX) && number.fract() == 0.0).then_some(number as u32)
}

/// Two whole numbers, or one for both.
pub(super) fn pair(value: &Value) -> Option<[u32; 2]> {
    match value.as_array().map(Vec::as_slice) {
        None => whole(value).map(|side| [side; 2]),
        Some([both]) => whole(both).map(|side| [side; 2]),
        Some([a, b]) => Some([whole(a)?, whole(b)?]),
        Some(_) => None,
    }
}

/// The numbers of a scalar or of lists in lists, or of the tensors that Keras 3 writes in place of constants.
pub(super) fn numbers(value: &Value) -> Option<Vec<f64>> {
    match value {
        Value::Number(number) => Some(vec![number.as_f64()?]),
        Value::Array(values) => {
            let mut all = Vec::new();
            for value in values {
                all.extend(numbers(value)?);
            }
            Some(all)
        }
        Value::Object(object) => {
            let class = object.get("class_name")?.as_str()?;
            matches!(class, "__numpy__" | "__tensor__").then_some(())?;
            numbers(object.get("config")?.get("value")?)
        }
        _ => None,
    }
}
