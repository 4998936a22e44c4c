//! From the class of a layer to the function that makes it.

use ocelli_common::preprocessing::Fit;
use ocelli_engine::Shape;
use ocelli_engine::graph::Op;
use serde_json::Value;

use super::activation::Function;
use super::builder::{Arg, Builder, Call};
use super::draft::{Affine, Stop, Tensor};
use super::elementwise::Arithmetic;
use super::fields::numbers;

/// What a class does, as far as it is told here by the class alone.
enum Kind {
    /// Reads one value.
    One(fn(&mut Builder, &Call, &Tensor) -> Result<Tensor, Stop>),
    /// Joins values of one or several shapes.
    Join(fn(&mut Builder, &Call, &[&Tensor]) -> Result<Tensor, Stop>),
    /// Arithmetic on values and constants.
    Arithmetic(Arithmetic),
}

impl Builder {
    /// The value of a layer that is called.
    pub(super) fn call(&mut self, call: &Call) -> Result<Tensor, Stop> {
        let tensors: Vec<&Tensor> = call
            .args
            .iter()
            .filter_map(|arg| match arg {
                Arg::Tensor(tensor) => Some(tensor),
                _ => None,
            })
            .collect();
        match kind(call) {
            Some(Kind::Arithmetic(op)) => {
                let values: Vec<Arg> =
                    call.args.iter().filter(|arg| !matches!(arg, Arg::Other(..))).cloned().collect();
                self.arithmetic(&Call { args: &values, place: call.place.clone(), ..*call }, op)
            }
            Some(Kind::Join(join)) => join(self, call, &tensors),
            Some(Kind::One(one)) => match tensors[..] {
                [x] => one(self, call, x),
                _ => Err(Stop::Unsupported(format!("reads {} values, not one", tensors.len()))),
            },
            None => Err(unknown(call.class)),
        }
    }
}

/// Why a class is not supported.
pub(super) fn unknown(class: &str) -> Stop {
    Stop::Unsupported(match class {
        "Lambda" => "Python code in the file is never run: put a layer of Keras in its place".to_owned(),
        "TensorFlowOpLayer" => {
            "an operation as TensorFlow 2.3 and earlier wrote it: save the model again with a later version"
                .to_owned()
        }
        _ => "this kind of layer is not supported".to_owned(),
    })
}

/// Whether [`Builder::call`] knows the class.
pub(super) fn is_known(call: &Call) -> bool {
    kind(call).is_some()
}

