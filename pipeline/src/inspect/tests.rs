//! Real files with one thing wrong each, as `ocelli inspect` sees them.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, GrayImage, ImageBuffer, ImageFormat, Luma, Rgb, RgbImage};
use ocelli_datasets::UploadLimits;
use ocelli_engine::Pool;
use ocelli_testing::{encode, exif, picture, zip};
use tempfile::TempDir;

use super::*;
use crate::compute::Compute;

/// A folder to which images are added; each gets a picture that no other has.
struct Set {
    dir: TempDir,
    next: u32,
}

impl Set {
    fn new() -> Set {
        Set { dir: TempDir::new().unwrap(), next: 0 }
    }

    fn write(self, name: &str, bytes: &[u8]) -> Set {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self
    }

    fn put(self, name: &str, image: impl Into<DynamicImage>) -> Set {
        self.write(name, &encode(image, ImageFormat::Png))
    }

    fn add(mut self, folder: &str, n: u32) -> Set {
        for _ in 0..n {
            let (name, image) = (format!("{folder}/{}.png", self.next), picture(self.next, 24, 16));
            self.next += 1;
            self = self.put(&name, image);
        }
        self
    }

    /// The picture of `seed` once more, as the same file.
    fn same(self, name: &str, seed: u32) -> Set {
        self.put(name, picture(seed, 24, 16))
    }

    /// The picture of `seed` once more, in another size and format.
    fn near(self, name: &str, seed: u32) -> Set {
        let larger =
            image::imageops::resize(&picture(seed, 24, 16), 60, 40, image::imageops::FilterType::Triangle);
        self.write(name, &jpeg(&larger))
    }

    fn look(&self) -> Inspection {
        self.look_with(&InspectOptions { suspects: Suspects::None, ..options() })
    }

    fn look_with(&self, options: &InspectOptions) -> Inspection {
        let data = Data::Path(self.dir.path().to_owned());
        inspect(&data, options, &AtomicBool::new(false), &mut |_| {}).unwrap()
    }
}

fn options() -> InspectOptions {
    InspectOptions { compute: Compute::on(2), ..InspectOptions::default() }
}

fn jpeg(image: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 90).encode_image(image).unwrap();
    bytes
}

/// Two classes with nothing wrong.
fn clean() -> Set {
    Set::new().add("cats", 10).add("dogs", 12)
}

/// The only finding, of a kind.
#[track_caller]
fn only(found: &Inspection, kind: Kind, severity: Severity) -> &Finding {
    let [finding] = found.findings.as_slice() else { panic!("{:#?}", found.findings) };
    assert_eq!((finding.kind, finding.severity), (kind, severity), "{finding:#?}");
    assert_eq!(finding.files.len(), finding.files_total);
    assert!(!finding.text.is_empty() && !finding.advice.is_empty());
    finding
}

fn names(finding: &Finding) -> Vec<&str> {
    finding.files.iter().map(|file| file.name.as_str()).collect()
}

#[test]
fn a_clean_set_is_counted_and_has_no_findings() {
    let found = clean().look();
    assert_eq!(found.findings, []);
    assert_eq!((found.kind.as_str(), found.files, found.images), ("class folders", 22, 22));
    assert!(found.notes[0].starts_with("read as"), "{:?}", found.notes);
    let classes: Vec<(&str, usize)> = found.classes.iter().map(|c| (c.name.as_str(), c.images)).collect();
    assert_eq!(classes, [("cats", 10), ("dogs", 12)]);
    assert_eq!(found.splits.in_order(), [0, 0, 0, 22]);
    assert_eq!((found.width.min, found.width.median, found.width.max), (24, 24, 24));
    assert_eq!(found.height.histogram, [Bin { from: 16, to: 16, images: 22 }]);
    assert_eq!(found.formats, BTreeMap::from([("PNG".to_owned(), 22)]));
    assert_eq!(found.channels, BTreeMap::from([("rgb".to_owned(), 22)]));
    assert_eq!(found.bits, BTreeMap::from([("8".to_owned(), 22)]));
    assert_eq!(found.label_search.method, Method::None);
    assert!(found.label_search.note.contains("not asked for"));
}

