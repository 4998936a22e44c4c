//! Products of two-dimensional tiles of a matrix: what they are, and how plain Rust computes them in the order of AMX.
//!
//! A tile is 16 rows of 64 bytes. One product adds to a tile of 16 x 16 sums the products of a tile of A, whose rows are 64
//! bytes of the reduction, with a tile of B, whose rows are groups of four bytes of the reduction for each of 16 columns
//! (Intel, "Architecture Instruction Set Extensions Programming Reference", chapter on AMX).

use crate::bf16::Bf16;

/// Rows of a tile, and sums in a row.
pub const TILE_SIDE: usize = 16;
/// Bytes of a row of a tile.
pub const TILE_BYTES: usize = 64;
/// Sums of four tiles.
pub const TILE_SUMS: usize = 4 * TILE_SIDE * TILE_SIDE;

/// The numbers of a tile's products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TileNumbers {
    /// bf16 x bf16 in f32.
    Bf16,
    /// u8 x s8 in i32.
    Bytes,
}

impl TileNumbers {
    /// Bytes of a number of either operand.
    fn bytes(self) -> usize {
        match self {
            TileNumbers::Bf16 => 2,
            TileNumbers::Bytes => 1,
        }
    }
}

/// Up to two tiles of A times up to two of B, summed over a reduction: 32 x 32 sums at most.
///
/// The reduction is cut into steps of `depth` bytes. One operand, the *table*, begins `offsets[i]` numbers behind `base` and is stepped
/// `steps` times before the next offset; the other lies in one piece and is stepped on all the way.
#[derive(Clone, Copy, Debug)]
pub struct TileProducts<'a> {
    /// The numbers.
    pub numbers: TileNumbers,
    /// Where the table begins, and what is added to that, in numbers.
    pub base: *const u8,
    /// See `base`; not empty.
    pub offsets: &'a [usize],
    /// Steps at each offset, at least one.
    pub steps: usize,
    /// Whether the table is A.
    pub table_is_a: bool,
    /// Where the other operand begins.
    pub other: *const u8,
    /// Bytes between the rows of A and of B, and from one step to the next.
    pub a_stride: usize,
    /// See `a_stride`.
    pub b_stride: usize,
    /// See `a_stride`.
    pub a_step: usize,
    /// See `a_stride`.
    pub b_step: usize,
    /// Rows of A, at most 32; those of its second tile follow those of the first.
    pub rows: usize,
    /// Bytes of the reduction in a step: a multiple of 4, at most 64. B has a row for each four of them.
    pub depth: usize,
    /// Tiles of B side by side, one or two, 64 bytes apart.
    pub b_tiles: usize,
}

/// 32-bit sums: tile `(a, b)` of A and B begins at `(2 * a + b) * 256` and has rows of 16.
#[repr(align(64))]
pub struct TileSums(pub [u32; TILE_SUMS]);

/// The products in plain Rust, tile by tile in the order of the unit.
///
/// # Safety
/// As [`TileUnit::multiply`](super::TileUnit::multiply).
pub(super) unsafe fn multiply_plain(products: &TileProducts, sums: &mut TileSums) {
    let p = products;
    let tile = TILE_SIDE * TILE_SIDE;
    for a in 0..p.rows.div_ceil(TILE_SIDE) {
        let rows = (p.rows - a * TILE_SIDE).min(TILE_SIDE);
        for b in 0..p.b_tiles {
            let sums = &mut sums.0[(2 * a + b) * tile..][..rows * TILE_SIDE];
            sums.fill(0);
            let mut done = 0;
            for &offset in p.offsets {
                for step in 0..p.steps {
                    let table = p.base.wrapping_add(offset * p.numbers.bytes());
                    let [from_a, from_b] = if p.table_is_a {
                        [table.wrapping_add(step * p.a_step), p.other.wrapping_add(done * p.b_step)]
                    } else {
                        [p.other.wrapping_add(done * p.a_step), table.wrapping_add(step * p.b_step)]
                    };
                    let from_a = from_a.wrapping_add(a * TILE_SIDE * p.a_stride);
                    let from_b = from_b.wrapping_add(b * TILE_BYTES);
                    let strides = [p.a_stride, p.b_stride];
                    // SAFETY: the contract of this function.
                    unsafe { add_products(p.numbers, sums, [from_a, from_b], strides, p.depth / 4) }
                    done += 1;
                }
            }
        }
    }
}

/// One instruction: adds the product of a tile of A and one of B with `groups` groups of the reduction.
///
/// # Safety
/// A is readable for `groups` groups in each row of the sums, B for 16 groups in each of `groups` rows.
unsafe fn add_products(
    numbers: TileNumbers,
    sums: &mut [u32],
    [a, b]: [*const u8; 2],
    [a_stride, b_stride]: [usize; 2],
    groups: usize,
) {
    // SAFETY: the contract of this function, for every row, group and column below.
    let group = |from: *const u8, offset: usize| unsafe { from.add(offset).cast::<[u8; 4]>().read() };
    for (row, sums) in sums.chunks_exact_mut(TILE_SIDE).enumerate() {
        for (column, sum) in sums.iter_mut().enumerate() {
            let pairs =
                (0..groups).map(|k| (group(a, row * a_stride + 4 * k), group(b, k * b_stride + 4 * column)));
            match numbers {
                TileNumbers::Bytes => {
                    let product = |(a, b): ([u8; 4], [u8; 4])| {
                        (0..4).map(|i| i32::from(a[i]) * i32::from(b[i] as i8)).sum::<i32>()
                    };
                    *sum = sum.wrapping_add(pairs.map(product).fold(0i32, i32::wrapping_add) as u32);
                }
                TileNumbers::Bf16 => {
                    // First and second numbers of groups are summed apart.
                    let mut two = [0.0; 2];
                    for (a, b) in pairs {
                        for (i, two) in two.iter_mut().enumerate() {
                            *two = flush(*two + number(a, i) * number(b, i));
                        }
                    }
                    let two = flush(two[0] + two[1]);
                    *sum = flush(flush(f32::from_bits(*sum)) + two).to_bits();
                }
            }
        }
    }
}

/// Number `i` of a group in bf16. Subnormal numbers are zeros.
fn number(group: [u8; 4], i: usize) -> f32 {
    flush(Bf16::from_bits(u16::from_le_bytes([group[2 * i], group[2 * i + 1]])).into())
}

/// The number, but zero for a subnormal one.
fn flush(x: f32) -> f32 {
    if x.is_subnormal() { 0f32.copysign(x) } else { x }
}

#[cfg(test)]
mod tests;
