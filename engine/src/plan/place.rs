//! Places in memory: for every value and its gradient, for what layers keep and sum in, for packed weights and scratch.

use std::ops::Range;

use super::context::Context;
use super::stage::{Kind, Stage};
use crate::arena::{ArenaBuilder, Slot};
use crate::bf16::Bf16;
use crate::buffer::Element;
use crate::kernels::Number;
use crate::layers::batchnorm::{NORM_SUMS, SAVED};
use crate::layers::before::{Before, NormBefore};
use crate::layers::behind::{Behind, NormBehind, PoolBehind};
use crate::layers::bytes::{DequantizeLayer, QuantizeLayer};
use crate::layers::filters::Filters;
use crate::layers::halves::ConvertLayer;
use crate::layers::input::{Input, NormOnLoad};
use crate::layers::norm_pool::NormPool;
use crate::layers::outputs::Take;
use crate::layers::packed::Packed;
use crate::layers::run::{GradOut, Layer};

/// Starts of packed weights are multiples of this many floats: one 64-byte line.
const ALIGN: usize = 16;

/// The places of a plan. Those of values are there from the start; the rest is asked for layer by layer, in the order of
/// the backward pass, so that the last reader of a value is the first to write its gradient.
pub(super) struct Places<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) arena: ArenaBuilder,
    /// Places of values and of their gradients, by value; aliases share their root's.
    values: Vec<Copies>,
    grads: Vec<Copies>,
    /// What is to be made of numbers of another kind, each with the stage before which that is done.
    conversions: Vec<(usize, Conversion)>,
    /// Whether a value has a gradient.
    has_gradient: Vec<bool>,
    /// Where the moments of a value are that a batch normalisation reads and a convolution makes.
    moments: Vec<Option<Slot>>,
    /// Where the sums are that a batch normalisation's reader takes for it, by the value that it makes.
    sums: Vec<Option<Slot>>,
    /// The stage of the batch normalisation whose input's gradient is left to the one that makes that input, by that value.
    behind: Vec<Option<usize>>,
    /// What each batch normalisation keeps between its passes, and of its pool, by stage.
    norms: Vec<Option<Slot>>,
    pools: Vec<Option<Pooled>>,
    /// Floats of packed weights, of the work space in which filters are folded, and of one thread's scratch.
    pub(super) packed: usize,
    pub(super) folding: usize,
    pub(super) scratch: usize,
}

/// The places of a value, or of its gradient, for each kind of numbers that it is there in.
#[derive(Clone, Copy, Default)]
pub(super) struct Copies {
    floats: CopyIn<f32>,
    halves: CopyIn<Bf16>,
    bytes: CopyIn<u8>,
}

/// One of them.
#[derive(Clone, Copy)]
pub(super) struct CopyIn<E> {
    slot: Option<Slot<E>>,
    /// Whether a later stage has written it: a gradient that is to be added to.
    written: bool,
}

impl<E> Default for CopyIn<E> {
    fn default() -> Self {
        CopyIn { slot: None, written: false }
    }
}

/// What the pool behind a batch normalisation keeps.
#[derive(Clone, Copy)]
struct Pooled {
    argmax: Slot,
    /// In numbers of the kind that the normalisation reads.
    picked: Copies,
}

/// A value that is made of the same one in numbers of another kind.
#[derive(Clone, Copy)]
struct Conversion {
    root: usize,
    from: Kind,
    to: Kind,
}

/// Numbers that values consist of.
pub(super) trait Placed: Element {
    fn copy(copies: &Copies) -> &CopyIn<Self>;
    fn copy_mut(copies: &mut Copies) -> &mut CopyIn<Self>;
}

impl Placed for f32 {
    fn copy(copies: &Copies) -> &CopyIn<Self> {
        &copies.floats
    }
    fn copy_mut(copies: &mut Copies) -> &mut CopyIn<Self> {
        &mut copies.floats
    }
}

impl Placed for Bf16 {
    fn copy(copies: &Copies) -> &CopyIn<Self> {
        &copies.halves
    }
    fn copy_mut(copies: &mut Copies) -> &mut CopyIn<Self> {
        &mut copies.halves
    }
}