#[test]
fn depth_colours_and_turned_images_are_counted() {
    let deep: ImageBuffer<Luma<u16>, Vec<u16>> =
        ImageBuffer::from_fn(20, 30, |x, y| Luma([(x * 1500 + y * y * 40) as u16]));
    let turned = |orientation| {
        let block = exif::block(orientation, exif::Kind::Short, true);
        exif::jpeg_with_exif(&jpeg(&picture(900 + orientation, 40, 24)), &block)
    };
    let set = clean()
        .put("cats/deep.png", deep)
        .write("dogs/turned.jpg", &turned(6))
        .write("dogs/up.jpg", &turned(1));
    let found = set.look();
    assert_eq!(found.findings, []);
    assert_eq!(found.rotated, 1);
    assert_eq!((found.channels["gray"], found.channels["rgb"]), (1, 24));
    assert_eq!((found.bits["8"], found.bits["16"]), (24, 1));
    assert_eq!((found.formats["PNG"], found.formats["JPEG"]), (23, 2));
    // 40 x 24 stored, upright 24 x 40.
    assert_eq!((found.height.max, found.width.max), (40, 40));
}

#[test]
fn unreadable_files_are_named_with_their_reasons() {
    let whole = encode(picture(800, 24, 16), ImageFormat::Png);
    let set = clean().add("dogs", 20).write("cats/cut.png", &whole[..whole.len() / 2]);
    let found = set.look();
    let finding = only(&found, Kind::Unreadable, Severity::Warning);
    assert_eq!(names(finding), ["cats/cut.png"]);
    assert_eq!(finding.files[0].detail.as_deref(), Some("PNG file is cut off before its end"));
    assert_eq!((found.files, found.images), (43, 42));
    // Training accepts one in twenty.
    let set = set.write("cats/text.jpg", b"hello").write("cats/empty.jpg", b"");
    let found = set.look();
    let finding = only(&found, Kind::Unreadable, Severity::Problem);
    assert_eq!((finding.count, found.problems), (3, 1));
}

#[test]
fn names_that_say_another_format_are_noted() {
    let found = clean().same("cats/photo.jpg", 700).look();
    let finding = only(&found, Kind::WrongExtension, Severity::Note);
    assert_eq!(names(finding), ["cats/photo.jpg"]);
    assert_eq!(finding.files[0].detail.as_deref(), Some("a PNG file called .jpg"));
}

#[test]
fn the_same_file_twice_in_a_class_is_a_note() {
    let found = clean().same("cats/x.png", 2).same("cats/y.png", 2).same("dogs/z.png", 11).look();
    let finding = only(&found, Kind::ExactDuplicates, Severity::Note);
    assert_eq!(names(finding), ["cats/2.png", "cats/x.png", "cats/y.png", "dogs/11.png", "dogs/z.png"]);
    let groups: Vec<usize> = finding.files.iter().map(|file| file.group.unwrap()).collect();
    assert_eq!((groups, finding.count), (vec![1, 1, 1, 2, 2], 2));
    assert_eq!(finding.files[1].detail.as_deref(), Some("the same file as cats/2.png"));
}

#[test]
fn nearly_the_same_image_twice_in_a_class_is_a_note() {
    let found = clean().near("cats/x.jpg", 2).look();
    let finding = only(&found, Kind::NearDuplicates, Severity::Note);
    assert_eq!(names(finding), ["cats/2.png", "cats/x.jpg"]);
    assert!(
        finding.files[1].detail.as_ref().unwrap().starts_with("nearly the same as cats/2.png (correlation ")
    );
    assert!(finding.advice.contains("drawn into training and test"));
}

