//! The settings of training from the ImageNet weights, where nobody chose others.

use ocelli_datasets::{AugmentLevel, NativeShape};

use super::settings::Recipe;
use super::text::{Origins, choose};
use super::words::{Norms, Quality, Start};

/// The network of the ImageNet weights.
pub(crate) const IMAGENET_NETWORK: &str = "efficientnet-lite0";

/// Sides go in steps of this: the network halves them five times.
const STEP: u32 = 32;

/// Fewer training images than this are few.
const FEW: usize = 800;
/// Fewer are very few.
const VERY_FEW: usize = 120;

/// Sizes, and epochs for 1,000 images, by quality.
struct Plan {
    largest: u32,
    /// Passes over 1,000 images; over others as many as keep `epochs * sqrt(images)` the same.
    epochs: f64,
    least: u32,
    most: u32,
}

fn plan(quality: Quality) -> Plan {
    match quality {
        Quality::Quick => Plan { largest: 160, epochs: 5.0, least: 3, most: 20 },
        Quality::Standard => Plan { largest: 224, epochs: 14.0, least: 4, most: 60 },
        Quality::Best => Plan { largest: 256, epochs: 32.0, least: 8, most: 60 },
    }
}

impl Recipe {
    /// Takes over what suits training from the ImageNet weights on `images` training images of a shape, where nobody chose
    /// a setting: size, epochs, learning rate and how much images are varied.
    pub(crate) fn suit_imagenet(&mut self, origins: &mut Origins, images: usize, shape: &NativeShape) {
        let plan = plan(self.quality);
        let reason = "for the imagenet weights";
        self.start = Some(Start::ImageNet);
        self.model = IMAGENET_NETWORK.to_owned();
        self.channels = Some(3);
        for name in ["start", "model", "channels"] {
            origins.entry(name.to_owned()).or_insert_with(|| "the images are photos".to_owned());
        }
        if self.size.is_none() {
            // Features of photos are found best at the size of training; small photos are enlarged to a part of it.
            let own = (shape.median.0.max(shape.median.1) * 5 / 4).next_multiple_of(STEP);
            let side = own.clamp(plan.largest.min(128), plan.largest);
            self.size = Some((side, side));
            let (width, height) = shape.median;
            origins.insert("size".to_owned(), format!("{reason} and images of about {width}x{height}"));
        }
        let epochs = (plan.epochs * (1000.0 / images.max(1) as f64).sqrt()).round() as u32;
        choose!(
            self,
            origins,
            epochs = epochs.clamp(plan.least, plan.most),
            format!("chosen for {images} training images")
        );
        // Few images are gone through in small steps, and varied less: a network that sees each of them thirty times learns more
        // from what they have in common than from crops.
        let few = images < FEW;
        choose!(self, origins, batch = if few { 16 } else { 32 }, reason);
        let level = if few { AugmentLevel::Medium } else { AugmentLevel::Strong };
        choose!(self, origins, augment = level, format!("chosen for {images} training images"));
        // In the few steps of very few images, the highest rate leads away from the weights and not back.
        let lr = if images < VERY_FEW { 1e-3 } else { 1.5e-3 };
        choose!(self, origins, lr = Some(lr), reason);
        choose!(self, origins, warmup = 0.2, reason);
        choose!(self, origins, head_epochs = 20, reason);
        choose!(self, origins, label_smoothing = 0.1, reason);
        choose!(self, origins, norms = Norms::Running, reason);
    }
}
