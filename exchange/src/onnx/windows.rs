//! Convolutions, pools and padding: windows that slide over images.

use ocelli_engine::graph::{Conv2d, Op, Padding, Pool2d};
use ocelli_engine::{ParamKind, Shape};

use super::call::Call;
use super::layout::image;
use super::steps::{Action, Params, Steps};
use super::view::{View, axis, sides, size};

/// A window as a node gives it.
struct Window {
    kernel: [u32; 2],
    stride: [u32; 2],
    dilation: [u32; 2],
    /// Above, below, left, right.
    pads: [u32; 4],
}

impl Window {
    fn read(call: &Call<'_, '_>, kernel: [u32; 2], x: Shape) -> Result<Self, String> {
        let node = call.node;
        let pair = |name: &str| match node.ints(name) {
            None => Ok([1, 1]),
            Some(ints) => numbers::<2>(name, &ints),
        };
        let (stride, dilation) = (pair("strides")?, pair("dilations")?);
        let mut window = Window { kernel, stride, dilation, pads: [0; 4] };
        if stride.contains(&0) || dilation.contains(&0) || kernel.contains(&0) {
            return Err("has a stride, dilation or window of 0".to_owned());
        }
        match node.text("auto_pad").unwrap_or("NOTSET") {
            "" | "NOTSET" => {
                if let Some(pads) = node.ints("pads") {
                    let [top, left, bottom, right] = numbers::<4>("pads", &pads)?;
                    window.pads = [top, bottom, left, right];
                }
            }
            "VALID" => {}
            same @ ("SAME_UPPER" | "SAME_LOWER") => {
                for (axis, size) in [x.h, x.w].into_iter().enumerate() {
                    let total = window.missing(axis, size, size.div_ceil(stride[axis]), 0)?;
                    let (less, more) = (total / 2, total - total / 2);
                    let own = if same == "SAME_UPPER" { [less, more] } else { [more, less] };
                    window.pads[2 * axis..2 * axis + 2].copy_from_slice(&own);
                }
            }
            other => return Err(format!("has an auto_pad `{other}`")),
        }
        Ok(window)
    }

    /// Zeros that are missing to have `count` windows along an axis of `size` and `padded` zeros.
    fn missing(&self, axis: usize, size: u32, count: u32, padded: u64) -> Result<u32, String> {
        let [kernel, stride, dilation] =
            [self.kernel, self.stride, self.dilation].map(|of| u64::from(of[axis]));
        let span = (kernel - 1).saturating_mul(dilation).saturating_add(1);
        let needed = u64::from(count.saturating_sub(1)).saturating_mul(stride).saturating_add(span);
        u32::try_from(needed.saturating_sub(u64::from(size) + padded))
            .map_err(|_| "has a window of no use".to_owned())
    }

    fn padding(&self) -> Padding {
        if self.pads == [0; 4] { Padding::Valid } else { Padding::Explicit(self.pads) }
    }
}

fn numbers<const N: usize>(name: &str, ints: &[i64]) -> Result<[u32; N], String> {
    let all: Option<Vec<u32>> = ints.iter().map(|&int| u32::try_from(int).ok()).collect();
    let all = all.and_then(|all| <[u32; N]>::try_from(all).ok());
    all.ok_or_else(|| format!("has {name} {ints:?}, not {N} numbers from 0"))
}

