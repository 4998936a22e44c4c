//! `decode` on every format, depth, rotation and kind of damage.

use crate::helpers::{LIMITS, bytes_of, encode, shape, words_of};
use image::{GrayImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgb, Rgb32FImage, RgbImage, Rgba, RgbaImage};
use ocelli_datasets::{DecodeError, DecodeLimits, decode, probe};

/// A picture with structure in both directions and many colours.
fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([(x * 13 % 256) as u8, (y * 29 % 256) as u8, ((x ^ y) * 7) as u8])
    })
}

#[test]
fn lossless_formats_give_the_exact_pixels() {
    let rgb = picture(19, 11);
    let gray = GrayImage::from_fn(7, 5, |x, y| Luma([(x * 30 + y) as u8]));
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Tiff] {
        let image = decode(&encode(rgb.clone(), format), &LIMITS).unwrap();
        assert_eq!((shape(&image), bytes_of(&image)), ((19, 11, 3), rgb.as_raw().as_slice()), "{format:?}");
    }
    for format in [ImageFormat::Png, ImageFormat::Tiff] {
        let image = decode(&encode(gray.clone(), format), &LIMITS).unwrap();
        assert_eq!((shape(&image), bytes_of(&image)), ((7, 5, 1), gray.as_raw().as_slice()), "{format:?}");
    }
}

#[test]
fn sixteen_bits_keep_their_precision() {
    // The 12-bit range of a medical scanner: 8 bits would leave 16 levels.
    let gray = ImageBuffer::<Luma<u16>, _>::from_fn(64, 64, |x, y| Luma([(x + 64 * y) as u16]));
    let rgb = ImageBuffer::<Rgb<u16>, _>::from_fn(9, 9, |x, y| Rgb([x as u16, 60_000 + y as u16, 65_535]));
    for format in [ImageFormat::Png, ImageFormat::Tiff] {
        let image = decode(&encode(gray.clone(), format), &LIMITS).unwrap();
        assert_eq!((shape(&image), words_of(&image)), ((64, 64, 1), gray.as_raw().as_slice()), "{format:?}");
        let image = decode(&encode(rgb.clone(), format), &LIMITS).unwrap();
        assert_eq!((shape(&image), words_of(&image)), ((9, 9, 3), rgb.as_raw().as_slice()), "{format:?}");
    }
}

#[test]
fn alpha_is_composited_on_white() {
    let rgba = RgbaImage::from_fn(256, 3, |x, y| Rgba([10, 200, [0, 128, 255][y as usize], x as u8]));
    let image = decode(&encode(rgba.clone(), ImageFormat::Png), &LIMITS).unwrap();
    assert_eq!(shape(&image), (256, 3, 3));
    for (got, from) in bytes_of(&image).chunks_exact(3).zip(rgba.pixels()) {
        let alpha = f64::from(from[3]) / 255.0;
        for c in 0..3 {
            let exact = f64::from(from[c]) * alpha + 255.0 * (1.0 - alpha);
            assert!((f64::from(got[c]) - exact).abs() <= 0.5 + 1e-9);
        }
    }

    let gray_alpha = ImageBuffer::<LumaA<u8>, _>::from_fn(2, 1, |x, _| LumaA([40, [0, 255][x as usize]]));
    let image = decode(&encode(gray_alpha, ImageFormat::Png), &LIMITS).unwrap();
    assert_eq!((shape(&image), bytes_of(&image)), ((2, 1, 1), [255, 40].as_slice()));

    let deep =
        ImageBuffer::<Rgba<u16>, _>::from_fn(2, 1, |x, _| Rgba([1, 2, 40_000, [0, 65_535][x as usize]]));
    let image = decode(&encode(deep, ImageFormat::Png), &LIMITS).unwrap();
    assert_eq!(words_of(&image), [65_535, 65_535, 65_535, 1, 2, 40_000]);
}

#[test]
fn variants_that_only_other_encoders_write() {
    // File, channels, tolerance, left half, right half.
    type Case = (&'static str, &'static [u8], u8, u8, [u8; 3], [u8; 3]);
    macro_rules! fixture {
        ($name:literal) => {
            ($name, include_bytes!(concat!("../../../testing/fixtures/", $name)).as_slice())
        };
    }
    let case = |(name, bytes): (&'static str, &'static [u8]), channels, tolerance, left, right| -> Case {
        (name, bytes, channels, tolerance, left, right)
    };
    let (red, blue) = ([220, 30, 30], [30, 30, 220]);
    let cases = [
        case(fixture!("cmyk.jpg"), 3, 4, [225, 22, 22], [22, 22, 225]),
        case(fixture!("ycck.jpg"), 3, 4, [225, 22, 22], [22, 22, 225]),
        case(fixture!("progressive.jpg"), 3, 3, red, blue),
        case(fixture!("gray.jpg"), 1, 2, [40; 3], [200; 3]),
        case(fixture!("lossy.webp"), 3, 8, red, blue),
        case(fixture!("animated.webp"), 3, 0, red, blue),
        case(fixture!("animated.gif"), 3, 2, red, blue),
        case(fixture!("palette.png"), 3, 2, red, blue),
        case(fixture!("palette-transparent.png"), 3, 2, [255; 3], blue),
        case(fixture!("one-bit.png"), 1, 0, [0; 3], [255; 3]),
        case(fixture!("lzw.tif"), 3, 0, red, blue),
        case(fixture!("palette.bmp"), 3, 2, red, blue),
    ];
    for (name, bytes, channels, tolerance, left, right) in cases {
        let image = decode(bytes, &LIMITS).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(shape(&image), (16, 8, channels), "{name}");
        let n = usize::from(channels);
        for (i, pixel) in bytes_of(&image).chunks_exact(n).enumerate() {
            // The two columns at the seam ring in lossy formats.
            let wanted = match i % 16 {
                7 | 8 if tolerance > 2 => continue,
                x if x < 8 => &left[..n],
                _ => &right[..n],
            };
            let near = pixel.iter().zip(wanted).all(|(a, b)| a.abs_diff(*b) <= tolerance);
            assert!(near, "{name}: pixel {i} is {pixel:?}, not {wanted:?}");
        }
        let header = probe(bytes, &LIMITS).unwrap();
        assert_eq!((header.width, header.height, header.channels), (16, 8, channels), "{name}");
    }
}

