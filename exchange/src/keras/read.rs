//! From the bytes of a file to a model: what is around the layers.

use ocelli_common::preprocessing::Fit;
use ocelli_engine::graph::{Dense, Op};
use ocelli_engine::{Activation, ParamKind, Shape};
use serde_json::Value;

use super::builder::Builder;
use super::draft::{Draft, Layer, Tensor};
use super::fields::{Fields, numbers, parse};
use super::hdf5::Hdf5;
use super::model::{ends_of, input_sides};
use super::weights::{Place, Weights};
use crate::archive::Packed;
use crate::error::{ExchangeError, Unsupported};
use crate::imported::{Format, Head, Import, ImportOptions, InputRule};

/// Bytes that small files may take for their configuration, whose text packs far better than weights.
const LEAST_CONFIG_BYTES: usize = 1 << 20;
/// Parameters that small files may have beyond their own: maps of channels become layers.
const LEAST_PARAMETERS: usize = 1 << 16;

/// What a file is made of.
struct Parts {
    format: Format,
    /// Bytes of the file, unpacked.
    len: usize,
    /// Version of Keras, and what it computed with, as far as the file says it.
    version: String,
    backend: Option<String>,
    config: Value,
    weights: Weights,
    /// What [`super::write`] left for us.
    ours: Value,
}

/// Reads a `.h5` file.
///
/// # Errors
/// [`ExchangeError`]
pub(super) fn h5(bytes: &[u8], options: &ImportOptions) -> Result<Import, ExchangeError> {
    let format = Format::KerasH5;
    let damaged = |reason: String| ExchangeError::Damaged { format: format.name(), reason };
    let file = Hdf5::open(bytes.to_vec()).map_err(damaged)?;
    let text = file.root_text("model_config").map_err(damaged)?;
    let Some(text) = text else {
        return Err(ExchangeError::Missing {
            what: "this .h5 file has weights but no network (`model_config`), as `save_weights` writes it: build the \
                   model in Keras, load the weights into it, and save the whole with `model.save(\"model.keras\")`"
                .to_owned(),
            option: "network",
        });
    };
    let config = parse(&text, 3 * bytes.len() + LEAST_CONFIG_BYTES).map_err(damaged)?;
    drop(text);
    let version = file.root_text("keras_version").map_err(damaged)?.unwrap_or_default();
    let backend = file.root_text("backend").map_err(damaged)?;
    let weights = Weights::named(file);
    read(Parts { format, len: bytes.len(), version, backend, config, weights, ours: Value::Null }, options)
}

/// Whether an archive is a `.keras` file.
pub(super) fn is_archive(bytes: &[u8]) -> bool {
    Packed::open(bytes).is_ok_and(|archive| archive.has("config.json"))
}

/// Reads a `.keras` file.
///
/// # Errors
/// [`ExchangeError`]
pub(super) fn archive(bytes: &[u8], options: &ImportOptions) -> Result<Import, ExchangeError> {
    let format = Format::Keras;
    let damaged = |reason: String| ExchangeError::Damaged { format: format.name(), reason };
    let mut archive = Packed::open(bytes).map_err(damaged)?;
    let mut member = |name: &str| {
        let bytes = archive.member(name).map_err(damaged)?;
        bytes.ok_or_else(|| damaged(format!("the archive has no member `{name}`")))
    };
    let weights = member("model.weights.h5")?;
    let len = bytes.len().max(weights.len());
    let mut json = |name: &str| {
        let text = String::from_utf8(member(name)?);
        let text = text.map_err(|_| damaged(format!("member `{name}` is no UTF-8")))?;
        parse(&text, 3 * len + LEAST_CONFIG_BYTES)
            .map_err(|error| damaged(format!("member `{name}`: {error}")))
    };
    let (config, metadata) = (json("config.json")?, json("metadata.json")?);
    let version = Fields(&metadata).text("keras_version").unwrap_or("").to_owned();
    let ours = metadata.get("ocelli").cloned().unwrap_or(Value::Null);
    let weights = Weights::numbered(Hdf5::open(weights).map_err(damaged)?);
    read(Parts { format, len, version, backend: None, config, weights, ours }, options)
}

