//! The text of the names in an archive, by one rule for both readers.
//!
//! A name is bytes. What they stand for says, in this order: the Unicode Path field (0x7075, APPNOTE 4.6.9) with the
//! checksum of these bytes; the UTF-8 flag; that they are UTF-8, which many tools write without the flag; and at last a
//! code page, one for the whole archive, in which all names make sense ([`super::sense`]). Where they do so in two ways,
//! or in none, no text is made up: a class under a wrong name is a silent error, and in some code pages the second byte
//! of a letter is a backslash.

use super::code_pages::{self, CODE_PAGES, CodePage};
use super::records::{FLAG_UTF8, RawName, extra_fields, u32_at};
use super::sense::{self, Fit};
use flate2::Crc;
use sha2::{Digest, Sha256};
use std::collections::HashSet;

/// What to do about names that cannot be read.
pub(super) const UTF8_AGAIN: &str = "make the ZIP again with UTF-8 names (7-Zip: parameter cu=on)";

/// Characters of a name that a message shows.
const SHOWN: usize = 80;

/// Readings of a name that a message shows.
const SHOWN_READINGS: usize = 4;

/// The names of an archive.
pub(super) struct Names {
    /// Texts in the order of the raw names; `None` where `undecided` says why.
    pub(super) texts: Vec<Option<String>>,
    /// The code page, if one was needed.
    pub(super) note: Option<String>,
    /// Why some names have no text.
    pub(super) undecided: Option<String>,
}

impl<'a> RawName<'a> {
    /// The text that the Unicode Path field gives, if there is one and it belongs to this name.
    pub(super) fn unicode_path(&self) -> Option<&'a str> {
        let (_, field) = extra_fields(self.extra).find(|(id, _)| *id == 0x7075)?;
        let [1, rest @ ..] = field else { return None };
        let mut crc = Crc::new();
        crc.update(self.raw);
        if rest.len() <= 4 || u32_at(rest, 0) != crc.sum() {
            return None;
        }
        std::str::from_utf8(&rest[4..]).ok()
    }

    fn says_utf8(&self) -> bool {
        self.flags & FLAG_UTF8 != 0
    }

    /// Why this name has two readings or none, whatever the code page: for readers that refuse such.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let utf8 = std::str::from_utf8(self.raw);
        if self.says_utf8() && utf8.is_err() {
            return Some("its name says to be UTF-8 and is not; make the ZIP again");
        }
        // Without the flag the bytes may be those of the nearest name in a code page, which has a substitute for what
        // it lacks.
        let substituted = !self.says_utf8() && self.raw.iter().any(|byte| b"?_#".contains(byte));
        match (self.unicode_path(), utf8) {
            (Some(path), Ok(name))
                if path != name && !substituted && (self.says_utf8() || name.is_ascii()) =>
            {
                Some("its Unicode Path field gives another name; make the ZIP again")
            }
            _ => None,
        }
    }

    /// The text where no code page is needed.
    fn known(&self) -> Option<&'a str> {
        let utf8 = || std::str::from_utf8(self.raw).ok();
        self.unicode_path().or_else(|| utf8().filter(|name| self.says_utf8() || name.is_ascii()))
    }
}

/// The texts of all names of an archive, which share a code page.
pub(super) fn read(names: &[RawName]) -> Names {
    let mut texts: Vec<Option<String>> = names.iter().map(|name| name.known().map(str::to_owned)).collect();
    let open: Vec<usize> = (0..names.len()).filter(|&at| texts[at].is_none()).collect();
    let raw: Vec<&[u8]> = open.iter().map(|&at| names[at].raw).collect();
    match decide(&raw) {
        Ok(None) => {
            for (at, raw) in open.into_iter().zip(raw) {
                texts[at] = Some(String::from_utf8_lossy(raw).into_owned());
            }
            Names { texts, note: None, undecided: None }
        }
        Ok(Some(reading)) => {
            for (at, raw) in open.into_iter().zip(raw) {
                texts[at] = reading.text(raw);
            }
            let note = reading.page.map(|page| format!("names that are not UTF-8 are read as {}", page.name));
            Names { texts, note, undecided: None }
        }
        Err(why) => Names { texts, note: None, undecided: Some(why) },
    }
}

/// A way to read all names.
struct Reading {
    /// Of what is not read as UTF-8.
    page: Option<&'static CodePage>,
    /// What is UTF-8 is read as that.
    utf8: bool,
    fit: Fit,
    /// Of all texts.
    digest: [u8; 32],
}

