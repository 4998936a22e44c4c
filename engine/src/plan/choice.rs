//! Which algorithm computes a convolution: a matter of its geometry and the mode alone, so that an image's logits do not
//! depend on the batch it comes in.

use crate::exec::{Exec, Mode};
use crate::geometry::{Conv2dGeometry, Shape};
use crate::graph::{Graph, Node, Op};
use crate::kernels::conv2d::Sweep;
use crate::kernels::winograd::{FilterGradient, Tile, Winograd, fits};
use crate::layers::conv2d::Method;
use crate::simd::Isa;

/// Fewest channels on either side for which transforms pay: below, they cost as much as they save.
const MIN_CHANNELS: usize = 16;

/// A convolution, and the algorithms of its passes; `None` is the direct form.
pub(super) struct Choice {
    pub(super) geometry: Conv2dGeometry,
    forward: Option<Tile>,
    backward_data: Option<Tile>,
    filters: Option<Tile>,
    /// Whether passes have many images: in training.
    batches: bool,
}

/// Chooses for every node that is a convolution; with `halves`, in bf16, all are the plain sum: transforms would round each
/// number twice more.
pub(super) fn choose(
    graph: &Graph,
    shapes: &[Shape],
    (mode, halves): (Mode, bool),
    exec: &Exec,
) -> Vec<Option<Choice>> {
    let choose = |node: &Node| {
        let Op::Conv2d(conv) = &node.op else { return None };
        let geometry = Conv2dGeometry::new(&node.name, shapes[node.inputs[0] as usize], conv);
        Some(Choice::new(geometry.expect("shapes are checked"), mode, exec.exact || halves))
    };
    graph.nodes.iter().map(choose).collect()
}

impl Choice {
    fn new(geometry: Conv2dGeometry, mode: Mode, exact: bool) -> Self {
        let g = &geometry;
        if exact || !fits(g) || g.cin.min(g.cout) < MIN_CHANNELS {
            return Choice { geometry, forward: None, backward_data: None, filters: None, batches: false };
        }
        Choice {
            forward: tile([g.oh, g.ow], g, mode),
            backward_data: tile([g.h, g.w], g, mode).filter(|_| g.padding.iter().all(|&p| p <= 2)),
            filters: tile([g.oh, g.ow], g, mode),
            batches: mode.learns(),
            geometry,
        }
    }

    pub(super) fn forward(&self, isa: Isa) -> Method {
        match self.forward {
            Some(tile) => self.transformed(Winograd::forward(isa, &self.geometry, tile)),
            None => Method::Direct(Sweep::forward(isa, &self.geometry)),
        }
    }

    pub(super) fn backward_data(&self, isa: Isa) -> Method {
        match self.backward_data {
            Some(tile) => self.transformed(Winograd::backward_data(isa, &self.geometry, tile)),
            None => Method::Direct(Sweep::backward_data(isa, &self.geometry)),
        }
    }

    fn transformed(&self, winograd: Winograd) -> Method {
        Method::Winograd(Box::new(if self.batches { winograd.in_batches() } else { winograd }), None)
    }

    /// The gradient of the filters from transformed tiles, if that is the choice.
    pub(super) fn filter_gradient(&self, isa: Isa) -> Option<FilterGradient> {
        self.filters.map(|tile| FilterGradient::new(isa, &self.geometry, tile))
    }
}

/// The tile that takes the least time for outputs of `size`, if it takes less than the direct form. Times are in
/// multiply-adds of the direct form for each weight of a tap.
fn tile([h, w]: [usize; 2], g: &Conv2dGeometry, mode: Mode) -> Option<Tile> {
    let weights = (g.cin * g.cout) as f64;
    // Filters are read once for as many images as a batch is taken to have: one at inference.
    let images = if mode.learns() { TRAINING_IMAGES } else { 1.0 };
    let read =
        |values: f64| values * if values * weights > CACHED { FROM_MEMORY } else { FROM_CACHE } / images;
    let direct = 9.0 * (h * w) as f64 + read(9.0);
    let cost = |tile: Tile| {
        let tiles = (h.div_ceil(tile.outputs()) * w.div_ceil(tile.outputs())) as f64;
        let values = tile.values() as f64;
        let transforms = tiles * values * (g.cin + g.cout) as f64 / weights * TRANSFORM;
        tiles * values / EFFICIENCY + read(values) + transforms
    };
    let best = [Tile::Four, Tile::Two].into_iter().min_by(|&a, &b| cost(a).total_cmp(&cost(b)))?;
    (cost(best) < direct).then_some(best)
}

/// The tile by which a plan computes a convolution of stride 1, or a pass of its gradient, in a mode; `None` for the direct
/// form.
pub fn chosen_tile(g: &Conv2dGeometry, mode: Mode) -> Option<Tile> {
    let transforms = fits(g) && g.cin.min(g.cout) >= MIN_CHANNELS;
    if transforms { tile([g.oh, g.ow], g, mode) } else { None }
}

/// Images over which a training step spreads the reading of filters: a small batch.
const TRAINING_IMAGES: f64 = 16.0;
/// Floats of transformed filters that stay in a third-level cache until the next image comes: 16 MiB.
const CACHED: f64 = (4 << 20) as f64;
/// Multiply-adds that take as long as reading a filter value from there, and from memory. The error of a factor of two
/// in either changes few choices: resnet18 took as long with 10 and 40.
const FROM_CACHE: f64 = 6.0;
const FROM_MEMORY: f64 = 20.0;
/// Multiply-adds that take as long as transforming one value of one channel of a tile: 36 values of 8 channels in
/// about 90 cycles of 16 multiply-adds.
const TRANSFORM: f64 = 5.0;
/// Speed of the products of a block next to that of the direct form.
const EFFICIENCY: f64 = 0.9;
