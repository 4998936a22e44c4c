//! The network while it is read: steps that are layers of the engine, or may become some together with others.
//!
//! ONNX writes some activations as several operations, and a constant per channel as one. Both are kept as they come and
//! brought to the engine's layers where it is known what reads them ([`Steps::finish`]); steps that nothing reads in the
//! end are left out.

use ocelli_engine::geometry::MAX_DIM;
use ocelli_engine::graph::{Conv2d, MAX_NODES, Op, Padding};
use ocelli_engine::{Activation, ParamKind, Shape};

/// What a step does.
#[derive(Clone, Debug)]
pub(super) enum Action {
    /// A layer.
    Layer(Op),
    /// `y = scale[c] x + shift[c]`
    Affine { scale: Vec<f32>, shift: Vec<f32> },
    /// The error function.
    Erf,
    /// Zeros above, below, left and right.
    Pad([u32; 4]),
    /// Probabilities over the channels of one pixel.
    Softmax,
    /// Logarithms of probabilities over the channels of one pixel.
    LogSoftmax,
    /// Numbers of the best of the channels of one pixel, by the operator with this name.
    Choice(&'static str),
}

/// One step.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) action: Action,
    pub(super) inputs: Vec<u32>,
    pub(super) params: Vec<(ParamKind, Vec<f32>)>,
}

/// Parameters of a layer, in the engine's order.
pub(super) type Params = Vec<(ParamKind, Vec<f32>)>;

/// Steps in their order. Value 0 is the input, value `i + 1` what step `i` makes.
pub(super) struct Steps {
    pub(super) steps: Vec<Step>,
    shapes: Vec<Shape>,
    /// Bytes that constants and parameters may still take.
    room: usize,
}

/// Largest number of steps: layers, and what is folded into them.
const MAX_STEPS: usize = 4 * MAX_NODES;

/// Relative difference up to which a constant is taken for what it is in the definition of an activation.
const NEAR: f32 = 1e-5;

impl Steps {
    /// None, for an input of one shape. All constants and parameters together may take `room` bytes.
    pub(super) fn new(input: Shape, room: usize) -> Self {
        Steps { steps: Vec::new(), shapes: vec![input], room }
    }

    /// States the shape of the input, before there are steps.
    pub(super) fn set_input(&mut self, shape: Shape) {
        self.shapes[0] = shape;
    }

    /// Shape of a value.
    pub(super) fn shape(&self, value: u32) -> Shape {
        self.shapes[value as usize]
    }

    /// The step that makes a value; `None` for the input.
    pub(super) fn maker(&self, value: u32) -> Option<&Step> {
        self.steps.get((value as usize).checked_sub(1)?)
    }

