//! What is decided before the first step: networks from files, learning rates, balance; and the dry run.

use ocelli_engine::{Graph, Shape};

use super::*;
use crate::network_file::network_text;

/// A network that is small enough for the images here, in a file.
pub(super) fn small_network(dir: &Path) -> PathBuf {
    let path = dir.join("small.toml");
    let text = r#"
        [[layer]]
        name = "first"
        op = "conv2d"
        filters = 8
        kernel = 3
        padding = "same"
        [[layer]]
        op = "batch_norm"
        [[layer]]
        op = "relu"
        [[layer]]
        op = "add"
        inputs = ["first", "relu_3"]
        [[layer]]
        op = "global_avg_pool"
        [[layer]]
        op = "dense"
        units = "classes"
    "#;
    fs::write(&path, text).unwrap();
    path
}

/// Trains for two epochs, is stopped in the second one, and resumed; gives what is left with and without that.
pub(super) fn stopped_and_whole(options: &TrainOptions) -> (Essence, Essence) {
    let whole = train_quietly(options);
    let stop = AtomicBool::new(false);
    let outcome = train(options, &stop, &mut |event| {
        if matches!(event, Event::Epoch { epoch: 1, .. }) {
            stop.store(true, Ordering::Relaxed);
        }
    })
    .unwrap();
    assert!(outcome.interrupted);
    let resumed = resume(&outcome.run_dir, None, &NEVER, &mut |_| {}).unwrap();
    (essence(&resumed.run_dir), essence(&whole.run_dir))
}

#[test]
fn a_network_from_a_file_trains_and_resumes_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let base = options(&dir, idx_data(dir.path()), recipe());
    let own = base.with_network(&small_network(dir.path())).unwrap();
    let (resumed, whole) = stopped_and_whole(&own);
    assert_eq!(resumed, whole);
    let run = dir.path().join("runs/bars-001");
    let text = fs::read_to_string(run.join("network.toml")).unwrap();
    assert_eq!(text, fs::read_to_string(dir.path().join("small.toml")).unwrap());
    let graph: Graph = open_model(&run).unwrap().model.graph().clone();
    assert_eq!((graph.input, graph.nodes.len()), (Shape::new(12, 12, 1), 6));
    let recipe = Recipe::from_toml(&fs::read_to_string(run.join("recipe.toml")).unwrap()).unwrap();
    assert_eq!(recipe.model, "network.toml");
    // The model goes on learning without the file.
    let file = open_model(&run).unwrap();
    let start = Some(StartModel::new("1", file));
    let more = TrainOptions { start, ..options(&dir, idx_data(dir.path()), super::recipe()) };
    let again = open_model(&train_quietly(&more).run_dir).unwrap();
    assert_eq!(network_text(again.model.graph()), network_text(&graph));
}

#[test]
fn a_recipe_that_names_a_network_needs_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = Recipe { model: "network.toml".to_owned(), ..recipe() };
    let error = train(&options(&dir, idx_data(dir.path()), recipe), &NEVER, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("network.toml was not read"), "{error}");
    assert!(!dir.path().join("runs").exists());
}

#[test]
fn a_rate_that_is_found_is_written_down_and_gives_the_same_bits_again() {
    let dir = tempfile::tempdir().unwrap();
    let data = idx_data(dir.path());
    let auto = |threads| Recipe { lr: None, epochs: 2, threads, ..recipe() };
    let mut notes = Vec::new();
    let first = train(&options(&dir, data.clone(), auto(1)), &NEVER, &mut |event| {
        if let Event::Note { text } = event {
            notes.push(text.clone());
        }
    })
    .unwrap();
    assert!(
        notes.iter().any(|note| note.starts_with("learning rate ") && note.ends_with("lr-find (valley)"))
    );
    let text = fs::read_to_string(first.run_dir.join("recipe.toml")).unwrap();
    assert!(text.contains("# lr-find (valley);"), "{text}");
    let lr = Recipe::from_toml(&text).unwrap().lr.unwrap();
    assert!((1e-7..=10.0).contains(&lr), "{lr}");
    let second = train_quietly(&options(&dir, data.clone(), auto(3)));
    assert_eq!(essence(&first.run_dir), essence(&second.run_dir));
    // The weights of the test are thrown away: the rate by hand gives the same.
    let by_hand = Recipe { lr: Some(lr), ..auto(1) };
    assert_eq!(
        essence(&first.run_dir),
        essence(&train_quietly(&options(&dir, data.clone(), by_hand)).run_dir)
    );

    let found = lr_find(&options(&dir, data, auto(1)), &NEVER, &mut |_| {}).unwrap();
    assert_eq!(found.valley, Some(lr));
    assert!(found.points.len() <= 100 && found.points.is_sorted_by(|a, b| a.lr < b.lr));
    assert_eq!(fs::read_dir(dir.path().join("runs")).unwrap().count(), 3, "a test alone makes no run");
}

