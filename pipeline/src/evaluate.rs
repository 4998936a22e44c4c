//! How well a model does on labelled images.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ocelli_datasets::names::nfc;
use ocelli_datasets::{ImageSet, Source, Split};
use ocelli_engine::model_file::ModelFile;
use ocelli_engine::{Inference, softmax};

use crate::compute::Compute;
use crate::data::{self, Data, list};
use crate::error::PipelineError;
use crate::event::{Event, Observe};
use crate::feed::{Flow, feed};
use crate::metrics::{Evaluation, PredictionRow, Tally};
use crate::predict::batch_for;
use crate::probes;
use crate::recipe::Recipe;

/// Time between two words of how far an evaluation is.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// Hears how far something is.
pub(crate) type Tell<'a> = &'a mut (dyn FnMut(&Event) -> Result<(), PipelineError> + Send);

/// What to evaluate on, and how.
#[derive(Clone, Debug)]
pub struct EvaluateOptions {
    /// The images.
    pub data: Data,
    /// Which of them. `None` takes the test split (or val, where the layout declares no test) of data that declares
    /// splits and of the data set that the model was trained on, and all images of anything else.
    pub split: Option<Split>,
    /// How to compute.
    pub compute: Compute,
    /// Part of the images that may be unreadable.
    pub max_bad: f32,
}

/// Evaluates a model.
///
/// Classes are matched by name, never by position. Images of classes that the model does not know are left out and noted. Where splits are
/// drawn, they are drawn with the seed and the fractions that the model was trained with, so its training images are
/// never among its test images.
///
/// # Errors
/// [`PipelineError::NoCommonClass`], [`PipelineError::EmptySplit`], [`PipelineError::Stopped`], and those of reading
/// the data.
pub fn evaluate(
    file: &ModelFile,
    options: &EvaluateOptions,
    stop: &AtomicBool,
    observe: Observe<'_>,
) -> Result<Evaluation, PipelineError> {
    let exec = options.compute.exec()?;
    let source = options.data.open_any()?;
    let mut notes = source.notes().to_vec();
    let classes = &file.meta.classes;
    let map = match_classes(source.classes(), classes)?;
    notes.extend(unmatched(&source, classes, &map));

    let known: Vec<usize> =
        (0..source.items().len()).filter(|&i| map[source.items()[i].class as usize].is_some()).collect();
    let declares = |split| known.iter().any(|&i| source.items()[i].split == Some(split));
    let declared = match options.split {
        Some(split) => declares(split).then_some(split),
        None => [Split::Test, Split::Val].into_iter().find(|&split| declares(split)),
    };
    let pre = file.meta.preprocessing.clone();
    let mut load = |indices: &[usize]| {
        let settings = (&exec.pool, options.max_bad);
        data::load(&source, Some(indices), &pre, settings, stop, &mut |event| {
            observe(event);
            Ok(())
        })
    };
    let (set, indices, split) = match declared {
        // Training images are not even read, unless val has to be taken out of them.
        Some(split) if split != Split::Train || declares(Split::Val) => {
            let of_split: Vec<usize> =
                known.into_iter().filter(|&i| source.items()[i].split == Some(split)).collect();
            let set = load(&of_split)?;
            let all = (0..set.len()).collect();
            (set, all, split.to_string())
        }
        _ => {
            let mut set = load(&known)?;
            let (indices, split) = drawn_split(&mut set, file, options.split, source.name(), &mut notes)?;
            (set, indices, split)
        }
    };
    if indices.is_empty() {
        return Err(PipelineError::EmptySplit {
            split: options.split.unwrap_or(Split::Test),
            data: source.name().to_owned(),
        });
    }
    for text in &notes {
        observe(&Event::note(text));
    }
    let mut inference = Inference::new(&file.model, batch_for(pre.len()), &exec)?;
    probes::check(&mut inference, file)?;
    let images = LabelledImages { set: &set, indices: &indices, map: &map, classes, split: &split };
    let mut evaluation = exec.pool.install(|| images.run(&mut inference, stop))??;
    evaluation.notes = notes;
    observe(&evaluated(&evaluation));
    Ok(evaluation)
}

