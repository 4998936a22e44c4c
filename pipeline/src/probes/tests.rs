//! Probes hold on every instruction set and in both forms of convolution, and not for a broken model.

use ocelli_datasets::rng::Rng;
use ocelli_engine::model_file::ModelMeta;
use ocelli_engine::{Isa, Model, ParamKind, Shape, zoo};

use super::*;
use crate::built_in::shipped_model;

/// Images of blobs, gradients and noise, so that neighbouring pixels have to do with each other as in a photo.
fn pictures(pre: &Preprocessing, count: usize) -> Vec<Vec<u8>> {
    let (w, h, c) = (pre.width as usize, pre.height as usize, usize::from(pre.channels));
    let mut rng = Rng::new(5);
    let picture = |index: usize| {
        let (fx, fy) = (1 + rng.below(5) as usize, 1 + rng.below(5) as usize);
        (0..w * h * c)
            .map(|i| {
                let (x, y) = (i / c % w, i / c / w);
                let wave = (x * fx * 255 / w + y * fy * 255 / h + index * 37 + i % c * 50) % 256;
                (wave / 2) as u8 + rng.below(128) as u8
            })
            .collect()
    };
    (0..count).map(picture).collect()
}

/// A network of the zoo with random weights, and statistics of batch normalisations as training leaves them.
fn network(name: &str, side: usize, channels: usize) -> ModelFile {
    let graph = zoo::build(name, Shape::new(side, side, channels), 10).unwrap();
    let mut model = Model::init(graph, 3).unwrap();
    let mut rng = Rng::new(9);
    for entry in model.layout().entries().to_vec() {
        let noise = |rng: &mut Rng| rng.below(1000) as f32 / 1000.0;
        for value in &mut model.params_mut()[entry.range()] {
            match entry.kind {
                ParamKind::RunningMean => *value = noise(&mut rng) - 0.5,
                ParamKind::RunningVar => *value = 0.5 + noise(&mut rng),
                _ => {}
            }
        }
    }
    let shipped = shipped_model().unwrap();
    let mut pre = Preprocessing::new(side as u32, side as u32, channels as u8, ocelli_datasets::Fit::Stretch);
    (pre.mean, pre.std) = (vec![0.45; channels], vec![0.25; channels]);
    let meta = ModelMeta { preprocessing: pre.clone(), ..shipped.meta };
    ModelFile::new(model, meta)
}

/// Gives a model its probes, as a run does.
fn probed(mut file: ModelFile) -> ModelFile {
    let pre = file.meta.preprocessing.clone();
    let images = pictures(&pre, MAX_PROBES);
    let exec = Compute::on(1).exec().unwrap().exact(true);
    let mut inference = Inference::new(&file.model, MAX_PROBES, &exec).unwrap();
    let logits = answers(&mut inference, &pre, images.iter().map(Vec::as_slice)).unwrap();
    let images = images.into_iter().zip(logits).map(|(pixels, logits)| Probe { pixels, logits }).collect();
    file.probes = Some(Probes { asked: file.answering_hash(), images });
    file
}

/// The largest distance of a logit from the stored one, as a part of the scale.
fn distance(file: &ModelFile, exec: Exec) -> f32 {
    let (probes, pre) = (file.probes.as_ref().unwrap(), file.meta.preprocessing.clone());
    let mut inference = Inference::new(&file.model, MAX_PROBES, &exec).unwrap();
    let found = answers(&mut inference, &pre, probes.images.iter().map(|p| p.pixels.as_slice())).unwrap();
    check(&mut inference, file).unwrap();
    let stored = || probes.images.iter().flat_map(|p| &p.logits);
    let scale = stored().fold(LEAST_SCALE, |m, l| m.max(l.abs()));
    found.iter().flatten().zip(stored()).fold(0.0, |m: f32, (a, b)| m.max((a - b).abs())) / scale
}

#[test]
fn every_way_to_compute_stays_far_within_the_tolerance() {
    let mut files: Vec<(String, ModelFile)> = Vec::new();
    for (name, side, channels) in [
        ("keras-cnn", 28, 1),
        ("resnet9", 32, 3),
        ("resnet18", 64, 3),
        ("mobilenet-v2", 96, 3),
        ("efficientnet-lite0", 96, 3),
    ] {
        files.push((format!("{name} {side}"), probed(network(name, side, channels))));
    }
    files.push(("shipped".to_owned(), probed(shipped_model().unwrap())));
    for (name, file) in files {
        for isa in Isa::available() {
            for exact in [true, false] {
                let exec = Exec::with_isa(isa, 2).unwrap().exact(exact);
                let found = distance(&file, exec);
                println!("{name:<24} {:<9} exact {exact:<5}: {found:.2e}", isa.name());
                assert!(found <= TOLERANCE / 20.0, "{name} {} {exact}: {found}", isa.name());
            }
        }
    }
}
