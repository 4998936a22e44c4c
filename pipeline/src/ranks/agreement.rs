//! What all ranks must have in common before they train, and how the failure of one becomes that of all.

use ocelli_engine::{Exec, Precision};
use serde::{Deserialize, Serialize};

use super::Ranks;
use crate::error::PipelineError;
use crate::recipe::{Origins, Recipe};

/// What a rank has prepared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RankCard {
    /// Version of the program.
    version: String,
    /// Instruction sets that give other bits than others.
    arithmetic: String,
    /// The resolved recipe, but for the number of threads.
    recipe: String,
    /// SHA-256 of the data set, in hexadecimal.
    data: String,
}

impl RankCard {
    pub(crate) fn new(recipe: &Recipe, exec: &Exec, digest: &str) -> Self {
        // AVX2 and AVX-512 give the same bits in f32; in bf16 each unit has an order of its own.
        let arithmetic = match (exec.precision, exec.isa.name()) {
            (Precision::F32, "avx2" | "avx512") => "avx2 or avx512",
            (_, name) => name,
        };
        RankCard {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            arithmetic: arithmetic.to_owned(),
            recipe: Recipe { threads: 0, ..recipe.clone() }.to_toml(&Origins::new()),
            data: digest.to_owned(),
        }
    }

    /// In what a rank differs from the first one.
    fn difference(&self, first: &RankCard) -> Option<String> {
        let differ = |what: &str, own: &str, other: &str, advice: &str| {
            (own != other).then(|| format!("has {what} {own}, and rank 0 has {other}; {advice}"))
        };
        let line = || {
            let lines = self.recipe.lines().zip(first.recipe.lines());
            lines
                .into_iter()
                .find(|(own, other)| own != other)
                .unwrap_or(("another number of settings", "others"))
        };
        let of = |text: &str| text.split(" #").next().unwrap_or_default().trim().to_owned();
        differ("version", &self.version, &first.version, "install one version everywhere")
            .or_else(|| {
                let advice = "its results would differ in their last bits; set OCELLI_ISA everywhere";
                differ("instruction set", &self.arithmetic, &first.arithmetic, advice)
            })
            .or_else(|| {
                let (own, other) = line();
                let advice = "give all ranks the same options and recipe";
                (self.recipe != first.recipe).then(|| {
                    format!("has `{}` in its recipe, and rank 0 has `{}`; {advice}", of(own), of(other))
                })
            })
            .or_else(|| {
                let short = |digest: &str| digest.chars().take(12).collect::<String>();
                let advice = "copy one data set to all hosts, or put it on a file system that they share";
                differ("a data set of digest", &short(&self.data), &short(&first.data), advice)
            })
    }
}

/// What a rank tells of its preparation.
#[derive(Serialize, Deserialize)]
struct Told {
    name: String,
    card: Option<RankCard>,
    error: Option<String>,
    stopped: bool,
}

impl Ranks {
    /// Waits until all ranks have prepared what `prepared` is of this one: gives it where all did and their cards are alike.
    ///
    /// # Errors
    /// This rank's own; [`PipelineError::Stopped`] where a rank was stopped; else [`PipelineError::Rank`] that names the first
    /// rank that failed, or differs from rank 0.
    pub(crate) fn agree<T>(
        &self,
        prepared: Result<T, PipelineError>,
        card: impl FnOnce(&T) -> Option<RankCard>,
    ) -> Result<T, PipelineError> {
        if self.size() == 1 {
            return prepared;
        }
        let told = Told {
            name: self.name(),
            card: prepared.as_ref().ok().and_then(card),
            error: prepared.as_ref().err().map(|error| ocelli_common::text::chain(error)),
            stopped: matches!(prepared, Err(PipelineError::Stopped)),
        };
        let mut all = Vec::new();
        for (rank, bytes) in self.exchange(&to_bytes(&told)).iter().enumerate() {
            match serde_json::from_slice::<Told>(bytes) {
                Ok(told) => all.push(told),
                Err(_) => {
                    let reason = "is another version of the program; install one everywhere".to_owned();
                    return Err(PipelineError::Rank { name: self.name_of(rank), reason });
                }
            }
        }
        if all.iter().any(|told| told.stopped) {
            return Err(PipelineError::Stopped);
        }
        if let Some(told) = all.iter().find(|told| told.error.is_some()) {
            let reason = told.error.clone().unwrap_or_default();
            return Err(PipelineError::Rank { name: told.name.clone(), reason });
        }
        let first = all[0].card.as_ref();
        for told in &all {
            let difference = told.card.as_ref().zip(first).and_then(|(own, first)| own.difference(first));
            if let Some(reason) = difference {
                return Err(PipelineError::Rank { name: told.name.clone(), reason });
            }
        }
        prepared
    }
}

/// A message between ranks of one version.
pub(crate) fn to_bytes(message: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(message).expect("plain values with text keys")
}

pub(crate) fn from_bytes<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> T {
    serde_json::from_slice(bytes).expect("ranks of one program understand each other")
}
