//! Every vector method against plain arithmetic, lane by lane, and the stated bounds of the elementary
//! functions.

use super::*;
use crate::kernels::reference;
use crate::kernels::testing::{Guarded, GuardedNumbers, floats, for_each_isa, normal};

/// The lanes of a vector.
fn lanes<S: Simd>(s: S, v: S::V) -> Vec<f32> {
    let mut out = Guarded::nan(S::LANES);
    // SAFETY: `out` holds `LANES` floats.
    unsafe { s.store(out.as_mut_ptr(), v) }
    out.to_vec()
}

/// A vector of the first `LANES` floats of `x`.
fn vector<S: Simd>(s: S, x: &[f32]) -> S::V {
    assert!(x.len() >= S::LANES);
    // SAFETY: `x` holds `LANES` floats.
    unsafe { s.load(x.as_ptr()) }
}

fn assert_bits(what: &str, actual: &[f32], expected: impl Iterator<Item = f32>) {
    for (lane, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!(
            a.to_bits() == e.to_bits() || (a.is_nan() && e.is_nan()),
            "{what}, lane {lane}: {a:e}, not {e:e}"
        );
    }
}

struct Arithmetic {
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
}

impl Kernel for Arithmetic {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Arithmetic { a, b, c } = self;
        let (va, vb, vc) = (vector(s, &a), vector(s, &b), vector(s, &c));
        let pairs = || a.iter().copied().zip(b.iter().copied());
        assert_bits("splat", &lanes(s, s.splat(a[0])), a.iter().map(|_| a[0]));
        assert_bits("add", &lanes(s, s.add(va, vb)), pairs().map(|(a, b)| a + b));
        assert_bits("sub", &lanes(s, s.sub(va, vb)), pairs().map(|(a, b)| a - b));
        assert_bits("mul", &lanes(s, s.mul(va, vb)), pairs().map(|(a, b)| a * b));
        assert_bits("div", &lanes(s, s.div(va, vb)), pairs().map(|(a, b)| a / b));
        assert_bits("max", &lanes(s, s.max(va, vb)), pairs().map(|(a, b)| if a > b { a } else { b }));
        assert_bits("min", &lanes(s, s.min(va, vb)), pairs().map(|(a, b)| if a < b { a } else { b }));
        assert_bits("sqrt", &lanes(s, s.sqrt(va)), a.iter().map(|a| a.sqrt()));
        let picked = lanes(s, s.select_gt(va, vb, vc, s.splat(7.0)));
        let expected = pairs().zip(&c).map(|((a, b), &c)| if a > b { c } else { 7.0 });
        assert_bits("select_gt", &picked, expected);
        let flushed = |a: &f32| if a.abs() < f32::MIN_POSITIVE { 0.0 } else { *a };
        assert_bits("flush", &lanes(s, s.flush(va)), a.iter().map(flushed));
        assert_eq!(s.any_nan(va), a[..S::LANES].iter().any(|a| a.is_nan()), "any_nan of {a:?}");
        let fused = lanes(s, s.mul_add(va, vb, vc));
        for (lane, &y) in fused.iter().enumerate() {
            let (once, twice) = (a[lane].mul_add(b[lane], c[lane]), a[lane] * b[lane] + c[lane]);
            let fits = y == once || y == twice || (y.is_nan() && once.is_nan());
            assert!(fits, "mul_add, lane {lane}: {y:e}, not {once:e}");
        }
    }
}

