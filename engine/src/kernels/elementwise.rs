//! Elementwise sums, scaling and dropout.

use ocelli_common::random::{STEP, mix};

use super::activation;
use super::lanes::{Lanewise, Number, clamp, map, sweep};
use crate::graph::Activation;
use crate::simd::{Isa, Kernel, Simd, dispatch};

#[derive(Clone, Copy)]
struct AddClamp((f32, f32));

impl Lanewise<2> for AddClamp {
    #[inline(always)]
    fn lanes<S: Simd>(self, s: S, [a, b]: [S::V; 2]) -> S::V {
        clamp(s, s.add(a, b), self.0)
    }
}

/// `y = act(a + b)` over slices of one length.
///
/// # Panics
/// When lengths differ.
pub fn add<E: Number>(isa: Isa, y: &mut [E], a: &[E], b: &[E], act: Option<Activation>) {
    let range = activation::clamp_range(act);
    map(isa, y, [a, b], AddClamp(range.unwrap_or(activation::NO_CLAMP)));
    if let (None, Some(act)) = (range, act) {
        activation::forward_in_place(isa, y, act);
    }
}

struct Convert<'a, A, B> {
    y: &'a mut [B],
    x: &'a [A],
}

impl<A: Number, B: Number> Kernel for Convert<'_, A, B> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (y, x, len) = (self.y.as_mut_ptr(), self.x.as_ptr(), self.y.len());
        let whole = len - len % S::LANES;
        // SAFETY: both slices have the length that vectors stay in.
        unsafe {
            for at in (0..whole).step_by(S::LANES) {
                B::store(s, y.add(at), A::load(s, x.add(at), S::LANES), S::LANES);
            }
            if whole < len {
                B::store(s, y.add(whole), A::load(s, x.add(whole), len - whole), len - whole);
            }
        }
    }
}

/// `y = x`, rounded to the numbers of `y`, over slices of one length.
///
/// # Panics
/// When lengths differ.
pub fn convert<A: Number, B: Number>(isa: Isa, y: &mut [B], x: &[A]) {
    assert_eq!(x.len(), y.len(), "the input is as long as the output");
    dispatch(isa, Convert { y, x });
}

/// `y += x` over slices of one length.
///
/// # Panics
/// When lengths differ.
pub fn accumulate<E: Number>(isa: Isa, y: &mut [E], x: &[E]) {
    assert_eq!(x.len(), y.len(), "inputs are as long as the output");
    let (p, len) = (y.as_mut_ptr(), y.len());
    // SAFETY: both have `len` numbers; an input may be the output.
    unsafe { sweep(isa, p, [p.cast_const(), x.as_ptr()], len, AddClamp(activation::NO_CLAMP)) }
}

#[derive(Clone, Copy)]
struct Scale(f32);

impl Lanewise<1> for Scale {
    #[inline(always)]
    fn lanes<S: Simd>(self, s: S, [x]: [S::V; 1]) -> S::V {
        s.mul(x, s.splat(self.0))
    }
}

/// `y *= factor`.
pub fn scale<E: Number>(isa: Isa, y: &mut [E], factor: f32) {
    let (p, len) = (y.as_mut_ptr(), y.len());
    // SAFETY: an input may be the output.
    unsafe { sweep(isa, p, [p.cast_const()], len, Scale(factor)) }
}

/// What the mask of a dropout is a function of.
#[derive(Clone, Copy, Debug)]
pub struct DropoutKey {
    /// Probability of a zero, in `0..1`; rounded to a multiple of `2^-16`.
    pub rate: f32,
    /// Seed of the run.
    pub seed: u64,
    /// Training step.
    pub step: u64,
    /// Number of the dropout layer.
    pub node: u64,
    /// Index of the slice's first element in the tensor of the whole batch.
    pub offset: u64,
}

impl DropoutKey {
    /// The key of the mask, the 16-bit threshold below which an element is dropped, and the factor of the
    /// others.
    fn resolve(self) -> (u64, u16, f32) {
        let key = mix(mix(mix(self.seed).wrapping_add(self.step)).wrapping_add(self.node));
        // At most 65535, so that some elements are kept and the factor is finite.
        let threshold = (self.rate * 65536.0).round() as u16;
        (key, threshold, 65536.0 / (65536.0 - f32::from(threshold)))
    }
}

/// Sixteen random bits for each of the elements `4 * block ..`, element 0 lowest.
#[inline(always)]
fn four_decisions(key: u64, block: u64) -> u64 {
    // An odd multiplier spreads consecutive blocks over all bits before they are mixed.
    mix(key ^ block.wrapping_mul(STEP))
}

/// Keeps or drops up to four elements, the first by the lowest sixteen bits.
#[inline]
fn decide<E: Number>(y: &mut [E], x: &[E], bits: u64, (threshold, factor): (u16, f32)) {
    for (i, (y, &x)) in y.iter_mut().zip(x).enumerate() {
        let kept = (bits >> (16 * i)) as u16 >= threshold;
        *y = if kept { (x.into() * factor).into() } else { E::ZERO };
    }
}

