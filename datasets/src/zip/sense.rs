//! Whether names make sense in a code page.
//!
//! Nearly all bytes are characters of nearly all code pages, so that a name decodes says nothing. What does: every
//! character is a letter that the people of this code page write; letters of two scripts do not meet in a word; upper
//! case stands where it may; words have vowels; the letters of an archive are those of one language. The rules are
//! wide, since a reading that they leave out wrongly may let a false one stand alone; what two readings pass is refused
//! by the caller.

use super::code_pages::{Alphabet, CodePage, Letters, Pair, Script};
use std::collections::HashSet;
use std::ops::RangeInclusive;

/// Longest run of Cyrillic consonants in a word ("агентство").
const MOST_CONSONANTS: usize = 5;

/// Longest run of letters with marks in a word ("żółw").
const MOST_MARKED: usize = 3;

/// Everyday letters for each rare one, where two bytes are a letter: words have rare ones now and then.
const EVERYDAY: usize = 4;

/// Longest run of Thai consonants in a word ("รถยนต์").
const MOST_THAI: usize = 6;

/// So many different letters are within a narrow range by no chance: of Chinese or Japanese words all are where the
/// code page of Korean has hangul one time in 400 at most, for their letters are in the order of their sounds as well.
const NARROW: usize = 24;

/// How names fit a code page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fit {
    evidence: Evidence,
    /// Words that break a rule of the language: abbreviations, names, typing errors, or noise.
    odd: usize,
    /// Words with letters beyond ASCII.
    words: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Evidence {
    /// Words of several of its languages.
    Mixed,
    /// Words that may all be of one language.
    OneLanguage,
    /// So many letters of a narrow range that they are in it by no chance.
    NarrowRange,
}

impl Fit {
    /// Of names that are UTF-8.
    pub(super) const UTF8: Self = Self { evidence: Evidence::OneLanguage, odd: 0, words: 1 };

    /// True when the names may be taken for what they say in this code page.
    pub(super) fn is_sound(self) -> bool {
        4 * self.odd <= self.words
    }

    /// True when the other reading of the same names need not be thought of. The rules may be wrong about a word, but
    /// hardly about two words and half of all, or four and a third.
    pub(super) fn beats(self, other: Self) -> bool {
        let clearer = self.evidence > other.evidence && self.odd <= other.odd;
        let more = other.odd.saturating_sub(self.odd);
        let odd = (more >= 2 && 2 * other.odd > other.words) || (more >= 4 && 3 * other.odd > other.words);
        clearer || odd
    }

    /// The better of two that give the same text.
    pub(super) fn or(self, other: Self) -> Self {
        let better = (other.odd, self.evidence) < (self.odd, other.evidence);
        if better { other } else { self }
    }
}

/// Judges parts of names, which have bytes above 127; `None` when one of them makes no sense.
pub(super) fn fit<'a>(page: &CodePage, parts: impl Iterator<Item = &'a [u8]>) -> Option<Fit> {
    match page.letters {
        Letters::Alphabets(alphabets) => fit_alphabets(page, alphabets, parts),
        Letters::Pairs(kind, ref narrow) => fit_pairs(page, kind, narrow.clone(), parts),
    }
}

/// True when the letters of a text beyond ASCII are all of a script.
pub(super) fn is_written_in(text: &str, script: Script) -> bool {
    text.chars().filter(|c| !c.is_ascii()).all(|c| match script {
        Script::Latin => matches!(c, '\u{c0}'..='\u{24f}' | '\u{300}'..='\u{36f}'),
        Script::Cyrillic => matches!(c, '\u{400}'..='\u{52f}' | '\u{300}'..='\u{36f}' | '№'),
        Script::Greek => matches!(c, '\u{370}'..='\u{3ff}' | '\u{300}'..='\u{36f}'),
        Script::Hebrew => matches!(c, '\u{590}'..='\u{5ff}'),
        Script::Arabic => matches!(c, '\u{600}'..='\u{6ff}'),
        Script::Thai => matches!(c, '\u{e00}'..='\u{e7f}'),
        Script::EastAsian => matches!(
            c,
            '\u{1100}'..='\u{11ff}' | '\u{3000}'..='\u{30ff}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}'
                | '\u{ff00}'..='\u{ffef}'
        ),
    })
}

