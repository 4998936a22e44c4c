//! From stages to layers: places in memory, packed weights, work space.

use super::choice::Choice;
use super::fuse::{Fused, Stage, fuse};
use super::{Plan, PlanMemory};
use crate::arena::{ArenaBuilder, Slot};
use crate::buffer::Buffer;
use crate::error::EngineError;
use crate::exec::{Exec, Mode};
use crate::geometry::{Conv2dGeometry, PoolGeometry, Shape};
use crate::graph::{Activation, Graph, Op};
use crate::kernels::conv2d::WeightGradient;
use crate::kernels::gemm::{self, GemmShape};
use crate::kernels::winograd::SharedTiles;
use crate::layers::activation::ActivationLayer;
use crate::layers::add::AddLayer;
use crate::layers::batchnorm::{BatchNormLayer, BatchNormTraining, PARTIALS, SAVED};
use crate::layers::conv2d::{
    Conv2dBackward, Conv2dLayer, DataGradient, FilterMethod, Gradient, Method, Pooled, PooledBackward,
    Shared, weight_chunks,
};
use crate::layers::dense::{DenseBackward, DenseLayer};
use crate::layers::depthwise::{DepthwiseBackward, DepthwiseFilters, DepthwiseLayer};
use crate::layers::dropout::DropoutLayer;
use crate::layers::panels::Panels;
use crate::layers::pool::{PoolBackward, PoolKind, PoolLayer};
use crate::layers::separable::{Pointwise, SeparableLayer};
use crate::layers::{Filters, GradOut, Layer, NormParams};
use crate::parallel::Threads;
use crate::params::{ParamKind, ParamLayout};
use std::ops::Range;
use std::sync::Arc;

/// Most floats of a plan: 64 GiB, past which a batch is a mistake.
const MAX_FLOATS: usize = 1 << 34;

/// Floats of the tensors of a pass: 8 MiB in training, 32 MiB at inference.
const TRAINING_CHUNK: usize = 2 << 20;
const INFERENCE_CHUNK: usize = 8 << 20;

/// Starts of packed weights are multiples of this many floats: one 64-byte line.
const ALIGN: usize = 16;

/// A plan without its memory.
struct Draft {
    layers: Vec<Box<dyn Layer>>,
    chunk: usize,
    input: Slot,
    logits: Slot,
    dlogits: Option<Slot>,
}

pub(super) struct Builder<'a> {
    graph: &'a Graph,
    shapes: &'a [Shape],
    layout: &'a ParamLayout,
    mode: Mode,
    exec: Exec,
    stages: Vec<Stage>,
    alias: Vec<usize>,
    arena: ArenaBuilder,
    /// Places of values and of their gradients, by value; aliases share their root's.
    values: Vec<Option<Slot>>,
    grads: Vec<Option<Slot>>,
    /// Whether a value depends on a parameter.
    needs_grad: Vec<bool>,
    /// Number of readers of a value among the stages.
    readers: Vec<usize>,
    /// Whether a gradient has been written by a later stage.
    written: Vec<bool>,
    /// Where the moments of a value are that a batch normalisation reads and a convolution makes.
    moments: Vec<Option<Slot>>,
    packed: usize,
    scratch: usize,
    macs: usize,
}

impl<'a> Builder<'a> {
    pub(super) fn new(
        graph: &'a Graph,
        shapes: &'a [Shape],
        layout: &'a ParamLayout,
        mode: Mode,
        exec: Exec,
    ) -> Self {
        let Fused { stages, alias } = fuse(graph, shapes, mode, &exec);
        let values = shapes.len();
        let mut needs_grad = vec![false; values];
        let mut readers = vec![0; values];
        for stage in &stages {
            let own =
                layout.find(stage.node, ParamKind::Weight).or(layout.find(stage.node, ParamKind::Scale));
            needs_grad[stage.output] = own.is_some() || stage.inputs.iter().any(|&v| needs_grad[alias[v]]);
            stage.inputs.iter().chain(&stage.residual).for_each(|&v| readers[alias[v]] += 1);
        }
        Builder {
            graph,
            shapes,
            layout,
            mode,
            exec,
            stages,
            alias,
            arena: ArenaBuilder::default(),
            values: vec![None; values],
            grads: vec![None; values],
            needs_grad,
            readers,
            written: vec![false; values],
            moments: vec![None; values],
            packed: 0,
            scratch: 0,
            macs: 0,
        }
    }

