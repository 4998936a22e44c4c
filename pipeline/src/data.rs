//! From a data set on disk to images in memory, sized and split by a recipe.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ocelli_datasets::{
    AugmentLevel, CacheFolder, CacheMade, CacheUse, DatasetError, DecodeLimits, ImageSet, Labelling,
    LabelsPerImage, LoadOptions, Preprocessing, Source, Split,
};
use ocelli_engine::{Loss, Pool};

use crate::balance::imbalance;
use crate::error::PipelineError;
use crate::event::Event;
use crate::input::{self, Wanted};
use crate::machine;
use crate::metrics::{SkippedImage, check_classes};
use crate::network_file::NetworkFile;
use crate::pool;
use crate::recipe::{Balance, MAX_EPOCHS, Normalize, Origins, Recipe, Start, is_free, is_open};
use crate::unknown;

/// Names that a message lists before it says how many more there are.
const SHOWN: usize = 5;

/// Time between two reports of loading: fast enough for a bar, slow enough for a log.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// Steps of an epoch below which the default batch is made smaller: with fewer, an epoch teaches little.
const MIN_STEPS: usize = 30;

/// Smallest batch that is chosen: below it, batch statistics are too noisy.
const MIN_BATCH: u32 = 16;

/// Steps of a run below which the default number of epochs is raised.
const MIN_RUN: usize = 600;

/// Images of a class from which a short run sees too few repeats to learn any by heart: varied images then only slow
/// it down (10 epochs on Fashion-MNIST: 90.9 % of the test images with light variation, 92.2 % without).
const PLENTY: usize = 1000;

/// Most epochs that are chosen.
const MAX_CHOSEN_EPOCHS: usize = 50;

/// What is done by itself about classes beyond 1:5.
const FOR_IMBALANCE: Balance = Balance::Sampling;

/// Where images come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Fashion-MNIST from inside the program.
    Bundled,
    /// Photos of hands that show digits, from inside the program.
    BundledPhotos,
    /// A folder or file; see [`Source::open`].
    Path(PathBuf),
    /// A folder or archive of images, and a table with their labels.
    Labelled {
        /// The images.
        images: PathBuf,
        /// The table.
        table: PathBuf,
    },
}

impl Data {
    /// Opens the data set for training: two classes at least.
    ///
    /// # Errors
    /// Those of [`Source::open`].
    pub fn open(&self) -> Result<Source, PipelineError> {
        self.open_for_training(LabelsPerImage::One)
    }

    /// As [`Data::open`], with so many labels an image.
    pub(crate) fn open_for_training(&self, per_image: LabelsPerImage) -> Result<Source, PipelineError> {
        let source = self.open_labelled(per_image)?;
        match (source.classes(), self) {
            ([class], Data::Path(path) | Data::Labelled { images: path, .. }) => {
                Err(DatasetError::OneClass { path: path.clone(), class: class.clone() }.into())
            }
            _ => Ok(source),
        }
    }

    /// Opens the data set for evaluation, where one class is enough.
    pub(crate) fn open_any(&self) -> Result<Source, PipelineError> {
        self.open_labelled(LabelsPerImage::One)
    }

    /// As [`Data::open_any`], with so many labels an image.
    pub(crate) fn open_labelled(&self, per_image: LabelsPerImage) -> Result<Source, PipelineError> {
        let (path, table) = match self {
            Data::Bundled => return Ok(Source::bundled().labelled(per_image)),
            Data::BundledPhotos => return Ok(Source::bundled_photos().labelled(per_image)),
            Data::Path(path) => (path, None),
            Data::Labelled { images, table } => (images, Some(table.as_path())),
        };
        Ok(Source::open_labelled(path, &Labelling { per_image, table })?)
    }
}

