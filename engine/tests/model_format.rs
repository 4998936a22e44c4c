//! The format outlives its writer: golden files keep their bytes, and a reader that shares no code with the engine,
//! written from `docs/model-format.md` alone, finds in them what the engine put there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod model_format_reader;
mod model_sample;

use std::path::{Path, PathBuf};

use model_format_reader::{File, Value, read};
use ocelli_engine::Model;
use ocelli_engine::graph::{Activation, Conv2d, Op, Padding, Pool2d};
use ocelli_engine::model_file::{
    FORMAT_VERSION, ModelFile, ModelMeta, MultiLabel, Origin, Rejection, RejectionScore, WeightType,
};
use sha2::{Digest, Sha256};

type Make = fn() -> ModelFile;
type Change = fn(&mut ModelFile);

/// Files of every version of the format, and how they are made.
const GOLDEN: [(&str, Make); 11] = [
    ("tiny.ocelli", || model_sample::model_file(false)),
    ("tiny-training.ocelli", || model_sample::model_file(true)),
    ("tiny-probes.ocelli", model_sample::probed_file),
    ("tiny-imported.ocelli", model_sample::imported_file),
    ("tiny-half.ocelli", model_sample::half_file),
    ("tiny-calibrated.ocelli", model_sample::calibrated_file),
    ("tiny-rejecting.ocelli", model_sample::rejecting_file),
    ("tiny-inner.ocelli", model_sample::inner_file),
    ("tiny-multi-label.ocelli", model_sample::multi_label_file),
    ("tiny-activations.ocelli", model_sample::activations_file),
    ("tiny-int8.ocelli", model_sample::quantized_file),
];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// A change of these bytes is a change of the format: raise its version, keep the old file, and keep reading it.
#[test]
fn golden_files_are_written_again_byte_for_byte() {
    let now = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let mut changed = Vec::new();
    for (name, make) in GOLDEN {
        let bytes = make().to_bytes().unwrap();
        std::fs::write(now.join(name), &bytes).unwrap();
        if std::fs::read(golden(name)).ok() != Some(bytes) {
            changed.push(name);
        }
    }
    assert!(changed.is_empty(), "{changed:?} are written differently now, see {}", now.display());
}

#[test]
fn golden_files_are_read() {
    for (name, make) in GOLDEN {
        let found = ModelFile::load(&golden(name)).unwrap();
        let expected = make();
        assert_eq!(found.model.graph(), expected.model.graph());
        assert_eq!(found.model.params(), expected.model.params());
        assert_eq!((found.weights, found.meta), (expected.weights, expected.meta));
        assert_eq!(found.training, expected.training);
        assert_eq!(found.probes, expected.probes);
        assert_eq!(found.quantization, expected.quantization);
    }
}

#[test]
fn an_independent_reader_finds_everything_in_the_golden_files() {
    for (name, make) in GOLDEN {
        compare(&read(&std::fs::read(golden(name)).unwrap()), &make());
    }
}

#[test]
fn an_independent_reader_finds_everything_in_a_new_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = model_sample::probed_file();
    file.meta.metrics = None;
    file.probes.as_mut().unwrap().images.truncate(1);
    file.meta.trained_mut().unwrap().parent = None;
    file.training.as_mut().unwrap().moments.truncate(1);
    let path = folder.path().join("new.ocelli");
    let hash = file.save(&path).unwrap();
    let found = read(&std::fs::read(&path).unwrap());
    compare(&found, &file);
    assert_eq!(found.hash, hash);
}

