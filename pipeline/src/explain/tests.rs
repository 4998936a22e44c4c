//! Maps against those of PyTorch, against what is known of small networks, and what is refused.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use ocelli_datasets::{Fit, Image, Pixels, Prepare, Prepared, Preprocessing, decode};
use ocelli_engine::graph::{Activation, Conv2d, Dense, Graph, Op, Pool2d};
use ocelli_engine::model_file::{Imported, ModelFile, ModelMeta, MultiLabel, Origin};
use ocelli_engine::{ClassGradients, EngineError, Exec, GradientOutputs, Isa, Model, Shape};
use serde_json::Value;

use super::*;
use crate::{Compute, DecodeLimits, PipelineError, Predictor, open_model, shipped_model};

static NEVER: AtomicBool = AtomicBool::new(false);

fn options(method: ExplainMethod) -> ExplainOptions {
    ExplainOptions { method, layer: None }
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The four images that the file carries, two classes each (`benches/peers/gradcam.py`).
#[test]
fn maps_of_the_imagenet_model_are_those_of_pytorch() {
    let fixture: Value = serde_json::from_str(include_str!("../../tests/fixtures/gradcam.json")).unwrap();
    let file = open_model(Path::new("imagenet")).unwrap();
    let (pre, probes) = (&file.meta.preprocessing, &file.probes.as_ref().unwrap().images);
    let maps = fixture["maps"].as_array().unwrap();
    assert_eq!(maps.len(), 8);
    let layer = layer::Layer::choose(file.model.graph(), None).unwrap();
    assert_eq!(layer.name, fixture["layer"].as_str().unwrap());
    let (mut x, mut classes) = (vec![0.0; maps.len() * pre.len()], Vec::new());
    for (map, x) in maps.iter().zip(x.chunks_exact_mut(pre.len())) {
        let probe = &probes[map["image"].as_u64().unwrap() as usize];
        pre.normalize(&Prepared { pixels: Pixels::U8(probe.pixels.clone()) }, x);
        classes.push(Some(map["index"].as_u64().unwrap() as u32));
    }
    for isa in Isa::available() {
        for exact in [false, true] {
            let exec = Exec::with_isa(isa, 2).unwrap().exact(exact);
            let mut network = ClassGradients::new(&file.model, layer.value, maps.len(), &exec).unwrap();
            let shape = network.shape();
            let (mut logits, len) = (vec![0.0; maps.len() * 1000], shape.len());
            let (mut values, mut gradients) = (vec![0.0; maps.len() * len], vec![0.0; maps.len() * len]);
            let outputs =
                GradientOutputs { logits: &mut logits, values: &mut values, gradients: &mut gradients };
            network.run(&x, &classes, outputs).unwrap();
            let images = values.chunks_exact(len).zip(gradients.chunks_exact(len));
            for (map, (values, gradients)) in maps.iter().zip(images) {
                for (word, method) in
                    [("gradcam", ExplainMethod::GradCam), ("layercam", ExplainMethod::LayerCam)]
                {
                    let raw = cam::map(method, values, gradients, shape.c as usize);
                    let found = HeatMap::normalized((shape.w as usize, shape.h as usize), &raw);
                    assert_eq!((map["width"].as_u64(), map["height"].as_u64()), (Some(7), Some(7)));
                    let far = [("raw", &raw), ("normalized", &found.values)]
                        .map(|(kind, found)| furthest(found, &floats(&map[word][kind])));
                    println!("{isa:?} exact {exact} {} {word}: {far:?}", map["class"]);
                    assert!(far.iter().all(|&far| far < 1e-3), "{isa:?} exact {exact} {map} {word}: {far:?}");
                }
            }
        }
    }

    // The same by what people use, with the classes found by name and the likeliest ones left out.
    let images: Vec<Prepared> = (maps.iter().step_by(2))
        .map(|map| &probes[map["image"].as_u64().unwrap() as usize].pixels)
        .map(|pixels| Prepared { pixels: Pixels::U8(pixels.clone()) })
        .collect();
    let mut explainer = Explainer::new(&file, &ExplainOptions::default(), Compute::on(2)).unwrap();
    let tabby = Some(explainer.class("tabby").unwrap());
    for (which, class) in [None, tabby].into_iter().enumerate() {
        let found = explainer.explain(&images, &[class; 4], &NEVER).unwrap();
        for (found, map) in found.iter().zip(maps.iter().skip(which).step_by(2)) {
            assert_eq!(found.class, map["class"].as_str().unwrap());
            assert_eq!(found.index as u64, map["index"].as_u64().unwrap());
            assert!((f64::from(found.probability) - map["probability"].as_f64().unwrap()).abs() < 1e-4);
            assert!(furthest(&found.map.values, &floats(&map["gradcam"]["normalized"])) < 1e-3);
        }
    }
}

fn model_file(graph: Graph, pre: Preprocessing, classes: &[&str], weights: &[(&str, &[f32])]) -> ModelFile {
    let mut model = Model::zeros(graph).unwrap();
    for (name, values) in weights {
        let entry = model.layout().entries().iter().find(|entry| entry.name == *name).unwrap().clone();
        model.params_mut()[entry.range()].copy_from_slice(values);
    }
    let origin = Origin::Imported(Imported {
        format: "onnx".to_owned(),
        producer: "a test".to_owned(),
        file: "a.onnx".to_owned(),
        file_hash: [7; 32],
        version: "0.1.0".to_owned(),
        created: 0,
    });
    let meta = ModelMeta {
        name: "spots".to_owned(),
        classes: classes.iter().map(|&class| class.to_owned()).collect(),
        preprocessing: pre,
        metrics: None,
        temperature: Some(1.5),
        rejection: None,
        multi_label: None,
        origin,
    };
    ModelFile::new(model, meta)
}

/// A network that says "bright" the more bright pixels there are, and "dark" the fewer; the layer "pool" sees 8x6 places.
fn spots() -> ModelFile {
    let mut g = Graph::new(Shape::new(24, 32, 1));
    g.then("copy", Op::Conv2d(Conv2d::new(1, 1)));
    g.then("relu", Op::Activation(Activation::Relu));
    g.then("pool", Op::MaxPool2d(Pool2d::new(4)));
    g.then("mean", Op::GlobalAvgPool);
    g.then("drop", Op::Dropout { rate: 0.5 });
    g.then("head", Op::Dense(Dense { units: 2, bias: true }));
    let weights: [(&str, &[f32]); 3] =
        [("copy.weight", &[1.0]), ("head.weight", &[9.0, -9.0]), ("head.bias", &[0.0, 1.0])];
    model_file(g, Preprocessing::new(32, 24, 1, Fit::Stretch), &["bright", "dark"], &weights)
}

/// A network without places: a dense layer on all pixels.
fn flat() -> ModelFile {
    let mut g = Graph::new(Shape::new(4, 4, 1));
    g.then("flatten", Op::Flatten);
    g.then("head", Op::Dense(Dense { units: 2, bias: true }));
    // The second pixel of the third row speaks for "there".
    let mut weights = [0.0; 32];
    (weights[18], weights[19]) = (4.0, -4.0);
    let weights: [(&str, &[f32]); 1] = [("head.weight", &weights)];
    model_file(g, Preprocessing::new(4, 4, 1, Fit::Stretch), &["there", "not"], &weights)
}

/// A gray image of 32x24 pixels with a bright spot of 4x4 at a place of the layer "pool".
fn spot((x, y): (usize, usize)) -> Prepared {
    let bright = |at: usize| (at % 32) / 4 == x && (at / 32) / 4 == y;
    Prepared { pixels: Pixels::U8((0..32 * 24).map(|at| if bright(at) { 255 } else { 128 }).collect()) }
}

fn hottest(map: &HeatMap) -> (usize, usize) {
    let best = (0..map.values.len()).max_by(|&a, &b| map.values[a].total_cmp(&map.values[b])).unwrap();
    (best % map.width, best / map.width)
}

#[test]
fn every_method_finds_the_place_that_speaks_for_a_class() {
    let file = spots();
    for method in ExplainMethod::ALL {
        let mut explainer = Explainer::new(&file, &options(method), Compute::on(2)).unwrap();
        assert_eq!(explainer.layer(), (method != ExplainMethod::Occlusion).then_some("pool"));
        let places: Vec<(usize, usize)> = (0..48).map(|i| (i % 8, i / 8)).collect();
        let images: Vec<Prepared> = places.iter().copied().map(spot).collect();
        for (found, place) in explainer.explain(&images, &[Some(0); 48], &NEVER).unwrap().iter().zip(places) {
            assert_eq!((found.class.as_str(), found.index), ("bright", 0));
            let hottest = hottest(&found.map.resized(8, 6));
            assert_eq!(hottest, place, "{method}: {:?}", found.map);
            assert_eq!(found.map.values.iter().fold(0.0, |m: f32, v| m.max(*v)), 1.0);
        }
        // Nothing speaks for darkness.
        let both = explainer.explain(&[spot((0, 0)), spot((0, 0))], &[Some(1), None], &NEVER).unwrap();
        assert_eq!((both[0].class.as_str(), both[1].class.as_str()), ("dark", "bright"));
        assert!(both[0].map.values.iter().all(|&value| value == 0.0), "{method}: {:?}", both[0].map);
        assert_eq!(both[1].map, explainer.explain(&images[..1], &[Some(0)], &NEVER).unwrap()[0].map);
    }
}

#[test]
fn probabilities_are_those_of_prediction() {
    let sneaker = include_bytes!("../../tests/fixtures/sneaker.png");
    let mut labels = spots();
    labels.meta.multi_label = Some(MultiLabel { thresholds: vec![0.5; 2], quality: None });
    for file in [shipped_model().unwrap(), spots(), labels] {
        let classes = file.meta.classes.len();
        for method in ExplainMethod::ALL {
            let mut explainer = Explainer::new(&file, &options(method), Compute::on(1)).unwrap();
            let mut predictor = Predictor::from_model_file(file.clone(), Compute::on(2)).unwrap();
            assert_eq!(explainer.version(), predictor.version());
            let image = explainer.decoder().prepare(sneaker).unwrap();
            let answer = predictor.predict_prepared(std::slice::from_ref(&image), classes).unwrap().remove(0);
            for class in std::iter::once(None).chain((0..classes).map(Some)) {
                let found =
                    explainer.explain(std::slice::from_ref(&image), &[class], &NEVER).unwrap().remove(0);
                let expected = match class {
                    None => &answer.top[0],
                    Some(class) => answer.top.iter().find(|ranked| ranked.index == class).unwrap(),
                };
                assert_eq!((&found.class, found.index), (&expected.label, expected.index));
                assert_eq!(found.probability.to_bits(), expected.probability.to_bits(), "{method} {class:?}");
            }
        }
    }
}

#[test]
fn maps_have_the_same_bits_on_any_number_of_threads_and_in_any_batch() {
    let file = shipped_model().unwrap();
    let pre = file.meta.preprocessing.clone();
    let image = |seed: usize| {
        let pixels = (0..pre.len()).map(|i| ((i * (seed * 31 + 7)) % 251) as u8).collect();
        Prepared { pixels: Pixels::U8(pixels) }
    };
    let images: Vec<Prepared> = (0..11).map(image).collect();
    for method in ExplainMethod::ALL {
        let found = |threads, images: &[Prepared]| {
            let mut explainer = Explainer::new(&file, &options(method), Compute::on(threads)).unwrap();
            explainer.explain(images, &vec![None; images.len()], &NEVER).unwrap()
        };
        let all = found(1, &images);
        for threads in [2, 3] {
            assert_eq!(found(threads, &images), all, "{method} {threads}");
        }
        assert_eq!(found(2, &images[9..10]), all[9..10], "{method}");
    }
}

#[test]
fn a_network_without_places_is_explained_by_occlusion_alone() {
    let file = flat();
    for method in [ExplainMethod::GradCam, ExplainMethod::LayerCam] {
        let Err(PipelineError::NoMap { reason }) = Explainer::new(&file, &options(method), Compute::on(1))
        else {
            panic!("{method}: a map of nothing")
        };
        assert!(reason.contains("occlusion works"), "{reason}");
    }
    let error = overlays(&file, &[], &[], Compute::on(1)).unwrap_err();
    assert!(matches!(error, PipelineError::NoMap { .. }));
    let mut explainer = Explainer::new(&file, &options(ExplainMethod::Occlusion), Compute::on(1)).unwrap();
    let image = Prepared { pixels: Pixels::U8(vec![255; 16]) };
    let found = explainer.explain(&[image], &[None], &NEVER).unwrap().remove(0);
    assert_eq!((found.class.as_str(), found.map.width, found.map.height), ("there", 4, 4));
    // Hidden with the cells beside it, too.
    let row = |y: usize| &found.map.values[y * 4..][..4];
    assert_eq!(row(0), [0.0; 4]);
    assert_eq!(row(2)[..3], [1.0; 3]);
    assert_eq!(row(2)[3], 0.0);
}

#[test]
fn layers_and_classes_are_found_by_name() {
    let file = spots();
    let new = |layer: &str| {
        let options = ExplainOptions { layer: Some(layer.to_owned()), ..ExplainOptions::default() };
        Explainer::new(&file, &options, Compute::on(1))
    };
    let mut early = new("relu").unwrap();
    let found = early.explain(&[spot((2, 3))], &[Some(0)], &NEVER).unwrap().remove(0);
    assert_eq!((early.layer(), found.map.width, found.map.height), (Some("relu"), 32, 24));
    // A pool passes the gradient on to the first of equal pixels.
    assert_eq!(hottest(&found.map).0 / 4, 2);
    let Err(PipelineError::UnknownName { what: "layer", name, near }) = new("pol") else { panic!("a layer") };
    assert_eq!((name.as_str(), near[0].as_str(), near.len()), ("pol", "pool", 3));
    for without in ["mean", "drop", "head"] {
        let Err(PipelineError::NoMap { reason }) = new(without) else { panic!("{without}") };
        assert!(reason.contains(without) && reason.contains("\"pool\""), "{reason}");
    }
    assert_eq!(early.class("dark").unwrap(), 1);
    let error = early.class("drak").unwrap_err();
    assert!(error.is_usage());
    assert_eq!(error.to_string(), "the model has no class \"drak\"; most like it: dark, bright");
}

#[test]
fn what_cannot_be_explained_is_refused() {
    let file = spots();
    for method in ExplainMethod::ALL {
        let mut explainer = Explainer::new(&file, &options(method), Compute::on(1)).unwrap();
        let other = Prepared { pixels: Pixels::U8(vec![0; 5]) };
        let error = explainer.explain(&[spot((0, 0)), other], &[None; 2], &NEVER).unwrap_err();
        assert!(matches!(error, PipelineError::Decode(_)), "{error}");
        for class in [2, usize::MAX] {
            let error = explainer.explain(&[spot((0, 0))], &[Some(class)], &NEVER).unwrap_err();
            assert!(matches!(error, PipelineError::Engine(EngineError::Label { .. })), "{error}");
        }
        let error = explainer.explain(&[spot((0, 0))], &[None], &AtomicBool::new(true)).unwrap_err();
        assert!(matches!(error, PipelineError::Stopped), "{error}");
        assert_eq!(explainer.explain(&[], &[], &NEVER).unwrap(), []);
    }
    // A file that does not answer as it did when it was written explains nothing.
    let mut damaged = shipped_model().unwrap();
    if damaged.probes.is_none() {
        damaged = open_model(Path::new("imagenet")).unwrap();
    }
    let last = damaged.model.layout().entries().last().unwrap().range().start;
    damaged.model.params_mut()[last] += 1.0;
    let error = Explainer::new(&damaged, &ExplainOptions::default(), Compute::on(1)).err();
    assert!(matches!(error, Some(PipelineError::Probe { .. })), "{error:?}");
}

#[test]
fn overlays_are_pictures_of_the_images_with_their_maps() {
    let file = spots();
    let images: Vec<Prepared> = (0..25).map(|i| spot((i % 8, i / 8))).collect();
    let pngs = overlays(&file, &images, &[Some(0); 25], Compute::on(2)).unwrap();
    assert_eq!(pngs.len(), 25);
    for (i, png) in pngs.iter().enumerate() {
        let Image { width, height, pixels: Pixels::U8(values), .. } =
            decode(png, &DecodeLimits::default()).unwrap()
        else {
            panic!("8 bits")
        };
        assert_eq!((width, height), (96, 72));
        // Bright and yellow in the middle of the spot, and nowhere brighter.
        let (x, y) = ((i % 8) * 12 + 6, (i / 8) * 12 + 6);
        let green = |x: usize, y: usize| values[(y * 96 + x) * 3 + 1];
        assert!(green(x, y) >= 230, "{i}: {}", green(x, y));
        assert!(green((x + 48) % 96, y) < 150, "{i}");
    }
    assert_eq!(overlays(&file, &[], &[], Compute::on(1)).unwrap(), Vec::<Vec<u8>>::new());
}
