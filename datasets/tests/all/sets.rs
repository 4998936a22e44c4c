//! Loading, splitting, statistics and filling.

use crate::helpers::{encode, folder_of, load, load_part, message, png, put};
use image::{ImageBuffer, ImageFormat, Luma};
use ocelli_datasets::{
    Augment, AugmentLevel, DatasetError, DecodeLimits, Fit, ImageSet, LoadOptions, Prepare, Preprocessing,
    Source, Split, SplitFractions,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

const FRACTIONS: SplitFractions = SplitFractions { val: 0.2, test: 0.2 };

pub(crate) fn pre() -> Preprocessing {
    Preprocessing::new(5, 4, 3, Fit::Stretch)
}

/// 150 images of two classes; every fourth has 16 bits, a few are broken.
pub(crate) fn mixed_folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..150u32 {
        let bytes = match i {
            _ if i % 40 == 7 => b"broken".to_vec(),
            _ if i % 4 == 0 => {
                let pixel = |x, y| Luma([(i * 300 + x + 1000 * y) as u16]);
                encode(ImageBuffer::<Luma<u16>, _>::from_fn(9, 9, pixel), ImageFormat::Png)
            }
            _ => png(i * 7919),
        };
        put(dir.path(), &format!("{}/{i:03}.png", ["a", "b"][i as usize % 2]), &bytes);
    }
    dir
}

fn splits_by_name(set: &ImageSet) -> BTreeMap<String, Split> {
    (0..set.len()).map(|i| (set.name(i).to_owned(), set.split(i))).collect()
}

fn filled(set: &ImageSet, index: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; set.preprocessing().len()];
    set.fill(index, &mut out).unwrap();
    out
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let dir = mixed_folder();
    let source = Source::open(dir.path()).unwrap();
    let one = load(&source, &pre(), 1).unwrap();
    assert_eq!((one.len(), one.skipped().len()), (146, 4));
    for threads in [0, 2, 3, 7, 64] {
        let many = load(&source, &pre(), threads).unwrap();
        assert_eq!((many.len(), many.skipped()), (one.len(), one.skipped()));
        for i in 0..one.len() {
            assert_eq!((many.name(i), many.class(i), many.hash(i)), (one.name(i), one.class(i), one.hash(i)));
            assert_eq!(many.prepared(i).unwrap(), one.prepared(i).unwrap());
        }
        assert_eq!(many.digest(), one.digest());
    }
}

#[test]
fn filling_gives_the_bits_of_the_single_image_path() {
    let dir = mixed_folder();
    let source = Source::open(dir.path()).unwrap();
    let mut set = load(&source, &pre(), 2).unwrap();
    let all: Vec<usize> = (0..set.len()).collect();
    let (mean, std) = set.channel_stats(&all).unwrap();
    set.set_normalization(mean, std).unwrap();
    let mut alone = vec![0.0; set.preprocessing().len()];
    for i in all {
        let (image, hash) = source.image(set.source_index(i), &DecodeLimits::default()).unwrap();
        let prepared = set.preprocessing().resize(&image).unwrap();
        set.preprocessing().normalize(&prepared, &mut alone);
        assert_eq!((filled(&set, i), set.hash(i)), (alone.clone(), &hash));
        let mut out = vec![f32::NAN; alone.len()];
        set.fill_augmented(i, &Augment::new(AugmentLevel::None), 5, &mut out).unwrap();
        assert_eq!(out, alone);
        for level in [AugmentLevel::Light, AugmentLevel::Medium] {
            set.fill_augmented(i, &Augment::new(level), i as u64, &mut out).unwrap();
            let mut again = vec![f32::NAN; out.len()];
            set.fill_augmented(i, &Augment::new(level), i as u64, &mut again).unwrap();
            assert!(out.iter().all(|v| v.is_finite()) && out == again);
        }
    }
}

