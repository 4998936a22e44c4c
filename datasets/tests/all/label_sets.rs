//! Tables whose images have any number of labels.

use crate::helpers::{folder_of, load, message, put};
use ocelli_datasets::{
    DatasetError, Fit, Labelling, LabelsPerImage, Preprocessing, Source, Split, SplitFractions,
};
use std::fs;
use std::path::Path;

const FILES: [&str; 6] = ["p/0.png", "p/1.png", "p/2.png", "p/3.png", "p/4.png", "p/5.png"];

fn open(path: &Path, per_image: LabelsPerImage) -> Result<Source, DatasetError> {
    Source::open_labelled(path, &Labelling { per_image, table: None })
}

/// `0: haze primary`, one for each image, in the order of the names.
fn sets(source: &Source) -> Vec<String> {
    assert!(source.is_multi_label());
    let mut rows: Vec<String> = source
        .items()
        .iter()
        .map(|item| {
            let names = item.labels.as_slice().iter().map(|&label| source.classes()[label as usize].as_str());
            let name = item.name.replace('\\', "/");
            let stem = name.rsplit('/').next().unwrap().trim_end_matches(".png");
            let split = item.split.map_or_else(String::new, |split| format!(" [{split}]"));
            format!("{stem}: {}{split}", names.collect::<Vec<_>>().join(" "))
        })
        .collect();
    rows.sort();
    rows
}

#[test]
fn every_form_of_table_says_the_same() {
    let wanted =
        ["0: haze primary", "1: clear primary", "2: haze", "3: ", "4: agriculture clear primary", "5: clear"];
    let lists = |mark: &str, name: &dyn Fn(usize) -> String| -> String {
        let row = |(i, text): (usize, &&str)| format!("{},{}\n", name(i), text[3..].replace(' ', mark));
        "file,labels\n".to_owned() + &wanted.iter().enumerate().map(row).collect::<String>()
    };
    let path = |i: usize| format!("p/{i}.png");
    let columns = |yes: &str, no: &str| -> String {
        let row = |(i, text): (usize, &&str)| {
            let has = |label: &str| if text[3..].split(' ').any(|own| own == label) { yes } else { no };
            let cells = ["primary", "haze", "clear", "agriculture"].map(has).join(",");
            format!("p/{i}.png,{cells},{i}7.5\n")
        };
        "image,primary,haze,clear,agriculture,age\n".to_owned()
            + &wanted.iter().enumerate().map(row).collect::<String>()
    };
    let forms = [
        ("bars", lists("|", &path)),
        ("semicolons", lists("; ", &path)),
        ("spaces", lists(" ", &path)),
        ("quoted", lists(" ", &path).replace("haze primary", "\"haze primary\"")),
        ("byte order mark, CRLF", format!("\u{feff}{}", lists("|", &path).replace('\n', "\r\n"))),
        ("Windows paths", lists("|", &path).replace('/', "\\")),
        ("no extension", lists("|", &|i| i.to_string())),
        ("names alone", lists(" ", &|i| format!("{i}.png"))),
        ("another column name", lists("|", &path).replace("labels", "Finding Labels")),
        ("a column called label", lists("|", &path).replace("labels", "label")),
        ("tabs", lists("|", &path).replace(',', "\t")),
        ("columns of ones", columns("1", "0")),
        ("columns of words", columns("True", "False")),
        ("columns with -1", columns("1", "-1")),
        ("columns with gaps", columns("1.0", "")),
    ];
    let dir = folder_of(&FILES);
    for (form, text) in &forms {
        let table = dir.path().join("labels.csv");
        fs::write(&table, text).unwrap();
        for path in [&table, &dir.path().to_owned()] {
            let source = open(path, LabelsPerImage::AsFound).unwrap_or_else(|e| panic!("{form}: {e}"));
            assert_eq!(sets(&source), wanted, "{form}");
            assert_eq!(source.classes(), ["agriculture", "clear", "haze", "primary"], "{form}");
            let note = &source.notes()[0];
            assert!(
                note.starts_with("read as") && note.contains("4 labels, 1.5 an image, 1 image without any"),
                "{note}"
            );
        }
        // Beside the images, which lie in an archive or a folder of any layout.
        let elsewhere = tempfile::tempdir().unwrap();
        let table = elsewhere.path().join("table.csv");
        fs::write(&table, text).unwrap();
        let images = folder_of(&FILES);
        let labelling = Labelling { per_image: LabelsPerImage::AsFound, table: Some(&table) };
        let source = Source::open_labelled(images.path(), &labelling).unwrap();
        assert_eq!(sets(&source), wanted, "{form}");
    }
}

