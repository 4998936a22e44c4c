//! Labelled images go through a model, and a report comes of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ocelli_datasets::{DatasetError, Image, ImageSet, Prepared, thumbnail};
use ocelli_engine::Inference;

use crate::data;
use crate::error::PipelineError;
use crate::event::Event;
use crate::feed::{Flow, feed};
use crate::metrics::{Evaluation, Mistake, PredictionRow, Tally, TallyAnswer};
use crate::mirror::Mirror;

/// Time between two words of how far an evaluation is.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// Mistakes that a report shows.
pub(crate) const WORST: usize = 25;

/// Mistakes of one pair of classes that are shown, and of all pairs: a page of some megabytes.
const OF_A_PAIR: usize = 12;
const OF_ALL_PAIRS: usize = 400;

/// Longest side of their pictures in pixels.
const PICTURE_SIDE: u32 = 96;

/// Hears how far something is.
pub(crate) type Tell<'a> = &'a mut (dyn FnMut(&Event) -> Result<(), PipelineError> + Send);

/// The event that tells of an evaluation.
pub(crate) fn evaluated(evaluation: &Evaluation) -> Event {
    Event::Evaluated {
        split: evaluation.split.clone(),
        images: evaluation.images,
        accuracy: evaluation.accuracy,
        top5: Some(evaluation.top5),
        mean_average_precision: None,
        loss: evaluation.loss,
    }
}

/// Takes an image's index and features.
pub(crate) type Keep<'a> = &'a mut (dyn FnMut(usize, &[f32]) + Send);

/// Who is asked, and what is wanted besides logits.
struct Asked<'a> {
    inference: &'a mut Inference,
    mirror: Option<&'a mut Mirror>,
    keep: Option<Keep<'a>>,
}

/// Labelled images of one split, to be run through a model.
pub(crate) struct LabelledImages<'a> {
    pub(crate) set: &'a ImageSet,
    pub(crate) indices: &'a [usize],
    /// The model's index of each class of the set; images of other classes are not among `indices`.
    pub(crate) map: &'a [Option<usize>],
    pub(crate) classes: &'a [String],
    pub(crate) split: &'a str,
    /// What logits are divided by before they become probabilities.
    pub(crate) temperature: f32,
}

