//! What cannot work ends in one line that says what is wrong and where, and a hint: never in a panic.

use std::fs;
use std::io::{Cursor, Write};

use ocelli_engine::model_file::FORMAT_VERSION;

use crate::shapes::{self, Rng, TRAINED, photo};
use crate::support::{Run, Sandbox};

/// Checks the form that all errors share.
#[track_caller]
fn assert_refused(run: &Run, code: i32, words: &[&str]) {
    assert_eq!(run.code, Some(code), "{run:#?}");
    assert!(run.stdout.is_empty(), "{run:#?}");
    // What was noticed before it came to the error.
    let notes = |line: &&str| line.starts_with("note: ");
    let talk: Vec<&str> = run.stderr.lines().skip_while(notes).collect();
    assert!(talk.len() >= 2, "no hint: {run:#?}");
    assert!(talk[0].starts_with("error: ") && talk[1..].iter().all(|l| l.starts_with("hint: ")), "{run:#?}");
    for word in words {
        assert!(run.stderr.contains(word), "`{word}` is not in {run:#?}");
    }
}

fn image(class: &str, seed: u64) -> Vec<u8> {
    shapes::png(&photo(class, &mut Rng(seed)))
}

/// Two classes of two small images.
fn small_data(sandbox: &Sandbox) {
    for (i, class) in ["circle", "square"].iter().enumerate() {
        for k in 0..2 {
            sandbox.write(&format!("data/{class}/{k}.png"), image(class, (2 * i + k) as u64));
        }
    }
}

fn empty_zip() -> Vec<u8> {
    zip::ZipWriter::new(Cursor::new(Vec::new())).finish().unwrap().into_inner()
}

fn idx(magic: u8, dims: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, magic];
    for dim in dims {
        bytes.extend(dim.to_be_bytes());
    }
    bytes.extend(data);
    bytes
}

#[test]
fn data_that_cannot_be_trained_on() {
    let sandbox = Sandbox::new();
    for i in 0..3 {
        sandbox.write(&format!("one/cats/{i}.png"), image("circle", i));
    }
    sandbox.write("empty.zip", empty_zip());
    sandbox.write("text/cats/a.jpg", "not a picture");
    sandbox.write("text/dogs/b.jpg", "not a picture either");
    fs::create_dir(sandbox.path().join("nothing")).unwrap();
    sandbox.write("broken.zip", &b"PK\x03\x04 and then nothing of the kind"[..]);
    sandbox.write("list.csv", "path,label\nnowhere/a.jpg,cat\nnowhere/b.jpg,dog\n");
    sandbox.write("notes.pdf", "%PDF-1.4");
    // Ten images of 2x2 pixels; one label is 7, and labels.txt names three classes.
    sandbox.write("idx/train-images-idx3-ubyte", idx(3, &[10, 2, 2], &[9; 40]));
    sandbox.write("idx/train-labels-idx1-ubyte", idx(1, &[10], &[0, 1, 2, 0, 1, 2, 0, 1, 2, 7]));
    sandbox.write("idx/labels.txt", "a\nb\nc\n");
    sandbox.write("short/train-images-idx3-ubyte", idx(3, &[10, 2, 2], &[9; 39]));
    sandbox.write("short/train-labels-idx1-ubyte", idx(1, &[10], &[0; 10]));
    for (folder, n) in [("train/cats", 3), ("val/cats", 1), ("val/dogs", 2)] {
        for i in 0..n {
            sandbox.write(&format!("untrained/{folder}/{i}.png"), image("circle", i));
        }
    }
    let table: [(&str, &[&str]); 11] = [
        ("untrained", &["only one class can be trained (cats)", "dogs (2 images in val)"]),
        ("one", &["only one class", "cats", "folder of its own"]),
        ("empty.zip", &["empty.zip", "no images"]),
        ("text", &["a.jpg", "not an image"]),
        ("nothing", &["nothing"]),
        ("missing", &["missing: no such file or folder"]),
        ("broken.zip", &["broken.zip: bad ZIP archive"]),
        ("list.csv", &["2 of the listed files do not exist", "nowhere/a.jpg"]),
        ("notes.pdf", &["notes.pdf"]),
        ("idx", &["label 7", "3 classes"]),
        ("short", &["short/train-images-idx3-ubyte: bad IDX file"]),
    ];
    for (data, words) in table {
        let run = sandbox.run(&format!("train {data} --epochs 1"));
        assert_refused(&run, 1, words);
        assert!(
            !sandbox.path().join("runs").exists()
                || fs::read_dir(sandbox.path().join("runs")).unwrap().next().is_none(),
            "{data}: a run folder is left behind"
        );
    }
}

