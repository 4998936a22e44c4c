//! Sums of outer products: the gradients of weights.

use super::floats::Floats;
use super::halves::{Halves, Pairs};
use super::reals::{RealUnit, Reals, load_cols, store_cols};
use super::tiles::row_of;
use super::{Arithmetic, by_rows, is_wide, unrolled};
use crate::bf16::Bf16;
use crate::kernels::lanes::Number;
use crate::kernels::pack::{Source, copy_columns, pack_panel, pack_panels};
use crate::simd::{
    Bf16Isa, Isa, Kernel, PairKernel, PairProduct, Simd, TILE_BYTES, TILE_SIDE, TileNumbers, TileProducts,
    TileSums, TileUnit, dispatch, dispatch_pairs,
};

/// Arguments of [`OuterProducts::outer`].
///
/// Both operands hold images in groups of [`Arithmetic::GROUP`], whose numbers lie side by side: in f32 an image is a group.
pub(crate) struct Outer<N: Arithmetic> {
    /// The input at the first pixel and first row of the tile.
    pub(crate) x: *const N::X,
    /// The panel of the output's gradient, a line for each row of pixels of a group.
    pub(crate) dy: *const N::W,
    /// Groups of images, pixel rows of an image, pixels of a row.
    pub(crate) count: [usize; 3],
    /// Numbers between neighbouring groups, pixel rows and pixels of `x`.
    pub(crate) x_step: [usize; 3],
    /// The same of `dy`.
    pub(crate) dy_step: [usize; 3],
    /// The weight gradients at the tile's first row and column, added to.
    pub(crate) dw: *mut f32,
    /// Floats between rows of `dw`.
    pub(crate) dw_step: usize,
    /// Columns of the tile, at most `NR`.
    pub(crate) cols: usize,
}

/// Arithmetic of layers that learn: products with weights, which are packed from f32, and sums of outer products.
pub(crate) trait OuterProducts: Reals {
    /// Packs the panels of a matrix from `first` on that `panels` has room for.
    ///
    /// # Panics
    /// When a panel does not have its length or the source leaves its weights.
    fn pack_panels(self, panels: &mut [Self::X], first: usize, source: &Source);

    /// Pixels from which on tiles are rather summed over more of them: what a tile costs besides is less than 2 % then.
    fn chain_pixels(self) -> usize {
        256
    }

    /// Numbers behind the last one that `x` is read for.
    fn excess(self, _x_step: usize) -> usize {
        0
    }

    /// Numbers of a panel that a row of `pixels` of a group of images takes.
    fn line_len(self, pixels: usize) -> usize {
        pixels * self.tile_width() * Self::GROUP
    }
    /// Fills the panel of a row of pixels: columns `columns` (first and how many) of the `step` numbers of each pixel of each
    /// image of a group; an image that is not there is empty.
    fn fill_line(self, panel: &mut [Self::X], images: &[&[Self::X]], step: usize, columns: (usize, usize));

    /// Puts the numbers of the images of a group side by side, zeros for an image that is not there: `out` is
    /// `[numbers][GROUP]`.
    fn interleave(self, out: &mut [Self::X], images: &[&[Self::X]]);

    /// Adds the outer products of many pixels to a tile of weight gradients; see the top of `micro`.
    ///
    /// # Safety
    /// `1 <= rows <= tile_rows` and `1 <= cols <= tile_width`. At every pixel `x` is readable for `rows` groups, and for
    /// [`OuterProducts::excess`] behind the last; the panel holds all lines; `dw` is writable for `cols` floats at each row
    /// and overlaps neither.
    unsafe fn outer(self, rows: usize, args: &Outer<Self>);
}

impl OuterProducts for Isa {
    fn pack_panels(self, panels: &mut [f32], first: usize, source: &Source) {
        pack_panels(self, panels, first, source);
    }

    fn fill_line(self, panel: &mut [f32], images: &[&[f32]], step: usize, (column, cols): (usize, usize)) {
        for (out, pixel) in panel.chunks_exact_mut(self.nr()).zip(images[0].chunks(step)) {
            copy_columns(&mut out[..cols], &pixel[column..column + cols]);
        }
    }

    fn interleave(self, out: &mut [f32], images: &[&[f32]]) {
        out.copy_from_slice(images[0]);
    }

    unsafe fn outer(self, rows: usize, args: &Outer<Self>) {
        let wide = is_wide(self, args.cols);
        by_rows!(rows, wide, (R, V) => dispatch(self, OuterTile::<_, R, V>(args)));
    }
}

impl<Y: Number> OuterProducts for Halves<Y> {
    fn pack_panels(self, panels: &mut [Bf16], first: usize, source: &Source) {
        let (nr, step) = (self.tile_width(), (source.depth() * self.tile_width()).max(1));
        let panels = panels.chunks_mut(step).enumerate();
        panels.for_each(|(index, panel)| pack_panel(panel, first + index, nr, source));
    }