/// A model that was trained by this program and has an operation of version 2.
#[test]
fn the_version_is_the_first_that_can_hold_the_model() {
    let sigmoid = |file: &mut ModelFile| {
        let mut graph = file.model.graph().clone();
        let silu = graph.nodes.iter_mut().find(|node| node.name == "silu").unwrap();
        silu.op = Op::Activation(Activation::Sigmoid);
        let mut model = Model::zeros(graph).unwrap();
        model.params_mut().copy_from_slice(file.model.params());
        file.model = model;
    };
    let imported = |file: &mut ModelFile| file.meta.origin = model_sample::imported_file().meta.origin;
    let nothing = |_: &mut ModelFile| {};
    let half = |file: &mut ModelFile| file.weights = WeightType::F16;
    let both = |file: &mut ModelFile| {
        (file.weights, file.meta.origin) = (WeightType::F16, model_sample::imported_file().meta.origin)
    };
    let calibrated = |file: &mut ModelFile| file.meta.temperature = Some(0.75);
    let all = |file: &mut ModelFile| {
        let rejection = model_sample::rejecting_file().meta.rejection;
        let multi_label = model_sample::multi_label_file().meta.multi_label;
        let temperature = Some(2.0);
        file.meta = ModelMeta { temperature, rejection, multi_label, ..model_sample::imported_file().meta };
        file.meta.preprocessing = model_sample::meta().preprocessing;
        file.weights = WeightType::F16;
    };
    let rejecting =
        |file: &mut ModelFile| file.meta.rejection = model_sample::rejecting_file().meta.rejection;
    let inner = |file: &mut ModelFile| *file = model_sample::inner_file();
    let measured = |file: &mut ModelFile| {
        file.meta.rejection = model_sample::rejecting_file().meta.rejection;
        file.meta.rejection.as_mut().unwrap().strange = 7;
    };
    let multi_label = |file: &mut ModelFile| {
        let labels = model_sample::multi_label_file().meta.multi_label;
        file.meta.multi_label = labels.map(|labels| MultiLabel { quality: None, ..labels });
    };
    let activations = |file: &mut ModelFile| *file = model_sample::activations_file();
    let changes: [(Change, u32); 12] = [
        (nothing, 1),
        (sigmoid, 2),
        (imported, 2),
        (half, 3),
        (both, 3),
        (calibrated, 4),
        (rejecting, 5),
        (inner, 6),
        (measured, 6),
        (multi_label, 7),
        (all, 7),
        (activations, FORMAT_VERSION),
    ];
    for (change, version) in changes {
        let mut file = model_sample::model_file(true);
        change(&mut file);
        let bytes = file.to_bytes().unwrap();
        assert_eq!(bytes[8..12], version.to_le_bytes());
        let again = ModelFile::from_bytes(&bytes).unwrap();
        assert_eq!((again.to_bytes().unwrap(), &again.meta), (bytes.clone(), &file.meta));
        compare(&read(&bytes), &file);
        // The other versions are refused, with a right hash, too.
        for other in (1..=FORMAT_VERSION).filter(|&other| other != version) {
            let mut forged = bytes.clone();
            forged[8] = other as u8;
            let end = forged.len() - 32;
            let hash = Sha256::digest(&forged[..end]);
            forged[end..].copy_from_slice(&hash);
            assert!(ModelFile::from_bytes(&forged).is_err(), "{version} as {other}");
        }
    }
}

/// Otherwise one model would have two files, and two hashes.
#[test]
fn version_2_of_a_model_that_version_1_holds_is_refused() {
    let mut bytes = model_sample::model_file(true).to_bytes().unwrap();
    let trained = bytes.windows(13).position(|w| w == b"\x05\0\0\0\0\0\0\x000.1.0").unwrap();
    let header = u64::from_le_bytes(bytes[16..24].try_into().unwrap());
    // The kind of origin goes in, filler behind the header goes out.
    let end = 32 + header as usize;
    assert_eq!(bytes[end..end + 4], [0; 4]);
    bytes.drain(end..end + 4);
    bytes.splice(trained..trained, [0; 4]);
    bytes[16..24].copy_from_slice(&(header + 4).to_le_bytes());
    bytes[8] = 2;
    let end = bytes.len() - 32;
    let hash = Sha256::digest(&bytes[..end]);
    bytes[end..].copy_from_slice(&hash);
    compare(&read(&bytes), &model_sample::model_file(true));
    let error = ModelFile::from_bytes(&bytes).unwrap_err().to_string();
    assert!(error.contains("format version 2 for a model that version 1 is for"), "{error}");
}

/// As above for version 3, whose header says what type weights have.
#[test]
fn version_3_of_weights_in_f32_is_refused() {
    let mut bytes = model_sample::half_file().to_bytes().unwrap();
    let stem = bytes.windows(11).rposition(|w| w == b"stem.weight").unwrap();
    // Before the first row of the table stand the number of rows and the length of the name.
    let weights = stem - 8 - 8 - 4;
    assert_eq!(bytes[weights..weights + 4], [1, 0, 0, 0]);
    bytes[weights] = 0;
    let end = bytes.len() - 32;
    let hash = Sha256::digest(&bytes[..end]);
    bytes[end..].copy_from_slice(&hash);
    let error = ModelFile::from_bytes(&bytes).unwrap_err().to_string();
    assert!(error.contains("format version 3 for a model that version 1 is for"), "{error}");
}

