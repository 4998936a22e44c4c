//! PNG and GIF, WebP and BMP in the variants that encoders at hand do not write.

use crate::helpers::{LIMITS, bytes_of, decoded, reason, shape};
use image::{ImageFormat, Rgb, RgbImage};
use ocelli_datasets::{DecodeError, decode, probe};
use ocelli_testing::bmp::Bmp;
use ocelli_testing::png::{chunk, png, with_chunks, with_small_chunks};
use ocelli_testing::{encode, picture, webp};

#[test]
fn a_png_without_its_end_is_whole_when_its_pixels_are() {
    let file = encode(picture(1, 40, 30), ImageFormat::Png);
    let whole = decoded(&file);
    // Within IEND, in front of it, and with something behind the pixels that is cut.
    for missing in 1..=12 {
        assert_eq!(decoded(&file[..file.len() - missing]), whole, "{missing} bytes are missing");
    }
    let body = &file[..file.len() - 12];
    assert_eq!(decoded(&[body, &chunk(b"tEXt", b"Comment\0cut")[..15]].concat()), whole);
    assert_eq!(decoded(&[body, &[0; 40]].concat()), whole);
    assert_eq!(decoded(&[file.as_slice(), b"trailing"].concat()), whole);
}

#[test]
fn a_png_that_stops_in_its_pixels_is_cut() {
    let file = with_small_chunks(&encode(picture(2, 60, 60), ImageFormat::Png), 50);
    let whole = decoded(&file);
    for length in 8..file.len() - 12 {
        match decode(&file[..length], &LIMITS) {
            // All pixels are there before the stream's checksum is.
            Ok(image) => assert!(image == whole && length > file.len() - 80, "{length} of {}", file.len()),
            Err(e) => assert!(matches!(e, DecodeError::Truncated { format: "PNG" }), "{length}: {e}"),
        }
    }
}

#[test]
fn checksums_count_where_pixels_depend_on_them() {
    let file = encode(picture(3, 16, 16), ImageFormat::Png);
    let mut text = chunk(b"tEXt", b"Comment\0made by hand");
    *text.last_mut().unwrap() ^= 0xff;
    assert_eq!(decoded(&with_chunks(&file, &text, false)), decoded(&file));
    let mut damaged = file.clone();
    let end_of_pixels = file.len() - 13;
    damaged[end_of_pixels] ^= 0xff;
    assert!(reason(&damaged).contains("damaged"));
}

#[test]
fn a_note_in_a_png_is_unpacked_within_a_limit() {
    // 3 MB of spaces in front of the orientation, where 1 MB is looked at.
    let packet = [vec![b' '; 3 << 20], b" tiff:Orientation=\"6\" ".to_vec()].concat();
    let text = [b"XML:com.adobe.xmp\0\x01\0\0\0".as_slice(), &ocelli_testing::png::stored(&packet)].concat();
    let limits = ocelli_datasets::DecodeLimits { max_bytes: 8 << 20, ..LIMITS };
    let file = with_chunks(&encode(picture(4, 9, 5), ImageFormat::Png), &chunk(b"iTXt", &text), false);
    let image = decode(&file, &limits).unwrap();
    assert_eq!((image.width, image.height), (9, 5));
}

#[test]
fn clear_levels_and_colours_of_a_png_become_white() {
    let gray = png(3, 1, [8, 0, 0], &chunk(b"tRNS", &[0, 7]), &[0, 6, 7, 8]);
    assert_eq!(bytes_of(&decoded(&gray)), [6, 255, 8]);
    let two_bits = png(4, 1, [2, 0, 0], &chunk(b"tRNS", &[0, 2]), &[0, 0b00_01_10_11]);
    assert_eq!(bytes_of(&decoded(&two_bits)), [0, 85, 255, 255]);
    let rgb = png(2, 1, [8, 2, 0], &chunk(b"tRNS", &[0, 1, 0, 2, 0, 3]), &[0, 1, 2, 3, 1, 2, 4]);
    assert_eq!(bytes_of(&decoded(&rgb)), [255, 255, 255, 1, 2, 4]);
    for file in [&gray, &two_bits, &rgb] {
        let (image, header) = (decoded(file), probe(file, &LIMITS).unwrap());
        assert_eq!((header.width, header.height, header.channels), shape(&image));
    }
}

/// Blue, green, red and a fourth byte of each pixel, from the bottom row up.
fn bgra(picture: &RgbImage, alpha: impl Fn(u32, u32) -> u8) -> Vec<u8> {
    let (width, height) = picture.dimensions();
    let pixel = |x: u32, y: u32| {
        let Rgb([r, g, b]) = *picture.get_pixel(x, y);
        [b, g, r, alpha(x, y)]
    };
    (0..height).rev().flat_map(|y| (0..width).flat_map(move |x| pixel(x, y))).collect()
}

const MASKS: [u32; 4] = [0xff_0000, 0xff00, 0xff, 0xff00_0000];

fn bmp32(header: u32, compression: u32, masks: &[u32], pixels: &[u8]) -> Vec<u8> {
    Bmp { width: 8, height: 6, header, bits: 32, compression, masks, palette: &[] }.bytes(pixels)
}

