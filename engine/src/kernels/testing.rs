//! What the tests of all kernels share: one test per instruction set, data, guarded buffers, derived
//! tolerances.

use crate::bf16::Bf16;
use crate::kernels::lanes::Number;
use crate::rng::Rng;
use crate::simd::Isa;

/// Turns `fn name(isa: Isa) { .. }` into the tests `name::avx512`, `name::avx2` and `name::portable`; on 64-bit ARM
/// `name::neon` and `name::portable`, in WebAssembly `name::simd128` and `name::portable`.
macro_rules! for_each_isa {
    ($($(#[$attribute:meta])* fn $name:ident($isa:ident: Isa) $body:block)+) => {
        $(mod $name {
            #[allow(unused_imports, reason = "a test may need nothing from around it")]
            use super::*;

            $(#[$attribute])*
            fn check($isa: $crate::simd::Isa) $body

            #[test]
            #[cfg(target_arch = "x86_64")]
            fn avx512() {
                $crate::kernels::testing::on_isa("avx512", check);
            }
            #[test]
            #[cfg(target_arch = "x86_64")]
            fn avx2() {
                $crate::kernels::testing::on_isa("avx2", check);
            }
            #[test]
            #[cfg(target_arch = "aarch64")]
            fn neon() {
                $crate::kernels::testing::on_isa("neon", check);
            }
            #[test]
            #[cfg(target_arch = "wasm32")]
            fn simd128() {
                $crate::kernels::testing::on_isa("simd128", check);
            }
            #[test]
            fn portable() {
                $crate::kernels::testing::on_isa("portable", check);
            }
        })+
    };
}
pub(crate) use for_each_isa;

/// Runs a test on one instruction set, or says why not.
///
/// `OCELLI_ISA` leaves only the named one; with `OCELLI_REQUIRE_ISA=1` that one must be there.
#[allow(clippy::print_stderr, reason = "a skipped test says so")]
pub(crate) fn on_isa(name: &str, check: impl Fn(Isa)) {
    let forced = std::env::var("OCELLI_ISA").ok();
    if forced.as_deref().is_some_and(|forced| forced != name) {
        eprintln!("SKIP {name}: OCELLI_ISA={}", forced.unwrap_or_default());
        return;
    }
    match Isa::by_name(name) {
        Ok(isa) => check(isa),
        Err(e) if forced.is_some() && std::env::var("OCELLI_REQUIRE_ISA").is_ok_and(|v| v == "1") => {
            panic!("{e}")
        }
        Err(_) => eprintln!("SKIP {name}: not on this processor"),
    }
}

/// Half of the distance from 1 to the next float: the largest relative error of one rounding.
pub(crate) const UNIT_ROUNDOFF: f64 = 1.0 / (1u64 << 24) as f64;

/// Sentinels on either side of a [`Guarded`]: odd, so that its floats lie on no vector's boundary, and wider
/// than any vector.
const GUARD: usize = 19;
/// A quiet NaN that no arithmetic makes: reads beyond an end poison results, writes change its bits.
const SENTINEL: u32 = 0x7FED_BEE5;

/// Floats between sentinels.
pub(crate) type Guarded = GuardedNumbers<f32>;

/// Numbers between sentinels, which are checked when it is dropped.
pub(crate) struct GuardedNumbers<E: Number> {
    all: Vec<E>,
}

impl<E: Number> GuardedNumbers<E> {
    /// `len` NaNs: an output that must be overwritten.
    pub(crate) fn nan(len: usize) -> Self {
        GuardedNumbers { all: vec![f32::from_bits(SENTINEL).into(); len + 2 * GUARD] }
    }

    /// A copy of `data`: an input that is read within its ends alone, or an output that is updated.
    pub(crate) fn of(data: &[E]) -> Self {
        let mut guarded = Self::nan(data.len());
        guarded.copy_from_slice(data);
        guarded
    }
}

impl<E: Number> std::ops::Deref for GuardedNumbers<E> {
    type Target = [E];

    fn deref(&self) -> &[E] {
        &self.all[GUARD..self.all.len() - GUARD]
    }
}

impl<E: Number> std::ops::DerefMut for GuardedNumbers<E> {
    fn deref_mut(&mut self) -> &mut [E] {
        let end = self.all.len() - GUARD;
        &mut self.all[GUARD..end]
    }
}

impl<E: Number> Drop for GuardedNumbers<E> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let bits = |x: E| -> u32 { x.into().to_bits() };
            let sentinel = bits(f32::from_bits(SENTINEL).into());
            let (front, back) = (&self.all[..GUARD], &self.all[self.all.len() - GUARD..]);
            let intact = front.iter().chain(back).all(|&x| bits(x) == sentinel);
            assert!(intact, "a kernel wrote before or behind its output of {} numbers", self.len());
        }
    }
}

/// The nearest numbers of another kind.
pub(crate) fn rounded<E: Number>(x: &[f32]) -> Vec<E> {
    x.iter().map(|&x| x.into()).collect()
}

/// The same numbers as floats.
pub(crate) fn floats<E: Number>(x: &[E]) -> Vec<f32> {
    x.iter().map(|&x| x.into()).collect()
}

/// The same numbers in bf16 and in f32. A kernel that is generic over numbers makes of the former what it makes of the
/// latter, rounded once.
pub(crate) struct Twins {
    pub(crate) halves: GuardedNumbers<Bf16>,
    pub(crate) floats: Guarded,
}

