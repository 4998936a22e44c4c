//! Networks in 8 bits: pairs of `QuantizeLinear` and `DequantizeLinear` become scales of values, bytes of weights those of
//! layers.

use ocelli_engine::graph::Op;
use ocelli_engine::{Activation, Graph, LayerScale, Quantization, ValueScale};

use super::call::Call;
use super::constant::{Constant, scales};
use super::steps::{Action, Steps};
use super::tensor::kind;
use super::view::View;

/// Scales that were found while a graph was read, by the values of its steps.
#[derive(Default)]
pub(super) struct Scales {
    /// Value, scale, zero.
    values: Vec<(u32, f32, u8)>,
    /// What a convolution makes, and the scales of its filters.
    layers: Vec<(u32, Vec<f32>)>,
}

impl Scales {
    /// `QuantizeLinear` of a value: the value as it is, with its scale noted, rectified where bytes hold nothing below zero.
    ///
    /// # Errors
    /// For scales that are no constants or are of channels.
    pub(super) fn quantize(&mut self, steps: &mut Steps, call: &Call<'_, '_>) -> Result<View, String> {
        let x = call.image(0)?;
        let zero_point = call.optional(2)?;
        let (scale, zero) = scales(call.optional(1)?, zero_point)?;
        let zero = zero.first().copied().unwrap_or(0.0);
        let kind = zero_point.map_or(kind::UINT8, Constant::kind);
        let zero = match kind {
            kind::UINT8 => zero,
            // Signed bytes are unsigned ones less 128.
            kind::INT8 => zero + 128.0,
            _ => return Err(format!("makes numbers of type {kind}; bytes are supported")),
        };
        let [scale] = scale[..] else {
            return Err("has a scale for each channel; one for all is supported".to_owned());
        };
        let mut value = x.value;
        let made = steps.maker(value).map(|step| &step.action);
        let may_be_negative = match made {
            Some(Action::Layer(op)) => {
                matches!(op, Op::Conv2d(_) | Op::Dense(_) | Op::Add | Op::BatchNorm(_))
            }
            Some(Action::Affine { .. }) => true,
            _ => false,
        };
        // A ReLU before bytes whose least is 0 is left out of such files.
        if zero == 0.0 && may_be_negative {
            value = steps.activation(&format!("{}.relu", call.name), Activation::Relu, value)?;
        }
        self.values.push((value, scale, zero as u8));
        Ok(x.with(value))
    }

    /// Notes the weights of a convolution, where they are signed bytes around zero with a scale for each filter or one.
    pub(super) fn weights(&mut self, call: &Call<'_, '_>, made: u32) {
        let Ok(weight) = call.constant(1) else { return };
        let Some(bytes) = weight.scales() else { return };
        let filters = weight.dims.first().copied().unwrap_or(0);
        let is_symmetric = bytes.zero.iter().all(|&zero| zero == 0.0);
        let by_filter = bytes.axis == 0 && bytes.scale.len() == filters;
        if is_symmetric && (by_filter || bytes.scale.len() == 1) {
            let scale = |filter: usize| bytes.scale[filter % bytes.scale.len()];
            self.layers.push((made, (0..filters).map(scale).collect()));
        }
    }

    /// The scales of a network, whose values are given for those of the steps; `changed` are steps with other weights than
    /// the file's. `None` where there are none.
    pub(super) fn finish(
        self,
        graph: &Graph,
        values: &[Option<u32>],
        changed: &[u32],
    ) -> Option<Result<Quantization, String>> {
        let new = |value: u32| values.get(value as usize).copied().flatten();
        let value = |(value, scale, zero): (u32, f32, u8)| {
            Some(ValueScale { value: new(value)?, scale, zero, factors: Vec::new() })
        };
        let layer = |(value, weights): (u32, Vec<f32>)| {
            let node = new(value)?.checked_sub(1).filter(|_| !changed.contains(&value))?;
            Some(LayerScale { node, weights, bias: Vec::new() })
        };
        let mut quantization = Quantization {
            values: self.values.into_iter().filter_map(value).collect(),
            layers: self.layers.into_iter().filter_map(layer).collect(),
        };
        if quantization.layers.is_empty() {
            return None;
        }
        // A value that is quantised again is read with its last scale.
        quantization.values.reverse();
        quantization.values.sort_by_key(|scale| scale.value);
        quantization.values.dedup_by_key(|scale| scale.value);
        quantization.layers.sort_by_key(|layer| layer.node);
        quantization.layers.dedup_by_key(|layer| layer.node);
        let checked = quantization.check(graph).map_err(|error| error.to_string());
        Some(checked.map(|()| quantization))
    }
}
