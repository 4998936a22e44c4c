//! A network as data: nodes with inputs, small enough to travel in a model file.
//!
//! Value 0 is the graph's input; value `i + 1` is the output of node `i`. A node reads only values before it,
//! so the list is its own topological order. The last node's output are the logits.

use serde::{Deserialize, Serialize};

use crate::error::EngineError;
use crate::geometry::{Conv2dGeometry, MAX_DIM, PoolGeometry, Shape};

/// Largest number of nodes of a graph.
pub const MAX_NODES: usize = 4096;

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
}

/// Settings of a 2-d convolution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conv2d {
    /// Output channels.
    pub filters: u32,
    /// Kernel height and width.
    pub kernel: [u32; 2],
    /// Step in height and width.
    pub stride: [u32; 2],
    /// Distance between taps in height and width.
    pub dilation: [u32; 2],
    /// Zeros around the image.
    pub padding: Padding,
    /// Channel groups.
    pub groups: u32,
    /// Whether a bias is added.
    pub bias: bool,
}

impl Conv2d {
    /// A square kernel with stride 1, no padding, one group and a bias.
    pub fn new(filters: usize, kernel: usize) -> Self {
        Conv2d {
            filters: filters as u32,
            kernel: [kernel as u32; 2],
            stride: [1; 2],
            dilation: [1; 2],
            padding: Padding::Valid,
            groups: 1,
            bias: true,
        }
    }
}

/// Zeros around an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Padding {
    /// None.
    Valid,
    /// So that the output covers `ceil(size / stride)` windows; an odd zero goes after.
    Same,
    /// Above, below, left, right.
    Explicit([u32; 4]),
}

/// Settings of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool2d {
    /// Window height and width.
    pub kernel: [u32; 2],
    /// Step in height and width.
    pub stride: [u32; 2],
    /// Padding around the image.
    pub padding: Padding,
}

impl Pool2d {
    /// Square windows side by side, without padding.
    pub fn new(size: usize) -> Self {
        Pool2d { kernel: [size as u32; 2], stride: [size as u32; 2], padding: Padding::Valid }
    }
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Activation {
    /// `max(x, 0)`
    Relu,
    /// `min(max(x, 0), 6)`
    Relu6,
    /// `x Phi(x)`, the exact form by the error function (Hendrycks and Gimpel, 2016)
    Gelu,
    /// `x sigmoid(x)`
    Silu,
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
        for (index, node) in self.nodes.iter().enumerate() {
            let err = |reason: String| Err(EngineError::graph(&node.name, reason));
            if node.name.is_empty() || node.name.len() > 128 || !names.insert(node.name.as_str()) {
                return err("a name must be unique and of 1 to 128 bytes".to_owned());
            }
            let arity = if matches!(node.op, Op::Add) { 2 } else { 1 };
            if node.inputs.len() != arity || node.inputs.iter().any(|&v| v as usize > index) {
                return err(format!("needs {arity} inputs from the layers before it"));
            }
            let x = shapes[node.inputs[0] as usize];
            let y = match &node.op {
                Op::Conv2d(conv) => {
                    let g = Conv2dGeometry::new(&node.name, x, conv)?;
                    Shape::new(g.oh, g.ow, g.cout)
                }
                Op::MaxPool2d(pool) | Op::AvgPool2d(pool) => {
                    let g = PoolGeometry::new(&node.name, x, pool)?;
                    Shape::new(g.oh, g.ow, g.c)
                }
                Op::GlobalAvgPool | Op::GlobalMaxPool => Shape { h: 1, w: 1, c: x.c },
                Op::Dense(dense) => {
                    let units = dense.units as usize;
                    if x.h != 1 || x.w != 1 {
                        return err(format!(
                            "needs a flat input, found {x}: put a flatten or global pool before it"
                        ));
                    }
                    if units == 0 || units > MAX_DIM {
                        return err(format!("{units} units are not in 1..={MAX_DIM}"));
                    }
                    Shape::new(1, 1, units)
                }
                Op::BatchNorm(norm) => {
                    if !(norm.eps > 0.0 && norm.eps.is_finite() && (0.0..=1.0).contains(&norm.momentum)) {
                        return err("needs eps > 0 and momentum in 0..=1".to_owned());
                    }
                    x
                }
                Op::Dropout { rate } => {
                    if !(0.0..1.0).contains(rate) {
                        return err(format!("dropout rate {rate} is not in 0..1"));
                    }
                    x
                }
                Op::Activation(_) => x,
                Op::Flatten => Shape { h: 1, w: 1, c: u32::try_from(x.len()).unwrap_or(u32::MAX) },
                Op::Add => {
                    let other = shapes[node.inputs[1] as usize];
                    if x != other {
                        return err(format!("adds {x} and {other}: shapes differ"));
                    }
                    x
                }
            };
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

    /// Number of classes: the length of the logits.
    ///
    /// # Errors
    /// As [`Graph::shapes`].
    pub fn classes(&self) -> Result<usize, EngineError> {
        let shapes = self.shapes()?;
        Ok(shapes[shapes.len() - 1].c as usize)
    }
}
