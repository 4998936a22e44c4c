//! From a file to a model: its nodes one after the other.

use std::collections::HashMap;

use ocelli_common::preprocessing::{MAX_CHANNELS, MAX_INPUT_SIDE};
use ocelli_engine::Shape;

use super::call::{Call, Value};
use super::constant::{Constant, fold};
use super::finish::{Finished, finish};
use super::layout::{flattened, ordered};
use super::metadata::{Metadata, pixel_rule};
use super::order::live_nodes;
use super::quantized::Scales;
use super::schema::{MAX_RANK, ModelView, Node, ValueInfo};
use super::steps::Steps;
use super::tensor::kind;
use super::view::{View, size};
use super::{dense, elementwise, shapes, windows};
use crate::error::{ExchangeError, Unsupported};
use crate::imported::{Format, Head, Import, ImportOptions, InputRule};

/// Most parts that an error lists; a file with more is of another kind.
const MAX_LISTED: usize = 100;

/// Versions of the operators that are tested.
const OPSETS: std::ops::RangeInclusive<i64> = 11..=21;

/// Memory for constants of files that are small: shapes, activations as constants of channels.
const LEAST_ROOM: usize = 2 << 20;

/// Memory of a value with its name, at most: its dimensions and its place in a table that grows.
const VALUE_BYTES: usize = 400;

/// Reads a model.
///
/// # Errors
/// Those of [`crate::import()`].
pub(crate) fn import(bytes: &[u8], options: &ImportOptions) -> Result<Import, ExchangeError> {
    let model =
        ModelView::read(bytes).ok_or_else(|| damaged("the file is damaged or was not copied whole"))?;
    let metadata = Metadata::read(&model);
    let mut reader = Reader {
        values: HashMap::new(),
        steps: Steps::new(Shape::new(1, 1, 1), 0),
        unsupported: Vec::new(),
        opset: model.opset,
        batch: None,
        scales: Scales::default(),
    };
    let mut notes = Vec::new();
    if !OPSETS.contains(&model.opset) {
        let (first, last) = (OPSETS.start(), OPSETS.end());
        notes.push(format!(
            "the file has operators of version {}; versions {first} to {last} are tested",
            model.opset
        ));
    }
    let room = bytes.len().saturating_mul(9).saturating_add(LEAST_ROOM);
    reader.steps = Steps::new(Shape::new(1, 1, 1), room);
    for tensor in model.initializers() {
        if tensor.dims.len() > MAX_RANK {
            return Err(damaged(&format!(
                "the constant `{}` has more than {MAX_RANK} dimensions",
                tensor.name
            )));
        }
        reader
            .steps
            .take(VALUE_BYTES)
            .map_err(|_| damaged("the file has more constants than it has bytes for"))?;
        reader.values.insert(tensor.name, Value::Constant(Constant::of_file(tensor)));
    }
    let mut inputs = model.inputs().filter(|input| !reader.values.contains_key(input.name));
    let input = inputs.next().ok_or_else(|| damaged("the graph has no input"))?;
    if let Some(second) = inputs.next() {
        let reason = "is a second input; networks of one image are supported".to_owned();
        let part = Unsupported {
            node: second.name.to_owned(),
            op: "input".to_owned(),
            shapes: String::new(),
            reason,
        };
        return Err(ExchangeError::Unsupported { format: Format::Onnx.name(), parts: vec![part] });
    }
    let view = input_view(&input, options, &metadata)?;
    let shape = view.shape.check(input.name)?;
    reader.batch = input.dims.as_ref().and_then(|dims| dims[0]);
    reader.steps.set_input(shape);
    reader.values.insert(input.name, Value::Image(view));
    let output = model.outputs().next().ok_or_else(|| damaged("the graph has no output"))?;
    let nodes = live_nodes(&model, output.name, |bytes| reader.steps.take(bytes));
    for node in nodes.map_err(|_| damaged("the file has more nodes than it has bytes for"))? {
        reader.run(&node);
        if reader.unsupported.len() >= MAX_LISTED {
            break;
        }
    }
    let output = reader.output(&output)?;
    let is_bytes = input.kind == kind::UINT8;
    let mut rule = InputRule { mean_std: None, fit: metadata.fit };
    let mut input_note = None;
    let Finished { network, head, values, changed, chosen } =
        finish(reader.steps, output.value, |(scale, shift)| {
            let Some((mean_std, note)) = pixel_rule(scale, shift, is_bytes) else { return false };
            (rule.mean_std, input_note) = (Some(mean_std), note);
            true
        })?;
    notes.extend(input_note);
    if let Some(op) = chosen {
        notes.push(format!("the graph ends in {op}, which picks classes: it is left out, as are the layers of no use without it"));
    }
    if rule.mean_std.is_none() {
        rule.mean_std = metadata.mean_std.clone();
    }
    if rule.mean_std.is_none() && is_bytes {
        let c = shape.c as usize;
        rule.mean_std = Some((vec![0.0; c], vec![1.0 / 255.0; c]));
    }
    let others: Vec<&str> = model.outputs().map(|output| output.name).skip(1).collect();
    if !others.is_empty() && metadata.labels.is_none() {
        notes.push(format!("of several outputs only the first is kept, not `{}`", others.join("`, `")));
    }
    let model_read = network.finish()?;
    let classes = model_read.graph().classes()?;
    let quantization = reader.scales.finish(model_read.graph(), &values, &changed);
    let quantization = quantization.and_then(|scales| {
        scales.map_err(|error| notes.push(format!("the scales in 8 bits are left out: {error}"))).ok()
    });
    let labels = metadata.labels.filter(|labels| {
        let fits = labels.len() == classes;
        if !fits {
            notes.push(format!(
                "the file names {} classes for {classes} outputs; they are left out",
                labels.len()
            ));
        }
        fits
    });
    Ok(Import {
        model: model_read,
        format: Format::Onnx,
        producer: model.producer.clone(),
        head: if metadata.several { Head::Sigmoid } else { head },
        labels,
        input: rule,
        temperature: metadata.temperature,
        thresholds: metadata.thresholds.filter(|thresholds| thresholds.len() == classes),
        quantization,
        notes,
    })
}

