//! All images of a source, decoded once and small: in memory, or in a cache file where that is too little.

use crate::augment::{Augment, Stored};
use crate::decode::Pixels;
use crate::error::{DatasetError, Skipped};
use crate::folds::deal;
use crate::item::Labels;
use crate::names::nfc;
use crate::preprocess::{Prepare, Prepared, Preprocessing, normalize_one};
use crate::source::Source;
use crate::source::classes::{ids_without, kept};
use crate::split::{Candidate, ContentHash, Split, SplitFractions, divide};
use sha2::{Digest, Sha256};

mod load;
mod pixels;
mod stats;
mod strata;

use load::Loaded;
pub use load::{CacheMade, CacheUse, LoadOptions};
use pixels::{PixelStore, Place, Values};
use stats::{all_gray, channel_sums};

/// Below this many images a single unreadable one is accepted whatever the fraction.
const SMALL_SET: usize = 20;

/// How many unreadable images an error names.
const SHOWN: usize = 5;

/// Decoded and resized images with their classes, splits and content hashes, in the order of their source.
pub struct ImageSet {
    preprocessing: Preprocessing,
    classes: Vec<String>,
    entries: Vec<Entry>,
    pixels: PixelStore,
    cache: Option<CacheUse>,
    skipped: Vec<Skipped>,
    /// For each channel the normalised values of the 256 levels.
    table: Vec<[f32; 256]>,
}

struct Entry {
    name: String,
    labels: Labels,
    declared: Option<Split>,
    split: Split,
    hash: ContentHash,
    source_index: usize,
    place: Place,
}

impl ImageSet {
    /// Decodes and resizes the items `indices` of a source, all of them for `None`. Unreadable images are left out and
    /// listed by [`Self::skipped`].
    ///
    /// # Errors
    /// [`DatasetError::TooManyBad`] over the accepted fraction, [`DatasetError::Memory`] when the pixels do not fit and
    /// there is no place for a cache file, [`DatasetError::CacheWrite`] when that cannot be written,
    /// [`DatasetError::Stopped`], [`DatasetError::BadPreprocessing`].
    ///
    /// # Panics
    /// When an index is not below the number of items.
    pub fn load(
        source: &Source,
        indices: Option<&[usize]>,
        preprocessing: &Preprocessing,
        options: &LoadOptions,
    ) -> Result<ImageSet, DatasetError> {
        preprocessing.validate()?;
        let all: Vec<usize>;
        let indices = match indices {
            Some(indices) => indices,
            None => {
                all = (0..source.items().len()).collect();
                &all
            }
        };
        let Loaded { pixels, outcomes, cache } = load::load(source, indices, preprocessing, options)?;
        let mut set = ImageSet {
            table: Vec::new(),
            preprocessing: preprocessing.clone(),
            classes: source.classes().to_vec(),
            entries: Vec::with_capacity(indices.len()),
            pixels,
            cache,
            skipped: Vec::new(),
        };
        for (outcome, &source_index) in outcomes.into_iter().zip(indices) {
            let item = &source.items()[source_index];
            match outcome {
                Ok((place, hash)) => set.entries.push(Entry {
                    name: item.name.clone(),
                    labels: item.labels.clone(),
                    declared: item.split,
                    split: item.split.unwrap_or(Split::Train),
                    hash,
                    source_index,
                    place,
                }),
                Err(reason) => set.skipped.push(Skipped { name: item.name.clone(), reason }),
            }
        }
        set.check_bad(options.max_bad)?;
        set.update_table();
        Ok(set)
    }

    fn check_bad(&self, max_bad: f32) -> Result<(), DatasetError> {
        let bad = self.skipped.len();
        let total = bad + self.entries.len();
        let excused = total < SMALL_SET && bad <= 1 && !self.entries.is_empty();
        if bad == 0 || excused || bad as f64 <= f64::from(max_bad) * total as f64 {
            return Ok(());
        }
        let first = self.skipped.iter().take(SHOWN).cloned().collect();
        Err(DatasetError::TooManyBad { bad, total, max_bad, first })
    }

    /// Images that are there.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Class names, as in the source.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Items that could not be read, in the order of the source.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The class of an image, an index into [`Self::classes`].
    ///
    /// # Panics
    /// Like all methods that take an index: when it is not below [`Self::len`]. This one also for an image with any number
    /// of labels.
    pub fn class(&self, index: usize) -> u32 {
        self.entries[index].labels.class()
    }

    /// The labels of an image, indices into [`Self::classes`], ascending: one where each image has one class.
    pub fn labels(&self, index: usize) -> &[u32] {
        self.entries[index].labels.as_slice()
    }

