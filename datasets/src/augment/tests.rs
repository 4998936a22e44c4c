//! Whole changes: levels, keys, sizes.

use super::apply::Stored;
use super::colour::Colour;
use super::image_ops::ImageOp;
use super::rectangle::Rectangles;
use super::trivial::Trivial;
use super::{Augment, AugmentLevel};
use crate::preprocess::{Fit, Preprocessing, normalize_one};
use crate::resample::Sample;
use crate::rng::Rng;
use sha2::{Digest, Sha256};

const ALL: [AugmentLevel; 5] = [
    AugmentLevel::None,
    AugmentLevel::Light,
    AugmentLevel::Medium,
    AugmentLevel::Strong,
    AugmentLevel::Trivial,
];

fn run_to<T: Sample>(
    augment: &Augment,
    key: u64,
    pre: &Preprocessing,
    values: &[T],
    size: (u32, u32),
) -> Vec<f32> {
    let mut out = vec![f32::NAN; size.0 as usize * size.1 as usize * usize::from(pre.channels)];
    let stored = Stored { preprocessing: pre, values };
    stored.write_augmented((augment, key), size, |v, c| normalize_one(pre, v, c), &mut out);
    out
}

fn run<T: Sample>(augment: &Augment, key: u64, pre: &Preprocessing, values: &[T]) -> Vec<f32> {
    run_to(augment, key, pre, values, (pre.width, pre.height))
}

/// Preprocessing that moves and scales values.
fn pre(width: u32, height: u32, channels: u8) -> Preprocessing {
    let mut pre = Preprocessing::new(width, height, channels, Fit::Stretch);
    pre.mean.fill(0.3);
    pre.std.fill(0.25);
    pre
}

fn narrow(pre: &Preprocessing) -> Vec<u8> {
    (0..pre.len()).map(|i| (i * 97 % 256) as u8).collect()
}

fn wide(pre: &Preprocessing) -> Vec<u16> {
    (0..pre.len()).map(|i| (i * 40_503 % 65_536) as u16).collect()
}

#[test]
fn light_and_medium_keep_their_bits() {
    // From the release 0.1.0: runs that began with it must go on to the same weights.
    let known = [
        (AugmentLevel::Light, [0xa9, 0xc0, 0xfd, 0x40, 0xfb, 0xa7, 0xd7, 0xab]),
        (AugmentLevel::Medium, [0x42, 0x6b, 0xfb, 0xa4, 0xf3, 0x3c, 0x95, 0x96]),
    ];
    for (level, hash) in known {
        let mut hasher = Sha256::new();
        for (w, h, c) in [(28, 28, 1), (32, 32, 3), (1, 1, 3), (5, 1, 1), (2, 9, 3), (40, 31, 3)] {
            let pre = pre(w, h, c);
            for key in 0..40 {
                let augment = Augment::new(level);
                for out in [run(&augment, key, &pre, &narrow(&pre)), run(&augment, key, &pre, &wide(&pre))] {
                    out.iter().for_each(|v| hasher.update(v.to_bits().to_le_bytes()));
                }
            }
        }
        assert_eq!(hasher.finalize()[..8], hash, "{level}");
    }
}

#[test]
fn light_is_a_flip_and_a_shift_of_at_most_two_pixels_and_all_of_them_occur() {
    let pre = Preprocessing::new(28, 28, 1, Fit::Stretch);
    let values: Vec<u8> = (0..28 * 28).map(|i| (i * 31 % 256) as u8).collect();
    let mut candidates = Vec::new();
    for flip in [false, true] {
        for dy in -2i64..=2 {
            for dx in -2i64..=2 {
                let at = |y: i64, x: i64| {
                    let x = if flip { 27 - x } else { x };
                    let fold = |v: i64| if v < 0 { -v } else { v.min(54 - v) };
                    values[(fold(y + dy) * 28 + fold(x + dx)) as usize]
                };
                let image: Vec<f32> = (0..28 * 28).map(|i| f32::from(at(i / 28, i % 28)) / 255.0).collect();
                candidates.push(image);
            }
        }
    }
    let augment = Augment::new(AugmentLevel::Light);
    let mut seen = vec![false; candidates.len()];
    for key in 0..600 {
        let out = run(&augment, key, &pre, &values);
        let which = candidates.iter().position(|c| *c == out);
        seen[which.expect("a flip and a small shift")] = true;
    }
    assert!(seen.iter().all(|&s| s), "{seen:?}");
}

