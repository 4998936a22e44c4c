//! One walk over the markers of a JPEG file (ITU-T T.81, annex B): what it is, and whether it is all there.
//!
//! The decoder fills what is missing with gray and reports success, so a photo cut off by a full disk or a broken
//! download would train as half a photo. The marker structure tells: a whole file has an EOI marker outside every
//! segment. Bytes after EOI (thumbnails, motion photos, padding) are common and harmless.

use super::super::orientation::Notes;

const TEM: u8 = 0x01;
const DHT: u8 = 0xc4;
const JPG: u8 = 0xc8;
const DAC: u8 = 0xcc;
const RST0: u8 = 0xd0;
const RST7: u8 = 0xd7;
const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const DNL: u8 = 0xdc;
const DHP: u8 = 0xde;
const APP0: u8 = 0xe0;
const APP1: u8 = 0xe1;
const APP14: u8 = 0xee;
const JPEG_LS: u8 = 0xf7;

/// The most components whose scans are looked at; a frame of more is refused for their number.
pub(super) const MAX_COMPONENTS: usize = 4;

/// A frame header (T.81, B.2.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Frame {
    /// The marker, `0xc0` for baseline.
    pub(super) kind: u8,
    /// Bits of a sample.
    pub(super) precision: u8,
    pub(super) width: u16,
    /// 0 when a DNL segment tells it.
    pub(super) height: u16,
    /// Where in the file the height stands.
    pub(super) height_at: usize,
    /// How many components there are.
    pub(super) count: usize,
    /// The first of them.
    pub(super) components: [Component; MAX_COMPONENTS],
}

/// A component of a frame.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Component {
    pub(super) id: u8,
    /// Horizontal and vertical sampling factor.
    pub(super) sampling: (u8, u8),
}

/// Where the number of lines stands that the frame header left open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Lines {
    /// The segment, its marker included.
    pub(super) at: usize,
    pub(super) height: u16,
}

/// What the markers of a JPEG file say.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Markers {
    /// The markers lead from SOI through at least one scan to EOI.
    pub(super) complete: bool,
    /// The first frame header.
    pub(super) frame: Option<Frame>,
    /// There are several frames that build on one another.
    pub(super) hierarchical: bool,
    /// How many scans there are.
    pub(super) scans: usize,
    /// Each scan has all components of the frame.
    pub(super) interleaved: bool,
    /// The components, one bit each, that have a scan of their own.
    pub(super) alone: u8,
    /// A scan uses a Huffman table that was not defined before it.
    pub(super) lacks_tables: bool,
    /// There is a JFIF segment.
    pub(super) jfif: bool,
    /// The colour transform of Adobe's segment.
    pub(super) adobe: Option<u8>,
    pub(super) lines: Option<Lines>,
    /// The notes of EXIF and XMP.
    pub(super) notes: Notes,
}

/// Walks the markers of a file that begins with SOI, to its EOI.
pub(super) fn markers(bytes: &[u8]) -> Markers {
    walk(bytes, false)
}

/// Walks to the first scan, and further only if that is where the height stands.
pub(super) fn headers(bytes: &[u8]) -> Markers {
    walk(bytes, true)
}

fn walk(bytes: &[u8], headers_only: bool) -> Markers {
    let mut found = Markers { interleaved: true, ..Markers::default() };
    // One bit for each table: `1 << destination` for DC, `16 << destination` for AC.
    let mut tables = 0;
    let mut at = 2;
    // Between segments: a marker, perhaps after fill bytes, perhaps after junk that decoders skip as well.
    while let Some(marker) = next_marker(bytes, &mut at) {
        match marker {
            EOI => {
                found.complete = found.scans > 0;
                break;
            }
            SOI | TEM | RST0..=RST7 => continue,
            _ => {}
        }
        let Some(length) = bytes.get(at..at + 2) else { break };
        let length = usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
        // As far as the file goes.
        let segment = &bytes[at + 2..bytes.len().min(at + length).max(at + 2)];
        match marker {
            SOS => {
                if headers_only && found.frame.is_none_or(|frame| frame.height > 0) {
                    found.scans += 1;
                    break;
                }
                found.scan(segment, tables);
            }
            DHT => tables |= defined(segment),
            APP0 => found.jfif |= segment.starts_with(b"JFIF\0"),
            APP1 if found.scans == 0 => found.note(segment),
            APP14 if segment.starts_with(b"Adobe") => found.adobe = segment.get(11).copied().or(found.adobe),
            DNL if found.lines.is_none() && found.scans == 1 && segment.len() == 2 => {
                let height = u16::from_be_bytes([segment[0], segment[1]]);
                found.lines = Some(Lines { at: at - 2, height });
                if headers_only {
                    break;
                }
            }
            DHP => found.hierarchical = true,
            JPG | DAC => {}
            0xc0..=0xcf | JPEG_LS => match found.frame {
                None => found.frame = frame(marker, segment, at + 2),
                Some(_) => found.hierarchical = true,
            },
            _ => {}
        }
        at += length;
    }
    found
}

impl Markers {
    /// The height that the frame header or DNL says.
    pub(super) fn height(&self) -> u16 {
        match (self.frame, self.lines) {
            (Some(Frame { height: 0, .. }), Some(lines)) => lines.height,
            (Some(frame), _) => frame.height,
            (None, _) => 0,
        }
    }

    fn note(&mut self, segment: &[u8]) {
        if segment.starts_with(b"Exif\0") {
            self.notes.exif(segment);
        } else if let Some(packet) = segment.strip_prefix(b"http://ns.adobe.com/xap/1.0/\0") {
            self.notes.xmp(packet);
        }
    }

