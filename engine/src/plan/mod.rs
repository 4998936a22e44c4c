//! A graph compiled for a batch: layers with every place in memory resolved, run without allocation or look-up.
//!
//! Compilation (`planner`) resolves shapes, chooses the algorithms of convolutions (`choice`), fuses neighbours into stages
//! (`fuse`), gives every value a place in one arena by liveness (`place`) and makes the layers (`lower`). Time runs forward over the stages `0 .. s`, stops at the loss `s`, and runs
//! backward from `s + 1` (the last stage) to `2 s` (the first).

mod buckets;
mod bytes;
mod choice;
mod context;
mod fuse;
mod halves;
mod lower;
mod memory;
mod place;
mod planner;
mod separable;
mod stage;

use crate::arena::{Arena, Slot};
use crate::buffer::Buffer;
use crate::collective::Team;
use crate::error::EngineError;
use crate::exec::{Exec, Mode};
use crate::graph::Graph;
use crate::layers::run::{Layer, Run, Weights};
use crate::parallel::Threads;
use crate::params::ParamLayout;
use crate::quantization::Quantization;
pub(crate) use buckets::Bucket;
use buckets::{Complete, buckets};
pub(crate) use bytes::{ByteConvolution, ByteStage};
#[doc(hidden)]
pub use choice::chosen_tile;
pub use memory::PlanMemory;
pub(crate) use planner::byte_stages;
use planner::{Draft, Kept};

use std::sync::Arc;

/// Most images of a batch.
pub const MAX_BATCH: usize = 1 << 16;

fn check_batch_size(batch: usize) -> Result<(), EngineError> {
    if batch == 0 || batch > MAX_BATCH {
        return Err(EngineError::Config(format!("a batch of {batch} images is not in 1..={MAX_BATCH}")));
    }
    Ok(())
}

/// A graph compiled for at most `batch` images.
pub struct Plan {
    layers: Vec<Box<dyn Layer>>,
    arena: Arena,
    packed: Buffer,
    /// Work space in which filters are folded; empty where nothing learns: weights are packed once then, and it is made for
    /// that time.
    folding: Buffer,
    /// Floats of that work space.
    folding_len: usize,
    threads: Arc<Threads>,
    exec: Exec,
    memory: PlanMemory,
    batch: usize,
    chunk: usize,
    input: Slot,
    logits: Slot,
    /// What the last dense layer reads and its length, at inference.
    features: Option<(Slot, usize)>,
    /// Values that are there until the end of a pass, besides.
    kept: Vec<Kept>,
    /// Gradient of the logits, where there is a backward pass.
    dlogits: Option<Slot>,
    /// The gradient that [`Mode::Gradient`] asks for.
    gradient: Option<Slot>,
    input_len: usize,
    classes: usize,
    /// Multiply-adds of one image's forward pass.
    macs: usize,
    /// When the gradients of each parameter that learns are complete.
    complete: Vec<Complete>,
}

/// Parameters and gradients of one training step.
pub(crate) struct StepState<'a> {
    pub(crate) params: &'a mut [f32],
    pub(crate) grads: &'a mut [f32],
    /// Images of the pass, and of the batch before it.
    pub(crate) images: usize,
    pub(crate) first: usize,
    /// The ranks that share the batch.
    pub(crate) team: Team<'a>,
    pub(crate) seed: u64,
    pub(crate) step: u64,
}

impl<'a> StepState<'a> {
    /// Parameters alone: nothing is learnt.
    pub(crate) fn of_inference(params: &'a mut [f32], images: usize) -> Self {
        StepState { params, grads: &mut [], images, first: 0, team: Team::ALONE, seed: 0, step: 0 }
    }
}

impl Plan {
    /// Compiles a graph for batches of up to `batch` images.
    ///
    /// # Errors
    /// [`EngineError::Graph`] for a malformed graph, [`EngineError::Config`] for a batch that is empty or too large,
    /// [`EngineError::Memory`], before any memory is taken, for more than [`Exec::memory_limit`] bytes.
    pub fn compile(graph: &Graph, batch: usize, mode: Mode, exec: &Exec) -> Result<Plan, EngineError> {
        Plan::compile_with(graph, (batch, mode), (&[], None), exec, |_| 0)
    }

