//! Runs that several ranks train together.

use std::sync::Arc;

use ocelli_engine::thread_ranks;

use super::*;

/// Does `work` on so many ranks, threads of this process. Each has a number of threads of its own, from `first` on, and so a pool
/// of its own: ranks wait for each other on threads of their pools.
fn on_ranks<T: Send>((first, size): (u32, usize), work: impl Fn(Ranks, u32) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let work = &work;
        let start = |(rank, own)| {
            let ranks = Ranks::of(Arc::new(own));
            scope.spawn(move || work(ranks, first + rank as u32))
        };
        let threads: Vec<_> = thread_ranks(size).into_iter().enumerate().map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// A rate at which losses fall steadily: where they leap, a difference in the last bit grows tenfold in a few steps.
fn steady() -> Recipe {
    Recipe { optimizer: OptimizerKind::Sgd, lr: Some(0.002), ..recipe() }
}

/// The losses of all steps, and what is left of the run.
type Trained = (Vec<f32>, Outcome);

fn train_on(dir: &TempDir, data: &Data, recipe: &Recipe, size: usize) -> Trained {
    let train = |ranks: Ranks, threads: u32| {
        let recipe = Recipe { threads, ..recipe.clone() };
        let mut options = options(dir, data.clone(), recipe);
        (options.within.log_steps, options.within.ranks) = (true, ranks);
        let mut losses = Vec::new();
        let outcome = train(&options, &NEVER, &mut |event| {
            if let Event::StepLoss { loss, .. } = event {
                losses.push(*loss);
            }
        });
        (losses, outcome.unwrap())
    };
    on_ranks((1, size), train).swap_remove(0)
}

fn runs(dir: &TempDir) -> usize {
    let entries = fs::read_dir(dir.path().join("runs")).unwrap().flatten();
    entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')).count()
}

#[test]
fn ranks_train_as_one_process_does() {
    let dir = tempfile::tempdir().unwrap();
    let data = idx_data(dir.path());
    // 97 images in steps of 16 leave one for the last step, which is dropped; in steps of 19 they leave two.
    // Normalised over two images, the last bits of a batch make more of a difference: a lower rate.
    for (batch, mixed, model, lr) in
        [(16, 0.0, "keras-cnn", 2e-3), (19, 0.4, "keras-cnn", 2e-3), (19, 0.0, "resnet9", 2e-5)]
    {
        let (model, lr) = (model.to_owned(), Some(lr));
        let recipe =
            Recipe { batch, mixup: mixed, cutmix: mixed, model: model.clone(), lr, epochs: 2, ..steady() };
        let (losses, alone) = train_on(&dir, &data, &recipe, 1);
        for size in [2, 3] {
            let before = runs(&dir);
            let (shared, outcome) = train_on(&dir, &data, &recipe, size);
            assert_eq!(runs(&dir), before + 1, "one rank makes a folder");
            assert_eq!(losses.len(), shared.len());
            for (step, (a, b)) in losses.iter().zip(&shared).enumerate() {
                assert!((a - b).abs() < 1e-4 * a.max(1.0), "{model} step {step} on {size}: {a} {b}");
            }
            let [a, b] = [&alone, &outcome].map(|outcome| outcome.evaluation.as_ref().unwrap().accuracy);
            assert!((a - b).abs() < 0.07, "{a} {b}");
            let (again, repeated) = train_on(&dir, &data, &recipe, size);
            assert_eq!(shared, again);
            assert_eq!(essence(&outcome.run_dir).last, essence(&repeated.run_dir).last);
        }
    }
}

#[test]
fn a_stop_on_any_rank_stops_all_and_one_process_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let data = idx_data(dir.path());
    let recipe = Recipe { threads: 7, ..steady() };
    let whole = train_quietly(&options(&dir, data.clone(), recipe));
    let stopped = on_ranks((4, 3), |ranks, threads| {
        let stop = AtomicBool::new(false);
        let mut options = options(&dir, data.clone(), Recipe { threads, ..steady() });
        let is_last = ranks.rank() == 2;
        (options.within.log_steps, options.within.ranks) = (true, ranks);
        let outcome = train(&options, &stop, &mut |event| {
            if is_last && matches!(event, Event::StepLoss { epoch: 3, step: 2, .. }) {
                stop.store(true, Ordering::Relaxed);
            }
        });
        outcome.unwrap()
    });
    assert!(stopped.iter().all(|outcome| outcome.interrupted && outcome.epochs_done == 2));
    let resumed = resume(&stopped[0].run_dir, None, &NEVER, &mut |_| {}).unwrap();
    let losses = |outcome: &Outcome| -> Vec<f32> {
        let rows = fs::read_to_string(outcome.run_dir.join("results.csv")).unwrap();
        rows.lines().skip(1).map(|row| row.split(',').nth(3).unwrap().parse().unwrap()).collect()
    };
    let (expected, found) = (losses(&whole), losses(&resumed));
    assert_eq!(expected.len(), found.len());
    for (a, b) in expected.iter().zip(&found) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
}

#[test]
fn a_rank_with_other_data_or_another_recipe_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = idx_data(dir.path());
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    write_idx(&other, "train", 97, 3);
    write_idx(&other, "t10k", 31, 4);
    let missing = dir.path().join("nowhere");
    let failing = |change: &(dyn Fn(&mut TrainOptions) + Sync)| -> String {
        let errors = on_ranks((8, 3), |ranks, threads| {
            let mut options = options(&dir, data.clone(), Recipe { threads, ..recipe() });
            if ranks.rank() == 1 {
                change(&mut options);
            }
            options.within.ranks = ranks;
            train(&options, &NEVER, &mut |_| {}).unwrap_err()
        });
        let first = errors[0].to_string();
        assert!(errors.iter().all(|error| error.is_common() && error.to_string() == first), "{errors:?}");
        first
    };
    let text = failing(&|options| options.data = Data::Path(other.clone()));
    assert!(text.starts_with("rank 1 on host here: has a data set of digest"), "{text}");
    let text = failing(&|options| options.data = Data::Path(missing.clone()));
    assert!(text.starts_with("rank 1 on host here: ") && text.contains("nowhere"), "{text}");
    let text = failing(&|options| options.recipe.batch = 17);
    assert!(text.contains("`batch = 17`") && text.contains("`batch = 16`"), "{text}");
    assert_eq!(runs(&dir), 0, "the folder of a run that did not begin is gone");
}