#[test]
fn statistics_are_those_of_the_definition() {
    let dir = mixed_folder();
    let mut set = load(&Source::open(dir.path()).unwrap(), &pre(), 2).unwrap();
    let some: Vec<usize> = (0..set.len()).step_by(3).collect();
    // With mean 0 and deviation 1 the filled values are the 0..1 values.
    let mut channels = [const { Vec::new() }; 3];
    for &i in &some {
        filled(&set, i).iter().enumerate().for_each(|(k, &v)| channels[k % 3].push(f64::from(v)));
    }
    let (mean, std) = set.channel_stats(&some).unwrap();
    for c in 0..3 {
        let n = channels[c].len() as f64;
        let m = channels[c].iter().sum::<f64>() / n;
        let s = (channels[c].iter().map(|v| (v - m).powi(2)).sum::<f64>() / n).sqrt();
        assert!((f64::from(mean[c]) - m).abs() < 1e-6 && (f64::from(std[c]) - s).abs() < 1e-6);
    }
    set.set_normalization(mean.clone(), std.clone()).unwrap();
    let values: Vec<f32> = some.iter().flat_map(|&i| filled(&set, i)).collect();
    assert!((values.iter().sum::<f32>() / values.len() as f32).abs() < 1e-4);
    assert_eq!(
        set.channel_stats(&some).unwrap(),
        (mean, std),
        "statistics are of the pixels, not of what is filled"
    );

    assert!(set.set_normalization(vec![0.0], vec![1.0]).is_err());
    assert_eq!(set.channel_stats(&[]).unwrap(), (vec![0.0; 3], vec![1.0; 3]));
    let flat = folder_of(&["a/1.png", "b/1.png"]);
    let set = load(&Source::open(flat.path()).unwrap(), &pre(), 1).unwrap();
    assert_eq!(set.channel_stats(&[0]).unwrap().1, [1e-3; 3]);
}

fn write_images(root: &Path, numbers: impl Iterator<Item = u32>) {
    for i in numbers {
        put(root, &format!("{}/{i}.png", ["a", "b", "c"][i as usize % 3]), &png(i * 104_729 + 1));
    }
}

#[test]
fn adding_files_moves_few_and_the_order_of_reading_does_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    write_images(dir.path(), 0..300);
    let split = |seed| {
        let mut set = load(&Source::open(dir.path()).unwrap(), &pre(), 2).unwrap();
        set.assign_splits(FRACTIONS, seed);
        splits_by_name(&set)
    };
    let before = split(1);
    for (wanted, fraction) in [(Split::Train, 0.6), (Split::Val, 0.2), (Split::Test, 0.2)] {
        let n = before.values().filter(|&&s| s == wanted).count() as f64;
        // Three classes of 100, each part of which is off by at most 1 + 0.2 * 0.2 * (100 - 50) images.
        assert!((n - 300.0 * fraction).abs() <= 3.0 * 3.0 * 2.0, "{wanted} {n}");
    }
    assert_ne!(before, split(2));

    write_images(dir.path(), 300..450);
    let after = split(1);
    assert_eq!(after.len(), 450);
    let moved = before.iter().filter(|(name, split)| after[*name] != **split).count();
    assert!(moved <= 15, "{moved} of 300 moved when 150 were added");

    let source = Source::open(dir.path()).unwrap();
    let mut order: Vec<usize> = (0..source.items().len()).collect();
    ocelli_datasets::rng::shuffle(&mut order, 9);
    let mut shuffled = load_part(&source, Some(&order), &pre(), 3).unwrap();
    shuffled.assign_splits(FRACTIONS, 1);
    assert_eq!(splits_by_name(&shuffled), after);
    let mut straight = load(&source, &pre(), 1).unwrap();
    assert_ne!(straight.digest(), shuffled.digest(), "splits are part of the digest");
    straight.assign_splits(FRACTIONS, 1);
    assert_eq!(straight.digest(), shuffled.digest(), "the order is not");
}

#[test]
fn copies_of_a_file_share_a_split() {
    let dir = tempfile::tempdir().unwrap();
    write_images(dir.path(), 0..90);
    for i in 0..90 {
        put(dir.path(), &format!("{}/copy-{i}.png", ["a", "b", "c"][i as usize % 3]), &png(i * 104_729 + 1));
    }
    let mut set = load(&Source::open(dir.path()).unwrap(), &pre(), 2).unwrap();
    set.assign_splits(FRACTIONS, 4);
    let mut by_hash = BTreeMap::new();
    for i in 0..set.len() {
        assert_eq!(*by_hash.entry(*set.hash(i)).or_insert(set.split(i)), set.split(i));
    }
    assert_eq!(by_hash.len(), 90);
}

