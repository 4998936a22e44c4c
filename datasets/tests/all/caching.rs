//! Pixels in cache files: the same ones, found again, made again where they are damaged.

use crate::helpers::{LIMITS, encode, message, put};
use crate::sets::{mixed_folder, pre};
use image::{ImageBuffer, ImageFormat, Luma};
use ocelli_datasets::{
    CacheFolder, CacheMade, DatasetError, Fit, ImageSet, LoadOptions, Preprocessing, Source,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use tempfile::TempDir;

fn load(
    source: &Source,
    memory: u64,
    cache: Option<&CacheFolder>,
    threads: usize,
) -> Result<ImageSet, DatasetError> {
    let stop = AtomicBool::new(false);
    let options = LoadOptions {
        threads,
        limits: LIMITS,
        max_bad: 0.05,
        memory,
        cache,
        progress: &|_, _| (),
        stop: &stop,
    };
    ImageSet::load(source, None, &pre(), &options)
}

fn made(set: &ImageSet) -> CacheMade {
    set.cache().expect("it did not fit in memory").made.clone()
}

fn assert_same(a: &ImageSet, b: &ImageSet) {
    assert_eq!((a.len(), a.skipped(), a.digest()), (b.len(), b.skipped(), b.digest()));
    let all: Vec<usize> = (0..a.len()).collect();
    assert_eq!(a.channel_stats(&all).unwrap(), b.channel_stats(&all).unwrap());
    for i in all {
        assert_eq!(a.prepared(i).unwrap(), b.prepared(i).unwrap(), "{}", a.name(i));
        assert_eq!((a.name(i), a.hash(i)), (b.name(i), b.hash(i)));
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.file_name().is_some_and(|name| name != "lock"));
    paths.sort();
    paths
}

/// A data set, its pixels in memory, and a folder for cache files.
fn fixture() -> (TempDir, Source, ImageSet, TempDir, CacheFolder) {
    let dir = mixed_folder();
    let source = Source::open(dir.path()).unwrap();
    let plain = load(&source, 1 << 30, None, 2).unwrap();
    let place = tempfile::tempdir().unwrap();
    let cache = CacheFolder::new(place.path().join("cache"));
    (dir, source, plain, place, cache)
}

#[test]
fn pixels_are_the_same_wherever_they_are_kept() {
    let (_dir, source, plain, place, _) = fixture();
    assert!(plain.cache().is_none());
    // Between nothing and all but one byte of what the pixels take.
    for (number, memory) in [0, 1, 4_000, 9_000, plain.pixel_bytes() - 1].into_iter().enumerate() {
        for threads in [1, 3] {
            let folder = place.path().join(format!("{number}-{threads}"));
            let cache = CacheFolder::new(&folder);
            let first = load(&source, memory, Some(&cache), threads).unwrap();
            assert_eq!(made(&first), CacheMade::New);
            assert!(first.pixel_bytes() <= memory);
            assert_same(&plain, &first);
            // More or less memory does not matter to whoever finds the file.
            let again = load(&source, memory / 2, Some(&cache), 4 - threads).unwrap();
            assert_eq!(made(&again), CacheMade::Earlier);
            assert_same(&plain, &again);
            assert_eq!(files(&folder).len(), 1);
        }
    }
    let fits =
        load(&source, plain.pixel_bytes(), Some(&CacheFolder::new(place.path().join("none"))), 2).unwrap();
    assert!(fits.cache().is_none() && !place.path().join("none").exists());
}

#[test]
fn without_a_place_for_the_rest_too_large_a_set_is_refused() {
    let (_dir, source, plain, ..) = fixture();
    // What 8-bit images would take is less than what these take.
    let narrow = 150 * pre().len() as u64;
    assert!(narrow < plain.pixel_bytes());
    for memory in [0, narrow - 1, narrow, plain.pixel_bytes() - 1] {
        assert!(message(load(&source, memory, None, 2)).contains("smaller image size"), "{memory}");
    }
}

#[test]
fn a_damaged_file_is_made_again() {
    let (_dir, source, plain, place, cache) = fixture();
    drop(load(&source, 0, Some(&cache), 2).unwrap());
    let path = files(&place.path().join("cache")).remove(0);
    let whole = fs::read(&path).unwrap();
    let changed = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let damages = [
        Vec::new(),
        b"noise".to_vec(),
        whole[..95].to_vec(),
        whole[..whole.len() / 2].to_vec(),
        whole[..whole.len() - 1].to_vec(),
        [&whole[..], b"more"].concat(),
        changed(0),
        changed(20),
        changed(44),
        changed(96),
        changed(whole.len() / 2),
        changed(whole.len() - 3),
    ];
    for bytes in damages {
        fs::write(&path, &bytes).unwrap();
        let set = load(&source, 3_000, Some(&cache), 2).unwrap();
        let CacheMade::Again { damage } = made(&set) else { panic!("{:?} of {}", set.cache(), bytes.len()) };
        assert!(damage.starts_with("it"), "{damage}");
        assert_same(&plain, &set);
        assert_eq!(fs::read(&path).unwrap().len(), whole.len());
        assert_eq!(made(&load(&source, 0, Some(&cache), 1).unwrap()), CacheMade::Earlier);
    }
}

#[test]
fn damage_under_way_is_an_error_of_the_image_that_it_met() {
    let (_dir, source, plain, place, cache) = fixture();
    let set = load(&source, 0, Some(&cache), 2).unwrap();
    let path = files(&place.path().join("cache")).remove(0);
    let whole = fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    bytes[96..whole.len() / 2].fill(0xaa);
    fs::write(&path, bytes).unwrap();
    let mut bad = 0;
    for i in 0..set.len() {
        match set.prepared(i) {
            Ok(pixels) => assert_eq!(pixels, plain.prepared(i).unwrap()),
            Err(error) => {
                assert!(matches!(error, DatasetError::CacheDamaged { .. }), "{error}");
                bad += 1;
            }
        }
    }
    assert!(bad > 0 && bad < set.len(), "{bad} of {}", set.len());
    fs::write(&path, &whole[..96]).unwrap();
    assert!(matches!(set.prepared(0), Err(DatasetError::CacheDamaged { .. })));
    assert!(set.channel_stats(&[0, 1, 2]).is_err());
}

#[test]
fn other_images_have_a_file_of_their_own() {
    let (dir, source, _, place, cache) = fixture();
    drop(load(&source, 0, Some(&cache), 2).unwrap());
    // The same number of images, one of them another picture.
    let pixel = |x, y| Luma([(x * y * 700) as u16]);
    let other = encode(ImageBuffer::<Luma<u16>, _>::from_fn(9, 9, pixel), ImageFormat::Png);
    put(dir.path(), "a/000.png", &other);
    let changed = Source::open(dir.path()).unwrap();
    let set = load(&changed, 0, Some(&cache), 2).unwrap();
    assert_eq!(made(&set), CacheMade::New);
    assert_same(&load(&changed, 1 << 30, None, 2).unwrap(), &set);
    assert_eq!(files(&place.path().join("cache")).len(), 2);
    // Names and classes are not in the file: they may change.
    fs::rename(dir.path().join("a"), dir.path().join("c")).unwrap();
    fs::rename(dir.path().join("b"), dir.path().join("a")).unwrap();
    fs::rename(dir.path().join("c"), dir.path().join("b")).unwrap();
    let renamed = load(&Source::open(dir.path()).unwrap(), 0, Some(&cache), 2).unwrap();
    assert_same(&load(&Source::open(dir.path()).unwrap(), 1 << 30, None, 2).unwrap(), &renamed);
}

#[test]
fn the_same_pixels_in_another_shape_are_another_image() {
    let arrays = |width: u32, height: u32| {
        let dir = tempfile::tempdir().unwrap();
        let mut images = vec![0, 0, 8, 3];
        for side in [2, height, width] {
            images.extend(side.to_be_bytes());
        }
        images.extend((0..2 * width * height).map(|value| (value * 3) as u8));
        fs::write(dir.path().join("train-images-idx3-ubyte"), images).unwrap();
        fs::write(dir.path().join("train-labels-idx1-ubyte"), [0, 0, 8, 1, 0, 0, 0, 2, 0, 1]).unwrap();
        dir
    };
    let place = tempfile::tempdir().unwrap();
    let cache = CacheFolder::new(place.path());
    for (width, height) in [(8, 4), (4, 8), (16, 2)] {
        let dir = arrays(width, height);
        let source = Source::open(dir.path()).unwrap();
        let set = load(&source, 0, Some(&cache), 1).unwrap();
        assert_eq!(made(&set), CacheMade::New, "{width}x{height}");
        assert_same(&load(&source, 1 << 30, None, 1).unwrap(), &set);
    }
}

#[test]
fn two_at_once_do_not_disturb_each_other_and_nothing_in_use_is_removed() {
    let (_dir, source, plain, place, cache) = fixture();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_same(&plain, &load(&source, 1_000, Some(&cache), 2).unwrap()));
        }
    });
    assert_eq!(files(&place.path().join("cache")).len(), 1);
    let set = load(&source, 0, Some(&cache), 2).unwrap();
    let entries = cache.entries().unwrap();
    assert!(entries.len() == 1 && entries[0].in_use && entries[0].bytes > plain.pixel_bytes(), "{entries:?}");
    assert_eq!(cache.clean().unwrap().len(), 1);
    assert_eq!(files(&place.path().join("cache")).len(), 1, "a file in use stays");
    drop(set);
    let cleaned = cache.clean().unwrap();
    assert!(!cleaned[0].0.in_use && cleaned[0].1.is_ok());
    assert!(files(&place.path().join("cache")).is_empty() && cache.entries().unwrap().is_empty());
    let none = CacheFolder::new(place.path().join("nowhere"));
    assert!(none.entries().unwrap().is_empty() && none.clean().unwrap().is_empty());
    assert!(!place.path().join("nowhere").exists());
}

