//! Layers that look at more than one pixel or number: convolutions, dense layers, pools, padding, normalisation.

use ocelli_engine::graph::{BatchNorm, Conv2d, Dense, Op, Padding, Pool2d};
use ocelli_engine::{ParamKind, Shape};
use serde_json::Value;

use super::builder::{Builder, Call};
use super::draft::{Affine, Params, Stop, Tensor};
use super::fields::{Fields, numbers, pair, whole};
use super::weights::Variable;

const KERNEL: &[&str] = &["kernel"];
const DEPTHWISE_KERNEL: &[&str] = &["depthwise_kernel", "kernel"];
const POINTWISE_KERNEL: &[&str] = &["pointwise_kernel"];
const BIAS: &[&str] = &["bias"];
/// What Keras keeps deviations from being smaller than.
const LEAST_DEVIATION: f64 = 1e-7;

/// A setting that has to be there.
fn needed<T>(value: Option<T>, name: &str) -> Result<T, Stop> {
    value.ok_or_else(|| Stop::Unsupported(format!("the setting `{name}` is missing or of another form")))
}

/// Refuses images whose channels come first.
fn channels_last(config: Fields) -> Result<(), Stop> {
    match config.text("data_format") {
        None | Some("channels_last") => Ok(()),
        Some(other) => Err(Stop::Unsupported(format!(
            "data_format {other}: build the model again with channels_last and load the weights into it"
        ))),
    }
}

/// Refuses values that are no images.
fn image(x: &Tensor) -> Result<(), Stop> {
    match x.dims.len() {
        3 => Ok(()),
        _ => Err(Stop::Unsupported(format!(
            "needs an image of height, width and channels, found {:?}",
            x.dims
        ))),
    }
}

/// The settings of a convolution, without filters, groups and bias.
fn window(config: Fields) -> Result<Conv2d, Stop> {
    channels_last(config)?;
    let dilation = config.pair("dilation_rate").unwrap_or([1, 1]);
    Ok(Conv2d {
        kernel: needed(config.pair("kernel_size"), "kernel_size")?,
        stride: config.pair("strides").unwrap_or([1, 1]),
        dilation,
        padding: padding(config)?,
        ..Conv2d::new(1, 1)
    })
}

fn padding(config: Fields) -> Result<Padding, Stop> {
    match config.text("padding").unwrap_or("valid") {
        "valid" => Ok(Padding::Valid),
        "same" => Ok(Padding::Same),
        other => Err(Stop::Unsupported(format!("the padding `{other}`"))),
    }
}

/// Weights as they are in the file: bytes in another form would be another type.
fn plain_weights(config: Fields) -> Result<(), Stop> {
    let policy = config.inner("dtype");
    let name = policy.0.as_str().or_else(|| policy.inner("config").text("name")).unwrap_or("float32");
    if name.contains("int8") || name.contains("int4") || name.contains("float8") {
        return Err(Stop::Unsupported(format!("weights quantised as `{name}`")));
    }
    Ok(())
}

impl Builder {
    /// A convolution with its padding, which moves into it where it has none of its own.
    fn convolve(&mut self, name: &str, x: &Tensor, mut conv: Conv2d, params: Params) -> Result<Tensor, Stop> {
        let value = if conv.padding == Padding::Valid && x.pad != [0; 4] && !x.softmax {
            conv.padding = Padding::Explicit(x.pad);
            self.mapped(name, x)?
        } else {
            self.plain(name, x)?
        };
        self.push(name, Op::Conv2d(conv), &[value], params)
    }

    pub(super) fn conv2d(&mut self, call: &Call, x: &Tensor) -> Result<Tensor, Stop> {
        image(x)?;
        plain_weights(call.config)?;
        let mut conv = window(call.config)?;
        conv.filters = needed(call.config.count("filters"), "filters")?;
        conv.groups = call.config.count("groups").unwrap_or(1).max(1);
        conv.bias = call.config.flag("use_bias", true);
        let cin = self.shape(x).c / conv.groups;
        let kernel = [conv.kernel[0], conv.kernel[1], cin, conv.filters].map(|side| side as usize).to_vec();
        let params = self.weight_and_bias(call, (KERNEL, kernel), conv.bias)?;
        let y = self.convolve(call.name, x, conv, params)?;
        self.with_activation(call, y)
    }

