//! IDX and CIFAR: files written byte by byte here, read back by the crate.

use crate::helpers::{LIMITS, message, put, summary};
use flate2::Compression;
use flate2::write::GzEncoder;
use ocelli_datasets::{Image, Pixels, Source, Split};
use std::fs;
use std::io::Write;
use std::path::Path;

fn idx(dims: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dims.len() as u8];
    dims.iter().for_each(|d| bytes.extend(d.to_be_bytes()));
    bytes.extend(values);
    bytes
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// `n` images of 3x2 pixels, each a run of numbers from `start`.
fn images(n: u32, start: u8) -> Vec<u8> {
    let values: Vec<u8> = (0..n * 6).map(|i| start.wrapping_add(i as u8)).collect();
    idx(&[n, 2, 3], &values)
}

fn put_mnist(root: &Path, names: [&str; 4], pack: fn(&[u8]) -> Vec<u8>) {
    put(root, names[0], &pack(&images(4, 0)));
    put(root, names[1], &pack(&idx(&[4], &[0, 2, 1, 0])));
    put(root, names[2], &pack(&images(2, 100)));
    put(root, names[3], &pack(&idx(&[2], &[1, 2])));
}

#[test]
fn idx_in_all_spellings() {
    let plain: fn(&[u8]) -> Vec<u8> = |b| b.to_vec();
    for (names, pack) in [
        (
            [
                "train-images-idx3-ubyte",
                "train-labels-idx1-ubyte",
                "t10k-images-idx3-ubyte",
                "t10k-labels-idx1-ubyte",
            ],
            plain,
        ),
        (
            [
                "train-images.idx3-ubyte",
                "train-labels.idx1-ubyte",
                "t10k-images.idx3-ubyte",
                "t10k-labels.idx1-ubyte",
            ],
            plain,
        ),
        (
            [
                "train-images-idx3-ubyte.gz",
                "train-labels-idx1-ubyte.gz",
                "test-images-idx3-ubyte.gz",
                "test-labels-idx1-ubyte.gz",
            ],
            gz,
        ),
        // Unpacked by hand without renaming, or the other way round: content decides.
        (
            [
                "train-images-idx3-ubyte.gz",
                "train-labels-idx1-ubyte.gz",
                "t10k-images-idx3-ubyte.gz",
                "t10k-labels-idx1-ubyte.gz",
            ],
            plain,
        ),
        (
            [
                "MNIST/train-images-idx3-ubyte",
                "MNIST/train-labels-idx1-ubyte",
                "MNIST/t10k-images-idx3-ubyte",
                "MNIST/t10k-labels-idx1-ubyte",
            ],
            gz,
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        put_mnist(dir.path(), names, pack);
        let source = Source::open(dir.path()).unwrap_or_else(|e| panic!("{names:?}: {e}"));
        assert_eq!((source.kind(), source.classes()), ("idx", ["0", "1", "2"].map(str::to_owned).as_slice()));
        let classes: Vec<u32> = source.items().iter().map(|i| i.class()).collect();
        assert_eq!(classes, [0, 2, 1, 0, 1, 2]);
        let train = source.items().iter().filter(|i| i.split == Some(Split::Train)).count();
        let test = source.items().iter().filter(|i| i.split == Some(Split::Test)).count();
        assert_eq!((train, test), (4, 2));
        let name = names[2].trim_start_matches("MNIST/");
        assert_eq!(source.items()[5].name, format!("{name}#1"));
        let pixels = Pixels::U8((106..112).collect());
        let expected = Image { width: 3, height: 2, channels: 1, pixels };
        assert_eq!(source.image(5, &LIMITS).unwrap().0, expected);
        let shape = source.native_shape();
        assert_eq!((shape.size, shape.channels), (Some((3, 2)), 1));
    }
}

#[test]
fn a_single_idx_file_with_its_labels_declares_no_split() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "my-images-idx3-ubyte", &images(4, 0));
    put(dir.path(), "my-labels-idx1-ubyte.gz", &gz(&idx(&[4], &[0, 1, 1, 0])));
    let source = Source::open(&dir.path().join("my-images-idx3-ubyte")).unwrap();
    assert_eq!(source.name(), "my-images-idx3-ubyte");
    assert!(source.items().iter().all(|i| i.split.is_none()));
    let text = message(Source::open(&dir.path().join("my-labels-idx1-ubyte.gz")));
    assert!(text.contains("these are IDX labels"), "{text}");
}