for_each_isa! {
    fn arithmetic(isa: Isa) {
        for seed in 0..50 {
            let [a, b, c] = [0, 1, 2].map(|i| normal(3 * seed + i, MAX_LANES));
            dispatch(isa, Arithmetic { a, b, c });
        }
        // Every pair of the special values meets in some lane.
        let (normal, subnormal) = (f32::MIN_POSITIVE, f32::MIN_POSITIVE.next_down());
        let special = [0.0, -0.0, 1.0, -1.5, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, normal, -subnormal, subnormal];
        for shift in 0..special.len() {
            let a: Vec<f32> = (0..MAX_LANES).map(|i| special[i % special.len()]).collect();
            let b: Vec<f32> = (0..MAX_LANES).map(|i| special[(i + shift) % special.len()]).collect();
            // Narrow vectors see only the first lanes, so these rotate too.
            for turn in [0, 4, 8] {
                let [mut a, mut b] = [a.clone(), b.clone()];
                a.rotate_left(turn);
                b.rotate_left(turn);
                dispatch(isa, Arithmetic { c: a.clone(), a, b });
            }
        }
    }

    fn rounding_and_powers(isa: Isa) {
        dispatch(isa, Rounding);
    }

    fn nan_in_each_lane(isa: Isa) {
        dispatch(isa, NanInEachLane);
    }

    fn sum_of_lanes(isa: Isa) {
        dispatch(isa, Sum);
    }

    fn tails(isa: Isa) {
        dispatch(isa, Tails);
    }

    fn floats_from_bytes_and_back(isa: Isa) {
        dispatch(isa, Bytes);
    }

    /// Every number in bf16, every way to round one up or down, and every length.
    fn numbers_in_bf16(isa: Isa) {
        dispatch(isa, Halves);
    }

    fn products_of_bytes(isa: Isa) {
        for dot in DotIsa::all(isa) {
            dispatch_dot(dot, Products(dot));
        }
    }

    fn exp_bound(isa: Isa) {
        let error = worst(isa, Function::Exp, (-87.0, 88.0), |x| x.exp(), |_, e| e);
        assert!(error < 1.2e-7, "relative error {error:e}");
        let ends = vec![-1e30, f32::NEG_INFINITY, 1e30, f32::INFINITY];
        let at_ends = dispatch(isa, Evaluate(Function::Exp, ends));
        assert!(at_ends.iter().all(|y| *y > 0.0 && y.is_finite()), "{at_ends:?}");
    }

    fn sigmoid_bound(isa: Isa) {
        let error = worst(isa, Function::Sigmoid, (-100.0, 100.0), |x| 1.0 / (1.0 + (-x).exp()), |_, _| 1.0);
        assert!(error < 1.2e-7, "absolute error {error:e}");
    }

    fn normal_bounds(isa: Isa) {
        let error = worst(isa, Function::Cdf, (-15.0, 15.0), reference::normal_cdf, |_, _| 1.0);
        assert!(error < 3e-7, "absolute error {error:e}");
        let error = worst(isa, Function::Density, (-12.0, 12.0), |x| (-0.5 * x * x).exp(), |_, _| 1.0);
        assert!(error < 1e-7, "absolute error of the density {error:e}");
    }
}

struct NanInEachLane;

impl Kernel for NanInEachLane {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for lane in 0..S::LANES {
            let mut x = [f32::INFINITY; MAX_LANES];
            assert!(!s.any_nan(vector(s, &x)));
            x[lane] = -f32::NAN;
            assert!(s.any_nan(vector(s, &x)), "lane {lane}");
        }
    }
}

struct Rounding;

impl Kernel for Rounding {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let check = |x: f32| {
            let y = lanes(s, s.round(s.splat(x)))[S::LANES - 1];
            assert_eq!(y, x.round_ties_even(), "round({x})");
        };
        for half in -4001..=4001 {
            check(half as f32 * 0.5);
            check(half as f32 * 0.501);
            check(half as f32 * 1047.25);
        }
        for power in -126..=127 {
            let y = lanes(s, s.exp2_int(s.splat(power as f32)));
            assert!(y.iter().all(|&y| f64::from(y) == 2f64.powi(power)), "2^{power} is {y:?}");
        }
    }
}

struct Sum;

impl Kernel for Sum {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // Powers of two: the sum is exact and misses no lane.
        let powers: Vec<f32> = (0..MAX_LANES).map(|i| (1u32 << i) as f32).collect();
        assert_eq!(s.reduce_add(vector(s, &powers)), ((1u32 << S::LANES) - 1) as f32);
    }
}

struct Tails;

impl Kernel for Tails {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for n in 0..=S::LANES {
            let x = Guarded::of(&normal(n as u64, n));
            // SAFETY: `x` holds `n` floats.
            let v = unsafe { s.load_tail(x.as_ptr(), n) };
            let padding = std::iter::repeat_n(0.0, S::LANES - n);
            assert_bits("load_tail", &lanes(s, v), x.iter().copied().chain(padding));
            let mut y = Guarded::nan(n);
            // SAFETY: `y` holds `n` floats.
            unsafe { s.store_tail(y.as_mut_ptr(), v, n) }
            assert_bits("store_tail", &y, x.iter().copied());
        }
    }
}

