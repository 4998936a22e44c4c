//! What layers are made with: the network so far, the weights, and what is to be reported.

use ocelli_common::preprocessing::Fit;
use ocelli_engine::graph::{Conv2d, Op, Padding};
use ocelli_engine::{Activation, ParamKind, Shape};

use super::activation::Function;
use super::draft::{Affine, Draft, Params, Stop, Tensor};
use super::fields::Fields;
use super::weights::{Place, Variable, Weights};
use crate::error::{ExchangeError, Unsupported};

/// A layer that is called: its class and settings, where its weights are, and how it was called.
pub(super) struct Call<'a> {
    pub(super) name: &'a str,
    pub(super) class: &'a str,
    pub(super) config: Fields<'a>,
    pub(super) place: Place,
    pub(super) args: &'a [Arg<'a>],
}

/// An argument of a call: a value of the network, or a constant.
#[derive(Clone, Debug)]
pub(super) enum Arg<'a> {
    /// A value.
    Tensor(Tensor),
    /// Numbers.
    Constant(Vec<f64>),
    /// Something else, with the name it was given by.
    Other(&'a str, &'a serde_json::Value),
}

/// The network so far.
pub(super) struct Builder {
    pub(super) format: &'static str,
    /// Major version of Keras.
    pub(super) keras: u32,
    pub(super) draft: Draft,
    pub(super) weights: Weights,
    /// Whether the file leaves the height or width of its input open, and nothing has said it since.
    pub(super) open_size: bool,
    /// The map that was taken out of the network and is a matter of whoever prepares the input, once a layer read it.
    pub(super) input_rule: Option<Affine>,
    pub(super) fit: Option<Fit>,
    pub(super) unsupported: Vec<Unsupported>,
    pub(super) notes: Vec<String>,
}

impl Builder {
    /// An error of the file.
    pub(super) fn damaged(&self, reason: String) -> ExchangeError {
        ExchangeError::Damaged { format: self.format, reason }
    }

    /// Says something once.
    pub(super) fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Shape of a value in the network.
    pub(super) fn shape(&self, tensor: &Tensor) -> Shape {
        self.draft.shape(tensor.value)
    }

    /// The variables of a called layer.
    pub(super) fn variables(&mut self, call: &Call, wanted: &[Variable]) -> Result<Vec<Vec<f32>>, Stop> {
        let read = self.weights.read(&call.place, wanted);
        read.map_err(|reason| {
            Stop::Failed(self.damaged(format!("weights of layer `{}`: {reason}", call.name)))
        })
    }

    /// Appends a layer; its value has the engine's sides.
    pub(super) fn push(
        &mut self,
        name: &str,
        op: Op,
        inputs: &[u32],
        params: Params,
    ) -> Result<Tensor, Stop> {
        let flat = matches!(op, Op::Dense(_) | Op::Flatten);
        let value = self.draft.push(name, op, inputs, params)?;
        let Shape { h, w, c } = self.draft.shape(value);
        Ok(Tensor::new(value, if flat { vec![c] } else { vec![h, w, c] }))
    }

    /// Appends a layer that keeps the sides of its input.
    pub(super) fn push_like(&mut self, name: &str, op: Op, x: &Tensor) -> Result<Tensor, Stop> {
        let value = self.plain(name, x)?;
        let y = self.push(name, op, &[value], Vec::new())?;
        Ok(y.with_dims(x.dims.clone()))
    }

    /// The value of a tensor with all that was put off; layers that this takes are called after `name`.
    pub(super) fn plain(&mut self, name: &str, x: &Tensor) -> Result<u32, Stop> {
        if x.softmax {
            return Err(Stop::Unsupported(
                "follows a softmax, which is supported at the end alone".to_owned(),
            ));
        }
        let value = self.mapped(name, x)?;
        if x.pad == [0; 4] {
            return Ok(value);
        }
        let c = self.draft.shape(value).c;
        self.draft.room(c as usize).map_err(|reason| self.damaged(reason))?;
        let op = per_channel(c, Padding::Explicit(x.pad), false);
        let params = vec![(ParamKind::Weight, vec![1.0; c as usize])];
        Ok(self.draft.push(&format!("{name}.pad"), op, &[value], params)?)
    }

