//! Resizing and normalising against a resampler written from the definition, in f64.

use ocelli_datasets::rng::Rng;
use ocelli_datasets::{Fit, Image, Pixels, Prepare, Prepared, Preprocessing};

fn random_image(width: u32, height: u32, channels: u8, seed: u64) -> Image {
    let mut rng = Rng::new(seed);
    let n = width as usize * height as usize * usize::from(channels);
    let pixels = Pixels::U8((0..n).map(|_| rng.next_u64() as u8).collect());
    Image { width, height, channels, pixels }
}

fn values_of(pixels: &Pixels) -> Vec<f64> {
    match pixels {
        Pixels::U8(values) => values.iter().map(|&v| f64::from(v)).collect(),
        Pixels::U16(values) => values.iter().map(|&v| f64::from(v)).collect(),
    }
}

/// One axis of antialiased bilinear resampling: for each output the weights of the inputs, from the triangle filter
/// widened by the scale.
fn triangle_weights(from: usize, to: usize) -> Vec<Vec<f64>> {
    let scale = from as f64 / to as f64;
    let support = scale.max(1.0);
    (0..to)
        .map(|i| {
            let centre = (i as f64 + 0.5) * scale;
            let raw: Vec<f64> =
                (0..from).map(|j| (1.0 - ((j as f64 + 0.5 - centre) / support).abs()).max(0.0)).collect();
            let sum: f64 = raw.iter().sum();
            raw.iter().map(|w| w / sum).collect()
        })
        .collect()
}

/// `values` is `h w c` with the given sizes; result `to_h to_w c`.
fn resample(values: &[f64], (w, h, c): (usize, usize, usize), (to_w, to_h): (usize, usize)) -> Vec<f64> {
    let (wx, wy) = (triangle_weights(w, to_w), triangle_weights(h, to_h));
    let mut out = Vec::new();
    for weights_y in &wy {
        for weights_x in &wx {
            for k in 0..c {
                let row =
                    |y: usize| -> f64 { (0..w).map(|x| weights_x[x] * values[(y * w + x) * c + k]).sum() };
                out.push((0..h).map(|y| weights_y[y] * row(y)).sum());
            }
        }
    }
    out
}

fn assert_near(got: &Prepared, wanted: &[f64], tolerance: f64, what: &str) {
    let got = values_of(&got.pixels);
    assert_eq!(got.len(), wanted.len(), "{what}");
    for (i, (a, b)) in got.iter().zip(wanted).enumerate() {
        assert!((a - b).abs() <= tolerance, "{what}: value {i} is {a}, not {b}");
    }
}

#[test]
fn stretching_is_antialiased_bilinear_at_every_scale() {
    for channels in [1u8, 3] {
        for (w, h) in [(1, 1), (2, 3), (13, 7), (28, 28), (31, 33), (100, 41), (300, 3)] {
            for (to_w, to_h) in [(1, 1), (7, 5), (28, 28), (32, 32), (64, 17)] {
                let image = random_image(w, h, channels, u64::from(w * 1000 + to_w));
                let pre = Preprocessing::new(to_w, to_h, channels, Fit::Stretch);
                let c = usize::from(channels);
                let exact = resample(
                    &values_of(&image.pixels),
                    (w as usize, h as usize, c),
                    (to_w as usize, to_h as usize),
                );
                // Two passes, each rounded to 8 bits with 8-bit-plus weights.
                assert_near(&pre.resize(&image).unwrap(), &exact, 1.6, &format!("{w}x{h} to {to_w}x{to_h}"));
            }
        }
    }
}

#[test]
fn sixteen_bits_are_resampled_in_sixteen_bits() {
    let mut rng = Rng::new(5);
    let values: Vec<u16> = (0..40 * 30 * 3).map(|_| rng.below(4096) as u16).collect();
    let exact = resample(&values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>(), (40, 30, 3), (16, 12));
    let image = Image { width: 40, height: 30, channels: 3, pixels: Pixels::U16(values) };
    let prepared = Preprocessing::new(16, 12, 3, Fit::Stretch).resize(&image).unwrap();
    assert!(matches!(prepared.pixels, Pixels::U16(_)));
    assert_near(&prepared, &exact, 1.6, "16 bits");
}

#[test]
fn the_right_size_is_copied_whatever_the_fit() {
    for fit in [Fit::Stretch, Fit::Crop, Fit::Pad] {
        for channels in [1, 3] {
            let image = random_image(28, 20, channels, 1);
            let prepared = Preprocessing::new(28, 20, channels, fit).resize(&image).unwrap();
            assert_eq!(prepared.pixels, image.pixels);
        }
    }
}

#[test]
fn crop_takes_the_centre_and_copies_where_the_size_fits() {
    let image = random_image(11, 6, 3, 2);
    let prepared = Preprocessing::new(6, 6, 3, Fit::Crop).resize(&image).unwrap();
    let values = values_of(&image.pixels);
    let wanted: Vec<f64> = (0..6).flat_map(|y| values[(y * 11 + 2) * 3..(y * 11 + 8) * 3].to_vec()).collect();
    assert_near(&prepared, &wanted, 0.0, "centre");

    // A tall image with bright ends: the crop never sees them.
    let mut tall = vec![10u8; 8 * 40];
    tall[..8 * 14].fill(255);
    tall[8 * 26..].fill(255);
    let image = Image { width: 8, height: 40, channels: 1, pixels: Pixels::U8(tall) };
    let prepared = Preprocessing::new(4, 4, 1, Fit::Crop).resize(&image).unwrap();
    assert_near(&prepared, &[10.0; 16], 0.0, "ends are cut");
}

