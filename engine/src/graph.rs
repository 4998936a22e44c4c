//! A network as data: nodes with inputs, small enough to travel in a model file.
//!
//! Value 0 is the graph's input; value `i + 1` is the output of node `i`. A node reads only values before it,
//! so the list is its own topological order. The last node's output are the logits.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::error::EngineError;
pub use crate::geometry::{Conv2d, Padding, Pool2d};
use crate::geometry::{Conv2dGeometry, MAX_DIM, PoolGeometry, Shape, saturating_product};

/// Most values that [`Graph::inner_values`] names.
pub const MAX_INNER_VALUES: usize = 2;
/// Largest number of nodes of a graph.
pub const MAX_NODES: usize = 4096;

/// Largest number of values that a node reads.
pub const MAX_INPUTS: usize = 64;

/// A network: the shape of one input image and the nodes in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    /// Shape of one input image.
    pub input: Shape,
    /// The layers in the order in which they run.
    pub nodes: Vec<Node>,
}

/// One layer of a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Unique name; parameters are called `name.weight`, `name.bias` and so on.
    pub name: String,
    /// What the layer does.
    pub op: Op,
    /// The values it reads: 0 for the graph's input, `i + 1` for node `i`.
    pub inputs: Vec<u32>,
}

/// What a layer does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// 2-d convolution; depthwise where `groups` equals the input channels.
    Conv2d(Conv2d),
    /// Largest value of each window.
    MaxPool2d(Pool2d),
    /// Mean of each window, padding left out.
    AvgPool2d(Pool2d),
    /// Mean over all pixels of a channel.
    GlobalAvgPool,
    /// Largest value over all pixels of a channel.
    GlobalMaxPool,
    /// `y = x w + b` on a flat input.
    Dense(Dense),
    /// Normalisation of each channel over batch and pixels (Ioffe and Szegedy, 2015).
    BatchNorm(BatchNorm),
    /// Elementwise non-linearity.
    Activation(Activation),
    /// Zeroes elements with probability `rate` in training and scales the others by `1 / (1 - rate)`.
    Dropout {
        /// Probability of a zero, in `0..1`.
        rate: f32,
    },
    /// `h x w x c` to `1 x 1 x h*w*c`, in memory order.
    Flatten,
    /// Sum of two values of one shape.
    Add,
    /// Values of one height and width, their channels one after the other.
    Concat,
    /// `y[h, w, c] = x[h, w, c] * s[c]`: a value times a flat one with as many channels, as in squeeze-and-excitation (Hu
    /// et al., 2018).
    ChannelScale,
    /// `y[h, w, i] = x[h, w, channels[i]]`: slices, splits and shuffles of channels (Zhang et al., "ShuffleNet", 2018).
    ChannelGather {
        /// The channel that each channel of the output is, at most [`MAX_DIM`] of them.
        channels: Vec<u32>,
    },
}

/// Settings of a dense layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dense {
    /// Output features.
    pub units: u32,
    /// Whether a bias is added.
    pub bias: bool,
}

/// Settings of a batch normalisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchNorm {
    /// Weight of a new batch in the running statistics (PyTorch's meaning), in `0..=1`.
    pub momentum: f32,
    /// Added to the variance before the root; positive.
    pub eps: f32,
}

impl Default for BatchNorm {
    fn default() -> Self {
        BatchNorm { momentum: 0.1, eps: 1e-5 }
    }
}

/// Elementwise non-linearities.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Activation {
    /// `max(x, 0)`
    Relu,
    /// `min(max(x, 0), 6)`
    Relu6,
    /// `x Phi(x)`, the exact form by the error function (Hendrycks and Gimpel, 2016)
    Gelu,
    /// `x sigmoid(x)`
    Silu,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `min(max(x / 6 + 1/2, 0), 1)` (Howard et al., "Searching for MobileNetV3", 2019)
    HardSigmoid,
    /// `x` times its [`Activation::HardSigmoid`]
    HardSwish,
    /// `tanh(x)`
    Tanh,
    /// `x` where it is positive, `slope * x` elsewhere
    LeakyRelu {
        /// Finite, in `0..=1`.
        slope: f32,
    },
    /// `min(max(x, min), max)`
    Clip {
        /// Not a NaN and below `max`; may be infinite.
        min: f32,
        /// Not a NaN; may be infinite.
        max: f32,
    },
}

