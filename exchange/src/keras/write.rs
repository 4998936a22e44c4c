//! `.keras` files that `keras.models.load_model` of Keras 3 opens: a functional model, layer for layer ours.
//!
//! Keras keeps flat vectors and images of one pixel apart, so that reshapes stand between them, and pads in layers of their
//! own. The last layer gives probabilities, as Keras' own classifiers do.

use std::collections::HashMap;

use ocelli_engine::geometry::{Conv2dGeometry, PoolGeometry};
use ocelli_engine::graph::{BatchNorm, Conv2d, Graph, Node, Op, Padding, Pool2d};
use ocelli_engine::model_file::{ModelFile, ModelMeta};
use ocelli_engine::{Activation, Model, Shape};
use serde_json::{Map, Value, json};

use super::draft::is_nonnegative;
use super::hdf5::{self, Tree};
use super::weights::group_name;
use crate::archive;
use crate::error::ExchangeError;
use crate::target::{ExportOptions, Numbers, Target};

/// Most weights of a convolution that does nothing but to sort channels: 64 MiB.
const MAX_SORTING_WEIGHTS: usize = 1 << 24;
/// The version whose layout this is; later ones read it.
const KERAS_VERSION: &str = "3.0.0";

fn refused(reason: impl Into<String>) -> ExchangeError {
    ExchangeError::Export { format: Target::Keras.name(), reason: reason.into() }
}

/// The bytes of a file.
///
/// # Errors
/// [`ExchangeError::Export`] for what Keras has no layer for, and for weights in other numbers than f32.
pub(super) fn archive(file: &ModelFile, options: &ExportOptions) -> Result<Vec<u8>, ExchangeError> {
    if options.numbers != Numbers::F32 {
        return Err(refused("Keras reads weights in 32 bits: leave --fp16 and --int8 out"));
    }
    let meta = &file.meta;
    let mut writer = Writer::new(&file.model);
    let mut input = writer.layer("InputLayer", "image", Map::new(), &[]);
    let shape = file.model.graph().input;
    writer.layers[input].config.insert("batch_shape".to_owned(), json!([null, shape.h, shape.w, shape.c]));
    writer.layers[input].sides = vec![shape.h, shape.w, shape.c];
    if options.with_preprocess {
        let scale: Vec<f32> = meta.preprocessing.std.iter().map(|std| 1.0 / (255.0 * std)).collect();
        let offset = meta
            .preprocessing
            .mean
            .iter()
            .zip(&meta.preprocessing.std)
            .map(|(mean, std)| -mean / std)
            .collect();
        input = writer.layer("Rescaling", "preprocess", rescaling(scale, offset), &[input]);
    }
    writer.values.push(input);
    for index in 0..file.model.graph().nodes.len() {
        writer.node(index)?;
    }
    let last = writer.values[writer.values.len() - 1];
    let mut last = writer.flat(last);
    if let Some(temperature) = meta.temperature.filter(|&temperature| temperature != 1.0) {
        let config = rescaling(vec![1.0 / temperature], vec![0.0]);
        last = writer.layer("Rescaling", "temperature", config, &[last]);
    }
    let end = if meta.multi_label.is_some() { "sigmoid" } else { "softmax" };
    writer.layer("Activation", "probabilities", object(json!({ "activation": end })), &[last]);
    writer.finish(meta, options.with_preprocess)
}

/// A layer of Keras.
struct Layer {
    class: &'static str,
    name: String,
    config: Map<String, Value>,
    inputs: Vec<usize>,
    /// Sides without the batch.
    sides: Vec<u32>,
    /// Variables in Keras' order.
    variables: Vec<(Vec<usize>, Vec<f32>)>,
    /// What is taken of the input by an operation that is no layer.
    slice: Option<Value>,
}

/// The layers so far.
struct Writer<'a> {
    model: &'a Model,
    shapes: Vec<Shape>,
    layers: Vec<Layer>,
    /// Which layer makes each value of the graph.
    values: Vec<usize>,
    names: HashMap<String, usize>,
}

impl<'a> Writer<'a> {
    fn new(model: &'a Model) -> Self {
        let shapes = model.graph().shapes().expect("the graph of a model has shapes");
        Writer { model, shapes, layers: Vec::new(), values: Vec::new(), names: HashMap::new() }
    }