#[test]
fn every_level_is_a_function_of_the_key_and_stays_in_range() {
    let shapes = [(28, 28, 1), (32, 32, 3), (1, 1, 3), (5, 1, 1), (2, 9, 3), (7, 6, 2), (6, 5, 11)];
    for (width, height, channels) in shapes {
        let pre = pre(width, height, channels);
        let (low, high) = ((0.0 - 0.3) / 0.25, (1.0 - 0.3) / 0.25);
        for augment in ALL.map(Augment::new) {
            for key in 0..50 {
                for size in [(width, height), (width.div_ceil(2), height), (width + 3, height + 1)] {
                    let out = run_to(&augment, key, &pre, &narrow(&pre), size);
                    assert_eq!(out, run_to(&augment, key, &pre, &narrow(&pre), size));
                    assert!(out.iter().all(|v| (low - 1e-5..=high + 1e-5).contains(v)));
                    let out = run_to(&augment, key, &pre, &wide(&pre), size);
                    assert!(out.iter().all(|v| (low - 1e-5..=high + 1e-5).contains(v)));
                }
            }
        }
    }
}

#[test]
fn a_flat_image_stays_flat_but_for_the_light() {
    let pre = Preprocessing::new(9, 7, 3, Fit::Stretch);
    let augment = Augment::new(AugmentLevel::Medium);
    for key in 0..100 {
        let out = run(&augment, key, &pre, &[100u8; 9 * 7 * 3]);
        assert!(out.iter().all(|v| (v - out[0]).abs() < 1e-6));
        let level = out[0] * 255.0;
        assert!((100.0 * 0.64 - 0.1..=100.0 * 1.44 + 0.1).contains(&level), "{level}");
    }
}

#[test]
fn switching_one_change_off_leaves_the_other_draws_alone() {
    let with = Augment {
        vflip: true,
        max_shift: 0.1,
        min_area: 0.5,
        max_shear: 20.0,
        scale: [0.8, 1.25],
        hue: 0.1,
        ..Augment::new(AugmentLevel::Strong)
    };
    for key in 0..100 {
        let draw = |augment: Augment| augment.draw(key, (64, 64), (32, 32));
        let all = draw(with);
        let flips = draw(Augment { hflip: false, vflip: false, ..with });
        assert_eq!(flips.affine.flip, [false; 2]);
        assert_eq!((flips.affine.offset, flips.affine.side), (all.affine.offset, all.affine.side));
        assert_eq!((flips.crop, flips.colour, flips.erased), (all.crop, all.colour, all.erased));
        assert_eq!(draw(Augment { crop: None, ..with }).affine, all.affine);
        let still = draw(Augment { erase: 0.0, hue: 0.0, saturation: 0.0, ..with });
        assert_eq!((still.erased, still.affine, still.crop), (None, all.affine, all.crop));
        let straight = draw(Augment { max_shear: 0.0, scale: [1.0; 2], ..with });
        assert_eq!((straight.affine.shear, straight.affine.flip), ([0.0; 2], all.affine.flip));
        assert_eq!((straight.colour, straight.erased), (all.colour, all.erased));
    }
}

#[test]
fn a_resized_crop_is_the_region_of_the_stored_image() {
    // A ramp: the value of a pixel says where it was.
    let pre = Preprocessing::new(64, 64, 3, Fit::Stretch);
    let values: Vec<u8> = (0..64 * 64).flat_map(|i| [(i % 64) as u8, (i / 64) as u8, 7]).collect();
    let crop = Rectangles { area: [0.1, 0.9], aspect: [0.75, 1.25] };
    let augment = Augment { crop: Some(crop), ..Augment::new(AugmentLevel::None) };
    let mut smallest = 64.0f32;
    for key in 0..200 {
        let draw = augment.draw(key, (64, 64), (16, 16));
        let region = draw.crop.unwrap();
        let out = run_to(&augment, key, &pre, &values, (16, 16));
        let level = |x: usize, y: usize, c: usize| out[(y * 16 + x) * 3 + c] * 255.0;
        for (c, from, length) in [(0, region.x, region.width), (1, region.y, region.height)] {
            // The middle of an output pixel in the region; at the edges the antialiasing filter is cut.
            for at in [4usize, 8, 11] {
                let expected = from as f32 + (at as f32 + 0.5) * length as f32 / 16.0 - 0.5;
                let (x, y) = if c == 0 { (at, 8) } else { (8, at) };
                assert!((level(x, y, c) - expected).abs() < 1.0, "{region:?} {at} {}", level(x, y, c));
            }
        }
        smallest = smallest.min(region.width as f32);
    }
    assert!(smallest < 25.0, "{smallest}");
}

#[test]
fn shrinking_averages_what_it_covers() {
    // A chequerboard of single pixels at half its size is gray; sampling without a filter would give black and white.
    let pre = Preprocessing::new(64, 64, 1, Fit::Stretch);
    let values: Vec<u8> = (0..64 * 64).map(|i| if (i % 64 + i / 64) % 2 == 0 { 255 } else { 0 }).collect();
    let mut out = vec![f32::NAN; 32 * 32];
    let stored = Stored { preprocessing: &pre, values: &values };
    stored.write((32, 32), |v, c| normalize_one(&pre, v, c), &mut out);
    assert!(out.iter().all(|v| (v - 0.5).abs() < 0.02), "{out:?}");
}