impl Twins {
    /// `len` NaNs: an output that must be overwritten.
    pub(crate) fn nan(len: usize) -> Self {
        Twins { halves: GuardedNumbers::nan(len), floats: Guarded::nan(len) }
    }

    /// The numbers in bf16 that are nearest to `x`.
    pub(crate) fn of(x: &[f32]) -> Self {
        let halves = GuardedNumbers::of(&rounded::<Bf16>(x));
        let floats = Guarded::of(&floats(&halves));
        Twins { halves, floats }
    }

    /// Fails unless outputs in bf16 are those in f32, rounded.
    pub(crate) fn assert_rounded_once(&self, what: &str) {
        for (i, (&y, &float)) in self.halves.iter().zip(self.floats.iter()).enumerate() {
            let same = y == Bf16::from(float) || (f32::from(y).is_nan() && float.is_nan());
            assert!(same, "{what}: [{i}] is {y:?} in bf16 and {float:e} in f32");
        }
    }

    /// Both as they are in bf16, for use as an input.
    pub(crate) fn settled(self) -> Self {
        Twins::of(&floats(&self.halves))
    }
}

/// Normal numbers times `size`, with special ones in between.
pub(crate) fn special(seed: u64, len: usize, size: f32) -> Vec<f32> {
    let special = [
        f32::NAN,
        -0.0,
        0.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MIN_POSITIVE / 4.0,
        -f32::MIN_POSITIVE,
        3e38,
    ];
    let mut x = normal(seed, len);
    x.iter_mut().for_each(|x| *x *= size);
    x.iter_mut()
        .skip(seed as usize % 3)
        .step_by(7)
        .zip(special.iter().cycle())
        .for_each(|(x, special)| *x = *special);
    x
}

/// Fails unless both have the same bits.
pub(crate) fn assert_bits(what: &str, actual: &[f32], expected: &[f32]) {
    assert_eq!(actual.len(), expected.len(), "{what}: lengths differ");
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert_eq!(a.to_bits(), e.to_bits(), "{what}: [{i}] is {a:e}, expected {e:e}");
    }
}

/// Standard normal floats of a seed.
pub(crate) fn normal(seed: u64, len: usize) -> Vec<f32> {
    let mut rng = Rng::new(seed, 1);
    (0..len).map(|_| rng.normal()).collect()
}

/// Whole numbers in `-limit..=limit`: while sums stay below `2^24` any order of additions gives the same
/// bits.
pub(crate) fn integers(seed: u64, len: usize, limit: i32) -> Vec<f32> {
    let mut rng = Rng::new(seed, 2);
    (0..len).map(|_| ((rng.next_u64() >> 33) as i64 % (2 * limit as i64 + 1) - limit as i64) as f32).collect()
}

/// The same numbers in f64, for an oracle.
pub(crate) fn widen(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| x.into()).collect()
}

/// Absolute values in f64: an oracle fed with them gives the `sum |a| |b|` of [`sum_bound`].
pub(crate) fn magnitude(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x).abs()).collect()
}

/// Largest error of a sum of `k` products in f32, in any order, whose absolute values add up to `magnitude`
/// (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1), with two roundings to spare for a
/// bias and the store.
pub(crate) fn sum_bound(k: usize, magnitude: f64) -> f64 {
    (k + 2) as f64 * UNIT_ROUNDOFF * magnitude * 1.01 + f64::from(f32::MIN_POSITIVE)
}

/// Fails unless every `actual[i]` is within `bound(i)` of `expected[i]`.
pub(crate) fn assert_close(what: &str, actual: &[f32], expected: &[f64], bound: impl Fn(usize) -> f64) {
    assert_eq!(actual.len(), expected.len(), "{what}: lengths differ");
    for (i, (&a, &e)) in actual.iter().zip(expected).enumerate() {
        let (error, bound) = ((f64::from(a) - e).abs(), bound(i));
        // Written so that a NaN fails.
        assert!(error <= bound, "{what}: [{i}] is {a:e}, expected {e:e}: off by {error:e}, bound {bound:e}");
    }
}

/// [`assert_close`] for sums of `k` products; `magnitudes[i]` is `sum |a| |b|` of output `i`.
pub(crate) fn assert_sums(what: &str, actual: &[f32], expected: &[f64], (k, magnitudes): (usize, &[f64])) {
    assert_eq!(actual.len(), magnitudes.len(), "{what}: lengths differ");
    assert_close(what, actual, expected, |i| sum_bound(k, magnitudes[i]));
}

/// Fails unless every float equals the oracle's number exactly: for data of [`integers`].
pub(crate) fn assert_exact(what: &str, actual: &[f32], expected: &[f64]) {
    assert_close(what, actual, expected, |_| 0.0);
}

/// Fails unless both have the same bits, up to the sign of zero and the payload of NaN.
pub(crate) fn assert_same(what: &str, actual: &[f32], expected: &[f32]) {
    assert_eq!(actual.len(), expected.len(), "{what}: lengths differ");
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!(a == e || (a.is_nan() && e.is_nan()), "{what}: [{i}] is {a:e}, expected {e:e}");
    }
}

/// Lengths around the seams of every instruction set's vectors, blocks of four vectors included.
pub(crate) const LENGTHS: [usize; 18] = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 47, 63, 65, 131];
/// Channel counts around the same seams, for tests that multiply them by images.
pub(crate) const CHANNELS: [usize; 10] = [1, 3, 4, 7, 8, 9, 16, 17, 33, 70];