fn damaged(reason: &str) -> ExchangeError {
    ExchangeError::Damaged { format: Format::Onnx.name(), reason: reason.to_owned() }
}

/// The input as an image: `N, C, H, W`, or `N, H, W, C` where the last dimension is one of channels.
fn input_view(
    input: &ValueInfo<'_>,
    options: &ImportOptions,
    metadata: &Metadata,
) -> Result<View, ExchangeError> {
    let name = input.name;
    let dims = input.dims.as_deref().unwrap_or(&[]);
    let &[_, second, third, fourth] = dims else {
        return Err(damaged(&format!("the input `{name}` has {} dimensions; images have 4", dims.len())));
    };
    // Of two dimensions that may both be of channels, the one with a usual number of them; the second in doubt.
    let usual = |dim: Option<i64>| dim.filter(|dim| [1, 3, 4].contains(dim));
    let channels = |dim: Option<i64>| dim.filter(|&dim| dim <= i64::from(MAX_CHANNELS));
    // Whole numbers are pixels as a decoder gives them: channels last.
    let is_decoded = input.kind == kind::UINT8 && usual(fourth).is_some();
    let first =
        !is_decoded && (usual(second).is_some() || channels(second).is_some() && usual(fourth).is_none());
    let (c, sides, is_nchw) = match (channels(second).filter(|_| first), channels(fourth)) {
        (Some(c), _) => (c, [third, fourth], true),
        (None, Some(c)) => (c, [second, third], false),
        (None, None) => {
            let reason = format!(
                "the input `{name}` has no dimension of 1 to {MAX_CHANNELS} channels; export the model with a fixed number"
            );
            return Err(damaged(&reason));
        }
    };
    let given = options.size.map(|(height, width)| [height, width].map(i64::from));
    let known = [sides[0], sides[1]];
    let known = known[0].zip(known[1]).map(|(height, width)| [height, width]).or(metadata.size);
    let sides = given.or(known).ok_or_else(|| ExchangeError::Missing {
        what: format!("the file leaves the height and width of its input `{name}` open"),
        option: "size",
    })?;
    if sides.iter().any(|&side| side < 1 || side > i64::from(MAX_INPUT_SIDE)) {
        return Err(damaged(&format!("the input `{name}` has sides that are not in 1..={MAX_INPUT_SIDE}")));
    }
    let shape = Shape { h: sides[0] as u32, w: sides[1] as u32, c: c as u32 };
    Ok(if is_nchw { View::nchw(0, shape) } else { View::nhwc(0, shape) })
}

struct Reader<'a> {
    values: HashMap<&'a str, Value<'a>>,
    steps: Steps,
    unsupported: Vec<Unsupported>,
    opset: i64,
    batch: Option<i64>,
    scales: Scales,
}

