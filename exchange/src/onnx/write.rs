//! From a model to a file: layers in `N, C, H, W`, with what makes probabilities of logits, and pixels into the input.

use ocelli_engine::geometry::{Conv2dGeometry, PoolGeometry};
use ocelli_engine::graph::{Conv2d, Op, Pool2d};
use ocelli_engine::model_file::{ModelFile, to_f16};
use ocelli_engine::{Activation, EngineError, Graph, LayerScale, ParamKind, Quantization, Shape, ValueScale};

use super::field;
use super::message::{Attribute, floats, model, node, tensor, value};
use super::metadata::{
    CLASSES, LABELS, NAMES, PREPROCESSING, SEVERAL, SIZE, TEMPERATURE, THRESHOLDS, python_dictionary,
};
use super::tensor::kind;
use super::wire::Message;
use crate::error::ExchangeError;
use crate::target::{ExportOptions, Numbers, Target};

/// The bytes of a file with this model.
///
/// # Errors
/// [`ExchangeError::Export`] for numbers that the model has not.
pub(crate) fn export(file: &ModelFile, options: &ExportOptions) -> Result<Vec<u8>, ExchangeError> {
    let graph = file.model.graph();
    let shapes = graph.shapes()?;
    let quantization = match (options.numbers, &file.quantization) {
        (Numbers::Int8, None) => {
            return Err(refused("the model has no scales in 8 bits: run `ocelli quantize` on it first"));
        }
        (Numbers::Int8, Some(scales)) => Some(scales),
        _ => None,
    };
    let mut writer = Writer {
        file,
        graph,
        half: options.numbers == Numbers::F16,
        quantization,
        nodes: Vec::new(),
        constants: Message::default(),
        infos: Message::default(),
        values: Vec::new(),
        shapes,
    };
    writer.input(options.with_preprocess);
    for index in 0..graph.nodes.len() {
        writer.layer(index)?;
    }
    Ok(writer.finish(options.with_preprocess))
}

fn refused(reason: &str) -> ExchangeError {
    ExchangeError::Export { format: Target::Onnx.name(), reason: reason.to_owned() }
}

/// A value of the engine in the file.
#[derive(Clone)]
struct Written {
    name: String,
    /// Whether it has the dimensions `N, C` alone.
    is_flat: bool,
    /// The image that was flattened in the order of `C, H, W`, where that is not the engine's order.
    image: Option<Shape>,
}

struct Writer<'a> {
    file: &'a ModelFile,
    graph: &'a Graph,
    half: bool,
    quantization: Option<&'a Quantization>,
    nodes: Vec<Message>,
    constants: Message,
    infos: Message,
    values: Vec<Written>,
    shapes: Vec<Shape>,
}

