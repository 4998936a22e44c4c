//! Operations that only see a value through other dimensions, take parts of it or join values.

use ocelli_engine::geometry::MAX_DIM;
use ocelli_engine::graph::Op;

use super::call::{Call, Value};
use super::constant::{ints_of, place, slices};
use super::layout::{flattened, ordered, selected};
use super::parts::pixels;
use super::schema::MAX_RANK;
use super::steps::{Action, Steps};
use super::tensor::kind;
use super::view::{BATCH, View, size};

/// `Reshape`.
pub(super) fn reshape(call: &Call<'_, '_>) -> Result<View, String> {
    let x = call.image(0)?;
    let target = call.constant(1)?.ints()?;
    if target.len() > MAX_RANK || target.is_empty() {
        return Err(format!("makes {} dimensions", target.len()));
    }
    let keeps_zero = call.node.int("allowzero").unwrap_or(0) == 0;
    let total: usize = x.axes.iter().map(|axis| size(axis)).product();
    let (mut sizes, mut open) = (Vec::new(), None);
    for (index, &dim) in target.iter().enumerate().skip(1) {
        sizes.push(match dim {
            0 if keeps_zero => size(x.axes.get(index - 1).ok_or("keeps a dimension that is not there")?),
            -1 if open.is_none() => {
                open = Some(index - 1);
                1
            }
            dim => {
                usize::try_from(dim).ok().filter(|&dim| dim > 0).ok_or("has a dimension that cannot be")?
            }
        });
    }
    let known = sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    let known = known.ok_or("has dimensions that cannot be")?;
    let is_batch = target[0] == BATCH || target[0] == 0 && keeps_zero || Some(target[0]) == call.batch;
    match open {
        Some(open) if is_batch && total.is_multiple_of(known) => sizes[open] = total / known,
        None if is_batch || target[0] == -1 => {}
        _ => return Err(format!("makes dimensions {} of {}", text(&target), x.text())),
    }
    let made =
        x.reshape(&sizes).filter(|made| made.axes.iter().map(|axis| size(axis)).product::<usize>() == total);
    made.ok_or_else(|| format!("makes dimensions {} of {}", text(&target), x.text()))
}

/// Dimensions as text.
fn text(dims: &[i64]) -> String {
    let one = |dim: &i64| if *dim == BATCH { "N".to_owned() } else { dim.to_string() };
    dims.iter().map(one).collect::<Vec<_>>().join("x")
}

/// `Flatten`.
pub(super) fn flatten(call: &Call<'_, '_>) -> Result<View, String> {
    let x = call.image(0)?;
    let axis = place(call.node.int("axis").unwrap_or(1), x.axes.len() + 2)?;
    let (outer, inner) = x.axes.split_at(axis.checked_sub(1).ok_or("joins the images of a batch")?);
    if outer.iter().any(|axis| size(axis) != 1) {
        return Err("joins the images of a batch with other dimensions".to_owned());
    }
    let total = inner.iter().map(|axis| size(axis)).product();
    x.reshape(&[total]).ok_or_else(|| "flattens what cannot be flattened".to_owned())
}

/// `Squeeze` and `Unsqueeze`.
pub(super) fn squeeze(call: &Call<'_, '_>) -> Result<View, String> {
    let x = call.image(0)?;
    let axes = ints_of(call.node, "axes", call.optional(1)?)?;
    let rank = x.axes.len() + 1;
    let mut view = x.clone();
    if call.node.op == "Squeeze" {
        let ones = || (1..rank).filter(|&place| size(&x.axes[place - 1]) == 1).collect();
        let places: Vec<usize> = match axes {
            Some(axes) => axes.iter().map(|&axis| place(axis, rank)).collect::<Result<_, _>>()?,
            None if call.batch == Some(1) => {
                return Err(
                    "removes all dimensions of size 1, the batch of one image among them; export the model \
                     with a batch that is left open (`dynamic_axes`, `dynamic_shapes`)"
                        .to_owned(),
                );
            }
            None => ones(),
        };
        if places.iter().any(|&place| place == 0 || size(&x.axes[place - 1]) != 1) {
            return Err("removes a dimension of another size than 1".to_owned());
        }
        let kept = x.axes.iter().enumerate().filter(|(index, _)| !places.contains(&(index + 1)));
        view.axes = kept.map(|(_, axis)| axis.clone()).collect();
        return Ok(view);
    }
    let axes = axes.ok_or("has no axes")?;
    if rank + axes.len() > MAX_RANK {
        return Err(format!("makes {} dimensions", rank + axes.len()));
    }
    let mut places =
        axes.iter().map(|&axis| place(axis, rank + axes.len())).collect::<Result<Vec<_>, _>>()?;
    places.sort_unstable();
    for place in places {
        let index = place.checked_sub(1).filter(|&index| index <= view.axes.len());
        view.axes.insert(index.ok_or("adds a dimension before the batch")?, Vec::new());
    }
    Ok(view)
}