/// True when names that are UTF-8 are so by no chance: words of one script, Latin ones with plain letters in them, and
/// enough of it. Pairs of bytes of East Asian code pages are UTF-8 one time in seven.
pub(super) fn is_surely_utf8<'a>(parts: impl Iterator<Item = &'a [u8]>) -> bool {
    const ENOUGH: usize = 3;
    let mut evidence = 0;
    for text in parts.filter_map(|part| std::str::from_utf8(part).ok()) {
        if !is_plausible(text) {
            return false;
        }
        let is_end = |c: char| !c.is_alphabetic() && !is_mark(c);
        for word in text.split(is_end).filter(|word| !word.is_ascii()) {
            let plain = word.contains(|c: char| c.is_ascii_alphabetic());
            if is_written_in(word, Script::Latin) {
                if !plain {
                    return false;
                }
                evidence += 2;
            }
            evidence += word.chars().map(|c| c.len_utf8() - 1).sum::<usize>();
        }
    }
    evidence >= ENOUGH
}

fn is_mark(c: char) -> bool {
    crate::names::is_mark(c)
}

/// True for a text of letters, digits, marks and the punctuation and pictures that names have.
pub(super) fn is_plausible(text: &str) -> bool {
    text.chars().filter(|c| !c.is_ascii()).all(|c| {
        c.is_alphanumeric()
            || is_mark(c)
            || matches!(c, '\u{a0}'..='\u{bf}' | '\u{2010}'..='\u{206f}' | '\u{20a0}'..='\u{21ff}')
            || matches!(c, '\u{2600}'..='\u{27bf}' | '\u{3000}'..='\u{303f}' | '\u{fe00}'..='\u{fe0f}')
            || matches!(c, '\u{ff00}'..='\u{ffef}' | '\u{1f000}'..='\u{1faff}')
    })
}

fn fit_alphabets<'a>(
    page: &CodePage,
    alphabets: &[Alphabet],
    parts: impl Iterator<Item = &'a [u8]>,
) -> Option<Fit> {
    // A bit for each alphabet that has all letters so far.
    let mut common = u32::MAX;
    let (mut odd, mut words) = (0, 0);
    for part in parts {
        let text: Vec<char> = page.text(part)?.chars().collect();
        let is_letter = |c: &char| c.is_ascii_alphabetic() || (!c.is_ascii() && *c != '№');
        for word in text.split(|c| !is_letter(c)).filter(|word| !word.is_empty()) {
            if word.iter().all(char::is_ascii) {
                continue;
            }
            let mask = alphabets.iter().zip(0..).filter(|(a, _)| has_letters(a, word));
            let mask = mask.fold(0u32, |mask, (_, bit)| mask | 1 << bit);
            // No word is of letters of two scripts.
            let script = page.script();
            if mask == 0 || (script != Script::Latin && word.iter().any(char::is_ascii)) {
                return None;
            }
            if !is_word(script, word) {
                // With plain letters around, a single mark decides: there the rules are strict.
                if script == Script::Latin {
                    return None;
                }
                odd += 1;
            }
            words += 1;
            common &= mask;
        }
    }
    let evidence = if common == 0 { Evidence::Mixed } else { Evidence::OneLanguage };
    Some(Fit { evidence, odd, words })
}

fn has_letters(alphabet: &Alphabet, word: &[char]) -> bool {
    word.iter().enumerate().filter(|(_, c)| !c.is_ascii()).all(|(at, &c)| {
        // Portuguese has õ in diphthongs alone.
        let alone = c == 'õ' && alphabet.letters.contains('ã') && word.get(at + 1) != Some(&'e');
        alphabet.letters.contains(lower(c)) && !alone
    })
}

fn lower(c: char) -> char {
    c.to_lowercase().next().unwrap_or(c)
}

