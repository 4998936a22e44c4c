//! Random changes to training images that leave their class alone.
//!
//! Everything is drawn from one key, whatever is switched on: switching the flip off does not change the shift. What is
//! drawn is made in this order: a part of the stored image is brought to the network's size ([`Augment::crop`]), then
//! values change by each other (`image_ops`), then pixels move and colours change in one pass (`warp`), and a rectangle is
//! erased last. Beyond the edge the image is mirrored, as in the usual CIFAR recipe.

mod apply;
mod colour;
mod draw;
mod erase;
mod frame;
mod image_ops;
mod level;
mod ranges;
mod rectangle;
#[cfg(test)]
mod tests;
mod trivial;
mod warp;

pub(crate) use apply::Stored;
pub use level::AugmentLevel;
pub use ranges::Augment;
pub use rectangle::Rectangles;
