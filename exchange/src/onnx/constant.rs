//! Constants of a graph, and operations on constants alone: arithmetic of shapes, weights that are transposed.

use std::rc::Rc;

use super::schema::{MAX_RANK, Node};
use super::tensor::{Tensor, kind};

/// A constant: dimensions and numbers.
#[derive(Clone, Debug)]
pub(super) struct Constant<'a> {
    pub(super) dims: Vec<usize>,
    data: Data<'a>,
}

#[derive(Clone, Debug)]
enum Data<'a> {
    /// Numbers that are still in the file.
    File(Rc<Tensor<'a>>),
    /// Bytes in the file that stand for `scale (q - zero)`, along a dimension.
    Bytes(Rc<Bytes<'a>>),
    Ints(Rc<[i64]>),
    Floats(Rc<[f32]>),
}

/// Numbers in 8 or 32 bits with their scales.
#[derive(Debug)]
pub(super) struct Bytes<'a> {
    tensor: Rc<Tensor<'a>>,
    /// One for all, or one for each place along `axis`.
    pub(super) scale: Vec<f32>,
    pub(super) zero: Vec<f32>,
    pub(super) axis: usize,
}

/// Most numbers of a shape, and of what is computed of shapes.
const MAX_INTS: usize = 1 << 16;

/// What [`fold`] gives and how many bytes of memory it takes.
pub(super) type Folded<'a> = (Constant<'a>, usize);

impl<'a> Constant<'a> {
    pub(super) fn of_file(tensor: Tensor<'a>) -> Self {
        let mut dims = tensor.dims.clone();
        dims.truncate(MAX_RANK + 1);
        Constant { dims, data: Data::File(Rc::new(tensor)) }
    }

    pub(super) fn of_ints(ints: Vec<i64>) -> Self {
        Constant { dims: vec![ints.len()], data: Data::Ints(ints.into()) }
    }

    fn of_floats(dims: Vec<usize>, floats: Vec<f32>) -> Self {
        Constant { dims, data: Data::Floats(floats.into()) }
    }

    /// Bytes of numbers that are no more those of the file.
    fn computed_bytes(&self) -> usize {
        match &self.data {
            Data::File(_) => 0,
            Data::Bytes(bytes) => size_of::<f32>() * (bytes.scale.len() + bytes.zero.len()),
            Data::Ints(ints) => size_of::<i64>() * ints.len(),
            Data::Floats(floats) => size_of::<f32>() * floats.len(),
        }
    }

