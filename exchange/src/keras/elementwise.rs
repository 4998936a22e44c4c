//! Layers and operations that join values, or that rename, scale or sort their numbers.

use ocelli_engine::graph::{MAX_INPUTS, Op};
use ocelli_engine::{Activation, Shape};
use serde_json::Value;

use super::builder::{Arg, Builder, Call};
use super::draft::{Affine, Stop, Tensor};
use super::fields::{Fields, whole};

/// Arithmetic on two values.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
}

impl Builder {
    /// `a op b`, either of which may be a constant.
    pub(super) fn arithmetic(&mut self, call: &Call, op: Arithmetic) -> Result<Tensor, Stop> {
        let [a, b] = call.args else {
            return Err(Stop::Unsupported(format!("{} values, not two", call.args.len())));
        };
        match (a, b) {
            (Arg::Tensor(a), Arg::Tensor(b)) => match op {
                Arithmetic::Add => self.sum(call.name, &[a, b]),
                Arithmetic::Subtract => {
                    let minus = self.affine(call.name, b, &scaled(vec![-1.0]))?;
                    self.sum(call.name, &[a, &minus])
                }
                Arithmetic::Multiply => self.product(call.name, a, b),
                Arithmetic::Divide => Err(Stop::Unsupported("divides a value by another".to_owned())),
            },
            (Arg::Tensor(x), Arg::Constant(c)) => {
                let c = c.clone();
                let by = match op {
                    Arithmetic::Add => shifted(c),
                    Arithmetic::Subtract => shifted(c.iter().map(|c| -c).collect()),
                    Arithmetic::Multiply => scaled(c),
                    Arithmetic::Divide => scaled(c.iter().map(|c| 1.0 / c).collect()),
                };
                self.affine(call.name, x, &by)
            }
            (Arg::Constant(c), Arg::Tensor(x)) => {
                let c = c.clone();
                let by = match op {
                    Arithmetic::Add => shifted(c),
                    Arithmetic::Subtract => Affine { scale: vec![-1.0], shift: c },
                    Arithmetic::Multiply => scaled(c),
                    Arithmetic::Divide => {
                        return Err(Stop::Unsupported("divides a number by a value".to_owned()));
                    }
                };
                self.affine(call.name, x, &by)
            }
            _ => Err(Stop::Unsupported("its arguments are no values and no numbers".to_owned())),
        }
    }

    /// The sum of values of one shape.
    pub(super) fn sum(&mut self, name: &str, values: &[&Tensor]) -> Result<Tensor, Stop> {
        let Some((first, rest)) = values.split_first() else {
            return Err(Stop::Unsupported("joins nothing".to_owned()));
        };
        let mut sum = self.plain(name, first)?;
        for (index, x) in rest.iter().enumerate() {
            let value = self.plain(name, x)?;
            let (a, b) = (self.draft.shape(sum), self.draft.shape(value));
            if a != b {
                return Err(Stop::Unsupported(format!(
                    "joins {a} and {b}: only values of one shape are supported"
                )));
            }
            let name = if index == 0 { name.to_owned() } else { format!("{name}.{index}") };
            sum = self.draft.push(&name, Op::Add, &[sum, value], Vec::new())?;
        }
        Ok(self.tensor(sum, first.dims.clone()))
    }

    /// The mean of values of one shape.
    pub(super) fn average(&mut self, name: &str, values: &[&Tensor]) -> Result<Tensor, Stop> {
        let sum = self.sum(name, values)?;
        self.affine(name, &sum, &scaled(vec![1.0 / values.len() as f64]))
    }

    /// A value times another: the gate of a squeeze-and-excitation, or a value times an activation of itself.
    pub(super) fn product(&mut self, name: &str, a: &Tensor, b: &Tensor) -> Result<Tensor, Stop> {
        for (x, gate) in [(a, b), (b, a)] {
            let gated = self.draft.activation(gate.value).filter(|(_, read)| {
                *read == x.value && gate.affine.is_identity() && x.affine.is_identity() && x.pad == gate.pad
            });
            let op = match gated {
                Some((Activation::Sigmoid, _)) => Activation::Silu,
                Some((Activation::HardSigmoid, _)) => Activation::HardSwish,
                _ => continue,
            };
            return self.push_like(name, Op::Activation(op), x);
        }
        // The gate is whatever has one number a channel.
        let flat = |shape: Shape| shape.h == 1 && shape.w == 1;
        let (x, gate) = if flat(self.shape(b)) { (a, b) } else { (b, a) };
        let (value, scale) = (self.plain(name, x)?, self.plain(name, gate)?);
        let (shape, by) = (self.draft.shape(value), self.draft.shape(scale));
        if !flat(by) || shape.c != by.c {
            return Err(Stop::Unsupported(format!(
                "multiplies {shape} and {by}: supported are one number a channel, and a value times its own sigmoid"
            )));
        }
        let y = self.push(name, Op::ChannelScale, &[value, scale], Vec::new())?;
        Ok(y.with_dims(x.dims.clone()))
    }