    fn is_training(&self) -> bool {
        self.mode == Mode::Train
    }

    /// When the backward pass of a stage runs.
    fn backward_time(&self, stage: usize) -> usize {
        2 * self.stages.len() - stage
    }

    pub(super) fn build(mut self, batch: usize) -> Result<Plan, EngineError> {
        let Draft { layers, chunk, input, logits, dlogits } = self.draft(batch)?;
        Ok(Plan {
            layers,
            arena: self.arena.build(chunk),
            packed: Buffer::zeros(self.packed),
            threads: Arc::new(Threads::new(self.exec.threads, self.scratch)?),
            exec: self.exec,
            batch,
            chunk,
            input,
            logits,
            dlogits,
            input_len: self.shapes[0].len(),
            classes: self.shapes[self.shapes.len() - 1].len(),
            macs: self.macs,
        })
    }

    /// What [`Builder::build`] would take, without taking it.
    pub(super) fn measure(mut self, batch: usize) -> Result<(PlanMemory, usize), EngineError> {
        let chunk = self.draft(batch)?.chunk;
        let floats = [self.arena.len(chunk), self.packed, self.scratch];
        let memory = PlanMemory::of_floats(floats, &self.exec);
        Ok((memory, chunk))
    }

    /// Makes the layers; whoever takes memory for them is told how much.
    fn draft(&mut self, batch: usize) -> Result<Draft, EngineError> {
        let stages = self.stages.clone();
        let end = stages.len();
        let input = self.arena.add(self.shapes[0].len(), 0, 0);
        self.values[0] = Some(input);
        for (time, stage) in stages.iter().enumerate() {
            let slot = self.arena.add(self.shapes[stage.output].len(), 0, time);
            self.values[stage.output] = Some(slot);
            for &value in stage.inputs.iter().chain(&stage.residual) {
                let slot = self.value(value);
                self.arena.touch(slot, time);
            }
        }
        let output = self.shapes.len() - 1;
        let logits = self.value(output);
        self.arena.touch(logits, end);
        let mut dlogits = None;
        if self.is_training() {
            let slot = self.arena.add(self.shapes[output].len(), 0, end);
            self.grads[self.alias[output]] = Some(slot);
            self.written[self.alias[output]] = true;
            dlogits = Some(slot);
        }
        // Backward order, so that the last reader of a value is the first to write its gradient.
        let mut layers = Vec::with_capacity(end);
        for (time, stage) in stages.iter().enumerate().rev() {
            layers.push(self.layer(time, stage)?);
        }
        layers.reverse();
        let chunk = self.chunk(batch);
        let floats = self.arena.total(chunk);
        if floats > MAX_FLOATS {
            let needed = floats >> 28;
            return Err(EngineError::Config(format!(
                "a batch of {batch} images needs {needed} GiB: use a smaller batch"
            )));
        }
        Ok(Draft { layers, chunk, input, logits, dlogits })
    }

    /// Images of a pass: as few as it takes for their tensors to stay in a third-level cache, if all layers treat images
    /// one by one and the parameters, which every pass reads and whose gradients it adds to, are few beside them.
    fn chunk(&self, batch: usize) -> usize {
        let joins = |stage: &Stage| matches!(self.graph.nodes[stage.node].op, Op::BatchNorm(_));
        let per_image = self.arena.total(2) - self.arena.total(1);
        let (cached, fewest) = if self.is_training() { (TRAINING_CHUNK, 16) } else { (INFERENCE_CHUNK, 1) };
        let most = (cached / per_image.max(1)).max(fewest);
        if self.is_training() && self.stages.iter().any(joins) {
            return batch;
        }
        let passes = batch.div_ceil(most);
        let extra = (passes - 1) * 2 * self.layout.total();
        let chunk = if extra > per_image * batch / 4 { batch } else { batch.div_ceil(passes) };
        let asked = if self.is_training() && self.exec.chunk > 0 { self.exec.chunk } else { batch };
        if chunk <= asked { chunk } else { batch.div_ceil(batch.div_ceil(asked)) }
    }