/// `Transpose`.
pub(super) fn transpose(call: &Call<'_, '_>) -> Result<View, String> {
    let x = call.image(0)?;
    let order = call.node.ints("perm").unwrap_or_else(|| (0..=x.axes.len() as i64).rev().collect());
    x.transpose(&order)
}

/// `Concat` along the channels.
pub(super) fn concat(steps: &mut Steps, call: &Call<'_, '_>) -> Result<View, String> {
    let axis = call.node.int("axis").unwrap_or(1);
    let mut views = Vec::new();
    for index in 0..call.inputs.len() {
        let view = call.image(index)?;
        let which = place(axis, view.axes.len() + 1)?.checked_sub(1).ok_or("joins images of a batch")?;
        let is_vector = view.axes.iter().enumerate().all(|(index, axis)| index == which || size(axis) == 1);
        let view = if is_vector { flattened(steps, &call.name, view)? } else { view.clone() };
        views.push((ordered(steps, &call.name, &view)?, which));
    }
    let [(first, which), ..] = &views[..] else { return Err("joins nothing".to_owned()) };
    if views.len() == 1 {
        return Ok(first.clone());
    }
    for (view, own) in &views {
        let others = view.axes.iter().enumerate().filter(|(index, _)| index != own);
        let fits = others.into_iter().all(|(index, axis)| {
            view.has_pixels(axis) && first.axes.get(index).is_some_and(|first| size(first) == size(axis))
        });
        let has_all = size(&view.axes[*own]) == view.shape.c as usize && view.has_channels(&view.axes[*own]);
        if own != which || !fits || !has_all || view.axes.len() != first.axes.len() {
            return Err("joins something else than the channels of values of one height and width".to_owned());
        }
    }
    let inputs: Vec<u32> = views.iter().map(|(view, _)| view.value).collect();
    let y = steps.layer(&call.name, Op::Concat, &inputs, Vec::new())?;
    Ok(first.gathered(y, Some((*which, steps.shape(y).c as usize))))
}

/// `Split` of channels; one view for each output.
pub(super) fn split(steps: &mut Steps, call: &Call<'_, '_>) -> Result<Vec<View>, String> {
    let x = call.image(0)?;
    let which = place(call.node.int("axis").unwrap_or(0), x.axes.len() + 1)?;
    let which = which.checked_sub(1).ok_or("splits the images of a batch")?;
    let (count, total) = (call.node.outputs.len(), size(&x.axes[which]));
    let sizes = ints_of(call.node, "split", call.optional(1)?)?;
    let sizes: Vec<usize> = match sizes {
        Some(sizes) => sizes.iter().map(|&size| usize::try_from(size).unwrap_or(usize::MAX)).collect(),
        // Parts of one size; a last one that is smaller takes what is left.
        None => {
            let part = total.div_ceil(count.max(1));
            (0..count).map(|index| part.min(total.saturating_sub(index * part))).collect()
        }
    };
    let sum = sizes.iter().try_fold(0usize, |sum, &size| sum.checked_add(size));
    if sizes.len() != count || sum != Some(total) || total > MAX_DIM {
        return Err(format!("splits {total} channels into parts of {sizes:?}"));
    }
    let mut start = 0;
    let mut views = Vec::new();
    for (index, size) in sizes.into_iter().enumerate() {
        let places: Vec<usize> = (start..start + size).collect();
        start += size;
        views.push(selected(steps, &format!("{}.{index}", call.name), x, (which, &places))?);
    }
    Ok(views)
}

/// `Slice` of channels, rows or columns.
pub(super) fn slice(steps: &mut Steps, call: &Call<'_, '_>) -> Result<View, String> {
    let x = call.image(0)?;
    let inputs = match call.opset {
        ..10 => [None; 4],
        _ => [call.optional(1)?, call.optional(2)?, call.optional(3)?, call.optional(4)?],
    };
    let mut view = x.clone();
    for (axis, places) in slices(call.node, inputs, &x.dims())? {
        let which = axis.checked_sub(1).ok_or("takes some images of a batch")?;
        let is_pixels = size(&view.axes[which]) > 1 && view.has_pixels(&view.axes[which]);
        view = match is_pixels && !view.has_channels(&view.axes[which]) {
            true => pixels(steps, &call.name, &view, (which, &places))?,
            false => selected(steps, &call.name, &view, (which, &places))?,
        };
    }
    Ok(view)
}

/// `Gather` of channels.
pub(super) fn gather(steps: &mut Steps, call: &Call<'_, '_>) -> Result<View, String> {
    let x = call.image(0)?;
    let axis = place(call.node.int("axis").unwrap_or(0), x.axes.len() + 1)?;
    let which = axis.checked_sub(1).ok_or("takes some images of a batch")?;
    let indices = call.constant(1)?;
    let count = size(&x.axes[which]);
    let places = indices.ints()?.iter().map(|&index| place(index, count)).collect::<Result<Vec<_>, _>>()?;
    let mut view = selected(steps, &call.name, x, (which, &places))?;
    match indices.dims.len() {
        0 => drop(view.axes.remove(which)),
        1 => {}
        rank => return Err(format!("takes channels by {rank} dimensions")),
    }
    Ok(view)
}

