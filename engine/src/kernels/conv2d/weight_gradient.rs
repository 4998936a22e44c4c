//! Weight gradients of a convolution: sums over pixels of outer products.

use std::ops::Range;

use super::Halo;
use crate::buffer::Element;
use crate::geometry::Conv2dGeometry;
use crate::kernels::micro::{Outer, OuterProducts};
use crate::simd::Isa;

/// The weight gradient of one convolution, prepared for its geometry.
#[derive(Debug)]
pub struct WeightGradient<N = Isa> {
    isa: N,
    g: Conv2dGeometry,
    halo: Halo,
    /// Groups of images whose pixels one tile sums in registers: small maps chain them.
    chain: usize,
    /// Contiguous rows of `dw` that one address step of `x` covers: `kw * cin`, or `cin / groups`.
    run: usize,
    /// Runs of each group: place in the padded source, first row of `dw`.
    runs: Vec<(usize, usize)>,
}

#[expect(private_bounds, reason = "the kinds of numbers are those of this crate")]
impl<N: OuterProducts> WeightGradient<N> {
    /// Prepares `dw = conv_backward_weights(x, dy)`.
    pub fn new(isa: N, g: &Conv2dGeometry) -> Self {
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
        let chain = isa.chain_pixels().div_ceil(g.oh * g.ow);
        WeightGradient { isa, g: *g, halo, chain, run: merge * depth, runs }
    }

    /// Whether images are read where they lie.
    fn reads_in_place(&self) -> bool {
        N::GROUP == 1 && self.halo.is_identity()
    }

    /// Numbers of a padded image.
    fn padded_len(&self) -> usize {
        self.halo.ph * self.halo.pw * self.halo.c
    }

    /// Numbers between neighbouring pixels of the source.
    fn pixel_step(&self) -> usize {
        self.g.stride[1] * self.halo.c * N::GROUP
    }

    /// Numbers of scratch that [`WeightGradient::accumulate`] needs.
    pub fn scratch_len(&self) -> usize {
        let source = self.chain * self.padded_len() * N::GROUP + self.isa.excess(self.pixel_step());
        self.panel_len() + if self.reads_in_place() { 0 } else { source }
    }

    /// Adds the gradient of some images: `dw[kh][kw][cin / groups][cout] += ..`, `x` is `[n][h][w][cin]`, `dy` is
    /// `[n][oh][ow][cout]`.
    ///
    /// # Panics
    /// When a slice does not have the length that the geometry gives.
    pub fn accumulate(&self, dw: &mut [f32], scratch: &mut [N::Input], x: &[N::Input], dy: &[N::Input]) {
        let (x_len, y_len) = (self.g.x_len(), self.g.y_len());
        let images = x.len() / x_len;
        assert_eq!(x.len(), images * x_len, "x holds whole images");
        assert_eq!(dy.len(), images * y_len, "dy holds as many images");
        assert_eq!(dw.len(), self.g.w_len(), "dw holds the weights");
        let (panels, scratch) = scratch.split_at_mut(self.panel_len());
        let together = self.chain * N::GROUP;
        for (x, dy) in x.chunks(together * x_len).zip(dy.chunks(together * y_len)) {
            if self.reads_in_place() {
                self.chained(dw, panels, x, dy, 0..self.g.oh);
                continue;
            }
            let groups = x.chunks(N::GROUP * x_len);
            let padded = self.padded_len() * N::GROUP;
            let (len, excess) = (groups.len() * padded, self.isa.excess(self.pixel_step()));
            for (group, out) in groups.zip(scratch.chunks_exact_mut(padded)) {
                self.halo.copy_group(self.isa, out, group);
            }
            // Multiplied with zeros, which what is no number would not survive.
            scratch[len..len + excess].fill(N::Input::ZERO);
            self.chained(dw, panels, &scratch[..len + excess], dy, 0..self.g.oh);
        }
    }

    /// How a batch may be cut without a change of any sum: images that go together, and rows of one image that go together
    /// where that is a single one.
    pub fn units(&self) -> (usize, usize) {
        (self.chain * N::GROUP, self.block_rows())
    }

