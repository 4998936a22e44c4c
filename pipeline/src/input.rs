//! The size of a network's input, where nobody chose one.

use ocelli_datasets::{Fit, NativeShape};
use ocelli_engine::zoo;

use crate::network_file::NetworkFile;

/// Sides up to this are kept as they are: small images are usually meant for a small input.
const LARGEST_NATIVE_SIDE: u32 = 96;

/// The longer side up to which images that are too small for a network are enlarged. Test accuracy of the default network
/// on 8x8 digits (300 images to train on, 1437 to test, means of 3 seeds): 87.9 % at 10x10, which just fits, 90.4 % at
/// 16x16, 91.4 % at 24x24 and 91.0 % at 32x32, which takes more than twice the time.
const ENLARGED: u32 = 24;

/// What a network wants of its input.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    /// The least side.
    least: u32,
    /// The side for images of mixed or large sizes: what the network can learn from in minutes on a few cores.
    usual: u32,
}

impl Wanted {
    /// By the network's name, or by its file.
    pub(crate) fn by(model: &str, network: Option<&NetworkFile>) -> Self {
        let least = network.map_or_else(|| least(model), NetworkFile::smallest_input);
        let usual = match model {
            "keras-cnn" | "resnet9" => 64,
            _ if network.is_some() => 64,
            _ => 96,
        };
        Wanted { least, usual: usual.max(least) }
    }
}

/// Width and height of a network's input for images of a shape, and why.
pub(crate) fn choose(network: Wanted, shape: &NativeShape, fit: Fit) -> ((u32, u32), String) {
    match shape.size {
        Some((w, h)) if w.max(h) <= LARGEST_NATIVE_SIDE => own_size(network.least, (w, h), fit),
        _ => {
            let side = side_for(network, shape.median);
            ((side, side), format!("chosen for images of about {}x{}", shape.median.0, shape.median.1))
        }
    }
}

/// The least side of a network's input.
pub(crate) fn least(model: &str) -> u32 {
    // An unknown network is refused where its name is checked.
    zoo::smallest_input(model).map_or(1, |side| side as u32)
}

/// The images' own size, or a whole multiple of it where that is too small.
fn own_size(least: u32, (w, h): (u32, u32), fit: Fit) -> ((u32, u32), String) {
    let own = format!("the images' own size {w}x{h}");
    if w.min(h) >= least {
        return ((w, h), "the images' own size".to_owned());
    }
    let times = least.div_ceil(w.min(h)).max(ENLARGED / w.max(h));
    let need = format!("the network needs {least}x{least}");
    // Enlarged as much as its short side, a line of pixels would be thousands long, and what is beside each other in it
    // too far apart for the network's windows. Cropping and padding want the shape of the images.
    let limited = (LARGEST_NATIVE_SIDE / w.max(h)).max(1);
    if fit == Fit::Stretch && limited < times {
        let (x, y) = if w < h { (times, limited) } else { (limited, times) };
        return ((w * x, h * y), format!("{own}, {x} times as wide and {y} times as high: {need}"));
    }
    ((w * times, h * times), format!("{own}, {times} times as large: {need}"))
}

/// Input side for images of mixed or large sizes.
fn side_for(network: Wanted, median: (u32, u32)) -> u32 {
    // Scaling small images up only costs time.
    let own = median.0.max(median.1).next_multiple_of(8);
    if own == 0 { network.usual } else { own.clamp(network.least.max(32), network.usual) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(size: Option<(u32, u32)>, median: (u32, u32)) -> NativeShape {
        NativeShape { size, channels: 3, median }
    }

    #[test]
    fn every_size_fits_every_network_and_keeps_all_of_the_picture() {
        for model in zoo::NAMES {
            let (least, network) = (least(model), Wanted::by(model, None));
            for fit in [Fit::Stretch, Fit::Crop, Fit::Pad] {
                for w in 1..=LARGEST_NATIVE_SIDE {
                    for h in 1..=LARGEST_NATIVE_SIDE {
                        let ((x, y), reason) = choose(network, &shape(Some((w, h)), (w, h)), fit);
                        assert!(x.min(y) >= least, "{model} {w}x{h}: {x}x{y}");
                        assert!(x % w == 0 && y % h == 0, "{model} {w}x{h}: {x}x{y}");
                        let same_shape = x / w == y / h;
                        assert!(same_shape || fit == Fit::Stretch, "{model} {w}x{h}: {x}x{y}");
                        assert!(fit != Fit::Stretch || x.max(y) <= LARGEST_NATIVE_SIDE, "{w}x{h}: {x}x{y}");
                        assert_eq!((x, y) == (w, h), reason == "the images' own size", "{reason}");
                    }
                }
                let ((x, y), _) = choose(network, &shape(None, (3, 2)), fit);
                assert!(x.min(y) >= least, "{model}: images of several small sizes");
            }
        }
    }

    #[test]
    fn small_images_are_enlarged_by_whole_factors() {
        let size = |w, h, fit| choose(Wanted::by("keras-cnn", None), &shape(Some((w, h)), (w, h)), fit);
        let eight = size(8, 8, Fit::Stretch);
        assert_eq!(eight.0, (24, 24));
        assert_eq!(eight.1, "the images' own size 8x8, 3 times as large: the network needs 10x10");
        let sizes = [(2, 2), (3, 7), (9, 9), (1, 5), (2, 90), (96, 1), (10, 10), (12, 30)];
        let chosen = sizes.map(|(w, h)| size(w, h, Fit::Stretch).0);
        let expected = [(24, 24), (12, 28), (18, 18), (10, 50), (10, 90), (96, 10), (10, 10), (12, 30)];
        assert_eq!(chosen, expected);
        assert_eq!(size(2, 90, Fit::Crop).0, (10, 450));
        let text = size(2, 90, Fit::Stretch).1;
        assert!(text.contains("5 times as wide and 1 times as high: the network needs 10x10"), "{text}");
    }

    #[test]
    fn side_follows_small_images_only() {
        let side = |model, median| side_for(Wanted::by(model, None), median);
        assert_eq!(side("keras-cnn", (4000, 3000)), 64);
        assert_eq!(side("resnet18", (4000, 3000)), 96);
        assert_eq!(side("keras-cnn", (41, 30)), 48);
        assert_eq!(side("keras-cnn", (8, 8)), 32);
        assert_eq!(side("keras-cnn", (0, 0)), 64);
    }
}
