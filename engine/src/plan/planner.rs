//! From a graph to layers with every place in memory stated, and no memory taken yet.

use super::buckets::{Complete, complete};
use super::bytes::{self, ByteStage};
use super::choice::choose;
use super::context::Context;
use super::fuse::{Fused, fuse};
use super::halves;
use super::lower::lower;
use super::memory::{Sizes, past_address_space};
use super::place::Places;
use super::stage::{Kind, Stage};
use crate::arena::{ArenaBuilder, ArenaLayout, Slot};
use crate::error::EngineError;
use crate::exec::{Exec, Learning, Mode};
use crate::geometry::{MAX_BATCH_ELEMENTS, Shape};
use crate::graph::Graph;
use crate::layers::run::Layer;
use crate::params::ParamLayout;
use crate::quantization::Quantization;

/// Bytes of the tensors of a pass.
const TRAINING_CHUNK: usize = 8 << 20;
const INFERENCE_CHUNK: usize = 32 << 20;

/// A value that is there until the end of a pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    pub(super) slot: Slot,
    pub(crate) pixels: usize,
    pub(crate) channels: usize,
}

/// A plan without its memory.
pub(super) struct Draft {
    pub(super) layers: Vec<Box<dyn Layer>>,
    pub(super) arena: ArenaLayout,
    /// Most images of a pass.
    pub(super) chunk: usize,
    pub(super) sizes: Sizes,
    /// Floats of the work space in which filters are folded.
    pub(super) folding: usize,
    pub(super) layout: ParamLayout,
    pub(super) input: Slot,
    pub(super) logits: Slot,
    /// What the last dense layer reads and its length, at inference.
    pub(super) features: Option<(Slot, usize)>,
    pub(super) kept: Vec<Kept>,
    pub(super) dlogits: Option<Slot>,
    /// The gradient that [`Mode::Gradient`] asks for.
    pub(super) gradient: Option<Slot>,
    pub(super) input_len: usize,
    pub(super) classes: usize,
    pub(super) macs: usize,
    pub(super) complete: Vec<Complete>,
}

impl Draft {
    /// Plans a graph for batches of up to `batch` images; the values `keep`, each of which a convolution reads, are there
    /// until the end of a pass, and in their place the one whose gradient is wanted, if one is.
    pub(super) fn new(
        graph: &Graph,
        (batch, mode): (usize, Mode),
        (keep, quantization): (&[usize], Option<&Quantization>),
        exec: &Exec,
    ) -> Result<Self, EngineError> {
        let shapes = graph.shapes()?;
        check_gradient(graph, mode)?;
        let keep = match &mode {
            Mode::Gradient { value } => std::slice::from_ref(value),
            Mode::Train(_) | Mode::Infer => keep,
        };
        let halves = halves::wanted(mode, quantization, exec);
        let choices = choose(graph, &shapes, (mode, halves), exec);
        let kind = match quantization {
            Some(_) => Kind::Bytes,
            None if halves => Kind::Halves,
            None => Kind::Floats,
        };
        let Fused { stages, alias } = fuse(graph, &shapes, &choices, (mode, keep), (exec, kind));
        let layout = ParamLayout::new(graph)?;
        let macs = graph.macs(&shapes)?;
        // Layers multiply their share by the images of a batch.
        macs.checked_mul(batch).ok_or_else(|| {
            EngineError::graph("graph", "a batch takes more multiply-adds than can be counted")
        })?;
        let largest = shapes.iter().map(Shape::len).max().unwrap_or(0);
        if largest.checked_mul(batch).filter(|elements| (..=MAX_BATCH_ELEMENTS).contains(elements)).is_none()
        {
            return Err(past_address_space());
        }
        let forms = Vec::new();
        let mut context =
            Context { graph, shapes, layout, mode, exec, choices, stages, alias, keep, quantization, forms };
        if let Some(quantization) = quantization {
            quantization.check(graph)?;
            context.forms = bytes::forms(&context);
        }
        if halves {
            context.forms = halves::forms(&context);
        }
        check_learning(&context)?;
        let mut places = Places::new(&context);
        // Backward order, as the places of gradients ask for it.
        let end = context.stages.len();
        let mut layers = vec![places.conversions(end)];
        let mut counts = vec![0; end];
        for (time, stage) in context.stages.iter().enumerate().rev() {
            let layer = lower(&mut places, time, stage);
            let mut own = places.conversions(time);
            own.push(layer);
            counts[time] = own.len();
            layers.push(own);
        }
        let layers = layers.into_iter().rev().flatten().collect();
        let complete = complete(&context, &counts);
        let output = context.shapes.len() - 1;
        let (input, logits, dlogits) = (places.value(0), places.value(output), places.dlogits());
        let gradient = match mode {
            Mode::Gradient { value } => places.gradient(value),
            Mode::Train(_) | Mode::Infer => None,
        };
        let features = places.features().zip(graph.features());
        let features = features.map(|(slot, value)| (slot, context.shapes[value].len()));
        let kept = |&value: &usize| {
            let shape = context.shapes[value];
            Kept {
                slot: places.value(value),
                pixels: (shape.h * shape.w) as usize,
                channels: shape.c as usize,
            }
        };
        let kept_values = keep.iter().map(kept).collect();
        let Places { arena, packed, folding, scratch, .. } = places;
        let chunk = chunk(&context, &arena, batch).ok_or_else(past_address_space)?;
        let arena = arena.layout(chunk).ok_or_else(past_address_space)?;
        // Weights that do not change are packed once, and the work space is not kept.
        let kept = if mode.learns() { folding } else { 0 };
        let sizes = Sizes { tensors: arena.bytes(), packed, folding: kept, scratch };
        let [input_len, classes] = [0, output].map(|value| context.shapes[value].len());
        let layout = context.layout;
        Ok(Draft {
            layers,
            arena,
            chunk,
            sizes,
            folding,
            layout,
            input,
            logits,
            features,
            kept: kept_values,
            dlogits,
            gradient,
            input_len,
            classes,
            macs,
            complete,
        })
    }
}