impl Placed for u8 {
    fn copy(copies: &Copies) -> &CopyIn<Self> {
        &copies.bytes
    }
    fn copy_mut(copies: &mut Copies) -> &mut CopyIn<Self> {
        &mut copies.bytes
    }
}

impl<'a> Places<'a> {
    /// Places the input, every stage's output and, where there is a backward pass, the gradient of the logits. What is to be
    /// kept stays until the end of all.
    pub(super) fn new(context: &'a Context<'a>) -> Self {
        let count = context.shapes.len();
        let mut places = Places {
            context,
            arena: ArenaBuilder::default(),
            values: vec![Copies::default(); count],
            grads: vec![Copies::default(); count],
            conversions: Vec::new(),
            has_gradient: context.has_gradient(),
            moments: vec![None; count],
            sums: vec![None; count],
            behind: vec![None; count],
            norms: vec![None; context.stages.len()],
            pools: vec![None; context.stages.len()],
            packed: 0,
            folding: 0,
            scratch: 0,
        };
        places.make(0, Kind::Floats, 0);
        for (time, stage) in context.stages.iter().enumerate() {
            for (i, &value) in stage.inputs.iter().enumerate() {
                // What is not stored is made of what the normalisation reads.
                let made = context.norm_on_load(time).filter(|_| i == 0);
                let value = made.map_or(value, |norm| context.stages[norm].inputs[0]);
                places.read(value, context.reads(time, i), time);
            }
            if let Some(value) = stage.residual {
                places.read(value, context.form(time).reads, time);
            }
            if !context.is_made_on_load(time) {
                places.make(stage.output, context.form(time).makes, time);
            }
        }
        let (output, end) = (count - 1, context.stages.len());
        let last = context.graph.features().filter(|_| !context.has_backward()).into_iter().chain([output]);
        context.keep.iter().copied().chain(last).for_each(|value| places.read(value, Kind::Floats, end));
        let last = if context.has_backward() { 2 * end } else { end };
        for &value in context.keep {
            places.arena.touch(places.value::<f32>(value), last);
        }
        if context.has_backward() {
            let root = context.alias[output];
            let slot = Some(places.arena.add(context.shapes[output].len(), 0, end));
            places.grads[root].floats = CopyIn { slot, written: true };
        }
        places
    }

    /// A stage makes a value at `time`.
    fn make(&mut self, value: usize, kind: Kind, time: usize) {
        let len = self.context.shapes[value].len();
        let copies = &mut self.values[value];
        match kind {
            Kind::Floats => copies.floats.slot = Some(self.arena.add(len, 0, time)),
            Kind::Halves => copies.halves.slot = Some(self.arena.add(len, 0, time)),
            Kind::Bytes => copies.bytes.slot = Some(self.arena.add(len, 0, time)),
        }
    }

    /// A stage reads a value at `time`: it is made of numbers of another kind where it is first asked for.
    fn read(&mut self, value: usize, kind: Kind, time: usize) {
        let root = self.context.alias[value];
        let Copies { floats, halves, bytes } = self.values[root];
        let made = |kind| match kind {
            Kind::Floats => floats.slot.is_some(),
            Kind::Halves => halves.slot.is_some(),
            Kind::Bytes => bytes.slot.is_some(),
        };
        if !made(kind) {
            let from = [Kind::Floats, Kind::Halves, Kind::Bytes].into_iter().find(|&kind| made(kind));
            let from = from.expect("values are placed in the order in which stages make them");
            self.touch(root, from, time);
            self.make(root, kind, time);
            self.conversions.push((time, Conversion { root, from, to: kind }));
        }
        self.touch(root, kind, time);
    }

    /// The copy of a value is read or written at `time`.
    fn touch(&mut self, root: usize, kind: Kind, time: usize) {
        match kind {
            Kind::Floats => self.arena.touch(self.value::<f32>(root), time),
            Kind::Halves => self.arena.touch(self.value::<Bf16>(root), time),
            Kind::Bytes => self.arena.touch(self.value::<u8>(root), time),
        }
    }