impl Writer<'_> {
    fn constant(&mut self, message: &Message) {
        self.constants.message(field::GRAPH_INITIALIZER, message);
    }

    fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) {
        self.constant(&floats(name, dims, values));
    }

    fn ints(&mut self, name: &str, values: &[i64]) {
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(&tensor(name, &[values.len()], kind::INT64, &raw));
    }

    fn node(&mut self, name: &str, op: &str, inputs: &[&str], output: &str, attributes: &[Attribute<'_>]) {
        self.nodes.push(node(name, op, inputs, output, attributes));
    }

    /// States the shape of a value.
    fn info(&mut self, name: &str, shape: Shape, is_flat: bool) {
        let dims = dims(shape, is_flat);
        self.infos.message(field::GRAPH_VALUE_INFO, &value(name, kind::FLOAT, &dims));
    }

    /// The input, with its preprocessing where that is wanted.
    fn input(&mut self, with_preprocess: bool) {
        let shape = self.graph.input;
        let mut name = "image".to_owned();
        if with_preprocess {
            let c = shape.c as usize;
            let rule = &self.file.meta.preprocessing;
            self.floats("preprocess.unit", &[1], &[1.0 / 255.0]);
            self.floats("preprocess.mean", &[c], &rule.mean);
            self.floats("preprocess.std", &[c], &rule.std);
            let dims = [shape.h as usize, shape.w as usize, c];
            let to = [Attribute::Int("to", kind::FLOAT)];
            self.node("preprocess.cast", "Cast", &["pixels"], "preprocess.cast.y", &to);
            let mut last = "preprocess.cast.y".to_owned();
            for (op, constant) in
                [("Mul", "preprocess.unit"), ("Sub", "preprocess.mean"), ("Div", "preprocess.std")]
            {
                let y = format!("{constant}.y");
                self.infos.message(field::GRAPH_VALUE_INFO, &value(&last, kind::FLOAT, &dims));
                self.node(constant, op, &[&last, constant], &y, &[]);
                last = y;
            }
            self.infos.message(field::GRAPH_VALUE_INFO, &value(&last, kind::FLOAT, &dims));
            let order = [Attribute::Ints("perm", &[0, 3, 1, 2])];
            name = "preprocess.transpose.y".to_owned();
            self.node("preprocess.transpose", "Transpose", &[&last], &name, &order);
            self.info(&name, shape, false);
        }
        self.values.push(Written { name, is_flat: false, image: None });
        self.quantized(0);
    }

    /// The value as `N, C` or as `N, C, H, W`.
    fn reads(&mut self, index: usize, is_flat: bool) -> String {
        let Written { name, is_flat: flat, .. } = self.values[index].clone();
        if flat == is_flat {
            return name;
        }
        let suffix = if is_flat { "flat" } else { "pixel" };
        let y = format!("{name}.{suffix}.{}", self.nodes.len());
        if is_flat {
            self.node(&y, "Flatten", &[&name], &y, &[Attribute::Int("axis", 1)]);
        } else {
            let axes = format!("{y}.axes");
            self.ints(&axes, &[2, 3]);
            self.node(&y, "Unsqueeze", &[&name, &axes], &y, &[]);
        }
        self.info(&y, self.shapes[index], is_flat);
        y
    }

    /// What a layer that keeps the dimensions of its inputs reads: all as the first has them.
    fn reads_alike(&mut self, inputs: &[u32]) -> (Vec<String>, Written) {
        let first = self.values[inputs[0] as usize].clone();
        let names = inputs.iter().map(|&input| self.reads(input as usize, first.is_flat)).collect();
        (names, first)
    }

    fn param(&self, index: usize, kind: ParamKind) -> Option<&[f32]> {
        let entries = self.file.model.layout().entries();
        let entry = entries.iter().find(|entry| entry.node() == index && entry.kind == kind)?;
        Some(&self.file.model.params()[entry.range()])
    }

    fn layer(&mut self, index: usize) -> Result<(), ExchangeError> {
        let layer = &self.graph.nodes[index];
        let (name, shape) = (layer.name.clone(), self.shapes[index + 1]);
        let x = layer.inputs[0] as usize;
        let y = format!("{name}.y");
        let mut made = Written { name: y.clone(), is_flat: false, image: None };
        match &layer.op {
            Op::Conv2d(conv) => {
                let input = self.reads(x, false);
                self.conv(index, conv, &input, &y)?;
            }
            Op::MaxPool2d(pool) | Op::AvgPool2d(pool) => {
                let input = self.reads(x, false);
                let op = if matches!(layer.op, Op::MaxPool2d(_)) { "MaxPool" } else { "AveragePool" };
                self.pool(&name, (op, pool), &input, (&y, self.shapes[x]))?;
            }
            Op::GlobalAvgPool | Op::GlobalMaxPool => {
                let input = self.reads(x, false);
                let is_mean = matches!(layer.op, Op::GlobalAvgPool);
                let op = if is_mean { "GlobalAveragePool" } else { "GlobalMaxPool" };
                self.node(&name, op, &[&input], &y, &[]);
            }
            Op::Dense(dense) => {
                let input = self.reads(x, true);
                let image = self.values[x].image;
                let units = dense.units as usize;
                let weight = self.param(index, ParamKind::Weight).unwrap_or(&[]);
                let weight = rows(weight, image, units);
                self.weights(&format!("{name}.weight"), &[weight.len() / units, units], &weight);
                let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
                let mut inputs = vec![input.as_str(), &weight];
                if let Some(values) = self.param(index, ParamKind::Bias).map(<[f32]>::to_vec) {
                    self.floats(&bias, &[units], &values);
                    inputs.push(&bias);
                }
                self.node(&name, "Gemm", &inputs, &y, &[]);
                made.is_flat = true;
            }
            Op::BatchNorm(norm) => {
                if self.folds_into(x) {
                    made = self.values[x].clone();
                } else {
                    let (inputs, first) = self.reads_alike(&layer.inputs);
                    self.batch_norm(index, (&inputs[0], &y), norm.eps, norm.momentum);
                    made = Written { name: y, ..first };
                }
            }
            Op::Activation(kind) => {
                let (inputs, first) = self.reads_alike(&layer.inputs);
                self.activation(&name, *kind, &inputs[0], (&y, (shape, first.is_flat)));
                made = Written { name: y, ..first };
            }
            Op::Dropout { .. } => made = self.values[x].clone(),
            Op::Flatten => {
                let old = self.shapes[x];
                if old.h * old.w == 1 {
                    made = Written { name: self.reads(x, true), is_flat: true, image: None };
                } else {
                    let mut input = self.values[x].name.clone();
                    made = Written { is_flat: true, image: Some(old), ..made };
                    if !self.is_for_dense(index + 1) {
                        let order = format!("{name}.transpose");
                        self.node(
                            &order,
                            "Transpose",
                            &[&input],
                            &order,
                            &[Attribute::Ints("perm", &[0, 2, 3, 1])],
                        );
                        let turned = Shape { h: old.w, w: old.c, c: old.h };
                        self.info(&order, turned, false);
                        (input, made.image) = (order, None);
                    }
                    self.node(&name, "Flatten", &[&input], &y, &[Attribute::Int("axis", 1)]);
                }
            }
            Op::Add => {
                let (inputs, first) = self.reads_alike(&layer.inputs);
                self.node(&name, "Add", &[&inputs[0], &inputs[1]], &y, &[]);
                made = Written { name: y, ..first };
            }
            Op::Concat => {
                let (inputs, first) = self.reads_alike(&layer.inputs);
                let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                self.node(&name, "Concat", &inputs, &y, &[Attribute::Int("axis", 1)]);
                made = Written { name: y, ..first };
            }
            Op::ChannelScale => {
                let (inputs, first) = self.reads_alike(&layer.inputs);
                self.node(&name, "Mul", &[&inputs[0], &inputs[1]], &y, &[]);
                made = Written { name: y, ..first };
            }
            Op::ChannelGather { channels } => {
                let (inputs, first) = self.reads_alike(&layer.inputs);
                let places = format!("{name}.channels");
                self.ints(&places, &channels.iter().map(|&channel| i64::from(channel)).collect::<Vec<_>>());
                self.node(&name, "Gather", &[&inputs[0], &places], &y, &[Attribute::Int("axis", 1)]);
                made = Written { name: y, ..first };
            }
        }
        if made.name == format!("{name}.y") {
            self.info(&made.name, shape, made.is_flat);
        }
        self.values.push(made);
        self.quantized(index + 1);
        Ok(())
    }

    /// Whether all that reads a flattened image are dense layers, perhaps behind activations: their rows take its order.
    fn is_for_dense(&self, value: usize) -> bool {
        let readers = self.graph.nodes.iter().enumerate();
        let mut readers = readers.filter(|(_, node)| node.inputs.contains(&(value as u32))).peekable();
        let quantized = self.quantization.is_some_and(|all| scale_of(all, value).is_some());
        readers.peek().is_some()
            && !quantized
            && readers.all(|(index, node)| match node.op {
                Op::Dense(_) => true,
                Op::Activation(_) | Op::Dropout { .. } => self.is_for_dense(index + 1),
                _ => false,
            })
    }

    /// Weights in the numbers of the file.
    fn weights(&mut self, name: &str, dims: &[usize], values: &[f32]) {
        let halves: Vec<u16> =
            if self.half { values.iter().map(|&value| to_f16(value)).collect() } else { Vec::new() };
        // A weight past the largest f16 stays in f32, with its layer.
        if !self.half || halves.iter().any(|half| half & 0x7c00 == 0x7c00) {
            return self.floats(name, dims, values);
        }
        // Processors compute in f32: ONNX Runtime converts the constant once, when it loads the file.
        let stored = format!("{name}.f16");
        let raw: Vec<u8> = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
        self.constant(&tensor(&stored, dims, kind::FLOAT16, &raw));
        self.node(&format!("{name}.cast"), "Cast", &[&stored], name, &[Attribute::Int("to", kind::FLOAT)]);
    }

    fn conv(&mut self, index: usize, conv: &Conv2d, x: &str, y: &str) -> Result<(), EngineError> {
        let node = &self.graph.nodes[index];
        let name = node.name.clone();
        let input = node.inputs[0] as usize;
        let geometry = Conv2dGeometry::new(&name, self.shapes[input], conv)?;
        let (filters, inner) = (geometry.cout, geometry.cin / geometry.groups);
        let [kh, kw] = geometry.kernel;
        let (weights, bias) = self.folded(index, filters);
        let taps = kh * kw;
        let at = |co: usize, ci: usize, tap: usize| weights[(tap * inner + ci) * filters + co];
        let in_order = (0..filters)
            .flat_map(|co| (0..inner).flat_map(move |ci| (0..taps).map(move |tap| (co, ci, tap))));
        let moved: Vec<f32> = in_order.map(|(co, ci, tap)| at(co, ci, tap)).collect();
        let dims = [filters, inner, kh, kw];
        let (weight_name, bias_name) = (format!("{name}.weight"), format!("{name}.bias"));
        let layer = self.quantization.and_then(|all| {
            let layer = all.layers.iter().find(|layer| layer.node as usize == index)?;
            Some((layer, scale_of(all, self.root(input))?))
        });
        match layer {
            Some((layer, input)) => {
                let outer = filters / geometry.groups;
                let factor =
                    |co: usize, ci: usize| input.factors.get(co / outer * inner + ci).copied().unwrap_or(1.0);
                self.byte_weights(&name, (&dims, &moved), (layer, input, &factor), bias.as_deref());
            }
            None => {
                self.weights(&weight_name, &dims, &moved);
                if let Some(bias) = &bias {
                    self.floats(&bias_name, &[filters], bias);
                }
            }
        }
        let mut inputs = vec![x, weight_name.as_str()];
        inputs.extend(bias.as_ref().map(|_| bias_name.as_str()));
        let ints = |values: [usize; 2]| values.map(|value| value as i64);
        let [top, bottom, left, right] = geometry.padding.map(|pad| pad as i64);
        let attributes = [
            Attribute::Ints("kernel_shape", &ints(geometry.kernel)),
            Attribute::Ints("strides", &ints(geometry.stride)),
            Attribute::Ints("dilations", &ints(geometry.dilation)),
            Attribute::Ints("pads", &[top, left, bottom, right]),
            Attribute::Int("group", geometry.groups as i64),
        ];
        self.node(&name, "Conv", &inputs, y, &attributes);
        Ok(())
    }

    /// Weights and bias of a convolution, with the normalisation behind it where its bytes are those of both.
    fn folded(&self, index: usize, filters: usize) -> (Vec<f32>, Option<Vec<f32>>) {
        let mut weights = self.param(index, ParamKind::Weight).unwrap_or(&[]).to_vec();
        let mut bias = self.param(index, ParamKind::Bias).map(<[f32]>::to_vec);
        let layer =
            self.quantization.and_then(|all| all.layers.iter().find(|layer| layer.node as usize == index));
        let Some(layer) = layer else { return (weights, bias) };
        let own = bias.get_or_insert_with(|| vec![0.0; filters]);
        if self.folds_into(index + 1) {
            let norm = self.readers(index + 1).next().unwrap_or(0);
            let Op::BatchNorm(settings) = &self.graph.nodes[norm].op else { return (weights, bias) };
            let of = |kind| self.param(norm, kind).unwrap_or(&[]);
            let (scale, shift) = (of(ParamKind::Scale), of(ParamKind::Shift));
            let (mean, var) = (of(ParamKind::RunningMean), of(ParamKind::RunningVar));
            for co in 0..filters {
                let factor = scale[co] / (var[co] + settings.eps).sqrt();
                own[co] = (own[co] - mean[co]) * factor + shift[co];
                weights.iter_mut().skip(co).step_by(filters).for_each(|weight| *weight *= factor);
            }
        }
        own.iter_mut().zip(&layer.bias).for_each(|(bias, more)| *bias += more);
        (weights, bias)
    }

    fn readers(&self, value: usize) -> impl Iterator<Item = usize> {
        let nodes = self.graph.nodes.iter().enumerate();
        nodes.filter(move |(_, node)| node.inputs.contains(&(value as u32))).map(|(index, _)| index)
    }

    /// Whether a value is what a convolution in 8 bits makes and only a normalisation reads.
    fn folds_into(&self, value: usize) -> bool {
        let layers = self.quantization.map_or(&[][..], |all| &all.layers);
        let mut readers = self.readers(value);
        let reader = readers.next();
        layers.iter().any(|layer| layer.node as usize + 1 == value)
            && reader.is_some_and(|reader| matches!(self.graph.nodes[reader].op, Op::BatchNorm(_)))
            && readers.next().is_none()
    }

    /// The value whose scale a value has: through layers that change nothing.
    fn root(&self, mut value: usize) -> usize {
        while let Some(node) = value.checked_sub(1).map(|index| &self.graph.nodes[index]) {
            if !node.op.is_identity(false) {
                break;
            }
            value = node.inputs[0] as usize;
        }
        value
    }

    /// Weights and bias in bytes, or, where the input has a scale for each channel, which no operator takes, as what the
    /// bytes stand for.
    fn byte_weights(
        &mut self,
        name: &str,
        (dims, weights): (&[usize; 4], &[f32]),
        (layer, input, factor): (&LayerScale, &ValueScale, &dyn Fn(usize, usize) -> f32),
        bias: Option<&[f32]>,
    ) {
        let [filters, inner, kh, kw] = *dims;
        let taps = kh * kw;
        let split = |index: usize| (index / (inner * taps), index / taps % inner);
        let byte = |(index, weight): (usize, &f32)| {
            let (co, ci) = split(index);
            (weight * factor(co, ci) / layer.weights[co]).clamp(-127.0, 127.0).round_ties_even()
        };
        let bytes: Vec<f32> = weights.iter().enumerate().map(byte).collect();
        let (weight, bias_name) = (format!("{name}.weight"), format!("{name}.bias"));
        if !input.factors.is_empty() {
            let value = |(index, byte): (usize, &f32)| {
                let (co, ci) = split(index);
                byte * layer.weights[co] / factor(co, ci)
            };
            let values: Vec<f32> = bytes.iter().enumerate().map(value).collect();
            self.floats(&weight, dims, &values);
            if let Some(bias) = bias {
                self.floats(&bias_name, &[filters], bias);
            }
            return;
        }
        let raw: Vec<u8> = bytes.iter().map(|&byte| byte as i8 as u8).collect();
        self.dequantized(&weight, (kind::INT8, dims, &raw), &layer.weights);
        if let Some(bias) = bias {
            let scales: Vec<f32> = layer.weights.iter().map(|scale| scale * input.scale).collect();
            let sums = bias.iter().zip(&scales).map(|(bias, scale)| (bias / scale).round_ties_even() as i32);
            let raw: Vec<u8> = sums.flat_map(i32::to_le_bytes).collect();
            self.dequantized(&bias_name, (kind::INT32, &[filters], &raw), &scales);
        }
    }

    /// A constant in whole numbers with a scale for each place of its first dimension.
    fn dequantized(&mut self, name: &str, (kind, dims, raw): (i64, &[usize], &[u8]), scales: &[f32]) {
        let [stored, scale, zero] = ["quantized", "scale", "zero"].map(|part| format!("{name}.{part}"));
        self.constant(&tensor(&stored, dims, kind, raw));
        self.floats(&scale, &[scales.len()], scales);
        let zeros = vec![0; scales.len() * raw.len() / dims.iter().product::<usize>().max(1)];
        self.constant(&tensor(&zero, &[scales.len()], kind, &zeros));
        let axis = [Attribute::Int("axis", 0)];
        self.node(&format!("{name}.dequantize"), "DequantizeLinear", &[&stored, &scale, &zero], name, &axis);
    }

    /// Rounds a value to its bytes, where it has some.
    fn quantized(&mut self, value: usize) {
        let Some(scale) = self.quantization.and_then(|all| scale_of(all, value)).cloned() else { return };
        let Written { name, is_flat, image } = self.values[value].clone();
        let [scales, zero, bytes, y] =
            ["scale", "zero", "bytes", "rounded"].map(|part| format!("{name}.{part}"));
        let axis = [Attribute::Int("axis", 1)];
        let own: Vec<f32> = match scale.factors.is_empty() {
            true => vec![scale.scale],
            false => scale.factors.iter().map(|factor| factor * scale.scale).collect(),
        };
        let (dims, axis) = if own.len() == 1 { (vec![], &axis[..0]) } else { (vec![own.len()], &axis[..]) };
        self.floats(&scales, &dims, &own);
        self.constant(&tensor(&zero, &dims, kind::UINT8, &vec![scale.zero; own.len()]));
        self.node(&format!("{name}.quantize"), "QuantizeLinear", &[&name, &scales, &zero], &bytes, axis);
        self.node(&format!("{name}.dequantize"), "DequantizeLinear", &[&bytes, &scales, &zero], &y, axis);
        self.info(&y, self.shapes[value], is_flat);
        self.values[value] = Written { name: y, is_flat, image };
    }

    fn pool(
        &mut self,
        name: &str,
        (op, pool): (&str, &Pool2d),
        x: &str,
        (y, shape): (&str, Shape),
    ) -> Result<(), EngineError> {
        let geometry = PoolGeometry::new(name, shape, pool)?;
        let ints = |values: [usize; 2]| values.map(|value| value as i64);
        let [top, bottom, left, right] = geometry.padding.map(|pad| pad as i64);
        let attributes = [
            Attribute::Ints("kernel_shape", &ints(geometry.kernel)),
            Attribute::Ints("strides", &ints(geometry.stride)),
            Attribute::Ints("pads", &[top, left, bottom, right]),
        ];
        self.node(name, op, &[x], y, &attributes);
        Ok(())
    }

    fn batch_norm(&mut self, index: usize, (x, y): (&str, &str), eps: f32, momentum: f32) {
        let name = self.graph.nodes[index].name.clone();
        let kinds = [ParamKind::Scale, ParamKind::Shift, ParamKind::RunningMean, ParamKind::RunningVar];
        let names = kinds.map(|kind| format!("{name}.{}", kind.suffix()));
        for (kind, name) in kinds.into_iter().zip(&names) {
            let values = self.param(index, kind).unwrap_or(&[]).to_vec();
            self.floats(name, &[values.len()], &values);
        }
        let [scale, shift, mean, var] = names.each_ref().map(String::as_str);
        let attributes = [Attribute::Float("epsilon", eps), Attribute::Float("momentum", 1.0 - momentum)];
        self.node(&name, "BatchNormalization", &[x, scale, shift, mean, var], y, &attributes);
    }

    fn activation(
        &mut self,
        name: &str,
        kind: Activation,
        x: &str,
        (y, (shape, is_flat)): (&str, (Shape, bool)),
    ) {
        let part = |suffix: &str| format!("{name}.{suffix}");
        match kind {
            Activation::Relu => self.node(name, "Relu", &[x], y, &[]),
            Activation::Sigmoid => self.node(name, "Sigmoid", &[x], y, &[]),
            Activation::Tanh => self.node(name, "Tanh", &[x], y, &[]),
            Activation::HardSwish => self.node(name, "HardSwish", &[x], y, &[]),
            Activation::HardSigmoid => {
                let attributes = [Attribute::Float("alpha", 1.0 / 6.0), Attribute::Float("beta", 0.5)];
                self.node(name, "HardSigmoid", &[x], y, &attributes);
            }
            Activation::LeakyRelu { slope } => {
                self.node(name, "LeakyRelu", &[x], y, &[Attribute::Float("alpha", slope)]);
            }
            Activation::Relu6 => self.clip(name, x, y, [0.0, 6.0]),
            Activation::Clip { min, max } => self.clip(name, x, y, [min, max]),
            Activation::Silu => {
                let gate = part("sigmoid");
                self.node(&gate, "Sigmoid", &[x], &gate, &[]);
                self.info(&gate, shape, is_flat);
                self.node(name, "Mul", &[x, &gate], y, &[]);
            }
            Activation::Gelu => {
                let constants = [("root", std::f32::consts::FRAC_1_SQRT_2), ("one", 1.0), ("half", 0.5)];
                for (suffix, number) in constants {
                    self.floats(&part(suffix), &[], &[number]);
                }
                let [scaled, erf, sum, product] = ["scaled", "erf", "sum", "product"].map(part);
                self.node(&scaled, "Mul", &[x, &part("root")], &scaled, &[]);
                self.node(&erf, "Erf", &[&scaled], &erf, &[]);
                self.node(&sum, "Add", &[&erf, &part("one")], &sum, &[]);
                self.node(&product, "Mul", &[x, &sum], &product, &[]);
                for name in [scaled, erf, sum, product.clone()] {
                    self.info(&name, shape, is_flat);
                }
                self.node(name, "Mul", &[&product, &part("half")], y, &[]);
            }
        }
    }

    fn clip(&mut self, name: &str, x: &str, y: &str, bounds: [f32; 2]) {
        let names = ["min", "max"].map(|part| format!("{name}.{part}"));
        for (name, bound) in names.iter().zip(bounds) {
            self.floats(name, &[], &[bound]);
        }
        self.node(name, "Clip", &[x, &names[0], &names[1]], y, &[]);
    }

    /// The outputs and all around the graph.
    fn finish(mut self, with_preprocess: bool) -> Vec<u8> {
        let last = self.values.len() - 1;
        let meta = &self.file.meta;
        let classes = meta.classes.len();
        let flat = self.values[last].name.clone();
        self.node("logits", "Flatten", &[&flat], "logits", &[Attribute::Int("axis", 1)]);
        let mut scaled = "logits";
        if let Some(temperature) = meta.temperature {
            scaled = "calibrated";
            self.floats("temperature", &[], &[temperature]);
            self.node("calibrated", "Div", &["logits", "temperature"], scaled, &[]);
            self.infos.message(field::GRAPH_VALUE_INFO, &value(scaled, kind::FLOAT, &[classes]));
        }
        match meta.multi_label {
            Some(_) => self.node("probabilities", "Sigmoid", &[scaled], "probabilities", &[]),
            None => {
                let axis = [Attribute::Int("axis", 1)];
                self.node("probabilities", "Softmax", &[scaled], "probabilities", &axis);
            }
        }
        let input = self.graph.input;
        let dims = dims(input, false);
        let input = match with_preprocess {
            true => value("pixels", kind::UINT8, &[dims[1], dims[2], dims[0]]),
            false => value("image", kind::FLOAT, &dims),
        };
        let mut graph = Message::default();
        for node in &self.nodes {
            graph.message(field::GRAPH_NODE, node);
        }
        graph.text(field::GRAPH_NAME, if meta.name.is_empty() { "model" } else { &meta.name });
        graph.0.append(&mut self.constants.0);
        graph.message(field::GRAPH_INPUT, &input);
        for output in ["logits", "probabilities"] {
            graph.message(field::GRAPH_OUTPUT, &value(output, kind::FLOAT, &[classes]));
        }
        graph.0.append(&mut self.infos.0);
        let json = |value: serde_json::Result<String>| value.expect("names and numbers are JSON");
        let rule = &meta.preprocessing;
        let mut metadata = vec![
            (CLASSES, json(serde_json::to_string(&meta.classes))),
            (PREPROCESSING, json(serde_json::to_string(rule))),
            (NAMES, python_dictionary(&meta.classes)),
            (SIZE, format!("[{}, {}]", rule.height, rule.width)),
        ];
        metadata.extend(meta.temperature.map(|temperature| (TEMPERATURE, temperature.to_string())));
        if let Some(several) = &meta.multi_label {
            metadata.push((LABELS, SEVERAL.to_owned()));
            metadata.push((THRESHOLDS, json(serde_json::to_string(&several.thresholds))));
        }
        model(&graph, &metadata)
    }
}

fn scale_of(quantization: &Quantization, value: usize) -> Option<&ValueScale> {
    quantization.values.iter().find(|scale| scale.value as usize == value)
}

fn dims(shape: Shape, is_flat: bool) -> Vec<usize> {
    let [h, w, c] = [shape.h, shape.w, shape.c].map(|side| side as usize);
    if is_flat { vec![c] } else { vec![c, h, w] }
}

/// Weights `[inputs][units]` of a dense layer with their rows in the order of `C, H, W` of an image.
fn rows(weights: &[f32], image: Option<Shape>, units: usize) -> Vec<f32> {
    let Some(image) = image else { return weights.to_vec() };
    let [h, w, c] = [image.h, image.w, image.c].map(|side| side as usize);
    let mut moved = Vec::with_capacity(weights.len());
    for channel in 0..c {
        for pixel in 0..h * w {
            moved.extend_from_slice(&weights[(pixel * c + channel) * units..][..units]);
        }
    }
    moved
}
