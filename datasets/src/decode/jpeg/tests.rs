//! Which decoder is right for which file: every sampling, scan order, process and restart interval, through both.

use super::super::decoded::DecodeLimits;
use super::super::library;
use super::super::sniff::Format;
use super::{Colour, colour, markers, second, standard_tables, suits_the_first, supported};
use crate::decode;
use image::DynamicImage;
use ocelli_testing::jpeg::{Jpeg, Part, Process, from_ycc};
use std::collections::BTreeMap;

const LIMITS: DecodeLimits = DecodeLimits { max_pixels: 1_000_000, max_side: 4096, max_bytes: 1 << 20 };

/// Levels that no two neighbouring blocks share; one function for each component.
const LEVELS: [fn(u32, u32) -> u8; 4] = [
    |x, y| (60 + (x * 37 + y * 53) % 140) as u8,
    |x, y| (90 + (x * 29 + y * 17) % 80) as u8,
    |x, y| (95 + (x * 13 + y * 41) % 70) as u8,
    |x, y| (120 + (x * 31 + y * 23) % 130) as u8,
];

fn parts(samplings: &[(u32, u32)]) -> Vec<Part> {
    let part = |(i, &(h, v)): (usize, &(u32, u32))| Part { id: i as u8 + 1, h, v, level: LEVELS[i] };
    samplings.iter().enumerate().map(part).collect()
}

/// What a pixel must be.
fn expected(levels: &[u8], colour: Colour) -> Vec<f64> {
    let inks = |c: [f64; 3]| c.map(|c| c * f64::from(levels[3]) / 255.0).to_vec();
    match colour {
        Colour::Gray => vec![levels[0].into()],
        Colour::Rgb => levels.iter().map(|&v| v.into()).collect(),
        Colour::YCbCr => from_ycc([levels[0], levels[1], levels[2]]).to_vec(),
        Colour::Cmyk => inks([levels[0], levels[1], levels[2]].map(f64::from)),
        // Of the three inks YCbCr holds the complement.
        Colour::Ycck => inks(from_ycc([levels[0], levels[1], levels[2]]).map(|c| 255.0 - c)),
    }
}

/// The first pixel that is wrong, if any; those beside the edge of a stretched block may be anything between.
fn wrong(jpeg: &Jpeg, colour: Colour, image: &DynamicImage) -> Option<String> {
    let channels = if colour == Colour::Gray { 1 } else { 3 };
    let values = match image {
        DynamicImage::ImageLuma8(b) => b.as_raw(),
        DynamicImage::ImageRgb8(b) => b.as_raw(),
        other => return Some(format!("{:?}", other.color())),
    };
    if (image.width(), image.height(), values.len())
        != (jpeg.width, jpeg.height, (jpeg.width * jpeg.height * channels) as usize)
    {
        return Some(format!("{} x {}", image.width(), image.height()));
    }
    for (i, pixel) in values.chunks_exact(channels as usize).enumerate() {
        let (x, y) = (i as u32 % jpeg.width, i as u32 / jpeg.width);
        if jpeg.is_beside_an_edge(x, y) {
            continue;
        }
        let want = expected(&jpeg.levels_at(x, y), colour);
        if pixel.iter().zip(&want).any(|(&a, b)| (f64::from(a) - b).abs() > 2.0) {
            return Some(format!("{pixel:?} for {want:.0?} at {x},{y}"));
        }
    }
    None
}

/// Both decoders on the file, whichever the choice would be: what is wrong with the pixels of each.
fn both(jpeg: &Jpeg, colour: Colour) -> [Option<String>; 2] {
    let bytes = jpeg.bytes();
    let first = std::panic::catch_unwind(|| library::decode(&bytes, Format::Jpeg, &LIMITS));
    let second = second::decode(&bytes, colour, &LIMITS).map(|values| {
        let values = values.into_rgb();
        let image = super::with_values(
            values.width,
            values.height,
            values.channels,
            crate::Pixels::U8(values.values),
        );
        image.expect("as many values as width, height and channels say")
    });
    let judge = |image: Result<DynamicImage, crate::DecodeError>| match image {
        Ok(image) => wrong(jpeg, colour, &image),
        Err(e) => Some(e.to_string()),
    };
    [first.map_or_else(|_| Some("panic".into()), judge), judge(second)]
}

/// All components together, each alone, the first alone.
fn scan_orders(count: usize) -> Vec<Vec<Vec<usize>>> {
    let all: Vec<usize> = (0..count).collect();
    let mut orders = vec![vec![all.clone()]];
    if count > 1 {
        orders.push(all.iter().map(|&i| vec![i]).collect());
        orders.push(vec![vec![0], all[1..].to_vec()]);
    }
    orders
}

/// Every file of a sampling: sizes, scan orders, processes, restart intervals.
fn files(samplings: &[(u32, u32)]) -> Vec<Jpeg> {
    let mut files = Vec::new();
    for (width, height) in [(83, 70), (97, 33), (64, 64), (3, 5), (1, 1)] {
        for scans in scan_orders(samplings.len()) {
            // T.81, B.2.3: an interleaved MCU has at most 10 blocks.
            let blocks =
                |scan: &Vec<usize>| scan.iter().map(|&i| samplings[i].0 * samplings[i].1).sum::<u32>();
            if scans.iter().any(|scan| scan.len() > 1 && blocks(scan) > 10) {
                continue;
            }
            for process in [Process::Sequential, Process::Progressive, Process::Refined] {
                for restart in [0, 3] {
                    let jpeg = Jpeg::new(width, height, parts(samplings));
                    files.push(Jpeg { scans: scans.clone(), process, restart, ..jpeg });
                }
            }
        }
    }
    files
}

