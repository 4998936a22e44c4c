//! Code pages in which archives have names that are not UTF-8, with the letters that people write in each.
//!
//! What is here are the code pages that Windows has for DOS programs (its Explorer, and most archivers, write names in
//! that of the user's country), its own ones (older tools), and those of East Asia. No archive says which it is.

use encoding_rs::{
    BIG5, EUC_JP, EUC_KR, Encoding, GBK, IBM866, KOI8_U, SHIFT_JIS, WINDOWS_874, WINDOWS_1250, WINDOWS_1251,
    WINDOWS_1252, WINDOWS_1253, WINDOWS_1254, WINDOWS_1255, WINDOWS_1256, WINDOWS_1257,
};
use std::ops::RangeInclusive;

/// A code page.
pub(super) struct CodePage {
    /// As messages call it.
    pub(super) name: &'static str,
    bytes: Bytes,
    pub(super) letters: Letters,
}

/// What bytes stand for; those below 128 are ASCII in all code pages.
enum Bytes {
    /// Characters 128 to 255.
    Table(&'static str),
    Encoding(&'static Encoding),
}

/// What words of a code page are made of.
pub(super) enum Letters {
    /// One byte a letter: the alphabets of the languages that are written in it.
    Alphabets(&'static [Alphabet]),
    /// Two bytes a letter, and the first bytes of a small alphabet if that is what it has.
    Pairs(fn(u8, u8) -> Pair, Option<RangeInclusive<u8>>),
}

/// The letters of a language besides a to z, in lower case.
pub(super) struct Alphabet {
    pub(super) script: Script,
    pub(super) letters: &'static str,
}

/// The rules by which words of an alphabet are told from noise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Script {
    Latin,
    Cyrillic,
    Greek,
    Hebrew,
    Arabic,
    Thai,
    /// Chinese characters, kana and hangul; see [`Letters::Pairs`].
    EastAsian,
}

/// What a pair of bytes stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pair {
    /// A letter of everyday words.
    Everyday,
    /// A letter that words have now and then.
    Rare,
    /// Punctuation, and digits and letters of full width.
    Symbol,
    /// Nothing that is in names.
    No,
}

impl CodePage {
    /// The text of some bytes, if all of them stand for a character.
    pub(super) fn text(&self, raw: &[u8]) -> Option<String> {
        match self.bytes {
            Bytes::Table(table) => {
                let text: String = raw.iter().map(|&byte| of_table(table, byte)).collect();
                (!text.contains('\u{fffd}')).then_some(text)
            }
            Bytes::Encoding(encoding) => {
                encoding.decode_without_bom_handling_and_without_replacement(raw).map(Into::into)
            }
        }
    }

    /// The bytes of a text, if all of its characters are in this code page.
    #[cfg(test)]
    pub(super) fn bytes_of(&self, text: &str) -> Option<Vec<u8>> {
        match self.bytes {
            Bytes::Table(table) => {
                let byte = |c: char| (0..=255u8).find(|&byte| of_table(table, byte) == c);
                text.chars().map(byte).collect()
            }
            Bytes::Encoding(encoding) => {
                let (bytes, _, unmappable) = encoding.encode(text);
                (!unmappable).then(|| bytes.into_owned())
            }
        }
    }

