//! How far a run is: what `last.ocelli` holds besides weights and moments.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::ranks::Times;

/// What one epoch gave. Losses and accuracies are computed as `f32` and kept as `f64`: whatever a JSON reader does to the
/// last digit, they come back as the same `f32`, and a resumed run compares the same numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct EpochRow {
    pub(crate) epoch: u32,
    /// Training time since the start of the run, interruptions left out.
    pub(crate) seconds: f64,
    pub(crate) lr: f64,
    pub(crate) train_loss: f64,
    pub(crate) train_accuracy: f64,
    pub(crate) val_loss: Option<f64>,
    pub(crate) val_accuracy: Option<f64>,
    /// Mean average precision, where images have several labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) val_map: Option<f64>,
    /// Where several ranks trained together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) communication: Option<Communication>,
}

/// Seconds of communication in the steps of an epoch, as rank 0 saw them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Communication {
    /// In which gradients or statistics were on their way, waiting for slower ranks included.
    pub(crate) total: f64,
    /// Of these, in which a step waited for them.
    pub(crate) exposed: f64,
}

impl Communication {
    /// What lies between two looks at the times.
    pub(crate) fn between(before: Times, after: Times) -> Self {
        Communication { total: after.total - before.total, exposed: after.exposed - before.exposed }
    }
}

/// State of a run between two epochs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// The epoch of the best weights.
    pub(crate) best_epoch: Option<u32>,
    /// Epochs since then.
    pub(crate) since_best: u32,
    /// Seconds that the run took before its first step.
    #[serde(default)]
    pub(crate) before: f64,
    /// Whether its time was up: it is finished, whatever the number of its epochs.
    #[serde(default)]
    pub(crate) time_up: bool,
    pub(crate) history: Vec<EpochRow>,
}

impl Progress {
    pub(crate) fn epochs_done(&self) -> u32 {
        self.history.last().map_or(0, |row| row.epoch)
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.history.last().map_or(0.0, |row| row.seconds)
    }

    /// Takes an epoch in and says whether it is the best so far: by validation accuracy (the mean average precision where
    /// images have several labels), then by the lower validation loss; without validation images by the lower training loss. The first of equals stays.
    pub(crate) fn add(&mut self, row: EpochRow) -> bool {
        let best = self.best_epoch.and_then(|best| self.history.iter().find(|old| old.epoch == best));
        let better = best.is_none_or(|best| is_better(&row, best));
        if better {
            (self.best_epoch, self.since_best) = (Some(row.epoch), 0);
        } else {
            self.since_best += 1;
        }
        self.history.push(row);
        better
    }

    /// `results.csv`.
    pub(crate) fn to_csv(&self) -> String {
        let mut text = String::from("epoch,time_s,lr,train_loss,train_accuracy,val_loss,val_accuracy");
        let with_map = self.history.iter().any(|row| row.val_map.is_some());
        let with_ranks = self.history.iter().any(|row| row.communication.is_some());
        text += if with_map { ",val_map" } else { "" };
        text += if with_ranks { ",communication_s,exposed_s\n" } else { "\n" };
        let some = |value: Option<f64>| value.map_or(String::new(), |v| (v as f32).to_string());
        for row in &self.history {
            let [lr, loss, accuracy] = [row.lr, row.train_loss, row.train_accuracy].map(|v| v as f32);
            let (val_loss, val_accuracy) = (some(row.val_loss), some(row.val_accuracy));
            let (epoch, seconds) = (row.epoch, row.seconds);
            write!(text, "{epoch},{seconds:.3},{lr},{loss},{accuracy},{val_loss},{val_accuracy}")
                .expect("writing to a string cannot fail");
            if with_map {
                text += &format!(",{}", some(row.val_map));
            }
            if with_ranks {
                let [total, exposed] =
                    [row.communication.map(|c| c.total), row.communication.map(|c| c.exposed)];
                text += &format!(",{},{}", some(total), some(exposed));
            }
            text.push('\n');
        }
        text
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("progress holds finite numbers only")
    }
}

fn is_better(row: &EpochRow, best: &EpochRow) -> bool {
    let score = |row: &EpochRow| row.val_map.or(row.val_accuracy);
    match (score(row), score(best)) {
        (Some(a), Some(b)) => {
            let loss = |row: &EpochRow| row.val_loss.unwrap_or(f64::INFINITY) as f32;
            a as f32 > b as f32 || a as f32 == b as f32 && loss(row) < loss(best)
        }
        _ => (row.train_loss as f32) < best.train_loss as f32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(epoch: u32, train_loss: f64, val: Option<(f64, f64)>) -> EpochRow {
        EpochRow {
            epoch,
            seconds: 1.5 * f64::from(epoch),
            lr: f64::from(0.1f32),
            train_loss,
            train_accuracy: 0.5,
            val_loss: val.map(|v| v.0),
            val_accuracy: val.map(|v| v.1),
            val_map: None,
            communication: None,
        }
    }

    #[test]
    fn best_is_by_accuracy_then_loss_and_counts_epochs_since() {
        let mut p = Progress::default();
        let vals = [(1.0, 0.5), (2.0, 0.6), (2.0, 0.6), (1.5, 0.6), (0.1, 0.5)];
        let better: Vec<bool> =
            (1..).zip(vals).map(|(epoch, val)| p.add(row(epoch, 0.0, Some(val)))).collect();
        assert_eq!(better, [true, true, false, true, false]);
        assert_eq!((p.best_epoch, p.since_best, p.epochs_done()), (Some(4), 1, 5));
        let mut p = Progress::default();
        let better: Vec<bool> =
            (1..).zip([3.0, 2.0, 2.5]).map(|(e, loss)| p.add(row(e, loss, None))).collect();
        assert_eq!(better, [true, true, false]);
    }

    #[test]
    fn json_keeps_every_f32_and_csv_leaves_gaps() {
        let mut seed = 1u64;
        let mut p = Progress::default();
        for epoch in 1..2000 {
            let mut value = || {
                f64::from(f32::from_bits(ocelli_datasets::rng::split_mix64(&mut seed) as u32 & 0x7f7f_ffff))
            };
            let (a, b, c) = (value(), value(), value());
            p.add(row(epoch, a, Some((b, c))));
        }
        let back: Progress = serde_json::from_str(&p.to_json()).unwrap();
        for (a, b) in p.history.iter().zip(&back.history) {
            assert_eq!((a.train_loss as f32).to_bits(), (b.train_loss as f32).to_bits());
            assert_eq!(a.val_loss.map(|v| (v as f32).to_bits()), b.val_loss.map(|v| (v as f32).to_bits()));
        }
        let mut p = Progress::default();
        p.add(row(1, 0.25, None));
        assert_eq!(p.to_csv().lines().nth(1).unwrap(), "1,1.500,0.1,0.25,0.5,,");
    }
}
