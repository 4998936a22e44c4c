//! Views brought to the order that a layer needs: flattened, or with their channels gathered in the order in which the
//! dimensions count them.

use ocelli_engine::Shape;
use ocelli_engine::geometry::MAX_DIM;
use ocelli_engine::graph::Op;

use super::constant::Constant;
use super::steps::Steps;
use super::view::{View, axis, offsets, sides, size};

/// The value as one pixel, with the same dimensions.
///
/// # Errors
/// Those of [`Steps::layer`].
pub(super) fn flattened(steps: &mut Steps, name: &str, view: &View) -> Result<View, String> {
    if view.shape.h == 1 && view.shape.w == 1 {
        return Ok(view.clone());
    }
    let value = steps.layer(&format!("{name}.flatten"), Op::Flatten, &[view.value], Vec::new())?;
    Ok(View { shape: steps.shape(value), ..view.with(value) })
}

/// The value such that each factor of a dimension is of channels or of pixels: flattened where one is not.
///
/// # Errors
/// Those of [`Steps::layer`].
pub(super) fn pure(steps: &mut Steps, name: &str, view: &View) -> Result<View, String> {
    if view.is_pure() { Ok(view.clone()) } else { flattened(steps, name, view) }
}

/// The value with its channels in the order in which the dimensions count them.
///
/// # Errors
/// Those of [`Steps::layer`].
pub(super) fn ordered(steps: &mut Steps, name: &str, view: &View) -> Result<View, String> {
    let view = pure(steps, name, view)?;
    let c = view.shape.c as usize;
    if view.axes.iter().any(|own| *own == axis(1, c)) {
        return Ok(view);
    }
    check_count(c)?;
    let channels = view.channels(None);
    if channels.iter().enumerate().all(|(index, &channel)| index == channel) {
        return Ok(view.gathered(view.value, None));
    }
    let value = gather(steps, &format!("{name}.channels"), view.value, channels)?;
    Ok(view.gathered(value, None))
}

/// The value in the order `N, C, H, W`.
///
/// # Errors
/// For dimensions that are none of an image; those of [`Steps::layer`].
pub(super) fn image(steps: &mut Steps, name: &str, view: &View) -> Result<View, String> {
    if view.axes.len() != 3 {
        return Err(format!("needs an image of 4 dimensions, not {}", view.axes.len() + 1));
    }
    // A flat vector that was given the dimensions of one pixel again.
    let is_pixel = size(&view.axes[1]) == 1 && size(&view.axes[2]) == 1;
    let view = if is_pixel { flattened(steps, name, view)? } else { view.clone() };
    let view = ordered(steps, name, &view)?;
    let [h, w, c] = sides(view.shape);
    if view.axes[0] != axis(1, c) || view.axes[1] != axis(w * c, h) || view.axes[2] != axis(c, w) {
        return Err("reads its dimensions as channels, height and width, and they are others".to_owned());
    }
    Ok(view)
}

/// The value with some places of one dimension alone, which must be of channels; dimension 0 is the first behind the batch.
///
/// # Errors
/// For another dimension; those of [`Steps::layer`].
pub(super) fn selected(
    steps: &mut Steps,
    name: &str,
    view: &View,
    (which, places): (usize, &[usize]),
) -> Result<View, String> {
    let view = pure(steps, name, view)?;
    if !view.has_channels(&view.axes[which]) {
        return Err("takes parts of the height or width; only channels can be taken in parts".to_owned());
    }
    let count = size(&view.axes[which]);
    if places.is_empty() || places.iter().any(|&place| place >= count) {
        return Err(format!("takes none or more than there are of {count} channels"));
    }
    check_count(view.shape.c as usize)?;
    let channels = view.channels(Some((which, places)));
    let value = gather(steps, name, view.value, channels)?;
    Ok(view.gathered(value, Some((which, places.len()))))
}

/// Lists of channels are made for so many alone.
fn check_count(channels: usize) -> Result<(), String> {
    if channels > MAX_DIM {
        return Err(format!("computes with {channels} channels; up to {MAX_DIM} are supported here"));
    }
    Ok(())
}