impl<'a> Reader<'a> {
    fn run(&mut self, node: &Node<'a>) {
        let input = |name: &&'a str| match name.is_empty() {
            true => None,
            false => Some(self.values.get(name).cloned().unwrap_or(Value::Unknown)),
        };
        let inputs: Vec<Option<Value<'a>>> = node.inputs.iter().map(input).collect();
        let is_known = !inputs.iter().any(|input| matches!(input, Some(Value::Unknown)));
        let name = layer_name(node, &inputs);
        let call = Call { node, inputs, opset: self.opset, batch: self.batch, name };
        let result = match is_known {
            true => self.apply(&call),
            false if is_supported(node.op) => Ok(Vec::new()),
            false => Err(not_supported(node)),
        };
        let made = result.unwrap_or_else(|reason| {
            let shapes = call.inputs.iter().flatten().filter_map(shape_text).collect::<Vec<_>>().join(", ");
            let (node, op) = (node.label().to_owned(), node.op.to_owned());
            self.unsupported.push(Unsupported { node, op, shapes, reason });
            Vec::new()
        });
        let mut made = made.into_iter();
        if self.steps.take(VALUE_BYTES * node.outputs.len()).is_err() {
            return;
        }
        for &output in node.outputs.iter().filter(|output| !output.is_empty()) {
            self.values.insert(output, made.next().unwrap_or(Value::Unknown));
        }
    }

    fn apply(&mut self, call: &Call<'a, '_>) -> Result<Vec<Value<'a>>, String> {
        let node = call.node;
        if !matches!(node.domain, "" | "ai.onnx" | "com.microsoft") {
            let domain = node.domain;
            return Err(match domain.starts_with("com.microsoft") {
                true => OPTIMISED.to_owned(),
                false => format!("is of the operators `{domain}`, which are not supported"),
            });
        }
        let constants: Option<Vec<Option<Constant<'a>>>> = call
            .inputs
            .iter()
            .map(|input| match input {
                Some(Value::Constant(constant)) => Some(Some(constant.clone())),
                None => Some(None),
                _ => None,
            })
            .collect();
        if let Some(folded) = constants.and_then(|constants| fold(node, &constants, call.opset)) {
            let (constant, bytes) = folded?;
            self.steps.take(bytes)?;
            return Ok(vec![Value::Constant(constant)]);
        }
        let steps = &mut self.steps;
        let view = match node.op {
            "Conv" => {
                let view = windows::conv(steps, call)?;
                self.scales.weights(call, view.value);
                Ok(view)
            }
            "QuantizeLinear" => self.scales.quantize(steps, call),
            "MaxPool" | "AveragePool" => windows::pool(steps, call),
            "GlobalAveragePool" | "GlobalMaxPool" | "ReduceMean" | "ReduceMax" | "ReduceSum" => {
                windows::global(steps, call)
            }
            "Pad" => windows::pad(steps, call),
            "Gemm" => dense::gemm(steps, call),
            "MatMul" => dense::matmul(steps, call),
            "BatchNormalization" => elementwise::batch_norm(steps, call),
            "Add" | "Sub" | "Mul" | "Div" => elementwise::arithmetic(steps, call),
            "Sum" => elementwise::sum(steps, call),
            "Relu" | "Sigmoid" | "Tanh" | "HardSwish" | "LeakyRelu" | "Swish" | "Gelu" | "Erf" | "Neg"
            | "Clip" | "PRelu" | "HardSigmoid" => elementwise::activation(steps, call),
            "Concat" => shapes::concat(steps, call),
            "Slice" => shapes::slice(steps, call),
            "Gather" => shapes::gather(steps, call),
            "Reshape" => shapes::reshape(call),
            "Flatten" => shapes::flatten(call),
            "Squeeze" | "Unsqueeze" => shapes::squeeze(call),
            "Transpose" => shapes::transpose(call),
            "Softmax" | "LogSoftmax" | "ArgMax" => shapes::softmax(steps, call),
            "TopK" => {
                let made = Value::Image(shapes::softmax(steps, call)?);
                return Ok(vec![made.clone(), made]);
            }
            "Max" | "Min" => elementwise::bounded(steps, call),
            "Expand" => return Ok(vec![shapes::expand(call)?]),
            "Split" => {
                return Ok(shapes::split(steps, call)?.into_iter().map(Value::Image).collect());
            }
            "Shape" => return Ok(vec![Value::Constant(Constant::of_ints(shapes::shape(call)?))]),
            "Cast" => return Ok(vec![shapes::cast(steps, call)?]),
            "Identity" | "Dropout" | "DequantizeLinear" => return Ok(vec![shapes::same(call)?]),
            _ => return Err(not_supported(node)),
        };
        Ok(vec![Value::Image(view?)])
    }

    /// The flat value that the graph gives.
    fn output(&mut self, output: &ValueInfo<'a>) -> Result<View, ExchangeError> {
        let name = output.name;
        if !self.unsupported.is_empty() {
            let mut parts = std::mem::take(&mut self.unsupported);
            parts.extend(no_classes(output));
            return Err(ExchangeError::Unsupported { format: Format::Onnx.name(), parts });
        }
        let found = match self.values.get(name) {
            Some(Value::Image(view)) => view.clone(),
            _ => {
                return Err(damaged(&format!(
                    "nothing of the graph makes its output `{name}` from the images"
                )));
            }
        };
        let wide = found.axes.iter().filter(|axis| size(axis) > 1).count();
        let mut flat = Err(format!("is {}, {NO_CLASSIFIER}", found.text()));
        if wide <= 1 {
            flat = flattened(&mut self.steps, name, &found)
                .and_then(|view| ordered(&mut self.steps, name, &view));
        }
        flat.map_err(|reason| {
            let shapes = found.text();
            let part = Unsupported { node: name.to_owned(), op: "output".to_owned(), shapes, reason };
            ExchangeError::Unsupported { format: Format::Onnx.name(), parts: vec![part] }
        })
    }
}

