//! The models inside of the program.

use std::collections::HashSet;
use std::path::Path;

use ocelli_engine::model_file::{Fit, Origin, WeightType};
use ocelli_engine::{Exec, Inference, Isa, Shape, zoo};

use crate::{BUILT_IN, BuiltIn, Compute, check_probes, open_model, shipped_model};

#[test]
fn every_built_in_model_loads_by_its_name() {
    let names: HashSet<&str> = BUILT_IN.iter().map(|model| model.name).collect();
    assert_eq!(names.len(), BUILT_IN.len());
    for model in &BUILT_IN {
        let file = open_model(Path::new(model.name)).unwrap();
        check_probes(&file, Compute::on(2)).unwrap();
        assert!(file.training.is_none(), "{}", model.name);
    }
    assert!(BuiltIn::named(Path::new("ImageNet")).is_none());
    assert!(BuiltIn::named(Path::new("./imagenet")).is_none());
    assert_eq!(shipped_model().unwrap().meta.classes.len(), 10);
}

#[test]
fn the_imagenet_model_is_the_network_of_the_zoo() {
    let file = open_model(Path::new("imagenet")).unwrap();
    let graph = zoo::build("efficientnet-lite0", Shape::new(224, 224, 3), 1000).unwrap();
    assert_eq!(file.model.graph(), &graph);
    assert_eq!(file.weights, WeightType::F16);
    assert_eq!(file.meta.preprocessing.fit, Fit::Crop);
    for (index, name) in [(0, "tench"), (281, "tabby"), (954, "banana"), (999, "toilet tissue")] {
        assert_eq!(file.meta.classes[index], name);
    }
    assert!(matches!(&file.meta.origin, Origin::Imported(from) if from.format == "pytorch"));
}

/// The probe images of the file were answered by PyTorch (`weights/convert.py`).
#[test]
fn the_imagenet_model_gives_the_logits_of_pytorch() {
    let file = open_model(Path::new("imagenet")).unwrap();
    let pre = &file.meta.preprocessing;
    let probes = &file.probes.as_ref().unwrap().images;
    assert_eq!(probes.len(), 4);
    let best = |logits: &[f32]| (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
    assert_eq!(probes.iter().map(|probe| best(&probe.logits)).collect::<HashSet<_>>().len(), 4);
    for isa in Isa::available() {
        for exact in [false, true] {
            let exec = Exec::with_isa(isa, 2).unwrap().exact(exact);
            let mut inference = Inference::new(&file.model, 1, &exec).unwrap();
            for probe in probes {
                let normal =
                    |(i, &pixel): (usize, &u8)| (f32::from(pixel) / 255.0 - pre.mean[i % 3]) / pre.std[i % 3];
                let x: Vec<f32> = probe.pixels.iter().enumerate().map(normal).collect();
                let mut logits = vec![0.0; 1000];
                inference.run(&x, 1, &mut logits).unwrap();
                let distance =
                    logits.iter().zip(&probe.logits).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                println!("{isa:?} exact {exact}: {distance:e}");
                assert!(distance < 1e-3, "{isa:?} exact {exact}: {distance}");
            }
        }
    }
}