impl Activation {
    /// The range to which outputs are clamped, where that is all it does.
    pub fn clamp_range(self) -> Option<(f32, f32)> {
        match self {
            Activation::Relu => Some((0.0, f32::INFINITY)),
            Activation::Relu6 => Some((0.0, 6.0)),
            Activation::Clip { min, max } => Some((min, max)),
            Activation::Gelu
            | Activation::Silu
            | Activation::Sigmoid
            | Activation::HardSigmoid
            | Activation::HardSwish
            | Activation::Tanh
            | Activation::LeakyRelu { .. } => None,
        }
    }

    /// What is wrong with its numbers, as a sentence; `None` where nothing is.
    fn fault(self) -> Option<String> {
        match self {
            Activation::LeakyRelu { slope } if !(0.0..=1.0).contains(&slope) => {
                Some(format!("slope {slope} is not in 0..=1"))
            }
            // A NaN has no order and is refused, too.
            Activation::Clip { min, max } if min.partial_cmp(&max) != Some(std::cmp::Ordering::Less) => {
                Some(format!("clips to {min}..={max}, which is no range"))
            }
            _ => None,
        }
    }

    /// Whether its derivative is computed from its output; from its input otherwise.
    pub fn keeps_output(self) -> bool {
        match self {
            Activation::Relu
            | Activation::Relu6
            | Activation::Sigmoid
            | Activation::HardSigmoid
            | Activation::Tanh
            | Activation::Clip { .. } => true,
            Activation::Gelu | Activation::Silu | Activation::HardSwish | Activation::LeakyRelu { .. } => {
                false
            }
        }
    }
}

/// What a parameter tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamKind {
    /// Weights of a convolution `[kh][kw][cin / groups][cout]` or a dense layer `[in][out]`.
    Weight,
    /// Bias of a convolution or dense layer `[cout]`.
    Bias,
    /// Scale of a batch normalisation `[c]`.
    Scale,
    /// Shift of a batch normalisation `[c]`.
    Shift,
    /// Running mean of a batch normalisation `[c]`; not learnt by gradients.
    RunningMean,
    /// Running variance of a batch normalisation `[c]`; not learnt by gradients.
    RunningVar,
}

impl ParamKind {
    /// Whether gradients change it.
    pub fn is_trainable(self) -> bool {
        !matches!(self, ParamKind::RunningMean | ParamKind::RunningVar)
    }

    /// What follows the layer's name and a dot in the tensor's name.
    pub fn suffix(self) -> &'static str {
        match self {
            ParamKind::Weight => "weight",
            ParamKind::Bias => "bias",
            ParamKind::Scale => "scale",
            ParamKind::Shift => "shift",
            ParamKind::RunningMean => "running_mean",
            ParamKind::RunningVar => "running_var",
        }
    }
}

/// Facts of an operation: what a new one has to state before it can be part of a graph.
impl Op {
    /// How many values it reads.
    pub fn arity(&self) -> RangeInclusive<usize> {
        match self {
            Op::Add | Op::ChannelScale => 2..=2,
            Op::Concat => 2..=MAX_INPUTS,
            Op::Conv2d(_)
            | Op::MaxPool2d(_)
            | Op::AvgPool2d(_)
            | Op::GlobalAvgPool
            | Op::GlobalMaxPool
            | Op::Dense(_)
            | Op::BatchNorm(_)
            | Op::Activation(_)
            | Op::Dropout { .. }
            | Op::ChannelGather { .. }
            | Op::Flatten => 1..=1,
        }
    }

