//! TIFF of every depth, colour, layout and kind of alpha; what is not decoded is refused by its name.

use crate::helpers::{LIMITS, bytes_of, decoded, reason, shape, words_of};
use flate2::{Compression, write::ZlibEncoder};
use ocelli_datasets::{DecodeError, DecodeLimits, decode, probe};
use ocelli_testing::tiff::{Tiff, pack};
use std::io::Write;

const WIDTH: u32 = 7;
const HEIGHT: u32 = 5;

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Samples of `bits` bits, `channels` a pixel, row by row: both ends of the range and much between.
fn samples(bits: u32, channels: u32) -> Vec<Vec<u32>> {
    let most = (1_u64 << bits) - 1;
    let value = |i: u32| match i {
        0 => most as u32,
        1 => 0,
        _ => (u64::from(i).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - bits)) as u32,
    };
    (0..HEIGHT).map(|y| (0..WIDTH * channels).map(|x| value(y * WIDTH * channels + x)).collect()).collect()
}

/// The samples as bytes of the file.
fn stored(rows: &[Vec<u32>], bits: u32, big_endian: bool) -> Vec<u8> {
    if !bits.is_multiple_of(8) || bits == 8 {
        return pack(rows, bits);
    }
    let bytes = bits as usize / 8;
    let value = |v: &u32| {
        if big_endian { v.to_be_bytes()[4 - bytes..].to_vec() } else { v.to_le_bytes()[..bytes].to_vec() }
    };
    rows.iter().flatten().flat_map(value).collect()
}

/// Samples scaled as the product has them, to 8 or 16 bits.
fn scaled(rows: &[Vec<u32>], bits: u32) -> Vec<f64> {
    let (most, target) = (((1_u64 << bits) - 1) as f64, if bits <= 8 { 255.0 } else { 65_535.0 });
    rows.iter().flatten().map(|&v| f64::from(v) * target / most).collect()
}

/// The values must be these within rounding, and the header must agree.
fn check(about: &str, bytes: &[u8], channels: u8, expected: &[f64]) {
    let image = decode(bytes, &LIMITS).unwrap_or_else(|e| panic!("{about}: {e}"));
    assert_eq!(shape(&image), (WIDTH, HEIGHT, channels), "{about}");
    let got: Vec<f64> = match &image.pixels {
        ocelli_datasets::Pixels::U8(values) => values.iter().map(|&v| v.into()).collect(),
        ocelli_datasets::Pixels::U16(values) => values.iter().map(|&v| v.into()).collect(),
    };
    assert_eq!(got.len(), expected.len(), "{about}");
    for (i, (a, b)) in got.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= 1.0, "{about}: value {i} is {a}, not {b}");
    }
    let header = probe(bytes, &LIMITS).unwrap();
    assert_eq!((header.width, header.height, header.channels), shape(&image), "{about}");
}

#[test]
fn gray_and_rgb_of_every_depth_and_byte_order() {
    for bits in 1..=32 {
        for (big_endian, wide) in [(false, false), (true, false), (false, true), (true, true)] {
            for (photometric, channels) in [(0, 1), (1, 1), (2, 3)] {
                let rows = samples(bits, channels);
                let data = stored(&rows, bits, big_endian);
                let depths = vec![bits; channels as usize];
                let file = Tiff { big_endian, wide, ..Tiff::new(WIDTH, HEIGHT, &depths, photometric, data) };
                let white = if bits <= 8 { 255.0 } else { 65_535.0 };
                let turned = |v: f64| if photometric == 0 { white - v } else { v };
                let expected: Vec<f64> = scaled(&rows, bits).into_iter().map(turned).collect();
                let about =
                    format!("{bits} bits, photometric {photometric}, big endian {big_endian}, wide {wide}");
                check(&about, &file.bytes(), channels as u8, &expected);
            }
        }
    }
}

