//! First weights that a fresh network may have instead of random ones.

use super::eigen;
use super::model::{Model, ParamKind};
use crate::error::EngineError;
use crate::graph::Op;

/// Added to the variances before the root, as in airbench (Jordan, 2024): directions in which patches hardly differ are not
/// blown up.
const WHITENING_EPS: f64 = 5e-4;

/// Most inputs of a filter that is whitened: their covariance is a matrix of this many rows.
const MAX_DEPTH: usize = 1024;

impl Model {
    /// Gives the first layer, a convolution on the network's input with twice as many filters as one has inputs, the
    /// filters that whiten the patches of `images [n][h][w][c]`: their principal directions, each divided by its standard
    /// deviation, then the same with the other sign. Biases become zero.
    ///
    /// # Errors
    /// [`EngineError::Graph`] for another first layer, [`EngineError::Shape`] for no images or parts of images,
    /// [`EngineError::Config`] for values that are not finite.
    pub fn whiten(&mut self, images: &[f32]) -> Result<(), EngineError> {
        let input = self.graph().input;
        let node = &self.graph().nodes[0];
        let Op::Conv2d(conv) = &node.op else {
            return Err(EngineError::graph(&node.name, "only a convolution can be whitened"));
        };
        let [kh, kw] = conv.kernel.map(|side| side as usize);
        let depth = kh * kw * input.c as usize;
        let filters = conv.filters as usize;
        if filters != 2 * depth || depth > MAX_DEPTH || conv.groups != 1 {
            let reason = format!("whitening needs {} filters for windows of {depth} values", 2 * depth);
            return Err(EngineError::graph(&node.name, reason));
        }
        if images.is_empty() || !images.len().is_multiple_of(input.len()) {
            return Err(EngineError::Shape {
                what: "images to whiten",
                expected: format!("one or more images of {input}"),
                found: format!("{} floats", images.len()),
            });
        }
        if !images.iter().all(|x| x.is_finite()) {
            return Err(EngineError::Config("images to whiten must be finite".to_owned()));
        }
        let [h, w, c] = [input.h, input.w, input.c].map(|side| side as usize);
        let covariance = patch_covariance(images, [h, w, c], [kh, kw]);
        let directions = eigen::symmetric(covariance, depth);
        for (kind, fill) in [(ParamKind::Weight, true), (ParamKind::Bias, false)] {
            let Some(range) = self.layout().find(0, kind).map(|entry| entry.range()) else { continue };
            let values = &mut self.params_mut()[range];
            if !fill {
                values.fill(0.0);
                continue;
            }
            for (i, (variance, direction)) in directions.iter().enumerate() {
                let scale = 1.0 / (variance.max(0.0) + WHITENING_EPS).sqrt();
                for (row, x) in direction.iter().enumerate() {
                    let weight = (x * scale) as f32;
                    values[row * filters + i] = weight;
                    values[row * filters + depth + i] = -weight;
                }
            }
        }
        Ok(())
    }

    /// Lets each filter of a convolution after the first layer, which has no groups and a middle tap, pass one channel of
    /// its input through, as far as there are channels; further filters stay as they are (Zagoruyko and Komodakis, 2017).
    pub fn pass_channels_through(&mut self) {
        let layers: Vec<_> =
            self.graph().nodes.iter().map(|node| node.op.clone()).enumerate().skip(1).collect();
        for (node, op) in layers {
            let Op::Conv2d(conv) = op else { continue };
            let [kh, kw] = conv.kernel.map(|side| side as usize);
            if conv.groups != 1 || kh % 2 == 0 || kw % 2 == 0 {
                continue;
            }
            let entry = self.layout().find(node, ParamKind::Weight).expect("a convolution has weights");
            let (range, cin, cout) = (entry.range(), entry.shape[2], entry.shape[3]);
            let middle = kh / 2 * kw + kw / 2;
            for (row, filters) in self.params_mut()[range].chunks_exact_mut(cout).enumerate() {
                let (tap, channel) = (row / cin, row % cin);
                let passed = cin.min(cout);
                filters[..passed].fill(0.0);
                if tap == middle && channel < passed {
                    filters[channel] = 1.0;
                }
            }
        }
    }

    /// Multiplies the weights of the last layer that has any, and with them its logits where it has no bias.
    pub fn scale_last_weights(&mut self, factor: f32) {
        let last = self.layout().entries().iter().rfind(|entry| entry.kind == ParamKind::Weight);
        if let Some(range) = last.map(|entry| entry.range()) {
            self.params_mut()[range].iter_mut().for_each(|w| *w *= factor);
        }
    }
}

