//! Known networks, layer for layer as their papers and PyTorch's model zoo have them.

use crate::error::EngineError;
use crate::geometry::{MAX_DIM, Shape};
use crate::graph::{Activation, BatchNorm, Conv2d, Dense, Graph, Op, Padding, Pool2d};
use crate::params::Model;

/// Networks that [`build`] knows.
pub const NAMES: [&str; 6] =
    ["keras-cnn", "cifar-fast", "resnet9", "resnet18", "mobilenet-v2", "efficientnet-lite0"];

/// Networks that [`bench_net`] knows.
pub const BENCH_NAMES: [&str; 8] = [
    "keras-cnn-28",
    "keras-cnn-32",
    "keras-cnn-224",
    "cifar-fast",
    "resnet9",
    "resnet18",
    "mobilenet-v2",
    "efficientnet-lite0",
];

/// A network by name for images of a shape and a number of classes.
///
/// # Errors
/// [`EngineError::Config`] for an unknown name; [`EngineError::Graph`] when the images are too small for it.
pub fn build(name: &str, input: Shape, classes: usize) -> Result<Graph, EngineError> {
    let graph = match name {
        // Large images make the first dense layer the network: the tutorial halves it there.
        "keras-cnn" => keras_cnn(input, classes, if input.h.max(input.w) >= 128 { 64 } else { 128 }),
        "cifar-fast" => cifar_fast(input, classes),
        "resnet9" => resnet9(input, classes),
        "resnet18" => resnet18(input, classes),
        "mobilenet-v2" => mobilenet_v2(input, classes),
        "efficientnet-lite0" => efficientnet_lite0(input, classes),
        _ => {
            let known = NAMES.join(", ");
            return Err(EngineError::Config(format!("unknown model `{name}`: choose one of {known}")));
        }
    };
    graph.shapes()?;
    Ok(graph)
}

/// Images that [`prepare`] can make good use of: whitening 2x2 patches of three channels estimates 78 numbers.
pub const START_IMAGES: usize = 2000;

/// Whether first weights of a network by name are made from images, by [`prepare`].
pub fn starts_from_images(name: &str) -> bool {
    name == "cifar-fast"
}

/// Gives a fresh model of a network by name the first weights that the network is known for, where these are not random:
/// `images [n][h][w][c]` are some training images as the network will see them.
///
/// # Errors
/// Those of [`Model::whiten`].
pub fn prepare(name: &str, model: &mut Model, images: &[f32]) -> Result<(), EngineError> {
    if starts_from_images(name) {
        model.whiten(images)?;
        model.pass_channels_through();
        // Logits are a ninth of what PyTorch's first weights give (Jordan, 2024), which are the root of 6 below ours.
        model.scale_last_weights(1.0 / (9.0 * 6f32.sqrt()));
    }
    Ok(())
}

/// How many layers of a network by name, from the first on, do not learn: whitening filters stay as [`prepare`] made them.
pub fn frozen(name: &str) -> usize {
    usize::from(starts_from_images(name))
}

/// Factors of the learning rate for the layers of a network by name, for [`TrainConfig::rates`](crate::TrainConfig::rates);
/// empty where all learn alike. `cifar-fast` is trained by Muon at rates that are too high for the steps of AdamW, which
/// its normalisations and its last layer have.
pub fn rates(name: &str, graph: &Graph) -> Vec<f32> {
    if name != "cifar-fast" {
        return Vec::new();
    }
    let rate = |op: &Op| match op {
        Op::Dense(_) => 0.05,
        Op::BatchNorm(_) => 0.2,
        _ => 1.0,
    };
    graph.nodes.iter().map(|node| rate(&node.op)).collect()
}

/// The least side of images that a network takes: it takes every image of at least this height and this width.
///
/// # Errors
/// [`EngineError::Config`] for an unknown name.
pub fn smallest_input(name: &str) -> Result<usize, EngineError> {
    // Tried and not stated, so that it cannot differ from what `build` does.
    let tried = (1..=MAX_DIM).map(|side| (side, build(name, Shape::new(side, side, 3), 2)));
    for (side, built) in tried {
        match built {
            Ok(_) => return Ok(side),
            Err(error @ EngineError::Config(_)) => return Err(error),
            Err(_) => {}
        }
    }
    Err(EngineError::Config(format!("`{name}` takes no image of up to {MAX_DIM} pixels a side")))
}