fn kind(call: &Call) -> Option<Kind> {
    let class = call.class;
    Some(match class {
        "Conv2D" | "Convolution2D" => Kind::One(|b, call, x| b.conv2d(call, x)),
        "DepthwiseConv2D" => Kind::One(|b, call, x| b.depthwise_conv2d(call, x)),
        "SeparableConv2D" | "SeparableConvolution2D" => Kind::One(|b, call, x| b.separable_conv2d(call, x)),
        "Dense" => Kind::One(|b, call, x| b.dense(call, x)),
        "BatchNormalization" | "BatchNormalizationV1" | "BatchNormalizationV2" | "SyncBatchNormalization" => {
            Kind::One(|b, call, x| b.batch_norm(call, x))
        }
        "Normalization" => Kind::One(|b, call, x| b.normalization(call, x)),
        "Rescaling" => Kind::One(rescaling),
        "MaxPooling2D" | "MaxPool2D" => Kind::One(|b, call, x| b.pool(call, x, true)),
        "AveragePooling2D" | "AvgPool2D" => Kind::One(|b, call, x| b.pool(call, x, false)),
        "GlobalAveragePooling2D" | "GlobalAvgPool2D" => {
            Kind::One(|b, call, x| b.global_pool(call, x, Op::GlobalAvgPool))
        }
        "GlobalMaxPooling2D" | "GlobalMaxPool2D" => {
            Kind::One(|b, call, x| b.global_pool(call, x, Op::GlobalMaxPool))
        }
        "ZeroPadding2D" => Kind::One(|b, call, x| b.zero_padding(call, x)),
        "PReLU" => Kind::One(|b, call, x| b.prelu(call, x)),
        "Activation" => Kind::One(|b, call, x| {
            let function = Function::of_setting(call.config.get("activation"), b.keras)?;
            b.activate(call.name, &function, x)
        }),
        "ReLU" | "LeakyReLU" | "Softmax" | "Relu" | "Relu6" | "Sigmoid" | "Silu" | "HardSigmoid"
        | "HardSilu" | "Tanh" | "Gelu" | "LeakyRelu" => Kind::One(|b, call, x| {
            let function = Function::of_layer(call.class, call.config, b.keras)?;
            b.activate(call.name, &function.unwrap_or(Function::Linear), x)
        }),
        "Dropout" => Kind::One(dropout),
        "Identity"
        | "ActivityRegularization"
        | "SpatialDropout2D"
        | "AlphaDropout"
        | "GaussianNoise"
        | "GaussianDropout"
        | "Cast"
        | "RandomHeight"
        | "RandomWidth" => Kind::One(left_out),
        "RandomCrop" | "Resizing" | "CenterCrop" => Kind::One(sized),
        _ if class.starts_with("Random") || class == "MixUp" || class == "CutMix" || class == "AugMix" => {
            Kind::One(left_out)
        }
        "Flatten" => Kind::One(|b, call, x| b.flatten(call.name, x)),
        "Reshape" => Kind::One(|b, call, x| {
            let target = [call.config.list("target_shape"), call.config.list("newshape")].concat();
            b.reshape(call, x, &target)
        }),
        "Concatenate" => Kind::Join(|b, call, values| b.concatenate(call, values)),
        "Average" => Kind::Join(|b, call, values| b.average(call.name, values)),
        "Add" if !has_constant(call) => Kind::Join(|b, call, values| b.sum(call.name, values)),
        "Multiply" if !has_constant(call) => Kind::Join(product),
        "Add" => Kind::Arithmetic(Arithmetic::Add),
        "Multiply" => Kind::Arithmetic(Arithmetic::Multiply),
        "Subtract" => Kind::Arithmetic(Arithmetic::Subtract),
        "TrueDivide" | "Divide" => Kind::Arithmetic(Arithmetic::Divide),
        "GetItem" | "SlicingOpLambda" => Kind::One(slice),
        "TFOpLambda" => return of_function(call.config.text("function")?),
        _ => return None,
    })
}

/// A function of TensorFlow by its name, as files of Keras 2 have it.
fn of_function(name: &str) -> Option<Kind> {
    fn activation(b: &mut Builder, call: &Call, x: &Tensor) -> Result<Tensor, Stop> {
        let name = call.config.text("function").unwrap_or("");
        let function = Function::of_name(name.rsplit('.').next().unwrap_or(name), b.keras)?;
        b.activate(call.name, &function, x)
    }
    Some(match name {
        "math.add" | "__operators__.add" | "nn.bias_add" => Kind::Arithmetic(Arithmetic::Add),
        "math.subtract" => Kind::Arithmetic(Arithmetic::Subtract),
        "math.multiply" => Kind::Arithmetic(Arithmetic::Multiply),
        "math.truediv" | "math.divide" => Kind::Arithmetic(Arithmetic::Divide),
        "cast" | "identity" => Kind::One(|_, _, x| Ok(x.clone())),
        "nn.relu" | "nn.relu6" | "nn.silu" | "nn.swish" | "nn.sigmoid" | "math.sigmoid" | "nn.softmax"
        | "nn.tanh" | "math.tanh" => Kind::One(activation),
        "__operators__.getitem" | "compat.v1.strided_slice" => Kind::One(slice),
        _ => return None,
    })
}

fn has_constant(call: &Call) -> bool {
    call.args.iter().any(|arg| matches!(arg, Arg::Constant(_)))
}

