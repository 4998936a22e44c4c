//! `ocelli predict` on what folders of photos hold.

use crate::shapes::{self, Rng, TRAINED, photo};
use crate::support::{Run, Sandbox};

const HEIC: &[u8] = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic";
const AVIF: &[u8] = b"\0\0\0\x18ftypavif\0\0\0\0avifmif1";

fn predict(sandbox: &Sandbox, args: &str) -> Run {
    sandbox.run(&format!("predict -m {} {args}", TRAINED.run_dir.display()))
}

fn of_type(run: &Run, kind: &str, field: &str) -> Vec<String> {
    let lines = run.json_lines();
    let lines = lines.iter().filter(|line| line["type"] == kind);
    lines.map(|line| line[field].as_str().unwrap_or_else(|| panic!("{line}")).to_owned()).collect()
}

#[test]
fn folders_are_labelled_by_content_and_the_rest_is_named() {
    let sandbox = Sandbox::new();
    let image = shapes::png(&photo("square", &mut Rng(5)));
    let turned = shapes::jpeg_rotated(&photo("circle", &mut Rng(6)));
    for name in ["a.png", "b.dat", "c"] {
        sandbox.write(&format!("photos/{name}"), &image);
    }
    for name in ["d.jfif", "e.JPE", "IMG_1.HEIC"] {
        sandbox.write(&format!("photos/{name}"), &turned);
    }
    sandbox.write("photos/f.HEIC", HEIC);
    sandbox.write("photos/g.avif", AVIF);
    sandbox.write("photos/notes.txt", "hello");
    sandbox.write("photos/.DS_Store", "x");
    sandbox.write("photos/sub/h.png", &image);

    let run = predict(&sandbox, "photos --json");
    assert_eq!(run.code, Some(0), "{run:#?}");
    let labelled: Vec<String> =
        ["IMG_1.HEIC", "a.png", "b.dat", "c", "d.jfif", "e.JPE"].map(|name| format!("photos/{name}")).into();
    assert_eq!(of_type(&run, "prediction", "path"), labelled);
    assert_eq!(of_type(&run, "skipped", "path"), ["photos/f.HEIC", "photos/g.avif"]);
    assert_eq!(of_type(&run, "skipped", "format"), ["HEIC", "AVIF"]);
    let notes = of_type(&run, "note", "text");
    assert!(notes.iter().any(|note| note.contains("1 non-image file ignored: notes.txt")), "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("1 folder in it not searched: -r does")), "{notes:?}");
    assert!(run.json_lines().iter().all(|line| line["schema"] == 1));

    // The same for people; --quiet leaves out what is no photo.
    for (args, told) in [("photos", true), ("photos -q", false), ("photos --csv", true)] {
        let run = predict(&sandbox, args);
        assert!(run.stderr.contains("warning: 1 HEIC file is not read: f.HEIC; convert"), "{run:#?}");
        assert!(run.stderr.contains("warning: 1 AVIF file is not read: g.avif; convert"), "{run:#?}");
        assert_eq!(run.stderr.contains("notes.txt"), told, "{run:#?}");
        assert!(!run.stdout.contains("HEIC file"), "{run:#?}");
        run.ok();
    }
    let run = predict(&sandbox, "photos -r --json");
    assert_eq!(of_type(&run, "prediction", "path").len(), 7);
    assert!(!run.stderr.contains("not searched"), "{run:#?}");
}

#[test]
fn what_is_named_and_cannot_be_labelled_is_refused_in_one_line() {
    let sandbox = Sandbox::new();
    sandbox.write("f.HEIC", HEIC);
    sandbox.write("as.jpg", HEIC);
    sandbox.write("notes.txt", "hello");
    sandbox.write("empty.png", "");
    sandbox.write("photos.zip", b"PK\x03\x04 and so on");
    sandbox.write("labels.csv", "file,label\na.png,cat\n");
    sandbox.write("train-images-idx3-ubyte", b"\0\0\x08\x03\0\0\0\x01\0\0\0\x01\0\0\0\x01\0");
    sandbox.write("none/notes.txt", "hello");
    sandbox.write("only/f.HEIC", HEIC);
    sandbox.write("set/train/a/1.png", "x");
    sandbox.write("set/test/a/1.png", "x");
    sandbox.write("run/weights/best.ocelli", "x");
    std::fs::create_dir(sandbox.path().join("bare")).unwrap();
    for (path, says) in [
        ("f.HEIC", "f.HEIC: HEIC"),
        ("as.jpg", "as.jpg: HEIC"),
        ("notes.txt", "notes.txt: not an image"),
        ("empty.png", "empty.png: empty file"),
        ("photos.zip", "photos.zip: a ZIP archive: unpack it"),
        ("labels.csv", "labels.csv: a table"),
        ("train-images-idx3-ubyte", "an IDX file"),
        ("nowhere.png", "nowhere.png: No such file"),
        ("bare", "bare: no images in this folder"),
        ("bare -r", "bare: no images in this folder"),
        ("none", "none: no images in this folder"),
        ("only", "only: no images in this folder that can be read"),
        ("set", "set: no images directly in this folder; -r searches"),
    ] {
        let run = predict(&sandbox, path);
        assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{path}: {run:#?}");
        let errors: Vec<_> = run.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(errors.len() == 2 && errors[0].contains(says), "{path}: {run:#?}");
        assert_eq!(errors[1], "error: 1 file was not labelled", "{run:#?}");
    }
    let run = sandbox.run("predict f.HEIC run");
    assert!(run.stderr.contains("run: a run folder: a model comes first"), "{run:#?}");
}

#[cfg(unix)]
#[test]
fn names_may_be_of_any_bytes() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let sandbox = Sandbox::new();
    let image = shapes::png(&photo("square", &mut Rng(5)));
    let folder = sandbox.write("photos/a.png", &image).parent().unwrap().to_owned();
    for name in [&b"caf\xe9.png"[..], b"line\nbreak.png", b"\x1b[2J", "\u{732b}.png".as_bytes()] {
        std::fs::write(folder.join(OsStr::from_bytes(name)), &image).unwrap();
    }
    std::fs::write(folder.join(OsStr::from_bytes(b"\xe9\n.HEIC")), HEIC).unwrap();
    let run = predict(&sandbox, "photos");
    assert_eq!(run.code, Some(0), "{run:#?}");
    assert_eq!(run.stdout.lines().filter(|line| line.contains("  square ")).count(), 5, "{run:#?}");
    assert!(!run.stdout.contains('\x1b') && run.stderr.lines().count() == 1, "{run:#?}");
    let run = predict(&sandbox, "photos --json");
    assert_eq!(of_type(&run, "prediction", "path").len(), 5);
}
