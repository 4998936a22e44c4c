//! From the bytes of a table to rows of fields: which separator, which quotes, which text encoding.
//!
//! Read are comma, semicolon, tab, bar and space as separators, UTF-8 and UTF-16 with or without a byte order mark, every
//! kind of line end, quotes after RFC 4180, also with spaces around them, and the line `sep=;` that spreadsheets write.

use std::borrow::Cow;

/// Most rows of a table.
pub(super) const MAX_ROWS: usize = 1_000_000;

/// Rows that choose the separator.
const SAMPLE: usize = 100;

/// A fault of a table: where and what.
#[derive(Debug)]
pub(crate) struct Fault {
    /// From 1; `None` where no line is to blame.
    pub(crate) line: Option<u64>,
    pub(crate) what: String,
}

impl Fault {
    pub(super) fn at(line: u64, what: impl Into<String>) -> Fault {
        Fault { line: Some(line), what: what.into() }
    }

    pub(super) fn whole(what: impl Into<String>) -> Fault {
        Fault { line: None, what: what.into() }
    }
}

/// A row that is not blank.
pub(super) struct Row {
    /// Line of its first field, from 1.
    pub(super) line: u64,
    fields: csv::StringRecord,
}

impl Row {
    /// A field without spaces around it; empty behind the last one.
    pub(super) fn field(&self, column: usize) -> &str {
        self.fields.get(column).unwrap_or("").trim()
    }

    pub(super) fn len(&self) -> usize {
        self.fields.len()
    }

    pub(super) fn fields(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(str::trim)
    }
}

/// All rows of a table.
pub(super) fn rows(bytes: &[u8]) -> Result<Vec<Row>, Fault> {
    let text = decode(bytes)?;
    let (separator, text, skipped) = match declared_separator(&text) {
        Some((separator, rest)) => (separator, rest, 1),
        None => (separator_of(&text)?, text.as_ref(), 0),
    };
    let text = close_up(text, separator).map_err(|line| {
        Fault::at(
            line + skipped,
            "a quote is opened in this row and never closed; write a quote within quotes twice",
        )
    })?;
    let (mut rows, mut line, mut counted) = (Vec::new(), 1 + skipped, 0);
    for record in reader(&text, separator).records() {
        let fields = record.map_err(|_| Fault::whole("it is no table"))?;
        if fields.iter().all(|field| field.trim().is_empty()) {
            continue;
        }
        // The reader's own line is that of the blank lines in front.
        let begin = fields.position().map_or(0, csv::Position::byte) as usize;
        let blank = text.as_bytes()[begin..].iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
        line += line_ends(&text.as_bytes()[counted..begin + blank]);
        counted = begin + blank;
        if rows.len() == MAX_ROWS + 1 {
            return Err(Fault::whole(format!("more than {MAX_ROWS} rows; divide it")));
        }
        rows.push(Row { line, fields });
    }
    Ok(rows)
}

/// Ends of lines as every system writes them.
fn line_ends(bytes: &[u8]) -> u64 {
    let end =
        |(at, byte): (usize, &u8)| *byte == b'\n' || (*byte == b'\r' && bytes.get(at + 1) != Some(&b'\n'));
    bytes.iter().enumerate().filter(|pair| end(*pair)).count() as u64
}

fn reader(text: &str, separator: u8) -> csv::Reader<&[u8]> {
    csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(separator)
        .from_reader(text.as_bytes())
}

/// Text of UTF-8 or UTF-16, without a byte order mark.
fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, Fault> {
    const NO_TEXT: &str = "not UTF-8 text; save it as CSV UTF-8";
    let utf16 = match bytes {
        [0xff, 0xfe, ..] => Some(encoding_rs::UTF_16LE),
        [0xfe, 0xff, ..] => Some(encoding_rs::UTF_16BE),
        _ => None,
    };
    if let Some(encoding) = utf16 {
        let (text, broken) = encoding.decode_with_bom_removal(bytes);
        return if broken { Err(Fault::whole(NO_TEXT)) } else { Ok(text) };
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(Cow::Borrowed(text)),
        Ok(_) => Err(Fault::whole("it is no text")),
        Err(error) => {
            let line = 1 + bytes[..error.valid_up_to()].iter().filter(|&&b| b == b'\n').count() as u64;
            Err(Fault::at(line, NO_TEXT))
        }
    }
}

/// The separator of a first line `sep=;`, and the text behind that line.
fn declared_separator(text: &str) -> Option<(u8, &str)> {
    let (line, rest) = text.split_once('\n')?;
    let line = line.trim_end_matches('\r').trim_matches('"');
    match line.to_ascii_lowercase().strip_prefix("sep=")?.as_bytes() {
        &[separator @ (b',' | b';' | b'\t' | b'|')] => Some((separator, rest)),
        _ => None,
    }
}

