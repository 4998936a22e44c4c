//! The file of keys (`--keys`).
//!
//! ```toml
//! admin = "..."            # also: predict, data
//!
//! [keys.ann]               # one more, and the name that says who used it
//! scope = "data"
//! key = "..."
//! ```
//!
//! No message about such a file repeats a word of it that could be a key.

use std::path::Path;

use toml::{Table, Value};

use crate::failure::Failure;
use crate::serve::files::read_text;

const HINT: &str = "it has predict = \"KEY\", data = \"KEY\", admin = \"KEY\", or tables [keys.NAME] with scope = \"data\" and key = \"KEY\"; `openssl rand -hex 32` makes a key";

/// What a file of keys says.
#[derive(Debug, Default)]
pub(super) struct KeyFile {
    pub(super) predict: Option<String>,
    pub(super) data: Option<String>,
    pub(super) admin: Option<String>,
    /// By name, in the order of the file's table.
    pub(super) named: Vec<(String, NamedKey)>,
}

#[derive(Debug)]
pub(super) struct NamedKey {
    pub(super) scope: String,
    pub(super) key: String,
}

/// Reads a file that holds at least one key: one without would open the service to everybody.
pub(super) fn read(path: &Path) -> Result<KeyFile, Failure> {
    parse(&read_text(path)?).map_err(|reason| refusal(path, &reason))
}

/// Why a file of keys will not do; `reason` is what follows the path.
pub(super) fn refusal(path: &Path, reason: &str) -> Failure {
    Failure::usage(format!("{}{reason}", path.display()), HINT)
}

/// An error is what follows the path.
fn parse(text: &str) -> Result<KeyFile, String> {
    let table: Table = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        format!(" line {line}: {}", error.message().replace('\n', "; "))
    })?;
    let mut file = KeyFile::default();
    for (name, value) in table {
        match (name.as_str(), value) {
            ("predict", Value::String(key)) => file.predict = Some(key),
            ("data", Value::String(key)) => file.data = Some(key),
            ("admin", Value::String(key)) => file.admin = Some(key),
            ("keys", Value::Table(keys)) => {
                for (name, value) in keys {
                    let named = named(value)
                        .ok_or(": a table [keys.NAME] has scope and key, both texts, and nothing else")?;
                    file.named.push((name, named));
                }
            }
            ("predict" | "data" | "admin", _) => return Err(format!(": {name} is not a text")),
            ("keys", _) => return Err(": keys is not a table".to_owned()),
            _ => return Err(": it has an entry other than predict, data, admin and [keys.NAME]".to_owned()),
        }
    }
    let KeyFile { predict: None, data: None, admin: None, named } = &file else { return Ok(file) };
    if named.is_empty() { Err(" holds no key".to_owned()) } else { Ok(file) }
}

fn named(value: Value) -> Option<NamedKey> {
    let Value::Table(mut table) = value else { return None };
    let mut text = |name: &str| match table.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    let named = NamedKey { scope: text("scope")?, key: text("key")? };
    table.is_empty().then_some(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_with_and_without_names() {
        let file = parse("admin = \"A\"\n[keys.ann]\nscope = \"data\"\nkey = \"B\"\n[keys.\"b.c\"]\nscope = \"admin\"\nkey = \"C\"\n").unwrap();
        assert_eq!((file.admin.as_deref(), file.data), (Some("A"), None));
        let named: Vec<_> =
            file.named.iter().map(|(name, key)| [name.as_str(), &key.scope, &key.key]).collect();
        assert_eq!(named, [["ann", "data", "B"], ["b.c", "admin", "C"]]);
    }

    #[test]
    fn a_file_that_will_not_do_is_refused_without_its_words() {
        const SECRET: &str = "secret-secret-secret";
        for text in [
            "",
            " \n\t\n",
            "# only a comment",
            "\u{feff}",
            "[keys]",
            "admin = ",
            "admin = \"SECRET",
            "admin = SECRET",
            "SECRET",
            "admin = 1234567890123456",
            "admin = [\"SECRET\"]",
            "admin = \"SECRET\"\nadmin = \"SECRET\"",
            "admins = \"SECRET\"",
            "keys = \"SECRET\"",
            "keys.ann = \"SECRET\"",
            "[keys.ann]\nkey = \"SECRET\"",
            "[keys.ann]\nscope = \"data\"",
            "[keys.ann]\nscope = 7\nkey = \"SECRET\"",
            "[keys.ann]\nscope = \"data\"\nkey = \"SECRET\"\nuntil = 2030-01-01",
            "[keys.ann]\nscope = \"data\"\nkey = \"SECRET\"\n[keys.ann]\n",
            "[keys.ann]\nscope = \"data\"\nkey = \"SEC",
            "[[keys]]\nscope = \"data\"\nkey = \"SECRET\"",
            "admin = \"SECRET\"\n[keys.ann",
        ] {
            let reason = parse(&text.replace("SECRET", SECRET)).expect_err(text);
            assert!(!reason.contains("secret-") && !reason.contains("12345"), "{text}: {reason}");
            assert!(
                reason.starts_with(" line ") || reason.starts_with(": ") || reason == " holds no key",
                "{reason}"
            );
        }
    }
}