/// The stages that a quantised network computes in 8 bits, if it has scales for all of them.
///
/// # Errors
/// [`EngineError::Graph`] for a malformed graph.
pub(crate) fn byte_stages(graph: &Graph, exec: &Exec) -> Result<Vec<ByteStage>, EngineError> {
    let shapes = graph.shapes()?;
    let mode = Mode::Infer;
    let choices = choose(graph, &shapes, (mode, false), exec);
    let Fused { stages, alias } = fuse(graph, &shapes, &choices, (mode, &[]), (exec, Kind::Bytes));
    let layout = ParamLayout::new(graph)?;
    let (keep, quantization, forms) = (&[][..], None, Vec::new());
    let context =
        Context { graph, shapes, layout, mode, exec, choices, stages, alias, keep, quantization, forms };
    Ok(bytes::candidates(&context))
}

/// Refuses the gradient of a value that has none.
fn check_gradient(graph: &Graph, mode: Mode) -> Result<(), EngineError> {
    match mode {
        Mode::Gradient { value } if !graph.spatial_values().contains(&value) => {
            Err(EngineError::Config(format!(
                "value {value} is none that a layer of the network makes and that has more than one pixel"
            )))
        }
        Mode::Gradient { .. } | Mode::Train(_) | Mode::Infer => Ok(()),
    }
}

/// Refuses to train a network that is frozen altogether.
fn check_learning(context: &Context) -> Result<(), EngineError> {
    match context.mode {
        Mode::Train(Learning { frozen, .. }) if frozen > 0 && !context.has_gradient().contains(&true) => {
            let nodes = context.graph.nodes.len();
            Err(EngineError::Config(format!(
                "nothing learns: of {nodes} layers the first {frozen} are frozen, and no later one has parameters"
            )))
        }
        Mode::Train(_) | Mode::Gradient { .. } | Mode::Infer => Ok(()),
    }
}

/// Images of a pass: as few as it takes for their tensors to stay in a third-level cache, if all layers treat images
/// one by one and the parameters, which every pass reads and whose gradients it adds to, are few beside them. `None`
/// where a batch exceeds the address space.
fn chunk(context: &Context, arena: &ArenaBuilder, batch: usize) -> Option<usize> {
    let training = context.has_backward();
    let joins = |stage: &Stage| {
        context.node(stage).op.joins_images() && !context.mode.has_running_statistics(stage.node)
    };
    if training && context.stages.iter().any(joins) {
        return Some(batch);
    }
    let per_image = arena.total(2)? - arena.total(1)?;
    let (cached, fewest) = if training { (TRAINING_CHUNK, 16) } else { (INFERENCE_CHUNK, 1) };
    let most = (cached / per_image.max(1)).max(fewest);
    let passes = batch.div_ceil(most);
    let parameters = context.layout.total() * size_of::<f32>();
    let extra = (passes - 1).checked_mul(2 * parameters)?;
    let chunk = if extra > per_image.checked_mul(batch)? / 4 { batch } else { batch.div_ceil(passes) };
    let asked = if training && context.exec.chunk > 0 { context.exec.chunk } else { batch };
    Some(if chunk <= asked { chunk } else { batch.div_ceil(batch.div_ceil(asked)) })
}