#[test]
fn strips_tiles_planes_and_compressions() {
    for (bits, channels) in [(8, 1), (8, 3), (16, 3), (4, 1), (1, 1), (12, 3)] {
        let rows = samples(bits, channels);
        let expected = scaled(&rows, bits);
        let photometric = if channels == 1 { 1 } else { 2 };
        for planar in [false, true] {
            if planar && channels == 1 {
                continue;
            }
            let planes: Vec<Vec<Vec<u32>>> = if planar {
                let plane = |c: u32| {
                    rows.iter().map(|row| row.iter().skip(c as usize).step_by(3).copied().collect()).collect()
                };
                (0..channels).map(plane).collect()
            } else {
                vec![rows.clone()]
            };
            let step = if planar { 1 } else { channels as usize };
            // Two rows a strip, and tiles of 3 x 2 that reach beyond the picture.
            let strips: Vec<Vec<u8>> = planes
                .iter()
                .flat_map(|p| p.chunks(2).map(|rows| stored(rows, bits, false)).collect::<Vec<_>>())
                .collect();
            let tile = |plane: &[Vec<u32>], x: usize, y: usize| {
                let row = |y: usize| -> Vec<u32> {
                    let row = plane.get(y).map(Vec::as_slice).unwrap_or_default();
                    (3 * x * step..3 * (x + 1) * step).map(|i| row.get(i).copied().unwrap_or(0)).collect()
                };
                stored(&[row(2 * y), row(2 * y + 1)], bits, false)
            };
            let tiles: Vec<Vec<u8>> = planes
                .iter()
                .flat_map(|p| {
                    (0..3)
                        .flat_map(move |y| (0..3).map(move |x| (x, y)))
                        .map(|(x, y)| tile(p, x, y))
                        .collect::<Vec<_>>()
                })
                .collect();
            type Packer = fn(&[u8]) -> Vec<u8>;
            let packers: [(u32, Packer); 4] = [
                (1, |bytes| bytes.to_vec()),
                (8, deflate),
                (32_946, deflate),
                // PackBits with literal runs alone.
                (32_773, |bytes| {
                    bytes.chunks(128).flat_map(|run| [&[run.len() as u8 - 1], run].concat()).collect()
                }),
            ];
            for (compression, packer) in packers {
                let pack_all =
                    |chunks: &[Vec<u8>]| chunks.iter().map(|chunk| packer(chunk)).collect::<Vec<_>>();
                let base = Tiff::new(WIDTH, HEIGHT, &vec![bits; channels as usize], photometric, Vec::new())
                    .with(259, 3, &[compression])
                    .with(284, 3, &[if planar { 2 } else { 1 }]);
                let about =
                    format!("{bits} bits, {channels} channels, planar {planar}, compression {compression}");
                let file = base.clone().strips(2, pack_all(&strips)).bytes();
                check(&format!("{about}, strips"), &file, channels as u8, &expected);
                let file = base.tiles((3, 2), pack_all(&tiles)).bytes();
                check(&format!("{about}, tiles"), &file, channels as u8, &expected);
            }
        }
    }
}

#[test]
fn differences_of_neighbours_are_undone() {
    for (bits, big_endian) in [(8, false), (16, false), (16, true), (32, false), (32, true)] {
        for channels in [1, 3] {
            let rows = samples(bits, channels);
            let most = ((1_u64 << bits) - 1) as u32;
            let n = channels as usize;
            let less = |row: &Vec<u32>| {
                let before = |i: usize| if i < n { 0 } else { row[i - n] };
                (0..row.len()).map(|i| row[i].wrapping_sub(before(i)) & most).collect()
            };
            let differences: Vec<Vec<u32>> = rows.iter().map(less).collect();
            let data = deflate(&stored(&differences, bits, big_endian));
            let file = Tiff {
                big_endian,
                ..Tiff::new(WIDTH, HEIGHT, &vec![bits; n], if n == 1 { 1 } else { 2 }, data)
            };
            let file = file.with(259, 3, &[8]).with(317, 3, &[2]).bytes();
            check(&format!("{bits} bits, {channels} channels"), &file, channels as u8, &scaled(&rows, bits));
        }
    }
}

