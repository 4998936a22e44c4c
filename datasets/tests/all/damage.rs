//! Damaged files of every kind: cut at every byte, and with bytes replaced.

use crate::helpers::LIMITS;
use image::ImageFormat;
use ocelli_datasets::rng::Rng;
use ocelli_datasets::{Image, decode, probe};
use ocelli_testing::bmp::Bmp;
use ocelli_testing::exif::{Kind, block, jpeg_with_exif, jpeg_with_xmp, xmp};
use ocelli_testing::jpeg::{Jpeg, Part, Process};
use ocelli_testing::tiff::Tiff;
use ocelli_testing::{encode, picture, png, webp};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How often our own decoding code panicked: other people's decoders may, and are caught.
static OUR_PANICS: AtomicUsize = AtomicUsize::new(0);

fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let file = info.location().map_or("", |location| location.file());
            if file.replace('\\', "/").contains("src/decode/") && !file.contains("registry") {
                OUR_PANICS.fetch_add(1, Ordering::Relaxed);
            }
            if !file.contains("registry") {
                before(info);
            }
        }));
    });
}

fn jpeg(samplings: &[(u32, u32)]) -> Jpeg {
    let levels: [fn(u32, u32) -> u8; 4] =
        [|x, y| (x * 40 + y) as u8, |_, y| (y * 30) as u8, |x, _| (x * 9) as u8, |_, _| 200];
    let parts = samplings.iter().zip(levels).zip(1..);
    Jpeg::new(40, 24, parts.map(|((&(h, v), level), id)| Part { id, h, v, level }).collect())
}

/// A file of each kind that has code of its own.
fn kinds() -> Vec<(&'static str, Vec<u8>)> {
    let rgb = || picture(9, 12, 10);
    let formats = [
        ImageFormat::Jpeg,
        ImageFormat::Png,
        ImageFormat::WebP,
        ImageFormat::Bmp,
        ImageFormat::Gif,
        ImageFormat::Tiff,
    ];
    let mut kinds: Vec<_> =
        formats.iter().map(|&format| (format.extensions_str()[0], encode(rgb(), format))).collect();
    let alone = vec![vec![0], vec![1], vec![2]];
    let subsampled = [(2, 2), (1, 1), (1, 1)];
    kinds.push((
        "one scan a component",
        Jpeg { scans: alone.clone(), restart: 3, ..jpeg(&subsampled) }.bytes(),
    ));
    kinds.push(("factor 3", jpeg(&[(3, 1), (1, 1), (1, 1)]).bytes()));
    kinds
        .push(("progressive", Jpeg { process: Process::Refined, scans: alone, ..jpeg(&subsampled) }.bytes()));
    kinds.push(("YCCK", Jpeg { adobe: Some(2), ..jpeg(&[(2, 2), (1, 1), (1, 1), (1, 1)]) }.bytes()));
    kinds.push(("DNL", Jpeg { dnl: true, ..jpeg(&[(1, 1)]) }.bytes()));
    let bare = ocelli_testing::jpeg::without_segments(&encode(rgb(), ImageFormat::Jpeg), 0xc4);
    kinds.push(("no tables", bare));
    let note = block(6, Kind::Long, true);
    kinds.push(("EXIF", jpeg_with_exif(&jpeg(&[(1, 1)]).bytes(), &note)));
    kinds.push(("XMP", jpeg_with_xmp(&jpeg(&[(1, 1)]).bytes(), &xmp(6, true))));
    let simple = encode(rgb(), ImageFormat::Png);
    let text =
        [b"Raw profile type exif\0\0".as_slice(), &png::stored(&png::raw_profile("exif", &note))].concat();
    let chunks = [png::chunk(b"zTXt", &text), png::chunk(b"eXIf", &note)].concat();
    kinds.push(("notes in PNG", png::with_chunks(&simple, &chunks, false)));
    let simple = encode(rgb(), ImageFormat::WebP);
    kinds.push(("EXIF in WebP", webp::extended(&simple, (12, 10), 8, &webp::chunk(b"EXIF", &note))));
    let four: Vec<u8> = (0..480).map(|i| (i * 7) as u8).collect();
    let masks = [0xff_0000, 0xff00, 0xff, 0xff00_0000];
    for (name, header, compression) in
        [("V5", 124, 3), ("masks behind", 40, 6), ("OS/2", 64, 0), ("short OS/2", 16, 0)]
    {
        let masks = if compression > 0 { &masks[..] } else { &[] };
        let file = Bmp {
            width: 12,
            height: 10,
            header,
            bits: if header < 40 { 24 } else { 32 },
            compression,
            masks,
            palette: &[],
        };
        kinds.push((name, file.bytes(&four)));
    }
    let bytes = |n: usize| (0..n).map(|i| (i * 31) as u8).collect::<Vec<u8>>();
    let map: Vec<u32> = (0..48).map(|i| i * 1000).collect();
    let tiff =
        |bits: &[u32], photometric| Tiff::new(12, 10, bits, photometric, bytes(12 * 10 * bits.len() * 2));
    kinds.push(("palette", tiff(&[4], 3).with(320, 3, &map).bytes()));
    kinds.push(("12 bits", Tiff { big_endian: true, ..tiff(&[12], 1) }.bytes()));
    kinds.push((
        "alpha in planes",
        tiff(&[16; 2], 1).with(338, 3, &[1]).strips(10, vec![bytes(240); 2]).with(284, 3, &[2]).bytes(),
    ));
    kinds.push(("YCbCr", tiff(&[8; 3], 6).with(530, 3, &[2, 2]).bytes()));
    kinds.push(("wide", Tiff { wide: true, ..tiff(&[8], 0) }.bytes()));
    let packed = png::stored(&bytes(12 * 10 * 2));
    let differences = tiff(&[16], 1).with(259, 3, &[8]).with(317, 3, &[2]).with(266, 3, &[1]);
    kinds.push(("differences", differences.strips(10, vec![packed.clone()]).bytes()));
    let tiles = tiff(&[8], 1).tiles((8, 8), vec![png::stored(&bytes(64)); 4]).with(259, 3, &[8]);
    kinds.push(("tiles", tiles.bytes()));
    let parts = vec![jpeg(&[(1, 1); 3]).bytes(); 1];
    kinds.push((
        "JPEG in TIFF",
        Tiff::new(40, 24, &[8; 3], 6, Vec::new()).strips(24, parts).with(259, 3, &[7]).bytes(),
    ));
    kinds.push(("group 4", tiff(&[1], 0).with(259, 3, &[4]).bytes()));
    for fixture in [
        include_bytes!("../../../testing/fixtures/progressive.jpg").as_slice(),
        include_bytes!("../../../testing/fixtures/lossy.webp"),
        include_bytes!("../../../testing/fixtures/animated.gif"),
        include_bytes!("../../../testing/fixtures/animated.webp"),
        include_bytes!("../../../testing/fixtures/lzw.tif"),
        include_bytes!("../../../testing/fixtures/jpeg.tif"),
        include_bytes!("../../../testing/fixtures/palette.bmp"),
    ] {
        kinds.push(("fixture", fixture.to_vec()));
    }
    kinds
}