/// `y = x / (1 - rate)` where an element is kept and 0 where it is dropped (Srivastava et al., 2014,
/// inverted).
///
/// The decision depends on the key and on the element's index in the batch alone, so it is the same however a
/// tensor is cut into slices and on every instruction set: the work is a hash of integers, and plain Rust.
///
/// # Panics
/// When lengths differ.
pub fn dropout_forward<E: Number>(y: &mut [E], x: &[E], key: DropoutKey) {
    assert_eq!(x.len(), y.len(), "the input is as long as the output");
    let (mask_key, threshold, factor) = key.resolve();
    let offset = key.offset;
    // Elements before the first whole block of four.
    let head = (offset.wrapping_neg() % 4).min(x.len() as u64) as usize;
    let (x_head, x_body) = x.split_at(head);
    let (y_head, y_body) = y.split_at_mut(head);
    let bits = four_decisions(mask_key, offset / 4) >> (16 * (offset % 4));
    decide(y_head, x_head, bits, (threshold, factor));
    let mut y_blocks = y_body.chunks_exact_mut(4);
    let mut x_blocks = x_body.chunks_exact(4);
    let mut block = offset.div_ceil(4);
    for (y, x) in y_blocks.by_ref().zip(x_blocks.by_ref()) {
        decide(y, x, four_decisions(mask_key, block), (threshold, factor));
        block += 1;
    }
    let (y, x) = (y_blocks.into_remainder(), x_blocks.remainder());
    decide(y, x, four_decisions(mask_key, block), (threshold, factor));
}