    fn chain_pixels(self) -> usize {
        // Tiles are added to the weights one by one.
        if self.isa.tiles().is_some() { 1024 } else { 256 }
    }

    fn excess(self, x_step: usize) -> usize {
        // Whole tiles of pixels and of channels.
        if self.isa.tiles().is_some() { 16 * x_step + 32 * Self::GROUP } else { 0 }
    }

    fn line_len(self, pixels: usize) -> usize {
        if self.isa.tiles().is_some() { line_len(pixels) } else { pixels * self.tile_width() * Self::GROUP }
    }

    fn fill_line(self, panel: &mut [Bf16], images: &[&[Bf16]], step: usize, (column, cols): (usize, usize)) {
        let [first, second] = [images[0], images.get(1).copied().unwrap_or_default()];
        if self.isa.tiles().is_some() {
            return fill_line(panel, [first, second], step, (column, cols));
        }
        let lines = panel.chunks_exact_mut(self.tile_width() * Self::GROUP);
        let mut second = second.chunks(step);
        for (out, pixel) in lines.zip(first.chunks(step)) {
            let (pairs, _) = out.as_chunks_mut::<2>();
            let first = &pixel[column..column + cols];
            match second.next() {
                Some(pixel) => {
                    let numbers = first.iter().zip(&pixel[column..column + cols]);
                    pairs.iter_mut().zip(numbers).for_each(|(pair, (&a, &b))| *pair = [a, b]);
                }
                None => pairs.iter_mut().zip(first).for_each(|(pair, &a)| *pair = [a, Bf16::ZERO]),
            }
        }
    }

    fn interleave(self, out: &mut [Bf16], images: &[&[Bf16]]) {
        let (pairs, _) = out.as_chunks_mut::<2>();
        let [first, second] = [images[0], images.get(1).copied().unwrap_or_default()];
        if second.is_empty() {
            pairs.iter_mut().zip(first).for_each(|(pair, &a)| *pair = [a, Bf16::ZERO]);
        } else {
            pairs.iter_mut().zip(first.iter().zip(second)).for_each(|(pair, (&a, &b))| *pair = [a, b]);
        }
    }

    unsafe fn outer(self, rows: usize, args: &Outer<Self>) {
        if let Some(unit) = self.isa.tiles() {
            // SAFETY: the contract of this function.
            return unsafe { outer_tiles((unit, self.isa), rows, args) };
        }
        let wide = is_wide(self, args.cols);
        by_rows!(rows, wide, (R, V) => dispatch_pairs(self.isa, OuterTile::<_, R, V>(args)));
    }
}

struct OuterTile<'a, N: Arithmetic, const R: usize, const V: usize>(&'a Outer<N>);

impl<const R: usize, const V: usize> Kernel for OuterTile<'_, Isa, R, V> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: the contract of `OuterProducts::outer`.
        unsafe { sweep::<_, R, V>(Floats(s), self.0) }
    }
}

impl<Y: Number, const R: usize, const V: usize> PairKernel for OuterTile<'_, Halves<Y>, R, V> {
    type Output = ();

    #[inline(always)]
    fn run<P: PairProduct>(self, p: P) {
        // SAFETY: the contract of `OuterProducts::outer`.
        unsafe { sweep::<_, R, V>(Pairs::<P, Y>::new(p), self.0) }
    }
}

/// The loop over pixels. Panels have whole vectors, so that no load needs a mask: what columns that do not exist hold is not
/// stored.
///
/// # Safety
/// As [`OuterProducts::outer`].
#[inline(always)]
unsafe fn sweep<U: RealUnit, const R: usize, const V: usize>(unit: U, o: &Outer<U::Arithmetic>) {
    if const { R * V > U::SUMS } {
        unreachable!("a tile fits the registers");
    }
    let group = const { <U::Arithmetic as Arithmetic>::GROUP };
    let s = unit.floats();
    let mut acc = [[s.splat(0.0); V]; R];
    // SAFETY: the contract of this function.
    unsafe {
        for image in 0..o.count[0] {
            for line in 0..o.count[1] {
                let mut x = o.x.add(image * o.x_step[0] + line * o.x_step[1]);
                let mut dy = o.dy.add(image * o.dy_step[0] + line * o.dy_step[1]);
                for _ in 0..o.count[2] {
                    let mut b = [unit.weights(dy); V];
                    for v in 1..V {
                        b[v] = unit.weights(dy.add(v * U::LANES * group));
                    }
                    unrolled!(r < R {
                        let a = unit.spread(x.add(r * group));
                        for v in 0..V {
                            acc[r][v] = unit.multiply_add(a, b[v], acc[r][v]);
                        }
                    });
                    // The last step may leave the image: wrapping, as it is not followed by a load.
                    x = x.wrapping_add(o.x_step[2]);
                    dy = dy.wrapping_add(o.dy_step[2]);
                }
            }
        }
        unrolled!(r < R {
            for v in 0..V {
                let dw = o.dw.add(r * o.dw_step);
                let sum = s.add(load_cols(s, dw, v, o.cols), acc[r][v]);
                store_cols(s, dw, v, o.cols, sum);
            }
        });
    }
}