    /// Whether images have any number of labels instead of one class each.
    pub fn is_multi_label(&self) -> bool {
        matches!(self.entries.first(), Some(Entry { labels: Labels::Any(_), .. }))
    }

    /// The name of an image's item.
    pub fn name(&self, index: usize) -> &str {
        &self.entries[index].name
    }

    /// SHA-256 of an image's content.
    pub fn hash(&self, index: usize) -> &ContentHash {
        &self.entries[index].hash
    }

    /// Which item of the source an image is.
    pub fn source_index(&self, index: usize) -> usize {
        self.entries[index].source_index
    }

    /// The split of an image: declared by the layout, or drawn by [`Self::assign_splits`], training before that.
    pub fn split(&self, index: usize) -> Split {
        self.entries[index].split
    }

    /// The split that the layout declares.
    pub fn declared_split(&self, index: usize) -> Option<Split> {
        self.entries[index].declared
    }

    /// All images of a split, ascending.
    pub fn indices(&self, split: Split) -> Vec<usize> {
        (0..self.len()).filter(|&i| self.split(i) == split).collect()
    }

    /// Divides what the layout leaves undivided, by content hash.
    ///
    /// Declared splits are kept. Where the layout declares test but no val, val is taken out of train; where it
    /// declares val but no test, no test is made. Copies of a file stay together, and the order of the files does not
    /// matter. A class gets within one image of its share in each split, as exactly as copies and shared contents allow,
    /// and somewhat less exactly above 50 images; a class of three or more different images gets at least one in each
    /// split whose fraction is above 0, and every class one for training. Beyond that an image's place depends on its
    /// content and the seed alone: in our tests a file that was added moved at most three of its class. See
    /// [`SplitFractions::validate`].
    ///
    /// An image with several labels counts here for the rarest of them (the first step of iterative stratification,
    /// Sechidis et al., 2011), one without labels for a class of its own: rare labels are held to their shares, frequent
    /// ones come near to theirs.
    pub fn assign_splits(&mut self, fractions: SplitFractions, seed: u64) {
        let strata = self.strata();
        let candidates: Vec<Candidate> = (self.entries.iter().zip(&strata))
            .map(|(e, &class)| Candidate { class, declared: e.declared, hash: &e.hash })
            .collect();
        let splits = divide(&candidates, fractions, seed);
        for (entry, split) in self.entries.iter_mut().zip(splits) {
            entry.split = split;
        }
    }

    /// The fold of every image among `folds`, for cross-validation: classes are spread evenly, copies of one content stay
    /// together, and nothing but contents, classes and seed decides.
    pub fn folds(&self, folds: usize, seed: u64) -> Vec<usize> {
        let strata = self.strata();
        let images: Vec<(u32, &ContentHash)> =
            self.entries.iter().zip(&strata).map(|(e, &class)| (class, &e.hash)).collect();
        deal(&images, folds.max(1), seed)
    }

    /// Makes one fold the test and divides the others into training and validation by content hash, whatever the layout
    /// declares.
    pub fn assign_fold(&mut self, (fold, folds): (usize, usize), val: f32, seed: u64) {
        let of_fold = self.folds(folds, seed);
        let rest: Vec<usize> = (0..self.len()).filter(|&i| of_fold[i] != fold).collect();
        let strata = self.strata();
        let candidate = |&i: &usize| Candidate { class: strata[i], declared: None, hash: self.hash(i) };
        let candidates: Vec<Candidate> = rest.iter().map(candidate).collect();
        let splits = divide(&candidates, SplitFractions { val, test: 0.0 }, seed);
        self.entries.iter_mut().for_each(|entry| entry.split = Split::Test);
        for (i, split) in rest.into_iter().zip(splits) {
            self.entries[i].split = split;
        }
    }

    /// Takes classes away, with their images; images of any number of labels stay, without these. Splits stay as they are.
    pub fn leave_out(&mut self, classes: &[usize]) {
        let ids = ids_without(self.classes.len(), classes);
        self.classes = kept(&self.classes, &ids);
        self.entries.retain_mut(|entry| {
            entry.labels.clone().renumbered(&ids).map(|labels| entry.labels = labels).is_some()
        });
    }