/// A network of the benchmarks by name, and its training batch.
///
/// # Errors
/// [`EngineError::Config`] for an unknown name.
pub fn bench_net(name: &str) -> Result<(Graph, usize), EngineError> {
    let (model, side, channels, classes, batch) = match name {
        "keras-cnn-28" => ("keras-cnn", 28, 1, 10, 128),
        "keras-cnn-32" => ("keras-cnn", 32, 3, 10, 128),
        "keras-cnn-224" => ("keras-cnn", 224, 3, 10, 32),
        "cifar-fast" => ("cifar-fast", 32, 3, 10, 500),
        "resnet9" => ("resnet9", 32, 3, 10, 128),
        "resnet18" | "mobilenet-v2" | "efficientnet-lite0" => (name, 224, 3, 1000, 16),
        _ => {
            let known = BENCH_NAMES.join(", ");
            return Err(EngineError::Config(format!("unknown network `{name}`: choose one of {known}")));
        }
    };
    Ok((build(model, Shape::new(side, side, channels), classes)?, batch))
}

/// The Keras tutorial's CNN: conv 32, pool, conv 64, pool, dense, dropout, dense.
fn keras_cnn(input: Shape, classes: usize, hidden: usize) -> Graph {
    let mut g = Graph::new(input);
    for (name, filters) in [("1", 32), ("2", 64)] {
        g.then(format!("conv{name}"), Op::Conv2d(Conv2d::new(filters, 3)));
        g.then(format!("relu{name}"), Op::Activation(Activation::Relu));
        g.then(format!("pool{name}"), Op::MaxPool2d(Pool2d::new(2)));
    }
    g.then("flatten", Op::Flatten);
    g.then("dense1", dense(hidden));
    g.then("relu3", Op::Activation(Activation::Relu));
    g.then("dropout", Op::Dropout { rate: 0.3 });
    g.then("dense2", dense(classes));
    g
}

fn dense(units: usize) -> Op {
    Op::Dense(Dense { units: units as u32, bias: true })
}

/// Convolution with batch normalisation and an optional activation.
struct ConvNorm {
    filters: usize,
    kernel: usize,
    stride: usize,
    groups: usize,
    act: Option<Activation>,
    style: Style,
}

/// What networks take over from the program that they were published with.
#[derive(Clone, Copy)]
struct Style {
    /// Padding around a kernel of a size.
    padding: fn(usize) -> Padding,
    /// Added to the variance in a batch normalisation.
    eps: f32,
}

/// Half of the kernel on all sides.
const PYTORCH: Style = Style { padding: |kernel| Padding::Explicit([(kernel / 2) as u32; 4]), eps: 1e-5 };
/// At stride 2, an even image gets the odd zero after it alone.
const TENSORFLOW: Style = Style { padding: |_| Padding::Same, eps: 1e-3 };

impl ConvNorm {
    fn relu(filters: usize, kernel: usize, stride: usize) -> Self {
        ConvNorm { filters, kernel, stride, groups: 1, act: Some(Activation::Relu), style: PYTORCH }
    }

    fn push(self, g: &mut Graph, name: &str, from: u32) -> u32 {
        let conv = Conv2d {
            stride: [self.stride as u32; 2],
            padding: (self.style.padding)(self.kernel),
            groups: self.groups as u32,
            bias: false,
            ..Conv2d::new(self.filters, self.kernel)
        };
        let conv = g.push(format!("{name}.conv"), Op::Conv2d(conv), &[from]);
        let norm = BatchNorm { eps: self.style.eps, ..BatchNorm::default() };
        let norm = g.push(format!("{name}.norm"), Op::BatchNorm(norm), &[conv]);
        match self.act {
            Some(act) => g.push(format!("{name}.act"), Op::Activation(act), &[norm]),
            None => norm,
        }
    }
}

