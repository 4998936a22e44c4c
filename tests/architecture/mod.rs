//! The invariants of ARCHITECTURE.md that a look at the sources can prove.

mod imports;

use std::fs;
use std::path::{Path, PathBuf};

use imports::Imports;

/// All Rust sources below a folder of the repository, with their text.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is there").map(|e| e.expect("readable").path())
        {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&entry).expect("sources are text");
                found.push((entry, text));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has sources");
    found
}

/// The sources that contain a string, outside of comments.
fn naming(folders: &[&str], word: &str) -> Vec<String> {
    let code =
        |text: &str| text.lines().any(|line| line.split("//").next().is_some_and(|code| code.contains(word)));
    let all = folders.iter().flat_map(|folder| sources(folder));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let short = |path: PathBuf| path.strip_prefix(root).expect("below the root").display().to_string();
    let mut files: Vec<_> = all.filter(|(_, text)| code(text)).map(|(path, _)| short(path)).collect();
    files.sort();
    files
}

#[test]
fn crates_outside_of_the_engine_forbid_unsafe_code() {
    for file in [
        "datasets/src/lib.rs",
        "pipeline/src/lib.rs",
        "server/src/lib.rs",
        "common/src/lib.rs",
        "flood/src/lib.rs",
        "src/main.rs",
        "testing/src/lib.rs",
        "exchange/src/lib.rs",
        "python/src/lib.rs",
    ] {
        let text =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("the file is there");
        assert!(text.contains("#![forbid(unsafe_code)]"), "{file}");
    }
}

#[test]
fn unsafe_code_stays_in_its_rooms() {
    let rooms = [
        "engine/src/simd/",
        "engine/src/kernels/",
        "engine/src/buffer.rs",
        "engine/src/parallel/region.rs",
        "engine/src/parallel/columns.rs",
    ];
    for file in naming(&["engine/src"], "unsafe ") {
        assert!(rooms.iter().any(|room| file.starts_with(room)), "{file} has unsafe code");
    }
    assert_eq!(naming(&["benches", "bench"], "unsafe "), ["bench/src/yardsticks.rs"]);
    // Names of functions alone: no block of this file is unsafe.
    assert_eq!(naming(&["web"], "unsafe("), ["web/src/abi.rs"]);
    assert_eq!(naming(&["web"], "unsafe {"), Vec::<String>::new());
}

#[test]
fn each_wrapped_dependency_is_named_in_one_file() {
    assert_eq!(
        naming(
            &["engine/src", "datasets/src", "pipeline/src", "server/src", "flood/src", "src"],
            "bincode::"
        ),
        ["engine/src/model_file/codec.rs"]
    );
    let decoders = |word| naming(&["datasets/src", "pipeline/src", "server/src", "flood/src", "src"], word);
    assert_eq!(decoders("jpeg_decoder::"), ["datasets/src/decode/jpeg/second.rs"]);
    assert_eq!(decoders("tiff::TiffError"), ["datasets/src/decode/tiff/chunks.rs"]);
    assert_eq!(decoders("unicode_normalization::"), ["datasets/src/names.rs"]);
    for file in
        naming(&["engine/src", "datasets/src", "pipeline/src", "server/src", "flood/src", "src"], "rusqlite")
    {
        // Its tests damage databases in ways that the room has no function for.
        let rooms = ["pipeline/src/store/database/", "pipeline/src/store/tests/"];
        assert!(rooms.iter().any(|room| file.starts_with(room)), "{file} names the database's library");
    }
    assert_eq!(naming(&["server/src", "flood/src", "src"], "rustls::"), ["server/src/tls.rs"]);
    assert_eq!(naming(&["server/src", "flood/src", "src"], "prometheus_client::"), ["server/src/metrics.rs"]);
    for file in naming(&["server/src", "flood/src", "src"], "object_store::") {
        assert!(
            file.starts_with("server/src/shared_store/objects"),
            "{file} names the library of object stores"
        );
    }
    let everywhere = ["engine/src", "datasets/src", "pipeline/src", "server/src", "flood/src", "src"];
    let exchange = |word| naming(&["exchange/src"], word);
    assert_eq!(exchange("hdf5_pure::"), ["exchange/src/keras/hdf5.rs"]);
    assert_eq!(exchange("zip::"), ["exchange/src/archive.rs"]);
    assert_eq!(naming(&everywhere, "mimalloc"), ["src/allocator.rs"]);
    // The module of our own has the library's name.
    assert_eq!(exchange("safetensors::SafeTensorError"), ["exchange/src/torch/safetensors.rs"]);
    assert_eq!(naming(&everywhere, "mpi::"), ["pipeline/src/ranks/connection.rs"]);
}

