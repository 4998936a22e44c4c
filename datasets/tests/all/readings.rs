//! How folders, archives and uploads are laid out, and what is made of it: the same of all three.

use crate::helpers::{png, put};
use crate::zips::zip_of;
use ocelli_datasets::{DatasetError, Item, Source, UploadLimits, UploadZip};
use std::collections::BTreeMap;
use zip::CompressionMethod;

/// `cats 5 dogs 5 | train 6 test 4 | a note has this | and this`, or `refused | the error has this`.
struct Case {
    /// Images; `*3` stands for the names 1, 2 and 3.
    images: &'static str,
    texts: &'static [(&'static str, &'static str)],
    read_as: &'static str,
}

const fn case(images: &'static str, read_as: &'static str) -> Case {
    Case { images, texts: &[], read_as }
}

const fn table(
    images: &'static str,
    texts: &'static [(&'static str, &'static str)],
    read_as: &'static str,
) -> Case {
    Case { images, texts, read_as }
}

const CASES: &[Case] = &[
    case("cats/*2.png dogs/*3.png", "cats 2 dogs 3 | | read as class folders; 2 classes"),
    // Split folders by every name.
    case(
        "train/a/*2.png train/b/*2.png val/a/1.png val/b/1.png test/a/1.png",
        "a 4 b 3 | train 4 val 2 test 1",
    ),
    case(
        "Training/a/*2.png Training/b/*2.png VALID/a/1.png Testing/b/1.png",
        "a 3 b 3 | train 4 val 1 test 1",
    ),
    case(
        "training_set/a/*3.png training_set/b/*3.png test_set/a/*2.png test_set/b/*2.png",
        "a 5 b 5 | train 6 test 4",
    ),
    case("trainset/a/1.png trainset/b/1.png testset/a/1.png", "a 2 b 1 | train 2 test 1"),
    case(
        "01-train/a/1.png 01-train/b/1.png 02-val/a/1.png 03-test/b/1.png",
        "a 2 b 2 | train 2 val 1 test 1",
    ),
    case("train2017/a/1.png train2017/b/1.png val2017/a/1.png", "a 2 b 1 | train 2 val 1"),
    case("TRAIN/a/1.png TRAIN/b/1.png HOLD-OUT/a/1.png", "a 2 b 1 | train 2 test 1"),
    case("trn/a/1.png trn/b/1.png tst/a/1.png", "a 2 b 1 | train 2 test 1"),
    case("trains/a/1.png trains/b/1.png tests/a/1.png", "a 2 b 1 | train 2 test 1"),
    case("train/a/*2.png train/b/*2.png dev/a/1.png dev/b/1.png", "a 3 b 3 | train 4 val 2"),
    case("train/a/*2.png train/b/*2.png dev/a/1.png eval/b/1.png", "a 3 b 3 | train 4 val 1 test 1"),
    case("train/a/*2.png train/b/*2.png eval/a/1.png test/b/1.png", "a 3 b 3 | train 4 val 1 test 1"),
    case("animals_train/a/1.png animals_train/b/1.png animals_test/a/1.png", "a 2 b 1 | train 2 test 1"),
    case("train/a/1.png train/b/1.png kaggle-test/a/1.png kaggle-test/b/1.png", "a 2 b 2 | train 2 test 2"),
    case(
        "x/photos/train_dev/a/*2.png x/photos/train_dev/b/*2.png x/photos/test/a/1.png",
        "a 3 b 2 | train 4 test 1",
    ),
    // The same name twice, wrappers within, copies of the whole.
    case(
        "seg_train/seg_train/a/*2.png seg_train/seg_train/b/*2.png seg_test/seg_test/a/1.png seg_pred/seg_pred/*4.png",
        "a 3 b 2 | train 4 test 1 | left out: 4 images without a label in seg_pred/seg_pred/",
    ),
    case(
        "training/training/a/1.png training/training/b/1.png validation/validation/a/1.png",
        "a 2 b 1 | train 2 val 1",
    ),
    case("train/images/a/1.png train/images/b/1.png val/images/a/1.png", "a 2 b 1 | train 2 val 1"),
    case("train/cars/a/1.png train/cars/b/1.png test/cars/a/1.png", "a 2 b 1 | train 2 test 1"),
    case(
        "set/train/a/1.png set/train/b/1.png set/test/a/1.png set/set/train/a/9.png set/set/train/b/9.png \
          set/set/test/a/9.png",
        "a 2 b 1 | train 2 test 1 | left out: 1 image without a label in set/set/test/a/",
    ),
    case(
        "data/train/a/1.png data/train/b/1.png data/test/a/1.png single_prediction/*2.png",
        "a 2 b 1 | train 2 test 1",
    ),
    case(
        "images/a/1.png images/b/1.png masks/a/1.png masks/b/1.png",
        "a 1 b 1 | | read as class folders in images/",
    ),
    case("w/v/a/1.png w/v/b/1.png", "a 1 b 1 | | class folders in w/v/"),
    case("a/train/*2.png a/test/1.png b/train/*2.png b/test/1.png", "a 3 b 3 | train 4 test 2"),
    case(
        "flowers/a/*2.png flowers/b/*2.png flowers/flowers/a/*2.png flowers/flowers/b/*2.png",
        "a 2 b 2 | | read as class folders in flowers/; 2 classes; left out: 2 images without a label in flowers/flowers/a/",
    ),
    case(
        "asl_train/asl_train/A/*2.png asl_train/asl_train/B/*2.png asl_test/asl_test/*2.png",
        "A 2 B 2 | train 4 | 2 images without a label in asl_test/asl_test/",
    ),
    case("a/x/1.png a/y/1.png b/x/1.png b/y/1.png", "a 2 b 2 | | read as class folders; 2 classes"),
    // Images in class folders' own folders, and parts without labels.
    case(
        "train/n1/images/*2.png train/n2/images/*2.png val/images/*3.png test/images/*3.png",
        "n1 2 n2 2 | train 4 | left out: 3 images without a label in test/images/, 3 in val/images/",
    ),
    case(
        "Train/0/1.png Train/1/1.png Train/10/1.png Test/*4.png Meta/*4.png",
        "0 1 1 1 10 1 | train 3 | 4 in Test/",
    ),
    case(
        "Training/a/1.png Training/b/1.png Test/a/1.png test-multiple_fruits/*2.png",
        "a 2 b 1 | train 2 test 1",
    ),
    case(
        "train/a/1.png train/b/1.png test/unknown/*3.png",
        "a 1 b 1 | train 2 | 3 images without a label in test/unknown/",
    ),
    case(
        "train/a/1.png train/b/1.png train/unlabelled/*3.png",
        "a 1 b 1 | train 2 | 3 images without a label in train/unlabelled/",
    ),
    case(
        "train/a/1.png train/b/1.png predictions/*3.png",
        "a 1 b 1 | train 2 | 3 images without a label in predictions/",
    ),
    // Classes that are called like splits.
    case("bus/*2.png car/*2.png train/*2.png", "bus 2 car 2 train 2 | "),
    case("bus/x/*2.png car/x/*2.png train/y/*2.png", "bus 2 car 2 train 2 | "),
    case("bus/*2.png car/*2.png train/old/*2.png", "bus 2 car 2 train 2 | "),
    case("valid/*2.png invalid/*2.png", "invalid 2 valid 2 | "),
    case("test_positive/*2.png test_negative/*2.png", "test_negative 2 test_positive 2 | "),
    case("train_station/*2.png bus_station/*2.png", "bus_station 2 train_station 2 | "),
    case("vehicles/bus/1.png vehicles/train/1.png", "bus 1 train 1 | "),
    // What can be read in two ways, or has no labels.
    case("train/a/1.png train/b/1.png more/a/1.png more/b/1.png", "refused | more/"),
    case(
        "train/day/1.png train/night/1.png bus/day/1.png bus/night/1.png",
        "refused | train/ may be the training part, or a class beside bus/",
    ),
    case("train/*4.png test1/*4.png", "refused | class folder"),
    case("train/*4.png", "refused | class folder"),
    case("train/images/*4.png val/images/*4.png", "refused | class folder"),
    case("images/train/*4.png images/val/*4.png", "refused | class folder"),
    case("*4.png", "refused | 4 images without a label in no folder"),
    // One name in two forms of Unicode.
    case(
        "train/cafe\u{301}/*2.png train/bar/1.png val/café/1.png val/bar/1.png",
        "bar 2 cafe\u{301} 3 | train 3 val 2",
    ),
    case(
        "Cats/1.png cats/1.png dogs/1.png",
        "Cats 1 cats 1 dogs 1 | | \"Cats\" and \"cats\" are taken for different classes",
    ),
    // What systems and notebooks leave behind.
    case(
        "a/1.png b/1.png a/.ipynb_checkpoints/1.png .ipynb_checkpoints/x.png __MACOSX/a/1.png b/._1.png",
        "a 1 b 1 | ",
    ),
    // Tables beside images without class folders.
    table(
        "train/a*4.png test/t*4.png",
        &[
            ("train.csv", "Image,Id\na1.png,x\na2.png,y\na3.png,x\na4.png,y\n"),
            ("sample_submission.csv", "Image,Id\nt1.png,x\nt2.png,x\n"),
        ],
        "x 2 y 2 | train 4 | labels of 4 images from train.csv (columns Image and Id) | 4 images without a label in test/",
    ),
    table(
        "train/*3.png test/*2.png",
        &[("train.csv", "id,breed\n1,x\n2,y\n3,x\n"), ("test.csv", "id,breed\n1,y\n2,x\n")],
        "x 3 y 2 | train 3 test 2",
    ),
    table(
        "train/*2.png test/*2.png",
        &[
            ("train_labels.csv", "filename,label\n1.png,x\n2.png,y\n"),
            ("test_labels.csv", "filename,label\n1.png,y\n2.png,z\n"),
        ],
        "x 1 y 2 z 1 | train 2 test 2 | labels of 2 images from test_labels.csv",
    ),
    table(
        "images/*4.png",
        &[(
            "labels.csv",
            "path;label;split\nimages/1.png;x;train\nimages/2.png;y;train\nimages/3.png;x;test\nimages/4.png;y;test\n",
        )],
        "x 2 y 2 | train 2 test 2",
    ),
    table(
        "part_1/a*2.png part_2/b*2.png",
        &[("metadata.csv", "image_id,dx\na1,x\na2,y\nb1,x\nb2,y\n")],
        "x 2 y 2 | | labels of 4 images from metadata.csv",
    ),
    table(
        "train/n1/images/*2.png train/n2/images/*2.png val/images/v*2.png",
        &[
            ("val/val_annotations.txt", "v1.png\tn1\t0\t0\t62\t62\nv2.png\tn2\t3\t3\t40\t59\n"),
            ("wnids.txt", "n1\nn2\n"),
        ],
        "n1 3 n2 3 | train 4 val 2",
    ),
    table(
        "Train/0/*2.png Train/1/*2.png Test/*2.png Meta/*2.png",
        &[
            ("Test.csv", "Width,Height,ClassId,Path\n30,30,1,Test/1.png\n30,31,0,Test/2.png\n"),
            ("Meta.csv", "Path,ClassId,ShapeId\nMeta/1.png,0,1\nMeta/2.png,1,1\n"),
        ],
        "0 3 1 3 | train 4 test 2 | left out: 2 images without a label in Meta/",
    ),
    table("images/*3.png", &[("labels.csv", "image,cat,dog\n1,1,0\n2,0,1\n3,0.0,1.0\n")], "cat 1 dog 2 | "),
    table(
        "images/*3.png",
        &[("labels.csv", "path,label\nimages/1.png,x\nimages/2.png,\n")],
        "refused | line 3",
    ),
    table("images/*3.png", &[("labels.csv", "no table at all")], "refused | class folder | labels.csv"),
    table("train/*3.png test/*3.png", &[("labels.csv", "id,breed\n1,x\n2,y\n3,x\n")], "x 2 y 1 | train 3"),
    table("u/*2.png v/*2.png w/*2.png", &[("w.csv", "id,breed\n1,x\n2,y\n")], "u 2 v 2 w 2 | "),
    table("images/a/*2.png images/b/*2.png", &[("images/l.csv", "id,breed\n1,x\n2,y\n")], "a 2 b 2 | "),
    // Class folders are enough; a table with other labels is told.
    table(
        "a/1.png b/2.png",
        &[("labels.csv", "path,label\na/1.png,x\nb/2.png,y\n")],
        "a 1 b 1 | | labels.csv (columns path and label) has other labels for these images (x, y) and is not used",
    ),
    table(
        "a/1.png b/2.png",
        &[("labels.csv", "path,label\na/1.png,a\nb/2.png,b\n")],
        "a 1 b 1 | | left out: 1 other file",
    ),
];