#[test]
fn a_changed_file_name_or_label_changes_the_digest() {
    let digest =
        |names: &[&str]| load(&Source::open(folder_of(names).path()).unwrap(), &pre(), 1).unwrap().digest();
    let first = digest(&["a/1.png", "b/2.png", "b/3.png"]);
    assert_eq!(first, digest(&["a/1.png", "b/2.png", "b/3.png"]));
    for other in [
        ["a/1.png", "b/2.png", "b/4.png"],
        ["a/1.png", "c/2.png", "c/3.png"],
        ["b/2.png", "a/1.png", "b/3.png"],
    ] {
        assert_ne!(first, digest(&other));
    }
}

#[test]
fn progress_counts_up_and_a_raised_flag_stops() {
    let dir = mixed_folder();
    let source = Source::open(dir.path()).unwrap();
    let stop = AtomicBool::new(false);
    let seen = Mutex::new(Vec::new());
    let progress = |done, total| seen.lock().unwrap().push((done, total));
    let options = LoadOptions {
        threads: 3,
        limits: DecodeLimits::default(),
        max_bad: 0.05,
        memory: 1 << 30,
        cache: None,
        progress: &progress,
        stop: &stop,
    };
    ImageSet::load(&source, None, &pre(), &options).unwrap();
    let steps = seen.lock().unwrap().clone();
    assert!(steps.windows(2).all(|w| w[0].0 < w[1].0) && steps.last() == Some(&(150, 150)), "{steps:?}");
    stop.store(true, Ordering::Relaxed);
    assert!(matches!(ImageSet::load(&source, None, &pre(), &options), Err(DatasetError::Stopped)));
}

#[test]
fn more_than_fits_in_memory_is_refused_before_it_is_tried() {
    let source = Source::bundled();
    let text = message(load(&source, &Preprocessing::new(4096, 4096, 3, Fit::Stretch), 2));
    assert!(text.contains("need 3281.2 GiB of memory") && text.contains("smaller image size"), "{text}");
}

#[test]
fn the_bundled_set_loads_whole_and_takes_its_validation_images_from_training() {
    let source = Source::bundled();
    let mut set = load(&source, &Preprocessing::new(28, 28, 1, Fit::Stretch), 2).unwrap();
    set.assign_splits(SplitFractions { val: 0.1, test: 0.1 }, 0);
    let count = |split| set.indices(split).len();
    assert_eq!(count(Split::Test), 10_000);
    assert!((5_600..6_400).contains(&count(Split::Val)), "{}", count(Split::Val));
    assert_eq!(count(Split::Train) + count(Split::Val), 60_000);
    let (mean, std) = set.channel_stats(&(0..set.len()).collect::<Vec<_>>()).unwrap();
    assert!((mean[0] - 0.2862).abs() < 5e-5 && (std[0] - 0.3530).abs() < 5e-5, "{mean:?} {std:?}");
}

#[test]
fn fractions_are_checked() {
    FRACTIONS.validate().unwrap();
    SplitFractions { val: 0.0, test: 0.0 }.validate().unwrap();
    for (val, test) in [(-0.1, 0.1), (0.5, 0.5), (f32::NAN, 0.1), (0.1, f32::INFINITY)] {
        assert!(SplitFractions { val, test }.validate().is_err());
    }
}

#[test]
fn the_bundled_photos_load_whole() {
    let source = Source::bundled_photos();
    assert_eq!(source.classes(), ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    let set = load(&source, &Preprocessing::new(100, 100, 3, Fit::Stretch), 2).unwrap();
    let of = |class| (0..set.len()).filter(|&i| set.class(i) == class).count();
    assert!((0..10).all(|class| of(class) == 60) && set.skipped().is_empty());
}