impl Reading {
    fn new(names: &[&[u8]], page: Option<&'static CodePage>, utf8: bool, fit: Fit) -> Self {
        let mut reading = Self { page, utf8, fit, digest: [0; 32] };
        let mut digest = Sha256::new();
        for text in names.iter().filter_map(|name| reading.text(name)) {
            digest.update(text.as_bytes());
            digest.update([0]);
        }
        reading.digest = digest.finalize().into();
        reading
    }

    fn text(&self, raw: &[u8]) -> Option<String> {
        match std::str::from_utf8(raw) {
            Ok(text) if self.utf8 => Some(text.to_owned()),
            _ => self.page?.text(raw),
        }
    }

    fn name(&self) -> &'static str {
        self.page.map_or("UTF-8", |page| page.name)
    }
}

/// The one reading of names without field and flag; `None` when all are UTF-8.
fn decide(names: &[&[u8]]) -> Result<Option<Reading>, String> {
    let (mut utf8, mut other): (Vec<&[u8]>, Vec<&[u8]>) =
        names.iter().partition(|name| std::str::from_utf8(name).is_ok());
    let mut readings: Vec<Reading> = Vec::new();
    if other.is_empty() {
        if sense::is_surely_utf8(parts_of(&utf8).into_iter()) {
            return Ok(None);
        }
        if names.iter().all(|name| std::str::from_utf8(name).is_ok_and(sense::is_plausible)) {
            readings.push(Reading::new(names, None, true, Fit::UTF8));
        }
        (utf8, other) = (other, utf8);
    }
    let Some(first) = other.first() else { return Ok(None) };
    let (utf8_parts, other_parts) = (parts_of(&utf8), parts_of(&other));
    for page in &CODE_PAGES {
        let Some(fit) = sense::fit(page, other_parts.iter().copied()) else { continue };
        let mut ways = Vec::new();
        if utf8.is_empty() {
            ways.push((fit, false));
        } else {
            let all = sense::fit(page, other_parts.iter().chain(&utf8_parts).copied());
            ways.extend(all.map(|fit| (fit, false)));
            let sound = |name: &&[u8]| {
                std::str::from_utf8(name).is_ok_and(|text| sense::is_written_in(text, page.script()))
            };
            ways.extend(utf8.iter().all(sound).then_some((fit, true)));
        }
        for (fit, utf8) in ways {
            let reading = Reading::new(names, Some(page), utf8, fit);
            // Readings that give the same text are one.
            match readings.iter_mut().find(|other| other.digest == reading.digest) {
                Some(same) => same.fit = same.fit.or(fit),
                None => readings.push(reading),
            }
        }
    }
    let wins = |reading: &Reading| {
        // UTF-8 is hardly met by chance: only what is sound stands against it.
        let counts = |other: &&Reading| reading.page.is_some() || other.fit.is_sound();
        let mut others = readings.iter().filter(|other| other.digest != reading.digest).filter(counts);
        reading.fit.is_sound() && others.all(|other| reading.fit.beats(other.fit))
    };
    if let Some(best) = readings.iter().position(wins) {
        return Ok(Some(readings.swap_remove(best)));
    }
    // What is told are the readings that may be meant.
    if readings.iter().any(|reading| reading.fit.is_sound()) {
        readings.retain(|reading| reading.fit.is_sound());
    }
    if readings.is_empty() {
        let name = shown(&code_pages::appnote(first));
        return Err(format!(
            "names are not UTF-8 and make no sense in any code page (e.g. \"{name}\" in CP437)"
        ));
    }
    let differs = |name: &&&[u8]| readings.iter().any(|way| way.text(name) != readings[0].text(name));
    let example = names.iter().find(differs).unwrap_or(first);
    let ways: Vec<String> = readings
        .iter()
        .take(SHOWN_READINGS)
        .map(|way| format!("\"{}\" in {}", shown(&way.text(example).unwrap_or_default()), way.name()))
        .collect();
    Err(format!(
        "it does not say that its names are UTF-8 or in which code page they are, and they can be read in several: one is {}",
        ways.join(" or ")
    ))
}

/// The parts of names that say something about a code page. A slash is never a part of a letter, a backslash may be.
fn parts_of<'a>(names: &[&'a [u8]]) -> HashSet<&'a [u8]> {
    let parts = names.iter().flat_map(|name| name.split(|&byte| byte == b'/'));
    parts.filter(|part| !part.is_ascii()).collect()
}

/// A name as messages show it: printable and short.
pub(super) fn shown(name: &str) -> String {
    let mut text: String = name.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if name.chars().nth(SHOWN).is_some() {
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests;