    /// The name of the tensor in the file; empty for what was computed.
    pub(super) fn name(&self) -> &'a str {
        match &self.data {
            Data::File(tensor) => tensor.name,
            Data::Bytes(bytes) => bytes.tensor.name,
            _ => "",
        }
    }

    /// Its scales, where it is bytes.
    pub(super) fn scales(&self) -> Option<&Bytes<'a>> {
        match &self.data {
            Data::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(super) fn is_int(&self) -> bool {
        match &self.data {
            Data::File(tensor) => {
                !matches!(tensor.kind, kind::FLOAT | kind::DOUBLE | kind::FLOAT16 | kind::BFLOAT16)
            }
            Data::Ints(_) => true,
            Data::Bytes(_) | Data::Floats(_) => false,
        }
    }

    /// Type of its numbers in the file; 0 for what was computed.
    pub(super) fn kind(&self) -> i64 {
        match &self.data {
            Data::File(tensor) => tensor.kind,
            _ => 0,
        }
    }

    /// How many numbers it has.
    ///
    /// # Errors
    /// For more than can be counted.
    pub(super) fn len(&self) -> Result<usize, String> {
        let len = self.dims.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim));
        len.ok_or_else(|| "has a constant with more numbers than can be".to_owned())
    }

    /// Its numbers.
    ///
    /// # Errors
    /// Those of [`Tensor::floats`].
    pub(super) fn floats(&self) -> Result<Vec<f32>, String> {
        match &self.data {
            Data::File(tensor) => tensor.floats(),
            Data::Bytes(bytes) => bytes.floats(),
            Data::Ints(ints) => Ok(ints.iter().map(|&int| int as f32).collect()),
            Data::Floats(floats) => Ok(floats.to_vec()),
        }
    }

    /// Its numbers as integers.
    ///
    /// # Errors
    /// Those of [`Tensor::floats`]; for more than a shape has.
    pub(super) fn ints(&self) -> Result<Vec<i64>, String> {
        if self.len()? > MAX_INTS {
            return Err(format!("takes a constant of {} numbers for a shape", self.len()?));
        }
        match &self.data {
            Data::File(tensor) => tensor.ints(),
            Data::Ints(ints) => Ok(ints.to_vec()),
            Data::Bytes(_) | Data::Floats(_) => {
                Ok(self.floats()?.iter().map(|&float| float as i64).collect())
            }
        }
    }

    /// Its only number.
    ///
    /// # Errors
    /// As [`Constant::floats`]; where there are none or several.
    pub(super) fn scalar(&self) -> Result<f32, String> {
        match (self.len()?, self) {
            (1, _) => Ok(self.floats()?[0]),
            (count, _) => Err(format!("needs one number where there are {count}")),
        }
    }

    /// The same numbers with other dimensions.
    fn with_dims(&self, dims: Vec<usize>) -> Result<Self, String> {
        let other = Constant { dims, data: self.data.clone() };
        if other.len()? != self.len()? || other.dims.len() > MAX_RANK {
            return Err("changes how many numbers a constant has".to_owned());
        }
        Ok(other)
    }

    /// The numbers `scale (q - zero)` of bytes.
    ///
    /// # Errors
    /// Where scales and zeros do not fit.
    pub(super) fn dequantized(&self, scale: Vec<f32>, zero: Vec<f32>, axis: i64) -> Result<Self, String> {
        let Data::File(tensor) = &self.data else {
            return Err("dequantizes a constant that is computed".to_owned());
        };
        let rank = self.dims.len() as i64;
        let axis = if axis < 0 { axis + rank } else { axis };
        let along = usize::try_from(axis).ok().and_then(|axis| self.dims.get(axis)).copied().unwrap_or(1);
        if scale.len() != 1 && scale.len() != along || zero.len() > scale.len() || scale.is_empty() {
            return Err(format!("has {} scales and {} zeros for {along} channels", scale.len(), zero.len()));
        }
        let axis = usize::try_from(axis).unwrap_or(0);
        let bytes = Bytes { tensor: tensor.clone(), scale, zero, axis };
        Ok(Constant { dims: self.dims.clone(), data: Data::Bytes(Rc::new(bytes)) })
    }
}

impl Bytes<'_> {
    fn floats(&self) -> Result<Vec<f32>, String> {
        let mut floats = self.tensor.floats()?;
        let inner: usize = self.tensor.dims.iter().skip(self.axis + 1).product();
        for (index, number) in floats.iter_mut().enumerate() {
            let channel = if self.scale.len() == 1 { 0 } else { index / inner % self.scale.len() };
            *number = self.scale[channel] * (*number - self.zero.get(channel).copied().unwrap_or(0.0));
        }
        Ok(floats)
    }
}

/// What a node makes of constants alone, with the bytes of memory that it takes. `None` for operations that are not folded.
///
/// # Errors
/// A sentence.
pub(super) fn fold<'a>(
    node: &Node<'a>,
    inputs: &[Option<Constant<'a>>],
    opset: i64,
) -> Option<Result<Folded<'a>, String>> {
    let first = inputs.first().and_then(Option::as_ref);
    let second = inputs.get(1).and_then(Option::as_ref);
    let kept = |result: Result<Constant<'a>, String>| {
        Some(result.map(|constant| {
            let bytes = constant.computed_bytes();
            (constant, bytes)
        }))
    };
    match (node.op, first) {
        ("Constant", _) => kept(constant(node)),
        ("ConstantOfShape", Some(shape)) => Some(filled(node, shape)),
        ("Identity" | "Dropout", Some(x)) => kept(Ok(x.clone())),
        ("Cast", Some(x)) => Some(cast(node, x)),
        ("Reshape", Some(x)) => kept(reshaped(x, second)),
        ("Flatten", Some(x)) => kept(flattened(node, x)),
        ("Unsqueeze", Some(x)) => kept(unsqueezed(node, x, second)),
        ("Squeeze", Some(x)) => kept(squeezed(node, x, second)),
        ("Transpose", Some(x)) => Some(transposed(node, x)),
        ("Gather", Some(x)) => Some(gathered(node, x, second)),
        ("Slice", Some(x)) => Some(sliced(node, x, inputs, opset)),
        ("Concat", Some(_)) => Some(joined(inputs)),
        ("Add" | "Sub" | "Mul" | "Div" | "Pow", Some(x)) => second.map(|y| arithmetic(node.op, x, y)),
        ("Equal", Some(x)) => second.map(|y| equal(x, y)),
        ("Where", Some(x)) => {
            let third = inputs.get(2).and_then(Option::as_ref);
            second.zip(third).map(|(y, z)| chosen(x, y, z))
        }
        ("Neg" | "Floor" | "Ceil" | "Sqrt" | "Reciprocal", Some(x)) => Some(elementwise(node.op, x)),
        ("DequantizeLinear", Some(x)) => {
            let zero = inputs.get(2).and_then(Option::as_ref);
            kept(dequantized(node, x, second, zero))
        }
        _ => None,
    }
}

