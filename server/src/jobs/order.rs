//! What the process of a job is told, and whether it fits into the memory that a job may take.

use std::collections::HashSet;
use std::path::PathBuf;

use ocelli_pipeline::job::{JobSpec, ModelRef, fit_into};
use ocelli_pipeline::store::{JobData, Name, Preview, StoreError};
use ocelli_pipeline::{Data, Question, QuestionSet, Rules, StartModel, same_class};

use crate::http::problem::Problem;
use crate::jobs::error::JobError;
use crate::jobs::request::{RetrainRequest, StartFrom};
use crate::jobs::shared::Shared;
use crate::models::model::Model;

/// Times that the images of a data set are looked at anew, which changes while a job is asked for.
const MAX_LOOKS: u32 = 20;

/// Refuses a job that needs more memory than it may take, with both numbers.
pub(super) fn check_memory(shared: &Shared, model: &Model, request: &RetrainRequest) -> Result<(), Problem> {
    let dataset = request.dataset()?;
    let mut table = shared.store.jobs().preview(&dataset)?;
    for _ in 0..MAX_LOOKS {
        let Err(problem) = check_memory_with((shared, model), request, &table) else { return Ok(()) };
        // Images that were deleted after they were listed are no reason to refuse.
        let now = shared.store.jobs().preview(&dataset)?;
        if now.is_like(&table) {
            return Err(problem);
        }
        table = now;
    }
    check_memory_with((shared, model), request, &table)
}

fn check_memory_with(
    (shared, model): (&Shared, &Model),
    request: &RetrainRequest,
    table: &Preview,
) -> Result<(), Problem> {
    let serving = model.version();
    let spec = Spec { shared, model, request, data: table.path(), serving: &serving };
    match spec.make().and_then(|(spec, _)| fit_into(&spec, shared.config.job_memory).map_err(JobError::from))
    {
        Ok(_) | Err(JobError::Stopped) => Ok(()),
        Err(JobError::Failed(reason)) => {
            Err(Problem::Refused(reason.replace(&format!("{}/", shared.store.dir().display()), "")))
        }
    }
}

/// What a job's process is told.
pub(super) struct Spec<'a> {
    pub(super) shared: &'a Shared,
    /// What is trained further.
    pub(super) model: &'a Model,
    pub(super) request: &'a RetrainRequest,
    /// The table of its images.
    pub(super) data: PathBuf,
    /// The version whose weights it may start from.
    pub(super) serving: &'a str,
}

impl Spec<'_> {
    /// The order for the training alone, and what to say about its start.
    pub(super) fn make(&self) -> Result<(JobSpec, String), JobError> {
        let Spec { shared, model, request, data, serving } = self;
        let versions = model.versions()?;
        let (recipe, origins) = request.recipe(shared.config.job_threads)?;
        let start = || -> Result<_, JobError> {
            Ok(Some(ModelRef { version: (*serving).to_owned(), path: versions.file(serving)? }))
        };
        let file = match request.from {
            StartFrom::Fresh => None,
            _ => Some(versions.load(serving)?),
        };
        if file.as_ref().is_some_and(|file| file.meta.multi_label.is_some()) {
            let reason = format!(
                "version {serving} says any number of labels, and a service trains images of one class each"
            );
            return Err(JobError::Failed(reason));
        }
        let usable = file.as_ref().is_some_and(StartModel::usable) && request.recipe.get("model").is_none();
        let (start, note) = match (request.from, &file) {
            (StartFrom::Fresh, _) | (_, None) => (None, "fresh weights, as asked for".to_owned()),
            (StartFrom::Current, _) if usable => {
                (start()?, format!("starts from the weights of version {serving}"))
            }
            (StartFrom::Current, _) => {
                let reason =
                    format!("version {serving} cannot be trained further: ask for \"from\": \"fresh\"");
                return Err(JobError::Failed(reason));
            }
            (StartFrom::Auto, Some(file)) => {
                let there = Data::Path(data.clone()).open()?.classes().to_vec();
                let has = |class: &String| there.iter().any(|other| same_class(class, other));
                let all = file.meta.classes.iter().all(has);
                if usable && all {
                    (start()?, format!("starts from the weights of version {serving}"))
                } else {
                    let why = if all {
                        "it cannot be trained further"
                    } else {
                        "the data has no images of some of its classes"
                    };
                    (None, format!("fresh weights, not those of version {serving}: {why}"))
                }
            }
        };
        let spec = JobSpec {
            data: data.clone(),
            recipe,
            origins,
            runs_dir: shared.store.runs_dir(),
            run: None,
            finish: false,
            name: Some(request.dataset.clone()),
            data_name: Some(request.dataset.clone()),
            start,
            serving: None,
            gate: request.gate.clone(),
            rules: Rules::default(),
            questions: Vec::new(),
            memory: Some(shared.config.job_memory),
        };
        Ok((spec, note))
    }
}

/// The images by which the candidate is judged, with their hashes: those held out from its data set, and those that the
/// serving version was judged on, without any that the candidate is trained on.
pub(super) fn questions(
    (shared, model): (&Shared, &Model),
    serving: &str,
    data: &JobData,
) -> Result<Vec<(Question, [u8; 32])>, StoreError> {
    let trained_on: HashSet<&[u8; 32]> = data.trained_on.iter().collect();
    let reference = shared.store.jobs().judged_on(&Name::nearest(model.name()), serving)?;
    let held_out = data.held_out.iter().cloned().map(|image| (image, QuestionSet::HeldOut));
    let reference = reference.into_iter().map(|image| (image, QuestionSet::Reference));
    let all = held_out.chain(reference).filter(|((.., hash), _)| !trained_on.contains(hash));
    Ok(all.map(|((path, class, hash), set)| (Question { path, class, set }, hash)).collect())
}