    /// A scan header: a count, then for each component its name and its tables.
    fn scan(&mut self, segment: &[u8], tables: u8) {
        self.scans += 1;
        let Some(frame) = self.frame else { return };
        let Some((&count, rest)) = segment.split_first() else { return };
        self.interleaved &= usize::from(count) == frame.count;
        if count == 1 {
            let parts = &frame.components[..frame.count.min(MAX_COMPONENTS)];
            let at = parts.iter().position(|part| rest.first() == Some(&part.id));
            self.alone |= at.map_or(0, |at| 1 << at);
        }
        for part in rest.chunks_exact(2).take(usize::from(count)) {
            let (dc, ac) = (part[1] >> 4, part[1] & 15);
            let used = 1_u32.unbounded_shl(dc.into()) | 16_u32.unbounded_shl(ac.into());
            self.lacks_tables |= used & !u32::from(tables) != 0;
        }
    }
}

/// The tables that a DHT segment defines: class and destination, 16 counts, as many symbols.
fn defined(mut segment: &[u8]) -> u8 {
    let mut tables = 0;
    while let Some((head, rest)) = segment.split_at_checked(17) {
        tables |= 1_u8.unbounded_shl((head[0] >> 4 & 1) as u32 * 4 + u32::from(head[0] & 15));
        let symbols: usize = head[1..].iter().map(|&n| usize::from(n)).sum();
        segment = rest.get(symbols..).unwrap_or_default();
    }
    tables
}

fn frame(kind: u8, segment: &[u8], at: usize) -> Option<Frame> {
    let (head, rest) = segment.split_at_checked(6)?;
    if rest.len() < 3 * usize::from(head[5]) {
        return None;
    }
    let mut components = [Component::default(); MAX_COMPONENTS];
    for (component, part) in components.iter_mut().zip(rest.chunks_exact(3)) {
        *component = Component { id: part[0], sampling: (part[1] >> 4, part[1] & 15) };
    }
    Some(Frame {
        kind,
        precision: head[0],
        height: u16::from_be_bytes([head[1], head[2]]),
        width: u16::from_be_bytes([head[3], head[4]]),
        height_at: at + 1,
        count: head[5].into(),
        components,
    })
}

/// The next marker code from `at` on, which is left behind it. Stuffed zeros (`FF 00`) belong to the scan's data.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        *at += bytes.get(*at..)?.iter().position(|&b| b == 0xff)?;
        while bytes.get(*at) == Some(&0xff) {
            *at += 1;
        }
        let code = *bytes.get(*at)?;
        *at += 1;
        if code != 0 {
            return Some(code);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Lines, headers, markers};

    fn is_complete(bytes: &[u8]) -> bool {
        markers(bytes).complete
    }

    #[test]
    fn the_end_marker_counts_only_outside_segments() {
        let whole: &[u8] = &[
            0xff, 0xd8, // SOI
            0xff, 0xe1, 0x00, 0x06, 0xff, 0xd8, 0xff, 0xd9, // APP1 holding a thumbnail's SOI and EOI
            0xff, 0xda, 0x00, 0x02, // SOS
            0x12, 0xff, 0x00, 0x34, 0xff, 0xd0, 0x56, // data with a stuffed zero and a restart marker
            0xff, 0xff, 0xd9, // fill byte, EOI
        ];
        assert!(is_complete(whole));
        for length in 0..whole.len() {
            assert!(!is_complete(&whole[..length]), "{length}");
        }
        assert!(is_complete(&[whole, b"trailing"].concat()));
        assert!(!is_complete(&[0xff, 0xd8, 0xff, 0xd9]), "no scan");
    }

    /// A file of a frame header of one component, what comes behind it, a scan and its end.
    fn file(height: u8, between: &[u8], behind: &[u8]) -> Vec<u8> {
        let frame = [0xff, 0xc0, 0, 11, 8, 0, height, 0, 9, 1, 1, 0x11, 0];
        let scan = [0xff, 0xda, 0, 8, 1, 1, 0x10, 0, 63, 0, 0x55];
        [&[0xff, 0xd8], &frame[..], between, &scan, behind, &[0xff, 0xd9]].concat()
    }

    #[test]
    fn tables_that_a_scan_uses_must_stand_before_it() {
        // DC table 1 and AC table 0, each of one symbol.
        let table = |head: u8| [&[head, 1], &[0; 15][..], &[0]].concat();
        let segment = |tables: &[u8]| [&[0xff, 0xc4, 0, tables.len() as u8 + 2], tables].concat();
        let both = segment(&[table(0x01), table(0x10)].concat());
        assert!(!markers(&file(8, &both, &[])).lacks_tables);
        assert!(markers(&file(8, &[], &both)).lacks_tables);
        assert!(markers(&file(8, &segment(&table(0x01)), &[])).lacks_tables);
        assert!(markers(&file(8, &segment(&table(0x10)), &[])).lacks_tables);
    }

    #[test]
    fn a_height_behind_the_first_scan_is_found() {
        let open = file(0, &[], &[0xff, 0xdc, 0, 4, 0, 7]);
        for found in [markers(&open), headers(&open)] {
            assert_eq!((found.height(), found.lines), (7, Some(Lines { at: open.len() - 8, height: 7 })));
        }
        assert_eq!(markers(&file(5, &[], &[])).height(), 5);
        assert_eq!(markers(&file(0, &[], &[])).height(), 0);
    }
}