/// A net in the spirit of airbench94, the CIFAR-10 record of Jordan (2024): whitened 2x2 patches, then three stages of two
/// convolutions each, with a pool in the first and GELU. [`prepare`] makes its first weights.
fn cifar_fast(input: Shape, classes: usize) -> Graph {
    let mut g = Graph::new(input);
    let patches = 2 * 4 * input.c as usize;
    g.then("whiten", Op::Conv2d(Conv2d::new(patches, 2)));
    g.then("whiten.act", Op::Activation(Activation::Gelu));
    // An average over some 2.5 batches: trainings are short.
    let norm = Op::BatchNorm(BatchNorm { momentum: 0.4, ..BatchNorm::default() });
    for (stage, filters) in [64, 256, 256].into_iter().enumerate() {
        for half in ["a", "b"] {
            let name = format!("stage{}.{half}", stage + 1);
            let conv = Conv2d { padding: Padding::Explicit([1; 4]), bias: false, ..Conv2d::new(filters, 3) };
            g.then(format!("{name}.conv"), Op::Conv2d(conv));
            if half == "a" {
                g.then(format!("{name}.pool"), Op::MaxPool2d(Pool2d::new(2)));
            }
            g.then(format!("{name}.norm"), norm.clone());
            g.then(format!("{name}.act"), Op::Activation(Activation::Gelu));
        }
    }
    g.then("pool", Op::GlobalMaxPool);
    g.then("dense", Op::Dense(Dense { units: classes as u32, bias: false }));
    g
}

/// The nine-layer residual net of the DAWNBench CIFAR-10 records (Page, 2018), with a global max pool at the end.
fn resnet9(input: Shape, classes: usize) -> Graph {
    let mut g = Graph::new(input);
    let mut x = ConvNorm::relu(64, 3, 1).push(&mut g, "prep", 0);
    x = ConvNorm::relu(128, 3, 1).push(&mut g, "layer1", x);
    x = g.push("pool1", Op::MaxPool2d(Pool2d::new(2)), &[x]);
    x = residual9(&mut g, "res1", 128, x);
    x = ConvNorm::relu(256, 3, 1).push(&mut g, "layer2", x);
    x = g.push("pool2", Op::MaxPool2d(Pool2d::new(2)), &[x]);
    x = ConvNorm::relu(512, 3, 1).push(&mut g, "layer3", x);
    x = g.push("pool3", Op::MaxPool2d(Pool2d::new(2)), &[x]);
    residual9(&mut g, "res3", 512, x);
    g.then("pool", Op::GlobalMaxPool);
    g.then("dense", dense(classes));
    g
}

/// `x + relu(norm(conv(relu(norm(conv(x))))))`
fn residual9(g: &mut Graph, name: &str, channels: usize, x: u32) -> u32 {
    let y = ConvNorm::relu(channels, 3, 1).push(g, &format!("{name}.a"), x);
    let y = ConvNorm::relu(channels, 3, 1).push(g, &format!("{name}.b"), y);
    g.push(format!("{name}.add"), Op::Add, &[x, y])
}

/// ResNet-18 (He et al., 2015).
fn resnet18(input: Shape, classes: usize) -> Graph {
    let mut g = Graph::new(input);
    let mut x = ConvNorm::relu(64, 7, 2).push(&mut g, "stem", 0);
    let pool = Pool2d { kernel: [3; 2], stride: [2; 2], padding: Padding::Explicit([1; 4]) };
    x = g.push("stem.pool", Op::MaxPool2d(pool), &[x]);
    let mut cin = 64;
    for (stage, filters) in [64, 128, 256, 512].into_iter().enumerate() {
        for block in 0..2 {
            let name = format!("layer{}.{block}", stage + 1);
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let mut y = ConvNorm::relu(filters, 3, stride).push(&mut g, &format!("{name}.a"), x);
            y = ConvNorm { act: None, ..ConvNorm::relu(filters, 3, 1) }.push(&mut g, &format!("{name}.b"), y);
            if stride != 1 || cin != filters {
                let down = ConvNorm { act: None, ..ConvNorm::relu(filters, 1, stride) };
                x = down.push(&mut g, &format!("{name}.down"), x);
            }
            y = g.push(format!("{name}.add"), Op::Add, &[y, x]);
            x = g.push(format!("{name}.relu"), Op::Activation(Activation::Relu), &[y]);
            cin = filters;
        }
    }
    g.then("pool", Op::GlobalAvgPool);
    g.then("dense", dense(classes));
    g
}

/// One stage of inverted residuals: expansion, channels, repeats, first stride, kernel.
type Inverted = (usize, usize, usize, usize, usize);