    pub(super) fn depthwise_conv2d(&mut self, call: &Call, x: &Tensor) -> Result<Tensor, Stop> {
        image(x)?;
        plain_weights(call.config)?;
        let mut conv = window(call.config)?;
        let kernel = self.depthwise(call, x, &mut conv)?;
        conv.bias = call.config.flag("use_bias", true);
        let filters = conv.filters as usize;
        let mut wanted = vec![kernel];
        wanted.extend(conv.bias.then(|| (BIAS, vec![filters])));
        let values = self.variables(call, &wanted)?;
        let params = [ParamKind::Weight, ParamKind::Bias].into_iter().zip(values).collect();
        let y = self.convolve(call.name, x, conv, params)?;
        self.with_activation(call, y)
    }

    /// Groups and filters of a depthwise convolution, and its kernel.
    fn depthwise(&mut self, call: &Call, x: &Tensor, conv: &mut Conv2d) -> Result<Variable<'static>, Stop> {
        let multiplier = call.config.count("depth_multiplier").unwrap_or(1);
        let c = self.shape(x).c;
        conv.groups = c;
        conv.filters = needed(c.checked_mul(multiplier), "depth_multiplier")?;
        let kernel = [conv.kernel[0], conv.kernel[1], c, multiplier].map(|side| side as usize).to_vec();
        Ok((DEPTHWISE_KERNEL, kernel))
    }

    pub(super) fn separable_conv2d(&mut self, call: &Call, x: &Tensor) -> Result<Tensor, Stop> {
        image(x)?;
        plain_weights(call.config)?;
        let mut conv = window(call.config)?;
        conv.bias = false;
        let kernel = self.depthwise(call, x, &mut conv)?;
        let filters = needed(call.config.count("filters"), "filters")? as usize;
        let bias = call.config.flag("use_bias", true);
        let pointwise = vec![1, 1, conv.filters as usize, filters];
        let mut wanted = vec![kernel, (POINTWISE_KERNEL, pointwise)];
        wanted.extend(bias.then(|| (BIAS, vec![filters])));
        let mut values = self.variables(call, &wanted)?.into_iter();
        let depthwise = values.next().map(|weight| (ParamKind::Weight, weight)).into_iter().collect();
        let params = [ParamKind::Weight, ParamKind::Bias].into_iter().zip(values).collect();
        let y = self.convolve(&format!("{}.depthwise", call.name), x, conv, depthwise)?;
        let pointwise = Conv2d { bias, ..Conv2d::new(filters, 1) };
        let y = self.convolve(call.name, &y, pointwise, params)?;
        self.with_activation(call, y)
    }

    pub(super) fn dense(&mut self, call: &Call, x: &Tensor) -> Result<Tensor, Stop> {
        plain_weights(call.config)?;
        let Shape { h, w, c } = self.shape(x);
        let units = needed(call.config.count("units"), "units")?;
        let bias = call.config.flag("use_bias", true);
        if x.dims.len() == 2 {
            return Err(Stop::Unsupported(format!("a dense layer of rows of {:?}", x.dims)));
        }
        let params = self.weight_and_bias(call, (KERNEL, vec![c as usize, units as usize]), bias)?;
        let y = if h == 1 && w == 1 && x.pad == [0; 4] {
            let value = self.plain(call.name, x)?;
            let y = self.push(call.name, Op::Dense(Dense { units, bias }), &[value], params)?;
            let mut dims = x.dims.clone();
            if let Some(last) = dims.last_mut() {
                *last = units;
            }
            y.with_dims(dims)
        } else {
            // Each pixel by itself.
            let conv = Conv2d { bias, ..Conv2d::new(units as usize, 1) };
            self.convolve(call.name, x, conv, params)?
        };
        self.with_activation(call, y)
    }

    fn weight_and_bias(&mut self, call: &Call, weight: Variable, bias: bool) -> Result<Params, Stop> {
        let units = weight.1[weight.1.len() - 1];
        let mut wanted = vec![weight];
        wanted.extend(bias.then(|| (BIAS, vec![units])));
        let values = self.variables(call, &wanted)?;
        Ok([ParamKind::Weight, ParamKind::Bias].into_iter().zip(values).collect())
    }

    pub(super) fn batch_norm(&mut self, call: &Call, x: &Tensor) -> Result<Tensor, Stop> {
        last_axis(call.config, x)?;
        let c = x.dims.last().map_or(0, |&c| c as usize);
        let mut wanted: Vec<Variable> = Vec::new();
        let (scale, center) = (call.config.flag("scale", true), call.config.flag("center", true));
        wanted.extend(scale.then(|| (&["gamma"][..], vec![c])));
        wanted.extend(center.then(|| (&["beta"][..], vec![c])));
        wanted.push((&["moving_mean"], vec![c]));
        wanted.push((&["moving_variance"], vec![c]));
        let mut values = self.variables(call, &wanted)?.into_iter();
        let mut next = |there: bool, default: f32| {
            if there { values.next().unwrap_or_default() } else { vec![default; c] }
        };
        let params = vec![
            (ParamKind::Scale, next(scale, 1.0)),
            (ParamKind::Shift, next(center, 0.0)),
            (ParamKind::RunningMean, next(true, 0.0)),
            (ParamKind::RunningVar, next(true, 1.0)),
        ];
        let eps = call.config.number("epsilon").unwrap_or(1e-3) as f32;
        // Keras says how much of the old is kept.
        let momentum = (1.0 - call.config.number("momentum").unwrap_or(0.99)) as f32;
        let value = self.plain(call.name, x)?;
        let y = self.push(call.name, Op::BatchNorm(BatchNorm { momentum, eps }), &[value], params)?;
        Ok(y.with_dims(x.dims.clone()))
    }

    /// Means and variances of the input's channels, from the settings or the weights.
    pub(super) fn normalization(&mut self, call: &Call, x: &Tensor) -> Result<Tensor, Stop> {
        let c = x.dims.last().map_or(0, |&c| c as usize);
        let setting = |name: &str| call.config.get(name).and_then(numbers);
        let (mean, variance) = match (setting("mean"), setting("variance")) {
            (Some(mean), Some(variance)) => (mean, variance),
            _ => {
                // Without an axis there is one number for all.
                let axes = call.config.get("axis").map(|axis| axis.as_array().map_or(1, Vec::len));
                let shape = if axes.unwrap_or(0) == 0 { Vec::new() } else { vec![c] };
                if !shape.is_empty() {
                    last_axis(call.config, x)?;
                }
                let wanted: [Variable; 2] = [(&["mean"], shape.clone()), (&["variance"], shape)];
                let values = self.variables(call, &wanted)?;
                let wide = |values: &Vec<f32>| values.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
                (wide(&values[0]), wide(&values[1]))
            }
        };
        let deviation: Vec<f64> = variance.iter().map(|v| v.sqrt().max(LEAST_DEVIATION)).collect();
        let one = [1.0];
        let (minus, inverse): (Vec<f64>, Vec<f64>) =
            (mean.iter().map(|m| -m).collect(), deviation.iter().map(|d| 1.0 / d).collect());
        let steps = if call.config.flag("invert", false) {
            [Affine { scale: deviation, shift: vec![0.0] }, Affine { scale: one.to_vec(), shift: mean }]
        } else {
            [Affine { scale: one.to_vec(), shift: minus }, Affine { scale: inverse, shift: vec![0.0] }]
        };
        let y = self.affine(call.name, x, &steps[0])?;
        self.affine(call.name, &y, &steps[1])
    }

    pub(super) fn pool(&mut self, call: &Call, x: &Tensor, max: bool) -> Result<Tensor, Stop> {
        image(x)?;
        channels_last(call.config)?;
        let kernel = needed(call.config.pair("pool_size"), "pool_size")?;
        let stride = call.config.pair("strides").unwrap_or(kernel);
        let mut pool = Pool2d { kernel, stride, padding: padding(call.config)? };
        let [top, bottom, left, right] = x.pad;
        let inside = top.max(bottom) < kernel[0] && left.max(right) < kernel[1];
        let moves = max && pool.padding == Padding::Valid && inside && x.pad != [0; 4];
        let value = if moves && !x.softmax && x.affine.is_identity() && self.draft.is_nonnegative(x.value) {
            pool.padding = Padding::Explicit(x.pad);
            self.mapped(call.name, x)?
        } else {
            self.plain(call.name, x)?
        };
        let op = if max { Op::MaxPool2d(pool) } else { Op::AvgPool2d(pool) };
        self.push(call.name, op, &[value], Vec::new())
    }

    pub(super) fn global_pool(&mut self, call: &Call, x: &Tensor, op: Op) -> Result<Tensor, Stop> {
        image(x)?;
        channels_last(call.config)?;
        let value = self.plain(call.name, x)?;
        let y = self.push(call.name, op, &[value], Vec::new())?;
        let keep = call.config.flag("keepdims", false);
        let c = y.dims[2];
        Ok(if keep { y } else { y.with_dims(vec![c]) })
    }

    pub(super) fn zero_padding(&mut self, call: &Call, x: &Tensor) -> Result<Tensor, Stop> {
        image(x)?;
        channels_last(call.config)?;
        let setting = needed(call.config.get("padding"), "padding")?;
        let sides = |value: &Value| pair(value);
        let pad = match setting.as_array().map(Vec::as_slice) {
            Some([rows, columns]) if rows.is_array() || columns.is_array() => sides(rows)
                .zip(sides(columns))
                .map(|(rows, columns)| [rows[0], rows[1], columns[0], columns[1]]),
            Some([rows, columns]) => {
                whole(rows).zip(whole(columns)).map(|(rows, columns)| [rows, rows, columns, columns])
            }
            _ => whole(setting).map(|all| [all; 4]),
        };
        let pad = needed(pad, "padding")?;
        // Two layers of padding are one.
        let value = if x.pad == [0; 4] { self.mapped(call.name, x)? } else { self.plain(call.name, x)? };
        let Shape { h, w, c } = self.draft.shape(value);
        let side = |size: u32, before: u32, after: u32| {
            let sum = size.checked_add(before).and_then(|sum| sum.checked_add(after));
            needed(sum.filter(|&sum| sum as usize <= ocelli_engine::geometry::MAX_DIM), "padding")
        };
        let mut y = self.tensor(value, vec![side(h, pad[0], pad[1])?, side(w, pad[2], pad[3])?, c]);
        y.pad = pad;
        Ok(y)
    }

    /// `max(x, 0) + alpha min(x, 0)` with a slope for each channel, as `relu(x) - alpha relu(-x)`.
    pub(super) fn prelu(&mut self, call: &Call, x: &Tensor) -> Result<Tensor, Stop> {
        use ocelli_engine::Activation::Relu;
        let c = x.dims.last().map_or(0, |&c| c as usize);
        let axes = call.config.list("shared_axes").iter().filter_map(whole).collect::<Vec<u32>>();
        let flat = x.dims.len() == 1;
        let shape = match (flat, axes.as_slice()) {
            (true, _) => vec![c],
            (false, [1, 2]) if x.dims.len() == 3 => vec![1, 1, c],
            _ => {
                let reason = "a slope for each pixel: only shared_axes=[1, 2] is supported";
                return Err(Stop::Unsupported(reason.to_owned()));
            }
        };
        let values = self.variables(call, &[(&["alpha"], shape)])?;
        let slopes = values[0].iter().map(|&slope| -f64::from(slope)).collect();
        let relu = Op::Activation(Relu);
        let up = self.push_like(call.name, relu.clone(), x)?;
        let minus = self.affine(call.name, x, &Affine { scale: vec![-1.0], shift: vec![0.0] })?;
        let mut down = self.push_like(&format!("{}.below", call.name), relu, &minus)?;
        down.affine = Affine { scale: slopes, shift: vec![0.0] };
        let down = self.plain(call.name, &down)?;
        let y = self.push(&format!("{}.sum", call.name), Op::Add, &[up.value, down], Vec::new())?;
        Ok(y.with_dims(x.dims.clone()))
    }
}

/// Refuses normalisations over another axis than the channels.
fn last_axis(config: Fields, x: &Tensor) -> Result<(), Stop> {
    let Some(axis) = config.get("axis") else { return Ok(()) };
    let axis = match axis.as_array().map(Vec::as_slice) {
        Some([axis]) => axis.as_f64(),
        Some(_) => None,
        None => axis.as_f64(),
    };
    let last = x.dims.len() as f64;
    if axis.is_some_and(|axis| axis == -1.0 || axis == last) {
        return Ok(());
    }
    Err(Stop::Unsupported("normalises over another axis than the last, which has the channels".to_owned()))
}
