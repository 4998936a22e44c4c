//! Settings that suit a network, where the defaults of a recipe do not.

use ocelli_datasets::AugmentLevel;

use super::settings::Recipe;
use super::text::Origins;
use super::words::{OptimizerKind, Schedule};

/// Images below which the number of images decides on batch, epochs and augmentation, whatever the network.
const MANY_IMAGES: usize = 10_000;

impl Recipe {
    /// The recipe of a network by name that has one of its own: `cifar-fast`, for some ten thousand images of 32 pixels or
    /// more, as measured on CIFAR-10.
    pub fn of_network(name: &str) -> Option<Recipe> {
        (name == "cifar-fast").then(|| Recipe {
            model: name.to_owned(),
            epochs: 8,
            batch: 500,
            lr: Some(0.025),
            optimizer: OptimizerKind::Muon,
            momentum: 0.9,
            weight_decay: 0.1,
            schedule: Schedule::OneCycle,
            warmup: 0.2,
            label_smoothing: 0.2,
            augment: AugmentLevel::Light,
            ..Recipe::default()
        })
    }

    /// Takes over what suits the network, where nobody chose a setting: how it is trained, unless somebody chose another
    /// optimizer, and, for many images, how long and on what batches.
    pub(crate) fn suit_network(&mut self, origins: &mut Origins, images: usize) {
        let Some(own) = Recipe::of_network(&self.model) else { return };
        let origin = format!("suits {}", self.model);
        let free = |name: &str| origins.get(name).is_none_or(|origin| origin == "default");
        let optimizer_is_free = free("optimizer");
        let mut chosen = Vec::new();
        macro_rules! take {
            ($($field:ident),+) => {
                $(if free(stringify!($field)) {
                    self.$field = own.$field.clone();
                    chosen.push(stringify!($field));
                })+
            };
        }
        if optimizer_is_free {
            take!(optimizer, lr, momentum, weight_decay, schedule, warmup);
        }
        take!(label_smoothing);
        if images >= MANY_IMAGES {
            take!(batch, epochs, augment);
        }
        origins.extend(chosen.into_iter().map(|name| (name.to_owned(), origin.clone())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_chose_suits_the_network() {
        let mut recipe = Recipe { model: "cifar-fast".to_owned(), epochs: 3, ..Recipe::default() };
        let mut origins = Origins::from([("epochs".to_owned(), "command line".to_owned())]);
        recipe.suit_network(&mut origins, MANY_IMAGES);
        recipe.validate().unwrap();
        let own = Recipe::of_network("cifar-fast").unwrap();
        assert_eq!(recipe, Recipe { epochs: 3, ..own });
        assert_eq!(
            (origins["lr"].as_str(), origins["epochs"].as_str()),
            ("suits cifar-fast", "command line")
        );
    }

    #[test]
    fn few_images_and_another_optimizer_leave_the_defaults() {
        let fast = Recipe { model: "cifar-fast".to_owned(), ..Recipe::default() };
        let mut few = fast.clone();
        few.suit_network(&mut Origins::new(), MANY_IMAGES - 1);
        assert_eq!((few.batch, few.epochs, few.augment), (fast.batch, fast.epochs, fast.augment));
        assert_eq!(few.optimizer, OptimizerKind::Muon);
        let mut adam = Recipe { optimizer: OptimizerKind::Adam, ..fast.clone() };
        adam.suit_network(&mut Origins::from([("optimizer".to_owned(), "a.toml".to_owned())]), MANY_IMAGES);
        assert_eq!((adam.optimizer, adam.lr), (OptimizerKind::Adam, fast.lr));
        let mut other = Recipe::default();
        other.suit_network(&mut Origins::new(), MANY_IMAGES);
        assert_eq!(other, Recipe::default());
    }
}
