//! What the numbers of a run say in plain words, and what to try: one rule a remark.

use crate::metrics::{Confusion, Evaluation};
use crate::progress::{EpochRow, Progress};

/// Epochs below which the course of a training says nothing.
const FEW_EPOCHS: usize = 5;
/// Part of the epochs, at least, that came after the lowest validation loss.
const AFTER_LOWEST: f64 = 0.2;
/// Rise of the validation loss since its lowest value that is more than noise.
const RISE: f64 = 1.1;
/// Part of the epochs at the end whose progress is looked at, and what progress makes more of them worth while.
const LAST_PART: f64 = 0.2;
const STILL_RISING: f64 = 0.02;
/// Training accuracy above which more epochs cannot teach much.
const LEARNT: f64 = 0.97;
/// Training accuracy below which a network fails on what it was shown.
const POOR: f64 = 0.7;
/// Accuracy on training images above that on held-out ones that is worth a remark.
const GAP: f64 = 0.12;
/// Width of the accuracy's interval from which models are hard to compare.
const WIDE: f32 = 0.1;
/// How far below the mean the recall of a class must lie to be named, and its least number of images.
const WEAK: f32 = 0.25;
const ENOUGH: u64 = 5;
/// Classes that are named.
const NAMED: usize = 3;
/// Part of all mistakes that one pair of classes makes, and their least number.
const ONE_PAIR: f64 = 0.25;
const PAIR_MISTAKES: u64 = 5;
/// Probability from which a mistake is a surprise.
const SURE: f32 = 0.95;
/// Calibration error from which probabilities mislead, with at least so many images.
const UNCALIBRATED: f32 = 0.08;
const TO_CALIBRATE: usize = 200;
/// Difference of validation and test accuracy that is worth a word even where chance cannot explain it.
const APART: f64 = 0.05;

/// All that there is to say about a run; nothing where nothing is unusual.
pub(crate) fn remarks(progress: &Progress, evaluation: &Evaluation) -> Vec<String> {
    let rules = [
        overfitting(&progress.history),
        training_gap(progress, evaluation),
        underfitting(&progress.history),
        still_improving(&progress.history),
        few_held_out(evaluation),
        weak_classes(evaluation),
        one_pair(evaluation),
        sure_mistakes(evaluation),
        uncalibrated(evaluation),
        splits_differ(progress, evaluation),
    ];
    rules.into_iter().flatten().collect()
}

fn percent(part: f64) -> String {
    format!("{:.1} %", 100.0 * part)
}

/// The epoch with the lowest validation loss, and that loss.
fn lowest(history: &[EpochRow]) -> Option<(usize, f64)> {
    let losses = history.iter().enumerate().filter_map(|(at, row)| Some((at, row.val_loss?)));
    losses.min_by(|a, b| a.1.total_cmp(&b.1))
}

/// The validation loss rose for a good part of the training while the training loss fell.
fn overfitting(history: &[EpochRow]) -> Option<String> {
    let (at, least) = lowest(history).filter(|_| history.len() >= FEW_EPOCHS)?;
    let last = history.last()?;
    let after = history.len() - 1 - at;
    let rose = last.val_loss? > RISE * least && last.train_loss < history[at].train_loss;
    (rose && after as f64 >= AFTER_LOWEST * history.len() as f64).then(|| {
        format!(
            "Overfitting: the validation loss was lowest at epoch {} of {} ({least:.3}) and rose to {:.3} while the training loss \
             went on falling. Try more images, stronger variation (augment = \"strong\"), or fewer epochs.",
            history[at].epoch,
            last.epoch,
            last.val_loss.unwrap_or(least),
        )
    })
}

/// Training images are known much better than held-out ones.
fn training_gap(progress: &Progress, evaluation: &Evaluation) -> Option<String> {
    let train = progress.history.last()?.train_accuracy;
    let held_out = f64::from(evaluation.accuracy);
    (evaluation.split != "train" && train - held_out > GAP && overfitting(&progress.history).is_none()).then(|| {
        format!(
            "The training images are answered much better ({}) than the held-out ones ({}): there are too few of them, or they \
             vary too little. Try more images, or stronger variation (augment = \"strong\").",
            percent(train),
            percent(held_out)
        )
    })
}

/// The training images themselves are answered badly.
fn underfitting(history: &[EpochRow]) -> Option<String> {
    let last = history.last()?;
    (last.train_accuracy < POOR).then(|| {
        format!(
            "Underfitting: even the training images are answered badly ({}). Try more epochs, larger images (size), a larger \
             network, or quality = \"best\"; and look whether the labels are right.",
            percent(last.train_accuracy)
        )
    })
}

/// The last epochs brought much.
fn still_improving(history: &[EpochRow]) -> Option<String> {
    let last = history.last().filter(|_| history.len() >= FEW_EPOCHS)?;
    let part = (LAST_PART * history.len() as f64).ceil() as usize;
    let before = &history[history.len() - 1 - part];
    let (from, to) = (before.val_accuracy?, last.val_accuracy?);
    (to - from > STILL_RISING && last.train_accuracy < LEARNT).then(|| {
        format!(
            "The last {part} of {} epochs still raised the validation accuracy from {} to {}: more epochs (epochs = {}) should \
             give more.",
            history.len(),
            percent(from),
            percent(to),
            2 * history.len()
        )
    })
}

