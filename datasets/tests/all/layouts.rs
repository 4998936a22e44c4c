//! Folders: which layout is seen, what is ignored, what is refused.

use crate::helpers::{LIMITS, folder_of, load, message, png, put, summary};
use ocelli_datasets::{DatasetError, Fit, Preprocessing, Source, Split};
use std::fs;
use std::path::Path;

#[test]
fn class_folders_with_nesting_junk_and_strange_files() {
    let dir = folder_of(&["dogs/1.png", "cats/b.png", "cats/2020/summer/a.JPG", "cats/no-extension"]);
    let root = dir.path();
    for junk in [".DS_Store", "cats/.hidden.png", "cats/Thumbs.db", "__MACOSX/cats/b.png", ".git/x.png"] {
        put(root, junk, b"junk");
    }
    put(root, "cats/phone.heic", b"\0\0\0\x18ftypheic\0\0\0\0");
    put(root, "cats/phone2.HEIC", b"\0\0\0\x18ftypheic\0\0\0\0");
    put(root, "dogs/notes.txt", b"about dogs");
    put(root, "loose.png", &png(77));
    fs::create_dir(root.join("birds")).unwrap();

    let source = Source::open(root).unwrap();
    assert_eq!(
        (source.kind(), source.classes()),
        ("class folders", ["cats", "dogs"].map(str::to_owned).as_slice())
    );
    let names: Vec<&str> = source.items().iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["cats/2020/summer/a.JPG", "cats/b.png", "cats/no-extension", "dogs/1.png"]);
    assert!(source.items().iter().all(|i| i.split.is_none()));
    let notes = source.notes().join("\n");
    for expected in [
        "left out: 2 HEIC files, convert to JPEG first: cats/phone.heic, cats/phone2.HEIC",
        "left out: 1 other file: dogs/notes.txt",
        "left out: 1 image without a label in no folder (e.g. loose.png)",
        "folder birds/ is empty",
        "5 hidden or system files ignored",
    ] {
        assert!(notes.contains(expected), "{notes}\nlacks: {expected}");
    }
}

#[test]
fn class_ids_follow_natural_order() {
    let dir = folder_of(&["class10/a.png", "class2/a.png", "class1/a.png", "Zebra/a.png", "ant/a.png"]);
    assert_eq!(Source::open(dir.path()).unwrap().classes(), ["Zebra", "ant", "class1", "class2", "class10"]);
}

#[test]
fn split_folders_in_all_spellings() {
    for (train, val, test) in
        [("train", "val", "test"), ("Train", "valid", "Test"), ("training", "validation", "testing")]
    {
        let names = [
            format!("{train}/a/1.png"),
            format!("{train}/b/1.png"),
            format!("{val}/a/2.png"),
            format!("{test}/b/2.png"),
        ];
        let dir = folder_of(&names.each_ref().map(String::as_str));
        let source = Source::open(dir.path()).unwrap();
        assert_eq!((source.kind(), source.classes().len()), ("split folders", 2));
        let mut splits: Vec<_> = source.items().iter().map(|i| i.split.unwrap()).collect();
        splits.sort();
        assert_eq!(splits, [Split::Train, Split::Train, Split::Val, Split::Test]);
        let notes = source.notes().join("\n");
        assert!(
            notes.contains("val has no images of b") && notes.contains("test has no images of a"),
            "{notes}"
        );
    }
}

#[test]
fn a_class_may_be_called_train() {
    let dir = folder_of(&["train/1.png", "bus/1.png", "plane/1.png"]);
    assert_eq!(Source::open(dir.path()).unwrap().classes(), ["bus", "plane", "train"]);
    // Unlabelled test images beside split folders are not a class.
    let dir = folder_of(&["train/a/1.png", "train/b/1.png", "test/7.png", "test/8.png"]);
    let source = Source::open(dir.path()).unwrap();
    assert_eq!((source.kind(), source.items().len()), ("split folders", 2));
    assert!(
        source.notes()[0].contains("left out: 2 images without a label in test/"),
        "{:?}",
        source.notes()
    );
    // Folders beside train and val are left out.
    let dir = folder_of(&["train/a/1.png", "train/b/1.png", "val/a/2.png", "val/b/2.png", "raw/x/9.png"]);
    assert_eq!(Source::open(dir.path()).unwrap().classes(), ["a", "b"]);
}

#[test]
fn wrapping_folders_are_stepped_over() {
    let dir = folder_of(&["photos/v1/cats/1.png", "photos/v1/dogs/1.png"]);
    let source = Source::open(dir.path()).unwrap();
    assert_eq!(source.classes(), ["cats", "dogs"]);
    assert_eq!(source.notes()[0], "read as class folders in photos/v1/; 2 classes");
    let dir = folder_of(&["data/train/a/1.png", "data/train/b/1.png", "data/test/a/2.png"]);
    assert_eq!(Source::open(dir.path()).unwrap().kind(), "split folders");
}

#[test]
fn refusals_say_what_to_do() {
    let cases: [(&[&str], &str); 3] = [
        (&["cats/1.png", "cats/2.png"], "only one class found (\"cats\")"),
        (&[], "no images found"),
        (&["1.png", "2.png", "3.png"], "3 images without a label in no folder (e.g. 1.png)"),
    ];
    for (names, expected) in cases {
        let dir = folder_of(names);
        let text = message(Source::open(dir.path()));
        assert!(text.contains(expected) && text.contains("photos/cats/ and photos/dogs/"), "{text}");
    }
    let text = message(Source::open(Path::new("no/such/place")));
    assert!(text.contains("no/such/place: no such file or folder"), "{text}");

    let dir = folder_of(&["one.png"]);
    put(dir.path(), "notes.txt", b"hello");
    for name in ["one.png", "notes.txt"] {
        assert!(message(Source::open(&dir.path().join(name))).contains("not a data set; give a folder"));
    }
}