/// MobileNetV2 (Sandler et al., 2018) at width 1.
fn mobilenet_v2(input: Shape, classes: usize) -> Graph {
    let stages = [
        (1, 16, 1, 1, 3),
        (6, 24, 2, 2, 3),
        (6, 32, 3, 2, 3),
        (6, 64, 4, 2, 3),
        (6, 96, 3, 1, 3),
        (6, 160, 3, 2, 3),
        (6, 320, 1, 1, 3),
    ];
    inverted_residuals(input, classes, &stages, PYTORCH)
}

/// EfficientNet-Lite0 (Liu, 2020): EfficientNet-B0 with ReLU6 and without squeeze-and-excitation, padded as its published
/// weights were trained.
fn efficientnet_lite0(input: Shape, classes: usize) -> Graph {
    let stages = [
        (1, 16, 1, 1, 3),
        (6, 24, 2, 2, 3),
        (6, 40, 2, 2, 5),
        (6, 80, 3, 2, 3),
        (6, 112, 3, 1, 5),
        (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    ];
    inverted_residuals(input, classes, &stages, TENSORFLOW)
}

/// Stem, inverted residuals and head that MobileNetV2 and EfficientNet-Lite0 share.
fn inverted_residuals(input: Shape, classes: usize, stages: &[Inverted], style: Style) -> Graph {
    let act = Some(Activation::Relu6);
    let point = |filters| ConvNorm { act, style, ..ConvNorm::relu(filters, 1, 1) };
    let mut g = Graph::new(input);
    let mut x = ConvNorm { act, style, ..ConvNorm::relu(32, 3, 2) }.push(&mut g, "stem", 0);
    let mut cin = 32;
    for (stage, &(expansion, cout, repeats, first_stride, kernel)) in stages.iter().enumerate() {
        for block in 0..repeats {
            let name = format!("stage{}.{block}", stage + 1);
            let stride = if block == 0 { first_stride } else { 1 };
            let hidden = cin * expansion;
            let mut y = x;
            if expansion > 1 {
                y = point(hidden).push(&mut g, &format!("{name}.expand"), y);
            }
            let depthwise = ConvNorm { filters: hidden, kernel, stride, groups: hidden, act, style };
            y = depthwise.push(&mut g, &format!("{name}.depthwise"), y);
            y = ConvNorm { act: None, ..point(cout) }.push(&mut g, &format!("{name}.project"), y);
            if stride == 1 && cin == cout {
                y = g.push(format!("{name}.add"), Op::Add, &[x, y]);
            }
            (x, cin) = (y, cout);
        }
    }
    point(1280).push(&mut g, "head", x);
    g.then("pool", Op::GlobalAvgPool);
    g.then("dropout", Op::Dropout { rate: 0.2 });
    g.then("dense", dense(classes));
    g
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::ParamLayout;

    /// Parameter counts of torchvision and of the reference definitions.
    #[test]
    fn networks_have_their_published_number_of_parameters() {
        let published = [
            ("keras-cnn-28", 225_034),
            // The 1.97 million of airbench94, which has no scale for its 1,152 normalised channels.
            ("cifar-fast", 1_971_640 + 1_152),
            ("resnet18", 11_689_512),
            ("mobilenet-v2", 3_504_872),
            ("efficientnet-lite0", 4_652_008),
        ];
        for (name, count) in published {
            let (graph, _) = bench_net(name).unwrap();
            assert_eq!(ParamLayout::new(&graph).unwrap().count(), count, "{name}");
        }
    }

    #[test]
    fn a_network_refuses_images_that_are_too_small() {
        for name in NAMES {
            assert!(build(name, Shape::new(224, 224, 3), 10).is_ok(), "{name}");
        }
        assert!(build("keras-cnn", Shape::new(3, 3, 1), 10).is_err());
        assert!(build("vgg", Shape::new(32, 32, 3), 10).is_err());
    }

    #[test]
    fn the_smallest_input_is_the_smallest_in_both_directions() {
        for name in NAMES {
            let least = smallest_input(name).unwrap();
            for h in 1..=24 {
                for w in 1..=24 {
                    for channels in [1, 3] {
                        let built = build(name, Shape::new(h, w, channels), 2).is_ok();
                        assert_eq!(built, h.min(w) >= least, "{name} {h}x{w}");
                    }
                }
            }
        }
        assert_eq!(smallest_input("keras-cnn").unwrap(), 10);
        assert!(smallest_input("vgg").is_err());
    }
}