/// The event that tells of an evaluation.
pub(crate) fn evaluated(evaluation: &Evaluation) -> Event {
    Event::Evaluated {
        split: evaluation.split.clone(),
        images: evaluation.images,
        accuracy: evaluation.accuracy,
        top5: evaluation.top5,
        loss: evaluation.loss,
    }
}

/// The model's index of each class of the data, by name after NFC. A model that has several spellings of one name tells
/// them apart.
pub(crate) fn class_map(data: &[String], model: &[String]) -> Vec<Option<usize>> {
    let exact: HashMap<&str, usize> = model.iter().zip(0..).map(|(name, i)| (name.as_str(), i)).collect();
    let mut composed: HashMap<Cow<str>, usize> = HashMap::new();
    for (name, i) in model.iter().zip(0..) {
        composed.entry(nfc(name)).or_insert(i);
    }
    data.iter().map(|name| exact.get(name.as_str()).or_else(|| composed.get(&nfc(name))).copied()).collect()
}

/// As [`class_map`], for data that must have something to do with the model.
fn match_classes(data: &[String], model: &[String]) -> Result<Vec<Option<usize>>, PipelineError> {
    let map = class_map(data, model);
    if map.iter().all(Option::is_none) {
        let names = |names: &[String]| list(names.iter().map(String::as_str));
        return Err(PipelineError::NoCommonClass { data: names(data), model: names(model) });
    }
    Ok(map)
}

/// What to say about classes that only one side has.
fn unmatched(source: &Source, model: &[String], map: &[Option<usize>]) -> Vec<String> {
    let mut notes = Vec::new();
    let foreign = || source.classes().iter().zip(map).filter(|(_, m)| m.is_none()).map(|(n, _)| n.as_str());
    let images = source.items().iter().filter(|item| map[item.class as usize].is_none()).count();
    if foreign().next().is_some() {
        let names = list(foreign());
        notes.push(format!("{images} images left out: the model does not know their classes ({names})"));
    }
    let missing = || (0..model.len()).filter(|&i| !map.contains(&Some(i))).map(|i| model[i].as_str());
    if missing().next().is_some() {
        notes.push(format!("the data has no images of these classes of the model: {}", list(missing())));
    }
    notes
}

/// Images of a split that the layout does not declare.
fn drawn_split(
    set: &mut ImageSet,
    file: &ModelFile,
    wanted: Option<Split>,
    name: &str,
    notes: &mut Vec<String>,
) -> Result<(Vec<usize>, String), PipelineError> {
    let trained = file.meta.trained();
    // A recipe of another program's model may be any text.
    let recipe = trained.and_then(|trained| Recipe::from_toml(&trained.recipe).ok());
    let recipe = recipe.filter(|recipe| recipe.validate().is_ok()).unwrap_or_default();
    let fractions = recipe.fractions();
    set.assign_splits(fractions, trained.map_or(recipe.seed, |trained| trained.seed));
    if let Some(split) = wanted {
        return Ok((set.indices(split), split.to_string()));
    }
    let same = trained.is_some_and(|trained| trained.data_hash == set.digest());
    if !same && trained.is_none_or(|trained| trained.data_name != name) {
        return Ok(((0..set.len()).collect(), "all".to_owned()));
    }
    if !same {
        notes.push(format!(
            "{name} has changed since training; nearly all files that were there then are still in the split they were in"
        ));
    }
    for split in [Split::Test, Split::Val] {
        let indices = set.indices(split);
        if !indices.is_empty() {
            notes.push(format!("evaluated on the {split} split of the model's own data set"));
            return Ok((indices, split.to_string()));
        }
    }
    notes.push("the model was trained on all of these images: expect less on new ones".to_owned());
    Ok((set.indices(Split::Train), Split::Train.to_string()))
}