/// Scales and zeros of a `QuantizeLinear` or `DequantizeLinear`.
///
/// # Errors
/// A sentence.
pub(super) fn scales(
    scale: Option<&Constant<'_>>,
    zero: Option<&Constant<'_>>,
) -> Result<(Vec<f32>, Vec<f32>), String> {
    let scale = scale.ok_or("has scales that are no constants")?.floats()?;
    let zero = zero.map_or(Ok(Vec::new()), Constant::floats)?;
    Ok((scale, zero))
}

fn dequantized<'a>(
    node: &Node<'a>,
    x: &Constant<'a>,
    scale: Option<&Constant<'a>>,
    zero: Option<&Constant<'a>>,
) -> Result<Constant<'a>, String> {
    let (scale, zero) = scales(scale, zero)?;
    x.dequantized(scale, zero, node.int("axis").unwrap_or(1))
}

fn constant<'a>(node: &Node<'a>) -> Result<Constant<'a>, String> {
    if let Some(tensor) = node.tensor("value") {
        return Ok(Constant::of_file(tensor));
    }
    if let Some(ints) = node.ints("value_ints") {
        return Ok(Constant::of_ints(ints));
    }
    if let Some(floats) = node.floats("value_floats") {
        return Ok(Constant::of_floats(vec![floats.len()], floats));
    }
    if let Some(float) = node.float("value_float") {
        return Ok(Constant::of_floats(Vec::new(), vec![float]));
    }
    let int = node.int("value_int").ok_or("has a value of another kind than numbers")?;
    Constant::of_ints(vec![int]).with_dims(Vec::new())
}

fn filled<'a>(node: &Node<'a>, shape: &Constant<'a>) -> Result<Folded<'a>, String> {
    let sizes = shape.ints()?;
    let dims: Option<Vec<usize>> = sizes.iter().map(|&size| usize::try_from(size).ok()).collect();
    let dims = dims.filter(|dims| dims.len() <= MAX_RANK).ok_or("has a shape that cannot be")?;
    let value = node.tensor("value").map(Constant::of_file);
    let is_int = value.as_ref().is_some_and(Constant::is_int);
    let value = value.map_or(Ok(0.0), |value| value.scalar())?;
    let len = Constant::of_floats(dims.clone(), Vec::new()).len()?;
    if len > MAX_INTS {
        return Err(format!("makes a constant of {len} numbers; up to {MAX_INTS} are supported"));
    }
    let constant = if is_int {
        Constant { dims, data: Data::Ints(vec![value as i64; len].into()) }
    } else {
        Constant::of_floats(dims, vec![value; len])
    };
    Ok((constant, len * 8))
}

fn cast<'a>(node: &Node<'a>, x: &Constant<'a>) -> Result<Folded<'a>, String> {
    let to = node.int("to").unwrap_or(0);
    let is_int = !matches!(to, kind::FLOAT | kind::DOUBLE | kind::FLOAT16 | kind::BFLOAT16);
    if is_int == x.is_int() {
        return Ok((x.clone(), 0));
    }
    let dims = x.dims.clone();
    if is_int {
        let ints = x.ints()?;
        let bytes = ints.len() * 8;
        return Ok((Constant { dims, data: Data::Ints(ints.into()) }, bytes));
    }
    let floats = x.floats()?;
    let bytes = floats.len() * 4;
    Ok((Constant::of_floats(dims, floats), bytes))
}