    /// Values one after the other along their channels.
    pub(super) fn concatenate(&mut self, call: &Call, values: &[&Tensor]) -> Result<Tensor, Stop> {
        let [first, _, ..] = values else {
            return Err(Stop::Unsupported("joins fewer than two values".to_owned()));
        };
        let rank = first.dims.len();
        let axis = call.config.number("axis").unwrap_or(-1.0);
        if (axis != -1.0 && axis != rank as f64) || values.iter().any(|x| x.dims.len() != rank || rank == 2) {
            return Err(Stop::Unsupported(
                "joins along another axis than the last, which has the channels".to_owned(),
            ));
        }
        let mut plain = Vec::with_capacity(values.len());
        for x in values {
            plain.push(self.plain(call.name, x)?);
        }
        let mut joined = plain[0];
        for (index, chunk) in plain[1..].chunks(MAX_INPUTS - 1).enumerate() {
            let mut inputs = vec![joined];
            inputs.extend(chunk);
            let name = if index == 0 { call.name.to_owned() } else { format!("{}.{index}", call.name) };
            joined = self.draft.push(&name, Op::Concat, &inputs, Vec::new())?;
        }
        let Shape { h, w, c } = self.draft.shape(joined);
        Ok(Tensor::new(joined, if rank == 1 { vec![c] } else { vec![h, w, c] }))
    }

    /// All numbers in one row.
    pub(super) fn flatten(&mut self, name: &str, x: &Tensor) -> Result<Tensor, Stop> {
        let shape = self.shape(x);
        if shape.h == 1 && shape.w == 1 && x.pad == [0; 4] {
            return Ok(x.clone().with_dims(vec![shape.c]));
        }
        if let [h, w] = x.dims[..]
            && x.value == 0
        {
            self.note(format!("the input of {h}x{w} without channels is taken for gray images"));
        }
        let value = self.plain(name, x)?;
        self.push(name, Op::Flatten, &[value], Vec::new())
    }

    /// Other sides for the same numbers in the same order, where that is only another way to say it.
    pub(super) fn reshape(&mut self, call: &Call, x: &Tensor, target: &[Value]) -> Result<Tensor, Stop> {
        let all = x.dims.iter().try_fold(1u32, |all, &side| all.checked_mul(side)).unwrap_or(0);
        let known = target.iter().filter_map(whole).try_fold(1u32, u32::checked_mul).unwrap_or(0);
        let rest = all.checked_div(known).unwrap_or(0);
        let dims: Vec<u32> = target.iter().map(|side| whole(side).unwrap_or(rest)).collect();
        let product = dims.iter().try_fold(1u32, |all, &side| all.checked_mul(side));
        let shape = self.shape(x);
        if product == Some(all) && x.pad == [0; 4] {
            let same = match dims[..] {
                [n] if n == shape.c && all == n => true,
                [h, w, c] => (h, w, c) == (shape.h, shape.w, shape.c),
                [h, w] => (h, w) == (shape.h, shape.w) && shape.c == 1,
                _ => false,
            };
            if same {
                return Ok(x.clone().with_dims(dims));
            }
            if dims.len() == 1 {
                return self.flatten(call.name, x);
            }
        }
        Err(Stop::Unsupported(format!("makes {dims:?} of {:?}", x.dims)))
    }

    /// `x[..., slice]`: channels of a value.
    pub(super) fn slice(&mut self, call: &Call, x: &Tensor, slices: &[Value]) -> Result<Tensor, Stop> {
        let unsupported =
            || Err(Stop::Unsupported("takes other slices than whole images and some channels".to_owned()));
        let Some((last, before)) = slices.split_last() else { return unsupported() };
        let bounds = |value: &Value| {
            let fields = Fields(value).get("config").map_or(Fields(value), Fields);
            let part = |name: &str| fields.number(name);
            [part("start"), part("stop"), part("step")]
        };
        let ellipsis = before.iter().any(|value| value.as_str() == Some("...") || is_ellipsis(value));
        let whole = |value: &Value| {
            is_ellipsis(value)
                || value.as_str() == Some("...")
                || (value.is_object() && bounds(value) == [None; 3])
        };
        let covers = ellipsis || before.len() == x.dims.len();
        if !covers || !before.iter().all(whole) || !last.is_object() || x.dims.len() == 2 {
            return unsupported();
        }
        let c = self.shape(x).c as i64;
        let [start, stop, step] = bounds(last).map(|number| number.map(|number| number as i64));
        let step = step.unwrap_or(1);
        if step == 0 {
            return unsupported();
        }
        let at = |given: Option<i64>, default: i64| match given {
            None => default,
            Some(index) => (if index < 0 { index.saturating_add(c) } else { index })
                .clamp(if step > 0 { 0 } else { -1 }, if step > 0 { c } else { c - 1 }),
        };
        let (start, stop) =
            if step > 0 { (at(start, 0), at(stop, c)) } else { (at(start, c - 1), at(stop, -1)) };
        let mut channels = Vec::new();
        let mut next = start;
        while if step > 0 { next < stop } else { next > stop } {
            channels.push(next as u32);
            next = next.saturating_add(step);
        }
        let value = self.plain(call.name, x)?;
        let y = self.push(call.name, Op::ChannelGather { channels }, &[value], Vec::new())?;
        let c = y.dims[2];
        Ok(if x.dims.len() == 1 { y.with_dims(vec![c]) } else { y })
    }
}

fn is_ellipsis(value: &Value) -> bool {
    let class = Fields(value).text("class_name").unwrap_or("");
    class.to_ascii_lowercase().contains("ellipsis")
}

fn scaled(scale: Vec<f64>) -> Affine {
    Affine { scale, shift: vec![0.0] }
}

fn shifted(shift: Vec<f64>) -> Affine {
    Affine { scale: vec![1.0], shift }
}