    /// The layers that make numbers of one kind of those of another before the stage that runs at `time`: asked for behind
    /// that stage's own layer, as their backward pass comes after its.
    pub(super) fn conversions(&mut self, time: usize) -> Vec<Box<dyn Layer>> {
        let due: Vec<_> = self.conversions.iter().filter(|(before, _)| *before == time).copied().collect();
        // In the order of the backward pass, from the last to the first.
        let layers: Vec<_> =
            due.into_iter().rev().map(|(_, conversion)| self.conversion(time, conversion)).collect();
        layers.into_iter().rev().collect()
    }

    fn conversion(&mut self, time: usize, conversion: Conversion) -> Box<dyn Layer> {
        let Conversion { root, from, to } = conversion;
        let channels = self.context.shapes[root].c as usize;
        match (from, to) {
            (Kind::Floats, Kind::Halves) => Box::new(self.rounding::<f32, Bf16>(time, root)),
            (Kind::Halves, Kind::Floats) => Box::new(self.rounding::<Bf16, f32>(time, root)),
            (Kind::Bytes, Kind::Floats) => {
                let (x, y) = (self.value(root), self.value(root));
                Box::new(DequantizeLayer::new((x, y), self.context.scale(root), channels))
            }
            (Kind::Floats, Kind::Bytes) => {
                let (x, y) = (self.value(root), self.value(root));
                Box::new(QuantizeLayer::new((x, y), self.context.scale(root), channels))
            }
            _ => unreachable!("a plan has bytes or bf16, and no value is made of itself"),
        }
    }

    /// The layer that makes numbers of one kind of real numbers of another, and their gradients the other way.
    fn rounding<A: Placed + Number, B: Placed + Number>(
        &mut self,
        time: usize,
        root: usize,
    ) -> ConvertLayer<A, B> {
        let dy = B::copy(&self.grads[root]).slot;
        let backward = dy.and_then(|dy| Some((dy, self.grad_out(time, root)?)));
        if let Some((dy, _)) = backward {
            self.arena.touch(dy, self.context.backward_time(time));
        }
        ConvertLayer { x: self.value(root), y: self.value(root), backward }
    }

    /// The place of a value in numbers of a kind.
    pub(super) fn value<E: Placed>(&self, value: usize) -> Slot<E> {
        let copy = E::copy(&self.values[self.context.alias[value]]);
        copy.slot.expect("what reads a value has asked for it in its own numbers")
    }

    /// The places of the first value that a stage reads, and of the one that it makes.
    pub(super) fn x_and_y<A: Placed, B: Placed>(&self, stage: &Stage) -> (Slot<A>, Slot<B>) {
        (self.value(stage.inputs[0]), self.value(stage.output))
    }

    /// What the last dense layer reads, at inference: it is there until the end of a pass. No stage takes it in, as one
    /// takes in what convolutions, norms, activations and pools alone read.
    pub(super) fn features(&self) -> Option<Slot> {
        let value = self.context.graph.features().filter(|_| !self.context.has_backward())?;
        Some(self.value(value))
    }

    /// The gradient of the logits, where there is a backward pass.
    pub(super) fn dlogits(&self) -> Option<Slot> {
        self.grads[self.context.alias[self.context.shapes.len() - 1]].floats.slot
    }

    /// The value, in numbers of a kind, is read by the backward pass of a stage.
    pub(super) fn keep<E: Placed>(&mut self, value: usize, stage: usize) {
        self.arena.touch(self.value::<E>(value), self.context.backward_time(stage));
    }

    /// The gradient of a stage's output, which its backward pass reads and may change.
    pub(super) fn grad_in<E: Placed>(&mut self, time: usize, stage: &Stage) -> Slot<E> {
        let copy = E::copy(&self.grads[self.context.alias[stage.output]]);
        let slot = copy.slot.expect("every value but the last has a reader");
        self.arena.touch(slot, self.context.backward_time(time));
        slot
    }

    /// The gradient of a value, which stays until the end of the backward pass; `None` where the value has none.
    pub(super) fn gradient(&mut self, value: usize) -> Option<Slot> {
        let slot = self.grads[self.context.alias[value]].floats.slot?;
        self.arena.touch(slot, 2 * self.context.stages.len());
        Some(slot)
    }

