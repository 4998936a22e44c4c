//! The network while its layers are read: layers that nobody will read may still be in it.

use ocelli_engine::graph::{MAX_NODES, Op};
use ocelli_engine::{Activation, EngineError, ParamKind, Shape};

use crate::error::ExchangeError;
use crate::network::Network;

/// Kinds and values of a layer's parameters.
pub(super) type Params = Vec<(ParamKind, Vec<f32>)>;

/// A layer of a [`Draft`].
pub(super) struct Layer {
    pub(super) name: String,
    pub(super) op: Op,
    pub(super) inputs: Vec<u32>,
    pub(super) params: Params,
}

/// Layers in their order, with the shapes of all values: value 0 is the input, value `i + 1` what layer `i` makes.
pub(super) struct Draft {
    pub(super) layers: Vec<Layer>,
    shapes: Vec<Shape>,
    /// Parameters that may still be taken.
    left: usize,
}

impl Draft {
    /// An empty network that may have so many parameters.
    pub(super) fn new(input: Shape, most: usize) -> Self {
        Draft { layers: Vec::new(), shapes: vec![input], left: most }
    }

    /// Shape of a value.
    pub(super) fn shape(&self, value: u32) -> Shape {
        self.shapes[value as usize]
    }

    /// Gives the input another shape, as long as no layer reads it.
    pub(super) fn set_input(&mut self, input: Shape) {
        debug_assert!(self.layers.is_empty());
        self.shapes[0] = input;
    }

    /// The layer that makes a value; `None` for the input.
    pub(super) fn layer(&self, value: u32) -> Option<&Layer> {
        self.layers.get((value as usize).checked_sub(1)?)
    }

    /// The activation that makes a value, and what it reads.
    pub(super) fn activation(&self, value: u32) -> Option<(Activation, u32)> {
        let layer = self.layer(value)?;
        match layer.op {
            Op::Activation(activation) => Some((activation, layer.inputs[0])),
            _ => None,
        }
    }

    /// Whether so many parameters may be taken: asked before they are made.
    pub(super) fn room(&self, parameters: usize) -> Result<(), String> {
        if parameters > self.left {
            return Err("the network would have more parameters than its file has".to_owned());
        }
        Ok(())
    }

    /// Appends a layer.
    pub(super) fn push(
        &mut self,
        name: &str,
        op: Op,
        inputs: &[u32],
        params: Params,
    ) -> Result<u32, ExchangeError> {
        let x: Vec<Shape> = inputs.iter().map(|&value| self.shape(value)).collect();
        let y = op.output(name, &x)?.check(name)?;
        let count = params.iter().map(|(_, values)| values.len()).sum();
        let fits = self.room(count).and_then(|()| {
            if self.layers.len() < MAX_NODES {
                return Ok(());
            }
            Err(format!("the network has more than {MAX_NODES} layers"))
        });
        fits.map_err(|reason| EngineError::Graph { node: name.to_owned(), reason })?;
        self.left -= count;
        self.shapes.push(y);
        let (name, inputs) = (name.to_owned(), inputs.to_vec());
        self.layers.push(Layer { name, op, inputs, params });
        Ok(self.layers.len() as u32)
    }

    /// Whether no element of a value is below zero, as far as that is seen soon.
    pub(super) fn is_nonnegative(&self, value: u32) -> bool {
        is_nonnegative(value, &|value| self.layer(value).map(|layer| (&layer.op, &layer.inputs[..])))
    }

    /// The network that ends with a value, without the layers that do not lead there.
    pub(super) fn into_network(self, output: u32) -> Result<Network, ExchangeError> {
        let mut read = vec![false; self.shapes.len()];
        read[output as usize] = true;
        for (index, layer) in self.layers.iter().enumerate().rev() {
            if read[index + 1] {
                layer.inputs.iter().for_each(|&input| read[input as usize] = true);
            }
        }
        let mut network = Network::new(self.shapes[0]);
        let mut values = vec![0; self.shapes.len()];
        for (index, layer) in self.layers.into_iter().enumerate().filter(|(index, _)| read[index + 1]) {
            let inputs: Vec<u32> = layer.inputs.iter().map(|&input| values[input as usize]).collect();
            values[index + 1] = network.push(&layer.name, layer.op, &inputs, layer.params)?;
        }
        Ok(network)
    }
}