    /// The place of a value.
    fn value(&self, value: usize) -> Slot {
        self.values[self.alias[value]].expect("values are placed in the order in which stages make them")
    }

    /// The value is read or written by the backward pass of a stage.
    fn keep(&mut self, value: usize, stage: usize) {
        let slot = self.value(value);
        let time = self.backward_time(stage);
        self.arena.touch(slot, time);
    }

    /// The gradient of a stage's output, which its backward pass reads and may change.
    fn grad_in(&mut self, time: usize, stage: &Stage) -> Slot {
        let slot = self.grads[self.alias[stage.output]].expect("every value but the last has a reader");
        let now = self.backward_time(time);
        self.arena.touch(slot, now);
        slot
    }

    /// Where the gradient of a stage's input goes; `None` when nothing before it learns.
    fn grad_out(&mut self, time: usize, value: usize) -> Option<GradOut> {
        let root = self.alias[value];
        if !self.needs_grad[root] {
            return None;
        }
        let now = self.backward_time(time);
        let len = self.shapes[root].len();
        let slot = *self.grads[root].get_or_insert_with(|| self.arena.add(len, 0, now));
        self.arena.touch(slot, now);
        let temp = self.written[root].then(|| self.arena.add(len, 0, now));
        self.written[root] = true;
        Some(GradOut { slot, temp })
    }

    fn take_packed(&mut self, len: usize) -> Range<usize> {
        let start = self.packed;
        self.packed = (start + len).next_multiple_of(ALIGN);
        start..start + len
    }