/// Why an operator is none that is known here.
fn not_supported(node: &Node<'_>) -> String {
    let is_optimised = node.domain.starts_with("com.microsoft") || node.op.starts_with("QLinear");
    if is_optimised { OPTIMISED } else { "is not supported" }.to_owned()
}

const OPTIMISED: &str = "is an operator that ONNX Runtime puts in when it optimises or quantises a model; import the model \
     from before (or one that is quantised with `QuantFormat.QDQ`)";

/// Whether an operator is supported at all; what it can be given is said by each.
fn is_supported(op: &str) -> bool {
    const NAMES: &[&str] = &[
        "Add",
        "ArgMax",
        "AveragePool",
        "BatchNormalization",
        "Cast",
        "Ceil",
        "Clip",
        "Concat",
        "Constant",
        "ConstantOfShape",
        "Conv",
        "DequantizeLinear",
        "Div",
        "Dropout",
        "Equal",
        "Erf",
        "Expand",
        "Flatten",
        "Floor",
        "Gather",
        "Gelu",
        "Gemm",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "LogSoftmax",
        "MatMul",
        "Max",
        "MaxPool",
        "Min",
        "Mul",
        "Neg",
        "PRelu",
        "Pad",
        "Pow",
        "QuantizeLinear",
        "Reciprocal",
        "ReduceMax",
        "ReduceMean",
        "ReduceSum",
        "Relu",
        "Reshape",
        "Shape",
        "Sigmoid",
        "Slice",
        "Softmax",
        "Split",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Sum",
        "Swish",
        "Tanh",
        "TopK",
        "Transpose",
        "Unsqueeze",
        "Where",
    ];
    NAMES.contains(&op)
}

const NO_CLASSIFIER: &str = "not one number for each class: the network is no classifier (but a detector, say, or a part of a network)";

/// An output of the graph that says by its dimensions that it is not of classes.
fn no_classes(output: &ValueInfo<'_>) -> Option<Unsupported> {
    let dims = output.dims.as_deref()?;
    let wide = dims.iter().skip(1).filter(|dim| dim.is_some_and(|dim| dim > 1)).count();
    let one = |dim: &Option<i64>| dim.map_or("?".to_owned(), |dim| dim.to_string());
    let shapes = dims.iter().map(one).collect::<Vec<_>>().join("x");
    let reason = format!("is {shapes}, {NO_CLASSIFIER}");
    let (node, op) = (output.name.to_owned(), "output".to_owned());
    (wide > 1).then_some(Unsupported { node, op, shapes, reason })
}

/// The name of a node's weights without its last part, as PyTorch writes it, or the node's own.
fn layer_name(node: &Node<'_>, inputs: &[Option<Value<'_>>]) -> String {
    let weight = inputs.iter().flatten().find_map(|input| match input {
        Value::Constant(constant) => constant.name().strip_suffix(".weight"),
        _ => None,
    });
    let name = weight.unwrap_or_else(|| node.label().trim_start_matches('/'));
    name.chars().take(MAX_NAME).map(|c| if c == '/' { '.' } else { c }).collect()
}

/// Characters of a layer's name; layers that are made of several nodes append to it.
const MAX_NAME: usize = 100;

fn shape_text(value: &Value<'_>) -> Option<String> {
    match value {
        Value::Image(view) | Value::Expanded(view, _) => Some(view.text()),
        Value::Constant(constant) if constant.dims.is_empty() => Some("1".to_owned()),
        Value::Constant(constant) => {
            Some(constant.dims.iter().map(usize::to_string).collect::<Vec<_>>().join("x"))
        }
        Value::Unknown => None,
    }
}
