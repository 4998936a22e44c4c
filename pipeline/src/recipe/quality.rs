//! What a quality means for images that are no photos: small ones, which networks learn from nothing.

use ocelli_datasets::AugmentLevel;

use super::settings::Recipe;
use super::text::{Origins, choose, is_free};
use super::words::Quality;

/// Images from which a larger network learns more than a small one.
const ENOUGH: usize = 2_000;

impl Recipe {
    /// Chooses network and epochs by quality for `images` small images, where nobody chose them.
    pub(crate) fn suit_quality(&mut self, origins: &mut Origins, images: usize) {
        let reason = format!("for quality {}", self.quality);
        match self.quality {
            Quality::Quick if images >= ENOUGH => {
                choose!(self, origins, epochs = 6, reason);
            }
            Quality::Best if images >= ENOUGH => {
                if is_free!(self, Recipe::default(), origins, model) {
                    choose!(self, origins, augment = AugmentLevel::Light, reason);
                    choose!(self, origins, epochs = 16, reason);
                }
                choose!(self, origins, model = "cifar-fast".to_owned(), reason);
            }
            Quality::Quick | Quality::Standard | Quality::Best => {}
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
            recipe.suit_quality(&mut origins, images);
            recipe.validate().unwrap();
            recipe
        };
        let standard = resolved(Quality::Standard, 60_000, &[]);
        assert_eq!(standard, Recipe::default());
        assert!(resolved(Quality::Quick, 60_000, &[]).epochs < standard.epochs);
        assert_eq!(resolved(Quality::Best, 60_000, &[]).model, "cifar-fast");
        assert_eq!(resolved(Quality::Best, 60_000, &[("model", "command line")]).model, standard.model);
        assert_eq!(resolved(Quality::Quick, 60_000, &[("epochs", "a.toml")]).epochs, standard.epochs);
        for quality in [Quality::Quick, Quality::Best] {
            assert_eq!(resolved(quality, ENOUGH - 1, &[]), Recipe { quality, ..Recipe::default() });
        }
    }
}
