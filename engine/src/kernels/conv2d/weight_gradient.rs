//! Weight gradients of a convolution: sums over pixels of outer products.

use std::ops::Range;

use super::Halo;
use crate::geometry::Conv2dGeometry;
use crate::kernels::micro::{self, Outer};
use crate::kernels::pack::copy_columns;
use crate::simd::Isa;

/// Pixels that one tile sums before its accumulators go to memory: at 256 the load and store of a tile cost under
/// 1 % of its multiply-adds, and its panel of `dy` is 16 KiB. Small maps chain images to reach it.
const CHAIN_PIXELS: usize = 256;

/// The weight gradient of one convolution, prepared for its geometry.
#[derive(Debug)]
pub struct WeightGradient {
    isa: Isa,
    g: Conv2dGeometry,
    halo: Halo,
    /// Images whose pixels one tile sums in registers.
    chain: usize,
    /// Contiguous rows of `dw` that one address step of `x` covers: `kw * cin`, or `cin / groups`.
    run: usize,
    /// Runs of each group: place in the padded source, first row of `dw`.
    runs: Vec<(usize, usize)>,
}

impl WeightGradient {
    /// Prepares `dw = conv_backward_weights(x, dy)`.
    pub fn new(isa: Isa, g: &Conv2dGeometry) -> Self {
        let [top, bottom, left, right] = g.padding;
        let halo =
            Halo { h: g.h, w: g.w, c: g.cin, top, left, ph: g.h + top + bottom, pw: g.w + left + right };
        let depth = g.cin / g.groups;
        let line = halo.pw * halo.c;
        let merged = g.groups == 1 && g.dilation[1] == 1;
        let merge = if merged { g.kernel[1] } else { 1 };
        let runs = (0..g.kernel[0])
            .flat_map(|kh| (0..g.kernel[1]).step_by(merge).map(move |kw| (kh, kw)))
            .map(|(kh, kw)| {
                let place = kh * g.dilation[0] * line + kw * g.dilation[1] * halo.c;
                (place, (kh * g.kernel[1] + kw) * depth)
            })
            .collect();
        let chain = CHAIN_PIXELS.div_ceil(g.oh * g.ow);
        WeightGradient { isa, g: *g, halo, chain, run: merge * depth, runs }
    }

    /// Floats of scratch that [`WeightGradient::accumulate`] needs.
    pub fn scratch_len(&self) -> usize {
        let padded = if self.halo.is_identity() { 0 } else { self.halo.ph * self.halo.pw * self.halo.c };
        self.panel_len() + self.chain * padded
    }

    /// Adds the gradient of some images: `dw[kh][kw][cin / groups][cout] += ..`, `x` is `[n][h][w][cin]`, `dy` is
    /// `[n][oh][ow][cout]`.
    ///
    /// # Panics
    /// When a slice does not have the length that the geometry gives.
    pub fn accumulate(&self, dw: &mut [f32], scratch: &mut [f32], x: &[f32], dy: &[f32]) {
        let (x_len, y_len) = (self.g.x_len(), self.g.y_len());
        let images = x.len() / x_len;
        assert_eq!(x.len(), images * x_len, "x holds whole images");
        assert_eq!(dy.len(), images * y_len, "dy holds as many images");
        assert_eq!(dw.len(), self.g.w_len(), "dw holds the weights");
        let padded = self.halo.ph * self.halo.pw * self.halo.c;
        let (panels, scratch) = scratch.split_at_mut(self.panel_len());
        for first in (0..images).step_by(self.chain) {
            let count = self.chain.min(images - first);
            let dy = &dy[first * y_len..(first + count) * y_len];
            let source = &x[first * x_len..(first + count) * x_len];
            if self.halo.is_identity() {
                self.chained(dw, panels, source, dy, (count, 0..self.g.oh));
            } else {
                for (image, out) in source.chunks_exact(x_len).zip(scratch.chunks_exact_mut(padded)) {
                    self.halo.copy_rows(out, (image, 0.0), 0, self.halo.ph);
                }
                self.chained(dw, panels, &scratch[..count * padded], dy, (count, 0..self.g.oh));
            }
        }
    }

