//! What is in a data set, and what is wrong with it: `ocelli inspect`, and the look at an archive before it is uploaded.
//!
//! One pass reads, hashes and decodes every image and keeps a fingerprint of it (`look`, `fingerprint`); copies are found by
//! these (`copies`, `near`), wrong labels by the features of a model (`suspects`) or by one that knows the classes
//! (`by_model`). `rules` has a function for each thing that is worth saying; `report` is what comes of it, `page` shows it.
//! Nothing is written.

mod by_model;
mod copies;
mod extension;
mod facts;
mod fingerprint;
mod groups;
mod images;
mod look;
mod near;
mod options;
mod page;
mod report;
mod rules;
mod suspects;
#[cfg(test)]
mod tests;
mod thumbnails;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use ocelli_datasets::{DecodeLimits, LabelsPerImage, UploadLimits};
use ocelli_engine::Pool;
use ocelli_engine::model_file::ModelFile;

use crate::built_in::{imagenet_model, open_model};
use crate::data::Data;
use crate::error::PipelineError;
use crate::event::Observe;
use crate::predict::Predictor;
use crate::store::StoreError;

use copies::Copies;
use facts::Facts;
use images::{Archive, Images};
use look::Look;
pub use options::{DEFAULT_SUSPECTS, InspectOptions, Suspects};
pub use report::{
    BINS, Bin, ClassCount, FileFound, Finding, Inspection, Kind, LabelSearch, Lengths, Method, Severity,
    SplitCounts,
};
use suspects::{Search, Suspect, not_searched};
use thumbnails::Thumbnails;

/// What the model is called whose features are used where none is named.
const FEATURES_OF: &str = "imagenet";

/// Inspects a data set of the user's own.
///
/// # Errors
/// Those of opening the data and the model; [`PipelineError::Stopped`].
pub fn inspect(
    data: &Data,
    options: &InspectOptions,
    stop: &AtomicBool,
    observe: Observe<'_>,
) -> Result<Inspection, PipelineError> {
    let source = data.open_labelled(LabelsPerImage::AsFound)?;
    let pool = options.compute.pool()?;
    let limits = DecodeLimits::default();
    let work = Work { options, limits: &limits, threads: pool.threads(), pool: &pool, stop };
    // Whatever is wrong with the model is said before the images are read.
    let model = match (&options.model, options.suspects) {
        (_, Suspects::None) | (None, _) => None,
        (Some(path), _) => Some((open_model(path)?, path.display().to_string())),
    };
    let known = model.as_ref().filter(|(file, _)| by_model::knows(file, source.classes()));
    let about = (source.name(), source.kind(), source.notes());
    let images = &source;
    work.inspect(&images, about, observe, |images, facts, copies, observe| match known {
        Some((file, name)) if !facts.is_multi_label() => {
            by_model::suspects((file, name), data, facts, (options.compute, stop), observe)
        }
        _ => {
            let given = model.as_ref().map(|(file, name)| (file.clone(), name.clone()));
            work.by_features(given, (images, facts), copies, observe)
        }
    })
}

/// Inspects an archive that somebody sent, as it would be taken in.
///
/// # Errors
/// [`StoreError::Refused`] or [`StoreError::TooLarge`] when the archive as a whole will not do; [`StoreError::Stopped`].
pub fn inspect_upload(
    zip: &Path,
    (limits, pool): (&UploadLimits, &Pool),
    options: &InspectOptions,
    stop: &AtomicBool,
) -> Result<Inspection, StoreError> {
    let archive = Archive::open(zip, limits)?;
    let work = Work { options, limits: &limits.image, threads: limits.max_parallel, pool, stop };
    let about = ("upload", "zip", archive.notes());
    work.inspect(&archive, about, &mut |_| {}, |images, facts, copies, observe| {
        work.by_features(None, (images, facts), copies, observe)
    })
}

/// What an inspection works with.
#[derive(Clone, Copy)]
struct Work<'a> {
    options: &'a InspectOptions,
    limits: &'a DecodeLimits,
    /// Images that are decoded at a time.
    threads: usize,
    pool: &'a Pool,
    stop: &'a AtomicBool,
}