#[test]
fn a_few_unreadable_images_are_named_and_many_are_an_error() {
    let sandbox = Sandbox::new();
    for i in 0..15 {
        sandbox.write(&format!("data/a/{i}.png"), image("circle", i));
        sandbox.write(&format!("data/b/{i}.png"), image("square", i));
    }
    for i in 0..10 {
        sandbox.write(&format!("data/b/bad-{i}.png"), "text");
    }
    let run = sandbox.run("train data --epochs 1");
    assert_refused(&run, 1, &["10 of 40 images are unreadable", "b/bad-0.png", "--max-bad"]);
    let stdout = sandbox.ok("train data --epochs 1 --size 24 --max-bad 0.3");
    assert!(stdout.contains(" accuracy "), "{stdout}");
}

#[test]
fn settings_that_cannot_be_meant() {
    let sandbox = Sandbox::new();
    small_data(&sandbox);
    sandbox.write("unknown.toml", "epochs = 3\nlearning_rate = 0.1\n");
    sandbox.write("broken.toml", "epochs = = 3");
    let table: [(&str, &[&str]); 26] = [
        ("train data --size 8", &["8x8 is too small for keras-cnn", "10x10 at least"]),
        ("train data --model resnet9 --size 64x7 --dry-run", &["64x7 is too small for resnet9", "8x8"]),
        ("train data --epochs 0", &["epochs", "1..="]),
        ("train data --batch 0", &["batch"]),
        ("train data --lr -1", &["lr"]),
        ("train data --lr nan", &["lr"]),
        ("train data --size 0", &["size"]),
        ("train data --size 10y20", &["96x64"]),
        ("train data --val-split 0.6 --test-split 0.6", &["val_split", "test_split"]),
        ("train data --optimizer adamm", &["adamm", "sgd, adam, adamw"]),
        ("train data --model resnet", &["resnet", "keras-cnn"]),
        ("train data --epoch 3", &["--epoch", "--epochs"]),
        ("train data --config unknown.toml", &["unknown.toml", "line 2", "learning_rate"]),
        ("train data --config broken.toml", &["broken.toml", "line 1"]),
        ("trian data", &["trian", "train"]),
        ("evaluate", &["<MODEL>"]),
        ("evaluate model.ocelli data --split half", &["half"]),
        ("predict a.png --json --csv", &["--json", "--csv"]),
        ("bench --model lenet", &["lenet", "keras-cnn-28"]),
        ("bench kernels --isa sse9", &["sse9", "portable", "--isa"]),
        ("bench kernels --filter conv3d", &["conv3d", "conv2d, conv2d-bf16, conv2d-int8, depthwise"]),
        ("bench kernels --threads 0", &["--threads 0"]),
        ("bench kernels --seconds=-1", &["--seconds", "0 to 86400"]),
        ("bench kernels --quick --seconds 1", &["--quick", "--seconds"]),
        ("bench kernels --json --csv", &["--json", "--csv", "ocelli bench kernels --help"]),
        ("bench --batch 2 kernels", &["kernels"]),
    ];
    for (line, words) in table {
        assert_refused(&sandbox.run(line), 2, words);
    }
    assert!(!sandbox.path().join("runs").exists());
    let run = sandbox.run("train data --config nowhere.toml");
    assert_refused(&run, 1, &["nowhere.toml"]);
}

