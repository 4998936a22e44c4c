//! All eight orientations, in every note and container that people's files have.

use crate::helpers::{LIMITS, bytes_of, decoded};
use image::metadata::Orientation;
use image::{DynamicImage, ImageFormat, RgbImage};
use ocelli_datasets::probe;
use ocelli_testing::exif::{Kind, block, block_at, jpeg_with_exif, jpeg_with_xmp, xmp};
use ocelli_testing::jpeg::with_segment;
use ocelli_testing::tiff::Tiff;
use ocelli_testing::{encode, png, webp};

const WIDTH: u32 = 20;
const HEIGHT: u32 = 12;

/// A picture that no turn leaves as it is.
fn upright() -> RgbImage {
    RgbImage::from_fn(WIDTH, HEIGHT, |x, y| {
        image::Rgb([(x * 12) as u8, (y * 20) as u8, if x < 6 && y < 4 { 250 } else { 10 }])
    })
}

/// The pixels that `orientation` turns into the picture, by the words of TIFF 6.0 on tag 274: where row 0 and column 0
/// of what is stored lie in the picture.
fn stored(orientation: u32) -> RgbImage {
    let picture = upright();
    let (w, h) = (WIDTH, HEIGHT);
    let (width, height) = if orientation > 4 { (h, w) } else { (w, h) };
    RgbImage::from_fn(width, height, |column, row| {
        let (x, y) = match orientation {
            1 => (column, row),
            2 => (w - 1 - column, row),
            3 => (w - 1 - column, h - 1 - row),
            4 => (column, h - 1 - row),
            5 => (row, column),
            6 => (w - 1 - row, column),
            7 => (w - 1 - row, h - 1 - column),
            _ => (row, h - 1 - column),
        };
        *picture.get_pixel(x, y)
    })
}

/// The file must be the picture, exactly or within what JPEG loses, and its header must say the same size.
fn check(what: &str, bytes: &[u8], orientation: u32, tolerance: u8) {
    let image = decoded(bytes);
    let about = format!("{what}, orientation {orientation}");
    assert_eq!((image.width, image.height), (WIDTH, HEIGHT), "{about}");
    let apart = bytes_of(&image).iter().zip(upright().as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    assert!(apart <= tolerance, "{about}: {apart} levels");
    let header = probe(bytes, &LIMITS).unwrap();
    assert_eq!((header.width, header.height), (WIDTH, HEIGHT), "{about}");
}

/// A JPEG of the best quality, whose chroma is whole.
fn jpeg(picture: RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 100).encode_image(&picture).unwrap();
    bytes
}

#[test]
fn the_library_turns_as_the_specification_says() {
    for orientation in 1..=8 {
        let mut image = DynamicImage::from(stored(orientation));
        image.apply_orientation(Orientation::from_exif(orientation as u8).unwrap());
        assert_eq!(image.to_rgb8(), upright(), "{orientation}");
    }
}

#[test]
fn exif_of_every_type_and_byte_order_turns_a_jpeg() {
    for orientation in 1..=8 {
        let file = jpeg(stored(orientation));
        for kind in Kind::ALL {
            for big_endian in [false, true] {
                let bytes = jpeg_with_exif(&file, &block(orientation, kind, big_endian));
                check(&format!("{kind:?}, big endian {big_endian}"), &bytes, orientation, 40);
            }
        }
        let far = jpeg_with_exif(&file, &block_at(20_001, orientation, Kind::Short, true));
        check("a directory far behind", &far, orientation, 40);
        let silent = b"II*\0\x08\0\0\0\0\0\0\0\0\0".as_slice();
        let second = jpeg_with_exif(&jpeg_with_exif(&file, &block(orientation, Kind::Short, false)), silent);
        check("the second EXIF segment", &second, orientation, 40);
        let behind =
            jpeg_with_xmp(&jpeg_with_exif(&file, &block(orientation, Kind::Long, true)), &xmp(3, false));
        check("EXIF behind an XMP that says otherwise", &behind, orientation, 40);
    }
}