/// The accuracy is known to a few points only.
fn few_held_out(evaluation: &Evaluation) -> Option<String> {
    let (low, high) = evaluation.interval;
    (high - low > WIDE).then(|| {
        format!(
            "{} images measure the accuracy to {} to {} only: models that differ by less cannot be told apart. Hold out more \
             images, or use cross-validation.",
            evaluation.images,
            percent(low.into()),
            percent(high.into())
        )
    })
}

/// Classes that are recognised far less often than the others.
fn weak_classes(evaluation: &Evaluation) -> Option<String> {
    let mean = evaluation.balanced_accuracy;
    let mut weak: Vec<_> = evaluation
        .per_class
        .iter()
        .enumerate()
        .filter(|(_, class)| class.support >= ENOUGH && class.recall < mean - WEAK)
        .collect();
    weak.sort_by(|(_, a), (_, b)| a.recall.total_cmp(&b.recall));
    let said = |(index, class): &(usize, &crate::metrics::ClassReport)| {
        let row = &evaluation.confusion[*index];
        let most = row.iter().enumerate().filter(|(at, _)| at != index).max_by_key(|(_, n)| **n);
        let taken = most.filter(|(_, n)| **n > 0).map(|(at, _)| &evaluation.per_class[at].name);
        let found = percent(class.recall.into());
        match taken {
            Some(taken) => format!("{} ({found}, mostly taken for {taken})", class.name),
            None => format!("{} ({found})", class.name),
        }
    };
    let names: Vec<String> = weak.iter().take(NAMED).map(said).collect();
    (!names.is_empty()).then(|| {
        format!(
            "Recognised far less often than the others ({} on average): {}. Add images of them, and look at their labels.",
            percent(mean.into()),
            names.join(", ")
        )
    })
}

/// A pair of classes that makes a good part of all mistakes.
fn one_pair(evaluation: &Evaluation) -> Option<String> {
    if evaluation.per_class.len() < 3 {
        return None;
    }
    let confusions = evaluation.most_confused(usize::MAX);
    let all: u64 = confusions.iter().map(|pair| pair.images).sum();
    let both = |pair: &Confusion| {
        let back =
            confusions.iter().find(|other| other.label == pair.predicted && other.predicted == pair.label);
        pair.images + back.map_or(0, |back| back.images)
    };
    // The first of equal ones.
    let pair = confusions.iter().rev().max_by_key(|pair| both(pair))?;
    let n = both(pair);
    (n >= PAIR_MISTAKES && n as f64 >= ONE_PAIR * all as f64).then(|| {
        format!(
            "{n} of {all} mistakes mix up {} and {}: add images that show the difference, larger images if it is small, or make \
             them one class if it does not matter.",
            pair.label, pair.predicted
        )
    })
}

/// Mistakes of which the model is sure are often wrong labels.
fn sure_mistakes(evaluation: &Evaluation) -> Option<String> {
    let wrong = evaluation.predictions.iter().filter(|row| row.label != row.predicted);
    let sure = wrong.filter(|row| row.probability >= SURE).count();
    (sure > 0).then(|| {
        let images = if sure == 1 { "1 image is".to_owned() } else { format!("{sure} images are") };
        format!(
            "{images} answered wrongly with a probability of at least {:.0} %: look at the worst mistakes, their labels may be wrong.",
            100.0 * SURE
        )
    })
}

/// Probabilities that cannot be taken at their word.
fn uncalibrated(evaluation: &Evaluation) -> Option<String> {
    let error = evaluation.calibration.ece;
    (error > UNCALIBRATED && evaluation.images >= TO_CALIBRATE).then(|| {
        format!(
            "Probabilities are off by {:.0} points on average (expected calibration error): do not set a threshold by them without \
             looking at the reliability diagram. More validation images help.",
            100.0 * error
        )
    })
}

/// Validation and test images are answered differently.
fn splits_differ(progress: &Progress, evaluation: &Evaluation) -> Option<String> {
    let best = progress.history.iter().find(|row| Some(row.epoch) == progress.best_epoch)?;
    let (val, test) = (best.val_accuracy?, f64::from(evaluation.accuracy));
    let (low, high) = evaluation.interval;
    let explained = (f64::from(low)..=f64::from(high)).contains(&val);
    (evaluation.split == "test" && !explained && (val - test).abs() > APART).then(|| {
        let which = if val > test {
            "The best epoch was chosen by the validation images, which makes them look a little better; a difference like this one \
             comes from images that are alike in training and validation, such as several of one thing."
        } else {
            "The test images are easier than those of the validation."
        };
        format!("Validation and test differ by more than chance: {} and {}. {which}", percent(val), percent(test))
    })
}

#[cfg(test)]
mod tests;
