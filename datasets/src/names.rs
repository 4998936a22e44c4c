//! When two class names are the same name.

use std::borrow::Cow;
use unicode_normalization::{UnicodeNormalization, is_nfc};

/// The form in which class names are compared: Unicode NFC (UAX #15). macOS and some archivers take letters with marks
/// apart (NFD); people see one name. The compatibility forms (NFKC) would merge names that look different, so they are
/// not used, and neither is case.
pub fn nfc(name: &str) -> Cow<'_, str> {
    if is_nfc(name) { Cow::Borrowed(name) } else { Cow::Owned(name.nfc().collect()) }
}

/// Whether two class names are one class; see [`nfc`].
pub fn same_class(a: &str, b: &str) -> bool {
    a == b || nfc(a) == nfc(b)
}

/// A mark that joins the letter before it.
pub(crate) fn is_mark(c: char) -> bool {
    unicode_normalization::char::is_combining_mark(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn composed_and_decomposed_names_are_one_and_others_are_not() {
        assert!(same_class("café", "cafe\u{301}"));
        assert!(same_class("한글", "\u{1112}\u{1161}\u{11ab}\u{1100}\u{1173}\u{11af}"));
        for (a, b) in [("cafe", "café"), ("ﬁsh", "fish"), ("Cat", "cat"), ("x²", "x2"), ("Å", "A")] {
            assert!(!same_class(a, b), "{a} {b}");
        }
        assert!(matches!(nfc("plain"), Cow::Borrowed("plain")));
    }
}