    fn norm_params(&self, node: usize) -> NormParams {
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

    fn filters(&self, stage: &Stage, cout: usize) -> Filters {
        let w = self
            .layout
            .find(stage.node, ParamKind::Weight)
            .expect("a layer with filters has weights")
            .range();
        let b = self.layout.find(stage.node, ParamKind::Bias).map(|entry| entry.range());
        Filters { w, b, norm: stage.norm.map(|node| self.norm_params(node)), cout }
    }

    /// Whether the pool that alone reads a value can apply the ReLU that made it.
    fn gates(&self, value: usize) -> bool {
        let root = self.alias[value];
        let maker = self.stages.iter().find(|stage| stage.output == root);
        self.readers[root] == 1
            && maker.is_some_and(|stage| {
                stage.act == Some(Activation::Relu)
                    && stage.pool.is_none()
                    && matches!(self.graph.nodes[stage.node].op, Op::Conv2d(_))
            })
    }

    /// Whether the only reader of a stage's output is a max pool that applies its ReLU.
    fn is_gated(&self, stage: &Stage) -> bool {
        let reader = self.stages.iter().find(|s| s.inputs.iter().any(|&v| self.alias[v] == stage.output));
        let is_pool = |s: &Stage| matches!(self.graph.nodes[s.node].op, Op::MaxPool2d(_));
        self.gates(stage.output) && reader.is_some_and(is_pool)
    }

    fn layer(&mut self, time: usize, stage: &Stage) -> Result<Box<dyn Layer>, EngineError> {
        let node = &self.graph.nodes[stage.node];
        let first = stage.expand.as_ref().map_or(stage.inputs[0], |expand| expand.output);
        let shape = self.shapes[first];
        let (x, y) = (self.value(stage.inputs[0]), self.value(stage.output));
        Ok(match &node.op {
            Op::Conv2d(conv) => {
                let geometry = Conv2dGeometry::new(&node.name, shape, conv)?;
                self.macs += geometry.macs();
                if let Some(project) = &stage.project {
                    Box::new(self.separable(stage, project, geometry))
                } else if geometry.is_depthwise() {
                    self.depthwise(time, stage, geometry)
                } else {
                    self.conv2d(time, stage, geometry)
                }
            }
            Op::Dense(dense) => {
                let shape = GemmShape { depth: shape.len(), cols: dense.units as usize };
                self.macs += shape.depth * shape.cols;
                self.dense(time, stage, shape)
            }
            Op::BatchNorm(_) => self.batchnorm(time, stage),
            Op::MaxPool2d(pool) => {
                self.pool(time, stage, PoolKind::Max, PoolGeometry::new(&node.name, shape, pool)?)
            }
            Op::AvgPool2d(pool) => {
                self.pool(time, stage, PoolKind::Avg, PoolGeometry::new(&node.name, shape, pool)?)
            }
            Op::GlobalAvgPool => self.pool(time, stage, PoolKind::GlobalAvg, global(shape)),
            Op::GlobalMaxPool => self.pool(time, stage, PoolKind::GlobalMax, global(shape)),
            Op::Activation(act) => {
                let clamps = matches!(act, Activation::Relu | Activation::Relu6);
                let saved = if clamps { stage.output } else { stage.inputs[0] };
                let backward = self.backward_pair(time, stage);
                if backward.is_some() {
                    self.keep(saved, time);
                }
                Box::new(ActivationLayer { act: *act, x, y, saved: self.value(saved), backward })
            }
            Op::Dropout { rate } => {
                let backward = self.backward_pair(time, stage);
                let image_len = shape.len();
                Box::new(DropoutLayer { rate: *rate, node: stage.node as u64, image_len, x, y, backward })
            }
            Op::Add => {
                let (a, b) = (x, self.value(stage.inputs[1]));
                let mut backward = None;
                if self.is_training() && self.needs_grad[stage.output] {
                    let dy = self.grad_in(time, stage);
                    let outs = [self.grad_out(time, stage.inputs[0]), self.grad_out(time, stage.inputs[1])];
                    if stage.act.is_some() {
                        self.keep(stage.output, time);
                    }
                    backward = Some((dy, outs));
                }
                Box::new(AddLayer { a, b, y, act: stage.act, backward })
            }
            Op::Flatten => unreachable!("a flatten is an alias"),
        })
    }

    /// Gradients of a layer without parameters; `None` at inference or when nothing before it learns.
    fn backward_pair(&mut self, time: usize, stage: &Stage) -> Option<(Slot, GradOut)> {
        if !self.is_training() {
            return None;
        }
        let dx = self.grad_out(time, stage.inputs[0])?;
        Some((self.grad_in(time, stage), dx))
    }

    fn conv2d(&mut self, time: usize, stage: &Stage, geometry: Conv2dGeometry) -> Box<dyn Layer> {
        let isa = self.exec.isa;
        let filters = self.filters(stage, geometry.cout);
        let choice = Choice::new(&geometry, self.mode, &self.exec);
        let mut method = choice.forward(isa, &geometry);
        if let (Method::Winograd(winograd, shared), Mode::Infer) = (&mut method, self.mode) {
            *shared = SharedTiles::new(winograd).map(|tiles| {
                let pixels = self.arena.add(0, tiles.pixels_len(), time);
                let products = self.arena.add(0, tiles.products_len(), time);
                Box::new(Shared { pixels, products, tiles })
            });
        }
        let bias = if filters.has_bias() { geometry.cout } else { 0 };
        let packed = self.take_packed(method.packed_len() + bias);
        let mut pool = stage.pool.map(|pool| Pooled::new(&method, pool));
        let scratch = pool.as_ref().map_or(method.scratch_len(), |pool| pool.scratch_len(&method));
        self.scratch = self.scratch.max(scratch);
        let residual = stage.residual.map(|value| self.value(value));
        let moments = self.moments[stage.output];
        let mut backward = None;
        if self.is_training() {
            let now = self.backward_time(time);
            let gradient = self.filter_gradient(now, &choice, &geometry, &filters);
            self.keep(stage.inputs[0], time);
            let mut dy = self.grad_in(time, stage);
            if let Some(pool) = &mut pool {
                let winners = self.arena.add(self.shapes[stage.output].len(), 0, time);
                self.arena.touch(winners, now);
                pool.backward = Some(PooledBackward { dy, winners, act: stage.act });
                dy = self.arena.add(geometry.y_len(), 0, now);
            } else {
                self.keep(stage.output, time);
            }
            let dx = self.grad_out(time, stage.inputs[0]).map(|out| {
                let method = choice.backward_data(isa, &geometry);
                self.scratch = self.scratch.max(method.scratch_len());
                let packed = self.take_packed(method.packed_len());
                DataGradient { out, method, packed }
            });
            let mask = pool.is_none() && !self.is_gated(stage);
            backward = Some(Conv2dBackward { dy, mask, dx, gradient });
        }
        let (x, y) = (self.value(stage.inputs[0]), self.value(stage.output));
        let act = stage.act;
        Box::new(Conv2dLayer {
            geometry,
            x,
            y,
            residual,
            moments,
            act,
            filters,
            method,
            pool,
            packed,
            backward,
        })
    }

    /// The gradient of a convolution's filters and bias, which is computed at time `now`.
    fn filter_gradient(
        &mut self,
        now: usize,
        choice: &Choice,
        geometry: &Conv2dGeometry,
        filters: &Filters,
    ) -> Gradient {
        let bias = if filters.b.is_some() { geometry.cout } else { 0 };
        let method = match choice.filter_gradient(self.exec.isa, geometry) {
            Some(gradient) => {
                let chunks = self.arena.add(0, gradient.block_chunks() * gradient.chunk_len(), now);
                let sums = self.arena.add(0, gradient.sums_len(), now);
                FilterMethod::Winograd(gradient, chunks, sums)
            }
            None => {
                let direct = WeightGradient::new(self.exec.isa, geometry);
                self.scratch = self.scratch.max(direct.scratch_len());
                FilterMethod::Direct(direct)
            }
        };
        let weights = if matches!(method, FilterMethod::Direct(_)) { filters.w.len() } else { 0 };
        let partials = self.arena.add(0, weight_chunks(weights + bias) * (weights + bias), now);
        Gradient { method, partials }
    }

    /// A depthwise convolution with the pointwise ones around it.
    fn separable(&mut self, stage: &Stage, project: &Stage, geometry: Conv2dGeometry) -> SeparableLayer {
        let expand = stage.expand.as_ref().map(|expand| self.pointwise(expand, geometry.h * geometry.w));
        let depthwise = self.depthwise_filters(stage, geometry);
        let project = self.pointwise(project, geometry.oh * geometry.ow);
        let (x, y) = (self.value(stage.inputs[0]), self.value(stage.output));
        let residual = stage.residual.map(|value| self.value(value));
        let layer = SeparableLayer { x, y, residual, expand, depthwise, project };
        self.scratch = self.scratch.max(layer.scratch_len());
        layer
    }

    fn pointwise(&mut self, stage: &Stage, pixels: usize) -> Pointwise {
        let (depth, cols) = (self.shapes[stage.inputs[0]].c as usize, self.shapes[stage.output].c as usize);
        self.macs += pixels * depth * cols;
        let shape = GemmShape { depth, cols };
        let filters = self.filters(stage, cols);
        let packed = self.take_packed(Panels::len(self.exec.isa, shape, &filters));
        Pointwise { weights: Panels { shape, filters, packed }, act: stage.act }
    }

    fn depthwise_filters(&mut self, stage: &Stage, geometry: Conv2dGeometry) -> DepthwiseFilters {
        let filters = self.filters(stage, geometry.cout);
        let packed = self.take_packed(DepthwiseFilters::len(&filters));
        DepthwiseFilters { geometry, act: stage.act, filters, packed }
    }

    fn depthwise(&mut self, time: usize, stage: &Stage, geometry: Conv2dGeometry) -> Box<dyn Layer> {
        let depthwise = self.depthwise_filters(stage, geometry);
        let mut backward = None;
        if self.is_training() {
            let filters = &depthwise.filters;
            let partial_len = filters.w.len() + if filters.b.is_some() { geometry.cout } else { 0 };
            let now = self.backward_time(time);
            let partials = self.arena.add(0, weight_chunks(partial_len) * partial_len, now);
            self.keep(stage.inputs[0], time);
            self.keep(stage.output, time);
            let dy = self.grad_in(time, stage);
            let dx = self.grad_out(time, stage.inputs[0]);
            backward = Some(DepthwiseBackward { dy, mask: !self.is_gated(stage), dx, partials });
        }
        let (x, y) = (self.value(stage.inputs[0]), self.value(stage.output));
        Box::new(DepthwiseLayer { depthwise, x, y, backward })
    }

    fn dense(&mut self, time: usize, stage: &Stage, shape: GemmShape) -> Box<dyn Layer> {
        let isa = self.exec.isa;
        let filters = self.filters(stage, shape.cols);
        let packed = self.take_packed(Panels::len(isa, shape, &filters));
        let mut backward = None;
        if self.is_training() {
            self.keep(stage.inputs[0], time);
            self.keep(stage.output, time);
            let dy = self.grad_in(time, stage);
            self.scratch = self.scratch.max(gemm::weight_gradient_scratch(isa));
            let transposed = GemmShape { depth: shape.cols, cols: shape.depth };
            let dx = self.grad_out(time, stage.inputs[0]);
            let dx = dx.map(|out| (out, self.take_packed(gemm::packed_len(isa, transposed))));
            backward = Some(DenseBackward { dy, dx });
        }
        let (x, y) = (self.value(stage.inputs[0]), self.value(stage.output));
        let weights = Panels { shape, filters, packed };
        Box::new(DenseLayer { weights, x, y, act: stage.act, backward })
    }

    fn batchnorm(&mut self, time: usize, stage: &Stage) -> Box<dyn Layer> {
        let shape = self.shapes[stage.inputs[0]];
        let channels = shape.c as usize;
        let saved = self.arena.add(0, SAVED * channels, time);
        let mut training = None;
        if self.is_training() {
            let now = self.backward_time(time);
            self.keep(stage.inputs[0], time);
            self.arena.touch(saved, now);
            let partials = self.arena.add(0, PARTIALS * channels, time);
            self.arena.touch(partials, now);
            let dy = self.grad_in(time, stage);
            let moments = self.input_moments(time, stage, channels);
            let dx = self.grad_out(time, stage.inputs[0]);
            training = Some(BatchNormTraining { dy, dx, moments, partials });
        }
        Box::new(BatchNormLayer {
            pixels: (shape.h * shape.w) as usize,
            channels,
            x: self.value(stage.inputs[0]),
            y: self.value(stage.output),
            act: stage.act,
            params: self.norm_params(stage.node),
            saved,
            training,
        })
    }

    /// A place for the moments of a batch normalisation's input, if a convolution makes it and can take them.
    fn input_moments(&mut self, time: usize, stage: &Stage, channels: usize) -> Option<Slot> {
        let value = self.alias[stage.inputs[0]];
        let makes = |s: &Stage| s.output == value && matches!(&self.graph.nodes[s.node].op, Op::Conv2d(_));
        let maker = self.stages.iter().position(makes)?;
        let conv = &self.stages[maker];
        let Op::Conv2d(layer) = &self.graph.nodes[conv.node].op else { return None };
        let depthwise = layer.groups > 1 && layer.groups == self.shapes[conv.inputs[0]].c;
        if depthwise || conv.pool.is_some() {
            return None;
        }
        let slot = self.arena.add(2 * channels, 0, maker);
        self.arena.touch(slot, time);
        self.moments[value] = Some(slot);
        Some(slot)
    }

    fn pool(&mut self, time: usize, stage: &Stage, kind: PoolKind, geometry: PoolGeometry) -> Box<dyn Layer> {
        let gate = matches!(kind, PoolKind::Max) && self.gates(stage.inputs[0]);
        let backward = self.backward_pair(time, stage).map(|(dy, dx)| {
            self.keep(stage.inputs[0], time);
            self.keep(stage.output, time);
            PoolBackward { dy, dx, gate }
        });
        Box::new(PoolLayer {
            kind,
            geometry,
            x: self.value(stage.inputs[0]),
            y: self.value(stage.output),
            backward,
        })
    }
}

/// The window that covers a whole image.
fn global(shape: Shape) -> PoolGeometry {
    let (h, w) = (shape.h as usize, shape.w as usize);
    PoolGeometry { h, w, c: shape.c as usize, kernel: [h, w], stride: [h, w], padding: [0; 4], oh: 1, ow: 1 }
}