struct Bytes;

impl Kernel for Bytes {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for n in 0..=S::LANES {
            // What lies around the bytes must not show in the lanes, and must stay.
            let mut bytes = [201u8; MAX_LANES + 2];
            for shift in 0..=255u8 {
                let expected = |i: usize| shift.wrapping_add((i * 85) as u8);
                (0..n).for_each(|i| bytes[1 + i] = expected(i));
                // SAFETY: there are `n` bytes behind the first.
                let v = unsafe { s.load_u8(bytes.as_ptr().add(1), n) };
                let padding = std::iter::repeat_n(0.0, S::LANES - n);
                let floats = (0..n).map(|i| f32::from(expected(i))).chain(padding);
                assert_bits("load_u8", &lanes(s, v), floats);
                let mut stored = [77u8; MAX_LANES + 2];
                // SAFETY: as above.
                unsafe { s.store_u8(stored.as_mut_ptr().add(1), v, n) }
                assert_eq!(stored[1..=n], bytes[1..=n]);
                assert!(stored[0] == 77 && stored[1 + n..].iter().all(|&b| b == 77), "{n}: {stored:?}");
            }
        }
        let ends =
            [(-1e30, 0), (-0.5, 0), (0.5, 0), (1.5, 2), (2.5, 2), (254.5, 254), (255.5, 255), (256.0, 255)];
        let far =
            [(65536.0, 255), (4294967296.0, 255), (1e30, 255), (f32::INFINITY, 255), (f32::NEG_INFINITY, 0)];
        for (x, expected) in ends.into_iter().chain(far) {
            let mut stored = [77u8; MAX_LANES];
            // SAFETY: there are as many bytes as lanes.
            unsafe { s.store_u8(stored.as_mut_ptr(), s.splat(x), S::LANES) }
            assert!(stored[..S::LANES].iter().all(|&b| b == expected), "{x}: {stored:?}");
        }
    }
}

struct Halves;

/// Floats around every number in bf16: itself, its neighbours, halfway to the next, and the neighbours of that.
fn around(high: u16) -> [f32; 6] {
    [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF].map(|low| f32::from_bits(u32::from(high) << 16 | low))
}

impl Kernel for Halves {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let all: Vec<Bf16> = (0..=u16::MAX).map(Bf16::from_bits).collect();
        for (i, halves) in all.chunks_exact(2 * S::LANES).enumerate() {
            // Lengths take turns.
            let n = i % (S::LANES + 1);
            let (whole, part) = (GuardedNumbers::of(halves), GuardedNumbers::of(&halves[..n]));
            // SAFETY: `whole` holds `2 * LANES` numbers, `part` holds `n`.
            let (v, tail, [first, second]) = unsafe {
                let whole = whole.as_ptr();
                (s.load_bf16(whole, S::LANES), s.load_bf16(part.as_ptr(), n), s.load_bf16_pairs(whole))
            };
            let expected = floats(halves);
            let exact = |what: &str, v: S::V, expected: &mut dyn Iterator<Item = f32>| {
                // Bits, of NaNs too: nothing is computed here.
                let found: Vec<u32> = lanes(s, v).iter().map(|x| x.to_bits()).collect();
                let expected: Vec<u32> = expected.map(f32::to_bits).take(S::LANES).collect();
                assert_eq!(found, expected, "{what} {n}");
            };
            exact("load_bf16", v, &mut expected.iter().copied());
            let zeros = std::iter::repeat(0.0);
            exact("load_bf16 of a tail", tail, &mut expected[..n].iter().copied().chain(zeros));
            exact("first of pairs", first, &mut expected.iter().copied().step_by(2));
            exact("second of pairs", second, &mut expected.iter().copied().skip(1).step_by(2));
        }
        let every: Vec<f32> = (0..=u16::MAX).flat_map(around).collect();
        for (i, x) in every.chunks_exact(S::LANES).enumerate() {
            for n in [S::LANES, i % S::LANES] {
                let mut y = GuardedNumbers::nan(n);
                // SAFETY: `y` holds `n` numbers.
                unsafe { s.store_bf16(y.as_mut_ptr(), vector(s, x), n) }
                let expected: Vec<Bf16> = x[..n].iter().map(|&x| Bf16::from(x)).collect();
                assert!(y[..] == expected[..], "store_bf16 of {n} of {x:?}: {:?}", &y[..]);
            }
        }
    }
}