/// Labels that may be wrong, and how they were searched.
type Searched = (LabelSearch, Vec<Suspect>);

impl Work<'_> {
    fn inspect<I: Images>(
        &self,
        images: &I,
        (name, kind, notes): (&str, &str, &[String]),
        observe: Observe<'_>,
        search: impl FnOnce(&I, &Facts, &Copies, Observe<'_>) -> Result<Searched, I::Error>,
    ) -> Result<Inspection, I::Error> {
        let Work { limits, threads, pool, stop, .. } = *self;
        let channels = self.options.channels;
        let look = Look { limits, channels, threads, pool, stop };
        let seen = look.at_all(images, observe)?;
        let facts = Facts { classes: images.classes(), items: images.items(), seen: &seen };
        let copies = Copies::find(&facts, pool)?;
        let (label_search, suspects) = search(images, &facts, &copies, observe)?;
        let mut findings = rules::findings(&facts, &copies, &suspects);
        if self.options.thumbnails > 0 {
            let most = self.options.thumbnails;
            let thumbnails = Thumbnails { most, limits, channels, threads, pool, stop };
            thumbnails.add(&images.again()?, &mut findings)?;
        }
        let of = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
        let [problems, warnings, remarks] = [Severity::Problem, Severity::Warning, Severity::Note].map(of);
        let mut inspection = Inspection {
            name: name.to_owned(),
            kind: kind.to_owned(),
            notes: notes.to_vec(),
            multi_label: facts.is_multi_label(),
            files: facts.items.len(),
            images: 0,
            splits: SplitCounts::default(),
            classes: facts.class_counts(),
            width: Lengths::of(facts.pictures().map(|(_, picture)| picture.width).collect()),
            height: Lengths::of(facts.pictures().map(|(_, picture)| picture.height).collect()),
            formats: BTreeMap::new(),
            channels: BTreeMap::new(),
            bits: BTreeMap::new(),
            rotated: 0,
            label_search,
            problems,
            warnings,
            remarks,
            findings,
        };
        for (index, picture) in facts.pictures() {
            inspection.images += 1;
            inspection.splits.add(facts.items[index].split);
            inspection.rotated += usize::from(picture.turned);
            let colour = match picture.channels {
                1 => "gray".to_owned(),
                3 => "rgb".to_owned(),
                n => n.to_string(),
            };
            let count = |counts: &mut BTreeMap<String, usize>, name: String| {
                *counts.entry(name).or_default() += 1;
            };
            count(&mut inspection.channels, colour);
            count(&mut inspection.bits, picture.bits.to_string());
            if let Some(format) = picture.format {
                count(&mut inspection.formats, format.to_owned());
            }
        }
        Ok(inspection)
    }

    /// Searches wrong labels by the features of a model, the ImageNet one where none is given.
    fn by_features<I: Images>(
        &self,
        model: Option<(ModelFile, String)>,
        (images, facts): (&I, &Facts),
        copies: &Copies,
        observe: Observe<'_>,
    ) -> Result<Searched, I::Error> {
        let most = match self.options.suspects {
            Suspects::None => return Ok(not_searched(facts, "it was not asked for")),
            _ if facts.is_multi_label() => return Ok(not_searched(facts, "images have several labels each")),
            Suspects::All => usize::MAX,
            Suspects::Most(most) => most,
        };
        let (file, name) = match model {
            Some(model) => model,
            None => match imagenet_model() {
                Ok(file) => (file, FEATURES_OF.to_owned()),
                Err(PipelineError::NoShippedModel) => {
                    return Ok(not_searched(facts, "this build carries no model, and none was named"));
                }
                Err(error) => return Err(error.into()),
            },
        };
        let mut predictor = Predictor::from_model_file(file, self.options.compute)?;
        let search = Search {
            predictor: &mut predictor,
            model: name,
            most,
            limits: self.limits,
            threads: self.threads,
            stop: self.stop,
        };
        search.run((&images.again()?, facts), copies, observe)
    }
}