#[test]
fn labels_txt_names_the_classes() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "x-images-idx3-ubyte", &images(3, 0));
    put(dir.path(), "x-labels-idx1-ubyte", &idx(&[3], &[0, 1, 2]));
    for (text, expected) in [
        ("cat\ndog\ncow\n", ["cat", "dog", "cow"]),
        ("0 cat\r\n1 dog\r\n2 cow", ["cat", "dog", "cow"]),
        ("\u{feff}zoo\nant\n1 eel\n\n", ["zoo", "ant", "1 eel"]),
    ] {
        put(dir.path(), "labels.txt", text.as_bytes());
        assert_eq!(Source::open(dir.path()).unwrap().classes(), expected);
    }
    put(dir.path(), "labels.txt", b"cat\ndog\n");
    let text = message(Source::open(dir.path()));
    assert!(text.contains("label 2 of image 2 is beyond the 2 classes of labels.txt"), "{text}");
    put(dir.path(), "labels.txt", b"cat\ndog\ncat\n");
    assert!(message(Source::open(dir.path())).contains("empty or named twice"));
}

#[test]
fn test_labels_beyond_the_training_labels_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    put_mnist(
        dir.path(),
        [
            "train-images-idx3-ubyte",
            "train-labels-idx1-ubyte",
            "t10k-images-idx3-ubyte",
            "t10k-labels-idx1-ubyte",
        ],
        |b| b.to_vec(),
    );
    put(dir.path(), "t10k-labels-idx1-ubyte", &idx(&[2], &[1, 7]));
    let text = message(Source::open(dir.path()));
    assert!(text.contains("label 7 of image 1 is beyond the 3 classes"), "{text}");
}

#[test]
fn colour_idx_has_four_dimensions() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "c-images-idx4-ubyte", &idx(&[2, 1, 2, 3], &(0..12).collect::<Vec<u8>>()));
    put(dir.path(), "c-labels-idx1-ubyte", &idx(&[2], &[0, 1]));
    let (image, _) = Source::open(dir.path()).unwrap().image(1, &LIMITS).unwrap();
    let pixels = Pixels::U8((6..12).collect());
    assert_eq!(image, Image { width: 2, height: 1, channels: 3, pixels });
}

#[test]
fn damaged_idx_files_are_told_apart() {
    let good = images(4, 0);
    let huge = idx(&[u32::MAX, u32::MAX, u32::MAX], &[]);
    let large = idx(&[1_000_000, 1000, 1000], &[]);
    let mut float = good.clone();
    float[2] = 0x0d;
    let cases: [(Vec<u8>, &str); 10] = [
        (good[..good.len() - 1].to_vec(), "there are fewer"),
        ([good.as_slice(), &[0]].concat(), "there are more"),
        (good[..9].to_vec(), "ends inside its header"),
        (huge, "beyond the limits"),
        (large, "beyond the limits"),
        (float, "element type 0x0d"),
        (idx(&[4, 2], &[0; 8]), "2 dimensions"),
        (idx(&[2, 2, 3, 2], &[0; 24]), "2 channels"),
        (idx(&[4, 0, 3], &[]), "0 pixels"),
        (gz(&good)[..30].to_vec(), "damaged or"),
    ];
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "x-labels-idx1-ubyte", &idx(&[4], &[0, 1, 1, 0]));
    for (bytes, expected) in cases {
        put(dir.path(), "x-images-idx3-ubyte", &bytes);
        for path in [dir.path().to_owned(), dir.path().join("x-images-idx3-ubyte")] {
            let text = message(Source::open(&path));
            assert!(text.contains(expected), "{text} lacks {expected}");
        }
    }
    put(dir.path(), "x-images-idx3-ubyte", &images(5, 0));
    assert!(message(Source::open(dir.path())).contains("4 labels but 5 images"));
    put(dir.path(), "x-images-idx3-ubyte", &images(0, 0));
    put(dir.path(), "x-labels-idx1-ubyte", &idx(&[0], &[]));
    assert!(message(Source::open(dir.path())).contains("no images found"));
    fs::remove_file(dir.path().join("x-labels-idx1-ubyte")).unwrap();
    assert!(message(Source::open(dir.path())).contains("no labels file beside it"));
}