    /// As [`WeightGradient::accumulate`] on rows `rows` of `dy` of one image, which begin with a multiple of the rows of
    /// [`WeightGradient::units`].
    ///
    /// # Panics
    /// For a convolution with padding, where images go together, and when a slice does not have the length that the geometry
    /// gives.
    pub fn accumulate_rows(
        &self,
        dw: &mut [f32],
        scratch: &mut [N::Input],
        (x, dy): (&[N::Input], &[N::Input]),
        rows: Range<usize>,
    ) {
        assert!(self.reads_in_place() && self.chain == 1, "images without padding, one at a time");
        assert!(x.len() == self.g.x_len() && dy.len() == self.g.y_len(), "one image and its gradient");
        assert_eq!(dw.len(), self.g.w_len(), "dw holds the weights");
        assert!(rows.start.is_multiple_of(self.block_rows()) && rows.end <= self.g.oh, "the rows exist");
        self.chained(dw, &mut scratch[..self.panel_len()], x, dy, rows);
    }

    /// All tiles of `dw` over the rows `all` of a chain of padded groups of images, some rows of pixels at a time: their `dy`
    /// is copied into panels of `NR` columns, which lie side by side in a cache however many channels there are.
    fn chained(
        &self,
        dw: &mut [f32],
        panels: &mut [N::Input],
        source: &[N::Input],
        dy: &[N::Input],
        all: Range<usize>,
    ) {
        let g = &self.g;
        let nr = self.isa.tile_width();
        let groups = dy.len().div_ceil(g.y_len() * N::GROUP);
        let line = self.halo.pw * self.halo.c * N::GROUP;
        let x_step = [self.halo.ph * line, g.stride[0] * line, self.pixel_step()];
        let (depth, cols) = (g.cin / g.groups, g.cout / g.groups);
        let reach = (groups - 1) * x_step[0] + (g.oh - 1) * x_step[1] + (g.ow - 1) * x_step[2];
        let last = self.runs.iter().map(|&(place, _)| place + self.run).max().unwrap_or(0);
        let last = (last + (g.groups - 1) * depth) * N::GROUP;
        assert!(reach + last + self.isa.excess(x_step[2]) <= source.len(), "every tap lies in the source");
        let (block, dy_line) = (self.block_rows(), self.isa.line_len(g.ow));
        for first in all.clone().step_by(block) {
            let rows = block.min(all.end - first);
            for group in 0..g.groups {
                for panel in (0..cols).step_by(nr) {
                    let column = group * cols + panel;
                    let width = nr.min(cols - panel);
                    let tiles = self.run.div_ceil(self.isa.tile_rows(width));
                    let lines = dy
                        .chunks(g.y_len() * N::GROUP)
                        .flat_map(|group| (first..first + rows).map(move |row| (group, row * g.ow * g.cout)));
                    for (out, (group, at)) in panels.chunks_exact_mut(dy_line).zip(lines) {
                        let mut images = [&[][..]; 2];
                        for (to, image) in images.iter_mut().zip(group.chunks_exact(g.y_len())) {
                            *to = &image[at..at + g.ow * g.cout];
                        }
                        self.isa.fill_line(out, &images, g.cout, (column, width));
                    }
                    for &(place, row) in &self.runs {
                        let start = (group * depth + place) * N::GROUP + first * x_step[1];
                        for tile in 0..tiles {
                            let (begin, end) = (tile * self.run / tiles, (tile + 1) * self.run / tiles);
                            let args = Outer {
                                x: source[start + begin * N::GROUP..].as_ptr(),
                                dy: panels.as_ptr(),
                                count: [groups, rows, g.ow],
                                x_step,
                                dy_step: [rows * dy_line, dy_line, nr * N::GROUP],
                                dw: dw[(row + begin) * g.cout + column..].as_mut_ptr(),
                                dw_step: g.cout,
                                cols: width,
                            };
                            // SAFETY: the assert above bounds the last row of the last pixel by the source; `panels`
                            // holds every pixel of the block and `dw` all weights, as `accumulate` checked; `dw` is
                            // borrowed mutably.
                            unsafe { self.isa.outer(end - begin, &args) }
                        }
                    }
                }
            }
        }
    }

    /// Rows of pixels whose sums stay in registers.
    fn block_rows(&self) -> usize {
        self.isa.chain_pixels().div_ceil(self.chain * self.g.ow).min(self.g.oh)
    }

    /// Numbers of a panel of `dy`.
    fn panel_len(&self) -> usize {
        self.chain * self.block_rows() * self.isa.line_len(self.g.ow)
    }
}