#[test]
fn float_images_are_taken_in_the_unit_range_only() {
    let fine = Rgb32FImage::from_fn(2, 1, |x, _| Rgb([0.0, 0.5, x as f32]));
    let image = decode(&encode(fine, ImageFormat::Tiff), &LIMITS).unwrap();
    assert_eq!(words_of(&image), [0, 32_768, 0, 0, 32_768, 65_535]);
    for bad in [f32::NAN, -0.1, 1.5, f32::INFINITY] {
        let image = Rgb32FImage::from_pixel(2, 2, Rgb([0.0, bad, 0.0]));
        let error = decode(&encode(image, ImageFormat::Tiff), &LIMITS).unwrap_err();
        assert!(matches!(error, DecodeError::FloatRange { format: "TIFF" }), "{error}");
    }
}

#[test]
fn a_cut_jpeg_is_named_as_cut_and_bytes_behind_the_end_do_not_matter() {
    let jpeg = encode(picture(33, 17), ImageFormat::Jpeg);
    let whole = decode(&jpeg, &LIMITS).unwrap();
    for length in 3..jpeg.len() {
        let error = decode(&jpeg[..length], &LIMITS).unwrap_err();
        assert!(matches!(error, DecodeError::Truncated { format: "JPEG" }), "{length}: {error}");
    }
    assert_eq!(decode(&[jpeg.as_slice(), &[0; 100], b"motion photo"].concat(), &LIMITS).unwrap(), whole);
}

/// A PNG that is all header: the size is declared, the pixels never come.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]);
    let chunk = |body: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(body);
        [&(body.len() as u32 - 4).to_be_bytes(), body, &crc.sum().to_be_bytes()].concat()
    };
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(&header), chunk(b"IDATx"), chunk(b"IEND")].concat()
}

#[test]
fn declared_sizes_are_checked_against_the_limits() {
    let limits = DecodeLimits::default();
    for (width, height) in [(60_000, 60_000), (8001, 8000), (40_000, 1), (1, 40_000)] {
        let error = decode(&png_header(width, height), &limits).unwrap_err();
        let expected =
            matches!(error, DecodeError::TooLarge { width: w, height: h, .. } if (w, h) == (width, height));
        assert!(expected, "{width}x{height}: {error}");
    }
    // The same for a JPEG whose frame header lies.
    let mut jpeg = encode(picture(8, 8), ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xff, 0xff, 0xff]);
    assert!(matches!(decode(&jpeg, &limits), Err(DecodeError::TooLarge { .. })));

    let small = DecodeLimits { max_bytes: 100, ..limits };
    let png = encode(picture(64, 64), ImageFormat::Png);
    assert!(matches!(decode(&png, &small), Err(DecodeError::TooManyBytes { limit: 100 })));
}

#[test]
fn other_files_are_told_what_they_are() {
    let cases: [(&[u8], &str); 17] = [
        (b"", "empty file"),
        (b"this is no picture, whatever it is called", "looks like text"),
        (b"<!DOCTYPE html><html>", "markup"),
        (b"%PDF-1.7", "a PDF"),
        (b"PK\x03\x04....", "a ZIP archive"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC images are not decoded; convert it to JPEG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "Most Compatible"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0", "HEIC images"),
        (b"\0\0\0\x18ftypcrx \0\0\0\0", "raw camera images are not decoded"),
        (b"8BPS\0\x01\0\0", "Photoshop images"),
        (b"P5\n8 8\n255\n", "PNM images"),
        (b"\xff\x0a\0\0", "JPEG XL images"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "AVIF images"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "a video"),
        (b"\0\0\x01\0\x01\0", "ICO images"),
        (b"\x00\x01\x02\x03\x04\x05\xff\xfe", "unknown format"),
        (&[0xff, 0xd8, 0xff], "cut off"),
    ];
    for (bytes, expected) in cases {
        let error = decode(bytes, &LIMITS).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
    }
}
