//! Both models answer the same images: each is read and decoded once, and no more than a batch of them is in memory.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use ocelli_datasets::names::nfc;
use ocelli_datasets::{DecodeLimits, Prepare, Prepared, Preprocessing, decode_channels};
use ocelli_engine::model_file::ModelFile;
use ocelli_engine::{Exec, Inference, Pool};
use sha2::{Digest, Sha256};

use super::rules::{Question, QuestionSet};
use crate::answering;
use crate::batch::batch_for;
use crate::error::PipelineError;
use crate::evaluate::class_map;
use crate::pool;
use crate::probability::ranking;

/// What both models said about one image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    /// Index into [`Answers::classes`].
    pub(super) class: usize,
    /// Whether the candidate was right.
    pub(super) candidate: bool,
    /// Whether the serving model was; `None` where it does not know the class, or nothing serves.
    pub(super) serving: Option<bool>,
    /// Whether it is held out from the candidate's data set.
    pub(super) held_out: bool,
    /// Whether the serving version was judged on it.
    pub(super) reference: bool,
}

/// All answers.
pub(super) struct Answers {
    /// The classes of the images.
    pub(super) classes: Vec<String>,
    pub(super) answers: Vec<Answer>,
    /// Images that could not be read.
    pub(super) unreadable: usize,
}

/// An image in the sizes of both models.
struct Decoded {
    hash: [u8; 32],
    candidate: Prepared,
    /// `None` where the other's size is its size, too.
    serving: Option<Prepared>,
}

/// A model that is asked.
struct Asked {
    inference: Inference,
    pre: Preprocessing,
    /// Its class of each class of the questions.
    map: Vec<Option<usize>>,
    x: Vec<f32>,
    logits: Vec<f32>,
}

impl Asked {
    fn new(file: &ModelFile, classes: &[String], batch: usize, exec: &Exec) -> Result<Self, PipelineError> {
        let pre = file.meta.preprocessing.clone();
        pre.validate()?;
        let inference = answering::open(file, &[], batch, exec)?;
        let x = vec![0.0; batch * inference.input_len()];
        let logits = vec![0.0; batch * inference.classes()];
        Ok(Asked { map: class_map(classes, &file.meta.classes), inference, pre, x, logits })
    }

    /// Whether each image is called what it is; `None` for classes that the model does not know.
    fn right<'i>(
        &mut self,
        images: impl ExactSizeIterator<Item = (&'i Prepared, usize)>,
    ) -> Result<Vec<Option<bool>>, PipelineError> {
        let (len, classes, n) = (self.inference.input_len(), self.inference.classes(), images.len());
        let mut expected = Vec::with_capacity(n);
        for ((image, class), x) in images.zip(self.x.chunks_exact_mut(len)) {
            self.pre.normalize(image, x);
            expected.push(self.map[class]);
        }
        let logits = &mut self.logits[..n * classes];
        self.inference.run(&self.x[..n * len], n, logits)?;
        let rows = logits.chunks_exact(classes).zip(expected);
        Ok(rows.map(|(row, class)| class.map(|class| ranking(row, 1)[0] == class)).collect())
    }
}