/// `Conv`.
pub(super) fn conv(steps: &mut Steps, call: &Call<'_, '_>) -> Result<View, String> {
    let weight = call.constant(1)?;
    if weight.dims.len() == 3 {
        return super::dense::along_channels(steps, call, weight);
    }
    let x = image(steps, &call.name, call.image(0)?)?;
    let &[filters, inner, kh, kw] = &weight.dims[..] else {
        return Err(format!("has weights of {} dimensions; 4 are supported", weight.dims.len()));
    };
    if weight.len()? == 0 {
        return Err("has no weights".to_owned());
    }
    let side =
        |size: usize| u32::try_from(size).map_err(|_| "has weights of sizes that cannot be".to_owned());
    let (mut value, mut pads) = (x.value, [0; 4]);
    // Zeros before a convolution are zeros of the convolution.
    if let Some(step) = steps.maker(value)
        && let Action::Pad(before) = step.action
    {
        (value, pads) = (step.inputs[0], before);
    }
    let mut window = Window::read(call, [side(kh)?, side(kw)?], steps.shape(x.value))?;
    for (pad, before) in window.pads.iter_mut().zip(pads) {
        *pad = pad.checked_add(before).ok_or("has more zeros around than can be")?;
    }
    let bias = call.optional(2)?.map(|bias| bias.floats()).transpose()?;
    let groups = u32::try_from(call.node.int("group").unwrap_or(1)).map_err(|_| "has no group".to_owned())?;
    let conv = Conv2d {
        filters: side(filters)?,
        kernel: window.kernel,
        stride: window.stride,
        dilation: window.dilation,
        padding: window.padding(),
        groups,
        bias: bias.is_some(),
    };
    if groups == 0 || inner.checked_mul(groups as usize) != Some(x.shape.c as usize) {
        return Err(format!("has weights for {inner} channels in {groups} groups on {} channels", x.shape.c));
    }
    let values = permuted(&weight.floats()?, [filters, inner, kh * kw]);
    let mut params: Params = vec![(ParamKind::Weight, values)];
    params.extend(bias.map(|bias| (ParamKind::Bias, bias)));
    if params.iter().any(|(kind, values)| *kind == ParamKind::Bias && values.len() != filters) {
        return Err(format!("has a bias of another length than its {filters} filters"));
    }
    let y = steps.layer(&call.name, Op::Conv2d(conv), &[value], params)?;
    Ok(View::nchw(y, steps.shape(y)))
}

/// `[filters][inner][taps]` as `[taps][inner][filters]`.
fn permuted(weights: &[f32], [filters, inner, taps]: [usize; 3]) -> Vec<f32> {
    let mut values = Vec::with_capacity(weights.len());
    for tap in 0..taps {
        for ci in 0..inner {
            values.extend((0..filters).map(|co| weights[(co * inner + ci) * taps + tap]));
        }
    }
    values
}

/// `MaxPool` and `AveragePool`.
pub(super) fn pool(steps: &mut Steps, call: &Call<'_, '_>) -> Result<View, String> {
    let x = image(steps, &call.name, call.image(0)?)?;
    let kernel = call.node.ints("kernel_shape").ok_or("has no kernel_shape")?;
    let mut window = Window::read(call, numbers::<2>("kernel_shape", &kernel)?, x.shape)?;
    if window.dilation != [1, 1] {
        return Err(format!("has windows with gaps, dilations {:?}", window.dilation));
    }
    let counts_padding = call.node.int("count_include_pad").unwrap_or(0) != 0 && window.pads != [0; 4];
    let is_max = call.node.op == "MaxPool";
    if call.node.outputs.len() > 1 && call.node.outputs[1..].iter().any(|name| !name.is_empty()) {
        return Err("gives the places of its maxima, too".to_owned());
    }
    if call.node.int("ceil_mode").unwrap_or(0) != 0 {
        for (axis, size) in [x.shape.h, x.shape.w].into_iter().enumerate() {
            let [before, after] = [window.pads[2 * axis], window.pads[2 * axis + 1]].map(u64::from);
            let stride = u64::from(window.stride[axis]);
            let over = (u64::from(size) + before + after).saturating_sub(u64::from(window.kernel[axis]));
            let mut count = over.div_ceil(stride) + 1;
            // The last window must begin in the image or in the zeros before it.
            if (count - 1) * stride >= u64::from(size) + before {
                count -= 1;
            }
            let count = u32::try_from(count).map_err(|_| "has more windows than can be".to_owned())?;
            let extra = window.missing(axis, size, count, before + after)?;
            if extra > 0 && counts_padding && !is_max {
                return Err("counts zeros in windows that end past them".to_owned());
            }
            window.pads[2 * axis + 1] = window.pads[2 * axis + 1].saturating_add(extra);
        }
    }
    let (op, params) = if counts_padding && !is_max {
        let [kh, kw] = window.kernel.map(|side| side as usize);
        let taps = kh.saturating_mul(kw).saturating_mul(x.shape.c as usize);
        if taps > MAX_TAPS {
            return Err(format!("counts zeros in windows of {kh}x{kw} over {} channels", x.shape.c));
        }
        let conv = Conv2d {
            kernel: window.kernel,
            stride: window.stride,
            padding: window.padding(),
            groups: x.shape.c,
            bias: false,
            ..Conv2d::new(x.shape.c as usize, 1)
        };
        (Op::Conv2d(conv), vec![(ParamKind::Weight, vec![1.0 / (kh * kw) as f32; taps])])
    } else {
        let pool = Pool2d { kernel: window.kernel, stride: window.stride, padding: window.padding() };
        (if is_max { Op::MaxPool2d(pool) } else { Op::AvgPool2d(pool) }, Vec::new())
    };
    let y = steps.layer(&call.name, op, &[x.value], params)?;
    Ok(View::nchw(y, steps.shape(y)))
}