    fn graph(&self) -> &'a Graph {
        self.model.graph()
    }

    /// Appends a layer whose output has the sides of its first input.
    fn layer(
        &mut self,
        class: &'static str,
        name: &str,
        config: Map<String, Value>,
        inputs: &[usize],
    ) -> usize {
        // Keras makes paths of names.
        let name = self.free_name(&name.replace('/', "_"));
        let sides = inputs.first().map_or_else(Vec::new, |&input| self.layers[input].sides.clone());
        let (inputs, variables) = (inputs.to_vec(), Vec::new());
        self.layers.push(Layer { class, name, config, inputs, sides, variables, slice: None });
        self.layers.len() - 1
    }

    fn free_name(&mut self, name: &str) -> String {
        let seen = self.names.entry(name.to_owned()).or_insert(0);
        *seen += 1;
        match *seen {
            1 => name.to_owned(),
            number => self.free_name(&format!("{name}_{number}")),
        }
    }

    /// A value of one pixel as a vector.
    fn flat(&mut self, layer: usize) -> usize {
        match self.layers[layer].sides[..] {
            [1, 1, c] => self.reshape(layer, vec![c]),
            _ => layer,
        }
    }

    /// A vector as an image of one pixel.
    fn image(&mut self, layer: usize) -> usize {
        match self.layers[layer].sides[..] {
            [c] => self.reshape(layer, vec![1, 1, c]),
            _ => layer,
        }
    }

    fn reshape(&mut self, layer: usize, sides: Vec<u32>) -> usize {
        let name = format!("{}_reshape", self.layers[layer].name);
        let y = self.layer("Reshape", &name, object(json!({ "target_shape": sides })), &[layer]);
        self.layers[y].sides = sides;
        y
    }

    /// The parameters of a node in the order of its operation.
    fn parameters(&self, node: usize) -> Vec<(Vec<usize>, Vec<f32>)> {
        let entries = self.model.layout().entries().iter().filter(|entry| entry.node() == node);
        entries.map(|entry| (entry.shape.clone(), self.model.params()[entry.range()].to_vec())).collect()
    }

    /// Appends the layers of a node.
    fn node(&mut self, index: usize) -> Result<(), ExchangeError> {
        let Node { name, op, inputs } = &self.graph().nodes[index];
        let x: Vec<usize> = inputs.iter().map(|&input| self.values[input as usize]).collect();
        let Shape { h, w, c } = self.shapes[index + 1];
        let y = match op {
            Op::Conv2d(conv) => self.conv2d(index, conv, x[0])?,
            Op::MaxPool2d(pool) => self.pool(index, pool, x[0], true)?,
            Op::AvgPool2d(pool) => self.pool(index, pool, x[0], false)?,
            Op::GlobalAvgPool | Op::GlobalMaxPool => {
                let max = matches!(op, Op::GlobalMaxPool);
                let class = if max { "GlobalMaxPooling2D" } else { "GlobalAveragePooling2D" };
                let x = self.image(x[0]);
                let y = self.layer(class, name, Map::new(), &[x]);
                self.layers[y].sides = vec![c];
                y
            }
            Op::Dense(dense) => {
                let x = self.flat(x[0]);
                let config = json!({ "units": dense.units, "use_bias": dense.bias });
                let y = self.layer("Dense", name, object(config), &[x]);
                self.layers[y].sides = vec![c];
                self.layers[y].variables = self.parameters(index);
                y
            }
            Op::BatchNorm(BatchNorm { momentum, eps }) => {
                let config = json!({ "axis": -1, "momentum": 1.0 - momentum, "epsilon": eps });
                let y = self.layer("BatchNormalization", name, object(config), &[x[0]]);
                self.layers[y].variables = self.parameters(index);
                y
            }
            Op::Activation(activation) => self.activation(name, *activation, x[0]),
            Op::Dropout { rate } => self.layer("Dropout", name, object(json!({ "rate": rate })), &[x[0]]),
            Op::Flatten => match self.layers[x[0]].sides[..] {
                [_] => x[0],
                _ => {
                    let y = self.layer("Flatten", name, Map::new(), &[x[0]]);
                    self.layers[y].sides = vec![c];
                    y
                }
            },
            Op::Add | Op::Concat => {
                let class = if matches!(op, Op::Add) { "Add" } else { "Concatenate" };
                let images = x.iter().map(|&x| self.image(x)).collect::<Vec<usize>>();
                let y = self.layer(class, name, Map::new(), &images);
                self.layers[y].sides = vec![h, w, c];
                y
            }
            Op::ChannelScale => {
                let (x, gate) = (self.image(x[0]), self.image(x[1]));
                self.layer("Multiply", name, Map::new(), &[x, gate])
            }
            Op::ChannelGather { channels } => self.gather(index, channels, x[0])?,
        };
        self.values.push(y);
        Ok(())
    }

    fn conv2d(&mut self, index: usize, conv: &Conv2d, x: usize) -> Result<usize, ExchangeError> {
        let node = &self.graph().nodes[index];
        let input = self.shapes[node.inputs[0] as usize];
        if conv.stride.iter().any(|&s| s > 1) && conv.dilation.iter().any(|&d| d > 1) {
            let reason = format!("convolution `{}`: Keras has no dilation together with a stride", node.name);
            return Err(refused(reason));
        }
        let geometry = Conv2dGeometry::new(&node.name, input, conv)?;
        let x = self.image(x);
        let (x, padding) = self.padded(&node.name, x, conv.padding, geometry.padding);
        let mut config = json!({
            "kernel_size": conv.kernel, "strides": conv.stride, "dilation_rate": conv.dilation,
            "padding": padding, "use_bias": conv.bias,
        });
        // TensorFlow has depthwise convolutions with one stride for both sides.
        let depthwise = conv.groups > 1 && conv.groups == input.c && conv.stride[0] == conv.stride[1];
        let mut variables = self.parameters(index);
        if depthwise {
            let multiplier = conv.filters / conv.groups;
            config["depth_multiplier"] = json!(multiplier);
            let [kh, kw] = conv.kernel.map(|side| side as usize);
            variables[0].0 = vec![kh, kw, input.c as usize, multiplier as usize];
        } else {
            config["filters"] = json!(conv.filters);
            config["groups"] = json!(conv.groups);
        }
        let class = if depthwise { "DepthwiseConv2D" } else { "Conv2D" };
        let y = self.layer(class, &node.name, object(config), &[x]);
        let Shape { h, w, c } = self.shapes[index + 1];
        self.layers[y].sides = vec![h, w, c];
        self.layers[y].variables = variables;
        Ok(y)
    }

    /// Zeros around a value in a layer of their own, unless Keras' words for padding mean the same.
    fn padded(&mut self, name: &str, x: usize, padding: Padding, pad: [usize; 4]) -> (usize, &'static str) {
        match padding {
            _ if pad == [0; 4] => (x, "valid"),
            Padding::Same => (x, "same"),
            _ => {
                let [top, bottom, left, right] = pad.map(|side| side as u32);
                let config = object(json!({ "padding": [[top, bottom], [left, right]] }));
                let y = self.layer("ZeroPadding2D", &format!("{name}_pad"), config, &[x]);
                let sides = &mut self.layers[y].sides;
                sides[0] += top + bottom;
                sides[1] += left + right;
                (y, "valid")
            }
        }
    }

    fn pool(&mut self, index: usize, pool: &Pool2d, x: usize, max: bool) -> Result<usize, ExchangeError> {
        let node = &self.graph().nodes[index];
        let input = self.shapes[node.inputs[0] as usize];
        let pad = PoolGeometry::new(&node.name, input, pool)?.padding;
        let same = Pool2d { padding: Padding::Same, ..pool.clone() };
        let same = PoolGeometry::new(&node.name, input, &same).is_ok_and(|same| same.padding == pad);
        let padding = if same { Padding::Same } else { pool.padding };
        let zeros = !same && pad != [0; 4];
        let graph = self.graph();
        let layer = |value: u32| {
            let node = graph.nodes.get((value as usize).checked_sub(1)?)?;
            Some((&node.op, &node.inputs[..]))
        };
        if zeros && (!max || !is_nonnegative(node.inputs[0], &layer)) {
            let reason =
                format!("pool `{}`: Keras has no pool with {pad:?} rows and columns around", node.name);
            return Err(refused(reason));
        }
        let x = self.image(x);
        let (x, padding) = self.padded(&node.name, x, padding, pad);
        let config = json!({ "pool_size": pool.kernel, "strides": pool.stride, "padding": padding });
        let class = if max { "MaxPooling2D" } else { "AveragePooling2D" };
        let y = self.layer(class, &node.name, object(config), &[x]);
        let Shape { h, w, c } = self.shapes[index + 1];
        self.layers[y].sides = vec![h, w, c];
        Ok(y)
    }

    fn activation(&mut self, name: &str, activation: Activation, x: usize) -> usize {
        let by_name = |text: &str| object(json!({ "activation": text }));
        let config = match activation {
            Activation::Relu => by_name("relu"),
            Activation::Relu6 => by_name("relu6"),
            Activation::Gelu => by_name("gelu"),
            Activation::Silu => by_name("silu"),
            Activation::Sigmoid => by_name("sigmoid"),
            Activation::HardSigmoid => by_name("hard_sigmoid"),
            Activation::HardSwish => by_name("hard_silu"),
            Activation::Tanh => by_name("tanh"),
            Activation::LeakyRelu { slope } => {
                return self.layer("LeakyReLU", name, object(json!({ "negative_slope": slope })), &[x]);
            }
            Activation::Clip { min, max } => return self.clip(name, min, max, x),
        };
        self.layer("Activation", name, config, &[x])
    }

    /// `min(max(x, min), max)` by a ReLU from 0 to a largest value.
    fn clip(&mut self, name: &str, min: f32, max: f32, x: usize) -> usize {
        let largest = (max - min).is_finite().then_some(max - min);
        // Without a least value the ReLU works on `max - x`.
        let (sign, start) = if min.is_finite() { (1.0, min) } else { (-1.0, max) };
        let mut y = x;
        if (sign, start) != (1.0, 0.0) {
            let config = rescaling(vec![sign], vec![-sign * start]);
            y = self.layer("Rescaling", &format!("{name}_before"), config, &[y]);
        }
        y = self.layer("ReLU", name, object(json!({ "max_value": largest })), &[y]);
        if (sign, start) != (1.0, 0.0) {
            y = self.layer("Rescaling", &format!("{name}_behind"), rescaling(vec![sign], vec![start]), &[y]);
        }
        y
    }

    /// Channels in another order: a slice where they follow each other in even steps, else a convolution of zeros and ones.
    fn gather(&mut self, index: usize, channels: &[u32], x: usize) -> Result<usize, ExchangeError> {
        let node = &self.graph().nodes[index];
        let cin = self.shapes[node.inputs[0] as usize].c as usize;
        let Shape { h, w, c } = self.shapes[index + 1];
        let x = self.image(x);
        let step = channels.get(1).map_or(1, |&second| i64::from(second) - i64::from(channels[0]));
        let even = channels.windows(2).all(|pair| i64::from(pair[1]) - i64::from(pair[0]) == step);
        let y = if even && step > 0 {
            let last = channels[channels.len() - 1];
            let slice = json!({ "start": channels[0], "stop": last + 1, "step": step });
            let slice = json!({ "class_name": "__slice__", "config": slice });
            let y = self.layer("GetItem", &node.name, Map::new(), &[x]);
            self.layers[y].slice = Some(json!([{ "class_name": "__ellipsis__", "config": {} }, slice]));
            y
        } else {
            let cout = channels.len();
            if cin * cout > MAX_SORTING_WEIGHTS {
                return Err(refused(format!("`{}` sorts too many channels for Keras", node.name)));
            }
            let mut weight = vec![0.0; cin * cout];
            channels.iter().enumerate().for_each(|(to, &from)| weight[from as usize * cout + to] = 1.0);
            let config = json!({ "filters": cout, "kernel_size": [1, 1], "use_bias": false });
            let y = self.layer("Conv2D", &node.name, object(config), &[x]);
            self.layers[y].variables = vec![(vec![1, 1, cin, cout], weight)];
            y
        };
        self.layers[y].sides = vec![h, w, c];
        Ok(y)
    }

    /// The archive.
    fn finish(mut self, meta: &ModelMeta, with_preprocess: bool) -> Result<Vec<u8>, ExchangeError> {
        let order = keras_order(&self.layers);
        let described: Vec<Value> = order.iter().map(|&index| self.describe(index)).collect();
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        let mut groups = Vec::new();
        for index in order {
            let layer = &mut self.layers[index];
            if layer.slice.is_some() {
                continue;
            }
            let next = numbers.entry(layer.class).or_insert(0);
            let name = group_name(layer.class, *next);
            *next += 1;
            let mut vars = Tree::default();
            for (number, (shape, values)) in std::mem::take(&mut layer.variables).into_iter().enumerate() {
                let shape = shape.iter().map(|&side| side as u64).collect();
                vars.arrays.push((number.to_string(), shape, values));
            }
            let tree = Tree { groups: vec![("vars".to_owned(), vars)], ..Tree::default() };
            groups.push((name, tree));
        }
        let root = vec![
            ("layers".to_owned(), Tree { groups, ..Tree::default() }),
            ("vars".to_owned(), Tree::default()),
        ];
        let weights = hdf5::write(Tree { groups: root, ..Tree::default() }).map_err(refused)?;
        let end = |index: usize| json!([self.layers[index].name, 0, 0]);
        let model = json!({
            "module": "keras.src.models.functional",
            "class_name": "Functional",
            "registered_name": "Functional",
            "config": {
                "name": "ocelli",
                "trainable": true,
                "layers": described,
                "input_layers": end(0),
                "output_layers": end(self.layers.len() - 1),
            },
        });
        // Keras reads the version at most; the rest is for those who prepare images, our importer among them.
        let ours = &meta.preprocessing;
        let metadata = json!({
            "keras_version": KERAS_VERSION,
            "ocelli": {
                "name": meta.name,
                "producer": concat!("ocelli ", env!("CARGO_PKG_VERSION")),
                "classes": meta.classes,
                "mean": ours.mean,
                "std": ours.std,
                "fit": ours.fit.to_string(),
                "input": if with_preprocess { "pixels of 0 to 255" } else { "(pixels / 255 - mean) / std" },
            },
        });
        let members = [
            ("metadata.json", metadata.to_string().into_bytes()),
            ("config.json", model.to_string().into_bytes()),
            ("model.weights.h5", weights),
        ];
        archive::write(&members.map(|(name, bytes)| (name.to_owned(), bytes))).map_err(refused)
    }

    /// A layer as the configuration has it.
    fn describe(&self, index: usize) -> Value {
        let layer = &self.layers[index];
        let tensor = |&input: &usize| {
            let from = &self.layers[input];
            let shape: Vec<Option<u32>> =
                std::iter::once(None).chain(from.sides.iter().copied().map(Some)).collect();
            let config = json!({ "shape": shape, "dtype": "float32", "keras_history": [from.name, 0, 0] });
            json!({ "class_name": "__keras_tensor__", "config": config })
        };
        let mut args: Vec<Value> = layer.inputs.iter().map(tensor).collect();
        if matches!(layer.class, "Add" | "Concatenate" | "Multiply") {
            args = vec![Value::Array(args)];
        }
        args.extend(layer.slice.clone());
        let nodes = if index == 0 { json!([]) } else { json!([{ "args": args, "kwargs": {} }]) };
        let mut config = layer.config.clone();
        config.insert("name".to_owned(), json!(layer.name));
        let (module, registered) = match layer.slice.is_some() {
            true => ("keras.src.ops.numpy", Some(layer.class)),
            false => ("keras.layers", None),
        };
        json!({
            "module": module, "class_name": layer.class, "config": config, "registered_name": registered,
            "name": layer.name, "inbound_nodes": nodes,
        })
    }
}

