//! CSV and TSV in all the dialects people save.

use crate::helpers::{LIMITS, folder_of, message, put, summary};
use ocelli_datasets::{DatasetError, Pixels, Source};
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
            "path,label,split\nimages/a 1.png,cat,train\nimages/d.png,dog,later\n",
            "line 3: unknown split \"later\" in column split; write train, val or test",
        ),
        ("images/d.png,cat\nimages/d.png,dog\n", "line 2: images/d.png is listed before with another label"),
        (
            "images/a 1.png,cat\nimages/d.png,dog, big\n",
            "line 2: 3 columns where 2 are expected; put values that hold the separator in quotes",
        ),
        ("path,label\nimages/d.png,\"dog\n", "line 2: a quote is opened in this row and never closed"),
        ("images/a 1.png,cat\nimages/\u{e9}.png,dog\n", "1 of the listed files do not exist"),
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

/// Classes with their images and splits, or the error.
fn read(dir: &Path, text: &str) -> Result<String, String> {
    let source = open(dir, "t.csv", text).map_err(|e| e.to_string())?;
    let mut rows: Vec<String> =
        summary(&source).into_iter().map(|(_, label, split)| format!("{label}/{split}")).collect();
    rows.sort();
    Ok(format!("{} | {}", rows.join(" "), source.notes().join("; ")))
}

#[test]
fn the_right_columns_are_found_or_asked_for() {
    let dir =
        folder_of(&["x/b0.png", "x/b1.png", "x/c0.png", "x/c1.png", "0.png", "1.png", "2.png", "3.png"]);
    let rows = |row: &dyn Fn(usize) -> String| (0..4).map(|i| row(i) + "\n").collect::<String>();
    let label = |i: usize| ["cat", "dog"][i % 2];
    let usage = ["Training", "Training", "PublicTest", "PrivateTest"];
    let id = ["b0", "b1", "c0", "c1"];
    let fine = "cat/- cat/- dog/- dog/-";
    let cases: Vec<(String, &str)> = vec![
        (
            "path, label\n".to_owned() + &rows(&|i| format!("{i}.png, \"{}, small\"", label(i))),
            "cat, small/- cat, small/- dog, small/-",
        ),
        (",filename,label\n".to_owned() + &rows(&|i| format!("{i},{i}.png,{}", label(i))), fine),
        (
            "\"\",\"filename\",\"label\"\n".to_owned()
                + &rows(&|i| format!("\"{}\",\"{i}.png\",\"{}\"", i + 1, label(i))),
            fine,
        ),
        ("filename label\n".to_owned() + &rows(&|i| format!("{} {i}.png {}", i + 1, label(i))), fine),
        (
            "image,label,Usage\n".to_owned() + &rows(&|i| format!("{i}.png,{},{}", label(i), usage[i])),
            "cat/train cat/val dog/test dog/train",
        ),
        ("id,breed\n".to_owned() + &rows(&|i| format!("{},{}", id[i], label(i))), fine),
        (rows(&|i| format!("{},{}", id[i], label(i))), fine),
        ("label,id\n".to_owned() + &rows(&|i| format!("{},{}", label(i), id[i])), fine),
        (
            "lesion_id,image_id,dx,dx_type,age,sex\n".to_owned()
                + &rows(&|i| format!("HAM_{i},{},{},histo,{},male", id[i], label(i), 40 + i)),
            fine,
        ),
        ("key,pic,sort,group\n".to_owned() + &rows(&|i| format!("k{i},{},{},all", id[i], label(i))), fine),
        ("image,fold,label\n".to_owned() + &rows(&|i| format!("{},{},{}", id[i], i % 2, label(i))), fine),
        ("sep=;\nimage;label\n".to_owned() + &rows(&|i| format!("{i}.PNG;{}", label(i))), fine),
        (
            "image,phase,cat,dog\n".to_owned()
                + &rows(&|i| format!("{},train,{},{}", id[i], 1 - i % 2, i % 2)),
            "cat/train cat/train dog/train dog/train",
        ),
        (rows(&|i| format!("{i}.png {}", i % 2)), "0/- 0/- 1/- 1/-"),
        (
            rows(&|i| format!("{i}.png,{},{}", label(i), ["train", "train", "val", "test"][i])),
            "cat/train cat/val dog/test dog/train",
        ),
    ];
    for (text, expected) in cases {
        let seen = read(dir.path(), &text);
        assert!(seen.as_ref().is_ok_and(|seen| seen.starts_with(expected)), "{text}{seen:?}");
    }
    let refusals: Vec<(String, &[&str])> = vec![
        (
            "image,kind,sex\n".to_owned()
                + &rows(&|i| format!("{},{},{}", id[i], label(i), ["f", "m"][i / 2])),
            &[
                "cannot be told from its header",
                "kind (e.g. cat)",
                "sex (e.g. f)",
                "rename the right one to label",
            ],
        ),
        (
            "a,b\n".to_owned() + &rows(&|i| format!("{i}{i},{}", label(i))),
            &["no column names image files", "header are a, b"],
        ),
        (
            "id,label\n0,x\nx/c0,y\n7,y\n".to_owned(),
            &["1 of the listed files do not exist: 7", "with or without their extension"],
        ),
    ];
    for (text, expected) in refusals {
        let seen = read(dir.path(), &text).unwrap_err();
        expected.iter().for_each(|part| assert!(seen.contains(part), "{text}{seen}\nlacks {part}"));
    }
    let seen = read(dir.path(), "image,label,age\n0,x,7\n1,y,8\n").unwrap();
    assert!(
        seen.contains("read as a table, columns image and label; 2 classes; column not used: age"),
        "{seen}"
    );
}