fn reshaped<'a>(x: &Constant<'a>, shape: Option<&Constant<'a>>) -> Result<Constant<'a>, String> {
    let shape = shape.ok_or("has no shape")?.ints()?;
    let mut dims = Vec::new();
    for (index, &size) in shape.iter().enumerate().take(MAX_RANK + 1) {
        dims.push(match size {
            0 => x.dims.get(index).copied().unwrap_or(0),
            size => usize::try_from(size).unwrap_or(1),
        });
    }
    if let Some(open) = shape.iter().position(|&size| size == -1) {
        let known = Constant::of_floats(dims.clone(), Vec::new()).len()?;
        *dims.get_mut(open).ok_or("has too many dimensions")? = x.len()?.checked_div(known).unwrap_or(0);
    }
    x.with_dims(dims)
}

fn flattened<'a>(node: &Node<'a>, x: &Constant<'a>) -> Result<Constant<'a>, String> {
    let axis = place(node.int("axis").unwrap_or(1), x.dims.len() + 1)?;
    let outer: usize = x.dims[..axis].iter().product();
    x.with_dims(vec![outer, x.len()?.checked_div(outer).unwrap_or(0)])
}

/// A dimension by its number, which counts from the end where it is negative.
///
/// # Errors
/// Where there is none.
pub(super) fn place(axis: i64, rank: usize) -> Result<usize, String> {
    let from_start = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    let found = from_start.and_then(|axis| usize::try_from(axis).ok()).filter(|&axis| axis < rank);
    found.ok_or_else(|| format!("names dimension {axis} of {rank}"))
}

/// The numbers of an attribute, or of an input in later versions of the operator.
///
/// # Errors
/// Those of [`Constant::ints`].
pub(super) fn ints_of(
    node: &Node<'_>,
    name: &str,
    input: Option<&Constant<'_>>,
) -> Result<Option<Vec<i64>>, String> {
    match input {
        Some(input) => input.ints().map(Some),
        None => Ok(node.ints(name)),
    }
}

fn unsqueezed<'a>(
    node: &Node<'a>,
    x: &Constant<'a>,
    axes: Option<&Constant<'a>>,
) -> Result<Constant<'a>, String> {
    let axes = ints_of(node, "axes", axes)?.ok_or("has no axes")?;
    let rank = x.dims.len() + axes.len();
    if rank > MAX_RANK {
        return Err(format!("makes {rank} dimensions of a constant"));
    }
    let places: Vec<usize> = axes.iter().map(|&axis| place(axis, rank)).collect::<Result<_, _>>()?;
    let mut old = x.dims.iter();
    let dims = (0..rank).map(|index| if places.contains(&index) { Some(1) } else { old.next().copied() });
    x.with_dims(dims.collect::<Option<_>>().ok_or("names a dimension twice")?)
}

fn squeezed<'a>(
    node: &Node<'a>,
    x: &Constant<'a>,
    axes: Option<&Constant<'a>>,
) -> Result<Constant<'a>, String> {
    let axes = ints_of(node, "axes", axes)?;
    let places = match axes {
        Some(axes) => axes.iter().map(|&axis| place(axis, x.dims.len())).collect::<Result<Vec<_>, _>>()?,
        None => (0..x.dims.len()).filter(|&index| x.dims[index] == 1).collect(),
    };
    x.with_dims(
        (0..x.dims.len()).filter(|index| !places.contains(index)).map(|index| x.dims[index]).collect(),
    )
}

fn transposed<'a>(node: &Node<'a>, x: &Constant<'a>) -> Result<Folded<'a>, String> {
    let rank = x.dims.len();
    let order = node.ints("perm").unwrap_or_else(|| (0..rank as i64).rev().collect());
    let order: Vec<usize> = order.iter().map(|&axis| place(axis, rank)).collect::<Result<_, _>>()?;
    if order.len() != rank || (0..rank).any(|axis| !order.contains(&axis)) {
        return Err("has an order that is none of its dimensions".to_owned());
    }
    let floats = x.floats()?;
    let strides: Vec<usize> = (0..rank).map(|axis| x.dims[axis + 1..].iter().product()).collect();
    let dims: Vec<usize> = order.iter().map(|&axis| x.dims[axis]).collect();
    let mut moved = Vec::with_capacity(floats.len());
    let mut at = vec![0; rank];
    while moved.len() < floats.len() {
        let from: usize = at.iter().zip(&order).map(|(&index, &axis)| index * strides[axis]).sum();
        moved.push(floats[from]);
        for axis in (0..rank).rev() {
            at[axis] += 1;
            if at[axis] < dims[axis] {
                break;
            }
            at[axis] = 0;
        }
    }
    let bytes = moved.len() * 4;
    Ok((Constant::of_floats(dims, moved), bytes))
}

