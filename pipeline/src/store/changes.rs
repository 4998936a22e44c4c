//! Changes that people make to the images of a data set: another class, or removed; many at once, and undone again.
//!
//! A change is one transaction. It keeps what its images were, and with that the files of removed ones, until
//! [`KEPT_CHANGES`] newer changes were made. Splits never change.

use serde_json::json;

use crate::store::audit::note;
use crate::store::database::changes::{self, Before};
use crate::store::database::{Fault, Tx, files, images};
use crate::store::datasets::{Datasets, find, key};
use crate::store::entries::{Actor, Change};
use crate::store::error::StoreError;
use crate::store::image::{check_class, check_counts};
use crate::store::inner::now;
use crate::store::name::Name;

/// Most images of one change.
pub const MAX_CHANGED: usize = 1000;
/// Changes of a data set that are kept to be undone.
pub const KEPT_CHANGES: usize = 100;

impl Datasets {
    /// Puts images under another class, which is made where it is missing, or takes them out of the data set where `class`
    /// is none. Images that are of that class already are left as they are.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for no images, more than [`MAX_CHANGED`], the same one twice, a class name that will not do,
    /// and where nothing would change; [`StoreError::NotFound`]; [`StoreError::TooLarge`] for too many classes;
    /// [`StoreError::Io`]. Nothing is changed then.
    pub fn change(
        &self,
        name: &Name,
        ids: &[String],
        class: Option<&str>,
        by: &Actor,
    ) -> Result<Change, StoreError> {
        let refused = |reason: String| Err(StoreError::Refused { reason });
        if ids.is_empty() || ids.len() > MAX_CHANGED {
            return refused(format!(
                "{} images are to be changed; 1 to {MAX_CHANGED} can be at once",
                ids.len()
            ));
        }
        let mut sorted: Vec<&String> = ids.iter().collect();
        sorted.sort();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return refused(format!("the image {:.80} is named twice", twice[0]));
        }
        if let Some(class) = class {
            check_class(class).map_err(|reason| StoreError::Refused { reason })?;
        }
        let _turn = self.inner.files();
        let (change, gone) = self.inner.database.write(|tx| {
            let dataset = key(tx, name)?;
            let befores = ids.iter().map(|id| before(tx, dataset, id)).collect::<Result<Vec<_>, _>>()?;
            let known = images::split_counts(tx, dataset)?;
            let class = class.map(|class| {
                let composed = ocelli_datasets::names::nfc(class);
                known.get(&*composed).map_or_else(|| class.to_owned(), |(own, _)| own.clone())
            });
            let changed: Vec<&Before> =
                befores.iter().filter(|image| Some(&image.class) != class.as_ref()).collect();
            if changed.is_empty() {
                let reason =
                    format!("all of these images are in class {:?} already", class.unwrap_or_default());
                return Err(StoreError::Refused { reason }.into());
            }
            let at = now();
            let number = changes::add(tx, dataset, at, by, class.as_deref())?;
            changed.iter().try_for_each(|image| changes::keep(tx, number, image))?;
            match &class {
                Some(class) => {
                    check_counts(0, known.len() + 1)?;
                    let to = images::class_key(tx, dataset, class)?;
                    changed.iter().try_for_each(|image| images::set_class(tx, (dataset, to), image.file))?;
                }
                None => changed.iter().try_for_each(|image| images::take_out(tx, dataset, image.file))?,
            }
            images::drop_empty_classes(tx, dataset)?;
            images::touch(tx, dataset, at, 0)?;
            let detail = json!({ "change": number, "images": changed.len(), "class": class });
            note(tx, by, ("change images", name.as_str()), &detail)?;
            let freed = changes::prune(tx, dataset, KEPT_CHANGES)?;
            let gone = files::release(tx, &freed)?;
            Ok((changes::find(tx, dataset, number as u64)?, gone))
        })?;
        self.inner.remove(&gone);
        Ok(change.expect("a change that was just made is one of the newest"))
    }

    /// Up to `limit` changes of a data set, newest first.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Io`], [`StoreError::Database`].
    pub fn changes(&self, name: &Name, limit: usize) -> Result<Vec<Change>, StoreError> {
        self.inner.database.read(|tx| changes::list(tx, key(tx, name)?, limit))
    }

    /// Makes the images of a change what they were before it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for a change that is not kept; [`StoreError::Conflict`] where it was undone already, and
    /// where any of its images was changed, removed or sent again since: nothing is changed then. [`StoreError::Io`].
    pub fn undo(&self, name: &Name, change: u64, by: &Actor) -> Result<Change, StoreError> {
        let _turn = self.inner.files();
        self.inner.database.write(|tx| {
            let dataset = key(tx, name)?;
            let Some(made) = changes::find(tx, dataset, change)? else {
                let name = format!("{change} (of each data set the newest {KEPT_CHANGES} are kept)");
                return Err(StoreError::NotFound { what: "change", name }.into());
            };
            let conflict = |reason: String| Err(Fault::from(StoreError::Conflict { reason }));
            if made.undone.is_some() {
                return conflict(format!("change {change} was undone already"));
            }
            let befores = changes::before(tx, change)?;
            let (total, _) = images::totals(tx, dataset)?;
            let classes = images::split_counts(tx, dataset)?.len();
            check_counts(total + befores.len(), classes + 1)?;
            for image in &befores {
                let now = images::image(tx, dataset, &image.id)?.map(|(_, info)| info.class);
                if now != made.class {
                    let is =
                        now.map_or("not in the data set".to_owned(), |class| format!("in class {class:?}"));
                    let id = image.id;
                    return conflict(format!(
                        "change {change} cannot be undone: the image {id} is {is} by now"
                    ));
                }
                let class = images::class_key(tx, dataset, &image.class)?;
                if made.class.is_some() {
                    images::set_class(tx, (dataset, class), image.file)?;
                } else {
                    images::add(tx, (dataset, class), image.file, &image.as_new())?;
                }
            }
            images::drop_empty_classes(tx, dataset)?;
            images::touch(tx, dataset, now(), 0)?;
            changes::set_undone(tx, change, now())?;
            let detail = json!({ "change": change, "images": befores.len() });
            note(tx, by, ("undo change of images", name.as_str()), &detail)?;
            Ok(changes::find(tx, dataset, change)?.unwrap_or(made))
        })
    }
}

/// What an image of a data set is.
fn before(tx: &Tx<'_>, dataset: i64, id: &str) -> Result<Before, Fault> {
    let (file, info) = find(tx, dataset, id)?;
    Ok(Before {
        file: file.key,
        id: file.id,
        class: info.class,
        split: info.split,
        name: info.name,
        added: info.added,
        origin: info.source,
    })
}