/// Runs all files of a sampling through both decoders; the chosen one must be right, or the file refused by name.
/// Gives how often each was wrong.
fn sweep(samplings: &[(u32, u32)], adjust: impl Fn(&mut Jpeg), failures: &mut Vec<String>) -> [usize; 3] {
    let mut counts = [0; 3];
    for mut jpeg in files(samplings) {
        adjust(&mut jpeg);
        let bytes = jpeg.bytes();
        let found = markers::markers(&bytes);
        let frame = found.frame.unwrap();
        let about = format!(
            "{samplings:?} {}x{} {:?} {:?} restart {}",
            jpeg.width, jpeg.height, jpeg.scans, jpeg.process, jpeg.restart
        );
        if let Err(e) = supported(&found, &LIMITS) {
            let most = samplings.iter().fold((1, 1), |m, s| (m.0.max(s.0), m.1.max(s.1)));
            let fraction = samplings.iter().any(|s| most.0 % s.0 != 0 || most.1 % s.1 != 0);
            let between = samplings.iter().any(|s| (2..most.0).contains(&s.0) || (2..most.1).contains(&s.1));
            let named = e.to_string().contains("with sampling factors of");
            if !named || !fraction && (!between || found.alone == 0) {
                failures.push(format!("{about}: {e}"));
            }
            continue;
        }
        let colour = colour(&found, &frame);
        let [first, second] = both(&jpeg, colour);
        counts[0] += 1;
        counts[1] += usize::from(first.is_some());
        counts[2] += usize::from(second.is_some());
        let (name, chosen) =
            if suits_the_first(&found, &frame, colour) { ("first", first) } else { ("second", second) };
        if let Some(what) = chosen {
            failures.push(format!("{about}: {name}: {what}"));
        }
    }
    counts
}

#[test]
fn the_chosen_decoder_is_right_for_every_sampling() {
    let mut table = BTreeMap::new();
    let mut failures = Vec::new();
    let factors = || (1..=4).flat_map(|h| (1..=4).map(move |v| (h, v)));
    for gray in factors() {
        table.insert(vec![gray], sweep(&[gray], |_| (), &mut failures));
    }
    for luma in factors() {
        for chroma in [(1, 1), (1, 2), (2, 1), (2, 2), (4, 1), (1, 3)] {
            let samplings = [luma, chroma, chroma];
            table.insert(samplings.to_vec(), sweep(&samplings, |_| (), &mut failures));
        }
    }
    for mixed in [
        [(2, 2), (1, 1), (2, 1)],
        [(2, 2), (2, 2), (1, 1)],
        [(2, 1), (1, 1), (2, 1)],
        [(1, 1), (2, 2), (1, 1)],
    ] {
        table.insert(mixed.to_vec(), sweep(&mixed, |_| (), &mut failures));
    }
    println!("sampling: files, wrong by the first decoder, by the second");
    table.iter().for_each(|(samplings, counts)| println!("{samplings:?}: {counts:?}"));
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures[..failures.len().min(40)].join("\n")
    );
}

#[test]
fn the_chosen_decoder_is_right_for_every_colour_space() {
    let mut failures = Vec::new();
    for three in [
        [(1, 1); 3],
        [(2, 2), (1, 1), (1, 1)],
        [(2, 1), (1, 1), (1, 1)],
        [(1, 2), (1, 1), (1, 1)],
        [(2, 2); 3],
    ] {
        // Adobe's segment with and without JFIF's, and components called R, G and B.
        for (jfif, adobe) in [
            (false, None),
            (false, Some(0)),
            (false, Some(1)),
            (false, Some(2)),
            (true, Some(0)),
            (true, Some(1)),
        ] {
            sweep(&three, |jpeg| (jpeg.jfif, jpeg.adobe) = (jfif, adobe), &mut failures);
        }
        for jfif in [false, true] {
            let named = |jpeg: &mut Jpeg| {
                jpeg.jfif = jfif;
                jpeg.parts.iter_mut().zip(*b"RGB").for_each(|(part, id)| part.id = id);
            };
            sweep(&three, named, &mut failures);
        }
    }
    for four in [
        [(1, 1); 4],
        [(2, 2), (1, 1), (1, 1), (2, 2)],
        [(2, 1), (1, 1), (1, 1), (2, 1)],
        [(1, 2), (1, 1), (1, 1), (1, 2)],
        [(2, 2), (1, 1), (1, 1), (1, 1)],
    ] {
        for adobe in [None, Some(0), Some(2)] {
            sweep(&four, |jpeg| jpeg.adobe = adobe, &mut failures);
        }
    }
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures[..failures.len().min(40)].join("\n")
    );
}

#[test]
fn a_height_in_a_dnl_segment_counts() {
    for samplings in [vec![(1, 1)], vec![(1, 1); 3], vec![(2, 2), (1, 1), (1, 1)]] {
        for scans in scan_orders(samplings.len()) {
            let plain = Jpeg { scans: scans.clone(), ..Jpeg::new(83, 70, parts(&samplings)) };
            let open = Jpeg { scans: scans.clone(), dnl: true, ..Jpeg::new(83, 70, parts(&samplings)) };
            let image = decode(&open.bytes(), &LIMITS).unwrap();
            assert_eq!(image, decode(&plain.bytes(), &LIMITS).unwrap(), "{samplings:?} {scans:?}");
            assert_eq!(crate::probe(&open.bytes(), &LIMITS).unwrap().height, 70);
        }
    }
}

#[test]
fn the_standard_tables_are_whole() {
    let segment = standard_tables();
    // Two tables of 12 symbols and two of 162, with 17 bytes in front of each.
    assert_eq!(segment.len(), 4 + 2 * (17 + 12) + 2 * (17 + 162));
}