impl LabelledImages<'_> {
    /// The counts, and the images that it is wrong about in the order of the indices, with word of how far it is.
    pub(crate) fn tally_told(
        &self,
        inference: &mut Inference,
        stop: &AtomicBool,
        tell: Tell<'_>,
    ) -> Result<(Tally, Vec<PredictionRow>), PipelineError> {
        let mut tally = Tally::new(self.classes.len(), self.temperature)?;
        let mut wrong = Vec::new();
        self.logits((inference, None), (stop, tell), |index, logits| {
            let class = self.class(index);
            let answer = tally.add(logits, class);
            if answer.predicted != class {
                wrong.push(self.row(index, &answer));
            }
        })?;
        Ok((tally, wrong))
    }

    /// What is said of an image.
    fn row(&self, index: usize, answer: &TallyAnswer) -> PredictionRow {
        PredictionRow {
            name: self.set.name(index).to_owned(),
            label: self.classes[self.class(index)].clone(),
            predicted: self.classes[answer.predicted].clone(),
            probability: answer.probability,
            loss: answer.loss,
        }
    }

    /// The whole report, with word of how far it is. With a mirror, of the means over images and mirror images.
    pub(crate) fn run_told(
        &self,
        (inference, mirror): (&mut Inference, Option<&mut Mirror>),
        stop: &AtomicBool,
        tell: Tell<'_>,
    ) -> Result<Evaluation, PipelineError> {
        self.report(Asked { inference, mirror, keep: None }, (&[], &[]), (stop, tell))
    }

    /// The whole report; `keep` gets every image's index and features.
    pub(crate) fn run_keeping(
        &self,
        (inference, keep): (&mut Inference, Keep<'_>),
        stop: &AtomicBool,
        tell: Tell<'_>,
    ) -> Result<Evaluation, PipelineError> {
        self.run_after((&[], &[]), (inference, keep), stop, tell)
    }

    /// As [`Self::run_keeping`], counting first images that were answered earlier: their logits and classes.
    pub(crate) fn run_after(
        &self,
        earlier: (&[f32], &[u32]),
        (inference, keep): (&mut Inference, Keep<'_>),
        stop: &AtomicBool,
        tell: Tell<'_>,
    ) -> Result<Evaluation, PipelineError> {
        self.report(Asked { inference, mirror: None, keep: Some(keep) }, earlier, (stop, tell))
    }

    fn report(
        &self,
        asked: Asked<'_>,
        (logits, classes): (&[f32], &[u32]),
        (stop, tell): (&AtomicBool, Tell<'_>),
    ) -> Result<Evaluation, PipelineError> {
        let start = Instant::now();
        // The means have their temperature already.
        let temperature = if asked.mirror.is_some() { 1.0 } else { self.temperature };
        let mut tally = Tally::new(self.classes.len(), temperature)?;
        for (row, &class) in logits.chunks_exact(self.classes.len()).zip(classes) {
            tally.add(row, class as usize);
        }
        let mut predictions = Vec::with_capacity(self.indices.len());
        self.ask(asked, (stop, tell), |index, logits| {
            predictions.push(self.row(index, &tally.add(logits, self.class(index))));
        })?;
        let seconds = start.elapsed().as_secs_f32();
        let mut report = tally.report(self.split, self.classes);
        report.calibration.temperature = self.temperature;
        let worst = self.worst(&predictions)?;
        Ok(Evaluation {
            worst,
            predictions,
            skipped: data::skipped(self.set),
            seconds,
            images_per_second: self.indices.len() as f32 / seconds.max(f32::MIN_POSITIVE),
            ..report
        })
    }

    /// The worst mistakes with their pictures; `predictions` are in the order of the indices.
    fn worst(&self, predictions: &[PredictionRow]) -> Result<Vec<Mistake>, DatasetError> {
        let places = Evaluation::worst_mistakes(predictions, WORST).into_iter();
        let mistake = |place: usize| {
            Ok(Mistake { row: predictions[place].clone(), png: self.picture(self.indices[place])? })
        };
        places.map(mistake).collect()
    }

    /// The images of the worst mistakes, in the order of [`Evaluation::worst`], and the index of the class that each is taken
    /// for.
    pub(crate) fn worst_images(
        &self,
        predictions: &[PredictionRow],
    ) -> Result<Vec<(Prepared, Option<usize>)>, DatasetError> {
        let places = Evaluation::worst_mistakes(predictions, WORST).into_iter();
        let class = |name: &String| self.classes.iter().position(|own| own == name);
        let image = |place: usize| {
            Ok((self.set.prepared(self.indices[place])?, class(&predictions[place].predicted)))
        };
        places.map(image).collect()
    }

    /// Mistakes with their pictures, of each pair of classes those with the highest loss; `predictions` are in the order of
    /// the indices.
    pub(crate) fn mistakes(&self, predictions: &[PredictionRow]) -> Result<Vec<Mistake>, DatasetError> {
        let mut shown: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        let mut mistakes = Vec::new();
        for place in Evaluation::worst_mistakes(predictions, predictions.len()) {
            let row = &predictions[place];
            let count = shown.entry((&row.label, &row.predicted)).or_default();
            if *count == OF_A_PAIR {
                continue;
            }
            *count += 1;
            mistakes.push(Mistake { row: row.clone(), png: self.picture(self.indices[place])? });
            if mistakes.len() == OF_ALL_PAIRS {
                break;
            }
        }
        Ok(mistakes)
    }

    /// An image of the set as a small PNG.
    pub(crate) fn picture(&self, index: usize) -> Result<Vec<u8>, DatasetError> {
        let pre = self.set.preprocessing();
        let Prepared { pixels } = self.set.prepared(index)?;
        let image = Image { width: pre.width, height: pre.height, channels: pre.channels, pixels };
        Ok(thumbnail(&image, PICTURE_SIDE).expect("an image of the set has the shape of its preprocessing"))
    }

    /// The model's index of the class of an image.
    pub(crate) fn class(&self, index: usize) -> usize {
        self.map[self.set.class(index) as usize].expect("images of unknown classes are left out")
    }

    /// The model's indices of the labels of an image, as far as it knows them.
    pub(crate) fn labels(&self, index: usize) -> impl Iterator<Item = usize> {
        self.set.labels(index).iter().filter_map(|&label| self.map[label as usize])
    }

    /// Calls `take` with every image's index and logits, in the order of the indices. With a mirror, the logits are those of
    /// mean probabilities: see [`Mirror::average`].
    pub(crate) fn logits(
        &self,
        (inference, mirror): (&mut Inference, Option<&mut Mirror>),
        (stop, tell): (&AtomicBool, Tell<'_>),
        take: impl FnMut(usize, &[f32]),
    ) -> Result<(), PipelineError> {
        self.ask(Asked { inference, mirror, keep: None }, (stop, tell), take)
    }

    fn ask(
        &self,
        asked: Asked<'_>,
        (stop, tell): (&AtomicBool, Tell<'_>),
        mut take: impl FnMut(usize, &[f32]),
    ) -> Result<(), PipelineError> {
        let Asked { inference, mut mirror, mut keep } = asked;
        let features = inference.feature_len().unwrap_or(0);
        let mut kept = vec![0.0; if keep.is_some() { inference.batch() * features } else { 0 }];
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
                match &mut keep {
                    Some(keep) if features > 0 => {
                        let kept = &mut kept[..indices.len() * features];
                        inference.run_features(x, indices.len(), rows, kept)?;
                        indices.iter().zip(kept.chunks_exact(features)).for_each(|(&i, row)| keep(i, row));
                    }
                    _ => inference.run(x, indices.len(), rows)?,
                }
                if let Some(mirror) = &mut mirror {
                    mirror.average(inference, x, indices.len(), rows)?;
                }
                for (&index, row) in indices.iter().zip(rows.chunks_exact(classes)) {
                    take(index, row);
                }
                done += indices.len();
                if told.elapsed() >= REPORT_EVERY {
                    told = Instant::now();
                    let total = self.indices.len();
                    tell(&Event::Evaluating { split: self.split.to_owned(), done, total })?;
                }
                Ok(Flow::Go)
            },
        )?;
        Ok(())
    }
}