#[test]
fn one_class_is_enough_for_evaluation() {
    let dir = folder_of(&["cats/1.png", "cats/2.png"]);
    assert_eq!(Source::open_any(dir.path()).unwrap().classes(), ["cats"]);
}

#[cfg(unix)]
#[test]
fn links_are_followed_but_never_in_circles() {
    use std::os::unix::fs::symlink;
    let dir = folder_of(&["photos/cats/1.png", "elsewhere/1.png", "elsewhere/2.png"]);
    let root = dir.path();
    symlink(root.join("elsewhere"), root.join("photos/dogs")).unwrap();
    symlink(root.join("elsewhere/2.png"), root.join("photos/cats/linked.png")).unwrap();
    symlink(root.join("photos"), root.join("photos/cats/loop")).unwrap();
    symlink(root, root.join("elsewhere/up")).unwrap();
    symlink(root.join("nowhere.png"), root.join("photos/cats/dangling.png")).unwrap();
    let source = Source::open(&root.join("photos")).unwrap();
    let names: Vec<&str> = source.items().iter().map(|i| i.name.as_str()).collect();
    assert!(names.contains(&"dogs/1.png") && names.contains(&"cats/linked.png"), "{names:?}");
    assert!(source.notes().iter().any(|n| n.contains("leads back")), "{:?}", source.notes());
    let dangling = names.iter().position(|n| *n == "cats/dangling.png").unwrap();
    assert!(source.image(dangling, &LIMITS).unwrap_err().to_string().starts_with("cannot read"));
}

#[test]
fn names_are_safe_for_folders() {
    let dir = tempfile::tempdir().unwrap();
    for (folder, expected) in [("my photos!", "my-photos"), ("v1.2", "v1.2"), ("..x", "x"), ("ünï", "n")] {
        for class in ["a", "b"] {
            put(dir.path(), &format!("{folder}/{class}/1.png"), &png(1));
        }
        assert_eq!(Source::open(&dir.path().join(folder)).unwrap().name(), expected);
        assert_eq!(Source::open(&dir.path().join(folder).join(".")).unwrap().name(), expected);
    }
}

#[test]
fn the_native_shape_is_told_from_headers() {
    let dir = folder_of(&["a/1.png", "a/2.png", "b/3.png"]);
    let shape = Source::open(dir.path()).unwrap().native_shape();
    assert_eq!((shape.size, shape.channels, shape.median), (Some((6, 4)), 3, (6, 4)));
    let gray = image::GrayImage::from_pixel(60, 40, image::Luma([9]));
    put(dir.path(), "b/4.png", &crate::helpers::encode(gray, image::ImageFormat::Png));
    put(dir.path(), "b/5.png", b"broken");
    let shape = Source::open(dir.path()).unwrap().native_shape();
    assert_eq!((shape.size, shape.channels, shape.median), (None, 3, (6, 4)));
}

#[test]
fn bad_images_are_skipped_and_named_up_to_a_limit() {
    let names: Vec<String> =
        (0..40).map(|i| format!("{}/{i}.png", if i % 2 == 0 { "a" } else { "b" })).collect();
    let dir = folder_of(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let pre = Preprocessing::new(4, 4, 3, Fit::Stretch);
    put(dir.path(), "a/text.jpg", b"this is no picture");
    put(dir.path(), "b/empty.png", b"");
    let set = load(&Source::open(dir.path()).unwrap(), &pre, 2).unwrap();
    assert_eq!(set.len(), 40);
    let skipped: Vec<(&str, &str)> =
        set.skipped().iter().map(|s| (s.name.as_str(), s.reason.as_str())).collect();
    assert_eq!(skipped[0].0, "a/text.jpg");
    assert!(skipped[0].1.contains("looks like text"));
    assert_eq!(skipped[1], ("b/empty.png", "empty file"));
    assert_eq!(fs::read(dir.path().join("a/text.jpg")).unwrap(), b"this is no picture");

    put(dir.path(), "b/third.png", &png(3)[..20]);
    let result = load(&Source::open(dir.path()).unwrap(), &pre, 2);
    assert!(matches!(result, Err(DatasetError::TooManyBad { bad: 3, total: 43, .. })));
    let text = message(result);
    assert!(text.contains("3 of 43 images are unreadable (at most 5% accepted)"), "{text}");
    assert!(text.contains("a/text.jpg: not an image") && text.contains("b/empty.png: empty file"), "{text}");
}

#[test]
fn a_small_set_may_have_one_bad_image() {
    let dir = folder_of(&["a/1.png", "b/1.png"]);
    let pre = Preprocessing::new(4, 4, 3, Fit::Stretch);
    put(dir.path(), "a/bad.png", b"bad");
    assert_eq!(load(&Source::open(dir.path()).unwrap(), &pre, 1).unwrap().len(), 2);
    put(dir.path(), "b/bad.png", b"bad");
    assert!(load(&Source::open(dir.path()).unwrap(), &pre, 1).is_err());
}

#[test]
fn names_in_the_summary_match_their_classes() {
    let dir = folder_of(&["x/1.png", "y/1.png"]);
    let source = Source::open(dir.path()).unwrap();
    let expected = [("x/1.png", "x", "-"), ("y/1.png", "y", "-")];
    assert_eq!(summary(&source), expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())));
}
