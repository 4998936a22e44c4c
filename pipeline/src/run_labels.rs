//! The end of a run whose images have any number of labels: thresholds, the final evaluation and its reports.

use ocelli_engine::model_file::{LabelQuality, ModelFile, MultiLabel};

use crate::card::Results;
use crate::error::PipelineError;
use crate::evaluate::LabelledImages;
use crate::event::Event;
use crate::labels::{
    DEFAULT_THRESHOLD, LEAST_POSITIVES, ask, choose_thresholds, evaluated, report, without_own,
};
use crate::probes;
use crate::run::{Outcome, Run};
use crate::run_report::label_report;

impl Run<'_> {
    /// Chooses the thresholds of `weights/best.ocelli` as it is on the disk, evaluates it and writes the reports.
    pub(crate) fn finish_labels(&mut self) -> Result<Outcome, PipelineError> {
        let mut file = ModelFile::load(&self.folder.best())?;
        let mut inference = self.inference(&file.model)?;
        let (map, classes) = (self.identity(), self.meta.classes.clone());
        let (indices, split) = self.final_images();
        let (indices, stop) = (indices.to_vec(), self.stop);
        let (thresholds, about) = {
            let (set, val) = (&self.loaded.set, &self.loaded.val);
            let images = LabelledImages {
                set,
                indices: val,
                map: &map,
                classes: &classes,
                split: "val",
                temperature: 1.0,
            };
            match val.is_empty() {
                true => {
                    let about =
                        format!("no validation images: every label has the threshold {DEFAULT_THRESHOLD}");
                    (vec![DEFAULT_THRESHOLD; classes.len()], Some(about))
                }
                false => {
                    let answers = ask(&images, (&mut inference, None), stop, &mut |_| Ok(()))?;
                    let few = without_own(&answers.scores);
                    let about = (few > 0).then(|| {
                        format!(
                            "{few} of {} labels have fewer than {LEAST_POSITIVES} validation images and share one threshold",
                            classes.len()
                        )
                    });
                    (choose_thresholds(&answers.scores), about)
                }
            }
        };
        if let Some(about) = about {
            self.reporter.note(about)?;
        }
        let images = LabelledImages {
            set: &self.loaded.set,
            indices: &indices,
            map: &map,
            classes: &classes,
            split,
            temperature: 1.0,
        };
        let reporter = &mut self.reporter;
        let tell = &mut |event: &Event| reporter.report(event);
        let mut evaluation = report(&images, &thresholds, (&mut inference, None), stop, tell)?;
        match split {
            "test" => {}
            "val" => {
                let note = "no test images: the same images chose the best epoch and the thresholds";
                evaluation.notes.push(note.to_owned());
            }
            _ => evaluation.notes.push("no held-out images: expect less on new ones".to_owned()),
        }
        for text in evaluation.notes.clone() {
            self.reporter.note(text)?;
        }
        let quality = (split != "train").then(|| LabelQuality {
            mean_average_precision: evaluation.mean_average_precision,
            micro_f1: evaluation.micro.f1,
            macro_f1: evaluation.macro_mean.f1,
            split: split.to_owned(),
            images: evaluation.images as u64,
        });
        file.meta.multi_label = Some(MultiLabel { thresholds, quality });
        file.probes = probes::ask(&file, &self.loaded.set, &indices, &self.exec)?;
        let hash = file.save(&self.folder.best())?;
        self.write_card(&file, hash, Results::Labels(&evaluation))?;
        self.write_report(&file, |training| label_report(training, &evaluation))?;
        // Last: its report says that the run is finished.
        evaluation.write_into(self.folder.path(), &self.meta.name)?;
        self.reporter.report(&evaluated(&evaluation))?;
        self.reporter.report(&Event::Done {
            run_dir: self.run_dir.clone(),
            split: split.to_owned(),
            accuracy: evaluation.subset_accuracy,
            mean_average_precision: Some(evaluation.mean_average_precision),
            best_epoch: self.progress.best_epoch.unwrap_or(0),
            epochs: self.progress.epochs_done(),
            seconds: self.progress.seconds() as f32,
            waited: self.waits.share(),
        })?;
        Ok(self.outcome(None, Some(evaluation)))
    }
}