/// The order in which Keras lists and numbers the layers of a functional model: those furthest from the output first, and
/// among equals the one first that a walk back from the output meets first.
fn keras_order(layers: &[Layer]) -> Vec<usize> {
    let mut depth = vec![0; layers.len()];
    for (index, layer) in layers.iter().enumerate().rev() {
        for &input in &layer.inputs {
            depth[input] = depth[input].max(depth[index] + 1);
        }
    }
    let mut met = vec![usize::MAX; layers.len()];
    let mut count = 0;
    let mut open = vec![layers.len() - 1];
    while let Some(index) = open.pop() {
        if met[index] == usize::MAX {
            met[index] = count;
            count += 1;
            open.extend(layers[index].inputs.iter().rev());
        }
    }
    let mut order: Vec<usize> = (0..layers.len()).collect();
    order.sort_by_key(|&index| (std::cmp::Reverse(depth[index]), met[index]));
    order
}

/// The settings of `scale x + offset`; one number for all channels where they are equal.
fn rescaling(scale: Vec<f32>, offset: Vec<f32>) -> Map<String, Value> {
    let one = |values: Vec<f32>| match values.iter().all(|value| *value == values[0]) {
        true => json!(values[0]),
        false => json!(values),
    };
    object(json!({ "scale": one(scale), "offset": one(offset) }))
}

/// The fields of an object.
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
