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
                let epochs = if free || has_its_own { 16 } else { 60 };
                choose!(self, origins, augment = AugmentLevel::Light, reason);
                choose!(self, origins, epochs = epochs, reason);
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
            recipe.suit_quality(&mut origins, images);
            recipe.validate().unwrap();
            recipe
        };
        let standard = resolved(Quality::Standard, 60_000, &[]);
        assert!(standard.epochs > Recipe::default().epochs);
        assert!(resolved(Quality::Quick, 60_000, &[]).epochs < standard.epochs);
        assert_eq!(resolved(Quality::Best, 60_000, &[]).model, "cifar-fast");
        assert_eq!(resolved(Quality::Best, 60_000, &[("model", "command line")]).model, standard.model);
        let mut fast = Recipe { model: "cifar-fast".to_owned(), ..Recipe::default() };
        fast.suit_quality(&mut Origins::new(), 60_000);
        assert_eq!(fast.epochs, Recipe::default().epochs);
        let own = resolved(Quality::Quick, 60_000, &[("epochs", "a.toml")]);
        assert_eq!(own.epochs, Recipe::default().epochs);
        for quality in [Quality::Quick, Quality::Standard, Quality::Best] {
            assert_eq!(resolved(quality, ENOUGH - 1, &[]), Recipe { quality, ..Recipe::default() });
        }
    }
}
