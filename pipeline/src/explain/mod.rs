//! Which parts of an image speak for a class: heat maps, and pictures of them.
//!
//! * [`ExplainMethod::GradCam`] (Selvaraju et al., 2017) weighs the channels of a layer by how much the class's logit grows
//!   with each of them, on the mean over its pixels.
//! * [`ExplainMethod::LayerCam`] (Jiang et al., 2021) weighs every pixel of every channel by itself, which is finer in earlier
//!   layers.
//! * [`ExplainMethod::Occlusion`] (Zeiler and Fergus, 2014) hides a part of the image at a time and sees how much of the
//!   class's probability goes. It takes some hundred passes, and any network.
//!
//! A map says where a network found what it takes for the class. It does not say that the class is there.

mod cam;
mod colours;
mod explainer;
mod layer;
mod map;
mod method;
mod near;
mod occlusion;
mod overlays;
mod picture;
#[cfg(test)]
mod tests;

pub use colours::colour;
pub use explainer::{ExplainOptions, Explainer, Explanation, class_index};
pub use map::HeatMap;
pub use method::ExplainMethod;
pub use overlays::overlays;
pub use picture::{Picture, contact_sheet};
