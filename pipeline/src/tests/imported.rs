//! Models whose network has no name here: evaluated, and trained further from the graph in their file.

use std::fs;

use ocelli_engine::graph::{Activation, Conv2d, Dense, Graph, Op, Padding};
use ocelli_engine::model_file::{Imported, ModelFile, ModelMeta, Origin, Preprocessing};
use ocelli_engine::{Model, Shape};
use tempfile::TempDir;

use super::{NEVER, folder_data, options, recipe, train_quietly};
use crate::{
    Compute, EvaluateOptions, Fit, PipelineError, Predictor, Recipe, StartModel, TrainOptions, evaluate,
    open_model, resume, train,
};

/// Joined branches, squeezed and excited: no name of the zoo builds it.
fn graph() -> Graph {
    let mut g = Graph::new(Shape::new(12, 12, 1));
    let same = |filters, kernel| Conv2d { padding: Padding::Same, ..Conv2d::new(filters, kernel) };
    g.then("stem", Op::Conv2d(same(6, 3)));
    let stem = g.then("stem_relu", Op::Activation(Activation::Relu));
    let branch = g.push("branch", Op::Conv2d(same(5, 1)), &[stem]);
    let joined = g.push("joined", Op::Concat, &[stem, branch]);
    let means = g.push("means", Op::GlobalAvgPool, &[joined]);
    g.push("excite", Op::Dense(Dense { units: 11, bias: true }), &[means]);
    let gate = g.then("gate", Op::Activation(Activation::Sigmoid));
    g.push("scaled", Op::ChannelScale, &[joined, gate]);
    g.then("peaks", Op::GlobalMaxPool);
    g.then("head", Op::Dense(Dense { units: 2, bias: true }));
    g
}

fn imported() -> ModelFile {
    let origin = Origin::Imported(Imported {
        format: "onnx".to_owned(),
        producer: "another program".to_owned(),
        file: "stripes.onnx".to_owned(),
        file_hash: [7; 32],
        version: "0.1.0".to_owned(),
        created: 0,
    });
    let preprocessing = Preprocessing {
        width: 12,
        height: 12,
        channels: 1,
        fit: Fit::Stretch,
        mean: vec![0.5],
        std: vec![0.25],
    };
    let classes = vec!["a-columns".to_owned(), "b-rows".to_owned()];
    let meta = ModelMeta {
        name: "stripes".to_owned(),
        classes,
        preprocessing,
        metrics: None,
        temperature: None,
        rejection: None,
        multi_label: None,
        origin,
    };
    ModelFile::new(Model::init(graph(), 5).unwrap(), meta)
}

#[test]
fn an_imported_model_is_evaluated_and_trained_further_with_another_class() {
    let dir = TempDir::new().unwrap();
    let file = imported();
    let path = dir.path().join("stripes.ocelli");
    file.save(&path).unwrap();
    let file = open_model(&path).unwrap();
    assert_eq!(file.meta.trained(), None);
    let data = folder_data(dir.path(), &[("b-rows", 0), ("a-columns", 1)], 16, 5);
    let images = EvaluateOptions {
        data: data.clone(),
        split: None,
        compute: Compute::on(1),
        max_bad: 0.0,
        mirror: false,
    };
    assert_eq!(evaluate(&file, &images, &NEVER, &mut |_| {}).unwrap().images, 32);

    let grown = folder_data(dir.path(), &[("c-checks", 2)], 16, 6);
    let start = |file: ModelFile| Some(StartModel::new("0123456789ab", file));
    // The name that was asked for is not the network that is trained.
    let own = Recipe { epochs: 2, model: "resnet9".to_owned(), ..recipe() };
    let more = TrainOptions { start: start(file), ..options(&dir, grown.clone(), own.clone()) };
    let child = train_quietly(&more);
    let after = open_model(&child.best).unwrap();
    assert_eq!(*after.model.graph(), graph().with_classes(3).unwrap());
    assert_eq!(after.meta.classes, ["a-columns", "b-rows", "c-checks"]);
    assert_eq!(after.meta.trained().unwrap().parent.as_deref(), Some("0123456789ab"));
    let text = fs::read_to_string(child.run_dir.join("recipe.toml")).unwrap();
    assert!(text.contains("model = \"start\""), "{text}");
    Predictor::from_model_file(after.clone(), Compute::on(1)).unwrap();

    // Its child starts from its graph again, and a run goes on from its own file.
    let again = TrainOptions { start: start(after.clone()), ..options(&dir, grown.clone(), own.clone()) };
    let grandchild = train_quietly(&again);
    assert_eq!(open_model(&grandchild.best).unwrap().model.graph(), after.model.graph());
    let longer = resume(&grandchild.run_dir, Some(3), &NEVER, &mut |_| {}).unwrap();
    assert_eq!(longer.epochs_done, 3);

    // Without a start there is no such network.
    let alone = TrainOptions { recipe: Recipe { model: "start".to_owned(), ..own }, start: None, ..again };
    let error = train(&alone, &NEVER, &mut |_| {}).unwrap_err();
    assert!(matches!(error, PipelineError::Recipe { .. }), "{error}");
}

#[test]
fn a_head_that_cannot_change_is_refused_before_a_run_begins() {
    let dir = TempDir::new().unwrap();
    let mut file = imported();
    let mut graph = graph();
    graph.then("bend", Op::Activation(Activation::Sigmoid));
    file.model = Model::init(graph, 5).unwrap();
    assert!(!StartModel::usable(&file) && StartModel::usable(&imported()));
    let data = folder_data(dir.path(), &[("b-rows", 0), ("a-columns", 1)], 8, 5);
    let start = Some(StartModel::new("0123456789ab", file));
    let result = train(&TrainOptions { start, ..options(&dir, data, recipe()) }, &NEVER, &mut |_| {});
    assert!(matches!(result, Err(PipelineError::Engine(_))));
    assert!(!dir.path().join("runs").exists());
}
