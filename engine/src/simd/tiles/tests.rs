//! Products of tiles against their definition: sums over steps, groups and numbers, at any layout in memory.

use super::*;
use crate::rng::Rng;
use crate::simd::{Isa, TileUnit};

/// What is between and behind rows, and must not be read: a NaN in bf16, 255 and -1 in bytes.
const NEVER: u8 = 0xFF;

/// Where two operands lie.
#[derive(Clone, Debug)]
struct Layout {
    numbers: TileNumbers,
    offsets: Vec<usize>,
    steps: usize,
    table_is_a: bool,
    rows: usize,
    depth: usize,
    b_tiles: usize,
    /// Bytes behind each row of A and of B.
    gap: usize,
}

impl Layout {
    fn draw(rng: &mut Rng) -> Self {
        let mut below = |n: usize| (rng.next_u64() >> 33) as usize % n;
        let numbers = [TileNumbers::Bf16, TileNumbers::Bytes][below(2)];
        Layout {
            numbers,
            // In any order, some of them twice.
            offsets: (0..1 + below(4)).map(|_| below(9)).collect(),
            steps: 1 + below(3),
            table_is_a: below(2) == 0,
            rows: 1 + below(2 * TILE_SIDE),
            depth: 4 * (1 + below(TILE_BYTES / 4)),
            b_tiles: 1 + below(2),
            gap: numbers.bytes() * below(5),
        }
    }

    fn groups(&self) -> usize {
        self.depth / 4
    }

    fn a_stride(&self) -> usize {
        self.depth + self.gap
    }

    fn b_stride(&self) -> usize {
        self.b_tiles * TILE_BYTES + self.gap
    }

    fn a_step(&self) -> usize {
        self.rows * self.a_stride()
    }

    fn b_step(&self) -> usize {
        self.groups() * self.b_stride()
    }

    /// Bytes from the beginning of A and of B to where step `step` at offset number `at` reads.
    fn begins(&self, at: usize, step: usize) -> [usize; 2] {
        let done = at * self.steps + step;
        let offset = self.offsets[at] * self.numbers.bytes();
        if self.table_is_a {
            [offset + step * self.a_step(), done * self.b_step()]
        } else {
            [done * self.a_step(), offset + step * self.b_step()]
        }
    }

    /// Calls `f` with the place in A of every byte that a product reads, or with that in B.
    fn for_each_byte(&self, mut f: impl FnMut(bool, usize)) {
        for (at, step) in (0..self.offsets.len()).flat_map(|at| (0..self.steps).map(move |step| (at, step))) {
            let [a, b] = self.begins(at, step);
            (0..self.rows)
                .for_each(|row| (0..self.depth).for_each(|i| f(true, a + row * self.a_stride() + i)));
            let width = self.b_tiles * TILE_BYTES;
            (0..self.groups()).for_each(|k| (0..width).for_each(|i| f(false, b + k * self.b_stride() + i)));
        }
    }

    /// Both operands: small whole numbers where a product reads, [`NEVER`] elsewhere. Each ends with the last byte that is
    /// read.
    fn operands(&self, rng: &mut Rng) -> [Vec<u8>; 2] {
        let mut read = [Vec::new(), Vec::new()];
        self.for_each_byte(|is_a, at| {
            let read = &mut read[usize::from(!is_a)];
            read.resize(read.len().max(at + 1), false);
            read[at] = true;
        });
        read.map(|read| {
            let mut bytes = vec![NEVER; read.len()];
            let width = self.numbers.bytes();
            for (bytes, read) in bytes.chunks_exact_mut(width).zip(read.chunks_exact(width)) {
                let number = ((rng.next_u64() >> 33) % 17) as i32 - 8;
                match self.numbers {
                    _ if !read[0] => {}
                    TileNumbers::Bytes => bytes[0] = number as i8 as u8,
                    TileNumbers::Bf16 => {
                        bytes.copy_from_slice(&Bf16::from(number as f32).to_bits().to_le_bytes())
                    }
                }
            }
            bytes
        })
    }