/// As above for version 4, whose header says that there is a temperature.
#[test]
fn version_4_without_a_temperature_is_refused() {
    let mut bytes = model_sample::calibrated_file().to_bytes().unwrap();
    let stem = bytes.windows(11).rposition(|w| w == b"stem.weight").unwrap();
    // Before the first row of the table stand the number of rows and the length of the name.
    let there = stem - 8 - 8 - 5;
    assert_eq!(bytes[there], 1);
    bytes[there] = 0;
    bytes.drain(there + 1..there + 5);
    let header = u64::from_le_bytes(bytes[16..24].try_into().unwrap()) - 4;
    bytes[16..24].copy_from_slice(&header.to_le_bytes());
    // Filler behind the header makes up for it.
    let end = 32 + header as usize;
    bytes.splice(end..end, [0; 4]);
    let end = bytes.len() - 32;
    let hash = Sha256::digest(&bytes[..end]);
    bytes[end..].copy_from_slice(&hash);
    let error = ModelFile::from_bytes(&bytes).unwrap_err().to_string();
    assert!(error.contains("format version 4 for a model that version 1 is for"), "{error}");
}

#[test]
fn a_temperature_that_divides_by_nothing_is_refused() {
    for temperature in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let mut file = model_sample::calibrated_file();
        file.meta.temperature = Some(temperature);
        assert!(file.to_bytes().is_err(), "{temperature}");
    }
}

#[test]
fn a_rejection_that_cannot_be_is_refused() {
    let changes: [fn(&mut Rejection); 6] = [
        |r| r.threshold = f32::NAN,
        |r| r.false_rejects = -0.1,
        |r| r.detected = 1.5,
        |r| r.means[3] = f32::INFINITY,
        |r| r.means.truncate(3),
        |r| r.score = RejectionScore::Probability,
    ];
    for change in changes {
        let mut file = model_sample::rejecting_file();
        change(file.meta.rejection.as_mut().unwrap());
        assert!(file.to_bytes().is_err());
    }
    let changes: [fn(&mut Rejection); 8] = [
        |r| r.inner[0].scale = 0.0,
        |r| r.inner[0].value = 3,
        |r| r.inner[0].whitening.truncate(2),
        |r| r.inner[0].whitening[0] = f32::NAN,
        |r| r.inner[0].means.push(0.0),
        |r| r.inner.swap(0, 1),
        |r| r.inner.clear(),
        |r| r.score = RejectionScore::Probability,
    ];
    for (case, change) in changes.into_iter().enumerate() {
        let mut file = model_sample::inner_file();
        change(file.meta.rejection.as_mut().unwrap());
        assert!(file.to_bytes().is_err(), "{case}");
    }
}

#[test]
fn thresholds_that_cannot_be_are_refused() {
    let changes: [fn(&mut MultiLabel); 5] = [
        |labels| labels.thresholds[1] = f32::NAN,
        |labels| labels.thresholds[1] = 1.5,
        |labels| labels.thresholds.truncate(3),
        |labels| labels.quality.as_mut().unwrap().micro_f1 = -0.5,
        |labels| labels.quality.as_mut().unwrap().mean_average_precision = f32::INFINITY,
    ];
    for change in changes {
        let mut file = model_sample::multi_label_file();
        change(file.meta.multi_label.as_mut().unwrap());
        assert!(file.to_bytes().is_err());
    }
}

#[test]
fn the_document_quotes_the_golden_file() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/model-format.md");
    let document = std::fs::read_to_string(path).unwrap();
    let mut bytes = Vec::new();
    let mut lines = 0;
    for line in document.lines() {
        // What an excerpt is taken from is said before it.
        if let Some((name, _)) = GOLDEN.iter().rev().find(|(name, _)| line.contains(&format!("of `{name}`")))
        {
            bytes = std::fs::read(golden(name)).unwrap();
        }
        // `00000010: d406 0000 ..  text`, as xxd prints it.
        let Some((Ok(at), rest)) =
            line.split_once(": ").map(|(at, rest)| (usize::from_str_radix(at, 16), rest))
        else {
            continue;
        };
        let hex: String =
            bytes[at..at + 16].chunks(2).map(|pair| format!("{:02x}{:02x} ", pair[0], pair[1])).collect();
        assert_eq!(rest.split_once("  ").unwrap().0, hex.trim_end(), "at {at:#x}");
        lines += 1;
    }
    assert!(lines > 10, "only {lines} lines of the document are excerpts");
}