/// Most weights of a convolution that stands for a pool.
const MAX_TAPS: usize = 1 << 17;

/// `GlobalAveragePool`, `GlobalMaxPool`, and `ReduceMean`, `ReduceMax` and `ReduceSum` over height and width, or one of them.
pub(super) fn global(steps: &mut Steps, call: &Call<'_, '_>) -> Result<View, String> {
    let x = call.image(0)?;
    let rank = x.axes.len() + 1;
    let (axes, keeps) = match call.node.op {
        "GlobalAveragePool" | "GlobalMaxPool" => ((2..rank as i64).collect(), true),
        _ => {
            let axes = super::constant::ints_of(call.node, "axes", call.optional(1)?)?;
            let axes = axes.filter(|axes| !axes.is_empty()).ok_or("reduces the channels, too")?;
            (axes, call.node.int("keepdims").unwrap_or(1) != 0)
        }
    };
    let mut reduced = vec![false; rank];
    for axis in axes {
        reduced[super::constant::place(axis, rank)?] = true;
    }
    let own = |index: &usize| reduced[index + 1];
    let pixels: usize = (0..x.axes.len()).filter(own).map(|index| size(&x.axes[index])).product();
    let only_pixels = (0..x.axes.len()).filter(own).all(|index| x.has_pixels(&x.axes[index]));
    let is_max = matches!(call.node.op, "GlobalMaxPool" | "ReduceMax");
    let mut x = x.clone();
    let y = if !reduced[0] && only_pixels && pixels == x.shape.h as usize * x.shape.w as usize {
        let op = if is_max { Op::GlobalMaxPool } else { Op::GlobalAvgPool };
        steps.layer(&call.name, op, &[x.value], Vec::new())?
    } else {
        x = one_side(steps, call, &x, &reduced[1..])
            .filter(|_| !reduced[0])
            .ok_or("reduces other dimensions than the height and width")??;
        x.value
    };
    let y = match call.node.op {
        "ReduceSum" => steps.uniform(&format!("{}.sum", call.name), y, pixels as f32, 0.0)?,
        _ => y,
    };
    let axes = x.axes.iter().enumerate();
    let axes = axes.filter(|(index, _)| keeps || !reduced[index + 1]);
    let axes = axes.map(|(index, axis)| if reduced[index + 1] { Vec::new() } else { axis.clone() }).collect();
    Ok(View { value: y, shape: steps.shape(y), axes })
}