#[test]
fn the_lowest_bit_may_come_first() {
    let rows = samples(1, 1);
    let reversed = |bytes: Vec<u8>| bytes.into_iter().map(u8::reverse_bits).collect::<Vec<u8>>();
    let plain = Tiff::new(WIDTH, HEIGHT, &[1], 1, reversed(pack(&rows, 1))).with(266, 3, &[2]);
    check("plain", &plain.bytes(), 1, &scaled(&rows, 1));
    let packed = Tiff::new(WIDTH, HEIGHT, &[1], 1, reversed(deflate(&pack(&rows, 1))));
    check("packed", &packed.with(266, 3, &[2]).with(259, 3, &[8]).bytes(), 1, &scaled(&rows, 1));
}

#[test]
fn palettes_have_colours_of_16_or_8_bits() {
    for bits in 1..=8 {
        let rows = samples(bits, 1);
        let size = 1_usize << bits;
        let colour = |i: usize, c: usize| ((i * 67 + c * 91 + 13) % 256) as u32;
        let expected: Vec<f64> = rows
            .iter()
            .flatten()
            .flat_map(|&i| (0..3).map(move |c| f64::from(colour(i as usize, c))))
            .collect();
        for scale in [257, 1] {
            let map: Vec<u32> = (0..3).flat_map(|c| (0..size).map(move |i| colour(i, c) * scale)).collect();
            let file = Tiff::new(WIDTH, HEIGHT, &[bits], 3, pack(&rows, bits)).with(320, 3, &map);
            check(&format!("{bits} bits, scale {scale}"), &file.bytes(), 3, &expected);
        }
        let short = Tiff::new(WIDTH, HEIGHT, &[bits], 3, pack(&rows, bits)).with(320, 3, &[0, 1, 2]);
        assert!(reason(&short.bytes()).contains("damaged"));
    }
}

#[test]
fn floats_are_taken_in_the_unit_range_only() {
    let values: Vec<f32> = (0..WIDTH * HEIGHT).map(|i| i as f32 / 34.0).collect();
    let expected: Vec<f64> = values.iter().map(|&v| f64::from(v) * 65_535.0).collect();
    for big_endian in [false, true] {
        let single =
            values.iter().flat_map(|v| if big_endian { v.to_be_bytes() } else { v.to_le_bytes() }).collect();
        let double = values.iter().map(|&v| f64::from(v));
        let double =
            double.flat_map(|v| if big_endian { v.to_be_bytes() } else { v.to_le_bytes() }).collect();
        for (bits, data) in [(32, single), (64, double)] {
            let file = Tiff { big_endian, ..Tiff::new(WIDTH, HEIGHT, &[bits], 1, data) };
            check(
                &format!("{bits} bits, big endian {big_endian}"),
                &file.with(339, 3, &[3]).bytes(),
                1,
                &expected,
            );
        }
    }
    for bad in [f32::NAN, -0.1, 1.5, f32::INFINITY] {
        let data = [0.5, bad].iter().flat_map(|v| v.to_le_bytes()).collect();
        let error = decode(&Tiff::new(2, 1, &[32], 1, data).with(339, 3, &[3]).bytes(), &LIMITS).unwrap_err();
        assert!(matches!(error, DecodeError::FloatRange { format: "TIFF" }), "{error}");
    }
    let image = decoded(include_bytes!("../../../testing/fixtures/gray-float.tif"));
    assert_eq!(shape(&image), (16, 8, 1));
    assert!(words_of(&image).is_sorted_by(|a, b| a.abs_diff(*b) < 20_000));
}