/// `dx = dy / (1 - rate)` where [`dropout_forward`] with the same key kept the element, and 0 elsewhere.
///
/// # Panics
/// When lengths differ.
pub fn dropout_backward<E: Number>(dx: &mut [E], dy: &[E], key: DropoutKey) {
    dropout_forward(dx, dy, key);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bf16::Bf16;
    use crate::kernels::reference;
    use crate::kernels::testing::{
        Guarded, GuardedNumbers, LENGTHS, Twins, UNIT_ROUNDOFF, assert_close, assert_same, for_each_isa,
        normal, rounded, special, widen,
    };

    for_each_isa! {
        fn sums_and_scaling(isa: Isa) {
            for len in LENGTHS {
                let (a, b) = (Guarded::of(&normal(1, len)), Guarded::of(&normal(2, len)));
                let sum: Vec<f32> = a.iter().zip(b.iter()).map(|(a, b)| a + b).collect();
                let mut y = Guarded::nan(len);
                add(isa, &mut y, &a, &b, None);
                assert_same("add", &y, &sum);
                add(isa, &mut y, &a, &b, Some(Activation::Relu));
                assert_same("add and relu", &y, &sum.iter().map(|x| x.max(0.0)).collect::<Vec<_>>());
                for act in [Activation::Relu6, Activation::Gelu, Activation::Silu] {
                    add(isa, &mut y, &a, &b, Some(act));
                    let expected = reference::activation(&widen(&sum), act);
                    assert_close("add and act", &y, &expected, |i| 4e-7 * f64::from(sum[i].abs()));
                }
                let mut y = Guarded::of(&a);
                accumulate(isa, &mut y, &b);
                assert_same("accumulate", &y, &sum);
                let mut y = Guarded::of(&a);
                scale(isa, &mut y, -1.5);
                assert_same("scale", &y, &a.iter().map(|x| x * -1.5).collect::<Vec<_>>());
            }
        }
    }

    for_each_isa! {
        fn results_in_bf16_are_rounded_once(isa: Isa) {
            for len in LENGTHS {
                let (a, b) = (Twins::of(&special(1, len, 4.0)), Twins::of(&special(2, len, 4.0)));
                for act in [None, Some(Activation::Relu), Some(Activation::Relu6)] {
                    let mut y = Twins::nan(len);
                    add(isa, &mut y.halves, &a.halves, &b.halves, act);
                    add(isa, &mut y.floats, &a.floats, &b.floats, act);
                    y.assert_rounded_once("add");
                }
                // The sum is rounded, and so is what the activation makes of it.
                let (mut y, mut sum) = (Twins::nan(len), Twins::nan(len));
                add(isa, &mut sum.halves, &a.halves, &b.halves, None);
                let mut sum = sum.settled();
                add(isa, &mut y.halves, &a.halves, &b.halves, Some(Activation::Silu));
                activation::forward_in_place(isa, &mut sum.floats, Activation::Silu);
                y.floats.copy_from_slice(&sum.floats);
                y.assert_rounded_once("add and silu");

                let mut y = Twins::of(&a.floats);
                accumulate(isa, &mut y.halves, &b.halves);
                accumulate(isa, &mut y.floats, &b.floats);
                y.assert_rounded_once("accumulate");
                let mut y = Twins::of(&a.floats);
                scale(isa, &mut y.halves, -1.3);
                scale(isa, &mut y.floats, -1.3);
                y.assert_rounded_once("scale");
            }
        }

        fn conversions(isa: Isa) {
            for len in LENGTHS {
                let x = Guarded::of(&special(3, len, 4.0));
                let mut halves = GuardedNumbers::<Bf16>::nan(len);
                convert(isa, &mut halves, &x);
                assert_eq!(halves[..], rounded::<Bf16>(&x), "{len} floats");
                let (mut floats, mut again) = (Guarded::nan(len), GuardedNumbers::<Bf16>::nan(len));
                convert(isa, &mut floats, &halves);
                convert(isa, &mut again, &halves);
                assert_eq!(rounded::<Bf16>(&floats), halves[..], "{len} numbers in bf16");
                assert!(floats.iter().all(|x| x.is_nan() || x.to_bits() % (1 << 16) == 0), "f32 holds them exactly");
                assert_eq!(again[..], halves[..], "{len} numbers as they are");
                let mut same = Guarded::nan(len);
                convert(isa, &mut same, &x);
                assert_same("floats as they are", &same, &x);
            }
        }
    }

    #[test]
    fn dropout_in_bf16_is_rounded_once() {
        for (len, offset) in LENGTHS.into_iter().flat_map(|len| (0..5).map(move |offset| (len, offset))) {
            let key = DropoutKey { offset, ..KEY };
            let x = Twins::of(&special(4, len, 1.0));
            let (mut y, mut dx) = (Twins::nan(len), Twins::nan(len));
            dropout_forward(&mut y.halves, &x.halves, key);
            dropout_forward(&mut y.floats, &x.floats, key);
            y.assert_rounded_once("y");
            dropout_backward(&mut dx.halves, &x.halves, key);
            dropout_backward(&mut dx.floats, &x.floats, key);
            dx.assert_rounded_once("dx");
        }
    }

    const KEY: DropoutKey = DropoutKey { rate: 0.3, seed: 5, step: 9, node: 2, offset: 0 };

    #[test]
    fn dropout_is_the_same_however_it_is_cut() {
        let x = normal(3, 500);
        let mut whole = Guarded::nan(x.len());
        dropout_forward(&mut whole, &x, KEY);
        for cut in 0..40 {
            for len in LENGTHS {
                let mut piece = Guarded::nan(len);
                dropout_forward(&mut piece, &x[cut..cut + len], DropoutKey { offset: cut as u64, ..KEY });
                assert_same("piece", &piece, &whole[cut..cut + len]);
            }
        }
    }

    #[test]
    fn dropout_backward_has_the_mask_of_forward() {
        let ones = vec![1.0; 1000];
        let (mut y, mut dx) = (Guarded::nan(1000), Guarded::nan(1000));
        dropout_forward(&mut y, &ones, KEY);
        dropout_backward(&mut dx, &ones, KEY);
        assert_same("mask", &dx, &y);
    }

    /// Every bit pattern of four decisions is as frequent as chance wants it, and keys give unrelated masks.
    #[test]
    fn dropout_keeps_its_share() {
        const COUNT: usize = 1 << 18;
        let ones = vec![1.0; COUNT];
        let mask = |key: DropoutKey| {
            let mut y = vec![f32::NAN; COUNT];
            dropout_forward(&mut y, &ones, key);
            y.iter().map(|&y| y > 0.0).collect::<Vec<_>>()
        };
        for rate in [0.0, 0.1, 0.3, 0.5, 0.9, 0.999_999] {
            let key = DropoutKey { rate, ..KEY };
            let (_, threshold, factor) = key.resolve();
            let dropped = f64::from(threshold) / 65536.0;
            assert!((dropped - f64::from(rate)).abs() <= 1.0 / 65536.0, "{rate} became {dropped}");
            // Kept elements times their factor have the mean 1.
            assert!((f64::from(factor) * (1.0 - dropped) - 1.0).abs() <= 2.0 * UNIT_ROUNDOFF);
            let kept = mask(key);
            for lane in 0..4 {
                let share = kept.iter().skip(lane).step_by(4).filter(|kept| !**kept).count() as f64;
                let (n, deviation) = ((COUNT / 4) as f64, (dropped * (1.0 - dropped)).sqrt());
                // Five standard deviations.
                assert!(
                    (share / n - dropped).abs() <= 5.0 * deviation / n.sqrt(),
                    "lane {lane} drops {share}"
                );
            }
        }
        let kept = mask(DropoutKey { rate: 0.5, ..KEY });
        let others = [
            DropoutKey { rate: 0.5, seed: 6, ..KEY },
            DropoutKey { rate: 0.5, step: 10, ..KEY },
            DropoutKey { rate: 0.5, node: 3, ..KEY },
            DropoutKey { rate: 0.5, step: 8, node: 3, ..KEY },
            DropoutKey { rate: 0.5, offset: 4, ..KEY },
        ];
        for other in others {
            let same = mask(other).iter().zip(&kept).filter(|(a, b)| a == b).count() as f64;
            let n = COUNT as f64;
            assert!((same / n - 0.5).abs() <= 2.5 / n.sqrt(), "{other:?} agrees in {same}");
        }
    }
}