/// Chooses what a recipe leaves open from what the data set looks like, and notes the reason as the origin.
///
/// # Errors
/// [`PipelineError::TooManyClasses`].
pub(crate) fn resolve(
    recipe: &mut Recipe,
    origins: &mut Origins,
    source: &Source,
    network: Option<&NetworkFile>,
) -> Result<Vec<String>, PipelineError> {
    check_classes(source.classes().len())?;
    let shape = source.native_shape();
    let images = training_images(recipe, source);
    if recipe.time_budget > 0 && is_open(origins, "epochs") {
        recipe.epochs = MAX_EPOCHS;
        origins.insert("epochs".to_owned(), "the time budget decides".to_owned());
    }
    if recipe.start == Some(Start::ImageNet) {
        recipe.suit_imagenet(origins, images, &shape);
    } else {
        let coloured = recipe.channels.unwrap_or(shape.channels) != 1;
        recipe.suit_quality(origins, images, coloured);
    }
    if recipe.size.is_none() {
        let (size, reason) = input::choose(Wanted::by(&recipe.model, network), &shape, recipe.fit);
        recipe.size = Some(size);
        origins.insert("size".to_owned(), reason);
    }
    if recipe.channels.is_none() {
        recipe.channels = Some(shape.channels);
        let colour = if shape.channels == 1 { "the images are gray" } else { "the images have colours" };
        origins.insert("channels".to_owned(), colour.to_owned());
    }
    if recipe.hflip.is_none() {
        let coloured = recipe.channels != Some(1);
        recipe.hflip = Some(coloured);
        let reason = if coloured { "photos may be mirrored" } else { "gray images may be digits or letters" };
        origins.insert("hflip".to_owned(), reason.to_owned());
    }
    if source.is_multi_label() {
        recipe.suit_labels(origins)?;
    }
    if recipe.balance == Balance::Auto {
        let found = imbalance(training_counts(source), "images");
        recipe.balance = if found.is_some() { FOR_IMBALANCE } else { Balance::None };
        let reason = if found.is_some() { "classes are out of balance" } else { "classes are in balance" };
        origins.insert("balance".to_owned(), reason.to_owned());
    }
    recipe.suit_network(origins, images);
    Ok(fit_to_image_count(recipe, origins, images, source.classes().len()))
}

/// Small data sets get smaller batches and more epochs, large ones unvaried images, where nobody chose them.
fn fit_to_image_count(
    recipe: &mut Recipe,
    origins: &mut Origins,
    images: usize,
    classes: usize,
) -> Vec<String> {
    let default = Recipe::default();
    let mut notes = Vec::new();
    let mut chosen = |origins: &mut Origins, name: &str, value: &dyn std::fmt::Display| {
        notes.push(format!("{name} {value} chosen for {images} training images"));
        origins.insert(name.to_owned(), format!("chosen for {images} training images"));
    };
    if is_free!(recipe, default, origins, batch) {
        let wanted = (images / MIN_STEPS).max(1).ilog2();
        let batch = (1u32 << wanted.min(16)).clamp(MIN_BATCH, default.batch);
        if batch != recipe.batch {
            recipe.batch = batch;
            chosen(origins, "batch", &batch);
        }
    }
    if is_free!(recipe, default, origins, epochs) {
        let steps = images.div_ceil(recipe.batch as usize).max(1);
        let epochs = MIN_RUN.div_ceil(steps).clamp(default.epochs as usize, MAX_CHOSEN_EPOCHS) as u32;
        if epochs != recipe.epochs {
            recipe.epochs = epochs;
            chosen(origins, "epochs", &epochs);
        }
    }
    let plenty = images / classes.max(1) >= PLENTY && recipe.epochs <= default.epochs;
    if plenty && is_free!(recipe, default, origins, augment) {
        recipe.augment = AugmentLevel::None;
        chosen(origins, "augment", &recipe.augment);
    }
    notes
}

/// The classes with their images that training images are taken from.
fn training_counts(source: &Source) -> impl Iterator<Item = (&str, usize)> + Clone {
    let mut counts = vec![0; source.classes().len()];
    let pool = source.items().iter().filter(|item| matches!(item.split, None | Some(Split::Train)));
    let labels = pool.flat_map(|item| item.labels.as_slice());
    labels.for_each(|&label| counts[label as usize] += 1);
    source.classes().iter().map(String::as_str).zip(counts)
}

/// About how many images there will be to train on.
pub(crate) fn training_images(recipe: &Recipe, source: &Source) -> usize {
    split_sizes(recipe, source)[0]
}

