//! The files of a data set as a reader found them, before anything is decided about them.

use crate::decode::{Sniffed, sniff};

/// Most files and folders one data set may have.
pub(crate) const MAX_ENTRIES: usize = 1_000_000;

/// Usual extensions of images.
pub(crate) const IMAGE_EXTENSIONS: [&str; 12] =
    ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "dib", "gif", "tif", "tiff", "apng"];

/// A file as the reader found it.
#[derive(Clone)]
pub(crate) struct Found {
    /// Relative to the root, `/` between the parts.
    pub(crate) path: String,
    pub(crate) kind: FileKind,
}

/// What a file is for us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FileKind {
    /// An image, or named like one; decoding will tell.
    Image,
    /// An image format that is recognised but not decoded.
    Undecoded(&'static str),
    /// Anything else.
    Other,
}

impl FileKind {
    /// Trusts the usual extensions and looks at the first bytes of everything else.
    pub(crate) fn of(name: &str, head: impl FnOnce() -> Vec<u8>) -> Self {
        let extension = name.rsplit_once('.').map(|(_, e)| e.to_ascii_lowercase());
        if extension.is_some_and(|e| IMAGE_EXTENSIONS.contains(&e.as_str())) {
            return Self::Image;
        }
        match sniff(&head()) {
            Sniffed::Image(_) => Self::Image,
            Sniffed::Undecoded(format) => Self::Undecoded(format),
            Sniffed::Other(_) => Self::Other,
        }
    }
}

/// True for files and folders that systems and tools leave behind.
pub(crate) fn is_junk(name: &str) -> bool {
    const JUNK: [&str; 10] = [
        "__macosx",
        // The picture of a folder in the Finder.
        "icon\r",
        "__pycache__",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "@eadir",
        "$recycle.bin",
        "system volume information",
        "lost+found",
    ];
    name.starts_with('.') || JUNK.contains(&name.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_by_extension_or_content() {
        let never = || -> Vec<u8> { panic!("the extension says enough") };
        assert_eq!(FileKind::of("a/b.JPeG", never), FileKind::Image);
        assert_eq!(FileKind::of("a.b/photo", || b"\xff\xd8\xff\xe0".to_vec()), FileKind::Image);
        assert_eq!(
            FileKind::of("photo.heic", || b"\0\0\0\x18ftypheic".to_vec()),
            FileKind::Undecoded("HEIC")
        );
        // Phones name JPEGs so after an edit.
        assert_eq!(FileKind::of("photo.heic", || b"\xff\xd8\xff\xe0".to_vec()), FileKind::Image);
        assert_eq!(FileKind::of("notes.txt", || b"hello".to_vec()), FileKind::Other);
    }
}