#[test]
fn xmp_turns_where_exif_is_silent() {
    for orientation in 1..=8 {
        for as_element in [false, true] {
            let packet = xmp(orientation, as_element);
            let file = jpeg(stored(orientation));
            check("XMP in JPEG", &jpeg_with_xmp(&file, &packet), orientation, 40);
            let silent = b"II*\0\x08\0\0\0\0\0\0\0\0\0".as_slice();
            check(
                "beside a silent EXIF",
                &jpeg_with_exif(&jpeg_with_xmp(&file, &packet), silent),
                orientation,
                40,
            );

            let simple = encode(stored(orientation), ImageFormat::Png);
            let text = [b"XML:com.adobe.xmp\0\0\0\0\0".as_slice(), &packet].concat();
            check(
                "XMP in PNG",
                &png::with_chunks(&simple, &png::chunk(b"iTXt", &text), false),
                orientation,
                0,
            );
            let packed = [b"XML:com.adobe.xmp\0\x01\0\0\0".as_slice(), &png::stored(&packet)].concat();
            check("packed", &png::with_chunks(&simple, &png::chunk(b"iTXt", &packed), true), orientation, 0);

            let size = stored(orientation).dimensions();
            let simple = encode(stored(orientation), ImageFormat::WebP);
            let chunk = webp::chunk(b"XMP ", &packet);
            check("XMP in WebP", &webp::extended(&simple, size, 4, &chunk), orientation, 0);

            let values: Vec<u32> = packet.iter().map(|&b| b.into()).collect();
            let file =
                Tiff::new(size.0, size.1, &[8; 3], 2, stored(orientation).into_raw()).with(700, 1, &values);
            check("XMP in TIFF", &file.bytes(), orientation, 0);
        }
    }
}

#[test]
fn png_webp_and_tiff_are_turned() {
    for orientation in 1..=8 {
        let size = stored(orientation).dimensions();
        for big_endian in [false, true] {
            let note = block(orientation, Kind::Short, big_endian);
            let simple = encode(stored(orientation), ImageFormat::Png);
            for behind in [false, true] {
                let bytes = png::with_chunks(&simple, &png::chunk(b"eXIf", &note), behind);
                check(&format!("PNG, behind its pixels {behind}"), &bytes, orientation, 0);
            }
            for (kind, name) in [(b"tEXt", "exif"), (b"tEXt", "APP1"), (b"zTXt", "exif"), (b"zTXt", "APP1")] {
                let text = png::raw_profile(name, &[b"Exif\0\0".as_slice(), &note].concat());
                let text =
                    if kind == b"zTXt" { [&[0], png::stored(&text).as_slice()].concat() } else { text };
                let body = [format!("Raw profile type {name}\0").as_bytes(), &text].concat();
                let bytes = png::with_chunks(&simple, &png::chunk(kind, &body), false);
                check(&format!("PNG, profile {name}"), &bytes, orientation, 0);
            }
            let simple = encode(stored(orientation), ImageFormat::WebP);
            for prefix in [b"".as_slice(), b"Exif\0\0"] {
                for flags in [8, 0] {
                    let chunk = webp::chunk(b"EXIF", &[prefix, &note].concat());
                    let bytes = webp::extended(&simple, size, flags, &chunk);
                    check(
                        &format!("WebP, {} bytes of prefix, flags {flags}", prefix.len()),
                        &bytes,
                        orientation,
                        0,
                    );
                }
            }
            for kind in Kind::ALL {
                let mut file = Tiff::new(size.0, size.1, &[8; 3], 2, stored(orientation).into_raw());
                file.big_endian = big_endian;
                let bytes = file.with(274, kind as u16, &[orientation]).bytes();
                check(&format!("TIFF, {kind:?}"), &bytes, orientation, 0);
            }
        }
    }
}

#[test]
fn what_is_no_orientation_turns_nothing() {
    let file = jpeg(upright());
    let plain = decoded(&file);
    for value in [0, 9, 255, 65_535] {
        for kind in [Kind::Short, Kind::Long] {
            assert_eq!(decoded(&jpeg_with_exif(&file, &block(value, kind, true))), plain, "{value}");
        }
    }
    // The second directory is the thumbnail's.
    let mut two = block(1, Kind::Short, false);
    let first = two.len() - 4;
    let second = first as u32 + 4;
    two[first..].copy_from_slice(&second.to_le_bytes());
    two.extend(&block(6, Kind::Short, false)[8..]);
    assert_eq!(decoded(&jpeg_with_exif(&file, &two)), plain);
    // Another segment that only begins alike, and damage at every byte.
    assert_eq!(decoded(&with_segment(&file, 0xe1, b"EXIF is what this is not")), plain);
    let note = block(6, Kind::Short, true);
    for at in 0..note.len() {
        let mut damaged = note.clone();
        damaged[at] = 0xee;
        let image = decoded(&jpeg_with_exif(&file, &damaged));
        assert_eq!(image.pixels.len(), plain.pixels.len());
        let cut = decoded(&jpeg_with_exif(&file, &note[..at]));
        assert_eq!(cut.pixels.len(), plain.pixels.len());
    }
}