#[test]
fn alpha_of_a_bmp_counts_when_it_is_in_use() {
    let picture = picture(5, 8, 6);
    let half = |_: u32, y: u32| if y < 3 { 255 } else { 0 };
    let colours = picture.as_raw().as_slice();
    let half_white = [&colours[..72], &[255; 72]].concat();
    for (header, compression) in [(56, 3), (108, 3), (124, 3), (40, 6)] {
        let file = |pixels: &[u8]| bmp32(header, compression, &MASKS, pixels);
        // Zero everywhere is a fill byte.
        assert_eq!(bytes_of(&decoded(&file(&bgra(&picture, |_, _| 0)))), colours, "{header}");
        assert_eq!(bytes_of(&decoded(&file(&bgra(&picture, |_, _| 255)))), colours, "{header}");
        assert_eq!(bytes_of(&decoded(&file(&bgra(&picture, half)))), half_white, "{header}");
    }
    for header in [40, 52, 56, 108, 124] {
        // Without bit fields, or with a mask of zero, there is no alpha.
        assert_eq!(bytes_of(&decoded(&bmp32(header, 0, &[], &bgra(&picture, half)))), colours, "{header}");
        let masks = if header > 52 { &[0xff_0000, 0xff00, 0xff, 0][..] } else { &MASKS[..3] };
        assert_eq!(bytes_of(&decoded(&bmp32(header, 3, masks, &bgra(&picture, half)))), colours, "{header}");
    }
}

#[test]
fn bmp_headers_of_os2_are_read() {
    let palette = [[10, 20, 30], [250, 40, 50], [1, 2, 200], [90, 90, 90]];
    let rows = [0b0001_0000_u8, 0, 0, 0, 0b0010_0011, 0, 0, 0];
    // From the bottom: the second row of the file is the first of the picture.
    let expected = [1, 2, 200, 90, 90, 90, 250, 40, 50, 10, 20, 30].map(|v: u8| v);
    for header in [12, 16, 20, 24, 36, 40, 64] {
        let file =
            Bmp { width: 2, height: 2, header, bits: 4, compression: 0, masks: &[], palette: &palette };
        // A header without the count of colours has all of them.
        let filled: Vec<[u8; 3]> = palette.into_iter().chain([[0; 3]; 12]).collect();
        let full = Bmp { palette: &filled, ..file };
        let image = decoded(&full.bytes(&rows));
        let got = bytes_of(&image);
        let swapped: Vec<u8> = expected.chunks(3).flat_map(|p| [p[2], p[1], p[0]]).collect();
        assert_eq!(got, swapped, "header of {header} bytes");
    }
    for (compression, name) in [(3, "Huffman"), (4, "24-bit run lengths")] {
        let file = Bmp { width: 2, height: 2, header: 64, bits: 24, compression, masks: &[], palette: &[] };
        assert!(reason(&file.bytes(&[0; 16])).contains(name));
    }
    for (compression, name) in [(4, "holds a JPEG"), (5, "holds a PNG"), (11, "CMYK")] {
        let file = Bmp { width: 2, height: 2, header: 40, bits: 24, compression, masks: &[], palette: &[] };
        assert!(reason(&file.bytes(&[0; 16])).contains(name));
    }
}

#[test]
fn bmp_of_16_bits_and_from_the_top() {
    let words = [0x7c00_u16, 0x03e0, 0x001f, 0x7fff];
    let rows: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    let (red, green, blue, white) = ([255, 0, 0], [0, 255, 0], [0, 0, 255], [255; 3]);
    for (height, expected) in [(2, [blue, white, red, green]), (-2, [red, green, blue, white])] {
        for (compression, masks) in [(0, &[][..]), (3, &[0x7c00, 0x3e0, 0x1f][..])] {
            let file = Bmp { width: 2, height, header: 40, bits: 16, compression, masks, palette: &[] };
            assert_eq!(bytes_of(&decoded(&file.bytes(&rows))), expected.concat(), "{height} {compression}");
        }
    }
    let words = [0xf800_u16, 0x07e0, 0x001f, 0xffff];
    let rows: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    let masks = &[0xf800, 0x7e0, 0x1f];
    let file = Bmp { width: 2, height: -2, header: 40, bits: 16, compression: 3, masks, palette: &[] };
    assert_eq!(bytes_of(&decoded(&file.bytes(&rows))), [red, green, blue, white].concat());
}

#[test]
fn a_gif_frame_lies_on_a_white_canvas() {
    let file = encode(picture(6, 10, 8), ImageFormat::Gif);
    let plain = decoded(&file);
    let mut larger = file.clone();
    larger[6..10].copy_from_slice(&[16, 0, 12, 0]);
    let frame = larger.windows(9).position(|w| w == [0x2c, 0, 0, 0, 0, 10, 0, 8, 0]).unwrap();
    larger[frame + 1..frame + 5].copy_from_slice(&[3, 0, 2, 0]);
    let image = decoded(&larger);
    assert_eq!(shape(&image), (16, 12, 3));
    for (i, pixel) in bytes_of(&image).chunks_exact(3).enumerate() {
        let (x, y) = (i % 16, i / 16);
        let expected = match (3..13).contains(&x) && (2..10).contains(&y) {
            true => &bytes_of(&plain)[3 * ((y - 2) * 10 + x - 3)..][..3],
            false => &[255; 3],
        };
        assert_eq!(pixel, expected, "at {x},{y}");
    }
}

#[test]
fn a_webp_may_lack_its_last_padding_byte() {
    let simple = encode(picture(7, 9, 7), ImageFormat::WebP);
    let file = webp::extended(&simple, (9, 7), 0, &webp::chunk(b"XMP ", b"odd"));
    let whole = decoded(&file);
    assert_eq!(decoded(&file[..file.len() - 1]), whole);
    assert!(reason(&file[..file.len() - 2]).contains("cut off"));
    let mut longer = file.clone();
    longer[4] += 1;
    assert_eq!(decoded(&longer), whole);
}
