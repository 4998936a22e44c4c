//! The two-dimensional transforms of tiles and filters, vectorised over channels.
//!
//! Each is `L t L^T` for one of the matrices of `points`: columns first, into a buffer of vectors that stays in the
//! first-level cache, then rows.

use super::points::Points;
use crate::kernels::lanes::{clamp, load, store};
use crate::kernels::micro::Epilogue;
use crate::kernels::pack::panel_width;
use crate::simd::{Kernel, MAX_LANES, Simd};
use std::marker::PhantomData;
use std::ops::Range;

/// Images cut into tiles: tile `(ty, tx)` begins at pixel `(ty * step - top, tx * step - left)`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) c: usize,
    pub(super) top: usize,
    pub(super) left: usize,
    /// Tiles down and across.
    pub(super) tiles: [usize; 2],
}

impl Grid {
    /// Pixels `begin..end` of a tile of `size` at `first` that lie in `0..limit`, counted from the tile's start.
    #[inline(always)]
    fn inside(first: isize, size: usize, limit: usize) -> Range<usize> {
        let begin = (-first).clamp(0, size as isize) as usize;
        let end = (limit as isize - first).clamp(begin as isize, size as isize) as usize;
        begin..end
    }
}

/// Which transform takes pixels to values.
pub(super) trait Map<const P: usize, const Q: usize> {
    /// Implementations are `#[inline(always)]`.
    fn map<S: Simd>(s: S, x: [S::V; P]) -> [S::V; Q];
}

/// [`Points::input`]
pub(super) struct Input<F>(F);
/// [`Points::spread`]
pub(super) struct Spread<F>(F);

impl<F: Points<M, N>, const M: usize, const N: usize> Map<N, N> for (Input<F>, [(); M]) {
    #[inline(always)]
    fn map<S: Simd>(s: S, x: [S::V; N]) -> [S::V; N] {
        F::input(s, x)
    }
}

impl<F: Points<M, N>, const M: usize, const N: usize> Map<M, N> for (Spread<F>, [(); M]) {
    #[inline(always)]
    fn map<S: Simd>(s: S, x: [S::V; M]) -> [S::V; N] {
        F::spread(s, x)
    }
}

/// Where [`Scatter`] puts value `f` of channel `c` of tile `t`:
/// `f * value + t * tile + c / group * group_step + c % group`.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) value: usize,
    pub(super) tile: usize,
    /// Channels that lie side by side (a multiple of the lanes, or all), and the distance between such groups.
    pub(super) group: usize,
    pub(super) group_step: usize,
}

/// `out = L t L^T` for the tiles of some tile rows; pixels outside of the image are zero.
pub(super) struct Scatter<'a, T, const P: usize, const Q: usize> {
    pub(super) out: *mut f32,
    pub(super) place: Place,
    /// All images.
    pub(super) x: *const f32,
    pub(super) grid: &'a Grid,
    /// Tile rows, counted over all images.
    pub(super) lines: Range<usize>,
    /// Pixels from a tile to the next.
    pub(super) step: usize,
    /// The channels that are transformed; places are counted from the first of them.
    pub(super) channels: Range<usize>,
    pub(super) transform: PhantomData<T>,
}

impl<T: Map<P, Q>, const P: usize, const Q: usize> Scatter<'_, T, P, Q> {
    /// `n` channels of one tile.
    ///
    /// # Safety
    /// `x` plus the offset of each pixel of `inside` is readable for `n` floats, `out` writable at each value.
    #[inline(always)]
    unsafe fn tile<S: Simd, const EDGE: bool>(
        &self,
        s: S,
        out: *mut f32,
        x: *const f32,
        [rows, cols]: &[Range<usize>; 2],
        n: usize,
    ) {
        let (row_step, col_step) = (self.grid.w * self.grid.c, self.grid.c);
        let zero = s.splat(0.0);
        let mut temp = [[zero; P]; Q];
        for j in 0..P {
            let mut pixels = [zero; P];
            for i in 0..P {
                if !EDGE || (rows.contains(&i) && cols.contains(&j)) {
                    // SAFETY: the contract of this function.
                    pixels[i] = unsafe { load(s, x.wrapping_add(i * row_step + j * col_step), n) };
                }
            }
            let column = T::map(s, pixels);
            for q in 0..Q {
                temp[q][j] = column[q];
            }
        }
        for q in 0..Q {
            let row = T::map(s, temp[q]);
            for k in 0..Q {
                // SAFETY: the contract of this function.
                unsafe { store(s, out.add((q * Q + k) * self.place.value), row[k], n) }
            }
        }
    }

    /// All channels of one tile.
    ///
    /// # Safety
    /// As [`Scatter::tile`].
    #[inline(always)]
    unsafe fn channels<S: Simd, const EDGE: bool>(
        &self,
        s: S,
        out: *mut f32,
        x: *const f32,
        inside: &[Range<usize>; 2],
    ) {
        let Place { group, group_step, .. } = self.place;
        let Range { start, end: last } = self.channels;
        for begin in (start..last).step_by(group) {
            let end = last.min(begin + group);
            let out = out.wrapping_add((begin - start) / group * group_step);
            let mut c = begin;
            // SAFETY: every vector ends at the last channel or before.
            unsafe {
                while c + S::LANES <= end {
                    self.tile::<S, EDGE>(s, out.add(c - begin), x.wrapping_add(c), inside, S::LANES);
                    c += S::LANES;
                }
                if c < end {
                    self.tile::<S, EDGE>(s, out.add(c - begin), x.wrapping_add(c), inside, end - c);
                }
            }
        }
    }
}