#[test]
fn a_long_chain_of_images_that_are_like_the_next_one_is_no_group_of_copies() {
    let ends = [picture(1, 24, 16), picture(2, 24, 16)];
    let between = |step: u32, steps: u32| {
        RgbImage::from_fn(24, 16, |x, y| {
            let [a, b] = [0, 1].map(|end| ends[end].get_pixel(x, y).0);
            let mix = |c: usize| (u32::from(a[c]) * (steps - step) + u32::from(b[c]) * step) / steps;
            Rgb([0, 1, 2].map(|c| mix(c) as u8))
        })
    };
    for (steps, groups) in [(60, 1), (150, 0)] {
        let mut set = clean();
        for step in 0..steps {
            set = set.put(&format!("cats/step{step:03}.png"), between(step, steps));
        }
        let found = set.look();
        let near = found.findings.iter().filter(|finding| finding.kind == Kind::NearDuplicates);
        assert_eq!(near.map(|finding| finding.count).sum::<usize>(), groups, "{steps}");
    }
}

#[test]
fn images_of_two_splits_are_a_leak_as_the_same_file_or_nearly() {
    let set = Set::new().add("train/cats", 10).add("train/dogs", 10).add("test/cats", 6).add("test/dogs", 6);
    assert_eq!(set.look().findings, []);
    let set = set.same("test/cats/same.png", 3);
    let found = set.look();
    let finding = only(&found, Kind::Leak, Severity::Problem);
    assert!(
        finding.text.starts_with("1 image is in more than one split, as the same file"),
        "{}",
        finding.text
    );
    assert_eq!(names(finding), ["test/cats/same.png", "train/cats/3.png"]);
    assert_eq!(finding.files[0].split.as_deref(), Some("test"));
    let set = set.near("test/dogs/near.jpg", 12);
    let found = set.look();
    let finding = only(&found, Kind::Leak, Severity::Problem);
    assert!(finding.text.contains("1 as the same file, the others nearly"), "{}", finding.text);
    assert_eq!((finding.count, finding.files.len()), (2, 4));
    // Where nothing else is declared, what is not declared is trained on.
    let found = Set::new().add("cats", 8).add("dogs", 8).look();
    assert_eq!(found.findings, []);
}

#[test]
fn one_file_under_two_labels_is_a_problem_and_nearly_the_same_a_warning() {
    let found = clean().same("dogs/also.png", 4).look();
    let finding = only(&found, Kind::ConflictingLabels, Severity::Problem);
    assert_eq!(finding.text, "1 image is in more than one class");
    assert_eq!(names(finding), ["cats/4.png", "dogs/also.png"]);
    assert_eq!(finding.files[1].classes, ["dogs"]);

    let found = clean().near("dogs/also.jpg", 4).look();
    let finding = only(&found, Kind::NearConflictingLabels, Severity::Warning);
    assert_eq!(names(finding), ["cats/4.png", "dogs/also.jpg"]);
}

#[test]
fn labels_of_a_table_with_several_each_are_compared_as_sets() {
    let rows = |last: &str| {
        let mut table = "image,labels\n".to_owned();
        for i in 0..12 {
            table += &format!("{i}.png,{}\n", ["red|round", "round", "red"][i % 3]);
        }
        table + &format!("same.png,{last}\n")
    };
    for (last, kind, severity) in [
        ("round|red", Kind::ExactDuplicates, Severity::Note),
        ("red", Kind::ConflictingLabels, Severity::Problem),
    ] {
        let mut set = Set::new();
        for i in 0..12 {
            set = set.same(&format!("{i}.png"), i);
        }
        let set = set.same("same.png", 0).write("labels.csv", rows(last).as_bytes());
        let found = set.look_with(&options());
        assert!(found.multi_label);
        let finding = only(&found, kind, severity);
        assert_eq!(names(finding), ["0.png", "same.png"]);
        assert_eq!(finding.files[0].classes.len(), 2);
        assert!(found.label_search.note.contains("several labels each"), "{}", found.label_search.note);
    }
}