fn read(parts: Parts, options: &ImportOptions) -> Result<Import, ExchangeError> {
    let Parts { format, len, version, backend, config, weights, ours } = parts;
    let format_name = format.name();
    let damaged = |reason: String| ExchangeError::Damaged { format: format_name, reason };
    let model = Fields(&config);
    let (input, sides, open_size) = input_shape(model, options, format_name)?;
    let (inputs, outputs) = ends_of(model);
    if (inputs, outputs) != (1, 1) {
        let part = Unsupported {
            node: model.inner("config").text("name").unwrap_or("model").to_owned(),
            op: model.text("class_name").unwrap_or("").to_owned(),
            shapes: String::new(),
            reason: format!("{inputs} inputs and {outputs} outputs; one of each is supported"),
        };
        return Err(ExchangeError::Unsupported { format: format_name, parts: vec![part] });
    }
    // Each weight twice: a layer that is used at two places.
    let most = len / 2 + LEAST_PARAMETERS;
    let mut builder = Builder {
        format: format_name,
        keras: version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(2),
        draft: Draft::new(input, most),
        weights,
        open_size,
        input_rule: None,
        fit: None,
        unsupported: Vec::new(),
        notes: Vec::new(),
    };
    let results = builder.model(model, vec![Some(Tensor::new(0, sides))], &Place::default())?;
    if !builder.unsupported.is_empty() {
        return Err(ExchangeError::Unsupported { format: format_name, parts: builder.unsupported });
    }
    let Some(Some(output)) = results.into_iter().next() else {
        return Err(damaged("the network has no output".to_owned()));
    };
    let (value, head) = builder.head(&output)?;
    let Builder { mut draft, input_rule, fit, notes, .. } = builder;
    let input = draft.shape(0);
    let value = fold_last_map(&mut draft, value);
    let network = draft.into_network(value)?;
    let rule = input_rule.filter(|rule| !rule.is_identity()).map(|rule| {
        // y = a x + b on 0..=255 is (x / 255 - mean) / std.
        let maps = (0..input.c as usize).map(|channel| rule.of(channel));
        maps.map(|(a, b)| ((-b / (255.0 * a)) as f32, (1.0 / (255.0 * a)) as f32)).unzip()
    });
    let ours = Fields(&ours);
    let list = |name: &str| -> Option<Vec<f32>> {
        let numbers = numbers(ours.get(name)?)?;
        (numbers.len() == input.c as usize).then(|| numbers.iter().map(|&v| v as f32).collect())
    };
    let mean_std = rule.or_else(|| list("mean").zip(list("std")));
    let fit = fit.or_else(|| ours.text("fit").and_then(|text| text.parse::<Fit>().ok()));
    let names = ours.list("classes").iter().map(|name| name.as_str().map(str::to_owned));
    let labels = names.collect::<Option<Vec<String>>>().filter(|names| !names.is_empty());
    let producer = match (version.as_str(), backend) {
        _ if ours.text("producer").is_some() => ours.text("producer").unwrap_or_default().to_owned(),
        ("", _) => "Keras".to_owned(),
        (version, Some(backend)) => format!("Keras {version} ({backend})"),
        (version, None) => format!("Keras {version}"),
    };
    let model = network.finish()?;
    let input = InputRule { mean_std, fit };
    Ok(Import {
        model,
        format,
        producer,
        head,
        labels,
        input,
        temperature: None,
        thresholds: None,
        quantization: None,
        notes,
    })
}

