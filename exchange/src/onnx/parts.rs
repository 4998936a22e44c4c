//! Parts of images: every n-th row or column, images cut at their sides, channels of zeros beside others.

use ocelli_engine::graph::{Conv2d, Op, Padding, Pool2d};
use ocelli_engine::{ParamKind, Shape};

use super::layout::{ordered, pure};
use super::steps::Steps;
use super::view::{View, axis, sides, size};

/// Most weights of a convolution that picks pixels.
const MAX_TAPS: usize = 1 << 17;

/// Most channels with zeros beside them.
const MAX_CHANNELS: usize = 1 << 14;

/// The value with some rows or columns alone, in their order and at equal distances; dimension 0 is the first behind the
/// batch.
///
/// # Errors
/// For other dimensions and other places; those of [`Steps::layer`].
pub(super) fn pixels(
    steps: &mut Steps,
    name: &str,
    view: &View,
    (which, places): (usize, &[usize]),
) -> Result<View, String> {
    let view = pure(steps, name, view)?;
    let [h, w, c] = sides(view.shape);
    let rows = view.axes[which] == axis(w * c, h) && h > 1;
    let columns = view.axes[which] == axis(c, w) && w > 1;
    if rows == columns {
        return Err("takes parts of several dimensions that are seen as one".to_owned());
    }
    let step = places.get(1).map_or(1, |second| second.wrapping_sub(places[0]));
    let is_regular = places.windows(2).all(|pair| pair[0] < pair[1] && pair[1] - pair[0] == step);
    let (Some(&first), true) = (places.first(), is_regular) else {
        return Err("takes rows or columns at different distances, backwards or none".to_owned());
    };
    let side = |along: usize| if rows { [along as u32, 1] } else { [1, along as u32] };
    let total = if rows { h } else { w };
    // The smallest window that begins where the first place is its last tap and fits no more often than there are places.
    let taps = (first + 1).max((total + 1).saturating_sub(places.len() * step));
    let (kernel, stride) = (side(taps), side(step));
    let (op, params) = if taps == 1 {
        (Op::MaxPool2d(Pool2d { kernel, stride, padding: Padding::Valid }), Vec::new())
    } else {
        if taps.saturating_mul(c) > MAX_TAPS {
            return Err(format!("cuts {taps} rows or columns of {c} channels"));
        }
        let groups = view.shape.c;
        let conv = Conv2d { kernel, stride, groups, bias: false, ..Conv2d::new(c, 1) };
        let weights = (0..taps * c).map(|tap| f32::from(u8::from(tap / c == first)));
        (Op::Conv2d(conv), vec![(ParamKind::Weight, weights.collect())])
    };
    let value = steps.layer(name, op, &[view.value], params)?;
    resized(&view, value, steps.shape(value))
        .ok_or_else(|| "takes parts of dimensions in an order that is none of images".to_owned())
}

/// The dimensions of a value whose height and width changed.
pub(super) fn resized(view: &View, value: u32, shape: Shape) -> Option<View> {
    let ([h, w, c], [new_h, new_w, _]) = (sides(view.shape), sides(shape));
    let new = |own: &Vec<super::view::Factor>| match own {
        own if view.has_channels(own) => Some(own.clone()),
        own if *own == axis(w * c, h) => Some(axis(new_w * c, new_h)),
        own if *own == axis(c, w) => Some(axis(c, new_w)),
        _ => None,
    };
    let axes = view.axes.iter().map(new).collect::<Option<_>>()?;
    Some(View { value, shape, axes })
}

/// The value with channels of zeros before and after its own. `None` where `pads`, before and after for each dimension behind
/// the batch, are of others.
///
/// # Errors
/// For too many channels; those of [`Steps::layer`].
pub(super) fn zero_channels(
    steps: &mut Steps,
    name: &str,
    view: &View,
    pads: &[[u32; 2]],
) -> Result<Option<View>, String> {
    let c = view.shape.c as usize;
    let mut padded = (0..pads.len()).filter(|&index| pads[index] != [0; 2]);
    let (Some(which), None) = (padded.next(), padded.next()) else { return Ok(None) };
    if size(&view.axes[which]) != c || c == 1 || !view.has_channels(&view.axes[which]) {
        return Ok(None);
    }
    let view = ordered(steps, name, view)?;
    let [before, after] = pads[which].map(|pad| pad as usize);
    if before.saturating_add(after).saturating_add(c) > MAX_CHANNELS {
        return Err(format!("adds {before} and {after} channels of zeros to {c}"));
    }
    // Any channel will do for those that become zero.
    let own = before..before + c;
    let all = 0..before + c + after;
    let channels =
        all.clone().map(|channel| if own.contains(&channel) { channel - before } else { 0 } as u32);
    let gather = Op::ChannelGather { channels: channels.collect() };
    let value = steps.layer(&format!("{name}.channels"), gather, &[view.value], Vec::new())?;
    let scale: Vec<f32> = all.map(|channel| f32::from(u8::from(own.contains(&channel)))).collect();
    let zeros = vec![0.0; scale.len()];
    let count = scale.len();
    let value = steps.affine(name, value, scale, zeros)?;
    Ok(Some(view.gathered(value, Some((which, count)))))
}
