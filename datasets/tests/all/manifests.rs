//! CSV and TSV in all the dialects people save.

use crate::helpers::{folder_of, message, put, summary};
use ocelli_datasets::{DatasetError, Source};
use std::fs;
use std::path::Path;

const FILES: [&str; 4] = ["images/a 1.png", "images/b,2.png", "images/sub/c.png", "images/d.png"];

fn open(dir: &Path, name: &str, text: &str) -> Result<Source, DatasetError> {
    fs::write(dir.join(name), text).unwrap();
    Source::open(&dir.join(name))
}

#[test]
fn dialects_mean_the_same() {
    let dir = folder_of(&FILES);
    let plain = "images/a 1.png,cat\n\"images/b,2.png\",dog\nimages/sub/c.png,cat\nimages/d.png,dog\n";
    let wanted = summary(&open(dir.path(), "plain.csv", plain).unwrap());
    assert_eq!(wanted.len(), 4);
    assert_eq!(wanted[1], ("images/b,2.png".to_owned(), "dog".to_owned(), "-".to_owned()));
    let dialects = [
        ("crlf.csv", plain.replace('\n', "\r\n")),
        ("bom.csv", format!("\u{feff}{plain}")),
        ("header.csv", format!("path,label\n{plain}")),
        ("bom-header.csv", format!("\u{feff}Filename,Class\r\n{plain}")),
        ("unknown-header.csv", format!("bild,sorte\n{plain}")),
        ("blank.csv", format!("\n{plain}\n\n")),
        ("no-newline.csv", plain.trim_end().to_owned()),
        ("doubled.csv", format!("{plain}images/d.png,dog\n")),
        ("windows.csv", plain.replace('/', "\\")),
        ("spaces.csv", plain.replace(",cat", " , cat ")),
        ("tab.tsv", plain.replace("\",", "\t").replace(",cat", "\tcat").replace(",dog", "\tdog").replace('"', "")),
        ("tab.csv", "images/a 1.png\tcat\nimages/b,2.png\tdog\nimages/sub/c.png\tcat\nimages/d.png\tdog".into()),
        ("order.csv", "label;id;image\ncat;1;images/a 1.png\ndog;2;images/b,2.png\ncat;3;images/sub/c.png\ndog;4;images/d.png".into()),
    ];
    for (name, text) in dialects {
        let source = open(dir.path(), name, &text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut got = summary(&source);
        got.iter_mut().for_each(|row| row.0 = row.0.replace('\\', "/"));
        assert_eq!((got, source.kind()), (wanted.clone(), "csv"), "{name}");
    }
}

#[test]
fn splits_may_be_declared_for_some() {
    let dir = folder_of(&FILES);
    let text = "file,label,set\nimages/a 1.png,cat,train\n\"images/b,2.png\",dog,Validation\nimages/sub/c.png,cat,TEST\nimages/d.png,dog,\n";
    let source = open(dir.path(), "a.csv", text).unwrap();
    let splits: Vec<String> = summary(&source).into_iter().map(|row| row.2).collect();
    assert_eq!(splits, ["train", "val", "test", "-"]);
    assert!(source.notes().contains(&"1 row without a split".to_owned()), "{:?}", source.notes());
}

#[test]
fn all_missing_files_are_told_at_once() {
    let dir = folder_of(&FILES);
    let rows: String = (0..9).map(|i| format!("images/gone{i}.png,cat\n")).collect();
    let text = message(open(dir.path(), "a.csv", &format!("path,label\nimages/d.png,dog\n{rows}")));
    assert!(text.contains("9 of the listed files do not exist: images/gone0.png, "), "{text}");
    assert!(text.contains("images/gone4.png and 4 more; paths are relative"), "{text}");
}

#[test]
fn faults_name_their_line() {
    let dir = folder_of(&FILES);
    let cases = [
        ("images/a 1.png,cat\nimages/d.png,\n", "line 2: the label is empty"),
        ("images/a 1.png,cat\nimages/d.png\n", "line 2: the label is empty"),
        ("images/a 1.png,cat\n,dog\n", "line 2: the path is empty"),
        (
            "path,label,split\nimages/a 1.png,cat,train\nimages/d.png,dog,holdout\n",
            "line 3: unknown split \"holdout\"",
        ),
        ("images/d.png,cat\nimages/d.png,dog\n", "line 2: images/d.png is listed before with another label"),
        ("", "no rows"),
        ("path,label\n", "no rows"),
        ("images/a 1.png,cat\nimages/d.png,cat\n", "only one class found (\"cat\")"),
    ];
    for (text, expected) in cases {
        let got = message(open(dir.path(), "a.csv", text));
        assert!(got.contains(expected), "{got:?} lacks {expected:?}");
    }
    fs::write(dir.path().join("a.csv"), b"images/d.png,\xff\xfe\n").unwrap();
    assert!(message(Source::open(&dir.path().join("a.csv"))).contains("not UTF-8"));
}

#[test]
fn a_folder_of_images_with_one_manifest_is_opened_by_it() {
    let dir = folder_of(&["images/1.png", "images/2.png"]);
    put(dir.path(), "labels.csv", b"path,label\nimages/1.png,cat\nimages/2.png,dog\n");
    assert_eq!(Source::open(dir.path()).unwrap().kind(), "csv");
    // Class folders win over a stray table.
    let dir = folder_of(&["a/1.png", "b/2.png"]);
    put(dir.path(), "results.csv", b"epoch,loss\n1,0.5\n");
    assert_eq!(Source::open(dir.path()).unwrap().kind(), "class folders");
}