#[test]
fn classes_without_images_in_a_split_are_named() {
    let set = Set::new().add("train/cats", 10).add("train/dogs", 10).add("test/cats", 6);
    let found = set.look();
    let finding = only(&found, Kind::ClassMissingFromSplit, Severity::Warning);
    assert_eq!((finding.classes.as_slice(), finding.count), (&["dogs".to_owned()][..], 1));
    assert_eq!(finding.text, "1 class has no image in test: dogs");

    let set = Set::new().add("train/cats", 10).add("train/dogs", 10).add("test/cats", 6).add("test/dogs", 6);
    let found = set.add("test/owls", 6).look();
    let finding = only(&found, Kind::ClassMissingFromSplit, Severity::Problem);
    assert_eq!(finding.text, "1 class has no image in train: owls");
}

#[test]
fn small_and_unequal_classes_are_told() {
    let found = Set::new().add("cats", 5).add("dogs", 25).add("owls", 1).look();
    let kinds: Vec<Kind> = found.findings.iter().map(|finding| finding.kind).collect();
    assert_eq!(kinds, [Kind::SingleImageClass, Kind::Imbalance, Kind::FewImages]);
    assert_eq!(found.findings[0].classes, ["owls"]);
    assert_eq!(found.findings[1].classes, ["dogs", "owls"]);
    assert_eq!(found.findings[2].text, "1 class has few training images: cats (5)");
    assert_eq!(Set::new().add("cats", 6).add("dogs", 30).look().findings, []);
    let found = Set::new().add("cats", 6).add("dogs", 31).look();
    only(&found, Kind::Imbalance, Severity::Warning);
}

#[test]
fn one_class_and_classes_of_unreadable_files_are_problems() {
    let found = Set::new().add("cats", 10).add("_unknown_", 8).look();
    let finding = only(&found, Kind::OneClass, Severity::Problem);
    assert_eq!(finding.classes, ["cats"]);

    let found = clean().add("cats", 30).add("dogs", 30).write("owls/1.png", b"broken").look();
    let kinds: Vec<Kind> = found.findings.iter().map(|finding| finding.kind).collect();
    assert_eq!(kinds, [Kind::EmptyClass, Kind::Unreadable]);
    assert_eq!(found.findings[0].classes, ["owls"]);
}

#[test]
fn images_of_one_colour_are_noted_and_are_no_copies_of_each_other() {
    let white = |x: u32| RgbImage::from_fn(24, 16, |_, _| Rgb([255, 255, 250 - x as u8]));
    let found = clean().put("cats/white.png", white(0)).put("dogs/white.png", white(1)).look();
    let finding = only(&found, Kind::Blank, Severity::Note);
    assert_eq!(names(finding), ["cats/white.png", "dogs/white.png"]);
}

#[test]
fn gray_images_in_colour_files_are_noted() {
    let gray = |seed: u32| {
        let levels = picture(seed, 24, 16);
        RgbImage::from_fn(24, 16, |x, y| Rgb([levels.get_pixel(x, y).0[0]; 3]))
    };
    let mut set = Set::new();
    for i in 0..20 {
        set = set.put(&format!("{}/{i}.png", ["cats", "dogs"][i as usize % 2]), gray(i));
    }
    let found = set.look();
    assert_eq!(only(&found, Kind::GrayInColour, Severity::Note).count, 20);
    assert_eq!(set.add("cats", 5).look().findings, []);
    // Files that are gray are read as such: nothing to say.
    let mut set = Set::new();
    for i in 0..20 {
        let image: GrayImage = DynamicImage::from(gray(i)).into_luma8();
        set = set.put(&format!("{}/{i}.png", ["cats", "dogs"][i as usize % 2]), image);
    }
    assert_eq!(set.look().findings, []);
}

