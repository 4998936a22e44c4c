//! Parameters of a graph as PyTorch keeps them.
//!
//! | ours | PyTorch's |
//! |---|---|
//! | convolution `[kh][kw][cin / groups][cout]` | `[cout][cin / groups][kh][kw]` |
//! | dense `[in][out]` | `[out][in]` |
//! | `scale`, `shift` of a normalisation | `weight`, `bias` |
//!
//! A flatten gives values in the order `h, w, c` here and in the order `c, h, w` there, so what reads them has its inputs in
//! another order. That holds for dense layers and normalisations which read one flatten, also through activations; where
//! several flattened values are joined, ours is kept.

use std::collections::BTreeMap;

use ocelli_engine::geometry::Shape;
use ocelli_engine::graph::{Graph, Op};
use ocelli_engine::{Model, ParamEntry, ParamKind, ParamLayout};

use super::tensor::{Tensor, text};
use crate::error::{ExchangeError, Unsupported};

/// Tensors by name, in the order of the names; `Err` has the reason why one cannot be read.
pub(super) type Tensors<'a> = BTreeMap<String, Result<Tensor<'a>, String>>;

/// Most tensors that an error lists.
const MOST_LISTED: usize = 400;

/// Last part of the name that PyTorch gives a parameter.
pub(super) fn suffix(kind: ParamKind) -> &'static str {
    match kind {
        ParamKind::Weight | ParamKind::Scale => "weight",
        ParamKind::Bias | ParamKind::Shift => "bias",
        ParamKind::RunningMean => "running_mean",
        ParamKind::RunningVar => "running_var",
    }
}

/// Shape that PyTorch gives a parameter.
pub(super) fn shape(entry: &ParamEntry) -> Vec<usize> {
    match entry.shape[..] {
        [kh, kw, cin, cout] => vec![cout, cin, kh, kw],
        [cin, cout] => vec![cout, cin],
        _ => entry.shape.clone(),
    }
}

/// For each value of a graph the shape that it had before it was flattened, where its order is another one in PyTorch.
fn flattened(graph: &Graph, shapes: &[Shape]) -> Vec<Option<Shape>> {
    let mut of: Vec<Option<Shape>> = vec![None];
    for node in &graph.nodes {
        let first = node.inputs[0] as usize;
        let x = shapes[first];
        let flat = match node.op {
            Op::Flatten if x.h * x.w > 1 => Some(x).filter(|x| x.c > 1),
            Op::Flatten | Op::BatchNorm(_) | Op::Activation(_) | Op::Dropout { .. } => of[first],
            Op::Add | Op::ChannelScale => of[first].filter(|_| of[first] == of[node.inputs[1] as usize]),
            _ => None,
        };
        of.push(flat);
    }
    of
}

/// Which of our places each of PyTorch's is, for the inputs of each node whose parameters are in another order.
pub(super) struct Orders {
    of_input: Vec<Option<Shape>>,
}

impl Orders {
    /// The orders of a graph whose shapes are known.
    pub(super) fn new(graph: &Graph, shapes: &[Shape]) -> Self {
        let flat = flattened(graph, shapes);
        let input = |node: &ocelli_engine::graph::Node| match node.op {
            Op::Dense(_) | Op::BatchNorm(_) => flat[node.inputs[0] as usize],
            _ => None,
        };
        Orders { of_input: graph.nodes.iter().map(input).collect() }
    }

    fn order(&self, entry: &ParamEntry) -> Order {
        // The bias of a dense layer belongs to its outputs.
        Order(self.of_input[entry.node()].filter(|_| entry.kind != ParamKind::Bias))
    }
}

/// Order of the inputs of one parameter.
#[derive(Clone, Copy)]
struct Order(Option<Shape>);

impl Order {
    /// Our place of what is at a place in PyTorch's order.
    fn ours(self, theirs: usize) -> usize {
        let Some(Shape { h, w, c }) = self.0 else { return theirs };
        let (h, w, c) = (h as usize, w as usize, c as usize);
        let (channel, pixel) = (theirs / (h * w), theirs % (h * w));
        pixel * c + channel
    }
}

