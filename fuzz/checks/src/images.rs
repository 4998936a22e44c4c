//! Image files, a kind of input for each format.

use image::ImageFormat;
use ocelli_datasets::{Fit, Pixels, Prepare, Preprocessing, decode, file_format, probe};
use ocelli_testing::bmp::Bmp;
use ocelli_testing::exif::{Kind, block, jpeg_with_exif, jpeg_with_xmp, xmp};
use ocelli_testing::jpeg::{Jpeg, Part, Process};
use ocelli_testing::tiff::Tiff;
use ocelli_testing::{encode, picture, png, webp};

use crate::archives::LIMITS;
use crate::says_something;

pub(crate) fn check(data: &[u8], extension: &str) {
    // Other formats have a kind of their own.
    if file_format(data).is_none_or(|format| format.extension != extension) {
        return;
    }
    let header = probe(data, &LIMITS);
    let image = match decode(data, &LIMITS) {
        Ok(image) => image,
        Err(error) => return says_something(&error),
    };
    let header = header.expect("the header of an image that can be decoded");
    let shape = (image.width, image.height, image.channels);
    assert_eq!((header.width, header.height, header.channels), shape, "the header says another shape");
    assert!(
        u64::from(image.width) * u64::from(image.height) <= LIMITS.max_pixels,
        "an image beyond the limit"
    );
    let values = image.width as usize * image.height as usize * usize::from(image.channels);
    let held = match &image.pixels {
        Pixels::U8(values) => values.len(),
        Pixels::U16(values) => values.len(),
    };
    assert_eq!(held, values, "an image holds its pixels");
    for fit in [Fit::Stretch, Fit::Crop, Fit::Pad] {
        let preprocessing = Preprocessing::new(5, 4, 3, fit);
        match preprocessing.resize(&image) {
            Ok(prepared) => {
                let mut input = vec![f32::NAN; preprocessing.len()];
                preprocessing.normalize(&prepared, &mut input);
                assert!(input.iter().all(|x| x.is_finite()), "{fit:?} gives a value that is no number");
            }
            Err(error) => says_something(&error),
        }
    }
}

fn drawn(samplings: &[(u32, u32)]) -> Jpeg {
    let levels: [fn(u32, u32) -> u8; 4] =
        [|x, y| (x * 40 + y) as u8, |_, y| (y * 30) as u8, |x, _| (x * 9) as u8, |_, _| 200];
    let parts = samplings.iter().zip(levels).zip(1..);
    Jpeg::new(20, 12, parts.map(|((&(h, v), level), id)| Part { id, h, v, level }).collect())
}

pub(crate) fn jpeg() -> Vec<Vec<u8>> {
    let alone = || vec![vec![0], vec![1], vec![2]];
    let subsampled = [(2, 2), (1, 1), (1, 1)];
    let gray = drawn(&[(1, 1)]).bytes();
    let note = block(6, Kind::Long, true);
    vec![
        encode(picture(1, 9, 7), ImageFormat::Jpeg),
        Jpeg { scans: alone(), restart: 3, ..drawn(&subsampled) }.bytes(),
        drawn(&[(3, 1), (1, 1), (1, 1)]).bytes(),
        Jpeg { process: Process::Refined, scans: alone(), ..drawn(&subsampled) }.bytes(),
        Jpeg { adobe: Some(2), ..drawn(&[(2, 2), (1, 1), (1, 1), (1, 1)]) }.bytes(),
        Jpeg { dnl: true, ..drawn(&[(1, 1)]) }.bytes(),
        jpeg_with_exif(&gray, &note),
        jpeg_with_xmp(&gray, &xmp(6, true)),
    ]
}

pub(crate) fn png() -> Vec<Vec<u8>> {
    let simple = encode(picture(2, 9, 7), ImageFormat::Png);
    let note = block(6, Kind::Long, true);
    let text =
        [b"Raw profile type exif\0\0".as_slice(), &png::stored(&png::raw_profile("exif", &note))].concat();
    let chunks = [png::chunk(b"zTXt", &text), png::chunk(b"eXIf", &note)].concat();
    let noted = png::with_chunks(&simple, &chunks, false);
    vec![png::with_small_chunks(&simple, 20), simple, noted]
}

pub(crate) fn webp() -> Vec<Vec<u8>> {
    let simple = encode(picture(3, 9, 7), ImageFormat::WebP);
    let note = block(6, Kind::Long, true);
    let noted = webp::extended(&simple, (9, 7), 8, &webp::chunk(b"EXIF", &note));
    vec![simple, noted, include_bytes!("../../../testing/fixtures/lossy.webp").to_vec()]
}

pub(crate) fn gif() -> Vec<Vec<u8>> {
    let animated = include_bytes!("../../../testing/fixtures/animated.gif").to_vec();
    vec![encode(picture(4, 9, 7), ImageFormat::Gif), animated]
}

pub(crate) fn bmp() -> Vec<Vec<u8>> {
    let four: Vec<u8> = (0..9 * 7 * 4).map(|i| (i * 7) as u8).collect();
    let masks = [0xff_0000, 0xff00, 0xff, 0xff00_0000];
    let variant = |header, bits, compression, masks| {
        Bmp { width: 9, height: 7, header, bits, compression, masks, palette: &[] }.bytes(&four)
    };
    vec![
        encode(picture(5, 9, 7), ImageFormat::Bmp),
        variant(124, 32, 3, &masks),
        variant(40, 32, 6, &masks),
        variant(64, 32, 0, &[]),
        variant(16, 24, 0, &[]),
    ]
}

pub(crate) fn tiff() -> Vec<Vec<u8>> {
    let bytes = |n: usize| (0..n).map(|i| (i * 31) as u8).collect::<Vec<u8>>();
    let map: Vec<u32> = (0..48).map(|i| i * 1000).collect();
    let tiff =
        |bits: &[u32], photometric| Tiff::new(12, 10, bits, photometric, bytes(12 * 10 * bits.len() * 2));
    let packed = png::stored(&bytes(12 * 10 * 2));
    let differences = tiff(&[16], 1).with(259, 3, &[8]).with(317, 3, &[2]).with(266, 3, &[1]);
    let tiles = tiff(&[8], 1).tiles((8, 8), vec![png::stored(&bytes(64)); 4]).with(259, 3, &[8]);
    let parts = vec![drawn(&[(1, 1); 3]).bytes(); 1];
    vec![
        encode(picture(6, 9, 7), ImageFormat::Tiff),
        tiff(&[4], 3).with(320, 3, &map).bytes(),
        Tiff { big_endian: true, ..tiff(&[12], 1) }.bytes(),
        tiff(&[16; 2], 1).with(338, 3, &[1]).strips(10, vec![bytes(240); 2]).with(284, 3, &[2]).bytes(),
        tiff(&[8; 3], 6).with(530, 3, &[2, 2]).bytes(),
        Tiff { wide: true, ..tiff(&[8], 0) }.bytes(),
        differences.strips(10, vec![packed]).bytes(),
        tiles.bytes(),
        Tiff::new(20, 12, &[8; 3], 6, Vec::new()).strips(12, parts).with(259, 3, &[7]).bytes(),
        tiff(&[1], 0).with(259, 3, &[4]).bytes(),
    ]
}
