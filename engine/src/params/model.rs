//! Parameters as one flat buffer: every learnable tensor first, running statistics after, each 64-byte aligned.
//!
//! Gradients and optimiser moments use the same offsets, so optimisers, clipping and checkpoints are loops over
//! slices.

use crate::buffer::Buffer;
use crate::error::EngineError;
use crate::geometry::{MAX_ELEMENTS, Shape};
pub use crate::graph::ParamKind;
use crate::graph::{Graph, Op};
use crate::rng::Rng;

/// Floats between the starts of neighbouring tensors are a multiple of this: one 64-byte line.
const ALIGN: usize = 16;

/// Name, shape and place of one parameter tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamEntry {
    /// `layer.weight`, `layer.bias`, `layer.scale`, `layer.shift`, `layer.running_mean`, `layer.running_var`.
    pub name: String,
    /// What it is.
    pub kind: ParamKind,
    /// Its shape, outermost dimension first.
    pub shape: Vec<usize>,
    /// Its first float in the flat buffer.
    pub offset: usize,
    /// Node that owns it.
    node: usize,
}

impl ParamEntry {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The node that owns it, by its place in the graph.
    pub fn node(&self) -> usize {
        self.node
    }

    /// Number of inputs that one output of these weights sums over.
    fn fan_in(&self) -> usize {
        self.shape.split_last().map_or(1, |(_, inputs)| inputs.iter().product())
    }

    /// The floats it occupies in the flat buffer.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.len()
    }
}

/// Places of all parameters of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamLayout {
    entries: Vec<ParamEntry>,
    trainable: usize,
    total: usize,
}

impl ParamLayout {
    /// Lays the parameters of a graph out.
    ///
    /// # Errors
    /// [`EngineError::Graph`] for a graph that is malformed or has more than [`MAX_ELEMENTS`](crate::geometry::MAX_ELEMENTS) parameters.
    pub fn new(graph: &Graph) -> Result<Self, EngineError> {
        let shapes = graph.shapes()?;
        let mut entries = Vec::new();
        for (index, node) in graph.nodes.iter().enumerate() {
            for (kind, shape) in node.op.params(shapes[node.inputs[0] as usize]) {
                let name = format!("{}.{}", node.name, kind.suffix());
                entries.push(ParamEntry { name, kind, shape, offset: 0, node: index });
            }
        }
        let mut total = 0usize;
        let mut trainable = 0;
        for learnt in [true, false] {
            for entry in entries.iter_mut().filter(|e| e.kind.is_trainable() == learnt) {
                entry.offset = total;
                // Each factor is bounded by geometry checks, the product of a dense layer is not.
                let len = entry.shape.iter().try_fold(1usize, |a, &b| a.checked_mul(b));
                let end = len.and_then(|len| total.checked_add(len.next_multiple_of(ALIGN)));
                total = end.filter(|&end| end <= MAX_ELEMENTS).ok_or_else(|| {
                    EngineError::graph(
                        &graph.nodes[entry.node].name,
                        format!("the network has more than 2^{} parameters", MAX_ELEMENTS.ilog2()),
                    )
                })?;
            }
            if learnt {
                trainable = total;
            }
        }
        Ok(ParamLayout { entries, trainable, total })
    }

    /// All tensors in the order of the graph.
    pub fn entries(&self) -> &[ParamEntry] {
        &self.entries
    }

    /// Floats of the learnable part, padding included.
    pub fn trainable(&self) -> usize {
        self.trainable
    }

    /// Floats of the whole buffer, padding included.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Learnable numbers, padding left out: what a model summary calls parameters.
    pub fn count(&self) -> usize {
        self.entries.iter().filter(|e| e.kind.is_trainable()).map(ParamEntry::len).sum()
    }

    /// The tensor of a node by what it is.
    pub(crate) fn find(&self, node: usize, kind: ParamKind) -> Option<&ParamEntry> {
        self.entries.iter().find(|e| e.node == node && e.kind == kind)
    }
}

/// A network with its parameters.
#[derive(Clone, Debug)]
pub struct Model {
    graph: Graph,
    layout: ParamLayout,
    params: Buffer,
}

impl Model {
    /// Fresh parameters: weights uniform in `±sqrt(6 / fan_in)` (He et al., 2015), biases and shifts zero,
    /// scales one, running statistics of a standard normal.
    ///
    /// # Errors
    /// As [`ParamLayout::new`].
    pub fn init(graph: Graph, seed: u64) -> Result<Self, EngineError> {
        let mut model = Model::zeros(graph)?;
        for index in 0..model.layout.entries.len() {
            let entry = &model.layout.entries[index];
            let values = &mut model.params[entry.range()];
            match entry.kind {
                ParamKind::Weight => {
                    let bound = (6.0 / entry.fan_in() as f32).sqrt();
                    let mut rng = Rng::new(seed, index as u64);
                    values.fill_with(|| (rng.uniform() * 2.0 - 1.0) * bound);
                }
                ParamKind::Scale | ParamKind::RunningVar => values.fill(1.0),
                ParamKind::Bias | ParamKind::Shift | ParamKind::RunningMean => {}
            }
        }
        Ok(model)
    }

    /// All parameters zero: a place to read weights into.
    ///
    /// # Errors
    /// As [`ParamLayout::new`].
    pub fn zeros(graph: Graph) -> Result<Self, EngineError> {
        let layout = ParamLayout::new(&graph)?;
        let params = Buffer::zeros(layout.total());
        Ok(Model { graph, layout, params })
    }

    /// The network.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Where each parameter lies.
    pub fn layout(&self) -> &ParamLayout {
        &self.layout
    }

