//! Recipes as TOML.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::settings::Recipe;
use crate::error::PipelineError;

/// Largest recipe text that is parsed, in bytes.
const MAX_TEXT: usize = 1 << 20;

/// Where each setting came from, by its name: `command line`, a file name, `default`. Absent means `default`.
pub type Origins = BTreeMap<String, String>;

/// The settings in the order of a recipe file, with what each means.
pub(super) const FIELDS: [(&str, &str); 43] = [
    ("quality", "quick, standard or best"),
    ("start", "imagenet or none: the weights that training starts from"),
    ("task", "single-label or multi-label: one class or any number of labels an image"),
    ("model", "network"),
    ("size", "width and height of its input"),
    ("first_size", "shorter side of the first training images, which grow to the size (0: off)"),
    ("channels", "1 gray, 3 RGB, others of TIFF files"),
    ("fit", "stretch, crop or pad to the size"),
    ("epochs", "passes over the training images"),
    ("batch", "images in a step"),
    ("lr", "highest learning rate; \"auto\" finds one"),
    ("body_rate", "factor on lr of all layers but the last"),
    ("head_epochs", "passes in which the last layer alone is trained, on features that are computed once"),
    ("norms", "batch or running: what batch normalisations go by"),
    ("optimizer", "sgd, adam, adamw or muon"),
    ("momentum", "of sgd and muon"),
    ("weight_decay", ""),
    ("decay", "weights or all: what weight decay is applied to"),
    ("ema", "share that the moving average of the weights keeps in a step (0: off)"),
    ("schedule", "one-cycle, cosine or constant"),
    ("warmup", "part of the run in which the learning rate rises"),
    ("label_smoothing", ""),
    ("clip_norm", "max gradient norm (0: off)"),
    ("augment", "none, light, medium, strong or trivial"),
    ("hflip", "mirror images too"),
    ("mixup", "alpha of mixing pairs of images, 0 for none"),
    ("cutmix", "alpha of mixing by rectangles, 0 for none"),
    ("balance", "auto, none, weights or sampling, for classes with few images"),
    ("patience", "epochs without progress before stopping, 0 for never"),
    ("end_after", "epoch after which training ends, whatever its schedule; 0 for the last one"),
    ("val_split", "part for validation"),
    ("test_split", "part for the test"),
    ("fold", "cross-validation: which fold of how many is the test"),
    ("add_classes", "SHA-256 of the model that learns further classes"),
    ("time_budget", "seconds that the run may take, 0 for no limit"),
    ("seed", ""),
    ("threads", "0 for all cores"),
    ("exact", "only direct convolutions, without Winograd's transforms"),
    ("precision", "f32 or bf16: the numbers between layers"),
    ("chunk", "most images of a pass, for less memory"),
    ("false_rejects", "part of known images that may be called unknown, 0 for never"),
    ("max_bad", "part of the images that may be unreadable"),
    ("normalize", "dataset or none"),
];

impl Recipe {
    /// The names of all settings, in the order of a recipe file.
    pub fn fields() -> impl Iterator<Item = &'static str> {
        FIELDS.iter().map(|(name, _)| *name)
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
}

/// Whether nobody has chosen a setting.
pub(crate) fn is_open(origins: &Origins, name: &str) -> bool {
    origins.get(name).is_none_or(|origin| origin == "default")
}

/// Whether a setting has its default and nobody has chosen it.
macro_rules! is_free {
    ($recipe:expr, $default:expr, $origins:expr, $field:ident) => {
        $recipe.$field == $default.$field && $crate::recipe::is_open($origins, stringify!($field))
    };
}

/// Sets a setting that has its default and that nobody has chosen, and notes the reason as its origin.
macro_rules! choose {
    ($recipe:expr, $origins:expr, $field:ident = $value:expr, $reason:expr) => {
        if $crate::recipe::is_free!($recipe, $crate::recipe::Recipe::default(), $origins, $field) {
            $recipe.$field = $value;
            $origins.insert(stringify!($field).to_owned(), $reason.to_string());
        }
    };
}

pub(crate) use {choose, is_free};

/// The recipe text with another number for a setting; every other line keeps its comment.
pub(crate) fn with_number(text: &str, name: &str, number: u32, reason: &str) -> String {
    let setting = format!("{name} = {number}");
    let changed = format!("{setting:<28} # {reason}\n");
    let is_it = |line: &str| line.split('=').next().is_some_and(|key| key.trim() == name);
    let lines = text.lines().map(|line| if is_it(line) { changed.clone() } else { format!("{line}\n") });
    let text: String = lines.collect();
    if text.contains(&changed) { text } else { text + &changed }
}