    /// Where the gradient of a stage's input goes; `None` when it has none, as nothing before it learns.
    pub(super) fn grad_out<E: Placed>(&mut self, time: usize, value: usize) -> Option<GradOut<E>> {
        let root = self.context.alias[value];
        if !self.has_gradient[root] {
            return None;
        }
        let (now, len) = (self.context.backward_time(time), self.context.shapes[root].len());
        let copy = E::copy_mut(&mut self.grads[root]);
        let slot = *copy.slot.get_or_insert_with(|| self.arena.add(len, 0, now));
        self.arena.touch(slot, now);
        let temp = copy.written.then(|| self.arena.add(len, 0, now));
        copy.written = true;
        Some(GradOut { slot, temp })
    }

    /// Filters are packed, and folded before that if a batch normalisation is behind them.
    pub(super) fn need_folding(&mut self, filters: &Filters) {
        self.folding = self.folding.max(filters.folding_len());
    }

    /// Whether a layer has a backward pass: its output has a gradient, and is not where the backward pass ends.
    pub(super) fn has_backward(&self, stage: &Stage) -> bool {
        self.context.mode.of(stage.node).has_backward() && self.has_gradient[stage.output]
    }

    /// Gradients of a layer without parameters; `None` at inference or when its input has no gradient.
    pub(super) fn backward_pair<A: Placed, B: Placed>(
        &mut self,
        time: usize,
        stage: &Stage,
    ) -> Option<(Slot<B>, GradOut<A>)> {
        if !self.context.has_backward() {
            return None;
        }
        let dx = self.grad_out(time, stage.inputs[0])?;
        Some((self.grad_in(time, stage), dx))
    }

    /// `len` floats of packed weights. A filter of 2^28 weights takes at most 2^35 packed, a graph asks for at most 2^13
    /// packings: sums fit into 64 bits.
    pub(super) fn take_packed(&mut self, len: usize) -> Range<usize> {
        let start = self.packed;
        self.packed = (start + len).next_multiple_of(ALIGN);
        start..start + len
    }

    /// Panels of `len` numbers, and a bias of `bias` floats.
    pub(super) fn take_panels<E: Number>(&mut self, len: usize, bias: usize) -> Packed<E> {
        Packed::new(self.take_packed(Packed::<E>::floats(len, bias)), len)
    }

    /// A layer uses `len` floats of scratch in each thread.
    pub(super) fn need_scratch(&mut self, len: usize) {
        self.scratch = self.scratch.max(len);
    }

    /// A layer uses scratch for `len` numbers of a kind in each thread.
    pub(super) fn need_scratch_of<E: Element>(&mut self, len: usize) {
        self.need_scratch((len * size_of::<E>()).div_ceil(size_of::<f32>()));
    }

    /// What is taken of the outputs of a convolution for a batch normalisation behind it.
    pub(super) fn take_of_outputs<E>(&self, value: usize) -> Take<E> {
        self.moments[value].map_or(Take::Nothing, Take::Moments)
    }

    /// Places the moments `[mean, m2]` per channel of a value, from the stage that makes it to the one that reads them.
    pub(super) fn place_moments(&mut self, value: usize, (maker, reader): (usize, usize)) -> Slot {
        let channels = self.context.shapes[value].c as usize;
        let slot = self.arena.add(2 * channels, 0, maker);
        self.arena.touch(slot, reader);
        self.moments[value] = Some(slot);
        slot
    }

    /// What the batch normalisation that runs at `time` keeps between its passes.
    pub(super) fn norm_numbers(&mut self, time: usize) -> Slot {
        let channels = self.context.input_shape(&self.context.stages[time]).c as usize;
        *self.norms[time].get_or_insert_with(|| self.arena.add(0, SAVED * channels, time))
    }

