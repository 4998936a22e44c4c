//! A model file that answers otherwise than when it was written does not load, however whole its bytes are.

use std::collections::BTreeMap;

use ocelli_engine::graph::{Activation, Op};
use ocelli_engine::{Graph, Model};

use super::*;

/// A short run on three classes.
fn trained(dir: &TempDir) -> (PathBuf, ModelFile) {
    let data = idx_data(dir.path());
    let outcome = train_quietly(&options(dir, data, Recipe { epochs: 3, ..recipe() }));
    let file = open_model(&outcome.run_dir).unwrap();
    (outcome.run_dir, file)
}

/// Written and read, so that every check of the format has passed, then opened as for serving.
fn load(file: &ModelFile) -> Result<Predictor, PipelineError> {
    let file = ModelFile::from_bytes(&file.to_bytes()?)?;
    let checked = check_probes(&file, Compute::on(1));
    let opened = Predictor::with_batch(file, Compute::on(1), 3);
    assert_eq!(checked.is_ok(), opened.is_ok());
    opened
}

#[track_caller]
fn refused(file: &ModelFile) -> String {
    match load(file).map(|_| ()) {
        Err(error @ PipelineError::Probe { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_run_leaves_eight_probes_of_all_classes_that_hold_however_they_are_computed() {
    let dir = tempfile::tempdir().unwrap();
    let (run, file) = trained(&dir);
    let probes = file.probes.as_ref().unwrap();
    assert_eq!(probes.images.len(), 8);
    assert!(probes.images.iter().all(|probe| probe.pixels.len() == 144 && probe.logits.len() == 3));
    for threads in [1, 2] {
        for exact in [false, true] {
            let compute = Compute { threads, exact, ..Compute::default() };
            check_probes(&file, compute).unwrap();
            for batch in [1, 3, 8, 100] {
                Predictor::with_batch(file.clone(), compute, batch).unwrap();
            }
        }
    }
    // Files from before there were probes load as they did.
    let plain = ModelFile { probes: None, ..file.clone() };
    check_probes(&plain, Compute::on(1)).unwrap();
    let old = load(&plain).unwrap().version().to_owned();
    assert_ne!(old, load(&file).unwrap().version());
    assert_eq!(Predictor::open(&run, Compute::on(1)).unwrap().version(), load(&file).unwrap().version());
    // What is trained further has no answers until it is done.
    assert!(ModelFile::load(&run.join("weights/last.ocelli")).unwrap().probes.is_none());
}

#[test]
fn a_flipped_bit_of_a_weight_is_found_under_a_hash_that_fits() {
    let dir = tempfile::tempdir().unwrap();
    let (_, file) = trained(&dir);
    // Per bit: weights tried, and those whose answers alone tell.
    let mut found: BTreeMap<u32, (usize, usize)> = BTreeMap::new();
    for entry in file.model.layout().entries().to_vec() {
        let range = entry.range();
        for index in range.clone().step_by((range.len() / 12).max(1)) {
            for bit in [0, 22].into_iter().chain(23..31) {
                let mut broken = file.clone();
                let value = &mut broken.model.params_mut()[index];
                *value = f32::from_bits(value.to_bits() ^ 1 << bit);
                // The format has its own word for what is not finite.
                if broken.to_bytes().is_err() {
                    continue;
                }
                refused(&broken);
                broken.probes.as_mut().unwrap().asked = broken.answering_hash();
                let (tried, seen) = found.entry(bit).or_default();
                *tried += 1;
                *seen += usize::from(load(&broken).is_err());
            }
        }
    }
    println!("{found:?}");
    // Filters that answer to no probe image hide a weight; nearly every other one of such a size shows.
    let (tried, seen) = found[&30];
    assert!(seen * 4 >= tried * 3, "{found:?}");
}

#[test]
fn other_weights_other_classes_other_layers_and_other_pixels_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (_, file) = trained(&dir);
    let changed = |change: &dyn Fn(&mut ModelFile)| {
        let mut file = file.clone();
        change(&mut file);
        file
    };
    // As if the hash had been taken after the damage.
    let rehashed = |change: &dyn Fn(&mut ModelFile)| {
        let mut file = changed(change);
        let asked = file.answering_hash();
        file.probes.as_mut().unwrap().asked = asked;
        file
    };
    // The last layer with two classes in each other's place.
    let swapped = rehashed(&|file| {
        let entries = file.model.layout().entries().to_vec();
        let [.., weight, bias] = &entries[..] else { panic!("{entries:?}") };
        let params = file.model.params_mut();
        params[weight.range()].chunks_exact_mut(3).for_each(|row| row.swap(0, 1));
        params[bias.range()].swap(0, 1);
    });
    let said = refused(&swapped);
    assert!(said.contains("of 8: the file says \"") && said.contains("this computes \""), "{said}");
    assert!(said.contains("copy the file again") && !said.contains('\n'), "{said}");
    let renamed = refused(&changed(&|file| file.meta.classes.swap(0, 1)));
    assert!(renamed.contains("class names"), "{renamed}");
    refused(&changed(&|file| file.meta.preprocessing.mean[0] += 0.05));
    refused(&rehashed(&|file| file.meta.preprocessing.mean[0] += 0.05));
    refused(&rehashed(&|file| file.meta.preprocessing.std[0] *= 2.0));
    refused(&changed(&|file| file.probes.as_mut().unwrap().images[7].logits[2] += 0.1));
    refused(&changed(&|file| file.probes.as_mut().unwrap().images[0].pixels.reverse()));
    refused(&changed(&|file| file.probes.as_mut().unwrap().images[3].pixels.fill(0)));
    // The same weights in a network that computes something else, as a broken kernel would.
    let other = |change: &dyn Fn(&mut Op)| {
        let mut graph: Graph = file.model.graph().clone();
        graph.nodes.iter_mut().for_each(|node| change(&mut node.op));
        let mut model = Model::zeros(graph).unwrap();
        model.params_mut().copy_from_slice(file.model.params());
        ModelFile { model, ..file.clone() }
    };
    refused(&other(&|op| {
        if matches!(op, Op::Activation(_)) {
            *op = Op::Activation(Activation::Gelu);
        }
    }));
    refused(&other(&|op| {
        if let Op::MaxPool2d(pool) = op {
            *op = Op::AvgPool2d(pool.clone());
        }
    }));
    // Evaluation trusts it no more than prediction does.
    let Data::Path(path) = idx_data(dir.path()) else { unreachable!() };
    let options = EvaluateOptions {
        data: Data::Path(path),
        split: None,
        compute: Compute::on(1),
        max_bad: 0.0,
        mirror: false,
    };
    assert!(matches!(evaluate(&swapped, &options, &NEVER, &mut |_| {}), Err(PipelineError::Probe { .. })));
}
