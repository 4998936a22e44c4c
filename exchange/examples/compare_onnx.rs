//! Compares imported models of ONNX with what ONNX Runtime makes of them, and exports each again.
//!
//! ```text
//! compare_onnx FOLDER                   differences; writes FOLDER/NAME.export.onnx and NAME.fp16.export.onnx
//! compare_onnx FOLDER PYTHON SCRIPT     milliseconds for one image, beside those of ONNX Runtime
//! ```
//! `make_onnx.py large FOLDER IMAGES` makes the folder; its `check` runs the exports.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool of the tests")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ocelli_engine::model_file::{Imported, ModelFile, ModelMeta, Origin};
use ocelli_engine::{Exec, Inference};
use ocelli_exchange::{ExportOptions, Import, ImportOptions, Numbers, Target, export, import};

const SIDE: usize = 224;
/// Turns of each side.
const ROUNDS: usize = 13;
/// Of one turn: the time before it, and its runs.
const PAUSE: Duration = Duration::from_millis(50);
const RUNS: u32 = 5;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let folder = Path::new(args.first().expect("FOLDER"));
    let images = floats(&folder.join("images.bin"));
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        files.filter_map(|file| file.strip_suffix(".onnx").map(str::to_owned)).collect();
    names.retain(|name| !name.contains('.'));
    names.sort();
    let mut all_fit = true;
    for name in names {
        let bytes = fs::read(folder.join(format!("{name}.onnx"))).unwrap();
        let imported = match import(&bytes, &ImportOptions::default()) {
            Ok(imported) => imported,
            Err(error) => {
                println!("{name}: {error}");
                all_fit = false;
                continue;
            }
        };
        drop(bytes);
        match &args[1..] {
            [python, script] => time(&name, &imported, &images, [python, script, &args[0]]),
            _ => all_fit &= compare(folder, &name, imported, &images),
        }
    }
    ExitCode::from(u8::from(!all_fit))
}

fn floats(path: &Path) -> Vec<f32> {
    fs::read(path).unwrap().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn compare(folder: &Path, name: &str, imported: Import, images: &[f32]) -> bool {
    let expected = floats(&folder.join(format!("{name}.bin")));
    assert!(imported.input.mean_std.is_none(), "{name} normalises images in its graph");
    let count = images.len() / (SIDE * SIDE * 3);
    let mut inference = Inference::new(&imported.model, 4, &Exec::new(2).unwrap()).unwrap();
    let classes = inference.classes();
    let mut logits = vec![0.0; count * classes];
    for (x, logits) in images.chunks(4 * SIDE * SIDE * 3).zip(logits.chunks_mut(4 * classes)) {
        inference.run(x, logits.len() / classes, logits).unwrap();
    }
    let largest = logits.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let range =
        expected.iter().copied().fold(f32::MIN, f32::max) - expected.iter().copied().fold(f32::MAX, f32::min);
    let best = |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
    let same =
        logits.chunks(classes).zip(expected.chunks(classes)).filter(|(a, b)| best(a) == best(b)).count();
    let error = largest / range;
    println!("{name:20} largest difference {error:.1e} of the range, top-1 equal on {same} of {count}");
    drop(inference);
    let mut meta = meta(name, classes);
    meta.preprocessing.mean = vec![0.485, 0.456, 0.406];
    meta.preprocessing.std = vec![0.229, 0.224, 0.225];
    let file = ModelFile::new(imported.model, meta);
    for (numbers, end) in [(Numbers::F32, "export"), (Numbers::F16, "fp16.export")] {
        let options = ExportOptions { target: Target::Onnx, numbers, with_preprocess: false };
        fs::write(folder.join(format!("{name}.{end}.onnx")), export(&file, &options).unwrap()).unwrap();
    }
    error <= 1e-3 && same == count
}

fn meta(name: &str, classes: usize) -> ModelMeta {
    use ocelli_engine::model_file::{Fit, Preprocessing};
    let imported = Imported {
        format: "onnx".to_owned(),
        producer: String::new(),
        file: name.to_owned(),
        file_hash: [0; 32],
        version: String::new(),
        created: 0,
    };
    ModelMeta {
        name: name.to_owned(),
        classes: (0..classes).map(|class| format!("class {class}")).collect(),
        preprocessing: Preprocessing::new(SIDE as u32, SIDE as u32, 3, Fit::Crop),
        metrics: None,
        temperature: None,
        rejection: None,
        multi_label: None,
        origin: Origin::Imported(imported),
    }
}

/// Another program that answers a line with a line.
struct Peer(Child, BufReader<std::process::ChildStdout>);

impl Peer {
    fn milliseconds(&mut self, name: &str) -> f64 {
        writeln!(self.0.stdin.as_mut().unwrap(), "{name}").unwrap();
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        line.trim().parse().unwrap()
    }
}

/// Measures by turns, A B A B, and prints medians: of both, and of the ratios of neighbours.
fn time(name: &str, imported: &Import, images: &[f32], [python, script, folder]: [&str; 3]) {
    for threads in [1, 2] {
        let mut child = Command::new(python)
            .args([script, "time", folder, &threads.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut peer = Peer(child, output);
        let mut inference = Inference::new(&imported.model, 1, &Exec::new(threads).unwrap()).unwrap();
        let mut logits = vec![0.0; inference.classes()];
        let x = &images[..SIDE * SIDE * 3];
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            // Threads that have run wait for more work in a loop before they sleep: on a machine of two processors they
            // would take one of them from the other side. The script does the same.
            thread::sleep(PAUSE);
            inference.run(x, 1, &mut logits).unwrap();
            let start = Instant::now();
            for _ in 0..RUNS {
                inference.run(x, 1, &mut logits).unwrap();
            }
            let own = start.elapsed().as_secs_f64() * 1e3 / f64::from(RUNS);
            rounds.push((own, peer.milliseconds(name)));
        }
        peer.0.kill().unwrap();
        peer.0.wait().unwrap();
        let rounds = &rounds[2..];
        let ours = median(rounds.iter().map(|(own, _)| *own));
        let theirs = median(rounds.iter().map(|(_, peer)| *peer));
        let ratio = median(rounds.iter().map(|(own, peer)| own / peer));
        println!(
            "{name:20} {threads} thread(s): {ours:7.2} ms, ONNX Runtime {theirs:7.2} ms, ratio {ratio:.2}"
        );
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