impl<T: Map<P, Q>, const P: usize, const Q: usize> Kernel for Scatter<'_, T, P, Q> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Grid { h, w, c, top, left, tiles: [down, across] } = *self.grid;
        for (index, line) in self.lines.clone().enumerate() {
            let (image, ty) = (line / down, line % down);
            let y = (ty * self.step) as isize - top as isize;
            let rows = Grid::inside(y, P, h);
            for tx in 0..across {
                let x = (tx * self.step) as isize - left as isize;
                let inside = [rows.clone(), Grid::inside(x, P, w)];
                let out = self.out.wrapping_add((index * across + tx) * self.place.tile);
                let source =
                    self.x.wrapping_offset(((image * h) as isize + y) * (w * c) as isize + x * c as isize);
                // SAFETY: `inside` keeps to the pixels of the image; the caller made room for every tile.
                unsafe {
                    if inside[0] == (0..P) && inside[1] == (0..P) {
                        self.channels::<S, false>(s, out, source, &inside);
                    } else {
                        self.channels::<S, true>(s, out, source, &inside);
                    }
                }
            }
        }
    }
}

/// `y = epilogue(A^T m A)` for the tiles of some tile rows.
pub(super) struct Gather<'a, F, const M: usize, const N: usize> {
    /// The outputs, from the first row of the first tile on.
    pub(super) y: *mut f32,
    pub(super) products: *const f32,
    /// Floats between values and between tiles of the products.
    pub(super) value: usize,
    pub(super) tile: usize,
    /// The output images, without a border.
    pub(super) grid: &'a Grid,
    pub(super) lines: Range<usize>,
    pub(super) epilogue: Epilogue,
    pub(super) points: PhantomData<F>,
}

impl<F: Points<M, N>, const M: usize, const N: usize> Gather<'_, F, M, N> {
    /// `n` channels from `c` on of one tile of `rows x cols` pixels whose first one is at `pixel`.
    ///
    /// # Safety
    /// These channels are readable in the products and a bias, and writable (a residual's readable) in each pixel.
    #[inline(always)]
    unsafe fn tile_vector<S: Simd>(
        &self,
        s: S,
        (pixel, c): (usize, usize),
        products: *const f32,
        [rows, cols]: [usize; 2],
        n: usize,
    ) {
        let (row_step, col_step) = (self.grid.w * self.grid.c, self.grid.c);
        let (e, products, at) = (&self.epilogue, products.wrapping_add(c), pixel + c);
        // SAFETY: the contract of this function.
        let bias = unsafe { if e.bias.is_null() { s.splat(0.0) } else { load(s, e.bias.add(c), n) } };
        let mut temp = [[s.splat(0.0); N]; M];
        for j in 0..N {
            let mut column = [s.splat(0.0); N];
            for i in 0..N {
                // SAFETY: the contract of this function.
                column[i] = unsafe { load(s, products.add((i * N + j) * self.value), n) };
            }
            let column = F::output(s, column);
            for q in 0..M {
                temp[q][j] = column[q];
            }
        }
        for q in 0..M {
            if q == rows {
                break;
            }
            let row = F::output(s, temp[q]);
            for k in 0..M {
                if k < cols {
                    let at = at + q * row_step + k * col_step;
                    let mut y = s.add(row[k], bias);
                    // SAFETY: the contract of this function.
                    unsafe {
                        if !e.residual.is_null() {
                            y = s.add(y, load(s, e.residual.add(at), n));
                        }
                        store(s, self.y.add(at), clamp(s, y, (e.low, e.high)), n);
                    }
                }
            }
        }
    }
}

impl<F: Points<M, N>, const M: usize, const N: usize> Kernel for Gather<'_, F, M, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Grid { h, w, c, tiles: [down, across], .. } = *self.grid;
        let row_at = |line: usize| line / down * h + line % down * M;
        let first = row_at(self.lines.start);
        let whole = c - c % S::LANES;
        for (index, line) in self.lines.clone().enumerate() {
            let rows = M.min(h - line % down * M);
            for tx in 0..across {
                let cols = M.min(w - tx * M);
                let at = ((row_at(line) - first) * w + tx * M) * c;
                let products = self.products.wrapping_add((index * across + tx) * self.tile);
                // SAFETY: the channels exist, the tile is cut to the image, and the caller made room for it.
                unsafe {
                    for c in (0..whole).step_by(S::LANES) {
                        self.tile_vector(s, (at, c), products, [rows, cols], S::LANES);
                    }
                    if whole < c {
                        self.tile_vector(s, (at, whole), products, [rows, cols], c - whole);
                    }
                }
            }
        }
    }
}