/// Shape of the input, its sides as Keras has them, and whether the file leaves height or width open.
fn input_shape(
    model: Fields,
    options: &ImportOptions,
    format: &'static str,
) -> Result<(Shape, Vec<u32>, bool), ExchangeError> {
    let damaged = |reason: &str| ExchangeError::Damaged { format, reason: reason.to_owned() };
    let sides = input_sides(model);
    let sides = sides.ok_or_else(|| {
        damaged("the network does not say the shape of its input: call it once in Keras and save it again")
    })?;
    let open = sides.len() > 1 && sides[..2].iter().any(Option::is_none) && options.size.is_none();
    let (h, w) = match options.size {
        Some((h, w)) => (Some(h), Some(w)),
        // Nothing is made from these before the size is known.
        None if open => (Some(1), Some(1)),
        None => (sides.first().copied().flatten(), sides.get(1).copied().flatten()),
    };
    let (shape, dims) = match sides[..] {
        [_, _, c] => (h.zip(w).zip(c), 3),
        [_, _] => (h.zip(w).zip(Some(1)), 2),
        [c] => (Some((1, 1)).zip(c), 1),
        _ => (None, 0),
    };
    let ((h, w), c) = shape.ok_or_else(|| {
        damaged("the input of the network is no image of height, width and a known number of channels")
    })?;
    let shape = Shape { h, w, c }.check("input")?;
    let dims = match dims {
        3 => vec![h, w, c],
        2 => vec![h, w],
        _ => vec![c],
    };
    Ok((shape, dims, open))
}

impl Builder {
    /// The value of the logits, and what Keras makes of them.
    fn head(&mut self, output: &Tensor) -> Result<(u32, Head), ExchangeError> {
        if output.softmax {
            return Ok((output.value, Head::Softmax));
        }
        let name = "logits";
        let value = match self.plain(name, output) {
            Ok(value) => value,
            Err(super::draft::Stop::Failed(error)) => return Err(error),
            Err(super::draft::Stop::Unsupported(reason)) => return Err(self.damaged(reason)),
        };
        let sigmoid = self.draft.activation(value).filter(|(f, _)| *f == Activation::Sigmoid);
        let logits = sigmoid.map_or(value, |(_, logits)| logits);
        let shape = self.draft.shape(logits);
        if shape != (Shape { h: 1, w: 1, c: 1 }) {
            return Ok((logits, if sigmoid.is_some() { Head::Sigmoid } else { Head::Logits }));
        }
        if sigmoid.is_none() {
            self.note(
                "the network ends with one number and no sigmoid: it was taken for the logit of the second of two classes"
                    .to_owned(),
            );
        }
        Ok((self.second_logit(logits)?, Head::Binary))
    }

    /// Two logits of one: the first is 0.
    fn second_logit(&mut self, value: u32) -> Result<u32, ExchangeError> {
        let params = vec![(ParamKind::Weight, vec![0.0, 1.0])];
        let dense = Op::Dense(Dense { units: 2, bias: false });
        let Some(Layer { op: Op::Dense(one), inputs, params: last, name }) = self.draft.layer(value) else {
            return self.draft.push("two_classes", dense, &[value], params);
        };
        let wide = last.iter().map(|(kind, values)| (*kind, values.iter().flat_map(|&v| [0.0, v]).collect()));
        let (bias, input, name, wide) = (one.bias, inputs[0], name.clone(), wide.collect());
        self.draft.push(&name, Op::Dense(Dense { units: 2, bias }), &[input], wide)
    }
}

/// A scale and shift of each logit behind a dense layer becomes part of it: a temperature. Returns the value of the logits.
fn fold_last_map(draft: &mut Draft, value: u32) -> u32 {
    let [.., dense, map] = &mut draft.layers[..] else { return value };
    let before = value.wrapping_sub(1);
    let is_map = match &map.op {
        Op::Conv2d(conv) => {
            conv.kernel == [1, 1] && conv.groups > 1 && conv.groups == conv.filters && conv.bias
        }
        _ => false,
    };
    let is_dense = matches!(&dense.op, Op::Dense(dense) if dense.bias);
    if !is_map || !is_dense || map.inputs != [before] {
        return value;
    }
    let values = |kind: ParamKind| map.params.iter().find(|(k, _)| *k == kind).map_or(&[][..], |(_, v)| v);
    let (scale, shift) = (values(ParamKind::Weight), values(ParamKind::Bias));
    for (kind, values) in &mut dense.params {
        for row in values.chunks_mut(scale.len()) {
            row.iter_mut().zip(scale).for_each(|(value, scale)| *value *= scale);
        }
        if *kind == ParamKind::Bias {
            values.iter_mut().zip(shift).for_each(|(value, shift)| *value += shift);
        }
    }
    before
}
