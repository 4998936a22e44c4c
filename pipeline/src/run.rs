//! The epochs of a run: train, validate, save; then the final evaluation and its reports.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ocelli_datasets::{ImageSet, Prepared, mosaic};
use ocelli_engine::model_file::{Metrics, ModelFile, ModelMeta, Trained, TrainingState};
use ocelli_engine::{Exec, Inference, Model, Shape, Trainer};

use crate::batch::batch_for;
use crate::card::{Card, Results};
use crate::charts;
use crate::data::Loaded;
use crate::environment::Environment;
use crate::error::PipelineError;
use crate::evaluate::{LabelledImages, evaluated};
use crate::event::Event;
use crate::explain::overlays;
use crate::features::{Answers, Features};
use crate::feed::{Flow, feed_batches};
use crate::labels::{self, DEFAULT_THRESHOLD, LabelEvaluation};
use crate::metrics::{Evaluation, fit_temperature};
use crate::order::{self, Epoch};
use crate::probability::temperature;
use crate::probes;
use crate::progress::{Communication, EpochRow, Progress};
use crate::progressive;
use crate::ranks::Ranks;
use crate::recipe::{Recipe, with_number};
use crate::replay::{self, Computed, DataName, Selection};
use crate::run_folder::{DatasetRecord, Reporter, RunFolder, write_atomic};
use crate::run_report::{Shown, Training, run_report};
use crate::schedule;
use crate::time_budget::TimeBudget;
use crate::unknown;

/// What a run has come to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Everything that the run left behind.
    pub run_dir: PathBuf,
    /// The best weights. Not there when training was interrupted in its first epoch.
    pub best: PathBuf,
    /// How well the best weights do on the test split, or on val or train where there is none before; its `split` says
    /// which. `None` when training was interrupted.
    pub evaluation: Option<Evaluation>,
    /// The same of images with any number of labels, in place of `evaluation`.
    pub label_evaluation: Option<LabelEvaluation>,
    /// Whether the stop flag ended training; [`crate::resume`] goes on after the last finished epoch.
    pub interrupted: bool,
    /// Finished epochs.
    pub epochs_done: u32,
    /// The epoch of the best weights.
    pub best_epoch: Option<u32>,
}

/// Time between two reports of steps.
const STEP_EVERY: Duration = Duration::from_millis(100);

/// Pairs of classes and images that are told after an epoch.
const TOLD_PAIRS: usize = 5;
const TOLD_MISTAKES: usize = 8;

/// A run in work. Order and augmentation are functions of seed, epoch and image, dropout of seed and step: between two
/// epochs weights, moments, step and [`Progress`] are all there is to know.
pub(crate) struct Run<'a> {
    pub(crate) folder: RunFolder,
    /// What events call it.
    pub(crate) run_dir: String,
    pub(crate) recipe: Recipe,
    pub(crate) dataset: DatasetRecord,
    pub(crate) loaded: Loaded,
    pub(crate) meta: ModelMeta,
    pub(crate) trainer: Trainer,
    pub(crate) exec: Exec,
    pub(crate) progress: Progress,
    pub(crate) reporter: Reporter<'a>,
    pub(crate) stop: &'a AtomicBool,
    /// Whether features are kept at the end, to add classes later.
    pub(crate) replay: bool,
    pub(crate) waits: Waits,
    /// Seconds for an image of an evaluation, once it was measured.
    pub(crate) evaluation_time: Option<f64>,
    /// The ranks that train together, of which the first one writes and tells.
    pub(crate) ranks: Ranks,
    /// Whether the loss of every step is told.
    pub(crate) log_steps: bool,
}

/// How long steps waited for their images, by this process.
#[derive(Default)]
pub(crate) struct Waits {
    /// Seconds of waiting and of all in the steps of each epoch.
    epochs: Vec<(f64, f64)>,
}

