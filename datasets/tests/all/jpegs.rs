//! JPEG files of webcams, cameras, print shops and old encoders. The sweep over samplings is beside the decoder.

use crate::helpers::{LIMITS, bytes_of, decoded, reason, shape};
use image::{ExtendedColorType, ImageFormat};
use ocelli_datasets::{decode, probe};
use ocelli_testing::jpeg::{Jpeg, Part, Process, with_segment, without_segments};
use ocelli_testing::{encode, picture};

fn gray() -> Jpeg {
    Jpeg::new(16, 16, vec![Part { id: 1, h: 1, v: 1, level: |x, y| (60 + 50 * x + 70 * y) as u8 }])
}

fn colour(samplings: [(u32, u32); 3]) -> Jpeg {
    let levels: [fn(u32, u32) -> u8; 3] =
        [|x, _| (70 + x * 20) as u8, |_, y| (100 + y * 9) as u8, |x, y| (120 + x + y) as u8];
    let parts = samplings.iter().zip(levels).zip(1..);
    Jpeg::new(50, 40, parts.map(|((&(h, v), level), id)| Part { id, h, v, level }).collect())
}

#[test]
fn frames_of_a_webcam_have_the_standard_tables() {
    let file = encode(picture(1, 40, 24), ImageFormat::Jpeg);
    let whole = decoded(&file);
    let bare = without_segments(&file, 0xc4);
    assert!(bare.len() < file.len());
    assert_eq!(decoded(&bare), whole);
    let without_jfif = without_segments(&bare, 0xe0);
    assert_eq!(decoded(&without_jfif), whole);
    assert_eq!(decoded(&with_segment(&without_jfif, 0xe0, b"AVI1\0\0\0\0\0\0\0\0\0\0")), whole);
    assert_eq!(probe(&bare, &LIMITS).unwrap().width, 40);
}

#[test]
fn what_is_not_decoded_has_its_name() {
    let as_frame = |frame, precision| Jpeg { frame, precision, ..gray() }.bytes();
    let cases = [
        (as_frame(0xc9, 8), "arithmetic"),
        (as_frame(0xca, 8), "arithmetic"),
        (as_frame(0xc1, 12), "12-bit"),
        (as_frame(0xc2, 12), "12-bit"),
        (as_frame(0xc3, 8), "lossless"),
        (as_frame(0xc3, 16), "lossless"),
        (as_frame(0xc5, 8), "hierarchical"),
        (as_frame(0xf7, 8), "JPEG-LS"),
        (with_segment(&gray().bytes(), 0xde, &[8, 0, 16, 0, 16, 1, 1, 0x11, 0]), "hierarchical"),
        (colour([(3, 1), (2, 1), (1, 1)]).bytes(), "sampling factors of 3x1, 2x1, 1x1"),
    ];
    for (file, name) in cases {
        let reason = reason(&file);
        assert!(reason.contains(name) && reason.contains("not decoded"), "{reason:?} lacks {name:?}");
        assert_eq!(probe(&file, &LIMITS).unwrap_err().to_string(), reason);
        // A file that is cut behind its header is still what it is.
        let cut = decode(&file[..file.len() - 2], &LIMITS).unwrap_err().to_string();
        assert!(cut.contains(name), "{cut}");
    }
    let mut two = colour([(1, 1); 3]);
    two.parts.pop();
    two.scans = vec![vec![0, 1]];
    assert!(reason(&two.bytes()).contains("2 colour components"));
    let mut five = colour([(1, 1); 3]);
    (4..6).for_each(|id| five.parts.push(Part { id, h: 1, v: 1, level: |_, _| 9 }));
    assert!(reason(&five.bytes()).contains("5 colour components"));
}

#[test]
fn a_height_must_stand_somewhere() {
    let told = Jpeg { dnl: true, ..gray() }.bytes();
    assert_eq!(decoded(&told), decoded(&gray().bytes()));
    let at = told.windows(4).position(|w| w == [0xff, 0xdc, 0, 4]).unwrap();
    let never = [&told[..at], &told[at + 6..]].concat();
    assert!(reason(&never).contains("without its height"));
    for length in 2..told.len() {
        assert!(decode(&told[..length], &LIMITS).is_err(), "{length}");
    }
}

#[test]
fn scans_without_end_are_refused() {
    let one = Jpeg { process: Process::Progressive, ..gray() }.bytes();
    let scan = one.windows(2).position(|w| w == [0xff, 0xda]).unwrap();
    let many = [&one[..scan], &one[scan..one.len() - 2].repeat(300), &[0xff, 0xd9]].concat();
    assert!(reason(&many).contains("more than 500 scans"));
}

