//! Activations, sums and products, normalisation of channels.

use ocelli_engine::graph::{BatchNorm, Op};
use ocelli_engine::{Activation, ParamKind};

use super::call::{Call, Value};
use super::constant::Constant;
use super::layout::{channel_factors, ordered, per_channel, pure};
use super::steps::{Action, Steps, is_near};
use super::view::{View, size};

/// Operations on each element by itself, with numbers of the node.
pub(super) fn activation(steps: &mut Steps, call: &Call<'_, '_>) -> Result<View, String> {
    let (node, name, x) = (call.node, call.name.as_str(), call.image(0)?);
    let float = |attribute: &str, default: f32| node.float(attribute).unwrap_or(default);
    let one = |steps: &mut Steps, kind| steps.activation(name, kind, x.value);
    let y = match node.op {
        "Relu" => one(steps, Activation::Relu)?,
        "Sigmoid" => one(steps, Activation::Sigmoid)?,
        "Tanh" => one(steps, Activation::Tanh)?,
        "HardSwish" => one(steps, Activation::HardSwish)?,
        "LeakyRelu" => one(steps, Activation::LeakyRelu { slope: float("alpha", 0.01) })?,
        "Swish" if float("alpha", 1.0) == 1.0 => one(steps, Activation::Silu)?,
        "Gelu" if matches!(node.text("approximate"), None | Some("none" | "")) => {
            one(steps, Activation::Gelu)?
        }
        "Gelu" => return Err("is the approximation by tanh; the exact form is supported".to_owned()),
        "Erf" => steps.plain(name, Action::Erf, x.value)?,
        "Neg" => steps.uniform(name, x.value, -1.0, 0.0)?,
        "Clip" => clip(steps, call, x)?,
        "PRelu" => return prelu(steps, call, x),
        "HardSigmoid" => {
            let (alpha, beta) = (float("alpha", 0.2), float("beta", 0.5));
            if is_near(alpha, 1.0 / 6.0) && beta == 0.5 {
                one(steps, Activation::HardSigmoid)?
            } else {
                let scaled = steps.uniform(&format!("{name}.scale"), x.value, alpha, beta)?;
                steps.activation(name, Activation::Clip { min: 0.0, max: 1.0 }, scaled)?
            }
        }
        other => return Err(format!("is `{other}` with other numbers than are supported")),
    };
    Ok(x.with(y))
}

fn clip(steps: &mut Steps, call: &Call<'_, '_>, x: &View) -> Result<u32, String> {
    let bound = |index: usize, attribute: &str, default: f32| match call.optional(index)? {
        Some(bound) => bound.scalar(),
        None => Ok(call.node.float(attribute).unwrap_or(default)),
    };
    let min = bound(1, "min", f32::NEG_INFINITY)?.max(f32::MIN);
    let max = bound(2, "max", f32::INFINITY)?.min(f32::MAX);
    let kind = match (min, max) {
        (0.0, 6.0) => Activation::Relu6,
        (0.0, f32::MAX) => Activation::Relu,
        (min, max) if min < max => Activation::Clip { min, max },
        _ => return Err(format!("clips to {min}..{max}")),
    };
    steps.activation(&call.name, kind, x.value)
}

/// `max(x, 0) + slope min(x, 0)`, with a slope for each channel as the sum of two rectified values.
fn prelu(steps: &mut Steps, call: &Call<'_, '_>, x: &View) -> Result<View, String> {
    let name = &call.name;
    let (x, slopes) = per_channel(steps, name, x, call.constant(1)?)?;
    if slopes.iter().all(|slope| *slope == slopes[0]) && (0.0..=1.0).contains(&slopes[0]) {
        let y = steps.activation(name, Activation::LeakyRelu { slope: slopes[0] }, x.value)?;
        return Ok(x.with(y));
    }
    let positive = steps.activation(&format!("{name}.positive"), Activation::Relu, x.value)?;
    let negated = steps.uniform(&format!("{name}.negated"), x.value, -1.0, 0.0)?;
    let negative = steps.activation(&format!("{name}.negative"), Activation::Relu, negated)?;
    let zeros = vec![0.0; slopes.len()];
    let slopes = slopes.iter().map(|slope| -slope).collect();
    let sloped = steps.affine(&format!("{name}.slope"), negative, slopes, zeros)?;
    let y = steps.layer(name, Op::Add, &[positive, sloped], Vec::new())?;
    Ok(x.with(y))
}