impl Waits {
    /// Part of the time that steps waited: in the epochs behind the first one, where files are not in the system's memory
    /// yet, or in that one where there are no others.
    pub(crate) fn share(&self) -> f32 {
        let counted = if self.epochs.len() > 1 { &self.epochs[1..] } else { &self.epochs };
        let (waited, all) = counted.iter().fold((0.0, 0.0), |(w, s), (waited, all)| (w + waited, s + all));
        if all > 0.0 { (waited / all) as f32 } else { 0.0 }
    }
}

/// How good the weights after an epoch are, on the validation images.
struct Validation {
    loss: f32,
    /// Part of the images that are right; of which exactly the right labels are said, where they have several.
    accuracy: f32,
    /// Where images have several labels.
    mean_average_precision: Option<f32>,
    /// What the model file holds.
    metrics: Option<Metrics>,
}

/// What the steps of one epoch gave.
pub(crate) struct EpochStats {
    pub(crate) lr: f32,
    loss: f32,
    accuracy: f32,
    images_per_second: f32,
    /// Part of the time that steps waited for their images.
    waited: f32,
    /// Whether the run's time is up.
    time_up: bool,
    /// Where several ranks trained together.
    communication: Option<Communication>,
}

/// Sums over the steps of an epoch so far.
#[derive(Default)]
struct Sums {
    loss: f64,
    correct: usize,
    images: usize,
    steps: usize,
    lr: f32,
}

