//! Whether a JPEG file is all there.
//!
//! The decoder fills what is missing with gray and reports success, so a photo cut off by a full disk or a broken
//! download would train as half a photo. The marker structure (ITU-T T.81, annex B) tells: a whole file has an EOI
//! marker outside every segment. Bytes after EOI (thumbnails, motion photos, padding) are common and harmless.

const TEM: u8 = 0x01;
const RST0: u8 = 0xd0;
const RST7: u8 = 0xd7;
const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const APP1: u8 = 0xe1;

/// What the markers of a JPEG file say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Markers {
    /// The markers lead from SOI through at least one scan to EOI.
    pub(crate) complete: bool,
    /// There is an EXIF segment.
    pub(crate) exif: bool,
}

/// Walks the markers of a file that begins with SOI.
pub(crate) fn markers(bytes: &[u8]) -> Markers {
    let mut found = Markers { complete: false, exif: false };
    let mut at = 2;
    let mut scans = 0;
    // Between segments: a marker, perhaps after fill bytes, perhaps after junk that decoders skip as well.
    while let Some(marker) = next_marker(bytes, &mut at) {
        match marker {
            EOI => {
                found.complete = scans > 0;
                break;
            }
            SOI | TEM | RST0..=RST7 => {}
            _ => {
                let Some(length) = bytes.get(at..at + 2) else { break };
                found.exif |= marker == APP1 && bytes[at + 2..].starts_with(b"Exif");
                at += usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
                scans += usize::from(marker == SOS);
            }
        }
    }
    found
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
    use super::markers;

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

    #[test]
    fn exif_is_seen_in_its_segment_only() {
        let file = |segment: &[u8]| {
            let length = (segment.len() as u16 + 2).to_be_bytes();
            [&[0xff, 0xd8, 0xff, 0xe1], &length[..], segment, &[0xff, 0xda, 0, 2], b"Exif", &[0xff, 0xd9]]
                .concat()
        };
        assert!(markers(&file(b"Exif\0\0II")).exif);
        assert!(!markers(&file(b"http://ns.adobe.com/xap/1.0/ Exif")).exif);
        assert!(!markers(b"\xff\xd8\xff\xe1").exif);
    }
}