/// The mean or maximum over the height or the width alone; `None` where it is of something else.
fn one_side(
    steps: &mut Steps,
    call: &Call<'_, '_>,
    x: &View,
    reduced: &[bool],
) -> Option<Result<View, String>> {
    let [_, w, c] = sides(x.shape);
    let is_row = |index: &usize| x.axes[*index] == axis(w * c, x.shape.h as usize);
    let which = reduced.iter().position(|own| *own)?;
    let kernel = match is_row(&which) {
        true => [x.shape.h, 1],
        false => [1, x.shape.w],
    };
    let is_one = reduced.iter().filter(|own| **own).count() == 1;
    if !is_one || size(&x.axes[which]) != kernel[0].max(kernel[1]) as usize || !x.has_pixels(&x.axes[which]) {
        return None;
    }
    let pool = Pool2d { kernel, stride: [1, 1], padding: Padding::Valid };
    let op = if call.node.op == "ReduceMax" { Op::MaxPool2d(pool) } else { Op::AvgPool2d(pool) };
    let made = steps.layer(&call.name, op, &[x.value], Vec::new());
    made.map(|y| super::parts::resized(x, y, steps.shape(y))).transpose()
}

/// `Pad` with zeros around images, or channels of zeros.
pub(super) fn pad(steps: &mut Steps, call: &Call<'_, '_>) -> Result<View, String> {
    let x = call.image(0)?;
    let mode = call.node.text("mode").unwrap_or("constant");
    if !matches!(mode, "constant" | "") {
        return Err(format!("pads in the mode `{mode}`; zeros are supported"));
    }
    let value = match call.optional(2)? {
        Some(value) => value.scalar()?,
        None => call.node.float("value").unwrap_or(0.0),
    };
    let pads = super::constant::ints_of(call.node, "pads", call.optional(1)?)?.ok_or("has no pads")?;
    let rank = x.axes.len() + 1;
    let axes = match call.optional(3)? {
        Some(axes) => axes.ints()?,
        None => (0..rank as i64).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(format!("has {} pads for {} dimensions", pads.len(), axes.len()));
    }
    if pads.iter().all(|&pad| pad == 0) {
        return Ok(x.clone());
    }
    if value != 0.0 {
        return Err(format!("pads with {value}; zeros are supported"));
    }
    let mut all = vec![[0; 2]; rank];
    for (index, &axis) in axes.iter().enumerate() {
        let [before, after] = numbers::<2>("pads", &[pads[index], pads[axes.len() + index]])?;
        all[super::constant::place(axis, rank)?] = [before, after];
    }
    if let Some(padded) = super::parts::zero_channels(steps, &call.name, x, &all[1..])?
        && all[0] == [0; 2]
    {
        return Ok(padded);
    }
    // The order of the image's dimensions is found by their factors: height, width and channels in any order.
    let x = super::layout::ordered(steps, &call.name, x)?;
    let [h, w, c] = super::view::sides(x.shape);
    let own = |factors: &super::view::Axis| {
        all[x.axes.iter().position(|axis| axis == factors).map_or(0, |at| at + 1)]
    };
    if x.axes.len() != 3 || h == 1 || w == 1 {
        return Err("pads something else than images".to_owned());
    }
    let (vertical, horizontal) = (own(&super::view::axis(w * c, h)), own(&super::view::axis(c, w)));
    let padded = all.iter().filter(|pads| **pads != [0; 2]).count();
    let expected = [vertical, horizontal].iter().filter(|pads| **pads != [0; 2]).count();
    if padded != expected || all[0] != [0; 2] {
        return Err("pads other dimensions than the height and width".to_owned());
    }
    let pads = [vertical[0], vertical[1], horizontal[0], horizontal[1]];
    let is_nchw = c == 1 || x.axes[0] == super::view::axis(1, c);
    let y = steps.pad(&call.name, x.value, pads)?;
    let shape = steps.shape(y);
    match () {
        () if is_nchw => Ok(View::nchw(y, shape)),
        () if x.axes[2] == super::view::axis(1, c) => Ok(View::nhwc(y, shape)),
        () => Err("pads dimensions in an order that is none of images".to_owned()),
    }
}