    /// How a batch may be cut without a change of any sum: images that go together, and rows of one image that go together
    /// where that is a single one.
    pub fn units(&self) -> (usize, usize) {
        (self.chain, self.block_rows())
    }

    /// As [`WeightGradient::accumulate`] on rows `rows` of `dy` of one image, which begin with a multiple of the rows of
    /// [`WeightGradient::units`].
    ///
    /// # Panics
    /// For a convolution with padding, and when a slice does not have the length that the geometry gives.
    pub fn accumulate_rows(
        &self,
        dw: &mut [f32],
        scratch: &mut [f32],
        (x, dy): (&[f32], &[f32]),
        rows: Range<usize>,
    ) {
        assert!(self.halo.is_identity() && self.chain == 1, "images without padding, one at a time");
        assert!(x.len() == self.g.x_len() && dy.len() == self.g.y_len(), "one image and its gradient");
        assert_eq!(dw.len(), self.g.w_len(), "dw holds the weights");
        assert!(rows.start.is_multiple_of(self.block_rows()) && rows.end <= self.g.oh, "the rows exist");
        self.chained(dw, &mut scratch[..self.panel_len()], x, dy, (1, rows));
    }

    /// All tiles of `dw` over the same rows of a chain of padded images, some rows of pixels at a time: their `dy` is copied
    /// into panels of `NR` columns, which lie side by side in the first-level cache however many channels there are.
    fn chained(
        &self,
        dw: &mut [f32],
        panels: &mut [f32],
        source: &[f32],
        dy: &[f32],
        (images, all): (usize, Range<usize>),
    ) {
        let g = &self.g;
        let nr = self.isa.nr();
        let line = self.halo.pw * self.halo.c;
        let x_step = [self.halo.ph * line, g.stride[0] * line, g.stride[1] * self.halo.c];
        let (depth, cols) = (g.cin / g.groups, g.cout / g.groups);
        let reach = (images - 1) * x_step[0] + (g.oh - 1) * x_step[1] + (g.ow - 1) * x_step[2];
        let last = self.runs.iter().map(|&(place, _)| place + self.run).max().unwrap_or(0);
        assert!(reach + last + (g.groups - 1) * depth <= source.len(), "every tap lies in the source");
        let block = self.block_rows();
        for first in all.clone().step_by(block) {
            let rows = block.min(all.end - first);
            for group in 0..g.groups {
                for panel in (0..cols).step_by(nr) {
                    let column = group * cols + panel;
                    let width = nr.min(cols - panel);
                    let tiles = self.run.div_ceil(micro::tile_rows(self.isa, width));
                    let pixels = dy.chunks_exact(g.y_len()).flat_map(|dy| {
                        dy[first * g.ow * g.cout..(first + rows) * g.ow * g.cout].chunks_exact(g.cout)
                    });
                    for (out, pixel) in panels.chunks_exact_mut(nr).zip(pixels) {
                        copy_columns(&mut out[..width], &pixel[column..column + width]);
                    }
                    for &(place, row) in &self.runs {
                        let start = group * depth + place + first * x_step[1];
                        for tile in 0..tiles {
                            let (begin, end) = (tile * self.run / tiles, (tile + 1) * self.run / tiles);
                            let args = Outer {
                                x: source[start + begin..].as_ptr(),
                                dy: panels.as_ptr(),
                                count: [images, rows, g.ow],
                                x_step,
                                dy_step: [rows * g.ow * nr, g.ow * nr, nr],
                                dw: dw[(row + begin) * g.cout + column..].as_mut_ptr(),
                                dw_step: g.cout,
                                cols: width,
                            };
                            // SAFETY: the assert above bounds the last row of the last pixel by the source; `panels`
                            // holds every pixel of the block and `dw` all weights, as `accumulate` checked; `dw` is
                            // borrowed mutably.
                            unsafe { micro::outer(self.isa, end - begin, &args) }
                        }
                    }
                }
            }
        }
    }

    /// Rows of pixels whose sums stay in registers.
    fn block_rows(&self) -> usize {
        CHAIN_PIXELS.div_ceil(self.chain * self.g.ow).min(self.g.oh)
    }

    /// Floats of a panel of `dy`.
    fn panel_len(&self) -> usize {
        self.chain * self.block_rows() * self.g.ow * self.isa.nr()
    }
}