#[test]
fn pad_keeps_everything_and_fills_with_mid_gray() {
    let image = Image { width: 40, height: 10, channels: 3, pixels: Pixels::U8(vec![250; 1200]) };
    let prepared = Preprocessing::new(20, 12, 3, Fit::Pad).resize(&image).unwrap();
    let values = values_of(&prepared.pixels);
    for y in 0..12 {
        let wanted = if (3..8).contains(&y) { 250.0 } else { 128.0 };
        assert!(values[y * 60..(y + 1) * 60].iter().all(|&v| v == wanted), "row {y}");
    }
    // However thin, something of the image stays.
    for (w, h) in [(4000, 1), (1, 4000)] {
        let n = (w * h * 3) as usize;
        let image = Image { width: w, height: h, channels: 3, pixels: Pixels::U8(vec![250; n]) };
        let prepared = Preprocessing::new(8, 8, 3, Fit::Pad).resize(&image).unwrap();
        assert_eq!(values_of(&prepared.pixels).iter().filter(|&&v| v == 250.0).count(), 8 * 3);
    }
    let deep = Image { width: 4, height: 2, channels: 1, pixels: Pixels::U16(vec![65_535; 8]) };
    let prepared = Preprocessing::new(4, 4, 1, Fit::Pad).resize(&deep).unwrap();
    assert_eq!(values_of(&prepared.pixels)[0], 32_896.0);
}

#[test]
fn gray_is_repeated_and_colour_weighed_by_rec_601() {
    let gray = random_image(5, 5, 1, 3);
    let prepared = Preprocessing::new(5, 5, 3, Fit::Stretch).resize(&gray).unwrap();
    let wanted: Vec<f64> = values_of(&gray.pixels).iter().flat_map(|&v| [v; 3]).collect();
    assert_near(&prepared, &wanted, 0.0, "repeat");

    let luma = |values: &[f64]| -> Vec<f64> {
        values.chunks_exact(3).map(|p| 0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2]).collect()
    };
    let rgb = random_image(16, 16, 3, 4);
    let prepared = Preprocessing::new(16, 16, 1, Fit::Stretch).resize(&rgb).unwrap();
    assert_near(&prepared, &luma(&values_of(&rgb.pixels)), 0.51, "8 bits");

    let mut rng = Rng::new(9);
    let mut values: Vec<u16> = (0..300).map(|_| rng.next_u64() as u16).collect();
    values[..3].fill(65_535);
    let exact = luma(&values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>());
    let image = Image { width: 10, height: 10, channels: 3, pixels: Pixels::U16(values) };
    let prepared = Preprocessing::new(10, 10, 1, Fit::Stretch).resize(&image).unwrap();
    // The weights have 16 bits themselves.
    assert_near(&prepared, &exact, 1.6, "16 bits");
    assert_eq!(values_of(&prepared.pixels)[0], 65_535.0);
}

#[test]
fn normalising_gives_zero_mean_and_the_same_scale_for_both_depths() {
    let mut pre = Preprocessing::new(2, 1, 3, Fit::Stretch);
    pre.mean = vec![0.5, 0.25, 0.0];
    pre.std = vec![0.5, 0.1, 2.0];
    let mut narrow = [f32::NAN; 6];
    pre.normalize(&Prepared { pixels: Pixels::U8(vec![0, 51, 255, 255, 102, 0]) }, &mut narrow);
    let mut wide = [f32::NAN; 6];
    let words = [0u16, 51, 255, 255, 102, 0].map(|v| v * 257).to_vec();
    pre.normalize(&Prepared { pixels: Pixels::U16(words) }, &mut wide);
    let wanted = [-1.0, -0.5, 0.5, 1.0, 1.5, 0.0];
    for ((n, w), wanted) in narrow.iter().zip(wide).zip(wanted) {
        assert!((n - wanted).abs() < 1e-6 && (w - wanted).abs() < 1e-6, "{narrow:?} {wide:?}");
    }
}

#[test]
fn nonsense_is_refused() {
    let good = Preprocessing::new(28, 28, 1, Fit::Stretch);
    let bad = [
        Preprocessing { width: 0, ..good.clone() },
        Preprocessing { height: 4097, ..good.clone() },
        Preprocessing { channels: 33, mean: vec![0.0; 33], std: vec![1.0; 33], ..good.clone() },
        Preprocessing { channels: 0, mean: vec![], std: vec![], ..good.clone() },
        Preprocessing { mean: vec![], ..good.clone() },
        Preprocessing { mean: vec![f32::NAN], ..good.clone() },
        Preprocessing { std: vec![0.0], ..good.clone() },
        Preprocessing { std: vec![-1.0], ..good.clone() },
        Preprocessing { std: vec![f32::INFINITY], ..good.clone() },
    ];
    let image = random_image(3, 3, 1, 1);
    for pre in bad {
        assert!(pre.validate().is_err() && pre.resize(&image).is_err(), "{pre:?}");
    }
    good.validate().unwrap();
    let lying = [
        Image { width: 4, ..image.clone() },
        Image { channels: 2, ..image.clone() },
        Image { width: 0, height: 0, channels: 1, pixels: Pixels::U8(vec![]) },
        Image { width: u32::MAX, height: u32::MAX, ..image.clone() },
    ];
    for image in lying {
        assert!(good.resize(&image).unwrap_err().to_string().contains("do not make an image"));
    }
}

#[test]
fn fits_have_names() {
    for fit in [Fit::Stretch, Fit::Crop, Fit::Pad] {
        assert_eq!(fit.to_string().parse::<Fit>().unwrap(), fit);
    }
    assert!("fill".parse::<Fit>().unwrap_err().to_string().contains("stretch, crop, pad"));
}