fn gathered<'a>(
    node: &Node<'a>,
    x: &Constant<'a>,
    which: Option<&Constant<'a>>,
) -> Result<Folded<'a>, String> {
    let which = which.ok_or("takes elements that are not known before it runs")?;
    if x.dims.len() != 1 || node.int("axis").unwrap_or(0) > 0 {
        return Err("takes parts of a constant of several dimensions".to_owned());
    }
    let all = x.ints()?;
    let picked = which.ints()?.into_iter().map(|index| place(index, all.len()).map(|index| all[index]));
    let picked = picked.collect::<Result<Vec<i64>, String>>()?;
    let bytes = picked.len() * 8;
    Ok((Constant { dims: which.dims.clone(), data: Data::Ints(picked.into()) }, bytes))
}

/// Starts, ends, axes and steps of a `Slice`, in attributes before opset 10.
pub(super) type Slices = Vec<(usize, Vec<usize>)>;

/// Which places of which dimensions a `Slice` takes.
///
/// # Errors
/// A sentence.
pub(super) fn slices(
    node: &Node<'_>,
    inputs: [Option<&Constant<'_>>; 4],
    dims: &[i64],
) -> Result<Slices, String> {
    let [starts, ends, axes, steps] = inputs;
    let starts =
        ints_of(node, "starts", starts)?.ok_or("starts at a place that is not known before it runs")?;
    let ends = ints_of(node, "ends", ends)?.ok_or("ends at a place that is not known before it runs")?;
    let axes = ints_of(node, "axes", axes)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = ints_of(node, "steps", steps)?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()].iter().any(|&len| len != starts.len()) || starts.len() > MAX_RANK
    {
        return Err("has starts, ends, axes and steps of different numbers".to_owned());
    }
    let mut slices = Vec::new();
    for index in 0..starts.len() {
        let axis = place(axes[index], dims.len())?;
        let (size, step) = (dims[axis], steps[index]);
        let bound = |at: i64| if at < 0 { at.saturating_add(size) } else { at };
        let (start, end) = if step > 0 {
            (bound(starts[index]).clamp(0, size), bound(ends[index]).clamp(0, size))
        } else {
            (bound(starts[index]).clamp(0, size - 1), bound(ends[index]).clamp(-1, size - 1))
        };
        if start == 0 && end == size && step == 1 {
            continue;
        }
        if step == 0 || size > MAX_INTS as i64 {
            return Err(format!("takes every {step}. of {size}"));
        }
        let mut taken = Vec::new();
        let mut at = start;
        while if step > 0 { at < end } else { at > end } {
            taken.push(at as usize);
            at = at.saturating_add(step);
        }
        slices.push((axis, taken));
    }
    Ok(slices)
}

fn sliced<'a>(
    node: &Node<'a>,
    x: &Constant<'a>,
    inputs: &[Option<Constant<'a>>],
    opset: i64,
) -> Result<Folded<'a>, String> {
    let input = |index: usize| inputs.get(index).and_then(Option::as_ref).filter(|_| opset >= 10);
    let mut all = x.ints()?;
    let mut dims = x.dims.clone();
    let sizes: Vec<i64> = dims.iter().map(|&size| size as i64).collect();
    for (axis, places) in slices(node, [input(1), input(2), input(3), input(4)], &sizes)? {
        all = picked(&all, (&dims, axis), &places);
        dims[axis] = places.len();
    }
    let bytes = all.len() * 8;
    Ok((Constant { dims, data: Data::Ints(all.into()) }, bytes))
}

/// Some places of one dimension.
fn picked(all: &[i64], (dims, axis): (&[usize], usize), places: &[usize]) -> Vec<i64> {
    let inner: usize = dims[axis + 1..].iter().product();
    let blocks = all.chunks((inner * dims[axis]).max(1));
    blocks
        .flat_map(|block| places.iter().flat_map(move |&place| &block[place * inner..][..inner]))
        .copied()
        .collect()
}

fn joined<'a>(parts: &[Option<Constant<'a>>]) -> Result<Folded<'a>, String> {
    let mut all = Vec::new();
    for part in parts.iter().flatten() {
        if part.dims.len() != 1 {
            return Err("joins constants of several dimensions".to_owned());
        }
        all.extend(part.ints()?);
        if all.len() > MAX_INTS {
            return Err(format!("joins more than {MAX_INTS} numbers"));
        }
    }
    let bytes = all.len() * 8;
    Ok((Constant::of_ints(all), bytes))
}