/// Pixels whose sums one call of the unit adds: offsets on the stack.
const MAX_LINES: usize = 256;

/// Adds outer products of bf16, as [`OuterProducts::outer`]: columns are the rows of A, which
/// [`fill_line`] has transposed, rows are the columns of B, which is the input itself with its groups of two images.
///
/// # Safety
/// As [`OuterProducts::outer`].
unsafe fn outer_tiles<Y: Number>((unit, isa): (TileUnit, Bf16Isa), rows: usize, args: &Outer<Halves<Y>>) {
    let [images, lines, pixels] = args.count;
    let blocks = pixels.div_ceil(TILE_SIDE);
    let mut offsets = [0; MAX_LINES];
    let all = (0..images).flat_map(|image| (0..lines).map(move |line| [image, line]));
    let mut all = all.peekable();
    while let Some(&[image, line]) = all.peek() {
        let mut count = 0;
        for (offset, [image, line]) in offsets.iter_mut().zip(all.by_ref()) {
            *offset = image * args.x_step[0] + line * args.x_step[1];
            count += 1;
        }
        let x_step = args.x_step[2] * size_of::<Bf16>();
        let block = 2 * TILE_SIDE * TILE_BYTES;
        let products = TileProducts {
            numbers: TileNumbers::Bf16,
            base: args.x.cast(),
            offsets: &offsets[..count],
            steps: blocks,
            table_is_a: false,
            other: args.dy.cast::<u8>().wrapping_add((image * lines + line) * blocks * block),
            a_stride: TILE_BYTES,
            b_stride: x_step,
            a_step: block,
            b_step: TILE_SIDE * x_step,
            rows: args.cols,
            depth: TILE_BYTES,
            b_tiles: rows.div_ceil(TILE_SIDE),
        };
        let mut sums = TileSums([0; _]);
        // SAFETY: the contract of this function: the input is readable for whole tiles, the panel has whole blocks.
        unsafe { unit.multiply(&products, &mut sums) }
        dispatch_pairs(isa, AddTransposed { sums: &sums, rows, args });
    }
}

struct AddTransposed<'a, Y: Number> {
    sums: &'a TileSums,
    rows: usize,
    args: &'a Outer<Halves<Y>>,
}

impl<Y: Number> PairKernel for AddTransposed<'_, Y> {
    type Output = ();

    #[inline(always)]
    fn run<P: PairProduct>(self, p: P) {
        let (s, o) = (p.floats(), self.args);
        for row in 0..self.rows {
            let mut line = [0.0; 2 * TILE_SIDE];
            for (column, to) in line.iter_mut().enumerate().take(o.cols) {
                // SAFETY: the sums have a row for every column.
                *to = f32::from_bits(unsafe { *row_of(self.sums, column, row) });
            }
            for v in 0..o.cols.div_ceil(P::LANES) {
                // SAFETY: the contract of `OuterProducts::outer`; the line has whole vectors.
                unsafe {
                    let dw = o.dw.add(row * o.dw_step);
                    let sum = s.add(load_cols(s, dw, v, o.cols), s.load(line.as_ptr().add(v * P::LANES)));
                    store_cols(s, dw, v, o.cols, sum);
                }
            }
        }
    }
}

/// Numbers of a panel that a line of `pixels` of two images takes.
fn line_len(pixels: usize) -> usize {
    pixels.div_ceil(TILE_SIDE) * 2 * TILE_SIDE * TILE_BYTES / size_of::<Bf16>()
}

/// Fills the panel of a line: `[block of 16 pixels][32 columns][pixel][image]`, zeros where there is no pixel.
fn fill_line(panel: &mut [Bf16], images: [&[Bf16]; 2], step: usize, (column, cols): (usize, usize)) {
    let row = TILE_BYTES / size_of::<Bf16>();
    panel.fill(Bf16::ZERO);
    for (i, image) in images.into_iter().enumerate() {
        for (pixel, numbers) in image.chunks(step).enumerate() {
            let block = pixel / TILE_SIDE * 2 * TILE_SIDE * row;
            let to = panel[block..].iter_mut().skip(2 * (pixel % TILE_SIDE) + i).step_by(row);
            to.zip(&numbers[column..column + cols]).for_each(|(to, &number)| *to = number);
        }
    }
}