    /// As [`Builder::plain`], but with zeros still to be put around.
    pub(super) fn mapped(&mut self, name: &str, x: &Tensor) -> Result<u32, Stop> {
        let mut affine = x.affine.clone();
        if x.value == 0 {
            if self.open_size {
                return Err(Stop::Failed(missing_size()));
            }
            // The first map of the input is left to whoever prepares it, if that can be: divisors are positive.
            let first = self.input_rule.get_or_insert_with(|| {
                let finite = |values: &[f64]| values.iter().all(|value| value.is_finite());
                let fits = affine.scale.iter().all(|&scale| scale > 0.0);
                let fits = fits && finite(&affine.scale) && finite(&affine.shift);
                if fits { affine.clone() } else { Affine::identity() }
            });
            affine = affine.after(first);
        }
        if affine.is_identity() {
            return Ok(x.value);
        }
        let c = self.draft.shape(x.value).c;
        self.draft.room(2 * c as usize).map_err(|reason| self.damaged(reason))?;
        let maps: Vec<(f64, f64)> = (0..c as usize).map(|channel| affine.of(channel)).collect();
        let weight = maps.iter().map(|&(scale, _)| scale as f32).collect();
        let bias = maps.iter().map(|&(_, shift)| shift as f32).collect();
        let params = vec![(ParamKind::Weight, weight), (ParamKind::Bias, bias)];
        let op = per_channel(c, Padding::Valid, true);
        Ok(self.draft.push(&format!("{name}.map"), op, &[x.value], params)?)
    }

    /// A value that [`Builder::mapped`] gave, as a tensor: of the input, what is left to whoever prepares it is done.
    pub(super) fn tensor(&self, value: u32, dims: Vec<u32>) -> Tensor {
        let mut tensor = Tensor::new(value, dims);
        if let (0, Some(rule)) = (value, &self.input_rule) {
            tensor.affine = rule.clone();
        }
        tensor
    }

    /// `scale x + shift`, put off.
    pub(super) fn affine(&mut self, name: &str, x: &Tensor, by: &Affine) -> Result<Tensor, Stop> {
        let (scale, shift) = (&by.scale, &by.shift);
        let channels = x.dims.last().map_or(0, |&c| c as usize);
        for values in [scale, shift] {
            if values.len() != 1 && (values.len() != channels || x.dims.len() == 2) {
                return Err(Stop::Unsupported(format!(
                    "has {} constants for {channels} channels",
                    values.len()
                )));
            }
        }
        let mut y = x.clone();
        if x.pad != [0; 4] || x.softmax {
            let value = self.plain(name, x)?;
            y = self.tensor(value, x.dims.clone());
        }
        y.affine = y.affine.then(scale, shift);
        Ok(y)
    }

    /// The activation that a layer's settings name, applied.
    pub(super) fn with_activation(&mut self, call: &Call, y: Tensor) -> Result<Tensor, Stop> {
        match Function::of_setting(call.config.get("activation"), self.keras)? {
            Function::Linear => Ok(y),
            function => self.activate(&format!("{}.activation", call.name), &function, &y),
        }
    }

    /// An activation, applied.
    pub(super) fn activate(&mut self, name: &str, f: &Function, x: &Tensor) -> Result<Tensor, Stop> {
        match f {
            Function::Linear => Ok(x.clone()),
            Function::Softmax => {
                let shape = self.shape(x);
                if shape.h != 1 || shape.w != 1 {
                    return Err(Stop::Unsupported("a softmax of each pixel".to_owned()));
                }
                // Once more is not the same.
                let value = self.plain(name, x)?;
                Ok(Tensor { softmax: true, ..self.tensor(value, x.dims.clone()) })
            }
            // Networks for phones spell a hard sigmoid as relu6(x + 3) / 6.
            Function::Engine(Activation::Relu6)
                if x.affine.is(1.0, 3.0) && x.pad == [0; 4] && x.value > 0 =>
            {
                let plain = Tensor { affine: Affine::identity(), ..x.clone() };
                let mut y = self.push_like(name, Op::Activation(Activation::HardSigmoid), &plain)?;
                y.affine = Affine { scale: vec![6.0], shift: vec![0.0] };
                Ok(y)
            }
            Function::Engine(activation) => self.push_like(name, Op::Activation(*activation), x),
            Function::HardSigmoidOfKeras2 => {
                let x = self.affine(name, x, &Affine { scale: vec![0.2], shift: vec![0.5] })?;
                self.push_like(name, Op::Activation(Activation::Clip { min: 0.0, max: 1.0 }), &x)
            }
        }
    }
}

/// A convolution of each channel by itself that looks at one pixel.
fn per_channel(c: u32, padding: Padding, bias: bool) -> Op {
    Op::Conv2d(Conv2d { padding, groups: c, bias, ..Conv2d::new(c as usize, 1) })
}

/// What is said when nobody says the size of the input.
fn missing_size() -> ExchangeError {
    ExchangeError::Missing {
        what: "the file leaves the height and width of its images open: say them, as in --size 224"
            .to_owned(),
        option: "size",
    }
}