/// `u = G g G^T` for all filters of one panel of columns, `[N * N][depth][panel_width]`.
pub(super) struct Filters<'a, F, const M: usize, const N: usize> {
    pub(super) panel: &'a mut [f32],
    pub(super) w: &'a [f32],
    pub(super) depth: usize,
    /// First column of the panel and number of columns that exist.
    pub(super) first: usize,
    pub(super) cols: usize,
    /// Distance between taps, rows of the reduction and columns in `w`.
    pub(super) tap_step: usize,
    pub(super) row_step: usize,
    pub(super) col_step: usize,
    /// Whether taps are read from the last to the first.
    pub(super) mirrored: bool,
    pub(super) points: PhantomData<F>,
}

impl<F: Points<M, N>, const M: usize, const N: usize> Filters<'_, F, M, N> {
    /// `n` columns from `start` on, zeros in the other lanes.
    #[inline(always)]
    fn columns<S: Simd>(&self, s: S, start: usize, n: usize) -> S::V {
        if n == 0 {
            return s.splat(0.0);
        }
        let source = &self.w[start..=start + (n - 1) * self.col_step];
        if self.col_step == 1 {
            // SAFETY: `source` has `n` floats.
            return unsafe { load(s, source.as_ptr(), n) };
        }
        let mut lanes = [0.0f32; MAX_LANES];
        for (lane, &value) in lanes.iter_mut().zip(source.iter().step_by(self.col_step)) {
            *lane = value;
        }
        // SAFETY: `lanes` holds the floats of any vector.
        unsafe { s.load(lanes.as_ptr()) }
    }
}

impl<F: Points<M, N>, const M: usize, const N: usize> Kernel for Filters<'_, F, M, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = panel_width(self.cols, S::NR);
        let value = self.depth * width;
        assert_eq!(self.panel.len(), N * N * value, "a panel holds every value of its filters");
        for row in 0..self.depth {
            for begin in (0..width).step_by(S::LANES) {
                let n = self.cols.saturating_sub(begin).min(S::LANES);
                let at = row * self.row_step + (self.first + begin) * self.col_step;
                let mut taps = [[s.splat(0.0); 3]; 3];
                for tap in 0..9 {
                    let from = if self.mirrored { 8 - tap } else { tap };
                    let start = from * self.tap_step + at;
                    taps[tap % 3][tap / 3] = self.columns(s, start, n);
                }
                // Columns first: `taps[j]` is column j.
                let mut columns = [[s.splat(0.0); N]; 3];
                for j in 0..3 {
                    columns[j] = F::filter(s, taps[j]);
                }
                for q in 0..N {
                    let values = F::filter(s, [columns[0][q], columns[1][q], columns[2][q]]);
                    for k in 0..N {
                        let to = (q * N + k) * value + row * width + begin;
                        // SAFETY: the panel was found long enough above.
                        unsafe { s.store(self.panel.as_mut_ptr().add(to), values[k]) }
                    }
                }
            }
        }
    }
}

/// `dw = G^T du G` for the filters `first..first + len` of `[depth * cols]`, `du` being `[N * N][depth * cols]`.
pub(super) struct FilterGradient<'a, F, const M: usize, const N: usize> {
    /// A part of each tap.
    pub(super) dw: [&'a mut [f32]; 9],
    pub(super) du: &'a [f32],
    pub(super) first: usize,
    /// Whether `dw` is added to.
    pub(super) added: bool,
    pub(super) points: PhantomData<F>,
}

impl<F: Points<M, N>, const M: usize, const N: usize> Kernel for FilterGradient<'_, F, M, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let len = self.dw[0].len();
        assert!(self.dw.iter().all(|dw| dw.len() == len), "a part of each tap, all of one length");
        let value = self.du.len() / (N * N);
        assert!(
            self.du.len() == N * N * value && self.first + len <= value,
            "du holds all values of the filters"
        );
        let (du, dw) = (self.du.as_ptr(), self.dw.map(<[f32]>::as_mut_ptr));
        let mut at = 0;
        while at < len {
            let n = S::LANES.min(len - at);
            let mut columns = [[s.splat(0.0); N]; 3];
            for j in 0..N {
                let mut column = [s.splat(0.0); N];
                for i in 0..N {
                    // SAFETY: `first + at + n <= value`, and `du` holds `N * N` times as many floats.
                    column[i] = unsafe { load(s, du.add((i * N + j) * value + self.first + at), n) };
                }
                let column = F::collect(s, column);
                for kh in 0..3 {
                    columns[kh][j] = column[kh];
                }
            }
            for kh in 0..3 {
                let taps = F::collect(s, columns[kh]);
                for kw in 0..3 {
                    // SAFETY: `at + n <= len`, the length of each part, all of which are borrowed mutably.
                    unsafe {
                        let dw = dw[3 * kh + kw].add(at);
                        let sum = if self.added { s.add(load(s, dw, n), taps[kw]) } else { taps[kw] };
                        store(s, dw, sum, n);
                    }
                }
            }
            at += n;
        }
    }
}