/// Names with `*3` written out.
fn names(images: &str) -> Vec<String> {
    let one = |pattern: &str| match pattern.split_once('*') {
        Some((before, behind)) => {
            let (n, end) = behind.split_at(1);
            (1..=n.parse::<usize>().unwrap()).map(|i| format!("{before}{i}{end}")).collect()
        }
        None => vec![pattern.to_owned()],
    };
    images.split_whitespace().flat_map(one).collect()
}

/// Classes and splits with their images, and notes; or the error.
type Seen = Result<(BTreeMap<String, usize>, BTreeMap<String, usize>, Vec<String>), String>;

fn seen(classes: &[String], items: &[Item], notes: &[String]) -> Seen {
    let (mut of_class, mut of_split) = (BTreeMap::new(), BTreeMap::new());
    for item in items {
        *of_class.entry(classes[item.class() as usize].clone()).or_default() += 1;
        if let Some(split) = item.split {
            *of_split.entry(split.to_string()).or_default() += 1;
        }
    }
    assert_eq!(of_class.len(), classes.len(), "a class without an image: {classes:?}");
    Ok((of_class, of_split, notes.to_vec()))
}

fn check(case: &Case, how: &str, seen: &Seen) {
    let about = format!("{how}, {}: {seen:?}", case.images);
    let mut parts = case.read_as.split('|').map(str::trim);
    let classes = parts.next().unwrap();
    match seen {
        Err(error) => {
            assert_eq!(classes, "refused", "{about}");
            parts.for_each(|part| assert!(error.contains(part), "{about} lacks {part:?}"));
        }
        Ok((of_class, of_split, notes)) => {
            let counts = |text: &str| -> BTreeMap<String, usize> {
                let words: Vec<&str> = text.split_whitespace().collect();
                words.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].parse().unwrap())).collect()
            };
            assert_ne!(classes, "refused", "{about}");
            assert_eq!(*of_class, counts(classes), "{about}");
            assert_eq!(*of_split, counts(parts.next().unwrap()), "{about}");
            assert!(notes[0].starts_with("read as "), "{about}");
            let notes = notes.join("\n");
            parts.for_each(|part| assert!(notes.contains(part), "{about} lacks {part:?}"));
        }
    }
}