#[test]
fn model_files_that_are_none() {
    let sandbox = Sandbox::new();
    let model = fs::read(TRAINED.run_dir.join("weights/best.ocelli")).unwrap();
    let mut newer = model.clone();
    newer[8..12].copy_from_slice(&(FORMAT_VERSION + 1).to_le_bytes());
    let version = format!("format version {}", FORMAT_VERSION + 1);
    let mut flipped = model.clone();
    flipped[model.len() / 2] ^= 1;
    sandbox.write("newer.ocelli", newer);
    sandbox.write("flipped.ocelli", flipped);
    sandbox.write("cut.ocelli", &model[..model.len() - 100]);
    sandbox.write("empty.ocelli", "");
    sandbox.write("text.ocelli", "these are not the weights you are looking for");
    sandbox.write("folder/note.txt", "");
    sandbox.write("a.png", image("circle", 1));
    small_data(&sandbox);
    let table: [(&str, &[&str]); 7] = [
        ("newer.ocelli", &["newer.ocelli", &version, "update ocelli"]),
        ("flipped.ocelli", &["flipped.ocelli"]),
        ("cut.ocelli", &["cut.ocelli"]),
        ("empty.ocelli", &["empty.ocelli"]),
        ("text.ocelli", &["text.ocelli", "not a model file"]),
        ("nowhere.ocelli", &["nowhere.ocelli"]),
        ("folder", &["folder"]),
    ];
    for (model, words) in table {
        assert_refused(&sandbox.run(&format!("predict --model {model} a.png")), 1, words);
        assert_refused(&sandbox.run(&format!("evaluate {model} data")), 1, words);
        assert_refused(&sandbox.run(&format!("serve {model} --addr 127.0.0.1:0")), 1, words);
    }
}

#[test]
fn data_that_does_not_fit_the_model() {
    let sandbox = Sandbox::new();
    sandbox.write("data/cat/1.png", image("circle", 1));
    sandbox.write("data/dog/1.png", image("square", 1));
    let run = sandbox.run(&format!("evaluate {} data", TRAINED.run_dir.display()));
    assert_refused(&run, 1, &["cat, dog", "circle, square, triangle", "by name"]);

    // One class that the model knows and one that it does not: measured and said.
    sandbox.write("mixed/circle/1.png", image("circle", 1));
    sandbox.write("mixed/dog/1.png", image("square", 1));
    let run = sandbox.run(&format!("evaluate {} mixed", TRAINED.run_dir.display()));
    assert!(run.stderr.contains("1 images left out") && run.stderr.contains("dog"), "{run:#?}");
    run.ok();
}

#[test]
fn places_that_cannot_be_written() {
    let sandbox = Sandbox::new();
    small_data(&sandbox);
    sandbox.write("file", "not a folder");
    for out in ["file", "file/below"] {
        assert_refused(&sandbox.run(&format!("train data --epochs 1 --out {out}")), 1, &["file"]);
    }
    let run = sandbox.run("doctor --out file/below");
    assert_eq!(run.code, Some(1), "{run:#?}");
    assert!(run.stdout.contains("failed") && run.stderr.contains("\nhint: "), "{run:#?}");
}

#[test]
fn addresses_that_cannot_be_served() {
    let sandbox = Sandbox::new();
    let model = TRAINED.run_dir.display();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let run = sandbox.run(&format!("serve {model} --addr {addr}"));
    assert_refused(&run, 1, &["cannot listen", "another program", "--addr"]);
    let run = sandbox.run(&format!("serve {model} --addr localhost"));
    assert_refused(&run, 2, &["localhost"]);
}

#[test]
fn names_in_an_archive_cannot_steer_the_terminal() {
    let sandbox = Sandbox::new();
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    for (i, class) in ["a\x1b[2J", "b"].iter().enumerate() {
        for k in 0..6 {
            zip.start_file(format!("{class}/{k}.png"), options).unwrap();
            zip.write_all(&image(["circle", "square"][i], k)).unwrap();
        }
    }
    sandbox.write("evil.zip", zip.finish().unwrap().into_inner());
    let run = sandbox.run("train evil.zip --epochs 1 --size 24");
    assert!(!run.stdout.contains('\x1b') && !run.stderr.contains('\x1b'), "{run:#?}");
}