    /// The sums by their definition; what takes no part is `untouched`.
    fn expected(&self, [a, b]: [&[u8]; 2], untouched: u32) -> Vec<u32> {
        let mut sums = vec![untouched; TILE_SUMS];
        let half = |bytes: &[u8], at: usize| {
            f64::from(f32::from(Bf16::from_bits(u16::from_le_bytes([bytes[at], bytes[at + 1]]))))
        };
        for (row, column) in (0..self.rows).flat_map(|r| (0..self.b_tiles * TILE_SIDE).map(move |c| (r, c))) {
            let mut sum = 0.0;
            for (at, step) in
                (0..self.offsets.len()).flat_map(|at| (0..self.steps).map(move |step| (at, step)))
            {
                let [from_a, from_b] = self.begins(at, step);
                for i in (0..self.depth).step_by(self.numbers.bytes()) {
                    let at_a = from_a + row * self.a_stride() + i;
                    let at_b = from_b + i / 4 * self.b_stride() + 4 * column + i % 4;
                    sum += match self.numbers {
                        TileNumbers::Bytes => f64::from(a[at_a]) * f64::from(b[at_b] as i8),
                        TileNumbers::Bf16 => half(a, at_a) * half(b, at_b),
                    };
                }
            }
            let tile = 2 * (row / TILE_SIDE) + column / TILE_SIDE;
            let at = tile * TILE_SIDE * TILE_SIDE + row % TILE_SIDE * TILE_SIDE + column % TILE_SIDE;
            sums[at] = match self.numbers {
                TileNumbers::Bytes => sum as i32 as u32,
                // A sum that is zero has no sign to compare.
                TileNumbers::Bf16 => (sum as f32 + 0.0).to_bits(),
            };
        }
        sums
    }

    /// Both operands multiplied by `unit`.
    fn multiply(&self, unit: TileUnit, [a, b]: [&[u8]; 2], untouched: u32) -> Vec<u32> {
        let [base, other] = if self.table_is_a { [a, b] } else { [b, a] };
        let products = TileProducts {
            numbers: self.numbers,
            base: base.as_ptr(),
            offsets: &self.offsets,
            steps: self.steps,
            table_is_a: self.table_is_a,
            other: other.as_ptr(),
            a_stride: self.a_stride(),
            b_stride: self.b_stride(),
            a_step: self.a_step(),
            b_step: self.b_step(),
            rows: self.rows,
            depth: self.depth,
            b_tiles: self.b_tiles,
        };
        let mut sums = TileSums([untouched; TILE_SUMS]);
        // SAFETY: `operands` made every byte that these products read.
        unsafe { unit.multiply(&products, &mut sums) }
        sums.0.to_vec()
    }
}

/// Plain Rust, and the unit of this processor if there is one.
fn units() -> Vec<TileUnit> {
    TileUnit::all(Isa::available()[0])
}

/// Whole numbers of up to 8 (bytes of A: of up to 255), of which all sums are exact in any order.
#[test]
fn any_layout_gives_the_sums_of_the_definition() {
    let mut rng = Rng::new(1, 7);
    let mut seen = std::collections::BTreeSet::new();
    let untouched = 0xABCD_EF01;
    for _ in 0..400 {
        let layout = Layout::draw(&mut rng);
        let [a, b] = layout.operands(&mut rng);
        let expected = layout.expected([&a, &b], untouched);
        for unit in units() {
            assert_eq!(layout.multiply(unit, [&a, &b], untouched), expected, "{unit:?} {layout:?}");
        }
        let halves = layout.numbers == TileNumbers::Bf16;
        seen.insert((halves, layout.table_is_a, layout.rows > TILE_SIDE, layout.b_tiles));
    }
    assert_eq!(seen.len(), 16, "both kinds of numbers, either table, one to four tiles");
}

/// Whatever lies between the rows and behind the last of them changes no sum.
#[test]
fn what_lies_between_and_behind_rows_is_not_read() {
    let mut rng = Rng::new(2, 7);
    for _ in 0..100 {
        let layout = Layout::draw(&mut rng);
        let operands = layout.operands(&mut rng);
        let [mut a, mut b] = operands.clone().map(|operand| [operand, vec![NEVER; 4096]].concat());
        for unit in units() {
            let found = layout.multiply(unit, [&a, &b], 0);
            let mut read = [vec![false; a.len()], vec![false; b.len()]];
            layout.for_each_byte(|is_a, at| read[usize::from(!is_a)][at] = true);
            for (operand, read) in [&mut a, &mut b].into_iter().zip(&read) {
                operand.iter_mut().zip(read).filter(|(_, read)| !**read).for_each(|(byte, _)| *byte ^= 0xFF);
            }
            assert_eq!(layout.multiply(unit, [&a, &b], 0), found, "{unit:?} {layout:?}");
            #[cfg(all(target_os = "linux", not(miri)))]
            {
                let [a, b] = operands.each_ref().map(|operand| edge::Edge::of(operand));
                assert_eq!(layout.multiply(unit, [a.bytes(), b.bytes()], 0), found, "{unit:?} {layout:?}");
            }
        }
    }
}

/// Numbers of which sums round: in plain Rust as by the unit, bit by bit.
#[test]
fn units_round_alike() {
    let mut rng = Rng::new(3, 7);
    for _ in 0..100 {
        let layout = Layout { numbers: TileNumbers::Bf16, gap: 0, ..Layout::draw(&mut rng) };
        let operands = layout.operands(&mut rng).map(|operand| {
            let numbers = operand.chunks_exact(2).map(|_| Bf16::from(rng.normal()).to_bits().to_le_bytes());
            numbers.flatten().collect::<Vec<u8>>()
        });
        let found = units().into_iter().map(|unit| layout.multiply(unit, [&operands[0], &operands[1]], 0));
        let found: Vec<_> = found.collect();
        assert!(found.iter().all(|sums| *sums == found[0]), "{layout:?}");
    }
}

