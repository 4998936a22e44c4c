//! Files whose name says another format than their content.

use ocelli_datasets::FileFormat;

/// Extensions of image formats, with the format that they stand for.
const EXTENSIONS: [(&str, &str); 18] = [
    ("jpg", "JPEG"),
    ("jpeg", "JPEG"),
    ("jpe", "JPEG"),
    ("jfif", "JPEG"),
    ("png", "PNG"),
    ("apng", "PNG"),
    ("webp", "WebP"),
    ("bmp", "BMP"),
    ("dib", "BMP"),
    ("gif", "GIF"),
    ("tif", "TIFF"),
    ("tiff", "TIFF"),
    ("heic", "HEIC"),
    ("heif", "HEIC"),
    ("avif", "AVIF"),
    ("jxl", "JPEG XL"),
    ("jp2", "JPEG 2000"),
    ("ico", "ICO"),
];

/// What to say of a file called `name` that is of a format, where the name says another one. Names with other extensions or
/// none say nothing.
pub(super) fn wrong(name: &str, format: &FileFormat) -> Option<String> {
    let (_, extension) = name.rsplit_once('.')?;
    let lower = extension.to_ascii_lowercase();
    let (_, says) = EXTENSIONS.iter().find(|(known, _)| *known == lower)?;
    (*says != format.name).then(|| format!("a {} file called .{extension}", format.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ocelli_datasets::file_format;

    #[test]
    fn only_names_that_say_another_format_are_wrong() {
        let png = file_format(b"\x89PNG\r\n\x1a\n").unwrap();
        let jpeg = file_format(b"\xff\xd8\xff\xe0").unwrap();
        assert_eq!(wrong("a/b.JPG", &png).as_deref(), Some("a PNG file called .JPG"));
        assert_eq!(wrong("a/b.heic", &jpeg).as_deref(), Some("a JPEG file called .heic"));
        for fine in ["a/b.png", "a/b.PNG", "b.apng", "b", "a.b/photo", "b.dat", "b.", ""] {
            assert_eq!(wrong(fine, &png), None, "{fine}");
        }
        for fine in ["b.jpg", "b.jpeg", "b.jpe", "b.JFIF"] {
            assert_eq!(wrong(fine, &jpeg), None, "{fine}");
        }
    }
}