/// `BatchNormalization` of a trained network.
pub(super) fn batch_norm(steps: &mut Steps, call: &Call<'_, '_>) -> Result<View, String> {
    let x = pure(steps, &call.name, call.image(0)?)?;
    let node = call.node;
    if node.int("training_mode").unwrap_or(0) != 0 {
        return Err("normalises by the batch; export the model for inference".to_owned());
    }
    let axis = x.axes.first().ok_or("normalises no channels")?;
    if size(axis) != x.shape.c as usize || !x.has_channels(axis) {
        return Err("normalises another dimension than the channels".to_owned());
    }
    let kinds = [ParamKind::Scale, ParamKind::Shift, ParamKind::RunningMean, ParamKind::RunningVar];
    let mut params = Vec::new();
    for (index, kind) in kinds.into_iter().enumerate() {
        let values = call.constant(index + 1)?.floats()?;
        if values.len() != x.shape.c as usize {
            return Err(format!("has {} numbers for {} channels", values.len(), x.shape.c));
        }
        let mut own = vec![0.0; values.len()];
        for (from, place) in super::view::offsets(axis).into_iter().enumerate() {
            own[place] = values[from];
        }
        params.push((kind, own));
    }
    let momentum = (1.0 - node.float("momentum").unwrap_or(0.9)).clamp(0.0, 1.0);
    let norm = BatchNorm { momentum, eps: node.float("epsilon").unwrap_or(1e-5) };
    let y = steps.layer(&call.name, Op::BatchNorm(norm), &[x.value], params)?;
    Ok(x.with(y))
}

/// `Add`, `Sub`, `Mul` and `Div` of images and constants or of two values.
pub(super) fn arithmetic(steps: &mut Steps, call: &Call<'_, '_>) -> Result<View, String> {
    match (call.inputs.first(), call.inputs.get(1)) {
        (Some(Some(Value::Image(x))), Some(Some(Value::Constant(c)))) => {
            with_constant(steps, call, x, (c, false))
        }
        (Some(Some(Value::Constant(c))), Some(Some(Value::Image(x)))) => {
            with_constant(steps, call, x, (c, true))
        }
        (Some(Some(Value::Image(x))), Some(Some(Value::Image(y)))) => of_two(steps, call, x, y),
        (Some(Some(Value::Image(x))), Some(Some(Value::Expanded(factors, dims))))
        | (Some(Some(Value::Expanded(factors, dims))), Some(Some(Value::Image(x))))
            if call.node.op == "Mul" && x.dims()[1..] == dims[1..] =>
        {
            of_two(steps, call, x, factors)
        }
        (Some(Some(Value::Expanded(..))), _) | (_, Some(Some(Value::Expanded(..)))) => {
            Err("reads a value repeated over many pixels; only a product with an image can".to_owned())
        }
        _ => Err("needs two inputs".to_owned()),
    }
}

/// `Sum` of any number of values.
pub(super) fn sum(steps: &mut Steps, call: &Call<'_, '_>) -> Result<View, String> {
    let mut sum: Option<Value<'_>> = None;
    for (index, input) in call.inputs.iter().enumerate() {
        let inputs = vec![sum.take(), input.clone()];
        let [Some(_), Some(_)] = &inputs[..] else {
            sum = input.clone();
            continue;
        };
        let name = if index == 1 { call.name.clone() } else { format!("{}.{index}", call.name) };
        let (node, opset, batch) = (call.node, call.opset, call.batch);
        sum = Some(Value::Image(arithmetic(steps, &Call { node, inputs, opset, batch, name })?));
    }
    match sum {
        Some(Value::Image(view)) => Ok(view),
        _ => Err("sums nothing that depends on the images".to_owned()),
    }
}