    /// As [`Plan::compile`], for an owner that takes the floats that `owned` gives besides. The values `keep` of
    /// [`Graph::inner_values`] are there until the end of a pass, or in their place the one of [`Mode::Gradient`]. What has
    /// scales is computed in 8 bits, at inference.
    pub(crate) fn compile_with(
        graph: &Graph,
        (batch, mode): (usize, Mode),
        (keep, quantization): (&[usize], Option<&Quantization>),
        exec: &Exec,
        owned: impl FnOnce(&ParamLayout) -> usize,
    ) -> Result<Plan, EngineError> {
        check_batch_size(batch)?;
        let draft = Draft::new(graph, (batch, mode), (keep, quantization), exec)?;
        let memory = PlanMemory::new(draft.sizes, owned(&draft.layout), exec)?;
        memory.check(exec.memory_limit)?;
        Ok(Plan {
            arena: draft.arena.build(),
            packed: Buffer::zeros(draft.sizes.packed),
            folding: Buffer::zeros(draft.sizes.folding),
            folding_len: draft.folding,
            threads: Arc::new(Threads::new(&exec.pool, exec.wait, draft.sizes.scratch)?),
            exec: exec.clone(),
            memory,
            layers: draft.layers,
            batch,
            chunk: draft.chunk,
            input: draft.input,
            logits: draft.logits,
            features: draft.features,
            kept: draft.kept,
            dlogits: draft.dlogits,
            gradient: draft.gradient,
            input_len: draft.input_len,
            classes: draft.classes,
            macs: draft.macs,
            complete: draft.complete,
        })
    }

    /// What [`Plan::compile`] would take, whatever the limit is, and how many images a pass would have, without taking
    /// memory or starting threads.
    ///
    /// # Errors
    /// As [`Plan::compile`].
    pub fn measure(
        graph: &Graph,
        batch: usize,
        mode: Mode,
        exec: &Exec,
    ) -> Result<(PlanMemory, usize), EngineError> {
        check_batch_size(batch)?;
        let draft = Draft::new(graph, (batch, mode), (&[], None), exec)?;
        Ok((PlanMemory::new(draft.sizes, 0, exec)?, draft.chunk))
    }

    /// Most images of a batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Most images of one pass over the layers: a batch is computed in chunks that stay in a cache, where no layer needs
    /// all of it at once.
    pub fn chunk(&self) -> usize {
        self.chunk
    }

    /// Floats of one input image.
    pub fn input_len(&self) -> usize {
        self.input_len
    }

    /// Length of one image's logits.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Length of one image's features, the value that the last dense layer reads; `None` in training and without a dense
    /// layer.
    pub fn feature_len(&self) -> Option<usize> {
        self.features.map(|(_, len)| len)
    }

    /// Multiply-adds of one image's forward pass.
    pub fn macs(&self) -> usize {
        self.macs
    }

    /// What it takes on its instruction set.
    pub fn memory(&self) -> PlanMemory {
        self.memory
    }

    /// Where it runs.
    pub fn exec(&self) -> &Exec {
        &self.exec
    }

    pub(crate) fn threads(&self) -> Arc<Threads> {
        Arc::clone(&self.threads)
    }

    /// Multiply-adds of a pass over `images` images, for [`Threads::enter`].
    pub(crate) fn work(&self, images: usize) -> usize {
        self.macs.saturating_mul(images)
    }

    /// Copies weights into the layout that the kernels read; needed whenever parameters change.
    pub(crate) fn pack(&mut self, params: &[f32]) {
        let Plan { layers, packed, folding, folding_len, threads, exec, .. } = self;
        let mut once = if folding.len() < *folding_len { Some(Buffer::zeros(*folding_len)) } else { None };
        let folding = once.as_mut().unwrap_or(folding);
        let mut weights = Weights { params, folding, threads, isa: exec.isa };
        layers.iter().for_each(|layer| layer.pack(&mut weights, packed));
    }

    /// The input batch, to fill.
    pub(crate) fn input_mut(&mut self, images: usize) -> &mut [f32] {
        self.arena.write(self.input, images)
    }

    /// The logits `[images][classes]` of the last forward pass.
    pub(crate) fn logits(&self, images: usize) -> &[f32] {
        self.arena.read(self.logits, images)
    }

    /// The features `[images][len]` of the last forward pass, where the plan keeps them.
    pub(crate) fn features(&self, images: usize) -> Option<&[f32]> {
        self.features.map(|(slot, _)| self.arena.read(slot, images))
    }

