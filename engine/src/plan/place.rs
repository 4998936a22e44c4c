//! Places in memory: for every value and its gradient, for what layers keep and sum in, for packed weights and scratch.

use std::ops::Range;

use super::context::Context;
use super::stage::Stage;
use crate::arena::{ArenaBuilder, Slot};
use crate::layers::bytes::{DequantizeLayer, QuantizeLayer};
use crate::layers::filters::Filters;
use crate::layers::run::{GradOut, Layer};

/// Starts of packed weights are multiples of this many floats: one 64-byte line.
const ALIGN: usize = 16;

/// The places of a plan. Those of values are there from the start; the rest is asked for layer by layer, in the order of
/// the backward pass, so that the last reader of a value is the first to write its gradient.
pub(super) struct Places<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) arena: ArenaBuilder,
    /// Places of values, of their bytes and of their gradients, by value; aliases share their root's.
    values: Vec<Option<Slot>>,
    bytes: Vec<Option<Slot<u8>>>,
    /// Layers that make bytes of floats or floats of bytes, each with the stage before which it runs.
    conversions: Vec<(usize, Box<dyn Layer>)>,
    grads: Vec<Option<Slot>>,
    /// Whether a value has a gradient.
    has_gradient: Vec<bool>,
    /// Whether a gradient has been written by a later stage.
    written: Vec<bool>,
    /// Where the moments of a value are that a batch normalisation reads and a convolution makes.
    moments: Vec<Option<Slot>>,
    /// Floats of packed weights, of the work space in which filters are folded, and of one thread's scratch.
    pub(super) packed: usize,
    pub(super) folding: usize,
    pub(super) scratch: usize,
}

impl<'a> Places<'a> {
    /// Places the input, every stage's output and, where there is a backward pass, the gradient of the logits. What is to be
    /// kept stays until the end of all.
    pub(super) fn new(context: &'a Context<'a>) -> Self {
        let count = context.shapes.len();
        let mut places = Places {
            context,
            arena: ArenaBuilder::default(),
            values: vec![None; count],
            bytes: vec![None; count],
            conversions: Vec::new(),
            grads: vec![None; count],
            has_gradient: context.has_gradient(),
            written: vec![false; count],
            moments: vec![None; count],
            packed: 0,
            folding: 0,
            scratch: 0,
        };
        places.values[0] = Some(places.arena.add(context.shapes[0].len(), 0, 0));
        for (time, stage) in context.stages.iter().enumerate() {
            for &value in stage.inputs.iter().chain(&stage.residual) {
                places.read(value, context.form(time).reads_bytes(), time);
            }
            let len = context.shapes[stage.output].len();
            if context.form(time).makes_bytes() {
                places.bytes[stage.output] = Some(places.arena.add(len, 0, time));
            } else {
                places.values[stage.output] = Some(places.arena.add(len, 0, time));
            }
        }
        let (output, end) = (count - 1, context.stages.len());
        let last = context.graph.features().filter(|_| !context.has_backward()).into_iter().chain([output]);
        context.keep.iter().copied().chain(last).for_each(|value| places.read(value, false, end));
        places.arena.touch(places.value(output), end);
        if let Some(features) = places.features() {
            places.arena.touch(features, end);
        }
        let last = if context.has_backward() { 2 * end } else { end };
        context.keep.iter().for_each(|&value| places.arena.touch(places.value(value), last));
        if context.has_backward() {
            let root = context.alias[output];
            places.grads[root] = Some(places.arena.add(context.shapes[output].len(), 0, end));
            places.written[root] = true;
        }
        places
    }

    /// A stage reads a value at `time`, as bytes or as floats: it is made of the other form where it is first asked for.
    fn read(&mut self, value: usize, as_bytes: bool, time: usize) {
        let root = self.context.alias[value];
        let shape = self.context.shapes[root];
        let (len, channels) = (shape.len(), shape.c as usize);
        let layer: Box<dyn Layer> = match (self.values[root], self.bytes[root]) {
            (None, Some(x)) if !as_bytes => {
                let y = self.arena.add(len, 0, time);
                self.values[root] = Some(y);
                Box::new(DequantizeLayer::new((x, y), self.context.scale(root), channels))
            }
            (Some(x), None) if as_bytes => {
                let y = self.arena.add(len, 0, time);
                self.bytes[root] = Some(y);
                Box::new(QuantizeLayer::new((x, y), self.context.scale(root), channels))
            }
            _ => {
                return if as_bytes {
                    self.arena.touch(self.bytes(root), time);
                } else {
                    self.arena.touch(self.value(root), time);
                };
            }
        };
        // What it is made of is read at that time.
        self.values[root].iter().for_each(|&slot| self.arena.touch(slot, time));
        self.bytes[root].iter().for_each(|&slot| self.arena.touch(slot, time));
        self.conversions.push((time, layer));
    }