impl Run<'_> {
    /// Says what is trained on what.
    pub(crate) fn introduce(&mut self) -> Result<(), PipelineError> {
        let model = Event::Model {
            name: self.recipe.model.clone(),
            parameters: self.trainer.model().layout().count(),
            run_dir: self.run_dir.clone(),
        };
        introduce(&mut self.reporter, (&self.loaded, &self.dataset), &model)?;
        if self.loaded.val.is_empty() {
            self.reporter
                .note("no validation images: the best epoch is the one with the lowest training loss")?;
        }
        Ok(())
    }

    /// Runs the epochs that are left, then evaluates the best weights.
    pub(crate) fn fit(mut self) -> Result<Outcome, PipelineError> {
        let patience = self.recipe.patience;
        let patient = |progress: &Progress| patience == 0 || progress.since_best < patience;
        while self.progress.epochs_done() < self.recipe.last_epoch()
            && patient(&self.progress)
            && !self.progress.time_up
        {
            self = self.sized()?;
            if !self.epoch()? {
                return self.interrupted();
            }
            if !patient(&self.progress) && self.progress.epochs_done() < self.recipe.last_epoch() {
                let text = format!("stopped early: no better epoch in the last {patience}");
                self.reporter.note(text)?;
            }
        }
        if !self.ranks.is_first() {
            return Ok(self.outcome(None, None));
        }
        match self.finish() {
            Err(PipelineError::Stopped) => self.interrupted(),
            other => other,
        }
    }

    /// With a trainer for images of the size that the next epoch has.
    fn sized(self) -> Result<Self, PipelineError> {
        let by_time = self.time_budget().map_or(0.0, |budget| budget.progress());
        // Clocks of ranks differ: that of the first counts.
        let by_time = self.ranks.gather(&[by_time])[0];
        let by_epochs = f64::from(self.progress.epochs_done()) / f64::from(self.recipe.epochs);
        let (width, height) = progressive::size_at(&self.recipe, by_time.max(by_epochs));
        let input = self.trainer.model().graph().input;
        let wanted = Shape { h: height, w: width, ..input };
        if wanted == input {
            return Ok(self);
        }
        let trainer = self.trainer.resized(wanted)?;
        Ok(Run { trainer, ..self })
    }

    /// A model of the run as it is used: for images of the full size, whatever the last epoch had.
    fn full_size(&self, model: Model) -> Result<Model, PipelineError> {
        let (width, height) = self.recipe.size.expect("the recipe is resolved");
        let input = model.graph().input;
        Ok(model.with_input(Shape { h: height, w: width, ..input })?)
    }

    /// The time of the run, where it has a budget.
    fn time_budget(&self) -> Option<TimeBudget> {
        let Loaded { train, val, test, .. } = &self.loaded;
        // The last epoch is validated; then the best weights get their temperature and their threshold for unknown images,
        // features are kept, and they are evaluated.
        let for_means = self.meta.classes.len() * unknown::PER_CLASS;
        let told = train
            .len()
            .min(for_means + if self.replay { replay::most_kept(self.meta.classes.len()) } else { 0 });
        let evaluated = [test, val, train].into_iter().find(|split| !split.is_empty()).map_or(0, Vec::len);
        let strange = self.loaded.strange.as_ref().map_or(0, ImageSet::len);
        let held_out = 2 * val.len() + told + evaluated + strange;
        let spent = (self.progress.before, self.progress.seconds());
        let budget = self.recipe.time_budget;
        (budget > 0).then(|| TimeBudget::new(budget, spent, held_out, self.evaluation_time))
    }

    /// Notes that time is up, so that a run that goes on knows that it is finished.
    fn end_on_time(&mut self) -> Result<(), PipelineError> {
        let epochs = self.progress.epochs_done() + 1;
        self.progress.time_up = true;
        self.recipe.epochs = epochs;
        let trained = self.trained();
        trained.recipe =
            with_number(&trained.recipe, "epochs", epochs, "as many as fit into the time budget");
        let text = trained.recipe.clone();
        self.folder.write("recipe.toml", &text)
    }

    /// What the model file says of this training.
    fn trained(&mut self) -> &mut Trained {
        self.meta.trained_mut().expect("a run's model is trained")
    }

    /// One epoch, from the order of the images to the files; false when the stop flag broke it off.
    fn epoch(&mut self) -> Result<bool, PipelineError> {
        let epoch = self.progress.epochs_done() + 1;
        let start = Instant::now();
        let Some(stats) = self.steps(epoch)? else { return Ok(false) };
        if stats.time_up {
            self.end_on_time()?;
        }
        let run_dir = self.folder.path().to_owned();
        let diverged = |lr| PipelineError::Diverged { epoch, lr, run_dir };
        if !self.trainer.model().params().iter().all(|w| w.is_finite()) {
            return Err(diverged(stats.lr));
        }
        self.check_ranks(epoch)?;
        let row = if self.ranks.is_first() { self.judge(epoch, &stats, start)? } else { None };
        self.follow(row)
    }

    /// Validates and saves what an epoch has come to; `None` when the stop flag broke it off.
    fn judge(
        &mut self,
        epoch: u32,
        stats: &EpochStats,
        start: Instant,
    ) -> Result<Option<EpochRow>, PipelineError> {
        let run_dir = self.folder.path().to_owned();
        let diverged = |lr| PipelineError::Diverged { epoch, lr, run_dir };
        let validation = Instant::now();
        let val = match self.validate() {
            Err(PipelineError::Stopped) => return Ok(None),
            val => val?,
        };
        if !self.loaded.val.is_empty() {
            let seconds = validation.elapsed().as_secs_f64();
            self.evaluation_time = Some(seconds / self.loaded.val.len() as f64);
        }
        if val.as_ref().is_some_and(|val| !val.loss.is_finite()) {
            return Err(diverged(stats.lr));
        }
        let seconds = start.elapsed().as_secs_f64();
        let row = EpochRow {
            epoch,
            seconds: self.progress.seconds() + seconds,
            lr: stats.lr.into(),
            train_loss: stats.loss.into(),
            train_accuracy: stats.accuracy.into(),
            val_loss: val.as_ref().map(|val| val.loss.into()),
            val_accuracy: val.as_ref().map(|val| val.accuracy.into()),
            val_map: val.as_ref().and_then(|val| val.mean_average_precision).map(f64::from),
            communication: stats.communication,
        };
        let best = self.progress.add(row.clone());
        self.trained().epochs = epoch;
        if best {
            self.save_best(val.as_ref().and_then(|val| val.metrics.clone()))?;
        }
        // After best.ocelli: killed in between, the epoch is done again and finds the same best weights.
        self.save_last()?;
        self.folder.write("results.csv", &self.progress.to_csv())?;
        let curves = charts::curves(&self.meta.name, &self.progress.history, self.progress.best_epoch);
        self.folder.write("curves.svg", &curves)?;
        self.reporter.report(&Event::Epoch {
            epoch,
            epochs: self.recipe.epochs,
            lr: stats.lr,
            train_loss: stats.loss,
            train_accuracy: stats.accuracy,
            val_loss: val.as_ref().map(|val| val.loss),
            val_accuracy: val.as_ref().map(|val| val.accuracy),
            val_map: val.as_ref().and_then(|val| val.mean_average_precision),
            seconds: seconds as f32,
            images_per_second: stats.images_per_second,
            waited: stats.waited,
            best,
        })?;
        Ok(Some(row))
    }

    /// The steps of an epoch; `None` when the stop flag broke it off.
    fn steps(&mut self, epoch: u32) -> Result<Option<EpochStats>, PipelineError> {
        let mut budget = self.time_budget();
        let Run { recipe, loaded, trainer, reporter, progress, stop, folder, exec, ranks, .. } = self;
        let log_steps = self.log_steps;
        let batch = order::batch(recipe, loaded);
        let input = trainer.model().graph().input;
        let size = (input.w, input.h);
        let images = Epoch::sized(loaded, recipe, epoch, size);
        let order = images.places();
        let steps = order.len().div_ceil(batch);
        // Each rank has its share of each batch, in the order that all have in common.
        let whole: Vec<&[usize]> = order.chunks(batch).collect();
        let (is_alone, communicated) = (ranks.size() == 1, ranks.times());
        let own = |places: &&[usize]| match is_alone {
            // Images are mixed with each other, and none is brought twice.
            true => places.to_vec(),
            false => images.own_places(places, ranks.share(places.len())),
        };
        let own: Vec<Vec<usize>> = whole.iter().map(own).collect();
        let first_step = u64::from(epoch - 1) * steps as u64;
        let all_steps = u64::from(recipe.epochs) * steps as u64;
        let image_len = input.len();
        let fill = |place: usize, x: &mut [f32]| images.fill(place, x);
        // Epochs that are over say how long an epoch takes with its validation.
        let epochs_left = f64::from(recipe.epochs - epoch);
        let past_epoch = progress.seconds() / f64::from(progress.epochs_done().max(1));
        let start = Instant::now();
        let (mut sums, mut reported) = (Sums::default(), None::<Instant>);
        let (mut stopped, mut time_up) = (false, false);
        let batches: &[Vec<usize>] = &own;
        let waited = feed_batches(&exec.pool, batches, image_len, fill, |places, x| {
            let mut by_time = budget.as_ref().map_or(0.0, TimeBudget::progress);
            stopped = stop.load(Ordering::Relaxed);
            if !is_alone {
                (stopped, by_time) = ranks.decide(stopped, by_time);
            }
            time_up = !is_alone && sums.steps > 0 && by_time >= 1.0;
            if stopped || time_up {
                return Ok(Flow::Stop);
            }
            let [own, partners] = if is_alone { [places, &[]] } else { images.own_and_partners(places) };
            let share = match is_alone {
                true => images.mix(sums.steps, places.len(), x),
                false => images.mix_own(sums.steps, own.len(), x),
            };
            let x = &x[..own.len() * image_len];
            if epoch == 1
                && sums.steps == 0
                && ranks.is_first()
                && let Some(png) = mosaic(loaded.set.preprocessing(), size, x)
            {
                write_atomic(&folder.file("train_batch0.png"), &png)?;
            }
            let step = first_step + sums.steps as u64;
            let lr = match &mut budget {
                None => schedule::lr(recipe, step, all_steps),
                Some(_) => {
                    // Where the number of epochs is the lesser limit, it decides.
                    let by_steps = step as f64 / all_steps.saturating_sub(1).max(1) as f64;
                    schedule::lr_at(recipe, by_time.max(by_steps))
                }
            };
            let stats = match is_alone {
                true => images.step(trainer, (own, share), x, lr)?,
                false => images.step_with(trainer, ([own, partners], share), x, lr)?,
            };
            if !stats.loss.is_finite() {
                return Err(PipelineError::Diverged { epoch, lr, run_dir: folder.path().to_owned() });
            }
            sums.add(stats.loss, stats.correct, whole[sums.steps].len(), lr);
            if log_steps {
                reporter.report(&Event::StepLoss { epoch, step: sums.steps, loss: stats.loss })?;
            }
            if let Some(budget) = &mut budget {
                budget.trained(sums.images);
                time_up = is_alone && budget.progress() >= 1.0;
            }
            let now = Instant::now();
            if sums.steps == steps || reported.is_none_or(|last| now - last >= STEP_EVERY) {
                reported = Some(now);
                let seconds = (now - start).as_secs_f64();
                let a_step = seconds / sums.steps as f64;
                let an_epoch = if past_epoch > 0.0 { past_epoch } else { a_step * steps as f64 };
                let by_steps = a_step * (steps - sums.steps) as f64 + an_epoch * epochs_left;
                let eta = budget.as_ref().map_or(by_steps, |budget| by_steps.min(budget.left()));
                reporter.report(&Event::Step {
                    epoch,
                    epochs: recipe.epochs,
                    step: sums.steps,
                    steps,
                    loss: sums.mean_loss(),
                    images_per_second: (sums.images as f64 / seconds.max(1e-9)) as f32,
                    eta_s: eta as f32,
                })?;
            }
            Ok(if time_up { Flow::Stop } else { Flow::Go })
        })?;
        if let Some(budget) = budget.as_ref().filter(|_| !is_alone && !stopped) {
            time_up = time_up || ranks.gather(&[budget.progress()])[0] >= 1.0;
        }
        let seconds = start.elapsed().as_secs_f64();
        let communication = (!is_alone).then(|| Communication::between(communicated, ranks.times()));
        if let Some(Communication { total, exposed }) = communication {
            reporter.report(&Event::Communication {
                epoch,
                ranks: ranks.size(),
                steps_s: seconds as f32,
                total_s: total as f32,
                exposed_s: exposed as f32,
            })?;
        }
        self.waits.epochs.push((waited.as_secs_f64(), seconds));
        Ok((!stopped).then(|| EpochStats {
            waited: (waited.as_secs_f64() / seconds.max(1e-9)) as f32,
            lr: sums.lr,
            loss: sums.mean_loss(),
            accuracy: (sums.correct as f64 / sums.images.max(1) as f64) as f32,
            images_per_second: (sums.images as f64 / seconds.max(1e-9)) as f32,
            time_up,
            communication,
        }))
    }

    /// Quality on the validation images, where there are any.
    fn validate(&mut self) -> Result<Option<Validation>, PipelineError> {
        if self.loaded.val.is_empty() {
            return Ok(None);
        }
        let mut inference = self.inference(&self.full_size(self.trainer.averaged())?)?;
        let map = self.identity();
        let Run { loaded, meta, reporter, stop, .. } = self;
        let Loaded { set, val, .. } = loaded;
        let (classes, split, temperature) = (&meta.classes, "val", 1.0);
        let images = LabelledImages { set, indices: val, map: &map, classes, split, temperature };
        let tell = &mut |event: &Event| reporter.report(event);
        if set.is_multi_label() {
            let answers = labels::ask(&images, (&mut inference, None), stop, tell)?;
            let thresholds = vec![DEFAULT_THRESHOLD; classes.len()];
            return Ok(Some(Validation {
                loss: answers.loss() as f32,
                accuracy: answers.scores.subset_accuracy(&thresholds) as f32,
                mean_average_precision: Some(answers.scores.mean_average_precision() as f32),
                metrics: None,
            }));
        }
        let (tally, mut wrong) = images.tally_told(&mut inference, stop, tell)?;
        let metrics = tally.metrics("val");
        if !wrong.is_empty() {
            let pairs = tally.report("val", classes).most_confused(TOLD_PAIRS);
            wrong.sort_by(|a, b| b.loss.total_cmp(&a.loss));
            wrong.truncate(TOLD_MISTAKES);
            self.reporter.report(&Event::Mistakes {
                epoch: self.progress.epochs_done() + 1,
                pairs,
                images: wrong,
            })?;
        }
        let Metrics { loss, accuracy, .. } = metrics;
        Ok(Some(Validation { loss, accuracy, mean_average_precision: None, metrics: Some(metrics) }))
    }

    pub(crate) fn inference(&self, model: &ocelli_engine::Model) -> Result<Inference, PipelineError> {
        let batch = batch_for(self.loaded.set.preprocessing().len());
        Ok(Inference::new(model, batch, &self.exec)?)
    }

    /// In a run, classes of the data are classes of the model.
    pub(crate) fn identity(&self) -> Vec<Option<usize>> {
        (0..self.meta.classes.len()).map(Some).collect()
    }

    pub(crate) fn write_dataset(&self) -> Result<(), PipelineError> {
        self.folder.write("dataset.json", &pretty(&self.dataset))
    }

    /// Writes `weights/last.ocelli`: everything that [`crate::resume`] goes on from.
    pub(crate) fn save_last(&self) -> Result<(), PipelineError> {
        let training = TrainingState {
            optimizer: self.recipe.optimizer.to_string(),
            step: self.trainer.steps(),
            moments: self.trainer.moments(),
            extra: self.progress.to_json(),
        };
        let (model, meta) = (self.full_size(self.trainer.model().clone())?, self.meta.clone());
        let file = ModelFile { training: Some(training), ..ModelFile::new(model, meta) };
        file.save(&self.folder.last())?;
        Ok(())
    }

    fn save_best(&self, metrics: Option<Metrics>) -> Result<(), PipelineError> {
        let meta = ModelMeta { metrics, ..self.meta.clone() };
        ModelFile::new(self.full_size(self.trainer.averaged())?, meta).save(&self.folder.best())?;
        Ok(())
    }

    fn interrupted(mut self) -> Result<Outcome, PipelineError> {
        let epoch = self.progress.epochs_done();
        self.reporter.report(&Event::Interrupted { epoch })?;
        Ok(self.outcome(None, None))
    }

    pub(crate) fn outcome(
        &self,
        evaluation: Option<Evaluation>,
        label_evaluation: Option<LabelEvaluation>,
    ) -> Outcome {
        Outcome {
            run_dir: self.folder.path().to_owned(),
            best: self.folder.best(),
            interrupted: evaluation.is_none() && label_evaluation.is_none(),
            evaluation,
            label_evaluation,
            epochs_done: self.progress.epochs_done(),
            best_epoch: self.progress.best_epoch,
        }
    }

    /// What the network makes of training images: of those that are kept, and of those that tell where the classes lie.
    fn trained_answers(
        &mut self,
        inference: &mut Inference,
        selection: Option<&Selection>,
    ) -> Result<Answers, PipelineError> {
        let Run { loaded: Loaded { set, train, val, .. }, recipe, stop, reporter, .. } = self;
        let mut wanted = match recipe.false_rejects > 0.0 && !val.is_empty() {
            true => unknown::for_means(train, |i| set.class(i)),
            false => Vec::new(),
        };
        wanted.extend(selection.iter().flat_map(|selection| &selection.train));
        wanted.sort_unstable();
        wanted.dedup();
        if inference.feature_len().is_none() {
            return Ok(Answers::default());
        }
        let mut tell = |done, total| reporter.report(&Event::Features { done, total });
        Answers::compute(inference, (set, &wanted), stop, &mut tell)
    }

    /// The images of the final result, and their split.
    pub(crate) fn final_images(&self) -> (&[usize], &'static str) {
        let Loaded { train, val, test, .. } = &self.loaded;
        match (test.is_empty(), val.is_empty()) {
            (false, _) => (test, "test"),
            (true, false) => (val, "val"),
            (true, true) => (train, "train"),
        }
    }

    /// Evaluates `weights/best.ocelli` as it is on the disk and writes the reports.
    fn finish(&mut self) -> Result<Outcome, PipelineError> {
        if self.loaded.set.is_multi_label() {
            return self.finish_labels();
        }
        let mut file = ModelFile::load(&self.folder.best())?;
        let values = unknown::inner_values(file.model.graph());
        let kept: Vec<usize> = values.iter().map(|&(value, _)| value).collect();
        let batch = batch_for(self.loaded.set.preprocessing().len());
        let mut inference = Inference::keeping(&file.model, &kept, batch, &self.exec)?;
        let keeps = self.replay && inference.feature_len().is_some();
        let selection = keeps.then(|| Selection::of(&self.loaded, self.recipe.seed));
        let trained = self.trained_answers(&mut inference, selection.as_ref())?;
        let Loaded { set, val, .. } = &self.loaded;
        let (indices, split) = match (self.loaded.test.is_empty(), val.is_empty()) {
            (false, _) => (&self.loaded.test, "test"),
            (true, false) => (val, "val"),
            (true, true) => (&self.loaded.train, "train"),
        };
        let map = self.identity();
        let validated = Answers::compute(&mut inference, (set, val), self.stop, &mut |_, _| Ok(()))?;
        file.meta.temperature = fit_temperature(&validated.features.logits, &validated.classes());
        let rate = self.recipe.false_rejects;
        let images = (&trained, &validated);
        let fine_tuned = file.meta.trained().is_some_and(|trained| trained.parent.is_some());
        let network = unknown::Network { classes: self.meta.classes.len(), values: &values, fine_tuned };
        let strange = match &self.loaded.strange {
            Some(set) => {
                let all: Vec<usize> = (0..set.len()).collect();
                Features::compute(&mut inference, (set, &all), self.stop, &mut |_, _| Ok(()))?
            }
            None => Features::default(),
        };
        file.meta.rejection = unknown::learn_from(images, &strange, &network, rate);
        if let Some(rejection) = &file.meta.rejection {
            self.reporter.note(unknown::about(rejection))?;
        }
        let (classes, temperature) = (&self.meta.classes, temperature(&file.meta));
        let images = LabelledImages { set, indices, map: &map, classes, split, temperature };
        let reporter = &mut self.reporter;
        let mut tested = Answers::default();
        let mut keep = |index, row: &[f32]| {
            if selection.as_ref().is_some_and(|selection| selection.test.binary_search(&index).is_ok()) {
                tested.add(index, set.class(index), row);
            }
        };
        let mut evaluation = images
            .run_keeping((&mut inference, &mut keep), self.stop, &mut |event| reporter.report(event))?;
        let chosen = match file.meta.temperature {
            Some(_) => "the best epoch and the temperature",
            None => "the best epoch",
        };
        match split {
            "test" => {}
            "val" => evaluation.notes.push(format!("no test images: the same images chose {chosen}")),
            _ => evaluation.notes.push("no held-out images: expect less on new ones".to_owned()),
        }
        for text in evaluation.notes.clone() {
            self.reporter.note(text)?;
        }
        file.meta.metrics = (split != "train").then(|| Metrics {
            accuracy: evaluation.accuracy,
            top5: evaluation.top5,
            loss: evaluation.loss,
            split: split.to_owned(),
            images: evaluation.images as u64,
        });
        let mistakes = images.mistakes(&evaluation.predictions)?;
        let worst = images.worst_images(&evaluation.predictions)?;
        file.probes = probes::ask(&file, &self.loaded.set, indices, &self.exec)?;
        let hash = file.save(&self.folder.best())?;
        if let Some(selection) = selection {
            let data = DataName { name: self.dataset.name.clone(), digest: self.dataset.digest.clone() };
            let computed = Computed { train: &trained, val: &validated, test: &tested };
            let replay = selection.replay(&self.loaded, &computed, data);
            let bytes = replay.write(&self.folder.best(), &hash, &self.meta.classes)?;
            self.reporter.note(replay.describe(bytes))?;
        }
        self.write_card(&file, hash, Results::Classes(&evaluation))?;
        let maps = self.heat_maps(&file, worst)?;
        let shown = Shown { mistakes: &mistakes, maps: &maps };
        self.write_report(&file, |training| run_report(training, &evaluation, shown))?;
        // Last: its report says that the run is finished.
        evaluation.write_into(self.folder.path(), &self.meta.name)?;
        self.reporter.report(&evaluated(&evaluation))?;
        self.reporter.report(&Event::Done {
            run_dir: self.run_dir.clone(),
            split: split.to_owned(),
            accuracy: evaluation.accuracy,
            mean_average_precision: None,
            best_epoch: self.progress.best_epoch.unwrap_or(0),
            epochs: self.progress.epochs_done(),
            seconds: self.progress.seconds() as f32,
            waited: self.waits.share(),
        })?;
        Ok(self.outcome(Some(evaluation), None))
    }

    /// What speaks for the wrong answers to some images, as pictures; none of a network without a layer of more than one pixel.
    fn heat_maps(
        &self,
        file: &ModelFile,
        worst: Vec<(Prepared, Option<usize>)>,
    ) -> Result<Vec<Vec<u8>>, PipelineError> {
        let (images, classes): (Vec<_>, Vec<_>) = worst.into_iter().unzip();
        match overlays(file, &images, &classes, self.recipe.compute()) {
            Err(PipelineError::NoMap { .. }) => Ok(Vec::new()),
            maps => maps,
        }
    }

    /// Writes `report.html`: what `page` makes of the training.
    pub(crate) fn write_report(
        &self,
        file: &ModelFile,
        page: impl FnOnce(&Training<'_>) -> String,
    ) -> Result<(), PipelineError> {
        // A run that an older program began may lack the picture.
        let batch = std::fs::read(self.folder.file("train_batch0.png")).unwrap_or_default();
        let training = Training {
            meta: &file.meta,
            parameters: file.model.layout().count(),
            dataset: &self.dataset,
            progress: &self.progress,
            added: None,
            batch: &batch,
            environment: Environment::of(self.exec.isa),
        };
        self.folder.write("report.html", &page(&training))
    }

    /// Writes the model card.
    pub(crate) fn write_card(
        &self,
        file: &ModelFile,
        hash: [u8; 32],
        results: Results<'_>,
    ) -> Result<(), PipelineError> {
        let card = Card {
            meta: &file.meta,
            hash,
            parameters: file.model.layout().count(),
            dataset: &self.dataset,
            progress: &self.progress,
            results,
            added: None,
        };
        self.folder.write("README.md", &card.to_markdown())
    }
}