#[test]
fn limits_hold() {
    let dir = folder_of(&["0.png", "1.png"]);
    let wide = |columns: usize| {
        let zeros = ",x".repeat(columns - 2);
        read(dir.path(), &format!("0.png,a{zeros}\n1.png,b{zeros}\n"))
    };
    assert!(wide(4096).is_ok());
    assert!(wide(4097).unwrap_err().contains("4097 columns; at most 4096 are read"));
    let rows = |n: usize| "0.png,a\n".repeat(n - 1) + "1.png,b\n";
    assert!(read(dir.path(), &rows(1_000_002)).unwrap_err().contains("more than 1000000 rows"));
}

#[test]
fn a_name_in_several_folders_is_asked_for() {
    let dir = folder_of(&["a/1.png", "b/1.png", "b/2.png"]);
    let seen = read(dir.path(), "id,label\n1,x\n2,y\n").unwrap_err();
    assert!(seen.contains("line 2: \"1\" in column id may mean several images"), "{seen}");
    assert!(read(dir.path(), "id,label\na/1,x\nb/1,y\n").is_ok());
}

#[test]
fn pixels_in_a_table_are_gray_images() {
    let dir = tempfile::tempdir().unwrap();
    let pixels = |i: usize| (0..64).map(|p| (i * 3 + p).to_string()).collect::<Vec<_>>();
    let fer: String = (0..6)
        .map(|i| {
            format!(
                "{},{},{}\n",
                i % 2,
                pixels(i).join(" "),
                ["Training", "PublicTest", "PrivateTest"][i / 2]
            )
        })
        .collect();
    let source = open(dir.path(), "fer.csv", &format!("emotion,pixels,Usage\n{fer}")).unwrap();
    let splits: Vec<String> = summary(&source).into_iter().map(|row| row.1 + " " + &row.2).collect();
    assert_eq!(splits, ["0 train", "1 train", "0 val", "1 val", "0 test", "1 test"]);
    assert_eq!(source.native_shape().size, Some((8, 8)));
    let image = source.image(1, &LIMITS).unwrap().0;
    assert_eq!((image.width, image.channels), (8, 1));
    assert_eq!(image.pixels, Pixels::U8((3..67).collect()));
    assert!(
        source.notes()[0].contains(
            "read as a table of gray images of 8x8 pixels, columns pixels, emotion and Usage; 2 classes"
        ),
        "{:?}",
        source.notes()
    );

    // One column a pixel, with and without a header, the label in front or behind.
    let wide = |first: bool| -> String {
        let row = |i: usize| {
            let (label, pixels) = ((i % 2).to_string(), pixels(i).join(","));
            if first { format!("{label},{pixels}\n") } else { format!("{pixels},{label}\n") }
        };
        (0..4).map(row).collect()
    };
    let names: Vec<String> = (0..64).map(|p| format!("pixel{p}")).collect();
    for (name, text) in [
        ("header.csv", format!("label,{}\n{}", names.join(","), wide(true))),
        ("plain.csv", wide(true)),
        ("behind.csv", format!("{},label\n{}", names.join(","), wide(false))),
    ] {
        let source = open(dir.path(), name, &text).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(source.classes(), ["0", "1"], "{name}");
        assert_eq!(source.image(2, &LIMITS).unwrap().0.pixels, Pixels::U8((6..70).collect()), "{name}");
    }
    // A folder with nothing but such a table.
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "fer2013/fer.csv", format!("emotion,pixels,Usage\n{fer}").as_bytes());
    assert_eq!(Source::open(&folder.path().join("fer2013")).unwrap().items().len(), 6);

    let cases = [
        (
            fer.replacen("4 5 6", "4 5.5 6", 1),
            "line 2: column 2: \"5.5\" is no pixel; 64 numbers from 0 to 255",
        ),
        (fer.replacen(" 66,", ",", 1), "line 3: column 2: 63 pixels; 64 numbers"),
        (fer.replacen(" 66,", " 300,", 1), "line 3: column 2: \"300\" is no pixel"),
        (fer.replacen("1,3 4", ",3 4", 1), "line 3: the label is empty (column emotion)"),
    ];
    for (text, expected) in cases {
        let seen = message(open(dir.path(), "bad.csv", &format!("emotion,pixels,Usage\n{text}")));
        assert!(seen.contains(expected), "{seen} lacks {expected}");
    }
    let same = format!("0,{0}\n1,{0}\n", pixels(1).join(" "));
    let seen = message(open(dir.path(), "same.csv", &format!("emotion,pixels\n{same}")));
    assert!(seen.contains("column pixels: all 2 images are the same"), "{seen}");
}
