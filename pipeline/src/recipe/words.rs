//! Settings that are one of a few words.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::PipelineError;

/// Defines an enum of words: serde, [`FromStr`] and [`fmt::Display`] agree on the spelling. What stands after a `|` is
/// read, for older recipes, and not written.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $field:literal: $(
        $(#[$variant_doc:meta])* $variant:ident = $word:literal $(| $older:literal)?
    ),+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word $(, alias = $older)?)] $variant,)+
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
                    $($word $(| $older)? => Ok($name::$variant),)+
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
    AdamW = "adamw",
    /// Muon (Jordan, 2024) for the weights between the first and the last layer that has any, AdamW for the others.
    Muon = "muon"
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
    /// What is done about classes with few images.
    Balance, "balance":
    /// One of the others: nothing up to five times as many images in the largest class as in the smallest, then sampling.
    Auto = "auto",
    /// Nothing: every image counts the same.
    None = "none",
    /// Every class counts the same in the loss: weight `images / (classes * images of the class)`.
    Weights = "weights" | "balanced",
    /// Every class gives the same number of images to an epoch: those of small classes are taken more often, at most ten
    /// times, those of large ones in turns.
    Sampling = "sampling"
}

words! {
    /// The numbers between the layers of a network in training; parameters, moments and sums are always f32.
    Numbers, "precision":
    /// Single precision.
    F32 = "f32",
    /// 16 bits: half of the memory between layers, and several times the speed where the processor multiplies tiles of them.
    Bf16 = "bf16"
}

words! {
    /// What an image has.
    Task, "task":
    /// One class.
    SingleLabel = "single-label",
    /// Any number of labels.
    MultiLabel = "multi-label"
}

words! {
    /// What is subtracted from the pixels and what they are divided by.
    Normalize, "normalize":
    /// Mean and standard deviation of each channel over the training images.
    Dataset = "dataset",
    /// Nothing: the network sees values in 0..1.
    None = "none"
}

words! {
    /// How much time a run may take for how good a model; what it means is chosen from the data.
    Quality, "quality":
    /// A first answer: minutes at most.
    Quick = "quick",
    /// What most people want.
    Standard = "standard",
    /// The best that is known here; several times the time of `standard`.
    Best = "best"
}

words! {
    /// The weights that training starts from.
    Start, "start":
    /// Those in this program, which were trained on ImageNet.
    ImageNet = "imagenet",
    /// Random ones.
    Fresh = "none"
}

words! {
    /// What batch normalisations go by in training.
    Norms, "norms":
    /// The statistics of the batch.
    Batch = "batch",
    /// Their running statistics, which stay as they are.
    Running = "running"
}

words! {
    /// Which parameters weight decay makes smaller.
    Decay, "decay":
    /// Weights of convolutions and dense layers.
    Weights = "weights",
    /// Biases, scales and shifts too.
    All = "all"
}

/// What to say about a word that is none of those known.
pub(super) fn unknown(given: &str, known: &[&str]) -> String {
    format!("`{given}` is unknown; choose one of {}", known.join(", "))
}
