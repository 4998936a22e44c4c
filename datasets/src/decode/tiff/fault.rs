//! What is wrong with a TIFF.

use crate::decode::sniff::Format;
use crate::error::DecodeError;
use std::borrow::Cow;

pub(super) const NAME: &str = "TIFF";
pub(super) const CORRUPT: DecodeError = DecodeError::Corrupt { format: NAME };
pub(super) const TRUNCATED: DecodeError = DecodeError::Truncated { format: NAME };

/// The format that this module decodes.
pub(super) const FORMAT: Format = Format::Tiff;

pub(super) fn unsupported(variant: impl Into<Cow<'static, str>>) -> DecodeError {
    DecodeError::Unsupported { format: NAME, variant: variant.into() }
}