    /// Shape of the output for inputs `x`, as many as [`Op::arity`] says; settings are checked on the way.
    ///
    /// # Errors
    /// [`EngineError::Graph`] that names `node`.
    pub fn output(&self, node: &str, x: &[Shape]) -> Result<Shape, EngineError> {
        let err = |reason: String| Err(EngineError::graph(node, reason));
        let first = x[0];
        match self {
            Op::Conv2d(conv) => {
                let g = Conv2dGeometry::new(node, first, conv)?;
                Ok(Shape::new(g.oh, g.ow, g.cout))
            }
            Op::MaxPool2d(pool) | Op::AvgPool2d(pool) => {
                let g = PoolGeometry::new(node, first, pool)?;
                Ok(Shape::new(g.oh, g.ow, g.c))
            }
            Op::GlobalAvgPool | Op::GlobalMaxPool => Ok(Shape { h: 1, w: 1, c: first.c }),
            Op::Dense(dense) => {
                let units = dense.units as usize;
                if first.h != 1 || first.w != 1 {
                    return err(format!(
                        "needs a flat input, found {first}: put a flatten or global pool before it"
                    ));
                }
                if units == 0 || units > MAX_DIM {
                    return err(format!("{units} units are not in 1..={MAX_DIM}"));
                }
                Ok(Shape::new(1, 1, units))
            }
            Op::BatchNorm(norm) => {
                if !(norm.eps > 0.0 && norm.eps.is_finite() && (0.0..=1.0).contains(&norm.momentum)) {
                    return err("needs eps > 0 and momentum in 0..=1".to_owned());
                }
                Ok(first)
            }
            Op::Dropout { rate } => {
                if !(0.0..1.0).contains(rate) {
                    return err(format!("dropout rate {rate} is not in 0..1"));
                }
                Ok(first)
            }
            Op::Activation(act) => match act.fault() {
                Some(fault) => err(fault),
                None => Ok(first),
            },
            Op::ChannelGather { channels } => {
                if channels.len() > MAX_DIM {
                    return err(format!("{} channels are more than {MAX_DIM}", channels.len()));
                }
                if let Some(missing) = channels.iter().find(|&&channel| channel >= first.c) {
                    return err(format!("takes channel {missing} of {first}"));
                }
                Ok(Shape { c: channels.len() as u32, ..first })
            }
            Op::Flatten => Ok(Shape { h: 1, w: 1, c: u32::try_from(first.len()).unwrap_or(u32::MAX) }),
            Op::Add => {
                if first != x[1] {
                    return err(format!("adds {first} and {}: shapes differ", x[1]));
                }
                Ok(first)
            }
            Op::Concat => {
                if let Some(other) = x.iter().find(|x| (x.h, x.w) != (first.h, first.w)) {
                    return err(format!(
                        "joins the channels of {first} and {other}: heights or widths differ"
                    ));
                }
                let channels = x.iter().map(|x| u64::from(x.c)).sum::<u64>();
                Ok(Shape { c: u32::try_from(channels).unwrap_or(u32::MAX), ..first })
            }
            Op::ChannelScale => {
                let expected = Shape { h: 1, w: 1, c: first.c };
                if x[1] != expected {
                    return err(format!("scales the channels of {first} by {}, not {expected}", x[1]));
                }
                Ok(first)
            }
        }
    }