    /// Puts the layers of stages and those that convert between them in the order in which they run.
    pub(super) fn with_conversions(&mut self, layers: Vec<Box<dyn Layer>>) -> Vec<Box<dyn Layer>> {
        let end = layers.len();
        let mut conversions = std::mem::take(&mut self.conversions).into_iter().peekable();
        let mut all = Vec::with_capacity(end + conversions.len());
        for (time, layer) in layers.into_iter().map(Some).chain([None]).enumerate() {
            while let Some((_, conversion)) = conversions.next_if(|(before, _)| *before == time) {
                all.push(conversion);
            }
            all.extend(layer);
        }
        all
    }

    /// The place of the bytes of a value.
    pub(super) fn bytes(&self, value: usize) -> Slot<u8> {
        self.bytes[self.context.alias[value]].expect("what reads bytes has asked for them")
    }

    /// The place of a value.
    pub(super) fn value(&self, value: usize) -> Slot {
        self.values[self.context.alias[value]]
            .expect("values are placed in the order in which stages make them")
    }

    /// The places of the first value that a stage reads, and of the one that it makes.
    pub(super) fn x_and_y(&self, stage: &Stage) -> (Slot, Slot) {
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
        self.grads[self.context.alias[self.context.shapes.len() - 1]]
    }

    /// The value is read or written by the backward pass of a stage.
    pub(super) fn keep(&mut self, value: usize, stage: usize) {
        self.arena.touch(self.value(value), self.context.backward_time(stage));
    }

    /// The gradient of a stage's output, which its backward pass reads and may change.
    pub(super) fn grad_in(&mut self, time: usize, stage: &Stage) -> Slot {
        let slot =
            self.grads[self.context.alias[stage.output]].expect("every value but the last has a reader");
        self.arena.touch(slot, self.context.backward_time(time));
        slot
    }

    /// The gradient of a value, which stays until the end of the backward pass; `None` where the value has none.
    pub(super) fn gradient(&mut self, value: usize) -> Option<Slot> {
        let slot = self.grads[self.context.alias[value]]?;
        self.arena.touch(slot, 2 * self.context.stages.len());
        Some(slot)
    }

    /// Where the gradient of a stage's input goes; `None` when it has none, as nothing before it learns.
    pub(super) fn grad_out(&mut self, time: usize, value: usize) -> Option<GradOut> {
        let root = self.context.alias[value];
        if !self.has_gradient[root] {
            return None;
        }
        let (now, len) = (self.context.backward_time(time), self.context.shapes[root].len());
        let slot = *self.grads[root].get_or_insert_with(|| self.arena.add(len, 0, now));
        self.arena.touch(slot, now);
        let temp = self.written[root].then(|| self.arena.add(len, 0, now));
        self.written[root] = true;
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
    pub(super) fn backward_pair(&mut self, time: usize, stage: &Stage) -> Option<(Slot, GradOut)> {
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

    /// A layer uses `len` floats of scratch in each thread.
    pub(super) fn need_scratch(&mut self, len: usize) {
        self.scratch = self.scratch.max(len);
    }

    /// Where a convolution leaves the moments of a value, if they are asked for.
    pub(super) fn moments(&self, value: usize) -> Option<Slot> {
        self.moments[value]
    }

    /// Places the moments `[mean, m2]` per channel of a value, from the stage that makes it to the one that reads them.
    pub(super) fn place_moments(&mut self, value: usize, (maker, reader): (usize, usize)) -> Slot {
        let channels = self.context.shapes[value].c as usize;
        let slot = self.arena.add(2 * channels, 0, maker);
        self.arena.touch(slot, reader);
        self.moments[value] = Some(slot);
        slot
    }
}