#[test]
fn extra_samples_are_what_their_tag_says() {
    // Bits, samples of a pixel, photometric, ExtraSamples, what is seen.
    type Case<'a> = (&'a [u32], u32, &'a [u32], &'a [u8]);
    let cases: &[Case] = &[
        (&[128, 0, 0, 128], 2, &[1], &[255, 127, 127]),
        (&[200, 100, 50, 128], 2, &[2], &[227, 177, 152]),
        (&[200, 100, 50, 0], 2, &[2], &[255, 255, 255]),
        (&[200, 100, 50, 0], 2, &[0], &[200, 100, 50]),
        (&[200, 100, 50, 0, 255], 2, &[0, 2], &[200, 100, 50]),
        (&[200, 100, 50, 255, 0], 2, &[0, 2], &[255, 255, 255]),
        (&[200, 100, 50, 0, 255], 2, &[2, 0], &[255, 255, 255]),
        (&[200, 100, 50, 1, 2, 3], 2, &[0, 0, 0], &[200, 100, 50]),
        (&[64, 128], 1, &[2], &[159]),
        (&[64, 128], 1, &[1], &[191]),
        (&[64, 0], 1, &[0], &[64]),
        (&[191, 128], 0, &[2], &[159]),
        (&[55, 155, 205, 0, 0], 5, &[0], &[200, 100, 50]),
        (&[55, 155, 205, 0, 0], 5, &[2], &[255, 255, 255]),
    ];
    for &(values, photometric, extra, seen) in cases {
        for (bits, scale) in [(8, 1), (16, 257)] {
            for planar in [false, true] {
                let value = |v: &u32| {
                    if bits == 8 { vec![*v as u8] } else { ((*v * scale) as u16).to_le_bytes().to_vec() }
                };
                let chunks: Vec<Vec<u8>> = if planar {
                    values.iter().map(|v| value(v).repeat(4)).collect()
                } else {
                    vec![values.iter().flat_map(value).collect::<Vec<u8>>().repeat(4)]
                };
                let file = Tiff::new(2, 2, &vec![bits; values.len()], photometric, Vec::new());
                let file = file.strips(2, chunks).with(338, 3, extra).with(284, 3, &[1 + u32::from(planar)]);
                let image = decoded(&file.bytes());
                let about = format!("{values:?} {photometric} {extra:?} of {bits} bits, planar {planar}");
                let got: Vec<u8> = match bits {
                    8 => bytes_of(&image).to_vec(),
                    _ => words_of(&image).iter().map(|v| (v / 257) as u8).collect(),
                };
                let close = got.iter().zip(seen.iter().cycle()).all(|(a, b)| a.abs_diff(*b) <= 1);
                assert!(close && got.len() == 4 * seen.len(), "{about}: {got:?}");
            }
        }
    }
    // A fourth sample beside RGB that no tag explains is alpha, unless it is zero everywhere.
    let seen =
        |values: [u8; 8]| bytes_of(&decoded(&Tiff::new(2, 1, &[8; 4], 2, values.to_vec()).bytes())).to_vec();
    assert_eq!(seen([10, 20, 30, 0, 40, 50, 60, 255]), [255, 255, 255, 40, 50, 60]);
    assert_eq!(seen([10, 20, 30, 0, 40, 50, 60, 0]), [10, 20, 30, 40, 50, 60]);
}

#[test]
fn ycbcr_is_plain_or_subsampled() {
    // Red and blue in two columns of blocks (ITU-R BT.601).
    let (red, blue) = ([76, 85, 255], [29, 255, 107]);
    for (h, v) in [(1, 1), (2, 1), (1, 2), (2, 2), (4, 2), (4, 4)] {
        let unit = |c: [u8; 3]| [vec![c[0]; (h * v) as usize], vec![c[1], c[2]]].concat();
        let row = [unit(red), unit(blue)].concat();
        for compressed in [false, true] {
            let data = row.repeat(3);
            let data = if compressed { deflate(&data) } else { data };
            let file = Tiff::new(2 * h, 3 * v, &[8; 3], 6, data).with(530, 3, &[h, v]);
            let image = decoded(&file.with(259, 3, &[if compressed { 8 } else { 1 }]).bytes());
            for (i, pixel) in bytes_of(&image).chunks_exact(3).enumerate() {
                let want: [u8; 3] = if i as u32 % (2 * h) < h { [254, 0, 0] } else { [0, 0, 254] };
                let close = pixel.iter().zip(want).all(|(a, b)| a.abs_diff(b) <= 2);
                assert!(close, "{h}x{v}, compressed {compressed}: pixel {i} is {pixel:?}");
            }
        }
    }
}