/// Rules of a script for a word that has letters beyond ASCII.
fn is_word(script: Script, word: &[char]) -> bool {
    case_fits(script, word)
        && match script {
            Script::Latin => is_latin(word),
            Script::Cyrillic => is_cyrillic(word),
            Script::Greek => is_greek(word),
            Script::Hebrew => only_last(word, "ךםןףץ"),
            Script::Arabic => only_last(word, "ةى"),
            Script::Thai => is_thai(word),
            Script::EastAsian => true,
        }
}

/// Upper case at the beginning of a word or throughout, for letters beyond ASCII. Words without a space between them are
/// told from noise where they have no Latin letters.
fn case_fits(script: Script, word: &[char]) -> bool {
    (1..word.len()).all(|at| {
        let (before, c) = (word[at - 1], word[at]);
        if c.is_ascii_uppercase() && !before.is_ascii() {
            before.is_uppercase() || word.get(at + 1).is_some_and(|c| c.is_lowercase())
        } else if c.is_ascii() || c == 'ß' {
            true
        } else if c.is_uppercase() {
            let small = |at: Option<usize>| at.and_then(|at| word.get(at)).is_some_and(|c| c.is_lowercase());
            let begins = script != Script::Latin && small(at.checked_sub(2)) && small(Some(at + 1));
            !before.is_lowercase() || begins
        } else {
            !before.is_uppercase() || at == 1 || word[at - 2].is_lowercase()
        }
    })
}

fn is_latin(word: &[char]) -> bool {
    let marked = word.iter().filter(|c| !c.is_ascii()).count();
    let short = marked < 2 || (word.len() == 2 && word[0] == word[1]);
    let runs = word.split(char::is_ascii).all(|run| run.len() <= MOST_MARKED);
    let vowel = |c: char| "aeiouyáéíóúýąęěůűőôäöü".contains(lower(c));
    let beside_vowel = |at: usize| {
        let is_vowel = |at: Option<usize>| at.and_then(|at| word.get(at)).is_some_and(|&c| vowel(c));
        is_vowel(at.checked_sub(1)) || is_vowel(Some(at + 1))
    };
    let placed = (0..word.len()).all(|at| match lower(word[at]) {
        // Between two consonants only before k ("jabłko").
        'ł' | 'ć' | 'ľ' => at == 0 || word.get(at + 1).is_none_or(|&c| c == 'k') || beside_vowel(at),
        // The two dots part it from another vowel.
        'ï' => beside_vowel(at),
        _ => true,
    });
    (marked < word.len() || short) && runs && placed
}

fn is_cyrillic(word: &[char]) -> bool {
    let word: Vec<char> = word.iter().map(|&c| lower(c)).collect();
    let vowel = |c: &char| "аеёиоуыэюяіїє".contains(*c);
    // In Serbian and Macedonian r may be the vowel, in Bulgarian the hard sign is.
    let voiced = |c: &char| vowel(c) || "ръ".contains(*c);
    let consonants = word.split(vowel).map(<[char]>::len).max().unwrap_or(0);
    let begins = !"ьы".contains(word[0]);
    let joins = word.windows(2).all(|two| match two[1] {
        'ь' => !vowel(&two[0]) && !"ьъй".contains(two[0]),
        c => two[0] != 'й' || !"аиуыэюйьъ".contains(c),
    });
    (word.len() == 1 || word.iter().any(voiced)) && consonants <= MOST_CONSONANTS && begins && joins
}

fn is_greek(word: &[char]) -> bool {
    let upper = word.iter().all(|c| c.is_uppercase());
    let word: Vec<char> = word.iter().map(|&c| lower(c)).collect();
    let accents = word.iter().filter(|&&c| "άέήίόύώ".contains(c)).count();
    let vowels = word.iter().filter(|&&c| "αεηιουωάέήίόύώ".contains(c)).count();
    let last = word.last() != Some(&'σ') || word.len() == 1 || upper;
    accents <= 1 && (word.len() == 1 || vowels > 0) && only_last(&word, "ς") && last
}

/// True when some letters end the word, if they are in it.
fn only_last(word: &[char], letters: &str) -> bool {
    word.split_last().is_none_or(|(_, front)| !front.iter().any(|&c| letters.contains(c)))
}

