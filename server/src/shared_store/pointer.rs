//! A pointer: which versions of a model have which labels, and the bytes that they are.
//!
//! ```json
//! {"sha256":"<of the text of \"pointer\">","pointer":{"format":1,"number":42,"model":"cats",
//!  "versions":[{"sha256":"<64 hex digits>","bytes":123456}],
//!  "labels":{"stable":"<12 hex digits>","canary":{"version":"<12 hex digits>","share":10},"shadow":null},
//!  "default":true,"written":1790000000,"writer":"<16 hex digits>","host":"..."}}
//! ```
//!
//! One line. There is exactly one text for a pointer, and any other is refused: what was cut off or changed on its way
//! cannot be taken for another pointer.

use std::collections::BTreeMap;

use ocelli_pipeline::store::{Name, VersionLabels};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::http::text::plain;
use crate::shared_store::local::labelled;
use crate::shared_store::objects::Object;

/// The form that this program writes and reads.
const FORMAT: u32 = 1;

/// Largest pointer in bytes: three versions take less than one KiB.
pub(crate) const MAX_BYTES: u64 = 16 << 10;

/// Digits of a number in a key.
const DIGITS: usize = 11;

/// Digits of a version.
const VERSION_DIGITS: usize = 12;

/// Longest name of a host.
pub(crate) const MAX_HOST: usize = 64;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pointer {
    format: u32,
    pub(crate) number: u64,
    pub(crate) model: String,
    /// Those with a label, each once, in the order of [`labelled`].
    pub(crate) versions: Vec<Stored>,
    pub(crate) labels: VersionLabels,
    /// Whether requests that name no model are for this one.
    pub(crate) default: bool,
    /// Seconds since 1970-01-01 UTC, by the clock of the writer.
    pub(crate) written: u64,
    /// The process that wrote it.
    pub(crate) writer: String,
    /// The machine of that process; empty where nobody knows.
    pub(crate) host: String,
}

/// The bytes of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stored {
    /// SHA-256 of its content, in hexadecimal.
    pub(crate) sha256: String,
    /// Size of its file.
    pub(crate) bytes: u64,
}

impl Stored {
    /// The version that these bytes are.
    pub(crate) fn version(&self) -> &str {
        self.sha256.get(..VERSION_DIGITS).unwrap_or_default()
    }
}

/// What a pointer says of its model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Says {
    /// As in [`Pointer`].
    pub(crate) versions: Vec<Stored>,
    pub(crate) labels: VersionLabels,
    pub(crate) default: bool,
}

/// Who writes pointers: a process, and the machine that it runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Writer {
    pub(crate) id: String,
    pub(crate) host: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    sha256: String,
    #[serde(borrow)]
    pointer: &'a RawValue,
}

#[derive(Deserialize)]
struct Form {
    format: u32,
}

impl Pointer {
    pub(crate) fn new((model, number): (&Name, u64), says: Says, writer: &Writer, written: u64) -> Pointer {
        let Writer { id, host } = writer.clone();
        let Says { versions, labels, default } = says;
        let (format, model) = (FORMAT, model.to_string());
        Pointer { format, number, model, versions, labels, default, written, writer: id, host }
    }

    /// The text of it.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let text = serde_json::to_string(self).expect("plain values with text keys");
        format!("{{\"sha256\":\"{}\",\"pointer\":{text}}}\n", hex(&Sha256::digest(text.as_bytes())))
            .into_bytes()
    }

    /// Reads the pointer of a model with a number.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn decode(bytes: &[u8], model: &Name, number: u64) -> Result<Pointer, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not text")?;
        let json = |error: serde_json::Error| format!("it is not a pointer: {}", plain(&error.to_string()));
        let envelope: Envelope<'_> = serde_json::from_str(text).map_err(json)?;
        let inner = envelope.pointer.get();
        if hex(&Sha256::digest(inner.as_bytes())) != envelope.sha256 {
            return Err("its SHA-256 is not the one that it states: it was cut off or changed".to_owned());
        }
        let Form { format } = serde_json::from_str(inner).map_err(json)?;
        if format != FORMAT {
            return Err(format!(
                "its format is {format}, and this program reads {FORMAT}: update the program"
            ));
        }
        let pointer: Pointer = serde_json::from_str(inner).map_err(json)?;
        pointer.check(model, number)?;
        if pointer.encode() != bytes {
            return Err("it is not written as pointers are".to_owned());
        }
        Ok(pointer)
    }

    fn check(&self, model: &Name, number: u64) -> Result<(), String> {
        if self.number != number {
            return Err(format!("it says number {}", self.number));
        }
        if self.model != model.as_str() {
            return Err("it is of another model".to_owned());
        }
        let is_hex = |text: &str, digits: usize| {
            text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        if !self.versions.iter().all(|stored| is_hex(&stored.sha256, 64) && stored.bytes > 0) {
            return Err("a version is no SHA-256 with a size".to_owned());
        }
        if self.labels.stable.is_none() {
            return Err("it says not which version serves".to_owned());
        }
        if self.labels.canary.as_ref().is_some_and(|canary| !(1..=99).contains(&canary.share)) {
            return Err("the share of its canary is not 1 to 99 percent".to_owned());
        }
        if !self.versions.iter().map(Stored::version).eq(labelled(&self.labels)) {
            return Err("its labels and its versions differ".to_owned());
        }
        let visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_hex(&self.writer, 16) || self.host.len() > MAX_HOST || !visible(&self.host) {
            return Err("its writer is no writer".to_owned());
        }
        Ok(())
    }

    /// Whether it says the same as these.
    pub(crate) fn says(&self, says: &Says) -> bool {
        self.versions == says.versions && self.labels == says.labels && self.default == says.default
    }
}

/// The key of a pointer.
pub(crate) fn pointer_key(model: &Name, number: u64) -> String {
    format!("models/{model}/pointers/{number:0DIGITS$}.json")
}

/// The key of a model.
pub(crate) fn model_key(model: &Name, sha256: &str) -> String {
    format!("models/{model}/{sha256}.ocelli")
}

/// What a store has of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) pointers: BTreeMap<u64, Object>,
    /// By their SHA-256.
    pub(crate) models: BTreeMap<String, Object>,
}

/// What a listing of the store has of each model. Keys of other forms are nothing to us.
pub(crate) fn sort(listing: Vec<Object>) -> BTreeMap<Name, Listed> {
    let mut found: BTreeMap<Name, Listed> = BTreeMap::new();
    for object in listing {
        let parts: Vec<&str> = object.key.split('/').collect();
        let (["models", name, "pointers", file] | ["models", name, file]) = parts[..] else { continue };
        let Ok(name) = name.parse::<Name>() else { continue };
        if parts.len() == 4 {
            let Some(digits) = file.strip_suffix(".json") else { continue };
            let Ok(number) = digits.parse::<u64>() else { continue };
            // Also not `+42`, nor fewer digits: one number has one key.
            if number > 0 && object.key == pointer_key(&name, number) {
                found.entry(name).or_default().pointers.insert(number, object);
            }
        } else if let Some(sha256) = file.strip_suffix(".ocelli") {
            let sha256 = sha256.to_owned();
            found.entry(name).or_default().models.insert(sha256, object);
        }
    }
    found
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
