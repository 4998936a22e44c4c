//! A recipe: everything that decides what a training run does, apart from the data.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::str::FromStr;

use ocelli_datasets::{AugmentLevel, Fit, MAX_INPUT_SIDE, SplitFractions};
use ocelli_engine::{Exec, zoo};
use serde::{Deserialize, Serialize};

use crate::compute::Compute;
use crate::error::PipelineError;
use crate::input;

/// Longest run, in epochs: the history of every epoch stays in memory and in each checkpoint.
const MAX_EPOCHS: u32 = 100_000;
/// Largest batch.
const MAX_BATCH: u32 = 65_536;
/// Most threads that can be asked for.
const MAX_THREADS: u32 = 256;
/// TOML integers are signed.
const MAX_SEED: u64 = i64::MAX as u64;
/// Largest recipe text that is parsed, in bytes.
const MAX_TEXT: usize = 1 << 20;

/// Where each setting came from, by its name: `command line`, a file name, `default`. Absent means `default`.
pub type Origins = BTreeMap<String, String>;

/// Defines an enum of words: serde, [`FromStr`] and [`fmt::Display`] agree on the spelling.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $field:literal: $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// The words that are understood.
            pub const WORDS: &[&str] = &[$($word),+];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $($name::$variant => $word,)+ })
            }
        }

        impl FromStr for $name {
            type Err = PipelineError;

            fn from_str(text: &str) -> Result<Self, PipelineError> {
                match text.to_ascii_lowercase().as_str() {
                    $($word => Ok($name::$variant),)+
                    _ => Err(PipelineError::recipe($field, unknown(text, Self::WORDS))),
                }
            }
        }
    };
}

words! {
    /// The rule that turns gradients into steps.
    OptimizerKind, "optimizer":
    /// Stochastic gradient descent with Nesterov momentum.
    Sgd = "sgd",
    /// Adam (Kingma and Ba, 2015); weight decay is added to the gradient.
    Adam = "adam",
    /// Adam with decoupled weight decay (Loshchilov and Hutter, 2019).
    AdamW = "adamw"
}

words! {
    /// How the learning rate moves over a run; see [`crate::Schedule::lr`].
    Schedule, "schedule":
    /// Up from a 25th to the peak and down to nearly nothing, both along a cosine (Smith and Topin, 2018).
    OneCycle = "one-cycle",
    /// Linear warm-up, then down to zero along a cosine (Loshchilov and Hutter, 2017).
    Cosine = "cosine",
    /// Linear warm-up, then unchanged.
    Constant = "constant"
}

words! {
    /// How much the images of each class count in the loss.
    ClassWeights, "class_weights":
    /// Every image counts the same.
    None = "none",
    /// Every class counts the same: weight `images / (classes * images of the class)`.
    Balanced = "balanced"
}

words! {
    /// What is subtracted from the pixels and what they are divided by.
    Normalize, "normalize":
    /// Mean and standard deviation of each channel over the training images.
    Dataset = "dataset",
    /// Nothing: the network sees values in 0..1.
    None = "none"
}

fn unknown(given: &str, known: &[&str]) -> String {
    format!("`{given}` is unknown; choose one of {}", known.join(", "))
}

/// What a recipe calls a network that has no name: that of the model that training starts from.
pub(crate) const START_NETWORK: &str = "start";

/// Everything that decides what a training run does, apart from the data.
///
/// `size`, `channels` and `hflip` are chosen from the data where they are `None`. `batch`, `epochs` and `augment` are
/// adapted to the number of images where they hold the default and no origin says that somebody chose it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// Name of the network: one of [`zoo::NAMES`], or `start` for the network of the model that training starts from,
    /// where that has no name.
    pub model: String,
    /// Width and height of the network's input in pixels.
    pub size: Option<(u32, u32)>,
    /// 1 for gray, 3 for RGB.
    pub channels: Option<u8>,
    /// How an image of another shape is brought to the size.
    pub fit: Fit,
    /// Passes over the training images.
    pub epochs: u32,
    /// Images in a step.
    pub batch: u32,
    /// Highest learning rate.
    pub lr: f32,
    /// The rule that turns gradients into steps.
    pub optimizer: OptimizerKind,
    /// Momentum of `sgd`.
    pub momentum: f32,
    /// Weight decay.
    pub weight_decay: f32,
    /// How the learning rate moves.
    pub schedule: Schedule,
    /// Part of the run in which the learning rate rises.
    pub warmup: f32,
    /// Part of the target that is spread over all classes.
    pub label_smoothing: f32,
    /// Longest gradient, by its Euclidean norm; 0 for no limit.
    pub clip_norm: f32,
    /// How strongly training images are varied.
    pub augment: AugmentLevel,
    /// Whether images are mirrored too; by default where they have colours, as digits and letters have none.
    pub hflip: Option<bool>,
    /// How much the images of each class count.
    pub class_weights: ClassWeights,
    /// Epochs without a better validation result after which training stops; 0 for never.
    pub patience: u32,
    /// Part of the images for validation, where the data set declares none.
    pub val_split: f32,
    /// Part of the images for the test, where the data set declares none.
    pub test_split: f32,
    /// Seconds that the epochs may take; 0 for no limit. After the first epoch their number is lowered to what fits.
    pub time_budget: u32,
    /// Seed of initial weights, order, augmentation, dropout and split.
    pub seed: u64,
    /// Threads; 0 for all cores. Changes the time, not the result.
    pub threads: u32,
    /// Only direct convolutions, without Winograd's transforms; changes results in their last bits.
    pub exact: bool,
    /// Most images of a pass over the network, which computes a batch in parts where no layer joins its images; as many
    /// as suit the caches where it is left out. Fewer take less memory. Changes results in their last bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunk: Option<u32>,
    /// Part of the images that may be unreadable.
    pub max_bad: f32,
    /// What is done to the pixel values.
    pub normalize: Normalize,
}

