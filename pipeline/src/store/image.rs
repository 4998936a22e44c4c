//! Images as the store knows them: ids, origins, and the limits of their names and numbers.

use ocelli_datasets::ContentHash;
use ocelli_engine::model_file::{MAX_CLASS_NAME_BYTES, MAX_CLASSES};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::run_folder::hex;
use crate::store::error::StoreError;

/// Images by content.
pub(super) const IMAGES: &str = "images";

/// Most images one data set may have.
pub const MAX_IMAGES: usize = 1_000_000;
/// Longest original name that is kept, in characters.
const MAX_ORIGINAL: usize = 120;

const EXTENSIONS: [&str; 6] = ["jpg", "png", "webp", "gif", "tif", "bmp"];

/// How an image came into a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Sent by a user as training data.
    Upload,
    /// A prediction that a user corrected.
    Feedback,
}

impl Origin {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Origin::Upload => "upload",
            Origin::Feedback => "feedback",
        }
    }

    /// From what [`Origin::as_str`] gave.
    pub(super) fn parse(text: &str) -> Origin {
        if text == "feedback" { Origin::Feedback } else { Origin::Upload }
    }
}

/// SHA-256 of an image file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct Id(ContentHash);

impl Id {
    pub(super) fn of(image: &[u8]) -> Id {
        Id(Sha256::digest(image).into())
    }

    pub(super) fn bytes(&self) -> &ContentHash {
        &self.0
    }

    /// From 64 lower-case hexadecimal digits.
    pub(super) fn parse(text: &str) -> Option<Id> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b)) {
            return None;
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Id(hash))
    }
}

impl From<ContentHash> for Id {
    fn from(hash: ContentHash) -> Id {
        Id(hash)
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// The extension that image files of a format have, by its text.
pub(super) fn extension(text: &str) -> Option<&'static str> {
    EXTENSIONS.into_iter().find(|known| *known == text)
}

/// The id of an image of a store by the path of its file.
pub fn image_id(path: &str) -> Option<String> {
    let (id, _) = id_of_file(path.rsplit('/').next()?)?;
    Some(id.to_string())
}

/// The id and the extension in a file's name, if we gave it.
pub(super) fn id_of_file(name: &str) -> Option<(Id, &'static str)> {
    let (id, ending) = name.split_once('.')?;
    Some((Id::parse(id)?, extension(ending)?))
}

/// Refuses more images or classes than a data set may have.
pub(super) fn check_counts(images: usize, classes: usize) -> Result<(), StoreError> {
    for (what, n, most) in [("images", images, MAX_IMAGES), ("classes", classes, MAX_CLASSES)] {
        if n > most {
            let reason = format!("the data set would have {n} {what}; at most {most} are possible");
            return Err(StoreError::TooLarge { reason });
        }
    }
    Ok(())
}

/// Class names are any text that a model file takes, on one line and without spaces around it.
pub(super) fn check_class(class: &str) -> Result<(), String> {
    let shown: String = class.chars().take(40).flat_map(char::escape_debug).collect();
    if class.is_empty() || class.len() > MAX_CLASS_NAME_BYTES {
        return Err(format!(
            "the class name {shown:?} has {} bytes; 1 to {MAX_CLASS_NAME_BYTES} are possible",
            class.len()
        ));
    }
    if class.chars().any(char::is_control) || class.trim() != class {
        return Err(format!("the class name {shown:?} has control characters, or spaces around it"));
    }
    Ok(())
}

/// An original name as it is kept: one line, not too long.
pub(super) fn original(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_ORIGINAL).collect()
}

/// `images/ab/abcd...png`, relative to the data folder.
pub(super) fn image_path(id: &Id, extension: &str) -> String {
    let id = id.to_string();
    format!("{IMAGES}/{}/{id}.{extension}", &id[..2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_to_the_number() {
        assert!(check_counts(MAX_IMAGES, MAX_CLASSES).is_ok());
        let text = |images, classes| check_counts(images, classes).unwrap_err().to_string();
        assert!(text(MAX_IMAGES + 1, 1).contains("1000001 images; at most 1000000"));
        assert!(text(1, MAX_CLASSES + 1).contains("65537 classes; at most 65536"));
        assert!(check_class(&"x".repeat(MAX_CLASS_NAME_BYTES)).is_ok());
        for bad in ["", " x", "x\t", "a\nb", &"x".repeat(MAX_CLASS_NAME_BYTES + 1)] {
            assert!(check_class(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_are_64_lower_case_digits() {
        let id = Id::of(b"x");
        assert_eq!(Id::parse(&id.to_string()), Some(id));
        assert_eq!(image_id(&format!("../images/01/{id}.png")), Some(id.to_string()));
        assert_eq!(image_id(&format!("../images/01/{id}.exe")), None);
        for bad in ["", "../x", &"0".repeat(63), &"0".repeat(65), &"A".repeat(64), &"\u{e4}".repeat(32)] {
            assert!(Id::parse(bad).is_none(), "{bad}");
        }
    }
}