#[test]
fn two_idx_sets_in_one_folder_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for set in ["letters", "digits"] {
        put(dir.path(), &format!("{set}-train-images-idx3-ubyte"), &images(2, 0));
        put(dir.path(), &format!("{set}-train-labels-idx1-ubyte"), &idx(&[2], &[0, 1]));
    }
    assert!(message(Source::open(dir.path())).contains("two IDX sets in one folder"));
}

/// A CIFAR record: labels, then a red, a green and a blue plane, each a run of numbers.
fn record(labels: &[u8], start: u8) -> Vec<u8> {
    let plane = |shift: u8| (0..1024u32).map(move |i| (i as u8).wrapping_add(start).wrapping_add(shift));
    labels.iter().copied().chain(plane(0)).chain(plane(50)).chain(plane(100)).collect()
}

#[test]
fn cifar_10_and_100() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    put(root, "cifar-10-batches-bin/data_batch_1.bin", &[record(&[3], 0), record(&[9], 1)].concat());
    put(root, "cifar-10-batches-bin/data_batch_2.bin", &record(&[0], 2));
    put(root, "cifar-10-batches-bin/test_batch.bin", &record(&[3], 7));
    let source = Source::open(root).unwrap();
    assert_eq!((source.kind(), source.classes()[3].as_str()), ("cifar", "cat"));
    let rows: Vec<(String, String, String)> = summary(&source);
    let expected = [
        ("data_batch_1.bin#0", "cat", "train"),
        ("data_batch_1.bin#1", "truck", "train"),
        ("data_batch_2.bin#0", "airplane", "train"),
        ("test_batch.bin#0", "cat", "test"),
    ];
    assert_eq!(rows, expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())));
    let (image, _) = source.image(3, &LIMITS).unwrap();
    let Pixels::U8(values) = &image.pixels else { panic!("8 bits") };
    assert_eq!((image.width, image.height, image.channels), (32, 32, 3));
    for (i, pixel) in values.chunks_exact(3).enumerate() {
        let v = (i as u8).wrapping_add(7);
        assert_eq!(pixel, [v, v.wrapping_add(50), v.wrapping_add(100)]);
    }

    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "train.bin", &[record(&[1, 99], 0), record(&[1, 4], 0)].concat());
    put(dir.path(), "test.bin", &record(&[0, 4], 3));
    let names: Vec<String> = (0..100).map(|i| format!("kind{i}")).collect();
    put(dir.path(), "fine_label_names.txt", names.join("\n").as_bytes());
    let source = Source::open(dir.path()).unwrap();
    assert_eq!(source.classes().len(), 100);
    assert_eq!(summary(&source)[0].1, "kind99");
    assert!(source.notes().iter().any(|n| n.contains("and 94 more")), "{:?}", source.notes());
}

#[test]
fn broken_cifar_files() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "data_batch_1.bin", &record(&[3], 0)[1..]);
    assert!(message(Source::open(dir.path())).contains("no multiple of 3073 bytes"));
    put(dir.path(), "data_batch_1.bin", &record(&[10], 0));
    assert!(message(Source::open(dir.path())).contains("label 10 of image 0 is beyond the 10 classes"));
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "cifar-10-batches-py/data_batch_1", b"\x80\x02}q");
    put(dir.path(), "cifar-10-batches-py/batches.meta", b"\x80\x02}q");
    assert!(message(Source::open(dir.path())).contains("Python (pickle) version; get the binary version"));
}

#[test]
fn the_bundled_set_is_what_its_page_says() {
    let source = Source::bundled();
    assert_eq!((source.kind(), source.name()), ("bundled fashion-mnist", "fashion-mnist"));
    assert_eq!((source.items().len(), source.classes().len()), (70_000, 10));
    assert!(source.notes().is_empty(), "{:?}", source.notes());
    for split in [Split::Train, Split::Test] {
        let mut counts = [0; 10];
        source
            .items()
            .iter()
            .filter(|i| i.split == Some(split))
            .for_each(|i| counts[i.class() as usize] += 1);
        assert_eq!(counts, [if split == Split::Train { 6000 } else { 1000 }; 10]);
    }
    let shape = source.native_shape();
    assert_eq!((shape.size, shape.channels), (Some((28, 28)), 1));
}