#[test]
fn several_rows_for_a_file_are_several_labels() {
    let dir = folder_of(&FILES);
    let rows: String = (0..6).map(|i| format!("p/{i}.png,cat\np/{i}.png,dog{}\n", i % 2)).collect();
    fs::write(dir.path().join("a.csv"), format!("file,label\n{rows}")).unwrap();
    let source = open(&dir.path().join("a.csv"), LabelsPerImage::AsFound).unwrap();
    assert_eq!(sets(&source)[..2], ["0: cat dog0", "1: cat dog1"]);
    assert!(source.notes()[0].contains("label with a label a row"), "{:?}", source.notes());
    // As one class an image this is a contradiction.
    assert!(message(Source::open(&dir.path().join("a.csv"))).contains("listed before with another label"));
    let rows = "p/0.png,cat\np/1.png,dog\np/1.png,cat\np/2.png,cat\n";
    fs::write(dir.path().join("a.csv"), format!("file,label\n{rows}")).unwrap();
    let text = message(open(&dir.path().join("a.csv"), LabelsPerImage::AsFound));
    assert!(text.contains("listed before with another label"), "{text}");
    let source = open(&dir.path().join("a.csv"), LabelsPerImage::Any).unwrap();
    assert_eq!(sets(&source), ["0: cat", "1: cat dog", "2: cat"]);
}

#[test]
fn one_label_for_every_image_is_a_class() {
    let dir = folder_of(&FILES);
    let tables = [
        "file,labels\np/0.png,granny smith\np/1.png,golden delicious\np/2.png,braeburn\n",
        "file,label\np/0.png,cat small\np/1.png,dog small\np/2.png,cat big\np/3.png,dog big\np/4.png,cat\n",
        "file,cat,dog\np/0.png,1,0\np/1.png,0,1\np/2.png,1,0\n",
    ];
    for text in tables {
        let table = dir.path().join("a.csv");
        fs::write(&table, text).unwrap();
        let source = open(&table, LabelsPerImage::AsFound).unwrap();
        assert!(!source.is_multi_label(), "{text}");
        assert_eq!(source.items(), Source::open(&table).unwrap().items());
        assert!(open(&table, LabelsPerImage::Any).unwrap().is_multi_label());
    }
    let folders = folder_of(&["a/1.png", "b/2.png"]);
    assert!(!open(folders.path(), LabelsPerImage::AsFound).unwrap().is_multi_label());
    assert_eq!(sets(&open(folders.path(), LabelsPerImage::Any).unwrap()), ["1: a", "2: b"]);
}

#[test]
fn splits_come_from_a_column_from_is_valid_and_from_folders() {
    let dir = folder_of(&FILES);
    let table = dir.path().join("a.csv");
    fs::write(&table, "file,labels,split\np/0.png,a|b,train\np/1.png,b,valid\np/2.png,,test\np/3.png,a,\n")
        .unwrap();
    let source = open(&table, LabelsPerImage::AsFound).unwrap();
    assert_eq!(sets(&source), ["0: a b [train]", "1: b [val]", "2:  [test]", "3: a"]);
    fs::write(&table, "fname,labels,is_valid\np/0.png,a b,True\np/1.png,b,False\np/2.png,a,FALSE\n").unwrap();
    let source = open(&table, LabelsPerImage::Any).unwrap();
    assert_eq!(sets(&source), ["0: a b [val]", "1: b [train]", "2: a [train]"]);
    fs::write(&table, "fname,label,is_valid\np/0.png,a,True\np/1.png,b,False\n").unwrap();
    let splits: Vec<_> = Source::open(&table).unwrap().items().iter().map(|item| item.split).collect();
    assert_eq!(splits, [Some(Split::Val), Some(Split::Train)]);

    let dir = folder_of(&["train/0.png", "train/1.png", "test/2.png"]);
    put(dir.path(), "labels.csv", b"file,tags\ntrain/0.png,a b\ntrain/1.png,b\ntest/2.png,a\n0,b a\n");
    let source = open(dir.path(), LabelsPerImage::Any).unwrap();
    assert_eq!(sets(&source), ["0: a b [train]", "1: b [train]", "2: a [test]"]);
}

