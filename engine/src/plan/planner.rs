//! From a graph to layers with every place in memory stated, and no memory taken yet.

use super::choice::choose;
use super::context::Context;
use super::fuse::{Fused, fuse};
use super::lower::lower;
use super::memory::PlanMemory;
use super::place::Places;
use super::stage::Stage;
use crate::arena::{ArenaBuilder, Slot};
use crate::error::EngineError;
use crate::exec::{Exec, Mode};
use crate::graph::{Graph, Op};
use crate::layers::run::Layer;
use crate::params::ParamLayout;

/// Most floats of a plan: 64 GiB, past which a batch is a mistake.
const MAX_FLOATS: usize = 1 << 34;

/// Floats of the tensors of a pass: 8 MiB in training, 32 MiB at inference.
const TRAINING_CHUNK: usize = 2 << 20;
const INFERENCE_CHUNK: usize = 8 << 20;

/// A plan without its memory.
pub(super) struct Draft {
    pub(super) layers: Vec<Box<dyn Layer>>,
    pub(super) arena: ArenaBuilder,
    /// Most images of a pass.
    pub(super) chunk: usize,
    /// Floats of packed weights, and of one thread's scratch.
    pub(super) packed: usize,
    pub(super) scratch: usize,
    pub(super) input: Slot,
    pub(super) logits: Slot,
    pub(super) dlogits: Option<Slot>,
    pub(super) input_len: usize,
    pub(super) classes: usize,
    pub(super) macs: usize,
}

impl Draft {
    /// Plans a graph for batches of up to `batch` images.
    pub(super) fn new(graph: &Graph, batch: usize, mode: Mode, exec: &Exec) -> Result<Self, EngineError> {
        let shapes = graph.shapes()?;
        let choices = choose(graph, &shapes, mode, exec);
        let Fused { stages, alias } = fuse(graph, &shapes, &choices, mode, exec);
        let layout = ParamLayout::new(graph)?;
        let macs = graph.macs(&shapes)?;
        let context = Context { graph, shapes, layout, mode, exec, choices, stages, alias };
        let mut places = Places::new(&context);
        // Backward order, as the places of gradients ask for it.
        let stages = context.stages.iter().enumerate().rev();
        let mut layers: Vec<_> = stages.map(|(time, stage)| lower(&mut places, time, stage)).collect();
        layers.reverse();
        let output = context.shapes.len() - 1;
        let (input, logits, dlogits) = (places.value(0), places.value(output), places.dlogits());
        let Places { arena, packed, scratch, .. } = places;
        let chunk = chunk(&context, &arena, batch);
        let floats = arena.total(chunk);
        if floats > MAX_FLOATS {
            let needed = floats >> 28;
            return Err(EngineError::Config(format!(
                "a batch of {batch} images needs {needed} GiB: use a smaller batch"
            )));
        }
        let [input_len, classes] = [0, output].map(|value| context.shapes[value].len());
        Ok(Draft { layers, arena, chunk, packed, scratch, input, logits, dlogits, input_len, classes, macs })
    }

    /// What the plan takes.
    pub(super) fn memory(&self, exec: &Exec) -> PlanMemory {
        PlanMemory::of_floats([self.arena.len(self.chunk), self.packed, self.scratch], exec)
    }
}

/// Images of a pass: as few as it takes for their tensors to stay in a third-level cache, if all layers treat images
/// one by one and the parameters, which every pass reads and whose gradients it adds to, are few beside them.
fn chunk(context: &Context, arena: &ArenaBuilder, batch: usize) -> usize {
    let training = context.is_training();
    let joins = |stage: &Stage| matches!(context.node(stage).op, Op::BatchNorm(_));
    if training && context.stages.iter().any(joins) {
        return batch;
    }
    let per_image = arena.total(2) - arena.total(1);
    let (cached, fewest) = if training { (TRAINING_CHUNK, 16) } else { (INFERENCE_CHUNK, 1) };
    let most = (cached / per_image.max(1)).max(fewest);
    let passes = batch.div_ceil(most);
    let extra = (passes - 1) * 2 * context.layout.total();
    let chunk = if extra > per_image * batch / 4 { batch } else { batch.div_ceil(passes) };
    let asked = if training && context.exec.chunk > 0 { context.exec.chunk } else { batch };
    if chunk <= asked { chunk } else { batch.div_ceil(batch.div_ceil(asked)) }
}