struct Products(DotIsa);

impl DotKernel for Products {
    type Output = ();

    #[inline(always)]
    fn run<D: DotProduct>(self, d: D) {
        let values = [0u8, 1, 2, 127, 128, 129, 254, 255];
        // -128 is no weight of a network, and is multiplied nevertheless.
        let weights: Vec<i8> = (0..4 * D::LANES).map(|i| [-128, 127, -127, -1, 0, 1, 64][i % 7]).collect();
        let start: Vec<i32> = (0..D::LANES).map(|lane| [0, -5, i32::MAX, i32::MIN][lane % 4]).collect();
        for a in values {
            for b in values {
                let x = [a, b, b, a];
                let (columns, mut sums) = (weights.as_chunks::<4>().0, start.clone());
                // As a matrix with a column for each lane.
                let matrix: Vec<i8> =
                    (0..4).flat_map(|k| columns.iter().map(move |column| column[k])).collect();
                self.0.complete(&mut sums, &matrix);
                // SAFETY: there are four bytes, four weights and one sum for each lane.
                let (x_all, w, sums) = unsafe {
                    (d.spread(x.as_ptr()), d.load_weights(weights.as_ptr()), d.load_sums(sums.as_ptr()))
                };
                let sums = d.dot(x_all, w, sums);
                let expected = start.iter().zip(columns).map(|(&start, column)| {
                    let products = x.iter().zip(column).map(|(&x, &w)| i32::from(x) * i32::from(w));
                    start.wrapping_add(products.sum::<i32>()) as f32
                });
                assert_bits(self.0.name(), &lanes(d.floats(), d.to_floats(sums)), expected);
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Function {
    Exp,
    Sigmoid,
    Cdf,
    Density,
}

/// Function values at many points.
struct Evaluate(Function, Vec<f32>);

impl Kernel for Evaluate {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Vec<f32> {
        let Evaluate(function, mut x) = self;
        let len = x.len();
        x.resize(len.next_multiple_of(S::LANES), 0.0);
        for chunk in x.chunks_exact_mut(S::LANES) {
            let v = vector(s, chunk);
            let y = match function {
                Function::Exp => math::exp(s, v),
                Function::Sigmoid => math::sigmoid(s, v),
                Function::Cdf => math::normal(s, v).0,
                Function::Density => math::normal(s, v).1,
            };
            // SAFETY: a chunk holds `LANES` floats.
            unsafe { s.store(chunk.as_mut_ptr(), y) }
        }
        x.truncate(len);
        x
    }
}

/// Largest `|f(x) - exact(x)| / unit(x, exact(x))` at 400,000 points from `low` to `high`.
fn worst(
    isa: Isa,
    function: Function,
    (low, high): (f32, f32),
    exact: fn(f64) -> f64,
    unit: fn(f64, f64) -> f64,
) -> f64 {
    const POINTS: usize = 400_000;
    let at = |i: usize| low + (high - low) * (i as f32 / POINTS as f32);
    let x: Vec<f32> = (0..=POINTS).map(at).collect();
    let y = dispatch(isa, Evaluate(function, x.clone()));
    let error = |(x, y): (&f32, &f32)| {
        let (x, y) = (f64::from(*x), f64::from(*y));
        (y - exact(x)).abs() / unit(x, exact(x))
    };
    x.iter().zip(&y).map(error).fold(0.0, f64::max)
}

/// The unit for bytes that whoever started the test says this processor has: `tests/neon/run` says it of each processor that it
/// emulates, so that none of the units goes without its tests.
#[test]
#[allow(clippy::print_stderr, reason = "a skipped test says so")]
fn the_unit_for_bytes_is_the_expected_one() {
    match std::env::var("OCELLI_EXPECT_BYTE_UNIT") {
        Ok(expected) => assert_eq!(DotIsa::of(Isa::available()[0]).name(), expected),
        Err(_) => eprintln!("SKIP: OCELLI_EXPECT_BYTE_UNIT names no unit"),
    }
}