/// About how many images there will be to train on, to validate on and for the test.
pub(crate) fn split_sizes(recipe: &Recipe, source: &Source) -> [usize; 3] {
    let count = |split| source.items().iter().filter(|item| item.split == Some(split)).count();
    let (val, test) = (count(Split::Val), count(Split::Test));
    let rest = source.items().len() - val - test;
    if let Some((_, folds)) = recipe.fold {
        let in_folds = (rest + val) as f64;
        let others = in_folds * (1.0 - 1.0 / f64::from(folds));
        let train = (others * f64::from(1.0 - recipe.val_split)) as usize;
        let new_test = (in_folds - others) as usize;
        return [train, rest + val - train - new_test, test + new_test];
    }
    let (taken_val, taken_test) = match (val, test) {
        (0, 0) => (recipe.val_split, recipe.test_split),
        (0, _) => (recipe.val_split, 0.0),
        _ => (0.0, 0.0),
    };
    let train = (rest as f64 * f64::from(1.0 - (taken_val + taken_test))) as usize;
    let taken =
        (rest - train) as f64 * f64::from(taken_test / (taken_val + taken_test).max(f32::MIN_POSITIVE));
    let new_test = taken.round() as usize;
    [train, val + (rest - train - new_test), test + new_test]
}

/// Where decoded images are kept.
pub(crate) struct PixelRoom {
    /// Bytes in memory.
    pub(crate) memory: u64,
    /// Where the others go; without it, they are refused.
    pub(crate) cache: Option<CacheFolder>,
}

/// Reads images into memory, telling the observer how far it is.
pub(crate) fn load(
    source: &Source,
    indices: Option<&[usize]>,
    preprocessing: &Preprocessing,
    (pool, max_bad): (&Pool, f32),
    stop: &AtomicBool,
    observe: &mut dyn FnMut(&Event) -> Result<(), PipelineError>,
) -> Result<ImageSet, PipelineError> {
    let room = PixelRoom { memory: machine::free_memory() / 10 * 9, cache: None };
    let how = Reading { pool, max_bad, room: &room };
    read(source, (indices, preprocessing), how, stop, observe)
}

/// How images are read.
#[derive(Clone, Copy)]
struct Reading<'a> {
    pool: &'a Pool,
    max_bad: f32,
    room: &'a PixelRoom,
}

fn read(
    source: &Source,
    (indices, preprocessing): (Option<&[usize]>, &Preprocessing),
    how: Reading,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(&Event) -> Result<(), PipelineError>,
) -> Result<ImageSet, PipelineError> {
    let Reading { pool, max_bad, room } = how;
    let total = indices.map_or(source.items().len(), <[usize]>::len);
    let done = AtomicUsize::new(0);
    let progress = |images: usize, _: usize| done.store(images, Ordering::Relaxed);
    let options = LoadOptions {
        threads: pool.threads(),
        limits: DecodeLimits::default(),
        max_bad,
        memory: room.memory,
        cache: room.cache.as_ref(),
        progress: &progress,
        stop,
    };
    let mut told = Ok(());
    let set = pool::watched(
        pool,
        || ImageSet::load(source, indices, preprocessing, &options),
        (REPORT_EVERY, || {
            if told.is_ok() {
                told = observe(&Event::Loading { done: done.load(Ordering::Relaxed), total });
            }
        }),
    )??;
    told?;
    observe(&Event::Loading { done: total, total })?;
    if let Some(cache) = set.cache() {
        observe(&Event::note(cache_note(cache)))?;
    }
    Ok(set)
}

/// What to say of images that do not fit in memory.
fn cache_note(cache: &CacheUse) -> String {
    let CacheUse { path, bytes, in_memory, made } = cache;
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let place = path.as_ref().map_or("a file of this run".to_owned(), |path| path.display().to_string());
    let how = match made {
        CacheMade::New => String::new(),
        CacheMade::Earlier => " that an earlier run made of the same images".to_owned(),
        CacheMade::Again { damage } => format!(", made again because the file there was damaged: {damage}"),
    };
    format!(
        "the decoded images take {} MiB: {} MiB are kept in memory, all are in {place}{how}",
        mib(*bytes),
        mib(*in_memory)
    )
}

/// Decoded images with their splits.
pub(crate) struct Loaded {
    /// Its classes are those that can be trained; see [`load_all`].
    pub(crate) set: ImageSet,
    pub(crate) train: Vec<usize>,
    pub(crate) val: Vec<usize>,
    pub(crate) test: Vec<usize>,
    /// What came up while reading: classes that were left out.
    pub(crate) warnings: Vec<String>,
    /// Images of no class, where the data has a folder of them; those that are declared for the test are not among them.
    pub(crate) strange: Option<ImageSet>,
}

impl Loaded {
    /// How channels are normalised from here on.
    pub(crate) fn set_normalization(&mut self, mean: Vec<f32>, std: Vec<f32>) -> Result<(), PipelineError> {
        if let Some(strange) = &mut self.strange {
            strange.set_normalization(mean.clone(), std.clone())?;
        }
        Ok(self.set.set_normalization(mean, std)?)
    }

