//! Weights rearranged into panels of `NR` columns, in the order in which the register tiles read them.
//!
//! A matrix of `k` rows and `n` columns becomes `ceil(n / NR)` panels of `[k][NR]`; the last one is padded with
//! zeros, so inner loops never mask a weight, to `NR` columns or to one vector if that holds what is left: the weights
//! of ten classes take 16 columns with AVX-512, and would take 32.
//!
//! Where one instruction adds a group of products, panels are `[k / GROUP][NR][GROUP]`, and each contiguous run of the
//! reduction is padded with rows of zeros to whole groups.

use crate::buffer::Element;
use crate::simd::{Isa, Kernel, Simd, dispatch};

/// A matrix somewhere in memory: element `(r, c)` at `rows[r] + c * col_step`.
pub(crate) struct Source<'a, T = f32> {
    /// All weights.
    pub(crate) w: &'a [T],
    /// First row of the reduction: `w` offset of its column 0.
    pub(crate) base: usize,
    /// Offset of each block of `inner` rows, relative to `base`.
    pub(crate) blocks: &'a [usize],
    /// Rows of a block and the distance between them.
    pub(crate) inner: usize,
    /// Distance between the rows of a block.
    pub(crate) row_step: usize,
    /// Distance between columns.
    pub(crate) col_step: usize,
    /// Number of columns.
    pub(crate) cols: usize,
    /// Blocks of a contiguous run of the reduction.
    pub(crate) run: usize,
    /// Products that one instruction adds.
    pub(crate) group: usize,
    /// Rows of a run in the panels, with those of zeros: whole groups.
    pub(crate) padded_run: usize,
}

impl<T> Source<'_, T> {
    /// Rows of the reduction, with those of zeros.
    pub(crate) fn depth(&self) -> usize {
        self.blocks.len() / self.run * self.padded_run
    }
}

/// Columns of a panel from whose first on a matrix has `cols`: two vectors, or one where the tile that reads it has one.
pub(crate) fn panel_width(cols: usize, nr: usize) -> usize {
    if cols > nr / 2 { nr } else { nr / 2 }
}

/// Weights in the panels of a `depth x cols` matrix; `depth` has whole groups.
pub(crate) fn panels_len(depth: usize, cols: usize, nr: usize) -> usize {
    cols.next_multiple_of(nr / 2) * depth
}

/// Copies the columns of a panel, without a call: they are few.
#[inline(always)]
pub(crate) fn copy_columns<T: Copy, P: From<T>>(to: &mut [P], from: &[T]) {
    let (to, to_rest) = to.as_chunks_mut::<8>();
    let (from, from_rest) = from.as_chunks::<8>();
    to.iter_mut().zip(from).for_each(|(to, from)| {
        to.iter_mut().zip(from).for_each(|(to, &from)| *to = from.into());
    });
    to_rest.iter_mut().zip(from_rest).for_each(|(to, &from)| *to = from.into());
}

/// Fills panel `index` (`[depth / group][panel_width][group]`) of a matrix, whose weights may become numbers of another kind.
///
/// # Panics
/// When the panel's length is not `depth * panel_width` or the source leaves `w`.
pub(crate) fn pack_panel<T: Element, P: Element + From<T>>(
    panel: &mut [P],
    index: usize,
    nr: usize,
    source: &Source<T>,
) {
    let first = index * nr;
    let cols = nr.min(source.cols - first);
    let width = panel_width(cols, nr);
    assert_eq!(panel.len(), source.depth() * width, "a panel holds depth x width weights");
    if source.group == 1 {
        return pack_rows(panel, (first, cols, width), source);
    }
    match source.group {
        2 => pack_groups::<T, P, 2>(panel, (first, cols, width), source),
        4 => pack_groups::<T, P, 4>(panel, (first, cols, width), source),
        group => unreachable!("no instruction adds {group} products"),
    }
}