#[test]
fn the_first_of_several_images_counts() {
    let first = encode(picture(2, 24, 16), ImageFormat::Jpeg);
    let whole = decoded(&first);
    let second = encode(picture(3, 64, 64), ImageFormat::Jpeg);
    assert_eq!(decoded(&[first.as_slice(), &second].concat()), whole);
    // A thumbnail in a segment has its own start, end and frame header.
    assert_eq!(decoded(&with_segment(&first, 0xe1, &[b"Exif\0\0".as_slice(), &second].concat())), whole);
    assert_eq!(decoded(&with_segment(&first, 0xe2, &[b"MPF\0".as_slice(), &second].concat())), whole);
    let header = probe(&with_segment(&first, 0xed, &second), &LIMITS).unwrap();
    assert_eq!((header.width, header.height), (24, 16));
}

#[test]
fn headers_agree_with_pixels_for_every_kind() {
    let mut files =
        vec![gray().bytes(), colour([(1, 1); 3]).bytes(), colour([(2, 2), (1, 1), (1, 1)]).bytes()];
    files.push(colour([(3, 1), (1, 1), (1, 1)]).bytes());
    files.push(Jpeg { scans: vec![vec![0], vec![1], vec![2]], ..colour([(2, 2), (1, 1), (1, 1)]) }.bytes());
    files.push(Jpeg { dnl: true, ..colour([(1, 1); 3]) }.bytes());
    files.push(include_bytes!("../../../testing/fixtures/ycck.jpg").to_vec());
    files.push(include_bytes!("../../../testing/fixtures/gray.jpg").to_vec());
    for file in files {
        let (image, header) = (decoded(&file), probe(&file, &LIMITS).unwrap());
        assert_eq!((header.width, header.height, header.channels), shape(&image));
    }
}

#[test]
fn jpeg_inside_of_tiff_is_decoded_tile_by_tile() {
    use ocelli_testing::tiff::Tiff;
    let tile = |seed: u32| {
        let mut bytes = Vec::new();
        let picture = picture(seed, 16, 16);
        let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 95);
        image::ImageEncoder::write_image(encoder, picture.as_raw(), 16, 16, ExtendedColorType::Rgb8).unwrap();
        bytes
    };
    let tiles: Vec<Vec<u8>> = (0..4).map(tile).collect();
    let file = Tiff::new(30, 20, &[8; 3], 6, Vec::new()).tiles((16, 16), tiles.clone()).with(259, 3, &[7]);
    let image = decoded(&file.bytes());
    assert_eq!(shape(&image), (30, 20, 3));
    for (i, pixel) in bytes_of(&image).chunks_exact(3).enumerate() {
        let (x, y) = (i % 30, i / 30);
        let there = decoded(&tiles[y / 16 * 2 + x / 16]);
        let want = &bytes_of(&there)[3 * (y % 16 * 16 + x % 16)..][..3];
        assert!(pixel.iter().zip(want).all(|(a, b)| a.abs_diff(*b) <= 3), "{x},{y}: {pixel:?} {want:?}");
    }
    // Tables that all tiles share, and a tile that is larger than it may be.
    let split = |file: &[u8]| {
        let tables: Vec<u8> = [0xdb, 0xc4].iter().flat_map(|&m| segments(file, m)).collect();
        (tables, without_segments(&without_segments(file, 0xc4), 0xdb))
    };
    let (tables, _) = split(&tiles[0]);
    let tables: Vec<u32> =
        [&[0xff, 0xd8], tables.as_slice(), &[0xff, 0xd9]].concat().iter().map(|&b| b.into()).collect();
    let bare = tiles.iter().map(|tile| split(tile).1).collect();
    let shared = Tiff::new(30, 20, &[8; 3], 6, Vec::new())
        .tiles((16, 16), bare)
        .with(259, 3, &[7])
        .with(347, 7, &tables);
    assert_eq!(decoded(&shared.bytes()), image);
    let large = vec![encode(picture(1, 64, 64), ImageFormat::Jpeg); 4];
    let file = Tiff::new(30, 20, &[8; 3], 6, Vec::new()).tiles((16, 16), large).with(259, 3, &[7]);
    assert!(reason(&file.bytes()).contains("damaged"));
}

/// All segments of a marker in front of the scan.
fn segments(file: &[u8], marker: u8) -> Vec<u8> {
    let (mut out, mut at) = (Vec::new(), 2);
    while file[at + 1] != 0xda {
        let end = at + 2 + usize::from(u16::from_be_bytes([file[at + 2], file[at + 3]]));
        if file[at + 1] == marker {
            out.extend(&file[at..end]);
        }
        at = end;
    }
    out
}
