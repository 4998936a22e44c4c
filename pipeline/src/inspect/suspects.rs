//! Images whose label may be wrong, by a classifier on features that was not fitted to them.
//!
//! Features are what the last dense layer of a model reads. The images are cut into folds; for each, a layer is fitted to the
//! features of the others and asked about it, so a wrong label cannot vouch for itself. Copies of an image are in its fold.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use ocelli_common::text::thousands;
use ocelli_datasets::rng::shuffle;
use ocelli_datasets::{DecodeLimits, Prepared};

use super::copies::Copies;
use super::facts::Facts;
use super::images::{Content, Images};
use super::report::{LabelSearch, Method};
use crate::embed::Embeddings;
use crate::error::PipelineError;
use crate::event::{Event, Observe};
use crate::features::Features;
use crate::pool;
use crate::predict::Predictor;
use crate::probability::probabilities;
use crate::transfer::{How, fit_layer, logits, plain_layer};

/// Parts of the images, each judged by a layer that is fitted to the others.
const FOLDS: usize = 5;
/// Images that a class needs to be judged: one in each fold.
const LEAST: usize = FOLDS;
/// How a layer is fitted.
const PASSES: u32 = 10;
const LR: f32 = 2e-3;
const SMOOTHING: f32 = 0.1;
/// How much likelier than its label another class must be. On photos of hands with 20 of 1,000 labels wrong, 60 to 84 images
/// are beyond it, 19 or 20 of the wrong ones among them (six draws); with 0.3, 32 to 43 and 17 to 20.
const MARGIN: f32 = 0.1;
/// Suspects of which the nearest images are named.
const EXPLAINED: usize = 200;
/// How many nearest images there are to a suspect.
const NEAREST: usize = 5;
/// Images whose features are computed at a time.
const CHUNK: usize = 64;

/// An image whose label may be wrong.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Suspect {
    /// The item.
    pub(super) index: usize,
    /// The class that it looks like.
    pub(super) suggested: String,
    /// How much likelier that is than its label, in 0..=1.
    pub(super) score: f32,
    /// Why, in a line.
    pub(super) reason: String,
}

/// How the search goes.
pub(super) struct Search<'a> {
    pub(super) predictor: &'a mut Predictor,
    /// What the model is called.
    pub(super) model: String,
    /// Most images that are looked at.
    pub(super) most: usize,
    pub(super) limits: &'a DecodeLimits,
    /// Images that are decoded at a time.
    pub(super) threads: usize,
    pub(super) stop: &'a AtomicBool,
}

/// No search, and why.
pub(super) fn not_searched(facts: &Facts, why: &str) -> (LabelSearch, Vec<Suspect>) {
    let of = facts.pictures().count();
    let note = format!("labels were not searched: {why}");
    (LabelSearch { method: Method::None, model: None, images: 0, of, note }, Vec::new())
}