    /// Takes note of bytes that stay in memory.
    ///
    /// # Errors
    /// Where a file's constants come to much more than the file: they are used by many nodes.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), String> {
        let room = self.room.checked_sub(bytes);
        self.room =
            room.ok_or("has more parameters than the file has bytes: constants are used many times")?;
        Ok(())
    }

    /// Appends a layer.
    ///
    /// # Errors
    /// A sentence: where the layer does not fit its inputs, or there are too many.
    pub(super) fn layer(
        &mut self,
        name: &str,
        op: Op,
        inputs: &[u32],
        params: Params,
    ) -> Result<u32, String> {
        let x: Vec<Shape> = inputs.iter().map(|&value| self.shape(value)).collect();
        let plain = |error: ocelli_engine::EngineError| match error {
            ocelli_engine::EngineError::Graph { reason, .. } => reason,
            other => other.to_string(),
        };
        if !op.arity().contains(&x.len()) {
            return Err(format!("has {} inputs, which is not supported", x.len()));
        }
        let shape = op.output(name, &x).map_err(plain)?.check(name).map_err(plain)?;
        if let Op::ChannelGather { channels } = &op {
            self.take(channels.len() * size_of::<u32>())?;
        }
        self.push(name, (Action::Layer(op), params), inputs, shape)
    }

    /// Appends `scale[c] x + shift[c]`, joined with one before it.
    ///
    /// # Errors
    /// As [`Steps::layer`].
    pub(super) fn affine(
        &mut self,
        name: &str,
        x: u32,
        mut scale: Vec<f32>,
        mut shift: Vec<f32>,
    ) -> Result<u32, String> {
        let mut x = x;
        if let Some(Step { action: Action::Affine { scale: first, shift: then }, inputs, .. }) = self.maker(x)
        {
            for channel in 0..scale.len() {
                shift[channel] += scale[channel] * then[channel];
                scale[channel] *= first[channel];
            }
            x = inputs[0];
        }
        if scale.iter().all(|&scale| is_near(scale, 1.0)) && shift.iter().all(|&shift| shift == 0.0) {
            return Ok(x);
        }
        // relu6(x + 3) / 6, as it was exported before there was an operator for it.
        if is_all(&scale, 1.0 / 6.0)
            && is_all(&shift, 0.0)
            && let Some(of) = self.shifted_relu6(x)
        {
            return self.activation(name, Activation::HardSigmoid, of);
        }
        let shape = self.shape(x);
        self.push(name, (Action::Affine { scale, shift }, Vec::new()), &[x], shape)
    }

    /// The same scale and shift for all channels.
    ///
    /// # Errors
    /// As [`Steps::layer`].
    pub(super) fn uniform(&mut self, name: &str, x: u32, scale: f32, shift: f32) -> Result<u32, String> {
        let count = self.shape(x).c as usize;
        if count > MAX_DIM {
            return Err(format!("computes with {count} channels; up to {MAX_DIM} are supported here"));
        }
        self.affine(name, x, vec![scale; count], vec![shift; count])
    }

    /// Appends an activation.
    ///
    /// # Errors
    /// As [`Steps::layer`].
    pub(super) fn activation(&mut self, name: &str, kind: Activation, x: u32) -> Result<u32, String> {
        self.layer(name, Op::Activation(kind), &[x], Vec::new())
    }

    /// Appends a step that keeps the shape and has no parameters.
    ///
    /// # Errors
    /// As [`Steps::layer`].
    pub(super) fn plain(&mut self, name: &str, action: Action, x: u32) -> Result<u32, String> {
        let shape = self.shape(x);
        self.push(name, (action, Vec::new()), &[x], shape)
    }

    /// Appends zeros above, below, left and right.
    ///
    /// # Errors
    /// As [`Steps::layer`].
    pub(super) fn pad(&mut self, name: &str, x: u32, pads: [u32; 4]) -> Result<u32, String> {
        let (op, _) = padding(self.shape(x).c, pads);
        let shape = op.output(name, &[self.shape(x)]).map_err(|error| error.to_string())?;
        self.push(name, (Action::Pad(pads), Vec::new()), &[x], shape)
    }

    /// The product of two values of one shape, where it is an activation.
    ///
    /// # Errors
    /// As [`Steps::layer`]; `Ok(None)` where it is none.
    pub(super) fn product(&mut self, name: &str, a: u32, b: u32) -> Result<Option<u32>, String> {
        for (x, y) in [(a, b), (b, a)] {
            let Some(step) = self.maker(y) else { continue };
            let input = step.inputs[0];
            let kind = match step.action {
                Action::Layer(Op::Activation(Activation::Sigmoid)) if input == x => Some(Activation::Silu),
                Action::Layer(Op::Activation(Activation::HardSigmoid)) if input == x => {
                    Some(Activation::HardSwish)
                }
                _ => None,
            };
            if let Some(kind) = kind {
                return self.activation(name, kind, x).map(Some);
            }
            if self.shifted_relu6(y) == Some(x) {
                let swish = self.activation(name, Activation::HardSwish, x)?;
                return self.uniform(name, swish, 6.0, 0.0).map(Some);
            }
            if let Some(factor) = self.gelu(x, y) {
                let base = self.unscaled(x).0;
                let gelu = self.activation(name, Activation::Gelu, base)?;
                return self.uniform(name, gelu, factor, 0.0).map(Some);
            }
        }
        Ok(None)
    }

    /// `x` of `relu6(x + 3)`.
    fn shifted_relu6(&self, value: u32) -> Option<u32> {
        let clip = self.maker(value)?;
        let is_relu6 = match clip.action {
            Action::Layer(Op::Activation(Activation::Relu6)) => true,
            Action::Layer(Op::Activation(Activation::Clip { min, max })) => min == 0.0 && max == 6.0,
            _ => false,
        };
        let (x, scale, shift) = self.unscaled(clip.inputs[0]);
        (is_relu6 && is_near(scale, 1.0) && is_near(shift, 3.0)).then_some(x)
    }

    /// How many times the GELU of a value `u` the product of `x = k u` and `y = s erf(u / sqrt 2) + s` is.
    fn gelu(&self, x: u32, y: u32) -> Option<f32> {
        let (base, k, zero) = self.unscaled(x);
        let (erf, s, t) = self.unscaled(y);
        let erf = self.maker(erf).filter(|step| matches!(step.action, Action::Erf))?;
        let (inner, root, offset) = self.unscaled(erf.inputs[0]);
        let is_gelu = zero == 0.0 && offset == 0.0 && is_near(s, t) && inner == base;
        (is_gelu && is_near(root, std::f32::consts::FRAC_1_SQRT_2)).then_some(2.0 * k * s)
    }

    /// `x`, `a` and `b` of a value `a x + b`, with one `a` and one `b` for all channels; the value itself, 1 and 0 else.
    pub(super) fn unscaled(&self, value: u32) -> (u32, f32, f32) {
        if let Some(Step { action: Action::Affine { scale, shift }, inputs, .. }) = self.maker(value)
            && scale.iter().all(|s| s == &scale[0])
            && shift.iter().all(|s| s == &shift[0])
        {
            return (inputs[0], scale[0], shift[0]);
        }
        (value, 1.0, 0.0)
    }

    fn push(
        &mut self,
        name: &str,
        (action, params): (Action, Params),
        inputs: &[u32],
        shape: Shape,
    ) -> Result<u32, String> {
        if self.steps.len() >= MAX_STEPS {
            return Err(format!("is one of more than {MAX_STEPS} layers"));
        }
        let floats: usize = params.iter().map(|(_, values)| values.len()).sum();
        let own = match &action {
            Action::Affine { scale, .. } => 4 * scale.len(),
            _ => 0,
        };
        // Once here, and once in the model.
        self.take(size_of::<f32>() * 2 * (floats + own))?;
        self.steps.push(Step { name: name.to_owned(), action, inputs: inputs.to_vec(), params });
        self.shapes.push(shape);
        Ok(self.steps.len() as u32)
    }
}

/// A convolution of single channels and one tap, which multiplies each by its weight.
pub(super) fn per_channel(channels: u32, bias: bool) -> Conv2d {
    Conv2d { groups: channels, bias, ..Conv2d::new(channels as usize, 1) }
}

/// A layer that adds zeros around an image, with its parameters.
pub(super) fn padding(channels: u32, pads: [u32; 4]) -> (Op, Params) {
    let conv = Conv2d { padding: Padding::Explicit(pads), ..per_channel(channels, false) };
    (Op::Conv2d(conv), vec![(ParamKind::Weight, vec![1.0; channels as usize])])
}

/// Whether two numbers are the same but for rounding.
pub(super) fn is_near(a: f32, b: f32) -> bool {
    (a - b).abs() <= NEAR * b.abs()
}

fn is_all(values: &[f32], expected: f32) -> bool {
    values.iter().all(|&value| is_near(value, expected))
}
