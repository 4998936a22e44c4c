//! From steps to a network: what nothing reads is left out, constants move into the layers before them, the rest becomes
//! layers.

use std::mem;

use ocelli_engine::graph::{Dense, Op};
use ocelli_engine::{Activation, ParamKind};

use super::steps::{Action, Step, Steps, padding, per_channel};
use crate::error::{ExchangeError, Unsupported};
use crate::imported::{Format, Head};
use crate::network::Network;

/// The network, what its last numbers are, and where the steps' values went.
pub(super) struct Finished {
    pub(super) network: Network,
    pub(super) head: Head,
    /// The value of the network for each value of the steps; `None` for one that is no more.
    pub(super) values: Vec<Option<u32>>,
    /// Values of steps whose weights are no more those of the file.
    pub(super) changed: Vec<u32>,
    /// The operator at the end that picks classes.
    pub(super) chosen: Option<&'static str>,
}

/// Scale and shift of each channel of the input, as layers of the file.
pub(super) type InputScale = (Vec<f32>, Vec<f32>);

/// Makes the network whose last numbers are the value `output`. `takes` decides whether a scale and shift of the input are
/// left out of it.
///
/// # Errors
/// [`ExchangeError::Unsupported`] for steps that are parts of no layer; those of the network.
pub(super) fn finish(
    mut steps: Steps,
    output: u32,
    mut takes: impl FnMut(&InputScale) -> bool,
) -> Result<Finished, ExchangeError> {
    let (output, chosen) = match steps.maker(output).map(|step| (&step.action, step.inputs[0])) {
        Some((Action::Choice(op), input)) => (input, Some(*op)),
        _ => (output, None),
    };
    let (output, head) = head(&steps, output);
    let mut same: Vec<u32> = (0..=steps.steps.len() as u32).collect();
    let uses = uses(&steps, output);
    if let Some(first) = only_reader(&steps, &uses)
        && let Action::Affine { scale, shift } = &steps.steps[first].action
        && takes(&(scale.clone(), shift.clone()))
    {
        same[first + 1] = 0;
    }
    let changed = fold(&mut steps, &uses, &mut same);
    check(&steps, &uses)?;
    let mut network = Network::new(steps.shape(0));
    let mut values = vec![None; steps.steps.len() + 1];
    values[0] = Some(0);
    for index in 0..steps.steps.len() {
        let value = index + 1;
        if uses[value] == 0 {
            continue;
        }
        if same[value] != value as u32 {
            values[value] = values[same[value] as usize];
            continue;
        }
        let shape = steps.shape(steps.steps[index].inputs[0]);
        let step = &mut steps.steps[index];
        let inputs: Option<Vec<u32>> = step.inputs.iter().map(|&input| values[input as usize]).collect();
        let inputs = inputs.expect("what a step reads that is read was made before it");
        let params = mem::take(&mut step.params);
        let action = mem::replace(&mut step.action, Action::Erf);
        let (op, params) = match action {
            Action::Layer(op) => (op, params),
            Action::Affine { scale, shift } => {
                let op = Op::Conv2d(per_channel(shape.c, true));
                (op, vec![(ParamKind::Weight, scale), (ParamKind::Bias, shift)])
            }
            Action::Pad(pads) => padding(shape.c, pads),
            Action::Erf | Action::Softmax | Action::LogSoftmax | Action::Choice(_) => {
                unreachable!("check refused them")
            }
        };
        values[value] = Some(network.push(&step.name, op, &inputs, params)?);
    }
    let output = values[output as usize].unwrap_or(0);
    if head == Head::Binary {
        let params = vec![(ParamKind::Weight, vec![0.0, 1.0]), (ParamKind::Bias, vec![0.0, 0.0])];
        network.push("two_classes", Op::Dense(Dense { units: 2, bias: true }), &[output], params)?;
    }
    Ok(Finished { network, head, values, changed, chosen })
}