/// Our place in a parameter for each place in PyTorch's, with the coordinates there: calls `each(ours, coordinates)` in
/// PyTorch's order.
fn walk(entry: &ParamEntry, order: Order, mut each: impl FnMut(usize, &[usize])) {
    match entry.shape[..] {
        [kh, kw, cin, cout] => {
            for o in 0..cout {
                for i in 0..cin {
                    for y in 0..kh {
                        for x in 0..kw {
                            each(((y * kw + x) * cin + i) * cout + o, &[o, i, y, x]);
                        }
                    }
                }
            }
        }
        [cin, cout] => {
            for o in 0..cout {
                for i in 0..cin {
                    each(order.ours(i) * cout + o, &[o, i]);
                }
            }
        }
        _ => (0..entry.len()).for_each(|i| each(order.ours(i), &[i])),
    }
}

/// The numbers of a parameter in PyTorch's order, one after the other.
pub(super) fn in_torch_order(entry: &ParamEntry, orders: &Orders, values: &[f32], mut each: impl FnMut(f32)) {
    walk(entry, orders.order(entry), |ours, _| each(values[ours]));
}

/// The model of a graph with the parameters of a file: `name` says what the file calls each of the graph's.
///
/// # Errors
/// [`ExchangeError::Unsupported`] with every tensor that is missing, that the graph has not, that has another shape or that
/// cannot be read; [`ExchangeError::Damaged`] for numbers that are not finite.
pub(super) fn model(
    format: &'static str,
    graph: Graph,
    tensors: &Tensors<'_>,
    name: impl Fn(&ParamEntry) -> String,
) -> Result<Model, ExchangeError> {
    let layout = ParamLayout::new(&graph)?;
    let named: Vec<(String, &ParamEntry)> = layout.entries().iter().map(|e| (name(e), e)).collect();
    let problems = problems(&named, tensors);
    if !problems.is_empty() {
        return Err(ExchangeError::Unsupported { format, parts: problems });
    }
    let orders = Orders::new(&graph, &graph.shapes()?);
    let mut model = Model::zeros(graph)?;
    for (name, entry) in named {
        let Some(Ok(tensor)) = tensors.get(&name) else { unreachable!("all were found to be there") };
        let values = &mut model.params_mut()[entry.range()];
        walk(entry, orders.order(entry), |ours, theirs| values[ours] = tensor.at(tensor.place(theirs)));
        let is_variance = entry.kind == ParamKind::RunningVar;
        if let Some(value) = values.iter().find(|v| !v.is_finite() || is_variance && **v < 0.0) {
            let reason =
                format!("tensor `{name}` holds {value}: its training went wrong, or the file is damaged");
            return Err(ExchangeError::Damaged { format, reason });
        }
    }
    Ok(model)
}

/// All that stands between a graph and the tensors of a file.
fn problems(named: &[(String, &ParamEntry)], tensors: &Tensors<'_>) -> Vec<Unsupported> {
    let problem = |name: &str, tensor: Option<&Tensor<'_>>, reason: String| Unsupported {
        node: name.to_owned(),
        op: "tensor".to_owned(),
        shapes: tensor.map(|tensor| text(&tensor.shape)).unwrap_or_default(),
        reason,
    };
    let mut found = Vec::new();
    for (name, entry) in named {
        let expected = text(&shape(entry));
        match tensors.get(name) {
            None => found.push(problem(name, None, format!("is missing; the network has one of {expected}"))),
            Some(Err(reason)) => found.push(problem(name, None, reason.clone())),
            Some(Ok(tensor)) if tensor.shape != shape(entry) => {
                found.push(problem(name, Some(tensor), format!("the network has {expected} there")));
            }
            Some(Ok(tensor)) if !tensor.dtype.is_float() => {
                let dtype = tensor.dtype.name();
                let reason =
                    format!("holds {dtype}; weights are read as float64, float32, float16 or bfloat16");
                found.push(problem(name, Some(tensor), reason));
            }
            Some(Ok(_)) => {}
        }
    }
    let known: std::collections::HashSet<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
    for (name, tensor) in tensors {
        if !known.contains(name.as_str()) {
            let tensor = tensor.as_ref().ok();
            found.push(problem(name, tensor, "the network has no such tensor".to_owned()));
        }
    }
    if found.len() > MOST_LISTED {
        let more = found.len() - MOST_LISTED;
        found.truncate(MOST_LISTED);
        found.push(problem("...", None, format!("{more} more")));
    }
    found
}