#[test]
fn the_program_does_not_carry_other_peoples_kernels() {
    let manifest =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).expect("it is there");
    let (program, benches) = manifest.split_once("[dev-dependencies]").expect("there are some");
    let (_, program) = program.split_once("[dependencies]").expect("there are some");
    assert!(benches.contains("yardsticks") && !program.contains("yardsticks"));
    assert_eq!(naming(&["benches", "bench"], "matrixmultiply::"), ["bench/src/yardsticks.rs"]);
}

#[test]
fn one_file_of_a_crate_knows_the_pool_of_threads() {
    for (folder, file) in [
        ("engine/src", "engine/src/parallel/pool.rs"),
        ("pipeline/src", "pipeline/src/pool.rs"),
        ("datasets/src", "datasets/src/pool.rs"),
    ] {
        assert_eq!(naming(&[folder], "rayon"), [file]);
    }
    assert_eq!(naming(&["engine/src"], "thread::Builder"), Vec::<String>::new());
    // The model checker's own threads.
    assert_eq!(naming(&["engine/src"], "thread::spawn"), ["engine/src/parallel/model.rs"]);
    let others = ["server/src", "flood/src", "common/src", "bench/src", "src"];
    assert_eq!(naming(&others, "rayon"), Vec::<String>::new());
}

#[test]
fn feature_strings_stand_in_one_place() {
    assert_eq!(naming(&["engine/src"], "target_feature(enable"), ["engine/src/simd/dispatch.rs"]);
}

#[test]
fn floors_do_not_reach_upward() {
    for (folder, above) in [
        (
            "engine/src",
            &["ocelli_datasets", "ocelli_pipeline", "ocelli_server", "ocelli_bench", "tokio", "hyper"][..],
        ),
        ("bench/src", &["ocelli_datasets", "ocelli_pipeline", "ocelli_server", "tokio", "hyper"]),
        (
            "datasets/src",
            &["ocelli_engine", "ocelli_pipeline", "ocelli_server", "ocelli_bench", "tokio", "hyper"],
        ),
        (
            "exchange/src",
            &["ocelli_datasets", "ocelli_pipeline", "ocelli_server", "ocelli_bench", "tokio", "hyper"],
        ),
        ("pipeline/src", &["ocelli_server", "ocelli_bench", "tokio", "hyper"]),
        ("server/src", &["ocelli_bench"]),
    ] {
        for word in above {
            assert_eq!(naming(&[folder], word), Vec::<String>::new(), "{folder} knows {word}");
        }
    }
}

#[test]
fn kernels_and_layers_neither_read_the_environment_nor_print() {
    for word in ["std::env", "println!", "eprintln!", "std::time"] {
        let files = naming(&["engine/src/kernels", "engine/src/layers", "engine/src/plan"], word);
        assert!(files.iter().all(|file| file.ends_with("testing.rs")), "{word}: {files:?}");
    }
}

#[test]
fn no_layer_names_an_instruction_set() {
    for word in ["Avx", "Neon", "Portable", "target_arch"] {
        assert_eq!(naming(&["engine/src/layers", "engine/src/plan"], word), Vec::<String>::new());
    }
}