    /// The flat parameters.
    pub fn params(&self) -> &[f32] {
        &self.params
    }

    /// The flat parameters, to change.
    pub fn params_mut(&mut self) -> &mut [f32] {
        &mut self.params
    }

    /// Takes over the parameters of another model of the same network, which may have fewer classes: those come first,
    /// with their weights, and the weights of further ones stay as they are.
    ///
    /// # Errors
    /// [`EngineError::Config`] for another network, or one with more classes; nothing has changed then.
    pub fn adopt(&mut self, other: &Model) -> Result<(), EngineError> {
        let pairs = || self.layout.entries.iter().zip(&other.layout.entries);
        let fits = |(own, other): (&ParamEntry, &ParamEntry)| {
            let ((last, rest), (other_last, other_rest)) =
                (own.shape.split_last()?, other.shape.split_last()?);
            let grows = own.node + 1 == self.graph.nodes.len() && other_last <= last;
            let same = own.name == other.name && own.kind == other.kind && rest == other_rest;
            (same && (last == other_last || grows)).then_some((*other_last, *last))
        };
        let counts = (self.layout.entries.len(), other.layout.entries.len());
        if counts.0 != counts.1 || pairs().any(|pair| fits(pair).is_none()) {
            return Err(EngineError::Config(
                "weights can be taken over from the same network alone".to_owned(),
            ));
        }
        let places: Vec<_> = pairs().map(|pair| (pair.0.range(), pair.1.range(), fits(pair))).collect();
        for (own, theirs, columns) in places {
            let (from, to) = columns.expect("checked above");
            let rows = other.params[theirs].chunks_exact(from);
            self.params[own]
                .chunks_exact_mut(to)
                .zip(rows)
                .for_each(|(row, old)| row[..from].copy_from_slice(old));
        }
        Ok(())
    }

    /// The same parameters for images of another size.
    ///
    /// # Errors
    /// [`EngineError::Graph`] for a size that the network does not take, or on which it would have other parameters.
    pub fn with_input(self, input: Shape) -> Result<Model, EngineError> {
        let graph = self.graph.with_input(input)?;
        Ok(Model { graph, ..self })
    }

    /// Takes over the parameters of another model of the same network, whatever its number of classes: all but those of
    /// the last layer, which stay as they are.
    ///
    /// # Errors
    /// [`EngineError::Config`] for another network; nothing has changed then.
    pub fn adopt_body(&mut self, other: &Model) -> Result<(), EngineError> {
        let last = |model: &Model| model.graph.nodes.len() - 1;
        let body = |model: &Model| -> Vec<ParamEntry> {
            let last = last(model);
            model.layout.entries.iter().filter(|entry| entry.node != last).cloned().collect()
        };
        let (own, theirs) = (body(self), body(other));
        let same =
            |(a, b): (&ParamEntry, &ParamEntry)| (&a.name, a.kind, &a.shape) == (&b.name, b.kind, &b.shape);
        if own.len() != theirs.len() || !own.iter().zip(&theirs).all(same) {
            return Err(EngineError::Config(
                "weights can be taken over from the same network alone".to_owned(),
            ));
        }
        for (own, theirs) in own.iter().zip(&theirs) {
            self.params[own.range()].copy_from_slice(&other.params[theirs.range()]);
        }
        Ok(())
    }

    /// The last layer, which must be dense, as a network of its own with the same parameters: it reads an image's features.
    ///
    /// # Errors
    /// [`EngineError::Config`] where the last layer is of another kind.
    pub fn last_layer(&self) -> Result<Model, EngineError> {
        let (last, len) = (self.graph.nodes.last(), self.graph.feature_len());
        let (Some(Op::Dense(dense)), Some(len)) = (last.map(|node| &node.op), len) else {
            return Err(EngineError::Config("the last layer is not dense".to_owned()));
        };
        let mut graph = Graph::new(Shape::new(1, 1, len));
        graph.then("dense", Op::Dense(dense.clone()));
        let mut layer = Model::zeros(graph)?;
        let own = self.layout.entries.iter().filter(|entry| entry.node + 1 == self.graph.nodes.len());
        for (entry, own) in layer.layout.entries.iter().zip(own) {
            layer.params[entry.range()].copy_from_slice(&self.params[own.range()]);
        }
        Ok(layer)
    }

    /// Takes over the parameters of a network with one layer as those of the last layer.
    ///
    /// # Errors
    /// [`EngineError::Config`] where their shapes differ; nothing has changed then.
    pub fn set_last_layer(&mut self, other: &Model) -> Result<(), EngineError> {
        let last = self.graph.nodes.len() - 1;
        let own: Vec<ParamEntry> =
            self.layout.entries.iter().filter(|entry| entry.node == last).cloned().collect();
        let theirs = &other.layout.entries;
        let same = |(a, b): (&ParamEntry, &ParamEntry)| (a.kind, &a.shape) == (b.kind, &b.shape);
        if own.len() != theirs.len() || !own.iter().zip(theirs).all(same) {
            return Err(EngineError::Config(
                "the layer has other weights than the network's last one".to_owned(),
            ));
        }
        for (own, theirs) in own.iter().zip(theirs) {
            self.params[own.range()].copy_from_slice(&other.params[theirs.range()]);
        }
        Ok(())
    }

    /// One tensor's values by name.
    pub fn tensor(&self, name: &str) -> Option<&[f32]> {
        let entry = self.layout.entries.iter().find(|e| e.name == name)?;
        Some(&self.params[entry.range()])
    }
}