/// [`pack_panel`] in groups of `G` rows, for the columns `first .. first + cols`.
fn pack_groups<T: Element, P: Element + From<T>, const G: usize>(
    panel: &mut [P],
    (first, cols, width): (usize, usize, usize),
    source: &Source<T>,
) {
    panel.fill(P::ZERO);
    let run_len = (source.padded_run * width).max(1);
    for (run, panel) in source.blocks.chunks(source.run).zip(panel.chunks_exact_mut(run_len)) {
        let row = |k: usize| {
            let at = source.base + run[k / source.inner] + k % source.inner * source.row_step;
            &source.w[at + first * source.col_step..]
        };
        let rows = run.len() * source.inner;
        let (groups, _) = panel.as_chunks_mut::<G>();
        for (start, groups) in (0..rows).step_by(G).zip(groups.chunks_exact_mut(width)) {
            let count = G.min(rows - start);
            let from: [&[T]; G] = std::array::from_fn(|i| row(start + i.min(count - 1)));
            for (c, group) in groups[..cols].iter_mut().enumerate() {
                for (to, from) in group.iter_mut().zip(&from).take(count) {
                    *to = from[c * source.col_step].into();
                }
            }
        }
    }
}

/// Panels that are filled side by side: rows of the source are read in pieces of 1 KiB with AVX-512, and not 128 bytes of a
/// page for one panel after the other.
const SIDE_BY_SIDE: usize = 8;

/// [`pack_panel`] for panels `first ..` of floats in f32, as many as `panels` has room for.
///
/// # Panics
/// When a panel does not have its length or the source leaves `w`.
pub(crate) fn pack_panels(isa: Isa, panels: &mut [f32], first: usize, source: &Source) {
    let (nr, depth) = (isa.nr(), source.depth());
    let step = (depth * nr).max(1);
    let whole = if source.col_step == 1 && source.group == 1 && depth > 0 {
        (source.cols / nr).saturating_sub(first).min(panels.len() / step)
    } else {
        0
    };
    let (wide, rest) = panels.split_at_mut(whole * step);
    if whole > 0 {
        let rows =
            || source.blocks.iter().flat_map(|&b| (0..source.inner).map(move |r| b + r * source.row_step));
        let furthest = rows().max().unwrap_or(0) + source.base + (first + whole) * nr;
        assert!(furthest <= source.w.len(), "the source holds all rows");
        for (i, panels) in wide.chunks_mut(SIDE_BY_SIDE * step).enumerate() {
            let column = (first + i * SIDE_BY_SIDE) * nr;
            dispatch(isa, WholePanels { panels, source, column, step });
        }
    }
    let rest = rest.chunks_mut(step).enumerate();
    rest.for_each(|(index, panel)| pack_panel(panel, first + whole + index, nr, source));
}

/// Some panels that have all of their columns, the first of them from `column` on.
struct WholePanels<'a> {
    panels: &'a mut [f32],
    source: &'a Source<'a>,
    column: usize,
    /// Floats of a panel.
    step: usize,
}

impl Kernel for WholePanels<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let WholePanels { panels, source, column, step } = self;
        let count = panels.len() / step;
        let mut to = panels.as_mut_ptr();
        for &block in source.blocks {
            for row in 0..source.inner {
                let from =
                    source.w.as_ptr().wrapping_add(source.base + block + row * source.row_step + column);
                // SAFETY: `pack_panels` has found all rows of the source with the columns of these panels, which have a row for
                // each.
                unsafe {
                    for panel in 0..count {
                        for v in 0..S::NV {
                            let vector = s.load(from.add(panel * S::NR + v * S::LANES));
                            s.store(to.add(panel * step + v * S::LANES), vector);
                        }
                    }
                }
                to = to.wrapping_add(S::NR);
            }
        }
    }
}

/// [`pack_panel`] in groups of one, for the columns `first .. first + cols`.
fn pack_rows<T: Element, P: Element + From<T>>(
    panel: &mut [P],
    (first, cols, width): (usize, usize, usize),
    source: &Source<T>,
) {
    let rows = source.blocks.iter().flat_map(|&block| {
        (0..source.inner)
            .map(move |row| source.base + block + row * source.row_step + first * source.col_step)
    });
    for (out, at) in panel.chunks_exact_mut(width).zip(rows) {
        let (used, padding) = out.split_at_mut(cols);
        if source.col_step == 1 {
            copy_columns(used, &source.w[at..at + cols]);
        } else {
            for (value, &weight) in used.iter_mut().zip(source.w[at..].iter().step_by(source.col_step)) {
                *value = weight.into();
            }
        }
        padding.fill(P::ZERO);
    }
}