/// Stripes down or across, no two alike.
fn striped(down: bool, seed: u32) -> RgbImage {
    let width = 5 + seed % 7;
    RgbImage::from_fn(64, 64, |x, y| {
        let at = (if down { x } else { y } + seed) / width;
        let shade =
            if at.is_multiple_of(2) { 40 + (seed * 37 % 60) as u8 } else { 170 + (seed * 53 % 80) as u8 };
        Rgb([shade, shade.saturating_sub((seed % 11) as u8 * 3), shade / 2 + 40])
    })
}

/// Stripes down and across in two classes, two of each in the other one.
fn mislabelled() -> Set {
    let mut set = Set::new();
    for seed in 0..20 {
        let classes = if seed < 2 { ["across", "down"] } else { ["down", "across"] };
        set = set.put(&format!("{}/{seed:02}-d.png", classes[0]), striped(true, seed));
        set = set.put(&format!("{}/{seed:02}-a.png", classes[1]), striped(false, seed));
    }
    set
}

#[test]
fn wrong_labels_are_found_by_features_with_reasons() {
    let set = mislabelled();
    let found = set.look_with(&options());
    assert_eq!((found.label_search.method, found.label_search.images), (Method::Features, 40));
    assert_eq!(found.label_search.model.as_deref(), Some("imagenet"));
    let finding = found.findings.iter().find(|finding| finding.kind == Kind::SuspiciousLabels).unwrap();
    let mut first: Vec<&str> = names(finding)[..4].to_vec();
    first.sort_unstable();
    assert_eq!(first, ["across/00-d.png", "across/01-d.png", "down/00-a.png", "down/01-a.png"]);
    for file in &finding.files[..4] {
        assert_ne!(file.suggested.as_deref(), Some(file.classes[0].as_str()));
        assert!(file.score.unwrap() > 0.2, "{file:?}");
        let reason = file.detail.as_ref().unwrap();
        assert!(reason.contains("looks like") && reason.contains("of its 5 nearest images"), "{reason}");
    }
    let scores: Vec<f32> = finding.files.iter().map(|file| file.score.unwrap()).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    // The same whatever computes it.
    assert_eq!(set.look_with(&InspectOptions { compute: Compute::on(1), ..options() }), found);
}

#[test]
fn a_sample_and_no_search_are_said_to_be_such() {
    let set = mislabelled();
    let found = set.look_with(&InspectOptions { suspects: Suspects::Most(20), ..options() });
    assert_eq!((found.label_search.images, found.label_search.of), (20, 40));
    assert!(
        found.label_search.note.starts_with("20 of 40 images were looked at"),
        "{}",
        found.label_search.note
    );
    // Eight images are four of each class: too few for five folds.
    let found = set.look_with(&InspectOptions { suspects: Suspects::Most(8), ..options() });
    assert_eq!(found.label_search.method, Method::None);
    assert!(found.label_search.note.contains("two classes of 5"), "{}", found.label_search.note);
}

#[test]
fn pictures_are_made_where_they_are_wanted_and_the_page_shows_them() {
    let set = clean().same("cats/<img src=x onerror=alert(1)>.png", 2).write("dogs/broken.png", b"no");
    let found = set.look_with(&InspectOptions { thumbnails: 1, suspects: Suspects::None, ..options() });
    let duplicates = found.findings.iter().find(|finding| finding.kind == Kind::ExactDuplicates).unwrap();
    let made: Vec<bool> = duplicates.files.iter().map(|file| file.thumbnail.is_some()).collect();
    assert_eq!(made, [true, false]);
    let unreadable = found.findings.iter().find(|finding| finding.kind == Kind::Unreadable).unwrap();
    assert_eq!(unreadable.files[0].thumbnail, None);

    let page = found.page();
    assert_eq!(page.matches("<img ").count(), 1);
    assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;.png") && !page.contains("<img src=x"));
    for text in ["dogs/broken.png", "What to do", "Labels were not searched", "cats", "read as"] {
        assert!(page.contains(text), "{text}");
    }
}