fn compare(found: &File, expected: &ModelFile) {
    let graph = expected.model.graph();
    assert_eq!(found.input, [graph.input.h, graph.input.w, graph.input.c]);
    assert_eq!(found.nodes.len(), graph.nodes.len());
    for (found, expected) in found.nodes.iter().zip(&graph.nodes) {
        assert_eq!((&found.name, &found.inputs), (&expected.name, &expected.inputs));
        assert_eq!((found.op, found.settings.clone()), describe(&expected.op), "{}", expected.name);
    }
    assert_eq!(found.meta, describe_meta(&expected.meta, found.version));
    let layout = expected.model.layout();
    assert_eq!(found.tensors.len(), layout.entries().len());
    for (found, entry) in found.tensors.iter().zip(layout.entries()) {
        assert_eq!(found.name, entry.name);
        assert_eq!(found.shape, entry.shape);
        assert_eq!(found.values, expected.model.params()[entry.range()]);
    }
    assert_eq!(found.training.is_some(), expected.training.is_some());
    if let (Some(found), Some(expected)) = (&found.training, &expected.training) {
        assert_eq!(
            (&found.optimizer, found.step, &found.extra),
            (&expected.optimizer, expected.step, &expected.extra)
        );
        assert_eq!(found.moments.len(), expected.moments.len());
        for (found, expected) in found.moments.iter().zip(&expected.moments) {
            let trainable = layout.entries().iter().filter(|e| e.kind.is_trainable());
            let expected: Vec<_> = trainable.map(|e| expected[e.range()].to_vec()).collect();
            assert_eq!(found, &expected);
        }
    }
    assert_eq!(found.probes.is_some(), expected.probes.is_some());
    if let (Some(found), Some(expected)) = (&found.probes, &expected.probes) {
        let expected: Vec<_> = expected.images.iter().map(|p| (p.pixels.clone(), p.logits.clone())).collect();
        assert_eq!(found, &expected);
    }
    assert_eq!(found.int8.is_some(), expected.quantization.is_some());
    if let (Some(found), Some(expected)) = (&found.int8, &expected.quantization) {
        let values = expected.values.iter().map(|v| (v.value, v.scale, v.zero, v.factors.clone()));
        assert_eq!(found.values, values.collect::<Vec<_>>());
        let layers = expected.layers.iter().map(|l| (l.node, l.weights.clone(), l.bias.clone()));
        assert_eq!(found.layers, layers.collect::<Vec<_>>());
    }
}