/// Vowels that are written in front of a consonant or behind one, and marks above and below.
fn is_thai(word: &[char]) -> bool {
    let consonant = |c: char| ('ก'..='ฮ').contains(&c);
    let front = |c: char| ('เ'..='ไ').contains(&c);
    let mark = |c: char| matches!(c, '\u{e31}' | '\u{e33}'..='\u{e39}' | '\u{e47}'..='\u{e4c}');
    let pairs = word.windows(2).all(|two| match two[1] {
        c if mark(c) => consonant(two[0]) || mark(two[0]),
        'ะ' | 'า' => consonant(two[0]) || mark(two[0]) || two[0] == 'า',
        c => !front(two[0]) || consonant(c),
    });
    let bare = word.split(|&c| !consonant(c)).map(<[char]>::len).max().unwrap_or(0);
    pairs && consonant(word[0]) | front(word[0]) && !front(word[word.len() - 1]) && bare <= MOST_THAI
}

/// A byte of ASCII, or a character of two bytes by its second.
#[derive(Clone, Copy)]
enum Token {
    Ascii(u8),
    Wide(u8),
}

fn fit_pairs<'a>(
    page: &CodePage,
    kind: fn(u8, u8) -> Pair,
    narrow_range: Option<RangeInclusive<u8>>,
    parts: impl Iterator<Item = &'a [u8]>,
) -> Option<Fit> {
    let (mut everyday, mut rare, mut odd, mut words) = (0usize, 0usize, 0usize, 0usize);
    let mut letters = HashSet::new();
    for part in parts {
        page.text(part)?;
        let before = (everyday, rare);
        let mut tokens = Vec::with_capacity(part.len());
        let mut rest = part;
        while let [lead, after @ ..] = rest {
            rest = after;
            if lead.is_ascii() {
                tokens.push(Token::Ascii(*lead));
                continue;
            }
            let mut found = kind(0, *lead);
            let mut trail = 0;
            if found == Pair::No
                && let [second, after @ ..] = rest
            {
                (trail, rest) = (*second, after);
                found = kind(*lead, trail);
            }
            match found {
                Pair::Everyday => everyday += 1,
                Pair::Rare => rare += 1,
                Pair::Symbol => {}
                Pair::No => return None,
            }
            letters.insert((*lead, trail));
            tokens.push(Token::Wide(trail));
        }
        let ends = |token: &Token| matches!(token, Token::Ascii(byte) if !byte.is_ascii_alphabetic());
        if tokens.split(ends).any(swallows_letters) {
            return None;
        }
        words += 1;
        odd += usize::from(rare - before.1 > everyday - before.0);
    }
    let within = |range: RangeInclusive<u8>| letters.iter().all(|(lead, _)| range.contains(lead));
    let narrow = rare == 0 && letters.len() >= NARROW && narrow_range.is_some_and(within);
    let evidence = if narrow { Evidence::NarrowRange } else { Evidence::OneLanguage };
    // A code page that adds all that there is to a small one fits nearly all bytes, with rare letters.
    odd = odd.max(rare.saturating_sub(everyday / EVERYDAY).min(words));
    (everyday > 0).then_some(Fit { evidence, odd, words })
}

/// True for a word that is rather one of Latin letters of which two make a wide character each time one has a mark:
/// single wide characters between letters, or such that have a letter as their second byte.
fn swallows_letters(word: &[Token]) -> bool {
    let wide = |token: Option<&Token>| matches!(token, Some(Token::Wide(_)));
    let single = word.iter().enumerate().all(|(at, token)| match token {
        Token::Ascii(_) => true,
        Token::Wide(_) => !wide(word.get(at + 1)),
    });
    let letters = word.iter().filter(|token| matches!(token, Token::Ascii(_))).count();
    single
        && word.iter().enumerate().any(|(at, token)| {
            let Token::Wide(trail) = *token else { return false };
            let left = at.checked_sub(1).and_then(|before| word.get(before));
            let small = matches!(left, Some(Token::Ascii(byte)) if byte.is_ascii_lowercase());
            let between = left.is_some() && word.get(at + 1).is_some();
            let swallowed = trail.is_ascii_alphabetic() || trail == b'_';
            between || (swallowed && (letters >= 2 || (letters == 1 && small)))
        })
}