#[test]
fn an_archive_that_was_sent_is_inspected_by_the_same_rules() {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for i in 0..20 {
        let class = ["cats", "dogs"][i as usize % 2];
        files.push((format!("{class}/{i}.png"), encode(picture(i, 24, 16), ImageFormat::Png)));
    }
    files.push(("cats/again.png".to_owned(), files[0].1.clone()));
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.zip");
    fs::write(&path, zip::stored(&files)).unwrap();
    let pool = Pool::new(2).unwrap();
    let limits = UploadLimits::default();
    let options = InspectOptions { suspects: Suspects::Most(100), thumbnails: 4, ..options() };
    let found = inspect_upload(&path, (&limits, &pool), &options, &AtomicBool::new(false)).unwrap();
    let duplicates = found.findings.iter().find(|finding| finding.kind == Kind::ExactDuplicates).unwrap();
    assert_eq!(names(duplicates), ["cats/0.png", "cats/again.png"]);
    assert!(duplicates.files.iter().all(|file| file.thumbnail.is_some()));
    assert_eq!(found.label_search.images, 20);

    // Passes over the archive are counted each by itself: this limit lets it through once.
    let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    let tight = UploadLimits { max_total_bytes: bytes as u64, ..limits };
    assert!(inspect_upload(&path, (&tight, &pool), &options, &AtomicBool::new(false)).is_ok());
    let less = UploadLimits { max_total_bytes: bytes as u64 - 1, ..limits };
    let refused = inspect_upload(&path, (&less, &pool), &options, &AtomicBool::new(false));
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
    let stopped = inspect_upload(&path, (&limits, &pool), &options, &AtomicBool::new(true));
    assert!(matches!(stopped, Err(StoreError::Stopped)), "{stopped:?}");
}

#[test]
fn a_model_that_knows_the_classes_judges_them_itself() {
    // Clothes under their names, one sneaker called a bag.
    let sneaker = include_bytes!("../../tests/fixtures/sneaker.png");
    let bundled = ocelli_datasets::Source::bundled();
    let mut set = Set::new().write("Bag/wrong.png", sneaker);
    for index in 0..60 {
        let item = &bundled.items()[index];
        let (image, _) = bundled.image(index, &DecodeLimits::default()).unwrap();
        let png = ocelli_datasets::thumbnail(&image, 28).unwrap();
        let class = bundled.classes()[item.class() as usize].replace('/', "-");
        set = set.write(&format!("{class}/{index}.png"), &png);
    }
    let model = Some(Path::new("fashion-mnist").to_owned());
    let found = set.look_with(&InspectOptions { model, ..options() });
    assert_eq!(found.label_search.method, Method::Model);
    let finding = found.findings.iter().find(|finding| finding.kind == Kind::SuspiciousLabels).unwrap();
    let wrong = finding.files.iter().find(|file| file.name == "Bag/wrong.png").unwrap();
    assert_eq!(wrong.suggested.as_deref(), Some("Sneaker"));
    assert!(wrong.score.unwrap() > 0.9, "{wrong:?}");

    // Of a model with other classes, the features are used.
    let model = Some(Path::new("fashion-mnist").to_owned());
    let found = mislabelled().look_with(&InspectOptions { model, ..options() });
    assert_eq!(found.label_search.method, Method::Features);
    assert_eq!(found.label_search.model.as_deref(), Some("fashion-mnist"));
}

#[test]
fn nothing_is_written_into_the_data() {
    let set = mislabelled();
    let files = |path: &Path| {
        let mut all: Vec<_> = walk(path);
        all.sort();
        all
    };
    let before = files(set.dir.path());
    set.look_with(&InspectOptions { thumbnails: 3, ..options() });
    assert_eq!(files(set.dir.path()), before);
}

fn walk(path: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(
            |path| if path.is_dir() { walk(&path) } else { vec![(path.clone(), fs::read(&path).unwrap())] },
        )
        .collect()
}
