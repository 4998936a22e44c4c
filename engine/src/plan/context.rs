//! What the steps before the layers found out about a network, for those that make them.

use super::choice::Choice;
use super::stage::{Form, Kind, Stage};
use crate::exec::{Exec, Mode};
use crate::geometry::Shape;
use crate::graph::{Activation, Graph, Node, Op, ParamKind};
use crate::layers::filters::{Filters, NormParams};
use crate::params::ParamLayout;
use crate::quantization::{LayerScale, Quantization, ValueScale};

/// A network cut into stages.
pub(super) struct Context<'a> {
    pub(super) graph: &'a Graph,
    pub(super) shapes: Vec<Shape>,
    pub(super) layout: ParamLayout,
    pub(super) mode: Mode,
    pub(super) exec: &'a Exec,
    /// The algorithms of each node that is a convolution.
    pub(super) choices: Vec<Option<Choice>>,
    pub(super) stages: Vec<Stage>,
    /// For every value the one that it is the same memory as.
    pub(super) alias: Vec<usize>,
    /// Values that are there until the end of a pass.
    pub(super) keep: &'a [usize],
    /// The scales of what is computed in 8 bits.
    pub(super) quantization: Option<&'a Quantization>,
    /// What each stage reads and makes; empty where all of them compute with floats.
    pub(super) forms: Vec<Form>,
}