    /// Reads the images of no class that `data` has, at even distances where there are many. Nothing is read where no unknown
    /// images are to be told.
    ///
    /// # Errors
    /// Those of the data set; [`PipelineError::Stopped`].
    pub(crate) fn add_strange(
        &mut self,
        data: &Data,
        (recipe, pool): (&Recipe, &Pool),
        room: &PixelRoom,
        stop: &AtomicBool,
    ) -> Result<(), PipelineError> {
        if recipe.false_rejects == 0.0 || !matches!(data, Data::Path(_)) {
            return Ok(());
        }
        let source = data.open_any()?;
        let strange = strange_images(&source, self.set.classes());
        if strange.is_empty() {
            return Ok(());
        }
        let preprocessing = self.set.preprocessing().clone();
        let room = PixelRoom { memory: room.memory, cache: None };
        let how = Reading { pool, max_bad: recipe.max_bad, room: &room };
        self.strange = Some(read(&source, (Some(&strange), &preprocessing), how, stop, &mut |_| Ok(()))?);
        Ok(())
    }
}

/// Most images of no class that are read: a share of five hundred is known to within four points.
const MOST_STRANGE: usize = 500;

/// The images of folders of no class that are no classes of a model all the same.
fn strange_images(source: &Source, classes: &[String]) -> Vec<usize> {
    let strange: Vec<bool> =
        source.classes().iter().map(|name| unknown::is_no_class(name) && !classes.contains(name)).collect();
    let items = source.items();
    let all: Vec<usize> = (0..items.len())
        .filter(|&i| strange[items[i].class() as usize] && items[i].split != Some(Split::Test))
        .collect();
    let count = all.len().min(MOST_STRANGE);
    (0..count).map(|i| all[i * all.len() / count]).collect()
}

/// Reads, splits and normalises a whole data set by a resolved recipe. Classes of which no training image could be read
/// are left out, except for the first `known`, which a model has already.
pub(crate) fn load_all(
    source: &Source,
    recipe: &Recipe,
    (known, pool): (usize, &Pool),
    room: &PixelRoom,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(&Event) -> Result<(), PipelineError>,
) -> Result<Loaded, PipelineError> {
    let (width, height) = recipe.size.expect("the recipe is resolved");
    let channels = recipe.channels.expect("the recipe is resolved");
    let preprocessing = Preprocessing::new(width, height, channels, recipe.fit);
    let items = recipe.fold.map(|_| not_test(source));
    let how = Reading { pool, max_bad: recipe.max_bad, room };
    let mut set = read(source, (items.as_deref(), &preprocessing), how, stop, observe)?;
    if let Some((_, folds)) = recipe.fold {
        check_folds(&set, folds as usize, recipe.seed)?;
    }
    assign_splits(&mut set, recipe, recipe.seed)?;
    let unread = untrained(&set, known);
    let mut warnings = Vec::new();
    if !unread.is_empty() {
        let names = unread.iter().map(|&class| set.classes()[class].as_str());
        warnings.push(format!("left out: {}: no training image of it can be read", list(names)));
        set.leave_out(&unread);
        // What was left out may have been all that was declared.
        assign_splits(&mut set, recipe, recipe.seed)?;
    }
    let [train, val, test] = [Split::Train, Split::Val, Split::Test].map(|split| set.indices(split));
    if train.is_empty() {
        return Err(PipelineError::NoTrainingImages { data: source.name().to_owned() });
    }
    if recipe.normalize == Normalize::Dataset {
        let (mean, std) = pool.install(|| set.channel_stats(&train))??;
        set.set_normalization(mean, std)?;
    }
    Ok(Loaded { set, train, val, test, warnings, strange: None })
}

/// Draws what the layout leaves undivided, by the fractions of a recipe; of a fold, everything.
pub(crate) fn assign_splits(set: &mut ImageSet, recipe: &Recipe, seed: u64) -> Result<(), PipelineError> {
    recipe.fractions().validate()?;
    match recipe.fold {
        Some((fold, folds)) => set.assign_fold((fold as usize - 1, folds as usize), recipe.val_split, seed),
        None => set.assign_splits(recipe.fractions(), seed),
    }
    Ok(())
}