#[test]
fn what_a_kill_left_is_removed_by_the_next_and_other_files_are_not_touched() {
    let (_dir, source, plain, place, cache) = fixture();
    let folder = place.path().join("cache");
    put(&folder, ".new.tmp-4000000-0", b"half a file");
    put(&folder, "notes.txt", b"mine");
    let set = load(&source, 0, Some(&cache), 2).unwrap();
    assert_same(&plain, &set);
    let names: Vec<_> = files(&folder);
    assert!(names.len() == 2 && names.contains(&folder.join("notes.txt")), "{names:?}");
    drop(set);
    cache.clean().unwrap();
    assert_eq!(files(&folder), [folder.join("notes.txt")]);
}

#[test]
fn files_that_are_not_to_stay_go_with_their_set() {
    let (_dir, source, plain, place, _) = fixture();
    let folder = place.path().join("passing");
    let set = load(&source, 2_000, Some(&CacheFolder::passing(&folder)), 2).unwrap();
    assert_eq!((set.cache().unwrap().path.clone(), files(&folder).len()), (None, 1));
    assert_same(&plain, &set);
    drop(set);
    assert!(files(&folder).is_empty());
}

#[test]
fn a_folder_that_cannot_be_is_an_error_with_its_name() {
    let (_dir, source, _, place, _) = fixture();
    put(place.path(), "file", b"in the way");
    let cache = CacheFolder::new(place.path().join("file/cache"));
    let error = load(&source, 0, Some(&cache), 2).err().unwrap();
    let DatasetError::CacheWrite { path, bytes, .. } = &error else { panic!("{error}") };
    assert_eq!((path, *bytes), (&place.path().join("file/cache"), 150 * pre().len() as u64));
    assert!(error.to_string().contains("cannot write"));
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_found_before_anything_is_decoded() {
    // More than any disk holds: 70,000 images of 4096x4096 pixels.
    let place = tempfile::tempdir().unwrap();
    let cache = CacheFolder::new(place.path());
    let stop = AtomicBool::new(false);
    let options = LoadOptions {
        threads: 2,
        limits: LIMITS,
        max_bad: 0.05,
        memory: 1 << 20,
        cache: Some(&cache),
        progress: &|_, _| panic!("nothing is decoded"),
        stop: &stop,
    };
    let huge = Preprocessing::new(4096, 4096, 3, Fit::Stretch);
    let error = ImageSet::load(&Source::bundled(), None, &huge, &options).err().unwrap();
    assert!(matches!(error, DatasetError::CacheWrite { .. }), "{error}");
    assert!(files(place.path()).is_empty(), "{:?}", files(place.path()));
}
