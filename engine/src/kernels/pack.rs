//! Weights rearranged into panels of `NR` columns, in the order in which the register tiles read them.
//!
//! A matrix of `k` rows and `n` columns becomes `ceil(n / NR)` panels of `[k][NR]`; the last one is padded with
//! zeros, so inner loops never mask a weight, to `NR` columns or to one vector if that holds what is left: the weights
//! of ten classes take 16 columns with AVX-512, and would take 32.

/// A matrix somewhere in memory: element `(r, c)` at `rows[r] + c * col_step`.
pub(crate) struct Source<'a> {
    /// All weights.
    pub(crate) w: &'a [f32],
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
}

impl Source<'_> {
    /// Rows of the reduction.
    pub(crate) fn depth(&self) -> usize {
        self.blocks.len() * self.inner
    }
}

/// Columns of a panel from whose first on a matrix has `cols`: two vectors, or one where the tile that reads it has one.
pub(crate) fn panel_width(cols: usize, nr: usize) -> usize {
    if cols > nr / 2 { nr } else { nr / 2 }
}

/// Floats of the panels of a `depth x cols` matrix.
pub(crate) fn panels_len(depth: usize, cols: usize, nr: usize) -> usize {
    cols.next_multiple_of(nr / 2) * depth
}

/// Copies the columns of a panel, without a call: they are few.
#[inline(always)]
pub(crate) fn copy_columns(to: &mut [f32], from: &[f32]) {
    let (to, to_rest) = to.as_chunks_mut::<8>();
    let (from, from_rest) = from.as_chunks::<8>();
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    to_rest.iter_mut().zip(from_rest).for_each(|(to, from)| *to = *from);
}

/// Fills panel `index` (`[depth][panel_width]`) of a matrix.
///
/// # Panics
/// When the panel's length is not `depth * panel_width` or the source leaves `w`.
pub(crate) fn pack_panel(panel: &mut [f32], index: usize, nr: usize, source: &Source) {
    let first = index * nr;
    let cols = nr.min(source.cols - first);
    let width = panel_width(cols, nr);
    assert_eq!(panel.len(), source.depth() * width, "a panel holds depth x width floats");
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
                *value = weight;
            }
        }
        padding.fill(0.0);
    }
}