/// The logits, and what the file's last layer makes of them.
fn head(steps: &Steps, output: u32) -> (u32, Head) {
    let Some(step) = steps.maker(output) else { return (output, Head::Logits) };
    match step.action {
        Action::Softmax => (step.inputs[0], Head::Softmax),
        Action::LogSoftmax => (step.inputs[0], Head::Logits),
        Action::Layer(Op::Activation(Activation::Sigmoid)) => {
            let is_one = steps.shape(output).c == 1;
            (step.inputs[0], if is_one { Head::Binary } else { Head::Sigmoid })
        }
        _ => (output, Head::Logits),
    }
}

/// How many steps that count read each value; the output is read once by whoever wants it.
fn uses(steps: &Steps, output: u32) -> Vec<u32> {
    let mut uses = vec![0; steps.steps.len() + 1];
    uses[output as usize] = 1;
    for index in (0..steps.steps.len()).rev() {
        if uses[index + 1] > 0 {
            steps.steps[index].inputs.iter().for_each(|&input| uses[input as usize] += 1);
        }
    }
    uses
}

/// The step that reads the input, where it is one alone.
fn only_reader(steps: &Steps, uses: &[u32]) -> Option<usize> {
    let mut readers =
        (0..steps.steps.len()).filter(|&index| uses[index + 1] > 0 && steps.steps[index].inputs.contains(&0));
    let first = readers.next()?;
    readers.next().is_none().then_some(first)
}

/// Scales and shifts into the convolution or dense layer that makes what they read, where nothing else reads it. Returns the
/// values of those layers.
fn fold(steps: &mut Steps, uses: &[u32], same: &mut [u32]) -> Vec<u32> {
    let mut changed = Vec::new();
    for index in 0..steps.steps.len() {
        let value = index + 1;
        let input = steps.steps[index].inputs[0];
        let is_alone = uses[value] > 0 && uses[input as usize] == 1 && same[value] == value as u32;
        let Some(maker) = (input as usize).checked_sub(1).filter(|_| is_alone) else { continue };
        let is_linear = matches!(steps.steps[maker].action, Action::Layer(Op::Conv2d(_) | Op::Dense(_)));
        let Action::Affine { scale, shift } = &steps.steps[index].action else { continue };
        if !is_linear {
            continue;
        }
        let (scale, shift) = (scale.clone(), shift.clone());
        scaled(&mut steps.steps[maker], &scale, &shift);
        same[value] = input;
        changed.push(input);
    }
    changed
}

/// A convolution or dense layer with its outputs scaled and shifted.
fn scaled(step: &mut Step, scale: &[f32], shift: &[f32]) {
    if !step.params.iter().any(|(kind, _)| *kind == ParamKind::Bias) {
        step.params.push((ParamKind::Bias, vec![0.0; scale.len()]));
    }
    match &mut step.action {
        Action::Layer(Op::Conv2d(conv)) => conv.bias = true,
        Action::Layer(Op::Dense(dense)) => dense.bias = true,
        _ => {}
    }
    for (kind, values) in &mut step.params {
        let is_bias = *kind == ParamKind::Bias;
        for (index, value) in values.iter_mut().enumerate() {
            let channel = index % scale.len();
            *value = *value * scale[channel] + if is_bias { shift[channel] } else { 0.0 };
        }
    }
}

/// Refuses what is part of an activation in the file and became none, and what belongs at the end alone.
fn check(steps: &Steps, uses: &[u32]) -> Result<(), ExchangeError> {
    let counted = steps.steps.iter().zip(&uses[1..]).filter(|(_, uses)| **uses > 0);
    let parts: Vec<Unsupported> = counted
        .filter_map(|(step, _)| {
            let (op, reason) = match step.action {
                Action::Erf => ("Erf", "is supported as part of the exact GELU alone"),
                Action::Softmax => ("Softmax", "is supported as the last layer alone"),
                Action::LogSoftmax => ("LogSoftmax", "is supported as the last layer alone"),
                Action::Choice(op) => (op, "is supported as the last layer alone"),
                _ => return None,
            };
            let shapes = steps.shape(step.inputs[0]).to_string();
            Some(Unsupported {
                node: step.name.clone(),
                op: op.to_owned(),
                shapes,
                reason: reason.to_owned(),
            })
        })
        .collect();
    match parts.is_empty() {
        true => Ok(()),
        false => Err(ExchangeError::Unsupported { format: Format::Onnx.name(), parts }),
    }
}
