//! What a quality means for images that are no photos: small ones, which networks learn from nothing.

use ocelli_datasets::AugmentLevel;

use super::settings::Recipe;
use super::text::{Origins, choose, is_free};
use super::words::Quality;

/// Images from which a larger network learns more than a small one.
const ENOUGH: usize = 2_000;
/// Images from which a small part of them chooses the best epoch well enough, and that part.
const MANY: usize = 20_000;
const FOR_VALIDATION: f32 = 0.04;

impl Recipe {
    /// Chooses network, epochs and variation by quality for `images` small images, where nobody chose them.
    pub(crate) fn suit_quality(&mut self, origins: &mut Origins, images: usize, coloured: bool) {
        if images < ENOUGH {
            return;
        }
        let reason = format!("for quality {}", self.quality);
        let has_its_own = Recipe::of_network(&self.model).is_some();
        match self.quality {
            Quality::Quick | Quality::Standard if has_its_own => {}
            Quality::Quick => choose!(self, origins, epochs = 18, reason),
            Quality::Standard => choose!(self, origins, epochs = 30, reason),
            Quality::Best => {
                let free = is_free!(self, Recipe::default(), origins, model);
                // On CIFAR-10, 30 epochs of TrivialAugment came to 90.3 %, of CutMix to 89.8 %, 8 of light variation to 88.4 %.
                let (epochs, level) = match (free || has_its_own, coloured) {
                    (true, true) => (30, AugmentLevel::Trivial),
                    (true, false) => (16, AugmentLevel::Light),
                    (false, _) => (60, AugmentLevel::Light),
                };
                choose!(self, origins, augment = level, reason);
                choose!(self, origins, epochs = epochs, reason);
                if images >= MANY {
                    choose!(self, origins, val_split = FOR_VALIDATION, reason);
                }
                choose!(self, origins, model = "cifar-fast".to_owned(), reason);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quality_decides_what_nobody_chose() {
        let resolved = |quality, images, origins: &[(&str, &str)]| {
            let mut recipe = Recipe { quality, ..Recipe::default() };
            let own = |(name, origin): &(&str, &str)| ((*name).to_owned(), (*origin).to_owned());
            let mut origins = origins.iter().map(own).collect();
            recipe.suit_quality(&mut origins, images, true);
            recipe.validate().unwrap();
            recipe
        };
        let standard = resolved(Quality::Standard, 60_000, &[]);
        assert!(standard.epochs > Recipe::default().epochs);
        assert!(resolved(Quality::Quick, 60_000, &[]).epochs < standard.epochs);
        assert_eq!(resolved(Quality::Best, 60_000, &[]).model, "cifar-fast");
        assert_eq!(resolved(Quality::Best, 60_000, &[("model", "command line")]).model, standard.model);
        let mut fast = Recipe { model: "cifar-fast".to_owned(), ..Recipe::default() };
        fast.suit_quality(&mut Origins::new(), 60_000, true);
        assert_eq!(fast.epochs, Recipe::default().epochs);
        let own = resolved(Quality::Quick, 60_000, &[("epochs", "a.toml")]);
        assert_eq!(own.epochs, Recipe::default().epochs);
        for quality in [Quality::Quick, Quality::Standard, Quality::Best] {
            assert_eq!(resolved(quality, ENOUGH - 1, &[]), Recipe { quality, ..Recipe::default() });
        }
    }
}