fn gather(steps: &mut Steps, name: &str, value: u32, channels: Vec<usize>) -> Result<u32, String> {
    let channels = channels.iter().map(|&channel| channel as u32).collect();
    steps.layer(name, Op::ChannelGather { channels }, &[value], Vec::new())
}

/// A constant that is broadcast to a value, as one number for each channel in memory, with the value that has such channels.
///
/// # Errors
/// For dimensions that do not fit or a constant that differs between pixels.
pub(super) fn per_channel(
    steps: &mut Steps,
    name: &str,
    view: &View,
    constant: &Constant<'_>,
) -> Result<(View, Vec<f32>), String> {
    let numbers = constant.floats()?;
    check_count(view.shape.c as usize)?;
    if numbers.len() == 1 && constant.dims.len() <= view.axes.len() + 1 {
        return Ok((view.clone(), vec![numbers[0]; view.shape.c as usize]));
    }
    let view = pure(steps, name, view)?;
    check_count(view.shape.c as usize)?;
    let rank = view.axes.len() + 1;
    let dims = &constant.dims;
    let missing = rank.checked_sub(dims.len()).ok_or("has a constant of more dimensions than the image")?;
    let mut stride = 1;
    let mut strides = vec![0; rank];
    for index in (0..dims.len()).rev() {
        if dims[index] > 1 {
            strides[missing + index] = stride;
            let fits = (missing + index).checked_sub(1).map(|own| &view.axes[own]);
            if fits.is_none_or(|axis| size(axis) != dims[index]) {
                return Err("has a constant whose dimensions are not those of the image".to_owned());
            }
            if fits.is_some_and(|axis| !view.has_channels(axis)) {
                return Err("has a constant that differs between pixels; only channels may differ".to_owned());
            }
        }
        stride *= dims[index];
    }
    let mut places = vec![(0, 0)];
    for (axis, stride) in view.axes.iter().zip(&strides[1..]) {
        let own: Vec<_> =
            axis.iter().copied().filter(|factor| factor.stride < view.shape.c as usize).collect();
        let own = if view.has_channels(axis) { offsets(axis) } else { offsets(&own) };
        let steps = own.iter().enumerate().map(|(index, &place)| (place, index * stride));
        let steps: Vec<(usize, usize)> = steps.collect();
        places = places
            .iter()
            .flat_map(|&(place, from)| steps.iter().map(move |&(more, step)| (place + more, from + step)))
            .collect();
    }
    let mut values = vec![0.0; view.shape.c as usize];
    for (place, from) in places {
        values[place] = numbers[from];
    }
    Ok((view, values))
}

/// A flat value whose channels multiply those of another, in that one's order in memory; `None` where the dimensions are
/// others.
///
/// # Errors
/// Those of [`Steps::layer`].
pub(super) fn channel_factors(
    steps: &mut Steps,
    name: &str,
    x: &View,
    factors: &View,
) -> Result<Option<u32>, String> {
    let is_flat = factors.shape == Shape { h: 1, w: 1, c: x.shape.c };
    let same_rank = x.axes.len() == factors.axes.len();
    if !is_flat || !same_rank || !x.is_pure() {
        return Ok(None);
    }
    let fits = x.axes.iter().zip(&factors.axes).all(|(own, factor)| {
        if size(factor) == 1 { x.has_pixels(own) } else { size(own) == size(factor) && x.has_channels(own) }
    });
    if !fits {
        return Ok(None);
    }
    check_count(x.shape.c as usize)?;
    let mut channels = vec![0; x.shape.c as usize];
    for (own, from) in x.channels(None).into_iter().zip(factors.channels(None)) {
        channels[own] = from;
    }
    if channels.iter().enumerate().all(|(index, &channel)| index == channel) {
        return Ok(Some(factors.value));
    }
    gather(steps, &format!("{name}.channels"), factors.value, channels).map(Some)
}