/// The images that cross-validation deals with: those that the data set declares for the test stay out of it.
pub(crate) fn not_test(source: &Source) -> Vec<usize> {
    (0..source.items().len()).filter(|&i| source.items()[i].split != Some(Split::Test)).collect()
}

/// Each class must have images in two folds, so that something is left to train on when one of them is the test.
fn check_folds(set: &ImageSet, folds: usize, seed: u64) -> Result<(), PipelineError> {
    let mut seen: Vec<Vec<usize>> = vec![Vec::new(); set.classes().len()];
    for (i, fold) in set.folds(folds, seed).into_iter().enumerate() {
        let of_class = &mut seen[set.class(i) as usize];
        if !of_class.contains(&fold) {
            of_class.push(fold);
        }
    }
    match seen.iter().position(|of_class| of_class.len() == 1) {
        Some(class) => {
            let class = &set.classes()[class];
            let reason = format!(
                "class {class:?} has too few different images for cross-validation: two at least are needed; add some, or remove the class"
            );
            Err(PipelineError::recipe("fold", reason))
        }
        None => Ok(()),
    }
}

/// Classes from the `known`th on without a training image; none where no class has one.
fn untrained(set: &ImageSet, known: usize) -> Vec<usize> {
    let mut trained = vec![false; set.classes().len()];
    for i in set.indices(Split::Train) {
        set.labels(i).iter().for_each(|&label| trained[label as usize] = true);
    }
    let untrained = (known..trained.len()).filter(|&class| !trained[class]).collect();
    if trained.contains(&true) { untrained } else { Vec::new() }
}

/// What training on a set of images makes small.
pub(crate) fn loss_of(set: &ImageSet) -> Loss {
    if set.is_multi_label() { Loss::Sigmoid } else { Loss::CrossEntropy }
}

/// The first few names and how many more there are.
pub(crate) fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let shown = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}

/// The unreadable images of a set.
pub(crate) fn skipped(set: &ImageSet) -> Vec<SkippedImage> {
    let copy = |s: &ocelli_datasets::Skipped| SkippedImage { name: s.name.clone(), reason: s.reason.clone() };
    set.skipped().iter().map(copy).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(images: usize, change: fn(&mut Recipe, &mut Origins)) -> (u32, u32) {
        let (mut recipe, mut origins) = (Recipe::default(), Origins::new());
        change(&mut recipe, &mut origins);
        fit_to_image_count(&mut recipe, &mut origins, images, 10);
        recipe.validate().unwrap();
        (recipe.batch, recipe.epochs)
    }

    #[test]
    fn small_sets_get_small_batches_and_more_epochs_unless_chosen() {
        let default = Recipe::default();
        let nothing: fn(&mut Recipe, &mut Origins) = |_, _| {};
        assert_eq!(chosen(60_000, nothing), (default.batch, default.epochs));
        assert_eq!(chosen(0, nothing), (16, 50));
        assert_eq!(chosen(144, nothing), (16, 50));
        for images in 0..8000 {
            let (batch, epochs) = chosen(images, nothing);
            assert!((16..=default.batch).contains(&batch) && (default.epochs..=50).contains(&epochs));
        }
        let by_hand: fn(&mut Recipe, &mut Origins) = |_, origins| {
            for name in ["batch", "epochs"] {
                origins.insert(name.to_owned(), "command line".to_owned());
            }
        };
        assert_eq!(chosen(100, by_hand), (default.batch, default.epochs));
        assert_eq!(chosen(100, |r, _| (r.batch, r.epochs) = (8, 3)), (8, 3));
    }

    #[test]
    fn many_images_of_a_class_are_not_varied_unless_chosen() {
        let level = |images: usize, epochs: u32, origin: &str| {
            let mut recipe = Recipe { epochs, ..Recipe::default() };
            let mut origins = Origins::from([("augment".to_owned(), origin.to_owned())]);
            fit_to_image_count(&mut recipe, &mut origins, images, 10);
            recipe.augment
        };
        let epochs = Recipe::default().epochs;
        assert_eq!(level(10 * PLENTY, epochs, "default"), AugmentLevel::None);
        assert_eq!(level(10 * PLENTY - 1, epochs, "default"), AugmentLevel::Light);
        assert_eq!(level(10 * PLENTY, epochs + 1, "default"), AugmentLevel::Light);
        assert_eq!(level(10 * PLENTY, epochs, "command line"), AugmentLevel::Light);
    }
}