impl Default for Recipe {
    fn default() -> Self {
        let SplitFractions { val, test } = SplitFractions::default();
        Recipe {
            model: "keras-cnn".to_owned(),
            size: None,
            channels: None,
            fit: Fit::default(),
            epochs: 8,
            batch: 128,
            lr: 3e-3,
            optimizer: OptimizerKind::AdamW,
            momentum: 0.9,
            weight_decay: 0.01,
            schedule: Schedule::OneCycle,
            warmup: 0.25,
            label_smoothing: 0.0,
            clip_norm: 0.0,
            augment: AugmentLevel::Light,
            hflip: None,
            class_weights: ClassWeights::None,
            patience: 0,
            val_split: val,
            test_split: test,
            time_budget: 0,
            seed: 42,
            threads: 0,
            exact: false,
            chunk: None,
            max_bad: 0.05,
            normalize: Normalize::Dataset,
        }
    }
}

/// The settings in the order of a recipe file, with what each means.
const FIELDS: [(&str, &str); 27] = [
    ("model", "network"),
    ("size", "width and height of its input"),
    ("channels", "1 gray, 3 RGB"),
    ("fit", "stretch, crop or pad to the size"),
    ("epochs", "passes over the training images"),
    ("batch", "images in a step"),
    ("lr", "highest learning rate"),
    ("optimizer", "sgd, adam or adamw"),
    ("momentum", "of sgd"),
    ("weight_decay", ""),
    ("schedule", "one-cycle, cosine or constant"),
    ("warmup", "part of the run in which the learning rate rises"),
    ("label_smoothing", ""),
    ("clip_norm", "max gradient norm (0: off)"),
    ("augment", "none, light or medium"),
    ("hflip", "mirror images too"),
    ("class_weights", "none or balanced"),
    ("patience", "epochs without progress before stopping, 0 for never"),
    ("val_split", "part for validation"),
    ("test_split", "part for the test"),
    ("time_budget", "seconds that the epochs may take, 0 for no limit"),
    ("seed", ""),
    ("threads", "0 for all cores"),
    ("exact", "only direct convolutions, without Winograd's transforms"),
    ("chunk", "most images of a pass, for less memory"),
    ("max_bad", "part of the images that may be unreadable"),
    ("normalize", "dataset or none"),
];