/// Whether no element of a value is below zero: zeros around it are then as good as no padding for a maximum. `layer` has
/// the layers by their values.
pub(super) fn is_nonnegative<'a>(value: u32, layer: &dyn Fn(u32) -> Option<(&'a Op, &'a [u32])>) -> bool {
    // Sums and joins of many values would be asked many times over: so far back, no further.
    fn ask<'a>(value: u32, layer: &dyn Fn(u32) -> Option<(&'a Op, &'a [u32])>, depth: usize) -> bool {
        let Some((op, inputs)) = layer(value).filter(|_| depth < 4) else { return false };
        match op {
            Op::Activation(activation) => match activation {
                Activation::Relu | Activation::Relu6 | Activation::Sigmoid | Activation::HardSigmoid => true,
                Activation::Clip { min, .. } => *min >= 0.0,
                _ => false,
            },
            Op::MaxPool2d(_) | Op::AvgPool2d(_) | Op::Dropout { .. } | Op::Concat | Op::Add => {
                inputs.iter().all(|&input| ask(input, layer, depth + 1))
            }
            _ => false,
        }
    }
    ask(value, layer, 0)
}

/// `y[c] = scale[c] x[c] + shift[c]`; one number stands for all channels.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Affine {
    pub(super) scale: Vec<f64>,
    pub(super) shift: Vec<f64>,
}

impl Affine {
    /// `y = x`.
    pub(super) fn identity() -> Self {
        Affine { scale: vec![1.0], shift: vec![0.0] }
    }

    /// `y = x`, but for what single precision cannot tell.
    pub(super) fn is_identity(&self) -> bool {
        self.is(1.0, 0.0)
    }

    /// Whether all channels have this scale and shift, but for what single precision cannot tell.
    pub(super) fn is(&self, scale: f64, shift: f64) -> bool {
        let near = |a: &f64, b: f64| (a - b).abs() <= 1e-6 * b.abs().max(1e-3);
        self.scale.iter().all(|a| near(a, scale)) && self.shift.iter().all(|a| near(a, shift))
    }

    /// This one, and then `scale` and `shift`, each of one number or one a channel.
    pub(super) fn then(&self, scale: &[f64], shift: &[f64]) -> Affine {
        let scaled = |values: &[f64]| pairs(values, scale).map(|(a, b)| a * b).collect::<Vec<f64>>();
        let moved = scaled(&self.shift);
        Affine { scale: scaled(&self.scale), shift: pairs(&moved, shift).map(|(a, b)| a + b).collect() }
    }

    /// Scale and shift of a channel.
    pub(super) fn of(&self, channel: usize) -> (f64, f64) {
        let pick = |values: &[f64]| values[if values.len() == 1 { 0 } else { channel }];
        (pick(&self.scale), pick(&self.shift))
    }

    /// What makes `self` of what `first` made already.
    pub(super) fn after(&self, first: &Affine) -> Affine {
        let scale: Vec<f64> = pairs(&self.scale, &first.scale).map(|(a, b)| a / b).collect();
        let moved: Vec<f64> = pairs(&scale, &first.shift).map(|(a, b)| a * b).collect();
        let shift = pairs(&self.shift, &moved).map(|(a, b)| a - b).collect();
        Affine { scale, shift }
    }
}

/// Pairs of two lists of one length, either of which may be one number for all.
fn pairs<'a>(a: &'a [f64], b: &'a [f64]) -> impl Iterator<Item = (f64, f64)> + 'a {
    let at = |values: &'a [f64], index: usize| values[if values.len() == 1 { 0 } else { index }];
    let count = if a.len() == 1 {
        b.len()
    } else if b.len() == 1 {
        a.len()
    } else {
        a.len().min(b.len())
    };
    (0..count).map(move |index| (at(a, index), at(b, index)))
}

/// A value as Keras sees it: with sides that a flat vector has not, and with what was put off, because the layer behind may
/// do it without a layer of its own.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    /// The value of the draft.
    pub(super) value: u32,
    /// Sides without the batch: `h w c`, `h w` or `c`.
    pub(super) dims: Vec<u32>,
    /// What is still to be done with it.
    pub(super) affine: Affine,
    /// Zeros still to be put around it: above, below, left, right. They come after the affine map, which is then done.
    pub(super) pad: [u32; 4],
    /// Whether it is the softmax of the value, which is left out at the end.
    pub(super) softmax: bool,
}

impl Tensor {
    /// A value as it is.
    pub(super) fn new(value: u32, dims: Vec<u32>) -> Self {
        Tensor { value, dims, affine: Affine::identity(), pad: [0; 4], softmax: false }
    }

    /// The same with other sides.
    pub(super) fn with_dims(mut self, dims: Vec<u32>) -> Self {
        self.dims = dims;
        self
    }
}

/// What stops a layer: it is not supported, or the file is at fault.
pub(super) enum Stop {
    Unsupported(String),
    Failed(ExchangeError),
}

impl From<ExchangeError> for Stop {
    fn from(error: ExchangeError) -> Self {
        Stop::Failed(error)
    }
}