impl Context<'_> {
    pub(super) fn has_backward(&self) -> bool {
        self.mode.has_backward()
    }

    /// When the backward pass of a stage runs.
    pub(super) fn backward_time(&self, stage: usize) -> usize {
        2 * self.stages.len() - stage
    }

    pub(super) fn node(&self, stage: &Stage) -> &Node {
        &self.graph.nodes[stage.node]
    }

    /// What the stage that runs at `time` reads and makes.
    pub(super) fn form(&self, time: usize) -> Form {
        self.forms.get(time).copied().unwrap_or(Form::all(Kind::Floats))
    }

    /// What the stage that runs at `time` reads as its input number `i`.
    pub(super) fn reads(&self, time: usize, i: usize) -> Kind {
        let is_scale = i == 1 && matches!(self.node(&self.stages[time]).op, Op::ChannelScale);
        if is_scale { Kind::Floats } else { self.form(time).reads }
    }

    /// The scale of a value that is in bytes.
    pub(super) fn scale(&self, value: usize) -> &ValueScale {
        let found = self.quantization.and_then(|own| own.value(self.alias[value]));
        found.expect("what is in bytes has a scale")
    }

    /// The scales of a stage that is a convolution of bytes.
    pub(super) fn layer_scale(&self, stage: &Stage) -> &LayerScale {
        let found = self.quantization.and_then(|own| own.layer(stage.node));
        found.expect("a convolution of bytes has scales")
    }

    /// The algorithms of a stage that is a convolution.
    pub(super) fn choice(&self, stage: &Stage) -> &Choice {
        self.choices[stage.node].as_ref().expect("every convolution has a choice")
    }

    /// Shape of the first value that a stage reads.
    pub(super) fn input_shape(&self, stage: &Stage) -> Shape {
        self.shapes[stage.inputs[0]]
    }

    /// Whether each value has a gradient: it depends on a parameter that learns, or on the value whose gradient is wanted.
    pub(super) fn has_gradient(&self) -> Vec<bool> {
        let mut has = vec![false; self.shapes.len()];
        for stage in &self.stages {
            let find = |kind| self.layout.find(stage.node, kind);
            let own = self.mode.of(stage.node).learns()
                && find(ParamKind::Weight).or(find(ParamKind::Scale)).is_some();
            let wanted = self.mode == Mode::Gradient { value: stage.output };
            has[stage.output] = own || wanted || stage.inputs.iter().any(|&value| has[self.alias[value]]);
        }
        has
    }

    /// Whether the pool that alone reads a value can apply the ReLU that made it.
    pub(super) fn pool_applies_relu(&self, value: usize) -> bool {
        let root = self.alias[value];
        let maker = self.stages.iter().find(|stage| stage.output == root);
        maker.is_some_and(|stage| {
            stage.act == Some(Activation::Relu)
                && stage.pool.is_none()
                && matches!(self.node(stage).op, Op::Conv2d(_))
        }) && self.readers(root) == 1
    }

    /// The clamp that made the input of a pointwise or depthwise convolution, if that is its only reader: it applies the
    /// clamp's derivative to the gradient of its input, which is in a cache then.
    pub(super) fn gate(&self, stage: &Stage) -> Option<Activation> {
        let root = self.alias[stage.inputs[0]];
        let fits = self.choices[stage.node]
            .as_ref()
            .is_some_and(|choice| choice.geometry.is_pointwise() || choice.geometry.is_depthwise());
        let maker = self.stages.iter().find(|maker| maker.output == root).filter(|_| fits)?;
        let made = matches!(self.node(maker).op, Op::Conv2d(_)) && maker.pool.is_none();
        maker.act.filter(|_| made && self.readers(root) == 1)
    }

    /// The batch normalisation that made the input of the stage that runs at `time`, if that stage is its only reader and can
    /// take the normalisation's sums from the gradient of its own input.
    pub(super) fn norm_before(&self, time: usize) -> Option<usize> {
        let stage = &self.stages[time];
        let takes = matches!(
            self.node(stage).op,
            Op::Conv2d(_) | Op::MaxPool2d(_) | Op::AvgPool2d(_) | Op::GlobalAvgPool | Op::GlobalMaxPool
        );
        let root = self.alias[stage.inputs[0]];
        let norm = self.stages.iter().position(|maker| maker.output == root).filter(|_| takes)?;
        let is_norm = matches!(self.node(&self.stages[norm]).op, Op::BatchNorm(_));
        // A flatten between them is the same memory with other channels.
        let fits = self.shapes[stage.inputs[0]] == self.shapes[root]
            && self.reads(time, 0) == self.form(norm).makes
            && self.readers(root) == 1;
        let fits = is_norm && fits;
        fits.then_some(norm)
    }

    /// The stage of the batch normalisation in training whose output nothing stores, as the stage that runs at `time`, which alone
    /// reads it, makes it where it reads it: a depthwise convolution, or a pointwise one of floats.
    pub(super) fn norm_on_load(&self, time: usize) -> Option<usize> {
        let stage = &self.stages[time];
        let choice = self.choices[stage.node].as_ref()?;
        let fits = match self.form(time).reads {
            Kind::Bytes => false,
            _ if choice.geometry.is_depthwise() => true,
            // Behind a pool there is no common pass of both gradients.
            Kind::Floats => choice.geometry.is_pointwise() && !self.has_norm_pool_behind(stage),
            Kind::Halves => false,
        };
        let is_plain = stage.pool.is_none() && stage.project.is_none() && stage.residual.is_none();
        let norm = self.norm_before(time).filter(|_| fits && is_plain)?;
        let own = &self.stages[norm];
        (matches!(self.mode.of(own.node), Mode::Train(_)) && own.pool.is_none()).then_some(norm)
    }

    /// Whether what reads the output of a stage is a batch normalisation with a pool.
    fn has_norm_pool_behind(&self, stage: &Stage) -> bool {
        let reads = |s: &&Stage| s.inputs.iter().any(|&v| self.alias[v] == stage.output);
        let is_norm = |s: &Stage| matches!(self.node(s).op, Op::BatchNorm(_));
        self.stages.iter().filter(reads).any(|s| is_norm(s) && s.pool.is_some())
    }

    /// Whether the output of the stage that runs at `time` is made where it is read.
    pub(super) fn is_made_on_load(&self, time: usize) -> bool {
        let root = self.stages[time].output;
        let reads = |s: &Stage| s.inputs.first().is_some_and(|&v| self.alias[v] == root);
        let reader = self.stages.iter().position(reads);
        reader.is_some_and(|reader| self.norm_on_load(reader) == Some(time))
    }

    /// The convolution that made the input of the batch normalisation that runs at `time`, if it can take the moments of its
    /// outputs. One that is computed as at inference may be joined with others, by the number of threads.
    pub(super) fn maker_of_norm(&self, time: usize) -> Option<usize> {
        let value = self.stages[time].inputs[0];
        let root = self.alias[value];
        let maker = self.stages.iter().position(|maker| maker.output == root)?;
        let stage = &self.stages[maker];
        let writes = matches!(self.node(stage).op, Op::Conv2d(_)) && stage.pool.is_none();
        let fits = self.mode.of(stage.node) != Mode::Infer
            && self.shapes[value] == self.shapes[root]
            && self.form(maker).makes == self.reads(time, 0);
        (writes && fits).then_some(maker)
    }

    /// Whether a value has one reader, and nobody is given it after a pass.
    pub(super) fn has_one_reader(&self, value: usize) -> bool {
        self.readers(self.alias[value]) == 1
    }

    /// How often stages read a value, and whoever is given it after a pass.
    fn readers(&self, root: usize) -> usize {
        let count =
            |values: &mut dyn Iterator<Item = &usize>| values.filter(|&&v| self.alias[v] == root).count();
        let reads = |stage: &Stage| count(&mut stage.inputs.iter().chain(&stage.residual));
        self.stages.iter().map(reads).sum::<usize>() + count(&mut self.keep.iter())
    }

    /// Whether the only reader of a stage's output applies the derivative of its activation.
    pub(super) fn is_gated(&self, stage: &Stage) -> bool {
        let reads = |s: &&Stage| s.inputs.iter().any(|&v| self.alias[v] == stage.output);
        self.has_pool_for_relu(stage)
            || self.stages.iter().find(reads).is_some_and(|s| self.gate(s).is_some())
    }

    /// Whether the only reader of a stage's output is a max pool that applies its ReLU.
    fn has_pool_for_relu(&self, stage: &Stage) -> bool {
        let reads = |s: &&Stage| s.inputs.iter().any(|&v| self.alias[v] == stage.output);
        let is_pool = |s: &Stage| matches!(self.node(s).op, Op::MaxPool2d(_));
        self.pool_applies_relu(stage.output) && self.stages.iter().find(reads).is_some_and(is_pool)
    }

    /// The weights of a stage, and what folds into them.
    pub(super) fn filters(&self, stage: &Stage, cout: usize) -> Filters {
        let find = |kind| self.layout.find(stage.node, kind).map(|entry| entry.range());
        Filters {
            w: find(ParamKind::Weight).expect("a layer with filters has weights"),
            b: find(ParamKind::Bias),
            norm: stage.norm.map(|node| self.norm_params(node)),
            cout,
        }
    }

    pub(super) fn norm_params(&self, node: usize) -> NormParams {
        let Op::BatchNorm(norm) = &self.graph.nodes[node].op else {
            unreachable!("only a batch normalisation folds")
        };
        let range =
            |kind| self.layout.find(node, kind).expect("a batch normalisation has its parameters").range();
        NormParams {
            scale: range(ParamKind::Scale),
            shift: range(ParamKind::Shift),
            mean: range(ParamKind::RunningMean),
            var: range(ParamKind::RunningVar),
            eps: norm.eps,
            momentum: norm.momentum,
        }
    }
}