impl Recipe {
    /// The names of all settings, in the order of a recipe file.
    pub fn fields() -> impl Iterator<Item = &'static str> {
        FIELDS.iter().map(|(name, _)| *name)
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`PipelineError::Recipe`] for the first setting outside of its range, with the range.
    pub fn validate(&self) -> Result<(), PipelineError> {
        let fail = |field, reason: String| Err(PipelineError::recipe(field, reason));
        if self.model != START_NETWORK && !zoo::NAMES.contains(&self.model.as_str()) {
            return fail("model", unknown(&self.model, &zoo::NAMES));
        }
        if let Some((width, height)) = self.size {
            let allowed = 1..=MAX_INPUT_SIDE;
            if !allowed.contains(&width) || !allowed.contains(&height) {
                return fail(
                    "size",
                    format!("{width}x{height} is not in 1..={MAX_INPUT_SIDE} a side; try 64"),
                );
            }
        }
        let least = input::least(&self.model);
        if let Some((width, height)) = self.size.filter(|&(width, height)| width.min(height) < least) {
            let model = &self.model;
            return fail(
                "size",
                format!(
                    "{width}x{height} is too small for {model}, which needs {least}x{least} at least; leave it out for one that suits the images"
                ),
            );
        }
        if let Some(channels) = self.channels.filter(|c| ![1, 3].contains(c)) {
            return fail("channels", format!("{channels} is neither 1 (gray) nor 3 (RGB)"));
        }
        let counts = [
            ("epochs", self.epochs, 1, MAX_EPOCHS),
            ("batch", self.batch, 1, MAX_BATCH),
            ("patience", self.patience, 0, MAX_EPOCHS),
            ("threads", self.threads, 0, MAX_THREADS),
            ("chunk", self.chunk.unwrap_or(1), 1, MAX_BATCH),
        ];
        for (field, value, low, high) in counts {
            if !(low..=high).contains(&value) {
                return fail(
                    field,
                    format!("{value} is not in {low}..={high}; leave it out for the default"),
                );
            }
        }
        if self.seed > MAX_SEED {
            return fail("seed", format!("{} is above {MAX_SEED}", self.seed));
        }
        if !(self.lr > 0.0 && self.lr <= 100.0) {
            return fail("lr", format!("{} must be above 0 and at most 100; try 0.001", self.lr));
        }
        let fractions = [
            ("momentum", self.momentum, false),
            ("warmup", self.warmup, false),
            ("label_smoothing", self.label_smoothing, false),
            ("val_split", self.val_split, false),
            ("test_split", self.test_split, false),
            ("max_bad", self.max_bad, true),
        ];
        for (field, value, one) in fractions {
            if !((0.0..1.0).contains(&value) || one && value == 1.0) {
                return fail(
                    field,
                    format!("{value} must be 0 or more and {} 1", if one { "at most" } else { "below" }),
                );
            }
        }
        if self.val_split + self.test_split >= 1.0 {
            let sum = self.val_split + self.test_split;
            return fail(
                "val_split",
                format!("with test_split it takes {sum} of the images and leaves none to train on"),
            );
        }
        for (field, value) in [("weight_decay", self.weight_decay), ("clip_norm", self.clip_norm)] {
            if !(value >= 0.0 && value.is_finite()) {
                return fail(field, format!("{value} must be 0 or more"));
            }
        }
        Ok(())
    }

    /// Reads a recipe; settings that are left out keep their defaults.
    ///
    /// # Errors
    /// [`PipelineError::RecipeFile`] for anything that is not TOML, a text over 1 MiB, a value of another type or an
    /// unknown setting. Ranges are checked by [`Recipe::validate`].
    pub fn from_toml(text: &str) -> Result<Recipe, PipelineError> {
        if text.len() > MAX_TEXT {
            let reason = format!("{} bytes are more than {MAX_TEXT}", text.len());
            return Err(PipelineError::RecipeFile { line: None, reason });
        }
        toml::from_str(text).map_err(|error| PipelineError::RecipeFile {
            line: error.span().map(|span| 1 + text[..span.start].matches('\n').count()),
            reason: error.message().replace('\n', "; "),
        })
    }

    /// The settings that a recipe text names, to fill in [`Origins`].
    ///
    /// # Errors
    /// As [`Recipe::from_toml`].
    pub fn named_in(text: &str) -> Result<Vec<String>, PipelineError> {
        Recipe::from_toml(text)?;
        let table: toml::Table = toml::from_str(text)
            .map_err(|error| PipelineError::RecipeFile { line: None, reason: error.message().to_owned() })?;
        Ok(table.into_iter().map(|(name, _)| name).collect())
    }

    /// The recipe as a commented TOML text: one setting a line, with where it came from and what it means.
    pub fn to_toml(&self, origins: &Origins) -> String {
        let table = toml::Table::try_from(self).expect("a recipe is a flat table of plain values");
        let mut text = String::new();
        for (name, meaning) in FIELDS {
            let Some(value) = table.get(name) else { continue };
            let value = match value {
                // Settings are f32: the shortest text that reads back as the same f32.
                toml::Value::Float(value) => format!("{:?}", *value as f32),
                value => value.to_string(),
            };
            let origin = origins.get(name).map_or("default", String::as_str);
            // A file name may hold anything; a comment ends at a line break.
            let origin: String = origin.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let note = if meaning.is_empty() { origin } else { format!("{origin}; {meaning}") };
            let setting = format!("{name} = {value}");
            writeln!(text, "{setting:<28} # {note}").expect("writing to a string cannot fail");
        }
        text
    }

    /// How the run computes.
    pub(crate) fn compute(&self) -> Compute {
        Compute { threads: self.threads as usize, exact: self.exact }
    }

    /// Where the run trains.
    ///
    /// # Errors
    /// Those of [`Compute::exec`].
    pub(crate) fn exec(&self) -> Result<Exec, PipelineError> {
        Ok(self.compute().exec()?.chunk(self.chunk.unwrap_or(0) as usize))
    }

    /// Threads that decode and train.
    pub(crate) fn threads_used(&self) -> u64 {
        let all = || std::thread::available_parallelism().map_or(1, usize::from) as u64;
        if self.threads == 0 { all() } else { self.threads.into() }
    }

    /// Fractions of the split.
    pub(crate) fn fractions(&self) -> SplitFractions {
        SplitFractions { val: self.val_split, test: self.test_split }
    }
}

