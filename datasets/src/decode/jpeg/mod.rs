//! JPEG (ITU-T T.81): which decoder is right for a file.
//!
//! Two decoders are at hand. The first is fast and takes what nearly every file is. It is wrong, mostly without a
//! word, for sequential files that are not interleaved, for most sampling factors beyond 1 and 2, and for some colour
//! spaces; the second takes those. What neither decodes is refused by its name. Which is which was found by a sweep
//! over all of them (`tests/all/jpegs.rs`).
//!
//! The second one differs from libjpeg in one thing: chroma that is subsampled by anything but 2 is repeated, not
//! interpolated, as in libjpeg, and by 2 interpolated with the same weights, so both agree within rounding.

mod markers;
mod second;
#[cfg(test)]
mod tests;

use super::decoded::{DecodeLimits, Decoded, Header, Pixels, check_size};
use super::library;
use super::pixels::with_values;
use super::sniff::Format;
use crate::error::DecodeError;
use markers::{Component, Frame, Markers};
use std::borrow::Cow;

use second::NAME;
pub(super) use second::{Colour, Values};

/// More scans than any encoder writes. Each one passes over all pixels, so thousands of empty ones would take minutes.
const MAX_SCANS: usize = 500;

pub(super) fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<Decoded, DecodeError> {
    let found = markers::markers(bytes);
    // Cut before its frame header, a file is cut, whatever else it may be.
    if found.frame.is_some() || found.complete {
        supported(&found, limits)?;
    }
    if !found.complete {
        return Err(DecodeError::Truncated { format: NAME });
    }
    let frame = found.frame.ok_or(DecodeError::Corrupt { format: NAME })?;
    let bytes = mended(bytes, &found, &frame);
    let colour = colour(&found, &frame);
    let image = if suits_the_first(&found, &frame, colour) {
        library::decode(&bytes, Format::Jpeg, limits)?
    } else {
        let Values { width, height, channels, values } = second::decode(&bytes, colour, limits)?.into_rgb();
        with_values(width, height, channels, Pixels::U8(values))
            .ok_or(DecodeError::Corrupt { format: NAME })?
    };
    Ok(Decoded { image, orientation: found.notes.orientation() })
}

pub(super) fn header(bytes: &[u8], limits: &DecodeLimits) -> Result<Header, DecodeError> {
    let found = markers::headers(bytes);
    let frame = match found.frame {
        Some(frame) => frame,
        None if found.scans > 0 => return Err(DecodeError::Corrupt { format: NAME }),
        None => return Err(DecodeError::Truncated { format: NAME }),
    };
    supported(&found, limits)?;
    let channels = if frame.count == 1 { 1 } else { 3 };
    let (width, height) = (frame.width.into(), found.height().into());
    Ok(Header { width, height, channels, orientation: found.notes.orientation() })
}

/// A part of a TIFF, of `components` that mean `colour` and of at most `most` pixels across and down.
pub(super) fn decode_part(
    bytes: &[u8],
    (components, colour): (usize, Colour),
    most: (u32, u32),
    limits: &DecodeLimits,
) -> Result<Values, DecodeError> {
    let found = markers::markers(bytes);
    supported(&found, limits)?;
    if !found.complete {
        return Err(DecodeError::Truncated { format: NAME });
    }
    let fits = |frame: &Frame| {
        frame.count == components && u32::from(frame.width) <= most.0 && u32::from(frame.height) <= most.1
    };
    if !found.frame.as_ref().is_some_and(fits) {
        return Err(DecodeError::Corrupt { format: NAME });
    }
    let mut part = second::decode(bytes, colour, limits)?;
    if colour == Colour::Cmyk {
        // JPEG files have inks inverted, TIFF files have them as they are.
        part.values.iter_mut().for_each(|value| *value = 255 - *value);
    }
    Ok(part)
}

/// Refuses what no decoder here decodes, by its name.
fn supported(found: &Markers, limits: &DecodeLimits) -> Result<(), DecodeError> {
    let frame = found.frame.ok_or(DecodeError::Corrupt { format: NAME })?;
    let refuse = |variant: Cow<'static, str>| Err(DecodeError::Unsupported { format: NAME, variant });
    let variant = match (frame.kind, frame.precision) {
        (0xc9..=0xcb | 0xcd..=0xcf, _) => "with arithmetic coding",
        (0xf7, _) => "with JPEG-LS coding (lossless)",
        (0xc3, _) => "with lossless coding",
        (0xc5..=0xc7, _) => "with hierarchical coding",
        (_, 8) if found.hierarchical => "with hierarchical coding",
        (_, 12) => "of 12-bit samples",
        (_, 8) => "",
        _ => return Err(DecodeError::Corrupt { format: NAME }),
    };
    if !variant.is_empty() {
        return refuse(variant.into());
    }
    let height = found.height();
    if height == 0 {
        return match found.complete {
            true => refuse("without its height (in the frame header or a DNL segment)".into()),
            false => Err(DecodeError::Truncated { format: NAME }),
        };
    }
    check_size(frame.width.into(), height.into(), Format::Jpeg, limits)?;
    if !matches!(frame.count, 1 | 3 | 4) {
        return refuse(format!("of {} colour components", frame.count).into());
    }
    let parts = &frame.components[..frame.count];
    if parts.iter().any(|c| !(1..=4).contains(&c.sampling.0) || !(1..=4).contains(&c.sampling.1)) {
        return Err(DecodeError::Corrupt { format: NAME });
    }
    let most = largest(&frame);
    let factors = || {
        let each: Vec<_> = parts.iter().map(|c| format!("{}x{}", c.sampling.0, c.sampling.1)).collect();
        each.join(", ")
    };
    let whole = |c: &Component| most.0.is_multiple_of(c.sampling.0) && most.1.is_multiple_of(c.sampling.1);
    if !parts.iter().all(whole) {
        return refuse(format!("with sampling factors of {}", factors()).into());
    }
    let lone = parts.iter().enumerate().filter(|(i, _)| found.alone >> i & 1 == 1);
    for (_, part) in lone {
        let misread =
            |size: u16, factor, most| second::misreads(size.into(), u32::from(factor), u32::from(most));
        if misread(frame.width, part.sampling.0, most.0) || misread(height, part.sampling.1, most.1) {
            return refuse(format!("with sampling factors of {} in separate scans", factors()).into());
        }
    }
    if found.scans > MAX_SCANS {
        return refuse(format!("of more than {MAX_SCANS} scans").into());
    }
    Ok(())
}

