//! Sets of real files with one fault each.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use ocelli_datasets::Source;
use ocelli_engine::Pool;
use ocelli_testing::{encode, picture};
use tempfile::TempDir;

use super::*;
use crate::recipe::Recipe;

/// A folder to which images are added; each gets a picture that no other has.
struct Set {
    dir: TempDir,
    next: u32,
}

impl Set {
    fn new() -> Set {
        Set { dir: TempDir::new().unwrap(), next: 0 }
    }

    fn put(&self, name: &str, image: impl Into<DynamicImage>) {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, encode(image, ImageFormat::Png)).unwrap();
    }

    fn add(mut self, folder: &str, n: usize) -> Set {
        for _ in 0..n {
            self.put(&format!("{folder}/{}.png", self.next), picture(self.next, 8, 8));
            self.next += 1;
        }
        self
    }

    /// The picture of `seed` once more.
    fn copy(self, name: &str, seed: u32) -> Set {
        self.put(name, picture(seed, 8, 8));
        self
    }

    fn look(&self) -> Findings {
        look_at(self.dir.path(), Use { balance: Balance::None, channels_chosen: false, built_in: false })
    }
}

fn look_at(path: &Path, how: Use) -> Findings {
    let recipe = Recipe { size: Some((10, 10)), channels: Some(3), ..Recipe::default() };
    let stop = AtomicBool::new(false);
    let source = Source::open(path).unwrap();
    let room = crate::data::PixelRoom { memory: 1 << 30, cache: None };
    let settings = (0, &Pool::new(1).unwrap());
    let loaded = crate::data::load_all(&source, &recipe, settings, &room, &stop, &mut |_| Ok(())).unwrap();
    look(&loaded, how).unwrap()
}

/// The only warning, and no note.
#[track_caller]
fn warning(found: Findings) -> String {
    assert!(found.warnings.len() == 1 && found.notes.is_empty(), "{found:?}");
    found.warnings.into_iter().next().unwrap()
}

/// The only note, and no warning.
#[track_caller]
fn note(found: Findings) -> String {
    assert!(found.notes.len() == 1 && found.warnings.is_empty(), "{found:?}");
    found.notes.into_iter().next().unwrap()
}

#[test]
fn a_clean_set_is_not_talked_about() {
    assert_eq!(Set::new().add("a", 10).add("b", 12).look(), Findings::default());
}

#[test]
fn imbalance_names_the_classes_and_what_to_do_unless_it_was_done() {
    let set = Set::new().add("train/few", 10).add("train/some", 20).add("train/many", 51).add("val/few", 9);
    let text = warning(set.look());
    assert!(
        text.contains("many has 51 training images, few has 10;") && text.contains("balance = \"sampling\"")
    );
    for seed in 0..3 {
        let set = Set { next: 1000 * seed, ..Set::new() }.add("few", 10).add("many", 50);
        assert_eq!(set.look(), Findings::default());
        assert!(warning(set.add("many", 1).look()).contains("many has 51 images, few has 10;"));
    }
    let balanced = Use { balance: Balance::Weights, channels_chosen: false, built_in: false };
    assert!(note(look_at(set.dir.path(), balanced)).contains("class weights make up for it"));
}

#[test]
fn an_image_under_two_labels_is_shown_with_both() {
    let mut set = Set::new().add("cats", 10).add("dogs", 10);
    for i in 0..5 {
        set = set.copy(&format!("dogs/also-{i}.png"), i);
    }
    let text = warning(set.look());
    assert!(text.starts_with("5 images are in more than one class, e.g. cats/0.png (cats) and dogs/also-0"));
    assert_eq!(text.matches(" and dogs/").count(), EXAMPLES);
}

#[test]
fn images_of_two_declared_parts_are_told() {
    let set = Set::new().add("train/a", 8).add("train/b", 8).add("test/a", 2).add("test/b", 2);
    assert_eq!(set.look(), Findings::default());
    let text = warning(set.copy("test/a/again.png", 3).look());
    assert!(text.starts_with("1 image is declared both for training and for"), "{text}");
    assert!(text.contains("test/a/again.png (a) and train/a/3.png (a): the figures"), "{text}");
    // One of a hundred changes the figures by hardly anything.
    let set = Set::new().add("train/a", 8).add("train/b", 8).add("test/a", 50).add("test/b", 49);
    assert!(note(set.copy("test/a/again.png", 3).look()).ends_with("train/a/3.png (a)"));
}

#[test]
fn copies_in_a_class_are_a_note() {
    let set = Set::new().add("a", 10).add("b", 10).copy("a/x.png", 2).copy("a/y.png", 2).copy("b/z.png", 11);
    let text = note(set.look());
    assert!(text.starts_with("2 images are there more than once in a class, e.g. a/2.png (a) and a/x.png"));
}

#[test]
fn classes_of_few_images_are_a_note() {
    let set = Set::new().add("train/a", 5).add("train/b", 6).add("train/c", 2).add("val/a", 3);
    let text = note(set.look());
    assert!(text.starts_with("few training images: a (5), c (2); 5 a class gave"), "{text}");
}

#[test]
fn gray_images_in_colour_files_are_told_unless_channels_were_chosen() {
    // A scan: nearly gray, each pixel off by some levels.
    let gray = |seed: u32, off: u8| {
        let levels = picture(seed, 8, 8);
        RgbImage::from_fn(8, 8, |x, y| {
            let level = levels.get_pixel(x, y).0[0].min(200);
            Rgb([level, level + off, level + off / 2])
        })
    };
    let fill = |set: &Set, off, coloured: u32| {
        for i in 0..40 {
            let class = if i % 2 == 0 { "a" } else { "b" };
            let image = if i < coloured { picture(i, 8, 8) } else { gray(i, off) };
            set.put(&format!("{class}/{i}.png"), image);
        }
    };
    for (off, coloured, told) in
        [(0, 0, true), (GRAY_LEVELS, 0, true), (GRAY_LEVELS + 1, 0, false), (0, 2, true), (0, 3, false)]
    {
        let set = Set::new();
        fill(&set, off, coloured);
        let found = set.look();
        assert_eq!(found.warnings.len(), usize::from(told), "{off} {coloured}: {found:?}");
        assert!(found.warnings.iter().all(|text| text.contains("the setting `channels`")), "{found:?}");
        let chosen = Use { balance: Balance::None, channels_chosen: true, built_in: false };
        assert_eq!(look_at(set.dir.path(), chosen), Findings::default());
    }
}
