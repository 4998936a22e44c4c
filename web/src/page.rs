//! The page: one HTML file with its styles, its scripts, the program and the model.

use std::fmt;
use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use ocelli_common::svg::escape;
use ocelli_common::text::printable;
use ocelli_engine::EngineError;
use ocelli_engine::model_file::{FORMAT_VERSION, ModelFile};
use sha2::{Digest, Sha256};

use crate::program::{PROGRAM, model_format};

const TEMPLATE: &str = include_str!("../page/index.html");
const STYLE: &str = include_str!("../page/style.css");
const SCRIPT: &str = include_str!("../page/page.js");
const ENGINE: &str = include_str!("../page/engine.js");

/// Why there is no page.
#[derive(Debug)]
pub enum PageError {
    /// The model file cannot be read.
    Model(EngineError),
    /// The program for the page is of another version than this engine, or no such program.
    Program {
        /// The newest model-file format that it reads.
        reads: Option<u32>,
    },
}

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PageError::Model(error) => error.fmt(f),
            PageError::Program { reads: None } => {
                f.write_str("the program for web pages is missing in this build: build it with `make web`")
            }
            PageError::Program { reads: Some(reads) } => write!(
                f,
                "the program for web pages reads model files up to version {reads}, this is version {FORMAT_VERSION}: \
                 build it again with `make web`"
            ),
        }
    }
}

impl std::error::Error for PageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // Its text is that of this error.
            PageError::Model(error) => error.source(),
            PageError::Program { .. } => None,
        }
    }
}

/// A page with the bytes of a model file inside, which classifies images without a server or a network. What a resumed
/// training needs is left out.
///
/// # Errors
/// [`PageError::Model`] for bytes that are no model file; [`PageError::Program`] in a build whose program for pages is not of its
/// version.
pub fn page(model_file: &[u8], title: &str) -> Result<Vec<u8>, PageError> {
    page_with(PROGRAM, model_file, title)
}

/// As [`page`] with another program: one that was built just now.
///
/// # Errors
/// As [`page`].
pub fn page_with(program: &[u8], model_file: &[u8], title: &str) -> Result<Vec<u8>, PageError> {
    let mut file = ModelFile::from_bytes(model_file).map_err(PageError::Model)?;
    let reads = model_format(program);
    if reads.is_none_or(|reads| reads < FORMAT_VERSION) {
        return Err(PageError::Program { reads });
    }
    let stripped = match file.training.take() {
        Some(_) => Some(file.to_bytes().map_err(PageError::Model)?),
        None => None,
    };
    let model = stripped.as_deref().unwrap_or(model_file);
    let parts = [
        ("style-hash", hash(STYLE)),
        ("engine-hash", hash(ENGINE)),
        ("script-hash", hash(SCRIPT)),
        ("title", escape(&printable(title))),
        ("style", STYLE.to_owned()),
        ("engine", ENGINE.to_owned()),
        ("script", SCRIPT.to_owned()),
        ("program", packed(program)),
        ("model", packed(model)),
    ];
    Ok(filled(&parts))
}

/// The template with its `{{names}}` replaced; what is put in is not looked at again.
fn filled(parts: &[(&str, String)]) -> Vec<u8> {
    let room = parts.iter().map(|(_, text)| text.len()).sum::<usize>();
    let mut out = Vec::with_capacity(TEMPLATE.len() + room);
    let mut rest = TEMPLATE;
    while let Some((before, behind)) = rest.split_once("{{") {
        let (name, behind) = behind.split_once("}}").expect("names of the template end");
        let (_, text) =
            parts.iter().find(|part| part.0 == name).expect("the template names parts that there are");
        out.extend(before.as_bytes());
        out.extend(text.as_bytes());
        rest = behind;
    }
    out.extend(rest.as_bytes());
    out
}

/// The hash by which the page's policy knows an inline text.
fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

/// Deflated, as base64.
fn packed(bytes: &[u8]) -> String {
    let deflated = || -> io::Result<Vec<u8>> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes)?;
        encoder.finish()
    };
    STANDARD.encode(deflated().expect("a write to memory cannot fail"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FASHION: &[u8] = include_bytes!("../../weights/fashion-mnist-keras-cnn.ocelli");

    fn text(title: &str) -> String {
        String::from_utf8(page(FASHION, title).unwrap()).unwrap()
    }

    #[test]
    fn a_title_is_text_and_nothing_is_left_to_fill_in() {
        let page = text("</title><script>alert(1)</script> {{model}}");
        assert!(
            page.contains("<title>&lt;/title&gt;&lt;script&gt;alert(1)&lt;/script&gt; {{model}}</title>")
        );
        assert!(page.contains("alert(1)&lt;/script&gt; {{model}}</h1>"));
        assert_eq!(page.matches("{{").count(), 2, "those of the title and the heading");
        assert_eq!(page.matches("<script").count(), 4);
    }

    #[test]
    fn the_policy_allows_the_pages_own_script_and_style_and_no_connection() {
        let page = text("Clothes");
        let policy = page.split_once("http-equiv=\"Content-Security-Policy\" content=\"").unwrap().1;
        let policy = policy.split_once('"').unwrap().0;
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
        for part in [hash(SCRIPT), hash(ENGINE), hash(STYLE), "connect-src 'none'".to_owned()] {
            assert!(policy.contains(&part), "{policy} has {part}");
        }
        assert!(
            !policy.contains("unsafe-inline")
                && !policy.contains("'unsafe-eval'")
                && !policy.contains("http")
        );
        // What stands in the page is, byte by byte, what was hashed.
        assert!(page.contains(&format!("<script>{SCRIPT}</script>")));
        assert!(page.contains(&format!("<style>{STYLE}</style>")));
        assert!(page.contains(&format!("<script>{ENGINE}</script>")));
        for part in [SCRIPT, ENGINE, STYLE] {
            assert!(!part.contains("</script") && !part.contains("</style"), "it would end its element");
        }
    }

    #[test]
    fn bytes_that_are_no_model_and_programs_of_another_version_are_refused() {
        assert!(matches!(page(b"no model", ""), Err(PageError::Model(_))));
        assert!(matches!(page_with(b"", FASHION, ""), Err(PageError::Program { reads: None })));
        let mut older = b"\0asm\x01\0\0\0\0\x18\x13ocelli-model-format".to_vec();
        older.extend([1, 0, 0, 0]);
        let error = page_with(&older, FASHION, "").unwrap_err();
        assert!(error.to_string().contains("up to version 1"), "{error}");
    }
}
