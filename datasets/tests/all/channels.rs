//! Images of other channels than gray and RGB: TIFF files of many samples.

use crate::helpers::{LIMITS, load, png, put};
use flate2::{Compression, write::ZlibEncoder};
use ocelli_datasets::{
    DecodeError, DecodeLimits, Fit, Pixels, Prepare, Preprocessing, Source, decode, decode_channels,
    thumbnail,
};
use ocelli_testing::tiff::Tiff;
use std::io::Write;

const WIDTH: u32 = 6;
const HEIGHT: u32 = 4;

fn values(n: u32, seed: u32) -> Vec<u16> {
    (0..WIDTH * HEIGHT * n).map(|i| ((i + seed).wrapping_mul(40_503) % 65_536) as u16).collect()
}

fn bytes_of(values: &[u16], bits: u32) -> Vec<u8> {
    match bits {
        8 => values.iter().map(|&v| (v >> 8) as u8).collect(),
        _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    }
}

/// Samples side by side.
fn tiff(n: u32, bits: u32, photometric: u32, values: &[u16]) -> Tiff {
    Tiff::new(WIDTH, HEIGHT, &vec![bits; n as usize], photometric, bytes_of(values, bits))
}

#[test]
fn every_sample_is_a_channel() {
    for n in [2, 4, 5, 13, 32] {
        for (bits, photometric) in [(8, 1), (16, 1), (8, 2), (16, 2)] {
            if photometric == 2 && n < 3 {
                continue;
            }
            let values = values(n, 1);
            let side_by_side = tiff(n, bits, photometric, &values);
            let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
            packed.write_all(&bytes_of(&values, bits)).unwrap();
            let deflated = tiff(n, bits, photometric, &[]).with(259, 3, &[8]);
            let deflated = deflated.strips(HEIGHT, vec![packed.finish().unwrap()]);
            let plane =
                |c: u32| values.iter().copied().skip(c as usize).step_by(n as usize).collect::<Vec<_>>();
            let planes = tiff(n, bits, photometric, &[]).with(284, 3, &[2]);
            let planes = planes.strips(HEIGHT, (0..n).map(|c| bytes_of(&plane(c), bits)).collect());
            // Alpha is a channel like the others.
            let alpha = side_by_side.clone().with(338, 3, &[2]);
            let expected = match bits {
                8 => Pixels::U8(bytes_of(&values, 8)),
                _ => Pixels::U16(values.clone()),
            };
            for file in [&side_by_side, &deflated, &planes, &alpha] {
                let image = decode_channels(&file.bytes(), &LIMITS, n as u8).unwrap();
                assert_eq!((image.width, image.height, image.channels), (WIDTH, HEIGHT, n as u8));
                assert_eq!(image.pixels, expected, "{n} {bits} {photometric}");
            }
            // Whoever asks for gray or RGB gets what they always got.
            for channels in [1, 3] {
                let file = side_by_side.bytes();
                assert_eq!(
                    decode_channels(&file, &LIMITS, channels).unwrap(),
                    decode(&file, &LIMITS).unwrap()
                );
            }
        }
    }
}

#[test]
fn what_has_other_channels_or_another_meaning_is_refused() {
    let file = |n| tiff(n, 8, 1, &values(n, 1));
    for (n, wanted) in [(4, 5), (6, 5), (1, 2), (33, 32)] {
        let error = decode_channels(&file(n).bytes(), &LIMITS, wanted).unwrap_err();
        assert!(
            matches!(error, DecodeError::Channels { found, wanted: w } if found == n as usize && w == wanted),
            "{error}"
        );
    }
    let error = decode_channels(&png(1), &LIMITS, 5).unwrap_err().to_string();
    assert!(error.starts_with("image of 3 channels where 5 are wanted"), "{error}");
    let white_is_zero = tiff(5, 8, 0, &values(5, 1)).bytes();
    let turned = file(5).with(274, 3, &[6]).bytes();
    for file in [white_is_zero, turned] {
        let error = decode_channels(&file, &LIMITS, 5).unwrap_err();
        assert!(matches!(error, DecodeError::Unsupported { format: "TIFF", .. }), "{error}");
    }
    assert!(matches!(
        decode_channels(&file(5).bytes()[..80], &LIMITS, 5),
        Err(DecodeError::Truncated { .. } | DecodeError::Corrupt { .. })
    ));
    let small = DecodeLimits { max_pixels: 4, ..LIMITS };
    assert!(matches!(decode_channels(&file(5).bytes(), &small, 5), Err(DecodeError::TooLarge { .. })));
}

#[test]
fn a_set_of_many_channels_is_filled_as_a_single_image_is() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..30 {
        let bits = if i % 3 == 0 { 16 } else { 8 };
        let file = tiff(5, bits, 1, &values(5, i)).bytes();
        put(dir.path(), &format!("{}/{i:02}.tif", ["a", "b"][i as usize % 2]), &file);
    }
    put(dir.path(), "a/rgb.png", &png(3));
    let source = Source::open(dir.path()).unwrap();
    let mut set = load(&source, &Preprocessing::new(3, 3, 5, Fit::Stretch), 2).unwrap();
    assert_eq!((set.len(), set.skipped().len()), (30, 1));
    assert!(set.skipped()[0].reason.contains("3 channels where 5 are wanted"), "{:?}", set.skipped());
    let all: Vec<usize> = (0..30).collect();
    let (mean, std) = set.channel_stats(&all).unwrap();
    assert_eq!((mean.len(), std.len()), (5, 5));
    set.set_normalization(mean, std).unwrap();
    for i in all {
        let (image, _) = source.image_of(set.source_index(i), &LIMITS, 5).unwrap();
        let mut alone = vec![0.0; 3 * 3 * 5];
        set.preprocessing().normalize(&set.preprocessing().resize(&image).unwrap(), &mut alone);
        let mut filled = vec![f32::NAN; alone.len()];
        set.fill(i, &mut filled).unwrap();
        assert_eq!(filled, alone);
        assert!(!set.is_gray(i, 255).unwrap());
        let picture = decode(&thumbnail(&image, 3).unwrap(), &LIMITS).unwrap();
        assert_eq!(picture.channels, 1);
    }
}