/// The recipe text with another number of epochs; every other line keeps its comment.
pub(crate) fn with_epochs(text: &str, epochs: u32, reason: &str) -> String {
    let setting = format!("epochs = {epochs}");
    let changed = format!("{setting:<28} # {reason}\n");
    let is_epochs = |line: &str| line.split('=').next().is_some_and(|key| key.trim() == "epochs");
    let lines = text.lines().map(|line| if is_epochs(line) { changed.clone() } else { format!("{line}\n") });
    let text: String = lines.collect();
    if text.contains(&changed) { text } else { text + &changed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_keeps_every_bit_and_every_field_is_listed() {
        let recipe = Recipe {
            size: Some((48, 32)),
            channels: Some(3),
            hflip: Some(false),
            chunk: Some(16),
            lr: 0.1 + 0.2,
            weight_decay: 5e-7,
            seed: MAX_SEED,
            ..Recipe::default()
        };
        let origins = Origins::from([("lr".to_owned(), "a\nfile.toml".to_owned())]);
        let text = recipe.to_toml(&origins);
        assert_eq!(Recipe::from_toml(&text).unwrap(), recipe);
        assert_eq!(text.lines().count(), FIELDS.len());
        let table = toml::Table::try_from(&recipe).unwrap();
        assert_eq!(table.len(), FIELDS.len(), "FIELDS and Recipe differ");
        assert!(text.contains("# a file.toml; highest learning rate"), "{text}");
        assert_eq!(Recipe::named_in("epochs = 3\nlr = 0.5").unwrap(), ["epochs", "lr"]);
    }

    #[test]
    fn defaults_are_valid_and_fill_gaps() {
        Recipe::default().validate().unwrap();
        assert_eq!(Recipe::from_toml("").unwrap(), Recipe::default());
        assert_eq!(Recipe::from_toml("epochs = 3").unwrap(), Recipe { epochs: 3, ..Recipe::default() });
    }

    #[test]
    fn bad_recipes_are_one_line_errors() {
        for text in
            ["epoch = 3", "epochs = \"x\"", "epochs = -1", "[a]", "lr", "schedule = \"steps\"", "size = [1]"]
        {
            let message = Recipe::from_toml(text).unwrap_err().to_string();
            assert!(message.starts_with("recipe") && !message.contains('\n'), "{text}: {message}");
        }
        let message = Recipe::from_toml("lr = 0.1\nepoch = 3").unwrap_err().to_string();
        assert!(message.starts_with("recipe line 2: unknown field `epoch`"), "{message}");
    }

    #[test]
    fn each_setting_is_checked() {
        type Change = fn(&mut Recipe);
        let bad: [(&str, Change); 18] = [
            ("model", |r| r.model = "resnet".to_owned()),
            ("size", |r| r.size = Some((0, 8))),
            ("channels", |r| r.channels = Some(2)),
            ("epochs", |r| r.epochs = 0),
            ("batch", |r| r.batch = 0),
            ("threads", |r| r.threads = 5000),
            ("chunk", |r| r.chunk = Some(0)),
            ("seed", |r| r.seed = u64::MAX),
            ("lr", |r| r.lr = 0.0),
            ("lr", |r| r.lr = f32::NAN),
            ("lr", |r| r.lr = f32::INFINITY),
            ("momentum", |r| r.momentum = 1.0),
            ("label_smoothing", |r| r.label_smoothing = -0.1),
            ("warmup", |r| r.warmup = f32::NAN),
            ("max_bad", |r| r.max_bad = 1.5),
            ("val_split", |r| (r.val_split, r.test_split) = (0.5, 0.5)),
            ("weight_decay", |r| r.weight_decay = -1.0),
            ("clip_norm", |r| r.clip_norm = f32::INFINITY),
        ];
        for (field, change) in bad {
            let mut recipe = Recipe::default();
            change(&mut recipe);
            let message = recipe.validate().unwrap_err().to_string();
            assert!(message.starts_with(&format!("{field}: ")), "{field}: {message}");
        }
    }
}