fn product(b: &mut Builder, call: &Call, values: &[&Tensor]) -> Result<Tensor, Stop> {
    match values {
        [first, second, rest @ ..] => {
            let start = b.product(call.name, first, second)?;
            rest.iter().try_fold(start, |product, x| b.product(call.name, &product, x))
        }
        _ => Err(Stop::Unsupported("multiplies fewer than two values".to_owned())),
    }
}

fn rescaling(b: &mut Builder, call: &Call, x: &Tensor) -> Result<Tensor, Stop> {
    let numbers = |name: &str, default: f64| match call.config.get(name) {
        None => Ok(vec![default]),
        Some(value) => numbers(value)
            .ok_or_else(|| Stop::Unsupported(format!("`{name}` is no number and no list of them"))),
    };
    let by = Affine { scale: numbers("scale", 1.0)?, shift: numbers("offset", 0.0)? };
    b.affine(call.name, x, &by)
}

/// Dropout stays, for whoever trains on; what is dropped in other portions than single numbers does not.
fn dropout(b: &mut Builder, call: &Call, x: &Tensor) -> Result<Tensor, Stop> {
    let rate = call.config.number("rate").unwrap_or(0.0) as f32;
    if call.config.get("noise_shape").is_some() || rate == 0.0 || x.softmax {
        return left_out(b, call, x);
    }
    b.push_like(call.name, Op::Dropout { rate }, x)
}

/// A layer that does nothing but in training.
fn left_out(b: &mut Builder, call: &Call, x: &Tensor) -> Result<Tensor, Stop> {
    if !matches!(call.class, "Identity" | "Cast") {
        b.note(format!("{} layers do nothing but in training and were left out", call.class));
    }
    Ok(x.clone())
}

/// Layers that bring images to a size: at the input that is what preprocessing does.
fn sized(b: &mut Builder, call: &Call, x: &Tensor) -> Result<Tensor, Stop> {
    let side = |name: &str| {
        call.config
            .count(name)
            .filter(|&side| side > 0)
            .ok_or_else(|| Stop::Unsupported(format!("no `{name}`")))
    };
    let (h, w) = (side("height")?, side("width")?);
    if x.dims.len() != 3 || call.config.text("data_format") == Some("channels_first") {
        return Err(Stop::Unsupported(format!(
            "needs images of height, width and channels, found {:?}",
            x.dims
        )));
    }
    let c = x.dims[2];
    if x.dims[..2] == [h, w] && !b.open_size {
        return Ok(x.clone());
    }
    if x.value != 0 || x.pad != [0; 4] || !b.draft.layers.is_empty() || b.input_rule.is_some() {
        let reason = format!("images of {}x{} become {h}x{w} inside of the network", x.dims[0], x.dims[1]);
        return Err(Stop::Unsupported(reason));
    }
    let cut = call.class != "Resizing" || call.config.flag("crop_to_aspect_ratio", false);
    let fit = match call.config.flag("pad_to_aspect_ratio", false) {
        true => Fit::Pad,
        false if cut => Fit::Crop,
        false => Fit::Stretch,
    };
    b.note(match call.class {
        "Resizing" => {
            format!("`{}` was left out: images are brought to {h}x{w} before the network", call.name)
        }
        class => format!(
            "`{}` ({class}) was left out: images are scaled to cover {h}x{w} and cut, where Keras cuts alone",
            call.name
        ),
    });
    // A cut behind a change of size is the rule for both.
    if b.fit.is_none() || cut {
        b.fit = Some(fit);
    }
    b.open_size = false;
    b.draft.set_input(Shape { h, w, c });
    Ok(x.clone().with_dims(vec![h, w, c]))
}

/// Channels by a slice, as both generations of files write it.
fn slice(b: &mut Builder, call: &Call, x: &Tensor) -> Result<Tensor, Stop> {
    let slices = call.args.iter().find_map(|arg| match arg {
        Arg::Other("slice_spec" | "key" | "", Value::Array(slices)) => Some(slices),
        _ => None,
    });
    match slices {
        Some(slices) => b.slice(call, x, slices),
        None => Err(Stop::Unsupported("its slices are of another form".to_owned())),
    }
}