impl Search<'_> {
    /// Suspects, most suspicious first, and how they were searched.
    ///
    /// # Errors
    /// What ends the whole inspection; [`PipelineError::Stopped`].
    pub(super) fn run<I: Images>(
        mut self,
        (images, facts): (&I, &Facts),
        copies: &Copies,
        observe: Observe<'_>,
    ) -> Result<(LabelSearch, Vec<Suspect>), I::Error> {
        let judged = judged(facts, copies, self.most);
        let mut classes: Vec<u32> = judged.iter().map(|&index| facts.labels(index)[0]).collect();
        classes.sort_unstable();
        classes.dedup();
        if classes.len() < 2 {
            let why = format!("it takes two classes of {LEAST} different images each");
            return Ok(not_searched(facts, &why));
        }
        let embeddings = self.embed(images, facts, &judged, (&classes, observe))?;
        let of_class = |index: &usize| {
            classes.binary_search(&facts.labels(*index)[0]).expect("the classes are those of these images")
        };
        let labels: Vec<usize> = judged.iter().map(of_class).collect();
        let folds = folds(&judged, &labels, copies);
        let rows = self.out_of_fold(&embeddings, &labels, (&folds, classes.len()))?;
        let mut suspects = Vec::new();
        for (rank, doubt) in doubts(&rows, &labels, classes.len()).into_iter().enumerate() {
            let Doubt { image, suggested, own, other } = doubt;
            let names =
                [labels[image], suggested].map(|class| facts.classes[classes[class] as usize].as_str());
            let mut reason = reason(names, (own, other));
            if rank < EXPLAINED {
                reason += &self.neighbours(&embeddings, image, suggested)?;
            }
            let (index, suggested) = (judged[image], names[1].to_owned());
            suspects.push(Suspect { index, suggested, score: other - own, reason });
        }
        Ok((self.summary(facts, judged.len()), suspects))
    }

    fn summary(&self, facts: &Facts, images: usize) -> LabelSearch {
        let of = facts.pictures().count();
        let which = match images == of {
            true => "all images were looked at".to_owned(),
            false => {
                format!("{} of {} images were looked at", thousands(images as u64), thousands(of as u64))
            }
        };
        let note = format!(
            "{which}, by the features of {}: each by a classifier that was fitted to others",
            self.model
        );
        LabelSearch { method: Method::Features, model: Some(self.model.clone()), images, of, note }
    }

    fn embed<I: Images>(
        &mut self,
        images: &I,
        facts: &Facts,
        judged: &[usize],
        (classes, observe): (&[u32], Observe<'_>),
    ) -> Result<Embeddings, I::Error> {
        let mut features = Vec::with_capacity(judged.len() * self.predictor.feature_len()?);
        let (decoder, pool) = (self.predictor.decoder(), self.predictor.exec().pool.clone());
        for (at, chunk) in judged.chunks(CHUNK).enumerate() {
            if self.stop.load(Ordering::Relaxed) {
                return Err(PipelineError::Stopped.into());
            }
            observe(&Event::Features { done: at * CHUNK, total: judged.len() });
            let prepare = |place: usize| -> Result<Prepared, I::Error> {
                // These were decoded before; what is gone since then ends the search as a file that is gone ends a training.
                let content = images.content(chunk[place], self.limits)?.map_err(PipelineError::from)?;
                let prepared = match content {
                    Content::File(bytes) => decoder.prepare(&bytes),
                    Content::Pixels(image, _) => decoder.resize(&image),
                };
                Ok(prepared.map_err(PipelineError::from)?)
            };
            let prepared = pool::numbered(&pool, (self.threads, chunk.len()), prepare)?;
            self.predictor.features(&prepared, &mut features)?;
        }
        observe(&Event::Features { done: judged.len(), total: judged.len() });
        let label = |&index: &usize| {
            let class = facts.labels(index)[0];
            classes.binary_search(&class).expect("the classes are those of these images") as u32
        };
        Ok(Embeddings {
            model: self.predictor.version().to_owned(),
            len: self.predictor.feature_len()?,
            names: judged.iter().map(|&index| facts.items[index].name.clone()).collect(),
            classes: classes.iter().map(|&class| facts.classes[class as usize].clone()).collect(),
            labels: judged.iter().map(label).collect(),
            features,
            skipped: Vec::new(),
            notes: Vec::new(),
        })
    }

    /// Probabilities `[images][classes]`, of layers that were not fitted to the image.
    fn out_of_fold(
        &self,
        embeddings: &Embeddings,
        labels: &[usize],
        (folds, classes): (&[usize], usize),
    ) -> Result<Vec<f32>, PipelineError> {
        let (exec, len) = (self.predictor.exec(), embeddings.len);
        let features = Features { len, values: embeddings.features.clone(), ..Features::default() };
        let taught: Vec<u32> = labels.iter().map(|&label| label as u32).collect();
        let mut rows = vec![0.0; labels.len() * classes];
        for fold in 0..FOLDS {
            let (held_out, mut others): (Vec<usize>, Vec<usize>) =
                (0..labels.len()).partition(|&image| folds[image] == fold);
            let how = How { images: others.len(), passes: PASSES, lr: LR, label_smoothing: SMOOTHING };
            let order = |pass| {
                shuffle(&mut others, (pass * FOLDS + fold) as u64);
                others.clone()
            };
            let layer = plain_layer(len, classes)?;
            let (layer, _) = fit_layer(layer, (&features, &taught), &how, order, (exec, self.stop))?;
            let asked: Vec<f32> = held_out.iter().flat_map(|&image| embeddings.row(image)).copied().collect();
            let answers = logits(&layer, &asked, exec)?;
            for (&image, answer) in held_out.iter().zip(answers.chunks_exact(classes)) {
                probabilities(answer, 1.0, &mut rows[image * classes..][..classes]);
            }
        }
        Ok(rows)
    }

    /// What the nearest images say of a suspect.
    fn neighbours(
        &self,
        embeddings: &Embeddings,
        image: usize,
        suggested: usize,
    ) -> Result<String, PipelineError> {
        let pool = &self.predictor.exec().pool;
        // The image itself is among them.
        let near = embeddings.similar(embeddings.row(image), NEAREST + 1, pool)?;
        let others = || near.iter().filter(|near| near.index != image).take(NEAREST);
        let alike = |index: usize| embeddings.labels[index] as usize == suggested;
        let votes = others().filter(|near| alike(near.index)).count();
        let nearest = others().find(|near| alike(near.index)).map(|near| &embeddings.names[near.index]);
        Ok(match nearest {
            Some(name) => format!(
                "; {votes} of its {} nearest images have that label, such as {name}",
                others().count()
            ),
            None => String::new(),
        })
    }
}

