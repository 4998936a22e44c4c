//! Which images are new to a model.

use super::parent::Parent;
use crate::added::ClassImages;
use crate::data::{Loaded, list};
use crate::error::PipelineError;
use crate::replay::short_hash;

/// What is new in a data set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// Classes that the model does not know.
    pub(crate) added: Vec<ClassImages>,
    /// Classes that it knows, of which there are further images.
    pub(crate) further: Vec<ClassImages>,
    /// Images of known classes that are in its data already.
    pub(crate) known: usize,
    /// Images of added classes that are in its data already, as another class.
    pub(crate) renamed: usize,
}

/// Takes images out of `loaded` that the model was trained or measured on as what they are.
///
/// # Errors
/// [`PipelineError::Replay`] where nothing is left to train on.
pub(crate) fn take_new(loaded: &mut Loaded, parent: &Parent) -> Result<News, PipelineError> {
    let Loaded { set, train, val, test, .. } = loaded;
    let classes = parent.file.meta.classes.len();
    let seen = |i: usize| parent.replay.seen.binary_search(&short_hash(set.hash(i))).is_ok();
    let is_old = |i: usize| (set.class(i) as usize) < classes;
    let mut news = News::default();
    for part in [&mut *train, val, test] {
        let before = part.len();
        part.retain(|&i| !(is_old(i) && seen(i)));
        news.known += before - part.len();
        news.renamed += part.iter().filter(|&&i| seen(i)).count();
    }
    let mut counts = vec![0; set.classes().len()];
    train.iter().for_each(|&i| counts[set.class(i) as usize] += 1);
    let new_images = |(name, &images): (&String, &usize)| ClassImages { name: name.clone(), images };
    let mut found = set.classes().iter().zip(&counts).map(new_images);
    news.further = found.by_ref().take(classes).filter(|class| class.images > 0).collect();
    news.added = found.collect();
    if train.is_empty() {
        let reason = format!(
            "the model knows all classes of this data, and all {} images; add a folder for each new class",
            news.known
        );
        return Err(PipelineError::replay(&parent.path, reason));
    }
    Ok(news)
}

impl News {
    /// What to say of it.
    pub(crate) fn notes(&self) -> Vec<String> {
        let names = |classes: &[ClassImages]| list(classes.iter().map(|class| class.name.as_str()));
        let count = |classes: &[ClassImages]| classes.iter().map(|class| class.images).sum::<usize>();
        let mut notes = Vec::new();
        if self.added.is_empty() {
            notes.push("no class is new; the last layer is fitted again with the further images".to_owned());
        }
        if !self.further.is_empty() {
            notes.push(format!(
                "the model knows {}: {} more training images of what it knows",
                names(&self.further),
                count(&self.further)
            ));
        }
        if self.known > 0 {
            notes.push(format!(
                "{} images are in the data of the model already; the features that it kept stand for them",
                self.known
            ));
        }
        notes
    }

    /// What may make the model worse.
    pub(crate) fn warning(&self) -> Option<String> {
        (self.renamed > 0).then(|| {
            format!(
                "{} images of the new classes are in the data of the model as other classes, which it cannot tell apart from them; train on the images of all classes if a class was renamed or divided",
                self.renamed
            )
        })
    }
}