/// `Max` and `Min` with one number.
pub(super) fn bounded(steps: &mut Steps, call: &Call<'_, '_>) -> Result<View, String> {
    let (x, bound) = match &call.inputs[..] {
        [Some(Value::Image(x)), Some(Value::Constant(bound))]
        | [Some(Value::Constant(bound)), Some(Value::Image(x))] => (x, bound),
        _ => {
            return Err(
                "compares values that depend on the images; one with a number is supported".to_owned()
            );
        }
    };
    if bound.dims.len() > x.axes.len() + 1 {
        return Err("has a constant of more dimensions than the image".to_owned());
    }
    let bound = bound.scalar()?;
    let kind = match call.node.op {
        "Max" if bound == 0.0 => Activation::Relu,
        "Max" => Activation::Clip { min: bound, max: f32::MAX },
        _ => Activation::Clip { min: f32::MIN, max: bound },
    };
    Ok(x.with(steps.activation(&call.name, kind, x.value)?))
}

fn with_constant(
    steps: &mut Steps,
    call: &Call<'_, '_>,
    x: &View,
    (constant, is_first): (&Constant<'_>, bool),
) -> Result<View, String> {
    let name = &call.name;
    let (x, values) = per_channel(steps, name, x, constant)?;
    let (ones, zeros) = (vec![1.0; values.len()], vec![0.0; values.len()]);
    let negated = || values.iter().map(|value| -value).collect::<Vec<f32>>();
    let y = match (call.node.op, is_first) {
        ("Add" | "Sum", _) => steps.affine(name, x.value, ones, values)?,
        ("Sub", false) => steps.affine(name, x.value, ones, negated())?,
        ("Sub", true) => steps.affine(name, x.value, vec![-1.0; values.len()], values)?,
        ("Mul", _) => steps.affine(name, x.value, values, zeros)?,
        ("Div", false) if values.iter().all(|&value| value != 0.0) => {
            steps.affine(name, x.value, values.iter().map(|value| 1.0 / value).collect(), zeros)?
        }
        _ => return Err("divides by images or by zero".to_owned()),
    };
    Ok(x.with(y))
}

fn of_two(steps: &mut Steps, call: &Call<'_, '_>, x: &View, y: &View) -> Result<View, String> {
    let name = &call.name;
    let is_same = x.axes == y.axes && x.shape == y.shape;
    if call.node.op == "Mul" {
        if is_same && let Some(value) = steps.product(name, x.value, y.value)? {
            return Ok(x.with(value));
        }
        for (image, factors) in [(x, y), (y, x)] {
            if let Some(factors) = channel_factors(steps, name, image, factors)? {
                let value = steps.layer(name, Op::ChannelScale, &[image.value, factors], Vec::new())?;
                return Ok(image.with(value));
            }
        }
        return Err(format!(
            "multiplies {} by {}; supported are factors of channels, and activations such as x * sigmoid(x)",
            x.text(),
            y.text()
        ));
    }
    if !matches!(call.node.op, "Add" | "Sub" | "Sum") {
        return Err("divides two values that depend on the images".to_owned());
    }
    let (x, y) = match is_same {
        true => (x.clone(), y.clone()),
        false => (ordered(steps, name, x)?, ordered(steps, name, y)?),
    };
    if x.axes != y.axes || x.shape != y.shape {
        return Err(format!("adds {} and {}, which are of other dimensions", x.text(), y.text()));
    }
    let second = match call.node.op {
        "Sub" => steps.uniform(&format!("{name}.negated"), y.value, -1.0, 0.0)?,
        _ => y.value,
    };
    let value = steps.layer(name, Op::Add, &[x.value, second], Vec::new())?;
    Ok(x.with(value))
}
