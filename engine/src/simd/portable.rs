//! Plain Rust vectors: what runs where nothing better is known, and compiles everywhere.

use super::Simd;
use crate::bf16::Bf16;

/// The token of plain Rust.
#[derive(Clone, Copy)]
pub struct Portable;

/// Four lanes: the width of the 128-bit registers of baseline x86-64 and aarch64.
type V = [f32; 4];

#[inline(always)]
fn zip(a: V, b: V, f: impl Fn(f32, f32) -> f32) -> V {
    [f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])]
}

#[inline(always)]
fn map(a: V, f: impl Fn(f32) -> f32) -> V {
    [f(a[0]), f(a[1]), f(a[2]), f(a[3])]
}

impl Simd for Portable {
    type V = V;
    const LANES: usize = 4;
    // 4 x 2 accumulators, 2 weights and a broadcast stay within 16 registers of 4 lanes.
    const MR: usize = 4;
    const NV: usize = 2;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> V {
        // SAFETY: the caller vouches for four readable floats; no alignment is assumed.
        unsafe { p.cast::<V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: V) {
        // SAFETY: the caller vouches for four writable floats; no alignment is assumed.
        unsafe { p.cast::<V>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_tail(self, p: *const f32, n: usize) -> V {
        let mut v = [0.0; 4];
        for (lane, value) in v.iter_mut().enumerate().take(n) {
            // SAFETY: `lane < n`, and the caller vouches for `n` readable floats.
            *value = unsafe { p.add(lane).read() };
        }
        v
    }
    #[inline(always)]
    unsafe fn store_tail(self, p: *mut f32, v: V, n: usize) {
        for (lane, value) in v.iter().enumerate().take(n) {
            // SAFETY: `lane < n`, and the caller vouches for `n` writable floats.
            unsafe { p.add(lane).write(*value) }
        }
    }
    #[inline(always)]
    unsafe fn load_u8(self, p: *const u8, n: usize) -> V {
        let mut v = [0.0; 4];
        for (lane, value) in v.iter_mut().enumerate().take(n) {
            // SAFETY: `lane < n`, and the caller vouches for `n` readable bytes.
            *value = f32::from(unsafe { p.add(lane).read() });
        }
        v
    }
    #[inline(always)]
    unsafe fn store_u8(self, p: *mut u8, v: V, n: usize) {
        let v = self.round(map(v, |a| a.clamp(0.0, 255.0)));
        for (lane, value) in v.iter().enumerate().take(n) {
            // SAFETY: `lane < n`, and the caller vouches for `n` writable bytes.
            unsafe { p.add(lane).write(*value as u8) }
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const Bf16, n: usize) -> V {
        let mut v = [0.0; 4];
        for (lane, value) in v.iter_mut().enumerate().take(n) {
            // SAFETY: `lane < n`, and the caller vouches for `n` readable numbers.
            *value = unsafe { p.add(lane).read() }.into();
        }
        v
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut Bf16, v: V, n: usize) {
        for (lane, &value) in v.iter().enumerate().take(n) {
            // SAFETY: `lane < n`, and the caller vouches for `n` writable numbers.
            unsafe { p.add(lane).write(value.into()) }
        }
    }
    #[inline(always)]
    unsafe fn load_bf16_pairs(self, p: *const Bf16) -> [V; 2] {
        // SAFETY: the caller vouches for eight readable numbers.
        let pairs = unsafe { p.cast::<[[Bf16; 2]; 4]>().read() };
        [0, 1].map(|i| [pairs[0][i].into(), pairs[1][i].into(), pairs[2][i].into(), pairs[3][i].into()])
    }
    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn mul_add(self, a: V, b: V, c: V) -> V {
        // Not `f32::mul_add`: without the instruction that is a library call per lane.
        self.add(self.mul(a, b), c)
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn sqrt(self, a: V) -> V {
        map(a, f32::sqrt)
    }
    #[inline(always)]
    fn select_gt(self, a: V, b: V, x: V, y: V) -> V {
        let pick = |i: usize| if a[i] > b[i] { x[i] } else { y[i] };
        [pick(0), pick(1), pick(2), pick(3)]
    }
    #[inline(always)]
    fn round(self, a: V) -> V {
        // Adding 1.5 * 2^23 pushes the fraction out of the significand, halves to even.
        const SHIFT: f32 = 12_582_912.0;
        map(a, |a| (a + SHIFT) - SHIFT)
    }
    #[inline(always)]
    fn exp2_int(self, a: V) -> V {
        map(a, |a| f32::from_bits(((a as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    fn flush(self, a: V) -> V {
        map(a, |a| if a.abs() < f32::MIN_POSITIVE { 0.0 } else { a })
    }
    #[inline(always)]
    fn any_nan(self, a: V) -> bool {
        // Not short-circuited, so that it is one comparison of vectors.
        a[0].is_nan() | a[1].is_nan() | a[2].is_nan() | a[3].is_nan()
    }
    #[inline(always)]
    fn reduce_add(self, a: V) -> f32 {
        (a[0] + a[2]) + (a[1] + a[3])
    }
}