/// A layer's name in the document and its settings in the order of the document.
fn describe(op: &Op) -> (&'static str, Vec<Value>) {
    let pairs =
        |pairs: &[[u32; 2]]| pairs.iter().flatten().map(|&v| Value::Int(v.into())).collect::<Vec<_>>();
    let padding = |padding: &Padding| match padding {
        Padding::Valid => vec![Value::Int(0)],
        Padding::Same => vec![Value::Int(1)],
        Padding::Explicit(sides) => [2].iter().chain(sides).map(|&v| Value::Int(v.into())).collect(),
    };
    let pool = |p: &Pool2d| [pairs(&[p.kernel, p.stride]), padding(&p.padding)].concat();
    let conv = |c: &Conv2d| {
        let last = vec![Value::Int(c.groups.into()), Value::Int(c.bias.into())];
        let first = vec![Value::Int(c.filters.into())];
        [first, pairs(&[c.kernel, c.stride, c.dilation]), padding(&c.padding), last].concat()
    };
    match op {
        Op::Conv2d(c) => ("conv2d", conv(c)),
        Op::MaxPool2d(p) => ("max-pool", pool(p)),
        Op::AvgPool2d(p) => ("average-pool", pool(p)),
        Op::GlobalAvgPool => ("global-average-pool", vec![]),
        Op::GlobalMaxPool => ("global-max-pool", vec![]),
        Op::Dense(d) => ("dense", vec![Value::Int(d.units.into()), Value::Int(d.bias.into())]),
        Op::BatchNorm(b) => ("batch-norm", vec![Value::Float(b.momentum), Value::Float(b.eps)]),
        Op::Activation(Activation::Relu) => ("activation", vec![Value::Int(0)]),
        Op::Activation(Activation::Relu6) => ("activation", vec![Value::Int(1)]),
        Op::Activation(Activation::Gelu) => ("activation", vec![Value::Int(2)]),
        Op::Activation(Activation::Silu) => ("activation", vec![Value::Int(3)]),
        Op::Activation(Activation::Sigmoid) => ("activation", vec![Value::Int(4)]),
        Op::Activation(Activation::HardSigmoid) => ("activation", vec![Value::Int(5)]),
        Op::Activation(Activation::HardSwish) => ("activation", vec![Value::Int(6)]),
        Op::Activation(Activation::Tanh) => ("activation", vec![Value::Int(7)]),
        Op::Activation(Activation::LeakyRelu { slope }) => {
            ("activation", vec![Value::Int(8), Value::Float(*slope)])
        }
        Op::Activation(Activation::Clip { min, max }) => {
            ("activation", vec![Value::Int(9), Value::Float(*min), Value::Float(*max)])
        }
        Op::Dropout { rate } => ("dropout", vec![Value::Float(*rate)]),
        Op::Flatten => ("flatten", vec![]),
        Op::Add => ("add", vec![]),
        Op::Concat => ("concat", vec![]),
        Op::ChannelScale => ("channel-scale", vec![]),
        Op::ChannelGather { channels } => {
            ("channel-gather", channels.iter().map(|&channel| Value::Int(channel.into())).collect())
        }
    }
}

fn describe_meta(meta: &ModelMeta, version: u32) -> Vec<Value> {
    let p = &meta.preprocessing;
    let text = |text: &String| Value::Text(text.clone());
    let int = |v: u64| Value::Int(v);
    let mut all = vec![text(&meta.name)];
    all.extend(meta.classes.iter().map(text));
    all.extend([p.width.into(), p.height.into(), p.channels.into(), p.fit as u64].map(int));
    all.extend(p.mean.iter().chain(&p.std).map(|&v| Value::Float(v)));
    all.push(int(meta.metrics.is_some().into()));
    if let Some(m) = &meta.metrics {
        all.extend([m.accuracy, m.top5, m.loss].map(Value::Float));
        all.extend([text(&m.split), int(m.images)]);
    }
    match &meta.origin {
        Origin::Trained(v) => {
            all.extend((version > 1).then(|| int(0)));
            all.extend([text(&v.version), int(v.seed), text(&v.data_name)]);
            all.extend(v.data_hash.map(|byte| int(byte.into())));
            all.extend([text(&v.recipe), int(v.created), int(v.epochs.into())]);
            all.push(int(v.parent.is_some().into()));
            all.extend(v.parent.iter().map(text));
        }
        Origin::Imported(v) => {
            all.extend([int(1), text(&v.format), text(&v.producer), text(&v.file)]);
            all.extend(v.file_hash.map(|byte| int(byte.into())));
            all.extend([text(&v.version), int(v.created)]);
        }
    }
    all.extend(meta.temperature.map(Value::Float));
    if let Some(r) = &meta.rejection {
        all.push(int(r.score as u64));
        all.extend([Value::Float(r.threshold), Value::Float(r.false_rejects), int(r.images)]);
        all.extend([r.area, r.detected].map(Value::Float));
        all.extend(r.means.iter().map(|&mean| Value::Float(mean)));
        if version > 5 {
            all.push(int(r.strange));
            for inner in &r.inner {
                all.extend([int(inner.value.into()), Value::Float(inner.scale)]);
                all.extend(inner.whitening.iter().chain(&inner.means).map(|&v| Value::Float(v)));
            }
        }
    }
    if let Some(labels) = &meta.multi_label {
        all.extend(labels.thresholds.iter().map(|&threshold| Value::Float(threshold)));
        if let Some(q) = &labels.quality {
            all.extend([q.mean_average_precision, q.micro_f1, q.macro_f1].map(Value::Float));
            all.extend([text(&q.split), int(q.images)]);
        }
    }
    all
}