/// An image that looks like another class than its label.
struct Doubt {
    image: usize,
    suggested: usize,
    /// Probability of its label.
    own: f32,
    /// Probability of the suggested class.
    other: f32,
}

/// Images of which another class is likelier than the label by [`MARGIN`], the largest difference first. `rows` has the
/// probabilities `[images][classes]`.
fn doubts(rows: &[f32], labels: &[usize], classes: usize) -> Vec<Doubt> {
    let mut found: Vec<Doubt> = Vec::new();
    for (image, (row, &label)) in rows.chunks_exact(classes.max(1)).zip(labels).enumerate() {
        let others = (0..classes).filter(|&class| class != label);
        let likeliest = others.reduce(|best, class| if row[class] > row[best] { class } else { best });
        let Some(suggested) = likeliest else { continue };
        if row[suggested] - row[label] >= MARGIN {
            found.push(Doubt { image, suggested, own: row[label], other: row[suggested] });
        }
    }
    let margin = |doubt: &Doubt| doubt.other - doubt.own;
    found.sort_by(|a, b| margin(b).total_cmp(&margin(a)).then(a.image.cmp(&b.image)));
    found
}

/// Why a label may be wrong: `labelled cats (3 %), looks like dogs (95 %)`.
pub(super) fn reason([label, suggested]: [&str; 2], (own, other): (f32, f32)) -> String {
    format!("labelled {label} ({:.0} %), looks like {suggested} ({:.0} %)", 100.0 * own, 100.0 * other)
}

/// The images that are judged, at most `most` of them: one of each content, with one label that all of its copies have, of
/// classes that enough of them are of.
fn judged(facts: &Facts, copies: &Copies, most: usize) -> Vec<usize> {
    let mut fits: Vec<bool> = (0..facts.items.len())
        .map(|index| facts.picture(index).is_some() && facts.labels(index).len() == 1)
        .collect();
    for index in 0..fits.len() {
        let first = copies.same.first(index);
        if first != index {
            fits[first] &= facts.labels(first) == facts.labels(index);
            fits[index] = false;
        }
    }
    let fitting: Vec<usize> = (0..fits.len())
        .filter(|&index| fits[index] && !facts.is_no_class(facts.labels(index)[0] as usize))
        .collect();
    let n = fitting.len().min(most);
    let mut judged: Vec<usize> = (0..n).map(|i| fitting[i * fitting.len() / n]).collect();
    let mut counts = vec![0; facts.classes.len()];
    judged.iter().for_each(|&index| counts[facts.labels(index)[0] as usize] += 1);
    judged.retain(|&index| counts[facts.labels(index)[0] as usize] >= LEAST);
    judged
}

/// The fold of each image: classes are dealt out evenly, copies stay together.
fn folds(judged: &[usize], labels: &[usize], copies: &Copies) -> Vec<usize> {
    let mut of_group: HashMap<usize, usize> = HashMap::new();
    let mut dealt = vec![0; labels.iter().max().map_or(0, |&last| last + 1)];
    let fold = |(&index, &label): (&usize, &usize)| {
        *of_group.entry(copies.alike.first(index)).or_insert_with(|| {
            dealt[label] += 1;
            (dealt[label] - 1) % FOLDS
        })
    };
    judged.iter().zip(labels).map(fold).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubts_are_ranked_by_how_much_likelier_another_class_is() {
        let rows = [
            [0.50, 0.30, 0.20], // right
            [0.40, 0.45, 0.15], // another one, within the margin
            [0.10, 0.20, 0.70],
            [0.02, 0.97, 0.01],
            [0.30, 0.30, 0.40],
        ];
        let found = doubts(&rows.concat(), &[0, 0, 0, 0, 2], 3);
        let told: Vec<(usize, usize)> = found.iter().map(|doubt| (doubt.image, doubt.suggested)).collect();
        assert_eq!(told, [(3, 1), (2, 2)]);
        assert!(doubts(&[], &[], 3).is_empty() && doubts(&[1.0, 1.0], &[0, 0], 1).is_empty());
    }
}