#[test]
fn what_does_not_fit_is_named_counted_or_refused() {
    let dir = folder_of(&FILES);
    let table = dir.path().join("a.csv");
    let read = |text: &str| {
        fs::write(&table, text).unwrap();
        open(&table, LabelsPerImage::AsFound)
    };
    let source = read("file,labels\np/0.png,a|b\np/1.png,b\np/gone.png,a\n").unwrap();
    let notes = source.notes().join("; ");
    assert!(notes.contains("1 row of a.csv name images that are not there: p/gone.png"), "{notes}");
    assert!(notes.contains("left out: 4 images ("), "{notes}");
    // In a folder the images are named.
    let source = open(dir.path(), LabelsPerImage::AsFound).unwrap();
    let notes = source.notes().join("; ");
    assert!(
        notes.contains("left out: 4 images without a row: p/2.png, p/3.png, p/4.png, p/5.png"),
        "{notes}"
    );
    // Half may be missing, and no more.
    assert!(read("file,labels\np/0.png,a|b\np/1.png,b\np/x.png,a\np/y.png,a\n").is_ok());
    let text = message(read("file,labels\np/0.png,a|b\np/x.png,a\np/y.png,a\n"));
    assert!(text.contains("2 of the listed files do not exist: p/x.png, p/y.png"), "{text}");
    let text = message(read("file,labels,split\np/0.png,a|b,train\np/0.png,c,test\n"));
    assert!(text.contains("line 3: p/0.png is listed before with another split (line 2)"), "{text}");
    let text = message(read("file,labels,split\np/0.png,a|b,train\np/1.png,c,later\n"));
    assert!(text.contains("unknown split \"later\""), "{text}");
    // A column for each label is no image of 4x4 black pixels.
    let names: Vec<String> = (0..16).map(|i| format!("l{i}")).collect();
    let row = |i: usize| format!("p/{i}.png,1{}\n", ",0".repeat(14) + ",1");
    let source = read(&format!("file,{}\n{}{}", names.join(","), row(0), row(1))).unwrap();
    assert_eq!(sets(&source), ["0: l0 l15", "1: l0 l15"]);
    assert_eq!(source.classes().len(), 16);
    // A table says nothing about files that are no images in a folder.
    let labelling = Labelling { per_image: LabelsPerImage::AsFound, table: Some(&table) };
    let text = message(Source::open_labelled(&table, &labelling));
    assert!(text.contains("a folder or a ZIP archive"), "{text}");
    let labelling = Labelling { table: Some(Path::new("/none.csv")), ..labelling };
    assert!(message(Source::open_labelled(dir.path(), &labelling)).contains("none.csv"));
}

#[test]
fn a_table_of_its_own_says_classes_whatever_the_folders_say() {
    let dir = folder_of(&["cats/0.png", "dogs/1.png", "dogs/2.png"]);
    let elsewhere = tempfile::tempdir().unwrap();
    let table = elsewhere.path().join("labels.csv");
    fs::write(&table, "file,label\ncats/0.png,old\n1,young\n2.png,old\n").unwrap();
    let labelling = Labelling { per_image: LabelsPerImage::AsFound, table: Some(&table) };
    let source = Source::open_labelled(dir.path(), &labelling).unwrap();
    assert_eq!((source.classes(), source.kind()), (&["old".to_owned(), "young".to_owned()][..], "csv"));
    for (text, expected) in [
        ("epoch,loss\n9,0.5\n8,0.25\n", "no column names image files"),
        ("file,label\nx/8.png,a\nx/9.png,b\n", "none of its rows names one of the images"),
    ] {
        fs::write(&table, text).unwrap();
        let text = message(Source::open_labelled(dir.path(), &labelling));
        assert!(text.contains("labels.csv") && text.contains(expected), "{text}");
    }
}

#[test]
fn labels_are_dropped_renumbered_and_divided_with_their_images() {
    let names: Vec<String> = (0..60).map(|i| format!("p/{i}.png")).collect();
    let dir = folder_of(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let labels = |i: usize| {
        let mut own = vec!["often"];
        own.extend(
            [(2, "half"), (10, "rare")].iter().filter(|(n, _)| i.is_multiple_of(*n)).map(|(_, name)| *name),
        );
        if i % 7 == 3 { String::new() } else { own.join("|") }
    };
    let rows: String = names.iter().enumerate().map(|(i, name)| format!("{name},{}\n", labels(i))).collect();
    put(dir.path(), "labels.csv", format!("file,labels\n{rows}").as_bytes());
    let mut source = open(dir.path(), LabelsPerImage::AsFound).unwrap();
    assert_eq!(source.drop_untrained(0), None);
    let pre = Preprocessing::new(4, 4, 3, Fit::Stretch);
    let mut set = load(&source, &pre, 1).unwrap();
    set.assign_splits(SplitFractions { val: 0.2, test: 0.2 }, 7);
    let count = |label: u32, split: Split| {
        set.indices(split).into_iter().filter(|&i| set.labels(i).contains(&label)).count()
    };
    let rare = set.classes().iter().position(|name| name == "rare").unwrap() as u32;
    let total: usize = [Split::Train, Split::Val, Split::Test].map(|split| count(rare, split)).iter().sum();
    // 6 of 60, or 5 where an image lost its labels: one in each part at least.
    assert!((5..=6).contains(&total) && count(rare, Split::Val) >= 1 && count(rare, Split::Test) >= 1);
    let digest = set.digest();
    set.leave_out(&[rare as usize]);
    assert_eq!((set.classes(), set.len()), (&["half".to_owned(), "often".to_owned()][..], 60));
    assert_ne!(set.digest(), digest);

    source.align_classes(&["rare".to_owned(), "new".to_owned()]);
    assert_eq!(source.classes(), ["rare", "new", "half", "often"]);
    assert_eq!(source.items()[0].labels.as_slice(), [0, 2, 3]);
    assert!(source.drop_untrained(0).unwrap().contains("left out: new (no image)"));
    assert_eq!((source.classes().len(), source.items().len()), (3, 60));
}