#[test]
fn shear_and_scale_move_pixels_where_they_say() {
    let pre = Preprocessing::new(33, 33, 1, Fit::Stretch);
    let values: Vec<u8> = (0..33 * 33).map(|i| (i % 33 * 7) as u8).collect();
    let none = Augment::new(AugmentLevel::None);
    for key in 0..20 {
        let augment = Augment { max_shear: 15.0, scale: [0.9, 1.1], ..none };
        let affine = augment.draw(key, (33, 33), (33, 33)).affine;
        let out = run(&augment, key, &pre, &values);
        for (x, y) in [(16usize, 16usize), (12, 16), (16, 10), (20, 22)] {
            let [dx, dy] = [x, y].map(|at| (at as f32 - 16.0) * affine.side);
            let expected = (16.0 + dx + affine.shear[0] * dy) * 7.0 / 255.0;
            assert!((out[y * 33 + x] - expected).abs() < 1e-3, "{affine:?} {x} {y}");
        }
    }
    let flipped = Augment { vflip: true, ..none };
    let rows: Vec<u8> = (0..33 * 33).map(|i| (i / 33) as u8).collect();
    let turned = (0..40).filter(|&key| run(&flipped, key, &pre, &rows)[0] > 0.1).count();
    assert!((10..30).contains(&turned), "{turned}");
}

#[test]
fn a_rectangle_is_erased_as_often_as_asked_and_nothing_else_changes() {
    let pre = Preprocessing::new(32, 24, 3, Fit::Stretch);
    let values = vec![51u8; pre.len()];
    let augment = Augment { erase: 0.25, ..Augment::new(AugmentLevel::None) };
    let mut erased = 0;
    for key in 0..2000 {
        let out = run(&augment, key, &pre, &values);
        let changed: Vec<usize> =
            (0..32 * 24).filter(|i| out[i * 3..i * 3 + 3].iter().any(|v| *v != 0.2)).collect();
        let Some((&first, &last)) = changed.first().zip(changed.last()) else { continue };
        erased += 1;
        let (width, height) = (last % 32 + 1 - first % 32, last / 32 + 1 - first / 32);
        assert_eq!(changed.len(), width * height);
        let share = changed.len() as f32 / (32.0 * 24.0);
        assert!((0.015..0.42).contains(&share), "{share}");
    }
    assert!((430..570).contains(&erased), "{erased}");
}

#[test]
fn trivial_draws_every_operation_as_often_and_up_to_its_full_strength() {
    let mut rng = Rng::new(5);
    let mut counts = std::collections::BTreeMap::new();
    let (mut degrees, mut shift) = (0.0f32, 0.0f32);
    for _ in 0..7000 {
        let drawn = Trivial::draw(&mut rng, (20, 224));
        let name = format!("{drawn:?}");
        let axis = match drawn {
            Trivial::Shear([x, _]) if x != 0.0 => "x",
            Trivial::Shift([x, _]) if x != 0.0 => "x",
            _ => "",
        };
        let end = name.find(|c: char| c.is_ascii_digit() || c == '[').unwrap_or(name.len());
        *counts.entry(format!("{}{axis}", name[..end].trim_end_matches('-'))).or_insert(0) += 1;
        match drawn {
            Trivial::Degrees(d) => degrees = degrees.max(d.abs()),
            Trivial::Shift([x, y]) => {
                assert!(x.abs() <= 20.0 && y.abs() <= 32.0);
                shift = shift.max(y.abs());
            }
            Trivial::Image(ImageOp::Posterize(bits)) => assert!((2..=8).contains(&bits)),
            _ => {}
        }
    }
    assert_eq!((counts.len() as u64, degrees, shift), (Trivial::COUNT, 135.0, 32.0), "{counts:?}");
    assert!(counts.values().all(|n| (400..600).contains(n)), "{counts:?}");
}

#[test]
fn saturation_and_hue_need_three_channels() {
    let augment = Augment { saturation: 0.9, hue: 0.4, ..Augment::new(AugmentLevel::None) };
    for (channels, changes) in [(1, false), (2, false), (3, true), (4, false)] {
        let pre = pre(8, 8, channels);
        let mut plain = vec![0.0; pre.len()];
        let values = narrow(&pre);
        let stored = Stored { preprocessing: &pre, values: &values };
        stored.write((8, 8), |v, c| normalize_one(&pre, v, c), &mut plain);
        let apart = |key| {
            assert_ne!(augment.draw(key, (8, 8), (8, 8)).colour, Colour::SAME);
            let out = run(&augment, key, &pre, &values);
            out.iter().zip(&plain).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        assert_eq!((0..10).any(|key| apart(key) > 0.05), changes, "{channels}");
    }
}