/// Labelled images of one split, to be run through a model.
pub(crate) struct LabelledImages<'a> {
    pub(crate) set: &'a ImageSet,
    pub(crate) indices: &'a [usize],
    /// The model's index of each class of the set; images of other classes are not among `indices`.
    pub(crate) map: &'a [Option<usize>],
    pub(crate) classes: &'a [String],
    pub(crate) split: &'a str,
}

impl LabelledImages<'_> {
    /// As [`LabelledImages::tally`], with word of how far it is.
    pub(crate) fn tally_told(
        &self,
        inference: &mut Inference,
        stop: &AtomicBool,
        tell: Tell<'_>,
    ) -> Result<Tally, PipelineError> {
        let mut tally = Tally::new(self.classes.len())?;
        self.logits(inference, (stop, tell), |_, logits, class| {
            tally.add(logits, class);
        })?;
        Ok(tally)
    }

    /// The whole report.
    pub(crate) fn run(
        &self,
        inference: &mut Inference,
        stop: &AtomicBool,
    ) -> Result<Evaluation, PipelineError> {
        self.run_told(inference, stop, &mut |_| Ok(()))
    }

    /// As [`LabelledImages::run`], with word of how far it is.
    pub(crate) fn run_told(
        &self,
        inference: &mut Inference,
        stop: &AtomicBool,
        tell: Tell<'_>,
    ) -> Result<Evaluation, PipelineError> {
        let start = Instant::now();
        let mut tally = Tally::new(self.classes.len())?;
        let mut probabilities = vec![0.0; self.classes.len()];
        let mut predictions = Vec::with_capacity(self.indices.len());
        self.logits(inference, (stop, tell), |index, logits, class| {
            let predicted = tally.add(logits, class);
            softmax(logits, &mut probabilities);
            predictions.push(PredictionRow {
                name: self.set.name(index).to_owned(),
                label: self.classes[class].clone(),
                predicted: self.classes[predicted].clone(),
                probability: probabilities[predicted],
            });
        })?;
        let seconds = start.elapsed().as_secs_f32();
        let report = tally.report(self.split, self.classes);
        Ok(Evaluation {
            predictions,
            skipped: data::skipped(self.set),
            seconds,
            images_per_second: self.indices.len() as f32 / seconds.max(f32::MIN_POSITIVE),
            ..report
        })
    }

    /// Calls `take` with every image's index, logits and class.
    fn logits(
        &self,
        inference: &mut Inference,
        (stop, tell): (&AtomicBool, Tell<'_>),
        mut take: impl FnMut(usize, &[f32], usize),
    ) -> Result<(), PipelineError> {
        let classes = self.classes.len();
        let mut logits = vec![0.0; inference.batch() * classes];
        let (batch, len) = (inference.batch(), inference.input_len());
        let (mut done, mut told) = (0, Instant::now());
        let pool = inference.exec().pool.clone();
        feed(
            &pool,
            (self.indices, batch),
            len,
            |index, x| self.set.fill(index, x),
            |indices, x| {
                if stop.load(Ordering::Relaxed) {
                    return Err(PipelineError::Stopped);
                }
                let rows = &mut logits[..indices.len() * classes];
                inference.run(x, indices.len(), rows)?;
                for (&index, row) in indices.iter().zip(rows.chunks_exact(classes)) {
                    let class = self.map[self.set.class(index) as usize]
                        .expect("images of unknown classes are left out");
                    take(index, row, class);
                }
                done += indices.len();
                if told.elapsed() >= REPORT_EVERY {
                    told = Instant::now();
                    let total = self.indices.len();
                    tell(&Event::Evaluating { split: self.split.to_owned(), done, total })?;
                }
                Ok(Flow::Go)
            },
        )
    }
}