    /// Whether the resized pixels of an image are gray: channels differ by at most `levels` of 255. Always true of images
    /// with one channel, never of those with others than one or three.
    ///
    /// # Errors
    /// Like all methods that read pixels: [`DatasetError`] where they are in a file that cannot be read.
    pub fn is_gray(&self, index: usize, levels: u8) -> Result<bool, DatasetError> {
        if self.preprocessing.channels != 3 {
            return Ok(self.preprocessing.channels == 1);
        }
        Ok(match self.values(index)? {
            Values::Narrow(values) => all_gray(&values, levels),
            Values::Wide(values) => all_gray(&values, u16::from(levels) * 257),
        })
    }

    /// Mean and standard deviation of each channel over some images, on the 0..1 scale, on all threads of the pool that the
    /// caller is on. Sums are exact integers, so order does not matter. Deviations are at least 0.001: dividing by less would only blow up noise. Without
    /// images: mean 0 and deviation 1.
    ///
    /// # Errors
    /// As [`Self::is_gray`].
    pub fn channel_stats(&self, indices: &[usize]) -> Result<(Vec<f32>, Vec<f32>), DatasetError> {
        let n = usize::from(self.preprocessing.channels);
        if indices.is_empty() {
            return Ok((vec![0.0; n], vec![1.0; n]));
        }
        let sums = channel_sums(indices, n, |index| self.values(index))?;
        let count = (indices.len() * self.preprocessing.len() / n) as f64;
        Ok(sums
            .iter()
            .map(|&(sum, squares)| {
                let mean = sum as f64 / count;
                let variance = (squares as f64 / count - mean * mean).max(0.0);
                ((mean / 65_535.0) as f32, ((variance.sqrt() / 65_535.0) as f32).max(1e-3))
            })
            .unzip())
    }

    /// Replaces mean and standard deviation, usually by [`Self::channel_stats`] of the training images.
    ///
    /// # Errors
    /// [`DatasetError::BadPreprocessing`]; nothing is changed then.
    pub fn set_normalization(&mut self, mean: Vec<f32>, std: Vec<f32>) -> Result<(), DatasetError> {
        let changed = Preprocessing { mean, std, ..self.preprocessing.clone() };
        changed.validate()?;
        self.preprocessing = changed;
        self.update_table();
        Ok(())
    }

    /// The cache file, where not all pixels fit in memory.
    pub fn cache(&self) -> Option<&CacheUse> {
        self.cache.as_ref()
    }

    /// Bytes of the pixels in memory.
    pub fn pixel_bytes(&self) -> u64 {
        self.pixels.bytes()
    }

    /// What was and is done to every image.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// The resized pixels of an image.
    ///
    /// # Errors
    /// As [`Self::is_gray`].
    pub fn prepared(&self, index: usize) -> Result<Prepared, DatasetError> {
        let pixels = match self.values(index)? {
            Values::Narrow(values) => Pixels::U8(values.into_owned()),
            Values::Wide(values) => Pixels::U16(values.into_owned()),
        };
        Ok(Prepared { pixels })
    }

    /// Writes an image normalised, `h w c`: the same bits as [`Preprocessing::normalize`].
    ///
    /// # Errors
    /// As [`Self::is_gray`].
    ///
    /// # Panics
    /// When `out` does not have [`Preprocessing::len`] values.
    pub fn fill(&self, index: usize, out: &mut [f32]) -> Result<(), DatasetError> {
        self.check_out(out);
        match (self.values(index)?, self.preprocessing.channels) {
            (Values::Narrow(values), 1) => self.fill_narrow::<1>(&values, out),
            (Values::Narrow(values), 3) => self.fill_narrow::<3>(&values, out),
            (Values::Narrow(values), channels) => {
                for (i, (out, &value)) in out.iter_mut().zip(values.iter()).enumerate() {
                    *out = self.look_up(value, i % usize::from(channels));
                }
            }
            (Values::Wide(values), channels) => {
                for (i, (out, &value)) in out.iter_mut().zip(values.iter()).enumerate() {
                    *out = normalize_one(&self.preprocessing, value, i % usize::from(channels));
                }
            }
        }
        Ok(())
    }

    fn fill_narrow<const N: usize>(&self, values: &[u8], out: &mut [f32]) {
        let table: &[[f32; 256]; N] = self.table.as_slice().try_into().expect("one table a channel");
        for (out, pixel) in out.as_chunks_mut::<N>().0.iter_mut().zip(values.as_chunks::<N>().0) {
            *out = std::array::from_fn(|c| table[c][usize::from(pixel[c])]);
        }
    }