    /// The values that were to be kept.
    pub(crate) fn kept(&self) -> &[Kept] {
        &self.kept
    }

    /// A kept value `[images][pixels][channels]` of the last forward pass.
    pub(crate) fn kept_value(&self, kept: &Kept, images: usize) -> &[f32] {
        self.arena.read(kept.slot, images)
    }

    /// The gradient `[images][pixels][channels]` that the last backward pass found of the value of [`Mode::Gradient`].
    pub(crate) fn gradient(&self, images: usize) -> &[f32] {
        let slot = self.gradient.expect("only a plan for the gradient of a value is asked for it");
        self.arena.read(slot, images)
    }

    /// The gradient of the logits, to fill, and the logits.
    pub(crate) fn loss_slices(&mut self, images: usize) -> (&mut [f32], &[f32]) {
        let dlogits = self.dlogits.expect("only a plan with a backward pass starts one");
        let ([dlogits], [logits]) = self.arena.split(images, [dlogits], [self.logits]);
        (dlogits, logits)
    }

    /// Runs all layers on the input batch.
    pub(crate) fn forward(&mut self, state: &mut StepState) {
        let mut run = self.run(state);
        let (layers, run) = (run.0, &mut run.1);
        layers.iter().for_each(|layer| layer.forward(run));
    }

    /// Runs all layers backward from the gradient of the logits; overwrites the gradients of all parameters that learn, or
    /// adds to those of the images before. After the last pass over a batch [`Plan::finish_gradients`] must follow. The sums
    /// over ranks of `buckets`, if this is that pass, are begun as soon as their gradients are complete.
    pub(crate) fn backward(&mut self, state: &mut StepState, buckets: &[Bucket]) {
        let mut run = self.run(state);
        let (layers, run) = (run.0, &mut run.1);
        for (at, layer) in layers.iter().enumerate().rev() {
            layer.backward(run);
            start(buckets, Some(at), run);
        }
    }

    /// The part of a rank without images in a forward pass.
    pub(crate) fn forward_without_images(&mut self, state: &mut StepState) {
        let mut run = self.run(state);
        let (layers, run) = (run.0, &mut run.1);
        layers.iter().for_each(|layer| layer.forward_without_images(run));
    }

    /// The part of a rank without images in a backward pass: as [`Plan::backward`], all gradients zero.
    pub(crate) fn backward_without_images(&mut self, state: &mut StepState, buckets: &[Bucket]) {
        state.grads.fill(0.0);
        let mut run = self.run(state);
        let (layers, run) = (run.0, &mut run.1);
        for (at, layer) in layers.iter().enumerate().rev() {
            layer.backward_without_images(run);
            start(buckets, Some(at), run);
        }
    }

    /// The gradients of all parameters that learn in buckets of about `len` floats, for sums over ranks: those first that
    /// the backward pass completes first.
    pub(crate) fn buckets(&self, len: usize) -> Vec<Bucket> {
        buckets(&self.complete, len)
    }

    /// Makes the sums of all backward passes over a batch the gradients of the parameters.
    pub(crate) fn finish_gradients(&mut self, params: &[f32], grads: &mut [f32]) {
        let Plan { layers, folding, threads, exec, .. } = self;
        let mut weights = Weights { params, folding, threads, isa: exec.isa };
        layers.iter().for_each(|layer| layer.finish_gradients(&mut weights, grads));
    }

    fn run<'a>(&'a mut self, state: &'a mut StepState) -> (&'a [Box<dyn Layer>], Run<'a>) {
        let run = Run {
            arena: &mut self.arena,
            params: state.params,
            packed: &self.packed,
            grads: state.grads,
            threads: &self.threads,
            isa: self.exec.isa,
            images: state.images,
            first: state.first,
            team: state.team,
            seed: state.seed,
            step: state.step,
        };
        (&self.layers, run)
    }
}

/// Begins the sums over ranks of the buckets that the backward pass of layer `at` has completed.
fn start(buckets: &[Bucket], at: Option<usize>, run: &Run) {
    let Some(ranks) = run.team.ranks else { return };
    let complete = buckets.iter().filter(|bucket| bucket.layer == at);
    complete.for_each(|bucket| ranks.start_sum(&run.grads[bucket.range.clone()]));
}
