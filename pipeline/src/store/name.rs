//! Names that come from outside and become file names.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use crate::store::error::StoreError;

/// Longest name in bytes.
pub const MAX_NAME: usize = 64;

/// A name that is safe as a file name everywhere: 1 to 64 of `A-Z a-z 0-9 . _ -`, without a leading dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// Checks a name; `what` is what it names, for the error.
    ///
    /// # Errors
    /// [`StoreError::Name`].
    pub fn new(what: &'static str, name: &str) -> Result<Name, StoreError> {
        name.parse().map_err(|()| StoreError::Name { what, longest: MAX_NAME })
    }

    /// The nearest name to any text; `default` where nothing of it is left.
    pub fn nearest(text: &str) -> Name {
        let allowed = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
        let clean: String = text.chars().map(allowed).take(MAX_NAME).collect();
        let clean = clean.trim_matches(['.', '-']);
        Name(if clean.is_empty() { "default".to_owned() } else { clean.to_owned() })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = ();

    fn from_str(name: &str) -> Result<Name, ()> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let fine =
            (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('.');
        if fine { Ok(Name(name.to_owned())) } else { Err(()) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_nowhere() {
        let long = "x".repeat(MAX_NAME + 1);
        for bad in ["", ".", "..", ".a", "a/b", "a\\b", "a b", "ä", "a\0", "a:b", long.as_str()] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
            let near = Name::nearest(bad);
            assert_eq!(near.as_str().parse::<Name>().as_ref(), Ok(&near), "{bad:?}");
        }
        for good in ["a", "A.b_c-9", "-a", &long[1..]] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        assert_eq!(Name::nearest("my model!").as_str(), "my-model");
    }
}