#[test]
fn what_is_not_decoded_has_its_name() {
    let base = || Tiff::new(2, 2, &[8], 1, vec![0; 64]);
    let cases = [
        (base().with(259, 3, &[3]), "CCITT Group 3"),
        (base().with(259, 3, &[6]), "old-style JPEG"),
        (base().with(259, 3, &[50_000]), "Zstandard"),
        (base().with(259, 3, &[34_712]), "JPEG 2000"),
        (base().with(259, 3, &[777]), "compression 777"),
        (base().with(339, 3, &[2]), "signed integers of 8 bits"),
        (base().with(339, 3, &[6]), "complex"),
        (base().with(262, 3, &[4]), "transparency mask"),
        (base().with(262, 3, &[99]), "photometric interpretation 99"),
        (Tiff::new(2, 2, &[8; 3], 8, vec![0; 64]), "L*a*b*"),
        (Tiff::new(2, 2, &[5, 6, 5], 2, vec![0; 64]), "different depths"),
        (Tiff::new(2, 2, &[8; 4], 5, vec![0; 64]).with(332, 3, &[2]), "inks other than CMYK"),
        (base().with(50_706, 1, &[1, 4, 0, 0]), "raw camera"),
        (base().with(254, 4, &[1]).with(330, 4, &[99]), "raw camera"),
        (base().with(262, 3, &[32_803]), "raw camera"),
    ];
    for (file, name) in cases {
        let reason = reason(&file.bytes());
        assert!(reason.contains(name) && reason.contains("not decoded"), "{reason:?} lacks {name:?}");
        assert_eq!(probe(&file.bytes(), &LIMITS).unwrap_err().to_string(), reason);
    }
}

#[test]
fn costs_are_limited_by_the_header() {
    let zeros = || deflate(&[0; 1000]);
    let refused = |file: Tiff, part: &str| {
        let text = decode(&file.bytes(), &DecodeLimits::default()).unwrap_err().to_string();
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    };
    refused(Tiff::new(60_000, 60_000, &[8], 1, zeros()).with(259, 3, &[8]), "too large");
    // A small picture in a tile that is none, in more tiles than any picture has, and of more samples than memory.
    let tile = Tiff::new(8, 8, &[8], 1, Vec::new()).tiles((1 << 30, 1 << 30), vec![zeros()]);
    refused(tile.with(259, 3, &[8]), "too much memory");
    let slivers = Tiff::new(8000, 8000, &[8], 1, Vec::new()).tiles((1, 1), vec![vec![0]; 10]);
    refused(slivers, "strips or tiles");
    refused(Tiff::new(8000, 8000, &[16], 1, zeros()).with(277, 3, &[60_000]), "too much memory");
    // Counts that lie do not allocate.
    let mut file = Tiff::new(4, 4, &[8], 1, vec![0; 16]).bytes();
    let offsets = file.windows(4).position(|w| w == [0x11, 1, 4, 0]).unwrap();
    file[offsets + 4..offsets + 8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(decode(&file, &LIMITS).is_err());
}

#[test]
fn lengths_and_rows_of_strips_may_be_left_out() {
    let data: Vec<u8> = (0..35).collect();
    for tag in [278, 279] {
        let mut bytes = Tiff::new(WIDTH, HEIGHT, &[8], 1, data.clone()).bytes();
        let [low, high] = (tag as u16).to_le_bytes();
        let at = bytes.windows(4).position(|w| w == [low, high, 4, 0]).unwrap();
        bytes[at..at + 2].copy_from_slice(&65_000_u16.to_le_bytes());
        assert_eq!(bytes_of(&decoded(&bytes)), data, "without tag {tag}");
    }
}