    /// Kinds and shapes of its parameters, in the order of the model file, for a checked input `x`.
    pub fn params(&self, x: Shape) -> Vec<(ParamKind, Vec<usize>)> {
        let cin = x.c as usize;
        let with_bias = |weight: Vec<usize>, bias: bool| {
            let cout = weight[weight.len() - 1];
            let bias = bias.then(|| (ParamKind::Bias, vec![cout]));
            std::iter::once((ParamKind::Weight, weight)).chain(bias).collect()
        };
        match self {
            Op::Conv2d(conv) => {
                let [kh, kw] = conv.kernel.map(|k| k as usize);
                with_bias(vec![kh, kw, cin / conv.groups as usize, conv.filters as usize], conv.bias)
            }
            Op::Dense(dense) => with_bias(vec![cin, dense.units as usize], dense.bias),
            Op::BatchNorm(_) => {
                use ParamKind::{RunningMean, RunningVar, Scale, Shift};
                [Scale, Shift, RunningMean, RunningVar].map(|kind| (kind, vec![cin])).to_vec()
            }
            Op::MaxPool2d(_)
            | Op::AvgPool2d(_)
            | Op::GlobalAvgPool
            | Op::GlobalMaxPool
            | Op::Activation(_)
            | Op::Dropout { .. }
            | Op::Flatten
            | Op::Add
            | Op::Concat
            | Op::ChannelGather { .. }
            | Op::ChannelScale => Vec::new(),
        }
    }

    /// Multiply-adds of one image for a checked input `x` and its output `y`; what is not a sum of products counts
    /// nothing. Where addresses have 32 bits, more than they count are as many as they count.
    pub fn macs(&self, x: Shape, y: Shape) -> usize {
        match self {
            // Pixels and weights of a convolution are at most 2^28 each, weights of a dense layer 2^44.
            Op::Conv2d(_) | Op::Dense(_) => {
                let weight = &self.params(x)[0].1;
                saturating_product([y.h as usize, y.w as usize])
                    .saturating_mul(weight.iter().fold(1, |n, &side| n.saturating_mul(side)))
            }
            Op::ChannelScale => y.len(),
            Op::MaxPool2d(_)
            | Op::AvgPool2d(_)
            | Op::GlobalAvgPool
            | Op::GlobalMaxPool
            | Op::BatchNorm(_)
            | Op::Activation(_)
            | Op::Dropout { .. }
            | Op::Flatten
            | Op::Add
            | Op::ChannelGather { .. }
            | Op::Concat => 0,
        }
    }

    /// Whether it convolves every channel of `x` by itself, with one filter per channel.
    pub fn is_depthwise(&self, x: Shape) -> bool {
        matches!(self, Op::Conv2d(conv) if conv.groups > 1 && conv.groups == x.c && conv.groups == conv.filters)
    }

    /// Whether in training an image's output depends on the other images of its batch.
    pub fn joins_images(&self) -> bool {
        match self {
            Op::BatchNorm(_) => true,
            Op::Conv2d(_)
            | Op::MaxPool2d(_)
            | Op::AvgPool2d(_)
            | Op::GlobalAvgPool
            | Op::GlobalMaxPool
            | Op::Dense(_)
            | Op::Activation(_)
            | Op::Dropout { .. }
            | Op::Flatten
            | Op::Add
            | Op::Concat
            | Op::ChannelGather { .. }
            | Op::ChannelScale => false,
        }
    }

    /// Whether its output is its input, element for element: in training, or else at inference.
    pub fn is_identity(&self, training: bool) -> bool {
        match self {
            Op::Flatten => true,
            Op::Dropout { rate } => !training || *rate == 0.0,
            Op::Conv2d(_)
            | Op::MaxPool2d(_)
            | Op::AvgPool2d(_)
            | Op::GlobalAvgPool
            | Op::GlobalMaxPool
            | Op::Dense(_)
            | Op::BatchNorm(_)
            | Op::Activation(_)
            | Op::Add
            | Op::Concat
            | Op::ChannelGather { .. }
            | Op::ChannelScale => false,
        }
    }
}

impl Graph {
    /// An empty graph on inputs of `h x w x c`.
    pub fn new(input: Shape) -> Self {
        Graph { input, nodes: Vec::new() }
    }

    /// Appends a node and returns the value that it makes.
    pub fn push(&mut self, name: impl Into<String>, op: Op, inputs: &[u32]) -> u32 {
        self.nodes.push(Node { name: name.into(), op, inputs: inputs.to_vec() });
        self.nodes.len() as u32
    }