/// Mean of `p p^T` over all windows `p [kh][kw][c]` of images `[h][w][c]`, at every pixel where one fits.
fn patch_covariance(images: &[f32], [h, w, c]: [usize; 3], [kh, kw]: [usize; 2]) -> Vec<f64> {
    let depth = kh * kw * c;
    let mut sum = vec![0.0; depth * depth];
    let mut patch = vec![0.0; depth];
    let mut count = 0.0;
    for image in images.chunks_exact(h * w * c) {
        for y in 0..=h - kh {
            for x in 0..=w - kw {
                for (row, values) in patch.chunks_exact_mut(kw * c).enumerate() {
                    let from = &image[((y + row) * w + x) * c..][..kw * c];
                    values.iter_mut().zip(from).for_each(|(to, &from)| *to = f64::from(from));
                }
                for (i, &a) in patch.iter().enumerate() {
                    let row = &mut sum[i * depth..][..=i];
                    row.iter_mut().zip(&patch).for_each(|(sum, b)| *sum += a * b);
                }
                count += 1.0;
            }
        }
    }
    for i in 0..depth {
        for j in 0..=i {
            let mean = sum[i * depth + j] / count;
            (sum[i * depth + j], sum[j * depth + i]) = (mean, mean);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::{Conv2d, Shape};
    use crate::graph::{Activation, Graph};
    use crate::rng::Rng;
    use crate::zoo;

    fn network() -> Model {
        Model::init(zoo::build("cifar-fast", Shape::new(32, 32, 3), 10).unwrap(), 1).unwrap()
    }

    /// Images whose pixels depend on their neighbours.
    fn images(n: usize) -> Vec<f32> {
        let mut rng = Rng::new(7, 0);
        let mut last = 0.0;
        (0..n * 32 * 32 * 3)
            .map(|_| {
                last = 0.8 * last + 0.6 * rng.normal();
                last
            })
            .collect()
    }

    #[test]
    fn whitened_patches_have_unit_variance_and_no_correlation() {
        let (mut model, images) = (network(), images(4));
        model.whiten(&images).unwrap();
        let weights = model.tensor("whiten.weight").unwrap();
        let covariance = patch_covariance(&images, [32, 32, 3], [2, 2]);
        let product = |a: usize, b: usize| -> f64 {
            let pairs = (0..12).flat_map(|i| (0..12).map(move |j| (i, j)));
            pairs
                .map(|(i, j)| {
                    f64::from(weights[i * 24 + a]) * covariance[i * 12 + j] * f64::from(weights[j * 24 + b])
                })
                .sum()
        };
        for a in 0..12 {
            for b in 0..12 {
                let expected = if a == b { 1.0 } else { 0.0 };
                // The constant under the root takes its share of small variances.
                assert!((product(a, b) - expected).abs() < 0.05, "{a}, {b}: {}", product(a, b));
            }
            assert!((0..12).all(|row| weights[row * 24 + a] == -weights[row * 24 + 12 + a]));
        }
        assert!(model.tensor("whiten.bias").unwrap().iter().all(|&b| b == 0.0));
    }

    #[test]
    fn what_cannot_be_whitened_says_why() {
        let mut model = network();
        assert!(matches!(model.whiten(&[]), Err(EngineError::Shape { .. })));
        assert!(matches!(model.whiten(&images(1)[1..]), Err(EngineError::Shape { .. })));
        let mut damaged = images(1);
        damaged[5] = f32::NAN;
        assert!(matches!(model.whiten(&damaged), Err(EngineError::Config(_))));
        let mut other = Model::init(zoo::build("resnet9", Shape::new(32, 32, 3), 10).unwrap(), 1).unwrap();
        assert!(matches!(other.whiten(&images(1)), Err(EngineError::Graph { .. })));
    }

    #[test]
    fn filters_pass_their_channel_through_as_far_as_there_are_channels() {
        for (cin, cout) in [(3, 5), (5, 3), (4, 4)] {
            let mut g = Graph::new(Shape::new(5, 5, cin));
            g.then("first", Op::Activation(Activation::Relu));
            g.then("conv", Op::Conv2d(Conv2d { bias: false, ..Conv2d::new(cout, 3) }));
            g.then("pool", Op::GlobalAvgPool);
            let random = Model::init(g, 1).unwrap();
            let mut model = random.clone();
            model.pass_channels_through();
            for (i, (&w, &old)) in model.params().iter().zip(random.params()).enumerate().take(9 * cin * cout)
            {
                let (tap, channel, filter) = (i / cout / cin, i / cout % cin, i % cout);
                let expected = match filter {
                    f if f >= cin => old,
                    f => f32::from(tap == 4 && channel == f),
                };
                assert_eq!(w, expected, "{cin} to {cout}: tap {tap}, channel {channel}, filter {filter}");
            }
        }
    }

    #[test]
    fn the_last_weights_alone_are_scaled() {
        let (before, mut after) = (network(), network());
        after.scale_last_weights(0.5);
        for entry in before.layout().entries() {
            let factor = if entry.name == "dense.weight" { 0.5 } else { 1.0 };
            let [old, new] = [&before, &after].map(|model| &model.params()[entry.range()]);
            assert!(old.iter().zip(new).all(|(old, new)| old * factor == *new), "{}", entry.name);
        }
    }
}
