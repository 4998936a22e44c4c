//! Matrix products with constants.

use ocelli_engine::graph::{Conv2d, Dense, Op};
use ocelli_engine::{ParamKind, Shape};

use super::call::Call;
use super::constant::Constant;
use super::layout::{flattened, pure};
use super::steps::{Params, Steps};
use super::view::{View, axis, size};

/// Weights and bias of a product, as the file has them.
struct Product {
    weights: Vec<f32>,
    /// Whether the weights are `[units][inputs]`, not `[inputs][units]`.
    by_unit: bool,
    inputs: usize,
    units: usize,
    bias: Option<Vec<f32>>,
}

/// `Gemm` with constant weights.
pub(super) fn gemm(steps: &mut Steps, call: &Call<'_, '_>) -> Result<View, String> {
    let node = call.node;
    let (x, weight) = (call.image(0)?, call.constant(1)?);
    let &[rows, columns] = &weight.dims[..] else {
        return Err(format!("has weights of {} dimensions", weight.dims.len()));
    };
    if node.int("transA").unwrap_or(0) != 0 || x.axes.len() != 1 {
        return Err("multiplies something else than a vector for each image".to_owned());
    }
    let by_unit = node.int("transB").unwrap_or(0) != 0;
    let (inputs, units) = if by_unit { (columns, rows) } else { (rows, columns) };
    let (alpha, beta) = (node.float("alpha").unwrap_or(1.0), node.float("beta").unwrap_or(1.0));
    let mut bias = call.optional(2)?.map(|bias| bias.floats()).transpose()?;
    if let Some(bias) = &mut bias {
        if bias.len() == 1 && units != 1 {
            *bias = vec![bias[0]; units];
        }
        bias.iter_mut().for_each(|bias| *bias *= beta);
    }
    let mut weights = weight.floats()?;
    weights.iter_mut().for_each(|weight| *weight *= alpha);
    product(steps, call, Product { weights, by_unit, inputs, units, bias })
}

/// `MatMul` with constant weights on the right.
pub(super) fn matmul(steps: &mut Steps, call: &Call<'_, '_>) -> Result<View, String> {
    let weight = call.constant(1)?;
    let &[inputs, units] = &weight.dims[..] else {
        return Err(format!("has weights of {} dimensions; 2 are supported", weight.dims.len()));
    };
    let weights = weight.floats()?;
    product(steps, call, Product { weights, by_unit: false, inputs, units, bias: None })
}

/// A convolution of one filter along the channels of one pixel, as efficient channel attention has it (Wang et al., 2020).
pub(super) fn along_channels(
    steps: &mut Steps,
    call: &Call<'_, '_>,
    weight: &Constant<'_>,
) -> Result<View, String> {
    let x = call.image(0)?;
    let is_plain = |name: &str| call.node.ints(name).is_none_or(|ints| ints == [1]);
    let is_pixel = x.axes.len() == 2 && size(&x.axes[0]) == 1 && size(&x.axes[1]) == x.shape.c as usize;
    let &[1, 1, taps] = &weight.dims[..] else {
        return Err("has weights of 3 dimensions; 4 are supported".to_owned());
    };
    let pads = call.node.ints("pads").unwrap_or_else(|| vec![0, 0]);
    let keeps = pads.len() == 2 && pads.iter().all(|&pad| pad >= 0) && pads[0] + pads[1] + 1 == taps as i64;
    let is_explicit = matches!(call.node.text("auto_pad"), None | Some("NOTSET" | ""));
    if !is_pixel || !keeps || !is_plain("strides") || !is_plain("dilations") || !is_explicit {
        return Err(
            "is a convolution of one dimension; one that keeps the channels of one pixel is supported"
                .to_owned(),
        );
    }
    let x = super::layout::ordered(steps, &call.name, x)?;
    let count = x.shape.c as usize;
    let (taps, before) = (weight.floats()?, pads[0] as usize);
    steps.take(size_of::<f32>() * count.saturating_mul(count))?;
    let mut weights = vec![0.0; count * count];
    for (from, row) in weights.chunks_mut(count).enumerate() {
        for (tap, value) in taps.iter().enumerate() {
            if let Some(unit) = (from + before).checked_sub(tap).filter(|&unit| unit < count) {
                row[unit] = *value;
            }
        }
    }
    let bias = call.optional(2)?.map(|bias| bias.scalar()).transpose()?;
    let mut params: Params = vec![(ParamKind::Weight, weights)];
    params.extend(bias.map(|bias| (ParamKind::Bias, vec![bias; count])));
    let op = Op::Dense(Dense { units: count as u32, bias: bias.is_some() });
    let y = steps.layer(&call.name, op, &[x.value], params)?;
    Ok(x.with(y))
}

/// The last dimension of `x` times the weights.
fn product(steps: &mut Steps, call: &Call<'_, '_>, product: Product) -> Result<View, String> {
    let Product { weights, by_unit, inputs, units, bias } = product;
    let x = call.image(0)?;
    let last = x.axes.len().checked_sub(1).ok_or("multiplies no vector")?;
    if size(&x.axes[last]) != inputs || weights.len() != inputs * units {
        return Err(format!("has weights for {inputs} inputs on {}", size(&x.axes[last])));
    }
    if bias.as_ref().is_some_and(|bias| bias.len() != units) {
        return Err(format!("has a bias of another length than its {units} outputs"));
    }
    let is_vector = x.axes[..last].iter().all(|axis| size(axis) == 1);
    let x = if is_vector { flattened(steps, &call.name, x)? } else { pure(steps, &call.name, x)? };
    let others_are_pixels = x.axes[..last].iter().all(|axis| x.has_pixels(axis));
    if x.shape.c as usize != inputs || !x.has_channels(&x.axes[last]) || !others_are_pixels {
        return Err("multiplies something else than the channels".to_owned());
    }
    // Row `place` of the engine's weights is for the channel that lies there.
    let mut values = vec![0.0; weights.len()];
    for (from, place) in super::view::offsets(&x.axes[last]).into_iter().enumerate() {
        let row = &mut values[place * units..(place + 1) * units];
        if by_unit {
            row.iter_mut().enumerate().for_each(|(unit, value)| *value = weights[unit * inputs + from]);
        } else {
            row.copy_from_slice(&weights[from * units..(from + 1) * units]);
        }
    }
    drop(weights);
    let has_bias = bias.is_some();
    let mut params: Params = vec![(ParamKind::Weight, values)];
    params.extend(bias.map(|bias| (ParamKind::Bias, bias)));
    let op = if x.shape == (Shape { h: 1, w: 1, c: x.shape.c }) {
        Op::Dense(Dense { units: units as u32, bias: has_bias })
    } else {
        Op::Conv2d(Conv2d { bias: has_bias, ..Conv2d::new(units, 1) })
    };
    let y = steps.layer(&call.name, op, &[x.value], params)?;
    if is_vector {
        let mut axes = vec![Vec::new(); last];
        axes.push(axis(1, units));
        return Ok(View { value: y, shape: steps.shape(y), axes });
    }
    Ok(x.gathered(y, Some((last, units))))
}