#[test]
fn no_source_is_longer_than_800_lines() {
    for folder in [
        "common",
        "engine",
        "datasets",
        "pipeline",
        "server",
        "flood",
        "bench",
        "src",
        "testing",
        "python/src",
        "tests",
        "benches",
        "exchange",
        "web",
    ] {
        for (path, text) in sources(folder) {
            assert!(text.lines().count() <= 800, "{}", path.display());
        }
    }
}

/// The source folder of every crate.
const CRATES: [&str; 10] = [
    "common/src",
    "engine/src",
    "datasets/src",
    "pipeline/src",
    "server/src",
    "flood/src",
    "bench/src",
    "testing/src",
    "src",
    "web/src",
];

fn imports(folder: &str) -> Imports {
    Imports::of_crate(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), sources(folder))
}

#[test]
fn no_files_and_no_folders_import_each_other_in_a_circle() {
    for folder in CRATES {
        let imports = imports(folder);
        let circles: Vec<_> = imports.circles().into_iter().chain(imports.folder_circles()).collect();
        assert!(circles.is_empty(), "{folder}: {circles:#?}");
    }
}

/// The floors of the engine from the ground up. A file may import from its own floor and those below.
const ENGINE_FLOORS: [&[&str]; 7] = [
    &["bf16", "buffer", "error", "rng", "simd", "exec", "parallel", "arena", "collective"],
    &["geometry", "graph", "zoo", "params", "quantization", "model_file", "rejection"],
    &["kernels"],
    &["layers"],
    &["plan", "optim"],
    &["train", "infer", "class_gradients", "calibration", "probability"],
    &["oracle", "lib"],
];

#[test]
fn the_engine_imports_downward() {
    let floor = |file: &str| {
        let room = file.split(['/', '.']).next().unwrap_or_default();
        let found = ENGINE_FLOORS.iter().position(|rooms| rooms.contains(&room));
        found.unwrap_or_else(|| panic!("{file} stands on no floor: add it to ENGINE_FLOORS"))
    };
    for (from, targets) in imports("engine/src").files {
        for to in targets {
            assert!(floor(&from) >= floor(&to), "{from} imports {to} from a floor above");
        }
    }
}

#[test]
fn imports_are_followed_to_the_files_that_define() {
    let sources = [
        ("lib.rs", "mod a; mod b; pub use a::inner::Inner; #[cfg(test)] mod tests { use crate::b::Never; }"),
        ("a/mod.rs", "mod inner; pub(crate) use inner::Inner; // use crate::b::InComment;"),
        ("a/inner.rs", "pub struct Inner; fn f() -> &'static str { \"crate::b::InText\" }"),
        ("b.rs", "use crate::{a::{self as other, Inner as Renamed},}; fn g() { super::a::inner::f(); }"),
    ];
    let found = Imports::read(&sources.map(|(file, text)| (file.to_owned(), text.to_owned())));
    let edges: Vec<_> =
        found.files.iter().flat_map(|(from, to)| to.iter().map(move |to| (from, to))).collect();
    assert_eq!(format!("{edges:?}"), r#"[("b.rs", "a/inner.rs"), ("b.rs", "a/mod.rs")]"#);
    assert!(found.circles().is_empty() && found.folder_circles().is_empty());

    let circle = [
        ("a.rs", "use crate::b::B;"),
        ("b.rs", "use crate::c::d::D;"),
        ("c/mod.rs", "mod d;"),
        ("c/d.rs", "use super::super::a::A;"),
    ];
    let found = Imports::read(&circle.map(|(file, text)| (file.to_owned(), text.to_owned())));
    assert_eq!(found.circles(), [["a.rs", "b.rs", "c/d.rs"]]);
    assert_eq!(found.folder_circles(), [["a", "b", "c"]]);
}