/// Dimensions of two constants together, each of one number or of the same dimensions.
fn broadcast(x: &Constant<'_>, y: &Constant<'_>) -> Result<Vec<usize>, String> {
    match (x.len()?, y.len()?) {
        _ if x.dims == y.dims => Ok(x.dims.clone()),
        (_, 1) if x.dims.len() >= y.dims.len() => Ok(x.dims.clone()),
        (1, _) if y.dims.len() >= x.dims.len() => Ok(y.dims.clone()),
        _ => Err("computes with constants of different dimensions".to_owned()),
    }
}

fn arithmetic<'a>(op: &str, x: &Constant<'a>, y: &Constant<'a>) -> Result<Folded<'a>, String> {
    let dims = broadcast(x, y)?;
    let len = Constant::of_floats(dims.clone(), Vec::new()).len()?;
    if x.is_int() && y.is_int() && op != "Pow" {
        let (x, y) = (x.ints()?, y.ints()?);
        let one = |index: usize| {
            let (x, y) = (x[index % x.len()], y[index % y.len()]);
            match op {
                "Add" => x.checked_add(y),
                "Sub" => x.checked_sub(y),
                "Mul" => x.checked_mul(y),
                _ => x.checked_div(y),
            }
        };
        let ints =
            (0..len).map(one).collect::<Option<Vec<i64>>>().ok_or("computes a number that cannot be")?;
        return Ok((Constant { dims, data: Data::Ints(ints.into()) }, len * 8));
    }
    let (x, y) = (x.floats()?, y.floats()?);
    let one = |index: usize| {
        let (x, y) = (x[index % x.len()], y[index % y.len()]);
        match op {
            "Add" => x + y,
            "Sub" => x - y,
            "Mul" => x * y,
            "Div" => x / y,
            _ => x.powf(y),
        }
    };
    Ok((Constant::of_floats(dims, (0..len).map(one).collect()), len * 4))
}

/// 1 where two constants are equal, 0 elsewhere.
fn equal<'a>(x: &Constant<'a>, y: &Constant<'a>) -> Result<Folded<'a>, String> {
    let dims = broadcast(x, y)?;
    let len = Constant::of_floats(dims.clone(), Vec::new()).len()?;
    let (x, y) = (x.ints()?, y.ints()?);
    let one = |index: usize| i64::from(x[index % x.len()] == y[index % y.len()]);
    let ints: Vec<i64> = (0..len).map(one).collect();
    let bytes = ints.len() * 8;
    Ok((Constant { dims, data: Data::Ints(ints.into()) }, bytes))
}

/// Whole numbers of one constant where another is not 0, of a third elsewhere.
fn chosen<'a>(which: &Constant<'a>, x: &Constant<'a>, y: &Constant<'a>) -> Result<Folded<'a>, String> {
    if !x.is_int() || !y.is_int() {
        return Err("chooses between constants that are no whole numbers".to_owned());
    }
    let dims = broadcast(which, &Constant::of_floats(broadcast(x, y)?, Vec::new()))?;
    let len = Constant::of_floats(dims.clone(), Vec::new()).len()?;
    let (which, x, y) = (which.ints()?, x.ints()?, y.ints()?);
    let one = |index: usize| match which[index % which.len()] {
        0 => y[index % y.len()],
        _ => x[index % x.len()],
    };
    let ints: Vec<i64> = (0..len).map(one).collect();
    let bytes = ints.len() * 8;
    Ok((Constant { dims, data: Data::Ints(ints.into()) }, bytes))
}

fn elementwise<'a>(op: &str, x: &Constant<'a>) -> Result<Folded<'a>, String> {
    if x.is_int() && op == "Neg" {
        let ints: Vec<i64> = x.ints()?.iter().map(|int| int.wrapping_neg()).collect();
        let bytes = ints.len() * 8;
        return Ok((Constant { dims: x.dims.clone(), data: Data::Ints(ints.into()) }, bytes));
    }
    let one = |x: &f32| match op {
        "Neg" => -x,
        "Floor" => x.floor(),
        "Ceil" => x.ceil(),
        "Sqrt" => x.sqrt(),
        _ => 1.0 / x,
    };
    let floats: Vec<f32> = x.floats()?.iter().map(one).collect();
    let bytes = floats.len() * 4;
    Ok((Constant::of_floats(x.dims.clone(), floats), bytes))
}