/// The largest sampling factors.
fn largest(frame: &Frame) -> (u8, u8) {
    let parts = frame.components[..frame.count.min(markers::MAX_COMPONENTS)].iter();
    parts.fold((1, 1), |most, c| (most.0.max(c.sampling.0), most.1.max(c.sampling.1)))
}

/// What the components mean: JFIF goes before Adobe's segment, which goes before their names, as in libjpeg.
fn colour(found: &Markers, frame: &Frame) -> Colour {
    match (frame.count, found.adobe) {
        (1, _) => Colour::Gray,
        (3, _) if found.jfif => Colour::YCbCr,
        (3, Some(0)) => Colour::Rgb,
        (3, None) if is_named_rgb(frame) => Colour::Rgb,
        (3, _) => Colour::YCbCr,
        // Inks are stored inverted, with Adobe's segment and without.
        (_, None | Some(0)) => Colour::Cmyk,
        _ => Colour::Ycck,
    }
}

fn is_named_rgb(frame: &Frame) -> bool {
    [0, 1, 2].map(|i: usize| frame.components[i].id) == *b"RGB"
}

/// What the first decoder gets right.
fn suits_the_first(found: &Markers, frame: &Frame, colour: Colour) -> bool {
    let parts = &frame.components[..frame.count];
    let progressive = frame.kind == 0xc2;
    let same_colour = match colour {
        Colour::Gray => true,
        // Components of these names are RGB to it, whatever else the file says.
        Colour::YCbCr => matches!(found.adobe, None | Some(1)) && !is_named_rgb(frame),
        Colour::Rgb => found.adobe == Some(0),
        Colour::Cmyk => true,
        Colour::Ycck => found.adobe == Some(2),
    };
    let usual_sampling = matches!(parts[0].sampling, (1 | 2, 1 | 2))
        && parts[1..].iter().take(2).all(|c| c.sampling == (1, 1))
        && parts.get(3).is_none_or(|c| c.sampling == parts[0].sampling);
    same_colour && usual_sampling && (progressive || found.interleaved)
}

/// The file with the height where decoders look for it, and with the standard's Huffman tables where frames of a
/// video leave them out because everybody has them.
fn mended<'a>(bytes: &'a [u8], found: &Markers, frame: &Frame) -> Cow<'a, [u8]> {
    let mut file = Cow::Borrowed(bytes);
    if let Some(lines) = found.lines {
        let file = file.to_mut();
        if frame.height == 0 {
            file[frame.height_at..][..2].copy_from_slice(&lines.height.to_be_bytes());
        }
        // Marker, length, height.
        file.drain(lines.at..lines.at + 6);
    }
    let progressive = frame.kind == 0xc2;
    if found.lacks_tables && !progressive {
        // In front of all other segments: tables of the file's own replace them.
        file.to_mut().splice(2..2, standard_tables());
    }
    file
}

/// A DHT segment with the tables of T.81, K.3.3.
fn standard_tables() -> Vec<u8> {
    const DC: [(u8, [u8; 16]); 2] = [
        (0x00, [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]),
        (0x01, [0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0]),
    ];
    const AC: [(u8, [u8; 16], &str); 2] = [
        (0x10, [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7d], AC_LUMA),
        (0x11, [0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77], AC_CHROMA),
    ];
    let mut body = Vec::new();
    for (class, counts) in DC {
        body.push(class);
        body.extend(counts);
        body.extend(0..12);
    }
    for (class, counts, symbols) in AC {
        body.push(class);
        body.extend(counts);
        let digits: Vec<u32> = symbols.chars().filter_map(|c| c.to_digit(16)).collect();
        body.extend(digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8));
    }
    let length = (body.len() + 2) as u16;
    [&[0xff, 0xc4], &length.to_be_bytes()[..], &body].concat()
}

/// Symbols of table K.5, in hexadecimal.
const AC_LUMA: &str = "\
    01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a25262728292a3435363738393a\
    434445464748494a535455565758595a636465666768696a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9\
    aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9fa";
/// Symbols of table K.6.
const AC_CHROMA: &str = "\
    000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a162434e125f11718191a262728292a3536373839\
    3a434445464748494a535455565758595a636465666768696a737475767778797a82838485868788898a92939495969798999aa2a3a4a5a6a7\
    a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9fa";