/// `Softmax`, `LogSoftmax`, `ArgMax` and `TopK` over the channels of one pixel.
pub(super) fn softmax(steps: &mut Steps, call: &Call<'_, '_>) -> Result<View, String> {
    let x = call.image(0)?;
    // Before version 13 all dimensions from the axis on were one.
    let is_choice = matches!(call.node.op, "ArgMax" | "TopK");
    let joins = call.opset < 13 && !is_choice;
    let default = match call.node.op {
        "ArgMax" => 0,
        _ if joins => 1,
        _ => -1,
    };
    let which = place(call.node.int("axis").unwrap_or(default), x.axes.len() + 1)?;
    let which = which.checked_sub(1).ok_or("is over the images of a batch")?;
    let mut others = x.axes.iter().enumerate().filter(|(index, _)| *index != which);
    let is_whole = if joins {
        x.axes[..which].iter().all(|axis| size(axis) == 1)
    } else {
        others.all(|(_, axis)| size(axis) == 1)
    };
    if !is_whole {
        return Err("is not over all channels of one pixel; only the last layer can be such".to_owned());
    }
    let x = flattened(steps, &call.name, x)?;
    let action = match call.node.op {
        "Softmax" => Action::Softmax,
        "LogSoftmax" => Action::LogSoftmax,
        _ if call.node.int("select_last_index").unwrap_or(0) != 0 || call.node.int("largest") == Some(0) => {
            return Err("picks the last or the least of classes".to_owned());
        }
        "ArgMax" => Action::Choice("ArgMax"),
        _ => Action::Choice("TopK"),
    };
    Ok(x.with(steps.plain(&call.name, action, x.value)?))
}

/// `Expand` of one pixel to many.
pub(super) fn expand<'a>(call: &Call<'a, '_>) -> Result<Value<'a>, String> {
    let x = call.image(0)?;
    let target = call.constant(1)?.ints()?;
    let own = x.dims();
    if target.len() > own.len() {
        return Err(format!("makes {} dimensions of {}", target.len(), x.text()));
    }
    let mut dims = own.clone();
    for (dim, &wanted) in dims.iter_mut().rev().zip(target.iter().rev()) {
        let is_batch = *dim == BATCH && (wanted == BATCH || Some(wanted) == call.batch);
        match wanted {
            _ if is_batch || wanted == 1 || wanted == *dim => {}
            wanted if *dim == 1 && wanted > 0 && wanted != BATCH => *dim = wanted,
            _ => return Err(format!("makes dimensions {} of {}", text(&target), x.text())),
        }
    }
    Ok(if dims == own { Value::Image(x.clone()) } else { Value::Expanded(x.clone(), dims) })
}

/// `Cast`: the value as it is, where that is a number as images and classes have them.
pub(super) fn cast<'a>(steps: &Steps, call: &Call<'a, '_>) -> Result<Value<'a>, String> {
    let to = call.node.int("to").unwrap_or(kind::FLOAT);
    let is_float = matches!(to, kind::FLOAT | kind::DOUBLE | kind::FLOAT16 | kind::BFLOAT16);
    if let Some(Some(Value::Image(view))) = call.inputs.first() {
        let is_whole = match steps.maker(view.value) {
            None => true,
            Some(step) => matches!(step.action, Action::Choice(_)),
        };
        if !is_float && !is_whole {
            return Err(format!("cuts numbers to whole ones, of type {to}"));
        }
    }
    same(call)
}

/// `Identity`, `Dropout`: the value as it is.
pub(super) fn same<'a>(call: &Call<'a, '_>) -> Result<Value<'a>, String> {
    call.inputs.first().cloned().flatten().ok_or_else(|| "has no input".to_owned())
}

/// `Shape` of a value.
pub(super) fn shape(call: &Call<'_, '_>) -> Result<Vec<i64>, String> {
    let dims = match call.inputs.first() {
        Some(Some(Value::Image(view))) => view.dims(),
        Some(Some(Value::Expanded(_, dims))) => dims.clone(),
        Some(Some(Value::Constant(constant))) => constant.dims.iter().map(|&dim| dim as i64).collect(),
        _ => return Err("has no input".to_owned()),
    };
    let rank = dims.len() as i64;
    let bound = |at: i64| if at < 0 { at.saturating_add(rank) } else { at }.clamp(0, rank) as usize;
    let start = bound(call.node.int("start").unwrap_or(0));
    let end = bound(call.node.int("end").unwrap_or(rank));
    Ok(dims.get(start..end).unwrap_or(&[]).to_vec())
}