    /// Appends a node that reads the last value, and returns the value that it makes.
    pub fn then(&mut self, name: impl Into<String>, op: Op) -> u32 {
        let last = self.nodes.len() as u32;
        self.push(name, op, &[last])
    }

    /// Shapes of all values of one image: the input first, then every node's output.
    ///
    /// # Errors
    /// [`EngineError::Graph`] names the first node that cannot be, and why. Safe on graphs from untrusted files.
    pub fn shapes(&self) -> Result<Vec<Shape>, EngineError> {
        if self.nodes.is_empty() || self.nodes.len() > MAX_NODES {
            return Err(EngineError::graph(
                "graph",
                format!("{} layers are not in 1..={MAX_NODES}", self.nodes.len()),
            ));
        }
        let mut shapes = Vec::with_capacity(self.nodes.len() + 1);
        shapes.push(self.input.check("input")?);
        let mut names = std::collections::HashSet::new();
        for node in &self.nodes {
            let err = |reason: String| Err(EngineError::graph(&node.name, reason));
            if node.name.is_empty() || node.name.len() > 128 || !names.insert(node.name.as_str()) {
                return err("a name must be unique and of 1 to 128 bytes".to_owned());
            }
            let arity = node.op.arity();
            let reads = node.inputs.iter().map(|&value| shapes.get(value as usize).copied());
            let reads = reads.collect::<Option<Vec<Shape>>>();
            let Some(x) = reads.filter(|x| arity.contains(&x.len())) else {
                let count = Some(arity.start()).filter(|&least| least == arity.end());
                let count = count.map_or(format!("{} to {}", arity.start(), arity.end()), usize::to_string);
                return err(format!("needs {count} inputs from the layers before it"));
            };
            let y = node.op.output(&node.name, &x)?;
            shapes.push(y.check(&node.name)?);
        }
        let mut read = vec![false; shapes.len()];
        read[shapes.len() - 1] = true;
        self.nodes.iter().flat_map(|node| &node.inputs).for_each(|&value| read[value as usize] = true);
        if let Some(unread) = read.iter().skip(1).position(|&read| !read) {
            return Err(EngineError::graph(&self.nodes[unread].name, "no layer reads its output"));
        }
        let output = shapes[shapes.len() - 1];
        if output.h != 1 || output.w != 1 {
            let last = &self.nodes[self.nodes.len() - 1].name;
            return Err(EngineError::graph(
                last,
                format!("the last layer must give flat logits, found {output}"),
            ));
        }
        Ok(shapes)
    }

    /// The same network with another number of classes: its last layer, which must be dense, gets as many units.
    ///
    /// # Errors
    /// [`EngineError::Graph`] where the last layer is of another kind, or for a number that it cannot have.
    pub fn with_classes(&self, classes: usize) -> Result<Graph, EngineError> {
        let mut graph = self.clone();
        match graph.nodes.last_mut() {
            Some(Node { op: Op::Dense(dense), .. }) => {
                dense.units = u32::try_from(classes).unwrap_or(u32::MAX)
            }
            Some(last) => {
                let reason = "gives the logits and is not dense: the number of classes cannot change";
                return Err(EngineError::graph(&last.name, reason));
            }
            None => {}
        }
        graph.shapes()?;
        Ok(graph)
    }

    /// The same network for images of another size, with the same parameters.
    ///
    /// # Errors
    /// [`EngineError::Graph`] that names the layer which does not take images of this size, or whose parameters depend on
    /// the size, as those of a dense layer behind a flatten do.
    pub fn with_input(&self, input: Shape) -> Result<Graph, EngineError> {
        let graph = Graph { input, nodes: self.nodes.clone() };
        let (old, new) = (self.shapes()?, graph.shapes()?);
        for node in &graph.nodes {
            let params = |shapes: &[Shape]| node.op.params(shapes[node.inputs[0] as usize]);
            if params(&old) != params(&new) {
                let reason = format!("has parameters for images of {} alone, not {input}", self.input);
                return Err(EngineError::graph(&node.name, reason));
            }
        }
        Ok(graph)
    }