#[test]
fn a_range_test_can_be_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(false);
    let result = lr_find(&options(&dir, idx_data(dir.path()), recipe()), &stop, &mut |event| {
        if matches!(event, Event::RangeTest { .. }) {
            stop.store(true, Ordering::Relaxed);
        }
    });
    assert!(matches!(result, Err(PipelineError::Stopped)), "{result:?}");
}

/// 60 images of one class and 8 of another.
fn unbalanced_data(dir: &Path) -> Data {
    folder_data(dir, &[("many", 0)], 60, 5);
    folder_data(dir, &[("few", 1)], 8, 6)
}

#[test]
fn beyond_one_to_five_classes_are_sampled_evenly_and_it_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let data = unbalanced_data(dir.path());
    let options = options(&dir, data.clone(), Recipe { epochs: 2, ..recipe() });
    let (resumed, whole) = stopped_and_whole(&options);
    assert_eq!(resumed, whole);
    let run = dir.path().join("runs/photos-001");
    let text = fs::read_to_string(run.join("recipe.toml")).unwrap();
    assert!(text.contains("balance = \"sampling\"") && text.contains("out of balance"), "{text}");
    let dataset = fs::read_to_string(run.join("dataset.json")).unwrap();
    assert!(dataset.contains("an epoch takes as many images of each class"), "{dataset}");
    // Each way gives other weights.
    let by = |balance| {
        let recipe = Recipe { balance, epochs: 2, ..recipe() };
        essence(&train_quietly(&TrainOptions { recipe, ..options.clone() }).run_dir)
    };
    assert_eq!(by(Balance::Sampling), whole);
    assert!(
        by(Balance::None) != whole
            && by(Balance::Weights) != whole
            && by(Balance::None) != by(Balance::Weights)
    );
}

#[test]
fn a_dry_run_tells_layers_memory_and_time_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = unbalanced_data(dir.path());
    for recipe in [recipe(), Recipe { model: "resnet9".to_owned(), batch: 100, lr: None, ..recipe() }] {
        let options = options(&dir, data.clone(), recipe);
        let run = dry_run(&options, &NEVER, &mut |_| {}).unwrap();
        assert_eq!((run.images, run.classes["many"], run.classes["few"]), (68, 60, 8));
        assert_eq!(run.split_sizes.iter().sum::<usize>(), 68);
        assert_eq!(run.parameters, run.layers.iter().map(|layer| layer.parameters).sum::<usize>());
        assert_eq!(run.macs, run.layers.iter().map(|layer| layer.macs).sum::<u64>());
        assert!(run.macs > 0 && run.model_bytes >= 4 * run.parameters as u64);
        assert_eq!(run.layers.last().unwrap().output, [1, 1, 2]);
        assert!(run.memory.total() > run.model_bytes);
        let timing = run.timing.unwrap();
        assert_eq!((timing.steps_s.len(), timing.epochs), (3, options.recipe.epochs));
        assert!(timing.batch <= run.split_sizes[0] && (1..=64).contains(&timing.decoded));
        assert!(timing.run_s >= timing.epoch_s && timing.epoch_s > 0.0 && timing.images_per_second > 0.0);
        assert!(!dir.path().join("runs").exists());
    }
}