    /// What the convolution that runs at `time` reads; with a backward pass until that is over.
    pub(super) fn input<E: Placed>(&mut self, time: usize) -> Input<E> {
        let context = self.context;
        let stage = &context.stages[time];
        let last = if self.has_backward(stage) { context.backward_time(time) } else { time };
        let norm = context.norm_on_load(time);
        let value = norm.map_or(stage.inputs[0], |norm| context.stages[norm].inputs[0]);
        let x = self.value::<E>(value);
        self.arena.touch(x, last);
        let norm = norm.map(|norm| {
            let saved = self.norm_numbers(norm);
            self.arena.touch(saved, last);
            NormOnLoad { saved, act: context.stages[norm].act }
        });
        Input { x, norm }
    }

    /// The pool of the batch normalisation that runs at `time`, with what it keeps.
    pub(super) fn norm_pool<E: Placed>(&mut self, time: usize) -> Option<NormPool<E>> {
        let stage = &self.context.stages[time];
        let geometry = stage.pool?;
        let Pooled { argmax, picked } = *self.pools[time].get_or_insert_with(|| {
            let len = self.context.shapes[stage.output].len();
            let mut picked = Copies::default();
            E::copy_mut(&mut picked).slot = Some(self.arena.add(len, 0, time));
            Pooled { argmax: self.arena.add(len, 0, time), picked }
        });
        let picked = E::copy(&picked).slot.expect("a normalisation reads and makes numbers of one kind");
        Some(NormPool { geometry, argmax, picked })
    }

    /// What is before a stage whose input has a gradient.
    pub(super) fn before<E: Placed>(&mut self, time: usize) -> Before<E> {
        let context = self.context;
        if let Some(act) = context.gate(&context.stages[time]) {
            return Before::Activation(act);
        }
        let Some(maker) = context.norm_before(time) else { return Before::Nothing };
        let norm = &context.stages[maker];
        let now = context.backward_time(time);
        let saved = self.norm_numbers(maker);
        self.arena.touch(saved, now);
        let x = match self.norm_pool::<E>(maker) {
            Some(pool) => pool.picked,
            None => self.value(norm.inputs[0]),
        };
        self.arena.touch(x, now);
        let channels = context.shapes[norm.output].c as usize;
        let sums = self.arena.add(NORM_SUMS * channels, 0, now);
        self.arena.touch(sums, context.backward_time(maker));
        self.sums[norm.output] = Some(sums);
        Before::Norm(NormBefore { x, saved, act: norm.act, sums })
    }

    /// Where the sums of a batch normalisation are, if its reader takes them.
    pub(super) fn sums(&self, norm: &Stage) -> Option<Slot> {
        self.sums[norm.output]
    }

    /// Leaves the gradient of the input of the batch normalisation that runs at `time`, which nothing else reads, to the stage
    /// that makes it: that finds the gradient `dy` of the normalisation's output in its place, or behind a pool room for its own.
    pub(super) fn leave_norm<E: Placed>(&mut self, time: usize, maker: usize, dy: Slot<E>) {
        let stage = &self.context.stages[time];
        let root = self.context.alias[stage.inputs[0]];
        let slot = match stage.pool {
            Some(pool) => self.arena.add(pool.x_len(), 0, self.context.backward_time(maker)),
            None => dy,
        };
        *E::copy_mut(&mut self.grads[root]) = CopyIn { slot: Some(slot), written: true };
        self.behind[root] = Some(time);
    }

    /// What is behind the stage with filters that runs at `time`, and is part of its backward pass.
    pub(super) fn behind<E: Placed>(&mut self, time: usize) -> Behind<E> {
        let context = self.context;
        let stage = &context.stages[time];
        let Some(norm) = self.behind[stage.output] else {
            return match stage.act {
                Some(act) if !context.is_gated(stage) => Behind::Activation(act),
                _ => Behind::Nothing,
            };
        };
        let now = context.backward_time(time);
        let (saved, behind) = (self.norm_numbers(norm), &context.stages[norm]);
        self.arena.touch(saved, now);
        let pool = self.norm_pool::<E>(norm).map(|NormPool { geometry, argmax, .. }| {
            self.arena.touch(argmax, now);
            PoolBehind { geometry, dy: self.grad_in(time, behind), argmax }
        });
        Behind::Norm(NormBehind { saved, act: behind.act, pool })
    }
}