    /// The value that the last dense layer reads: what the network knows of an image before it decides on a class.
    /// `None` without a dense layer.
    pub(crate) fn features(&self) -> Option<usize> {
        let last = self.nodes.iter().rfind(|node| matches!(node.op, Op::Dense(_)))?;
        last.inputs.first().map(|&value| value as usize)
    }

    /// Values in the network at which an image is described most briefly, in their order, at most two: what the last
    /// convolutions read that make more channels than they read. The image itself is none of them. They change less in
    /// fine-tuning than what the last layer reads.
    pub fn inner_values(&self) -> Vec<usize> {
        let Ok(shapes) = self.shapes() else { return Vec::new() };
        let mut values: Vec<usize> = Vec::new();
        for (node, made) in self.nodes.iter().zip(&shapes[1..]).rev() {
            let value = node.inputs[0] as usize;
            let widens = matches!(&node.op, Op::Conv2d(conv) if conv.groups == 1) && made.c > shapes[value].c;
            // What a depthwise convolution makes may never be in memory: a pointwise one behind it is computed with it.
            if widens && value > 0 && !self.is_depthwise(value, &shapes) && !values.contains(&value) {
                values.insert(0, value);
            }
            if values.len() == MAX_INNER_VALUES {
                break;
            }
        }
        values
    }

    /// Values of more than one pixel that layers make, in their order: those whose gradient a network gives, by
    /// [`ClassGradients`]. The image itself is none of them, nor what a layer only hands on. Empty for a malformed graph.
    ///
    /// [`ClassGradients`]: crate::ClassGradients
    pub fn spatial_values(&self) -> Vec<usize> {
        let Ok(shapes) = self.shapes() else { return Vec::new() };
        let layers = self.nodes.iter().zip(&shapes[1..]).enumerate();
        let spatial = layers.filter(|(_, (node, y))| y.h * y.w > 1 && !node.op.is_identity(false));
        spatial.map(|(index, _)| index + 1).collect()
    }

    /// Whether a depthwise convolution makes a value, with what is done to each element behind it.
    fn is_depthwise(&self, value: usize, shapes: &[Shape]) -> bool {
        let Some(node) = value.checked_sub(1).map(|index| &self.nodes[index]) else { return false };
        let input = node.inputs[0] as usize;
        match &node.op {
            Op::Conv2d(conv) => conv.groups > 1 && conv.groups == shapes[input].c,
            Op::BatchNorm(_) | Op::Activation(_) | Op::Dropout { .. } => self.is_depthwise(input, shapes),
            _ => false,
        }
    }

    /// Length of the value that the last dense layer reads: an image's features. `None` without a dense layer, and for a
    /// malformed graph.
    pub fn feature_len(&self) -> Option<usize> {
        let shapes = self.shapes().ok()?;
        self.features().map(|value| shapes[value].len())
    }

    /// Multiply-adds of one image, given the [shapes](Graph::shapes) of its values.
    ///
    /// # Errors
    /// [`EngineError::Graph`] when they are too many to count.
    pub(crate) fn macs(&self, shapes: &[Shape]) -> Result<usize, EngineError> {
        let layers = self.nodes.iter().zip(&shapes[1..]);
        let mut macs = layers.map(|(node, &y)| node.op.macs(shapes[node.inputs[0] as usize], y));
        let sum = macs.try_fold(0, usize::checked_add).filter(|&sum| sum < usize::MAX);
        sum.ok_or_else(|| EngineError::graph("graph", "more multiply-adds than can be counted"))
    }

    /// Number of classes: the length of the logits.
    ///
    /// # Errors
    /// As [`Graph::shapes`].
    pub fn classes(&self) -> Result<usize, EngineError> {
        let shapes = self.shapes()?;
        Ok(shapes[shapes.len() - 1].c as usize)
    }
}