    pub(super) fn script(&self) -> Script {
        match self.letters {
            Letters::Alphabets(alphabets) => alphabets[0].script,
            Letters::Pairs(..) => Script::EastAsian,
        }
    }
}

fn of_table(table: &str, byte: u8) -> char {
    if byte < 128 {
        return char::from(byte);
    }
    table.chars().nth(usize::from(byte) - 128).expect("tables have 128 characters")
}

/// A name as APPNOTE has it where nothing else is known. All bytes are characters of it, and no two names become one.
pub(super) fn appnote(raw: &[u8]) -> String {
    raw.iter().map(|&byte| of_table(CP437, byte)).collect()
}

const fn page(name: &'static str, bytes: Bytes, letters: Letters) -> CodePage {
    CodePage { name, bytes, letters }
}

/// All of them, the usual ones first: where several give the same text, the first is named.
pub(super) static CODE_PAGES: [CodePage; 25] = {
    use Bytes::{Encoding as Known, Table};
    use Letters::{Alphabets, Pairs};
    [
        page("CP437", Table(CP437), Alphabets(WESTERN)),
        page("CP850", Table(CP850), Alphabets(WESTERN)),
        page("CP852", Table(CP852), Alphabets(CENTRAL)),
        page("CP866", Known(IBM866), Alphabets(CYRILLIC)),
        page("Shift_JIS", Known(SHIFT_JIS), Pairs(shift_jis, None)),
        page("GBK", Known(GBK), Pairs(gbk, None)),
        page("EUC-KR", Known(EUC_KR), Pairs(euc_kr, Some(0xb0..=0xc8))),
        page("Big5", Known(BIG5), Pairs(big5, None)),
        page("CP857", Table(CP857), Alphabets(TURKISH)),
        page("CP775", Table(CP775), Alphabets(BALTIC)),
        page("CP855", Table(CP855), Alphabets(CYRILLIC)),
        page("CP737", Table(CP737), Alphabets(GREEK)),
        page("CP862", Table(CP862), Alphabets(HEBREW)),
        page("CP720", Table(CP720), Alphabets(ARABIC)),
        page("windows-1252", Known(WINDOWS_1252), Alphabets(WESTERN)),
        page("windows-1250", Known(WINDOWS_1250), Alphabets(CENTRAL)),
        page("windows-1251", Known(WINDOWS_1251), Alphabets(CYRILLIC)),
        page("windows-1253", Known(WINDOWS_1253), Alphabets(GREEK)),
        page("windows-1254", Known(WINDOWS_1254), Alphabets(TURKISH)),
        page("windows-1255", Known(WINDOWS_1255), Alphabets(HEBREW)),
        page("windows-1256", Known(WINDOWS_1256), Alphabets(ARABIC)),
        page("windows-1257", Known(WINDOWS_1257), Alphabets(BALTIC)),
        page("windows-874", Known(WINDOWS_874), Alphabets(THAI)),
        page("EUC-JP", Known(EUC_JP), Pairs(euc_jp, None)),
        page("KOI8-U", Known(KOI8_U), Alphabets(CYRILLIC)),
    ]
};

const fn of(script: Script, letters: &'static str) -> Alphabet {
    Alphabet { script, letters }
}

/// German; French; Spanish; Portuguese; Italian; Swedish, Finnish, Danish and Norwegian; Icelandic; Catalan; Dutch.
const WESTERN: &[Alphabet] = &[
    of(Script::Latin, "äöüß"),
    of(Script::Latin, "àâæçéèêëîïôùûüÿœ"),
    of(Script::Latin, "áéíóúüñ"),
    of(Script::Latin, "áâãàçéêíóôõúü"),
    of(Script::Latin, "àèéìòù"),
    of(Script::Latin, "åäöæøéü"),
    of(Script::Latin, "áðéíóúýþæö"),
    of(Script::Latin, "àçèéíïòóúü"),
    of(Script::Latin, "áéëïíóöü"),
];

/// Polish; Czech; Slovak; Hungarian; Romanian; Croatian, Bosnian and Slovene; German; Albanian.
const CENTRAL: &[Alphabet] = &[
    of(Script::Latin, "ąćęłńóśźż"),
    of(Script::Latin, "áčďéěíňóřšťúůýž"),
    of(Script::Latin, "áäčďéíĺľňóôŕšťúýž"),
    of(Script::Latin, "áéíóöőúüű"),
    of(Script::Latin, "âăîşţ"),
    of(Script::Latin, "čćđšž"),
    of(Script::Latin, "äöüß"),
    of(Script::Latin, "çë"),
];

const TURKISH: &[Alphabet] = &[of(Script::Latin, "çğıöşüâîûi")];

/// Estonian; Latvian; Lithuanian.
const BALTIC: &[Alphabet] =
    &[of(Script::Latin, "äöõüšž"), of(Script::Latin, "āčēģīķļņšūž"), of(Script::Latin, "ąčęėįšųūž")];

/// Russian; Ukrainian; Belarusian; Bulgarian; Serbian; Macedonian.
const CYRILLIC: &[Alphabet] = &[
    of(Script::Cyrillic, "абвгдеёжзийклмнопрстуфхцчшщъыьэюя№"),
    of(Script::Cyrillic, "абвгґдеєжзиіїйклмнопрстуфхцчшщьюя№"),
    of(Script::Cyrillic, "абвгдеёжзійклмнопрстуўфхцчшыьэюя№"),
    of(Script::Cyrillic, "абвгдежзийклмнопрстуфхцчшщъьюя№"),
    of(Script::Cyrillic, "абвгдђежзијклљмнњопрстћуфхцчџш№"),
    of(Script::Cyrillic, "абвгдѓежзѕијклљмнњопрстќуфхцчџш№"),
];

const GREEK: &[Alphabet] = &[of(Script::Greek, "αβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώ")];

const HEBREW: &[Alphabet] = &[of(Script::Hebrew, "אבגדהוזחטיךכלםמןנסעףפץצקרשת")];

const ARABIC: &[Alphabet] = &[of(Script::Arabic, "ءآأؤإئابةتثجحخدذرزسشصضطظعغفقكلمنهوىي")];

const THAI: &[Alphabet] = &[of(
    Script::Thai,
    "กขฃคฅฆงจฉชซฌญฎฏฐฑฒณดตถทธนบปผฝพฟภมยรฤลฦวศษสหฬอฮะ\u{e31}า\u{e33}\u{e34}\u{e35}\u{e36}\u{e37}\u{e38}\u{e39}\
     เแโใไ\u{e47}\u{e48}\u{e49}\u{e4a}\u{e4b}\u{e4c}",
)];

/// JIS X 0208 in Shift_JIS: kana and kanji of level 1; level 2 and the kanji of IBM; half-width kana come as `(0, kana)`.
fn shift_jis(lead: u8, trail: u8) -> Pair {
    match (lead, trail) {
        (0, 0xa6..=0xdf) => Pair::Rare,
        // The long vowel mark and the sign of repetition are written as parts of words.
        (0x81, 0x58 | 0x5b) => Pair::Everyday,
        (0x81, 0x40..=0xac) | (0x82, 0x4f..=0x58 | 0x60..=0x79 | 0x81..=0x9a) => Pair::Symbol,
        (0x82, 0x9f..=0xf1) | (0x83, 0x40..=0x96) => Pair::Everyday,
        (0x88, 0x9f..=0xfc) | (0x89..=0x97, _) | (0x98, 0x40..=0x72) => Pair::Everyday,
        (0x98, 0x9f..=0xfc) | (0x99..=0x9f | 0xe0..=0xea | 0xfa..=0xfc, _) => Pair::Rare,
        _ => Pair::No,
    }
}

/// GB 2312: characters of level 1; level 2 and those that GBK adds.
fn gbk(lead: u8, trail: u8) -> Pair {
    match (lead, trail) {
        (0xa1 | 0xa3, 0xa1..=0xfe) => Pair::Symbol,
        (0xb0..=0xd7, 0xa1..=0xfe) => Pair::Everyday,
        (0xd8..=0xf7, 0xa1..=0xfe) | (0x81..=0xa0, 0x40..=0xfe) | (0xaa..=0xfe, 0x40..=0xa0) => Pair::Rare,
        _ => Pair::No,
    }
}

/// Big5: characters of level 1; of level 2.
fn big5(lead: u8, trail: u8) -> Pair {
    match (lead, trail) {
        (0xa1..=0xa2, _) | (0xa3, 0x40..=0xbf) => Pair::Symbol,
        (0xa4..=0xc5, _) | (0xc6, 0x40..=0x7e) => Pair::Everyday,
        (0xc9..=0xf9, _) => Pair::Rare,
        _ => Pair::No,
    }
}

/// KS X 1001: hangul; the syllables that code page 949 adds, and hanja.
fn euc_kr(lead: u8, trail: u8) -> Pair {
    match (lead, trail) {
        (0xa1 | 0xa3, 0xa1..=0xfe) => Pair::Symbol,
        (0xb0..=0xc8, 0xa1..=0xfe) => Pair::Everyday,
        (0xca..=0xfd, 0xa1..=0xfe) | (0x81..=0xc6, 0x41..=0xa0) | (0x81..=0xa0, _) => Pair::Rare,
        _ => Pair::No,
    }
}

/// JIS X 0208 in EUC: kana, half-width ones too, and kanji of level 1; level 2 and the kanji of IBM.
fn euc_jp(lead: u8, trail: u8) -> Pair {
    match (lead, trail) {
        (0xa1, 0xb8 | 0xbc) => Pair::Everyday,
        (0xa1 | 0xa3, _) => Pair::Symbol,
        (0xa4 | 0xa5 | 0xb0..=0xcf | 0x8e, _) => Pair::Everyday,
        (0xd0..=0xf4 | 0xf9..=0xfc, _) => Pair::Rare,
        _ => Pair::No,
    }
}

/// DOS in the United States, and what APPNOTE (appendix D) says of names without the UTF-8 flag.
const CP437: &str = concat!(
    "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐",
    "└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}",
);

/// Western Europe.
const CP850: &str = concat!(
    "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜø£Ø×ƒáíóúñÑªº¿®¬½¼¡«»░▒▓│┤ÁÂÀ©╣║╗╝¢¥┐",
    "└┴┬├─┼ãÃ╚╔╩╦╠═╬¤ðÐÊËÈıÍÎÏ┘┌█▄¦Ì▀ÓßÔÒõÕµþÞÚÛÙýÝ¯´\u{ad}±‗¾¶§÷¸°¨·¹³²■\u{a0}",
);

/// Central Europe.
const CP852: &str = concat!(
    "ÇüéâäůćçłëŐőîŹÄĆÉĹĺôöĽľŚśÖÜŤťŁ×čáíóúĄąŽžĘę¬źČş«»░▒▓│┤ÁÂĚŞ╣║╗╝Żż┐",
    "└┴┬├─┼Ăă╚╔╩╦╠═╬¤đĐĎËďŇÍÎě┘┌█▄ŢŮ▀ÓßÔŃńňŠšŔÚŕŰýÝţ´\u{ad}˝˛ˇ˘§÷¸°¨˙űŘř■\u{a0}",
);

/// Turkish.
const CP857: &str = concat!(
    "ÇüéâäàåçêëèïîıÄÅÉæÆôöòûùİÖÜø£ØŞşáíóúñÑĞğ¿®¬½¼¡«»░▒▓│┤ÁÂÀ©╣║╗╝¢¥┐",
    "└┴┬├─┼ãÃ╚╔╩╦╠═╬¤ºªÊËÈ\u{fffd}ÍÎÏ┘┌█▄¦Ì▀ÓßÔÒõÕµ\u{fffd}×ÚÛÙìÿ¯´\u{ad}±\u{fffd}¾¶§÷¸°¨·¹³²■\u{a0}",
);

/// Baltic.
const CP775: &str = concat!(
    "ĆüéāäģåćłēŖŗīŹÄÅÉæÆōöĢ¢ŚśÖÜø£Ø×¤ĀĪóŻżź”¦©®¬½¼Ł«»░▒▓│┤ĄČĘĖ╣║╗╝ĮŠ┐",
    "└┴┬├─┼ŲŪ╚╔╩╦╠═╬Žąčęėįšųūž┘┌█▄▌▐▀ÓßŌŃõÕµńĶķĻļņĒŅ’\u{ad}±“¾¶§÷„°∙·¹³²■\u{a0}",
);

/// Greek.
const CP737: &str = concat!(
    "ΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩαβγδεζηθικλμνξοπρσςτυφχψ░▒▓│┤╡╢╖╕╣║╗╝╜╛┐",
    "└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀ωάέήϊίόύϋώΆΈΉΊΌΎΏ±≥≤ΪΫ÷≈°∙·√ⁿ²■\u{a0}",
);

/// Hebrew.
const CP862: &str = concat!(
    "אבגדהוזחטיךכלםמןנסעףפץצקרשת¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐",
    "└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}",
);

/// Cyrillic of Serbia, Bulgaria and Macedonia.
const CP855: &str = concat!(
    "ђЂѓЃёЁєЄѕЅіІїЇјЈљЉњЊћЋќЌўЎџЏюЮъЪаАбБцЦдДеЕфФгГ«»░▒▓│┤хХиИ╣║╗╝йЙ┐",
    "└┴┬├─┼кК╚╔╩╦╠═╬¤лЛмМнНоОп┘┌█▄Пя▀ЯрРсСтТуУжЖвВьЬ№\u{ad}ыЫзЗшШэЭщЩчЧ§■\u{a0}",
);

/// Arabic.
const CP720: &str = concat!(
    "éâàçêëèïîّْô¤ـûùءآأؤ£إئابةتثجحخدذرزسشص«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐",
    "└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀ضطظعغفµقكلمنهوىي≡ًٌٍَُِ≈°∙·√ⁿ²■\u{a0}",
);