#[test]
fn folders_archives_and_uploads_are_read_alike() {
    for case in CASES {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        let names = names(case.images);
        let images = names.iter().map(String::as_str).zip((1..).map(png));
        let texts = case.texts.iter().map(|(name, text)| (*name, text.as_bytes().to_vec()));
        let files: Vec<(&str, Vec<u8>)> = images.chain(texts).collect();
        for (name, bytes) in &files {
            put(&root, name, bytes);
        }
        let zip = dir.path().join("data.zip");
        std::fs::write(&zip, zip_of(&files, CompressionMethod::Deflated)).unwrap();

        let open = |path| match Source::open(path) {
            Ok(source) => seen(source.classes(), source.items(), source.notes()),
            Err(error) => Err::<_, DatasetError>(error).map_err(|e| e.to_string()),
        };
        check(case, "folder", &open(&root));
        check(case, "archive", &open(&zip));
        // Names that one case has in two cases of letters are refused in uploads for another reason.
        if case.images.starts_with("Cats") {
            continue;
        }
        let upload = UploadZip::open(&zip, &UploadLimits::default());
        let upload = match &upload {
            Ok(zip) => seen(zip.classes(), zip.items(), zip.notes()),
            Err(error) => Err(error.to_string()),
        };
        check(case, "upload", &upload);
    }
}