/// Asks both models. An image that is there twice under one class counts once, whatever its names are: its copy says
/// nothing new, and the test of a class takes its images for independent.
pub(super) fn ask(
    candidate: &ModelFile,
    serving: Option<&ModelFile>,
    questions: &[Question],
    exec: Exec,
    (stop, told): (&AtomicBool, &mut dyn FnMut(usize, usize)),
) -> Result<Answers, PipelineError> {
    let names: BTreeSet<&str> = questions.iter().map(|question| question.class.as_str()).collect();
    let classes: Vec<String> = names.into_iter().map(str::to_owned).collect();
    // One class may be spelled in two ways: copies are told by what the name is after NFC.
    let same: Vec<usize> = {
        let mut first = HashMap::new();
        classes.iter().zip(0..).map(|(name, i)| *first.entry(nfc(name)).or_insert(i)).collect()
    };
    let mut answers: Vec<Answer> = Vec::with_capacity(questions.len());
    let mut unreadable = 0;
    if questions.is_empty() {
        return Ok(Answers { classes, answers, unreadable });
    }
    let size = |file: &ModelFile| file.meta.preprocessing.clone().len();
    let batch = batch_for(size(candidate).max(serving.map_or(0, size))).min(questions.len());
    let mut candidate = Asked::new(candidate, &classes, batch, &exec)?;
    let mut serving = serving.map(|file| Asked::new(file, &classes, batch, &exec)).transpose()?;
    let mut seen: HashMap<([u8; 32], usize), usize> = HashMap::new();
    let other = serving.as_ref().map(|serving| serving.pre.clone());
    let (mut done, all) = (0, questions.len());
    for questions in questions.chunks(batch) {
        told(done, all);
        done += questions.len();
        let decoded = decode_all(questions, (&candidate.pre, other.as_ref()), &exec.pool, stop)?;
        let mut fresh: Vec<(Decoded, usize)> = Vec::with_capacity(batch);
        let first = answers.len();
        for (question, decoded) in questions.iter().zip(decoded) {
            let Some(decoded) = decoded else {
                unreadable += 1;
                continue;
            };
            let class = classes.binary_search(&question.class).expect("every class is in the sorted list");
            let index = *seen.entry((decoded.hash, same[class])).or_insert(answers.len());
            if index == answers.len() {
                let (candidate, serving) = (false, None);
                answers.push(Answer { class, candidate, serving, held_out: false, reference: false });
                fresh.push((decoded, class));
            }
            match question.set {
                QuestionSet::HeldOut => answers[index].held_out = true,
                QuestionSet::Reference => answers[index].reference = true,
            }
        }
        if fresh.is_empty() {
            continue;
        }
        let own = candidate.right(fresh.iter().map(|(image, class)| (&image.candidate, *class)))?;
        for (answer, right) in answers[first..].iter_mut().zip(own) {
            // Who does not know a class is wrong about its images: to users it is.
            answer.candidate = right.unwrap_or(false);
        }
        if let Some(serving) = &mut serving {
            let images = fresh.iter().map(|(i, class)| (i.serving.as_ref().unwrap_or(&i.candidate), *class));
            for (answer, right) in answers[first..].iter_mut().zip(serving.right(images)?) {
                answer.serving = right;
            }
        }
    }
    Ok(Answers { classes, answers, unreadable })
}

/// Reads and decodes images on all threads, in their order; `None` for those that cannot be read.
fn decode_all(
    questions: &[Question],
    (candidate, serving): (&Preprocessing, Option<&Preprocessing>),
    pool: &Pool,
    stop: &AtomicBool,
) -> Result<Vec<Option<Decoded>>, PipelineError> {
    let geometry = |pre: &Preprocessing| (pre.width, pre.height, pre.channels, pre.fit);
    let other = serving.filter(|other| geometry(other) != geometry(candidate));
    let one = |question: &Question| {
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        let limits = DecodeLimits::default();
        let bytes = read(&question.path, limits.max_bytes)?;
        let image = decode_channels(&bytes, &limits, candidate.channels).ok()?;
        Some(Decoded {
            hash: Sha256::digest(&bytes).into(),
            candidate: candidate.resize(&image).ok()?,
            serving: match other {
                Some(pre) if decoded_alike(pre, candidate) => Some(pre.resize(&image).ok()?),
                Some(pre) => Some(pre.resize(&decode_channels(&bytes, &limits, pre.channels).ok()?).ok()?),
                None => None,
            },
        })
    };
    let decoded = pool::map(pool, questions, one)?;
    if stop.load(Ordering::Relaxed) {
        return Err(PipelineError::Stopped);
    }
    Ok(decoded)
}

/// Whether one decoded image serves both: gray and RGB are made of the same pixels.
fn decoded_alike(one: &Preprocessing, other: &Preprocessing) -> bool {
    one.channels == other.channels || [one, other].iter().all(|pre| matches!(pre.channels, 1 | 3))
}

/// The bytes of a regular file that is no longer than `limit`.
fn read(path: &Path, limit: u64) -> Option<Vec<u8>> {
    // Asked before it is opened, as opening a pipe waits for its other end.
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(limit + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= limit).then_some(bytes)
}