    /// Writes an image normalised at another size than it is stored in, `width x height`: antialiased bilinear where that is
    /// smaller. At the stored size these are the bits of [`Self::fill`].
    ///
    /// # Errors
    /// As [`Self::is_gray`].
    ///
    /// # Panics
    /// When `out` does not have `height * width * channels` values.
    pub fn fill_to(&self, index: usize, size: (u32, u32), out: &mut [f32]) -> Result<(), DatasetError> {
        if size == self.stored_size() {
            return self.fill(index, out);
        }
        self.check_out_of(size, out);
        let pre = &self.preprocessing;
        match self.values(index)? {
            Values::Narrow(values) => {
                let stored = Stored { preprocessing: pre, values: &values };
                stored.write(size, |value, c| self.look_up(value, c), out);
            }
            Values::Wide(values) => {
                let normalize = |value, c| normalize_one(pre, value, c);
                Stored { preprocessing: pre, values: &values }.write(size, normalize, out);
            }
        }
        Ok(())
    }

    /// Writes an image changed at random and normalised: a function of its pixels, `augment` and `rng_key` alone. Make
    /// the key of seed, epoch and image, not of thread or batch.
    ///
    /// # Errors
    /// As [`Self::is_gray`].
    ///
    /// # Panics
    /// When `out` does not have [`Preprocessing::len`] values.
    pub fn fill_augmented(
        &self,
        index: usize,
        augment: &Augment,
        rng_key: u64,
        out: &mut [f32],
    ) -> Result<(), DatasetError> {
        self.fill_augmented_to(index, self.stored_size(), (augment, rng_key), out)
    }

    /// As [`Self::fill_augmented`] at another size than the stored one, `width x height`: a resized crop
    /// ([`Augment::crop`]) is taken from the pixels that are stored, so it keeps their detail.
    ///
    /// # Errors
    /// As [`Self::is_gray`].
    ///
    /// # Panics
    /// When `out` does not have `height * width * channels` values.
    pub fn fill_augmented_to(
        &self,
        index: usize,
        size: (u32, u32),
        (augment, rng_key): (&Augment, u64),
        out: &mut [f32],
    ) -> Result<(), DatasetError> {
        if augment.is_none() {
            return self.fill_to(index, size, out);
        }
        self.check_out_of(size, out);
        let (pre, changes) = (&self.preprocessing, (augment, rng_key));
        match self.values(index)? {
            Values::Narrow(values) => {
                let stored = Stored { preprocessing: pre, values: &values };
                stored.write_augmented(changes, size, |value, c| self.look_up(value, c), out);
            }
            Values::Wide(values) => {
                let normalize = |value, c| normalize_one(pre, value, c);
                Stored { preprocessing: pre, values: &values }.write_augmented(changes, size, normalize, out);
            }
        }
        Ok(())
    }

    /// SHA-256 over name, class names after NFC, split and content hash of every image, sorted by name: two sets with the same
    /// digest train the same model.
    pub fn digest(&self) -> ContentHash {
        let mut order: Vec<&Entry> = self.entries.iter().collect();
        order.sort_by(|a, b| (&a.name, a.source_index).cmp(&(&b.name, b.source_index)));
        let mut hasher = Sha256::new();
        for entry in order {
            // Lengths in front keep "ab" + "c" and "a" + "bc" apart.
            let mut add = |text: &str| {
                hasher.update((text.len() as u64).to_le_bytes());
                hasher.update(text);
            };
            add(&entry.name);
            if let Labels::Any(labels) = &entry.labels {
                add(&labels.len().to_string());
            }
            entry.labels.as_slice().iter().for_each(|&label| add(&nfc(&self.classes[label as usize])));
            add(&entry.split.to_string());
            hasher.update(entry.hash);
        }
        hasher.finalize().into()
    }

    fn values(&self, index: usize) -> Result<Values<'_>, DatasetError> {
        self.pixels.values(self.entries[index].place)
    }

    fn stored_size(&self) -> (u32, u32) {
        (self.preprocessing.width, self.preprocessing.height)
    }

    fn check_out(&self, out: &[f32]) {
        self.check_out_of(self.stored_size(), out);
    }

    fn check_out_of(&self, (width, height): (u32, u32), out: &[f32]) {
        let len = width as usize * height as usize * usize::from(self.preprocessing.channels);
        assert_eq!(out.len(), len, "out must hold height * width * channels values");
    }

    fn look_up(&self, value: u8, channel: usize) -> f32 {
        self.table[channel][usize::from(value)]
    }

    fn update_table(&mut self) {
        let level =
            |c: usize| std::array::from_fn(|value| normalize_one(&self.preprocessing, value as u8, c));
        self.table = (0..usize::from(self.preprocessing.channels)).map(level).collect();
    }
}