/// Says which images a model is trained on, and which model.
pub(crate) fn introduce(
    reporter: &mut Reporter<'_>,
    (loaded, dataset): (&Loaded, &DatasetRecord),
    model: &Event,
) -> Result<(), PipelineError> {
    let pre = loaded.set.preprocessing();
    reporter.report(&Event::Dataset {
        kind: dataset.kind.clone(),
        name: dataset.name.clone(),
        classes: loaded.set.classes().to_vec(),
        train: loaded.train.len(),
        val: loaded.val.len(),
        test: loaded.test.len(),
        skipped: loaded.set.skipped().len(),
        notes: dataset.notes.clone(),
        width: pre.width,
        height: pre.height,
        channels: pre.channels,
    })?;
    for skipped in loaded.set.skipped() {
        reporter.note(format!("left out {}: {}", skipped.name, skipped.reason))?;
    }
    for text in dataset.warnings.clone() {
        reporter.report(&Event::Warning { text })?;
    }
    reporter.report(model)
}

impl Sums {
    fn add(&mut self, loss: f32, correct: usize, images: usize, lr: f32) {
        self.loss += f64::from(loss) * images as f64;
        self.correct += correct;
        self.images += images;
        self.steps += 1;
        self.lr = lr;
    }

    fn mean_loss(&self) -> f32 {
        (self.loss / self.images.max(1) as f64) as f32
    }
}

fn pretty(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).expect("plain values with text keys") + "\n"
}