/// What comes out has the size that it says, within the limits, and the header does not contradict it.
fn is_sound(bytes: &[u8], image: &Image) {
    let pixels = u64::from(image.width) * u64::from(image.height);
    assert_eq!(image.pixels.len() as u64, pixels * u64::from(image.channels));
    assert!(pixels <= LIMITS.max_pixels && image.width.max(image.height) <= LIMITS.max_side);
    let header = probe(bytes, &LIMITS).expect("what decodes has a header");
    assert_eq!((header.width, header.height, header.channels), (image.width, image.height, image.channels));
}

#[test]
fn every_cut_is_an_error_or_leaves_the_whole_picture() {
    count_panics();
    for (name, bytes) in kinds() {
        let whole = decode(&bytes, &LIMITS);
        // Group 4 has nothing but noise here.
        assert!(whole.is_ok() || name == "group 4", "{name}: {whole:?}");
        for length in 0..bytes.len() {
            match decode(&bytes[..length], &LIMITS) {
                Ok(image) => {
                    is_sound(&bytes[..length], &image);
                    assert!(image == *whole.as_ref().unwrap(), "{name} cut at {length} of {}", bytes.len());
                }
                Err(e) => assert!(!e.to_string().contains('\n')),
            }
            let _ = probe(&bytes[..length], &LIMITS);
        }
    }
    assert_eq!(OUR_PANICS.load(Ordering::Relaxed), 0);
}

#[test]
fn replaced_bytes_never_panic_and_stay_within_the_limits() {
    count_panics();
    let mut rng = Rng::new(11);
    for (_, bytes) in kinds() {
        for round in 0..400 {
            let mut damaged = bytes.clone();
            for _ in 0..1 + rng.below(4) {
                // Half of the time where headers are.
                let end = if round % 2 == 0 { bytes.len().min(160) } else { bytes.len() };
                let at = rng.below(end as u64) as usize;
                damaged[at] = [0, 1, 0x7f, 0xff, rng.next_u64() as u8][rng.below(5) as usize];
            }
            if let Ok(image) = decode(&damaged, &LIMITS) {
                is_sound(&damaged, &image);
            }
            let _ = probe(&damaged, &LIMITS);
        }
    }
    assert_eq!(OUR_PANICS.load(Ordering::Relaxed), 0);
}