/// The separator that cuts most rows into the same number of fields, two at least; of those that do so equally well
/// the one with more fields. A comma where nothing is separated.
fn separator_of(text: &str) -> Result<u8, Fault> {
    let mut best = (0, 0, b',');
    // A space separates only where nothing else does.
    for separator in [b',', b';', b'\t', b'|', b' '] {
        let mut lengths = Vec::new();
        for record in reader(text, separator).records().take(SAMPLE) {
            let record = record.map_err(|_| Fault::whole("it is no table"))?;
            if record.iter().any(|field| !field.trim().is_empty()) {
                lengths.push(record.len());
            }
        }
        lengths.sort_unstable();
        let runs = lengths.chunk_by(|a, b| a == b).filter(|run| run[0] >= 2);
        let Some(run) = runs.max_by_key(|run| run.len()) else { continue };
        if separator == b' ' && best.0 > 0 {
            continue;
        }
        // Rows that agree, in tenths: a few long labels do not decide.
        let agree = 10 * run.len() / lengths.len();
        if (agree, run[0]) > (best.0, best.1) {
            best = (agree, run[0], separator);
        }
    }
    Ok(best.2)
}

/// Takes the spaces between a separator and an opening quote away, since the reader takes a quote for one only at the
/// beginning of a field. The line of a quote that is never closed otherwise.
fn close_up(text: &str, separator: u8) -> Result<Cow<'_, str>, u64> {
    if !text.contains('"') {
        return Ok(Cow::Borrowed(text));
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let (mut line, mut at, mut begins) = (1, 0, true);
    while at < bytes.len() {
        if begins {
            begins = false;
            let spaces =
                bytes[at..].iter().take_while(|&&b| (b == b' ' || b == b'\t') && b != separator).count();
            if bytes.get(at + spaces) == Some(&b'"') {
                at += spaces;
                let opened = line;
                let length = quoted(&bytes[at..]).ok_or(opened)?;
                line += bytes[at..at + length].iter().filter(|&&b| b == b'\n').count() as u64;
                out.extend_from_slice(&bytes[at..at + length]);
                at += length;
                continue;
            }
        }
        let byte = bytes[at];
        begins = byte == separator || byte == b'\n' || byte == b'\r';
        line += u64::from(byte == b'\n');
        out.push(byte);
        at += 1;
    }
    Ok(Cow::Owned(String::from_utf8(out).expect("only whole ASCII characters were taken out")))
}

/// Length of a quoted field that begins here, with both quotes; two quotes are one within it.
fn quoted(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += bytes.get(at..)?.iter().position(|&b| b == b'"')? + 1;
        if bytes.get(at) != Some(&b'"') {
            return Some(at);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Vec<Vec<String>> {
        let rows = rows(text.as_bytes()).unwrap_or_else(|f| panic!("{text:?}: {f:?}"));
        rows.iter().map(|row| row.fields().map(str::to_owned).collect()).collect()
    }

    #[test]
    fn every_dialect_gives_the_same_fields() {
        let wanted = [["path", "label"], ["a b.png", "cat"], ["c.png", "dog, big"], ["d.png", "cat"]];
        let plain = "path,label\na b.png,cat\nc.png,\"dog, big\"\nd.png,cat\n";
        let dialects = [
            plain.to_owned(),
            plain.replace('\n', "\r\n"),
            plain.replace('\n', "\r"),
            format!("\u{feff}{plain}"),
            format!("\n\n{plain}\n"),
            plain.replace(",cat", ", cat").replace(",label", " ,\tlabel").replace(",\"", ", \""),
            plain.replace("\"\n", "\" \n").replace(",\"", ",  \""),
            "sep=;\r\npath;label\r\na b.png;cat\r\nc.png;dog, big\r\nd.png;cat".to_owned(),
            "path;label\na b.png;cat\nc.png;dog, big\nd.png;cat".to_owned(),
            "path\tlabel\na b.png\tcat\nc.png\tdog, big\nd.png\tcat\n".to_owned(),
            "path|label\na b.png|cat\nc.png|dog, big\nd.png|cat\n".to_owned(),
        ];
        for text in dialects {
            assert_eq!(table(&text), wanted, "{text:?}");
            let mut wide: Vec<u8> = vec![0xff, 0xfe];
            wide.extend(text.trim_start_matches('\u{feff}').encode_utf16().flat_map(u16::to_le_bytes));
            let rows = rows(&wide).unwrap();
            assert_eq!(rows.len(), 4, "{text:?}");
        }
        assert_eq!(table("a.png 0\nb.png 1\n"), [["a.png", "0"], ["b.png", "1"]]);
    }

    #[test]
    fn lines_are_those_of_the_file() {
        let rows = rows(b"sep=,\n\na,\"x\ny\"\n\nb, \"z\"\n").unwrap();
        assert_eq!(rows.iter().map(|row| row.line).collect::<Vec<_>>(), [3, 6]);
        assert_eq!(rows[0].field(1), "x\ny");
        let fault = super::rows(b"path,label\na.png,cat\nb.png,\"dog\nc.png,cat\n").err().unwrap();
        assert_eq!(fault.line, Some(3));
        let fault = super::rows(b"path,label\na.png,cat\nb.png,\xe9t\xe9\n").err().unwrap();
        assert_eq!(fault.line, Some(3));
    }

    #[test]
    fn quotes_within_quotes_and_within_fields_stay() {
        assert_eq!(table("a,\"say \"\"hi\"\"\"\nb,5\" disk\n"), [["a", "say \"hi\""], ["b", "5\" disk"]]);
    }
}