/// One sum, by hand: first and second numbers of groups are summed apart, subnormal numbers and sums are zeros.
#[test]
fn subnormal_numbers_are_zeros() {
    let bytes =
        |x: &[f32]| x.iter().flat_map(|&x| Bf16::from(x).to_bits().to_le_bytes()).collect::<Vec<u8>>();
    let multiply = |x: &[f32], y: &[f32]| {
        let a = bytes(x);
        // The first column of B is `y`, the others are zeros.
        let b: Vec<u8> = y.chunks(2).flat_map(|two| [bytes(two), vec![0; TILE_BYTES - 4]].concat()).collect();
        let layout = Layout {
            numbers: TileNumbers::Bf16,
            offsets: vec![0],
            steps: 1,
            table_is_a: true,
            rows: 1,
            depth: a.len(),
            b_tiles: 1,
            gap: 0,
        };
        let found = units().into_iter().map(|unit| f32::from_bits(layout.multiply(unit, [&a, &b], 0)[0]));
        found.collect::<Vec<_>>()
    };
    let least = f32::MIN_POSITIVE;
    let cases: [(&[f32], &[f32], f32); 7] = [
        (&[2.0, 3.0], &[5.0, 7.0], 31.0),
        (&[least / 2.0, 1.0], &[1e30, 1.0], 1.0),
        (&[1.0, 1.0], &[least / 2.0, 0.0], 0.0),
        (&[least, 0.0], &[0.5, 0.0], 0.0),
        (&[least, 0.0], &[1.0, 0.0], least),
        // Two halves of a normal number, one after the other.
        (&[least, 0.0, least, 0.0], &[0.5, 0.0, 0.5, 0.0], 0.0),
        // First and second numbers that cancel to a subnormal one.
        (&[1.5 * least, least], &[1.0, -1.0], 0.0),
    ];
    for (x, y, expected) in cases {
        let found = multiply(x, y);
        assert!(found.iter().all(|&sum| sum == expected), "{x:?} {y:?}: {found:?}");
    }
}

#[test]
#[should_panic(expected = "a row is whole groups")]
fn half_a_group_is_refused() {
    let mut rng = Rng::new(4, 7);
    let layout = Layout { depth: 4, ..Layout::draw(&mut rng) };
    let [a, b] = layout.operands(&mut rng);
    Layout { depth: 6, ..layout }.multiply(TileUnit::Plain, [&a, &b], 0);
}

/// Memory that ends where the process may not read on. (Miri sees every read by itself, and knows no protected memory.)
#[cfg(all(target_os = "linux", not(miri)))]
mod edge {
    use std::ffi::{c_int, c_void};

    /// A multiple of every size of a page.
    const PAGES: usize = 1 << 16;

    unsafe extern "C" {
        fn mmap(
            at: *mut c_void,
            len: usize,
            access: c_int,
            flags: c_int,
            file: c_int,
            from: i64,
        ) -> *mut c_void;
        fn mprotect(at: *mut c_void, len: usize, access: c_int) -> c_int;
        fn munmap(at: *mut c_void, len: usize) -> c_int;
    }

    /// Bytes that end at the edge.
    pub(super) struct Edge {
        map: *mut u8,
        /// Bytes before the edge, of which `len` are used.
        size: usize,
        len: usize,
    }

    impl Edge {
        pub(super) fn of(bytes: &[u8]) -> Self {
            let (len, size) = (bytes.len(), bytes.len().next_multiple_of(PAGES));
            // SAFETY: a new private mapping (flags 0x22), readable and writable (3), of which the last pages are closed (0); bytes
            // are copied to the end of what is open.
            unsafe {
                let map = mmap(std::ptr::null_mut(), size + PAGES, 3, 0x22, -1, 0).cast::<u8>();
                assert_ne!(map as isize, -1, "there is memory");
                assert_eq!(mprotect(map.add(size).cast(), PAGES, 0), 0, "whole pages can be closed");
                map.add(size - len).copy_from_nonoverlapping(bytes.as_ptr(), len);
                Edge { map, size, len }
            }
        }

        pub(super) fn bytes(&self) -> &[u8] {
            // SAFETY: `of` filled them, and they live as long as the mapping.
            unsafe { std::slice::from_raw_parts(self.map.add(self.size - self.len), self.len) }
        }
    }

    impl Drop for Edge {
        fn drop(&mut self) {
            // SAFETY: the mapping that `of` made; nobody borrows from it any more.
            unsafe { munmap(self.map.cast(), self.size + PAGES) };
        }
    }
}
